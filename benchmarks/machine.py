"""What machine this is and how fast it can be: cores, versions, memory bandwidth, FMA rate; knows no workload."""

from __future__ import annotations

import math
import os
import platform
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import peers

# Read by the libraries when they start.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
TUNED_MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=4294967296"


def environment(threads: int, *, tuned: bool) -> dict[str, str]:
    """The environment of a process that measures with this many threads."""
    found = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    found.pop("GLIBC_TUNABLES", None)
    if tuned:
        found["GLIBC_TUNABLES"] = TUNED_MALLOC
    return found


def pin(threads: int) -> list[int] | None:
    """Keep this process, and what it starts, on as many cores as it has threads. Returns them; None if it cannot be."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0), reverse=True)[:threads]  # the first core serves most interrupts
    os.sched_setaffinity(0, cores)
    return sorted(cores)


def limit_threads(threads: int) -> None:
    """For the libraries that count cores by themselves."""
    if peers.absent("torch") is None:
        peers.torch().set_num_threads(threads)


def cpu_name() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def describe() -> dict[str, Any]:
    names = ("numba", "llvmlite", "numpy", "scipy", "jax", "torch", "pytensor", "autograd", "mygrad")
    import staticad

    found = {"staticad": staticad.__version__, **{name: peers.version(name) for name in names}}
    return {
        "cpu": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": found,
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
    }


def best(run: Any, repeats: int) -> float:
    run()
    found = math.inf
    for _ in range(repeats):
        start = perf_counter()
        run()
        found = min(found, perf_counter() - start)
    return found


def bandwidth(size: int = 1 << 24, repeats: int = 7) -> float:
    """Bytes a second of one thread's ``a = b + 3 c`` over arrays far larger than the caches, each counted once."""
    import numpy as np

    from benchmarks.hand import njit

    @njit
    def triad(a: Any, b: Any, c: Any) -> None:
        for i in range(a.shape[0]):
            a[i] = b[i] + 3.0 * c[i]

    a, b, c = np.zeros(size), np.ones(size), np.ones(size)
    return 3 * a.nbytes / best(lambda: triad(a, b, c), repeats)


def fma_rate(dtype: str, count: int = 1 << 22, repeats: int = 7) -> float:
    """Flops a second of one thread's fused multiply-adds on registers: independent chains of the widest vectors."""
    from benchmarks.fma import chains

    run, flops = chains(dtype, count)
    return flops / best(run, repeats)


def roofline() -> dict[str, float]:
    return {
        "bandwidth": bandwidth(),
        "fma_float32": fma_rate("float32"),
        "fma_float64": fma_rate("float64"),
    }
