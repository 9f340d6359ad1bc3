"""The function by which Python calls every compiled program; knows how arrays lie in memory, as `runtime.gate` says."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from llvmlite import ir

from staticad.runtime import machine
from staticad.runtime.codes import REFUSED
from staticad.runtime.flow import declared, steps
from staticad.runtime.gate import (
    COUNT,
    DATA,
    DTYPE,
    ENTRY,
    FIRST,
    FLAGS,
    HEADER,
    NDIM,
    SHAPE,
    STEP,
    TOTAL,
    TYPE,
    WORD,
    WORDS,
)
from staticad.runtime.kernels.values import INTP


def write(symbol: str) -> str:
    """The function ``PyObject *(PyObject *table, PyObject *const *args, Py_ssize_t count)``, for all programs."""
    module = machine.module(symbol)
    object_, half = ir.IntType(8).as_pointer(), ir.IntType(32)
    words = INTP.as_pointer()
    function = ir.Function(module, ir.FunctionType(object_, [object_, words, INTP]), symbol)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    refused = function.append_basic_block("refused")
    self_, given, count = function.args

    def number(value: int) -> ir.Value:
        return ir.Constant(INTP, value)

    def field(array: ir.Value, at: int, kind: ir.Type = INTP) -> ir.Value:
        address = builder.gep(array, [number(HEADER + WORD * at)])
        return builder.load(builder.bitcast(address, kind.as_pointer()))

    def require(condition: ir.Value, name: str) -> None:
        then = function.append_basic_block(name)
        builder.cbranch(condition, then, refused)
        builder.position_at_end(then)

    def word(base: ir.Value, at: int) -> ir.Value:
        return builder.load(builder.gep(base, [number(at)]))

    def python(name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        kind = ir.FunctionType(result, [arg.type for arg in args])
        known = declared(module, kind, name)
        return builder.call(known, args)

    table = field(self_, DATA, words)
    require(builder.icmp_signed("==", count, word(table, COUNT)), "counted")
    array_type = word(table, TYPE)
    made = builder.alloca(INTP, word(table, WORDS))
    argument, place, to = (builder.alloca(kind) for kind in (words, words, words))
    first = builder.gep(table, [number(FIRST)])
    end = builder.gep(first, [builder.mul(word(table, TOTAL), number(STEP))])
    for where, value in ((argument, first), (place, given), (to, made)):
        builder.store(value, where)
    test, body, done = (function.append_basic_block(name) for name in ("test", "body", "done"))
    builder.branch(test)
    builder.position_at_end(test)
    entry = builder.load(argument)
    builder.cbranch(builder.icmp_unsigned("<", entry, end), body, done)

    builder.position_at_end(body)
    bound = builder.icmp_signed("!=", builder.load(entry), number(0))
    next_ = builder.load(place)
    array = builder.inttoptr(builder.load(builder.select(bound, entry, next_)), object_)
    builder.store(builder.gep(next_, [builder.select(bound, number(0), number(1))]), place)
    require(builder.icmp_signed("==", field(array, -1), array_type), "array")
    needed = builder.trunc(word(entry, 2), half)
    rank = word(entry, 3)
    flags = builder.and_(field(array, FLAGS, half), needed)
    fits = builder.icmp_signed("==", field(array, DTYPE), word(entry, 1))
    fits = builder.and_(fits, builder.icmp_signed("==", flags, needed))
    fits = builder.and_(fits, builder.icmp_signed("==", field(array, NDIM, half), builder.trunc(rank, half)))
    require(fits, "fits")
    sizes, out = field(array, SHAPE, words), builder.load(to)
    builder.store(field(array, DATA), out)
    with steps(builder, rank) as axis:
        size = builder.load(builder.gep(sizes, [axis]))
        builder.store(size, builder.gep(out, [builder.add(axis, number(1))]))
    builder.store(builder.gep(out, [builder.add(rank, number(1))]), to)
    builder.store(builder.gep(entry, [number(STEP)]), argument)
    builder.branch(test)

    builder.position_at_end(done)
    main = builder.inttoptr(word(table, ENTRY), ir.FunctionType(INTP, [words]).as_pointer())
    state = python("PyEval_SaveThread", object_)
    status = builder.call(main, [made])
    python("PyEval_RestoreThread", ir.VoidType(), state)
    builder.ret(python("PyLong_FromLongLong", object_, status))
    builder.position_at_end(refused)
    builder.ret(python("PyLong_FromLongLong", object_, number(REFUSED)))
    return str(module)
