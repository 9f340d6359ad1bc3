"""`gemm`: products of square matrices, both precisions, all four transpositions, and one with bias and tanh."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Program, Workload


def product(kind: str, tanh: Callable[[Any], Any], x: Any, y: Any, b: Any) -> Any:
    """``kind``: which operand is transposed, each "n" or "t", and then perhaps "+": bias and tanh."""
    out = (x.T if kind[0] == "t" else x) @ (y.T if kind[1] == "t" else y)
    return tanh(out + b) if kind.endswith("+") else out


def by_torch(kind: str, x: Array, y: Array, b: Array) -> Program:
    torch = peers.torch()
    given = [torch.from_numpy(a) for a in (x, y, b)]
    return lambda: product(kind, torch.tanh, *given)


def by_numpy(kind: str, x: Array, y: Array, b: Array) -> Program:
    out = np.empty_like(x)
    x, y = x.T if kind[0] == "t" else x, y.T if kind[1] == "t" else y
    if not kind.endswith("+"):
        return lambda: np.matmul(x, y, out=out)

    def run() -> Array:
        np.matmul(x, y, out=out)
        np.add(out, b, out=out)
        return np.tanh(out, out=out)

    return run


def workload(n: int, dtype: str, kind: str = "nn", *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        return tuple(rng.normal(size=s).astype(dtype) / n**0.25 for s in ((n, n), (n, n), (n,)))

    def by_staticad(x: Array, y: Array, b: Array) -> tuple[Sequence[Any], Any]:
        import staticad as ad

        inputs = [ad.input(name, a.shape, dtype=dtype) for name, a in zip("xyb", (x, y, b), strict=True)]
        kept = inputs if kind.endswith("+") else inputs[:2]
        return kept, product(kind, ad.tanh, *inputs)

    def by_jax(jax: Any) -> Any:
        return partial(product, kind, jax.numpy.tanh)

    def by_torch_compile(torch: Any) -> Any:
        return partial(product, kind, torch.tanh)

    def by_pytensor(x: Any, y: Any, b: Any) -> Any:
        return [product(kind, peers.namespace("pytensor").tanh, x, y, b)]

    return Workload(
        name="gemm",
        size=f"{n} {kind} {dtype}",
        dtype=dtype,
        data=data,
        peers={
            **peers.staticad(by_staticad),
            "jax": peers.jax_function(by_jax),
            "torch": partial(by_torch, kind),
            # Compiled for their own sake only where there is something to fuse: their products are NumPy's and torch's.
            **({"torch.compile": peers.torch_compiled(by_torch_compile)} if kind == "nn+" else {}),
            **({"pytensor": peers.pytensor_function(by_pytensor)} if kind == "nn+" or n == 16 else {}),
            "numpy": partial(by_numpy, kind),
        },
        quick=quick,
    )


SIZES = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
DTYPES = ("float32", "float64")
QUICK = {(8, "nn"), (64, "nn"), (64, "tn"), (512, "nn")}
WORKLOADS = [
    *(
        workload(n, dtype, kind, quick=(n, kind) in QUICK)
        for dtype in DTYPES
        for kind in ("nn", "nt", "tn", "tt")
        for n in SIZES
    ),
    *(workload(n, dtype, "nn+", quick=n == 128) for dtype in DTYPES for n in (16, 128, 512)),
]


def test_speed(entry: Any) -> None:
    entry()
