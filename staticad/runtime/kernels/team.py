"""A job done by whoever has time for it, as LLVM code; knows the memory shared with waiting threads and no work.

A job is some chunks. Its ticket tells how many there are and which is the next that nobody has begun; who replaces it
by one that tells of the chunk after that, the calling thread or another, does the chunk. So the caller does all that
others have not begun when it comes to it, and waits only for what others have begun. A thread that comes late looks at
nothing but memory that always exists: what else a job needs it uses only once it has a chunk, which the caller waits
for. The ticket's upper half counts jobs, so that a ticket read long ago is not mistaken for a later job's.

Who waits looks at the ticket for some microseconds, as the next job may be near, and then sleeps: it says so, looks
once more, and waits for its lock, which is released by the one who takes the word back.

Systems tend to wake a thread on the processor of the one who wakes it, where it would have to wait until that one
sleeps. So the caller first has the others avoid the processor that it runs on.

Where other programs have the cores, a thread may lose its own in the middle of a chunk, for milliseconds. A caller that
has waited so long that it would have been done alone in half the time does its next jobs alone, for some times as long
as it has lost: more, the more often in a row that happens. Which thread does a chunk changes no result.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir

from staticad.runtime import link, threads
from staticad.runtime.flow import declared, placed, steps
from staticad.runtime.host import host
from staticad.runtime.kernels.shared import FEW, ready

SPINS = 1000  # looks at what is waited for before sleep
DOUBTS = 5  # doublings of the time alone, at most
SET = 16  # words of a set of processors, as the C library has it

WORD = ir.IntType(64)
INT = ir.IntType(32)
BYTE = ir.IntType(8).as_pointer()
VOID = ir.VoidType()
CHUNK = ir.FunctionType(WORD, [BYTE, WORD, WORD])  # (data, chunk, chunks) -> status
JOB = ir.FunctionType(VOID, [CHUNK.as_pointer(), BYTE, WORD, WORD.as_pointer()])  # (function, data, chunks, statuses)
NUMBER = 12  # bits of a ticket for the number of chunks, as many for the next one, the others for the job
MASK = (1 << NUMBER) - 1
# By processor, LLVM's names of an instruction that says that this is a wait, with what it is given, and of a clock.
PAUSE = {"x86_64": ("x86.sse2.pause", []), "aarch64": ("aarch64.hint", [1]), "arm64": ("aarch64.hint", [1])}
CLOCK = {"x86_64": "readcyclecounter", "aarch64": "readsteadycounter", "arm64": "readsteadycounter"}


def word(value: int) -> ir.Constant:
    return ir.Constant(WORD, value)


def entry(builder: ir.IRBuilder, at: int | ir.Value) -> ir.Value:
    """The address of a word of the memory shared with waiting threads."""
    module = builder.module
    kind = ir.ArrayType(WORD, threads.WORKER)
    table = module.globals.get(threads.SYMBOL) or ir.GlobalVariable(module, kind, threads.SYMBOL)
    return builder.gep(table, [word(0), word(at) if isinstance(at, int) else at])


def c_function(builder: ir.IRBuilder, at: int, result: ir.Type, *arguments: ir.Type) -> ir.Value:
    kind = ir.FunctionType(result, arguments)
    return builder.inttoptr(builder.load(entry(builder, at)), kind.as_pointer())


def define(module: ir.Module, name: str, kind: ir.FunctionType) -> tuple[ir.Function, bool]:
    """A function of this module, and whether it is still to be written."""
    if name in module.globals:
        return module.globals[name], False
    function = ir.Function(module, kind, name)
    function.linkage = "internal"
    function.attributes.add("nounwind")
    return function, True


# what callers and workers do alike ------------------------------------------------------------------------------------


def open_ticket(builder: ir.IRBuilder, order: str) -> tuple[ir.Value, ir.Value]:
    """The ticket, and whether there is a chunk that nobody has begun."""
    ticket = builder.load_atomic(entry(builder, threads.TICKET), order, 8)
    following, count = parts(builder, ticket)
    return ticket, builder.icmp_unsigned("<", following, count)


def parts(builder: ir.IRBuilder, ticket: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Of a ticket: the next chunk, and how many there are."""
    return builder.and_(builder.lshr(ticket, word(NUMBER)), word(MASK)), builder.and_(ticket, word(MASK))


def take(builder: ir.IRBuilder, ticket: ir.Value) -> ir.Value:
    """Whether the ticket's next chunk is ours to do."""
    later = builder.add(ticket, word(1 << NUMBER))
    place = entry(builder, threads.TICKET)
    return builder.extract_value(builder.cmpxchg(place, ticket, later, "acq_rel", "monotonic"), 1)


def do(
    builder: ir.IRBuilder, function: ir.Value, data: ir.Value, chunk: ir.Value, count: ir.Value, statuses: ir.Value
) -> ir.Value:
    """Do a chunk. Returns whether all are done with that."""
    builder.store(builder.call(function, [data, chunk, count]), builder.gep(statuses, [chunk]))
    before = builder.atomic_rmw("add", entry(builder, threads.DONE), word(1), "seq_cst")
    return builder.icmp_unsigned("==", builder.add(before, word(1)), count)


def in_turn(builder: ir.IRBuilder, function: ir.Value, data: ir.Value, count: ir.Value, statuses: ir.Value) -> None:
    """Do all chunks, none after one that fails."""
    failed = placed(builder, word(0))
    with steps(builder, count) as loop:
        builder.store(word(0), builder.gep(statuses, [loop]))
        with builder.if_then(builder.icmp_signed("==", builder.load(failed), word(0))):
            status = builder.call(function, [data, loop, count])
            builder.store(status, builder.gep(statuses, [loop]))
            builder.store(status, failed)


def exchange(builder: ir.IRBuilder, place: ir.Value, value: int) -> ir.Value:
    return builder.atomic_rmw("xchg", place, word(value), "seq_cst")


def taken_back(builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
    """Whether the word that someone sleeps was there and has been taken back here."""
    return builder.extract_value(builder.cmpxchg(place, word(1), word(0), "seq_cst", "seq_cst"), 1)


def processor() -> str:
    return host()[0].split("-")[0]


def clock(builder: ir.IRBuilder) -> ir.Value:
    """Time in some unit; always 0 on a processor that is not known to have a clock."""
    name = CLOCK.get(processor())
    if not name:
        return word(0)
    return builder.call(declared(builder.module, ir.FunctionType(WORD, []), f"llvm.{name}"), [])


def pause(builder: ir.IRBuilder) -> None:
    name, given = PAUSE.get(processor(), ("", []))
    if name:
        kind = ir.FunctionType(VOID, [INT] * len(given))
        builder.call(declared(builder.module, kind, f"llvm.{name}"), [INT(x) for x in given])


def wait(builder: ir.IRBuilder, found: Any, end: ir.Block, asleep: ir.Value, lock: ir.Value) -> None:
    """Go on at ``end`` once ``found(builder, order)``; sleep after a while, when ``asleep`` is 1, until there is
    reason to look again."""
    look, again, doze, back, sleep = (builder.append_basic_block(n) for n in ("look", "again", "doze", "back", "sleep"))
    start = builder.append_basic_block("wait")
    builder.branch(start)
    builder.position_at_end(start)
    builder.branch(look)
    builder.position_at_end(look)
    looks = builder.phi(WORD)
    looks.add_incoming(word(0), start)
    builder.cbranch(found(builder, "acquire"), end, again)
    builder.position_at_end(again)
    pause(builder)
    more = builder.add(looks, word(1))
    looks.add_incoming(more, again)
    builder.cbranch(builder.icmp_unsigned("<", more, word(SPINS)), look, doze)
    builder.position_at_end(doze)
    exchange(builder, asleep, 1)
    builder.cbranch(found(builder, "seq_cst"), back, sleep)
    builder.position_at_end(back)
    builder.cbranch(taken_back(builder, asleep), end, sleep)
    builder.position_at_end(sleep)  # until the one who has taken the word back releases the lock
    builder.call(c_function(builder, threads.ACQUIRE, INT, BYTE, INT), [lock, ir.Constant(INT, 1)])
    builder.branch(start)


def rouse(builder: ir.IRBuilder, asleep: ir.Value, lock: ir.Value) -> None:
    """Wake who sleeps there, if anyone does."""
    sleeps = builder.icmp_unsigned("==", builder.load_atomic(asleep, "seq_cst", 8), word(1))
    with builder.if_then(sleeps), builder.if_then(taken_back(builder, asleep)):
        builder.call(c_function(builder, threads.RELEASE, VOID, BYTE), [lock])


def lock_at(builder: ir.IRBuilder, at: ir.Value) -> ir.Value:
    return builder.inttoptr(builder.load(at), BYTE)


def worker_line(builder: ir.IRBuilder, number: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Whether a worker sleeps, and its lock."""
    line = builder.add(word(threads.WORKER), builder.mul(number, word(threads.LINE)))
    asleep, lock = (entry(builder, builder.add(line, word(at))) for at in (threads.ASLEEP, threads.LOCK))
    return asleep, lock_at(builder, lock)


# the thread that calls ------------------------------------------------------------------------------------------------


def job(module: ir.Module) -> ir.Function:
    """``(function, data, chunks, statuses)``: the function for every chunk. One thread at a time may call it."""
    caller, new = define(module, "staticad_job", JOB)
    if not new:
        return caller
    builder = ir.IRBuilder(caller.append_basic_block("entry"))
    function, data, count, statuses = caller.args
    start = clock(builder)
    alone = builder.load(entry(builder, threads.ALONE))
    with builder.if_then(builder.icmp_signed(">", alone, word(0)), likely=False):
        in_turn(builder, function, data, count, statuses)
        builder.store(builder.sub(alone, builder.sub(clock(builder), start)), entry(builder, threads.ALONE))
        builder.ret_void()
    publish(builder, *caller.args)
    others, workers = builder.sub(count, word(1)), builder.load(entry(builder, threads.WORKERS))
    others = builder.select(builder.icmp_unsigned("<", others, workers), others, workers)
    with steps(builder, others) as loop:
        builder.call(apart(module), [loop])
        rouse(builder, *worker_line(builder, loop))

    following, attempt, own = (builder.append_basic_block(n) for n in ("following", "attempt", "own"))
    finish, end = builder.append_basic_block("finish"), builder.append_basic_block("end")
    do(builder, function, data, word(0), count, statuses)
    mine = placed(builder, word(1))  # chunks
    builder.branch(following)
    builder.position_at_end(following)
    ticket, some = open_ticket(builder, "acquire")
    builder.cbranch(some, attempt, finish)
    builder.position_at_end(attempt)
    builder.cbranch(take(builder, ticket), own, following)
    builder.position_at_end(own)
    do(builder, function, data, parts(builder, ticket)[0], count, statuses)
    builder.store(builder.add(builder.load(mine), word(1)), mine)
    builder.branch(following)
    builder.position_at_end(finish)
    worked = builder.sub(clock(builder), start)

    def done(builder: ir.IRBuilder, order: str) -> ir.Value:
        return builder.icmp_unsigned("==", builder.load_atomic(entry(builder, threads.DONE), order, 8), count)

    wait(builder, done, end, entry(builder, threads.WAITING), lock_at(builder, entry(builder, threads.CALLER)))
    builder.position_at_end(end)
    for at in (threads.OWNER, threads.STOP):
        builder.store_atomic(word(0), entry(builder, at), "monotonic", 8)
    judge(builder, builder.sub(clock(builder), start), builder.udiv(builder.mul(worked, count), builder.load(mine)))
    builder.ret_void()
    return caller


def this_thread(builder: ir.IRBuilder) -> ir.Value:
    """Python's number of the thread that runs this; not 0."""
    return builder.call(declared(builder.module, ir.FunctionType(WORD, []), "PyThread_get_thread_ident"), [])


def publish(builder: ir.IRBuilder, function: ir.Value, data: ir.Value, count: ir.Value, statuses: ir.Value) -> None:
    """Let others know of a job, whose first chunk is the caller's."""
    asked = builder.call(c_function(builder, threads.GET_NUM_THREADS, INT), [])
    given = (builder.ptrtoint(function, WORD), builder.ptrtoint(data, WORD), builder.ptrtoint(statuses, WORD))
    fields = (threads.FUNCTION, threads.DATA, threads.STATUSES, threads.NUM_THREADS)
    for at, value in zip(fields, (*given, builder.zext(asked, WORD)), strict=True):
        builder.store_atomic(value, entry(builder, at), "monotonic", 8)
    builder.store_atomic(word(0), entry(builder, threads.DONE), "monotonic", 8)
    builder.store_atomic(this_thread(builder), entry(builder, threads.OWNER), "monotonic", 8)
    place = entry(builder, threads.TICKET)
    later = builder.add(builder.lshr(builder.load(place), word(2 * NUMBER)), word(1))
    ticket = builder.or_(builder.shl(later, word(2 * NUMBER)), builder.or_(count, word(1 << NUMBER)))
    builder.store_atomic(ticket, place, "seq_cst", 8)


def apart(module: ir.Module) -> ir.Function:
    """``(number)``: have that worker avoid the processor of the calling thread, unless that may run on no other."""
    function, new = define(module, "staticad_apart", ir.FunctionType(VOID, [WORD]))
    if not new:
        return function
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))

    def leave_if(condition: ir.Value) -> None:
        with builder.if_then(condition):
            builder.ret_void()

    line = builder.add(word(threads.WORKER), builder.mul(function.args[0], word(threads.LINE)))
    thread, avoided = (entry(builder, builder.add(line, word(at))) for at in (threads.THREAD, threads.AVOIDED))
    leave_if(builder.icmp_unsigned("==", builder.load(entry(builder, threads.SCHED_GETCPU)), word(0)))
    here = builder.sext(builder.call(c_function(builder, threads.SCHED_GETCPU, INT), []), WORD)
    present = builder.add(here, word(1))
    leave_if(builder.icmp_unsigned("==", builder.load(avoided), present))
    leave_if(builder.icmp_unsigned(">=", here, word(64 * SET)))  # or not known, -1
    allowed = builder.alloca(WORD, SET)
    size, places = word(8 * SET), builder.bitcast(allowed, BYTE)
    asked = builder.call(c_function(builder, threads.SCHED_GETAFFINITY, INT, INT, WORD, BYTE), [INT(0), size, places])
    leave_if(builder.icmp_signed("<", asked, INT(0)))
    own = builder.gep(allowed, [builder.lshr(here, word(6))])
    others = builder.not_(builder.shl(word(1), builder.and_(here, word(63))))
    builder.store(builder.and_(builder.load(own), others), own)
    some = word(0)
    for at in range(SET):
        some = builder.or_(some, builder.load(builder.gep(allowed, [word(at)])))
    leave_if(builder.icmp_unsigned("==", some, word(0)))
    say = c_function(builder, threads.PTHREAD_SETAFFINITY_NP, INT, WORD, WORD, BYTE)
    builder.call(say, [builder.load(thread), size, places])
    builder.store(present, avoided)
    builder.ret_void()
    return function


def judge(builder: ir.IRBuilder, taken: ir.Value, alone: ir.Value) -> None:
    """Do without others for a while where a job has ``taken`` more than twice as long as it would take ``alone``."""
    slow = builder.icmp_unsigned(">", taken, builder.shl(alone, word(1)))
    doubt = builder.load(entry(builder, threads.DOUBT))
    more = builder.select(builder.icmp_unsigned("<", doubt, word(DOUBTS)), builder.add(doubt, word(1)), doubt)
    lost = builder.shl(builder.sub(taken, alone), more)
    builder.store(builder.select(slow, more, word(0)), entry(builder, threads.DOUBT))
    builder.store(builder.select(slow, lost, word(0)), entry(builder, threads.ALONE))


# the threads that wait ------------------------------------------------------------------------------------------------


def write_worker(module: ir.Module, symbol: str, element: Any) -> None:
    """The work of a waiting thread, which is told its number: chunk after chunk of job after job."""
    function = ir.Function(module, ir.FunctionType(VOID, [WORD]), symbol)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    asleep, lock = worker_line(builder, function.args[0])
    rest, attempt, own = (builder.append_basic_block(n) for n in ("rest", "attempt", "own"))
    builder.branch(rest)
    builder.position_at_end(rest)
    wait(builder, lambda builder, order: open_ticket(builder, order)[1], attempt, asleep, lock)
    builder.position_at_end(attempt)
    ticket, some = open_ticket(builder, "acquire")
    code, data, statuses, asked = (
        builder.load_atomic(entry(builder, at), "monotonic", 8)
        for at in (threads.FUNCTION, threads.DATA, threads.STATUSES, threads.NUM_THREADS)
    )
    with builder.if_then(builder.not_(some)):
        builder.branch(rest)
    builder.cbranch(take(builder, ticket), own, rest)
    builder.position_at_end(own)
    # What this chunk cuts into chunks, it cuts as the caller would.
    number = builder.trunc(asked, INT)
    builder.call(c_function(builder, threads.SET_NUM_THREADS, VOID, INT), [number])
    chunk, count = parts(builder, ticket)
    pointers = ((code, CHUNK.as_pointer()), (data, BYTE), (statuses, WORD.as_pointer()))
    code, data, statuses = (builder.inttoptr(value, kind) for value, kind in pointers)
    with builder.if_then(do(builder, code, data, chunk, count, statuses)):
        caller = lock_at(builder, entry(builder, threads.CALLER))
        rouse(builder, entry(builder, threads.WAITING), caller)
    builder.branch(rest)


def worker() -> int:
    """The address of a waiting thread's work, which stays there."""
    symbol = ready(write_worker, FEW, "any")
    return link.addresses[symbol]
