"""Nests of tuples, lists and dicts: taken apart and put together again; knows nothing of what the leaves are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from staticad.errors import ShapeError


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


def places(nest: Any, start: str = "") -> Iterator[str]:
    """How each leaf is written, after the name ``start`` of the nest.

    >>> list(places({"a": 1, "b": [2, (3,)]}, "x"))
    ["x['a']", "x['b'][0]", "x['b'][1][0]"]
    """
    if isinstance(nest, Mapping):
        for key, value in nest.items():  # pyright: ignore[reportUnknownVariableType]
            yield from places(value, f"{start}[{key!r}]")
    elif isinstance(nest, (tuple, list)):
        for k, value in enumerate(nest):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from places(value, f"{start}[{k}]")
    else:
        yield start


def aligned(nest: Any, other: Any, say: str) -> Iterator[Any]:
    """What stands in ``other`` at the places of the leaves of ``nest``, in its order.

    Raises `ShapeError` where they differ in form.

    >>> list(aligned({"a": 1, "b": [2]}, {"b": ["y"], "a": [3, 4]}, "names"))
    [[3, 4], 'y']
    """
    if isinstance(nest, Mapping):
        if not isinstance(other, Mapping) or set(other) != set(nest):  # pyright: ignore[reportUnknownArgumentType]
            raise ShapeError(f"{say}: expected a {_form(nest)}, got {_form(other)}")
        for key, value in nest.items():  # pyright: ignore[reportUnknownVariableType]
            yield from aligned(value, other[key], say)
    elif isinstance(nest, (tuple, list)):
        if not isinstance(other, (tuple, list)) or len(other) != len(nest):  # pyright: ignore[reportUnknownArgumentType]
            raise ShapeError(f"{say}: expected a {_form(nest)}, got {_form(other)}")
        for value, item in zip(nest, other, strict=True):  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
            yield from aligned(value, item, say)
    else:
        yield other


def _form(nest: Any) -> str:
    if isinstance(nest, Mapping):
        return f"dict with the keys {', '.join(map(repr, nest)) or 'none'}"  # pyright: ignore[reportUnknownArgumentType]
    sized = isinstance(nest, (tuple, list))
    return type(nest).__name__ + (f" of {len(nest)}" if sized else "")  # pyright: ignore[reportUnknownArgumentType]


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
