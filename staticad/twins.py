"""Loops that go through the same steps made one, and choices by the same number: knows loops as graphs, no trees.

The derivative of a loop carries what the loop carries, and tangents beside: where both are asked for, everything is
taken from the larger one. A carry of one loop is that of another in every step if both start from the same and their
next values are equal given that; which of them are is found from the assumption that all are that start so, by taking
apart those that go on differently until none does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from staticad.ir import Body, Branches, Node, clone, intern_key, loop_key, substitute, toposort
from staticad.lowering import Branch, Repeat, Source
from staticad.needs import live_carries
from staticad.numbering import Known, Numbers
from staticad.ops import branches, control


@dataclass(eq=False)
class Group:
    """The results of one loop, or of one choice, that are asked for, and what became of its operands.

    ``asked``: the nodes of a loop's body that results are made of, those of other loops' results too. ``joined``: the
    choices whose results are taken from this one."""

    nodes: list[Node]
    args: tuple[Node, ...]
    asked: list[Node] = field(default_factory=list[Node])
    joined: list[Group] = field(default_factory=list["Group"])

    @property
    def body(self) -> Any:
        return self.nodes[0].params["body"]

    @property
    def family(self) -> object:
        """What groups have in common that may be one."""
        body = self.body
        if isinstance(body, Branches):
            return self.args[0], len(body.values)
        return body.length, body.reverse, body.condition is None, body.limit

    @property
    def live(self) -> list[int]:
        """The carries of a loop that its results depend on."""
        tests = [] if self.body.condition is None else [self.body.condition]
        wanted = [x.params["carry"] for x in self.nodes if "carry" in x.params]
        return live_carries(self.body, self.body.nexts, [*self.asked, *tests], wanted)


def merged(outputs: Sequence[Node]) -> list[Node]:
    """``outputs``, equal nodes made one, where everything that loops and choices have in common is done by one."""
    order = toposort(outputs)
    found: dict[object, Group] = {}
    for node in order:
        if isinstance(node.op.lower, (Repeat, Branch)):
            group = found.setdefault(loop_key(node), Group([], node.args))
            group.nodes.append(node)
    groups = list(found.values())
    if len({group.family for group in groups}) == len(groups):
        return list(outputs)
    walk = Walk()
    for group in in_order(order, groups):
        walk.visit(group)
    return walk.joined([walk.new[x] for x in outputs])


def in_order(order: Sequence[Node], groups: Sequence[Group]) -> Iterator[Node | Group]:
    """Nodes and groups, operands first: a group before those that may be taken from it, where it can be."""
    of = {node: group for group in groups for node in group.nodes}
    larger = candidates(order, groups, of)
    readers: dict[Node, list[Node]] = {}
    for node in order:
        for x in dict.fromkeys(node.args):
            readers.setdefault(x, []).append(node)
    missing = {node: len(set(node.args)) for node in order}
    ready = deque(node for node in order if not node.args)
    held: dict[Group, None] = {}
    left = set(groups)
    while ready or held:
        if ready:
            node = ready.popleft()
            if node in of:
                held[of[node]] = None
                continue
            yield node
            done = [node]
        else:
            free = (group for group in held if left.isdisjoint(larger[group]))
            group = next(free, None) or max(held, key=lambda group: len(group.args))
            del held[group]
            left.remove(group)
            yield group
            done = group.nodes
        for node in done:
            for reader in readers.get(node, ()):
                missing[reader] -= 1
                if not missing[reader]:
                    ready.append(reader)


def candidates(order: Sequence[Node], groups: Sequence[Group], of: Mapping[Node, Group]) -> dict[Group, list[Group]]:
    """For each group those that it may be taken from: they read what it reads, and more, and do not depend on it."""
    reading: dict[Node, list[Group]] = {}
    for group in groups:
        for x in set(group.args):
            reading.setdefault(x, []).append(group)
    found: dict[Group, list[Group]] = {}
    for group in groups:
        args = set(group.args)
        fewest = min((reading[x] for x in args), key=len, default=list[Group]())
        found[group] = [
            other
            for other in fewest
            if len(other.args) > len(group.args) and other.family == group.family and args <= set(other.args)
        ]
    bits = {group: 1 << k for k, group in enumerate(group for group in groups if found[group])}
    below: dict[Node, int] = {}
    for node in order if bits else ():
        here = bits.get(of[node], 0) if node in of else 0
        for x in node.args:
            here |= below[x]
        below[node] = here
    for group, bit in bits.items():
        found[group] = [other for other in found[group] if not any(below[x] & bit for x in other.args)]
    return found


class Walk:
    """What has become of nodes so far, in ``new``; equal ones are made one."""

    def __init__(self) -> None:
        self.new: dict[Node, Node] = {}
        self.table: dict[object, Node] = {}
        self.numbers = Numbers()
        self.placed: list[Group] = []
        self.reading: dict[tuple[object, Node], list[Group]] = {}

    def visit(self, found: Node | Group) -> None:
        """Take in what comes next."""
        if isinstance(found, Node):
            self.new[found] = self.interned(self.moved(found))
            return
        group = Group(found.nodes, tuple(self.new[x] for x in found.args))
        if isinstance(group.body, Body):
            group.asked = [x.params["value"] for x in group.nodes if "value" in x.params]
        family = group.family
        nearest = min((self.reading.get((family, x), []) for x in group.args), key=len, default=list[Group]())
        for host in nearest:
            results = taken(self.numbers, host, group) if isinstance(group.body, Body) else None
            if results is not None:
                self.new |= {x: self.interned(y) for x, y in zip(group.nodes, results, strict=True)}
                return
            if isinstance(group.body, Branches) and set(group.args[1:]) <= set(host.args[1:]):
                host.joined.append(group)
                break
        else:
            self.placed.append(group)
            for x in set(group.args):
                self.reading.setdefault((family, x), []).append(group)
        for node in group.nodes:
            self.new[node] = self.interned(self.moved(node))

    def moved(self, node: Node) -> Node:
        args = tuple(self.new[x] for x in node.args)
        return node if args == node.args else clone(node, args)

    def interned(self, node: Node) -> Node:
        return self.table.setdefault(intern_key(node.op, node.args, node.params), node)

    def joined(self, outputs: Sequence[Node]) -> list[Node]:
        """``outputs``, where choices that have joined others are taken from them."""
        instead: dict[Node, Node] = {}
        for host in self.placed:
            if host.joined:
                instead |= {self.new[x]: y for x, y in one_choice(host).items()}
        new: dict[Node, Node] = {}
        for node in toposort(outputs, lambda node: instead.get(node, node).args) if instead else ():
            other = instead.get(node, node)
            args = tuple(new[x] for x in other.args)
            new[node] = other if args == other.args else clone(other, args)
        return [new.get(x, x) for x in outputs]


def one_choice(host: Group) -> dict[Node, Node]:
    """The results of a choice and of those that have joined it, as those of one."""
    at = dict(zip(host.args[1:], host.body.consts, strict=True))
    values: list[list[Node]] = [[] for _ in host.body.values]
    parts: list[tuple[Group, int, dict[Node, Node]]] = []
    for group in (host, *host.joined):
        given = {x: at[operand] for x, operand in zip(group.body.consts, group.args[1:], strict=True)}
        parts.append((group, len(values[0]), given))
        for results, own in zip(values, group.body.values, strict=True):
            results += substitute(own, given)
    body = Branches(host.body.consts, tuple(map(tuple, values)))
    out: dict[Node, Node] = {}
    for group, start, given in parts:
        for node in group.nodes:
            if "result" in node.params:
                out[node] = branches.chosen_of(host.args, body, start + node.params["result"])
            else:
                (value,) = substitute([node.params["value"]], given)
                out[node] = branches.left_of(host.args, body, node.params["branch"], value)
    return out


def given(numbers: Numbers, group: Group, carries: Mapping[int, int]) -> Known:
    """The numbers of the inputs of a loop: what slices and constants are, and those of some ``carries``."""
    body: Body = group.body
    kinds = ["slice"] * len(body.slices) + ["constant"] * len(body.consts)
    rest = zip(body.inputs[len(body.carries) :], kinds, group.args[len(body.carries) :], strict=True)
    known = {x: numbers.of((kind, operand)) for x, kind, operand in rest}
    return known | {body.carries[k]: number for k, number in carries.items()}


def alike(numbers: Numbers, host: Group, group: Group) -> tuple[Known, Known] | None:
    """The numbers of what is in the bodies of two loops, if the first has the carries that the second needs."""
    pair = (host, range(len(host.body.carries))), (group, group.live)
    found = [{k: numbers.of(("first", g.args[k])) for k in carries} for g, carries in pair]
    while set(found[1].values()) <= set(found[0].values()):
        known = given(numbers, host, found[0]), given(numbers, group, found[1])
        later = [
            {k: numbers.of((now[k], numbers.within([g.body.nexts[k]], there))) for k in carries}
            for (g, carries), now, there in zip(pair, found, known, strict=True)
        ]
        if len({*later[0].values(), *later[1].values()}) == len({*found[0].values(), *found[1].values()}):
            return known
        found = later
    return None


def taken(numbers: Numbers, host: Group, group: Group) -> list[Node] | None:
    """The results of a loop as those of another that goes through its steps too; None where it does not."""
    found = alike(numbers, host, group)
    if found is None:
        return None
    there, here = found
    tests = [[] if g.body.condition is None else [g.body.condition] for g in (host, group)]
    if numbers.within(tests[0], there) != numbers.within(tests[1], here):
        return None
    numbers.within(host.asked, there)
    numbers.within(group.asked, here)
    stands = {number: node for node, number in reversed(there.items())}
    shared = any(x.args and here[x] in stands for x in toposort(group.asked))
    if not group.live and (host.live or not shared):
        return None  # its steps may go in any order, and do not do the same
    for node in toposort(group.asked, lambda x: () if here[x] in stands else x.args):
        if here[node] not in stands:
            if isinstance(node.op.lower, Source):
                return None
            stands[here[node]] = clone(node, tuple(stands[here[x]] for x in node.args)) if node.args else node
    results: list[Node] = []
    for node in group.nodes:
        if "value" in node.params:
            host.asked.append(value := stands[here[node.params["value"]]])
            results.append(control.stack_of(host.args, host.body, value))
        elif "carry" in node.params:
            carry = stands[here[group.body.carries[node.params["carry"]]]]
            results.append(control.final_of(host.args, host.body, host.body.carries.index(carry)))
        else:
            results.append(control.count_of(host.args, host.body))
        results[-1].name = node.name
    return results
