"""The path of a Python call: what arguments may be, what is checked, and many threads and processes at once."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import staticad as ad
from staticad.errors import DTypeError, IndexOutOfRange, ShapeError
from staticad.runtime import settings

native = pytest.mark.skipif(settings.plain(), reason="of compiled code")
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def affine() -> ad.Function:
    x, scale = ad.input("x", ("n", "m")), ad.input("scale", ())
    return ad.compile([x, scale], [2 * x + scale, ad.sum(x, axis=0)], name="affine")


def expected(x: Any, scale: Any = 1.0) -> list[np.ndarray]:
    return [2.0 * np.asarray(x, float) + scale, np.asarray(x, float).sum(0)]


def same(found: Any, wanted: Any) -> None:
    for f, w in zip(found, wanted, strict=True):
        assert type(f) is np.ndarray
        np.testing.assert_allclose(f, w, rtol=1e-14, atol=1e-14)


# --- what an argument may be


def layouts() -> dict[str, Any]:
    a = np.random.default_rng(0).normal(size=(6, 4))
    frozen = a.copy()
    frozen.flags.writeable = False
    return {
        "C": a, "Fortran": np.asfortranarray(a), "transposed": a.T, "strided": a[::2, 1::2], "reversed": a[::-1, ::-1],
        "sliced": a[1:4, 1:3], "broadcast": np.broadcast_to(a[0], (3, 4)), "no rows": a[:0], "no columns": a[:, :0],
        "one row": a[2:3], "read-only": frozen, "read-only Fortran": frozen.T, "big-endian": a.astype(">f8"),
        "unaligned": np.frombuffer(b"\0" + a.tobytes(), "f8", offset=1).reshape(6, 4), "list": a.tolist(),
        "tuple of lists": tuple(a.tolist()), "list of arrays": list(a), "int64": np.arange(6).reshape(2, 3),
        "uint8": np.arange(6, dtype="u1").reshape(2, 3), "float32": a.astype("f4"), "bool": a > 0,
        "list of int": [[1, 2], [3, 4]],
        "memmap": a.view(np.memmap), "subclass": a.view(type("Other", (np.ndarray,), {})),
    }  # fmt: skip


@pytest.mark.parametrize("layout", layouts())
def test_any_layout_and_whatever_converts_without_loss(layout: str, affine: ad.Function) -> None:
    x = layouts()[layout]
    before = np.array(x, copy=True)
    same(affine(x, 1.0), expected(before))
    out = [np.full(before.shape, np.nan), np.full(before.shape[1], np.nan)]
    assert affine(x, 1.0, out=out) is out
    same(out, expected(before))
    assert np.array_equal(np.asarray(x), before)


@pytest.mark.parametrize("scale", [3, 3.0, True, np.float64(3), np.float32(3), np.int8(3), np.array(3.0), np.array(3)])
def test_0d_inputs(scale: Any, affine: ad.Function) -> None:
    x = np.ones((2, 2))
    same(affine(x, scale), expected(x, float(scale)))


def test_python_numbers_are_weak() -> None:
    x = ad.input("x", (), dtype="float32")
    assert ad.compile([x], 2 * x)(0.1) == np.float32(0.2)
    i = ad.input("i", ("n",), dtype="int8")
    f = ad.compile([i], i + 1)
    assert f([1, 2]).dtype == np.int8
    assert f([True, False]).tolist() == [2, 1]
    assert f([]).shape == (0,)
    for wrong in ([300], [1.5], [1.0]):
        with pytest.raises(DTypeError):
            f(wrong)


def test_equal_dtypes_that_are_not_one_object() -> None:
    """NumPy has two int64, and dtypes with metadata; the gate knows one object for each type."""
    i = ad.input("i", ("n",), dtype=np.longlong)
    f = ad.compile([i], i * 2)
    for dtype in ("i8", np.longlong, np.dtype("i8").newbyteorder("="), np.dtype("i8", metadata={"unit": "m"}), ">i8"):
        x, out = np.arange(3).astype(dtype), np.zeros(3, dtype)
        assert f(x).tolist() == [0, 2, 4]
        if np.dtype(dtype).isnative:
            assert f(x, out=out).tolist() == [0, 2, 4]


WRONG: list[tuple[Any, type[Exception], str]] = [
    (np.ones((2, 2), complex), DTypeError, r"affine: input 'x' takes f64\[n, m\], got complex128"),
    (np.ones((2, 2), np.longdouble), DTypeError, "does not convert without loss"),
    (np.array([["a"]]), DTypeError, "input 'x' takes"),
    (np.array([[None]]), DTypeError, "input 'x' takes"),
    ([[1.0], [2.0, 3.0]], DTypeError, "input 'x' takes"),
    ("text", DTypeError, "input 'x' takes"),
    (None, DTypeError, "input 'x' takes"),
    (object(), DTypeError, "input 'x' takes"),
    (np.ones(3), ShapeError, "'x'"),
    (np.ones((1, 2, 3)), ShapeError, "'x'"),
    (1.0, ShapeError, "'x'"),
]


@pytest.mark.parametrize(("wrong", "error", "message"), WRONG)
def test_wrong_arguments(wrong: Any, error: type[Exception], message: str, affine: ad.Function) -> None:
    out = [np.zeros((2, 2)), np.zeros(2)]
    for call in (lambda: affine(wrong, 1.0), lambda: affine(wrong, 1.0, out=out)):
        with pytest.raises(error, match=message):
            call()
    assert not out[0].any()


def test_wrong_counts_and_names(affine: ad.Function) -> None:
    x = np.ones((2, 2))
    wrong = [((), {}), ((x,), {}), ((x, 1.0, x), {}), ((x,), {"x": x}), ((x, 1.0), {"y": 1}), ((), {"x": x})]
    for arguments, named in wrong:
        with pytest.raises(DTypeError, match="affine"):
            affine(*arguments, **named)
    same(affine(scale=1.0, x=x), expected(x))
    same(affine(x, scale=1.0), expected(x))


def test_sizes_that_differ() -> None:
    x, y = ad.input("x", ("n",)), ad.input("y", ("n", 3))
    f = ad.compile([x, y], ad.sum(x @ y), name="f")
    assert f(np.ones(2), np.ones((2, 3))) == 6
    with pytest.raises(ShapeError, match=r"'n'|n = "):
        f(np.ones(2), np.ones((4, 3)))
    with pytest.raises(ShapeError, match="'y'"):
        f(np.ones(2), np.ones((2, 4)))


# --- out


def test_out_may_overlap_the_inputs() -> None:
    x = ad.input("x", ("n",))
    f = ad.compile([x], [ad.cumulative_sum(x), x + ad.flip(x)], name="f")
    memory = np.arange(10.0)
    start = memory[:5].copy()
    found = f(memory[:5], out=[memory[2:7], np.zeros(5)])
    np.testing.assert_array_equal(found[0], np.cumsum(start))
    np.testing.assert_array_equal(found[1], start + start[::-1])
    memory = np.arange(5.0)
    f(memory, out=(memory, np.zeros(5)))
    np.testing.assert_array_equal(memory, np.cumsum(np.arange(5.0)))


def test_out_of_any_layout(affine: ad.Function) -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    for strange in (np.zeros((4, 3)).T, np.zeros((6, 8))[::2, ::-2], np.zeros((3, 4)).view(np.memmap)):
        out = [strange, np.zeros(8)[::2]]
        affine(x, 1.0, out=out)
        np.testing.assert_allclose(out[0], expected(x)[0])
        np.testing.assert_allclose(out[1], expected(x)[1])


def test_wrong_out(affine: ad.Function) -> None:
    x = np.ones((2, 3))
    frozen = np.zeros((2, 3))
    frozen.flags.writeable = False
    cases: list[tuple[Any, type[Exception], str]] = [
        ([np.zeros((2, 3), "f4"), np.zeros(3)], DTypeError, r"out\[0\]"),
        ([np.zeros((3, 2)), np.zeros(3)], ShapeError, r"out\[0\]"),
        ([np.zeros((2, 3)), np.zeros((3, 1))], ShapeError, r"out\[1\]"),
        ([frozen, np.zeros(3)], ShapeError, "read-only"),
        ([np.zeros((2, 3)), [0.0] * 3], (DTypeError, ShapeError), "out"),
        ([np.zeros((2, 3))], ShapeError, "out must have 2"),
        ([], ShapeError, "out must have 2"),
        ([np.zeros((2, 3)), np.zeros(3), np.zeros(3)], ShapeError, "out must have 2|expected a list of 2"),
        (np.zeros((2, 3)), ShapeError, "out must have 2|expected a list of 2"),
        ("ab", (DTypeError, ShapeError), "out"),
    ]
    for out, error, message in cases:
        with pytest.raises(error, match=message):
            affine(x, 1.0, out=out)
    with pytest.raises(DTypeError, match=r"takes 2 arrays"):  # not to be mistaken for another split of the arguments
        affine(x, out=[np.ones(()), np.zeros((2, 3)), np.zeros(3)])


def test_out_in_the_nest_of_the_outputs() -> None:
    x = ad.input("x", (2,))
    f = ad.compile([x], {"a": x + 1, "b": (x * 2, [ad.sum(x)])})
    out = {"a": np.zeros(2), "b": (np.zeros(2), [np.zeros(())])}
    assert f(np.ones(2), out=out) is out
    assert out["a"].tolist() == [2, 2]
    assert out["b"][1][0] == 2
    single = ad.compile([x], x * 3)
    to = np.zeros(2)
    assert single(np.ones(2), out=to) is to
    assert to.tolist() == [3, 3]


def test_parameters_given_as_arguments() -> None:
    x, W = ad.input("x", ("n",)), ad.parameter(np.arange(4.0), name="W")
    f = ad.compile([x], [W * ad.flip(x)], updates={W: W + ad.flip(x)}, name="f")
    (found,) = f(W.value)
    np.testing.assert_array_equal(found, [0, 2, 2, 0])
    np.testing.assert_array_equal(W.value, [3, 3, 3, 3])
    g = ad.compile([x], x + W)
    to = g(np.ones(4), out=W.value)
    assert to is W.value
    np.testing.assert_array_equal(to, [4, 4, 4, 4])


def test_a_failed_call_writes_nothing() -> None:
    i, W = ad.input("i", ("n",), dtype="int64"), ad.parameter(np.arange(4.0), name="W")
    f = ad.compile([i], [W[i]], updates={W: W + 1}, name="f")
    with pytest.raises(IndexOutOfRange, match="f: "):
        f(np.array([0, 7]))
    np.testing.assert_array_equal(W.value, np.arange(4.0))


# --- workspaces


def test_workspaces_are_kept_and_do_not_pile_up() -> None:
    x = ad.input("x", ("n", 3))
    f = ad.compile([x], ad.nn.softmax(x @ (x.T @ x), axis=0))
    caller = f._caller
    for n in (1, 50, 3, 1000, 2, 1000, 0):
        X = np.random.default_rng(n).normal(size=(n, 3))
        for given in (X, X, X.tolist() if n else X, np.asfortranarray(X)):
            y = X @ (X.T @ X)
            wanted = np.exp(y - y.max(0)) / np.exp(y - y.max(0)).sum(0) if n else X
            np.testing.assert_allclose(f(given), wanted, rtol=1e-10)
            assert len(caller.free) == 1


# --- threads and processes


def test_one_function_in_many_threads() -> None:
    x = ad.input("x", ("n", 3), requires_grad=True)
    f = ad.compile([x], [ad.nn.softmax(x @ (x.T @ x), axis=0), ad.sum(x)])
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        rng = np.random.default_rng(seed)
        try:
            for _ in range(60):
                X = rng.normal(size=(int(rng.integers(1, 40)), 3))
                found, total = f(X) if rng.random() < 0.5 else f(X, out=[np.zeros_like(X), np.zeros(())])
                y = X @ (X.T @ X)
                np.testing.assert_allclose(found, np.exp(y - y.max(0)) / np.exp(y - y.max(0)).sum(0), rtol=1e-9)
                np.testing.assert_allclose(total, X.sum(), atol=1e-12)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@native
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_the_gil_is_released() -> None:
    """Python runs on while native code does: a thread counts in the time of one long call."""
    x = ad.input("x", ("n",))
    f = ad.compile([x], ad.sum(ad.cumulative_sum(ad.exp(ad.sin(x)))))
    X = np.zeros(1_000_000)
    f(X)
    while True:  # a call of at least 0.2 seconds
        start = time.perf_counter()
        f(X)
        if time.perf_counter() - start > 0.2:
            break
        X = np.zeros(2 * X.size)
    done, times = threading.Event(), []

    def call() -> None:
        f(X)
        done.set()

    thread = threading.Thread(target=call)
    thread.start()
    while not done.is_set():
        times.append(time.perf_counter())
        time.sleep(0.001)
    thread.join()
    assert len(times) > 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_processes(tmp_path: Path) -> None:
    program = """
        import os, sys
        import numpy as np, staticad as ad
        x = ad.input("x", ("n",))
        f = ad.compile([x], ad.sum(x * x))
        assert f(np.arange(3.0)) == 5
        children = []
        for k in range(4):
            pid = os.fork()
            if pid == 0:
                good = f(np.arange(3.0)) == 5
                for factor in (k % 2 + 2.0, k + 20.0):  # some compile the same text at the same time
                    good = good and ad.compile([x], ad.sum(x * factor))(np.arange(3.0)) == 3 * factor
                os._exit(0 if good else 1)
            children.append(pid)
        assert ad.compile([x], ad.sum(x * 7.0))(np.arange(3.0)) == 21
        sys.exit(sum(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0 for pid in children))
    """
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["STATICAD_CACHE_DIR"] = str(tmp_path / "cache")
    command = [sys.executable, "-c", textwrap.dedent(program)]
    subprocess.run(command, env=environment, check=True, timeout=200)
    assert not [file for file in (tmp_path / "cache").iterdir() if file.name.startswith(".")]


# --- products, whose operands may be any views


def random_product(
    r: random.Random, rng: np.random.Generator
) -> tuple[str, list[ad.Tensor], list[ad.Tensor], list[Any], list[Any]]:
    """An einsum of two operands: the spec, inputs, views of them, and the same as arrays."""
    letters = "abcdef"[: r.randint(1, 6)]
    size = {c: r.choice([0, 1, 2, 3, 5, 9]) if r.random() < 0.3 else r.choice([1, 2, 3, 5, 9]) for c in letters}
    specs, tensors, views, arrays, array_views = [], [], [], [], []
    symbolic, dtype = r.random() < 0.5, r.choice(["float64", "float32", "int64"])
    for name in "xy":
        spec = r.sample(letters, r.randint(0, min(4, len(letters))))
        axes = r.sample(range(len(spec)), len(spec))  # of the input: axis k is letter spec[axes[k]]
        steps = [r.choice([1, 1, 2, -1]) for _ in spec]
        shape = [size[spec[axis]] * (2 if step == 2 else 1) for axis, step in zip(axes, steps, strict=True)]
        named = [symbolic and step != 2 for step in steps]
        declared = [spec[axis] if name_it else n for axis, name_it, n in zip(axes, named, shape, strict=True)]
        array = rng.integers(-3, 4, shape).astype(dtype)
        tensor = ad.input(name, tuple(declared), dtype=dtype)
        key = tuple(slice(None, None, step) for step in steps)
        order = tuple(int(k) for k in np.argsort(axes))
        arrays.append(array)
        tensors.append(tensor)
        array_views.append(array[key].transpose(order))
        views.append(ad.permute_dims(tensor[key] if key else tensor, order))
        specs.append("".join(spec))
    found = sorted({*specs[0], *specs[1]})
    out = "".join(r.sample(found, r.randint(0, len(found))))
    return f"{specs[0]},{specs[1]}->{out}", tensors, views, arrays, array_views


@pytest.mark.parametrize("seed", range(12))
def test_products_of_views(seed: int) -> None:
    spec, tensors, views, arrays, array_views = random_product(random.Random(seed), np.random.default_rng(seed))
    f = ad.compile(tensors, ad.einsum(spec, *views))
    np.testing.assert_array_equal(f(*arrays), np.einsum(spec, *array_views), err_msg=f"{spec}\n{f.source}")


@pytest.mark.parametrize("spec", ["abc,cad->bd", "abc,cbad->d", "abcd,dbca->", "nhwc,cwho->no", "aibjck,kxcjbi->ax"])
def test_summed_axes_in_any_order(spec: str) -> None:
    rng = np.random.default_rng(0)
    size = {c: k + 2 for k, c in enumerate(sorted(set(spec) - set(",->")))}
    xs, ys = (rng.normal(size=[size[c] for c in part]) for part in spec.partition("->")[0].split(","))
    x, y = ad.input("x", tuple(spec.partition(",")[0])), ad.input("y", ys.shape)
    f = ad.compile([x, y], ad.einsum(spec, x, y))
    np.testing.assert_allclose(f(xs, ys), np.einsum(spec, xs, ys), rtol=1e-12)
