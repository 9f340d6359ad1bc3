"""What entries for matrices in the last two axes are made of: types, lanes, parts of rules; knows no such entry."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from staticad.dtypes import int64
from staticad.errors import ShapeError
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import Lowering
from staticad.ops import creation, logic, views
from staticad.ops.indexing import moved
from staticad.ops.products import contract
from staticad.ops.rules import Examples, lanewise, no_jvp, no_vjp, require_kind, types_text
from staticad.ops.views import sample
from staticad.shapes import Shape, product

Array = np.ndarray[Any, Any]

#: Rows of matrices that are written out element by element: for so few a kernel takes two to five times as long, in a
#: batch and in a loop; for more, compiling would take longer than running.
WRITTEN_OUT = 6


def square(name: str, x: ArrayType) -> ArrayType:
    require_kind(name, "f", x)
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name}: {x} is no square matrix in its last two axes")
    return x


def system(name: str, a: ArrayType, b: ArrayType) -> ArrayType:
    """The type of X in ``A X = B``."""
    require_kind(name, "f", square(name, a), b)
    if b.ndim != a.ndim or b.shape[:-1] != a.shape[:-1] or b.dtype != a.dtype:
        raise ShapeError(f"{name}: {types_text((a, b))}: dtype, batch and rows of both must be the same")
    return b


def solve_lanes(node: Node, operands: Sequence[Node], batched: Sequence[bool], lanes: Shape) -> Node | None:
    """The batching rule of systems: where all lanes have one matrix, its factors are too, and lanes are columns."""
    a, b = operands
    if batched[0]:
        return every_lane(node, operands, batched, lanes)
    rank, k, m = len(lanes), len(b.shape), b.shape[-1]
    columns = moved(b, range(rank), range(k - rank - 1, k - 1))
    found = node.op(a, views.reshape(columns, shape=(*a.shape[:-1], m * product(lanes))), **node.params)
    return moved(views.reshape(found, shape=columns.shape), range(k - rank - 1, k - 1), range(rank))


every_lane = lanewise()


def of_matrix(
    name: str,
    infer: Callable[[ArrayType], ArrayType],
    meaning: Callable[[Array], Array],
    lower: Lowering,
    examples: Examples,
    pull: Callable[[Node, Node], Node] | None = None,
    push: Callable[[Node, Node], Node] | None = None,
) -> Op:
    """An op on one matrix, each of a batch by itself.

    ``pull(node, g)`` is the cotangent of the matrix, ``push(node, t)`` the tangent of the result; an op without them
    has no derivative."""

    def vjp(node: Node, g: Node) -> Sequence[Node | None]:
        assert pull is not None
        return [pull(node, g)]

    def jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
        (t,) = tangents
        assert push is not None
        return None if t is None else push(node, t)

    return Op(
        name=name,
        infer=infer,
        numpy=meaning,
        lower=lower,
        vjp=vjp if pull else no_vjp,
        jvp=jvp if push else no_jvp,
        examples=examples,
        differentiable=pull is not None,
        batch=every_lane,
    )


def multiplied(spec: str, x: Node, y: Node) -> Node:
    """An einsum over the last axes of two batches of matrices."""
    batch = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(x.shape) - 2]
    operands, out = spec.split("->")
    left, right = operands.split(",")
    return contract(x, y, spec=f"{batch}{left},{batch}{right}->{batch}{out}")


def transposed(x: Node) -> Node:
    k = len(x.shape)
    return views.transpose(x, axes=(*range(k - 2), k - 1, k - 2))


def rows_and_columns(x: Node) -> tuple[Node, Node]:
    """The coordinates of the elements of matrices."""
    k = len(x.shape)
    row, column = (creation.iota(shape=x.shape, axis=axis, dtype=int64) for axis in (k - 2, k - 1))
    return row, column


def lower_part(x: Node) -> Node:
    row, column = rows_and_columns(x)
    return logic.select(logic.greater_equal(row, column), x, creation.fill(x, 0))


def strict_part(x: Node, lower: bool) -> Node:
    """What is below the diagonal, or above it."""
    row, column = rows_and_columns(x)
    return logic.select((logic.greater if lower else logic.less)(row, column), x, creation.fill(x, 0))


def halved(x: Node) -> Node:
    """The lower part with half of the diagonal: Murray's function Φ."""
    row, column = rows_and_columns(x)
    on_diagonal = logic.select(logic.equal(row, column), x * 0.5, creation.fill(x, 0))
    return logic.select(logic.greater(row, column), x, on_diagonal)


def identity_like(x: Node) -> Node:
    return creation.astype(logic.equal(*rows_and_columns(x)), dtype=x.dtype)


def systems(*shapes: tuple[int, ...], dtype: str = "float64") -> list[Array]:
    """Matrices far from singular, apart from being symmetric."""
    found: list[Array] = []
    for shape in shapes:
        x = sample(*shape, seed=len(found), dtype=dtype)
        scale = np.abs(x).max(initial=1.0)
        turned = np.roll(np.eye(shape[-1]), 1, axis=0) if len(found) % 2 else np.eye(shape[-1])
        found.append((x / scale + 1.5 * turned).astype(dtype))
    return found


def square_examples() -> Iterable[Example]:
    for x in systems((3, 3), (3, 3), (1, 1), (2, 4, 4), (6, 6)):
        yield Example((x,))
    yield Example((np.zeros((2, 0, 0), "float32"),))
    yield Example((np.eye(20, dtype="float32") * 0.5 + sample(20, 20, dtype="float32") / 400,))
