"""Loops that read what another leaves in the same step are one with it, and those that cannot be are not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from programs import generate

import staticad as ad
from staticad.ir import Node, loop_key, toposort
from staticad.joined import joined
from staticad.lowering import Repeat
from staticad.shapes import evaluate
from staticad.twins import merged

RNG = np.random.default_rng(3)


def loops(*tensors: ad.Tensor) -> int:
    """How many loops over steps there are in the end."""
    found: list[Node] = joined(merged([t.node for t in tensors]))
    return len({loop_key(x) for x in toposort(found) if isinstance(x.op.lower, Repeat)})


def orbit(a: ad.Tensor) -> Callable[[ad.Tensor], ad.Tensor]:
    return lambda v: ad.scan(lambda h, _: (ad.sin(a * h) + v, None), v, length=7)[0]


def orbits(v: np.ndarray[Any, Any], a: float) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The last points of `orbit`, and their derivatives with respect to ``a``, by hand."""
    h, t = v.copy(), np.zeros_like(v)
    for _ in range(7):
        h, t = np.sin(a * h) + v, np.cos(a * h) * (h + a * t)
    return h, t


def test_forward_and_backward_over_independent_items_are_one_loop() -> None:
    x, a = ad.input("x", ("n",)), ad.input("a", ())
    items = ad.map(orbit(a), x)
    total = ad.sum(items * items)
    gradients = ad.grad(total, [x, a])
    assert loops(total, *gradients) == 1
    f = ad.compile([x, a], [total, *gradients])
    assert evaluate(f.stats.workspace_bytes, {"n": 1000}) <= 2 * 1000 * 8  # nothing of the inner steps
    given = RNG.normal(size=50)
    last, slope = orbits(given, 0.7)
    value, by_x, by_a = f(given, 0.7)
    np.testing.assert_allclose(value, (last**2).sum(), rtol=1e-13)
    np.testing.assert_allclose(by_a, (2 * last * slope).sum(), rtol=1e-12)
    step = 1e-6
    difference = (orbits(given + step, 0.7)[0] ** 2 - orbits(given - step, 0.7)[0] ** 2) / (2 * step)
    np.testing.assert_allclose(by_x, difference, rtol=1e-7, atol=1e-8)


def test_what_needs_a_result_of_the_whole_loop_comes_after_it() -> None:
    x, a = ad.input("x", ("n",)), ad.input("a", ())
    total = ad.log(ad.sum(ad.exp(ad.map(orbit(a), x))))
    (slope,) = ad.grad(total, [a])
    assert loops(total, slope) == 2
    given = RNG.normal(size=9)
    last, by_a = orbits(given, 0.7)
    found = ad.compile([x, a], [total, slope])(given, 0.7)
    weights = np.exp(last) / np.exp(last).sum()
    np.testing.assert_allclose(found, [np.log(np.exp(last).sum()), (weights * by_a).sum()], rtol=1e-12)


def test_a_scan_over_what_a_scan_leaves_is_one_loop() -> None:
    x = ad.input("x", ("n",))
    _, smooth = ad.scan(lambda h, s: ((h2 := 0.5 * h + s), h2), 0.0, x)
    last, twice = ad.scan(lambda h, s: ((h2 := 0.25 * h + s), h2 * s), 1.0, ad.exp(-smooth) + x)
    assert loops(last, twice) == 1
    given = RNG.normal(size=20)
    h, g, left = 0.0, 1.0, []
    for s in given:
        h = 0.5 * h + s
        g = 0.25 * g + (np.exp(-h) + s)
        left.append(g * (np.exp(-h) + s))
    f = ad.compile([x], [last, twice, smooth])  # asked for too
    np.testing.assert_allclose(f(given)[0], g, rtol=1e-13)
    np.testing.assert_allclose(f(given)[1], left, rtol=1e-13)
    assert len(f(np.empty(0))[1]) == 0


def test_three_loops_in_a_row_with_what_they_share() -> None:
    x, w = ad.input("x", ("n", 3)), ad.input("w", (3,))
    first = ad.map(lambda v: v * w, x)
    second = ad.map(lambda vu: ad.sum(vu[0] * vu[1]) * w, (first, x))
    third = ad.map(lambda vu: vu[0] - vu[1], (second, first))
    assert loops(third) == 1
    given, by = RNG.normal(size=(6, 3)), RNG.normal(size=3)
    truth = ((given * by) * given).sum(1)[:, None] * by - given * by
    np.testing.assert_allclose(ad.compile([x, w], third)(given, by), truth, rtol=1e-13)


@pytest.mark.parametrize("how", ["direction", "order", "other steps", "length"])
def test_loops_that_cannot_be_one_stay_apart(how: str) -> None:
    x = ad.input("x", ("n",))
    given = RNG.normal(size=8)
    _, sums = ad.scan(lambda h, s: (h + s, h + s), 0.0, x)
    if how == "direction":
        last, _ = ad.scan(lambda h, s: (0.5 * h + s, None), 0.0, sums, reverse=True)
        truth = 0.0
        for s in np.cumsum(given)[::-1]:
            truth = 0.5 * truth + s
    elif how == "order":  # items may run on all cores, a scan's steps not
        last, truth = ad.map(ad.sin, sums), np.sin(np.cumsum(given))
    elif how == "other steps":
        last, _ = ad.scan(lambda h, s: (0.5 * h + s, None), 0.0, ad.flip(sums))
        truth = 0.0
        for s in np.cumsum(given)[::-1]:
            truth = 0.5 * truth + s
    else:
        last, _ = ad.scan(lambda h, s: (0.5 * h + s, None), 0.0, sums[1:])
        truth = 0.0
        for s in np.cumsum(given)[1:]:
            truth = 0.5 * truth + s
    assert loops(last) == 2
    np.testing.assert_allclose(ad.compile([x], last)(given), truth, rtol=1e-13)


def test_slices_of_one_number_are_that_number() -> None:
    x = ad.input("x", ("n",))
    (slope,) = ad.grad(ad.sum(ad.map(ad.tanh, x)), [x])
    assert "1.0 *" not in generate([x], slope).source
