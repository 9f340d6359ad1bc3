"""From LLVM's text to machine code, and from machine code to addresses; knows nothing of what the code does.

All machine code of the process is in one engine, and is never unloaded. Symbols starting with `PREFIX` are ours.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import functools
import threading
from collections.abc import Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from staticad.runtime.settings import setting

PREFIX = "staticad_"
#: LLVM's own passes, at full strength.
ALL: tuple[str, ...] = ()

addresses: dict[str, int] = {}
lock = threading.RLock()


@functools.cache
def host() -> tuple[str, str, str]:
    """What code is made for: triple, processor and its features (or ``NUMBA_CPU_NAME``, ``NUMBA_CPU_FEATURES``)."""
    features = setting("CPU_FEATURES")
    if features is None:
        try:
            found = llvm.get_host_cpu_features()
        except RuntimeError:
            found = None
        if found is not None and setting("ENABLE_AVX") in (0, "0"):
            found.update((name, False) for name in found if name.startswith("avx"))
        features = found.flatten() if found is not None else ""
    return llvm.get_process_triple(), setting("CPU_NAME") or llvm.get_host_cpu_name(), features


@functools.cache
def target() -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    triple, cpu, features = host()
    # Objects that share an engine cannot each have an offset table, as position-independent code has on these.
    reloc = "static" if triple.startswith(("x86", "i386", "i686")) else "default"
    return llvm.Target.from_triple(triple).create_target_machine(
        cpu=cpu, features=features, opt=3, reloc=reloc, codemodel="jitdefault", jit=True
    )


def module(name: str) -> ir.Module:
    """An empty module for this machine."""
    made = ir.Module(name)
    made.triple, made.data_layout = host()[0], layout()
    return made


@functools.cache
def layout() -> str:
    return str(target().target_data)


def optimised(text: str, passes: Sequence[str] = ALL) -> Any:
    """A module after ``passes``, or after all of LLVM's usual ones if none is named."""
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization, tuning.slp_vectorization = not passes, False
    builder = llvm.create_pass_builder(target(), tuning)
    manager = llvm.create_new_module_pass_manager() if passes else builder.getModulePassManager()
    for name in passes:
        getattr(manager, f"add_{name}_pass")()
    manager.run(parsed, builder)
    return parsed


def machine_code(text: str, passes: Sequence[str] = ALL) -> bytes:
    """A relocatable object."""
    return target().emit_object(optimised(text, passes))


def assembly(text: str, passes: Sequence[str] = ALL) -> str:
    return target().emit_assembly(optimised(text, passes))


@functools.cache
def engine() -> Any:
    empty = llvm.parse_assembly(f'target triple = "{host()[0]}"')
    return llvm.create_mcjit_compiler(empty, target())


def link(symbol: str, code: bytes) -> int:
    """The address of ``symbol`` in an object, all of whose own symbols must be known."""
    with lock:
        if symbol not in addresses:
            engine().add_object_file(llvm.ObjectFileRef.from_data(code))
            engine().finalize_object()
            know(symbol, engine().get_function_address(symbol))
        return addresses[symbol]


def know(symbol: str, address: int) -> None:
    """Let machine code refer to an address by a symbol."""
    llvm.add_symbol(symbol, address)
    addresses[symbol] = address
