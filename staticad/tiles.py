"""Which parts of a product may be computed inside of loops, so that what is made of them is still in cache.

Knows sizes, not what the loops hold.
"""

from __future__ import annotations

from dataclasses import dataclass

from staticad.ir import Node
from staticad.loops import Coordinates, covered
from staticad.lowering import extents, letters
from staticad.shapes import Dim, Symbol, known_ge, mul, product, symbol
from staticad.store import Reads, Storage, strided

#: Bytes of a result up to which a product is computed at once: it stays in cache anyway.
SMALL = 1 << 16
#: Bytes of the operand that every block reads again, and of a sum that every block adds to: they must stay in L2.
AGAIN = 1 << 19
SUM = 1 << 17
#: Bytes of result that a block should have, and how many rows it may have.
BLOCK, FEWEST, MOST = 1 << 16, 32, 256
#: Letters summed up to which a product is limited by writing its result, whatever the size of its operands.
FEW_SUMMED = 64
#: Flops below which one call of the product kernel for each of a batch costs more than it saves.
TINY = 1 << 13


@dataclass(frozen=True)
class Cut:
    """One way to cut a product: ``loops`` over letters of a batch, then blocks of ``rows`` along letter ``block``.

    ``more``: the block's letter is summed, and every block adds to the result. ``joins``: it only pays in a loop that
    is there.
    """

    loops: tuple[str, ...]
    block: str | None
    rows: int = 0
    more: bool = False
    joins: bool = False


def cuts(node: Node) -> list[Cut]:
    """The ways worth while, best first; one that sums only pays in a loop that is there."""
    left, right, out = letters(node)
    extent = extents(node)
    size = node.dtype.itemsize

    def count(names: list[str]) -> Dim:
        return product(extent[c] for c in names)

    batch = [c for c in out if c in left and c in right]
    free = [c for c in out if c not in batch]
    summed = [c for c in left if c not in out]
    flops = mul(2, mul(count(free), count(summed)))
    if node.dtype.kind != "f" or not free or known_ge(SMALL, mul(size, product(node.shape))):
        found: list[Cut] = []
    else:
        loops = tuple(batch) if not batch or known_ge(flops, TINY) or not isinstance(flops, int) else None
        found = []
        row = next((c for c in free if extent[c] != 1), None)
        if loops is not None and row is not None:
            mine = left if row in left else right
            other, beside = [c for c in free if c not in mine], [c for c in free if c in mine and c != row]
            again = mul(size, mul(count(other), count(summed)))
            few = count(summed)
            fits = known_ge(AGAIN, again) if isinstance(again, int) else isinstance(few, int) and few <= FEW_SUMMED
            rows = block_rows(mul(size, mul(count(other), count(beside))))
            if fits and other and not (isinstance(extent[row], int) and known_ge(rows, extent[row])):
                found.append(Cut(loops, row, rows))
            elif loops:
                found.append(Cut(loops, None))
    if node.dtype.kind == "f" and summed and not batch and free and len({c in left for c in free}) == 1:
        # A matrix times a vector: of a matrix that is made in a loop, only one block exists.
        row, row_bytes = free[0], mul(size, mul(count(free[1:]), count(summed)))
        matrix, rows = mul(extent[row], row_bytes), block_rows(row_bytes)
        if known_ge(AGAIN, mul(FEWEST, row_bytes)) and not known_ge(SMALL, matrix) and not known_ge(rows, extent[row]):
            found.append(Cut((), row, rows, joins=True))
    if node.dtype.kind == "f" and summed and not batch and known_ge(SUM, mul(size, product(node.shape))):
        row = next((c for c in summed if not known_ge(MOST, extent[c])), None)
        if row is not None:
            found.append(Cut((), row, 2 * FEWEST, more=True, joins=True))
    return found


def block_rows(row_bytes: Dim) -> int:
    if not isinstance(row_bytes, int):
        return FEWEST
    rows = max(FEWEST, min(MOST, BLOCK // max(row_bytes, 1)))
    return rows - rows % FEWEST


def indices(storage: Storage, node: Node, fixed: dict[str, Symbol]) -> tuple[Coordinates, Reads]:
    """The index of the result, and buffers with indices of the operands, of the part at ``fixed`` letters."""
    *operands, out = letters(node)

    def index(names: str) -> Coordinates:
        return tuple(symbol(fixed.get(c) or covered(c)) for c in names)

    sources: Reads = []
    for x, names in zip(node.args, operands, strict=True):
        found = strided(storage, x, index(names))
        assert found is not None, f"{x.op.name} is no strided view of memory"
        base, where = found
        if storage.has_memory(base):
            sources.append((storage.buffer(base), where))
        else:
            memory = storage.memory(base)
            assert memory is not None
            sources.append((storage.buffer(memory), None))
    return index(out), sources
