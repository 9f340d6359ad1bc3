"""One call of a plain function in a graph, on stand-ins for the tensors that derivatives are taken by; knows nests of
tensors and their derivatives, not how a function is traced and compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from staticad import derivatives
from staticad.creation import zeros_like
from staticad.dtypes import can_require_grad
from staticad.errors import DTypeError, GraphError
from staticad.functions.custom import fitted
from staticad.functions.operands import as_tensor
from staticad.ir import Node, substitute
from staticad.nests import aligned, is_sequence, leaves, rebuild
from staticad.ops import sources
from staticad.tensor import Tensor, Weak, wrap
from staticad.tracing import as_result, is_array, is_weak


def pair(name: str, f: Callable[..., Any], out: Any, has_aux: bool) -> tuple[Any, Any]:
    """What ``f`` returned, and what came with it."""
    if not has_aux:
        return out, None
    if not is_sequence(out) or len(out) != 2:
        raise GraphError(f"{name}: with has_aux=True {called(f)} returns a pair (out, aux), not {type(out).__name__}")
    return out[0], out[1]


def called(f: Callable[..., Any]) -> str:
    return getattr(f, "__name__", type(f).__name__)


class Call:
    """One call of a function in a graph, on stand-ins for the tensors that derivatives are taken by.

    Those are of the arguments ``argnums``, or of all where that is None: ``targets``, in their order. Other tensors
    that the function reads may be computed from the same as the arguments: no derivative goes there."""

    def __init__(
        self,
        name: str,
        f: Callable[..., Any],
        argnums: int | tuple[int, ...] | None,
        args: Sequence[Any],
        kwargs: dict[str, Any],
        has_aux: bool,
    ):
        self.name, self.f = name, f
        self.values: dict[Node, Node] = {}
        self.targets: list[Tensor] = []
        count = len(args)
        numbers = range(count) if argnums is None else (argnums,) if isinstance(argnums, int) else argnums
        if any(not -count <= k < count for k in numbers) or len({k % count for k in numbers}) < len(numbers):
            raise GraphError(
                f"{name}: argnums={argnums} for {called(f)}, which was given {count} arguments by position"
            )
        inner = [as_tensors(x) for x in args]
        for k in dict.fromkeys(k % count for k in numbers):
            inner[k] = rebuild(args[k], (self.stand_in(x, k, argnums is not None) for x in leaves(args[k])))
        chosen = tuple(inner[k] for k in numbers)
        self.arguments = chosen[0] if isinstance(argnums, int) else chosen
        out, self.aux = pair(name, f, f(*inner, **as_tensors(kwargs)), has_aux)
        self.out = rebuild(out, (as_result(f"{name}: {called(f)}", x) for x in leaves(out)))

    def stand_in(self, x: Any, k: int, strict: bool) -> Any:
        """What ``f`` gets for ``x`` in argument ``k``."""
        if not isinstance(x, Tensor) and not is_array(x):
            if strict and x is not None:
                raise DTypeError(f"{self.name}: argument {k} has {x!r}, by which there is no derivative; give floats")
            return x
        t = as_tensor(x)
        if not can_require_grad(t.dtype):
            if strict:
                raise DTypeError(f"{self.name}: argument {k} has {t!r}, by which there is no derivative; give floats")
            return t
        node = sources.placeholder(t.node.type, t.name or "x")
        node.requires_grad = t.requires_grad
        self.values[node] = t.node
        self.targets.append(Weak(node) if isinstance(t, Weak) or is_weak(x) else Tensor(node))
        return self.targets[-1]

    def is_target(self, x: Any) -> bool:
        return isinstance(x, Tensor) and x.node in self.values

    def like_arguments(self, values: Sequence[Any]) -> Any:
        """The nest of the arguments with ``values`` for the targets, None for all else."""
        left = iter(values)
        return rebuild(self.arguments, (next(left) if self.is_target(x) else None for x in leaves(self.arguments)))

    def scalar(self) -> Tensor:
        """What the function returned, which must be one number."""
        y = self.out
        if not isinstance(y, Tensor):
            pairs = "; with has_aux=True it may return a pair" if is_sequence(y) and len(y) == 2 else ""
            raise GraphError(f"{self.name}: {called(self.f)} returns a {type(y).__name__}, not one scalar{pairs}")
        if y.size != 1:
            raise GraphError(
                f"{self.name}: {called(self.f)} returns {y.node.type}, no scalar; return its sum, or take vjp, jvp or "
                "a Jacobian"
            )
        return y

    def differentiable(self) -> list[bool]:
        return [isinstance(y, Tensor) and can_require_grad(y.dtype) for y in leaves(self.out)]

    def tangent(self, tangents: Any) -> Any:
        """How the result moves along ``tangents`` of the arguments; None for what does not."""
        moving = self.differentiable()
        outs = [y for y, moves in zip(leaves(self.out), moving, strict=True) if moves]
        left = iter(derivatives.jvp(outs, self.targets, self.moves(tangents)))
        return rebuild(self.out, (next(left) if moves else None for moves in moving))

    def moves(self, tangents: Any) -> list[Any]:
        """The tangents of the targets."""
        given = aligned(self.arguments, tangents, f"{self.name}: tangents")
        pairs = zip(leaves(self.arguments), given, strict=True)
        return [direction(f"{self.name}: the tangent", t, x) for x, t in pairs if self.is_target(x)]

    def cotangents(self, cotangents: Any) -> Any:
        """Cotangents of the arguments for those of the result."""
        moving = self.differentiable()
        given = [None] * len(moving) if cotangents is None else aligned(self.out, cotangents, "vjp: the cotangent")
        pairs = [(y, g) for y, g, moves in zip(leaves(self.out), given, moving, strict=True) if moves]
        seeds = [None if g is None else direction("vjp: the cotangent", g, y) for y, g in pairs]
        return self.like_arguments(derivatives.vjp([y for y, _ in pairs], self.targets, seeds))

    def finished(self, nest: Any) -> Any:
        """``nest`` with the arguments in the place of what stood in for them."""
        nodes = substitute([x.node for x in leaves(nest) if isinstance(x, Tensor)], self.values)
        left = iter(nodes)
        return rebuild(nest, (wrap(next(left)) if isinstance(x, Tensor) else x for x in leaves(nest)))


def as_tensors(given: Any) -> Any:
    """Arguments that no derivative is taken by: their arrays as tensors. Python numbers stay what they are."""
    return rebuild(given, (as_tensor(x) if is_array(x) and not is_weak(x) else x for x in leaves(given)))


def direction(say: str, t: Any, like: Tensor) -> Tensor:
    """A tangent or cotangent for ``like``; None is zeros, a traced float is of any dtype."""
    if t is None:
        return zeros_like(like)
    return Tensor(fitted(say, t.astype(like.dtype) if isinstance(t, Weak) else t, like.node))
