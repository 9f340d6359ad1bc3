"""Kernel functions: equal work is one, in one program, in many, in other processes; counted, never timed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import generate

import staticad as ad
from staticad import division
from staticad.errors import CacheWarning
from staticad.function import Function
from staticad.runtime import settings

ROOT = Path(__file__).parent.parent
WEIGHT = 20

native = pytest.mark.skipif(settings.plain(), reason="plain Python is not compiled")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STATICAD_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(division, "PART_WEIGHT", WEIGHT)
    return tmp_path / "cache"


def network(depth: int, width: int = 8, scale: float = 0.1, names: str = "w") -> tuple[Any, Any, dict[Any, Any]]:
    """Input, loss and updates of a perceptron of ``depth`` equal layers that do not fuse: each has a sum over rows."""
    x = ad.input("x", ("n", width))
    ws = [ad.parameter(np.eye(width) * 0.5, name=f"{names}{k}") for k in range(depth)]
    y = x
    for w in ws:
        y = ad.tanh(y @ w)
        y = y - ad.mean(y, axis=0)
    loss = ad.sum(y * y)
    gradients = ad.grad(loss, ws)
    return x, loss, {w: w - scale * g for w, g in zip(ws, gradients, strict=True)}


def functions(f: Function) -> list[str]:
    return re.findall(r"^@(?:kernel|parallel\(.*shared=True).*\n(?:def .*|def [^)]*)", f.source, re.MULTILINE)


def step(depth: int, compile: Any = ad.compile, **options: Any) -> Function:  # noqa: A002
    x, loss, updates = network(depth, **options)
    return compile([x], loss, updates=updates)


def test_equal_layers_share_kernel_functions() -> None:
    counts = [len(functions(step(depth, generate))) for depth in (16, 24, 32)]
    assert counts[0] == counts[1] == counts[2] > 3
    loops = [len(step(depth, generate).kernels) for depth in (16, 24, 32)]
    assert loops[2] - loops[1] == loops[1] - loops[0] > 20


def test_kernel_functions_say_nothing_of_the_program_around_them() -> None:
    one, other = step(4, generate, names="a"), step(6, generate, names="zebra")
    bodies = [set(re.findall(r"^@kernel[^@]*?return 0", f.source, re.MULTILINE | re.DOTALL)) for f in (one, other)]
    without = [{re.sub(r"def \w+|  #.*", "", body) for body in found} for found in bodies]
    assert without[0] == without[1]
    assert "zebra" not in "".join(bodies[1])


def test_a_training_step_of_kernel_functions_equals_one_function(monkeypatch: pytest.MonkeyPatch) -> None:
    given = np.random.default_rng(0).normal(size=(5, 8))
    found = []
    for weight in (WEIGHT, 10**9):
        monkeypatch.setattr(division, "PART_WEIGHT", weight)
        x, loss, updates = network(4)
        f = ad.compile([x], loss, updates=updates)
        found.append([f(given), f(given), *(w.value for w in updates)])
        assert (len(functions(f)) > 0) == (weight == WEIGHT)
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@native
def test_what_a_process_has_compiled_it_compiles_no_more() -> None:
    first = step(6, width=12)
    assert first.stats.functions == first.stats.functions_compiled == len(functions(first))
    again = step(9, width=12, names="other")
    assert not again.stats.cache_hit
    assert again.stats.functions > 3
    assert again.stats.functions_compiled == 0
    assert again.stats.peak_bytes >= first.stats.peak_bytes


SCRIPT = """
import json, sys
sys.path.insert(0, "tests")
import numpy as np
import test_kernels
from staticad import division
from staticad.runtime import machine
division.PART_WEIGHT = test_kernels.WEIGHT
compilations = []
emit = machine.machine_code
machine.machine_code = lambda *args: compilations.append(args) or emit(*args)
f = test_kernels.step(int(sys.argv[1]), scale=0.25)
value = float(f(np.ones((3, 8)) * np.arange(3)[:, None] / 3))
print(json.dumps(dict(value=value, hit=f.stats.cache_hit, compiled=f.stats.functions_compiled,
                      functions=f.stats.functions, compilations=len(compilations))))
"""


def start(folder: Path, depth: int) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    variables = {**os.environ, "PYTHONPATH": path, "STATICAD_CACHE_DIR": str(folder)}
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(depth)]
    return subprocess.Popen(command, env=variables, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, error = process.communicate(timeout=200)
    assert process.returncode == 0, error
    return json.loads(out)


@native
def test_what_another_process_has_compiled_is_found_on_disk(folder: Path) -> None:
    first = finish(start(folder, 4))
    assert first["compiled"] == first["functions"] > 3
    deeper = finish(start(folder, 6))
    assert not deeper["hit"]
    assert deeper["compiled"] == 0
    assert deeper["compilations"] == 1  # the entry
    same = finish(start(folder, 4))
    assert same["hit"]
    assert same["compilations"] == 0
    assert same["value"] == first["value"]


@native
def test_damaged_kernel_functions_are_rebuilt(folder: Path) -> None:
    first = finish(start(folder, 4))
    files = sorted(folder.glob("staticad_kernel_*.native"))
    assert len(files) == first["functions"]
    files[0].write_bytes(b"")
    content = files[1].read_bytes()
    files[1].write_bytes(content[:-100] + bytes(100))
    files[2].unlink()
    again = finish(start(folder, 4))
    assert again["hit"]  # the entry is whole
    assert again["compiled"] == 3
    assert again["value"] == first["value"]
    assert finish(start(folder, 4))["compiled"] == 0


@native
def test_many_processes_compile_the_same_kernel_functions_at_once(folder: Path) -> None:
    results = [finish(process) for process in [start(folder, 4) for _ in range(3)]]
    assert len({result["value"] for result in results}) == 1
    assert finish(start(folder, 4))["compilations"] == 0
    assert not list(folder.glob("*.tmp")) + list(folder.glob(".*"))


def test_a_shared_kernel_function_tells_failures_apart() -> None:
    """The same text takes rows of two arrays; which of the two indices was wrong is told."""
    x, i, j = ad.input("x", ("n", 4)), ad.input("i", ("k",), "int64"), ad.input("j", ("k",), "int64")
    y = ad.input("y", ("m", 4))
    one, other = ad.cumulative_sum(x[i], axis=0), ad.cumulative_sum(y[j], axis=0)
    f = ad.compile([x, i, y, j], [one, other])
    a, b = np.arange(12.0).reshape(3, 4), np.arange(20.0).reshape(5, 4)
    good = np.array([0, 2])
    np.testing.assert_array_equal(f(a, good, b, good)[1], np.cumsum(b[good], axis=0))
    with pytest.raises(ad.IndexOutOfRange, match=r"i64\[k\].*size n"):
        f(a, np.array([0, 3]), b, good)
    with pytest.raises(ad.IndexOutOfRange, match=r"i64\[k\].*size m"):
        f(a, good, b, np.array([0, 5]))


@native
def test_compiled_code_calls_kernel_functions() -> None:
    """`.njit` of a program of kernel functions."""
    import numba

    x, loss, updates = network(4)
    f = ad.compile([x], [loss, *updates.values()])
    assert functions(f)
    inner = f.njit
    names = ", ".join(f"o{k}" for k in range(len(updates)))
    scope: dict[str, Any] = {"inner": inner}
    exec(f"def call(x, loss, {names}):\n    for _ in range(3):\n        inner(x, loss, {names})", scope)
    given = np.random.default_rng(3).normal(size=(6, 8))
    outs = [np.zeros(()), *(np.zeros((8, 8)) for _ in updates)]
    numba.njit(scope["call"])(given, *outs)
    for out, expected in zip(outs, f(given), strict=True):
        np.testing.assert_array_equal(out, expected)


def test_without_a_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("STATICAD_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(CacheWarning):
        f = step(4, scale=0.0625)
    assert np.isfinite(f(np.ones((2, 8))))
