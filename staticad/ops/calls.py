"""Calls: what a function computed from its arguments, with derivatives of its own; knows one rule, a checkpoint's.

A call leaves the nodes of its function in the graph, made of operands that derivatives stop at, and a `result` on top
of them, whose derivatives go around them to the operands of the call. Simplification drops both, so that nothing behind
it knows of calls. A checkpoint computes its function again for a derivative, from operands that are there no sooner
than the cotangents.
"""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from staticad.ir import Example, Node, Op, Together, substitute
from staticad.ops.closures import closed
from staticad.ops.reductions import sum_
from staticad.ops.rules import spread
from staticad.ops.sources import SAME, placeholder, stop_gradient
from staticad.shapes import Shape

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Call:
    """What the results of one call share: ``rule`` gives their derivatives, as for an op with several results."""

    rule: Together

    def __str__(self) -> str:
        return f"call@{id(self):x}"


def results(operands: Sequence[Node], outs: Sequence[Node], rule: Together) -> list[Node]:
    """The results of a call whose function made ``outs`` of ``operands``."""
    call = Call(rule)
    return [result(out, *operands, body=call, number=k) for k, out in enumerate(outs)]


# ---- checkpoints


def checkpointed(operands: Sequence[Node], function: Callable[[list[Node]], Sequence[Node]]) -> list[Node]:
    """A call of ``function`` whose inside derivatives compute again. What it reads from outside become operands."""
    arguments = [placeholder(x.type) for x in operands]
    outs = list(function(arguments))
    outs, outer, more = closed(outs, arguments)
    return recomputed([*operands, *outer], [*arguments, *more], outs)


def recomputed(operands: Sequence[Node], arguments: Sequence[Node], outs: Sequence[Node]) -> list[Node]:
    """A call of the function that makes ``outs`` of ``arguments``, and again for each derivative."""
    from staticad.autodiff import pull, push

    def vjp(nodes: Sequence[Node], gs: Sequence[Node]) -> Sequence[Node | None]:
        xs = nodes[0].args[1:]
        seeds = [placeholder(g.type) for g in gs]
        found = pull([outs[node.params["number"]] for node in nodes], arguments, seeds)
        # Only there when the cotangents are, or it would be computed beside the forward pass, and kept.
        given = [*(after(x, *gs) for x in xs), *gs]
        return [None, *together(found, given, [*arguments, *seeds])]

    def jvp(nodes: Sequence[Node], tangents: Sequence[Node | None]) -> Sequence[Node | None]:
        moves = [(x, t) for x, t in zip(arguments, tangents[1:], strict=True) if t is not None]
        seeds = [placeholder(t.type) for _, t in moves]
        found = push([outs[node.params["number"]] for node in nodes], [x for x, _ in moves], seeds)
        return together(found, [*nodes[0].args[1:], *(t for _, t in moves)], [*arguments, *seeds])

    def together(found: Sequence[Node | None], given: Sequence[Node], stand: Sequence[Node]) -> list[Node | None]:
        """The derivatives that there are, as a call that is computed again in its turn."""
        there = iter(recomputed(given, stand, [x for x in found if x is not None]))
        return [None if x is None else next(there) for x in found]

    computed = substitute(outs, dict(zip(arguments, map(stop_gradient, operands), strict=True)))
    return results(operands, computed, Together(vjp, jvp, own=1))


# ---- ops


def _vjp(nodes: Sequence[Node], gs: Sequence[Node]) -> Sequence[Node | None]:
    return nodes[0].params["body"].rule.vjp(nodes, gs)


def _jvp(nodes: Sequence[Node], tangents: Sequence[Node | None]) -> Sequence[Node | None]:
    return nodes[0].params["body"].rule.jvp(nodes, tangents)


def _lanes(
    nodes: Sequence[Node], operands: Sequence[Node], batched: Sequence[bool], lanes: Shape
) -> Sequence[tuple[Node, bool]]:
    """A call whose rule is that of one, in lanes."""
    from staticad.batching import batch

    rule: Together = nodes[0].params["body"].rule
    alone = {number(node): node for node in nodes}
    xs, has = nodes[0].args[1:], batched[len(nodes) :]

    def in_lanes(found: Sequence[Node | None], many: Sequence[Node], seeds: dict[Node, Node]) -> list[Node | None]:
        """What the rule gives for one, for all: the nodes of its call with those of ``many``."""
        each = list(zip(xs, many[0].args[1:], has, strict=True))
        given = {x: y for x, y, x_has in each if x_has} | {alone[number(x)].args[0]: x.args[0] for x in many}
        given |= {alone[number(x)]: x for x in many} | seeds
        # Operands that are the same for all lanes may have been replaced since.
        same = {x: y for x, y, x_has in each if not x_has} | {x: x for x in given}
        there = iter(batch(substitute([x for x in found if x is not None], same), given, lanes))
        return [None if x is None else every(*next(there)) for x in found]

    def every(x: Node, x_has: bool) -> Node:
        return x if x_has else spread(x, lanes)

    def vjp(many: Sequence[Node], gs: Sequence[Node]) -> Sequence[Node | None]:
        ones = [alone[number(node)] for node in many]
        seeds = [placeholder(node.type) for node in ones]
        found = in_lanes(rule.vjp(ones, seeds), many, dict(zip(seeds, gs, strict=True)))
        parts = zip(found[1:], has, strict=True)
        return [None, *(g if g is None or x_has else sum_(g, axes=tuple(range(len(lanes)))) for g, x_has in parts)]

    def jvp(many: Sequence[Node], tangents: Sequence[Node | None]) -> Sequence[Node | None]:
        ones = [alone[number(node)] for node in many]
        moving = zip(xs, tangents[1:], has, strict=True)
        seeds = [t if t is None or not x_has else placeholder(x.type) for x, t, x_has in moving]
        given = {s: t for s, t, x_has in zip(seeds, tangents[1:], has, strict=True) if s and t and x_has}
        return in_lanes(rule.jvp(ones, [None, *seeds]), many, given)

    own = [every(x, x_has) for x, x_has in zip(operands, batched[: len(nodes)], strict=False)]
    call = Call(Together(vjp, jvp, own=1))
    return [
        (result(x, *operands[len(nodes) :], body=call, number=number(node)), True)
        for x, node in zip(own, nodes, strict=True)
    ]


def number(node: Node) -> int:
    return node.params["number"]


def _sample() -> Array:
    return np.array([[1.5, -2.0, 0.25], [3.0, -0.5, 1.0]])


def _identity_examples() -> Iterable[Example]:
    """A call of the identity, whose rule passes on what it gets."""
    rule = Together(lambda nodes, gs: (gs[0], None), lambda nodes, tangents: tangents[:1], own=1)
    yield Example((_sample(), np.array(3)), {"body": Call(rule), "number": 0})


# fmt: off
#: What a function computed, operand 0, as result ``number`` of a call whose operands follow it.
result = Op(
    name="result", infer=lambda out, *operands, body, number: out, numpy=lambda out, *operands, body, number: out,
    lower=SAME, vjp=lambda node, g: _vjp([node], [g]), jvp=lambda node, tangents: _jvp([node], tangents)[0],
    together=Together(_vjp, _jvp, _lanes, own=1), examples=_identity_examples,
)
#: Operand 0, for what is computed no sooner than the operands that follow it.
after = Op(
    name="after", infer=lambda x, *others: x, numpy=lambda x, *others: x, lower=SAME,
    vjp=lambda node, g: [g, *[None] * (len(node.args) - 1)], jvp=lambda node, tangents: tangents[0],
    batch=lambda node, operands, batched, lanes: after(*operands),
    examples=lambda: [Example((_sample(), np.ones(2))), Example((_sample(),))],
)
# fmt: on
