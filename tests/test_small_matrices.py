"""Factors and systems written out: what the ops mean, also where a matrix has no factors; as text; and where not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from conftest import close, evaluated

from staticad.dtypes import as_dtype
from staticad.ir import ArrayType, Graph, Node, verify
from staticad.ops import determinants, sources
from staticad.ops.linear_algebra import cholesky, lu, lu_solve, solve, solve_triangular
from staticad.ops.matrices import WRITTEN_OUT
from staticad.shapes import Dim, dim
from staticad.simplify import RULES, simplify, written_out
from staticad.small_matrices import small_cholesky, small_lu, small_lu_solve, small_triangular

Build = Callable[..., Node]


def source(name: str, *shape: Dim, dtype: str = "float64") -> Node:
    return sources.input_(name=name, source=object(), type=ArrayType(as_dtype(dtype), shape))


def triangular(lower: bool, trans: bool, unit: bool) -> Build:
    return lambda a, b: solve_triangular(a, b, lower=lower, trans=trans, unit=unit)


# fmt: off
CASES: list[tuple[Any, Build, int]] = [
    (small_cholesky,   cholesky, 1),
    (small_lu,         lu, 1),
    *((small_triangular, triangular(bool(k & 1), bool(k & 2), bool(k & 4)), 2) for k in range(8)),
    *((small_lu_solve, lambda a, b, trans=trans: lu_solve(lu(a), b, trans=trans), 2) for trans in (False, True)),
    (written_out,      lambda a, b: solve(a, b, trans=False), 2),
    (written_out,      determinants.det, 1),
]
# fmt: on
SHOWN = {rule.__name__ for rule, _, _ in CASES}


def matrices(n: int, dtype: str = "float64") -> np.ndarray:
    """Positive definite; in need of exchanges; with a pivot that is 0; singular; not positive; with NaN."""
    rng = np.random.default_rng(n)
    x = rng.integers(-3, 4, (n, n)).astype(float)
    eye = np.eye(n)
    spoiled = eye.copy()
    spoiled[n - 1, 0] = np.nan
    lacking = eye.copy()
    lacking[n // 2, n // 2] = 0
    found = [x @ x.T + eye, np.roll(eye, 1, axis=0) + x / 20, np.zeros((n, n)), lacking, -eye, spoiled]
    return np.stack(found).astype(dtype)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("n", range(1, WRITTEN_OUT + 1))
@pytest.mark.parametrize(("rule", "build", "operands"), CASES)
def test_values(rule: Any, build: Build, operands: int, n: int, dtype: str) -> None:
    a, b = matrices(n, dtype), np.random.default_rng(0).normal(size=(6, n, 2)).astype(dtype)
    inputs = [source("a", *a.shape, dtype=dtype), source("b", *b.shape, dtype=dtype)][:operands]
    out = build(*inputs)
    assert rule in RULES[out.op]
    after = simplify(Graph(tuple(inputs), (out,)))
    verify(after)
    assert not any(node.op in (cholesky, lu, lu_solve, solve, solve_triangular) for node in after.nodes)
    arrays = [a, b][:operands]
    (actual,), (expected,) = evaluated(after, arrays), evaluated(Graph(tuple(inputs), (out,)), arrays)
    for k in range(len(a) - 1):
        close(actual[k], expected[k], where=f"matrix {k}")
    assert np.isnan(actual[-1]).any() == np.isnan(expected[-1]).any()  # which rows it spoils is left open


@pytest.mark.parametrize("n", [WRITTEN_OUT + 1, dim("n"), 0])
@pytest.mark.parametrize(("rule", "build", "operands"), [case for case in CASES if case[0] is not written_out])
def test_others_are_left(rule: Any, build: Build, operands: int, n: Dim) -> None:
    out = build(*[source("a", 2, n, n), source("b", 2, n, 2)][:operands])
    assert rule(out) is None


def test_text() -> None:
    x = source("x", dim("b"), 1, 1)
    assert [line.split(" = ")[-1] for line in str(simplify(Graph((x,), (lu(x),)))).splitlines()[1:]] == [
        "uninitialised(shape=(b, 1, 2), dtype=float64)",
        "update_slice(%1, %0, start=(0, 0, 0), step=(1, 1, 1))",
        "full(value=0.0, shape=(b, 1, 1), dtype=float64)",
        "update_slice(%2, %3, start=(0, 0, 1), step=(1, 1, 1))",
        "  return %4",
    ]


def test_elements_go_on_without_memory() -> None:
    """What is made of a factor that nobody else reads takes its elements as they are."""
    a, b = source("a", dim("b"), 2, 2), source("b", dim("b"), 2, 1)
    after = simplify(Graph((a, b), (solve(a, b, trans=False),)))
    assert sum(node.op.name == "uninitialised" for node in after.nodes) == 1
