"""Where carries of loops get their next values: in their own memory, where nothing reads the old value any more.

Knows the loop tree and where buffers are used, neither ops nor source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

from staticad.ir import Node
from staticad.loops import Carry, Choice, Compute, Item, Loop, Test, Tile, leaves, parts, statements
from staticad.plan import Use, in_place, item_uses
from staticad.schedule import Schedule
from staticad.store import Storage

#: The loops around a statement, from the one whose steps follow each other on, and the statement.
Maker: TypeAlias = "tuple[tuple[Loop, ...], Compute]"


def settle(schedule: Schedule) -> None:
    """Let carries be written where they are instead of being copied there after each step, in all loops."""
    storage = schedule.storage
    for loop in in_order(schedule.body):
        makers = {item.buffer: maker for item in loop.after if (maker := made_by(storage, loop, item))}
        put_last(storage, loop, makers)
        uses = inner_uses(storage, loop)
        same: dict[Node, Node] = {}
        elsewhere = {buffer for item in within(loop.body) if isinstance(item, Choice) for buffer in item.writes}
        elsewhere |= {statement.buffer for _, statement in statements(loop.test)}
        for item in [x for x in loop.after if x.index is None]:
            new = storage.buffer(item.node)
            if new in loop.inside - elsewhere and in_place(uses[new], uses.get(item.buffer, []), -1):
                same[new] = item.buffer
                loop.after.remove(item)
        share(schedule, same)
        # What cannot share its memory may still be stored at the end of the loop that makes it.
        late = {item: store(storage, *makers[item.buffer], item) for item in loop.after if item.buffer in makers}
        uses = inner_uses(storage, loop) if late else {}
        for item, (body, leaf) in late.items():
            writes = [u for u in uses[item.buffer] if u.writes]
            if len(writes) == 1 and in_place(writes, [u for u in uses[item.buffer] if not u.writes], -1):
                loop.after.remove(item)
            else:
                body.remove(leaf)


def in_order(items: Sequence[Item]) -> Iterator[Loop]:
    """The loops whose steps follow each other, inner ones first."""
    for item in items:
        yield from in_order(parts(item))
        if isinstance(item, Loop) and item.steps is not None:
            yield item


def within(items: Sequence[Item]) -> Iterator[Item]:
    """All items below these, with them."""
    for item in items:
        yield item
        yield from within(parts(item))


def inner_uses(storage: Storage, loop: Loop) -> dict[Node, list[Use]]:
    """How the items of a loop use buffers in a step, in order."""
    uses: dict[Node, list[Use]] = {}
    order = 0
    for position, item in enumerate(loop.body):
        last = order
        for node, use in item_uses(storage, item, position):
            last = max(last, order + use.order)
            use.order += order
            uses.setdefault(node, []).append(use)
        order = last + 1
    return uses


def made_by(storage: Storage, loop: Loop, item: Carry) -> Maker | None:
    """The one statement that computes what a carry becomes, and the loops it is in; None where there are several."""
    new = storage.buffer(item.node)
    found = [(path, statement) for path, statement in statements(loop.body) if statement.buffer is new]
    if item.index is not None or len(found) != 1:
        return None
    path, leaf = found[0]
    around = (loop, *path)
    return (around, leaf) if isinstance(leaf, Compute) and leaf in around[-1].body else None


def put_last(storage: Storage, loop: Loop, makers: Mapping[Node, Maker]) -> None:
    """Compute what carries become behind everything that stands beside it and has nothing to do with it."""
    listed = [leaf for _, leaf in leaves(loop.body)]
    touched: dict[int, set[Node]] = {id(leaf): set() for leaf in listed}
    for node, found in inner_uses(storage, loop).items():
        for use in found:
            touched[id(listed[use.order])].add(node)
    for around, leaf in makers.values():
        body = around[-1].body
        at = body.index(leaf)
        behind = [each for _, each in leaves(body[at + 1 :])]
        written = {each.buffer for each in behind if not isinstance(each, Test)}
        if written.isdisjoint(touched[id(leaf)]) and not any(leaf.buffer in touched[id(each)] for each in behind):
            body.append(body.pop(at))


def store(storage: Storage, around: Sequence[Loop], leaf: Compute, item: Carry) -> tuple[list[Item], Compute]:
    """The carry gets its next value where that is made, behind everything else there."""
    late = Compute(item.buffer, item.buffer, leaf.index, leaf.index, item.node)
    for loop in around:
        loop.writes.setdefault(item.buffer, []).append(leaf.index)
        loop.reads |= {x for x, _ in storage.element_reads(item.node, leaf.index)}
    around[-1].body.append(late)
    return around[-1].body, late


def share(schedule: Schedule, same: Mapping[Node, Node]) -> None:
    """Let what lies in some buffers, which last for a step of a loop, lie in others."""
    root = schedule.storage.root
    for node, buffer in root.items():
        root[node] = same.get(buffer, buffer)
    for item in within(schedule.body) if same else ():
        if isinstance(item, Loop):
            item.inside -= same.keys()
            for new in [x for x in item.writes if x in same]:
                item.writes.setdefault(same[new], []).extend(item.writes.pop(new))
        if isinstance(item, (Loop, Choice)):
            item.reads = {same.get(node, node) for node in item.reads}
        if isinstance(item, Choice):
            item.writes = {same.get(node, node) for node in item.writes}
        elif not isinstance(item, (Loop, Test)):
            item.buffer = same.get(item.buffer, item.buffer)
            if isinstance(item, Tile):
                item.sources = [(same.get(node, node), index) for node, index in item.sources]
