"""Determinants of matrices in the last two axes, from their LU factors; knows no kernels.

Source of the derivatives: Giles 2008, "Collected matrix derivative results for forward and reverse mode algorithmic
differentiation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from staticad.dtypes import int64
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import Formula
from staticad.ops import arithmetic, creation, indexing, logic, reductions, transcendental, views
from staticad.ops.linear_algebra import inv, lu, lu_solve
from staticad.ops.matrices import (
    WRITTEN_OUT,
    identity_like,
    multiplied,
    of_matrix,
    rows_and_columns,
    square,
    square_examples,
    transposed,
)
from staticad.ops.views import Array


def spread(x: Node, like: Node) -> Node:
    """A number for each matrix, repeated over it."""
    return views.broadcast(x, shape=like.shape, axes=tuple(range(len(x.shape))))


def total(x: Node) -> Node:
    """The sum of each matrix."""
    return reductions.sum_(x, axes=(len(x.shape) - 2, len(x.shape) - 1))


def pivots(f: Node) -> tuple[list[Node], list[Node]]:
    """The diagonal of U, and for each of its elements -1 where rows were exchanged, else 1.

    Elements of their own for a few, else one vector of them."""
    *batch, n, _ = f.shape
    k = len(batch)
    count = n if isinstance(n, int) and n <= WRITTEN_OUT else None

    def part(i: Any, j: Any, rows: Any) -> Node:
        start, size = (*(0 for _ in batch), i, j), (*batch, rows, 1)
        shape = tuple(batch) if count is not None else (*batch, rows)
        return views.reshape(views.slice_(f, start=start, size=size, step=(1,) * (k + 2)), shape=shape)

    if count is not None:
        diagonal = [part(i, i, 1) for i in range(count)]
        swaps = [part(i, n, 1) for i in range(count)]
        rows = [creation.fill(x, i) for i, x in enumerate(swaps)]
    else:
        line = creation.iota(shape=(n,), axis=0, dtype=int64)
        diagonal = [indexing.gather(f, line, line, axes=(k, k + 1), at=k)]
        swaps = [part(0, n, n)]
        rows = [creation.iota(shape=(*batch, n), axis=k, dtype=f.dtype)]
    signs = [
        logic.select(logic.equal(x, row), creation.fill(x, 1), creation.fill(x, -1))
        for x, row in zip(swaps, rows, strict=True)
    ]
    return diagonal, signs


def combined(terms: Sequence[Node], start: Node, op: Op, reduce: Op) -> Node:
    """All elements of ``terms`` combined, for each matrix."""
    axis = len(start.shape)
    found = [reduce(x, axes=(axis,)) if len(x.shape) > axis else x for x in terms]
    out = found[0] if found else start
    for x in found[1:]:
        out = op(out, x)
    return out


def _number_type(name: str) -> Callable[[ArrayType], ArrayType]:
    return lambda x: ArrayType(x.dtype, square(name, x).shape[:-2])


def _det_formula(node: Node) -> Node:
    diagonal, signs = pivots(lu(node.args[0]))
    signed = [x * sign for x, sign in zip(diagonal, signs, strict=True)]
    return combined(signed, creation.fill(node, 1), arithmetic.multiply, reductions.prod)


def _det_pull(node: Node, g: Node) -> Node:
    (x,) = node.args
    return spread(g, x) * cofactors(x)


def _det_push(node: Node, t: Node) -> Node:
    return total(t * cofactors(node.args[0]))


def _det_examples() -> Iterable[Example]:
    yield from square_examples()
    yield Example((np.array([[1.0, 2, 3], [2, 4, 6], [0, 1, 1]]),), smooth=False)


det = of_matrix("det", _number_type("det"), np.linalg.det, Formula(_det_formula), _det_examples, _det_pull, _det_push)


def _nudge(dtype: np.dtype[Any]) -> float:
    """What takes the place of a pivot that is 0: too small to count, large enough for its inverse."""
    return float(np.sqrt(np.finfo(dtype).tiny))


def _cofactors_formula(node: Node) -> Node:
    (x,) = node.args
    f = lu(x)
    row, column = rows_and_columns(f)
    zero = logic.logical_and(logic.equal(row, column), logic.equal(f, creation.fill(f, 0)))
    f = logic.select(zero, creation.fill(f, _nudge(f.dtype)), f)
    diagonal, signs = pivots(f)
    signed = [d * sign for d, sign in zip(diagonal, signs, strict=True)]
    one = creation.full(value=1.0, shape=x.shape[:-2], dtype=x.dtype)
    size = combined(signed, one, arithmetic.multiply, reductions.prod)
    return spread(size, x) * lu_solve(f, identity_like(x), trans=True)


def _cofactors_numpy(x: Array) -> Array:
    """By singular values, whose cofactors are the products of the others; those of an orthogonal matrix are its own."""
    if not x.size:
        return np.zeros_like(x)
    u, s, v = np.linalg.svd(x)
    others = np.where(np.eye(x.shape[-1], dtype=bool), 1, s[..., None, :]).prod(-1)
    signs = np.linalg.det(u) * np.linalg.det(v)
    return np.asarray(signs[..., None, None] * (u * others[..., None, :]) @ v, x.dtype)


def _cofactors_pull(node: Node, g: Node) -> Node:
    (x,) = node.args
    inverse = transposed(inv(x))
    across = multiplied("ij,jk->ik", inverse, multiplied("ji,jk->ik", g, node))
    return spread(total(g * node), x) * inverse - across


def _cofactors_push(node: Node, t: Node) -> Node:
    (x,) = node.args
    inverse = transposed(inv(x))
    across = multiplied("ij,jk->ik", multiplied("ij,kj->ik", node, t), inverse)
    return spread(total(inverse * t), x) * node - across


#: ``det(x) inv(x)'``, the derivative of the determinant. It is there for singular matrices too; its own derivatives
#: are not.
cofactors = of_matrix(
    "cofactors", partial(square, "cofactors"), _cofactors_numpy, Formula(_cofactors_formula), _det_examples,
    _cofactors_pull, _cofactors_push,
)  # fmt: skip


def _log_abs_det_formula(node: Node) -> Node:
    diagonal, _ = pivots(lu(node.args[0]))
    logs = [transcendental.log(arithmetic.abs_(x)) for x in diagonal]
    return combined(logs, creation.fill(node, 0), arithmetic.add, reductions.sum_)


def _log_abs_det_numpy(x: Array) -> Array:
    with np.errstate(divide="ignore"):
        return np.linalg.slogdet(x).logabsdet


def _log_abs_det_pull(node: Node, g: Node) -> Node:
    (x,) = node.args
    return spread(g, x) * transposed(inv(x))


def _log_abs_det_push(node: Node, t: Node) -> Node:
    return total(transposed(t) * inv(node.args[0]))


#: The logarithm of the absolute value of the determinant.
log_abs_det = of_matrix(
    "log_abs_det", _number_type("log_abs_det"), _log_abs_det_numpy, Formula(_log_abs_det_formula), square_examples,
    _log_abs_det_pull, _log_abs_det_push,
)  # fmt: skip


def _det_sign_formula(node: Node) -> Node:
    diagonal, signs = pivots(lu(node.args[0]))
    signed = [arithmetic.sign(x) * sign for x, sign in zip(diagonal, signs, strict=True)]
    return combined(signed, creation.fill(node, 1), arithmetic.multiply, reductions.prod)


def _det_sign_numpy(x: Array) -> Array:
    return np.linalg.slogdet(x).sign


#: The sign of the determinant: -1, 0 or 1.
det_sign = of_matrix("det_sign", _number_type("det_sign"), _det_sign_numpy, Formula(_det_sign_formula), _det_examples)
