"""Control flow in graphs: loops whose steps follow each other; traces bodies, knows nothing of how they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.functions.operands import as_tensor
from staticad.ir import ArrayType, Node
from staticad.nests import aligned, leaves, rebuild
from staticad.ops import control, creation, sources
from staticad.shapes import Dim, as_dim
from staticad.tensor import Tensor, wrap


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: Dim | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """A loop that carries values from step to step: ``(carry, ys)`` after ``carry, y = f(carry, x)`` for each x of xs.

    ``init``, ``xs``, the carry and ``y`` are tensors or nests of them (tuples, lists, dicts); x is a slice of ``xs``
    along the first axis, which is as long for all of them, and ``ys`` has the ``y`` of all steps along a new first
    axis. Without ``xs`` there are ``length`` steps and x is None. The carry keeps its types. With ``reverse`` the loop
    goes from the last slice to the first, and ``ys`` stand where their slices stand. ``f`` is called once, to build the
    graph of a step, and may read any tensor. The loop runs as native code, without a call in a step, and has all
    derivatives: the backward pass is a loop over what the steps left.

    Raises `ShapeError`, `DTypeError`, and `GraphError` where ``f`` does not return a pair.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n",))
    >>> total, sums = ad.scan(lambda total, x: (total + x, total + x), 0.0, x)
    >>> f = ad.compile([x], [total, sums, ad.grad(total * total, x)])
    >>> f(np.array([1.0, 2.0, 3.0]))
    [array(6.), array([1., 3., 6.]), array([12., 12., 12.])]
    """
    start = [as_tensor(x) for x in leaves(init)]
    sliced = [as_tensor(x) for x in leaves(xs)] if xs is not None else []
    steps = _length(sliced, length)
    carries = [_placeholder(x.node.type, "carry") for x in start]
    slices = [_placeholder(ArrayType(x.dtype, x.shape[1:]), "x") for x in sliced]
    given = None if xs is None else rebuild(xs, iter(map(Tensor, slices)))
    pair = f(rebuild(init, iter(map(Tensor, carries))), given)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"scan: the body returns a pair (carry, y), not {type(pair).__name__}")
    after, ys = pair
    kept = [y for y in leaves(ys) if y is not None]
    nexts = [_next(x, carry) for x, carry in zip(aligned(init, after, "scan: the carry"), carries, strict=True)]
    body, outer, values = control.close(carries, slices, nexts, [as_tensor(y).node for y in kept], steps, reverse)
    operands = [*(x.node for x in start), *(x.node for x in sliced), *outer]
    finals = (wrap(control.final_of(operands, body, k)) for k in range(len(carries)))
    stacks = iter([wrap(control.stack_of(operands, body, value)) for value in values])
    return rebuild(init, finals), rebuild(ys, (None if y is None else next(stacks) for y in leaves(ys)))


def _placeholder(t: ArrayType, name: str) -> Node:
    return sources.input_(name=name, source=object(), type=t)


def _length(xs: Sequence[Tensor], length: Dim | None) -> Dim:
    if length is not None:
        length = as_dim(length, "scan: length")
    elif not xs:
        raise ShapeError("scan: without xs, give the number of steps as length=...")
    for x in xs:
        if not x.shape:
            raise ShapeError(
                f"scan: xs have an axis of steps, but one is {x.node.type}; what every step reads needs no xs"
            )
        length = x.shape[0] if length is None else length
        if x.shape[0] != length:
            raise ShapeError(f"scan: xs are as long as there are steps, {length}, but one is {x.node.type}")
    assert length is not None
    return length


def _next(value: Any, carry: Node) -> Node:
    """The next value of a carry; a Python number takes its type."""
    if isinstance(value, (tuple, list, dict)):
        raise ShapeError(f"scan: the carry is one tensor of type {carry.type}, but becomes a {type(value).__name__}")  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, (bool, int, float)):
        return creation.fill(carry, value)
    found = as_tensor(value)
    if found.shape != carry.shape:
        raise ShapeError(
            f"scan: a carry of type {carry.type} becomes {found.node.type} in a step; it must keep its shape"
        )
    if found.dtype != carry.dtype:
        raise DTypeError(
            f"scan: a carry of type {carry.type} becomes {found.node.type} in a step; start from that dtype, "
            f"e.g. ad.zeros(..., dtype={str(found.dtype)!r}), or convert with astype"
        )
    return found.node
