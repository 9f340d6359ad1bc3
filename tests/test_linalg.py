"""Factors, systems and determinants: against NumPy, SciPy and JAX in value, gradient, second order and jvp."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.linalg as sl

import staticad as ad

#: Rows: one, two, written out and not, more than a vector, more than two, and those of recursions that split unevenly.
SIZES = [1, 2, 3, 5, 7, 9, 17, 33, 70]
DTYPES = ["float64", "float32"]


def matrices(*shape: int, dtype: str = "float64", seed: int = 0) -> np.ndarray:
    """Well conditioned, in need of pivoting."""
    n = shape[-1]
    x = np.random.default_rng(seed).uniform(-1, 1, shape) / np.sqrt(n) + 1.5 * np.roll(np.eye(n), 1, axis=0)
    return x.astype(dtype)


def positive(*shape: int, dtype: str = "float64") -> np.ndarray:
    x = matrices(*shape).astype("float64")
    return (x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])).astype(dtype)


def same(actual: Any, expected: Any, dtype: str, *, units: float = 200.0) -> None:
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.shape == expected.shape
    assert actual.dtype == dtype
    scale = np.abs(expected).max(initial=1e-300)
    np.testing.assert_allclose(actual / scale, expected / scale, rtol=0, atol=units * np.finfo(dtype).eps)


def compiled(f: Callable[..., Any], *arrays: np.ndarray, symbolic: bool = False) -> Any:
    """``f`` of inputs of the types of the arrays, or of symbolic sizes, called with them."""
    xs = [
        ad.input(f"x{k}", [f"d{k}_{a}" for a in range(x.ndim)] if symbolic else x.shape, dtype=str(x.dtype))
        for k, x in enumerate(arrays)
    ]
    return ad.compile(xs, f(*xs))(*arrays)


FUNCTIONS: list[tuple[str, Callable[..., Any], Callable[..., Any]]] = [
    ("cholesky", ad.linalg.cholesky, np.linalg.cholesky),
    ("inv", ad.linalg.inv, np.linalg.inv),
    ("det", ad.linalg.det, np.linalg.det),
    ("sign", lambda x: ad.linalg.slogdet(x).sign, lambda x: np.linalg.slogdet(x)[0]),
    ("logabsdet", lambda x: ad.linalg.slogdet(x).logabsdet, lambda x: np.linalg.slogdet(x)[1]),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
def test_functions_of_one_matrix_are_numpys(n: int, dtype: str) -> None:
    arrays = {name: (positive if name == "cholesky" else matrices)(2, n, n, dtype=dtype) for name, _, _ in FUNCTIONS}
    arrays = {k: -x if k in ("sign", "det") else x for k, x in arrays.items()}
    found = compiled(lambda *xs: [f(x) for (_, f, _), x in zip(FUNCTIONS, xs, strict=True)], *arrays.values())
    for (name, _, expected), actual in zip(FUNCTIONS, found, strict=True):
        same(actual, expected(arrays[name].astype("float64")), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("columns", [1, 3, 40])
def test_solve_is_numpys(n: int, columns: int, dtype: str) -> None:
    a, b = matrices(2, n, n, dtype=dtype), matrices(2, n, columns, dtype=dtype) if columns == n else None
    b = np.random.default_rng(1).normal(size=(2, n, columns)).astype(dtype)
    same(compiled(ad.linalg.solve, a, b), np.linalg.solve(a.astype("f8"), b.astype("f8")), dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("n", [1, 3, 9, 33])
@pytest.mark.parametrize("columns", [None, 1, 12])
def test_solve_triangular_is_scipys(n: int, columns: int | None, dtype: str) -> None:
    a = positive(n, n, dtype=dtype)
    unit = (a / a.max() / n).astype(dtype)
    b = np.random.default_rng(1).normal(size=(n,) if columns is None else (n, columns)).astype(dtype)
    cases = [(lower, trans, ones) for lower in (False, True) for trans in (0, 1) for ones in (False, True)]

    def every(a: Any, unit: Any, b: Any) -> list[Any]:
        return [
            ad.linalg.solve_triangular(unit if ones else a, b, trans=trans, lower=lower, unit_diagonal=ones)
            for lower, trans, ones in cases
        ]

    for (lower, trans, ones), actual in zip(cases, compiled(every, a, unit, b), strict=True):
        of = (unit if ones else a).astype("f8")
        same(actual, sl.solve_triangular(of, b.astype("f8"), trans=trans, lower=lower, unit_diagonal=ones), dtype)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((3, 3), (3,)),
        ((3, 3), (3, 2)),
        ((3, 3), (5, 3, 2)),
        ((3, 3), (2, 5, 3, 1)),
        ((4, 3, 3), (4, 3, 2)),
        ((4, 1, 3, 3), (2, 3, 2)),
        ((4, 3, 3), (3, 2)),
        ((0, 0), (0,)),
        ((0, 0), (0, 3)),
        ((0, 3, 3), (0, 3, 2)),
        ((3, 3), (3, 0)),
    ],
)
def test_solve_broadcasts_as_numpys(left: tuple[int, ...], right: tuple[int, ...]) -> None:
    rng = np.random.default_rng(2)
    a = rng.normal(size=left) + 2 * np.eye(left[-1]) if left[-1] else np.zeros(left)
    b = rng.normal(size=right)
    expected = np.linalg.solve(a, b)
    same(compiled(ad.linalg.solve, a, b), expected, "float64")
    same(compiled(lambda a, b: ad.linalg.solve_triangular(a, b), a, b), np.linalg.solve(np.triu(a), b), "float64")


@pytest.mark.parametrize("n", [0, 1, 4, 6, 7, 20])
def test_one_compilation_serves_every_size(n: int) -> None:
    a, b = matrices(3, n, n) if n else np.zeros((3, 0, 0)), np.ones((3, n, 2))
    x, y = ad.input("x", ("b", "n", "n")), ad.input("y", ("b", "n", "m"))
    (solved, log), gradient = (ad.linalg.solve(x, y), ad.linalg.slogdet(x).logabsdet), None
    gradient = ad.grad(ad.sum(log) + ad.sum(solved * solved), x)
    found = ad.compile([x, y], [solved, log, gradient, ad.linalg.inv(x), ad.linalg.det(x)])(a, b)
    expected = np.linalg.solve(a, b)
    inverse = np.linalg.inv(a)
    by_a = -np.swapaxes(inverse, -1, -2) @ (2 * expected) @ np.swapaxes(expected, -1, -2)
    for actual, truth in zip(
        found,
        [expected, np.linalg.slogdet(a)[1], np.swapaxes(inverse, -1, -2) + by_a, inverse, np.linalg.det(a)],
        strict=True,
    ):
        same(actual, truth, "float64")


# derivatives

# fmt: off
DIFFERENTIABLE: list[tuple[str, Callable[[Any, Any, Any], Any]]] = [
    ("cholesky",   lambda np, a, b: np.linalg.cholesky(a @ np.swapaxes(a, -1, -2) + b[..., :1, :1] ** 2)),
    ("solve",      lambda np, a, b: np.linalg.solve(a, b)),
    ("inv",        lambda np, a, b: np.linalg.inv(a) @ b),
    ("det",        lambda np, a, b: np.linalg.det(a)),
    ("logabsdet",  lambda np, a, b: np.linalg.slogdet(a)[1]),
]
# fmt: on


@pytest.mark.parametrize("n", [1, 3, 8])
@pytest.mark.parametrize("f", [pytest.param(f, id=name) for name, f in DIFFERENTIABLE])
def test_derivatives_are_jaxs(f: Callable[..., Any], n: int) -> None:
    """The gradient, the gradient of a function of it, and the forward derivative, of a weighted sum of squares."""
    jax = pytest.importorskip("jax")
    a, b = matrices(2, n, n), np.random.default_rng(1).normal(size=(2, n, 2))
    u, v = np.random.default_rng(3).normal(size=a.shape), np.random.default_rng(4).normal(size=b.shape)
    with jax.enable_x64(True):
        import jax.numpy as jnp

        def loss(a: Any, b: Any) -> Any:
            out = f(jnp, a, b)
            return jnp.sum(jnp.sin(out) * (1 + out))

        first = jax.grad(loss, (0, 1))
        second = jax.grad(lambda a, b: sum(jnp.sum(w * g) for w, g in zip((u, v), first(a, b), strict=True)), (0, 1))
        pushed = jax.jvp(loss, (a, b), (u, v))[1]
        expected = [np.asarray(x) for x in (*first(a, b), *second(a, b), pushed)]

    def every(a: Any, b: Any) -> list[Any]:
        out = f(ad, a, b)
        loss = ad.sum(ad.sin(out) * (1 + out))
        first = ad.grad(loss, [a, b])
        mixed = ad.sum(u * first[0]) + ad.sum(v * first[1])
        pushed = ad.jvp(loss, [a, b], [ad.asarray(u), ad.asarray(v)])
        return [*first, *ad.grad(mixed, [a, b]), pushed]

    for actual, truth in zip(compiled(every, a, b), expected, strict=True):
        same(actual, truth, "float64", units=1e4)


@pytest.mark.parametrize("n", [2, 4, 9])
def test_the_gradient_of_cholesky_is_symmetric(n: int) -> None:
    torch = pytest.importorskip("torch")
    a = positive(n, n)
    given = torch.tensor(a, requires_grad=True)
    torch.sin(torch.linalg.cholesky(given)).sum().backward()
    assert given.grad is not None
    found = compiled(lambda a: ad.grad(ad.sum(ad.sin(ad.linalg.cholesky(a))), a), a)
    same(found, given.grad.numpy(), "float64", units=1e4)
    np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("n", [2, 3, 8])
@pytest.mark.parametrize("rank", [0, 1, 2])
def test_the_determinant_of_a_singular_matrix_has_a_gradient(n: int, rank: int) -> None:
    """It is what the minors are: exact in integers."""
    rng = np.random.default_rng(n)
    lost = min(rank, n)
    a = rng.integers(-2, 3, (n, n)).astype(float) + 3 * np.eye(n)
    a[n - lost :] = a[0] if n - lost else 0
    minors = [[np.linalg.det(np.delete(np.delete(a, i, 0), j, 1)) for j in range(n)] for i in range(n)]
    expected = np.array(minors) * (-1) ** np.add.outer(range(n), range(n))
    found = compiled(lambda a: ad.grad(ad.linalg.det(a), a), a)
    np.testing.assert_allclose(found, expected, atol=1e-9 * max(1, np.abs(expected).max()))


# what a matrix may be


@pytest.mark.parametrize("n", [3, 12])
def test_ill_conditioned_systems_are_solved_as_well_as_lapack_does(n: int) -> None:
    """The Hilbert matrix: a small residual is all that there is to ask for."""
    a, b = sl.hilbert(n), np.ones(n)
    x, inverse = compiled(lambda a, b: [ad.linalg.solve(a, b), ad.linalg.inv(a)], a, b)
    assert np.abs(a @ x - b).max() <= 4 * n * np.finfo(float).eps * np.abs(a).sum(1).max() * np.abs(x).max()
    assert np.abs(inverse).max() == pytest.approx(np.abs(np.linalg.inv(a)).max(), rel=0.1)


@pytest.mark.parametrize("n", [2, 5, 9, 40])
def test_small_pivots_are_exchanged(n: int) -> None:
    a = matrices(n, n)
    a[0, 0] = 1e-18
    b = np.ones(n)
    same(compiled(ad.linalg.solve, a, b), np.linalg.solve(a, b), "float64", units=1e3)


@pytest.mark.parametrize("n", [1, 3, 9, 20])
def test_singular_matrices(n: int) -> None:
    """No error: infinities or NaN in solutions, a determinant of 0, whose logarithm is -inf; other matrices are not
    touched."""
    a = np.stack([matrices(n, n), np.zeros((n, n))])
    b = np.ones((2, n, 1))
    x, inverse, det, sign, log = compiled(
        lambda a, b: [ad.linalg.solve(a, b), ad.linalg.inv(a), ad.linalg.det(a), *ad.linalg.slogdet(a)], a, b
    )
    assert not np.isfinite(x[1]).any() and not np.isfinite(inverse[1]).any()
    assert (det[1], sign[1], log[1]) == (0, 0, -np.inf)
    same(x[0], np.linalg.solve(a[0], b[0]), "float64")


@pytest.mark.parametrize("n", [1, 3, 9, 20])
def test_cholesky_of_what_is_not_positive_definite(n: int) -> None:
    """NaN from the first column on whose pivot is not positive, as NumPy raises an error for it."""
    for k in {0, n // 2, n - 1}:
        for pivot in (0.0, -1.0):
            a = np.eye(n)
            a[k, k] = pivot
            with pytest.raises(np.linalg.LinAlgError):
                np.linalg.cholesky(a)
            found = compiled(ad.linalg.cholesky, np.stack([a, np.eye(n)]))
            np.testing.assert_array_equal(found[1], np.eye(n))
            np.testing.assert_array_equal(found[0][:, :k], np.eye(n)[:, :k])
            assert np.isnan(found[0][np.tril_indices(n)][-1]) and np.isnan(found[0][k:, k]).all()
            assert (found[0][np.triu_indices(n, 1)] == 0).all()


def test_nan_goes_on() -> None:
    a = matrices(2, 8, 8)
    a[1, 3, 4] = np.nan
    x = compiled(ad.linalg.solve, a, np.ones((2, 8, 1)))
    assert np.isfinite(x[0]).all() and np.isnan(x[1]).any()


def test_layouts_and_numpys_functions() -> None:
    a, b = matrices(4, 4).T, np.ones((3, 4)).T
    for function in (np.linalg.inv, np.linalg.det, np.linalg.solve, np.linalg.cholesky, np.linalg.slogdet):
        given = (a, b) if function is np.linalg.solve else (positive(4, 4),)
        found = compiled(function, *given)
        truth = function(*given)
        for x, y in zip(found, truth, strict=True) if function is np.linalg.slogdet else [(found, truth)]:
            same(x, y, "float64")
    same(compiled(lambda x: ad.linalg.cholesky(x, upper=True), a @ a.T), np.linalg.cholesky(a @ a.T).T, "float64")
    for power in (-2, -1, 0, 3):
        same(compiled(lambda x, p=power: ad.linalg.matrix_power(x, p), a), np.linalg.matrix_power(a, power), "float64")


def test_integers_become_floats() -> None:
    same(compiled(ad.linalg.inv, np.array([[0, 2], [4, 0]])), [[0, 0.25], [0.5, 0]], "float64")


# fmt: off
ERRORS: list[tuple[Any, list[Any], Any, str]] = [
    (ad.linalg.cholesky,         [(3,)],            ad.ShapeError, r"cholesky: f64\[3\] is no matrix"),
    (ad.linalg.inv,              [(2, 3)],          ad.ShapeError, r"inv: f64\[2, 3\] is no square matrix .*: 2 != 3"),
    (ad.linalg.det,              [("n", 3)],        None,          ""),
    (ad.linalg.solve,            [(3, 3), (2,)],    ad.ShapeError, r"solve: f64\[3, 3\] and f64\[2, 1\]: 3 != 2"),
    (ad.linalg.solve,            [(3, 3), ()],      ad.ShapeError, r"needs at least 1 axis"),
    (ad.linalg.solve,            [(2, 3, 3), (4, 3, 1)], ad.ShapeError, r"solve: .*: 2 != 4"),
    (ad.linalg.solve_triangular, [(3, 3), (2, 2)],  ad.ShapeError, r"solve_triangular: .*3 != 2"),
]
# fmt: on


@pytest.mark.parametrize(("f", "shapes", "error", "text"), ERRORS)
def test_errors(f: Any, shapes: list[Any], error: Any, text: str) -> None:
    xs = [ad.input(f"x{k}", shape) for k, shape in enumerate(shapes)]
    if error is None:
        assert f(*xs).shape == ()
        return
    with pytest.raises(error, match=text):
        f(*xs)


def test_a_bad_trans() -> None:
    with pytest.raises(ad.GraphError, match="trans is 0 or 'N'"):
        ad.linalg.solve_triangular(np.eye(2), np.ones(2), trans=3)


def test_sizes_that_differ_at_run_time_are_an_error() -> None:
    x = ad.input("x", ("n", "m"))
    f = ad.compile([x], ad.linalg.inv(x))
    with pytest.raises(ad.ShapeError):
        f(np.ones((2, 3)))


# in programs ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("n", [2, 9])
def test_in_a_loop_with_its_gradient(n: int) -> None:
    """A Kalman filter's covariance: every step solves, factors and takes a logarithm of a determinant."""
    jax = pytest.importorskip("jax")
    f, q = matrices(n, n) * 0.5, positive(n, n)
    p = positive(n, n)

    def step(np: Any, p: Any, f: Any, q: Any) -> Any:
        gain = np.swapaxes(np.linalg.solve(p + q, p), -1, -2)
        after = f @ (p - gain @ p) @ f.T + q
        return after, np.linalg.slogdet(p + q)[1] + np.sum(np.linalg.cholesky(after)) + np.sum(gain)

    def loss(p: Any, f: Any, q: Any) -> Any:
        return ad.sum(ad.scan(lambda p, _: step(ad, p, f, q), p, length=7)[1])

    with jax.enable_x64(True):
        import jax.numpy as jnp

        def total(p: Any, f: Any, q: Any) -> Any:
            return jnp.sum(jax.lax.scan(lambda p, _: step(jnp, p, f, q), p, length=7)[1])

        value, expected = total(p, f, q), jax.grad(total, (0, 1, 2))(p, f, q)
    found = compiled(lambda *xs: [loss(*xs), *ad.grad(loss(*xs), list(xs))], p, f, q)
    for actual, truth in zip(found, [value, *expected], strict=True):
        same(actual, np.asarray(truth), "float64", units=1e5)


def test_factors_are_shared_between_forward_and_backward() -> None:
    a, b = ad.input("a", ("n", "n")), ad.input("b", ("n",))
    x = ad.linalg.solve(a, b)
    f = ad.compile([a, b], [x, ad.linalg.det(a), *ad.grad(ad.sum(x * x) + ad.linalg.slogdet(a)[1], [a, b])])
    assert f.source.count("m.factor_lu(") == 1


def test_small_ones_are_written_out() -> None:
    """One pass over the batch, no array in between, no call."""
    a, b = ad.input("a", ("batch", 3, 3)), ad.input("b", ("batch", 3))
    f = ad.compile([a, b], ad.linalg.solve(a, ad.expand_dims(b, axis=-1)))
    assert (f.stats.kernels, f.stats.temporaries) == (1, 0)
    assert "m.lu" not in f.source and "m.factor" not in f.source


def test_an_operand_made_before_a_loop() -> None:
    """A view of an argument, and constants, that a library function in a loop reads from memory."""
    a, b = positive(9, 9), np.arange(18.0).reshape(2, 9)

    def every(a: Any, b: Any) -> Any:
        return ad.scan(lambda s, _: (s + ad.linalg.solve(a + s[0], b[1]), s + ad.linalg.inv(a)[0]), b[0], length=3)

    s, rows = b[0], []
    for _ in range(3):
        rows.append(s + np.linalg.inv(a)[0])
        s = s + np.linalg.solve(a + s[0], b[1])
    last, found = compiled(every, a, b)
    same(last, s, "float64", units=1e4)
    same(found, np.stack(rows), "float64", units=1e4)


@pytest.mark.parametrize("n", [3, 17])
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)], ids=str)
def test_many_systems_and_one_are_jaxs(n: int, axes: tuple[Any, Any]) -> None:
    """`vmap`; with one matrix for all, the right-hand sides are columns."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy

    def f(m: Any, a: Any, b: Any) -> Any:
        factor = m.linalg.cholesky(a @ a.T)
        return m.linalg.solve(a, b), m.linalg.slogdet(a)[1], factor, m.linalg.inv(a), m.linalg.det(a)

    a = matrices(4, n, n) if axes[0] == 0 else matrices(n, n)
    b = np.random.default_rng(1).uniform(-1, 1, (4, n) if axes[1] == 0 else (n,))
    found = compiled(ad.vmap(lambda a, b: f(ad, a, b), in_axes=axes), a, b)
    with jax.enable_x64(True):
        for actual, expected in zip(found, jax.vmap(lambda a, b: f(jnp, a, b), in_axes=axes)(a, b), strict=True):
            same(actual, expected, "float64")


@pytest.mark.parametrize("n", [3, 17])
def test_jacobians_of_systems_are_jaxs(n: int) -> None:
    jax = pytest.importorskip("jax")
    a, b = matrices(n, n), np.random.default_rng(1).uniform(-1, 1, n)

    def derivatives(a: Any, b: Any) -> Any:
        x = ad.linalg.solve(a, b)
        return [*ad.jacobian(x, [a, b]), ad.hessian(ad.sum(x * x), b)]

    found = compiled(derivatives, a, b)
    with jax.enable_x64(True):
        solve = jax.numpy.linalg.solve
        expected = [
            *jax.jacobian(solve, argnums=(0, 1))(a, b),
            jax.hessian(lambda b: (solve(a, b) ** 2).sum())(b),
        ]
        for actual, x in zip(found, expected, strict=True):
            same(actual, x, "float64")


def test_factors_with_any_pivots_touch_nothing_else() -> None:
    from staticad.ops.linear_algebra import lu_solve
    from staticad.tensor import wrap

    n = 9
    f, b = np.zeros((n, n + 1)), np.arange(float(n)).reshape(n, 1)
    f[:, :n], f[:, n] = np.eye(n), [-1e300, 1e300, np.nan, np.inf, -np.inf, 100, -3, 7, 8]
    expected = b.copy()
    for k, p in enumerate([0, n - 1, 0, n - 1, 0, n - 1, 0, 7, 8]):
        expected[[k, p]] = expected[[p, k]]
    x, y = ad.input("f", f.shape), ad.input("b", b.shape)
    out = wrap(lu_solve(x.node, y.node, trans=False))
    np.testing.assert_array_equal(ad.compile([x, y], out)(f, b), expected)
