"""Everything that generated code calls, as ``m.name``; knows the names alone."""

from __future__ import annotations

from staticad.runtime.kernels.chunks import (
    chunks,
    natural,
    places,
    release,
    spare,
    threads,
)
from staticad.runtime.kernels.folds import begin_rows as begin
from staticad.runtime.kernels.folds import (
    fold_radd,
    fold_rmax,
    fold_rmin,
    fold_rmul,
    total_radd,
    total_rmax,
    total_rmin,
    total_rmul,
)
from staticad.runtime.kernels.math import *  # noqa: F403
from staticad.runtime.kernels.matrices import factor_cholesky, factor_lu, lu_solve, solve_triangular
from staticad.runtime.kernels.memory import (
    array_b1,
    array_f4,
    array_f8,
    array_i1,
    array_i2,
    array_i4,
    array_i8,
    array_u1,
    array_u2,
    array_u4,
    array_u8,
    at,
    clash,
    clear,
    copy,
    flat,
    index,
    local_b1,
    local_f4,
    local_f8,
    local_i1,
    local_i2,
    local_i4,
    local_i8,
    local_u1,
    local_u2,
    local_u4,
    local_u8,
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
from staticad.runtime.kernels.tape import (
    closed,
    room,
    row_b1,
    row_f4,
    row_f8,
    row_i1,
    row_i2,
    row_i4,
    row_i8,
    row_u1,
    row_u2,
    row_u4,
    row_u8,
    tape,
)

__all__ = [
    "array_b1", "array_f4", "array_f8", "array_i1", "array_i2", "array_i4", "array_i8", "array_u1", "array_u2",
    "array_u4", "array_u8", "at", "begin", "chunks", "clash", "clear", "closed", "contract", "copy",
    "factor_cholesky", "factor_lu", "flat", "fold_radd", "fold_rmax", "fold_rmin", "fold_rmul", "index", "local_b1",
    "local_f4", "local_f8", "local_i1", "local_i2", "local_i4", "local_i8", "local_u1", "local_u2", "local_u4",
    "local_u8", "lu_solve", "natural", "places", "radd", "release", "rmax", "rmin", "rmul", "room", "row_b1",
    "row_f4", "row_f8", "row_i1", "row_i2", "row_i4", "row_i8", "row_u1", "row_u2", "row_u4", "row_u8", "slot_b1",
    "slot_f4", "slot_f8", "slot_i1", "slot_i2", "slot_i4", "slot_i8", "slot_u1", "slot_u2", "slot_u4", "slot_u8",
    "solve_triangular", "spare", "steps", "tape", "threads", "total_radd", "total_rmax", "total_rmin", "total_rmul",
]  # fmt: skip
