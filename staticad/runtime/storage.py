"""Compiled functions in the disk cache, as Numba asks for them; knows compile results, not what they compute."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import functools
import hashlib
import platform
import sys
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import config, serialize
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

from staticad.runtime import cache

# Numba's settings that change machine code; the environment and a .numba_config.yaml both end up in them.
SETTINGS = (
    "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE", "ENABLE_AVX", "BOUNDSCHECK", "DEBUGINFO_DEFAULT", "FULL_TRACEBACKS",
    "DISABLE_INTEL_SVML", "LLVM_REFPRUNE_PASS", "LLVM_REFPRUNE_FLAGS", "CPU_NAME", "CPU_FEATURES", "DISABLE_JIT",
)  # fmt: skip


class NativeFile(_Cache):
    """What a Numba dispatcher asks for compiled code before it compiles, and gives it to afterwards: one file."""

    def __init__(self, path: Path, key: str) -> None:
        self.path, self.key = path, key
        self.hit = False

    @classmethod
    def of(cls, name: str) -> NativeFile | None:
        """The file for a function of the runtime (whose text is in `surroundings`), if there is a usable directory."""
        folder = cache.directory()
        key = digest(name)
        return cls(folder / f"{name}_{key[:24]}.native", key) if folder else None

    @property
    def cache_path(self) -> str:
        return str(self.path.parent)

    def load_overload(self, sig: Any, target_context: Any) -> CompileResult | None:
        payload = cache.unseal(self.key, cache.read(self.path))
        if payload is None:
            return None
        # Not `target_context.refresh()`, which imports all of Numba's library (and SciPy), more than half of the time
        # of a first call, and is only needed to compile; whoever does compile later runs it.
        rtsys.initialize(target_context)
        self.hit = True
        return CompileResult._rebuild(target_context, *serialize.loads(payload))

    def save_overload(self, sig: Any, data: CompileResult) -> None:
        if not data.library.has_dynamic_globals:  # addresses of this process alone
            cache.write(self.path, cache.seal(self.key, serialize.dumps(data._reduce())))

    def enable(self) -> None:
        pass

    def disable(self) -> None:
        pass

    def flush(self) -> None:
        pass


@functools.cache
def surroundings() -> str:
    """Everything besides a program's own text that shapes its machine code."""
    runtime = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        runtime.update(file.name.encode() + b"\0" + file.read_bytes())
    version = getattr(sys.modules["staticad"], "__version__", "")
    settings = {name: getattr(config, name, None) for name in SETTINGS}
    machine = () if config.DISABLE_JIT else cpu_target.target_context.codegen().magic_tuple()
    return repr((
        version, runtime.hexdigest(), numba.__version__, llvmlite.__version__, np.__version__,
        platform.python_implementation(), sys.version_info[:3], sys.maxsize, machine, settings,
    ))  # fmt: skip


def digest(text: str) -> str:
    """The content hash of a program's text and of everything else that shapes its machine code."""
    return hashlib.sha256(f"{text}\0{surroundings()}".encode()).hexdigest()
