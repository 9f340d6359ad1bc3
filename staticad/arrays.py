"""The arrays of one generated function: what they are called and where views of the workspace and tape are made.

Knows the plan and where lines go, not what is computed.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from staticad.expressions import CODE, comment
from staticad.ir import Node
from staticad.lowering import Source, View
from staticad.names import Names
from staticad.scopes import Failure, Module, Scope
from staticad.shapes import Shape, Symbol, counts, mul, product


class Arrays:
    """The names in one function, and the arrays among them.

    ``root`` is the function itself, ``outermost`` where views of buffers that take turns are made: they do so between
    the steps directly inside of an item of the program, so that nothing that is ``nested`` in one sees them change.
    """

    nested = False

    def __init__(self, module: Module):
        self.module = module
        self.plan = module.plan
        self.storage = module.plan.schedule.storage
        self.names = Names()
        self.names.used |= module.names.used
        self.root = self.outermost = Scope(None)
        self.slots: dict[Node, str] = {}
        self.tapes: dict[Node, int] = {}  # the slots of the function's tape
        self.rows: dict[Node, str] = {}  # what the present step of a loop leaves on the tape
        self.counted: dict[Symbol, Scope] = {}  # where the number of steps of a loop is known

    def assign(self, hint: str, text: str, scope: Scope) -> str:
        name = self.names.claim(hint)
        scope.lines.append(f"{name} = {text}")
        return name

    def hint(self, node: Node) -> str:
        """What to call a value: the user's name, or the operation's; a reshape is called as what it is of."""
        while node.name is None and isinstance(node.op.lower, View) and node.op.lower.alias:
            node = node.args[0]
        return self.module.arrays[node] if isinstance(node.op.lower, Source) else node.name or node.op.name

    def array(self, buffer: Node) -> str:
        """The name of an array; a view of the workspace is made when the function first needs it, outside loops.

        A view says that nothing else uses its memory from there on: those of buffers that take turns inside of a loop
        are made in it.
        """
        b = self.plan.buffers.get(buffer)
        if buffer in self.rows:
            return self.rows[buffer]
        if b is not None and b.place == "tape":
            return self.taped(buffer)
        if b is not None and b.place == "local":
            return self.local(buffer)
        if b is None or b.place != "work":
            return self.module.arrays[buffer]
        if buffer not in self.slots:
            name = self.slots[buffer] = self.names.claim(self.hint(buffer))
            text = f"{name} = {self.view('slot', buffer, f'work, {self.module.size(b.offset)}')}"
            lines = self.root.lines if b.base is None else self.outermost.lines
            lines.append(f"{text}  # {comment(buffer.type)} = {buffer.op.name}")
        return self.slots[buffer]

    @contextmanager
    def opened(self, inside: Scope) -> Generator[None]:
        """While what is ``inside`` of a loop or a branch is written: what takes turns there has its views there alone,
        and the numbers of steps that are known there are not known after it."""
        turning = inside.parent is self.root and inside.loop is not None and not self.nested
        made = set(self.slots)
        self.outermost = inside if turning else self.outermost
        yield
        if turning:
            self.outermost = self.root
            for buffer in self.slots.keys() - made:
                if self.plan.buffers[buffer].base is not None:
                    del self.slots[buffer]
        for number in [s for s, scope in self.counted.items() if scope is inside]:
            del self.counted[number], self.module.sizes[number]

    def view(self, how: str, buffer: Node, place: str) -> str:
        """An array at some place, as source."""
        b = self.plan.buffers.get(buffer)
        return f"m.{how}_{CODE[buffer.dtype]}({place}, {self.module.shape(buffer.shape if b is None else b.shape)})"

    def local(self, buffer: Node) -> str:
        """The name of an array of the function."""
        if buffer not in self.slots:
            name = self.slots[buffer] = self.names.claim(self.hint(buffer))
            text = f"{name} = m.local_{CODE[buffer.dtype]}({self.module.shape(self.plan.buffers[buffer].shape)})"
            self.root.lines.append(f"{text}  # {comment(buffer.type)} = {buffer.op.name}")
        return self.slots[buffer]

    def taped(self, buffer: Node) -> str:
        """The name of an array of a size that is known after a loop; the view is made where that is."""
        found = [self.counted[s] for s in counts(buffer.shape) if s in self.counted]
        scope = max(found, key=lambda scope: scope.depth)
        known = scope.find(("taped", buffer))
        if known is None:
            rows = self.module.size(buffer.shape[0])
            known = scope.known["taped", buffer] = self.row(buffer, "0", buffer.shape, rows, scope)
        return known

    def tape(self, buffer: Node) -> str:
        """The tape and its slot for a buffer, as source."""
        return f"tape, {self.tapes.setdefault(buffer, len(self.tapes))}"

    def row(self, buffer: Node, first: str, shape: Shape, rows: str, scope: Scope) -> str:
        """A view of a part of a buffer on the tape, from row ``first`` on, where it has room for so many ``rows``."""
        tape = self.tape(buffer)
        each = f"({self.module.size(mul(product(buffer.shape[1:]), buffer.dtype.itemsize))})"
        text = (
            f"while_loop: no memory for what its steps leave for the backward pass, {buffer.type}; if it should have "
            "ended, give it max_steps; if not, make its steps leave less with checkpoint"
        )
        code = self.module.status(Failure("memory", text))
        scope.lines += [f"if not m.room({tape}, ({rows}) * {each}):", f"    return {code}"]
        offset = "0" if first == "0" else f"{first} * {each}"
        text = f"m.row_{CODE[buffer.dtype]}({tape}, {offset}, {self.module.shape(shape)})"
        return self.assign(self.hint(buffer), f"{text}  # {comment(buffer.type)} = {buffer.op.name}", scope)

    def flat(self, array: str) -> str:
        """The name of an array as a flat one; the view is made where the array is."""
        key = ("flat", array)
        scope = next((scope for scope in self.counted.values() if array in scope.known.values()), self.root)
        known = scope.find(key)
        if known is None:
            known = self.assign(f"{array}_flat", f"m.flat({array})", scope)
            scope.known[key] = known
        return known


def with_tape(lines: Iterable[str], slots: int) -> list[str]:
    """The body of a function, whose last line returns, with a tape of its own if it has ``slots`` there."""
    if not slots:
        return list(lines)
    return [f"tape = m.tape({slots})", *(re.sub(r"^( *)return (.*)", r"\1return m.closed(tape, \2)", x) for x in lines)]
