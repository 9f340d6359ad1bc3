"""From a part of a program to a kernel function whose text says nothing of the program around it.

Equal work has equal text, wherever it stands: arrays are called by their role, sizes by their order, failures by
numbers of its own. So a kernel function is compiled once for all layers of a network, and for all programs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from staticad.body import Body, written
from staticad.elements import Asked
from staticad.expressions import CODE
from staticad.ir import Node
from staticad.loops import Item, statements
from staticad.lowering import Source, View
from staticad.scopes import Failure, Module
from staticad.shapes import Dim, Symbol, add, mul


@dataclass(frozen=True)
class Kernel:
    """A kernel function and one call of it.

    ``lines`` are its body, ``signature`` its types; ``arrays`` and ``sizes`` what it is called with (a `Dim`: what lies
    there in the workspace); ``failures`` what the codes from 1 on that it returns mean there.
    """

    name: str
    signature: str
    arguments: tuple[str, ...]
    lines: tuple[str, ...]
    arrays: tuple[Node | Dim, ...]
    sizes: tuple[Symbol, ...]
    failures: tuple[Failure, ...]


def kernel(module: Module, items: list[Item], copied: Sequence[Node] = ()) -> Kernel:
    """The kernel function for some top-level items, or for the copy of an update.

    ``module`` knows which buffers and sources are one array."""
    return described(*written(lambda asked: KernelBody(module, items, copied, asked)), "kernel")


def described(body: KernelBody, lines: Sequence[str], kind: str) -> Kernel:
    """The kernel function with this body."""
    given = list(body.given.values())
    views = [f"{name} = {body.view('array', node, name)}" for node, name in given if isinstance(node, Node)]
    codes = [f"{CODE[node.dtype] if isinstance(node, Node) else 'u1'}[]" for node, _ in given]
    sizes = body.sizes
    return Kernel(
        name=f"{subject(body.items, body.copied)}_{kind}",
        signature=", ".join([*codes, *["i8"] * len(sizes)]),
        arguments=(*(name for _, name in given), *sizes.values()),
        lines=(*views, *lines, "return 0"),
        arrays=tuple(node for node, _ in given),
        sizes=tuple(sizes),
        failures=tuple(body.module.failures),
    )


def subject(items: Sequence[Item], copied: Sequence[Node]) -> str:
    """What a kernel function is called: after the operation that it ends with, unlike any variable of another."""
    if copied:
        return "copy"
    *_, (_, last) = statements(items)
    return last.node.op.name


class KernelBody(Body):
    """Writes the body of a kernel function."""

    def __init__(self, module: Module, items: list[Item], copied: Sequence[Node], asked: Asked):
        super().__init__(module.alike(), items, copied, asked)
        self.program = module
        self.given: dict[object, tuple[Node | Dim, str]] = {}
        self.sizes: dict[Symbol, str] = {}
        self.module.sizes = Sizes(self)
        self.written = {
            self.key(s.buffer) for _, s in statements(items) if self.plan.buffers[s.buffer].place != "scalar"
        }
        self.written |= {self.key(module.targets[x]) for x in copied}

    def key(self, buffer: Node) -> object:
        """What stands for an array: a result that is written over a source is one with it."""
        b = self.plan.buffers.get(buffer)
        return buffer if b is not None and b.place in ("work", "local", "tape") else self.program.arrays[buffer]

    def array(self, buffer: Node) -> str:
        b = self.plan.buffers.get(buffer)
        if b is not None and b.place == "local" and b.first == b.last:
            return self.local(buffer)
        if b is not None and b.base is not None:
            return self.part(buffer, b.base, b.offset)
        key = self.key(buffer)
        if key not in self.given:
            self.given[key] = buffer, self.names.claim("out" if key in self.written else "x")
        return self.given[key][1]

    def part(self, buffer: Node, base: Dim, offset: Dim) -> str:
        """The name of one of the buffers that take turns in the same memory."""
        if base not in self.given:
            self.given[base] = base, self.names.claim("work")
        if buffer not in self.slots:
            self.slots[buffer] = self.names.claim(self.hint(buffer))
            place = f"{self.given[base][1]}, {self.module.size(add(offset, mul(-1, base)))}"
            self.outermost.lines.append(f"{self.slots[buffer]} = {self.view('slot', buffer, place)}")
        return self.slots[buffer]

    def hint(self, node: Node) -> str:
        while isinstance(node.op.lower, View) and node.op.lower.alias:
            node = node.args[0]
        return "x" if isinstance(node.op.lower, Source) else node.op.name


class Sizes(dict[Symbol, str]):
    """The names of symbolic dimensions, given in the order in which they are asked for."""

    def __init__(self, body: KernelBody):
        super().__init__()
        self.body = body

    def __missing__(self, s: Symbol) -> str:
        name = self[s] = self.body.sizes[s] = self.body.names.claim("n")
        return name
