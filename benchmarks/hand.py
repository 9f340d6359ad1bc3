"""What gradients written by hand in Numba share: flags, vectorisable functions, reassociated sums, products."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

njit: Callable[[Any], Any] = numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, boundscheck=False)


@intrinsic
def add(typingctx: Any, acc: Any, x: Any) -> Any:
    """``acc + x``, whose chains may be summed in any order and so in SIMD lanes."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.fadd(*args, flags=("reassoc", "contract"))

    return acc(acc, acc), codegen


@intrinsic
def greater(typingctx: Any, acc: Any, x: Any) -> Any:
    """The larger, as one instruction."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = args[0].type
        function = builder.module.declare_intrinsic("llvm.maxnum", [kind], ir.FunctionType(kind, [kind, kind]))
        return builder.call(function, args, fastmath=("nnan", "nsz"))

    return acc(acc, acc), codegen


@intrinsic
def bits_as_float(typingctx: Any, x: Any) -> Any:
    to = types.float64 if x.bitwidth == 64 else types.float32

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(to))

    return to(x), codegen


@intrinsic
def float_as_bits(typingctx: Any, x: Any) -> Any:
    to = types.int64 if x.bitwidth == 64 else types.int32

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], context.get_value_type(to))

    return to(x), codegen


LN2_HIGH, LN2_LOW = 6.93147180369123816490e-01, 1.90821492927058770002e-10
MAGIC = 6755399441055744.0  # 1.5 * 2**52: adding it rounds to an integer in the low bits
TAYLOR = tuple(1 / math.factorial(k) for k in range(14))


@njit
def exp(x: Any) -> Any:
    """exp in float64 for results that are normal or 0, within 2 ulp."""
    x = min(max(x, -745.0), 709.0)
    shifted = x * 1.4426950408889634 + MAGIC
    k = shifted - MAGIC
    r = (x - k * LN2_HIGH) - k * LN2_LOW
    p = TAYLOR[13]
    p = p * r + TAYLOR[12]
    p = p * r + TAYLOR[11]
    p = p * r + TAYLOR[10]
    p = p * r + TAYLOR[9]
    p = p * r + TAYLOR[8]
    p = p * r + TAYLOR[7]
    p = p * r + TAYLOR[6]
    p = p * r + TAYLOR[5]
    p = p * r + TAYLOR[4]
    p = p * r + TAYLOR[3]
    p = p * r + TAYLOR[2]
    p = p * r + 1.0
    p = p * r + 1.0
    scale = bits_as_float((float_as_bits(shifted) + np.int64(1023)) << np.int64(52))
    return p * scale if x > -708.0 else 0.0


MAGIC32, LOG2_E32 = np.float32(12582912.0), np.float32(1.44269504)
LN2_HIGH32, LN2_LOW32 = np.float32(0.693359375), np.float32(-2.12194440e-4)
TAYLOR32 = tuple(np.float32(1 / math.factorial(k)) for k in range(8))
ONE32, LOWEST32, HIGHEST32 = np.float32(1), np.float32(-87), np.float32(88)


@njit
def exp32(x: Any) -> Any:
    """exp in float32 for results that are normal, 0 below."""
    y = min(max(x, LOWEST32), HIGHEST32)
    shifted = y * LOG2_E32 + MAGIC32
    k = shifted - MAGIC32
    r = (y - k * LN2_HIGH32) - k * LN2_LOW32
    p = TAYLOR32[7]
    p = p * r + TAYLOR32[6]
    p = p * r + TAYLOR32[5]
    p = p * r + TAYLOR32[4]
    p = p * r + TAYLOR32[3]
    p = p * r + TAYLOR32[2]
    p = p * r + ONE32
    p = p * r + ONE32
    return p * bits_as_float(np.int32((float_as_bits(shifted) + 127) << 23))  # Numba widens to int64 in between


ONE_HALF32, TWO32 = np.float32(0.5), np.float32(2)
ERF_SLOPE = np.float32(0.3275911)  # Abramowitz and Stegun 7.1.26, within 1.5e-7
ERF = tuple(np.float32(c) for c in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429))


@njit
def tanh32(x: Any) -> Any:
    """tanh in float32, within 1e-7 of the truth."""
    return ONE32 - TWO32 / (exp32(TWO32 * x) + ONE32)


@njit
def erf32(x: Any) -> Any:
    """erf in float32, within 2e-7 of the truth."""
    t = ONE32 / (ONE32 + ERF_SLOPE * abs(x))
    p = ((((ERF[4] * t + ERF[3]) * t + ERF[2]) * t + ERF[1]) * t + ERF[0]) * t
    magnitude = ONE32 - p * exp32(-x * x)
    return magnitude if x > 0 else -magnitude


SMALL = 20_000  # multiplications up to which loops are faster than BLAS's call


@njit
def dot(x: Any, y: Any, out: Any) -> None:
    """``out = x @ y``, of matrices or transposed matrices."""
    m, n, k = x.shape[0], y.shape[1], x.shape[1]
    if m * n * k > SMALL:
        np.dot(x, y, out)
        return
    for i in range(m):
        for j in range(n):
            out[i, j] = 0
        for l in range(k):
            by = x[i, l]
            for j in range(n):
                out[i, j] += by * y[l, j]
