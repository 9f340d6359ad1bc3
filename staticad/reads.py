"""What a program reads of its inputs: the parts of them that its arithmetic begins with; knows lowerings, no op.

A program begins by picking elements of what it is given: slices, rows by an index, the same in another order. A
derivative by what was picked is as good as one by what it was picked from, for each element of the former is one of the
latter; and it is far sparser to go backwards to: two residuals that read one camera read two rows of what was gathered.
"""

from __future__ import annotations

from collections.abc import Sequence

from staticad.ir import Node, toposort
from staticad.lowering import At, Index, Read, View
from staticad.shapes import Dim, Shape, Symbol, symbol, symbols

#: Last axes of static sizes make a row, up to so many elements.
ROW = 32


def reads(outputs: Sequence[Node], sources: Sequence[Node]) -> list[Node]:
    """The nodes that are picked from ``sources``, or are one of them, and that something else is computed from.

    Each element of them is one of a source, or a constant. ``outputs`` themselves are among them where nothing is
    computed. Where rows are read as a whole, parts of them are not picked from them once more.
    """
    order = toposort(outputs)
    depends, picked = set(sources), set(sources)
    used = set(outputs)
    for node in order:
        if node in picked:
            continue
        depends |= {node} if any(x in depends for x in node.args) else set()
        if picks(node) and node.args[0] in picked and not any(x in depends for x in node.args[1:]):
            picked.add(node)
        else:
            used |= set(node.args)
    read: dict[Node, None] = {}
    whole = set(sources)
    for node in order:
        if node in picked and node not in whole and node.args[0] in whole:
            if node.args[0] in used and of_rows(node):
                read[node.args[0]] = None
            else:
                whole.add(node)
        if node in whole and node in used:
            read[node] = None
    return list(read)


def picks(node: Node) -> bool:
    """Whether every element of the result is one of operand 0 (or a constant), none repeated by the way of reading, and
    the derivative is this too."""
    if not isinstance(node.op.lower, View) or not node.op.differentiable:
        return False
    index, read = looked_at(node)
    parts = [d for at in read for d in (at.index if isinstance(at, At) else (at,))]
    found = {s for d in parts for s in symbols(d)}
    return all(symbols(v) <= found for v, size in zip(index, node.shape, strict=True) if size != 1)


def of_rows(node: Node) -> bool:
    """Whether a row of the result is picked from the same row, of several elements, of operand 0."""
    index, read = looked_at(node)
    rows, width = outer(node.args[0].shape)
    rank = len(rows)
    return width > 1 and read[:rank] == index[:rank] and node.shape[:rank] == node.args[0].shape[:rank]


def looked_at(node: Node) -> tuple[tuple[Dim, ...], Index]:
    """An index of the result, and that of the element of operand 0 that stands there."""
    lower = node.op.lower
    assert isinstance(lower, View)
    index = tuple(symbol(Symbol(f"i{k}", "var")) for k in range(len(node.shape)))
    read: Read = lower.read(node, index)
    return index, read.index


def outer(shape: Shape) -> tuple[Shape, int]:
    """The axes that rows stand along, and how many elements a row has."""
    width = 1
    while shape and isinstance(last := shape[-1], int) and width * last <= ROW:
        shape, width = shape[:-1], width * last
    return shape, width
