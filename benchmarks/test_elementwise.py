"""`elementwise`: value and gradient of sum(exp(-x^2) tanh x + log1p(exp x)), float32: one pass over memory at best."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Workload


def program(xp: Any, x: Any) -> Any:
    return xp.sum(xp.exp(-(x * x)) * xp.tanh(x) + xp.log1p(xp.exp(x)))


def workload(n: int, *, quick: bool = False) -> Workload:
    return Workload(
        name="elementwise",
        size=f"{n:.0e}".replace("+0", ""),
        dtype="float32",
        data=lambda: (np.random.default_rng(0).normal(size=n).astype("float32"),),
        peers=peers.derivatives(program, [("n",)], [0]),
        sizes={"n": n},
        quick=quick,
        allocates=True,
    )


WORKLOADS = [workload(10**6, quick=True)]


def test_speed(entry: Any) -> None:
    entry()
