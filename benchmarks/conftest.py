"""Lets pytest-benchmark run the workloads: ``pytest benchmarks --benchmark-enable``, a group for each size.

Without ``--benchmark-enable`` every program runs once and is checked. ``-m "not slow"``, the default, takes few sizes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from benchmarks import peers
from benchmarks.workload import INDEPENDENT, Array, Workload, check, computed

HERE = Path(__file__).parent


@cache
def reference(workload: Workload) -> tuple[str, list[Array]]:
    """The first independent peer that runs here, and its results."""
    for peer in INDEPENDENT:
        if peer in workload.peers and peers.absent(peer) is None:
            return peer, computed(workload, workload.peers[peer](*workload.data()))[1]
    pytest.skip("no independent peer is installed to check against")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "entry" not in metafunc.fixturenames:
        return
    entries = [
        pytest.param((w, peer), id=f"{w.size}-{peer}".replace(" ", "_"), marks=() if w.quick else pytest.mark.slow)
        for w in metafunc.module.WORKLOADS
        for peer in w.peers
    ]
    metafunc.parametrize("entry", entries, indirect=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))  # the peers' own


@pytest.fixture
def entry(request: pytest.FixtureRequest, benchmark: Any) -> Callable[[], None]:
    """Checks one peer's program of one workload, then times it."""
    workload, peer = request.param
    reason = peers.absent(peer)
    if reason is not None:
        pytest.skip(reason)
    benchmark.group = str(workload)

    def run() -> None:
        program = workload.peers[peer](*workload.data())
        who, expected = reference(workload)
        if peer != who:
            check(workload, peer, computed(workload, program)[1], expected)
        if workload.reports:
            benchmark.pedantic(program, rounds=3)
        else:
            benchmark(program)

    return run
