"""Stable forms and powers: each rule fires, as text, and its value and gradient are mpmath's at extremes, where the naive
form overflows, vanishes or cancels; at 0, inf and nan it is never worse than the naive form."""

# ruff: noqa: E501  (a table of cases)

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import compiled
from mpmath import mp, mpf

import staticad as ad
from staticad import stable
from staticad.interpret import interpret
from staticad.ir import Graph, Node, verify
from staticad.simplify import RULES, simplify
from staticad.tensor import Tensor

mp.dps = 60

#: Where exp overflows (710), vanishes (-746) and rounds away next to 1; and ordinary points.
WIDE = (-1e5, -800.0, -720.0, -37.0, -1.0, -1e-9, 0.0, 1e-20, 0.5, 3.0, 37.0, 50.0, 720.0, 800.0, 1e5)
POINTS = (1e-300, 1e-170, 1e-9, 0.25, 0.7, 1.0, 1.3, 7.0, 1e9, 1e160, 1e300)
SIGNED = (*(-p for p in POINTS), *POINTS)
SMALL = (-0.5, -1e-3, -1e-9, -1e-17, 0.0, 1e-300, 1e-17, 1e-9, 1e-3, 0.5, 0.9)
SPECIALS = (0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 800.0, -800.0)


@dataclass(frozen=True)
class Case:
    """``build(x)`` says it naively; ``text`` is the graph after; ``value`` and ``slope`` are the truth in mpmath."""

    rule: str
    build: Callable[[Tensor], Tensor]
    text: str
    value: Callable[[Any], Any]
    slope: Callable[[Any], Any]
    points: tuple[float, ...] = WIDE
    ulps: float = 8.0


def sigma(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


def power(n: float, ulps: float = 4.0, points: tuple[float, ...] = SIGNED, text: str = "") -> Case:
    rule = "power_of_constant" if n == int(n) else "power_of_half"
    return Case(rule, lambda x: x**n, text, lambda x: x ** mpf(n), lambda x: n * x ** mpf(n - 1), points, ulps)


EXP = "exp(x)"
# fmt: off
CASES = [
    Case("log_of_exp", lambda x: ad.log(ad.exp(x)), "return x", lambda x: x, lambda x: mpf(1)),
    Case("log_of_one_plus_exp", lambda x: ad.log(1 + ad.exp(x)), "softplus(x)", lambda x: mp.log1p(mp.exp(x)), sigma),
    Case("log_of_one_plus_exp", lambda x: ad.log(ad.exp(-x) + 1), "negative(x); softplus(%1)", lambda x: mp.log1p(mp.exp(-x)), lambda x: -sigma(-x)),
    Case("log_of_sum_of_two_exp", lambda x: ad.log(ad.exp(x) + ad.exp(3 * x)), "full(value=3.0, shape=(n,), dtype=float64); multiply(%1, x); logaddexp(x, %2)",
         lambda x: x + mp.log1p(mp.exp(2 * x)), lambda x: 1 + 2 * sigma(2 * x)),
    Case("log1p_of_exp", lambda x: ad.log1p(ad.exp(x)), "softplus(x)", lambda x: mp.log1p(mp.exp(x)), sigma),
    Case("log_of_sigmoid", lambda x: ad.log(ad.nn.sigmoid(x)), "negative(x); softplus(%1); negative(%2)", lambda x: -mp.log1p(mp.exp(-x)), lambda x: sigma(-x)),
    Case("log_of_sigmoid", lambda x: ad.log(1 - ad.nn.sigmoid(x)), "softplus(x); negative(%1)", lambda x: -mp.log1p(mp.exp(x)), lambda x: -sigma(x)),
    Case("log_of_sigmoid", lambda x: ad.log(1 / (1 + ad.exp(-x))), "negative(x); softplus(%1); negative(%2)", lambda x: -mp.log1p(mp.exp(-x)), lambda x: sigma(-x)),
    Case("log1p_of_negative_sigmoid", lambda x: ad.log1p(-ad.nn.sigmoid(x)), "softplus(x); negative(%1)", lambda x: -mp.log1p(mp.exp(x)), lambda x: -sigma(x)),
    Case("logistic", lambda x: 1 / (1 + ad.exp(-x)), "sigmoid(x)", sigma, lambda x: sigma(x) * sigma(-x)),
    Case("logistic_reciprocal", lambda x: ad.reciprocal(ad.exp(x) + 1), "negative(x); sigmoid(%1)", lambda x: sigma(-x), lambda x: -sigma(x) * sigma(-x)),
    Case("logistic_of_opposite", lambda x: ad.exp(x) / (ad.exp(x) + 1), "sigmoid(x)", sigma, lambda x: sigma(x) * sigma(-x)),
    Case("one_minus_sigmoid", lambda x: 1 - ad.nn.sigmoid(x), "negative(x); sigmoid(%1)", lambda x: sigma(-x), lambda x: -sigma(x) * sigma(-x)),
    Case("root_of_square", lambda x: ad.sqrt(ad.square(x)), "abs(x)", abs, mp.sign, (*SIGNED, 0.0)),
    Case("root_of_power", lambda x: ad.sqrt(ad.pow(x, ad.full_like(x, 2.0))), "abs(x)", abs, mp.sign, (*SIGNED, 0.0)),
    Case("root_of_product", lambda x: ad.sqrt(x * x), "abs(x)", abs, mp.sign, (*SIGNED, 0.0)),
    Case("exp_minus_one", lambda x: ad.exp(x) - 1, "expm1(x)", mp.expm1, mp.exp, SMALL),
    Case("log_of_one_plus", lambda x: ad.log(1 + x), "log1p(x)", mp.log1p, lambda x: 1 / (1 + x), SMALL),
    Case("log_of_one_minus", lambda x: ad.log(1 - x), "negative(x); log1p(%1)", lambda x: mp.log1p(-x), lambda x: -1 / (1 - x), SMALL),
    power(3, text="square(x); multiply(x, %1)"),
    power(4, text="square(x); square(%1)"),
    power(8, text="square(x); square(%1); square(%2)"),
    power(7, text="square(x); multiply(x, %1); square(%2); multiply(x, %3)"),
    power(-2, text="reciprocal(x); square(%1)"),
    power(-4, text="reciprocal(x); square(%1); square(%2)"),
    *[power(n, points=POINTS) for n in (0.5, 1.5, 2.5, -0.5, -1.5)],
]
# fmt: on
NAMES = [f"{case.rule}-{k}" for k, case in enumerate(CASES)]


def naive(case: Case, dtype: str = "float64") -> Graph:
    x = ad.input("x", ("n",), dtype)
    return Graph((x.node,), (case.build(x).node,))


def with_gradient(case: Case, dtype: str = "float64") -> Graph:
    x = ad.input("x", ("n",), dtype)
    y = case.build(x)
    return Graph((x.node,), (y.node, ad.grad(ad.sum(y), x).node))


def lines(graph: Graph) -> str:
    """The text form without names and types: ``negative(x); softplus(%1)``."""
    found = [line.strip() for line in str(graph).splitlines()[1:]]
    return "; ".join(line.split(" = ")[-1] for line in found if " = " in line) or found[-1]


def truth(function: Callable[[Any], Any], points: Any, dtype: str) -> np.ndarray:
    """Rounded once, through mpmath; what lies beyond the dtype's range is inf, as it is for NumPy."""
    with np.errstate(all="ignore"):
        return np.array([float(function(mpf(float(p)))) for p in points]).astype(dtype)


def error(actual: np.ndarray, expected: np.ndarray) -> float:
    """In ulp of the expected value, and 0 where both are the same infinity."""
    with np.errstate(all="ignore"):
        apart = np.abs(actual.astype("float64") - expected) / np.spacing(np.abs(expected)).astype("float64")
    return float(np.max(np.where(actual == expected, 0, apart)))


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_rule_fires(case: Case) -> None:
    before = naive(case)
    fired = [r.__name__ for node in before.nodes for r in RULES.get(node.op, ()) if r(node) is not None]

    def note(rule: Callable[[Node], Node | None]) -> Callable[[Node], Node | None]:
        def call(node: Node) -> Node | None:
            out = rule(node)
            fired.extend([rule.__name__] if out is not None else [])
            return out

        return call

    with pytest.MonkeyPatch.context() as patch:
        for op, rules in RULES.items():
            patch.setitem(RULES, op, tuple(note(rule) for rule in rules))
        after = simplify(before)
    assert case.rule in fired
    verify(after)
    assert after.outputs[0].type == before.outputs[0].type
    assert not case.text or lines(after) == case.text
    assert str(simplify(after)) == str(after)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_value_and_gradient_at_extremes(case: Case, dtype: str) -> None:
    """Compiled; the gradient was taken of the naive form. A gradient may have twice the error of a value."""
    limit = 1e30 if dtype == "float32" else np.inf
    points = np.array([p for p in case.points if p == 0 or 1 / limit < abs(p) < limit], dtype)
    value, slope = compiled(with_gradient(case, dtype), [points])
    assert error(value, truth(case.value, points, dtype)) <= case.ulps
    assert error(slope, truth(case.slope, points, dtype)) <= 2 * case.ulps


def at_specials(graph: Graph) -> list[np.ndarray]:
    points = np.array(SPECIALS)
    return interpret(graph.outputs, {graph.inputs[0]: points}, {"n": len(points)})


@pytest.mark.parametrize("case", CASES, ids=NAMES)
def test_never_worse_at_zero_infinity_and_nan(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the naive form has a value and a gradient that are no nan and nothing overflows in it, they stay that."""
    actual = at_specials(simplify(with_gradient(case)))
    monkeypatch.setattr(stable, "STABLE", {})
    expected = at_specials(with_gradient(case))
    for a, e in zip(actual, expected, strict=True):
        told = ~np.isnan(e) & (np.abs(SPECIALS) != 800)
        np.testing.assert_allclose(a[told], e[told], rtol=1e-15, atol=1e-300)
    assert np.isnan(actual[0][np.isnan(SPECIALS)]).all()


# along axes -----------------------------------------------------------------------------------------------------------

ROWS = np.array([
    [0.0, 1.0, -2.0, 0.5, 3.0], [1000.0, 999.0, 0.0, -1000.0, 998.5], [-1000.0, -1001.0, -2000.0, -999.5, -1e5],
    [1e5, 0.0, -1e5, 1e5, 3.0], [710.0, 709.0, 700.0, 5.0, 1.0], [-745.0, -744.0, -746.0, -740.0, -800.0],
])  # fmt: skip


def rows_lse(row: Any) -> Any:
    return mp.log(mp.fsum(mp.exp(v) for v in row))


def rows_softmax(row: Any) -> list[Any]:
    return [mp.exp(v - rows_lse(row)) for v in row]


@dataclass(frozen=True)
class RowCase:
    """``build(x)`` of rows; ``value`` and ``slope`` (of the sum of the values times ``WEIGHTS``) in mpmath."""

    build: Callable[[Tensor], Tensor]
    value: Callable[[list[Any]], Any]
    slope: Callable[[list[Any]], list[Any]]


WEIGHTS = (1.0, -0.5, 2.0, 0.25, 3.0)


def lse_slope(row: list[Any]) -> list[Any]:
    return rows_softmax(row)


def softmax_slope(row: list[Any]) -> list[Any]:
    p = rows_softmax(row)
    mean = mp.fsum(w * q for w, q in zip(WEIGHTS, p, strict=True))
    return [q * (w - mean) for w, q in zip(WEIGHTS, p, strict=True)]


def log_softmax_slope(row: list[Any]) -> list[Any]:
    return [w - mp.fsum(WEIGHTS) * q for w, q in zip(WEIGHTS, rows_softmax(row), strict=True)]


def by_hand(x: Tensor, axis: int = 1) -> Tensor:
    return ad.exp(x) / ad.sum(ad.exp(x), axis=axis, keepdims=True)


def shifted_by_hand(x: Tensor) -> Tensor:
    powers = ad.exp(x - ad.max(x, axis=1, keepdims=True))
    return powers / ad.sum(powers, axis=1, keepdims=True)


def lse(row: list[Any]) -> Any:
    return rows_lse(row)


def log_p(row: list[Any]) -> list[Any]:
    return [v - rows_lse(row) for v in row]


# fmt: off
ROW_CASES = {
    "log sum exp":       RowCase(lambda x: ad.log(ad.sum(ad.exp(x), axis=1)), lse, lse_slope),
    "keepdims":          RowCase(lambda x: ad.log(ad.sum(ad.exp(x), axis=1, keepdims=True))[:, 0], lse, lse_slope),
    "transposed":        RowCase(lambda x: ad.log(ad.sum(ad.exp(x.T), axis=0)), lse, lse_slope),
    "inner axes":        RowCase(lambda x: ad.log(ad.sum(ad.exp(x.reshape((-1, 5, 1))), axis=(1, 2))), lse, lse_slope),
    "log mean exp":      RowCase(lambda x: ad.log(ad.mean(ad.exp(x), axis=1)), lambda row: rows_lse(row) - mp.log(5), lse_slope),
    "times a number":    RowCase(lambda x: ad.log(3 * ad.sum(ad.exp(x), axis=1)), lambda row: rows_lse(row) + mp.log(3), lse_slope),
    "shifted already":   RowCase(lambda x: ad.logsumexp(x, axis=1), lse, lse_slope),
    "minus":             RowCase(lambda x: x - ad.log(ad.sum(ad.exp(x), axis=1, keepdims=True)), log_p, log_softmax_slope),
    "softmax":           RowCase(by_hand, rows_softmax, softmax_slope),
    "softmax of columns": RowCase(lambda x: by_hand(x.T, 0).T, rows_softmax, softmax_slope),
    "shifted softmax":   RowCase(shifted_by_hand, rows_softmax, softmax_slope),
    "log softmax":       RowCase(lambda x: ad.log(ad.nn.softmax(x)), log_p, log_softmax_slope),
    "log of a naive one": RowCase(lambda x: ad.log(by_hand(x)), log_p, log_softmax_slope),
    "log of a shifted one": RowCase(lambda x: ad.log(shifted_by_hand(x)), log_p, log_softmax_slope),
}
# fmt: on


SHIFTED = """\
  %1: f64[n] = max(x, axes=(1,))
  %2: b1[n] = isfinite(%1)
  %3: f64[n] = full(value=0.0, shape=(n,), dtype=float64)
  %4: f64[n] = select(%2, %1, %3)
  %5: f64[n, 5] = broadcast(%4, shape=(n, 5), axes=(0,))
  %6: f64[n, 5] = subtract(x, %5)
  %7: f64[n, 5] = exp(%6)
  %8: f64[n] = sum(%7, axes=(1,))
"""
# fmt: off
ROW_TEXTS = {
    "log_of_sum_of_exp":  ("log sum exp", SHIFTED + "  %9: f64[n] = log(%8)\n  %10: f64[n] = add(%9, %4)\n  return %10"),
    "log_of_mean_of_exp": ("log mean exp", SHIFTED + "  %9: f64[n] = log(%8)\n  %10: f64[n] = add(%9, %4)\n  %11: f64[n] = full(value=1.6094379124341003, shape=(n,), dtype=float64)\n  %12: f64[n] = subtract(%10, %11)\n  return %12"),
    "softmax":            ("softmax", SHIFTED + "  %9: f64[n, 5] = broadcast(%8, shape=(n, 5), axes=(0,))\n  %10: f64[n, 5] = divide(%7, %9)\n  return %10"),
    "log_of_multiple_of_exp": ("times a number", SHIFTED + "  %9: f64[n] = log(%8)\n  %10: f64[n] = add(%9, %4)\n  %11: f64[n] = full(value=1.0986122886681098, shape=(n,), dtype=float64)\n  %12: f64[n] = add(%10, %11)\n  return %12"),
    "log_of_softmax":     ("log of a naive one", SHIFTED + "  %9: f64[n] = log(%8)\n  %10: f64[n, 5] = broadcast(%9, shape=(n, 5), axes=(0,))\n  %11: f64[n, 5] = subtract(%6, %10)\n  return %11"),
    "log_softmax":        ("minus", SHIFTED + "  %9: f64[n] = log(%8)\n  %10: f64[n, 5] = broadcast(%9, shape=(n, 5), axes=(0,))\n  %11: f64[n, 5] = subtract(%6, %10)\n  return %11"),
}
# fmt: on


def row_graph(case: RowCase, dtype: str, size: Any = "n") -> Graph:
    x = ad.input("x", (size, 5), dtype)
    y = case.build(x)
    weighted = ad.sum(y * np.array(WEIGHTS, dtype)) if y.ndim == 2 else ad.sum(y)
    return Graph((x.node,), (y.node, ad.grad(weighted, x).node))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", ROW_CASES)
def test_rows_at_extremes(name: str, dtype: str) -> None:
    case, rows = ROW_CASES[name], ROWS.astype(dtype)
    exact = [[mpf(float(v)) for v in row] for row in rows]
    value, slope = compiled(row_graph(case, dtype), [rows])
    eps = np.finfo(dtype).eps
    expected = np.array([case.value(row) for row in exact], "float64")
    np.testing.assert_allclose(value, expected, rtol=8 * eps, atol=4 * eps)
    expected = np.array([case.slope(row) for row in exact], "float64")
    np.testing.assert_allclose(slope, expected, rtol=64 * eps, atol=32 * eps)


@pytest.mark.parametrize("rule", ROW_TEXTS)
def test_rule_of_rows_fires(rule: str) -> None:
    name, text = ROW_TEXTS[rule]
    x = ad.input("x", ("n", 5))
    x.node.name = "x"
    after = simplify(Graph((x.node,), (ROW_CASES[name].build(x).node,)))
    verify(after)
    assert str(after) == "graph(x: f64[n, 5])\n" + text
    assert str(simplify(after)) == str(after)


def test_every_rule_has_a_case() -> None:
    shown = {case.rule for case in CASES} | set(ROW_TEXTS)
    assert {rule.__name__ for rules in stable.STABLE.values() for rule in rules} <= shown


def count(graph: Graph, name: str) -> int:
    return sum(node.op.name == name for node in graph.nodes)


@pytest.mark.parametrize("name", ["shifted already", "shifted softmax", "log softmax", "log of a shifted one"])
def test_no_maximum_is_subtracted_twice(name: str) -> None:
    graph = simplify(row_graph(ROW_CASES[name], "float64"))
    assert (count(graph, "max"), count(graph, "exp"), count(graph, "log")) == (1, 1, "log" in name or "already" in name)


def test_a_maximum_over_more_than_is_summed_is_not_enough() -> None:
    """Subtracting the greatest of all still leaves rows whose every exp vanishes; the greatest of each row does not."""
    x = ad.input("x", ("n", 5))
    rows = np.array([[0.0, 1, 2, 3, 4], [-2000.0, -2001, -2002, -2003, -2004]])
    out = ad.log(ad.sum(ad.exp(x - ad.max(x)), axis=1))
    graph = Graph((x.node,), (out.node, ad.grad(ad.sum(out), x, strict=True).node))
    assert count(simplify(graph), "max") == 2
    value, slope = compiled(graph, [rows])
    np.testing.assert_allclose(value, [float(lse([mpf(v - 4) for v in row])) for row in rows], rtol=1e-15)
    assert np.isfinite(slope).all()
    whole = ad.log(ad.sum(ad.exp(x - ad.max(x, axis=1, keepdims=True))))
    assert count(simplify(Graph((x.node,), (whole.node,))), "max") == 1


@pytest.mark.parametrize(
    "repeated",
    [
        lambda x: ad.broadcast_to(x[0, 0], (3,)),
        lambda x: ad.broadcast_to(ad.broadcast_to(x[:, :1], (2, 5)).T, (3, 5, 2)),
        lambda x: ad.broadcast_to(x[0], (4, 5)).reshape((2, 10)),
    ],
)
def test_exponents_that_views_repeat(repeated: Callable[[Tensor], Tensor]) -> None:
    """What subtracts the maximum is moved below such a view: it is one still, and rewriting ends."""
    x = ad.input("x", (2, 5))
    rows = np.array([[1000.0, 1, 2, 3, 4], [-2000.0, 5, 2, -3, 0]])
    (shown,) = interpret((repeated(x).node,), {x.node: rows}, {})
    for axis in (0, shown.ndim - 1):
        out = ad.log(ad.sum(ad.exp(repeated(x)), axis=axis))
        graph = simplify(Graph((x.node,), (out.node,)))
        assert count(graph, "max") == 1
        (value,) = compiled(graph, [rows])
        np.testing.assert_allclose(value, np.logaddexp.reduce(shown, axis), rtol=1e-15)


def test_rows_with_infinities_and_nan() -> None:
    """As the naive form: -inf of nothing but -inf, inf where there is one, nan where there is one; softmax likewise."""
    rows = np.array([[-np.inf] * 5, [0, 1, np.inf, 2, 3], [0, np.nan, 1, 2, 3], [-np.inf, 0, -np.inf, -np.inf, 0]])
    x = ad.input("x", ("n", 5))
    graph = Graph((x.node,), (ad.log(ad.sum(ad.exp(x), axis=1)).node, by_hand(x).node))
    expected = interpret(graph.outputs, {x.node: rows}, {"n": 4})
    actual = compiled(graph, [rows])
    np.testing.assert_allclose(actual[0], expected[0], rtol=1e-15)
    np.testing.assert_allclose(actual[1], expected[1], rtol=1e-15)


def test_a_sum_over_nothing() -> None:
    x = ad.input("x", ("n", 0))
    (out,) = compiled(Graph((x.node,), (ad.log(ad.sum(ad.exp(x), axis=1)).node,)), [np.zeros((2, 0))])
    assert out.tolist() == [-np.inf] * 2
    y = ad.input("y", ("n",))
    assert compiled(Graph((y.node,), (ad.log(ad.sum(ad.exp(y))).node,)), [np.zeros(0)])[0] == -np.inf


# derivatives ----------------------------------------------------------------------------------------------------------


def test_derivatives_by_what_a_stable_form_would_skip() -> None:
    """A tensor inside the naive form may be what a derivative is asked by; then the naive form is differentiated."""
    x = ad.input("x", (3,))
    h = ad.exp(x)
    y = ad.sum(ad.log(1 + h))
    at = {x: np.array([-1.0, 0.5, 2.0])}
    p = 1 / (1 + np.exp(-at[x]))
    np.testing.assert_allclose(ad.evaluate(ad.grad(y, h, strict=True), at), 1 / (1 + np.exp(at[x])), rtol=1e-14)
    both = ad.evaluate(ad.grad(y, [x, h], strict=True), at)
    np.testing.assert_allclose(both, [p, 1 / (1 + np.exp(at[x]))], rtol=1e-14)
    np.testing.assert_allclose(ad.evaluate(ad.jvp(y, h, np.ones(3)), at), np.sum(1 / (1 + np.exp(at[x]))), rtol=1e-14)
    np.testing.assert_allclose(
        ad.evaluate(ad.jvp(y, [x, h], [np.zeros(3), np.ones(3)]), at), np.sum(1 / (1 + np.exp(at[x]))), rtol=1e-14
    )


def test_a_retained_gradient_inside_a_naive_form() -> None:
    x = ad.input("x", (3,), requires_grad=True)
    h = ad.exp(x)
    h.retain_grad()
    f = ad.compile([x], ad.sum(ad.log(1 + h)))
    at = np.array([-1.0, 0.5, 2.0])
    f(at)
    f.backward()
    assert h.grad is not None
    np.testing.assert_allclose(h.grad, 1 / (1 + np.exp(at)), rtol=1e-14)
    np.testing.assert_allclose(x.grad, 1 / (1 + np.exp(-at)), rtol=1e-14)


def test_a_detached_part_stays_detached() -> None:
    x = ad.input("x", (3,))
    y = ad.sum(ad.log(1 + ad.exp(x).detach()) + ad.sqrt((x * x).detach()))
    assert ad.evaluate(ad.grad(y, x), {x: np.ones(3)}).tolist() == [0, 0, 0]


@pytest.mark.parametrize("name", ROW_CASES)
def test_forward_mode_and_second_order_at_extremes(name: str) -> None:
    x, t = ad.input("x", ("n", 5)), ad.input("t", ("n", 5))
    y = ROW_CASES[name].build(x)
    weighted = ad.sum(y * np.array(WEIGHTS)) if y.ndim == 2 else ad.sum(y)
    (g,) = [ad.grad(weighted, x)]
    tangents = np.cos(np.arange(ROWS.size)).reshape(ROWS.shape)
    twice, pushed, slope = compiled(
        Graph((x.node, t.node), (ad.grad(ad.sum(g * t), x).node, ad.jvp(weighted, x, t).node, g.node)), [ROWS, tangents]
    )
    np.testing.assert_allclose(pushed, np.sum(slope * tangents), rtol=1e-12, atol=1e-12)
    assert np.isfinite(twice).all()
    p = np.array([[float(v) for v in rows_softmax([mpf(u) for u in row])] for row in ROWS])
    if "softmax" not in name and y.ndim == 1:
        expected = p * (tangents - (p * tangents).sum(axis=1, keepdims=True))
        np.testing.assert_allclose(twice, expected, rtol=1e-11, atol=1e-14)


def test_gradients_written_by_hand() -> None:
    """What a user writes for the gradient of log(1 + exp(x)) and of log(sum(exp(x))) is as stable."""
    x = ad.input("x", ("n", 5))
    values = compiled(Graph((x.node,), ((ad.exp(x) / (1 + ad.exp(x))).node, by_hand(x).node)), [ROWS])
    assert np.isfinite(values).all()
    np.testing.assert_allclose(values[0], truth(sigma, ROWS.ravel(), "float64").reshape(ROWS.shape), rtol=1e-15)


@pytest.mark.parametrize(
    "build",
    [
        lambda x: ad.exp(x) * ad.exp(2 * x),
        lambda x: 1 - ad.tanh(x) ** 2,
        lambda x: ad.sqrt(x) * ad.sqrt(x + 1),
        lambda x: ad.exp(ad.log(x)),
        lambda x: ad.log(ad.exp(x) - 2),
        lambda x: ad.log(2 + ad.exp(x)),
        lambda x: x**9,
        lambda x: x**-5,
        lambda x: x**3.5,
        lambda x: x**0.25,
        lambda x: ad.log(ad.exp(x) / 3),
    ],
)
def test_what_is_left_alone(build: Callable[[Tensor], Tensor]) -> None:
    """What rounds no better another way, or would cost more."""
    x = ad.input("x", ("n",))
    graph = Graph((x.node,), (build(x).node,))
    before, after = ([n.op.name for n in g.nodes] for g in (graph, simplify(graph)))
    assert [name for name in before if name != "square"] == [name for name in after if name != "square"]


def test_both_halves_of_a_pullback_share_the_stable_form() -> None:
    """The pullback is given the powers and their sum; it computes neither a maximum nor an exponential again."""
    x = ad.input("x", ("n", 5), requires_grad=True)
    f = ad.compile([x], ad.log(ad.sum(ad.exp(x), axis=1)))
    value, pullback = f.vjp(ROWS)
    np.testing.assert_allclose(value, [float(lse([mpf(v) for v in row])) for row in ROWS], rtol=1e-15)
    expected = [[float(v) for v in rows_softmax([mpf(u) for u in row])] for row in ROWS]
    np.testing.assert_allclose(pullback(np.ones(len(ROWS)))[x], expected, rtol=1e-13)
    backward = f._passes.backward.target
    assert [name for name, _ in backward.inputs][1:-1] == [f"kept_{k}" for k in range(len(backward.inputs) - 2)]
