"""Powers of constant exponents made of products and roots, each within the error of the kernel it saves; knows
ops, no loops."""

from __future__ import annotations

import math

from staticad.ir import Node
from staticad.ops import creation, logic
from staticad.ops.arithmetic import abs_, reciprocal, sqrt, square
from staticad.ops.creation import constant

#: ``x**n`` is multiplied out for n up to this: n - 1 roundings are at most 3.5 ulp, `pow` has 4.
MOST_FACTORS = 8
#: ``x**-n`` is ``(1 / x)**n`` for n up to this: 2 n - 1 roundings are at most 3.5 ulp.
MOST_DIVISORS = 4
#: ``x**(n + 0.5)`` is made of a root for n from -2 to 2: at most 2.5 ulp.
MOST_ROOTED = 2


def power_of_constant(node: Node) -> Node | None:
    """``x**n`` multiplied out: 1, x, ``x * x``, ``x * (x * x)``, ...; ``x**-n`` is that of ``1 / x``.

    As exact as a correctly rounded pow from -1 to 2, else within its 4 ulp; nothing overflows or vanishes before the
    result does. Integers are the same modulo their range."""
    x, exponent = node.args
    n = constant(exponent)
    if not isinstance(n, (int, float)) or n != math.floor(n) or n > MOST_FACTORS:
        return None
    if n == 0:
        return creation.fill(node, 1)
    if n < 0:
        floating = node.dtype.kind == "f" and -n <= MOST_DIVISORS
        return multiplied(reciprocal(x), int(-n)) if floating else None
    return multiplied(x, int(n))


def multiplied(x: Node, n: int) -> Node:
    """``x**n`` for n >= 1, by squaring."""
    if n == 1:
        return x
    half = square(multiplied(x, n // 2))
    return x * half if n % 2 else half


def power_of_half(node: Node) -> Node | None:
    """``x**0.5`` is a root, 0 of -0.0 and inf of -inf as pow has it; ``x**1.5`` is ``abs(x)`` times that, and so on."""
    x, exponent = node.args
    value = constant(exponent)
    if not isinstance(value, float) or not (value - 0.5).is_integer() or abs(value - 0.5) > MOST_ROOTED:
        return None
    n = int(value - 0.5)
    infinite = logic.equal(x, creation.fill(x, -math.inf))
    root = logic.select(infinite, creation.fill(x, math.inf), sqrt(x + 0.0))
    if n >= 0:
        return root if n == 0 else factor(x, n) * root
    root = reciprocal(root)
    return root if n == -1 else factor(reciprocal(x), -1 - n) * root


def factor(x: Node, n: int) -> Node:
    """``abs(x)**n`` for n of 1 or 2: a negative x has no root, and -0.0 and -inf have the power of 0.0 and inf."""
    return abs_(x) if n == 1 else square(x)


def abs_of_positive(node: Node) -> Node | None:
    """``abs`` of what has no sign, such as a square or an exponential, is that."""
    x = node.args[0]
    return x if "signless" in x.op.laws and x.dtype.kind == "f" else None
