"""Special functions under SciPy's names, composed of array functions; knows no kernels."""

from __future__ import annotations

from staticad.functions.elementwise import (
    Unary,
    cbrt,
    digamma,
    equal,
    erf,
    erfc,
    exp2,
    expm1,
    isnan,
    less,
    log,
    log1p,
    logical_and,
    logical_not,
    polygamma,
    softplus,
    where,
)
from staticad.functions.elementwise import lgamma as gammaln
from staticad.functions.elementwise import sigmoid as expit
from staticad.functions.operands import as_float, promoted
from staticad.functions.reductions import logsumexp
from staticad.nn import log_softmax, softmax
from staticad.tensor import ArrayLike, Tensor

__all__ = [
    "betaln",
    "cbrt",
    "digamma",
    "entr",
    "erf",
    "erfc",
    "exp2",
    "expit",
    "expm1",
    "gammaln",
    "log1p",
    "log_expit",
    "log_softmax",
    "logit",
    "logsumexp",
    "ndtr",
    "polygamma",
    "psi",
    "rel_entr",
    "softmax",
    "xlog1py",
    "xlogy",
]

psi = digamma


def logit(x: ArrayLike, /) -> Tensor:
    """``log(x / (1 - x))``, the inverse of `expit`."""
    t = as_float("logit", x)
    return log(t) - log1p(-t)


def log_expit(x: ArrayLike, /) -> Tensor:
    """``log(expit(x))``, without overflow."""
    return -softplus(-as_float("log_expit", x))


def betaln(a: ArrayLike, b: ArrayLike, /) -> Tensor:
    """``log |beta(a, b)|``, by gammaln."""
    x, y = as_float("betaln", a), as_float("betaln", b)
    return gammaln(x) + gammaln(y) - gammaln(x + y)


def ndtr(x: ArrayLike, /) -> Tensor:
    """The normal distribution function ``erfc(-x / sqrt(2)) / 2``."""
    return 0.5 * erfc(as_float("ndtr", x) * -(0.5**0.5))


def xlogy(x: ArrayLike, y: ArrayLike, /) -> Tensor:
    """``x * log(y)``, 0 where ``x`` is 0 and ``y`` is not nan; so are its derivatives there by ``y``."""
    return _times("xlogy", x, y, log, 1)


def xlog1py(x: ArrayLike, y: ArrayLike, /) -> Tensor:
    """``x * log(1 + y)``, 0 where ``x`` is 0 and ``y`` is not nan."""
    return _times("xlog1py", x, y, log1p, 0)


def _times(name: str, x: ArrayLike, y: ArrayLike, function: Unary, harmless: float) -> Tensor:
    a, b = promoted(as_float(name, x), as_float(name, y))
    zero = logical_and(equal(a, 0), logical_not(isnan(b)))
    return where(zero, 0, a * function(where(zero, harmless, b)))


def entr(x: ArrayLike, /) -> Tensor:
    """``-x * log(x)``: 0 at 0, -inf below."""
    t = as_float("entr", x)
    return where(less(t, 0), -float("inf"), -xlogy(where(less(t, 0), 1, t), where(less(t, 0), 1, t)))


def rel_entr(x: ArrayLike, y: ArrayLike, /) -> Tensor:
    """``x * log(x / y)``: 0 where ``x`` is 0 and ``y`` is not negative, inf where either is negative."""
    a, b = promoted(as_float("rel_entr", x), as_float("rel_entr", y))
    inside = logical_and(a > 0, b > 0)
    safe_a, safe_b = where(inside, a, 1), where(inside, b, 1)
    outside = where(logical_and(equal(a, 0), b >= 0), 0, float("inf"))
    return where(inside, safe_a * log(safe_a / safe_b), where(isnan(a + b), a + b, outside))
