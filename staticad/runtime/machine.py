"""LLVM: from its text to machine code, and from machine code to addresses where `elf` cannot; knows no program.

What it links is in one engine, and is never unloaded.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir

from staticad.runtime.host import host
from staticad.runtime.threads import kept

#: LLVM's own passes, at full strength.
ALL: tuple[str, ...] = ()

told: set[str] = set()  # the symbols that LLVM knows of


def described() -> tuple[str, str, str]:
    """The triple, the name and the features of the processor."""
    try:
        features = llvm.get_host_cpu_features().flatten()
    except RuntimeError:
        features = ""
    return llvm.get_process_triple(), llvm.get_host_cpu_name(), features


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
    made = llvm.create_mcjit_compiler(empty, target())
    kept(made)
    return made


def linked(symbol: str, code: bytes, known: Mapping[str, int]) -> int:
    """The address of ``symbol`` in an object, whose other symbols are in ``known``, Python's or the C library's."""
    tell(known)
    engine().add_object_file(llvm.ObjectFileRef.from_data(code))
    engine().finalize_object()
    return engine().get_function_address(symbol)


def tell(known: Mapping[str, int]) -> None:
    """Let code that LLVM links, for us or for Numba, refer to addresses by these symbols."""
    for symbol in known.keys() - told:
        llvm.add_symbol(symbol, known[symbol])
        told.add(symbol)
