"""How a kernel states itself twice, as LLVM and as plain Python; knows Numba's extension points and no kernel."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import compiler, config
from numba.extending import intrinsic

FLAGS: dict[str, Any] = {
    "nogil": True,
    "error_model": "numpy",
    "fastmath": {"contract"},
    "boundscheck": False,
    "_nrt": False,  # no counting of references to arrays: whoever calls holds them, and nothing is allocated
}


class Whole(compiler.Compiler):
    """Numba's own compiler with all that it knows, also where generated code that is compiled with less of it asks."""

    def __init__(self, typing: Any, target: Any, *args: Any) -> None:
        few = vars(target).pop("load_additional_registries", None)
        try:
            super().__init__(typing, target, *args)
        finally:
            if few is not None:
                target.load_additional_registries = few


def compiled() -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` under the flags of generated code; the plain function under NUMBA_DISABLE_JIT."""
    return njit(**FLAGS, pipeline_class=Whole)


def kernel(python: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate the typing function of a Numba intrinsic; ``python`` takes its place under NUMBA_DISABLE_JIT."""

    def decorate(typing: Callable[..., Any]) -> Any:
        if config.DISABLE_JIT:
            return python
        typing.__name__ = python.__name__
        typing.__doc__ = python.__doc__
        return intrinsic(typing)

    return decorate
