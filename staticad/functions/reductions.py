"""Functions that reduce or accumulate along axes; composed of the primitive reductions, knows no loops.

``axis`` is an int, a tuple of ints or None for all axes; ``keepdims`` keeps each reduced axis with size 1.

>>> import staticad as ad
>>> x = ad.input("x", ("n", 3))
>>> ad.sum(x, axis=0)
Tensor(f64[3])
>>> ad.mean(x, axis=-1, keepdims=True)
Tensor(f64[n, 1])
"""

# ruff: noqa: A001, A002, A004  (the array API's names are Python's)

from __future__ import annotations

import builtins
import math

import numpy as np

from staticad.dtypes import bool_, float64, int8, int64, uint64
from staticad.errors import DTypeError, ShapeError
from staticad.functions.elementwise import (
    abs as absolute,
)
from staticad.functions.elementwise import (
    astype,
    clip,
    equal,
    exp,
    isfinite,
    isnan,
    log,
    logical_or,
    pow,
    sqrt,
    square,
    where,
)
from staticad.functions.manipulation import broadcast_to, concat, flip, matrix_transpose, reshape
from staticad.functions.operands import add_axes, as_axes, as_axis, as_float, as_tensor, convert, optional_dtype
from staticad.ir import Op
from staticad.ops import creation, sources
from staticad.ops import reductions as primitive
from staticad.shapes import Dim, Shape, as_dim, known_ge, maximum, product
from staticad.tensor import ArrayLike, Axes, DType, Tensor, wrap


def reduce(op: Op, x: Tensor, axis: Axes, keepdims: bool) -> Tensor:
    """``op`` over ``axis``, under the name of the public function."""
    axes = tuple(sorted(as_axes(op.name, axis, x.node.type)))
    out = op(x.node, axes=axes) if axes else x.node
    if keepdims:
        kept = tuple(k for k in range(x.ndim) if k not in axes)
        out = add_axes(out, tuple(1 if k in axes else d for k, d in enumerate(x.shape)), kept)
    return wrap(out)


def counted(x: Tensor, axis: Axes, name: str) -> Dim:
    """How many elements are reduced to one."""
    return product(x.shape[k] for k in as_axes(name, axis, x.node.type))


def _accumulator(x: Tensor, dtype: DType | None, name: str) -> Tensor:
    """``x`` in the dtype that sums and products of it have: narrow integers are summed in 64 bits."""
    wanted = optional_dtype(dtype, name)
    if wanted is None:
        wanted = {"b": int64, "i": int64, "u": uint64}.get(x.dtype.kind, x.dtype)
    return wrap(convert(x.node, wanted))


def sum(x: ArrayLike, /, *, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Tensor:
    """The sum; booleans and narrow integers are summed in 64 bits unless ``dtype`` is given. Of nothing: 0."""
    return reduce(primitive.sum_, _accumulator(as_tensor(x), dtype, "sum"), axis, keepdims)


def prod(x: ArrayLike, /, *, axis: Axes = None, dtype: DType | None = None, keepdims: bool = False) -> Tensor:
    """The product; booleans and narrow integers are multiplied in 64 bits unless ``dtype`` is given. Of nothing: 1."""
    return reduce(primitive.prod, _accumulator(as_tensor(x), dtype, "prod"), axis, keepdims)


def max(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The greatest element; nan where there is one. Ties share the gradient. `ShapeError` of nothing."""
    return _extremum(primitive.max_, _some("max", as_tensor(x), axis), axis, keepdims)


def min(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The least element; nan where there is one. Ties share the gradient. `ShapeError` of nothing."""
    return _extremum(primitive.min_, _some("min", as_tensor(x), axis), axis, keepdims)


def _some(name: str, x: Tensor, axis: Axes) -> Tensor:
    """``x``, checked at run time to have elements along ``axis`` where its sizes are symbolic."""
    axes = as_axes(name, axis, x.node.type)
    if builtins.all(known_ge(x.shape[k], 1) or isinstance(x.shape[k], int) for k in axes):
        return x
    return wrap(sources.nonempty(x.node, axes=axes, what=name))


def _extremum(op: Op, x: ArrayLike, axis: Axes, keepdims: bool) -> Tensor:
    t = as_tensor(x)
    if t.dtype == bool_:
        return astype(reduce(op, astype(t, int8), axis, keepdims), bool_)
    return reduce(op, t, axis, keepdims)


def any(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether one element is not zero. Of nothing: False."""
    return reduce(primitive.any_, astype(x, bool_), axis, keepdims)


def all(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """Whether every element is not zero. Of nothing: True."""
    return reduce(primitive.all_, astype(x, bool_), axis, keepdims)


def count_nonzero(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """How many elements are not zero, as int64."""
    return sum(astype(x, bool_), axis=axis, dtype=int64, keepdims=keepdims)


def mean(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean; of integers in float64. Of nothing: nan."""
    t = as_tensor(x)
    t = t if t.dtype.kind == "f" else astype(t, float64)
    n = counted(t, axis, "mean")
    return sum(t, axis=axis, keepdims=keepdims) / n


def var(x: ArrayLike, /, *, axis: Axes = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """The variance ``sum((x - mean)**2) / max(n - correction, 0)``, in two passes; ``correction`` is NumPy's
    ``ddof``.
    """
    t = as_tensor(x)
    t = t if t.dtype.kind == "f" else astype(t, float64)
    n = counted(t, axis, "var")
    total = sum(square(t - mean(t, axis=axis, keepdims=True)), axis=axis, keepdims=keepdims)
    if isinstance(n, int):
        return total / float(np.maximum(n - correction, 0))
    if correction == int(correction):
        return total / maximum(n - int(correction), 0)
    return total / astype(clip(as_tensor(n) - correction, 0), t.dtype)


def std(x: ArrayLike, /, *, axis: Axes = None, correction: float = 0, keepdims: bool = False) -> Tensor:
    """The standard deviation, the square root of `var`. The derivative where it is 0 is 0, as PyTorch's."""
    return _root(var(x, axis=axis, correction=correction, keepdims=keepdims), 0.5)


def argmax(x: ArrayLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The int64 index of the first greatest element along ``axis``, in the flattened ``x`` for None; nan is
    greatest.
    """
    return _first(primitive.max_, "argmax", x, axis, keepdims)


def argmin(x: ArrayLike, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """The int64 index of the first least element along ``axis``, in the flattened ``x`` for None; nan is least."""
    return _first(primitive.min_, "argmin", x, axis, keepdims)


def _first(op: Op, name: str, x: ArrayLike, axis: int | None, keepdims: bool) -> Tensor:
    t = as_tensor(x)
    if axis is None:
        out = _first(op, name, reshape(t, -1), 0, keepdims=False)
        return reshape(out, (1,) * t.ndim) if keepdims else out
    k = as_axis(name, axis, t.ndim, t.node.type)
    t = _some(name, t, k)
    t = Tensor(sources.stop_gradient(t.node)) if t.requires_grad else t
    found = equal(t, _extremum(op, t, k, True))
    if t.dtype.kind == "f":
        found = logical_or(found, isnan(t))
    here = wrap(creation.iota(shape=t.shape, axis=k, dtype=int64))
    return min(where(found, here, int(np.iinfo(int64).max)), axis=k, keepdims=keepdims)


def logsumexp(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False) -> Tensor:
    """``log(sum(exp(x)))`` without overflow; -inf where every element is. Blanchard, Higham and Higham 2021, eq.
    (3.4).
    """
    t = as_float("logsumexp", x)
    top = reduce(primitive.max_, Tensor(sources.stop_gradient(t.node)), axis, keepdims=True)
    top = where(isfinite(top), top, 0)
    total = sum(exp(t - top), axis=axis, keepdims=keepdims)
    return log(total) + reshape(top, total.shape)


def norm(x: ArrayLike, /, *, axis: Axes = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The vector norm ``sum(|x|**ord)**(1/ord)`` over ``axis``; ``ord`` may be ``inf``, ``-inf`` and 0 (how many are
    not zero).

    The derivative where the norm is 0 is 0, as PyTorch's.
    """
    t = as_float("norm", x)
    if ord == 2:
        return _root(sum(square(t), axis=axis, keepdims=keepdims), 0.5)
    if ord == 1:
        return sum(absolute(t), axis=axis, keepdims=keepdims)
    if ord == 0:
        return astype(count_nonzero(t, axis=axis, keepdims=keepdims), t.dtype)
    if math.isinf(ord):
        return (max if ord > 0 else min)(absolute(t), axis=axis, keepdims=keepdims)
    zero = equal(t, 0)
    powers = where(zero, 0.0 if ord > 0 else math.inf, pow(where(zero, 1, absolute(t)), ord))
    return _root(sum(powers, axis=axis, keepdims=keepdims), 1 / ord)


def _root(total: Tensor, exponent: float) -> Tensor:
    """``total ** exponent`` with derivative 0 at 0, where the power's is infinite."""
    zero = equal(total, 0)
    safe = where(zero, 1, total)
    return where(zero, 0 if exponent > 0 else math.inf, sqrt(safe) if exponent == 0.5 else pow(safe, exponent))


def cumulative_sum(
    x: ArrayLike, /, *, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Tensor:
    """Sums of the elements up to each place along ``axis`` (not needed for one axis); ``include_initial`` puts 0
    first.
    """
    return _running(primitive.cumsum, "cumulative_sum", x, axis, dtype, include_initial, 0)


def cumulative_prod(
    x: ArrayLike, /, *, axis: int | None = None, dtype: DType | None = None, include_initial: bool = False
) -> Tensor:
    """Products of the elements up to each place along ``axis`` (not needed for one axis); ``include_initial`` puts
    1 first.
    """
    return _running(primitive.cumprod, "cumulative_prod", x, axis, dtype, include_initial, 1)


def _running(
    op: Op, name: str, x: ArrayLike, axis: int | None, dtype: DType | None, include_initial: bool, initial: int
) -> Tensor:
    t = _accumulator(as_tensor(x), dtype, name)
    if t.dtype == bool_:
        raise DTypeError(f"{name}: does not give bool; take any or all, or another dtype")
    if axis is None:
        if t.ndim != 1:
            raise ShapeError(f"{name}: {t.node.type} has {t.ndim} axes; say which by axis")
        axis = 0
    k = as_axis(name, axis, t.ndim, t.node.type)
    out = wrap(op(t.node, axis=k))
    if not include_initial:
        return out
    first: Shape = tuple(1 if a == k else d for a, d in enumerate(t.shape))
    return concat([wrap(creation.full(value=initial, shape=first, dtype=t.dtype)), out], axis=k)


def cumsum(x: ArrayLike, /, axis: int | None = None, dtype: DType | None = None) -> Tensor:
    """`cumulative_sum`, of the flattened ``x`` for no axis: NumPy's function."""
    return cumulative_sum(reshape(x, -1) if axis is None else x, axis=0 if axis is None else axis, dtype=dtype)


def cumprod(x: ArrayLike, /, axis: int | None = None, dtype: DType | None = None) -> Tensor:
    """`cumulative_prod`, of the flattened ``x`` for no axis: NumPy's function."""
    return cumulative_prod(reshape(x, -1) if axis is None else x, axis=0 if axis is None else axis, dtype=dtype)


def vander(x: ArrayLike, /, N: int | None = None, *, increasing: bool = False) -> Tensor:
    """Powers of a vector's elements, one row each: N (default: as many as there are elements) from the highest to 1.

    ``increasing`` starts with 1. Each power is the one below it times the element, as NumPy computes it.
    """
    t = as_tensor(x)
    if t.ndim != 1:
        raise ShapeError(f"vander: takes a vector, got {t.node.type}")
    t = astype(t, np.promote_types(t.dtype, int64))
    columns = t.shape[0] if N is None else as_dim(N, "vander")
    exponent = wrap(creation.iota(shape=(columns, 1), axis=0, dtype=int64))
    powers = cumprod(where(equal(exponent, 0), 1, broadcast_to(t, (columns, t.shape[0]))), axis=0)
    return matrix_transpose(powers if increasing else flip(powers, axis=0))
