"""Nests of tuples, lists and dicts: taken apart to their leaves and put together again; knows nothing of what the leaves are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any


def leaves(nest: Any) -> Iterator[Any]:
    """The leaves of a nest, depth first, dicts in their own order.

    >>> list(leaves({"a": 1, "b": [2, (3,)]}))
    [1, 2, 3]
    """
    if isinstance(nest, Mapping):
        for value in nest.values():  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(value)
    elif isinstance(nest, (tuple, list)):
        for value in nest:  # pyright: ignore[reportUnknownVariableType]
            yield from leaves(value)
    else:
        yield nest


def rebuild(nest: Any, values: Iterator[Any]) -> Any:
    """A nest of the same form with the leaves taken from ``values``.

    >>> rebuild({"a": 1, "b": [2, (3,)]}, iter("xyz"))
    {'a': 'x', 'b': ['y', ('z',)]}
    """
    if isinstance(nest, Mapping):
        return {key: rebuild(value, values) for key, value in nest.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(nest, tuple):
        built = [rebuild(value, values) for value in nest]  # pyright: ignore[reportUnknownVariableType]
        return type(nest)(*built) if hasattr(nest, "_fields") else tuple(built)  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    if isinstance(nest, list):
        return [rebuild(value, values) for value in nest]  # pyright: ignore[reportUnknownVariableType]
    return next(values)


def map_leaves(function: Callable[[Any], Any], nest: Any) -> Any:
    return rebuild(nest, map(function, leaves(nest)))
