"""Runs of consecutive steps of a loop in which guards say the same all the time; knows sizes, not what a loop does.

A loop that reads an element beside the present one, such as ``x[i - 1] if 1 <= i else 0``, asks in every step what only
the first or the last steps make different. Written as consecutive runs, all but a few steps are plain arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, reduce

from staticad.loops import Loop, elements
from staticad.lowering import Guard
from staticad.shapes import Dim, Expr, Symbol, add, evaluate, known_ge, maximum, minimum, mul, symbol, symbols

#: Steps from which on a loop is worth it, and what sizes are taken to be that are not known before.
FEWEST, LIKELY = 129, 1024


@dataclass(frozen=True)
class Side:
    """One side of a guard: it holds from step ``cut`` of a loop on if ``above``, else before that."""

    cut: Dim
    above: bool


@dataclass(frozen=True)
class Run:
    """The steps of a loop of ``extent`` that are before none of ``lows``, but before ``cut``; there may be none."""

    extent: Dim
    lows: tuple[Dim, ...]
    cut: Dim | None

    @cached_property
    def first(self) -> Dim:
        return reduce(maximum, (0, *self.lows))

    @property
    def end(self) -> Dim:
        return self.extent if self.cut is None else minimum(self.cut, self.extent)

    def holds(self, side: Side) -> bool | None:
        """Whether one side of a guard holds in all steps, or in none; None: who knows."""
        if any(known_ge(low, side.cut) for low in (0, *self.lows)):
            return side.above
        if any(known_ge(side.cut, high) for high in (self.extent, self.cut) if high is not None):
            return not side.above
        return None


def sides(guard: Guard, var: Symbol) -> tuple[Side | None, Side | None]:
    """Where the two sides of a guard, ``0 <= value`` and ``value < extent``, change over a loop over ``var``.

    None where they do not, or where that is not known before any loop."""
    value = guard.value
    slope = value.terms.get(((var, 1),), 0) if isinstance(value, Expr) else 0
    rest = add(value, mul(-slope, symbol(var)))
    if abs(slope) != 1 or not (known_before(rest) and known_before(guard.extent)):
        return None, None
    if slope == 1:
        return Side(mul(-1, rest), True), Side(add(guard.extent, mul(-1, rest)), False)
    return Side(add(rest, 1), False), Side(add(add(rest, 1), mul(-1, guard.extent)), True)


def known_before(d: Dim) -> bool:
    """Whether a number is made of the sizes of inputs alone."""
    return all(s.kind == "dim" for s in symbols(d)) and not any(True for _ in elements((d,)))


def runs(loop: Loop, cuts: Iterable[Dim]) -> list[Run]:
    """At most three runs that are all steps of ``loop``, in order, divided at ``cuts``; none where it does not pay.

    Of more than two cuts, those around the longest run. Every step is in one run alone whatever the sizes are, also
    where cuts are in another order or outside of the loop: the one of the first cut that it is before."""
    if isinstance(loop.extent, int) and loop.extent < FEWEST:
        return []
    place = {cut: likely(cut) for cut in cuts}
    steps = likely(loop.extent)
    order = sorted((cut for cut, at in place.items() if 0 < at < steps), key=place.__getitem__)
    if len(order) > 2:
        ends = [0, *(place[cut] for cut in order), steps]
        longest = max(range(len(order) + 1), key=lambda k: ends[k + 1] - ends[k])
        order = order[max(longest - 1, 0) : longest + 1]
    if not order:
        return []
    return [Run(loop.extent, tuple(order[:k]), cut) for k, cut in enumerate([*order, None])]


def likely(d: Dim) -> int:
    return evaluate(d, {s.name: LIKELY for s in symbols(d)})
