"""Loops and choices made ready to be scheduled: bodies simplified, in terms of what stands outside; knows no trees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from staticad.ir import ArrayType, Body, Branches, Graph, Node, Op, clone, loop_key, substitute, toposort
from staticad.joined import joined
from staticad.lowering import Branch, Call, Carried, Choices, Map, Read, Source, Steps, View
from staticad.needs import live_carries, needed
from staticad.ops import creation, sources
from staticad.ops.rules import no_jvp, no_vjp
from staticad.shapes import Dim, Symbol, add, mul, symbol
from staticad.simplify import simplify
from staticad.twins import merged


def _position(*, var: Symbol, length: Dim, reverse: bool) -> Dim:
    return add(add(length, -1), mul(-1, symbol(var))) if reverse else symbol(var)


def _no_meaning(*arrays: Any, **params: Any) -> Any:
    raise AssertionError("only the compiler makes such nodes")


def _carried_type(*, var: Symbol, number: int, type: ArrayType) -> ArrayType:  # noqa: A002
    return type


def _slice_type(x: ArrayType, *, var: Symbol, length: Dim, reverse: bool) -> ArrayType:
    return ArrayType(x.dtype, x.shape[1:])


def _read_slice(node: Node, index: tuple[Dim, ...]) -> Read:
    return Read((_position(**node.params), *index))


# fmt: off
# The present value of carry ``number``.
carried = Op(
    name="carried", infer=_carried_type, numpy=_no_meaning, lower=Carried(), vjp=no_vjp, jvp=no_jvp,
    differentiable=False,
)
# The slice of an operand that a step reads.
at_step = Op(
    name="at_step", infer=_slice_type, numpy=_no_meaning, lower=View(_read_slice), vjp=no_vjp, jvp=no_jvp,
    differentiable=False,
)
# fmt: on


def inline(graph: Graph) -> Graph:
    """The graph whose loop results have `Steps` instead of a `Body`, and choices `Choices` instead of `Branches`.

    Only what is asked for, simplified."""
    return Graph(graph.inputs, tuple(Inliner().rewritten(graph.outputs, {})))


class Inliner:
    """Numbers the loops."""

    def __init__(self) -> None:
        self.count = 0

    def rewritten(
        self, outputs: Sequence[Node], given: Mapping[Node, Node], outside: Collection[Node] = ()
    ) -> list[Node]:
        """``outputs`` with ``given`` replacements of inputs, and loops inlined, as few as they can be.

        What has no operands is made anew: a step or a branch that stores it does so for itself alone. What library
        functions read from memory is no view of what is ``outside`` of a body, but a copy of it."""
        outputs = joined(merged(outputs))
        copies = {x: sources.stop_gradient(x) for x in outside if isinstance(x.op.lower, View)}
        groups: dict[object, list[Node]] = {}
        for node in toposort(outputs, needed):
            if node.op.together is not None:
                groups.setdefault(loop_key(node), []).append(node)
        operands = {
            key: tuple(dict.fromkeys(x for node in found for x in needed(node))) for key, found in groups.items()
        }
        order = toposort(outputs, lambda node: operands[loop_key(node)] if node.op.together is not None else node.args)
        new: dict[Node, Node] = dict(given)
        for node in order:
            if node in new:
                continue
            if node.op.together is not None:
                together, given = groups[loop_key(node)], {x: new[x] for x in operands[loop_key(node)]}
                new |= (self.choice if isinstance(node.op.lower, Branch) else self.loop)(together, given)
            else:
                args = tuple(new[x] for x in node.args)
                if isinstance(node.op.lower, Call):
                    args = tuple(copies.get(x, x) for x in args)
                same = args == node.args and (args or isinstance(node.op.lower, Source))
                new[node] = node if same else clone(node, args)
        return [new[x] for x in outputs]

    def loop(self, nodes: Sequence[Node], operands: Mapping[Node, Node]) -> dict[Node, Node]:
        body: Body = nodes[0].params["body"]
        values = [x.params["value"] for x in nodes if "value" in x.params]
        tests = [] if body.condition is None else [body.condition]
        args, count = nodes[0].args, len(body.carries)
        sliced = [operands.get(x) for x in args[count : count + len(body.slices)]]
        consts = [operands.get(x) for x in args[count + len(body.slices) :]]
        slices = [y and filled(x, y) for x, y in zip(body.slices, sliced, strict=True)]
        inner = known((*body.nexts, *tests, *values), (*body.slices, *body.consts), [*slices, *consts])
        nexts, tests, values = inner[:count], inner[count : count + len(tests)], inner[count + len(tests) :]
        carries = [x.params["carry"] for x in nodes if "carry" in x.params]
        live = live_carries(body, nexts, [*tests, *values], carries)
        var = Symbol(f"t{self.count}", "var")
        self.count += 1
        given: dict[Node, Node] = {}
        for k in live:
            given[body.carries[k]] = carried(var=var, number=k, type=body.carries[k].type)
        for x, operand in zip(body.slices, sliced, strict=True):
            if operand is not None:
                given[x] = at_step(operand, var=var, length=body.length, reverse=body.reverse)
        given |= {x: y for x, y in zip(body.consts, consts, strict=True) if y is not None}
        outside = operands.values()
        rewritten = self.rewritten([*tests, *(nexts[k] for k in live), *values], given, outside)
        found = apart(rewritten[len(tests) :], outside)
        steps = Steps(
            var=var,
            length=body.length,
            reverse=body.reverse,
            carries=tuple(given[body.carries[k]] for k in live),
            inits=tuple(operands[args[k]] for k in live),
            nexts=tuple(found[: len(live)]),
            condition=rewritten[0] if tests else None,
            limit=body.limit,
            unroll=body.unroll,
        )
        left = iter(found[len(live) :])
        out: dict[Node, Node] = {}
        for node in nodes:
            if "value" in node.params:
                part: dict[str, Any] = {"value": next(left)}
            elif "carry" in node.params:
                part = {"carry": live.index(node.params["carry"])}
            else:
                part = {"count": creation.full(value=body.length, shape=(), dtype=node.dtype)}
            params = {"body": steps, "length": body.length, **part}
            out[node] = Node(node.op, tuple(operands.values()), params, node.type, node.name)
        return out

    def choice(self, nodes: Sequence[Node], given: Mapping[Node, Node]) -> dict[Node, Node]:
        body: Branches = nodes[0].params["body"]
        operands = tuple(given[x] for x in nodes[0].args)
        choices = Choices(operands[0], len(body.values))
        consts = dict(zip(body.consts, operands[1:], strict=True))
        values: dict[Node, list[tuple[int, Node]]] = {node: [] for node in nodes}
        for k, results in enumerate(body.values):
            asked: dict[Node, Node] = {x: results[x.params["result"]] for x in nodes if "result" in x.params}
            asked |= {x: x.params["value"] for x in nodes if x.params.get("branch") == k}
            inner = known(tuple(asked.values()), body.consts, operands[1:])
            for node, found in zip(asked, self.rewritten(inner, consts, operands), strict=True):
                values[node].append((k, found))
        return {
            node: Node(node.op, operands, {"body": choices, "values": tuple(found)}, node.type, node.name)
            for node, found in values.items()
        }


def filled(x: Node, operand: Node) -> Node | None:
    """What ``x``, which stands for slices of the operand, is if they are all the same number."""
    value = creation.constant(operand)
    return None if value is None else creation.fill(x, value)


def known(outputs: Sequence[Node], inputs: Sequence[Node], operands: Sequence[Node | None]) -> tuple[Node, ...]:
    """``outputs`` simplified, given those of the operands that are constants."""
    given = {x: y for x, y in zip(inputs, operands, strict=True) if y and not y.args and isinstance(y.op.lower, Map)}
    return simplify(Graph(tuple(inputs), tuple(substitute(outputs, given)))).outputs


def apart(nodes: Sequence[Node], outside: Collection[Node]) -> list[Node]:
    """The nodes as distinct ones with values of their own, made in the step: no view of what is ``outside``."""
    seen = {x for x in outside if isinstance(x.op.lower, View)}
    found: list[Node] = []
    for node in nodes:
        if node in seen or isinstance(node.op.lower, (Source, Carried)):
            node = sources.stop_gradient(node)
        seen.add(node)
        found.append(node)
    return found
