"""Calls of the user's own functions, as generated code has them: ``user.symbol(x, y)``; knows no function.

Of elements the machine code of one takes the addresses, of arrays the addresses and the sizes, what is written coming
last; it returns a status code.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.foreign import Foreign, known
from staticad.runtime import flow, settings
from staticad.runtime.kernels.values import INTP, Direct, Value, View, direct
from staticad.runtime.kinds import BYTE, kind_of
from staticad.runtime.user import PREFIX, ready


class Linked(Direct):
    """A function of the user's, as compiled code calls it."""

    def __init__(self, found: Foreign) -> None:
        self.found = found

    def write(self, walk: Any, *given: Value) -> Value:
        """The function of one element from each operand."""
        places: list[ir.Value] = []
        for x, (dtype, _) in zip(given, self.found.operands, strict=True):
            kind = kind_of(dtype)
            place = flow.room(walk.builder, kind.memory)
            kind.store(walk.builder, walk.cast(x, kind), place)
            places.append(place)
        kind = kind_of(self.found.dtype)
        out = flow.room(walk.builder, kind.memory)
        self.call(walk, [*places, out])
        return Value(kind, kind.load(walk.builder, out))

    def call(self, walk: Any, words: Sequence[ir.Value]) -> None:
        """The call itself; where it goes wrong, the function that is written returns the status code."""
        builder, symbol = walk.builder, f"{PREFIX}{self.found.symbol}"
        ready(symbol)
        address = BYTE.as_pointer()
        given = [x if x.type == INTP else builder.bitcast(x, address) for x in words]
        kind = ir.FunctionType(INTP, [x.type for x in given])
        code = builder.call(flow.declared(builder.module, kind, symbol), given)
        with flow.unlikely(builder, builder.icmp_signed("!=", code, ir.Constant(INTP, 0))):
            walk.leave(code)


class Plain:
    """The same in plain Python."""

    def __init__(self, found: Foreign) -> None:
        self.found = found

    def __call__(self, *xs: Any) -> Any:
        return self.found.element(*xs)


class Functions:
    """The user's functions by their symbols."""

    def __getattr__(self, symbol: str) -> Any:
        if symbol not in known:
            raise AttributeError(f"no user's function has the symbol {symbol!r}")
        return (Plain if settings.plain() else Linked)(known[symbol])


user = Functions()


def plainly(out: Any, *given: Any) -> None:
    *arrays, function, _ = given
    function.found.fill(out, *map(np.asarray, arrays))


@direct(plainly)
def foreign(walk: Any, out: View, *given: Any) -> None:
    """``(out, *operands, function, alone)``: a function of arrays, which fills ``out``."""
    *arrays, function, _ = given
    function.call(walk, [word for x in (*arrays, out) for word in (x.data, *x.shape)])
