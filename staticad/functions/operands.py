"""What the user gives made fit for primitives: conversion, promotion, broadcasting, axes; knows no particular
function.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from reprlib import repr as repr_of
from typing import Any, TypeGuard

import numpy as np

from staticad.dtypes import as_dtype, bool_, float32, int64, promote
from staticad.errors import AxisError, DTypeError, GraphError, ShapeError
from staticad.ir import ArrayType, Node
from staticad.ops import creation, sources, views
from staticad.shapes import Dim, Expr, Shape, known_ge
from staticad.tensor import Array, ArrayLike, Axes, DType, Scalar, Tensor, Weak, wrap

# ---- values


def is_scalar(x: object) -> TypeGuard[Scalar]:
    """Whether ``x`` is a weak scalar: a Python number or a symbolic dimension, which never widens within its kind."""
    return isinstance(x, (bool, int, float, Expr)) and not isinstance(x, np.generic)


def constant_array(x: ArrayLike, name: str | None = None) -> Array:
    """The array that a constant is, or `DTypeError`."""
    if np.ma.is_masked(x):
        raise DTypeError("a masked array is no constant; fill it first, with .filled(value)")
    found = np.asarray(x)
    if found.dtype.kind == "O":
        way = "; nests of them are tuples, lists and dicts" if isinstance(x, Iterable) else ""
        raise DTypeError(f"{type(x).__name__} {x!r} is no tensor, number or array of numbers{way}")
    return found.astype(as_dtype(found.dtype), order="C", copy=True)


def constant_node(x: ArrayLike, dtype: np.dtype[Any] | None = None, name: str | None = None) -> Node:
    """``x``, no tensor, as a node: a `full` where it has no axes, else a private copy."""
    if is_scalar(x):
        return scalar_node(x, dtype or weak_dtype(x), ())
    found = constant_array(x)
    if dtype is not None:
        found = found.astype(dtype)
    if found.ndim == 0:
        return creation.full(value=found.item(), shape=(), dtype=found.dtype)
    return sources.data(storage=sources.Storage(found, name, True))


def weak_dtype(x: Scalar) -> np.dtype[Any]:
    return int64 if isinstance(x, Expr) else np.result_type(x)


def scalar_node(x: Scalar, dtype: np.dtype[Any], shape: Shape) -> Node:
    """A `full` of ``x``; `DTypeError` where the integer does not fit the dtype."""
    if dtype.kind in "iu" and isinstance(x, int):
        bounds = np.iinfo(dtype)
        if not bounds.min <= x <= bounds.max:
            raise DTypeError(f"the Python integer {x} is out of bounds for {dtype}; use a wider dtype")
    if not isinstance(x, Expr):
        x = bool(x) if dtype.kind == "b" else int(x) if dtype.kind in "iu" else float(x)
    return creation.full(value=x, shape=shape, dtype=dtype)


def as_tensor(x: ArrayLike) -> Tensor:
    """``x`` as a tensor; a tensor is returned as it is."""
    return x if isinstance(x, Tensor) else Tensor(constant_node(x))


def as_float(name: str, x: ArrayLike) -> Tensor:
    """``x`` as a floating tensor, by NumPy's rule for functions of real numbers."""
    t = as_tensor(x)
    return wrap(convert(t.node, resolve(name, np.sin, (t,))[0]))


def convert(x: Node, dtype: np.dtype[Any]) -> Node:
    return x if x.dtype == dtype else creation.astype(x, dtype=dtype)


def type_text(x: ArrayLike) -> str:
    """How messages name an operand: its type, or the Python number itself."""
    if isinstance(x, Tensor):
        return str(x.node.type)
    if is_scalar(x):
        return str(x)
    found = np.asarray(x)
    return str(ArrayType(found.dtype, found.shape)) if found.dtype.kind in "biuf" else f"{type(x).__name__} {x!r}"


def types_text(xs: Sequence[ArrayLike], joint: str = " and ") -> str:
    return joint.join(map(type_text, xs))


# ---- promotion


def weak(x: ArrayLike) -> Any:
    """What NumPy's promotion looks at: a dtype, or a Python type for a weak scalar."""
    if isinstance(x, Tensor):
        return float if isinstance(x, Weak) else x.node.type.dtype
    if is_scalar(x):
        return bool_ if isinstance(x, bool) else float if isinstance(x, float) else int
    return constant_array(x).dtype


def kinds(xs: Sequence[ArrayLike]) -> list[Any]:
    """What promotion looks at for each operand. Where all are weak, traced floats have a dtype after all."""
    found = [weak(x) for x in xs]
    if not any(isinstance(kind, np.dtype) for kind in found):
        return [x.node.type.dtype if isinstance(x, Tensor) else kind for x, kind in zip(xs, found, strict=True)]
    return found


@lru_cache(maxsize=4096)
def _resolved(ufunc: np.ufunc, given: tuple[Any, ...]) -> tuple[np.dtype[Any], ...]:
    found = ufunc.resolve_dtypes((*given, *([None] * ufunc.nout)))
    # float16 is what NumPy computes small integers in; the narrowest float there is here holds them as well.
    return tuple(float32 if d == np.float16 else d for d in found)


def resolve(name: str, ufunc: np.ufunc, xs: Sequence[ArrayLike]) -> tuple[np.dtype[Any], ...]:
    """The dtype that each operand is converted to, and that of the result: NumPy 2's for ``ufunc``. Raises
    `DTypeError`.
    """
    try:
        return _resolved(ufunc, tuple(kinds(xs)))
    except TypeError as error:
        if isinstance(error, DTypeError):
            raise
        raise DTypeError(f"{name}: does not take {types_text(xs)}; convert with astype") from error


def common_dtype(*xs: ArrayLike) -> np.dtype[Any]:
    """NumPy 2's promotion of the operands, Python scalars being weak."""
    return as_dtype(promote(*((1.0 if k is float else 1 if k is int else k) for k in kinds(xs))))


def promoted(*xs: ArrayLike) -> list[Tensor]:
    """The operands as tensors of their common dtype."""
    dtype = common_dtype(*xs)
    return [wrap(convert(x.node, dtype)) if isinstance(x, Tensor) else Tensor(constant_node(x, dtype)) for x in xs]


# ---- broadcasting


def differ(x: Dim, y: Dim) -> bool:
    """Whether two dimensions are known to differ whatever the sizes are."""
    return x != y and (isinstance(x - y, int) or known_ge(x, y + 1) or known_ge(y, x + 1))


def same_size(x: Dim, y: Dim, say: Callable[[], str]) -> Dim:
    """The size that both dimensions have, or are taken to have; `ShapeError` where they are known to differ."""
    if x == y:
        return x
    if differ(x, y):
        raise ShapeError(f"{say()}: {x} != {y}")
    return y if isinstance(y, int) else x


def broadcast_shape(say: Callable[[], str], *shapes: Shape) -> Shape:
    """The shape that all ``shapes`` broadcast to. A static 1 stretches; a symbolic size never does."""
    out: list[Dim] = []
    for k in range(-max(map(len, shapes), default=0), 0):
        size: Dim = 1
        for shape in shapes:
            if len(shape) >= -k and shape[k] != 1:
                size = shape[k] if size == 1 else same_size(size, shape[k], say)
        out.append(size)
    return tuple(out)


def assume(x: Node, shape: Shape, say: Callable[[], str]) -> Node:
    """``x`` taken to have ``shape``, which is checked at run time where it is not what is known."""
    return x if x.shape == shape else sources.assume_shape(x, shape=shape, said=sources.Said(say()))


def fit(x: Node, shape: Shape, say: Callable[[], str]) -> Node:
    """``x`` stretched to ``shape``, which it broadcasts to."""
    if x.shape == shape:
        return x
    offset = len(shape) - len(x.shape)
    x = assume(x, tuple(1 if d == 1 else s for d, s in zip(x.shape, shape[offset:], strict=True)), say)
    return x if x.shape == shape else views.broadcast(x, shape=shape, axes=tuple(range(offset, len(shape))))


def operands(
    name: str, xs: Sequence[ArrayLike], dtypes: Sequence[np.dtype[Any]], joint: str = " and "
) -> tuple[Node, ...]:
    """The operands as nodes of the given dtypes and of one shape."""
    nodes = [None if is_scalar(x) else as_tensor(x).node for x in xs]

    def say() -> str:
        return f"{name}: {types_text(xs, joint)}"

    shape = broadcast_shape(say, *(x.shape for x in nodes if x is not None))
    return tuple(
        scalar_node(x, dtype, shape) if is_scalar(x) else fit(convert(as_node(node), dtype), shape, say)
        for x, node, dtype in zip(xs, nodes, dtypes, strict=False)
    )


def check_function(name: str, f: object, role: str = "") -> None:
    """Raise `GraphError` unless ``f``, which ``name`` takes in this role, can be called."""
    if not callable(f):
        role = f" as {role}" if role else ""
        raise GraphError(f"{name}: takes a function{role}, not {repr_of(f)}; give the function itself, f and not f(x)")


def as_node(x: Node | None) -> Node:
    assert x is not None
    return x


def add_axes(x: Node, shape: Shape, axes: tuple[int, ...]) -> Node:
    """``x`` with new axes of size 1: those of ``shape`` that are not in ``axes``."""
    return x if x.shape == shape else views.broadcast(x, shape=shape, axes=axes)


# ---- axes


def as_integer(say: str, x: Any) -> int:
    """An integer known when the graph is built, or `DTypeError`."""
    try:
        return operator.index(x)
    except TypeError as error:
        raise DTypeError(f"{say} is an integer, not {x!r}") from error


def as_axis(name: str, axis: Any, ndim: int, t: ArrayType) -> int:
    """A non-negative axis, or `AxisError`."""
    k = as_integer(f"{name}: an axis", axis)
    if not -ndim <= k < ndim:
        raise AxisError(f"{name}: axis {k} is out of range for {t}, which has {t.ndim} axes")
    return k % ndim


def as_axes(name: str, axis: Axes, t: ArrayType, ndim: int | None = None) -> tuple[int, ...]:
    """Non-negative axes in the order given, all of them for None. `AxisError` out of range, `ShapeError` when
    repeated.
    """
    ndim = t.ndim if ndim is None else ndim
    if axis is None:
        return tuple(range(ndim))
    found = tuple(as_axis(name, k, ndim, t) for k in (axis if isinstance(axis, (tuple, list, range)) else (axis,)))
    if len(set(found)) < len(found):
        raise ShapeError(f"{name}: repeated axis in {axis} for {t}")
    return found


def optional_dtype(dtype: DType | None, name: str) -> np.dtype[Any] | None:
    return None if dtype is None else as_dtype(dtype, name)


def result_type(*xs: ArrayLike | np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that the operands (tensors, arrays, dtypes, and Python scalars, which are weak) are promoted to."""
    return common_dtype(*(np.empty((), x) if isinstance(x, np.dtype) else x for x in xs))
