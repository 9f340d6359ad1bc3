"""How an entry of the op table is written: builders that derive both derivatives from one statement; knows no op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from staticad.dtypes import SHORT, is_floating
from staticad.errors import DTypeError, ShapeError
from staticad.ir import ArrayType, Example, Law, Node, Op
from staticad.lowering import Lowering, Map
from staticad.shapes import Shape

Examples = Callable[[], Iterable[Example]]
Batch = Callable[[Node, Sequence[Node], Sequence[bool], Shape], "Node | None"]


def types_text(types: Sequence[ArrayType]) -> str:
    return " and ".join(map(str, types))


def same_types(name: str, *types: ArrayType) -> ArrayType:
    """The one type that all operands have. Raises `ShapeError` or `DTypeError`."""
    first = types[0]
    for t in types[1:]:
        if t.shape != first.shape:
            raise ShapeError(f"{name}: operands of shapes that differ, {types_text(types)}; broadcast them first")
        if t.dtype != first.dtype:
            raise DTypeError(f"{name}: operands of dtypes that differ, {types_text(types)}; convert with astype first")
    return first


def require_kind(name: str, kinds: str, *types: ArrayType) -> None:
    """Raise `DTypeError` unless every operand's dtype kind is one of ``kinds`` ("f", "iu", "b", ...)."""
    for t in types:
        if t.dtype.kind not in kinds:
            takes = ", ".join(str(d) for d in SHORT if d.kind in kinds)
            raise DTypeError(f"{name}: does not take {types_text(types)}; it takes {takes}; convert with astype")


def no_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    return [None] * len(node.args)


def no_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    return None


def accumulate(terms: Iterable[Node | None]) -> Node | None:
    """The sum of the terms that are there."""
    total: Node | None = None
    for term in terms:
        if term is not None:
            total = term if total is None else total + term
    return total


def spread(x: Node, lanes: Shape) -> Node:
    """``x`` in every lane: repeated along new first axes."""
    from staticad.ops.views import broadcast

    rank = len(lanes)
    return broadcast(x, shape=(*lanes, *x.shape), axes=tuple(range(rank, rank + len(x.shape)))) if lanes else x


def in_every_lane(operands: Sequence[Node], batched: Sequence[bool], lanes: Shape) -> list[Node]:
    """The operands, all of them with lanes."""
    return [x if has else spread(x, lanes) for x, has in zip(operands, batched, strict=True)]


def lanewise(change: Callable[[Mapping[str, Any], Shape], Mapping[str, Any]] | None = None) -> Batch:
    """The batching rule of an op that does the same in every lane, once its parameters count the axes of the lanes.

    ``change(params, lanes)`` gives those of them that differ."""

    def batch(node: Node, operands: Sequence[Node], batched: Sequence[bool], lanes: Shape) -> Node:
        params = {**node.params, **change(node.params, lanes)} if change else node.params
        return node.op(*in_every_lane(operands, batched, lanes), **params)

    return batch


def elementwise(
    name: str,
    meaning: Callable[..., Any],
    code: str | Callable[[Node], str],
    partials: Callable[..., Sequence[Node | None]] | None = None,
    *,
    kinds: str = "f",
    dtype: Callable[..., np.dtype[Any]] | None = None,
    infer: Callable[..., ArrayType] | None = None,
    cost: int = 1,
    examples: Examples = lambda: (),
    laws: tuple[Law, ...] = (),
) -> Op:
    """An op that maps elements of operands of one type to an element of the result.

    ``partials(out, x, y, ..., **params)`` gives the derivative of the result by each operand, as nodes; None where it
    vanishes everywhere. ``dtype(*dtypes, **params)`` is the result's dtype where it is not the operands'.
    """

    def infer_same(*types: ArrayType, **params: Any) -> ArrayType:
        require_kind(name, kinds, *types)
        t = same_types(name, *types)
        return ArrayType(dtype(*(x.dtype for x in types), **params), t.shape) if dtype else t

    def vjp(node: Node, g: Node) -> Sequence[Node | None]:
        assert partials is not None
        return [None if d is None else g * d for d in partials(node, *node.args, **node.params)]

    def jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
        assert partials is not None
        factors = partials(node, *node.args, **node.params)
        return accumulate(None if t is None or d is None else t * d for t, d in zip(tangents, factors, strict=True))

    return Op(
        name=name,
        infer=infer or infer_same,
        numpy=meaning,
        lower=Map(code, cost),
        vjp=vjp if partials else no_vjp,
        jvp=jvp if partials else no_jvp,
        examples=examples,
        differentiable=partials is not None,
        laws=laws,
        batch=lanewise(),
    )


def linear(
    name: str,
    meaning: Callable[..., Any],
    lower: Lowering,
    infer: Callable[..., ArrayType],
    transpose: Callable[[Node, Node], Sequence[Node | None]],
    *,
    batch: Batch,
    operands: int = 1,
    jointly: bool = True,
    examples: Examples = lambda: (),
) -> Op:
    """An op that is linear in its first ``operands`` operands.

    ``jointly``: linear in all of them at once (a sum, an update), so its tangent is the op on the tangents, zeros where
    one is missing; otherwise linear in each while the others stand still (a product). ``transpose(node, g)`` gives the
    cotangent of each operand, None for those it is not linear in.
    """

    def jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
        moving = [k for k in range(min(operands, len(node.args))) if tangents[k] is not None]
        if not moving:
            return None
        if jointly:
            args = [
                (t if t is not None else zeros_like(x)) if k < operands else x
                for k, (t, x) in enumerate(zip(tangents, node.args, strict=True))
            ]
            return node.op(*args, **node.params)
        return accumulate(
            node.op(*(tangents[k] if j == k else x for j, x in enumerate(node.args)), **node.params)  # pyright: ignore
            for k in moving
        )

    return Op(
        name=name, infer=infer, numpy=meaning, lower=lower, vjp=transpose, jvp=jvp, examples=examples, batch=batch
    )


def zeros_like(x: Node) -> Node:
    return Node.arithmetic["fill"](x, 0)


def floating_only(name: str, *types: ArrayType) -> None:
    for t in types:
        if not is_floating(t.dtype):
            raise DTypeError(f"{name}: takes floating dtypes, not {types_text(types)}; convert with astype")
