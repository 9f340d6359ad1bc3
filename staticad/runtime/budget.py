"""How much memory the tapes of all running programs may take together; knows no tape.

A system that promises more memory than it has ends the process that takes it, so a program must stop before.
"""

from __future__ import annotations

import os
import sys

from staticad.runtime.threads import words

SYMBOL = "staticad_budget"
# What stands in the words, in bytes. LIMIT: what tapes may take; TAKEN: what they have.
LIMIT, TAKEN = range(2)
#: The share of the memory: the rest is for arrays, and for what else runs there.
SHARE = 3 / 4
#: Files in which Linux says what a container may take.
GROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory() -> int:
    """The bytes that the machine has, or a container may take. Where nothing tells, a system is taken not to promise
    more than there is (Windows does not)."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # there is no such function, name or answer
        found = -1
    limits = [found] if found > 0 else []
    for path in GROUPS:
        try:
            with open(path) as file:
                limits.append(int(file.read()))
        except (OSError, ValueError):  # there is none, or it says "max"
            continue
    return min(limits, default=sys.maxsize)


table = words(2)
table[LIMIT] = int(SHARE * memory())
