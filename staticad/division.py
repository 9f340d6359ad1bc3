"""Which items of a loop tree become functions of their own, so that each function is of bounded weight.

Items that follow each other can be: those of the program, of a step of a loop whose steps follow each other, and of a
branch of a choice. Other loops hold no more than the scheduler lets them (`schedule.LOOP_WEIGHT`). Machine code is
made function by function, so the largest one decides how much memory that takes, and much of the time. Knows the loop
tree, neither memory nor source.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from staticad.loops import Choice, Item, Loop, Step, Tile, Whole, parts, statements

#: Weight (nodes, and `LOOP_COST` for each loop) from which a program is split into kernel functions.
PART_WEIGHT = 600
#: Statements outside of loops that make one kernel function, of those of the whole program.
RUN = 40
LOOP_COST = 6


@dataclass(eq=False)
class Part:
    """``items`` that follow each other and make a function, which is called where they stand.

    ``caller``: the part that calls it, None for the main function; ``around``: the loops of the caller that it is in.
    """

    items: list[Item]
    caller: Part | None = None
    around: tuple[Loop, ...] = ()

    def chain(self) -> list[Part]:
        """The part, its caller, the caller of that, and so on."""
        found: list[Part] = []
        part: Part | None = self
        while part is not None:
            found.append(part)
            part = part.caller
        return found


def divide(body: Sequence[Item]) -> dict[Item, Part]:
    """The parts of a program, each by its first item: none of a small one, which is a single function."""
    found: dict[Item, Part] = {}
    if sum(map(item_weight, body)) <= PART_WEIGHT:
        return found
    stack: list[Part] = [Part(items) for items in split(body, RUN)]
    while stack:
        part = stack.pop()
        found[part.items[0]] = part
        for item in part.items:
            if item_weight(item) > PART_WEIGHT:
                for around, items in sequences(item):
                    inside = [Part(each, part, around) for each in split(items, PART_WEIGHT // 2)]
                    stack += [each for each in inside if not summing(each)]
    return found


def sequences(item: Item) -> Iterator[tuple[tuple[Loop, ...], list[Item]]]:
    """The items inside of a loop or a choice that follow each other, each with the loops around.

    Loops over blocks are small, and what is in them knows the block: they stay whole."""
    if isinstance(item, Choice):
        yield from (((), items) for items in item.branches)
    elif isinstance(item, Loop) and item.steps is not None:
        yield (item,), item.body
    elif isinstance(item, Loop) and not item.block:
        for each in item.body:
            yield from (((item, *around), items) for around, items in sequences(each))


def summing(part: Part) -> bool:
    """Whether a part adds to what a loop around it sums in a variable."""
    sums = {node for each in part.chain() for loop in each.around for node in loop.reduces}
    return any(isinstance(x, Step) and x.node in sums for _, x in statements(part.items))


def split(body: Sequence[Item], run: int) -> list[list[Item]]:
    """Each loop and each call by itself, as a kernel function that other loops and other programs may share, and what
    stands between loops together, ``run`` statements at most."""
    found: list[list[Item]] = []
    for item in body:
        alone = isinstance(item, (Loop, Choice, Tile, Whole))
        if alone or not found or isinstance(found[-1][0], (Loop, Choice, Tile, Whole)) or len(found[-1]) >= run:
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
