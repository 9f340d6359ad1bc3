"""The graph by itself, over ops made up for the purpose: order, text, rewriting, verification, at any depth."""

from __future__ import annotations

import numpy as np
import pytest

from staticad.errors import GraphError
from staticad.ir import (
    ArrayType,
    Graph,
    Node,
    Op,
    clone,
    depending,
    intern_key,
    rewrite,
    substitute,
    toposort,
    toposort_until,
    verify,
)
from staticad.shapes import dim

F64 = ArrayType(np.dtype("float64"), (dim("n"), 3))


def made_up(name: str, *, differentiable: bool = True) -> Op:
    return Op(
        name=name,
        infer=lambda *types, **params: types[0] if types else F64,
        numpy=lambda *arrays, **params: arrays,
        lower=None,
        vjp=lambda node, g: [None] * len(node.args),
        jvp=lambda node, tangents: None,
        differentiable=differentiable,
    )


src, neg, add, full, stop = (made_up(s) for s in ("src", "neg", "add", "full", "stop"))
stop = made_up("stop", differentiable=False)
DEEP = 100_000


def source(name: str | None = None) -> Node:
    node = src(key=object())
    node.name = name
    return node


def chain(x: Node, length: int = DEEP) -> Node:
    for _ in range(length):
        x = neg(x)
    return x


def test_types_print_briefly() -> None:
    assert str(F64) == "f64[n, 3]"
    assert str(ArrayType(np.dtype("bool"))) == "b1"
    assert F64.size == 3 * dim("n")
    assert F64.ndim == 2


def test_toposort_gives_operands_first_and_each_node_once() -> None:
    x = source()
    y = neg(x)
    out = add(add(y, x), y)
    order = toposort([out, y, out])
    assert len(order) == len(set(order)) == 4
    assert all(order.index(a) < order.index(node) for node in order for a in node.args)
    assert order == toposort([out, y, out])


def test_toposort_ends_at_what_is_known() -> None:
    x, y = source(), source()
    a = add(x, y)
    b, c = neg(a), neg(x)
    out = add(b, c)
    assert toposort_until([out, b], {a, x}) == [b, c, out]
    assert toposort_until([out, a], {out}) == [x, y, a]


def test_what_depends_on_nodes() -> None:
    x, y = source(), source()
    a, b = neg(x), neg(y)
    c = add(a, b)
    d = add(c, a)
    assert list(depending([d, b], [x])) == [x, a, c, d]
    assert list(depending([d], [c, b])) == [c, b, d]  # what c itself is made of does not matter
    assert list(depending([d], [])) == []


def test_substitution_keeps_what_does_not_depend_on_it() -> None:
    x, y, z = source("x"), source("y"), source("z")
    a, b = neg(x), neg(y)
    c = add(a, b)
    out = add(c, c)
    (found, same, given) = substitute([out, b, x], {x: z})
    assert (same, given) == (b, z)
    assert found.args[0] is found.args[1]
    assert found.args[0].args == (found.args[0].args[0], b)
    assert found.args[0].args[0].args == (z,)
    assert substitute([out], {c: x, x: z})[0].args == (x, x)  # values are not looked into
    assert substitute([out], {z: x}) == [out]


def test_text() -> None:
    x, y = source("x"), source("y")
    z = add(neg(x), y)
    z.name = "z"
    other = neg(z, axes=(1,), dtype=np.dtype("float32"))
    other.name = "x"  # taken by the input
    text = str(Graph((x, y), (z, other)))
    assert text.splitlines() == [
        "graph(x: f64[n, 3], y: f64[n, 3])",
        "  %2: f64[n, 3] = neg(x)",
        "  z: f64[n, 3] = add(%2, y)",
        "  %4: f64[n, 3] = neg(z, axes=(1,), dtype=float32)",
        "  return z, %4",
    ]


def test_equal_nodes_become_one() -> None:
    x = source("x")
    graph = rewrite(Graph((x,), (add(neg(neg(x)), neg(neg(x))),)), lambda node: node)
    assert len(graph.nodes) == 4
    (out,) = graph.outputs
    assert out.args[0] is out.args[1]
    assert graph.inputs == (x,)


def test_params_tell_nodes_apart() -> None:
    x = source("x")
    graph = rewrite(Graph((x,), (neg(x, axis=0), neg(x, axis=1), neg(x, axis=0))), lambda node: node)
    first, second, third = graph.outputs
    assert first is third
    assert first is not second


@pytest.mark.parametrize("kind", [float, np.float32])
def test_zeros_of_both_signs_stay_apart_and_nans_meet(kind: type) -> None:
    def key(value: float) -> object:
        return intern_key(full, (), {"value": kind(value)})

    assert key(0.0) != key(-0.0)
    assert key(0.0) == key(0.0)
    assert key(float("nan")) == key(float("nan"))
    assert key(1.0) != key(2.0)


def test_rewriting_replaces_bottom_up_and_interns_what_is_new() -> None:
    x = source("x")

    def double_negation(node: Node) -> Node:
        if node.op is neg and node.args[0].op is neg:
            return node.args[0].args[0]
        return node

    graph = rewrite(Graph((x,), (chain(x, 5), chain(x, 4))), double_negation)
    odd, even = graph.outputs
    assert odd.op is neg
    assert odd.args == (x,)
    assert even is x

    def sum_instead(node: Node) -> Node:
        return add(node.args[0], node.args[0]) if node.op is neg else node

    y = neg(x)
    graph = rewrite(Graph((x,), (y, add(x, x))), sum_instead)
    assert graph.outputs[0] is graph.outputs[1]


def test_a_replacement_may_hold_what_it_replaces() -> None:
    x = source("x")
    graph = rewrite(Graph((x,), (neg(x), neg(x))), lambda node: add(node, node) if node.op is neg else node)
    first, second = graph.outputs
    assert first is second
    assert [node.op for node in graph.nodes] == [src, neg, add]


def test_requires_grad_follows_operands() -> None:
    x = source("x")
    assert not neg(x).requires_grad
    x.requires_grad = True
    assert neg(x).requires_grad
    assert not stop(x).requires_grad
    y = source("y")
    assert add(y, x).requires_grad
    count = Op(**{**{f: getattr(neg, f) for f in ("name", "numpy", "lower", "vjp", "jvp")},
                  "infer": lambda t: ArrayType(np.dtype("int64"), t.shape)})  # fmt: skip
    assert not count(x).requires_grad


def test_cloning_keeps_what_the_user_set() -> None:
    x, y = source("x"), source("y")
    node = neg(x)
    node.requires_grad = True
    node.name = "leaf"
    copy = clone(node, (y,))
    assert copy.requires_grad
    assert copy.name == "leaf"
    assert copy.args == (y,)


def test_verify() -> None:
    x = source("x")
    verify(Graph((x,), (neg(x),)))
    wrong = Node(neg, (x,), {}, ArrayType(np.dtype("int8"), (3,)))
    with pytest.raises(GraphError, match=r"neg: has type i8\[3\], but its operands give f64\[n, 3\]"):
        verify(Graph((x,), (wrong,)))
    with pytest.raises(GraphError, match="an input must be a source"):
        verify(Graph((neg(x),), (neg(x),)))


def test_deep_graphs() -> None:
    x = source("x")
    graph = Graph((x,), (chain(x),))
    assert len(graph.nodes) == DEEP + 1
    verify(graph)
    assert str(graph).count("\n") == DEEP + 1
    assert len(rewrite(graph, lambda node: node).nodes) == DEEP + 1
    assert len(depending(graph.outputs, [x])) == DEEP + 1
    assert len(toposort(substitute(graph.outputs, {x: source("y")}))) == DEEP + 1
    replaced = rewrite(graph, lambda node: add(node.args[0], node.args[0]) if node.op is neg else node)
    assert len(replaced.nodes) == DEEP + 1
