"""Everything that generated code calls, as ``m.name``; knows the names alone."""

from __future__ import annotations

from staticad.runtime.kernels.math import *  # noqa: F403
from staticad.runtime.kernels.memory import (
    clash,
    clear,
    copy,
    flat,
    index,
    slot_b1,
    slot_f4,
    slot_f8,
    slot_i1,
    slot_i2,
    slot_i4,
    slot_i8,
    slot_u1,
    slot_u2,
    slot_u4,
    slot_u8,
)
from staticad.runtime.kernels.products import contract
from staticad.runtime.kernels.reduce import radd, rmax, rmin, rmul
from staticad.runtime.kernels.steps import steps

__all__ = [
    "clash", "clear", "contract", "copy", "flat", "index", "radd", "rmax", "rmin", "rmul",
    "slot_b1", "slot_f4", "slot_f8", "slot_i1", "slot_i2", "slot_i4", "slot_i8",
    "slot_u1", "slot_u2", "slot_u4", "slot_u8", "steps",
]  # fmt: skip
