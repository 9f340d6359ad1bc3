"""Cholesky and LU factors computed in place, by recursion down to blocks of one vector; knows strides, not arrays.

The matrix comes as its negative, so that products need only add to it (see `triangular`); parts of it turn into
factors. LU: Toledo 1997, "Locality of reference in LU decomposition with partial pivoting".
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir

from staticad.runtime.flow import declared
from staticad.runtime.kernels.triangular import add_product, half, over_row, reciprocal, solve, turned
from staticad.runtime.kernels.vectors import BIT, INT, SIZE, Code, size

WHOLE = 64  # rows of a symmetric product up to which it is computed with both triangles


def cholesky(code: Code) -> ir.Function:
    """The lower L of ``A = L L'`` in the place of ``-A``, of which the lower triangle is read.

    NaN from the first column on whose pivot is not positive. What is above the diagonal is left undefined."""

    def write(code: Code, a: Any, am: Any, n: Any, alone: Any) -> None:
        builder, one = code.builder, size(1)
        with builder.if_else(code.test(n, "<=", code.lanes)) as (block, large):
            with block:
                builder.call(cholesky_block(code), [a, am, n])
            with large:
                split = half(code, n)
                rest = code.sub(n, split)
                below = code.at(a, code.mul(split, am))
                corner = code.at(below, split)
                no = BIT(0)
                builder.call(cholesky(code), [a, am, split, alone])
                builder.call(solve(code), [a, am, one, no, no, below, one, am, split, rest, alone])
                builder.call(symmetric(code), [below, am, corner, rest, split, alone])
                builder.call(cholesky(code), [corner, am, rest, alone])

    return code.define("cholesky", [code.pointer, SIZE, SIZE, BIT], write)


def symmetric(code: Code) -> ir.Function:
    """``c += x x'`` on and below the diagonal, for x of n rows of k elements with the distance of those of c."""

    def write(code: Code, x: Any, am: Any, c: Any, n: Any, k: Any, alone: Any) -> None:
        builder, one = code.builder, size(1)
        with builder.if_else(code.test(n, "<=", WHOLE)) as (whole, large):
            with whole:
                add_product(code, x, am, one, x, one, am, c, am, one, n, n, k, alone)
            with large:
                split = half(code, n)
                rest, down = code.sub(n, split), code.mul(split, am)
                builder.call(symmetric(code), [x, am, c, split, k, alone])
                add_product(
                    code, code.at(x, down), am, one, x, one, am, code.at(c, down), am, one, rest, split, k, alone
                )
                builder.call(symmetric(code), [code.at(x, down), am, code.at(c, down, split), rest, k, alone])

    p = code.pointer
    return code.define("symmetric", [p, SIZE, p, SIZE, SIZE, BIT], write)


def cholesky_block(code: Code) -> ir.Function:
    """`cholesky` of at most a vector of rows: a row of ``-A``, whole by symmetry, becomes a column of L."""

    def write(code: Code, a: Any, am: Any, n: Any) -> None:
        builder, lanes = code.builder, code.lanes
        tile = code.space(lanes * lanes)
        for k in range(lanes):
            code.store(code.zeros(lanes), code.at(tile, k * lanes))
        with code.steps(n, 1) as i, code.steps(code.add(i, 1), 1) as j:
            value = builder.load(code.at(a, code.mul(i, am), j))
            builder.store(value, code.at(tile, code.mul(i, lanes), j))
            builder.store(value, code.at(tile, code.mul(j, lanes), i))
        root = builder.module.declare_intrinsic("llvm.sqrt", [code.element])
        zero, nan = ir.Constant(code.element, 0.0), ir.Constant(code.element, float("nan"))
        with code.steps(n, 1) as k:
            place = code.at(tile, code.mul(k, lanes))
            row = code.load(place, lanes)
            pivot = turned(code, builder.load(code.at(place, k)))
            pivot = builder.select(builder.fcmp_ordered(">", pivot, zero), pivot, nan)
            diagonal = builder.call(root, [pivot])
            row = builder.fmul(turned(code, row), code.splat(reciprocal(code, diagonal), lanes))
            code.store(row, place)
            builder.store(diagonal, code.at(place, k))
            with code.steps(n, 1, code.add(k, 1)) as i:
                other = code.at(tile, code.mul(i, lanes))
                factor = code.splat(builder.load(code.at(place, i)), lanes)
                code.store(code.fma(factor, row, code.load(other, lanes)), other)
        with code.steps(n, 1) as i, code.steps(code.add(i, 1), 1) as j:
            builder.store(builder.load(code.at(tile, code.mul(j, lanes), i)), code.at(a, code.mul(i, am), j))

    return code.define("cholesky_block", [code.pointer, SIZE, SIZE], write)


def lu(code: Code) -> ir.Function:
    """L (below the diagonal, unit) and U of ``P A = L U`` in the place of ``-A``, which has m rows and n <= m columns.

    ``pivots[k step]`` becomes the row that was exchanged with row k, as a float. A column without a pivot is left."""

    def write(code: Code, a: Any, am: Any, m: Any, n: Any, pivots: Any, step: Any, alone: Any) -> None:
        builder, one = code.builder, size(1)
        with builder.if_else(code.test(n, "<=", code.lanes)) as (block, large):
            with block:
                builder.call(lu_block(code), [a, am, m, n, pivots, step])
            with large:
                split = half(code, n)
                rest, down = code.sub(n, split), code.mul(split, am)
                right, below, late = code.at(a, split), code.at(a, down), code.at(pivots, code.mul(split, step))
                corner, left = code.at(below, split), code.sub(m, split)
                builder.call(lu(code), [a, am, m, split, pivots, step, alone])
                builder.call(exchange(code), [right, am, rest, pivots, step, split, m, BIT(0)])
                builder.call(solve(code), [a, am, one, BIT(1), BIT(0), right, am, one, split, rest, alone])
                add_product(code, below, am, one, right, am, one, corner, am, one, left, rest, split, alone)
                builder.call(lu(code), [corner, am, left, rest, late, step, alone])
                builder.call(exchange(code), [below, am, split, late, step, rest, left, BIT(0)])
                with code.steps(rest, 1) as k:
                    place = code.at(late, code.mul(k, step))
                    offset = builder.sitofp(split, code.element)
                    builder.store(builder.fadd(builder.load(place), offset), place)

    p = code.pointer
    return code.define("lu", [p, SIZE, SIZE, SIZE, p, SIZE, BIT], write)


def lu_block(code: Code) -> ir.Function:
    """`lu` of at most a vector of columns: every row is a register."""

    def write(code: Code, a: Any, am: Any, m: Any, n: Any, pivots: Any, step: Any) -> None:
        builder, lanes = code.builder, code.lanes
        absolute = builder.module.declare_intrinsic("llvm.fabs", [code.element])
        zero = ir.Constant(code.element, 0.0)
        all_lanes = ir.Constant(ir.VectorType(INT, lanes), list(range(lanes)))
        mask = code.mask(n, lanes)
        best, at = code.variables(1, code.element) + code.variables(1, SIZE)
        with code.steps(n, 1) as k:
            column = code.at(a, k)
            top = code.at(a, code.mul(k, am))
            builder.store(builder.call(absolute, [builder.load(code.at(top, k))]), best)
            builder.store(k, at)
            with code.steps(m, 1, code.add(k, 1)) as i:
                value = builder.call(absolute, [builder.load(code.at(column, code.mul(i, am)))])
                held = builder.load(best)
                better = builder.fcmp_ordered(">", value, held)
                builder.store(builder.select(better, value, held), best)
                builder.store(builder.select(better, i, builder.load(at)), at)
            chosen = builder.load(at)
            builder.store(builder.sitofp(chosen, code.element), code.at(pivots, code.mul(k, step)))
            other = code.at(a, code.mul(chosen, am))
            row = code.load(other, lanes, mask)
            code.store(code.load(top, lanes, mask), other, mask)
            lane = code.splat(builder.trunc(k, INT), lanes)
            later = builder.icmp_signed(">", all_lanes, lane)
            here = builder.icmp_signed("==", all_lanes, lane)
            code.store(row, top, mask)
            pivot = builder.load(code.at(top, k))
            row_of_u = turned(code, row)
            code.store(builder.select(builder.or_(later, here), row_of_u, row), top, mask)
            row_of_u = builder.select(later, row_of_u, code.zeros(lanes))
            scale = builder.select(builder.fcmp_ordered("==", pivot, zero), zero, reciprocal(code, pivot))
            with code.steps(m, 1, code.add(k, 1)) as i:
                place = code.at(a, code.mul(i, am))
                factor = code.splat(builder.fmul(builder.load(code.at(place, k)), scale), lanes)
                changed = code.fma(factor, row_of_u, code.load(place, lanes, mask))
                code.store(builder.select(here, factor, changed), place, mask)

    p = code.pointer
    return code.define("lu_block", [p, SIZE, SIZE, SIZE, p, SIZE], write)


def exchange(code: Code) -> ir.Function:
    """Row k of n elements exchanged with row ``pivots[k step]``, for k from 0 on, or with ``back`` down to 0.

    Whatever stands there, none but the ``rows`` of the matrix are touched."""

    def write(code: Code, a: Any, am: Any, n: Any, pivots: Any, step: Any, count: Any, rows: Any, back: Any) -> None:
        builder, lanes = code.builder, code.lanes
        name = f"llvm.fptosi.sat.i64.f{code.bits}"
        whole = declared(builder.module, ir.FunctionType(SIZE, [code.element]), name)
        with code.steps(count, 1) as t:
            k = builder.select(back, code.sub(code.sub(count, t), 1), t)
            p = builder.call(whole, [builder.load(code.at(pivots, code.mul(k, step)))])
            p = builder.select(code.test(p, "<", 0), size(0), code.smaller(p, code.sub(rows, 1)))
            with builder.if_then(code.test(p, "!=", k)):
                x, y = code.at(a, code.mul(k, am)), code.at(a, code.mul(p, am))

                def swap(j: ir.Value, mask: ir.Value | None, x: Any = x, y: Any = y) -> None:
                    one, other = code.load(code.at(x, j), lanes, mask), code.load(code.at(y, j), lanes, mask)
                    code.store(other, code.at(x, j), mask)
                    code.store(one, code.at(y, j), mask)

                over_row(code, n, swap)

    p = code.pointer
    return code.define("exchange", [p, SIZE, SIZE, p, SIZE, SIZE, SIZE, BIT], write)
