"""NumPy's functions on tensors: the table from a NumPy function to the one here that builds its graph; knows no ops."""

# ruff: noqa: A002  (the array API's names are Python's)

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any

import numpy as np

from staticad import creation, linalg
from staticad.errors import SymbolicError
from staticad.functions import elementwise as ew
from staticad.functions import indexing, manipulation, products, reductions
from staticad.functions.operands import as_axis, result_type
from staticad.shapes import Dim, Shape
from staticad.tensor import Tensor

# fmt: off
UFUNCS: dict[np.ufunc, Callable[..., Any]] = {
    np.absolute: ew.abs, np.fabs: ew.abs, np.arccos: ew.acos, np.arccosh: ew.acosh, np.arcsin: ew.asin,
    np.arcsinh: ew.asinh, np.arctan: ew.atan, np.arctanh: ew.atanh, np.cbrt: ew.cbrt, np.ceil: ew.ceil, np.cos: ew.cos,
    np.cosh: ew.cosh, np.exp: ew.exp, np.exp2: ew.exp2, np.expm1: ew.expm1, np.floor: ew.floor, np.log: ew.log,
    np.log10: ew.log10, np.log1p: ew.log1p, np.log2: ew.log2, np.negative: ew.negative, np.positive: ew.positive,
    np.reciprocal: ew.reciprocal, np.rint: ew.round, np.sign: ew.sign, np.signbit: ew.signbit, np.sin: ew.sin,
    np.sinh: ew.sinh, np.sqrt: ew.sqrt, np.square: ew.square, np.tan: ew.tan, np.tanh: ew.tanh, np.trunc: ew.trunc,
    np.isfinite: ew.isfinite, np.isinf: ew.isinf, np.isnan: ew.isnan, np.logical_not: ew.logical_not,
    np.invert: ew.bitwise_invert, np.conjugate: ew.positive,
    np.add: ew.add, np.arctan2: ew.atan2, np.bitwise_and: ew.bitwise_and, np.bitwise_or: ew.bitwise_or,
    np.bitwise_xor: ew.bitwise_xor, np.copysign: ew.copysign, np.divide: ew.divide, np.divmod: ew.divmod,
    np.equal: ew.equal, np.float_power: ew.pow, np.floor_divide: ew.floor_divide, np.greater: ew.greater,
    np.greater_equal: ew.greater_equal, np.hypot: ew.hypot, np.left_shift: ew.bitwise_left_shift, np.less: ew.less,
    np.less_equal: ew.less_equal, np.logaddexp: ew.logaddexp, np.logical_and: ew.logical_and,
    np.logical_or: ew.logical_or, np.logical_xor: ew.logical_xor, np.maximum: ew.maximum, np.minimum: ew.minimum,
    np.multiply: ew.multiply, np.nextafter: ew.nextafter, np.not_equal: ew.not_equal, np.power: ew.pow,
    np.remainder: ew.remainder, np.right_shift: ew.bitwise_right_shift, np.subtract: ew.subtract,
    np.matmul: products.matmul, np.vecdot: products.vecdot,
}

REDUCE: dict[np.ufunc, Callable[..., Any]] = {
    np.add: reductions.sum, np.multiply: reductions.prod, np.maximum: reductions.max, np.minimum: reductions.min,
    np.logical_and: reductions.all, np.logical_or: reductions.any, np.logaddexp: reductions.logsumexp,
}

ACCUMULATE: dict[np.ufunc, Callable[..., Any]] = {np.add: reductions.cumsum, np.multiply: reductions.cumprod}

#: NumPy's function, the one here, and how many of its first arguments go by position; the others go by name.
FUNCTIONS: dict[Any, tuple[Callable[..., Any], int]] = {
    np.sum: (reductions.sum, 1), np.prod: (reductions.prod, 1), np.mean: (reductions.mean, 1),
    np.max: (reductions.max, 1), np.min: (reductions.min, 1), np.any: (reductions.any, 1), np.all: (reductions.all, 1),
    np.argmax: (reductions.argmax, 1), np.argmin: (reductions.argmin, 1),
    np.count_nonzero: (reductions.count_nonzero, 1),
    np.cumsum: (reductions.cumsum, 1), np.cumprod: (reductions.cumprod, 1),
    np.vander: (reductions.vander, 2),
    np.cumulative_sum: (reductions.cumulative_sum, 1), np.cumulative_prod: (reductions.cumulative_prod, 1),
    np.var: (reductions.var, 1), np.std: (reductions.std, 1),
    np.broadcast_to: (manipulation.broadcast_to, 2), np.broadcast_arrays: (manipulation.broadcast_arrays, 0),
    np.transpose: (manipulation.transpose, 1), np.matrix_transpose: (manipulation.matrix_transpose, 1),
    np.moveaxis: (manipulation.moveaxis, 3), np.swapaxes: (manipulation.swapaxes, 3),
    np.expand_dims: (manipulation.expand_dims, 1), np.squeeze: (manipulation.squeeze, 1),
    np.flip: (manipulation.flip, 1), np.roll: (manipulation.roll, 2), np.stack: (manipulation.stack, 1),
    np.unstack: (manipulation.unstack, 1), np.tile: (manipulation.tile, 2), np.repeat: (manipulation.repeat, 2),
    np.pad: (manipulation.pad, 3), np.tril: (manipulation.tril, 1), np.triu: (manipulation.triu, 1),
    np.diagonal: (manipulation.diagonal, 1), np.round: (ew.round, 1), np.astype: (ew.astype, 2),
    np.take: (indexing.take, 2), np.take_along_axis: (indexing.take_along_axis, 2),
    np.tensordot: (products.tensordot, 2), np.outer: (products.outer, 2),
    np.linspace: (creation.linspace, 3), np.zeros_like: (creation.zeros_like, 1), np.ones_like: (creation.ones_like, 1),
    np.empty_like: (creation.empty_like, 1), np.full_like: (creation.full_like, 2), np.meshgrid: (creation.meshgrid, 0),
    np.linalg.norm: (linalg.norm, 4), np.linalg.vector_norm: (linalg.vector_norm, 1),
    np.linalg.cross: (linalg.cross, 2),
    np.linalg.matmul: (products.matmul, 2), np.linalg.outer: (products.outer, 2),
    np.linalg.tensordot: (products.tensordot, 2), np.linalg.vecdot: (products.vecdot, 2),
    np.linalg.trace: (linalg.trace, 1), np.linalg.diagonal: (linalg.diagonal, 1),
    np.linalg.matrix_norm: (linalg.matrix_norm, 1), np.linalg.matrix_transpose: (manipulation.matrix_transpose, 1),
    np.linalg.matrix_power: (linalg.matrix_power, 2),
    np.linalg.cholesky: (linalg.cholesky, 1), np.linalg.solve: (linalg.solve, 2), np.linalg.inv: (linalg.inv, 1),
    np.linalg.det: (linalg.det, 1), np.linalg.slogdet: (linalg.slogdet, 1),
}

#: Where NumPy's name of an argument is not the one here.
RENAMED = {"ddof": "correction"}
# fmt: on


def _concatenate(arrays: Sequence[Any], /, axis: int | None = 0, *, dtype: Any = None) -> Tensor:
    return manipulation.concat(arrays, axis=axis, dtype=dtype)


def _where(condition: Any, x: Any = None, y: Any = None, /) -> Tensor:
    if x is None or y is None:
        raise SymbolicError("np.where of a condition alone has a data-dependent shape; give np.where(condition, x, y)")
    return ew.where(condition, x, y)


def _clip(a: Any, a_min: Any = None, a_max: Any = None, *, min: Any = None, max: Any = None) -> Tensor:
    return ew.clip(a, a_min if min is None else min, a_max if max is None else max)


def _reshape(a: Any, /, shape: Any, *, copy: bool | None = None) -> Tensor:
    return manipulation.reshape(a, shape)


def _ravel(a: Any) -> Tensor:
    return manipulation.reshape(a, -1)


def _einsum(subscripts: str, /, *operands: Any, optimize: object = False) -> Tensor:
    return products.einsum(subscripts, *operands)


def _trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    return reductions.sum(manipulation.diagonal(a, offset=offset, axis1=axis1, axis2=axis2), axis=-1, dtype=dtype)


def _atleast_1d(x: Any) -> Tensor:
    t = creation.asarray(x)
    return t if t.ndim else manipulation.reshape(t, (1,))


def _vstack(arrays: Sequence[Any]) -> Tensor:
    ts = [_atleast_1d(x) for x in arrays]
    return manipulation.concat([manipulation.expand_dims(t) if t.ndim == 1 else t for t in ts])


def _hstack(arrays: Sequence[Any]) -> Tensor:
    ts = [_atleast_1d(x) for x in arrays]
    return manipulation.concat(ts, axis=0 if ts[0].ndim == 1 else 1)


def _flip_axis(axis: int) -> Callable[[Any], Tensor]:
    return lambda m: manipulation.flip(m, axis=axis)


# No `operator.attrgetter`, which has no signature to be held against what NumPy was given.
def _shape(a: Tensor) -> Shape:
    return a.shape


def _ndim(a: Tensor) -> int:
    return a.ndim


def _size(a: Tensor, axis: int | None = None) -> Dim:
    return a.size if axis is None else a.shape[as_axis("size", axis, a.ndim, a.node.type)]


#: NumPy's functions whose arguments are read here as NumPy has them.
DIRECT: dict[Any, Callable[..., Any]] = {
    np.concatenate: _concatenate,
    np.where: _where,
    np.clip: _clip,
    np.reshape: _reshape,
    np.ravel: _ravel,
    np.einsum: _einsum,
    np.dot: products.dot,
    np.trace: _trace,
    np.vstack: _vstack,
    np.hstack: _hstack,
    np.fliplr: _flip_axis(1),
    np.flipud: _flip_axis(0),
    np.atleast_1d: _atleast_1d,
    np.copy: ew.positive,
    np.shape: _shape,
    np.ndim: _ndim,
    np.size: _size,
    np.result_type: result_type,
}


def _missing(what: str) -> SymbolicError:
    return SymbolicError(
        f"{what} has no staticad counterpart, so it cannot be used on a tensor while the graph is built; "
        "compose it of the functions of staticad, or apply it to the compiled function's result"
    )


@cache
def _signature(func: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(func)


def call_function(func: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """NumPy's function ``func`` on arguments of which one at least is a tensor. Raises `SymbolicError` for an
    unknown one.
    """
    name = f"np.{func.__name__}"
    if func in DIRECT:
        given = {k: v for k, v in kwargs.items() if not _unset(v)}
        return _called(name, DIRECT[func], args, given)
    if func not in FUNCTIONS:
        raise _missing(name)
    ours, positional = FUNCTIONS[func]
    if positional:
        bound = _signature(func).bind(*args, **kwargs)
        first = bound.args[:positional]
        named = list(bound.arguments.items())[len(first) :]
    else:
        first, named = args, list(kwargs.items())
    given: dict[str, Any] = {}
    for key, value in named:
        if key == "kwargs":
            given.update(value)
        elif not _unset(value):
            given[RENAMED.get(key, key)] = value
    return _called(name, ours, first, given)


def _unset(value: Any) -> bool:
    return value is None or value is np._NoValue  # pyright: ignore


def _called(name: str, ours: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    try:
        _signature(ours).bind(*args, **kwargs)
    except TypeError as error:
        raise SymbolicError(f"{name} on a tensor: {error} (of those NumPy takes)") from error
    return ours(*args, **kwargs)


def call_ufunc(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    """A NumPy ufunc on operands of which one at least is a tensor. Raises `SymbolicError` for what has no
    counterpart.
    """
    name = f"np.{ufunc.__name__}" if method == "__call__" else f"np.{ufunc.__name__}.{method}"
    if kwargs.get("out") is not None:
        raise SymbolicError(
            f"{name}: a symbolic tensor cannot be written into a NumPy array; "
            "write y = array + tensor, not array += tensor"
        )
    given = {k: v for k, v in kwargs.items() if not _unset(v)}
    if method == "reduce" and ufunc in REDUCE:
        x, axis = inputs[0], given.pop("axis", 0) if "axis" not in kwargs else kwargs["axis"]
        given.pop("axis", None)
        return _called(name, REDUCE[ufunc], (x,), {**given, "axis": axis})
    if method == "accumulate" and ufunc in ACCUMULATE:
        return _called(name, ACCUMULATE[ufunc], inputs, {"axis": 0, **given})
    if method == "outer" and ufunc in UFUNCS:
        x, y = (creation.asarray(v) for v in inputs)
        return UFUNCS[ufunc](manipulation.reshape(x, x.shape + (1,) * y.ndim), y)
    if method != "__call__" or ufunc not in UFUNCS:
        raise _missing(name)
    return _called(name, UFUNCS[ufunc], inputs, given)
