"""Loops of plain arithmetic, of which LLVM does several steps at once where nothing branches; knows the loop tree and
the plan, no source."""

from __future__ import annotations

from staticad.effort import flops, reads
from staticad.ir import Node
from staticad.loops import Compute, Coordinates, Loop, Start, Statement, Step, elements, is_var
from staticad.lowering import Reduce
from staticad.plan import Plan
from staticad.shapes import Dim, Element, add, known_ge
from staticad.store import strided

#: Steps of innermost loops that LLVM would unroll before it vectorises. Others are best unrolled, or so many that it
#: leaves them alone.
UNROLLED = frozenset({4, *range(8, 129)})
#: Elements that a loop of copies may move for LLVM to unroll it.
MOVED = 64
#: Steps of a loop, and flops of one that sums nothing, below which a look at all its indices before it costs more than
#: it saves.
FEWEST, LEAST = 8, 4


def straight(plan: Plan, loop: Loop) -> bool:
    """Whether the steps of a loop are plain arithmetic, and enough of it, each on elements of its own."""
    if loop.test or loop.steps is not None or loop.block or known_ge(FEWEST - 1, loop.extent):
        return False
    if loop.within is not None and loop.within.lanes:
        return False
    for item in loop.body:
        if isinstance(item, Loop):
            if not (copies(plan, item, loop) or unrolled(item)):
                return False
        elif not plain(item):
            return False
    return bool(loop.reduces) or known_ge(work(plan, loop), LEAST)


def work(plan: Plan, loop: Loop) -> Dim:
    """The flops of a step, without inner loops."""
    total: Dim = 0
    for item in loop.body:
        if isinstance(item, (Compute, Step)):
            total = add(total, flops(plan.schedule.storage, item))
    return total


def plain(item: object) -> bool:
    """Whether an item computes one element, whose place it knows."""
    if isinstance(item, Step):
        lower = item.node.op.lower
        return not (isinstance(lower, Reduce) and lower.running) and not any(True for _ in elements(item.target))
    return isinstance(item, (Compute, Start)) and not any(True for _ in elements(item.index))


def unrolled(loop: Loop) -> bool:
    """Whether LLVM puts the steps of an inner loop one after the other, and finds plain arithmetic there."""
    few = isinstance(loop.extent, int) and loop.extent < FEWEST and loop.extent not in UNROLLED
    return few and not loop.test and loop.steps is None and all(plain(item) for item in loop.body)


def copies(plan: Plan, loop: Loop, outer: Loop) -> bool:
    """Whether a loop only moves elements of small arrays that ``outer`` writes one by one.

    Unrolled, they are no arrays but local variables."""
    if not isinstance(loop.extent, int) or loop.reduces or loop.extent * len(loop.body) > MOVED:
        return False
    return all(isinstance(item, (Compute, Step)) and moves(plan, item, loop, outer) for item in loop.body)


def moves(plan: Plan, item: Statement, loop: Loop, outer: Loop) -> bool:
    found = reads(plan.schedule.storage, item)
    return len(found) == 1 and all(one_by_one(plan, x, index, loop, outer) for x, index in found)


def one_by_one(plan: Plan, x: Node, index: Coordinates | None, loop: Loop, outer: Loop) -> bool:
    """Whether the elements of ``x`` that the steps of ``loop`` read are each written by a statement of its own."""
    b = plan.buffers.get(x)
    if index is None or b is None or b.place != "local" or x not in outer.writes:
        return False
    axes = [axis for axis, d in enumerate(index) if is_var(d, loop.var)]
    return len(axes) == 1 and all(w and isinstance(w[axes[0]], int) for w in outer.writes[x])


def read_ahead(plan: Plan, loop: Loop, element: Element) -> tuple[Node, Coordinates] | None:
    """Where in memory an index read at run time is, if all of a loop may be looked at before the first step."""
    array = element.array
    assert isinstance(array, Node)
    found = strided(plan.schedule.storage, array, element.index)
    if found is None or not plan.schedule.storage.has_memory(found[0]):
        return None
    node, index = found
    buffer = plan.schedule.storage.buffer(node)
    b = plan.buffers.get(buffer)
    if buffer in loop.writes or (b is not None and b.place not in ("work", "output")):
        return None
    return buffer, index
