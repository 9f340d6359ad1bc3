"""Sums of products of two operands over one index, batched; knows flat memory and strides, not graphs.

`contract` serves every rank and layout with one compiled function a dtype, shared by all programs: BLAS where there is
a unit stride in each operand and enough work to pay for the call, plain loops elsewhere.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils

from staticad.runtime.kernels import reduce
from staticad.runtime.kernels.blas import gemm, gemv, knows
from staticad.runtime.kernels.native import kernel
from staticad.runtime.kernels.pointers import advance, store
from staticad.runtime.kernels.shared import Shared

SMALL = 512  # multiply-adds below which a BLAS call costs more than plain loops: measured
INT_MAX = 2**31 - 1  # of BLAS


def einsum(
    x: Any, y: Any, out: Any, x0: int, y0: int, o0: int, nb: int, nm: int, nn: int, nk: int,
    xb: int, xm: int, xk: int, yb: int, yk: int, yn: int, ob: int, om: int, on: int, more: bool = False,
) -> None:  # fmt: skip
    """``out[b, i, j] = sum_k x[b, i, k] * y[b, k, j]`` over the flat memory of three C-contiguous arrays of one dtype.

    Element (b, i, k) of x stands at ``x0 + b*xb + i*xm + k*xk`` of its memory, and so on. Nothing is checked; out must
    not overlap the operands; it is overwritten, with zeros where ``nk == 0``, or added to with ``more``. Sums of bool
    are "or".
    """

    def view(array: Any, start: int, shape: tuple[int, ...], steps: tuple[int, ...]) -> Any:
        if 0 in shape:
            return np.empty(shape, array.dtype)
        strides = tuple(step * array.itemsize for step in steps)
        return np.lib.stride_tricks.as_strided(array.reshape(-1)[start:], shape, strides)

    left, right = view(x, x0, (nb, nm, nk), (xb, xm, xk)), view(y, y0, (nb, nk, nn), (yb, yk, yn))
    to = view(out, o0, (nb, nm, nn), (ob, om, on))
    to[...] = np.matmul(left, right) + to if more else np.matmul(left, right)


@kernel(einsum)
def loops(
    typingctx: Any, x: Any, y: Any, out: Any, nm: Any, nn: Any, nk: Any,
    xm: Any, xk: Any, yk: Any, yn: Any, om: Any, on: Any, more: Any,
) -> Any:  # fmt: skip
    """``out[i, j] = sum_k x[i, k] y[k, j]``, ``+=`` with ``more``; the innermost loop is over unit strides if it can.

    Written as LLVM because Numba's front end takes most of a second to get through the same loops."""
    element = x.dtype

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        x, y, out, nm, nn, nk, xm, xk, yk, yn, om, on, more = args
        one, four, zero = ir.Constant(nm.type, 1), ir.Constant(nm.type, 4), context.get_constant(element, 0)

        def at(base: ir.Value, *terms: tuple[ir.Value, ir.Value]) -> ir.Value:
            for position, stride in terms:
                base = builder.gep(base, [builder.mul(position, stride, flags=("nsw",))], inbounds=True)
            return base

        def load(address: ir.Value) -> ir.Value:
            return context.unpack_value(builder, element, address)

        def step(acc: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
            return reduce.emit_add(builder, element, acc, reduce.emit_multiply(builder, element, a, b))

        def add_row(row: ir.Value, to: ir.Value, ks: list[ir.Value]) -> None:
            scales = [load(at(row, (k, xk))) for k in ks]
            with cgutils.for_range(builder, nn) as j:
                target = at(to, (j.index, one))
                acc = load(target)
                for k, scale in zip(ks, scales, strict=True):
                    acc = step(acc, scale, load(at(y, (k, yk), (j.index, one))))
                context.pack_value(builder, element, acc, target)

        def by_rows() -> None:  # rows of y, scaled, are added to a row of out, four at a time
            with cgutils.for_range(builder, nm) as i:
                row, to = at(x, (i.index, xm)), at(out, (i.index, om))
                with builder.if_then(builder.not_(more)), cgutils.for_range(builder, nn) as j:
                    context.pack_value(builder, element, zero, at(to, (j.index, one)))
                blocks = builder.sdiv(nk, four)
                with cgutils.for_range(builder, blocks) as block:
                    first = builder.mul(block.index, four)
                    add_row(row, to, [builder.add(first, ir.Constant(nk.type, n)) for n in range(4)])
                with cgutils.for_range(builder, nk, start=builder.mul(blocks, four)) as k:
                    add_row(row, to, [k.index])

        def by_dots(xk: ir.Value, yk: ir.Value) -> None:
            acc = cgutils.alloca_once(builder, zero.type)
            with cgutils.for_range(builder, nm) as i, cgutils.for_range(builder, nn) as j:
                place = at(out, (i.index, om), (j.index, on))
                builder.store(zero, acc)
                with builder.if_then(more):
                    builder.store(load(place), acc)
                row, column = at(x, (i.index, xm)), at(y, (j.index, yn))
                with cgutils.for_range(builder, nk) as k:
                    a, b = load(at(row, (k.index, xk))), load(at(column, (k.index, yk)))
                    builder.store(step(builder.load(acc), a, b), acc)
                context.pack_value(builder, element, builder.load(acc), place)

        def equal(*values: ir.Value) -> ir.Value:
            both = [builder.icmp_signed("==", value, one) for value in values]
            return builder.and_(*both)

        with builder.if_else(builder.and_(equal(yn, on), builder.icmp_signed(">", nn, one))) as (rows, dots):
            with rows:
                by_rows()
            with dots, builder.if_else(equal(xk, yk)) as (unit, strided):
                with unit:
                    by_dots(one, one)
                with strided:
                    by_dots(xk, yk)
        return context.get_dummy_value()

    return types.none(x, x, x, *[types.intp] * 9, types.boolean), codegen


def products(
    x: Any, y: Any, out: Any, zero: Any, one: Any, nb: int, nm: int, nn: int, nk: int,
    xb: int, xm: int, xk: int, yb: int, yk: int, yn: int, ob: int, om: int, on: int, more: bool,
) -> None:  # fmt: skip
    if nn == 1 or (nm != 1 and on != 1):  # out' = y' x': put the unit stride of out, or its only axis, last
        x, y, nm, nn, om, on = y, x, nn, nm, on, om
        xb, xm, xk, yb, yk, yn = yb, yn, yk, xb, xk, xm
    if yb == 0 and xb == nm * xm and ob == nm * om:  # one matrix y for all: the batch is more rows
        nm, nb = nm * nb, 1

    # BLAS sees rows of out as columns: out' = y' x'.
    rows_y, rows_x = yn == 1, xk == 1
    ldy, ldx = (yk if rows_y else yn), (xm if rows_x else xk)
    fits = knows(x) and nm * nn * nk >= SMALL and (nm | nn | nk | ldx | ldy | om | on) <= INT_MAX
    fits = fits and (rows_y or yk == 1) and ldy >= (nn if rows_y else nk) and on > 0
    if nm == 1:
        fits = fits and xk > 0
    else:
        fits = fits and (rows_x or xm == 1) and ldx >= (nk if rows_x else nm) and on == 1 and om >= nn

    for b in range(nb):
        left, right, to = advance(x, b * xb), advance(y, b * yb), advance(out, b * ob)
        if not fits:
            loops(left, right, to, nm, nn, nk, xm, xk, yk, yn, om, on, more)
        elif nm > 1:
            gemm(not rows_y, not rows_x, nn, nm, nk, right, ldy, left, ldx, one if more else zero, to, om)
        else:
            if not more:
                for j in range(nn):  # adding to zeros: some BLAS spread a NaN of the old y even where its factor is 0
                    store(to, j * on, zero)
            gemv(not rows_y, nn if rows_y else nk, nk if rows_y else nn, right, ldy, left, xk, to, on)


PRODUCTS = Shared(products)


@kernel(einsum)
def contract(
    typingctx: Any, x: Any, y: Any, out: Any, x0: Any, y0: Any, o0: Any, nb: Any, nm: Any, nn: Any, nk: Any,
    xb: Any, xm: Any, xk: Any, yb: Any, yk: Any, yn: Any, ob: Any, om: Any, on: Any, more: Any = False,
) -> Any:  # fmt: skip
    arrays = (x, y, out)
    if any(not isinstance(kind, types.Array) or kind.layout != "C" or kind.dtype != x.dtype for kind in arrays):
        return None

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        starts = [
            builder.gep(cgutils.create_struct_proxy(kind)(context, builder, value).data, [offset], inbounds=True)
            for kind, value, offset in zip(arrays, args[:3], args[3:6], strict=True)
        ]
        pointer = types.CPointer(x.dtype)
        kinds = (pointer, pointer, pointer, x.dtype, x.dtype, *[types.intp] * 13, types.boolean)
        numbers = [context.get_constant(x.dtype, number) for number in (0, 1)]
        PRODUCTS.call(context, builder, kinds, [*starts, *numbers, *args[6:]])
        return context.get_dummy_value()

    return types.none(x, y, out, *[types.intp] * 16, types.boolean), codegen
