"""From a graph to a loop tree: every stored value starts as a nest of its own, and nests merge loop by loop.

One move: a nest joins an existing loop over the same extent when every value that crosses between them is produced and
consumed at the same index there. For a part of a product, that index is a block: the loop that it joins, and every one
that joins it, goes over the steps of a block inside of a loop over blocks. Knows lowerings, never op names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
    Statement,
    Step,
    Test,
    Tile,
    Whole,
    accesses,
    covered,
    divides,
    is_var,
    parts,
    resolve,
    statements,
    substitute_all,
)
from staticad.lowering import Branch, Call, Contract, Map, Reduce, Repeat, Steps, Uninitialised, Update, View, extents
from staticad.shapes import Dim, Symbol, add, mul, symbol, symbols
from staticad.store import Reads, Storage, choose_storage, extend, fresh_vars
from staticad.tiles import Cut, cuts, indices

#: Nodes that one outermost loop may hold: keeps bodies within what registers and compile time bear.
LOOP_WEIGHT = 4000
#: The same of a loop over blocks: it holds few loops of its own, each of which takes long to compile.
BLOCK_WEIGHT = 150
#: The same of a loop over blocks of lanes: every statement in it is written out for each vector.
LANES_WEIGHT = 64
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
    leaf: Statement | Loop
    reads: Reads
    writes: list[tuple[Node, Coordinates]]
    weight: int = 1
    roots: set[Node] = field(init=False)

    def __post_init__(self) -> None:
        self.roots = {node for node, _ in self.reads}

    def wait(self, buffers: Iterable[Node]) -> None:
        """Come after what writes ``buffers``, in another loop."""
        self.reads = [*self.reads, *((node, None) for node in buffers)]
        self.roots |= set(buffers)

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
            rename_items(parts(item), values)
        elif isinstance(item, Choice):
            rename_items(parts(item), values)
        elif isinstance(item, (Compute, Start)):
            item.index = substitute_all(item.index, values)
            if isinstance(item, Compute) and item.source is not None:
                item.source = substitute_all(item.source, values)
        elif isinstance(item, Step):
            item.target = substitute_all(item.target, values)
            item.source = substitute_all(item.source, values)
        elif isinstance(item, Tile):
            item.target = substitute_all(item.target, values)
            item.sources = [(x, None if index is None else substitute_all(index, values)) for x, index in item.sources]
            names = {old: next(iter(symbols(new))) for old, new in values.items()}
            item.letters = {c: names.get(var, var) for c, var in item.letters.items()}


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
                nest.wait(self.storage.waits.get(node, ()))
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
        loop.reads |= self.read([*stored, *nodes])
        loop.weight = len(stored)
        self.add(body, loop)
        for node in results:
            if "count" in node.params:
                nest = self.copied(node, storage.root[node], node.params["count"])
                nest.roots |= set(loop.writes)  # what is known after the loop
                place(body, nest)
            elif node not in values:
                number: int = node.params["carry"]
                place(body, self.copied(node, storage.root[node], steps.carries[number]))

    def add(self, body: list[Item], loop: Loop) -> None:
        """Put a loop over steps at the end of ``body``, or into one over blocks of elements."""
        found = turned(self.storage, loop, Symbol(f"i{self.count}", "var"))
        if found is None:
            body.append(loop)
            return
        self.count += 1
        for step in found.sums:
            chain, index = self.loops((loop.extent,))
            place(body, Nest(chain, Start(step.node, step.buffer, index), [], [(step.buffer, index)]))
        place(body, Nest([found.blocks], loop, found.reads, found.writes, loop.weight))

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
            stored = extend(storage, nodes, [])
            self.fill(items, stored)
            for node, value in values.items():
                place(items, self.copied(node, storage.root[node], value))
            choice.reads |= self.read([*nodes, *values.values()])
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
        return Nest(chain, Compute(node, root, index, source, origin), reads, [(root, index)], weight=len(reads) + 1)

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
        chain = join(joined, nest, chain)
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
    while at < len(body) and not isinstance(body[at], (Loop, Choice, Tile, Whole)):
        at += 1  # behind the scalars that are there, in the order they came
    return at


def join(into: Loop, nest: Nest, chain: list[Loop]) -> list[Loop]:
    """Put the first loop of what is left of a nest's ``chain`` into another; returns what is left to be placed there.

    What joins a loop over blocks still needs its own loop, over the steps of a block; blocks that join a plain loop
    make it one."""
    loop = chain[0]
    into.reduces += loop.reduces
    if loop.block and not into.block:
        in_blocks(into, loop)
    if loop.block:
        adopt(nest.leaf, loop, into)
    if into.block and not loop.block:
        loop.reduces = []
        loop.within = into
        note(into, nest, {loop.var: symbol(into.var)})
        return chain
    nest.rename(loop.var, into.var)
    note(into, nest)
    return chain[1:]


def adopt(item: Item, loop: Loop, into: Loop) -> None:
    """Let what goes over the steps of a block of ``loop`` go over those of ``into``."""
    if isinstance(item, Loop):
        item.within = into if item.within is loop else item.within
        for inside in parts(item):
            adopt(inside, loop, into)


def in_blocks(loop: Loop, like: Loop) -> None:
    """Make a loop one over blocks, as ``like``, around a loop over the steps of one."""
    var = like.var
    inner = Loop(loop.var, loop.extent, loop.body, [], loop.writes, set(loop.reads), loop.weight, within=loop)
    values: dict[Symbol, Dim] = {loop.var: symbol(var)}
    loop.writes = {node: [substitute_all(w, values) for w in found] for node, found in loop.writes.items()}
    loop.var, loop.block, loop.lanes, loop.body = var, like.block, like.lanes, [inner]


def note(loop: Loop, nest: Nest, values: Mapping[Symbol, Dim] | None = None) -> None:
    for node, index in nest.writes:
        loop.writes.setdefault(node, []).append(substitute_all(index, values or {}))
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
            step.chain = join(joined, step, chain)
            place(joined.body, step)
            return
        start.chain, chain = join(joined, start, start.chain), join(joined, step, chain)
        step.chain = chain
        body = joined.body
    place(body, start)
    place(body, step)


def starts_from_array(start: Start) -> bool:
    """Whether the first value is another array's element."""
    return isinstance(start.node.op.lower, Update)


def written(item: Item) -> set[Node]:
    """The buffers that an item writes."""
    if isinstance(item, (Loop, Choice)):
        return set(item.writes)
    return set() if isinstance(item, Test) else {item.buffer}


def find(body: list[Item], nest: Nest, loop: Loop, ignore: Node | None = None) -> int | None:
    """The position of the loop in ``body`` that ``loop`` of ``nest`` may join and gains from, if there is one.

    What the nest also needs and stands behind that loop goes before it."""
    sharing: int | None = None
    behind = False
    needs = nest.roots - {ignore}
    for at in range(len(body) - 1, max(-1, len(body) - 1 - LOOK_BACK), -1):
        item = body[at]
        crossing = not needs.isdisjoint(written(item))
        if isinstance(item, Loop) and fits(item, nest, loop):
            shares = not behind and sharing is None and any(len(node.shape) > 0 for node in needs & item.reads)
            if (crossing or shares) and aligned(item, nest, loop, needs):
                if crossing:
                    first = lift(body, at, needs) if behind else at
                    return sharing if first is None else first
                sharing = at
        if crossing and not isinstance(item, (Loop, Start)):
            break
        behind = behind or crossing
    return sharing


def fits(into: Loop, nest: Nest, loop: Loop) -> bool:
    """Whether two loops take the same steps, and one may hold what both do."""
    same = into.extent == loop.extent and into.within is loop.within and not (into.within and loop.block)
    same = same and into.steps is None and blocks_fit(into, nest, loop)
    return same and into.weight + nest.weight <= limit(loop if loop.lanes else into)


def blocks_fit(into: Loop, nest: Nest, loop: Loop) -> bool:
    """Whether a loop over blocks holds the loops that are put together, or becomes one that does.

    One over blocks of lanes holds no loops over other elements."""
    if into.block and loop.block:
        return into.lanes == loop.lanes and (into.block == loop.block or not loop.lanes)
    if loop.lanes:
        return not any(isinstance(item, Loop) for item in into.body)
    if into.lanes:
        return nest.chain[-1] is loop and isinstance(nest.leaf, (Compute, Start, Step))
    return True


def limit(loop: Loop) -> int:
    if loop.lanes or (loop.within and loop.within.lanes):
        return LANES_WEIGHT
    return BLOCK_WEIGHT if loop.block or loop.within else LOOP_WEIGHT


def lift(body: list[Item], at: int, needs: set[Node]) -> int | None:
    """Move what ``needs`` are made by from behind position ``at`` before it; returns where that item is then.

    None where that changes what is computed: where it depends on the item, or writes what others write."""
    needed, moved, kept = set(needs), list[Item](), list[Item]()
    for item in reversed(body[at + 1 :]):
        if written(item).isdisjoint(needed):
            kept.append(item)
        elif isinstance(item, (Loop, Start)) and not (isinstance(item, Start) and starts_from_array(item)):
            moved.append(item)
            needed |= item.reads if isinstance(item, Loop) else set()
        else:
            return None
    others = [*body[: at + 1], *kept]
    if any(not written(item).isdisjoint(written(other)) for item in moved for other in others):
        return None
    if any(not written(body[at]).isdisjoint(item.reads) for item in moved if isinstance(item, Loop)):
        return None
    body[at:] = [*reversed(moved), body[at], *reversed(kept)]
    return at + len(moved)


def unite(body: list[Item], nest: Nest, loop: Loop, at: int) -> int:
    """Merge the loops that ``nest`` needs values from into one, where they do not depend on each other.

    ``at`` is the one that ``nest`` would join; what an earlier one made would otherwise go through memory as a whole.
    """
    for before in range(at - 1, max(-1, at - 1 - LOOK_BACK), -1):
        late, early = body[at], body[before]
        assert isinstance(late, Loop)
        if not isinstance(early, Loop) or nest.roots.isdisjoint(early.writes):
            continue
        if early.steps is not None or late.steps is not None:
            continue
        if early.extent != loop.extent or early.within is not late.within or early.block != late.block:
            continue
        if early.weight + late.weight + nest.weight > limit(loop if loop.lanes else early):
            continue
        if loop.lanes and any(isinstance(item, Loop) for item in early.body) and not early.block:
            continue
        apart = late.reads.isdisjoint(early.writes) and set(late.writes).isdisjoint(early.reads | set(early.writes))
        free = all(written(item).isdisjoint(late.reads | nest.roots) for item in body[before + 1 : at])
        if apart and free and aligned(early, nest, loop, nest.roots):
            values: dict[Symbol, Dim] = {late.var: symbol(early.var)}
            rename_items([late], values)
            early.body += late.body
            for item in late.body:
                if isinstance(item, Loop) and item.within is late:
                    item.within = early
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
