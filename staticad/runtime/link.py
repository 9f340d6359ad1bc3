"""The addresses of machine code by its symbols, and objects that become such; knows nothing of what the code does.

Symbols starting with `PREFIX` are ours. Code is never unloaded.
"""

from __future__ import annotations

import threading

from staticad.runtime import elf

PREFIX = "staticad_"

addresses: dict[str, int] = {}
lock = threading.RLock()


def link(symbol: str, code: bytes) -> int:
    """The address of ``symbol`` in an object, all of whose own symbols must be known."""
    with lock:
        if symbol not in addresses:
            address = elf.mapped(code, symbol, addresses)
            if address is None:
                from staticad.runtime import machine

                address = machine.linked(symbol, code, addresses)
            addresses[symbol] = address
        return addresses[symbol]
