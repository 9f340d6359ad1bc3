"""What nodes compute, as numbers that are equal where that is: knows loops and choices as graphs.

Results of loops in graphs count as equal where everything that they depend on is, whatever else the loops carry.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from staticad.ir import Body, Branches, Node, param_key, toposort
from staticad.lowering import Branch, Repeat
from staticad.needs import live_carries

#: The numbers of nodes.
Known: TypeAlias = "dict[Node, int]"


class Numbers:
    """Gives numbers; ``inside`` has those of the nodes in bodies, for each loop's or choice's operands and depth."""

    def __init__(self) -> None:
        self.table: dict[object, int] = {}
        self.inside: dict[tuple[object, ...], Known] = {}
        self.live: dict[tuple[Body, Node | int | None], list[int]] = {}

    def of(self, key: object) -> int:
        return self.table.setdefault(key, len(self.table))

    def within(self, nodes: Sequence[Node], known: Known, depth: int = 0) -> tuple[int, ...]:
        """The numbers of ``nodes``, given those of inputs in ``known``, which gets those of what they are made of.

        ``depth``: of how many loops' carries there are numbers in it."""
        for node in toposort(nodes, lambda x: () if x in known else x.args):
            if node not in known:
                args = tuple(known[x] for x in node.args)
                if isinstance(node.op.lower, Repeat):
                    known[node] = self.of_loop(node, args, depth)
                elif isinstance(node.op.lower, Branch):
                    known[node] = self.of_choice(node, args, depth)
                else:
                    params = tuple((k, param_key(node.params[k])) for k in sorted(node.params))
                    known[node] = self.of((node.op, args, params))
        return tuple(known[x] for x in nodes)

    def of_loop(self, node: Node, args: Sequence[int], depth: int) -> int:
        """By what makes the carries that a result depends on."""
        body: Body = node.params["body"]
        carry: int | None = node.params.get("carry")
        value: Node | None = node.params.get("value")
        asked = [x for x in (value, body.condition) if x is not None]
        which = value if carry is None else carry
        if (body, which) not in self.live:
            self.live[body, which] = live_carries(body, body.nexts, asked, [] if carry is None else [carry])
        live, count = self.live[body, which], len(body.carries)
        key = (body, tuple(live), tuple(args[count:]), depth)
        if key not in self.inside:
            known = {body.carries[k]: self.of(("carry", depth, at)) for at, k in enumerate(live)}
            known |= {x: self.of(("slice", depth, n)) for x, n in zip(body.slices, args[count:], strict=False)}
            self.inside[key] = known | dict(zip(body.consts, args[count + len(body.slices) :], strict=True))
        made = self.within([*(body.nexts[k] for k in live), *asked], self.inside[key], depth + 1)
        steps = body.length, body.reverse, body.limit, len(live), body.condition is None
        first = tuple(args[k] for k in live)
        return self.of((node.op, steps, first, made, None if carry is None else live.index(carry)))

    def of_choice(self, node: Node, args: Sequence[int], depth: int) -> int:
        """By what each branch makes a result of."""
        body: Branches = node.params["body"]
        key = (body, tuple(args), depth)
        if key not in self.inside:
            self.inside[key] = dict(zip(body.consts, args[1:], strict=True))
        branch: int | None = node.params.get("branch")
        if branch is None:
            asked = [values[node.params["result"]] for values in body.values]
        else:
            asked: list[Node] = [node.params["value"]]
        return self.of((node.op, args[0], branch, self.within(asked, self.inside[key], depth)))
