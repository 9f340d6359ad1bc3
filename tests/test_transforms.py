"""Jacobians, Hessians, lanes: against JAX on programs with loops, products, indexing; and how they are computed."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import staticad as ad
from staticad.errors import AxisError, DTypeError, GraphError, ShapeError
from staticad.nests import leaves

RNG = np.random.default_rng(5)
X, W, V, XS = RNG.normal(size=3), RNG.normal(size=(4, 3)), RNG.normal(size=(3, 3)), RNG.normal(size=(5, 3))
AT = np.array([2, 0, 0, -1])


def elementwise(p: Any, x: Any, w: Any, v: Any) -> Any:
    return p.tanh(x) * p.exp(x[::-1]) / (1.0 + x * x)


def layers(p: Any, x: Any, w: Any, v: Any) -> Any:
    return v @ p.tanh(w.T @ p.sin(w @ x))


def normalised(p: Any, x: Any, w: Any, v: Any) -> Any:
    e = p.exp(w @ x - p.max(w @ x))
    return {"p": e / p.sum(e), "log": p.log(p.sum(p.exp(v * x), axis=1))}


def indexed(p: Any, x: Any, w: Any, v: Any) -> Any:
    return x[AT] * w[:, 1], p.where(v > 0, v, 0.1 * v)[1:, ::-1] * x[:2, None]


def shaped(p: Any, x: Any, w: Any, v: Any) -> Any:
    m = p.reshape(p.concatenate([w, v[:1] * x, p.zeros((1, 3))]), (3, 6))
    return m[:, :3] @ v.T + p.cumsum(m.T[:3], axis=0), p.prod(v[:2] + 2.0)


def quadratic(p: Any, x: Any, w: Any, v: Any) -> Any:
    return p.sum((w @ v @ x) ** 3), x @ v @ x


def steps(p: Any, x: Any, w: Any, v: Any) -> Any:
    return p.scan(lambda h, row: (p.tanh(v @ h + row), p.sum(h * row)), x, w)


def steps_of_steps(p: Any, x: Any, w: Any, v: Any) -> Any:
    def outer(h: Any, row: Any) -> Any:
        g, sums = p.scan(lambda g, a: (p.sin(g * a + row), g[0]), h, v, reverse=True)
        return g * x, p.sum(sums)

    return p.scan(outer, x, w)


PROGRAMS: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (elementwise, layers, normalised, indexed, shaped, quadratic, steps, steps_of_steps)
}


class Names:
    """The functions that programs use, where they are called differently."""

    def __init__(self, module: Any, control: Any):
        self.module = module
        self.scan, self.cond, self.while_loop = control.scan, control.cond, control.while_loop
        whole = sys.modules[module.__name__.removesuffix(".numpy")]
        self.custom_vjp, self.custom_jvp, self.checkpoint = whole.custom_vjp, whole.custom_jvp, whole.checkpoint

    def concatenate(self, parts: Any) -> Any:
        return (self.module.concat if self.module is ad else self.module.concatenate)(parts)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


OURS = Names(ad, ad)


@pytest.fixture(scope="module")
def jax() -> Any:
    found = pytest.importorskip("jax")
    found.config.update("jax_enable_x64", True)
    return found


def theirs(jax: Any) -> Names:
    return Names(jax.numpy, jax.lax)


def given(dtype: str = "float64") -> list[ad.Tensor]:
    return [ad.input(name, a.shape, dtype) for name, a in (("x", X), ("w", W), ("v", V))]


def in_order(nest: Any) -> Any:
    """The nest with its dicts in the order of their keys, in which JAX has them."""
    if isinstance(nest, dict):
        return {k: in_order(nest[k]) for k in sorted(nest)}
    return [in_order(x) for x in nest] if isinstance(nest, (list, tuple)) else nest


def agree(found: Any, expected: Any, rtol: float = 1e-10) -> None:
    flat, other = list(leaves(in_order(found))), list(leaves(in_order(expected)))
    assert len(flat) == len(other)
    for f, e in zip(flat, other, strict=True):
        e = np.asarray(e)
        assert (f.dtype, f.shape) == (e.dtype, e.shape)
        np.testing.assert_allclose(f, e, rtol=rtol, atol=rtol * max(1.0, float(np.max(np.abs(e), initial=0.0))))


@pytest.mark.parametrize(("mode", "dtype"), [("auto", "float32"), ("forward", "float64"), ("reverse", "float64")])
@pytest.mark.parametrize("name", PROGRAMS)
def test_jacobians_are_those_of_jax(jax: Any, name: str, mode: str, dtype: str) -> None:
    inputs, arrays = given(dtype), [a.astype(dtype) for a in (X, W, V)]
    y = PROGRAMS[name](OURS, *inputs)
    found = ad.compile(inputs, [y, ad.jacobian(y, inputs, mode)])(*arrays)
    f = lambda *a: PROGRAMS[name](theirs(jax), *a)
    expected = jax.jit(lambda *a: [f(*a), jax.jacrev(f, argnums=(0, 1, 2))(*a)])(*arrays)
    agree(found, expected, 1e-10 if dtype == "float64" else 2e-4)


def newton(p: Any, x: Any, w: Any, v: Any) -> Any:
    """Roots, found in as many steps as each takes."""
    f = lambda h: h * h * h + x * x * h - 1.0 - w[0] * 0.1
    slope = lambda h: 3.0 * h * h + x * x
    return p.while_loop(lambda h: p.sum(f(h) ** 2) > 1e-18, lambda h: h - f(h) / slope(h), 1.0 + 0.0 * x)


def choice(p: Any, x: Any, w: Any, v: Any) -> Any:
    return p.cond(x[0] > 0, lambda x, w: (w @ x, x), lambda x, w: (p.sin(w) @ x, 2.0 * x), x, w)


def shared_choice(p: Any, x: Any, w: Any, v: Any) -> Any:
    """One branch for all lanes of x, and a choice for each where w has them."""
    return p.cond(w[0, 0] > 0.5, lambda x: p.sin(x), lambda x: x * x, v @ x)


def walks(p: Any, x: Any, w: Any, v: Any) -> Any:
    """Loops that end one by one, inside of steps, around a choice."""

    def step(h: Any, row: Any) -> Any:
        h = p.while_loop(lambda h: p.sum(h * h) > 0.5, lambda h: h * 0.7 + 0.01 * p.sin(row), h + row)
        return p.cond(h[0] > x[0], lambda h: h * row, lambda h: p.cos(h), h), p.sum(h)

    return p.scan(step, x, w)


CONTROL = {f.__name__: f for f in (newton, choice, shared_choice, walks)}


@pytest.mark.parametrize("name", CONTROL)
def test_lanes_of_loops_and_choices_are_those_of_jax(jax: Any, name: str) -> None:
    """Each lane ends when it does and takes its branch. JAX has forward derivatives of such loops; here are both."""
    f, p = CONTROL[name], theirs(jax)
    x, w, v = ad.input("x", ("n", 3)), ad.input("w", ("n", 4, 3)), ad.input("v", V.shape)
    one, each = (0, None, None), (0, 0, None)
    ours, other = lambda *a: f(OURS, *a), lambda *a: f(p, *a)
    many = ad.vmap(ours, one)(x, w[0], v)
    outputs = [
        many,
        ad.vmap(ours, each)(x, w, v),
        ad.vmap(lambda *a: ad.jacobian(ours(*a), a[0], "forward"), each)(x, w, v),
        ad.vmap(lambda *a: ad.jacobian(ours(*a), a[0], "reverse"), each)(x, w, v),
        ad.jacobian(many, [w, v], "forward"),
        ad.jacobian(many, [w, v], "reverse"),
    ]
    ws = RNG.normal(size=(5, 4, 3))
    slopes = jax.vmap(jax.jacfwd(other), each)(XS, ws, V)
    whole = jax.jacfwd(lambda w, v: jax.vmap(other, one)(XS, w[0], v), argnums=(0, 1))(ws, V)
    expected = [jax.vmap(other, one)(XS, ws[0], V), jax.vmap(other, each)(XS, ws, V), slopes, slopes, whole, whole]
    agree(ad.compile([x, w, v], outputs)(XS, ws, V), expected, 1e-9)


@pytest.mark.parametrize("name", PROGRAMS)
def test_hessians_are_those_of_jax(jax: Any, name: str) -> None:
    inputs, arrays = given(), [X, W, V]
    x, w, _ = inputs
    y = PROGRAMS[name](OURS, *inputs)
    found = ad.compile(inputs, ad.hessian(y, {"x": x, "w": w}))(*arrays)

    def f(xw: Any) -> Any:
        return PROGRAMS[name](theirs(jax), xw["x"], xw["w"], V)

    agree(found, jax.jit(jax.hessian(f))({"x": X, "w": W}))


@pytest.mark.parametrize("name", ["elementwise", "layers", "steps"])
def test_third_derivatives_are_those_of_jax(jax: Any, name: str) -> None:
    inputs, arrays = given(), [X, W, V]
    y = ad.sum(next(leaves(PROGRAMS[name](OURS, *inputs))))
    found = ad.compile(inputs, ad.jacobian(ad.hessian(y, inputs[0]), inputs[0]))(*arrays)
    p = theirs(jax)
    f = lambda x: p.sum(next(leaves(PROGRAMS[name](p, x, W, V))))
    agree(found, jax.jit(jax.jacfwd(jax.hessian(f)))(X), 1e-8)


@pytest.mark.parametrize("name", PROGRAMS)
def test_vmap_is_that_of_jax(jax: Any, name: str) -> None:
    """Of values and of gradients, over some arguments and over all, along any axis, by any number of values."""
    many_x, many_w, many_v = RNG.normal(size=(6, 3)), RNG.normal(size=(4, 6, 3)), RNG.normal(size=(3, 3, 6))
    x, w, v = (ad.input(*a) for a in (("x", ("n", 3)), ("w", (4, "n", 3)), ("v", (3, 3, "n"))))
    one_w, one_v = ad.input("one_w", W.shape), ad.input("one_v", V.shape)
    f, p = PROGRAMS[name], theirs(jax)

    def both(p: Any, grad: Callable[..., Any]) -> Callable[..., Any]:
        def loss(x: Any, w: Any, v: Any) -> Any:
            return sum((p.sum(p.sin(y)) for y in leaves(f(p, x, w, v))), start=0.0)

        return lambda x, w, v: (f(p, x, w, v), grad(loss, x, w, v))

    ours = both(OURS, lambda loss, *a: ad.grad(loss(*a), a))
    other = both(p, lambda loss, *a: jax.grad(loss, argnums=(0, 1, 2))(*a))
    outputs = [
        ad.vmap(ours, in_axes=(0, 1, -1))(x, w, v),
        ad.vmap(ours, in_axes=(0, None, None))(x, one_w, one_v),
        ad.vmap(ours, in_axes=(None, 1, None))(x[0], w, one_v),
    ]
    arrays = [many_x, many_w, many_v, W, V]
    found = ad.compile([x, w, v, one_w, one_v], outputs)(*arrays)
    expected = [
        jax.jit(jax.vmap(other, in_axes=(0, 1, -1)))(many_x, many_w, many_v),
        jax.jit(jax.vmap(other, in_axes=(0, None, None)))(many_x, W, V),
        jax.jit(jax.vmap(other, in_axes=(None, 1, None)))(many_x[0], many_w, V),
    ]
    agree(found, expected, 1e-9)


VECTORS: list[Callable[..., Any]] = [
    lambda p, u, v, a, b: p.sin(u) * v,
    lambda p, u, v, a, b: p.tanh(u + v),
    lambda p, u, v, a, b: a @ p.cos(u),
    lambda p, u, v, a, b: p.exp(-u * u) @ a,
    lambda p, u, v, a, b: p.sum(a * b, axis=1),
    lambda p, u, v, a, b: p.max(a, axis=0) * u,
    lambda p, u, v, a, b: p.cumsum(u, axis=0) * 0.5,
    lambda p, u, v, a, b: u[::-1] / (1.5 + p.sin(v)),
    lambda p, u, v, a, b: v[AT[:3]] + u,
    lambda p, u, v, a, b: p.where(u > v, p.sqrt(1.0 + u * u), v),
    lambda p, u, v, a, b: p.scan(lambda h, row: (p.sin(h * row) + v, None), u, a)[0],
]
MATRICES: list[Callable[..., Any]] = [
    lambda p, u, v, a, b: p.tanh(a @ b),
    lambda p, u, v, a, b: a * u + b,
    lambda p, u, v, a, b: u[:, None] * v,
    lambda p, u, v, a, b: p.cumsum(a, axis=1) * 0.3,
    lambda p, u, v, a, b: a[::-1].T * p.sin(b),
    lambda p, u, v, a, b: p.reshape(p.reshape(p.concatenate([a[:1], b[1:]]), (9,))[::-1], (3, 3)),
    lambda p, u, v, a, b: p.scan(lambda h, row: (h * 0.5 + row, p.tanh(h * u)), v, a)[1],
]


def with_rules(p: Any, x: Any, m: Any) -> Any:
    """Calls with derivatives of their own: doubled backwards, tripled forwards, computed again."""
    back = p.custom_vjp(lambda x, m: p.sin(m @ x))
    back.defvjp(
        lambda x, m: (p.sin(m @ x), (x, m)),
        lambda kept, g: ((u := 2.0 * g * p.cos(kept[1] @ kept[0])) @ kept[1], u[:, None] * kept[0]),
    )
    ahead = p.custom_jvp(lambda x: p.exp(x))
    ahead.defjvp(lambda xs, ts: (p.exp(xs[0]), 3.0 * p.exp(xs[0]) * ts[0]))
    again = p.checkpoint(lambda x, m: (p.tanh(m @ p.sin(x)), x * m[0]))
    u, v = again(back(x, m), m)
    return u * ahead(0.1 * v), p.sum(back(u, m) * v)


def test_a_rule_whose_loop_ends_lane_by_lane() -> None:
    """Each lane is computed by itself then, from the operands of the call in it."""
    f = ad.custom_vjp(lambda x: ad.sum(ad.sin(x)))
    grown = lambda x: ad.while_loop(lambda y: ad.sum(y * y) < 30.0, lambda y: y * 1.5 + 0.1, ad.cos(x))
    f.defvjp(lambda x: (ad.sum(ad.sin(x)), x), lambda x, g: (g * grown(x),))
    x = ad.input("x", ("n", 3))
    found = ad.compile([x], ad.vmap(lambda row: ad.grad(f(ad.exp(row)), row))(x))(XS)
    for row, g in zip(XS, found, strict=True):
        y = np.cos(np.exp(row))
        while y @ y < 30.0:
            y = y * 1.5 + 0.1
        np.testing.assert_allclose(g, y * np.exp(row), rtol=1e-12)


def test_calls_with_rules_keep_them_in_lanes(jax: Any) -> None:
    x, m, ms = ad.input("x", ("n", 3)), ad.input("m", (3, 3)), ad.input("ms", ("n", 3, 3))
    ours = lambda x, m: with_rules(OURS, x, m)
    slope = lambda x, m: ad.grad(sum((ad.sum(y * y) for y in ours(x, m)), start=ad.constant(0.0)), [x, m])
    outputs = [
        ad.vmap(ours, (0, None))(x, m),
        ad.vmap(ours)(x, ms),
        ad.vmap(lambda *a: ad.jacobian(ours(*a), a))(x, ms),
        ad.vmap(slope, (0, None))(x, m),
        ad.jacobian(ours(x[0], m), x),
        ad.jacobian(ad.vmap(ours, (0, None))(x, m), m),
    ]
    twice = lambda x, m: ad.jacobian(slope(x, m), [x, m])
    p = theirs(jax)
    other = lambda x, m: with_rules(p, x, m)
    their_slope = jax.grad(lambda x, m: sum(p.sum(y * y) for y in other(x, m)), argnums=(0, 1))

    def expected(x: Any, m: Any, ms: Any) -> Any:
        return [
            jax.vmap(other, (0, None))(x, m),
            jax.vmap(other)(x, ms),
            jax.vmap(jax.jacrev(other, argnums=(0, 1)))(x, ms),
            jax.vmap(their_slope, (0, None))(x, m),
            jax.jacrev(lambda x: other(x[0], m))(x),
            jax.jacrev(lambda m: jax.vmap(other, (0, None))(x, m))(m),
        ]

    arrays = XS, V, RNG.normal(size=(5, 3, 3))
    found = ad.compile([x, m, ms], [outputs, ad.vmap(twice)(x, ms)])(*arrays)
    agree(found[0], jax.jit(expected)(*arrays), 1e-9)
    one = ad.compile([x, m], twice(x[0], m))
    for k in range(len(XS)):
        agree([a[k] for a in leaves(found[1])], one(XS[k:], arrays[2][k]), 1e-9)


def random_program(seed: int) -> Callable[..., Any]:
    """A function of a vector and a matrix, made of operations drawn at random."""

    def program(p: Any, x: Any, m: Any) -> Any:
        rng = np.random.default_rng(seed)
        vectors, matrices = [x, m[0]], [m, m.T * 0.5]
        for _ in range(7):
            u, v, a, b = (values[rng.integers(len(values))] for values in (vectors, vectors, matrices, matrices))
            vectors.append(VECTORS[rng.integers(len(VECTORS))](p, u, v, a, b))
            matrices.append(MATRICES[rng.integers(len(MATRICES))](p, u, v, a, b))
        return {"vector": vectors[-1] + vectors[-2], "number": p.sum(p.sin(matrices[-1] * matrices[-2]))}

    return program


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(k, marks=pytest.mark.slow) for k in range(2, 12))])
def test_random_programs_are_those_of_jax(jax: Any, seed: int) -> None:
    """Jacobian, Hessian and its product with a vector, of one and of many."""
    f, p = random_program(seed), theirs(jax)
    x, m, t = ad.input("x", (3,)), ad.input("m", (3, 3)), ad.input("t", (3,))
    many = ad.input("many", ("n", 3))
    y = f(OURS, x, m)
    outputs = [
        ad.jacobian(y, [x, m]),
        ad.jacobian(y, [x, m], "forward"),
        ad.hessian(y["number"], x),
        ad.hvp(y["number"], x, t),
        ad.vectorize(ad.jacobian(y, x), {x: many}),
    ]
    arrays = [X, V, np.cos(X), XS]
    found = ad.compile([x, m, t, many], outputs)(*arrays)

    def number(x: Any) -> Any:
        return f(p, x, V)["number"]

    def expected() -> Any:
        jacobian = jax.jacrev(lambda *a: f(p, *a), argnums=(0, 1))(X, V)
        return [
            jacobian,
            jacobian,
            jax.hessian(number)(X),
            jax.jvp(jax.grad(number), (X,), (np.cos(X),))[1],
            jax.vmap(jax.jacrev(lambda x: f(p, x, V)))(XS),
        ]

    agree(found, jax.jit(expected)(), 1e-9)


def test_sizes_may_be_symbolic_or_zero(jax: Any) -> None:
    n = ad.dim("n")
    x, w = ad.input("x", (n,)), ad.input("w", ("m", n))

    def f(p: Any, x: Any, w: Any) -> Any:
        return p.sin(w @ (x * x)), p.sum(p.exp(x)), x

    y = f(OURS, x, w)
    outputs = [*(ad.jacobian(y, [x, w], mode) for mode in ("auto", "forward", "reverse")), ad.hessian(y[1], x)]
    compiled = ad.compile([x, w], outputs)
    p = theirs(jax)
    for rows, columns in ((4, 3), (2, 5), (1, 1), (0, 2), (2, 0), (0, 0)):
        arrays = RNG.normal(size=columns), RNG.normal(size=(rows, columns))
        jacobian = jax.jacrev(lambda x, w: f(p, x, w), argnums=(0, 1))(*arrays)
        hessian = jax.hessian(lambda x, w: f(p, x, w)[1])(*arrays)
        agree(compiled(*arrays), [jacobian, jacobian, jacobian, hessian])


def test_no_values_at_all_are_mapped_too() -> None:
    x = ad.input("x", ("n", 3))
    y = ad.vmap(lambda x: ad.scan(lambda h, a: (h * a, h), 1.0, x))(x)
    last, before = ad.compile([x], y)(np.ones((0, 3)))
    assert last.shape == (0,) and before.shape == (0, 3)


def test_axes_are_nests_like_arguments_and_results(jax: Any) -> None:
    a, b, c = ad.input("a", ("n", 2)), ad.input("b", (3, "n")), ad.input("c", (2,))

    def f(pair: Any, c: Any, scale: Any = 1.0) -> Any:
        return {"outer": pair[0][:, None] * pair[1], "c": c * 2, "sum": (pair[0] * c * scale).sum()}

    axes = ({"in_axes": ([0, 1], None), "out_axes": {"outer": -1, "c": None, "sum": 0}}, {"in_axes": ((0, -1), None)})
    found = [ad.vmap(f, **way)((a, b) if k else [a, b], c, scale=a[:, 0]) for k, way in enumerate(axes)]
    arrays = [RNG.normal(size=s) for s in ((4, 2), (3, 4), (2,))]
    out = ad.compile([a, b, c], found)(*arrays)
    given = [((arrays[0], arrays[1]) if k else list(arrays[:2])) for k in range(2)]
    agree(out, [jax.vmap(f, **way)(g, arrays[2], scale=arrays[0][:, 0]) for g, way in zip(given, axes, strict=True)])


def test_vmap_of_vmap_and_of_a_pullback(jax: Any) -> None:
    x, y = ad.input("x", ("n", 3)), ad.input("y", ("m", 3))
    kernel = lambda p: lambda a, b: p.exp(-p.sum((a - b) ** 2))
    matrix = ad.vmap(ad.vmap(kernel(ad), (None, 0)), (0, None))(x, y)
    one, g = ad.input("one", (3,)), ad.input("g", ("k", 3))
    out = ad.tanh(V @ one)
    rows = ad.vmap(lambda g: ad.vjp(out, one, g))(g)
    f = ad.compile([x, y, one, g], [matrix, ad.grad(ad.sum(matrix * matrix), x), rows])
    given = XS, W, X, XS[:4]
    k = kernel(jax.numpy)
    theirs_matrix = lambda x, y: jax.vmap(jax.vmap(k, (None, 0)), (0, None))(x, y)
    pullback = jax.vjp(lambda x: jax.numpy.tanh(V @ x), X)[1]
    expected = [
        theirs_matrix(XS, W),
        jax.grad(lambda x: jax.numpy.sum(theirs_matrix(x, W) ** 2))(XS),
        jax.vmap(pullback)(XS[:4])[0],
    ]
    agree(f(*given), expected)


def test_vectorize_replaces_by_several_axes_and_keeps_the_rest() -> None:
    x, w = ad.input("x", (3,)), ad.parameter(W, name="w")
    y = ad.tanh(w @ x)
    xs = ad.input("xs", ("a", "b", 3))
    many, same, half = ad.vectorize([y, w * 2.0, ad.sum(y)], {x: xs})
    assert [t.shape for t in (many, same)] == [(*xs.shape[:2], 4), (*xs.shape[:2], 4, 3)]
    values = RNG.normal(size=(2, 5, 3))
    found = ad.compile([xs], [many, same, half, ad.grad(ad.sum(half), [xs, w])])(values)
    slope = 1.0 - np.tanh(values @ W.T) ** 2
    np.testing.assert_allclose(found[0], np.tanh(values @ W.T), rtol=1e-12)
    np.testing.assert_array_equal(found[1], np.broadcast_to(2.0 * W, (2, 5, 4, 3)))
    np.testing.assert_allclose(found[2], np.tanh(values @ W.T).sum(-1), rtol=1e-12)
    np.testing.assert_allclose(found[3][0], slope @ W, rtol=1e-12)
    np.testing.assert_allclose(found[3][1], np.einsum("abm,abk->mk", slope, values), rtol=1e-12)


def test_units_are_no_memory_and_multiply_nothing() -> None:
    """The Jacobian of an elementwise function is its derivative on the diagonal; that of a product is the matrix."""
    x, w = ad.input("x", (100,)), ad.input("w", (50, 100))
    diagonal = ad.compile([x], ad.jacobian(ad.tanh(x) * x, x))
    assert diagonal.stats.temporaries <= 1 and diagonal.source.count("m.tanh") == 1
    product = ad.compile([x, w], ad.jacobian(w @ x, x))
    assert product.stats.temporaries == 0 and "contract" not in product.source
    network = ad.compile([x, w], ad.jacobian(ad.tanh(w @ ad.sin(x)), x))
    assert network.source.count("m.contract") == 1  # the forward pass: the rest only scales the rows and columns of w


def test_what_lanes_share_is_computed_once() -> None:
    x, ws = ad.input("x", (64, 64)), ad.input("ws", ("n", 64))
    y = ad.vmap(lambda w: ad.exp(x) @ w)(ws)
    f = ad.compile([x, ws], y)
    (exp,) = [line for line in f.source.splitlines() if "m.exp" in line]
    assert f.source.index("range(64)") < f.source.index(exp) < f.source.index("m.contract")


def test_gradients_flow_to_what_requires_them() -> None:
    w = ad.parameter(W, name="w")
    xs = ad.input("xs", ("n", 3))
    f = ad.compile([xs], ad.sum(ad.vmap(lambda x: ad.tanh(w @ x))(xs)))
    f(XS)
    f.backward()
    np.testing.assert_allclose(w.grad, (1.0 - np.tanh(XS @ W.T) ** 2).T @ XS, rtol=1e-12)
    with ad.no_grad():
        assert not ad.vmap(lambda x: w @ x)(xs).requires_grad


def two(x: ad.Tensor, dtype: str = "float64") -> ad.Tensor:
    return ad.ones((2, *x.shape), dtype=dtype)


# fmt: off
Use = Callable[[ad.Tensor], Any]
ERRORS: dict[str, tuple[type[Exception], str, Use]] = {
    "mode":          (GraphError, "'auto', 'forward'",   lambda x: ad.jacobian(x, x, "up")),
    "no tensor":     (GraphError, "is a tensor",         lambda x: ad.jacobian([x, 1.0], x)),
    "integers":      (DTypeError, "has no derivative",   lambda x: ad.jacobian(ad.astype(x, "int64"), x)),
    "no scalar":     (GraphError, "not a scalar",        lambda x: ad.hvp(x, x, x)),
    "vector":        (ShapeError, "must have the shape", lambda x: ad.hvp(ad.sum(x), x, x[0])),
    "nothing":       (GraphError, "no argument is",      lambda x: ad.vmap(ad.sin, None)(x)),
    "axis":          (AxisError,  "has no axis 2",       lambda x: ad.vmap(ad.sin, 2)(x)),
    "no axis":       (AxisError,  "integers or None",    lambda x: ad.vmap(ad.sin, "x")(x)),
    "sizes":         (ShapeError, "where others have",   lambda x: ad.vmap(ad.add, (0, 1))(x, x)),
    "nest":          (ShapeError, "in_axes",             lambda x: ad.vmap(ad.sin, (0, 0))(x)),
    "out":           (GraphError, "a result differs",    lambda x: ad.vmap(ad.sin, 0, None)(x)),
    "out axis":      (AxisError,  "out_axes says 2",     lambda x: ad.vmap(ad.sin, 0, 2)(x)),
    "out nest":      (ShapeError, "out_axes",            lambda x: ad.vmap(ad.sin, 0, (0, 0))(x)),
    "nothing given": (GraphError, "nothing is replaced", lambda x: ad.vectorize(x, {})),
    "same rank":     (ShapeError, "axes more",           lambda x: ad.vectorize(x, {x: x})),
    "other shape":   (ShapeError, "axes more",           lambda x: ad.vectorize(x, {x: ad.ones((5, 3, 4))})),
    "other dtype":   (DTypeError, "astype",              lambda x: ad.vectorize(x, {x: two(x, "float32")})),
    "other lanes":   (ShapeError, "the same axes",       lambda x: ad.vectorize(x, {x: two(x), x[0]: ad.ones((3, 4))})),
}
# fmt: on


@pytest.mark.parametrize("name", ERRORS)
def test_errors_say_what_to_do(name: str) -> None:
    error, text, use = ERRORS[name]
    with pytest.raises(error, match=re.escape(text)):
        use(ad.input("x", ("n", 4)))
