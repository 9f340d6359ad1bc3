"""Functions with derivatives of the user's own, or computed again for them; traces calls, knows no loops."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import update_wrapper, wraps
from inspect import signature
from itertools import chain, count
from typing import Any

import numpy as np

from staticad.autodiff import differentiated, pull
from staticad.dtypes import can_require_grad
from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.functions.operands import as_tensor, assume, check_function, differ
from staticad.ir import Node, Together, substitute, toposort, toposort_until
from staticad.nests import aligned, is_dict, is_sequence, leaves, map_leaves, rebuild
from staticad.ops import calls, creation, sources
from staticad.ops.closures import read_outside
from staticad.tensor import Tensor, wrap


def stop_gradient(x: Any) -> Any:
    """The same values, constant to derivatives of either mode: for a tensor or a nest of them.

    >>> import staticad as ad
    >>> x = ad.input("x", (2,))
    >>> ad.evaluate(ad.grad(ad.sum(x * ad.stop_gradient(x)), x), {x: [3.0, 4.0]})
    array([3., 4.])
    """
    return map_leaves(lambda t: t.detach() if isinstance(t, Tensor) else t, x)


def checkpoint(f: Callable[..., Any]) -> Callable[..., Any]:
    """``f``, of whose inside derivatives keep nothing: a backward pass computes it again from the arguments.

    For a program whose intermediate values take more memory than their recomputation takes time. ``f`` is a function of
    tensors (or nests of them) and anything else, and may read any tensor from outside; use it as a decorator or as
    ``ad.checkpoint(f)(x)``. Values and derivatives of any order and mode are those of ``f``.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", (2,))
    >>> layer = ad.checkpoint(lambda x: ad.exp(ad.sin(x)))
    >>> y = layer(layer(x))
    >>> ad.evaluate(ad.grad(ad.sum(y), x), {x: np.zeros(2)})
    array([1.25338077, 1.25338077])
    """

    check_function("checkpoint", f)

    @wraps(f)
    def call(*args: Any, **kwargs: Any) -> Any:
        given = (args, kwargs)
        traced = Traced()

        def run(nodes: list[Node]) -> list[Node]:
            inner, named = with_tensors(given, nodes)
            return traced.results(f(*inner, **named))

        return traced.outcome(calls.checkpointed(operands_of(given), run))

    return call


class Traced:
    """The nest that a traced function gave, to be put together again from the results of its call."""

    out: Any = None

    def results(self, out: Any) -> list[Node]:
        self.out = out
        return [as_tensor(x).node for x in leaves(out) if x is not None]

    def outcome(self, nodes: Sequence[Node]) -> Any:
        left = iter(nodes)
        return rebuild(self.out, (None if x is None else wrap(next(left)) for x in leaves(self.out)))


def operands_of(given: Any) -> list[Node]:
    return [x.node for x in leaves(given) if isinstance(x, Tensor)]


def with_tensors(given: Any, nodes: Sequence[Node]) -> Any:
    """``given`` with ``nodes`` in the place of its tensors."""
    left = iter(nodes)
    return rebuild(given, (Tensor(next(left)) if isinstance(x, Tensor) else x for x in leaves(given)))


# ---- rules of the user's


@dataclass(frozen=True, eq=False)
class Invocation:
    """The arguments of one call: ``moving``, which derivatives are taken by, and ``fixed``, by position."""

    moving: tuple[Any, ...]
    fixed: dict[int, Any]

    @property
    def operands(self) -> list[Node]:
        return operands_of(self.moving)

    def arguments(self, moving: Iterable[Any]) -> list[Any]:
        """All arguments in order, with others for those that move."""
        left = iter(moving)
        return [self.fixed[k] if k in self.fixed else next(left) for k in range(len(self.fixed) + len(self.moving))]

    def with_nodes(self, nodes: Sequence[Node]) -> list[Any]:
        return self.arguments(with_tensors(self.moving, nodes))


class Custom:
    """A function with a derivative of its own: what `custom_vjp` and `custom_jvp` share."""

    kind: str
    way_in: str

    def __init__(self, f: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()):
        check_function(self.kind, f)
        self.f = f
        self.nondiff_argnums = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else tuple(nondiff_argnums)
        self.name: str = getattr(f, "__name__", type(f).__name__)
        update_wrapper(self, f)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not self.has_rule:
            raise self.error(f"has no rule yet; give it one with {self.way_in}")
        call = self.invocation(positional(self.f, args, kwargs))
        operands = call.operands
        if not operands:
            return self.f(*args, **kwargs)
        traced = Traced()
        arguments = [sources.stop_gradient(x) for x in operands]
        outs = traced.results(self.f(*call.with_nodes(arguments)))
        self.refuse_outside(outs, arguments)
        return traced.outcome(calls.results(operands, outs, self.rule(call, traced)))

    @property
    def has_rule(self) -> bool:
        raise NotImplementedError

    def rule(self, call: Invocation, traced: Traced) -> Together:
        """The derivatives of one call; ``traced`` has the results once it was traced."""
        raise NotImplementedError

    def error(self, text: str) -> GraphError:
        return GraphError(f"{self.kind}: {self.name} {text}")

    def invocation(self, args: tuple[Any, ...]) -> Invocation:
        count = len(args)
        if any(not -count <= k < count for k in self.nondiff_argnums):
            raise self.error(f"was given {count} arguments; nondiff_argnums={self.nondiff_argnums} names others")
        fixed = {k % count: args[k % count] for k in self.nondiff_argnums}
        return Invocation(tuple(x for k, x in enumerate(args) if k not in fixed), fixed)

    def refuse_outside(self, outs: Sequence[Node], arguments: Sequence[Node]) -> None:
        """Raise `GraphError` where the function reads a tensor that derivatives may be asked by, and is not given it.

        The rule says nothing of it, and a gradient of zeros would be wrong."""
        outer = read_outside(outs, arguments)
        order = toposort(outer)
        sources_ = [x for x in order if may_vary(x)]
        _, _, active = differentiated(outer, sources_)
        found = next((x for x in outer if x in active), None)
        if found is not None:
            raise self.error(
                f"reads {Tensor(found)!r} from outside, by which its rule gives no derivative; "
                "make it an argument, or cut it off with staticad.stop_gradient"
            )

    def tensors(self, say: str, value: Any, like: Any) -> Iterator[Node | None]:
        """What ``value`` has for each tensor of ``like``, as a node of its type; None where it has None for it."""
        for x, part in zip(leaves(like), aligned_or_none(like, value, f"{self.kind}: {say}"), strict=True):
            if isinstance(x, Tensor):
                moves = part is not None and can_require_grad(x.dtype)
                yield fitted(f"{self.kind}: {say}", part, x.node) if moves else None

    def linear(
        self, outs: Sequence[Node], wrt: Sequence[Node], seeds: Sequence[Node], values: Mapping[Node, Node], by: str
    ) -> list[Node | None]:
        """Cotangents of ``wrt``, in which ``outs`` are linear, with ``values`` for what stands in them."""
        try:
            found = pull(outs, wrt, seeds)
        except RecursionError as error:
            raise self.error(
                f"has a rule that is {self.name} of {by}, whose transpose is asked for in turn; "
                "give each mode a rule of its own, with staticad.custom_op, or write the rule in other operations"
            ) from error
        there = [x for x in found if x is not None]
        if not set(wrt).isdisjoint(toposort_until(there, values)):
            raise self.error(f"has a rule that is not linear in {by}")
        left = iter(substitute(there, values))
        return [None if x is None else next(left) for x in found]


def number_of(node: Node) -> int:
    return node.params["number"]


def may_vary(node: Node) -> bool:
    """Whether a derivative by a node may be asked: an input, a parameter, a leaf."""
    given = sources.is_input(node) or sources.is_leaf(node)
    return can_require_grad(node.dtype) and (given or (sources.is_data(node) and not node.params["storage"].constant))


def positional(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """All arguments by position, as rules get them."""
    if not kwargs:
        return args
    bound = signature(f).bind(*args, **kwargs)
    bound.apply_defaults()
    if bound.kwargs:
        raise GraphError(f"{f}: arguments that are passed by keyword alone cannot be passed to a rule")
    return bound.args


def aligned_or_none(nest: Any, other: Any, say: str) -> Iterator[Any]:
    """`aligned`, where None in the place of a nest is None for all of it."""
    if other is None:
        return (None for _ in leaves(nest))
    if is_sequence(nest) and is_sequence(other) and len(nest) == len(other):
        return chain.from_iterable(aligned_or_none(x, y, say) for x, y in zip(nest, other, strict=True))
    if is_dict(nest) and is_dict(other) and set(nest) == set(other):
        return chain.from_iterable(aligned_or_none(nest[key], other[key], say) for key in nest)
    return one_by_one(nest, other, say)


def one_by_one(nest: Any, other: Any, say: str) -> Iterator[Any]:
    """`aligned`, where what stands for a leaf may be no nest."""
    for x in aligned(nest, other, say):
        if is_sequence(x) or is_dict(x):
            raise ShapeError(f"{say}: expected one tensor, got a {type(x).__name__}")
        yield x


def fitted(say: str, value: Any, like: Node) -> Node:
    """``value`` as a node of the type of ``like``."""
    t = as_tensor(value)
    if len(t.shape) != len(like.shape) or any(map(differ, t.shape, like.shape)):
        raise ShapeError(f"{say} has type {t.node.type}, but must have the shape of {like.type}")
    if t.dtype != like.dtype:
        if isinstance(value, (Tensor, np.ndarray)):
            raise DTypeError(f"{say} has type {t.node.type}, but must have the dtype of {like.type}; use astype")
        return creation.astype(t.node, dtype=like.dtype)
    return assume(t.node, like.shape, lambda: f"{say} has type {t.node.type}, but must have the shape of {like.type}")


def zeros(x: Any) -> Any:
    """Zeros like a tensor, an array or a float; None for what has no derivative."""
    if isinstance(x, Tensor):
        return Tensor(creation.fill(x.node, 0)) if can_require_grad(x.dtype) else None
    floats = isinstance(x, (float, np.ndarray, np.generic)) and can_require_grad(np.asarray(x).dtype)
    return np.zeros_like(np.asarray(x)) if floats else None


class custom_vjp(Custom):  # noqa: N801  (JAX's name, used as a decorator)
    """A function of tensors whose reverse-mode derivative the user writes, in staticad's operations. A decorator.

    ``f.defvjp(fwd, bwd)``: ``fwd`` takes the arguments of f and returns ``(f(...), residuals)``; ``bwd(residuals, g)``
    takes a cotangent for each result, in the nest that f returns, and gives a tuple with one for each argument, in its
    nest (None: zeros). Arguments in ``nondiff_argnums`` are passed on as they are, and to ``bwd`` before the others;
    what is no tensor needs no cotangent. As in JAX; forward mode, which JAX does not have here, is the transpose of
    ``bwd``. Derivatives of higher order differentiate ``fwd`` and ``bwd``.

    Raises `GraphError` where there is no rule, where f reads a tensor from outside that derivatives may be asked by,
    where ``bwd`` gives no tuple of the right length or is not linear in g; `ShapeError`, `DTypeError` where a cotangent
    does not fit.

    >>> import numpy as np, staticad as ad
    >>> @ad.custom_vjp
    ... def clip_gradient(x, low, high):
    ...     return x
    >>> clip_gradient.defvjp(
    ...     lambda x, low, high: (x, (low, high)),
    ...     lambda bounds, g: (ad.clip(g, *bounds), None, None),
    ... )
    >>> x = ad.input("x", (2,))
    >>> ad.evaluate(ad.grad(ad.sum(clip_gradient(x, -1.0, 1.0) ** 2), x), {x: np.array([0.25, 8.0])})
    array([0.5, 1. ])
    """

    kind, way_in = "custom_vjp", "f.defvjp(fwd, bwd)"
    fwd: Callable[..., Any] | None = None
    bwd: Callable[..., Any] | None = None

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule: ``fwd(*args) -> (out, residuals)``, ``bwd(residuals, cotangents) -> tuple``."""
        check_function(f"{self.kind}: {self.name}.defvjp", fwd, "fwd")
        check_function(f"{self.kind}: {self.name}.defvjp", bwd, "bwd")
        self.fwd, self.bwd = fwd, bwd

    @property
    def has_rule(self) -> bool:
        return self.fwd is not None

    def rule(self, call: Invocation, traced: Traced) -> Together:
        def vjp(nodes: Sequence[Node], gs: Sequence[Node]) -> Sequence[Node | None]:
            given = {number_of(node): g for node, g in zip(nodes, gs, strict=True)}
            return [None, *self.pulled(call, traced, nodes[0].args[1:], given)]

        def jvp(nodes: Sequence[Node], tangents: Sequence[Node | None]) -> Sequence[Node | None]:
            operands = nodes[0].args[1:]
            xs = [sources.placeholder(x.type) for x in operands]
            seeds = [sources.placeholder(node.type) for node in nodes]
            given = {number_of(node): g for node, g in zip(nodes, seeds, strict=True)}
            parts = self.pulled(call, traced, xs, given)
            moved = [(part, t) for part, t in zip(parts, tangents[1:], strict=True) if part and t]
            along = [sources.placeholder(t.type) for _, t in moved]
            values = dict(zip([*xs, *along], [*operands, *(t for _, t in moved)], strict=True))
            return self.linear([part for part, _ in moved], seeds, along, values, "the cotangents")

        return Together(vjp, jvp, own=1)

    def pulled(
        self, call: Invocation, traced: Traced, operands: Sequence[Node], given: Mapping[int, Node]
    ) -> list[Node | None]:
        """The cotangents of ``operands`` that the rule gives for those of results, by their number."""
        assert self.fwd is not None
        assert self.bwd is not None
        pair = self.fwd(*call.with_nodes(operands))
        if not is_sequence(pair) or len(pair) != 2:
            raise self.error(f"has a fwd that returns no pair (out, residuals), but {type(pair).__name__}")
        out, residuals = pair
        say, numbers = f"custom_vjp: what fwd of {self.name} returns", count()
        cotangents: list[Any] = []
        for like, x in zip(leaves(traced.out), one_by_one(traced.out, out, say), strict=True):
            g = None if like is None else given.get(next(numbers))
            cotangents.append(zeros(x) if g is None else Tensor(g))
        found = self.bwd(*call.fixed.values(), residuals, rebuild(traced.out, iter(cotangents)))
        if not is_sequence(found) or len(found) != len(call.moving):
            raise self.error(
                f"has a bwd that returns no tuple with a cotangent for each of {len(call.moving)} arguments, "
                f"but {type(found).__name__}"
            )
        return list(self.tensors(f"what bwd of {self.name} gives", found, with_tensors(call.moving, operands)))


class custom_jvp(Custom):  # noqa: N801  (JAX's name, used as a decorator)
    """A function of tensors whose forward-mode derivative the user writes, in staticad's operations. A decorator.

    ``f.defjvp(rule)``: ``rule(primals, tangents)`` takes the arguments of f and how each moves, and returns
    ``(out, tangent of out)``; it is linear in the tangents, so that reverse mode is its transpose. Arguments in
    ``nondiff_argnums`` are passed to it as they are, before the others. What has no derivative has the tangent None.
    Derivatives of higher order differentiate the rule. As in JAX.

    Raises `GraphError` where there is no rule, where f reads a tensor from outside that derivatives may be asked by,
    where the rule gives no pair or is not linear in the tangents; `ShapeError`, `DTypeError` where a tangent does not
    fit.

    >>> import numpy as np, staticad as ad
    >>> @ad.custom_jvp
    ... def log1pexp(x):
    ...     return ad.log(1 + ad.exp(x))
    >>> @log1pexp.defjvp
    ... def rule(primals, tangents):
    ...     (x,), (t,) = primals, tangents
    ...     return log1pexp(x), t * (1 - 1 / (1 + ad.exp(x)))
    >>> x = ad.input("x", ())
    >>> float(ad.evaluate(ad.grad(log1pexp(x), x), {x: 100.0}))
    1.0
    """

    kind, way_in = "custom_jvp", "f.defjvp(rule)"
    rule_: Callable[..., Any] | None = None

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule, ``rule(primals, tangents) -> (out, tangent)``, and return it, so that it can be a decorator."""
        check_function(f"{self.kind}: {self.name}.defjvp", rule)
        self.rule_ = rule
        return rule

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Set a rule for each argument, ``rule(t, out, *primals) -> tangent``, whose sum is the tangent.

        None where an argument adds nothing."""

        for rule_of_one in rules:
            if rule_of_one is not None:
                check_function(f"{self.kind}: {self.name}.defjvps", rule_of_one, "each rule")

        def rule(primals: Any, tangents: Any) -> Any:
            out = self(*primals)
            parts = [f(t, out, *primals) for f, t in zip(rules, tangents, strict=True) if f is not None]
            return out, sum(parts[1:], start=parts[0]) if parts else zeros(out)

        self.rule_ = rule

    @property
    def has_rule(self) -> bool:
        return self.rule_ is not None

    def rule(self, call: Invocation, traced: Traced) -> Together:
        def jvp(nodes: Sequence[Node], tangents: Sequence[Node | None]) -> Sequence[Node | None]:
            found = self.pushed(call, traced, nodes[0].args[1:], tangents[1:])
            return [found[number_of(node)] for node in nodes]

        def vjp(nodes: Sequence[Node], gs: Sequence[Node]) -> Sequence[Node | None]:
            operands = nodes[0].args[1:]
            xs = [sources.placeholder(x.type) for x in operands]
            moves = {k: sources.placeholder(x.type) for k, x in enumerate(operands) if can_require_grad(x.dtype)}
            pushed = self.pushed(call, traced, xs, [moves.get(k) for k in range(len(xs))])
            outs = [(t, g) for node, g in zip(nodes, gs, strict=True) if (t := pushed[number_of(node)])]
            seeds = [sources.placeholder(g.type) for _, g in outs]
            values = dict(zip([*xs, *seeds], [*operands, *(g for _, g in outs)], strict=True))
            found = self.linear([t for t, _ in outs], list(moves.values()), seeds, values, "the tangents")
            parts: list[Node | None] = [None] * (1 + len(operands))
            for k, part in zip(moves, found, strict=True):
                parts[1 + k] = part
            return parts

        return Together(vjp, jvp, own=1)

    def pushed(
        self, call: Invocation, traced: Traced, operands: Sequence[Node], tangents: Sequence[Node | None]
    ) -> list[Node | None]:
        """The tangent of every result that the rule gives for those of ``operands``."""
        assert self.rule_ is not None
        primals = with_tensors(call.moving, operands)
        left = iter(tangents)
        moves = [None if not isinstance(x, Tensor) else next(left) for x in leaves(primals)]
        given = rebuild(
            primals, (zeros(x) if t is None else Tensor(t) for x, t in zip(leaves(primals), moves, strict=True))
        )
        pair = self.rule_(*call.fixed.values(), primals, given)
        if not is_sequence(pair) or len(pair) != 2:
            raise self.error(f"has a rule that returns no pair (out, tangent), but {type(pair).__name__}")
        like = rebuild(traced.out, (x if x is None else as_tensor(x) for x in leaves(pair[0])))
        return list(self.tensors(f"the tangent that the rule of {self.name} gives", pair[1], like))
