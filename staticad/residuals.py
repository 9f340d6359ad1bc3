"""What a pullback keeps of the forward pass: the minimum cut between the two, by the costs that decide what is stored.

Whatever does not depend on a cotangent may be computed in the forward pass and kept, or in the backward pass from what
is kept and at hand. The cheapest choice for all values together is a minimum cut. In its network every value has two
nodes, "computed here" and "at hand here"; what lies on the far side of the cut is so. An edge between the two is what
keeping the value costs: it is at hand, but not computed. An edge from the source to the first is what computing it
costs. Edges that cannot be cut lead from an operand at hand to what is computed from it, and from what the backward
pass reads to the sink.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np

from staticad.costs import NEVER, computing, keeping, remembering
from staticad.ir import Node, depending, toposort
from staticad.lowering import Map, Source, Uninitialised, View
from staticad.shapes import counts
from staticad.store import in_memory, read_by

#: Capacity of an edge that is not cut. They are 32 bits wide: all others together are scaled down to half of it.
UNCUT = 1 << 30
#: How often bounds are computed anew, with what they have decided.
ROUNDS = 4


@dataclass(frozen=True)
class Ways:
    """What having a value in the backward pass costs: by keeping it, and by computing it there from ``operands``."""

    keep: float
    compute: float
    operands: tuple[Node, ...]

    def after(self, had: Collection[Node]) -> Ways:
        """The same where some values are at hand."""
        return Ways(self.keep, self.compute, tuple(x for x in self.operands if x not in had))


def choose_residuals(
    outputs: Sequence[Node],
    grads: Sequence[Node],
    cotangents: Collection[Node],
    lost: Collection[Node] = (),
    follows: Mapping[Node, Node] | None = None,
    each: int = 0,
) -> list[Node]:
    """The values that the forward pass of ``outputs`` leaves for ``grads``, operands first.

    ``cotangents`` are the sources that only the backward pass has; ``lost`` those that it has only where they are kept;
    all others are at hand. ``follows``: values that it only has to remember where it has the one they are mapped to.
    ``each``: units that keeping one more array costs, whatever its size.
    """
    follows = follows or {}
    forward = set(toposort(outputs))
    backward = depending(grads, cotangents)
    asked = [*(x for node in backward for x in node.args), *grads]
    needed = dict.fromkeys(x for x in asked if x not in backward)  # in an order that is the same in every process
    values = toposort([*follows.values(), *needed])
    at_hand = {x for x in values if isinstance(x.op.lower, Source)}.difference(lost)
    whole = in_memory(list(backward))
    ways: dict[Node, Ways] = {}
    for node in values:
        if node in at_hand:
            ways[node] = Ways(0, NEVER, ())
        elif isinstance(node.op.lower, Uninitialised):
            ways[node] = Ways(NEVER, 0, ())
        elif node in follows:
            ways[node] = Ways(each + keeping(node), remembering(node), (follows[node],))
        else:
            written = node in whole or not isinstance(node.op.lower, (Map, View))
            # What only the backward pass reads costs its flops on either side; a loop of the forward pass runs there.
            again = node in forward or node.op.together is not None
            here = sized_here(node)
            compute = (computing(node) if again and not here else 0) + (keeping(node) if written else 0)
            ways[node] = Ways(NEVER if here else each + keeping(node), compute, read_by(node))
    return [node for node in cheapest(ways, needed) if node not in at_hand]


def sized_here(node: Node) -> bool:
    """Whether ``node`` has a size that is only known behind a loop of the same pass, or makes one known."""
    return bool(counts(node.shape)) or bool(node.op.defines(node, 0))


def cheapest(ways: dict[Node, Ways], needed: Collection[Node]) -> list[Node]:
    """Those of the values, operands first, that are best kept so that all of ``needed`` are at hand.

    Bounds decide nearly all, and the cut what they leave open.
    """
    kept: set[Node] = set()
    rest, unclear = ways, set(needed)
    for _ in range(ROUNDS):
        had, wanted = decide(rest, unclear, kept)
        unclear = wanted - had
        open_ones = [node for node in rest if node in unclear]
        left = toposort(open_ones, lambda node: () if node in had else rest[node].operands)  # noqa: B023
        rest = {node: rest[node].after(had) for node in left if node not in had}
        if not had or not unclear:
            break
    kept |= minimum_cut(rest, unclear)
    return [node for node in ways if node in kept]


def decide(ways: dict[Node, Ways], needed: Collection[Node], kept: set[Node]) -> tuple[set[Node], set[Node]]:
    """What is best kept, which is added to ``kept``, or computed: where bounds on the costs leave no doubt.

    The values that are at hand so, and those that are needed then.
    """
    owner, readers = owners(ways, needed)
    tree: dict[Node, float] = {}  # what computing costs, with what is read for that alone
    least: dict[Node, float] = {}  # at least what computing costs, with what is only computed for the owner
    most: dict[Node, float] = {}  # what computing costs if nothing is computed for anything else
    for node, way in ways.items():
        below = dict.fromkeys(way.operands)
        own = [x for x in below if x not in needed and node in owner and owner[x] is owner[node]]
        tree[node] = way.compute + sum(min(ways[x].keep, tree[x]) for x in own if readers[x] == 1)
        least[node] = max(tree[node], way.compute + max((min(ways[x].keep, least[x]) for x in own), default=0))
        most[node] = way.compute + sum(min(ways[x].keep, most[x]) for x in below)
    had, wanted = set[Node](), set(needed)
    for node in reversed(ways):
        keep = ways[node].keep
        if node not in wanted:
            continue
        if keep <= (least if node in needed else tree)[node]:
            kept.add(node)
        elif most[node] <= keep:
            wanted.update(ways[node].operands)
        else:
            continue
        had.add(node)
    return had, wanted


def owners(ways: dict[Node, Ways], needed: Collection[Node]) -> tuple[dict[Node, Node | None], Counter[Node]]:
    """Which needed value each is only computed for, None where there are several; and how often each is read."""
    owner: dict[Node, Node | None] = {}
    readers: Counter[Node] = Counter()
    for node in reversed(ways):
        if node in needed:
            owner[node] = node
        for x in dict.fromkeys(ways[node].operands if node in owner else ()):
            readers[x] += 1
            owner[x] = owner[node] if owner.get(x, owner[node]) is owner[node] else None
    return owner, readers


def minimum_cut(ways: Mapping[Node, Ways], needed: Collection[Node]) -> set[Node]:
    """Those of the values that are best kept so that all of ``needed`` are at hand."""
    if not ways:
        return set()
    # Imported here: few programs need it, and importing it takes long.
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow  # pyright: ignore[reportUnknownVariableType]

    unit = 1 + int(sum(way.keep for way in ways.values() if way.keep < NEVER)) // (UNCUT // 2)

    def capacity(price: float) -> int:
        return math.ceil(price / unit) if price < UNCUT * unit else UNCUT

    source, sink = 0, 1
    here = {node: 2 + 2 * k for k, node in enumerate(ways)}  # "computed here"; "at hand here" is next to it
    edges: list[tuple[int, int, int]] = []
    for node, at in here.items():
        way = ways[node]
        edges += [(source, at, capacity(way.compute)), (at, at + 1, capacity(way.keep))]
        if way.compute < NEVER:
            edges += [(here[x] + 1, at, UNCUT) for x in dict.fromkeys(way.operands)]
        if node in needed:
            edges.append((at + 1, sink, UNCUT))
    rows, columns, capacities = np.array(edges, np.int32).T
    count = 2 + 2 * len(here)
    network = csr_array((capacities, (rows, columns)), shape=(count, count))
    left: Any = network - cast("Any", maximum_flow)(network, source, sink).flow
    left.eliminate_zeros()
    reached = np.zeros(count, bool)
    reached[breadth_first_order(left, source, return_predecessors=False)] = True
    return {node for node, at in here.items() if reached[at] and not reached[at + 1]}
