"""Colourings of sparse patterns, for derivatives of many columns at a time; knows SciPy's arrays, no graphs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from staticad.runtime import colours as loops

Array: TypeAlias = np.ndarray[Any, Any]
Sparse: TypeAlias = Any
#: Beyond as many steps (a second or so), every column has a colour of its own.
MOST_STEPS = 400_000_000


@dataclass(frozen=True, eq=False)
class Colouring:
    """``colours[j]`` is the group of column (or row) j, of ``count``."""

    colours: Array
    count: int


def by_columns(pattern: Sparse) -> Colouring:
    """Groups of columns of a CSR array of which no two have an element in the same row.

    Greedy in the order of the columns, which is the least for bands, or else from the fullest column if that is better.
    """
    rows, columns = pattern, pattern.tocsc()
    per_row: Array = np.diff(rows.indptr)
    per_column: Array = np.diff(columns.indptr)
    bound = int(per_row.max(initial=0))
    steps = int((per_row.astype("int64") ** 2).sum())
    if steps > MOST_STEPS:
        return _each_alone(pattern.shape[1])

    def greedy(order: Array) -> Colouring:
        found, seen = np.full(len(order), -1, "int64"), np.full(len(order) + 1, -1, "int64")
        given = columns.indptr, columns.indices, rows.indptr, rows.indices, order
        return Colouring(found, loops.run(loops.apart, steps, given, found, seen))

    first = greedy(np.arange(len(per_column)))
    if first.count <= bound:
        return first
    second = greedy(np.argsort(-per_column, kind="stable"))
    return min(first, second, key=lambda found: found.count)


def symmetric(pattern: Sparse) -> Colouring:
    """A star colouring of a symmetric CSR array: every element stands alone in its group in its row or its column.

    Greedy from the emptiest column, so that the few full ones (an arrow's, a camera's) come last, or in the order of
    the columns if that is better.
    """
    per_column: Array = np.diff(pattern.indptr).astype("int64")
    size = len(per_column)

    def greedy(order: Array) -> Colouring | None:
        rank = np.empty(size, "int64")
        rank[order] = np.arange(size)
        earlier = rank[pattern.indices] < np.repeat(rank, per_column)
        steps = int(per_column[pattern.indices][earlier].sum())
        if steps > MOST_STEPS:
            return None
        found, seen = np.full(size, -1, "int64"), np.full(size + 1, -1, "int64")
        memory = seen, seen.copy(), np.zeros(size + 1, "int64")
        return Colouring(found, loops.run(loops.stars, steps, (pattern.indptr, pattern.indices, order), found, *memory))

    best: Colouring | None = None
    for order in (np.argsort(per_column, kind="stable"), np.arange(size)):
        found = greedy(order)
        if found is not None and (best is None or found.count < best.count):
            best = found
        if best is not None and best.count <= 3:  # as few as a path takes
            break
    return best or _each_alone(size)


def _each_alone(size: int) -> Colouring:
    return Colouring(np.arange(size), size)


def places(pattern: Sparse, colouring: Colouring) -> tuple[Array, Array]:
    """For each element of a symmetric CSR array, in its order: the group to read it from, and the column there.

    Both elements of a pair are read from one place.
    """
    rows, columns = coordinates(pattern)
    low, high = np.minimum(rows, columns), np.maximum(rows, columns)
    groups = colouring.colours[columns]
    alone = _times(rows * colouring.count + groups) == 1
    # For (low, high) and (high, low) it is told by the first: pairs stand in one order above, by rows, and below the
    # diagonal, by columns.
    upper = np.flatnonzero(rows <= columns)
    lower = np.lexsort((rows, columns))
    lower = lower[rows[lower] >= columns[lower]]
    alone[lower] = alone[upper]
    return np.where(alone, colouring.colours[high], colouring.colours[low]), np.where(alone, low, high)


def _times(numbers: Array) -> Array:
    """How often each of ``numbers`` is among them."""
    if len(numbers) and int(numbers.max()) < 8 * len(numbers):
        return np.bincount(numbers)[numbers]
    _, inverse, times = np.unique(numbers, return_inverse=True, return_counts=True)
    return times[inverse]


def coordinates(pattern: Sparse) -> tuple[Array, Array]:
    """The row and the column of each element of a CSR array, in its order."""
    counts: Array = np.diff(pattern.indptr)
    rows: Array = np.repeat(np.arange(len(counts)), counts)
    return rows, pattern.indices.astype("int64")
