"""From a part of a program to a kernel function whose text says nothing of the program around it.

Equal work has equal text, wherever it stands: arrays are called by their role, sizes by their order, failures by
numbers of its own. So a kernel function is compiled once for all layers of a network, and for all programs.
"""

from __future__ import annotations

from collections.abc import Sequence

from staticad.body import written
from staticad.calling import Calling, Count, Given, Kernel, Library, Slot
from staticad.elements import Asked
from staticad.expressions import CODE
from staticad.ir import Node
from staticad.loops import Item, Loop, statements
from staticad.lowering import Source, View
from staticad.scopes import Module, Scope
from staticad.shapes import Dim, Symbol, add, counts, mul, symbols


def kernel(
    module: Module, library: Library, items: list[Item], copied: Sequence[Node] = (), caller: Calling | None = None
) -> Kernel:
    """The kernel function for the items of a part, or for the copy of an update.

    ``module`` knows which buffers and sources are one array, ``caller`` the loops around."""

    def make(asked: Asked) -> KernelBody:
        body = KernelBody(module, items, copied, library, asked)
        if caller is not None:
            body.within(caller)
        return body

    return described(*written(make), "kernel")


def described(body: KernelBody, lines: Sequence[str], kind: str) -> Kernel:
    """The kernel function with this body."""
    given = list(body.arguments.values())
    views = [f"{name} = {text}" for x, name in given if (text := body.viewed(x, name)) != name]
    codes = [f"{code(x)}[]" for x, _ in given]
    sizes = body.sizes
    return Kernel(
        name=f"{subject(body.items, body.copied)}_{kind}",
        signature=", ".join([*codes, *["i8"] * len(sizes)]),
        arguments=(*(name for _, name in given), *sizes.values()),
        lines=(*views, *lines, "return 0"),
        arrays=tuple(x for x, _ in given),
        sizes=tuple(sizes),
        failures=tuple(body.module.failures),
    )


def code(x: Given) -> str:
    """What an array argument has elements of."""
    if isinstance(x, Node):
        return CODE[x.dtype]
    return "i8" if isinstance(x, (Slot, Count)) else "u1"


def subject(items: Sequence[Item], copied: Sequence[Node]) -> str:
    """What a kernel function is called: after the operation that it ends with, unlike any variable of another."""
    if copied:
        return "copy"
    last = "steps"  # of a loop that does nothing but count them
    for _, statement in statements(items):
        last = statement.node.op.name
    return last


class KernelBody(Calling):
    """Writes the body of a kernel function."""

    def __init__(self, module: Module, items: list[Item], copied: Sequence[Node], library: Library, asked: Asked):
        super().__init__(module.alike(), items, copied, library, asked)
        self.program = module
        self.own = self.plan.parts.get(items[0]) if items else None
        self.nested = self.own is not None and self.own.caller is not None
        self.arguments: dict[object, tuple[Given, str]] = {}
        self.sizes: dict[Symbol, str] = {}
        self.module.sizes = Sizes(self, "n")
        self.variables = Sizes(self, "step")
        self.written = {
            self.key(s.buffer) for _, s in statements(items) if self.plan.buffers[s.buffer].place != "scalar"
        }
        self.written |= {self.key(module.targets[x]) for x in copied}

    def within(self, caller: Calling) -> None:
        """What is known of the loops around the call."""
        self.extents |= caller.extents
        self.blocks |= caller.blocks
        self.present = caller.present | caller.rows.keys()

    def key(self, buffer: Node) -> object:
        """What stands for an array: a result that is written over a source is one with it."""
        b = self.plan.buffers.get(buffer)
        return buffer if b is not None and b.place in ("work", "local", "tape") else self.program.arrays[buffer]

    def argument(self, key: object, x: Given, hint: str) -> str:
        """The name of an array argument."""
        if key not in self.arguments:
            self.arguments[key] = x, self.names.claim(hint)
        return self.arguments[key][1]

    def viewed(self, x: Given, name: str) -> str:
        """An array argument as it is used, as source."""
        if isinstance(x, Node) and x in self.present:
            return f"m.array_{CODE[x.dtype]}({name}, {self.module.shape(x.shape[1:])})"
        if isinstance(x, Node):
            return self.view("array", x, name)
        return f"m.array_i8({name}, (1,))" if isinstance(x, Count) else name

    def array(self, buffer: Node) -> str:
        b = self.plan.buffers.get(buffer)
        if b is not None and b.place == "local" and b.first == b.last and b.home is self.own:
            return self.local(buffer)
        if b is not None and b.base is not None:
            return self.part(buffer, b.base, b.offset)
        if buffer in self.rows:
            return self.rows[buffer]
        if b is not None and b.place == "tape" and not self.counted.keys().isdisjoint(counts(buffer.shape)):
            return self.taped(buffer)
        key = self.key(buffer)
        name = self.argument(key, buffer, "out" if key in self.written else "x")
        if buffer in self.present:
            self.rows[buffer] = name
        return name

    def given(self, x: Given, scope: Scope) -> str:
        if isinstance(x, (Node, Slot, Count)):
            return super().given(x, scope)
        return self.argument(x, x, "work")

    def tape(self, buffer: Node) -> str:
        return f"{self.argument(Slot(buffer), Slot(buffer), 'tape')}, 0"

    def repeat_while(self, loop: Loop, scope: Scope) -> None:
        super().repeat_while(loop, scope)
        if scope is self.root:  # what follows may be in other functions
            (number,) = symbols(loop.extent)
            assert isinstance(number, Symbol)
            place = self.argument(Count(number), Count(number), "count")
            scope.lines.append(f"{place}[0] = {self.module.sizes[number]}")

    def part(self, buffer: Node, base: Dim, offset: Dim) -> str:
        """The name of one of the buffers that take turns in the same memory."""
        work = self.argument(base, base, "work")
        if buffer not in self.slots:
            self.slots[buffer] = self.names.claim(self.hint(buffer))
            place = f"{work}, {self.module.size(add(offset, mul(-1, base)))}"
            self.outermost.lines.append(f"{self.slots[buffer]} = {self.view('slot', buffer, place)}")
        return self.slots[buffer]

    def hint(self, node: Node) -> str:
        while isinstance(node.op.lower, View) and node.op.lower.alias:
            node = node.args[0]
        return "x" if isinstance(node.op.lower, Source) else node.op.name


class Sizes(dict[Symbol, str]):
    """The names of symbolic dimensions, or of variables of loops around, given in the order they are asked for."""

    def __init__(self, body: KernelBody, hint: str):
        super().__init__()
        self.body = body
        self.hint = hint

    def __missing__(self, s: Symbol) -> str:
        name = self[s] = self.body.sizes[s] = self.body.names.claim(self.hint)
        return name
