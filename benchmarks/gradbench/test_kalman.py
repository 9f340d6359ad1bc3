"""`kalman`: the log-likelihood of a linear Gaussian state-space model, and its gradient with respect to the model.

The filter is a scan whose steps hold a small Cholesky factor and two triangular solves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload


def loss(
    xp: Any, scan: Callable[..., Any], solve: Callable[..., Any], a: Any, c: Any, lq: Any, lr: Any, ys: Any
) -> Any:
    """States x <- a x + lq w, observed as y = c x + lr v, with standard normal w and v; x = 0 at first."""
    n, m = a.shape[0], c.shape[0]
    q, r = lq @ lq.T, lr @ lr.T

    def step(carry: Any, y: Any) -> Any:
        mean, cov, total = carry
        mean, cov = a @ mean, a @ cov @ a.T + q
        factor = xp.linalg.cholesky(c @ cov @ c.T + r)
        z = solve(factor, y - c @ mean)
        gain = solve(factor, c @ cov)
        total = total + 0.5 * xp.sum(z * z) + xp.sum(xp.log(xp.diagonal(factor))) + 0.5 * m * np.log(2 * np.pi)
        return (mean + gain.T @ z, cov - gain.T @ gain, total), None

    first = xp.zeros(n), xp.zeros((n, n)), 0.0
    (_, _, total), _ = scan(step, first, ys)
    return total


def by_staticad(*arrays: Array) -> tuple[Sequence[Any], Any]:
    import staticad as ad

    names = [("a", 0), ("c", 1), ("lq", 2), ("lr", 3)]
    inputs = [*(ad.input(name, arrays[k].shape) for name, k in names), ad.input("ys", ("t", arrays[4].shape[1]))]
    value = loss(ad, ad.scan, partial(ad.linalg.solve_triangular, lower=True), *inputs)
    return inputs, (value, *ad.grad(value, inputs[:4]))


def by_jax(unroll: int) -> Callable[[Any], Any]:
    def make(jax: Any) -> Any:
        from jax.scipy.linalg import solve_triangular

        solve = partial(solve_triangular, lower=True)
        return partial(loss, jax.numpy, partial(jax.lax.scan, unroll=unroll), solve)

    return make


def workload(states: int, seen: int, steps: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        a = 0.95 * np.linalg.qr(rng.normal(size=(states, states)))[0]
        lq, lr = (np.tril(0.1 * rng.normal(size=(k, k))) + 0.5 * np.eye(k) for k in (states, seen))
        return a, rng.normal(size=(seen, states)), lq, lr, rng.normal(size=(steps, seen))

    return Workload(
        name="kalman",
        size=f"{states},{seen},{steps}",
        dtype="float64",
        data=data,
        peers={
            **peers.staticad(by_staticad),
            "jax": peers.jax_gradients(by_jax(1), 4),
            "jax (unroll=4)": peers.jax_gradients(by_jax(4), 4),
        },
        sizes={"t": steps},
        quick=quick,
    )


WORKLOADS = [workload(2, 1, 1000), workload(4, 2, 1000, quick=True), workload(8, 4, 1000)]


def test_speed(entry: Any) -> None:
    entry()
