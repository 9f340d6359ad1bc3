"""What generated code computes with while it is translated: typed LLVM values and views; knows nothing of programs."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import config, types

INTP = ir.IntType(types.intp.bitwidth)


@dataclass(frozen=True)
class Value:
    """A scalar or pointer of Numba type ``kind``; ``number`` if it is an integer that the text states."""

    kind: Any
    llvm: ir.Value
    number: int | None = None


@dataclass(frozen=True)
class View:
    """A C-contiguous array of Numba type ``kind``: where its elements are, and how many along each axis."""

    kind: Any
    data: ir.Value
    shape: Sequence[ir.Value]


class Direct:
    """A function of generated code that writes its own calls."""

    def write(self, walk: Any, *given: Any) -> Any:
        """Instructions for a call where ``walk`` (`translate.Walk`) is; its result, a `Value` or `View`."""
        raise NotImplementedError


class Written(Direct):
    def __init__(self, write: Callable[..., Any]) -> None:
        self.write = write


def direct(python: Callable[..., Any]) -> Callable[[Callable[..., Any]], Any]:
    """Decorate what writes the calls of a function; ``python`` takes its place under NUMBA_DISABLE_JIT."""

    def decorate(write: Callable[..., Any]) -> Any:
        return python if config.DISABLE_JIT else Written(write)

    return decorate
