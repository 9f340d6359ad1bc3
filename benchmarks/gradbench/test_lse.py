"""`lse` of GradBench: the gradient of log sum exp."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import hand, peers
from benchmarks.workload import Array, Program, Workload


def written(xp: Any, x: Any) -> Any:
    top = xp.max(x)
    return top + xp.log(xp.sum(xp.exp(x - top)))


def by_hand(x: Array) -> Program:
    exp = hand.exp

    @hand.njit
    def run(x: Any, slope: Any) -> Any:
        top = x[0]
        for i in range(x.shape[0]):
            top = hand.greater(top, x[i])
        total = 0.0
        for i in range(x.shape[0]):
            e = exp(x[i] - top)
            slope[i] = e
            total = hand.add(total, e)
        scale = 1.0 / total
        for i in range(x.shape[0]):
            slope[i] *= scale
        return top + np.log(total)

    slope = np.empty_like(x)
    return lambda: (run(x, slope), slope)


def workload(n: int, *, quick: bool = False) -> Workload:
    return Workload(
        name="lse",
        size=f"{n}",
        dtype="float64",
        data=lambda: (np.random.default_rng(0).random(n),),
        peers={
            **peers.derivatives(
                written,
                [("n",)],
                [0],
                staticad=lambda ad, x: ad.logsumexp(x),
                jax=lambda jnp, x: peers.jax().scipy.special.logsumexp(x),
                torch=lambda torch, x: torch.logsumexp(x, 0),
            ),
            "hand": by_hand,
        },
        sizes={"n": n},
        quick=quick,
        allocates=n >= 10**6,
    )


WORKLOADS = [workload(2500, quick=True), workload(80_000, quick=True), workload(1_280_000)]


def test_speed(entry: Any) -> None:
    entry()
