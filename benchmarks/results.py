"""Where measurements are kept, and how: a JSON file for each number of threads and kind of malloc; measures nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]
Run = Mapping[str, Any]

COMPLETE = Path(__file__).parent / "results"  # runs of everything: the README's figures
PARTIAL = COMPLETE / "partial"  # of --quick, --only and --peers
MALLOCS = ("stock", "tuned")


def save(directory: Path, run: Run, only: Sequence[str] = ()) -> None:
    """Write a run, one row of it a line."""
    directory.mkdir(parents=True, exist_ok=True)
    name = "-".join([*only, "quick" if run["quick"] else "full", str(run["threads"]), run["malloc"]])
    head = json.dumps({key: value for key, value in run.items() if key != "rows"}, indent=1).removesuffix("\n}")
    rows = ",\n  ".join(json.dumps({k: v for k, v in row.items() if v is not None}) for row in run["rows"])
    (directory / f"{name}.json").write_text(f'{head},\n "rows": [\n  {rows}\n ]\n}}\n')


def clear(directory: Path) -> None:
    for path in directory.glob("*.json"):
        path.unlink()


def load(directory: Path) -> list[Run]:
    """The runs kept in a directory, few threads first. Those with tuned malloc are not runs of their own: their rows
    join those of the run with as many threads, as further forms of the peers."""
    found = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    tuned = [run for run in found if run["malloc"] == "tuned"]
    runs = [run for run in found if run["malloc"] != "tuned"]
    for run in runs:
        groups = {(row["workload"], row["size"]) for row in run["rows"]}
        for other in tuned:
            if other["threads"] == run["threads"] and other["quick"] == run["quick"]:
                run["rows"] += [
                    {**row, "peer": f"{row['peer']} (tuned malloc)"}
                    for row in other["rows"]
                    if (row["workload"], row["size"]) in groups
                ]
    return sorted(runs, key=lambda run: (run["threads"], run["quick"]))


def grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """The rows of each workload and size."""
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["workload"], row["size"]), []).append(row)
    return found


def family(peer: str) -> str:
    """The peer that a variant such as ``jax (gemm)`` or ``staticad out=`` is a form of."""
    return peer.split(" ")[0]


def fastest(rows: Iterable[Row], of: str) -> Row | None:
    """The fastest form of a peer among the rows of one workload."""
    found = [r for r in rows if family(r["peer"]) == of and r.get("seconds") is not None]
    return min(found, key=lambda r: r["seconds"]) if found else None


def best_peer(rows: Iterable[Row]) -> Row | None:
    """The fastest that is neither ours nor written by hand."""
    found = [r for r in rows if family(r["peer"]) not in ("staticad", "hand") and r.get("seconds") is not None]
    return min(found, key=lambda r: r["seconds"]) if found else None


def ahead(rows: Sequence[Row]) -> float | None:
    """How many times faster staticad is than the best peer."""
    ours, theirs = fastest(rows, "staticad"), best_peer(rows)
    return theirs["seconds"] / ours["seconds"] if ours and theirs else None


def of_hand(rows: Sequence[Row]) -> float | None:
    """staticad's time over that of the gradient written by hand."""
    ours, hand = fastest(rows, "staticad"), fastest(rows, "hand")
    return ours["seconds"] / hand["seconds"] if ours and hand else None


def of_limit(row: Row, roofline: Mapping[str, Any]) -> tuple[float, str] | None:
    """How near to the machine's limit generated code runs, and which limit that is: the time that its flops, or its
    bytes at the bandwidth for so many, would take, over the time it took."""
    counted = row.get("costs")
    if counted is None:
        return None
    rate = next((r for size, r in roofline["bandwidths"] if size >= counted["bytes"]), roofline["bandwidths"][-1][1])
    memory, flops = counted["bytes"] / rate, counted["flops"] / roofline[f"fma_{row['dtype']}"]
    return max(memory, flops) / row["seconds"], "memory" if memory > flops else "FMA"
