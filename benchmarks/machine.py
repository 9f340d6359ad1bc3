"""What machine this is and how fast it can be: cores, versions, memory bandwidth, FMA rate; knows no workload."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks import peers

# Read by the libraries when they start. JAX counts the cores that the process may run on.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
TUNED_MALLOC = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=4294967296"


def environment(threads: int, *, tuned: bool) -> dict[str, str]:
    """The environment of a process that measures with this many threads."""
    found = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    found.pop("GLIBC_TUNABLES", None)
    if tuned:
        found["GLIBC_TUNABLES"] = TUNED_MALLOC
    return found


def caches(directory: str) -> dict[str, str]:
    """What puts every library's cache of compiled code in this directory."""
    return {
        "STATICAD_CACHE_DIR": f"{directory}/staticad",
        "NUMBA_CACHE_DIR": f"{directory}/numba",
        "TORCHINDUCTOR_CACHE_DIR": f"{directory}/inductor",
        "JAX_COMPILATION_CACHE_DIR": f"{directory}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
        "PYTENSOR_FLAGS": f"base_compiledir={directory}/pytensor",
    }


def pin(threads: int) -> list[int] | None:
    """Keep this process, and what it starts, on as many cores as it has threads. Returns them; None if it cannot be."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    cores = sorted(os.sched_getaffinity(0), reverse=True)[:threads]  # the first core serves most interrupts
    os.sched_setaffinity(0, cores)
    return sorted(cores)


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


def best(runs: Sequence[Callable[[], Any]], repeats: int) -> float:
    """The shortest time that all of ``runs`` took, each in a thread of its own; the first call does not count."""
    found = math.inf
    with ThreadPoolExecutor(len(runs)) as pool:
        for repeat in range(repeats + 1):
            start = perf_counter()
            for done in [pool.submit(run) for run in runs]:
                done.result()
            if repeat:
                found = min(found, perf_counter() - start)
    return found


FOOTPRINTS = (24_000, 600_000, 6_000_000, 24_000_000, 400_000_000)  # bytes of arrays: L1, L2, L3 and memory of most


def bandwidths(threads: int) -> list[tuple[int, float]]:
    """Bytes a second of ``a = b + 3 c`` on every thread at once, each array counted once, for arrays that together take
    so many bytes."""
    import numpy as np

    from benchmarks.hand import njit

    @njit
    def triad(a: Any, b: Any, c: Any, times: int) -> None:
        for _ in range(times):
            for i in range(a.shape[0]):
                a[i] = b[i] + 3.0 * c[i]

    found: list[tuple[int, float]] = []
    for size in FOOTPRINTS:
        n, times = size // 24 // threads, max(1, 100_000_000 // size)
        arrays = [[np.full(n, value) for value in (0.0, 1.0, 2.0)] for _ in range(threads)]
        runs = [partial(triad, *a, times) for a in arrays]
        found.append((size, size * times / best(runs, 7)))
    return found


def fma_rate(dtype: str, threads: int, count: int = 1 << 20) -> float:
    """Flops a second of fused multiply-adds on registers, on every thread: independent chains of the widest vectors."""
    from benchmarks.fma import chains

    run, flops = chains(dtype, count)
    run()  # compiles
    return threads * flops / best([run] * threads, 7)


def roofline(threads: int) -> dict[str, Any]:
    return {
        "bandwidths": bandwidths(threads),
        "fma_float32": fma_rate("float32", threads),
        "fma_float64": fma_rate("float64", threads),
    }
