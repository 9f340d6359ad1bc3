"""The accumulating steps of reductions, free to be reassociated into SIMD lanes; knows scalars only.

Reassociation is a flag on these instructions alone: everything around them stays strict (ARCHITECTURE section 4).
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.runtime.kernels.values import Value, direct
from staticad.runtime.kinds import Boolean, Float, Integer

FREE = ("reassoc", "contract")
Scalar = Any  # a NumPy scalar here, an LLVM value in compiled code


def add(acc: Scalar, x: Scalar) -> Scalar:
    """``acc + x``; "or" for bool. The order of a chain of these is not kept."""
    return acc + x


def multiply(acc: Scalar, x: Scalar) -> Scalar:
    """``acc * x``; "and" for bool. The order of a chain of these is not kept."""
    return acc * x


def maximum(acc: Scalar, x: Scalar) -> Scalar:
    """The larger; NaN if either is; "or" for bool."""
    return np.maximum(acc, x)


def minimum(acc: Scalar, x: Scalar) -> Scalar:
    """The smaller; NaN if either is; "and" for bool."""
    return np.minimum(acc, x)


def emit_add(builder: ir.IRBuilder, kind: Any, acc: ir.Value, x: ir.Value) -> ir.Value:
    if isinstance(kind, Boolean):
        return builder.or_(acc, x)
    return builder.fadd(acc, x, flags=FREE) if isinstance(kind, Float) else builder.add(acc, x)


def emit_multiply(builder: ir.IRBuilder, kind: Any, acc: ir.Value, x: ir.Value) -> ir.Value:
    return builder.fmul(acc, x, flags=FREE) if isinstance(kind, Float) else builder.mul(acc, x)


def emit_extremum(builder: ir.IRBuilder, kind: Any, acc: ir.Value, x: ir.Value, name: str, better: str) -> ir.Value:
    if isinstance(kind, Float):
        function_type = ir.FunctionType(acc.type, [acc.type, acc.type])
        function = builder.module.declare_intrinsic(f"llvm.{name}", [acc.type], function_type)
        return builder.call(
            function, [acc, x], fastmath=("nsz",)
        )  # which of two zeros comes out, NumPy leaves open too
    signed = isinstance(kind, Integer) and kind.signed
    compare = builder.icmp_signed if signed else builder.icmp_unsigned
    return builder.select(compare(better, acc, x), acc, x)


def step(python: Any, emit: Any) -> Any:
    """The kernel ``(acc, x) -> acc`` in acc's type, made of ``emit``."""

    @direct(python)
    def write(walk: Any, acc: Value, x: Value) -> Value:
        return Value(acc.kind, emit(walk.builder, acc.kind, acc.llvm, walk.cast(x, acc.kind)))

    return write


radd = step(add, emit_add)
rmul = step(multiply, emit_multiply)
rmax = step(maximum, partial(emit_extremum, name="maximum", better=">"))
rmin = step(minimum, partial(emit_extremum, name="minimum", better="<"))
