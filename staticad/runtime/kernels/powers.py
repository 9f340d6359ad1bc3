"""pow, cbrt and hypot; knows the arithmetic of `traced`, the exponential and the logarithm."""

# pyright: basic, reportReturnType=false

from __future__ import annotations

import numpy as np

from staticad.runtime.kernels import exponential, logarithm
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

LOG_REST = (
    0.1291361767218225, 0.13285957435193352, 0.15385574796462032, 0.18181808247544543, 0.2222222227110234,
    0.2857142857133851, 0.40000000000000024,
)  # fmt: skip
"""``((log((1 + s) / (1 - s)) / s - 2) / s**2 - 2/3) / s**2`` of s**2; `benchmarks.accuracy.fit`."""
EXP_REST = (
    2.0914686968086876e-09, 2.5105217004720745e-08, 2.75572736431103e-07, 2.7557255400206422e-06,
    2.4801587325547743e-05, 0.00019841269874820627, 0.0013888888888883748, 0.008333333333326136,
    0.04166666666666667, 0.1666666666666667, 0.5,
)  # fmt: skip
"""``(exp(r) - 1 - r) / r**2``, to 59 bits."""
SHORT_LOG = (0.23330574367554863, 0.2855081687739519, 0.4000012187453579, 0.6666666655445456)
"""As `logarithm.Format.log`."""
SHORT_EXP = (
    0.00019890988455544567, 0.0013933647862928863, 0.008333310927615311, 0.041666464944505696, 0.16666666681621095,
    0.5000000013463886,
)  # fmt: skip
"""As `exponential.Format.exp`."""
THIRDS = (0.6666666666666666, 3.700743415417188e-17)
INVERSE_CBRT = (0.12473026410836184, -0.6868716763945578, 1.5369546231175093, -1.8451749844556589, 1.8703334336264674)
"""``x**(-1/3)`` between sqrt(1/2) and sqrt(2), to 14 bits."""


def product(x: Value, y: Value | float) -> tuple[Value, Value]:
    out = x * y
    return out, fma(x, y, -out)


def long_log(x: Value) -> tuple[Value, Value]:
    """``log(x)`` of a positive finite double as a sum of two doubles, good to some 65 bits.

    The series of `logarithm`, ``2 * s + s**3 * (2/3 + s**2 * ...)``, its first two terms in twice the precision.
    """
    m, k = logarithm.split_any(x)
    f, whole = m - 1, m + 1
    lost = m - (whole - 1)
    s = f / whole
    less = (fma(-s, whole, f) - s * lost) / whole
    z, z_less = product(s, s)
    z_less = madd(2 * s, less, z_less)
    tail = z * polynomial(z, LOG_REST)
    c = THIRDS[0] + tail
    c_less = ((THIRDS[0] - c) + tail) + THIRDS[1]
    cz, cz_less = product(z, c)
    cz_less = cz_less + madd(z, c_less, z_less * c)
    t, t_less = product(s, cz)
    t_less = t_less + madd(s, cz_less, less * cz)
    ln2 = logarithm.DOUBLE.ln2
    out, more = two_sum(2 * s, t)
    out, more2 = two_sum(k * ln2[0], out)
    more = more2 + (more + madd(k, ln2[1], 2 * less + t_less))
    whole = out + more
    return whole, more - (whole - out)


def exp_of_sum(x: Value, rest: Value) -> Value:
    """``exp(x + rest)`` of a small rest, hardly more than half a unit in the last place off."""
    its = exponential.DOUBLE
    x = exponential.bounded(x, its.far)
    magic = its.magic + 2 * its.bias
    rounded = madd(x, exponential.LOG2E, magic)
    n = rounded - magic
    most, less = madd(n, -its.ln2[0], x), n * its.ln2[1]
    r = most - less
    grown = 1 + r
    square = r * r
    more = square * polynomial(r, EXP_REST, square)
    rest = madd(rest + ((most - r) - less), grown + more, r - (grown - 1))
    first, last = exponential.halves(bits(rounded), its)
    return (grown + (more + rest)) * first * last


def plain_pow(x, y):
    return x**y


def log_or_end(a: Value, log: Value) -> Value:
    return select(a > 0.0, select(a < np.inf, log, a), select(a.equals(0.0), a.of(-np.inf), np.nan))


def power_double(a: Value, y: Value) -> Value:
    """``a**y`` of doubles, ``a >= 0``, with log(a) in twice the precision."""
    log, log_rest = long_log(a)
    log = log_or_end(a, log)
    whole = y * log
    rest = madd(y, log_rest, fma(y, log, -whole))
    return exp_of_sum(whole, select(fabs(whole) < 1e3, rest, 0.0))


def power_single(a: Value, y: Value) -> Value:
    """``a**y`` of float32 ``a >= 0``, in double precision with polynomials for some 33 bits."""
    wide = double(a)
    m, k = logarithm.split(wide)[:2]
    ln2 = logarithm.DOUBLE.ln2[0] + logarithm.DOUBLE.ln2[1]
    log = madd(k, ln2, logarithm.series(m - 1, 0.0, SHORT_LOG))
    whole = exponential.bounded(double(y) * log_or_end(wide, log), 200.0)
    p, n = exponential.reduce(whole, exponential.DOUBLE.bias, SHORT_EXP)
    scale = real(n << exponential.DOUBLE.mantissa)
    return narrow(madd(p, scale, scale), a)


@traced(plain_pow, operands=2)
def pow(x: Value, y: Value) -> Value:  # noqa: A001
    """``x**y`` of floats, with C's special values."""
    a = fabs(x)
    out = power_double(a, y) if x.double else power_single(a, y)
    # Where y is an integer, and odd, a negative x keeps its sign; where y is none, there is no power.
    half = 0.5 * y
    odd = select(half.call("floor").equals(half), x.of(1.0), x)
    integer = y.call("floor").equals(y) | fabs(y).equals(np.inf) | a.equals(np.inf) | a.equals(0.0)
    odd = select(y.call("floor").equals(y), odd, 1.0)
    out = select((x < 0.0) & (integer ^ 1), np.nan, copysign(out, odd))
    one = y.equals(0.0) | x.equals(1.0) | (a.equals(1.0) & fabs(y).equals(np.inf))
    return select(one, 1.0, out)


@traced(np.cbrt)
def cbrt(x: Value) -> Value:
    """In double precision: ``y ~ m**(-1/3)`` from a polynomial, one step of Halley's for it, Newton's for ``m*y*y``."""
    its = logarithm.DOUBLE
    a = fabs(double(x))
    m, k = logarithm.split_any(a)
    magic = exponential.DOUBLE.magic + exponential.DOUBLE.bias
    rounded = madd(k, 1 / 3, magic)
    third = rounded - magic
    left = madd(third, -3.0, k)
    m_left = m * select(left < 0.0, m.of(0.5), select(left > 0.0, m.of(2.0), 1.0))
    turn = select(left < 0.0, m.of(2 ** (1 / 3)), select(left > 0.0, m.of(2 ** (-1 / 3)), 1.0))
    y = polynomial(m, INVERSE_CBRT) * turn
    off = madd(-(m_left * y), y * y, 1.0)
    y = madd(y * off, madd(off, 2 / 9, 1 / 3), y)
    root = m_left * y * y
    square, lost = product(root, root)
    off = fma(-root, square, m_left) - root * lost
    root = madd(off * (1 / 3), y * y, root)
    out = root * real(bits(rounded) << its.mantissa)
    return copysign(narrow(select(a > 0.0, select(a < np.inf, out, a), a), x), x)


@traced(np.hypot, operands=2)
def hypot(x: Value, y: Value) -> Value:
    """``sqrt(x**2 + y**2)``, its squares kept within the range of exponents; inf of any infinity, beside nan too."""
    like, x, y = x, fabs(double(x)), fabs(double(y))
    infinite = x.equals(np.inf) | y.equals(np.inf)
    if like.double:
        most = select(x > y, x, y)
        huge, tiny = most > 2.0**500, most < 2.0**-400
        scale = select(huge, x.of(2.0**-600), select(tiny, x.of(2.0**600), 1.0))
        back = select(huge, x.of(2.0**600), select(tiny, x.of(2.0**-600), 1.0))
        x, y = x * scale, y * scale
        out = sqrt(madd(x, x, y * y)) * back
    else:
        out = sqrt(madd(x, x, y * y))
    return narrow(select(infinite, np.inf, out), like)
