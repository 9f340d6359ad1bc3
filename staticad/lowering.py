"""The closed set of lowerings: how an operation is computed, as data the scheduler reads; knows no ops and no loops.

Indices are dimensions (`staticad.shapes`) over loop variables. ``read(node, index)`` tells which element of which
operand stands at ``index`` of the result.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from staticad.ir import Node
from staticad.shapes import Dim, Symbol

Index: TypeAlias = tuple["Dim | At", ...]
#: What the code of a `Map` calls the elements of its operands, in order.
LETTERS = "xyzuvwabcdefghjklmnopqrs"


@dataclass(frozen=True)
class At:
    """A coordinate known at run time: element ``index`` of integer operand ``arg``, checked against ``extent``.

    Negative values count from the end; anything else outside ``[0, extent)`` is an IndexError of the compiled function.
    """

    arg: int
    index: tuple[Dim, ...]
    extent: Dim


@dataclass(frozen=True)
class Guard:
    """A condition for reading: ``0 <= value < extent``, and ``value`` a multiple of ``step``."""

    value: Dim
    extent: Dim
    step: int = 1


@dataclass(frozen=True)
class Read:
    """Element ``index`` of operand 0, or the parameter ``fill`` of the op where a guard does not hold."""

    index: Index
    guards: tuple[Guard, ...] = ()


@dataclass(frozen=True)
class Source:
    """No computation: an argument of the compiled function (an input, a parameter, a constant array)."""


@dataclass(frozen=True)
class Uninitialised:
    """Memory whose elements are all written by the `Update` ops that follow before anything reads them."""


@dataclass(frozen=True)
class Map:
    """One element of the result from one of each operand at the same index.

    ``code`` is a Python expression over the operands' elements ``{x}``, ``{y}``, ``{z}`` (see `LETTERS`), the
    coordinates ``{i[0]}``, ``{i[1]}``, ... (as int64), the scalar type of the result ``{t}`` (callable, converts a
    value) and the op's parameters by name (numbers become literals of the result's dtype); or a function from the node
    to such a template. Functions of the kernel library are called as ``m.name(...)``, the user's as
    ``user.symbol(...)``. ``cost`` is roughly the number of flops: 1 for arithmetic, 4 for division and square root, 20
    for exp and its kin.
    """

    code: str | Callable[[Node], str]
    cost: int = 1


@dataclass(frozen=True)
class View:
    """Every element of the result is one element of operand 0, or ``fill``; free in a loop.

    ``alias``: the result's elements are the operand's, all of them in the same memory order (a reshape), so that a
    stored operand needs no loop at all; ``write(node, index)`` is then the inverse of ``read``: where element ``index``
    of the operand goes in the result. Operands after the first are not read, only waited for.
    """

    read: Callable[[Node, tuple[Dim, ...]], Read]
    alias: bool = False
    write: Callable[[Node, tuple[Dim, ...]], tuple[Dim, ...]] | None = None


@dataclass(frozen=True)
class Reduce:
    """Elements of operand 0 (``{x}``; ``{y}`` of operand 1) combined over the ``axes`` parameter into ``{acc}``.

    ``init`` gives the start value for a dtype as a Python expression (typed by the emitter); ``step`` is the new
    accumulator. ``part`` starts what is combined with a result that has begun: it changes nothing, as ``-0.0 + x`` is x
    and ``0.0 + x`` is not always (compilers leave out the one alone). ``running``: the op has an ``axis`` parameter
    instead, keeps it, and every step's accumulator is an element of the result.
    """

    init: Callable[[Any], str]
    step: str
    running: bool = False
    cost: int = 1
    part: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class Contract:
    """A product of two operands summed over the indices missing from the result, given by the parameter ``spec``.

    ``spec`` is an einsum string such as ``"mk,kn->mn"``; no letter repeats within one operand, and every letter of an
    operand stands in the other operand or in the result."""


@dataclass(frozen=True)
class Update:
    """Operand 0 with the elements of operand 1 combined into it; operands from 2 on are integer indices.

    ``target(node, index)`` is the index in the result that element ``index`` of operand 1 goes to; ``step`` combines
    ``{acc}`` (the present element) and ``{x}``. Done in place where operand 0 is not needed any more. ``start``: the
    value, for a dtype, that elements combined into it change alone, if the order of the steps does not matter."""

    target: Callable[[Node, tuple[Dim, ...]], Index]
    step: str
    start: Callable[[Any], str] | None = None


@dataclass(frozen=True)
class Repeat:
    """A result of a loop over the parameter ``body``: its carry number ``carry`` at the end, or the node ``value``.

    The latter of every step, along a new leading axis. Or the number of steps, as node ``count``."""


@dataclass(frozen=True, eq=False)
class Steps:
    """A `staticad.ir.Body` in terms of nodes outside of it: ``carries`` are `Carried`, slices are views at ``var``."""

    var: Symbol
    length: Dim
    reverse: bool
    carries: tuple[Node, ...]
    inits: tuple[Node, ...]
    nexts: tuple[Node, ...]
    condition: Node | None = None
    limit: Dim | None = None
    unroll: int = 1


@dataclass(frozen=True)
class Branch:
    """A result of a choice among the branches of the parameter ``body``: number ``result`` of whichever is taken.

    Or the node ``value`` of one ``branch``, where that is taken."""


@dataclass(frozen=True, eq=False)
class Choices:
    """A `staticad.ir.Branches` in terms of nodes outside of it: ``count`` branches, chosen by ``selector``."""

    selector: Node
    count: int


@dataclass(frozen=True)
class Carried:
    """A carry of a loop as its steps see it: memory that holds the present value."""


@dataclass(frozen=True)
class Call:
    """A library function of the runtime, ``m.name(out, *operands, ..., alone)``; breaks fusion.

    ``params`` turns the node's parameters into extra arguments (expressions). ``alone``: on the calling thread."""

    function: str
    params: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda params: ()


@dataclass(frozen=True)
class Formula:
    """Computed as what ``write(node)`` makes of other operations, which is put in its place when the graph is compiled.

    For what has a better derivative than the formula's."""

    write: Callable[[Node], Node]


Lowering: TypeAlias = (
    Source | Uninitialised | Map | View | Reduce | Contract | Update | Repeat | Branch | Carried | Call | Formula
)


def letters(node: Node) -> tuple[str, str, str]:
    """The indices of a product's operands and of its result."""
    operands, out = node.params["spec"].split("->")
    left, right = operands.split(",")
    return left, right, out


def extents(node: Node) -> dict[str, Dim]:
    """The extent of every index of a product."""
    left, right, _ = letters(node)
    pairs = zip(left + right, (*node.args[0].shape, *node.args[1].shape), strict=True)
    return dict(pairs)
