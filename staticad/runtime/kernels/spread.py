"""Work cut into chunks that run on several threads, as LLVM code; knows how threads are numbered and no work.

How many chunks there are depends on the work and the number of threads alone. Whether they run at once or one after the
other (inside another such loop, while another Python thread has the threads) changes no result.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir

from staticad.runtime import flow, threads
from staticad.runtime.flow import placed
from staticad.runtime.kernels.team import BYTE, CHUNK, INT, WORD, c_function, define, entry, in_turn, job, word

#: Units of estimated work (32 are about a nanosecond, 16 microseconds in all) that a chunk should have at least.
UNITS, LEAST = 32, 512_000

CHUNKS = ir.FunctionType(WORD, [WORD] * 3)  # (count, work, more) -> chunks
RUN = ir.FunctionType(WORD, [CHUNK.as_pointer(), BYTE, WORD])


def chunks(
    builder: ir.IRBuilder, count: ir.Value, work: ir.Value, more: ir.Value, called: ir.Function | None = None
) -> ir.Value:
    """How many chunks ``count`` pieces with ``work`` units of work are cut into, if each causes ``more`` units.

    ``called``: the function of `write_chunks` if it is not to become part of this module."""
    if called is None:
        called, new = define(builder.module, "staticad_chunks", CHUNKS)
        if new:
            called.attributes.add("noinline")
            count_chunks(called)
    enough = builder.icmp_signed(">=", work, word(2 * LEAST))
    some = builder.and_(enough, builder.icmp_signed(">", builder.load(entry(builder, threads.LIMIT)), word(1)))
    before = builder.block
    with builder.if_then(some, likely=False):
        found, at = builder.call(called, [count, work, more]), builder.block
    result = builder.phi(WORD)
    result.add_incoming(word(1), before)
    result.add_incoming(found, at)
    return result


def count_chunks(function: ir.Function) -> None:
    builder = ir.IRBuilder(function.append_basic_block())
    count, work, more = function.args
    unknown = builder.icmp_unsigned("==", builder.load(entry(builder, threads.STARTED)), word(0))
    with builder.if_then(unknown, likely=False):
        builder.call(c_function(builder, threads.START, ir.VoidType()), [])
        with builder.if_then(builder.icmp_signed("<=", builder.load(entry(builder, threads.LIMIT)), word(1))):
            builder.ret(word(1))
    least = builder.sext(builder.call(c_function(builder, threads.GET_NUM_THREADS, INT), []), WORD)
    worth = builder.sdiv(work, builder.add(more, word(LEAST)))
    for other in (builder.load(entry(builder, threads.LIMIT)), count, worth):
        least = builder.select(builder.icmp_signed("<", least, other), least, other)
    builder.ret(builder.select(builder.icmp_signed(">", least, word(1)), least, word(1)))


def write_chunks(module: ir.Module, symbol: str, element: Any) -> None:
    count_chunks(ir.Function(module, CHUNKS, symbol))


def write_run(module: ir.Module, symbol: str, element: Any) -> None:
    function = ir.Function(module, RUN, symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(builder.call(run(module), function.args))


def run(module: ir.Module) -> ir.Function:
    """``(function, data, chunks) -> status``: the function for every chunk; the first status that is not 0."""
    function, new = define(module, "staticad_run", RUN)
    if not new:
        return function
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    work, data, count = function.args
    with builder.if_then(builder.icmp_signed("<=", count, word(1))):
        builder.ret(builder.call(work, [data, word(0), word(1)]))
    statuses = builder.alloca(WORD, count)
    outside, address = builder.alloca(ir.IntType(1)), builder.load(entry(builder, threads.IN_PARALLEL))
    builder.store(ir.Constant(ir.IntType(1), 1), outside)
    with builder.if_then(builder.icmp_unsigned("!=", address, word(0))):
        inside = builder.call(c_function(builder, threads.IN_PARALLEL, INT), [])
        builder.store(builder.icmp_unsigned("==", inside, ir.Constant(INT, 0)), outside)
    busy = entry(builder, threads.BUSY)
    with builder.if_then(builder.load(outside)):
        taken = builder.cmpxchg(busy, word(0), word(1), "acquire", "monotonic")
        builder.store(builder.extract_value(taken, 1), outside)
    with builder.if_else(builder.load(outside)) as (at_once, by_itself):
        with at_once:
            builder.call(job(module), [work, data, count, statuses])
            builder.store_atomic(word(0), busy, "release", 8)
        with by_itself:
            in_turn(builder, work, data, count, statuses)
    first = placed(builder, word(0))
    with flow.steps(builder, count) as loop:
        status = builder.load(builder.gep(statuses, [builder.sub(builder.sub(count, word(1)), loop)]))
        found = builder.icmp_signed("!=", status, word(0))
        builder.store(builder.select(found, status, builder.load(first)), first)
    builder.ret(builder.load(first))
    return function
