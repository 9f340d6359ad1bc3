"""Small whole programs that several test files look at, and compilation up to the text, without native code."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

import staticad as ad
from staticad.function import Function
from staticad.nests import leaves

#: What the symbolic dimensions of the programs are where they are run.
SIZES = {"n": 5, "m": 4, "t": 3, "k": 6, "batch": 7}
#: Function weight at which `split` is divided: small, so that the golden file shows parts without being long.
PART_WEIGHT = 40


@dataclass(frozen=True, eq=False)
class Case:
    """A program as `staticad.compile` takes it."""

    inputs: list[ad.Tensor]
    outputs: Any
    updates: Mapping[Any, ad.Tensor] = field(default_factory=dict)
    part_weight: int | None = None


def generate(inputs: Any, outputs: Any, **options: Any) -> Function:
    """What `staticad.compile` gives, but for native code: its source, plan and counts; it cannot be called."""
    native = mock.Mock(seconds={}, cache_hit=False)
    with mock.patch("staticad.runtime.load.load", return_value=native):
        return ad.compile(inputs, outputs, **options)


def build(name: str, compile: Callable[..., Function] = generate) -> tuple[Case, Function]:  # noqa: A002
    """The program called ``name``, made anew, and its compiled function."""
    case = PROGRAMS[name]()
    options = {"updates": case.updates, "name": name}
    if case.part_weight is None:
        return case, compile(case.inputs, case.outputs, **options)
    with mock.patch("staticad.division.PART_WEIGHT", case.part_weight):
        return case, compile(case.inputs, case.outputs, **options)


def arrays(inputs: list[ad.Tensor], seed: int = 0) -> list[np.ndarray]:
    """Values for inputs: normal numbers, or indices small enough for every axis."""
    rng = np.random.default_rng(seed)
    shapes = [tuple(SIZES[str(d)] if not isinstance(d, int) else d for d in x.shape) for x in inputs]
    kinds = [x.dtype for x in inputs]
    return [
        rng.integers(-3, 3, s).astype(k) if k.kind == "i" else np.asarray(rng.normal(size=s)).astype(k)
        for s, k in zip(shapes, kinds, strict=True)
    ]


def weights(*shape: int, name: str, dtype: str = "float32") -> Any:
    values = np.random.default_rng(len(name) + sum(shape)).normal(size=shape)
    return ad.parameter(values.astype(dtype), name=name)


def tiny() -> Case:
    x = ad.input("x", (10,))
    loss = ad.sum(x * ad.sin(x))
    return Case([x], {"loss": loss, "gradient": ad.grad(loss, x)})


def elementwise() -> Case:
    x = ad.input("x", ("n",), "float32")
    loss = ad.sum(ad.exp(-(x**2)) * ad.tanh(x) + ad.log1p(ad.exp(x)))
    return Case([x], [loss, ad.grad(loss, x)])


def chain() -> Case:
    x, scale = ad.input("x", ("n", "m")), ad.input("scale", ("m",))
    y = x
    for k in range(12):
        y = ad.sin(y) * scale + k
    return Case([x, scale], y)


def views() -> Case:
    x, b = ad.input("x", (6, 8)), ad.input("b", (8,))
    return Case([x, b], [ad.flip(x, axis=1).T * 2, x[::2, 1:] - b[1:], ad.where(x[::-1] > b, ad.exp(x), 0)])


def softmax() -> Case:
    x, g = ad.input("x", ("n", 50), "float32"), ad.input("g", ("n", 50), "float32")
    y = ad.nn.softmax(x)
    return Case([x, g], {"y": y, "gradient": ad.vjp([y], [x], [g])[0]})


def layer_norm() -> Case:
    x, g = ad.input("x", ("n", 32)), ad.input("g", ("n", 32))
    w, b = weights(32, name="weight", dtype="float64"), weights(32, name="bias", dtype="float64")
    y = ad.nn.layer_norm(x, w, b)
    return Case([x, g], [y, *ad.vjp([y], [x, w, b], [g])])


def cross_entropy() -> Case:
    logits, labels = ad.input("logits", ("n", 10), "float32"), ad.input("labels", ("n",), "int64")
    loss = ad.nn.cross_entropy(logits, labels)
    return Case([logits, labels], [loss, ad.grad(loss, logits)])


def mlp() -> Case:
    x, y = ad.input("x", ("batch", 16), "float32"), ad.input("y", ("batch",), "int64")
    params = [weights(16, 32, name="W"), weights(32, name="b"), weights(32, 4, name="V"), weights(4, name="c")]
    W, b, V, c = params
    loss = ad.nn.cross_entropy(ad.nn.relu(x @ W + b) @ V + c, y)
    return Case([x, y], loss, {p: p - 0.1 * g for p, g in zip(params, ad.grad(loss, params), strict=True)})


def attention() -> Case:
    q, k, v = (ad.input(name, (rows, 8), "float32") for name, rows in (("q", "n"), ("k", "t"), ("v", "t")))
    g = ad.input("g", ("n", 8), "float32")
    out = ad.nn.softmax(q @ k.T / 8**0.5) @ v
    return Case([q, k, v, g], [out, *ad.vjp([out], [q, k, v], [g])])


def concat() -> Case:
    x, y = ad.input("x", ("n", 3)), ad.input("y", ("n", 4))
    joined = ad.concat([ad.exp(x), y], axis=1)
    loss = ad.sum(joined * joined)
    return Case([x, y], [joined, *ad.grad(loss, [x, y])])


def gather_scatter() -> Case:
    table, at = ad.input("table", (6, 4)), ad.input("at", ("k",), "int64")
    loss = ad.sum(ad.exp(table[at]))
    return Case([table, at], [table.at[at].add(1.0), ad.grad(loss, table)])


def cumulative_sum() -> Case:
    x, g = ad.input("x", ("n", 30)), ad.input("g", ("n", 30))
    y = ad.cumulative_sum(x, axis=1)
    return Case([x, g], [y, ad.vjp([y], [x], [g])[0]])


def stencil() -> Case:
    x = ad.input("x", (20, 30))
    padded = ad.pad(x, ((1, 1), (1, 1)))
    y = padded[2:, 1:-1] + padded[:-2, 1:-1] + padded[1:-1, 2:] + padded[1:-1, :-2] - 4 * x
    return Case([x], [y, ad.grad(ad.sum(y * y), x)])


def neighbours() -> Case:
    """Loops in runs: what is read beside the present element is there in all steps but the first or the last."""
    x = ad.input("x", ("n",))
    padded = ad.pad(x, ((1, 1),))
    y = padded[2:] - 2.0 * x + padded[:-2]
    return Case([x], [y, ad.grad(ad.sum(y * y), x)])


def convolution() -> Case:
    x, w = ad.input("x", ("n", 6, 6, 8), "float32"), weights(2, 8, name="w")
    padded = ad.pad(x, ((0, 0), (1, 0), (0, 1), (0, 0)))
    y = padded[:, :-1, 1:] * w[0] + padded[:, 1:, :-1] * w[1]
    return Case([x], [y, ad.grad(ad.sum(y * y), x)])


def products() -> Case:
    x, g, w = ad.input("x", ("n", 5)), ad.input("g", ("n", 6)), ad.input("w", (6, 5))
    return Case([x, g, w], [x.T @ g, g @ w, w[::2] @ x.T, g[:, ::-1] @ w])


def scalars() -> Case:
    a, b = ad.input("a"), ad.input("b")
    y = a * b + ad.sin(a)
    return Case([a, b], [y, *ad.grad(y, [a, b])])


def swap() -> Case:
    a, b = weights(6, name="a"), weights(6, name="b")
    return Case([], ad.sum(a * b), {a: b, b: a})


def reverse() -> Case:
    a = weights(6, name="a")
    return Case([], ad.sum(a), {a: 2 * a[::-1]})


def adam() -> Case:
    x = ad.input("x", ("n", 3), "float32")
    w = weights(3, name="w")
    loss = ad.mean((x @ w) ** 2)
    return Case([x], loss, ad.optim.adam(loss, [w], lr=0.01))


def integers() -> Case:
    x = ad.input("x", ("n",), "int32")
    return Case([x], [(x * 2 + 1) // 3, x % 3, ad.maximum(x, 0) ** 2, ad.sum(x), x >> 1])


def reductions() -> Case:
    x = ad.input("x", ("n", 12))
    return Case([x], [ad.mean(x), ad.var(x, axis=0), ad.max(x, axis=1), ad.argmax(x, axis=1), ad.logsumexp(x, axis=1)])


def factors() -> Case:
    """A few rows are written out, also in a loop; of more, a library function makes the factors, once."""
    x, a, b = ad.input("x", (2, 2)), ad.input("a", ("n", "n")), ad.input("b", ("n",))
    step = ad.scan(lambda p, _: (ad.linalg.cholesky(p @ p.T + ad.eye(2)), None), x, length=3)
    solved = ad.linalg.solve(a + ad.eye(a.shape[0]) * 9, b)
    return Case([x, a, b], [step[0], solved, ad.grad(ad.sum(solved), b)])


def recurrence() -> Case:
    """A scan with its gradient: what its steps leave, and a scan over them backwards."""
    xs, a, b = ad.input("xs", ("n", 4)), ad.input("a", (4,)), ad.input("b", (4,))
    (last, _), ys = ad.scan(lambda s, x: ((s[0] * ad.cos(s[1]) + x, s[1] * ad.sin(s[0])), s[0] - s[1]), (a, b), xs)
    loss = ad.sum(last) + ad.sum(ys * ys)
    return Case([xs, a, b], [loss, *ad.grad(loss, [xs, a, b])])


def horner() -> Case:
    """A polynomial at many places, by a scan that needs one element alone, with its gradient by the coefficients."""
    t, c = ad.input("t", ("n",)), ad.input("c", (5,))
    y, _ = ad.scan(lambda y, a: (y * t + a, None), ad.zeros_like(t), c, reverse=True)
    loss = ad.sum(y * y)
    return Case([t, c], [loss, ad.grad(loss, c)])


def iteration() -> Case:
    """A loop of unknown length with its gradient: what its steps leave is on a tape."""
    x = ad.input("x", (4,))
    y = ad.while_loop(lambda y: ad.sum(y * y) > 1.0, lambda y: ad.sin(y) * x, x)
    return Case([x], [y, ad.grad(ad.sum(y), x)])


def split_iteration() -> Case:
    """One in several functions: the tape and the number of steps go from one to the next."""
    x = ad.input("x", (6,))
    y = ad.while_loop(lambda y: ad.sum(y * y) > 2.0, lambda y: ad.tanh(y) * x, x)
    return Case([x], [y, ad.grad(ad.sum(y), x)], part_weight=PART_WEIGHT)


def trips() -> Case:
    """Items with numbers of steps of their own, and their gradient: a tape for each run of the loop over items."""
    x, a = ad.input("x", ("n", 2)), ad.input("a", ())
    items = ad.map(lambda v: ad.while_loop(lambda y: ad.sum(y * y) < 9.0, lambda y: 1.5 * y + y * ad.exp(a * y), v), x)
    return Case([x, a], [items, *ad.grad(ad.sum(items * items), [x, a])])


def split_recurrence() -> Case:
    """Of a loop with much in a step, parts of the step are functions, which are told what step it is."""
    x, w = ad.input("x", (4,)), ad.input("w", (4, 4))

    def step(c: Any, _: Any) -> tuple[Any, Any]:
        for _ in range(3):
            c = ad.tanh(c @ w) + ad.mean(c)
        return c, c

    _, ys = ad.scan(step, x, None, length=5)
    return Case([x, w], [ys], part_weight=PART_WEIGHT)


def branches() -> Case:
    """Of a choice, one branch is computed, of its gradient too."""
    k, x = ad.input("k", (), "int64"), ad.input("x", ("n",))
    y = ad.switch(k % 3, [ad.sin, lambda x: x * ad.sum(x), lambda x: x], x)
    y = ad.cond(y[0] > 0, ad.exp, lambda y: y * 2, y)
    return Case([k, x], [y, ad.grad(ad.sum(y), x)])


def split() -> Case:
    x = ad.input("x", ("n", 4))
    y = x
    for k in range(4):
        y = ad.nn.softmax(y @ weights(4, 4, name=f"w{k}", dtype="float64"))
    return Case([x], y, part_weight=PART_WEIGHT)


# fmt: off
PROGRAMS: dict[str, Callable[[], Case]] = {
    program.__name__: program
    for program in (
        tiny, elementwise, chain, views, softmax, layer_norm, cross_entropy, mlp, attention, concat, gather_scatter,
        cumulative_sum, stencil, neighbours, convolution, products, scalars, swap, reverse, adam, integers, reductions,
        factors, recurrence, horner, iteration, split_iteration, trips, split_recurrence, branches, split,
    )
}
# fmt: on


def run(name: str) -> str:
    """Compile and call the program called ``name``, assert that it gives what `staticad.evaluate` gives; its source."""
    case, f = build(name, ad.compile)
    given = arrays(case.inputs)
    new = ad.evaluate([case.outputs, list(case.updates.values())], dict(zip(case.inputs, given, strict=True)))
    found = [f(*given), [p.value for p in case.updates]]
    for actual, expected in zip(leaves(found), leaves(new), strict=True):
        tolerance = 100 * np.finfo(expected.dtype).eps if expected.dtype.kind == "f" else 0
        assert actual.dtype == expected.dtype, name
        np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=name)
    return f.source
