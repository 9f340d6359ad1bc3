"""`staticad.func`: values, conventions and nests as JAX has them, one compilation for all sizes, errors."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import staticad as ad
from staticad import func
from staticad.errors import DTypeError, GraphError, ShapeError, SymbolicError

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")
jax.config.update("jax_enable_x64", True)

rng = np.random.default_rng(5)
MATRIX, VECTOR = rng.normal(size=(4, 3)), rng.normal(size=3)
OUTSIDE = ad.input("outside")
NEST = {"w": MATRIX, "layers": [(VECTOR, 0.5), (rng.normal(size=3), -0.25)]}


def same(found: Any, expected: Any, rtol: float = 1e-12) -> None:
    """Nests of one form with the same values, dtypes and shapes; found are NumPy's arrays."""
    mine, theirs = jax.tree_util.tree_flatten(found), jax.tree_util.tree_flatten(expected)
    assert mine[1] == theirs[1]
    for x, y in zip(mine[0], theirs[0], strict=True):
        assert type(x) is np.ndarray
        assert x.dtype == y.dtype
        assert x.shape == y.shape
        np.testing.assert_allclose(x, y, rtol=rtol, atol=1e-14 if x.dtype == np.float64 else 1e-6)


# Each function is written once, for staticad and for JAX: `xp` is the namespace.


def scalar(xp: Any) -> Callable[..., Any]:
    return lambda a, v, scale=1.0: xp.sum(xp.tanh(a @ v) ** 2) * scale + xp.sum(xp.sin(v))


def vector(xp: Any) -> Callable[..., Any]:
    return lambda a, v: xp.exp(a @ v) * xp.sum(v * v)


def nested(xp: Any) -> Callable[..., Any]:
    def f(p: Any, x: Any) -> Any:
        h = p["w"] * x
        for b, s in p["layers"]:
            h = xp.tanh(h + b) * s
        return xp.sum(h * h)

    return f


def with_aux(xp: Any) -> Callable[..., Any]:
    def f(a: Any, v: Any) -> Any:
        y = a @ v
        return xp.sum(y**3), {"y": y, "twice": (2.0 * v, [xp.sum(a)])}

    return f


# ---- values


@pytest.mark.parametrize("argnums", [0, 1, -1, (0,), (1, 0), [0, 1]])
@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacrev", "jacfwd", "hessian"])
def test_argnums(name: str, argnums: Any) -> None:
    theirs = tuple(argnums) if isinstance(argnums, list) else argnums
    mine = getattr(func, name)(scalar(ad), argnums)(MATRIX, VECTOR)
    same(mine, getattr(jax, name)(scalar(jnp), theirs)(MATRIX, VECTOR))


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacrev", "jacfwd", "hessian"])
def test_nests(name: str) -> None:
    mine = getattr(func, name)(nested(ad))(NEST, VECTOR)
    same(mine, getattr(jax, name)(nested(jnp))(NEST, VECTOR))


@pytest.mark.parametrize("name", ["grad", "value_and_grad", "jacrev", "jacfwd", "hessian"])
def test_has_aux(name: str) -> None:
    mine = getattr(func, name)(with_aux(ad), argnums=(0, 1), has_aux=True)(MATRIX, VECTOR)
    same(mine, getattr(jax, name)(with_aux(jnp), argnums=(0, 1), has_aux=True)(MATRIX, VECTOR))


@pytest.mark.parametrize("name", ["jacrev", "jacfwd", "hessian"])
def test_results_that_are_nests(name: str) -> None:
    def f(xp: Any) -> Callable[..., Any]:
        return lambda a, v: {"a": (a @ v, xp.sum(v**3)), "b": [v * 2.0]}

    mine = getattr(func, name)(f(ad), (0, 1))(MATRIX, VECTOR)
    same(mine, getattr(jax, name)(f(jnp), (0, 1))(MATRIX, VECTOR))


def test_keywords_are_passed_and_not_differentiated() -> None:
    same(func.grad(scalar(ad))(MATRIX, VECTOR, scale=3.0), jax.grad(scalar(jnp))(MATRIX, VECTOR, scale=3.0))
    same(func.grad(scalar(ad))(MATRIX, v=VECTOR), jax.grad(scalar(jnp))(MATRIX, v=VECTOR))


def test_a_dict_by_position_is_no_keyword() -> None:
    f = func.jit(lambda *args, **kwargs: len(args))
    assert f((VECTOR,), {"a": VECTOR}) == 2
    assert f(VECTOR, a=VECTOR) == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_jvp(dtype: str) -> None:
    a, v = MATRIX.astype(dtype), VECTOR.astype(dtype)
    given = ((a, v), (a * 2, v - 1))
    same(func.jvp(vector(ad), *given), jax.jvp(vector(jnp), *given), 1e-12 if dtype == "float64" else 2e-5)
    same(func.jvp(with_aux(ad), *given, has_aux=True), jax.jvp(with_aux(jnp), *given, has_aux=True), 2e-5)


def test_jvp_of_nests() -> None:
    given = ((NEST, VECTOR), (jax.tree_util.tree_map(lambda x: x * 0.5 + 1, NEST), VECTOR))
    same(func.jvp(nested(ad), *given), jax.jvp(nested(jnp), *given))


def test_vjp() -> None:
    out, pullback = func.vjp(vector(ad), MATRIX, VECTOR)
    expected, theirs = jax.vjp(vector(jnp), MATRIX, VECTOR)
    same(out, expected)
    for g in (np.ones(4), rng.normal(size=4)):
        same(pullback(g), theirs(g))
    out, pullback, aux = func.vjp(with_aux(ad), MATRIX, VECTOR, has_aux=True)
    expected, theirs, their_aux = jax.vjp(with_aux(jnp), MATRIX, VECTOR, has_aux=True)
    same((out, aux, pullback(np.float64(2.0))), (expected, their_aux, theirs(np.float64(2.0))))
    same(pullback(), theirs(np.float64(1.0)))


def test_vjp_of_nests() -> None:
    out, pullback = func.vjp(nested(ad), NEST, VECTOR)
    expected, theirs = jax.vjp(nested(jnp), NEST, VECTOR)
    same((out, pullback(0.5)), (expected, theirs(0.5)))


def test_hvp() -> None:
    given = ((MATRIX, VECTOR), (MATRIX - 1, VECTOR * 2))
    expected = jax.jvp(jax.grad(scalar(jnp), (0, 1)), *given)[1]
    same(func.hvp(scalar(ad), *given), expected)
    expected = jax.jvp(jax.grad(lambda *x: with_aux(jnp)(*x)[0], (0, 1)), *given)[1]
    same(func.hvp(with_aux(ad), *given, has_aux=True)[0], expected)


@pytest.mark.parametrize("axes", [(0, 0), ((0, None), 0), ((1, None), -1), ((None, 0), (1))])
def test_vmap(axes: Any) -> None:
    def f(xp: Any) -> Callable[..., Any]:
        return lambda x, s: xp.tanh(x) * xp.sum(s)

    x, s = rng.normal(size=(5, 5)), rng.normal(size=(5, 2))
    same(func.vmap(f(ad), *axes)(x, s), jax.vmap(f(jnp), *axes)(x, s))


# ---- of each other


def cube(xp: Any) -> Callable[..., Any]:
    return lambda x: xp.sin(x) * x**3


@pytest.mark.parametrize(
    ("of", "x"),
    [
        (lambda t: t.grad(t.grad(t.grad(t.f))), 0.75),
        (lambda t: t.jit(t.vmap(t.grad(t.grad(t.f)))), VECTOR),
        (lambda t: t.vmap(t.jit(t.value_and_grad(t.jit(t.f)))), VECTOR),
        (lambda t: t.jacrev(t.jacfwd(t.f)), VECTOR),
        (lambda t: t.hessian(t.vmap(t.f)), VECTOR),
        (lambda t: t.hessian(t.grad(t.f)), 0.75),
        (lambda t: lambda x: t.jvp(t.grad(t.f), (x,), (x,)), 0.75),
        (lambda t: t.grad(lambda x: t.jvp(t.f, (x,), (x * x,))[1]), 0.75),
        (lambda t: t.vmap(t.grad(lambda x: t.vjp(t.f, x)[1](x * x)[0])), VECTOR),
        (lambda t: lambda x: t.vjp(t.grad(t.f), x)[1](x)[0], 0.75),
        (lambda t: t.jacfwd(lambda x: t.vjp(t.f, x)[1](x)[0]), VECTOR),
        # Functions that read what their argument is computed from, or is.
        (lambda t: t.jit(lambda x: t.grad(lambda y: x * t.f(y * x))(x)), 0.75),
        (lambda t: t.grad(lambda x: x * t.grad(lambda y: x * y * y)(x)), 0.75),
        (lambda t: t.grad(lambda x: x * t.jvp(lambda y: x * y * y, (x,), (x,))[1]), 0.75),
        (lambda t: t.grad(lambda x: t.value_and_grad(lambda y, z: y * z * z, (0, 1))(x, x)[1][1]), 0.75),
        (lambda t: t.jacrev(lambda x: t.vmap(lambda y: t.grad(lambda z: z * y * y)(y))(x)), VECTOR),
        (lambda t: t.grad(lambda x: t.vjp(lambda y: x * y * y, x)[1](x)[0]), 0.75),
    ],
)
def test_compositions(of: Callable[[Any], Callable[..., Any]], x: Any) -> None:
    same(of(Names(func, cube(ad)))(x), of(Names(jax, cube(jnp)))(x))


class Names:
    """The transforms of a module, and `f`."""

    def __init__(self, module: Any, f: Callable[..., Any]):
        self.module, self.f = module, f

    def __getattr__(self, name: str) -> Any:
        return getattr(self.module, name)


def test_control_flow_and_own_derivatives() -> None:
    def f(t: Any, xp: Any) -> Callable[..., Any]:
        def go(x: Any) -> Any:
            last, ys = t.scan(lambda c, s: ((n := c * s + 1.0), xp.sin(n)), x[0], x)
            return t.cond(last > 0, lambda x: xp.sum(x**2) * last, lambda x: xp.sum(x), ys)

        return go

    for x in (VECTOR, -abs(VECTOR)):
        same(func.hessian(f(ad, ad))(x), jax.hessian(f(jax.lax, jnp))(x), 1e-9)


# ---- one compilation for all sizes


def test_one_compilation_serves_all_sizes() -> None:
    f = func.value_and_grad(lambda x, w: ad.sum(ad.tanh(x @ w)))
    for n, m in [(4, 3), (7, 2), (2, 9), (50, 30)]:
        x, w = rng.normal(size=(n, m)), rng.normal(size=m)
        same(f(x, w), jax.value_and_grad(lambda x, w: jnp.sum(jnp.tanh(x @ w)))(x, w))
    assert len(f.functions) == 1
    x = rng.normal(size=(6, 6))
    same(f(x, x[0]), jax.value_and_grad(lambda x, w: jnp.sum(jnp.tanh(x @ w)))(x, x[0]))
    assert len(f.functions) == 2, "sizes are equal that were not"
    f(x[:3, :3], x[0, :3])
    assert len(f.functions) == 2


def test_sizes_0_and_1_are_known() -> None:
    f = func.jit(lambda x, y: ad.sum(x * y, axis=0))
    for n, k in [(3, 3), (4, 1), (1, 4), (0, 0), (5, 1), (6, 6), (1, 7)]:
        x, y = rng.normal(size=(n, 2)), rng.normal(size=(k, 2))
        same(f(x, y), (x * y).sum(0))
    assert len(f.functions) == 4


@pytest.mark.parametrize(
    "call",
    [
        lambda f, x: func.grad(f)(x),
        lambda f, x: func.jvp(f, (x,), (x,)),
        lambda f, x: func.vjp(f, x)[1](1.0),
        lambda f, x: func.hvp(f, (x,), (x,)),
        lambda f, x: func.vmap(func.jacrev(f))(x[None]),
    ],
)
def test_transforms_asked_for_again_are_the_same(call: Callable[..., Any]) -> None:
    traced = 0

    def f(x: Any) -> Any:
        nonlocal traced
        traced += 1
        return ad.sum(x * x * x)

    for n in (2, 3, 4):
        call(f, np.ones(n))
    assert traced == 1


def test_other_dtypes_ranks_and_nests_are_traced_anew() -> None:
    f = func.jit(lambda x: ad.sum(x["a"]) * 2)
    given = [VECTOR, VECTOR + 1, VECTOR.astype("f4"), MATRIX, np.arange(3)]
    for x in given:
        same(f({"a": x}), np.asarray(x.sum() * x.dtype.type(2)), 1e-6)
    assert len(f.functions) == 4


def test_floats_are_traced_and_ints_known() -> None:
    def power(x: Any, n: Any, *, wide: bool = False) -> Any:
        out = x
        for _ in range(n - 1):
            out = out * x
        return ad.sum(out) if wide else out

    f = func.grad(power)
    for x in (2.0, 3.0, np.float64(4.0), np.array(4.0)):
        same(f(x, 3), np.array(3.0 * x * x))
    assert len(f.functions) == 2, "a float, an array"
    same(f(2.0, 4), np.array(32.0))
    same(f(2.0, 4, wide=True), np.array(32.0))
    same(f(2.0, 4, wide=1), np.array(32.0))
    assert len(f.functions) == 5


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_are_weak(dtype: str) -> None:
    x = VECTOR.astype(dtype)
    f = func.value_and_grad(lambda x, s: ad.sum(x * s * (2 * s + 0.5)), (0, 1))
    same(
        f(x, 0.5),
        jax.value_and_grad(lambda x, s: jnp.sum(x * s * (2 * s + 0.5)), (0, 1))(x, dtype_of(0.5, dtype)),
        1e-6,
    )
    same(func.jit(lambda x, y, s: (x * s, s * y))(x, VECTOR, 2.0), (x * 2, VECTOR * 2))
    same(func.jit(lambda x, s: x * s)(np.arange(3), 0.5), np.arange(3) * 0.5)
    same(func.jit(lambda x, s: x * s)(x, np.float64(0.5)), x * np.float64(0.5))


def dtype_of(x: float, dtype: str) -> Any:
    return np.asarray(x, dtype)


def test_parameters_are_read_at_the_call() -> None:
    w = ad.parameter(VECTOR, name="w")
    f = func.grad(lambda x: ad.sum(ad.sin(x * w)))
    same(f(np.ones(3)), np.cos(VECTOR) * VECTOR)
    w.value = VECTOR + 1
    same(f(np.ones(3)), np.cos(VECTOR + 1) * (VECTOR + 1))
    _, pullback = func.vjp(lambda x: x * w, np.ones(3))
    same(pullback(np.ones(3)), (VECTOR + 1,))


# ---- arguments and results


class Pair(NamedTuple):
    first: Any
    second: Any


def test_nests_keep_their_kinds() -> None:
    g = func.grad(lambda p, q: ad.sum(p.first * q[0]) + p.second["a"])(Pair(VECTOR, {"a": 2.0, "b": None}), [VECTOR])
    assert isinstance(g, Pair)
    same(g, Pair(VECTOR, {"a": np.array(1.0), "b": None}))


def test_any_array_is_taken() -> None:
    f = func.grad(lambda x: ad.sum(x**3))
    expected = 3 * MATRIX.T**2
    for x in (MATRIX.T, np.asfortranarray(MATRIX).T, jnp.asarray(MATRIX.T), MATRIX.T.astype(">f8")):
        same(f(x), expected)
    frozen = MATRIX.copy()
    frozen.flags.writeable = False
    same(f(frozen), 3 * MATRIX**2)


def test_results_are_fresh_arrays_and_what_is_no_array() -> None:
    held = np.arange(3.0)
    f = func.jit(lambda x: {"x": x, "held": held, "one": 1.5, "none": None, "text": "a", "shape": x.shape})
    x = np.ones((4, 2))
    out = f(x)
    assert out["x"] is not x
    assert out["none"] is None
    assert out["text"] == "a"
    same((out["x"], out["held"], out["one"], out["shape"]), (x, held, np.array(1.5), (np.array(4), np.array(2))))
    assert out["held"] is not held
    assert func.jit(lambda x: "no array")(x) == "no array"
    same(func.grad(lambda x: 1.0)(x), np.zeros((4, 2)))


def test_tensors_build_graphs() -> None:
    x = ad.input("x", ("n",), requires_grad=True)
    y = func.grad(lambda x, w: ad.sum(x**3) * w)(x, 2.0)
    assert isinstance(y, ad.Tensor)
    assert y.requires_grad
    same(ad.compile([x], [y, ad.grad(ad.sum(y), x)])(VECTOR), [6 * VECTOR**2, 12 * VECTOR])
    out, pullback = func.vjp(lambda x: x * x, x)
    same(ad.compile([x], [out, pullback(out)[0]])(VECTOR), [VECTOR**2, 2 * VECTOR**3])
    _, pullback = func.vjp(lambda x: x * x, VECTOR)
    same(ad.compile([x], pullback(x)[0])(VECTOR), 2 * VECTOR * VECTOR)


def test_integers_have_no_derivative() -> None:
    out, pullback = func.vjp(lambda x, i, n: (x[i] * n, i + 1), VECTOR, np.array([0, 2, 2]), 3)
    same(out, (VECTOR[[0, 2, 2]] * 3, np.array([1, 3, 3])))
    same(pullback((np.ones(3), None)), (np.array([3.0, 0.0, 6.0]), None, None))
    out, tangent = func.jvp(lambda x, i: (x[i], i), (VECTOR, np.array([1])), (VECTOR, None))
    same((out, tangent), ((VECTOR[[1]], np.array([1])), (VECTOR[[1]], None)))


def test_methods() -> None:
    class Model:
        def __init__(self, w: float):
            self.w = w

        @func.jit
        def run(self, x: Any) -> Any:
            return x * self.w

        def loss(self, x: Any) -> Any:
            return ad.sum(x) * self.w

    first, second = Model(2.0), Model(3.0)
    same((first.run(VECTOR), second.run(VECTOR)), (VECTOR * 2, VECTOR * 3))
    assert func.grad(first.loss) is func.grad(first.loss)
    same((func.grad(first.loss)(VECTOR), func.grad(second.loss)(VECTOR)), (np.full(3, 2.0), np.full(3, 3.0)))


def test_from_many_threads_it_is_traced_once() -> None:
    traced: list[int] = []

    def f(x: Any) -> Any:
        traced.append(1)
        return ad.sum(ad.sin(x))

    g, found = func.grad(f), [np.zeros(0)] * 8

    def run(k: int) -> None:
        for _ in range(50):
            found[k] = g(np.full(k + 2, float(k)))

    threads = [threading.Thread(target=run, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(traced) == 1
    for k, x in enumerate(found):
        same(x, np.cos(np.full(k + 2, float(k))))


def test_what_is_made_in_a_trace_is_not_kept() -> None:
    made: list[Any] = []

    def f(x: Any) -> Any:
        def inner(y: Any) -> Any:
            return x * y * y

        made.append(weakref.ref(inner))
        return func.grad(inner)(x)

    func.jit(f)(2.0)
    gc.collect()
    assert made[0]() is None


def test_deep_functions() -> None:
    def f(x: Any) -> Any:
        for _ in range(3000):
            x = ad.sin(x) + x * 0.5
        return x

    assert np.isfinite(func.grad(f)(0.3))


# ---- errors


def test_python_control_flow_is_refused() -> None:
    for f, error, way in [
        (lambda x: x if x > 0 else -x, SymbolicError, r"staticad\.cond"),
        (lambda x: x if x > 0 else -x, SymbolicError, r"staticad\.where"),
        (lambda x: x if x else 0.0, SymbolicError, r"staticad\.where"),
        (lambda x: list(x), SymbolicError, "iteration"),
        (lambda x: float(x), SymbolicError, "float"),
        (lambda x: [x for _ in range(x.shape[0])], ShapeError, r"staticad\.scan"),
    ]:
        with pytest.raises(error, match=way):
            func.jit(f)(VECTOR[:2])


class Holder:
    def __init__(self, x: Any):
        self.x = x


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: func.grad(lambda x: x)(VECTOR), GraphError, r"grad: <lambda> returns f64\[n0\], no scalar"),
        (lambda: func.grad(lambda x: (x, x))(1.0), GraphError, "returns a tuple, not one scalar; with has_aux=True"),
        (lambda: func.grad(lambda x: x, has_aux=True)(1.0), GraphError, "has_aux=True <lambda> returns a pair"),
        (lambda: func.grad(lambda x: ad.astype(x, "int64"))(1.0), DTypeError, "no derivative"),
        (lambda: func.grad(lambda x: x)(1), DTypeError, "argument 0 has 1, by which there is no derivative"),
        (lambda: func.grad(lambda x: x[0])(np.arange(3)), DTypeError, "argument 0 .* give floats"),
        (lambda: func.grad(lambda x, y: x, 2)(1.0, 2.0), GraphError, "argnums=2 for <lambda>, which was given 2"),
        (lambda: func.grad(lambda x, y: x, (0, -2))(1.0, 2.0), GraphError, "argnums"),
        (lambda: func.grad(lambda x: x, "x"), GraphError, "argnums is an integer"),
        (lambda: func.grad(3), GraphError, "grad: takes a function, not 3"),
        (lambda: func.jit(3), GraphError, "jit: takes a function, not 3"),
        (lambda: func.vjp(3, 1.0), GraphError, "vjp: takes a function, not 3"),
        (lambda: func.jit(lambda x, y: x)(1.0, {1, 2}), DTypeError, "is a set, neither an array"),
        (lambda: func.jit(lambda x: x)(np.ones(2, complex)), DTypeError, "complex"),
        (lambda: func.jit(lambda x: x)(np.array(["a"])), DTypeError, "argument 'x'"),
        (
            lambda: func.jit(lambda x, y: x + y)(np.ones(2), np.ones(3)),
            ShapeError,
            "add: f64.* and f64.*: n1 = 3 must be == n0 = 2",
        ),
        (
            lambda: func.jit(lambda x, y: x @ y)(np.ones(2), np.ones(3)),
            ShapeError,
            "matmul: f64.n0. @ f64.n1.: n1 = 3",
        ),
        (lambda: func.jit(lambda x: {x, 2 * x})(1.0), DTypeError, "returns a set, .* tuples .* lists and dicts"),
        (lambda: func.jit(lambda x: [(y for y in x)])((1.0,)), DTypeError, "returns a generator, "),
        (lambda: func.jit(lambda x: {"a": x}.values())(1.0), DTypeError, "returns a dict_values, "),
        (lambda: func.jit(Holder)(1.0), DTypeError, "returns a Holder, .* tuples .* lists and dicts"),
        (lambda: func.grad(lambda x: {x})(1.0), DTypeError, "grad: <lambda> returns a set, "),
        (lambda: func.grad(lambda x: (x, {x}), has_aux=True)(1.0), DTypeError, "returns a set, "),
        (lambda: func.vjp(lambda x: {x}, 1.0), DTypeError, "returns a set, "),
        (lambda: func.vmap(lambda x: {x})(VECTOR), DTypeError, "set .* nests of them are tuples, lists and dicts"),
        (lambda: func.jvp(lambda x: x, VECTOR, VECTOR), GraphError, "primals are a tuple"),
        (lambda: func.jvp(lambda x: x, (VECTOR,), (VECTOR, VECTOR)), ShapeError, "jvp: tangents"),
        (lambda: func.jvp(lambda x: x, (VECTOR,), (VECTOR[:2],)), ShapeError, "n1 = 2 must be == n0 = 3"),
        (lambda: func.jvp(lambda x: x, (VECTOR,), (VECTOR.astype("f4"),)), DTypeError, "tangent has type"),
        (lambda: func.vjp(lambda x: x, VECTOR)[1](VECTOR[:2]), ShapeError, "cotangent has the shape"),
        (lambda: func.vjp(lambda x: x, VECTOR)[1](), GraphError, "give a cotangent"),
        (lambda: func.vjp(lambda x: (x, x), VECTOR)[1](VECTOR), ShapeError, "vjp: the cotangent"),
        (lambda: func.vjp(lambda x: x, VECTOR, has_aux=True), GraphError, "pair"),
        (lambda: func.hvp(lambda x: x, (VECTOR,), (VECTOR,)), GraphError, "hvp: <lambda> returns .* no scalar"),
        (lambda: func.vmap(lambda x: x, in_axes=1)(VECTOR), ad.AxisError, "axis 1"),
        (lambda: func.grad(lambda x: x * OUTSIDE)(1.0), GraphError, "depend on the input 'outside'"),
        (lambda: func.vjp(lambda x: x * OUTSIDE, 1.0), GraphError, "depend on the input 'outside'"),
    ],
)
def test_errors(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_a_function_that_failed_is_traced_again() -> None:
    fails = True

    def f(x: Any) -> Any:
        if fails:
            raise ValueError("not yet")
        return x * 2

    g = func.jit(f)
    with pytest.raises(ValueError, match="not yet"):
        g(VECTOR)
    fails = False
    same(g(VECTOR), VECTOR * 2)


# ---- torch.func's conventions, where JAX has no others


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch itself
def test_conventions_of_torch() -> None:
    torch = pytest.importorskip("torch")
    theirs, a, v = torch.func, torch.tensor(MATRIX), torch.tensor(VECTOR)

    def agree(found: Any, expected: Any) -> None:
        for x, y in zip(jax.tree_util.tree_leaves(found), torch.utils._pytree.tree_leaves(expected), strict=True):
            np.testing.assert_allclose(x, y.numpy(), rtol=1e-12)

    def f(xp: Any) -> Callable[..., Any]:
        return lambda a, v: (xp.tanh(a @ v), {"twice": 2 * v})

    for name in ("jacrev", "jacfwd"):
        for argnums in (0, 1, (1, 0)):
            given = {"argnums": argnums, "has_aux": True}
            agree(getattr(func, name)(f(ad), **given)(MATRIX, VECTOR), getattr(theirs, name)(f(torch), **given)(a, v))
    agree(func.hessian(scalar(ad), argnums=(0, 1))(MATRIX, VECTOR), theirs.hessian(scalar(torch), argnums=(0, 1))(a, v))
    agree(
        func.jvp(f(ad), (MATRIX, VECTOR), (MATRIX, VECTOR), has_aux=True),
        theirs.jvp(f(torch), (a, v), (a, v), has_aux=True),
    )
    out, pullback, aux = func.vjp(f(ad), MATRIX, VECTOR, has_aux=True)
    their_out, their_pullback, their_aux = theirs.vjp(f(torch), a, v, has_aux=True)
    g = np.arange(4.0)
    agree((out, pullback(g), aux), (their_out, their_pullback(torch.tensor(g)), their_aux))
    slopes = func.vmap(func.grad(scalar(ad), argnums=1), (0, None))(MATRIX[:, None], VECTOR)
    agree(slopes, theirs.vmap(theirs.grad(scalar(torch), argnums=1), (0, None))(a[:, None], v))
