"""Products of a matrix and one vector or a few, at the rate of memory; knows strides and vectors, not arrays."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir

from staticad.runtime.kernels.vectors import BIT, SIZE, Code, host, size

COUNTS = (8, 4, 2, 1)  # of rows of y that are added to the result in one sweep
CHAINS = 8  # of sums in a sweep of dot products


def by_rows(code: Code) -> ir.Function:
    """``c[i cm + j] (+)= sum_k x[i xm + k xk] y[k yk + j]``: scaled rows of y are added to each row of c."""

    def write(
        code: Code, x: Any, xm: Any, xk: Any, y: Any, yk: Any, c: Any, cm: Any, m: Any, n: Any, k: Any, more: Any
    ) -> None:  # fmt: skip
        builder, lanes = code.builder, code.lanes
        whole = builder.and_(n, size(-lanes))
        rest = code.mask(code.sub(n, whole), lanes)

        def sweep(x: ir.Value, c: ir.Value, first: ir.Value, count: int, adds: bool) -> None:
            places = [code.add(first, i) for i in range(count)]
            xs = [code.splat(builder.load(code.at(x, code.mul(p, xk))), lanes) for p in places]
            ys = [code.at(y, code.mul(p, yk)) for p in places]

            def step(j: ir.Value, mask: ir.Value | None) -> None:
                acc = code.load(code.at(c, j), lanes, mask) if adds else code.zeros(lanes)
                for scale, row in zip(xs, ys, strict=True):
                    acc = code.fma(scale, code.load(code.at(row, j), lanes, mask), acc)
                code.store(acc, code.at(c, j), mask)

            with code.steps(whole, lanes) as j:
                step(j, None)
            with builder.if_then(code.test(whole, "<", n)):
                step(whole, rest)

        with code.steps(m, 1) as i:
            row, to = code.at(x, code.mul(i, xm)), code.at(c, code.mul(i, cm))
            (done,) = code.variables(1, SIZE)
            builder.store(size(0), done)
            with builder.if_then(builder.not_(more)):
                last = builder.append_basic_block("begun")
                for count in COUNTS:
                    with builder.if_then(code.test(k, ">=", count)):
                        sweep(row, to, size(0), count, False)
                        builder.store(size(count), done)
                        builder.branch(last)
                sweep(row, to, size(0), 0, False)
                builder.branch(last)
                builder.position_at_end(last)
            for count in COUNTS:
                start = builder.load(done)
                blocks = code.add(start, builder.and_(code.sub(k, start), size(-count)))
                with code.steps(blocks, count, start) as first:
                    sweep(row, to, first, count, True)
                builder.store(blocks, done)

    p = code.pointer
    return code.define("gemv_by_rows", [p, SIZE, SIZE, p, SIZE, p, SIZE, SIZE, SIZE, SIZE, BIT], write)


def by_dots(code: Code) -> ir.Function:
    """``c[i cm + j cn] (+)= sum_k x[i xm + k] y[j yn + k]``: dot products, of a few rows of x with a few of y."""

    def write(
        code: Code, x: Any, xm: Any, y: Any, yn: Any, c: Any, cm: Any, cn: Any, m: Any, n: Any, k: Any, more: Any
    ) -> None:  # fmt: skip
        builder, lanes = code.builder, code.lanes

        def dots(x: ir.Value, y: ir.Value, c: ir.Value, tall: int, wide: int) -> None:
            chains = max(1, CHAINS // (tall * wide))
            cells = [(i, j) for i in range(tall) for j in range(wide)]
            acc = {cell: code.variables(chains, code.kind(lanes)) for cell in cells}
            for held in acc.values():
                for place in held:
                    builder.store(code.zeros(lanes), place)
            xs = [code.at(x, code.mul(xm, i)) for i in range(tall)]
            ys = [code.at(y, code.mul(yn, j)) for j in range(wide)]

            def step(p: ir.Value, chain: int, mask: ir.Value | None) -> None:
                others = [code.load(code.at(row, p), lanes, mask) for row in ys]
                for i, row in enumerate(xs):
                    factor = code.load(code.at(row, p), lanes, mask)
                    for j, other in enumerate(others):
                        place = acc[i, j][chain]
                        builder.store(code.fma(factor, other, builder.load(place)), place)

            whole = builder.and_(k, size(-lanes * chains))
            with code.steps(whole, lanes * chains) as p:
                for chain in range(chains):
                    step(code.add(p, chain * lanes), chain, None)
            with code.steps(k, lanes, whole) as p:
                step(p, 0, code.mask(code.sub(k, p), lanes))
            for (i, j), held in acc.items():
                values = [builder.load(place) for place in held]
                while len(values) > 1:
                    half = len(values) // 2
                    values = [builder.fadd(u, v) for u, v in zip(values[:half], values[half:], strict=True)]
                total, to = code.total(values[0]), code.at(c, code.mul(cm, i), code.mul(cn, j))
                with builder.if_else(more) as (adds, sets):
                    with adds:
                        builder.store(builder.fadd(builder.load(to), total), to)
                    with sets:
                        builder.store(total, to)

        tallest = host().registers // 8  # with four sums in each row, these and what they are sums of are in registers

        def columns(start: ir.Value | int, stop: ir.Value, wide: int) -> None:
            with code.steps(stop, wide, start) as j:
                column, to, done, tall = code.at(y, code.mul(j, yn)), code.at(c, code.mul(j, cn)), size(0), tallest
                while tall:
                    end = builder.and_(m, size(-tall))
                    with code.steps(end, tall, done) as i:
                        dots(code.at(x, code.mul(i, xm)), column, code.at(to, code.mul(i, cm)), tall, wide)
                    done, tall = end, tall // 2

        blocks = builder.and_(n, size(-4))
        columns(0, blocks, 4)
        columns(blocks, n, 1)

    p = code.pointer
    return code.define("gemv_by_dots", [p, SIZE, p, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT], write)
