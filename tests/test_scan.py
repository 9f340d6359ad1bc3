"""Loops whose steps follow each other, against JAX: values, derivatives of both modes, nesting; and what they cost."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import isqrt
from typing import Any

import numpy as np
import pytest

import staticad as ad
from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.shapes import evaluate

RNG = np.random.default_rng(3)
XS, H, W, C = RNG.normal(size=(6, 3)), RNG.normal(size=3), 0.5 * RNG.normal(size=(3, 3)), RNG.normal(size=3)


def linear(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    return p.scan(lambda h, x: ((h2 := h * x + p.sin(c)), h2 * h2), h, xs)


def matrix(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    return p.scan(lambda h, x: ((h2 := p.tanh(w @ h + x)), h2), h, xs)


def backwards(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    return p.scan(lambda h, x: ((h2 := p.tanh(h * x) + c), h2 * x), h, xs, reverse=True)


def swapped(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """Both carries are read after either has its next value."""
    (a, b), ys = p.scan(lambda ab, x: ((ab[1], ab[0] * p.cos(ab[1]) + x), ab[0]), (h, c), xs)
    return a + 2.0 * b, ys


def scalars(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """Carries in local variables, one of them the other's last value."""
    (a, b), ys = p.scan(lambda ab, x: ((ab[1], ab[0] + p.sin(ab[1]) * x[0]), ab[0]), (h[0], h[1]), xs)
    return a * b, ys


def only_carry(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    h, _ = p.scan(lambda h, x: (p.sin(w @ h), None), h, length=5)
    return h, h[0]


def unused_carry(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    (h, _), ys = p.scan(lambda hg, x: ((hg[0] * x, p.exp(hg[1])), hg[0]), (h, c), xs)
    return h, ys


def two_results(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    _, (a, b) = p.scan(lambda h, x: (h * x + c, (p.sin(h), {"b": x * h})), h, xs)
    return p.sum(a, axis=0), b["b"]


def nested(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def outer(h: Any, x: Any) -> Any:
        g, ys = p.scan(lambda g, y: ((g2 := p.tanh(g * y + x)), g2 * h), h, w)
        return g + c, p.sum(ys, axis=0)

    return p.scan(outer, h, xs)


def nested_with_matrix(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def outer(m: Any, x: Any) -> Any:
        m, _ = p.scan(lambda m, y: (p.tanh(m @ w) + y, None), m, xs)
        return m, m @ x

    return p.scan(outer, w, xs)


def invariant(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    big = p.exp(w)
    return p.scan(lambda h, x: (p.tanh(p.exp(big) @ h) + x, h), h, xs)


def after_and_before(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    h, ys = p.scan(lambda h, x: (h * 0.5 + x, h * x), p.sin(h), p.tanh(xs) @ w)
    return p.exp(h), p.sum(p.sin(ys) * xs, axis=1)


def horner(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    v, _ = p.scan(lambda v, a: (v * c + a[0], None), h * 0.0, xs, reverse=True)
    return v, p.sum(v * v)


def rows_carried(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """What the steps of an inner loop leave, before they change it, is the carry of the outer one."""

    def outer(m: Any, x: Any) -> Any:
        g, rows = p.scan(lambda g, row: (p.sin(g) * row + x, g), c, m)
        return rows, g * h

    return p.scan(outer, w, xs)


def crossed(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """Each carry reads the other's last value at the same index."""
    (a, b), ys = p.scan(lambda s, x: ((s[0] * p.cos(s[1]) + x, s[1] * p.sin(s[0])), s[0] - s[1]), (h, c), xs)
    return a + b, ys


def one_element(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """A carry with axes, but of one element, that a reduction gives, and that is left too."""
    return p.scan(lambda h, x: ((h2 := p.sum(x * p.cos(h), axis=0, keepdims=True) + h), h2[0]), h[:1], xs)


def one_by_one(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """Such carries in products; one becomes what the other was."""

    def step(ab: Any, x: Any) -> Any:
        a, b = ab
        return (p.sin(p.tanh(b @ w[:1]) @ w[:, :1]) + a * x[0], a), a + b

    (a, b), ys = p.scan(step, (h[:1, None], c[:1, None]), xs)
    return a + 2.0 * b, ys


def rows_by_matrix(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """Each row of a carry, of any number of them, becomes what a product makes of the whole row."""
    rows, _ = p.scan(lambda rows, _: (p.sin(rows @ w) * xs + rows, None), xs, length=2)
    return p.sum(rows * h), rows


PROGRAMS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        linear, matrix, backwards, swapped, scalars, only_carry, unused_carry, two_results, nested, nested_with_matrix,
        invariant, after_and_before, horner, rows_carried, crossed, one_element,
        one_by_one, rows_by_matrix,
    )
}  # fmt: skip


class JaxNames:
    """JAX's functions under the names that the programs use."""

    def __init__(self) -> None:
        jax = pytest.importorskip("jax")
        jax.config.update("jax_enable_x64", True)
        self.jax, self.jnp = jax, jax.numpy

    def scan(self, f: Any, init: Any, xs: Any = None, length: Any = None, **options: Any) -> Any:
        return self.jax.lax.scan(f, init, xs, length, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jnp, name)


def loss(p: Any, out: Any) -> Any:
    total, ys = out
    return p.sum(p.sin(total)) + p.sum(ys * ys)


def inputs(dtype: str = "float64") -> list[ad.Tensor]:
    return [ad.input(*given, dtype=dtype) for given in (("xs", ("n", 3)), ("h", (3,)), ("w", (3, 3)), ("c", (3,)))]


@pytest.mark.parametrize("steps", [6, 1, 0])
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_and_gradients_are_those_of_jax(name: str, steps: int) -> None:
    given, arrays = inputs(), [XS[:steps], H, W, C]
    out = PROGRAMS[name](ad, *given)
    value = loss(ad, out)
    found = ad.compile(given, [*out, value, *ad.grad(value, given)])(*arrays)
    p = JaxNames()
    expected = [
        *PROGRAMS[name](p, *arrays),
        loss(p, PROGRAMS[name](p, *arrays)),
        *p.jax.grad(lambda *x: loss(p, PROGRAMS[name](p, *x)), argnums=(0, 1, 2, 3))(*arrays),
    ]
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", PROGRAMS)
def test_tangents_and_second_order_are_those_of_jax(name: str) -> None:
    given, arrays = inputs(), [XS, H, W, C]
    t = [np.cos(a + 1.0) for a in arrays]
    value = loss(ad, PROGRAMS[name](ad, *given))
    moves = [ad.input(f"t{k}", x.shape) for k, x in enumerate(given)]
    tangent = ad.jvp(value, given, moves)
    slope = sum((ad.sum(g * g) for g in ad.grad(value, given)), start=ad.constant(0.0))
    found = ad.compile([*given, *moves], [tangent, *ad.grad(slope, given)])(*arrays, *t)
    p = JaxNames()
    jax = p.jax

    def f(*x: Any) -> Any:
        return loss(p, PROGRAMS[name](p, *x))

    def squared(*x: Any) -> Any:
        return sum(p.sum(g * g) for g in jax.grad(f, argnums=(0, 1, 2, 3))(*x))

    expected = [jax.jvp(f, tuple(arrays), tuple(t))[1], *jax.grad(squared, argnums=(0, 1, 2, 3))(*arrays)]
    for e, g in zip(expected, found, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-9)


def test_what_steps_leave_comes_after_what_it_is() -> None:
    """Two steps at a time of an odd number, and no step changes what they leave."""
    z, v = ad.input("z"), ad.input("v", (3,))
    _, ys = ad.scan(lambda c, _: (c, ad.sin((1.2 + v * v) ** (0.3 * z))), z, length=3, unroll=2)
    found = ad.compile([z, v], ad.grad(ad.sum(ad.sin(ys)), v))(0.7, C)
    power = (1.2 + C * C) ** 0.21
    slope = np.cos(np.sin(power)) * np.cos(power) * 0.21 * power / (1.2 + C * C) * 2 * C
    np.testing.assert_allclose(found, 3 * slope, rtol=1e-13)


@pytest.mark.parametrize("name", ["linear", "nested", "scalars"])
def test_evaluate_gives_the_same(name: str) -> None:
    given, arrays = inputs(), [XS, H, W, C]
    out = PROGRAMS[name](ad, *given)
    outputs = [*out, *ad.grad(loss(ad, out), given)]
    compiled = ad.compile(given, outputs)(*arrays)
    for a, b in zip(compiled, ad.evaluate(outputs, dict(zip(given, arrays, strict=True))), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_integers_and_bools_are_carried() -> None:
    x = ad.input("x", ("n",), dtype="int64")
    (total, odd), seen = ad.scan(
        lambda s, x: ((s[0] + x, s[1] | (x % 2 == 1)), s[1]), (ad.constant(0), ad.constant(False)), x
    )
    f = ad.compile([x], [total, odd, seen])
    total_, odd_, seen_ = f(np.array([2, 3, 4]))
    assert total_ == 9 and odd_.item() is True
    assert seen_.tolist() == [False, False, True]


def test_float32_stays_float32() -> None:
    given = inputs("float32")
    out = matrix(ad, *given)
    f = ad.compile(given, [*out, *ad.grad(loss(ad, out), given)])
    found = f(*(x.astype("float32") for x in (XS, H, W, C)))
    assert {x.dtype for x in found} == {np.dtype("float32")}
    assert "f8" not in f.source


def test_torch_like_backward_goes_through_a_loop() -> None:
    w = ad.parameter(W, name="w")
    xs = ad.input("xs", ("n", 3))
    h, _ = ad.scan(lambda h, x: (ad.tanh(w @ h + x), None), ad.zeros(3), xs)
    f = ad.compile([xs], ad.sum(h * h))
    f(XS)
    f.backward()
    p = JaxNames()

    def value(w: Any) -> Any:
        h, _ = p.scan(lambda h, x: (p.tanh(w @ h + x), None), p.zeros(3), XS)
        return p.sum(h * h)

    np.testing.assert_allclose(w.grad, p.jax.grad(value)(W), rtol=1e-12)


def test_a_step_has_no_temporary_and_what_no_step_changes_is_computed_once() -> None:
    given = inputs()
    f = ad.compile(given, linear(ad, *given))
    loop = re.search(r"for \w+ in range\(.*\bn\b", f.source)
    assert loop is not None
    step = f.source[loop.start() :]
    assert "m.sin" not in step
    assert re.findall(r"m\.slot_\w+\(.*\bn\b.*\)", f.source) == []


def test_carried_scalars_are_local_variables() -> None:
    x = ad.input("x", ("n",))
    total, _ = ad.scan(lambda s, x: (s * 0.5 + x, None), 0.0, x)
    f = ad.compile([x], total)
    assert f.stats.temporaries == 0
    assert f(np.ones(60)) == pytest.approx(2.0)


def test_an_element_of_a_carried_array_is_updated_in_place() -> None:
    """An update costs the element, not the array; where the old array is still read, it is right."""
    x, at = ad.input("x", ("n",)), ad.input("at", ("n",), dtype="int64")
    counts, _ = ad.scan(lambda c, xi: (c.at[xi[1]].add(xi[0]), None), ad.zeros(7), (x, at))
    f = ad.compile([x, at], [counts, ad.grad(ad.sum(counts * counts), x)])
    arrays = np.arange(1.0, 7.0), np.array([3, 0, 3, 6, 0, 3])
    expected = np.bincount(arrays[1], arrays[0], 7)
    found, slope = f(*arrays)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(slope, 2.0 * expected[arrays[1]])
    forward = ad.compile([x, at], counts).source
    assert "m.copy" not in forward
    read, sums = ad.scan(lambda c, xi: (c.at[xi[1]].set(xi[0]), ad.sum(c)), ad.zeros(7), (x, at))
    last, before = ad.compile([x, at], [read, sums])(*arrays)
    np.testing.assert_array_equal(last, [5.0, 0, 0, 6.0, 0, 0, 4.0])
    np.testing.assert_array_equal(before, [0.0, 1, 3, 5, 9, 12])


def test_what_nobody_reads_is_not_computed() -> None:
    given = inputs()
    (h, _), _ = ad.scan(lambda s, x: ((s[0] * x, ad.exp(s[1])), ad.log(s[0])), (given[1], given[3]), given[0])
    source = ad.compile(given, h).source
    assert "m.exp" not in source and "m.log" not in source


# fmt: off
Scanned = Callable[[ad.Tensor], Any]
ERRORS: dict[str, tuple[type[Exception], str, Scanned]] = {
    "no pair":       (GraphError, "pair",                lambda x: ad.scan(lambda c, x: c + x, ad.zeros(3), x)),
    "shape":         (ShapeError, "must keep its shape", lambda x: ad.scan(lambda c, x: (x, None), 0.0, x)),
    "dtype":         (DTypeError, "astype",              lambda x: ad.scan(lambda c, x: (x[0], None), np.int64(0), x)),
    "no length":     (ShapeError, "length=",             lambda x: ad.scan(lambda c, x: (c, None), x)),
    "other lengths": (ShapeError, "as long",             lambda x: ad.scan(lambda c, x: (c, 0), 0.0, (x, ad.ones(4)))),
    "no axis":       (ShapeError, "axis of steps",       lambda x: ad.scan(lambda c, x: (c, None), 0.0, x[0, 0])),
    "another nest":  (ShapeError, "the carry",           lambda x: ad.scan(lambda c, x: ((c, c), None), 0.0, x)),
}
# fmt: on


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_do(name: str) -> None:
    error, text, make = ERRORS[name]
    with pytest.raises(error, match=re.escape(text)):
        make(ad.input("x", ("n", 3)))


def test_an_index_that_counts_the_steps_is_read_in_each() -> None:
    """A slice of a range reads no memory, but is another number in each step: its check belongs into the loop."""
    x = ad.input("x", (3, 3))
    last, columns = ad.scan(lambda c, i: (2.0 * c, c[:, i]), x, ad.arange(3))
    given = RNG.normal(size=(3, 3))
    found = ad.compile([x], [last, columns, ad.grad(ad.sum(columns**2), x)])(given)
    np.testing.assert_allclose(found[0], 8 * given, rtol=1e-15)
    np.testing.assert_allclose(found[1], given.T * np.array([1, 2, 4])[:, None], rtol=1e-15)
    np.testing.assert_allclose(found[2], 2 * given * np.array([1, 4, 16]), rtol=1e-14)


def test_a_running_sum_down_columns_inside_a_step() -> None:
    """Its loops are turned, those of the steps around it are not."""
    x = ad.input("x", (5, 7, 40))
    carry, ys = ad.scan(lambda c, x: (0.5 * ad.cumsum(c + x, axis=0), ad.cumsum(c * x, axis=0)), ad.zeros((7, 40)), x)
    given = np.random.default_rng(0).normal(size=(5, 7, 40))
    last, kept = np.zeros((7, 40)), list[np.ndarray]()
    for step in given:
        kept.append(np.cumsum(last * step, axis=0))
        last = 0.5 * np.cumsum(last + step, axis=0)
    found = ad.compile([x], [carry, ys])(given)
    np.testing.assert_allclose(found[0], last, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(found[1], np.stack(kept), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("steps", [11, 12, 3, 0, "n"])
@pytest.mark.parametrize("how", [{"unroll": 4}, {"checkpoint": 4}, {"checkpoint": "sqrt", "unroll": 2}])
def test_steps_in_segments_give_the_same(how: dict[str, Any], steps: int | str, reverse: bool) -> None:
    """Whether the segments come out even or not; second derivatives too."""
    xs, h, w = ad.input("xs", (steps, 3)), ad.input("h", (3,)), ad.input("w", (3, 3))
    x = np.random.default_rng(1).normal(size=(11 if steps == "n" else steps, 3))

    def results(**options: Any) -> list[Any]:
        total, (ys, _) = ad.scan(
            lambda h, x: ((h2 := ad.tanh(w @ h + x)), (h2 * x, None)), h, xs, reverse=reverse, **options
        )
        assert ys.shape == xs.shape
        value = ad.sum(ad.sin(total)) + ad.sum(ys * ys)
        slopes = ad.grad(value, [xs, h, w])
        return ad.compile([xs, h, w], [ys, *slopes, ad.grad(sum(ad.sum(g * g) for g in slopes), w)])(x, H, W)

    for a, b in zip(results(**how), results(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("outside", "value", "slope"),
    [
        (lambda z, v: ad.broadcast_to(z, (3,)), [0.7, 0.7, 0.7], 1.0),
        (lambda z, v: ad.broadcast_to(z * z, (3,)), [0.49, 0.49, 0.49], 1.4),
        (lambda z, v: v[::-1], [3.0, 2.0, 1.0], 0.0),
        (lambda z, v: v * v, [1.0, 4.0, 9.0], 0.0),
        (lambda z, v: v, [1.0, 2.0, 3.0], 0.0),
    ],
)
def test_a_carry_becomes_what_no_step_computes(outside: Any, value: list[float], slope: float) -> None:
    """Views of what is outside of the loop, which nothing else has kept in memory, but something has read before."""
    z, v = ad.input("z", (1,)), ad.input("v", (3,))
    x = outside(z, v)
    last, before = ad.scan(lambda c, _: (x, c), v, length=3)
    g = ad.grad(ad.sum(before[0] * before[1] * last), z)
    given = np.array([1.0, 2.0, 3.0])
    total, *found = ad.compile([z, v], [ad.sum(x * x), last, before, g])(np.array([0.7]), given)
    np.testing.assert_allclose(total, np.sum(np.square(value)))
    np.testing.assert_allclose(found[0], value)
    np.testing.assert_allclose(found[1], [given, value, value])
    np.testing.assert_allclose(found[2], [np.sum(2.0 * given * value * slope)])


@pytest.mark.parametrize("steps", [1, 2])
def test_what_a_step_leaves_of_its_carry_is_that_of_its_beginning(steps: int) -> None:
    """In a loop of one step too, where all of it is local variables; and in a loop around."""
    x = ad.input("x", (steps,))
    inner = lambda a: ad.scan(lambda q, _: (0.5 * q + 1.0, q), a, length=1)
    y = ad.scan(lambda c, a: (c + ad.sum(inner(a)[1] * 2.0) + inner(a)[0], None), ad.zeros(()), x)[0]
    found = ad.compile([x], [y, ad.grad(y * y, x)])(np.arange(1.0, steps + 1.0))
    value = sum(2.0 * a + 0.5 * a + 1.0 for a in range(1, steps + 1))
    np.testing.assert_allclose(found[0], value)
    np.testing.assert_allclose(found[1], np.full(steps, 5.0 * value))


def test_segments_take_less_memory() -> None:
    xs, h = ad.input("xs", (1024, 50)), ad.input("h", (50,))

    def work(**options: Any) -> int:
        last, _ = ad.scan(lambda h, x: (ad.tanh(h * x), None), h, xs, **options)
        size = ad.compile([xs, h], ad.grad(ad.sum(last * last), h)).stats.workspace_bytes
        assert isinstance(size, int)
        return size

    assert work() > 8 * 1024 * 50
    assert work(checkpoint="sqrt") < 3 * 8 * 32 * 50
    assert work(checkpoint=128) < 8 * (128 + 8) * 50 + 4000


@pytest.mark.parametrize("reverse", [False, True])
def test_segments_of_a_length_known_at_run_time(reverse: bool) -> None:
    """The square root of a symbolic number of steps, whatever it leaves; native, interpreted, and from @njit code."""
    xs, h = ad.input("xs", ("n", 3)), ad.input("h", (3,))

    def results(**options: Any) -> list[Any]:
        last, ys = ad.scan(lambda h, x: ((h2 := ad.sin(h * x + h)), h2 * x), h, xs, reverse=reverse, **options)
        return [last, ys, *ad.grad(ad.sum(last * last) + ad.sum(ad.cos(ys)), [xs, h])]

    asked = results(checkpoint="sqrt")
    f, plain = ad.compile([xs, h], asked), ad.compile([xs, h], results())
    for n in (0, 1, 2, 3, 10, 97, 100):
        x = np.random.default_rng(n).normal(size=(n, 3))
        expected = plain(x, H)
        ways = [f(x, H)]
        if n in (0, 3, 10):
            ways.append(ad.evaluate(asked, {xs: x, h: H}))
        if n in (0, 97):
            ways.append([np.full_like(e, np.nan) for e in expected])
            f.njit(x, H, *ways[-1])
        for found in ways:
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


def test_segments_of_a_length_known_at_run_time_take_less_memory() -> None:
    xs, h = ad.input("xs", ("n", 50)), ad.input("h", (50,))

    def work(**options: Any) -> Any:
        last, _ = ad.scan(lambda h, x: (ad.tanh(h * x), None), h, xs, **options)
        return ad.compile([xs, h], ad.grad(ad.sum(last * last), h)).stats.workspace_bytes

    plain, less = work(), work(checkpoint="sqrt")
    for n in (100, 10_000, 1_000_000, 1_000_001):
        assert evaluate(plain, {"n": n}) > 8 * 50 * n
        assert evaluate(less, {"n": n}) < 4 * 8 * 50 * (isqrt(n) + 2)


@pytest.mark.parametrize("checkpoint", [4, "sqrt"])
def test_segments_of_a_length_given_as_a_tensor(checkpoint: Any) -> None:
    k, h = ad.input("k", (), dtype="int64"), ad.input("h", (3,))

    def results(**options: Any) -> list[Any]:
        last, _ = ad.scan(lambda h, _: (ad.sin(h) * 1.5, None), h, length=k, **options)
        return [last, ad.grad(ad.sum(last * last), h)]

    f, plain = ad.compile([k, h], results(checkpoint=checkpoint)), ad.compile([k, h], results())
    for steps in (-3, 0, 1, 2, 3, 10, 97, 100):
        for a, b in zip(f(np.array(steps), H), plain(np.array(steps), H), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_length_known_at_run_time() -> None:
    k, h = ad.input("k", (), dtype="int64"), ad.input("h", (3,))
    last, ys = ad.scan(lambda h, _: (ad.sin(h) * 1.5, None), h, length=k)
    assert ys is None
    f = ad.compile([k, h], [last, ad.grad(ad.sum(last), h)])
    p = JaxNames()
    for steps in (0, 1, 5):

        def value(h: Any, steps: int = steps) -> Any:
            for _ in range(steps):
                h = p.sin(h) * 1.5
            return p.sum(h)

        np.testing.assert_allclose(f(np.array(steps), H)[1], p.jax.grad(value)(H), rtol=1e-12)
    with pytest.raises(GraphError, match="slice them"):
        ad.scan(lambda h, x: (h, None), h, ad.zeros((4, 3)), length=k)
    with pytest.raises(GraphError, match="leave no ys"):
        ad.scan(lambda h, x: (h, h), h, length=k)


@pytest.mark.parametrize(("axis", "reverse"), [(0, False), (1, True), (-1, False)])
def test_associative_scan_is_that_of_jax(axis: int, reverse: bool) -> None:
    """Linear recurrences, h <- a h + b, as pairs; and products."""
    a, b = ad.input("a", ("m", "n")), ad.input("b", ("m", "n"))

    p = JaxNames()

    def expected(x: Any, y: Any) -> Any:
        return p.jax.lax.associative_scan(lambda s, t: (s[0] * t[0], t[0] * s[1] + t[1]), (x, y), reverse, axis)

    def both(s: Any, t: Any) -> Any:
        return s[0] * t[0], t[0] * s[1] + t[1]

    found = ad.associative_scan(both, (a, b), reverse, axis)
    assert [x.shape for x in found] == [a.shape, b.shape]
    weights = [np.cos(XS), np.sin(XS)]
    value = sum(ad.sum(x * w) for x, w in zip(found, weights, strict=True))
    f = ad.compile([a, b], [*found, *ad.grad(value, [a, b])])
    arrays = XS + 1.0, XS[::-1] * 0.7

    def loss(x: Any, y: Any) -> Any:
        return sum(p.sum(x * w) for x, w in zip(expected(x, y), weights, strict=True))

    for g, e in zip(f(*arrays), [*expected(*arrays), *p.jax.grad(loss, argnums=(0, 1))(*arrays)], strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-11)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("axis", [0, 1])
def test_associative_scan_of_nothing_is_that_of_jax(axis: int, reverse: bool) -> None:
    """Whether the size is known when the graph is built or not; derivatives of nothing are nothing too."""
    p = JaxNames()
    empty = np.zeros((0, 3) if axis == 0 else (3, 0))
    expected = p.jax.lax.associative_scan(p.minimum, empty, reverse, axis)
    for shape in [empty.shape, tuple(d or "n" for d in empty.shape)]:
        for dtype in ("float64", "int64", "bool"):
            x = ad.input("x", shape, dtype)
            found = ad.associative_scan(ad.minimum if dtype != "bool" else ad.logical_and, x, reverse, axis)
            value = ad.compile([x], found)(empty.astype(dtype))
            assert (value.shape, value.dtype) == (expected.shape, dtype)
        x = ad.input("x", shape)
        y = ad.associative_scan(ad.minimum, x, reverse, axis)
        slope, moved = ad.compile([x], [ad.grad(ad.sum(y), x), ad.jvp(y, x, ad.ones_like(x))])(empty)
        assert slope.shape == moved.shape == p.jax.grad(lambda x: p.sum(expected + x))(empty).shape


def test_associative_scan_of_a_symbolic_size_begins_with_the_first_element() -> None:
    x = ad.input("x", ("n", 2))
    f = ad.compile([x], [y := ad.associative_scan(lambda a, b: a / b, x), ad.grad(ad.sum(y), x)])
    p = JaxNames()
    for n in (1, 2, 5):
        a = np.cos(np.arange(2.0 * n).reshape(n, 2)) + 2

        def quotients(x: Any) -> Any:
            rows = [x[0]]
            for row in x[1:]:
                rows.append(rows[-1] / row)
            return p.stack(rows)

        y, slope = f(a)
        np.testing.assert_allclose(y, quotients(a), rtol=1e-14)
        np.testing.assert_allclose(slope, p.jax.grad(lambda x: p.sum(quotients(x)))(a), rtol=1e-13)


def test_map_computes_each_item_by_itself() -> None:
    """With branches and numbers of steps of its own; derivatives with respect to items and to what they share."""
    x, w = ad.input("x", ("n", 3)), ad.input("w", (3, 3))

    def item(p: Any, while_loop: Any) -> Callable[[Any], Any]:
        def one(x: Any) -> Any:
            y = while_loop(lambda y: p.sum(y * y) < 9.0, lambda y: 1.5 * y + p.sin(w_of[p] @ y), x)
            return {"y": y * x[0], "total": p.sum(y)}

        return one

    p = JaxNames()
    w_of: dict[Any, Any] = {ad: w, p: None}
    found = ad.map(item(ad, ad.while_loop), x)
    value = ad.sum(ad.sin(found["y"])) + ad.sum(found["total"] * found["total"])
    f = ad.compile([x, w], [found["total"], *ad.grad(value, [x, w])])

    def bounded(cond: Any, body: Any, init: Any) -> Any:
        step = lambda y, _: (p.jax.lax.cond(cond(y), body, lambda y: y, y), None)
        return p.jax.lax.scan(step, init, None, length=20)[0]

    def loss(x: Any, w: Any) -> Any:
        w_of[p] = w
        out = p.jax.lax.map(item(p, bounded), x)
        return p.sum(p.sin(out["y"])) + p.sum(out["total"] ** 2)

    for g, e in zip(f(XS, W)[1:], p.jax.grad(loss, argnums=(0, 1))(p.array(XS), p.array(W)), strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-10)
    assert f(XS[:0], W)[0].shape == (0,)


@pytest.mark.parametrize(
    "options", [{"unroll": 0}, {"unroll": 1.5}, {"checkpoint": 0}, {"checkpoint": "all"}, {"unroll": True}]
)
def test_options_that_are_none(options: dict[str, Any]) -> None:
    with pytest.raises(GraphError, match="positive number of steps"):
        ad.scan(lambda h, x: (h * x, h), ad.zeros(3), ad.input("x", ("n", 3)), **options)


def test_carries_are_updated_where_they_are() -> None:
    """An element is computed from elements at its own index alone, also where carries read each other's last value."""
    xs, h, _, c = inputs()
    for step in (
        lambda s, x: ((s[0] * x + s[1], s[1] * 0.5), None),
        lambda s, x: ((s[0] * ad.cos(s[1]) + x, s[1] * ad.sin(s[0])), None),
        lambda s, x: ((s[0] - s[1] * x, s[0] + s[1]), ad.sum(s[0] * x)),
    ):
        last, ys = ad.scan(step, (h, c), xs)
        f = ad.compile([xs, h, c], [*last, *([] if ys is None else [ys])])
        assert "m.copy" not in f.source
        before, kept = (ad.constant(H), ad.constant(C)), list[Any]()
        for x in XS:
            before, y = step(before, x)
            kept.append(y)
        expected = ad.evaluate([*before, *([] if ys is None else [ad.stack(kept)])])
        for found, e in zip(f(XS, H, C), expected, strict=True):
            np.testing.assert_allclose(found, e, rtol=1e-13, atol=1e-13)


def test_small_carries_need_no_workspace() -> None:
    xs, h, w, _ = inputs()
    last, _ = ad.scan(lambda h, x: (ad.tanh(w @ h + x), None), h, xs)
    f = ad.compile([xs, h, w], last)
    assert f.stats.workspace_bytes == 0
    np.testing.assert_allclose(f(XS, H, W), matrix(JaxNames(), XS, H, W, C)[0], rtol=1e-12)


def test_what_only_an_unused_gradient_would_read_is_not_kept() -> None:
    """The derivative by the constant would need the carry of every step."""
    xs, h, _, _ = inputs()
    t = ad.sin(ad.arange(3.0))
    v, _ = ad.scan(lambda v, x: (v * t + x, None), h, xs)
    f = ad.compile([xs, h], ad.grad(ad.sum(v * v), xs))
    assert f.stats.workspace_bytes == 0


def test_a_carried_number_of_a_large_program() -> None:
    """It goes from kernel function to kernel function in memory."""
    xs = ad.input("xs", ("n", 40))

    def step(carry: Any, x: Any) -> Any:
        layers, total = carry
        after = []
        for k in range(24):
            x = ad.sin(0.1 * layers[k] + x + ad.sum(x) * 0.001 * k)
            after.append(x)
        return (after, total + ad.sum(x)), None

    (_, total), _ = ad.scan(step, ([ad.full((40,), 0.1 * k) for k in range(24)], 0.0), xs)
    f = ad.compile([xs], [total, ad.grad(total, xs)])
    assert f.stats.functions > 1
    given = RNG.normal(size=(5, 40))
    found, slope = f(given)
    layers, expected = [np.full(40, 0.1 * k) for k in range(24)], 0.0
    for x in given:
        for k in range(24):
            x = layers[k] = np.sin(0.1 * layers[k] + x + x.sum() * 0.001 * k)
        expected += x.sum()
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    t = RNG.normal(size=given.shape)
    near = [f(given + s * t)[0] for s in (1e-6, -1e-6)]
    np.testing.assert_allclose(np.sum(slope * t), (near[0] - near[1]) / 2e-6, rtol=1e-6)


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("step", ["fibonacci", "swap", "read by a kernel", "both"])
def test_carries_of_one_element(shape: tuple[int, ...], step: str) -> None:
    """As local variables, or in memory where a kernel reads them; either may become what the other was."""
    m = np.full((7, 7), 0.01) + np.eye(7)

    def last(np: Any, x: Any) -> Any:
        return np.reshape(np.linalg.solve(m, np.broadcast_to(np.reshape(x, (1,)), (7,)))[0], shape)

    steps: dict[str, Any] = {
        "fibonacci": lambda np, a, b: (b, a + b),
        "swap": lambda np, a, b: (b, a),
        "read by a kernel": lambda np, a, b: (last(np, b), a),
        "both": lambda np, a, b: (b + last(np, a), last(np, b) - a),
    }
    a, b = ad.input("a", shape), ad.input("b", shape)
    found, _ = ad.scan(lambda carry, _: (steps[step](ad, *carry), None), (a, b), length=5)
    given = np.full(shape, 0.3), np.full(shape, 0.7)
    expected = given
    for _ in range(5):
        expected = steps[step](np, *expected)
    f = ad.compile([a, b], [*found, *ad.grad(ad.sum(found[0] + 2 * found[1]), [a, b])])
    *actual, ga, gb = f(*given)
    for x, y in zip(actual, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-12)
    # Linear in both: the gradient is what the loop makes of each alone.
    for g, start in ((ga, (1.0, 0.0)), (gb, (0.0, 1.0))):
        x, y = f(*(np.full(shape, s) for s in start))[:2]
        np.testing.assert_allclose(g, x + 2 * y, rtol=1e-12)


def test_what_is_made_of_a_loop_can_be_looked_at(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STATICAD_DEBUG", "3")
    x = ad.input("x", ("n",))
    last, _ = ad.scan(lambda h, v: (ad.cond(v > 0, lambda h: 0.5 * h + v, lambda h: h, h), None), 0.0, x)
    f = ad.compile([x], [last, ad.grad(last, x)])
    text = "".join(capfd.readouterr())
    assert "final" in text and f.source in text
