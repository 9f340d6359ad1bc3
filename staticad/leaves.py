"""The leaves of the loop tree as source: elements computed and kept, sums stepped, products and calls.

Knows lowerings and how elements are written, not the loops around.
"""

from __future__ import annotations

from collections.abc import Sequence

from staticad.elements import Elements
from staticad.expressions import fill, is_literal, narrow, typed
from staticad.loops import Carry, Compute, Start, Statement, Step, Tile, Whole
from staticad.lowering import Call, Carried, Contract, Reduce, Update
from staticad.parallel import shared
from staticad.products import contraction
from staticad.scopes import Scope
from staticad.shapes import Dim, Symbol, symbol


def statement(body: Elements, item: Statement, scope: Scope) -> None:
    if isinstance(item, Compute):
        if item.source is not None:
            text = body.element(item.operand, item.source, scope)
        else:
            text = body.formula(item.node, item.index, scope)
        in_array = body.plan.buffers[item.buffer].place != "scalar"
        carried = isinstance(item.node.op.lower, Carried)
        left = item.source is not None and text in body.changing(scope)  # of a step, which goes on to change it
        if not in_array and (carried or left or item.buffer in body.updated):
            text = body.assign(body.hint(item.node), text, scope)
        elif not (text.isidentifier() or is_literal(text)) and body.reads_of(item.node, item.index) > 0:
            hint = body.hint(item.node)
            text = body.assign(hint + body.suffix(item.index) if in_array else hint, text, scope)
        if not (carried and in_array):  # what a carry begins with is not what it is in later steps
            scope.known[(item.node, item.index)] = text
        body.keep(item.node, item.buffer, item.index, text, scope)
    elif isinstance(item, Start):
        start(body, item, scope)
    elif isinstance(item, Step):
        step(body, item, scope)
    elif isinstance(item, Tile):
        tile(body, item, scope)
    elif isinstance(item, Carry):
        raise AssertionError("carries go on together")
    else:
        whole(body, item, scope)


def start(body: Elements, item: Start, scope: Scope) -> None:
    lower = item.node.op.lower
    if isinstance(lower, Contract):
        scope.lines.append(f"m.clear({body.array(item.buffer)})")
        return
    if isinstance(lower, Update):
        text = body.element(item.node.args[0], item.index, scope)
    else:
        assert isinstance(lower, Reduce)
        text = typed(lower.init(item.node.dtype), item.node.dtype)
    if body.plan.buffers[item.buffer].place == "scalar":
        body.scalars[item.buffer] = body.assign(item.node.op.name, text, scope)
    else:
        body.keep(item.node, item.buffer, item.index, text, scope)


def step(body: Elements, item: Step, scope: Scope) -> None:
    node, lower = item.node, item.node.op.lower
    assert isinstance(lower, (Reduce, Update))
    operands = node.args[1:2] if isinstance(lower, Update) else node.args
    values = {name: body.element(x, item.source, scope) for name, x in zip("xyz", operands, strict=False)}
    if item.scalar:
        acc = body.accumulators[node]
        scope.lines.append(f"{acc} = {narrow(fill(lower.step, {**values, 'acc': acc}), lower.step, node.dtype)}")
        body.targets[node] = item.target
        if isinstance(lower, Reduce) and lower.running:
            scope.known[(node, item.target)] = acc
            body.keep(node, item.buffer, item.target, acc, scope)
        return
    if isinstance(lower, Reduce) and lower.running:
        text = narrow(fill(lower.step, {**values, "acc": before(body, item, lower, scope)}), lower.step, node.dtype)
        text = body.assign(body.hint(node) + body.suffix(item.target), text, scope)
        scope.known[(node, item.target)] = text
        body.keep(node, item.buffer, item.target, text, scope)
        return
    if body.plan.buffers[item.buffer].place == "scalar":
        to = body.scalars.get(item.buffer) or body.names.claim(node.op.name)
        body.scalars[item.buffer] = to
    else:
        to = body.place(item.buffer, item.target, scope)
    scope.lines.append(f"{to} = {narrow(fill(lower.step, {**values, 'acc': to}), lower.step, node.dtype)}")


def before(body: Elements, item: Step, lower: Reduce, scope: Scope) -> str:
    """The value that a running accumulation in memory continues: of the step before, or its first one."""
    at = item.target[item.axis]
    text, used = body.coordinate(at, scope), body.loop_variables(at)
    first = body.hoisted("first", f"{text} == 0", used, scope)
    place = Symbol(body.hoisted("before", f"max({text} - 1, 0)", used, scope), "var")
    body.variables[place], body.depends[place] = place.name, used
    value = body.assign("last", body.place(item.buffer, item.before(symbol(place)), scope), scope)
    return f"({typed(lower.init(item.node.dtype), item.node.dtype)} if {first} else {value})"


def whole(body: Elements, item: Whole, scope: Scope) -> None:
    node, lower = item.node, item.node.op.lower
    assert isinstance(lower, Call)
    arrays = [body.array(item.buffer), *(body.array(body.storage.buffer(x)) for x in node.args)]
    alone = str(not body.module.threads)
    scope.lines.append(f"m.{lower.function}({', '.join([*arrays, *lower.params(node.params), alone])})")


def tile(body: Elements, item: Tile, scope: Scope) -> None:
    """Calls of the product kernel, in loops over the letters that it does not cover."""
    product = contraction(body.plan, item, body.blocks)
    spec: str = item.node.params["spec"]
    x, y, out = (body.array(array) for array in (*product.arrays, item.buffer))
    loops = {**product.loops, **product.summed}
    names = dict(zip(loops, body.loop_names[scope.depth :], strict=False))
    body.variables |= {Symbol(letter, "var"): name for letter, name in names.items()}
    alone = shared(item) and not body.module.threads

    def call(starts: Sequence[Dim], extents: Sequence[Dim], more: bool) -> str:
        numbers = [*starts, *extents, *(d for group in product.strides for d in group)]
        at = ", ".join(body.coordinate(d, scope) for d in numbers)
        flags = f", {more}, True" if alone else ", True" if more else ""
        return f"m.contract({x}, {y}, {out}, {at}{flags})  # {spec}"

    indent = ""
    for letter, extent in product.loops.items():
        scope.lines.append(f"{indent}for {names[letter]} in range({body.coordinate(extent, scope)}):")
        indent += "    "
    if product.summed and not item.more:  # zeros first, by a sum of nothing
        scope.lines.append(indent + call((0, 0, product.starts[2]), (*product.extents[:3], 0), False))
    for letter, extent in product.summed.items():
        scope.lines.append(f"{indent}for {names[letter]} in range({body.coordinate(extent, scope)}):")
        indent += "    "
    scope.lines.append(indent + call(product.starts, product.extents, item.more or bool(product.summed)))
