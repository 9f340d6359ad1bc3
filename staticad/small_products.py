"""Products too small for a kernel, written out as sums of elementwise products, which fuse with their neighbours; knows
ops, no loops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product as combinations

from staticad.ir import Node
from staticad.ops import arithmetic, reductions, views
from staticad.ops.products import parse_spec
from staticad.shapes import Dim, product

#: Multiplications for one element of the batch, where each has its own two operands: a call for each costs about 13 ns.
BATCHED = 27
#: Multiplications for one row of an operand, and terms of each, where the other operand is the same for all rows: one
#: call serves them all.
SHARED, SHARED_TERMS = 9, 4
#: Terms of a sum that is written out; a longer one that has nothing but a batch around it stays a reduction.
TERMS = 8
#: Elements of a row whose product with another is a reduction, with nothing else around it but a batch.
ROW = 64


def small_product(node: Node) -> Node | None:
    """A product over few static indices is ``x_0 * y_0 + x_1 * y_1 + ...``, elementwise; so is one over none.

    The sum goes from left to right, which rounds as any order of a product does, and starts from its first term: it may
    be -0.0, which a sum from 0.0 on is not. A batch of short dot products is the
    sum of an elementwise product."""
    x, y = node.args
    xs, ys, out = parse_spec(node.params["spec"])
    extent: dict[str, Dim] = {**dict(zip(xs, x.shape, strict=True)), **dict(zip(ys, y.shape, strict=True))}
    summed = [c for c in xs if c not in out]
    terms = size(summed, extent)
    if terms is None or terms == 0:
        return None
    batch = [c for c in out if c in xs and c in ys]
    of_x, of_y = ([c for c in letters if c in out and c not in batch] for letters in (xs, ys))
    if summed and not of_x and not of_y and batch and TERMS < terms <= ROW:
        order = [*out, *summed]
        full = tuple(extent[c] for c in order)
        both = arithmetic.multiply(spread(x, xs, order, full), spread(y, ys, order, full))
        return reductions.sum_(both, axes=tuple(range(len(out), len(order))))
    if summed and not (terms <= TERMS and pays(terms, size(of_x, extent), size(of_y, extent), batch)):
        return None
    total: Node | None = None
    for at in combinations(*(range(as_int(extent[c])) for c in summed)):
        where = dict(zip(summed, at, strict=True))
        pair = [spread(*picked(operand, letters, where), out, node.shape) for operand, letters in ((x, xs), (y, ys))]
        term = arithmetic.multiply(*pair)
        total = term if total is None else total + term
    return total


def pays(terms: int, m: int | None, n: int | None, batch: Sequence[str]) -> bool:
    """Whether writing out beats a call, for ``terms`` times m times n multiplications; None: many, or not known."""
    if terms == 1:
        return True
    if m is not None and n is not None and terms * m * n <= BATCHED:
        return True
    known = [count for count in (m, n) if count is not None]
    return not batch and bool(known) and terms <= SHARED_TERMS and terms * min(known) <= SHARED


def size(letters: Sequence[str], extent: Mapping[str, Dim]) -> int | None:
    """How many indices letters have together, None where that is not known."""
    found = product(extent[c] for c in letters)
    return found if isinstance(found, int) else None


def as_int(d: Dim) -> int:
    assert isinstance(d, int)
    return d


def picked(x: Node, letters: str, where: Mapping[str, int]) -> tuple[Node, str]:
    """``x`` at fixed indices of the letters in ``where``, and the letters it has left."""
    start = tuple(where.get(c, 0) for c in letters)
    extents = tuple(1 if c in where else d for c, d in zip(letters, x.shape, strict=True))
    part = views.slice_(x, start=start, size=extents, step=(1,) * len(letters))
    kept = tuple(d for c, d in zip(letters, x.shape, strict=True) if c not in where)
    return views.reshape(part, shape=kept), "".join(c for c in letters if c not in where)


def spread(x: Node, letters: str, order: Sequence[str], shape: tuple[Dim, ...]) -> Node:
    """``x``, whose axes are called ``letters``, repeated to ``shape``, whose axes are called ``order``."""
    mine = [c for c in order if c in letters]
    turned = views.transpose(x, axes=tuple(letters.index(c) for c in mine))
    return views.broadcast(turned, shape=shape, axes=tuple(k for k, c in enumerate(order) if c in letters))
