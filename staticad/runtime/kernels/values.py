"""What generated code computes with while it is translated: typed LLVM values and views; knows nothing of programs."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from staticad.runtime import settings
from staticad.runtime.kinds import Array

INTP = ir.IntType(64)


@dataclass(frozen=True)
class Value:
    """A scalar or pointer; ``number`` if it is an integer that the text states."""

    kind: Any
    llvm: ir.Value
    number: int | None = None


@dataclass(frozen=True)
class View:
    """A C-contiguous array: where its elements are, and how many along each axis."""

    kind: Array
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
        return python if settings.plain() else Written(write)

    return decorate
