"""Functions of sizes that generated code has beside those of Python; knows no programs."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir

from staticad.runtime import arithmetic
from staticad.runtime.kernels.values import INTP, Value, direct
from staticad.runtime.kinds import int64
from staticad.shapes import square_root


@direct(square_root)
def root(walk: Any, x: Value, least: Value) -> Value:
    """That of reals is rounded correctly, so that nothing is wrong with it for a size below 2**52."""
    builder, real = walk.builder, ir.DoubleType()

    def rounded(name: str, x: ir.Value) -> ir.Value:
        return builder.call(builder.module.declare_intrinsic(name, [real]), [x])

    positive = arithmetic.larger(builder, x, Value(int64, ir.Constant(INTP, 0)), ">")
    found = rounded("llvm.ceil", rounded("llvm.sqrt", builder.sitofp(positive.llvm, real)))
    return arithmetic.larger(builder, Value(int64, builder.fptosi(found, INTP)), least, ">")
