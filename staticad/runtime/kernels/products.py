"""Sums of products of two operands over one index, batched; knows flat memory and strides, not graphs.

`contract` serves every rank and layout with one compiled function a dtype, shared by all programs: vector kernels for
floats, plain loops for integers and bools.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.runtime.kernels import gemm, gemv, reduce
from staticad.runtime.kernels.shared import FEW, Shared
from staticad.runtime.kernels.threaded import Batch, products
from staticad.runtime.kernels.values import Value, View, direct
from staticad.runtime.kernels.vectors import BIT, SIZE, Code, host, size
from staticad.runtime.kinds import Float, boolean, int64

FEW_ROWS = 32  # of x, up to which dot products with the columns of a y that stands transposed beat copying it
THIN = 2  # rows of y up to which rows of the result are written one by one, in order
LONG = 8  # vectors of such a row from which this pays
WIDE = 1 << 10  # vectors of the result from which it does: when it is no longer in the nearest cache
LONGER = 8  # times as many terms in a sum as rows of x from which x' and y' are multiplied as y x
FAR = 64  # elements along k from which they do


def einsum(
    x: Any, y: Any, out: Any, x0: int, y0: int, o0: int, nb: int, nm: int, nn: int, nk: int,
    xb: int, xm: int, xk: int, yb: int, yk: int, yn: int, ob: int, om: int, on: int,
    more: bool = False, alone: bool = False,
) -> None:  # fmt: skip
    """``out[b, i, j] = sum_k x[b, i, k] * y[b, k, j]`` over the flat memory of three C-contiguous arrays of one dtype.

    Element (b, i, k) of x stands at ``x0 + b*xb + i*xm + k*xk`` of its memory, and so on. Nothing is checked; out must
    not overlap the operands; it is overwritten, with zeros where ``nk == 0``, or added to with ``more``. With
    ``alone`` it is done by the calling thread. Sums of bool are "or".
    """

    def view(array: Any, start: int, shape: tuple[int, ...], steps: tuple[int, ...]) -> Any:
        if 0 in shape:
            return np.empty(shape, array.dtype)
        strides = tuple(step * array.itemsize for step in steps)
        return np.lib.stride_tricks.as_strided(array.reshape(-1)[start:], shape, strides)

    left, right = view(x, x0, (nb, nm, nk), (xb, xm, xk)), view(y, y0, (nb, nk, nn), (yb, yk, yn))
    to = view(out, o0, (nb, nm, nn), (ob, om, on))
    to[...] = np.matmul(left, right) + to if more else np.matmul(left, right)


def write_batches(
    module: ir.Module, symbol: str, element: ir.Type, bits: int, one_batch: Callable[..., None], rate: int
) -> None:
    """The function that `contract` calls: ``one_batch(code, x, xm, xk, y, yk, yn, out, om, on, nm, nn, nk, more)`` of
    every batch, so that out has its unit stride, or its only axis, last. ``rate``: as in `threaded.products`."""
    pointer = element.as_pointer()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer] * 3 + [SIZE] * 13 + [BIT] * 2), symbol)
    x, y, out, nb, nm, nn, nk, xb, xm, xk, yb, yk, yn, ob, om, on, more, alone = function.args
    for arg in (x, y, out):
        arg.add_attribute("noalias")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    code = Code(builder, element, bits)

    # out' = y' x'
    turned = builder.and_(code.test(nm, "!=", 1), code.test(on, "!=", 1))
    turned = builder.or_(turned, code.test(nn, "==", 1))
    # Both transposed, and long: to write out' element by element costs less than to copy one of them.
    both = builder.and_(code.test(xm, "==", 1), code.test(yk, "==", 1))
    both = builder.and_(both, builder.and_(code.test(xk, "!=", 1), code.test(yn, "!=", 1)))
    both = builder.and_(both, builder.and_(code.test(nm, ">=", code.lanes // 2), code.test(nn, "!=", 1)))
    turned = builder.or_(turned, builder.and_(both, code.test(nk, ">", code.mul(nm, LONGER))))
    there, here = (y, yb, yn, yk, nn, on), (x, xb, xm, xk, nm, om)
    x, xb, xm, xk, nm, om = (builder.select(turned, one, other) for one, other in zip(there, here, strict=True))
    y, yb, yn, yk, nn, on = (builder.select(turned, other, one) for one, other in zip(there, here, strict=True))

    # One matrix y for all: the batch is more rows.
    joined = builder.and_(code.test(xb, "==", code.mul(nm, xm)), code.test(ob, "==", code.mul(nm, om)))
    joined = builder.and_(joined, code.test(yb, "==", 0))
    nm, nb = builder.select(joined, code.mul(nm, nb), nm), builder.select(joined, size(1), nb)

    batch = Batch(x, xb, xm, xk, y, yb, yk, yn, out, ob, om, on, nb, nm, nn, nk, more)
    products(code, one_batch, batch, rate, alone)
    builder.ret_void()


def product_of_floats(module: ir.Module, symbol: str, element: Any) -> None:
    def one(
        code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, yn: Any, c: Any, om: Any, on: Any,
        m: Any, n: Any, k: Any, more: Any,
    ) -> None:  # fmt: skip
        builder = code.builder
        unit = builder.and_(code.test(yn, "==", 1), code.test(on, "==", 1))
        vector = code.test(m, "==", 1)

        def any_size() -> None:
            few = builder.and_(code.test(m, "<=", FEW_ROWS), code.test(code.mul(m, code.lanes), "<=", code.mul(k, 2)))
            outer = builder.and_(code.test(k, "<=", THIN), code.test(n, ">=", LONG * code.lanes))
            outer = builder.and_(outer, code.test(code.mul(m, n), ">", WIDE * code.lanes))
            rows = builder.and_(builder.or_(vector, outer), unit)
            dots = builder.and_(few, builder.and_(code.test(yk, "==", 1), code.test(xk, "==", 1)))
            dots = builder.and_(dots, builder.or_(vector, builder.and_(code.test(yn, "!=", 1), code.test(k, ">", FAR))))
            with builder.if_else(dots) as (then, other):
                with then:
                    builder.call(gemv.by_dots(code), [x, xm, y, yn, c, om, on, m, n, k, more])
                with other, builder.if_else(rows) as (then, other):
                    with then:
                        builder.call(gemv.by_rows(code), [x, xm, xk, y, yk, c, om, m, n, k, more])
                    with other:
                        builder.call(gemm.product(code), [x, xm, xk, y, yk, yn, c, om, on, m, n, k, more])

        if not host().masks:
            any_size()
            return
        narrow = builder.and_(code.test(on, "==", 1), code.test(n, "<=", code.lanes))
        narrow = builder.and_(narrow, builder.not_(vector))
        turned = code.test(yn, "!=", 1)
        small = builder.and_(narrow, code.test(k, "<=", gemm.SMALL))
        with builder.if_else(builder.and_(narrow, builder.not_(turned))) as (then, other):
            with then:
                builder.call(gemm.narrow(code), [x, xm, xk, y, yk, c, om, m, n, k, more])
            with other, builder.if_else(small) as (then, other):
                with then:
                    builder.call(gemm.narrow_copied(code), [x, xm, xk, y, yk, yn, c, om, m, n, k, more])
                with other:
                    any_size()

    rate = host().bytes * 8 // element.bitwidth * 4  # a multiplication and addition of vectors a cycle, at 4 GHz
    write_batches(module, symbol, element.memory, element.bitwidth, one, rate)


def product_of_others(module: ir.Module, symbol: str, element: Any) -> None:
    """Plain loops; the innermost is over unit strides if it can be."""
    zero = element.constant(0)

    def one(
        code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, yn: Any, c: Any, om: Any, on: Any,
        m: Any, n: Any, k: Any, more: Any,
    ) -> None:  # fmt: skip
        builder = code.builder

        def load(address: ir.Value) -> ir.Value:
            return element.load(builder, address)

        def store(value: ir.Value, address: ir.Value) -> None:
            element.store(builder, value, address)

        def step(acc: ir.Value, a: ir.Value, b: ir.Value) -> ir.Value:
            return reduce.emit_add(builder, element, acc, reduce.emit_multiply(builder, element, a, b))

        def by_rows() -> None:  # rows of y, scaled, are added to a row of out
            with code.steps(m, 1) as i:
                row, to = code.at(x, code.mul(i, xm)), code.at(c, code.mul(i, om))
                with builder.if_then(builder.not_(more)), code.steps(n, 1) as j:
                    store(zero, code.at(to, j))
                with code.steps(k, 1) as p:
                    scale = load(code.at(row, code.mul(p, xk)))
                    with code.steps(n, 1) as j:
                        place = code.at(to, j)
                        store(step(load(place), scale, load(code.at(y, code.mul(p, yk), j))), place)

        def by_dots() -> None:
            (acc,) = code.variables(1, zero.type)
            with code.steps(m, 1) as i, code.steps(n, 1) as j:
                place = code.at(c, code.mul(i, om), code.mul(j, on))
                builder.store(zero, acc)
                with builder.if_then(more):
                    builder.store(load(place), acc)
                row, column = code.at(x, code.mul(i, xm)), code.at(y, code.mul(j, yn))
                with code.steps(k, 1) as p:
                    a, b = load(code.at(row, code.mul(p, xk))), load(code.at(column, code.mul(p, yk)))
                    builder.store(step(builder.load(acc), a, b), acc)
                store(builder.load(acc), place)

        unit = builder.and_(code.test(yn, "==", 1), code.test(on, "==", 1))
        with builder.if_else(unit) as (rows, dots):
            with rows:
                by_rows()
            with dots:
                by_dots()

    write_batches(module, symbol, element.memory, 8, one, 4)


NO_FLAGS = [Value(boolean, BIT(0))] * 2  # of `einsum`
FLOATS = Shared(product_of_floats, FEW)
OTHERS = Shared(product_of_others)


@direct(einsum)
def contract(walk: Any, x: View, y: View, out: View, x0: Value, y0: Value, o0: Value, *given: Value) -> None:
    kind = x.kind.dtype
    assert y.kind.dtype == out.kind.dtype == kind, "operands of a product of several dtypes"
    starts = [
        walk.builder.gep(view.data, [walk.cast(offset, int64)], inbounds=True)
        for view, offset in zip((x, y, out), (x0, y0, o0), strict=True)
    ]
    sizes, flags = given[:13], [*given[13:], *NO_FLAGS[len(given) - 13 :]]
    args = [*(walk.cast(x, int64) for x in sizes), *(walk.cast(x, boolean) for x in flags)]
    (FLOATS if isinstance(kind, Float) else OTHERS).call(walk.builder, kind, [*starts, *args])
