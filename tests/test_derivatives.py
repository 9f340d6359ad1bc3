"""`grad`, `value_and_grad`, `vjp`, `jvp`: nests, cotangents, any order, against NumPy formulas, PyTorch and JAX."""

from __future__ import annotations

import random
from collections import namedtuple

import numpy as np
import pytest

import staticad as ad

RNG = np.random.default_rng(7)
V = np.array([0.3, -1.2, 2.0])
Pair = namedtuple("Pair", "first second")


def value(t, at):
    return ad.evaluate(t, at)


def test_grad_of_a_scalar():
    x = ad.input("x", (3,))
    np.testing.assert_allclose(value(ad.grad(ad.sum(x**3), x), {x: V}), 3 * V**2)
    assert ad.grad(ad.sum(x**3), x).shape == (3,)


def test_wrt_is_a_nest_and_comes_back_as_one():
    x, y = ad.input("x", (3,)), ad.input("y", ())
    w = ad.parameter([1.0, 2.0, 3.0], name="w")
    z = ad.sum(x * w) * y
    at = {x: V, y: 2.0}
    found = value(ad.grad(z, {"x": x, "rest": [y, (w,)]}), at)
    assert list(found) == ["x", "rest"]
    assert isinstance(found["rest"], list)
    assert isinstance(found["rest"][1], tuple)
    np.testing.assert_allclose(found["x"], 2 * w.value)
    np.testing.assert_allclose(found["rest"][0], V @ w.value)
    np.testing.assert_allclose(found["rest"][1][0], 2 * V)
    pair = ad.grad(z, Pair(x, y))
    assert isinstance(pair, Pair)
    assert pair.first.shape == (3,)
    assert ad.grad(z, []) == []
    twice = value(ad.grad(z, [y, y]), at)
    np.testing.assert_allclose(twice, [V @ w.value] * 2)


def test_wrt_an_intermediate_tensor():
    x = ad.input("x", (3,))
    y = ad.sin(x)
    z = ad.sum(y * y * x)
    np.testing.assert_allclose(value(ad.grad(z, y), {x: V}), 2 * np.sin(V) * V)
    both = value(ad.grad(z, [x, y]), {x: V})
    # A gradient by x holds all of its paths, also those through y.
    np.testing.assert_allclose(both[0], np.sin(V) ** 2 + 2 * np.sin(V) * V * np.cos(V))
    np.testing.assert_allclose(value(ad.grad(z, z), {x: V}), 1.0)


def test_the_flag_may_be_set_or_cleared_after_the_use():
    """A tensor stays the same variable to `grad` when `requires_grad` changes between building and differentiating."""
    x = ad.input("x", (3,))
    z = ad.sum(x * x)
    x.requires_grad = True
    np.testing.assert_allclose(value(ad.grad(z, x, strict=True), {x: V}), 2 * V)
    np.testing.assert_allclose(value(ad.jvp(z, x, V, strict=True), {x: V}), 2 * V @ V)
    u = ad.sum(x * x)
    x.requires_grad = False
    np.testing.assert_allclose(value(ad.grad(u, x, strict=True), {x: V}), 2 * V)
    np.testing.assert_allclose(value(ad.jvp(u, x, V, strict=True), {x: V}), 2 * V @ V)
    w = ad.parameter(V)
    z = ad.sum(w**3)
    w.requires_grad = False
    np.testing.assert_allclose(value(ad.grad(z, w), {}), 3 * V**2)


def test_detach_and_no_grad_stop_derivatives():
    x = ad.input("x", (3,))
    np.testing.assert_allclose(value(ad.grad(ad.sum(x.detach() * x), x), {x: V}), V)
    y = ad.input("y", (3,), requires_grad=True)
    with ad.no_grad():
        frozen = y * y
    np.testing.assert_allclose(value(ad.grad(ad.sum(frozen * y), y), {y: V}), V**2)
    np.testing.assert_allclose(value(ad.jvp(frozen * y, y, np.ones(3)), {y: V}), V**2)


def test_no_path_is_zeros_or_an_error():
    x, y = ad.input("x", (3,)), ad.input("y", ("n", 2), "float32")
    z = ad.sum(x)
    g = ad.grad(z, y)
    assert (g.shape, g.dtype) == (y.shape, y.dtype)
    assert value(g, {x: V, y: np.ones((4, 2), "f4")}).tolist() == [[0, 0]] * 4
    with pytest.raises(ad.GraphError, match=r"grad: no differentiable path leads to Tensor\(f32\[n, 2\], name='y'\)"):
        ad.grad(z, y, strict=True)
    with pytest.raises(ad.GraphError, match=r"jvp: .*path.*strict=True"):
        ad.jvp(z, y, ad.zeros_like(y), strict=True)
    with pytest.raises(ad.GraphError, match="path"):
        ad.grad(ad.sum(ad.floor(x).detach()), x, strict=True)
    with pytest.raises(ad.GraphError, match="path"):
        ad.vjp([z, ad.sum(x > 0).astype("float64")], [x, y], strict=True)
    np.testing.assert_array_equal(value(ad.jvp(z * 1, y, ad.ones_like(y)), {x: V, y: np.ones((1, 2), "f4")}), 0)


def test_cotangents():
    x = ad.input("x", (3,), "float32")
    y = x * x
    at = {x: V.astype("f4")}
    expected = 2 * V * [1, 10, 100]
    for g in ([1, 10, 100], np.array([1, 10, 100]), np.array([1.0, 10, 100]), np.array([1, 10, 100], "f4")):
        found = value(ad.grad(y, x, g), at)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    c = ad.input("c", (3,), "float32")
    np.testing.assert_allclose(value(ad.grad(y, x, c), at | {c: np.ones(3, "f4")}), 2 * V, rtol=1e-6)
    one = ad.input("one", (1, 1), "float64")
    assert value(ad.grad(one * one, one), {one: [[3.0]]}).tolist() == [[6.0]]


def test_value_and_grad():
    x, w = ad.input("x", (3,)), ad.parameter([2.0, 0.5, 1.0])
    y, grads = ad.value_and_grad(ad.sum(ad.exp(x * w)), {"x": x, "w": w})
    out, found = value((y, grads), {x: V})
    e = np.exp(V * w.value)
    np.testing.assert_allclose(out, e.sum())
    np.testing.assert_allclose(found["x"], e * w.value)
    np.testing.assert_allclose(found["w"], e * V)


def test_vjp_of_several_outputs():
    x, y = ad.input("x", (3,)), ad.input("y", (3,))
    outputs = {"product": x * y, "sum": ad.sum(x)}
    cotangents = {"product": np.array([1.0, 2.0, 3.0]), "sum": 4.0}
    gx, gy = value(ad.vjp(outputs, (x, y), cotangents), {x: V, y: V + 1})
    np.testing.assert_allclose(gx, cotangents["product"] * (V + 1) + 4)
    np.testing.assert_allclose(gy, cotangents["product"] * V)
    np.testing.assert_allclose(value(ad.vjp([ad.sum(x), ad.sum(x * x)], x), {x: V}), 1 + 2 * V)
    swapped = {"sum": 4.0, "product": cotangents["product"]}
    np.testing.assert_allclose(value(ad.vjp(outputs, x, swapped), {x: V, y: V + 1}), gx)
    same = x * y
    np.testing.assert_allclose(value(ad.vjp([same, same], x, [np.ones(3), np.ones(3)]), {x: V, y: V}), 2 * V)


def test_jvp_of_several_outputs():
    x, y = ad.input("x", (3,)), ad.input("y", (3,))
    t = np.array([1.0, -1.0, 0.5])
    out = value(ad.jvp({"a": x * y, "b": [ad.sum(x)]}, {"x": x, "y": y}, {"x": t, "y": 2 * t}), {x: V, y: V + 1})
    np.testing.assert_allclose(out["a"], t * (V + 1) + V * 2 * t)
    np.testing.assert_allclose(out["b"][0], t.sum())
    np.testing.assert_allclose(value(ad.jvp(x, x, t), {x: V}), t)
    np.testing.assert_allclose(value(ad.jvp(x * x, [x], [[1.0, -1.0, 0.5]]), {x: V}), 2 * V * t)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_higher_orders_in_both_modes(order):
    """All of reverse on reverse, forward on forward and the mixtures give the known derivative of sin(x) * x."""
    x = ad.input("x", ())
    expected = {1: lambda v: np.sin(v) + v * np.cos(v), 2: lambda v: 2 * np.cos(v) - v * np.sin(v)}
    expected[3] = lambda v: -3 * np.sin(v) - v * np.cos(v)
    expected[4] = lambda v: -4 * np.cos(v) + v * np.sin(v)
    for modes in range(2**order):
        y = ad.sin(x) * x
        for k in range(order):
            y = ad.grad(y, x) if modes >> k & 1 else ad.jvp(y, x, 1.0)
        np.testing.assert_allclose(value(y, {x: 0.7}), expected[order](0.7), rtol=1e-12)


def test_hessian_vector_products():
    x, v = ad.input("x", (3,)), ad.input("v", (3,))
    y = ad.sum(ad.exp(x) * x[::-1]) + ad.prod(x)
    g = ad.grad(y, x)
    products = [ad.jvp(g, x, v), ad.grad(g, x, v), ad.grad(ad.sum(g * v), x), ad.grad(ad.jvp(y, x, v), x)]
    pytest.importorskip("torch")
    u = np.array([1.0, -0.5, 2.0])
    t = torch.tensor(V)
    hessian = torch.autograd.functional.hessian(lambda t: torch.sum(torch.exp(t) * t.flip(0)) + torch.prod(t), t)
    compiled = ad.compile([x, v], products)(V, u)
    for found in [*value(products, {x: V, v: u}), *compiled]:
        np.testing.assert_allclose(found, hessian.numpy() @ u, rtol=1e-12)


def test_gradient_of_a_gradient_step():
    """Differentiating through an update: the parameter and the learning rate of a step of descent."""
    w, rate = ad.parameter(V, name="w"), ad.input("rate", ())
    loss = lambda w: ad.sum(ad.cos(w) * w)
    after = loss(w - rate * ad.grad(loss(w), w))
    found = value(ad.grad(after, rate), {rate: 0.1})
    f = lambda r: value(after, {rate: r})
    np.testing.assert_allclose(found, (f(0.1 + 1e-6) - f(0.1 - 1e-6)) / 2e-6, rtol=1e-7)


def test_derivatives_of_symbolic_shapes():
    x, w = ad.input("x", ("n", "k")), ad.input("w", ("k",))
    y = ad.mean(ad.logsumexp(x * w, axis=1))
    f = ad.compile([x, w], ad.grad(y, [x, w]))
    pytest.importorskip("torch")
    for shape in [(5, 3), (1, 1), (2, 7)]:
        a, b = RNG.normal(size=shape), RNG.normal(size=shape[1])
        t, u = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
        torch.logsumexp(t * u, 1).mean().backward()
        for found, expected in zip(f(a, b), (t.grad, u.grad), strict=True):
            np.testing.assert_allclose(found, expected.numpy(), rtol=1e-10, atol=1e-14)


# ---- misuse


def test_misuse():
    x, i = ad.input("x", (3,)), ad.input("i", (3,), "int64")
    y = ad.sum(x * i)
    cases = [
        (lambda: ad.grad(x * 2, x), ad.GraphError, r"grad: Tensor\(f64\[3\]\) is not a scalar.*cotangent"),
        (lambda: ad.grad(y, i), ad.DTypeError, r"grad: wrt Tensor\(i64\[3\], name='i'\) has no derivative.*astype"),
        (lambda: ad.grad(ad.sum(i), x), ad.DTypeError, r"output Tensor\(i64\).*astype"),
        (lambda: ad.grad(y, "x"), ad.GraphError, "wrt is a tensor, not str"),
        (lambda: ad.grad(3.0, x), ad.GraphError, "output is a tensor, not float"),
        (lambda: ad.grad(x * 2, x, np.ones(4)), ad.ShapeError, r"cotangent has type f64\[4\].*f64\[3\]"),
        (lambda: ad.grad(x * 2, x, np.ones(3, complex)), ad.DTypeError, "complex"),
        (lambda: ad.grad(x * 2, x, ad.input("c", (3,), "float32")), ad.DTypeError, r"f32\[3\].*f64\[3\]"),
        (lambda: ad.vjp([y, y], x, [1.0]), ad.ShapeError, "vjp: cotangents: expected a list of 2, got list of 1"),
        (lambda: ad.jvp(y, [x, x], [np.ones(3)]), ad.ShapeError, "jvp: tangents: expected a list of 2, got list of 1"),
        (lambda: ad.vjp({"y": y}, x, {"z": 1.0}), ad.ShapeError, "keys 'y', got dict with the keys 'z'"),
        (lambda: ad.jvp(y, {"x": x}, [np.ones(3)]), ad.ShapeError, "keys 'x', got list of 1"),
        (lambda: ad.jvp(y, x, np.ones(2)), ad.ShapeError, r"tangent has type f64\[2\].*f64\[3\]"),
    ]
    for call, error, text in cases:
        with pytest.raises(error, match=text):
            call()


# ---- random programs


class Program:
    """A random program written once, for any of the three frameworks."""

    def __init__(self, seed):
        r = random.Random(seed)
        self.lines = []
        for k in range(8):
            kind = r.choice(["unary", "unary", "binary", "binary", "matmul", "reduce", "slice", "where", "softmax"])
            pick = [r.randrange(max(0, k - 3), k + 2) for _ in range(2)]
            self.lines.append((kind, pick, r.randrange(100)))

    def run(self, m, x, y):
        values = [x, y]
        for kind, (i, j), extra in self.lines:
            a, b = values[i], values[j]
            if kind == "unary":
                out = [m.tanh, m.sin, lambda v: m.exp(m.tanh(v)), lambda v: m.sqrt(v * v + 1), abs][extra % 5](a)
            elif kind == "binary":
                out = [a * b, a + b, a - 0.5 * b, a / (b * b + 1), m.maximum(a, b)][extra % 5]
            elif kind == "matmul":
                out = m.tanh(a @ b)
            elif kind == "reduce":
                keep = {"keepdim": True} if m is torch else {"keepdims": True}
                out = a - m.mean(a, axis=extra % 2, **keep)
            elif kind == "slice":
                out = m.concat([a[:2], b[2:] * 2]) if m is ad else m.concatenate([a[:2], b[2:] * 2])
            elif kind == "where":
                out = m.where(a > 0, a * b, m.sin(b))
            else:
                e = m.exp(m.tanh(a))
                out = e / m.sum(e, axis=1, **({"keepdim": True} if m is torch else {"keepdims": True}))
            values.append(out)
        return values[-1] + 0.1 * values[-2]


try:
    import torch
except ImportError:
    torch = None

A, B, C = (RNG.uniform(-1, 1, (4, 4)) for _ in range(3))


@pytest.mark.parametrize("seed", range(24))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_programs_against_pytorch(seed, dtype):
    pytest.importorskip("torch")
    program = Program(seed)
    x, y = ad.input("x", (4, 4), dtype), ad.input("y", (4, 4), dtype)
    out = program.run(ad, x, y)
    first = ad.grad(out, [x, y], C)
    second = ad.grad(ad.sum(first[0] * C) + ad.sum(first[1]), [x, y])
    a, b, c = (v.astype(dtype) for v in (A, B, C))
    t, u = (torch.tensor(v, requires_grad=True) for v in (a, b))
    w = program.run(torch, t, u)
    f = torch.autograd.grad(w, [t, u], torch.tensor(c), create_graph=True, materialize_grads=True)
    total = (f[0] * torch.tensor(c)).sum() + f[1].sum()
    s = torch.autograd.grad(total, [t, u], materialize_grads=True) if total.requires_grad else [torch.zeros(4, 4)] * 2
    expected = [w, *f, *s]
    wanted = [out, *first, *second]
    found = [value(wanted, {x: a, y: b})]
    if seed < 3:
        found.append(ad.compile([x, y], wanted)(a, b))
    for run in found:
        for got, want in zip(run, expected, strict=True):
            assert got.dtype == np.dtype(dtype)
            want = want.detach().numpy()
            scale = max(1.0, np.abs(want).max())
            np.testing.assert_allclose(got, want, rtol=0, atol=scale * (2e-4 if dtype == "float32" else 1e-11))


@pytest.mark.parametrize("seed", range(24, 30))
def test_random_programs_against_jax(seed):
    """jvp, vjp and forward-over-reverse."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    program = Program(seed)
    x, y = ad.input("x", (4, 4)), ad.input("y", (4, 4))
    out = program.run(ad, x, y)
    found = ad.jvp(out, x, C), ad.grad(out, x, C), ad.jvp(ad.grad(out, x, C), x, B)
    found = value(found, {x: A, y: B})
    with jax.enable_x64(True):
        f = lambda v: program.run(jnp, v, jnp.asarray(B))
        g = lambda v: jax.vjp(f, v)[1](jnp.asarray(C))[0]
        a = jnp.asarray(A)
        expected = jax.jvp(f, (a,), (jnp.asarray(C),))[1], g(a), jax.jvp(g, (a,), (jnp.asarray(B),))[1]
        for got, want in zip(found, expected, strict=True):
            np.testing.assert_allclose(got, np.asarray(want), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("seed", range(30, 60))
def test_the_two_modes_agree(seed):
    """<c, J t> = <J^T c, t> on random programs, first and second order."""
    program = Program(seed)
    x, y = ad.input("x", (4, 4)), ad.input("y", (4, 4))
    out = program.run(ad, x, y)
    for f in (out, ad.grad(ad.sum(out * out), x)):
        moved, pulled = value((ad.jvp(f, x, B), ad.grad(f, x, C)), {x: A, y: B})
        np.testing.assert_allclose((moved * C).sum(), (pulled * B).sum(), rtol=1e-8, atol=1e-9)
