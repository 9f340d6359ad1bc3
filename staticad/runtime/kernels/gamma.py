"""digamma; knows the arithmetic of `traced`, the logarithm and the waves.

On [1, 2] it is ``(x - root)`` times a polynomial; one step of ``digamma(x + 1) = digamma(x) + 1 / x`` (Abramowitz and
Stegun 6.3.5) leads there from (0, 1) and (2, 3). From 3 on it is ``log(y) + p(1 / y**2) / y**2``, ``y = x - 1/2``, and
below 0 the reflection 6.3.7 serves. All of it in double precision. Polynomials: `benchmarks.accuracy.fit`.
"""

# pyright: basic, reportReturnType=false

from __future__ import annotations

import numpy as np

from staticad.runtime.kernels import logarithm
from staticad.runtime.kernels.traced import (
    Value,
    double,
    fabs,
    fma,
    madd,
    narrow,
    polynomial,
    select,
    traced,
)
from staticad.runtime.kernels.trigonometric import waves

PI = (3.141592653589793, 1.2246467991473532e-16)
ROOT = (1.4616321449683623, 9.549995429965697e-17)
NEAR = (
    -0.00017312261802727394, 0.00025968482126430747, -0.00015148586836773365, 0.0002272331660987376,
    -0.0004821990530566789, 0.0007233266279287554, -0.0010376374098418604, 0.0015566317474486838,
    -0.002345267632540769, 0.003519006401502276, -0.005279964873257405, 0.007926944646403797,
    -0.011908218001568644, 0.0179072524394512, -0.02697579675613825, 0.04076083381242074,
    -0.061922133273064534, 0.09498872445494122, -0.14840492305390884, 0.2405424842407742, -0.4236274212814605,
    0.951055876031833,
)  # fmt: skip
"""``digamma(x) / (x - ROOT)`` of ``x - 3/2``."""
FAR = (
    27.906668143351254, -33.06524717865614, 18.241384180378965, -6.362603828803368, 1.642320777729988,
    -0.3611564819617062, 0.07967157799267637, -0.02096598270522335, 0.007558467251088001, -0.00413408182886224,
    0.003844245803052445, -0.007291666666027339, 0.041666666666666366,
)  # fmt: skip
"""``(digamma(y + 1/2) - log(y)) * y**2`` of ``1 / y**2``."""


def plain_digamma(x):
    from scipy.special import psi  # only for programs that are not compiled

    return type(x)(psi(x))


def positive(x: Value) -> Value:
    """``digamma(x)`` for ``x > 0``."""
    far, low, high = x >= 3.0, x < 1.0, x >= 2.0
    inside = select(far, 1.5, select(low, x + 1, select(high, x - 1, x)))
    # Of x + 1 rounding may take something, which the distance from the root must not lose.
    lost = select(low, x - (inside - 1), x.of(0.0))
    near = ((inside - ROOT[0]) + (lost - ROOT[1])) * polynomial(inside - 1.5, NEAR)
    y = select(far, x - 0.5, 2.5)
    inverse = 1 / select(far, y, select(low, x, select(high, inside, 1.0)))
    step = select(low, -inverse, select(high, inverse, 0.0))
    u = inverse * inverse
    m, k = logarithm.split_any(y)
    ln2 = logarithm.DOUBLE.ln2
    log = madd(k, ln2[0], logarithm.series(m - 1, madd(u, polynomial(u, FAR), k * ln2[1])))
    return select(far, log, near + step)


@traced(plain_digamma)
def digamma(x: Value) -> Value:
    """The derivative of `lgamma`; -inf at 0, inf at -0, nan at the other poles, as SciPy has it."""
    like, x = x, double(x)
    mirrored = x < 0.0
    out = positive(select(fabs(x) < np.inf, select(mirrored, 1 - x, x), 1.0))
    # pi / tan(pi * x), its period taken off exactly, then its quarters.
    t = x - x.call("rint")
    quarter = fabs(t) > 0.25
    d = select(quarter, select(t > 0.0, t - 0.5, t + 0.5), t)
    r = d * PI[0]
    sine, cosine = waves(r, madd(d, PI[1], fma(d, PI[0], -r)))
    out = out - select(mirrored, PI[0] * select(quarter, -sine, cosine) / select(quarter, cosine, sine), 0.0)
    pole = select(mirrored & t.equals(0.0), x.of(np.nan), select(x.equals(0.0), -1 / x, out))
    return narrow(select(fabs(x) < np.inf, pole, select(x > 0.0, x, np.nan)), like)
