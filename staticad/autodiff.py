"""Derivatives as graph transformations: reverse (vjp) and forward (jvp); knows no op but the add that accumulates."""

from __future__ import annotations

from collections.abc import Sequence

from staticad.dtypes import can_require_grad
from staticad.ir import Node, toposort, toposort_until
from staticad.ops.rules import accumulate


def active_nodes(order: Sequence[Node], wrt: Sequence[Node]) -> set[Node]:
    """The nodes of ``order`` (operands first) through which a derivative with respect to ``wrt`` may flow."""
    active = set(wrt)
    for node in order:
        if node.op.differentiable and can_require_grad(node.dtype) and any(x in active for x in node.args):
            active.add(node)
    return active


def pull(outputs: Sequence[Node], wrt: Sequence[Node], cotangents: Sequence[Node]) -> list[Node | None]:
    """The cotangent of each node of ``wrt``, given those of ``outputs``; None where no path leads to it."""
    order = toposort(outputs)
    active = active_nodes(order, wrt)
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
    order = toposort(outputs)
    active = active_nodes(order, wrt)
    moving: dict[Node, Node] = {}
    for x, t in zip(wrt, tangents, strict=True):
        moving[x] = moving[x] + t if x in moving else t
    given = set(moving)
    for node in order:
        if node not in active or not any(x in moving for x in node.args):
            continue
        t = node.op.jvp(node, [moving.get(x) for x in node.args])
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
