"""The loop trees of random programs: what loops say of their statements is so, and nothing is read too early."""

from __future__ import annotations

from collections.abc import Iterable
from unittest import mock

import pytest
from random_programs import INPUTS, random_program
from test_fuzz_control import KINDS, numbered, transformed

import staticad as ad
from staticad import pipeline
from staticad.carries import settle
from staticad.ir import Node
from staticad.loops import Choice, Item, Loop, leaves, parts
from staticad.lowering import Source
from staticad.plan import item_uses
from staticad.schedule import Schedule


class Checked(Exception):
    """The tree is made; nothing is compiled."""


def check_tree(schedule: Schedule) -> None:
    """Raises AssertionError where a loop or choice says too little of itself, or something is read too early."""
    touched: dict[int, tuple[set[Node], set[Node]]] = {}  # what each statement or test reads and writes
    for item in schedule.body:
        listed = [leaf for _, leaf in leaves([item])]
        touched |= {id(leaf): (set(), set()) for leaf in listed}
        for node, use in item_uses(schedule.storage, item, 0):
            if use.writes or not isinstance(node.op.lower, Source):
                touched[id(listed[use.order])][use.writes].add(node)

    def together(items: Iterable[Item], kind: bool) -> set[Node]:
        return set[Node]().union(*(touched[id(leaf)][kind] for _, leaf in leaves(list(items))))

    stack: list[tuple[list[Item], set[Node]]] = [(schedule.body, set())]
    while stack:
        items, made = stack.pop()
        for item in items:
            reads, writes = together([item], False), together([item], True)
            if isinstance(item, (Loop, Choice)):
                assert reads - writes <= item.reads, "a loop or choice reads what it does not say"
                assert writes <= set(item.writes), "it writes what it does not say"
                branches = [parts(item)] if isinstance(item, Loop) else [[item.test], *item.branches]
                stack += [(inside, set(made)) for inside in branches]
            else:
                assert reads - writes <= made, "a statement reads what is not made yet"
            made |= writes


@pytest.mark.parametrize("seed", range(60))
def test_trees_of_random_programs(seed: int) -> None:
    ((_, name, dtype, kind, by),) = numbered(range(seed, seed + 1))
    inputs = {x.name: ad.input(x.name, x.shape, "int64" if x.kind == "i" else dtype) for x in INPUTS}
    outputs = transformed(by(dtype), random_program(seed, often=KINDS[kind]), name, inputs)

    def settled(schedule: Schedule) -> None:
        check_tree(schedule)
        settle(schedule)
        check_tree(schedule)
        raise Checked

    with mock.patch.object(pipeline, "settle", settled), pytest.raises(Checked):
        ad.compile(list(inputs.values()), outputs)
