"""Lanes of which each holds a single unit, kept as what they are: one value and where it stands; knows lowerings.

A Jacobian is what a linear graph makes of all unit vectors. In lane l of those only element l is not zero, so that the
lanes are no array but a condition: they are written down as the elements on the diagonal, of the shape of one lane, and
the axis that a lane's number counts along. What is linear and looks at each element alone keeps that; a product or a
sum over that axis turns it into the lane's own axis, and nothing is multiplied by zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_letters

from staticad.dtypes import int64
from staticad.ir import Node
from staticad.lowering import Contract, Map, Reduce, View
from staticad.ops import creation, logic, products, reductions, views
from staticad.shapes import Shape, Symbol, symbol

Spots = tuple["int | None", ...]


@dataclass(frozen=True, eq=False)
class Laned:
    """Values in lanes. ``spots`` has for each axis of the lanes the axis of a value that it counts along, so that all
    elements but one along that are zero; or None, and then ``node`` has that axis, before those of the value."""

    node: Node
    spots: Spots

    def lanes(self, lanes: Shape) -> Shape:
        """Those of ``lanes`` that the node has."""
        return tuple(d for d, spot in zip(lanes, self.spots, strict=True) if spot is None)


def spelled_out(x: Laned, lanes: Shape, spots: Spots | None = None) -> Laned:
    """``x`` with every axis of the lanes, but for those that ``spots`` has where ``x`` has them too."""
    wanted = spots or (None,) * len(lanes)
    kept = tuple(a if a == b else None for a, b in zip(x.spots, wanted, strict=True))
    if kept == x.spots:
        return x
    before, after = ([a for a, spot in enumerate(s) if spot is None] for s in (x.spots, kept))
    own = x.node.shape[len(before) :]
    shape = (*(lanes[a] for a in after), *own)
    axes = (*(after.index(a) for a in before), *range(len(after), len(shape)))
    here: Node | None = None
    for a, spot in enumerate(x.spots):
        if spot is not None and kept[a] is None:
            lane, place = (creation.iota(shape=shape, axis=k, dtype=int64) for k in (after.index(a), len(after) + spot))
            equal = logic.equal(lane, place)
            here = equal if here is None else logic.logical_and(here, equal)
    assert here is not None
    everywhere = views.broadcast(x.node, shape=shape, axes=axes)
    return Laned(logic.select(here, everywhere, creation.fill(everywhere, 0)), kept)


def kept_apart(node: Node, args: Sequence[Laned | Node], lanes: Shape) -> Laned | None:
    """What a node, linear in those operands that have lanes, gives for units; None where it is no unit, nor cheap."""
    laned = [x for x in args if isinstance(x, Laned)]
    spots = laned[0].spots
    if all(spot is None for spot in spots) or any(x.spots != spots for x in laned):
        return None
    lower: object = node.op.lower
    rule = RULES.get(type(lower))
    return rule(node, args, spots, lanes) if rule else None


def batched(node: Node, args: Sequence[Laned | Node], lanes: Shape) -> Node | None:
    """The op's own rule for operands of which some have lanes."""
    has = [isinstance(x, Laned) for x in args]
    if node.op.batch is None:
        return None
    return node.op.batch(node, [x.node if isinstance(x, Laned) else x for x in args], has, lanes)


def each_element(node: Node, args: Sequence[Laned | Node], spots: Spots, lanes: Shape) -> Laned | None:
    """A map: zeros stay zeros where they are."""
    found = batched(node, args, next(x for x in args if isinstance(x, Laned)).lanes(lanes))
    return None if found is None else Laned(found, spots)


def view(node: Node, args: Sequence[Laned | Node], spots: Spots, lanes: Shape) -> Laned | None:
    """A view that reads along an axis of its result as the operand's axis runs."""
    x, lower = args[0], node.op.lower
    assert isinstance(lower, View)
    if not isinstance(x, Laned) or any(isinstance(y, Laned) for y in args[1:]):
        return None
    index = tuple(symbol(Symbol(f"i{k}", "var")) for k in range(len(node.shape)))
    read = lower.read(node, index).index
    places: list[int | None] = []
    for lane, spot in zip(lanes, spots, strict=True):
        place = index.index(read[spot]) if spot is not None and read[spot] in index else None
        places.append(place if place is not None and node.shape[place] == lane else None)
    x = spelled_out(x, lanes, tuple(a if b is not None else None for a, b in zip(spots, places, strict=True)))
    found = batched(node, [x, *args[1:]], x.lanes(lanes))
    return None if found is None else Laned(found, tuple(places))


def total(node: Node, args: Sequence[Laned | Node], spots: Spots, lanes: Shape) -> Laned | None:
    """A reduction over the axis that a lane counts along, which is a sum since it is linear, has a single term there:
    the lane's. A running one has as many as it keeps."""
    x, lower = args[0], node.op.lower
    assert isinstance(lower, Reduce)
    if lower.running or len(args) > 1 or not isinstance(x, Laned):
        return None
    axes: tuple[int, ...] = node.params["axes"]
    single = [spot for spot in spots if spot in axes]
    if len(set(single)) != len(single):
        return None
    rank = len(x.lanes(lanes))
    summed = tuple(rank + a for a in axes if a not in single)
    left = [k for k in range(len(x.node.shape)) if k not in summed]
    dense = iter(range(rank))
    first = [next(dense) if spot is None else rank + spot for spot in spots if spot is None or spot in single]
    rest = reductions.kept_axes(len(node.args[0].shape), axes)
    order = tuple(left.index(k) for k in (*first, *(rank + a for a in rest)))
    found = views.transpose(node.op(x.node, axes=summed), axes=order)
    return Laned(found, tuple(None if spot is None or spot in single else rest.index(spot) for spot in spots))


def product(node: Node, args: Sequence[Laned | Node], spots: Spots, lanes: Shape) -> Laned | None:
    """A product that sums over the axis that a lane counts along has a single term: that letter is the lane's."""
    which = [k for k, x in enumerate(args) if isinstance(x, Laned)]
    *parts, out = products.parse_spec(node.params["spec"])
    own = parts[which[0]]
    free = iter(c for c in ascii_letters if c not in node.params["spec"])
    letters = [next(free, "") if spot is None else own[spot] for spot in spots]
    first = [c for c in letters if c not in out]
    if len(which) != 1 or "" in letters or len(set(first)) != len(first):
        return None
    parts[which[0]] = "".join(c for c, spot in zip(letters, spots, strict=True) if spot is None) + own
    spec = f"{','.join(parts)}->{''.join(first)}{out}"
    found = products.contract(*(x.node if isinstance(x, Laned) else x for x in args), spec=spec)
    return Laned(found, tuple(out.index(c) if c in out else None for c in letters))


Rule = Callable[[Node, Sequence["Laned | Node"], Spots, Shape], "Laned | None"]
RULES: dict[type, Rule] = {Map: each_element, View: view, Contract: product, Reduce: total}
