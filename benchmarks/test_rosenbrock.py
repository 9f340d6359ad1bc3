"""`rosenbrock`: value, gradient and a Hessian-vector product of the extended Rosenbrock function."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Program, Workload


def value(xp: Any, x: Any) -> Any:
    rise, run = x[1:] - x[:-1] * x[:-1], 1.0 - x[:-1]
    return xp.sum(100.0 * (rise * rise) + run * run)


def by_staticad(x: Array, v: Array) -> tuple[Sequence[Any], Any]:
    import staticad as ad

    at, along = ad.input("x", ("n",)), ad.input("v", ("n",))
    out, slope = ad.value_and_grad(value(ad, at), at)
    return [at, along], (out, slope, ad.jvp(slope, at, along))


def by_jax(jax: Any) -> Any:
    def run(x: Any, v: Any) -> Any:
        (out, slope), (_, curved) = jax.jvp(jax.value_and_grad(lambda x: value(jax.numpy, x)), (x,), (v,))
        return out, slope, curved

    return run


def by_torch(x: Array, v: Array) -> Program:
    torch = peers.torch()
    at, along = torch.from_numpy(x).requires_grad_(), torch.from_numpy(v)

    def run() -> Any:
        out = value(torch, at)
        (slope,) = torch.autograd.grad(out, at, create_graph=True)
        (curved,) = torch.autograd.grad(slope, at, along)
        return out, slope, curved

    return run


def by_torch_compile(torch: Any) -> Any:
    def both(x: Any) -> Any:
        slope, out = torch.func.grad_and_value(lambda x: value(torch, x))(x)
        return out, slope

    def run(x: Any, v: Any) -> Any:
        (out, slope), (_, curved) = torch.func.jvp(both, (x,), (v,))
        return out, slope, curved

    return run


def by_pytensor(x: Any, v: Any) -> Any:
    pt, grad = peers.namespace("pytensor"), peers.pytensor().grad
    out = value(pt, x)
    slope = grad(out, x)
    return [out, slope, grad(pt.sum(slope * v), x)]


def by_autograd(x: Array, v: Array) -> Program:
    autograd, anp = importlib.import_module("autograd"), peers.namespace("autograd")
    both = autograd.value_and_grad(lambda x: value(anp, x))
    curved = autograd.elementwise_grad(lambda x, v: anp.sum(autograd.grad(lambda x: value(anp, x))(x) * v))
    return lambda: (*both(x), curved(x, v))


def workload(n: int, *, quick: bool = False) -> Workload:
    return Workload(
        name="rosenbrock",
        size=f"{n}",
        dtype="float64",
        data=lambda: tuple(np.random.default_rng(0).uniform(-1, 1, (2, n))),
        peers={  # MyGrad has no second derivatives
            **peers.staticad(by_staticad),
            "jax": peers.jax_function(by_jax),
            "torch": by_torch,
            "torch.compile": peers.torch_compiled(by_torch_compile),
            "pytensor": peers.pytensor_function(by_pytensor),
            "autograd": by_autograd,
        },
        sizes={"n": n},
        quick=quick,
        allocates=n >= 10**5,
    )


WORKLOADS = [workload(10, quick=True), workload(1000, quick=True), workload(100_000)]


def test_speed(entry: Any) -> None:
    entry()
