"""What patterns fit and what takes the place of it, without any rule of `staticad.simplify`."""

from __future__ import annotations

from typing import Any

import pytest

from staticad.dtypes import as_dtype
from staticad.ir import ArrayType, Node
from staticad.ops import sources
from staticad.ops.arithmetic import add, multiply, negative, square, subtract
from staticad.ops.creation import constant, fill
from staticad.ops.logic import less, logical_not, select
from staticad.ops.reductions import max_
from staticad.ops.transcendental import exp, log
from staticad.ops.views import transpose
from staticad.patterns import LOOK_AT, C, I, Pattern, Rewrite, X, Y, applied, on, same, wildcard


def source(dtype: str = "float64", shape: tuple[Any, ...] = ("n", 3)) -> Node:
    return sources.input_(name="x", source=object(), type=ArrayType(as_dtype(dtype), shape))


A, B, INTEGER, BOOL = source(), source(), source("int32"), source("bool")


def test_a_wildcard_is_bound_from_left_to_right_of_the_pattern_in_whatever_order_operands_stand() -> None:
    pattern = Pattern(-X + log(Y))
    assert pattern.match(-A + log(B)) == (A, B)
    assert pattern.match(log(B) + -A) == (A, B)
    assert pattern.match(-A + B) is None
    assert pattern.match(-A - log(B)) is None


def test_every_order_of_nested_commutative_ops_fits() -> None:
    pattern = Pattern(X * (1 + exp(Y)))
    for factor in (1 + exp(B), exp(B) + 1):
        assert pattern.match(A * factor) == (A, B)
        assert pattern.match(factor * A) == (A, B)
    assert list(Pattern(X * Y).matches(A * B)) == [(A, B), (B, A)]
    assert list(Pattern(X - Y).matches(A - B)) == [(A, B)]


def test_a_wildcard_that_stands_twice_is_one_node_or_an_equal_one() -> None:
    pattern = Pattern(X - X)
    assert pattern.match(A - A) == (A,)
    assert pattern.match(exp(-A) - exp(-A)) is not None
    assert pattern.match(A - B) is None
    assert pattern.match(exp(-A) - exp(-B)) is None
    assert pattern.match(max_(A, axes=(0,)) - max_(A, axes=(0,))) is not None
    assert pattern.match(max_(source(shape=(3, 3)), axes=(0,)) - max_(source(shape=(3, 3)), axes=(1,))) is None


def test_equal_nodes_are_looked_for_only_so_deep() -> None:
    x = y = A
    for _ in range(100_000):
        x, y = -x, -y
    assert same(x, x)
    assert not same(x, y)
    x = y = A
    for _ in range(LOOK_AT - 1):
        x, y = -x, -y
    assert same(x, y)


def test_a_wildcard_fits_the_dtypes_it_names() -> None:
    assert Pattern(I * 0).match(INTEGER * 0) == (INTEGER,)
    assert Pattern(I * 0).match(A * 0) is None
    assert Pattern(select(C, X, Y)).match(select(BOOL, A, B)) == (BOOL, A, B)
    assert Pattern(select(C, X, Y)).match(select(less(A, B), INTEGER, INTEGER)) is not None


@pytest.mark.parametrize(
    ("number", "node", "fits"),
    [
        (0.0, fill(A, 0.0), True),
        (0.0, fill(A, -0.0), False),
        (-0.0, fill(A, -0.0), True),
        (-0.0, fill(INTEGER, 0), True),
        (1, fill(BOOL, True), True),
        (1, fill(INTEGER, 1), True),
        (True, fill(BOOL, True), True),
        (True, fill(A, 1.0), False),
        (2, fill(A, 1.0), False),
        (float("nan"), fill(A, float("nan")), False),
        (1, A, False),
    ],
)
def test_a_constant_fits_its_number(number: float, node: Node, fits: bool) -> None:
    term = fill(C, number) if isinstance(number, bool) else fill(X, number)
    assert (Pattern(applied(add, X, term)).match(Node(add, (A, node), {}, A.type)) is not None) == fits


def test_a_pattern_on_what_an_op_made_fits_any_parameters() -> None:
    x = source(shape=(2, 3))
    turned = transpose(x, axes=(1, 0))
    assert Pattern(on(max_, transpose)).match(max_(turned, axes=(1,))) == (turned,)
    assert Pattern(on(max_, transpose)).match(max_(x, axes=(1,))) is None
    assert Pattern(log(wildcard("e", made=exp))).match(log(A)) is None


def test_what_takes_the_place_has_the_type_of_the_node() -> None:
    rule = Rewrite("rule", X - X, square(0 * exp(X)))
    out = rule(A - A)
    assert out is not None
    assert out.type == A.type
    assert (out.op, out.args[0].op) == (square, multiply)
    zero, power = out.args[0].args
    assert (constant(zero), zero.type, power.args) == (0, A.type, (A,))
    assert rule(A - B) is None
    assert rule(A + A) is None


def test_a_function_may_refuse_one_order_and_take_the_other() -> None:
    rule = Rewrite("rule", X + Y, lambda node, x, y: subtract(x, y.args[0]) if y.op is negative else None)
    out = rule(-B + A)
    assert out is not None
    assert (out.op, out.args) == (subtract, (A, B))
    assert rule(A + B) is None
    assert Rewrite("choice", select(logical_not(C), X, Y), select(C, Y, X)).__name__ == "choice"
