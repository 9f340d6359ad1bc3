"""The door from Python into a compiled program: looks at NumPy arrays as they lie in memory; knows no conversion.

Numba's own wrapper finds out the type of each argument anew and takes a counted reference to it. Here, a program's
types are known beforehand: a few loads and compares for each array tell whether it fits, and arrays that stay the same
(parameters) are bound once. What does not fit is refused by the status code -1, never touched.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, config
from numba.np.numpy_support import as_dtype

from staticad.runtime.call import canonical
from staticad.runtime.functions import Entry, pointer
from staticad.runtime.kernels.memory import INTP
from staticad.runtime.kernels.shared import ready
from staticad.runtime.translate import REFUSED

Array = np.ndarray[Any, Any]

HEADER = object.__basicsize__  # of every Python object; the last word of it is its type
WORD = ctypes.sizeof(ctypes.c_void_p)
# Where the fields of an array object stand, in words after the header; NumPy promises them to compiled extensions.
DATA, NDIM, SHAPE, DTYPE, FLAGS = 0, 1, 2, 5, 6
CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
METH_FASTCALL = 0x80

# The table that a bound program looks into: how many arguments it is called with, the type of arrays, its address, how
# many arguments it has and how many words that makes for it; and for each argument these words: the array if it is
# bound, else 0; its dtype; the flags that it needs; its rank.
COUNT, TYPE, ENTRY, TOTAL, WORDS, FIRST = range(6)
STEP = 4


@functools.cache
def available() -> bool:
    """Whether arrays lie in memory as this module believes; looked up in one whose fields are known."""
    array = np.zeros((3, 5), "f4")
    words = (ctypes.c_size_t * (HEADER // WORD + 7)).from_address(id(array))
    fields = words[HEADER // WORD :]
    if WORD != 8 or ctypes.sizeof(ctypes.c_ssize_t) != 8 or words[HEADER // WORD - 1] != id(np.ndarray):
        return False
    known = {DATA: array.ctypes.data, DTYPE: id(canonical(array.dtype))}
    if any(fields[at] != value for at, value in known.items()):
        return False
    low = 0xFFFFFFFF
    if fields[NDIM] & low != 2 or fields[FLAGS] & low != array.flags.num:
        return False
    return list((ctypes.c_ssize_t * 2).from_address(fields[SHAPE])) == [3, 5]


def write_gate(module: ir.Module, symbol: str, element: None) -> None:
    """The function ``PyObject *(PyObject *table, PyObject *const *args, Py_ssize_t count)``, for all programs."""
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
        known = module.globals.get(name) or ir.Function(module, kind, name)
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
    with cgutils.for_range(builder, rank) as axis:
        size = builder.load(builder.gep(sizes, [axis.index]))
        builder.store(size, builder.gep(out, [builder.add(axis.index, number(1))]))
    builder.store(builder.gep(out, [builder.add(rank, number(1))]), to)
    builder.store(builder.gep(entry, [number(STEP)]), argument)
    builder.branch(test)

    builder.position_at_end(done)
    code, raised = builder.alloca(INTP), builder.alloca(object_)
    kind = ir.FunctionType(half, [words, raised.type, words])
    main = builder.inttoptr(word(table, ENTRY), kind.as_pointer())
    state = python("PyEval_SaveThread", object_)
    status = builder.call(main, [code, raised, made])
    python("PyEval_RestoreThread", ir.VoidType(), state)
    fine = builder.icmp_signed("==", status, half(0))
    builder.ret(python("PyLong_FromLongLong", object_, builder.select(fine, builder.load(code), number(REFUSED))))
    builder.position_at_end(refused)
    builder.ret(python("PyLong_FromLongLong", object_, number(REFUSED)))


class Method(ctypes.Structure):
    """``PyMethodDef``."""

    _fields_ = [("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


def bind(main: Any, held: dict[int, Array], written: Collection[int]) -> Callable[..., int]:
    """A compiled program as a Python callable that takes the arguments not in ``held`` and returns the status code.

    ``held`` are arrays by position that stay the same in all calls, ``written`` the positions that must be writeable.
    Code -1: an argument is no C-contiguous aligned array (of class ndarray itself) of the type that the program takes.
    """
    kinds = main.arrays
    types = [(as_dtype(kind.dtype), kind.ndim) for kind in kinds]
    if config.DISABLE_JIT:
        return checked(main, types, held, written)
    if not available():
        return checked(direct(main), types, held, written)
    table = np.zeros(FIRST + STEP * len(kinds), np.int64)
    words = sum(1 + ndim for _, ndim in types)
    table[:FIRST] = len(kinds) - len(held), id(np.ndarray), pointer(main.result), len(kinds), words
    dtypes = [canonical(dtype) for dtype, _ in types]
    for k, array in held.items():
        assert array.dtype == dtypes[k]
        dtypes[k] = array.dtype
    for k, (dtype, (_, ndim)) in enumerate(zip(dtypes, types, strict=True)):
        flags = CONTIGUOUS | ALIGNED | (WRITEABLE if k in written else 0)
        table[FIRST + STEP * k :][:STEP] = id(held[k]) if k in held else 0, id(dtype), flags, ndim
    method = Method(b"native", llvm.address_of_symbol(ready(write_gate, (), None)), METH_FASTCALL, None)
    create = ctypes.pythonapi.PyCFunction_NewEx
    create.restype, create.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    # What must live as long as the built-in function stands where it holds on to its module, which may be any object.
    return create(ctypes.addressof(method), table, (method, main.result, dtypes, held))


def direct(main: Entry) -> Callable[..., int]:
    """The program as a function of arrays that fit."""
    native = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(pointer(main.result))

    def call(*arrays: Array) -> int:
        words = np.array([word for x in arrays for word in (x.ctypes.data, *x.shape)], np.int64)
        code, raised = ctypes.c_int64(), ctypes.c_void_p()
        status = native(ctypes.addressof(code), ctypes.addressof(raised), words.ctypes.data)
        return REFUSED if status else code.value

    return call


def checked(
    main: Any, kinds: Sequence[tuple[np.dtype[Any], int]], held: dict[int, Array], written: Collection[int]
) -> Callable[..., int]:
    """The same in plain Python, around a plain Python function or a dispatcher of Numba's."""

    def call(*given: Any) -> int:
        if len(given) != len(kinds) - len(held):
            return REFUSED
        rest = iter(given)
        arrays = [held[k] if k in held else next(rest) for k in range(len(kinds))]
        for k, (x, (dtype, ndim)) in enumerate(zip(arrays, kinds, strict=True)):
            if type(x) is not np.ndarray or x.dtype != dtype or x.ndim != ndim:
                return REFUSED
            if not (x.flags.c_contiguous and x.flags.aligned and (x.flags.writeable or k not in written)):
                return REFUSED
        with np.errstate(all="ignore"):  # native code does not warn either
            return main(*arrays)

    return call
