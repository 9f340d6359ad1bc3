"""The plot of measurements: for each workload a dot a peer, its time over staticad's; needs Matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

from benchmarks.results import Row, Run, fastest, grouped

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

# fmt: off
LOOKS = {                              # colour, marker; few who cannot tell colours apart are lost
    "jax":           ("#2f6fdd", "o"),
    "torch":         ("#e4572e", "s"),
    "torch.compile": ("#f2a541", "D"),
    "pytensor":      ("#3a9d6e", "^"),
    "autograd":      ("#8a5fbf", "v"),
    "mygrad":        ("#b0b0b0", "P"),
    "numpy":         ("#5c6b73", "X"),
    "hand":          ("#111111", "|"),
}
# fmt: on
PRODUCTS = (2, 16, 128, 512, 1024)  # of the many sizes of `gemm`, those drawn


def drawn(rows: Sequence[Row]) -> dict[tuple[str, str], list[Row]]:
    """The workloads that have a line of their own, in order of their names."""
    found = {key: group for key, group in grouped(rows).items() if fastest(group, "staticad")}

    def kept(name: str, size: str) -> bool:
        if name != "gemm":
            return True
        n, kind, _ = size.split()
        return kind == "nn+" or (kind == "nn" and int(n) in PRODUCTS)

    return {key: group for key, group in found.items() if kept(*key)}


def write(runs: Sequence[Run], path: Path) -> None:
    """Draw one panel a run. Nothing is drawn where nothing was measured."""
    runs = [run for run in runs if drawn(run["rows"])]
    if not runs:
        return
    lines = list(dict.fromkeys(key for run in runs for key in drawn(run["rows"])))
    size = (3.2 + 5.2 * len(runs), 1.6 + 0.235 * len(lines))
    figure, axes = plt.subplots(1, len(runs), figsize=size, squeeze=False, sharey=True, sharex=True)
    for axis, run in zip(axes[0], runs, strict=True):
        panel(axis, drawn(run["rows"]), lines)
        axis.set_title(f"{run['threads']} thread{'s' if run['threads'] > 1 else ''}", fontsize=11, pad=10)
    axes[0][0].set_yticks(range(len(lines)), [f"{name}  {size}" for name, size in lines], fontsize=8.5)
    axes[0][0].set_ylim(len(lines) - 0.4, -0.6)
    handles = {h.get_label(): h for axis in axes[0] for h in axis.get_legend_handles_labels()[0]}
    figure.legend(
        [handles[p] for p in LOOKS if p in handles],
        [p for p in LOOKS if p in handles],
        loc="lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handletextpad=0.2,
        columnspacing=1.2,
    )
    figure.tight_layout(rect=(0, 0.45 / size[1], 1, 1))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def panel(axis: Axes, groups: Mapping[tuple[str, str], list[Row]], lines: Sequence[tuple[str, str]]) -> None:
    """A dot for each peer on each line; bands join the sizes of a workload."""
    names = list(dict.fromkeys(name for name, _ in lines))
    for y, (name, _) in enumerate(lines):
        if names.index(name) % 2 == 0:
            axis.axhspan(y - 0.5, y + 0.5, color="#f3f4f6", linewidth=0, zorder=0)
    for peer, (colour, marker) in LOOKS.items():
        points = []
        for y, key in enumerate(lines):
            ours, theirs = fastest(groups.get(key, []), "staticad"), fastest(groups.get(key, []), peer)
            if ours and theirs:
                points.append((theirs["seconds"] / ours["seconds"], y))
        if points:
            edge = {"linewidths": 1.8} if peer == "hand" else {"linewidths": 0.6, "edgecolors": "white"}
            size = 70 if peer == "hand" else 38
            axis.scatter(*zip(*points, strict=True), label=peer, marker=marker, s=size, color=colour, zorder=3, **edge)
    axis.axvline(1.0, color="#c0392b", linewidth=1.2, zorder=2)
    axis.set_xscale("log")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}x"))
    axis.grid(axis="x", which="major", color="#d9dce1", linewidth=0.7, zorder=1)
    axis.tick_params(axis="both", length=0)
    axis.set_xlabel("time over staticad's (right of the line: slower than staticad)", fontsize=9)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
