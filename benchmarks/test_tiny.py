"""`tiny`: value and gradient of sum(x sin x) of ten numbers, where what a call costs is all there is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Program, Workload


def program(xp: Any, x: Any) -> Any:
    return xp.sum(x * xp.sin(x))


def by_hand(x: Array) -> Program:
    from benchmarks import hand  # imports Numba, which `first_result` must find not imported

    @hand.njit
    def run(x: Any) -> Any:
        total, slope = 0.0, np.empty_like(x)
        for i in range(x.shape[0]):
            s = math.sin(x[i])
            total += x[i] * s
            slope[i] = s + x[i] * math.cos(x[i])
        return total, slope

    return lambda: run(x)


def workload(n: int) -> Workload:
    return Workload(
        name="tiny",
        size=f"{n}",
        dtype="float64",
        data=lambda: (np.random.default_rng(0).uniform(-3, 3, n),),
        peers={**peers.derivatives(program, [("n",)], [0]), "hand": by_hand},
        sizes={"n": n},
        quick=True,
    )


WORKLOADS = [workload(10)]


def test_speed(entry: Any) -> None:
    entry()
