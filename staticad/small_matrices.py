"""Factors and systems of matrices too small for a kernel, written out element by element, so that they stay in
registers and fuse with their neighbours; knows ops, no loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, TypeVar

from staticad.ir import Node
from staticad.ops import arithmetic, creation, indexing, logic, views
from staticad.ops.matrices import WRITTEN_OUT
from staticad.shapes import Shape

K = TypeVar("K")
Elements: TypeAlias = Mapping[tuple[int, int], Node]


def small_cholesky(node: Node) -> Node | None:
    """Column by column, each less what the columns before it account for."""
    (x,) = node.args
    n = rows(x)
    if n is None:
        return None
    batch, a = x.shape[:-2], elements(x)
    found: dict[tuple[int, int], Node] = {}
    for j in range(n):
        for i in range(j, n):
            value = less(a[i, j], [(found[i, k], found[j, k]) for k in range(j)])
            if i == j:
                positive = logic.greater(value, creation.fill(value, 0))
                found[i, j] = arithmetic.sqrt(logic.select(positive, value, creation.fill(value, float("nan"))))
            else:
                found[i, j] = value / found[j, j]
    zero = creation.full(value=0.0, shape=batch, dtype=x.dtype)
    return assembled({(i, j): found.get((i, j), zero) for i in range(n) for j in range(n)}, node)


def small_triangular(node: Node) -> Node | None:
    """Substitution, row by row."""
    a, b = node.args
    n = rows(a)
    if n is None:
        return None
    params = node.params
    known = elements(a)
    if params["trans"]:
        known = {(j, i): x for (i, j), x in known.items()}
    lower = params["lower"] != params["trans"]
    return stacked(substituted(known, rows_of(b), lower=lower, unit=params["unit"]), node)


def small_lu(node: Node) -> Node | None:
    """Elimination with partial pivoting: rows are chosen and exchanged element by element."""
    (x,) = node.args
    n = rows(x)
    if n is None:
        return None
    a = dict(elements(x))
    for k in range(n):
        p, best = creation.fill(a[k, k], k), arithmetic.abs_(a[k, k])
        for i in range(k + 1, n):
            size = arithmetic.abs_(a[i, k])
            better = logic.greater(size, best)
            p, best = logic.select(better, creation.fill(p, i), p), logic.select(better, size, best)
        for j in range(n):
            exchange(a, [(i, j) for i in range(n)], k, p)
        a[k, n] = p
        is_zero = logic.equal(a[k, k], creation.fill(best, 0))
        divisor = logic.select(is_zero, creation.fill(best, 1), a[k, k])
        for i in range(k + 1, n):
            a[i, k] = a[i, k] / divisor
            for j in range(k + 1, n):
                a[i, j] = a[i, j] - a[i, k] * a[k, j]
    return assembled(a, node)


def small_lu_solve(node: Node) -> Node | None:
    """Exchanges and two substitutions; the other way round for the transposed matrix."""
    f, b = node.args
    n = rows(f)
    if n is None:
        return None
    a = elements(f)
    x = dict(enumerate(rows_of(b)))
    swaps = [like_row(a[k, n], node) for k in range(n)]
    if node.params["trans"]:
        turned = {(j, i): value for (i, j), value in a.items() if j < n}
        x = dict(enumerate(substituted(turned, list(x.values()), lower=True, unit=False)))
        x = dict(enumerate(substituted(turned, list(x.values()), lower=False, unit=True)))
        for k in reversed(range(n)):
            exchange(x, range(n), k, swaps[k])
        return stacked(list(x.values()), node)
    for k in range(n):
        exchange(x, range(n), k, swaps[k])
    solved = substituted(a, list(x.values()), lower=True, unit=True)
    return stacked(substituted(a, solved, lower=False, unit=False), node)


def rows(x: Node) -> int | None:
    """The rows of matrices, if they are few."""
    n = x.shape[-2]
    return n if isinstance(n, int) and 0 < n <= WRITTEN_OUT else None


def exchange(values: dict[K, Node], places: Sequence[K], k: int, p: Node) -> None:
    """The value at place k and that at place ``p``, which is not before it and known at run time, change places."""
    here = out = values[places[k]]
    for i in range(k + 1, len(places)):
        chosen = logic.equal(p, creation.fill(p, i))
        there = values[places[i]]
        out = logic.select(chosen, there, out)
        values[places[i]] = logic.select(chosen, here, there)
    values[places[k]] = out


def less(x: Node, products: Sequence[tuple[Node, Node]]) -> Node:
    for y, z in products:
        x = x - y * z
    return x


def substituted(a: Elements, b: Sequence[Node], *, lower: bool, unit: bool) -> list[Node]:
    """The rows of the solution of a triangular system."""
    n = len(b)
    x: dict[int, Node] = {}
    for i in range(n) if lower else reversed(range(n)):
        value = less(b[i], [(like_row(a[i, k], b[i], 1), y) for k, y in x.items()])
        x[i] = value if unit else value / like_row(a[i, i], b[i], 1)
    return [x[i] for i in range(n)]


def like_row(x: Node, row: Node, axes: int = 2) -> Node:
    """A number for each matrix, repeated along the columns of ``row`` (or of a matrix, whose last axes are 2)."""
    batch = row.shape[: len(row.shape) - axes]
    return views.broadcast(x, shape=(*batch, row.shape[-1]), axes=tuple(range(len(batch))))


def part(x: Node, start: tuple[int, int], size: Shape, shape: Shape) -> Node:
    batch = x.shape[:-2]
    where = (*(0 for _ in batch), *start)
    return views.reshape(views.slice_(x, start=where, size=(*batch, *size), step=(1,) * len(where)), shape=shape)


def elements(x: Node) -> Elements:
    """Every element of a matrix, over the batch; those of a last column of pivots too."""
    *batch, n, m = x.shape
    assert isinstance(n, int) and isinstance(m, int)
    return {(i, j): part(x, (i, j), (1, 1), tuple(batch)) for i in range(n) for j in range(m)}


def rows_of(x: Node) -> list[Node]:
    *batch, n, m = x.shape
    assert isinstance(n, int)
    return [part(x, (i, 0), (1, m), (*batch, m)) for i in range(n)]


def written(out: Node, x: Node, i: int, j: int, size: Shape) -> Node:
    batch = out.shape[:-2]
    start = (*(0 for _ in batch), i, j)
    return indexing.update_slice(out, views.reshape(x, shape=(*batch, *size)), start=start, step=(1,) * len(start))


def assembled(found: Elements, like: Node) -> Node:
    """A matrix of the type of ``like`` of its elements."""
    out = indexing.uninitialised(shape=like.shape, dtype=like.dtype)
    for (i, j), x in sorted(found.items()):
        out = written(out, x, i, j, (1, 1))
    return out


def stacked(found: Sequence[Node], like: Node) -> Node:
    """A matrix of the type of ``like`` of its rows."""
    out = indexing.uninitialised(shape=like.shape, dtype=like.dtype)
    for i, x in enumerate(found):
        out = written(out, x, i, 0, (1, like.shape[-1]))
    return out
