"""Arithmetic, rounding, signs, extrema and roots; knows comparisons and choice, but no transcendental function."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# (the entries' lambdas take as many operands as their op, which `Callable[..., T]` cannot tell)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from staticad.ir import Law, Node, Op
from staticad.ops.creation import fill
from staticad.ops.logic import equal, greater, less, less_equal, select
from staticad.ops.pointwise import PLAIN, POSITIVE, both, by_kind, diagonal, floats, whole
from staticad.ops.rules import elementwise, zeros_like

# fmt: off
OTHERS           = (-3.1, -0.7, 0.55, 2.2)  # further from every PLAIN point than a finite difference: no ties
NUMBERS          = both(floats(PLAIN), whole(1))
PAIRS            = both(floats(PLAIN, OTHERS), whole(2))
NUMBERS_OR_BOOLS = both(floats(PLAIN), whole(1, boolean=True))
PAIRS_OR_BOOLS   = both(floats(PLAIN, OTHERS), whole(2, boolean=True))
# fmt: on


def _itself(v: Node) -> Node:
    return v


def _negated(v: Node) -> Node:
    return negative(v)


def _steps(name: str, meaning: Callable[..., Any]) -> Op:
    """A function constant between steps: its derivative vanishes, and integers are left as they are."""
    template = by_kind(f=f"m.{name}({{x}})", iu="{x}")
    laws: tuple[Law, ...] = ("idempotent",)
    return elementwise(name, meaning, template, lambda out, x: (None,), kinds="iuf", examples=NUMBERS, laws=laws)


def _extremum(name: str, meaning: Callable[..., Any], boolean: str, loses: Op) -> Op:
    """Ties share the derivative half and half; where an operand is nan both get it whole, as in PyTorch."""

    def share(x: Node, y: Node) -> Callable[[Node], Node]:
        return lambda v: select(loses(x, y), zeros_like(v), select(equal(x, y), v * 0.5, v))

    def scales(out: Node, x: Node, y: Node) -> tuple[Callable[[Node], Node], ...]:
        return share(x, y), share(y, x)

    template = by_kind(b=boolean, iuf=f"m.{name}({{x}}, {{y}})")
    laws: tuple[Law, ...] = ("exact", "selective")
    return diagonal(name, meaning, template, scales, kinds="biuf", examples=PAIRS_OR_BOOLS, laws=laws)


def _hypot_partials(out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    """Zero at the origin, with their derivatives, as that of ``abs`` is."""
    origin = equal(out, zeros_like(out))
    size = select(origin, fill(out, 1), out)
    return select(origin, zeros_like(x), x / size), select(origin, zeros_like(y), y / size)


# fmt: off
add      = diagonal("add", np.add, by_kind(b="({x} | {y})", iuf="({x} + {y})"),
                    lambda out, x, y: (_itself, _itself), kinds="biuf", examples=PAIRS_OR_BOOLS,
                    laws=("commutative", "exact"))
subtract = diagonal("subtract", np.subtract, "({x} - {y})",
                    lambda out, x, y: (_itself, _negated), kinds="iuf", examples=PAIRS, laws=("exact",))
negative = diagonal("negative", np.negative, "(-{x})",
                    lambda out, x: (_negated,), kinds="iuf", examples=NUMBERS, laws=("exact", "involution"))
divide   = diagonal("divide", np.divide, "({x} / {y})",
                    lambda out, x, y: (lambda v: v / y, lambda v: -(out * (v / y))),
                    cost=4, examples=floats(PLAIN, OTHERS), laws=("exact",))
multiply = elementwise("multiply", np.multiply, by_kind(b="({x} & {y})", iuf="({x} * {y})"),
                       lambda out, x, y: (y, x), kinds="biuf", examples=PAIRS_OR_BOOLS, laws=("commutative", "exact"))
square   = elementwise("square", np.square, "({x} * {x})",
                       lambda out, x: (2 * x,), kinds="iuf", examples=NUMBERS, laws=("exact", "signless"))

reciprocal = elementwise("reciprocal", np.reciprocal, "({t}(1) / {x})",
                         lambda out, x: (-(out * out),), cost=4, examples=floats(PLAIN), laws=("exact",))
floor_divide = elementwise("floor_divide", np.floor_divide,
                           by_kind(f="m.floor_divide_real({x}, {y})", iu="m.floor_divide({x}, {y})"),
                           lambda out, x, y: (None, None), kinds="iuf", cost=20, examples=PAIRS)
remainder = elementwise("remainder", np.remainder,
                        by_kind(f="m.remainder_real({x}, {y})", iu="m.remainder({x}, {y})"),
                        lambda out, x, y: (fill(x, 1), -floor_divide(x, y)), kinds="iuf", cost=20, examples=PAIRS)

floor  = _steps("floor", np.floor)
ceil   = _steps("ceil",  np.ceil)
trunc  = _steps("trunc", np.trunc)
round_ = _steps("round", np.round)

sign = elementwise("sign", np.sign, "m.sign({x})", lambda out, x: (None,), kinds="iuf", cost=2, examples=NUMBERS,
                   laws=("idempotent",))
abs_ = elementwise("abs", np.abs, by_kind(f="m.fabs({x})", i="abs({x})", bu="{x}"),
                   lambda out, x: (sign(x),), kinds="biuf", examples=NUMBERS_OR_BOOLS, laws=("exact", "idempotent"))
copysign = elementwise("copysign", np.copysign, "m.copysign({x}, {y})",
                       lambda out, x, y: (sign(x) * copysign(fill(x, 1), y), None), examples=floats(PLAIN, OTHERS))
nextafter = elementwise("nextafter", np.nextafter, "m.nextafter({x}, {y})",
                        lambda out, x, y: (fill(x, 1), None), cost=20, examples=floats(PLAIN, OTHERS))

maximum = _extremum("maximum", np.maximum, "({x} | {y})", less)
minimum = _extremum("minimum", np.minimum, "({x} & {y})", greater)
relu = diagonal("relu", lambda x: np.maximum(x, 0), "m.maximum({x}, {t}(0))",
                lambda out, x: (lambda v: select(less_equal(out, fill(out, 0)), zeros_like(v), v),),
                kinds="iuf", examples=NUMBERS, laws=("idempotent",))

sqrt  = elementwise("sqrt", np.sqrt, "m.sqrt({x})", lambda out, x: (0.5 / out,), cost=4, examples=floats(POSITIVE),
                    laws=("exact",))
cbrt  = elementwise("cbrt", np.cbrt, "m.cbrt({x})", lambda out, x: (1 / (3 * out * out),),
                    cost=20, examples=floats(PLAIN))
hypot = elementwise("hypot", np.hypot, "m.hypot({x}, {y})",
                    _hypot_partials, cost=20, examples=floats(PLAIN, OTHERS))
# fmt: on


def _with_constant(op: Op, *, swap: bool = False) -> Callable[[Node, Any], Node]:
    """``op`` on a node and a node or number, the number first if ``swap``."""

    def apply(x: Node, y: Any) -> Node:
        other = y if isinstance(y, Node) else fill(x, y)
        return op(other, x) if swap else op(x, other)

    return apply


Node.arithmetic.update(
    add=_with_constant(add),
    sub=_with_constant(subtract),
    mul=_with_constant(multiply),
    div=_with_constant(divide),
    radd=_with_constant(add, swap=True),
    rsub=_with_constant(subtract, swap=True),
    rmul=_with_constant(multiply, swap=True),
    rdiv=_with_constant(divide, swap=True),
    neg=lambda x, _: negative(x),
    fill=fill,
)
