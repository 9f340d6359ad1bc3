"""Control flow in graphs: loops whose steps follow each other; traces bodies, knows nothing of how they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.functions.operands import as_tensor, is_scalar
from staticad.ir import ArrayType, Node
from staticad.nests import aligned, leaves, rebuild
from staticad.ops import branches, control, creation, sources
from staticad.shapes import Dim, as_dim
from staticad.tensor import ArrayLike, Tensor, wrap


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
    carries = [sources.placeholder(x.node.type, "carry") for x in start]
    slices = [sources.placeholder(ArrayType(x.dtype, x.shape[1:]), "x") for x in sliced]
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


def while_loop(
    cond_fn: Callable[[Any], Any], body_fn: Callable[[Any], Any], init: Any, max_steps: Dim | None = None
) -> Any:
    """``carry = init``, then ``carry = body_fn(carry)`` as long as the scalar ``cond_fn(carry)`` is true; returns it.

    The carry is a tensor or a nest of tensors and keeps its types; the functions are called once each, to build graphs,
    and may read any tensor. The loop runs as native code. It has derivatives of every order, forward and reverse: for
    the backward pass, the steps leave what it needs on a tape that grows. With ``max_steps``, going on after so many
    steps is a `StepLimit` error of the compiled function.

    Raises `ShapeError`, `DTypeError`: the carry changes its types, the condition is no scalar truth value.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ())
    >>> y = ad.while_loop(lambda y: y < 100.0, lambda y: y * y, x)
    >>> f = ad.compile([x], [y, ad.grad(y, x)])
    >>> f(np.array(2.0)), f(np.array(500.0))
    ([array(256.), array(1024.)], [array(500.), array(1.)])
    """
    start = [as_tensor(x) for x in leaves(init)]
    limit = None if max_steps is None else as_dim(max_steps, "while_loop: max_steps")
    carries = [sources.placeholder(x.node.type, "carry") for x in start]
    given = rebuild(init, iter(map(Tensor, carries)))
    test = as_tensor(cond_fn(given))
    if test.shape or test.dtype.kind != "b":
        raise (ShapeError if test.shape else DTypeError)(
            f"while_loop: the condition is a scalar truth value, not {test.node.type}; use e.g. x < 1, or all and any"
        )
    after = list(aligned(init, body_fn(given), "while_loop: the carry"))
    nexts = [_next(x, carry) for x, carry in zip(after, carries, strict=True)]
    body, outer, _ = control.close(carries, [], nexts, [], control.new_count(), condition=test.node, limit=limit)
    operands = [*(x.node for x in start), *outer]
    return rebuild(init, (wrap(control.final_of(operands, body, k)) for k in range(len(carries))))


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
    if not branches:
        raise GraphError("switch: there is no branch")
    found = as_tensor(index)
    if found.shape or found.dtype.kind not in "iu":
        raise (ShapeError if found.shape else DTypeError)(f"switch: index is an integer scalar, not {found.node.type}")
    return _choose("switch", found, branches, operands)


def _choose(name: str, selector: Tensor, functions: Sequence[Callable[..., Any]], operands: Sequence[Any]) -> Any:
    since = next(Node.made)
    nests = [f(*operands) for f in functions]
    rows = [list(aligned(nests[-1], nest, f"{name}: what the branches return")) for nest in nests]
    values = list(zip(*(_alike(name, column) for column in zip(*rows, strict=True)), strict=True))
    body, outer = branches.close(values or [()] * len(rows), since)
    given = [selector.node, *outer]
    found = (wrap(branches.chosen_of(given, body, k)) for k in range(len(rows[0])))
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
