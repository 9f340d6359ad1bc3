"""sin, cos, tan and their inverses; knows the arithmetic of `traced`.

An argument is reduced to ``r + rest`` in [-pi/4, pi/4] by subtracting ``n * pi/2`` in three parts with fma, the first
difference being exact (Cody and Waite). Beyond `Format.limit` the three parts do not reach; there the product with as
many bits of 2/pi as matter is done in integers (Payne and Hanek, 1983), apart from the vectorised path. Polynomials:
`benchmarks.accuracy.fit`.
"""

# pyright: basic, reportReturnType=false

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir

from staticad.runtime.kernels.traced import (
    F8,
    I64,
    Value,
    bits,
    fabs,
    fma,
    madd,
    polynomial,
    rarely,
    real,
    select,
    traced,
    two_sum,
)


class Format(NamedTuple):
    """What depends on the dtype."""

    magic: float  # 1.5 * 2**mantissa: adding it rounds to an integer and leaves that in the low bits
    sign: int  # how far the second lowest bit is from the highest
    limit: float
    half_pi: tuple[float, float, float]
    sin: tuple[float, ...]  # (sin(r) / r - 1) / r**2 of r**2
    cos: tuple[float, ...]  # (cos(r) - 1 + r**2 / 2) / r**4 of r**2


DOUBLE = Format(
    magic=1.5 * 2**52,
    sign=62,
    limit=2.0**40,
    half_pi=(1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33),
    sin=(
        1.5917988979397435e-10, -2.5051129896450185e-08, 2.7557316093198404e-06, -0.00019841269836740532,
        0.008333333333330936, -0.16666666666666666,
    ),
    cos=(
        -1.138254464534925e-11, 2.087614504941318e-09, -2.755731726587808e-07, 2.48015872987544e-05,
        -0.0013888888888887389, 0.041666666666666664,
    ),
)  # fmt: skip
SINGLE = Format(
    magic=1.5 * 2**23,
    sign=30,
    limit=2.0**17,
    half_pi=(1.5707963705062866, -4.371138828673793e-08, -1.7151245100058819e-15),
    sin=(-0.0001958763909873762, 0.00833274710466453, -0.16666664656312208),
    cos=(2.454768977246003e-05, -0.001388830186756237, 0.04166666465348879),
)
TWO_OVER_PI = 0.6366197723675814

# The first 1216 bits of 2/pi behind the point.
BITS = int(
    "a2f9836e4e441529fc2757d1f534ddc0db6295993c439041fe5163abdebbc561b7246e3a424dd2e006492eea09d1921cfe1deb1cb129a73e"
    "e88235f52ebb4484e99c7026b45f7e413991d639835339f49c845f8bbdf9283b1ff897ffde05980fef2f118b5a0a6d1f6d367ecf27cb09b7"
    "4f463f669e5fea2d7527bac7ebe5f17b3d0739f78a5292ea6bfb5fb11f8d5d0856033046fc7b6bab",
    16,
)


def form(x: Value) -> Format:
    return DOUBLE if x.double else SINGLE


def waves(r: Value, rest: Value) -> tuple[Value, Value]:
    """``sin(r + rest)`` and ``cos(r + rest)`` for small r and a rest that it would lose."""
    z = r * r
    half = 0.5 * z
    near = 1 - half
    sine = r + madd(r * z, polynomial(z, form(r).sin), rest)
    cosine = near + (((1 - near) - half) + madd(z * z, polynomial(z, form(r).cos), -(r * rest)))
    return sine, cosine


Pick = Callable[[Value, Value, Value], Value]


def sine_of(sine: Value, cosine: Value, n: Value, turn: int = 0) -> Value:
    """The sine ``n + turn`` quarters of a turn further on."""
    n = n + turn
    out = select((n & 1).equals(0), sine, cosine)
    return real(bits(out) ^ ((n & 2) << form(sine).sign))


def tangent_of(sine: Value, cosine: Value, n: Value) -> Value:
    even = (n & 1).equals(0)
    return select(even, sine, -cosine) / select(even, cosine, sine)


def wave(name: str, x: Value, pick: Pick) -> Value:
    its = form(x)
    rounded = madd(x, TWO_OVER_PI, its.magic)
    n = rounded - its.magic
    most = fma(n, -its.half_pi[0], x)
    next_ = n * its.half_pi[1]
    r, lost = two_sum(most, -next_)
    rest = madd(n, -its.half_pi[2], lost - fma(n, its.half_pi[1], -next_))
    out = pick(*waves(r, rest), bits(rounded))
    far = rarely(name, x, its.limit, lambda x: pick(*waves_far(x)))
    return select(fabs(x) <= its.limit, out, far)


def words(module: ir.Module) -> Any:
    """The bits of 2/pi as a table, in words of 64, behind a word of zeros."""
    name = "staticad.two_over_pi"
    if name not in module.globals:
        text = [0, *((BITS >> (64 * i)) & (2**64 - 1) for i in reversed(range(19))), 0]
        table = ir.GlobalVariable(module, ir.ArrayType(I64, len(text)), name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(table.value_type, [I64(word) for word in text])  # pyright: ignore[reportAttributeAccessIssue]
    return module.globals[name]


def waves_far(x: Value) -> tuple[Value, Value, Value]:
    """Sine and cosine of the remainder of ``x`` after ``n`` quarters of a turn, and n; any double from 2**13 up.

    ``x = mantissa * 2**e``; bits of 2/pi before ``2**(1 - e)`` make whole turns, and of those behind it 192 are enough:
    no double is closer to a multiple of pi/2 than 2**-62.
    """
    b, wide, window = x.builder, ir.IntType(192), ir.IntType(256)
    whole = bits(x)
    exponent = (whole >> 52) & 2047
    mantissa = (whole & (2**52 - 1)) | 2**52
    skip = select(exponent.equals(2047), 1075, exponent) - (1075 + 2 - 64)
    table = words(b.module)
    bitsum: Any = None
    for i in range(4):
        place = b.add(b.lshr(skip.llvm, I64(6)), I64(i))
        word = b.zext(b.load(b.gep(table, [I64(0), place], inbounds=True)), window)
        word = b.shl(word, window(64 * (3 - i)))
        bitsum = word if bitsum is None else b.or_(bitsum, word)
    bitsum = b.shl(bitsum, b.zext(b.and_(skip.llvm, I64(63)), window))
    chosen = b.trunc(b.lshr(bitsum, window(64)), wide)
    product = b.mul(b.zext(mantissa.llvm, wide), chosen)
    n = b.trunc(b.lshr(b.add(product, wide(1 << 189)), wide(190)), I64)
    rest = b.shl(product, wide(2))  # of a quarter, signed
    negative = b.icmp_signed("<", rest, wide(0))
    rest = b.select(negative, b.neg(rest), rest)
    high = b.trunc(b.lshr(rest, wide(128)), I64)
    zeros = Value(b, b.call(
        b.module.declare_intrinsic("llvm.ctlz", [I64], ir.FunctionType(I64, [I64, ir.IntType(1)])),
        [high, ir.IntType(1)(0)],
    ))  # fmt: skip
    rest = b.shl(rest, b.zext(zeros.llvm, wide))
    top = Value(b, b.uitofp(b.trunc(b.lshr(rest, wide(192 - 53)), I64), F8)) * 2.0**-53
    low = Value(b, b.uitofp(b.trunc(b.and_(b.lshr(rest, wide(192 - 106)), wide(2**53 - 1)), I64), F8)) * 2.0**-106
    scale = real((1023 - zeros) << 52)
    scale = select(Value(b, b.xor(negative, (x < 0.0).llvm)), -scale, scale)
    r = top * DOUBLE.half_pi[0]
    more = fma(top, DOUBLE.half_pi[0], -r) + (top * DOUBLE.half_pi[1] + low * DOUBLE.half_pi[0])
    nan = select(fabs(x) < np.inf, x.of(0.0), np.nan)
    turns = Value(b, b.select((x < 0.0).llvm, b.neg(n), n))
    return *waves(r * scale + nan, more * scale), turns


@traced(np.sin)
def sin(x: Value) -> Value:
    return select(fabs(x) < 1e-20, x, wave("sin_far", x, sine_of))


@traced(np.cos)
def cos(x: Value) -> Value:
    return wave("cos_far", x, partial(sine_of, turn=1))


@traced(np.tan)
def tan(x: Value) -> Value:
    return select(fabs(x) < 1e-20, x, wave("tan_far", x, tangent_of))
