"""Loops over a scalar kernel as compiled programs, and how wide the vectors are LLVM makes of them; knows no kernel.

A loop is written without optimisation, then optimised and assembled for a target, this machine or another; the widest
register that takes part in floating-point arithmetic tells.
"""

# llvmlite has no types.
# pyright: basic

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding

from staticad.expressions import CODE
from staticad.runtime.functions import compiled
from staticad.runtime.kernels import library
from staticad.runtime.load import Native, load


class Target(NamedTuple):
    """What code is made for; how its assembly writes packed arithmetic, by width in bits."""

    triple: str
    cpu: str
    features: str
    packed: dict[int, str]


INTEL = {
    bits: rf"v(?:fn?m(?:add|sub)\w+|(?:mul|add|sub|div|sqrt)p)[sd]\s.*%{name}"
    for bits, name in ((512, "zmm"), (256, "ymm"), (128, "xmm"))
}
ARM = {128: r"\tf(?:ml[as]|mul|add|sub|div|sqrt)\tv\d+\.\d+[sd]"}
HOST = binding.get_process_triple()
TARGETS = {
    "here": Target(HOST, binding.get_host_cpu_name(), binding.get_host_cpu_features().flatten(),
                   ARM if HOST.startswith(("aarch64", "arm64")) else INTEL),
    "AVX2": Target("x86_64-unknown-linux-gnu", "haswell", "", INTEL),
    "NEON": Target("aarch64-unknown-linux-gnu", "neoverse-n1", "", ARM),
}  # fmt: skip


def loop(function: Any, dtypes: Sequence[Any], first: str = "") -> Native:
    """``(out, x, ...)`` that applies a function of the library to every element of vectors; ``dtypes`` are out's and
    theirs, ``first`` arguments before them."""
    name = next(name for name, known in vars(library).items() if known is function)
    columns = "xyz"[: len(dtypes) - 1]
    kinds = ", ".join(f"{CODE[np.dtype(dtype)]}[::1]" for dtype in dtypes)
    given = ", ".join([*([first] if first else []), *(f"{v}[i]" for v in columns)])
    lines = [
        "import numpy as np",
        "from staticad.runtime.generated import *",
        f"@entry({kinds!r})",
        f"def main(out, {', '.join(columns)}):",
        "    for i in range(out.shape[0]):",
        f"        out[i] = m.{name}({given})",
        "    return 0\n",
    ]
    return load("\n".join(lines), name)


def lowered(native: Native) -> str:
    """A program as LLVM's text, before the vectoriser has seen it."""
    main = native.module.main
    return compiled(lambda module: main.define(module, native.symbol), native.symbol, main.py_func)[0]


def width(text: str, target: Target) -> int:
    """Of the widest vectors in the code for ``target``, in bits; 0 where there are none."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(target.triple).create_target_machine(target.cpu, target.features, opt=3)
    text = re.sub(r"target datalayout = .*", f'target datalayout = "{machine.target_data}"', text)
    module = binding.parse_assembly(re.sub(r"target triple = .*", f'target triple = "{target.triple}"', text))
    options = binding.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = True
    passes = binding.create_pass_builder(machine, options)
    passes.getModulePassManager().run(module, passes)
    assembly = machine.emit_assembly(module)
    return next((bits for bits, packed in target.packed.items() if re.search(packed, assembly)), 0)


def widths(function: Any, operands: int, dtype: Any) -> dict[str, int]:
    text = lowered(loop(function, [dtype] * (operands + 1)))
    return {name: width(text, target) for name, target in TARGETS.items()}
