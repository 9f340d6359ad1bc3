"""Nests of tuples, lists and dicts: taken apart and put together again; knows nothing of what the leaves are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeGuard

from staticad.errors import ShapeError


def is_sequence(x: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(x, (tuple, list))


def is_dict(x: Any) -> TypeGuard[Mapping[Any, Any]]:
    return isinstance(x, Mapping)


def leaves(nest: Any) -> Iterator[Any]:
    """The leaves of a nest, depth first, dicts in their own order.

    >>> list(leaves({"a": 1, "b": [2, (3,)]}))
    [1, 2, 3]
    """
    if is_dict(nest):
        for value in nest.values():
            yield from leaves(value)
    elif is_sequence(nest):
        for value in nest:
            yield from leaves(value)
    else:
        yield nest


def places(nest: Any, start: str = "") -> Iterator[str]:
    """How each leaf is written, after the name ``start`` of the nest.

    >>> list(places({"a": 1, "b": [2, (3,)]}, "x"))
    ["x['a']", "x['b'][0]", "x['b'][1][0]"]
    """
    if is_dict(nest):
        for key, value in nest.items():
            yield from places(value, f"{start}[{key!r}]")
    elif is_sequence(nest):
        for k, value in enumerate(nest):
            yield from places(value, f"{start}[{k}]")
    else:
        yield start


def aligned(nest: Any, other: Any, say: str) -> Iterator[Any]:
    """What stands in ``other`` at the places of the leaves of ``nest``, in its order.

    Raises `ShapeError` where they differ in form.

    >>> list(aligned({"a": 1, "b": [2]}, {"b": ["y"], "a": [3, 4]}, "names"))
    [[3, 4], 'y']
    """
    if is_dict(nest):
        if not is_dict(other) or set(other) != set(nest):
            raise ShapeError(f"{say}: expected a {_form(nest)}, got {_form(other)}")
        for key, value in nest.items():
            yield from aligned(value, other[key], say)
    elif is_sequence(nest):
        if not is_sequence(other) or len(other) != len(nest):
            raise ShapeError(f"{say}: expected a {_form(nest)}, got {_form(other)}")
        for value, item in zip(nest, other, strict=True):
            yield from aligned(value, item, say)
    else:
        yield other


def _form(nest: Any) -> str:
    if is_dict(nest):
        return f"dict with the keys {', '.join(map(repr, nest)) or 'none'}"
    return type(nest).__name__ + (f" of {len(nest)}" if is_sequence(nest) else "")


def rebuild(nest: Any, values: Iterator[Any]) -> Any:
    """A nest of the same form with the leaves taken from ``values``.

    >>> rebuild({"a": 1, "b": [2, (3,)]}, iter("xyz"))
    {'a': 'x', 'b': ['y', ('z',)]}
    """
    if is_dict(nest):
        return {key: rebuild(value, values) for key, value in nest.items()}
    if is_sequence(nest):
        built = [rebuild(value, values) for value in nest]
        if isinstance(nest, list):
            return built
        made: Callable[..., Any] = type(nest)
        return made(*built) if hasattr(made, "_fields") else tuple(built)
    return next(values)


def map_leaves(function: Callable[[Any], Any], nest: Any) -> Any:
    return rebuild(nest, map(function, leaves(nest)))
