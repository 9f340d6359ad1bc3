"""Relocatable objects of x86-64 Linux as machine code of this process, without LLVM; knows their format, no program.

Importing LLVM takes longer than all else of a start from the disk cache. What it makes in its large code model is
plain: code and constants, in which the addresses of functions and constants are left open as 64-bit words. All else (a
variable, another kind of relocation, a symbol that is not known here, another platform) is left to LLVM.

Pages are written before they can be executed, never after, and are never given back, since threads may run in them
until the process has ended. Tables for unwinding the stack are left out: compiled code throws nothing, and whoever
unwinds a thread that ends inside of it (as Python does when the process ends) takes its frame for the last.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import struct
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

# Of the header: what kind of file it is (64 bits, little-endian), that it is an object, and its processor; then where
# its table of sections is, how large a row of that is, and how many there are.
HEADER = struct.Struct("<7s 9x HH 20x Q 10x HHH")
KIND = (b"\x7fELF\x02\x01\x01", 1, 62)
SECTION = struct.Struct("<II QQQQ II QQ")
SYMBOL = struct.Struct("<I H H Q Q")
RELOCATION = np.dtype([("offset", "<u8"), ("how", "<u4"), ("symbol", "<u4"), ("addend", "<u8")])

CONTENT, SYMBOLS, RELOCATIONS, UNWINDING = 1, 2, 4, 0x70000001  # kinds of sections
WRITEABLE, IN_MEMORY = 1, 2  # their flags
ELSEWHERE = 0  # the section of a symbol that the object does not define
ADDRESS = 1  # how to relocate: eight bytes become the address of the symbol plus the addend


class Section(NamedTuple):
    """A row of the table; ``link`` and ``about`` are numbers of other sections."""

    name: int
    kind: int
    flags: int
    address: int
    offset: int
    size: int
    link: int
    about: int
    alignment: int
    row: int

    def content(self, code: bytes) -> bytes:
        return code[self.offset : self.offset + self.size]


def mapped(code: bytes, symbol: str, known: Mapping[str, int]) -> int | None:
    """The address of ``symbol`` in an object that is mapped now, or None if that is for LLVM to do.

    ``known`` tells the addresses of symbols of other objects; those of Python and of the C library need not be in it.
    """
    sections = read(code) if available() else []
    starts, size = layout(sections)
    relocations = [
        (starts[s.about], np.frombuffer(s.content(code), RELOCATION))
        for s in sections
        if s.kind == RELOCATIONS and s.about in starts
    ]
    if not starts or any((rows["how"] != ADDRESS).any() for _, rows in relocations):
        return None
    places: list[int | None] = []  # of symbols, by number: within the image, or where they are
    inside: list[bool] = []
    entry = None
    for name, section, value in symbols(code, sections):
        inside.append(section in starts)
        places.append(starts[section] + value if section in starts else None)
        if section == ELSEWHERE and name:
            places[-1] = known.get(name) or exported(name)
        elif name == symbol:
            entry = places[-1]
    if entry is None or any(places[k] is None for _, rows in relocations for k in set(rows["symbol"].tolist())):
        return None
    start = reserve(size)
    if start is None:
        return None
    image = np.zeros(size, np.uint8)
    for k, at in starts.items():
        image[at : at + sections[k].size] = np.frombuffer(sections[k].content(code), np.uint8)
    addresses = np.array([x or 0 for x in places], np.uint64) + np.array(inside, np.uint64) * np.uint64(start)
    for at, rows in relocations:
        found = addresses[rows["symbol"]] + rows["addend"]
        image[(at + rows["offset"])[:, None] + np.arange(8, dtype=np.uint64)] = found.view(np.uint8).reshape(-1, 8)
    return start + entry if executable(start, image) else None


def read(code: bytes) -> list[Section]:
    """The sections of an object of the kind that is known here."""
    if len(code) < HEADER.size:
        return []
    *kind, table, row, count, _ = HEADER.unpack_from(code)
    if tuple(kind) != KIND or row != SECTION.size:
        return []
    return [Section(*fields) for fields in SECTION.iter_unpack(code[table : table + row * count])]


def layout(sections: list[Section]) -> tuple[dict[int, int], int]:
    """Where each section stands in the image, and the size of that; nowhere if there is one that is not known here."""
    starts: dict[int, int] = {}
    end = 0
    for k, s in enumerate(sections):
        if s.flags & IN_MEMORY and s.kind != UNWINDING:
            if s.flags & WRITEABLE or s.kind != CONTENT:
                return {}, 0
            starts[k] = end + -end % max(s.alignment, 1)
            end = starts[k] + s.size
    return starts, end


def symbols(code: bytes, sections: list[Section]) -> list[tuple[str, int, int]]:
    """The name, the section and the place in that of each symbol."""
    found: list[tuple[str, int, int]] = []
    for table in sections:
        if table.kind == SYMBOLS:  # there is one
            names = sections[table.link].content(code)
            for at, _, section, value, _ in SYMBOL.iter_unpack(table.content(code)):
                found.append((names[at : names.index(b"\0", at)].decode(), section, value))
    return found


# memory --------------------------------------------------------------------------------------------------------------


@functools.cache
def available() -> bool:
    return sys.platform == "linux" and os.uname().machine == "x86_64" and sys.maxsize > 1 << 32


@functools.cache
def process() -> Any:
    """What Python and the C library export."""
    library = ctypes.CDLL(None)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    library.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return library


def exported(name: str) -> int | None:
    function = getattr(process(), name, None)
    return ctypes.cast(function, ctypes.c_void_p).value if function is not None else None


def reserve(size: int) -> int | None:
    """The address of so many bytes, which only this process sees; None where there are none."""
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start = process().mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, kind, -1, 0)
    return None if start == ctypes.c_void_p(-1).value else start


def executable(start: int, image: np.ndarray[Any, np.dtype[np.uint8]]) -> bool:
    """Put an image where it belongs, for good; False where the system does not allow code made at run time."""
    ctypes.memmove(start, image.ctypes.data, image.size)
    return process().mprotect(start, image.size, mmap.PROT_READ | mmap.PROT_EXEC) == 0


def placed(code: bytes) -> int | None:
    """The address of code that refers to nothing, or None where it cannot run."""
    start = reserve(len(code)) if available() else None
    return start if start is not None and executable(start, np.frombuffer(code, np.uint8)) else None
