"""Factors, systems and inverses of matrices in the last two axes, batched over the others; knows no kernels.

Sources of the derivatives: Giles 2008, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation"; of Cholesky factors, Murray 2016, "Differentiation of the Cholesky decomposition", arXiv:1602.07527.

Nothing here raises for what a matrix holds: one that is not positive definite has NaN in its Cholesky factor, a
singular one gives infinities and NaN, as in JAX.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from staticad.errors import ShapeError
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import Call, Formula
from staticad.ops.matrices import (
    Array,
    halved,
    identity_like,
    lower_part,
    multiplied,
    of_matrix,
    solve_lanes,
    square,
    square_examples,
    strict_part,
    system,
    systems,
    transposed,
)
from staticad.ops.rules import accumulate, no_jvp, no_vjp, require_kind, types_text
from staticad.ops.views import sample
from staticad.shapes import add

# cholesky -----------------------------------------------------------------------------------------------------------


def _cholesky_numpy(x: Array) -> Array:
    out = np.zeros_like(x)
    for k in range(x.shape[-1]):
        column = x[..., k:, k] - np.squeeze(out[..., k:, :k] @ out[..., k, :k, None], -1)
        with np.errstate(invalid="ignore"):
            pivot = np.where(column[..., :1] > 0, column[..., :1], np.nan)
            out[..., k:, k] = column / np.sqrt(pivot)
    return out


def _cholesky_pull(node: Node, g: Node) -> Node:
    p = halved(multiplied("ki,kj->ij", node, lower_part(g)))
    y = solve_triangular(node, p, lower=True, trans=True, unit=False)
    s = solve_triangular(node, transposed(y), lower=True, trans=True, unit=False)
    return halved(s + transposed(s))


def _cholesky_push(node: Node, t: Node) -> Node:
    whole = lower_part(t) + transposed(strict_part(t, True))
    y = solve_triangular(node, whole, lower=True, trans=False, unit=False)
    z = solve_triangular(node, transposed(y), lower=True, trans=False, unit=False)
    return multiplied("ij,jk->ik", node, halved(z))


def _cholesky_examples() -> Iterable[Example]:
    for x in systems((3, 3), (1, 1), (2, 4, 4), (6, 6)):
        yield Example((x @ np.swapaxes(x, -1, -2) + np.triu(x, 1),))
    yield Example((np.zeros((2, 0, 0), "float32"),))
    yield Example((np.eye(20, dtype="float32") * 3 + 1,))
    yield Example((np.array([[4.0, 0, 0], [2, 1, 0], [0, 1, 5]]),), smooth=False)


#: The lower triangular L of ``x = L L'``; reads, and has a derivative by, the lower triangle alone. NaN from the first
#: column on whose pivot is not positive.
cholesky = of_matrix(
    "cholesky", partial(square, "cholesky"), _cholesky_numpy, Call("factor_cholesky"), _cholesky_examples,
    _cholesky_pull, _cholesky_push,
)  # fmt: skip


# solve_triangular -----------------------------------------------------------------------------------------------------


def _triangular_type(a: ArrayType, b: ArrayType, *, lower: bool, trans: bool, unit: bool) -> ArrayType:
    return system("solve_triangular", a, b)


def _triangular_numpy(a: Array, b: Array, *, lower: bool, trans: bool, unit: bool) -> Array:
    if trans:
        a, lower = np.swapaxes(a, -1, -2), not lower
    out, n = np.array(b), a.shape[-1]
    with np.errstate(all="ignore"):
        for t in range(n):
            i = t if lower else n - 1 - t
            known = slice(0, i) if lower else slice(i + 1, n)
            rest = out[..., i, :] - np.squeeze(a[..., i : i + 1, known] @ out[..., known, :], -2)
            out[..., i, :] = rest if unit else rest / a[..., i, i, None]
    return out


def _triangle_of(g: Node, *, lower: bool, unit: bool) -> Node:
    """What the solution of a triangular system depends on."""
    if unit:
        return strict_part(g, lower)
    return lower_part(g) if lower else transposed(lower_part(transposed(g)))


def _triangular_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    a, lower, trans, unit = node.args[0], node.params["lower"], node.params["trans"], node.params["unit"]
    gb = solve_triangular(a, g, lower=lower, trans=not trans, unit=unit)
    ga = -(multiplied("ik,jk->ij", node, gb) if trans else multiplied("ik,jk->ij", gb, node))
    return [_triangle_of(ga, lower=lower, unit=unit), gb]


def _triangular_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    ta, tb = tangents
    params = node.params
    moved = None
    if ta is not None:
        moved = _triangle_of(ta, lower=params["lower"], unit=params["unit"])
        moved = -multiplied("ji,jk->ik" if params["trans"] else "ij,jk->ik", moved, node)
    right = accumulate((tb, moved))
    return None if right is None else solve_triangular(node.args[0], right, **params)


def _triangular_examples() -> Iterable[Example]:
    for k in range(8):
        lower, trans, unit = bool(k & 1), bool(k & 2), bool(k & 4)
        (a,) = systems((3, 3) if k % 3 else (2, 5, 5))
        yield Example((a, sample(*a.shape[:-1], 1 + k % 3, seed=k)), {"lower": lower, "trans": trans, "unit": unit})
    params = {"lower": True, "trans": False, "unit": False}
    yield Example((*systems((2, 2), dtype="float32"), sample(2, 0, dtype="float32")), params)
    yield Example((np.zeros((0, 0)), np.zeros((0, 3))), params)
    yield Example((*systems((20, 20), dtype="float32"), sample(20, 3, dtype="float32")), params)
    yield Example((np.array([[0.0, 0], [1, 1]]), np.array([[1.0], [1]])), params, smooth=False)


#: X of ``A X = B``, or of ``A' X = B`` with ``trans``, for A of which only one triangle is read, with a diagonal of 1
#: where ``unit``.
solve_triangular = Op(
    name="solve_triangular",
    infer=_triangular_type,
    numpy=_triangular_numpy,
    lower=Call("solve_triangular", lambda params: tuple(str(params[k]) for k in ("lower", "trans", "unit"))),
    vjp=_triangular_vjp,
    jvp=_triangular_jvp,
    examples=_triangular_examples,
    batch=solve_lanes,
)


# lu and lu_solve ------------------------------------------------------------------------------------------------------


def _lu_type(x: ArrayType) -> ArrayType:
    *batch, n, _ = square("lu", x).shape
    return ArrayType(x.dtype, (*batch, n, add(n, 1)))


def _lu_numpy(x: Array) -> Array:
    n = x.shape[-1]
    out = np.zeros((*x.shape[:-1], n + 1), x.dtype)
    out[..., :n] = x
    for at in np.ndindex(x.shape[:-2]):
        f = out[at]
        for k in range(n):
            p = k + int(np.argmax(np.abs(f[k:, k])))
            f[k, n] = p
            f[[k, p], :n] = f[[p, k], :n]
            if f[k, k] != 0:
                f[k + 1 :, k] /= f[k, k]
            f[k + 1 :, k + 1 : n] -= np.outer(f[k + 1 :, k], f[k, k + 1 : n])
    return out


def _lu_examples() -> Iterable[Example]:
    for x in systems((3, 3), (3, 3), (1, 1), (2, 4, 4), (0, 0), (6, 6)):
        yield Example((x,))
    yield Example((sample(20, 20) / 9 + np.roll(np.eye(20), 3, axis=0),))
    yield Example((np.array([[0.0, 0, 1], [0, 0, 2], [3, 1, 1]]),))


#: The factors of ``P x = L U`` with partial pivoting, in one matrix; and, in one more column, the rows that were
#: exchanged with row 0, 1, ... in turn. Those who need them derive what they compute of them by x itself.
lu = of_matrix("lu", _lu_type, _lu_numpy, Call("factor_lu"), _lu_examples)


def _lu_solve_type(f: ArrayType, b: ArrayType, *, trans: bool) -> ArrayType:
    require_kind("lu_solve", "f", f, b)
    if b.ndim != f.ndim or b.shape[:-1] != f.shape[:-1] or b.dtype != f.dtype or f.shape[-1] != add(f.shape[-2], 1):
        raise ShapeError(f"lu_solve: {types_text((f, b))}: factors, and a right-hand side of the same batch and rows")
    return b


def _lu_solve_numpy(f: Array, b: Array, *, trans: bool) -> Array:
    n = f.shape[-2]
    a, x, swaps = f[..., :n], np.array(b), np.clip(f[..., n], 0, max(n - 1, 0)).astype(int)

    def exchange(order: Sequence[int]) -> None:
        for at in np.ndindex(x.shape[:-2]):
            for k in order:
                p = swaps[at][k]
                x[at][[k, p]] = x[at][[p, k]]

    if trans:
        x = _triangular_numpy(a, x, lower=False, trans=True, unit=False)
        x = _triangular_numpy(a, x, lower=True, trans=True, unit=True)
        exchange(range(n)[::-1])
        return x
    exchange(range(n))
    x = _triangular_numpy(a, x, lower=True, trans=False, unit=True)
    return _triangular_numpy(a, x, lower=False, trans=False, unit=False)


def _lu_solve_examples() -> Iterable[Example]:
    for k, x in enumerate(systems((3, 3), (3, 3), (1, 1), (2, 4, 4), (6, 6), (2, 20, 20))):
        for trans in (False, True):
            yield Example((_lu_numpy(x), sample(*x.shape[:-1], 1 + k % 2)), {"trans": trans})
    yield Example((np.zeros((2, 0, 1)), np.zeros((2, 0, 3))), {"trans": False})


#: X of ``A X = B``, or of ``A' X = B`` with ``trans``, from the factors that `lu` gives of A.
lu_solve = Op(
    name="lu_solve",
    infer=_lu_solve_type,
    numpy=_lu_solve_numpy,
    lower=Call("lu_solve", lambda params: (str(params["trans"]),)),
    vjp=no_vjp,
    jvp=no_jvp,
    examples=_lu_solve_examples,
    differentiable=False,
    batch=solve_lanes,
)


# solve and inv --------------------------------------------------------------------------------------------------------


def _solve_type(a: ArrayType, b: ArrayType, *, trans: bool) -> ArrayType:
    return system("solve", a, b)


def _solve_numpy(a: Array, b: Array, *, trans: bool) -> Array:
    return _lu_solve_numpy(_lu_numpy(a), b, trans=trans)


def _solve_formula(node: Node) -> Node:
    a, b = node.args
    return lu_solve(lu(a), b, trans=node.params["trans"])


def _solve_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    a, trans = node.args[0], node.params["trans"]
    gb = solve(a, g, trans=not trans)
    return [-(multiplied("ik,jk->ij", node, gb) if trans else multiplied("ik,jk->ij", gb, node)), gb]


def _solve_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    ta, tb = tangents
    trans: bool = node.params["trans"]
    moved = None if ta is None else -multiplied("ji,jk->ik" if trans else "ij,jk->ik", ta, node)
    right = accumulate((tb, moved))
    return None if right is None else solve(node.args[0], right, trans=trans)


def _solve_examples() -> Iterable[Example]:
    for k, a in enumerate(systems((3, 3), (3, 3), (1, 1), (2, 4, 4), (6, 6))):
        for trans in (False, True):
            yield Example((a, sample(*a.shape[:-1], 1 + k % 3)), {"trans": trans})
    yield Example((np.zeros((0, 0)), np.zeros((0, 3))), {"trans": False})
    yield Example((*systems((0, 2, 2)), np.zeros((0, 2, 1))), {"trans": True})
    yield Example((*systems((20, 20), dtype="float32"), sample(20, 3, dtype="float32")), {"trans": False})


#: X of ``A X = B``, or of ``A' X = B`` with ``trans``.
solve = Op(
    name="solve",
    infer=_solve_type,
    numpy=_solve_numpy,
    lower=Formula(_solve_formula),
    vjp=_solve_vjp,
    jvp=_solve_jvp,
    examples=_solve_examples,
    batch=solve_lanes,
)


def _inv_numpy(x: Array) -> Array:
    return _solve_numpy(x, np.broadcast_to(np.eye(x.shape[-1], dtype=x.dtype), x.shape), trans=False)


def _inv_formula(node: Node) -> Node:
    (x,) = node.args
    return lu_solve(lu(x), identity_like(x), trans=False)


def _inv_pull(node: Node, g: Node) -> Node:
    return -multiplied("ij,kj->ik", multiplied("ji,jk->ik", node, g), node)


def _inv_push(node: Node, t: Node) -> Node:
    return -multiplied("ij,jk->ik", multiplied("ij,jk->ik", node, t), node)


inv = of_matrix("inv", partial(square, "inv"), _inv_numpy, Formula(_inv_formula), square_examples, _inv_pull, _inv_push)
