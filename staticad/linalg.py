"""The array API's linear algebra, as far as it is made of products and sums; knows no decompositions."""

# ruff: noqa: A002  (the array API's names are Python's)

from __future__ import annotations

from staticad.errors import GraphError, ShapeError
from staticad.functions.elementwise import abs as absolute
from staticad.functions.indexing import take
from staticad.functions.manipulation import diagonal as _diagonal
from staticad.functions.manipulation import expand_dims, matrix_transpose, moveaxis, reshape, stack
from staticad.functions.operands import as_axes, as_axis, as_float, as_tensor, promoted, same_size, types_text
from staticad.functions.products import matmul, outer, tensordot, vecdot
from staticad.functions.reductions import max as max_of
from staticad.functions.reductions import min as min_of
from staticad.functions.reductions import norm as vector_norm_of
from staticad.functions.reductions import sum as sum_of
from staticad.tensor import ArrayLike, Axes, DType, Tensor

__all__ = [
    "cross",
    "diagonal",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "norm",
    "outer",
    "tensordot",
    "trace",
    "vecdot",
    "vector_norm",
]


def vector_norm(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """`staticad.norm`: ``sum(|x|**ord)**(1/ord)`` over ``axis``, all elements for None."""
    return vector_norm_of(x, axis=axis, keepdims=keepdims, ord=ord)


def matrix_norm(x: ArrayLike, /, *, keepdims: bool = False, ord: float | str = "fro") -> Tensor:
    """The norm of the matrices in the last two axes: ``"fro"``, or the largest (smallest, negative ``ord``) sum of
    absolute values of a column (1) or of a row (inf)."""
    t = as_float("matrix_norm", x)
    if t.ndim < 2:
        raise ShapeError(f"matrix_norm: {t.node.type} has fewer than 2 axes")
    if ord == "fro":
        return vector_norm_of(t, axis=(-2, -1), keepdims=keepdims)
    if ord in (1, -1, float("inf"), -float("inf")):
        summed, chosen = (-2, -1) if ord in (1, -1) else (-1, -2)
        sums = sum_of(absolute(t), axis=summed, keepdims=True)
        out = (max_of if float(ord) > 0 else min_of)(sums, axis=chosen, keepdims=True)
        return out if keepdims else reshape(out, out.shape[:-2])
    raise GraphError(f"matrix_norm: ord is 'fro', 1, -1, inf or -inf, not {ord!r}; the others need a decomposition")


def norm(x: ArrayLike, ord: float | str | None = None, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """NumPy's norm: of all elements, of vectors along one axis, or of matrices in two."""
    t = as_tensor(x)
    if ord is None:
        return vector_norm_of(t, axis=axis, keepdims=keepdims)
    axes = tuple(range(t.ndim)) if axis is None else as_axes("norm", axis, t.node.type)
    if len(axes) == 2:
        out = matrix_norm(moveaxis(t, axes, (-2, -1)), ord=ord)
        return expand_dims(out, axis=axes) if keepdims else out
    if isinstance(ord, str):
        raise GraphError(f"norm: ord={ord!r} is of matrices, and {t.node.type} with axis={axis} is not one")
    return vector_norm_of(t, axis=axis, keepdims=keepdims, ord=ord)


def diagonal(x: ArrayLike, /, *, offset: int = 0) -> Tensor:
    """The diagonals of the matrices in the last two axes: ``[..., n, m] -> [..., k]``."""
    return _diagonal(x, offset=offset, axis1=-2, axis2=-1)


def trace(x: ArrayLike, /, *, offset: int = 0, dtype: DType | None = None) -> Tensor:
    """The sum of the diagonal of the matrices in the last two axes."""
    return sum_of(diagonal(x, offset=offset), axis=-1, dtype=dtype)


def cross(x1: ArrayLike, x2: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """The cross product of the vectors of size 3 along ``axis``."""
    x, y = promoted(x1, x2)
    for t in (x, y):
        k = as_axis("cross", axis, t.ndim, t.node.type)
        same_size(t.shape[k], 3, lambda: f"cross: {types_text((x, y))} along axis {axis}")
    a, b = ([take(t, k, axis=axis) for k in range(3)] for t in (x, y))
    parts = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    return stack(parts, axis=axis)


def matrix_power(x: ArrayLike, n: int, /) -> Tensor:
    """The product of ``n >= 1`` copies of the square matrices in the last two axes, by repeated squaring."""
    if n < 1:
        raise GraphError(f"matrix_power: n is at least 1, not {n}; an inverse needs a decomposition")
    out, power = None, as_tensor(x)
    while n:
        if n & 1:
            out = power if out is None else matmul(out, power)
        n >>= 1
        power = matmul(power, power) if n else power
    assert out is not None
    return out
