"""`logistic`: regression on 1000 rows of 50 features, value and gradient by weights and intercept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload


def loss(softplus: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    def program(xp: Any, x: Any, y: Any, w: Any, b: Any) -> Any:
        z = x @ w + b
        return xp.mean(softplus(xp, z) - y * z)

    return program


def workload(rows: int, features: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        x, w = rng.normal(size=(rows, features)), rng.normal(size=features)
        y = (x @ w + rng.normal(size=rows) > 0).astype("float64")
        return x, y, 0.1 * w, np.array(0.1)

    return Workload(
        name="logistic",
        size=f"{rows}x{features}",
        dtype="float64",
        data=data,
        peers=peers.derivatives(
            loss(lambda xp, z: xp.logaddexp(z, 0.0)),
            [("n", features), ("n",), (features,), ()],
            [2, 3],
            staticad=loss(lambda ad, z: ad.softplus(z)),
            jax=loss(lambda jnp, z: peers.jax().nn.softplus(z)),
            torch=loss(lambda torch, z: torch.nn.functional.softplus(z)),
            pytensor=loss(lambda pt, z: pt.softplus(z)),
        ),
        sizes={"n": rows},
        quick=quick,
    )


WORKLOADS = [workload(1000, 50, quick=True)]


def test_speed(entry: Any) -> None:
    entry()
