"""A Markdown table and a plot of the measurements found in a directory; measures nothing."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.peers import family

Row = Mapping[str, Any]
COLUMNS = ("staticad", "jax", "torch", "torch.compile", "pytensor", "autograd", "mygrad", "numpy", "hand")


def duration(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def write(directory: Path) -> None:
    """Write ``table.md`` and, where Matplotlib is, ``plot.png`` from every JSON file in ``directory``."""
    runs = [json.loads(path.read_text()) for path in sorted(directory.glob("*.json"))]
    runs = [run for run in runs if "rows" in run]
    (directory / "table.md").write_text("\n".join(text for run in runs for text in (*section(run), "")))
    plot(runs, directory / "plot.png")


def fastest(rows: Iterable[Row], of: str) -> Row | None:
    """The fastest form of a peer among the rows of one workload."""
    found = [r for r in rows if family(r["peer"]) == of and r["seconds"] is not None]
    return min(found, key=lambda r: r["seconds"]) if found else None


def best_peer(rows: Iterable[Row]) -> Row | None:
    """The fastest of those who differentiate by themselves."""
    found = [r for r in rows if family(r["peer"]) not in ("staticad", "hand") and r["seconds"] is not None]
    return min(found, key=lambda r: r["seconds"]) if found else None


def grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        found.setdefault((row["workload"], row["size"]), []).append(row)
    return found


def ratio(rows: list[Row]) -> float | None:
    """How many times faster staticad is than the best peer."""
    ours, theirs = fastest(rows, "staticad"), best_peer(rows)
    return theirs["seconds"] / ours["seconds"] if ours and theirs else None


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def section(run: Mapping[str, Any]) -> list[str]:
    """One run as Markdown: the machine, times with ratios, first calls, costs against the roofline, notes."""
    m, roof, groups = run["machine"], run["roofline"], grouped(run["rows"])
    present = [c for c in COLUMNS if any(fastest(rows, c) for rows in groups.values())]
    versions = ", ".join(f"{name} {v or 'absent'}" for name, v in m["versions"].items())
    threads = f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}"
    text = [
        f"## {threads}, {run['malloc']} malloc{', quick' if run['quick'] else ''}",
        "",
        f"{m['cpu']}, {m['cores']} cores, pinned to {run['cores_used']}; Python {m['python']}; {versions}; "
        f"{run['time']}, load {m['load'] or 0:.1f}. One thread: {roof['bandwidth'] / 1e9:.1f} GB/s (triad), FMA "
        f"{roof['fma_float32'] / 1e9:.0f} GFLOP/s in float32, {roof['fma_float64'] / 1e9:.0f} in float64.",
        "",
        "Medians of a call, all peers taking turns; `ahead` is the best peer's time over staticad's (above 1: faster), "
        "`of hand` staticad's over that of the gradient written by hand.",
        "",
        "| workload | " + " | ".join(present) + " | ahead | of hand |",
        "|---|" + "---|" * (len(present) + 2),
    ]
    for (name, size), rows in groups.items():
        found = {c: fastest(rows, c) for c in present}
        ours, hand, ahead = found.get("staticad"), found.get("hand"), ratio(rows)
        cells = [duration(r["seconds"]) if r else "–" for r in found.values()]
        cells.append(f"**{ahead:.2f}**" if ahead else "–")
        cells.append(f"{ours['seconds'] / hand['seconds']:.2f}" if ours and hand else "–")
        text.append(f"| `{name}` {size} | " + " | ".join(cells) + " |")
    ratios = [r for rows in groups.values() if (r := ratio(rows))]
    text += ["", f"Geometric mean of `ahead` over {len(ratios)} rows: **{geometric_mean(ratios):.2f}**.", ""]
    text += [*first_calls(groups, present), "", *roofline(groups, roof), "", *notes(run["rows"])]
    return text


def first_calls(groups: dict[tuple[str, str], list[Row]], present: list[str]) -> list[str]:
    """Seconds from nothing to the first result: building, compiling, one call."""
    text = [
        "First call, with building and compiling (staticad and Inductor from their disk caches where warm):",
        "",
        "| workload | " + " | ".join(present) + " |",
        "|---|" + "---|" * len(present),
    ]
    for (name, size), rows in groups.items():
        # The first form built is the one that compiles.
        found = [
            next((r for r in rows if family(r["peer"]) == c and r["first_call"] is not None), None) for c in present
        ]
        text.append(f"| `{name}` {size} | " + " | ".join(f"{r['first_call']:.2f}" if r else "–" for r in found) + " |")
    return text


def roofline(groups: dict[tuple[str, str], list[Row]], roof: Mapping[str, float]) -> list[str]:
    """What staticad's code moves and computes, by its own count, beside what one core can."""
    text = [
        "Counts of staticad's code. `bound` is the time its flops and bytes would take at the rates above on one "
        "thread (arrays in cache move faster); an exp counts 20 flops.",
        "",
        "| workload | kernels | temporaries | MB | MFLOP | GB/s | GFLOP/s | bound / time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (name, size), rows in groups.items():
        r = fastest(rows, "staticad")
        if r is None or r["costs"] is None:
            continue
        c, t = r["costs"], r["seconds"]
        bound = max(c["bytes"] / roof["bandwidth"], c["flops"] / roof[f"fma_{r['dtype']}"])
        text.append(
            f"| `{name}` {size} | {c['kernels']} | {c['temporaries']} | {c['bytes'] / 1e6:.3g} "
            f"| {c['flops'] / 1e6:.3g} | {c['bytes'] / t / 1e9:.3g} | {c['flops'] / t / 1e9:.3g} | {bound / t:.2f} |"
        )
    return text


def notes(rows: list[Row]) -> list[str]:
    """Who did not run, and why: once for what holds everywhere."""
    where: dict[tuple[str, str], list[str]] = {}
    for r in rows:
        if r["note"]:
            where.setdefault((r["peer"], r["note"]), []).append(f"`{r['workload']}` {r['size']}")
    return [
        f"- {peer}: {note} ({', '.join(at) if len(at) < 4 else f'{len(at)} entries'})"
        for (peer, note), at in where.items()
    ]


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Bars of each peer's time over staticad's, one panel a run. Nothing is drawn without Matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    runs = [run for run in runs if run["rows"]]
    if not runs:
        return
    tallest = max(len(grouped(run["rows"])) for run in runs)
    figure, axes = plt.subplots(1, len(runs), figsize=(6.5 * len(runs), 1.5 + 0.32 * tallest), squeeze=False)
    for axis, run in zip(axes[0], runs, strict=True):
        groups = {key: rows for key, rows in grouped(run["rows"]).items() if fastest(rows, "staticad")}
        for k, peer in enumerate(c for c in COLUMNS if c != "staticad"):
            points = [
                (fastest(rows, peer)["seconds"] / fastest(rows, "staticad")["seconds"], y)  # type: ignore[index]
                for y, rows in enumerate(groups.values())
                if fastest(rows, peer)
            ]
            if points:
                marker = "x" if peer == "hand" else "o"
                axis.scatter(*zip(*points, strict=True), label=peer, marker=marker, s=28, color=f"C{k}", zorder=3)
        axis.axvline(1.0, color="black", linewidth=1)
        axis.set_xscale("log")
        axis.set_yticks(range(len(groups)), [f"{name} {size}" for name, size in groups], fontsize=8)
        axis.invert_yaxis()
        axis.grid(axis="both", alpha=0.3)
        axis.set_xlabel("time / staticad's time (right of the line: slower than staticad)")
        axis.set_title(f"{run['threads']} thread(s), {run['malloc']} malloc", fontsize=10)
        axis.legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    plt.close(figure)
