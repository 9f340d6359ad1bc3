"""Indexing: NumPy's basic and advanced rules turned into slices, gathers and scatters; knows no loops.

>>> import staticad as ad
>>> x = ad.input("x", ("n", 5))
>>> x[:, ::-2]
Tensor(f64[n, 3])
>>> x[[0, 1, 1], 2]
Tensor(f64[3])
>>> x.at[0].set(1.0)
Tensor(f64[n, 5])
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from staticad.dtypes import int64
from staticad.errors import AxisError, DTypeError, ShapeError, SymbolicError
from staticad.functions import elementwise
from staticad.functions.operands import (
    add_axes,
    as_axis,
    as_tensor,
    assume,
    broadcast_shape,
    constant_node,
    convert,
    fit,
    is_scalar,
    same_size,
    scalar_node,
    type_text,
    types_text,
)
from staticad.ir import ArrayType, Node, Op
from staticad.ops import indexing as primitive
from staticad.ops import views
from staticad.ops.scatter import scatter_add, scatter_max, scatter_min, scatter_multiply, scatter_set
from staticad.shapes import Dim, Expr, Shape, floordiv, maximum, minimum
from staticad.tensor import Array, ArrayLike, Tensor, wrap


@dataclass(frozen=True)
class Selection:
    """What an index selects of an array: a region of slices, of which axes are dropped, then gathered, then new ones
    added.

    ``shape`` is the operand's, with what had to be assumed of it. ``start``, ``size``, ``step`` are of each of its
    axes; ``dropped`` are those indexed by an integer. ``axes``, ``indices`` and ``at`` are of the gather on what
    remains; ``new`` are the axes of the result made by None.
    """

    shape: Shape
    start: Shape
    size: Shape
    step: tuple[int, ...]
    dropped: tuple[int, ...]
    axes: tuple[int, ...]
    indices: tuple[Node, ...]
    at: int
    new: tuple[int, ...]

    @property
    def whole(self) -> bool:
        return self.size == self.shape and all(s == 0 for s in self.start) and all(s == 1 for s in self.step)

    def region(self, x: Node) -> Node:
        return x if self.whole else views.slice_(x, start=self.start, size=self.size, step=self.step)

    def without_dropped(self, x: Node) -> Node:
        kept = tuple(d for k, d in enumerate(self.size) if k not in self.dropped)
        return views.reshape(x, shape=kept) if self.dropped else x

    def with_new(self, x: Node) -> Node:
        ndim = len(x.shape) + len(self.new)
        old = tuple(k for k in range(ndim) if k not in self.new)
        shape: list[Dim] = [1] * ndim
        for k, d in zip(old, x.shape, strict=True):
            shape[k] = d
        return add_axes(x, tuple(shape), old)


def select(x: ArrayType, key: Any) -> Selection:
    """The meaning of ``x[key]``. Raises `AxisError`, `ShapeError` or `DTypeError`."""
    items = _expanded(x, key)
    gathers = any(isinstance(i, Node) for i in items)
    start: list[Dim] = []
    size: list[Dim] = []
    step: list[int] = []
    shape = list(x.shape)
    dropped: list[int] = []
    indices: list[Node] = []
    axes: list[int] = []
    layout: list[str] = []  # of the result: "kept" and "new" axes, and places of "gathered" ones
    for item in items:
        axis = len(start)
        if item is None:
            layout.append("new")
            continue
        if item is Ellipsis:  # what it stands for follows; it still stands between index arrays
            layout.append("between")
            continue
        if isinstance(item, slice):
            first, count, stride = _slice(x, cast(Any, item), shape[axis])
            layout.append("kept")
        elif isinstance(item, Node):
            first, count, stride = 0, shape[axis], 1
            axes.append(axis - len(dropped))
            indices.append(item)
            layout.append("gathered")
        else:
            shape[axis] = _reaching(x, axis, item)
            first, count, stride = (item if item >= 0 else shape[axis] + item), 1, 1
            dropped.append(axis)
            if gathers:
                layout.append("gathered")
        start.append(first)
        size.append(count)
        step.append(stride)
    block = _broadcast_indices(x, indices)
    at, new = _places(layout, len(block[0].shape) if block else 0)
    return Selection(
        tuple(shape), tuple(start), tuple(size), tuple(step), tuple(dropped), tuple(axes), tuple(block), at, new
    )


def _places(layout: list[str], rank: int) -> tuple[int, tuple[int, ...]]:
    """Where the ``rank`` gathered axes go among the kept ones, and which axes of the result are new: NumPy's rule."""
    gathered = [k for k, what in enumerate(layout) if what == "gathered"]
    together = not gathered or gathered[-1] - gathered[0] == len(gathered) - 1
    place = gathered[0] if gathered and together else 0
    at = layout[:place].count("kept")
    order: list[str] = [w for w in layout[:place] if w in ("kept", "new")] + ["block"] * rank
    order += [w for w in layout[place:] if w in ("kept", "new")]
    return at, tuple(k for k, what in enumerate(order) if what == "new")


def _expanded(x: ArrayType, key: Any) -> list[Any]:
    """One item for each axis of ``x`` (a slice, an int, or the node of an index array), with None and Ellipsis in
    between.
    """
    raw: list[Any] = list(key) if isinstance(key, tuple) else [key]  # pyright: ignore[reportUnknownArgumentType]
    items: list[Any] = []
    for item in raw:
        items += _item(x, item)
    dots = [k for k, item in enumerate(items) if item is Ellipsis]
    if len(dots) > 1:
        raise ShapeError(f"index: an index has one Ellipsis at most; {x} was given {len(dots)}")
    used = sum(item is not None and item is not Ellipsis for item in items)
    if used > x.ndim:
        raise AxisError(f"index: {used} indices are too many for {x}, which has {x.ndim} axes")
    fill = [slice(None)] * (x.ndim - used)
    place = dots[0] + 1 if dots else len(items)
    items = items[:place] + fill + items[place:]
    axis = 0
    for item in items:
        if item is None or item is Ellipsis:
            continue
        if isinstance(item, tuple):
            _check_static(x, axis, item[1])
        axis += 1
    return [item[0] if isinstance(item, tuple) else item for item in items]


def _item(x: ArrayType, item: Any) -> list[Any]:
    """One item of the user's index, made an int, a slice, None, Ellipsis or (index node, static array or None)."""
    if item is None or item is Ellipsis or isinstance(item, slice):
        return [item]
    if isinstance(item, Expr):
        return [(scalar_node(item, int64, ()), None)]
    if isinstance(item, (bool, np.bool_)):
        raise DTypeError(f"index: a single bool cannot index {x}; use staticad.where")
    if isinstance(item, (int, np.integer)):
        return [operator.index(cast(Any, item))]
    if isinstance(item, Tensor):
        if item.dtype.kind == "b":
            raise ShapeError(
                f"index: {x} indexed by the mask {item.node.type} would have a data-dependent shape; "
                "use staticad.where(mask, x, other) instead"
            )
        if item.dtype.kind not in "iu":
            raise DTypeError(f"index: {x} cannot be indexed by {item.node.type}; convert with astype('int64')")
        return [(convert(item.node, int64), None)]
    if isinstance(item, (list, tuple)) and any(isinstance(i, Tensor) for i in cast("Sequence[Any]", item)):
        raise SymbolicError("index: a list of tensors cannot be an index; join them with staticad.stack first")
    found: Array = np.asarray(cast(Any, item))
    if found.size == 0 and not isinstance(item, np.ndarray):
        found = found.astype(int64)
    if found.dtype.kind == "b":
        return [(constant_node(i), i) for i in np.nonzero(found)]
    if found.dtype.kind not in "iu":
        raise DTypeError(f"index: {x} cannot be indexed by {type_text(found)}; use integers, slices, None or Ellipsis")
    return [(constant_node(found, int64), found)]


def _check_static(x: ArrayType, axis: int, index: Any) -> None:
    n = x.shape[axis]
    if index is not None and index.size and isinstance(n, int):
        low, high = int(index.min()), int(index.max())
        if low < -n or high >= n:
            raise AxisError(f"index: {low if low < -n else high} is out of range for axis {axis} of {x}")


def _reaching(x: ArrayType, axis: int, i: int) -> Dim:
    """The size of ``axis``, taken to be large enough for the index ``i``."""
    n, least = x.shape[axis], i + 1 if i >= 0 else -i
    if isinstance(n, int) and n < least:
        raise AxisError(f"index: {i} is out of range for axis {axis} of {x}")
    return maximum(n, least)


def _slice(x: ArrayType, item: Any, n: Dim) -> tuple[Dim, Dim, int]:
    """The first element, number of elements and step of a slice of an axis of size ``n``, clamped as NumPy does.

    A symbolic bound is a position, never one that counts from the end.
    """
    step = 1 if item.step is None else _bound(x, item.step)
    if not isinstance(step, int) or step == 0:
        raise ShapeError(f"index: the step of a slice of {x} is an integer that is not 0, not {item.step}")
    start, stop = (None if b is None else _bound(x, b) for b in (item.start, item.stop))
    if step > 0:
        first = 0 if start is None else maximum(_position(start, n), 0)
        last = n if stop is None else minimum(_position(stop, n), n)
        # The two ways to write one number of elements are made the same normal form.
        span = minimum(-start, n) if stop is None and isinstance(start, int) and start < 0 else maximum(last - first, 0)
    else:
        first = n - 1 if start is None else minimum(maximum(_position(start, n), -1), n - 1)
        last = -1 if stop is None else maximum(_position(stop, n), -1)
        span = maximum(first - last, 0)
    size = floordiv(span + (abs(step) - 1), abs(step))
    return (0 if size == 0 else first), size, step


def _position(bound: Dim, n: Dim) -> Dim:
    return n + bound if isinstance(bound, int) and bound < 0 else bound


def _bound(x: ArrayType, bound: Any) -> Dim:
    if isinstance(bound, Expr):
        return bound
    if isinstance(bound, Tensor):
        raise SymbolicError(
            f"index: a slice of {x} cannot have the bound {bound!r}, "
            "whose value is not known while the graph is built; "
            "index with staticad.arange(size) + start"
        )
    try:
        return operator.index(bound)
    except TypeError as error:
        raise DTypeError(f"index: a slice of {x} has integer bounds, not {bound!r}") from error


def _broadcast_indices(x: ArrayType, indices: list[Node]) -> list[Node]:
    if not indices:
        return []
    ts = [Tensor(i) for i in indices]

    def say() -> str:
        return f"index: {x} by {types_text(ts)}"

    shape = broadcast_shape(say, *(i.shape for i in indices))
    return [fit(i, shape, say) for i in indices]


def getitem(x: ArrayLike, key: Any) -> Tensor:
    """``x[key]`` by NumPy's rules; a mask is an error, since the result's shape would depend on data."""
    node = as_tensor(x).node
    s = select(node.type, key)
    out = s.without_dropped(s.region(assume(node, s.shape, lambda: f"index: {node.type}")))
    if s.indices:
        out = primitive.gather(out, *s.indices, axes=s.axes, at=s.at)
    return wrap(s.with_new(out))


@dataclass(frozen=True, eq=False)
class At:
    """``x.at``, to be indexed."""

    x: Tensor

    def __getitem__(self, key: Any) -> Update:
        return Update(self.x, key)


@dataclass(frozen=True, eq=False)
class Update:
    """``x.at[index]``: its methods give a copy of ``x`` with the chosen elements updated.

    Where an index array names an element more than once, every value is combined; of several values ``set`` the last
    stays.
    """

    x: Tensor
    key: Any

    def get(self) -> Tensor:
        """``x[index]``."""
        return self.x[self.key]

    def set(self, values: ArrayLike) -> Tensor:
        """The elements replaced by ``values``."""
        return self._update("set", values, scatter_set, None)

    def add(self, values: ArrayLike) -> Tensor:
        """``values`` added to the elements."""
        return self._update("add", values, scatter_add, elementwise.add)

    def multiply(self, values: ArrayLike) -> Tensor:
        """The elements multiplied by ``values``."""
        return self._update("multiply", values, scatter_multiply, elementwise.multiply)

    def min(self, values: ArrayLike) -> Tensor:
        """The lesser of each element and its value."""
        return self._update("min", values, scatter_min, elementwise.minimum)

    def max(self, values: ArrayLike) -> Tensor:
        """The greater of each element and its value."""
        return self._update("max", values, scatter_max, elementwise.maximum)

    def _update(self, what: str, values: ArrayLike, scatter: Op, combine: elementwise.Binary | None) -> Tensor:
        s = select(self.x.node.type, self.key)

        def say() -> str:
            return f"at[...].{what}: {self.x.node.type}"

        base = assume(self.x.node, s.shape, say)
        region = s.region(base)
        target = s.without_dropped(region)
        if s.indices:
            axes = [k for k in range(len(target.shape)) if k not in s.axes]
            rest = tuple(target.shape[k] for k in axes)
            shape = rest[: s.at] + s.indices[0].shape + rest[s.at :]
        else:
            shape = target.shape
        found = self._values(what, values, s, shape)
        if s.indices:
            found = scatter(target, found, *s.indices, axes=s.axes, at=s.at)
        elif combine:
            found = combine(Tensor(target), Tensor(found)).node
        found = found if found.shape == s.size else views.reshape(found, shape=s.size)
        out = found if s.whole else primitive.update_slice(base, found, start=s.start, step=s.step)
        return wrap(assume(out, self.x.shape, say))

    def _values(self, what: str, values: ArrayLike, s: Selection, shape: Shape) -> Node:
        """``values`` in the dtype of ``x`` and the shape of the elements, new axes taken out again."""
        name, x = f"at[...].{what}", self.x
        t = Tensor(scalar_node(values, x.dtype, ())) if is_scalar(values) and _fits(values, x) else as_tensor(values)
        if not np.can_cast(t.dtype, x.dtype, "same_kind"):
            raise DTypeError(f"{name}: {t.node.type} into {x.node.type} loses values; convert with astype")
        wanted = list(shape)
        for k in s.new:
            wanted.insert(k, 1)
        node = t.node
        extra = t.ndim - len(wanted)
        if extra > 0 and all(d == 1 for d in node.shape[:extra]):
            node = views.reshape(node, shape=node.shape[extra:])
        say = f"{name}: {type_text(values)} into {ArrayType(x.dtype, tuple(wanted))} of {x.node.type}"
        if len(node.shape) > len(wanted):
            raise ShapeError(f"{say}: the values have more axes than the elements")
        for d, size in zip(node.shape, wanted[len(wanted) - len(node.shape) :], strict=True):
            if d != 1:
                same_size(d, size, lambda: say)
        node = fit(convert(node, x.dtype), tuple(wanted), lambda: say)
        return views.reshape(node, shape=shape) if s.new else node


def _fits(value: object, x: Tensor) -> bool:
    """Whether a Python number is of the kind of ``x`` or below, so that nothing is lost."""
    return not (isinstance(value, float) and x.dtype.kind != "f") and not (x.dtype.kind == "b" and value not in (0, 1))


def take(x: ArrayLike, indices: ArrayLike, /, *, axis: int | None = None) -> Tensor:
    """The elements at ``indices`` along ``axis``, whose place the axes of ``indices`` take; of the flattened ``x`` for
    None.

    Negative indices count from the end; an index out of range is an `IndexError`.
    """
    t = as_tensor(x)
    if axis is None:
        t, axis = wrap(views.reshape(t.node, shape=(t.size,))), 0
    k = as_axis("take", axis, t.ndim, t.node.type)
    one = isinstance(indices, (int, np.integer)) and not isinstance(indices, bool)
    return t[(slice(None),) * k + (indices if one or isinstance(indices, Tensor) else np.asarray(indices),)]


def take_along_axis(x: ArrayLike, indices: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """Along ``axis`` the elements at ``indices``, which have as many axes as ``x``; the other axes are broadcast
    together.
    """
    t, i = as_tensor(x), as_tensor(indices)
    if i.dtype.kind not in "iu":
        raise DTypeError(f"take_along_axis: indices are integers, not {i.node.type}; convert with astype")
    if t.ndim != i.ndim:
        raise ShapeError(f"take_along_axis: {t.node.type} and indices {i.node.type}: numbers of axes differ")
    k = as_axis("take_along_axis", axis, t.ndim, t.node.type)
    if not isinstance(indices, Tensor):
        _check_static(t.node.type, k, np.asarray(indices))

    def say() -> str:
        return f"take_along_axis: {t.node.type} and indices {i.node.type}"

    shape = broadcast_shape(say, *((*s[:k], 1, *s[k + 1 :]) for s in (t.shape, i.shape)))
    nodes = (fit(u.node, (*shape[:k], u.shape[k], *shape[k + 1 :]), say) for u in (t, i))
    values, places = nodes
    return wrap(primitive.take_along_axis(values, convert(places, int64), axis=k))
