"""Loops and choices that do the same as others, made one: how many are left, and that values stay those of JAX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import test_control
import test_scan

import staticad as ad
from staticad.carries import in_order
from staticad.ir import Graph, Node, graph_text, loop_key, toposort
from staticad.simplify import simplify
from staticad.twins import merged

RNG = np.random.default_rng(5)
XS, H, C = RNG.normal(size=(6, 3)), RNG.normal(size=3), RNG.normal(size=3)


def results(nodes: Sequence[Node]) -> dict[object, list[Node]]:
    """The results of each loop and choice."""
    found: dict[object, list[Node]] = {}
    for node in toposort(nodes):
        if node.op.together is not None:
            found.setdefault(loop_key(node), []).append(node)
    return found


def before(outputs: Sequence[ad.Tensor]) -> list[Node]:
    return list(simplify(Graph((), tuple(x.node for x in outputs))).outputs)


def counts(outputs: Sequence[ad.Tensor]) -> tuple[int, int]:
    """Loops and choices at the top, as they are written and as they are compiled."""
    nodes = before(outputs)
    return len(results(nodes)), len(results(merged(nodes)))


def loops_inside(f: ad.Function) -> int:
    """The loops that a function runs step by step, those in steps of others too."""
    return sum(1 for _ in in_order(f.compiled.plan.schedule.body))


# ---- derivatives beside what they are derivatives of


def everything(value: ad.Tensor, given: Sequence[ad.Tensor], moves: Sequence[ad.Tensor]) -> list[ad.Tensor]:
    """A value, its derivative along a direction, its gradient, and the derivative of that."""
    slopes = ad.grad(value, given)
    return [value, ad.jvp(value, given, moves), *slopes, *ad.jvp(slopes, given, moves)]


def expected(f: Callable[..., Any], arrays: Sequence[Any], moves: Sequence[Any]) -> list[Any]:
    jax = pytest.importorskip("jax")
    slopes = jax.grad(f, argnums=tuple(range(len(arrays))))
    value, along = jax.jvp(f, tuple(arrays), tuple(moves))
    gradient, turned = jax.jvp(slopes, tuple(arrays), tuple(moves))
    return [value, along, *gradient, *turned]


def check(outputs: Sequence[ad.Tensor], given: Sequence[ad.Tensor], arrays: Sequence[Any], truth: Sequence[Any]) -> Any:
    f = ad.compile(list(given), list(outputs))
    for found, e in zip(f(*arrays), truth, strict=True):
        np.testing.assert_allclose(found, e, rtol=1e-9, atol=1e-9)
    return f


#: Programs whose values are compared too; the others would be compiled for what these show.
VALUES = {
    "backwards", "swapped", "nested", "nested_with_matrix", "rows_carried", "horner", "one_element",
    "closures", "switched", "branch_in_scan", "scan_in_branch", "newton", "branch_in_while", "while_in_scan",
}  # fmt: skip


@pytest.mark.parametrize("name", test_scan.PROGRAMS)
def test_scans(name: str) -> None:
    """One loop forwards and one backwards, for four kinds of derivatives."""
    given, arrays = test_scan.inputs(), [test_scan.XS, test_scan.H, test_scan.W, test_scan.C]
    moves = [ad.input(f"t{k}", x.shape) for k, x in enumerate(given)]
    outputs = everything(test_scan.loss(ad, test_scan.PROGRAMS[name](ad, *given)), given, moves)
    assert counts(outputs) == (5, 2)
    if name in VALUES:
        p = test_scan.JaxNames()
        along = [np.cos(3.0 * x) for x in arrays]
        truth = expected(lambda *x: test_scan.loss(p, test_scan.PROGRAMS[name](p, *x)), arrays, along)
        check(outputs, [*given, *moves], [*arrays, *along], truth)


@pytest.mark.parametrize("program", test_control.PROGRAMS)
def test_branches_and_loops_of_unknown_length(program: Callable[..., Any]) -> None:
    jax = pytest.importorskip("jax")
    given = test_control.inputs()
    moves = [ad.input(f"t{k}", x.shape) for k, x in enumerate(given)]
    value = test_control.total(ad, program(ad, *given))
    outputs = everything(value, given, moves)
    own = len(results(before([value])))
    found, left = counts(outputs)
    assert found == 5 * own and left <= 2 * own
    if program.__name__ in VALUES:
        arrays = [test_control.XS, test_control.H, test_control.W, test_control.C]
        along = [np.cos(3.0 * x) for x in arrays]
        with jax.enable_x64(True):
            truth = expected(test_control.reference(program, 0), arrays, along)
        check(outputs, [*given, *moves], [*arrays, *along], truth)


def test_inner_loops() -> None:
    """The loops in the steps of one are one too."""
    given, arrays = test_scan.inputs(), [test_scan.XS, test_scan.H, test_scan.W, test_scan.C]
    moves = [ad.input(f"t{k}", x.shape) for k, x in enumerate(given)]
    value = test_scan.loss(ad, test_scan.nested_with_matrix(ad, *given))
    f = ad.compile([*given, *moves], [value, ad.jvp(value, given, moves)])
    assert loops_inside(f) == loops_inside(ad.compile(given, value)) == 2
    p = test_scan.JaxNames()
    along = [np.cos(x) for x in arrays]
    truth = p.jax.jvp(lambda *x: test_scan.loss(p, test_scan.nested_with_matrix(p, *x)), tuple(arrays), tuple(along))
    for found, e in zip(f(*arrays, *along), truth, strict=True):
        np.testing.assert_allclose(found, e, rtol=1e-9)


def test_the_largest_of_three_takes_all() -> None:
    """Derivatives along a direction, of the first and second order, and along another one."""
    xs, h, v = ad.input("xs", ("n", 3)), ad.input("h", (3,)), ad.input("v", (3,))
    value = ad.sum(ad.scan(lambda h, x: (ad.sin(h * x) + h, None), h, xs)[0])
    first = ad.jvp(value, h, v)
    outputs = [value, first, ad.jvp(first, h, v), ad.jvp(first, h, C)]
    assert counts(outputs) == (4, 2)
    p = test_scan.JaxNames()

    def f(h: Any) -> Any:
        return p.sum(p.scan(lambda h, x: (p.sin(h * x) + h, None), h, XS)[0])

    def along(f: Any, v: Any) -> Any:
        return lambda h: p.jax.jvp(f, (h,), (v,))[1]

    once = along(f, H)
    check(outputs, [xs, h, v], [XS, C, H], [f(C), once(C), along(once, H)(C), along(once, C)(C)])


def test_a_hessian() -> None:
    """Its loop has lanes for all directions beside what has none."""
    xs, h = ad.input("xs", ("n", 3)), ad.input("h", (3,))
    value = ad.sum(ad.scan(lambda h, x: (ad.sin(h * x) + h[::-1], None), h, xs)[0] ** 2)
    outputs = [value, ad.grad(value, h), ad.hessian(value, h)]
    assert counts(outputs) == (4, 2)
    p = test_scan.JaxNames()

    def f(h: Any) -> Any:
        return p.sum(p.scan(lambda h, x: (p.sin(h * x) + h[::-1], None), h, XS)[0] ** 2)

    check(outputs, [xs, h], [XS, H], [f(H), p.jax.grad(f)(H), p.jax.hessian(f)(H)])


# ---- what is the same, and what is not


def text(nodes: Sequence[Node]) -> list[str]:
    """The lines of a graph, its bodies numbered."""
    found = graph_text(Graph((), tuple(nodes)))
    for k, body in enumerate(dict.fromkeys(x.params["body"] for x in toposort(nodes) if "body" in x.params)):
        found = found.replace(str(body), f"#{k}")
    return [line.strip() for line in found.splitlines() if "#" in line]


def test_as_text() -> None:
    x = ad.input("x", ("n",))
    y, sums = ad.scan(lambda s, x: (s * x, s + x), 1.0, x)
    nodes = before([ad.jvp(y, x, ad.sin(x)), sums])
    assert text(nodes) == [
        "%4: f64 = final(%0, %1, x, %3, body=#0, carry=1, length=n)",
        "%5: f64[n] = stack(%0, x, body=#1, value=<add: f64>, length=n)",
    ]
    assert text(merged(nodes)) == [
        "%4: f64 = final(%0, %1, x, %3, body=#0, carry=1, length=n)",
        "%5: f64[n] = stack(%0, %1, x, %3, body=#0, value=<add: f64>, length=n)",
    ]


def test_a_direction_that_depends_on_the_value() -> None:
    """The value must be there before the derivative: both loops stay."""
    xs, h = ad.input("xs", ("n", 3)), ad.input("h", (3,))
    last, _ = ad.scan(lambda h, x: (ad.tanh(h * x) + h, None), h, xs)
    outputs = [last, ad.jvp(last, h, last)]
    assert counts(outputs) == (2, 2)
    p = test_scan.JaxNames()

    def f(h: Any) -> Any:
        return p.scan(lambda h, x: (p.tanh(h * x) + h, None), h, XS)[0]

    check(outputs, [xs, h], [XS, H], p.jax.jvp(f, (H,), (f(H),)))


def test_two_that_wait_for_each_other() -> None:
    """Either could be taken from the other's derivative, but not both: each derivative's direction is the other."""
    xs, h = ad.input("xs", ("n", 3)), ad.input("h", (3,))
    a, _ = ad.scan(lambda h, x: (ad.tanh(h * x) + h, None), h, xs)
    b, _ = ad.scan(lambda h, x: (ad.sin(h * x), None), h, xs)
    outputs = [a, b, ad.jvp(a, h, b), ad.jvp(b, h, a)]
    assert counts(outputs) == (4, 3)
    p = test_scan.JaxNames()

    def f(h: Any) -> Any:
        return p.scan(lambda h, x: (p.tanh(h * x) + h, None), h, XS)[0]

    def g(h: Any) -> Any:
        return p.scan(lambda h, x: (p.sin(h * x), None), h, XS)[0]

    a_, b_ = f(H), g(H)
    truth = [a_, b_, p.jax.jvp(f, (H,), (b_,))[1], p.jax.jvp(g, (H,), (a_,))[1]]
    check(outputs, [xs, h], [XS, H], truth)


# fmt: off
Step = Callable[[Any, Any], tuple[Any, Any]]
#: How many loops are left of two; the step of each, and what its carries start from.
PAIRS: dict[str, tuple[int, Step, str, Step, str]] = {
    "the same, traced twice": (1, lambda h, x: (h * x + 1.0, h), "h",   lambda h, x: (h * x + 1.0, h), "h"),
    "another result":         (1, lambda h, x: (h * x + 1.0, h), "h",   lambda h, x: (h * x + 1.0, ad.sin(h)), "h"),
    "another start":          (2, lambda h, x: (h * x + 1.0, h), "h",   lambda h, x: (h * x + 1.0, h), "c"),
    "another step":           (2, lambda h, x: (h * x + 1.0, h), "h",   lambda h, x: (h * x + 2.0, h), "h"),
    "one of two":             (1, lambda h, x: ((h[0] * x, h[1] + x), h[0]), "hh", lambda h, x: (h + x, h), "h"),
    "two in another order":   (1, lambda h, x: ((h[0] * h[1], h[1] + x), h[0]), "hc",
                                  lambda h, x: ((h[0] + x, h[1] * h[0]), h[1]), "ch"),
    "one that reads another": (2, lambda h, x: ((h[0] * x, h[1] + h[0]), h[1]), "hh", lambda h, x: (h + x, h), "h"),
    "later than another":     (1, lambda h, x: ((h[1], h[2], x), h[0]), "hhh", lambda h, x: ((h[1], x), h[0]), "hh"),
    "equal for two steps":    (2, lambda h, x: ((h[1], x + 1.0), h[0]), "hh", lambda h, x: ((h[1], x), h[0]), "hh"),
    "a carry that none has":  (2, lambda h, x: (h * x, h), "h", lambda h, x: ((h[0] * x, h[1] + h[0]), h[1]), "ch"),
    "no carry, the same":     (1, lambda _, x: ((), ad.sin(x) * 2.0), "", lambda _, x: ((), ad.sin(x) * x), ""),
    "no carry, other things": (2, lambda _, x: ((), ad.sin(x)), "",     lambda _, x: ((), ad.cos(x)), ""),
    "steps in any order":     (2, lambda h, x: (h * ad.sin(x), None), "h", lambda _, x: ((), ad.sin(x)), ""),
}
# fmt: on


def nest(names: str, values: dict[str, Any]) -> Any:
    """The start of a loop: one value alone, or a tuple."""
    found = tuple(values[name] for name in names)
    return found[0] if len(found) == 1 else found


@pytest.mark.parametrize("name", PAIRS)
def test_pairs(name: str) -> None:
    """Two loops over the same slices, against loops of Python."""
    left, first, start, second, other = PAIRS[name]
    xs, h, c = ad.input("xs", (6, 3)), ad.input("h", (3,)), ad.input("c", (3,))
    outputs: list[Any] = []
    truth: list[Any] = []
    for step, names in ((first, start), (second, other)):
        carry, ys = ad.scan(step, nest(names, {"h": h, "c": c}), xs)
        outputs += [*(carry if isinstance(carry, tuple) else [carry]), *([] if ys is None else [ys])]
        kept: list[Any] = []
        now = nest(names, {"h": ad.constant(H), "c": ad.constant(C)})
        for x in XS:
            now, y = step(now, ad.constant(x))
            kept.append(y)
        truth += [*(now if isinstance(now, tuple) else [now]), *([] if ys is None else [ad.stack(kept)])]
    assert counts(outputs) == (2, left)
    check(outputs, [xs, h, c], [XS, H, C], ad.evaluate(truth))


def test_other_numbers_of_steps_and_directions() -> None:
    xs, h = ad.input("xs", (6, 3)), ad.input("h", (3,))
    run = lambda **options: ad.scan(lambda h, x: (h * x + 1.0, None), h, xs, **options)[0]
    assert counts([run(), run(reverse=True)]) == (2, 2)
    length = lambda n: ad.scan(lambda h, _: (ad.sin(h), None), h, length=n)[0]
    assert counts([length(5), length(6), length(5)]) == (3, 2)


def test_a_choice_that_must_wait() -> None:
    """A choice by the same number whose operand the first one gives is not made one with it."""
    x = ad.input("x", (3,))
    first = ad.cond(x[0] > 0.0, lambda x: ad.sin(x), lambda x: x * 2.0, x)
    second = ad.cond(x[0] > 0.0, lambda y: y * x, lambda y: y + x, first)
    third = ad.cond(x[0] > 0.0, lambda x: x * x, lambda x: ad.cos(x), x)
    assert counts([first, second, third]) == (3, 2)
    for given in (H, -H):
        yes = given[0] > 0.0
        a = np.sin(given) if yes else given * 2.0
        truth = [a, a * given if yes else a + given, given * given if yes else np.cos(given)]
        check([first, second, third], [x], [given], truth)


def test_many_loops_after_each_other() -> None:
    xs, h, v = ad.input("xs", (4, 3)), ad.input("h", (3,)), ad.input("v", (3,))
    last = h
    for _ in range(120):
        last, _ = ad.scan(lambda h, x: (h * x + 0.1, None), last, xs)
    assert counts([last, ad.jvp(last, h, v)]) == (240, 120)
