"""The names that generated modules import: scalar types, decorators, the kernel library; knows nothing of programs."""

from __future__ import annotations

import numpy as np

from staticad.runtime.functions import entry, kernel
from staticad.runtime.kernels import library as m
from staticad.runtime.kernels.foreign import user
from staticad.runtime.kernels.sizes import root
from staticad.runtime.parallel import parallel

__all__ = [
    "b1", "entry", "f4", "f8", "i1", "i2", "i4", "i8", "kernel", "m", "parallel", "root", "u1", "u2", "u4", "u8",
    "user",
]  # fmt: skip

# fmt: off
b1 = np.bool_
i1, i2, i4, i8 = np.int8,  np.int16,  np.int32,  np.int64
u1, u2, u4, u8 = np.uint8, np.uint16, np.uint32, np.uint64
f4, f8         = np.float32, np.float64
# fmt: on
