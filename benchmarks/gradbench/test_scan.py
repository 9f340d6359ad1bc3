"""`scan`: 10,000 steps of bodies as small as they come, 3x3 in float64: the sum of squares of what they end with, alone
and with its gradient by the weights ``a [3, 3, 3]``.

What is timed is what a step costs beside its arithmetic; where that is a chain of a few dependent operations
(``linear``, ``tanh``), its latency bounds everyone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload

STEPS = 10_000
EYE = np.eye(3)


def linear(xp: Any, a: Any, h: Any, x: Any) -> Any:
    return a[0] @ h + x


def recurrent(xp: Any, a: Any, h: Any, x: Any) -> Any:
    """A plain recurrent network of three units."""
    return xp.tanh(a[0] @ h + x)


def matrix(xp: Any, a: Any, h: Any, x: Any) -> Any:
    return a[0] @ h + x[:, None]


def covariance(xp: Any, a: Any, h: Any, x: Any) -> Any:
    """Of a state that goes on as ``a @ state`` plus noise."""
    return a[0] @ h @ a[0].T + x[:, None] * x


def rotation(xp: Any, a: Any, h: Any, x: Any) -> Any:
    """The orientation of a body that turns by ``x``, to second order."""
    v, o = a[0] @ x, 0.0 * x[0]
    turn = xp.stack([xp.stack([o, -v[2], v[1]]), xp.stack([v[2], o, -v[0]]), xp.stack([-v[1], v[0], o])])
    return h @ (EYE + turn + 0.5 * (turn @ turn))


def runge_kutta(xp: Any, a: Any, h: Any, x: Any) -> Any:
    """A step of the classical method for ``y' = a @ y + x``."""
    dt = 0.1

    def slope(y: Any) -> Any:
        return a[0] @ y + x

    k1 = slope(h)
    k2 = slope(h + 0.5 * dt * k1)
    k3 = slope(h + 0.5 * dt * k2)
    k4 = slope(h + dt * k3)
    return h + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def gated(xp: Any, a: Any, h: Any, x: Any) -> Any:
    """A gated recurrent unit of three units."""
    update, reset = (1 / (1 + xp.exp(-(a[k] @ h + x))) for k in (0, 1))
    return (1 - update) * h + update * xp.tanh(a[2] @ (reset * h) + x)


def forward(xp: Any, a: Any, h: Any, x: Any) -> Any:
    """The forward algorithm of a hidden Markov model of three states."""
    y = h[:, None] + a[0]
    m = xp.max(y, axis=0)
    return m + xp.log(xp.sum(xp.exp(y - m), axis=0)) + x


#: What is carried: a vector or a matrix.
BODIES: dict[str, tuple[Callable[..., Any], int]] = {
    "linear": (linear, 1),
    "tanh": (recurrent, 1),
    "gru": (gated, 1),
    "rk4": (runge_kutta, 1),
    "hmm": (forward, 1),
    "matrix": (matrix, 2),
    "covariance": (covariance, 2),
    "rotation": (rotation, 2),
}


def loss(body: Callable[..., Any], xp: Any, scan: Callable[..., Any], a: Any, h: Any, xs: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        return body(xp, a, h, x), None

    last, _ = scan(step, h, xs)
    return xp.sum(last * last)


def by_staticad(*arrays: Array, body: Callable[..., Any], slope: bool) -> tuple[Sequence[Any], Any]:
    import staticad as ad

    a, h, xs = ad.input("a", (3, 3, 3)), ad.input("h", arrays[1].shape), ad.input("xs", ("t", 3))
    value = loss(body, ad, ad.scan, a, h, xs)
    return [a, h, xs], (value, *ad.grad(value, [a])) if slope else value


def by_jax(body: Callable[..., Any], unroll: int) -> Callable[[Any], Any]:
    return lambda jax: partial(loss, body, jax.numpy, partial(jax.lax.scan, unroll=unroll))


def workload(name: str, *, slope: bool, quick: bool = False) -> Workload:
    body, ndim = BODIES[name]

    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        return 0.4 * rng.normal(size=(3, 3, 3)), EYE[0] if ndim == 1 else EYE, 0.1 * rng.normal(size=(STEPS, 3))

    def jax(unroll: int) -> Any:
        make = by_jax(body, unroll)
        return peers.jax_gradients(make, 1) if slope else peers.jax_function(make)

    return Workload(
        name="scan",
        size=f"{name},gradient" if slope else name,
        dtype="float64",
        data=data,
        peers={
            **peers.staticad(partial(by_staticad, body=body, slope=slope)),
            "jax": jax(1),
            "jax (unroll=8)": jax(8),
        },
        sizes={"t": STEPS},
        quick=quick,
    )


WORKLOADS = [workload(name, slope=slope, quick=name == "linear") for name in BODIES for slope in (False, True)]


def test_speed(entry: Any) -> None:
    entry()
