"""``python -m benchmarks``: measure staticad beside its peers; results, table and plot go to ``benchmarks/results``.

Each number of threads, and each kind of malloc, is measured by a process of its own, since libraries fix both when they
start; on several threads each peer has one of its own, since the libraries' threads disturb each other. Without
``--threads``, one thread and two; then, where glibc's malloc can be kept from giving pages back, the peers that
allocate, on the workloads with large temporaries, once more with that.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import perf_counter, strftime
from typing import Any

from benchmarks import machine, results
from benchmarks.results import family

# Seconds for each program: not for --quick, and left out of a run that falls behind.
SLOW_TO_COMPILE = ("pytensor", "torch.compile", "staticad (unrolled)", "staticad out= (unrolled)")
GAIN_BY_MALLOC = ("jax", "torch")  # peers whose every result and temporary is a new array of their own allocator


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few sizes, short times, no peers that compile for seconds: two minutes"
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this workload (may be repeated)")
    parser.add_argument("--peers", metavar="A,B", help="these peers, beside staticad")
    parser.add_argument("--threads", type=int, metavar="N", help="this many threads (default: 1 and 2; with --quick 1)")
    parser.add_argument(
        "--malloc",
        choices=("stock", "tuned"),
        help="glibc's malloc as it is, or kept from returning pages (default: stock, and tuned for large temporaries)",
    )
    parser.add_argument("--minutes", type=float, metavar="M", help="at most about this long (default: 15; quick 2)")
    parser.add_argument("--out", type=Path, help="where results, table and plot go")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)  # this is a measuring process
    args = parser.parse_args()
    args.minutes = args.minutes or (2.0 if args.quick else 15.0)
    args.out = args.out or (results.PARTIAL if args.quick or args.only or args.peers else results.COMPLETE)
    return args


def main() -> int:
    args = arguments()
    if args.measure:
        return measure(args)
    threads = [args.threads] if args.threads else [1] if args.quick else [1, 2]
    mallocs = [args.malloc] if args.malloc else ["stock"] if args.quick or sys.platform != "linux" else results.MALLOCS
    # The tuned runs are short; the first of all compiles what the others find in caches.
    shares = {(malloc, n): 1.0 if malloc == "stock" else 0.3 for malloc in mallocs for n in threads}
    if args.out == results.PARTIAL:
        results.clear(args.out)  # of other workloads or peers: no part of this run's table
    deadline = perf_counter() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as cache:
        for malloc, n in list(shares):
            left = (deadline - perf_counter()) * shares[malloc, n] / sum(shares.values())
            del shares[malloc, n]
            command = [sys.executable, "-m", "benchmarks", "--measure", *sys.argv[1:]]
            command += ["--threads", str(n), "--malloc", malloc, "--minutes", str(left / 60)]
            environment = machine.environment(n, tuned=malloc == "tuned") | machine.caches(cache)
            environment.pop("JAX_COMPILATION_CACHE_DIR")  # JAX keeps nothing unless told to
            status = subprocess.run(command, env=environment, check=False).returncode
            if status:
                return status
    from benchmarks import report

    report.write(args.out)
    return 0


def measure(args: argparse.Namespace) -> int:
    """Measure in this process, and write one JSON file."""
    start = perf_counter()
    cores = machine.pin(args.threads)
    from benchmarks import apart, timing
    from benchmarks.workload import all_workloads

    tuned = args.malloc == "tuned"
    named = set(args.peers.split(",")) if args.peers else None

    def chosen(peer: str) -> bool:
        if tuned:
            return family(peer) in GAIN_BY_MALLOC and (named is None or family(peer) in named)
        if named is not None:
            return family(peer) in named | {"staticad"}
        return not args.quick or not slow(peer)

    pace = timing.QUICK if args.quick else timing.FULL
    workloads = [w for w in all_workloads(args.only) if wanted(w, args)]
    # How many programs each workload will time: what the time that is left is divided by.
    programs = [sum(chosen(peer) for peer in w.peers) for w in workloads]
    found: dict[str, Any] = {
        "threads": args.threads,
        "malloc": args.malloc,
        "apart": args.threads > 1,
        "quick": args.quick,
        "cores_used": cores,
        "time": strftime("%Y-%m-%d %H:%M:%S"),
        "machine": machine.describe(),
        "roofline": None if tuned else machine.roofline(args.threads),
        "products": None,
        "rows": [],
    }
    if not (tuned or args.only or args.quick) and args.threads == 1:
        from benchmarks import gemm_kernel

        found["products"] = gemm_kernel.table()
    title = f"{args.threads} thread{'s' * (args.threads > 1)}, {args.malloc} malloc"
    if args.threads > 1:
        place = apart.processes(dict.fromkeys(p for w in workloads for p in w.peers if chosen(p)), pace)
    else:
        timing.start_libraries(chosen, pace)
        place = nullcontext(timing.together)
    with place as start_programs, progress(len(workloads), title) as step:
        for k, workload in enumerate(workloads):
            left = 60 * args.minutes - (perf_counter() - start)
            behind = left < 60 * args.minutes * sum(programs[k:]) / sum(programs) * 0.6
            rows = timing.measure(
                workload,
                timing.within(pace, left, 0.3 * left / max(1, sum(programs[k:]))),
                lambda peer: chosen(peer) and not (behind and slow(peer)),  # noqa: B023  called before the next round
                start_programs,
            )
            found["rows"] += [vars(row) for row in rows]
            if behind:
                found["rows"] += [vars(timing.left_out(workload, p)) for p in workload.peers if chosen(p) and slow(p)]
            step(line(rows))
    found["seconds"] = perf_counter() - start
    results.save(args.out, found, args.only)
    return 0


def wanted(workload: Any, args: argparse.Namespace) -> bool:
    if args.malloc == "tuned":
        return workload.allocates
    if workload.reports and args.threads > 1:  # a start is that of one thread
        return False
    return workload.quick or not args.quick


def slow(peer: str) -> bool:
    return peer in SLOW_TO_COMPILE or family(peer) in SLOW_TO_COMPILE


def line(rows: Sequence[Any]) -> str:
    from benchmarks.report import duration

    parts = [f"{r.peer} {duration(r.seconds) if r.seconds else '-'}" for r in rows]
    notes = [f"\n    {r.peer}: {r.note}" for r in rows if r.note and "not installed" not in r.note]
    return f"{rows[0].workload} {rows[0].size}: " + ", ".join(parts) + "".join(notes)


@contextmanager
def progress(total: int, title: str) -> Iterator[Any]:
    """What is called with a line of text after each workload: a progress bar below the lines where there are a terminal
    and tqdm, a count before each where not."""
    bar = None
    if sys.stderr.isatty() and not os.environ.get("TQDM_DISABLE"):
        try:
            from tqdm import tqdm

            bar = tqdm(total=total, desc=title, unit="workload", smoothing=0.1)
        except ImportError:
            pass
    done = 0

    def step(text: str) -> None:
        nonlocal done
        done += 1
        if bar is None:
            print(f"[{title}, {done}/{total}] {text}", flush=True)
        else:
            bar.write(text)
            bar.update()

    try:
        yield step
    finally:
        if bar is not None:
            bar.close()


if __name__ == "__main__":
    sys.exit(main())
