"""What the user set for native code, in Numba's variables; imports Numba for none of it.

Where Numba is imported, its settings stand, since a program may change them after the start.
"""

from __future__ import annotations

import os
import sys
from typing import Any


def setting(name: str) -> Any:
    """Numba's ``NUMBA_<name>``: from Numba if it is imported, else the environment's text; None if it is not set."""
    config = sys.modules.get("numba.core.config")
    if config is not None and hasattr(config, name):
        return getattr(config, name)
    return os.environ.get(f"NUMBA_{name}") or None


def plain() -> bool:
    """Whether generated code is to run as plain Python (``NUMBA_DISABLE_JIT``)."""
    return bool(int(setting("DISABLE_JIT") or 0))


def threads() -> int:
    """How many threads Numba may launch (``NUMBA_NUM_THREADS``): by default as many as the process may run on."""
    config = sys.modules.get("numba.core.config")
    if config is not None:
        return config.NUMBA_NUM_THREADS
    if given := os.environ.get("NUMBA_NUM_THREADS"):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
