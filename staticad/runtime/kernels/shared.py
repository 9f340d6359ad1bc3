"""Kernels too large to be compiled into every program: compiled once, kept in the disk cache, called by symbol."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from staticad.runtime import link, machine, storage
from staticad.runtime.flow import declared

# For code that is as it should be but for its variables; LLVM's usual passes take seconds over large unrolled tiles.
FEW = ("always_inliner", "sroa", "simplify_cfg", "loop_rotate", "sroa", "simplify_cfg")


class Shared:
    """A function of scalars and pointers that returns nothing and never raises; what it writes overlaps nothing.

    ``write(module, symbol, element)`` writes it for elements of a kind.
    """

    def __init__(self, write: Callable[[ir.Module, str, Any], None], passes: tuple[str, ...] = machine.ALL) -> None:
        self.write, self.passes = write, passes

    def call(self, builder: ir.IRBuilder, element: Any, args: list[ir.Value]) -> None:
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
        builder.call(external(builder, self.write, kind, element, self.passes), args)


def external(
    builder: ir.IRBuilder,
    write: Callable[[ir.Module, str, Any], None],
    kind: ir.FunctionType,
    element: Any = "any",
    passes: tuple[str, ...] = machine.ALL,
) -> ir.Function:
    """The function that ``write`` writes, declared in the module that is written."""
    return declared(builder.module, kind, ready(write, passes, element))


def ready(write: Callable[[ir.Module, str, Any], None], passes: tuple[str, ...], element: Any) -> str:
    """The symbol of the function that ``write`` writes, which is linked from now on."""
    name = f"{link.PREFIX}{write.__name__}_{element}"
    symbol = f"{name}_{storage.digest(name)[:24]}"
    with link.lock:
        if storage.load(symbol) is None:
            module = machine.module(symbol)
            write(module, symbol, element)
            storage.keep(symbol, machine.machine_code(str(module), passes), {"needs": needs(module)})
    return symbol


def needs(module: ir.Module) -> list[str]:
    """The symbols of ours that a module refers to and does not define."""

    def elsewhere(x: Any) -> bool:
        return x.is_declaration if isinstance(x, ir.Function) else x.initializer is None

    return sorted(name for name, x in module.globals.items() if name.startswith(link.PREFIX) and elsewhere(x))
