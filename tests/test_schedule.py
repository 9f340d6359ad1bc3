"""The loop tree as text: each value a nest of its own, then merged; and what keeps nests apart."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable
from unittest import mock

import pytest

import staticad as ad
from staticad.ir import Graph, Node, node_names
from staticad.loops import dump
from staticad.schedule import schedule
from staticad.simplify import simplify
from staticad.store import choose_storage


def tree(given: list[ad.Tensor], *outputs: ad.Tensor, merge: bool = True) -> str:
    """The loop tree of a program, loop variables numbered from 0 as they appear."""
    raw = simplify(Graph(tuple(x.node for x in given), tuple(out.node for out in outputs)))
    names = node_names(dict.fromkeys([*raw.inputs, *raw.nodes]))
    with mock.patch("staticad.placing.LOOK_BACK", 64 if merge else 0):
        body = schedule(raw).body
    return renumbered(dump(body, lambda node: label(node, names)))


def label(node: Node, names: dict[Node, str]) -> str:
    return node.op.name + names[node].replace("%", "")


def renumbered(text: str) -> str:
    pattern = r"(?<!: )\bi\d+\b"  # not the dtype in a type
    number = {name: f"i{k}" for k, name in enumerate(dict.fromkeys(re.findall(pattern, text)))}
    return re.sub(pattern, lambda match: number[match[0]], text)


def check(actual: str, expected: str) -> None:
    assert actual == textwrap.dedent(expected).strip()


X, Y = ad.input("x", ("n", 4)), ad.input("y", ("n", 4))
ROW = ad.input("row", (4,))


def test_statements_keep_their_order() -> None:
    text = tree([X], ad.exp(X), ad.sin(X))
    assert text.index("exp") < text.index("sin")


def test_two_nests_that_share_an_operand_merge() -> None:
    outputs = [ad.exp(X), ad.sin(X)]
    check(
        tree([X], *outputs, merge=False),
        """
        for i0 in range(n):
            for i1 in range(4):
                exp1[i0, i1] =
        for i2 in range(n):
            for i3 in range(4):
                sin2[i2, i3] =
        """,
    )
    check(
        tree([X], *outputs),
        """
        for i0 in range(n):
            for i1 in range(4):
                exp1[i0, i1] =
                sin2[i0, i1] =
        """,
    )


def test_nests_that_share_nothing_stay_apart() -> None:
    check(
        tree([X, Y], ad.exp(X), ad.sin(Y)),
        """
        for i0 in range(n):
            for i1 in range(4):
                exp2[i0, i1] =
        for i2 in range(n):
            for i3 in range(4):
                sin3[i2, i3] =
        """,
    )


def test_a_reduction_of_rows_merges_over_rows_only() -> None:
    """What follows reads the whole row's sum, so the inner loops stay apart."""
    total = ad.sum(X, axis=1, keepdims=True)
    check(
        tree([X], X / total),
        """
        for i0 in range(n):
            for i1 in range(4):  # gives sum1
                sum1[i0] <- [i0, i1]
            for i2 in range(4):
                divide3[i0, i2] =
        """,
    )


def test_a_reduction_of_everything_is_a_barrier() -> None:
    check(
        tree([X], X - ad.sum(X)),
        """
        for i0 in range(n):  # gives sum1
            for i1 in range(4):
                sum1[] <- [i0, i1]
        for i2 in range(n):
            for i3 in range(4):
                subtract3[i2, i3] =
        """,
    )


def test_a_reduction_of_columns_runs_in_the_order_of_memory() -> None:
    check(
        tree([X], ad.sum(X, axis=0)),
        """
        for i0 in range(4):
            sum1[i0] start
        for i1 in range(n):
            for i2 in range(4):
                sum1[i2] <- [i1, i2]
        """,
    )


def test_a_shifted_read_keeps_loops_apart() -> None:
    """Element i of what was made is read at i + 1: not the same index, so not the same loop."""
    x = ad.input("x", (9,))
    y = ad.cumulative_sum(x)
    check(
        tree([x], y, y[1:] * y[:-1]),
        """
        for i0 in range(9):  # gives cumsum1
            cumsum1[i0] <- [i0]
        for i1 in range(8):
            multiply4[i1] =
        """,
    )


def test_a_running_sum_and_what_reads_it_are_one_loop() -> None:
    x = ad.input("x", ("n",))
    y = ad.cumulative_sum(x)
    check(
        tree([x], y * x),
        """
        for i0 in range(n):  # gives cumsum1
            cumsum1[i0] <- [i0]
            multiply2[i0] =
        """,
    )


def test_a_running_sum_down_columns_goes_along_rows() -> None:
    x = ad.input("x", ("n", 9))
    check(
        tree([x], ad.cumulative_sum(x, axis=0)),
        """
        for i0 in range(n):
            for i1 in range(9):
                cumsum1[i0, i1] <- [i0, i1]
        """,
    )


def test_a_table_of_powers_exists_in_blocks() -> None:
    t, w = ad.input("t", (4096,)), ad.input("w", (64,))
    y = ad.vander(t, 64, increasing=True) @ w
    check(
        tree([t, w], *ad.grad(ad.sum(y * y), [w])),
        """
        contract13[all_K] start
        for i0 in range(0, 4096, 128):
            for i1 in range(64):
                for i2 in block(i0):
                    cumprod9[i1, i2] <- [i1, i2]
            contract11[i0] = contract(...)
            for i3 in block(i0):
                add12[i3] =
            contract13[all_K] += contract(...)
        """,
    )


def test_a_product_in_blocks_joins_what_comes_before_and_after() -> None:
    w = ad.input("w", (4, 3))
    check(
        tree([X, w], ad.tanh(ad.exp(X) @ w)),
        """
        for i0 in range(0, n, 256):
            for i1 in block(i0):
                for i2 in range(4):
                    exp2[i1, i2] =
            contract3[i0, all_N] = contract(...)
            for i3 in block(i0):
                for i4 in range(3):
                    tanh4[i3, i4] =
        """,
    )


def test_a_product_that_joins_nothing_stands_alone() -> None:
    w = ad.input("w", (4, 3))
    check(tree([X, w], X @ w), "contract2[all_M, all_N] = contract(...)")


def test_a_small_product_stands_alone() -> None:
    x, w = ad.input("x", (5, 4)), ad.input("w", (4, 3))
    assert "contract3[all_M, all_N] = contract(...)" in tree([x, w], ad.tanh(ad.exp(x) @ w)).splitlines()


def test_a_product_over_the_blocks_adds_up() -> None:
    w = ad.input("w", (4, 3))
    h = ad.tanh(X @ w)
    check(
        tree([X, w], h.T @ h),
        """
        contract5[all_M, all_N] start
        for i0 in range(0, n, 256):
            contract2[i0, all_N] = contract(...)
            for i1 in block(i0):
                for i2 in range(3):
                    tanh3[i1, i2] =
            contract5[all_M, all_N] += contract(...)
        """,
    )


def test_rows_of_one_product_are_not_all_there_for_another_that_sums_over_columns() -> None:
    """What a block leaves unfinished is not read inside of it."""
    w, v = ad.input("w", (4, 3)), ad.input("v", ("n", 3))
    h = ad.tanh(X @ w)
    *blocks, product = tree([X, w, v], v @ h.T).splitlines()
    assert blocks[0] == "for i0 in range(0, n, 256):"
    assert product == "contract6[all_M, all_N] = contract(...)"


def test_a_batch_of_products_joins_loops_over_the_batch() -> None:
    x, y = ad.input("x", ("b", 16, 32)), ad.input("y", ("b", 32, 16))
    check(
        tree([x, y], ad.tanh(x @ y)),
        """
        for i0 in range(b):
            contract2[i0, all_M, all_N] = contract(...)
            for i1 in range(16):
                for i2 in range(16):
                    tanh3[i0, i1, i2] =
        """,
    )


def test_concat_writes_each_part_in_its_own_loop() -> None:
    check(
        tree([X, Y], ad.concat([X, ad.exp(Y)], axis=1)),
        """
        for i0 in range(n):
            for i1 in range(4):
                update_slice3[i0, i1] <- [i0, i1]
            for i2 in range(4):
                update_slice5[i0, i2 + 4] <- [i0, i2]
        """,
    )


def test_a_scatter_follows_the_copy_of_its_base() -> None:
    at = ad.input("at", ("k",), "int64")
    check(
        tree([ROW, at], ROW.at[at].add(1.0)),
        """
        for i0 in range(4):
            scatter_add3[i0] start
        for i1 in range(k):
            scatter_add3[<input: i64[k]>[i1]] <- [i1]
        """,
    )


def test_what_does_not_fit_in_one_loop_goes_to_the_next() -> None:
    y = ad.exp(X)
    with mock.patch("staticad.placing.LOOP_WEIGHT", 3):
        text = tree([X], y, ad.sin(X), ad.cos(X), ad.tan(X))
    assert text.count("range(n)") > 1


# store or recompute ---------------------------------------------------------------------------------------------------

# fmt: off
STORED: dict[str, tuple[Callable[[], list[ad.Tensor]], set[str]]] = {
    "cheap and read twice":        (lambda: [ad.sum(X + Y), ad.sum((X + Y) * X)],              {"sum"}),
    "dear and read twice":         (lambda: [ad.sum(ad.exp(X)), ad.sum(ad.exp(X) * X)],        {"sum", "exp"}),
    "dear and read once":          (lambda: [ad.sum(ad.exp(X) * X)],                           {"sum"}),
    "dear and repeated by a view": (lambda: [ad.exp(ROW) * X],                                 {"multiply", "exp"}),
    "cheap and repeated":          (lambda: [(ROW + 1) * X],                                   {"multiply"}),
    "read by a product":           (lambda: [(X.T + 1) @ X],                                   {"add", "contract"}),
    "read by a product of a few":  (lambda: [(X + 1) @ ROW],                                   {"add"}),
    "a view read by a product":    (lambda: [X[:, ::2].T @ X],                                 {"contract"}),
    "a pad read by a product":     (lambda: [ad.pad(X, ((0, 0), (1, 0))) @ ad.input("w", (5,))], {"pad", "contract"}),
}
# fmt: on


@pytest.mark.parametrize("name", STORED)
def test_what_is_stored(name: str) -> None:
    build, expected = STORED[name]
    graph = simplify(Graph((), tuple(out.node for out in build())))
    assert {node.op.name for node in choose_storage(graph).stored} == expected


def test_an_expression_of_any_size_is_cut() -> None:
    """Bounded work for the walk over one expression; in a loop of its own the pieces are scalars."""
    y = X
    for _ in range(100):
        y = y + X
    graph = simplify(Graph((), (y.node,)))
    assert 2 <= len(choose_storage(graph).stored) <= 4


def test_the_schedule_is_the_same_every_time() -> None:
    def text() -> str:
        x = ad.input("x", ("n", 8))
        y = ad.nn.layer_norm(ad.nn.softmax(x))
        return tree([x], y, ad.grad(ad.sum(y * y), x))

    assert len({text() for _ in range(3)}) == 1


def test_every_stored_node_is_computed_once() -> None:
    y = ad.nn.softmax(X)
    text = tree([X], y, ad.grad(ad.sum(y * Y), X))
    targets = re.findall(r"(\w+)\[[^]]*\] (?:=|<-)", text)
    assert len(targets) == len(set(targets))
