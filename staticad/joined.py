"""Loops of which one reads in each step what the other leaves in that step, made one: knows loops as graphs, no trees.

What passes between them is then a value of a step, not an array over all steps: above all what the forward pass over
independent items leaves for the backward pass. Elementwise work between two loops moves into their steps. Both have
steps that may go in any order, or neither: the one's cores and vectors are not given up for the other's order.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from staticad.ir import ArrayType, Body, Node, depending, loop_key, substitute, toposort
from staticad.lowering import Map, Repeat, Update
from staticad.needs import live_carries
from staticad.ops import control, sources


@dataclass(frozen=True, eq=False)
class Group:
    """The results of a loop that are asked for."""

    nodes: Sequence[Node]

    @property
    def body(self) -> Body:
        return self.nodes[0].params["body"]

    @property
    def operands(self) -> Mapping[Node, Node]:
        """By what stands for it in the body."""
        return dict(zip(self.body.inputs, self.nodes[0].args, strict=True))

    @property
    def family(self) -> object:
        """What loops have in common that may be one."""
        return self.body.length, self.body.reverse, in_order(self)


def in_order(group: Group) -> bool:
    """Whether the order of a loop's steps matters: all that it carries may be sums that nothing else reads."""
    body = group.body
    asked = [x.params["value"] for x in group.nodes if "value" in x.params]
    wanted = [x.params["carry"] for x in group.nodes if "carry" in x.params]
    live = live_carries(body, body.nexts, asked, wanted)
    readers: dict[Node, int] = {}
    for node in toposort([*asked, *(body.nexts[k] for k in live)]):
        for x in node.args:
            readers[x] = readers.get(x, 0) + 1
    left = {*asked, *(body.nexts[k] for k in live)}
    return any(not summed(body.carries[k], body.nexts[k], readers) or body.carries[k] in left for k in live)


def summed(carry: Node, later: Node, readers: Mapping[Node, int]) -> bool:
    lower = later.op.lower
    sums = isinstance(lower, Update) and lower.start is not None
    return sums and later.args[0] is carry and readers[carry] == 1 and later not in readers


def joined(outputs: Sequence[Node]) -> list[Node]:
    """``outputs``, where such loops are one."""
    found = list(outputs)
    while (one := next(pairs(found), None)) is not None:
        found = substitute(found, one)
    return found


def pairs(outputs: Sequence[Node]) -> Iterator[Mapping[Node, Node]]:
    """What the results of two loops become that can be one, for any two."""
    order = toposort(outputs)
    grouped: dict[object, list[Node]] = {}
    for node in order:
        if isinstance(node.op.lower, Repeat) and node.params["body"].condition is None:
            grouped.setdefault(loop_key(node), []).append(node)
    if len(grouped) < 2:
        return
    groups = [Group(nodes) for nodes in grouped.values()]
    families = {group: group.family for group in groups}
    for first in groups:
        behind = {x for x in first.nodes if "value" in x.params}
        after = depending(outputs, first.nodes)
        for second in groups:
            operands = second.operands
            slices = [x for x in second.body.slices if operands[x] in after]
            near = second is not first and slices and families[first] == families[second]
            if not near or any(y in after for x, y in operands.items() if x not in slices):
                continue
            between = made_of([operands[x] for x in slices], after.keys() - set(first.nodes))
            if all(x not in after or x in behind or elementwise(x) for x in between):
                yield one(first, second, [x for x in between if x in after], slices)


def made_of(nodes: Sequence[Node], known: Collection[Node]) -> list[Node]:
    """The nodes and all that those of them that are ``known`` are made of, operands first."""
    return toposort(nodes, lambda x: x.args if x in known else ())


def elementwise(node: Node) -> bool:
    return isinstance(node.op.lower, Map) and all(x.shape == node.shape for x in node.args)


def one(first: Group, second: Group, between: Sequence[Node], slices: Sequence[Node]) -> dict[Node, Node]:
    """The results of two loops as those of one; ``between`` is what the ``slices`` of the second are made of."""
    a, b = first.body, second.body
    sliced: dict[Node, Node] = {}  # by operand, what stands for it in a step
    consts: dict[Node, Node] = {}
    stand: dict[Node, Node] = {}  # for inputs of the second body
    for group in (first, second):
        for inputs, found in ((group.body.slices, sliced), (group.body.consts, consts)):
            for x in inputs:
                if x not in slices:
                    stand[x] = found.setdefault(group.operands[x], x)
    step: dict[Node, Node] = {x: x.params["value"] for x in first.nodes if x in between}
    step = dict(zip(step, substitute(step.values(), stand), strict=True))
    for node in between:
        if node not in step:
            args: list[Node] = []
            for x in node.args:
                if x not in step:
                    own = sources.placeholder(ArrayType(x.dtype, x.shape[1:]))
                    args.append(sliced.setdefault(x, own))
                else:
                    args.append(step[x])
            step[node] = Node(node.op, tuple(args), node.params, ArrayType(node.dtype, node.shape[1:]), node.name)
    stand |= {x: step[second.operands[x]] for x in slices}
    made: list[Node] = []
    for group in (first, second):
        values: list[Any] = [x.params["value"] for x in group.nodes if "value" in x.params]
        made += substitute([*group.body.nexts, *values], stand)
    count = len(a.carries)
    left = count + sum("value" in x.params for x in first.nodes)
    body = Body(
        carries=(*a.carries, *b.carries),
        slices=tuple(sliced.values()),
        consts=tuple(consts.values()),
        nexts=(*made[:count], *made[left : left + len(b.carries)]),
        length=a.length,
        reverse=a.reverse,
        unroll=max(a.unroll, b.unroll),
    )
    given = [*first.nodes[0].args[:count], *second.nodes[0].args[: len(b.carries)], *sliced, *consts]
    out: dict[Node, Node] = {}
    for group, before, found in ((first, 0, made[count:left]), (second, count, made[left + len(b.carries) :])):
        rest = iter(found)
        for node in group.nodes:
            if "value" in node.params:
                out[node] = control.stack_of(given, body, next(rest))
            else:
                out[node] = control.final_of(given, body, before + node.params["carry"])
            out[node].name = node.name
    return out
