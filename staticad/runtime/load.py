"""From the text of a generated module to native code, by way of the disk cache; knows no graph and no emitter.

A program that was compiled before is found by the digest of its text: neither is its module run, nor is any part of the
compiler imported.
"""

from __future__ import annotations

import linecache
import re
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from time import perf_counter
from types import ModuleType

try:
    import resource
except ImportError:  # on Windows
    resource = None

from staticad.errors import CompileError
from staticad.runtime import cache, link, settings, storage
from staticad.runtime.gate import Array, bind, bind_plain
from staticad.runtime.signatures import parse


@dataclass(frozen=True, eq=False)
class Native:
    """A loaded program.

    ``symbol`` names its machine code, which takes arrays of the types in ``signature`` (see `signatures`); ``source``
    is its text and ``path`` the file of that, if one could be written; ``seconds`` the time each stage took;
    ``functions`` how many kernel functions the program has, of which ``compiled`` were known neither in this process
    nor on disk; ``peak_bytes`` the most memory that the process had until then, 0 where the platform does not tell.
    """

    symbol: str
    signature: str
    source: str
    path: str | None
    cache_hit: bool
    seconds: dict[str, float]
    functions: int = 0
    compiled: int = 0
    peak_bytes: int = 0

    def bind(self, held: dict[int, Array], written: Collection[int]) -> Callable[..., int]:
        """The program as a Python callable; see `gate.bind`."""
        types = parse(self.signature)
        if settings.plain():
            return bind_plain(self.module.main, types, held, written)
        return bind(link.addresses[self.symbol], types, held, written)

    @cached_property
    def call(self) -> Callable[..., int]:
        """The program as a Python callable of all its arguments, each of which may be written."""
        return self.bind({}, range(len(parse(self.signature))))

    @cached_property
    def module(self) -> ModuleType:
        """The module of the program, in which its functions are as they are before they are compiled."""
        return execute(self.source, self.symbol, self.path)

    def asm(self) -> str:
        """The assembly text of the program and its kernel functions; compiled once more for it."""
        if settings.plain():
            raise CompileError("there is no assembly under NUMBA_DISABLE_JIT")
        from staticad.runtime.functions import assembly

        return "\n".join(assembly(self.module.main, self.symbol))


loaded: dict[str, Native] = {}


def load(source: str, name: str) -> Native:
    """Native code for the text of a generated module, from the disk cache if it was compiled before.

    The same text under the same name gives the same `Native`. ``name`` only makes files and tracebacks easier to read.
    Raises `CompileError`.
    """
    key = storage.digest(f"{name}\0{source}")
    with link.lock:
        if key not in loaded:
            readable = re.sub(r"\W", "_", name, flags=re.ASCII)[:40]
            loaded[key] = build(source, f"{link.PREFIX}{readable}_{key[:32]}")
        return loaded[key]


def build(source: str, symbol: str) -> Native:
    seconds: dict[str, float] = {}
    start = perf_counter()
    folder = cache.directory()
    saved = folder and save(source, folder / f"{symbol}.py")
    path = str(saved) if saved else None
    seconds["save"] = perf_counter() - start

    if settings.plain():
        module = execute(source, symbol, path)
        return Native(symbol, module.main.signature, source, path, False, seconds)

    start = perf_counter()
    facts, fresh = storage.load(symbol), 0
    hit = facts is not None
    if facts is None:
        facts, fresh, hit = complete(symbol, execute(source, symbol, path))
    seconds["load" if hit else "compile"] = perf_counter() - start
    return Native(symbol, facts["signature"], source, path, hit, seconds, facts["functions"], fresh, peak_bytes())


def complete(symbol: str, module: ModuleType) -> tuple[storage.Facts, int, bool]:
    """The facts of a program, compiled as far as it is not stored; how many kernel functions were, and whether only
    those. Raises `CompileError`."""
    from staticad.runtime import functions

    found = functions.kernels(vars(module))
    for kernel in found:
        kernel.ready()
    fresh = sum(kernel.fresh for kernel in found)
    facts = storage.load(symbol) if fresh else None
    if facts is not None:
        return facts, fresh, True
    main = module.main
    facts = {"signature": main.signature, "functions": len(found)}
    functions.build(lambda module: main.define(module, symbol), symbol, main.py_func, facts)
    return facts, fresh, False


def peak_bytes() -> int:
    if resource is None:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def save(source: str, path: Path) -> Path | None:
    """Put the text where tracebacks and debuggers look for it; it is never read back to be run."""
    text = source.encode()
    return path if cache.read(path) == text or cache.write(path, text) else None


def execute(source: str, name: str, path: str | None) -> ModuleType:
    """The module made of ``source``."""
    module = ModuleType(name)
    module.__file__ = path or f"<{name}>"
    if not path:  # an entry without time of change survives `linecache.checkcache`
        linecache.cache[module.__file__] = (len(source), None, source.splitlines(keepends=True), module.__file__)
    vars(module)["__source__"] = source
    exec(compile(source, module.__file__, "exec", dont_inherit=True), module.__dict__)
    return module
