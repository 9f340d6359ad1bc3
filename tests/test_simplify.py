"""Every rule of `staticad.simplify` fires, as text: graph before, graph after; and changes no value, 0, inf and nan included."""

# ruff: noqa: E501  (a table of cases)

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import evaluated
from test_small_matrices import SHOWN
from test_stable import CASES as INEXACT
from test_stable import ROW_TEXTS

from staticad.autodiff import pull
from staticad.dtypes import as_dtype
from staticad.ir import ArrayType, Cell, Graph, Node, verify
from staticad.ops import (
    arithmetic,
    calls,
    creation,
    indexing,
    logic,
    products,
    reductions,
    sources,
    transcendental,
    views,
)
from staticad.simplify import REDUCTIONS, RULES, simplify

NAMED = {rule.__name__: rule for found in RULES.values() for rule in found}
#: What floats are tried on; integers and bools are cast from the finite ones.
SPECIALS = [0.0, -0.0, 1.0, -1.0, 2.5, -3.0, np.inf, -np.inf, np.nan, 5e-324, 1e308, -0.5]


def source(name: str, shape: tuple[Any, ...] = (12,), dtype: str = "float64") -> Node:
    node = sources.input_(name=name, source=object(), type=ArrayType(as_dtype(dtype), shape))
    node.name = name
    node.requires_grad = node.dtype.kind == "f"
    return node


X, Y, M, S = source("x"), source("y"), source("m", (3, 4)), source("s", (1, 12))
I, J, B, C = (
    source("i", dtype="int32"),
    source("j", dtype="int32"),
    source("b", dtype="bool"),
    source("c", dtype="bool"),
)
F = source("f", dtype="float32")
D = source("d", (3, 4), "bool")
OF_BOOLS = {reductions.all_: D, reductions.any_: D}
A = arithmetic


def const(value: float, like: Node = X) -> Node:
    return creation.fill(like, value)


def astype(x: Node, dtype: str) -> Node:
    return creation.astype(x, dtype=as_dtype(dtype))


@dataclass(frozen=True)
class Case:
    """``build()`` is what the rule rewrites, ``text`` its one-line result (the graph after, without its first line)."""

    rule: str
    build: Callable[[], Node]
    text: str
    exact: bool = True  # else but for the sign of zero: a sum starts from 0.0, and 0.0 + -0.0 is 0.0


def region(start: int, size: int, step: int = 1) -> dict[str, Any]:
    return {"start": (start,), "size": (size,), "step": (step,)}


def padded(low: int = 2, high: int = 1, step: int = 1, x: Node = X, fill: float = 0.0) -> Node:
    return views.pad(x, low=(low,), high=(high,), step=(step,), fill=fill)


def row(x: Node, n: int = 5) -> Node:
    return views.broadcast(x, shape=(n, 12), axes=(1,))


def turned(x: Node) -> Node:
    return views.transpose(x, axes=(1, 0))


def empty() -> Node:
    return indexing.uninitialised(shape=(12,), dtype=as_dtype("float64"))


def updated(base: Node, x: Node, start: int) -> Node:
    return indexing.update_slice(base, x, start=(start,), step=(1,))


SHORT, LONG = source("short", (4,)), source("long", (12,))

# fmt: off
CASES = [
    Case("drop", lambda: sources.leaf(X, cell=Cell()), "return x"),
    Case("drop", lambda: sources.stop_gradient(X), "return x"),
    Case("drop", lambda: sources.nonempty(X, axes=(0,), what="max"), "return x"),
    Case("drop", lambda: calls.checkpointed([Y], lambda y: [X])[0], "return x"),
    Case("after_constants", lambda: calls.after(X, const(1.0), row(const(2.0))), "return x"),
    Case("after_constants", lambda: calls.after(const(1.0), X), "%0: f64[12] = full(value=1.0, shape=(12,), dtype=float64); return %0"),
    Case("drop_same_shape", lambda: sources.assume_shape(X, shape=(12,)), "return x"),
    Case("multiply_by_one", lambda: X * 1, "return x"),
    Case("multiply_by_one", lambda: 1 * I, "return i"),
    Case("multiply_by_minus_one", lambda: X * -1, "%1: f64[12] = negative(x); return %1"),
    Case("multiply_by_minus_one", lambda: -1 * I, "%1: i32[12] = negative(i); return %1"),
    Case("multiply_by_zero", lambda: I * 0, "%0: i32[12] = full(value=0, shape=(12,), dtype=int32); return %0"),
    Case("multiply_by_zero", lambda: A.multiply(B, const(False, B)), "%0: b1[12] = full(value=False, shape=(12,), dtype=bool); return %0"),
    Case("multiply_negatives", lambda: -X * -Y, "%2: f64[12] = multiply(x, y); return %2"),
    Case("divide_by_one", lambda: X / 1, "return x"),
    Case("divide_by_power_of_two", lambda: X / 8, "%1: f64[12] = full(value=0.125, shape=(12,), dtype=float64); %2: f64[12] = multiply(x, %1); return %2"),
    Case("divide_by_power_of_two", lambda: F / -0.5, "%1: f32[12] = full(value=-2.0, shape=(12,), dtype=float32); %2: f32[12] = multiply(f, %1); return %2"),
    Case("add_zero", lambda: X + -0.0, "return x"),
    Case("add_zero", lambda: 0 + I, "return i"),
    Case("add_negative", lambda: X + -Y, "%2: f64[12] = subtract(x, y); return %2"),
    Case("add_negative", lambda: -Y + X, "%2: f64[12] = subtract(x, y); return %2"),
    Case("subtract_zero", lambda: X - 0.0, "return x"),
    Case("subtract_zero", lambda: I - 0, "return i"),
    Case("subtract_negative", lambda: X - (-Y), "%2: f64[12] = add(x, y); return %2"),
    Case("subtract_from_zero", lambda: -0.0 - X, "%1: f64[12] = negative(x); return %1"),
    Case("subtract_from_zero", lambda: 0 - I, "%1: i32[12] = negative(i); return %1"),
    Case("subtract_itself", lambda: I - I, "%0: i32[12] = full(value=0, shape=(12,), dtype=int32); return %0"),
    Case("negative_undone", lambda: -A.negative(X), "return x"),
    Case("abs_of_negative", lambda: A.abs_(-X), "%1: f64[12] = abs(x); return %1"),
    Case("square_of_negative", lambda: A.square(-X), "%1: f64[12] = square(x); return %1"),
    Case("square_of_abs", lambda: A.square(A.abs_(I)), "%1: i32[12] = square(i); return %1"),
    *[Case(f"{op.name}_twice", lambda op=op: op(op(X)), f"%1: f64[12] = {op.name}(x); return %1") for op in (A.floor, A.ceil, A.trunc, A.round_, A.sign, A.relu, A.abs_)],
    Case("power_of_constant", lambda: transcendental.pow_(X, const(0)), "%0: f64[12] = full(value=1.0, shape=(12,), dtype=float64); return %0"),
    Case("power_of_constant", lambda: transcendental.pow_(X, const(1)), "return x"),
    Case("power_of_constant", lambda: transcendental.pow_(X, const(2)), "%1: f64[12] = square(x); return %1"),
    Case("power_of_constant", lambda: transcendental.pow_(I, const(2, I)), "%1: i32[12] = square(i); return %1"),
    Case("power_of_constant", lambda: transcendental.pow_(I, const(3, I)), "%1: i32[12] = square(i); %2: i32[12] = multiply(i, %1); return %2"),
    Case("multiply_by_itself", lambda: X * X, "%1: f64[12] = square(x); return %1"),
    Case("multiply_by_itself", lambda: I * I, "%1: i32[12] = square(i); return %1"),
    Case("abs_of_positive", lambda: A.abs_(A.square(X)), "%1: f64[12] = square(x); return %1"),
    Case("abs_of_positive", lambda: A.abs_(transcendental.exp(X)), "%1: f64[12] = exp(x); return %1"),
    Case("power_of_constant", lambda: transcendental.pow_(X, const(-1)), "%1: f64[12] = reciprocal(x); return %1"),
    *[Case(f"{op.name}_of_same", lambda op=op, x=x: op(x, x), f"return {x.name}")
      for op, x in ((A.maximum, X), (A.minimum, X), (logic.bitwise_and, I), (logic.bitwise_or, I), (logic.logical_and, B), (logic.logical_or, B))],
    *[Case(f"{op.name}_itself", lambda op=op: op(X, X), "%0: b1[12] = full(value=False, shape=(12,), dtype=bool); return %0")
      for op in (logic.less, logic.greater)],
    *[Case(f"{op.name}_itself", lambda op=op: op(I, I), f"%0: b1[12] = full(value={op is not logic.not_equal}, shape=(12,), dtype=bool); return %0")
      for op in (logic.equal, logic.not_equal, logic.less_equal, logic.greater_equal)],
    Case("logical_not_undone", lambda: logic.logical_not(logic.logical_not(B)), "return b"),
    Case("bitwise_invert_undone", lambda: logic.bitwise_invert(logic.bitwise_invert(I)), "return i"),
    Case("not_equal", lambda: logic.logical_not(logic.equal(X, Y)), "%2: b1[12] = not_equal(x, y); return %2"),
    Case("not_not_equal", lambda: logic.logical_not(logic.not_equal(X, Y)), "%2: b1[12] = equal(x, y); return %2"),
    *[Case(f"not_{op.name}", lambda op=op: logic.logical_not(op(I, J)), f"%2: b1[12] = {opposite}(i, j); return %2")
      for op, opposite in ((logic.less, "greater_equal"), (logic.less_equal, "greater"), (logic.greater, "less_equal"), (logic.greater_equal, "less"))],
    Case("and_true", lambda: logic.logical_and(B, const(True, B)), "return b"),
    Case("or_false", lambda: logic.logical_or(const(False, B), B), "return b"),
    Case("and_false", lambda: logic.logical_and(const(False, B), B), "%0: b1[12] = full(value=False, shape=(12,), dtype=bool); return %0"),
    Case("or_true", lambda: logic.logical_or(B, const(True, B)), "%0: b1[12] = full(value=True, shape=(12,), dtype=bool); return %0"),
    Case("convert_same", lambda: astype(X, "float64"), "return x"),
    Case("convert_back", lambda: astype(astype(F, "float64"), "float32"), "return f"),
    Case("convert_back", lambda: astype(astype(I, "float64"), "int32"), "return i"),
    Case("select_same", lambda: logic.select(B, X, X), "return x"),
    Case("select_true", lambda: logic.select(const(True, B), X, Y), "return x"),
    Case("select_false", lambda: logic.select(const(False, B), X, Y), "return y"),
    Case("select_opposite", lambda: logic.select(logic.logical_not(B), X, Y), "%3: f64[12] = select(b, y, x); return %3"),
    Case("select_bools", lambda: logic.select(B, const(True, B), const(False, B)), "return b"),
    Case("select_opposite_bools", lambda: logic.select(B, const(False, B), const(True, B)), "%1: b1[12] = logical_not(b); return %1"),
    Case("fold", lambda: const(0.1) + const(0.2), "%0: f64[12] = full(value=0.30000000000000004, shape=(12,), dtype=float64); return %0"),
    Case("fold", lambda: -const(-(2**31), I), "%0: i32[12] = full(value=-2147483648, shape=(12,), dtype=int32); return %0"),
    Case("fold", lambda: astype(const(0.1, F), "float64"), "%0: f64[12] = full(value=0.10000000149011612, shape=(12,), dtype=float64); return %0"),
    Case("fold", lambda: const(1) / const(0), "%0: f64[12] = full(value=inf, shape=(12,), dtype=float64); return %0"),
    Case("fold", lambda: logic.less(const(0), const(np.nan)), "%0: b1[12] = full(value=False, shape=(12,), dtype=bool); return %0"),
    Case("view_of_constant", lambda: row(const(3)), "%0: f64[5, 12] = full(value=3.0, shape=(5, 12), dtype=float64); return %0"),
    Case("view_of_constant", lambda: views.reshape(const(3), shape=(3, 4)), "%0: f64[3, 4] = full(value=3.0, shape=(3, 4), dtype=float64); return %0"),
    Case("view_of_constant", lambda: views.slice_(const(-0.0), **region(1, 3)), "%0: f64[3] = full(value=-0.0, shape=(3,), dtype=float64); return %0"),
    Case("view_of_constant", lambda: turned(const(3, M)), "%0: f64[4, 3] = full(value=3.0, shape=(4, 3), dtype=float64); return %0"),
    Case("same_shape", lambda: views.reshape(X, shape=(12,)), "return x"),
    Case("same_shape", lambda: views.broadcast(X, shape=(12,), axes=(0,)), "return x"),
    Case("reshape_twice", lambda: views.reshape(views.reshape(X, shape=(3, 4)), shape=(2, 6)), "%1: f64[2, 6] = reshape(x, shape=(2, 6)); return %1"),
    Case("transpose_nothing", lambda: views.transpose(M, axes=(0, 1)), "return m"),
    Case("transpose_twice", lambda: turned(turned(M)), "return m"),
    Case("transpose_product", lambda: turned(products.contract(M, M, spec="ik,jk->ij")), "%1: f64[3, 3] = contract(m, m, spec=ik,jk->ji); return %1"),
    Case("broadcast_twice", lambda: views.broadcast(row(X), shape=(2, 5, 12), axes=(1, 2)), "%1: f64[2, 5, 12] = broadcast(x, shape=(2, 5, 12), axes=(2,)); return %1"),
    Case("map_of_views", lambda: A.abs_(row(X)), "%1: f64[12] = abs(x); %2: f64[5, 12] = broadcast(%1, shape=(5, 12), axes=(1,)); return %2"),
    Case("map_of_views", lambda: row(X) * row(Y) , "%2: f64[12] = multiply(x, y); %3: f64[5, 12] = broadcast(%2, shape=(5, 12), axes=(1,)); return %3"),
    Case("map_of_views", lambda: 2 * turned(M), "%1: f64[3, 4] = full(value=2.0, shape=(3, 4), dtype=float64); %2: f64[3, 4] = multiply(%1, m); %3: f64[4, 3] = transpose(%2, axes=(1, 0)); return %3"),
    Case("map_of_merged", lambda: A.floor(views.reshape(A.sqrt(M), shape=(12,))), "%1: f64[3, 4] = sqrt(m); %2: f64[3, 4] = floor(%1); %3: f64[12] = reshape(%2, shape=(12,)); return %3"),
    Case("reduce_of_merged", lambda: reductions.max_(views.reshape(M, shape=(12,)), axes=(0,)), "%1: f64 = max(m, axes=(0, 1)); return %1"),
    Case("slice_nothing", lambda: views.slice_(X, **region(0, 12)), "return x"),
    Case("slice_twice", lambda: views.slice_(views.slice_(X, **region(11, 12, -1)), **region(1, 5, 2)), "%1: f64[5] = slice(x, start=(10,), size=(5,), step=(-2,)); return %1"),
    Case("slice_of_pad", lambda: views.slice_(padded(2, 1, 3), **region(2, 12, 3)), "return x"),
    Case("slice_of_update", lambda: views.slice_(updated(LONG, SHORT, 3), **region(3, 4)), "return short"),
    Case("slice_of_update", lambda: views.slice_(updated(LONG, SHORT, 3), **region(8, 2)), "%1: f64[2] = slice(long, start=(8,), size=(2,), step=(1,)); return %1"),
    Case("pad_nothing", lambda: padded(0, 0), "return x"),
    Case("pad_constant", lambda: padded(x=const(0.0)), "%0: f64[15] = full(value=0.0, shape=(15,), dtype=float64); return %0"),
    Case("update_everything", lambda: updated(empty(), X, 0), "return x"),
    *[Case("reduce_single", lambda op=op: op(S, axes=(0,)), "%1: f64[12] = reshape(s, shape=(12,)); return %1", exact=op is not reductions.sum_)
      for op in (reductions.sum_, reductions.prod, reductions.max_, reductions.min_)],
    Case("reduce_single", lambda: reductions.sum_(X, axes=()), "return x", exact=False),
    Case("reduce_single", lambda: reductions.max_(S, axes=(0, 1)), "%1: f64[12] = reshape(s, shape=(12,)); %2: f64 = max(%1, axes=(0,)); return %2"),
    Case("max_of_transpose", lambda: reductions.max_(turned(M), axes=(0, 1)), "%1: f64 = max(m, axes=(0, 1)); return %1"),
    *[Case(f"{op.name}_of_transpose", lambda op=op: op(turned(OF_BOOLS.get(op, M)), axes=(0,)), f"%1: {'b1' if op in OF_BOOLS else 'f64'}[3] = {op.name}({'d' if op in OF_BOOLS else 'm'}, axes=(1,)); return %1")
      for op in REDUCTIONS],
    Case("reduce_constant", lambda: reductions.max_(const(2.5), axes=(0,)), "%0: f64 = full(value=2.5, shape=(), dtype=float64); return %0"),
    Case("reduce_constant", lambda: reductions.all_(const(True, B), axes=(0,)), "%0: b1 = full(value=True, shape=(), dtype=bool); return %0"),
    Case("small_product", lambda: products.contract(X, Y, spec="m,n->mn"), "%2: f64[12, 12] = broadcast(x, shape=(12, 12), axes=(0,)); %3: f64[12, 12] = broadcast(y, shape=(12, 12), axes=(1,)); %4: f64[12, 12] = multiply(%2, %3); return %4", exact=False),
    Case("sum_constant", lambda: reductions.sum_(const(3), axes=(0,)), "%0: f64 = full(value=36.0, shape=(), dtype=float64); return %0"),
]
# fmt: on

UNCHANGED: list[Callable[[], Node]] = [
    lambda: X + 0.0,
    lambda: X - -0.0,
    lambda: 0.0 - X,
    lambda: X * 0,
    lambda: X - X,
    lambda: X / 3,
    lambda: logic.select(B, const(1.0), const(0.0)),
    lambda: logic.logical_not(logic.greater_equal(X, Y)),
    lambda: X / 2.0**-1074,
    lambda: logic.equal(X, X),
    lambda: logic.less_equal(X, X),
    lambda: logic.logical_not(logic.less(X, Y)),
    lambda: transcendental.pow_(X, const(0.25)),
    lambda: transcendental.pow_(X, const(9)),
    lambda: astype(astype(X, "float32"), "float64"),
    lambda: astype(astype(X, "int32"), "float64"),
    lambda: reductions.sum_(const(0.1), axes=(0,)),
    lambda: padded(x=const(-0.0)),
    lambda: views.slice_(updated(LONG, SHORT, 3), **region(2, 4)),
]


def graph_of(*outputs: Node) -> Graph:
    return Graph((X, Y, M, S, I, J, B, C, F, D, SHORT, LONG), outputs)


def text_of(graph: Graph) -> str:
    used = tuple(x for x in graph.inputs if x in graph.nodes)
    lines = str(Graph(used, graph.outputs)).splitlines()[1:]
    return "; ".join(line.strip() for line in lines)


def values(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    found = []
    for x in graph_of().inputs:
        picked = rng.permutation(np.resize(SPECIALS, int(np.prod(x.shape)))).reshape(x.shape)
        with np.errstate(all="ignore"):
            found.append(
                picked.astype(x.dtype)
                if x.dtype.kind == "f"
                else np.nan_to_num(picked, posinf=7, neginf=-8).clip(-9, 9).astype(x.dtype)
            )
    return found


def identical(actual: np.ndarray, expected: np.ndarray, exact: bool) -> None:
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)
    if exact and actual.dtype.kind == "f":
        real = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual[real]), np.signbit(expected[real]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_rule_fires(case: Case) -> None:
    before = graph_of(case.build())
    fired = [rule.__name__ for rule in RULES[before.outputs[0].op] if rule(before.outputs[0]) is not None]
    assert case.rule in fired
    after = simplify(before)
    verify(after)
    assert after.outputs[0].type == before.outputs[0].type
    assert text_of(after) == case.text


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
@pytest.mark.parametrize("seed", range(3))
def test_rule_changes_no_value(case: Case, seed: int) -> None:
    """The one rule alone, on 0, -0.0, inf and nan; and the whole of them on the gradient."""
    out = case.build()
    replaced = NAMED[case.rule](out)
    assert replaced is not None
    expected, actual = evaluated(graph_of(out, replaced), values(seed))
    identical(actual, expected, case.exact)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.rule)
def test_gradients_are_the_same(case: Case) -> None:
    out = case.build()
    if out.dtype.kind != "f" or not out.requires_grad:
        return
    leaves = [x for x in graph_of(out).nodes if x.op is sources.input_ and x.requires_grad]
    grads = [g for g in pull([out], leaves, [creation.fill(out, 0.5)]) if g is not None]
    raw = graph_of(*grads)
    tame = [np.nan_to_num(x, posinf=3.0, neginf=-4.0).clip(-5, 5) if x.dtype.kind == "f" else x for x in values(0)]
    for actual, expected in zip(evaluated(simplify(raw), tame), evaluated(raw, tame), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-15)


@pytest.mark.parametrize("build", UNCHANGED)
def test_what_is_not_exact_stays(build: Callable[[], Node]) -> None:
    out = build()
    (after,) = simplify(graph_of(out)).outputs
    assert text_of(graph_of(after)) == text_of(graph_of(out))


def test_every_rule_has_a_case() -> None:
    shown = {case.rule for case in (*CASES, *INEXACT)} | set(ROW_TEXTS) | SHOWN
    assert set(NAMED) - shown == set()
    assert shown - set(NAMED) == set()


def test_every_rule_has_a_name_of_its_own_and_says_what_it_does() -> None:
    rules = {rule for found in RULES.values() for rule in found}
    assert len(rules) == len(NAMED)
    assert all(rule.__doc__ for rule in rules)


def test_equal_nodes_become_one() -> None:
    graph = simplify(graph_of((X + Y) * (X + Y)))
    assert text_of(graph) == "%2: f64[12] = add(x, y); %3: f64[12] = square(%2); return %3"


def test_signed_zeros_are_different_constants() -> None:
    graph = simplify(graph_of(X * const(0.0), X * const(-0.0), X * const(np.nan), X * const(np.nan)))
    assert len({id(out) for out in graph.outputs}) == 3


def test_simplifying_twice_changes_nothing() -> None:
    for case in CASES:
        once = simplify(graph_of(case.build()))
        assert text_of(simplify(once)) == text_of(once)


def test_a_graph_before_and_after() -> None:
    """The gradient of a mean of squares keeps what it must and no more."""
    loss = reductions.sum_(A.square(X - Y), axes=(0,)) / 12
    (g,) = pull([loss], [X], [creation.fill(loss, 1)])
    assert g is not None
    assert str(simplify(Graph((X, Y), (g,)))) == textwrap.dedent("""\
        graph(x: f64[12], y: f64[12])
          %2: f64[12] = full(value=0.08333333333333333, shape=(12,), dtype=float64)
          %3: f64[12] = full(value=2.0, shape=(12,), dtype=float64)
          %4: f64[12] = subtract(x, y)
          %5: f64[12] = multiply(%3, %4)
          %6: f64[12] = multiply(%2, %5)
          return %6""")
