"""Functions that rearrange elements: shapes, axes, joining, repeating, padding; composed of views, copies only to join.

>>> import staticad as ad
>>> x = ad.input("x", ("n", 6))
>>> ad.reshape(x, (-1, 2, 3))
Tensor(f64[n, 2, 3])
>>> ad.concat([x, x])
Tensor(f64[2*n, 6])
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

import numpy as np

from staticad.dtypes import as_dtype, int64
from staticad.errors import DTypeError, GraphError, ShapeError, SymbolicError
from staticad.functions import indexing
from staticad.functions.elementwise import abs as absolute
from staticad.functions.elementwise import clip, remainder, where
from staticad.functions.operands import (
    add_axes,
    as_axes,
    as_axis,
    as_integer,
    as_tensor,
    assume,
    broadcast_shape,
    convert,
    differ,
    fit,
    promoted,
    same_size,
    types_text,
)
from staticad.ir import Node
from staticad.ops import creation, views
from staticad.ops import indexing as primitive
from staticad.shapes import Dim, Expr, Shape, as_dim, as_shape, floordiv, maximum, minimum, mod, product, shape_text
from staticad.tensor import ArrayLike, Axes, DType, Tensor, wrap

# ---- shapes and axes


def broadcast_to(x: ArrayLike, /, shape: Any) -> Tensor:
    """``x`` stretched to ``shape``: axes of size 1 repeat, new axes come in front."""
    t, wanted = as_tensor(x), as_shape(shape, "broadcast_to")

    def say() -> str:
        return f"broadcast_to: {t.node.type} to {shape_text(wanted)}"

    if t.ndim > len(wanted):
        raise ShapeError(f"{say()}: the shape has fewer axes")
    for d, size in zip(t.shape, wanted[len(wanted) - t.ndim :], strict=True):
        if d != 1:
            same_size(d, size, say)
    return wrap(fit(t.node, wanted, say))


def broadcast_arrays(*xs: ArrayLike) -> list[Tensor]:
    """The operands stretched to the shape they broadcast to together."""
    ts = [as_tensor(x) for x in xs]

    def say() -> str:
        return f"broadcast_arrays: {types_text(ts)}"

    shape = broadcast_shape(say, *(t.shape for t in ts))
    return [wrap(fit(t.node, shape, say)) for t in ts]


def reshape(x: ArrayLike, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    """The same elements, in C order, in another shape; one size may be -1, which is what is left.

    Sizes that cannot be proven to fit while some are symbolic are checked at run time.
    """
    t = as_tensor(x)
    sizes: tuple[Any, ...] = tuple(cast(Any, shape)) if isinstance(shape, (tuple, list)) else (shape,)
    free = [k for k, d in enumerate(sizes) if isinstance(d, (int, np.integer)) and d == -1]
    if len(free) > 1:
        raise ShapeError(f"reshape: {t.node.type} to {tuple(sizes)}: only one size can be -1")
    known: list[Dim] = [1 if k in free else as_dim(d, f"reshape: {t.node.type}") for k, d in enumerate(sizes)]
    if free:
        rest = product(known)
        if rest == 0:
            raise ShapeError(f"reshape: {t.node.type} to {tuple(sizes)}: the size -1 is not determined beside a 0")
        known[free[0]] = floordiv(t.size, rest)
    wanted = tuple(known)
    size = product(wanted)

    def say() -> str:
        return f"reshape: {t.node.type} has {t.size} elements, the shape {shape_text(wanted)} has {size}"

    same_size(t.size, size, say)
    if wanted == t.shape:
        return wrap(t.node)
    if size == t.size:
        return wrap(views.reshape(t.node, shape=wanted))
    flat = assume(views.reshape(t.node, shape=(t.size,)), (size,), say)
    return wrap(views.reshape(flat, shape=wanted))


def permute_dims(x: ArrayLike, /, axes: Iterable[int]) -> Tensor:
    """``x`` with its axes in another order: axis k of the result is axis ``axes[k]``."""
    t = as_tensor(x)
    if not hasattr(axes, "__iter__"):
        raise DTypeError(f"permute_dims: axes are integers in a tuple or a list, not {axes!r}, for {t.node.type}")
    order = as_axes("permute_dims", tuple(axes), t.node.type)
    if len(order) != t.ndim:
        raise ShapeError(f"permute_dims: axes {order} are not a permutation of the {t.ndim} axes of {t.node.type}")
    return wrap(t.node if order == tuple(range(t.ndim)) else views.transpose(t.node, axes=order))


def transpose(x: ArrayLike, /, axes: Iterable[int] | None = None) -> Tensor:
    """`permute_dims`, the axes reversed by default: NumPy's function."""
    t = as_tensor(x)
    return permute_dims(t, range(t.ndim - 1, -1, -1) if axes is None else axes)


def matrix_transpose(x: ArrayLike, /) -> Tensor:
    """The last two axes exchanged."""
    t = as_tensor(x)
    if t.ndim < 2:
        raise ShapeError(f"matrix_transpose: {t.node.type} has fewer than 2 axes")
    return swapaxes(t, -1, -2)


def swapaxes(x: ArrayLike, axis1: int, axis2: int, /) -> Tensor:
    """Two axes exchanged."""
    t = as_tensor(x)
    i, j = (as_axis("swapaxes", k, t.ndim, t.node.type) for k in (axis1, axis2))
    order = list(range(t.ndim))
    order[i], order[j] = j, i
    return permute_dims(t, order)


def moveaxis(x: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """The axes ``source`` moved to the places ``destination``, the others kept in order."""
    t = as_tensor(x)
    old, new = (as_axes("moveaxis", k, t.node.type) for k in (source, destination))
    if len(old) != len(new):
        raise ShapeError(f"moveaxis: source {source} and destination {destination} must have as many axes")
    order = [k for k in range(t.ndim) if k not in old]
    for k, place in sorted(zip(old, new, strict=True), key=lambda pair: pair[1]):
        order.insert(place, k)
    return permute_dims(t, order)


def expand_dims(x: ArrayLike, /, *, axis: int | Sequence[int] = 0) -> Tensor:
    """New axes of size 1, at the places ``axis`` of the result."""
    t = as_tensor(x)
    count = len(axis) if isinstance(axis, (tuple, list)) else 1
    new = as_axes("expand_dims", axis, t.node.type, t.ndim + count)
    sizes = iter(t.shape)
    shape = tuple(1 if k in new else next(sizes) for k in range(t.ndim + count))
    return wrap(add_axes(t.node, shape, tuple(k for k in range(len(shape)) if k not in new)))


def squeeze(x: ArrayLike, /, axis: Axes = None) -> Tensor:
    """Axes of size 1 removed: those of ``axis``, or all for None."""
    t = as_tensor(x)
    gone = tuple(k for k, d in enumerate(t.shape) if d == 1) if axis is None else as_axes("squeeze", axis, t.node.type)
    for k in gone:
        same_size(t.shape[k], 1, lambda k=k: f"squeeze: axis {k} of {t.node.type} is not of size 1")
    shape = tuple(1 if k in gone else d for k, d in enumerate(t.shape))
    node = assume(t.node, shape, lambda: f"squeeze: an axis of {t.node.type} is not of size 1")
    return wrap(views.reshape(node, shape=tuple(d for k, d in enumerate(t.shape) if k not in gone)) if gone else node)


def flip(x: ArrayLike, /, *, axis: Axes = None) -> Tensor:
    """The order of the elements reversed along ``axis``, all axes for None."""
    t = as_tensor(x)
    axes = as_axes("flip", axis, t.node.type)
    return t[tuple(slice(None, None, -1) if k in axes else slice(None) for k in range(t.ndim))]


def roll(x: ArrayLike, /, shift: int | Sequence[int], *, axis: Axes = None) -> Tensor:
    """The elements moved on by ``shift`` along ``axis``, those that fall off entering at the start; flattened for
    None.
    """
    t = as_tensor(x)
    if axis is None:
        return reshape(roll(reshape(t, -1), shift, axis=0), t.shape)
    axes = tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    shifts: tuple[Any, ...] = tuple(shift) if isinstance(shift, (tuple, list)) else (shift,) * len(axes)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll: shift {shift} and axis {axis} must have as many entries")
    for by, at in zip(shifts, axes, strict=True):
        k = as_axis("roll", at, t.ndim, t.node.type)  # pyright: ignore[reportUnknownArgumentType]
        n = t.shape[k]
        split = n - mod(as_integer(f"roll: a shift of {t.node.type}", by), maximum(n, 1))  # pyright: ignore[reportUnknownArgumentType]
        if split != n:
            front, back = (_part(t, k, first, size) for first, size in ((0, split), (split, n - split)))
            t = concat([back, front], axis=k)
    return t


def _part(t: Tensor, axis: int, start: Dim, size: Dim) -> Tensor:
    """``size`` elements along ``axis`` from ``start`` on, which are known to be there."""
    here = range(t.ndim)
    return wrap(
        views.slice_(
            t.node,
            start=tuple(start if k == axis else 0 for k in here),
            size=tuple(size if k == axis else d for k, d in enumerate(t.shape)),
            step=(1,) * t.ndim,
        )
    )


# ---- joining and repeating


def concat(arrays: Sequence[ArrayLike], /, *, axis: int | None = 0, dtype: DType | None = None) -> Tensor:
    """The arrays after one another along ``axis``; flattened first for None."""
    ts = _joined("concat", arrays, dtype)
    if axis is None:
        ts, axis = [reshape(t, -1) for t in ts], 0
    first = ts[0]
    if any(t.ndim != first.ndim for t in ts):
        raise ShapeError(f"concat: {types_text(ts)}: numbers of axes differ")
    k = as_axis("concat", axis, first.ndim, first.node.type)
    rest = list(first.shape)

    def say() -> str:
        return f"concat: {types_text(ts)} along axis {k}"

    for t in ts[1:]:
        for a, d in enumerate(t.shape):
            if a != k:
                rest[a] = same_size(rest[a], d, say)
    total: Dim = 0
    for t in ts:
        total = total + t.shape[k]
    rest[k] = total
    values = [creation.constant(t.node) for t in ts]
    if values.count(None) == 1:
        return _bordered(ts, values, k, tuple(rest), say)
    out = primitive.uninitialised(shape=tuple(rest), dtype=first.dtype)
    start: Dim = 0
    for t in ts:
        node = assume(t.node, tuple(d if a == k else rest[a] for a, d in enumerate(t.shape)), say)
        out = _write(out, node, k, start)
        start = start + t.shape[k]
    return wrap(out)


def _bordered(ts: Sequence[Tensor], values: Sequence[Any], axis: int, shape: Shape, say: Callable[[], str]) -> Tensor:
    """The one array that is not constant, with constants around it: what reads it need not wait for all of it."""
    at = values.index(None)
    out = assume(ts[at].node, tuple(d if a == axis else shape[a] for a, d in enumerate(ts[at].shape)), say)
    for k in (*reversed(range(at)), *range(at + 1, len(ts))):
        low, high = (tuple(ts[k].shape[axis] if a == axis and (k < at) is before else 0 for a in range(len(shape)))
                     for before in (True, False))  # fmt: skip
        out = views.pad(out, low=low, high=high, step=(1,) * len(shape), fill=values[k])
    return wrap(out)


def _joined(name: str, arrays: Sequence[ArrayLike], dtype: DType | None = None) -> list[Tensor]:
    if isinstance(arrays, Tensor):
        raise SymbolicError(f"{name}: takes a list of tensors, not one tensor {arrays!r}")
    if not hasattr(arrays, "__len__"):
        raise DTypeError(f"{name}: takes a list of tensors, not {arrays!r}")
    if len(arrays) == 0:
        raise ShapeError(f"{name}: needs at least one array")
    if dtype is None:
        return promoted(*arrays)
    return [wrap(convert(as_tensor(x).node, as_dtype(dtype, name))) for x in arrays]


def _write(base: Node, x: Node, axis: int, start: Dim) -> Node:
    rank = range(len(x.shape))
    return primitive.update_slice(
        base, x, start=tuple(start if a == axis else 0 for a in rank), step=tuple(1 for _ in rank)
    )


def stack(arrays: Sequence[ArrayLike], /, *, axis: int = 0) -> Tensor:
    """The arrays, all of one shape, along a new ``axis``."""
    ts = _joined("stack", arrays)
    first = ts[0].shape
    for t in ts[1:]:
        if t.ndim != len(first) or any(differ(x, y) for x, y in zip(first, t.shape, strict=True)):
            raise ShapeError(f"stack: {types_text(ts)}: all must have one shape; broadcast or pad them first")
    k = as_axis("stack", axis, len(first) + 1, ts[0].node.type)
    return concat([expand_dims(t, axis=k) for t in ts], axis=k)


def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices along ``axis``, whose size must be static."""
    t = as_tensor(x)
    k = as_axis("unstack", axis, t.ndim, t.node.type)
    n = t.shape[k]
    if isinstance(n, Expr):
        raise SymbolicError(f"unstack: axis {k} of {t.node.type} has a symbolic size; index it instead")
    return tuple(t[(slice(None),) * k + (i,)] for i in range(n))


def tile(x: ArrayLike, repetitions: int | Sequence[int], /) -> Tensor:
    """``x`` laid beside itself, ``repetitions[k]`` times along axis k (the last axes, where there are fewer)."""
    t = as_tensor(x)
    reps = list(as_shape(repetitions, "tile"))
    ndim = len(reps) if len(reps) > t.ndim else t.ndim
    reps = [1] * (ndim - len(reps)) + reps
    shape = (1,) * (ndim - t.ndim) + t.shape
    wide = tuple(d for pair in zip(reps, shape, strict=True) for d in pair)
    node = views.broadcast(t.node, shape=wide, axes=tuple(2 * k + 1 for k in range(ndim - t.ndim, ndim)))
    return wrap(views.reshape(node, shape=tuple(r * d for r, d in zip(reps, shape, strict=True))))


def repeat(x: ArrayLike, repeats: int, /, *, axis: int | None = None) -> Tensor:
    """Each element ``repeats`` times in a row along ``axis``; flattened first for None."""
    t = as_tensor(x)
    if axis is None:
        t, axis = reshape(t, -1), 0
    if not isinstance(repeats, Expr) and np.ndim(repeats):
        raise DTypeError("repeat: takes one number of repeats; a number for each element makes a data-dependent shape")
    k, count = as_axis("repeat", axis, t.ndim, t.node.type), as_dim(repeats, "repeat")
    wide = (*t.shape[: k + 1], count, *t.shape[k + 1 :])
    node = views.broadcast(t.node, shape=wide, axes=tuple(a if a <= k else a + 1 for a in range(t.ndim)))
    return wrap(views.reshape(node, shape=(*t.shape[:k], t.shape[k] * count, *t.shape[k + 1 :])))


# ---- padding


def pad(x: ArrayLike, pad_width: Any, /, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    """``x`` with elements added before and after along each axis.

    ``pad_width`` is ``((before, after), ...)`` for each axis, one pair, or one number. ``mode`` is NumPy's:
    ``constant`` (one number), ``edge``, ``reflect``, ``symmetric`` or ``wrap``.
    """
    t = as_tensor(x)
    widths = _pad_widths(t, pad_width)
    if mode == "constant":
        if np.ndim(constant_values):
            raise ShapeError("pad: constant_values is one number; pad axis by axis for several")
        low, high = (tuple(w[side] for w in widths) for side in (0, 1))
        fill = creation.literal(constant_values, t.dtype, "pad")
        return wrap(views.pad(t.node, low=low, high=high, step=(1,) * t.ndim, fill=fill))
    for k, (low, high) in enumerate(widths):
        if (low, high) != (0, 0):
            t = indexing.take(t, _source(mode, t.shape[k], low, high), axis=k)
    return t


def _pad_widths(t: Tensor, pad_width: Any) -> list[tuple[Dim, Dim]]:
    what = f"pad: {t.node.type}"
    if not isinstance(pad_width, (tuple, list)):
        pad_width = (pad_width, pad_width)
    pairs: list[Any] = list(pad_width)  # pyright: ignore[reportUnknownArgumentType]
    if not any(isinstance(p, (tuple, list)) for p in pairs):
        pairs = [pairs * 2 if len(pairs) == 1 else pairs]
    if len(pairs) == 1:
        pairs = pairs * t.ndim
    if len(pairs) != t.ndim or any(len(p) != 2 for p in pairs):
        raise ShapeError(f"{what}: pad_width {pad_width} must be ((before, after), ...) for {t.ndim} axes, or one pair")
    return [(as_dim(p[0], what), as_dim(p[1], what)) for p in pairs]


def _source(mode: str, n: Dim, low: Dim, high: Dim) -> Tensor:
    """The index along an axis of size ``n`` that each element of the padded axis is taken from."""
    i = wrap(creation.iota(shape=(low + n + high,), axis=0, dtype=int64)) - low
    if mode == "edge":
        return clip(i, 0, n - 1)
    if mode == "wrap":
        return remainder(i, n)
    if mode == "reflect":
        # A triangle wave of period 2(n - 1); an axis of one element has nothing else to show.
        last = n - 1
        return -(absolute(remainder(i, maximum(2 * last, 1)) - last) - last)
    if mode == "symmetric":
        wave = remainder(i, 2 * n)
        return where(wave < n, wave, -(wave - (2 * n - 1)))
    raise GraphError(f"pad: mode is 'constant', 'edge', 'reflect', 'symmetric' or 'wrap', not {mode!r}")


# ---- triangles and diagonals


def tril(x: ArrayLike, /, *, k: int = 0) -> Tensor:
    """The matrices in the last two axes with zeros above diagonal ``k``."""
    t, distance = _diagonals("tril", x)
    return where(distance <= k, t, False)


def triu(x: ArrayLike, /, *, k: int = 0) -> Tensor:
    """The matrices in the last two axes with zeros below diagonal ``k``."""
    t, distance = _diagonals("triu", x)
    return where(distance >= k, t, False)


def _diagonals(name: str, x: ArrayLike) -> tuple[Tensor, Tensor]:
    """``x``, and for each place in its matrices the number of the diagonal it is on."""
    t = as_tensor(x)
    if t.ndim < 2:
        raise ShapeError(f"{name}: {t.node.type} has fewer than 2 axes")
    i, j = (wrap(creation.iota(shape=t.shape[-2:], axis=a, dtype=int64)) for a in (0, 1))
    return t, j - i


def diagonal(x: ArrayLike, /, *, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The elements with index ``i`` along ``axis1`` and ``i + offset`` along ``axis2``, as the last axis: NumPy's
    function.
    """
    t = as_tensor(x)
    axes = as_axes("diagonal", (axis1, axis2), t.node.type)
    t = moveaxis(t, axes, (-2, -1))
    rows, columns = t.shape[-2:]
    size = maximum(minimum(rows + minimum(offset, 0), columns - maximum(offset, 0)), 0)
    i = wrap(creation.iota(shape=(size,), axis=0, dtype=int64))
    return t[..., i + maximum(-offset, 0), i + maximum(offset, 0)]
