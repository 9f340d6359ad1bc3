"""Names for generated code: a user's names are data, so each is checked and made distinct; knows no programs."""

from __future__ import annotations

import builtins
import keyword
import re

RESERVED = frozenset(
    [*keyword.kwlist, *keyword.softkwlist, *dir(builtins), "np", "m", "work", "tape", "status"]
    + ["entry", "kernel", "main", "parallel", "root", "user"]
    + ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f4", "f8"]
)
LOOP_VARIABLES = ("i", "j", "k", "l", "p", "q", "r", "s")


class Names:
    """The names taken in one generated function or module."""

    def __init__(self) -> None:
        self.used: set[str] = set(RESERVED)
        self.counts: dict[str, int] = {}

    def claim(self, hint: str | None) -> str:
        """A name that is free, as like ``hint`` as may be: ``h``, ``h_1``, ``h_2``, ...

        >>> names = Names()
        >>> names.claim("loss"), names.claim("loss"), names.claim("x; import os"), names.claim("class")
        ('loss', 'loss_1', 'x_import_os', 'class_')
        """
        stem = re.sub(r"\W+", "_", hint or "t", flags=re.ASCII).strip("_")[:40] or "t"
        if stem[0].isdigit():
            stem = f"t{stem}"
        if stem in RESERVED:
            stem += "_"
        name = stem
        while name in self.used:
            self.counts[stem] = self.counts.get(stem, 0) + 1
            name = f"{stem}{self.counts[stem]}" if stem.endswith("_") else f"{stem}_{self.counts[stem]}"
        self.used.add(name)
        return name
