"""`startup`: the first result in a new process, after the library's import, with an empty cache and with a warm one.

Every peer's cache, where it has one, is put in a directory made for the measurement.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import test_mlp, test_tiny
from benchmarks.workload import Array, Program, Workload

ROOT = Path(__file__).parent.parent


def environment(cache: str) -> dict[str, str]:
    """Every peer's cache, in this directory."""
    return {
        **os.environ,
        "STATICAD_CACHE_DIR": f"{cache}/staticad",
        "NUMBA_CACHE_DIR": f"{cache}/numba",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "JAX_COMPILATION_CACHE_DIR": f"{cache}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTENSOR_FLAGS": f"base_compiledir={cache}/pytensor",
    }


def once(peer: str, of: Workload, cache: str) -> tuple[float, Array]:
    """The seconds that a new process took to the first result, and the sums of its results."""
    command = [sys.executable, "-m", "benchmarks.first_result", peer, of.name, of.size]
    done = subprocess.run(command, env=environment(cache), cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found = json.loads(done.stdout.splitlines()[-1])
    return found["seconds"], np.asarray(found["sums"])


def cold(peer: str, of: Workload) -> Program:
    def run() -> tuple[float, Array]:
        with tempfile.TemporaryDirectory() as cache:
            return once(peer, of, cache)

    return run


def warm(peer: str, of: Workload) -> Program:
    cache = tempfile.TemporaryDirectory()
    once(peer, of, cache.name)

    def run() -> tuple[float, Array]:
        return once(peer, of, cache.name)

    return run


def workload(of: Workload, kind: str) -> Workload:
    make = {"cold": cold, "warm": warm}[kind]
    chosen = [peer for peer in of.peers if peer not in ("staticad out=", "hand")]
    return Workload(
        name="startup",
        size=f"{of.name} {of.size} {kind}",
        dtype=of.dtype,
        data=tuple,
        peers={peer: partial(make, peer, of) for peer in chosen},
        reports=True,
    )


WORKLOADS = [workload(of, kind) for of in (test_tiny.WORKLOADS[0], test_mlp.WORKLOADS[1]) for kind in ("cold", "warm")]


def test_speed(entry: Any) -> None:
    entry()
