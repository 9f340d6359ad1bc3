"""What the README shows runs as it stands, and so does every example."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import least_squares

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"


def test_readme_snippets(monkeypatch: pytest.MonkeyPatch) -> None:
    text = README.read_text()
    snippets = list(re.finditer(r"```python\n(.*?)```", text, re.DOTALL))
    assert len(snippets) >= 5
    names: dict[str, object] = {}
    for snippet in snippets:
        # Line numbers of a failure are the README's.
        code = "\n" * text.count("\n", 0, snippet.start(1)) + snippet[1]
        with contextlib.redirect_stdout(io.StringIO()):
            exec(compile(code, str(README), "exec"), names)


def run(example: str, out: Path, *options: str) -> str:
    pytest.importorskip("sklearn")
    pytest.importorskip("tqdm")
    command = [sys.executable, str(ROOT / "examples" / f"{example}.py"), "--out", str(out), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    ran = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]
    return ran.stdout


def is_png(path: Path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG")


def test_digits(tmp_path: Path) -> None:
    printed = run("digits", tmp_path)
    found = re.search(r"test accuracy (\d+\.\d+)%", printed)
    assert found, printed
    assert float(found[1]) >= 97.0
    assert is_png(tmp_path / "digits_loss.png")
    assert is_png(tmp_path / "digits_confusion.png")


def test_hmc(tmp_path: Path) -> None:
    printed = run("hmc", tmp_path, "--draws", "300")
    assert "a log-density with its gradient takes" in printed
    found = re.search(r"right for (\d+\.\d+)% of the tumours", printed)
    assert found, printed
    assert float(found[1]) >= 97.0
    assert is_png(tmp_path / "hmc_posterior.png")


def test_characters(tmp_path: Path) -> None:
    printed = run("characters", tmp_path, "--steps", "120")
    found = re.search(r"(\d\.\d+) bits for a character of unseen text; (\d\.\d+) by their frequencies", printed)
    assert found, printed
    assert float(found[1]) < float(found[2]) - 0.7  # it has learned what follows what
    assert is_png(tmp_path / "characters.png")


def test_epidemic(tmp_path: Path) -> None:
    """The fit is that of SciPy's adaptive solver and of its least squares without derivatives."""
    printed = run("epidemic", tmp_path, "--draws", "50")
    found = re.search(r"infects (\d\.\d+) others .* in (\d\.\d+) days", printed)
    assert found, printed
    in_bed = np.array([3, 8, 26, 76, 225, 298, 258, 233, 189, 128, 68, 29, 14, 4])

    def misfit(logarithms: np.ndarray) -> np.ndarray:
        infect, recover, first = np.exp(logarithms)

        def slope(_: float, y: np.ndarray) -> tuple[float, float]:
            return -infect * y[0] * y[1] / 763, infect * y[0] * y[1] / 763 - recover * y[1]

        days = np.arange(14.0)
        path = solve_ivp(slope, (0, 13), (763 - first, first), t_eval=days, rtol=1e-9, atol=1e-9)
        return np.sqrt(path.y[1]) - np.sqrt(in_bed)

    infect, recover, _ = least_squares(misfit, np.log([2.0, 0.5, 1.0])).x
    np.testing.assert_allclose([float(x) for x in found.groups()], np.exp([infect - recover, -recover]), atol=2e-3)
    assert is_png(tmp_path / "epidemic.png")


def test_newton(tmp_path: Path) -> None:
    printed = run("newton", tmp_path)
    found = re.search(r"(\d+) steps .* gradient (\S+)\nright for (\d+) of 54", printed)
    assert found, printed
    assert int(found[1]) <= 12 and float(found[2]) < 1e-12  # as only the exact Hessian gets there
    assert int(found[3]) >= 52
    assert is_png(tmp_path / "newton.png")


def test_bundle_adjustment(tmp_path: Path) -> None:
    printed = run("bundle_adjustment", tmp_path, "--cameras", "10", "--points", "120")
    found = re.search(r"pixels off: (\S+) before, (\S+) after; noise (\S+)", printed)
    assert found, printed
    before, after, noise = map(float, found.groups())
    assert before > 30 and 0.7 * noise < after < noise  # as near as noise lets it, for so many unknowns
    found = re.search(
        r"points off: (\S+) before, (\S+) after\n(\d+) wrong .*: (\d+) turned off, and (\d+) that", printed
    )
    assert found, printed
    assert float(found[2]) < 0.1 * float(found[1])
    assert int(found[4]) >= 0.95 * int(found[3]) > 10 and int(found[5]) <= 2
    assert is_png(tmp_path / "bundle_adjustment.png")


def test_autograd_tour(tmp_path: Path) -> None:
    printed = run("autograd_tour", tmp_path)
    assert "dc/da = 3.0  dc/db = None" in printed
    assert "dd/dc = 12.0  a.grad = None" in printed
    assert "after 2 backward calls: x.grad = [ 4.  8. 12.]" in printed
    pictures = {path.stem for path in tmp_path.iterdir()}
    assert pictures == {"product_of_scalars", "chain_of_vectors", "leaf_in_the_middle", "accumulation"}
