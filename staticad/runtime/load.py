"""From the text of a generated module to native code, by way of the disk cache; knows no graph and no emitter."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import linecache
import re
import sys
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from types import ModuleType
from typing import Any

from numba.core import config

try:
    import resource
except ImportError:  # on Windows
    resource = None

from staticad.errors import CompileError
from staticad.runtime import cache
from staticad.runtime.functions import assembly, kernels
from staticad.runtime.gate import Array, bind
from staticad.runtime.storage import NativeFile, digest


@dataclass(frozen=True, eq=False)
class Native:
    """A loaded program.

    ``main`` is the program (the plain function under NUMBA_DISABLE_JIT); ``path`` the source file, if one could be
    written; ``seconds`` the time each stage took; ``functions`` how many kernel functions the program has, of which
    ``compiled`` were known neither in this process nor on disk; ``peak_bytes`` the most memory that the process had
    until then, 0 where the platform does not tell.
    """

    main: Any
    path: str | None
    cache_hit: bool
    seconds: dict[str, float]
    functions: int = 0
    compiled: int = 0
    peak_bytes: int = 0

    def bind(self, held: dict[int, Array], written: Collection[int]) -> Callable[..., int]:
        """The program as a Python callable; see `gate.bind`."""
        return bind(self.main, held, written)

    @cached_property
    def call(self) -> Callable[..., int]:
        """The program as a Python callable of all its arguments, each of which may be written."""
        return self.bind({}, range(len(self.main.arrays)))

    def asm(self) -> str:
        """The assembly text of the program and its kernel functions; compiled once more for it."""
        if config.DISABLE_JIT:
            raise CompileError("there is no assembly under NUMBA_DISABLE_JIT")
        return "\n".join(assembly(self.main))


loaded: dict[str, Native] = {}
lock = threading.RLock()


def load(source: str, name: str) -> Native:
    """Native code for the text of a generated module, from the disk cache if it was compiled before.

    The same text under the same name gives the same `Native`. ``name`` only makes files and tracebacks easier to read.
    Raises `CompileError`.
    """
    key = digest(f"{name}\0{source}")
    with lock:
        if key not in loaded:
            readable = re.sub(r"\W", "_", name, flags=re.ASCII)[:40]
            loaded[key] = build(source, f"staticad_{readable}_{key[:24]}", key)
        return loaded[key]


def build(source: str, module_name: str, key: str) -> Native:
    seconds: dict[str, float] = {}
    start = perf_counter()
    folder = cache.directory()
    path = folder and save(source, folder / f"{module_name}.py")
    seconds["save"] = perf_counter() - start

    start = perf_counter()
    module = execute(source, module_name, path)
    seconds["import"] = perf_counter() - start
    if config.DISABLE_JIT:
        return Native(module.main, path and str(path), False, seconds)

    start = perf_counter()
    file = NativeFile(folder / f"{module_name}.native", key) if folder else None
    try:
        found = kernels(vars(module))
        for kernel in found:
            kernel.ready()
        module.main.compile(module_name, file)
    except BaseException:
        del sys.modules[module_name]
        raise
    hit = file is not None and file.hit
    seconds["load" if hit else "compile"] = perf_counter() - start
    fresh = sum(kernel.fresh for kernel in found)
    return Native(module.main, path and str(path), hit, seconds, len(found), fresh, peak_bytes())


def peak_bytes() -> int:
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def save(source: str, path: Path) -> Path | None:
    """Put the text where tracebacks and debuggers look for it; it is never read back to be run."""
    text = source.encode()
    return path if cache.read(path) == text or cache.write(path, text) else None


def execute(source: str, name: str, path: Path | None) -> ModuleType:
    """The module made of ``source``, under its name in `sys.modules`, where stored code looks for its globals."""
    module = ModuleType(name)
    module.__file__ = str(path) if path else f"<{name}>"
    if not path:  # an entry without time of change survives `linecache.checkcache`
        linecache.cache[module.__file__] = (len(source), None, source.splitlines(keepends=True), module.__file__)
    vars(module)["__source__"] = source
    sys.modules[name] = module
    try:
        exec(compile(source, module.__file__, "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        del sys.modules[name]
        raise
    return module
