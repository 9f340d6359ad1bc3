"""Products of a matrix and one vector or a few, at the rate of memory; knows strides and vectors, not arrays."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from llvmlite import ir

from staticad.runtime.kernels.vectors import BIT, SIZE, Code, size

ROWS = 8  # of y that are added to the result in one sweep
CHAINS = 8  # of sums in a sweep of dot products


def by_rows(code: Code) -> ir.Function:
    """``c[j] (+)= sum_k x[k xk] y[k yk + j]``: rows of y, which are read once and in order, are added to c."""

    def write(code: Code, x: Any, xk: Any, y: Any, yk: Any, c: Any, n: Any, k: Any, more: Any) -> None:
        builder, lanes = code.builder, code.lanes
        whole = builder.and_(n, size(-lanes))
        rest = code.mask(code.sub(n, whole), lanes)

        def sweep(first: ir.Value, count: int) -> None:
            places = [code.add(first, i) for i in range(count)]
            xs = [code.splat(builder.load(code.at(x, code.mul(p, xk))), lanes) for p in places]
            ys = [code.at(y, code.mul(p, yk)) for p in places]

            def step(j: ir.Value, mask: ir.Value | None) -> None:
                acc = code.load(code.at(c, j), lanes, mask)
                for scale, row in zip(xs, ys, strict=True):
                    acc = code.fma(scale, code.load(code.at(row, j), lanes, mask), acc)
                code.store(acc, code.at(c, j), mask)

            with code.steps(whole, lanes) as j:
                step(j, None)
            with builder.if_then(code.test(whole, "<", n)):
                step(whole, rest)

        with builder.if_then(builder.not_(more)):
            with code.steps(whole, lanes) as j:
                code.store(code.zeros(lanes), code.at(c, j))
            with builder.if_then(code.test(whole, "<", n)):
                code.store(code.zeros(lanes), code.at(c, whole), rest)
        blocks = builder.and_(k, size(-ROWS))
        with code.steps(blocks, ROWS) as first:
            sweep(first, ROWS)
        with code.steps(k, 1, blocks) as first:
            sweep(first, 1)

    p = code.pointer
    return code.define("gemv_by_rows", [p, SIZE, p, SIZE, p, SIZE, SIZE, BIT], write)


def by_dots(code: Code) -> ir.Function:
    """``c[i cm + j cn] (+)= sum_k x[i xm + k] y[j yn + k]``: dot products, a few rows of y at once with each of x."""

    def write(
        code: Code, x: Any, xm: Any, y: Any, yn: Any, c: Any, cm: Any, cn: Any, m: Any, n: Any, k: Any, more: Any
    ) -> None:  # fmt: skip
        builder, lanes = code.builder, code.lanes

        def dots(x: ir.Value, c: ir.Value, first: ir.Value, count: int) -> None:
            chains = CHAINS // count
            places = [code.add(first, i) for i in range(count)]
            ys = [code.at(y, code.mul(j, yn)) for j in places]
            acc = [code.variables(chains, code.kind(lanes)) for _ in range(count)]
            for held in acc:
                for place in held:
                    builder.store(code.zeros(lanes), place)

            def step(p: ir.Value, chain: int, mask: ir.Value | None) -> None:
                factor = code.load(code.at(x, p), lanes, mask)
                for row, held in zip(ys, acc, strict=True):
                    term = code.fma(factor, code.load(code.at(row, p), lanes, mask), builder.load(held[chain]))
                    builder.store(term, held[chain])

            whole = builder.and_(k, size(-lanes * chains))
            with code.steps(whole, lanes * chains) as p:
                for chain in range(chains):
                    step(code.add(p, chain * lanes), chain, None)
            with code.steps(k, lanes, whole) as p:
                step(p, 0, code.mask(code.sub(k, p), lanes))
            for j, held in zip(places, acc, strict=True):
                values = [builder.load(place) for place in held]
                while len(values) > 1:
                    half = len(values) // 2
                    values = [builder.fadd(u, v) for u, v in zip(values[:half], values[half:], strict=True)]
                total, to = code.total(values[0]), code.at(c, code.mul(j, cn))
                with builder.if_else(more) as (adds, sets):
                    with adds:
                        builder.store(builder.fadd(builder.load(to), total), to)
                    with sets:
                        builder.store(total, to)

        blocks = builder.and_(n, size(-4))
        with code.steps(blocks, 4) as first, code.steps(m, 1) as i:
            dots(code.at(x, code.mul(i, xm)), code.at(c, code.mul(i, cm)), first, 4)
        with code.steps(n, 1, blocks) as first, code.steps(m, 1) as i:
            dots(code.at(x, code.mul(i, xm)), code.at(c, code.mul(i, cm)), first, 1)

    p = code.pointer
    return code.define("gemv_by_dots", [p, SIZE, p, SIZE, p, SIZE, SIZE, SIZE, SIZE, SIZE, BIT], write)
