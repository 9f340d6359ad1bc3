"""What results of loops are made of: the carries that they depend on, the operands that steps read for them."""

from __future__ import annotations

from collections.abc import Sequence

from staticad.ir import Body, Node, toposort
from staticad.lowering import Repeat
from staticad.shapes import counts


def needed(node: Node) -> tuple[Node, ...]:
    """The operands that a node is made of: of a result of a loop, those that its steps read for it."""
    if not isinstance(node.op.lower, Repeat) or counts([node.params["body"].length]):
        return node.args  # what tells the number of steps is read by none of them
    body: Body = node.params["body"]
    values = [node.params["value"]] if "value" in node.params else []
    live = live_carries(body, body.nexts, values, [node.params["carry"]] if "carry" in node.params else [])
    read = {*toposort([*values, *(body.nexts[k] for k in live)]), *(body.carries[k] for k in live)}
    return tuple(operand for operand, x in zip(node.args, body.inputs, strict=True) if x in read)


def live_carries(body: Body, nexts: Sequence[Node], values: Sequence[Node], wanted: Sequence[int]) -> list[int]:
    """The carries that results depend on, in order."""
    live = set(wanted)
    while True:
        read = set(toposort([*values, *(nexts[k] for k in live)]))
        more = {k for k, x in enumerate(body.carries) if x in read} | live
        if more == live:
            return sorted(live)
        live = more
