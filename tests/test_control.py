"""Branches and loops of unknown length, against JAX: values, derivatives of both modes, nesting; what they compute."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticad as ad
from staticad.errors import DTypeError, GraphError, IndexOutOfRange, OutOfMemory, ShapeError, StepLimit

RNG = np.random.default_rng(7)
XS, H, W, C = RNG.normal(size=(5, 3)), RNG.normal(size=3), 0.5 * RNG.normal(size=(3, 3)), RNG.normal(size=3)
BOUND = 12


class Jax:
    """JAX under the names that the programs below use; a loop of unknown length as a bounded one, for reverse mode."""

    def __getattr__(self, name: str) -> Any:
        import jax

        return getattr(jax.numpy, name, None) or getattr(jax.lax, name)

    def cond(self, pred: Any, *rest: Any) -> Any:
        import jax

        return jax.lax.cond(pred, *rest)

    def while_loop(self, cond: Callable[[Any], Any], body: Callable[[Any], Any], init: Any) -> Any:
        import jax

        def step(carry: Any, _: Any) -> Any:
            return jax.lax.cond(cond(carry), body, lambda c: c, carry), None

        return jax.lax.scan(step, init, None, length=BOUND)[0]


def branch(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    return p.cond(p.sum(h) > 0.0, lambda h: p.sin(h) * c, lambda h: h * h + p.exp(c), h)


def other_branch(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    return p.cond(p.sum(h) <= 0.0, lambda h: p.sin(h) * c, lambda h: h * h + p.exp(c), h)


def closures(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """Branches read tensors from outside, one of which is computed there, and give what is."""
    big = p.exp(h)
    a, b = p.cond(h[0] > c[0], lambda: (p.tanh(w @ big), h[0]), lambda: (big, p.sum(w * c)))
    return a * b, big


def matrix_branch(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    return p.cond(h[1] > 0.0, lambda x: p.tanh(w @ x) @ w, lambda x: x[::-1] * p.sum(x), p.sin(c))


def switched(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def among(k: int) -> Any:
        return p.switch(k, [lambda x: x * x, lambda x: p.sin(x) * c, lambda x: p.sum(w @ x) * x], h)

    return reduce(lambda x, y: x * y + x, [among(k) for k in range(3)])


def nested_branches(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def inner(x: Any) -> Any:
        return p.cond(x[1] > 0.2, lambda y: p.exp(y) * x, lambda y: y * y * c, x * 2.0)

    return p.cond(h[0] > 5.0, lambda x: x, inner, h) + p.cond(h[0] > -5.0, inner, lambda x: x, c)


def branch_in_scan(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        h2 = p.cond(x[0] > 0.0, lambda h: p.tanh(w @ h) + x, lambda h: h * x, h)
        return h2, p.cond(h2[1] > 0.0, lambda: p.sum(h2 * c), lambda: 0.5 * h2[0])

    return p.scan(step, h, xs)


def scan_in_branch(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def loop(h: Any) -> Any:
        return p.scan(lambda h, x: ((h2 := p.sin(h * x + c)), p.sum(h2)), h, xs)

    return p.cond(h[0] > 0.0, loop, lambda h: (h, p.sum(xs, axis=1)), h), p.cond(h[0] <= 0.0, loop, loop, h * 2.0)


def powers(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    return p.while_loop(lambda y: p.sum(y * y) < 300.0, lambda y: y * 1.7 + p.sin(y * c), h)


def none_at_all(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    return p.while_loop(lambda y: p.sum(y * y) < 0.0, lambda y: y * y, h * c)


def newton(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """The square root of a scalar; two carries that are numbers."""
    a = p.sum(h * h) + 1.0
    x, last = p.while_loop(lambda s: abs(s[0] - s[1]) > 1e-3, lambda s: (0.5 * (s[0] + a / s[0]), s[0]), (a, 0.0 * a))
    return x * last


def counted(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    """An integer among the carries, which tells which slice is read."""

    def body(s: Any) -> Any:
        k, y = s
        return k + 1, p.tanh(w @ y) + xs[k]

    _, y = p.while_loop(lambda s: s[0] < 4, body, (0 * p.argmax(h), h))
    return y


def branch_in_while(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def body(y: Any) -> Any:
        return p.cond(y[0] > y[1], lambda y: y * 1.5 + c * c, lambda y: y[::-1] * 2.0 + p.sin(c), y)

    return p.while_loop(lambda y: p.max(abs(y)) < 40.0, body, h)


def while_in_scan(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def step(h: Any, x: Any) -> Any:
        y = p.while_loop(lambda y: p.sum(abs(y)) < 6.0, lambda y: y * 1.8 + p.sin(x * y), p.tanh(h) + x)
        return p.sin(y) + c, p.sum(y)

    return p.scan(step, h, xs)


def scan_in_while(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def body(y: Any) -> Any:
        out, ys = p.scan(lambda a, x: (p.tanh(a * x) + c, p.sum(a)), y, xs)
        return y + abs(out) + 0.1 * p.sum(ys * ys)

    return p.while_loop(lambda y: p.sum(y) < 15.0, body, h)


def while_in_while(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def body(y: Any) -> Any:
        z = p.while_loop(lambda z: p.sum(z * z) < 20.0, lambda z: z * 2.0 + c, p.sin(y))
        return y + abs(z)

    return p.while_loop(lambda y: p.sum(y) < 15.0, body, h)


def while_in_branch(p: Any, xs: Any, h: Any, w: Any, c: Any) -> Any:
    def loop(h: Any) -> Any:
        return p.while_loop(lambda y: p.sum(y * y) < 50.0, lambda y: y * 1.7 + p.sin(y * c), h)

    return p.cond(h[0] > 0.0, loop, lambda h: h, h) * p.cond(h[0] > 0.0, lambda h: h, loop, h)


PROGRAMS = [
    branch, other_branch, closures, matrix_branch, switched, nested_branches, branch_in_scan, scan_in_branch, powers,
    none_at_all, newton, counted, branch_in_while, while_in_scan, scan_in_while, while_in_while, while_in_branch,
]  # fmt: skip


def inputs(dtype: str = "float64") -> list[ad.Tensor]:
    shapes = {"xs": ("t", 3), "h": (3,), "w": (3, 3), "c": (3,)}
    return [ad.input(name, shape, dtype, requires_grad=True) for name, shape in shapes.items()]


def total(p: Any, found: Any) -> Any:
    """A scalar of everything that a program returns."""
    flat = list(found) if isinstance(found, tuple) else [found]
    flat = [y for x in flat for y in (x if isinstance(x, tuple) else [x])]
    return sum((p.sum(p.sin(x) * (k + 1.0)) for k, x in enumerate(flat)), start=0.0 * p.sum(flat[0]))


def reference(program: Callable[..., Any], order: int) -> Callable[..., Any]:
    jax = pytest.importorskip("jax")

    def loss(*args: Any) -> Any:
        return total(jax.numpy, program(Jax(), *map(jax.numpy.asarray, args)))

    f = loss
    for _ in range(order):
        g = jax.grad(f, argnums=(0, 1, 2, 3))
        f = lambda *args, g=g: sum(jax.numpy.sum(jax.numpy.cos(x)) for x in g(*args))
    return f


@pytest.fixture(autouse=True)
def x64() -> Any:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield


def derived(program: Callable[..., Any], given: list[ad.Tensor], order: int) -> ad.Tensor:
    found = total(ad, program(ad, *given))
    for _ in range(order):
        found = sum((ad.sum(ad.cos(g)) for g in ad.grad(found, given)), start=ad.zeros(()))
    return found


@pytest.mark.parametrize("program", PROGRAMS)
def test_values_and_derivatives_of_three_orders(program: Callable[..., Any]) -> None:
    """Each order sums the cosines of the gradients of the one before; for either sign of the carry."""
    given = inputs()
    f = ad.compile(given, [derived(program, given, order) for order in range(3)])
    for sign in (1.0, -1.0):
        arrays = XS, sign * H, W, C
        expected = [reference(program, order)(*arrays) for order in range(3)]
        np.testing.assert_allclose([float(x) for x in f(*arrays)], expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("program", PROGRAMS)
def test_forward_mode(program: Callable[..., Any]) -> None:
    jax = pytest.importorskip("jax")
    given = inputs()
    tangents = [ad.input(f"t{k}", x.shape) for k, x in enumerate(given)]
    value = total(ad, program(ad, *given))
    f = ad.compile([*given, *tangents], ad.jvp(value, given, tangents))
    arrays = XS, H, W, C
    moved = tuple(np.cos(3.0 * x) for x in arrays)
    expected = jax.jvp(reference(program, 0), arrays, moved)[1]
    np.testing.assert_allclose(f(*arrays, *moved), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("program", PROGRAMS)
def test_backward_of_a_function(program: Callable[..., Any]) -> None:
    """What the forward function keeps for the pullback does not hold arrays of unknown size."""
    jax = pytest.importorskip("jax")
    given = inputs()
    f = ad.compile(given, total(ad, program(ad, *given)))
    arrays = XS, H, W, C
    _, pullback = f.vjp(*arrays)
    expected = jax.grad(reference(program, 0), argnums=(0, 1, 2, 3))(*arrays)
    found = pullback()
    for x, e in zip(given, expected, strict=True):
        np.testing.assert_allclose(found[x] if x in found else 0.0 * e, e, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("program", [branch_in_scan, scan_in_while, switched, while_in_scan])
def test_single_precision(program: Callable[..., Any]) -> None:
    given = inputs("float32")
    f = ad.compile(given, [derived(program, given, order) for order in range(2)])
    arrays = [x.astype("float32") for x in (XS, H, W, C)]
    expected = [reference(program, order)(*(x.astype("float64") for x in arrays)) for order in range(2)]
    np.testing.assert_allclose([float(x) for x in f(*arrays)], expected, rtol=2e-3)


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_interpreter_agrees(program: Callable[..., Any]) -> None:
    given = inputs()
    value = derived(program, given, 1)
    arrays = XS, H, W, C
    expected = ad.compile(given, value)(*arrays)
    np.testing.assert_allclose(ad.evaluate(value, dict(zip(given, arrays, strict=True))), expected, rtol=1e-12)


def test_one_branch_runs() -> None:
    """The other one would find an index out of range, and is as long as it likes."""
    x, at = ad.input("x", ("n",)), ad.input("at", (), dtype="int64")
    y = ad.cond(at < 0, lambda: 0.0 * x[0], lambda: ad.sin(x[at]))
    f = ad.compile([x, at], [y, ad.grad(y, x)])
    assert f(np.ones(2), np.array(-7))[0] == 0.0
    np.testing.assert_allclose(f(np.ones(2), np.array(1))[1], [0.0, np.cos(1.0)])
    with pytest.raises(IndexOutOfRange):
        f(np.ones(2), np.array(2))


def test_what_a_loop_reads_at_its_end_is_not_read() -> None:
    """The step that the condition refuses would read behind the array."""
    x = ad.input("x", ("n",))
    n, s = ad.while_loop(lambda s: s[0] < x.shape[0], lambda s: (s[0] + 1, s[1] + x[s[0]] ** 2), (0, 0.0))
    f = ad.compile([x], [n, s, ad.grad(s, x)])
    for size in (0, 1, 4):
        found = f(np.arange(1.0, size + 1))
        assert found[0] == size
        np.testing.assert_array_equal(found[2], 2.0 * np.arange(1.0, size + 1))


def test_a_long_tape() -> None:
    """More than any first guess of its size, arrays of several shapes on it, twice the same."""
    n, x = ad.input("n", (), dtype="int64"), ad.input("x", (2,))
    _, y, z = ad.while_loop(
        lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] + 1e-5 * ad.sin(s[1]) * s[2], ad.cos(s[2])), (0, x, x[0])
    )
    f = ad.compile([n, x], [y, *ad.grad(ad.sum(y) + z, [x])])
    steps, at = 100_000, np.array([0.3, 0.7])
    first, again = f(np.array(steps), at), f(np.array(steps), at)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    jax = pytest.importorskip("jax")

    def loss(x: Any) -> Any:
        step = lambda s, _: ((s[0] + 1e-5 * jax.numpy.sin(s[0]) * s[1], jax.numpy.cos(s[1])), None)
        (y, z), _ = jax.lax.scan(step, (x, x[0]), None, length=steps)
        return jax.numpy.sum(y) + z

    np.testing.assert_allclose(first[1], jax.grad(loss)(at), rtol=1e-9)


def test_the_most_steps() -> None:
    x = ad.input("x", ())
    y = ad.while_loop(lambda y: y < 100.0, lambda y: y * 2.0, x, max_steps=5)
    f = ad.compile([x], [y, ad.grad(y, x)])
    assert f(np.array(10.0)) == [160.0, 16.0]
    with pytest.raises(StepLimit, match="5 steps"):
        f(np.array(1e-3))


def test_a_number_of_no_branch() -> None:
    k, x = ad.input("k", (), dtype="int64"), ad.input("x", (3,))
    f = ad.compile([k, x], ad.switch(k, [ad.sin, ad.cos], x))
    np.testing.assert_allclose(f(np.array(1), H), np.cos(H))
    for bad in (-1, 2):
        with pytest.raises(IndexOutOfRange, match="2 branches"):
            f(np.array(bad), H)


def test_scalars_are_local_variables() -> None:
    x = ad.input("x", ())
    y = ad.while_loop(lambda y: y < 100.0, lambda y: ad.cond(y < 3.0, lambda: y * y, lambda: y + 1.0), x)
    f = ad.compile([x], y)
    assert f.stats.workspace_bytes == 0 and not re.search(r"m\.(copy|slot)", f.source)
    assert f(np.array(2.5)) == pytest.approx(100.25)


def test_in_nopython_code_and_without_jit() -> None:
    from numba import njit

    x = ad.input("x", ())
    y = ad.while_loop(lambda y: y < 100.0, lambda y: y * y, x)
    f = ad.compile([x], [y, ad.grad(y, x)]).njit

    @njit
    def twice(a: Any, out: Any, slope: Any) -> None:
        f(a, out, slope)
        f(out / 50.0, out, slope)

    out, slope = np.zeros(()), np.zeros(())
    twice(np.array(2.0), out, slope)
    assert (out, slope) == pytest.approx((5.12**4, 4 * 5.12**3))


def test_a_tape_takes_no_more_than_memory_holds() -> None:
    """A loop that never ends is refused its tape, and what it had is given back; smaller ones go on."""
    from staticad.runtime import budget
    from staticad.runtime.kernels import tape

    before = budget.table[budget.LIMIT]
    x = ad.input("x", (3,))
    n = ad.input("n", (), "int64")
    y = ad.while_loop(lambda s: s[1] != n, lambda s: (ad.sin(s[0]) * ad.exp(-s[0] * s[0]), s[1] + 1), (x, 0))[0]
    f = ad.compile([x, n], [y, ad.grad(ad.sum(y), x)])
    expected = f(H, np.array(1000))
    assert budget.table[budget.TAKEN] == 0
    budget.table[budget.LIMIT] = 1 << 20
    try:
        for _ in range(2):
            with pytest.raises(OutOfMemory, match=r"while_loop: no memory for .* give it max_steps"):
                f(H, np.array(-1))
            assert budget.table[budget.TAKEN] == 0
            for value, other in zip(f(H, np.array(1000)), expected, strict=True):
                np.testing.assert_array_equal(value, other)
        assert tape.grown([[np.empty(1 << 19, "u1")]], 0, 1 << 20)
        assert not tape.grown([[np.empty(1 << 19, "u1")]], 0, (1 << 20) + 1)
    finally:
        budget.table[budget.LIMIT] = before
    f(H, np.array(100_000))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads what Linux says")
def test_the_budget_is_a_share_of_the_memory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from staticad.runtime import budget

    (line,) = (x for x in Path("/proc/meminfo").read_text().splitlines() if x.startswith("MemTotal"))
    monkeypatch.setattr(budget, "GROUPS", (str(tmp_path / "none"), str(tmp_path / "limit")))
    (tmp_path / "limit").write_text("max\n")
    assert budget.memory() == 1024 * int(line.split()[1])
    (tmp_path / "limit").write_text("5000000\n")
    assert budget.memory() == 5_000_000
    assert 0 < budget.table[budget.LIMIT] <= 0.75 * 1024 * int(line.split()[1])


# fmt: off
#: Programs in whose bodies two sizes must agree, and what NumPy says they are where all of ``y`` is like ``x``.
SIZES: dict[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "scan":    (lambda x, y: ad.scan(lambda c, t: (c + t, None), x, y)[0],           lambda x, y: x + y.sum(0)),
    "map":     (lambda x, y: ad.map(lambda t: t * x, y),                             lambda x, y: y * x),
    "while":   (lambda x, y: ad.while_loop(lambda s: s[1] < 4, lambda s: (s[0] + y[s[1]], s[1] + 1), (x, 0))[0],
                                                                                     lambda x, y: x + y.sum(0)),
    "cond":    (lambda x, y: ad.cond(ad.sum(y) > 0, lambda: x + y[0], lambda: x),    lambda x, y: x + y[0]),
    "nested":  (lambda x, y: ad.map(lambda a: ad.scan(lambda c, t: (c + t @ x, None), a, y)[0], x),
                                                                                     lambda x, y: x + (y @ x).sum()),
    "slope":   (lambda x, y: ad.grad(ad.sum(ad.scan(lambda c, t: (c * t, None), x, y)[0]), x),
                                                                                     lambda x, y: y.prod(0)),
}
# fmt: on


@pytest.mark.parametrize("name", SIZES)
def test_sizes_in_bodies_are_checked(name: str) -> None:
    """On entry, also where a body alone needs them to be equal: else it would read past the end."""
    build, meaning = SIZES[name]
    f = ad.compile(xs := [ad.input("x", ("n",)), ad.input("y", ("k", "m"))], build(*xs))
    x, y = RNG.uniform(1, 2, 3), RNG.uniform(1, 2, (4, 3))
    np.testing.assert_allclose(f(x, y), meaning(x, y), rtol=1e-14)
    for size in (2, 5):
        with pytest.raises(ShapeError, match="must be =="):
            f(RNG.normal(size=size), y)


def test_a_branch_may_be_guarded_against_no_elements() -> None:
    x = ad.input("x", ("n",))
    largest = ad.cond(ad.sum(ad.ones_like(x)) > 0, lambda: ad.max(x), lambda: 0.0)
    f = ad.compile([x], largest)
    assert (f(np.zeros(0)), f(np.array([1.0, 3.0]))) == (0.0, 3.0)
    in_a_loop = ad.compile([x], ad.scan(lambda c, _: (c + ad.max(x), None), 0.0, None, 2)[0])
    assert in_a_loop(np.array([1.0, 3.0])) == 6.0
    with pytest.raises(ShapeError, match="max of nothing"):
        in_a_loop(np.zeros(0))


@pytest.mark.parametrize(
    ("build", "error", "match"),
    [
        (lambda x: ad.cond(x, lambda: x, lambda: x), ShapeError, "use where"),
        (lambda x: ad.cond(x[0], lambda: x, lambda: x), DTypeError, "compare"),
        (lambda x: ad.cond(x[0] > 0, lambda: x, lambda: x[0]), ShapeError, "agree in shape"),
        (lambda x: ad.cond(x[0] > 0, lambda: x, lambda: ad.argmax(x) + 0 * ad.arange(3)), DTypeError, "astype"),
        (lambda x: ad.cond(x[0] > 0, lambda: (x, x), lambda: x), ShapeError, "cond: what the branches return"),
        (lambda x: ad.switch(x[0], [ad.sin], x), DTypeError, "integer scalar"),
        (lambda x: ad.switch(ad.argmax(x), [], x), GraphError, "no branch"),
        (lambda x: ad.while_loop(lambda y: y, lambda y: y, x), ShapeError, "all and any"),
        (lambda x: ad.while_loop(lambda y: y[0], lambda y: y, x), DTypeError, "truth value"),
        (lambda x: ad.while_loop(lambda y: y[0] > 0, lambda y: y[0], x), ShapeError, "keep its shape"),
        (lambda x: ad.while_loop(lambda y: y[0] > 0, lambda y: (y, y), x), ShapeError, "carry"),
    ],
)
def test_errors_tell_the_way_out(build: Callable[[Any], Any], error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        build(ad.input("x", (3,)))


def interrupted(call: Callable[[], Any]) -> None:
    """Ctrl-C while ``call`` runs ends it, soon."""
    import signal

    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with pytest.raises(KeyboardInterrupt):
            call()
    finally:
        signal.signal(signal.SIGALRM, before)


def waves(h: Any, xs: Any = None, length: int | None = None, **options: Any) -> Any:
    return ad.scan(lambda h, _: (ad.sin(h), None), h, xs, length, **options)[0]


# fmt: off
#: Loops over steps, of a number that is as good as endless: static, of an input without elements, in and around others.
ENDLESS: dict[str, Callable[[Any, Any], Any]] = {
    "static":   lambda h, xs: waves(h, None, 10**13),
    "symbolic": lambda h, xs: waves(h, xs),
    "reverse":  lambda h, xs: waves(h, xs, reverse=True),
    "within":   lambda h, xs: ad.scan(lambda h, _: (waves(h, xs), None), h, None, 3)[0],
    "around":   lambda h, xs: ad.scan(lambda h, _: (waves(h, None, 3), None), h, xs)[0],
    "branch":   lambda h, xs: ad.cond(h[0] < 9, lambda: waves(h, xs), lambda: h),
    "while":    lambda h, xs: ad.while_loop(lambda h: h[0] < 9, ad.sin, h),
}
# fmt: on


@pytest.mark.skipif(sys.platform == "win32", reason="there are no alarms")
@pytest.mark.parametrize("size", [1, 10**6])
@pytest.mark.parametrize("name", ENDLESS)
def test_ctrl_c_ends_a_scan(name: str, size: int) -> None:
    """Whatever a step takes, which is known when the function is called; and where nobody asks, nothing ends."""
    h, xs = ad.input("h", ("m",)), ad.input("xs", ("n", 0))
    f = ad.compile([h, xs], ENDLESS[name](h, xs))
    ad.compile([h], ad.sin(h))(np.ones(10**6))  # threads are there: Ctrl-C does not come while they are made
    interrupted(lambda: f(np.ones(size), np.empty((10**13, 0))))


def test_scans_look_for_ctrl_c_where_they_may_take_long() -> None:
    """Never in the innermost loop, and in none that is over soon."""
    h, xs = ad.input("h", (3,)), ad.input("xs", ("n", 3))

    def source(steps: Any, length: Any) -> str:
        return ad.compile([h, xs], ad.scan(lambda h, _: (ad.sin(h), None), h, steps, length)[0]).source

    assert "interrupted" not in source(None, 10_000)
    (line,) = [line for line in source(xs, None).splitlines() if "interrupted" in line]
    assert line.startswith(" " * 12 + "if")  # in the loop over parts, if it is not the first
    total = ad.compile([h, xs], ad.sum(xs, axis=0) + h).source
    assert "interrupted" not in total


def test_parts_of_a_scan_are_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients of scans cut into parts of a few steps."""
    monkeypatch.setattr("staticad.body.BETWEEN", 1 << 12)
    h, xs = ad.input("h", (3,)), ad.input("xs", ("n", 3))
    last, ys = ad.scan(lambda h, x: ((y := ad.sin(h * x + h)), y * x), h, xs)
    outputs = [last, ys, *ad.grad(ad.sum(last) + ad.sum(ad.cos(ys)), [h, xs])]
    f = ad.compile([h, xs], outputs)
    (between,) = {int(x) for x in re.findall(r"for \w+_start in range\(0, n, (\d+)\)", f.source)}
    assert 2 <= between <= 64
    for n in (0, 1, between - 1, between, between + 1, 2 * between, 5 * between + 3):
        args = np.array([0.3, -0.2, 0.9]), np.random.default_rng(n).normal(size=(n, 3))
        for a, b in zip(f(*args), ad.evaluate(outputs, dict(zip([h, xs], args, strict=True))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no alarms")
def test_ctrl_c_ends_a_loop() -> None:
    """From Python, and in the user's own compiled code; nothing is wrong afterwards."""
    from numba import njit

    n, x = ad.input("n", (), dtype="int64"), ad.input("x", ())
    y = ad.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, ad.sin(s[1])), (0, x))[1]
    f = ad.compile([n, x], y)
    inner, out = f.njit, np.zeros(())

    @njit
    def run(n: Any, x: Any, out: Any) -> None:
        inner(n, x, out)

    few, many, at = np.array(3), np.array(10**13), np.array(0.5)
    run(few, at, out)
    interrupted(lambda: f(many, at))
    interrupted(lambda: run(many, at, out))
    assert f(few, at) == pytest.approx(np.sin(np.sin(np.sin(0.5))))


@pytest.mark.skipif(sys.platform == "win32", reason="there are no alarms")
@pytest.mark.parametrize("threads", [1, 2, 4])
def test_ctrl_c_ends_a_map_on_all_threads(threads: int) -> None:
    """Items that are as good as endless and items of which there are many; nothing is wrong afterwards."""
    script = """
import signal, time
import numpy as np, staticad as ad
from staticad.runtime import threads

x, times, some = ad.input("x", ("n",)), ad.input("times", ("t", 0)), np.linspace(0, 1, 10)
f = ad.compile([x, times], ad.map(lambda v: ad.scan(lambda h, _: (ad.sin(h), None), v, times)[0], x), parallel=True)
right = f(some, np.empty((3, 0)))
many = np.ones(10**5)
again = lambda v: ad.while_loop(lambda s: s[1] < 10**5, lambda s: (ad.sin(s[0]), s[1] + 1), (v, 0))[0]
g = ad.compile([x], ad.map(again, x), parallel=True)
signal.signal(signal.SIGALRM, signal.default_int_handler)
endless = np.empty((10**13, 0))
long = np.empty((10**7, 0))
cases = [(f, (some, endless)), (f, (many, long)), (f, (np.ones(2), endless)), (g, (many,))]
words = [(), (), (), (), ((threads.ALONE, 10**15),), ((threads.BUSY, 1),)]  # then all chunks by the thread that calls
for (f_, given), set_ in zip([*cases, cases[1], cases[1]], words):
    for at, value in set_:
        threads.table[at] = value
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    start = time.perf_counter()
    try:
        f_(*given)
    except KeyboardInterrupt:
        assert time.perf_counter() - start < 20  # soon, on a machine that does much else
        print("ended")
    for at, _ in set_:
        threads.table[at] = 0
    assert np.array_equal(f(some, np.empty((3, 0))), right)
"""
    env = {**os.environ, "NUMBA_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, timeout=100)
    assert done.stdout == "ended\n" * 6, done.stderr


@pytest.mark.parametrize("weight", [None, 4])
def test_how_often_a_loop_ran_is_known_to_all_that_follows(weight: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its backward pass, too, where it leaves nothing but that, and the program is large enough to be divided."""
    if weight is not None:
        monkeypatch.setattr("staticad.division.PART_WEIGHT", weight)
    n, x = ad.input("n", (), "int64"), ad.input("x", (5,))
    y = ad.while_loop(lambda s: s[0] < n, lambda s: (s[0] + 1, s[1] * 2.0), (0, x))[1]
    g = ad.grad(ad.sum(y * ad.sin(x)), x)
    f = ad.compile([n, x], [y, g, ad.cumsum(ad.cos(g))])
    at = np.arange(5.0)
    for steps in (0, 1, 3):
        slope = 2.0**steps * (np.sin(at) + at * np.cos(at))
        for found, e in zip(f(steps, at), [2.0**steps * at, slope, np.cumsum(np.cos(slope))], strict=True):
            np.testing.assert_allclose(found, e, rtol=1e-13)


def test_what_a_loop_is_given_and_does_not_read() -> None:
    """What computes that is a loop over independent items, of which nothing is left to do."""
    t, s, k, m = ad.input("t", ("t",)), ad.input("s", ()), ad.input("k", (), "int64"), ad.input("m", (2,))
    a = ad.scan(lambda c, x: (ad.tanh(c) * x, None), t, m)[0]
    halves = lambda b: ad.scan(lambda c, x: (c * 0.5, None), b, a)[0]
    y = ad.while_loop(lambda q: q[0] < k, lambda q: (q[0] + 1, q[1] * s + halves(q[1])), (0, s))[1]
    found = ad.compile([t, s, k, m], [y, ad.grad(y, s)])(np.ones(2), 3.0, 2, np.ones(2))
    np.testing.assert_allclose(found, [3.0 * 3.25**2, 3.25**2 + 3.0 * 2.0 * 3.25])


def test_a_loop_inside_of_another_has_a_number_of_steps_in_each_step() -> None:
    """Its backward pass is no loop that is there before that number is, though it reads nothing else of the steps."""
    jax = pytest.importorskip("jax")
    x, k = ad.input("x", ("n",)), ad.input("k", (), "int64")

    def loss(p: Any, x: Any, k: Any) -> Any:
        def step(c: Any) -> Any:
            k, t, _ = c
            inner = (k, t, t)
            _, t, last = p.while_loop(lambda d: d[0] > 0, lambda d: (d[0] - 1, d[1] * 1.1 + d[2], d[1]), inner)
            y = p.tanh(p.sum(x * last)) * 0.1
            return k - 1, p.sin(t * y), y

        _, t, y = p.while_loop(lambda c: c[0] > 0, step, (k, x, 0.0 * p.sum(x)))
        return p.sum(p.sin(t)) + y

    f = ad.compile([x, k], ad.grad(loss(ad, x, k), x))
    at = np.linspace(0.1, 1.0, 20)
    for steps in range(4):
        expected = jax.grad(lambda x, steps=steps: loss(Jax(), x, steps))(at)
        np.testing.assert_allclose(f(at, steps), expected, rtol=1e-12, atol=1e-15)


def test_a_constant_belongs_to_the_loop_that_reads_it() -> None:
    """Others read the same one: before it, and in steps that are not taken."""
    s, x = ad.input("s", ()), ad.input("x", (3,))
    c = ad.arange(3, dtype="float64")

    def until(end: float, start: ad.Tensor) -> Any:
        return ad.while_loop(lambda state: state[0] > end, lambda state: (state[0] - 1.0, c), (s, start))[1]

    f = ad.compile([s, x], [ad.sum(until(-1.0, x) * c), until(0.0, x), until(-3.0, 2.0 * x)])
    at, three = np.array([5.0, 6.0, 7.0]), np.arange(3.0)
    for start in (1.0, -1.0, -3.0):
        total, first, second = f(start, at)
        np.testing.assert_array_equal(total, (three if start > -1.0 else at) @ three)
        np.testing.assert_array_equal(first, three if start > 0.0 else at)
        np.testing.assert_array_equal(second, three if start > -3.0 else 2.0 * at)


def test_what_a_branch_leaves_is_not_updated_in_place() -> None:
    """A result of a branch is read at its end, after an update of it that is another result."""
    x, k = ad.input("x", (4,)), ad.input("k", (), dtype="int64")

    def both(x: ad.Tensor, k: ad.Tensor) -> tuple[ad.Tensor, ad.Tensor]:
        sums = ad.cumsum(x)
        return sums, ad.sin(sums.at[k].add(1.5))

    found = ad.compile([x, k], ad.cond(k > 0, both, lambda x, k: (x, x), x, k))(np.arange(4.0), np.asarray(2))
    np.testing.assert_allclose(found[0], [0.0, 1.0, 3.0, 6.0], rtol=1e-15)
    np.testing.assert_allclose(found[1], np.sin([0.0, 1.0, 4.5, 6.0]), rtol=1e-14)


def test_a_tape_of_rows_whose_size_is_a_sum() -> None:
    """What each step leaves has ``n + m`` elements."""
    x, y = ad.input("x", ("n",)), ad.input("y", ("m",))

    def body(state: Any) -> Any:
        k, c = state
        both = ad.tanh(ad.concat([c, y]))
        return k + 1, ad.sin(c + ad.sum(both * both * both[0]))

    def numpy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        for _ in range(4):
            both = np.tanh(np.concatenate([x, y]))
            x = np.sin(x + np.sum(both * both * both[0]))
        return np.sum(x)

    total = ad.sum(ad.while_loop(lambda state: state[0] < 4, body, (0, x))[1])
    at = np.linspace(0.1, 1, 5).astype(complex), np.linspace(-1, 1.5, 30).astype(complex)
    found = ad.compile([x, y], ad.grad(total, [x, y]))(at[0].real, at[1].real)
    for which, slope in enumerate(found):
        for k in range(len(slope)):
            moved = [v.copy() for v in at]
            moved[which][k] += 1e-30j
            np.testing.assert_allclose(slope[k], numpy(*moved).imag / 1e-30, rtol=1e-12)


@pytest.mark.parametrize("shown", [lambda x: x.reshape((20, 20)), lambda x: x.reshape((20, 20))[::-1].T])
def test_products_in_loops_with_views_of_what_has_no_operands(shown: Callable[[Any], Any]) -> None:
    x, k = ad.input("x", (20,)), ad.input("k", (), dtype="int64")
    made, exact = shown(ad.arange(400.0)), shown(np.arange(400.0))
    at, expected = np.linspace(-1.0, 1.0, 20), np.linspace(-1.0, 1.0, 20)
    for _ in range(3):
        expected = np.sin(1e-3 * expected @ exact)
    f = ad.compile([x], ad.scan(lambda c, _: (ad.sin(1e-3 * c @ made), None), x, length=3)[0])
    np.testing.assert_allclose(f(at), expected, rtol=1e-12, atol=1e-14)
    f = ad.compile([x, k], ad.cond(k > 0, lambda x: x @ made, lambda x: x - made[0], x))
    np.testing.assert_allclose(f(at, np.asarray(1)), at @ exact, rtol=1e-12)
    np.testing.assert_allclose(f(at, np.asarray(0)), at - exact[0])


def test_indices_that_other_indices_choose() -> None:
    """They are looked at where those are known."""
    x, i, j = ad.input("x", ("n",)), ad.input("i", ("m",), dtype="int64"), ad.input("j", ("k",), dtype="int64")
    f = ad.compile([x, i, j], [ad.tanh(x[i][j]), ad.sum(ad.tanh(x[i][j][::-1])), x.at[j].set(ad.tanh(x[i][j]))])
    at, first, second = np.linspace(-1, 1, 40), RNG.permutation(40)[:30], RNG.permutation(30)[:20]
    found, expected = f(at, first, second), np.tanh(at[first][second])
    np.testing.assert_allclose(found[0], expected, rtol=1e-14)
    np.testing.assert_allclose(found[1], np.sum(expected), rtol=1e-12)
    np.testing.assert_allclose(found[2][second], expected, rtol=1e-14)
    for wrong in ((first + 40, second), (first, second - 100)):
        with pytest.raises(IndexOutOfRange):
            f(at, *wrong)
