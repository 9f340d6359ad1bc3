"""How tensors come into being: inputs, parameters, states and constants, and the array API's creation functions; knows
no ops but the sources and constants.

>>> import numpy as np, staticad as ad
>>> ad.input("x", ("batch", 64), dtype="float32")
Tensor(f32[batch, 64], name='x')
>>> ad.parameter(np.zeros((64, 10), "float32"), name="W")
Parameter(f32[64, 10], name='W', requires_grad=True)
"""

# ruff: noqa: A001  (the array API's names are Python's)

from __future__ import annotations

import math
from typing import Any

from staticad.dtypes import as_dtype, can_require_grad, float64, int64
from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.functions.elementwise import astype, where
from staticad.functions.manipulation import broadcast_to, reshape
from staticad.functions.operands import (
    as_tensor,
    common_dtype,
    constant_array,
    is_scalar,
    scalar_node,
    type_text,
    weak_dtype,
)
from staticad.ir import ArrayType
from staticad.ops import creation, sources
from staticad.shapes import Dim, Expr, as_dim, as_shape, check_name, maximum
from staticad.tensor import ArrayLike, DType, Parameter, Scalar, Tensor, wrap

# ---- what the user brings


def input(name: str, shape: Any = (), dtype: DType = "float64", requires_grad: bool = False) -> Tensor:
    """A tensor whose value is given at each call.

    ``shape`` has ints, symbolic dimensions and names of them (``"batch"``); one name is one size throughout a function.
    Raises `GraphError` where ``name`` is no identifier, `DTypeError` where an integer tensor is to require grad.
    """
    check_name(name, "input name")
    type_ = ArrayType(as_dtype(dtype, f"input {name!r}"), as_shape(shape, f"input {name!r}"))
    node = sources.input_(name=name, source=InputSource(name), type=type_)
    node.name = name
    return Tensor(node).requires_grad_(requires_grad)


class InputSource:
    """What makes an input itself and no other of the same name and type."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"<source {self.name}>"


def parameter(value: ArrayLike, name: str | None = None) -> Parameter:
    """A tensor that holds an array and requires grad: ``.value`` is a copy of ``value``, which ``updates`` write to.

    Raises `DTypeError` unless the dtype is floating (use `state` for integers).
    """
    found = _held(value, name, "parameter")
    if not can_require_grad(found.node.dtype):
        raise DTypeError(
            f"parameter: only floating arrays can require grad, not {found.node.type}; "
            "give floats, or use staticad.state"
        )
    found.requires_grad = True
    return found


def state(value: ArrayLike, name: str | None = None) -> Parameter:
    """A tensor that holds an array and requires no grad: a counter, a running mean, the memory of an optimizer."""
    return _held(value, name, "state")


def _held(value: ArrayLike, name: str | None, what: str) -> Parameter:
    if isinstance(value, Tensor):
        raise GraphError(f"{what}: takes an array, not {value!r}, which has no value yet")
    if name is not None:
        check_name(name, f"{what} name")
    storage = sources.Storage(constant_array(value), name, False)
    node = sources.data(storage=storage)
    node.name = name
    return Parameter(node, storage)


def constant(value: ArrayLike, name: str | None = None) -> Tensor:
    """A tensor of fixed values, copied. A tensor is returned as it is."""
    out = asarray(value)
    if name is not None and not isinstance(value, Tensor):
        out.name = name
    return out


def asarray(
    obj: ArrayLike, /, *, dtype: DType | None = None, device: str | None = None, copy: bool | None = None
) -> Tensor:
    """``obj`` (a tensor, number, array or nested list of numbers) as a tensor; arrays are copied."""
    t = as_tensor(obj)
    return t if dtype is None else astype(t, dtype)


# ---- the array API's creation functions


def full(shape: Any, fill_value: ArrayLike, *, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """An array of one value; the dtype is the value's unless given."""
    wanted = as_shape(shape, "full")
    if is_scalar(fill_value):
        return wrap(scalar_node(fill_value, as_dtype(dtype or weak_dtype(fill_value), "full"), wanted))
    t = as_tensor(fill_value)
    return broadcast_to(t if dtype is None else astype(t, dtype), wanted)


def zeros(shape: Any, *, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """An array of zeros, float64 by default."""
    return full(shape, 0, dtype=dtype or float64)


def ones(shape: Any, *, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """An array of ones, float64 by default."""
    return full(shape, 1, dtype=dtype or float64)


def empty(shape: Any, *, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """An array of no particular values: zeros."""
    return zeros(shape, dtype=dtype)


def full_like(
    x: ArrayLike, /, fill_value: ArrayLike, *, dtype: DType | None = None, device: str | None = None
) -> Tensor:
    """An array of one value, of the shape and (unless given) the dtype of ``x``."""
    t = as_tensor(x)
    return full(t.shape, fill_value, dtype=dtype or t.dtype)


def zeros_like(x: ArrayLike, /, *, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """Zeros of the shape and (unless given) the dtype of ``x``."""
    return full_like(x, 0, dtype=dtype)


def ones_like(x: ArrayLike, /, *, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """Ones of the shape and (unless given) the dtype of ``x``."""
    return full_like(x, 1, dtype=dtype)


def empty_like(x: ArrayLike, /, *, dtype: DType | None = None, device: str | None = None) -> Tensor:
    """Zeros of the shape and (unless given) the dtype of ``x``."""
    return zeros_like(x, dtype=dtype)


def arange(
    start: Scalar,
    /,
    stop: Scalar | None = None,
    step: Scalar = 1,
    *,
    dtype: DType | None = None,
    device: str | None = None,
) -> Tensor:
    """The numbers ``start + i * step`` before ``stop``; ``arange(n)`` counts from 0. Bounds are numbers or dimensions.

    Where a bound is a symbolic dimension all three are integers, ``step`` a positive one.
    """
    first, last = (0, start) if stop is None else (start, stop)
    for bound in (first, last, step):
        if not is_scalar(bound):
            raise GraphError(
                f"arange: bounds are numbers and dimensions, not {type_text(bound)}, "
                "which would make a data-dependent shape"
            )
    if step == 0:
        raise GraphError("arange: the step is 0")
    count: Dim
    if isinstance(first, Expr) or isinstance(last, Expr):
        if not isinstance(step, int) or step < 0 or isinstance(first, float) or isinstance(last, float):
            raise GraphError("arange: with symbolic bounds takes integers and a positive step")
        count = maximum((last - first + (step - 1)) // step, 0)
    else:
        assert not isinstance(step, Expr)
        count = max(math.ceil((last - first) / step), 0)
    found = as_dtype(dtype, "arange") if dtype is not None else common_dtype(*(b for b in (first, last, step)))
    i = creation.iota(shape=(count,), axis=0, dtype=int64 if found.kind != "f" else found)
    values = wrap(i)
    values = values if step == 1 and not isinstance(step, bool) else values * step
    return astype(values if first == 0 else values + first, found)


def linspace(
    start: ArrayLike,
    stop: ArrayLike,
    /,
    num: int,
    *,
    dtype: DType | None = None,
    device: str | None = None,
    endpoint: bool = True,
) -> Tensor:
    """``num`` numbers at equal distances from ``start`` to ``stop``, which is the last one where ``endpoint``.

    Floating, float64 by default; bounds may be tensors, whose axes follow the first.
    """
    count = as_dim(num, "linspace")
    wanted = as_dtype(dtype, "linspace") if dtype is not None else common_dtype(start, stop, 1.0)
    inner = wanted if wanted.kind == "f" else float64
    first, last = (astype(x, inner) for x in (start, stop))
    rank = max(first.ndim, last.ndim)
    i = reshape(wrap(creation.iota(shape=(count,), axis=0, dtype=inner)), (count,) + (1,) * rank)
    parts = count - 1 if endpoint else count
    if isinstance(parts, int) and parts <= 0:
        parts = 1
    step = (last - first) / parts
    values = i * step + first
    if endpoint and count != 1:
        values = where(i == count - 1, last, values)
    return astype(values, wanted)


def eye(
    n_rows: Any, n_cols: Any = None, /, *, k: int = 0, dtype: DType | None = None, device: str | None = None
) -> Tensor:
    """A matrix with ones on diagonal ``k`` and zeros elsewhere, float64 by default."""
    rows = as_dim(n_rows, "eye")
    shape = (rows, rows if n_cols is None else as_dim(n_cols, "eye"))
    i, j = (wrap(creation.iota(shape=shape, axis=a, dtype=int64)) for a in (0, 1))
    return astype(j - i == k, dtype or float64)


def identity(n: Any, dtype: DType | None = None) -> Tensor:
    """`eye` of a square: NumPy's function."""
    return eye(n, dtype=dtype)


def meshgrid(*arrays: ArrayLike, indexing: str = "xy") -> list[Tensor]:
    """Coordinate arrays over the grid of the vectors given; ``indexing`` is ``"xy"`` (first two axes exchanged) or
    ``"ij"``.
    """
    if indexing not in ("xy", "ij"):
        raise GraphError(f"meshgrid: indexing is 'xy' or 'ij', not {indexing!r}")
    ts = [as_tensor(x) for x in arrays]
    if any(t.ndim > 1 for t in ts):
        raise ShapeError(f"meshgrid: takes vectors, got {', '.join(map(type_text, ts))}")
    order = list(range(len(ts)))
    if indexing == "xy" and len(ts) > 1:
        order[:2] = [1, 0]
    shape: list[Dim] = [1] * len(ts)
    for t, place in zip(ts, order, strict=True):
        shape[place] = t.size
    return [
        broadcast_to(reshape(t, tuple(t.size if k == place else 1 for k in range(len(ts)))), tuple(shape))
        for t, place in zip(ts, order, strict=True)
    ]
