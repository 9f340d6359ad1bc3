"""The loop tree: loops, the statements in them, and how one element of a node is read from others; knows no op."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from staticad.ir import Node
from staticad.lowering import At, Guard, Index, Map, Steps, View
from staticad.shapes import Dim, Element, Expr, Symbol, substitute, symbol, symbols

Coordinates: TypeAlias = tuple[Dim, ...]


@dataclass(eq=False)
class Loop:
    """``for var in range(extent)``; ``reduces`` are the accumulators started before it and complete after it.

    ``writes`` (buffer to the indices it is written at) and ``reads`` describe everything inside; ``weight`` is its
    size.

    With ``block``, it goes over its range in blocks of so many steps: ``var`` is the first of a block, and stands for
    all of it in the coordinates of what is inside. A loop ``within`` a block loop goes over the steps of one block.
    A block of ``lanes`` is as much as registers hold: what is kept of it from one loop in it to the next stays there.

    With ``steps``, its steps follow each other: ``after`` each, carries get their next values. ``inside`` are buffers
    of values that last for a step. With ``test``, which ends with a `Test`, they do so as long as that holds.
    """

    var: Symbol
    extent: Dim
    body: list[Item] = field(default_factory=list["Item"])
    reduces: list[Node] = field(default_factory=list[Node])
    writes: dict[Node, list[Coordinates]] = field(default_factory=dict[Node, "list[Coordinates]"])
    reads: set[Node] = field(default_factory=set[Node])
    weight: int = 0
    block: int = 0
    lanes: bool = False
    within: Loop | None = None
    steps: Steps | None = None
    test: list[Item] = field(default_factory=list["Item"])
    after: list[Carry] = field(default_factory=list["Carry"])
    inside: set[Node] = field(default_factory=set[Node])

    def fixes(self, d: object, path: Sequence[Loop]) -> bool:
        """Whether coordinate ``d`` of something inside ``path`` is this loop's variable, or in this loop's block."""
        return is_var(d, self.var) or any(loop.within is self and is_var(d, loop.var) for loop in path)

    @property
    def end(self) -> Symbol:
        """The end of the present block."""
        return Symbol(f"{self.var.name}_end", "var")


@dataclass(eq=False)
class Compute:
    """The element of ``node`` at ``index`` is computed by its lowering and becomes known there.

    ``source``: the loops run over the operand's index instead, and element ``source`` of operand 0, or of ``origin``,
    goes to ``index``.
    """

    node: Node
    buffer: Node
    index: Coordinates
    source: Coordinates | None = None
    origin: Node | None = None

    @property
    def operand(self) -> Node:
        """What ``source`` is the index of."""
        return self.node.args[0] if self.origin is None else self.origin


@dataclass(eq=False)
class Start:
    """The element of an accumulating ``node`` at ``index`` gets its first value: a constant, or operand 0's element.

    For a product whose parts add up, it is all elements that do."""

    node: Node
    buffer: Node
    index: Coordinates


@dataclass(eq=False)
class Step:
    """Element ``source`` of the accumulated operand is combined into ``node`` at ``target``.

    ``scalar``: the accumulator is one of an enclosing loop's ``reduces``; else it lives in memory: at ``target``, or,
    of a running one, ``before`` it. ``more``: what is at ``target`` is one part of the result, the accumulator the
    next."""

    node: Node
    buffer: Node
    target: Coordinates
    source: Coordinates
    scalar: bool
    more: bool = False

    @property
    def axis(self) -> int:
        """Of a running accumulation: the axis that it runs along."""
        return self.node.params["axis"]

    def before(self, at: Dim) -> Coordinates:
        """Where the step before that of a running accumulator put its value, which is at ``at`` along its axis."""
        return (*self.target[: self.axis], at, *self.target[self.axis + 1 :])


@dataclass(eq=False)
class Carry:
    """The carry ``buffer`` gets the value of ``node`` for the next step."""

    node: Node
    buffer: Node

    @property
    def index(self) -> Coordinates | None:
        """Where its one element is; None for an array, whatever its size at run time."""
        return (0,) * len(self.node.shape) if all(d == 1 for d in self.node.shape) else None


@dataclass(eq=False)
class Test:
    """The value of scalar ``node`` decides what is done next."""

    node: Node


@dataclass(eq=False)
class Choice:
    """One of ``branches`` is executed: the number that ``test`` gives, or the first where it is false.

    ``results`` are the buffers that are read afterwards, with whether all branches write them; ``writes``, ``reads``
    and ``weight`` as of a `Loop`."""

    test: Test
    branches: list[list[Item]]
    results: dict[Node, bool] = field(default_factory=dict[Node, bool])
    writes: set[Node] = field(default_factory=set[Node])
    reads: set[Node] = field(default_factory=set[Node])
    weight: int = 0


@dataclass(eq=False)
class Whole:
    """A product or library call on whole buffers."""

    node: Node
    buffer: Node


@dataclass(eq=False)
class Tile:
    """A part of a product: ``letters`` of its spec are fixed to the variables of loops (or of blocks) around it.

    ``target`` and ``sources`` are the indices of the result and of the operands, through their strided views, with
    `covered` symbols for the other letters; None for an operand that is read as flat memory. ``more``: it adds to what
    is there.
    """

    node: Node
    buffer: Node
    letters: dict[str, Symbol]
    target: Coordinates
    sources: list[tuple[Node, Coordinates | None]]
    more: bool


def covered(letter: str) -> Symbol:
    """What stands in indices for the letter of a product whose whole range a statement covers."""
    return Symbol(f"all_{letter}", "var")


#: What writes a buffer.
Statement: TypeAlias = Compute | Start | Step | Whole | Tile | Carry
Item: TypeAlias = Loop | Choice | Test | Statement


@dataclass(frozen=True)
class Access:
    """Element ``index`` of operand ``arg``, read where the guards hold."""

    arg: int
    index: Coordinates
    guards: tuple[Guard, ...] = ()


def resolve(node: Node, index: Index) -> Coordinates:
    """An index of ``node``'s operand with its run-time coordinates as elements of the arrays they come from."""
    return tuple(symbol(Element(node.args[d.arg], d.index, d.extent)) if isinstance(d, At) else d for d in index)


def accesses(node: Node, index: Coordinates) -> Sequence[Access]:
    """What element ``index`` of a node is made from; for a `Map` or a `View`."""
    lower = node.op.lower
    if isinstance(lower, Map):
        return [Access(k, index) for k in range(len(node.args))]
    assert isinstance(lower, View), f"{node.op.name} is computed as a whole"
    read = lower.read(node, index)
    return [Access(0, resolve(node, read.index), read.guards)]


def elements(index: Coordinates) -> Iterator[Element]:
    """The run-time elements that an index is made of."""
    for d in index:
        if isinstance(d, Expr):
            for m in d.terms:
                for a, _ in m:
                    if isinstance(a, Element):
                        yield a
                    elif not isinstance(a, Symbol):
                        yield from elements((a.x, a.y))


def divides(index: Coordinates) -> bool:
    """Whether a coordinate divides (or bounds) by a loop variable, as where axes are merged."""
    for d in index:
        if isinstance(d, Expr):
            for m in d.terms:
                for a, _ in m:
                    if isinstance(a, (Symbol, Element)):
                        continue
                    if any(s.kind == "var" for s in symbols(a.x) | symbols(a.y)):
                        return True
    return False


def substitute_all(index: Coordinates, values: Mapping[Symbol, Dim]) -> Coordinates:
    return tuple(substitute(d, values) for d in index)


def is_var(d: object, var: Symbol) -> bool:
    return isinstance(d, Expr) and d == symbol(var)


def leaves(items: Sequence[Item]) -> Iterator[tuple[tuple[Loop, ...], Statement | Test]]:
    """Every statement and test below ``items`` in order, with the loops around it."""
    for item in items:
        if isinstance(item, Loop):
            for path, leaf in leaves(parts(item)):
                yield (item, *path), leaf
        elif isinstance(item, Choice):
            yield from leaves(parts(item))
        else:
            yield (), item


def statements(items: Sequence[Item]) -> Iterator[tuple[tuple[Loop, ...], Statement]]:
    """The `leaves` that write something."""
    for path, leaf in leaves(items):
        if not isinstance(leaf, Test):
            yield path, leaf


def parts(item: Item) -> list[Item]:
    """What is directly inside of an item, in order."""
    if isinstance(item, Loop):
        return [*item.test, *item.body, *item.after]
    return [item.test, *chain.from_iterable(item.branches)] if isinstance(item, Choice) else []


def count_loops(items: Sequence[Item]) -> int:
    return sum(isinstance(item, Loop) + count_loops(parts(item)) for item in items)


def dump(items: Sequence[Item], name: Callable[[Node], str], indent: str = "") -> str:
    """The loop tree as text."""
    lines: list[str] = []
    for item in items:
        if isinstance(item, Loop):
            after = f"  # gives {', '.join(map(name, item.reduces))}" if item.reduces else ""
            steps = f"block({item.within.var})" if item.within else f"range({item.extent})"
            steps = f"range(0, {item.extent}, {item.block})" if item.block else steps
            lines.append(f"{indent}for {item.var} in {steps}:{after}")
            lines.append(dump([*item.body, *item.after], name, indent + "    "))
        elif isinstance(item, Step):
            lines.append(f"{indent}{name(item.node)}[{_join(item.target)}] <- [{_join(item.source)}]")
        elif isinstance(item, Tile):
            verb = "+=" if item.more else "="
            lines.append(f"{indent}{name(item.node)}[{_join(item.target)}] {verb} {item.node.op.name}(...)")
        elif isinstance(item, Carry):
            lines.append(f"{indent}{name(item.buffer)} <- {name(item.node)}")
        elif isinstance(item, Choice):
            for k, inside in enumerate(item.branches):
                lines.append(f"{indent}if {name(item.test.node)} is {k}:")
                lines.append(dump(inside, name, indent + "    "))
        elif isinstance(item, Test):
            lines.append(f"{indent}while {name(item.node)}:")
        elif isinstance(item, Whole):
            lines.append(f"{indent}{name(item.node)} = {item.node.op.name}(...)")
        else:
            verb = "start" if isinstance(item, Start) else "="
            lines.append(f"{indent}{name(item.node)}[{_join(item.index)}] {verb}")
    return "\n".join(lines)


def _join(index: Sequence[object]) -> str:
    return ", ".join(map(str, index))
