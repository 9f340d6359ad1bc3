"""What machine code is made for; asks LLVM once, and from then on the processor whether it is still the same.

LLVM knows a processor by its answers to one instruction. A file in the cache directory holds what LLVM made of them, so
that a process that finds all its code there needs no LLVM.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib

import llvmlite

from staticad.runtime import cache, elf
from staticad.runtime.settings import setting

# llvmlite has no types.
# pyright: reportMissingTypeStubs=false

# fmt: off
#: ``(leaf, part, uint32 *to)``: what the processor answers to two numbers, in four words.
ASK = bytes((
    0x53,                    # push rbx
    0x89, 0xF8,              # mov  eax, edi
    0x89, 0xF1,              # mov  ecx, esi
    0x49, 0x89, 0xD0,        # mov  r8, rdx
    0x0F, 0xA2,              # cpuid
    0x41, 0x89, 0x00,        # mov  [r8], eax
    0x41, 0x89, 0x58, 0x04,  # mov  [r8 + 4], ebx
    0x41, 0x89, 0x48, 0x08,  # mov  [r8 + 8], ecx
    0x41, 0x89, 0x50, 0x0C,  # mov  [r8 + 12], edx
    0x5B,                    # pop  rbx
    0xC3,                    # ret
))
#: ``()``: which registers the system saves, a bit for each.
SAVED = bytes((
    0x31, 0xC9,              # xor  ecx, ecx
    0x0F, 0x01, 0xD0,        # xgetbv
    0xC3,                    # ret
))
# fmt: on
BASIC, EXTENDED = 0, 0x80000000  # leaves that tell in their first word which is the last
#: Of the leaves that LLVM looks at, the words that are the same whichever core is asked.
WORDS: dict[tuple[int, int], tuple[int, ...]] = {
    (BASIC, 0): (0, 1, 2, 3),
    (0x1, 0): (0, 2, 3),
    (0x7, 0): (0, 1, 2, 3),
    (0x7, 1): (0, 1, 2, 3),
    (0xD, 1): (0,),
    (0x14, 0): (0, 1),
    (0x19, 0): (0, 1),
    (0x1E, 1): (0,),
    (0x24, 0): (0, 1),
    (EXTENDED, 0): (0, 1, 2, 3),
    (EXTENDED + 1, 0): (0, 1, 2, 3),
    (EXTENDED + 8, 0): (1,),
}
SAVES = 1 << 27  # in the third word of leaf 1: there is such an instruction as `SAVED` has


#: What LLVM does not know of processors whose names begin so: to store each lane of a vector at a place of its own is
#: several times as slow by the instruction for it as one by one.
TUNING = {"znver": "+prefer-no-scatter"}


@functools.cache
def host() -> tuple[str, str, str]:
    """Triple, processor and its features (or ``NUMBA_CPU_NAME``, ``NUMBA_CPU_FEATURES``)."""
    triple, name, features = native()
    if setting("ENABLE_AVX") in (0, "0"):
        features = ",".join(f"-{x[1:]}" if x[1:].startswith("avx") else x for x in features.split(","))
    chosen = setting("CPU_FEATURES")
    features = ",".join([features, *(more for start, more in TUNING.items() if name.startswith(start))])
    return triple, setting("CPU_NAME") or name, features if chosen is None else chosen


def native() -> tuple[str, str, str]:
    """What LLVM says, or said in another process."""
    folder, answers = cache.directory(), identity()
    if folder is None or answers is None:
        return asked()
    key = hashlib.sha256(f"{llvmlite.__version__} {answers}".encode()).hexdigest()
    path = folder / f"{key[:32]}.host"
    kept = cache.unseal(key, cache.read(path))
    if kept is None:
        kept = "\n".join(asked()).encode()
        cache.write(path, cache.seal(key, kept))
    triple, name, features = kept.decode().split("\n")
    return triple, name, features


def asked() -> tuple[str, str, str]:
    from staticad.runtime import machine

    return machine.described()


def identity() -> str | None:
    """All that LLVM could learn of this processor, as text; None where it is not known how to ask."""
    ask, saved = elf.placed(ASK), elf.placed(SAVED)
    if ask is None or saved is None:
        return None
    call = ctypes.CFUNCTYPE(None, ctypes.c_uint32, ctypes.c_uint32, ctypes.POINTER(ctypes.c_uint32))(ask)

    def answer(leaf: int, part: int) -> list[int]:
        words = (ctypes.c_uint32 * 4)()
        call(leaf, part, words)
        return list(words)

    last = {start: answer(start, 0)[0] for start in (BASIC, EXTENDED)}
    told: list[int] = []
    for (leaf, part), places in WORDS.items():
        words = answer(leaf, part) if leaf <= last[leaf & EXTENDED] else [0] * 4
        told += [words[k] for k in places]
    if answer(1, 0)[2] & SAVES:
        told.append(ctypes.CFUNCTYPE(ctypes.c_uint32)(saved)())
    return " ".join(f"{word:x}" for word in told)
