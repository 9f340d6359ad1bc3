"""Choices among graphs, of which one is computed: what it gives, and what it leaves; knows no loop trees.

The derivative of a choice is a choice by the same number among the derivatives of the branches, which read what the
branch that was taken left.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from staticad.dtypes import can_require_grad
from staticad.errors import IndexOutOfRange, ShapeError
from staticad.ir import ArrayType, Branches, Example, Node, Op, Together, substitute, toposort
from staticad.lowering import Branch, Source
from staticad.ops.closures import closed
from staticad.ops.creation import fill
from staticad.ops.rules import spread
from staticad.ops.sources import placeholder
from staticad.shapes import Shape, evaluate

Array = np.ndarray[Any, Any]


def _check(types: Sequence[ArrayType], body: Branches) -> None:
    for t, x in zip(types[1:], body.consts, strict=True):
        if t != x.type:
            raise ShapeError(f"a choice: an operand of type {t}, for one of type {x.type} in its branches")


def _chosen_type(*types: ArrayType, body: Branches, result: int) -> ArrayType:
    _check(types, body)
    return body.values[0][result].type


def _left_type(*types: ArrayType, body: Branches, branch: int, value: Node) -> ArrayType:
    _check(types, body)
    return value.type


def _computed(value: Node, arrays: Sequence[Array], body: Branches, otherwise: bool = False) -> Array:
    """``value`` from the operands; with ``otherwise`` zeros like it."""
    from staticad.interpret import bind, interpret

    given = dict(zip(body.consts, arrays, strict=True))
    sizes = bind([("a choice", x.shape, array.shape) for x, array in given.items()], body.sizes)
    if otherwise:
        return np.zeros([evaluate(d, sizes) for d in value.shape], value.dtype)
    return interpret([value], given, sizes)[0]


def _chosen_numpy(selector: Array, *arrays: Array, body: Branches, result: int) -> Array:
    k = int(selector)
    if not 0 <= k < len(body.values):
        raise IndexOutOfRange(f"a choice: number {k} among {len(body.values)} branches")
    return _computed(body.values[k][result], arrays, body)


def _left_numpy(selector: Array, *arrays: Array, body: Branches, branch: int, value: Node) -> Array:
    return _computed(value, arrays, body, otherwise=int(selector) != branch)


def chosen_of(operands: Sequence[Node], body: Branches, result: int) -> Node:
    """Result number ``result`` of the branch that is taken."""
    return chosen(*operands, body=body, result=result)


def left_of(operands: Sequence[Node], body: Branches, branch: int, value: Node) -> Node:
    """Node ``value`` of a branch, if that is taken; else no matter what."""
    return left(*operands, body=body, branch=branch, value=value)


def _asked(node: Node, branch: int) -> Node | None:
    """The node whose value a result is when a branch is taken."""
    if "result" in node.params:
        return node.params["body"].values[branch][node.params["result"]]
    return node.params["value"] if node.params["branch"] == branch else None


def _backward(nodes: Sequence[Node], gs: Sequence[Node]) -> Sequence[Node | None]:
    """A choice among the branches' cotangents of their constants."""
    from staticad.autodiff import pull
    from staticad.residuals import choose_residuals

    body: Branches = nodes[0].params["body"]
    operands = nodes[0].args
    wrt = [x for x in body.consts if can_require_grad(x.dtype)]
    given = [placeholder(g.type) for g in gs]
    kept: dict[Node, tuple[Node, int]] = {}  # what a branch leaves: what stands for it, and the branch
    found: list[dict[Node, Node]] = []
    for k in range(len(body.values)):
        asked = [(x, g) for node, g in zip(nodes, given, strict=True) if (x := _asked(node, k)) is not None]
        outputs = [x for x, _ in asked]
        pulled = pull(outputs, wrt, [g for _, g in asked])
        wanted = {x: g for x, g in zip(wrt, pulled, strict=True) if g is not None}
        stand_in = {x: placeholder(x.type) for x in choose_residuals(outputs, list(wanted.values()), given)}
        kept |= {x: (new, k) for x, new in stand_in.items()}
        found.append(dict(zip(wanted, substitute(wanted.values(), stand_in), strict=True)))
    moving = [x for x in wrt if any(x in gs for gs in found)]
    backward = Branches(
        consts=(*given, *(new for new, _ in kept.values()), *body.consts),
        values=tuple(tuple(gs[x] if x in gs else fill(x, 0) for x in moving) for gs in found),
    )
    left_ones = [left_of(operands, body, k, x) for x, (_, k) in kept.items()]
    numbers = {x: k for k, x in enumerate(moving)}
    given = [operands[0], *gs, *left_ones, *operands[1:]]
    return [None, *(chosen_of(given, backward, numbers[x]) if x in numbers else None for x in body.consts)]


def _forward(nodes: Sequence[Node], tangents: Sequence[Node | None]) -> Sequence[Node | None]:
    """A choice among the branches' tangents."""
    from staticad.autodiff import push

    body: Branches = nodes[0].params["body"]
    operands = nodes[0].args
    moving = [(x, placeholder(x.type), t) for x, t in zip(body.consts, tangents[1:], strict=True) if t is not None]
    wrt, given = [x for x, _, _ in moving], [g for _, g, _ in moving]
    found: list[list[Node | None]] = []
    for k in range(len(body.values)):
        asked = [_asked(node, k) for node in nodes]
        pushed = iter(push([x for x in asked if x is not None], wrt, given))
        found.append([None if x is None else next(pushed) for x in asked])
    moved = [any(ts[n] is not None for ts in found) for n in range(len(nodes))]

    def values(ts: Sequence[Node | None]) -> tuple[Node, ...]:
        return tuple(fill(x, 0) if t is None else t for t, x, ok in zip(ts, nodes, moved, strict=True) if ok)

    forward = Branches(consts=(*given, *body.consts), values=tuple(map(values, found)))
    operands = [operands[0], *(t for _, _, t in moving), *operands[1:]]
    numbers = iter(range(len(nodes)))
    return [chosen_of(operands, forward, next(numbers)) if ok else None for ok in moved]


def _lanes(
    nodes: Sequence[Node], operands: Sequence[Node], batched: Sequence[bool], lanes: Shape
) -> Sequence[tuple[Node, bool]] | None:
    """One choice for all lanes, unless they choose one by one."""
    from staticad.batching import in_lanes

    body: Branches = nodes[0].params["body"]
    if batched[0]:
        return None
    given = {
        x: placeholder(ArrayType(x.dtype, (*lanes, *x.shape)))
        for x, has in zip(body.consts, batched[1:], strict=True)
        if has
    }
    left_ones = [(node.params["branch"], node.params["value"]) for node in nodes if "value" in node.params]
    found: list[list[tuple[Node, bool]]] = []
    for k, results in enumerate(body.values):
        wide = in_lanes([*results, *(x for branch, x in left_ones if branch == k)], given, lanes)
        if wide is None:
            return None
        found.append(wide)
    count = len(body.values[0])
    has_lanes = [any(results[n][1] for results in found) for n in range(count)]
    many = Branches(
        consts=tuple(given.get(x, x) for x in body.consts),
        values=tuple(
            tuple(
                spread(x, lanes) if any_has and not has else x
                for (x, has), any_has in zip(results, has_lanes, strict=False)
            )
            for results in found
        ),
    )
    left_there: list[Iterator[tuple[Node, bool]]] = [iter(there[count:]) for there in found]
    out: list[tuple[Node, bool]] = []
    for node in nodes:
        if "result" in node.params:
            n: int = node.params["result"]
            out.append((chosen_of(operands, many, n), has_lanes[n]))
        else:
            branch: int = node.params["branch"]
            value, has = next(left_there[branch])
            out.append((left_of(operands, many, branch, value), has))
    return out


def close(values: Sequence[Sequence[Node]], since: int) -> tuple[Branches, list[Node]]:
    """Branches whose results are ``values``, made of nodes from number ``since`` on and others: these too."""
    asked = [x for results in values for x in results]
    own = {x for x in toposort(asked) if x.serial >= since and not isinstance(x.op.lower, Source)}
    found, outer, consts = closed(asked, (), own)
    left = iter(found)
    return Branches(tuple(consts), tuple(tuple(next(left) for _ in results) for results in values)), outer


TOGETHER = Together(_backward, _forward, _lanes)


def _alone_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    return _backward([node], [g])


def _alone_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    return _forward([node], tangents)[0]


def _example_body() -> tuple[tuple[Array, ...], Branches]:
    """x * y, or x + c * x."""
    x, y = (placeholder(ArrayType(np.dtype("float64"), (3,))) for _ in range(2))
    arrays = np.linspace(0.2, 0.9, 3), np.array([0.3, -0.4, 0.5])
    return arrays, Branches((x, y), ((x * y * y, x), (x + 2.0 * x, y * y)))


def _chosen_examples() -> Iterable[Example]:
    for selector in (np.array(0), np.array(1), np.array(True)):
        arrays, body = _example_body()
        yield Example((selector, *arrays), {"body": body, "result": 0})
        yield Example((selector, *arrays), {"body": body, "result": 1})


def _left_examples() -> Iterable[Example]:
    arrays, body = _example_body()
    yield Example((np.array(1), *arrays), {"body": body, "branch": 1, "value": body.values[1][0]})


# fmt: off
#: Result number ``result`` of the branch that operand 0 tells.
chosen = Op(
    name="chosen", infer=_chosen_type, numpy=_chosen_numpy, lower=Branch(), vjp=_alone_vjp, jvp=_alone_jvp,
    examples=_chosen_examples, together=TOGETHER,
)
#: Node ``value`` of one ``branch``, if that is taken.
left = Op(
    name="left", infer=_left_type, numpy=_left_numpy, lower=Branch(), vjp=_alone_vjp, jvp=_alone_jvp,
    examples=_left_examples, together=TOGETHER,
)
# fmt: on
