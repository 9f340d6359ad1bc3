"""Reading at computed places, and its transpose along an axis; writing of a region; knows not how it is scheduled."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from staticad.errors import AxisError, DTypeError, ShapeError
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import At, Index, Read, Uninitialised, Update, View
from staticad.ops.creation import fill, iota
from staticad.ops.logic import equal, less, select
from staticad.ops.reductions import ALONG_AXIS, kept_axes, number
from staticad.ops.rules import (
    in_every_lane,
    linear,
    no_jvp,
    no_vjp,
    require_kind,
    spread,
    types_text,
    zeros_like,
)
from staticad.ops.views import Array, Ints, broadcast, check_region, region, sample, slice_, slices, transpose
from staticad.shapes import Dim, Shape


def same_dtype(name: str, base: ArrayType, x: ArrayType) -> None:
    if base.dtype != x.dtype:
        raise DTypeError(f"{name}: operands of dtypes that differ, {base} and {x}; convert with astype first")


# uninitialised and update_slice ---------------------------------------------------------------------------------------


def _uninitialised_type(*, shape: Shape, dtype: np.dtype[Any]) -> ArrayType:
    return ArrayType(dtype, shape)


def _uninitialised_numpy(*, shape: Ints, dtype: np.dtype[Any]) -> Array:
    # Zeros, because what is evaluated for a look at it should be the same every time.
    return np.zeros(shape, dtype)


#: Memory that `update_slice` ops fill wholly before anything reads it.
uninitialised = Op(
    name="uninitialised",
    infer=_uninitialised_type,
    numpy=_uninitialised_numpy,
    lower=Uninitialised(),
    vjp=no_vjp,
    jvp=no_jvp,
    differentiable=False,
)


def _update_slice_type(base: ArrayType, x: ArrayType, *, start: Shape, step: Ints) -> ArrayType:
    same_dtype("update_slice", base, x)
    if base.ndim != x.ndim:
        raise ShapeError(f"update_slice: {base} and {x} must have as many axes; reshape the second")
    check_region("update_slice", base, start, x.shape, step)
    return base


def _update_slice_numpy(base: Array, x: Array, *, start: Ints, step: Ints) -> Array:
    out = np.array(base)
    out[slices(start, np.shape(x), step)] = x
    return out


def _update_slice_target(node: Node, index: tuple[Dim, ...]) -> Index:
    return region(index, node.params["start"], node.params["step"])


def _update_slice_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    base, x = node.args
    start, step = node.params["start"], node.params["step"]
    rest = None if base.op is uninitialised else update_slice(g, zeros_like(x), start=start, step=step)
    return [rest, slice_(g, start=start, size=x.shape, step=step)]


def _update_slice_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    base, x = node.args
    t_base, t_x = tangents
    if t_base is None and t_x is None:
        return None
    if t_base is None:
        t_base = base if base.op is uninitialised else zeros_like(base)
    return update_slice(t_base, zeros_like(x) if t_x is None else t_x, **node.params)


def _update_slice_examples() -> Iterable[Example]:
    yield Example((sample(5), sample(2, seed=1)), {"start": (1,), "step": (2,)})
    yield Example((sample(3, 4), sample(2, 4, seed=1)), {"start": (2, 0), "step": (-1, 1)})
    yield Example((sample(3), sample(0)), {"start": (3,), "step": (1,)})
    yield Example((sample(), sample(seed=1) + 1), {"start": (), "step": ()})


def _update_slice_lanes(node: Node, operands: Sequence[Node], batched: Sequence[bool], lanes: Shape) -> Node:
    base, x = operands
    if base.op is uninitialised:
        base = uninitialised(shape=(*lanes, *base.shape), dtype=base.dtype)
    elif not batched[0]:
        base = spread(base, lanes)
    start, step = (*(0,) * len(lanes), *node.params["start"]), (*(1,) * len(lanes), *node.params["step"])
    return update_slice(base, x if batched[1] else spread(x, lanes), start=start, step=step)


#: ``base`` with the elements ``start + i*step`` replaced by those of ``x``.
update_slice = Op(
    name="update_slice",
    infer=_update_slice_type,
    numpy=_update_slice_numpy,
    lower=Update(_update_slice_target, "{x}"),
    vjp=_update_slice_vjp,
    jvp=_update_slice_jvp,
    batch=_update_slice_lanes,
    examples=_update_slice_examples,
)


# gather: index arrays of one shape along some axes --------------------------------------------------------------------


def gathered_type(name: str, x: ArrayType, indices: Sequence[ArrayType], axes: Ints, at: int) -> ArrayType:
    """``x`` without ``axes``, with the shape of the indices inserted at ``at``. Raises where they do not fit."""
    if list(axes) != sorted(set(axes)) or not all(0 <= a < x.ndim for a in axes):
        raise AxisError(f"{name}: axes={axes} of {x} must be sorted, each once, and from 0 to below {x.ndim}")
    if not indices or len(indices) != len(axes):
        raise ShapeError(f"{name}: {len(indices)} index arrays for axes={axes} of {x}; give one for each, at least one")
    for i in indices:
        if i.dtype != np.int64:
            raise DTypeError(f"{name}: indices into {x} must be int64, not {types_text(indices)}; convert with astype")
        if i.shape != indices[0].shape:
            raise ShapeError(f"{name}: indices into {x} differ in shape, {types_text(indices)}; broadcast them first")
    rest = tuple(x.shape[a] for a in kept_axes(x.ndim, axes))
    if not 0 <= at <= len(rest):
        raise AxisError(f"{name}: at={at} must be from 0 to {len(rest)}, the axes of {x} that are not indexed")
    return ArrayType(x.dtype, rest[:at] + indices[0].shape + rest[at:])


def place(node: Node, index: tuple[Dim, ...], first: int) -> Index:
    """Where in operand 0 element ``index`` of the gathered shape stands; index operands begin at ``first``."""
    x = node.args[0]
    axes: Ints = node.params["axes"]
    at: int = node.params["at"]
    rank = len(node.args[first].shape)
    rest = iter(index[:at] + index[at + rank :])
    where = {a: At(first + k, index[at : at + rank], x.shape[a]) for k, a in enumerate(axes)}
    return tuple(where[a] if a in where else next(rest) for a in range(len(x.shape)))


def front(x: Array, axes: Ints) -> Array:
    """``x`` with ``axes`` first, a view."""
    return np.transpose(x, axes + kept_axes(np.ndim(x), axes))


def _gather_type(x: ArrayType, *indices: ArrayType, axes: Ints, at: int) -> ArrayType:
    return gathered_type("gather", x, indices, axes, at)


def _gather_numpy(x: Array, *indices: Array, axes: Ints, at: int) -> Array:
    rank = np.ndim(indices[0])
    found: Any = np.asarray(front(x, axes)[indices])
    return np.moveaxis(found, range(rank), range(at, at + rank))


def _gather_read(node: Node, index: tuple[Dim, ...]) -> Read:
    return Read(place(node, index, 1))


def _gather_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    from staticad.ops.scatter import scatter_add

    x, *indices = node.args
    return [scatter_add(zeros_like(x), g, *indices, **node.params), *(None for _ in indices)]


def coordinates(lanes: Shape, indices: Node) -> list[Node]:
    """The lane that each of ``indices``, which have lanes, belongs to: an index array for every axis of the lanes."""
    return [iota(shape=indices.shape, axis=a, dtype=indices.dtype) for a in range(len(lanes))]


def moved(x: Node, source: Sequence[int], to: Sequence[int]) -> Node:
    """``x`` with its axes ``source`` at the places ``to``, the others around them as they were."""
    others = iter(a for a in range(len(x.shape)) if a not in source)
    places = dict(zip(to, source, strict=True))
    return transpose(x, axes=tuple(places[a] if a in places else next(others) for a in range(len(x.shape))))


def _gather_lanes(node: Node, operands: Sequence[Node], batched: Sequence[bool], lanes: Shape) -> Node:
    x, *indices = operands
    rank, at = len(lanes), node.params["at"]
    axes: Ints = node.params["axes"]
    shifted = tuple(a + rank for a in axes)
    if not any(batched[1:]):
        return gather(x, *indices, axes=shifted, at=at + rank)
    indices = in_every_lane(indices, batched[1:], lanes)
    if not batched[0]:
        return moved(gather(x, *indices, axes=axes, at=at), range(at, at + rank), range(rank))
    own = len(indices[0].shape) - rank
    found = gather(x, *coordinates(lanes, indices[0]), *indices, axes=(*range(rank), *shifted), at=0)
    return moved(found, range(rank, rank + own), range(rank + at, rank + at + own))


def _gather_examples() -> Iterable[Example]:
    row, column = np.array([2, 0, -1]), np.array([1, 1, -4])
    yield Example((sample(3, 4), row), {"axes": (0,), "at": 0})
    yield Example((sample(2, 3, 4), row.reshape(3, 1)), {"axes": (1,), "at": 1})
    yield Example((sample(3, 2, 4), row, column), {"axes": (0, 2), "at": 1})
    yield Example((sample(3, 4), np.array(-1)), {"axes": (1,), "at": 1})
    yield Example((sample(3, 4, dtype="float32"), np.zeros((2, 0), "int64")), {"axes": (0,), "at": 1})


#: ``x`` at integer ``indices`` of one shape along ``axes``; that shape stands at axis ``at`` of the result. Negative
#: indices count from the end; others out of range are an IndexError when it runs.
gather = linear(
    "gather",
    _gather_numpy,
    View(_gather_read),
    _gather_type,
    _gather_transpose,
    batch=_gather_lanes,
    examples=_gather_examples,
)


# take_along_axis and its transpose ------------------------------------------------------------------------------------


def _check_along(name: str, x: ArrayType, indices: ArrayType, axis: int) -> None:
    if not 0 <= axis < x.ndim:
        raise AxisError(f"{name}: axis={axis} of {x} must be from 0 to below {x.ndim}")
    if indices.dtype != np.int64:
        raise DTypeError(f"{name}: indices into {x} must be int64, not {indices}; convert with astype")
    others = kept_axes(x.ndim, (axis,))
    if indices.ndim != x.ndim or any(indices.shape[a] != x.shape[a] for a in others):
        raise ShapeError(f"{name}: {x} and indices {indices} may differ along axis {axis} only; broadcast them first")


def _along(index: tuple[Dim, ...], axis: int, arg: int, extent: Dim) -> Index:
    return (*index[:axis], At(arg, index, extent), *index[axis + 1 :])


def _take_along_axis_type(x: ArrayType, indices: ArrayType, *, axis: int) -> ArrayType:
    _check_along("take_along_axis", x, indices, axis)
    return ArrayType(x.dtype, indices.shape)


def _take_along_axis_numpy(x: Array, indices: Array, *, axis: int) -> Array:
    found: Any = np.take_along_axis(x, indices, axis)  # pyright: ignore[reportUnknownArgumentType]
    return found


def _take_along_axis_read(node: Node, index: tuple[Dim, ...]) -> Read:
    axis: int = node.params["axis"]
    return Read(_along(index, axis, 1, node.args[0].shape[axis]))


def _take_along_axis_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    x, indices = node.args
    if indices.shape[node.params["axis"]] == 1:
        return [_one_hot(x, g, indices, node.params["axis"]), None]
    return [put_add_along_axis(zeros_like(x), g, indices, **node.params), None]


def _one_hot(x: Node, g: Node, indices: Node, axis: int) -> Node:
    """``g`` where the coordinate along ``axis`` is the one index there, else 0.

    It is elementwise, so that it fuses with anything.
    """

    def spread(part: Node) -> Node:
        return broadcast(part, shape=x.shape, axes=tuple(range(len(x.shape))))

    wrapped = select(less(indices, fill(indices, 0)), indices + fill(indices, x.shape[axis]), indices)
    here = equal(iota(shape=x.shape, axis=axis, dtype=indices.dtype), spread(wrapped))
    return select(here, spread(g), zeros_like(x))


def _take_along_axis_examples() -> Iterable[Example]:
    yield Example((sample(3, 4), np.array([[0, -1], [1, 1], [3, -4]])), {"axis": 1})
    yield Example((sample(3, 2), np.array([[2, -1]])), {"axis": 0})
    yield Example((sample(3), np.zeros(0, "int64")), {"axis": 0})


#: Element i of the result is ``x`` at i with its coordinate along ``axis`` replaced by ``indices[i]``.
take_along_axis = linear(
    "take_along_axis",
    _take_along_axis_numpy,
    View(_take_along_axis_read),
    _take_along_axis_type,
    _take_along_axis_transpose,
    batch=ALONG_AXIS,
    examples=_take_along_axis_examples,
)


def _put_add_type(base: ArrayType, x: ArrayType, indices: ArrayType, *, axis: int) -> ArrayType:
    require_kind("put_add_along_axis", "fiu", base)
    same_dtype("put_add_along_axis", base, x)
    _check_along("put_add_along_axis", base, indices, axis)
    if x.shape != indices.shape:
        where = f"put_add_along_axis: {x} into {base} at {indices}"
        raise ShapeError(f"{where}: values and indices must have one shape; broadcast them first")
    return base


def _put_add_numpy(base: Array, x: Array, indices: Array, *, axis: int) -> Array:
    out = np.array(base)
    places: list[Array] = [*np.ogrid[tuple(slice(n) for n in indices.shape)]]
    places[axis] = indices
    np.add.at(out, tuple(places), x)
    return out


def _put_add_target(node: Node, index: tuple[Dim, ...]) -> Index:
    axis: int = node.params["axis"]
    return _along(index, axis, 2, node.shape[axis])


def _put_add_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    return [g, take_along_axis(g, node.args[2], **node.params), None]


def _put_add_examples() -> Iterable[Example]:
    yield Example((sample(3, 4), sample(3, 2, seed=1), np.array([[0, -1], [1, 1], [3, -4]])), {"axis": 1})
    yield Example((sample(3), sample(0), np.zeros(0, "int64")), {"axis": 0})


#: ``base`` with ``x`` added to the elements that `take_along_axis` would read, once for each time an index occurs.
put_add_along_axis = linear(
    "put_add_along_axis",
    _put_add_numpy,
    Update(_put_add_target, "{acc} + {x}", number(0)),
    _put_add_type,
    _put_add_transpose,
    batch=ALONG_AXIS,
    operands=2,
    examples=_put_add_examples,
)
