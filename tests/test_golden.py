"""The generated source of representative programs, as golden files: reviewed as diffs; each runs as plain Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from programs import PROGRAMS, build

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", PROGRAMS)
def test_source_is_as_reviewed(name: str, golden: Callable[[str, str], None]) -> None:
    _, f = build(name)
    golden(f"{name}.py", f.source)


def test_every_golden_file_is_of_a_program() -> None:
    assert {path.stem for path in (HERE / "golden").glob("*.py")} == set(PROGRAMS)


def test_runs_as_plain_python_with_the_same_text_in_another_process() -> None:
    """Another hash seed, no JIT: the same text, and the values that NumPy gives."""
    code = "import json, programs; print(json.dumps({name: programs.run(name) for name in programs.PROGRAMS}))"
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONHASHSEED": "12345", "PYTHONPATH": path}
    found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert json.loads(found.stdout) == {name: (HERE / "golden" / f"{name}.py").read_text() for name in PROGRAMS}
