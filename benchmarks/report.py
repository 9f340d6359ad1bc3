"""Table, plot and the README's figures, from the measurements kept in a directory; measures nothing.

Run as ``python -m benchmarks.report [DIRECTORY]``. For the runs of everything it rewrites the README's block too.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks import results
from benchmarks.results import Row, Run, ahead, best_peer, family, fastest, grouped, of_hand, of_limit

README = Path(__file__).parent.parent / "README.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
COLUMNS = ("staticad", "jax", "torch", "torch.compile", "pytensor", "autograd", "mygrad", "numpy", "hand")
Groups = Mapping[tuple[str, str], list[Row]]

# The rows that the README shows: one or two of each workload.
SHOWN = (
    ("tiny", "10"), ("mlp", "8x16-32-4"), ("mlp", "128x784-256-10"), ("elementwise", "1e6"), ("softmax", "4096x512"),
    ("logistic", "1000x50"), ("blackscholes", "1e6"), ("rosenbrock", "100000"), ("cnn", "32x28x28"),
    ("attention", "4x64x64"), ("gemm", "512 nn float32"), ("gemm", "512 nn float64"), ("lse", "1280000"),
    ("llsq", "16392"), ("ode", "10000,100"), ("lstm", "6,8192"), ("kmeans", "1000,10000,16"), ("gmm", "64,50"),
    ("ba", "182072"),
)  # fmt: skip


def duration(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def write(directory: Path) -> None:
    """Write ``table.md`` and, where Matplotlib is, ``plot.png`` from the JSON files in ``directory``; for those of
    everything also the README's figures."""
    runs = results.load(directory)
    (directory / "table.md").write_text("\n".join(text for run in runs for text in (*section(run), "")))
    print(f"wrote {directory / 'table.md'}")
    try:
        from benchmarks import plot
    except ImportError:
        print("no plot: Matplotlib is not installed")
    else:
        plot.write(runs, directory / "plot.png")
        print(f"wrote {directory / 'plot.png'}")
    if directory.resolve() == results.COMPLETE.resolve():
        README.write_text(with_figures(README.read_text(), runs))
        print(f"wrote the figures of {README}")


def geometric_mean(values: Iterable[float]) -> float:
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else math.nan


def means(groups: Groups) -> tuple[float, int, float, int]:
    """The geometric mean of `ahead` over all rows, their number; over the workloads' own means, so that one with many
    sizes counts once; their number. The first results of new processes are no part of it."""
    ratios: dict[str, list[float]] = {}
    for (name, _), rows in groups.items():
        r = ahead(rows)
        if r is not None and name != "startup":
            ratios.setdefault(name, []).append(r)
    every = [r for found in ratios.values() for r in found]
    return geometric_mean(every), len(every), geometric_mean(map(geometric_mean, ratios.values())), len(ratios)


# the table ------------------------------------------------------------------------------------------------------------


def threads_of(run: Run) -> str:
    return f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}"


def setting(run: Run) -> str:
    """The machine, the versions, and what the machine could do at best."""
    m, roof = run["machine"], run["roofline"]
    versions = ", ".join(f"{name} {v or 'absent'}" for name, v in m["versions"].items())
    memory = ", ".join(f"{rate / 1e9:.0f} GB/s to {size / 1e6:g} MB" for size, rate in roof["bandwidths"])
    return (
        f"{m['cpu']}, {m['cores']} cores, pinned to {run['cores_used']}; Python {m['python']}; {versions}; "
        f"{run['time']}, load {m['load'] or 0:.1f}, {run['seconds'] / 60:.1f} minutes. Measured limits of "
        f"{threads_of(run)}: FMA {roof['fma_float32'] / 1e9:.0f} GFLOP/s in float32, {roof['fma_float64'] / 1e9:.0f} "
        f"in float64; a triad {memory} of arrays."
    )


def apart(run: Run) -> str:
    """What is to be said of peers that did not share a process."""
    return ", each peer in a process of its own" if run.get("apart") else ""


def section(run: Run) -> list[str]:
    """One run as Markdown: the machine, times with ratios, first calls, costs against the limits, products, notes."""
    groups = grouped(run["rows"])
    present = [c for c in COLUMNS if any(fastest(rows, c) for rows in groups.values())]
    text = [
        f"## {threads_of(run)}{', quick' if run['quick'] else ''}",
        "",
        setting(run),
        "",
        f"Medians of a call, all peers taking turns{apart(run)}; each peer's fastest form. `ahead` is the best peer's "
        "time over staticad's (above 1: faster), `of hand` staticad's over that of the gradient written by hand. ᵗ: "
        "with malloc kept from returning pages, where that is the peer's faster form.",
        "",
        "| workload | " + " | ".join(present) + " | ahead | of hand |",
        "|---|" + "---|" * (len(present) + 2),
    ]
    for (name, size), rows in groups.items():
        best, ratio, hand = best_peer(rows), ahead(rows), of_hand(rows)
        cells = [cell(fastest(rows, c), best) for c in present]
        cells += [f"**{ratio:.2f}**" if ratio else "–", f"{hand:.2f}" if hand else "–"]
        text.append(f"| `{name}` {size} | " + " | ".join(cells) + " |")
    mean, count, by_workload, workloads = means(groups)
    text += [
        "",
        f"Geometric mean of `ahead`: **{mean:.2f}** over {count} rows, **{by_workload:.2f}** over the means of "
        f"{workloads} workloads (without `startup`).",
        "",
    ]
    if run["threads"] == 1:  # the runs after it find compiled code in caches
        text += [*first_calls(groups, present), ""]
    text += [*costs(groups, run["roofline"]), ""]
    if run.get("products"):
        text += [*products(run["products"]), ""]
    return text + notes(run["rows"])


def cell(row: Row | None, best: Row | None) -> str:
    if row is None:
        return "–"
    text = duration(row["seconds"]) + ("ᵗ" if "tuned malloc" in row["peer"] else "")
    return f"*{text}*" if row is best else text


def first_calls(groups: Groups, present: Sequence[str]) -> list[str]:
    """Seconds from nothing to the first result: building, compiling, one call."""
    text = [
        "Seconds to the first result, with building and compiling, the library having compiled something before and "
        "all caches empty; and how often staticad's are JAX's.",
        "",
        "| workload | " + " | ".join(present) + " | of JAX |",
        "|---|" + "---|" * (len(present) + 1),
    ]
    for (name, size), rows in groups.items():
        # The first form built is the one that compiles.
        found = {
            c: next((r for r in rows if family(r["peer"]) == c and r.get("first_call") is not None), None)
            for c in present
        }
        ours, theirs = found.get("staticad"), found.get("jax")
        cells = [f"{r['first_call']:.2f}" if r else "–" for r in found.values()]
        cells.append(f"{ours['first_call'] / theirs['first_call']:.1f}" if ours and theirs else "–")
        if name != "startup":
            text.append(f"| `{name}` {size} | " + " | ".join(cells) + " |")
    return text


def costs(groups: Groups, roofline: Mapping[str, object]) -> list[str]:
    """What staticad's code moves and computes, by its own count, beside what the machine can."""
    text = [
        "Counts of staticad's code, and how near it runs to the machine's limit: the time that its flops, or its bytes "
        "at the bandwidth measured for so many, would take at best, over the time it took. An exp counts 20 flops.",
        "",
        "| workload | kernels | temporaries | MB | MFLOP | GB/s | GFLOP/s | % of limit | which |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (name, size), rows in groups.items():
        r = fastest(rows, "staticad")
        limit = of_limit(r, roofline) if r else None
        if r is None or limit is None:
            continue
        c, t = r["costs"], r["seconds"]
        text.append(
            f"| `{name}` {size} | {c['kernels']} | {c['temporaries']} | {c['bytes'] / 1e6:.3g} "
            f"| {c['flops'] / 1e6:.3g} | {c['bytes'] / t / 1e9:.3g} | {c['flops'] / t / 1e9:.3g} "
            f"| {100 * limit[0]:.0f} | {limit[1]} |"
        )
    return text


def products(found: Sequence[Mapping[str, object]]) -> list[str]:
    """The product kernel and OpenBLAS, both called from compiled code."""
    kinds = ("nn", "nt", "tn", "tt")
    by_key = {(p["dtype"], p["n"], p["kind"]): p for p in found}
    text = [
        "The product kernel alone, called from compiled code as OpenBLAS is: GFLOP/s (times OpenBLAS's), for each "
        "transposition; % of the FMA rate of `nn`.",
        "",
        "| n | dtype | " + " | ".join(kinds) + " | % of FMA |",
        "|---|---|" + "---|" * (len(kinds) + 1),
    ]
    for dtype, n in dict.fromkeys((p["dtype"], p["n"]) for p in found):
        row = [by_key[dtype, n, kind] for kind in kinds]
        cells = [f"{p['staticad']:.3g} ({p['staticad'] / p['openblas']:.2f})" for p in row]  # type: ignore[operator]
        text.append(f"| {n} | {dtype} | " + " | ".join(cells) + f" | {100 * row[0]['of_peak']:.0f} |")  # type: ignore[operator]
    return text


def notes(rows: Iterable[Row]) -> list[str]:
    """Who did not run, and why: once for what holds everywhere."""
    where: dict[tuple[str, str], list[str]] = {}
    for r in rows:
        if r.get("note"):
            where.setdefault((r["peer"], r["note"]), []).append(f"`{r['workload']}` {r['size']}")
    return [
        f"- {peer}: {note} ({', '.join(at) if len(at) < 4 else f'{len(at)} entries'})"
        for (peer, note), at in where.items()
    ]


# the README -----------------------------------------------------------------------------------------------------------


def with_figures(readme: str, runs: Sequence[Run]) -> str:
    """The text with its block of figures made anew. Raises ValueError where it has no such block."""
    start, end = readme.index(BEGIN) + len(BEGIN), readme.index(END)
    return f"{readme[:start]}\n{figures(runs)}\n{readme[end:]}"


def figures(runs: Sequence[Run]) -> str:
    """What the README says of the runs."""
    if not runs:
        return "No results are kept in `benchmarks/results/`."
    first = runs[0]
    m = first["machine"]
    present = [name for name in ("jax", "torch", "pytensor", "autograd", "mygrad") if m["versions"].get(name)]
    versions = ", ".join(f"{name} {m['versions'][name]}" for name in ("numba", "numpy", *present))
    text = [
        f"On {m['cores']} cores of an {m['cpu']} (Python {m['python']}, {versions}; {first['time'][:10]}), "
        "one call of the best peer's best form over one of staticad, as a geometric mean:",
        "",
    ]
    for run in runs:
        mean, count, by_workload, workloads = means(grouped(run["rows"]))
        text.append(
            f"- {threads_of(run)}{apart(run)}: **{by_workload:.1f}** over the means of {workloads} workloads, "
            f"{mean:.1f} over all {count} rows"
        )
    text += ["", "![time of each peer over staticad's, by workload](benchmarks/results/plot.png)", ""]
    heads = [f"{threads_of(run)} | best peer | ahead | % of limit" for run in runs]
    text += [f"| workload | {' | '.join(heads)} |", "|---|" + "---|" * 4 * len(runs)]
    groups = [grouped(run["rows"]) for run in runs]
    for key in SHOWN:
        if any(ahead(found.get(key, [])) for found in groups):
            cells = [cells_of(found.get(key, []), run) for found, run in zip(groups, runs, strict=True)]
            text.append(f"| `{key[0]}` {key[1]} | {' | '.join(cells)} |")
    text += ["", compile_time(groups[0])]
    return "\n".join(text).rstrip()


def cells_of(rows: Sequence[Row], run: Run) -> str:
    ours, theirs, ratio = fastest(rows, "staticad"), best_peer(rows), ahead(rows)
    if ours is None or theirs is None or ratio is None:
        return "– | – | – | –"
    limit = of_limit(ours, run["roofline"])
    percent = f"{100 * limit[0]:.0f} ({limit[1]})" if limit else "–"
    best = f"{family(theirs['peer'])} {duration(theirs['seconds'])}"
    return f"{duration(ours['seconds'])} | {best} | {ratio:.2f} | {percent}"


def compile_time(groups: Groups) -> str:
    """One sentence on the first results of new processes, where they were measured."""
    parts = []
    for (name, size), rows in groups.items():
        found = {c: r for c in COLUMNS if (r := fastest(rows, c))}
        if name == "startup" and "staticad" in found:
            times = ", ".join(f"{c} {r['seconds']:.2f} s" for c, r in found.items())
            parts.append(f"- {size} cache: {times}")
    if not parts:
        return ""
    return "\n".join(["The first result in a new process, after the library's import:", "", *parts])


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else results.COMPLETE)
