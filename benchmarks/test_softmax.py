"""`softmax`: softmax over rows with its vector-Jacobian product, float32: one loop over rows at best."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import hand, peers
from benchmarks.workload import Array, Program, Workload


def written(xp: Any, x: Any) -> Any:
    powers = xp.exp(x - xp.max(x, axis=1, keepdims=True))
    return powers / xp.sum(powers, axis=1, keepdims=True)


def by_hand(x: Array, g: Array) -> Program:
    exp = hand.exp32

    @hand.njit
    def run(x: Any, g: Any, y: Any, slope: Any) -> None:
        for i in range(x.shape[0]):
            top = x[i, 0]
            for j in range(x.shape[1]):
                top = hand.greater(top, x[i, j])
            total = np.float32(0)
            for j in range(x.shape[1]):
                e = exp(x[i, j] - top)
                y[i, j] = e
                total = hand.add(total, e)
            scale = np.float32(1) / total
            dot = np.float32(0)
            for j in range(x.shape[1]):
                e = y[i, j] * scale
                y[i, j] = e
                dot = hand.add(dot, e * g[i, j])
            for j in range(x.shape[1]):
                slope[i, j] = y[i, j] * (g[i, j] - dot)

    y, slope = np.empty_like(x), np.empty_like(x)

    def call() -> Any:
        run(x, g, y, slope)
        return y, slope

    return call


def workload(rows: int, columns: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        return rng.normal(size=(rows, columns)).astype("float32"), rng.normal(size=(rows, columns)).astype("float32")

    found = peers.derivatives(
        written,
        [("rows", columns), ("rows", columns)],
        [0],
        "cotangent",
        staticad=lambda ad, x: ad.nn.softmax(x),
        jax=lambda jnp, x: peers.jax().nn.softmax(x),
        torch=lambda torch, x: torch.softmax(x, 1),
        pytensor=lambda pt, x: pt.special.softmax(x, axis=1),
    )
    return Workload(
        name="softmax",
        size=f"{rows}x{columns}",
        dtype="float32",
        data=data,
        peers={**found, "hand": by_hand},
        sizes={"rows": rows},
        quick=quick,
        allocates=rows >= 1000,
    )


WORKLOADS = [workload(64, 50, quick=True), workload(4096, 512)]


def test_speed(entry: Any) -> None:
    entry()
