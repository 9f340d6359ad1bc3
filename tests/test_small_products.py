"""Products written out elementwise: which are, as text, and that they are NumPy's einsum, with their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from conftest import close, compiled

from staticad.autodiff import vjp_nodes
from staticad.dtypes import as_dtype
from staticad.interpret import interpret
from staticad.ir import ArrayType, Graph, Node, verify
from staticad.ops import products, sources
from staticad.shapes import Dim, dim, evaluate
from staticad.simplify import simplify

B, N = dim("b"), dim("n")
SIZES = {"b": 5, "n": 7}

# fmt: off
WRITTEN_OUT: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
    ("mk,kn->mn",   (2, 2),    (2, 2)),
    ("mk,kn->mn",   (3, 3),    (3, 3)),
    ("km,nk->nm",   (3, 2),    (4, 3)),
    ("bmk,bkn->bmn", (B, 3, 3), (B, 3, 3)),
    ("bmk,bk->bm",  (B, 4, 4), (B, 4)),
    ("bkm,bk->mb",  (B, 4, 4), (B, 4)),
    ("bk,bk->b",    (B, 3),    (B, 3)),
    ("bk,bk->b",    (B, 40),   (B, 40)),
    ("bcjk,bcjk->bc", (B, 2, 3, 5), (B, 2, 3, 5)),
    ("mk,kn->mn",   (N, 3),    (3, 3)),
    ("mk,kn->mn",   (3, 3),    (3, N)),
    ("mk,kn->nm",   (100, 2),  (2, 4)),
    ("mk,k->m",     (N, 4),    (4,)),
    ("k,k->",       (3,),      (3,)),
    ("jk,jk->",     (2, 2),    (2, 2)),
    ("m,n->mn",     (N,),      (B,)),
    ("mk,kn->mn",   (N, 1),    (1, B)),
    ("bm,bn->bmn",  (B, N),    (B, 2)),
    ("m,->m",       (N,),      ()),
]
LEFT: list[tuple[str, tuple[Any, ...], tuple[Any, ...]]] = [
    ("mk,kn->mn",   (4, 4),    (4, 4)),
    ("bmk,bkn->bmn", (B, 4, 4), (B, 4, 4)),
    ("mk,kn->mn",   (N, 8),    (8, 1)),
    ("mk,kn->mn",   (N, 3),    (3, B)),
    ("mk,kn->mn",   (N, B),    (B, 3)),
    ("k,k->",       (N,),      (N,)),
    ("k,k->",       (40,),     (40,)),
    ("bk,bk->b",    (B, 65),   (B, 65)),
    ("mk,kn->mn",   (2, 0),    (0, 2)),
]
# fmt: on


def source(name: str, shape: tuple[Dim, ...], dtype: str) -> Node:
    node = sources.input_(name=name, source=object(), type=ArrayType(as_dtype(dtype), shape))
    node.requires_grad = node.dtype.kind == "f"
    return node


def graph(spec: str, left: tuple[Dim, ...], right: tuple[Dim, ...], dtype: str = "float64") -> Graph:
    x, y = source("x", left, dtype), source("y", right, dtype)
    return Graph((x, y), (products.contract(x, y, spec=spec),))


def arrays(g: Graph) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    return [
        rng.integers(-4, 5, [evaluate(d, SIZES) for d in x.shape]).astype(x.dtype) * x.dtype.type(1) for x in g.inputs
    ]


def ops(g: Graph) -> set[str]:
    return {node.op.name for node in g.nodes}


@pytest.mark.parametrize("dtype", ["float64", "int32"])
@pytest.mark.parametrize(("spec", "left", "right"), WRITTEN_OUT)
def test_small_products_are_written_out(spec: str, left: Any, right: Any, dtype: str) -> None:
    before = graph(spec, left, right, dtype)
    after = simplify(before)
    verify(after)
    assert "contract" not in ops(after)
    assert ("sum" in ops(after)) == (40 in left or 5 in left)
    assert str(simplify(after)) == str(after)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32"])
@pytest.mark.parametrize(("spec", "left", "right"), WRITTEN_OUT)
def test_values(spec: str, left: Any, right: Any, dtype: str) -> None:
    before = graph(spec, left, right, dtype)
    given = arrays(before)
    after = simplify(before)
    (value,) = interpret(after.outputs, dict(zip(after.inputs, given, strict=True)), SIZES)
    close(value, np.einsum(spec, *given), where=spec)


@pytest.mark.parametrize("case", [1, 4, 7, 10, 13])
def test_compiled_with_gradients(case: int) -> None:
    spec, left, right = WRITTEN_OUT[case]
    before = graph(spec, left, right)
    (out,) = before.outputs
    g = source("g", out.shape, "float64")
    whole = Graph((*before.inputs, g), (out, *vjp_nodes([out], before.inputs, [g])))
    x, y, seed = arrays(whole)
    operands, result = spec.split("->")
    xs, ys = operands.split(",")
    value, by_x, by_y = compiled(whole, [x, y, seed])
    close(value, np.einsum(spec, x, y))
    close(by_x, np.einsum(f"{result},{ys}->{xs}", seed, y))
    close(by_y, np.einsum(f"{xs},{result}->{ys}", x, seed))


def test_text() -> None:
    g = simplify(graph("bk,bk->b", (B, 2), (B, 2)))
    assert [line.split(" = ")[-1] for line in str(g).splitlines()[1:]] == [
        "slice(%0, start=(0, 0), size=(b, 1), step=(1, 1))",
        "reshape(%2, shape=(b,))",
        "slice(%1, start=(0, 0), size=(b, 1), step=(1, 1))",
        "reshape(%4, shape=(b,))",
        "multiply(%3, %5)",
        "slice(%0, start=(0, 1), size=(b, 1), step=(1, 1))",
        "reshape(%7, shape=(b,))",
        "slice(%1, start=(0, 1), size=(b, 1), step=(1, 1))",
        "reshape(%9, shape=(b,))",
        "multiply(%8, %10)",
        "add(%6, %11)",
        "  return %12",
    ]


def test_infinities_and_nan_go_where_they_go() -> None:
    g = graph("bmk,bkn->bmn", (B, 2, 2), (B, 2, 2))
    x, y = arrays(g)
    x[0, 0, 0], x[1, 1, 0], y[2, 0, 1] = np.inf, np.nan, -np.inf
    with np.errstate(invalid="ignore"):
        expected = np.einsum("bmk,bkn->bmn", x, y)
    np.testing.assert_array_equal(compiled(g, [x, y])[0], expected)


def test_it_fuses() -> None:
    """Points turned and moved, and their lengths: one loop, no array in between."""
    from staticad.function import compile as native
    from staticad.functions.elementwise import sqrt, square
    from staticad.functions.reductions import sum as total
    from staticad.tensor import Tensor

    p, r = source("p", (N, 3), "float64"), source("r", (3, 3), "float64")
    turned = Tensor(products.contract(p, r, spec="nk,km->nm")) + 1
    f = native([Tensor(p), Tensor(r)], sqrt(total(square(turned), axis=1)))
    assert (f.stats.kernels, f.stats.temporaries) == (1, 0)
    points, matrix = np.random.default_rng(0).normal(size=(7, 3)), np.random.default_rng(1).normal(size=(3, 3))
    np.testing.assert_allclose(f(points, matrix), np.linalg.norm(points @ matrix + 1, axis=1), rtol=1e-14)
