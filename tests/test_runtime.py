"""The runtime without a compiler above it: loading, the disk cache over processes, and the kernels against NumPy."""

from __future__ import annotations

import gc
import json
import os
import platform
import re
import subprocess
import sys
import threading
import traceback
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest

from staticad.errors import CacheWarning, CompileError
from staticad.runtime import cache, settings
from staticad.runtime.load import Native, load

HEAD = '"""A program."""\nimport numpy as np\nfrom staticad.runtime.generated import *\n'
ROOT = Path(__file__).parent.parent

PROGRAM = (
    HEAD
    + """
@kernel("f4[], f4[], i8")
def halve(x, out, n):
    x = m.array_f4(x, (n, 8))
    out = m.array_f4(out, (n, 8))
    for i in range(n):
        for j in range(8):
            out[i, j] = x[i, j] * f4(0.5)
    return 0


@entry("i8(u1[::1], f4[:,::1], f4[:,::1], f4[:,::1])")
def main(work, x, w, out):
    n = x.shape[0]
    if x.shape[1] != 8:
        return 1
    t0 = m.slot_f4(work, 64, (n, 8))
    halve(x, t0, n)
    m.contract(t0, w, out, 0, 0, 0, 1, n, 3, 8, 0, 8, 1, 0, 3, 1, 0, 3, 1)
    return 0
"""
)

# Runs PROGRAM and prints what a test wants to know; compilations are the objects that LLVM makes.
SCRIPT = """
import json, sys
import numpy as np
from staticad.runtime import machine
from staticad.runtime.load import load
compilations = []
emit = machine.machine_code
machine.machine_code = lambda *args: compilations.append(args) or emit(*args)
f = load(sys.argv[1], "halved product")
x, w, out = np.arange(40, dtype="f4").reshape(5, 8), np.arange(24, dtype="f4").reshape(8, 3), np.empty((5, 3), "f4")
status = f.call(np.empty(224, "u1"), x, w, out)
wrong = f.call(np.empty(224, "u1"), x[:, :3].copy(), w, out)
print(json.dumps(dict(status=int(status), wrong=int(wrong), right=bool(np.array_equal(out, x / 2 @ w)), hit=f.cache_hit,
                      compilations=len(compilations), path=f.path, seconds=f.seconds,
                      numba="numba" in sys.modules)))
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATICAD_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache directory that holds the compiled PROGRAM."""
    path = tmp_path_factory.mktemp("shared") / "cache"
    first = finish(start(path))
    assert not first["hit"]
    assert first["compilations"]
    assert not first["numba"]
    return path


def start(folder: Path, **environment: str) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    variables = {**os.environ, "PYTHONPATH": path, "STATICAD_CACHE_DIR": str(folder), **environment}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", SCRIPT, PROGRAM],
        env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str]) -> dict[str, object]:
    out, error = process.communicate(timeout=100)
    assert process.returncode == 0, error
    result = json.loads(out)
    assert result["right"]
    assert result["status"] == 0
    assert result["wrong"] == 1
    return result


def compile_main(signature: str, body: str) -> Native:
    names = ", ".join("abcdefgh"[: len(re.findall(r"\w+(?:\[[^]]*\])?", signature)) - 1])
    lines = "\n".join("    " + line for line in body.strip().splitlines())
    return load(f"{HEAD}\n@entry({signature!r})\ndef main({names}):\n{lines}\n    return 0\n", "test")


def natives(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.native"))


# --- the disk cache


def test_a_second_process_does_not_compile(filled: Path) -> None:
    second = finish(start(filled))
    assert second["hit"]
    assert not second["compilations"]
    assert not second["numba"]
    assert Path(str(second["path"])).read_text() == PROGRAM


def test_only_the_owner_may_touch_the_cache(filled: Path) -> None:
    if hasattr(os, "geteuid"):
        assert filled.stat().st_mode & 0o777 == 0o700
        assert all(file.stat().st_mode & 0o077 == 0 for file in filled.iterdir())


def test_damaged_files_are_rebuilt(filled: Path) -> None:
    whole = {file: file.read_bytes() for file in natives(filled)}
    assert len(whole) == 4  # the program, its kernel function, products and the gate
    for file, content in whole.items():
        middle = len(content) // 2
        file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    source = next(filled.glob("*.py"))
    source.write_text("raise SystemExit('a file in the cache was run')")
    assert not finish(start(filled))["hit"]
    assert source.read_text() == PROGRAM
    assert finish(start(filled))["hit"]


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:10], lambda b: b[:-1], lambda b: b + b"0"])
def test_a_damaged_payload_counts_as_missing(damage: object) -> None:
    sealed = cache.seal("key", b"payload")
    assert cache.unseal("key", sealed) == b"payload"
    assert cache.unseal("key", damage(sealed)) is None  # type: ignore[operator]
    assert cache.unseal("other", sealed) is None


def test_many_processes_at_once(folder: Path) -> None:
    for process in [start(folder) for _ in range(3)]:
        finish(process)
    assert finish(start(folder))["hit"]
    assert not list(folder.glob("*.tmp"))
    assert not list(folder.glob(".*"))


def test_a_directory_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STATICAD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(CacheWarning, match=r"cannot be used.*STATICAD_CACHE_DIR"):
        f = compile_main("i8(f8[::1])", "a[0] = 7.0")
    compile_main("i8(f8[::1])", "a[0] = 8.0")  # warned of once, not for every program: warnings are errors here
    a = np.zeros(1)
    assert f.call(a) == 0
    assert a[0] == 7
    assert f.path is None
    assert not f.cache_hit


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_directory_that_others_may_write(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.warns(CacheWarning, match="not yours alone"):
        f = compile_main("i8(f8[::1])", "a[0] = 9.0")
    a = np.zeros(1)
    assert f.call(a) == 0
    assert a[0] == 9
    assert not list(folder.iterdir())


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="needs POSIX permissions")
def test_a_file_that_others_may_write_is_not_read(folder: Path) -> None:
    file = folder / "x.native"
    folder.mkdir()
    assert cache.write(file, b"content")
    assert cache.read(file) == b"content"
    file.chmod(0o666)
    assert cache.read(file) is None


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_directory(folder: Path) -> None:
    folder.mkdir(mode=0o500)
    with pytest.warns(CacheWarning):
        assert compile_main("i8(f8[::1])", "a[0] = 10.0").path is None


def test_plain_python(folder: Path) -> None:
    result = finish(start(folder, NUMBA_DISABLE_JIT="1"))
    assert not result["compilations"]
    assert not natives(folder)


# --- loading


def test_the_same_text_is_the_same_program(folder: Path) -> None:
    f = compile_main("i8(f8[::1])", "a[0] = 1.0")
    assert compile_main("i8(f8[::1])", "a[0] = 1.0") is f
    assert compile_main("i8(f8[::1])", "a[0] = 2.0") is not f
    assert f.path
    assert "compile" in f.seconds
    assert f.symbol in f.asm()


def test_a_name_is_never_code_nor_path(folder: Path) -> None:
    f = load(f"{HEAD}\n@entry('i8(f8[::1])')\ndef main(a):\n    return 3\n", "../evil/\nname; import os")
    assert f.path
    assert Path(f.path).parent == folder
    assert f.call(np.zeros(1)) == 3


def test_compile_errors_name_the_function_and_the_file(folder: Path) -> None:
    with pytest.raises(CompileError, match=r"(?s)main.*staticad_test_\w+\.py.*no_such_thing"):
        compile_main("i8(f8[::1])", "a[0] = m.no_such_thing(a[0])")


def test_what_does_not_fit_is_refused_untouched(folder: Path) -> None:
    f = compile_main("i8(f8[::1], f8[:,::1])", "b[0, 0] = a[0] + 1.0")
    x, out = np.arange(4.0), np.zeros((1, 1))
    assert f.call(x, out) == 0
    assert out[0, 0] == 1
    unaligned = np.zeros(33, "u1")[1:].view("f8")
    wrong = [
        np.zeros(1, "f4"), np.zeros(1, "i8"), np.zeros(1, ">f8"), np.zeros(4)[::2], np.zeros((1, 1)), np.zeros(()),
        unaligned, np.ma.zeros(3), np.zeros(3).view(np.recarray), [1.0], 1.0, np.float64(1), None, object(), "x",
    ]  # fmt: skip
    for value in wrong:
        assert f.call(value, out) == -1
    for arguments in ((), (x,), (x, out, out), (x, np.zeros((2, 2)).T), (x, np.zeros((2, 2), order="F"))):
        assert f.call(*arguments) == -1
    out.flags.writeable = x.flags.writeable = False
    assert f.call(x, out) == f.bind({}, {1})(x, out) == -1
    assert f.bind({}, {})(x, out) == 0


def test_bound_arrays_live_as_long_as_the_call(folder: Path) -> None:
    f = compile_main("i8(f8[::1], f8[::1])", "b[0] = a[1]\na[1] += 1.0")
    held = np.array([5.0, 7.0])
    call, out = f.bind({0: held}, {0, 1}), np.zeros(1)
    counts = [sys.getrefcount(x) for x in (held, out)]
    for _ in range(10):
        assert call(out) == 0
        assert call(None) == -1
    assert counts == [sys.getrefcount(x) for x in (held, out)]
    assert out[0] == 16
    assert held[1] == 17
    del held
    gc.collect()
    np.full(2, 0.0)
    call(out)
    assert out[0] == 17
    assert call(out, out) == -1


@pytest.mark.skipif(settings.plain(), reason="it is a plain function")
def test_a_program_called_as_compiled_code_is_raises(folder: Path) -> None:
    f = compile_main("i8(f8[::1])", "a[0] = 2.0")
    with pytest.raises(TypeError, match="bind"):
        f.module.main(np.zeros(1))


def test_without_a_gate_the_same(folder: Path) -> None:
    with mock.patch("staticad.runtime.gate.available", return_value=False):
        f = compile_main("i8(f8[::1], f8[::1])", "b[0] = a[0] + 3.0")
        call, out = f.bind({0: np.ones(2)}, {1}), np.zeros(1)
        assert call(out) == 0
        assert out[0] == 4
        assert [call(x) for x in (np.zeros(1, "f4"), np.zeros(4)[::2], [1.0])] == [-1] * 3
        assert call() == -1


def test_tracebacks_show_source_without_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICAD_CACHE_DIR", "/dev/null/no")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        f = compile_main("i8(f8[::1])", "a[0] = 1.5  # this line")
    with pytest.raises(TypeError) as caught:
        f.module.main.py_func(7)
    assert "# this line" in "".join(traceback.format_exception(caught.value))


def test_many_threads_at_once(folder: Path) -> None:
    f = compile_main("i8(f8[::1], f8[::1])", REDUCE)
    results = np.zeros((8, 4))

    def work(row: int) -> None:
        for _ in range(50):
            f.call(np.full(1000, float(row)), results[row])

    threads = [threading.Thread(target=work, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert np.array_equal(results[:, 0], 1000.0 * np.arange(8))


# --- reductions

REDUCE = "\n".join(
    f"acc = a[0]\nfor i in range(1, a.shape[0]):\n    acc = m.{name}(acc, a[i])\nb[{k}] = acc"
    for k, name in enumerate(("radd", "rmul", "rmax", "rmin"))
)


@pytest.mark.parametrize("code", ["f4", "f8", "i1", "i8", "u1", "u4", "b1"])
def test_reductions_equal_numpy(code: str, folder: Path) -> None:
    f = compile_main(f"i8({code}[::1], {code}[::1])", REDUCE)
    dtype = np.dtype("?" if code == "b1" else code)
    rng = np.random.default_rng(0)
    for _ in range(10):
        x = rng.integers(0, 4 if dtype.kind in "bu" else 3, 50).astype(dtype)
        if dtype.kind in "if":
            x -= dtype.type(1)
        out = np.empty(4, dtype)
        f.call(x, out)
        expected = [
            np.sum(x, dtype=dtype), np.prod(x, dtype=dtype), np.max(x), np.min(x),
        ] if code != "b1" else [x.any(), x.all(), x.any(), x.all()]  # fmt: skip
        assert np.array_equal(out, np.array(expected, dtype))


def test_extrema_spread_nan_and_order_zeros(folder: Path) -> None:
    f = compile_main("i8(f8[::1], f8[::1])", REDUCE)
    out = np.empty(4)
    for place in range(20):
        x = np.arange(20.0)
        x[place] = np.nan
        f.call(x, out)
        assert np.isnan(out).all()
    f.call(np.array([-np.inf, 3.0, np.inf]), out)
    assert out[2] == np.inf
    assert out[3] == -np.inf


@pytest.mark.skipif(platform.machine().lower() not in {"x86_64", "amd64", "arm64", "aarch64"}, reason="other assembly")
@pytest.mark.parametrize("name", ["radd", "rmax"])
def test_reductions_use_simd(name: str, folder: Path) -> None:
    f = compile_main(
        "i8(f4[::1], f4[::1])", f"acc = a[0]\nfor i in range(a.shape[0]):\n    acc = m.{name}(acc, a[i])\nb[0] = acc"
    )
    packed = {"radd": r"\bv?addps\b|\bfadd(\.4s|.*v\d+\.4s)", "rmax": r"\bv?maxps\b|\bfmax(\.4s|.*v\d+\.4s)"}[name]
    assert re.search(packed, f.asm())


# --- memory


def test_views_of_memory(folder: Path) -> None:
    body = """
x = m.slot_f4(a, 64, (b.shape[0], 3))
y = m.slot_i8(a, 128, ())
z = m.slot_b1(a, 192, (2,))
for i in range(b.shape[0]):
    for j in range(3):
        x[i, j] = f4(10 * i + j)
y[()] = i8(-5)
z[0] = b1(True)
z[1] = b1(False)
w = m.flat(x)
b[0] = w[4] + w.shape[0]
b[1] = x.shape[0] * 100 + x.shape[1]
"""
    f = compile_main("i8(u1[::1], f8[::1])", body)
    work, out = np.full(256, 77, "u1"), np.zeros(2)
    f.call(work, out)
    assert out.tolist() == [11 + 6, 203]
    assert work[64:88].view("f4").tolist() == [0, 1, 2, 10, 11, 12]
    assert work[128:136].view("i8")[0] == -5
    assert work[192:194].tolist() == [1, 0]
    assert work[88] == work[63] == 77


def test_clash(folder: Path) -> None:
    f = compile_main("i8(f8[::1], f8[:,::1], b1[::1])", "c[0] = m.clash(1, 0, 0, a, b)\nc[1] = m.clash(1, 0, 0, b, a)")
    memory, out = np.zeros(20), np.zeros(2, "?")
    for at, expected in ((0, False), (3, False), (4, True), (9, True), (10, False), (14, False)):
        f.call(memory[at : at + 3], memory[6:10].reshape(2, 2), out)
        assert out.tolist() == [expected] * 2
    f.call(memory[7:7], memory[6:10].reshape(2, 2), out)
    assert not out.any()


@pytest.mark.parametrize("groups", [(1, 2, 1, 2), (2, 6, 1, 2), (0, 2, 2, 0), (0, 1, 1, 2), (2, 3, 0, 0)])
def test_clash_compares_what_is_written_with_what_is_chosen(groups: tuple[int, int, int, int], folder: Path) -> None:
    given, updated, read, _ = groups
    count = sum(groups)
    names = ", ".join(f"x{k}" for k in range(count))
    text = f"def main(z, {names}):\n    z[0] = m.clash({given}, {updated}, {read}, {names})\n    return 0\n"
    f = load(f"{HEAD}\n@entry('i8(b1[::1], {', '.join(['f8[::1]'] * count)})')\n{text}", "test")
    role = [k for k, size in enumerate(groups) for _ in range(size)]
    found = np.zeros(1, "?")
    assert f.call(found, *(np.zeros(3) for _ in range(count))) == 0
    assert not found[0]
    for i in range(count):
        for j in range(i):
            arrays = [np.zeros(3) for _ in range(count)]
            memory = np.zeros(4)
            arrays[i], arrays[j] = memory[:3], memory[1:]
            assert f.call(found, *arrays) == 0
            assert found[0] == (3 in (role[i], role[j]) or {role[i], role[j]} == {0, 1})


def test_index_counts_from_the_end(folder: Path) -> None:
    g = compile_main("i8(i8[::1], i4[::1])", "for i in range(a.shape[0]):\n    a[i] = m.index(b[i], 5)")
    a = np.zeros(4, "i8")
    g.call(a, np.array([0, 4, -1, -6], "i4"))
    assert a.tolist() == [0, 4, 4, -1]


# --- products


def place(rng: np.random.Generator, shape: tuple[int, ...], written: bool) -> tuple[int, list[int], int]:
    """Offset, strides and size of a flat memory in which ``shape`` lies in some order of axes, with gaps."""
    strides, step = [0] * len(shape), int(rng.choice([1, 1, 2]))
    for axis in rng.permutation(len(shape)):
        strides[axis] = step
        step *= max(shape[axis], 1) + int(rng.random() < 0.15)
    if not written and rng.random() < 0.3:
        strides[rng.integers(len(shape))] = 0
    offset = int(rng.integers(0, 5))
    size = offset + sum((max(n, 1) - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 4
    if not written and rng.random() < 0.15:
        axis = int(rng.integers(len(shape)))
        offset += (max(shape[axis], 1) - 1) * strides[axis]
        strides[axis] *= -1
    return offset, strides, size


@pytest.mark.parametrize("code", ["f4", "f8", "i4", "b1"])
def test_products_equal_einsum(code: str, folder: Path) -> None:
    arguments = ", ".join(f"d[{i}]" for i in range(16))
    body = f"if d[16]:\n    m.contract(a, b, c, {arguments}, True)\nelse:\n    m.contract(a, b, c, {arguments})"
    f = compile_main(f"i8({code}[::1], {code}[::1], {code}[::1], i8[::1])", body)
    dtype = np.dtype("?" if code == "b1" else code)
    rng = np.random.default_rng(0)

    def view(memory: np.ndarray, start: int, shape: tuple[int, ...], strides: list[int]) -> np.ndarray:
        steps = tuple(stride * memory.itemsize for stride in strides)
        return np.zeros(shape, dtype) if 0 in shape else np.lib.stride_tricks.as_strided(memory[start:], shape, steps)

    for _ in range(500):
        nb, nm, nn, nk = (int(n) for n in (rng.choice([0, 1, 1, 2, 3]), *rng.choice([0, 1, 1, 2, 3, 5, 8, 17, 33], 3)))
        shapes = (nb, nm, nk), (nb, nk, nn), (nb, nm, nn)
        (x0, xs, xn), (y0, ys, yn), (o0, os_, on) = (place(rng, shape, shape is shapes[2]) for shape in shapes)
        low, high = (0, 2) if code == "b1" else (-4, 5)
        x, y = (rng.integers(low, high, n).astype(dtype) for n in (xn, yn))
        out = np.full(on, np.nan if dtype.kind == "f" else 1).astype(dtype)  # must not leak into a result
        expected = out.copy()
        more = rng.random() < 0.3
        if more:
            out[:] = expected[:] = rng.integers(low, high, on).astype(dtype)
        to = view(expected, o0, shapes[2], os_)
        sums = np.matmul(view(x, x0, shapes[0], xs), view(y, y0, shapes[1], ys))
        to[...] = to + sums if more else sums
        f.call(x, y, out, np.array([x0, y0, o0, nb, nm, nn, nk, *xs, ys[0], ys[1], ys[2], *os_, more]))
        assert np.array_equal(out, expected, equal_nan=dtype.kind == "f"), (code, nb, nm, nn, nk, xs, ys, os_)


# --- loops


@pytest.mark.skipif(platform.machine().lower() not in {"x86_64", "amd64", "arm64", "aarch64"}, reason="other assembly")
@pytest.mark.parametrize("count", [4, 8, 10, 16, 50, 128])
def test_a_loop_of_few_steps_is_made_of_vectors(count: int, folder: Path) -> None:
    lines = [
        f"for i in range({count}):",
        f"    for k in range(m.steps({count})):",
        "        b[k] = a[k + i] * a[k + i]",
    ]
    f = compile_main("i8(f4[::1], f4[::1])", "\n".join(lines))
    assert re.search(r"\bv?mulps\b|\bfmul(\.4s|.*v\d+\.4s)", f.asm())
    a, b = np.arange(2 * count, dtype="f4"), np.zeros(count + 1, "f4")
    f.call(a, b)
    np.testing.assert_array_equal(b, np.append(np.square(a[count - 1 : -1]), 0))


@pytest.mark.parametrize("code", ["f4", "f8"])
@pytest.mark.parametrize("count", [9, 13, 14, 15, 30, 61, 127])
def test_the_last_vector_of_a_loop_touches_no_more_than_its_elements(count: int, code: str, folder: Path) -> None:
    size = np.dtype(code).itemsize
    lines = [
        "s = 0.0",
        f"for k in range(m.steps({count}, {size})):",
        "    s = m.radd(s, f8(a[k]))",
        "    b[k] = a[k] * a[k] + a[k]",
        "c[()] = s",
    ]
    f = compile_main(f"i8({code}[::1], {code}[::1], f8[()])", "\n".join(lines))
    a, b, c = np.arange(1, count + 1).astype(code), np.full(count + 20, -1.0, code), np.zeros(())
    f.call(a, b, c)
    np.testing.assert_array_equal(b, np.append(a * a + a, np.full(20, -1.0)))
    assert c == a.sum()


def test_an_array_of_a_function_becomes_registers(folder: Path) -> None:
    """A loop over its few elements leaves no memory behind, though they are changed in a loop of unknown length."""
    lines = [
        "x = m.local_f8((3,))",
        "for k in range(3):",
        "    x[k] = a[k]",
        "n = b.shape[0]",
        "for i in range(n):",
        "    for k in range(3):",
        "        x[k] = x[k] * 0.5 + b[i]",
        "for k in range(3):",
        "    a[k] = x[k]",
    ]
    f = compile_main("i8(f8[::1], f8[::1])", "\n".join(lines))
    a, b = np.array([1.0, 2.0, 4.0]), np.ones(2)
    f.call(a, b)
    np.testing.assert_array_equal(a, [1.75, 2.0, 2.5])
    if platform.machine().lower() in {"x86_64", "amd64"}:
        assert "rsp" not in f.asm().split(".body:\n")[-1].split("retq")[0]


def test_buffers_that_share_memory_one_after_the_other_are_kept_apart(folder: Path) -> None:
    """Each view of the workspace is one that nothing else points to, from where it is made on."""
    lines = ["x = m.slot_f4(a, 0, (4,))"]
    lines += [f"x[{k}] = b[{k}] * b[{k}]" for k in range(4)]
    lines += ["c[0] = x[0] + x[1] + x[2] + x[3]", "y = m.slot_f4(a, 0, (4,))"]
    lines += [f"y[{k}] = b[{3 - k}]" for k in range(4)]
    lines += ["z = m.slot_f4(a, 0, (2, 2))", "c[1] = z[0, 0] * z[0, 1] - z[1, 0] * z[1, 1]"]
    f = compile_main("i8(u1[::1], f4[::1], f4[::1])", "\n".join(lines))
    b, c = np.array([1, 2, 3, 5], "f4"), np.zeros(2, "f4")
    f.call(np.zeros(16, "u1"), b, c)
    np.testing.assert_array_equal(c, [39, 13])
