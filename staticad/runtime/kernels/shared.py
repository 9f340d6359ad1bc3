"""Kernels too large to be compiled into every program: compiled once, kept in the disk cache, called by symbol."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core.typing import signature as signature_of

from staticad.runtime.kernels.native import Distinct, compiled
from staticad.runtime.storage import NativeFile

kept: dict[str, Any] = {}  # symbol to dispatcher, whose code must outlive every program


def ready(function: Callable[..., None], kinds: tuple[Any, ...]) -> str:
    """The symbol of ``function`` for arguments of types ``kinds``, which LLVM knows from now on."""
    name = f"staticad_{function.__name__}_{hashlib.sha256(repr(kinds).encode()).hexdigest()[:8]}"
    if name not in kept:
        dispatcher = compiled(Distinct, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
        file = NativeFile.of(name)
        if file:
            dispatcher._cache = file
        dispatcher.compile(signature_of(types.none, *kinds))
        (result,) = dispatcher.overloads.values()
        address = result.library.get_pointer_to_function(result.fndesc.llvm_func_name)
        llvmlite.binding.add_symbol(name, address)
        kept[name] = dispatcher
    return name


class Shared:
    """A function of scalars and pointers that returns nothing and never raises; what it writes overlaps nothing."""

    def __init__(self, function: Callable[..., None]) -> None:
        self.function = function

    def call(self, context: Any, builder: ir.IRBuilder, kinds: tuple[Any, ...], args: list[ir.Value]) -> None:
        symbol = ready(self.function, kinds)
        # Numba runs this again when it loads the stored code of the program that calls.
        context.active_code_library._reload_init.add(partial(ready, self.function, kinds))
        shape = context.call_conv.get_function_type(types.none, kinds)
        target = ir.Function(builder.module, shape, symbol) if symbol not in builder.module.globals else None
        context.call_conv.call_function(builder, target or builder.module.globals[symbol], types.none, kinds, args)
