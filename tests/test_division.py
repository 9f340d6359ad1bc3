"""Programs divided into functions of bounded weight: they compute what one function computes, whatever is divided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticad as ad
from staticad import division
from staticad.function import Function

RNG = np.random.default_rng(0)
X, W, Z = RNG.uniform(0.5, 1.0, 4), RNG.normal(size=(4, 4)), RNG.normal(size=(5, 4))
SMALL, ONE = 20, 10**9


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICAD_CACHE_DIR", str(tmp_path / "cache"))


def functions(f: Function) -> int:
    return len(re.findall(r"^@(?:kernel|parallel)\(", f.source, re.MULTILINE))


def divided(monkeypatch: pytest.MonkeyPatch, inputs: Any, outputs: Any, weight: int = SMALL) -> Function:
    """The program as several functions."""
    with monkeypatch.context() as patched:
        patched.setattr(division, "PART_WEIGHT", weight)
        return ad.compile(inputs, outputs)


def agree(f: Function, outputs: Any, given: dict[Any, Any]) -> None:
    wanted = ad.evaluate(outputs, given)
    for found, expected in zip(f(*given.values()), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_what_loops_of_unknown_length_leave_goes_from_function_to_function(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, z = ad.input("x", (4,)), ad.input("w", (4, 4)), ad.input("z", ("n", 4))
    y = ad.while_loop(lambda y: ad.sum(y * y) > 0.5, lambda y: ad.sin(y @ w) * x, x)
    u = ad.tanh(z @ w)
    u = u - ad.mean(u, axis=0)
    _, last, steps = ad.while_loop(
        lambda s: s[0] > 1e-3,
        lambda s: (s[0] * 0.7, s[1] + s[1] * s[1] * 0.01, s[2] + 1),
        (ad.sum(u * u), ad.sum(y), ad.asarray(0)),
    )
    loss = ad.sum(y) * ad.sum(u * u) + last
    outputs, given = [loss, steps, *ad.grad(loss, [x, w, z])], {x: X, w: W, z: Z}
    f, one = divided(monkeypatch, [x, w, z], outputs), divided(monkeypatch, [x, w, z], outputs, ONE)
    assert functions(f) > 10
    assert functions(one) <= 1
    assert "m.only(tape" in f.source
    agree(f, outputs, given)
    agree(f, outputs, given)  # nothing is left of the first call


def test_a_number_of_steps_alone_goes_from_function_to_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backward pass of a linear loop needs nothing of its steps but how many there were."""
    x = ad.input("x", (4,))
    y = ad.while_loop(lambda y: ad.sum(y) < 50.0, lambda y: y * 2.0 + ad.mean(y), x)
    outputs = [y, ad.grad(ad.sum(y * y), x)]
    f = divided(monkeypatch, [x], outputs)
    assert functions(f) > 3
    agree(f, outputs, {x: X})
    agree(f, outputs, {x: X * 100.0})  # no step at all


def test_a_loop_that_fails_in_a_function_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ad.input("x", (4,))
    y = ad.while_loop(lambda y: ad.sum(y) < 50.0, lambda y: y * ad.exp(y * 0.01) * 1.5, x, max_steps=8)
    outputs = [y, ad.grad(ad.sum(y), x)]
    f = divided(monkeypatch, [x], outputs)
    assert functions(f) > 3
    agree(f, outputs, {x: X * 2.0})
    with pytest.raises(ad.StepLimit, match="8 steps"):
        f(X * 1e-6)
    agree(f, outputs, {x: X * 2.0})


def test_equal_loops_of_unknown_length_share_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which slot of the tape a loop has, and what its number of steps is called, is told by who calls it."""
    counts: list[int] = []
    x = ad.input("x", (4,))
    for repeats in (1, 2, 3):
        y = x
        for _ in range(repeats):
            y = ad.while_loop(lambda y: ad.sum(y * y) > 0.5, lambda y: ad.sin(y) * x, y + 1.0)
        outputs = [ad.sum(y), ad.grad(ad.sum(y), x)]
        f = divided(monkeypatch, [x], outputs)
        counts.append(len(re.findall(r"while True:", f.source)))
        agree(f, outputs, {x: X})
    assert counts == [1, 1, 1]
