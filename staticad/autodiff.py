"""Derivatives as graph transformations: reverse (vjp) and forward (jvp); knows no op but the add that accumulates.

A node that has a stable form (`staticad.stable`) is differentiated through that: what is asked for is the derivative of
what it computes, and the naive form's would be nan where only an intermediate value overflows.
"""

from __future__ import annotations

from collections.abc import Sequence

from staticad.dtypes import can_require_grad
from staticad.ir import Node, toposort, toposort_until
from staticad.ops.rules import accumulate
from staticad.stable import stable_forms


def differentiated(outputs: Sequence[Node], wrt: Sequence[Node]) -> tuple[list[Node], dict[Node, Node], set[Node]]:
    """What a derivative of ``outputs`` goes through, operands first; which of that by their stable forms instead; and
    which are active: a derivative by ``wrt`` may flow through them.
    """
    order = toposort(outputs)
    forms = stable_forms(order, {x for x in wrt if x.args})
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
    waiting: dict[Node, list[Node]] = {}
    for out, g in zip(outputs, cotangents, strict=True):
        if out in active:
            waiting.setdefault(out, []).append(g)
    wanted = set(wrt)
    found: dict[Node, Node] = {}
    for node in reversed(order):
        terms = waiting.pop(node, None)
        if terms is None:
            continue
        g = accumulate(terms)
        assert g is not None
        assert g.type == node.type, f"{node.op.name}: cotangent {g.type} for a result {node.type}"
        if node in wanted:
            found[node] = g
        if node in forms:
            waiting.setdefault(forms[node], []).append(g)
            continue
        if not any(x in active for x in node.args):
            continue
        for x, gx in zip(node.args, node.op.vjp(node, g), strict=True):
            if gx is not None and x in active:
                waiting.setdefault(x, []).append(gx)
    known = dict.fromkeys(order, None)
    for g in found.values():
        for node in toposort_until(g, known):
            node.backward = True
            known[node] = None
    return [found.get(x) for x in wrt]


def push(outputs: Sequence[Node], wrt: Sequence[Node], tangents: Sequence[Node]) -> list[Node | None]:
    """The tangent of each of ``outputs``, given those of ``wrt``; None where no path leads to it."""
    order, forms, active = differentiated(outputs, wrt)
    moving: dict[Node, Node] = {}
    for x, t in zip(wrt, tangents, strict=True):
        moving[x] = moving[x] + t if x in moving else t
    given = set(moving)
    for node in order:
        if node in forms:
            t = moving.get(forms[node])
        elif node in active and any(x in moving for x in node.args):
            t = node.op.jvp(node, [moving.get(x) for x in node.args])
        else:
            continue
        if t is not None:
            moving[node] = moving[node] + t if node in given else t
    return [moving.get(out) for out in outputs]


def vjp_nodes(outputs: Sequence[Node], wrt: Sequence[Node], cotangents: Sequence[Node]) -> list[Node]:
    """`pull`, with zeros where no path leads."""
    return [_or_zeros(g, x) for g, x in zip(pull(outputs, wrt, cotangents), wrt, strict=True)]


def jvp_nodes(outputs: Sequence[Node], wrt: Sequence[Node], tangents: Sequence[Node]) -> list[Node]:
    """`push`, with zeros where no path leads."""
    return [_or_zeros(t, out) for t, out in zip(push(outputs, wrt, tangents), outputs, strict=True)]


def _or_zeros(found: Node | None, like: Node) -> Node:
    return Node.arithmetic["fill"](like, 0) if found is None else found
