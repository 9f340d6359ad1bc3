"""Remainders, floored quotients and neighbours of reals, to the bit; knows the arithmetic of `traced`.

The integer part of a quotient below ``2**mantissa`` is at most one too large, and what it leaves of ``x`` is a
number of the dtype: one fma gives it exactly. Larger quotients are left to C's fmod, apart from the vectorised path.
"""

# pyright: basic, reportReturnType=false

from __future__ import annotations

import numpy as np

from staticad.runtime.kernels.traced import Value, bits, copysign, fabs, fma, rarely, real, select, traced


def fmod(x: Value, y: Value) -> Value:
    """``x - y * trunc(x / y)``, exactly, with the sign of ``x``."""
    a, b = fabs(x), fabs(y)
    quotient, limit = a / b, 2.0**52 if x.double else 2.0**23
    rest = fma(-quotient.call("floor"), b, a)
    rest = select(a < b, a, select(rest < 0.0, rest + b, rest))
    far = rarely("fmod", quotient, limit, lambda q, x, y: Value(x.builder, x.builder.frem(x.llvm, y.llvm)), x, y)
    return select(quotient <= limit, copysign(rest, x), far)


def plain_floor_divide(x, y):
    return np.floor_divide(x, y)


def plain_remainder(x, y):
    return np.remainder(x, y)


@traced(plain_floor_divide, operands=2)
def floor_divide_real(x: Value, y: Value) -> Value:
    """``floor(x / y)`` by way of the exact remainder, as NumPy and Python have it: ``1 // 0.1`` is 9."""
    rest = fmod(x, y)
    whole = (x - rest) / y
    below = ((rest < 0.0) ^ (y < 0.0)) & (rest.equals(0.0) ^ 1)
    whole = whole - select(below, x.of(1.0), 0.0)
    down = whole.call("floor")
    down = down + select(whole - down > 0.5, x.of(1.0), 0.0)
    down = select(whole.equals(0.0), copysign(x.of(0.0), x / y), down)
    return select(y.equals(0.0), x / y, down)


@traced(plain_remainder, operands=2)
def remainder_real(x: Value, y: Value) -> Value:
    """What ``floor_divide_real`` leaves: exact, with the sign of the divisor; nan where that is 0."""
    rest = fmod(x, y)
    signed = select((rest < 0.0) ^ (y < 0.0), rest + y, rest)
    return select(rest.equals(0.0), copysign(x.of(0.0), y), signed)


@traced(np.nextafter, operands=2)
def nextafter(x: Value, y: Value) -> Value:
    """The number of the dtype next to ``x`` on the way to ``y``."""
    away = (y > x) ^ (x < 0.0)
    beside = real(bits(x) + select(away, bits(x).of(1), -1))
    out = select(x.equals(0.0), copysign(real(bits(x).of(1)), y), beside)
    return select(x.equals(y), y, select((x < y) | (x > y), out, x + y))
