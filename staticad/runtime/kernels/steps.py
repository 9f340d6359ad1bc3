"""Innermost loops of a few known steps, made vector loops; knows LLVM's wishes, not what the loops do.

LLVM unrolls a loop of a known, moderate number of steps before it looks for vectors, and then finds none; of a loop
with an unknown number it makes one that takes dozens of elements at once, and the few there are go one by one.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from llvmlite.ir.values import MDValue
from numba import types
from numba.core import ir as numba_ir
from numba.core import typed_passes
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower

from staticad.runtime.kernels.native import Distinct, kernel

FEW = 16  # steps: of fewer, known ones LLVM makes no vector loop that leaves a remainder
SIZE = ir.IntType(types.intp.bitwidth)


def same(n: int) -> int:
    """``n``, a known number of steps; a loop ``for i in range(m.steps(n))`` becomes a vector loop."""
    return n


@kernel(same)
def steps(typingctx: Any, n: Any) -> Any:
    if not isinstance(n, types.IntegerLiteral):
        return None
    count = n.literal_value

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        number = ir.Constant(SIZE, count)
        if count >= FEW or count % 4 == 0:
            return number
        hidden = builder.asm(ir.FunctionType(SIZE, [SIZE]), "", "=r,0", [number], side_effect=False)
        assume = builder.module.declare_intrinsic("llvm.assume", [], ir.FunctionType(ir.VoidType(), [ir.IntType(1)]))
        builder.call(assume, [builder.icmp_unsigned("<=", hidden, ir.Constant(SIZE, FEW))])
        return hidden

    return types.intp(n), codegen


def keep(module: ir.Module, back: ir.Instruction) -> None:
    """The wish that the loop which the branch ``back`` closes is not unrolled before it is vectorised."""
    wish = module.add_metadata(["llvm.loop.unroll.disable"])
    note = MDValue(module, [wish], name=str(len(module.metadata)))
    note.operands = (note, wish)  # it must begin with itself: each loop has its own
    back.set_metadata("llvm.loop", note)


class LoopLower(Lower):
    """Numba's lowering, which keeps the loops over ``range(m.steps(n))``."""

    def pre_lower(self) -> None:
        super().pre_lower()
        self.heads: set[int] = set()  # where such loops begin

    def post_block(self, block: Any) -> None:
        super().post_block(block)
        last = block.body[-1]
        if not isinstance(last, numba_ir.Jump):
            return
        if last.target in self.heads:
            assert self.builder.block is not None
            keep(self.module, self.builder.block.terminator)
        elif any(looks_up(inst, "steps") for inst in block.body):
            self.heads.add(last.target)


def looks_up(inst: Any, name: str) -> bool:
    """Whether a statement of Numba's looks up ``m.name``."""
    value = inst.value if isinstance(inst, numba_ir.Assign) else None
    return isinstance(value, numba_ir.Expr) and value.op == "getattr" and value.attr == name


@register_pass(mutates_CFG=True, analysis_only=False)
class LoopLowering(typed_passes.NativeLowering):
    _name = "staticad_loop_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return LoopLower


class Looped(Distinct):
    """`Distinct`, for functions with such loops."""

    lowering = LoopLowering
