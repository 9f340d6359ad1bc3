"""What a generated program needs around a loop that is cut into chunks: their number, memory for each; knows no loop.

Memory for chunks is taken when there are several and given back at once: one thread needs none.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from staticad.runtime.kernels import spread
from staticad.runtime.kernels.shared import FEW, external
from staticad.runtime.kernels.values import INTP, Value, View, direct
from staticad.runtime.kinds import Array, int64, uint8

LINE = 64  # bytes; no two chunks write to the same line
BYTE = ir.IntType(8).as_pointer()
TAKE, GIVE = ir.FunctionType(BYTE, [INTP]), ir.FunctionType(ir.VoidType(), [BYTE])


def shared_chunks(builder: ir.IRBuilder) -> ir.Function:
    return external(builder, spread.write_chunks, spread.CHUNKS, passes=FEW)


def one(count: int, work: int, more: int) -> int:
    """How many chunks ``count`` steps with ``work`` units of work are cut into, if each chunk causes ``more``."""
    return 1


@direct(one)
def chunks(walk: Any, count: Value, work: Value, more: Value) -> Value:
    numbers = [walk.cast(x, int64) for x in (count, work, more)]
    return Value(int64, spread.chunks(walk.builder, *numbers, called=shared_chunks(walk.builder)))


def always_one(count: int) -> int:
    """As many chunks as threads, but no more than ``count``, whatever the work."""
    return 1


@direct(always_one)
def threads(walk: Any, count: Value) -> Value:
    called, number = shared_chunks(walk.builder), walk.cast(count, int64)
    return Value(int64, spread.chunks(walk.builder, number, spread.word(1 << 62), spread.word(0), called))


def same(n: int) -> int:
    """``n``, which is not negative, as the optimiser gets to know."""
    return n


@direct(same)
def natural(walk: Any, n: Value) -> Value:
    return Value(int64, walk.builder.and_(n.llvm, ir.Constant(INTP, (1 << 63) - 1)))


def empty(count: int, size: int) -> Any:
    """``size`` bytes, or a few more, for each of ``count`` chunks; `release` gives them back."""
    return np.empty((count, -(-size // LINE) * LINE), "u1")


@direct(empty)
def spare(walk: Any, count: Value, size: Value) -> View:
    shape, total = rows(walk, count, size)
    take = external(walk.builder, write_take, TAKE, passes=FEW)
    made = View(Array(uint8, 2), walk.builder.call(take, [total]), shape)
    walk.held[made.data] = lambda: give(walk, made)
    return made


@direct(empty)
def places(walk: Any, count: Value, size: Value) -> View:
    """The same, of a few bytes, which go with the caller."""
    shape, total = rows(walk, count, size)
    place = walk.builder.alloca(ir.IntType(8), total)
    place.align = LINE
    return View(Array(uint8, 2), place, shape)


def rows(walk: Any, count: Value, size: Value) -> tuple[list[ir.Value], ir.Value]:
    """A number of rows and the bytes of each, whole lines; and of all of them."""
    builder, number = walk.builder, walk.cast(count, int64)
    width = builder.add(walk.cast(size, int64), ir.Constant(INTP, LINE - 1))
    width = builder.and_(width, ir.Constant(INTP, -LINE))
    return [number, width], builder.mul(number, width)


def keep(x: Any) -> None:
    """Give back the memory of a `spare`."""


@direct(keep)
def release(walk: Any, x: View) -> None:
    give(walk, x)
    del walk.held[x.data]


def give(walk: Any, x: View) -> None:
    walk.builder.call(external(walk.builder, write_give, GIVE, passes=FEW), [x.data])


def write_take(module: ir.Module, symbol: str, element: Any) -> None:
    """Memory of so many bytes, null for none: Python's, there on every platform, needing no lock of Python."""
    function = ir.Function(module, TAKE, symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    (total,) = function.args
    with builder.if_then(builder.icmp_signed("<=", total, ir.Constant(INTP, 0))):
        builder.ret(ir.Constant(BYTE, None))
    # Its own address stands in the line before the first aligned one.
    take = ir.Function(module, TAKE, "PyMem_RawMalloc")
    raw = builder.call(take, [builder.add(total, ir.Constant(INTP, 2 * LINE))])
    line = builder.add(builder.ptrtoint(raw, INTP), ir.Constant(INTP, 2 * LINE - 1))
    place = builder.inttoptr(builder.and_(line, ir.Constant(INTP, -LINE)), BYTE)
    builder.store(raw, before(builder, place))
    builder.ret(place)


def write_give(module: ir.Module, symbol: str, element: Any) -> None:
    """Give back what `write_take` gave."""
    function = ir.Function(module, GIVE, symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    (place,) = function.args
    with builder.if_then(builder.icmp_unsigned("!=", place, ir.Constant(BYTE, None))):
        builder.call(ir.Function(module, GIVE, "PyMem_RawFree"), [builder.load(before(builder, place))])
    builder.ret_void()


def before(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
    """Where the address that an aligned place was found from is kept."""
    return builder.gep(builder.bitcast(place, BYTE.as_pointer()), [ir.Constant(INTP, -1)])
