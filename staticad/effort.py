"""How much work the items of a loop tree are, in flops and in units of time; knows lowerings, never op names."""

from __future__ import annotations

from collections.abc import Sequence

from staticad.costs import PRODUCT, width
from staticad.ir import Node
from staticad.loops import Carry, Compute, Item, Loop, Start, Statement, Step, Tile, Whole, elements, statements
from staticad.lowering import Map, Reduce, Update, View, extents
from staticad.shapes import Dim, add, floordiv, mul, product
from staticad.store import Reads, Storage

#: Units that finding an element by an index read at run time takes.
GATHER = 64


def item_flops(storage: Storage, item: Item) -> Dim:
    """The flops of a top-level item; an exp counts 20, a division 4."""
    total: Dim = 0
    for path, statement in statements([item]):
        total = add(total, mul(flops(storage, statement), times(path, statement)))
    return total


def times(path: Sequence[Loop], statement: Statement) -> Dim:
    """How often a statement is executed; once for a product, all of whose parts count together."""
    if isinstance(statement, Tile):
        return 1
    return product(loop.extent for loop in path if not loop.block)


def flops(storage: Storage, statement: Statement) -> Dim:
    """Those of one execution of a statement."""
    node = statement.node
    lower = node.op.lower
    if isinstance(statement, Compute):
        return formula_cost(storage, node)
    if isinstance(statement, Step):
        operands = node.args[1:2] if isinstance(lower, Update) else node.args
        return sum(element_cost(storage, x) for x in operands) + (lower.cost if isinstance(lower, Reduce) else 1)
    return mul(2, product(extents(node).values())) if isinstance(statement, Tile) else 0


def formula_cost(storage: Storage, node: Node) -> int:
    lower = node.op.lower
    own = lower.cost if isinstance(lower, Map) else 0
    operands = node.args[:1] if isinstance(lower, View) else node.args
    return own + sum(element_cost(storage, x) for x in dict.fromkeys(operands))


def element_cost(storage: Storage, node: Node) -> int:
    """Flops of reading an element: none where it is stored, else those of computing it."""
    if storage.has_memory(node) or not isinstance(node.op.lower, (Map, View)):
        return 0
    return formula_cost(storage, node)


def units(storage: Storage, items: Sequence[Item]) -> Dim:
    """The time that items take, roughly, in units of a flop in float32 in a vector, or a byte to or from memory.

    About 32 of them are a nanosecond."""
    total: Dim = 0
    for path, statement in statements(items):
        if isinstance(statement, Tile):
            total = add(total, floordiv(mul(flops(storage, statement), width(statement.node)), PRODUCT))
            continue
        moved = statement.node.dtype.itemsize
        for node, index in reads(storage, statement):
            moved += node.dtype.itemsize + (GATHER if any(True for _ in elements(index or ())) else 0)
        each = add(mul(flops(storage, statement), width(statement.node)), moved)
        total = add(total, mul(each, times(path, statement)))
    return total


def reads(storage: Storage, statement: Statement) -> Reads:
    """The elements that a statement reads, apart from an accumulator; none of a product or a call."""
    node = statement.node
    update = isinstance(node.op.lower, Update)
    if isinstance(statement, Compute):
        if statement.source is not None:
            return storage.element_reads(statement.operand, statement.source)
        return storage.operand_reads(node, statement.index)
    if isinstance(statement, Start):
        return storage.element_reads(node.args[0], statement.index) if update else []
    if isinstance(statement, (Carry, Tile, Whole)):
        return []
    if update:
        return storage.element_reads(node.args[1], statement.source) + storage.run_time_reads(statement.target)
    return [read for x in node.args for read in storage.element_reads(x, statement.source)]
