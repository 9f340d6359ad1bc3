"""What is differentiated through another form: no derivative goes through a maximum that was subtracted, and where one
was subtracted in another place than it is added, it is another function; against finite differences and NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import staticad as ad
from staticad.testing import gradcheck

FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "log_sum_exp": lambda xp, x: (lambda m: m + xp.log(xp.sum(xp.exp(x - m[:, None]), axis=1)))(xp.max(x, axis=1)),
    "log_sum_exp, kept": lambda xp, x: (lambda m: xp.log(xp.sum(xp.exp(x - m), axis=1, keepdims=True)) + m)(
        xp.max(x, axis=1, keepdims=True)
    ),
    "log_sum_exp, dropped": lambda xp, x: (lambda m: xp.log(xp.sum(xp.exp(x - m), axis=1)) + m[:, 0])(
        xp.max(x, axis=1, keepdims=True)
    ),
    "log_sum_exp, of columns": lambda xp, x: (lambda m: xp.log(xp.sum(xp.exp(x - m), axis=0)) + m)(xp.max(x, axis=0)),
    "log_sum_exp, of all": lambda xp, x: (lambda m: m + xp.log(xp.sum(xp.exp(x - m))))(xp.max(x)),
    "log_sum_exp, turned": lambda xp, x: (lambda m: (xp.log(xp.sum(xp.exp(x - m), axis=1, keepdims=True)) + m).T)(
        xp.max(x, axis=1, keepdims=True)
    ),
    "softmax": lambda xp, x: (lambda e: e / xp.sum(e, axis=1, keepdims=True))(
        xp.exp(x - xp.max(x, axis=1, keepdims=True))
    ),
    "log_softmax": lambda xp, x: (lambda y: y - xp.log(xp.sum(xp.exp(y), axis=1, keepdims=True)))(
        x - xp.max(x, axis=1, keepdims=True)
    ),
    "log_softmax, of the whole": lambda xp, x: (
        lambda m: x - (m + xp.log(xp.sum(xp.exp(x - m), axis=1, keepdims=True)))
    )(xp.max(x, axis=1, keepdims=True)),
}
#: Square, so that what is turned still fits.
OTHERS: dict[str, Callable[[Any, Any], Any]] = {
    "added in another place": lambda xp, x: (lambda m: m.T + xp.log(xp.sum(xp.exp(x - m[..., None]), axis=-1)))(
        xp.max(x, axis=-1)
    ),
    "taken off in another place": lambda xp, x: (
        lambda m: x - (m.T + xp.log(xp.sum(xp.exp(x - m[..., None]), axis=-1)))[..., None]
    )(xp.max(x, axis=-1)),
    "summed beyond": lambda xp, x: (lambda m: m + xp.log(xp.sum(xp.exp(x - m[..., None]), axis=(1, 2)))[:, None])(
        xp.max(x, axis=-1)
    ),
    "of other places": lambda xp, x: (lambda y: y - xp.log(xp.sum(xp.exp(y), axis=-1)).T[..., None])(
        x - xp.max(x, axis=-1, keepdims=True)
    ),
    "of other rows": lambda xp, x: (lambda e: e / xp.sum(e, axis=-1).T[..., None])(
        xp.exp(x - xp.max(x, axis=-1, keepdims=True))
    ),
}


def maxima(graph: Any) -> int:
    return str(graph).count("max(") + str(graph).count("equal(")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_derivative_goes_through_a_subtracted_maximum(name: str) -> None:
    x = ad.input("x", (5, "n"), requires_grad=True)
    y = FUNCTIONS[name](ad, x)
    values = np.random.default_rng(0).normal(size=(5, 4))
    weights = np.cos(np.arange(float(np.size(FUNCTIONS[name](np, values)))))
    loss = ad.sum(ad.reshape(y, (-1,)) * weights) if y.ndim else y * weights[0]
    (slope,) = ad.grad(loss, [x])
    f = ad.compile([x], [y, slope])
    assert maxima(f.graph) == 1, str(f.graph)
    np.testing.assert_allclose(f(values)[0], FUNCTIONS[name](np, values), rtol=1e-14, atol=1e-14)
    assert gradcheck(lambda x: FUNCTIONS[name](ad, x), values)


@pytest.mark.parametrize("name", OTHERS)
def test_a_maximum_of_another_place_is_another_function(name: str) -> None:
    values = np.random.default_rng(1).normal(size=(3, 3, 4))
    x = ad.input("x", (3, 3, 4), requires_grad=True)
    f = ad.compile([x], OTHERS[name](ad, x))
    np.testing.assert_allclose(f(values), OTHERS[name](np, values), rtol=1e-13, atol=1e-14)
    assert gradcheck(lambda x: OTHERS[name](ad, x), values)


def test_the_derivative_by_the_maximum_itself_is_there() -> None:
    """As JAX has it, with the other uses of x held: 1 less what the softmax sums to, and what else reads it."""
    x = ad.input("x", (4,), requires_grad=True)
    top = ad.max(x)
    y = top + ad.log(ad.sum(ad.exp(x - top))) + 2.0 * top
    f = ad.compile([x], ad.grad(y, [top, x]))
    by_top, by_x = f(np.array([0.1, 0.7, -0.3, 0.2]))
    assert abs(by_top - 2.0) < 1e-14
    e = np.exp(np.array([0.1, 0.7, -0.3, 0.2]))
    np.testing.assert_allclose(by_x, e / e.sum() + 2.0 * np.array([0, 1, 0, 0]), rtol=1e-14)
