"""Kernel functions for a part of a loop, and their calls for all of it, spread over threads; knows no program."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

from llvmlite import ir

from staticad.runtime import settings
from staticad.runtime.flow import declared, room
from staticad.runtime.functions import Kernel, propagate
from staticad.runtime.kernels import spread
from staticad.runtime.kernels.shared import FEW, external
from staticad.runtime.kernels.spread import BYTE, WORD, word
from staticad.runtime.kernels.values import Value, View
from staticad.runtime.kinds import Pointer, int64
from staticad.runtime.translate import Walk, inside, typed, write_body


def parallel(signature: str, shared: bool = False) -> Callable[[FunctionType], Any]:
    """Mark a kernel function ``(start, stop, ...)`` that does the steps of a loop from ``start`` up to ``stop``.

    It is called as ``(chunks, n, ...)`` for all ``n`` steps, which it does in ``chunks`` runs of consecutive ones, and
    returns the first status that is not 0. Where a pointer is wanted it is given an array; or ``(spare, offset)``,
    memory for each run; or ``(array, spare, offset)``, an array for the first run and memory for each of the others.
    ``shared``: it is compiled once for all programs, which takes longer than as a part of one.
    """

    def decorate(function: FunctionType) -> Any:
        return in_turn(function) if settings.plain() else Spread(function, f"i8, i8, {signature}", shared)

    return decorate


def in_turn(function: Callable[..., int]) -> Callable[..., int]:
    """What a call does, in plain Python: run after run."""

    def pick(given: Any, chunk: int) -> Any:
        if not isinstance(given, tuple):
            return given
        *own, memory, offset = given
        return own[0] if own and chunk == 0 else memory[chunk - len(own)][offset:]

    def call(chunks: int, n: int, *given: Any) -> int:
        ends = [n * chunk // chunks for chunk in range(chunks + 1)]
        found = [function(ends[chunk], ends[chunk + 1], *(pick(x, chunk) for x in given)) for chunk in range(chunks)]
        return next((status for status in found if status), 0)

    return call


def write_chunk(plain: ir.Function, function: ir.Function, kinds: Sequence[Any]) -> None:
    """Fill ``plain``, called as ``(words, chunk, chunks)``, with a call of ``function`` for the steps of a chunk.

    The words: the steps of all of the loop; for each pointer the address for the first chunk, and for the others an
    address and how far each is from the one before; each scalar."""
    builder = ir.IRBuilder(plain.append_basic_block("entry"))
    data, chunk, chunks = plain.args
    table = builder.bitcast(data, WORD.as_pointer())
    taken = itertools.count()

    def take() -> ir.Value:
        return builder.load(builder.gep(table, [word(next(taken))]))

    n = take()
    values: list[Any] = [builder.udiv(builder.mul(n, k), chunks) for k in (chunk, builder.add(chunk, word(1)))]
    for kind in kinds[2:]:
        value = take()
        if isinstance(kind, Pointer):
            base, step = take(), take()
            other = builder.add(base, builder.mul(chunk, step))
            value = builder.select(builder.icmp_signed("==", chunk, word(0)), value, other)
        values.append(from_word(builder, value, kind.value))
    builder.ret(builder.call(function, values))


class Spread(Kernel):
    """A kernel function for a part of a loop: its calls do all of it."""

    def __init__(self, function: FunctionType, signature: str, shared: bool) -> None:
        super().__init__(function, signature)
        self.shared = shared

    def write(self, walk: Walk, chunks: Value, n: Value, *given: Any) -> Value:
        """By way of `spread.run`."""
        builder = walk.builder
        words = [walk.cast(n, int64)]
        for x, kind in zip(given, self.types[2:], strict=True):
            if not isinstance(kind, Pointer):
                words.append(as_word(builder, walk.cast(x, kind)))
                continue
            if not isinstance(x, list):
                address = builder.ptrtoint(pointer(x), WORD)
                words += [address, address, word(0)]
                continue
            *own, memory, offset = x
            step = memory.shape[1]
            base = builder.add(builder.ptrtoint(memory.data, WORD), walk.cast(offset, int64))
            if own:
                words += [builder.ptrtoint(pointer(own[0]), WORD), builder.sub(base, step), step]
            else:
                words += [base, base, step]
        data = room(builder, WORD, len(words))
        for k, value in enumerate(words):
            builder.store(value, builder.gep(data, [word(k)]))
        run = external(builder, spread.write_run, spread.RUN, passes=FEW)
        code = builder.call(run, [self.part(walk), builder.bitcast(data, BYTE), walk.cast(chunks, int64)])
        if self.raises:
            propagate(walk, code)
        return Value(int64, code)

    def part(self, walk: Walk) -> ir.Function:
        """The function for a chunk: another module's, or written into this one."""
        module = walk.builder.module
        if self.shared or self.symbol in module.globals:
            return declared(module, spread.CHUNK, self.symbol)
        plain = self.chunk(module)
        plain.linkage = "internal"
        return plain

    def define(self, module: ir.Module) -> None:
        self.chunk(module)

    def chunk(self, module: ir.Module) -> ir.Function:
        """The function for a chunk, written into a module."""
        function = inside(module, f"{self.symbol}.body", self.types)
        write_body(function, self.function, typed(self.types, function.args))
        plain = ir.Function(module, spread.CHUNK, self.symbol)
        write_chunk(plain, function, self.types)
        return plain


def pointer(x: Value | View) -> ir.Value:
    """Of an array or a place."""
    return x.data if isinstance(x, View) else x.llvm


def as_word(builder: ir.IRBuilder, value: Any) -> Any:
    """A pointer or a number of at most 64 bits as an integer."""
    if isinstance(value.type, ir.PointerType):
        return builder.ptrtoint(value, WORD)
    if isinstance(value.type, (ir.FloatType, ir.DoubleType)):
        value = builder.bitcast(value, ir.IntType(32 if isinstance(value.type, ir.FloatType) else 64))
    return value if value.type == WORD else builder.zext(value, WORD)


def from_word(builder: ir.IRBuilder, value: Any, kind: Any) -> Any:
    """The other way round."""
    if isinstance(kind, ir.PointerType):
        return builder.inttoptr(value, kind)
    width = {ir.FloatType: 32, ir.DoubleType: 64}.get(type(kind)) or kind.width
    value = value if width == 64 else builder.trunc(value, ir.IntType(width))
    return builder.bitcast(value, kind) if isinstance(kind, (ir.FloatType, ir.DoubleType)) else value
