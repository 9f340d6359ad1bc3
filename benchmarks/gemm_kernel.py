"""The product kernel alone, against the core's FMA rate and SciPy's OpenBLAS, both called from compiled code.

Run as ``OPENBLAS_NUM_THREADS=1 taskset -c 0 python -m benchmarks.gemm_kernel [--sizes 4,64,1024] [--shapes]``; a whole
run of ``python -m benchmarks`` has the squares too. Times are those of the thread's own clock, the best of many, so
that other processes on the core disturb little.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib
from collections.abc import Callable
from time import thread_time
from typing import Any

import numpy as np
from numba import njit

from benchmarks.fma import chains
from staticad.runtime.load import load

SIZES = "2,3,4,5,6,7,8,10,12,16,20,24,32,33,48,64,65,96,100,128,200,256,384,512,768,1024"
SHAPES = [
    (1, 64, 64), (1, 1024, 1024), (1024, 1, 1024), (1, 1, 1000), (1, 1, 100000), (512, 512, 1), (32, 32, 1),
    (1000, 10, 784), (10, 784, 1000), (64, 10, 64), (2, 300, 300), (10, 10, 10000), (5, 1000, 5),
    (1000, 1000, 2), (20, 20, 2000), (32, 1024, 1024), (64, 1024, 1024), (128, 2048, 384), (4096, 64, 64),
    (64, 64, 4096),
]  # fmt: skip
LAYOUTS = [(False, False), (False, True), (True, False), (True, True)]
WORK = 5e7  # flops of one timing
CALL = 2e3  # flops in the time of a call


def best(run: Callable[[], Any], times: int = 15) -> float:
    shortest = np.inf
    for _ in range(times):
        start = thread_time()
        run()
        shortest = min(shortest, thread_time() - start)
    return shortest


TEXT = """
from staticad.runtime.generated import entry, m


@entry("i8({0}[::1], {0}[::1], {0}[::1], i8[::1])")
def main(x, y, out, d):
    for i in range(d[7]):
        m.contract(x, y, out, 0, 0, 0, 1, d[0], d[1], d[2], 0, d[3], d[4], 0, d[5], d[6], 0, d[1], 1)
    return 0
"""


def ours(x: Any, y: Any, out: Any, *numbers: int) -> None:
    """``numbers``: m, n, k, the steps in x along m and k and in y along k and n, and how often the product is made."""
    native = load(TEXT.format(x.dtype.str[1:]), "products").call
    assert native(x.reshape(-1), y.reshape(-1), out.reshape(-1), np.array(numbers)) == 0


def blas(letter: str) -> Any:
    """OpenBLAS's ``gemm`` as a function that compiled code calls by address."""
    capsule = importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__[f"{letter}gemm"]
    name_of, pointer_of = ctypes.pythonapi.PyCapsule_GetName, ctypes.pythonapi.PyCapsule_GetPointer
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    gemm = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 13)(pointer_of(capsule, name_of(capsule)))

    @njit
    def run(a, b, c, ta, tb, m, n, k, lda, ldb, one, zero, times):  # type: ignore[no-untyped-def]
        for _ in range(times):
            gemm(
                ta.ctypes, tb.ctypes, m.ctypes, n.ctypes, k.ctypes, one.ctypes, a.ctypes, lda.ctypes, b.ctypes,
                ldb.ctypes, zero.ctypes, c.ctypes, m.ctypes,
            )  # fmt: skip

    return run


def measure(gemm: Any, dtype: str, m: int, n: int, k: int, tx: bool, ty: bool, trials: int = 15) -> tuple[float, float]:
    """Seconds of one product, ours and OpenBLAS's."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(k, m) if tx else (m, k)).astype(dtype)
    y = rng.normal(size=(n, k) if ty else (k, n)).astype(dtype)
    out, other = np.empty((m, n), dtype), np.empty((m, n), dtype)
    times = max(1, int(WORK / (2 * m * n * k + CALL)))
    mine = (x, y, out, m, n, k, *((1, m) if tx else (k, 1)), *((1, k) if ty else (n, 1)))
    # BLAS's matrices are column-major: out' = y' x'.
    integers = [np.array([v], np.int32) for v in (n, m, k, y.shape[1], x.shape[1])]
    numbers = [np.array([v], dtype) for v in (1, 0)]
    flags = [np.array([ord("T" if t else "N")], np.uint8) for t in (ty, tx)]
    theirs = (y, x, other, *flags, *integers, *numbers)
    ours(*mine, 1)
    gemm(*theirs, 1)
    assert np.allclose(out, other, rtol=1e-3, atol=1e-3 * k**0.5)
    return best(lambda: ours(*mine, times), trials) / times, best(lambda: gemm(*theirs, times), trials) / times


def peak(dtype: str) -> float:
    """Flops a second of FMAs alone."""
    run, flops = chains(dtype, 100_000)
    run()
    return flops / best(run)


def table(sizes: str = SIZES, trials: int = 5) -> list[dict[str, Any]]:
    """For each precision, size and layout the GFLOP/s of both, and the share of the peak that is ours."""
    found: list[dict[str, Any]] = []
    for dtype in ("float32", "float64"):
        top, gemm = peak(dtype), blas("s" if dtype == "float32" else "d")
        for n in map(int, sizes.split(",")):
            for tx, ty in LAYOUTS:
                ours, theirs = (2e-9 * n**3 / seconds for seconds in measure(gemm, dtype, n, n, n, tx, ty, trials))
                row = {"dtype": dtype, "n": n, "kind": "nt"[tx] + "nt"[ty]}
                found.append(row | {"staticad": ours, "openblas": theirs, "of_peak": 1e9 * ours / top})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default=SIZES)
    parser.add_argument("--shapes", action="store_true", help="uneven shapes instead of squares")
    args = parser.parse_args()
    shapes = SHAPES if args.shapes else [(int(n),) * 3 for n in args.sizes.split(",")]
    for dtype in ("float32", "float64"):
        top = peak(dtype)
        print(f"\n{dtype}: GFLOP/s (ratio to OpenBLAS); of NN, % of the peak of {top / 1e9:.1f} GFLOP/s, and ns")
        print(f"{'m n k':>16} " + " ".join(f"{'NT'[tx] + 'NT'[ty]:>15}" for tx, ty in LAYOUTS) + "    %     ns")
        gemm = blas("s" if dtype == "float32" else "d")
        for m, n, k in shapes:
            times = [measure(gemm, dtype, m, n, k, tx, ty) for tx, ty in LAYOUTS]
            flops = 2 * m * n * k
            cells = " ".join(f"{flops / a / 1e9:7.1f} ({b / a:5.2f})" for a, b in times)
            first = times[0][0]
            print(f"{f'{m} {n} {k}':>16} {cells} {100 * flops / first / top:5.0f} {first * 1e9:8.0f}", flush=True)


if __name__ == "__main__":
    main()
