"""Functions of generated modules as machine code: kernel functions, shared by content, and entries of programs.

Equal kernel functions, in one program or in many, share one piece of machine code, which is kept in the disk cache
apart from the programs. Arguments are pointers and integers alone, so that calls are cheap to compile. Knows no graph.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import re
from collections.abc import Callable
from types import FunctionType
from typing import Any

from llvmlite import ir

from staticad.errors import CompileError
from staticad.runtime import link, machine, settings, signatures, storage
from staticad.runtime.flow import declared, unlikely
from staticad.runtime.kernels import library
from staticad.runtime.kernels.shared import needs
from staticad.runtime.kernels.values import INTP, Direct, Value, View
from staticad.runtime.kinds import Array, Pointer, int64, kind_of, void
from staticad.runtime.storage import digest
from staticad.runtime.translate import Walk, contract, write_entry, write_function


def parse_kernel(signature: str) -> tuple[Any, ...]:
    """The kinds of arguments that a text such as ``"f4[], i8"`` names: pointers and integers.

    >>> print(*parse_kernel("f4[], i8"))
    float32* int64
    """
    found = re.findall(r"(\w+)(\[\])?", signature)
    kinds = [(kind_of(signatures.dtype(code)), brackets) for code, brackets in found]
    return tuple(Pointer(kind) if brackets else kind for kind, brackets in kinds)


def compiled(write: Callable[[ir.Module], None], symbol: str, text: FunctionType) -> tuple[str, list[str]]:
    """What ``write`` writes as LLVM's text, and the symbols that this needs.

    ``text`` is the generated function that it is made of. Raises `CompileError`."""
    module = machine.module(symbol)
    try:
        write(module)
    except Exception as error:
        raise failure(text, error) from error
    contract(module)
    return str(module), needs(module)


def failure(text: FunctionType, error: Exception) -> CompileError:
    return CompileError(f"{text.__code__.co_name} ({text.__code__.co_filename}): {error}")


def build(write: Callable[[ir.Module], None], symbol: str, text: FunctionType, facts: storage.Facts) -> None:
    """Machine code of what ``write`` writes, linked and stored with ``facts``. Raises `CompileError`."""
    code, needed = compiled(write, symbol, text)
    try:
        found = machine.machine_code(code)
    except RuntimeError as error:  # of LLVM
        raise failure(text, error) from error
    storage.keep(symbol, found, {**facts, "needs": needed})


class Kernel(Direct):
    """A kernel function: ``symbol`` names its machine code, which `ready` makes sure is linked.

    ``fresh`` tells, once it is ready, whether it was compiled for it, and not found in this process or on disk.
    """

    shared = True

    def __init__(self, function: FunctionType, signature: str) -> None:
        code = function.__code__
        known = [function.__globals__.get(name) for name in code.co_names]
        called = {x.name: x for x in known if isinstance(x, Kernel)}
        names = tuple(called[name].symbol if name in called else name for name in code.co_names)
        content = (signature, code.co_code, code.co_consts, names, code.co_varnames, code.co_argcount)
        self.function, self.types, self.name = function, parse_kernel(signature), function.__name__
        self.symbol = f"{link.PREFIX}kernel_{digest(repr(content))[:32]}"
        found = [*called.values(), *(getattr(library, name, None) for name in code.co_names)]
        self.raises = "user" in code.co_names or any(getattr(x, "raises", False) for x in found)
        self.fresh = False

    def ready(self) -> None:
        """Machine code for the symbol, from this process, from disk, or compiled. Raises `CompileError`.

        Before anything that calls it is linked: LLVM ends the process over a symbol that it does not know."""
        with link.lock:
            if storage.load(self.symbol) is None:
                build(self.define, self.symbol, self.function, {})
                self.fresh = True

    def define(self, module: ir.Module) -> None:
        """Write the function into a module of its own."""
        write_function(module, self.symbol, self.function, self.types)

    def __call__(self, *args: Any) -> Any:
        raise TypeError("this function is called from compiled code alone")

    def write(self, walk: Walk, *given: Value | View) -> Value:
        """A call, of arrays or places for pointers, and of integers."""
        builder = walk.builder
        values: list[ir.Value] = []
        for x, kind in zip(given, self.types, strict=True):
            if isinstance(kind, Pointer):
                assert x.kind == void or x.kind.dtype == kind.dtype, f"{self.name}: {x.kind} is no {kind}"
                data = x.data if isinstance(x, View) else x.llvm
                values.append(builder.bitcast(data, kind.value))
            else:
                values.append(walk.cast(x, kind))
        shape = ir.FunctionType(INTP, [value.type for value in values])
        code = builder.call(declared(builder.module, shape, self.symbol), values)
        if self.raises:
            propagate(walk, code)
        return Value(int64, code)


def propagate(walk: Walk, code: ir.Value) -> None:
    """Return what went wrong without a status code of the program's."""
    with unlikely(walk.builder, walk.builder.icmp_signed("<", code, ir.Constant(INTP, 0))):
        walk.leave(code)


def kernel(signature: str) -> Callable[[FunctionType], Any]:
    """Mark a function of a generated module as a kernel function, with its argument types, as ``"f4[], f4[], i8"``.

    It is called with C-contiguous arrays (or places, see `memory.at`) for pointers, makes arrays of them with
    ``m.array_f4(x, shape)``, and returns a status code. Arrays that it writes overlap no other argument. What it does
    depends on its text, its arguments and the kernel functions before it that it calls: no variable of the module.
    """

    def decorate(function: FunctionType) -> Any:
        return function if settings.plain() else Kernel(function, signature)

    return decorate


def kernels(scope: dict[str, Any]) -> list[Kernel]:
    """The kernel functions of a generated module that are compiled apart from it, in order."""
    return [x for x in scope.values() if isinstance(x, Kernel) and x.shared]


class Entry:
    """The function of a program that is called from outside, with the text of the types of its arguments, arrays.

    Machine code of it takes a table of words: for each array its address and the size of each axis.
    """

    def __init__(self, function: FunctionType, signature: str) -> None:
        self.py_func, self.signature = function, signature

    def define(self, module: ir.Module, symbol: str) -> None:
        """Write the function into a module of its own."""
        kinds = [Array(kind_of(dtype), ndim) for dtype, ndim in signatures.parse(self.signature)]
        write_entry(module, symbol, self.py_func, kinds)

    def __call__(self, *args: Any) -> Any:
        raise TypeError("this function is called from compiled code; from Python, call what `bind` gives")


def entry(signature: str) -> Callable[[FunctionType], Any]:
    """Mark the function of a generated module that is called from outside, with the types of its arguments, arrays.

    They must not overlap where one of them is written. It returns a status code, 0 if all is well."""

    def decorate(function: FunctionType) -> Any:
        if not settings.plain():
            return Entry(function, signature)
        vars(function)["signature"] = signature
        return function

    return decorate


def assembly(main: Entry, symbol: str) -> list[str]:
    """The assembly text of an entry and of the kernel functions of its module, compiled anew."""
    texts = [compiled(lambda module: main.define(module, symbol), symbol, main.py_func)]
    texts += [compiled(k.define, k.symbol, k.function) for k in kernels(main.py_func.__globals__)]
    return [machine.assembly(text) for text, _ in texts]
