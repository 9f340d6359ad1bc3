"""``python -m benchmarks``: measure staticad beside its peers; results, table and plot go to ``benchmarks/results``.

Each number of threads, and each kind of malloc, is measured by a process of its own, since libraries fix both when they
start. Without ``--threads``, one thread and two.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from time import perf_counter, strftime
from typing import Any

from benchmarks import machine

RESULTS = Path(__file__).parent / "results"
SLOW_TO_COMPILE = ("pytensor", "torch.compile")  # seconds for each program: too long for --quick


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="few sizes, short times, no peers that compile for seconds"
    )
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this workload (may be repeated)")
    parser.add_argument("--peers", metavar="A,B", help="these peers, beside staticad")
    parser.add_argument("--threads", type=int, metavar="N", help="this many threads (default: 1 and 2; with --quick 1)")
    parser.add_argument(
        "--malloc", choices=("stock", "tuned"), help="glibc's malloc as it is, or kept from returning pages"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="where results, table and plot go")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)  # this is a measuring process
    return parser.parse_args()


def main() -> int:
    args = arguments()
    if args.measure:
        return measure(args)
    threads = [args.threads] if args.threads else [1] if args.quick else [1, 2]
    mallocs = (
        [args.malloc] if args.malloc else ["stock"] if args.quick or sys.platform != "linux" else ["stock", "tuned"]
    )
    for n in threads:
        for malloc in mallocs:
            command = [sys.executable, "-m", "benchmarks", "--measure", *sys.argv[1:]]
            command += ["--threads", str(n), "--malloc", malloc]
            status = subprocess.run(
                command, env=machine.environment(n, tuned=malloc == "tuned"), check=False
            ).returncode
            if status:
                return status
    from benchmarks import report

    report.write(args.out)
    print(f"wrote {args.out}/table.md and plot.png")
    return 0


def measure(args: argparse.Namespace) -> int:
    """Measure in this process, and write one JSON file."""
    cores = machine.pin(args.threads)
    from benchmarks.peers import family
    from benchmarks.timing import FULL, QUICK
    from benchmarks.timing import measure as measure_workload
    from benchmarks.workload import all_workloads

    machine.limit_threads(args.threads)
    named = set(args.peers.split(",")) if args.peers else None

    def chosen(peer: str) -> bool:
        if family(peer) == "staticad":
            return True
        return family(peer) in named if named is not None else not (args.quick and family(peer) in SLOW_TO_COMPILE)

    workloads = [w for w in all_workloads(args.only) if w.quick or not args.quick]
    found: dict[str, Any] = {
        "threads": args.threads,
        "malloc": args.malloc,
        "quick": args.quick,
        "cores_used": cores,
        "time": strftime("%Y-%m-%d %H:%M:%S"),
        "machine": machine.describe(),
        "roofline": machine.roofline(),
        "rows": [],
    }
    start = perf_counter()
    for workload in progress(workloads, f"{args.threads} threads, {args.malloc} malloc"):
        rows = measure_workload(workload, QUICK if args.quick else FULL, chosen)
        found["rows"] += [asdict(row) for row in rows]
        write_line(line(rows))
    found["seconds"] = perf_counter() - start
    args.out.mkdir(parents=True, exist_ok=True)
    name = f"{'quick' if args.quick else 'full'}-{args.threads}-{args.malloc}.json"
    if args.only:
        name = "-".join(args.only) + "-" + name
    (args.out / name).write_text(json.dumps(found, indent=1))
    return 0


def line(rows: list[Any]) -> str:
    from benchmarks.report import duration

    parts = [f"{r.peer} {duration(r.seconds) if r.seconds else '-'}" for r in rows]
    notes = [f"\n    {r.peer}: {r.note}" for r in rows if r.note]
    return f"{rows[0].workload} {rows[0].size}: " + ", ".join(parts) + "".join(notes)


def progress(workloads: list[Any], title: str) -> Any:
    """A progress bar, where there is a terminal and tqdm."""
    if not sys.stderr.isatty():
        return workloads
    try:
        from tqdm import tqdm
    except ImportError:
        return workloads
    return tqdm(workloads, desc=title, unit="workload")


def write_line(text: str) -> None:
    """Print above a progress bar, if there is one."""
    if sys.stderr.isatty() and "tqdm" in sys.modules:
        sys.modules["tqdm"].tqdm.write(text)
    else:
        print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
