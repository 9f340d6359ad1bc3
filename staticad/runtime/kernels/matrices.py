"""Factors of a batch of matrices and solutions of their systems, as generated code calls them; knows no graphs.

Nothing here fails: a matrix that has no factors gives NaN, one that is singular what dividing by zero gives. Arrays are
C-contiguous; leading axes are the batch.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.runtime.kernels.factors import cholesky, exchange, lu
from staticad.runtime.kernels.shared import FEW, Shared
from staticad.runtime.kernels.triangular import over_row, solve
from staticad.runtime.kernels.values import INTP, Value, View, direct
from staticad.runtime.kernels.vectors import BIT, SIZE, Code, size
from staticad.runtime.kinds import boolean


def begin(module: ir.Module, symbol: str, element: Any, arrays: int, sizes: int, flags: int) -> tuple[Code, list[Any]]:
    """A function of so many arrays, sizes and truth values, the last of which is whether the calling thread does it."""
    kind = element.memory
    kinds = [kind.as_pointer()] * arrays + [SIZE] * sizes + [BIT] * flags
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), symbol)
    for arg in function.args[:arrays]:
        arg.add_attribute("noalias")
    code = Code(ir.IRBuilder(function.append_basic_block("entry")), kind, element.bitwidth)
    return code, list(function.args)


def copy_negative(code: Code, out: ir.Value, x: ir.Value, count: ir.Value) -> None:
    def step(j: ir.Value, mask: ir.Value | None) -> None:
        code.store(code.builder.fneg(code.load(code.at(x, j), code.lanes, mask)), code.at(out, j), mask)

    over_row(code, count, step)


def write_cholesky(module: ir.Module, symbol: str, element: Any) -> None:
    code, (out, x, batch, n, alone) = begin(module, symbol, element, 2, 2, 1)
    square = code.mul(n, n)
    with code.steps(batch, 1) as k:
        a, from_ = code.at(out, code.mul(k, square)), code.at(x, code.mul(k, square))
        copy_negative(code, a, from_, square)
        code.builder.call(cholesky(code), [a, n, n, alone])
        with code.steps(n, 1) as i:
            first = code.add(i, 1)
            row = code.at(a, code.mul(i, n), first)
            over_row(code, code.sub(n, first), lambda j, mask, row=row: clear(code, row, j, mask))
    code.builder.ret_void()


def clear(code: Code, row: ir.Value, j: ir.Value, mask: ir.Value | None) -> None:
    code.store(code.zeros(code.lanes), code.at(row, j), mask)


def write_lu(module: ir.Module, symbol: str, element: Any) -> None:
    code, (out, x, batch, n, alone) = begin(module, symbol, element, 2, 2, 1)
    wide = code.add(n, 1)
    with code.steps(batch, 1) as k:
        a, from_ = code.at(out, code.mul(code.mul(k, n), wide)), code.at(x, code.mul(code.mul(k, n), n))
        with code.steps(n, 1) as i:
            copy_negative(code, code.at(a, code.mul(i, wide)), code.at(from_, code.mul(i, n)), n)
        code.builder.call(lu(code), [a, wide, n, n, code.at(a, n), wide, alone])
    code.builder.ret_void()


def write_lu_solve(module: ir.Module, symbol: str, element: Any) -> None:
    code, (out, f, b, batch, n, m, trans, alone) = begin(module, symbol, element, 3, 3, 2)
    builder, one, yes, no = code.builder, size(1), BIT(1), BIT(0)
    wide, count = code.add(n, 1), code.mul(n, m)
    with code.steps(batch, 1) as k:
        a = code.at(f, code.mul(code.mul(k, n), wide))
        x, from_ = (code.at(p, code.mul(k, count)) for p in (out, b))
        copy_negative(code, x, from_, count)
        with builder.if_else(trans) as (then, other):
            with then:  # A' = U' L' P
                builder.call(solve(code), [a, one, wide, no, no, x, m, one, n, m, alone])
                copy_negative(code, x, x, count)
                builder.call(solve(code), [a, one, wide, yes, yes, x, m, one, n, m, alone])
                builder.call(exchange(code), [x, m, m, code.at(a, n), wide, n, n, yes])
            with other:
                builder.call(exchange(code), [x, m, m, code.at(a, n), wide, n, n, no])
                builder.call(solve(code), [a, wide, one, yes, no, x, m, one, n, m, alone])
                copy_negative(code, x, x, count)
                builder.call(solve(code), [a, wide, one, no, yes, x, m, one, n, m, alone])
    builder.ret_void()


def write_solve_triangular(module: ir.Module, symbol: str, element: Any) -> None:
    code, (out, a, b, batch, n, m, lower, trans, unit, alone) = begin(module, symbol, element, 3, 3, 4)
    builder, one = code.builder, size(1)
    count, square = code.mul(n, m), code.mul(n, n)
    down, across = builder.select(trans, one, n), builder.select(trans, n, one)
    back = builder.icmp_unsigned("==", lower, trans)
    with code.steps(batch, 1) as k:
        x, from_, left = (
            code.at(out, code.mul(k, count)),
            code.at(b, code.mul(k, count)),
            code.at(a, code.mul(k, square)),
        )
        copy_negative(code, x, from_, count)
        builder.call(solve(code), [left, down, across, unit, back, x, m, one, n, m, alone])
    builder.ret_void()


CHOLESKY, LU, LU_SOLVE, SOLVE_TRIANGULAR = (
    Shared(write, FEW) for write in (write_cholesky, write_lu, write_lu_solve, write_solve_triangular)
)


def call(shared: Shared, walk: Any, arrays: Sequence[View], sizes: int, flags: Sequence[Value]) -> None:
    """``sizes``: how many of the last axes of the last array are no batch, all of which are told."""
    last = arrays[-1]
    batch: Any = ir.Constant(INTP, 1)
    for extent in last.shape[:-2]:
        batch = walk.builder.mul(batch, extent)
    told = [*last.shape[-2:]][:sizes]
    given = [walk.cast(flag, boolean) for flag in flags]
    shared.call(walk.builder, last.kind.dtype, [*(x.data for x in arrays), batch, *told, *given])


# In plain Python. What has no factors is rare enough for loops over the batch.


def plain_cholesky(out: Any, x: Any, alone: bool) -> None:
    n = x.shape[-1]
    out[...] = 0
    for at in np.ndindex(x.shape[:-2]):
        l, a = out[at], x[at]
        for k in range(n):
            rest = a[k:, k] - l[k:, :k] @ l[k, :k]
            l[k:, k] = rest / np.sqrt(rest[0]) if rest[0] > 0 else np.nan


def plain_lu(out: Any, x: Any, alone: bool) -> None:
    n = x.shape[-1]
    out[..., :n] = x
    for at in np.ndindex(x.shape[:-2]):
        f, a = out[at], out[at][:, :n]
        for k in range(n):
            p = k + int(np.argmax(np.abs(a[k:, k])))
            f[k, n] = p
            a[[k, p]] = a[[p, k]]
            if a[k, k] != 0:
                a[k + 1 :, k] /= a[k, k]
            a[k + 1 :, k + 1 :] -= np.outer(a[k + 1 :, k], a[k, k + 1 :])


def plain_solve(a: Any, b: Any, lower: bool, unit: bool) -> None:
    """``b`` becomes the solution of a triangular system."""
    n = len(a)
    for t in range(n):
        i = t if lower else n - 1 - t
        solved = slice(0, i) if lower else slice(i + 1, n)
        b[i] -= a[i, solved] @ b[solved]
        if not unit:
            b[i] /= a[i, i]


def plain_lu_solve(out: Any, f: Any, b: Any, trans: bool, alone: bool) -> None:
    n = b.shape[-2]
    out[...] = b
    for at in np.ndindex(b.shape[:-2]):
        x, a, pivots = out[at], f[at][:, :n], np.clip(f[at][:, n], 0, max(n - 1, 0)).astype(int)
        if trans:
            plain_solve(a.T, x, True, False)
            plain_solve(a.T, x, False, True)
        for k in reversed(range(n)) if trans else range(n):
            x[[k, pivots[k]]] = x[[pivots[k], k]]
        if not trans:
            plain_solve(a, x, True, True)
            plain_solve(a, x, False, False)


def plain_solve_triangular(out: Any, a: Any, b: Any, lower: bool, trans: bool, unit: bool, alone: bool) -> None:
    out[...] = b
    for at in np.ndindex(b.shape[:-2]):
        plain_solve(a[at].T if trans else a[at], out[at], lower != trans, unit)


@direct(plain_cholesky)
def factor_cholesky(walk: Any, out: View, x: View, alone: Value) -> None:
    call(CHOLESKY, walk, [out, x], 1, [alone])


@direct(plain_lu)
def factor_lu(walk: Any, out: View, x: View, alone: Value) -> None:
    call(LU, walk, [out, x], 1, [alone])


@direct(plain_lu_solve)
def lu_solve(walk: Any, out: View, f: View, b: View, trans: Value, alone: Value) -> None:
    call(LU_SOLVE, walk, [out, f, b], 2, [trans, alone])


@direct(plain_solve_triangular)
def solve_triangular(
    walk: Any, out: View, a: View, b: View, lower: Value, trans: Value, unit: Value, alone: Value
) -> None:
    call(SOLVE_TRIANGULAR, walk, [out, a, b], 2, [lower, trans, unit, alone])
