"""Algebraic rules on graphs, exact in floating point, each proven by a test that makes it fire; knows ops, no loops."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from staticad.ir import Graph, Law, Node, Op, rewrite
from staticad.lowering import Formula, Lowering, Map, Reduce
from staticad.ops import calls, creation, indexing, linear_algebra, products, reductions, sources, views
from staticad.ops.arithmetic import abs_, divide, multiply, square
from staticad.ops.creation import constant
from staticad.ops.logic import (
    equal,
    greater,
    greater_equal,
    less,
    less_equal,
    logical_and,
    logical_not,
    logical_or,
    not_equal,
    select,
)
from staticad.ops.table import TABLE
from staticad.ops.transcendental import exp, expm1, log, log1p, pow_
from staticad.patterns import C, I, J, Rewrite, Rule, X, Y, applied, by_op, on, wildcard
from staticad.power_rules import abs_of_positive, power_of_constant, power_of_half
from staticad.small_matrices import small_cholesky, small_lu, small_lu_solve, small_triangular
from staticad.small_products import small_product
from staticad.stable import STABLE, log_softmax, under_views
from staticad.view_rules import (
    broadcast_twice,
    map_of_merged,
    map_of_views,
    pad_constant,
    pad_nothing,
    reduce_constant,
    reduce_of_merged,
    reduce_of_transpose,
    reduce_single,
    reshape_twice,
    same_shape,
    slice_nothing,
    slice_of_pad,
    slice_of_update,
    slice_twice,
    sum_constant,
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


def divide_by_power_of_two(node: Node) -> Node | None:
    """``x / 2**k`` is x * 2**-k, which is as exact and faster."""
    value = constant(node.args[1])
    if not isinstance(value, (int, float)) or math.frexp(value)[0] not in (0.5, -0.5):
        return None
    least = float(np.finfo(node.dtype).tiny)
    if not least <= abs(value) <= 1 / least:
        return None
    return multiply(node.args[0], creation.fill(node, 1 / value))


def convert_same(node: Node) -> Node | None:
    """A conversion to the dtype there is."""
    return node.args[0] if node.args[0].dtype == node.dtype else None


def convert_back(node: Node, x: Node) -> Node | None:
    """A conversion to a dtype that holds every value, and back."""
    whole = x.args[0].dtype == node.dtype and np.can_cast(node.dtype, x.dtype, "safe")
    return x.args[0] if whole else None


def having(law: Law, lower: type[Lowering]) -> tuple[Op, ...]:
    """The ops with such a lowering of which a law holds."""
    return tuple(op for op in TABLE.values() if law in op.laws and isinstance(op.lower, lower))


REDUCTIONS = tuple(op for op in TABLE.values() if isinstance(op.lower, Reduce) and not op.lower.running)
FORMULAS = tuple(op for op in TABLE.values() if isinstance(op.lower, Formula))

# fmt: off
FALSE, TRUE, ZERO = creation.fill(C, False), creation.fill(C, True), creation.fill(X, 0)
N = wildcard("n", "iuf")

REWRITES = (
    Rewrite("multiply_by_one",       X * 1,                 X),
    Rewrite("multiply_by_minus_one", X * -1,                -X),
    Rewrite("multiply_by_zero",      I * 0,                 ZERO),          # of an inf or nan it is nan, of -1.0 -0.0
    Rewrite("multiply_negatives",    -X * -Y,               X * Y),
    Rewrite("multiply_by_itself",    N * N,                 square(N)),
    Rewrite("divide_by_one",         X / 1,                 X),
    Rewrite("add_zero",              X + -0.0,              X),             # -0.0 + 0.0 is 0.0, so 0.0 stays
    Rewrite("add_negative",          X + -Y,                X - Y),
    Rewrite("subtract_zero",         X - 0.0,               X),
    Rewrite("subtract_negative",     X - -Y,                X + Y),
    Rewrite("subtract_from_zero",    -0.0 - X,              -X),
    Rewrite("subtract_itself",       I - I,                 ZERO),          # inf - inf is nan
    Rewrite("abs_of_negative",       abs_(-X),              abs_(X)),
    Rewrite("square_of_negative",    square(-X),            square(X)),
    Rewrite("square_of_abs",         square(abs_(X)),       square(X)),
    # In these fewer digits cancel.
    Rewrite("exp_minus_one",         exp(X) - 1,            expm1(X)),
    Rewrite("log_of_one_plus",       log(1 + X),            log1p(X)),
    Rewrite("log_of_one_minus",      log(1 - X),            log1p(-X)),
    Rewrite("log_softmax",           X - Y,                 log_softmax),
    # A comparison with nan is False, but for !=.
    Rewrite("not_equal_itself",      not_equal(I, I),       FALSE),
    Rewrite("less_itself",           less(X, X),            FALSE),
    Rewrite("greater_itself",        greater(X, X),         FALSE),
    Rewrite("equal_itself",          equal(I, I),           TRUE),
    Rewrite("less_equal_itself",     less_equal(I, I),      TRUE),
    Rewrite("greater_equal_itself",  greater_equal(I, I),   TRUE),
    Rewrite("not_equal",             logical_not(equal(X, Y)),          not_equal(X, Y)),
    Rewrite("not_not_equal",         logical_not(not_equal(X, Y)),      equal(X, Y)),
    Rewrite("not_less",              logical_not(less(I, J)),           greater_equal(I, J)),
    Rewrite("not_less_equal",        logical_not(less_equal(I, J)),     greater(I, J)),
    Rewrite("not_greater",           logical_not(greater(I, J)),        less_equal(I, J)),
    Rewrite("not_greater_equal",     logical_not(greater_equal(I, J)),  less(I, J)),
    # Choices.
    Rewrite("and_true",              logical_and(C, TRUE),  C),
    Rewrite("and_false",             logical_and(C, FALSE), FALSE),
    Rewrite("or_false",              logical_or(C, FALSE),  C),
    Rewrite("or_true",               logical_or(C, TRUE),   TRUE),
    Rewrite("select_same",           select(C, X, X),       X),
    Rewrite("select_true",           select(TRUE, X, Y),    X),
    Rewrite("select_false",          select(FALSE, X, Y),   Y),
    Rewrite("select_opposite",       select(logical_not(C), X, Y),      select(C, Y, X)),
    Rewrite("select_bools",          select(C, TRUE, FALSE), C),
    Rewrite("select_opposite_bools", select(C, FALSE, TRUE), logical_not(C)),
    # By the laws of an op.
    *(Rewrite(f"{op.name}_twice",    applied(op, applied(op, X)), applied(op, X)) for op in having("idempotent", Map)),
    *(Rewrite(f"{op.name}_undone",   applied(op, applied(op, X)), X) for op in having("involution", Map)),
    *(Rewrite(f"{op.name}_of_same",  applied(op, X, X),     X) for op in having("selective", Map)),
    # An op on what another made, by their parameters.
    Rewrite("convert_back",          on(creation.astype, creation.astype), convert_back),
    Rewrite("reshape_twice",         on(views.reshape, views.reshape), reshape_twice),
    Rewrite("broadcast_twice",       on(views.broadcast, views.broadcast), broadcast_twice),
    Rewrite("transpose_twice",       on(views.transpose, views.transpose), transpose_twice),
    Rewrite("slice_twice",           on(views.slice_, views.slice_), slice_twice),
    Rewrite("slice_of_pad",          on(views.slice_, views.pad), slice_of_pad),
    Rewrite("slice_of_update",       on(views.slice_, indexing.update_slice), slice_of_update),
    *(Rewrite(f"{op.name}_of_transpose", on(op, views.transpose), reduce_of_transpose) for op in REDUCTIONS),
)

OF_ONE_OP: dict[Op, tuple[Rule, ...]] = {
    sources.leaf:          (drop,),
    sources.stop_gradient: (drop,),
    sources.nonempty:      (drop,),
    sources.assume_shape:  (drop_same_shape,),
    calls.result:          (drop,),
    calls.after:           (after_constants,),
    divide:                (divide_by_power_of_two,),
    abs_:                  (abs_of_positive,),
    pow_:                  (power_of_constant, power_of_half),
    creation.astype:       (convert_same,),
    views.reshape:         (same_shape, view_of_constant),
    views.broadcast:       (same_shape, view_of_constant),
    views.transpose:       (transpose_nothing, view_of_constant, transpose_product),
    views.slice_:          (slice_nothing, view_of_constant),
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
    (REDUCTIONS,                   reduce_single),
    (REDUCTIONS,                   reduce_of_merged),
    (having("selective", Reduce),  reduce_constant),
    (FORMULAS,                     written_out),
    (TABLE.values(),               map_of_views),
    (TABLE.values(),               map_of_merged),
)
# fmt: on


def gather() -> dict[Op, tuple[Rule, ...]]:
    """The rules of every op: stable forms first, then those on what it is made of, and those of its own."""
    rules: dict[Op, tuple[Rule, ...]] = {}
    for table in (STABLE, by_op(REWRITES), OF_ONE_OP, *(dict.fromkeys(ops, (rule,)) for ops, rule in OF_SEVERAL)):
        for op, own in table.items():
            rules[op] = (*rules.get(op, ()), *own)
    return rules


RULES = gather()
