"""From a graph to a loop tree: every stored value starts as a nest of its own, and `placing` merges nests loop by loop.

Knows lowerings, never op names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from staticad.interchange import interchanged
from staticad.ir import Graph, Node, toposort_until
from staticad.lanes import turned
from staticad.loops import (
    Carry,
    Choice,
    Compute,
    Coordinates,
    Item,
    Loop,
    Start,
    Step,
    Test,
    Tile,
    Whole,
    accesses,
    covered,
    divides,
    resolve,
    statements,
)
from staticad.lowering import Branch, Call, Contract, Map, Reduce, Repeat, Steps, Uninitialised, Update, View, extents
from staticad.placing import Nest, find, place, place_pair, rename_items
from staticad.shapes import Dim, Symbol, add, mul, symbol
from staticad.store import Reads, Storage, choose_storage, extend, fresh_vars
from staticad.tiles import Cut, cuts, indices


@dataclass(eq=False)
class Schedule:
    """``body``: the loop tree; ``storage``: which nodes have buffers; ``outputs``: the nodes that the graph returns."""

    graph: Graph
    body: list[Item]
    storage: Storage


def schedule(graph: Graph) -> Schedule:
    """The loop tree of ``graph``, whose outputs are distinct nodes that are no sources."""
    storage = choose_storage(graph)
    builder = Builder(storage, set(graph.nodes))
    body: list[Item] = []
    builder.fill(body, list(storage.stored))
    return Schedule(graph, interchanged([merged(item) for item in body], storage.whole), storage)


def newly(out: Node, known: dict[Node, None]) -> list[Node]:
    """The nodes below ``out`` that were not known, operands first; they are from now on."""
    found = toposort_until([out], known)
    known.update(dict.fromkeys(found))
    return found


def read_inside(items: Sequence[Item]) -> set[Node]:
    """What the loops and choices among ``items`` say that they read."""
    return set[Node]().union(*(item.reads for item in items if isinstance(item, (Loop, Choice))))


def chosen(body: list[Item], parts: list[tuple[Cut, list[Nest]]]) -> list[Nest] | None:
    """The way to cut a product: the first that joins a loop that is there, else the first that makes one."""
    for _, nests in parts:
        ignore = nests[0].writes[0][0] if len(nests) > 1 else None
        if find(body, nests[-1], nests[-1].chain[0], ignore) is not None:
            return nests
    return next((nests for cut, nests in parts if not cut.joins), None)


def merged(item: Item) -> Item:
    """The loop tree with loops that hold nothing but one part of a product taken back into the product."""
    if isinstance(item, Choice):
        item.branches = [[merged(inside) for inside in items] for items in item.branches]
    if not isinstance(item, Loop):
        return item
    item.body = [merged(inside) for inside in item.body]
    item.test = [merged(inside) for inside in item.test]
    if item.steps is not None:
        return item
    (only, *rest) = item.body
    if rest or not isinstance(only, Tile) or item.reduces or item.var not in only.letters.values():
        return item
    (letter,) = (c for c, var in only.letters.items() if var == item.var)
    del only.letters[letter]
    rename_items([only], {item.var: symbol(covered(letter))})
    return only


class Builder:
    """Makes nests; numbers the loop variables. ``seen`` are the nodes whose storage is decided."""

    def __init__(self, storage: Storage, seen: set[Node]):
        self.storage = storage
        self.seen = seen
        self.count = 0

    def fill(self, body: list[Item], nodes: Sequence[Node]) -> None:
        """Put what computes stored ``nodes``, operands first, at the end of ``body``."""
        together: dict[object, list[Node]] = {}
        for node in nodes:
            if isinstance(node.op.lower, (Repeat, Branch)):
                together.setdefault(node.params["body"], []).append(node)
        for node in nodes:
            lower = node.op.lower
            if isinstance(lower, (Repeat, Branch)):
                if results := together.pop(node.params["body"], None):
                    (self.repeat if isinstance(lower, Repeat) else self.choose)(body, results)
                continue
            nests = self.nests(node)
            if isinstance(lower, Contract):
                nests = chosen(body, [(cut, self.part(node, cut)) for cut in cuts(node)]) or nests
            for nest in nests:
                nest.wait(self.waits([node]))
            if len(nests) == 2:
                place_pair(body, nests[0], nests[1])
            else:
                place(body, nests[0])

    def repeat(self, body: list[Item], results: Sequence[Node]) -> None:
        """A loop whose steps follow each other: first carries before it, last ones after it, its body inside."""
        steps: Steps = results[0].params["body"]
        storage = self.storage
        values = {x: x.params["value"] for x in results if "value" in x.params}
        wanted = [*steps.nexts, *values.values()]
        known = dict.fromkeys(self.seen)
        tested = set(newly(steps.condition, known)) if steps.condition else set[Node]()
        nodes = [x for x in known if x in tested] + [x for out in wanted for x in newly(out, known)]
        self.seen |= set(nodes)
        for carry in steps.carries:
            storage.root[carry] = carry
        nodes = self.invariant(body, steps, nodes)
        nexts = {carry: x for carry, x in zip(steps.carries, steps.nexts, strict=True) if x not in tested}
        stored = extend(storage, nodes, wanted, nexts)
        for carry, init in zip(steps.carries, steps.inits, strict=True):
            place(body, self.copied(carry, carry, init))
        loop = Loop(steps.var, steps.length, steps=steps)
        self.fill(loop.test, [x for x in stored if x in tested])
        if steps.condition is not None:
            loop.test.append(Test(steps.condition))
        self.fill(loop.body, [x for x in stored if x not in tested])
        for node, value in values.items():
            t = symbol(steps.var)
            at = add(add(steps.length, -1), mul(-1, t)) if steps.reverse else t
            place(loop.body, self.copied(node, storage.root[node], value, (at,)))
        for carry, out in zip(steps.carries, steps.nexts, strict=True):
            if storage.root[out] is not carry:
                loop.after.append(Carry(out, carry))
        for _, statement in statements([loop]):
            loop.writes.setdefault(statement.buffer, []).append(())
        loop.inside = set(loop.writes) - set(steps.carries) - set(values)
        loop.reads |= self.read([*stored, *nodes, *wanted, *([steps.condition] if steps.condition else ())])
        loop.reads |= read_inside([*loop.test, *loop.body])
        waits = self.waits([*nodes, *results]) - set(loop.writes) - {storage.root[x] for x in results}
        if steps.condition is not None:  # how many steps it took is known when it has ended
            loop.writes |= {storage.root[x]: [()] for x in results if "count" in x.params}
        loop.reads |= waits
        loop.weight = len(stored)
        self.add(body, loop, waits)
        for node in results:
            if "count" in node.params:
                nest = self.copied(node, storage.root[node], node.params["count"])
                nest.roots |= set(loop.writes)  # what is known after the loop
                place(body, nest)
            elif node not in values:
                number: int = node.params["carry"]
                place(body, self.copied(node, storage.root[node], steps.carries[number]))

    def add(self, body: list[Item], loop: Loop, waits: Collection[Node]) -> None:
        """Put a loop over steps at the end of ``body``, or into one over blocks of elements that stands there."""
        found = turned(self.storage, loop, Symbol(f"i{self.count}", "var"))
        if found is None:
            body.append(loop)
            return
        self.count += 1
        for step in found.sums:
            chain, index = self.loops((loop.extent,))
            place(body, Nest(chain, Start(step.node, step.buffer, index), [], [(step.buffer, index)]))
        nest = Nest([found.blocks], loop, found.reads, found.writes, loop.weight)
        nest.wait(waits)
        place(body, nest)

    def choose(self, body: list[Item], results: Sequence[Node]) -> None:
        """A choice, whose branches hold what they alone compute."""
        storage, selector = self.storage, results[0].params["body"].selector
        choice = Choice(Test(selector), [[] for _ in range(results[0].params["body"].count)])
        choice.reads = self.read([selector])
        for k, items in enumerate(choice.branches):
            values = {x: value for x in results for branch, value in x.params["values"] if branch == k}
            known = dict.fromkeys(self.seen)
            nodes = [x for value in values.values() for x in newly(value, known)]
            self.seen |= set(nodes)
            stored = extend(storage, nodes, [], left=values.values())
            self.fill(items, stored)
            for node, value in values.items():
                place(items, self.copied(node, storage.root[node], value))
            choice.reads |= self.read([*nodes, *values.values()]) | self.waits([*nodes, *values.values()])
            choice.reads |= read_inside(items)
            choice.weight += len(stored) + len(values)
        choice.writes = {statement.buffer for _, statement in statements([choice])}
        everywhere = len(choice.branches)
        choice.results = {storage.root[x]: len(x.params["values"]) == everywhere for x in results}
        body.append(choice)

    def read(self, nodes: Sequence[Node]) -> set[Node]:
        """The buffers that nodes are, or are computed from, in place where they are not."""
        found: set[Node] = set()
        for node in nodes:
            for x in (node, *node.args):
                found |= {buffer for buffer, _ in self.storage.element_reads(x, tuple(fresh_vars(len(x.shape))))}
        return found

    def waits(self, nodes: Iterable[Node]) -> set[Node]:
        """The buffers that must be written before nodes are computed."""
        return set[Node]().union(*(self.storage.waits.get(x, ()) for x in nodes))

    def invariant(self, body: list[Item], steps: Steps, nodes: Sequence[Node]) -> list[Node]:
        """Compute before a loop what no step changes, if it is more than a view or a library function reads it.

        Returns the rest of ``nodes``."""
        changing: set[Node] = set(steps.carries)
        for node in nodes:
            if node.params.get("var") == steps.var or any(x in changing for x in node.args):
                changing.add(node)
        still = [x for x in nodes if x not in changing]
        read = {x for node in nodes if node in changing for x in node.args if x not in changing}
        called = {x for node in nodes if node in changing and isinstance(node.op.lower, Call) for x in node.args}
        dear = [
            x
            for x in still
            if x in steps.nexts or x in called or (x in read and isinstance(x.op.lower, Map) and x.args)
        ]
        self.fill(body, extend(self.storage, still, dear))
        return [x for x in nodes if x in changing]

    def copied(self, node: Node, root: Node, origin: Node, prefix: Coordinates = ()) -> Nest:
        """What makes elements of ``node``, at ``prefix`` and their index, those of another node."""
        chain, source = self.loops(origin.shape)
        index = (*prefix, *source)
        reads = self.storage.element_reads(origin, source)
        nest = Nest(chain, Compute(node, root, index, source, origin), reads, [(root, index)], weight=len(reads) + 1)
        nest.wait(self.waits([origin]) if origin not in self.storage.root else ())
        return nest

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
        if isinstance(lower, Contract):
            return self.part(node, Cut((), None))
        reads: Reads = [(self.storage.buffer(x), None) for x in node.args]
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

    def part(self, node: Node, cut: Cut) -> list[Nest]:
        """A product, cut so that it can join loops."""
        root, extent = self.storage.root[node], extents(node)
        chain: list[Loop] = []
        fixed: dict[str, Symbol] = {}
        for letter in (*cut.loops, *([cut.block] if cut.block else [])):
            fixed[letter] = Symbol(f"i{self.count}", "var")
            self.count += 1
            chain.append(Loop(fixed[letter], extent[letter], block=cut.rows if letter == cut.block else 0))
        target, sources = indices(self.storage, node, fixed)
        tile = Tile(node, root, fixed, target, sources, cut.more)
        if not cut.more:
            return [Nest(chain, tile, list(sources), [(root, target)], 4)]
        start = Start(node, root, target)
        step = Nest(chain, tile, [*sources, (root, target)], [(root, target)], 4)
        return [Nest([], start, [], [(root, target)]), step]
