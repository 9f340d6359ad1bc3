"""Views of memory that no one counts references of, and addresses; knows array layouts, not what is stored in them.

In compiled code a view made here holds a bare pointer: it is valid as long as the array it was made of.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.ir.instructions import InlineAsm
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import from_dtype

from staticad.runtime.kernels.native import kernel

INTP = ir.IntType(types.intp.bitwidth)


def contiguous(context: Any, builder: ir.IRBuilder, kind: Any, data: ir.Value, shape: list[ir.Value]) -> Any:
    """The struct of a C-contiguous array of Numba type ``kind`` over ``data``, without owner."""
    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides: list[ir.Value] = []
    step: ir.Value = ir.Constant(INTP, itemsize)
    for size in reversed(shape):
        strides.insert(0, step)
        step = builder.mul(step, size, flags=("nsw",))
    array = make_array(kind)(context, builder)
    populate_array(
        array,
        data=builder.bitcast(data, array.data.type),
        shape=cgutils.pack_array(builder, shape, ty=INTP),
        strides=cgutils.pack_array(builder, strides, ty=INTP),
        itemsize=ir.Constant(INTP, itemsize),
        meminfo=None,
        parent=None,
    )
    return array._getvalue()


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
    """The kernel ``(work, offset, shape) -> array``: C-contiguous, of dtype ``code``, from byte ``offset`` of work."""
    dtype = np.dtype(code)
    element = from_dtype(dtype)

    def view(work: Any, offset: int, shape: tuple[int, ...]) -> Any:
        return work[offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    @kernel(view)
    def typing(typingctx: Any, work: Any, offset: Any, shape: Any) -> Any:
        if not (
            isinstance(work, types.Array) and isinstance(shape, types.BaseTuple) and isinstance(offset, types.Integer)
        ):
            return None
        kind = types.Array(element, len(shape), "C")
        sizes = list(shape)

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            base = make_array(work)(context, builder, args[0]).data
            data = distinct(builder, builder.gep(base, [args[1]], inbounds=True))
            values = cgutils.unpack_tuple(builder, args[2], len(sizes))
            shape_ = [context.cast(builder, value, size, types.intp) for value, size in zip(values, sizes, strict=True)]
            return contiguous(context, builder, kind, data, shape_)

        return kind(work, types.intp, shape), codegen

    return typing


slot_b1, slot_i1, slot_i2, slot_i4, slot_i8 = (slot(code) for code in ("?", "i1", "i2", "i4", "i8"))
slot_u1, slot_u2, slot_u4, slot_u8 = (slot(code) for code in ("u1", "u2", "u4", "u8"))
slot_f4, slot_f8 = (slot(code) for code in ("f4", "f8"))


def flat_view(x: Any) -> Any:
    """All elements of a C-contiguous array of any rank as one axis; no copy."""
    return x.reshape(-1)


@kernel(flat_view)
def flat(typingctx: Any, x: Any) -> Any:
    if not isinstance(x, types.Array) or x.layout != "C":
        return None
    kind = types.Array(x.dtype, 1, "C", readonly=not x.mutable)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        array = make_array(x)(context, builder, args[0])
        size: ir.Value = ir.Constant(INTP, 1)
        for extent in cgutils.unpack_tuple(builder, array.shape, x.ndim):
            size = builder.mul(size, extent, flags=("nsw",))
        return contiguous(context, builder, kind, array.data, [size])

    return kind(x), codegen


def all_zero(x: Any) -> None:
    """Make every element of a C-contiguous array zero."""
    x[...] = 0


@kernel(all_zero)
def clear(typingctx: Any, x: Any) -> Any:
    if not isinstance(x, types.Array) or x.layout != "C":
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        array = make_array(x)(context, builder, args[0])
        size: ir.Value = array.itemsize
        for extent in cgutils.unpack_tuple(builder, array.shape, x.ndim):
            size = builder.mul(size, extent, flags=("nsw",))
        cgutils.memset(builder, array.data, size, 0)
        return context.get_dummy_value()

    return types.none(x), codegen


def assign(to: Any, x: Any) -> None:
    """Copy all elements of a C-contiguous array to another of the same type and shape that it does not overlap."""
    to[...] = x


@kernel(assign)
def copy(typingctx: Any, to: Any, x: Any) -> Any:
    if not (isinstance(to, types.Array) and isinstance(x, types.Array)) or to.layout != "C" or x.layout != "C":
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        there, here = make_array(to)(context, builder, args[0]), make_array(x)(context, builder, args[1])
        size: ir.Value = here.itemsize
        for extent in cgutils.unpack_tuple(builder, here.shape, x.ndim):
            size = builder.mul(size, extent, flags=("nsw",))
        cgutils.raw_memcpy(builder, there.data, here.data, size, 1)
        return context.get_dummy_value()

    return types.none(to, x), codegen


PAIRS = 16  # comparisons up to which `clash` needs no loop: code must not grow with the square of the arrays


def share_memory(given: int, updated: int, read: int, *arrays: Any) -> bool:
    """Whether memory that is written overlaps an array that a caller chose.

    ``arrays`` are C-contiguous: ``given`` ones from the caller, ``updated`` and ``read`` ones that the program holds,
    and the rest, outputs. Outputs are compared with all others, updated ones with given ones.
    """
    pairs = [(j, i) for j in range(given + updated + read, len(arrays)) for i in range(j)]
    pairs += [(j, i) for j in range(given, given + updated) for i in range(given)]
    return any(np.may_share_memory(arrays[i], arrays[j]) for j, i in pairs)


@kernel(share_memory)
def clash(typingctx: Any, given: Any, updated: Any, read: Any, *arrays: Any) -> Any:
    counts = (given, updated, read)
    if not all(isinstance(count, types.IntegerLiteral) for count in counts):
        return None
    first, second, third = (count.literal_value for count in counts)
    held, count = first + second + third, len(arrays)
    ranges = [(range(held, count), None), (range(first, first + second), first)]
    pairs = [(j, i) for js, end in ranges for j in js for i in range(j if end is None else end)]

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        values = cgutils.unpack_tuple(builder, args[3], count)
        spans = [span(context, builder, kind, value) for kind, value in zip(arrays, values, strict=True)]
        found: Any = ir.Constant(ir.IntType(1), 0)
        if len(pairs) <= PAIRS:
            for j, i in pairs:
                found = builder.or_(found, meet(builder, *spans[j], *spans[i]))
            return found
        lows, highs = (cgutils.alloca_once(builder, INTP, count) for _ in range(2))
        for k, (low, high) in enumerate(spans):
            builder.store(low, builder.gep(lows, [ir.Constant(INTP, k)]))
            builder.store(high, builder.gep(highs, [ir.Constant(INTP, k)]))
        for js, end in ranges:
            numbers = [ir.Constant(INTP, number) for number in (js.start, js.stop, count if end is None else end)]
            found = builder.or_(found, builder.call(any_meet(builder.module), [lows, highs, *numbers]))
        return found

    return types.boolean(*counts, types.StarArgTuple(arrays)), codegen


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
    flag = cgutils.alloca_once_value(builder, ir.Constant(ir.IntType(1), 0))
    with cgutils.for_range(builder, stop, start=start) as j:
        low, high = (builder.load(builder.gep(place, [j.index])) for place in (lows, highs))
        last = builder.select(builder.icmp_signed("<", j.index, end), j.index, end)
        with cgutils.for_range(builder, last) as i:
            other = [builder.load(builder.gep(place, [i.index])) for place in (lows, highs)]
            builder.store(builder.or_(builder.load(flag), meet(builder, low, high, *other)), flag)
    builder.ret(builder.load(flag))
    return function


def span(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> tuple[ir.Value, ir.Value]:
    """The address of a contiguous array, the highest there is where it has no element, and the one after its end."""
    array = make_array(kind)(context, builder, value)
    address = builder.ptrtoint(array.data, INTP)
    end = builder.add(address, builder.mul(array.nitems, array.itemsize))
    empty = builder.icmp_signed("==", array.nitems, ir.Constant(INTP, 0))
    return builder.select(empty, ir.Constant(INTP, -1), address), end


def wrap(k: Any, n: Any) -> Any:
    """``k``, counted from the end ``n`` if negative, as int64; the caller checks that it lies in ``[0, n)``."""
    return np.int64(k + n if k < 0 else k)


@kernel(wrap)
def index(typingctx: Any, k: Any, n: Any) -> Any:
    if not isinstance(k, types.Integer) or not isinstance(n, types.Integer):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        negative = builder.icmp_signed("<", args[0], ir.Constant(args[0].type, 0))
        return builder.select(negative, builder.add(*args), args[0])

    return types.int64(types.int64, types.int64), codegen
