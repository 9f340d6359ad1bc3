"""What a pullback keeps of the forward pass: in bytes on programs one meets, and against every other choice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import numpy as np
import pytest

import staticad as ad
from staticad import costs, residuals
from staticad.autodiff import pull
from staticad.ir import Node, substitute, toposort
from staticad.ops import sources, transcendental
from staticad.passes import Passes
from staticad.residuals import Ways, cheapest, choose_residuals, minimum_cut

RNG = np.random.default_rng(11)
N, D = costs.TYPICAL, 64
ROWS, FULL, MASK = 4 * N, 4 * N * D, N * D  # bytes of a float32 a row, of a float32 an element, of a bool an element


def parameter(*shape: int, dtype: str = "float32") -> Any:
    return ad.parameter(RNG.normal(size=shape).astype(dtype))


def dense(x: ad.Tensor, out: int = D) -> ad.Tensor:
    return x @ parameter(D, out) + parameter(out)


def passes(inputs: Sequence[ad.Tensor], out: ad.Tensor) -> Passes:
    """The halves of the derivative of ``out``, without native code."""
    with mock.patch("staticad.runtime.load.load", return_value=mock.Mock(seconds={}, cache_hit=False)):
        return ad.compile(list(inputs), out)._passes


def size(nodes: Sequence[Node]) -> int:
    return sum(costs.elements(x.shape) * x.dtype.itemsize for x in nodes)


# bytes ----------------------------------------------------------------------------------------------------------------


def dropout(x: ad.Tensor, u: ad.Tensor) -> ad.Tensor:
    """A mask of what is at hand is computed again; one of what is dear to compute is kept, not what it is made of."""
    return ad.where(u > 0.1, ad.tanh(dense(x)) / 0.9, 0)


# fmt: off
KEPT: dict[str, tuple[Callable[[ad.Tensor, ad.Tensor], ad.Tensor], int]] = {
    # Nothing where all is cheap from the inputs.
    "cheap":          (lambda x, u: x * 3 + x * x,                                     0),
    "quotient":       (lambda x, u: x / (1 + x * x),                                   0),
    "root":           (lambda x, u: ad.sqrt(x * x + 1) * u,                            0),
    # One value that all others are cheap from.
    "tanh":           (lambda x, u: ad.tanh(dense(x)),                                 FULL),
    "sigmoid":        (lambda x, u: ad.nn.silu(x),                                     FULL),
    "exp of sin":     (lambda x, u: ad.exp(ad.sin(x) * 2 + 1),                         FULL),
    "three from one": (lambda x, u: (y := ad.exp(x)) * y / (y + 1) * (y - 3),          FULL),
    "softmax":        (lambda x, u: ad.nn.softmax(x),                                  FULL),
    "naive softmax":  (lambda x, u: ad.exp(x) / ad.sum(ad.exp(x), axis=1, keepdims=True),   FULL),
    "logsumexp":      (lambda x, u: ad.logsumexp(x, axis=1),                           FULL + ROWS),
    # A row's values in place of the row's elements.
    "layer norm":     (lambda x, u: ad.nn.layer_norm(x, parameter(D), parameter(D)),   2 * ROWS),
    "of a product":   (lambda x, u: ad.nn.layer_norm(dense(x), parameter(D), parameter(D)), FULL + ROWS),
    "variance":       (lambda x, u: ad.var(x, axis=1),                                 ROWS),
    "max":            (lambda x, u: ad.max(x, axis=1),                                 ROWS),
    "broadcast":      (lambda x, u: ad.exp(x[:, :1]) * x,                              ROWS),
    "slice":          (lambda x, u: ad.exp(dense(x)[:, :1]) * u,                       ROWS),
    # Masks instead of what they are masks of.
    "clip":           (lambda x, u: ad.clip(dense(x), -1, 1),                          2 * MASK),
    "relu":           (lambda x, u: ad.nn.relu(dense(x)),                              MASK),
    "leaky relu":     (lambda x, u: ad.nn.leaky_relu(dense(x)),                        MASK),
    "dropout":        (dropout,                                                        FULL),
    "dear mask":      (lambda x, u: ad.where(ad.sin(u) > 0.1, dense(x) * 3, 0),        MASK),
    # What a product reads is kept whole; erfc is not computed twice, its exp(-x*x) only backward.
    "relu network":   (lambda x, u: dense(ad.nn.relu(dense(x)), 4),                    FULL),
    "gelu":           (lambda x, u: ad.nn.gelu(x),                                     FULL),
    "gelu network":   (lambda x, u: dense(ad.nn.gelu(dense(x)), 4),                    3 * FULL),
    "attention":      (lambda x, u: ad.nn.softmax(x @ u.T) @ u,                        4 * N * N),
}
# fmt: on


@pytest.mark.parametrize("name", KEPT)
def test_bytes_kept(name: str) -> None:
    program, expected = KEPT[name]
    x, u = ad.input("x", ("n", D), "float32", requires_grad=True), ad.input("u", ("n", D), "float32")
    assert size(passes([x, u], program(x, u)).kept) <= expected


def test_arrays_so_small_that_handing_them_over_costs_more_are_not_kept() -> None:
    for count, kept in ((10, 0), (10_000, 1)):
        x = ad.input("x", (count,), requires_grad=True)
        assert len(passes([x], ad.sum(x * ad.sin(x) * ad.sin(x))).kept) == kept


def test_the_second_derivative_keeps_what_its_pullback_reads() -> None:
    x = ad.input("x", ("n", D), "float32", requires_grad=True)
    (slope,) = ad.grad(ad.sum(ad.tanh(x) ** 2), [x])
    assert size(passes([x], slope).kept) == FULL


# values ---------------------------------------------------------------------------------------------------------------


def network(p: Any, x: Any, w: Any, v: Any) -> Any:
    h = p.layer_norm(x @ w)
    h = p.gelu(h @ w) + p.softmax(h @ w.T) * h + p.where(h > 0.2, p.tanh(h), 0.0 * h)
    return p.exp(0.1 * p.relu(h @ v)) / (1 + h[:, :2] ** 2)


class Ours:
    layer_norm, gelu, softmax, relu = ad.nn.layer_norm, ad.nn.gelu, ad.nn.softmax, ad.nn.relu
    where, tanh, exp, sum = ad.where, ad.tanh, ad.exp, ad.sum


def theirs() -> Any:
    torch = pytest.importorskip("torch")
    names = mock.Mock(where=torch.where, tanh=torch.tanh, exp=torch.exp, relu=torch.relu, sum=torch.sum, torch=torch)
    names.layer_norm = lambda x: torch.nn.functional.layer_norm(x, x.shape[-1:])
    names.gelu, names.softmax = torch.nn.functional.gelu, lambda x: torch.softmax(x, -1)
    return names


@pytest.mark.parametrize("order", [1, 2])
def test_pullbacks_are_those_of_torch(order: int) -> None:
    p = theirs()
    arrays = [RNG.normal(size=s) for s in ((5, 6), (6, 6), (6, 2))]
    cotangent = RNG.normal(size=(5, 6) if order == 2 else (5, 2))
    given = [ad.input(k, a.shape, requires_grad=True) for k, a in zip("xwv", arrays, strict=True)]
    tensors = [p.torch.tensor(a, requires_grad=True) for a in arrays]
    out, expected = network(Ours, *given), network(p, *tensors)
    if order == 2:
        out = ad.grad(ad.sum(out * out), given[0])
        (expected,) = p.torch.autograd.grad(p.sum(expected * expected), tensors[0], create_graph=True)
    expected.backward(p.torch.tensor(cotangent))
    with mock.patch("staticad.passes.ARRAY", 0):  # small as they are, keep what large ones would
        f = ad.compile(given, out)
        assert f._passes.kept
    value, pullback = f.vjp(*arrays)
    np.testing.assert_allclose(value, expected.detach().numpy(), rtol=1e-10)
    for _ in range(2):
        found = pullback(cotangent)
        for x, t in zip(given, tensors, strict=True):
            np.testing.assert_allclose(found[x], t.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_softmax_is_differentiated_through_a_value_inside_of_it_where_that_is_asked_for() -> None:
    x = ad.input("x", (4,))
    y = ad.exp(x)
    out = y / ad.sum(y)
    v, s = np.array([0.1, -0.4, 0.3, 2.0]), np.exp([0.1, -0.4, 0.3, 2.0])
    inner = ad.evaluate(ad.grad(out[1], y), {x: v})
    np.testing.assert_allclose(inner, (np.eye(4)[1] - s[1] / s.sum()) / s.sum(), rtol=1e-12)
    outer = ad.evaluate(ad.grad(out[1], x), {x: v})
    np.testing.assert_allclose(outer, inner * s, rtol=1e-12)
    moved = ad.evaluate(ad.jvp(out, x, np.arange(4.0)), {x: v})
    jacobian = np.diag(s / s.sum()) - np.outer(s, s) / s.sum() ** 2
    np.testing.assert_allclose(moved, jacobian @ np.arange(4.0), rtol=1e-12)


# loops ----------------------------------------------------------------------------------------------------------------


def stacked(step: Callable[[Any, Any], Any], twice: bool = False) -> list[list[tuple[int, ...]]]:
    """Shapes of what each loop's steps leave for its derivative, which the loss of the last carry asks for."""
    kept: list[list[Node]] = []

    def record(*args: Any, **options: Any) -> list[Node]:
        kept.append(choose_residuals(*args, **options))
        return kept[-1]

    w, xs = ad.input("w", (3, 3)), ad.input("xs", ("n", 3))
    h, _ = ad.scan(lambda h, x: (step(w @ h + x, h), None), ad.zeros(3), xs)
    with mock.patch.object(residuals, "choose_residuals", record):
        g = ad.grad(ad.sum(h * h), w)
        if twice:
            ad.grad(ad.sum(g * g), w)
    return [[tuple(map(int, x.shape)) for x in nodes] for nodes in kept]


def test_a_loop_leaves_its_carry_once() -> None:
    """What a step computes is the carry of the next, and is not left beside it."""
    assert stacked(lambda y, h: ad.tanh(y)) == [[(3,)]]
    assert stacked(lambda y, h: ad.nn.softmax(y)) == [[(3,)]]
    assert stacked(lambda y, h: ad.exp(y) / ad.sum(ad.exp(y))) == [[(3,)]]
    assert stacked(lambda y, h: ad.exp(y - ad.max(y)) / ad.sum(ad.exp(y - ad.max(y)))) == [[(3,)]]
    assert stacked(lambda y, h: y) == [[(3,)]]
    assert stacked(lambda y, h: ad.sin(h) * 0.1 + h * y / (1 + h * h)) == [[(3,), (3,)]]
    assert stacked(lambda y, h: y / ad.sqrt(ad.sum(y * y) + 1)) == [[(3,), (3,), ()]]


def test_the_derivative_of_a_derivative_leaves_no_more() -> None:
    first, forward, backward = stacked(lambda y, h: ad.tanh(y), twice=True)
    assert first == [(3,)]
    assert len(forward) + len(backward) <= 4


# the cut --------------------------------------------------------------------------------------------------------------


def random_ways(rng: np.random.Generator, count: int) -> tuple[dict[Node, Ways], set[Node]]:
    nodes: list[Node] = []
    ways: dict[Node, Ways] = {}
    for k in range(count):
        node = ad.input(f"x{k}", ()).node
        picked = rng.choice(k, size=min(k, int(rng.integers(1, 4))), replace=False) if k else []
        compute = float(rng.integers(0, 6)) if k > 1 else costs.NEVER
        ways[node] = Ways(float(rng.integers(0, 12)), compute, tuple(nodes[i] for i in picked))
        nodes.append(node)
    return ways, {nodes[i] for i in rng.choice(count, size=count // 3, replace=False)}


def price(ways: dict[Node, Ways], needed: set[Node], kept: set[Node]) -> float:
    """What keeping ``kept`` costs, and computing what else is needed."""
    total, stack, seen = sum(ways[x].keep for x in kept), list(needed), set(kept)
    while stack:
        x = stack.pop()
        if x not in seen:
            seen.add(x)
            total += ways[x].compute
            stack += ways[x].operands
    return total


@pytest.mark.parametrize("seed", range(200))
def test_no_other_choice_is_cheaper(seed: int) -> None:
    """Against all subsets."""
    ways, needed = random_ways(np.random.default_rng(seed), 9 + seed % 3)
    subsets = itertools.chain.from_iterable(itertools.combinations(ways, k) for k in range(len(ways) + 1))
    least = min(price(ways, needed, set(kept)) for kept in subsets)
    assert price(ways, needed, minimum_cut(ways, needed)) == least
    assert price(ways, needed, set(cheapest(ways, needed))) == least


def test_prices_beyond_32_bits_are_scaled() -> None:
    a, b, c = (ad.input(k, ()).node for k in "abc")
    for scale in (1, 10**6, 10**12):
        ways = {
            a: Ways(5 * scale, costs.NEVER, ()),
            b: Ways(7 * scale, 3 * scale, (a,)),
            c: Ways(9 * scale, 10 * scale, (b,)),
        }
        assert minimum_cut(ways, {a}) == {a}
        assert minimum_cut(ways, {b}) == {b}  # 7, and 5 + 3 for a
        assert minimum_cut(ways, {a, b}) == {a}  # 5 + 3, and 5 + 7
        assert minimum_cut(ways, {b, c}) == {b, c}


@pytest.mark.parametrize("size", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_large_graphs(size: int) -> None:
    """One value in three is dear; the others are cheap from those, though some are many steps away."""
    x = ad.input("x", (1000,))
    y = x
    count = size // 6
    for _ in range(count):
        y = ad.exp(y * 0.5) - 1.0
    g = sources.input_(name="g", source=object(), type=y.node.type)
    (pulled,) = pull([y.node], [x.node], [g])
    assert pulled is not None
    assert len(toposort([y.node, pulled])) >= size * 0.6
    kept = choose_residuals([y.node], [pulled], [g])
    assert len(kept) == count
    backward = toposort(substitute([pulled], dict.fromkeys(kept, x.node)))
    assert not any(node.op is transcendental.exp for node in backward)
