"""`evaluate`: the value of tensors at once with NumPy, node by node, without compiling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from staticad.errors import DTypeError, GraphError
from staticad.interpret import bind, interpret
from staticad.ir import Node
from staticad.nests import leaves, rebuild
from staticad.ops import sources
from staticad.shapes import Dim
from staticad.tensor import Array, ArrayLike, Tensor


def evaluate(outputs: Any, values: Mapping[Tensor, ArrayLike] | None = None) -> Any:
    """The values of ``outputs`` (a tensor, or a nest of them) for arrays given for inputs, or for any other tensors.

    Raises `GraphError` where an input that is needed has no value, `ShapeError` and `DTypeError` where an array does
    not fit.

    >>> import staticad as ad
    >>> x = ad.input("x", (3,))
    >>> y = x * x
    >>> evaluate([y, ad.sum(y)], {x: [1.0, 2.0, 3.0]})
    [array([1., 4., 9.]), array(14.)]
    """
    given: dict[Node, Array] = {}
    declared: list[tuple[str, tuple[Dim, ...], tuple[int, ...]]] = []
    for t, value in (values or {}).items():
        if not isinstance(t, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GraphError(f"evaluate: values are given for tensors, not for {t!r}")
        node = sources.unmarked(t.node)
        if np.ma.is_masked(value):
            raise DTypeError(f"evaluate: {t!r} takes an array, not a masked one; fill it first, with .filled(value)")
        array = np.asarray(value)
        if array.dtype != t.dtype:
            python_numbers = not hasattr(value, "dtype") and np.can_cast(array.dtype, t.dtype, "same_kind")
            if not (python_numbers or np.can_cast(array.dtype, t.dtype, "safe")):
                raise DTypeError(f"evaluate: {t!r} takes {t.dtype}, got {array.dtype}; convert with astype")
            array = array.astype(t.dtype)
        declared.append((t.name or node.op.name, t.shape, array.shape))
        given[node] = array
    flat = list(leaves(outputs))
    for out in flat:
        if not isinstance(out, Tensor):
            raise GraphError(f"evaluate: outputs are tensors in tuples, lists and dicts, not {type(out).__name__}")
    found = interpret([out.node for out in flat], given, bind(declared))
    # A fresh array each: NumPy gives views of inputs and parameters where an op only renames elements.
    return rebuild(outputs, iter([np.array(x) for x in found]))
