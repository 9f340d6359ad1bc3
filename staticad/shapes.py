"""Shapes, which are made of dimensions, and dimensions whose symbols have sizes; knows no ops.

What there is of dimensions (`staticad.dimensions`) is found here too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import index
from typing import SupportsIndex, TypeAlias, cast

from staticad.dimensions import (
    Atom,
    Binary,
    Dim,
    Element,
    Expr,
    Symbol,
    add,
    check_name,
    dim,
    floordiv,
    is_dim,
    lower_bound,
    mod,
    mul,
    order_of,
    render,
    root,
    shape_text,
    square_root,
    symbol,
)
from staticad.errors import ShapeError

__all__ = [
    "Atom",
    "Binary",
    "Dim",
    "Element",
    "Expr",
    "Shape",
    "Symbol",
    "add",
    "as_dim",
    "as_shape",
    "check_name",
    "counts",
    "dim",
    "evaluate",
    "floordiv",
    "is_dim",
    "is_static",
    "known_ge",
    "lower_bound",
    "maximum",
    "minimum",
    "mod",
    "mul",
    "product",
    "render",
    "root",
    "shape_text",
    "square_root",
    "substitute",
    "symbol",
    "symbols",
]

Shape: TypeAlias = tuple[Dim, ...]


def as_shape(shape: object, what: str) -> Shape:
    """A shape from what a user gives: an int, a name, a dimension, or a sequence of them. Raises `ShapeError`."""
    items = cast("Sequence[object]", shape) if isinstance(shape, (tuple, list)) else (shape,)
    return tuple(as_dim(d, what) for d in items)


def as_dim(d: object, what: str) -> Dim:
    if isinstance(d, str):
        return dim(d)
    if isinstance(d, Expr):
        return d
    if isinstance(d, bool) or not isinstance(d, SupportsIndex):
        raise ShapeError(f"{what}: a dimension is a non-negative integer, a name or a symbolic dimension, not {d!r}")
    try:
        size = index(d)
    except TypeError as error:  # an array of more than one element only looks like an integer
        raise ShapeError(f"{what}: a dimension is a non-negative integer, not {d!r}") from error
    if size < 0:
        raise ShapeError(f"{what}: a dimension cannot be negative, got {size}")
    return size


def is_static(shape: Iterable[Dim]) -> bool:
    """Whether every dimension is a plain integer."""
    return all(isinstance(d, int) for d in shape)


def product(shape: Iterable[Dim]) -> Dim:
    """The number of elements of ``shape``."""
    total: Dim = 1
    for d in shape:
        total = mul(total, d)
    return total


def symbols(x: Dim) -> set[Symbol]:
    """The symbols that ``x`` is made of."""
    found: set[Symbol] = set()
    stack: list[Dim] = [x]
    while stack:
        d = stack.pop()
        if isinstance(d, int):
            continue
        for m in d.terms:
            for a, _ in m:
                if isinstance(a, Symbol):
                    found.add(a)
                elif isinstance(a, Element):
                    stack += a.index
                else:
                    stack += [a.x, a.y]
    return found


def counts(sizes: Iterable[Dim]) -> set[Symbol]:
    """The numbers of steps, known after loops, that sizes are made of."""
    return {s for d in sizes for s in symbols(d) if s.kind == "count"}


def substitute(x: Dim, values: Mapping[Symbol, Dim]) -> Dim:
    """``x`` with each symbol in ``values`` replaced."""
    if isinstance(x, int) or not values:
        return x
    if len(x.terms) == 1:
        ((m, c),) = x.terms.items()
        if c == 1 and len(m) == 1 and m[0][1] == 1 and isinstance(m[0][0], Symbol):
            return values.get(m[0][0], x)
    total: Dim = 0
    for m, c in x.terms.items():
        term: Dim = c
        for a, p in m:
            value = _substitute_atom(a, values)
            for _ in range(p):
                term = mul(term, value)
        total = add(total, term)
    return total


def _substitute_atom(a: Atom, values: Mapping[Symbol, Dim]) -> Dim:
    if isinstance(a, Symbol):
        return values[a] if a in values else symbol(a)
    if isinstance(a, Element):
        return symbol(Element(a.array, tuple(substitute(d, values) for d in a.index), a.extent))
    x, y = substitute(a.x, values), substitute(a.y, values)
    if a.op == "root":
        assert isinstance(y, int)
        return root(x, y)
    return {"//": floordiv, "min": minimum, "max": maximum}[a.op](x, y)


def evaluate(x: Dim, sizes: Mapping[str, int]) -> int:
    """The integer that ``x`` is when each named dimension has its size."""
    value = substitute(x, {s: sizes[s.name] for s in symbols(x) if s.name in sizes})
    if isinstance(value, int):
        return value
    missing = sorted(str(s) for s in symbols(value))
    raise ShapeError(f"the dimension {x} needs a size for {', '.join(missing)}")


# comparisons ----------------------------------------------------------------------------------------------------------


def known_ge(x: Dim, y: Dim) -> bool:
    """Whether ``x >= y`` for every value of the symbols, as far as the bounds show."""
    low = lower_bound(add(x, mul(y, -1)))
    return low is not None and low >= 0


def minimum(x: Dim, y: Dim) -> Dim:
    return _extremum("min", x, y)


def maximum(x: Dim, y: Dim) -> Dim:
    return _extremum("max", x, y)


def _extremum(op: str, x: Dim, y: Dim) -> Dim:
    if known_ge(x, y):
        return x if op == "max" else y
    if known_ge(y, x):
        return y if op == "max" else x
    return symbol(Binary(op, *sorted((x, y), key=order_of)))
