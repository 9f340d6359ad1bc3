"""The pipeline from nodes to native code, read top to bottom: simplify, schedule, plan, emit, load."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any

from staticad.bodies import inline
from staticad.carries import settle
from staticad.emit import Argument, Program, Text, emit
from staticad.ir import Graph, Node, verify
from staticad.loops import Loop, count_loops, dump
from staticad.needs import checks
from staticad.ops import sources
from staticad.parallel import Mode, Parallel, parallel_loops
from staticad.plan import Plan, plan
from staticad.progress import progress
from staticad.schedule import schedule
from staticad.scopes import Failure
from staticad.simplify import simplify

if TYPE_CHECKING:
    from staticad.runtime.load import Native


@dataclass(frozen=True, eq=False)
class Compiled:
    """Native code and what it was made of.

    ``native.call(work?, *inputs, *hidden, *outputs)`` returns a status code: 0, or 1 + the position in ``failures``.
    """

    graph: Graph
    plan: Plan
    parallel: Mapping[Loop, Parallel]
    threads: bool
    text: Text
    native: Native
    hidden: list[sources.Storage]
    written: list[sources.Storage]
    failures: list[Failure]
    seconds: dict[str, float]


def compile_nodes(
    inputs: Sequence[Node],
    outputs: Sequence[Node],
    updates: Mapping[Node, Node],
    name: str,
    hints: Sequence[str | None] = (),
    parallel: Mode = "auto",
) -> Compiled:
    """Native code that computes ``outputs`` from ``inputs`` and replaces each storage in ``updates`` by its new value.

    ``inputs`` are input nodes; ``updates`` maps data nodes to nodes of the same type.
    """
    clock = Clock()
    raw = Graph(tuple(inputs), (*outputs, *updates.values()))
    graph = simplify(raw)
    if debug_level():
        verify(graph)
    graph = inline(graph)
    clock.lap("simplify")
    targets = list(updates)
    results = distinct(graph.outputs)
    graph = Graph(graph.inputs, tuple(results))
    debug("graph", 1, graph)
    hidden = list(dict.fromkeys([*targets, *(x for x in graph.nodes if sources.is_data(x))]))
    body = schedule(graph)
    settle(body)
    debug("kernels", 2, dump(body.body, lambda node: node.name or node.op.name))
    clock.lap("schedule")
    # An output that an update made in place lies in the buffer of what it updated.
    buffers = [body.storage.root[x] for x in results]
    own, replaced = buffers[: len(outputs)], dict(zip(buffers[len(outputs) :], targets, strict=True))
    layout = plan(body, dict.fromkeys(own), replaced)
    spread = parallel_loops(layout, parallel)
    clock.lap("plan")
    signature = ", ".join(x.params["name"] for x in inputs)
    visible = [Argument(x, x.params["name"]) for x in inputs]
    program = Program(
        plan=layout,
        title=f"{name}({signature})",
        sources=visible + [Argument(x, x.params["storage"].name or x.name) for x in hidden],
        outputs=[Argument(x, hint) for x, hint in zip(own, [*hints, *[None] * len(own)], strict=False)],
        updates=replaced,
        checks=checks(raw.outputs),
        parallel=spread,
        threads=parallel is not False,
    )
    text = emit(program)
    clock.lap("emit")
    debug("source", 3, text.source)
    from staticad.runtime.load import load  # imported when there is something to load

    clock.lap("import")
    with progress(f"staticad: compiling {name}, {count_loops(body.body)} loops"):
        native = load(text.source, name)
    clock.lap("native")
    return Compiled(
        graph,
        layout,
        spread,
        parallel is not False,
        text,
        native,
        storages(hidden),
        storages(targets),
        text.failures,
        clock.seconds,
    )


def storages(nodes: Sequence[Node]) -> list[sources.Storage]:
    return [node.params["storage"] for node in nodes]


def distinct(outputs: Sequence[Node]) -> list[Node]:
    """The outputs as distinct nodes that are no sources, so that each has a buffer of its own to be written to."""
    seen: set[Node] = set()
    found: list[Node] = []
    for node in outputs:
        if node in seen or sources.is_data(node) or sources.is_input(node):
            node = sources.stop_gradient(node)
        seen.add(node)
        found.append(node)
    return found


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.last = perf_counter()

    def lap(self, stage: str) -> None:
        now = perf_counter()
        self.seconds[stage] = now - self.last
        self.last = now


def debug_level() -> int:
    level = os.environ.get("STATICAD_DEBUG", "")
    return int(level) if level.isdigit() else 0


def debug(what: str, level: int, value: Any) -> None:
    if debug_level() >= level:
        print(f"# staticad {what}\n{value}", file=sys.stderr)
