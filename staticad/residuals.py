"""What a pullback keeps of the forward pass: the cut between the two, by the cost that also decides what is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from staticad.ir import Node, clone, toposort
from staticad.lowering import Map, Source, View
from staticad.shapes import symbols
from staticad.store import RECOMPUTE_COST


def choose_residuals(outputs: Sequence[Node], grads: Sequence[Node]) -> list[Node]:
    """The nodes of the forward pass that the backward pass reads instead of computing them again.

    Sources are at hand anyway. Views, and maps that cost at most `RECOMPUTE_COST` flops an element from what is at
    hand, are computed again: reading a stored value costs as much. Everything else that both passes need is kept.
    """
    forward = dict.fromkeys(toposort(outputs))
    backward = toposort(grads)
    needed = {x for node in backward if node not in forward for x in node.args if x in forward}
    needed |= {node for node in grads if node in forward}
    cost: dict[Node, int] = {}
    for node in forward:
        lower = node.op.lower
        own = lower.cost if isinstance(lower, Map) else 0
        again = isinstance(lower, (Source, Map, View))
        cost[node] = own + sum(cost[x] for x in dict.fromkeys(node.args)) if again else RECOMPUTE_COST + 1
    kept: dict[Node, None] = {}
    stack = [node for node in reversed(list(forward)) if node in needed]
    seen: set[Node] = set()
    while stack:
        node = stack.pop()
        if node in seen or isinstance(node.op.lower, Source):
            continue
        seen.add(node)
        lower = node.op.lower
        run_time = any(s.kind == "count" for d in node.shape for s in symbols(d))
        if run_time or isinstance(lower, View) or (isinstance(lower, Map) and cost[node] <= RECOMPUTE_COST):
            stack.extend(node.args)
        else:
            kept[node] = None
    return list(kept)


def replace(outputs: Sequence[Node], with_input: Callable[[Node], Node | None]) -> list[Node]:
    """``outputs`` computed from replacements: ``with_input(node)`` gives what stands for a node, or None to keep it."""
    new: dict[Node, Node] = {}
    for node in toposort(outputs):
        other = with_input(node)
        if other is None:
            args = tuple(new[x] for x in node.args)
            other = node if args == node.args else clone(node, args)
        new[node] = other
    return [new[x] for x in outputs]
