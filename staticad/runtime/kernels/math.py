"""The scalar functions that generated code calls as ``m.name(...)``; knows kinds and LLVM, and nothing of graphs.

Each takes and gives scalars of one dtype and means what NumPy's (or SciPy's) function of that name means; integers
narrower than 64 bits may come back widened. The elementary and special functions are branch-free and live in modules
of their own; `polygamma` is a loop. With ``NUMBA_DISABLE_JIT=1`` those are NumPy's and SciPy's, and the bodies here run
as plain Python on NumPy's scalars.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.runtime import arithmetic
from staticad.runtime.codes import NEGATIVE_POWER, NEGATIVE_POWER_TEXT
from staticad.runtime.flow import unlikely
from staticad.runtime.kernels.angles import acos, asin, atan, atan2  # noqa: F401
from staticad.runtime.kernels.error import erf, erfc  # noqa: F401
from staticad.runtime.kernels.exact import floor_divide_real, nextafter, remainder_real  # noqa: F401
from staticad.runtime.kernels.exponential import cosh, exp, exp2, expm1, sigmoid, sinh, tanh  # noqa: F401
from staticad.runtime.kernels.gamma import digamma, lgamma, trigamma  # noqa: F401
from staticad.runtime.kernels.logarithm import (  # noqa: F401
    acosh,
    asinh,
    atanh,
    log,
    log1p,
    log2,
    log10,
    logaddexp,
    softplus,
)
from staticad.runtime.kernels.polygamma import polygamma  # noqa: F401
from staticad.runtime.kernels.powers import cbrt, hypot, pow  # noqa: A004, F401
from staticad.runtime.kernels.trigonometric import cos, sin, tan  # noqa: F401
from staticad.runtime.kernels.values import Value, direct
from staticad.runtime.kinds import Float, Integer, boolean, float64, int64


def real(walk: Any, x: Value) -> Value:
    """``x``, as a float."""
    return x if isinstance(x.kind, Float) else Value(float64, walk.cast(x, float64))


def intrinsic(walk: Any, name: str, *given: Value) -> Value:
    """LLVM's function ``name`` of floats of one kind."""
    kind, values = given[0].kind, [x.llvm for x in given]
    shape = ir.FunctionType(kind.value, [kind.value] * len(values))
    function = walk.builder.module.declare_intrinsic(f"llvm.{name}", [kind.value], shape)
    return Value(kind, walk.builder.call(function, values))


def rounded(python: Callable[..., Any], name: str) -> Any:
    @direct(python)
    def write(walk: Any, x: Value) -> Value:
        return intrinsic(walk, name, real(walk, x))

    return write


# fmt: off
fabs, sqrt   = rounded(np.fabs,  "fabs"),  rounded(np.sqrt, "sqrt")
floor, ceil  = rounded(np.floor, "floor"), rounded(np.ceil, "ceil")
trunc, round = rounded(np.trunc, "trunc"), rounded(np.rint, "rint")  # noqa: A001
# fmt: on


@direct(np.copysign)
def copysign(walk: Any, x: Value, y: Value) -> Value:
    kind = arithmetic.unified(real(walk, x).kind, real(walk, y).kind)
    return intrinsic(walk, "copysign", *(Value(kind, walk.cast(v, kind)) for v in (x, y)))


@direct(np.signbit)
def signbit(walk: Any, x: Value) -> Value:
    x = real(walk, x)
    bits = ir.IntType(x.kind.bitwidth)
    number = walk.builder.bitcast(x.llvm, bits)
    return Value(boolean, walk.builder.icmp_signed("<", number, bits(0)))


def against_infinity(python: Callable[..., Any], relation: str) -> Any:
    @direct(python)
    def write(walk: Any, x: Value) -> Value:
        size = intrinsic(walk, "fabs", real(walk, x))
        return Value(boolean, walk.builder.fcmp_ordered(relation, size.llvm, size.kind.constant(float("inf"))))

    return write


isinf, isfinite = against_infinity(np.isinf, "=="), against_infinity(np.isfinite, "<")


def extremum(python: Callable[..., Any], relation: str) -> Any:
    """NaN if either is; the first of equals."""

    @direct(python)
    def write(walk: Any, x: Value, y: Value) -> Value:
        kind = x.kind if x.kind == y.kind else arithmetic.unified(x.kind, y.kind)
        builder, values = walk.builder, [walk.cast(v, kind) for v in (x, y)]
        if isinstance(kind, Float):
            first = builder.fcmp_ordered(relation + "=", *values)
            first = builder.or_(first, builder.fcmp_unordered("uno", values[0], values[0]))
        else:
            signed = isinstance(kind, Integer) and kind.signed
            first = (builder.icmp_signed if signed else builder.icmp_unsigned)(relation, *values)
        return Value(kind, builder.select(first, *values))

    return write


maximum, minimum = extremum(np.maximum, ">"), extremum(np.minimum, "<")


@direct(np.sign)
def sign(walk: Any, x: Value) -> Value:
    """-1, 0 or 1; nan of nan."""
    builder, zero = walk.builder, Value(x.kind, x.kind.constant(0))
    above, below = (arithmetic.compare(builder, op, x, zero).llvm for op in (ast.Gt(), ast.Lt()))
    if not isinstance(x.kind, Float):
        number = builder.sub(*(builder.zext(v, int64.value) for v in (above, below)))
        return Value(int64, number)
    number = builder.fsub(*(builder.uitofp(v, x.kind.value) for v in (above, below)))
    return Value(x.kind, builder.select(builder.fcmp_unordered("uno", x.llvm, x.llvm), x.llvm, number))


def plain_floor_divide(x, y):
    """``x // y`` of integers; 0 where ``y`` is 0, and no trap for the least integer over -1."""
    if y == 0:
        return type(x)(0)
    return -x if y == -1 else x // y


def plain_remainder(x, y):
    """``x % y`` of integers, with the sign of ``y``; 0 where that is 0 or -1."""
    return type(x)(0) if y == 0 or y == -1 else x % y


@direct(plain_floor_divide)
def floor_divide(walk: Any, x: Value, y: Value) -> Value:
    return arithmetic.binary(walk.builder, ast.FloorDiv(), x, y)


@direct(plain_remainder)
def remainder(walk: Any, x: Value, y: Value) -> Value:
    return arithmetic.binary(walk.builder, ast.Mod(), x, y)


def plain_left_shift(x, y):
    """``x << y``; 0 where ``y`` is not within the width, which the machine leaves undefined."""
    return x << y if 0 <= y < 64 else type(x)(0)


def plain_right_shift(x, y):
    """``x >> y``; the sign alone where ``y`` is not within the width."""
    if 0 <= y < 64:
        return x >> y
    return type(x)(-1) if x < 0 else type(x)(0)


def shifted(walk: Any, x: Value, y: Value, name: str, outside: Callable[[Any, ir.Value], ir.Value]) -> Value:
    builder, kind = walk.builder, arithmetic.wide(x.kind)
    value, by = walk.cast(x, kind), walk.cast(y, int64)
    within = builder.icmp_unsigned("<", by, int64.constant(64))
    by = builder.select(within, by, int64.constant(0))
    return Value(kind, builder.select(within, getattr(builder, name)(value, by), outside(kind, value)))


@direct(plain_left_shift)
def left_shift(walk: Any, x: Value, y: Value) -> Value:
    return shifted(walk, x, y, "shl", lambda kind, value: kind.constant(0))


@direct(plain_right_shift)
def right_shift(walk: Any, x: Value, y: Value) -> Value:
    if not arithmetic.wide(x.kind).signed:
        return shifted(walk, x, y, "lshr", lambda kind, value: kind.constant(0))
    return shifted(walk, x, y, "ashr", lambda kind, value: walk.builder.ashr(value, kind.constant(63)))


def plain_integer_pow(x, y):
    """``x**y`` modulo the width, by squaring. Raises ``ValueError`` for negative ``y``, as NumPy does."""
    if y < 0:
        raise ValueError(NEGATIVE_POWER_TEXT)
    out = type(x)(1)
    while y > 0:
        if y & 1:
            out = type(x)(out * x)
        x = type(x)(x * x)
        y = y >> 1
    return out


@direct(plain_integer_pow)
def integer_pow(walk: Any, x: Value, y: Value) -> Value:
    """A call that returns from the function it is in, with a status code, where ``y`` is negative."""
    builder, module, kind = walk.builder, walk.builder.module, arithmetic.wide(x.kind)
    value, power = walk.cast(x, kind), walk.cast(y, arithmetic.wide(y.kind))
    if arithmetic.wide(y.kind).signed:
        with unlikely(builder, builder.icmp_signed("<", power, int64.constant(0))):
            walk.leave(int64.constant(NEGATIVE_POWER))
    name = "staticad.integer_pow"
    return Value(kind, builder.call(module.globals.get(name) or write_power(module, name), [value, power]))


def write_power(module: ir.Module, name: str) -> ir.Function:
    word = int64.value
    function = ir.Function(module, ir.FunctionType(word, [word, word]), name)
    function.linkage = "internal"
    start, test, body, done = (function.append_basic_block(label) for label in ("start", "test", "body", "done"))
    ir.IRBuilder(start).branch(test)
    builder = ir.IRBuilder(test)
    out, x, y = (builder.phi(word) for _ in range(3))
    builder.cbranch(builder.icmp_unsigned("==", y, word(0)), done, body)
    builder.position_at_end(body)
    odd = builder.trunc(y, ir.IntType(1))
    following = builder.select(odd, builder.mul(out, x), out), builder.mul(x, x), builder.lshr(y, word(1))
    builder.branch(test)
    for phi, first, next_ in zip((out, x, y), (word(1), *function.args), following, strict=True):
        phi.add_incoming(first, start)
        phi.add_incoming(next_, body)
    ir.IRBuilder(done).ret(out)
    return function


integer_pow.raises = True  # which who calls it must look at
