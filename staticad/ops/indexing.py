"""Reading and writing at computed places: gather, scatter, writing of a region; knows not how it is scheduled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from staticad.errors import AxisError, DTypeError, ShapeError
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import At, Index, Read, Uninitialised, Update, View
from staticad.ops.creation import astype, fill, iota
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
from staticad.shapes import Dim, Shape, shape_text


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


# gather and scatter: index arrays of one shape along some axes --------------------------------------------------------


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


def _place(node: Node, index: tuple[Dim, ...], first: int) -> Index:
    """Where in operand 0 element ``index`` of the gathered shape stands; index operands begin at ``first``."""
    x = node.args[0]
    axes: Ints = node.params["axes"]
    at: int = node.params["at"]
    rank = len(node.args[first].shape)
    rest = iter(index[:at] + index[at + rank :])
    where = {a: At(first + k, index[at : at + rank], x.shape[a]) for k, a in enumerate(axes)}
    return tuple(where[a] if a in where else next(rest) for a in range(len(x.shape)))


def _front(x: Array, axes: Ints) -> Array:
    """``x`` with ``axes`` first, a view."""
    return np.transpose(x, axes + kept_axes(np.ndim(x), axes))


def _gather_type(x: ArrayType, *indices: ArrayType, axes: Ints, at: int) -> ArrayType:
    return gathered_type("gather", x, indices, axes, at)


def _gather_numpy(x: Array, *indices: Array, axes: Ints, at: int) -> Array:
    rank = np.ndim(indices[0])
    found: Any = np.asarray(_front(x, axes)[indices])
    return np.moveaxis(found, range(rank), range(at, at + rank))


def _gather_read(node: Node, index: tuple[Dim, ...]) -> Read:
    return Read(_place(node, index, 1))


def _gather_transpose(node: Node, g: Node) -> Sequence[Node | None]:
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


def _scatter_target(node: Node, index: tuple[Dim, ...]) -> Index:
    return _place(node, index, 2)


def _scatter_infer(name: str, kinds: str) -> Callable[..., ArrayType]:
    def infer(base: ArrayType, x: ArrayType, *indices: ArrayType, axes: Ints, at: int) -> ArrayType:
        require_kind(name, kinds, base)
        same_dtype(name, base, x)
        expected = gathered_type(name, base, indices, axes, at)
        if x.shape != expected.shape:
            where = f"{name}: {x} into {base} at {types_text(indices)}"
            raise ShapeError(f"{where}: its shape must be {shape_text(expected.shape)}; broadcast it")
        return base

    return infer


def _scatter_numpy(write: Callable[[Array, tuple[Array, ...], Array], None]) -> Callable[..., Array]:
    def numpy(base: Array, x: Array, *indices: Array, axes: Ints, at: int) -> Array:
        out = np.array(base)
        rank = np.ndim(indices[0])
        with np.errstate(invalid="ignore"):  # ufunc.at flags the NaN that it passes on
            write(_front(out, axes), indices, np.moveaxis(x, range(at, at + rank), range(rank)))
        return out

    return numpy


def _write(out: Array, indices: tuple[Array, ...], x: Array) -> None:
    out[indices] = x


def _scatter_lanes(node: Node, operands: Sequence[Node], batched: Sequence[bool], lanes: Shape) -> Node:
    rank, at = len(lanes), node.params["at"]
    axes = tuple(a + rank for a in node.params["axes"])
    base, x = in_every_lane(operands[:2], batched[:2], lanes)
    indices: Sequence[Node] = operands[2:]
    if not any(batched[2:]):
        return node.op(base, x, *indices, axes=axes, at=at + rank)
    indices = in_every_lane(indices, batched[2:], lanes)
    own = len(indices[0].shape) - rank
    x = moved(x, range(rank + at, rank + at + own), range(rank, rank + own))
    return node.op(base, x, *coordinates(lanes, indices[0]), *indices, axes=(*range(rank), *axes), at=0)


def _scatter_examples(duplicates: bool) -> Callable[[], Iterable[Example]]:
    def examples() -> Iterable[Example]:
        row = np.array([2, 0, -1] if duplicates else [2, 0, -3])
        column = np.array([1, 1, -3] if duplicates else [1, 1, -4])
        yield Example((sample(4, 2), sample(3, 2, seed=1), row), {"axes": (0,), "at": 0})
        yield Example((sample(2, 4), sample(2, 3, 1, seed=1), row.reshape(3, 1)), {"axes": (1,), "at": 1})
        yield Example((sample(3, 2, 4), sample(2, 3, seed=1), row % 3, column), {"axes": (0, 2), "at": 1})
        yield Example((sample(3, 2), sample(3, seed=1), np.array(-1)), {"axes": (1,), "at": 1})

    return examples


def _scatter_set_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    _, x, *indices = node.args
    kept = scatter_set(g, zeros_like(x), *indices, **node.params)
    return [kept, gather(g, *indices, **node.params), *(None for _ in indices)]


#: ``base`` with the elements that `gather` would read replaced by ``x``. Where indices repeat the last one stays, and
#: every one of them gets the gradient, as in PyTorch.
scatter_set = linear(
    "scatter_set",
    _scatter_numpy(_write),
    Update(_scatter_target, "{x}"),
    _scatter_infer("scatter_set", "fiub"),
    _scatter_set_transpose,
    batch=_scatter_lanes,
    operands=2,
    examples=_scatter_examples(duplicates=False),
)


def _scatter_add_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    indices = node.args[2:]
    return [g, gather(g, *indices, **node.params), *(None for _ in indices)]


#: ``base`` with ``x`` added to the elements that `gather` would read, once for each time an index occurs.
scatter_add = linear(
    "scatter_add",
    _scatter_numpy(np.add.at),
    Update(_scatter_target, "{acc} + {x}", number(0)),
    _scatter_infer("scatter_add", "fiu"),
    _scatter_add_transpose,
    batch=_scatter_lanes,
    operands=2,
    examples=_scatter_examples(duplicates=True),
)


def _scatter_others(node: Node) -> Node:
    """For each element of ``x`` the product of its target in ``base`` and the other elements that hit this target.

    It is the product of all that is not zero, divided by the element itself unless that is zero, times the other zero
    where there is one (a value of 0 that keeps a derivative), and 0 where more of them are. So first and second
    derivatives of the op are exact; third ones are where no target is hit by three elements of which two are 0.
    """
    base, x, *indices = node.args
    zeros, ones = zeros_like(x), fill(x, 1)

    def at_targets(scatter: Op, start: Node, values: Node) -> Node:
        return gather(scatter(start, values, *indices, **node.params), *indices, **node.params)

    is_zero = equal(x, zeros)
    nonzero, own = select(is_zero, ones, x), select(is_zero, x, zeros)
    counted = astype(is_zero, dtype=x.dtype)
    most = at_targets(scatter_multiply, base, nonzero) / nonzero
    other_zeros = at_targets(scatter_add, zeros_like(base), counted) - counted
    other = at_targets(scatter_add, zeros_like(base), own) - own
    return select(equal(other_zeros, zeros), most, select(equal(other_zeros, ones), most * other, zeros))


def _scatter_multiply_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    _, x, *indices = node.args
    return [
        scatter_multiply(g, x, *indices, **node.params),
        gather(g, *indices, **node.params) * _scatter_others(node),
        *(None for _ in indices),
    ]


def _scatter_multiply_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    base, x, *indices = node.args
    t_base, t_x = tangents[:2]
    moved = None if t_base is None else scatter_multiply(t_base, x, *indices, **node.params)
    if t_x is None:
        return moved
    start = zeros_like(base) if moved is None else moved
    return scatter_add(start, t_x * _scatter_others(node), *indices, **node.params)


def _scatter_multiply_examples() -> Iterable[Example]:
    yield from _scatter_examples(duplicates=True)()
    x = np.array([2.0, 0.0, 3.0, 0.0, 0.0])
    yield Example((sample(4), x, np.array([0, 0, 1, 2, 2])), {"axes": (0,), "at": 0})


#: ``base`` with the elements that `gather` would read multiplied by ``x``, once for each time an index occurs.
scatter_multiply = Op(
    name="scatter_multiply",
    infer=_scatter_infer("scatter_multiply", "fiu"),
    numpy=_scatter_numpy(np.multiply.at),
    lower=Update(_scatter_target, "{acc} * {x}"),
    vjp=_scatter_multiply_vjp,
    jvp=_scatter_multiply_jvp,
    batch=_scatter_lanes,
    examples=_scatter_multiply_examples,
)


def _scatter_extremum(name: str, meaning: Any, step: str) -> Op:
    """``base`` with the elements that `gather` would read replaced by ``x`` where that is more extreme (or NaN).

    Ties, ``base`` itself among them, share the gradient evenly, as in ``torch.scatter_reduce``.
    """

    def winners(node: Node) -> tuple[Node, Node, Node]:
        """1 where an element of ``base`` and of ``x`` is the result, else 0; and how many there are for each result."""
        base, x, *indices = node.args
        in_base = astype(equal(base, node), dtype=x.dtype)
        in_x = astype(equal(x, gather(node, *indices, **node.params)), dtype=x.dtype)
        return in_base, in_x, scatter_add(in_base, in_x, *indices, **node.params)

    def vjp(node: Node, g: Node) -> Sequence[Node | None]:
        indices = node.args[2:]
        in_base, in_x, count = winners(node)
        share = g / count
        return [share * in_base, gather(share, *indices, **node.params) * in_x, *(None for _ in indices)]

    def jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
        base, _, *indices = node.args
        t_base, t_x = tangents[:2]
        if t_base is None and t_x is None:
            return None
        in_base, in_x, count = winners(node)
        moved = zeros_like(base) if t_base is None else t_base * in_base
        if t_x is not None:
            moved = scatter_add(moved, t_x * in_x, *indices, **node.params)
        return moved / count

    def examples() -> Iterable[Example]:
        yield from _scatter_examples(duplicates=True)()
        x = np.array([1.0, 3.0, 3.0, np.nan])
        yield Example((np.array([3.0, 1.0, -5.0]), x, np.array([0, 0, 0, 1])), {"axes": (0,), "at": 0}, smooth=False)

    return Op(
        name=name,
        infer=_scatter_infer(name, "fiu"),
        numpy=_scatter_numpy(meaning.at),
        lower=Update(_scatter_target, step),
        vjp=vjp,
        jvp=jvp,
        batch=_scatter_lanes,
        examples=examples,
    )


scatter_min = _scatter_extremum("scatter_min", np.minimum, "m.rmin({acc}, {x})")
scatter_max = _scatter_extremum("scatter_max", np.maximum, "m.rmax({acc}, {x})")


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
