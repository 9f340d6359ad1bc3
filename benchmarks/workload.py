"""What a workload is, and when its programs agree; knows no peer and no clock."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Program = Callable[[], Any]  # computes and waits for an array, or a nest of tuples and lists of arrays
Builder = Callable[..., Program]  # from the workload's arrays

TOLERANCE = {"float64": 1e-9, "float32": 1e-4}
OURS = ("staticad", "staticad out=")
PACKAGES = ("benchmarks", "benchmarks.gradbench")  # where the modules of workloads are
INDEPENDENT = ("jax", "torch", "autograd", "numpy", "pytensor")  # the first that runs is what the others are held to


@dataclass(frozen=True, eq=False)
class Workload:
    """One program at one size: ``peers`` make it, each in its best form, from the arrays that ``data`` returns.

    ``sizes`` are those of the symbolic dimensions in staticad's version, to count its flops and bytes. A program whose
    ``reports`` is true returns ``(seconds, results)``: it took the time itself, in another process. ``allocates``: some
    peer makes large temporaries, so what malloc does with freed pages matters.
    """

    name: str
    size: str
    dtype: str
    data: Callable[[], tuple[Array, ...]]
    peers: Mapping[str, Builder]
    sizes: Mapping[str, int] = field(default_factory=dict)
    quick: bool = False
    reports: bool = False
    allocates: bool = False

    def __str__(self) -> str:
        return f"{self.name} {self.size}"


class DisagreementError(AssertionError):
    """A program's results are not those of the reference."""


def results(program_result: Any) -> list[Array]:
    """The arrays in a nest of results, in order, as NumPy arrays."""
    if isinstance(program_result, (tuple, list)):
        return [a for part in program_result for a in results(part)]
    if hasattr(program_result, "detach"):
        program_result = program_result.detach()
    return [np.asarray(program_result)]


def computed(workload: Workload, program: Program) -> tuple[float | None, list[Array]]:
    """The time that a call reports, if it does, and its results, copied, since the next may write where they are."""
    found = program()
    seconds, found = found if workload.reports else (None, found)
    return seconds, [a.copy() for a in results(found)]


def difference(actual: Sequence[Array], expected: Sequence[Array]) -> float:
    """The largest over the results of ``|a - b|`` max over ``|b|`` max; infinite where shapes or NaNs differ."""
    if [a.shape for a in actual] != [b.shape for b in expected]:
        return np.inf
    worst = 0.0
    for a, b in zip(actual, expected, strict=True):
        if not b.size:
            continue
        scale = float(np.abs(b).max()) or 1.0
        found = float(np.abs(a.astype("float64") - b.astype("float64")).max()) / scale
        worst = max(worst, found if found == found else np.inf)
    return worst


def check(workload: Workload, peer: str, actual: Sequence[Array], expected: Sequence[Array]) -> float:
    """`difference`. Raises `DisagreementError` where it is more than the dtype allows."""
    found = difference(actual, expected)
    if not found <= TOLERANCE[workload.dtype]:
        shapes = f"shapes {[a.shape for a in actual]} and {[b.shape for b in expected]}"
        raise DisagreementError(
            f"{workload}: {peer} differs by {found:.2g} of the largest value from the reference ({shapes})"
        )
    return found


def all_workloads(only: Sequence[str] = ()) -> Iterator[Workload]:
    """The workloads of every module, or of those named. Raises ValueError for a name that there is not."""
    modules: dict[str, str] = {}
    for package in PACKAGES:
        found = pkgutil.iter_modules(importlib.import_module(package).__path__)
        names = [m.name.removeprefix("test_") for m in found if m.name.startswith("test_")]
        modules |= {name: f"{package}.test_{name}" for name in names}
    unknown = set(only) - set(modules)
    if unknown:
        raise ValueError(f"no workload is called {', '.join(sorted(unknown))}; there are {', '.join(modules)}")
    for name, module in modules.items():
        if not only or name in only:
            yield from importlib.import_module(module).WORKLOADS
