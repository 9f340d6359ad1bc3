"""The text of a loop that runs on several threads: a kernel function for some of its steps, and the call for all.

Knows what `parallel` found out about the loop, not Numba.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from staticad.arrays import Arrays, with_tape
from staticad.body import written
from staticad.calling import Calling, Given, Kernel, Library
from staticad.elements import Asked
from staticad.expressions import CODE, comment, fill, is_literal, narrow, typed
from staticad.ir import Node
from staticad.kernels import KernelBody, described
from staticad.loops import Item, Loop
from staticad.lowering import Update
from staticad.parallel import Parallel, count, merging, spare_units
from staticad.runs import Run
from staticad.scopes import Module, Scope
from staticad.shapes import Dim, add
from staticad.workspace import aligned

Piece = TypeVar("Piece", Node, "Given")


@dataclass(frozen=True)
class Outlined:
    """A kernel function for a part of a loop.

    After the first step, the one after the last and ``kernel.arrays`` it takes a place for each of ``sums``, which are
    `reduces` of the loop and local variables that all steps accumulate into, and ``scalars``, buffers that are local
    variables of the caller; then ``kernel.sizes``.
    """

    kernel: Kernel
    sums: tuple[Node, ...]
    scalars: tuple[Node, ...]


class Missing(dict[Node, str]):
    """Local variables of the caller: those that are asked for become arguments."""

    def __init__(self, claim: Callable[[Node], str]):
        self.claim = claim
        self.asked: list[Node] = []

    def __missing__(self, node: Node) -> str:
        self.asked.append(node)
        self[node] = self.claim(node)
        return self[node]


class PartBody(KernelBody):
    """Writes the body of the function for a part of a loop."""

    def __init__(self, module: Module, parallel: Parallel, library: Library, asked: Asked):
        super().__init__(module, [parallel.loop], (), library, asked)
        self.whole_loop = parallel.loop
        self.summed = parallel.scalars
        self.parts: dict[Node, str] = {}
        self.run: tuple[str, str] | None = None
        self.scalars = self.outer = Missing(lambda node: self.names.claim(self.hint(node)))

    def loop(self, loop: Loop, scope: Scope) -> None:
        for buffer, node in self.summed.items() if loop is self.whole_loop else ():
            self.scalars[buffer] = self.assign(self.hint(buffer), typed(way(node)[0], node.dtype), scope)
        super().loop(loop, scope)

    def ends(self, loop: Loop) -> tuple[str, str]:
        """Of the loop that is cut, the names of the first step of a run and of the one after its last."""
        if loop is not self.whole_loop:
            return super().ends(loop)
        if not self.run:
            self.run = start, _ = self.names.claim("start"), self.names.claim("stop")
            self.root.lines.append(f"{start} = m.natural({start})")
        return self.run

    def blocks_head(self, loop: Loop, blocks: Dim, full: bool) -> list[str]:
        if loop is not self.whole_loop:
            return super().blocks_head(loop, blocks, full)
        start, stop = self.ends(loop)
        step, end = self.names.claim("step"), self.module.size(blocks)
        steps = f"{start}, min({stop}, {end})" if full else f"max({start}, {end}), {stop}"
        return [f"for {step} in range({steps}):", f"    {self.variables[loop.var]} = {step} * {loop.block}"]

    def tape(self, buffer: Node) -> str:
        return Arrays.tape(self, buffer)  # every run has its own

    def head(self, loop: Loop, run: Run | None) -> list[str]:
        if loop is not self.whole_loop:
            return super().head(loop, run)
        start, stop = self.ends(loop)
        if run is not None and run.lows:
            start = f"max({start}, {self.module.size(run.first)})"
        if run is not None and run.cut is not None:
            stop = f"min({stop}, {self.module.size(run.cut)})"
        var = self.variables[loop.var]
        if not loop.block:
            return [f"for {var} in range({self.ranges.get(loop, f'{start}, {stop}')}):"]
        step = self.names.claim("step")
        return [f"for {step} in range({start}, {stop}):", f"    {var} = {step} * {loop.block}"]

    def finish(self, loop: Loop, scope: Scope) -> None:
        if loop is not self.whole_loop:
            super().finish(loop, scope)
            return
        results = {node: self.accumulators[node] for node in loop.reduces}
        for node, result in (results | {x: self.scalars[x] for x in self.summed}).items():
            name = self.parts[node] = self.names.claim(f"{self.hint(node)}_part")
            scope.lines += [f"{name} = m.array_{CODE[node.dtype]}({name}, (1,))", f"{name}[0] = {result}"]


def outline(module: Module, library: Library, parallel: Parallel) -> Outlined:
    """The function for a part of a parallel loop."""
    body, lines = written(lambda asked: PartBody(module, parallel, library, asked))
    made = described(body, lines, "loop")
    made = replace(made, lines=tuple(with_tape(made.lines, len(body.tapes))))
    sums, scalars, arrays = tuple(body.parts), tuple(body.outer.asked), len(made.arrays)
    more = [*body.parts.values(), *(body.outer[x] for x in scalars)]
    pointers = made.signature.split(", ")[:arrays]
    types = [*pointers, *(f"{CODE[x.dtype]}[]" for x in sums), *(CODE[x.dtype] for x in scalars)]
    names = (*body.ends(parallel.loop), *made.arguments[:arrays], *more, *made.arguments[arrays:])
    signature = ", ".join([*types, *["i8"] * len(made.sizes)])
    return Outlined(replace(made, arguments=names, signature=signature), sums, scalars)


class Parallels(Library, Protocol):
    """The functions of a module, as the main one sees it."""

    def outlined(self, parallel: Parallel) -> tuple[str, Outlined, str]:
        """The name of the function for a part of a loop, what it is, and what to return where ``status`` is not 0."""
        ...


class MainBody(Calling):
    """Writes the body of the main function, in which loops of ``parallel`` are calls, too."""

    def __init__(
        self,
        module: Module,
        items: list[Item],
        copied: Sequence[Node],
        parallel: Mapping[Loop, Parallel],
        library: Parallels,
        asked: Asked,
    ):
        super().__init__(module, items, copied, library, asked)
        self.parallel = parallel
        self.parallels = library
        self.places: dict[Node, str] = {}

    def items_into(self, items: Sequence[Item], scope: Scope) -> None:
        for item in items:
            parallel = self.parallel.get(item) if isinstance(item, Loop) else None
            if parallel is None:
                super().items_into([item], scope)
            else:
                self.spread(parallel, scope)

    def copy(self, node: Node, scope: Scope) -> None:
        if self.plan.parts:
            self.call(*self.library.copy(node), scope)
        else:
            super().copy(node, scope)

    def given(self, x: Given, scope: Scope) -> str:
        """Of an array in the workspace, only where it lies is told."""
        b = self.plan.buffers.get(x) if isinstance(x, Node) else None
        if b is None or b.place != "work":
            return super().given(x, scope)
        if b.node not in self.places:
            name = self.places[b.node] = self.names.claim(b.node.name or b.node.op.name)
            text = f"{name} = m.at(work, {self.module.size(b.offset)})"
            scope.lines.append(f"{text}  # {comment(b.node.type)} = {b.node.op.name}")
        return self.places[b.node]

    def keep(self, node: Node, buffer: Node, index: tuple[Dim, ...], text: str, scope: Scope) -> None:
        if buffer in self.asked.handed and not (text.isidentifier() or is_literal(text)):
            text = self.assign(self.hint(node), text, scope)
        super().keep(node, buffer, index, text, scope)

    def spread(self, parallel: Parallel, scope: Scope) -> None:
        """The call of a loop, with memory for what each of its runs has alone, and what is made of that afterwards."""
        lines, size, loop = scope.lines, self.module.size, parallel.loop
        name, outlined, failure = self.parallels.outlined(parallel)
        kernel = outlined.kernel
        self.asked.handed.update(outlined.scalars)
        n, chunks = size(count(loop)), self.names.claim("chunks")
        more = size(spare_units(self.plan, parallel))
        number = f"m.threads({n})" if parallel.always else f"m.chunks({n}, {size(parallel.work)}, {more})"
        lines.append(f"{chunks} = {number}")
        arrays = [self.array(x) if isinstance(x, Node) else self.given(x, scope) for x in kernel.arrays]
        partial = {x: self.array(x) for x in parallel.partial}
        room = {x: aligned(self.plan.buffers[x].bytes) for x in partial}
        private: dict[Given, Dim] = {**room, **parallel.private}
        spare, offsets = self.memory("spare", f"m.spare({chunks} - 1, ", private, lines)
        sums, places = self.memory("sums", f"m.places({chunks}, ", dict.fromkeys(outlined.sums, 8), lines)
        for x, node in parallel.partial.items():
            start = typed(way(node)[0], node.dtype)
            lines.append(f"m.begin({spare}, {size(offsets[x])}, {partial[x]}, {start})")
        given = [
            f"({array}, {spare}, {size(offsets[x])})" if x in offsets else array
            for x, array in zip(kernel.arrays, arrays, strict=True)
        ]
        given += [*(f"({sums}, {size(at)})" for at in places.values()), *(self.scalars[x] for x in outlined.scalars)]
        call = f"{name}({', '.join([chunks, n, *given, *map(self.name_of, kernel.sizes)])})"
        lines.append(f"status = {call}" if failure else call)
        for x, at in places.items():
            node = parallel.scalars.get(x, x)
            start, how = way(node)
            text = f"m.total_{how}({sums}, {size(at)}, {typed(start, x.dtype)})"
            if x in parallel.scalars:
                lower, total = node.op.lower, self.scalars[x]
                assert isinstance(lower, Update)
                text = narrow(fill(lower.step, {"acc": total, "x": text}), lower.step, x.dtype)
                lines.append(f"{total} = {text}")
            else:
                self.accumulators[x] = self.assign(self.hint(x), text, scope)
                self.targets[x] = parallel.targets[x]
        for x, node in parallel.partial.items():
            lines.append(f"m.fold_{way(node)[1]}({spare}, {size(offsets[x])}, {partial[x]})")
        if offsets:
            lines.append(f"m.release({spare})")
        if failure:
            lines += ["if status:", f"    return {failure}"]
        self.finish(loop, scope)

    def memory(self, hint: str, made: str, room: Mapping[Piece, Dim], lines: list[str]) -> tuple[str, dict[Piece, Dim]]:
        """Memory for each of some runs: its name, and where in it the bytes are that belong to something."""
        offsets: dict[Piece, Dim] = {}
        end: Dim = 0
        for node, size in room.items():
            offsets[node] = end
            end = add(end, size)
        name = self.names.claim(hint) if offsets else ""
        if offsets:
            lines.append(f"{name} = {made}{self.module.size(end)})")
        return name, offsets


def way(node: Node) -> tuple[str, str]:
    """See `parallel.merging`; of what a loop that may be cut accumulates."""
    found = merging(node)
    assert found is not None
    return found
