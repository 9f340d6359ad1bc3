"""exp and what is made of it; knows the arithmetic of `traced`.

``exp(x) = 2**n * exp(r)`` with ``n`` the integer nearest to ``x / ln 2`` and ``|r| <= ln(2) / 2``. Adding 1.5 * 2**52
(2**23 in float32) rounds ``x / ln 2`` to an integer and leaves it in the low bits, where a shift makes it a power of 2.
ln 2 is subtracted in two parts, the first short enough for its product with ``n`` to be exact. Where ``2**n`` may leave
the range of exponents it is applied in two halves, so that nothing asks whether it does. Polynomials:
`benchmarks.accuracy.fit`, on the functions named beside them.
"""

# pyright: basic, reportReturnType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from staticad.runtime.kernels.traced import (
    Value,
    bits,
    copysign,
    fabs,
    madd,
    polynomial,
    real,
    select,
    traced,
)


class Format(NamedTuple):
    """What depends on the dtype."""

    magic: float  # 1.5 * 2**mantissa
    bias: int  # of the exponent
    mantissa: int
    ln2: tuple[float, float]
    most: float  # exp(x) is inf above, exp(-x) is 0 well before `far`
    far: float
    saturated: float  # tanh is 1 and expm1(-x) is -1 from here on
    exp: tuple[float, ...]  # (exp(r) - 1 - r) / r**2
    exp2: tuple[float, ...]  # (2**r - 1) / r
    tanh: tuple[float, ...]  # (tanh(x) / x - 1) / x**2 of x**2, up to 0.55
    sinh: tuple[float, ...]  # (sinh(x) / x - 1) / x**2 of x**2, up to 1


DOUBLE = Format(
    magic=1.5 * 2**52,
    bias=1023,
    mantissa=52,
    ln2=(0.6931471805598903, 5.497923018708371e-14),
    most=710.0,
    far=750.0,
    saturated=40.0,
    exp=(
        2.510038549551032e-08, 2.7620088445409746e-07, 2.7557268459997064e-06, 2.4801521295954376e-05,
        0.00019841269863053618, 0.0013888888917213717, 0.008333333333330062, 0.04166666666662413,
        0.16666666666666669, 0.5,
    ),
    exp2=(
        4.4549643712692967e-10, 7.072593027878997e-09, 1.0178062426976924e-07, 1.3215442552522291e-06,
        1.525273382986708e-05, 0.00015403530441794136, 0.0013333558146416916, 0.009618129107606854,
        0.0555041086648216, 0.24022650695910097, 0.6931471805599453,
    ),
    tanh=(
        -2.0598556673275166e-05, 8.510707927354112e-05, -0.00023463104528300406, 0.0005889348072447028,
        -0.0014556615775702365, 0.003592110347096177, -0.008863234395418095, 0.021869488493563037,
        -0.05396825396743174, 0.13333333333332714, -0.3333333333333333,
    ),
    sinh=(
        7.746178593018827e-13, 1.6057679623801638e-10, 2.5052117695907823e-08, 2.7557319191381816e-06,
        0.00019841269841324198, 0.008333333333333299, 0.16666666666666666,
    ),
)  # fmt: skip
SINGLE = Format(
    magic=1.5 * 2**23,
    bias=127,
    mantissa=23,
    ln2=(0.693145751953125, 1.428606820309417e-06),
    most=89.0,
    far=105.0,
    saturated=20.0,
    exp=(0.0013926183587713494, 0.008363179052722578, 0.041666554617204574, 0.16666576989698775, 0.5),
    exp2=(
        0.0001545318282995974, 0.0013390886332106697, 0.009618082519990467, 0.05550357071152507,
        0.24022650760645808, 0.6931471880352003,
    ),
    tanh=(-0.00621213867389645, 0.021074384127868866, -0.05386674958452925, 0.13332871156814893,
    -0.33333329923453686),
    sinh=(2.8062802582276946e-06, 0.00019838101968683888, 0.00833333967591706, 0.16666666646842135),
)  # fmt: skip
LOG2E = 1.4426950408889634


def form(x: Value) -> Format:
    return DOUBLE if x.double else SINGLE


def within(x: Value, least: float, most: float) -> Value:
    """``x`` held between bounds; nan stays nan."""
    x = select(x < least, least, x)
    return select(x > most, most, x)


def bounded(x: Value, most: float) -> Value:
    """``x`` held between ``-most`` and ``most``; nan stays nan."""
    return within(x, -most, most)


def reduce(x: Value, bias: float, coefficients: Sequence[float] = ()) -> tuple[Value, Value]:
    """``exp(r) - 1`` and ``n + bias`` in the low bits of an integer, where ``exp(x) = 2**n * exp(r)``.

    With other coefficients than the dtype's own it is as good as they are.
    """
    its = form(x)
    magic = its.magic + bias
    rounded = madd(x, LOG2E, magic)
    n = rounded - magic
    r = madd(n, -its.ln2[1], madd(n, -its.ln2[0], x))
    square = r * r
    return madd(square, polynomial(r, coefficients or its.exp, square), r), bits(rounded)


def reduce_half(x: Value) -> tuple[Value, Value]:
    """``exp(r) - 1`` and ``2**(n - 1)``."""
    p, n = reduce(x, form(x).bias - 1)
    return p, real(n << form(x).mantissa)


def halves(n: Value, its: Format) -> tuple[Value, Value]:
    """``2**k`` and ``2**(n - k)`` with ``k = n // 2``, of ``n`` plus twice the bias."""
    k = n >> 1
    return real(k << its.mantissa), real((n - k) << its.mantissa)


def exp_(x: Value) -> tuple[Value, Value]:
    """``exp(x)`` and what rounding took from it, for ``x`` within ``far``."""
    p, n = reduce(x, 2 * form(x).bias)
    first, rest = halves(n, form(x))
    out = madd(p, first, first)
    return out * rest, madd(p, first, first - out) * rest


def half_exp(x: Value) -> Value:
    """``exp(x) / 2`` for ``x >= 0``, without overflow before it has to be."""
    most = form(x).most + 0.6
    p, n = reduce(select(x > most, most, x), form(x).bias - 2)
    scale = real(n << form(x).mantissa)
    return madd(p, scale, scale) * 2


@traced(np.exp)
def exp(x: Value) -> Value:
    return exp_(bounded(x, form(x).far))[0]


@traced(np.exp2)
def exp2(x: Value) -> Value:
    its = form(x)
    x = bounded(x, its.far * LOG2E)
    magic = its.magic + 2 * its.bias
    rounded = x + magic
    first, rest = halves(bits(rounded), its)
    r = x - (rounded - magic)
    return madd(r * polynomial(r, its.exp2), first, first) * rest


@traced(np.expm1)
def expm1(x: Value) -> Value:
    p, half = reduce_half(within(x, -form(x).saturated, form(x).most))
    return copysign(2 * madd(p, half, half - 0.5), x)


@traced(np.tanh)
def tanh(x: Value) -> Value:
    """``1 - 2 / (exp(2x) + 1)``, but near 0.

    ``exp(2x)`` is 2**n * exp(2r): where it is large its digits do not matter, so that ln 2 is one number here."""
    its, a = form(x), fabs(x)
    far = its.saturated / 2
    magic = its.magic + its.bias - 1
    held = select(a > far, far, a)
    rounded = madd(held, 2 * LOG2E, magic)
    r = madd(rounded - magic, -sum(its.ln2) / 2, held)
    doubled = [c * 2.0 ** (len(its.exp) + 1 - k) for k, c in enumerate(its.exp)]
    square = r * r
    p = madd(square, polynomial(r, doubled, square), 2 * r)
    half = real(bits(rounded) << its.mantissa)
    square = x * x
    near = madd(a * square, polynomial(square, its.tanh), a)
    return copysign(select(a < 0.55, near, 1 - 1 / madd(p, half, half + 0.5)), x)


@traced(np.sinh)
def sinh(x: Value) -> Value:
    a = fabs(x)
    half = half_exp(a)
    square = x * x
    small = madd(x * square, polynomial(square, form(x).sinh), x)
    return select(a < 1.0, small, copysign(half - 0.25 / half, x))


@traced(np.cosh)
def cosh(x: Value) -> Value:
    half = half_exp(fabs(x))
    return half + 0.25 / half


def plain_sigmoid(x):
    decay = np.exp(-np.fabs(x))
    return (type(x)(1) if x >= 0 else decay) / (1 + decay)


def decay(a: Value) -> tuple[Value, Value]:
    """``exp(-a)`` for ``a >= 0``, and what rounding took from it."""
    far = form(a).far
    return exp_(select(a > far, -far, -a))


@traced(plain_sigmoid)
def sigmoid(x: Value) -> Value:
    """``e / (1 + e)`` of ``e = exp(-abs(x))``, which cannot overflow, or what that leaves of 1."""
    e = decay(fabs(x))[0]
    whole = 1 + e
    part = e / whole
    # What the rounding of 1 + e lost is put back in first order: three roundings would make 2.3 ulp.
    part = madd(part * (whole - 1 - e), 1 - part, part)
    return select(x >= 0, 1 - part, part)
