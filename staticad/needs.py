"""What results of loops and choices are made of: carries they depend on, operands read for them, graphs inside."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from staticad.ir import Body, Branches, Check, Node, toposort
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


def inside(node: Node) -> list[Node]:
    """The nodes of the body that a result of a loop, or of a choice, is made of."""
    body = node.params.get("body")
    own = [node.params["value"]] if "value" in node.params else []
    if isinstance(body, Body):
        return [*body.nexts, *([] if body.condition is None else [body.condition]), *own]
    if isinstance(body, Branches):
        return [*(x for results in body.values for x in results), *own]
    return []


def checks(outputs: Sequence[Node]) -> list[Check]:
    """What must hold of the sizes in a graph and in all bodies in it, however many steps are taken.

    What must hold in one branch may be what the choice asks for: only that sizes agree must hold in all of them."""
    return list(dict.fromkeys(_checks(outputs)))


def _checks(outputs: Sequence[Node]) -> Iterator[Check]:
    stack: list[tuple[Sequence[Node], bool, bool]] = [(outputs, False, False)]
    while stack:
        asked, nested, guarded = stack.pop()
        bodies: dict[Body | Branches, dict[Node, None]] = {}
        for node in toposort(asked):
            for check in node.op.checks(node):
                known = not nested or not counts([check.x, check.y])  # else only after a loop in the body
                if known and not (guarded and check.relation == ">="):
                    yield check
            if found := inside(node):
                bodies.setdefault(node.params["body"], {}).update(dict.fromkeys(found))
        stack += [(list(found), True, guarded or isinstance(body, Branches)) for body, found in bodies.items()]
