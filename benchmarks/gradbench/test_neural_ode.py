"""`neural_ode`: trajectories whose slope is a small network, against observed ones; the loss and its gradient.

The classical Runge-Kutta method with fixed steps, its steps a scan; the gradient goes through the solver. The loss is
the mean square of the distance at every step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Program, Workload

DURATION = 2.0


def loss(xp: Any, scan: Callable[..., Any], w1: Any, b1: Any, w2: Any, b2: Any, start: Any, observed: Any) -> Any:
    h = DURATION / observed.shape[0]

    def slope(y: Any) -> Any:
        return xp.tanh(y @ w1 + b1) @ w2 + b2

    def step(y: Any, _: Any) -> Any:
        k1 = slope(y)
        k2 = slope(y + h / 2 * k1)
        k3 = slope(y + h / 2 * k2)
        k4 = slope(y + h * k3)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
        return y, y

    _, path = scan(step, start, None, length=observed.shape[0])
    return xp.mean((path - observed) ** 2)


def by_staticad(*arrays: Array) -> tuple[Sequence[Any], Any]:
    import staticad as ad

    inputs = [ad.input(f"x{k}", a.shape) for k, a in enumerate(arrays)]
    value = loss(ad, ad.scan, *inputs)
    return inputs, (value, *ad.grad(value, inputs[:4]))


def by_jax(unroll: int) -> Callable[[Any], Any]:
    return lambda jax: partial(loss, jax.numpy, partial(jax.lax.scan, unroll=unroll))


def by_torch(*arrays: Array) -> Program:
    torch = peers.torch()
    given = [torch.from_numpy(a) for a in arrays]
    targets = [x.requires_grad_() for x in given[:4]]

    def scan(step: Any, y: Any, _: Any, length: int) -> Any:
        path = []
        for _ in range(length):
            y, left = step(y, None)
            path.append(left)
        return y, torch.stack(path)

    def run() -> Any:
        value = loss(torch, scan, *given)
        return (value, *torch.autograd.grad(value, targets))

    return run


def workload(batch: int, size: int, hidden: int, steps: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        r = np.random.default_rng(0)
        w1, w2 = r.normal(0, size**-0.5, (size, hidden)), r.normal(0, hidden**-0.5, (hidden, size))
        b1, b2 = r.normal(0, 0.1, hidden), r.normal(0, 0.1, size)
        return w1, b1, w2, b2, r.normal(size=(batch, size)), r.normal(size=(steps, batch, size))

    return Workload(
        name="neural_ode",
        size=f"{batch},{size},{hidden},{steps}",
        dtype="float64",
        data=data,
        peers={
            **peers.staticad(by_staticad),
            "jax": peers.jax_gradients(by_jax(1), 4),
            "jax (unroll=4)": peers.jax_gradients(by_jax(4), 4),
            "torch": by_torch,
        },
        quick=quick,
    )


WORKLOADS = [workload(1, 2, 16, 100, quick=True), workload(32, 2, 64, 100), workload(64, 8, 128, 200)]


def test_speed(entry: Any) -> None:
    entry()
