"""The door from Python into a compiled program: looks at NumPy arrays as they lie in memory; knows no conversion.

Numba's own wrapper finds out the type of each argument anew and takes a counted reference to it. Here, a program's
types are known beforehand: a few loads and compares for each array tell whether it fits, and arrays that stay the same
(parameters) are bound once. What does not fit is refused by the status code -1, never touched.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from staticad.runtime import link, storage
from staticad.runtime.call import canonical
from staticad.runtime.codes import REFUSED

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


class Method(ctypes.Structure):
    """``PyMethodDef``."""

    _fields_ = [("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


Types = Sequence[tuple[np.dtype[Any], int]]  # dtype and rank of each argument


def gate() -> int:
    """The address of the function that looks at arguments, for all programs."""
    symbol = f"{link.PREFIX}gate_{storage.digest('gate')[:24]}"
    if storage.load(symbol) is None:
        from staticad.runtime import machine
        from staticad.runtime.kernels.gate import write

        storage.keep(symbol, machine.machine_code(write(symbol)), {"needs": []})
    return link.addresses[symbol]


def bind(address: int, types: Types, held: dict[int, Array], written: Collection[int]) -> Callable[..., int]:
    """A compiled program as a Python callable that takes the arguments not in ``held`` and returns the status code.

    ``held`` are arrays by position that stay the same in all calls, ``written`` the positions that must be writeable.
    Code -1: an argument is no C-contiguous aligned array (of class ndarray itself) of the type that the program takes.
    """
    if not available():
        return bind_plain(direct(address), types, held, written)
    table = np.zeros(FIRST + STEP * len(types), np.int64)
    words = sum(1 + ndim for _, ndim in types)
    table[:FIRST] = len(types) - len(held), id(np.ndarray), address, len(types), words
    dtypes = [canonical(dtype) for dtype, _ in types]
    for k, array in held.items():
        assert array.dtype == dtypes[k]
        dtypes[k] = array.dtype
    for k, (dtype, (_, ndim)) in enumerate(zip(dtypes, types, strict=True)):
        flags = CONTIGUOUS | ALIGNED | (WRITEABLE if k in written else 0)
        table[FIRST + STEP * k :][:STEP] = id(held[k]) if k in held else 0, id(dtype), flags, ndim
    method = Method(b"native", gate(), METH_FASTCALL, None)
    create = ctypes.pythonapi.PyCFunction_NewEx
    create.restype, create.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    # What must live as long as the built-in function stands where it holds on to its module, which may be any object.
    return create(ctypes.addressof(method), table, (method, dtypes, held))


def direct(address: int) -> Callable[..., int]:
    """The program as a function of arrays that fit."""
    native = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(address)

    def call(*arrays: Array) -> int:
        words = np.array([word for x in arrays for word in (x.ctypes.data, *x.shape)], np.int64)
        return native(words.ctypes.data)

    return call


def bind_plain(main: Any, types: Types, held: dict[int, Array], written: Collection[int]) -> Callable[..., int]:
    """The same in plain Python, around a function of arrays."""

    def call(*given: Any) -> int:
        if len(given) != len(types) - len(held):
            return REFUSED
        rest = iter(given)
        arrays = [held[k] if k in held else next(rest) for k in range(len(types))]
        for k, (x, (dtype, ndim)) in enumerate(zip(arrays, types, strict=True)):
            if type(x) is not np.ndarray or x.dtype != dtype or x.ndim != ndim:
                return REFUSED
            if not (x.flags.c_contiguous and x.flags.aligned and (x.flags.writeable or k not in written)):
                return REFUSED
        with np.errstate(all="ignore"):  # native code does not warn either
            return main(*arrays)

    return call
