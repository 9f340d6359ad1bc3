"""Roots and fixed points: against closed forms, SciPy, and the implicit function theorem written by hand in JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.optimize as so

import staticad as ad
from staticad.errors import DTypeError, GraphError, ShapeError, StepLimit

RNG = np.random.default_rng(5)
N = 4
W, B = RNG.normal(size=(N, N)) / 4, RNG.normal(size=N)


@pytest.fixture
def jax() -> Any:
    found = pytest.importorskip("jax")
    with found.enable_x64(True):
        yield found


def residual(p: Any, x: Any, w: Any, b: Any) -> Any:
    return x + p.tanh(w @ x) - b + x * x * x / 10


def contraction(p: Any, x: Any, w: Any, b: Any) -> Any:
    return p.tanh(w @ x) + b


def in_jax(jax: Any, equation: Callable[..., Any]) -> Callable[..., Any]:
    """The x with ``equation(x, w, b) = 0``: Newton steps, and the theorem as a rule, of any order."""
    jnp = jax.numpy

    @jax.custom_jvp
    def solved(w: Any, b: Any) -> Any:
        x = jnp.zeros(N)
        for _ in range(30):
            x = x - jnp.linalg.solve(jax.jacobian(equation)(x, w, b), equation(x, w, b))
        return x

    @solved.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        x = solved(*primals)
        _, moved = jax.jvp(lambda w, b: equation(x, w, b), primals, tangents)
        return x, -jnp.linalg.solve(jax.jacobian(equation)(x, *primals), moved)

    return solved


def solvers(jax: Any) -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    jnp = jax.numpy
    return {
        "root": (
            lambda w, b: ad.implicit.root(lambda x: residual(ad, x, w, b), np.zeros(N)),
            in_jax(jax, lambda x, w, b: residual(jnp, x, w, b)),
        ),
        "fixed_point": (
            lambda w, b: ad.implicit.fixed_point(lambda x: contraction(ad, x, w, b), np.zeros(N)),
            in_jax(jax, lambda x, w, b: x - contraction(jnp, x, w, b)),
        ),
    }


@pytest.mark.parametrize("name", ["root", "fixed_point"])
def test_two_orders_of_both_modes_are_jaxs(jax: Any, name: str) -> None:
    ours, theirs = solvers(jax)[name]
    w, b = ad.input("w", (N, N)), ad.input("b", (N,))
    v = RNG.normal(size=N)
    x = ours(w, b)
    loss = ad.sum(ad.sin(x) * v)
    gw, gb = ad.grad(loss, [w, b])
    second = ad.grad(ad.sum(gb * v) + ad.sum(gw * gw), [w, b])
    forward = ad.jvp(x, b, v)
    again = ad.jvp(gb, b, v)
    f = ad.compile([w, b], [x, gw, gb, *second, forward, again, ad.jacobian(x, b)])

    def total(w: Any, b: Any) -> Any:
        return jax.numpy.sum(jax.numpy.sin(theirs(w, b)) * v)

    grad = jax.grad(total, (0, 1))

    def of_gradients(w: Any, b: Any) -> Any:
        gw, gb = grad(w, b)
        return jax.numpy.sum(gb * v) + jax.numpy.sum(gw * gw)

    expected = [
        theirs(W, B),
        *grad(W, B),
        *jax.grad(of_gradients, (0, 1))(W, B),
        jax.jvp(lambda b: theirs(W, b), (B,), (v,))[1],
        jax.jvp(lambda b: grad(W, b)[1], (B,), (v,))[1],
        jax.jacfwd(lambda b: theirs(W, b))(B),
    ]
    for actual, truth in zip(f(W, B), expected, strict=True):
        np.testing.assert_allclose(actual, truth, rtol=1e-9, atol=1e-11)


def test_roots_of_numbers_have_the_derivatives_of_the_power() -> None:
    a = ad.input("a", ())
    x = ad.implicit.root(lambda x: x**3 - a, 1.0)
    found = [x]
    for _ in range(3):
        found.append(ad.grad(found[-1], a))
    at = np.array(5.0)
    expected = [5 ** (1 / 3), 5 ** (-2 / 3) / 3, -2 / 9 * 5 ** (-5 / 3), 10 / 27 * 5 ** (-8 / 3)]
    np.testing.assert_allclose(ad.compile([a], found)(at), expected, rtol=1e-13)


def test_a_fixed_point_of_single_precision() -> None:
    a = ad.input("a", (3,), dtype="float32")
    x = ad.implicit.fixed_point(lambda x: 0.5 * ad.cos(a * x), ad.zeros(3, dtype="float32"))
    f = ad.compile([a], [x, ad.grad(ad.sum(x), a)])
    at = np.array([0.2, 0.7, 1.3], "float32")
    value, slope = f(at)
    assert value.dtype == slope.dtype == "float32"
    exact = np.array([so.brentq(lambda x, a=a: x - 0.5 * np.cos(a * x), 0, 1) for a in at.astype("float64")])
    s = 0.5 * np.sin(at * exact)
    np.testing.assert_allclose(value, exact, rtol=1e-5)
    np.testing.assert_allclose(slope, -s * exact / (1 + s * at), rtol=2e-5)


def test_nests_operands_and_sizes_known_later() -> None:
    """An equilibrium of a matrix and a vector, whose sizes are symbolic; parameters as operands and from outside."""
    c, d = ad.input("c", ("n", 2)), ad.input("d", ("m",))

    def equations(x: Any, c: Any) -> Any:
        return {"u": x["u"] * (1 + x["u"] ** 2) - c, "v": (x["v"][0] - ad.sum(x["u"]) * d,)}

    x = ad.implicit.root(equations, {"u": ad.zeros_like(c), "v": (ad.zeros_like(d),)}, c)
    f = ad.compile([c, d], [x["u"], x["v"][0], *ad.grad(ad.sum(x["v"][0]), [c, d])])
    c0, d0 = RNG.normal(size=(3, 2)), RNG.normal(size=2)
    u, v, gc, gd = f(c0, d0)
    np.testing.assert_allclose(u * (1 + u**2), c0, rtol=1e-12)
    np.testing.assert_allclose(v, u.sum() * d0, rtol=1e-12)
    np.testing.assert_allclose(gc, d0.sum() / (1 + 3 * u**2), rtol=1e-12)
    np.testing.assert_allclose(gd, np.full(2, u.sum()), rtol=1e-12)


def test_in_a_loop_and_in_lanes() -> None:
    """Backward Euler: a root in every step; and of many problems at once."""
    k, y0 = ad.input("k", ()), ad.input("y0", ())

    def step(y: Any, _: Any) -> Any:
        after = ad.implicit.root(lambda z: z - y + 0.1 * k * z, y)
        return after, after

    last, _ = ad.scan(step, y0, length=8)
    f = ad.compile([k, y0], [last, *ad.grad(last, [k, y0])])
    q = 1 / (1 + 0.1 * 1.7)
    expected = [2 * q**8, -2 * 8 * q**9 * 0.1, q**8]
    np.testing.assert_allclose(f(np.array(1.7), np.array(2.0)), expected, rtol=1e-12)

    a = ad.input("a", ("n",))
    roots = ad.vmap(lambda a: ad.implicit.root(lambda x: x * x - a, 1.0))(a)
    golden = ad.vmap(lambda a: ad.implicit.fixed_point(lambda x: a / (1 + x), 1.0))(a)
    g = ad.compile([a], [roots, golden, *(ad.grad(ad.sum(y), a) for y in (roots, golden))])
    at = np.array([1.0, 2.0, 5.0])
    root = np.sqrt(1 + 4 * at)
    for actual, truth in zip(g(at), [np.sqrt(at), (root - 1) / 2, 0.5 / np.sqrt(at), 1 / root], strict=True):
        np.testing.assert_allclose(actual, truth, rtol=1e-12)


def test_what_was_not_found_is_an_error() -> None:
    a = ad.input("a", ())
    f = ad.compile([a], ad.implicit.root(lambda x: x * x + a, 1.0, max_steps=20))
    np.testing.assert_allclose(f(np.array(-4.0)), 2.0, rtol=1e-14)
    for without in (1.0, np.nan):
        with pytest.raises(StepLimit, match="20 steps"):
            f(np.array(without))
    f = ad.compile([a], ad.implicit.fixed_point(lambda x: a * x + 1, 0.0, max_steps=100))
    np.testing.assert_allclose(f(np.array(0.5)), 2.0, rtol=1e-12)
    with pytest.raises(StepLimit, match="100 steps"):
        f(np.array(1.5))


def test_it_does_not_depend_on_where_it_began() -> None:
    a, x0 = ad.input("a", ()), ad.input("x0", ())
    x = ad.implicit.root(lambda x: x * x - a, x0)
    f = ad.compile([a, x0], [x, *ad.grad(x, [a, x0])])
    np.testing.assert_allclose(f(np.array(9.0), np.array(-1.0)), [-3.0, -1 / 6, 0.0], rtol=1e-14)


def test_a_small_cotangent_is_as_exact_as_a_large_one() -> None:
    a, g = ad.input("a", ()), ad.input("g", ())
    x = ad.implicit.fixed_point(lambda x: 0.5 * x + a, 0.0)
    f = ad.compile([a, g], ad.grad(x, a, g))
    for size in (1e-200, 0.0, 1.0, 1e200):
        np.testing.assert_allclose(f(np.array(1.0), np.array(size)), 2 * size, rtol=1e-12)


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda x: ad.implicit.root(lambda y: y, ad.argmax(x)), DTypeError, "floating"),
        (lambda x: ad.implicit.root(lambda y: y, []), DTypeError, "nothing"),
        (lambda x: ad.implicit.root(lambda y: ad.sum(y), x), ShapeError, "what f returns"),
        (lambda x: ad.implicit.fixed_point(lambda y: (y, y), x), ShapeError, "tuple"),
        (lambda x: ad.implicit.fixed_point(lambda y: ad.astype(y, "float32"), x), DTypeError, "astype"),
        (lambda x: ad.implicit.fixed_point(lambda y: y, x, tol=-1.0), GraphError, "tol"),
        (lambda x: ad.implicit.fixed_point(lambda y: y, x, tol=float("nan")), GraphError, "tol"),
    ],
)
def test_errors_tell_what_is_wrong(build: Callable[[Any], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        build(ad.input("x", (3,)))
