"""Symbolic dimensions: every identity of the algebra holds for every size, every rendering evaluates to the same."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from staticad import shapes
from staticad.errors import GraphError, ShapeError
from staticad.shapes import Dim, Expr, Symbol, dim, floordiv, maximum, minimum, mod

NAMES = ("n", "m", "k")
n, m, k = (dim(name) for name in NAMES)
sizes = st.fixed_dictionaries({name: st.integers(0, 12) for name in NAMES})


@dataclass(frozen=True)
class Formula:
    """A dimension next to how plain Python computes it from sizes."""

    value: Dim
    python: str


def combine(parts: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
    def binary(op: str, x: Formula, y: Formula) -> Formula:
        if op in ("min", "max"):
            return Formula((minimum if op == "min" else maximum)(x.value, y.value), f"{op}({x.python}, {y.python})")
        value = {"+": operator.add, "-": operator.sub, "*": operator.mul}[op](x.value, y.value)
        return Formula(value, f"({x.python} {op} {y.python})")

    def divided(op: str, x: Formula, by: int) -> Formula:
        return Formula((floordiv if op == "//" else mod)(x.value, by), f"({x.python} {op} ({by}))")

    divisors = st.integers(-5, 7).filter(bool)

    def in_blocks(op: str, x: Formula, of: Formula, least: int) -> Formula:
        size = f"square_root({of.python}, {least})"
        value = (floordiv if op == "//" else mod)(x.value, shapes.root(of.value, least))
        return Formula(value, f"({x.python} {op} {size})")

    return (
        st.builds(binary, st.sampled_from(["+", "-", "*", "min", "max"]), parts, parts)
        | st.builds(divided, st.sampled_from(["//", "%"]), parts, divisors)
        | st.builds(in_blocks, st.sampled_from(["//", "%"]), parts, parts, st.integers(1, 3))
    )


leaves = st.sampled_from([Formula(dim(name), name) for name in NAMES]) | st.integers(-4, 9).map(
    lambda c: Formula(c, f"({c})")
)
formulas = st.recursive(leaves, combine, max_leaves=8)


def python(f: Formula, at: dict[str, int]) -> int:
    return eval(f.python, {"square_root": ceiling}, dict(at))


def ceiling(x: int, least: int) -> int:
    """The square root to many digits, rounded up."""
    with localcontext(prec=100):
        return max(least, int(Decimal(max(x, 0)).sqrt().to_integral_value(ROUND_CEILING)))


@given(formulas, sizes)
def test_evaluation_is_pythons(f: Formula, at: dict[str, int]) -> None:
    assert shapes.evaluate(f.value, at) == python(f, at)


@given(formulas, sizes)
def test_rendering_evaluates_to_the_same(f: Formula, at: dict[str, int]) -> None:
    text = shapes.render(f.value, lambda s: f"d_{s.name}")
    names = {f"d_{name}": size for name, size in at.items()}
    assert eval(text, {"root": shapes.square_root}, names) == python(f, at), text


@given(formulas, sizes)
def test_lower_bound_is_never_above(f: Formula, at: dict[str, int]) -> None:
    low = shapes.lower_bound(f.value)
    assert low is None or low <= python(f, at)


@given(formulas, formulas, sizes)
def test_known_ge_is_true(f: Formula, g: Formula, at: dict[str, int]) -> None:
    if shapes.known_ge(f.value, g.value):
        assert shapes.evaluate(f.value, at) >= shapes.evaluate(g.value, at)


@given(formulas, formulas, sizes)
def test_equal_normal_forms_are_equal_values(f: Formula, g: Formula, at: dict[str, int]) -> None:
    if f.value == g.value:
        assert hash(f.value) == hash(g.value)
        assert shapes.evaluate(f.value, at) == shapes.evaluate(g.value, at)


@given(formulas, formulas, sizes)
def test_substitution_commutes_with_evaluation(f: Formula, g: Formula, at: dict[str, int]) -> None:
    replaced = shapes.substitute(f.value, {Symbol("n"): g.value})
    assert shapes.evaluate(replaced, at) == shapes.evaluate(f.value, {**at, "n": shapes.evaluate(g.value, at)})


@given(formulas, formulas, sizes)
def test_division_by_a_symbolic_dimension(f: Formula, g: Formula, at: dict[str, int]) -> None:
    assume(isinstance(g.value, Expr) and shapes.evaluate(g.value, at) > 0)
    try:
        quotient = shapes.evaluate(floordiv(f.value, g.value), at)
        rest = shapes.evaluate(mod(f.value, g.value), at)
    except ShapeError:  # a part of the divisor's normal form is zero at these sizes
        return
    assert (quotient, rest) == divmod(shapes.evaluate(f.value, at), shapes.evaluate(g.value, at))


@given(formulas, formulas, formulas)
def test_ring_laws_hold_by_normal_form(f: Formula, g: Formula, h: Formula) -> None:
    x, y, z = f.value, g.value, h.value
    assert x + y == y + x
    assert x * y == y * x
    assert (x + y) + z == x + (y + z)
    assert (x * y) * z == x * (y * z)
    assert x * (y + z) == x * y + x * z
    assert x - x == 0
    assert minimum(x, y) == minimum(y, x)
    assert maximum(x, y) == maximum(y, x)


R = shapes.root(n, 1)
# fmt: off
EQUAL = [
    ((n + 1) * (n - 1),            n * n - 1),
    ((2 * n + 6) // 2,             n + 3),
    ((n * m) // n,                 m),
    ((n * m + n) // n,             m + 1),
    ((n - 3) // 2 + 1,             (n - 1) // 2),
    ((n // 2) // 3,                n // 6),
    ((2 * n + 1) // 4,             n // 2),
    ((n // 4) * 4 + n % 4,         n),
    ((4 * n) % 2,                  0),
    ((n + 2) % 1,                  0),
    (maximum(n, 0),                n),
    (minimum(n, 4 * (n // 4)),     4 * (n // 4)),
    (maximum(m * (n % 3), 0),      m * n - 3 * m * (n // 3)),
    (minimum(n, n // R * R),       n // R * R),
    (minimum(n, n + 1),            n),
    (maximum(n, m),                maximum(m, n)),
]
DIFFERENT = [(n, m), (n // 2, m // 2), (n // 2, n // 3), (n * n, n), (n + 1, n), (minimum(n, m), maximum(n, m))]
TEXT = [
    (n + m,                        "m + n"),
    (2 * n * m - 3,                "2*m*n - 3"),
    (-n,                           "-n"),
    ((n - 3) // 2 + 1,             "(n + 1)//2 - 1"),
    (-(n // 2),                    "-(n//2)"),
    ((n // 2) * (n // 2),          "(n//2)*(n//2)"),
    (minimum(n, m) + 1,            "min(m, n) + 1"),
    (n // m,                       "n//m"),
    (R,                            "root(n, 1)"),
]
# fmt: on


@pytest.mark.parametrize(("x", "y"), EQUAL)
def test_equal(x: Dim, y: Dim) -> None:
    assert x == y
    assert hash(x) == hash(y)


@pytest.mark.parametrize(("x", "y"), DIFFERENT)
def test_different(x: Dim, y: Dim) -> None:
    assert x != y


@pytest.mark.parametrize(("x", "text"), TEXT)
def test_text(x: Dim, text: str) -> None:
    assert str(x) == text


def test_a_dimension_and_a_loop_variable_of_one_name_stay_apart() -> None:
    var, same = shapes.symbol(Symbol("n", "var")), shapes.symbol(Symbol("n"))
    assert var != n
    assert same == n
    assert var * n == n * var
    assert shapes.symbols(var * n) == {Symbol("n"), Symbol("n", "var")}


def test_reflected_operators() -> None:
    assert 7 - n == -n + 7
    assert 3 * n == n * 3
    assert shapes.evaluate(7 // n, {"n": 2}) == 3
    assert shapes.evaluate(7 % n, {"n": 4}) == 3


@pytest.mark.parametrize("name", ["", "1n", "n m", "n;x", "lambda", "None", "é", "__import__('os')", 3, None])
def test_names_that_may_not_stand_in_code(name: object) -> None:
    with pytest.raises(GraphError, match="name"):
        dim(name)  # type: ignore[arg-type]


def test_no_truth_value_or_integer_before_a_call() -> None:
    with pytest.raises(ShapeError, match="no truth value"):
        bool(n)
    with pytest.raises(ShapeError, match="no integer value"):
        range(n)  # type: ignore[arg-type]


def test_division_by_zero() -> None:
    with pytest.raises(ShapeError, match="by zero"):
        n // 0


def test_evaluation_names_what_is_missing() -> None:
    with pytest.raises(ShapeError, match="needs a size for m"):
        shapes.evaluate(n * m, {"n": 2})


def test_as_shape() -> None:
    assert shapes.as_shape(("batch", 3, n, np.int32(4)), "input") == (dim("batch"), 3, n, 4)
    assert shapes.as_shape(5, "input") == (5,)
    assert shapes.as_shape("n", "input") == (n,)
    assert shapes.as_shape((), "input") == ()
    assert all(type(d) is int for d in shapes.as_shape((np.int32(4),), "input"))


@pytest.mark.parametrize("shape", [(-1,), (2.0,), (True,), (None,), (np.zeros(2),), 3.5])
def test_as_shape_refuses(shape: object) -> None:
    with pytest.raises(ShapeError, match="input: a dimension"):
        shapes.as_shape(shape, "input")


def test_products_and_text() -> None:
    assert shapes.product((n, 3, m)) == 3 * n * m
    assert shapes.product(()) == 1
    assert shapes.shape_text((n, 3)) == "[n, 3]"
    assert shapes.is_static((2, 3))
    assert not shapes.is_static((2, n))
