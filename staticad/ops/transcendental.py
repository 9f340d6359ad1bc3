"""Exponentials, logarithms, powers, circular and hyperbolic functions; knows arithmetic, but no special function."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# (the entries' lambdas take as many operands as their op, which `Callable[..., T]` cannot tell)

from __future__ import annotations

from collections.abc import Iterable
from math import log as ln
from typing import Any

import numpy as np

from staticad.ir import Node
from staticad.ops.arithmetic import abs_, sqrt
from staticad.ops.creation import fill
from staticad.ops.logic import equal, less, less_equal, logical_and, select
from staticad.ops.pointwise import PLAIN, POSITIVE, SPECIAL, Scale, both, by_kind, diagonal, floats, whole
from staticad.ops.rules import elementwise, zeros_like

# fmt: off
UNIT   = (-0.9, -0.5, -0.1, 0.2, 0.6, 0.95)
ABOVE1 = (1.05, 1.5, 3.0, 40.0)
SHORT  = (*SPECIAL[:9], 2.5, -7.0, 300.0, -300.0)  # arguments up to where one step of rounding still matters little
WAVES  = floats(UNIT, special=SHORT)
ABOVE0 = floats(POSITIVE)
LN2    = ln(2.0)
LOG2E, LOG10E = 1 / ln(2.0), 1 / ln(10.0)
LARGE  = 2.0**27  # from here on x**2 + 1 is x**2 to the last bit, in either dtype
# fmt: on


def _pow_scales(out: Node, x: Node, y: Node) -> tuple[Scale, Scale]:
    """PyTorch's: ``x**0`` is constant even at 0, and ``0**y`` is constant wherever it is finite."""
    zero = zeros_like(x)
    by_base = y * pow_(x, y - 1)
    by_exponent = select(logical_and(equal(x, zero), less_equal(zero, y)), zero, out * log(x))
    return lambda v: select(equal(y, zero), zeros_like(v), v * by_base), lambda v: v * by_exponent


def _atan2_partials(out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    """Zero at the origin, as in PyTorch."""
    squares = x * x + y * y
    inverse = select(equal(squares, zeros_like(x)), zeros_like(x), 1 / squares)
    return y * inverse, -(x * inverse)


def _above(x: Node, root: Node) -> Node:
    """``root``, which is ``sqrt(x**2 + 1)`` or ``sqrt(x**2 - 1)``: of large x, whose square may overflow, x itself."""
    return select(less(fill(x, LARGE), x), x, root)


def _logaddexp_partials(out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    return 1 / (1 + exp(y - x)), 1 / (1 + exp(x - y))


def _exponents(dtype: np.dtype[Any]) -> Iterable[int]:
    return (0, 1, 2, 3, 5, 7)  # NumPy raises on negative ones, and so does the kernel


# fmt: off
exp   = elementwise("exp",   np.exp,   "m.exp({x})",   lambda out, x: (out,),       cost=20, examples=floats(PLAIN),
                    laws=("signless",))
exp2  = elementwise("exp2",  np.exp2,  "m.exp2({x})",  lambda out, x: (LN2 * out,), cost=20, examples=floats(PLAIN),
                    laws=("signless",))
expm1 = elementwise("expm1", np.expm1, "m.expm1({x})", lambda out, x: (out + 1,),   cost=20, examples=floats(PLAIN))

log   = elementwise("log",   np.log,   "m.log({x})",   lambda out, x: (1 / x,),          cost=20, examples=ABOVE0)
log2  = elementwise("log2",  np.log2,  "m.log2({x})",  lambda out, x: (LOG2E / x,),  cost=20, examples=ABOVE0)
log10 = elementwise("log10", np.log10, "m.log10({x})", lambda out, x: (LOG10E / x,), cost=20, examples=ABOVE0)
log1p = elementwise("log1p", np.log1p, "m.log1p({x})", lambda out, x: (1 / (1 + x),),    cost=20, examples=floats(UNIT))

sin = elementwise("sin", np.sin, "m.sin({x})", lambda out, x: (cos(x),),       cost=20, examples=WAVES)
cos = elementwise("cos", np.cos, "m.cos({x})", lambda out, x: (-sin(x),),      cost=20, examples=WAVES)
tan = elementwise("tan", np.tan, "m.tan({x})", lambda out, x: (1 + out * out,), cost=30, examples=WAVES)

# Of few rounding errors where x**2 is near 1, and so is its derivative where x is near 0.
one_minus_square = elementwise("one_minus_square", lambda x: (1 - x) * (1 + x), "(({t}(1) - {x}) * ({t}(1) + {x}))",
                               lambda out, x: (-2 * x,), cost=3, examples=floats(UNIT))
asin = elementwise("asin", np.arcsin, "m.asin({x})", lambda out, x: (1 / sqrt(one_minus_square(x)),),
                   cost=20, examples=floats(UNIT))
acos = elementwise("acos", np.arccos, "m.acos({x})", lambda out, x: (-1 / sqrt(one_minus_square(x)),),
                   cost=20, examples=floats(UNIT))
atan = elementwise("atan", np.arctan, "m.atan({x})", lambda out, x: (1 / (1 + x * x),), cost=20, examples=floats(PLAIN))

sinh  = elementwise("sinh", np.sinh, "m.sinh({x})", lambda out, x: (cosh(x),),        cost=30, examples=floats(PLAIN))
cosh  = elementwise("cosh", np.cosh, "m.cosh({x})", lambda out, x: (sinh(x),),        cost=30, examples=floats(PLAIN))
tanh  = elementwise("tanh", np.tanh, "m.tanh({x})", lambda out, x: (1 - out * out,), cost=20, examples=floats(PLAIN))
asinh = elementwise("asinh", np.arcsinh, "m.asinh({x})", lambda out, x: (1 / _above(abs_(x), sqrt(1 + x * x)),),
                    cost=30, examples=floats(PLAIN))
acosh = elementwise("acosh", np.arccosh, "m.acosh({x})", lambda out, x: (1 / _above(x, sqrt((x - 1) * (x + 1))),),
                    cost=30, examples=floats(ABOVE1))
atanh = elementwise("atanh", np.arctanh, "m.atanh({x})", lambda out, x: (1 / one_minus_square(x),),
                    cost=30, examples=floats(UNIT))

atan2 = elementwise("atan2", np.arctan2, "m.atan2({x}, {y})", _atan2_partials, cost=30, examples=floats(PLAIN, PLAIN))
pow_  = diagonal("pow", np.power, by_kind(f="m.pow({x}, {y})", iu="m.integer_pow({x}, {y})"), _pow_scales,
                 kinds="iuf", cost=40, examples=both(floats(POSITIVE, PLAIN), whole(2, last=_exponents)))
logaddexp = elementwise("logaddexp", np.logaddexp, "m.logaddexp({x}, {y})", _logaddexp_partials,
                        cost=40, examples=floats(PLAIN, UNIT))
# fmt: on
