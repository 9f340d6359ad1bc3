"""`gmm` of GradBench: the log-likelihood of a Gaussian mixture with a Wishart prior; gradients by alpha, mu, q, l."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import lgamma, log, pi
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload


@cache
def places(d: int) -> tuple[Array, Array]:
    """The row and the column of each strictly lower element, column by column."""
    columns, rows = np.triu_indices(d, 1)  # of the transpose, row by row
    return rows, columns


@cache
def sources(d: int) -> Array:
    """For each element of a d x d matrix, row by row, its place in l; d(d-1)/2, that of a zero, where it has none."""
    found = np.full((d, d), d * (d - 1) // 2)
    found[places(d)] = np.arange(d * (d - 1) // 2)
    return found.ravel()


def prior_constant(n: int, d: int, k: int, m: int, gamma: float) -> float:
    wishart = d + m + 1
    multivariate = d * (d - 1) / 4 * log(pi) + sum(lgamma(wishart / 2 + (1 - j) / 2) for j in range(1, d + 1))
    return -n * d / 2 * log(2 * pi) + k * (wishart * d * (log(gamma) - 0.5 * log(2)) - multivariate)


def likelihood(
    f: Any, sizes: tuple[int, int, int], m: int, gamma: float, x: Any, alpha: Any, mu: Any, q: Any, l: Any
) -> Any:
    """``f``: what the libraries name differently: sum, exp, logsumexp(x, axis), triangular(q, l), squares."""
    n, d, k = sizes
    beta = alpha + f.sum(q, axis=1) - 0.5 * f.squares(f.triangular(q, l), x, mu)
    out = prior_constant(n, d, k, m, gamma) + f.sum(f.logsumexp(beta, 1)) - n * f.logsumexp(alpha, 0)
    return out - 0.5 * gamma**2 * (f.sum(f.exp(2 * q)) + f.sum(l * l)) + m * f.sum(q)


class Composed:
    """``f`` of an array library, whose every method may be replaced by a better form."""

    def __init__(self, xp: Any, **better: Any):
        self.xp = xp
        self.sum, self.exp = xp.sum, xp.exp
        for name, function in better.items():
            setattr(self, name, function)

    def logsumexp(self, x: Any, axis: int) -> Any:
        top = self.xp.max(x, axis=axis, keepdims=True)
        return self.xp.log(self.sum(self.exp(x - top), axis=axis)) + self.xp.max(x, axis=axis)

    def triangular(self, q: Any, l: Any) -> Any:
        """Q [k, d, d]: exp(q) on the diagonal, l below, by a gather."""
        k, d = q.shape
        with_zero = self.xp.concatenate([l, np.zeros((int(k), 1))], axis=1)
        return with_zero[:, sources(d)].reshape((k, d, d)) + self.exp(q)[:, :, None] * np.eye(d)

    def squares(self, factor: Any, x: Any, mu: Any) -> Any:
        """|Q_k (x_i - mu_k)|^2 [n, k], by one product of x with all Q."""
        k, d = factor.shape[:2]
        moved = x @ factor.reshape((k * d, d)).T
        centre = self.sum(factor * mu[:, None, :], axis=2)
        away = moved.reshape((-1, k, d)) - centre
        return self.sum(away * away, axis=2)


def by_staticad(ad: Any) -> Any:
    def triangular(q: Any, l: Any) -> Any:
        k, d = q.shape
        with_zero = ad.concat([l, ad.zeros((k, 1))], axis=1)
        return with_zero[:, sources(d)].reshape((k, d, d)) + ad.exp(q)[:, :, None] * np.eye(d)

    return Composed(ad, logsumexp=lambda x, axis: ad.logsumexp(x, axis=axis), triangular=triangular)


def by_jax(jnp: Any) -> Any:
    def triangular(q: Any, l: Any) -> Any:
        k, d = q.shape
        diagonal = np.arange(d)
        rows, columns = places(d)
        return jnp.zeros((k, d, d)).at[:, rows, columns].set(l).at[:, diagonal, diagonal].set(jnp.exp(q))

    return Composed(jnp, logsumexp=peers.jax().scipy.special.logsumexp, triangular=triangular)


def by_torch(torch: Any) -> Any:
    def triangular(q: Any, l: Any) -> Any:
        rows, columns = map(torch.from_numpy, places(q.shape[1]))
        out = torch.diag_embed(torch.exp(q))
        return out.index_put((torch.arange(len(q))[:, None], rows[None], columns[None]), l)

    return Composed(torch, logsumexp=torch.logsumexp, triangular=triangular)


def by_pytensor(pt: Any) -> Any:
    def triangular(q: Any, l: Any) -> Any:
        k, d = q.type.shape
        with_zero = pt.concatenate([l, pt.zeros((k, 1))], axis=1)
        return with_zero[:, sources(d)].reshape((k, d, d)) + pt.exp(q)[:, :, None] * np.eye(d)

    return Composed(pt, logsumexp=lambda x, axis: pt.logsumexp(x, axis=axis), triangular=triangular)


def workload(d: int, k: int, n: int = 1000, m: int = 0, gamma: float = 1.0, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        x, alpha, mu = rng.normal(size=(n, d)), rng.normal(size=k), rng.normal(size=(k, d))
        return x, alpha, mu, 0.3 * rng.normal(size=(k, d)), rng.normal(size=(k, d * (d - 1) // 2)) / d

    def written(make: Callable[[Any], Any]) -> Callable[..., Any]:
        return lambda xp, *x: likelihood(make(xp), (n, d, k), m, gamma, *x)

    return Workload(
        name="gmm",
        size=f"{d},{k}" + (f",m={m}" if m else ""),
        dtype="float64",
        data=data,
        peers=peers.derivatives(
            None,
            [("n", d), (k,), (k, d), (k, d), (k, d * (d - 1) // 2)],
            [1, 2, 3, 4],
            staticad=written(by_staticad),
            jax=written(by_jax),
            torch=written(by_torch),
            autograd=written(Composed),
            pytensor=written(by_pytensor),
        ),
        sizes={"n": n},
        quick=quick,
        allocates=k >= 10,
    )


WORKLOADS = [
    workload(10, 5, quick=True),
    workload(10, 25),
    workload(64, 10),
    workload(64, 50),
    workload(10, 5, m=3, gamma=0.7),
]


def test_speed(entry: Any) -> None:
    entry()
