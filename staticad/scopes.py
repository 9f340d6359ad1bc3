"""What generated functions are written into: a module with its names and status codes, and the scopes of a function.

Knows the plan, neither lowerings nor what is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from staticad.ir import Check, Node
from staticad.loops import Loop
from staticad.names import Names
from staticad.plan import Plan
from staticad.shapes import Dim, Shape, Symbol, render


@dataclass(frozen=True)
class Failure:
    """What a status code means: ``kind`` is "shape", "size", "overlap" or "index"."""

    kind: str
    text: str
    check: Check | None = None


@dataclass(eq=False)
class Module:
    """What the functions of one generated module share: the plan, and the names of sizes and of array arguments.

    ``targets`` are the sources that updates write to; ``threads``: products may use several; ``failures``: what status
    codes from 1 on mean.
    """

    plan: Plan
    targets: Mapping[Node, Node]
    threads: bool
    names: Names = field(default_factory=Names)
    sizes: dict[Symbol, str] = field(default_factory=dict[Symbol, str])
    arrays: dict[Node, str] = field(default_factory=dict[Node, str])
    failures: list[Failure] = field(default_factory=list[Failure])
    codes: dict[Failure, int] = field(default_factory=dict[Failure, int])

    def alike(self) -> Module:
        """One for the same plan, without names."""
        return Module(self.plan, self.targets, self.threads)

    def status(self, failure: Failure) -> int:
        """The code that the generated function returns for a failure."""
        if failure not in self.codes:
            self.failures.append(failure)
            self.codes[failure] = len(self.failures)
        return self.codes[failure]

    def statuses(self, failures: Sequence[Failure]) -> str:
        """What to return where ``status`` counts these failures from 1 on."""
        if len(failures) == 1:
            return str(self.status(failures[0]))
        self.failures += failures
        return f"status + {len(self.failures) - len(failures)}"

    def size(self, d: Dim) -> str:
        """A size as source, in terms of the names of symbolic dimensions."""
        return render(d, lambda s: self.sizes[s] if isinstance(s, Symbol) else str(s))

    def shape(self, shape: Shape) -> str:
        """A shape as source."""
        return f"({', '.join(map(self.size, shape))}{',' if len(shape) == 1 else ''})"


@dataclass(eq=False)
class Scope:
    """Lines at one depth of one function, and the values known there. ``closed``: nothing may be hoisted out of it.

    ``ahead``, where the steps of the loop shall not branch: the indices to be checked before it, with their extent and
    the status code of one that is out of range."""

    parent: Scope | None
    loop: Loop | None = None
    closed: bool = False
    ahead: list[tuple[str, str, int]] | None = None
    lines: list[str] = field(default_factory=list[str])
    known: dict[object, str] = field(default_factory=dict[object, str])

    def find(self, key: object) -> str | None:
        scope: Scope | None = self
        while scope is not None:
            if key in scope.known:
                return scope.known[key]
            scope = scope.parent
        return None

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + (self.loop is not None)
