"""Stable forms: what a program says in a form that overflows or cancels, in one that does not; knows ops, no loops.

Each rule keeps the value that exact arithmetic gives and is at least as accurate in floats: finite where the naive form
overflowed, and the same at 0, inf and nan. `simplify` computes the stable form; `autodiff` differentiates it, since the
naive form's derivative (``exp(x) / (1 + exp(x))``) would be nan where its value had been saved.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from staticad.ir import Node, Op
from staticad.ops import creation, logic, reductions, sources, views
from staticad.ops.arithmetic import abs_, add, reciprocal, sqrt, square, subtract
from staticad.ops.creation import constant
from staticad.ops.logic import select
from staticad.ops.reductions import kept_axes, max_, sum_
from staticad.ops.special import sigmoid, softplus
from staticad.ops.transcendental import exp, log, log1p, logaddexp, pow_
from staticad.patterns import LOOK_AT, C, Pattern, Rewrite, X, Y, applied, by_op, same, under, wildcard
from staticad.shapes import Expr

VIEWS = frozenset({views.broadcast, views.reshape, views.transpose})
MARKS = frozenset({sources.stop_gradient, sources.nonempty, sources.assume_shape})
#: Which axis of one node each axis of another is, if it is one.
Axes: TypeAlias = tuple[int | None, ...]

# fmt: off
EXP        = Pattern(exp(X))
SUM        = Pattern(applied(sum_, X))
GREATEST   = Pattern(applied(max_, X))
CHOICE     = Pattern(select(C, X, Y))
DIFFERENCE = Pattern(X - Y)
QUOTIENT   = Pattern(X / Y)
LOG_PLUS   = Pattern(wildcard("log", made=log) + Y)
# fmt: on


# recognising ----------------------------------------------------------------------------------------------------------


def under_views(node: Node) -> tuple[Node, list[Node]]:
    """What views show, and those views, the outermost first."""
    return under(node, VIEWS)


def with_views(x: Node, seen: Sequence[Node]) -> Node:
    """``x`` under the views that `under_views` took off."""
    for view in reversed(seen):
        x = view.op(x, **view.params)
    return x


def unmarked(node: Node) -> Node:
    """What marks and views show."""
    return under(node, MARKS | VIEWS)[0]


def total(node: Node, x: Node, order: Sequence[int]) -> Node | None:
    """The ``sum(exp(x))`` that ``node`` repeats along the axes it was summed over, if it is that.

    ``order``: which axis of x each axis of ``node`` is."""
    core, axes = shown(node)
    powers = SUM.match(core)
    found = EXP.match(powers[0]) if powers else None
    if found is None:
        return None
    kept = kept_axes(len(x.shape), core.params["axes"])
    there = all(a is None or kept[a] == own for a, own in zip(axes, order, strict=True))
    return core if there and same(found[0], x) else None


def softmax_parts(node: Node) -> tuple[Node, Node, list[Node]] | None:
    """The x and the ``sum(exp(x))`` of which ``node`` is ``exp(x) / sum(exp(x))``, and the transposes over exp(x)."""
    quotient = QUOTIENT.match(node)
    if quotient is None:
        return None
    powers, seen = under(quotient[0], {views.transpose})
    found, order = EXP.match(powers), tuple(range(len(node.shape)))
    for view in seen:
        order = tuple(view.params["axes"][a] for a in order)
    sum_ = total(quotient[1], found[0], order) if found else None
    return (found[0], sum_, seen) if found and sum_ else None


def is_shifted(x: Node, axes: Sequence[int]) -> bool:
    """Whether ``x`` is ``y - max(y)``, the maximum over no more than ``axes``: sums of its exp are at least 1."""
    return marks_of_shift(x, axes) is not None


def marks_of_shift(x: Node, axes: Sequence[int]) -> set[Op] | None:
    """The ops of marks and views between ``y - max(y)`` and the y in max(y), if `is_shifted`."""
    difference = DIFFERENCE.match(x)
    if difference is None or not repeated_axes(difference[1]) <= set(axes):
        return None
    y, waiting, passed = unmarked(difference[0]), [difference[1]], set[Op]()
    for _ in range(LOOK_AT):
        if not waiting:
            return None
        node, seen = under(waiting.pop(), MARKS | VIEWS)
        passed.update(view.op for view in seen)
        if of := GREATEST.match(node):
            inner, seen = under(of[0], MARKS | VIEWS)
            return passed | {view.op for view in seen} if same(inner, y) else None
        waiting += (CHOICE.match(node) or ())[1:]
    return None


def shown(node: Node) -> tuple[Node, Axes]:
    """What views repeat and transpose, and which axis of that each axis of ``node`` is; None: one that is repeated, or
    of size 1."""
    axes: Axes = tuple(None if size == 1 else a for a, size in enumerate(node.shape))
    while (below := views.axes_below(node)) is not None:
        axes = through(axes, below)
        node = node.args[0]
    return node, axes


def through(axes: Axes, below: Axes) -> Axes:
    """Which axis of a third each axis of a first is, by which of a second each is, and which of the third that."""
    return tuple(None if a is None else below[a] for a in axes)


def repeated_axes(node: Node) -> set[int]:
    """The axes along which views repeat what they show."""
    return {a for a, below in enumerate(shown(node)[1]) if below is None and node.shape[a] != 1}


def exponent(node: Node) -> Node | None:
    """The x of ``exp(x)``, under the views of the exp."""
    power, seen = under_views(node)
    found = EXP.match(power)
    return with_views(found[0], seen) if found else None


# building -------------------------------------------------------------------------------------------------------------


def greatest(x: Node, axes: tuple[int, ...]) -> Node:
    """The maximum over ``axes``, constant to derivatives; 0 where it is infinite or nan, which ``x - max`` is not for.

    Blanchard, Higham and Higham 2021, eq. (3.4)."""
    top = max_(sources.stop_gradient(x), axes=axes)
    return select(logic.isfinite(top), top, creation.fill(top, 0))


def shifted(x: Node, axes: tuple[int, ...]) -> Node:
    """``x - max(x)``, at most 0."""
    return x - reductions.restore(greatest(x, axes), x.shape, axes)


def may_shift(x: Node, axes: tuple[int, ...]) -> bool:
    """Whether there is a maximum to subtract, and none was: also not below the views of x, which others of its
    differences are moved under."""
    inner, places = shown(x)
    below = [place for a in axes if (place := places[a]) is not None]
    return not is_shifted(inner, below) and all(x.shape[a] != 0 for a in axes)


# rules ----------------------------------------------------------------------------------------------------------------


def log_of_sum_of_exp(node: Node, y: Node) -> Node | None:
    """``log(sum(exp(x)))`` is ``log(sum(exp(x - m))) + m``, m the maximum: finite wherever x is.

    A pass over x for its maximum is what that costs. Left alone where a maximum was subtracted already."""
    core, seen = under_views(y)
    powers = SUM.match(core)
    x = exponent(powers[0]) if powers else None
    if x is None or not may_shift(x, core.params["axes"]):
        return None
    axes = core.params["axes"]
    return with_views(log(sum_(exp(shifted(x, axes)), axes=axes)) + greatest(x, axes), seen)


def log_of_mean_of_exp(by: Callable[[Node, Node], Node]) -> Callable[[Node, Node, Node], Node | None]:
    """``log(sum(exp(x)) * c)`` is ``log(sum(exp(x))) + log(c)`` of a number c > 0, ``by`` being +; - for ``/ c``."""

    def rule(node: Node, y: Node, c: Node) -> Node | None:
        value = constant(c)
        positive = isinstance(value, Expr) or (isinstance(value, (int, float)) and 0 < value < math.inf)
        stable = log_of_sum_of_exp(node, y) if positive else None
        if stable is None:
            return None
        return by(stable, log(c) if isinstance(value, Expr) else creation.fill(c, math.log(value)))

    return rule


def log_of_softmax(node: Node, y: Node) -> Node | None:
    """``log(exp(x) / sum(exp(x)))`` is ``x - log(sum(exp(x)))`` for an x whose maximum was subtracted.

    Finite where softmax vanishes, and not 0 where it rounds to 1."""
    out, seen = under_views(y)
    parts = softmax_parts(out)
    if parts is None or not is_shifted(parts[0], parts[1].params["axes"]):
        return None
    x, total_, transposes = parts
    logs = x - reductions.restore(log(total_), x.shape, total_.params["axes"])
    return with_views(logs, [*seen, *transposes])


def softmax(node: Node, *_: Node) -> Node | None:
    """``exp(x) / sum(exp(x))`` is ``exp(x - m) / sum(exp(x - m))``, m the maximum: never inf / inf or 0 / 0."""
    parts = softmax_parts(node)
    if parts is None or not may_shift(parts[0], parts[1].params["axes"]):
        return None
    x, axes = parts[0], parts[1].params["axes"]
    powers = exp(shifted(x, axes))
    return with_views(powers / reductions.restore(sum_(powers, axes=axes), x.shape, axes), parts[2])


def log_softmax(node: Node, x: Node, logs: Node) -> Node | None:
    """``x - (log(sum(exp(x - m))) + m)`` is ``(x - m) - log(sum(exp(x - m)))``: what cancels is no larger than it needs
    to be."""
    core, seen = under_views(logs)
    at, axes = shown(logs)
    for log_, top in LOG_PLUS.matches(core) if at is core else ():
        powers = SUM.match(log_.args[0])
        y = exponent(powers[0]) if powers else None
        difference = DIFFERENCE.match(y) if y else None
        if y is None or difference is None or difference[0] is not x:
            continue
        greatest_, places = shown(top)
        if shown(difference[1]) == (greatest_, through(axes, places)):
            return y - with_views(log_, seen)
    return None


# fmt: off
K, TWO = wildcard("k", made=creation.full), creation.fill(X, 2)

STABLE = by_op((
    # Finite where exp overflows or vanishes.
    Rewrite("log_of_exp",                log(exp(X)),               X),
    Rewrite("log_of_sum_of_exp",         log(X),                    log_of_sum_of_exp),
    Rewrite("log_of_mean_of_exp",        log(X / K),                log_of_mean_of_exp(subtract)),
    Rewrite("log_of_multiple_of_exp",    log(X * K),                log_of_mean_of_exp(add)),
    Rewrite("log_of_sum_of_two_exp",     log(exp(X) + exp(Y)),      logaddexp(X, Y)),
    Rewrite("log_of_one_plus_exp",       log(1 + exp(X)),           softplus(X)),
    Rewrite("log1p_of_exp",              log1p(exp(X)),             softplus(X)),
    # Finite where sigmoid or softmax vanishes, and not 0 where it rounds to 1.
    Rewrite("log_of_sigmoid",            log(sigmoid(X)),           -softplus(-X)),
    Rewrite("log1p_of_negative_sigmoid", log1p(-sigmoid(X)),        -softplus(X)),
    Rewrite("log_of_softmax",            log(X),                    log_of_softmax),
    # Neither they nor their derivatives are inf / inf, and nothing cancels where sigmoid rounds to 1.
    Rewrite("softmax",                   X / Y,                     softmax),
    Rewrite("logistic",                  1 / (1 + exp(X)),          sigmoid(-X)),
    Rewrite("logistic_reciprocal",       reciprocal(1 + exp(X)),    sigmoid(-X)),
    Rewrite("logistic_of_opposite",      exp(X) / (1 + exp(X)),     sigmoid(X)),
    Rewrite("one_minus_sigmoid",         1 - sigmoid(X),            sigmoid(-X)),
    # Neither overflows nor vanishes on the way; the derivative at 0 is 0, not nan.
    Rewrite("root_of_square",            sqrt(square(X)),           abs_(X)),
    Rewrite("root_of_product",           sqrt(X * X),               abs_(X)),
    Rewrite("root_of_power",             sqrt(pow_(X, TWO)),          abs_(X)),
))
# fmt: on
