"""Graphs of 100,000 nodes: they build, differentiate, print and evaluate; compiling splits what is large into parts."""

from __future__ import annotations

import re

import numpy as np
import pytest

import staticad as ad
from staticad import division
from staticad.ir import Graph, toposort

V = np.linspace(-1, 1, 5)


def chain(size):
    """One operation after another: the depth is the size."""
    x = ad.input("x", (5,), requires_grad=True)
    y = x
    for k in range(size // 2):
        y = y * 0.999 if k % 2 else y + x
    return x, ad.sum(y)


def wide(size):
    """A sum of many terms, added one to the other: deep on one side, and x has as many uses as there are terms."""
    x = ad.input("x", (5,), requires_grad=True)
    y = ad.zeros(5)
    for k in range(size // 4):
        y = y + x * float(k % 7)
    return x, ad.sum(y)


def residual(size):
    """Blocks with a branch and a skip: the number of paths is exponential in the depth."""
    x = ad.input("x", (5,), requires_grad=True)
    y = x
    for _ in range(size // 6):
        y = y + ad.tanh(y * 0.01) * 0.01
    return x, ad.sum(y)


BUILDERS = [chain, wide, residual]
SIZES = [20_000, pytest.param(100_000, marks=pytest.mark.slow)]


def expected(build, size, v):
    """Value and gradient by a loop over arrays."""
    y, d = (v.copy(), np.ones(5)) if build is not wide else (np.zeros(5), np.zeros(5))
    if build is chain:
        for k in range(size // 2):
            y, d = (y * 0.999, d * 0.999) if k % 2 else (y + v, d + 1)
    elif build is wide:
        for k in range(size // 4):
            y, d = y + v * float(k % 7), d + float(k % 7)
    else:
        for _ in range(size // 6):
            t = np.tanh(y * 0.01)
            y, d = y + t * 0.01, d * (1 + (1 - t * t) * 1e-4)
    return y.sum(), d


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("build", BUILDERS, ids=lambda f: f.__name__)
def test_large_graphs(build, size):
    x, y = build(size)
    assert len(toposort([y.node])) >= size * 0.4
    g = ad.grad(y, x)
    t = ad.jvp(y, x, np.ones(5))
    value, gradient = expected(build, size, V)
    found = ad.evaluate([y, g, t], {x: V})
    np.testing.assert_allclose(found[0], value, rtol=1e-10)
    np.testing.assert_allclose(found[1], gradient, rtol=1e-10)
    np.testing.assert_allclose(found[2], gradient.sum(), rtol=1e-10)
    graph = Graph((x.node,), (y.node, g.node))
    text = str(graph)
    assert text.startswith("graph(x: f64[5])\n")
    assert text.count("\n") == len(graph.nodes) + (x.node not in graph.nodes)
    assert repr(y) == "Tensor(f64, grad_fn=<sum>)"


def test_flags_of_large_graphs():
    _, y = chain(20_000)
    assert y.requires_grad
    assert not y.is_leaf
    assert y.grad_fn.next_functions[0][0].name in ("add", "multiply")
    with pytest.raises(ad.SymbolicError):
        y.item()
    with pytest.raises(ad.GraphError, match="input 'x'"):
        ad.compile([], y)
    w = ad.parameter(V)
    z = w
    for _ in range(5000):
        z = z + w
    assert ad.sum(z * z).item() == pytest.approx((5001 * V) @ (5001 * V))


# ---- compiling


def parts(f):
    return len(re.findall(r"^def \w+\(", f.source, re.MULTILINE))


def network(depth):
    """Layers that do not fuse with each other: sums, products, softmax, a gather, a cumulative sum."""
    x, i = ad.input("x", ("n", 4), requires_grad=True), ad.input("i", ("n",), "int64")
    w = ad.parameter(np.linspace(-1, 1, 16).reshape(4, 4), name="w")
    y = x
    for k in range(depth):
        y = ad.tanh(y @ w) + ad.nn.softmax(y, axis=k % 2)
        y = y[i] - ad.mean(y, axis=0) + ad.cumulative_sum(y, axis=1) * 0.1
    return x, i, w, ad.sum(y * y)


def test_a_split_program_computes_the_same(monkeypatch):
    x, i, w, loss = network(2)
    gx, gw = ad.grad(loss, [x, w])
    outputs = {"loss": loss, "x": gx, "w": gw, "again": ad.exp(-loss) * gx}
    rng = np.random.default_rng(0)
    a, p = rng.normal(size=(6, 4)), rng.integers(-6, 6, 6)
    wanted = ad.evaluate(outputs, {x: a, i: p})
    before = w.value.copy()
    updated = ad.evaluate(w - 0.01 * gw, {x: a, i: p})
    counts = []
    for weight in (40, 10_000):
        monkeypatch.setattr(division, "PART_WEIGHT", weight)
        f = ad.compile([x, i], outputs, updates={w: w - 0.01 * gw})
        counts.append(parts(f))
        w.value = before
        with pytest.raises(ad.IndexOutOfRange):
            f(a, p + 6)  # an error in an inner part
        np.testing.assert_array_equal(w.value, before)
        found = f(a, p)
        for key, value in wanted.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-9, atol=1e-12, err_msg=key)
        np.testing.assert_allclose(w.value, updated, rtol=1e-10)
        w.value = before
        out = {key: np.zeros_like(value) for key, value in wanted.items()}
        f(a, p, out=out)
        np.testing.assert_array_equal(out["again"], found["again"])
    assert counts[0] > 3
    assert counts[1] < counts[0]


def test_a_split_program_pulls_back(monkeypatch):
    monkeypatch.setattr(division, "PART_WEIGHT", 40)
    x, i, w, loss = network(1)
    f = ad.compile([x, i], loss)
    a, p = np.random.default_rng(1).normal(size=(5, 4)), np.array([4, 3, 2, 1, 0])
    wanted = ad.evaluate(ad.grad(loss, [x, w]), {x: a, i: p})
    f(a, p)
    f.backward()
    np.testing.assert_allclose(x.grad, wanted[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(w.grad, wanted[1], rtol=1e-9, atol=1e-12)


def test_many_loops_are_split_without_being_asked():
    """Each part is bounded, however many loops there are."""
    x = ad.input("x", ("n",))
    y, values = x, V
    for _ in range(80):
        y = y * 1.01 - ad.mean(y * y) * 0.01
        values = values * 1.01 - np.mean(values * values) * 0.01
    f = ad.compile([x], y)
    assert parts(f) > 1
    np.testing.assert_allclose(f(V), values, rtol=1e-10)
