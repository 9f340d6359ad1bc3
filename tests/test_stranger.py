"""A stranger adds an elementwise op: one entry in one file, and everything covers it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import staticad

ROOT = Path(staticad.__file__).parent.parent
ENTRY = """

softsign = elementwise(
    "softsign", lambda x: x / (1 + np.abs(x)), "{x} / ({t}(1) + abs({x}))",
    lambda out, x: (square(1 - abs_(out)),), cost=6, examples=floats(PLAIN),
)
"""
USE = """
import numpy as np
import staticad as ad

x = ad.input("x", ("n",))
y = ad.softsign(x)
f = ad.compile([x], [y, ad.grad(ad.sum(y), x), ad.softsign(2)])
X = np.array([-3.0, 0.5, 2.0])
value, slope, number = f(X)
np.testing.assert_allclose(value, X / (1 + abs(X)), rtol=1e-15)
np.testing.assert_allclose(slope, 1 / (1 + abs(X)) ** 2, rtol=1e-15)
assert number == 2 / 3
assert f.stats.kernels == 1
"""


def test_one_entry_is_all_that_a_new_op_takes(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "staticad", tmp_path / "staticad", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", tmp_path / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    entries = tmp_path / "staticad" / "ops" / "arithmetic.py"
    entries.write_text(entries.read_text() + ENTRY)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "STATICAD_CACHE_DIR": str(tmp_path / "cache")}
    environment["NUMBA_DISABLE_JIT"] = "1"
    subprocess.run([sys.executable, "-c", USE], cwd=tmp_path, env=environment, check=True)
    chosen = ["tests/test_conformance.py", "-k", "softsign"]
    tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *chosen]
    run = subprocess.run(tests, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout
    assert int(run.stdout.rsplit(" passed", 1)[0].split()[-1]) >= 4, run.stdout
