"""atan2, atan, asin and acos; knows the arithmetic of `traced`. Polynomials: `benchmarks.accuracy.fit`."""

# pyright: basic, reportReturnType=false

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from staticad.runtime.kernels.traced import Value, copysign, fabs, polynomial, select, sqrt, traced


class Format(NamedTuple):
    """What depends on the dtype; of pi a rounded value and the rest."""

    pi: tuple[float, float]
    huge: float
    atan: tuple[float, ...]  # (atan(x) / x - 1) / x**2 of x**2, up to tan(pi / 8)
    asin: tuple[float, ...]  # (asin(x) / x - 1) / x**2 of x**2, up to 0.5


DOUBLE = Format(
    pi=(3.141592653589793, 1.2246467991473532e-16),
    huge=2.0**1000,
    atan=(
        -0.019175404711104935, 0.03923044778479309, -0.050854078345894844, 0.05858140904866328,
        -0.06664510525508936, 0.07692183125376892, -0.0909090457530649, 0.11111111015187018, -0.14285714284665682,
        0.19999999999995516, -0.3333333333333333,
    ),
    asin=(
        0.02877844261259304, -0.014881409392818066, 0.017419357964884856, 0.00545087818772055,
        0.010324318288744113, 0.011478952690257387, 0.013971235301124539, 0.017352391265909227,
        0.022372173002005596, 0.030381944137085216, 0.04464285714637338, 0.07499999999998425, 0.16666666666666669,
    ),
)  # fmt: skip
SINGLE = Format(
    pi=(3.1415927410125732, -8.742277657347586e-08),
    huge=2.0**120,
    atan=(-0.06451718869358958, 0.10743668324830098, -0.14263949753605723, 0.1999954031495797, -0.33333331760434554),
    asin=(
        0.03370072632136513, 0.017143716819253568, 0.031101727829067168, 0.04459931916287114, 0.07500094761172901,
        0.1666666633654049,
    ),
)  # fmt: skip


def form(x: Value) -> Format:
    return DOUBLE if x.double else SINGLE


def angle(y: Value, x: Value) -> Value:
    """``atan(y / x)`` of positive numbers: 0, pi/4 or pi/2 and a small angle beside it, with one division."""
    pi = form(x).pi
    far, middle = y > 2.414213562373095 * x, y > 0.41421356237309503 * x
    part = select(far, -x, select(middle, y - x, y))
    whole = select(far, y, select(middle, y + x, x))
    t = part / select(whole.equals(0.0), 1.0, whole)
    z = t * t
    share = select(far, x.of(0.5), select(middle, x.of(0.25), 0.0))
    return share * pi[0] + (t + (t * z * polynomial(z, form(x).atan) + share * pi[1]))


@traced(np.arctan2, operands=2)
def atan2(y: Value, x: Value) -> Value:
    pi, huge = form(x).pi, form(x).huge
    a, b = fabs(y), fabs(x)
    scale = select(a > huge, x.of(0.0625), select(b > huge, x.of(0.0625), 1.0))  # so that a + b is finite
    both = a.equals(np.inf) & b.equals(np.inf)
    out = angle(select(both, 1.0, a * scale), select(both, 1.0, b * scale))
    out = select(copysign(x.of(1.0), x) < 0.0, pi[0] - (out - pi[1]), out)
    return copysign(out, y)


@traced(np.arctan)
def atan(x: Value) -> Value:
    return copysign(angle(fabs(x), x.of(1.0)), x)


def arc(a: Value) -> tuple[Value, Value, Value]:
    """Whether ``a > 0.5``; ``s`` and what makes it ``asin(s)``, where s is a or else ``sqrt((1 - a) / 2)``."""
    big = a > 0.5
    z = select(big, 0.5 - 0.5 * a, a * a)
    s = select(big, sqrt(z), a)
    return big, s, s * z * polynomial(z, form(a).asin)


@traced(np.arcsin)
def asin(x: Value) -> Value:
    """``pi/2 - 2 * asin(sqrt((1 - x) / 2))`` above 0.5."""
    pi = form(x).pi
    big, s, more = arc(fabs(x))
    out = 0.25 * pi[0] - ((2 * s - 0.25 * pi[0]) + (2 * more - 0.5 * pi[1]))  # the inner difference is exact
    return copysign(select(big, out, s + more), x)


@traced(np.arccos)
def acos(x: Value) -> Value:
    """``2 * asin(sqrt((1 - x) / 2))`` above 0.5."""
    pi = form(x).pi
    big, s, more = arc(fabs(x))
    twice = 2 * (s + more)
    small = 0.5 * pi[0] - (copysign(s, x) + (copysign(more, x) - 0.5 * pi[1]))
    return select(big, select(x > 0.0, twice, pi[0] - (twice - pi[1])), small)
