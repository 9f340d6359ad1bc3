"""Programs divided into functions of bounded weight: they compute what one function computes, whatever is divided."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import generate

import staticad as ad
from staticad import division, plan
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


# ---- inside of loops whose steps follow each other, and of choices

Program = tuple[list[Any], list[Any]]


def weights(depth: int, size: int) -> list[Any]:
    return [ad.input(f"w{k}", (size, size)) for k in range(depth)]


def layers(depth: int) -> Program:
    """A scan over many layers, with its gradient."""
    x, ws = ad.input("x", (4, 8)), weights(depth, 8)

    def step(c: Any, _: Any) -> tuple[Any, Any]:
        for w in ws:
            c = ad.tanh(c @ w)
        return c, ad.sum(c)

    y, ys = ad.scan(step, x, None, length=3)
    loss = ad.sum(y * y) + ad.sum(ys)
    return [x, *ws], [loss, *ad.grad(loss, [x, *ws])]


def open_layers(depth: int) -> Program:
    """The same with a number of steps that is not known before: what they leave is on the tape."""
    x, ws = ad.input("x", (4, 8)), weights(depth, 8)

    def step(state: Any) -> Any:
        c, k = state
        for w in ws:
            c = ad.tanh(c @ w)
        return c, k + 1

    y, steps = ad.while_loop(lambda state: state[1] < 3, step, (x, ad.asarray(0)))
    loss = ad.sum(y * y)
    return [x, *ws], [loss, steps, *ad.grad(loss, [x, *ws])]


def numbers(depth: int) -> Program:
    """A step of many scalars, which go from function to function."""
    x, a = ad.input("x", ()), ad.input("a", (depth,))

    def step(state: Any, _: Any) -> tuple[Any, Any]:
        p, q = state
        for k in range(depth):
            t = ad.sin(p * a[k])
            p, q = q + t * t * 0.1, p * 0.5 - t
        return (p, q), p * q

    (p, q), ys = ad.scan(step, (x, x * 2.0), None, length=6)
    loss = p + q + ad.sum(ys)
    return [x, a], [loss, *ad.grad(loss, [x, a])]


def lanes(depth: int) -> Program:
    """Scans beside each other, so that there is a loop around the one that is divided."""
    x, ws = ad.input("x", (5, 4)), weights(depth, 4)

    def one(v: Any) -> Any:
        def step(c: Any, _: Any) -> tuple[Any, Any]:
            for w in ws:
                c = ad.sin(c @ w) - ad.mean(c)
            return c, c[0]

        y, ys = ad.scan(step, v, None, length=3)
        return ad.sum(y * y) + ad.sum(ys)

    loss = ad.sum(ad.func.vmap(one)(x))
    return [x, *ws], [loss, *ad.grad(loss, [x, *ws])]


def inner(depth: int) -> Program:
    """Loops of unknown length and choices in the steps of another loop."""
    x, w = ad.input("x", (4,)), ad.input("w", (4, 4))

    def step(c: Any, _: Any) -> tuple[Any, Any]:
        for k in range(depth):
            c = ad.while_loop(lambda y, k=k: ad.sum(y * y) > 0.3 + 0.1 * k, lambda y: ad.sin(y) * 0.7, c + 1.0)
            c = ad.cond(ad.sum(c) > 0, lambda c: ad.tanh(c @ w) - ad.mean(c), lambda c: c * 2.0, c)
        return c, c[1]

    y, ys = ad.scan(step, x, None, length=3)
    return [x, w], [ad.sum(y) + ad.sum(ys), y]


def choices(depth: int) -> Program:
    """Choices and scans in the steps of a loop of unknown length, with its gradient."""
    x, w = ad.input("x", (4,)), ad.input("w", (4, 4))

    def step(state: Any) -> Any:
        c, i = state
        for k in range(depth):
            c = ad.cond(ad.sum(c) > 0.1 * k, lambda c: ad.tanh(c @ w) - ad.mean(c), lambda c: c * 1.5, c)
            v, _ = ad.scan(lambda a, _, k=k: (ad.sin(a @ w) + 0.1 * k, None), c, None, length=2)
            c = c * 0.5 + v
        return c, i + 1

    y, steps = ad.while_loop(lambda state: state[1] < 4, step, (x, ad.asarray(0)))
    loss = ad.sum(y * y)
    return [x, w], [loss, steps, *ad.grad(loss, [x, w])]


def sums(depth: int) -> Program:
    """Numbers that what follows reads, each in the memory of one before it where that is read no more."""
    x = ad.input("x", (4,))

    def step(c: Any, _: Any) -> tuple[Any, Any]:
        for _ in range(depth):
            c = ad.tanh(c * ad.sum(ad.sin(c)))
        return c, ad.sum(c)

    y, ys = ad.scan(step, x, None, length=3)
    loss = ad.sum(y * y) + ad.sum(ys)
    return [x], [loss, ad.grad(loss, x)]


def linear(depth: int) -> Program:
    """The backward pass of such loops needs how many steps each took, in every step of the one around."""
    x = ad.input("x", (20,))

    def step(c: Any, k: Any) -> tuple[Any, Any]:
        for _ in range(depth):
            state = (ad.sum(k), c, c)
            _, p, q = ad.while_loop(lambda s: s[0] > 0.1, lambda s: (s[0] * 0.5, s[1] * 0.9 + s[2], s[2] * 0.8), state)
            c = ad.tanh(p + q)
        return c, None

    y, _ = ad.scan(step, x, ad.asarray([0.05, 0.3, 2.0]))
    return [x], [y, ad.grad(ad.sum(y * y), x)]


@pytest.mark.parametrize("frame", [plan.FRAME, 0])
@pytest.mark.parametrize(
    ("program", "depth"),
    [(layers, 4), (open_layers, 4), (numbers, 8), (lanes, 3), (inner, 2), (choices, 2), (sums, 3), (linear, 2)],
)
def test_steps_of_loops_are_divided(program: Any, depth: int, frame: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether there is room for small arrays in the frames of functions or not."""
    monkeypatch.setattr(plan, "FRAME", frame)
    inputs, outputs = program(depth)
    rng = np.random.default_rng(1)
    given = {x: rng.normal(size=x.shape) * 0.5 for x in inputs}
    f = divided(monkeypatch, inputs, outputs)
    calls = re.findall(r"^ {8,}(?:status = )?\w+_kernel\w*\(", f.source, re.MULTILINE)
    assert len(calls) >= depth  # in loops
    agree(f, outputs, given)
    agree(f, outputs, given)


def texts(f: Function) -> list[str]:
    """The text of each function but the main one."""
    return re.split(r"^@", f.source, flags=re.MULTILINE)[1:-1]


def loops(text: str) -> int:
    return len(re.findall(r"^ *(?:for|while) ", text, re.MULTILINE))


@pytest.mark.parametrize("program", [layers, open_layers])
def test_functions_are_bounded_however_much_a_step_does(program: Any) -> None:
    found: list[tuple[int, int]] = []
    for depth in (10, 60, 120):
        functions = texts(generate(*program(depth)))
        assert max(map(loops, functions)) <= division.PART_WEIGHT // division.LOOP_COST
        found.append((len(functions), max(map(loops, functions))))
    # Layers are alike, so there are few functions; of the loops over steps only calls are left.
    assert all(count < 40 and most < 10 for count, most in found[1:])


def test_functions_of_long_programs_are_bounded() -> None:
    x, ws = ad.input("x", ("n", 8)), weights(150, 8)
    y = x
    for w in ws:
        y = ad.tanh(y @ w)
    loss = ad.sum(y * y)
    functions = texts(generate([x, *ws], [loss, *ad.grad(loss, ws)]))
    assert max(map(loops, functions)) <= division.PART_WEIGHT // division.LOOP_COST
