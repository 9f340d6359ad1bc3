"""`startup`: the first result in a new process, after the library's import, with an empty cache and with a warm one.

Every peer's cache, where it has one, is put in a directory made for the measurement; a warm one is what a cold start
has left. Eager peers compile nothing and are left out.
"""

from __future__ import annotations

import compileall
import json
import os
import subprocess
import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, test_mlp, test_tiny
from benchmarks.workload import Array, Program, Workload

ROOT = Path(__file__).parent.parent
PEERS = ("staticad", "jax", "torch.compile", "pytensor")
left: dict[tuple[str, str, str], tempfile.TemporaryDirectory[str]] = {}  # by peer, name and size: a cold start's cache


@cache
def bytecode() -> None:
    """Compile the modules of staticad as those of the peers were when they were installed."""
    compileall.compile_dir(ROOT / "staticad", quiet=2)


def once(peer: str, of: Workload, directory: str) -> tuple[float, Array]:
    """The seconds that a new process took to the first result, and the sums of its results."""
    bytecode()
    command = [sys.executable, "-m", "benchmarks.first_result", peer, of.name, of.size]
    environment = os.environ | machine.caches(directory)
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], np.asarray(found["sums"])


def cold(peer: str, of: Workload) -> Program:
    def run() -> tuple[float, Array]:
        directory = left[peer, of.name, of.size] = tempfile.TemporaryDirectory()
        return once(peer, of, directory.name)

    return run


def warm(peer: str, of: Workload) -> Program:
    if (peer, of.name, of.size) not in left:
        cold(peer, of)()
    return partial(once, peer, of, left[peer, of.name, of.size].name)


def workload(of: Workload, kind: str, *, quick: bool = False) -> Workload:
    make = {"cold": cold, "warm": warm}[kind]
    return Workload(
        name="startup",
        size=f"{of.name} {of.size} {kind}",
        dtype=of.dtype,
        data=tuple,
        peers={peer: partial(make, peer, of) for peer in PEERS},
        quick=quick,
        reports=True,
    )


TINY, MLP = test_tiny.WORKLOADS[0], test_mlp.WORKLOADS[1]
WORKLOADS = [workload(of, kind, quick=of is TINY) for of in (TINY, MLP) for kind in ("cold", "warm")]


def test_speed(entry: Any) -> None:
    entry()
