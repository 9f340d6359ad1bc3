"""How a kernel states itself twice, as LLVM and as plain Python; knows Numba's extension points and no kernel."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import compiler, config, typed_passes, untyped_passes
from numba.core.compiler_machinery import PassManager
from numba.extending import intrinsic

FLAGS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "boundscheck": False,
    "_nrt": False,  # no counting of references to arrays: whoever calls holds them, and nothing is allocated
}


class Plain(compiler.CompilerBase):
    """Numba's own passes less those that plain code (no closures, `with`, literals, parallel loops) never needs."""

    lowering: type[typed_passes.BaseNativeLowering] = typed_passes.NativeLowering

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("staticad")
        for step in (
            untyped_passes.TranslateByteCode,
            untyped_passes.FixupArgs,
            untyped_passes.IRProcessing,
            untyped_passes.GenericRewrites,  # a constant index of a tuple, a constant exponent
            untyped_passes.ReconstructSSA,
            typed_passes.NopythonTypeInference,
            typed_passes.PreLowerStripPhis,
            typed_passes.IRLegalization,
            self.lowering,
            typed_passes.NoPythonBackend,
        ):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


class Distinct(Plain):
    """`Plain`, for a function whose pointer arguments never overlap where one of them is written (LLVM's noalias)."""

    def define_pipelines(self) -> list[PassManager]:
        self.state.flags.noalias = True
        return super().define_pipelines()


def compiled(pipeline: type[Plain] = Plain, **options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` under staticad's flags; the plain function under NUMBA_DISABLE_JIT."""
    return njit(**FLAGS, **options, pipeline_class=pipeline)


def kernel(python: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate the typing function of a Numba intrinsic; ``python`` takes its place under NUMBA_DISABLE_JIT."""

    def decorate(typing: Callable[..., Any]) -> Any:
        if config.DISABLE_JIT:
            return python
        typing.__name__ = python.__name__
        typing.__doc__ = python.__doc__
        return intrinsic(typing)

    return decorate
