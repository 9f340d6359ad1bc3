"""`blackscholes`: prices of European calls and all greeks of first order (spot, strike, time, rate, volatility)."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload


def price(erf: Callable[[Any], Any]) -> Callable[..., Any]:
    def program(xp: Any, spot: Any, strike: Any, time: Any, rate: Any, volatility: Any) -> Any:
        spread = volatility * xp.sqrt(time)
        d1 = (xp.log(spot / strike) + (rate + 0.5 * volatility * volatility) * time) / spread
        d2 = d1 - spread

        def below(d: Any) -> Any:
            return 0.5 + 0.5 * erf(d * 0.5**0.5)

        return spot * below(d1) - strike * xp.exp(-rate * time) * below(d2)

    return program


def autograd_price(anp: Any, *x: Any) -> Any:
    return price(importlib.import_module("autograd.scipy.special").erf)(anp, *x)


def workload(n: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        ranges = ((80, 120), (80, 120), (0.1, 2), (0.01, 0.1), (0.1, 0.5))
        return tuple(rng.uniform(low, high, n) for low, high in ranges)

    return Workload(
        name="blackscholes",
        size=f"{n:.0e}".replace("+0", ""),
        dtype="float64",
        data=data,
        peers=peers.derivatives(
            None,  # MyGrad has no erf
            [("n",)] * 5,
            range(5),
            "sum",
            staticad=lambda ad, *x: price(ad.erf)(ad, *x),
            jax=lambda jnp, *x: price(peers.jax().scipy.special.erf)(jnp, *x),
            torch=lambda torch, *x: price(torch.erf)(torch, *x),
            pytensor=lambda pt, *x: price(pt.erf)(pt, *x),
            autograd=autograd_price,
        ),
        sizes={"n": n},
        quick=quick,
        allocates=n >= 10**6,
    )


WORKLOADS = [workload(10**4, quick=True), workload(10**6)]


def test_speed(entry: Any) -> None:
    entry()
