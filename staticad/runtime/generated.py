"""The names that generated modules import: scalar types, decorators, the kernel library; knows nothing of programs."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import config
from numba.np.numpy_support import from_dtype

from staticad.runtime.gate import Gated
from staticad.runtime.kernels import library as m
from staticad.runtime.kernels.native import compiled
from staticad.runtime.kernels.steps import Looped

__all__ = ["b1", "entry", "f4", "f8", "i1", "i2", "i4", "i8", "inner", "m", "u1", "u2", "u4", "u8"]

# fmt: off
b1 = np.bool_
i1, i2, i4, i8 = np.int8,  np.int16,  np.int32,  np.int64
u1, u2, u4, u8 = np.uint8, np.uint16, np.uint32, np.uint64
f4, f8         = np.float32, np.float64
# fmt: on

NAMES = {"b1": "?"}


def parse(signature: str) -> Any:
    """The Numba signature that a text such as ``"i8(u1[::1], f4[:,::1], f4[()], i8)"`` names.

    As Numba writes them; ``[()]`` is an array without axes. The text is matched, never evaluated.

    >>> parse("i8(f4[:,::1], f8[()])")
    (Array(float32, 2, 'C', False, aligned=True), Array(float64, 0, 'C', False, aligned=True)) -> int64
    """
    match = re.fullmatch(r"\s*(\w+)\s*\((.*)\)\s*", signature)
    assert match, signature
    arguments = re.findall(r"(\w+)\s*(?:\[([^\]]*)\])?", match[2])
    return kind(match[1], "")(*[kind(code, axes) for code, axes in arguments])


def kind(code: str, axes: str) -> Any:
    scalar = from_dtype(np.dtype(NAMES.get(code, code)))
    axes = axes.replace(" ", "")
    if not axes:
        return scalar
    return types.Array(scalar, axes.count(":") - axes.count("::"), "C" if axes == "()" or axes.endswith("::1") else "A")


def entry(signature: str) -> Callable[[Callable[..., Any]], Any]:
    """Mark the function of a generated module that is called from outside, with its Numba-like signature.

    Its array arguments must not overlap where one of them is written."""

    def decorate(function: Callable[..., Any]) -> Any:
        main: Any = function if config.DISABLE_JIT else compiled(Gated, no_cfunc_wrapper=True)(function)
        main.entry_signature = parse(signature)
        return main

    return decorate


def inner(function: Callable[..., Any]) -> Any:
    """Mark a function that only functions of the same generated module call; it is compiled into its callers."""
    return compiled(Looped, no_cpython_wrapper=True, no_cfunc_wrapper=True)(function)
