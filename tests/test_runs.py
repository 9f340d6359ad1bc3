"""Loops written as runs in which guards say the same: NumPy's values at all sizes around the cuts, and when it is done.

What is tested is linear or a product of such, so the gradients are those of matrices that NumPy's functions make.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from programs import generate

import staticad as ad
from staticad import body, runs
from staticad.loops import Loop
from staticad.lowering import Guard
from staticad.shapes import Symbol, dim, evaluate, symbol

RNG = np.random.default_rng(3)
#: None, fewer than there are cuts, and as many; where vectors begin; and what several threads take.
SIZES = (0, 1, 2, 3, 4, 5, 9, 130, 3001)


def before(p: Any, x: Any) -> Any:
    return p.pad(x, ((1, 0),), constant_values=1.0)[:-1]


def neighbours(p: Any, x: Any) -> Any:
    """Three runs."""
    y = p.pad(x, ((1, 1),))
    return y[2:] - 2.0 * x + y[:-2]


def wide(p: Any, x: Any) -> Any:
    """Four cuts, more than there are runs for."""
    y = p.pad(x, ((2, 2),))
    return y[4:] - 3.0 * y[3:-1] + 5.0 * x - 3.0 * y[1:-3] + y[:-4]


def backwards(p: Any, x: Any) -> Any:
    return p.flip(p.pad(x, ((1, 0),)))[1:] + 2.0 * x


def twice(p: Any, x: Any) -> Any:
    """Guards within guards."""
    y = p.pad(x, ((1, 0),))[:-1] * 3.0 + x
    return p.pad(y, ((1, 0),))[:-1] + y


def far(p: Any, x: Any) -> Any:
    """A cut that most loops do not come to."""
    return p.pad(x, ((200, 0),))[:-200] + x


LINEAR = (before, neighbours, wide, backwards, twice, far)


@pytest.mark.parametrize("f", LINEAR)
@pytest.mark.parametrize("threads", [False, True])
def test_values_and_sums(f: Callable[..., Any], threads: bool) -> None:
    x = ad.input("x", ("n",))
    y = f(ad, x)
    g = ad.compile([x], [y, ad.sum(y), ad.any(y > 1.5)], parallel=threads)
    for n in SIZES:
        given = RNG.normal(size=n)
        expected = by_numpy(f, given)
        found, total, large = g(given)
        np.testing.assert_allclose(found, expected, rtol=1e-14, atol=1e-14, err_msg=str(n))
        np.testing.assert_allclose(total, expected.sum(), rtol=1e-12, atol=1e-12, err_msg=str(n))
        assert large == np.any(expected > 1.5)


@pytest.mark.parametrize("f", [f for f in LINEAR if f is not before])
def test_gradients(f: Callable[..., Any]) -> None:
    x = ad.input("x", ("n",))
    y = f(ad, x)
    g = ad.compile([x], ad.grad(ad.sum(y * y * y), x))
    for n in (*SIZES[:-1], 203):
        given = RNG.normal(size=n)
        matrix = np.array([by_numpy(f, row) for row in np.eye(n)]).reshape(n, n)  # its transpose
        np.testing.assert_allclose(g(given), matrix @ (3.0 * (given @ matrix) ** 2), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("n", [128, 129, "n"])
def test_rows(n: int | str) -> None:
    """An innermost loop within another, a guard of both, and a sum of each row."""
    x = ad.input("x", (3, n), "float32")
    y = ad.pad(x, ((1, 1), (1, 1)))
    z = y[2:, 1:-1] + y[1:-1, 2:] * y[:-2, :-2]
    f = ad.compile([x], [z, ad.sum(z, axis=1)])
    assert (" and 0 <= " in f.source) == (n == 128)  # of the guard of both, the rest does not change in the inner loop
    for size in SIZES[:-1] if n == "n" else (n,):
        given = RNG.normal(size=(3, size)).astype("float32")
        padded = np.pad(given, 1)
        expected = padded[2:, 1:-1] + padded[1:-1, 2:] * padded[:-2, :-2]
        found, sums = f(given)
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(sums, expected.astype(float).sum(1), rtol=1e-5, atol=1e-4)


def test_a_scan_of_steps_that_read_beside() -> None:
    steps = 6
    x = ad.input("x", ("n",))
    y, _ = ad.scan(lambda y, _: (y + 0.5 * x * before(ad, y), None), x, length=steps)
    f = ad.compile([x], y)
    for n in SIZES[:-1]:
        given = RNG.normal(size=n)
        expected = given
        for _ in range(steps):
            expected = expected + 0.5 * given * by_numpy(before, expected)
        np.testing.assert_allclose(f(given), expected, rtol=1e-13, atol=1e-13)


def test_cuts_made_of_two_sizes() -> None:
    x, y = ad.input("x", ("n",)), ad.input("y", ("m",))
    z = ad.concat([x, y])
    f = ad.compile([x, y], ad.grad(ad.sum(z[1:] * z[:-1]), [x, y]))
    for n in (0, 1, 2, 3, 200):
        for m in (0, 1, 2, 3, 200):
            given = RNG.normal(size=n + m)
            padded = np.pad(given, 1)
            found = np.concatenate(f(given[:n], given[n:]))
            np.testing.assert_allclose(found, padded[2:] + padded[:-2], rtol=1e-14, atol=1e-14, err_msg=f"{n}, {m}")


def by_numpy(f: Callable[..., Any], x: np.ndarray) -> np.ndarray:
    return f(np, x)


def loops(f: Callable[..., Any], n: int | str) -> list[str]:
    """The text of each innermost loop of ``f(x)``."""
    x = ad.input("x", (n,))
    text = generate([x], f(ad, x), parallel=False).source
    return re.findall(r"for \w+ in range.*\n(?:        .*\n)*", text)


@pytest.mark.parametrize(("f", "count"), [(before, 2), (neighbours, 3), (wide, 3), (twice, 3)])
@pytest.mark.parametrize("n", [1000, "n"])
def test_the_longest_run_asks_nothing(f: Callable[..., Any], count: int, n: int | str) -> None:
    found = loops(f, n)
    assert len(found) == count
    assert any(" if " not in text for text in found)


def test_small_loops_are_one() -> None:
    (found,) = loops(neighbours, 128)
    assert " if " in found


def test_a_body_with_much_in_it_is_written_once() -> None:
    def much(p: Any, x: Any) -> Any:
        return [before(p, x) * k for k in range(body.VALUES)]

    (found,) = loops(much, 1000)
    assert " if " in found


def test_runs_are_all_steps_in_order_whatever_the_sizes() -> None:
    n, m = dim("n"), dim("m")
    for cuts in ([1], [1, n - 1], [m, n - 2], [n - 1, 3, m], [n - m], [5, m, 2, n - 3, n - 1]):
        parts = runs.runs(Loop(Symbol("i", "var"), n), cuts)
        for sizes in ({"n": a, "m": b} for a in range(9) for b in range(12)):
            steps = [i for run in parts for i in range(evaluate(run.first, sizes), evaluate(run.end, sizes))]
            assert not parts or steps == list(range(sizes["n"])), (cuts, sizes)


def test_a_run_knows_guards_in_its_steps() -> None:
    n = dim("n")
    i = Symbol("i", "var")
    for value, extent in ((symbol(i) - 1, n), (symbol(i) + 1, n), (n - 2 - symbol(i), n), (3 - symbol(i), 2)):
        sides = runs.sides(Guard(value, extent), i)
        cuts = [side.cut for side in sides if side]
        assert len(cuts) == 2
        for run in runs.runs(Loop(i, n), cuts):
            below, above = (run.holds(side) for side in sides if side)
            for size in range(9):
                for at in range(evaluate(run.first, {"n": size}), evaluate(run.end, {"n": size})):
                    found = evaluate(value, {"n": size, "i": at})
                    assert below in (None, found >= 0)
                    assert above in (None, found < evaluate(extent, {"n": size}))


def test_what_changes_from_loop_to_loop_or_in_larger_steps_is_no_cut() -> None:
    i, j = Symbol("i", "var"), Symbol("j", "var")
    for value in (symbol(i) * 2, symbol(i) + symbol(j), symbol(i) * dim("n"), 3):
        assert runs.sides(Guard(value, 7), i) == (None, None)
