"""The product of two matrices of floats at the core's rate; knows strides, caches and registers, not arrays.

The layers, from the inside: a `tile` of rows x vectors of the result held in registers while it sweeps over k; a
`strip` of tiles below each other, over one set of columns of y; a `block` of strips over parts of x and y that are in
cache; and `product`, which cuts large operands into such blocks, copied in the order in which tiles read them.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

from staticad.runtime.kernels.vectors import BIT, SIZE, Code, host, size

VECTORS = 3  # of a row of a tile
DEPTH = 512  # of a block, along k
WIDE = 1 << 21  # bytes of y in a block
TALL = 1 << 19  # bytes of x in a block
NEAR = 1 << 20  # bytes of an operand up to which it is used where it stands: copying it costs more than it saves
STACK = 1 << 15  # bytes of copies up to which they are on the stack


def rows() -> int:
    """How many rows of `VECTORS` accumulators leave registers for a row of y and an element of x."""
    return 8 if host().registers >= 32 else 4


def tile(code: Code, height: int, width: int, end: int) -> ir.Function:
    """``c[i, j] (+)= sum_k a[i am + k ak] b[k bk + j]``, ``height`` rows by ``width`` vectors, the last one of
    ``end`` lanes, of which ``last`` are there."""

    def write(
        code: Code, a: Any, am: Any, ak: Any, b: Any, bk: Any, c: Any, cm: Any, k: Any, last: Any, more: Any
    ) -> None:  # fmt: skip
        lanes, builder = code.lanes, code.builder
        masks = [None] * (width - 1) + [code.mask(last, end) if host().masks else None]
        sizes = [lanes] * (width - 1) + [end]
        cells = [(i, v) for i in range(height) for v in range(width)]
        acc = dict(zip(cells, [code.variables(1, code.kind(sizes[v]))[0] for _, v in cells], strict=True))
        from_ = [code.at(a, code.mul(am, i)) for i in range(height)]
        to = [code.at(c, code.mul(cm, i)) for i in range(height)]
        for i, v in cells:
            builder.store(code.zeros(sizes[v]), acc[i, v])
            code.prefetch(code.at(to[i], v * lanes))
        with code.steps(k, 1) as n:
            row = code.at(b, code.mul(n, bk))
            ys = [code.load(code.at(row, v * lanes), sizes[v], masks[v]) for v in range(width)]
            along = code.mul(n, ak)
            for i in range(height):
                x = builder.load(code.at(from_[i], along))
                for v in range(width):
                    builder.store(code.fma(code.splat(x, sizes[v]), ys[v], builder.load(acc[i, v])), acc[i, v])
        with builder.if_then(more):
            for i, v in cells:
                before = code.load(code.at(to[i], v * lanes), sizes[v], masks[v])
                builder.store(builder.fadd(before, builder.load(acc[i, v])), acc[i, v])
        for i, v in cells:
            code.store(builder.load(acc[i, v]), code.at(to[i], v * lanes), masks[v])

    p = code.pointer
    return code.define(
        f"tile_{height}_{width}_{end}", [p, SIZE, SIZE, p, SIZE, p, SIZE, SIZE, SIZE, BIT], write, inline=True
    )


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


def strip(code: Code, width: int, end: int) -> ir.Function:
    """``m`` rows by ``width`` vectors: tiles below each other. ``block`` is the way from one tile's a to the next's."""

    def write(
        code: Code, a: Any, am: Any, ak: Any, block: Any, b: Any, bk: Any, packed: Any, c: Any, cm: Any, cn: Any,
        m: Any, k: Any, last: Any, more: Any,
    ) -> None:  # fmt: skip
        builder, tall, wide = code.builder, rows(), width * code.lanes
        bk = builder.select(packed, size(wide), bk)
        unit = code.test(cn, "==", 1)
        if not host().masks:
            unit = builder.and_(unit, code.test(last, "==", code.lanes))
        place = code.space(tall * wide)
        ld, add = builder.select(unit, cm, size(wide)), builder.and_(unit, more)

        def one(height: int, a: ir.Value, c: ir.Value) -> None:
            to = builder.select(unit, c, place)
            builder.call(tile(code, height, width, end), [a, am, ak, b, bk, to, ld, k, last, add])
            with builder.if_then(builder.not_(unit), likely=False):
                n = code.add(last, (width - 1) * code.lanes)
                builder.call(scatter(code), [place, ld, c, cm, cn, size(height), n, more])

        blocks = code.div(m, tall)
        with code.steps(blocks, 1) as i:
            one(tall, code.at(a, code.mul(i, block)), code.at(c, code.mul(code.mul(i, cm), tall)))
        below, done = code.at(a, code.mul(blocks, block)), code.mul(blocks, tall)
        height = tall // 2
        while height:
            start = code.builder.and_(m, size(tall - 2 * height))  # of this tile, within the last rows
            with builder.if_then(code.test(builder.and_(m, size(height)), "!=", 0)):
                one(height, code.at(below, code.mul(start, am)), code.at(c, code.mul(code.add(done, start), cm)))
            height //= 2

    p = code.pointer
    kinds = [p, SIZE, SIZE, SIZE, p, SIZE, BIT, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
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


def block(code: Code) -> ir.Function:
    """``c (+)= a b`` for operands in cache; ``b`` packed in strips, or rows ``bk`` apart."""

    def write(
        code: Code, a: Any, am: Any, ak: Any, step: Any, b: Any, bk: Any, packed: Any, c: Any, cm: Any, cn: Any,
        m: Any, n: Any, k: Any, more: Any,
    ) -> None:  # fmt: skip
        builder = code.builder
        deep = builder.select(packed, k, size(1))
        with Strips(code, n) as (first, width):
            columns = code.at(b, code.mul(first, deep))
            to = code.at(c, code.mul(first, cn))
            used = code.smaller(code.sub(code.sub(n, first), code.mul(code.sub(width, 1), code.lanes)), code.lanes)
            after = builder.append_basic_block("after")
            switch = None
            for w in range(1, VECTORS + 1):
                case = builder.append_basic_block(f"width{w}")
                if switch is None:
                    switch = builder.switch(width, case)
                else:
                    switch.add_case(size(w), case)
                builder.position_at_end(case)
                args = [a, am, ak, step, columns, bk, packed, to, cm, cn, m, k, used, more]
                with builder.if_else(code.test(used, ">", code.lanes // 2)) as (most, few):
                    with most:
                        builder.call(strip(code, w, code.lanes), args)
                    with few:
                        builder.call(strip(code, w, code.lanes // 2), args)
                builder.branch(after)
            builder.position_at_end(after)

    p = code.pointer
    kinds = [p, SIZE, SIZE, SIZE, p, SIZE, BIT, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    return code.define("block", kinds, write, inline=True)


def copy(code: Code, lanes: int) -> ir.Function:
    """``to[k step + i] = from[i across + k along]`` for ``i < count <= lanes``; may write ``lanes`` more steps."""

    def write(code: Code, from_: Any, across: Any, along: Any, to: Any, step: Any, count: Any, k: Any) -> None:
        builder = code.builder

        def by_rows() -> None:
            mask = code.mask(count, lanes)
            with code.steps(k, 1) as n:
                code.store(code.load(code.at(from_, code.mul(n, along)), lanes, mask), code.at(to, code.mul(n, step)))

        def by_squares() -> None:
            # Past the last row it is read again: lanes that no mask lets through may still cost a fault each.
            starts = [code.at(from_, code.mul(code.smaller(size(i), code.sub(count, 1)), across)) for i in range(lanes)]

            def square(n: ir.Value, mask: ir.Value | None) -> None:
                got = [code.load(code.at(start, n), lanes, mask) for start in starts]
                for i, column in enumerate(code.transposed(got)):
                    code.store(column, code.at(to, code.mul(code.add(n, i), step)))

            whole = builder.and_(k, size(-lanes))
            with code.steps(whole, lanes) as n:
                square(n, None)
            with builder.if_then(code.test(whole, "<", k)):
                square(whole, code.mask(code.sub(k, whole), lanes))

        def by_elements() -> None:
            with code.steps(k, 1) as n, code.steps(count, 1) as i:
                value = builder.load(code.at(from_, code.mul(i, across), code.mul(n, along)))
                builder.store(value, code.at(to, code.mul(n, step), i))

        with builder.if_else(code.test(across, "==", 1)) as (then, other):
            with then:
                by_rows()
            with other, builder.if_else(code.test(along, "==", 1)) as (then, other):
                with then:
                    by_squares()
                with other:
                    by_elements()

    p = code.pointer
    return code.define(f"copy_{lanes}", [p, SIZE, SIZE, p, SIZE, SIZE, SIZE], write)


def copy_strips(code: Code, y: Any, yk: Any, yn: Any, to: Any, k: Any, n: Any) -> None:
    """y in the order in which strips read it; ``to`` has room for `room` elements."""
    lanes = code.lanes
    with Strips(code, n) as (first, width), code.steps(width, 1) as v:
        column = code.add(first, code.mul(v, lanes))
        place = code.at(to, code.mul(first, k), code.mul(v, lanes))
        count = code.smaller(code.sub(n, column), lanes)
        from_ = code.at(y, code.mul(column, yn))
        args = [from_, yn, yk, place, code.mul(width, lanes), count, k]
        with code.builder.if_else(code.test(count, "<=", rows())) as (few, many):
            with few:
                code.builder.call(copy(code, min(rows(), lanes)), args)
            with many:
                code.builder.call(copy(code, lanes), args)


def room(code: Code, k: ir.Value, n: ir.Value) -> ir.Value:
    return code.mul(code.mul(code.up(n, code.lanes), code.lanes), code.add(k, code.lanes))


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
        wide = even(code, n, WIDE // item // DEPTH // lanes * lanes, lanes)
        deep = even(code, k, DEPTH, 1)
        high = even(code, m, TALL // item // DEPTH // tall * tall, tall)

        byte = ir.IntType(8).as_pointer()  # Python's allocator: there on every platform, and needs no lock of Python
        take = cgutils.get_or_insert_function(builder.module, ir.FunctionType(byte, [SIZE]), "PyMem_RawMalloc")
        give = cgutils.get_or_insert_function(builder.module, ir.FunctionType(ir.VoidType(), [byte]), "PyMem_RawFree")
        for_x = builder.select(copy_x, code.mul(high, code.add(deep, tall)), size(0))
        for_y = builder.select(copy_y, room(code, deep, wide), size(0))
        held = builder.call(take, [code.add(code.mul(code.add(for_x, for_y), item), 64)])
        aligned = builder.and_(code.add(builder.ptrtoint(held, SIZE), 63), size(-64))
        for_y_copy = builder.inttoptr(aligned, code.pointer)
        for_x_copy = code.at(for_y_copy, for_y)

        with code.steps(n, wide) as j, code.steps(k, deep) as p:
            width, depth = code.smaller(code.sub(n, j), wide), code.smaller(code.sub(k, p), deep)
            add = builder.or_(more, code.test(p, ">", 0))
            b = code.at(y, code.mul(p, yk), code.mul(j, yn))
            with builder.if_then(copy_y):
                copy_strips(code, b, yk, yn, for_y_copy, depth, width)
            b = builder.select(copy_y, for_y_copy, b)
            with code.steps(m, high) as i:
                height = code.smaller(code.sub(m, i), high)
                a = code.at(x, code.mul(i, xm), code.mul(p, xk))
                with builder.if_then(copy_x), code.steps(height, tall) as r:
                    count = code.smaller(code.sub(height, r), tall)
                    place, from_ = code.at(for_x_copy, code.mul(r, depth)), code.at(a, code.mul(r, xm))
                    builder.call(copy(code, tall), [from_, xm, xk, place, size(tall), count, depth])
                a = builder.select(copy_x, for_x_copy, a)
                am, ak = builder.select(copy_x, size(1), xm), builder.select(copy_x, size(tall), xk)
                step = code.mul(builder.select(copy_x, depth, xm), tall)
                to = code.at(c, code.mul(i, cm), code.mul(j, cn))
                builder.call(block(code), [a, am, ak, step, b, yk, copy_y, to, cm, cn, height, width, depth, add])
        builder.call(give, [held])

    p = code.pointer
    kinds = [BIT, BIT, p, SIZE, SIZE, p, SIZE, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    return code.define("blocked", kinds, write)


def nearby(code: Code) -> ir.Function:
    """A small product whose y has to be copied: on the stack."""

    def write(
        code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, yn: Any, c: Any, cm: Any, cn: Any,
        m: Any, n: Any, k: Any, more: Any,
    ) -> None:  # fmt: skip
        place = code.space(STACK * 8 // code.bits)
        copy_strips(code, y, yk, yn, place, k, n)
        step = code.mul(xm, rows())
        yes = ir.Constant(BIT, 1)
        code.builder.call(block(code), [x, xm, xk, step, place, yk, yes, c, cm, cn, m, n, k, more])

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
        far_x = code.test(code.mul(code.mul(m, k), item), ">", NEAR)
        far_y = code.test(code.mul(code.mul(n, k), item), ">", NEAR)
        copy_x = builder.and_(far_x, code.test(n, ">", 2 * VECTORS * code.lanes))
        copy_y = builder.and_(far_y, code.test(m, ">", 4 * rows()))
        must = code.test(yn, "!=", 1)
        if not host().masks:  # a row of y may end within a vector, and only copies may be read further
            must = builder.or_(must, code.test(builder.and_(n, size(code.lanes - 1)), "!=", 0))
        copy_y = builder.or_(copy_y, must)
        some = code.test(code.mul(code.mul(m, n), k), "!=", 0)
        strides = [x, xm, xk, y, yk, yn, c, cm, cn, m, n, k, more]
        far = builder.or_(far_x, far_y)
        with builder.if_else(builder.and_(some, builder.or_(far, must))) as (parts, whole):
            with parts:
                fits = code.test(code.mul(room(code, k, n), item), "<=", STACK)
                with builder.if_else(builder.and_(fits, builder.not_(far))) as (small, large):
                    with small:
                        builder.call(nearby(code), strides)
                    with large:
                        builder.call(blocked(code), [copy_x, copy_y, *strides])
            with whole:
                no = ir.Constant(BIT, 0)
                step = code.mul(xm, rows())
                builder.call(block(code), [x, xm, xk, step, y, yk, no, c, cm, cn, m, n, k, more])

    p = code.pointer
    kinds = [p, SIZE, SIZE, p, SIZE, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    return code.define("product", kinds, write, inline=True)
