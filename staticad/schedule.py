"""From a graph to a loop tree: every stored value starts as a nest of its own, and nests merge loop by loop.

One move: a nest joins an existing loop over the same extent when every value that crosses between them is produced and
consumed at the same index there. Knows lowerings, never op names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from staticad.ir import Graph, Node
from staticad.loops import (
    Compute,
    Coordinates,
    Item,
    Loop,
    Start,
    Statement,
    Step,
    Whole,
    accesses,
    divides,
    is_var,
    resolve,
    substitute_all,
)
from staticad.lowering import Map, Reduce, Uninitialised, Update, View
from staticad.shapes import Dim, Symbol, symbol
from staticad.store import Reads, Storage, choose_storage, fresh_vars

#: Nodes that one outermost loop may hold: keeps bodies within what registers and compile time bear.
LOOP_WEIGHT = 4000
#: Siblings that a nest looks back over for a loop to join; bounds the work for graphs of any size.
LOOK_BACK = 64


@dataclass(eq=False)
class Schedule:
    """``body``: the loop tree; ``storage``: which nodes have buffers; ``outputs``: the nodes that the graph returns."""

    graph: Graph
    body: list[Item]
    storage: Storage


@dataclass(eq=False)
class Nest:
    """One statement in its own loops, before it is placed; ``reads`` and ``writes`` name buffers and indices there."""

    chain: list[Loop]
    leaf: Statement
    reads: Reads
    writes: list[tuple[Node, Coordinates]]
    weight: int = 1
    roots: set[Node] = field(init=False)

    def __post_init__(self) -> None:
        self.roots = {node for node, _ in self.reads}

    def rename(self, old: Symbol, new: Symbol) -> None:
        """Use the loop variable ``new`` instead of ``old``."""
        values: dict[Symbol, Dim] = {old: symbol(new)}
        self.reads = [(node, None if index is None else substitute_all(index, values)) for node, index in self.reads]
        self.writes = [(node, substitute_all(index, values)) for node, index in self.writes]
        rename_items([self.leaf], values)


def rename_items(items: Sequence[Item], values: Mapping[Symbol, Dim]) -> None:
    """Use other loop variables in everything below ``items``."""
    for item in items:
        if isinstance(item, Loop):
            item.writes = {node: [substitute_all(w, values) for w in found] for node, found in item.writes.items()}
            rename_items(item.body, values)
        elif isinstance(item, (Compute, Start)):
            item.index = substitute_all(item.index, values)
            if isinstance(item, Compute) and item.source is not None:
                item.source = substitute_all(item.source, values)
        elif isinstance(item, Step):
            item.target = substitute_all(item.target, values)
            item.source = substitute_all(item.source, values)


def schedule(graph: Graph) -> Schedule:
    """The loop tree of ``graph``, whose outputs are distinct nodes that are no sources."""
    storage = choose_storage(graph)
    builder = Builder(storage)
    body: list[Item] = []
    for node in storage.stored:
        nests = builder.nests(node)
        if len(nests) == 2:
            place_pair(body, nests[0], nests[1])
        else:
            place(body, nests[0])
    return Schedule(graph, body, storage)


class Builder:
    """Makes nests; numbers the loop variables."""

    def __init__(self, storage: Storage):
        self.storage = storage
        self.count = 0

    def loops(self, shape: Sequence[Dim], keep: Sequence[int] = ()) -> tuple[list[Loop], Coordinates]:
        """A loop for each axis but those of size 1 (unless in ``keep``), and the index they make."""
        chain: list[Loop] = []
        index: list[Dim] = []
        for axis, extent in enumerate(shape):
            if extent == 1 and axis not in keep:
                index.append(0)
                continue
            var = Symbol(f"i{self.count}", "var")
            self.count += 1
            chain.append(Loop(var, extent))
            index.append(symbol(var))
        return chain, tuple(index)

    def nests(self, node: Node) -> list[Nest]:
        lower = node.op.lower
        root = self.storage.root[node]
        if isinstance(lower, (Map, View)):
            return [self.compute(node, root)]
        if isinstance(lower, Reduce):
            return self.running(node, root) if lower.running else self.reduction(node, root)
        if isinstance(lower, Update):
            return self.update(node, root, lower)
        reads: Reads = []
        for x in node.args:
            memory = strided_memory(self.storage, x)
            reads.append((memory, None))
        return [Nest([], Whole(node, root), reads, [(root, ())])]

    def compute(self, node: Node, root: Node) -> Nest:
        lower = node.op.lower
        if isinstance(lower, View) and lower.alias:
            source_chain, source = self.loops(node.args[0].shape)
            read = accesses(node, tuple(fresh_vars(len(node.shape))))[0]
            index = lower.write(node, source) if lower.write is not None and divides(read.index) else ()
            if index and not divides(index):
                reads = self.storage.element_reads(node.args[0], source)
                return Nest(source_chain, Compute(node, root, index, source), reads, [(root, index)])
        chain, index = self.loops(node.shape)
        reads = self.storage.operand_reads(node, index)
        return Nest(chain, Compute(node, root, index), reads, [(root, index)], weight=len(reads) + 1)

    def reduction(self, node: Node, root: Node) -> list[Nest]:
        """Innermost reduced axes accumulate in a scalar; others in memory, in the order of the operand."""
        axes: tuple[int, ...] = node.params["axes"]
        shape = node.args[0].shape
        chain, source = self.loops(shape, keep=axes)
        target = tuple(d for axis, d in enumerate(source) if axis not in axes)
        reads = [r for x in node.args for r in self.storage.element_reads(x, source)]
        inner = [axis for axis in range(len(shape)) if axis in axes or shape[axis] != 1]
        first = next(k for k, axis in enumerate(inner) if axis in axes)
        if all(axis in axes for axis in inner[first:]):
            chain[first].reduces.append(node)
            return [Nest(chain, Step(node, root, target, source, scalar=True), reads, [(root, target)], len(reads) + 1)]
        start_chain, index = self.loops(node.shape)
        step = Step(node, root, target, source, scalar=False)
        return [
            Nest(start_chain, Start(node, root, index), [], [(root, index)]),
            Nest(chain, step, [*reads, (root, target)], [(root, target)], len(reads)),
        ]

    def running(self, node: Node, root: Node) -> list[Nest]:
        """The axis goes innermost; its accumulator is a scalar, and every step's value an element of the result."""
        axis: int = node.params["axis"]
        chain, index = self.loops(node.shape, keep=(axis,))
        mine = next(loop for loop in chain if index[axis] == symbol(loop.var))
        chain.remove(mine)
        chain.append(mine)
        mine.reduces.append(node)
        reads = [r for x in node.args for r in self.storage.element_reads(x, index)]
        return [Nest(chain, Step(node, root, index, index, scalar=True), reads, [(root, index)], len(reads) + 1)]

    def update(self, node: Node, root: Node, lower: Update) -> list[Nest]:
        base, x = node.args[0], node.args[1]
        chain, source = self.loops(x.shape)
        target = resolve(node, lower.target(node, source))
        reads = self.storage.element_reads(x, source)
        reads = reads + self.storage.run_time_reads(target)
        leaf = Step(node, root, target, source, scalar=False)
        step = Nest(chain, leaf, [*reads, (root, target)], [(root, target)], len(reads) + 1)
        if root is not node:
            return [step]
        if isinstance(base.op.lower, Uninitialised):
            step.reads = reads
            step.roots = {n for n, _ in reads}
            return [step]
        start_chain, index = self.loops(node.shape)
        copied = self.storage.element_reads(base, index)
        return [Nest(start_chain, Start(node, root, index), copied, [(root, index)]), step]


def strided_memory(storage: Storage, x: Node) -> Node:
    """The buffer that a whole operand lies in, with its strided views taken off."""
    while not storage.has_memory(x):
        x = x.args[0]
    return storage.root.get(x, x)


def place(body: list[Item], nest: Nest) -> None:
    """Put a nest into the tree: loop by loop into the loop it may join, the rest as new loops at the end."""
    chain = nest.chain
    while chain:
        loop = chain[0]
        at = find(body, nest, loop)
        if at is None:
            break
        at = unite(body, nest, loop, at)
        joined = body[at]
        assert isinstance(joined, Loop)
        join(joined, nest, loop)
        chain = chain[1:]
        body = joined.body
    append(body, nest, chain)


def append(body: list[Item], nest: Nest, chain: list[Loop], at: int | None = None) -> None:
    """The rest of a nest as loops of its own."""
    item: Item = nest.leaf
    for loop in reversed(chain):
        loop.body.append(item)
        note(loop, nest)
        item = loop
    if at is None:
        at = len(body) if chain else earliest(body, nest)
    body.insert(at, item)


def earliest(body: list[Item], nest: Nest) -> int:
    """The first place where what a statement reads is there. Early scalars keep the loops that follow free to merge."""
    at = len(body)
    while at > 0 and written(body[at - 1]).isdisjoint(nest.roots):
        at -= 1
    while at < len(body) and not isinstance(body[at], (Loop, Whole)):
        at += 1  # behind the scalars that are there, in the order they came
    return at


def join(into: Loop, nest: Nest, loop: Loop) -> None:
    nest.rename(loop.var, into.var)
    into.reduces += loop.reduces
    note(into, nest)


def note(loop: Loop, nest: Nest) -> None:
    for node, index in nest.writes:
        loop.writes.setdefault(node, []).append(index)
    loop.reads |= nest.roots
    loop.weight += nest.weight


def place_pair(body: list[Item], start: Nest, step: Nest) -> None:
    """Put an accumulation into the tree: ``start`` before the loop that ``step`` joins, or both into it."""
    result = start.writes[0][0]
    chain = step.chain
    while chain:
        at = find(body, step, chain[0], ignore=result)
        if at is None or any(written(item) & start.roots for item in body[at:]):
            break
        joined = body[at]
        assert isinstance(joined, Loop)
        together = (
            start.chain
            and start.chain[0].extent == joined.extent
            and any(
                is_var(s, start.chain[0].var) and is_var(t, chain[0].var)
                for s, t in zip(start.writes[0][1], step.writes[0][1], strict=True)
            )
        )
        if not together:
            append(body, start, start.chain, at)
            join(joined, step, chain[0])
            step.chain = chain[1:]
            place(joined.body, step)
            return
        join(joined, start, start.chain[0])
        join(joined, step, chain[0])
        start.chain, chain = start.chain[1:], chain[1:]
        step.chain = chain
        body = joined.body
    place(body, start)
    place(body, step)


def written(item: Item) -> set[Node]:
    """The buffers that an item writes."""
    return set(item.writes) if isinstance(item, Loop) else {item.buffer}


def find(body: list[Item], nest: Nest, loop: Loop, ignore: Node | None = None) -> int | None:
    """The position of the loop in ``body`` that ``loop`` of ``nest`` may join and gains from, if there is one."""
    sharing: int | None = None
    needs = nest.roots - {ignore}
    for at in range(len(body) - 1, max(-1, len(body) - 1 - LOOK_BACK), -1):
        item = body[at]
        if isinstance(item, Loop):
            crossing = not needs.isdisjoint(item.writes)
            if item.extent == loop.extent and item.weight + nest.weight <= LOOP_WEIGHT:
                shares = any(len(node.shape) > 0 for node in needs & item.reads)
                if (crossing or (shares and sharing is None)) and aligned(item, nest, loop, needs):
                    if crossing:
                        return at
                    sharing = at
            if crossing:
                break
        elif item.buffer in needs:
            break
    return sharing


def unite(body: list[Item], nest: Nest, loop: Loop, at: int) -> int:
    """Merge the loops that ``nest`` needs values from into one, where they do not depend on each other.

    ``at`` is the one that ``nest`` would join; what an earlier one made would otherwise go through memory as a whole.
    """
    for before in range(at - 1, max(-1, at - 1 - LOOK_BACK), -1):
        late, early = body[at], body[before]
        assert isinstance(late, Loop)
        if not isinstance(early, Loop) or nest.roots.isdisjoint(early.writes):
            continue
        if early.extent != loop.extent or early.weight + late.weight + nest.weight > LOOP_WEIGHT:
            continue
        apart = late.reads.isdisjoint(early.writes) and set(late.writes).isdisjoint(early.reads | set(early.writes))
        free = all(written(item).isdisjoint(late.reads | nest.roots) for item in body[before + 1 : at])
        if apart and free and aligned(early, nest, loop, nest.roots):
            values: dict[Symbol, Dim] = {late.var: symbol(early.var)}
            rename_items([late], values)
            early.body += late.body
            early.reduces += late.reduces
            for node, found in late.writes.items():
                early.writes.setdefault(node, []).extend(found)
            early.reads |= late.reads
            early.weight += late.weight
            del body[at]
            at = before
    return at


def aligned(into: Loop, nest: Nest, loop: Loop, needs: set[Node]) -> bool:
    """Whether every value that crosses from ``into`` to ``nest`` is made and read at the same index of the loop."""
    for node, index in nest.reads:
        writes = into.writes.get(node) if node in needs else None
        if writes is None:
            continue
        if index is None:
            return False
        if not any(
            is_var(d, loop.var) and all(axis < len(w) and is_var(w[axis], into.var) for w in writes)
            for axis, d in enumerate(index)
        ):
            return False
    return True
