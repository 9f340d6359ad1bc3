"""Compiled functions called from a user's own ``@njit`` code: the same results as from Python, and clear errors."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numba import njit, prange
from numba.core.runtime import _nrt_python

import staticad as ad
from staticad.errors import IndexOutOfRange, ShapeError
from staticad.runtime import settings

native = pytest.mark.skipif(settings.plain(), reason="of compiled code")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def density() -> ad.Function:
    """A value and a gradient."""
    x = ad.input("x", ("n",), requires_grad=True)
    scale = ad.input("scale", ())
    y = scale * ad.sum(x * ad.sin(x))
    return ad.compile([x, scale], [y, ad.grad(y, x)], name="density")


def test_a_value_and_its_gradient_in_a_loop(density: ad.Function) -> None:
    f = density.njit

    @njit
    def ascend(x, steps):
        x, value, gradient = x.copy(), np.empty(()), np.empty_like(x)
        for _ in range(steps):
            f(x, 2.0, value, gradient)
            x += 0.1 * gradient
        return x, value[()]

    x = start = np.linspace(0, 1, 7)
    for _ in range(5):
        value, gradient = density(x, 2.0)
        x = x + 0.1 * gradient
    found, last = ascend(start, 5)
    np.testing.assert_allclose(found, x, rtol=1e-14)
    np.testing.assert_allclose(last, value, rtol=1e-14)


def test_a_training_step_shares_parameters_with_python() -> None:
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 6))
    x, y = ad.input("x", ("batch", 3)), ad.input("y", ("batch",))
    W, b = ad.parameter(np.zeros(3), name="W"), ad.parameter(np.zeros(()), name="b")
    loss = ad.nn.mse_loss(x @ W + b, y)
    gW, gb = ad.grad(loss, [W, b])
    step = ad.compile([x, y], loss, updates={W: W - 0.1 * gW, b: b - 0.1 * gb}, name="step")
    expected = [float(step(*batch)) for batch in zip(X, Y, strict=True)]
    trained = W.value.copy(), b.value.copy()
    W.value, b.value = np.zeros(3), 0.0
    f = step.njit

    @njit
    def epoch(X, Y, losses):
        for k in range(X.shape[0]):
            out = losses[k : k + 1].reshape(())
            f(X[k], Y[k], out)

    losses = np.zeros(4)
    epoch(X, Y, losses)
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    np.testing.assert_allclose(W.value, trained[0], rtol=1e-12)
    np.testing.assert_allclose(b.value, trained[1], rtol=1e-12)
    W.value = np.ones(3)  # seen by compiled code
    epoch(X, Y, losses)
    W.value, b.value, again = np.ones(3), trained[1], losses.copy()
    np.testing.assert_allclose([float(step(*batch)) for batch in zip(X, Y, strict=True)], again, rtol=1e-12)


@pytest.mark.parametrize("size", [40, 3000], ids=["on the stack", "on the heap"])
@pytest.mark.parametrize("symbolic", [False, True])
def test_workspaces(size: int, symbolic: bool) -> None:
    x = ad.input("x", ("n" if symbolic else size, 3))
    f = ad.compile([x], ad.nn.softmax(x @ (x.T @ x), axis=0))
    assert f.compiled.plan.work_bytes != 0
    call = f.njit

    @njit
    def run(x, out):
        for _ in range(3):
            call(x, out)

    X = np.random.default_rng(0).normal(size=(size, 3))
    out = np.zeros_like(X)
    run(X, out)
    np.testing.assert_allclose(out, f(X), rtol=1e-12)


def test_inputs_of_any_layout() -> None:
    x = ad.input("x", ("n", "m"), dtype="float32")
    f = ad.compile([x], ad.sum(x * ad.exp(x), axis=0), name="g")
    call = f.njit

    @njit
    def run(x, out):
        call(x, out)

    A = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
    frozen = A.copy()
    frozen.flags.writeable = False
    views = [A, A.T, A[::2], A[::-1, ::-1], A[1:4, 1:3], np.asfortranarray(A), A[:, :0], A[:0], A[:, None, 0]]
    for view in (*views, frozen, frozen.T):
        before, out = view.copy(), np.full(view.shape[1], np.nan, "f4")
        run(view, out)
        np.testing.assert_allclose(out, (before * np.exp(before)).sum(0), rtol=1e-5)
        assert np.array_equal(view, before)


def test_numbers_for_0d_inputs(density: ad.Function) -> None:
    f = density.njit

    @njit
    def run(x, scale):
        value, gradient = np.empty(()), np.empty_like(x)
        f(x, scale, value, gradient)
        return value[()]

    x = np.arange(3.0)
    for scale in (2, 2.0, np.float32(2), np.array(2.0), True):
        np.testing.assert_allclose(run(x, scale), float(scale) * np.sum(x * np.sin(x)))


def test_prange_and_threads(density: ad.Function) -> None:
    f = density.njit

    @njit(parallel=True)
    def many(x, values, gradients):
        for k in prange(x.shape[0]):
            f(x[k], 1.0, values[k].reshape(()), gradients[k])

    @njit(nogil=True)
    def one(x, values, gradients):
        for k in range(x.shape[0]):
            f(x[k], 1.0, values[k].reshape(()), gradients[k])

    x = np.random.default_rng(0).normal(size=(200, 5))
    expected = [density(row, 1.0) for row in x]

    def check(run: Any) -> None:
        values, gradients = np.zeros((200, 1)), np.zeros_like(x)
        run(x, values, gradients)
        np.testing.assert_allclose(values[:, 0], [value for value, _ in expected], rtol=1e-14)
        np.testing.assert_allclose(gradients, [gradient for _, gradient in expected], rtol=1e-14)

    check(many)
    check(one)
    threads = [threading.Thread(target=check, args=(one,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@native
def test_errors_found_in_native_code(density: ad.Function) -> None:
    f = density.njit

    @njit
    def run(x, value, gradient):
        f(x, 1.0, value, gradient)

    x = np.zeros(4)
    with pytest.raises(ShapeError, match="density: out_1: axis 0 must be n"):
        run(x, np.zeros(()), np.zeros(5))
    with pytest.raises(ValueError, match="overlaps"):
        run(x, np.zeros(()), x)
    i, table = ad.input("i", ("n",), dtype="int64"), ad.parameter(np.arange(5.0))
    taken = ad.compile([i], table[i], name="taken")
    g = taken.njit

    @njit
    def take(i, out):
        g(i, out)

    out = np.zeros(2)
    take(np.array([1, -1]), out)
    assert out.tolist() == [1, 4]
    with pytest.raises(IndexOutOfRange, match=r"taken: .*out of range"):
        take(np.array([1, 5]), out)


@native
def test_more_failures_than_have_texts_of_their_own() -> None:
    inputs = [ad.input(f"x{k}", (k + 1, 2)) for k in range(25)]
    f = ad.compile(inputs, sum(ad.sum(x) for x in inputs), name="wide")
    call = f.njit
    body = ", ".join(f"x{k}" for k in range(25))
    scope: dict[str, Any] = {"call": call}
    exec(f"def run({body}, out):\n    call({body}, out)", scope)
    run = njit(scope["run"])
    arrays, out = [np.ones(x.shape) for x in inputs], np.zeros(())
    run(*arrays, out)
    assert out == sum(a.size for a in arrays)
    for k in (0, 24):
        wrong = [np.ones((99, 2)) if j == k else a for j, a in enumerate(arrays)]
        with pytest.raises(ShapeError, match="wide"):
            run(*wrong, out)


@native
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x, v, g: (x.astype("f4"), 1.0, v, g), r"density: input 'x' takes f64\[n\] .*got array\(float32"),
        (lambda x, v, g: (x[None], 1.0, v, g), r"input 'x' takes .*got array\(float64, 2d, C\)"),
        (lambda x, v, g: (1.0, 1.0, v, g), "input 'x' takes .*got float64"),
        (lambda x, v, g: (x, 1j, v, g), "input 'scale' takes .*got complex128"),
        (lambda x, v, g: (x, 1.0, v, g.astype("f4")), "density: output 1 must be .*got array"),
        (lambda x, v, g: (x, 1.0, v, np.zeros(8)[::2]), "output 1 must be a C-contiguous"),
        (lambda x, v, g: (x, 1.0, 0.0, g), "output 0 must be .*got float64"),
    ],
)
def test_wrong_types_are_typing_errors(wrong: Any, message: str, density: ad.Function) -> None:
    f = density.njit

    @njit
    def run(x, scale, value, gradient):
        f(x, scale, value, gradient)

    with pytest.raises(numba.core.errors.TypingError, match=message):
        run(*wrong(np.zeros(4), np.zeros(()), np.zeros(4)))


@native
def test_parameters_live_as_long_as_the_code_that_uses_them() -> None:
    def make() -> Any:
        W = ad.parameter(np.full(50, 3.0))
        f = ad.compile([], [ad.sum(W)], updates={W: W + 1.0}).njit

        @njit
        def run(out):
            f(out)

        out = np.zeros(())
        run(out)
        assert out == 150
        (compiled,) = run.overloads.values()
        return compiled.entry_point

    call = make()
    gc.collect()
    rubbish = [np.full(50, 1e9) for _ in range(100)]
    out = np.zeros(())
    call(out)
    assert out == 200
    del rubbish


@native
def test_a_cached_caller_is_not_cached(tmp_path: Path) -> None:
    """Its code holds addresses, and Numba cannot see that the program it calls has changed."""
    (tmp_path / "user.py").write_text(
        textwrap.dedent("""
            import sys, warnings
            import numpy as np, staticad as ad
            from numba import njit
            x, factor = ad.input("x", ("n",)), float(sys.argv[1])
            f = ad.compile([x], factor * x).njit

            @njit(cache=True)
            def run(x, out):
                f(x, out)

            @njit(cache=True)
            def outer(x, out):
                run(x, out)

            out = np.zeros(3)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                outer(np.ones(3), out)
            print(out[0], sum("Cannot cache" in str(w.message) for w in caught))
        """)
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["NUMBA_CACHE_DIR"] = str(tmp_path / "numba")
    for factor in ("2", "3"):
        command = [sys.executable, str(tmp_path / "user.py"), factor]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert result.stdout.split() == [f"{factor}.0", "2"]


@native
def test_no_allocation_where_everything_fits(density: ad.Function) -> None:
    f = density.njit

    @njit
    def run(x, value, gradient):
        for _ in range(1000):
            f(x, 1.0, value, gradient)

    arguments = np.zeros(4), np.zeros(()), np.zeros(4)
    run(*arguments)
    enabled = _nrt_python.memsys_stats_enabled()
    _nrt_python.memsys_enable_stats()
    try:
        before = _nrt_python.memsys_get_stats_alloc()
        run(*arguments)
        assert _nrt_python.memsys_get_stats_alloc() - before < 10  # the arguments
    finally:
        if not enabled:
            _nrt_python.memsys_disable_stats()


def test_plain_python(tmp_path: Path) -> None:
    program = """
        import numpy as np, staticad as ad
        x = ad.input("x", ("n",)); W = ad.parameter(np.ones(()))
        f = ad.compile([x], x * W, updates={W: W + 1}).njit
        out = np.zeros(3)
        assert f(np.ones(6)[::2], out) is None
        f([2, 2, 2], out)
        assert out.tolist() == [4, 4, 4] and W.value == 3
        for wrong, error in (((out, out[:2]), ValueError), ((out, np.zeros(3, "f4")), TypeError), ((out,), TypeError)):
            try:
                f(*wrong)
            except error:
                continue
            raise SystemExit("no error")
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment |= {"NUMBA_DISABLE_JIT": "1", "STATICAD_CACHE_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], env=environment, check=True)
