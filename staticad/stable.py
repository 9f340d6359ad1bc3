"""Stable forms: what a program says in a form that overflows or cancels, in one that does not; knows ops, no loops.

Each rule keeps the value that exact arithmetic gives and is at least as accurate in floats: finite where the naive form
overflowed, and the same at 0, inf and nan. `simplify` computes the stable form; `autodiff` differentiates it, since the
naive form's derivative (``exp(x) / (1 + exp(x))``) would be nan where its value had been saved.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from staticad.ir import Node, Op
from staticad.ops import arithmetic, creation, logic, reductions, sources, special, transcendental, views
from staticad.ops.reductions import kept_axes
from staticad.shapes import Expr
from staticad.view_rules import Rule, constant

VIEWS = frozenset({views.broadcast, views.reshape, views.transpose})
MARKS = frozenset({sources.stop_gradient, sources.nonempty, sources.assume_shape})
#: Nodes that a search for a subtracted maximum, or for two equal terms, looks at; both are a few ops in practice.
LOOK_AT = 16
#: Which axis of one node each axis of another is, if it is one.
Axes = tuple[int | None, ...]


# recognising ----------------------------------------------------------------------------------------------------------


def is_one(node: Node) -> bool:
    value = constant(node)
    return isinstance(value, (int, float)) and value == 1


def under_views(node: Node) -> tuple[Node, list[Node]]:
    """What views show, and those views, the outermost first."""
    seen: list[Node] = []
    while node.op in VIEWS:
        seen.append(node)
        node = node.args[0]
    return node, seen


def with_views(x: Node, seen: Sequence[Node]) -> Node:
    """``x`` under the views that `under_views` took off."""
    for view in reversed(seen):
        x = view.op(x, **view.params)
    return x


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


def total(node: Node, x: Node, order: Sequence[int]) -> Node | None:
    """The ``sum(exp(x))`` that ``node`` repeats along the axes it was summed over, if it is that.

    ``order``: which axis of x each axis of ``node`` is."""
    core, axes = node, tuple(range(len(node.shape)))
    while core.op is views.broadcast or core.op is views.transpose:
        shown: tuple[int, ...] = core.params["axes"]
        rank = range(len(core.args[0].shape))
        axes = tuple(axes[shown.index(a) if core.op is views.transpose else shown[a]] for a in rank)
        core = core.args[0]
    if core.op is not reductions.sum_ or core.args[0].op is not transcendental.exp:
        return None
    fits = tuple(order[a] for a in axes) == kept_axes(len(x.shape), core.params["axes"])
    return core if fits and same(core.args[0].args[0], x) else None


def softmax_parts(node: Node) -> tuple[Node, Node, list[Node]] | None:
    """The x and the ``sum(exp(x))`` of which ``node`` is ``exp(x) / sum(exp(x))``, and the transposes over exp(x)."""
    if node.op is not arithmetic.divide:
        return None
    powers, seen, order = node.args[0], list[Node](), tuple(range(len(node.shape)))
    while powers.op is views.transpose:
        seen.append(powers)
        order = tuple(powers.params["axes"][a] for a in order)
        powers = powers.args[0]
    if powers.op is not transcendental.exp:
        return None
    sum_ = total(node.args[1], powers.args[0], order)
    return None if sum_ is None else (powers.args[0], sum_, seen)


def is_shifted(x: Node, axes: Sequence[int]) -> bool:
    """Whether ``x`` is ``y - max(y)``, the maximum over no more than ``axes``: sums of its exp are at least 1."""
    if x.op is not arithmetic.subtract:
        return False
    y, top = unmarked(x.args[0]), x.args[1]
    if not repeated_axes(top) <= set(axes):
        return False
    waiting = [top]
    for _ in range(LOOK_AT):
        if not waiting:
            return False
        node = waiting.pop()
        if node.op is reductions.max_:
            return same(unmarked(node.args[0]), y)
        if node.op in VIEWS or node.op in MARKS:
            waiting.append(node.args[0])
        elif node.op is logic.select:
            waiting += node.args[1:]
    return False


def shown(node: Node) -> tuple[Node, Axes]:
    """What views repeat and transpose, and which axis of that each axis of ``node`` is; None: one that is repeated, or
    of size 1."""
    axes: Axes = tuple(None if size == 1 else a for a, size in enumerate(node.shape))
    while (below := axes_below(node)) is not None:
        axes = through(axes, below)
        node = node.args[0]
    return node, axes


def through(axes: Axes, below: Axes) -> Axes:
    """Which axis of a third each axis of a first is, by which of a second each is, and which of the third that."""
    return tuple(None if a is None else below[a] for a in axes)


def axes_below(view: Node) -> Axes | None:
    """Which axis of its operand each axis of a view is, if it repeats, transposes, or adds and drops axes of size 1."""
    out: list[int | None] = [None] * len(view.shape)
    if view.op is views.transpose:
        return view.params["axes"]
    sizes = view.args[0].shape if view.args else ()
    longer = [a for a, size in enumerate(sizes) if size != 1]
    if view.op is views.broadcast:
        places = [view.params["axes"][a] for a in longer]
    elif view.op is views.reshape:
        places = [a for a, size in enumerate(view.shape) if size != 1]
    else:
        return None
    if [view.shape[a] for a in places] != [sizes[a] for a in longer]:
        return None
    for place, a in zip(places, longer, strict=True):
        out[place] = a
    return tuple(out)


def repeated_axes(node: Node) -> set[int]:
    """The axes along which views repeat what they show."""
    return {a for a, below in enumerate(shown(node)[1]) if below is None and node.shape[a] != 1}


def unmarked(node: Node) -> Node:
    """What marks and views show."""
    while node.op in MARKS or node.op in VIEWS:
        node = node.args[0]
    return node


def exponent(node: Node) -> Node | None:
    """The x of ``exp(x)``, under the views of the exp."""
    power, seen = under_views(node)
    return with_views(power.args[0], seen) if power.op is transcendental.exp else None


# building -------------------------------------------------------------------------------------------------------------


def negated(x: Node) -> Node:
    return x.args[0] if x.op is arithmetic.negative else arithmetic.negative(x)


def greatest(x: Node, axes: tuple[int, ...]) -> Node:
    """The maximum over ``axes``, constant to derivatives; 0 where it is infinite or nan, which ``x - max`` is not for.

    Blanchard, Higham and Higham 2021, eq. (3.4)."""
    top = reductions.max_(sources.stop_gradient(x), axes=axes)
    return logic.select(logic.isfinite(top), top, creation.fill(top, 0))


def shifted(x: Node, axes: tuple[int, ...]) -> Node:
    """``x - max(x)``, at most 0."""
    return x - reductions.restore(greatest(x, axes), x.shape, axes)


def may_shift(x: Node, axes: tuple[int, ...]) -> bool:
    """Whether there is a maximum to subtract, and none was."""
    return not is_shifted(x, axes) and all(x.shape[a] != 0 for a in axes)


# rules ----------------------------------------------------------------------------------------------------------------


def log_of_exp(node: Node) -> Node | None:
    """``log(exp(x))`` is x: finite where exp overflows or vanishes."""
    x = node.args[0]
    return x.args[0] if x.op is transcendental.exp else None


def log_of_sum_of_exp(node: Node) -> Node | None:
    """``log(sum(exp(x)))`` is ``log(sum(exp(x - m))) + m``, m the maximum: finite wherever x is.

    A pass over x for its maximum is what that costs. Left alone where a maximum was subtracted already."""
    core, seen = under_views(node.args[0])
    x = exponent(core.args[0]) if core.op is reductions.sum_ else None
    if x is None or not may_shift(x, core.params["axes"]):
        return None
    axes = core.params["axes"]
    total_ = reductions.sum_(transcendental.exp(shifted(x, axes)), axes=axes)
    return with_views(transcendental.log(total_) + greatest(x, axes), seen)


def log_of_mean_of_exp(node: Node) -> Node | None:
    """``log(sum(exp(x)) / c)`` is ``log(sum(exp(x))) - log(c)``, and ``* c`` is ``+ log(c)``, of a number c > 0."""
    scaled = node.args[0]
    if scaled.op not in (arithmetic.divide, arithmetic.multiply):
        return None
    for x, c in (scaled.args, scaled.args[::-1])[: 2 if scaled.op is arithmetic.multiply else 1]:
        value = constant(c)
        positive = isinstance(value, Expr) or (isinstance(value, (int, float)) and 0 < value < math.inf)
        stable = log_of_sum_of_exp(transcendental.log(x)) if positive else None
        if stable is not None:
            log_c = transcendental.log(c) if isinstance(value, Expr) else creation.fill(c, math.log(value))
            return stable - log_c if scaled.op is arithmetic.divide else stable + log_c
    return None


def log_of_one_plus_exp(node: Node) -> Node | None:
    """``log(1 + exp(x))`` is softplus(x), ``log(exp(x) + exp(y))`` is logaddexp(x, y)."""
    if node.args[0].op is not arithmetic.add:
        return None
    x, y = node.args[0].args
    if x.op is transcendental.exp and y.op is transcendental.exp:
        return transcendental.logaddexp(x.args[0], y.args[0])
    for one, power in ((x, y), (y, x)):
        if is_one(one) and power.op is transcendental.exp:
            return special.softplus(power.args[0])
    return None


def log1p_of_exp(node: Node) -> Node | None:
    """``log1p(exp(x))`` is softplus(x)."""
    x = node.args[0]
    return special.softplus(x.args[0]) if x.op is transcendental.exp else None


def log_of_sigmoid(node: Node) -> Node | None:
    """``log(sigmoid(x))`` is -softplus(-x): finite where sigmoid vanishes, and not 0 where it rounds to 1."""
    x = node.args[0]
    return -special.softplus(negated(x.args[0])) if x.op is special.sigmoid else None


def log1p_of_negative_sigmoid(node: Node) -> Node | None:
    """``log1p(-sigmoid(x))`` is -softplus(x)."""
    x = negated(node.args[0])
    return -special.softplus(x.args[0]) if x.op is special.sigmoid else None


def log_of_softmax(node: Node) -> Node | None:
    """``log(exp(x) / sum(exp(x)))`` is ``x - log(sum(exp(x)))`` for an x whose maximum was subtracted.

    Finite where softmax vanishes, and not 0 where it rounds to 1."""
    out, seen = under_views(node.args[0])
    parts = softmax_parts(out)
    if parts is None or not is_shifted(parts[0], parts[1].params["axes"]):
        return None
    x, sum_, transposes = parts
    logs = x - reductions.restore(transcendental.log(sum_), x.shape, sum_.params["axes"])
    return with_views(logs, [*seen, *transposes])


def softmax(node: Node) -> Node | None:
    """``exp(x) / sum(exp(x))`` is ``exp(x - m) / sum(exp(x - m))``, m the maximum: never inf / inf or 0 / 0."""
    parts = softmax_parts(node)
    if parts is None or not may_shift(parts[0], parts[1].params["axes"]):
        return None
    x, axes = parts[0], parts[1].params["axes"]
    powers = transcendental.exp(shifted(x, axes))
    return with_views(powers / reductions.restore(reductions.sum_(powers, axes=axes), x.shape, axes), parts[2])


def log_softmax(node: Node) -> Node | None:
    """``x - (log(sum(exp(x - m))) + m)`` is ``(x - m) - log(sum(exp(x - m)))``: what cancels is no larger than it needs
    to be."""
    x, (core, seen) = node.args[0], under_views(node.args[1])
    at, axes = shown(node.args[1])
    if core.op is not arithmetic.add or at is not core:
        return None
    for log_, top in (core.args, core.args[::-1]):
        sum_ = log_.args[0] if log_.op is transcendental.log else None
        if sum_ is None or sum_.op is not reductions.sum_:
            continue
        y = exponent(sum_.args[0])
        if y is None or y.op is not arithmetic.subtract or y.args[0] is not x:
            continue
        greatest_, places = shown(top)
        if shown(y.args[1]) == (greatest_, through(axes, places)):
            return y - with_views(log_, seen)
    return None


def logistic(node: Node) -> Node | None:
    """``1 / (1 + exp(-x))`` and ``exp(x) / (1 + exp(x))`` are sigmoid(x), whose derivative is never inf / inf."""
    top, bottom = (None, *node.args)[-2:]
    if bottom is None or bottom.op is not arithmetic.add:
        return None
    for one, power in (bottom.args, bottom.args[::-1]):
        if is_one(one) and power.op is transcendental.exp:
            x = power.args[0]
            if top is None or is_one(top):
                return special.sigmoid(negated(x))
            if top.op is transcendental.exp and same(top.args[0], x):
                return special.sigmoid(x)
    return None


def one_minus_sigmoid(node: Node) -> Node | None:
    """``1 - sigmoid(x)`` is sigmoid(-x): nothing cancels where sigmoid rounds to 1."""
    one, x = node.args
    return special.sigmoid(negated(x.args[0])) if is_one(one) and x.op is special.sigmoid else None


def root_of_square(node: Node) -> Node | None:
    """``sqrt(x**2)`` is abs(x), which neither overflows nor vanishes on the way; its derivative at 0 is 0, not nan."""
    x = node.args[0]
    if x.op is arithmetic.square or (x.op is arithmetic.multiply and x.args[0] is x.args[1]):
        return arithmetic.abs_(x.args[0])
    power = constant(x.args[1]) if x.op is transcendental.pow_ else None
    return arithmetic.abs_(x.args[0]) if isinstance(power, (int, float)) and power == 2 else None


# fmt: off
STABLE: dict[Op, tuple[Rule, ...]] = {
    transcendental.log:    (log_of_exp, log_of_sum_of_exp, log_of_mean_of_exp, log_of_one_plus_exp, log_of_sigmoid,
                            log_of_softmax),
    transcendental.log1p:  (log1p_of_exp, log1p_of_negative_sigmoid),
    arithmetic.divide:     (softmax, logistic),
    arithmetic.reciprocal: (logistic,),
    arithmetic.subtract:   (one_minus_sigmoid,),
    arithmetic.sqrt:       (root_of_square,),
}
# fmt: on
