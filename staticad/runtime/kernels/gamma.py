"""lgamma and its first two derivatives; knows the arithmetic of `traced`, the logarithm and the waves.

All of it in double precision. Each function is a polynomial on an interval of length 1; one or two steps of its
recurrence (Abramowitz and Stegun 6.1.15, 6.3.5, 6.4.6) lead there from (0, 3). Further on it is an asymptotic form
(6.1.41, 6.3.18, 6.4.12) whose tail is a polynomial too, and below 0 the reflection (6.1.17, 6.3.7, 6.4.7) serves: near
a negative root it takes almost equal numbers from each other, which are good to 2 units in their own last place.
Polynomials: `benchmarks.accuracy.fit`.
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


LGAMMA_NEAR = (
    7.558472696788447e-08, 5.025731736555141e-08, 6.2426286817793866e-09, -1.9264000508094273e-07,
    2.0758927598859588e-07, -4.018330416059452e-07, 9.670254916827003e-07, -2.052482416724873e-06,
    4.370089307840295e-06, -9.43727020655551e-06, 2.0508175353649692e-05, -4.4926464931326535e-05,
    9.945740198894934e-05, -0.00022315474408602818, 0.0005096695320648715, -0.0011927539122376619,
    0.002890510330482064, -0.007385551028663193, 0.020580808427788703, -0.06735230105319819, 0.3224670334241132,
    0.42278433509846713,
)  # fmt: skip
"""``lgamma(2 + t) / t`` for t between -3/4 and 1/2."""
LGAMMA_FAR = (
    1.657912005751685, -1.9839538024688073, 1.111319509039967, -0.39730194349184045, 0.10689473494300376,
    -0.02521194721572235, 0.006214168736593784, -0.0019112061223291459, 0.0008416146467307791,
    -0.0005952362987491868, 0.0007936507810740403, -0.00277777777774257, 0.08333333333333331,
)  # fmt: skip
"""``(lgamma(x) - (x - 1/2) * (log(x) - 1) - HALF_LOG) * x`` of ``1 / x**2``, from 5/2 on."""
HALF_LOG = 0.4189385332046727
"""``(log(2 * pi) - 1) / 2``."""
TRIGAMMA_NEAR = (
    -1.3567477895832047e-05, 2.582341726561106e-05, -3.206599762481864e-05, 6.053288443233376e-05,
    -0.0001228876081377562, 0.00023055746751652744, -0.0004281099703345975, 0.0007959861621577748,
    -0.0014725741194905589, 0.0027069787513159206, -0.004941885099890781, 0.008951174350854995,
    -0.016067142645048507, 0.02854149345518065, -0.050095664290823884, 0.08671530992088246, -0.14771102057348512,
    0.24696970113342492, -0.4041138063191886, 0.6449340668482264,
)  # fmt: skip
"""``trigamma(2 + t)`` for t between -1/2 and 1/2."""
TRIGAMMA_FAR = (
    -80646.9670329943, 111482.94246678517, -71400.12427205002, 28298.388122957324, -7859.144172716167,
    1656.8910906468861, -285.146502708898, 43.69028675169111, -6.6723940393185295, 1.1547651646865107,
    -0.25286988123184645, 0.07575419678803824, -0.03333330432479977, 0.0238095236762466, -0.03333333333308727,
    0.1666666666666666,
)  # fmt: skip
"""``(trigamma(x) - 1 / x - 1 / (2 * x**2)) * x**3`` of ``1 / x**2``, from 5/2 on."""
SINE = (
    2.459180384815939e-07, -6.972960555564221e-06, 0.00014842817816693618, -0.0023460809634923995,
    0.026147847813078808, -0.19075182412194128, 0.8117424252833519, -1.6449340668482264,
)  # fmt: skip
"""``(sin(pi * d) / (pi * d) - 1) / d**2`` of ``d**2``, up to 1/2."""


def plain_digamma(x):
    from scipy.special import psi  # only for programs that are not compiled

    return type(x)(psi(x))


def positive(x: Value, rest: Value) -> Value:
    """``digamma(x + rest)`` for ``x > 0`` and a rest that it would lose."""
    far, low, high = x >= 3.0, x < 1.0, x >= 2.0
    inside = select(far, 1.5, select(low, x + 1, select(high, x - 1, x)))
    # Of x + 1 rounding may take something, which the distance from the root must not lose.
    lost = select(low, x - (inside - 1), rest)
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
    other = 1 - x
    lost = select(mirrored, (1 - other) - x, 0.0)
    out = positive(select(fabs(x) < np.inf, select(mirrored, other, x), 1.0), lost)
    # pi / tan(pi * x), its period taken off exactly, then its quarters.
    t = x - x.call("rint")
    quarter = fabs(t) > 0.25
    d = select(quarter, select(t > 0.0, t - 0.5, t + 0.5), t)
    r = d * PI[0]
    sine, cosine = waves(r, madd(d, PI[1], fma(d, PI[0], -r)))
    out = out - select(mirrored, PI[0] * select(quarter, -sine, cosine) / select(quarter, cosine, sine), 0.0)
    pole = select(mirrored & t.equals(0.0), x.of(np.nan), select(x.equals(0.0), -1 / x, out))
    return narrow(select(fabs(x) < np.inf, pole, select(x > 0.0, x, np.nan)), like)


def plain_lgamma(x):
    from scipy.special import gammaln

    return np.fabs(x) if np.isinf(x) else type(x)(gammaln(x))


def steps(y: Value, middle: float) -> tuple[Value, Value, Value, Value]:
    """How far from 2 the recurrence leads a positive ``y``, exactly; and where no, one or two steps do so.

    None do from 5/2 on, none are needed from ``middle`` on, two are below ``middle - 1``.
    """
    far, low, lowest = y >= 2.5, y < middle, y < middle - 1
    return far, low, lowest, select(far, 0.0, y - select(lowest, y.of(0.0), select(low, y.of(1.0), 2.0)))


def positive_lgamma(y: Value) -> Value:
    """``lgamma(y)`` for ``0 < y < inf``."""
    far, low, lowest, t = steps(y, 1.25)  # with one step from 3/2 the difference of the logarithms would be small
    # Of far ones log(y) - 1 is wanted, of low ones log(y) or log(y * (y + 1)), of others nothing.
    m, k = logarithm.split_any(select(far, y, select(low, select(lowest, y * (y + 1), y), 1.0)))
    ln2 = logarithm.DOUBLE.ln2
    log = madd(k, ln2[0], select(far, y.of(-1.0), 0.0)) + logarithm.series(m - 1, k * ln2[1])
    inverse = 1 / select(far, y, 1.0)
    tail = madd(inverse, polynomial(inverse * inverse, LGAMMA_FAR), HALF_LOG)
    return select(far, madd(y - 0.5, log, tail), madd(t, polynomial(t, LGAMMA_NEAR), -log))


def sine_over_pi(x: Value) -> Value:
    """``abs(sin(pi * x)) / pi``."""
    d = fabs(x - x.call("rint"))
    z = d * d
    return madd(d * z, polynomial(z, SINE), d)


@traced(plain_lgamma)
def lgamma(x: Value) -> Value:
    """``log(abs(gamma(x)))``; inf at the poles and at both infinities."""
    like, x = x, double(x)
    a, negative = fabs(x), x < 0.0
    finite = a < np.inf
    a = select(finite, a, 1.0)
    sine = sine_over_pi(a)
    # lgamma(x) + lgamma(1 - x) = log(pi / sin(pi * x)); where 1 - x would round, lgamma(-x) + log(-x) takes its place.
    beside = a < 0.5
    y = select(negative & beside, 1 + a, a)
    s = select(sine.equals(0.0), 1.0, select(beside, sine, sine * a))
    m, k = logarithm.split_any(s)
    ln2 = logarithm.DOUBLE.ln2
    mirror = madd(k, ln2[0], logarithm.series(m - 1, k * ln2[1]))
    out = positive_lgamma(select(y.equals(0.0), 1.0, y))
    out = select(negative, -(mirror + out), out)
    pole = x.equals(0.0) | (negative & sine.equals(0.0))
    return narrow(select(finite, select(pole, np.inf, out), fabs(x)), like)


def plain_trigamma(x):
    from scipy.special import polygamma

    return type(x)(polygamma(1, x))


def positive_trigamma(y: Value) -> Value:
    """``trigamma(y)`` for ``0 < y < inf``."""
    far, low, lowest, t = steps(y, 1.5)
    more = y + 1
    whole = y * more
    inverse = 1 / select(far, y, select(low, select(lowest, whole, y), 1.0))
    u = inverse * inverse
    tail = inverse * madd(u, polynomial(u, TRIGAMMA_FAR), madd(inverse, 0.5, 1.0))
    # 1 / y**2, or that and 1 / (y + 1)**2 with one division, whose rounding and that of `whole` are put back.
    off = fma(-whole, inverse, 1.0) - fma(y, more, -whole) * inverse
    two = inverse * madd(y, y, more * more)
    step = inverse * select(lowest, madd(two, 2 * off, two), select(low, inverse, 0.0))
    return select(far, tail, polynomial(t, TRIGAMMA_NEAR) + step)


@traced(plain_trigamma)
def trigamma(x: Value) -> Value:
    """The derivative of `digamma`; inf at the poles and at -inf, 0 at inf."""
    like, x = x, double(x)
    a, negative = fabs(x), x < 0.0
    finite = a < np.inf
    a = select(finite, select(a < 1e-160, 1e-160, a), 1.0)  # whose square is as good as 0
    inverse = 1 / sine_over_pi(a)
    out = positive_trigamma(select(negative, 1 + a, a))
    out = select(negative, madd(inverse, inverse, -out), out)
    return narrow(select(finite, out, select(x > 0.0, 0.0, fabs(x))), like)
