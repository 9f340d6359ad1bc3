"""Loops whose steps are graphs: their last carries, and what every step leaves; knows no loop trees.

Each result of a loop is a node of its own, so that what nobody reads is not computed. The derivative of a loop is a
loop: forward beside it, backward over its steps from the last to the first, given what the steps left.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import count
from typing import Any

import numpy as np

from staticad.dtypes import can_require_grad
from staticad.errors import ShapeError, StepLimit
from staticad.ir import ArrayType, Body, Example, Node, Op, Together, substitute, toposort
from staticad.lowering import Repeat, Update
from staticad.ops.closures import closed
from staticad.ops.creation import fill
from staticad.ops.indexing import moved
from staticad.ops.reductions import number
from staticad.ops.rules import lanewise, linear, same_types, spread
from staticad.ops.sources import placeholder
from staticad.shapes import Dim, Shape, Symbol, evaluate, symbol, symbols

Array = np.ndarray[Any, Any]


def _check(types: Sequence[ArrayType], body: Body) -> None:
    for x, out in zip(body.carries, body.nexts, strict=True):
        if x.type != out.type:
            raise ShapeError(f"a loop: a carry of type {x.type} becomes {out.type} in one step")
    slices = types[len(body.carries) :][: len(body.slices)]
    given = [*types[: len(body.carries)], *(ArrayType(t.dtype, t.shape[1:]) for t in slices)]
    given += types[len(given) :]
    for t, x in zip(given, body.inputs, strict=True):
        if t != x.type:
            raise ShapeError(f"a loop: an operand of type {t}, for one of type {x.type} in its body")
    for t in slices:
        if t.shape[0] != body.length:
            raise ShapeError(f"a loop: an operand of type {t} for {body.length} steps")


def _final_type(*types: ArrayType, body: Body, carry: int, length: Dim) -> ArrayType:
    _check(types, body)
    return body.carries[carry].type


def _stack_type(*types: ArrayType, body: Body, value: Node, length: Dim) -> ArrayType:
    _check(types, body)
    return ArrayType(value.dtype, (body.length, *value.shape))


def _count_type(*types: ArrayType, body: Body, length: Dim) -> ArrayType:
    _check(types, body)
    return ArrayType(np.dtype("int64"))


def _steps(
    arrays: Sequence[Array], body: Body, length: int, value: Node | None
) -> tuple[list[Array], list[Array], dict[str, int]]:
    """The last carries, ``value`` in every step, and the sizes of symbolic dimensions.

    ``length`` is -1 where a condition ends the loop."""
    from staticad.interpret import bind, interpret

    n, m = len(body.carries), len(body.slices)
    carry, sliced, consts = list(arrays[:n]), arrays[n : n + m], arrays[n + m :]
    shapes = [*(x.shape for x in carry), *(x.shape[1:] for x in sliced), *(x.shape for x in consts)]
    sizes = bind([("a loop", x.shape, shape) for x, shape in zip(body.inputs, shapes, strict=True)], body.sizes)
    left: list[Array] = []
    limit = None if body.limit is None else evaluate(body.limit, sizes)
    for t in count() if body.condition else reversed(range(length)) if body.reverse else range(length):
        given = dict(zip(body.inputs, [*carry, *(x[t] for x in sliced), *consts], strict=True))
        if body.condition and not interpret([body.condition], given, sizes)[0]:
            break
        if t == limit:
            raise StepLimit(f"a loop goes on after {limit} steps")
        found = interpret([*body.nexts, *([] if value is None else [value])], given, sizes)
        carry = found[:n]
        left.append(found[-1] if found else np.empty(0))
    return carry, left[::-1] if body.reverse else left, sizes


def _final_numpy(*arrays: Array, body: Body, carry: int, length: int) -> Array:
    return _steps(arrays, body, length, None)[0][carry]


def _stack_numpy(*arrays: Array, body: Body, value: Node, length: int) -> Array:
    _, left, sizes = _steps(arrays, body, length, value)
    return np.stack(left) if left else np.empty((0, *(evaluate(d, sizes) for d in value.shape)), value.dtype)


def _count_numpy(*arrays: Array, body: Body, length: int) -> Array:
    return np.array(len(_steps(arrays, body, length, None)[1]))


def _known(body: Body) -> Dim:
    """The parameter ``length`` of results of a loop."""
    return -1 if body.condition else body.length


def _count_symbol(node: Node) -> str:
    (symbol,) = symbols(node.params["body"].length)
    return symbol.name


def final_of(operands: Sequence[Node], body: Body, carry: int) -> Node:
    """Carry number ``carry`` after the last step of a loop."""
    return final(*operands, body=body, carry=carry, length=_known(body))


def stack_of(operands: Sequence[Node], body: Body, value: Node) -> Node:
    """Node ``value`` of the body in every step of a loop, along a new leading axis."""
    return stack(*operands, body=body, value=value, length=_known(body))


def count_of(operands: Sequence[Node], body: Body) -> Node:
    """How many steps a loop with a condition takes."""
    return steps_taken(*operands, body=body, length=-1)


def _asked(node: Node) -> Node | None:
    """The node of the body whose value a result is made of."""
    if node.op is steps_taken:
        return None
    return node.params["value"] if "value" in node.params else node.params["body"].nexts[node.params["carry"]]


def _backward(nodes: Sequence[Node], gs: Sequence[Node]) -> Sequence[Node | None]:
    """One loop from the last step to the first, which carries the cotangents of carries and sums those of constants."""
    from staticad.autodiff import pull
    from staticad.residuals import choose_residuals

    body: Body = nodes[0].params["body"]
    operands = nodes[0].args
    n, m = len(body.carries), len(body.slices)
    finals: dict[int, Node] = {}
    for x, g in zip(nodes, gs, strict=True):
        if (k := x.params.get("carry")) is not None:  # asked for twice where a derivative asks for it too
            finals[k] = finals[k] + g if k in finals else g
    stacked: list[tuple[Node, Node]] = [
        (x.params["value"], g) for x, g in zip(nodes, gs, strict=True) if "value" in x.params
    ]

    # One step: cotangents of its inputs from those of the carries it gives and of what it leaves.
    of_carry = {k: placeholder(body.carries[k].type) for k in finals}
    of_value = [placeholder(value.type) for value, _ in stacked]
    wrt = [x for x in body.inputs if can_require_grad(x.dtype)]
    while True:
        outputs = [*(body.nexts[k] for k in of_carry), *(value for value, _ in stacked)]
        pulled = dict(zip(wrt, pull(outputs, wrt, [*of_carry.values(), *of_value]), strict=True))
        more = [k for k, x in enumerate(body.carries) if pulled.get(x) is not None and k not in of_carry]
        if not more:
            break
        of_carry |= {k: placeholder(body.carries[k].type) for k in more}
    moving = list(of_carry)
    sums = [x for x in body.consts if pulled.get(x) is not None]
    so_far = {x: placeholder(x.type) for x in sums}
    nexts = [g if (g := pulled[body.carries[k]]) is not None else fill(body.carries[k], 0) for k in moving]
    for x in sums:
        g = pulled[x]
        assert g is not None
        nexts.append(add_to(so_far[x], g))
    values = [pulled.get(x) for x in body.slices]

    # What the forward steps leave for it. The next value of a carry is what the step before it in this loop, the one
    # after it in that, had as the carry itself: where that is kept, it is only remembered.
    wanted = [*nexts, *(g for g in values if g is not None)]
    left = [*body.nexts, *(value for value, _ in stacked)]
    follows = {y: x for x, y in zip(body.carries, body.nexts, strict=True) if y.args}
    own = [*of_carry.values(), *of_value, *so_far.values()]
    kept = choose_residuals(left, wanted, own, lost=body.carries, follows=follows)
    stand_in = {x: placeholder(x.type) for x in kept}
    read = set(toposort(wanted, lambda x: () if x in stand_in else x.args))
    remembered = {
        y: placeholder(y.type) for y, x in follows.items() if y in read and y not in stand_in and x in stand_in
    }
    replaced = substitute(wanted, stand_in | remembered)
    nexts, found = replaced[: len(nexts)], iter(replaced[len(nexts) :])

    # The number of steps is an operand, so that it is known before.
    number = [count_of(operands, body)] if body.condition else []
    backward = Body(
        carries=(*of_carry.values(), *so_far.values(), *remembered.values()),
        slices=(*of_value, *stand_in.values(), *body.slices),
        consts=(*body.consts, *(placeholder(x.type) for x in number)),
        nexts=(*nexts, *(stand_in[follows[y]] for y in remembered)),
        length=body.length,
        reverse=body.reverse != bool(of_carry or remembered),  # sums have no order
        unroll=body.unroll,
    )
    given = [
        *(finals.get(k) or fill(body.carries[k], 0) for k in moving),
        *(fill(x, 0) for x in sums),
        *(final_of(operands, body, body.nexts.index(y)) for y in remembered),
        *(g for _, g in stacked),
        *(stack_of(operands, body, x) for x in kept),
        *operands[n:],
        *number,
    ]
    out: list[Node | None] = [None] * len(operands)
    for at, k in enumerate(moving):
        out[k] = final_of(given, backward, at)
    for k, g in enumerate(values):
        if g is not None:
            out[n + k] = stack_of(given, backward, next(found))
    for at, x in enumerate(sums):
        out[n + m + body.consts.index(x)] = final_of(given, backward, len(moving) + at)
    return out


def _forward(nodes: Sequence[Node], tangents: Sequence[Node | None]) -> Sequence[Node | None]:
    """One loop that carries tangents beside the carries."""
    from staticad.autodiff import push

    body: Body = nodes[0].params["body"]
    operands = nodes[0].args
    n = len(body.carries)
    move: dict[Node, Node] = {
        x: placeholder(x.type) for x, t in zip(body.inputs, tangents, strict=True) if t is not None
    }
    asked = [x for node in nodes if (x := _asked(node)) is not None]
    while True:
        pushed = push([*body.nexts, *asked], list(move), list(move.values()))
        late = [x for x, t in zip(body.carries, pushed, strict=False) if t is not None and x not in move]
        if not late:
            break
        move |= {x: placeholder(x.type) for x in late}
    active = [k for k, x in enumerate(body.carries) if x in move]
    dual = Body(
        carries=(*body.carries, *(move[body.carries[k]] for k in active)),
        slices=(*body.slices, *(move[x] for x in body.slices if x in move)),
        consts=(*body.consts, *(move[x] for x in body.consts if x in move)),
        nexts=(*body.nexts, *(t if (t := pushed[k]) is not None else fill(body.carries[k], 0) for k in active)),
        length=body.length,
        reverse=body.reverse,
        condition=body.condition,
        limit=body.limit,
        unroll=body.unroll,
    )
    moved = dict(zip(body.inputs, zip(operands, tangents, strict=True), strict=True))

    def along(x: Node) -> Node:
        operand, t = moved[x]
        return fill(operand, 0) if t is None else t

    given = [
        *operands[:n],
        *(along(body.carries[k]) for k in active),
        *operands[n : n + len(body.slices)],
        *(along(x) for x in body.slices if x in move),
        *operands[n + len(body.slices) :],
        *(along(x) for x in body.consts if x in move),
    ]
    out: list[Node | None] = []
    found = iter(pushed[n:])
    for node in nodes:
        t = None if _asked(node) is None else next(found)
        if "carry" in node.params:
            k = node.params["carry"]
            out.append(final_of(given, dual, n + active.index(k)) if k in active else None)
        else:
            out.append(None if t is None else stack_of(given, dual, t))
    return out


def _lanes(
    nodes: Sequence[Node], operands: Sequence[Node], batched: Sequence[bool], lanes: Shape
) -> Sequence[tuple[Node, bool]] | None:
    """One loop whose steps do all lanes, unless they end one by one; carries without lanes stay as they are."""
    from staticad.batching import in_lanes

    body: Body = nodes[0].params["body"]
    n, m, rank = len(body.carries), len(body.slices), len(lanes)
    given = {x: placeholder(_with_lanes(x, lanes)) for x, has in zip(body.inputs, batched, strict=True) if has}
    values = [x.params["value"] for x in nodes if "value" in x.params]
    test = [] if body.condition is None else [body.condition]
    while True:
        found = in_lanes([*body.nexts, *values, *test], given, lanes)
        if found is None:
            return None
        late = [x for x, (_, has) in zip(body.carries, found, strict=False) if has and x not in given]
        if not late:
            break
        given |= {x: placeholder(_with_lanes(x, lanes)) for x in late}
    if test and found[-1][1]:
        return None
    many = dataclasses.replace(
        body,
        carries=tuple(given.get(x, x) for x in body.carries),
        slices=tuple(given.get(x, x) for x in body.slices),
        consts=tuple(given.get(x, x) for x in body.consts),
        nexts=tuple(
            spread(node, lanes) if x in given and not has else node
            for x, (node, has) in zip(body.carries, found, strict=False)
        ),
        condition=found[-1][0] if test else None,
    )
    inits = zip(body.carries, operands[:n], batched[:n], strict=True)
    args = [
        *(spread(x, lanes) if carry in given and not has else x for carry, x, has in inits),
        *(moved(x, [rank], [0]) if has else x for x, has in zip(operands[n : n + m], batched[n : n + m], strict=True)),
        *operands[n + m :],
    ]
    stacked = iter(found[n:])
    out: list[tuple[Node, bool]] = []
    for node in nodes:
        if "carry" in node.params:
            k = node.params["carry"]
            out.append((final_of(args, many, k), body.carries[k] in given))
        elif node.op is steps_taken:
            out.append((count_of(args, many), False))
        else:
            value, has = next(stacked)
            steps = stack_of(args, many, value)
            out.append((moved(steps, [0], [rank]) if has else steps, has))
    return out


def _with_lanes(x: Node, lanes: Shape) -> ArrayType:
    return ArrayType(x.dtype, (*lanes, *x.shape))


LOOPS = count()


def new_count() -> Dim:
    """The number of steps of a new loop with a condition."""
    return symbol(Symbol(f"steps#{next(LOOPS)}", "count"))


def close(
    carries: Sequence[Node], slices: Sequence[Node], nexts: Sequence[Node], values: Sequence[Node], length: Dim,
    reverse: bool = False, condition: Node | None = None, limit: Dim | None = None, unroll: int = 1,
) -> tuple[Body, list[Node], list[Node]]:  # fmt: skip
    """A body that may read nodes from outside, with these as constants: the body, the nodes, and ``values`` in it."""
    asked = [*nexts, *values, *([condition] if condition else [])]
    found, outer, consts = closed(asked, [*carries, *slices])
    n = len(nexts)
    test = found[-1] if condition else None
    body = Body(tuple(carries), tuple(slices), tuple(consts), tuple(found[:n]), length, reverse, test, limit, unroll)
    return body, outer, found[n : n + len(values)]


TOGETHER = Together(_backward, _forward, _lanes)


def _alone_vjp(node: Node, g: Node) -> Sequence[Node | None]:
    return _backward([node], [g])


def _alone_jvp(node: Node, tangents: Sequence[Node | None]) -> Node | None:
    return _forward([node], tangents)[0]


def _example_body(*, reverse: bool = False) -> tuple[tuple[Array, ...], Body]:
    """h <- h * x_t + c, over five steps."""
    t = ArrayType(np.dtype("float64"), (3,))
    h, x, c = (placeholder(t) for _ in range(3))
    arrays = np.linspace(0.2, 0.9, 3), np.linspace(-1.2, 1.1, 15).reshape(5, 3), np.array([0.3, -0.4, 0.5])
    return arrays, Body((h,), (x,), (c,), (h * x + c,), 5, reverse)


def _while_body() -> tuple[tuple[Array, ...], Body]:
    """h <- h * h + c, while the sum of h is below 5."""
    from staticad.ops.arithmetic import less
    from staticad.ops.reductions import sum_

    t = ArrayType(np.dtype("float64"), (3,))
    h, c = placeholder(t), placeholder(t)
    condition = less(total := sum_(h, axes=(0,)), fill(total, 5.0))
    return (np.linspace(0.6, 0.9, 3), np.array([0.3, 0.4, 0.5])), Body(
        (h,), (), (c,), (h * h + c,), new_count(), condition=condition
    )


def _final_examples() -> Iterable[Example]:
    for reverse in (False, True):
        arrays, body = _example_body(reverse=reverse)
        yield Example(arrays, {"body": body, "carry": 0, "length": 5})
    arrays, body = _while_body()
    yield Example(arrays, {"body": body, "carry": 0, "length": -1})


def _stack_examples() -> Iterable[Example]:
    for reverse in (False, True):
        arrays, body = _example_body(reverse=reverse)
        yield Example(arrays, {"body": body, "value": body.nexts[0], "length": 5})
        yield Example(arrays, {"body": body, "value": body.carries[0] * body.slices[0], "length": 5})


def _count_examples() -> Iterable[Example]:
    arrays, body = _while_body()
    yield Example(arrays, {"body": body, "length": -1}, smooth=False)


def _add_to_examples() -> Iterable[Example]:
    for shape in ((3, 2), (), (0,)):
        for dtype in ("float32", "float64"):
            x = np.linspace(-1.5, 2.0, int(np.prod(shape)), dtype=dtype).reshape(shape)
            yield Example((x, np.cos(x)))


#: ``total + x``, made in the memory of ``total`` where nothing else reads that: how a loop sums arrays over its steps,
#: in any order.
add_to = linear(
    "add_to",
    np.add,
    Update(lambda node, index: index, "{acc} + {x}", number(0)),
    partial(same_types, "add_to"),
    lambda node, g: [g, g],
    batch=lanewise(),
    operands=2,
    examples=_add_to_examples,
)
# fmt: off
#: Carry number ``carry`` after the last step.
final = Op(
    name="final", infer=_final_type, numpy=_final_numpy, lower=Repeat(), vjp=_alone_vjp, jvp=_alone_jvp,
    examples=_final_examples, together=TOGETHER,
)
#: Node ``value`` of the body in every step, along a new leading axis.
stack = Op(
    name="stack", infer=_stack_type, numpy=_stack_numpy, lower=Repeat(), vjp=_alone_vjp, jvp=_alone_jvp,
    examples=_stack_examples, together=TOGETHER,
    defines=lambda node, value: {_count_symbol(node): len(value)} if node.params["body"].condition else {},
)
#: How many steps a loop with a condition takes.
steps_taken = Op(
    name="steps_taken", infer=_count_type, numpy=_count_numpy, lower=Repeat(), vjp=_alone_vjp, jvp=_alone_jvp,
    examples=_count_examples, together=TOGETHER, differentiable=False,
    defines=lambda node, value: {_count_symbol(node): int(value)},
)
# fmt: on
