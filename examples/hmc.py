"""Hamiltonian Monte Carlo in the user's own nopython loop, which calls staticad's compiled log-density and gradient.

    python examples/hmc.py [--out DIRECTORY] [--draws N]

Bayesian logistic regression on scikit-learn's breast cancer data (569 tumours, 30 measurements each). Writes
``hmc_posterior.png``; prints the time of a gradient. Neal, "MCMC using Hamiltonian dynamics" (2011), is the method.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numba import njit
from sklearn.datasets import load_breast_cancer
from sklearn.preprocessing import StandardScaler

import staticad as ad


def posterior(x: np.ndarray, y: np.ndarray) -> ad.Function:
    """``q -> (log density, its gradient)`` of the weights and the intercept ``q``, with a standard normal prior."""
    q = ad.input("q", shape=(x.shape[1] + 1,))
    logits = ad.constant(x) @ q[1:] + q[0]
    # log sigmoid(z) for a benign tumour, log (1 - sigmoid(z)) for a malignant one
    log_density = ad.sum(y * logits - ad.softplus(logits)) - 0.5 * ad.sum(q * q)
    (gradient,) = ad.grad(log_density, [q])
    return ad.compile([q], (log_density, gradient), name="posterior")


def sampler(posterior: ad.Function) -> tuple[Callable[..., tuple[np.ndarray, float, float]], Callable[..., float]]:
    """The sampler, and a loop that does nothing but compute gradients, both native."""
    density_and_gradient = posterior.njit

    @njit
    def leapfrog(q: np.ndarray, p: np.ndarray, g: np.ndarray, density: np.ndarray, step: float, leaps: int) -> None:
        for _ in range(leaps):
            p += 0.5 * step * g
            q += step * p
            density_and_gradient(q, density, g)
            p += 0.5 * step * g

    @njit
    def sample(q: np.ndarray, warmup: int, draws: int, leaps: int, seed: int) -> tuple[np.ndarray, float, float]:
        np.random.seed(seed)
        n = q.size
        found = np.empty((draws, n))
        density, g = np.zeros(()), np.empty(n)
        density_and_gradient(q, density, g)
        step, accepted = 0.05, 0
        for k in range(warmup + draws):
            p = np.random.normal(0.0, 1.0, n)
            energy = density[()] - 0.5 * np.dot(p, p)
            q_new, g_new, density_new = q.copy(), g.copy(), density.copy()
            # A random length keeps trajectories from closing on themselves.
            leapfrog(q_new, p, g_new, density_new, step, np.random.randint(1, 2 * leaps))
            odds = np.exp(min(0.0, density_new[()] - 0.5 * np.dot(p, p) - energy))
            if np.random.random() < odds:
                q, g, density = q_new, g_new, density_new
                accepted += k >= warmup
            if k < warmup:  # towards 80 percent accepted (Robbins and Monro)
                step *= np.exp((odds - 0.8) / (1.0 + k) ** 0.6)
            else:
                found[k - warmup] = q
        return found, accepted / draws, step

    @njit
    def gradients(q: np.ndarray, count: int) -> float:
        density, g = np.zeros(()), np.empty(q.size)
        total = 0.0
        for _ in range(count):
            density_and_gradient(q, density, g)
            total += density[()]
        return total

    return sample, gradients


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the picture goes")
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()

    data = load_breast_cancer()
    x = StandardScaler().fit_transform(data.data)
    y = data.target.astype("float64")
    log_posterior = posterior(x, y)
    sample, gradients = sampler(log_posterior)

    q = np.zeros(x.shape[1] + 1)
    gradients(q, 1)
    count = 10_000
    start = time.perf_counter()
    gradients(q, count)
    per_gradient = (time.perf_counter() - start) / count
    start = time.perf_counter()
    draws, accepted, step = sample(q, options.draws // 2, options.draws, 20, 1)
    seconds = time.perf_counter() - start

    probability = 1 / (1 + np.exp(-(x @ draws[:, 1:].T + draws[:, 0])))
    right = float(np.mean((probability.mean(axis=1) > 0.5) == y))
    print(f"a log-density with its gradient takes {per_gradient * 1e6:.1f} us")
    print(f"{len(draws)} draws in {seconds:.1f} s, {accepted:.0%} accepted, step {step:.3f}")
    print(f"the mean prediction is right for {right:.1%} of the tumours")

    names = ["intercept", *data.feature_names]
    low, middle, high = np.quantile(draws, [0.05, 0.5, 0.95], axis=0)
    order = np.argsort(middle)
    figure, axes = plt.subplots(figsize=(7, 8), layout="constrained")
    axes.errorbar(middle[order], range(len(order)), xerr=[(middle - low)[order], (high - middle)[order]], fmt="o", ms=3)
    axes.axvline(0, color="gray", lw=0.5)
    axes.set_yticks(range(len(order)), [names[k] for k in order], fontsize=7)
    axes.set(xlabel="weight: median and 90 percent interval", title="What tells benign tumours from malignant ones")
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "hmc_posterior.png", dpi=120)
    print(f"wrote {options.out / 'hmc_posterior.png'}")


if __name__ == "__main__":
    main()
