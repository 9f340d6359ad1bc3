"""The user's own functions, compiled by Numba; knows their arguments, and nothing of what calls them.

Arrays are C-contiguous, and those that are read are of Numba's read-only types: a function that writes to an argument
is refused. Exceptions are caught behind the function's own code, with Python's lock held for them alone.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba import cfunc, njit, typeof, types
from numba.core import cgutils
from numba.core.dispatcher import Dispatcher
from numba.core.errors import NumbaError
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype, from_dtype

from staticad.errors import CompileError, CustomOpError, DTypeError
from staticad.foreign import Foreign, Kind
from staticad.runtime.inline import INTP, contiguous

POINTER = ir.IntType(8).as_pointer()
#: What machine code refers to: nothing of it is ever given back.
kept: list[Any] = []


def dispatcher(function: Callable[..., Any]) -> Any:
    """What Numba can call: a function that was not compiled is."""
    return njit(function) if isinstance(function, FunctionType) else function


def returned(name: str, function: Any, kinds: list[Any]) -> Any:
    """The Numba type of what a call returns. Raises `CompileError`."""
    context = cpu_target.typing_context
    context.refresh()
    try:
        found = context.resolve_function_type(typeof(function), tuple(kinds), {})
    except (NumbaError, ValueError) as error:  # ValueError: typeof, of what Numba does not know
        raise uncompiled(name, kinds, error) from error
    if found is None:
        raise uncompiled(name, kinds, "there is no version of it for these arguments")
    return types.unliteral(found.return_type)


def uncompiled(name: str, kinds: list[Any], error: object) -> CompileError:
    return CompileError(f"custom_op: Numba cannot compile {name}({', '.join(map(str, kinds))}): {error}")


def element_dtype(name: str, function: Callable[..., Any], operands: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """That of the number that ``function`` returns for one from each operand. Raises `CompileError`, `DTypeError`."""
    found = returned(name, dispatcher(function), [from_dtype(dtype) for dtype in operands])
    if not isinstance(found, (types.Number, types.Boolean)):
        raise DTypeError(
            f"custom_op: {name} returns {found} for numbers, not a number; a function of arrays needs result=..., "
            "the shape and dtype of what it gives"
        )
    return as_dtype(found)


def check(found: Foreign) -> None:
    """Raise `CompileError` or `DTypeError` unless the function takes its operands and gives its results."""
    function = dispatcher(found.function)
    given = [argument(kind, fixed(function)) for kind in found.operands]
    outs = [types.Array(from_dtype(dtype), ndim, "C") for dtype, ndim in found.results] if found.written else []
    value = returned(found.name, function, [*given, *outs])
    if found.written:
        return
    values = list(value) if found.packed and isinstance(value, types.BaseTuple) else [value]
    if len(values) != len(found.results):
        raise DTypeError(
            f"custom_op: {found.name} returns {value}, not a tuple of {len(found.results)} results; return one, or "
            "take an array for each result as a further argument and write to it"
        )
    for k, (t, (dtype, ndim)) in enumerate(zip(values, found.results, strict=True)):
        which = f"{found.name} returns {value}" + (f", whose number {k}" if found.packed else ", which")
        is_array = isinstance(t, types.Array)
        if not (is_array or isinstance(t, (types.Number, types.Boolean))) or (t.ndim if is_array else 0) != ndim:
            shape = f"an array with {ndim} axes" if ndim else "a number"
            raise DTypeError(f"custom_op: {which} is not {shape}, as result=... says")
        if not np.can_cast(as_dtype(t.dtype if is_array else t), dtype, "same_kind"):
            raise DTypeError(f"custom_op: {which} is not of dtype {dtype}, as result=... says")


def fixed(function: Any) -> bool:
    """Whether a function has the signatures that the user gave it, and no other."""
    return isinstance(function, Dispatcher) and not function._can_compile


def argument(kind: Kind, writable: bool) -> Any:
    """What the function is given for an operand: an array, or the number in one without axes."""
    dtype, ndim = kind
    return types.Array(from_dtype(dtype), ndim, "C", readonly=not writable) if ndim else from_dtype(dtype)


def address(found: Foreign, note: Callable[[CustomOpError], int]) -> int:
    """The address of machine code that takes for each array of ``found.kinds`` its address and its sizes.

    It returns 0, or what ``note`` gives for the exception that the function raised. Raises `CompileError`."""
    function = dispatcher(found.function)
    writable = fixed(function)
    *reads, write = found.kinds
    kinds = [types.Array(from_dtype(dtype), ndim, "C", readonly=not writable) for dtype, ndim in reads]
    kinds.append(types.Array(from_dtype(write[0]), write[1], "C"))
    run = njit(found.run(function))
    words = [word for kind in kinds for word in (types.voidptr, *[types.intp] * kind.ndim)]
    names = ", ".join(f"w{k}" for k in range(len(words)))
    noted = ctypes.PYFUNCTYPE(ctypes.c_int64, ctypes.py_object)(lambda error: note(found.error(error)))
    scope = {"guarded": guarded(run, kinds, ctypes.cast(noted, ctypes.c_void_p).value)}
    exec(f"def entry({names}):\n    return guarded({names})\n", scope)
    try:
        run.compile(tuple(kinds))
        compiled = cfunc(types.int64(*words))(scope["entry"])
    except NumbaError as error:
        raise uncompiled(found.name, kinds, error) from error
    kept.append((compiled, noted))
    return compiled.address


def guarded(run: Any, kinds: list[Any], noted: int) -> Any:
    """A function for compiled code that calls ``run`` with arrays, and gives a status code in place of an exception."""

    @intrinsic
    def call(typingctx: Any, *given: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            words = iter(cgutils.unpack_tuple(builder, args[0], len(given)))
            arrays = [
                contiguous(context, builder, kind, next(words), [next(words) for _ in range(kind.ndim)])
                for kind in kinds
            ]
            made = run.overloads[tuple(kinds)]
            context.active_code_library.add_linking_library(made.library)
            status, _ = context.call_internal_no_propagate(builder, made.fndesc, made.signature, arrays)
            code = cgutils.alloca_once_value(builder, INTP(0))
            with builder.if_then(status.is_error, likely=False):
                builder.store(noting(context, builder, status, noted), code)
            return builder.load(code)

        return types.int64(types.StarArgTuple(given)), codegen

    return call


def noting(context: Any, builder: ir.IRBuilder, status: Any, noted: int) -> ir.Value:
    """The status code for what Numba's code reports, as Python's exception."""
    api = context.get_python_api(builder)
    state = api.gil_ensure()
    context.call_conv.raise_error(builder, api, status)
    places = [cgutils.alloca_once_value(builder, POINTER(None)) for _ in range(3)]  # type, value, traceback
    kind = ir.FunctionType(ir.VoidType(), [POINTER.as_pointer()] * 3)
    for name in ("PyErr_Fetch", "PyErr_NormalizeException"):
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), places)
    note = builder.inttoptr(INTP(noted), ir.FunctionType(INTP, [POINTER]).as_pointer())
    code = builder.call(note, [builder.load(places[1])])
    for place in places:
        api.decref(builder.load(place))
    api.gil_release(state)
    return code
