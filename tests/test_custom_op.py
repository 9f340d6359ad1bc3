"""Functions of the user's own as operations: against NumPy, JAX and differences, everywhere a tensor may stand."""

# pyright: basic

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from math import erf, exp, pi, sqrt
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest

import staticad as ad
from staticad.errors import CompileError, CustomOpError, DTypeError, GraphError, ShapeError
from staticad.runtime import settings

native = pytest.mark.skipif(settings.plain(), reason="of compiled code")
ROOT = Path(__file__).parent.parent
RNG = np.random.default_rng(3)
X = RNG.normal(size=(4, 3))


def numpy_cdf(x: Any) -> Any:
    return 0.5 * (1 + np.vectorize(erf)(np.asarray(x) / sqrt(2)))


def density(x: Any) -> Any:
    return ad.exp(-0.5 * x * x) / sqrt(2 * pi)


@ad.custom_op
@numba.njit
def cdf(x: float) -> float:
    """The normal distribution's."""
    return 0.5 * (1 + erf(x / sqrt(2.0)))


cdf.defjvps(lambda t, out, x: t * density(x))


@ad.custom_op
@numba.njit
def bare(x: float) -> float:
    return 2.0 * x + 1.0


@ad.custom_op
@numba.njit
def power(x: float, n: int) -> float:
    out = 1.0
    for _ in range(n):
        out *= x
    return out


power.defvjp(
    lambda x, n: (power(x, n), (x, n)),
    lambda residuals, g: (g * residuals[1] * power(residuals[0], residuals[1] - 1), None),
)


@ad.custom_op(result=lambda x: x)
@numba.njit
def decayed(x: Any, out: Any) -> None:
    total = 0.0
    for i in range(len(x)):
        total = 0.5 * total + x[i]
        out[i] = total


decayed.defvjp(lambda x: (decayed(x), None), lambda _, g: (decayed(g[::-1])[::-1],))


def numpy_decayed(x: Any) -> Any:
    out = np.zeros_like(x)
    for i in range(len(x)):
        out[i] = x[i] + (0.5 * out[i - 1] if i else 0.0)
    return out


@ad.custom_op(result=lambda a, b: ((a.shape[0], b.shape[1]), a.dtype))
@numba.njit
def product(a: Any, b: Any) -> Any:
    out = np.zeros((a.shape[0], b.shape[1]))
    for i in range(a.shape[0]):
        for j in range(b.shape[1]):
            for k in range(a.shape[1]):
                out[i, j] += a[i, k] * b[k, j]
    return out


product.defvjp(lambda a, b: (product(a, b), (a, b)), lambda res, g: (product(g, res[1].T), product(res[0].T, g)))
product.defjvp(
    lambda primals, tangents: (
        product(*primals), product(tangents[0], primals[1]) + product(primals[0], tangents[1]),
    )
)  # fmt: skip


@ad.custom_op
@numba.njit
def root(x: float) -> float:
    if x < 0:
        raise ValueError("there is no root")
    return sqrt(x)


def both(outputs: Any, values: dict[ad.Tensor, Any]) -> Any:
    """What compiled code gives, which evaluation must give, too."""
    found = ad.compile(list(values), outputs)(*values.values())
    expected = ad.evaluate(outputs, values)
    for x, y in zip(found, expected, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x, y, rtol=1e-13, atol=1e-13)
    return found


# values ---------------------------------------------------------------------------------------------------------------


def test_of_elements_in_a_loop_with_others() -> None:
    x, y = ad.input("x", ("m", "n")), ad.input("y", ("n",))
    f = ad.compile([x, y], [ad.sum(cdf(x * y) * 2.0, axis=1), cdf(y) + 1.0])
    first, second = f(X, X[0])
    np.testing.assert_allclose(first, (2 * numpy_cdf(X * X[0])).sum(1), rtol=1e-14)
    np.testing.assert_allclose(second, numpy_cdf(X[0]) + 1, rtol=1e-14)
    assert f.stats.workspace_bytes == 0  # it is no call with an array of its own


def test_dtypes_of_elements() -> None:
    x, k, b = ad.input("x", ("n",), "float32"), ad.input("k", ("n",), "int32"), ad.input("b", ("n",), "bool")
    values = {x: np.array([0.5, 1.5], "float32"), k: np.array([2, 3], "int32"), b: np.array([True, False])}
    chosen = ad.custom_op(numba.njit(lambda b, x, y: x if b else y))
    above = ad.custom_op(numba.njit(lambda x, y: x > y))
    half = ad.custom_op(numba.njit(lambda k: k / 2))
    told = ad.custom_op(lambda x: 3.0 * x, result="float64")
    found = both((power(x, k), power(x, 2), chosen(b, x, 0.25), above(k, x), half(k), told(x), above(2, k)), values)
    assert [out.dtype.name for out in found] == [
        "float32", "float32", "float32", "bool", "float64", "float64", "bool"
    ]  # fmt: skip
    np.testing.assert_allclose(found[0], values[x] ** values[k], rtol=1e-6)
    np.testing.assert_array_equal(found[1], values[x] ** 2)
    np.testing.assert_array_equal(found[2], [0.5, 0.25])
    np.testing.assert_array_equal(found[3], values[k] > values[x])
    np.testing.assert_array_equal(found[4], values[k] / 2)
    np.testing.assert_array_equal(found[5], 3.0 * values[x].astype("float64"))
    np.testing.assert_array_equal(found[6], [False, False])


def test_broadcasting_of_elements() -> None:
    x, y = ad.input("x", ("m", 1)), ad.input("y", (3,))
    hypotenuse = ad.custom_op(lambda x, y: sqrt(x * x + y * y))
    (found,) = both((hypotenuse(x, y),), {x: X[:, :1], y: X[1]})
    np.testing.assert_allclose(found, np.hypot(X[:, :1], X[1]), rtol=1e-14)
    with pytest.raises(ShapeError, match=r"<lambda>.*f64\[2\].*f64\[3\]"):
        hypotenuse(np.zeros(2), np.zeros(3))


def test_many_operands() -> None:
    xs = [ad.input(f"x{k}", ("n",)) for k in range(9)]
    weighted = ad.custom_op(numba.njit(lambda a, b, c, d, e, f, g, h, i: a + 2 * b + 3 * c - d * e * f + g - h / i))
    values = {x: RNG.normal(size=4) for x in xs}
    a, b, c, d, e, f, g, h, i = values.values()
    np.testing.assert_allclose(both((weighted(*xs),), values)[0], a + 2 * b + 3 * c - d * e * f + g - h / i, rtol=1e-13)


def test_of_arrays_returned_and_written() -> None:
    a, b, x = ad.input("a", ("m", "k")), ad.input("b", ("k", "n")), ad.input("x", ("m",))
    A, B = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2))
    found = both((product(a * 2.0, b) + 1.0, decayed(x) * x, product(b.T, a.T)), {a: A, b: B, x: X[:3, 0]})
    np.testing.assert_allclose(found[0], 2 * A @ B + 1, rtol=1e-13)
    np.testing.assert_allclose(found[1], numpy_decayed(X[:3, 0]) * X[:3, 0], rtol=1e-13)
    np.testing.assert_allclose(found[2], (A @ B).T, rtol=1e-13)


@pytest.mark.parametrize("written", [False, True])
def test_several_results_in_a_nest(written: bool) -> None:
    def returned(x: Any, k: Any) -> Any:
        pair = np.empty((2, len(x)))
        pair[0], pair[1] = x, -x
        return x.sum() * k, len(x) + k, pair, x[::-1]

    def filled(x: Any, k: Any, total: Any, at: Any, pair: Any, turned: Any) -> None:
        total[()] = x.sum() * k
        at[()] = len(x) + k
        pair[0], pair[1] = x, -x
        turned[...] = x[::-1]

    def result(x: Any, k: Any) -> Any:
        return {"total": ((), x.dtype), "rest": [((), "int64"), ((2, *x.shape), x.dtype), x]}

    op = ad.custom_op(filled if written else returned, result=result)
    x, k = ad.input("x", ("n",)), ad.input("k", (), "int64")
    values = {x: X[:, 0], k: np.array(3)}
    out = op(x, k)
    total, at, pair, turned = both((out["total"], *out["rest"]), values)
    assert (at.dtype, total.dtype) == (np.int64, np.float64)
    np.testing.assert_allclose(total, 3 * X[:, 0].sum(), rtol=1e-14)
    assert at == 7
    np.testing.assert_array_equal(pair, [X[:, 0], -X[:, 0]])
    np.testing.assert_array_equal(turned, X[::-1, 0])


def test_static_results_and_sizes_of_zero() -> None:
    moments = ad.custom_op(lambda x: np.array([x.sum(), (x * x).sum()]), result=((2,), "float64"))
    x = ad.input("x", ("n",))
    f = ad.compile([x], [moments(x), decayed(x), cdf(x)])
    for size in (0, 1, 5):
        given = RNG.normal(size=size)
        found = f(given)
        np.testing.assert_allclose(found[0], [given.sum(), (given**2).sum()], atol=1e-14)
        np.testing.assert_allclose(found[1], numpy_decayed(given), atol=1e-14)
        np.testing.assert_allclose(found[2], numpy_cdf(given) if size else given, rtol=1e-14)


def test_arrays_and_numbers_are_arguments_too() -> None:
    assert float(ad.evaluate(power(1.5, 2))) == 2.25
    np.testing.assert_allclose(ad.evaluate(decayed(X[0])), numpy_decayed(X[0]), rtol=1e-14)


# loops, branches, lanes -----------------------------------------------------------------------------------------------


def test_in_scans_maps_and_branches() -> None:
    xs, w = ad.input("xs", ("n", 3)), ad.input("w", (3,))

    def step(carry: Any, x: Any) -> Any:
        carry = decayed(carry + x) * ad.cond(ad.sum(x) > 0, cdf, lambda x: 2.0 * cdf(x), x)
        return carry, ad.sum(bare(carry))

    last, sums = ad.scan(step, w, xs)
    rows = ad.map(lambda x: ad.sum(decayed(x)) * cdf(x[0]), xs)
    found = both((last, sums, rows), {xs: X, w: X[0]})
    carry, expected = X[0], []
    for x in X:
        carry = numpy_decayed(carry + x) * numpy_cdf(x) * (1 if x.sum() > 0 else 2)
        expected.append((2 * carry + 1).sum())
    np.testing.assert_allclose(found[0], carry, rtol=1e-12)
    np.testing.assert_allclose(found[1], expected, rtol=1e-12)
    np.testing.assert_allclose(found[2], [numpy_decayed(x).sum() * numpy_cdf(x[0]) for x in X], rtol=1e-12)


def test_in_a_while_loop() -> None:
    x = ad.input("x", ())
    y = ad.while_loop(lambda y: y < 50.0, lambda y: bare(y), x)
    f = ad.compile([x], y)
    assert f(np.array(3.0)) == 63.0


def test_vmap_of_elements_and_of_arrays() -> None:
    xs, b = ad.input("xs", ("n", 3)), ad.input("b", (3, 2))
    B = RNG.normal(size=(3, 2))
    f = ad.vmap(lambda x, b: (cdf(x), decayed(x), product(ad.reshape(x, (1, 3)), b)), in_axes=(0, None))
    found = both(f(xs, b), {xs: X, b: B})
    np.testing.assert_allclose(found[0], numpy_cdf(X), rtol=1e-14)
    np.testing.assert_allclose(found[1], [numpy_decayed(x) for x in X], rtol=1e-14)
    np.testing.assert_allclose(found[2][:, 0], X @ B, rtol=1e-13)
    gradients = ad.vmap(lambda x: ad.func.grad(lambda x: ad.sum(decayed(x) * cdf(x)))(x))(xs)
    (found,) = both((gradients,), {xs: X})
    (alone,) = both((ad.grad(ad.sum(decayed(xs[1]) * cdf(xs[1])), xs),), {xs: X})
    np.testing.assert_allclose(found[1], alone[1], rtol=1e-13)


def test_functions_of_arrays() -> None:
    f = ad.func.value_and_grad(lambda x: ad.sum(cdf(x) ** 2))
    value, gradient = f(X[0])
    np.testing.assert_allclose(value, (numpy_cdf(X[0]) ** 2).sum(), rtol=1e-14)
    slope = np.exp(-0.5 * X[0] ** 2) / sqrt(2 * pi)
    np.testing.assert_allclose(gradient, 2 * numpy_cdf(X[0]) * slope, rtol=1e-13)


def test_in_many_threads() -> None:
    """Enough elements that several threads do it, and several callers at once."""
    x = ad.input("x", ("n",))
    f = ad.compile([x], cdf(x) * 2.0, parallel=True)
    given = RNG.normal(size=2000)
    expected, wrong = 2 * numpy_cdf(given), []

    def call() -> None:
        wrong.extend(k for k in range(20) if not np.allclose(f(given), expected, rtol=1e-14))

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# derivatives ----------------------------------------------------------------------------------------------------------


def jax_functions() -> tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]:
    """JAX, and the functions of the tests in its own operations."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def jax_decayed(x: Any) -> Any:
        return jax.lax.scan(lambda total, x: (0.5 * total + x,) * 2, 0.0, x)[1]

    return jax, jax.scipy.stats.norm.cdf, lambda x: jnp.asarray(jax_decayed(x))


def program(p: Any, cdf: Any, power: Any, decayed: Any, product: Any, x: Any) -> Any:
    y = decayed(cdf(x) * power(x, 3) + p.sin(x))
    z = product(p.reshape(y, (1, 3)), p.stack([x, y], axis=1))
    return p.sum(decayed(z[0] * y[1]) * cdf(y[0])) * p.sum(power(y, 2))


def test_derivatives_of_three_orders_are_jaxs() -> None:
    jax, jax_cdf, jax_decayed = jax_functions()
    jnp = jax.numpy

    def peer(x: Any) -> Any:
        return program(jnp, jax_cdf, lambda x, n: x**n, jax_decayed, jnp.matmul, x)

    x, v = ad.input("x", (3,)), ad.input("v", (3,))
    y = program(ad, cdf, power, decayed, product, x)
    gradient = ad.grad(y, x)
    third = ad.grad(ad.sum(ad.hvp(y, x, v) * v), x)
    forward = ad.jvp(y, x, v)
    found = ad.compile([x, v], [y, gradient, ad.hessian(y, x), third, forward])(X[0], X[1])
    given, along = map(jnp.asarray, X[:2])
    expected = [
        peer(given), jax.grad(peer)(given), jax.hessian(peer)(given),
        jax.grad(lambda x: along @ jax.hessian(peer)(x) @ along)(given),
        jax.jvp(peer, (given,), (along,))[1],
    ]  # fmt: skip
    for a, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-11)


def test_derivatives_through_loops_are_jaxs() -> None:
    jax, jax_cdf, jax_decayed = jax_functions()

    def loop(scan: Any, total: Any, cdf: Any, decayed: Any, x: Any, xs: Any) -> Any:
        last, ys = scan(lambda c, x: ((c := decayed(c * cdf(x)) + x), cdf(c)), x, xs)
        return total(last * last) + total(ys)

    x, xs = ad.input("x", (3,)), ad.input("xs", ("n", 3))
    y = loop(ad.scan, ad.sum, cdf, decayed, x, xs)
    gx, gxs = ad.grad(y, [x, xs])
    found = ad.compile([x, xs], [gx, gxs, ad.grad(ad.sum(gx * gx), xs)])(X[0], X)

    def peer(x: Any, xs: Any) -> Any:
        return loop(jax.lax.scan, jax.numpy.sum, jax_cdf, jax_decayed, x, xs)

    expected = jax.grad(peer, (0, 1))(X[0], X)
    twice = jax.grad(lambda x, xs: (jax.grad(peer)(x, xs) ** 2).sum(), 1)(X[0], X)
    for a, e in zip(found, [*expected, twice], strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("f", [cdf, decayed, lambda x: power(x, 3), lambda x: product(ad.reshape(x, (1, 3)), B32)])
def test_derivatives_are_the_differences(f: Any) -> None:
    ad.testing.gradcheck(lambda x: f(x), (X[2],))
    ad.testing.gradgradcheck(lambda x: f(x), (X[2],))


B32 = RNG.normal(size=(3, 2))


def test_a_rule_serves_the_other_mode() -> None:
    """Reverse mode from defjvp, forward mode from defvjp."""
    x, t = ad.input("x", (3,)), ad.input("t", (3,))
    forward, gradient = both((ad.jvp(decayed(x), x, t), ad.grad(ad.sum(cdf(x) * t), x)), {x: X[0], t: X[1]})
    np.testing.assert_allclose(forward, numpy_decayed(X[1]), rtol=1e-13)
    np.testing.assert_allclose(gradient, X[1] * np.exp(-0.5 * X[0] ** 2) / sqrt(2 * pi), rtol=1e-13)


def test_backward_and_parameters() -> None:
    w = ad.parameter(X[0].copy(), name="w")
    x = ad.input("x", (3,))
    f = ad.compile([x], ad.sum(cdf(w * x)))
    f(X[1])
    f.backward()
    np.testing.assert_allclose(w.grad, X[1] * np.exp(-0.5 * (X[0] * X[1]) ** 2) / sqrt(2 * pi), rtol=1e-13)


def test_no_derivative_is_a_clear_error() -> None:
    x, k = ad.input("x", ("n",)), ad.input("k", ("n",), "int64")
    for ask in (
        lambda: ad.grad(ad.sum(bare(x)), x),
        lambda: ad.jvp(bare(x), x, x),
        lambda: ad.grad(ad.sum(ad.map(bare, x)), x),
        lambda: ad.vmap(lambda x: ad.func.grad(bare)(x))(x),
    ):
        with pytest.raises(GraphError, match=r"custom_op: bare has no derivative.*f64.*defvjp.*stop_gradient\(bare"):
            ask()
    cut = ad.sum(ad.stop_gradient(bare(x)) * x)
    np.testing.assert_array_equal(both((ad.grad(cut, x),), {x: X[0]})[0], 2 * X[0] + 1)
    steps = ad.custom_op(numba.njit(lambda x, k: int(x) + k))
    assert steps(x, k).requires_grad is False
    np.testing.assert_array_equal(both((ad.grad(ad.sum(steps(x, k) * x), x),), {x: X[0], k: np.arange(3)})[0],
                                  np.trunc(X[0]) + np.arange(3))  # fmt: skip


def test_a_rule_made_of_itself_is_a_clear_error() -> None:
    twice = ad.custom_op(lambda x: 2.0 * x)
    twice.defjvp(lambda primals, tangents: (twice(*primals), twice(*tangents)))
    x = ad.input("x", (3,))
    np.testing.assert_array_equal(both((ad.jvp(twice(x), x, x),), {x: X[0]})[0], 2 * X[0])
    with pytest.raises(GraphError, match="rule that is <lambda> of the tangents"):
        ad.grad(ad.sum(twice(x)), x)
    twice.defvjp(lambda x: (twice(x), None), lambda _, g: (twice(g),))
    np.testing.assert_array_equal(both((ad.grad(ad.sum(twice(x)), x),), {x: X[0]})[0], [2.0, 2.0, 2.0])


# errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parallel", [False, True])
def test_exceptions_arrive(parallel: bool) -> None:
    x = ad.input("x", ("n",))
    f = ad.compile([x], [root(x) * 2.0, ad.sum(x)], name="roots", parallel=parallel)
    np.testing.assert_array_equal(f(np.array([4.0, 9.0]))[0], [4.0, 6.0])
    for _ in range(3):
        with pytest.raises(CustomOpError, match="root raised ValueError: there is no root") as caught:
            f(np.where(np.arange(5000) == 4321, -1.0, 1.0))
        assert isinstance(caught.value.__cause__, ValueError)
        assert isinstance(caught.value, RuntimeError)
    np.testing.assert_array_equal(f(np.array([4.0, 9.0]))[0], [4.0, 6.0])
    with pytest.raises(CustomOpError, match="there is no root"):
        ad.evaluate(root(x), {x: [-1.0]})


def test_exceptions_of_functions_of_arrays() -> None:
    def fill_inverse(x: Any, out: Any) -> None:
        if x.sum() == 0:
            raise ZeroDivisionError("there is no inverse")
        out[:] = 1 / x.sum()

    strict = ad.custom_op(fill_inverse, result=lambda x: x)
    short = ad.custom_op(lambda x: x[1:], result=lambda x: x)
    x = ad.input("x", ("n", 2))
    y = ad.scan(lambda c, x: (c + strict(x), None), np.zeros(2), x)[0]
    f = ad.compile([x], y)
    np.testing.assert_allclose(f(np.ones((3, 2))), [1.5, 1.5])
    with pytest.raises(CustomOpError, match="fill_inverse raised ZeroDivisionError: there is no inverse"):
        f(np.zeros((3, 2)))
    with pytest.raises(CustomOpError, match="another shape"):
        ad.compile([x], short(x))(X[:, :2])


def test_exceptions_in_branches_that_are_not_taken() -> None:
    x = ad.input("x", ())
    y = ad.cond(x > 0, root, lambda x: -x, x)
    f = ad.compile([x], y)
    assert (f(np.array(4.0)), f(np.array(-3.0))) == (2.0, 3.0)
    # Neither does a loop without steps.
    n = ad.input("n", (), "int64")
    z = ad.scan(lambda c, _: (c + root(x + c), None), 0.0, length=n)[0]
    g = ad.compile([x, n], z)
    assert (g(np.array(-4.0), np.array(0)), g(np.array(4.0), np.array(1))) == (0.0, 2.0)


def test_memory_of_loops_is_given_back_where_they_are_left() -> None:
    """A loop of a length known at run time, whose tape is open when the function raises."""
    x = ad.input("x", ())
    op = ad.custom_op(root.function)
    op.defjvps(lambda t, out, x: 0.5 * t / out)
    y = ad.while_loop(lambda y: y < 1e6, lambda y: 3.0 * y * op(y), x)
    f = ad.compile([x], [y, ad.grad(y, x)])
    assert f(np.array(2.0))[0] > 1e6
    for _ in range(100):
        with pytest.raises(CustomOpError):
            f(np.array(-2.0))


@native
def test_what_numba_cannot_compile_is_told_where_it_is_used() -> None:
    x = ad.input("x", (3,))
    broken = ad.custom_op(lambda x: x + "text")
    with pytest.raises(CompileError, match="custom_op: Numba cannot compile <lambda>"):
        broken(x)
    with pytest.raises(DTypeError, match=r"returns array.*result="):
        ad.custom_op(lambda x: np.zeros(3) * x)(x)
    with pytest.raises(DTypeError, match="not an array with 1 axes"):
        ad.custom_op(lambda x: x.sum(), result=lambda x: x)(x)
    with pytest.raises(DTypeError, match="not of dtype int64"):
        ad.custom_op(lambda x: x * 1.5, result=((3,), "int64"))(x)
    with pytest.raises(DTypeError, match="not a tuple of 2 results"):
        ad.custom_op(lambda x: x, result=lambda x: (x, x))(x)

    def overwriting(x: Any, out: Any) -> None:
        x[0] = 1.0

    with pytest.raises(CompileError, match="readonly"):
        ad.custom_op(overwriting, result=lambda x: x)(x)


def test_misuse() -> None:
    with pytest.raises(GraphError, match="bare was given no arguments"):
        bare()
    with pytest.raises(GraphError, match="tells no types"):
        ad.custom_op(lambda x: x, result=3)(X)
    with pytest.raises(ShapeError, match="dimension"):
        ad.custom_op(lambda x: x, result=((1.5,), "float64"))(X)
    with pytest.raises(DTypeError, match="complex128"):
        ad.custom_op(lambda x: x, result="complex128")(X)


@native
def test_functions_with_given_signatures() -> None:
    f = ad.custom_op(numba.njit("f8[::1](f8[::1])")(lambda x: x * 2), result=lambda x: x)
    g = ad.custom_op(numba.njit("f8(f8)")(lambda x: x * 2))
    x = ad.input("x", (3,))
    for found in ad.compile([x], [f(x), g(x)])(X[0]):
        np.testing.assert_array_equal(found, 2 * X[0])


# njit, the disk cache, processes --------------------------------------------------------------------------------------


@native
def test_from_njit_code() -> None:
    x = ad.input("x", ("n",))
    f = ad.compile([x], [cdf(x), decayed(x), root(x)], name="three").njit

    @numba.njit
    def call(x: Any) -> Any:
        outs = np.empty((3, x.size))
        f(x, outs[0], outs[1], outs[2])
        return outs

    given = np.abs(X[0])
    np.testing.assert_allclose(call(given), [numpy_cdf(given), numpy_decayed(given), np.sqrt(given)], rtol=1e-14)
    with pytest.raises(CustomOpError, match="three: custom_op: root raised ValueError: there is no root"):
        call(-given)


PROGRAM = """
    import sys, numba, numpy as np, staticad as ad

    factor, other = float(sys.argv[1]), len(sys.argv) > 2
    def make(factor):
        @ad.custom_op
        @numba.njit
        def scaled(x):
            return factor * x
        return scaled
    if other:  # another function, of the same name and types, comes first
        make(-1.0)
    op, x = make(factor), ad.input("x", ("n",))
    whole = ad.custom_op(numba.njit(lambda x: x * factor), result=lambda x: x)
    f = ad.compile([x], [op(x) + 1.0, whole(x), ad.sum(x * x)])
    found = f(np.arange(3.0))
    assert (found[0] == factor * np.arange(3.0) + 1).all(), found
    assert (found[1] == factor * np.arange(3.0)).all(), found
    print(f.stats.cache_hit)
"""


@native
def test_the_disk_cache_holds_no_function(tmp_path: Path) -> None:
    """The program of one process is found by another, where its symbols mean other functions."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["STATICAD_CACHE_DIR"] = str(tmp_path / "cache")

    def run(*arguments: str) -> str:
        command = [sys.executable, "-c", textwrap.dedent(PROGRAM), *arguments]
        return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()

    assert run("2.0") == "False"
    assert run("3.0") == "True"
    assert run("5.0", "other") == "True"


def test_two_functions_of_one_name() -> None:
    x = ad.input("x", ("n",))
    ops = [ad.custom_op(lambda x, k=k: x * k) for k in (2.0, 3.0)]
    for _ in range(2):
        found = ad.compile([x], [op(x) for op in ops])(X[0])
        np.testing.assert_array_equal(found, [2 * X[0], 3 * X[0]])


def test_one_call_for_value_and_derivative() -> None:
    """A rule that calls the operation again shares the call of the value."""
    x = ad.input("x", (3,))
    f = ad.compile([x], [product(ad.reshape(x, (3, 1)), ad.reshape(x, (1, 3))), ad.grad(ad.sum(decayed(x) ** 2), x)])
    assert f.source.count("m.foreign(") == 3  # decayed forward and backward, product


def test_a_value_is_what_python_gives() -> None:
    """Elements of functions with branches, loops and calls of others."""

    @numba.njit
    def inner(x: float, k: int) -> float:
        return exp(-x * x) + k

    @ad.custom_op
    @numba.njit
    def outer(x: float, k: int) -> float:
        total = 0.0
        for j in range(k):
            total += inner(x, j) if x > 0 else -inner(x, j)
        return total

    x, k = ad.input("x", ("n",)), ad.input("k", ("n",), "int64")
    counts = np.array([0, 2, 5])
    (found,) = both((outer(x, k),), {x: X[0], k: counts})
    sums = [np.sign(x) * sum(exp(-x * x) + j for j in range(n)) for x, n in zip(X[0], counts, strict=True)]
    np.testing.assert_allclose(found, sums, rtol=1e-13)
