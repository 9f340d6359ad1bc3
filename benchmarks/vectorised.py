"""How wide the vectors are that LLVM makes of a loop over a kernel, here and on other machines; knows no kernel.

The loop is lowered by Numba without optimisation, then optimised and assembled for a target; the widest register that
takes part in floating-point arithmetic tells.
"""

# Numba and llvmlite have no types.
# pyright: basic

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
from llvmlite import binding
from numba.core import config
from numba.np import numpy_support

from staticad.runtime.kernels.native import compiled


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


def loop(function: Any, operands: int) -> Any:
    """A plain function ``(out, x, ...)`` that applies ``function`` to every element of arrays."""
    x = "xy"[:operands]
    source = f"def loop(out, {', '.join(x)}):\n    for i in range(out.size):\n"
    source += f"        out[i] = function({', '.join(f'{v}[i]' for v in x)})\n"
    scope: dict[str, Any] = {"function": function}
    exec(source, scope)
    return scope["loop"]


def lowered(function: Any, operands: int, dtype: Any) -> str:
    """The loop as LLVM's text, before the vectoriser has seen it."""
    native, level = compiled()(loop(function, operands)), config.OPT
    array = numpy_support.from_dtype(np.dtype(dtype))[::1]
    config.OPT = type(level)(0)
    try:
        native.compile((array,) * (operands + 1))
    finally:
        config.OPT = level
    (text,) = native.inspect_llvm().values()
    return text


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
    text = lowered(function, operands, dtype)
    return {name: width(text, target) for name, target in TARGETS.items()}
