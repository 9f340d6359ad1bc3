"""The derivatives of digamma from the third on, by the Hurwitz zeta function; knows the arithmetic of `traced`."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportReturnType=false

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.runtime.kernels import values
from staticad.runtime.kernels.traced import F8, Value, narrow
from staticad.runtime.kernels.values import direct
from staticad.runtime.kinds import Float, float64

# Bernoulli numbers B(2j) over (2j)!, j = 1 to 13: Abramowitz & Stegun 6.4.11, the tail of the Hurwitz zeta function.
ZETA_SERIES = (
    0.08333333333333333, -0.001388888888888889, 3.306878306878307e-05, -8.267195767195768e-07, 2.08767569878681e-08,
    -5.284190138687493e-10, 1.3382536530684679e-11, -3.3896802963225827e-13, 8.586062056277845e-15,
    -2.174868698558062e-16, 5.5090028283602295e-18, -1.3954464685812522e-19, 3.534707039629467e-21,
)  # fmt: skip


def factorial_over_power(n: int, x: Any) -> Any:
    """``n! / x**(n + 1)``, without overflow on the way."""
    out = 1.0 / x
    for j in range(1, n + 1):
        out = out * (j / x)
    return out


def rest_of_zeta(n: int, x: Any) -> Any:
    """``n! * zeta(n + 1, x)`` for ``x >= n + 10``, by Euler and Maclaurin."""
    tail = x / n + 0.5
    rising = (n + 1) / x
    for j, c in enumerate(ZETA_SERIES):
        tail = tail + c * rising
        rising = rising * ((n + 2 * j + 2) / x * ((n + 2 * j + 3) / x))
    return factorial_over_power(n, x) * tail


def zeta(n: int, x: float) -> float:
    """``n! * zeta(n + 1, x)`` for ``x > 0``: the first terms of the sum one by one."""
    out = 0.0
    while x < n + 10:
        out += factorial_over_power(n, x)
        x += 1.0
    return out + rest_of_zeta(n, x)


def plain_polygamma(n, x):
    """The ``n``-th derivative of `digamma`, ``n >= 1``: ``(-1)**(n + 1) * n! * zeta(n + 1, x)``."""
    kind, n, x = type(x), int(n), np.float64(x)
    if math.isinf(x) and x > 0:
        out = 0.0
    elif x > 0 or x != x:
        out = zeta(n, x)
    elif x == np.floor(x):
        out = math.inf
    else:
        # The sum over all integers has period 1; what it has too much, the terms before x, is a zeta of 1 - x.
        d = x - np.rint(x)
        mirrored = zeta(n, 1.0 - d) - zeta(n, 1.0 - x)
        out = factorial_over_power(n, d) + zeta(n, 1.0 + d) + (mirrored if n % 2 else -mirrored)
    return kind(out if n % 2 else -out)


@direct(plain_polygamma)
def polygamma(walk: Any, n: values.Value, x: values.Value) -> values.Value:
    assert n.number is not None, "the order of polygamma is no number"
    name, module = f"staticad.polygamma_{n.number}", walk.builder.module
    function = module.globals.get(name) or write_polygamma(module, name, n.number)
    kind = x.kind if isinstance(x.kind, Float) else float64
    found = Value(walk.builder, walk.builder.call(function, [walk.cast(x, float64)]))
    return values.Value(kind, narrow(found, Value(walk.builder, kind.constant(0.0))).llvm)


def define(module: ir.Module, name: str) -> tuple[ir.IRBuilder, ir.Function]:
    function = ir.Function(module, ir.FunctionType(F8, [F8]), name)
    function.linkage = "internal"
    return ir.IRBuilder(function.append_basic_block()), function


def write_zeta(module: ir.Module, name: str, n: int) -> ir.Function:
    builder, function = define(module, name)
    start, (test, body, done) = builder.block, map(function.append_basic_block, ("test", "body", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    out, x = (Value(builder, builder.phi(F8)) for _ in range(2))
    builder.cbranch((x < n + 10.0).llvm, body, done)
    builder.position_at_end(body)
    following = out + factorial_over_power(n, x), x + 1.0
    builder.branch(test)
    for phi, first, next_ in zip((out, x), (F8(0.0), function.args[0]), following, strict=True):
        phi.llvm.add_incoming(first, start)
        phi.llvm.add_incoming(next_.llvm, body)
    builder.position_at_end(done)
    builder.ret((out + rest_of_zeta(n, x)).llvm)
    return function


def write_polygamma(module: ir.Module, name: str, n: int) -> ir.Function:
    sums = write_zeta(module, f"staticad.zeta_{n}", n)
    builder, function = define(module, name)
    x = Value(builder, function.args[0])
    sign = 1.0 if n % 2 else -1.0

    def zeta_of(y: Value) -> Value:
        return Value(builder, builder.call(sums, [y.llvm]))

    def give(out: Value | float) -> None:
        builder.ret((out * x.of(sign)).llvm)

    with builder.if_then(x.equals(math.inf).llvm):
        give(x.of(0.0))
    positive = builder.or_((x > 0.0).llvm, builder.fcmp_unordered("uno", x.llvm, x.llvm))
    with builder.if_then(positive):
        give(zeta_of(x))
    with builder.if_then(x.equals(x.call("floor")).llvm):
        give(x.of(math.inf))
    d = x - x.call("rint")
    mirrored = zeta_of(1.0 - d) - zeta_of(1.0 - x)
    give(factorial_over_power(n, d) + zeta_of(1.0 + d) + mirrored * x.of(sign))
    return function
