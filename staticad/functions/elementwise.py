"""Functions of one element of each operand: the array API's, and what NumPy and PyTorch users expect beside them.

Operands are promoted by the rules of the NumPy ufunc of the same meaning (Python scalars are weak) and broadcast; knows
no derivatives.

>>> import staticad as ad
>>> x = ad.input("x", ("n", 3), dtype="float32")
>>> ad.sin(x) + 1
Tensor(f32[n, 3])
>>> ad.add(x, ad.ones(4))
Traceback (most recent call last):
...
staticad.errors.ShapeError: add: f32[n, 3] and f64[4]: 3 != 4
"""

# ruff: noqa: A001, A002, E501  (the array API's names are Python's; the table is aligned)

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Protocol

import numpy as np

from staticad.dtypes import as_dtype, bool_
from staticad.errors import GraphError
from staticad.functions.operands import (
    as_float,
    as_tensor,
    common_dtype,
    convert,
    is_scalar,
    operands,
    resolve,
)
from staticad.ir import Op
from staticad.ops import arithmetic, logic, special, transcendental
from staticad.tensor import ArrayLike, DType, Tensor, wrap


class Unary(Protocol):
    """A function of one tensor."""

    def __call__(self, x: ArrayLike, /) -> Tensor: ...


class Binary(Protocol):
    """A function of two tensors, which are promoted and broadcast."""

    def __call__(self, x1: ArrayLike, x2: ArrayLike, /) -> Tensor: ...


def unary(name: str, op: Op, ufunc: np.ufunc, meaning: str, *, same: str = "") -> Unary:
    """The public function of a one-operand op, typed by ``ufunc``; the identity for the dtype kinds in ``same``."""

    def function(x: ArrayLike, /) -> Tensor:
        t = as_tensor(x)
        if t.dtype.kind in same:
            return t
        return wrap(op(convert(t.node, resolve(name, ufunc, (t,))[0])))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{meaning}, of each element."
    return function


def binary(name: str, op: Op, ufunc: np.ufunc, meaning: str) -> Binary:
    """The public function of a two-operand op, typed by ``ufunc``."""

    def function(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
        first, second, _ = resolve(name, ufunc, (x1, x2))
        if first != second:
            first = second = common_dtype(x1, x2)
        return wrap(op(*operands(name, (x1, x2), (first, second))))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{meaning}, of elements that stand together."
    return function


def logical(name: str, op: Op, meaning: str) -> Callable[..., Tensor]:
    """The public function of an op on booleans: any operand counts as true where it is not zero."""

    def function(*xs: ArrayLike) -> Tensor:
        resolve(name, np.logical_and, (xs[0], xs[-1]))
        return wrap(op(*operands(name, xs, [bool_] * len(xs))))

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"{meaning}."
    return function


# fmt: off
abs      = unary("abs",      arithmetic.abs_,      np.absolute, "The absolute value |x|; its derivative at 0 is 0", same="bu")
acos     = unary("acos",     transcendental.acos,     np.arccos,   "The angle in [0, pi] whose cosine is x")
acosh    = unary("acosh",    transcendental.acosh,    np.arccosh,  "The inverse of cosh, not negative")
asin     = unary("asin",     transcendental.asin,     np.arcsin,   "The angle in [-pi/2, pi/2] whose sine is x")
asinh    = unary("asinh",    transcendental.asinh,    np.arcsinh,  "The inverse of sinh")
atan     = unary("atan",     transcendental.atan,     np.arctan,   "The angle in [-pi/2, pi/2] whose tangent is x")
atanh    = unary("atanh",    transcendental.atanh,    np.arctanh,  "The inverse of tanh")
cbrt     = unary("cbrt",     arithmetic.cbrt,     np.cbrt,     "The cube root")
ceil     = unary("ceil",     arithmetic.ceil,     np.ceil,     "The least integer not below x, in x's dtype", same="biu")
cos      = unary("cos",      transcendental.cos,      np.cos,      "The cosine of x radians")
cosh     = unary("cosh",     transcendental.cosh,     np.cosh,     "The hyperbolic cosine")
digamma  = unary("digamma",  special.digamma,  np.sin,      "The derivative of lgamma")
erf      = unary("erf",      special.erf,      np.sin,      "The error function 2/sqrt(pi) * integral of exp(-t**2) from 0 to x")
erfc     = unary("erfc",     special.erfc,     np.sin,      "1 - erf(x), exact where erf(x) is near 1")
exp      = unary("exp",      transcendental.exp,      np.exp,      "e**x")
exp2     = unary("exp2",     transcendental.exp2,     np.exp2,     "2**x")
expm1    = unary("expm1",    transcendental.expm1,    np.expm1,    "e**x - 1, exact near 0")
floor    = unary("floor",    arithmetic.floor,    np.floor,    "The greatest integer not above x, in x's dtype", same="biu")
lgamma   = unary("lgamma",   special.lgamma,   np.sin,      "log |gamma(x)|")
log      = unary("log",      transcendental.log,      np.log,      "The natural logarithm")
log10    = unary("log10",    transcendental.log10,    np.log10,    "The logarithm to base 10")
log1p    = unary("log1p",    transcendental.log1p,    np.log1p,    "log(1 + x), exact near 0")
log2     = unary("log2",     transcendental.log2,     np.log2,     "The logarithm to base 2")
negative = unary("negative", arithmetic.negative, np.negative, "-x")
sigmoid  = unary("sigmoid",  special.sigmoid,  np.sin,      "The logistic function 1 / (1 + exp(-x))")
sign     = unary("sign",     arithmetic.sign,     np.sign,     "-1, 0 or 1 as x is negative, 0 or positive; nan stays")
sin      = unary("sin",      transcendental.sin,      np.sin,      "The sine of x radians")
sinh     = unary("sinh",     transcendental.sinh,     np.sinh,     "The hyperbolic sine")
softplus = unary("softplus", special.softplus, np.sin,      "log(1 + exp(x)), which does not overflow")
sqrt     = unary("sqrt",     arithmetic.sqrt,     np.sqrt,     "The square root")
square   = unary("square",   arithmetic.square,   np.square,   "x * x")
tan      = unary("tan",      transcendental.tan,      np.tan,      "The tangent of x radians")
tanh     = unary("tanh",     transcendental.tanh,     np.tanh,     "The hyperbolic tangent")
trunc    = unary("trunc",    arithmetic.trunc,    np.trunc,    "The integer part of x, in x's dtype", same="biu")

logical_not: Unary  = logical("logical_not", logic.logical_not, "Whether x is zero or False")
bitwise_invert = unary("bitwise_invert", logic.bitwise_invert, np.invert,      "The bits of x inverted; not, of booleans")
isfinite       = unary("isfinite",       logic.isfinite, np.isfinite, "Whether x is neither infinite nor nan")
isinf          = unary("isinf",          logic.isinf,    np.isinf,    "Whether x is infinite, of either sign")
isnan          = unary("isnan",          logic.isnan,    np.isnan,    "Whether x is nan")
signbit        = unary("signbit",        logic.signbit,        np.signbit,     "Whether the sign bit is set, as in -0.0")

add            = binary("add",            arithmetic.add,            np.add,            "x1 + x2")
atan2          = binary("atan2",          transcendental.atan2,          np.arctan2,        "The angle of the point (x2, x1), in [-pi, pi]")
copysign       = binary("copysign",       arithmetic.copysign,       np.copysign,       "|x1| with the sign of x2")
divide         = binary("divide",         arithmetic.divide,         np.true_divide,    "x1 / x2; integers give float64")
floor_divide   = binary("floor_divide",   arithmetic.floor_divide,   np.floor_divide,   "x1 / x2 rounded down")
hypot          = binary("hypot",          arithmetic.hypot,          np.hypot,          "sqrt(x1**2 + x2**2), without overflow")
logaddexp      = binary("logaddexp",      transcendental.logaddexp,      np.logaddexp,      "log(exp(x1) + exp(x2)), without overflow")
maximum        = binary("maximum",        arithmetic.maximum,        np.maximum,        "The greater of two; nan wins; a tie shares the gradient")
minimum        = binary("minimum",        arithmetic.minimum,        np.minimum,        "The lesser of two; nan wins; a tie shares the gradient")
multiply       = binary("multiply",       arithmetic.multiply,       np.multiply,       "x1 * x2")
nextafter      = binary("nextafter",      arithmetic.nextafter,      np.nextafter,      "The next number after x1 towards x2")
remainder      = binary("remainder",      arithmetic.remainder,      np.remainder,      "x1 - floor(x1 / x2) * x2, with the sign of x2")
subtract       = binary("subtract",       arithmetic.subtract,       np.subtract,       "x1 - x2")

bitwise_and         = binary("bitwise_and",         logic.bitwise_and,         np.bitwise_and, "The bits set in both")
bitwise_or          = binary("bitwise_or",          logic.bitwise_or,          np.bitwise_or,  "The bits set in either")
bitwise_xor         = binary("bitwise_xor",         logic.bitwise_xor,         np.bitwise_xor, "The bits set in one only")
bitwise_left_shift  = binary("bitwise_left_shift",  logic.bitwise_left_shift,  np.left_shift,  "x1 * 2**x2")
bitwise_right_shift = binary("bitwise_right_shift", logic.bitwise_right_shift, np.right_shift, "x1 // 2**x2")
logical_and: Binary = logical("logical_and", logic.logical_and, "Whether both are true")
logical_or: Binary = logical("logical_or", logic.logical_or, "Whether one is true")
logical_xor: Binary = logical("logical_xor", logic.logical_xor, "Whether one alone is true")

equal         = binary("equal",         logic.equal,         np.equal,         "x1 == x2")
greater       = binary("greater",       logic.greater,       np.greater,       "x1 > x2")
greater_equal = binary("greater_equal", logic.greater_equal, np.greater_equal, "x1 >= x2")
less          = binary("less",          logic.less,          np.less,          "x1 < x2")
less_equal    = binary("less_equal",    logic.less_equal,    np.less_equal,    "x1 <= x2")
not_equal     = binary("not_equal",     logic.not_equal,     np.not_equal,     "x1 != x2")
# fmt: on


def positive(x: ArrayLike, /) -> Tensor:
    """``x`` itself, as another tensor."""
    return wrap(as_tensor(x).node)


def reciprocal(x: ArrayLike, /) -> Tensor:
    """``1 / x``; of integers in float64."""
    t = as_tensor(x)
    return wrap(arithmetic.reciprocal(t.node)) if t.dtype.kind == "f" else divide(1, t)


def pow(x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """``x1 ** x2``; its derivatives at 0 are PyTorch's (``0**0`` has derivative 0 by ``x1``)."""
    base = as_tensor(x1) if not is_scalar(x1) else None
    if base is not None and is_scalar(x2) and x2 == 2 and (isinstance(x2, int) or base.dtype.kind == "f"):
        return square(base)
    return _power(x1, x2)


_power = binary("pow", transcendental.pow_, np.power, "x1 ** x2")


def divmod(x1: ArrayLike, x2: ArrayLike, /) -> tuple[Tensor, Tensor]:
    """``(x1 // x2, x1 % x2)``."""
    return floor_divide(x1, x2), remainder(x1, x2)


def astype(x: ArrayLike, dtype: DType, /, *, copy: bool = True) -> Tensor:
    """``x`` in another dtype, converted as NumPy does (floats to integers towards zero, to bool by ``x != 0``)."""
    t = as_tensor(x)
    return wrap(convert(t.node, as_dtype(dtype, "astype")))


def round(x: ArrayLike, /, decimals: int = 0) -> Tensor:
    """``x`` rounded to ``decimals`` places, halves to even; its derivative is 0."""
    t = as_tensor(x)
    if t.dtype.kind in "biu":
        if decimals >= 0:
            return t
        return astype(multiply(round(divide(t, 10**-decimals)), 10**-decimals), t.dtype)
    if decimals == 0:
        return wrap(arithmetic.round_(t.node))
    scale = 10.0 ** math.fabs(decimals)
    if decimals > 0:
        return divide(wrap(arithmetic.round_(multiply(t, scale).node)), scale)
    return multiply(wrap(arithmetic.round_(divide(t, scale).node)), scale)


def where(condition: ArrayLike, x1: ArrayLike, x2: ArrayLike, /) -> Tensor:
    """``x1`` where ``condition`` is true, else ``x2``. No gradient reaches the branch that is not taken, not even
    nan.
    """
    dtype = common_dtype(x1, x2)
    return wrap(logic.select(*operands("where", (condition, x1, x2), (bool_, dtype, dtype))))


def clip(x: ArrayLike, /, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor:
    """``x`` with what is below ``min`` raised to it, and what is above ``max`` lowered to it.

    The derivative is 1 inside and at the bounds, 0 outside, as PyTorch's.
    """
    dtype = common_dtype(x, *(bound for bound in (min, max) if bound is not None))
    out = astype(x, dtype)
    if min is not None:
        out = where(_beyond(less(out, min), min), min, out)
    if max is not None:
        out = where(_beyond(greater(out, max), max), max, out)
    return out


def _beyond(outside: Tensor, bound: ArrayLike) -> Tensor:
    # A nan wins as a bound too, as in NumPy; a Python number is taken at its word.
    return outside if is_scalar(bound) or as_tensor(bound).dtype.kind != "f" else logical_or(outside, isnan(bound))


def relu(x: ArrayLike, /) -> Tensor:
    """``max(x, 0)``; its derivative at 0 is 0."""
    t = as_tensor(x)
    return wrap(arithmetic.relu(t.node)) if t.dtype.kind == "f" else maximum(t, 0)


def silu(x: ArrayLike, /) -> Tensor:
    """``x * sigmoid(x)``, also called swish."""
    t = as_float("silu", x)
    return t * sigmoid(t)


def gelu(x: ArrayLike, /, *, approximate: str = "none") -> Tensor:
    """``x * Phi(x)``, Phi the normal distribution function: exact, or by tanh (``approximate="tanh"``).

    Hendrycks and Gimpel 2016, "Gaussian Error Linear Units".
    """
    t = as_float("gelu", x)
    if approximate == "none":
        return 0.5 * t * erfc(t * -math.sqrt(0.5))
    if approximate == "tanh":
        return 0.5 * t * (1 + tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t * t * t)))
    raise GraphError(f"gelu: approximate is 'none' or 'tanh', not {approximate!r}")


def polygamma(n: int, x: ArrayLike, /) -> Tensor:
    """Derivative number ``n + 1`` of `lgamma`: ``polygamma(0, x)`` is `digamma`."""
    t = as_float("polygamma", x)
    return digamma(t) if n == 0 else wrap(special.polygamma(t.node, n=n))
