"""Where values enter a graph, and identities that say something about a value; knows no arithmetic."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from staticad.errors import GraphError, ShapeError
from staticad.ir import ArrayType, Cell, Check, Example, Node, Op
from staticad.lowering import Read, Source, View
from staticad.ops.rules import lanewise, no_jvp, no_vjp
from staticad.shapes import Dim, Shape, known_ge, shape_text

Array = np.ndarray[Any, Any]


@dataclass(eq=False)
class Storage:
    """An array that compiled functions get as a hidden argument: a parameter's value, or a constant."""

    array: Array
    name: str | None = None
    constant: bool = False


def _input_type(*, name: str, source: object, type: ArrayType) -> ArrayType:  # noqa: A002
    return type


def _no_value(*, name: str, source: object, type: ArrayType) -> Array:  # noqa: A002
    raise GraphError(f"input {name!r} of type {type} has no value; give one where the graph is evaluated")


def _data_type(*, storage: Storage) -> ArrayType:
    return ArrayType(storage.array.dtype, storage.array.shape)


def _data_examples() -> Iterable[Example]:
    for dtype in ("float32", "float64", "int8", "int64", "uint8", "bool"):
        yield Example((), {"storage": Storage(np.arange(6).reshape(2, 3).astype(dtype), constant=True)}, smooth=False)


input_ = Op(
    name="input",
    infer=_input_type,
    numpy=_no_value,
    lower=Source(),
    vjp=no_vjp,
    jvp=no_jvp,
)

data = Op(
    name="data",
    infer=_data_type,
    numpy=lambda *, storage: storage.array,
    lower=Source(),
    vjp=no_vjp,
    jvp=no_jvp,
    examples=_data_examples,
)


def _same_element(node: Node, index: tuple[Dim, ...]) -> Read:
    return Read(tuple[Any, ...](index))


SAME = View(_same_element, alias=True)


def _leaf_type(x: ArrayType, *, cell: Cell) -> ArrayType:
    return x


def _sample(dtype: str = "float64") -> Array:
    return np.array([[1.5, -2.0, 0.25], [3.0, -0.5, 1.0]], dtype)


# A tensor the user made a leaf: differentiation ends here, in both modes, as it does at an input. Many of it
# are nobody's leaf, but it ends there as well.
leaf = Op(
    name="leaf",
    infer=_leaf_type,
    numpy=lambda x, *, cell: x,
    lower=SAME,
    vjp=no_vjp,
    jvp=no_jvp,
    examples=lambda: [Example((_sample(),), {"cell": Cell()}, smooth=False)],
    differentiable=False,
    batch=lambda node, operands, batched, lanes: stop_gradient(*operands),
)

stop_gradient = Op(
    name="stop_gradient",
    infer=lambda x: x,
    numpy=lambda x: x,
    lower=SAME,
    vjp=no_vjp,
    jvp=no_jvp,
    examples=lambda: [Example((_sample(dtype),), smooth=False) for dtype in ("float32", "float64", "int64")],
    differentiable=False,
    batch=lanewise(),
)


@dataclass(frozen=True)
class Said:
    """What an error says of the operation that takes two sizes to be equal; to all else it is no matter what."""

    text: str = field(compare=False)

    def __str__(self) -> str:
        return self.text


def _assumed_type(x: ArrayType, *, shape: Shape, said: Said | None = None) -> ArrayType:
    differ = len(shape) != x.ndim or any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(x.shape, shape, strict=True)
    )
    if differ:
        raise ShapeError(f"assume_shape: {x} cannot have the shape {shape_text(shape)}; reshape it instead")
    return ArrayType(x.dtype, shape)


def _checked_shape(x: Array, *, shape: tuple[int, ...], said: Said | None = None) -> Array:
    if x.shape != shape:
        raise ShapeError(f"assume_shape: got an array of shape {shape_text(x.shape)}, declared as {shape_text(shape)}")
    return x


def _reshaped(v: Node, shape: Shape, node: Node) -> Node:
    """``v`` with the shape that ``node`` takes something to have, or something to have taken from it."""
    return v if v.shape == shape else assume_shape(v, **{**node.params, "shape": shape})


def _assume_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    return (_reshaped(g, node.args[0].shape, node),)


def _assume_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    t = tangents[0]
    return None if t is None else _reshaped(t, node.shape, node)


def _assumptions(node: Node) -> Sequence[Check]:
    (x,) = node.args
    text = str(node.params.get("said") or f"a tensor of type {x.type} is used as {node.type}")
    return [Check(a, "==", b, text) for a, b in zip(x.shape, node.shape, strict=True) if a != b]


# Two shapes that the algebra of dimensions cannot prove equal; the compiled function compares them on entry.
assume_shape = Op(
    name="assume_shape",
    infer=_assumed_type,
    numpy=_checked_shape,
    lower=SAME,
    vjp=_assume_vjp,
    jvp=_assume_jvp,
    checks=_assumptions,
    examples=lambda: [Example((_sample(dtype),), {"shape": (2, 3)}) for dtype in ("float32", "float64")],
    batch=lanewise(lambda params, lanes: {**params, "shape": (*lanes, *params["shape"])}),
)


def _sizes_at_least_one(node: Node) -> Sequence[Check]:
    (x,) = node.args
    text = f"{node.params['what']} of nothing: a tensor of type {x.type}"
    return [Check(x.shape[a], ">=", 1, text) for a in node.params["axes"] if not known_ge(x.shape[a], 1)]


# What follows has no value for an array without elements along ``axes``; the compiled function looks on entry.
nonempty = Op(
    name="nonempty",
    infer=lambda x, *, axes, what: x,
    numpy=lambda x, *, axes, what: x,
    lower=SAME,
    vjp=lambda node, g: (g,),
    jvp=lambda node, tangents: tangents[0],
    checks=_sizes_at_least_one,
    examples=lambda: [Example((_sample(dtype),), {"axes": (0,), "what": "max"}) for dtype in ("float32", "float64")],
    batch=lanewise(lambda params, lanes: {"axes": tuple(len(lanes) + a for a in params["axes"])}),
)


def placeholder(type: ArrayType, name: str = "step") -> Node:  # noqa: A002
    """An input that stands for an operand in a graph inside of a node."""
    return input_(name=name, source=object(), type=type)


def is_input(node: Node) -> bool:
    """Whether a node is an argument that the caller gives."""
    return node.op is input_


def is_data(node: Node) -> bool:
    """Whether a node is an array that the graph holds: a parameter, a state or a constant (``params["storage"]``)."""
    return node.op is data


def is_leaf(node: Node) -> bool:
    """Whether a node is marked as a leaf that requires grad."""
    return node.op is leaf


def unmarked(node: Node) -> Node:
    """The node below the mark that makes it a leaf, or the node itself."""
    while node.op is leaf:
        node = node.args[0]
    return node
