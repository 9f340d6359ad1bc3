"""The scalar functions that generated code calls as ``m.name(...)``; knows Numba, and nothing of graphs.

Each takes and gives scalars of one dtype and means what NumPy's (or SciPy's) function of that name means; integers
narrower than 64 bits may come back widened. The elementary and special functions are branch-free and live in modules
of their own; `polygamma` is a loop. With ``NUMBA_DISABLE_JIT=1`` those are NumPy's and SciPy's, and the bodies here run
as plain Python on NumPy's scalars. ``type(x)(1)`` is a one of the dtype of ``x``.
"""

# pyright: basic, reportAttributeAccessIssue=false

from __future__ import annotations

import math

import numpy as np
from numba import njit

from staticad.runtime.kernels.angles import acos, asin, atan, atan2  # noqa: F401
from staticad.runtime.kernels.error import erf, erfc  # noqa: F401
from staticad.runtime.kernels.exact import floor_divide_real, nextafter, remainder_real  # noqa: F401
from staticad.runtime.kernels.exponential import cosh, exp, exp2, expm1, sigmoid, sinh, tanh  # noqa: F401
from staticad.runtime.kernels.gamma import digamma, lgamma, trigamma  # noqa: F401
from staticad.runtime.kernels.logarithm import (  # noqa: F401
    acosh,
    asinh,
    atanh,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    softplus,
)
from staticad.runtime.kernels.native import Whole
from staticad.runtime.kernels.powers import cbrt, hypot, pow  # noqa: A004, F401
from staticad.runtime.kernels.trigonometric import cos, sin, tan  # noqa: F401

kernel = njit(error_model="numpy", fastmath={"contract"}, pipeline_class=Whole)

# fmt: off
fabs, signbit, copysign                  = np.fabs, np.signbit, np.copysign
isinf, isfinite, maximum, minimum        = np.isinf, np.isfinite, np.maximum, np.minimum
floor, ceil, trunc, round                = np.floor, np.ceil, np.trunc, np.rint  # noqa: A001
sqrt                                     = np.sqrt
# fmt: on


@kernel
def sign(x):
    """-1, 0 or 1; nan of nan."""
    steps = type(x)(x > 0) - type(x)(x < 0)
    return steps if x == x else x


@kernel
def floor_divide(x, y):
    """``x // y`` of integers; 0 where ``y`` is 0, and no trap for the least integer over -1."""
    if y == 0:
        return type(x)(0)
    return -x if y == -1 else x // y


@kernel
def remainder(x, y):
    """``x % y`` of integers, with the sign of ``y``; 0 where that is 0 or -1."""
    return type(x)(0) if y == 0 or y == -1 else x % y


@kernel
def left_shift(x, y):
    """``x << y``; 0 where ``y`` is not within the width, which the machine leaves undefined."""
    return x << y if 0 <= y < 64 else type(x)(0)


@kernel
def right_shift(x, y):
    """``x >> y``; the sign alone where ``y`` is not within the width."""
    if 0 <= y < 64:
        return x >> y
    return type(x)(-1) if x < 0 else type(x)(0)


@kernel
def integer_pow(x, y):
    """``x**y`` modulo the width, by squaring. Raises ``ValueError`` for negative ``y``, as NumPy does."""
    if y < 0:
        raise ValueError("pow: integers to negative integer powers are not allowed; convert to a floating dtype")
    out = type(x)(1)
    while y > 0:
        if y & 1:
            out = type(x)(out * x)
        x = type(x)(x * x)
        y = y >> 1
    return out


integer_pow.raises = True  # which who calls it must look at


# Bernoulli numbers B(2j) over (2j)!, j = 1 to 13: Abramowitz & Stegun 6.4.11, the tail of the Hurwitz zeta function.
ZETA_SERIES = (
    0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07, 2.08767569878681e-08,
    -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13, 8.586062056277845e-15,
    -2.174868698558062e-16, 5.5090028283602295e-18, -1.3954464685812522e-19, 3.534707039629467e-21,
)  # fmt: skip


@kernel
def _factorial_over_power(n, x):
    """``n! / x**(n + 1)``, without overflow on the way."""
    out = 1.0 / x
    for j in range(1, n + 1):
        out *= j / x
    return out


@kernel
def _zeta(n, x):
    """``n! * zeta(n + 1, x)`` for ``x > 0``: the first terms of the sum, the rest by Euler and Maclaurin."""
    out = 0.0
    while x < n + 10:
        out += _factorial_over_power(n, x)
        x += 1.0
    tail = x / n + 0.5
    rising = (n + 1) / x
    for j in range(len(ZETA_SERIES)):
        tail += ZETA_SERIES[j] * rising
        rising *= (n + 2 * j + 2) / x * ((n + 2 * j + 3) / x)
    return out + _factorial_over_power(n, x) * tail


@kernel
def _polygamma(n, x):
    if math.isinf(x) and x > 0:
        out = 0.0
    elif x > 0 or x != x:
        out = _zeta(n, x)
    elif x == np.floor(x):
        out = math.inf
    else:
        # The sum over all integers has period 1; what it has too much, the terms before x, is a zeta of 1 - x.
        d = x - np.rint(x)
        mirrored = _zeta(n, 1.0 - d) - _zeta(n, 1.0 - x)
        out = _factorial_over_power(n, d) + _zeta(n, 1.0 + d) + (mirrored if n % 2 else -mirrored)
    return out if n % 2 else -out


@kernel
def polygamma(n, x):
    """The ``n``-th derivative of `digamma`, ``n >= 1``: ``(-1)**(n + 1) * n! * zeta(n + 1, x)``."""
    return type(x)(_polygamma(n, np.float64(x)))
