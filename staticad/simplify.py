"""Algebraic rules on graphs, exact in floating point; each is proven by a test that makes it fire. Knows ops, no loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from staticad.ir import Graph, Node, Op, rewrite
from staticad.ops import arithmetic, creation, indexing, logic, products, reductions, sources, views
from staticad.shapes import add, known_ge, mul

Rule = Callable[[Node], Node | None]
#: Constants folded over more rewrites than this would point to rules that undo each other.
ROUNDS = 50


def simplify(graph: Graph) -> Graph:
    """The graph with every rule applied where it holds, operands first, and equal nodes made one."""
    return rewrite(graph, apply)


def apply(node: Node) -> Node:
    """``node`` with the rules of its op applied until none holds."""
    for _ in range(ROUNDS):
        new = next((out for rule in RULES.get(node.op, ()) if (out := rule(node)) is not None), None)
        if new is None:
            return node
        node = new
    return node


def constant(node: Node) -> Any:
    """The number that every element of ``node`` is, if that is known; else None."""
    return node.params["value"] if node.op in CONSTANTS else None


CONSTANTS = frozenset({creation.full})


def is_value(node: Node, number: float) -> bool:
    value = constant(node)
    return isinstance(value, (bool, int, float)) and value == number


def drop(node: Node) -> Node | None:
    """A mark that only differentiation looks at is its operand."""
    return node.args[0]


def drop_same_shape(node: Node) -> Node | None:
    """``assume_shape`` to the shape there is."""
    return node.args[0] if node.args[0].shape == node.shape else None


def multiply_by_one(node: Node) -> Node | None:
    """``x * 1`` and ``1 * x`` are x."""
    x, y = node.args
    return x if is_value(y, 1) else y if is_value(x, 1) else None


def multiply_by_minus_one(node: Node) -> Node | None:
    """``x * -1`` is -x."""
    x, y = node.args
    if node.dtype.kind not in "if":
        return None
    return arithmetic.negative(x) if is_value(y, -1) else arithmetic.negative(y) if is_value(x, -1) else None


def divide_by_one(node: Node) -> Node | None:
    """``x / 1`` is x."""
    return node.args[0] if is_value(node.args[1], 1) else None


def add_zero(node: Node) -> Node | None:
    """``x + 0`` is x for integers, and ``x + -0.0`` for floats (``-0.0 + 0.0`` is 0.0, so a positive zero stays)."""
    x, y = node.args
    return x if _is_neutral(y) else y if _is_neutral(x) else None


def _is_neutral(node: Node) -> bool:
    if node.dtype.kind == "f":
        return is_value(node, 0) and str(constant(node)).startswith("-")
    return is_value(node, 0)


def subtract_zero(node: Node) -> Node | None:
    """``x - 0`` is x."""
    y = node.args[1]
    return node.args[0] if is_value(y, 0) and not str(constant(y)).startswith("-") else None


def negate_twice(node: Node) -> Node | None:
    """``-(-x)`` is x."""
    x = node.args[0]
    return x.args[0] if x.op is node.op else None


def add_negative(node: Node) -> Node | None:
    """``x + -y`` is x - y."""
    x, y = node.args
    return arithmetic.subtract(x, y.args[0]) if y.op in NEGATIVE else None


def subtract_negative(node: Node) -> Node | None:
    """``x - -y`` is x + y."""
    x, y = node.args
    return arithmetic.add(x, y.args[0]) if y.op in NEGATIVE else None


NEGATIVE = frozenset({arithmetic.negative})


def negate_constant(node: Node) -> Node | None:
    """``-c`` is a constant."""
    value = constant(node.args[0])
    if not isinstance(value, (int, float)) or node.dtype.kind not in "if":
        return None
    return creation.fill(node, -value)


def convert_constant(node: Node) -> Node | None:
    """A conversion of a constant is a constant, one to the dtype there is nothing."""
    x = node.args[0]
    if x.dtype == node.dtype:
        return x
    value = constant(x)
    if not isinstance(value, (bool, int, float)) or node.dtype.kind != "f":
        return None
    return creation.fill(node, value)


def select_same(node: Node) -> Node | None:
    """``where(c, x, x)`` is x; ``where(True, x, y)`` is x."""
    condition, x, y = node.args
    if x is y:
        return x
    value = constant(condition)
    return None if value is None else x if value else y


def view_of_constant(node: Node) -> Node | None:
    """A view of a constant is a constant."""
    value = constant(node.args[0])
    return None if value is None else creation.full(value=value, shape=node.shape, dtype=node.dtype)


def same_shape(node: Node) -> Node | None:
    """A reshape or broadcast to the shape there is."""
    return node.args[0] if node.args[0].shape == node.shape else None


def reshape_twice(node: Node) -> Node | None:
    """``reshape(reshape(x))`` is one reshape."""
    x = node.args[0]
    return views.reshape(x.args[0], shape=node.shape) if x.op is node.op else None


def transpose_nothing(node: Node) -> Node | None:
    """A transpose that leaves every axis in place."""
    return node.args[0] if node.params["axes"] == tuple(range(len(node.shape))) else None


def transpose_twice(node: Node) -> Node | None:
    """``transpose(transpose(x))`` is one transpose."""
    x = node.args[0]
    if x.op is not node.op:
        return None
    inner = x.params["axes"]
    return views.transpose(x.args[0], axes=tuple(inner[k] for k in node.params["axes"]))


def transpose_product(node: Node) -> Node | None:
    """A transposed product is the product with its result written in that order."""
    x = node.args[0]
    if x.op not in PRODUCTS:
        return None
    operands, out = x.params["spec"].split("->")
    return products.contract(*x.args, spec=f"{operands}->{''.join(out[k] for k in node.params['axes'])}")


PRODUCTS = frozenset({products.contract})


def broadcast_twice(node: Node) -> Node | None:
    """``broadcast(broadcast(x))`` is one broadcast."""
    x = node.args[0]
    if x.op is not node.op:
        return None
    outer = node.params["axes"]
    return views.broadcast(x.args[0], shape=node.shape, axes=tuple(outer[k] for k in x.params["axes"]))


def reduce_single(node: Node) -> Node | None:
    """A sum, product, maximum, ... over axes of size 1 is a reshape; such axes among others are left out first."""
    x, axes = node.args[0], node.params["axes"]
    ones = tuple(a for a in axes if x.shape[a] == 1)
    if not ones:
        return None
    rest = views.reshape(x, shape=tuple(d for a, d in enumerate(x.shape) if a not in ones))
    kept = tuple(a - sum(b < a for b in ones) for a in axes if a not in ones)
    return node.op(rest, axes=kept) if kept else rest


def slice_nothing(node: Node) -> Node | None:
    """A slice of everything."""
    x = node.args[0]
    whole = all(s == 0 for s in node.params["start"]) and all(s == 1 for s in node.params["step"])
    return x if whole and x.shape == node.shape else None


def slice_twice(node: Node) -> Node | None:
    """``slice(slice(x))`` is one slice."""
    x = node.args[0]
    if x.op is not node.op:
        return None
    start = tuple(
        add(inner, mul(outer, step))
        for inner, outer, step in zip(x.params["start"], node.params["start"], x.params["step"], strict=True)
    )
    step = tuple(a * b for a, b in zip(x.params["step"], node.params["step"], strict=True))
    return views.slice_(x.args[0], start=start, size=node.params["size"], step=step)


def slice_of_update(node: Node) -> Node | None:
    """A slice of what `update_slice` wrote is that; one that misses it is a slice of the base."""
    x = node.args[0]
    if x.op not in UPDATES or any(s != 1 for s in (*node.params["step"], *x.params["step"])):
        return None
    base, new = x.args
    starts, sizes = node.params["start"], node.params["size"]
    if starts == x.params["start"] and sizes == new.shape:
        return new
    apart = any(
        known_ge(start, add(at, size)) or known_ge(at, add(start, length))
        for start, length, at, size in zip(starts, sizes, x.params["start"], new.shape, strict=True)
    )
    return views.slice_(base, **node.params) if apart and base.op not in UNINITIALISED else None


UPDATES = frozenset({indexing.update_slice})
UNINITIALISED = frozenset({indexing.uninitialised})

REDUCTIONS = (reductions.sum_, reductions.prod, reductions.max_, reductions.min_, reductions.any_, reductions.all_)

# fmt: off
RULES: dict[Op, tuple[Rule, ...]] = {
    sources.leaf:          (drop,),
    sources.stop_gradient: (drop,),
    sources.assume_shape:  (drop_same_shape,),
    arithmetic.multiply:   (multiply_by_one, multiply_by_minus_one),
    arithmetic.divide:     (divide_by_one,),
    arithmetic.add:        (add_zero, add_negative),
    arithmetic.subtract:   (subtract_zero, subtract_negative),
    arithmetic.negative:   (negate_twice, negate_constant),
    creation.astype:       (convert_constant,),
    logic.select:          (select_same,),
    views.reshape:         (same_shape, view_of_constant, reshape_twice),
    views.broadcast:       (same_shape, view_of_constant, broadcast_twice),
    views.transpose:       (transpose_nothing, view_of_constant, transpose_twice, transpose_product),
    views.slice_:          (slice_nothing, view_of_constant, slice_twice, slice_of_update),
    **dict.fromkeys(REDUCTIONS, (reduce_single,)),
}
# fmt: on
