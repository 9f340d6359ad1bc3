"""Reductions over axes and running reductions along one; knows views and elementwise ops, no loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from staticad.dtypes import is_floating
from staticad.errors import AxisError, ShapeError
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import Reduce
from staticad.ops.creation import astype, fill
from staticad.ops.logic import equal
from staticad.ops.rules import accumulate, lanewise, linear, no_jvp, no_vjp, require_kind, same_types
from staticad.ops.views import Array, Ints, broadcast, flip, sample, shift
from staticad.shapes import Shape


def kept_axes(rank: int, axes: Ints) -> Ints:
    """The axes that a reduction over ``axes`` leaves."""
    return tuple(a for a in range(rank) if a not in axes)


def _check_axes(name: str, x: ArrayType, axes: Ints) -> None:
    if list(axes) != sorted(set(axes)) or any(not 0 <= a < x.ndim for a in axes):
        raise AxisError(f"{name}: axes={axes} of {x} must be sorted, each once, and from 0 to below {x.ndim}")


def reduced_type(name: str, kinds: str, x: ArrayType, axes: Ints) -> ArrayType:
    """``x`` without ``axes``. Raises `DTypeError` or `AxisError`."""
    require_kind(name, kinds, x)
    _check_axes(name, x, axes)
    return ArrayType(x.dtype, tuple(x.shape[a] for a in kept_axes(x.ndim, axes)))


def restore(y: Node, shape: Shape, axes: Ints) -> Node:
    """A reduced value repeated over the ``axes`` that were reduced from ``shape``."""
    return broadcast(y, shape=shape, axes=kept_axes(len(shape), axes))


def number(value: float) -> Callable[[Any], str]:
    """A start value, as a literal of the dtype's kind."""
    return lambda dtype: repr(float(value)) if is_floating(dtype) else str(int(value))


def lowest(dtype: np.dtype[Any]) -> float:
    return np.iinfo(dtype).min if dtype.kind in "iu" else -np.inf


def highest(dtype: np.dtype[Any]) -> float:
    return np.iinfo(dtype).max if dtype.kind in "iu" else np.inf


#: How reductions and running ones are batched: over the same axes, counted from behind the lanes.
ALONG_AXES = lanewise(lambda params, lanes: {"axes": tuple(len(lanes) + a for a in params["axes"])})
ALONG_AXIS = lanewise(lambda params, lanes: {"axis": len(lanes) + params["axis"]})


def _several_axes(dtype: str = "float64") -> Iterable[Example]:
    yield Example((sample(5, dtype=dtype),), {"axes": (0,)})
    yield Example((sample(2, 3, 4, dtype=dtype),), {"axes": (0, 2)})
    yield Example((sample(2, 3, dtype=dtype),), {"axes": (1,)})
    yield Example((sample(2, 3, dtype=dtype),), {"axes": ()})
    yield Example((sample(dtype=dtype),), {"axes": ()})


# sum ------------------------------------------------------------------------------------------------------------------


def _sum_type(x: ArrayType, *, axes: Ints) -> ArrayType:
    return reduced_type("sum", "fiu", x, axes)


def _sum_numpy(x: Array, *, axes: Ints) -> Any:
    return np.sum(x, axis=axes, dtype=x.dtype)


def _sum_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    return [restore(g, node.args[0].shape, node.params["axes"])]


def _sum_examples() -> Iterable[Example]:
    yield from _several_axes()
    yield Example((sample(0, 3, dtype="float32"),), {"axes": (0,)})
    yield Example((np.arange(6).reshape(2, 3),), {"axes": (0,)}, smooth=False)


#: The sum over ``axes``, which the result does not have; 0 over no elements. The dtype stays.
sum_ = linear(
    "sum",
    _sum_numpy,
    Reduce(number(0), "m.radd({acc}, {x})", part=number(-0.0)),
    _sum_type,
    _sum_transpose,
    batch=ALONG_AXES,
    examples=_sum_examples,
)


# prod -----------------------------------------------------------------------------------------------------------------


def _prod_type(x: ArrayType, *, axes: Ints) -> ArrayType:
    return reduced_type("prod", "fiu", x, axes)


def _prod_numpy(x: Array, *, axes: Ints) -> Any:
    return np.prod(x, axis=axes, dtype=x.dtype)


def _others(x: Node, axes: Ints) -> Node:
    """For each element the product of the others over ``axes``; without a division, so exact at zeros."""
    if not axes:
        return fill(x, 1)
    axis = axes[-1]
    before = cumprod(shift(x, axis, 1), axis=axis)
    after = flip(cumprod(shift(flip(x, axis), axis, 1), axis=axis), axis)
    others = before * after
    if axes[:-1]:
        # The axes come off from the last, so those that remain keep their numbers.
        others = others * restore(_others(prod(x, axes=(axis,)), axes[:-1]), x.shape, (axis,))
    return others


def _prod_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    (x,), axes = node.args, node.params["axes"]
    return [restore(g, x.shape, axes) * _others(x, axes)]


def _prod_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    (x,), axes = node.args, node.params["axes"]
    (t,) = tangents
    return None if t is None else sum_(t * _others(x, axes), axes=axes)


def _prod_examples() -> Iterable[Example]:
    yield from _several_axes()
    yield Example((np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 1.5]]),), {"axes": (1,)})
    yield Example((np.array([[2.0, 0.0, 3.0], [1.0, 4.0, 1.5]]),), {"axes": (0, 1)})
    yield Example((sample(0, 3, dtype="float32"),), {"axes": (0,)})
    yield Example((np.arange(1, 7).reshape(2, 3),), {"axes": (0,)}, smooth=False)


#: The product over ``axes``; 1 over no elements. Its derivative is the product of the other elements, exact at zeros.
prod = Op(
    name="prod",
    infer=_prod_type,
    numpy=_prod_numpy,
    lower=Reduce(number(1), "m.rmul({acc}, {x})"),
    vjp=_prod_vjp,
    jvp=_prod_jvp,
    batch=ALONG_AXES,
    examples=_prod_examples,
)


# max and min ----------------------------------------------------------------------------------------------------------


def _extremum(name: str, meaning: Callable[..., Any], start: Callable[[Any], float], step: str) -> Op:
    """The largest or smallest element, NaN where there is one; ties share the gradient evenly, as in ``torch.amax``."""

    def infer(x: ArrayType, *, axes: Ints) -> ArrayType:
        out = reduced_type(name, "fiu", x, axes)
        if any(x.shape[a] == 0 for a in axes):
            raise ShapeError(f"{name}: {x} has no elements along axes {axes}, so there is no {name}; give it some")
        return out

    def numpy(x: Array, *, axes: Ints) -> Any:
        # A symbolic size may be 0 at call time; native code then gives its start value, and so does this.
        return meaning(x, axis=axes, initial=start(x.dtype))

    def init(dtype: np.dtype[Any]) -> str:
        return str(start(dtype)).replace("inf", "np.inf")

    def winners(node: Node) -> tuple[Node, Node]:
        """1 where an element is the result, else 0; and how many there are."""
        (x,), axes = node.args, node.params["axes"]
        mask = astype(equal(x, restore(node, x.shape, axes)), dtype=x.dtype)
        return mask, sum_(mask, axes=axes)

    def vjp(node: Node, g: Node) -> Sequence[Node | None]:
        mask, count = winners(node)
        return [restore(g / count, mask.shape, node.params["axes"]) * mask]

    def jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
        (t,) = tangents
        if t is None:
            return None
        mask, count = winners(node)
        return sum_(t * mask, axes=node.params["axes"]) / count

    def examples() -> Iterable[Example]:
        yield from _several_axes()
        yield Example((np.array([[1.0, 3.0, 3.0], [-2.0, -2.0, -2.0]]),), {"axes": (1,)}, smooth=False)
        yield Example((np.array([[1.0, np.nan], [np.inf, -np.inf]], "float32"),), {"axes": (1,)}, smooth=False)
        yield Example((np.array([[3, -7], [2, 5]]),), {"axes": (0,)}, smooth=False)

    return Op(
        name=name,
        infer=infer,
        numpy=numpy,
        lower=Reduce(init, step),
        vjp=vjp,
        jvp=jvp,
        laws=("selective",),
        batch=ALONG_AXES,
        examples=examples,
    )


max_ = _extremum("max", np.max, lowest, "m.rmax({acc}, {x})")
min_ = _extremum("min", np.min, highest, "m.rmin({acc}, {x})")


# any and all ----------------------------------------------------------------------------------------------------------


def _logical(name: str, meaning: Callable[..., Any], start: str, step: str) -> Op:
    def infer(x: ArrayType, *, axes: Ints) -> ArrayType:
        return reduced_type(name, "b", x, axes)

    def numpy(x: Array, *, axes: Ints) -> Any:
        return meaning(x, axis=axes)

    def examples() -> Iterable[Example]:
        x = np.array([[True, False, True], [True, True, True], [False, False, False]])
        yield Example((x,), {"axes": (1,)}, smooth=False)
        yield Example((x,), {"axes": (0, 1)}, smooth=False)
        yield Example((np.zeros((2, 0), bool),), {"axes": (1,)}, smooth=False)

    return Op(
        name=name,
        infer=infer,
        numpy=numpy,
        lower=Reduce(lambda dtype: start, step),
        vjp=no_vjp,
        jvp=no_jvp,
        laws=("selective",),
        batch=ALONG_AXES,
        examples=examples,
        differentiable=False,
    )


any_ = _logical("any", np.any, "False", "m.radd({acc}, {x})")
all_ = _logical("all", np.all, "True", "m.rmul({acc}, {x})")


# running reductions ---------------------------------------------------------------------------------------------------


def running_type(name: str, *types: ArrayType, axis: int) -> ArrayType:
    """The operands' type. Raises `DTypeError`, `ShapeError` or `AxisError`."""
    require_kind(name, "fiu", *types)
    x = same_types(name, *types)
    if not 0 <= axis < x.ndim:
        raise AxisError(f"{name}: axis={axis} of {x} must be from 0 to below {x.ndim}")
    return x


def _one_axis() -> Iterable[Example]:
    yield Example((sample(5),), {"axis": 0})
    yield Example((sample(2, 3, 2),), {"axis": 1})
    yield Example((sample(3, 0, dtype="float32"),), {"axis": 1})
    yield Example((np.array([[3, -7], [2, 5]]),), {"axis": 0}, smooth=False)


def _cumsum_type(x: ArrayType, *, axis: int) -> ArrayType:
    return running_type("cumsum", x, axis=axis)


def _cumsum_numpy(x: Array, *, axis: int) -> Any:
    return np.cumsum(x, axis=axis, dtype=x.dtype)


def _cumsum_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    axis = node.params["axis"]
    return [flip(cumsum(flip(g, axis), axis=axis), axis)]


#: Element j is the sum of the elements up to j along ``axis``.
cumsum = linear(
    "cumsum",
    _cumsum_numpy,
    Reduce(number(0), "{acc} + {x}", running=True),
    _cumsum_type,
    _cumsum_transpose,
    batch=ALONG_AXIS,
    examples=_one_axis,
)


def _cumprod_type(x: ArrayType, *, axis: int) -> ArrayType:
    return running_type("cumprod", x, axis=axis)


def _cumprod_numpy(x: Array, *, axis: int) -> Any:
    return np.multiply.accumulate(x, axis=axis, dtype=x.dtype)


def _cumprod_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    (x,), axis = node.args, node.params["axis"]
    return [shift(node, axis, 1) * _recurrence_adjoint(x, g, axis)]


def _cumprod_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    (x,), axis = node.args, node.params["axis"]
    (t,) = tangents
    return None if t is None else recurrence(x, shift(node, axis, 1) * t, axis=axis)


def _cumprod_examples() -> Iterable[Example]:
    yield from _one_axis()
    yield Example((np.array([2.0, 0.0, 3.0, 0.0, 5.0]),), {"axis": 0})


#: Element j is the product of the elements up to j along ``axis``: p_j = x_j p_{j-1}, so its derivatives recur.
cumprod = Op(
    name="cumprod",
    infer=_cumprod_type,
    numpy=_cumprod_numpy,
    lower=Reduce(number(1), "{acc} * {x}", running=True),
    vjp=_cumprod_vjp,
    jvp=_cumprod_jvp,
    batch=ALONG_AXIS,
    examples=_cumprod_examples,
)


def _recurrence_type(a: ArrayType, b: ArrayType, *, axis: int) -> ArrayType:
    return running_type("recurrence", a, b, axis=axis)


def _recurrence_numpy(a: Array, b: Array, *, axis: int) -> Any:
    out: Any = b.copy()
    a, steps = np.moveaxis(a, axis, 0), np.moveaxis(out, axis, 0)
    for j in range(1, len(steps)):
        steps[j] += a[j] * steps[j - 1]
    return out


def _recurrence_adjoint(a: Node, g: Node, axis: int) -> Node:
    """s_j = g_j + a_{j+1} s_{j+1}, the cotangent of b_j: the recurrence backwards, with a shifted by one."""
    return flip(recurrence(shift(flip(a, axis), axis, 0), flip(g, axis), axis=axis), axis)


def _recurrence_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    axis = node.params["axis"]
    s = _recurrence_adjoint(node.args[0], g, axis)
    return [s * shift(node, axis, 0), s]


def _recurrence_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    a, axis = node.args[0], node.params["axis"]
    ta, tb = tangents
    drive = accumulate([None if ta is None else ta * shift(node, axis, 0), tb])
    return None if drive is None else recurrence(a, drive, axis=axis)


def _recurrence_examples() -> Iterable[Example]:
    yield Example((sample(5), sample(5, seed=1)), {"axis": 0})
    yield Example((sample(2, 3, 2), sample(2, 3, 2, seed=2)), {"axis": 1})
    yield Example((sample(0, 2, dtype="float32"), sample(0, 2, dtype="float32")), {"axis": 0})


#: h_j = a_j h_{j-1} + b_j along ``axis``, from h_{-1} = 0.
recurrence = Op(
    name="recurrence",
    infer=_recurrence_type,
    numpy=_recurrence_numpy,
    lower=Reduce(number(0), "{x} * {acc} + {y}", running=True, cost=2),
    vjp=_recurrence_vjp,
    jvp=_recurrence_jvp,
    batch=ALONG_AXIS,
    examples=_recurrence_examples,
)
