"""Kernels too large to be compiled into every program: compiled once, kept in the disk cache, called by symbol.

They are written in LLVM and go to machine code without Numba, which would take ten times as long over them.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

from staticad.runtime import cache
from staticad.runtime.storage import digest

# For code that is as it should be but for its variables; LLVM's usual passes take seconds over large unrolled tiles.
FEW = ("always_inliner", "sroa", "simplify_cfg", "loop_rotate", "sroa", "simplify_cfg")

Write: TypeAlias = Callable[[ir.Module, str, Any], None]
Needs: TypeAlias = tuple[tuple[Write, tuple[str, ...]], ...]

kept: dict[str, Any] = {}  # symbol to the engine that owns its code, which must outlive every program
lock = threading.RLock()


def machine_code(module: ir.Module, passes: tuple[str, ...]) -> bytes:
    """A relocatable object made of ``module`` after ``passes``, all of LLVM's usual ones if none is named."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )
    module.triple, module.data_layout = triple, str(machine.target_data)
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = not passes
    builder = llvm.create_pass_builder(machine, tuning)
    manager = llvm.create_new_module_pass_manager() if passes else builder.getModulePassManager()
    for name in passes:
        getattr(manager, f"add_{name}_pass")()
    manager.run(parsed, builder)
    return machine.emit_object(parsed)


def execute(code: bytes, symbol: str) -> Any:
    """Make ``symbol`` of an object known to LLVM; returns what keeps it alive."""
    triple, cpu, features = cpu_target.target_context.codegen().magic_tuple()
    machine = llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc="pic", codemodel="jitdefault", jit=True
    )
    empty = llvm.parse_assembly(f'target triple = "{triple}"')
    engine = llvm.create_mcjit_compiler(empty, machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    llvm.add_symbol(symbol, engine.get_function_address(symbol))
    return engine


class Shared:
    """A function of scalars and pointers that returns nothing and never raises; what it writes overlaps nothing.

    ``write(module, symbol, element)`` writes it for elements of Numba type ``element``; ``needs`` are the others that
    it calls, by what writes them and their passes.
    """

    def __init__(self, write: Write, passes: tuple[str, ...] = (), needs: Needs = ()) -> None:
        self.write, self.passes, self.needs = write, passes, needs

    def call(self, context: Any, builder: ir.IRBuilder, element: Any, args: list[ir.Value]) -> None:
        kind = ir.FunctionType(ir.VoidType(), [arg.type for arg in args])
        builder.call(external(context, builder, self.write, kind, element, self.passes, self.needs), args)


def external(
    context: Any,
    builder: ir.IRBuilder,
    write: Write,
    kind: ir.FunctionType,
    element: Any = "any",
    passes: tuple[str, ...] = (),
    needs: Needs = (),
) -> ir.Function:
    """The function that ``write`` writes, declared in a module of Numba's."""
    symbol = ready(write, passes, element, needs)
    # Numba runs this again when it loads the stored code of the program that calls.
    context.active_code_library._reload_init.add(partial(ready, write, passes, element, needs))
    return cgutils.get_or_insert_function(builder.module, kind, symbol)


def ready(write: Write, passes: tuple[str, ...], element: Any, needs: Needs = ()) -> str:
    """The symbol of the function that ``write`` writes, which LLVM knows from now on."""
    for other, others_passes in needs:
        ready(other, others_passes, element)
    symbol = f"staticad_{write.__name__}_{element}"
    with lock:
        if symbol not in kept:
            key, folder = digest(symbol), cache.directory()
            path = folder / f"{symbol}_{key[:24]}.native" if folder else None
            code = cache.unseal(key, cache.read(path)) if path else None
            if code is None:
                module = ir.Module(symbol)
                write(module, symbol, element)
                code = machine_code(module, passes)
                if path:
                    cache.write(path, cache.seal(key, code))
            kept[symbol] = execute(code, symbol)
    return symbol
