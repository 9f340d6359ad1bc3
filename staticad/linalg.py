"""The array API's linear algebra, and SciPy's triangular systems; knows no kernels.

Nothing here raises for what a matrix holds, where NumPy raises `LinAlgError`: one that is not positive definite has NaN
in its Cholesky factor, and solving with a singular one gives infinities and NaN.
"""

# ruff: noqa: A002  (the array API's names are Python's)

from __future__ import annotations

from typing import NamedTuple

from staticad.errors import GraphError, ShapeError
from staticad.functions.elementwise import abs as absolute
from staticad.functions.indexing import take
from staticad.functions.manipulation import diagonal as _diagonal
from staticad.functions.manipulation import expand_dims, matrix_transpose, moveaxis, reshape, stack
from staticad.functions.operands import (
    as_axes,
    as_axis,
    as_float,
    as_integer,
    as_tensor,
    assume,
    broadcast_shape,
    fit,
    promoted,
    same_size,
    types_text,
)
from staticad.functions.products import matmul, outer, tensordot, vecdot
from staticad.functions.reductions import max as max_of
from staticad.functions.reductions import min as min_of
from staticad.functions.reductions import norm as vector_norm_of
from staticad.functions.reductions import sum as sum_of
from staticad.ops import determinants, linear_algebra
from staticad.ops.matrices import identity_like
from staticad.tensor import ArrayLike, Axes, DType, Tensor, wrap

__all__ = [
    "cholesky",
    "cross",
    "det",
    "diagonal",
    "inv",
    "matmul",
    "matrix_norm",
    "matrix_power",
    "matrix_transpose",
    "norm",
    "outer",
    "slogdet",
    "solve",
    "solve_triangular",
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

    def say() -> str:
        return f"cross: {types_text((x1, x2))} along axis {axis}"

    def of_three(t: Tensor) -> Tensor:
        k = as_axis("cross", axis, t.ndim, t.node.type)
        same_size(t.shape[k], 3, say)
        return wrap(assume(t.node, tuple(3 if a == k else d for a, d in enumerate(t.shape)), say))

    x, y = of_three(x), of_three(y)
    a, b = ([take(t, k, axis=axis) for k in range(3)] for t in (x, y))
    parts = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    return stack(parts, axis=axis)


def matrix_power(x: ArrayLike, n: int, /) -> Tensor:
    """The product of ``n`` copies of the square matrices in the last two axes, or of ``-n`` of their inverses, by
    repeated squaring."""
    n = as_integer("matrix_power: the power", n)
    if n == 0:
        t = _square("matrix_power", as_tensor(x))
        return wrap(identity_like(t.node))
    out, power = None, inv(x) if n < 0 else as_tensor(x)
    n = -n if n < 0 else n
    while n:
        if n & 1:
            out = power if out is None else matmul(out, power)
        n >>= 1
        power = matmul(power, power) if n else power
    assert out is not None
    return out


# factors and systems --------------------------------------------------------------------------------------------------


def _square(name: str, x: Tensor) -> Tensor:
    """``x``, whose last two axes are taken to be of one size."""
    if x.ndim < 2:
        raise ShapeError(f"{name}: {x.node.type} is no matrix; it needs at least 2 axes")
    *batch, rows, columns = x.shape

    def say() -> str:
        return f"{name}: {x.node.type} is no square matrix in its last two axes"

    n = same_size(rows, columns, say)
    return wrap(assume(x.node, (*batch, n, n), say))


def _system(name: str, a: ArrayLike, b: ArrayLike) -> tuple[Tensor, Tensor, bool, bool]:
    """A square ``a`` and a right-hand side of the same batch, rows and dtype.

    And whether that was a vector, and whether the batch of ``b`` became columns of it: one ``a`` is then factored once.
    """
    x, y = promoted(as_float(name, a), as_float(name, b))
    x = _square(name, x)
    if y.ndim == 0:
        raise ShapeError(f"{name}: {types_text((x, y))}: the right-hand side needs at least 1 axis")
    vector = y.ndim == 1
    y = expand_dims(y, axis=-1) if vector else y
    given = x, y

    def say() -> str:
        return f"{name}: {types_text(given)}"

    n = same_size(x.shape[-1], y.shape[-2], say)
    y = wrap(assume(y.node, (*y.shape[:-2], n, y.shape[-1]), say))
    if x.ndim == 2 and y.ndim > 2:
        y = moveaxis(y, -2, 0)
        return x, reshape(y, (n, -1)), vector, True
    batch = broadcast_shape(say, x.shape[:-2], y.shape[:-2])
    x, y = (wrap(fit(t.node, (*batch, *t.shape[-2:]), say)) for t in (x, y))
    return x, y, vector, False


def _result(x: Tensor, b: ArrayLike, vector: bool, columns: bool) -> Tensor:
    """A solution in the form of the right-hand side that `_system` was given."""
    if columns:
        *batch, _, m = as_tensor(b).shape
        return moveaxis(reshape(x, (x.shape[0], *batch, m)), 0, -2)
    return reshape(x, x.shape[:-1]) if vector else x


def cholesky(x: ArrayLike, /, *, upper: bool = False) -> Tensor:
    """The lower triangular L of ``x = L L'``, or with ``upper`` its transpose, of the symmetric positive definite
    matrices in the last two axes: ``[..., n, n] -> [..., n, n]``.

    It is the factor of ``(x + x') / 2``, so that the gradient is symmetric. Where that is not positive definite, it is
    NaN from the first column on whose pivot is not positive. Raises `ShapeError`, `DTypeError`.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n", "n"))
    >>> f = ad.compile([x], ad.linalg.cholesky(x))
    >>> f(np.array([[4.0, 2.0], [2.0, 10.0]]))
    array([[2., 0.],
           [1., 3.]])
    """
    t = _square("cholesky", as_float("cholesky", x))
    out = wrap(linear_algebra.cholesky(((t + matrix_transpose(t)) * 0.5).node))
    return matrix_transpose(out) if upper else out


def solve(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """X of ``x1 X = x2`` for the square matrices in the last two axes: ``[..., n, n], [..., n, m] -> [..., n, m]``.

    ``x2`` with one axis is a vector, and so is the result; batches broadcast. By LU factors with partial pivoting,
    which are shared with the backward pass and with everything else that needs them of ``x1``. A singular matrix gives
    infinities and NaN. Raises `ShapeError`, `DTypeError`.

    >>> import numpy as np, staticad as ad
    >>> a, b = ad.input("a", (2, 2)), ad.input("b", (2,))
    >>> x = ad.linalg.solve(a, b)
    >>> f = ad.compile([a, b], [x, ad.grad(x.sum(), b)])
    >>> f(np.array([[0.0, 2.0], [4.0, 0.0]]), np.array([6.0, 4.0]))
    [array([1., 3.]), array([0.5 , 0.25])]
    """
    a, b, vector, columns = _system("solve", x1, x2)
    return _result(wrap(linear_algebra.solve(a.node, b.node, trans=False)), x2, vector, columns)


def solve_triangular(
    a: ArrayLike, b: ArrayLike, trans: int | str = 0, lower: bool = False, unit_diagonal: bool = False
) -> Tensor:
    """X of ``a X = b``, or of ``a' X = b`` with ``trans`` (1 or "T"), for a triangular ``a``: SciPy's, batched.

    Only the upper triangle of ``a`` is read, or the ``lower`` one; with ``unit_diagonal``, its diagonal is taken to be
    1. Shapes are those of `solve`. Raises `ShapeError`, `DTypeError`, and `GraphError` for another ``trans``.

    >>> import numpy as np, staticad as ad
    >>> a, b = ad.input("a", ("n", "n")), ad.input("b", ("n",))
    >>> f = ad.compile([a, b], ad.linalg.solve_triangular(a, b, lower=True))
    >>> f(np.array([[2.0, 0.0], [1.0, 4.0]]), np.array([2.0, 9.0]))
    array([1., 2.])
    """
    turned = {0: False, "N": False, 1: True, "T": True, 2: True, "C": True}
    if trans not in turned:
        raise GraphError(f"solve_triangular: trans is 0 or 'N', 1 or 'T', 2 or 'C', not {trans!r}")
    x, y, vector, columns = _system("solve_triangular", a, b)
    out = linear_algebra.solve_triangular(x.node, y.node, lower=lower, trans=turned[trans], unit=unit_diagonal)
    return _result(wrap(out), b, vector, columns)


def inv(x: ArrayLike, /) -> Tensor:
    """The inverses of the square matrices in the last two axes; `solve` is better for solving.

    A singular matrix gives infinities and NaN. Raises `ShapeError`, `DTypeError`.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n", "n"))
    >>> f = ad.compile([x], ad.linalg.inv(x))
    >>> f(np.array([[0.0, 2.0], [4.0, 0.0]]))
    array([[0.  , 0.25],
           [0.5 , 0.  ]])
    """
    return wrap(linear_algebra.inv(_square("inv", as_float("inv", x)).node))


def det(x: ArrayLike, /) -> Tensor:
    """The determinants of the square matrices in the last two axes: ``[..., n, n] -> [...]``.

    Singular matrices have a gradient too, but no second derivatives. Raises `ShapeError`, `DTypeError`.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n", "n"))
    >>> f = ad.compile([x], [ad.linalg.det(x), ad.grad(ad.linalg.det(x), x)])
    >>> f(np.array([[2.0, 4.0], [1.0, 2.0]]))
    [array(0.), array([[ 2., -1.],
           [-4.,  2.]])]
    """
    return wrap(determinants.det(_square("det", as_float("det", x)).node))


class SlogdetResult(NamedTuple):
    """What `slogdet` gives: ``det(x) = sign * exp(logabsdet)``."""

    sign: Tensor
    logabsdet: Tensor


def slogdet(x: ArrayLike, /) -> SlogdetResult:
    """The signs of the determinants, and the logarithms of their absolute values, which do not overflow.

    Both are ``[..., n, n] -> [...]``; of a singular matrix, 0 and -inf. Raises `ShapeError`, `DTypeError`.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n", "n"))
    >>> sign, logdet = ad.linalg.slogdet(x)
    >>> f = ad.compile([x], [sign, logdet])
    >>> f(-np.eye(3))
    [array(-1.), array(0.)]
    """
    t = _square("slogdet", as_float("slogdet", x)).node
    return SlogdetResult(wrap(determinants.det_sign(t)), wrap(determinants.log_abs_det(t)))
