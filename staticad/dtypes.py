"""Data types: the ones that can be computed with, their short names, and NumPy 2 promotion; knows no ops."""

from __future__ import annotations

from typing import Any

import numpy as np

from staticad.errors import DTypeError

bool_ = np.dtype("bool")
int8, int16, int32, int64 = (np.dtype(f"int{b}") for b in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{b}") for b in (8, 16, 32, 64))
float32, float64 = np.dtype("float32"), np.dtype("float64")

# fmt: off
SHORT: dict[np.dtype[Any], str] = {
    bool_: "b1",
    int8: "i8", int16: "i16", int32: "i32", int64: "i64",
    uint8: "u8", uint16: "u16", uint32: "u32", uint64: "u64",
    float32: "f32", float64: "f64",
}
# fmt: on


def as_dtype(dtype: object, what: str = "dtype") -> np.dtype[Any]:
    """The NumPy dtype that ``dtype`` names, if staticad computes with it. Raises `DTypeError`.

    >>> as_dtype("float32")
    dtype('float32')
    """
    if dtype is None:  # which NumPy takes to be float64
        raise DTypeError(f"{what}: None is no data type")
    try:
        found: np.dtype[Any] = np.dtype(dtype)  # pyright: ignore
    except (TypeError, ValueError, SyntaxError) as error:
        raise DTypeError(f"{what}: {dtype!r} is no data type") from error
    if found.newbyteorder("=") not in SHORT:
        names = ", ".join(str(d) for d in SHORT)
        raise DTypeError(f"{what}: {found} is not supported; use one of {names}")
    return found.newbyteorder("=")


def is_floating(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f"


def is_integer(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "iu"


def can_require_grad(dtype: np.dtype[Any]) -> bool:
    return dtype.kind in "fc"


def promote(*operands: object) -> np.dtype[Any]:
    """NumPy 2 promotion of dtypes and Python scalars (which are weak: they never widen within their kind).

    >>> promote(float32, 1.0), promote(int64, 1.5)
    (dtype('float32'), dtype('float64'))
    """
    return np.result_type(*operands)  # pyright: ignore
