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

import numpy as np
from llvmlite import ir
from numba.core import cgutils, config, typed_passes
from numba.core.compiler_machinery import register_pass
from numba.core.lowering import Lower
from numba.np.numpy_support import as_dtype

from staticad.runtime.call import canonical
from staticad.runtime.kernels.memory import INTP, contiguous
from staticad.runtime.kernels.native import Distinct
from staticad.runtime.kernels.steps import LoopLower

Array = np.ndarray[Any, Any]

REFUSED = -1
HEADER = object.__basicsize__  # of every Python object; the last word of it is its type
WORD = ctypes.sizeof(ctypes.c_void_p)
# Where the fields of an array object stand, in words after the header; NumPy promises them to compiled extensions.
DATA, NDIM, SHAPE, DTYPE, FLAGS = 0, 1, 2, 5, 6
CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400
METH_FASTCALL = 0x80

# The table that a bound program looks into: how many arguments it is called with, the type of arrays, and for each
# argument of the program these three words: the array if it is bound, else 0; its dtype; the flags that it needs.
COUNT, TYPE, FIRST, STEP = 0, 1, 2, 3


def suffix(fndesc: Any) -> str:
    return fndesc.llvm_func_name + ".gate"


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


class GateLower(LoopLower):
    """With a gate in place of Numba's wrapper for Python."""

    def create_cpython_wrapper(self, release_gil: bool = False) -> None:
        if not available():
            super().create_cpython_wrapper(release_gil)
            return
        module = self.context.create_module("gate")
        add_gate(self.context, module, self.fndesc)
        add_refusal(self.context, module, self.fndesc)
        self.library.add_ir_module(module)


@register_pass(mutates_CFG=True, analysis_only=False)
class GateLowering(typed_passes.NativeLowering):
    _name = "staticad_gate_lowering"

    @property
    def lowering_class(self) -> type[Lower]:
        return GateLower


class Gated(Distinct):
    """`Distinct`, for the entry of a program: with a gate."""

    lowering = GateLowering


def add_gate(context: Any, module: ir.Module, fndesc: Any) -> None:
    """The function ``PyObject *(PyObject *table, PyObject *const *args, Py_ssize_t count)``."""
    object_ = ir.IntType(8).as_pointer()
    words = INTP.as_pointer()
    function = ir.Function(module, ir.FunctionType(object_, [object_, words, INTP]), suffix(fndesc))
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

    def word(at: int) -> ir.Value:
        return builder.load(builder.gep(table, [number(at)]))

    table = field(self_, DATA, words)
    require(builder.icmp_signed("==", count, word(COUNT)), "counted")
    array_type = word(TYPE)
    position: Any = number(0)
    arrays: list[ir.Value] = []
    for k, kind in enumerate(fndesc.argtypes):
        entry = builder.gep(table, [number(FIRST + STEP * k)])
        bound = builder.icmp_signed("!=", builder.load(entry), number(0))
        place = builder.select(bound, entry, builder.gep(given, [position]))
        position = builder.add(position, builder.select(bound, number(0), number(1)))
        array = builder.inttoptr(builder.load(place), object_)
        require(builder.icmp_signed("==", field(array, -1), array_type), f"array_{k}")
        needed = builder.trunc(word(FIRST + STEP * k + 2), ir.IntType(32))
        flags = builder.and_(field(array, FLAGS, ir.IntType(32)), needed)
        fits = builder.and_(
            builder.icmp_signed("==", field(array, DTYPE), word(FIRST + STEP * k + 1)),
            builder.and_(
                builder.icmp_signed("==", flags, needed),
                builder.icmp_signed("==", field(array, NDIM, ir.IntType(32)), ir.Constant(ir.IntType(32), kind.ndim)),
            ),
        )
        require(fits, f"fits_{k}")
        sizes = field(array, SHAPE, words)
        shape = [builder.load(builder.gep(sizes, [number(axis)])) for axis in range(kind.ndim)]
        arrays.append(contiguous(context, builder, kind, field(array, DATA, object_), shape))

    api = context.get_python_api(builder)
    signature = context.call_conv.get_function_type(fndesc.restype, fndesc.argtypes)
    main = ir.Function(module, signature, fndesc.llvm_func_name)
    state = api.save_thread()
    status, code = context.call_conv.call_function(
        builder, main, fndesc.restype, fndesc.argtypes, arrays, attrs=("noinline",)
    )
    api.restore_thread(state)
    builder.ret(api.long_from_longlong(builder.select(status.is_error, number(REFUSED), code)))
    builder.position_at_end(refused)
    builder.ret(context.get_python_api(builder).long_from_longlong(number(REFUSED)))


def add_refusal(context: Any, module: ir.Module, fndesc: Any) -> None:
    """What Numba calls when its dispatcher is called from Python: raises."""
    object_ = ir.IntType(8).as_pointer()
    name = fndesc.llvm_cpython_wrapper_name
    function = ir.Function(module, ir.FunctionType(object_, [object_] * 3), name)
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    message = "this function is called from compiled code; from Python, call what `bind` gives"
    context.get_python_api(builder).err_set_string("PyExc_TypeError", message)
    builder.ret(cgutils.get_null_value(object_))


class Method(ctypes.Structure):
    """``PyMethodDef``."""

    _fields_ = [("name", ctypes.c_char_p), ("call", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


def bind(main: Any, held: dict[int, Array], written: Collection[int]) -> Callable[..., int]:
    """A compiled program as a Python callable that takes the arguments not in ``held`` and returns the status code.

    ``held`` are arrays by position that stay the same in all calls, ``written`` the positions that must be writeable.
    Code -1: an argument is no C-contiguous aligned array (of class ndarray itself) of the type that the program takes.
    """
    kinds = main.entry_signature.args
    if config.DISABLE_JIT or not available():
        return checked(main, [(as_dtype(kind.dtype), kind.ndim) for kind in kinds], held, written)
    (result,) = main.overloads.values()
    table = np.zeros(FIRST + STEP * len(kinds), np.int64)
    table[COUNT], table[TYPE] = len(kinds) - len(held), id(np.ndarray)
    dtypes = [canonical(as_dtype(kind.dtype)) for kind in kinds]
    for k, array in held.items():
        assert array.dtype == dtypes[k]
        dtypes[k] = array.dtype
    for k, dtype in enumerate(dtypes):
        flags = CONTIGUOUS | ALIGNED | (WRITEABLE if k in written else 0)
        table[FIRST + STEP * k :][:STEP] = id(held[k]) if k in held else 0, id(dtype), flags
    address = result.library.get_pointer_to_function(suffix(result.fndesc))
    method = Method(b"native", address, METH_FASTCALL, None)
    create = ctypes.pythonapi.PyCFunction_NewEx
    create.restype, create.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    # What must live as long as the built-in function stands where it holds on to its module, which may be any object.
    return create(ctypes.addressof(method), table, (method, result.library, dtypes, held))


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
