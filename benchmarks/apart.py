"""Each peer in a process of its own, which runs while the others sleep; knows how they are told, and no library.

On several threads the libraries' pools disturb each other within one process: threads that wait actively for more work,
as those of BLAS, OpenMP and XLA do for some milliseconds, take the cores from the library whose turn it is.
"""

from __future__ import annotations

import gc
import hashlib
import multiprocessing
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import perf_counter, process_time, sleep
from typing import Any

from benchmarks import peers, timing
from benchmarks.results import family
from benchmarks.timing import First, Pace, Start
from benchmarks.workload import Array, Workload, all_workloads

PATIENCE = 5.0  # seconds for a process to end
# Of so many seconds a process at rest uses less than a quarter, and how long coming to rest may take. A thread's time
# is counted at the ticks of its core alone, 1 to 10 ms apart: within less, one that waits actively seems to sleep.
QUIET, SOON = 0.025, 0.5


@dataclass(frozen=True)
class Site:
    """A peer's process, and the pipe to it."""

    process: SpawnProcess
    pipe: Connection

    def ask(self, *question: Any) -> Any:
        """The answer. Raises EOFError where the process has ended."""
        try:
            self.pipe.send(question)
            return self.pipe.recv()
        except ConnectionError as error:
            raise EOFError from error

    def time_of(self, peer: str, count: int) -> float:
        return self.ask(peer, count)

    def end(self) -> None:
        self.pipe.close()
        self.process.join(PATIENCE)
        self.process.kill()


@contextmanager
def processes(chosen: Iterable[str], pace: Pace) -> Iterator[Start]:
    """What `timing.measure` starts programs with: in one process for all forms of a peer, of those ``chosen``.

    One that ends, as by a crash, costs its peer that workload alone."""
    forms: dict[str, list[str]] = {}
    for peer in chosen:
        if peers.absent(peer) is None:
            forms.setdefault(family(peer), []).append(peer)
    sites = {name: begin(found, pace) for name, found in forms.items()}
    try:
        for site in sites.values():  # these start at once, and none is measured until all have
            site.pipe.recv()

        def start(workload: Workload, chosen: Sequence[str], limit: float) -> dict[str, First | str]:
            given = digest(workload.data())
            found: dict[str, First | str] = {p: why for p in chosen if (why := peers.absent(p)) is not None}
            for name in dict.fromkeys(family(peer) for peer in chosen if peer not in found):
                asked = [peer for peer in chosen if family(peer) == name]
                try:
                    found |= first_calls(sites[name], workload, asked, limit, given)
                except EOFError:
                    found |= dict.fromkeys(asked, "the process ended")
                    sites[name].end()
                    sites[name] = begin(forms[name], pace)
                    sites[name].pipe.recv()
            return found

        yield start
    finally:
        for site in sites.values():
            site.end()


def begin(forms: Sequence[str], pace: Pace) -> Site:
    """A process that says when it is ready."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=serve, args=(there, forms, pace))
    process.start()
    there.close()  # the process has its own, and its end is seen here
    return Site(process, here)


def first_calls(
    site: Site, workload: Workload, asked: Sequence[str], limit: float, given: str
) -> dict[str, First | str]:
    """What came of the first calls in a process, if it computes with the same inputs."""
    inputs, found = site.ask(workload.name, workload.size, asked, limit)
    if inputs != given:
        return dict.fromkeys(asked, "another process makes other inputs")
    return {p: f if isinstance(f, str) else First(*f, batch=partial(site.time_of, p)) for p, f in found.items()}


def digest(arrays: Iterable[Array]) -> str:
    """Of shapes, types and elements."""
    found = hashlib.sha256()
    for a in arrays:
        found.update(f"{a.shape} {a.dtype}".encode())
        found.update(a.tobytes())
    return found.hexdigest()


# in the process of a peer ---------------------------------------------------------------------------------------------


def serve(pipe: Connection, forms: Sequence[str], pace: Pace) -> None:
    """Answer until the other end of the pipe is closed."""
    timing.start_libraries(forms.__contains__, pace)
    settle()
    pipe.send("ready")
    with suppress(EOFError):
        question = pipe.recv()
        while True:
            question = turns(pipe, *question)


def turns(pipe: Connection, name: str, size: str, asked: Sequence[str], limit: float) -> Any:
    """Build the programs of one workload, and time them as told to. Returns what is asked after that."""
    workload = next(w for w in all_workloads([name]) if w.size == size)
    arrays = workload.data()
    started = {peer: timing.first(workload, peer, arrays, limit) for peer in asked}
    firsts = {peer: f for peer, f in started.items() if isinstance(f, First)}
    settle()
    parts = {peer: (f.found, f.seconds, f.reported, f.costs) for peer, f in firsts.items()}
    pipe.send((digest(arrays), started | parts))
    with timing.undisturbed():
        while len(question := pipe.recv()) == 2:
            peer, count = question
            seconds = firsts[peer].batch(count)
            gc.collect()
            settle()
            pipe.send(seconds)
    return question


def settle() -> None:
    """Wait until no thread of this process waits actively."""
    end = perf_counter() + SOON
    while perf_counter() < end:
        used = process_time()
        sleep(QUIET)
        if process_time() - used < QUIET / 4:
            return
