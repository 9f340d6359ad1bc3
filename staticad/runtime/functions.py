"""Functions of generated modules as machine code: kernel functions, shared by content, and entries of programs.

Equal kernel functions, in one program or in many, share one piece of machine code, which is kept in the disk cache
apart from the programs. Arguments are pointers and integers alone, so that calls are cheap to compile. Knows no graph.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FunctionType
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils, compiler, config, event
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys
from numba.np.numpy_support import from_dtype

from staticad.errors import CompileError
from staticad.runtime import cache
from staticad.runtime.kernels import library
from staticad.runtime.kernels.native import FLAGS
from staticad.runtime.kernels.values import INTP, Direct, Value, View
from staticad.runtime.storage import NativeFile, digest
from staticad.runtime.translate import Translated, TranslatedEntry, Walk

NAMES = {"b1": "?"}

#: Symbol to what owns its machine code, which must outlive every program that calls it.
kept: dict[str, CompileResult] = {}
lock = threading.RLock()


def scalar(code: str) -> Any:
    """The Numba type of ``f4``, ``b1`` and so on."""
    return from_dtype(np.dtype(NAMES.get(code, code)))


def parse_kernel(signature: str) -> tuple[Any, ...]:
    """The argument types that a text such as ``"f4[], i8"`` names: pointers and integers.

    >>> parse_kernel("f4[], i8")
    (float32*, int64)
    """
    found = re.findall(r"(\w+)(\[\])?", signature)
    return tuple(types.CPointer(scalar(code)) if brackets else scalar(code) for code, brackets in found)


def parse_entry(signature: str) -> tuple[Any, ...]:
    """The array types that a text such as ``"u1[::1], f4[:,::1], f4[()]"`` names; ``[()]`` is one without axes.

    >>> parse_entry("f4[:,::1], f8[()]")
    (Array(float32, 2, 'C', False, aligned=True), Array(float64, 0, 'C', False, aligned=True))
    """
    found = re.findall(r"(\w+)\[([^\]]*)\]", signature)
    return tuple(types.Array(scalar(code), 0 if axes == "()" else axes.count(",") + 1, "C") for code, axes in found)


def compile_function(
    function: FunctionType, kinds: tuple[Any, ...], pipeline: type[Translated], name: str, file: NativeFile | None
) -> CompileResult:
    """Machine code of ``function`` for arguments of Numba types ``kinds``, from ``file`` if that holds it.

    Everything that Numba derives symbols from is made of ``name``, so that equal names must stand for equal code.
    Raises `CompileError`."""
    signature = types.int64(*kinds)
    with global_compiler_lock:
        found = file.load_overload(signature, cpu_target.target_context) if file else None
        if found is not None:
            return found
        renamed = FunctionType(function.__code__, function.__globals__, name)
        renamed.__module__, renamed.__qualname__ = "staticad", name
        vars(renamed).update(vars(function))
        flags = compiler.Flags()
        cpu_target.options.parse_as_flags(flags, {**FLAGS, "nopython": True})
        contexts = cpu_target.typing_context, cpu_target.target_context
        try:
            with few_registries(), event.trigger_event("numba:compile", data={"dispatcher": None, "args": kinds}):
                found = compiler.compile_extra(
                    *contexts, renamed, kinds, types.int64, flags, {}, pipeline_class=pipeline
                )
        except Exception as error:  # Numba and LLVM raise of every kind
            code = function.__code__
            raise CompileError(f"{code.co_name} ({code.co_filename}): {error}") from error
        if file:
            file.save_overload(signature, found)
    return found


@contextmanager
def few_registries() -> Iterator[None]:
    """Numba without the parts that generated code never asks for: loading them (and SciPy) takes most of a cold start.

    They are loaded when somebody else compiles, since Numba looks for what is new before each compilation."""
    context = cpu_target.target_context
    context.load_additional_registries = partial(load_registries, context)
    try:
        yield
    finally:
        del context.load_additional_registries


def load_registries(context: Any) -> None:
    from numba.cpython import builtins, mathimpl, numbers, rangeobj  # noqa: F401
    from numba.np import npyimpl

    rtsys.initialize(context)
    for module in (mathimpl, npyimpl):
        context.install_registry(module.registry)


def pointer(result: CompileResult) -> int:
    return result.library.get_pointer_to_function(result.fndesc.llvm_func_name)


class Kernel(Direct):
    """A kernel function: ``symbol`` names its machine code, which `ready` makes sure that LLVM knows.

    ``fresh`` tells, once it is ready, whether it was compiled for it, and not found in this process or on disk.
    """

    pipeline: type[Translated] = Translated
    shared = True

    def __init__(self, function: FunctionType, signature: str) -> None:
        code = function.__code__
        content = (signature, code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_argcount)
        self.function, self.types, self.name = function, parse_kernel(signature), function.__name__
        self.key = digest(repr(content))
        self.symbol = f"staticad_kernel_{self.key[:32]}"
        self.raises = any(getattr(getattr(library, name, None), "raises", False) for name in code.co_names)
        self.fresh = False

    def ready(self) -> None:
        """Machine code for the symbol, from this process, from disk, or compiled. Raises `CompileError`.

        Before anything that calls it is loaded: LLVM ends the process over a symbol that it does not know."""
        with lock:
            if self.symbol not in kept:
                folder = cache.directory()
                file = NativeFile(folder / f"{self.symbol}.native", self.key) if folder else None
                result = compile_function(self.function, self.types, self.pipeline, self.symbol, file)
                self.fresh = not (file and file.hit)
                llvm.add_symbol(self.symbol, result.library.get_pointer_to_function(self.symbol))
                kept[self.symbol] = result

    def __call__(self, *args: Any) -> Any:
        raise TypeError("this function is called from compiled code alone")

    def write(self, walk: Walk, *given: Value | View) -> Value:
        """A call, of arrays or places for pointers, and of integers."""
        builder = walk.builder
        values: list[ir.Value] = []
        for x, kind in zip(given, self.types, strict=True):
            if isinstance(kind, types.CPointer):
                assert x.kind == types.voidptr or x.kind.dtype == kind.dtype, f"{self.name}: {x.kind} is no {kind}"
                data = x.data if isinstance(x, View) else x.llvm
                values.append(builder.bitcast(data, walk.context.get_value_type(kind)))
            else:
                values.append(walk.cast(x, kind))
        shape = ir.FunctionType(INTP, [value.type for value in values])
        code = builder.call(cgutils.get_or_insert_function(builder.module, shape, self.symbol), values)
        if self.raises:
            self.propagate(walk, code)
        return Value(types.int64, code)

    def propagate(self, walk: Walk, code: ir.Value) -> None:
        """Return what went wrong without a status code of its own."""
        with cgutils.if_unlikely(walk.builder, walk.builder.icmp_signed("<", code, ir.Constant(INTP, 0))):
            walk.context.call_conv.return_value(walk.builder, code)


def kernel(signature: str) -> Callable[[FunctionType], Any]:
    """Mark a function of a generated module as a kernel function, with its argument types, as ``"f4[], f4[], i8"``.

    It is called with C-contiguous arrays (or places, see `memory.at`) for pointers, makes arrays of them with
    ``m.array_f4(x, shape)``, and returns a status code. Arrays that it writes overlap no other argument. What it does
    depends on its text and its arguments alone: no variable of the module, no other kernel function.
    """

    def decorate(function: FunctionType) -> Any:
        if config.DISABLE_JIT:
            return function
        return Kernel(function, signature)

    return decorate


def kernels(scope: dict[str, Any]) -> list[Kernel]:
    """The kernel functions of a generated module that are compiled apart from it, in order."""
    return [x for x in scope.values() if isinstance(x, Kernel) and x.shared]


class Entry:
    """The function of a program that is called from outside; ``arrays`` are the Numba types of its arguments.

    Once `compile` has run, ``result`` has machine code, which takes a table of words: for each array its address and
    the size of each axis.
    """

    def __init__(self, function: FunctionType, signature: str) -> None:
        self.py_func, self.arrays = function, parse_entry(signature)
        self.symbol, self.result = "", None

    def compile(self, name: str, file: NativeFile | None) -> None:
        """Raises `CompileError`."""
        vars(self.py_func)["arrays"] = self.arrays
        self.result = compile_function(self.py_func, (types.CPointer(types.intp),), TranslatedEntry, name, file)
        self.symbol = f"{name}.entry"
        llvm.add_symbol(self.symbol, pointer(self.result))

    def __call__(self, *args: Any) -> Any:
        raise TypeError("this function is called from compiled code; from Python, call what `bind` gives")


def entry(signature: str) -> Callable[[FunctionType], Any]:
    """Mark the function of a generated module that is called from outside, with the types of its arguments, arrays.

    They must not overlap where one of them is written. It returns a status code, 0 if all is well."""

    def decorate(function: FunctionType) -> Any:
        made = Entry(function, signature)
        if not config.DISABLE_JIT:
            return made
        vars(function)["arrays"] = made.arrays
        return function

    return decorate


def assembly(main: Entry) -> list[str]:
    """The assembly text of an entry and of the kernel functions of its module, compiled anew."""
    functions = [(main.py_func, (types.CPointer(types.intp),), TranslatedEntry)]
    functions += [(k.function, k.types, k.pipeline) for k in kernels(main.py_func.__globals__)]
    names = (f"{function.__name__}_{next(numbers)}" for function, _, _ in functions)
    results = [compile_function(*each, name, None) for each, name in zip(functions, names, strict=True)]
    return [result.library.get_asm_str() for result in results]


numbers = itertools.count()
