"""Branches in graphs, of which one runs; traces them, knows nothing of how they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.forms import formed
from staticad.functions.operands import as_tensor, check_function, is_scalar
from staticad.ir import Node
from staticad.nests import aligned, is_sequence, rebuild
from staticad.ops import branches as choices
from staticad.ops import creation
from staticad.tensor import ArrayLike, Tensor, wrap


def cond(pred: ArrayLike, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """``true_fn(*operands)`` where the scalar ``pred`` is true, else ``false_fn(*operands)``; only that is computed.

    Operands are tensors or nests of them; the functions may also read any other tensor. Both return a tensor or a nest
    of tensors, of the same form, shapes and dtypes (a Python number takes the dtype of the other). Each is called once,
    to build its graph. Compiled code jumps into one branch, and so does its derivative; to choose element by element,
    use `staticad.where`.

    Raises `ShapeError`, `DTypeError`: ``pred`` is no scalar, or is no truth value or integer; the branches differ.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ())
    >>> y = ad.cond(x > 0, lambda x: x * x, lambda x: -x, x)
    >>> f = ad.compile([x], [y, ad.grad(y, x)])
    >>> f(np.array(3.0)), f(np.array(-2.0))
    ([array(9.), array(6.)], [array(2.), array(-1.)])
    """
    check_function("cond", true_fn, "true_fn")
    check_function("cond", false_fn, "false_fn")
    found = as_tensor(pred)
    if found.shape:
        raise ShapeError(f"cond: pred is a scalar, not {found.node.type}; to choose element by element, use where")
    if found.dtype.kind not in "biu":
        raise DTypeError(f"cond: pred is a truth value (or an integer), not {found.node.type}; compare, e.g. x > 0")
    if found.dtype.kind != "b":
        found = found != 0
    return _choose("cond", found, (false_fn, true_fn), operands)


def switch(index: ArrayLike, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """``branches[index](*operands)`` for an integer scalar ``index``; only that branch is computed.

    As `staticad.cond`, for any number of branches. An index below 0, or of no branch, is an `IndexOutOfRange` of the
    compiled function.

    Raises `ShapeError`, `DTypeError`: ``index`` is no integer scalar; the branches differ. `GraphError`: there is none.

    >>> import numpy as np, staticad as ad
    >>> k, x = ad.input("k", (), dtype="int64"), ad.input("x", ())
    >>> f = ad.compile([k, x], ad.switch(k, [ad.sin, ad.cos, lambda x: x * x], x))
    >>> f(np.array(2), np.array(3.0))
    array(9.)
    """
    if not is_sequence(branches):
        raise GraphError(f"switch: branches are functions in a list or a tuple, not {type(branches).__name__}")
    if not branches:
        raise GraphError("switch: there is no branch")
    for k, branch in enumerate(branches):
        check_function("switch", branch, f"branches[{k}]")
    found = as_tensor(index)
    if found.shape or found.dtype.kind not in "iu":
        raise (ShapeError if found.shape else DTypeError)(f"switch: index is an integer scalar, not {found.node.type}")
    return _choose("switch", found, branches, operands)


def _choose(name: str, selector: Tensor, functions: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    since = next(Node.made)
    nests = [f(*operands) for f in functions]
    rows = [list(aligned(nests[-1], nest, f"{name}: what the branches return")) for nest in nests]
    values = list(zip(*(_alike(name, column) for column in zip(*rows, strict=True)), strict=True))
    body, outer = choices.close(values or [()] * len(rows), since)
    body = replace(body, values=tuple(tuple(formed(results)) for results in body.values))
    given = [selector.node, *outer]
    found = (wrap(choices.chosen_of(given, body, k)) for k in range(len(rows[0])))
    return rebuild(nests[-1], found)


def _alike(name: str, values: Sequence[Any]) -> list[Node]:
    """One result of every branch, all of one type; Python numbers take it from the others."""
    like = next((x for x in values if not is_scalar(x)), None)
    like = None if like is None else as_tensor(like)
    nodes = [as_tensor(x).node if like is None or not is_scalar(x) else creation.fill(like.node, x) for x in values]
    for node in nodes:
        if node.shape != nodes[0].shape:
            raise ShapeError(f"{name}: the branches return {nodes[0].type} and {node.type}; they must agree in shape")
        if node.dtype != nodes[0].dtype:
            raise DTypeError(
                f"{name}: the branches return {nodes[0].type} and {node.type}; convert one of them with astype"
            )
    return nodes
