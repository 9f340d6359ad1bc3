"""The report is what the measurements say: ratios, means, the README's figures. Programs that disagree are refused."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import apart, report, results, test_gemm, timing, workload

ROOF = {"bandwidths": [[1000, 100.0], [10**6, 10.0]], "fma_float64": 1000.0, "fma_float32": 2000.0}
MACHINE = {"cpu": "C", "cores": 2, "system": "S", "python": "3", "versions": {"numba": "1", "numpy": "2"}, "load": 0.0}


def row(name: str, peer: str, seconds: float | None, **more: Any) -> dict[str, Any]:
    return {"workload": name, "size": "1", "dtype": "float64", "peer": peer, "seconds": seconds, **more}


def run(rows: list[dict[str, Any]], threads: int = 1, malloc: str = "stock") -> dict[str, Any]:
    head = {"threads": threads, "malloc": malloc, "quick": False, "cores_used": [0], "time": "2026-01-02 03:04:05"}
    return {**head, "machine": MACHINE, "roofline": ROOF, "products": None, "seconds": 60.0, "rows": rows}


def test_the_readme_has_the_figures_of_the_kept_measurements() -> None:
    readme = report.README.read_text()
    assert report.with_figures(readme, results.load(results.COMPLETE)) == readme, "run python -m benchmarks.report"


def test_the_readme_shows_rows_that_exist() -> None:
    assert set(report.SHOWN) <= {(w.name, w.size) for w in workload.all_workloads()}


def test_ratios_are_of_the_fastest_forms_and_never_to_ours_or_hand() -> None:
    rows = [
        row("a", "staticad", 4.0), row("a", "staticad out=", 2.0), row("a", "jax", 7.0), row("a", "jax (vmap)", 6.0),
        row("a", "torch", None, note="why"), row("a", "hand", 1.0),
    ]  # fmt: skip
    assert results.ahead(rows) == 3.0
    assert results.of_hand(rows) == 2.0
    assert results.ahead([r for r in rows if r["peer"] in ("staticad", "hand")]) is None


def test_the_mean_over_workloads_counts_each_once_and_leaves_startup_out() -> None:
    rows = [
        row("a", "staticad", 1.0), row("a", "jax", 8.0),
        {**row("b", "staticad", 1.0), "size": "x"}, {**row("b", "jax", 1.0), "size": "x"},
        {**row("b", "staticad", 1.0), "size": "y"}, {**row("b", "jax", 4.0), "size": "y"},
        row("startup", "staticad", 1.0), row("startup", "jax", 1000.0),
    ]  # fmt: skip
    mean, count, by_workload, workloads = report.means(results.grouped(rows))
    assert (count, workloads) == (3, 2)
    assert math.isclose(mean, 32 ** (1 / 3))
    assert math.isclose(by_workload, 4.0)  # of 8, and of 2 = sqrt(1 * 4)


def test_tuned_malloc_is_a_form_of_the_peers_in_the_run_with_as_many_threads(tmp_path: Path) -> None:
    results.save(tmp_path, run([row("a", "staticad", 1.0), row("a", "jax", 9.0)], threads=2))
    results.save(tmp_path, run([row("a", "staticad", 1.0), row("a", "jax", 8.0)]))
    results.save(tmp_path, run([row("a", "jax", 3.0), row("not measured otherwise", "jax", 1.0)], malloc="tuned"))
    one, two = results.load(tmp_path)
    assert (one["threads"], two["threads"]) == (1, 2)
    assert results.ahead(one["rows"]) == 3.0 and results.ahead(two["rows"]) == 9.0
    assert {r["workload"] for r in one["rows"]} == {"a"}
    assert json.loads((tmp_path / "full-1-stock.json").read_text())["rows"][1]["seconds"] == 8.0


def test_the_limit_is_the_slower_of_memory_and_arithmetic() -> None:
    def limit(size: int, flops: int) -> Any:
        return results.of_limit(row("a", "staticad", 10.0, costs={"bytes": size, "flops": flops}), ROOF)

    assert limit(500, 1000) == (0.5, "memory")  # 5 s at the rate of small arrays, 1 s of arithmetic
    assert limit(50, 8000) == (0.8, "FMA")
    assert limit(2000, 0) == (20.0, "memory")
    assert results.of_limit(row("a", "jax", 1.0), ROOF) is None


def test_a_table_is_made_of_every_run(tmp_path: Path) -> None:
    costs = {"kernels": 1, "temporaries": 0, "bytes": 100, "flops": 100}
    rows = [row("tiny", "staticad", 1e-6, first_call=0.5, costs=costs), row("tiny", "jax", 5e-6, first_call=0.25)]
    rows = [{**r, "size": "10"} for r in rows] + [row("tiny", "mygrad", None, note="mygrad is not installed")]
    results.save(tmp_path, run(rows))
    report.write(tmp_path)
    table = (tmp_path / "table.md").read_text()
    assert "| `tiny` 10 | 1 us | *5 us* | **5.00** | – |" in table
    assert "| `tiny` 10 | 0.50 | 0.25 | 2.0 |" in table
    assert "- mygrad: mygrad is not installed (`tiny` 1)" in table
    figures = report.figures(results.load(tmp_path))
    assert "**5.0** over the means of 1 workloads" in figures and "| `tiny` 10 | 1 us | jax 5 us | 5.00 |" in figures


@pytest.mark.parametrize(
    "other", [np.array([1.0, 2.0001]), np.array([1.0, np.nan]), np.array([1.0]), np.array([[1.0, 2.0]])]
)
def test_programs_that_disagree_are_not_timed(other: Any) -> None:
    truth = np.array([1.0, 2.0])
    same = workload.Workload(
        "a", "1", "float64", lambda: (truth,), {"numpy": lambda x: lambda: x, "hand": lambda x: lambda: other}
    )
    reference, wrong = timing.measure(same, timing.Pace(1, 1e-5, 1e-4, 5.0))
    assert reference.seconds is not None and reference.note is None
    assert wrong.seconds is None and "differs" in str(wrong.note)


def test_a_peer_that_takes_too_long_to_build_is_left_out() -> None:
    def forever(x: Any) -> Any:
        while True:
            time.sleep(0.001)

    slow = workload.Workload("a", "1", "float64", lambda: (np.ones(1),), {"numpy": forever})
    (found,) = timing.measure(slow, timing.Pace(1, 1e-5, 1e-4, 0.05))
    assert found.seconds is None and "not compiled within" in str(found.note)


PACE = timing.Pace(3, 1e-4, 1e-3, 30.0)


def test_peers_in_processes_of_their_own_agree_and_are_timed() -> None:
    small = next(w for w in test_gemm.WORKLOADS if w.size == "8 nn float32")
    with apart.processes(["numpy", "staticad"], PACE) as start:
        started = start(small, ["numpy", "staticad"], 30.0)
        ours, reference = timing.measure(small, PACE, lambda peer: peer in ("numpy", "staticad"), start)
        pids = {process.pid for process in multiprocessing.active_children()}
    assert len(pids) == 2 and os.getpid() not in pids
    assert ours.peer == "staticad" and ours.reference == "numpy" and ours.difference is not None
    assert ours.seconds and ours.costs and reference.seconds and ours.batches >= 3
    x, y, _ = small.data()
    for peer in ("numpy", "staticad"):
        found = started[peer]
        assert isinstance(found, timing.First)
        assert np.allclose(found.found[0], x @ y, rtol=1e-5, atol=1e-5)
    assert not set(multiprocessing.active_children())


def test_a_process_with_other_inputs_is_not_timed_and_one_that_ended_is_replaced() -> None:
    small = next(w for w in test_gemm.WORKLOADS if w.size == "8 nn float32")
    with apart.processes(["numpy"], PACE) as start:
        (other,) = timing.measure(replace(small, data=lambda: (np.ones(1),)), PACE, "numpy".__eq__, start)
        assert other.seconds is None and other.note == "another process makes other inputs"
        for process in multiprocessing.active_children():
            process.kill()
            process.join()
        (ended,) = timing.measure(small, PACE, "numpy".__eq__, start)
        assert ended.seconds is None and ended.note == "the process ended"
        (again,) = timing.measure(small, PACE, "numpy".__eq__, start)
        assert again.seconds


def test_the_table_says_that_peers_had_processes_of_their_own(tmp_path: Path) -> None:
    rows = [row("tiny", "staticad", 1e-6), row("tiny", "jax", 5e-6)]
    results.save(tmp_path, run(rows))
    results.save(tmp_path, run(rows, threads=2) | {"apart": True})
    runs = results.load(tmp_path)
    said = "each peer in a process of its own"
    assert [said in "\n".join(report.section(r)) for r in runs] == [False, True]
    assert [said in text for text in report.figures(runs).splitlines() if " thread" in text and "**" in text] == [
        False,
        True,
    ]
