"""Fit an epidemic model to the beds of a boarding school with influenza, by exact second derivatives of the solver.

    python examples/epidemic.py [--out DIRECTORY] [--draws N]

The boys of the school are susceptible, ill or recovered (Kermack and McKendrick 1927). Days are a scan, and so are the
Runge-Kutta steps inside of a day; value, gradient and Hessian of the misfit are one native function, which SciPy's
trust-region method minimises. Its Hessian at the minimum gives the uncertainties. Writes ``epidemic.png``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import minimize

import staticad as ad

# Boys in bed on each day from 22 January 1978; "Influenza in a boarding school", British Medical Journal, 4 March 1978.
IN_BED = np.array([3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4], "float64")
BOYS = 763
STEPS = 20  # a day


def ill(parameters: ad.Tensor, days: int) -> ad.Tensor:
    """Boys ill at the start of each day. ``parameters`` are logarithms: of infections a day caused by one ill boy among
    susceptibles only, of recoveries a day, and of the ill on the first day."""
    infect, recover, first = (ad.exp(parameters[k]) for k in range(3))
    h = 1 / STEPS

    def slope(susceptible: ad.Tensor, sick: ad.Tensor) -> tuple[ad.Tensor, ad.Tensor]:
        infections = infect * susceptible * sick / BOYS
        return -infections, infections - recover * sick

    def step(state: tuple[ad.Tensor, ad.Tensor], _: None) -> tuple[tuple[ad.Tensor, ad.Tensor], None]:
        s, i = state
        s1, i1 = slope(s, i)
        s2, i2 = slope(s + h / 2 * s1, i + h / 2 * i1)
        s3, i3 = slope(s + h / 2 * s2, i + h / 2 * i2)
        s4, i4 = slope(s + h * s3, i + h * i3)
        return (s + h / 6 * (s1 + 2 * s2 + 2 * s3 + s4), i + h / 6 * (i1 + 2 * i2 + 2 * i3 + i4)), None

    def day(state: tuple[ad.Tensor, ad.Tensor], _: None) -> tuple[tuple[ad.Tensor, ad.Tensor], ad.Tensor]:
        return ad.scan(step, state, length=STEPS)[0], state[1]

    return ad.scan(day, (BOYS - first, first), length=days)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the picture goes")
    parser.add_argument("--draws", type=int, default=2000)
    options = parser.parse_args()

    # Square roots of counts vary about as much whatever their size is; how much is a parameter at its best value.
    p = ad.input("parameters", shape=(3,))
    misfit = len(IN_BED) / 2 * ad.log(ad.sum((ad.sqrt(ill(p, len(IN_BED))) - np.sqrt(IN_BED)) ** 2))
    fit = ad.compile([p], (misfit, ad.grad(misfit, p), ad.hessian(misfit, p)), name="misfit")
    curve = ad.compile([p], ill(p, len(IN_BED)), name="curve")

    found = minimize(
        lambda x: fit(x)[:2],
        np.log([1.0, 0.3, 1.0]),
        jac=True,
        hess=lambda x: fit(x)[2],
        method="trust-exact",
        tol=1e-8,
    )
    start = time.perf_counter()
    for _ in range(1000):
        fit(found.x)
    seconds = (time.perf_counter() - start) / 1000
    covariance = np.linalg.inv(fit(found.x)[2])
    draws = np.random.default_rng(0).multivariate_normal(found.x, covariance, options.draws)
    low, high = np.quantile([curve(draw) for draw in draws], [0.05, 0.95], axis=0)
    least, most = np.quantile(np.exp(draws[:, 0] - draws[:, 1]), [0.05, 0.95])

    print(f"value, gradient and Hessian through {STEPS * len(IN_BED)} steps take {seconds * 1e6:.1f} us")
    print(f"minimum after {found.nit} iterations, gradient {np.abs(found.jac).max():.1e}")
    print(f"one ill boy infects {np.exp(found.x[0] - found.x[1]):.3f} others (90%: {least:.2f} to {most:.2f})", end=" ")
    print(f"in {np.exp(-found.x[1]):.3f} days")

    days = np.arange(len(IN_BED))
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    axes.fill_between(days, low, high, alpha=0.3, label="90 percent of the uncertainty")
    axes.plot(days, curve(found.x), label="the model")
    axes.plot(days, IN_BED, "ko", ms=4, label="observed")
    axes.set(xlabel="days after 22 January 1978", ylabel="boys in bed", title="Influenza in a boarding school")
    axes.legend()
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "epidemic.png", dpi=120)
    print(f"wrote {options.out / 'epidemic.png'}")


if __name__ == "__main__":
    main()
