"""LLVM code over the host's vectors, written from Python; knows lanes, masks and registers, and no algorithm.

Code is written instruction by instruction because Numba's front end would take seconds for the same, and because no
source loop makes LLVM hold two dozen accumulators in registers.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from llvmlite import ir

from staticad.runtime.flow import declared
from staticad.runtime.host import host as made_for

SIZE = ir.IntType(64)
BIT, INT = ir.IntType(1), ir.IntType(32)


class Host(NamedTuple):
    """The vector registers of the processor that code is made for."""

    bytes: int
    registers: int
    masks: bool  # whether loads and stores of some lanes are single instructions


@cache
def host() -> Host:
    _, _, features = made_for()
    has = set(features.split(","))
    if "+avx512f" in has:
        return Host(64, 32, True)
    if "+avx2" in has:
        return Host(32, 16, True)
    return Host(16, 32 if "+neon" in has else 16, False)


def size(value: int) -> ir.Constant:
    return ir.Constant(SIZE, value)


@cache
def spread(kind: ir.Type, lanes: int) -> tuple[ir.Constant, ir.Constant]:
    """A vector of anything, and the shuffle that puts the first lane into all; llvmlite takes long to spell them."""
    return ir.Constant(ir.VectorType(kind, lanes), ir.Undefined), ir.Constant(ir.VectorType(INT, lanes), [0] * lanes)


class Code:
    """An `ir.IRBuilder` with elements of one floating type, and vectors of them."""

    def __init__(self, builder: ir.IRBuilder, element: ir.Type, bits: int) -> None:
        self.builder, self.element, self.bits = builder, element, bits
        self.lanes = host().bytes * 8 // bits

    def define(self, name: str, kinds: list[ir.Type], write: Callable[..., None], inline: bool = False) -> ir.Function:
        """A function of this module without result, written once by ``write(code, *args)``; no two of its pointers meet
        where one of them is written."""
        name = f"{name}_{self.bits}"
        module = self.builder.module
        if name in module.globals:
            return module.globals[name]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), name)
        function.linkage = "internal"
        function.attributes.add("nounwind")
        function.attributes.add("alwaysinline" if inline else "noinline")
        for arg in function.args:
            if isinstance(arg.type, ir.PointerType):
                arg.add_attribute("noalias")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        write(Code(builder, self.element, self.bits), *function.args)
        builder.ret_void()
        return function

    @property
    def pointer(self) -> ir.Type:
        return self.element.as_pointer()

    # Sizes

    def mul(self, x: ir.Value, y: ir.Value | int) -> ir.Value:
        return self.builder.mul(x, size(y) if isinstance(y, int) else y, flags=("nsw",))

    def add(self, x: ir.Value, y: ir.Value | int) -> ir.Value:
        return self.builder.add(x, size(y) if isinstance(y, int) else y, flags=("nsw",))

    def sub(self, x: ir.Value, y: ir.Value | int) -> ir.Value:
        return self.builder.sub(x, size(y) if isinstance(y, int) else y, flags=("nsw",))

    def div(self, x: ir.Value, y: ir.Value | int) -> ir.Value:
        """The quotient of sizes, rounded down."""
        return self.builder.udiv(x, size(y) if isinstance(y, int) else y)

    def up(self, x: ir.Value, y: ir.Value | int) -> ir.Value:
        """The quotient of sizes, rounded up."""
        return self.div(self.sub(self.add(x, y), 1), y)

    def test(self, x: ir.Value, relation: str, y: ir.Value | int) -> ir.Value:
        return self.builder.icmp_signed(relation, x, size(y) if isinstance(y, int) else y)

    def smaller(self, x: ir.Value, y: ir.Value | int) -> ir.Value:
        y = size(y) if isinstance(y, int) else y
        return self.builder.select(self.test(x, "<", y), x, y)

    @contextlib.contextmanager
    def steps(self, stop: ir.Value, step: ir.Value | int, start: ir.Value | int = 0) -> Iterator[ir.Value]:
        """A loop over ``start``, ``start + step``, ... below ``stop``."""
        with self.carrying(stop, [], step, start) as (index, _):
            yield index

    @contextlib.contextmanager
    def carrying(
        self, stop: ir.Value, values: list[Any], step: ir.Value | int = 1, start: ir.Value | int = 0
    ) -> Iterator[tuple[ir.Value, list[Any]]]:
        """The same loop, and a list of values that each step replaces by those for the next; in the end, the last."""
        builder = self.builder
        start, step = (size(value) if isinstance(value, int) else value for value in (start, step))
        before, (test, body, done) = builder.block, map(builder.append_basic_block, ("test", "body", "done"))
        builder.branch(test)
        builder.position_at_end(test)
        index, *held = phis = [builder.phi(value.type) for value in (start, *values)]
        builder.cbranch(builder.icmp_signed("<", index, stop), body, done)
        builder.position_at_end(body)
        now = list(held)
        yield index, now
        for phi, first, next_ in zip(phis, (start, *values), (builder.add(index, step), *now), strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(next_, builder.block)
        builder.branch(test)
        builder.position_at_end(done)
        now[:] = held

    def merged(self, ways: dict[ir.Block, list[Any]]) -> list[Any]:
        """The values that come from whichever of some blocks leads here, to the beginning of one."""
        found = [self.builder.phi(value.type) for value in next(iter(ways.values()))]
        for block, values in ways.items():
            for phi, value in zip(found, values, strict=True):
                phi.add_incoming(value, block)
        return found

    # Memory

    def at(self, base: ir.Value, *offsets: ir.Value | int) -> ir.Value:
        for offset in offsets:
            base = self.builder.gep(base, [size(offset) if isinstance(offset, int) else offset], inbounds=True)
        return base

    def variables(self, count: int, kind: ir.Type) -> list[ir.Value]:
        """Places on the stack, with anything in them."""
        with self.builder.goto_entry_block():
            return [self.builder.alloca(kind) for _ in range(count)]

    def space(self, count: int) -> ir.Value:
        """The address of ``count`` elements on the stack."""
        (place,) = self.variables(1, ir.ArrayType(self.element, count))
        place.align = 64
        return self.builder.bitcast(place, self.pointer)

    def prefetch(self, address: ir.Value, *offsets: ir.Value, write: bool = False) -> None:
        """Have the line at an address, which may lie outside of all arrays, brought near, to be read or written."""
        for offset in offsets:
            address = self.builder.gep(address, [offset])
        byte = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [byte, INT, INT, INT])
        call = declared(self.builder.module, kind, "llvm.prefetch.p0")
        hints = (1, 3, 1) if write else (0, 2, 1)
        self.builder.call(call, [self.builder.bitcast(address, byte), *(ir.Constant(INT, v) for v in hints)])

    # Vectors

    def kind(self, lanes: int) -> ir.Type:
        return ir.VectorType(self.element, lanes)

    def zeros(self, lanes: int) -> ir.Value:
        return ir.Constant(self.kind(lanes), None)

    def splat(self, x: ir.Value, lanes: int) -> ir.Value:
        any_, mask = spread(x.type, lanes)
        return self.builder.shuffle_vector(self.builder.insert_element(any_, x, ir.Constant(INT, 0)), any_, mask)

    def mask(self, count: ir.Value, lanes: int) -> ir.Value:
        """The first ``count`` lanes."""
        lane = ir.Constant(ir.VectorType(INT, lanes), list(range(lanes)))
        return self.builder.icmp_signed("<", lane, self.splat(self.builder.trunc(count, INT), lanes))

    def intrinsic(self, name: str, lanes: int, kinds: list[ir.Type], out: ir.Type, suffix: str = "") -> ir.Function:
        full = f"llvm.{name}.v{lanes}f{self.bits}{suffix}"
        return declared(self.builder.module, ir.FunctionType(out, kinds), full)

    def load(self, address: ir.Value, lanes: int, mask: ir.Value | None = None) -> ir.Value:
        """``lanes`` elements, zero where ``mask`` is not set."""
        kind = self.kind(lanes)
        place = self.builder.bitcast(address, kind.as_pointer())
        if mask is None:
            return self.builder.load(place, align=self.bits // 8)
        call = self.intrinsic("masked.load", lanes, [place.type, INT, mask.type, kind], kind, ".p0")
        return self.builder.call(call, [place, ir.Constant(INT, self.bits // 8), mask, self.zeros(lanes)])

    def store(self, value: ir.Value, address: ir.Value, mask: ir.Value | None = None) -> None:
        lanes = value.type.count
        place = self.builder.bitcast(address, value.type.as_pointer())
        if mask is None:
            self.builder.store(value, place, align=self.bits // 8)
            return
        call = self.intrinsic("masked.store", lanes, [value.type, place.type, INT, mask.type], ir.VoidType(), ".p0")
        self.builder.call(call, [value, place, ir.Constant(INT, self.bits // 8), mask])

    def fma(self, x: ir.Value, y: ir.Value, acc: ir.Value) -> ir.Value:
        kind = acc.type
        return self.builder.call(self.intrinsic("fma", kind.count, [kind] * 3, kind), [x, y, acc])

    def total(self, x: ir.Value) -> ir.Value:
        """The sum of the lanes."""
        lanes = x.type.count
        call = self.intrinsic("vector.reduce.fadd", lanes, [self.element, x.type], self.element)
        return self.builder.call(call, [ir.Constant(self.element, -0.0), x], fastmath=("reassoc",))

    def transposed(self, rows: list[ir.Value]) -> list[ir.Value]:
        """The columns of a square of vectors: log2(n) rounds of perfect shuffles of row i with row i + n/2."""
        lanes = len(rows)
        half = lanes // 2
        for _ in range(lanes.bit_length() - 1):
            pairs = [(rows[i], rows[i + half]) for i in range(half)]
            rows = []
            for x, y in pairs:
                for start in (0, half):
                    order = [start + i // 2 + (i % 2) * lanes for i in range(lanes)]
                    pick = ir.Constant(ir.VectorType(INT, lanes), order)
                    rows.append(self.builder.shuffle_vector(x, y, pick))
        return rows
