"""Innermost loops of a few known steps, made vector loops; knows LLVM's wishes, not what the loops do.

LLVM unrolls a loop of a known, moderate number of steps before it looks for vectors, and then finds none; of a loop
with an unknown number it makes one that takes dozens of elements at once, and the few there are go one by one. Where
the processor can leave lanes of a vector out, it is told to make the last vector a part of one.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import binding, ir
from llvmlite.ir.values import MDValue

from staticad.runtime.kernels.values import INTP, Value, direct
from staticad.runtime.kinds import int64

FEW = 16  # steps: of fewer, known ones LLVM makes no vector loop that leaves a remainder
WIDEST = 64  # bytes of a vector of a processor that can leave lanes out


def same(n: int, size: int = 4) -> int:
    """``n``, a known number of steps; a loop ``for i in range(m.steps(n))`` becomes a vector loop.

    ``size`` are the bytes of its largest elements."""
    return n


@direct(same)
def steps(walk: Any, n: Value, size: Value | None = None) -> Value:
    count, builder = n.number, walk.builder
    assert count is not None
    if count >= FEW or count % 4 == 0 or masked(count, size.number if size else 4):
        return n
    hidden = builder.asm(ir.FunctionType(INTP, [INTP]), "", "=r,0", [n.llvm], side_effect=False)
    assume = builder.module.declare_intrinsic("llvm.assume", [], ir.FunctionType(ir.VoidType(), [ir.IntType(1)]))
    builder.call(assume, [builder.icmp_unsigned("<=", hidden, ir.Constant(INTP, FEW))])
    return Value(int64, hidden)


@cache
def masks() -> bool:
    """Whether the processor leaves lanes of a vector out at no cost, when it loads and stores too."""
    return bool(binding.get_host_cpu_features().get("avx512vl"))


def masked(count: int, size: int = 4) -> bool:
    """Whether the last steps are best done by a vector of which some lanes are left out: where they are most of one."""
    lanes = WIDEST // size
    return masks() and count % lanes > lanes // 2


def in_registers(n: int) -> int:
    """``n``, a known number of steps; a loop ``for i in range(m.lanes(n))`` becomes so many vectors, written out.

    What such loops alone read and write of an array of the function is then in registers."""
    return n


@direct(in_registers)
def lanes(walk: Any, n: Value) -> Value:
    return n


def write_out(module: ir.Module, back: ir.Instruction) -> None:
    """The wish that the loop which the branch ``back`` closes is vectorised first, and then unrolled altogether."""
    full = module.add_metadata(["llvm.loop.unroll.full"])
    wishes = [
        module.add_metadata(["llvm.loop.unroll.disable"]),
        module.add_metadata(["llvm.loop.vectorize.followup_all", full]),
    ]
    wish(module, back, wishes)


def one(n: int) -> int:
    """1; the steps of a loop ``for i in range(0, end, m.unroll(n))`` are written out, ``n`` one after the other."""
    return 1


@direct(one)
def unroll(walk: Any, n: Value) -> Value:
    return Value(int64, ir.Constant(INTP, 1))


def write_several(module: ir.Module, back: ir.Instruction, count: int) -> None:
    """The wish that ``count`` steps of the loop which the branch ``back`` closes follow each other without a test."""
    wish(module, back, [module.add_metadata(["llvm.loop.unroll.count", ir.Constant(ir.IntType(32), count)])])


def wish(module: ir.Module, back: ir.Instruction, wishes: list[Any]) -> None:
    note = MDValue(module, wishes, name=str(len(module.metadata)))
    note.operands = (note, *wishes)  # it must begin with itself: each loop has its own
    back.set_metadata("llvm.loop", note)


def keep(module: ir.Module, back: ir.Instruction, count: int, size: int = 4) -> None:
    """The wish that the loop which the branch ``back`` closes is not unrolled before it is vectorised."""
    wishes = [module.add_metadata(["llvm.loop.unroll.disable"])]
    if masked(count, size):
        yes = ir.Constant(ir.IntType(1), 1)
        wishes.append(module.add_metadata(["llvm.loop.vectorize.predicate.enable", yes]))
    wish(module, back, wishes)
