"""Which items of a loop tree become functions of their own, so that each function is of bounded weight.

Machine code is made function by function, so the largest one decides how much memory that takes, and much of the time.
Knows the loop tree, neither memory nor source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from staticad.loops import Choice, Item, Loop, Tile, Whole, parts

#: Weight (nodes, and `LOOP_COST` for each loop) from which a program is split into kernel functions.
PART_WEIGHT = 600
#: Statements outside of loops that make one kernel function.
RUN = 40
LOOP_COST = 6


@dataclass(eq=False)
class Part:
    """``items`` that follow each other and make a function, which is called where they stand."""

    items: list[Item]


def divide(body: Sequence[Item]) -> dict[Item, Part]:
    """The parts of a program, each by its first item: none of a small one, which is a single function."""
    if sum(map(item_weight, body)) <= PART_WEIGHT:
        return {}
    return {items[0]: Part(items) for items in split(body)}


def split(body: Sequence[Item]) -> list[list[Item]]:
    """Each loop and each call by itself, as a kernel function that other loops and other programs may share, and what
    stands between loops together."""
    found: list[list[Item]] = []
    for item in body:
        alone = isinstance(item, (Loop, Choice, Tile, Whole))
        if alone or not found or isinstance(found[-1][0], (Loop, Choice, Tile, Whole)) or len(found[-1]) >= RUN:
            found.append([])
        found[-1].append(item)
    return found


def item_weight(item: Item) -> int:
    if isinstance(item, (Loop, Choice)):
        return LOOP_COST + sum(map(item_weight, parts(item))) + item.weight // 4
    return 1


def owners(body: Sequence[Item], parts_of: Mapping[Item, Part]) -> dict[Item, Part | None]:
    """The part that each statement and test is in; None: the main function."""
    found: dict[Item, Part | None] = {}
    stack: list[tuple[Sequence[Item], Part | None]] = [(body, None)]
    while stack:
        items, outer = stack.pop()
        for item, part in members(items, parts_of):
            owner = part or outer
            if isinstance(item, Loop):
                stack += [(inside, owner) for inside in (item.test, item.body, item.after)]
            elif isinstance(item, Choice):
                stack += [(inside, owner) for inside in ([item.test], *item.branches)]
            else:
                found[item] = owner
    return found


def members(items: Sequence[Item], parts_of: Mapping[Item, Part]) -> Iterator[tuple[Item, Part | None]]:
    """Items that follow each other, with the parts that they belong to."""
    part, left = None, 0
    for item in items:
        if item in parts_of:
            part, left = parts_of[item], len(parts_of[item].items)
        yield item, part if left > 0 else None
        left -= 1
