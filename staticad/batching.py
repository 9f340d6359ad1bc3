"""Batching as a graph transformation: a graph for one value becomes one for many, in lanes; knows no op.

Only what depends on a value that has lanes gets them; the rest is computed once. Every op's entry says how it works on
lanes. Where one does not, all that has lanes becomes the body of a loop over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from staticad.autodiff import results_of_loops
from staticad.ir import ArrayType, Node, clone, depending, loop_key, toposort
from staticad.ops import control, sources
from staticad.ops.rules import spread
from staticad.shapes import Dim, Shape
from staticad.unit_lanes import Laned, batched, kept_apart, spelled_out


def batch(outputs: Sequence[Node], given: Mapping[Node, Node], lanes: Shape) -> list[tuple[Node, bool]]:
    """``outputs`` with each node of ``given`` replaced by one that has axes of the shape ``lanes`` before its own; and
    for each whether it has them too, which it has if it depends on one of these."""
    found = in_lanes(outputs, given, lanes)
    return over_lanes(outputs, given, lanes) if found is None else found


def over_units(outputs: Sequence[Node], seed: Node) -> list[Node]:
    """``outputs``, which are linear in ``seed``, for every unit that it can be: along first axes of its shape."""
    lanes = seed.shape
    ones = Laned(Node.arithmetic["fill"](seed, 1), tuple(range(len(lanes))))
    values = walked(outputs, {seed: ones}, lanes)
    if values is not None:
        laned = [values.get(x, x) for x in outputs]
        found = [(spelled_out(x, lanes).node, True) if isinstance(x, Laned) else (x, False) for x in laned]
    else:
        found = over_lanes(outputs, {seed: spelled_out(ones, lanes).node}, lanes)
    return [x if has else spread(x, lanes) for x, has in found]


def in_lanes(outputs: Sequence[Node], given: Mapping[Node, Node], lanes: Shape) -> list[tuple[Node, bool]] | None:
    """`batch` by the rules of the ops alone; None where one has none."""
    dense = (None,) * len(lanes)
    values = walked(outputs, {x: Laned(other, dense) for x, other in given.items()}, lanes)
    if values is None:
        return None
    found = [values.get(x, x) for x in outputs]
    return [(x.node, True) if isinstance(x, Laned) else (x, False) for x in found]


def walked(outputs: Sequence[Node], given: Mapping[Node, Laned], lanes: Shape) -> dict[Node, Laned | Node] | None:
    """What becomes of the nodes that depend on those of ``given``; None where an op has no rule."""
    loops = results_of_loops(toposort(outputs))
    # All results of a loop or a call are made at once, when all that they have of their own is there.
    order = toposort(outputs, lambda node: operands_of(loops.get(loop_key(node), [node])))
    values: dict[Node, Laned | Node] = dict(given)
    for node in order:
        if node in values or not any(x in values for x in node.args):
            continue
        args = [values.get(x, x) for x in node.args]
        if not any(isinstance(x, Laned) for x in args):
            # A result of a loop that has lanes elsewhere is another node, even where it has none itself.
            values[node] = clone(node, tuple(x for x in args if isinstance(x, Node)))
            continue
        found = kept_apart(node, args, lanes)
        if found is not None:
            values[node] = found
            continue
        args = [spelled_out(x, lanes) if isinstance(x, Laned) else x for x in args]
        dense = (None,) * len(lanes)
        if node.op.together is None:
            one = batched(node, args, lanes)
            if one is None:
                return None
            values[node] = Laned(one, dense) if len(one.shape) > len(node.shape) or not lanes else one
            continue
        nodes = loops[loop_key(node)]
        args = [spelled_out(x, lanes) if isinstance(x := values.get(y, y), Laned) else x for y in operands_of(nodes)]
        operands, has = [x.node if isinstance(x, Laned) else x for x in args], [isinstance(x, Laned) for x in args]
        rule = node.op.together.batch
        several = None if rule is None else rule(nodes, operands, has, lanes)
        if several is None:
            return None
        values |= {x: Laned(y, dense) if y_has else y for x, (y, y_has) in zip(nodes, several, strict=True)}
    return values


def operands_of(nodes: Sequence[Node]) -> Sequence[Node]:
    """The operands of the results of one loop or call: what each has of its own, then the others."""
    rule = nodes[0].op.together
    own = 0 if rule is None else rule.own
    return [*(x for node in nodes for x in node.args[:own]), *nodes[0].args[own:]] if own else nodes[0].args


def over_lanes(outputs: Sequence[Node], given: Mapping[Node, Node], lanes: Shape) -> list[tuple[Node, bool]]:
    """`batch` by a loop over the lanes (loops in loops, where they have several axes) whose steps do one lane."""
    depends = depending(outputs, given)
    mapped = [x for x in dict.fromkeys(outputs) if x in depends and x not in given]
    rows, values = list(given), mapped
    for axis in reversed(range(len(lanes))):
        many = [sources.placeholder(_longer(x, lanes[axis])) for x in rows]
        body, outer, values = control.close((), rows, (), values, lanes[axis])
        operands = [*(many if axis else given.values()), *outer]
        values = [control.stack_of(operands, body, value) for value in values]
        rows = many
    found = {**given, **dict(zip(mapped, values, strict=True))}
    return [(found.get(x, x), x in depends) for x in outputs]


def _longer(x: Node, lanes: Dim) -> ArrayType:
    return ArrayType(x.dtype, (lanes, *x.shape))
