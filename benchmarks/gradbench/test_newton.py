"""`newton`: the minimum of a convex function by Newton's method with exact Hessians, differentiated through the loop.

f(x) = sum_i log cosh(b_i . x - t_i) + |x|^2 / 20; delivered is c . argmin f and its gradient with respect to b and t.
staticad's loop ends when it has converged. JAX has no reverse mode of such loops, so its peer takes as many steps as
are always enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload

ENOUGH = 12  # steps; the last few change nothing


def objective(xp: Any, x: Any, b: Any, t: Any) -> Any:
    return xp.sum(xp.log(xp.cosh(b @ x - t))) + 0.05 * xp.sum(x * x)


def by_staticad(*arrays: Array) -> tuple[Sequence[Any], Any]:
    import staticad as ad

    b, t, c = (ad.input(name, x.shape) for name, x in zip("btc", arrays, strict=True))

    def step(state: Any) -> Any:
        x, _ = state
        value = objective(ad, x, b, t)
        move = ad.linalg.solve(ad.hessian(value, x), ad.grad(value, x))
        return x - move, ad.sum(move * move)

    x, _ = ad.while_loop(lambda state: state[1] > 1e-26, step, (ad.zeros(c.shape), 1.0), max_steps=ENOUGH)
    value = ad.sum(c * x)
    return [b, t, c], (value, *ad.grad(value, [b, t]))


def by_jax(unroll: bool) -> Callable[[Any], Any]:
    def make(jax: Any) -> Any:
        jnp = jax.numpy

        def solution(b: Any, t: Any, c: Any) -> Any:
            def step(x: Any, _: Any = None) -> Any:
                slope = jax.grad(objective, argnums=1)(jnp, x, b, t)
                return x - jnp.linalg.solve(jax.hessian(objective, argnums=1)(jnp, x, b, t), slope), None

            return jnp.sum(c * jax.lax.scan(step, jnp.zeros(c.shape), None, length=ENOUGH, unroll=unroll)[0])

        return solution

    return make


def workload(size: int, terms: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        return rng.normal(size=(terms, size)) / size**0.5, rng.normal(size=terms), rng.normal(size=size)

    return Workload(
        name="newton",
        size=f"{size},{terms}",
        dtype="float64",
        data=data,
        peers={
            **peers.staticad(by_staticad),
            "jax": peers.jax_gradients(by_jax(False), 2),
            "jax (unrolled)": peers.jax_gradients(by_jax(True), 2),
        },
        quick=quick,
    )


WORKLOADS = [workload(3, 50, quick=True), workload(6, 500), workload(30, 1000)]


def test_speed(entry: Any) -> None:
    entry()
