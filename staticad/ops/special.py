"""Special functions and the smooth activations; knows the transcendental functions their derivatives need."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# (the entries' lambdas take as many operands as their op, which `Callable[..., T]` cannot tell)

from __future__ import annotations

from math import pi, sqrt
from typing import Any

import numpy as np

from staticad.errors import DTypeError, GraphError
from staticad.ir import ArrayType, Node
from staticad.ops.pointwise import PLAIN, both, floats
from staticad.ops.rules import elementwise, floating_only
from staticad.ops.transcendental import exp

Array = np.ndarray[Any, Any]

# fmt: off
GAMMA   = (-2.6, -1.4, -0.3, 0.2, 0.75, 1.3, 2.5, 12.0)
SPECIAL_GAMMA = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 2.0, 3.0, -1.0, -2.0, 0.5, -0.5, 1e-30, 1e30)
# fmt: on


def _sigmoid(x: Array) -> Array:
    decay = np.exp(-np.abs(x))
    return np.where(x >= 0, np.ones_like(x), decay) / (1 + decay)


def _softplus(x: Array) -> Array:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


# SciPy takes a quarter of a second to import, and only the interpreter needs it: hence inside the functions.
def _erf(x: Array) -> Array:
    from scipy.special import erf as meaning

    return meaning(x)


def _erfc(x: Array) -> Array:
    from scipy.special import erfc as meaning

    return meaning(x)


def _lgamma(x: Array) -> Array:
    from scipy.special import gammaln

    return np.where(np.isneginf(x), -x, gammaln(x))  # C and PyTorch have inf there, SciPy -inf


def _digamma(x: Array) -> Array:
    from scipy.special import psi

    return psi(x)


def _polygamma(x: Array, *, n: int) -> Array:
    from scipy.special import polygamma as meaning  # pyright: ignore[reportUnknownVariableType]

    return np.asarray(meaning(n, x), x.dtype)  # SciPy answers in float64 whatever it is asked in


def _polygamma_type(x: ArrayType, *, n: int) -> ArrayType:
    floating_only("polygamma", x)
    if not isinstance(n, int) or isinstance(n, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise DTypeError(f"polygamma: the order n must be an integer known when the graph is built, not {n!r}")
    if n < 0:
        raise GraphError(f"polygamma: the order n of polygamma({x}) must not be negative, got {n}")
    return x


def _polygamma_code(node: Node) -> str:
    n: int = node.params["n"]
    return {0: "m.digamma({x})", 1: "m.trigamma({x})"}.get(n, f"m.polygamma({n:d}, {{x}})")


# fmt: off
sigmoid  = elementwise("sigmoid", _sigmoid, "m.sigmoid({x})", lambda out, x: (out * (1 - out),),
                       cost=25, examples=floats(PLAIN), laws=("signless",))
softplus = elementwise("softplus", _softplus, "m.softplus({x})", lambda out, x: (sigmoid(x),),
                       cost=45, examples=floats(PLAIN), laws=("signless",))

erf  = elementwise("erf", _erf, "m.erf({x})", lambda out, x: (2 / sqrt(pi) * exp(-(x * x)),),
                   cost=30, examples=floats(PLAIN))
erfc = elementwise("erfc", _erfc, "m.erfc({x})", lambda out, x: (-2 / sqrt(pi) * exp(-(x * x)),),
                   cost=30, examples=floats(PLAIN))

lgamma    = elementwise("lgamma", _lgamma, "m.lgamma({x})", lambda out, x: (digamma(x),),
                        cost=60, examples=floats(GAMMA, special=SPECIAL_GAMMA))
digamma   = elementwise("digamma", _digamma, "m.digamma({x})", lambda out, x: (polygamma(x, n=1),),
                        cost=60, examples=floats(GAMMA, special=SPECIAL_GAMMA))
polygamma = elementwise("polygamma", _polygamma, _polygamma_code, lambda out, x, *, n: (polygamma(x, n=n + 1),),
                        infer=_polygamma_type, cost=100,
                        examples=both(*(floats(GAMMA, special=SPECIAL_GAMMA, n=n) for n in (0, 1, 2, 3))))
# fmt: on
