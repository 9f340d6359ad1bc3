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
            data = builder.gep(base, [args[1]], inbounds=True)
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


def share_bytes(a: Any, b: Any) -> bool:
    """Whether the ranges of addresses that two arrays span have a byte in common."""
    return np.may_share_memory(a, b)


def extent(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """First byte, byte after the last, and whether there is none, of an array."""
    array = make_array(kind)(context, builder, value)
    zero, one = ir.Constant(INTP, 0), ir.Constant(INTP, 1)
    low = builder.ptrtoint(array.data, INTP)
    high = builder.add(low, array.itemsize)
    empty: Any = ir.Constant(ir.IntType(1), 0)
    shape = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
    strides = cgutils.unpack_tuple(builder, array.strides, kind.ndim)
    for size, stride in zip(shape, strides, strict=True):
        reach = builder.mul(builder.sub(size, one), stride)
        backward = builder.icmp_signed("<", stride, zero)
        low = builder.add(low, builder.select(backward, reach, zero))
        high = builder.add(high, builder.select(backward, zero, reach))
        empty = builder.or_(empty, builder.icmp_signed("==", size, zero))
    return low, high, empty


@kernel(share_bytes)
def overlap(typingctx: Any, a: Any, b: Any) -> Any:
    if not isinstance(a, types.Array) or not isinstance(b, types.Array):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        low_a, high_a, empty_a = extent(context, builder, a, args[0])
        low_b, high_b, empty_b = extent(context, builder, b, args[1])
        apart = builder.or_(builder.icmp_unsigned("<=", high_a, low_b), builder.icmp_unsigned("<=", high_b, low_a))
        return builder.not_(builder.or_(apart, builder.or_(empty_a, empty_b)))

    return types.boolean(a, b), codegen


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
