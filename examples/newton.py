"""Logistic regression by Newton's method: which of three vineyards a wine is from, in a handful of steps.

    python examples/newton.py [--out DIRECTORY]

Value, gradient and exact Hessian of the posterior of scikit-learn's wines (178 of them, 13 measurements each) are one
native function. Its inverse Hessian at the end is the covariance of the weights (Laplace's approximation). Writes
``newton.png``: the way of Newton's method beside that of L-BFGS, and the weights with their uncertainties.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import staticad as ad


def posterior(x: np.ndarray, y: np.ndarray, classes: int) -> ad.Function:
    """``w -> (f, its gradient, its Hessian)``: minus the log posterior of the weights, under a standard normal prior.
    The last row of ``w`` are intercepts."""
    w = ad.input("w", shape=(x.shape[1] + 1, classes))
    logits = ad.constant(x) @ w[:-1] + w[-1]
    f = ad.nn.cross_entropy(logits, y, reduction="sum") + 0.5 * ad.sum(w * w)
    return ad.compile([w], (f, ad.grad(f, w), ad.hessian(f, w)), name="posterior")


def newton(f: ad.Function, w: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Where the gradient vanishes, and its largest element before each step."""
    sizes: list[float] = []
    while True:
        _, g, h = f(w)
        sizes.append(float(np.abs(g).max()))
        move = np.linalg.solve(h.reshape(w.size, w.size), g.ravel())
        w = w - move.reshape(w.shape)
        if np.abs(move).max() < 1e-12:
            return w, sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the picture goes")
    options = parser.parse_args()

    wines = load_wine()
    x, x_test, y, y_test = train_test_split(wines.data, wines.target, test_size=0.3, random_state=0)
    scaler = StandardScaler().fit(x)
    x, x_test = scaler.transform(x), scaler.transform(x_test)
    f = posterior(x, y, len(wines.target_names))

    start = np.zeros((x.shape[1] + 1, len(wines.target_names)))
    f(start)
    begin = time.perf_counter()
    w, sizes = newton(f, start)
    seconds = time.perf_counter() - begin

    slow: list[float] = []

    def value_and_gradient(v: np.ndarray) -> tuple[float, np.ndarray]:
        value, g, _ = f(v.reshape(w.shape))
        slow.append(float(np.abs(g).max()))
        return float(value), g.ravel()

    minimize(value_and_gradient, start.ravel(), jac=True, method="L-BFGS-B", options={"ftol": 0, "gtol": 1e-9})

    _, g, h = f(w)
    deviation = np.sqrt(np.diag(np.linalg.inv(h.reshape(w.size, w.size)))).reshape(w.shape)
    right = int(np.sum(np.argmax(x_test @ w[:-1] + w[-1], axis=1) == y_test))
    print(f"{len(sizes)} steps in {seconds * 1e3:.2f} ms, gradient {np.abs(g).max():.1e}")
    print(f"right for {right} of {len(y_test)} wines that it has not seen")

    figure, (way, weights) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    way.semilogy(sizes, "o-", label="Newton, exact Hessian")
    way.semilogy(slow, label="L-BFGS")
    way.set(xlabel="evaluation", ylabel="largest element of the gradient", title="Convergence")
    way.legend()
    rows = np.arange(len(w))
    for k, name in enumerate(wines.target_names):
        weights.errorbar(w[:, k], rows + 0.2 * (k - 1), xerr=deviation[:, k], fmt="o", ms=3, label=name)
    weights.axvline(0, color="gray", lw=0.5)
    weights.set_yticks(rows, [*wines.feature_names, "intercept"], fontsize=7)
    weights.set(xlabel="weight and its standard deviation", title="What tells the vineyards from each other")
    weights.legend()
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "newton.png", dpi=120)
    print(f"wrote {options.out / 'newton.png'}")


if __name__ == "__main__":
    main()
