"""Triangular systems solved in place, by recursion down to blocks of one vector; knows strides and vectors, not arrays.

What a solution is made of is kept negated until it is solved for: a right-hand side is given as its negative, so that
products need only add to it. The recursion halves the matrix (Elmroth, Gustavson, Jonsson and Kågström 2004,
"Recursive blocked algorithms"), so that nearly all of the work is done by the product kernel.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from staticad.runtime.kernels.products import FLOATS
from staticad.runtime.kernels.vectors import BIT, INT, SIZE, Code, size
from staticad.runtime.kinds import NAMED

CHAINS = 4  # of sums in a dot product


def add_product(
    code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, yn: Any, c: Any, cm: Any, cn: Any, m: Any, n: Any, k: Any,
    alone: Any,
) -> None:  # fmt: skip
    """``c[i, j] += sum_k x[i, k] y[k, j]`` by the product kernel."""
    zero = size(0)
    strides = [zero, xm, xk, zero, yk, yn, zero, cm, cn]
    args = [x, y, c, size(1), m, n, k, *strides, BIT(1), alone]
    FLOATS.call(code.builder, NAMED[f"float{code.bits}"], args)


def half(code: Code, n: ir.Value) -> ir.Value:
    """How much of ``n``, more than a vector, to split off: about half of it, in whole vectors."""
    rounded = code.builder.and_(code.builder.lshr(n, size(1)), size(-code.lanes))
    return code.builder.select(code.test(rounded, "==", 0), size(code.lanes), rounded)


def over_row(code: Code, n: ir.Value, step: Callable[[ir.Value, ir.Value | None], None]) -> None:
    """``step(j, mask)`` for the vectors of ``n`` contiguous elements, the last with a mask."""
    whole = code.builder.and_(n, size(-code.lanes))
    with code.steps(whole, code.lanes) as j:
        step(j, None)
    with code.builder.if_then(code.test(whole, "<", n)):
        step(whole, code.mask(code.sub(n, whole), code.lanes))


def turned(code: Code, x: ir.Value) -> ir.Value:
    """``0 - x``: what was kept negated, with zeros that are positive."""
    zero = ir.Constant(x.type, [0.0] * code.lanes if isinstance(x.type, ir.VectorType) else 0.0)
    return code.builder.fsub(zero, x)


def reciprocal(code: Code, x: ir.Value) -> ir.Value:
    return code.builder.fdiv(ir.Constant(code.element, 1.0), x)


def one_or(code: Code, unit: ir.Value, x: Callable[[], ir.Value]) -> ir.Value:
    """1 if ``unit``, else what ``x`` computes."""
    return code.builder.select(unit, ir.Constant(code.element, 1.0), x())


def solve(code: Code) -> ir.Function:
    """X of ``A X = B`` in the place of ``-B``: element (i, j) at ``b[i bm + j bn]``, (i, k) of A at ``a[i am + k ak]``.

    A is n x n and lower triangular, or upper with ``back``; with ``unit``, its diagonal is taken to be 1. B is n x m,
    and its rows are contiguous (bn = 1), or its columns are (bm = 1), which is for lower ones that are not unit."""

    def write(
        code: Code, a: Any, am: Any, ak: Any, unit: Any, back: Any, b: Any, bm: Any, bn: Any, n: Any, m: Any, alone: Any
    ) -> None:
        builder = code.builder
        with builder.if_else(code.test(m, "==", 1)) as (vector, matrix):
            with vector:
                builder.call(solve_vector(code), [a, am, ak, unit, back, b, bm, n])
            with matrix, builder.if_else(code.test(n, "<=", code.lanes)) as (block, large):
                with block, builder.if_else(code.test(bn, "==", 1)) as (rows, columns):
                    with rows:
                        builder.call(solve_rows(code), [a, am, ak, unit, back, b, bm, n, m])
                    with columns:
                        builder.call(solve_columns(code), [a, am, ak, b, bn, n, m])
                with large:
                    split = half(code, n)
                    rest = code.sub(n, split)
                    first, second = builder.select(back, rest, split), builder.select(back, split, rest)
                    at, then = builder.select(back, split, size(0)), builder.select(back, size(0), split)
                    me = solve(code)
                    b1, b2 = code.at(b, code.mul(at, bm)), code.at(b, code.mul(then, bm))
                    a1 = code.at(a, code.mul(at, code.add(am, ak)))
                    a2 = code.at(a, code.mul(then, code.add(am, ak)))
                    across = code.at(a, code.mul(then, am), code.mul(at, ak))
                    builder.call(me, [a1, am, ak, unit, back, b1, bm, bn, first, m, alone])
                    add_product(code, across, am, ak, b1, bm, bn, b2, bm, bn, second, m, first, alone)
                    builder.call(me, [a2, am, ak, unit, back, b2, bm, bn, second, m, alone])

    p = code.pointer
    return code.define("solve", [p, SIZE, SIZE, BIT, BIT, p, SIZE, SIZE, SIZE, SIZE, BIT], write)


def solve_rows(code: Code) -> ir.Function:
    """`solve` for n of at most a vector: every row is its right-hand side and multiples of the rows before it."""

    def write(code: Code, a: Any, am: Any, ak: Any, unit: Any, back: Any, b: Any, bm: Any, n: Any, m: Any) -> None:
        builder, lanes = code.builder, code.lanes
        scale = code.space(lanes)

        def row(t: ir.Value) -> ir.Value:
            return builder.select(back, code.sub(code.sub(n, t), 1), t)

        with code.steps(n, 1) as t:
            i = row(t)
            inverse = one_or(
                code, unit, lambda: reciprocal(code, builder.load(code.at(a, code.mul(i, code.add(am, ak)))))
            )
            builder.store(inverse, code.at(scale, t))

        def columns(j: ir.Value, mask: ir.Value | None) -> None:
            (acc,) = code.variables(1, code.kind(lanes))
            with code.steps(n, 1) as t:
                i = row(t)
                place = code.at(b, code.mul(i, bm), j)
                builder.store(code.load(place, lanes, mask), acc)
                with code.steps(t, 1) as s:
                    k = row(s)
                    factor = code.splat(builder.load(code.at(a, code.mul(i, am), code.mul(k, ak))), lanes)
                    solved = code.load(code.at(b, code.mul(k, bm), j), lanes, mask)
                    builder.store(code.fma(factor, solved, builder.load(acc)), acc)
                inverse = code.splat(builder.load(code.at(scale, t)), lanes)
                code.store(builder.fmul(turned(code, builder.load(acc)), inverse), place, mask)

        over_row(code, m, columns)

    p = code.pointer
    return code.define("solve_rows", [p, SIZE, SIZE, BIT, BIT, p, SIZE, SIZE, SIZE], write)


def solve_columns(code: Code) -> ir.Function:
    """`solve` for lower triangular A of at most a vector, and columns of B that are contiguous: each is a register."""

    def write(code: Code, a: Any, am: Any, ak: Any, b: Any, bn: Any, n: Any, m: Any) -> None:
        builder, lanes = code.builder, code.lanes
        below, scale = code.space(lanes * lanes), code.space(lanes)
        for k in range(lanes):
            code.store(code.zeros(lanes), code.at(below, k * lanes))
        code.store(code.zeros(lanes), scale)
        with code.steps(n, 1) as k:
            diagonal = builder.load(code.at(a, code.mul(k, code.add(am, ak))))
            builder.store(reciprocal(code, diagonal), code.at(scale, k))
            with code.steps(n, 1, code.add(k, 1)) as i:
                value = builder.load(code.at(a, code.mul(i, am), code.mul(k, ak)))
                builder.store(value, code.at(below, code.mul(k, lanes), i))
        scales = code.load(scale, lanes)
        factors = [code.load(code.at(below, k * lanes), lanes) for k in range(lanes - 1)]
        mask = code.mask(n, lanes)
        undefined = ir.Constant(code.kind(lanes), ir.Undefined)
        with code.steps(m, 1) as j:
            place = code.at(b, code.mul(j, bn))
            acc = code.load(place, lanes, mask)
            for k, factor in enumerate(factors):
                same = ir.Constant(ir.VectorType(INT, lanes), [k] * lanes)
                solved = builder.shuffle_vector(builder.fmul(turned(code, acc), scales), undefined, same)
                later = ir.Constant(ir.VectorType(BIT, lanes), [lane > k for lane in range(lanes)])
                acc = builder.select(later, code.fma(solved, factor, acc), acc)  # a NaN stays with those after it
            code.store(builder.fmul(turned(code, acc), scales), place, mask)

    p = code.pointer
    return code.define("solve_columns", [p, SIZE, SIZE, p, SIZE, SIZE, SIZE], write)


def solve_vector(code: Code) -> ir.Function:
    """`solve` for one right-hand side: by dot products where rows of A are contiguous, else by multiples of columns."""

    def write(code: Code, a: Any, am: Any, ak: Any, unit: Any, back: Any, b: Any, bm: Any, n: Any) -> None:
        builder, lanes = code.builder, code.lanes
        plain = code.test(bm, "==", 1)
        by_dots = builder.and_(plain, code.test(ak, "==", 1))
        by_columns = builder.and_(plain, code.test(am, "==", 1))

        def finish(i: ir.Value, value: ir.Value) -> ir.Value:
            """Row i solved for, from the negative of what is left of its right-hand side."""
            diagonal = one_or(code, unit, lambda: builder.load(code.at(a, code.mul(i, code.add(am, ak)))))
            out = builder.fdiv(turned(code, value), diagonal)
            builder.store(out, code.at(b, code.mul(i, bm)))
            return out

        def rows() -> Any:
            return code.steps(n, 1)

        def row(t: ir.Value) -> ir.Value:
            return builder.select(back, code.sub(code.sub(n, t), 1), t)

        def dots() -> None:
            sums = code.variables(CHAINS, code.kind(lanes))
            with rows() as t:
                i = row(t)
                first = builder.select(back, code.add(i, 1), size(0))
                x, y = code.at(a, code.mul(i, am), first), code.at(b, first)
                for place in sums:
                    builder.store(code.zeros(lanes), place)

                def step(p: ir.Value, chain: int, mask: ir.Value | None, x: Any = x, y: Any = y) -> None:
                    acc = builder.load(sums[chain])
                    other = code.load(code.at(y, p), lanes, mask)
                    builder.store(code.fma(code.load(code.at(x, p), lanes, mask), other, acc), sums[chain])

                whole = builder.and_(t, size(-lanes * CHAINS))
                with code.steps(whole, lanes * CHAINS) as p:
                    for chain in range(CHAINS):
                        step(code.add(p, chain * lanes), chain, None)
                with code.steps(t, lanes, whole) as p:
                    step(p, 0, code.mask(code.sub(t, p), lanes))
                found = [builder.load(place) for place in sums]
                while len(found) > 1:
                    found = [builder.fadd(u, v) for u, v in zip(found[::2], found[1::2], strict=True)]
                finish(i, builder.fadd(builder.load(code.at(b, i)), code.total(found[0])))

        def columns(contiguous: bool) -> None:
            with rows() as t:
                i = row(t)
                solved = finish(i, builder.load(code.at(b, code.mul(i, bm))))
                first, left = builder.select(back, size(0), code.add(i, 1)), code.sub(code.sub(n, t), 1)
                x = code.at(a, code.mul(first, am), code.mul(i, ak))
                y = code.at(b, code.mul(first, bm))
                if contiguous:
                    factor = code.splat(solved, lanes)

                    def step(p: ir.Value, mask: ir.Value | None, x: Any = x, y: Any = y, factor: Any = factor) -> None:
                        place = code.at(y, p)
                        acc = code.load(place, lanes, mask)
                        code.store(code.fma(factor, code.load(code.at(x, p), lanes, mask), acc), place, mask)

                    over_row(code, left, step)
                else:
                    with code.steps(left, 1) as p:
                        place = code.at(y, code.mul(p, bm))
                        product = builder.fmul(solved, builder.load(code.at(x, code.mul(p, am))))
                        builder.store(builder.fadd(builder.load(place), product), place)

        with builder.if_else(by_dots) as (then, other):
            with then:
                dots()
            with other, builder.if_else(by_columns) as (then, other):
                with then:
                    columns(True)
                with other:
                    columns(False)

    p = code.pointer
    return code.define("solve_vector", [p, SIZE, SIZE, BIT, BIT, p, SIZE, SIZE], write)
