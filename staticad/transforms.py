"""`vmap` and `vectorize`: programs for one value made programs for many; knows nests and axes, no batching rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any

from staticad.batching import batch
from staticad.derivatives import places
from staticad.errors import AxisError, DTypeError, GraphError, ShapeError
from staticad.functions.operands import as_tensor, check_function
from staticad.ir import ArrayType, Node
from staticad.nests import aligned, is_dict, leaves, rebuild
from staticad.ops import sources
from staticad.ops.indexing import moved
from staticad.ops.rules import spread
from staticad.shapes import Dim, Shape, shape_text
from staticad.tensor import ArrayLike, Tensor, wrap


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """``f``, written for one value, as a function of many: of all slices of its arguments along an axis at once.

    ``in_axes`` is the axis of every argument that the values stand along, or None for what is the same for all; or a
    tuple of these for the arguments, in which nests of them may stand for an argument that is a nest. ``out_axes`` says
    likewise where they stand in the results (None: it is the same for all). Keyword arguments are taken along axis 0,
    as by `jax.vmap`, whose conventions these are. The number of values may be a symbolic size.

    ``f`` is called once, to build the graph of one value; what does not depend on the values is computed once. It may
    be a loop, a derivative, or a `vmap` itself. Products become larger products; where something has no such form, the
    values are computed one after the other.

    Raises `GraphError`, `AxisError` and `ShapeError` where axes and arguments do not fit.

    >>> import numpy as np, staticad as ad
    >>> x, w = ad.input("x", ("n", 3)), ad.input("w", (3,))
    >>> y = ad.vmap(lambda x, w: ad.tanh(x) @ w, in_axes=(0, None))(x, w)
    >>> y.shape
    (n,)
    >>> g = ad.vmap(lambda x: ad.grad(ad.sum(x**3), x))(x)
    >>> ad.evaluate(g, {x: np.array([[1.0, 2.0, 0.0], [0.0, 1.0, 3.0]])})
    array([[ 3., 12.,  0.],
           [ 0.,  3., 27.]])
    """

    check_function("vmap", f)

    @wraps(f)
    def of_many(*args: Any, **kwargs: Any) -> Any:
        given = list(leaves((args, kwargs)))
        axes = [*_axes(in_axes, args, "vmap: in_axes"), *_axes(0, kwargs, "vmap: in_axes")]
        values: dict[Node, Node] = {}
        size: Dim | None = None
        for k, axis in enumerate(axes):
            if axis is not None and given[k] is not None:
                x = as_tensor(given[k])
                many = _lanes_first(x, axis)
                size = many.shape[0] if size is None else size
                if many.shape[0] != size:
                    raise ShapeError(
                        f"vmap: arguments have one size along their mapped axes, but argument {x.node.type} has "
                        f"{many.shape[0]} along axis {axis} where others have {size}; map it with axis None?"
                    )
                given[k] = Tensor(one := _one(many))
                values[one] = many
        if size is None:
            raise GraphError("vmap: no argument is mapped; give at least one that has an axis in in_axes")
        args, kwargs = rebuild((args, kwargs), iter(given))
        out = f(*args, **kwargs)
        kept = [as_tensor(y).node for y in leaves(out) if y is not None]
        found = iter(batch(kept, values, (size,)))
        to = zip(leaves(out), _axes(out_axes, out, "vmap: out_axes"), strict=True)
        return rebuild(out, (None if y is None else _finished(*next(found), size, axis) for y, axis in to))

    return of_many


def vectorize(outputs: Any, replace: Mapping[Tensor, ArrayLike]) -> Any:
    """A graph built for one value as one for many: ``outputs`` (a tensor or a nest) with inputs replaced by arrays of
    them.

    ``replace`` has for tensors in the graph what to put in their place: a tensor or array with more axes before its
    own, the same for all. Every output gets these axes first. What does not depend on the replaced tensors is computed
    once; the rest is done as by `vmap`.

    Raises `ShapeError`, `DTypeError` and `GraphError`.

    >>> import staticad as ad
    >>> x, w = ad.input("x", (3,)), ad.input("w", (3,))
    >>> loss = ad.sum(ad.tanh(x * w))
    >>> xs = ad.input("xs", ("batch", 3))
    >>> ad.vectorize({"loss": loss, "slope": ad.grad(loss, w)}, {x: xs})
    {'loss': Tensor(f64[batch]), 'slope': Tensor(f64[batch, 3])}
    """
    nodes = [as_tensor(y).node for y in leaves(outputs)]
    if not is_dict(replace):
        raise GraphError(f"vectorize: replace is a dict of tensors and what stands in their place, not {replace!r}")
    many = [_replacement(x, value) for x, value in replace.items()]
    if not many:
        raise GraphError("vectorize: nothing is replaced; give tensors of the graph with what stands in their place")
    lanes = many[0][1]
    for (xs, own), x in zip(many, replace, strict=True):
        if own != lanes:
            raise ShapeError(
                f"vectorize: replacements have the same axes before those of what they replace, {shape_text(lanes)}, "
                f"but {xs.node.type} for {x.node.type} has {shape_text(own)}"
            )
    found = places(nodes, list(replace))
    given = {node: xs.node for (xs, _), place in zip(many, found, strict=True) for node in place}
    return rebuild(outputs, (wrap(y if has else spread(y, lanes)) for y, has in batch(nodes, given, lanes)))


def _replacement(x: Tensor, value: ArrayLike) -> tuple[Tensor, Shape]:
    """What stands in the place of ``x``, and its first axes."""
    if not isinstance(x, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"vectorize: replaces tensors, not {type(x).__name__}")
    xs = as_tensor(value)
    count = xs.ndim - x.ndim
    if count < 1 or xs.shape[count:] != x.shape:
        raise ShapeError(f"vectorize: {x.node.type} by {xs.node.type}; give what has axes more, before those replaced")
    if xs.dtype != x.dtype:
        raise DTypeError(f"vectorize: {x.node.type} by {xs.node.type}; convert with astype first")
    return xs, xs.shape[:count]


def _axes(prefix: Any, nest: Any, say: str) -> Iterator[int | None]:
    """The axis for every leaf of ``nest``, where ``prefix`` has one for a nest in it."""
    for axis, part in zip(leaves(prefix), aligned(prefix, nest, say), strict=True):
        if axis is not None and (not isinstance(axis, int) or isinstance(axis, bool)):
            raise AxisError(f"{say}: axes are integers or None, not {axis!r}")
        yield from (axis for _ in leaves(part))


def _lanes_first(x: Tensor, axis: int) -> Node:
    if not -x.ndim <= axis < x.ndim:
        raise AxisError(f"vmap: an argument {x.node.type} has no axis {axis}; None is for what is the same for all")
    return moved(x.node, [axis % x.ndim], [0])


def _one(many: Node) -> Node:
    """What stands for each of ``many`` in the graph of one."""
    node = sources.placeholder(ArrayType(many.dtype, many.shape[1:]), "one")
    node.requires_grad = many.requires_grad
    return node


def _finished(y: Node, has: bool, size: Dim, axis: int | None) -> Tensor:
    if axis is None:
        if has:
            raise GraphError(
                "vmap: out_axes has None for what is the same for all, but a result differs; give its axis"
            )
        return wrap(y)
    y = y if has else spread(y, (size,))
    rank = len(y.shape)
    if not -rank <= axis < rank:
        raise AxisError(f"vmap: out_axes says {axis} for a result that has {rank} axes with the mapped one")
    return wrap(moved(y, [0], [axis % rank]))
