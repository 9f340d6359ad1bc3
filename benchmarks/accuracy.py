"""How accurate and how fast the scalar kernels are, against mpmath and against what Numba has of its own.

``python -m benchmarks.accuracy`` writes ``benchmarks/accuracy.md``. `fit` made the polynomials of the kernels.
"""

# Numba and mpmath have no types.
# pyright: basic

from __future__ import annotations

import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
from mpmath import mpf
from numba import njit

from staticad.runtime.kernels import math as m
from staticad.runtime.kernels.native import compiled

SEED = 0
COUNT = 1000
PEAK = {"float32": 88.0, "float64": 709.0}  # log of the largest number


def sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def softplus(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(x)) if x < 0 else x + mpmath.log1p(mpmath.exp(-x))


def cbrt(x: Any) -> Any:
    return mpmath.sign(x) * mpmath.cbrt(abs(x))


def erfc(x: Any) -> Any:
    return mpmath.erfc(x) if abs(x) < 100 else 1 - mpmath.sign(x)


def lgamma(x: Any) -> Any:
    return mpmath.log(abs(mpmath.gamma(x))) if x < 1e3 else mpmath.loggamma(x)


# name: exact function, range of the arguments, Numba's own
# fmt: off
ONE: dict[str, tuple[Callable[[Any], Any], tuple[float, float], Any]] = {
    "exp":      (mpmath.exp,                    (-np.inf, np.inf), np.exp),
    "exp2":     (lambda x: mpf(2) ** x,         (-np.inf, np.inf), math.exp2),
    "expm1":    (mpmath.expm1,                  (-np.inf, np.inf), np.expm1),
    "log":      (mpmath.log,                    (0, np.inf),       np.log),
    "log2":     (lambda x: mpmath.log(x, 2),    (0, np.inf),       math.log2),
    "log10":    (mpmath.log10,                  (0, np.inf),       np.log10),
    "log1p":    (mpmath.log1p,                  (-1, np.inf),      np.log1p),
    "sin":      (mpmath.sin,                    (-np.inf, np.inf), np.sin),
    "cos":      (mpmath.cos,                    (-np.inf, np.inf), np.cos),
    "tan":      (mpmath.tan,                    (-np.inf, np.inf), np.tan),
    "asin":     (mpmath.asin,                   (-1, 1),           np.arcsin),
    "acos":     (mpmath.acos,                   (-1, 1),           np.arccos),
    "atan":     (mpmath.atan,                   (-np.inf, np.inf), np.arctan),
    "sinh":     (mpmath.sinh,                   (-np.inf, np.inf), np.sinh),
    "cosh":     (mpmath.cosh,                   (-np.inf, np.inf), np.cosh),
    "tanh":     (mpmath.tanh,                   (-np.inf, np.inf), np.tanh),
    "asinh":    (mpmath.asinh,                  (-np.inf, np.inf), np.arcsinh),
    "acosh":    (mpmath.acosh,                  (1, np.inf),       np.arccosh),
    "atanh":    (mpmath.atanh,                  (-1, 1),           np.arctanh),
    "cbrt":     (cbrt,                          (-np.inf, np.inf), np.cbrt),
    "sigmoid":  (sigmoid,                       (-np.inf, np.inf), None),
    "softplus": (softplus,                      (-np.inf, np.inf), None),
    "erf":      (mpmath.erf,                    (-np.inf, np.inf), math.erf),
    "erfc":     (erfc,                          (-np.inf, np.inf), math.erfc),
    "lgamma":   (lgamma,                        (0, np.inf),       math.lgamma),
    "digamma":  (mpmath.digamma,                (0, np.inf),       None),
}
TWO: dict[str, tuple[Callable[[Any, Any], Any], tuple[float, float], Any]] = {
    "atan2":    (mpmath.atan2,                  (-np.inf, np.inf), np.arctan2),
    "pow":      (lambda x, y: x ** y,           (0, np.inf),       None),
}
# fmt: on


def fit(f: Callable[[Any], Any], low: float, high: float, terms: int) -> tuple[list[float], float]:
    """The polynomial through ``f`` at the Chebyshev nodes of an interval, highest power first, and its largest error.

    It is within a small factor of the best there is of its degree. ``f`` is called with mpmath's numbers, never at 0.

    >>> coefficients, error = fit(lambda r: (mpmath.exp(r) - 1 - r) / r**2, -0.3466, 0.3466, 10)
    >>> coefficients[-1], error < 2.0**-53
    (0.5, True)
    """
    with mpmath.workdps(50):
        middle, half = (mpf(low) + high) / 2, (mpf(high) - low) / 2
        nodes = [middle + half * mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * terms)) for k in range(terms)]
        divided = [f(x) for x in nodes]
        for j in range(1, terms):  # Newton's divided differences
            for i in range(terms - 1, j - 1, -1):
                divided[i] = (divided[i] - divided[i - 1]) / (nodes[i] - nodes[i - j])
        powers = [divided[-1]]
        for node, difference in zip(nodes[-2::-1], divided[-2::-1], strict=True):
            powers = [a - node * b for a, b in zip([*powers, 0], [0, *powers], strict=True)]
            powers[-1] += difference
        grid = [low + (mpf(high) - low) * (k + mpf(1) / 3) / 400 for k in range(400)]
        error = max(abs(mpmath.polyval(powers, x) - f(x)) for x in grid)
        return [float(a) for a in powers], float(error)


def points(low: float, high: float, dtype: Any) -> Any:
    """Even and random points near 0 and 1 and in a middle range, all exponents, subnormals, the ends."""
    rng = np.random.default_rng(SEED)
    limits, peak = np.finfo(dtype), PEAK[np.dtype(dtype).name]
    spread = 2.0 ** rng.uniform(limits.minexp - limits.nmant, limits.maxexp, COUNT)
    some = np.concatenate([
        np.linspace(-1, 1, COUNT), rng.uniform(-1, 1, COUNT), np.linspace(-10, 10, COUNT),
        rng.uniform(-100, 100, COUNT), rng.uniform(-1.05 * peak, 1.05 * peak, COUNT), spread, -spread,
        1 + rng.uniform(-1, 1, COUNT) * 10 ** rng.uniform(-8, -1, COUNT),
        np.arange(1, 300) * (np.pi / 2), [limits.max, limits.tiny, limits.smallest_subnormal, 1e22, 2.0**17, 2.0**40],
    ])  # fmt: skip
    x = np.unique(some.astype(dtype))
    return x[np.isfinite(x) & (x > low) & (x < high)]


def pairs(name: str, dtype: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(SEED)
    x = points(0, np.inf, dtype) if name == "pow" else points(-np.inf, np.inf, dtype)
    if name == "atan2":
        return x, rng.permutation(x)
    near = rng.uniform(-1.03, 1.03, x.size) * PEAK[np.dtype(dtype).name]
    y = np.where(x == 1, 1, near / np.log(np.where(x == 1, 2, x).astype("f8")))
    y = np.where(rng.uniform(size=x.size) < 0.3, np.rint(np.clip(y, -100, 100)), y)
    return x, y.astype(dtype)


def off(out: Any, exact: Any) -> float:
    """By how many units in the last place ``out`` is off."""
    limits = np.finfo(out.dtype)
    if not np.isfinite(out) or not mpmath.isfinite(exact):
        with np.errstate(over="ignore"):
            rounded = np.array(float(exact)).astype(out.dtype)
        return 0.0 if out == rounded else math.inf
    exponent = max(mpmath.frexp(exact)[1] - 1 if exact else limits.minexp, limits.minexp)
    return float(abs(mpf(float(out)) - exact) / mpmath.ldexp(1, exponent - limits.nmant))


def over(function: Any, operands: int) -> Any:
    x = "xy"[:operands]
    source = f"def loop(out, {', '.join(x)}):\n    for i in range(out.size):\n"
    source += f"        out[i] = function({', '.join(f'{v}[i]' for v in x)})\n"
    scope: dict[str, Any] = {"function": function}
    exec(source, scope)
    return compiled()(scope["loop"])


def nanoseconds(loop: Any, dtype: Any, low: float, high: float, operands: int) -> float:
    """Of one element, of 4096 that lie in the first-level cache; the best of 20 runs."""
    rng = np.random.default_rng(SEED)
    columns = [rng.uniform(max(low, -5), min(high, 5), 4096).astype(dtype) for _ in range(operands)]
    out, best = np.empty(4096, dtype), math.inf
    loop(out, *columns)
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(20):
            loop(out, *columns)
        best = min(best, time.perf_counter() - start)
    return best / (20 * 4096) * 1e9


def row(name: str, dtype: Any) -> str:
    operands = 1 if name in ONE else 2
    exact, (low, high), own = (ONE | TWO)[name]
    columns = (points(low, high, dtype),) if operands == 1 else pairs(name, dtype)
    loop = over(getattr(m, name), operands)
    out = np.empty_like(columns[0])
    loop(out, *columns)
    with mpmath.workdps(60):
        errors = [off(got, exact(*map(mpf, map(float, at)))) for got, *at in zip(out, *columns, strict=True)]
    worst = int(np.argmax(errors))
    at = ", ".join(f"{float(x[worst]):.9g}" for x in columns)
    new = nanoseconds(loop, dtype, low, high, operands)
    if name == "pow":
        own = njit(lambda x, y: x**y)
    old = f"{nanoseconds(over(own, operands), dtype, low, high, operands):.2f}" if own else ""
    return f"| {name} | {np.dtype(dtype).name} | {errors[worst]:.2f} | {at} | {len(errors)} | {new:.2f} | {old} |"


def main() -> None:
    lines = [
        "# Accuracy and speed of the scalar kernels",
        "",
        f"Written by `python -m benchmarks.accuracy` on {platform.processor() or platform.machine()}: the largest error"
        " in units in the last place against mpmath, where it was found, over how many points of the whole range; and"
        " nanoseconds an element, here and with Numba's own function, in a loop over 4096 of them.",
        "",
        "| function | dtype | ulp | at | points | ns | Numba's ns |",
        "|---|---|---:|---|---:|---:|---:|",
    ]
    for name in ONE | TWO:
        for dtype in (np.float32, np.float64):
            lines.append(row(name, dtype))
            print(lines[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
