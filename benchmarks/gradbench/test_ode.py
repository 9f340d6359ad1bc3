"""`ode` of GradBench: the last element at time 2 of an ordinary differential equation, and its gradient.

y(0) = 0; the slope of y is F(y)_0 = x_0, F(y)_i = x_i y_{i-1}. The classical Runge-Kutta method, its steps a scan. At
the large sizes the gradient underflows to zero; the sum of all elements has one that does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Program, Workload


def solved(concat: Callable[..., Any], scan: Callable[..., Any], steps: int, one: Any, x: Any) -> Any:
    """y at time 2."""
    h = 2.0 / steps

    def slope(y: Any) -> Any:
        return x * concat([one, y[:-1]])

    def step(y: Any, _: Any) -> Any:
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4), None

    return scan(step, 0 * x, None, length=steps)[0]


def delivered(y: Any, *, total: bool) -> Any:
    return y.sum() if total else y[-1]


def by_staticad(steps: int, total: bool) -> Callable[..., Any]:
    def make(x: Array) -> tuple[Sequence[Any], Any]:
        import staticad as ad

        given = ad.input("x", x.shape)
        y = delivered(solved(ad.concat, ad.scan, steps, ad.ones(1), given), total=total)
        return [given], ad.grad(y, given)

    return make


def by_jax(steps: int, total: bool, unroll: int) -> Callable[[Any], Any]:
    def make(jax: Any) -> Any:
        jnp, scan = jax.numpy, partial(jax.lax.scan, unroll=unroll)
        return jax.grad(lambda x: delivered(solved(jnp.concatenate, scan, steps, jnp.ones(1), x), total=total))

    return make


def by_torch(steps: int, total: bool) -> Callable[[Array], Program]:
    def scan(step: Any, y: Any, xs: Any, length: int) -> Any:
        for _ in range(length):
            y, _ = step(y, None)
        return y, None

    def build(x: Array) -> Program:
        torch = peers.torch()
        given, one = torch.from_numpy(x).requires_grad_(), torch.ones(1, dtype=torch.float64)

        def run() -> Any:
            y = delivered(solved(torch.cat, scan, steps, one, given), total=total)
            return torch.autograd.grad(y, given)

        return run

    return build


def workload(n: int, steps: int, *, total: bool = False, quick: bool = False) -> Workload:
    return Workload(
        name="ode",
        size=f"{n},{steps}" + (",sum" if total else ""),
        dtype="float64",
        data=lambda: (np.random.default_rng(0).random(n),),
        peers={
            **peers.staticad(by_staticad(steps, total)),
            "jax": peers.jax_function(by_jax(steps, total, 1)),
            "jax (unroll=4)": peers.jax_function(by_jax(steps, total, 4)),
            "torch": by_torch(steps, total),
        },
        quick=quick,
        allocates=n >= 100_000,
    )


WORKLOADS = [
    workload(4, 10, quick=True),
    workload(50, 100, quick=True),
    workload(1000, 10, total=True, quick=True),
    workload(1000, 10, quick=True),
    workload(10_000, 100),
    workload(100_000, 100),
]


def test_speed(entry: Any) -> None:
    entry()
