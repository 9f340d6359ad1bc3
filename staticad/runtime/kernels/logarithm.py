"""log and what is made of it; knows the arithmetic of `traced` and the exponentials.

``log(x) = k * ln(2) + log(m)`` with ``m`` in [sqrt(1/2), sqrt(2)), cut out of the bits of ``x``. With ``f = m - 1`` and
``s = f / (2 + f)``, ``log(m) = log((1 + s) / (1 - s)) = 2*s + s**3 * p(s**2)``; with ``f - s*f`` for ``2*s`` it keeps
what the division rounds off. Polynomials: `benchmarks.accuracy.fit`.
"""

# pyright: basic, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from staticad.runtime.kernels.exponential import decay
from staticad.runtime.kernels.traced import (
    Value,
    bits,
    copysign,
    double,
    fabs,
    fma,
    madd,
    narrow,
    polynomial,
    real,
    select,
    sqrt,
    traced,
    two_sum,
)


class Format(NamedTuple):
    """What depends on the dtype."""

    mantissa: int
    bias: int
    root: int  # the bits of sqrt(1/2), rounded
    normal: float  # the least number that is not subnormal
    lift: int  # a power of two that makes any subnormal normal
    ln2: tuple[float, float]
    lg2: tuple[float, float]  # log10(2)
    log2e: tuple[float, float]
    log10e: tuple[float, float]
    log: tuple[float, ...]  # (log((1 + s) / (1 - s)) / s - 2) / s**2 of s**2, up to s = 0.172
    log_wide: tuple[float, ...]  # up to s = 1/3


DOUBLE = Format(
    mantissa=52,
    bias=1023,
    root=0x3FE6A09E667F3BCD,
    normal=2.0**-1022,
    lift=54,
    ln2=(0.6931471805598903, 5.497923018708371e-14),
    lg2=(0.30102999566395283, 2.8363394551044964e-14),
    log2e=(1.4426950408889634, 2.0355273740931033e-17),
    log10e=(0.4342944819032518, 1.098319650216765e-17),
    log=(
        0.14616585424888623, 0.15331710618210773, 0.18182889455674947, 0.22222211130259878, 0.2857142862600327,
        0.39999999999899444, 0.666666666666667,
    ),
    log_wide=(
        0.1616404561194353, 0.08800738486144674, 0.12001072809590713, 0.13314144209654935, 0.15385570064958623,
        0.18181789436132859, 0.22222222717427864, 0.2857142856710876, 0.40000000000014585, 0.6666666666666666,
    ),
)  # fmt: skip
SINGLE = Format(
    mantissa=23,
    bias=127,
    root=0x3F3504F3,
    normal=2.0**-126,
    lift=25,
    ln2=(0.693145751953125, 1.4286068203094173e-06),
    lg2=(0.301025390625, 4.605038981195214e-06),
    log2e=(1.4426950216293335, 1.9259629911266175e-08),
    log10e=(0.4342944622039795, 1.9699272335463627e-08),
    log=(0.2958005304318844, 0.39988778282162807, 0.6666668504515603),
    log_wide=(0.2685149802283715, 0.2823661980531048, 0.40007560644911205, 0.6666664033669923),
)


def form(x: Value) -> Format:
    return DOUBLE if x.double else SINGLE


def split(x: Value) -> tuple[Value, Value, Value]:
    """``m``, ``k`` and ``2**(1 - k)`` where a positive normal ``x = 2**k * m``."""
    its = form(x)
    one = its.bias << its.mantissa
    shifted = bits(x) + (one - its.root)
    biased = shifted >> its.mantissa
    m = real((shifted & ((1 << its.mantissa) - 1)) + its.root)
    # The bits of 2**mantissa with an integer or-ed in are the number 2**mantissa plus that integer.
    k = real(biased | ((its.bias + its.mantissa) << its.mantissa)) - (2.0**its.mantissa + its.bias)
    return m, k, real((2 * its.bias + 1 - biased) << its.mantissa)


def split_any(x: Value) -> tuple[Value, Value]:
    """``m`` and ``k`` for any positive ``x``."""
    its = form(x)
    tiny = x < its.normal
    m, k, _ = split(select(tiny, x * 2.0**its.lift, x))
    return m, k - select(tiny, x.of(float(its.lift)), 0.0)


def series(f: Value, more: Value | float, coefficients: Sequence[float] = ()) -> Value:
    """``log(1 + f) + more``, for ``f`` between sqrt(1/2) - 1 and sqrt(2) - 1 unless the coefficients reach further."""
    s = f / (2 + f)
    z = s * s
    return f - madd(s, madd(-z, polynomial(z, coefficients or form(f).log), f), -more)


def with_ends(x: Value, out: Value) -> Value:
    """``out``, but the logarithm's own values where ``x`` is infinite, nan or not above 0."""
    ends = select(x.equals(0.0), x.of(-np.inf), np.nan)
    return select(x > 0.0, select(x < np.inf, out, x), ends)


def log_sum(u: Value, rest: Value, add: Value | float = 0.0) -> Value:
    """``log(u + rest) + add * ln(2)`` of a normal u and a rest that is small beside it, as if the sum were exact."""
    its = form(u)
    m, k, scale = split(u)
    k = k + add
    return madd(k, its.ln2[0], series(madd(0.5 * rest, scale, m - 1), k * its.ln2[1]))


@traced(np.log)
def log(x: Value) -> Value:
    m, k = split_any(x)
    ln2 = form(x).ln2
    return with_ends(x, madd(k, ln2[0], series(m - 1, k * ln2[1])))


@traced(np.log2)
def log2(x: Value) -> Value:
    m, k = split_any(x)
    log2e, part = form(x).log2e, series(m - 1, 0.0)
    return with_ends(x, k + madd(part, log2e[0], part * log2e[1]))


@traced(np.log10)
def log10(x: Value) -> Value:
    m, k = split_any(x)
    log10e, lg2, part = form(x).log10e, form(x).lg2, series(m - 1, 0.0)
    return with_ends(x, madd(k, lg2[0], madd(part, log10e[0], madd(part, log10e[1], k * lg2[1]))))


@traced(np.log1p)
def log1p(x: Value) -> Value:
    u = 1 + x
    above = u - 1
    out = log_sum(u, (1 - (u - above)) + (x - above))
    return copysign(with_ends(u, out), x)


def log1p_decay(a: Value) -> Value:
    """``log(1 + exp(-a))`` for ``a >= 0``."""
    return series(decay(a)[0], 0.0, form(a).log_wide)


def plain_softplus(x):
    return np.log1p(np.exp(-np.fabs(x))) + (x if x > 0 else type(x)(0))


@traced(plain_softplus)
def softplus(x: Value) -> Value:
    """``log(1 + exp(x))``, exact in both tails."""
    return log1p_decay(fabs(x)) + select(x < 0.0, x.of(0.0), x)


@traced(np.logaddexp, operands=2)
def logaddexp(x: Value, y: Value) -> Value:
    """``log(exp(x) + exp(y))``."""
    most = select(x > y, x, y)
    apart = select(x.equals(y), x.of(0.0), fabs(x - y))  # of equal infinities too
    return most + log1p_decay(apart)


def root_sum(a: Value, unit: float) -> tuple[Value, Value]:
    """``a + sqrt(a * a + unit)`` as a sum of two doubles, for ``a < 2**500``."""
    square = a * a
    v, rest = two_sum(square, square.of(unit))
    root = sqrt(v)
    rest = fma(-root, root, v) + (rest + fma(a, a, -square))
    u, lost = two_sum(root, a)
    return u, lost + select(root > 0.0, 0.5 * rest / root, 0.0)


def log_root_sum(a: Value, unit: float) -> Value:
    big = a > 2.0**500
    u, rest = root_sum(select(big, 1.0, a), unit)
    return log_sum(select(big, a, u), select(big, a.of(0.0), rest), select(big, a.of(1.0), 0.0))


@traced(np.arcsinh)
def asinh(x: Value) -> Value:
    """``log(x + sqrt(x**2 + 1))``, in double precision, its argument in twice that."""
    a = fabs(double(x))
    out = log_root_sum(a, 1.0)
    return copysign(narrow(select(a < np.inf, out, a), x), x)


@traced(np.arccosh)
def acosh(x: Value) -> Value:
    """``log(x + sqrt(x**2 - 1))``, in double precision, its argument in twice that."""
    a = double(x)
    out = log_root_sum(a, -1.0)
    return narrow(select(a >= 1.0, select(a < np.inf, out, a), np.nan), x)


@traced(np.arctanh)
def atanh(x: Value) -> Value:
    """``log((1 + x) / (1 - x)) / 2``, in double precision, its argument in twice that."""
    a = fabs(double(x))
    above, below = 1 + a, 1 - a
    u = above / below
    rest = fma(-u, below, above) + ((a - (above - 1)) - u * ((1 - below) - a))
    out = select(a < 1.0, 0.5 * log_sum(u, rest / below), select(a.equals(1.0), a.of(np.inf), np.nan))
    return copysign(narrow(out, x), x)
