"""`kmeans` of GradBench: the Newton direction J / diag(H) of the clustering cost, J its gradient, diag(H) = H 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from benchmarks import hand, peers
from benchmarks.workload import Array, Program, Workload


def direct(xp: Any, smallest: Callable[..., Any], points: Any, centres: Any) -> Any:
    away = centres[None, :, :] - points[:, None, :]
    return xp.sum(smallest(xp.sum(away * away, axis=2), axis=1))


def expanded(xp: Any, smallest: Callable[..., Any], points: Any, centres: Any) -> Any:
    """The squares of the distances as a product: |p|^2 - 2 p.c + |c|^2."""
    squares = xp.sum(centres * centres, axis=1) - 2 * (points @ centres.T)
    return xp.sum(smallest(squares, axis=1) + xp.sum(points * points, axis=1))


def by_staticad(cost: Callable[..., Any]) -> Callable[..., Any]:
    def make(points: Array, centres: Array) -> tuple[Sequence[Any], Any]:
        import staticad as ad

        p = ad.input("points", ("n", points.shape[1]))
        c = ad.input("centres", centres.shape)
        slope = ad.grad(cost(ad, ad.min, p, c), c)
        return [p, c], slope / ad.jvp(slope, c, ad.ones(c.shape))

    return make


def by_jax(cost: Callable[..., Any]) -> Callable[[Any], Any]:
    def make(jax: Any) -> Any:
        def run(p: Any, c: Any) -> Any:
            slope, curved = jax.jvp(
                jax.grad(lambda c: cost(jax.numpy, jax.numpy.min, p, c)), (c,), (jax.numpy.ones_like(c),)
            )
            return slope / curved

        return run

    return make


def by_torch(points: Array, centres: Array) -> Program:
    torch = peers.torch()
    p, c = torch.from_numpy(points), torch.from_numpy(centres).requires_grad_()
    ones = torch.ones_like(c)

    def nearest(x: Any, axis: int) -> Any:
        return torch.min(x, axis).values  # its derivative is an index, where amin's compares

    def run() -> Any:
        (slope,) = torch.autograd.grad(expanded(torch, nearest, p, c), c, create_graph=True)
        (curved,) = torch.autograd.grad(slope, c, ones)
        return slope / curved

    return run


def by_torch_compile(torch: Any) -> Any:
    def nearest(x: Any, axis: int) -> Any:
        return torch.min(x, axis).values

    def run(p: Any, c: Any) -> Any:
        slope_of = torch.func.grad(lambda c: expanded(torch, nearest, p, c))
        slope, curved = torch.func.jvp(slope_of, (c,), (torch.ones_like(c),))
        return slope / curved

    return run


def by_pytensor(points: Any, centres: Any) -> Any:
    pt, grad = peers.namespace("pytensor"), peers.pytensor().grad
    slope = grad(expanded(pt, pt.min, points, centres), centres)
    return [slope / grad(pt.sum(slope), centres)]


def by_hand(points: Array, centres: Array) -> Program:
    """Structure of arrays: the distances of a block of points to one centre after another, in L1."""
    block, (n, d), k = 256, points.shape, len(centres)

    @hand.njit
    def run(p: Any, c: Any, best: Any, which: Any, away: Any, counts: Any, total: Any, out: Any) -> None:
        counts[:] = 0.0
        total[:] = 0.0
        for first in range(0, n, block):
            m = min(block, n - first)
            best[:] = np.inf
            for j in range(k):
                for i in range(m):
                    away[i] = 0.0
                for a in range(d):
                    at = c[j, a]
                    for i in range(m):
                        x = p[a, first + i] - at
                        away[i] += x * x
                for i in range(m):
                    nearer = away[i] < best[i]
                    best[i] = away[i] if nearer else best[i]
                    which[i] = np.int64(j) if nearer else which[i]
            for i in range(m):
                j = which[i]
                counts[j] += 1.0
                for a in range(d):
                    total[j, a] += p[a, first + i]
        for j in range(k):
            for a in range(d):
                out[j, a] = c[j, a] - total[j, a] / counts[j]

    by_axis = np.ascontiguousarray(points.T)
    best, which, away = np.empty(block), np.zeros(block, "int64"), np.empty(block)
    counts, total, out = np.empty(k), np.empty((k, d)), np.empty((k, d))

    def call() -> Array:
        run(by_axis, centres, best, which, away, counts, total, out)
        return out

    return call


def workload(k: int, n: int, d: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        points = np.random.default_rng(0).random((n, d))
        return points, points[-k:].copy()

    ours = peers.staticad(by_staticad(direct))
    product = peers.staticad(by_staticad(expanded))
    return Workload(
        name="kmeans",
        size=f"{k},{n},{d}",
        dtype="float64",
        data=data,
        peers={
            **ours,
            **{f"{peer} (product)": build for peer, build in product.items()},
            "jax": peers.jax_function(by_jax(direct)),
            "jax (product)": peers.jax_function(by_jax(expanded)),
            "torch": by_torch,
            "torch.compile": peers.torch_compiled(by_torch_compile),
            "pytensor": peers.pytensor_function(by_pytensor),
            "hand": by_hand,
        },
        sizes={"n": n},
        quick=quick,
        allocates=n * k >= 1_000_000,
    )


WORKLOADS = [workload(10, 1000, 8, quick=True), workload(100, 10_000, 8), workload(1000, 10_000, 16)]


def test_speed(entry: Any) -> None:
    entry()
