"""Runs the programs of a workload: first calls, agreement, then interleaved batches; knows no peer's library."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from time import perf_counter
from typing import Any

from benchmarks import peers
from benchmarks.workload import INDEPENDENT, Array, Program, Workload, check, computed


@dataclass(frozen=True)
class Pace:
    """How long to measure: at least ``rounds`` batches of at least ``batch`` seconds, and about ``total`` in all."""

    rounds: int
    batch: float
    total: float


FULL = Pace(rounds=9, batch=0.02, total=1.5)
QUICK = Pace(rounds=5, batch=0.004, total=0.1)


@dataclass(frozen=True)
class Row:
    """What one peer did with one workload; ``seconds`` of a call, or ``note`` on why there is none."""

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


def measure(workload: Workload, pace: Pace, chosen: Callable[[str], bool] = lambda peer: True) -> list[Row]:
    """A row for every chosen peer. All programs are built and agree before one is timed, and then take turns."""
    arrays = workload.data()
    rows: dict[str, dict[str, Any]] = {}
    programs: dict[str, Program] = {}
    found: dict[str, list[Array]] = {}
    for peer, build in workload.peers.items():
        if not chosen(peer):
            continue
        rows[peer] = {"note": peers.absent(peer)}
        if rows[peer]["note"] is not None:
            continue
        try:
            peers.load(peer)
            start = perf_counter()
            program = build(*arrays)
            found[peer] = computed(workload, program)
            rows[peer]["first_call"] = perf_counter() - start
        except Exception as error:  # a peer that cannot run this must not end the run: the row says why
            rows[peer]["note"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"[
                :200
            ]
            continue
        programs[peer] = program
    reference = next((peer for peer in INDEPENDENT if peer in found), None)
    for peer in list(programs):
        if reference is None:
            rows[peer]["note"] = "no independent peer to check against"
            del programs[peer]
        elif peer != reference:
            try:
                rows[peer]["difference"] = check(workload, peer, found[peer], found[reference])
                rows[peer]["reference"] = reference
            except AssertionError as error:
                rows[peer]["note"] = str(error)
                del programs[peer]
    found.clear()
    for peer, (times, count) in interleaved(programs, pace, reports=workload.reports).items():
        low, middle, high = statistics.quantiles(times, n=4) if len(times) > 1 else times * 3
        rows[peer] |= {"seconds": middle, "quartiles": (low, high), "batches": len(times), "calls_per_batch": count}
        rows[peer]["costs"] = costs(programs[peer], workload)
    return [Row(workload.name, workload.size, workload.dtype, peer, **row) for peer, row in rows.items()]


def interleaved(programs: dict[str, Program], pace: Pace, *, reports: bool) -> dict[str, tuple[list[float], int]]:
    """For each program the seconds a call took in each batch, and the calls in a batch."""
    if reports:  # each call is a process
        pace = Pace(rounds=3, batch=0.0, total=0.0)
    counts = {peer: 1 if reports else calls(program, pace.batch) for peer, program in programs.items()}
    times: dict[str, list[float]] = {peer: [] for peer in programs}
    spent = dict.fromkeys(programs, 0.0)
    with undisturbed():
        while active := [peer for peer in programs if unfinished(len(times[peer]), spent[peer], pace)]:
            for peer in active:
                seconds = programs[peer]()[0] if reports else batch(programs[peer], counts[peer])
                times[peer].append(seconds / counts[peer])
                spent[peer] += seconds
            gc.collect()
    return {peer: (found, counts[peer]) for peer, found in times.items()}


def unfinished(batches: int, spent: float, pace: Pace) -> bool:
    """Whether a program needs another batch: three for the slow, ``pace.rounds`` and its time for the others."""
    return batches < 3 or (spent < 4 * pace.total and batches < pace.rounds) or (spent < pace.total and batches < 99)


def batch(program: Program, count: int) -> float:
    start = perf_counter()
    for _ in repeat(None, count):
        program()
    return perf_counter() - start


def calls(program: Program, seconds: float) -> int:
    """How many calls take at least ``seconds``."""
    count = 1
    while (taken := batch(program, count)) < seconds:
        count = max(2 * count, int(count * min(16.0, 1.2 * seconds / max(taken, 1e-9))))
    return count


@contextmanager
def undisturbed() -> Iterator[None]:
    """No garbage collection in the middle of a batch."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def costs(program: Program, workload: Workload) -> dict[str, Any] | None:
    """What staticad says of its generated code, with the symbolic sizes filled in; None for a peer's program."""
    import staticad as ad
    from staticad.shapes import evaluate

    f = getattr(program, "func", None)
    if not isinstance(f, ad.Function):
        return None
    s = f.stats

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
