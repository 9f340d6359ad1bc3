"""The core's fused multiply-add rate, by independent chains of vectors held in registers; knows LLVM's vector types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core.cgutils import get_or_insert_function
from numba.extending import intrinsic

CHAINS = 16  # enough to hide the latency of two FMA units


def vector_bits() -> int:
    """The widest vector this processor has."""
    features = llvm.get_host_cpu_features()
    return 512 if features.get("avx512f") else 256 if features.get("avx2") else 128


def chains(dtype: str, count: int) -> tuple[Callable[[], Any], int]:
    """A function that does ``count`` rounds of `CHAINS` vector FMAs, and how many flops these are."""
    kind = types.float32 if dtype == "float32" else types.float64
    lanes = vector_bits() // kind.bitwidth

    @intrinsic
    def loop(typingctx: Any, rounds: Any, factor: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            scalar = context.get_value_type(kind)
            vector = ir.VectorType(scalar, lanes)
            kind_of = ir.FunctionType(vector, [vector] * 3)
            fma = get_or_insert_function(builder.module, kind_of, f"llvm.fma.v{lanes}f{kind.bitwidth}")

            def splat(x: Any) -> Any:
                out = ir.Constant(vector, ir.Undefined)
                for lane in range(lanes):
                    out = builder.insert_element(out, x, ir.Constant(ir.IntType(32), lane))
                return out

            by = splat(args[1])
            starts = [splat(ir.Constant(scalar, float(k))) for k in range(CHAINS)]
            before, body, after = builder.block, builder.append_basic_block("body"), builder.append_basic_block("after")
            builder.branch(body)
            builder.position_at_end(body)
            index = builder.phi(args[0].type)
            index.add_incoming(ir.Constant(args[0].type, 0), before)
            held = [builder.phi(vector) for _ in starts]
            for phi, start in zip(held, starts, strict=True):
                phi.add_incoming(start, before)
                phi.add_incoming(builder.call(fma, [phi, by, by]), body)
            following = builder.add(index, ir.Constant(args[0].type, 1))
            index.add_incoming(following, body)
            builder.cbranch(builder.icmp_signed("<", following, args[0]), body, after)
            builder.position_at_end(after)
            total = held[0]
            for phi in held[1:]:
                total = builder.fadd(total, phi)
            return builder.extract_element(total, ir.Constant(ir.IntType(32), 0))

        return kind(types.int64, kind), codegen

    @njit(nogil=True)
    def run(rounds: Any, factor: Any) -> Any:
        return loop(rounds, factor)

    factor = np.dtype(dtype).type(0.5)
    return lambda: run(count, factor), 2 * lanes * CHAINS * count
