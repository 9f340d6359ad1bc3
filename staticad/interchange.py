"""Turns loops so that the innermost one goes along memory: those of a running sum over an axis that is not the last.

Knows the loop tree, no op. A loop over elements, each with a running sum of its own inside, becomes a loop over the
steps of the sum, each with a loop over elements inside, which vectorises: a step reads what the step before it stored.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from staticad.ir import Node
from staticad.loops import Choice, Compute, Item, Loop, Start, Step, is_var
from staticad.lowering import Reduce
from staticad.shapes import known_ge

#: Steps that a loop must take to be worth a place inside of another.
FEWEST = 8


def interchanged(body: Sequence[Item], kept: Collection[Node]) -> list[Item]:
    """The items with loops turned where that is right and pays; ``kept``: what must be in memory as a whole anyway."""
    readers = Counter(node for item in body if isinstance(item, (Loop, Choice)) for node in item.reads)
    out: list[Item] = []
    for item in body:
        if isinstance(item, Loop):
            stored = {node for node in item.writes if node in kept or readers[node] > (node in item.reads)}
            item.body = interchanged(item.body, stored)
            out += turned(item, stored)
        elif isinstance(item, Choice):
            item.branches = [interchanged(items, item.writes) for items in item.branches]
            out.append(item)
        else:
            out.append(item)
    return out


def turned(outer: Loop, kept: Collection[Node]) -> list[Loop]:
    """``outer``, or loops that together do the same, with the running sum's loop around the one over elements."""
    found = [k for k, item in enumerate(outer.body) if isinstance(item, Loop) and turns(outer, item, kept)]
    if not found or outer.reduces or outer.block or outer.steps or known_ge(FEWEST - 1, outer.extent):
        return [outer]
    if any(not isinstance(item, (Compute, Start, Step, Loop)) or in_order(item) for item in outer.body):
        return [outer]
    apart: list[Loop] = []
    rest: list[Item] = []
    for k, item in enumerate(outer.body):
        if k not in found:
            rest.append(item)
            continue
        if rest:
            apart.append(over(outer, rest))
            rest = []
        assert isinstance(item, Loop)
        for step in item.body:
            if isinstance(step, Step):
                step.scalar = False
        apart.append(Loop(item.var, item.extent, [over(outer, item.body)], [], item.writes, item.reads, item.weight))
    return [*apart, over(outer, rest)] if rest else apart


def in_order(item: Item) -> bool:
    """Whether an item is a loop whose steps follow each other: what is before and after it belongs to it."""
    return isinstance(item, Loop) and item.steps is not None


def over(loop: Loop, body: list[Item]) -> Loop:
    """The steps of ``loop`` for a part of what is in it."""
    return Loop(loop.var, loop.extent, body, [], loop.writes, loop.reads, loop.weight, within=loop.within)


def turns(outer: Loop, inner: Loop, kept: Collection[Node]) -> bool:
    """Whether ``inner`` holds nothing but running sums over it along the axis before the last, and what is made there.

    Every statement is then about one element of ``outer``, and about one step."""
    if not inner.reduces or inner.within is not None or inner.steps is not None:
        return False
    for node in inner.reduces:
        lower = node.op.lower
        assert isinstance(lower, Reduce)
        if not lower.running or node not in kept:
            return False
    for item in inner.body:
        if isinstance(item, Step) and item.node in inner.reduces:
            if not is_var(item.target[-1], outer.var):
                return False
        elif not isinstance(item, Compute) or item.source is not None or not is_var(item.index[-1], outer.var):
            return False
    return True
