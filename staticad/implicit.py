"""Values that equations define, and their derivatives by the implicit function theorem; knows no loops, no kernels.

How a solution was found is not differentiated: at a solution of ``f(x, p) = 0`` a step of p moves x so that f stays 0.
The rules are written in the solution itself, so that they have derivatives of every order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from staticad.autodiff import jvp_nodes, push, vjp_nodes
from staticad.creation import full
from staticad.derivatives import jacobian
from staticad.dtypes import can_require_grad
from staticad.errors import DTypeError, GraphError
from staticad.functions.custom import fitted, one_by_one
from staticad.functions.elementwise import abs as absolute
from staticad.functions.elementwise import logical_not, maximum
from staticad.functions.loops import while_loop
from staticad.functions.manipulation import concat, matrix_transpose, reshape
from staticad.functions.operands import as_tensor, check_function
from staticad.functions.reductions import max as max_of
from staticad.ir import ArrayType, Node, Together, substitute
from staticad.linalg import solve
from staticad.nests import leaves, rebuild
from staticad.ops import calls, sources
from staticad.ops.closures import closed
from staticad.shapes import Dim
from staticad.tensor import Tensor, wrap

__all__ = ["fixed_point", "root"]


def root(f: Callable[..., Any], x0: Any, *operands: Any, tol: float | None = None, max_steps: Dim = 50) -> Any:
    """The x where ``f(x, *operands)`` is zero, near ``x0``: Newton's method, with derivatives of every order.

    x is a floating tensor or a nest of them; f returns one of the same form and shapes, so that there are as many
    equations as unknowns. f is called once, to build its graph; derivatives are taken by all tensors that it reads,
    those of ``operands`` and others, and not by ``x0``, on which the solution does not depend: one linear system with
    the Jacobian of f at the solution, whatever steps led there. Newton's method forms that matrix in every step, and
    stops after a step of at most ``tol * max(1, |x|)`` in its largest element (default: the square root of the
    dtype's epsilon; the error is then about the square of that).

    The compiled function raises `StepLimit` where ``max_steps`` steps do not lead there. Raises `ShapeError`,
    `DTypeError`: f's results are not like ``x0``, which is of one floating dtype; `GraphError`: a negative ``tol``.

    >>> import numpy as np, staticad as ad
    >>> a = ad.input("a", ())
    >>> x = ad.implicit.root(lambda x: x * x - a, 1.0)
    >>> ad.compile([a], [x, ad.grad(x, a)])(np.array(4.0))
    [array(2.), array(0.25)]
    """
    return _solved(Root, "implicit.root", f, x0, operands, tol, 1 / 2, max_steps)


def fixed_point(
    f: Callable[..., Any], x0: Any, *operands: Any, tol: float | None = None, max_steps: Dim = 10_000
) -> Any:
    """The x that ``f(x, *operands)`` maps to itself: ``x0``, ``f(x0)``, ``f(f(x0))``, ... with derivatives of every
    order.

    As `root`, for f that draws values together. No matrix is formed: derivatives are fixed points too, of the
    derivative of f at the solution, and as many steps away. Iteration stops after a step of at most
    ``tol * max(1, |x|)`` in its largest element (default: the dtype's epsilon to the power of 5/6), where the error is
    ``q / (1 - q)`` times as large if f makes distances q times as long.

    Raises as `root`.

    >>> import numpy as np, staticad as ad
    >>> a = ad.input("a", ())
    >>> x = ad.implicit.fixed_point(lambda x: ad.cos(a * x), 1.0)
    >>> [round(float(v), 6) for v in ad.compile([a], [x, ad.grad(x, a)])(np.array(1.0))]
    [0.739085, -0.297474]
    """
    return _solved(FixedPoint, "implicit.fixed_point", f, x0, operands, tol, 5 / 6, max_steps)


def _solved(
    kind: type[Equation], name: str, f: Callable[..., Any], x0: Any, operands: Sequence[Any], tol: float | None,
    power: float, max_steps: Dim,
) -> Any:  # fmt: skip
    """What `root` and `fixed_point` return: the unknowns are made one vector."""
    check_function(name, f)
    start = [as_tensor(x) for x in leaves(x0)]
    if not start or any(x.dtype != start[0].dtype or not can_require_grad(x.dtype) for x in start):
        types = ", ".join(str(x.node.type) for x in start) or "nothing"
        raise DTypeError(f"{name}: x0 is of one floating dtype, not {types}; convert with astype")
    dtype = start[0].dtype
    small = float(np.finfo(dtype).eps) ** power if tol is None else tol
    if not small >= 0:
        raise GraphError(f"{name}: tol is a number that is not negative, not {tol!r}")

    def parts(x: Tensor) -> Iterator[Tensor]:
        at: Dim = 0
        for like in start:
            yield reshape(x[at : at + like.size], like.shape)
            at = at + like.size

    x = sources.placeholder(_vector(start).node.type, "x")
    found = f(rebuild(x0, parts(Tensor(x))), *operands)
    values = zip(one_by_one(x0, found, f"{name}: what f returns"), start, strict=True)
    out = _vector([Tensor(fitted(f"{name}: what f returns", value, like.node)) for value, like in values])
    (inner,), outer, given = closed([out.node], [x])
    solution = kind(inner, x, given, small, max_steps).solution(_vector(start).node, outer)
    return rebuild(x0, (wrap(t.node) for t in parts(Tensor(solution))))


def _vector(xs: Sequence[Tensor]) -> Tensor:
    rows = [reshape(x, (x.size,)) for x in xs]
    return rows[0] if len(rows) == 1 else concat(rows)


def _largest(x: Tensor) -> Tensor:
    return max_of(absolute(x))


@dataclass(frozen=True, eq=False)
class Equation:
    """What ``out`` makes of the vector ``x`` and of ``given``, by which the x is defined that solves it."""

    out: Node
    x: Node
    given: Sequence[Node]
    tol: float
    max_steps: Dim
    floor: Node | None = None  # one of ``given``: the size of x below which steps are no longer small beside it; else 1

    def at(self, x: Node, given: Sequence[Node], *found: Node) -> list[Node]:
        """``out``, or nodes made of it, for such values."""
        return substitute(found or [self.out], {self.x: x, **dict(zip(self.given, given, strict=True))})

    def solution(self, start: Node, given: Sequence[Node]) -> Node:
        """The x for such values of ``given``, with its derivatives by them."""
        fixed = [sources.stop_gradient(p) for p in given]
        floor = 1.0 if self.floor is None else _largest(Tensor(fixed[self.given.index(self.floor)]))

        def goes_on(state: tuple[Tensor, Tensor]) -> Tensor:
            x, moved = state
            # So that NaN and infinities go on, to the limit of steps.
            return logical_not(moved - self.tol * maximum(floor, _largest(x)) <= 0)

        def step(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            x, _ = state
            after = self.better(x, fixed)
            return after, _largest(after - x)

        first = Tensor(sources.stop_gradient(start))
        if first.shape == (0,):
            return start
        unmoved = full((), np.inf, dtype=first.dtype)
        found, _ = while_loop(goes_on, step, (first, unmoved), self.max_steps)
        rule = Together(self.vjp, self.jvp, own=1)
        return calls.results(given, [found.node], rule)[0]

    def better(self, x: Tensor, given: Sequence[Node]) -> Tensor:
        """One step of the method."""
        raise NotImplementedError

    def moved(self, x: Node, given: Sequence[Node], by: Node) -> Node:
        """How the solution x moves where what ``out`` reads of ``given`` moves it by ``by``."""
        raise NotImplementedError

    def pulled(self, x: Node, given: Sequence[Node], g: Node) -> Node:
        """The cotangent of ``out`` where that of the solution is ``g``: the transpose of `moved`."""
        raise NotImplementedError

    def jvp(self, nodes: Sequence[Node], tangents: Sequence[Node | None]) -> Sequence[Node | None]:
        (x,), given = nodes, nodes[0].args[1:]
        moves = [(p, t) for p, t in zip(self.given, tangents[1:], strict=True) if t is not None]
        seeds = [sources.placeholder(t.type) for _, t in moves]
        (found,) = push([self.out], [p for p, _ in moves], seeds)
        if found is None:
            return [None]
        values = {self.x: x, **dict(zip(self.given, given, strict=True))}
        values |= dict(zip(seeds, (t for _, t in moves), strict=True))
        (by,) = substitute([found], values)
        return [self.moved(x, given, by)]

    def vjp(self, nodes: Sequence[Node], gs: Sequence[Node]) -> Sequence[Node | None]:
        (x,), given = nodes, nodes[0].args[1:]
        wrt = [p for p in self.given if can_require_grad(p.dtype)]
        seed = sources.placeholder(self.out.type)
        found = vjp_nodes([self.out], wrt, [seed])
        values = {self.x: x, **dict(zip(self.given, given, strict=True)), seed: self.pulled(x, given, gs[0])}
        parts = dict(zip(wrt, substitute(found, values), strict=True))
        return [None, *(parts.get(p) for p in self.given)]


class Root(Equation):
    """``out`` is 0."""

    @cached_property
    def slope(self) -> Node:
        return jacobian(Tensor(self.out), Tensor(self.x)).node

    def system(self, x: Node, given: Sequence[Node]) -> Tensor:
        (found,) = self.at(x, given, self.slope)
        return Tensor(found)

    def better(self, x: Tensor, given: Sequence[Node]) -> Tensor:
        value, slope = map(Tensor, self.at(x.node, given, self.out, self.slope))
        return x - solve(slope, value)

    def moved(self, x: Node, given: Sequence[Node], by: Node) -> Node:
        return solve(self.system(x, given), -Tensor(by)).node

    def pulled(self, x: Node, given: Sequence[Node], g: Node) -> Node:
        return solve(matrix_transpose(self.system(x, given)), -Tensor(g)).node


class FixedPoint(Equation):
    """``out`` is x."""

    def better(self, x: Tensor, given: Sequence[Node]) -> Tensor:
        return Tensor(self.at(x.node, given)[0])

    def moved(self, x: Node, given: Sequence[Node], by: Node) -> Node:
        seed = sources.placeholder(self.x.type)
        return self.linear(jvp_nodes([self.out], [self.x], [seed])[0], seed, [x, *given], by)

    def pulled(self, x: Node, given: Sequence[Node], g: Node) -> Node:
        seed = sources.placeholder(self.out.type)
        return self.linear(vjp_nodes([self.out], [self.x], [seed])[0], seed, [x, *given], g)

    def linear(self, image: Node, of: Node, given: Sequence[Node], more: Node) -> Node:
        """The t that is its ``image``, linear in ``of``, plus ``more``."""
        added = sources.placeholder(ArrayType(more.dtype, more.shape))
        stand = [self.x, *self.given, added]
        return FixedPoint(image + added, of, stand, self.tol, self.max_steps, added).solution(more, [*given, more])
