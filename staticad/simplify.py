"""Algebraic rules on graphs, exact in floating point, each proven by a test that makes it fire; knows ops, no loops."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from staticad.ir import Graph, Law, Node, Op, rewrite
from staticad.lowering import Formula, Lowering, Map, Reduce
from staticad.ops import (
    arithmetic,
    calls,
    creation,
    indexing,
    linear_algebra,
    logic,
    products,
    reductions,
    sources,
    transcendental,
    views,
)
from staticad.ops.table import TABLE
from staticad.power_rules import (
    abs_of_positive,
    exp_minus_one,
    log_of_one_plus,
    multiply_by_itself,
    power_of_constant,
    power_of_half,
)
from staticad.small_matrices import small_cholesky, small_lu, small_lu_solve, small_triangular
from staticad.small_products import small_product
from staticad.stable import STABLE, log_softmax, under_views
from staticad.view_rules import (
    Rule,
    broadcast_twice,
    constant,
    map_of_merged,
    map_of_views,
    pad_constant,
    pad_nothing,
    reduce_constant,
    reduce_of_merged,
    reduce_single,
    reshape_twice,
    same_shape,
    slice_nothing,
    slice_of_pad,
    slice_of_update,
    slice_twice,
    sum_constant,
    sum_of_transpose,
    transpose_nothing,
    transpose_product,
    transpose_twice,
    update_everything,
    view_of_constant,
)

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


def is_value(node: Node, number: float) -> bool:
    value = constant(node)
    return isinstance(value, (bool, int, float)) and value == number


def drop(node: Node) -> Node | None:
    """A mark that only differentiation looks at is its operand."""
    return node.args[0]


def after_constants(node: Node) -> Node | None:
    """Constants are there from the start: nobody waits for them."""
    x, *others = node.args
    return x if constant(x) is not None or all(constant(under_views(y)[0]) is not None for y in others) else None


def written_out(node: Node) -> Node | None:
    """What has a formula is that."""
    lower = node.op.lower
    return lower.write(node) if isinstance(lower, Formula) else None


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


def add_negative(node: Node) -> Node | None:
    """``x + -y`` is x - y."""
    x, y = node.args
    return arithmetic.subtract(x, y.args[0]) if y.op is arithmetic.negative else None


def subtract_negative(node: Node) -> Node | None:
    """``x - -y`` is x + y."""
    x, y = node.args
    return arithmetic.add(x, y.args[0]) if y.op is arithmetic.negative else None


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
    negated = x.op is arithmetic.negative and y.op is arithmetic.negative
    return arithmetic.multiply(x.args[0], y.args[0]) if negated else None


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


def even(node: Node) -> Node | None:
    """``abs(-x)``, ``square(-x)``, ``square(abs(x))`` are those of x."""
    x = node.args[0]
    evened = x.op is arithmetic.negative or (x.op is arithmetic.abs_ and node.op is not x.op)
    return node.op(x.args[0]) if evened else None


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


def twice(node: Node) -> Node | None:
    """``-(-x)``, ``not not x`` are x."""
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


def having(law: Law, lower: type[Lowering]) -> tuple[Op, ...]:
    """The ops with such a lowering of which a law holds."""
    return tuple(op for op in TABLE.values() if law in op.laws and isinstance(op.lower, lower))


REDUCTIONS = tuple(op for op in TABLE.values() if isinstance(op.lower, Reduce) and not op.lower.running)
FORMULAS = tuple(op for op in TABLE.values() if isinstance(op.lower, Formula))

# fmt: off
COMPARISONS = (logic.equal, logic.not_equal, logic.less, logic.less_equal, logic.greater, logic.greater_equal)
LOGICAL = (logic.logical_and, logic.logical_or)

OF_ONE_OP: dict[Op, tuple[Rule, ...]] = {
    sources.leaf:          (drop,),
    sources.stop_gradient: (drop,),
    sources.nonempty:      (drop,),
    sources.assume_shape:  (drop_same_shape,),
    calls.result:          (drop,),
    calls.after:           (after_constants,),
    arithmetic.multiply:   (multiply_by_one, multiply_by_minus_one, multiply_by_zero, multiply_negatives,
                            multiply_by_itself),
    arithmetic.divide:     (divide_by_one, divide_by_power_of_two),
    arithmetic.add:        (add_zero, add_negative),
    arithmetic.subtract:   (subtract_zero, subtract_negative, subtract_from_zero, subtract_itself,
                            exp_minus_one, log_softmax),
    arithmetic.square:     (even,),
    arithmetic.abs_:       (even, abs_of_positive),
    transcendental.pow_:   (power_of_constant, power_of_half),
    transcendental.log:    (log_of_one_plus,),
    creation.astype:       (convert_same, convert_back),
    logic.select:          (select_same, select_opposite, select_bools),
    logic.logical_not:     (not_equal,),
    views.reshape:         (same_shape, view_of_constant, reshape_twice),
    views.broadcast:       (same_shape, view_of_constant, broadcast_twice),
    views.transpose:       (transpose_nothing, view_of_constant, transpose_twice, transpose_product),
    views.slice_:          (slice_nothing, view_of_constant, slice_twice, slice_of_pad, slice_of_update),
    views.pad:             (pad_nothing, pad_constant),
    reductions.sum_:       (sum_constant,),
    indexing.update_slice: (update_everything,),
    products.contract:     (small_product,),
    linear_algebra.cholesky:         (small_cholesky,),
    linear_algebra.solve_triangular: (small_triangular,),
    linear_algebra.lu:               (small_lu,),
    linear_algebra.lu_solve:         (small_lu_solve,),
}
OF_SEVERAL: tuple[tuple[Iterable[Op], Rule], ...] = (
    (having("exact", Map),         fold),
    (having("idempotent", Map),    idempotent),
    (having("involution", Map),    twice),
    (having("selective", Map),     same_operands),
    (LOGICAL,                      logical_constant),
    (COMPARISONS,                  compare_itself),
    (REDUCTIONS,                   reduce_single),
    (REDUCTIONS,                   sum_of_transpose),
    (REDUCTIONS,                   reduce_of_merged),
    (having("selective", Reduce),  reduce_constant),
    (FORMULAS,                     written_out),
    (TABLE.values(),               map_of_views),
    (TABLE.values(),               map_of_merged),
)
# fmt: on


def gather() -> dict[Op, tuple[Rule, ...]]:
    """The rules of every op: stable forms first, then those of its own."""
    rules = {op: (*STABLE.get(op, ()), *OF_ONE_OP.get(op, ())) for op in (*STABLE, *OF_ONE_OP)}
    for ops, rule in OF_SEVERAL:
        for op in ops:
            rules[op] = (*rules.get(op, ()), rule)
    return rules


RULES = gather()
