"""How accurate and how fast the scalar kernels are, against mpmath and against what Numba has of its own.

``python -m benchmarks.accuracy`` writes ``benchmarks/accuracy.md`` in some minutes. `fit` made the polynomials of the
kernels.
"""

# Numba and mpmath have no types.
# pyright: basic

from __future__ import annotations

import ctypes
import ctypes.util
import itertools
import math
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import scipy.special
from mpmath import mpf
from numba import njit

from benchmarks.vectorised import loop, widths
from staticad.runtime.kernels import math as m

SEED = 0
COUNT = 1000
STRIDE = 1021
C = ctypes.CDLL(ctypes.util.find_library("m"))
C.lgamma.restype, C.lgamma.argtypes = ctypes.c_double, [ctypes.c_double]
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


def trigamma(x: Any) -> Any:
    return mpmath.polygamma(1, x)


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
    "trigamma": (trigamma,                      (0, np.inf),       None),
}
TWO: dict[str, tuple[Callable[[Any, Any], Any], tuple[float, float], Any]] = {
    "atan2":    (mpmath.atan2,                  (-np.inf, np.inf), np.arctan2),
    "pow":      (lambda x, y: x ** y,           (0, np.inf),       None),
    "hypot":    (mpmath.hypot,                  (-np.inf, np.inf), np.hypot),
}
# fmt: on


def fit(f: Callable[[Any], Any], low: float, high: float, terms: int, crowd: float = 1) -> tuple[list[float], float]:
    """The polynomial through ``f`` at the Chebyshev nodes of an interval, highest power first, and its largest error.

    It is within a small factor of the best there is of its degree. ``f`` is called with mpmath's numbers, never at 0.
    With a ``crowd`` above 1 the nodes draw together at the lower end, for where that has to be met more closely.

    >>> coefficients, error = fit(lambda r: (mpmath.exp(r) - 1 - r) / r**2, -0.3466, 0.3466, 10)
    >>> coefficients[-1], error < 2.0**-53
    (0.5, True)
    """
    with mpmath.workdps(50):
        places = [(1 + mpmath.cos(mpmath.pi * (2 * k + 1) / (2 * terms))) / 2 for k in range(terms)]
        nodes = [low + (mpf(high) - low) * place**crowd for place in places]
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


def near_quarters(dtype: Any) -> Any:
    """For each exponent, the numbers of the dtype that come closest to a multiple of pi/2, by continued fractions."""
    limits, found = np.finfo(dtype), []
    most = 2 ** (limits.nmant + 1)
    with mpmath.workprec(1400):
        for exponent in range(-limits.nmant, limits.maxexp - limits.nmant):
            rest = mpmath.ldexp(mpmath.pi / 2, -exponent)  # of a mantissa to a count of quarters
            p, after = 1, int(mpmath.floor(rest))  # numerators of convergents: mantissas
            while after < most:
                rest = 1 / (rest - mpmath.floor(rest))
                p, after = after, int(mpmath.floor(rest)) * after + p
            found += [(p, exponent), (after - p * ((after - most) // p + 1), exponent)]
    return np.array([np.ldexp(float(mantissa), exponent) for mantissa, exponent in found])


# Where a kernel changes from one way of reckoning to another, or has a zero or a pole.
SEAMS = (0.25, 0.3333, 0.4142135623730951, 0.5, 0.55, 1, 1.25, 1.4616321449683623, 1.5, 2, 2.414213562373095, 2.5, 3, 4,
         6, 10.5, 20, 28, 40)  # fmt: skip


def hard(dtype: Any) -> Any:
    """The neighbours of `SEAMS`, of powers of 2 and their like, of limits of the range, of halves of ln 2 and pi."""
    limits = np.finfo(dtype)
    powers = 2.0 ** np.arange(limits.minexp - limits.nmant, limits.maxexp, dtype="f8")
    ends = [np.log(np.finfo(dtype).max), limits.minexp * np.log(2), (limits.minexp - limits.nmant - 1) * np.log(2)]
    halves = (np.arange(1100) + 0.5) * np.log(2)
    some = np.concatenate([SEAMS, powers, powers * 0.5**0.5, powers * 0.75, np.abs(ends), 1 - powers[powers < 1],
                           halves, near_quarters(dtype), np.arange(1, 200) * (np.pi / 2)])  # fmt: skip
    with np.errstate(over="ignore"):
        x = np.unique(some.astype(dtype))
    x = x[np.isfinite(x)]
    with np.errstate(over="ignore"):
        x = np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf))])
    return np.concatenate([x, -x])


def points(low: float, high: float, dtype: Any) -> Any:
    """Even and random points near 0 and 1 and in a middle range, all exponents, subnormals, the ends; and hard ones."""
    rng = np.random.default_rng(SEED)
    limits, peak = np.finfo(dtype), PEAK[np.dtype(dtype).name]
    spread = 2.0 ** rng.uniform(limits.minexp - limits.nmant, limits.maxexp, COUNT)
    some = np.concatenate([
        np.linspace(-1, 1, COUNT), rng.uniform(-1, 1, COUNT), np.linspace(-10, 10, COUNT),
        rng.uniform(-100, 100, COUNT), rng.uniform(-1.05 * peak, 1.05 * peak, COUNT), spread, -spread,
        1 + rng.uniform(-1, 1, COUNT) * 10 ** rng.uniform(-8, -1, COUNT), hard(dtype),
        [limits.max, limits.tiny, limits.smallest_subnormal, 1e22, 2.0**17, 2.0**40],
    ])  # fmt: skip
    x = np.unique(some.astype(dtype))
    return x[np.isfinite(x) & (x > low) & (x < high)]


def pairs(name: str, dtype: Any) -> tuple[Any, Any]:
    rng = np.random.default_rng(SEED)
    x = points(0, np.inf, dtype) if name == "pow" else points(-np.inf, np.inf, dtype)
    if name != "pow":
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


def over(function: Any, operands: int, dtype: Any) -> Any:
    return loop(function, [dtype] * (operands + 1)).call


def numbas(function: Any, operands: int) -> Any:
    """The same loop over a function of Numba's, compiled by Numba."""
    x = "xy"[:operands]
    given = ", ".join(f"{v}[i]" for v in x)
    scope: dict[str, Any] = {"function": function}
    exec(f"def loop(out, {', '.join(x)}):\n    for i in range(out.size):\n        out[i] = function({given})\n", scope)
    return njit(nogil=True, error_model="numpy", fastmath={"contract"}, boundscheck=False)(scope["loop"])


def worst_of_many(native: Any, own: Any, low: float, high: float) -> tuple[float, float, int]:
    """The largest error over every `STRIDE`-th float32, against what Numba has of its own in float64; and where."""
    x = np.arange(0, 2**32, STRIDE, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = x[np.isfinite(x) & (x > low) & (x < high)]
    out, exact = np.empty_like(x), np.empty(x.size)
    native(out, x)
    numbas(own, 1)(exact, x.astype("f8"))
    limits = np.finfo(np.float32)
    with np.errstate(all="ignore"):
        exponent = np.maximum(np.frexp(np.where(np.isfinite(exact), exact, 1))[1] - 1, limits.minexp)
        error = np.abs(out - exact) / np.ldexp(1.0, exponent - limits.nmant)
        error = np.where(out == exact.astype(np.float32), np.minimum(error, 0.5), error)
    at = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
    return float(error[at]), float(x[at]), x.size


def nanoseconds(native: Any, dtype: Any, low: float, high: float, operands: int) -> float:
    """Of one element, of 4096 that lie in the first-level cache; the best of 20 runs."""
    rng = np.random.default_rng(SEED)
    columns = [rng.uniform(max(low, -5), min(high, 5), 4096).astype(dtype) for _ in range(operands)]
    out, best = np.empty(4096, dtype), math.inf
    native(out, *columns)
    for _ in range(20):
        start = time.perf_counter()
        for _ in range(20):
            native(out, *columns)
        best = min(best, time.perf_counter() - start)
    return best / (20 * 4096) * 1e9


def row(name: str, dtype: Any) -> str:
    operands = 1 if name in ONE else 2
    exact, (low, high), own = (ONE | TWO)[name]
    columns = (points(low, high, dtype),) if operands == 1 else pairs(name, dtype)
    native = over(getattr(m, name), operands, dtype)
    out = np.empty_like(columns[0])
    native(out, *columns)
    with mpmath.workdps(60):
        errors = [off(got, exact(*map(mpf, map(float, at)))) for got, *at in zip(out, *columns, strict=True)]
    worst = int(np.argmax(errors))
    most, at, count = errors[worst], ", ".join(f"{float(x[worst]):.9g}" for x in columns), len(errors)
    if operands == 1 and own and dtype == np.float32:
        more, there, many = worst_of_many(native, own, low, high)
        count += many
        if more > most:
            most, at = more, f"{there:.9g}"
    new = nanoseconds(native, dtype, low, high, operands)
    if name == "pow":
        own = njit(lambda x, y: x**y)
    old = f"{nanoseconds(numbas(own, operands), dtype, low, high, operands):.2f}" if own else ""
    wide = " | ".join(str(bits) for bits in widths(getattr(m, name), operands, dtype).values())
    return f"| {name} | {np.dtype(dtype).name} | {most:.2f} | {at} | {count} | {new:.2f} | {old} | {wide} |"


# Below zero each is a difference of two terms: what, of which terms, what SciPy has, what C has.
# fmt: off
BELOW: dict[str, tuple[Callable[[Any], Any], Callable[[Any], list[Any]], Any, Any]] = {
    "lgamma":   (lgamma,           lambda x: [lgamma(1 - x), mpmath.log(mpmath.pi / abs(mpmath.sinpi(x)))],
                 scipy.special.gammaln, C.lgamma),
    "digamma":  (mpmath.digamma,   lambda x: [mpmath.digamma(1 - x), mpmath.pi * mpmath.cot(mpmath.pi * x)],
                 scipy.special.psi, None),
    "trigamma": (trigamma,         lambda x: [trigamma(1 - x), (mpmath.pi / mpmath.sinpi(x)) ** 2],
                 partial(scipy.special.polygamma, 1), None),
}
# fmt: on


def roots(f: Callable[[Any], Any], dtype: Any) -> Any:
    """Numbers around the zeros between -20 and 0, by bisection, as near as the dtype has any."""
    grid = np.unique(
        np.concatenate([-np.arange(0, 21)[:, None] + s * 2.0 ** -np.arange(1, 50) for s in (1, -1)]).ravel()
    )
    grid = [mpf(float(v)) for v in grid[(grid < 0) & (grid != np.rint(grid))]]
    found: list[float] = []
    for a, b in itertools.pairwise(grid):
        if mpmath.floor(a) == mpmath.floor(b) and mpmath.sign(f(a)) * mpmath.sign(f(b)) < 0:
            found.append(float(mpmath.findroot(f, (a, b), solver="anderson", tol=1e-30, verify=False)))
    steps = np.concatenate([[0], 2.0 ** np.arange(30)])
    x = np.array(found, dtype)
    return np.concatenate([x * (1 + s * k * np.finfo(dtype).eps) for k in steps for s in (1, -1)]).astype(dtype)


def row_below(name: str, dtype: Any) -> str:
    exact, terms, *others = BELOW[name]
    rng = np.random.default_rng(SEED)
    with mpmath.workdps(40):
        x = [-rng.uniform(0, 40, COUNT), -(10 ** rng.uniform(-15, 0, COUNT // 4))]
        x = np.unique(np.concatenate([*x, roots(exact, dtype) if name != "trigamma" else []]).astype(dtype))
        x = x[(x != np.rint(x)) & (x > -41)]
        out = np.empty_like(x)
        over(getattr(m, name), 1, dtype)(out, x)
        every = [out] + [np.array([f(v) for v in x.astype("f8")]).astype(dtype) if f else None for f in others]
        want = [exact(mpf(float(v))) for v in x]
        size = [max(map(abs, terms(mpf(float(v))))) for v in x]
    cells: list[str] = []
    for got in every:
        if got is None:
            cells += ["", ""]
            continue
        ulps = [off(a, b) for a, b in zip(got, want, strict=True)]
        eps = float(np.finfo(dtype).eps)
        share = [float(abs(mpf(float(a)) - b) / c) / eps for a, b, c in zip(got, want, size, strict=True)]
        cells += [f"{max(share):.2f}", f"{max(ulps):.3g}"]
    return f"| {name} | {np.dtype(dtype).name} | {' | '.join(cells)} | {x.size} |"


def main() -> None:
    lines = [
        "# Accuracy and speed of the scalar kernels",
        "",
        f"Written by `python -m benchmarks.accuracy` on {platform.processor() or platform.machine()}: the largest error"
        " in units in the last place against mpmath (in float32 against float64 too, on every "
        f"{STRIDE}th number), where it was found, over how many points of the whole range; nanoseconds an element, here"
        " and with Numba's own function, in a loop over 4096 of them; and how many bits wide the vectors of that loop"
        " are here, with AVX2 and with NEON.",
        "",
        "| function | dtype | ulp | at | points | ns | Numba's ns | here | AVX2 | NEON |",
        "|---|---|---:|---|---:|---:|---:|---:|---:|---:|",
    ]
    below = [
        "",
        "## Below zero",
        "",
        "There these are differences of two terms (reflection) and cross zero: the largest error in units of the larger"
        " term's last place (2**-52 or 2**-23 of it) and in units of the result's own, down to -40, roots included;"
        " beside it that of SciPy, and of the C library that runs here, both reckoned in float64.",
        "",
        "| function | dtype | of the term | ulp | SciPy's | ulp | C's | ulp | points |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for table, rows, names in ((lines, row, ONE | TWO), (below, row_below, BELOW)):
        for name in names:
            for dtype in (np.float32, np.float64):
                table.append(rows(name, dtype))
                print(table[-1], flush=True)
    Path(__file__).with_suffix(".md").write_text("\n".join(lines + below) + "\n")


if __name__ == "__main__":
    main()
