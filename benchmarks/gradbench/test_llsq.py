"""`llsq` of GradBench: least squares of a polynomial against the sign function, value and gradient by its coefficients.

Written with Horner's rule as a scan. Other forms: a constant n x m table of powers, whose two products with vectors are
then all that is timed, or powers that the program computes, as NumPy's `vander` of the places.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import hand, peers
from benchmarks.workload import Array, Program, Workload

BLOCK = 64  # rows that are worked on together by hand: a few vectors, in registers and L1


def powers(xp: Any, n: int, m: int, x: Any) -> Any:
    t = xp.linspace(-1.0, 1.0, n)
    rest = xp.sign(t) - xp.vander(t, m, increasing=True) @ x
    return 0.5 * xp.sum(rest * rest)


def horner(scan: Callable[..., Any], xp: Any, n: int, x: Any) -> Any:
    t = xp.linspace(-1.0, 1.0, n)
    y, _ = scan(lambda y, c: (y * t + c, None), xp.zeros(n), x, reverse=True)
    rest = xp.sign(t) - y
    return 0.5 * xp.sum(rest * rest)


def by_scan(xp: Any, n: int, x: Any) -> Any:
    return horner(xp.scan, xp, n, x)


def by_jax_scan(unroll: int) -> Callable[..., Any]:
    def written(jnp: Any, n: int, x: Any) -> Any:
        return horner(partial(peers.jax().lax.scan, unroll=unroll), jnp, n, x)

    return written


@cache
def constants(n: int, m: int) -> tuple[Array, Array]:
    """The signs, and the n x m table of powers."""
    t = np.linspace(-1.0, 1.0, n)
    return np.sign(t), np.vander(t, m, increasing=True)


def table(xp: Any, n: int, m: int, x: Any) -> Any:
    signs, powers = constants(n, m)
    rest = signs - xp.dot(powers, x)
    return 0.5 * xp.sum(rest * rest)


def torch_table(signs: Any, powers: Any) -> Any:
    def program(torch: Any, x: Any) -> Any:
        rest = signs - torch.mv(powers, x)
        return 0.5 * torch.dot(rest, rest)

    return program


def by_torch(n: int, m: int, peer: str) -> Any:
    """The constants are tensors before anything is timed."""

    def build(x: Array) -> Program:
        program = torch_table(*map(peers.torch().from_numpy, constants(n, m)))
        return peers.MAKERS[peer](program, [0], "scalar")(x)

    return build


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

    def scanned(program: Any) -> Any:
        return lambda xp, x: program(xp, n, x)

    def mygrad_table(mg: Any, x: Any) -> Any:
        return table(SimpleNamespace(dot=mg.matmul, sum=mg.sum), n, m, x)

    found = peers.derivatives(written(table), [(m,)], [0], torch=None, mygrad=mygrad_table)
    computed = peers.derivatives(None, [(m,)], [0], staticad=written(powers), jax=written(powers))
    scan = peers.derivatives(None, [(m,)], [0], staticad=scanned(by_scan), jax=scanned(by_jax_scan(1)))
    unrolled = peers.derivatives(None, [(m,)], [0], jax=scanned(by_jax_scan(4)))
    return Workload(
        name="llsq",
        size=f"{n}",
        dtype="float64",
        data=lambda: (np.random.default_rng(0).random(m),),
        peers={
            **found,
            **{peer: by_torch(n, m, peer) for peer in ("torch", "torch.compile")},
            **{f"{peer} (powers)": build for peer, build in computed.items()},
            **{f"{peer} (scan)": build for peer, build in scan.items()},
            **{f"{peer} (scan, unroll=4)": build for peer, build in unrolled.items()},
            "hand": partial(by_hand, n=n),
        },
        quick=quick,
    )


WORKLOADS = [workload(128, quick=True), workload(2048), workload(16392, quick=True)]


def test_speed(entry: Any) -> None:
    entry()
