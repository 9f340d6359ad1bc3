"""Loops in graphs, over slices or as long as a condition holds; traces bodies, knows nothing of how they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Literal, TypeAlias

from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.forms import formed
from staticad.functions.custom import checkpoint as again
from staticad.functions.custom import fitted, one_by_one
from staticad.functions.elementwise import astype, ceil, maximum, sqrt
from staticad.functions.manipulation import concat, expand_dims, moveaxis, pad, reshape, squeeze
from staticad.functions.operands import as_axis, as_tensor, assume, check_function
from staticad.ir import ArrayType, Node
from staticad.nests import aligned, leaves, map_leaves, rebuild
from staticad.ops import control, creation, sources
from staticad.shapes import Dim, as_dim, root
from staticad.tensor import Tensor, wrap

#: One step of a scan: from a carry and a slice to the next carry and what the step leaves.
Body: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]


def scan(
    f: Body,
    init: Any,
    xs: Any = None,
    length: Dim | Tensor | None = None,
    reverse: bool = False,
    unroll: int = 1,
    checkpoint: int | Literal["sqrt"] | None = None,
) -> tuple[Any, Any]:
    """A loop that carries values from step to step: ``(carry, ys)`` after ``carry, y = f(carry, x)`` for each x of xs.

    ``init``, ``xs``, the carry and ``y`` are tensors or nests of them (tuples, lists, dicts); x is a slice of ``xs``
    along the first axis, which is as long for all of them, and ``ys`` has the ``y`` of all steps along a new first
    axis. Without ``xs`` there are ``length`` steps and x is None. The carry keeps its types. With ``reverse`` the loop
    goes from the last slice to the first, and ``ys`` stand where their slices stand. ``f`` is called once, to build the
    graph of a step, and may read any tensor. The loop runs as native code, without a call in a step, and has all
    derivatives: the backward pass is a loop over what the steps left.

    ``length`` may also be an integer scalar, known when the compiled function is called; there are no ``ys`` then.
    ``unroll`` steps are written one after the other in native code. With ``checkpoint``, the steps leave nothing but
    the carry of every so-many-th (``"sqrt"``: the square root of their number), from which the backward pass computes
    each such segment again: it keeps less and computes more (see ``Function.stats``).

    Raises `ShapeError`, `DTypeError`, and `GraphError` where ``f`` does not return a pair, or an option is none.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n",))
    >>> total, sums = ad.scan(lambda total, x: (total + x, total + x), 0.0, x)
    >>> f = ad.compile([x], [total, sums, ad.grad(total * total, x)])
    >>> f(np.array([1.0, 2.0, 3.0]))
    [array(6.), array([1., 3., 6.]), array([12., 12., 12.])]
    """
    check_function("scan", f)
    _segment("unroll", unroll)
    if isinstance(length, Tensor):
        return _scan_while(f, init, xs, length, checkpoint)
    steps = _length("scan", xs, length)
    if checkpoint is not None:
        size = root(steps, 1) if checkpoint == "sqrt" else _segment("checkpoint", checkpoint)
        part = again(partial(scan, f, length=size, reverse=reverse, unroll=unroll))
        return _in_segments(f, part, init, xs, steps, size, reverse)
    return _scan("scan", f, init, xs, steps, reverse, unroll)


def _scan(
    name: str, f: Body, init: Any, xs: Any, steps: Dim, reverse: bool = False, unroll: int = 1
) -> tuple[Any, Any]:
    """`scan`, for a function called ``name``."""
    start = [as_tensor(x) for x in leaves(init)]
    sliced = [as_tensor(x) for x in leaves(xs)] if xs is not None else []
    carries = [sources.placeholder(x.node.type, "carry") for x in start]
    slices = [sources.placeholder(ArrayType(x.dtype, x.shape[1:]), "x") for x in sliced]
    given = None if xs is None else rebuild(xs, (Tensor(x) for x in slices))
    after, ys = _pair(f(rebuild(init, (Tensor(x) for x in carries)), given))
    kept = [y for y in leaves(ys) if y is not None]
    parts = zip(aligned(init, after, f"{name}: the carry"), carries, strict=True)
    nexts = [_next(name, x, carry) for x, carry in parts]
    body, outer, values = control.close(
        carries, slices, nexts, [as_tensor(y).node for y in kept], steps, reverse, unroll=unroll
    )
    inside = formed([*body.nexts, *values])
    body, values = replace(body, nexts=tuple(inside[: len(nexts)])), inside[len(nexts) :]
    operands = [*(x.node for x in start), *(x.node for x in sliced), *outer]
    finals = (wrap(control.final_of(operands, body, k)) for k in range(len(carries)))
    stacks = iter([wrap(control.stack_of(operands, body, value)) for value in values])
    return rebuild(init, finals), rebuild(ys, (None if y is None else next(stacks) for y in leaves(ys)))


def _root(steps: Tensor) -> Tensor:
    """The square root of a number of steps, rounded up; at least 1."""
    return astype(maximum(ceil(sqrt(astype(steps, "float64"))), 1), steps.dtype)


def _segment(option: str, size: Any) -> int:
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise GraphError(f"scan: {option} is a positive number of steps, not {size!r}")
    return size


def _in_segments(f: Body, part: Body, init: Any, xs: Any, steps: Dim, size: Dim, reverse: bool) -> tuple[Any, Any]:
    """A scan in steps of ``part``, which does ``size`` steps of ``f``; steps that are left over are done by ``f``."""
    many, rest = steps // size, steps % size

    def segments(x: Tensor) -> Tensor:
        return reshape(x[: many * size], (many, size, *x.shape[1:]))

    def first(carry: Any) -> tuple[Any, Any]:
        given = None if xs is None else map_leaves(lambda x: segments(as_tensor(x)), xs)
        carry, ys = scan(part, carry, given, many, reverse)
        flat = (None if y is None else reshape(y, (many * size, *y.shape[2:])) for y in leaves(ys))
        return carry, rebuild(ys, flat)

    def last(carry: Any) -> tuple[Any, Any]:
        if xs is None:
            return scan(f, carry, None, rest, reverse)
        return scan(f, carry, map_leaves(lambda x: as_tensor(x)[many * size :], xs), None, reverse)

    if rest == 0:
        return first(init)
    if many == 0:
        return last(init)
    carry, later = (last if reverse else first)(init)
    carry, earlier = (first if reverse else last)(carry)
    if not reverse:
        earlier, later = later, earlier
    pairs = zip(leaves(earlier), leaves(later), strict=True)
    return carry, rebuild(earlier, (None if x is None else _joined("scan", x, y, steps) for x, y in pairs))


def _joined(name: str, x: Tensor, y: Tensor, steps: Dim) -> Tensor:
    """What the first and the last steps left, which are all ``steps``."""

    def say() -> str:
        return f"{name}: {x.node.type} and {y.node.type} for {steps} steps"

    return wrap(assume(concat([x, y]).node, (steps, *x.shape[1:]), say))


def _scan_while(
    f: Body, init: Any, xs: Any, length: Tensor, checkpoint: int | Literal["sqrt"] | None = None
) -> tuple[Any, Any]:
    """A scan of a length known at run time."""
    if length.shape or length.dtype.kind not in "iu":
        raise (ShapeError if length.shape else DTypeError)(
            f"scan: length is a dimension or an integer scalar, not {length.node.type}"
        )
    if xs is not None:
        raise GraphError("scan: with xs, their first axis tells the number of steps; slice them instead of length=...")

    if checkpoint is not None:
        steps = maximum(length, 0)
        size = _root(steps) if checkpoint == "sqrt" else _segment("checkpoint", checkpoint)
        part = again(partial(scan, f, length=size))
        return _scan_while(f, _scan_while(part, init, None, steps // size)[0], None, steps % size)

    def step(state: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        carry, ys = _pair(f(state[1], None))
        if any(y is not None for y in leaves(ys)):
            raise GraphError("scan: steps whose number is known at run time leave no ys; return (carry, None)")
        return state[0] + 1, carry

    return while_loop(lambda state: state[0] < length, step, (0 * length, init))[1], None


def _pair(found: Any) -> tuple[Any, Any]:
    if not isinstance(found, (tuple, list)) or len(found) != 2:  # pyright: ignore[reportUnknownArgumentType]
        raise GraphError(f"scan: the body returns a pair (carry, y), not {type(found).__name__}")  # pyright: ignore[reportUnknownArgumentType]
    return found[0], found[1]  # pyright: ignore[reportUnknownVariableType]


def map(f: Callable[[Any], Any], xs: Any) -> Any:  # noqa: A001
    """``f(x)`` for every slice of ``xs`` along the first axis, stacked along a new first axis.

    ``xs``, x and what ``f`` returns are tensors or nests of them. Items do not depend on each other: they run on all
    cores where there is enough to do, and each takes its own branches and numbers of steps. To compute items together,
    element by element, use `staticad.vmap`.

    Raises `ShapeError`: ``xs`` have no first axis, or differ in it. `GraphError`: ``f`` is no function.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n",))
    >>> halvings = ad.map(lambda a: ad.while_loop(lambda s: s[0] > 1, lambda s: (s[0] / 2, s[1] + 1), (a, 0))[1], x)
    >>> ad.compile([x], halvings)(np.array([0.5, 3.0, 100.0]))
    array([0, 2, 7])
    """
    check_function("map", f)
    return _scan("map", lambda _, x: ((), f(x)), (), xs, _length("map", xs))[1]


def associative_scan(fn: Callable[[Any, Any], Any], elems: Any, reverse: bool = False, axis: int = 0) -> Any:
    """All partial results of an associative operation: ``[x0, fn(x0, x1), fn(fn(x0, x1), x2), ...]`` along ``axis``.

    ``elems`` is a tensor or a nest of them, as long along ``axis``; ``fn`` takes and returns such nests, of any length
    along ``axis`` (it is called with length 1, to build its graph). With ``reverse``, from the last to the first. It
    runs as one native loop over the elements; of no elements, nothing is the result.

    Raises `ShapeError`, `DTypeError`, `AxisError`: ``elems`` or what ``fn`` returns do not fit. `GraphError`: ``fn`` is
    no function.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n",))
    >>> products = ad.associative_scan(lambda a, b: a * b, x)
    >>> ad.compile([x], products)(np.array([1.0, 2.0, 3.0, 4.0]))
    array([ 1.,  2.,  6., 24.])
    """
    name = "associative_scan"
    check_function(name, fn)
    elems = map_leaves(as_tensor, elems)
    xs = map_leaves(lambda x: moveaxis(x, as_axis(name, axis, x.ndim, x.node.type), 0), elems)
    if _length(name, xs) == 0:
        return elems
    rest, one = (slice(None, -1), slice(-1, None)) if reverse else (slice(1, None), slice(0, 1))

    def combined(carry: Any, x: Any) -> tuple[Any, Any]:
        first, second = (map_leaves(lambda t: moveaxis(expand_dims(t, axis=0), 0, axis), nest) for nest in (carry, x))
        say = f"{name}: what fn returns"
        pairs = zip(one_by_one(carry, fn(first, second), say), leaves(first), strict=True)
        out = (Tensor(fitted(say, t, like.node)) for t, like in pairs)
        found = rebuild(carry, (squeeze(moveaxis(t, axis, 0), axis=0) for t in out))
        return found, found

    start, others = (map_leaves(lambda x, part=part: x[part], xs) for part in (one, rest))
    _, later = _scan(name, combined, map_leaves(_single, start), others, _length(name, others), reverse)
    triples = zip(leaves(start), leaves(later), leaves(xs), strict=True)
    whole = (_joined(name, *((y, x) if reverse else (x, y)), like.shape[0]) for x, y, like in triples)
    return rebuild(elems, (moveaxis(x, 0, axis) for x in whole))


def _single(x: Tensor) -> Tensor:
    """The slice of ``x``, which has one or none; then zeros, which nothing reads."""
    return squeeze(pad(x, ((0, 1 - x.shape[0]), *[(0, 0)] * (x.ndim - 1))), axis=0)


def while_loop(
    cond_fn: Callable[[Any], Any], body_fn: Callable[[Any], Any], init: Any, max_steps: Dim | None = None
) -> Any:
    """``carry = init``, then ``carry = body_fn(carry)`` as long as the scalar ``cond_fn(carry)`` is true; returns it.

    The carry is a tensor or a nest of tensors and keeps its types; the functions are called once each, to build graphs,
    and may read any tensor. The loop runs as native code. It has derivatives of every order, forward and reverse: for
    the backward pass, the steps leave what it needs on a tape that grows. With ``max_steps``, going on after so many
    steps is a `StepLimit` error of the compiled function; without, a tape that takes three quarters of the machine's
    memory is an `OutOfMemory` error.

    Raises `ShapeError`, `DTypeError`: the carry changes its types, the condition is no scalar truth value.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ())
    >>> y = ad.while_loop(lambda y: y < 100.0, lambda y: y * y, x)
    >>> f = ad.compile([x], [y, ad.grad(y, x)])
    >>> f(np.array(2.0)), f(np.array(500.0))
    ([array(256.), array(1024.)], [array(500.), array(1.)])
    """
    check_function("while_loop", cond_fn, "cond_fn")
    check_function("while_loop", body_fn, "body_fn")
    start = [as_tensor(x) for x in leaves(init)]
    limit = None if max_steps is None else as_dim(max_steps, "while_loop: max_steps")
    carries = [sources.placeholder(x.node.type, "carry") for x in start]
    given = rebuild(init, (Tensor(x) for x in carries))
    test = as_tensor(cond_fn(given))
    if test.shape or test.dtype.kind != "b":
        raise (ShapeError if test.shape else DTypeError)(
            f"while_loop: the condition is a scalar truth value, not {test.node.type}; use e.g. x < 1, or all and any"
        )
    after = list(aligned(init, body_fn(given), "while_loop: the carry"))
    nexts = [_next("while_loop", x, carry) for x, carry in zip(after, carries, strict=True)]
    body, outer, _ = control.close(carries, [], nexts, [], control.new_count(), condition=test.node, limit=limit)
    body = replace(body, nexts=tuple(formed(body.nexts)))
    operands = [*(x.node for x in start), *outer]
    return rebuild(init, (wrap(control.final_of(operands, body, k)) for k in range(len(carries))))


def _length(name: str, xs: Any, length: Dim | None = None) -> Dim:
    """The number of steps: ``length``, or that of all slices."""
    if length is not None:
        length = as_dim(length, f"{name}: length")
    for x in [] if xs is None else [as_tensor(x) for x in leaves(xs)]:
        if not x.shape:
            raise ShapeError(
                f"{name}: xs have an axis of steps, but one is {x.node.type}; what every step reads needs no xs"
            )
        length = x.shape[0] if length is None else length
        if x.shape[0] != length:
            raise ShapeError(f"{name}: xs are as long as there are steps, {length}, but one is {x.node.type}")
    if length is None:
        raise ShapeError(f"{name}: without xs nothing tells the number of steps; scan can be given it, as length=...")
    return length


def _next(name: str, value: Any, carry: Node) -> Node:
    """The next value of a carry; a Python number takes its type."""
    if isinstance(value, (tuple, list, dict)):
        raise ShapeError(f"{name}: the carry is one tensor of type {carry.type}, but becomes a {type(value).__name__}")  # pyright: ignore[reportUnknownArgumentType]
    if isinstance(value, (bool, int, float)):
        return creation.fill(carry, value)
    found = as_tensor(value)
    if found.shape != carry.shape:
        raise ShapeError(
            f"{name}: a carry of type {carry.type} becomes {found.node.type} in a step; it must keep its shape"
        )
    if found.dtype != carry.dtype:
        raise DTypeError(
            f"{name}: a carry of type {carry.type} becomes {found.node.type} in a step; start from that dtype, "
            f"e.g. ad.zeros(..., dtype={str(found.dtype)!r}), or convert with astype"
        )
    return found.node
