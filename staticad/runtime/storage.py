"""Machine code in the disk cache, by the symbol that it defines; knows what else it needs, not what it computes.

A file is named by its symbol, which holds a digest of all that the code depends on, and carries facts (the symbols that
must be known before it is linked, and whatever else its maker wants to find again) before the object.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numpy as np

from staticad.runtime import budget, cache, link, threads, user
from staticad.runtime.host import host

link.addresses[threads.SYMBOL] = ctypes.addressof(threads.table)
link.addresses[budget.SYMBOL] = ctypes.addressof(budget.table)

Facts = dict[str, Any]
known: dict[str, Facts] = {}  # of what has been linked


def load(symbol: str) -> Facts | None:
    """The facts of a symbol that is linked from now on; None where its code, or what it needs, is not stored."""
    with link.lock:
        if symbol in known or symbol in link.addresses or user.ready(symbol):
            return known.get(symbol, {})
        folder = cache.directory()
        payload = cache.unseal(symbol, cache.read(path(folder, symbol))) if folder else None
        if payload is None:
            return None
        head, _, code = payload.partition(b"\n")
        facts: Facts = json.loads(head)
        if any(load(need) is None for need in facts["needs"]):
            return None
        link.link(symbol, code)
        known[symbol] = facts
        return facts


def keep(symbol: str, code: bytes, facts: Facts) -> None:
    """Link code, all of whose ``facts["needs"]`` are linked, and store it where there is a usable directory."""
    with link.lock:
        link.link(symbol, code)
        known[symbol] = facts
    if folder := cache.directory():
        cache.write(path(folder, symbol), cache.seal(symbol, json.dumps(facts).encode() + b"\n" + code))


def path(folder: Path, symbol: str) -> Path:
    return folder / f"{symbol}.native"


@functools.cache
def surroundings() -> str:
    """Everything besides a program's own text that shapes its machine code."""
    runtime = hashlib.sha256()
    for folder, _, names in sorted(os.walk(os.path.dirname(__file__))):  # much quicker than by way of `Path`
        for name in sorted(name for name in names if name.endswith(".py")):
            with open(os.path.join(folder, name), "rb") as file:
                runtime.update(name.encode() + b"\0" + file.read())
    version = getattr(sys.modules["staticad"], "__version__", "")
    return repr((
        version, runtime.hexdigest(), llvmlite.__version__, np.__version__,
        platform.python_implementation(), sys.version_info[:3], sys.maxsize, host(),
    ))  # fmt: skip


def digest(text: str) -> str:
    """The content hash of a program's text and of everything else that shapes its machine code."""
    return hashlib.sha256(f"{text}\0{surroundings()}".encode()).hexdigest()
