"""Algebraic rules on graphs, exact in floating point, each proven by a test that makes it fire; knows ops, no loops."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from staticad.ir import Graph, Node, Op, rewrite
from staticad.lowering import Map
from staticad.ops import arithmetic, creation, indexing, logic, products, reductions, sources, transcendental, views
from staticad.ops.table import TABLE
from staticad.shapes import add, known_ge, mul, product

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


def fold(node: Node) -> Node | None:
    """An exact operation on constants is a constant."""
    values = [constant(x) for x in node.args]
    if not all(isinstance(value, (bool, int, float)) for value in values):
        return None
    with np.errstate(all="ignore"):
        arrays = [np.asarray([value]).astype(x.dtype) for value, x in zip(values, node.args, strict=True)]
        (out,) = node.op.numpy(*arrays, **node.params).astype(node.dtype)
    if node.args[0].dtype.kind == "f" and node.dtype.kind in "iu" and not np.isfinite(arrays[0]).all():
        return None  # which integer that gives is not defined
    return creation.fill(node, out)


def multiply_by_zero(node: Node) -> Node | None:
    """``x * 0`` is 0 for integers and bools (a float may be inf, nan or negative)."""
    if node.dtype.kind == "f" or not any(is_value(x, 0) for x in node.args):
        return None
    return creation.fill(node, 0)


def multiply_negatives(node: Node) -> Node | None:
    """``-x * -y`` is x * y."""
    x, y = node.args
    return arithmetic.multiply(x.args[0], y.args[0]) if x.op in NEGATIVE and y.op in NEGATIVE else None


def divide_by_power_of_two(node: Node) -> Node | None:
    """``x / 2**k`` is x * 2**-k, which is as exact and faster."""
    value = constant(node.args[1])
    if not isinstance(value, (int, float)) or math.frexp(value)[0] not in (0.5, -0.5):
        return None
    least = float(np.finfo(node.dtype).tiny)
    if not least <= abs(value) <= 1 / least:
        return None
    return arithmetic.multiply(node.args[0], creation.fill(node, 1 / value))


def subtract_from_zero(node: Node) -> Node | None:
    """``0 - x`` is -x for integers, and ``-0.0 - x`` for floats."""
    x, y = node.args
    return arithmetic.negative(y) if _is_neutral(x) else None


def subtract_itself(node: Node) -> Node | None:
    """``x - x`` is 0 for integers (a float may be inf or nan)."""
    x, y = node.args
    return creation.fill(node, 0) if x is y and node.dtype.kind != "f" else None


def power_of_constant(node: Node) -> Node | None:
    """``x**0`` is 1, ``x**1`` is x, ``x**2`` is x * x and ``x**-1`` is 1 / x: what an exact pow gives."""
    x, y = node.args
    if is_value(y, 0):
        return creation.fill(node, 1)
    if is_value(y, 1):
        return x
    if is_value(y, 2):
        return arithmetic.square(x)
    return arithmetic.reciprocal(x) if is_value(y, -1) and node.dtype.kind == "f" else None


def even(node: Node) -> Node | None:
    """``abs(-x)``, ``square(-x)``, ``square(abs(x))`` are those of x."""
    x = node.args[0]
    return node.op(x.args[0]) if x.op in NEGATIVE or (x.op is arithmetic.abs_ and node.op is not x.op) else None


def idempotent(node: Node) -> Node | None:
    """``f(f(x))`` is f(x) for rounding, ``abs``, ``sign`` and ``relu``."""
    x = node.args[0]
    return x if x.op is node.op else None


def same_operands(node: Node) -> Node | None:
    """``max(x, x)``, ``x & x``, ``x | x`` are x."""
    x, y = node.args
    return x if x is y else None


def compare_itself(node: Node) -> Node | None:
    """``x < x`` and ``x > x`` are False; ``x == x``, ``x <= x`` are True but for floats, which may be nan."""
    x, y = node.args
    if x is not y:
        return None
    if node.op in (logic.less, logic.greater):
        return creation.fill(node, False)
    return None if x.dtype.kind == "f" else creation.fill(node, node.op is not logic.not_equal)


def not_twice(node: Node) -> Node | None:
    """``not not x`` is x."""
    x = node.args[0]
    return x.args[0] if x.op is node.op else None


def not_equal(node: Node) -> Node | None:
    """``not (x == y)`` is ``x != y`` and the other way round; of an order only where there is no nan."""
    x = node.args[0]
    opposite = OPPOSITE.get(x.op)
    if opposite is None or (x.args[0].dtype.kind == "f" and x.op not in (logic.equal, logic.not_equal)):
        return None
    return opposite(*x.args)


# fmt: off
OPPOSITE = {
    logic.equal: logic.not_equal,     logic.not_equal: logic.equal,
    logic.less:  logic.greater_equal, logic.greater_equal: logic.less,
    logic.greater: logic.less_equal,  logic.less_equal: logic.greater,
}
# fmt: on


def logical_constant(node: Node) -> Node | None:
    """``x and True``, ``x or False`` are x; ``x and False`` is False, ``x or True`` is True."""
    neutral = node.op is logic.logical_and
    for x, y in (node.args, node.args[::-1]):
        value = constant(y)
        if isinstance(value, bool):
            return x if value == neutral else y
    return None


def convert_same(node: Node) -> Node | None:
    """A conversion to the dtype there is."""
    return node.args[0] if node.args[0].dtype == node.dtype else None


def convert_back(node: Node) -> Node | None:
    """A conversion to a dtype that holds every value, and back."""
    x = node.args[0]
    if x.op is not node.op or x.args[0].dtype != node.dtype or not np.can_cast(node.dtype, x.dtype, "safe"):
        return None
    return x.args[0]


def select_same(node: Node) -> Node | None:
    """``where(c, x, x)`` is x; ``where(True, x, y)`` is x."""
    condition, x, y = node.args
    if x is y:
        return x
    value = constant(condition)
    return None if value is None else x if value else y


def select_opposite(node: Node) -> Node | None:
    """``where(not c, x, y)`` is ``where(c, y, x)``."""
    condition, x, y = node.args
    return logic.select(condition.args[0], y, x) if condition.op is logic.logical_not else None


def select_bools(node: Node) -> Node | None:
    """``where(c, True, False)`` is c."""
    condition, x, y = node.args
    if constant(x) is True and constant(y) is False:
        return condition
    return logic.logical_not(condition) if constant(x) is False and constant(y) is True else None


def map_of_views(node: Node) -> Node | None:
    """``f(broadcast(x), broadcast(y), constant)`` is ``broadcast(f(x, y, constant))``; so it is for transposes.

    An element is computed once, not where it is repeated, and views meet views."""
    outer = next((x for x in node.args if x.op in (views.broadcast, views.transpose)), None)
    if outer is None or not isinstance(node.op.lower, Map):
        return None
    inner: list[Node] = []
    for x in node.args:
        value = constant(x)
        if value is not None:
            inner.append(creation.full(value=value, shape=outer.args[0].shape, dtype=x.dtype))
        elif x.op is outer.op and x.params == outer.params and x.args[0].shape == outer.args[0].shape:
            inner.append(x.args[0])
        else:
            return None
    return outer.op(node.op(*inner, **node.params), **outer.params)


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
    """A sum, product, maximum, ... over no axes is nothing, over axes of size 1 a reshape; such axes go first.

    But for the sign of zero: a sum starts from 0.0, and 0.0 + -0.0 is 0.0."""
    x, axes = node.args[0], node.params["axes"]
    if not axes:
        return x
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


def slice_of_pad(node: Node) -> Node | None:
    """A slice of exactly what was padded."""
    x = node.args[0]
    if x.op is not views.pad or node.shape != x.args[0].shape or node.params["step"] != x.params["step"]:
        return None
    return x.args[0] if node.params["start"] == x.params["low"] else None


def pad_nothing(node: Node) -> Node | None:
    """A pad that adds nothing."""
    params = node.params
    plain = all(n == 0 for n in (*params["low"], *params["high"])) and all(k == 1 for k in params["step"])
    return node.args[0] if plain else None


def pad_constant(node: Node) -> Node | None:
    """A constant padded with itself."""
    value = constant(node.args[0])
    same = isinstance(value, (bool, int, float)) and number_text(value) == number_text(node.params["fill"])
    return creation.fill(node, value) if same else None


def number_text(value: float) -> str:
    """A number as text that tells 0.0 from -0.0 and takes nan for nan."""
    return repr(float(value))


def reduce_constant(node: Node) -> Node | None:
    """The maximum or minimum, ``any`` or ``all`` of a constant is that, if there is an element for sure."""
    value = constant(node.args[0])
    axes: tuple[int, ...] = node.params["axes"]
    if value is None or not all(known_ge(node.args[0].shape[a], 1) for a in axes):
        return None
    return creation.full(value=value, shape=node.shape, dtype=node.dtype)


def sum_constant(node: Node) -> Node | None:
    """The sum of a constant is its multiple, where that is an integer that the dtype holds."""
    x = node.args[0]
    summed: tuple[int, ...] = node.params["axes"]
    value, count = constant(x), product(x.shape[a] for a in summed)
    if not isinstance(value, (int, float)) or not float(value).is_integer() or not isinstance(count, int):
        return None
    limit = 2**24 if node.dtype.itemsize == 4 else 2**53
    if node.dtype.itemsize < 4 or abs(int(value) * count) > limit:
        return None
    return creation.fill(node, int(value) * count)


def sum_of_transpose(node: Node) -> Node | None:
    """A reduction over all axes does not ask for their order; over some, the rest is transposed."""
    x = node.args[0]
    if x.op is not views.transpose:
        return None
    order: tuple[int, ...] = x.params["axes"]
    summed: tuple[int, ...] = node.params["axes"]
    axes = tuple(sorted(order[a] for a in summed))
    rest = [order[a] for a in range(len(order)) if a not in summed]
    return views.transpose(node.op(x.args[0], axes=axes), axes=tuple(sorted(rest).index(a) for a in rest))


def update_everything(node: Node) -> Node | None:
    """``update_slice`` of every element."""
    base, x = node.args
    return x if base.shape == x.shape and all(k == 1 for k in node.params["step"]) else None


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
FOLDED = (
    arithmetic.add, arithmetic.subtract, arithmetic.multiply, arithmetic.negative, arithmetic.abs_, arithmetic.square,
    arithmetic.divide, arithmetic.reciprocal, arithmetic.sqrt, arithmetic.maximum, arithmetic.minimum, creation.astype,
    logic.equal, logic.not_equal, logic.less, logic.less_equal, logic.greater, logic.greater_equal,
    logic.logical_and, logic.logical_or, logic.logical_not,
)
ROUNDING = (arithmetic.floor, arithmetic.ceil, arithmetic.trunc, arithmetic.round_, arithmetic.sign, arithmetic.relu)
COMPARISONS = (logic.equal, logic.not_equal, logic.less, logic.less_equal, logic.greater, logic.greater_equal)
SELECTIVE = (arithmetic.maximum, arithmetic.minimum, logic.bitwise_and, logic.bitwise_or)
LOGICAL = (logic.logical_and, logic.logical_or)
EXTREME = (reductions.max_, reductions.min_, reductions.any_, reductions.all_)

OF_ONE_OP: dict[Op, tuple[Rule, ...]] = {
    sources.leaf:          (drop,),
    sources.stop_gradient: (drop,),
    sources.assume_shape:  (drop_same_shape,),
    arithmetic.multiply:   (multiply_by_one, multiply_by_minus_one, multiply_by_zero, multiply_negatives),
    arithmetic.divide:     (divide_by_one, divide_by_power_of_two),
    arithmetic.add:        (add_zero, add_negative),
    arithmetic.subtract:   (subtract_zero, subtract_negative, subtract_from_zero, subtract_itself),
    arithmetic.negative:   (negate_twice,),
    arithmetic.square:     (even,),
    arithmetic.abs_:       (even, idempotent),
    transcendental.pow_:   (power_of_constant,),
    creation.astype:       (convert_same, convert_back),
    logic.select:          (select_same, select_opposite, select_bools),
    logic.logical_not:     (not_twice, not_equal),
    logic.bitwise_invert:  (not_twice,),
    views.reshape:         (same_shape, view_of_constant, reshape_twice),
    views.broadcast:       (same_shape, view_of_constant, broadcast_twice),
    views.transpose:       (transpose_nothing, view_of_constant, transpose_twice, transpose_product),
    views.slice_:          (slice_nothing, view_of_constant, slice_twice, slice_of_pad, slice_of_update),
    views.pad:             (pad_nothing, pad_constant),
    reductions.sum_:       (sum_constant,),
    indexing.update_slice: (update_everything,),
}
OF_SEVERAL: tuple[tuple[Iterable[Op], Rule], ...] = (
    (FOLDED,               fold),
    (ROUNDING,             idempotent),
    (SELECTIVE,            same_operands),
    (LOGICAL,              same_operands),
    (LOGICAL,              logical_constant),
    (COMPARISONS,          compare_itself),
    (REDUCTIONS,           reduce_single),
    (REDUCTIONS,           sum_of_transpose),
    (EXTREME,              reduce_constant),
    (TABLE.values(),       map_of_views),
)
# fmt: on


def gather() -> dict[Op, tuple[Rule, ...]]:
    """The rules of every op, those of its own first."""
    rules = dict(OF_ONE_OP)
    for ops, rule in OF_SEVERAL:
        for op in ops:
            rules[op] = (*rules.get(op, ()), rule)
    return rules


RULES = gather()
