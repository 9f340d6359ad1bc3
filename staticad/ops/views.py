"""Ops that say where elements stand: broadcast, reshape, transpose, slice, pad; knows no arithmetic on elements."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from staticad.errors import AxisError, ShapeError
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import Guard, Read, View
from staticad.ops.creation import literal
from staticad.ops.rules import lanewise, linear, zeros_like
from staticad.shapes import Dim, Shape, add, floordiv, mul, product, shape_text

Ints = tuple[int, ...]
Array = np.ndarray[Any, Any]


def sample(*shape: int, seed: int = 0, dtype: str = "float64") -> Array:
    """Values for `Example` arrays: reproducible, apart from each other, none of them 0."""
    size = int(np.prod(shape))
    order = (np.arange(size) * 7 + seed * 3) % max(size, 1) if size % 7 else np.arange(size)
    values = (order + 1.0) * np.where(np.arange(size) % 3 == seed % 3, -0.37, 0.29)
    return values.reshape(shape).astype(dtype)


def minus(x: Dim, y: Dim) -> Dim:
    return add(x, mul(y, -1))


def check_rank(name: str, x: ArrayType, **params: Sequence[object]) -> None:
    """Raise `ShapeError` unless every parameter has one entry for each axis of ``x``."""
    for what, values in params.items():
        if len(values) != x.ndim:
            raise ShapeError(f"{name}: {what}={tuple(values)} must have one entry for each of the {x.ndim} axes of {x}")


def _after(lanes: Shape, axes: Ints) -> Ints:
    """The axes of the lanes, then ``axes``."""
    return (*range(len(lanes)), *(len(lanes) + a for a in axes))


# broadcast ------------------------------------------------------------------------------------------------------------


def _broadcast_type(x: ArrayType, *, shape: Shape, axes: Ints) -> ArrayType:
    check_rank("broadcast", x, axes=axes)
    if any(a < 0 or a >= len(shape) for a in axes) or any(a >= b for a, b in pairwise(axes)):
        raise AxisError(f"broadcast: axes={axes} of {x} must be strictly increasing axes of {shape_text(shape)}")
    for a, size in zip(axes, x.shape, strict=True):
        if size not in (1, shape[a]):
            raise ShapeError(
                f"broadcast: {x} to {shape_text(shape)} along axes {axes}: {size} != {shape[a]}; only size 1 stretches"
            )
    return ArrayType(x.dtype, shape)


def _broadcast_numpy(x: Array, *, shape: Ints, axes: Ints) -> Array:
    new = [1] * len(shape)
    for a, size in zip(axes, x.shape, strict=True):
        new[a] = size
    return np.broadcast_to(np.reshape(x, new), shape)


def _broadcast_read(node: Node, index: tuple[Dim, ...]) -> Read:
    (x,) = node.args
    axes: Ints = node.params["axes"]
    return Read(tuple(0 if size == 1 else index[a] for a, size in zip(axes, x.shape, strict=True)))


def _broadcast_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    from staticad.ops.reductions import sum_

    (x,), axes = node.args, node.params["axes"]
    kept = {a for a, size in zip(axes, x.shape, strict=True) if size == node.shape[a]}
    summed = tuple(a for a in range(len(node.shape)) if a not in kept)
    if summed:
        g = sum_(g, axes=summed)
    return [g if g.shape == x.shape else reshape(g, shape=x.shape)]


def _broadcast_examples() -> Iterable[Example]:
    yield Example((sample(),), {"shape": (3, 2), "axes": ()})
    yield Example((sample(3),), {"shape": (2, 3), "axes": (1,)})
    yield Example((sample(3, 1),), {"shape": (3, 2, 4), "axes": (0, 2)})
    yield Example((sample(1, 2, 1),), {"shape": (1, 2, 3), "axes": (0, 1, 2)})
    yield Example((sample(1, dtype="float32"),), {"shape": (0,), "axes": (0,)})


#: Operand axis k becomes result axis ``axes[k]`` (strictly increasing), of equal size or stretched from 1; the other
#: axes of ``shape`` are new.
broadcast = linear(
    "broadcast",
    _broadcast_numpy,
    View(_broadcast_read),
    _broadcast_type,
    _broadcast_transpose,
    batch=lanewise(lambda p, lanes: {"shape": (*lanes, *p["shape"]), "axes": _after(lanes, p["axes"])}),
    examples=_broadcast_examples,
)


# reshape --------------------------------------------------------------------------------------------------------------


def _reshape_type(x: ArrayType, *, shape: Shape) -> ArrayType:
    size = product(shape)
    if x.size != size:
        raise ShapeError(
            f"reshape: {x} has {x.size} elements, {shape_text(shape)} has {size}; "
            "give a shape whose sizes have the same product, written in the same dimensions"
        )
    return ArrayType(x.dtype, shape)


def reshape_groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """The finest split of the axes of both shapes, sizes of 1 left out, into runs of equal products.

    Runs end where a prefix of ``old`` and a prefix of ``new`` have the same product in normal form.

    >>> reshape_groups((2, 3, 4), (6, 1, 4))
    [([0, 1], [0]), ([2], [2])]
    """
    old_axes = [a for a, size in enumerate(old) if size != 1]
    new_axes = [a for a, size in enumerate(new) if size != 1]
    ends: dict[Dim, int] = {}
    total: Dim = 1
    for k, a in enumerate(old_axes):
        total = mul(total, old[a])
        ends[total] = k + 1
    groups: list[tuple[list[int], list[int]]] = []
    total, first, begin = 1, 0, 0
    for k, a in enumerate(new_axes):
        total = mul(total, new[a])
        end = ends.get(total)
        if end is not None:
            groups.append((old_axes[begin:end], new_axes[first : k + 1]))
            first, begin = k + 1, end
    return groups


def reshaped_index(old: Shape, new: Shape, index: tuple[Dim, ...]) -> tuple[Dim, ...]:
    """Where an element stands in shape ``old`` that is at ``index`` of the same elements in shape ``new``."""
    out: list[Dim] = [0] * len(old)
    if product(old) == 0:
        return tuple(out)
    for mine, theirs in reshape_groups(old, new):
        flat: Dim = 0
        for a in theirs:
            flat = add(mul(flat, new[a]), index[a])
        # Each coordinate is a quotient less what the axes before it take, so neighbours share their divisions.
        before: Dim = 0
        for k, a in enumerate(mine):
            quotient = floordiv(flat, product(old[b] for b in mine[k + 1 :]))
            out[a] = minus(quotient, mul(before, old[a]))
            before = quotient
    return tuple(out)


def _reshape_read(node: Node, index: tuple[Dim, ...]) -> Read:
    return Read(reshaped_index(node.args[0].shape, node.shape, index))


def _reshape_write(node: Node, index: tuple[Dim, ...]) -> tuple[Dim, ...]:
    return reshaped_index(node.shape, node.args[0].shape, index)


def _reshape_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    return [reshape(g, shape=node.args[0].shape)]


def _reshape_examples() -> Iterable[Example]:
    yield Example((sample(2, 6),), {"shape": (2, 2, 1, 3)})
    yield Example((sample(2, 3, 4),), {"shape": (6, 4)})
    yield Example((sample(2, 3, 4),), {"shape": (24,)})
    yield Example((sample(4, 6),), {"shape": (3, 8)})
    yield Example((sample(1, 1),), {"shape": ()})
    yield Example((sample(),), {"shape": (1,)})
    yield Example((sample(0, 3, dtype="float32"),), {"shape": (3, 2, 0)})


def _reshape_numpy(x: Array, *, shape: Ints) -> Array:
    return np.reshape(x, shape)


#: The same elements in the same (C) order under another shape.
reshape = linear(
    "reshape",
    _reshape_numpy,
    View(_reshape_read, alias=True, write=_reshape_write),
    _reshape_type,
    _reshape_transpose,
    batch=lanewise(lambda p, lanes: {"shape": (*lanes, *p["shape"])}),
    examples=_reshape_examples,
)


def merges(node: Node) -> bool:
    """Whether a node is a reshape that only merges axes (and adds or drops axes of size 1).

    Not of what has no elements, where any axes make any others."""
    if node.op is not reshape or product(node.shape) == 0:
        return False
    groups = reshape_groups(node.args[0].shape, node.shape)
    covered = sum(len(new) for _, new in groups) == sum(d != 1 for d in node.shape)
    return covered and all(len(new) == 1 for _, new in groups) and any(len(old) > 1 for old, _ in groups)


# transpose ------------------------------------------------------------------------------------------------------------


def _transpose_type(x: ArrayType, *, axes: Ints) -> ArrayType:
    if sorted(axes) != list(range(x.ndim)):
        raise AxisError(f"transpose: axes={axes} of {x} must name each of its {x.ndim} axes once, counted from 0")
    return ArrayType(x.dtype, tuple(x.shape[a] for a in axes))


def inverse(axes: Ints) -> Ints:
    """The permutation that undoes ``axes``."""
    return tuple(sorted(range(len(axes)), key=axes.__getitem__))


def _transpose_read(node: Node, index: tuple[Dim, ...]) -> Read:
    return Read(tuple(index[k] for k in inverse(node.params["axes"])))


def _transpose_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    return [transpose(g, axes=inverse(node.params["axes"]))]


def _transpose_numpy(x: Array, *, axes: Ints) -> Array:
    return np.transpose(x, axes)


def _transpose_examples() -> Iterable[Example]:
    yield Example((sample(2, 3),), {"axes": (1, 0)})
    yield Example((sample(2, 3, 4),), {"axes": (2, 0, 1)})
    yield Example((sample(),), {"axes": ()})


#: Result axis k is operand axis ``axes[k]``.
transpose = linear(
    "transpose",
    _transpose_numpy,
    View(_transpose_read),
    _transpose_type,
    _transpose_transpose,
    batch=lanewise(lambda p, lanes: {"axes": _after(lanes, p["axes"])}),
    examples=_transpose_examples,
)


# where axes stand -----------------------------------------------------------------------------------------------------


def places_axes(node: Node) -> bool:
    """Whether a node is a broadcast or a transpose: a map before it is the same as one after it."""
    return node.op is broadcast or node.op is transpose


def axes_below(view: Node) -> tuple[int | None, ...] | None:
    """Which axis of its operand each axis of a view is, if it repeats, transposes, or adds and drops axes of size 1."""
    out: list[int | None] = [None] * len(view.shape)
    if view.op is transpose:
        return view.params["axes"]
    sizes = view.args[0].shape if view.args else ()
    longer = [a for a, size in enumerate(sizes) if size != 1]
    if view.op is broadcast:
        places = [view.params["axes"][a] for a in longer]
    elif view.op is reshape:
        places = [a for a, size in enumerate(view.shape) if size != 1]
    else:
        return None
    if [view.shape[a] for a in places] != [sizes[a] for a in longer]:
        return None
    for place, a in zip(places, longer, strict=True):
        out[place] = a
    return tuple(out)


# slice ----------------------------------------------------------------------------------------------------------------


def check_region(name: str, x: ArrayType, start: Shape, size: Shape, step: Ints) -> None:
    """Raise unless ``start + i*step`` with ``0 <= i < size`` stays inside ``x``, as far as the sizes are known."""
    check_rank(name, x, start=start, size=size, step=step)
    for axis, (n, first, count, stride) in enumerate(zip(x.shape, start, size, step, strict=True)):
        if stride == 0:
            raise ShapeError(f"{name}: step {step} of {x} is 0 along axis {axis}; steps are positive or negative")
        if isinstance(count, int) and count < 0:
            raise ShapeError(f"{name}: size {shape_text(size)} of {x} is negative along axis {axis}")
        last = add(first, mul(minus(count, 1), stride))
        if isinstance(count, int) and count and isinstance(n, int):
            for i in (first, last):
                if isinstance(i, int) and not 0 <= i < n:
                    raise AxisError(f"{name}: {x} has no element {i} along axis {axis}; its indices are 0 to {n - 1}")


def slices(start: Ints, size: Ints, step: Ints) -> tuple[slice, ...]:
    """The NumPy index of the elements ``start + i*step``, ``0 <= i < size``."""
    index: list[slice] = []
    for first, count, stride in zip(start, size, step, strict=True):
        stop = first + count * stride
        index.append(slice(first, None if stop < 0 else stop, stride) if count > 0 else slice(0, 0))
    return tuple(index)


def region(index: tuple[Dim, ...], start: Shape, step: Ints) -> tuple[Dim, ...]:
    """``start + index*step``, axis by axis."""
    return tuple(add(s, mul(i, k)) for i, s, k in zip(index, start, step, strict=True))


def _slice_type(x: ArrayType, *, start: Shape, size: Shape, step: Ints) -> ArrayType:
    check_region("slice", x, start, size, step)
    return ArrayType(x.dtype, size)


def _slice_numpy(x: Array, *, start: Ints, size: Ints, step: Ints) -> Array:
    return np.asarray(x)[slices(start, size, step)]


def _slice_read(node: Node, index: tuple[Dim, ...]) -> Read:
    return Read(region(index, node.params["start"], node.params["step"]))


def flip(x: Node, *axes: int) -> Node:
    """``x`` read backwards along ``axes``: a slice of step -1."""
    return slice_(
        x,
        start=tuple(minus(n, 1) if a in axes else 0 for a, n in enumerate(x.shape)),
        size=x.shape,
        step=tuple(-1 if a in axes else 1 for a in range(len(x.shape))),
    )


def shift(x: Node, axis: int, fill: float) -> Node:
    """``x`` moved by one towards higher indices along ``axis``; ``fill`` stands at index 0."""
    rank = range(len(x.shape))
    none, ones = (0,) * len(rank), (1,) * len(rank)
    moved = pad(x, low=tuple(int(a == axis) for a in rank), high=none, step=ones, fill=fill)
    return slice_(moved, start=none, size=x.shape, step=ones)


def _slice_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    (x,) = node.args
    start: Shape = node.params["start"]
    size: Shape = node.params["size"]
    step: Ints = node.params["step"]
    if any(count == 0 for count in size):
        return [zeros_like(x)]
    backwards = [a for a, k in enumerate(step) if k < 0]
    if backwards:
        g = flip(g, *backwards)
    low: list[Dim] = []
    high: list[Dim] = []
    for n, first, count, stride in zip(x.shape, start, size, step, strict=True):
        last = add(first, mul(minus(count, 1), stride))
        least, most = (first, last) if stride > 0 else (last, first)
        low.append(least)
        high.append(minus(minus(n, most), 1))
    return [pad(g, low=tuple(low), high=tuple(high), step=tuple(abs(k) for k in step), fill=0)]


def _slice_examples() -> Iterable[Example]:
    yield Example((sample(7),), {"start": (1,), "size": (3,), "step": (2,)})
    yield Example((sample(4, 5),), {"start": (3, 0), "size": (4, 2), "step": (-1, 3)})
    yield Example((sample(6, 2),), {"start": (4, 1), "size": (2, 1), "step": (-3, 1)})
    yield Example((sample(5),), {"start": (5,), "size": (0,), "step": (1,)})
    yield Example((sample(),), {"start": (), "size": (), "step": ()})


def _slice_lanes(params: Mapping[str, Any], lanes: Shape) -> Mapping[str, Any]:
    rank = len(lanes)
    return {
        "start": (*(0,) * rank, *params["start"]),
        "size": (*lanes, *params["size"]),
        "step": (*(1,) * rank, *params["step"]),
    }


#: Element i along axis k is element ``start[k] + i*step[k]`` of the operand, for i below ``size[k]``.
slice_ = linear(
    "slice",
    _slice_numpy,
    View(_slice_read),
    _slice_type,
    _slice_transpose,
    batch=lanewise(_slice_lanes),
    examples=_slice_examples,
)


# pad ------------------------------------------------------------------------------------------------------------------


def _spread(size: Dim, step: int) -> Dim:
    """From the first element to the last with ``step - 1`` fills between them.

    A polynomial for every size: of size 0 it is ``1 - step``; the low and high of a slice's transpose make up for that.
    """
    return add(mul(minus(size, 1), step), 1)


def _pad_type(x: ArrayType, *, low: Shape, high: Shape, step: Ints, fill: float) -> ArrayType:
    check_rank("pad", x, low=low, high=high, step=step)
    if any(isinstance(w, int) and w < 0 for w in (*low, *high)):
        raise ShapeError(f"pad: {x} by low={shape_text(low)}, high={shape_text(high)}: not below 0; slice instead")
    literal(fill, x.dtype, f"pad: fill of {x}")
    if any(k < 1 for k in step):
        raise ShapeError(f"pad: step={step} of {x} must be at least 1 along each axis")
    shape = tuple(add(add(a, _spread(n, k)), b) for n, a, b, k in zip(x.shape, low, high, step, strict=True))
    if any(isinstance(n, int) and n < 0 for n in shape):
        raise ShapeError(f"pad: {x} with low={low}, high={high}, step={step} would have the shape {shape_text(shape)}")
    return ArrayType(x.dtype, shape)


def _pad_numpy(x: Array, *, low: Ints, high: Ints, step: Ints, fill: float) -> Array:
    x = np.asarray(x)
    sizes = zip(x.shape, low, high, step, strict=True)
    out = np.full([a + (n - 1) * k + 1 + b for n, a, b, k in sizes], fill, x.dtype)
    if x.size:
        out[slices(low, x.shape, step)] = x
    return out


def _pad_read(node: Node, index: tuple[Dim, ...]) -> Read:
    (x,) = node.args
    params = node.params
    out: list[Dim] = []
    guards: list[Guard] = []
    for i, n, low, high, step in zip(index, x.shape, params["low"], params["high"], params["step"], strict=True):
        value = minus(i, low)
        out.append(floordiv(value, step))
        if (low, high, step) != (0, 0, 1):
            guards.append(Guard(value, _spread(n, step), step))
    return Read(tuple(out), tuple(guards))


def _pad_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    (x,) = node.args
    return [slice_(g, start=node.params["low"], size=x.shape, step=node.params["step"])]


def _pad_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    (t,) = tangents
    return None if t is None else pad(t, **{**node.params, "fill": 0})


def _pad_examples() -> Iterable[Example]:
    yield Example((sample(3),), {"low": (1,), "high": (2,), "step": (1,), "fill": 0})
    yield Example((sample(3, 2),), {"low": (0, 1), "high": (0, 0), "step": (3, 1), "fill": 2.5})
    yield Example((sample(0),), {"low": (2,), "high": (1,), "step": (1,), "fill": -np.inf}, smooth=False)
    yield Example((sample(2),), {"low": (1,), "high": (1,), "step": (2,), "fill": 1})
    yield Example((sample(2, dtype="int64"),), {"low": (1,), "high": (1,), "step": (1,), "fill": 7}, smooth=False)


def _pad_lanes(params: Mapping[str, Any], lanes: Shape) -> Mapping[str, Any]:
    none, ones = (0,) * len(lanes), (1,) * len(lanes)
    return {"low": (*none, *params["low"]), "high": (*none, *params["high"]), "step": (*ones, *params["step"])}


#: ``low`` and ``high`` elements of ``fill`` around the operand and ``step - 1`` between its elements, along each axis.
pad = Op(
    name="pad",
    infer=_pad_type,
    numpy=_pad_numpy,
    lower=View(_pad_read),
    vjp=_pad_vjp,
    jvp=_pad_jvp,
    batch=lanewise(_pad_lanes),
    examples=_pad_examples,
)
