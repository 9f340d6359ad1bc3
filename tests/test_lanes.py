"""Loops over steps turned inside out: the same values and derivatives as JAX's, of any size, and when it is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from programs import generate

import staticad as ad

RNG = np.random.default_rng(5)
STEPS = 7
#: Fewer elements than a block has; two blocks; blocks and a rest.
SIZES = (17, 128, 203)


def horner(p: Any, t: Any, y: Any, c: Any) -> Any:
    v, _ = p.scan(lambda v, a: (v * t + a, None), p.zeros_like(t), c, reverse=True)
    return p.sum((v - y) * (v - y)), v


def sums(p: Any, t: Any, y: Any, c: Any) -> Any:
    """Sums over the elements that every step leaves, and a largest element."""
    y, (total, largest) = p.scan(lambda v, a: (v * t - a, (p.sum(v * v), p.max(v + t))), y, c)
    return y, total, largest


def swapped(p: Any, t: Any, y: Any, c: Any) -> Any:
    (a, b), _ = p.scan(lambda ab, x: ((ab[1] * 0.5, ab[0] * x + ab[1]), None), (t, y), c)
    return a - 2.0 * b


def exchanged(p: Any, t: Any, y: Any, c: Any) -> Any:
    """Each carry is what the other was."""
    (a, b), totals = p.scan(lambda ab, x: ((ab[1], ab[0]), p.sum(ab[0]) * x), (t, y), c)
    return a - 2.0 * b, totals


def four(p: Any, t: Any, y: Any, c: Any) -> Any:
    """As many carries as there may be."""

    def step(s: Any, x: Any) -> Any:
        a, b, d, e = s
        return (b + x, a * 0.9, d * x - e, e + a), None

    return p.scan(step, (t, y, t * y, t + y), c, reverse=True)[0]


def five(p: Any, t: Any, y: Any, c: Any) -> Any:
    def step(s: Any, x: Any) -> Any:
        a, b, d, e, f = s
        return (b + x, a * 0.9, d * x - f, e + a, f * x), None

    return p.scan(step, (t, y, t * y, t + y, t - y), c)[0]


def scalar_first(p: Any, t: Any, y: Any, c: Any) -> Any:
    """What a step makes of its scalar alone, and leaves."""
    return p.scan(lambda v, x: ((a := p.exp(-x) / 3.0) * v + a * t, a), y, c)


def carried_scalar(p: Any, t: Any, y: Any, c: Any) -> Any:
    """A carry without elements."""
    return p.scan(lambda v, x: ((v[0] * 0.5 + x, v[1] * v[0] + t), v[0]), (c[0], y), c)


def fed_back(p: Any, t: Any, y: Any, c: Any) -> Any:
    """The sum over the elements is what the next step needs: nothing to turn."""
    return p.scan(lambda v, x: (v / (1.0 + p.sum(v * v)) + x * t, p.sum(v)), y, c)


def mirrored(p: Any, t: Any, y: Any, c: Any) -> Any:
    """Every element needs another one: nothing to turn."""
    return p.scan(lambda v, x: (p.flip(v, axis=0) * t + x, None), y, c)[0]


def heavy(p: Any, t: Any, y: Any, c: Any) -> Any:
    return p.scan(lambda v, x: (p.tanh(p.sin(v) * t + x), None), y, c)[0]


def left(p: Any, t: Any, y: Any, c: Any) -> Any:
    """Every step leaves its carry."""
    return p.scan(lambda v, x: (v * t + x, v), y, c)


def steps_in_steps(p: Any, t: Any, y: Any, c: Any) -> Any:
    def outer(v: Any, x: Any) -> Any:
        v, totals = p.scan(lambda v, z: (v * t + z * x, p.sum(v)), v, c)
        return v * 0.25, p.sum(totals)

    return p.scan(outer, y, c)


def one_after_another(p: Any, t: Any, y: Any, c: Any) -> Any:
    """The second loop begins with what the first one ends with, and reads what it began with."""
    v, a = p.scan(lambda v, x: (v * t + x, p.sum(v)), y, c)
    w, b = p.scan(lambda w, x: (w * y - x, p.sum(w * w)), v + 1.0, p.tanh(a))
    return w, v, b


PROGRAMS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        horner, sums, swapped, exchanged, four, five, scalar_first, carried_scalar, fed_back, mirrored, heavy, left,
        steps_in_steps, one_after_another,
    )
}  # fmt: skip


class Names:
    """JAX's functions under the names that the programs use."""

    def __init__(self) -> None:
        jax = pytest.importorskip("jax")
        jax.config.update("jax_enable_x64", True)
        self.jax = jax

    def scan(self, f: Any, init: Any, xs: Any, reverse: bool = False) -> Any:
        return self.jax.lax.scan(f, init, xs, reverse=reverse)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jax.numpy, name)


def flat(results: Any) -> list[Any]:
    return [x for part in results for x in flat(part)] if isinstance(results, tuple) else [results]


def loss(p: Any, name: str, given: Any) -> tuple[Any, list[Any]]:
    """A scalar that depends on all results, and these."""
    found = [x for x in flat(PROGRAMS[name](p, *given)) if x is not None]
    return sum(p.sum(x / (1.0 + x * x)) * (k + 1.0) for k, x in enumerate(found)), found


def given(size: int, steps: int = STEPS, dtype: str = "float64") -> list[np.ndarray]:
    return [RNG.uniform(-1, 1, n).astype(dtype) for n in (size, size, steps)]


def compiled(name: str, shapes: Any, dtype: str = "float64", **options: Any) -> ad.Function:
    inputs = [ad.input(n, s, dtype) for n, s in zip("tyc", shapes, strict=True)]
    total, found = loss(ad, name, inputs)
    return ad.compile(inputs, [*found, *ad.grad(total, inputs)], **options)


def expected(name: str, arrays: list[np.ndarray]) -> list[np.ndarray]:
    p = Names()
    both = p.jax.jit(p.jax.value_and_grad(lambda *xs: loss(p, name, xs), (0, 1, 2), has_aux=True))
    (_, results), grads = both(*arrays)
    return [np.asarray(x) for x in [*results, *grads]]


def agree(actual: Any, wanted: list[np.ndarray], tolerance: float = 1e-11) -> None:
    for x, y in zip(actual, wanted, strict=True):
        assert x.shape == y.shape and x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance * max(1.0, float(np.max(np.abs(y), initial=0))))


@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients_are_those_of_jax(name: str) -> None:
    symbolic = compiled(name, [("n",), ("n",), ("m",)])
    for size in SIZES:
        arrays = given(size)
        wanted = expected(name, arrays)
        agree(symbolic(*arrays), wanted)
        if size != SIZES[1]:
            agree(compiled(name, [x.shape for x in arrays])(*arrays), wanted)


@pytest.mark.parametrize("name", ["horner", "swapped", "four", "sums"])
def test_no_elements_no_steps_and_one_of_each(name: str) -> None:
    f = compiled(name, [("n",), ("n",), ("m",)])
    for size, steps in ((0, STEPS), (70, 0), (1, 1), (70, 1)):
        arrays = given(size, steps)
        if name == "sums" and size == 0:
            continue  # nothing is the largest of no elements
        agree(f(*arrays), expected(name, arrays))


@pytest.mark.parametrize("name", ["horner", "sums", "swapped"])
def test_float32(name: str) -> None:
    arrays = given(300, dtype="float32")
    agree(compiled(name, [("n",), ("n",), ("m",)], "float32")(*arrays), expected(name, arrays), 2e-5)


@pytest.mark.parametrize("name", ["horner", "one_after_another"])
def test_on_several_threads(name: str) -> None:
    for shapes in ([("n",), ("n",), (STEPS,)], [(1003,), (1003,), (STEPS,)]):
        arrays = given(1003)
        f = compiled(name, shapes, parallel=True)
        assert "@parallel" in f.source
        agree(f(*arrays), expected(name, arrays))


def turned(f: ad.Function) -> int:
    """How many loops over steps hold one over the elements of a block."""
    pattern = r"for (\w) in range\(\w+\):\n(?:\s+\w+ = .*\n)*\s+for \w in range\(m.lanes\(64\)\)"
    return len(re.findall(pattern, f.source))


def test_steps_go_inside_where_each_element_is_made_of_itself() -> None:
    def loops(name: str) -> int:
        inputs = [ad.input(n, s) for n, s in (("t", (1024,)), ("y", (1024,)), ("c", (STEPS,)))]
        return turned(generate(inputs, flat(PROGRAMS[name](ad, *inputs)[:2])))

    assert loops("horner") == 1
    assert loops("sums") == 1
    assert loops("one_after_another") == 2
    assert [loops(name) for name in ("fed_back", "mirrored", "heavy", "left", "five")] == [0] * 5


def test_horner_with_its_gradient_is_one_pass_in_registers() -> None:
    """No array of all elements: everything is done with a block before the next one begins."""
    c = ad.input("c", (STEPS,))
    value = horner(ad, ad.linspace(-1.0, 1.0, 2048), ad.ones(2048), c)[0]
    f = generate([c], [value, ad.grad(value, c)])
    assert f.stats.workspace_bytes == 0
    assert f.source.count("m.local_f8((64,))") == 3
    assert len(re.findall(r"^    for ", f.source, re.M)) == 2  # zeros for the gradient, and all the rest
