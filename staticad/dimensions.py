"""Symbolic dimensions: integer polynomials in normal form, their arithmetic, text and bounds; knows no shapes, no ops.

A dimension is an ``int`` or an `Expr`. An `Expr` is a polynomial with integer coefficients over atoms: named dimensions
(`Symbol`), and the floor divisions, minima, maxima and roots that no polynomial can express. Two dimensions are equal
exactly when their normal forms are; indices of generated loops are written in the same algebra.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd, isqrt, prod
from typing import TypeAlias

from staticad.errors import GraphError, ShapeError


@dataclass(frozen=True, slots=True)
class Symbol:
    """A named non-negative integer: a dimension of an input (``kind='dim'``) or a loop variable (``kind='var'``).

    Or the number of steps that a loop takes, known after it (``kind='count'``); what stands behind a ``#`` in its name
    tells it from others.
    """

    name: str
    kind: str = "dim"

    def __str__(self) -> str:
        return self.name.split("#")[0]


@dataclass(frozen=True)
class Binary:
    """An operation on dimensions that is no polynomial: ``//``, ``min``, ``max`` or ``root`` (see `square_root`)."""

    op: str
    x: Dim
    y: Dim

    @cached_property
    def hash(self) -> int:
        return hash((self.op, self.x, self.y))

    @cached_property
    def low(self) -> int | None:
        """Its `lower_bound`, kept: each level of what is nested reads it."""
        return binary_low(self.op, self.x, self.y)

    @cached_property
    def order(self) -> str:
        return f"{self.op}({order_of(self.x)}, {order_of(self.y)})"

    def __hash__(self) -> int:
        return self.hash

    def __str__(self) -> str:
        return render(self, str)


@dataclass(frozen=True)
class Element:
    """An integer read at run time: element ``index`` of ``array``, wrapped and checked against ``extent``."""

    array: Hashable
    index: tuple[Dim, ...]
    extent: Dim

    def __str__(self) -> str:
        return f"{self.array}{shape_text(self.index)}"


Atom: TypeAlias = Symbol | Binary | Element
Monomial: TypeAlias = tuple[tuple[Atom, int], ...]


@dataclass(frozen=True, eq=False)
class Expr:
    """A dimension that is not a plain integer: ``terms`` maps each monomial to its non-zero coefficient.

    >>> n = dim("n")
    >>> (n + 1) * (n - 1) == n * n - 1
    True
    >>> print((2 * n + 6) // 2, (n - 3) // 2 + 1)
    n + 3 (n + 1)//2 - 1
    """

    terms: Mapping[Monomial, int]

    @cached_property
    def key(self) -> frozenset[tuple[Monomial, int]]:
        return frozenset(self.terms.items())

    @cached_property
    def hash(self) -> int:
        return hash(self.key)

    @cached_property
    def low(self) -> int | None:
        """Its `lower_bound`, kept: each level of what is nested reads it."""
        return expr_low(self.terms)

    @cached_property
    def order(self) -> str:
        return " + ".join(sorted(f"{c} {[(order_of(a), p) for a, p in m]}" for m, c in self.terms.items()))

    def __hash__(self) -> int:
        return self.hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expr) and self.hash == other.hash and self.key == other.key

    def __neg__(self) -> Dim:
        return mul(self, -1)

    # fmt: off
    def __add__(self, other: Dim) -> Dim: return add(self, other) if is_dim(other) else NotImplemented
    def __radd__(self, other: Dim) -> Dim: return add(other, self) if is_dim(other) else NotImplemented
    def __sub__(self, other: Dim) -> Dim: return add(self, mul(other, -1)) if is_dim(other) else NotImplemented
    def __rsub__(self, other: Dim) -> Dim: return add(other, mul(self, -1)) if is_dim(other) else NotImplemented
    def __mul__(self, other: Dim) -> Dim: return mul(self, other) if is_dim(other) else NotImplemented
    def __rmul__(self, other: Dim) -> Dim: return mul(other, self) if is_dim(other) else NotImplemented
    def __floordiv__(self, other: Dim) -> Dim: return floordiv(self, other) if is_dim(other) else NotImplemented
    def __rfloordiv__(self, other: Dim) -> Dim: return floordiv(other, self) if is_dim(other) else NotImplemented
    def __mod__(self, other: Dim) -> Dim: return mod(self, other) if is_dim(other) else NotImplemented
    def __rmod__(self, other: Dim) -> Dim: return mod(other, self) if is_dim(other) else NotImplemented
    # fmt: on

    def __str__(self) -> str:
        return render(self, str)

    __repr__ = __str__

    def __bool__(self) -> bool:
        raise ShapeError(f"the symbolic dimension {self} has no truth value before a call; compare it with == instead")

    def __int__(self) -> int:
        raise ShapeError(
            f"the symbolic dimension {self} has no integer value before a call; "
            "loop over it with staticad.scan or staticad.map, or make the size a Python int"
        )

    __index__ = __int__


Dim: TypeAlias = int | Expr


def is_dim(x: object) -> bool:
    """Whether ``x`` is a dimension: an integer (of Python or NumPy) or an `Expr`."""
    if isinstance(x, (int, Expr)):
        return True
    return hasattr(x, "__index__") and not isinstance(x, float) and not hasattr(x, "node")


def check_name(name: str, what: str) -> str:
    """Return ``name`` if it may stand in generated code: an identifier that is no keyword. Raises `GraphError`."""
    if not isinstance(name, str) or not name.isidentifier() or not name.isascii():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"{what} {name!r} is no identifier; use ASCII letters, digits and underscores")
    if keyword.iskeyword(name):
        raise GraphError(f"{what} {name!r} is a Python keyword; choose another name, for example {name + '_'!r}")
    return name


def dim(name: str) -> Expr:
    """The symbolic dimension called ``name``, a non-negative integer known at call time.

    >>> n = dim("n")
    >>> print(2 * n + 1)
    2*n + 1
    """
    return symbol(Symbol(check_name(name, "dimension name")))


def symbol(atom: Atom) -> Expr:
    return Expr({((atom, 1),): 1})


def terms_of(x: Dim) -> Mapping[Monomial, int]:
    """The polynomial that a dimension is."""
    return x.terms if isinstance(x, Expr) else ({(): int(x)} if x else {})


def normal(terms: Mapping[Monomial, int]) -> Dim:
    """The dimension that a polynomial is: an integer if it is constant."""
    terms = {m: c for m, c in terms.items() if c}
    if not terms:
        return 0
    if len(terms) == 1 and () in terms:
        return terms[()]
    return Expr(terms)


def add(x: Dim, y: Dim) -> Dim:
    if isinstance(x, int) and isinstance(y, int):
        return x + y
    out = dict(terms_of(x))
    for m, c in terms_of(y).items():
        out[m] = out.get(m, 0) + c
    return normal(out)


def mul(x: Dim, y: Dim) -> Dim:
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    out: dict[Monomial, int] = {}
    for mx, cx in terms_of(x).items():
        for my, cy in terms_of(y).items():
            m = merged(mx, my)
            out[m] = out.get(m, 0) + cx * cy
    return normal(out)


def merged(x: Monomial, y: Monomial) -> Monomial:
    """``x * y``."""
    if not x or not y:
        return x or y
    powers = dict(x)
    for atom, p in y:
        powers[atom] = powers.get(atom, 0) + p
    return tuple(sorted(powers.items(), key=lambda item: order_of(item[0])))


def order_of(x: Atom | Dim) -> str:
    """What to sort by; a dimension and a loop variable may bear one name.

    It is kept with what is nested: each level reads it.
    """
    if isinstance(x, Symbol):
        return f"{x.name} {x.kind}"
    return x.order if isinstance(x, (Binary, Expr)) else str(x)


def divided(x: Monomial, y: Monomial) -> Monomial | None:
    """``x / y`` where every power of ``y`` is in ``x``, else None."""
    powers = dict(x)
    for atom, p in y:
        if powers.get(atom, 0) < p:
            return None
        powers[atom] -= p
    return tuple((a, p) for a, p in powers.items() if p)


def floordiv(x: Dim, y: Dim) -> Dim:
    """``x // y`` rounded down; ``y`` is taken to be positive when it is symbolic."""
    if y == 0:
        raise ShapeError(f"division of the dimension {x} by zero")
    if isinstance(x, int) and isinstance(y, int):
        return x // y
    if y == 1 or x == 0:
        return x
    divisor = terms_of(y)
    if len(divisor) != 1:
        return 1 if x == y else symbol(Binary("//", x, y))
    ((ym, yc),) = divisor.items()
    whole: dict[Monomial, int] = {}
    rest: dict[Monomial, int] = {}
    for m, c in terms_of(x).items():
        q = divided(m, ym)
        if q is None:
            rest[m] = c
            continue
        whole[q] = whole.get(q, 0) + c // yc
        rest[m] = c - (c // yc) * yc
    left = normal(rest)
    if left == 0:
        return normal(whole)
    return add(normal(whole), _remainder_floordiv(left, y) if isinstance(y, int) else symbol(Binary("//", left, y)))


def _remainder_floordiv(x: Dim, y: int) -> Dim:
    """``x // y`` in normal form: a common factor of ``y`` and the terms goes, a division of a division becomes one."""
    if isinstance(x, int):
        return x // y
    offset = x.terms.get((), 0)
    common = gcd(y, *(c for m, c in x.terms.items() if m))
    if common > 1:  # floor((c*a + b) / (c*d)) = floor((a + floor(b / c)) / d)
        terms = {m: c // common for m, c in x.terms.items()}
        return floordiv(normal({**terms, (): offset // common}), y // common)
    inner = [m[0][0] for m, c in x.terms.items() if c == 1 and len(m) == 1 and m[0][1] == 1]
    if len(x.terms) == 1 + (offset != 0) and inner and isinstance(inner[0], Binary) and inner[0].op == "//":
        divisor = inner[0].y
        if y > 0 and isinstance(divisor, int) and divisor > 0:  # (a // d + b) // y = (a + b*d) // (d*y)
            return floordiv(add(inner[0].x, offset * divisor), divisor * y)
    return symbol(Binary("//", x, y))


def mod(x: Dim, y: Dim) -> Dim:
    """``x % y``, by ``x - (x // y) * y``."""
    return add(x, mul(mul(floordiv(x, y), y), -1))


def square_root(x: int, least: int) -> int:
    """The square root of a number, rounded up, but not below ``least``.

    >>> [square_root(n, 1) for n in (0, 1, 2, 4, 5, 9, 10)]
    [1, 1, 2, 2, 3, 3, 4]
    """
    return max(isqrt(x - 1) + 1 if x > 0 else 0, least)


def root(x: Dim, least: int) -> Dim:
    """The `square_root` of a dimension; the symbolic one is a single atom, by which others can be divided."""
    return square_root(x, least) if isinstance(x, int) else symbol(Binary("root", x, least))


def render(x: Dim | Atom, name: Callable[[Symbol | Element], str]) -> str:
    """``x`` as a Python expression, each symbol and run-time element by the name that ``name`` gives it."""
    if isinstance(x, int):
        return str(x)
    if isinstance(x, (Symbol, Element)):
        return name(x)
    if isinstance(x, Binary):
        a, b = render(x.x, name), render(x.y, name)
        if x.op == "//":
            return f"{_wrap(a)}//{_wrap(b)}"
        return f"{x.op}({a}, {b})"
    parts: list[str] = []
    for m, c in sorted(x.terms.items(), key=lambda t: (-len(t[0]), t[1] < 0, [(order_of(a), p) for a, p in t[0]])):
        alone = c == 1 and len(m) == 1 and m[0][1] == 1
        factors = [_factor(a, name, alone) for a, p in m for _ in range(p)]
        if abs(c) != 1 or not factors:
            factors.insert(0, str(abs(c)))
        sign = "-" if c < 0 else "+"
        parts.append(f" {sign} {'*'.join(factors)}")
    text = "".join(parts)
    return text[3:] if text.startswith(" + ") else "-" + text[3:]


def _factor(a: Atom, name: Callable[[Symbol | Element], str], alone: bool) -> str:
    text = render(a, name)
    return f"({text})" if isinstance(a, Binary) and a.op == "//" and not alone else text


def _wrap(text: str) -> str:
    return text if text.isidentifier() or text.isdigit() else f"({text})"


def shape_text(shape: Sequence[Dim]) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"


# bounds ---------------------------------------------------------------------------------------------------------------


def lower_bound(x: Dim) -> int | None:
    """A number that ``x`` is never below, or None where none is known. Symbols are at least 0."""
    if isinstance(x, int):
        return x
    return x.low


def expr_low(terms: Mapping[Monomial, int]) -> int | None:
    """The lower bound of a polynomial, by its terms or by those of something that is never above it."""
    low = _terms_low(terms)
    below = _below(terms) if low is None else None
    return low if below is None else lower_bound(below)


def _terms_low(terms: Mapping[Monomial, int]) -> int | None:
    total = 0
    for m, c in terms.items():
        lows = [(_atom_low(a), p) for a, p in m]
        if m and (c < 0 or not all(_never_negative(a) for a, _ in m)):
            return None
        total += c * prod((low or 0) ** p for low, p in lows)
    return total


def _below(terms: Mapping[Monomial, int]) -> Dim | None:
    """Something that is never above, with ``x`` where ``y * (x // y)`` is subtracted; None where that is nowhere."""
    for m, c in terms.items():
        for a, _ in m:
            if c > 0 or not isinstance(a, Binary) or a.op != "//" or len(divisor := terms_of(a.y)) != 1:
                continue
            ((ym, yc),) = divisor.items()
            others = divided(m, merged(((a, 1),), ym))
            if others is None or yc < 0 or c % yc or not all(_never_negative(b) for b, _ in others):
                continue
            rest = {other: k for other, k in terms.items() if other != m}
            return add(normal(rest), mul(normal({others: c // yc}), a.x))
    return None


def _atom_low(a: Atom) -> int | None:
    return a.low if isinstance(a, Binary) else 0


def _never_negative(a: Atom) -> bool:
    low = _atom_low(a)
    return low is not None and low >= 0


def binary_low(op: str, x: Dim, y: Dim) -> int | None:
    """The lower bound of an operation that is no polynomial."""
    a, b = lower_bound(x), lower_bound(y)
    if op == "//":
        if isinstance(y, int):
            return a // y if a is not None and y > 0 else None
        return 0 if a is not None and a >= 0 else None
    if op == "root":
        return square_root(a or 0, b or 0)
    if op == "max":
        return max((low for low in (a, b) if low is not None), default=None)
    return None if a is None or b is None else min(a, b)
