"""Derivatives of the user's own and checkpoints, against JAX: both modes, second order, in loops; what they cost."""

# ruff: noqa: E501  (a table of cases)

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import staticad as ad
from staticad.errors import DTypeError, GraphError, ShapeError

RNG = np.random.default_rng(5)
XS, W = RNG.normal(size=(4, 3)), np.array([0.3, 0.2, -0.5])


class JaxNames:
    """JAX under the names that the programs use; loops are unrolled, since its scan applies wrong rules otherwise."""

    def __init__(self) -> None:
        jax = pytest.importorskip("jax")
        jax.config.update("jax_enable_x64", True)
        self.jax, self.jnp = jax, jax.numpy
        self.custom_jvp, self.custom_vjp, self.checkpoint = jax.custom_jvp, jax.custom_vjp, jax.checkpoint
        self.stop_gradient = jax.lax.stop_gradient

    def scan(self, f: Any, init: Any, xs: Any) -> Any:
        ys: list[Any] = []
        for x in xs:
            init, y = f(init, x)
            ys.append(y)
        return init, self.jnp.stack(ys)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jnp, name)


def own_jvp(p: Any) -> Any:
    """A rule that is not the derivative, so that taking another one shows."""

    @p.custom_jvp
    def f(x: Any, a: Any) -> Any:
        return {"s": p.sin(x) * a, "c": p.cos(x)}

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (x, a), (dx, da) = primals, tangents
        out = f(x, a)
        return out, {"s": out["c"] * a * dx * 2.0 + p.sin(x) * da, "c": -out["s"] * dx}

    return f


def own_vjp(p: Any) -> Any:
    """As `own_jvp`."""

    @p.custom_vjp
    def g(x: Any, y: Any) -> Any:
        return x * y, x + y

    def bwd(residuals: Any, cotangents: Any) -> Any:
        (x, y), (a, b) = residuals, cotangents
        return 3.0 * y * a + b, x * a * p.sin(x) + b

    g.defvjp(lambda x, y: (g(x, y), (x, y)), bwd)
    return g


def with_jvp(p: Any, xs: Any, w: Any) -> Any:
    out = own_jvp(p)(xs, w)
    return p.tanh(out["s"]) + out["c"] * out["s"]


def with_vjp(p: Any, xs: Any, w: Any) -> Any:
    u, v = own_vjp(p)(p.sin(xs), w + 0.0 * xs)
    return u * v


def one_result_unread(p: Any, xs: Any, w: Any) -> Any:
    return own_vjp(p)(xs, w + xs)[1] + own_jvp(p)(xs, w)["c"]


def around_each_other(p: Any, xs: Any, w: Any) -> Any:
    return own_vjp(p)(own_jvp(p)(xs, w)["s"], xs)[0] * own_jvp(p)(own_vjp(p)(xs, w + xs)[1], w)["s"]


def in_a_loop(p: Any, xs: Any, w: Any) -> Any:
    f, g = own_jvp(p), own_vjp(p)

    def step(h: Any, x: Any) -> Any:
        out = f(h, w)
        u, v = g(out["s"], x)
        return p.tanh(u + v * out["c"]), u

    h, ys = p.scan(step, w, xs)
    return ys * h


def not_everything(p: Any, xs: Any, w: Any) -> Any:
    """Arguments that rules get as they are, and a cotangent of None."""

    def power(x: Any, n: int, y: Any) -> Any:
        return x**n * y

    f = p.custom_vjp(power, nondiff_argnums=(1,))
    f.defvjp(lambda x, n, y: (f(x, n, y), (x, y)), lambda n, r, g: (2.0 * n * g * r[0], None))
    h = p.custom_jvp(power, nondiff_argnums=(1,))
    h.defjvp(lambda n, xy, t: (h(xy[0], n, xy[1]), n * t[0] * xy[1] + t[1] * xy[0]))
    return f(xs, 3, w) * h(w, 2, xs)


def stopped(p: Any, xs: Any, w: Any) -> Any:
    return xs * p.stop_gradient(p.sin(xs) * w) + p.stop_gradient({"a": xs})["a"] * w


def checkpoints(p: Any, xs: Any, w: Any) -> Any:
    """Nests, what is read from outside, one in another."""
    inner = p.checkpoint(lambda x: p.sin(p.exp(x) * w))
    outer = p.checkpoint(lambda d: {"y": p.tanh(inner(d["x"])) * inner(w), "z": d["x"] * w})
    out = outer({"x": p.cos(xs)})
    return out["y"] * out["z"]


def checkpoint_in_a_loop(p: Any, xs: Any, w: Any) -> Any:
    step = p.checkpoint(lambda h, x: ((h2 := p.tanh(p.sin(h * w) + x)), h2 * p.exp(h)))
    h, ys = p.scan(step, w, xs)
    return ys * h


def loop_in_a_checkpoint(p: Any, xs: Any, w: Any) -> Any:
    g = own_vjp(p)
    return p.checkpoint(lambda xs: p.scan(lambda h, x: ((h2 := g(p.sin(h), x)[0] + w), h2), w, xs)[1])(p.sin(xs))


PROGRAMS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        with_jvp, with_vjp, one_result_unread, around_each_other, in_a_loop, not_everything, stopped, checkpoints,
        checkpoint_in_a_loop, loop_in_a_checkpoint,
    )
}  # fmt: skip


def loss(p: Any, program: Callable[..., Any], xs: Any, w: Any) -> Any:
    return p.sum(p.sin(program(p, xs, w)))


@pytest.mark.parametrize("name", PROGRAMS)
def test_derivatives_of_both_modes_and_second_order_are_those_of_jax(name: str) -> None:
    program, p = PROGRAMS[name], JaxNames()
    jax = p.jax

    def slope(xs: Any, w: Any) -> Any:
        return sum(p.sum(p.sin(g)) for g in jax.grad(lambda *x: loss(p, program, *x), (0, 1))(xs, w))

    expected = [
        loss(p, program, XS, W),
        *jax.grad(lambda *x: loss(p, program, *x), (0, 1))(XS, W),
        *jax.grad(slope, (0, 1))(XS, W),
    ]
    given = [ad.input("xs", ("n", 3)), ad.input("w", (3,))]
    moves = [np.cos(XS), np.cos(W)]
    value = loss(ad, program, *given)
    first = ad.grad(value, given)
    bent = sum((ad.sum(ad.sin(g)) for g in first), start=ad.constant(0.0))
    tangents = [ad.jvp(value, given, moves_of(given)), ad.jvp(bent, given, moves_of(given))]
    outputs = [value, *first, *ad.grad(bent, given), *tangents]
    found = ad.compile(given, outputs)(XS, W)
    for a, e in zip(found, expected, strict=False):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-12)
    # <gradient, t>: the two modes of one rule are each other's transpose.
    for k in (1, 3):
        along = sum(np.sum(g * t) for g, t in zip(expected[k : k + 2], moves, strict=True))
        np.testing.assert_allclose(found[5 + k // 2], along, rtol=1e-10, atol=1e-12)
    for a, e in zip(found, ad.evaluate(outputs, dict(zip(given, (XS, W), strict=True))), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["with_jvp", "stopped", "checkpoints", "checkpoint_in_a_loop"])
def test_derivatives_of_a_jacobian_in_a_graph(name: str) -> None:
    """Its directions are lanes, over which what does not move stays one array, also where it is replaced later."""
    program, p = PROGRAMS[name], JaxNames()
    jax = p.jax
    xs, w = XS[:2], W
    jacobian = [jax.jacfwd(lambda w, xs=xs: program(p, xs, w)), jax.jacfwd(lambda xs: program(p, xs, w))]
    expected = [jax.jvp(f, (x,), (np.cos(x),))[1] for f, x in zip(jacobian, (w, xs), strict=True)]
    given = [ad.input("xs", (2, 3)), ad.input("w", (3,))]
    ours = [
        ad.func.jacfwd(lambda w: program(ad, given[0], w))(given[1]),
        ad.func.jacfwd(lambda xs: program(ad, xs, given[1]))(given[0]),
    ]
    moved = [ad.jvp(y, x, ad.cos(x)) for y, x in zip(ours, reversed(given), strict=True)]
    for a, e in zip(ad.compile(given, moved)(xs, w), expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-10, atol=1e-12)


def moves_of(given: list[ad.Tensor]) -> list[ad.Tensor]:
    return [ad.cos(x) for x in given]


@pytest.mark.parametrize("name", ["around_each_other", "in_a_loop", "checkpoints", "checkpoint_in_a_loop"])
def test_backward_and_vjp_of_a_function(name: str) -> None:
    given = [ad.input("xs", ("n", 3), requires_grad=True), ad.input("w", (3,), requires_grad=True)]
    out = PROGRAMS[name](ad, *given)
    expected = ad.evaluate(ad.grad(out, given, ad.cos(given[0])), dict(zip(given, (XS, W), strict=True)))
    f = ad.compile(given, out)
    _, pullback = f.vjp(XS, W)
    found = pullback(np.cos(XS))
    f(XS, W)
    f.backward(np.cos(XS))
    for x, e in zip(given, expected, strict=True):
        np.testing.assert_allclose(found[x], e, rtol=1e-11)
        np.testing.assert_allclose(x.grad, e, rtol=1e-11)


def test_a_rule_runs_in_float32() -> None:
    x = ad.input("x", (3,), dtype="float32")
    g = ad.grad(ad.sum(own_vjp(ad)(x, x)[0]), x)
    value = ad.evaluate(g, {x: np.array([0.1, 0.2, 0.3], "float32")})
    assert value.dtype == np.float32
    v = np.array([0.1, 0.2, 0.3])
    np.testing.assert_allclose(value, 3 * v + v * np.sin(v), rtol=1e-6)


def test_defjvps_adds_a_rule_for_each_argument() -> None:
    @ad.custom_jvp
    def f(x: Any, y: Any, z: Any) -> Any:
        return x * y * z

    f.defjvps(lambda t, out, x, y, z: t * out, None, lambda t, out, x, y, z: 5.0 * t)
    x = [ad.input(f"x{k}", ()) for k in range(3)]
    values = dict(zip(x, (2.0, 3.0, 4.0), strict=True))
    assert [float(g) for g in ad.evaluate(ad.grad(f(*x), x), values)] == [24.0, 0.0, 5.0]


def test_keywords_and_numbers_reach_a_rule() -> None:
    @ad.custom_vjp
    def scaled(x: Any, factor: float = 2.0, power: int = 1) -> Any:
        return factor * x**power

    scaled.defvjp(lambda x, factor, power: (scaled(x, factor, power), factor), lambda r, g: (r * g, None, None))
    x = ad.input("x", ())
    assert float(ad.evaluate(ad.grad(scaled(x, power=3), x), {x: 5.0})) == 2.0
    assert scaled(3.0, power=2) == 18.0  # nothing to differentiate


def test_integers_have_no_derivative() -> None:
    @ad.custom_jvp
    def pick(x: Any, k: Any) -> Any:
        return ad.take(x, k), k + 1

    @pick.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        (x, k), (t, none) = primals, tangents
        assert none is None
        return pick(x, k), (3.0 * ad.take(t, k), None)

    x, k = ad.input("x", (4,)), ad.input("k", (2,), dtype="int64")
    y, after = pick(x, k)
    values = {x: np.arange(4.0), k: np.array([1, 1])}
    assert ad.evaluate(ad.grad(ad.sum(y), x), values).tolist() == [0.0, 6.0, 0.0, 0.0]
    assert ad.evaluate(after, values).tolist() == [2, 2]


def chain(layers: int, every: int, wrap: Callable[[Any], Any]) -> ad.Function:
    """The loss of a deep network of one width, with its gradients."""
    width, rng = 32, np.random.default_rng(9)
    x = ad.input("x", ("batch", width))
    ws = [ad.parameter(rng.normal(size=(width, width)) / width**0.5, name=f"w{k}") for k in range(layers)]

    def segment(h: Any, *ws: Any) -> Any:
        for w in ws:
            h = ad.tanh(h @ w)
        return h

    h = x
    for k in range(0, layers, every):
        h = wrap(segment)(h, *ws[k : k + every])
    value = ad.sum(h * h)
    return ad.compile([x], [value, *ad.grad(value, ws)])


def bytes_at(f: ad.Function, batch: int) -> int:
    """The workspace that a call with this batch takes."""
    from staticad.shapes import evaluate

    return evaluate(f.stats.workspace_bytes, {"batch": batch})


def test_a_checkpoint_keeps_less_of_a_deep_chain() -> None:
    """32 layers keep 32 activations; in segments of 4 they keep 8 and, at one time, those of a single segment."""
    batch = 4096
    plain, saving = chain(32, 4, lambda f: f), chain(32, 4, ad.checkpoint)
    assert bytes_at(saving, batch) < 0.4 * bytes_at(plain, batch)
    assert bytes_at(saving, batch) <= (8 + 2 * 4 + 2) * batch * 32 * 8
    v = np.cos(np.arange(320.0)).reshape(10, 32)
    for a, e in zip(saving(v), plain(v), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-11, atol=1e-14)


def test_a_checkpoint_in_a_loop_keeps_its_carry_alone() -> None:
    """Every step would leave three dear values; the loop of the backward pass computes them again."""

    def step(h: Any, x: Any) -> Any:
        return ad.tanh(ad.exp(ad.sin(h * x))), None

    def program(f: Any) -> ad.Function:
        xs, h = ad.input("xs", ("n", 64)), ad.input("h", (64,))
        last, _ = ad.scan(f, h, xs)
        return ad.compile([xs, h], ad.grad(ad.sum(last), [xs, h]))

    from staticad.shapes import evaluate

    plain, saving = program(step), program(ad.checkpoint(step))
    sizes = [evaluate(f.stats.workspace_bytes, {"n": 1000}) for f in (plain, saving)]
    assert sizes[1] < 0.6 * sizes[0]
    arrays = np.cos(np.arange(640.0)).reshape(10, 64), np.sin(np.arange(64.0))
    for a, e in zip(saving(*arrays), plain(*arrays), strict=True):
        np.testing.assert_allclose(a, e, rtol=1e-12, atol=1e-300)


def test_the_pullback_of_a_checkpoint_keeps_its_operands() -> None:
    def deep(x: Any) -> Any:
        for _ in range(6):
            x = ad.exp(ad.sin(x))
        return x

    def kept(f: Any) -> int:
        x = ad.input("x", ("n",), requires_grad=True)
        function = ad.compile([x], f(f(x)))
        return len(function._passes.forward.target.outputs) - 1

    assert kept(ad.checkpoint(deep)) <= 1 < kept(deep)


@ad.custom_jvp
def sine(x: Any) -> Any:
    return ad.sin(x)


@ad.custom_vjp
def power(x: Any) -> Any:
    return ad.exp(x)


sine.defjvp(lambda p, t: (sine(*p), t[0] * ad.cos(p[0])))
power.defvjp(lambda x: (power(x), x), lambda x, g: (g * power(x),))


def grown(x: Any) -> Any:
    return ad.while_loop(lambda h: ad.sum(h) < 5.0, lambda h: h * 1.5 + sine(x), x)


def steps_again(x: Any) -> Any:
    step = ad.checkpoint(lambda h: sine(h) * 0.1 + h + power(x) * 0.3)
    return ad.while_loop(lambda h: ad.sum(h) < 5.0, step, x)


def chosen(x: Any) -> Any:
    return ad.cond(ad.sum(x) > 0, lambda x: sine(power(x)), lambda x: power(sine(x)), x)


def chosen_again(x: Any) -> Any:
    return ad.cond(ad.sum(x) > 0, ad.checkpoint(lambda y: sine(power(y)) * x), power, x)


@pytest.mark.parametrize("f", [grown, steps_again, chosen, chosen_again, ad.checkpoint(grown), ad.checkpoint(chosen)])
def test_in_loops_of_unknown_length_and_branches(f: Any) -> None:
    at = np.array([0.3, 0.5, 0.2])
    assert ad.testing.gradcheck(f, at, check_forward_ad=True)
    assert ad.testing.gradgradcheck(f, at, check_fwd_over_rev=True)


# ---- what is refused

x = ad.input("x", (3,))
outside = ad.input("outside", (3,))
weight = ad.parameter(np.ones(3), name="weight")


def vjp_of(fwd: Any, bwd: Any, f: Any = lambda x: x * x) -> Any:
    g = ad.custom_vjp(f)
    g.defvjp(fwd, bwd)
    return ad.grad(ad.sum(g(x)), x)


def jvp_of(rule: Any, f: Any = lambda x: x * x) -> Any:
    g = ad.custom_jvp(f)
    g.defjvp(rule)
    return ad.grad(ad.sum(g(x)), x)


# fmt: off
REFUSED = [
    (lambda: ad.custom_vjp(lambda x: x)(x),                                       GraphError, r"custom_vjp: <lambda> has no rule yet; give it one with f.defvjp"),
    (lambda: ad.custom_jvp(lambda x: x)(x),                                       GraphError, r"custom_jvp: <lambda> has no rule yet; give it one with f.defjvp"),
    (lambda: vjp_of(lambda x: x, lambda r, g: (g,)),                              GraphError, r"fwd that returns no pair \(out, residuals\), but Tensor"),
    (lambda: vjp_of(lambda x: (x * x, x), lambda r, g: g),                        GraphError, r"bwd that returns no tuple with a cotangent for each of 1 arguments, but Tensor"),
    (lambda: vjp_of(lambda x: (x * x, x), lambda r, g: (g, g)),                   GraphError, r"each of 1 arguments"),
    (lambda: vjp_of(lambda x: (x * x, x), lambda r, g: (ad.sum(g),)),             ShapeError, r"what bwd of <lambda> gives has type f64, but must have the shape of f64\[3\]"),
    (lambda: vjp_of(lambda x: (x * x, x), lambda r, g: (g.astype("float32"),)),   DTypeError, r"what bwd of <lambda> gives has type f32\[3\], but must have the dtype of f64\[3\]"),
    (lambda: vjp_of(lambda x: ((x, x), x), lambda r, g: (g,)),                    ShapeError, r"what fwd of <lambda> returns: expected one tensor, got a tuple"),
    (lambda: vjp_of(abs, abs, lambda x: x * outside),                           GraphError, r"reads Tensor\(f64\[3\], name='outside'\) from outside"),
    (lambda: vjp_of(abs, abs, lambda x: x * ad.sin(weight)),                    GraphError, r"make it an argument, or cut it off with staticad.stop_gradient"),
    (lambda: jvp_of(lambda p, t: t[0]),                                           GraphError, r"rule that returns no pair \(out, tangent\), but Tensor"),
    (lambda: jvp_of(lambda p, t: (p[0] * p[0], t[0] * t[0])),                     GraphError, r"rule that is not linear in the tangents"),
    (lambda: jvp_of(lambda p, t: (p[0] * p[0], ad.sum(t[0]))),                    ShapeError, r"the tangent that the rule of <lambda> gives has type f64, but"),
    (lambda: jvp_of(lambda p, t: (p[0], t[0]), lambda x: x * outside),            GraphError, r"from outside, by which its rule gives no derivative"),
    (lambda: ad.custom_vjp(lambda x: x, nondiff_argnums=1).invocation((x,)),      GraphError, r"was given 1 arguments; nondiff_argnums=\(1,\) names others"),
]
# fmt: on


@pytest.mark.parametrize(("call", "error", "text"), REFUSED)
def test_refused(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_forward_mode_refuses_a_bwd_that_is_not_linear() -> None:
    g = ad.custom_vjp(lambda x: x * x)
    g.defvjp(lambda x: (x * x, x), lambda r, c: (r * c * c,))
    with pytest.raises(GraphError, match="not linear in the cotangents"):
        ad.jvp(g(x), x, x)


def test_a_function_may_read_what_has_no_derivative() -> None:
    k = ad.input("k", (3,), dtype="int64")
    f = ad.custom_vjp(lambda x: x * ad.stop_gradient(outside) + k + np.ones(3) + ad.constant([1.0, 2.0, 3.0]))
    f.defvjp(lambda x: (f(x), None), lambda r, g: (7.0 * g,))
    values = {x: np.ones(3), outside: np.ones(3), k: np.ones(3, int)}
    assert ad.evaluate(ad.grad(ad.sum(f(x)), x), values).tolist() == [7.0] * 3


def test_a_chain_of_many_calls() -> None:
    """A rule looks at its own call alone, so that three thousand of them take no minutes."""
    f, g, h = own_jvp(ad), own_vjp(ad), ad.checkpoint(lambda x: ad.sin(x) * 0.3)
    y = x
    for _ in range(1000):
        y = h(g(f(y, x)["s"], x)[0])
    value = ad.evaluate(ad.grad(ad.sum(y), x), {x: np.full(3, 0.5)})
    assert np.isfinite(value).all()
