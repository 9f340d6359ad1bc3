"""erf and erfc; knows the arithmetic of `traced` and the exponential.

Near 0 ``erf(x) / x`` is a polynomial of x**2; further on it is ``1 - exp(-P(x))``, which takes no division but soon has
no digits of erfc, which is ``exp(-x**2) * R(t) / (1 + 2x)``, R a polynomial of ``t = (x - 3) / (x + 3)`` (Shepherd and
Laframboise, Math. Comp. 36, 1981). Polynomials: `benchmarks.accuracy.fit`.
"""

# pyright: basic, reportReturnType=false

from __future__ import annotations

from typing import Any, NamedTuple

from staticad.runtime.kernels import exponential
from staticad.runtime.kernels.exponential import decay, reduce
from staticad.runtime.kernels.traced import (
    Value,
    copysign,
    fabs,
    fma,
    madd,
    polynomial,
    real,
    select,
    traced,
)


class Format(NamedTuple):
    """What depends on the dtype."""

    most: float  # erfc is 0 from here on
    whole: float  # erf is 1 from here on
    erf: tuple[float, ...]  # erf(x) / x - 1 of x**2, up to 1
    tail: tuple[float, ...]  # -log(erfc(x)) of x - 1, from 1 to `whole`, fitted with a crowd of 2 (2.5 in float32)
    erfc: tuple[float, ...]  # exp(x**2) * erfc(x) * (1 + 2x) of t, from 0.5 to `most`


DOUBLE = Format(
    most=28.0,
    whole=6.0,
    erf=(
        -7.795898827002142e-10, 1.3720064546777686e-08, -1.6208483801871705e-07, 1.6447424703317362e-06,
        -1.492473690741966e-05, 0.00012055294904839707, -0.0008548325975389692, 0.0052239776071164225,
        -0.02686617064323777, 0.11283791670945006, -0.37612638903183543, 0.12837916709551256,
    ),
    tail=(
        1.1408413393022915e-15, -5.350096750028061e-14, 1.171060997505247e-12, -1.592088359949221e-11,
        1.5085217854399815e-10, -1.0578601398271016e-09, 5.666231760950514e-09, -2.3329554449852165e-08,
        7.106427383765886e-08, -1.3022426157822287e-07, -1.0006546258405954e-07, 2.0170524571594226e-06,
        -9.576644791172855e-06, 2.7140906799046013e-05, -2.6270335690610415e-05, -0.00023732471162033744,
        0.001977903021320415, -0.010033825434302425, 0.04156109804652411, 0.8431072563584854, 2.6389675142347913,
        1.8496055099332482,
    ),
    erfc=(
        -1.5273968877925316e-08, 2.2828166705833453e-08, 1.114014065535667e-07, -1.2144409932507716e-07,
        -6.294713399155682e-07, 3.445519718959911e-07, 3.48139283289368e-06, -7.268938728606072e-07,
        -2.0104333659576072e-05, 4.948392419223198e-06, 0.00012510034130479658, -0.000105159638394409,
        -0.0007798324345840516, 0.0018886903446999287, 0.0025293918321399964, -0.023770514917886655,
        0.06830802734310082, -0.11927366341533026, 0.1296451587027827, -0.04756229435345048, -0.13562110612458134,
        1.2530080582697296,
    ),
)  # fmt: skip
SINGLE = Format(
    most=10.5,
    whole=4.0,
    erf=(
        7.875875062685488e-05, -0.000801686428716587, 0.005189087423433974, -0.026854212010626412,
        0.11283594715160218, -0.37612626666720334, 0.12837916584835093,
    ),
    tail=(
        1.9167912153432737e-05, -0.0002766906615426884, 0.0019898496312698247, -0.010031377132720063,
        0.04155974369228873, 0.843107342735283, 2.638967513749743, 1.8496055099332613,
    ),
    erfc=(
        -0.0005449524876759817, 0.0018223489240345617, 0.002400878095826248, -0.023755261028733616,
        0.06833600754842946, -0.11927529563521154, 0.1296427750524512, -0.04756221525797708, -0.1356210503418582,
        1.2530080574731912,
    ),
)  # fmt: skip


def form(x: Value) -> Format:
    return DOUBLE if x.double else SINGLE


def near(x: Value) -> Value:
    """``erf(x)`` up to 1."""
    return madd(x, polynomial(x * x, form(x).erf), x)


def tail(a: Value) -> tuple[Value, Value, Value, Value, Value]:
    """``exp(-a**2)`` and what its rounding lost; ``R`` and what its rounding lost; ``1 + 2a``. For ``a >= 0.5``."""
    its = form(a)
    square = a * a
    e, lost = decay(square)
    lost = lost - e * fma(a, a, -square)
    t = (a - 3) / (a + 3)
    most = t * polynomial(t, its.erfc[:-1])
    r = its.erfc[-1] + most
    return e, lost, r, most - (r - its.erfc[-1]), madd(a, 2.0, 1.0)


def plain(name: str) -> Any:
    def function(x):
        from scipy.special import erf, erfc  # only for programs that are not compiled

        return (erf if name == "erf" else erfc)(x)

    function.__name__ = name
    return function


@traced(plain("erf"))
def erf(x: Value) -> Value:
    its, a = form(x), fabs(x)
    p, n = reduce(-polynomial(select(a > its.whole, its.whole, a) - 1, its.tail), exponential.form(x).bias)
    scale = real(n << exponential.form(x).mantissa)
    return select(a < 1.0, near(x), copysign(1 - madd(p, scale, scale), x))


@traced(plain("erfc"))
def erfc(x: Value) -> Value:
    its, a = form(x), fabs(x)
    far = select(a > its.most, its.most, a)
    e, e_lost, r, r_lost, whole = tail(far)
    inverse = 1 / whole
    q = r * inverse
    # The quotient and the product to first order beyond their rounding: five roundings would make 3 ulp.
    q_lost = (fma(-q, whole, r) + (r_lost - q * (2 * far - (whole - 1)))) * inverse
    out = madd(e, q, madd(e, q_lost, e_lost * q))
    return select(a < 0.5, 1 - near(x), select(x < 0.0, 2 - out, out))
