"""`llsq` of GradBench: least squares of a polynomial against the sign function, value and gradient by its coefficients.

Until there are loops, its powers are either unrolled (Horner's rule: m multiplications and additions in one formula) or
a constant n x m table, as the peers' are, whose two products with vectors are then all that is timed.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from benchmarks import hand, peers
from benchmarks.workload import Array, Program, Workload

BLOCK = 64  # rows that are worked on together by hand: a few vectors, in registers and L1


def unrolled(xp: Any, n: int, m: int, x: Any) -> Any:
    t = xp.linspace(-1.0, 1.0, n, dtype=xp.float64)
    y = x[m - 1]
    for j in reversed(range(m - 1)):
        y = y * t + x[j]
    rest = xp.sign(t) - y
    return 0.5 * xp.sum(rest * rest)


def jax_scan(jnp: Any, n: int, m: int, x: Any) -> Any:
    t = jnp.linspace(-1.0, 1.0, n)
    y, _ = peers.jax().lax.scan(lambda y, c: (y * t + c, None), jnp.zeros(n), x, reverse=True)
    rest = jnp.sign(t) - y
    return 0.5 * jnp.sum(rest * rest)


def table(pt: Any, n: int, m: int, x: Any) -> Any:
    """A constant n x m table of powers."""
    t = np.linspace(-1.0, 1.0, n)
    rest = np.sign(t) - pt.dot(np.vander(t, m, increasing=True), x)
    return 0.5 * pt.sum(rest * rest)


def torch_table(torch: Any, n: int, m: int, x: Any) -> Any:
    t = torch.linspace(-1.0, 1.0, n, dtype=torch.float64)
    rest = torch.sign(t) - torch.vander(t, m, increasing=True) @ x
    return 0.5 * torch.sum(rest * rest)


def by_hand(x: Array, n: int) -> Program:
    @hand.njit
    def run(x: Any, n: int, slope: Any) -> Any:
        m, total = x.shape[0], 0.0
        t, y, s = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
        for j in range(m):
            slope[j] = 0.0
        for first in range(0, n, BLOCK):
            for k in range(BLOCK):
                i = first + k
                t[k] = -1.0 + 2.0 * i / (n - 1)
                s[k] = (1.0 if t[k] > 0 else -1.0 if t[k] < 0 else 0.0) if i < n else 0.0
                y[k] = x[m - 1]
            for back in range(m - 1):
                c = x[m - 2 - back]
                for k in range(BLOCK):
                    y[k] = y[k] * t[k] + c
            for k in range(BLOCK):
                y[k] = y[k] - s[k] if first + k < n else 0.0
                total += y[k] * y[k]
            for j in range(m):
                acc = 0.0
                for k in range(BLOCK):
                    acc = hand.add(acc, y[k])
                    y[k] *= t[k]
                slope[j] += acc
        return 0.5 * total

    slope = np.empty_like(x)
    return lambda: (run(x, n, slope), slope)


def workload(n: int, m: int = 128, *, quick: bool = False) -> Workload:
    def written(program: Any) -> Any:
        return lambda xp, x: program(xp, n, m, x)

    found = peers.derivatives(
        None,
        [(m,)],
        [0],
        staticad=written(unrolled),
        jax=written(jax_scan),
        torch=written(torch_table),
        pytensor=written(table),
        autograd=written(table),
    )
    other = peers.derivatives(None, [(m,)], [0], staticad=written(table), jax=written(table))
    return Workload(
        name="llsq",
        size=f"{n}",
        dtype="float64",
        data=lambda: (np.random.default_rng(0).random(m),),
        peers={**found, **{f"{peer} (matrix)": build for peer, build in other.items()}, "hand": partial(by_hand, n=n)},
        quick=quick,
    )


WORKLOADS = [workload(128, quick=True), workload(2048, quick=True), workload(16392)]


def test_speed(entry: Any) -> None:
    entry()
