"""Innermost loops of a few known steps, made vector loops; knows LLVM's wishes, not what the loops do.

LLVM unrolls a loop of a known, moderate number of steps before it looks for vectors, and then finds none; of a loop
with an unknown number it makes one that takes dozens of elements at once, and the few there are go one by one.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from llvmlite.ir.values import MDValue

from staticad.runtime.kernels.values import INTP, Value, direct
from staticad.runtime.kinds import int64

FEW = 16  # steps: of fewer, known ones LLVM makes no vector loop that leaves a remainder


def same(n: int) -> int:
    """``n``, a known number of steps; a loop ``for i in range(m.steps(n))`` becomes a vector loop."""
    return n


@direct(same)
def steps(walk: Any, n: Value) -> Value:
    count, builder = n.number, walk.builder
    assert count is not None
    if count >= FEW or count % 4 == 0:
        return n
    hidden = builder.asm(ir.FunctionType(INTP, [INTP]), "", "=r,0", [n.llvm], side_effect=False)
    assume = builder.module.declare_intrinsic("llvm.assume", [], ir.FunctionType(ir.VoidType(), [ir.IntType(1)]))
    builder.call(assume, [builder.icmp_unsigned("<=", hidden, ir.Constant(INTP, FEW))])
    return Value(int64, hidden)


def keep(module: ir.Module, back: ir.Instruction) -> None:
    """The wish that the loop which the branch ``back`` closes is not unrolled before it is vectorised."""
    wish = module.add_metadata(["llvm.loop.unroll.disable"])
    note = MDValue(module, [wish], name=str(len(module.metadata)))
    note.operands = (note, wish)  # it must begin with itself: each loop has its own
    back.set_metadata("llvm.loop", note)
