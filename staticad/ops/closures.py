"""Graphs that read nodes from outside: which, and inputs in their place; knows no derivatives, and no loops."""

from __future__ import annotations

from collections.abc import Collection, Container, Sequence

from staticad.ir import Node, depending, substitute, toposort_until
from staticad.lowering import Source
from staticad.ops.sources import placeholder


def read_outside(outputs: Sequence[Node], inputs: Collection[Node], own: Container[Node] | None = None) -> list[Node]:
    """What a graph from ``inputs`` to ``outputs`` reads from outside, numbers apart.

    ``own``: the nodes that are part of it; those that depend on the inputs, if it is not given."""
    own = depending(outputs, inputs) if own is None else own
    order = toposort_until(outputs, inputs)
    read = dict.fromkeys(x for node in order if node in own for x in node.args if x not in own)
    read |= dict.fromkeys(x for x in outputs if x not in own)
    return [x for x in read if x.args or isinstance(x.op.lower, Source)]


def closed(
    outputs: Sequence[Node], inputs: Collection[Node], own: Container[Node] | None = None
) -> tuple[list[Node], list[Node], list[Node]]:
    """``outputs`` with further inputs in the place of what they read from outside; that, and these inputs."""
    outer = read_outside(outputs, inputs, own)
    more = [placeholder(x.type) for x in outer]
    return substitute(outputs, dict(zip(outer, more, strict=True))), outer, more
