"""Derivatives of a few ops together in terms of what they give: simpler than the chain of their own, and needing less
of what was computed on the way; knows ops, no loops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from staticad.forms import passes_by
from staticad.ir import Node, Op
from staticad.ops import arithmetic, reductions
from staticad.stable import softmax_parts


@dataclass(frozen=True)
class Closed:
    """A function of ``x``: ``move`` takes a cotangent of the result to that of x, and a tangent of x to the result's.

    One function does both, since the Jacobian is symmetric.
    """

    x: Node
    move: Callable[[Node], Node]


def softmax(node: Node) -> Closed | None:
    """``out = exp(x) / sum(exp(x))`` along some axes moves by ``out * (g - sum(out * g))``."""
    parts = softmax_parts(node)
    if parts is None or parts[2]:
        return None
    x, sum_, _ = parts
    axes = sum_.params["axes"]

    def move(g: Node) -> Node:
        return node * (g - reductions.restore(reductions.sum_(node * g, axes=axes), g.shape, axes))

    return Closed(x, move)


# fmt: off
CLOSED: dict[Op, Callable[[Node], Closed | None]] = {
    arithmetic.divide: softmax,
}
# fmt: on


def closed_forms(order: Sequence[Node], kept: Collection[Node]) -> dict[Node, Closed]:
    """The nodes of ``order`` with such derivatives; none that would pass by a node of ``kept``."""
    there = set(order)
    found: dict[Node, Closed] = {}
    for node in order:
        rule = CLOSED.get(node.op)
        closed = None if rule is None else rule(node)
        if closed is not None and not (kept and passes_by(node, closed.x, there, kept)):
            found[node] = closed
    return found
