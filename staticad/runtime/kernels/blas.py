"""The BLAS that SciPy carries, bound by symbol so that code that calls it can be stored on disk; knows no arrays.

Matrices are column-major, as in BLAS: element (i, j) of a stands at ``a[i + j * lda]``.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import ctypes
import importlib
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils

from staticad.runtime.kernels.native import kernel

INT, CHAR = ir.IntType(32), ir.IntType(8)
LETTERS = {types.float32: "s", types.float64: "d"}
registered: set[str] = set()


def register() -> None:
    """Tell LLVM the addresses of BLAS routines; run before code that calls them is loaded. May be repeated."""
    if registered:
        return
    capsules = importlib.import_module("scipy.linalg.cython_blas").__pyx_capi__
    name_of = ctypes.pythonapi.PyCapsule_GetName
    name_of.restype, name_of.argtypes = ctypes.c_char_p, [ctypes.py_object]
    pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
    pointer_of.restype, pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    for name in [letter + routine for letter in LETTERS.values() for routine in ("gemm", "gemv")]:
        llvmlite.binding.add_symbol(symbol(name), pointer_of(capsules[name], name_of(capsules[name])))
        registered.add(name)


def symbol(name: str) -> str:
    return f"staticad_blas_{name}"


def call(context: Any, builder: ir.IRBuilder, routine: str, args: list[ir.Value]) -> None:
    """Call a routine, which takes the addresses of all its arguments; pointers are passed as they are."""
    register()
    context.active_code_library._reload_init.add(register)  # Numba runs it again when it loads the stored code
    addresses: list[ir.Value] = []
    for value in args:
        if isinstance(value.type, ir.PointerType):
            addresses.append(value)
        else:
            place = cgutils.alloca_once(builder, value.type)
            builder.store(value, place)
            addresses.append(place)
    kind = ir.FunctionType(ir.VoidType(), [address.type for address in addresses])
    builder.call(cgutils.get_or_insert_function(builder.module, kind, symbol(routine)), addresses)


def flag(builder: ir.IRBuilder, transposed: ir.Value) -> ir.Value:
    return builder.select(transposed, ir.Constant(CHAR, ord("T")), ir.Constant(CHAR, ord("N")))


def unavailable(*args: Any) -> None:
    raise NotImplementedError("BLAS is called from compiled code only")


@kernel(unavailable)
def knows(typingctx: Any, p: Any) -> Any:
    """Whether there are routines for the elements that ``p`` points to; without, the others here do nothing."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return context.get_constant(types.boolean, p.dtype in LETTERS)

    return types.boolean(p), codegen


@kernel(unavailable)
def gemm(
    typingctx: Any, ta: Any, tb: Any, m: Any, n: Any, k: Any, a: Any, lda: Any, b: Any, ldb: Any,
    beta: Any, c: Any, ldc: Any,
) -> Any:  # fmt: skip
    """``c[m, n] = beta * c + op(a)[m, k] @ op(b)[k, n]`` (no c for beta 0), op transposing where ``ta``, ``tb``."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if signature.args[5].dtype not in LETTERS:
            return context.get_dummy_value()
        ta, tb, m, n, k, a, lda, b, ldb, beta, c, ldc = args
        m, n, k, lda, ldb, ldc = (builder.trunc(value, INT) for value in (m, n, k, lda, ldb, ldc))
        one = ir.Constant(a.type.pointee, 1.0)
        call(
            context,
            builder,
            LETTERS[signature.args[5].dtype] + "gemm",
            [flag(builder, ta), flag(builder, tb), m, n, k, one, a, lda, b, ldb, beta, c, ldc],
        )
        return context.get_dummy_value()

    size, bit = types.intp, types.boolean
    return types.none(bit, bit, size, size, size, a, size, b, size, a.dtype, c, size), codegen


@kernel(unavailable)
def gemv(typingctx: Any, ta: Any, m: Any, n: Any, a: Any, lda: Any, x: Any, incx: Any, y: Any, incy: Any) -> Any:
    """``y += op(a) @ x`` for ``a[m, n]``, transposed where ``ta``. Increments are positive."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        if signature.args[3].dtype not in LETTERS:
            return context.get_dummy_value()
        ta, m, n, a, lda, x, incx, y, incy = args
        m, n, lda, incx, incy = (builder.trunc(value, INT) for value in (m, n, lda, incx, incy))
        one = ir.Constant(a.type.pointee, 1.0)
        call(
            context,
            builder,
            LETTERS[signature.args[3].dtype] + "gemv",
            [flag(builder, ta), m, n, one, a, lda, x, incx, one, y, incy],
        )
        return context.get_dummy_value()

    size = types.intp
    return types.none(types.boolean, size, size, a, size, x, size, y, size), codegen
