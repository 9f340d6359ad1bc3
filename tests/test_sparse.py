"""Sparse Jacobians and Hessians: equal to dense ones and to JAX's, with the elements and colours they should have."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg

import staticad as ad
from staticad import colouring

RNG = np.random.default_rng(7)


def rosenbrock(x: Any) -> Any:
    return ad.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def heat(u: Any) -> Any:
    """A step of nonlinear diffusion on a grid with a border of zeros."""
    p = ad.pad(u, 1)
    return u + 0.1 * (p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2] - 4 * u) * (1 + u**2)


def dense_jacobian(y: ad.Tensor, x: ad.Tensor, values: dict[ad.Tensor, Any]) -> Any:
    found = ad.evaluate(ad.jacobian(y, x), values)
    return found.reshape(-1, values[x].size if x in values else x.value.size)


# against dense derivatives -------------------------------------------------------------------------------------------

SHIFTED = np.array([3, 1, 0, 4, 4, 2])
CONSTANT = np.array([[1.0, 0, 0, 2, 0, 0], [0, 0, 3, 0, 0, 0], [0, 0, 0, 0, 0, -1]])

# From a vector of six: a program, and the most colours that columns may take.
PROGRAMS: dict[str, tuple[Callable[[Any], Any], int]] = {
    "elementwise": (lambda x: ad.sin(x) * x, 1),
    "neighbours": (lambda x: x[1:] * x[:-1], 2),
    "reversed": (lambda x: x * x[::-1], 2),
    "strided": (lambda x: x[::2] * x[1::2], 2),
    "gathered": (lambda x: ad.take(x, SHIFTED) ** 2 + x, 2),
    "scattered": (lambda x: ad.zeros(4).at[np.array([0, 2, 0, 1, 2, 0])].add(x**2), 3),
    "overwritten": (lambda x: x.at[2].set(x[0] * x[1]), 2),
    "joined": (lambda x: ad.concat([x[:2] ** 2, ad.zeros(3), x[4:] * x[:2]]), 2),
    "padded": (lambda x: ad.pad(x**3, 2), 1),
    "folded": (lambda x: ad.sum(ad.reshape(x, (2, 3)) ** 2, axis=1), 3),
    "rows": (lambda x: ad.nn.softmax(ad.reshape(x, (3, 2)), axis=1), 2),
    "extremes": (lambda x: ad.max(ad.reshape(x, (3, 2)), axis=1), 2),
    "chosen": (lambda x: ad.where(x > 0, ad.exp(x), x[::-1]), 2),
    "running": (lambda x: ad.cumsum(ad.reshape(x, (2, 3)) ** 2, axis=1), 3),
    "running product": (lambda x: ad.cumprod(ad.reshape(x, (2, 3)), axis=1), 3),
    "constant matrix": (lambda x: ad.constant(CONSTANT) @ x**2, 2),
    "small products": (lambda x: ad.reshape(x, (3, 2)) @ np.array([[1.0, 2.0], [0.5, -1.0]]), 2),
    "both factors": (lambda x: ad.reshape(x, (2, 3)) @ ad.reshape(x, (3, 2)), 6),
    "outer": (lambda x: ad.outer(x[:2], x[2:4]), 2),
    "stopped": (lambda x: x * ad.stop_gradient(x[::-1]), 1),
    "triangle": (lambda x: ad.tril(ad.outer(x[:3], ad.ones(3))), 1),
    "empty rows": (lambda x: ad.concat([ad.zeros(2), x[:1] * 2, ad.zeros(1)]), 1),
    "mapped": (lambda x: ad.map(lambda row: ad.sum(row**2) * row[0], ad.reshape(x, (3, 2))), 2),
    "branches": (lambda x: ad.cond(x[0] > 0, lambda x: x**2, lambda x: x * x[::-1], x), 2),
    "scanned": (lambda x: ad.scan(lambda h, v: (h * v, h), x[0], x)[1], 6),
    "carried": (lambda x: ad.scan(lambda h, _: (h + 0.1 * ad.sin(h) * x[::-1], None), x, length=5)[0], 2),
    "carried and left": (lambda x: ad.scan(lambda h, v: (h * v, h + v), x, ad.stack([x**2, x]))[1], 1),
    "spreading": (lambda x: ad.scan(lambda h, _: (h + 0.1 * ad.pad(h[1:] * h[:-1], (0, 1)), None), x, length=2)[0], 3),
    "unrolled": (lambda x: ad.scan(lambda h, v: (v, h * v), x[:2], ad.reshape(x, (3, 2)), unroll=2)[1], 6),
    "from place to place": (lambda x: ad.scan(lambda h, _: ((h[1], h[0]), h[0]), (x[:3], x[3:] ** 2), length=3)[1], 2),
    "no step": (lambda x: ad.scan(lambda h, _: (ad.sum(h) * h, None), x**2, length=0)[0], 1),
    "while": (lambda x: ad.while_loop(lambda s: ad.sum(s) < 99.0, lambda s: s + s * s + 1, x)[0:6], 1),
    "steps checkpointed": (lambda x: ad.scan(lambda h, _: (ad.sin(h), h), x, length=5, checkpoint=2)[1], 1),
    "checkpointed": (lambda x: ad.checkpoint(lambda x: ad.tanh(x[1:] * x[:-1]))(x), 2),
    "diagonal": (lambda x: ad.diagonal(ad.outer(x, x)), 1),
    "scalar": (lambda x: ad.sum(x**2), 6),
    "sorted by another": (lambda x: ad.take(x, ad.argmax(x) + ad.constant(np.array([0]))) * x[:1], 6),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_jacobian_is_the_dense_one(name: str) -> None:
    program, most = PROGRAMS[name]
    x = ad.input("x", (6,))
    y = program(x)
    values = RNG.standard_normal(6)
    values[-1], values[0] = -3.0, 0.7
    want = dense_jacobian(y, x, {x: values})
    for mode in ("forward", "reverse", "auto"):
        jacobian = ad.sparse_jacobian(y, x, mode=mode)
        found = jacobian(values)
        assert isinstance(found, scipy.sparse.csr_array)
        np.testing.assert_allclose(found.toarray(), want, rtol=1e-13, atol=1e-14)
        assert (jacobian.pattern.toarray() == (found.toarray() != 0)).all() or found.nnz > np.count_nonzero(want)
        if mode == "forward":
            assert jacobian.colours <= most


@pytest.mark.parametrize("name", ["neighbours", "gathered", "joined", "padded", "constant matrix", "empty rows"])
def test_nothing_is_there_that_is_zero(name: str) -> None:
    x = ad.input("x", (6,))
    found = ad.sparse_jacobian(PROGRAMS[name][0](x), x)(np.linspace(0.5, 1.5, 6))
    assert found.nnz == np.count_nonzero(found.toarray())


def random_program(rng: np.random.Generator, x: Any, steps: int) -> Any:
    """Vectors made from vectors by what keeps derivatives sparse, joined at the end."""
    found = [x]
    for _ in range(steps):
        a, b = (found[int(rng.integers(len(found)))] for _ in range(2))
        n = min(a.shape[0], b.shape[0])
        kinds: list[Callable[[], Any]] = [
            lambda a=a, b=b, n=n: a[:n] * ad.tanh(b[-n:]),
            lambda a=a: ad.sin(a)[::-1],
            lambda a=a: ad.take(a, rng.integers(0, a.shape[0], 5)),
            lambda a=a, b=b, n=n: a.at[rng.permutation(a.shape[0])[:n]].add(b[:n] ** 2),
            lambda a=a, b=b: ad.concat([a[:3], ad.zeros(1), b[1:4]]),
            lambda a=a: ad.where(a > 0, a, a**2)[1:],
            lambda a=a: ad.constant((rng.random((4, a.shape[0])) < 0.3) * 1.5) @ a,
            lambda a=a: ad.sum(ad.reshape(a[: a.shape[0] // 2 * 2], (-1, 2)), axis=1) if a.shape[0] > 3 else a,
        ]
        out = kinds[int(rng.integers(len(kinds)))]()
        if out.shape[0] >= 4:
            found.append(out)
    return ad.concat(found[-3:])


@pytest.mark.parametrize("seed", range(12))
def test_random_programs(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = ad.input("x", (9,))
    y = random_program(rng, x, 8)
    values = rng.standard_normal(9)
    want = dense_jacobian(y, x, {x: values})
    for mode in ("forward", "reverse"):
        np.testing.assert_allclose(ad.sparse_jacobian(y, x, mode=mode)(values).toarray(), want, rtol=1e-11, atol=1e-12)
    total = ad.sum(y * y[::-1])
    want = ad.evaluate(ad.hessian(total, x), {x: values})
    found = ad.sparse_hessian(total, x)(values).toarray()
    np.testing.assert_allclose(found, want, rtol=1e-11, atol=1e-11)
    assert (found == found.T).all()


# sizes, indices, parameters ------------------------------------------------------------------------------------------


def test_sizes_may_change_between_calls() -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def same(x: Any) -> Any:
        return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)

    x = ad.input("x", ("n",))
    hessian = ad.sparse_hessian(rosenbrock(x), x)
    for n in (2, 7, 40, 7, 3):
        values = RNG.standard_normal(n)
        found = hessian(values)
        np.testing.assert_allclose(found.toarray(), jax.hessian(same)(values), rtol=1e-12, atol=1e-12)
        assert found.nnz == 3 * n - 2
        assert hessian.colours == min(n, 3) - (n == 3)


def test_a_stencil_on_a_grid_of_any_size() -> None:
    u = ad.input("u", ("n", "m"))
    y = heat(u)
    jacobian = ad.sparse_jacobian(y, u)
    for n, m in ((4, 5), (9, 7), (1, 3)):
        values = RNG.standard_normal((n, m))
        np.testing.assert_allclose(jacobian(values).toarray(), dense_jacobian(y, u, {u: values}), atol=1e-13)
        assert jacobian.pattern.nnz == 5 * n * m - 2 * (n + m)
    jacobian(np.ones((50, 50)))
    assert jacobian.colours <= 8


def bundle(f: Any, cameras: Any, points: Any, camera: Any, point: Any) -> Any:
    """Residuals of observations, each of one camera of six numbers and one point."""
    c, p = f.take(cameras, camera, axis=0), f.take(points, point, axis=0)
    seen = p + c[:, :3] + f.sin(c[:, 3:4]) * p[:, ::-1]
    return seen[:, :2] / (3.0 + seen[:, 2:]) * c[:, 4:]


def test_bundle_adjustment() -> None:
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    # fmt: off
    x = ad.input("x", ("size",))
    camera, point = ad.input("camera", ("k",), "int64"), ad.input("point", ("k",), "int64")
    cameras, points = ad.reshape(x[: 6 * 3], (3, 6)), ad.reshape(x[6 * 3 : 6 * 3 + 3 * 8], (8, 3))
    # fmt: on
    y = bundle(ad, cameras, points, camera, point)
    jacobian = ad.sparse_jacobian(y, x, inputs=[x, camera, point])
    values = RNG.standard_normal(6 * 3 + 3 * 8)

    def same(v: Any, camera: Any, point: Any) -> Any:
        return bundle(jax.numpy, v[:18].reshape(3, 6), v[18:].reshape(8, 3), camera, point).ravel()

    for _ in range(3):  # indices may change from call to call: the pattern does too
        which = RNG.integers(0, 3, 20), RNG.integers(0, 8, 20)
        found = jacobian(values, *which)
        np.testing.assert_allclose(found.toarray(), jax.jacfwd(same)(values, *which), rtol=1e-11, atol=1e-12)
        assert found.shape == (40, 42)
        assert found.nnz <= 40 * 9
        assert jacobian.colours <= 10
    again = jacobian(values * 2, *which)
    assert again.indices is found.indices or np.shares_memory(again.indices, found.indices)


def test_bundle_adjustment_of_several_unknowns() -> None:
    """Cameras and points apart, in symbolic numbers: two rows of an observation read what no others read."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    cameras, points = ad.input("cameras", ("c", 6)), ad.input("points", ("p", 3))
    camera, point = ad.input("camera", ("k",), "int64"), ad.input("point", ("k",), "int64")
    y = bundle(ad, cameras, points, camera, point)
    inputs = [points, camera, point, cameras]
    jacobian = ad.sparse_jacobian(y, {"cameras": cameras, "points": points}, inputs)
    for sizes in ((3, 8, 20), (5, 4, 30)):
        c, p = RNG.standard_normal((sizes[0], 6)), RNG.standard_normal((sizes[1], 3))
        which = RNG.integers(0, sizes[0], sizes[2]), RNG.integers(0, sizes[1], sizes[2])
        found = jacobian(p, *which, c)
        parts = jax.jacobian(lambda c, p: bundle(jax.numpy, c, p, *which).ravel(), (0, 1))(c, p)  # noqa: B023
        want = np.concatenate([np.reshape(part, (2 * sizes[2], -1)) for part in parts], axis=1)
        np.testing.assert_allclose(found.toarray(), want, rtol=1e-11, atol=1e-12)
        assert (jacobian.colours, jacobian.structure.way.mode) == (2, "reverse")
    forward = ad.sparse_jacobian(y, [cameras, points], inputs, mode="forward", format="csc")
    np.testing.assert_allclose(forward(p, *which, c).toarray(), want, rtol=1e-11, atol=1e-12)
    assert forward.colours >= 7  # as many as a row has elements


def test_several_results() -> None:
    x, w = ad.input("x", ("n",)), ad.parameter(np.array([2.0, 3.0]))
    n = x.shape[0]
    ys = [x[1:] * x[:-1] * w[0], (ad.sum(w), ad.reshape(x, (1, n)) ** 2)]
    values = np.array([1.0, 2.0, 4.0])
    want = np.zeros((6, 5))
    want[0], want[1], want[2] = [4, 2, 0, 2, 0], [0, 8, 4, 8, 0], [0, 0, 0, 1, 1]
    want[3:, :3] = np.diag(2 * values)
    for mode in ("forward", "reverse", "auto"):
        jacobian = ad.sparse_jacobian(ys, [x, w], x, mode=mode)
        np.testing.assert_array_equal(jacobian(values).toarray(), want)
        assert jacobian.pattern.nnz == 11


def test_an_element_read_in_several_places_by_one_row() -> None:
    """Its derivative is the sum of those by what was read."""
    x, k = ad.input("x", ("n",)), ad.input("k", (2, "m"), "int64")
    y = ad.sin(ad.take(x, k[0])) * ad.take(x, k[1])
    values = RNG.standard_normal(4)
    for index in (np.array([[0, 1, 3, 3, 2], [0, 2, 1, 3, 2]]), np.array([[0, 1], [2, 3]])):
        want = np.zeros((index.shape[1], 4))
        for row, (a, b) in enumerate(index.T):
            want[row, a] += np.cos(values[a]) * values[b]
            want[row, b] += np.sin(values[a])
        for format in ("csr", "csc"):  # noqa: A001
            jacobian = ad.sparse_jacobian(y, x, [x, k], mode="reverse", format=format)
            np.testing.assert_allclose(jacobian(values, index).toarray(), want, rtol=1e-14)
            assert jacobian.colours == 1


def test_a_stencil_goes_backwards_once() -> None:
    u = ad.input("u", ("n", "m"))
    jacobian = ad.sparse_jacobian(heat(u), u)
    values = RNG.standard_normal((6, 7))
    np.testing.assert_allclose(jacobian(values).toarray(), dense_jacobian(heat(u), u, {u: values}), atol=1e-13)
    assert jacobian.colours == 1


def test_an_ensemble_of_differential_equations_takes_two_directions() -> None:
    """Each of n populations has its own rates: 2 n results, of which each depends on two numbers."""
    rates = ad.input("rates", (2, "n"))

    def step(state: Any, _: None) -> Any:
        s, i = state
        new, gone = 0.1 * rates[0] * s * i, 0.1 * rates[1] * i
        return (s - new, i + new - gone), None

    ones = ad.ones_like(rates[0])
    (s, i), _ = ad.scan(step, (0.99 * ones, 0.01 * ones), length=50)
    y = ad.stack([s, i])
    jacobian = ad.sparse_jacobian(y, rates)
    for n in (3, 40):
        values = RNG.uniform(0.5, 1.5, (2, n))
        found = jacobian(values)
        assert found.nnz == 4 * n
        assert jacobian.colours == 2
        np.testing.assert_allclose(found.toarray(), dense_jacobian(y, rates, {rates: values}), rtol=1e-11, atol=1e-14)


def test_hessian_through_the_steps_of_a_loop() -> None:
    x = ad.input("x", ("n",))
    last, left = ad.scan(lambda h, _: (h + 0.1 * ad.sin(h) * x, h**2), x, length=7)
    y = ad.sum(last**2) + ad.sum(left)
    hessian = ad.sparse_hessian(y, x)
    values = RNG.standard_normal(9)
    found = hessian(values)
    assert found.nnz == 9
    want = ad.evaluate(ad.hessian(y, x), {x: values})
    np.testing.assert_allclose(found.toarray(), want, rtol=1e-11, atol=1e-13)


def test_hessian_by_several() -> None:
    x, z = ad.input("x", ("n",)), ad.input("z", ("n",))
    y = ad.sum(x**2 * z + z**3)
    a, b = RNG.standard_normal((2, 5))
    found = ad.sparse_hessian(y, [x, z], [x, z])(a, b).toarray()
    want = np.block([[np.diag(2 * b), np.diag(2 * a)], [np.diag(2 * a), np.diag(6 * b)]])
    np.testing.assert_allclose(found, want, rtol=1e-14)


def test_a_pattern_follows_indices_held_by_a_state() -> None:
    x = ad.input("x", (4,))
    which = ad.state(np.array([0, 1]), name="which")
    jacobian = ad.sparse_jacobian(ad.take(x, which) ** 2, x)
    np.testing.assert_array_equal(jacobian(np.arange(4.0)).toarray(), [[0, 0, 0, 0], [0, 2, 0, 0]])
    which.value = np.array([3, 2])
    np.testing.assert_array_equal(jacobian(np.arange(4.0)).toarray(), [[0, 0, 0, 6], [0, 0, 4, 0]])


def test_by_a_parameter() -> None:
    w = ad.parameter(np.array([1.0, 2.0, 3.0]), name="w")
    x = ad.input("x", ("n",))
    jacobian = ad.sparse_jacobian(w[:, None] * x, w, inputs=[x])
    found = jacobian(x=np.array([5.0, 7.0]))
    np.testing.assert_array_equal(found.toarray(), np.repeat(np.eye(3), 2, axis=0) * np.tile([5.0, 7.0], 3)[:, None])


def test_a_leaf_made_of_an_input() -> None:
    x = ad.input("x", (3,), requires_grad=True)
    found = ad.sparse_jacobian(x**2, x)(np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(found.toarray(), np.diag([2.0, 4.0, 6.0]))


def test_names_that_are_taken() -> None:
    lane, colour = ad.input("lane", ("lanes",)), ad.input("colour", ("lanes",))
    jacobian = ad.sparse_jacobian(lane * colour, lane, inputs=[colour, lane])
    np.testing.assert_array_equal(jacobian(np.array([2.0, 3.0]), np.ones(2)).toarray(), np.diag([2.0, 3.0]))


# results -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["csr", "csc"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_formats(format: str, dtype: str) -> None:  # noqa: A002
    x = ad.input("x", ("n",), dtype=dtype)
    y = x * x[::-1] + ad.pad(x[1:], (0, 1))
    jacobian = ad.sparse_jacobian(y, x, format=format)  # pyright: ignore[reportArgumentType]
    values = RNG.standard_normal(5).astype(dtype)
    found = jacobian(values)
    assert (found.format, found.dtype) == (format, np.dtype(dtype))
    assert found.has_canonical_format
    np.testing.assert_allclose(found.toarray(), dense_jacobian(y, x, {x: values}), rtol=1e-6)


def test_results_are_apart_and_solvable() -> None:
    x = ad.input("x", ("n",))
    hessian = ad.sparse_hessian(rosenbrock(x) + ad.sum(x**4), x)
    first = hessian(np.full(50, 0.5))
    kept = first.toarray()
    second = hessian(np.full(50, 1.5))
    assert not np.shares_memory(first.data, second.data)
    np.testing.assert_array_equal(first.toarray(), kept)
    b = np.ones(50)
    np.testing.assert_allclose(second @ scipy.sparse.linalg.spsolve(second.tocsc(), b), b, rtol=1e-9)
    np.testing.assert_allclose((second.T @ second + first).toarray(), second.toarray() @ second.toarray() + kept)


def test_pattern_before_a_call() -> None:
    x = ad.input("x", (3,))
    jacobian = ad.sparse_jacobian(x[1:] * x[:-1], x)
    np.testing.assert_array_equal(jacobian.pattern.toarray(), [[True, True, False], [False, True, True]])
    assert jacobian.colours == 1  # backwards: each row reads two places of its own
    assert "SparseFunction" in repr(jacobian)
    assert "def main" in jacobian.function.source
    n = ad.input("x", ("n",))
    with pytest.raises(ad.GraphError, match="call it first"):
        ad.sparse_jacobian(n * 2, n).pattern


def test_modes_take_what_has_fewer_colours() -> None:
    x = ad.input("x", (30,))
    wide = ad.stack([ad.sum(x[:15] ** 2), ad.sum(x[15:] ** 3)])
    assert ad.sparse_jacobian(wide, x).structure.way.mode == "reverse"
    assert ad.sparse_jacobian(wide, x).colours == 1
    tall = ad.concat([x[0] * x, x[1] * x])
    assert ad.sparse_jacobian(tall, x).structure.way.mode == "forward"
    assert ad.sparse_jacobian(tall, x).colours <= 3


def test_nothing_at_all() -> None:
    x = ad.input("x", ("n",))
    found = ad.sparse_jacobian(ad.concat([x[:0] * 2, ad.zeros(3)]), x)(np.ones(4))
    assert (found.shape, found.nnz) == ((3, 4), 0)
    assert ad.sparse_jacobian(x**2, x)(np.ones(0)).shape == (0, 0)
    found = ad.sparse_hessian(ad.sum(x * 3), x)(np.ones(4))
    assert (found.shape, found.nnz) == ((4, 4), 0)


# hessians and colourings ---------------------------------------------------------------------------------------------


def test_an_arrow_takes_two_colours() -> None:
    x = ad.input("x", ("n",))
    y = ad.sum(x[0] * x[1:] ** 2)
    hessian = ad.sparse_hessian(y, x)
    values = RNG.standard_normal(60)
    np.testing.assert_allclose(hessian(values).toarray(), ad.evaluate(ad.hessian(y, x), {x: values}), atol=1e-13)
    assert hessian.colours == 2


@pytest.mark.parametrize("seed", range(6))
def test_star_colourings(seed: int) -> None:
    rng = np.random.default_rng(seed)
    half = rng.random((25, 25)) < 0.12
    pattern = scipy.sparse.csr_array(half | half.T)
    colours = colouring.symmetric(pattern).colours
    near = [set(pattern.indices[a:b]) - {v} for v, (a, b) in enumerate(pairwise(pattern.indptr))]
    for v in range(25):
        for w in near[v]:
            assert colours[v] != colours[w]
            for a in near[w] - {v}:
                for b in near[a] - {w}:
                    assert b == v or len({colours[i] for i in (v, w, a, b)}) > 2


@pytest.mark.parametrize("seed", range(6))
def test_column_colourings_compiled_and_not(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    pattern = scipy.sparse.csr_array(rng.random((30, 40)) < 0.06)
    found = colouring.by_columns(pattern)
    for a, b in pairwise(pattern.indptr):
        assert len(set(found.colours[pattern.indices[a:b]])) == b - a
    assert found.count == found.colours.max() + 1
    monkeypatch.setattr(colouring.loops, "SHORT", 0)
    np.testing.assert_array_equal(colouring.by_columns(pattern).colours, found.colours)
    square = scipy.sparse.csr_array((pattern.T @ pattern) != 0)
    monkeypatch.undo()
    plain = colouring.symmetric(square).colours
    monkeypatch.setattr(colouring.loops, "SHORT", 0)
    np.testing.assert_array_equal(colouring.symmetric(square).colours, plain)


# errors --------------------------------------------------------------------------------------------------------------


def test_errors() -> None:
    x, z = ad.input("x", (3,)), ad.input("z", (3,))
    k = ad.input("k", (3,), "int64")
    cases: list[tuple[type[Exception], str, Callable[[], Any]]] = [
        (ad.GraphError, "no differentiable path", lambda: ad.sparse_jacobian(z * 2, x, inputs=[x, z])),
        (ad.GraphError, "no differentiable path", lambda: ad.sparse_hessian(ad.sum(z * 2), x, inputs=[x, z])),
        (ad.GraphError, "no differentiable path", lambda: ad.sparse_jacobian(ad.stop_gradient(x), x)),
        (ad.GraphError, "the result of", lambda: ad.sparse_jacobian(x * 2, x * 2, inputs=[x])),
        (ad.GraphError, "not among the inputs", lambda: ad.sparse_jacobian(x * z, x, inputs=[z])),
        (ad.GraphError, "the input 'z'", lambda: ad.sparse_jacobian(x * z, x)),
        (ad.DTypeError, "no derivative", lambda: ad.sparse_jacobian(x * 2, k, inputs=[x, k])),
        (ad.DTypeError, "no derivative", lambda: ad.sparse_jacobian(k * 2, x, inputs=[x, k])),
        (ad.GraphError, "give each input one name", lambda: ad.sparse_jacobian(x * 2, x, inputs=[x, x])),
        (ad.GraphError, "is a tensor", lambda: ad.sparse_jacobian([x, 2.0], x)),
        (ad.GraphError, "has none", lambda: ad.sparse_jacobian(x * 2, [])),
        (ad.GraphError, "twice", lambda: ad.sparse_jacobian(x * 2, [x, x], [x])),
        (ad.DTypeError, "beside", lambda: ad.sparse_jacobian(x * 2, [x, ad.input("f", (), "float32")])),
        (ad.GraphError, "of a scalar", lambda: ad.sparse_hessian(x * 2, x)),
        (ad.GraphError, "mode is", lambda: ad.sparse_jacobian(x * 2, x, mode="both")),
        (ad.GraphError, "format is", lambda: ad.sparse_jacobian(x * 2, x, format="coo")),  # pyright: ignore[reportArgumentType]
    ]
    for kind, text, build in cases:
        with pytest.raises(kind, match=text):
            build()
    jacobian = ad.sparse_jacobian(x * z, x, inputs=[x, z])
    with pytest.raises(ad.DTypeError, match="masked"):
        jacobian(np.ma.masked_array(np.ones(3), [True, False, False]), np.ones(3))
    with pytest.raises(ad.ShapeError):
        jacobian(np.ones(4), np.ones(4))
    with pytest.raises(ad.DTypeError, match="takes 2 arrays"):
        jacobian(np.ones(3))
    with pytest.raises(ad.DTypeError, match="by name"):
        jacobian(np.ones(3), w=np.ones(3))


def test_what_is_dense_is_refused() -> None:
    x = ad.input("x", ("n",))
    jacobian = ad.sparse_jacobian(ad.cumsum(x), x)
    np.testing.assert_array_equal(jacobian(np.ones(4)).toarray(), np.tril(np.ones((4, 4))))
    with pytest.raises(ad.GraphError, match="not sparse"):
        jacobian(np.ones(100_000))
    total = ad.sparse_jacobian(x * ad.sum(x), x)
    with pytest.raises(ad.GraphError, match="not sparse"):
        total(np.ones(100_000))


def test_what_takes_too_many_directions_is_refused() -> None:
    x = ad.input("x", ("n",))
    arrow = ad.sparse_jacobian(ad.concat([ad.reshape(ad.sum(x**2), (1,)), x[0] * x]), x)
    assert arrow(np.ones(5)).nnz == 5 + 9
    with pytest.raises(ad.GraphError, match="30000 directions"):
        arrow(np.ones(30_000))


def test_indices_out_of_range() -> None:
    x, k = ad.input("x", (3,)), ad.input("k", ("m",), "int64")
    jacobian = ad.sparse_jacobian(ad.take(x, k), x, inputs=[x, k])
    np.testing.assert_array_equal(jacobian(np.ones(3), np.array([-1, 0])).toarray(), [[0, 0, 1], [1, 0, 0]])
    with pytest.raises(ad.IndexOutOfRange):
        ad.sparse_jacobian(ad.take(x, k) ** 2, x, inputs=[x, k])(np.ones(3), np.array([7]))
