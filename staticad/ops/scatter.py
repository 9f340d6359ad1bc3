"""Writing at computed places: the elements that `gather` reads replaced, or combined with others; knows not how it is
scheduled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from staticad.errors import ShapeError
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import Index, Update
from staticad.ops.creation import astype, fill
from staticad.ops.indexing import coordinates, front, gather, gathered_type, moved, place, same_dtype
from staticad.ops.logic import equal, select
from staticad.ops.reductions import number
from staticad.ops.rules import in_every_lane, linear, require_kind, types_text, zeros_like
from staticad.ops.views import Array, Ints, sample
from staticad.shapes import Dim, Shape, shape_text


def _scatter_target(node: Node, index: tuple[Dim, ...]) -> Index:
    return place(node, index, 2)


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
            write(front(out, axes), indices, np.moveaxis(x, range(at, at + rank), range(rank)))
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
