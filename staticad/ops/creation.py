"""Elements that come from no operand (constants, coordinates), and conversion between dtypes; knows no arithmetic."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# (the entries' lambdas take as many operands as their op, which `Callable[..., T]` cannot tell)

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from staticad.dtypes import as_dtype, is_floating, is_integer
from staticad.errors import AxisError, DTypeError
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import Map
from staticad.ops.pointwise import BOOLEAN, FLOATS, INTEGERS, integers
from staticad.ops.rules import lanewise, no_jvp, no_vjp
from staticad.shapes import Expr, Shape

Array = np.ndarray[Any, Any]
Value = bool | int | float | Expr


def literal(value: object, dtype: np.dtype[Any], what: str = "full") -> Value:
    """``value`` as the Python number (or dimension) that stands for it in an array of ``dtype``. Raises `DTypeError`.

    >>> literal(2, np.dtype("float32")), literal(np.int8(3), np.dtype("int64"))
    (2.0, 3)
    """
    if isinstance(value, Expr):
        return value
    number: object = value.item() if isinstance(value, np.generic) else value  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(number, (bool, int, float)):
        raise DTypeError(f"{what}: {value!r} is no number of dtype {dtype}")
    if is_floating(dtype):
        return float(number)
    if dtype == BOOLEAN:
        return bool(number)
    if number != number or number in (float("inf"), float("-inf")) or number != int(number):
        raise DTypeError(f"{what}: {value!r} is no integer of dtype {dtype}; use a floating dtype")
    bounds = np.iinfo(dtype)
    if not bounds.min <= number <= bounds.max:
        raise DTypeError(f"{what}: {value!r} is out of range for dtype {dtype}; use a wider dtype")
    return int(number)


def fill(x: Node, value: object) -> Node:
    """A constant of the type of ``x``."""
    return full(value=literal(value, x.dtype), shape=x.shape, dtype=x.dtype)


def constant(node: Node) -> Any:
    """The number that every element of ``node`` is, if that is known; else None."""
    return node.params["value"] if node.op is full else None


def _full_type(*, value: Value, shape: Shape, dtype: np.dtype[Any]) -> ArrayType:
    literal(value, dtype)
    return ArrayType(as_dtype(dtype), shape)


def _full_examples() -> Iterable[Example]:
    for dtype in (*FLOATS, *INTEGERS, BOOLEAN):
        values = [0.0, -1.5, 1e30, np.inf, -np.inf, np.nan] if is_floating(dtype) else [0, 1]
        for value in integers(dtype) if is_integer(dtype) else values:
            yield Example((), {"value": literal(value, dtype), "shape": (2, 3), "dtype": dtype}, smooth=False)


full = Op(
    name="full",
    infer=_full_type,
    numpy=lambda *, value, shape, dtype: np.full(shape, value, dtype),
    lower=Map("{value}", 0),
    vjp=no_vjp,
    jvp=no_jvp,
    examples=_full_examples,
)


def _iota_type(*, shape: Shape, axis: int, dtype: np.dtype[Any]) -> ArrayType:
    if not 0 <= axis < len(shape):
        raise AxisError(f"iota: axis {axis} is out of range for {len(shape)} dimensions")
    if dtype == BOOLEAN:
        raise DTypeError("iota: coordinates are numbers; use an integer or floating dtype, not bool")
    return ArrayType(as_dtype(dtype), shape)


def _iota(*, shape: tuple[int, ...], axis: int, dtype: np.dtype[Any]) -> Array:
    line = np.arange(shape[axis]).astype(dtype)
    return np.broadcast_to(line.reshape([-1 if k == axis else 1 for k in range(len(shape))]), shape).copy()


def _iota_examples() -> Iterable[Example]:
    for dtype in (*FLOATS, *INTEGERS):
        yield Example((), {"shape": (5,), "axis": 0, "dtype": dtype}, smooth=False)
    for axis in range(3):
        yield Example((), {"shape": (2, 3, 4), "axis": axis, "dtype": INTEGERS[3]}, smooth=False)


iota = Op(
    name="iota",
    infer=_iota_type,
    numpy=_iota,
    lower=Map(lambda node: f"{{t}}({{i[{node.params['axis']}]}})"),
    vjp=no_vjp,
    jvp=no_jvp,
    examples=_iota_examples,
)


def _astype_type(x: ArrayType, *, dtype: np.dtype[Any]) -> ArrayType:
    return ArrayType(as_dtype(dtype), x.shape)


def _astype_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    source = node.args[0].dtype
    return (astype(g, dtype=source) if is_floating(source) and is_floating(node.dtype) else None,)


def _astype_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    t = tangents[0]
    return None if t is None or not is_floating(node.dtype) else astype(t, dtype=node.dtype)


def _astype_examples() -> Iterable[Example]:
    for source in (*FLOATS, *INTEGERS, BOOLEAN):
        for dtype in (*FLOATS, *INTEGERS, BOOLEAN):
            if is_integer(source):
                values: list[Any] = integers(source)
            elif source == BOOLEAN:
                values = [False, True]
            elif is_integer(dtype):  # what lies out of range of an integer has no defined value
                values = [0.0, -0.0, 0.75, 1.5, 2.5, 100.9, *([-0.5, -3.75, -100.9] if dtype.kind == "i" else [])]
            else:
                values = [0.25, -1.5, 3.0, 1e-3]
                special = np.array([np.nan, np.inf, 0.0, -0.0, 1e30, 1e-40], source)
                yield Example((special,), {"dtype": dtype}, smooth=False)
            smooth = is_floating(source) and is_floating(dtype)
            yield Example((np.array(values, source),), {"dtype": dtype}, smooth)


astype = Op(
    name="astype",
    infer=_astype_type,
    numpy=lambda x, *, dtype: x.astype(dtype),
    lower=Map(lambda node: "({x} != 0)" if node.dtype == BOOLEAN else "{t}({x})"),
    vjp=_astype_vjp,
    jvp=_astype_jvp,
    examples=_astype_examples,
    laws=("exact",),
    batch=lanewise(),
)
