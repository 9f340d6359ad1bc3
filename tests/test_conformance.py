"""Every op of the table, by the examples in its entry: type, value, both derivatives, second order.

A new op needs no new line here.
The mathematics of the derivatives is held on graphs evaluated by NumPy; compiled code, with JIT and without, is held to
give the values and first derivatives that evaluation gives.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import close, compiled, evaluated, random_like

from staticad.autodiff import jvp_nodes, vjp_nodes
from staticad.batching import batch, over_lanes
from staticad.derivatives import jacobian
from staticad.ir import ArrayType, Example, Graph, Node, Op, verify
from staticad.lowering import Reduce
from staticad.ops import rules
from staticad.ops.sources import input_
from staticad.ops.table import TABLE
from staticad.tensor import Tensor

SOURCES = {"input", "data", "uninitialised"}  # their values come from elsewhere
STEP = 1e-4  # of the central differences, which are of fourth order: their error is about 1e-12 of the derivative
PLAIN_PYTHON = os.environ.get("NUMBA_DISABLE_JIT") == "1"
TABLE_CASES = [pytest.param(op, id=name) for name, op in TABLE.items() if name not in SOURCES]


@dataclass(frozen=True)
class Case:
    """One example, built: the inputs, the op applied to them, and the inputs that derivatives are taken by."""

    inputs: tuple[Node, ...]
    out: Node
    arrays: tuple[Any, ...]
    wrt: tuple[int, ...]
    smooth: bool


def source(name: str, array: Any) -> Node:
    """An input of the type of ``array``; floating ones require grad."""
    array = np.asarray(array)
    node = input_(name=name, source=object(), type=ArrayType(array.dtype, array.shape))
    node.requires_grad = array.dtype.kind == "f"
    return node


def build(op: Op, example: Example, prefix: str = "") -> Case:
    arrays = tuple(np.asarray(x) for x in example.arrays)
    inputs = tuple(source(f"{prefix}x{k}", x) for k, x in enumerate(arrays))
    wrt = tuple(k for k, x in enumerate(arrays) if x.dtype.kind == "f")
    return Case(inputs, op(*inputs, **example.params), arrays, wrt, example.smooth)


def in_double(example: Example) -> Example:
    """The example in float64 throughout, so that differences can be taken."""

    def double(x: Any) -> Any:
        return np.float64(x) if np.asarray(x).dtype.kind == "f" else x

    def wide(v: Any) -> Any:
        return np.dtype("float64") if isinstance(v, np.dtype) and v.kind == "f" else v

    params = {k: wide(v) for k, v in example.params.items()}
    return Example(tuple(map(double, example.arrays)), params, example.smooth)


@cache
def examples(op: Op) -> tuple[Example, ...]:
    with np.errstate(all="ignore"):
        return tuple(op.examples())


@cache
def differentiable(op: Op) -> tuple[Case, ...]:
    """The cases in float64 that have a derivative to look at."""
    if not op.differentiable:
        return ()
    cases = [build(op, in_double(e), f"e{k}_") for k, e in enumerate(examples(op))]
    return tuple(c for c in cases if c.wrt and c.out.dtype.kind == "f")


def tangents(case: Case, seed: int = 1) -> list[Any]:
    return [random_like(case.arrays[k], seed + k) for k in case.wrt]


def moved(case: Case, step: float, directions: list[Any]) -> list[Any]:
    arrays = list(case.arrays)
    for k, t in zip(case.wrt, directions, strict=True):
        arrays[k] = arrays[k] + step * t
    return arrays


def central_difference(f: Callable[[float], list[Any]]) -> list[Any]:
    """The derivative at 0 of ``f``, of fourth order in `STEP`."""
    points = [f(s * STEP) for s in (-2, -1, 1, 2)]
    return [(a - 8 * b + 8 * c - d) / (12 * STEP) for a, b, c, d in zip(*points, strict=True)]


def differences_agree(actual: list[Any], expected: list[Any], op: Op) -> None:
    for a, e in zip(actual, expected, strict=True):
        scale = float(np.max(np.abs(e), initial=0.0))
        np.testing.assert_allclose(a, e, rtol=2e-6, atol=1e-8 * max(scale, 1.0), err_msg=op.name)


def inner(xs: list[Any], ys: list[Any]) -> float:
    with np.errstate(all="ignore"):
        return float(sum(np.sum(x * y) for x, y in zip(xs, ys, strict=True)))


@pytest.mark.parametrize("op", TABLE_CASES)
def test_has_examples(op: Op) -> None:
    assert examples(op), f"{op.name}: its entry gives no examples, so nothing tests it"
    if op.differentiable and any(e.arrays for e in examples(op)):
        assert any(c.smooth for c in differentiable(op)), f"{op.name}: no smooth example tests its derivative"


@pytest.mark.parametrize("op", TABLE_CASES)
def test_type_is_numpys(op: Op) -> None:
    for example in examples(op):
        case = build(op, example)
        (value,) = evaluated(Graph(case.inputs, (case.out,)), case.arrays)
        assert (value.dtype, value.shape) == (case.out.dtype, case.out.shape), f"{op.name}: {example}"


def spread(cases: list[Case], count: int) -> list[Case]:
    """``count`` of the cases, from all over them. Without JIT a case costs nothing and all are taken."""
    return cases if PLAIN_PYTHON or len(cases) <= count else cases[:: -(-len(cases) // count)]


def values(op: Op) -> list[Case]:
    return [build(op, e, f"e{k}_") for k, e in enumerate(examples(op))]


def floating(op: Op) -> list[Case]:
    return [c for c in values(op) if op.differentiable and c.wrt and c.out.dtype.kind == "f"]


@pytest.mark.parametrize("op", TABLE_CASES)
def test_compiled_value_is_numpys(op: Op) -> None:
    compare(op, spread(values(op), 6), lambda c: [c.out], eps=0.0 if "exact" in op.laws else 64.0)


@pytest.mark.parametrize("op", [op for op in TABLE.values() if op.laws], ids=lambda op: op.name)
def test_laws_hold(op: Op) -> None:
    """What an entry says holds for all numbers does for its examples, by the NumPy meaning, to the sign of zero."""
    for example in examples(op):
        first, arrays = np.asarray(example.arrays[0]), example.arrays
        out = evaluated_once(op, arrays, example)
        if "commutative" in op.laws:
            same_bits(evaluated_once(op, arrays[::-1], example), out)
        if "idempotent" in op.laws:
            same_bits(evaluated_once(op, [out], example), out)
        if "involution" in op.laws:
            same_bits(evaluated_once(op, [out], example), first)
        if "signless" in op.laws and out.dtype.kind == "f":
            assert not np.signbit(out[~np.isnan(out)]).any()
        if "selective" in op.laws and isinstance(op.lower, Reduce):
            for x in first.ravel():
                alike = evaluated_once(op, [np.full(first.shape, x)], example)
                same_bits(alike, np.full(alike.shape, x))
        elif "selective" in op.laws:
            same_bits(evaluated_once(op, [first] * len(arrays), example), first)


def evaluated_once(op: Op, arrays: Sequence[Any], example: Example) -> Any:
    with np.errstate(all="ignore"):
        return np.asarray(op.numpy(*arrays, **example.params))


def same_bits(actual: Any, expected: Any) -> None:
    np.testing.assert_array_equal(actual, expected)
    if expected.dtype.kind == "f":
        there = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(actual[there]), np.signbit(expected[there]))


@pytest.mark.parametrize("op", TABLE_CASES)
def test_compiled_derivatives_are_evaluated_ones(op: Op) -> None:
    compare(op, spread(floating(op), 4), pulled, eps=512.0)


@pytest.mark.slow
@pytest.mark.parametrize("op", TABLE_CASES)
def test_compiled_value_of_every_example(op: Op) -> None:
    compare(op, values(op), lambda c: [c.out], eps=0.0 if "exact" in op.laws else 64.0)


@pytest.mark.slow
@pytest.mark.parametrize("op", TABLE_CASES)
def test_compiled_derivatives_of_every_example(op: Op) -> None:
    compare(op, floating(op), pulled, eps=512.0)


def pulled(case: Case) -> list[Node]:
    """The cotangents of a case's operands, for a fixed cotangent of its result made of the result itself."""
    return vjp_nodes([case.out], [case.inputs[k] for k in case.wrt], [case.out * 0.5 + 1.0])


def compare(op: Op, cases: list[Case], outputs: Callable[[Case], list[Node]], eps: float = 64.0) -> None:
    """Assert that compiling gives what evaluation gives; a few cases share a compilation."""
    for chunk in (cases[k : k + 8] for k in range(0, len(cases), 8)):
        found = [outputs(c) for c in chunk]
        graph = Graph(tuple(x for c in chunk for x in c.inputs), tuple(out for outs in found for out in outs))
        verify(graph)
        arrays = [x for c in chunk for x in c.arrays]
        owners = [c for c, outs in zip(chunk, found, strict=True) for _ in outs]
        for case, actual, expected in zip(owners, compiled(graph, arrays), evaluated(graph, arrays), strict=True):
            close(actual, expected, eps=eps, where=f"{op.name} {case.out.params} {case.arrays}")


@pytest.mark.parametrize("op", TABLE_CASES)
def test_jvp_is_the_central_difference(op: Op) -> None:
    for case in differentiable(op):
        if case.smooth:
            wrt = [case.inputs[k] for k in case.wrt]
            ts = tangents(case)
            t_nodes = [source(f"t{k}", t) for k, t in enumerate(ts)]
            (out_t,) = jvp_nodes([case.out], wrt, t_nodes)
            actual = evaluated(Graph((*case.inputs, *t_nodes), (out_t,)), [*case.arrays, *ts])
            value = Graph(case.inputs, (case.out,))
            expected = central_difference(lambda s, c=case, v=value, d=ts: evaluated(v, moved(c, s, d)))
            differences_agree(actual, expected, op)


@pytest.mark.parametrize("op", TABLE_CASES)
def test_vjp_is_the_transpose_of_jvp(op: Op) -> None:
    for case in differentiable(op):
        wrt = [case.inputs[k] for k in case.wrt]
        ts = tangents(case)
        t_nodes = [source(f"t{k}", t) for k, t in enumerate(ts)]
        (value,) = evaluated(Graph(case.inputs, (case.out,)), case.arrays)
        g = random_like(value, 7)
        g_node = source("g", g)
        outs = (*jvp_nodes([case.out], wrt, t_nodes), *vjp_nodes([case.out], wrt, [g_node]))
        graph = Graph((*case.inputs, *t_nodes, g_node), outs)
        verify(graph)
        out_t, *cotangents = evaluated(graph, [*case.arrays, *ts, g])
        forward, backward = inner([g], [out_t]), inner(cotangents, ts)
        if np.isfinite(forward) or case.smooth:
            size = float(sum(np.sum(np.abs(c * t)) for c, t in zip(cotangents, ts, strict=True)))
            assert abs(forward - backward) <= 1e-11 * max(size, 1.0), f"{op.name} {case.out.params} {case.arrays}"


@pytest.mark.parametrize("op", TABLE_CASES)
def test_second_order(op: Op) -> None:
    """<u, gradient of <g, f>> pulled back again equals the central difference of the gradient."""
    for case in differentiable(op):
        if not case.smooth:
            continue
        wrt = [case.inputs[k] for k in case.wrt]
        g = random_like(np.empty(case.out.shape), 7)
        g_node = source("g", g)
        g_node.requires_grad = False
        first = vjp_nodes([case.out], wrt, [g_node])
        us = [random_like(case.arrays[k], 20 + k) for k in case.wrt]
        u_nodes = [source(f"u{k}", u) for k, u in enumerate(us)]
        second = vjp_nodes(first, wrt, u_nodes)
        actual = evaluated(Graph((*case.inputs, g_node, *u_nodes), tuple(second)), [*case.arrays, g, *us])
        ts = tangents(case, 30)
        gradient = Graph((*case.inputs, g_node), tuple(first))
        moving = central_difference(lambda s, c=case, gr=gradient, d=ts, v=g: evaluated(gr, [*moved(c, s, d), v]))
        differences_agree([np.float64(inner(actual, ts))], [np.float64(inner(moving, us))], op)


def in_lanes_of(array: Any, lanes: tuple[int, ...]) -> Any:
    """A different array for every lane, made of the same elements, so that each has what the example is about."""
    found = np.empty((*lanes, *array.shape), array.dtype)
    for k, lane in enumerate(np.ndindex(lanes)):
        scaled = array * (1 + k / 8) if array.size == 1 and array.dtype.kind == "f" else array
        found[lane] = np.roll(scaled.ravel(), k).reshape(array.shape)
    return found


def choices(count: int) -> list[tuple[int, ...]]:
    """Which of the operands have lanes: every choice of up to three, else each alone and all."""
    if count <= 3:
        return [pick for size in range(1, count + 1) for pick in combinations(range(count), size)]
    return [*((k,) for k in range(count)), tuple(range(count))]


@pytest.mark.parametrize("lanes", [(2,), (2, 3), (0,)], ids=str)
@pytest.mark.parametrize("by", [batch, over_lanes])
@pytest.mark.parametrize("op", TABLE_CASES)
def test_a_batch_is_each_result_alone(op: Op, by: Callable[..., Any], lanes: tuple[int, ...]) -> None:
    cases = [case for case in values(op) if case.arrays]
    for case in cases if by is batch else cases[:3]:
        for pick in choices(len(case.arrays)):
            many = {k: in_lanes_of(case.arrays[k], lanes) for k in pick}
            given = {case.inputs[k]: source(f"many{k}", x) for k, x in many.items()}
            ((out, has),) = by([case.out], given, lanes)
            out = out if has else rules.spread(out, lanes)  # an op may see that all are the same
            inputs = tuple(given.get(x, x) for x in case.inputs)
            arrays = [many.get(k, x) for k, x in enumerate(case.arrays)]
            graph = Graph(inputs, (out,))
            verify(graph)
            (actual,) = evaluated(graph, arrays)
            alone = Graph(case.inputs, (case.out,))
            expected = np.empty((*lanes, *case.out.shape), case.out.dtype)
            for lane in np.ndindex(lanes):
                (expected[lane],) = evaluated(
                    alone, [many[k][lane] if k in many else x for k, x in enumerate(case.arrays)]
                )
            close(actual, expected, where=f"{op.name} {case.out.params} {case.arrays} {pick}")


@pytest.mark.parametrize("op", TABLE_CASES)
def test_jacobian_has_the_derivative_of_every_element(op: Op) -> None:
    """By rows and by columns, it is a vector-Jacobian product for each unit vector."""
    for case in differentiable(op):
        if not case.smooth or case.out.type.size > 100:
            continue
        wrt = [case.inputs[k] for k in case.wrt]
        g, arrays = source("g", np.empty(case.out.shape)), list(case.arrays)
        pullback = Graph((*case.inputs, g), tuple(vjp_nodes([case.out], wrt, [g])))
        units = np.eye(case.out.type.size).reshape(case.out.type.size, *case.out.shape)
        rows = [evaluated(pullback, [*arrays, unit]) for unit in units]
        for k, x in enumerate(wrt):
            expected = np.array([row[k] for row in rows]).reshape((*case.out.shape, *x.shape))
            for mode in ("reverse", "forward"):
                node = jacobian(Tensor(case.out), Tensor(x), mode).node
                graph = Graph(case.inputs, (node,))
                verify(graph)
                close(evaluated(graph, arrays)[0], expected, where=f"{op.name} {mode} {case.out.params} {case.arrays}")


@pytest.mark.skipif(PLAIN_PYTHON, reason="this is that run")
def test_generated_code_runs_as_plain_python() -> None:
    """The compiled part of this file again, in a process where generated source runs without Numba's JIT."""
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:xdist", __file__, "-k", "compiled"],
        capture_output=True,
        text=True,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        cwd=Path(__file__).parent.parent,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-4000:]
    assert " passed" in run.stdout
