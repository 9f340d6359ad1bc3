"""Control flow and places on the stack, as LLVM code; knows nothing of what is computed."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from llvmlite import ir

WORD = ir.IntType(64)


def declared(module: ir.Module, kind: ir.FunctionType, name: str) -> ir.Function:
    """A function of that name in a module, declared if need be."""
    return module.globals.get(name) or ir.Function(module, kind, name)


def room(builder: ir.IRBuilder, kind: ir.Type, count: int | None = None, name: str = "") -> ir.Value:
    """Room for a value (or ``count``) on the stack of the function; with anything in it."""
    with builder.goto_entry_block():
        return builder.alloca(kind, count, name)


def placed(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """Room for a value, which is put there here."""
    found = room(builder, value.type)
    builder.store(value, found)
    return found


@contextlib.contextmanager
def unlikely(builder: ir.IRBuilder, condition: ir.Value) -> Iterator[None]:
    with builder.if_then(condition, likely=False):
        yield


@contextlib.contextmanager
def steps(
    builder: ir.IRBuilder, stop: ir.Value, start: ir.Value | None = None, step: ir.Value | None = None
) -> Iterator[ir.Value]:
    """A loop over ``start`` (0), ``start + step`` (1), ... below ``stop``."""
    start = ir.Constant(stop.type, 0) if start is None else start
    step = ir.Constant(stop.type, 1) if step is None else step
    before, (test, body, done) = builder.block, map(builder.append_basic_block, ("test", "body", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    index = builder.phi(stop.type)
    index.add_incoming(start, before)
    builder.cbranch(builder.icmp_signed("<", index, stop), body, done)
    builder.position_at_end(body)
    yield index
    index.add_incoming(builder.add(index, step), builder.block)
    builder.branch(test)
    builder.position_at_end(done)


def clear(builder: ir.IRBuilder, data: ir.Value, size: ir.Value) -> None:
    """Make so many bytes zero."""
    byte = ir.IntType(8)
    kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), byte, WORD, ir.IntType(1)])
    function = declared(builder.module, kind, "llvm.memset.p0.i64")
    builder.call(function, [builder.bitcast(data, byte.as_pointer()), byte(0), size, ir.IntType(1)(0)])


def copy(builder: ir.IRBuilder, to: ir.Value, from_: ir.Value, size: ir.Value) -> None:
    """Copy so many bytes; the two do not overlap."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte, byte, WORD, ir.IntType(1)])
    function = declared(builder.module, kind, "llvm.memcpy.p0.p0.i64")
    builder.call(function, [*(builder.bitcast(x, byte) for x in (to, from_)), size, ir.IntType(1)(0)])
