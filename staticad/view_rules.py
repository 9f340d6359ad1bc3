"""Rules on views and on what they meet: each moves, merges or drops a view, exactly; knows ops, no loops."""

from __future__ import annotations

from staticad.ir import Node
from staticad.lowering import Contract, Map, Source, Uninitialised
from staticad.ops import creation, products, views
from staticad.ops.creation import constant
from staticad.shapes import add, known_ge, mul, product


def map_of_views(node: Node) -> Node | None:
    """``f(broadcast(x), broadcast(y), constant)`` is ``broadcast(f(x, y, constant))``; so it is for transposes.

    An element is computed once, not where it is repeated, and views meet views."""
    outer = next((x for x in node.args if views.places_axes(x)), None)
    if outer is None or not isinstance(node.op.lower, Map):
        return None
    inner: list[Node] = []
    for x in node.args:
        value = constant(x)
        if value is not None:
            inner.append(creation.full(value=value, shape=outer.args[0].shape, dtype=x.dtype))
        elif x.op is outer.op and x.params == outer.params and x.args[0].shape == outer.args[0].shape:
            inner.append(x.args[0])
        else:
            return None
    return outer.op(node.op(*inner, **node.params), **outer.params)


def map_of_merged(node: Node) -> Node | None:
    """``f(reshape(x), y)`` is ``reshape(f(x, reshape(y)))`` where the reshape of a computed x merges axes.

    Splitting the axes of y costs nothing in a loop; dividing the index of x would."""
    outer = next((x for x in node.args if views.merges(x) and not isinstance(x.args[0].op.lower, Source)), None)
    if outer is None or not isinstance(node.op.lower, Map):
        return None
    shape = outer.args[0].shape
    inner = [
        x.args[0] if views.merges(x) and x.args[0].shape == shape else views.reshape(x, shape=shape) for x in node.args
    ]
    return views.reshape(node.op(*inner, **node.params), shape=node.shape)


def reduce_of_merged(node: Node) -> Node | None:
    """A reduction of merged axes is one over the axes they were."""
    x = node.args[0]
    if not views.merges(x):
        return None
    old_axes = {new[0]: old for old, new in views.reshape_groups(x.args[0].shape, x.shape)}
    if not all(a in old_axes for a in node.params["axes"]):
        return None
    axes = tuple(sorted(k for a in node.params["axes"] for k in old_axes[a]))
    out = node.op(x.args[0], axes=axes)
    return out if out.shape == node.shape else views.reshape(out, shape=node.shape)


def view_of_constant(node: Node) -> Node | None:
    """A view of a constant is a constant."""
    value = constant(node.args[0])
    return None if value is None else creation.full(value=value, shape=node.shape, dtype=node.dtype)


def same_shape(node: Node) -> Node | None:
    """A reshape or broadcast to the shape there is."""
    return node.args[0] if node.args[0].shape == node.shape else None


def reshape_twice(node: Node, x: Node) -> Node:
    """``reshape(reshape(x))`` is one reshape."""
    return views.reshape(x.args[0], shape=node.shape)


def transpose_nothing(node: Node) -> Node | None:
    """A transpose that leaves every axis in place."""
    return node.args[0] if node.params["axes"] == tuple(range(len(node.shape))) else None


def transpose_twice(node: Node, x: Node) -> Node:
    """``transpose(transpose(x))`` is one transpose."""
    inner = x.params["axes"]
    return views.transpose(x.args[0], axes=tuple(inner[k] for k in node.params["axes"]))


def transpose_product(node: Node) -> Node | None:
    """A transposed product is the product with its result written in that order."""
    x = node.args[0]
    if not isinstance(x.op.lower, Contract):
        return None
    operands, out = x.params["spec"].split("->")
    return products.contract(*x.args, spec=f"{operands}->{''.join(out[k] for k in node.params['axes'])}")


def broadcast_twice(node: Node, x: Node) -> Node:
    """``broadcast(broadcast(x))`` is one broadcast."""
    outer = node.params["axes"]
    return views.broadcast(x.args[0], shape=node.shape, axes=tuple(outer[k] for k in x.params["axes"]))


def reduce_single(node: Node) -> Node | None:
    """A sum, product, maximum, ... over no axes is nothing, over axes of size 1 a reshape; such axes go first.

    But for the sign of zero: a sum starts from 0.0, and 0.0 + -0.0 is 0.0."""
    x, axes = node.args[0], node.params["axes"]
    if not axes:
        return x
    ones = tuple(a for a in axes if x.shape[a] == 1)
    if not ones:
        return None
    rest = views.reshape(x, shape=tuple(d for a, d in enumerate(x.shape) if a not in ones))
    kept = tuple(a - sum(b < a for b in ones) for a in axes if a not in ones)
    return node.op(rest, axes=kept) if kept else rest


def slice_nothing(node: Node) -> Node | None:
    """A slice of everything."""
    x = node.args[0]
    whole = all(s == 0 for s in node.params["start"]) and all(s == 1 for s in node.params["step"])
    return x if whole and x.shape == node.shape else None


def slice_twice(node: Node, x: Node) -> Node:
    """``slice(slice(x))`` is one slice."""
    start = tuple(
        add(inner, mul(outer, step))
        for inner, outer, step in zip(x.params["start"], node.params["start"], x.params["step"], strict=True)
    )
    step = tuple(a * b for a, b in zip(x.params["step"], node.params["step"], strict=True))
    return views.slice_(x.args[0], start=start, size=node.params["size"], step=step)


def slice_of_pad(node: Node, x: Node) -> Node | None:
    """A slice of exactly what was padded."""
    whole = node.shape == x.args[0].shape and node.params["start"] == x.params["low"]
    return x.args[0] if whole and node.params["step"] == x.params["step"] else None


def pad_nothing(node: Node) -> Node | None:
    """A pad that adds nothing."""
    params = node.params
    plain = all(n == 0 for n in (*params["low"], *params["high"])) and all(k == 1 for k in params["step"])
    return node.args[0] if plain else None


def pad_constant(node: Node) -> Node | None:
    """A constant padded with itself."""
    value = constant(node.args[0])
    same = isinstance(value, (bool, int, float)) and number_text(value) == number_text(node.params["fill"])
    return creation.fill(node, value) if same else None


def number_text(value: float) -> str:
    """A number as text that tells 0.0 from -0.0 and takes nan for nan."""
    return repr(float(value))


def reduce_constant(node: Node) -> Node | None:
    """The maximum or minimum, ``any`` or ``all`` of a constant is that, if there is an element for sure."""
    value = constant(node.args[0])
    axes: tuple[int, ...] = node.params["axes"]
    if value is None or not all(known_ge(node.args[0].shape[a], 1) for a in axes):
        return None
    return creation.full(value=value, shape=node.shape, dtype=node.dtype)


def sum_constant(node: Node) -> Node | None:
    """The sum of a constant is its multiple, where that is an integer that the dtype holds."""
    x = node.args[0]
    summed: tuple[int, ...] = node.params["axes"]
    value, count = constant(x), product(x.shape[a] for a in summed)
    if not isinstance(value, (int, float)) or not float(value).is_integer() or not isinstance(count, int):
        return None
    limit = 2**24 if node.dtype.itemsize == 4 else 2**53
    if node.dtype.itemsize < 4 or abs(int(value) * count) > limit:
        return None
    return creation.fill(node, int(value) * count)


def reduce_of_transpose(node: Node, x: Node) -> Node:
    """A reduction over all axes does not ask for their order; over some, the rest is transposed."""
    order: tuple[int, ...] = x.params["axes"]
    summed: tuple[int, ...] = node.params["axes"]
    axes = tuple(sorted(order[a] for a in summed))
    rest = [order[a] for a in range(len(order)) if a not in summed]
    return views.transpose(node.op(x.args[0], axes=axes), axes=tuple(sorted(rest).index(a) for a in rest))


def update_everything(node: Node) -> Node | None:
    """``update_slice`` of every element."""
    base, x = node.args
    return x if base.shape == x.shape and all(k == 1 for k in node.params["step"]) else None


def slice_of_update(node: Node, x: Node) -> Node | None:
    """A slice of what `update_slice` wrote is that; one that misses it is a slice of the base."""
    if any(s != 1 for s in (*node.params["step"], *x.params["step"])):
        return None
    base, new = x.args
    starts, sizes = node.params["start"], node.params["size"]
    if starts == x.params["start"] and sizes == new.shape:
        return new
    apart = any(
        known_ge(start, add(at, size)) or known_ge(at, add(start, length))
        for start, length, at, size in zip(starts, sizes, x.params["start"], new.shape, strict=True)
    )
    return views.slice_(base, **node.params) if apart and not isinstance(base.op.lower, Uninitialised) else None
