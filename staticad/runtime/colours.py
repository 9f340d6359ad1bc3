"""Greedy colourings of sparse patterns as plain loops, compiled where they are long; knows index arrays, no graphs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, TypeAlias

import numpy as np

Array: TypeAlias = np.ndarray[Any, Any]
#: Loops of fewer steps than this are done before they would be compiled.
SHORT = 1_000_000


def apart(indptr: Any, indices: Any, across: Any, members: Any, order: Any, colours: Any, seen: Any) -> int:
    """Colour each item of ``order`` unlike all that share a group with it; the number of colours.

    Groups of item j are ``indices[indptr[j]:indptr[j + 1]]``, items of group i ``members[across[i]:across[i + 1]]``.
    ``colours`` starts as -1, ``seen`` (a number for each colour there may be) too.
    """
    count = 0
    for j in order:
        for p in range(indptr[j], indptr[j + 1]):
            i = indices[p]
            for q in range(across[i], across[i + 1]):
                colour = colours[members[q]]
                if colour >= 0:
                    seen[colour] = j
        colour = 0
        while seen[colour] == j:
            colour += 1
        colours[j] = colour
        count = max(count, colour + 1)
    return count


def stars(indptr: Any, indices: Any, order: Any, colours: Any, seen: Any, often: Any, times: Any) -> int:
    """Colour the nodes of a symmetric graph so that neighbours differ and no path of four nodes has two colours.

    The neighbours of node v are ``indices[indptr[v]:indptr[v + 1]]``; an edge from a node to itself counts for nothing.
    ``colours``, ``seen`` and ``often`` start as -1; the latter and ``times`` have a number for each colour.
    """
    count = 0
    for v in order:
        for p in range(indptr[v], indptr[v + 1]):
            colour = colours[indices[p]]
            if colour >= 0:
                times[colour] = 1 if often[colour] != v else times[colour] + 1
                often[colour] = v
                seen[colour] = v
        for p in range(indptr[v], indptr[v + 1]):
            w = indices[p]
            middle = colours[w]
            if middle < 0 or w == v:
                continue
            for q in range(indptr[w], indptr[w + 1]):
                x = indices[q]
                colour = colours[x]
                if colour < 0 or x == w or seen[colour] == v:
                    continue
                # v - w - x - y with y like w, or a - v - w - x with a like w: x must not be like v.
                clash = times[middle] > 1
                if not clash:
                    for r in range(indptr[x], indptr[x + 1]):
                        y = indices[r]
                        if y != w and y != x and colours[y] == middle:
                            clash = True
                            break
                if clash:
                    seen[colour] = v
        colour = 0
        while seen[colour] == v:
            colour += 1
        colours[v] = colour
        count = max(count, colour + 1)
    return count


@cache
def _compiled(loop: Callable[..., int]) -> Callable[..., int]:
    from numba import njit

    try:
        return njit(nogil=True, cache=True)(loop)
    except RuntimeError:  # there is no directory for what Numba keeps
        return njit(nogil=True)(loop)


def run(loop: Callable[..., int], steps: int, given: Sequence[Array], colours: Array, *memory: Array) -> int:
    """``loop(*given, colours, *memory)``, compiled if it takes many ``steps``."""
    if steps >= SHORT:
        return int(_compiled(loop)(*given, colours, *memory))
    found = colours.tolist()
    count = loop(*(x.tolist() for x in given), found, *(x.tolist() for x in memory))
    colours[:] = found
    return count
