"""Runs the programs of a workload: first calls, agreement, then interleaved batches; knows no peer's library."""

from __future__ import annotations

import gc
import signal
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.results import family
from benchmarks.workload import INDEPENDENT, Array, DisagreementError, Program, Workload, check, computed


@dataclass(frozen=True)
class Pace:
    """How long to measure: at least ``rounds`` batches of at least ``batch`` seconds, and about ``total`` in all.

    A peer's program that is not built and called once within ``limit`` seconds is left out, with a note.
    """

    rounds: int
    batch: float
    total: float
    limit: float


PATIENCE = 15.0  # seconds for a program's building: what compiles quickly is never left out for want of time
FULL = Pace(rounds=7, batch=0.01, total=0.3, limit=45.0)
QUICK = Pace(rounds=5, batch=0.003, total=0.05, limit=PATIENCE)


SOON = 8.0  # seconds for a process that is started again


def within(pace: Pace, left: float, share: float) -> Pace:
    """``pace``, made shorter so that a program's measurement takes no more than ``share`` seconds; ``left`` are those
    of the whole run, of which building one program may not take more than a third, but may always take ``PATIENCE``."""
    limit = max(PATIENCE, min(pace.limit, left / 3))
    return replace(pace, total=min(pace.total, max(share, pace.batch)), limit=limit)


@dataclass(frozen=True)
class Row:
    """What one peer did with one workload; ``seconds`` of a call, or ``note`` on why there is none.

    ``first_call`` are the seconds of building, compiling and calling once; ``difference`` is that from ``reference``.
    """

    workload: str
    size: str
    dtype: str
    peer: str
    note: str | None = None
    seconds: float | None = None
    quartiles: tuple[float, float] | None = None
    batches: int = 0
    calls_per_batch: int = 0
    first_call: float | None = None
    difference: float | None = None
    reference: str | None = None
    costs: dict[str, Any] | None = None


class TimeLimitError(BaseException):
    """A program took too long to build; no ``Exception``, since compilers catch these and go on."""


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Raises `TimeLimitError` in the body after so many seconds, where the system has alarms."""
    if not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise TimeLimitError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1.0)  # again, where a callback from native code lost it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


@dataclass(frozen=True)
class First:
    """What came of building a program and calling it once; ``batch`` is the time of so many calls more."""

    found: list[Array]
    seconds: float
    reported: float | None  # of a program that takes the time itself
    costs: dict[str, Any] | None
    batch: Callable[[int], float]


Start = Callable[[Workload, Sequence[str], float], Mapping[str, First | str]]  # a workload's peers, in so many seconds


def together(workload: Workload, chosen: Sequence[str], limit: float) -> dict[str, First | str]:
    """The first calls of these peers, all in this process, where their libraries' threads share the cores."""
    arrays = workload.data()
    return {peer: first(workload, peer, arrays, limit) for peer in chosen}


def first(workload: Workload, peer: str, arrays: tuple[Array, ...], limit: float) -> First | str:
    """The first call, or why there is none: a peer that cannot run this must not end the run."""
    missing = peers.absent(peer)
    if missing is not None:
        return missing
    try:
        peers.load(peer)
        with nullcontext() if family(peer) in ("staticad", "hand") else at_most(limit):
            start = perf_counter()
            program = workload.peers[peer](*arrays)
            reported, found = computed(workload, program)
            seconds = perf_counter() - start
        again = partial(batch, program) if reported is None else lambda count: sum(program()[0] for _ in range(count))
        counted = costs(program, workload) if family(peer) == "staticad" else None
        return First(found, seconds, reported, counted, again)
    except TimeLimitError:
        return f"not compiled within {limit:.0f} s"
    except Exception as error:
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else ''}"[:200]


def start_libraries(chosen: Callable[[str], bool], pace: Pace) -> None:
    """Compile something in each library, so that no row's first call pays for what only the first of all does."""
    programs = peers.derivatives(lambda xp, x: xp.sum(x * x + x), [("n",)], [0])
    workload = Workload("start", "", "float64", lambda: (np.ones(3),), programs)
    for peer in filter(chosen, workload.peers):
        first(workload, peer, workload.data(), pace.limit)


def left_out(workload: Workload, peer: str) -> Row:
    """The row of a peer that there was no time for."""
    note = peers.absent(peer) or "left out: compiles for seconds, and the run was behind its time"
    return Row(workload.name, workload.size, workload.dtype, peer, note)


def measure(
    workload: Workload, pace: Pace, chosen: Callable[[str], bool] = lambda peer: True, start: Start = together
) -> list[Row]:
    """A row for every chosen peer. All programs are built and agree before one is timed, and then take turns."""
    started = start(workload, [peer for peer in workload.peers if chosen(peer)], pace.limit)
    firsts = {peer: f for peer, f in started.items() if isinstance(f, First)}
    rows: dict[str, dict[str, Any]] = {
        peer: {"note": f} if isinstance(f, str) else {"first_call": f.seconds} for peer, f in started.items()
    }
    reference = next((peer for peer in INDEPENDENT if peer in firsts), None)
    agreed: dict[str, First] = {}
    for peer, f in firsts.items():
        if reference is None:
            rows[peer]["note"] = "no independent peer to check against"
            continue
        try:
            if peer != reference:
                rows[peer] |= {"difference": check(workload, peer, f.found, firsts[reference].found)}
                rows[peer]["reference"] = reference
            agreed[peer] = f
        except DisagreementError as error:
            rows[peer]["note"] = str(error)
    timed = restarted(agreed) if workload.reports else interleaved(agreed, pace)
    for peer, (times, count) in timed.items():
        low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
        rows[peer] |= {"seconds": middle, "quartiles": (low, high), "batches": len(times), "calls_per_batch": count}
        rows[peer]["costs"] = agreed[peer].costs
    return [Row(workload.name, workload.size, workload.dtype, peer, **row) for peer, row in rows.items()]


Times = dict[str, tuple[list[float], int]]  # for each program the seconds a call took in each batch, and its calls


def interleaved(firsts: dict[str, First], pace: Pace) -> Times:
    times: dict[str, list[float]] = {peer: [] for peer in firsts}
    spent = dict.fromkeys(firsts, 0.0)
    with undisturbed():
        counts = {peer: calls(f.batch, pace.batch) for peer, f in firsts.items()}
        while active := [peer for peer in firsts if unfinished(len(times[peer]), spent[peer], pace)]:
            for peer in active:
                seconds = firsts[peer].batch(counts[peer])
                times[peer].append(seconds / counts[peer])
                spent[peer] += seconds
            gc.collect()
    return {peer: (found, counts[peer]) for peer, found in times.items()}


def restarted(firsts: dict[str, First]) -> Times:
    """Of programs whose every call is a process that reports its time: what is soon there is done three times."""
    found: Times = {}
    for peer, f in firsts.items():
        assert f.reported is not None
        found[peer] = ([f.reported, *(f.batch(1) for _ in range(2 if f.seconds < SOON else 0))], 1)
    return found


def unfinished(batches: int, spent: float, pace: Pace) -> bool:
    """Whether a program needs another batch: three for the slow, ``pace.rounds`` and its time for the others."""
    return batches < 3 or (spent < 4 * pace.total and batches < pace.rounds) or (spent < pace.total and batches < 99)


def batch(program: Program, count: int) -> float:
    if count > 4:
        program()  # into the caches, which another program has just used
    start = perf_counter()
    for _ in repeat(None, count):
        program()
    return perf_counter() - start


def calls(time_of: Callable[[int], float], seconds: float) -> int:
    """How many calls take at least ``seconds``."""
    count = 1
    while (taken := time_of(count)) < seconds:
        count = max(2 * count, int(count * min(16.0, 1.2 * seconds / max(taken, 1e-9))))
    return count


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection in the middle of a batch; one between batches looks at nothing that is older than these."""
    gc.collect()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.enable()


def costs(program: Program, workload: Workload) -> dict[str, Any] | None:
    """What staticad says of its generated code, with the symbolic sizes filled in; None for a peer's program."""
    import staticad as ad
    from staticad.shapes import evaluate, symbols

    f = getattr(program, "func", None)
    if not isinstance(f, ad.Function):
        return None
    s = f.stats
    if any(size.kind == "count" for x in (s.flops, s.bytes_read, s.bytes_written) for size in symbols(x)):
        return None  # how many steps a loop takes is known after a call

    def number(x: Any) -> int:
        return evaluate(x, workload.sizes)

    return {
        "kernels": s.kernels,
        "loops": s.loops,
        "temporaries": s.temporaries,
        "flops": number(s.flops),
        "bytes": number(s.bytes_read) + number(s.bytes_written),
        "workspace_bytes": number(s.workspace_bytes),
        "compile_seconds": dict(s.compile_seconds),
        "cache_hit": s.cache_hit,
    }
