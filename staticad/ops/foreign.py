"""Functions of the user's in graphs: of elements, and of arrays; knows nothing of what they compute.

They have no derivative here: those that the user gives are the call's around them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from staticad.errors import ShapeError
from staticad.foreign import Foreign, mapped
from staticad.ir import ArrayType, Example, Node, Op
from staticad.lowering import LETTERS, Call, Map
from staticad.ops.rules import lanewise, no_jvp, no_vjp, types_text
from staticad.shapes import Shape

Array = np.ndarray[Any, Any]

#: What a function of the user's is taken to cost for each element, in flops: nothing that is done twice.
COST = 200


def _check(types: tuple[ArrayType, ...], function: Foreign) -> None:
    found = tuple((t.dtype, t.ndim) for t in types)
    assert found == function.kinds[:-1], f"{function}: made for other types than {types_text(types)}"


def _map_type(*types: ArrayType, function: Foreign) -> ArrayType:
    for t in types[1:]:
        if t.shape != types[0].shape:
            raise ShapeError(f"{function}: operands of shapes that differ, {types_text(types)}; broadcast them first")
    return ArrayType(function.dtype, types[0].shape)


def _map_code(node: Node) -> str:
    operands = ", ".join(f"{{{name}}}" for name in LETTERS[: len(node.args)])
    return f"user.{node.params['function'].symbol}({operands})"


def _call_type(*types: ArrayType, function: Foreign, shape: Shape) -> ArrayType:
    _check(types, function)
    return ArrayType(function.dtype, shape)


def _call_numpy(*arrays: Array, function: Foreign, shape: tuple[int, ...]) -> Array:
    out = np.empty(shape, function.dtype)
    function.fill(out, *arrays)
    return out


def _hypotenuse(x: Any, y: Any) -> Any:
    return (x * x + y * y) ** 0.5


def _is_large(x: Any) -> Any:
    return x > 1


def _outer_sum(x: Any, k: Any) -> Any:
    out = np.empty((x.shape[0], 3))
    for i in range(x.shape[0]):
        for j in range(3):
            out[i, j] = x[i] + k * j
    return out


def _extremes(x: Any, low: Any, ordered: Any) -> None:
    low[()] = np.min(x)
    ordered[...] = np.sort(x)


def _kind(dtype: str, ndim: int = 0) -> tuple[np.dtype[Any], int]:
    return np.dtype(dtype), ndim


def _map_examples() -> Iterable[Example]:
    x, y = np.linspace(-2.0, 1.5, 6), np.array([1, -2, 0, 3, 5, 4])
    function = Foreign("hypotenuse", _hypotenuse, (_kind("f8"), _kind("i8")), (_kind("f8"),))
    for shape in ((6,), (2, 3)):
        yield Example((x.reshape(shape), y.reshape(shape)), {"function": function})
    function = Foreign("hypotenuse", _hypotenuse, (_kind("f4"), _kind("f8")), (_kind("f4"),))
    yield Example((np.float32(0.5), np.array(-1.5)), {"function": function})
    yield Example((np.zeros((0, 2), "f4"), np.zeros((0, 2))), {"function": function})
    function = Foreign("is_large", _is_large, (_kind("u1"),), (_kind("?"),))
    yield Example((np.array([0, 1, 2, 255], "u1"),), {"function": function})


def _call_examples() -> Iterable[Example]:
    x = np.array([0.5, -1.5, 2.25, 1.0])
    function = Foreign("outer_sum", _outer_sum, (_kind("f8", 1), _kind("i8")), (_kind("f8", 2),))
    yield Example((x, np.array(2)), {"function": function, "shape": (4, 3)})
    yield Example((np.empty(0), np.array(2)), {"function": function, "shape": (0, 3)})
    sizes, results = np.array(4), (_kind("f8"), _kind("f8", 1))
    function = Foreign("extremes", _extremes, (_kind("f8", 1),), results, True, (0, 1))
    yield Example((x, sizes), {"function": function, "shape": (5,)})


def _map_numpy(*arrays: Array, function: Foreign) -> Array:
    return mapped(function, arrays)


def _called(params: Mapping[str, Any]) -> tuple[str, ...]:
    return (f"user.{params['function'].symbol}",)


# fmt: off
#: The function of each element: one from each operand.
custom_map = Op(
    name="custom_map", infer=_map_type, numpy=_map_numpy,
    lower=Map(_map_code, COST), vjp=no_vjp, jvp=no_jvp, examples=_map_examples, differentiable=False,
    batch=lanewise(),
)
#: The function of whole arrays. Lanes of it are done by a loop.
custom_call = Op(
    name="custom_call", infer=_call_type, numpy=_call_numpy,
    lower=Call("foreign", _called), vjp=no_vjp, jvp=no_jvp,
    examples=_call_examples, differentiable=False,
)
# fmt: on
