"""Memory whose size is found out while a program runs: what loops of unknown length leave; knows no loop.

A tape has several slots, each a piece of memory that grows. It lives from its making to `closed` in one call.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.runtime import budget, flow
from staticad.runtime.kernels.memory import pointer, sizes
from staticad.runtime.kernels.shared import FEW, external
from staticad.runtime.kernels.values import INTP, Value, View, direct
from staticad.runtime.kinds import Array, boolean, int64, kind_of, void

BYTE = ir.IntType(8).as_pointer()
LEAST = 1 << 12  # bytes that a slot gets at first
GROW = ir.FunctionType(ir.IntType(1), [INTP.as_pointer(), INTP])
CLOSE = ir.FunctionType(ir.VoidType(), [INTP.as_pointer(), INTP])


def slots(count: int) -> list[Any]:
    """A tape with ``count`` slots, empty."""
    return [[np.empty(0, "u1")] for _ in range(count)]


@direct(slots)
def tape(walk: Any, count: Value) -> View:
    """Of each slot the address and the size are kept."""
    assert count.number is not None
    words = 2 * count.number
    place = flow.room(walk.builder, INTP, words)
    for k in range(words):
        walk.builder.store(ir.Constant(INTP, 0), walk.builder.gep(place, [ir.Constant(INTP, k)]))
    made = View(Array(int64, 1), place, [ir.Constant(INTP, words)])
    walk.held[place] = lambda: close(walk, made)
    return made


def slot_words(walk: Any, tape: View | Value, slot: Value) -> ir.Value:
    """Where the address and the size of a slot are; a `Value` is a pointer to them, as a kernel function is given."""
    assert slot.number is not None
    base = tape.data if isinstance(tape, View) else tape.llvm
    return walk.builder.gep(base, [ir.Constant(INTP, 2 * slot.number)])


def one_slot(tape: list[Any], slot: int) -> list[Any]:
    """One slot as a tape of its own, to be handed to a kernel function; what it leaves there is on both."""
    return [tape[slot]]


@direct(one_slot)
def only(walk: Any, tape: View | Value, slot: Value) -> Value:
    return Value(void, slot_words(walk, tape, slot))


def grown(tape: list[Any], slot: int, size: int) -> bool:
    """Whether the slot has room for ``size`` bytes, more room being made where it is needed; it keeps what is there.

    There is none beyond what all tapes together may take."""
    (memory,) = tape[slot]
    if memory.size < size:
        limit = budget.table[budget.LIMIT]
        if size > limit:
            return False
        more = np.empty(max(min(2 * memory.size, limit), size, LEAST), "u1")
        more[: memory.size] = memory
        tape[slot][0] = more
    return True


@direct(grown)
def room(walk: Any, tape: View | Value, slot: Value, size: Value) -> Value:
    builder, wanted = walk.builder, walk.cast(size, int64)
    words = slot_words(walk, tape, slot)
    enough = builder.icmp_signed("<=", wanted, builder.load(builder.gep(words, [ir.Constant(INTP, 1)])))
    found = flow.room(builder, ir.IntType(1))
    builder.store(enough, found)
    with flow.unlikely(builder, builder.not_(enough)):
        grow = external(builder, write_grow, GROW, passes=FEW)
        # The words of the slot go there and back, so that the others may be in registers.
        copy = flow.room(builder, INTP, 2)
        for source, to in ((words, copy), (copy, words)):
            for k in range(2):
                at = [ir.Constant(INTP, k)]
                builder.store(builder.load(builder.gep(source, at)), builder.gep(to, at))
            if source is words:
                builder.store(builder.call(grow, [copy, wanted]), found)
    return Value(boolean, builder.load(found))


def write_grow(module: ir.Module, symbol: str, element: Any) -> None:
    """Give a slot more room: twice as much as before, or all that tapes may still take. Whether there was any."""
    function = ir.Function(module, GROW, symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    words, wanted = function.args
    second = builder.gep(words, [ir.Constant(INTP, 1)])
    before = builder.load(second)
    taken = account(builder, budget.TAKEN)
    limit = builder.load(account(builder, budget.LIMIT))
    left = builder.add(before, builder.sub(limit, builder.load_atomic(taken, "monotonic", 8)))
    size = builder.shl(before, ir.Constant(INTP, 1))
    size = builder.select(builder.icmp_signed("<", left, size), left, size)
    for least in (wanted, ir.Constant(INTP, LEAST)):
        size = builder.select(builder.icmp_signed("<", size, least), least, size)
    more = builder.sub(size, before)
    others = builder.atomic_rmw("add", taken, more, "monotonic")
    with builder.if_then(builder.icmp_signed(">", more, builder.sub(limit, others)), likely=False):
        builder.atomic_rmw("sub", taken, more, "monotonic")
        builder.ret(ir.Constant(ir.IntType(1), 0))
    again = ir.Function(module, ir.FunctionType(BYTE, [BYTE, INTP]), "PyMem_RawRealloc")
    raw = builder.call(again, [builder.inttoptr(builder.load(words), BYTE), size])
    there = builder.icmp_unsigned("!=", raw, ir.Constant(BYTE, None))
    with builder.if_then(there):
        builder.store(builder.ptrtoint(raw, INTP), words)
        builder.store(size, second)
    with builder.if_then(builder.not_(there)):
        builder.atomic_rmw("sub", taken, more, "monotonic")
    builder.ret(there)


def account(builder: ir.IRBuilder, at: int) -> ir.Value:
    """The address of a word of the memory that all tapes share."""
    kind = ir.ArrayType(INTP, 2)
    table = builder.module.globals.get(budget.SYMBOL) or ir.GlobalVariable(builder.module, kind, budget.SYMBOL)
    return builder.gep(table, [ir.Constant(INTP, 0), ir.Constant(INTP, at)])


def row(code: str) -> Any:
    """The function ``(tape, slot, offset, shape) -> array``: C-contiguous, from byte ``offset`` of a slot with room."""
    dtype = np.dtype(code)
    element = kind_of(dtype)

    def view(tape: list[Any], slot: int, offset: int, shape: tuple[int, ...]) -> Any:
        return tape[slot][0][offset : offset + math.prod(shape) * dtype.itemsize].view(dtype).reshape(shape)

    @direct(view)
    def write(walk: Any, tape: View | Value, slot: Value, offset: Value, shape: Sequence[Value]) -> View:
        builder = walk.builder
        address = builder.load(slot_words(walk, tape, slot))
        place = builder.inttoptr(builder.add(address, walk.cast(offset, int64)), BYTE)
        return View(Array(element, len(shape)), pointer(walk, place, element), sizes(walk, shape))

    return write


row_b1, row_i1, row_i2, row_i4, row_i8 = (row(code) for code in ("?", "i1", "i2", "i4", "i8"))
row_u1, row_u2, row_u4, row_u8 = (row(code) for code in ("u1", "u2", "u4", "u8"))
row_f4, row_f8 = (row(code) for code in ("f4", "f8"))


def given_back(tape: list[Any], status: int) -> int:
    """Give all memory of a tape back; returns ``status``."""
    return status


@direct(given_back)
def closed(walk: Any, tape: View, status: Value) -> Value:
    close(walk, tape)
    return status


def close(walk: Any, tape: View) -> None:
    function = external(walk.builder, write_close, CLOSE, passes=FEW)
    walk.builder.call(function, [tape.data, tape.shape[0]])


def write_close(module: ir.Module, symbol: str, element: Any) -> None:
    function = ir.Function(module, CLOSE, symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    words, count = function.args
    give = ir.Function(module, ir.FunctionType(ir.VoidType(), [BYTE]), "PyMem_RawFree")
    with flow.steps(builder, count, step=ir.Constant(INTP, 2)) as k:
        builder.call(give, [builder.inttoptr(builder.load(builder.gep(words, [k])), BYTE)])
        size = builder.load(builder.gep(words, [builder.add(k, ir.Constant(INTP, 1))]))
        builder.atomic_rmw("sub", account(builder, budget.TAKEN), size, "monotonic")
    builder.ret_void()
