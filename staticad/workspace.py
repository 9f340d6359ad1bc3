"""Where buffers lie in the workspace: those that do not live at once share its memory, so that it is small.

Knows sizes and lifetimes, which `plan` finds, not what uses a buffer.
"""

from __future__ import annotations

import heapq
from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from staticad.division import Part
from staticad.ir import Node
from staticad.loops import Loop
from staticad.shapes import Dim, Shape, add, evaluate, floordiv, is_static, known_ge, maximum, mul, product, symbols

#: Workspace offsets are multiples of this many bytes: a cache line, and the widest vector there is.
ALIGNMENT = 64
#: Buffers of static size up to which the best packing is searched (the search is quadratic).
PACK_LIMIT = 200


@dataclass(eq=False)
class Buffer:
    """Where a stored value lives.

    ``axes``: those of its shape that exist in memory (loops around all uses fix the rest); ``blocks``: those of them
    that exist for one block of a loop over blocks. ``place``: "scalar" (a local variable), "local" (an array of the
    function that uses it), "work" (at ``offset`` bytes of the workspace), "tape" (of a size that is known after a
    loop) or "output".

    ``first`` and ``last`` are the top-level items that use it, ``start`` and ``stop`` the steps between which it must
    be kept: of such items, and of what is directly inside of them. ``base`` is set where other buffers of the same item
    have some of its memory at other steps: where what they have together begins. ``home`` is the part of the program
    that has all its uses, as long as it is needed; None: there is none but all of it.
    """

    node: Node
    axes: tuple[int, ...]
    place: str
    first: int
    last: int
    start: int
    stop: int
    blocks: dict[int, Loop] = field(default_factory=dict[int, Loop])
    offset: Dim = 0
    base: Dim | None = None
    home: Part | None = None

    @property
    def shape(self) -> Shape:
        return tuple(self.blocks[axis].block if axis in self.blocks else self.node.shape[axis] for axis in self.axes)

    @property
    def bytes(self) -> Dim:
        return mul(product(self.shape), self.node.dtype.itemsize)


def assign_offsets(buffers: Sequence[Buffer]) -> Dim:
    """Give each buffer its place in one workspace, shared by buffers that do not live at once; returns its size."""
    static = [b for b in buffers if is_static(b.shape)]
    symbolic = [b for b in buffers if not is_static(b.shape)]
    end = pack(static) if len(static) <= PACK_LIMIT else slots(static, 0)
    return slots(symbolic, end)


def find_shared(buffers: Sequence[Buffer]) -> None:
    """Set ``base`` of the buffers that take turns inside of one top-level item."""
    inside: dict[int, list[tuple[int, int, Buffer]]] = {}
    equal: dict[tuple[int, Dim], list[Buffer]] = {}  # memory of symbolic size is shared from its beginning
    for b in buffers:
        if b.first == b.last and isinstance(b.offset, int) and is_static(b.shape):
            inside.setdefault(b.first, []).append((b.offset, b.offset + static_bytes(b), b))
        elif b.first == b.last:
            equal.setdefault((b.first, b.offset), []).append(b)
    groups = list(equal.values())
    for found in inside.values():
        end = -1
        for low, high, b in sorted(found, key=lambda x: x[:2]):
            if low < end:
                groups[-1].append(b)
            else:
                groups.append([b])
            end = max(end, high)
    for group in groups:
        if len(group) > 1:
            for b in group:
                b.base = group[0].offset


def aligned(size: Dim) -> Dim:
    return mul(floordiv(add(size, ALIGNMENT - 1), ALIGNMENT), ALIGNMENT)


def pack(buffers: Sequence[Buffer]) -> int:
    """Place buffers of static size.

    It takes the best of several orders, each improved by moving up the buffer that stands out.
    """
    bound = liveness_bound(buffers)
    best, offsets = None, list[int]()
    for key in ORDERS:
        order = sorted(buffers, key=key)
        for _ in range(PACK_ROUNDS):
            total, top = place_in_order(order)
            if best is None or total < best:
                best, offsets = total, [b.offset for b in buffers]
            if best == bound or top == 0:
                break
            order.insert(top // 2, order.pop(top))
        if best == bound:
            break
    for b, offset in zip(buffers, offsets, strict=True):
        b.offset = offset
    return best or 0


ORDERS: tuple[Callable[[Buffer], int], ...] = (
    lambda b: -static_bytes(b),
    lambda b: -static_bytes(b) * (b.stop - b.start + 1),
    lambda b: b.start - b.stop,
    lambda b: b.stop,
    lambda b: b.start,
    lambda b: -b.stop,
    lambda b: -b.start,
)
PACK_ROUNDS = 50


def place_in_order(order: Sequence[Buffer]) -> tuple[int, int]:
    """Each buffer at the lowest offset where it overlaps none that lives at the same time.

    Returns the bytes used and the position in ``order`` of the buffer that reaches highest."""
    placed: list[tuple[int, int, Buffer]] = []
    total, top = 0, 0
    for k, b in enumerate(order):
        size, at = static_bytes(b), 0
        for low, high, other in placed:  # by offset
            if other.start <= b.stop and b.start <= other.stop and low < at + size:
                at = max(at, high)
        b.offset = at
        insort(placed, (at, at + size, b), key=lambda item: item[0])
        if at + size > total:
            total, top = at + size, k
    return total, top


def static_bytes(b: Buffer) -> int:
    size = aligned(b.bytes)
    assert isinstance(size, int)
    return max(size, ALIGNMENT)  # an array without elements still needs a place


def slots(buffers: Sequence[Buffer], start: Dim) -> Dim:
    """In order of first use, each into a slot that is free and surely large enough, else into a new one."""
    free: dict[Dim, list[list[Buffer]]] = {}
    busy: list[tuple[int, int, Dim, list[Buffer]]] = []
    order: list[tuple[Dim, list[Buffer]]] = []
    for number, b in enumerate(sorted(buffers, key=lambda b: b.start)):
        while busy and busy[0][0] < b.start:
            _, _, size, owners = heapq.heappop(busy)
            free.setdefault(size, []).append(owners)
        size = aligned(b.bytes)
        if not free.get(size):
            size = next((s for s, found in free.items() if found and known_ge(s, size)), size)
        if free.get(size):
            owners = free[size].pop()
        else:
            owners = list[Buffer]()
            order.append((size, owners))
        owners.append(b)
        heapq.heappush(busy, (b.stop, number, size, owners))
    end = start
    for size, owners in order:
        for b in owners:
            b.offset = end
        end = add(end, size)
    return end


#: Sizes up to which `liveness_bound` gives the maximum of all of them.
COMPARED = 16


def liveness_bound(buffers: Sequence[Buffer]) -> Dim:
    """The most bytes that live at one time: what no layout can be smaller than."""
    work = [b for b in buffers if b.place == "work"]
    totals: list[Dim] = []
    for position in sorted({b.start for b in work}):
        total: Dim = 0
        for b in work:
            if b.start <= position <= b.stop:
                total = add(total, static_bytes(b) if is_static(b.shape) else aligned(b.bytes))
        if not any(known_ge(other, total) for other in totals):
            totals = [*(other for other in totals if not known_ge(total, other)), total]
    if len(totals) > COMPARED:  # those that are the most for some size, all symbolic dimensions being of that size
        names = [str(s) for total in totals for s in symbols(total)]
        found: list[Dim] = []
        for k in range(COMPARED):
            sizes = dict.fromkeys(names, 1 << k)
            found.append(max((evaluate(d, sizes), -i, d) for i, d in enumerate(totals))[2])
        totals = list(dict.fromkeys(found))
    bound: Dim = 0
    for total in totals:
        bound = maximum(bound, total)
    return bound
