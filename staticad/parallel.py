"""Which loops of a plan may run on several threads, and what each thread then needs for itself; writes no source.

A loop at the top of the tree is cut into runs of consecutive steps, one for each thread. That changes nothing if every
step keeps to elements of its own, apart from sums over the steps (and other reductions), which each run starts anew in
a place of its own and which are put together in order, and from buffers that hold one step's values, of which each run
but the first gets a copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from staticad.effort import units
from staticad.ir import Node
from staticad.loops import Coordinates, Item, Loop, Start, Step, Tile, statements
from staticad.lowering import Contract, Reduce, Update, extents
from staticad.plan import Plan, Use, item_uses
from staticad.shapes import Dim, add, counts, floordiv, known_ge, maximum, mul, product, substitute, symbols
from staticad.workspace import aligned

#: `staticad.compile`'s choice: where the work seems to pay for it, wherever it is possible, nowhere.
Mode: TypeAlias = 'Literal["auto"] | bool'

#: Units of work (see `effort.units`; about 20 microseconds) that a run should have: it takes some to wake a thread.
LEAST = 640_000
#: And a block of steps, in a loop over blocks (about 100 microseconds).
BLOCK = 3_200_000
#: Multiplications and additions of a product below which its kernel never uses several threads.
SHARED = 160_000
#: Steps that a loop whose length is not known before is taken to have.
STEPS = 16
#: Bytes of an accumulated array up to which each run gets a copy of it.
ACCUMULATED = 1 << 18


#: How partial results are combined, by the step that makes them.
WAYS = {
    "m.radd({acc}, {x})": "radd",
    "{acc} + {x}": "radd",
    "{acc} or {x}": "radd",
    "m.rmul({acc}, {x})": "rmul",
    "{acc} and {x}": "rmul",
    "m.rmax({acc}, {x})": "rmax",
    "m.rmin({acc}, {x})": "rmin",
}


@dataclass(frozen=True, eq=False)
class Parallel:
    """A loop that may be cut into runs.

    ``work`` of all its steps together, in units; ``always``: whatever the work; ``targets``: where the result of each
    of its ``reduces`` goes, which is a scalar of every run; ``partial``: the buffers that all steps accumulate into,
    and the node whose lowering tells how; ``scalars``: those that are local variables, likewise; ``private``: what is
    in the workspace for one step's values, with its bytes: buffers, and where those begin that take the same memory
    one after the other.
    """

    loop: Loop
    work: Dim
    always: bool
    targets: dict[Node, Coordinates]
    partial: dict[Node, Node]
    scalars: dict[Node, Node]
    private: dict[Node | Dim, Dim]


def parallel_loops(plan: Plan, mode: Mode) -> dict[Loop, Parallel]:
    """The top-level loops to be cut where there is enough work at run time (or always, with True)."""
    found: dict[Loop, Parallel] = {}
    for position, item in enumerate(plan.schedule.body):
        if mode is False or not isinstance(item, Loop):
            continue
        parallel = examine(plan, item, position, mode is True)
        if parallel is not None and (mode is True or worth(item, parallel.work)):
            found[item] = parallel
    return found


def worth(loop: Loop, work: Dim) -> bool:
    """Whether several threads may pay.

    Not where there surely is little work; nor where a block is little, since such a program is mostly given few of
    them, and a loop that is cut takes longer to compile and to call."""
    if known_ge(2 * LEAST - 1, work):
        return False
    if not loop.block:
        return True
    if isinstance(loop.extent, int):
        return not known_ge(BLOCK - 1, floordiv(mul(work, loop.block), loop.extent))
    return not known_ge(BLOCK - 1, substitute(work, dict.fromkeys(symbols(loop.extent), loop.block)))


def examine(plan: Plan, loop: Loop, position: int, always: bool) -> Parallel | None:
    """How a loop may be cut; None if a step needs what another one made."""
    uses: dict[Node, list[Use]] = {}
    for node, use in item_uses(plan.schedule.storage, loop, position):
        uses.setdefault(node, []).append(use)
    steps: dict[Node, list[Node]] = {}
    started: set[Node] = set()
    targets: dict[Node, Coordinates] = {}
    for _, statement in statements([loop]):
        if isinstance(statement, Step):
            steps.setdefault(statement.buffer, []).append(statement.node)
            targets[statement.node] = statement.target
        elif isinstance(statement, Tile) and statement.more:
            steps.setdefault(statement.buffer, []).append(statement.node)
        elif isinstance(statement, Start):
            started.add(statement.buffer)
    if loop.after or loop.test:
        return None  # what carries a value from step to step
    work = units(plan.schedule.storage, [loop])
    work = substitute(work, dict.fromkeys(counts([work]), STEPS))
    parallel = Parallel(loop, work, always, {}, {}, {}, {})
    for node in loop.reduces:
        if merging(node) is None:
            return None
        parallel.targets[node] = targets[node]
    sums = {plan.schedule.storage.root[node] for node in parallel.targets}
    for buffer, found in uses.items():
        b = plan.buffers.get(buffer)
        if b is None or not any(use.writes for use in found) or buffer in sums:
            continue  # an argument that is only read, or a sum, which is written after the loop
        if b.place == "tape":
            if buffer not in loop.inside:
                return None
            continue  # each run has a tape of its own
        own = [0] if buffer in loop.inside else own_axes(loop, found)
        if buffer not in loop.inside and any(axis in b.axes and axis not in b.blocks for axis in own):
            if b.base is not None:
                return None
            continue
        if own:
            if b.place != "work":
                continue
            if b.base is None:
                parallel.private[buffer] = aligned(b.bytes)
            else:
                end = aligned(add(add(b.offset, mul(-1, b.base)), b.bytes))
                parallel.private[b.base] = maximum(parallel.private.get(b.base, 0), end)
            continue
        node = accumulates(found, steps.get(buffer, []))
        size = product(b.shape)
        small = isinstance(size, int) and size * buffer.dtype.itemsize <= ACCUMULATED
        if node is None or buffer in started or not small:
            return None
        (parallel.scalars if b.place == "scalar" else parallel.partial)[buffer] = node
    written = [x for x, found in uses.items() if any(use.writes for use in found)]
    leaves = any(x not in plan.buffers or plan.buffers[x].place != "scalar" for x in written)
    return parallel if leaves or parallel.targets or parallel.scalars else None  # what nothing reads is not written


def shared(item: Item) -> bool:
    """Whether an item is a product that may be shared among threads, which its kernel decides at run time."""
    return isinstance(item, Tile) and not known_ge(SHARED - 1, product(extents(item.node).values()))


def own_axes(loop: Loop, uses: Sequence[Use]) -> list[int]:
    """The axes along which each step of ``loop`` keeps to the elements that bear its number."""
    if any(use.index is None or loop not in use.path for use in uses):
        return []
    axes = range(min(len(use.index or ()) for use in uses))
    return [axis for axis in axes if all(use.index and loop.fixes(use.index[axis], use.path) for use in uses)]


def accumulates(uses: Sequence[Use], nodes: Sequence[Node]) -> Node | None:
    """The node that all uses of a buffer accumulate in one way, where the order of the steps does not matter."""
    if not nodes or any(not use.writes for use in uses) or len(uses) != len(nodes):
        return None
    ways = {merging(node) for node in nodes}
    return nodes[0] if len(ways) == 1 and None not in ways else None


def merging(node: Node) -> tuple[str, str] | None:
    """The start value of a partial result, as source, and how such are combined; None: there is no way."""
    lower = node.op.lower
    if isinstance(lower, Contract):
        return "0.0", "radd"
    if isinstance(lower, Reduce) and not lower.running and lower.step in WAYS:
        return lower.init(node.dtype), WAYS[lower.step]
    if isinstance(lower, Update) and lower.start is not None:
        return lower.start(node.dtype), WAYS[lower.step]
    return None


def count(loop: Loop) -> Dim:
    """The steps of a loop, or its blocks."""
    return floordiv(add(loop.extent, loop.block - 1), loop.block) if loop.block else loop.extent


def spare_units(plan: Plan, parallel: Parallel) -> Dim:
    """The work of starting and adding one more copy of what is accumulated."""
    total: Dim = 0
    for buffer in parallel.partial:
        total = add(total, product(plan.buffers[buffer].shape) * buffer.dtype.itemsize * 4)
    return total
