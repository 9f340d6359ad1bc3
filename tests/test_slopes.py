"""Derivatives of elementwise functions where squares overflow or differences cancel, against mpmath."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath as mp
import numpy as np
import pytest

import staticad as ad

mp.mp.dps = 700  # so that 1 + x**2 has all its digits

TINY = {"float64": (5e-324, 2.3e-308, 1e-160, 1e-20, 1e-8), "float32": (1e-45, 1.2e-38, 1e-20, 1e-8)}
LARGE = {
    "float64": (1e7, 2.0**27, 1.5e8, 1e19, 1e100, 1e153, 1e154, 1e155, 1e160, 1e300, np.finfo("f8").max),
    "float32": (4e3, 1e7, 2.0**27, 1.5e8, 1e12, 1e15, 1.8e19, 1.9e19, 1e30, np.finfo("f4").max),
}
MIDDLE = (1e-3, 0.1, 0.5, 0.7, 0.9, 0.999, 0.9999823, 0.999999992947156)
ABOVE = (1.0000001, 1.0000019601420798, 1.001, 1.5, 3.7, 40.0, 1000.0)

Slope = Callable[[Any], Any]
# fmt: off
#: The first and the second derivative, which of the points above it is for, and whether it is for their negatives too.
SLOPES: dict[str, tuple[Slope, Slope, str, bool]] = {
    "asin":  (lambda x: 1 / mp.sqrt(1 - x * x),  lambda x: x / mp.sqrt(1 - x * x) ** 3,   "tm",  True),
    "acos":  (lambda x: -1 / mp.sqrt(1 - x * x), lambda x: -x / mp.sqrt(1 - x * x) ** 3,  "tm",  True),
    "atanh": (lambda x: 1 / (1 - x * x),         lambda x: 2 * x / (1 - x * x) ** 2,      "tm",  True),
    "asinh": (lambda x: 1 / mp.sqrt(1 + x * x),  lambda x: -x / mp.sqrt(1 + x * x) ** 3,  "tmal", True),
    "acosh": (lambda x: 1 / mp.sqrt(x * x - 1),  lambda x: -x / mp.sqrt(x * x - 1) ** 3,  "al",  False),
    "log10": (lambda x: 1 / (x * mp.log(10)),    lambda x: -1 / (x * x * mp.log(10)),     "tmal", False),
    "log2":  (lambda x: 1 / (x * mp.log(2)),     lambda x: -1 / (x * x * mp.log(2)),      "tmal", False),
}
# fmt: on


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SLOPES)
def test_slopes_to_the_ends(name: str, dtype: str) -> None:
    first, second, where, both = SLOPES[name]
    points = [x for key, group in zip("tmal", (TINY[dtype], MIDDLE, ABOVE, LARGE[dtype]), strict=True)
              if key in where for x in group]  # fmt: skip
    xs = np.unique(np.array([*points, *(-x for x in points if both)], dtype))
    xs = xs[abs(xs) != 1]  # to what a number near it is rounded in float32
    x = ad.input("x", ("n",), dtype)
    y = getattr(ad, name)(x)
    g = ad.grad(ad.sum(y), x)
    t = ad.ones_like(x)
    found = [g, ad.jvp(y, x, t), ad.grad(ad.sum(g), x), ad.jvp(g, x, t)]
    for values in (ad.compile([x], found)(xs), ad.evaluate(found, {x: xs})):
        for slope, value in zip((first, first, second, second), values, strict=True):
            with np.errstate(over="ignore"):
                close(xs, value, [slope(mp.mpf(float(x))) for x in xs], dtype)


def close(xs: Any, values: Any, exact: list[Any], dtype: str) -> None:
    """To 1e-14, or 1e-6 in float32; below normal numbers to a few steps, above them infinite."""
    limits = np.finfo(dtype)
    rtol = 1e-14 if dtype == "float64" else 1e-6
    for x, value, e in zip(xs, values, exact, strict=True):
        if abs(e) > float(limits.max):
            assert np.isinf(value) and np.sign(value) == mp.sign(e), (x, value)
        else:
            assert abs(mp.mpf(float(value)) - e) <= rtol * abs(e) + 4 * float(limits.smallest_subnormal), (x, value, e)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_hypot_has_no_slope_at_the_origin(dtype: str) -> None:
    """Zero, as that of ``abs`` is, of which hypot(x, 0) is the value; second derivatives are finite, as JAX's are."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    x, y = ad.input("x", (), dtype), ad.input("y", (), dtype)
    h = ad.hypot(x, y)
    gs = ad.grad(h, [x, y])
    one = ad.ones((), dtype=dtype)
    rows = [ad.grad(g, [x, y]) for g in gs]
    f = ad.compile([x, y], [*gs, ad.jvp(h, [x, y], [one, one]), *rows[0], *rows[1]])
    for a in (0.0, -0.0):
        np.testing.assert_array_equal(f(np.array(a, dtype), np.array(0.0, dtype)), np.zeros(7))
        assert np.isfinite(jax.hessian(jax.numpy.hypot, (0, 1))(a, 0.0)[0][0])
    for u, v in [(3.0, 4.0), (0.0, 2.0), (-1e-3, 1e-4), (1e18, 3e18)]:
        r = np.hypot(u, v)
        a, b = u / r, v / r
        found = np.array(f(np.array(u, dtype), np.array(v, dtype)), float) * [1, 1, 1, r, r, r, r]
        atol = 1e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(found, [a, b, a + b, b * b, -a * b, -a * b, a * a], rtol=0, atol=atol)
