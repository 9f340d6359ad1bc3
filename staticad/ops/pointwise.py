"""How elementwise entries are written: templates by dtype, diagonal derivatives, sample arrays; knows no op."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from staticad.ir import ArrayType, Example, Law, Node, Op
from staticad.lowering import Map
from staticad.ops.rules import Examples, accumulate, lanewise, require_kind, same_types

Scale = Callable[[Node], Node]


def by_kind(**templates: str) -> Callable[[Node], str]:
    """A template chosen by the dtype kind of the first operand: ``by_kind(f="m.floor({x})", iu="{x}")``."""
    return lambda node: next(code for kinds, code in templates.items() if node.args[0].dtype.kind in kinds)


def diagonal(
    name: str,
    meaning: Callable[..., Any],
    code: str | Callable[[Node], str],
    scales: Callable[..., Sequence[Scale | None]],
    *,
    kinds: str = "f",
    infer: Callable[..., ArrayType] | None = None,
    cost: int = 1,
    examples: Examples,
    laws: tuple[Law, ...] = (),
) -> Op:
    """An elementwise op whose partial derivatives are better applied than named: a sum, a choice, a quotient.

    ``scales(out, x, y, ...)`` gives, for each operand, the function that multiplies a node by the derivative of the
    result by that operand; None where it vanishes everywhere. A choice that drops an infinite cotangent gives zero,
    where multiplying by zero would give nan.
    """

    def infer_same(*types: ArrayType) -> ArrayType:
        require_kind(name, kinds, *types)
        return same_types(name, *types)

    def vjp(node: Node, g: Node) -> Sequence[Node | None]:
        return [None if scale is None else scale(g) for scale in scales(node, *node.args)]

    def jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
        moving = zip(tangents, scales(node, *node.args), strict=True)
        return accumulate(None if t is None or scale is None else scale(t) for t, scale in moving)

    return Op(
        name=name,
        infer=infer or infer_same,
        numpy=meaning,
        lower=Map(code, cost),
        vjp=vjp,
        jvp=jvp,
        examples=examples,
        laws=laws,
        batch=lanewise(),
    )


# fmt: off
FLOATS   = (np.dtype("float32"), np.dtype("float64"))
INTEGERS = tuple(np.dtype(f"{sign}int{bits}") for sign in ("", "u") for bits in (8, 16, 32, 64))
BOOLEAN  = np.dtype("bool")

PLAIN    = (-2.6, -1.25, -0.4, 0.3, 0.75, 1.6, 2.9)  # and neither integers nor halves, where rounding jumps
POSITIVE = (0.05, 0.3, 0.75, 1.5, 3.0, 40.0)
SPECIAL  = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.5, -7.0, 1e-40, 1e30, -1e30)
# fmt: on


def integers(dtype: np.dtype[Any]) -> list[int]:
    """Integers that show wrapping, signs and zero."""
    bounds = np.iinfo(dtype)
    small = [0, 1, 2, 3, 7, 40]
    return [*small, bounds.max, bounds.max - 1, *([-1, -2, -7, bounds.min, bounds.min + 1] if bounds.min else [])]


def columns(dtype: np.dtype[Any], *values: Iterable[Any]) -> tuple[np.ndarray[Any, Any], ...]:
    """Every combination of the values, one column an operand."""
    grid = np.meshgrid(*(np.array(list(v), dtype) for v in values), indexing="ij")
    return tuple(np.ascontiguousarray(a.ravel()) for a in grid)


def floats(*smooth: Iterable[float], special: Iterable[float] = SPECIAL, **params: Any) -> Examples:
    """Cases for an op of as many floating operands as there are ``smooth``: these points, and the special ones."""

    def examples() -> Iterable[Example]:
        for dtype in FLOATS:
            if all(smooth):
                yield Example(columns(dtype, *smooth), params)
            yield Example(columns(dtype, *[list(special)] * len(smooth)), params, smooth=False)

    return examples


def whole(
    operands: int, *, last: Callable[[np.dtype[Any]], Iterable[int]] = integers, boolean: bool = False
) -> Examples:
    """Cases for ``operands`` operands of every integer type, of bools too if asked; the last operand's by ``last``."""

    def examples() -> Iterable[Example]:
        for dtype in INTEGERS:
            yield Example(columns(dtype, *[integers(dtype)] * (operands - 1), last(dtype)), smooth=False)
        if boolean:
            yield Example(columns(BOOLEAN, *[(False, True)] * operands), smooth=False)

    return examples


def booleans(operands: int) -> Examples:
    """Cases for an op on bools: all of them."""
    return lambda: [Example(columns(BOOLEAN, *[(False, True)] * operands), smooth=False)]


def both(*parts: Examples) -> Examples:
    return lambda: [example for part in parts for example in part()]
