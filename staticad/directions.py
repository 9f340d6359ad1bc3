"""A sparse derivative along a few directions: which, and where in them each element is found; compiles nothing.

Columns that meet in no row get one colour, and the derivative along all columns of a colour is one direction. So do
rows, backwards. Backwards it goes to what the program reads (`staticad.reads`) rather than to what it is by: that is
far sparser, and each element found is one of the derivative, or one of a few that make one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Literal, TypeAlias

import numpy as np

from staticad import colouring, sparsity
from staticad.autodiff import jvp_nodes, vjp_nodes
from staticad.derivatives import places, vjp
from staticad.errors import GraphError
from staticad.ir import Graph, Node, rewrite, substitute, toposort
from staticad.ops import sources
from staticad.reads import outer, reads
from staticad.shapes import Shape, evaluate
from staticad.sparsity import Place, Rows
from staticad.tensor import Array, Tensor

#: Directions that are written out one beside the other, so that one loop does all of them; more are lanes.
WRITTEN_OUT = 4

Format: TypeAlias = Literal["csr", "csc"]
Mode: TypeAlias = Literal["forward", "reverse", "symmetric"]


@dataclass(frozen=True, eq=False)
class Way:
    """How a derivative is computed along directions: ``found`` are linear in ``seeds``, which stand for one of them.

    Forward, ``seeds`` are tangents of what it is by and ``found`` those of the results; in reverse, cotangents of the
    results and of what is read. A symmetric derivative is forward and reverse in one.
    """

    mode: Mode
    seeds: tuple[Node, ...]
    found: tuple[Node, ...]


@dataclass(frozen=True, eq=False)
class Derivative:
    """A derivative by ``xs`` before any size is known, and the ``ways`` to compute it.

    ``reads``: what the program reads of ``xs``; ``pattern``: the way that tells which elements there are, by these.
    """

    xs: tuple[Node, ...]
    reads: tuple[Node, ...]
    pattern: Way
    ways: tuple[Way, ...]


@dataclass(frozen=True, eq=False)
class Structure:
    """A pattern and how its elements are found: what does not change from call to call.

    ``colours`` are those of the elements of every seed, of ``count``; ``entries`` says where each element is among all
    that is found (see `Block`). Where several make one, ``owners`` says which element of the pattern each belongs to.
    ``read`` has what values it was found with.
    """

    pattern: Any
    way: Way
    colours: tuple[Array, ...]
    count: int
    entries: Array
    owners: Array | None
    read: Mapping[Node, Array]


@dataclass(frozen=True, eq=False)
class Block:
    """Arrays found, of the numbers ``which``, that stand side by side as the rows of one of the shape ``outer``.

    The ``widths`` are what each has of a row; with all directions written out, those of each stand in the row, else
    they are a first axis. So one loop writes all of them, and elements that are near in the result are near there."""

    outer: Shape
    which: tuple[int, ...]
    widths: tuple[int, ...]


def blocks(found: Sequence[Node]) -> list[Block]:
    """All of ``found``, those together of which one loop may do all."""
    grouped: dict[Shape, list[tuple[int, int]]] = {}
    for k, node in enumerate(found):
        rows, width = outer(node.shape)
        grouped.setdefault(rows, []).append((k, width))
    return [Block(rows, *map(tuple, zip(*parts, strict=True))) for rows, parts in grouped.items()]


def jacobian(ys: Sequence[Tensor], xs: Sequence[Tensor], mode: str) -> Derivative | None:
    """The ways to the Jacobian of ``ys`` by ``xs``, or None where nothing leads from these to those.

    Raises `GraphError` where something has no derivative in any mode that may be taken."""
    outputs = rewrite(Graph((), tuple(y.node for y in ys)), lambda node: node).outputs  # equal reads are one
    where = places(outputs, xs)
    of_x = [x for place in where for x in place]
    read = reads(outputs, of_x)
    # One read may be made from another, but the derivative by each is the one with the others held.
    apart = {x: sources.placeholder(x.type, "read") for x in read}
    back = {y: x for x, y in apart.items()}
    program = substitute(outputs, apart)

    def forward() -> Way:
        seeds = [sources.placeholder(place[0].type, "tangent") for place in where]
        moving = [t for t, place in zip(seeds, where, strict=True) for _ in place]
        return Way("forward", tuple(seeds), tuple(jvp_nodes(outputs, of_x, moving)))

    def along_reads() -> Way:
        seeds = [sources.placeholder(x.type, "tangent") for x in read]
        return Way("forward", tuple(seeds), tuple(substitute(jvp_nodes(program, list(back), seeds), back)))

    def reverse() -> Way:
        seeds = [sources.placeholder(y.type, "cotangent") for y in program]
        return Way("reverse", tuple(seeds), tuple(substitute(vjp_nodes(program, list(back), seeds), back)))

    makers = [make for make, name in ((forward, "forward"), (reverse, "reverse")) if mode in (name, "auto")]
    ways: list[Way] = []
    for make in makers if read else ():
        try:
            ways.append(make())
        except GraphError:  # what has a rule for one mode alone
            if make is makers[-1] and not ways:
                raise
    if not any(map(leads, ways)):
        return None
    pattern = along_reads() if ways[0].mode == "forward" else ways[0]
    return Derivative(tuple(place[0] for place in where), tuple(read), pattern, tuple(ways))


def hessian(y: Tensor, xs: Sequence[Tensor]) -> Derivative | None:
    """The way to the Hessian of the scalar ``y`` by ``xs``, or None where ``y`` does not depend on these."""
    if not any(x in toposort([y.node]) for place in places([y.node], xs) for x in place):
        return None
    gradient = [g.node for g in vjp([y], xs)]
    where = places(gradient, xs)
    seeds = [sources.placeholder(place[0].type, "tangent") for place in where]
    moving = [t for t, place in zip(seeds, where, strict=True) for _ in place]
    bare = tuple(place[0] for place in where)
    way = Way("symmetric", tuple(seeds), tuple(jvp_nodes(gradient, [x for place in where for x in place], moving)))
    return Derivative(bare, bare, way, (way,))


def leads(way: Way) -> bool:
    """Whether what is found depends on the seeds, and is not zero."""
    nodes = set(toposort(way.found))
    return any(x in nodes for x in way.seeds)


def asked(derivative: Derivative) -> list[Node]:
    """The nodes whose values the pattern may be read from, where they are known: indices, and factors."""
    way = derivative.pattern
    found = [*sparsity.asked(way.found, way.seeds), *sparsity.asked(derivative.reads, derivative.xs)]
    return list(dict.fromkeys(found))


def structure(
    derivative: Derivative, sizes: Mapping[str, int], known: Mapping[Node, Array], read: Mapping[Node, Array],
    form: Format, name: str,
) -> Structure:  # fmt: skip
    """The pattern for these ``sizes`` and values of indices that are ``known``, and a colouring of it.

    Raises `GraphError` where it is far from sparse, or takes too many directions."""
    pattern, by_reads, owners = patterns(derivative, sizes, known)
    way, colours = coloured(derivative.ways, pattern, by_reads)
    at = Place(sizes)
    widths = np.array([at.count(x) for x in way.found])
    if colours.count * int(widths.sum()) > sparsity.MOST:
        raise GraphError(
            f"{name}: takes {colours.count} directions of {widths.sum()} elements each, too many to be worth it; "
            "differentiate the few outputs apart that depend on almost everything"
        )
    if way.mode == "reverse":
        rows, place = colouring.coordinates(by_reads)
        group = colours.colours[rows]
    else:
        place, columns = colouring.coordinates(pattern)
        group, owners = colours.colours[columns], np.arange(len(place))
        if way.mode == "symmetric":
            group, place = colouring.places(pattern, colours)
    entries = found_at(group, place, way, at, colours.count)
    pattern.data = np.arange(pattern.nnz)
    if form == "csc":
        pattern = pattern.tocsc()
        owners = np.argsort(pattern.data)[owners]  # where each element has gone
    once = len(entries) == pattern.nnz
    pattern.data = np.ones(pattern.nnz, bool)
    for array in (pattern.data, pattern.indices, pattern.indptr):
        array.flags.writeable = False
    parts = np.split(colours.colours, np.cumsum([at.count(x) for x in way.seeds])[:-1])
    return Structure(
        pattern,
        way,
        tuple(part.reshape(at.shape(x)) for part, x in zip(parts, way.seeds, strict=True)),
        colours.count,
        entries[np.argsort(owners)] if once else entries,
        None if once else owners,
        read,
    )


def patterns(derivative: Derivative, sizes: Mapping[str, int], known: Mapping[Node, Array]) -> tuple[Rows, Rows, Array]:
    """What may not be zero, by what it is by and by what is read of that; and for each element of the latter the place
    of the one of the former that it is a part of."""
    from scipy.sparse import csr_array

    way = derivative.pattern
    by_reads = sparsity.dependence(way.found, way.seeds, sizes, known)
    if way.mode == "reverse":
        by_reads = by_reads.T.tocsr()
    elif way.mode == "symmetric":
        by_reads = by_reads.multiply(by_reads.T).tocsr()  # what is zero on one side is zero on the other
    by_reads.sort_indices()
    if derivative.reads == derivative.xs:
        return by_reads.copy(), by_reads, np.arange(len(by_reads.data))
    picked = sparsity.dependence(derivative.reads, derivative.xs, sizes, known)
    height: int = by_reads.shape[0]
    count: int = picked.shape[1]
    numbers = np.full(picked.shape[0], -1)  # of the element that each is that is read, unless it is a constant
    numbers[np.diff(picked.indptr) > 0] = picked.indices
    rows, columns = colouring.coordinates(by_reads)
    there = numbers[columns] >= 0
    rows, columns = rows[there], columns[there]
    elements: Array = rows * count + numbers[columns]
    keys, owners = np.unique(elements, return_inverse=True)

    def rows_of(rows: Array, columns: Array, width: int) -> Rows:
        ends = np.searchsorted(rows, np.arange(height), "right")
        return csr_array((np.ones(len(rows), bool), columns, np.append(0, ends)), (height, width))

    by_xs = rows_of(*np.divmod(keys, max(count, 1)), count)
    return by_xs, rows_of(rows, columns, by_reads.shape[1]), owners


def coloured(ways: Sequence[Way], pattern: Rows, by_reads: Rows) -> tuple[Way, colouring.Colouring]:
    """The way that has the fewest colours."""
    if ways[0].mode == "symmetric":
        return ways[0], colouring.symmetric(pattern)
    # No colouring has fewer than there are elements in the fullest row, or column.
    sides = [pattern if way.mode == "forward" else by_reads.T.tocsr() for way in ways]
    least = [int(np.diff(side.indptr).max(initial=0)) for side in sides]
    best: tuple[Way, colouring.Colouring] | None = None
    for k in sorted(range(len(ways)), key=lambda k: least[k]):
        if best is None or least[k] < best[1].count:
            found = colouring.by_columns(sides[k])
            if best is None or found.count < best[1].count:
                best = ways[k], found
    assert best is not None
    return best


def found_at(group: Array, place: Array, way: Way, at: Place, count: int) -> Array:
    """Where elements are among all that is found, by their direction, of ``count``, and by their place in this."""
    widths = np.array([at.count(x) for x in way.found])
    ends = np.cumsum(widths)
    # For each array found: where it begins, how far a direction and a row are from the next, and its part of a row.
    start, lane, step, width = (np.zeros(len(widths), "int64") for _ in range(4))
    begin = 0
    for block in blocks(way.found):
        length = sum(block.widths)
        rows = int(np.prod([evaluate(d, at.sizes) for d in block.outer], dtype="int64"))
        for k, before, w in zip(block.which, accumulate((0, *block.widths)), block.widths, strict=False):
            start[k], width[k] = begin + before, w
            lane[k], step[k] = (length, length * count) if count <= WRITTEN_OUT else (rows * length, length)
        begin += count * rows * length
    which = np.searchsorted(ends, place, "right")
    row, inner = np.divmod(place - (ends - widths)[which], width[which])
    return start[which] + group * lane[which] + row * step[which] + inner
