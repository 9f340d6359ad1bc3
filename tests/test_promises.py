"""What the scheduler promises (ARCHITECTURE section 3), as counts of kernels, temporaries and bytes; no timings."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from programs import PROGRAMS, build, generate

import staticad as ad
from staticad import tiles
from staticad.function import Function
from staticad.ops import sources
from staticad.runtime import machine, settings
from staticad.runtime.functions import compiled
from staticad.shapes import evaluate
from staticad.store import dims_of


def inputs(*names_and_shapes: tuple[str, tuple[Any, ...]], dtype: str = "float64") -> list[ad.Tensor]:
    return [ad.input(name, shape, dtype) for name, shape in names_and_shapes]


def input_bytes(f: Function) -> Any:
    """Bytes of all inputs and parameters."""
    nodes = {x for x in f.graph.nodes if x.op in (sources.input_, sources.data)}
    return sum((x.type.size * x.dtype.itemsize for x in nodes), 0)


def output_bytes(f: Function) -> Any:
    """Bytes of all outputs but scalars: those a statement after the loops may write."""
    return sum((x.type.size * x.dtype.itemsize for x in f.graph.outputs if x.shape), 0)


def one_pass(f: Function) -> None:
    """One loop nest, nothing in the workspace, every array read or written once."""
    s = f.stats
    assert (s.kernels, s.temporaries, s.workspace_bytes) == (1, 0, 0), f.source
    assert s.bytes_read == input_bytes(f)
    assert s.bytes_written - output_bytes(f) in [8 * k for k in range(3)]


# 1: elementwise chains ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 7, 50, 200])
def test_a_chain_of_any_length_is_one_loop(length: int) -> None:
    (x,) = inputs(("x", ("n",)))
    y = x
    for k in range(length):
        y = ad.sin(y) * 1.5 if k % 3 == 0 else y - 0.25 if k % 3 == 1 else y * y + y
    f = generate([x], y)
    one_pass(f)
    assert f.stats.loops == 1


def test_a_chain_of_5000_is_one_loop() -> None:
    (x,) = inputs(("x", ("n",)))
    y = x
    for _ in range(2500):
        y = ad.sin(y) + 0.25
    one_pass(generate([x], y))


X, Y, ROW, COLUMN, Z, V = inputs(
    ("x", ("n", "m")), ("y", ("n", "m")), ("row", ("m",)), ("column", ("n",)), ("z", (20, 30)), ("v", (30,))
)
FUSED: dict[str, Callable[[], tuple[list[ad.Tensor], Any]]] = {
    "broadcast a row": lambda: ([X, ROW], ad.tanh(X * ROW + 1)),
    "broadcast a column": lambda: ([X, COLUMN], ad.exp(X) / COLUMN[:, None]),
    "outer": lambda: ([ROW, COLUMN], ad.exp(COLUMN[:, None] + ROW)),
    "broadcast to": lambda: ([ROW], ad.broadcast_to(ROW, (4, ROW.shape[0])) + ad.ones((4, 1)) / 3),
    "transpose": lambda: ([X], ad.exp(X.T) + 1),
    "transpose of a sum": lambda: ([X, Y], (X + Y).T * 2),
    "both ways": lambda: ([Z], Z[:20, :20] + Z[:20, :20].T),
    "slice": lambda: ([Z], ad.exp(Z[2:-2, 1::3]) * 2),
    "difference": lambda: ([Z], Z[1:] - Z[:-1]),
    "symbolic difference": lambda: ([X], (X[1:] - X[:-1]) ** 2),
    "flip": lambda: ([Z], ad.flip(Z, axis=1) * Z[::-1]),
    "pad": lambda: ([Z], ad.exp(ad.pad(Z, ((1, 2), (0, 3))))),
    "stencil": lambda: ([Z], ad.pad(Z, ((1, 1), (0, 0)))[2:] + ad.pad(Z, ((1, 1), (0, 0)))[:-2] - 2 * Z),
    "where": lambda: ([X, Y], ad.where(X > Y, ad.exp(X), Y * 2)),
    "clip": lambda: ([X], ad.clip(X, -1, 1) + ad.maximum(X, 0)),
    "repeat": lambda: ([Z], ad.repeat(Z, 3, axis=1) * 2),
    "tile": lambda: ([Z], ad.tile(Z, (2, 2)) + 1),
    "expand and squeeze": lambda: ([X], ad.squeeze(ad.expand_dims(ad.exp(X), axis=1), 1) + 1),
    "split axes": lambda: ([V], ad.exp(ad.reshape(V, (5, 6))).T),
    "reshape an input": lambda: ([Z], ad.exp(ad.reshape(Z, (30, 20)))),
    "stack": lambda: ([X, Y], ad.stack([X, ad.exp(Y)], axis=1)),
    "tril": lambda: ([Z], ad.tril(ad.exp(Z))),
    "several outputs": lambda: ([X, Y], [X + Y, X * Y, ad.exp(X)]),
    "integers": lambda: ([X], ad.astype(X, "int32") * 2 + ad.arange(X.shape[1], dtype="int32")),
}


@pytest.mark.parametrize("name", FUSED)
def test_views_are_read_in_the_loop(name: str) -> None:
    given, out = FUSED[name]()
    one_pass(generate(given, out))


def test_a_reshape_between_elementwise_ops_is_read_in_the_loop() -> None:
    one_pass(generate([Z], ad.reshape(ad.exp(Z), (600,)) * 2))


def test_concat_writes_each_element_once() -> None:
    f = generate([X, Y], ad.concat([X, Y], axis=0))
    assert f.stats.temporaries == 0
    assert f.stats.bytes_written == output_bytes(f)


def test_concat_in_a_row_is_one_nest_with_a_row_at_most() -> None:
    f = generate([X, Y], ad.concat([ad.exp(X), Y], axis=1) * 2)
    assert f.stats.kernels == 1
    assert "n" not in str(f.stats.workspace_bytes)


# 2: elementwise losses with their gradient ----------------------------------------------------------------------------

LOSSES: dict[str, Callable[[], tuple[list[ad.Tensor], ad.Tensor]]] = {
    "one input": lambda: ([X], ad.sum(ad.exp(-X * X) * ad.tanh(X) + ad.log1p(ad.exp(X)))),
    "two inputs": lambda: ([X, Y], ad.sum((X - Y) ** 2)),
    "mean": lambda: ([X, Y], ad.mean((X - Y) ** 2)),
    "several sums": lambda: ([X, Y], ad.sum((X - Y) ** 2) + 3 * ad.sum(ad.sin(X) * Y) - ad.sum(ad.abs(Y))),
    "huber": lambda: ([X, Y], ad.nn.huber_loss(X, Y)),
    "logistic": lambda: ([X, Y], ad.nn.binary_cross_entropy_with_logits(X, Y)),
    "transposed": lambda: ([X], ad.sum(ad.exp(X.T) * 2)),
    "gelu and silu": lambda: ([X], ad.sum(ad.nn.gelu(X) * ad.nn.silu(X))),
    "where": lambda: ([X, Y], ad.sum(ad.where(X > Y, ad.exp(X), Y * X))),
    "powers": lambda: ([X], ad.sum(X**3 - X**2 + ad.sqrt(X))),
}


@pytest.mark.parametrize("name", LOSSES)
def test_an_elementwise_loss_with_its_gradient_is_one_pass(name: str) -> None:
    given, loss = LOSSES[name]()
    one_pass(generate(given, [loss, *ad.grad(loss, given)]))


def test_a_function_of_one_sum_is_read_again_not_stored() -> None:
    """The gradient of ``log(sum(x * x))`` needs the sum first: two passes over x, still nothing stored."""
    loss = ad.log(ad.sum(X * X))
    s = generate([X], [loss, ad.grad(loss, X)]).stats
    assert (s.kernels, s.temporaries) == (2, 0)


def test_a_broadcast_operand_accumulates_its_gradient_in_the_same_loop() -> None:
    loss = ad.sum(ad.exp(X * ROW) + COLUMN[:, None] * X)
    f = generate([X, ROW, COLUMN], [loss, *ad.grad(loss, [X, ROW, COLUMN])])
    kernels = [k for k in f.kernels if k.loops > 1]
    assert len(kernels) == 1
    assert f.stats.temporaries == 0
    assert f.stats.bytes_read == input_bytes(f)


def test_a_long_elementwise_loss_with_its_gradient_is_one_pass() -> None:
    (x,) = inputs(("x", ("n",)))
    y = x
    for _ in range(100):
        y = ad.sin(y) * 1.5
    loss = ad.sum(y)
    one_pass(generate([x], [loss, ad.grad(loss, x)]))


# 3: rows --------------------------------------------------------------------------------------------------------------


def rows(*extra: str) -> list[ad.Tensor]:
    return inputs(("x", ("n", 50)), *((name, ("n", 50)) for name in extra), dtype="float32")


def with_vjp(function: Callable[[ad.Tensor], ad.Tensor], *params: Any) -> Function:
    x, g = rows("g")
    y = function(x)
    return generate([x, g], [y, *ad.vjp([y], [x, *params], [g])])


WEIGHT, BIAS = ad.parameter(np.ones(50, "float32"), name="w"), ad.parameter(np.ones(50, "float32"), name="b")


def cross_entropy(**options: Any) -> Function:
    (x,) = rows()
    labels = ad.input("labels", ("n",), "int64")
    loss = ad.nn.cross_entropy(x, labels, **options)
    return generate([x, labels], [loss, ad.grad(loss, x)])


def soft_labels() -> Function:
    x, p = rows("p")
    loss = ad.nn.cross_entropy(x, p)
    return generate([x, p], [loss, ad.grad(loss, x)])


def log_sum_exp() -> Function:
    (x,) = rows()
    loss = ad.sum(ad.logsumexp(x, axis=1))
    return generate([x], [loss, ad.grad(loss, x)])


def normed_with_weights() -> Function:
    return with_vjp(lambda x: ad.nn.layer_norm(x, WEIGHT, BIAS), WEIGHT, BIAS)


def norm_loss() -> Function:
    (x,) = rows()
    loss = ad.sum(ad.nn.softmax(ad.nn.layer_norm(x)) ** 2)
    return generate([x], [loss, ad.grad(loss, x)])


def joined_rows() -> Function:
    x, g = rows("g")
    y = ad.nn.log_softmax(x)
    return generate([x, g], ad.vjp([y], [x], [g])[0])


# fmt: off
ROWS: dict[str, Callable[[], Function]] = {
    "softmax":                 lambda: with_vjp(ad.nn.softmax),
    "log_softmax":             lambda: with_vjp(ad.nn.log_softmax),
    "log_softmax vjp only":    joined_rows,
    "logsumexp":               log_sum_exp,
    "logsumexp vjp":           lambda: with_vjp(lambda x: x - ad.logsumexp(x, axis=1, keepdims=True)),
    "layer_norm":              lambda: with_vjp(ad.nn.layer_norm),
    "layer_norm with weights": normed_with_weights,
    "rms_norm":                lambda: with_vjp(lambda x: ad.nn.rms_norm(x, WEIGHT), WEIGHT),
    "cross_entropy":           cross_entropy,
    "cross_entropy smooth":    lambda: cross_entropy(label_smoothing=0.1),
    "cross_entropy sum":       lambda: cross_entropy(reduction="sum"),
    "cross_entropy soft":      soft_labels,
    "norm of norm":            norm_loss,
    "cumulative sum":          lambda: with_vjp(lambda x: ad.cumulative_sum(ad.exp(x), axis=1)),
    "max":                     lambda: with_vjp(lambda x: x - ad.max(x, axis=1, keepdims=True)),
    "standardized":            lambda: with_vjp(lambda x: x / ad.std(x, axis=1, keepdims=True)),
}
# fmt: on


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_one_outer_loop_without_a_full_temporary(name: str) -> None:
    f = ROWS[name]()
    over_rows = [k for k in f.kernels if "range(n)" in k.text.splitlines()[0]]
    assert len(over_rows) == 1, f.source
    assert "n" not in str(f.stats.workspace_bytes), f.source
    others = [k for k in f.kernels if k not in over_rows]
    assert all(k.loops == 1 and k.reads == 0 for k in others), "only starts of column sums stand outside"


def test_rows_are_read_from_memory_once() -> None:
    for name in ("softmax", "layer_norm", "layer_norm with weights", "cross_entropy"):
        f = ROWS[name]()
        assert f.stats.bytes_read == input_bytes(f), name


def test_attention_keeps_only_what_the_last_products_read() -> None:
    """From scores to their gradient one loop over blocks of rows; of size n*t is what products over all rows read."""
    _, f = build("attention")
    assert sum(k.loops > 0 for k in f.kernels) == 1
    whole = re.findall(r"^    (\w+) = m\.slot_\w+\(.*\(n, t\)\)", f.source, re.MULTILINE)
    called = "\n".join(line for line in f.source.splitlines() if line.startswith("    m.contract("))
    assert len(whole) == 2
    assert all(name in called for name in whole)


# 4: the epilogue of a product runs while a block of it is in cache ----------------------------------------------------


def test_a_dense_layer_keeps_one_block_of_its_product() -> None:
    x, w, b = inputs(("x", ("n", 64)), ("w", (64, 64)), ("b", (64,)))
    s = generate([x, w, b], ad.tanh(x @ w + b)).stats
    assert s.kernels == 1
    assert isinstance(s.workspace_bytes, int) and s.workspace_bytes <= tiles.BLOCK


def test_the_training_step_of_a_perceptron_is_one_pass_over_the_batch() -> None:
    """Forward, backward and the sums for the weights' gradients: no temporary as long as the batch."""
    _, f = build("mlp")
    assert sum("batch" in k.text for k in f.kernels) == 1
    assert "batch" not in str(f.stats.workspace_bytes)


def test_the_least_over_a_product_never_stores_it() -> None:
    """As in k-means: the distances of all points to all centres exist for one block of points."""
    p, c = inputs(("p", ("n", 8)), ("c", (100, 8)))
    away = ad.sum(p * p, axis=1)[:, None] - 2.0 * (p @ c.T) + ad.sum(c * c, axis=1)
    s = generate([p, c], [ad.sum(ad.min(away, axis=1)), ad.argmin(away, axis=1)]).stats
    assert isinstance(s.workspace_bytes, int)
    slope = generate([p, c], ad.grad(ad.sum(ad.min(away, axis=1)), [c])).stats
    assert isinstance(slope.workspace_bytes, int)


# 5: nothing is copied for a product -----------------------------------------------------------------------------------

M, G, W = inputs(("x", ("n", 50)), ("g", ("n", 10)), ("w", (50, 10)))
BATCH, KERNEL = inputs(("batch", ("b", 8, 6)), ("kernel", (6, 5)))
PRODUCTS: dict[str, Callable[[], tuple[list[ad.Tensor], ad.Tensor]]] = {
    "x.T @ g": lambda: ([M, G], M.T @ G),
    "g @ w.T": lambda: ([G, W], G @ W.T),
    "x[::2] @ v": lambda: ([Z, V], Z[::2] @ V),
    "strided both": lambda: ([Z], Z[::2, ::3] @ Z[:10, ::2][:, :10]),
    "flipped": lambda: ([Z, V], Z[::-1] @ V[::-1]),
    "broadcast": lambda: ([Z, V], ad.broadcast_to(Z[:1], (20, 30)) @ V),
    "row": lambda: ([M, W], M[0] @ W),
    "column": lambda: ([M, W], M @ W[:, 3]),
    "batched with one matrix": lambda: ([BATCH, KERNEL], BATCH @ KERNEL),
    "batch transposed": lambda: ([BATCH], BATCH.mT @ BATCH),
    "einsum": lambda: ([BATCH, KERNEL], ad.einsum("bij,jk->bki", BATCH, KERNEL)),
    "outer": lambda: ([V], ad.outer(V, V)),
    "tensordot": lambda: ([BATCH, KERNEL], ad.tensordot(BATCH, KERNEL, axes=([2], [0]))),
    "reshaped": lambda: ([V], ad.reshape(V, (5, 6)) @ ad.reshape(V, (6, 5))),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_operands_of_products_are_not_copied(name: str) -> None:
    given, out = PRODUCTS[name]()
    s = generate(given, out).stats
    assert s.temporaries == 0
    assert s.workspace_bytes == 0


def test_gradients_of_a_product_are_two_products() -> None:
    y = M @ W
    f = generate([M, W, G], ad.vjp([y], [M, W], [G]))
    assert f.source.count("m.contract(") == 2
    assert f.stats.temporaries == 0


# 7: one workspace, no larger than what lives at once ------------------------------------------------------------------


def random_program(seed: int) -> Function:
    """Products and sums of random sizes with values that live long and short."""
    rng = np.random.default_rng(seed)
    (x,) = inputs(("x", (int(rng.integers(1, 40)), int(rng.integers(1, 40)))))
    values = [x]
    for _ in range(int(rng.integers(3, 25))):
        y = values[int(rng.integers(len(values)))]
        w = ad.constant(np.ones((y.shape[1], int(rng.integers(1, 60)))))
        values.append(ad.tanh(y) @ w if rng.random() < 0.6 else y - ad.mean(y) * ad.max(y @ w))
    return generate([x], sum((ad.sum(v @ ad.constant(np.ones((v.shape[1], 1)))) for v in values[-4:]), ad.sum(x)))


@pytest.mark.parametrize("seed", range(25))
def test_the_workspace_is_the_liveness_bound(seed: int) -> None:
    s = random_program(seed).stats
    assert s.workspace_bytes == s.liveness_bytes


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_workspace_of_symbolic_sizes_is_near_the_bound(name: str) -> None:
    """Where the symbolic sizes are large; buffers of static size lie apart from those of symbolic size."""
    _, f = build(name)
    s = f.stats
    sizes = {d.name: 1000 for d in dims_of(f.graph)}
    work, live = evaluate(s.workspace_bytes, sizes), evaluate(s.liveness_bytes, sizes)
    assert live <= work <= 1.1 * live


def test_a_deep_chain_of_products_reuses_two_buffers() -> None:
    (x,) = inputs(("x", ("n", 16)))
    y = x
    for _ in range(20):
        y = ad.tanh(y @ ad.constant(np.ones((16, 16))))
    s = generate([x], y).stats
    assert s.workspace_bytes == s.liveness_bytes
    assert s.workspace_bytes == 2 * 16 * 8 * tiles.MOST


def test_what_a_result_is_made_of_element_by_element_lies_in_its_memory() -> None:
    (x,) = inputs(("x", ("n",)))
    total = ad.logsumexp(x)
    f = generate([x], [total, ad.grad(total, x)])  # the exponentials are read again when their sum is known
    assert f.stats.workspace_bytes == 0
    reverse = ad.exp(x)
    g = generate([x], ad.flip(reverse) * ad.sum(reverse))  # read from elsewhere: not there
    assert evaluate(g.stats.workspace_bytes, {"n": 64}) >= 64 * 8
    given, out = np.linspace(-1, 1, 64), np.empty(64)
    native = ad.compile([x], ad.flip(reverse) * ad.sum(reverse))
    np.testing.assert_allclose(native(given, out=out), np.exp(given)[::-1] * np.exp(given).sum(), rtol=1e-14)


# types stay narrow ----------------------------------------------------------------------------------------------------


def float32_program() -> tuple[list[ad.Tensor], list[ad.Tensor]]:
    (x,) = inputs(("x", ("n",)), dtype="float32")
    one_operand = [
        ad.sin, ad.exp, ad.log1p, ad.sqrt, ad.square, ad.floor, ad.round, ad.sign, ad.abs, ad.nn.gelu, ad.nn.silu,
        ad.nn.softplus, ad.nn.sigmoid, ad.nn.relu, ad.special.erf, ad.cumulative_sum, ad.sum, ad.mean, ad.var, ad.max,
        ad.prod, ad.logsumexp,
    ]  # fmt: skip
    outs = [f(x) for f in one_operand]
    outs += [
        x * 2 + 1,
        1 / x,
        x**2,
        x**0.5,
        2**x,
        x // 2,
        x % 3,
        ad.clip(x, 0, 1),
        ad.where(x > 0, x, 0),
        ad.logaddexp(x, 1),
    ]
    outs += [x * ad.arange(x.shape[0], dtype="float32"), ad.linspace(0, 1, 5, dtype="float32") * 2]
    loss = sum((ad.sum(y) for y in outs), ad.sum(x))
    return [x], [*outs, ad.grad(loss, x)]


def test_float32_stays_float32_in_the_text() -> None:
    f = generate(*float32_program())
    assert all(x.dtype != np.float64 for x in f.graph.nodes)
    assert not re.search(r"\bf8\b", f.source)
    tree = ast.parse(f.source)
    for call in ast.walk(tree):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "f4":
            call.args = []
    bare = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, float)]
    assert not bare, "every number is an f4"
    assert "np.inf" not in ast.unparse(tree)


@pytest.mark.skipif(settings.plain(), reason="plain Python has no types")
def test_float32_stays_float32_in_native_code() -> None:
    (x,) = given = inputs(("x", ("n",)), dtype="float32")
    loss = ad.mean(ad.sqrt(x * x + 1) / (2 - x) + ad.clip(x, 0, 1) * ad.arange(x.shape[0], dtype="float32"))
    outs = [loss, ad.grad(loss, x), ad.cumulative_sum(x), ad.max(x), ad.where(x > 0, x, 0), x * x * x]
    native = ad.compile(given, outs).compiled.native
    main = native.module.main
    text, _ = compiled(lambda module: main.define(module, native.symbol), native.symbol, main.py_func)
    assert not re.search(r"\bdouble\b", str(machine.optimised(text)))


def test_integers_stay_integers() -> None:
    (x,) = inputs(("x", ("n",)), dtype="int32")
    outs = [
        x * 2 + 1,
        x // 3,
        x % 3,
        abs(x),
        x**2,
        x >> 1,
        ad.maximum(x, 0),
        ad.sum(x),
        ad.cumulative_sum(x),
        ad.sign(x),
    ]
    f = generate([x], outs)
    assert all(node.dtype.kind in "ib" for node in f.graph.nodes)
    assert not re.search(r"\bf[48]\b|\d\.\d", f.source.split('"""')[2])
