"""Bounds of symbolic dimensions, and the minima and maxima that they decide; knows no shapes and no ops."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from staticad.dimensions import (
    Atom,
    Binary,
    Dim,
    Monomial,
    add,
    divided,
    merged,
    mul,
    normal,
    order_of,
    square_root,
    symbol,
    terms_of,
)


def lower_bound(x: Dim) -> int | None:
    """A number that ``x`` is never below, or None where none is known. Symbols are at least 0."""
    if isinstance(x, int):
        return x
    return x.low


def expr_low(terms: Mapping[Monomial, int]) -> int | None:
    """The lower bound of a polynomial, by its terms or by those of something that is never above it."""
    low = _terms_low(terms)
    below = _below(terms) if low is None else None
    return low if below is None else lower_bound(below)


def _terms_low(terms: Mapping[Monomial, int]) -> int | None:
    total = 0
    for m, c in terms.items():
        lows = [(_atom_low(a), p) for a, p in m]
        if m and (c < 0 or not all(_never_negative(a) for a, _ in m)):
            return None
        total += c * prod((low or 0) ** p for low, p in lows)
    return total


def _below(terms: Mapping[Monomial, int]) -> Dim | None:
    """Something that is never above, with ``x`` where ``y * (x // y)`` is subtracted; None where that is nowhere."""
    for m, c in terms.items():
        for a, _ in m:
            if c > 0 or not isinstance(a, Binary) or a.op != "//" or len(divisor := terms_of(a.y)) != 1:
                continue
            ((ym, yc),) = divisor.items()
            others = divided(m, merged(((a, 1),), ym))
            if others is None or yc < 0 or c % yc or not all(_never_negative(b) for b, _ in others):
                continue
            rest = {other: k for other, k in terms.items() if other != m}
            return add(normal(rest), mul(normal({others: c // yc}), a.x))
    return None


def _atom_low(a: Atom) -> int | None:
    return a.low if isinstance(a, Binary) else 0


def _never_negative(a: Atom) -> bool:
    low = _atom_low(a)
    return low is not None and low >= 0


def binary_low(op: str, x: Dim, y: Dim) -> int | None:
    """The lower bound of an operation that is no polynomial."""
    a, b = lower_bound(x), lower_bound(y)
    if op == "//":
        if isinstance(y, int):
            return a // y if a is not None and y > 0 else None
        return 0 if a is not None and a >= 0 else None
    if op == "root":
        return square_root(a or 0, b or 0)
    if op == "max":
        return max((low for low in (a, b) if low is not None), default=None)
    return None if a is None or b is None else min(a, b)


def known_ge(x: Dim, y: Dim) -> bool:
    """Whether ``x >= y`` for every value of the symbols, as far as the bounds show."""
    low = lower_bound(add(x, mul(y, -1)))
    return low is not None and low >= 0


def minimum(x: Dim, y: Dim) -> Dim:
    return _extremum("min", x, y)


def maximum(x: Dim, y: Dim) -> Dim:
    return _extremum("max", x, y)


def _extremum(op: str, x: Dim, y: Dim) -> Dim:
    if known_ge(x, y):
        return x if op == "max" else y
    if known_ge(y, x):
        return y if op == "max" else x
    return symbol(Binary(op, *sorted((x, y), key=order_of)))
