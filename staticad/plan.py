"""From a loop tree to memory: how much of each stored value must exist at once, and in which kind of place; `workspace`
then packs what shares one.

Knows indices and lifetimes, neither ops nor Python source.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from staticad.division import Part, divide, owners
from staticad.ir import Node
from staticad.loops import (
    Carry,
    Compute,
    Coordinates,
    Item,
    Loop,
    Start,
    Statement,
    Step,
    Test,
    Tile,
    elements,
    leaves,
    parts,
)
from staticad.lowering import Reduce, Update
from staticad.schedule import Schedule
from staticad.shapes import Dim, Shape, add, counts, is_static
from staticad.store import Reads, Storage
from staticad.workspace import Buffer, assign_offsets, find_shared, static_bytes

#: Bytes of an array that may lie in the frame of a function, and of all of them: such small ones become registers.
LOCAL, FRAME = 256, 1 << 13
#: The same of one that holds a block of lanes.
LANES = 1 << 10


@dataclass(eq=False)
class Plan:
    """``parts``: by its first item, each that is a function of its own; ``buffers``: by the node that names each.

    ``copied``: updates that are made in the workspace and copied to their place at the end, because the old value is
    still read when the new one is made, or an error may still be found.
    ``hosts``: by what lies in the memory of a result until that is made, the result.
    """

    schedule: Schedule
    parts: dict[Item, Part]
    buffers: dict[Node, Buffer]
    work_bytes: Dim
    copied: list[Node] = field(default_factory=list[Node])
    hosts: dict[Node, Node] = field(default_factory=dict[Node, Node])


@dataclass
class Use:
    """One use of a buffer: the loops around it, the index (None: all of it), and where it is.

    That is the top-level item, the statement, what is directly ``inside`` of the item it is in, and the ``part`` of the
    program. ``address``: by a function that is given its address.
    """

    path: tuple[Loop, ...]
    index: Coordinates | None
    position: int
    order: int
    writes: bool = False
    run_time: bool = False
    address: bool = False
    inside: int = 0
    part: Part | None = None


def plan(schedule: Schedule, outputs: Collection[Node], updates: Mapping[Node, Node]) -> Plan:
    """Lay out the buffers of a schedule.

    ``outputs`` are the nodes whose buffers are arguments, in an order that is the same in every process; ``updates``
    maps a node to the source whose memory it replaces.
    """
    functions = divide(schedule.body)
    owner = owners(schedule.body, functions)
    uses: dict[Node, list[Use]] = {}
    checked = -1  # the last top-level item that may still find an index out of range
    for position, item in enumerate(schedule.body):
        for node, use in item_uses(schedule.storage, item, position, owner):
            uses.setdefault(node, []).append(use)
            if use.run_time:
                checked = position
    copied = [x for x, source in updates.items() if not in_place(uses[x], uses.get(source, []), checked)]
    steps = [0]
    for item in schedule.body:
        steps.append(steps[-1] + (len(parts(item)) if isinstance(item, Loop) else 1))
    buffers: dict[Node, Buffer] = {}
    frame = FRAME
    for node, found in uses.items():
        if node not in schedule.storage.root:
            continue
        whole = node in outputs or node in updates
        every = whole or bool(counts(node.shape))  # what is on the tape is there as a whole
        axes, blocks, passing = (tuple(range(len(node.shape))), {}, False) if every else kept_axes(node, found)
        first, last = min(u.position for u in found), max(u.position for u in found)
        home = common(node, found) if functions else None
        apart = any(u.part is not home for u in found)
        if node in copied:
            place, last = "work", len(schedule.body)
        elif whole:
            place = "output"
        elif counts(node.shape):
            place = "tape"
        elif axes or apart or any(u.index is None or u.address for u in found):
            place = "work"
        else:
            place = "scalar"
        start, stop = steps[first], steps[last + 1] - 1 if last < len(schedule.body) else steps[-1]
        if passing:
            start, stop = start + min(u.inside for u in found), start + max(u.inside for u in found)
        b = buffers[node] = Buffer(node, axes, place, first, last, start, stop, blocks, home=home)
        if place == "work" and node not in copied and (first == last or not functions) and room(b, frame):
            b.place, frame = "local", frame - static_bytes(b)
    hosts = guests(buffers, uses, [x for x in outputs if x in buffers and x not in updates])
    for x in hosts:
        buffers[x].place = "output"
    stored = [b for b in buffers.values() if b.place == "work"]
    work = assign_offsets(stored)
    if stored and work == 0:  # what has no elements stands somewhere too
        work = 64
    find_shared(stored)
    return Plan(schedule, functions, buffers, work, copied, hosts)


def guests(
    buffers: Mapping[Node, Buffer], uses: Mapping[Node, Sequence[Use]], results: Sequence[Node]
) -> dict[Node, Node]:
    """What may lie in the memory of a result until that is made: temporaries of its type that are read for the last
    time before, or element by element while its elements are written. That saves memory, and the way to it."""
    found: dict[Node, Node] = {}
    free: dict[tuple[object, Shape], list[tuple[Node, int]]] = {}  # from which top-level item on, in order
    for x in results:
        free.setdefault((x.dtype, x.shape), []).append((x, -1))
    for b in sorted(buffers.values(), key=lambda b: b.first):
        x = b.node
        if b.place != "work" or b.shape != x.shape or len(b.axes) != len(x.shape):
            continue
        hosts = free.get((x.dtype, x.shape), [])
        for k, (host, since) in enumerate(hosts):
            begun = buffers[host].first
            before = b.last < begun or (b.last == begun and in_place(uses[host], uses[x], -1))
            if since < b.first < begun and before:
                found[x] = host
                hosts[k] = (host, b.last)
                break
    return found


def room(b: Buffer, frame: int) -> bool:
    """Whether a buffer is small, and there is as much left of a frame."""
    size = b.bytes
    most = LANES if any(loop.lanes for loop in b.blocks.values()) else LOCAL
    return is_static(b.shape) and isinstance(size, int) and size <= most and static_bytes(b) <= frame


def in_place(new: Sequence[Use], old: Sequence[Use], checked: int) -> bool:
    """Whether the new value may be written over the old one: each old element is read before its new one is written."""
    first = min(u.position for u in new)
    if checked >= first or any(u.position > first for u in old):
        return False
    here = [u for u in old if u.position == first]
    if not here:
        return True
    new = [u for u in new if u.writes or u.position == first]
    if any(u.index is None for u in [*here, *new]) or any(u.position != first for u in new):
        return False
    return all(read_first(one, other) for one in here for other in new)


def read_first(old: Use, new: Use) -> bool:
    """Whether an element of ``old`` is always read before the one of ``new`` at the same place is used."""
    assert old.index is not None and new.index is not None
    coordinates = list(zip(old.index, new.index, strict=True))
    fixed = all(
        any(loop.fixes(d, old.path) and loop.fixes(e, new.path) for d, e in coordinates)
        for loop in common_prefix([old.path, new.path])
    )
    same_element = old.index == new.index and old.path == new.path
    return fixed and (old.order < new.order or (old.order == new.order and same_element))


def item_uses(
    storage: Storage, item: Item, position: int, owner: Mapping[Item, Part | None] | None = None
) -> Iterator[tuple[Node, Use]]:
    """Every use of a buffer below a top-level item; ``owner``: the parts that statements and tests are in."""
    children: list[tuple[int, tuple[Loop, ...], list[Item]]] = [(0, (), [item])]
    if isinstance(item, Loop):
        children = [(k, (item,), [child]) for k, child in enumerate(parts(item))]
    found = ((k, (*outer, *path), leaf) for k, outer, inside in children for path, leaf in leaves(inside))
    for order, (inside, path, statement) in enumerate(found):
        reads: Reads = []
        part = (owner or {}).get(statement)
        written: tuple[tuple[Loop, ...], Coordinates | None] = (path, None)
        if isinstance(statement, Test):
            for node, index in storage.element_reads(statement.node, ()):
                yield node, Use(path, index, position, order, inside=inside, part=part)
            continue
        if isinstance(statement, Compute):
            written = (path, statement.index)
            if statement.source is not None:
                reads = storage.element_reads(statement.operand, statement.source)
            else:
                reads = storage.operand_reads(statement.node, statement.index)
        elif isinstance(statement, Start):
            written = (path, statement.index)
            if isinstance(statement.node.op.lower, Update):
                reads = storage.element_reads(statement.node.args[0], statement.index)
        elif isinstance(statement, Step):
            outer = path
            if statement.scalar and isinstance(lower := statement.node.op.lower, Reduce) and not lower.running:
                outer = path[: next(k for k, loop in enumerate(path) if statement.node in loop.reduces)]
            written = (outer, statement.target)
            reads = step_reads(storage, statement)
        elif isinstance(statement, Tile):
            written, reads = (path, statement.target), statement.sources
        elif isinstance(statement, Carry):
            at = statement.index
            reads = (
                [(storage.buffer(statement.node), None)] if at is None else storage.element_reads(statement.node, at)
            )
            written = (path, at)
        else:
            reads = [(storage.buffer(x), None) for x in statement.node.args]
        run_time, address = checks_indices(storage, statement), isinstance(statement, Tile)
        yield statement.buffer, Use(written[0], written[1], position, order, True, run_time, address, inside, part)
        for node, index in reads:
            yield node, Use(path, index, position, order, address=address, inside=inside, part=part)


def checks_indices(storage: Storage, statement: Statement) -> bool:
    """Whether a statement reads indices from an array, and so may find one out of range."""
    stack: list[tuple[Node, Coordinates]] = []
    if isinstance(statement, Compute):
        source = statement.source
        stack = [(statement.operand, source)] if source is not None else []
        if source is None:
            return storage.indexes_at_run_time(statement.node, statement.index, inside=True)
    elif isinstance(statement, Step):
        if any(True for _ in elements(statement.target)):
            return True
        last = 2 if isinstance(statement.node.op.lower, Update) else None
        stack = [(x, statement.source) for x in statement.node.args[:last]]
        if isinstance(statement.node.op.lower, Update):
            stack = stack[1:]
    elif isinstance(statement, Start) and isinstance(statement.node.op.lower, Update):
        stack = [(statement.node.args[0], statement.index)]
    return any(storage.indexes_at_run_time(x, index) for x, index in stack)


def step_reads(storage: Storage, step: Step) -> Reads:
    """What one step of an accumulation reads, apart from the accumulator."""
    if isinstance(step.node.op.lower, Update):
        return storage.element_reads(step.node.args[1], step.source) + storage.run_time_reads(step.target)
    reads = [read for x in step.node.args for read in storage.element_reads(x, step.source)]
    lower = step.node.op.lower
    if isinstance(lower, Reduce) and lower.running and not step.scalar:
        reads.append((step.buffer, step.before(add(step.target[step.axis], -1))))
    return reads


def common(node: Node, uses: Sequence[Use]) -> Part | None:
    """The innermost part of a program that has all uses of a buffer, and all of its value's life: no loop around goes
    on with what an earlier step has left."""
    chains = [u.part.chain() if u.part is not None else [] for u in uses]
    shared = set(chains[0]).intersection(*chains[1:])
    home = found = next((part for part in chains[0] if part in shared), None)
    while found is not None:
        if not all(node in loop.inside or fixed_axes(loop, node, uses) for loop in found.around):
            home = found.caller
        found = found.caller
    return home


def fixed_axes(loop: Loop, node: Node, uses: Sequence[Use]) -> list[int]:
    """The axes of a buffer whose coordinate is the variable of a loop in every use."""
    if any(u.index is None for u in uses):
        return []
    axes = range(len(node.shape))
    return [axis for axis in axes if all(u.index and loop.fixes(u.index[axis], u.path) for u in uses)]


def kept_axes(node: Node, uses: Sequence[Use]) -> tuple[tuple[int, ...], dict[int, Loop], bool]:
    """The axes of a buffer that must exist at once, and those of them of which one block must.

    They are all but those whose coordinate is one loop's variable in every use. Also tells whether the outermost of
    these loops is one, so that nothing is kept from one of its steps to the next.
    """
    axes = list(range(len(node.shape)))
    blocks: dict[int, Loop] = {}
    passing = False
    if any(u.index is None for u in uses):
        return tuple(axes), blocks, passing
    for depth, loop in enumerate(common_prefix([u.path for u in uses])):
        if node in loop.inside:
            passing = passing or depth == 0
            continue
        fixed = [axis for axis in fixed_axes(loop, node, uses) if axis in axes]
        if not fixed:
            break
        passing = passing or depth == 0
        if loop.block:
            blocks[fixed[0]] = loop
        else:
            axes.remove(fixed[0])
    kept = tuple(axis for axis in axes if node.shape[axis] != 1)
    return kept, {axis: loop for axis, loop in blocks.items() if axis in kept}, passing


def common_prefix(paths: Sequence[tuple[Loop, ...]]) -> tuple[Loop, ...]:
    shortest = min(paths, key=len)
    for depth, loop in enumerate(shortest):
        if any(path[depth] is not loop for path in paths):
            return shortest[:depth]
    return shortest
