"""The scalar kernels against mpmath (accuracy, in units in the last place), NumPy and SciPy (special values).

Accuracy is asked of native code only: with ``NUMBA_DISABLE_JIT=1`` the elementary kernels are NumPy's own functions.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
from llvmlite import binding, ir

import staticad as ad
import staticad.runtime.kernels.math as m
from benchmarks.vectorised import loop
from staticad.expressions import CODE
from staticad.runtime import settings
from staticad.runtime.kernels.values import Value
from staticad.runtime.kinds import kind_of
from staticad.runtime.load import Native, load
from staticad.runtime.translate import Walk

RNG = np.random.default_rng(0)
CPU = [name for name, there in binding.get_host_cpu_features().items() if there]
FLOATS = (np.float32, np.float64)
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 3.5, -7.25, 1e-40, 1e-5, 1e30, -1e30]


def over(function: Any, *columns: Any, first: str = "") -> Any:
    """``function`` over vectors of equal length, one at a time, natively; the result has the last one's dtype.

    ``first``: arguments before those, as text."""
    out = np.empty(columns[-1].size, columns[-1].dtype)
    with np.errstate(all="ignore"):
        assert loop(function, [x.dtype for x in (out, *columns)], first).call(out, *columns) == 0
    return out


def program(signature: str, *lines: str) -> Native:
    """A program of arrays a, b, ..."""
    names = ", ".join("abcdefgh"[: signature.count("[")])
    body = "".join(f"    {line}\n" for line in lines)
    head = "import numpy as np\nfrom staticad.runtime.generated import *\n"
    return load(f"{head}@entry({signature!r})\ndef main({names}):\n{body}    return 0\n", "test")


def ulps(out: Any, exact: list[Any]) -> Any:
    """How far each element lies from the exact value, in units in the last place of the dtype there."""
    limits = np.finfo(out.dtype)
    errors: list[float] = []
    for got, want in zip(out, exact, strict=True):
        if not np.isfinite(got) or not mpmath.isfinite(want):
            with np.errstate(over="ignore"):
                same = got == np.array(float(want)).astype(out.dtype)
            errors.append(0.0 if same else np.inf)
            continue
        exponent = max(mpmath.frexp(want)[1] - 1 if want else limits.minexp, limits.minexp)
        errors.append(float(abs(mpmath.mpf(float(got)) - want) / mpmath.ldexp(1, exponent - limits.nmant)))
    return np.array(errors)


def points(low: float, high: float, dtype: Any, count: int = 400) -> Any:
    """An even grid, random points between, and points that crowd around zero, all within the bounds."""
    tiny = np.concatenate([10.0 ** RNG.uniform(-30, 0, 60), -(10.0 ** RNG.uniform(-30, 0, 60))])
    x = np.concatenate([np.linspace(low, high, count), RNG.uniform(low, high, count), tiny])
    return np.unique(x[(x >= low) & (x <= high)].astype(dtype))


def exact_sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


def exact_softplus(x: Any) -> Any:
    return mpmath.log1p(mpmath.exp(x))


def exact_lgamma(x: Any) -> Any:
    return mpmath.log(abs(mpmath.gamma(x)))


def exact_trigamma(x: Any) -> Any:
    return mpmath.polygamma(1, x)


# fmt: off
# name: (exact function, bounds of the arguments, and of the error in ulp in float32 and in float64)
ACCURACY: dict[str, tuple[Callable[[Any], Any], tuple[float, float], tuple[float, float]]] = {
    "exp":      (mpmath.exp,      (-80, 80),    (1.2, 1.2)),
    "exp2":     (lambda x: mpmath.mpf(2) ** x, (-120, 120), (1.0, 1.0)),
    "expm1":    (mpmath.expm1,    (-20, 80),    (1.8, 1.8)),
    "log":      (mpmath.log,      (1e-30, 50),  (1.0, 1.0)),
    "log2":     (lambda x: mpmath.log(x, 2), (1e-30, 50), (1.6, 1.6)),
    "log10":    (mpmath.log10,    (1e-30, 50),  (2.0, 2.0)),
    "log1p":    (mpmath.log1p,    (-0.99, 50),  (1.5, 1.5)),
    "sin":      (mpmath.sin,      (-100, 100),  (1.0, 1.0)),
    "cos":      (mpmath.cos,      (-100, 100),  (1.0, 1.0)),
    "tan":      (mpmath.tan,      (-100, 100),  (2.5, 2.5)),
    "asin":     (mpmath.asin,     (-1, 1),      (1.5, 1.5)),
    "acos":     (mpmath.acos,     (-1, 1),      (1.5, 1.5)),
    "atan":     (mpmath.atan,     (-50, 50),    (1.9, 1.6)),
    "sinh":     (mpmath.sinh,     (-50, 50),    (1.9, 1.6)),
    "cosh":     (mpmath.cosh,     (-50, 50),    (1.9, 1.6)),
    "tanh":     (mpmath.tanh,     (-30, 30),    (1.5, 1.5)),
    "asinh":    (mpmath.asinh,    (-50, 50),    (1.9, 1.6)),
    "acosh":    (mpmath.acosh,    (1, 50),      (1.9, 1.6)),
    "atanh":    (mpmath.atanh,    (-0.999, 0.999), (1.9, 1.6)),
    "sqrt":     (mpmath.sqrt,     (0, 50),      (0.5, 0.5)),
    "cbrt":     (lambda x: mpmath.sign(x) * mpmath.cbrt(abs(x)), (-50, 50), (0.6, 0.6)),
    "sigmoid":  (exact_sigmoid,   (-80, 80),    (1.5, 1.5)),
    "softplus": (exact_softplus,  (-80, 80),    (1.6, 1.6)),
    "erf":      (mpmath.erf,      (-6, 6),      (1.5, 1.5)),
    "erfc":     (mpmath.erfc,     (-6, 8),      (1.6, 1.6)),
    "lgamma":   (exact_lgamma,    (1e-30, 100), (0.51, 3.0)),
    "digamma":  (mpmath.digamma,  (1e-30, 100), (0.51, 3.0)),
    "trigamma": (exact_trigamma,  (1e-30, 100), (0.51, 3.0)),
}
# fmt: on


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="NumPy's own functions then")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ACCURACY)
def test_accuracy(name: str, dtype: Any) -> None:
    exact, (low, high), bounds = ACCURACY[name]
    x = points(low, high, dtype)
    with mpmath.workdps(60):
        error = ulps(over(getattr(m, name), x), [exact(mpmath.mpf(float(v))) for v in x])
    worst = int(error.argmax())
    assert error[worst] <= bounds[FLOATS.index(dtype)], f"{name}({x[worst]!r}) is off by {error[worst]:.2f} ulp"


NATIVE = pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="of native code")
# The last is the double closest to a multiple of pi/2 (Muller, Elementary Functions, 11.3).
HUGE = [131071.5, 1e6, 2.0**40 + 1, 1e17, 1e22, 1e30, 3e38, 1e300, 1.7e308, 6381956970095103 * 2.0**797]


@NATIVE
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sin", "cos", "tan"])
def test_waves_of_huge_arguments(name: str, dtype: Any) -> None:
    x = np.array([sign * v for v in HUGE if v < float(np.finfo(dtype).max) for sign in (1, -1)] * 3, dtype)
    with mpmath.workdps(400):
        error = ulps(over(getattr(m, name), x), [getattr(mpmath, name)(mpmath.mpf(float(v))) for v in x])
    assert error.max() <= 2.5, x[error.argmax()]


@NATIVE
@pytest.mark.parametrize("dtype", FLOATS)
def test_accuracy_of_pow(dtype: Any) -> None:
    limits = np.finfo(dtype)
    x = np.concatenate([2 ** RNG.uniform(limits.minexp, limits.maxexp, 500), RNG.uniform(0.5, 1.5, 500)]).astype(dtype)
    y = (RNG.uniform(limits.minexp, limits.maxexp, x.size) / np.log2(x.astype("f8"))).astype(dtype)
    with mpmath.workdps(60):
        error = ulps(
            over(m.pow, x, y), [mpmath.mpf(float(a)) ** mpmath.mpf(float(b)) for a, b in zip(x, y, strict=True)]
        )
    assert error.max() <= 1.0, (x[error.argmax()], y[error.argmax()])


@NATIVE
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["exp", "sinh", "cosh", "erfc", "log1p", "asinh", "cbrt", "sigmoid", "softplus"])
def test_accuracy_at_the_ends_of_the_range(name: str, dtype: Any) -> None:
    limits = np.finfo(dtype)
    peak = float(np.log(limits.max))
    ends = [limits.smallest_subnormal, limits.tiny / 3, limits.tiny, limits.max / 2, limits.max]
    x = np.concatenate([ends, np.linspace(-1.06 * peak, 1.002 * peak, 300)]).astype(dtype)
    x = x[x > -1] if name == "log1p" else x[x < 100] if name == "erfc" else x
    x = x[x < 2 * peak] if name in ("exp", "sinh", "cosh", "sigmoid") else x
    x = x[x < 1e4] if name == "softplus" else x
    with mpmath.workdps(60):
        error = ulps(over(getattr(m, name), x), [ACCURACY[name][0](mpmath.mpf(float(v))) for v in x])
    assert error.max() <= 2.0, f"{name}({x[error.argmax()]!r}) is off by {error.max():.2f} ulp"


# Where the functions of gamma are small, and where the recurrence, the series and the reflection meet.
SEAMS = [1, 2, 0.25, 0.5, 1.25, 1.5, 2.5, 3, 1e-300, 1e-155, 1e17, 1e300, 2.5e305, -0.5, -1.5, -1e-300, -1e-20]


@NATIVE
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["lgamma", "digamma", "trigamma"])
def test_gamma_at_its_seams(name: str, dtype: Any) -> None:
    step = 10.0 ** RNG.uniform(-16, -1, (len(SEAMS), 60)) * RNG.choice([-1, 1], (len(SEAMS), 60))
    x = (np.array(SEAMS)[:, None] * (1 + step)).ravel()
    x = x[np.abs(x) <= np.finfo(dtype).max].astype(dtype)
    x = x[(np.abs(x) > 0) & ((name != "digamma") | (x > -0.4))]
    with mpmath.workdps(60):
        error = ulps(over(getattr(m, name), x), [ACCURACY[name][0](mpmath.mpf(float(v))) for v in x])
    assert error.max() <= 4.0, f"{name}({x[error.argmax()]!r}) is off by {error.max():.2f} ulp"


@NATIVE
@pytest.mark.parametrize("dtype", FLOATS)
def test_trigamma_below_zero(dtype: Any) -> None:
    x = points(-40.3, 0, dtype)
    x = x[x != np.rint(x)]
    with mpmath.workdps(60):
        error = ulps(over(m.trigamma, x), [exact_trigamma(mpmath.mpf(float(v))) for v in x])
    assert error.max() <= 4.0, x[error.argmax()]


@NATIVE
@pytest.mark.parametrize("dtype", FLOATS)
def test_accuracy_of_hypot(dtype: Any) -> None:
    limits = np.finfo(dtype)
    x, y = 2.0 ** RNG.uniform(limits.minexp - limits.nmant, limits.maxexp - 0.6, (2, 600))
    y[::2] = x[::2] * 2.0 ** RNG.uniform(-20, 0, 300)
    x, y = x.astype(dtype), y.astype(dtype)
    with mpmath.workdps(60):
        want = [mpmath.hypot(mpmath.mpf(float(a)), mpmath.mpf(float(b))) for a, b in zip(x, y, strict=True)]
    assert ulps(over(m.hypot, x, y), want).max() <= 1.1


VECTORS = ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
           "cosh", "tanh", "asinh", "acosh", "atanh", "cbrt", "sigmoid", "softplus", "erf", "erfc", "lgamma", "digamma",
           "trigamma"]  # fmt: skip


@NATIVE
@pytest.mark.skipif("avx2" not in CPU, reason="reads x86 assembly")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", VECTORS)
def test_a_loop_over_it_is_vectorised(name: str, dtype: Any) -> None:
    text = loop(getattr(m, name), [dtype, dtype]).asm()
    assert re.search(r"vfn?m(add|sub)\d+p[sd]\s.*%[yz]mm", text)


@NATIVE
@pytest.mark.skipif("avx2" not in CPU, reason="reads x86 assembly")
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "int32", "int64", "uint8", "bool"])
@pytest.mark.parametrize("name", ["radd", "rmul", "rmax", "rmin"])
def test_a_reduction_is_vectorised(name: str, dtype: str) -> None:
    if dtype == "bool" and name in ("rmax", "rmin"):
        pytest.skip("any and all are a sum and a product")
    kind = f"{CODE[np.dtype(dtype)]}[::1]"
    lines = ["acc = a[0]", "for i in range(b.shape[0]):", f"    acc = m.{name}(acc, b[i])", "a[0] = acc"]
    text = program(f"{kind}, {kind}", *lines).asm()
    operation = {"f": r"v(add|mul|max|min)p[sd]", "b": r"(vp(or|and|ternlog|test)|k(or|and))\w*"}
    assert re.search(operation.get(np.dtype(dtype).kind, r"vp(add|mul|max|min)\w*") + r"\s.*%([yz]mm|k)", text)


# Below 0 each is the difference of two terms; where it crosses zero its error is small beside them.
# fmt: off
NEAR_ROOTS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], list[Any]]]] = {
    "lgamma":  (exact_lgamma,   lambda x: [exact_lgamma(1 - x), mpmath.log(mpmath.pi / abs(mpmath.sinpi(x)))]),
    "digamma": (mpmath.digamma, lambda x: [mpmath.digamma(1 - x), mpmath.pi * mpmath.cot(mpmath.pi * x)]),
}
# fmt: on


@NATIVE
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", NEAR_ROOTS)
def test_accuracy_below_zero(name: str, dtype: Any) -> None:
    exact, terms = NEAR_ROOTS[name]
    x = points(-40.3, 0, dtype)
    x = x[x != np.rint(x)]
    for v, got in zip(x, over(getattr(m, name), x), strict=True):
        at = mpmath.mpf(float(v))
        want = exact(at)
        unit = float(np.finfo(dtype).eps) * max(map(abs, [want, *terms(at)]))
        assert abs(mpmath.mpf(float(got)) - want) <= 2 * unit, f"{name}({v!r}) = {got!r}, exactly {want}"


@pytest.mark.parametrize("n", [1, 2, 3, 4, 7, 12])
@pytest.mark.parametrize("dtype", FLOATS)
def test_polygamma(n: int, dtype: Any) -> None:
    x = np.array([1e-3, 0.1, 0.5, 1.0, 1.4616, 2.0, 7.7, 13.0, 50.0, 1e4, -0.25, -0.75, -3.125, -20.4, -1000.75], dtype)
    out = over(m.polygamma, x, first=str(n))
    unit, tiny = float(np.finfo(dtype).eps), float(np.finfo(dtype).smallest_subnormal)
    for v, got in zip(x, out, strict=True):
        want = mpmath.polygamma(n, mpmath.mpf(float(v)))
        if abs(want) > float(np.finfo(dtype).max):
            assert got == np.inf * float(mpmath.sign(want))
            continue
        size = abs(want) if v > 0 else max(abs(want), mpmath.factorial(n) / abs(v - np.rint(v)) ** (n + 1))
        assert abs(mpmath.mpf(float(got)) - want) <= (8 + 2 * n) * unit * size + tiny, (v, got, want)


def test_polygamma_of_high_order_does_not_overflow_on_the_way() -> None:
    x = np.array([60.0, 200.0, 1000.0])
    want = [float(mpmath.polygamma(150, v)) for v in x]
    np.testing.assert_allclose(over(m.polygamma, x, first="150"), want, rtol=1e-12)


# fmt: off
UNARY: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
    "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh, "asinh": np.arcsinh, "acosh": np.arccosh,
    "atanh": np.arctanh, "sqrt": np.sqrt, "cbrt": np.cbrt, "fabs": np.abs, "sign": np.sign, "floor": np.floor,
    "ceil": np.ceil, "trunc": np.trunc, "round": np.round, "isinf": np.isinf, "isfinite": np.isfinite,
    "signbit": np.signbit, "sigmoid": scipy.special.expit, "softplus": lambda x: np.logaddexp(x, np.zeros_like(x)),
    "erf": scipy.special.erf, "erfc": scipy.special.erfc, "digamma": scipy.special.psi,
    "trigamma": lambda x: scipy.special.polygamma(1, x),
    "lgamma": lambda x: np.where(np.isinf(x), np.abs(x), scipy.special.gammaln(x)),
}
BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "maximum": np.maximum, "minimum": np.minimum, "hypot": np.hypot, "copysign": np.copysign, "nextafter": np.nextafter,
    "pow": np.power, "logaddexp": np.logaddexp, "atan2": np.arctan2,
    "floor_divide_real": np.floor_divide, "remainder_real": np.remainder,
}
# fmt: on


def pairs(values: list[Any], others: list[Any], dtype: Any) -> tuple[Any, Any]:
    x, y = np.meshgrid(np.array(values, dtype), np.array(others, dtype), indexing="ij")
    return np.ascontiguousarray(x.ravel()), np.ascontiguousarray(y.ravel())


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str, dtype: Any) -> None:
    x = np.array(SPECIAL, dtype)
    if name in ("sin", "cos", "tan"):
        x = x[~(np.abs(x) > 1e6) | np.isinf(x)]
    with np.errstate(all="ignore"):
        want = UNARY[name](x).astype(dtype)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(over(getattr(m, name), x), want, rtol=16 * eps, atol=2 * eps)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", BINARY)
def test_special_pairs(name: str, dtype: Any) -> None:
    x, y = pairs(SPECIAL, SPECIAL, dtype)
    with np.errstate(all="ignore"):
        want = BINARY[name](x, y)
    np.testing.assert_allclose(over(getattr(m, name), x, y), want, rtol=16 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["floor_divide_real", "remainder_real"])
def test_quotients_and_remainders_are_numpys_to_the_bit(name: str, dtype: Any) -> None:
    tenths = [k / 10 for k in range(-30, 31) if k]
    limits = np.finfo(dtype)
    wide = RNG.choice([-1, 1], 300) * 2.0 ** RNG.uniform(limits.minexp - limits.nmant, limits.maxexp, 300)
    x, y = pairs([*tenths, *RNG.uniform(-1e3, 1e3, 200), *wide], [*tenths, *wide], dtype)
    with np.errstate(all="ignore"):
        want = BINARY[name](x, y)
    out = over(getattr(m, name), x, y)
    np.testing.assert_array_equal(out, want)
    np.testing.assert_array_equal(np.signbit(out), np.signbit(want))


@pytest.mark.parametrize("dtype", FLOATS)
def test_neighbours_are_numpys_to_the_bit(dtype: Any) -> None:
    limits = np.finfo(dtype)
    ends = [0.0, limits.smallest_subnormal, limits.tiny, 1.0, limits.max, np.inf, 2.0, *RNG.normal(size=20)]
    x, y = pairs([*ends, *(-v for v in ends), np.nan], [*ends, *(-v for v in ends), np.nan], dtype)
    with np.errstate(all="ignore"):
        want = np.nextafter(x, y)
    out = over(m.nextafter, x, y)
    np.testing.assert_array_equal(out, want)
    same = ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(out)[same], np.signbit(want)[same])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ["sigmoid", "softplus", "digamma", "lgamma", "trigamma", "sign", "erf"])
def test_the_dtype_is_kept(name: str, dtype: Any) -> None:
    program("f8[::1]").call(np.zeros(1))  # the library is there
    if settings.plain():
        assert type(getattr(m, name)(dtype(0.75))) is dtype
        return
    kind = kind_of(dtype)
    function = ir.Function(ir.Module(), ir.FunctionType(ir.VoidType(), [kind.value]), "f")
    walk = Walk(ir.IRBuilder(function.append_basic_block()), {})
    assert getattr(m, name).write(walk, Value(kind, function.args[0])).kind == kind


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_both_dtypes_in_one_function(name: str) -> None:
    given = "{0}[0]" if name in UNARY else "{0}[0], {0}[0]"
    lines = [f"{x}[0] = m.{name}({given.format(x)})" for x in "ab"]
    x, y = np.full(1, 0.5, "f4"), np.full(1, 0.5)
    with np.errstate(all="ignore"):
        program("f4[::1], f8[::1]", *lines).call(x, y)
    np.testing.assert_allclose(x, y, rtol=1e-6)


# fmt: off
INTEGER: dict[str, Callable[[Any, Any], Any]] = {
    "floor_divide": np.floor_divide, "remainder": np.remainder, "left_shift": np.left_shift,
    "right_shift": np.right_shift, "maximum": np.maximum, "minimum": np.minimum,
}
# fmt: on
INTEGERS = [np.dtype(name) for name in ("int8", "int32", "int64", "uint8", "uint64")]


def extremes(dtype: Any) -> list[int]:
    bounds = np.iinfo(dtype)
    return [0, 1, 2, 3, 7, 8, 63, 64, 100, bounds.max, *([-1, -2, -7, bounds.min] if bounds.min else [])]


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
@pytest.mark.parametrize("name", INTEGER)
def test_integers(name: str, dtype: Any) -> None:
    x, y = pairs(extremes(dtype), extremes(dtype), dtype)
    with np.errstate(all="ignore"):
        want = INTEGER[name](x, y)
    np.testing.assert_array_equal(over(getattr(m, name), x, y), want)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_powers_wrap(dtype: Any) -> None:
    x, y = pairs(extremes(dtype), [0, 1, 2, 3, 5, 8, 63], dtype)
    np.testing.assert_array_equal(over(m.integer_pow, x, y), np.power(x, y))
    np.testing.assert_array_equal(over(m.sign, x), np.sign(x))


def test_negative_integer_powers_are_an_error() -> None:
    x, y = (ad.input(name, ("n",), dtype="int64") for name in "xy")
    f = ad.compile([x, y], x**y)
    with pytest.raises(ValueError, match="negative integer powers"):
        f(np.array([2]), np.array([-1]))
    with pytest.raises(ValueError, match="negative integer powers"):
        f.njit(np.array([2]), np.array([-1]), np.zeros(1, "i8"))


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="this is the run without JIT")
def test_without_jit() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=os.environ | {"NUMBA_DISABLE_JIT": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
