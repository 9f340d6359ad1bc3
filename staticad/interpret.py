"""A graph computed node by node with each op's NumPy meaning: for looking at values, and the tests' oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.ir import Body, Branches, Node, toposort
from staticad.lowering import Map, Reduce, View
from staticad.shapes import Dim, Expr, Shape, Symbol, evaluate, symbols

Array = np.ndarray[Any, Any]


def bind(
    declared: Sequence[tuple[str, Shape, tuple[int, ...]]], known: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The size of each symbolic dimension, from (name, declared shape, actual shape) of the inputs.

    ``known`` are sizes of others.

    Raises `ShapeError`.
    """
    sizes = dict(known or {})
    for name, shape, actual in declared:
        if len(shape) != len(actual):
            raise ShapeError(f"input {name!r}: expects {len(shape)} dimensions {_text(shape)}, got the shape {actual}")
        for d, size in zip(shape, actual, strict=True):
            key = plain_symbol(d)
            if key is not None and sizes.setdefault(key.name, size) != size:
                raise ShapeError(
                    f"input {name!r}: expects the shape {_text(shape)}, got {actual}: "
                    f"{key.name!r} is {sizes[key.name]} in an earlier place and {size} here"
                )
    for name, shape, actual in declared:
        for axis, (d, size) in enumerate(zip(shape, actual, strict=True)):
            if evaluate(d, sizes) != size:
                raise ShapeError(
                    f"input {name!r}: expects the shape {_text(shape)}, got {actual}: "
                    f"axis {axis} must be {d}{'' if isinstance(d, int) else f' = {evaluate(d, sizes)}'}"
                )
    return sizes


def plain_symbol(d: Dim) -> Symbol | None:
    """The symbol that ``d`` is, where it is nothing but one."""
    found = symbols(d)
    if len(found) == 1:
        (only,) = found
        if d == Expr({((only, 1),): 1}):
            return only
    return None


def _text(shape: Shape) -> str:
    return "(" + ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "") + ")"


def concrete(value: Any, sizes: Mapping[str, int]) -> Any:
    """A parameter of an op with every symbolic dimension in it replaced by its size."""
    if isinstance(value, Expr):
        return evaluate(value, sizes)
    if isinstance(value, (Body, Branches)):
        return replace(value, sizes=sizes)
    if isinstance(value, tuple):
        return tuple(concrete(v, sizes) for v in value)  # pyright: ignore[reportUnknownVariableType]
    return value


def _continued(node: Node, args: list[Array], params: Mapping[str, Any]) -> Array:
    """The value of an op for complex operands in the place of floats. Raises `DTypeError` where it has none."""
    if not (node.op.differentiable or isinstance(node.op.lower, View)):
        args = [x.real if x.dtype.kind == "c" else x for x in args]
        return np.asarray(node.op.numpy(*args, **params)).astype(node.dtype, copy=False)
    args = [x.astype(complex) if x.dtype.kind == "f" else x for x in args]
    try:
        out = np.asarray(node.op.numpy(*args, **params))
    except (TypeError, ValueError) as error:
        raise DTypeError(f"{node.op.name}: {error}") from error
    if out.dtype.kind != "c" and isinstance(node.op.lower, (Map, Reduce)):
        raise DTypeError(f"{node.op.name}: is not analytic, so it takes no complex numbers")
    return out


def interpret(outputs: Sequence[Node], values: Mapping[Node, Array], sizes: Mapping[str, int]) -> list[Array]:
    """The value of each output, given the arrays of the inputs and the sizes of the symbolic dimensions.

    Arrays may be complex in the place of floats, to differentiate by a complex step: what is analytic takes them as
    they are, and what has no derivative their real part.
    """
    order = toposort(outputs)
    last = {x: k for k, node in enumerate(order) for x in node.args}
    keep = set(outputs)
    found: dict[Node, Array] = dict(values)
    with np.errstate(all="ignore"):
        for k, node in enumerate(order):
            if node not in found:
                for check in node.op.checks(node):
                    if text := check.broken(sizes):
                        raise ShapeError(text)
                params = {name: concrete(v, sizes) for name, v in node.params.items()}
                if not node.args and "type" in params and "source" in params:
                    raise GraphError(f"the input {node.name!r} has no value; give one for it")
                args = [found[x] for x in node.args]
                if any(x.dtype.kind == "c" for x in args):
                    out = _continued(node, args, params)
                else:
                    out = np.asarray(node.op.numpy(*args, **params)).astype(node.dtype, copy=False)
                found[node] = out
                sizes = {**sizes, **defined} if (defined := node.op.defines(node, out)) else sizes
            for x in set(node.args):
                if last[x] == k and x not in keep and x not in values:
                    del found[x]
    return [found[out] for out in outputs]
