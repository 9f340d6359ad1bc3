"""Views of memory that no one counts references of, and addresses; knows array layouts, not what is stored in them.

In compiled code a view made here holds a bare pointer: it is valid as long as the array it was made of.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.ir.instructions import InlineAsm

from staticad.runtime import flow
from staticad.runtime.flow import placed, room
from staticad.runtime.kernels.values import INTP, Value, View, direct
from staticad.runtime.kinds import Array, Pointer, boolean, int64, kind_of, void


def sizes(walk: Any, shape: Sequence[Value]) -> list[ir.Value]:
    return [walk.cast(size, int64) for size in shape]


def distinct(builder: ir.IRBuilder, data: ir.Value) -> ir.Value:
    """The same address, as one that the optimiser takes for that of memory which nothing else points to (noalias).

    Memory of the workspace is used again, by a buffer that comes after the last use of another. To the optimiser that
    is a call which frees the one and allocates the other: all that was handed to such a call may be read and written
    by every later one, so that nothing is moved past it.
    """
    kind = ir.FunctionType(data.type, [data.type])
    new = builder.call(InlineAsm(kind, "", "=r,0,~{memory}", side_effect=True), [data], cconv="ccc noalias")
    builder.asm(ir.FunctionType(ir.VoidType(), [data.type]), "", "r,~{memory}", [new], side_effect=True)
    return new


def slot(code: str) -> Any:
    """The function ``(work, offset, shape) -> array``: C-contiguous, dtype ``code``, from byte ``offset`` of work."""
    dtype = np.dtype(code)
    element = kind_of(dtype)

    def view(work: Any, offset: int, shape: tuple[int, ...]) -> Any:
        return work[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    @direct(view)
    def write(walk: Any, work: View | Value, offset: Value, shape: Sequence[Value]) -> View:
        place = distinct(walk.builder, byte(walk, work, offset))
        return View(Array(element, len(shape)), pointer(walk, place, element), sizes(walk, shape))

    return write


def pointer(walk: Any, place: ir.Value, element: Any) -> ir.Value:
    return walk.builder.bitcast(place, Pointer(element).value)


def byte(walk: Any, work: View | Value, offset: Value) -> ir.Value:
    base = work.data if isinstance(work, View) else work.llvm
    return walk.builder.gep(base, [walk.cast(offset, int64)], inbounds=True)


slot_b1, slot_i1, slot_i2, slot_i4, slot_i8 = (slot(code) for code in ("?", "i1", "i2", "i4", "i8"))
slot_u1, slot_u2, slot_u4, slot_u8 = (slot(code) for code in ("u1", "u2", "u4", "u8"))
slot_f4, slot_f8 = (slot(code) for code in ("f4", "f8"))


def part(work: Any, offset: int) -> Any:
    """The memory from byte ``offset`` of a workspace on, to be handed to a kernel function; what it is, that knows."""
    return work[offset:]


@direct(part)
def at(walk: Any, work: View | Value, offset: Value) -> Value:
    return Value(void, byte(walk, work, offset))


def array(code: str) -> Any:
    """The function ``(x, shape) -> array``: C-contiguous, of dtype ``code``, at a pointer (or a place, see `at`).

    In plain Python, ``x`` is an array of this dtype or the bytes of a workspace from some place on."""
    dtype = np.dtype(code)
    element = kind_of(dtype)

    def view(x: Any, shape: tuple[int, ...]) -> Any:
        return np.ndarray(shape, dtype, x)

    @direct(view)
    def write(walk: Any, x: Value, shape: Sequence[Value]) -> View:
        assert x.kind in (Pointer(element), void)
        return View(Array(element, len(shape)), pointer(walk, x.llvm, element), sizes(walk, shape))

    return write


array_b1, array_i1, array_i2, array_i4, array_i8 = (array(code) for code in ("?", "i1", "i2", "i4", "i8"))
array_u1, array_u2, array_u4, array_u8 = (array(code) for code in ("u1", "u2", "u4", "u8"))
array_f4, array_f8 = (array(code) for code in ("f4", "f8"))


LINE = 64  # bytes at whose multiples arrays of a function lie


def local(code: str) -> Any:
    """The function ``(shape) -> array`` of a static shape: memory of the function it is called in, for one call."""
    dtype = np.dtype(code)
    element = kind_of(dtype)

    def view(shape: tuple[int, ...]) -> Any:
        return np.empty(shape, dtype)

    @direct(view)
    def write(walk: Any, shape: Sequence[Value]) -> View:
        count = math.prod(size.number or 0 for size in shape)
        place = room(walk.builder, ir.ArrayType(element.memory, count))
        place.align = LINE
        return View(Array(element, len(shape)), pointer(walk, place, element), sizes(walk, shape))

    return write


local_b1, local_i1, local_i2, local_i4, local_i8 = (local(code) for code in ("?", "i1", "i2", "i4", "i8"))
local_u1, local_u2, local_u4, local_u8 = (local(code) for code in ("u1", "u2", "u4", "u8"))
local_f4, local_f8 = (local(code) for code in ("f4", "f8"))


def flat_view(x: Any) -> Any:
    """All elements of a C-contiguous array of any rank as one axis; no copy."""
    return x.reshape(-1)


@direct(flat_view)
def flat(walk: Any, x: View) -> View:
    size: ir.Value = ir.Constant(INTP, 1)
    for extent in x.shape:
        size = walk.builder.mul(size, extent, flags=("nsw",))
    return View(Array(x.kind.dtype, 1), x.data, [size])


def all_zero(x: Any) -> None:
    """Make every element of a C-contiguous array zero."""
    x[...] = 0


@direct(all_zero)
def clear(walk: Any, x: View) -> None:
    (count,) = flat.write(walk, x).shape
    itemsize = x.kind.dtype.bytes
    size = walk.builder.mul(count, ir.Constant(INTP, itemsize), flags=("nsw",))
    flow.clear(walk.builder, x.data, size)


def assign(to: Any, x: Any) -> None:
    """Copy all elements of a C-contiguous array to another of the same type and shape that it does not overlap."""
    to[...] = x


@direct(assign)
def copy(walk: Any, to: View, x: View) -> None:
    (count,) = flat.write(walk, x).shape
    itemsize = x.kind.dtype.bytes
    size = walk.builder.mul(count, ir.Constant(INTP, itemsize), flags=("nsw",))
    flow.copy(walk.builder, to.data, x.data, size)


PAIRS = 16  # comparisons up to which `clash` needs no loop: code must not grow with the square of the arrays


def share_memory(given: int, updated: int, read: int, *arrays: Any) -> bool:
    """Whether memory that is written overlaps an array that a caller chose.

    ``arrays`` are C-contiguous: ``given`` ones from the caller, ``updated`` and ``read`` ones that the program holds,
    and the rest, outputs. Outputs are compared with all others, updated ones with given ones.
    """
    pairs = [(j, i) for j in range(given + updated + read, len(arrays)) for i in range(j)]
    pairs += [(j, i) for j in range(given, given + updated) for i in range(given)]
    return any(np.may_share_memory(arrays[i], arrays[j]) for j, i in pairs)


@direct(share_memory)
def clash(walk: Any, given: Value, updated: Value, read: Value, *arrays: View) -> Value:
    first, second, third = (count.number or 0 for count in (given, updated, read))
    held, count = first + second + third, len(arrays)
    ranges = [(range(held, count), None), (range(first, first + second), first)]
    pairs = [(j, i) for js, end in ranges for j in js for i in range(j if end is None else end)]
    builder = walk.builder
    spans = [span(walk, array) for array in arrays]
    found: Any = ir.Constant(ir.IntType(1), 0)
    if len(pairs) <= PAIRS:
        for j, i in pairs:
            found = builder.or_(found, meet(builder, *spans[j], *spans[i]))
        return Value(boolean, found)
    lows, highs = (room(builder, INTP, count) for _ in range(2))
    for k, (low, high) in enumerate(spans):
        builder.store(low, builder.gep(lows, [ir.Constant(INTP, k)]))
        builder.store(high, builder.gep(highs, [ir.Constant(INTP, k)]))
    for js, end in ranges:
        numbers = [ir.Constant(INTP, number) for number in (js.start, js.stop, count if end is None else end)]
        found = builder.or_(found, builder.call(any_meet(builder.module), [lows, highs, *numbers]))
    return Value(boolean, found)


def meet(builder: ir.IRBuilder, low: ir.Value, high: ir.Value, other_low: ir.Value, other_high: ir.Value) -> ir.Value:
    below = builder.icmp_unsigned("<", low, other_high)
    return builder.and_(below, builder.icmp_unsigned("<", other_low, high))


def any_meet(module: ir.Module) -> ir.Function:
    """The function ``(lows, highs, start, stop, end)``: whether a span from ``start`` on meets one before it and end.

    Never inlined, so that loops of known length over pairs are not unrolled."""
    name = "staticad_any_meet"
    if name in module.globals:
        return module.globals[name]
    pointer = INTP.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.IntType(1), [pointer, pointer, INTP, INTP, INTP]), name)
    function.linkage = "linkonce_odr"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    lows, highs, start, stop, end = function.args
    flag = placed(builder, ir.Constant(ir.IntType(1), 0))
    with flow.steps(builder, stop, start=start) as j:
        low, high = (builder.load(builder.gep(place, [j])) for place in (lows, highs))
        last = builder.select(builder.icmp_signed("<", j, end), j, end)
        with flow.steps(builder, last) as i:
            other = [builder.load(builder.gep(place, [i])) for place in (lows, highs)]
            builder.store(builder.or_(builder.load(flag), meet(builder, low, high, *other)), flag)
    builder.ret(builder.load(flag))
    return function


def span(walk: Any, array: View) -> tuple[ir.Value, ir.Value]:
    """The address of a contiguous array, the highest there is where it has no element, and the one after its end."""
    builder, itemsize = walk.builder, array.kind.dtype.bytes
    address, items = builder.ptrtoint(array.data, INTP), flat.write(walk, array).shape[0]
    end = builder.add(address, builder.mul(items, ir.Constant(INTP, itemsize)))
    empty = builder.icmp_signed("==", items, ir.Constant(INTP, 0))
    return builder.select(empty, ir.Constant(INTP, -1), address), end


def wrap(k: Any, n: Any) -> Any:
    """``k``, counted from the end ``n`` if negative, as int64; the caller checks that it lies in ``[0, n)``."""
    return np.int64(k + n if k < 0 else k)


def beyond(k: Any, n: Any) -> Any:
    """1 if ``k`` is no index of an axis of ``n`` elements, neither from its start nor from its end, else 0."""
    return np.int64(not -n <= k < n)


@direct(beyond)
def outside(walk: Any, k: Value, n: Value) -> Value:
    builder = walk.builder
    number, size = walk.cast(k, int64), walk.cast(n, int64)
    both = builder.icmp_unsigned(">=", builder.add(number, size), builder.add(size, size))
    return Value(int64, builder.zext(both, number.type))


@direct(wrap)
def index(walk: Any, k: Value, n: Value) -> Value:
    builder = walk.builder
    number, size = walk.cast(k, int64), walk.cast(n, int64)
    negative = builder.icmp_signed("<", number, ir.Constant(number.type, 0))
    return Value(int64, builder.select(negative, builder.add(number, size), number))
