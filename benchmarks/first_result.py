"""Run as ``python -m benchmarks.first_result PEER WORKLOAD SIZE``: what a new process needs after the peer's import.

Prints the seconds from there to the first result, as JSON with the sums of the results.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter

from benchmarks import peers
from benchmarks.workload import all_workloads, computed


def main(peer: str, name: str, size: str) -> None:
    workload = next(w for w in all_workloads([name]) if w.size == size)
    arrays = workload.data()
    peers.load(peer)
    assert peer != "staticad" or "numba" not in sys.modules, "the first call would not pay for importing Numba"
    start = perf_counter()
    _, found = computed(workload, workload.peers[peer](*arrays))
    seconds = perf_counter() - start
    print(json.dumps({"seconds": seconds, "sums": [float(a.astype("float64").sum()) for a in found]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
