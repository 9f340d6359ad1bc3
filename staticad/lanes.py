"""Turns a loop over steps inside out: blocks of elements outside, all steps for the elements of a block inside.

A step that makes each element of its carries from that element of them alone need not take all elements before the next
step takes any: a block of them, which fits the registers, can take all steps. Knows the loop tree, no op.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from staticad.effort import flops, reads
from staticad.ir import Node
from staticad.loops import Compute, Coordinates, Loop, Step, is_var, substitute_all
from staticad.lowering import Reduce
from staticad.shapes import Dim, Symbol, known_ge, symbol, symbols
from staticad.store import Reads, Storage

#: Bytes of a carry in a block: eight vectors of 512 bits. Fewer would wait for each other's results, and a step would
#: spend more on what it does once a block, such as adding a sum over the block to that of the others.
BLOCK = 512
#: Carries of which such blocks fit the registers, beside what every step reads; of twice as many, half of them do.
CARRIES = 2
#: Elements that are worth it.
FEWEST = 16
#: Flops of a step, for each element, that hide its loads and stores.
MOST = 16


@dataclass(frozen=True, eq=False)
class Turned:
    """``blocks``: the loop around the one over steps, still empty; ``reads`` and ``writes``: those of the latter there.

    ``sums``: those over the elements, to which every block adds."""

    blocks: Loop
    reads: Reads
    writes: list[tuple[Node, Coordinates]]
    sums: list[Step]


def turned(storage: Storage, loop: Loop, var: Symbol) -> Turned | None:
    """The loop over blocks, which start at ``var``, that ``loop``, over steps, may go into; it is changed to do so.

    None where a step needs other elements too, or does so much with each that its loads and stores do not matter."""
    inner = next((item for item in loop.body if isinstance(item, Loop)), None)
    if inner is None or not plain(inner) or loop.test or loop.steps is None:
        return None
    at = loop.body.index(inner)
    before, after = loop.body[:at], loop.body[at + 1 :]
    sums = summed(storage, inner, after)
    size = block(storage, inner, loop.steps.carries)
    if sums is None or not size or not all(isinstance(item, Compute) for item in before):
        return None
    made = [*writes(inner), *((item.buffer, along(item.buffer, inner)) for item in loop.after)]
    touched = [*made, *read(storage, inner.body)]
    if any(not apart(inner.var, [index for x, index in touched if x is buffer]) for buffer, _ in made):
        return None
    if any(x is buffer for x, _ in read(storage, before) for buffer, _ in made):
        return None
    if not known_ge(size, inner.extent) and any(wide(loop.var, inner.var, index) for _, index in touched):
        return None

    for step, stacked in sums:
        loop.inside.discard(step.node)
        for part in (loop, inner):
            part.writes.pop(step.node, None)
        step.buffer = storage.root[step.node] = stacked.buffer
        step.target, step.more = stacked.index, True
        inner.writes[step.buffer] = [step.target]
    for item in loop.after:
        index = along(item.buffer, inner)
        inner.body.append(Compute(item.buffer, item.buffer, index, index, item.node))
        inner.writes.setdefault(item.buffer, []).append(index)
        inner.reads |= {x for x, _ in storage.element_reads(item.node, index)}
    loop.body, loop.after = [*before, inner], []
    blocks = inner.within = Loop(var, inner.extent, block=size, lanes=True)
    values: dict[Symbol, Dim] = {inner.var: symbol(var)}
    results = [(item.buffer, item.index) for item in before if isinstance(item, Compute)]
    results += [(step.buffer, step.target) for step, _ in sums]
    made = writes(inner)
    needed = [*results, *made, *read(storage, before), *read(storage, inner.body)]
    return Turned(
        blocks,
        [(x, None if index is None else substitute_all(index, values)) for x, index in needed],
        [*results, *((x, substitute_all(index, values)) for x, index in made)],
        [step for step, _ in sums],
    )


def plain(loop: Loop) -> bool:
    """Whether a loop goes over enough elements, and holds nothing but what computes one of each array."""
    return (
        loop.within is None
        and loop.steps is None
        and not loop.block
        and not known_ge(FEWEST - 1, loop.extent)
        and all(isinstance(item, (Compute, Step)) for item in loop.body)
    )


def summed(storage: Storage, inner: Loop, after: Sequence[object]) -> list[tuple[Step, Compute]] | None:
    """The sums over the elements, each with what keeps it of every step; None where a step does more with one."""
    kept = {item.origin: item for item in after if isinstance(item, Compute) and item.origin in inner.reduces}
    steps = [item for item in inner.body if isinstance(item, Step) and item.node in kept]
    if not len(inner.reduces) == len(after) == len(kept) == len(steps):
        return None
    if any(not isinstance(step.node.op.lower, Reduce) or step.node.op.lower.running for step in steps):
        return None
    return [(step, kept[step.node]) for step in steps]


def block(storage: Storage, inner: Loop, carries: Sequence[Node]) -> int:
    """How many elements a block has; 0 where it does not pay to keep carries in registers, or is not possible."""
    arrays = [x for x in carries if along(x, inner)]
    work = [flops(storage, item) for item in inner.body if isinstance(item, (Compute, Step))]
    if not carries or len(arrays) < len(carries) or len(carries) > 2 * CARRIES or not known_ge(MOST, sum(work)):
        return 0
    if any(x.dtype.kind == "c" for x in carries):
        return 0
    return BLOCK // max(x.dtype.itemsize for x in carries) // (1 if len(carries) <= CARRIES else 2)


def along(x: Node, inner: Loop) -> Coordinates:
    """The element of an array that a loop over its only axis is at; nothing where it has others."""
    if [d for d in x.shape if d != 1] != [inner.extent]:
        return ()
    return tuple(0 if d == 1 else symbol(inner.var) for d in x.shape)


def writes(loop: Loop) -> list[tuple[Node, Coordinates]]:
    """The elements that are written, apart from sums over all steps of the loop."""
    items = [item for item in loop.body if isinstance(item, (Compute, Step))]
    return [
        (item.buffer, item.index if isinstance(item, Compute) else item.target)
        for item in items
        if isinstance(item, Compute) or not item.scalar
    ]


def read(storage: Storage, items: Sequence[object]) -> Reads:
    return [access for item in items if isinstance(item, (Compute, Step)) for access in reads(storage, item)]


def apart(var: Symbol, found: Sequence[Coordinates | None]) -> bool:
    """Whether elements of one array are all those that the variable of a loop stands for, along one axis."""
    return any(
        all(index is not None and is_var(index[axis], var) for index in found) for axis in range(len(found[0] or ()))
    )


def wide(step: Symbol, var: Symbol, index: Coordinates | None) -> bool:
    """Whether elements that one step reads or writes lie beside each other, and far from those of the next."""
    found = set[object]().union(*map(symbols, index or ()))
    return step in found and var in found
