"""Copies of parts of matrices in the order in which products read them; knows strides and vectors, not products."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir

from staticad.runtime.kernels.vectors import SIZE, Code, size


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

            far = builder.select(code.test(count, "==", lanes), code.mul(across, lanes), size(0))

            def square(n: ir.Value, mask: ir.Value | None) -> None:
                got = [code.load(code.at(start, n), lanes, mask) for start in starts]
                for start in starts:
                    code.prefetch(code.at(start, n), far)
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


def copy_rows(code: Code) -> ir.Function:
    """``to[i step + j] = from[i across + j along]`` for ``i < count`` and ``j < length``."""

    def write(code: Code, from_: Any, across: Any, along: Any, to: Any, step: Any, count: Any, length: Any) -> None:
        builder, lanes = code.builder, code.lanes
        whole = builder.and_(length, size(-lanes))
        start = builder.select(code.test(along, "==", 1), whole, size(0))
        with code.steps(count, 1) as i:
            row, place = code.at(from_, code.mul(i, across)), code.at(to, code.mul(i, step))
            with code.steps(start, lanes) as j:
                code.store(code.load(code.at(row, j), lanes), code.at(place, j))
            with code.steps(length, 1, start) as j:
                builder.store(builder.load(code.at(row, code.mul(j, along))), code.at(place, j))

    p = code.pointer
    return code.define("copy_rows", [p, SIZE, SIZE, p, SIZE, SIZE, SIZE], write)


def copy_strip(
    code: Code, narrow: int, y: Any, yk: Any, yn: Any, to: Any, first: Any, width: Any, n: Any, k: Any
) -> None:
    """``width`` vectors of columns of y from ``first`` of ``n`` on, which is at ``y``; vectors of ``narrow`` lanes are
    moved where no more are needed."""
    lanes = code.lanes
    with code.steps(width, 1) as v:
        place = code.mul(v, lanes)
        count = code.smaller(code.sub(n, code.add(first, place)), lanes)
        args = [code.at(y, code.mul(place, yn)), yn, yk, code.at(to, place), code.mul(width, lanes), count, k]
        with code.builder.if_else(code.test(count, "<=", narrow)) as (few, many):
            with few:
                code.builder.call(copy(code, min(narrow, lanes)), args)
            with many:
                code.builder.call(copy(code, lanes), args)
