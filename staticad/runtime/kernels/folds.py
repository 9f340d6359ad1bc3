"""What the chunks of a loop have accumulated, put together in order; knows rows of memory, not what they hold.

Every chunk has a row of a `spare`; in it, from some byte on, an array, or a single value.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.runtime import flow
from staticad.runtime.flow import room
from staticad.runtime.kernels import reduce
from staticad.runtime.kernels.shared import FEW, Shared
from staticad.runtime.kernels.values import INTP, Value, View, direct
from staticad.runtime.kinds import int64

BYTE = ir.IntType(8).as_pointer()
EXTREMA = (("maximum", ">"), ("minimum", "<"))
Emit = Callable[[ir.IRBuilder, Any, ir.Value, ir.Value], ir.Value]


def rows_of(x: Any, offset: int, dtype: Any, count: int) -> list[Any]:
    """In plain Python, the array of ``count`` elements in each row."""
    return [np.ndarray(count, dtype, row, offset) for row in x]


def define(module: ir.Module, symbol: str, *kinds: ir.Type) -> tuple[ir.IRBuilder, list[ir.Argument]]:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), symbol)
    for arg in function.args:
        if isinstance(arg.type, ir.PointerType):
            arg.add_attribute("noalias")
    return ir.IRBuilder(function.append_basic_block()), list(function.args)


def row(builder: ir.IRBuilder, rows: ir.Value, width: ir.Value, k: ir.Value, pointer: ir.Type) -> ir.Value:
    return builder.bitcast(builder.gep(rows, [builder.mul(k, width)]), pointer)


def fill(module: ir.Module, symbol: str, element: Any) -> None:
    """Every element of every row becomes the one at ``value``."""
    kind = element.memory
    builder, args = define(module, symbol, kind.as_pointer(), BYTE, INTP, INTP, INTP)
    from_, rows, width, runs, count = args
    value = builder.load(from_)
    with flow.steps(builder, runs) as run:
        to = row(builder, rows, width, run, from_.type)
        with flow.steps(builder, count) as k:
            builder.store(value, builder.gep(to, [k]))
    builder.ret_void()


def fold(module: ir.Module, symbol: str, element: Any, emit: Emit) -> None:
    """Every row is combined into the array ``acc``."""
    builder, args = define(module, symbol, element.memory.as_pointer(), BYTE, INTP, INTP, INTP)
    acc, rows, width, runs, count = args
    with flow.steps(builder, runs) as run:
        from_ = row(builder, rows, width, run, acc.type)
        with flow.steps(builder, count) as k:
            places = [builder.gep(array, [k]) for array in (acc, from_)]
            values = [element.load(builder, place) for place in places]
            element.store(builder, emit(builder, element, *values), places[0])
    builder.ret_void()


def total(module: ir.Module, symbol: str, element: Any, emit: Emit) -> None:
    """The first element of every row is combined into the one at ``acc``."""
    builder, args = define(module, symbol, element.memory.as_pointer(), BYTE, INTP, INTP)
    acc, rows, width, runs = args
    with flow.steps(builder, runs) as run:
        places = acc, row(builder, rows, width, run, acc.type)
        values = [element.load(builder, place) for place in places]
        element.store(builder, emit(builder, element, *values), acc)
    builder.ret_void()


def begin(x: Any, offset: int, acc: Any, value: Any) -> None:
    """An array as large as ``acc``, in the row of each chunk, all of it ``value``."""
    for part in rows_of(x, offset, acc.dtype, acc.size):
        part[...] = value


@direct(begin)
def begin_rows(walk: Any, x: View, offset: Value, acc: View, value: Value) -> None:
    kind = acc.kind.dtype
    place = stored(walk, kind, value)
    Shared(fill).call(walk.builder, kind, [place, *bounds(walk, x, offset), items(walk.builder, acc)])


def stored(walk: Any, kind: Any, value: Value) -> ir.Value:
    """The address of a value."""
    place = room(walk.builder, kind.memory)
    kind.store(walk.builder, walk.cast(value, kind), place)
    return place


def items(builder: ir.IRBuilder, array: View) -> ir.Value:
    count: Any = ir.Constant(INTP, 1)
    for size in array.shape:
        count = builder.mul(count, size)
    return count


def bounds(walk: Any, x: View, offset: Value) -> list[ir.Value]:
    """Where the first row of a spare begins, how far the rows are from each other, and how many there are."""
    runs, width = x.shape
    return [walk.builder.gep(x.data, [walk.cast(offset, int64)]), width, runs]


def folding(name: str, emit: Emit, combine: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    """The kernels ``(spare, offset, array)``, which combines an array from every row into one, and ``(spare, offset,
    start) -> value``, which combines a value from every row."""

    def write_fold(module: ir.Module, symbol: str, element: Any) -> None:
        fold(module, symbol, element, emit)

    def write_total(module: ir.Module, symbol: str, element: Any) -> None:
        total(module, symbol, element, emit)

    write_fold.__name__, write_total.__name__ = f"fold_{name}", f"total_{name}"
    shared, totals = Shared(write_fold), Shared(write_total, FEW)

    def arrays(x: Any, offset: int, acc: Any) -> None:
        for part in rows_of(x, offset, acc.dtype, acc.size):
            acc[...] = combine(acc, part.reshape(acc.shape))

    def values(x: Any, offset: int, start: Any) -> Any:
        for part in rows_of(x, offset, np.asarray(start).dtype, 1):
            start = combine(start, part[0])
        return start

    @direct(arrays)
    def of_arrays(walk: Any, x: View, offset: Value, acc: View) -> None:
        count = items(walk.builder, acc)
        shared.call(walk.builder, acc.kind.dtype, [acc.data, *bounds(walk, x, offset), count])

    @direct(values)
    def of_values(walk: Any, x: View, offset: Value, start: Value) -> Value:
        place = stored(walk, start.kind, start)
        totals.call(walk.builder, start.kind, [place, *bounds(walk, x, offset)])
        return Value(start.kind, start.kind.load(walk.builder, place))

    return of_arrays, of_values


larger, smaller = (partial(reduce.emit_extremum, name=name, better=better) for name, better in EXTREMA)
fold_radd, total_radd = folding("radd", reduce.emit_add, reduce.add)
fold_rmul, total_rmul = folding("rmul", reduce.emit_multiply, reduce.multiply)
fold_rmax, total_rmax = folding("rmax", larger, reduce.maximum)
fold_rmin, total_rmin = folding("rmin", smaller, reduce.minimum)
