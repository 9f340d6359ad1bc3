"""Rewrite rules as data: a pattern is a graph over wildcards, as is what takes its place; knows no op but constants.

    Rewrite("add_negative", X + -Y, X - Y)

A pattern fits a node that the same ops made, whatever their parameters, of what fits their operands; those of
commutative ops in either order. A wildcard fits any node, but the same one (or an equal one) wherever it stands; a
constant fits that number, where 0.0 and -0.0 are two floats and True is only a bool, but 1 a number of any type.
Patterns are a few ops deep, and so is all recursion here.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product, repeat
from math import copysign
from typing import TypeAlias

from staticad.dtypes import as_dtype
from staticad.ir import ArrayType, Node, Op, toposort
from staticad.lowering import Source
from staticad.ops.creation import constant, fill
from staticad.ops.rules import no_jvp, no_vjp

Rule: TypeAlias = Callable[[Node], Node | None]
#: Equal terms are looked for in so many nodes; they are a few ops in practice.
LOOK_AT = 16


def _type(*, name: str, kinds: str, made: Op | None) -> ArrayType:
    return ArrayType(as_dtype("bool" if kinds == "b" else f"{kinds[-1]}8"))


def _no_value(*, name: str, kinds: str, made: Op | None) -> object:
    raise AssertionError(f"the wildcard {name} has no value")


# What a pattern leaves open. It has a type so that ops can be applied to it, which is one of those it fits.
_wildcard = Op(
    name="wildcard",
    infer=_type,
    numpy=_no_value,
    lower=Source(),
    vjp=no_vjp,
    jvp=no_jvp,
)


def wildcard(name: str, kinds: str = "biuf", made: Op | None = None) -> Node:
    """Any node of a dtype of ``kinds``, made by the op ``made`` if that is given."""
    return _wildcard(name=name, kinds=kinds, made=made)


def applied(op: Op, *terms: Node) -> Node:
    """A pattern of ``op`` with any parameters, on operands that ``terms`` fit, of any type."""
    return Node(op, terms, {}, terms[0].type)


def on(outer: Op, inner: Op) -> Node:
    """A pattern of ``outer`` on what ``inner`` made, which is what its wildcard stands for."""
    return applied(outer, wildcard("x", made=inner))


# fmt: off
X, Y = wildcard("x"), wildcard("y")
I, J = wildcard("i", "biu"), wildcard("j", "biu")  # neither is inf or nan
C    = wildcard("c", "b")                          # a condition
# fmt: on


class Pattern:
    """What nodes are matched with: a ``term`` in every order of its commutative ops."""

    def __init__(self, term: Node) -> None:
        self.op = term.op
        self.wildcards = [x for x in toposort([term]) if x.op is _wildcard]
        self.orders = [(order, heads(order)) for order in orders(term)]

    def matches(self, node: Node) -> Iterator[tuple[Node, ...]]:
        """For each way in which the pattern fits ``node``, what its wildcards stand for, from left to right."""
        for order, ops in self.orders if node.op is self.op else ():
            for k, op in ops:
                if node.args[k].op is not op:
                    break
            else:
                found: dict[Node, Node] = {}
                if fits(order, node, found):
                    yield tuple(found[x] for x in self.wildcards)

    def match(self, node: Node) -> tuple[Node, ...] | None:
        """The first of `matches`, if there is one."""
        return next(self.matches(node), None)


@dataclass(frozen=True, eq=False)
class Rewrite:
    """A rule: what ``before`` fits is ``after``, made of the same wildcards, its constants of the node's type.

    Or ``after(node, *found)``, given what the wildcards stand for from left to right, unless that is None."""

    name: str
    before: Node
    after: Node | Callable[..., Node | None]

    @cached_property
    def pattern(self) -> Pattern:
        return Pattern(self.before)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, node: Node) -> Node | None:
        pattern, after = self.pattern, self.after
        for found in pattern.matches(node):
            if isinstance(after, Node):
                return put(after, dict(zip(pattern.wildcards, found, strict=True)), node)
            out = after(node, *found)
            if out is not None:
                return out
        return None


def orders(term: Node) -> list[Node]:
    """``term`` with the operands of its commutative ops in every order."""
    if not term.args:
        return [term]
    choices = list(product(*map(orders, term.args)))
    if "commutative" in term.op.laws and term.args[0] is not term.args[1]:
        choices += [args[::-1] for args in choices]
    return [Node(term.op, args, term.params, term.type) for args in choices]


def heads(term: Node) -> list[tuple[int, Op]]:
    """Which operands of a node that ``term`` fits are made by which ops: most nodes are told apart by that."""
    made = [x.params["made"] if x.op is _wildcard else x.op for x in term.args]
    return [(k, op) for k, op in enumerate(made) if op is not None]


def fits(term: Node, node: Node, found: dict[Node, Node]) -> bool:
    """Whether ``term``, in its present order, fits ``node``; ``found`` is what wildcards stand for."""
    if term.args:
        return term.op is node.op and all(map(fits, term.args, node.args, repeat(found)))
    if term.op is _wildcard:
        made = term.params["made"]
        there = found.setdefault(term, node)
        return node.dtype.kind in term.params["kinds"] and (made is None or made is node.op) and same(there, node)
    return is_number(node, term.params["value"])


def put(term: Node, found: dict[Node, Node], like: Node) -> Node:
    """``term`` with what its wildcards stand for; constants are of the type of ``like``."""
    if term in found:
        return found[term]
    value = constant(term)
    return term.op(*(put(x, found, like) for x in term.args), **term.params) if value is None else fill(like, value)


def is_number(node: Node, number: float) -> bool:
    """Whether every element of ``node`` is known to be ``number``; of floats with its sign, of a truth value as one."""
    value = constant(node)
    if value != number or not isinstance(value, bool if isinstance(number, bool) else (bool, int, float)):
        return False
    return node.dtype.kind != "f" or copysign(1, value) == copysign(1, number)


def same(x: Node, y: Node) -> bool:
    """Whether two nodes are one, or a few equal ops on the same nodes: a graph not simplified says things twice."""
    waiting = [(x, y)]
    for _ in range(LOOK_AT):
        if not waiting:
            return True
        a, b = waiting.pop()
        if a is not b:
            if a.op is not b.op or a.params != b.params or not a.args or len(a.args) != len(b.args):
                return False
            waiting += zip(a.args, b.args, strict=True)
    return not waiting


def under(node: Node, ops: Container[Op]) -> tuple[Node, list[Node]]:
    """What ``node`` shows through ``ops`` of one operand, and what these made, the outermost first."""
    seen: list[Node] = []
    while node.op in ops:
        seen.append(node)
        node = node.args[0]
    return node, seen


def by_op(rules: Iterable[Rewrite]) -> dict[Op, tuple[Rewrite, ...]]:
    """The rules of each op that makes what they replace, in their order."""
    found: dict[Op, tuple[Rewrite, ...]] = {}
    for rule in rules:
        found[rule.before.op] = (*found.get(rule.before.op, ()), rule)
    return found
