"""Calls of kernel functions: what such a function is given, and bodies in which parts of a program are calls.

Knows the parts of the plan, not how kernel functions are written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from staticad.body import Body
from staticad.division import Part
from staticad.elements import Asked
from staticad.ir import Node
from staticad.loops import Item
from staticad.scopes import Failure, Module, Scope
from staticad.shapes import Dim, Symbol


@dataclass(frozen=True)
class Slot:
    """What the tape has for a buffer: memory that a loop of unknown length makes more."""

    buffer: Node


@dataclass(frozen=True)
class Count:
    """A place for the number of steps that a loop of unknown length has taken."""

    symbol: Symbol


#: What an array argument is: a buffer or source, what lies at some place of the workspace, or one of the above.
Given: TypeAlias = "Node | Dim | Slot | Count"


@dataclass(frozen=True)
class Kernel:
    """A kernel function and one call of it.

    ``lines`` are its body, ``signature`` its types; ``arrays`` and ``sizes`` (and variables of loops around) what it
    is called with; ``failures`` what the codes from 1 on that it returns mean there.
    """

    name: str
    signature: str
    arguments: tuple[str, ...]
    lines: tuple[str, ...]
    arrays: tuple[Given, ...]
    sizes: tuple[Symbol, ...]
    failures: tuple[Failure, ...]


class Library(Protocol):
    """The functions of a module, as the bodies that call them see it."""

    def part(self, part: Part, caller: Calling) -> tuple[str, Kernel]:
        """The name of the function for a part of the program, and what it is."""
        ...

    def copy(self, node: Node) -> tuple[str, Kernel]:
        """The same of the function for the copy of an update."""
        ...


class Calling(Body):
    """Writes a body in which parts of the program other than its ``own`` are calls.

    ``present``: buffers on the tape of which it is given what the present step of a loop leaves."""

    own: Part | None = None
    present: frozenset[Node] = frozenset()

    def __init__(self, module: Module, items: list[Item], copied: Sequence[Node], library: Library, asked: Asked):
        super().__init__(module, items, copied, asked)
        self.library = library
        self.called: set[Item] = set()

    def items_into(self, items: Sequence[Item], scope: Scope) -> None:
        for item in items:
            part = self.plan.parts.get(item)
            if part is not None and part is not self.own:
                self.call(*self.library.part(part, self), scope)
                self.called.update(part.items)
            elif item not in self.called:
                super().items_into([item], scope)

    def call(self, name: str, kernel: Kernel, scope: Scope) -> None:
        """The call of a kernel function, and what is known after it."""
        given = [self.given(x, scope) for x in kernel.arrays]
        call = f"{name}({', '.join([*given, *map(self.name_of, kernel.sizes)])})"
        if kernel.failures:
            scope.lines += [f"status = {call}", "if status:", f"    return {self.module.statuses(kernel.failures)}"]
        else:
            scope.lines.append(call)
        for x, place in zip(kernel.arrays, given, strict=True):
            if isinstance(x, Count):
                self.module.sizes[x.symbol] = self.assign("steps", f"{place}[0]", scope)
                self.counted[x.symbol] = scope

    def given(self, x: Given, scope: Scope) -> str:
        """What is given for an array argument, as source."""
        if isinstance(x, Slot):
            return f"m.only({self.tape(x.buffer)})"
        if isinstance(x, Count):
            return self.assign("count", "m.local_i8((1,))", scope)
        if isinstance(x, Node):
            return self.array(x)
        return f"m.at(work, {self.module.size(x)})"
