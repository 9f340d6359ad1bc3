"""The public function of an elementwise op that has no function written for it; knows promotion, not the op."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from staticad.errors import DTypeError
from staticad.functions.operands import common_dtype, operands, types_text
from staticad.ir import Op
from staticad.tensor import ArrayLike, Tensor, wrap


def lift(op: Op, count: int) -> Callable[..., Tensor]:
    """``op`` of ``count`` operands as a function of tensors, arrays and numbers, which are promoted and broadcast.

    Integers become float64 where the op takes floating dtypes alone. Raises `ShapeError` and `DTypeError`.
    """

    def function(*xs: ArrayLike) -> Tensor:
        if len(xs) != count:
            raise DTypeError(f"{op.name}: takes {count} operands, got {len(xs)}: {types_text(xs)}")
        dtype = common_dtype(*xs)
        try:
            return wrap(op(*operands(op.name, xs, [dtype] * count)))
        except DTypeError:
            if dtype.kind == "f":
                raise
            return wrap(op(*operands(op.name, xs, [np.dtype("float64")] * count)))

    function.__name__ = function.__qualname__ = op.name
    function.__doc__ = f"``{op.name}`` of each element, with promotion and broadcasting."
    return function
