"""Which form of a node is differentiated instead of it: the stable one, and with the maximum that was subtracted held
constant; knows ops, no loops.

``log(sum(exp(x - m))) + m`` and the softmax of ``x - m`` are the same for every m that is one number along the axes of
the sum, so that no derivative goes through m. Going there all the same (`max` shares its cotangent among all that are
greatest) would be passes over x whose sum is 0 but for rounding.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence

from staticad.ir import Node, clone, toposort
from staticad.ops import reductions
from staticad.ops.reductions import kept_axes, sum_
from staticad.ops.sources import stop_gradient
from staticad.ops.transcendental import exp, log
from staticad.patterns import Pattern, Rewrite, X, Y, applied, by_op, same
from staticad.stable import (
    STABLE,
    Axes,
    marks_of_shift,
    repeated_axes,
    shown,
    softmax_parts,
    through,
    under_views,
    with_views,
)

LOG = Pattern(log(X))
SUM_OF_EXP = Pattern(applied(sum_, exp(X)))


def held(y: Node, axes: Sequence[int]) -> Node | None:
    """``y = x - max(x)`` with that maximum constant to derivatives, where it is one number along ``axes`` and is not
    constant to them already."""
    marks = marks_of_shift(y, axes)
    if marks is None or stop_gradient in marks:
        return None
    x, top = y.args
    return x - stop_gradient(top) if {a for a in axes if y.shape[a] != 1} <= repeated_axes(top) else None


def held_exponent(total: Node) -> Node | None:
    """Such a ``y`` with its maximum held constant, where ``total`` is ``sum(exp(y))``."""
    found = SUM_OF_EXP.match(total)
    return held(found[0], total.params["axes"]) if found else None


def log_sum_exp(node: Node, log_: Node, added: Node) -> Node | None:
    """``log(sum(exp(x - m))) + m``."""
    parts = parts_of_log(log_)
    if parts is None:
        return None
    z, logs, axes = parts
    top, places = shown(z.args[1].args[0])
    at, added_places = shown(added)
    return logs + stop_gradient(added) if same(at, top) and added_places == through(axes, places) else None


def parts_of_log(node: Node) -> tuple[Node, Node, Axes] | None:
    """Of ``log(sum(exp(y)))``: ``y`` with its maximum held constant, the logarithm of that, and which of its axes each
    axis of ``node`` is."""
    log_, of_node = shown(node)
    found = LOG.match(log_)
    if found is None:
        return None
    total, of_log = shown(found[0])
    z = held_exponent(total)
    if z is None:
        return None
    sums = with_views(sum_(exp(z), **total.params), under_views(found[0])[1])
    logs = with_views(log(sums), under_views(node)[1])
    return z, logs, through(through(of_node, of_log), kept_axes(len(z.shape), total.params["axes"]))


def log_softmax(node: Node, y: Node, log_: Node) -> Node | None:
    """``y - log(sum(exp(y)))`` of ``y = x - m``."""
    parts = parts_of_log(log_)
    if parts is None:
        return None
    z, logs, axes = parts
    repeated = repeated_axes(log_)
    aligned = axes == tuple(None if a in repeated or y.shape[a] == 1 else a for a in range(len(y.shape)))
    return z - logs if aligned and same(y, z.args[0] - z.args[1].args[0]) else None


def softmax(node: Node, *_: Node) -> Node | None:
    """``exp(y) / sum(exp(y))`` of ``y = x - m``."""
    parts = softmax_parts(node)
    z = None if parts is None else held_exponent(parts[1])
    if parts is None or z is None:
        return None
    powers = exp(z)
    sums = reductions.restore(sum_(powers, **parts[1].params), powers.shape, parts[1].params["axes"])
    return with_views(powers / sums, parts[2])


# fmt: off
HELD = by_op((
    Rewrite("log_sum_exp", X + Y, log_sum_exp),
    Rewrite("log_softmax", X - Y, log_softmax),
    Rewrite("softmax",     X / Y, softmax),
))
# fmt: on
FORMS = STABLE.keys() | HELD.keys()


def forms_of(order: Sequence[Node], kept: Collection[Node]) -> dict[Node, Node]:
    """The form of each node of ``order`` (operands first) that has one and may be differentiated through it.

    The derivative by a node of ``kept`` is asked for, so no form may pass it by.
    """
    forms: dict[Node, Node] = {}
    there = set(order)
    for node in order:
        if node.op not in FORMS:
            continue
        args = tuple(forms.get(x, x) for x in node.args)
        naive = node if args == node.args else clone(node, args)
        form = naive
        for rules in (STABLE, HELD):
            form = next((out for rule in rules.get(form.op, ()) if (out := rule(form)) is not None), form)
        if form is not naive and not (kept and passes_by(node, form, there, kept)):
            forms[node] = form
    return forms


def formed(nodes: Sequence[Node]) -> list[Node]:
    """``nodes`` with all that they are made of in its form.

    So a step of a loop computes what its derivative reads, not the same twice under two names.
    """
    forms = forms_of(toposort(nodes), ())
    new: dict[Node, Node] = {}
    for node in toposort(nodes, lambda node: (forms[node],) if node in forms else node.args):
        args = tuple(new[x] for x in node.args) if node not in forms else ()
        new[node] = new[forms[node]] if node in forms else node if args == node.args else clone(node, args)
    return [new[x] for x in nodes]


def passes_by(node: Node, form: Node, there: Container[Node], kept: Container[Node]) -> bool:
    """Whether ``node`` depends on one of ``kept`` as ``form``, made of nodes that are ``there``, does not."""
    ends: set[Node] = set()
    seen: set[Node] = set()
    stack = [form]
    while stack:
        x = stack.pop()
        if x in there:
            ends.add(x)
        elif x not in seen:
            seen.add(x)
            stack.extend(x.args)
    stack = [x for x in node.args if x not in ends]
    while stack:
        x = stack.pop()
        if x in kept:
            return True
        if x not in seen:
            seen.add(x)
            stack.extend(y for y in x.args if y not in ends)
    return False
