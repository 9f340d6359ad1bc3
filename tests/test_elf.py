"""Cached machine code in a process without LLVM: the same results as through LLVM, and LLVM wherever that is needed."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import PROGRAMS

import staticad as ad
from staticad.runtime import cache, elf, host, link, settings
from staticad.runtime.link import PREFIX

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.skipif(settings.plain(), reason="there is no machine code"),
    pytest.mark.skipif(not elf.available(), reason="LLVM links the code of this platform"),
]

# Compiles and calls all programs; prints the bits of what they give, and whether LLVM was needed.
SCRIPT = """
import json, sys
import numpy as np, programs, staticad as ad
from staticad.nests import leaves
from staticad.runtime import elf
if sys.argv[1] == "llvm":
    elf.mapped = lambda *args: None
found = {}
for name in programs.PROGRAMS:
    case, f = programs.build(name, ad.compile)
    given = programs.arrays(case.inputs)
    with np.errstate(all="ignore"):
        results = [*leaves(f(*given)), *(p.value for p in case.updates)]
    found[name] = [x.tobytes().hex() for x in results], f.stats.cache_hit
print(json.dumps([found, [x for x in ("llvmlite.binding", "llvmlite.ir", "numba") if x in sys.modules]]))
"""

# Python ends while a thread of it runs a program again and again.
ENDING = """
import sys, threading, time
import numpy as np, staticad as ad
x = ad.input("x", ("n",))
f = ad.compile([x], ad.sum(ad.sin(x)))
data = np.ones(1_000_000)
f(data)

def calls():
    while True:
        f(data)

class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(0.1)

sys.modules["slow"] = Slow()
threading.Thread(target=calls, daemon=True).start()
time.sleep(0.02)
"""


def python(code: str, *args: str, folder: Path) -> str:
    path = os.pathsep.join([str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "STATICAD_CACHE_DIR": str(folder)}
    command = [sys.executable, "-W", "error", "-c", code, *args]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("elf") / "cache"


@pytest.fixture(scope="module")
def runs(folder: Path) -> list[Any]:
    """What the programs give when they are compiled, when LLVM links them from the cache, and when we do."""
    return [json.loads(python(SCRIPT, way, folder=folder)) for way in ("own", "llvm", "own")]


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_bits_through_both_loaders(name: str, runs: list[Any]) -> None:
    compiled, by_llvm, own = (found[name] for found, _ in runs)
    assert [hit for _, hit in (compiled, by_llvm, own)] == [False, True, True]
    assert compiled[0] == by_llvm[0] == own[0]


def test_a_process_that_compiles_nothing_has_no_llvm(runs: list[Any]) -> None:
    compiled, by_llvm, own = (modules for _, modules in runs)
    assert own == []
    assert "llvmlite.binding" in compiled
    assert "llvmlite.binding" in by_llvm


def test_python_may_end_while_a_thread_is_in_the_code(folder: Path) -> None:
    for _ in range(2):
        python(ENDING, folder=folder)


# objects -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def object_() -> tuple[str, bytes]:
    """A symbol and an object that defines it: an element of a table, by way of functions of three kinds, plus 100."""
    from staticad.runtime import machine

    text = f"""
    target triple = "{host.host()[0]}"
    @table = internal constant [4 x i64] [i64 2, i64 3, i64 5, i64 7]
    declare i32 @abs(i32)
    declare i64 @{PREFIX}other(i64)
    define internal i64 @within(i64 %x) noinline {{
        %place = getelementptr [4 x i64], ptr @table, i64 0, i64 %x
        %y = load i64, ptr %place
        ret i64 %y
    }}
    define i64 @{PREFIX}elf_test(i64 %x) {{
        %y = call i64 @within(i64 %x)
        %short = trunc i64 %y to i32
        %minus = sub i32 0, %short
        %z = call i32 @abs(i32 %minus)
        %long = zext i32 %z to i64
        %sum = call i64 @{PREFIX}other(i64 %long)
        ret i64 %sum
    }}
    """
    return f"{PREFIX}elf_test", machine.machine_code(text)


OTHER = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(lambda x: 100 + x)
KNOWN = {f"{PREFIX}other": ctypes.cast(OTHER, ctypes.c_void_p).value or 0}


def changed(code: bytes, at: int, content: bytes) -> bytes:
    return code[:at] + content + code[at + len(content) :]


def section(code: bytes, kind: int) -> tuple[int, elf.Section]:
    """Where the row of the first section of a kind stands that has any content, and the row."""
    table = elf.HEADER.unpack_from(code)[3]
    found = ((table + k * elf.SECTION.size, s) for k, s in enumerate(elf.read(code)))
    return next((at, s) for at, s in found if s.kind == kind and s.size)


def test_an_object_is_linked(object_: tuple[str, bytes]) -> None:
    symbol, code = object_
    address = elf.mapped(code, symbol, KNOWN)
    assert address is not None
    call = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(address)
    assert [call(k) for k in range(4)] == [102, 103, 105, 107]


def test_what_is_not_known_is_left_to_llvm(object_: tuple[str, bytes]) -> None:
    symbol, code = object_
    assert elf.mapped(code, symbol, KNOWN) is not None
    assert elf.mapped(code, symbol, {}) is None  # a symbol of another object
    assert elf.mapped(code, f"{PREFIX}absent", KNOWN) is None
    assert elf.mapped(b"", symbol, KNOWN) is None
    assert elf.mapped(b"MZ" + code[2:], symbol, KNOWN) is None  # another format
    assert elf.mapped(changed(code, 18, b"\xb7\0"), symbol, KNOWN) is None  # AArch64
    at, s = section(code, elf.CONTENT)
    assert elf.mapped(changed(code, at + 8, bytes([s.flags & 0xFF | elf.WRITEABLE])), symbol, KNOWN) is None
    at, s = section(code, elf.RELOCATIONS)
    assert elf.mapped(changed(code, s.offset + 8, b"\2\0\0\0"), symbol, KNOWN) is None  # relative to the code


def test_llvm_links_what_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(elf, "mapped", lambda code, symbol, known: asked.append(symbol))
    x = ad.input("x", ("n",))
    f = ad.compile([x], ad.sum(x * 1234.5))  # the sum is a kernel that was linked by ourselves or by LLVM
    assert asked
    np.testing.assert_allclose(f(np.arange(4.0)), 6 * 1234.5)


def test_no_page_is_both_written_and_executed(runs: list[Any]) -> None:
    x = ad.input("x", ("n",))
    ad.compile([x], ad.exp(x))(np.ones(3))
    pages = [line.split()[:2] for line in Path("/proc/self/maps").read_text().splitlines()]
    ranges = [(*(int(end, 16) for end in where.split("-")), rights) for where, rights in pages]
    code = [a for symbol, a in link.addresses.items() if symbol.startswith((f"{PREFIX}gate", f"{PREFIX}kernel"))]
    assert code
    for address in code:
        (rights,) = (r for start, stop, r in ranges if start <= address < stop)
        assert rights == "r-xp"


# the processor -------------------------------------------------------------------------------------------------------


def test_the_processor_is_known_by_its_answers() -> None:
    vendor = host.WORDS[host.BASIC, 0]
    assert vendor == (0, 1, 2, 3)
    words = [int(word, 16).to_bytes(4, "little") for word in (host.identity() or "").split()]
    name = (words[1] + words[3] + words[2]).decode()  # the processor tells it in this order
    assert f": {name}\n" in Path("/proc/cpuinfo").read_text()


def test_every_core_gives_the_same_answers() -> None:
    cores = os.sched_getaffinity(0)
    try:
        found = set()
        for core in cores:
            os.sched_setaffinity(0, {core})
            found.add(host.identity())
    finally:
        os.sched_setaffinity(0, cores)
    assert len(found) == 1


def test_llvm_is_asked_once_for_each_processor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STATICAD_CACHE_DIR", str(tmp_path / "cache"))
    known = host.asked()
    times: list[int] = []
    monkeypatch.setattr(host, "asked", lambda: times.append(1) or known)
    assert host.native() == host.native() == known
    assert len(times) == 1
    monkeypatch.setattr(host, "identity", lambda: "another processor")
    assert host.native() == known
    assert len(times) == 2
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(file.read_bytes()[:-1])
    assert host.native() == known
    assert len(times) == 3
    monkeypatch.setattr(cache, "directory", lambda: None)
    assert host.native() == known
    assert len(times) == 4


def test_what_llvm_does_not_know_of_a_processor_is_added(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in ("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX"):
        monkeypatch.delenv(setting, raising=False)
    for name, features in (("znver4", "+avx512f,+prefer-no-scatter"), ("skylake", "+avx512f")):
        monkeypatch.setattr(host, "native", lambda name=name: ("a-triple", name, "+avx512f"))
        assert host.host.__wrapped__() == ("a-triple", name, features)
