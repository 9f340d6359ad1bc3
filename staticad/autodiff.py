"""Derivatives as graph transformations: reverse (vjp) and forward (jvp); knows no op but the add that accumulates.

A node that has another form (`staticad.forms`) is differentiated through that: what is asked for is the derivative of
what it computes, and the naive form's would be nan where only an intermediate value overflows.
"""

from __future__ import annotations

from collections.abc import Sequence

from staticad.closed_forms import closed_forms
from staticad.dtypes import can_require_grad
from staticad.forms import forms_of
from staticad.ir import Node, loop_key, toposort, toposort_until
from staticad.ops.rules import accumulate


def differentiated(outputs: Sequence[Node], wrt: Sequence[Node]) -> tuple[list[Node], dict[Node, Node], set[Node]]:
    """What a derivative of ``outputs`` goes through, operands first; which of that by their stable forms instead; and
    which are active: a derivative by ``wrt`` may flow through them.
    """
    order = toposort(outputs)
    forms = forms_of(order, {x for x in wrt if x.args})
    if forms:
        order = toposort(outputs, lambda node: (forms[node],) if node in forms else node.args)
    active = set(wrt)
    for node in order:
        operands = (forms[node],) if node in forms else node.args
        if node.op.differentiable and can_require_grad(node.dtype) and any(x in active for x in operands):
            active.add(node)
    return order, forms, active


def pull(outputs: Sequence[Node], wrt: Sequence[Node], cotangents: Sequence[Node]) -> list[Node | None]:
    """The cotangent of each node of ``wrt``, given those of ``outputs``; None where no path leads to it."""
    order, forms, active = differentiated(outputs, wrt)
    closed = closed_forms(order, {x for x in wrt if x.args})
    waiting: dict[Node, list[Node]] = {}
    for out, g in zip(outputs, cotangents, strict=True):
        if out in active:
            waiting.setdefault(out, []).append(g)
    wanted = set(wrt)
    found: dict[Node, Node] = {}
    loops = results_of_loops(order)
    arrived: dict[Node, Node] = {}
    for node in reversed(order):
        terms = waiting.pop(node, None)
        if terms is not None:
            g = accumulate(terms)
            assert g is not None
            assert g.type == node.type, f"{node.op.name}: cotangent {g.type} for a result {node.type}"
            arrived[node] = g
        if node in wanted and node in arrived:
            found[node] = arrived[node]
        # Everything that reads a result of a loop comes after its first result.
        together = loops.get(loop_key(node), [node])
        nodes = [x for x in together if x in arrived] if node is together[0] else []
        if not nodes:
            continue
        if node in forms:
            waiting.setdefault(forms[node], []).append(arrived.pop(node))
        elif node in closed and closed[node].x in active:
            waiting.setdefault(closed[node].x, []).append(closed[node].move(arrived.pop(node)))
        elif any(x in active for x in node.args):
            gs = [arrived.pop(x) for x in nodes]
            rule = node.op.together
            parts: Sequence[Node | None] = node.op.vjp(node, gs[0]) if rule is None else rule.vjp(nodes, gs)
            for x, gx in zip(node.args, parts, strict=True):
                if gx is not None and x in active:
                    waiting.setdefault(x, []).append(gx)
    for node in toposort_until(found.values(), set(order)):
        node.backward = True
    return [found.get(x) for x in wrt]


def push(outputs: Sequence[Node], wrt: Sequence[Node], tangents: Sequence[Node]) -> list[Node | None]:
    """The tangent of each of ``outputs``, given those of ``wrt``; None where no path leads to it."""
    order, forms, active = differentiated(outputs, wrt)
    closed = closed_forms(order, {x for x in wrt if x.args})
    moving: dict[Node, Node] = {}
    for x, t in zip(wrt, tangents, strict=True):
        moving[x] = moving[x] + t if x in moving else t
    given = set(moving)
    loops = results_of_loops(order)
    for node in order:
        together = loops.get(loop_key(node), [node])
        if node is not together[0]:
            continue
        if node in forms:
            ts: Sequence[Node | None] = [moving.get(forms[node])]
        elif node in closed and closed[node].x in moving:
            ts = [closed[node].move(moving[closed[node].x])]
        elif (together := [x for x in together if x in active]) and any(x in moving for x in node.args):
            operands, rule = [moving.get(x) for x in node.args], node.op.together
            ts = [x.op.jvp(x, operands) for x in together] if rule is None else rule.jvp(together, operands)
        else:
            continue
        for x, t in zip(together, ts, strict=True):
            if t is not None:
                moving[x] = moving[x] + t if x in given else t
    return [moving.get(out) for out in outputs]


def results_of_loops(order: Sequence[Node]) -> dict[object, list[Node]]:
    """The nodes of ``order`` that are results of the same loop, by their `loop_key`."""
    found: dict[object, list[Node]] = {}
    for node in order:
        if node.op.together is not None:
            found.setdefault(loop_key(node), []).append(node)
    return found


def vjp_nodes(outputs: Sequence[Node], wrt: Sequence[Node], cotangents: Sequence[Node]) -> list[Node]:
    """`pull`, with zeros where no path leads."""
    return [_or_zeros(g, x) for g, x in zip(pull(outputs, wrt, cotangents), wrt, strict=True)]


def jvp_nodes(outputs: Sequence[Node], wrt: Sequence[Node], tangents: Sequence[Node]) -> list[Node]:
    """`push`, with zeros where no path leads."""
    return [_or_zeros(t, out) for t, out in zip(push(outputs, wrt, tangents), outputs, strict=True)]


def _or_zeros(found: Node | None, like: Node) -> Node:
    return Node.arithmetic["fill"](like, 0) if found is None else found
