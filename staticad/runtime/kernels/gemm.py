"""The product of two matrices of floats at the core's rate; knows strides, caches and registers, not arrays.

The layers, from the inside: a `tile` of rows x vectors of the result held in registers while it sweeps over k; a
`strip` of tiles below each other, over one set of columns of y; a `block` of strips over parts of x and y that are in
cache; and `product`, which cuts large operands into such blocks, copied in the order in which tiles read them.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from staticad.runtime.flow import declared
from staticad.runtime.kernels.packing import copy_rows, copy_strip
from staticad.runtime.kernels.vectors import BIT, SIZE, Code, host, size

VECTORS = 3  # of a row of a tile
DEPTH = 512  # of a block, along k
WIDE = 1 << 22  # bytes of y in a block
TALL = 1 << 18  # bytes of x in a block
AHEAD = 12  # rows of y that are fetched before they are read for the first time
FAR = 1 << 20  # bytes of x above which it is multiplied block by block
LARGE = 1 << 19  # bytes of y above which it is copied, for its rows to lie close together
FEW = 4  # tiles below each other up to which this does not pay
WAY = 1 << 12  # bytes after which addresses fall into the same sets of the nearest cache
LINE = 64  # bytes
SMALL = 64  # rows of y that are copied for a product of one vector of columns


# fmt: off
SPLITS = {  # rows that are left below tiles of full height, or with one of these, as heights of tiles
    4: {1: (1,), 2: (2,), 3: (3,), 5: (3, 2), 6: (3, 3)},
    8: {1: (1,), 2: (2,), 3: (3,), 4: (4,), 5: (5,), 6: (3, 3), 7: (4, 3), 9: (5, 4), 10: (5, 5)},
}
# fmt: on


def rows() -> int:
    """How many rows of `VECTORS` accumulators leave registers for a row of y and an element of x."""
    return 8 if host().registers >= 32 else 4


def main(code: Code, height: int, width: int, end: int) -> bool:
    """Whether a tile is the one that large products are made of."""
    return (height, width, end) == (rows(), VECTORS, code.lanes)


def tile(code: Code, height: int, width: int, end: int, copies: bool = False) -> ir.Function:
    """``c[i, j] (+)= sum_k a[i am + k ak] b[k bk + j]``, ``height`` rows by ``width`` vectors, the last one of
    ``end`` lanes, of which ``last`` are there; one that ``copies`` leaves the rows of b in ``spare``, packed."""

    def write(
        code: Code, a: Any, am: Any, ak: Any, b: Any, bk: Any, spare: Any, soon: Any, sk: Any, c: Any, cm: Any, k: Any,
        last: Any, more: Any,
    ) -> None:  # fmt: skip
        lanes, builder = code.lanes, code.builder
        masks = [None] * (width - 1) + [code.mask(last, end) if host().masks else None]
        sizes = [lanes] * (width - 1) + [end]
        cells = [(i, v) for i in range(height) for v in range(width)]
        from_ = [code.at(a, code.mul(am, i)) for i in range(height)]
        to = [code.at(c, code.mul(cm, i)) for i in range(height)]
        for i, v in cells:
            if v * host().bytes % LINE == 0:
                code.prefetch(code.at(to[i], v * lanes), write=True)
        with code.carrying(k, [code.zeros(sizes[v]) for _, v in cells]) as (n, acc):
            row = code.at(b, code.mul(n, bk))
            ys = [code.load(code.at(row, v * lanes), sizes[v], masks[v]) for v in range(width)]
            if copies:
                for v, value in enumerate(ys):
                    code.store(value, code.at(spare, code.mul(n, width * lanes), v * lanes))
                    if v * host().bytes % LINE == 0:
                        code.prefetch(row, code.mul(bk, AHEAD), size(v * lanes))
            if main(code, height, width, end):
                code.prefetch(soon, code.mul(n, sk))
            along = code.mul(n, ak)
            for i in range(height):
                x = builder.load(code.at(from_[i], along))
                for v in range(width):
                    at = i * width + v
                    acc[at] = code.fma(code.splat(x, sizes[v]), ys[v], acc[at])
        summed, added = builder.block, list(acc)
        with builder.if_then(more):
            for at, (i, v) in enumerate(cells):
                added[at] = builder.fadd(code.load(code.at(to[i], v * lanes), sizes[v], masks[v]), acc[at])
            adding = builder.block
        for (i, v), value in zip(cells, code.merged({summed: acc, adding: added}), strict=True):
            code.store(value, code.at(to[i], v * lanes), masks[v])

    p = code.pointer
    kinds = [p, SIZE, SIZE, p, SIZE, p, p, SIZE, p, SIZE, SIZE, SIZE, BIT]
    return code.define(f"tile{'_copies' * copies}_{height}_{width}_{end}", kinds, write, inline=True)


def scatter(code: Code) -> ir.Function:
    """``c[i cm + j cn] (+)= from[i step + j]``."""

    def write(code: Code, from_: Any, step: Any, c: Any, cm: Any, cn: Any, m: Any, n: Any, more: Any) -> None:
        builder = code.builder
        with code.steps(m, 1) as i, code.steps(n, 1) as j:
            value = builder.load(code.at(from_, code.mul(i, step), j))
            to = code.at(c, code.mul(i, cm), code.mul(j, cn))
            with builder.if_else(more) as (adds, sets):
                with adds:
                    builder.store(builder.fadd(builder.load(to), value), to)
                with sets:
                    builder.store(value, to)

    p = code.pointer
    return code.define("scatter", [p, SIZE, p, SIZE, SIZE, SIZE, SIZE, BIT], write)


def over_rows(code: Code, m: ir.Value, start: ir.Value, one: Callable[[int, ir.Value], None]) -> None:
    """``one(height, row)`` for tiles below each other that cover the rows from ``start`` to ``m``."""
    builder, tall = code.builder, rows()
    left = code.sub(m, start)
    rest = builder.and_(left, size(tall - 1))
    # A tile of a row or two waits for its loads and for its own sums: better to share its rows with the one above.
    low = builder.and_(code.test(rest, "<=", 2), code.test(rest, ">", 0))
    low = builder.and_(low, code.test(left, ">", tall))
    rest = builder.select(low, code.add(rest, tall), rest)
    (row,) = code.variables(1, SIZE)
    builder.store(start, row)

    def times(count: ir.Value, height: int) -> None:
        with code.steps(count, 1):
            now = builder.load(row)
            one(height, now)
            builder.store(code.add(now, height), row)

    times(code.div(code.sub(left, rest), tall), tall)
    with builder.if_then(code.test(rest, "!=", 0)):
        for height in sorted({h for heights in SPLITS[tall].values() for h in heights}, reverse=True):
            counts = sum(heights.count(height) << 2 * n for n, heights in SPLITS[tall].items())
            count = builder.lshr(size(counts), code.mul(rest, 2))
            times(builder.and_(count, size(3)), height)


def strip(code: Code, width: int, end: int) -> ir.Function:
    """``m`` rows by ``width`` vectors: tiles below each other.

    Where it ``fills``, ``m`` is at least `rows`, and the first tile leaves b in ``spare`` for those below it. Row n of
    the next strip, which is to be fetched, is ``sk`` n elements after ``soon``."""

    def write(
        code: Code, a: Any, am: Any, ak: Any, b: Any, bk: Any, fills: Any, spare: Any, soon: Any, sk: Any,
        c: Any, cm: Any, cn: Any, m: Any, k: Any, last: Any, more: Any,
    ) -> None:  # fmt: skip
        builder, tall, wide = code.builder, rows(), width * code.lanes
        unit = code.test(cn, "==", 1)
        if not host().masks:
            unit = builder.and_(unit, code.test(last, "==", code.lanes))
        place = code.space(tall * wide)
        ld, add = builder.select(unit, cm, size(wide)), builder.and_(unit, more)

        def one(height: int, row: ir.Value, copies: bool = False) -> None:
            ahead, step = soon, sk
            if main(code, height, width, end):  # the i-th has the i-th lines of the rows of the next strip fetched
                i = code.div(row, tall)
                near = code.test(i, "<", width + 1)
                ahead = builder.select(near, builder.gep(soon, [code.mul(i, LINE * 8 // code.bits)]), a)
                step = builder.select(near, sk, size(0))
            from_, there = code.at(a, code.mul(row, am)), code.at(c, code.mul(row, cm))
            to = builder.select(unit, there, place)
            args = [from_, am, ak, b, bk, spare, ahead, step, to, ld, k, last, add]
            builder.call(tile(code, height, width, end, copies), args)
            with builder.if_then(builder.not_(unit), likely=False):
                n = code.add(last, (width - 1) * code.lanes)
                builder.call(scatter(code), [place, ld, there, cm, cn, size(height), n, more])

        start = size(0)
        if main(code, tall, width, end):
            with builder.if_then(fills, likely=False):
                one(tall, start, True)
            b, bk = builder.select(fills, spare, b), builder.select(fills, size(wide), bk)
            start = builder.select(fills, size(tall), start)
        over_rows(code, m, start, one)

    p = code.pointer
    kinds = [p, SIZE, SIZE, p, SIZE, BIT, p, p, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    return code.define(f"strip_{width}_{end}", kinds, write)


class Strips:
    """The loop over strips of ``n`` columns: (first column, vectors) of each; none has one vector, but for a single."""

    def __init__(self, code: Code, n: ir.Value) -> None:
        self.code, self.n = code, n

    def __enter__(self) -> tuple[ir.Value, ir.Value]:
        code, builder = self.code, self.code.builder
        (self.place,) = code.variables(1, SIZE)
        builder.store(size(0), self.place)
        self.head, self.body, self.end = (builder.append_basic_block(n) for n in ("strips", "strip", "stripped"))
        builder.branch(self.head)
        builder.position_at_end(self.head)
        self.first = builder.load(self.place)
        builder.cbranch(code.test(self.first, "<", self.n), self.body, self.end)
        builder.position_at_end(self.body)
        left = code.up(code.sub(self.n, self.first), code.lanes)
        few = code.smaller(left, VECTORS)
        self.width = builder.select(code.test(left, "==", VECTORS + 1), size(VECTORS - 1), few)
        return self.first, self.width

    def __exit__(self, *exc: Any) -> None:
        code, builder = self.code, self.code.builder
        builder.store(code.add(self.first, code.mul(self.width, code.lanes)), self.place)
        builder.branch(self.head)
        builder.position_at_end(self.end)


def block(code: Code, copies: bool) -> ir.Function:
    """``c (+)= a b`` for an ``a`` in cache and a ``b`` in rows or, if ``packed``, in the order in which strips read it.

    One that ``copies`` brings b into this order where it ``fills``, strip by strip, in ``spare``: one after the other
    if they are to be ``kept``, otherwise all in one place."""

    def write(
        code: Code, a: Any, am: Any, ak: Any, b: Any, bk: Any, bn: Any, packed: Any, fills: Any, spare: Any,
        kept: Any, c: Any, cm: Any, cn: Any, m: Any, n: Any, k: Any, more: Any,
    ) -> None:  # fmt: skip
        builder, lanes = code.builder, code.lanes
        with Strips(code, n) as (first, width):
            to = code.at(c, code.mul(first, cn))
            columns = code.at(b, code.mul(first, bn))
            used = code.smaller(code.sub(code.sub(n, first), code.mul(code.sub(width, 1), lanes)), lanes)
            apart, there, filled = bk, spare, fills
            over, soon, sk = code.mul(width, lanes), a, size(0)
            if copies:
                there = code.at(spare, code.mul(first, builder.select(kept, k, size(0))))
                fused = builder.and_(code.test(bn, "==", 1), code.test(m, ">=", rows()))
                fused = builder.and_(fused, code.test(width, "==", VECTORS))
                if host().masks:
                    fused = builder.and_(fused, code.test(used, ">", lanes // 2))
                else:  # a row of b may end within a vector, and only copies may be read further
                    fused = builder.and_(fused, code.test(used, "==", lanes))
                turns, filled = builder.and_(fills, builder.not_(fused)), builder.and_(fills, fused)
                with builder.if_then(turns):
                    copy_strip(code, rows(), columns, bk, bn, there, first, width, n, k)
                ready = builder.or_(turns, packed)
                apart = builder.select(ready, over, bk)
                soon = builder.select(packed, there, columns)
                soon = builder.gep(soon, [builder.select(packed, code.mul(over, k), over)])
                sk = builder.select(packed, over, bk)
                columns = builder.select(ready, there, columns)
                last = builder.or_(turns, code.test(code.add(first, over), ">=", n))
                # Fetching from where there is no memory costs a walk through the page tables each time.
                soon, sk = builder.select(last, a, soon), builder.select(last, size(0), sk)
            after = builder.append_basic_block("after")
            switch = None
            for w in range(1, VECTORS + 1):
                case = builder.append_basic_block(f"width{w}")
                if switch is None:
                    switch = builder.switch(width, case)
                else:
                    switch.add_case(size(w), case)
                builder.position_at_end(case)
                args = [a, am, ak, columns, apart, filled, there, soon, sk, to, cm, cn, m, k, used, more]
                with builder.if_else(code.test(used, ">", lanes // 2)) as (most, few):
                    with most:
                        builder.call(strip(code, w, lanes), args)
                    with few:
                        builder.call(strip(code, w, lanes // 2), args)
                builder.branch(after)
            builder.position_at_end(after)

    p = code.pointer
    kinds = [p, SIZE, SIZE, p, SIZE, SIZE, BIT, BIT, p, BIT, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    return code.define(f"block{'_copies' * copies}", kinds, write, inline=True)


def narrow(code: Code) -> ir.Function:
    """``c[i cm + j] (+)= sum_k x[i xm + k xk] y[k yk + j]`` for columns in one vector, with little ado."""

    def one_vector(end: int) -> Callable[..., None]:
        def write(
            code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, c: Any, cm: Any, m: Any, n: Any, k: Any, more: Any
        ) -> None:  # fmt: skip
            def one(height: int, row: ir.Value) -> None:
                from_, to = code.at(x, code.mul(row, xm)), code.at(c, code.mul(row, cm))
                code.builder.call(tile(code, height, 1, end), [from_, xm, xk, y, yk, y, y, xm, to, cm, k, n, more])

            over_rows(code, m, size(0), one)

        return write

    p = code.pointer
    kinds = [p, SIZE, SIZE, p, SIZE, p, SIZE, SIZE, SIZE, SIZE, BIT]

    def write(code: Code, *args: Any) -> None:
        lanes = code.lanes
        with code.builder.if_else(code.test(args[8], "<=", lanes // 2)) as (half, full):
            for part, end in ((half, lanes // 2), (full, lanes)):
                with part:
                    code.builder.call(code.define(f"narrow_{end}", kinds, one_vector(end)), args)

    return code.define("narrow", kinds, write, inline=True)


def narrow_copied(code: Code) -> ir.Function:
    """`narrow` for a y of any strides with at most `SMALL` rows."""

    def write(
        code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, yn: Any, c: Any, cm: Any, m: Any, n: Any, k: Any,
        more: Any,
    ) -> None:  # fmt: skip
        place = code.space((SMALL + code.lanes) * code.lanes)
        copy_strip(code, rows(), y, yk, yn, place, size(0), size(1), n, k)
        code.builder.call(narrow(code), [x, xm, xk, place, size(code.lanes), c, cm, m, n, k, more])

    p = code.pointer
    return code.define("narrow_copied", [p, SIZE, SIZE, p, SIZE, SIZE, p, SIZE, SIZE, SIZE, SIZE, BIT], write)


def even(code: Code, total: ir.Value, limit: int, unit: int) -> ir.Value:
    """The size of nearly equal parts of ``total``: multiples of ``unit`` up to ``limit``, which is one."""
    parts = code.up(code.up(total, unit), limit // unit)
    return code.mul(code.up(code.up(total, unit), parts), unit)


def blocked(code: Code) -> ir.Function:
    """The product cut into blocks that fit caches; x and y are copied where the flags say so."""

    def write(
        code: Code, copy_x: Any, copy_y: Any, x: Any, xm: Any, xk: Any, y: Any, yk: Any, yn: Any,
        c: Any, cm: Any, cn: Any, m: Any, n: Any, k: Any, more: Any,
    ) -> None:  # fmt: skip
        builder, tall, lanes, item = code.builder, rows(), code.lanes, code.bits // 8
        strip_of = VECTORS * lanes
        wide = even(code, n, WIDE // item // DEPTH // strip_of * strip_of, strip_of)
        deep = even(code, k, DEPTH, 1)
        high = even(code, m, TALL // item // DEPTH // tall * tall, tall)
        kept = code.test(m, ">", high)

        byte = ir.IntType(8).as_pointer()  # Python's allocator: there on every platform, and needs no lock of Python
        take = declared(builder.module, ir.FunctionType(byte, [SIZE]), "PyMem_RawMalloc")
        give = declared(builder.module, ir.FunctionType(ir.VoidType(), [byte]), "PyMem_RawFree")
        # A copy of x keeps its order; an odd number of lines apart, its rows are in different sets of the caches.
        rowwise = code.test(xm, "!=", 1)
        length, count = builder.select(rowwise, deep, high), builder.select(rowwise, high, deep)
        gap = code.mul(builder.or_(code.up(length, LINE // item), size(1)), LINE // item)
        for_x = builder.select(copy_x, code.mul(gap, count), size(0))
        columns = builder.select(kept, code.mul(code.up(wide, lanes), lanes), size(strip_of))
        for_y = builder.select(copy_y, code.mul(columns, code.add(deep, lanes)), size(0))
        held = builder.call(take, [code.add(code.mul(code.add(for_x, for_y), item), LINE)])
        aligned = builder.and_(code.add(builder.ptrtoint(held, SIZE), LINE - 1), size(-LINE))
        for_y_copy = builder.inttoptr(aligned, code.pointer)
        for_x_copy = code.at(for_y_copy, for_y)

        with code.steps(n, wide) as j, code.steps(k, deep) as p:
            width, depth = code.smaller(code.sub(n, j), wide), code.smaller(code.sub(k, p), deep)
            add = builder.or_(more, code.test(p, ">", 0))
            b = code.at(y, code.mul(p, yk), code.mul(j, yn))
            with code.steps(m, high) as i:
                height = code.smaller(code.sub(m, i), high)
                a = code.at(x, code.mul(i, xm), code.mul(p, xk))
                with builder.if_then(copy_x):
                    across, along = builder.select(rowwise, xm, xk), builder.select(rowwise, xk, xm)
                    count, length = builder.select(rowwise, height, depth), builder.select(rowwise, depth, height)
                    builder.call(copy_rows(code), [a, across, along, for_x_copy, gap, count, length])
                a = builder.select(copy_x, for_x_copy, a)
                am = builder.select(copy_x, builder.select(rowwise, gap, size(1)), xm)
                ak = builder.select(copy_x, builder.select(rowwise, size(1), gap), xk)
                to = code.at(c, code.mul(i, cm), code.mul(j, cn))
                first = code.test(i, "==", 0)
                fills, packed = builder.and_(copy_y, first), builder.and_(copy_y, builder.not_(first))
                args = [a, am, ak, b, yk, yn, packed, fills, for_y_copy, kept, to, cm, cn]
                builder.call(block(code, True), [*args, height, width, depth, add])
        builder.call(give, [held])

    p = code.pointer
    kinds = [BIT, BIT, p, SIZE, SIZE, p, SIZE, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    return code.define("blocked", kinds, write)


def nearby(code: Code) -> ir.Function:
    """A product in one block, whose y has to be copied: on the stack, one strip at a time."""

    def write(
        code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, yn: Any, c: Any, cm: Any, cn: Any,
        m: Any, n: Any, k: Any, more: Any,
    ) -> None:  # fmt: skip
        place = code.space((DEPTH + code.lanes) * VECTORS * code.lanes)
        yes, no = ir.Constant(BIT, 1), ir.Constant(BIT, 0)
        args = [x, xm, xk, y, yk, yn, no, yes, place, no, c, cm, cn, m, n, k, more]
        code.builder.call(block(code, True), args)

    p = code.pointer
    kinds = [p, SIZE, SIZE, p, SIZE, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    return code.define("nearby", kinds, write)


def product(code: Code) -> ir.Function:
    """``c[i, j] (+)= sum_k x[i, k] y[k, j]`` for any strides; best where ``cn == 1``, correct everywhere."""

    def write(
        code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, yn: Any, c: Any, cm: Any, cn: Any,
        m: Any, n: Any, k: Any, more: Any,
    ) -> None:  # fmt: skip
        builder, item = code.builder, code.bits // 8
        far_x = code.test(code.mul(code.mul(m, k), item), ">", FAR)
        cut_x = builder.and_(far_x, code.test(n, ">", 2 * VECTORS * code.lanes))
        clash = code.test(builder.and_(code.mul(xm, item), size(WAY - 1)), "==", 0)
        copy_x = builder.and_(cut_x, builder.or_(clash, code.test(xk, "!=", 1)))
        copy_y = code.test(code.mul(code.mul(n, k), item), ">", LARGE)
        copy_y = builder.and_(copy_y, code.test(m, ">", FEW * rows()))
        must = code.test(yn, "!=", 1)
        if not host().masks:
            must = builder.or_(must, code.test(builder.and_(n, size(code.lanes - 1)), "!=", 0))
        copy_y = builder.or_(copy_y, must)
        some = code.test(code.mul(code.mul(m, n), k), "!=", 0)
        strides = [x, xm, xk, y, yk, yn, c, cm, cn, m, n, k, more]
        with builder.if_else(builder.and_(some, builder.or_(cut_x, copy_y))) as (parts, whole):
            with parts:
                shallow = code.test(k, "<=", DEPTH)
                with builder.if_else(builder.and_(shallow, builder.not_(cut_x))) as (small, large):
                    with small:
                        builder.call(nearby(code), strides)
                    with large:
                        builder.call(blocked(code), [copy_x, copy_y, *strides])
            with whole:
                no, nowhere = ir.Constant(BIT, 0), ir.Constant(code.pointer, None)
                args = [x, xm, xk, y, yk, yn, no, no, nowhere, no, c, cm, cn, m, n, k, more]
                builder.call(block(code, False), args)

    p = code.pointer
    kinds = [p, SIZE, SIZE, p, SIZE, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    return code.define("product", kinds, write, inline=True)
