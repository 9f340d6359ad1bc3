"""A batch of products shared among threads: along the batch, the rows, the columns or the sum; knows no tiles."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from staticad.runtime.flow import declared, room
from staticad.runtime.kernels import spread
from staticad.runtime.kernels.vectors import BIT, SIZE, Code, size

ROWS = 8  # that rows are cut in multiples of
NARROW = 4096  # elements of the result up to which a long sum may be cut
STEEP = 8  # as many times longer than rows and columns together
BYTES = 16  # of memory that a core gets through in a nanosecond


class Batch(NamedTuple):
    """``out[b, i, j] (+)= sum_k x[b, i, k] y[b, k, j]``: where the three begin, their strides, and the extents."""

    x: ir.Value
    xb: ir.Value
    xm: ir.Value
    xk: ir.Value
    y: ir.Value
    yb: ir.Value
    yk: ir.Value
    yn: ir.Value
    out: ir.Value
    ob: ir.Value
    om: ir.Value
    on: ir.Value
    nb: ir.Value
    nm: ir.Value
    nn: ir.Value
    nk: ir.Value
    more: ir.Value


One = Callable[..., None]  # (code, x, xm, xk, y, yk, yn, out, om, on, nm, nn, nk, more): one product


def products(code: Code, one: One, batch: Batch, rate: int, alone: ir.Value) -> None:
    """Every product of a batch, on several threads if there is much to do: ``rate`` is how many terms of a sum a core
    adds in a nanosecond. With ``alone`` the calling thread does it."""
    builder = code.builder
    terms = code.mul(code.mul(batch.nb, batch.nm), code.mul(batch.nn, batch.nk))
    # A term takes an element of x or y at least: that is what memory gives.
    some = code.test(terms, ">=", 2 * spread.LEAST // spread.UNITS * min(rate, BYTES * 8 // code.bits))
    some = builder.and_(some, builder.not_(alone))
    with builder.if_else(some, likely=False) as (large, small):
        with large:
            builder.call(shared(code, once(code, one), rate), pack(builder, batch))
        with small:
            in_turn(code, one, batch)


def once(code: Code, one: One) -> One:
    """One product as a call of a function."""
    p = code.pointer
    kinds = [p, SIZE, SIZE, p, SIZE, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT]
    function = code.define("one_product", kinds, one)
    return lambda code, *args: code.builder.call(function, args)


def in_turn(code: Code, one: One, b: Batch) -> None:
    with code.steps(b.nb, 1) as k:
        x, y, out = (code.at(p, code.mul(k, s)) for p, s in ((b.x, b.xb), (b.y, b.yb), (b.out, b.ob)))
        one(code, x, b.xm, b.xk, y, b.yk, b.yn, out, b.om, b.on, b.nm, b.nn, b.nk, b.more)


def pack(builder: ir.IRBuilder, batch: Batch) -> list[ir.Value]:
    """The batch as words."""
    words: list[ir.Value] = []
    for value in batch:
        if isinstance(value.type, ir.PointerType):
            words.append(builder.ptrtoint(value, SIZE))
        else:
            words.append(builder.zext(value, SIZE) if value.type == BIT else value)
    return words


def unpack(code: Code, words: list[Any]) -> Batch:
    found = dict(zip(Batch._fields, words, strict=True))
    for name in ("x", "y", "out"):
        found[name] = code.builder.inttoptr(found[name], code.pointer)
    found["more"] = code.builder.trunc(found["more"], BIT)
    return Batch(**found)


# How a batch is cut: a number that stands behind its words.
BATCHES, IN_ROWS, IN_COLUMNS, IN_SUM = range(4)
WORDS = len(Batch._fields)
CUT, PARTIALS = WORDS, WORDS + 1


def shared(code: Code, one: One, rate: int) -> ir.Function:
    """The products of a batch given as words, shared among threads where that pays."""

    def write(code: Code, *words: Any) -> None:
        builder, b = code.builder, unpack(code, list(words))
        floats = isinstance(code.element, (ir.FloatType, ir.DoubleType))
        terms = code.mul(code.mul(b.nb, b.nm), code.mul(b.nn, b.nk))
        elements = code.mul(b.nb, code.add(code.mul(b.nm, b.nk), code.mul(b.nn, code.add(b.nk, b.nm))))
        time, load = code.div(terms, rate), code.div(code.mul(elements, code.bits // 8), BYTES)
        work = code.mul(builder.select(code.test(time, ">", load), time, load), spread.UNITS)

        flat = code.mul(b.nm, b.nn)
        deep = code.test(b.nk, ">", code.mul(code.add(b.nm, b.nn), STEEP))
        deep = builder.and_(deep, builder.and_(code.test(flat, "<=", NARROW), code.test(b.nb, "==", 1)))
        deep = builder.and_(deep, ir.Constant(BIT, floats))
        down = code.test(b.nm, ">=", b.nn)
        pieces = builder.select(down, code.up(b.nm, ROWS), code.up(b.nn, code.lanes))
        cut = builder.select(down, size(IN_ROWS), size(IN_COLUMNS))
        pieces, cut = builder.select(deep, b.nk, pieces), builder.select(deep, size(IN_SUM), cut)
        many = code.test(b.nb, ">=", pieces)
        pieces, cut = builder.select(many, b.nb, pieces), builder.select(many, size(BATCHES), cut)

        chunks = spread.chunks(builder, pieces, work, size(0))
        place = room(builder, SIZE, WORDS + 2)
        for k, word in enumerate([*words, cut]):
            builder.store(word, code.at(place, k))
        byte = ir.IntType(8).as_pointer()
        data, function = builder.bitcast(place, byte), part(code, one)
        with builder.if_else(code.test(chunks, "==", 1)) as (alone, together):
            with alone:
                in_turn(code, one, b)
            with together:
                launch = spread.run(builder.module)
                if not floats:
                    builder.call(launch, [function, data, chunks])
                else:
                    with builder.if_else(code.test(cut, "==", IN_SUM)) as (summed, apart):
                        with summed:
                            sum_in_parts(code, b, place, lambda: builder.call(launch, [function, data, chunks]), chunks)
                        with apart:
                            builder.call(launch, [function, data, chunks])

    return code.define("shared", [SIZE] * WORDS, write)


def sum_in_parts(code: Code, b: Batch, words: ir.Value, work: Callable[[], Any], chunks: ir.Value) -> None:
    """The first chunk of ``work`` adds to out, the others to places of their own, which are then added in order."""
    builder, byte = code.builder, ir.IntType(8).as_pointer()
    take = declared(builder.module, ir.FunctionType(byte, [SIZE]), "PyMem_RawMalloc")
    give = declared(builder.module, ir.FunctionType(ir.VoidType(), [byte]), "PyMem_RawFree")
    flat = code.mul(b.nm, b.nn)
    held = builder.call(take, [code.mul(code.mul(code.sub(chunks, 1), flat), code.bits // 8)])
    builder.store(builder.ptrtoint(held, SIZE), code.at(words, PARTIALS))
    work()
    from_ = builder.bitcast(held, code.pointer)
    with code.steps(code.sub(chunks, 1), 1) as c, code.steps(b.nm, 1) as i, code.steps(b.nn, 1) as j:
        value = builder.load(code.at(from_, code.mul(c, flat), code.mul(i, b.nn), j))
        to = code.at(b.out, code.mul(i, b.om), code.mul(j, b.on))
        builder.store(builder.fadd(builder.load(to), value), to)
    builder.call(give, [held])


def part(code: Code, one: One) -> ir.Function:
    """What one thread does: its batches, rows, columns or part of the sum."""
    function, new = spread.define(code.builder.module, f"part_{code.bits}", spread.CHUNK)
    if not new:
        return function
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    code = Code(builder, code.element, code.bits)
    data, chunk, chunks = function.args
    place = builder.bitcast(data, SIZE.as_pointer())
    words = [builder.load(code.at(place, k)) for k in range(WORDS + 2)]
    b = unpack(code, words[:WORDS])

    def own(total: ir.Value, unit: int) -> tuple[ir.Value, ir.Value]:
        """The first of this chunk's part of ``total``, a multiple of ``unit``, and how many there are."""
        pieces = code.up(total, unit)
        ends = [code.mul(code.div(code.mul(pieces, c), chunks), unit) for c in (chunk, code.add(chunk, 1))]
        return ends[0], code.sub(code.smaller(ends[1], total), ends[0])

    otherwise = function.append_basic_block("otherwise")
    end = function.append_basic_block("end")
    switch = builder.switch(words[CUT], otherwise)

    def case(kind: int, name: str, changed: Callable[[], Batch]) -> None:
        block = function.append_basic_block(name)
        switch.add_case(size(kind), block)
        builder.position_at_end(block)
        in_turn(code, one, changed())
        builder.branch(end)

    def batches() -> Batch:
        first, count = own(b.nb, 1)
        x, y, out = (code.at(p, code.mul(first, s)) for p, s in ((b.x, b.xb), (b.y, b.yb), (b.out, b.ob)))
        return b._replace(x=x, y=y, out=out, nb=count)

    def rows() -> Batch:
        first, count = own(b.nm, ROWS)
        x, out = code.at(b.x, code.mul(first, b.xm)), code.at(b.out, code.mul(first, b.om))
        return b._replace(x=x, out=out, nm=count)

    def columns() -> Batch:
        first, count = own(b.nn, code.lanes)
        y, out = code.at(b.y, code.mul(first, b.yn)), code.at(b.out, code.mul(first, b.on))
        return b._replace(y=y, out=out, nn=count)

    def summed() -> Batch:
        first, count = own(b.nk, 1)
        x, y = code.at(b.x, code.mul(first, b.xk)), code.at(b.y, code.mul(first, b.yk))
        lead = code.test(chunk, "==", 0)
        mine = code.at(
            builder.inttoptr(words[PARTIALS], code.pointer), code.mul(code.sub(chunk, 1), code.mul(b.nm, b.nn))
        )
        return b._replace(
            x=x, y=y, nk=count,
            out=builder.select(lead, b.out, mine),
            om=builder.select(lead, b.om, b.nn),
            on=builder.select(lead, b.on, size(1)),
            more=builder.and_(lead, b.more),
        )  # fmt: skip

    case(BATCHES, "batches", batches)
    case(IN_ROWS, "rows", rows)
    case(IN_COLUMNS, "columns", columns)
    case(IN_SUM, "sum", summed)
    builder.position_at_end(otherwise)
    builder.unreachable()
    builder.position_at_end(end)
    builder.ret(spread.word(0))
    return function
