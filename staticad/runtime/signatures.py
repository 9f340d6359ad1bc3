"""The types of a program's arguments as text; knows NumPy's dtypes, and nothing of code."""

from __future__ import annotations

import re
from typing import Any

import numpy as np


def parse(signature: str) -> list[tuple[np.dtype[Any], int]]:
    """The dtypes and ranks that a text such as ``"u1[::1], f4[:,::1], f4[()]"`` names; ``[()]`` is one without axes.

    >>> parse("f4[:,::1], b1[()]")
    [(dtype('float32'), 2), (dtype('bool'), 0)]
    """
    found = re.findall(r"(\w+)\[([^\]]*)\]", signature)
    return [(dtype(code), 0 if axes == "()" else axes.count(",") + 1) for code, axes in found]


def dtype(code: str) -> np.dtype[Any]:
    """That of ``f4``, ``b1`` and so on."""
    return np.dtype("?" if code == "b1" else code)
