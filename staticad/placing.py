"""How a nest joins the loop tree: loop by loop into the loops that are there, the rest as new ones at the end.

A nest joins an existing loop over the same extent when every value that crosses between them is produced and consumed
at the same index there. For a part of a product, that index is a block: the loop that it joins, and every one that
joins it, goes over the steps of a block inside of a loop over blocks. Knows buffers and indices, not which nodes have
nests, nor how those are made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from staticad.ir import Node
from staticad.loops import (
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
    is_var,
    parts,
    substitute_all,
)
from staticad.lowering import Update
from staticad.shapes import Dim, Symbol, symbol, symbols
from staticad.store import Reads

#: Elements that a step of one outermost loop may read and write: keeps bodies within what registers and compile time
#: bear.
LOOP_WEIGHT = 4000
#: The same of a loop over blocks: it holds few loops of its own, each of which takes long to compile.
BLOCK_WEIGHT = 150
#: The same of a loop over blocks of lanes: every statement in it is written out for each vector.
LANES_WEIGHT = 64
#: Siblings that a nest looks back over for a loop to join; bounds the work for graphs of any size.
LOOK_BACK = 64


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
