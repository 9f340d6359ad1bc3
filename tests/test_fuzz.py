"""Differential fuzzing: random graphs and their gradients, compiled, against each op's NumPy meaning."""

from __future__ import annotations

import random

import numpy as np
import pytest

from staticad import tiles
from staticad.autodiff import vjp_nodes
from staticad.interpret import bind, interpret
from staticad.ir import ArrayType, Graph, Node
from staticad.ops import (
    arithmetic,
    creation,
    indexing,
    logic,
    products,
    reductions,
    scatter,
    sources,
    transcendental,
    views,
)
from staticad.pipeline import compile_nodes
from staticad.runtime.call import Caller, Target
from staticad.shapes import Dim, dim

F8 = np.dtype("float64")
SIZES = {"n": 5, "k": 3}


def new_input(name: str, shape: tuple[Dim, ...], dtype: np.dtype = F8) -> Node:
    return sources.input_(name=name, source=object(), type=ArrayType(dtype, shape))


class RandomGraph:
    """Grows a graph one random op at a time; every value is float64 and tame."""

    def __init__(self, seed: int):
        self.r = random.Random(seed)
        n, k = dim("n"), dim("k")
        self.inputs = [
            new_input("x", (n, 4)),
            new_input("y", (4,)),
            new_input("z", (n, k)),
            new_input("w", (4, 3)),
            new_input("s", ()),
        ]
        self.index = new_input("p", (n,), np.dtype("int64"))
        self.pool: list[Node] = list(self.inputs)

    def pick(self, minimum: int = 0) -> Node:
        found = [x for x in self.pool if len(x.shape) >= minimum]
        return self.r.choice(found[-6:] if self.r.random() < 0.6 else found)

    def grow(self) -> None:
        for _ in range(50):
            rule = self.r.choice(
                [self.unary, self.unary, self.binary, self.binary, self.binary, self.reduce, self.spread, self.turn]
                + [self.cut, self.fill, self.shape, self.join, self.gather, self.scatter, self.scan, self.product]
                + [self.choose, self.along]
            )
            out = rule()
            if out is not None and all(len(out.shape) <= 4 for _ in [0]):
                self.pool.append(out)
                return

    def unary(self) -> Node:
        x = self.pick()
        op = self.r.choice([transcendental.sin, transcendental.tanh, arithmetic.negative, "square", "plus"])
        if op == "square":
            return transcendental.tanh(x * x)
        if op == "plus":
            return x * 0.5 + 1.0
        return op(x)

    def binary(self) -> Node | None:
        x = self.pick()
        y = next((y for y in self.r.sample(self.pool, len(self.pool)) if y.shape == x.shape), x)
        op = self.r.choice([arithmetic.add, arithmetic.subtract, arithmetic.multiply, arithmetic.maximum, "div"])
        return x / (y * y + 1.0) if op == "div" else op(x, y)

    def choose(self) -> Node:
        x = self.pick()
        return logic.select(logic.greater(x, creation.fill(x, 0)), x, x * 0.25)

    def reduce(self) -> Node | None:
        x = self.pick(1)
        axes = tuple(sorted(self.r.sample(range(len(x.shape)), self.r.randint(1, len(x.shape)))))
        if self.r.random() < 0.7:
            return reductions.sum_(x, axes=axes) * 0.3
        return self.r.choice([reductions.max_, reductions.min_])(x, axes=axes)

    def spread(self) -> Node | None:
        x = self.pick()
        y = self.pick(1)
        rank = len(y.shape)
        if len(x.shape) > rank:
            return None
        for _ in range(6):
            axes = tuple(sorted(self.r.sample(range(rank), len(x.shape))))
            if all(a == 1 or a == y.shape[b] for a, b in zip(x.shape, axes, strict=True)):
                return views.broadcast(x, shape=y.shape, axes=axes) * y
        return None

    def turn(self) -> Node:
        x = self.pick(2)
        axes = list(range(len(x.shape)))
        self.r.shuffle(axes)
        return views.transpose(x, axes=tuple(axes))

    def cut(self) -> Node | None:
        x = self.pick(1)
        start, size, step = [], [], []
        for d in x.shape:
            kind = self.r.randint(0, 3)
            if kind == 1:
                start.append(d - 1), size.append(d), step.append(-1)
            elif kind == 2 and isinstance(d, int) and d > 2:
                start.append(1), size.append((d - 1 + 1) // 2), step.append(2)
            elif kind == 3 and d != 1 and d != 0:
                start.append(1), size.append(d - 1), step.append(1)
            else:
                start.append(0), size.append(d), step.append(1)
        if any(isinstance(d, int) and d <= 0 for d in size):
            return None
        return views.slice_(x, start=tuple(start), size=tuple(size), step=tuple(step))

    def fill(self) -> Node:
        x = self.pick(1)
        rank = range(len(x.shape))
        low, high, step = (tuple(self.r.randint(0, 2) for _ in rank) for _ in range(3))
        return views.pad(x, low=low, high=high, step=tuple(max(1, s) for s in step), fill=0.5)

    def shape(self) -> Node | None:
        x = self.pick(1)
        if len(x.shape) >= 2 and self.r.random() < 0.6:
            at = self.r.randrange(len(x.shape) - 1)
            return views.reshape(x, shape=(*x.shape[:at], x.shape[at] * x.shape[at + 1], *x.shape[at + 2 :]))
        at = self.r.randrange(len(x.shape))
        d = x.shape[at]
        if isinstance(d, int) and d % 2 == 0 and d:
            return views.reshape(x, shape=(*x.shape[:at], 2, d // 2, *x.shape[at + 1 :]))
        return views.reshape(x, shape=(*x.shape[:at], 1, *x.shape[at:]))

    def join(self) -> Node | None:
        x = self.pick(1)
        others = [y for y in self.pool if len(y.shape) == len(x.shape) and y.shape[1:] == x.shape[1:]]
        y = self.r.choice(others)
        total = x.shape[0] + y.shape[0]
        out = indexing.uninitialised(shape=(total, *x.shape[1:]), dtype=F8)
        rest = (0,) * (len(x.shape) - 1)
        ones = (1,) * len(x.shape)
        out = indexing.update_slice(out, x, start=(0, *rest), step=ones)
        return indexing.update_slice(out, y, start=(x.shape[0], *rest), step=ones)

    def gather(self) -> Node | None:
        x = self.pick(1)
        n = dim("n")
        axes = [a for a, d in enumerate(x.shape) if d == n]
        return indexing.gather(x, self.index, axes=(axes[0],), at=axes[0]) if axes else None

    def scatter(self) -> Node | None:
        x = self.pick(1)
        n = dim("n")
        axes = [a for a, d in enumerate(x.shape) if d == n]
        if not axes:
            return None
        op = self.r.choice([scatter.scatter_add, scatter.scatter_set])
        if op is scatter.scatter_set:  # duplicates leave the order open
            return indexing.update_slice(x, x * 0.5, start=(0,) * len(x.shape), step=(1,) * len(x.shape))
        return op(x, transcendental.sin(x), self.index, axes=(axes[0],), at=axes[0])

    def along(self) -> Node | None:
        x = self.pick(2)
        n = dim("n")
        if x.shape[0] != n or len(x.shape) != 2:
            return None
        index = views.reshape(self.index, shape=(n, 1))
        return None if x.shape[1] != n else indexing.take_along_axis(x * 1.5, index, axis=1)

    def scan(self) -> Node:
        x = self.pick(1)
        axis = self.r.randrange(len(x.shape))
        op = self.r.choice([reductions.cumsum, reductions.cumprod])
        return op(transcendental.tanh(x), axis=axis) * 0.4

    def product(self) -> Node | None:
        x = self.pick(1)
        letters = "abcd"[: len(x.shape)]
        at = self.r.randrange(len(x.shape))
        partners = [y for y in self.pool if 0 < len(y.shape) <= 2 and x.shape[at] in y.shape]
        if not partners:
            return None
        y = self.r.choice(partners)
        b = y.shape.index(x.shape[at])
        other = "".join(letters[at] if k == b else "z" for k in range(len(y.shape)))
        out = [c for c in dict.fromkeys(letters + other) if c != letters[at]]
        self.r.shuffle(out)
        return products.contract(x, y, spec=f"{letters},{other}->{''.join(out)}") * 0.2


def arrays_for(inputs: list[Node], sizes: dict[str, int], seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = []
    for x in inputs:
        shape = tuple(d if isinstance(d, int) else sizes[str(d)] for d in x.shape)
        if x.dtype.kind == "i":
            found.append(rng.integers(-sizes["n"], sizes["n"], shape))
        else:
            found.append(rng.normal(size=shape))
    return found


def run_compiled(inputs: list[Node], outputs: list[Node], arrays: list[np.ndarray]) -> list[np.ndarray]:
    c = compile_nodes(inputs, outputs, {}, "fuzz")
    target = Target(
        "fuzz", c.native, [(x.params["name"], x.type) for x in inputs], [s.array for s in c.hidden],
        [s.array for s in c.written], [x.type for x in outputs], c.failures, c.plan.work_bytes,
    )  # fmt: skip
    return Caller(target)(arrays)


def check(seed: int, steps: int, sizes: dict[str, int] = SIZES) -> None:
    graph = RandomGraph(seed)
    for _ in range(steps):
        graph.grow()
    outputs = graph.pool[-3:]
    seeds = [creation.fill(x, 1) * 0.7 for x in outputs]
    grads = vjp_nodes(outputs, graph.inputs, seeds)
    inputs = [*graph.inputs, graph.index]
    wanted = [*outputs, *grads]
    arrays = arrays_for(inputs, sizes, seed)
    declared = [(x.params["name"], x.shape, a.shape) for x, a in zip(inputs, arrays, strict=True)]
    expected = interpret(wanted, dict(zip(inputs, arrays, strict=True)), bind(declared))
    found = run_compiled(inputs, wanted, arrays)
    for k, (e, f) in enumerate(zip(expected, found, strict=True)):
        where = f"output {k} of\n{Graph(tuple(inputs), tuple(wanted))}"
        np.testing.assert_allclose(f, e, rtol=1e-8, atol=1e-8, err_msg=where)


def check_updates(seed: int, steps: int) -> None:
    """Parameters replaced by random functions of each other, all from the old values, whatever is done in place."""
    r = random.Random(seed)
    rng = np.random.default_rng(seed)
    graph = RandomGraph(seed)
    shapes = [(5, 4), (4,), (5, 4), (4, 5), ()]
    stores = [sources.Storage(rng.normal(size=shape), f"p{k}") for k, shape in enumerate(shapes)]
    parameters = [sources.data(storage=s) for s in stores]
    graph.inputs, graph.pool = parameters, list(parameters)
    index = sources.data(storage=sources.Storage(rng.integers(-5, 5, 5)))
    graph.index = views.slice_(index, start=(0,), size=(5,), step=(1,))
    for _ in range(steps):
        graph.grow()
    updates = {}
    for p in r.sample(parameters, 4):
        same = [x for x in graph.pool if x.shape == p.shape and x is not p]
        if same:
            updates[p] = r.choice(same)
    out = graph.pool[-1]
    expected = [np.array(a) for a in interpret([out, *updates.values()], {}, {})]
    c = compile_nodes([], [out], updates, "fuzz")
    target = Target(
        "fuzz", c.native, [], [s.array for s in c.hidden], [s.array for s in c.written], [out.type], c.failures,
        c.plan.work_bytes,
    )  # fmt: skip
    found = Caller(target)([])
    for e, f in zip(expected, [*found, *(p.params["storage"].array for p in updates)], strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-8, atol=1e-8, err_msg=str(Graph((), (out, *updates.values()))))


@pytest.mark.parametrize("seed", range(6))
def test_random_updates(seed: int) -> None:
    check_updates(seed, 2 + seed)


@pytest.mark.parametrize("seed", range(12))
def test_random_graph(seed: int) -> None:
    check(seed, 4 + seed % 9)


@pytest.mark.parametrize("seed", range(3))
def test_random_graph_of_size_one(seed: int) -> None:
    check(1000 + seed, 6, {"n": 1, "k": 1})


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of every size are cut, into blocks of two rows: less than what is there, which they do not divide."""
    for name, value in {"SMALL": -1, "TINY": 0, "FEWEST": 2, "MOST": 2}.items():
        monkeypatch.setattr(tiles, name, value)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(20, 28))
def test_random_graph_in_blocks(seed: int) -> None:
    check(seed, 6 + seed % 9)


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(20, 24))
def test_random_updates_in_blocks(seed: int) -> None:
    check_updates(seed, 4)


@pytest.mark.slow
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", range(300, 400))
def test_random_graph_in_blocks_at_length(seed: int) -> None:
    check(seed, 6 + seed % 14)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 300))
def test_random_graph_at_length(seed: int) -> None:
    check(seed, 3 + seed % 14)
