"""Derivatives of tensors by tensors, as tensors: along one direction, or along all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from staticad.autodiff import pull, push
from staticad.batching import over_units
from staticad.dtypes import can_require_grad
from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.functions.operands import as_tensor
from staticad.ir import Node, toposort
from staticad.nests import aligned, leaves, rebuild
from staticad.ops import creation, sources
from staticad.ops.indexing import moved
from staticad.ops.rules import accumulate
from staticad.shapes import evaluate, symbols
from staticad.tensor import ArrayLike, Tensor, wrap


def grad(y: Tensor, wrt: Any, cotangent: ArrayLike | None = None, *, strict: bool = False) -> Any:
    """The gradient of ``y`` by each tensor in ``wrt`` (a tensor or a nest of them), in the same nest.

    ``cotangent`` has the shape of ``y`` and may be left out for a scalar: the result is a vector-Jacobian product,
    never a full Jacobian. Where ``y`` does not depend on a tensor the gradient is zeros, or `GraphError` if ``strict``.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", (2,))
    >>> g = ad.grad(ad.sum(x**3), x)
    >>> ad.evaluate([g, ad.grad(g, x, [1.0, 0.0])], {x: np.array([1.0, 2.0])})
    [array([ 3., 12.]), array([6., 0.])]
    """
    return vjp([y], wrt, None if cotangent is None else [cotangent], strict=strict, _name="grad")


def value_and_grad(y: Tensor, wrt: Any, *, strict: bool = False) -> tuple[Tensor, Any]:
    """``(y, grad(y, wrt))``, to be compiled as one function.

    >>> import staticad as ad
    >>> x = ad.input("x", ())
    >>> value_and_grad(x * x, x)
    (Tensor(f64), Tensor(f64))
    """
    return y, grad(y, wrt, strict=strict)


def vjp(ys: Any, wrt: Any, cotangents: Any = None, *, strict: bool = False, _name: str = "vjp") -> Any:
    """Vector-Jacobian products: what cotangents of ``ys`` (a nest of tensors) are for ``wrt``, in the nest of ``wrt``.

    ``cotangents`` is a nest like ``ys``; it, or one in it (None), may be left out where that one of ``ys`` is a scalar.
    Raises `ShapeError`, `DTypeError`, and `GraphError` if ``strict`` and nothing depends on one of ``wrt``.
    """
    outputs, targets = _tensors(_name, "output", ys), _tensors(_name, "wrt", wrt)
    given = [None] * len(outputs) if cotangents is None else list(aligned(ys, cotangents, f"{_name}: cotangents"))
    seeds = [_seed(_name, "cotangent", y, g) for y, g in zip(outputs, given, strict=True)]
    nodes = [y.node for y in outputs]
    where = places(nodes, targets)
    parts = iter(pull(nodes, [x for place in where for x in place], seeds))
    found = [accumulate(g for g in [next(parts) for _ in place] if g is not None) for place in where]
    return rebuild(wrt, iter(_finish(_name, found, targets, strict)))


def jvp(ys: Any, wrt: Any, tangents: Any, *, strict: bool = False) -> Any:
    """Jacobian-vector products: how ``ys`` (a nest of tensors) move when ``wrt`` moves along ``tangents`` (its like).

    The result has the nest of ``ys``. Raises as `vjp`.

    >>> import staticad as ad
    >>> x = ad.input("x", (2,))
    >>> ad.evaluate(ad.jvp(x * x, x, [1.0, 0.0]), {x: [3.0, 4.0]})
    array([6., 0.])
    """
    outputs, targets = _tensors("jvp", "output", ys), _tensors("jvp", "wrt", wrt)
    given = aligned(wrt, tangents, "jvp: tangents")
    moves = [_seed("jvp", "tangent", x, t) for x, t in zip(targets, given, strict=True)]
    nodes = [y.node for y in outputs]
    where = places(nodes, targets)
    moving = [t for t, place in zip(moves, where, strict=True) for _ in place]
    found = push(nodes, [x for place in where for x in place], moving)
    return rebuild(ys, iter(_finish("jvp", found, outputs, strict)))


def jacobian(ys: Any, wrt: Any, mode: str = "auto") -> Any:
    """The derivative of every element of ``ys`` by every element of ``wrt`` (tensors or nests of them).

    For tensors the result has the shape ``ys.shape + wrt.shape``; for nests it is the nest of ``ys`` with the nest of
    ``wrt`` in the place of each tensor, as `jax.jacrev` has it. All rows (mode ``"reverse"``: backwards from each
    element of ``ys``) or columns (``"forward"``: along each element of ``wrt``) are computed as one function that
    shares the forward pass, its loops running over all of them; ``"auto"`` takes rows for a tensor in ``ys`` that has
    fewer elements than ``wrt`` (a symbolic size counts as large), else columns.

    Raises `GraphError` and `DTypeError` as `vjp`.

    >>> import staticad as ad
    >>> x = ad.input("x", (2,))
    >>> ad.evaluate(ad.jacobian(x * x[::-1], x), {x: [3.0, 4.0]})
    array([[4., 3.],
           [4., 3.]])
    """
    outputs, targets = _tensors("jacobian", "output", ys), _tensors("jacobian", "wrt", wrt)
    if mode not in MODES:
        raise GraphError(f"jacobian: mode is 'auto', 'forward' or 'reverse', not {mode!r}")
    columns = sum(_extent(x) for x in targets)
    ahead = [mode == "forward" or (mode == "auto" and _extent(y) >= columns) for y in outputs]
    forward = iter(_columns([y for y, by_columns in zip(outputs, ahead, strict=True) if by_columns], targets))
    rows = [next(forward) if by_columns else _rows(y, targets) for y, by_columns in zip(outputs, ahead, strict=True)]
    return rebuild(ys, (rebuild(wrt, iter(row)) for row in rows))


MODES = ("auto", "forward", "reverse")
#: What a symbolic size counts as where modes are compared.
LARGE = 1000


def _extent(x: Tensor) -> int:
    return evaluate(x.size, {s.name: LARGE for s in symbols(x.size)})


def _rows(y: Tensor, targets: Sequence[Tensor]) -> list[Tensor]:
    """The Jacobian of ``y`` by each of ``targets``, backwards."""
    seed = _unit("cotangent", y)
    where = places([y.node], targets)
    parts = iter(pull([y.node], [x for place in where for x in place], [seed]))
    found = [accumulate(g for g in [next(parts) for _ in place] if g is not None) for place in where]
    return [_finished(g, y, x) for g, x in zip(_for_all_units(found, seed), targets, strict=True)]


def _columns(outputs: Sequence[Tensor], targets: Sequence[Tensor]) -> list[list[Tensor]]:
    """The Jacobian of each of ``outputs`` by each of ``targets``, forwards."""
    nodes = [y.node for y in outputs]
    rows: list[list[Tensor]] = [[] for _ in outputs]
    for x, place in zip(targets, places(nodes, targets), strict=True):
        seed = _unit("tangent", x)
        found = push(nodes, place, [seed] * len(place))
        for y, row, t in zip(outputs, rows, _for_all_units(found, seed), strict=True):
            row.append(_finished(None if t is None else moved(t, range(x.ndim), range(y.ndim, y.ndim + x.ndim)), y, x))
    return rows


def _unit(name: str, like: Tensor) -> Node:
    """What stands for any unit of the type of ``like``: an input, or the one there is."""
    if not like.shape:
        return creation.fill(like.node, 1)
    return sources.placeholder(like.node.type, name)


def _for_all_units(found: Sequence[Node | None], seed: Node) -> list[Node | None]:
    """What of a derivative along ``seed`` is there, along all units of its shape."""
    there = [x for x in found if x is not None]
    spread = iter(over_units(there, seed) if seed.shape else there)
    return [None if x is None else next(spread) for x in found]


def _finished(node: Node | None, y: Tensor, x: Tensor) -> Tensor:
    if node is None:
        return wrap(creation.full(value=0.0, shape=(*y.shape, *x.shape), dtype=x.dtype))
    return wrap(node if node.dtype == x.dtype else creation.astype(node, dtype=x.dtype))


def hessian(ys: Any, wrt: Any) -> Any:
    """The second derivatives of ``ys`` by ``wrt`` (tensors or nests): `jacobian` twice, forwards over the gradient.

    For tensors the result has the shape ``ys.shape + wrt.shape + wrt.shape``; nests stand in each other as in
    `jacobian`. Raises as `jacobian`.

    >>> import staticad as ad
    >>> x = ad.input("x", (2,))
    >>> ad.evaluate(ad.hessian(x[0] ** 2 * x[1], x), {x: [3.0, 4.0]})
    array([[8., 6.],
           [6., 0.]])
    """
    return jacobian(jacobian(ys, wrt), wrt, "forward")


def hvp(y: Tensor, wrt: Any, vector: Any) -> Any:
    """The Hessian of the scalar ``y`` by ``wrt`` times ``vector``, both tensors or nests of them, in the same nest.

    It is the derivative of the gradient along ``vector``, for the price of a few gradients; the Hessian is never there.
    Raises as `jvp`, and `GraphError` where ``y`` is not a scalar.

    >>> import staticad as ad
    >>> x = ad.input("x", (2,))
    >>> ad.evaluate(ad.hvp(x[0] ** 2 * x[1], x, [1.0, 0.0]), {x: [3.0, 4.0]})
    array([8., 6.])
    """
    return jvp(vjp([y], wrt, _name="hvp"), wrt, vector)


def _tensors(name: str, what: str, nest: Any) -> list[Tensor]:
    found = list(leaves(nest))
    for t in found:
        if not isinstance(t, Tensor):
            raise GraphError(f"{name}: every {what} is a tensor, not {type(t).__name__}")
        if not can_require_grad(t.dtype):
            raise DTypeError(f"{name}: {what} {t!r} has no derivative; only floating tensors have, convert with astype")
    return found


def places(outputs: Sequence[Node], tensors: Sequence[Tensor]) -> list[list[Node]]:
    """The nodes that stand for each tensor in a graph: itself, and itself made a leaf, before or after it was used."""
    made_leaf: dict[Node, list[Node]] = {}
    for node in toposort(outputs):
        if sources.is_leaf(node):
            made_leaf.setdefault(node.args[0], []).append(node)
    bare = [sources.unmarked(t.node) for t in tensors]
    return [[x, *made_leaf.get(x, ())] for x in bare]


def _seed(name: str, what: str, t: Tensor, g: ArrayLike | None) -> Node:
    if g is None:
        if t.size != 1:
            raise GraphError(
                f"{name}: {t!r} is not a scalar and needs a {what} of its shape; give {what}=..., or differentiate a "
                "scalar such as its sum"
            )
        return creation.fill(t.node, 1)
    found = as_tensor(g)
    if found.shape != t.shape:
        raise ShapeError(f"{name}: the {what} has type {found.node.type}, but must have the shape of {t.node.type}")
    if found.dtype != t.dtype:
        if isinstance(g, Tensor):
            raise DTypeError(f"{name}: the {what} has type {found.node.type}, but must have the dtype of {t.node.type}")
        return creation.astype(found.node, dtype=t.dtype)
    return found.node


def _finish(name: str, found: Sequence[Node | None], like: Sequence[Tensor], strict: bool) -> list[Tensor]:
    for node, t in zip(found, like, strict=True):
        if node is None and strict:
            raise GraphError(f"{name}: no differentiable path leads to {t!r}; leave out strict=True for zeros")
    return [wrap(creation.fill(t.node, 0) if node is None else node) for node, t in zip(found, like, strict=True)]
