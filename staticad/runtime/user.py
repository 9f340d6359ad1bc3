"""The user's own functions as symbols of machine code, and the exceptions that they raise; imports Numba for neither.

An exception cannot cross machine code. It is put down under a status code, which programs pass on as they find it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np

from staticad import foreign
from staticad.errors import CustomOpError, DTypeError
from staticad.runtime import link, settings
from staticad.runtime.codes import RAISED

PREFIX = f"{link.PREFIX}user_"
#: Exceptions that are kept: several threads of a call may raise one each, and be told of one.
MOST = 256

raised: dict[int, CustomOpError] = {}
codes = count(1)


def element_dtype(name: str, function: Callable[..., Any], operands: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """That of what ``function`` returns for a number of each dtype. Raises `CompileError`, `DTypeError`."""
    if not settings.plain():
        from staticad.runtime import foreign as native

        return native.element_dtype(name, function, operands)
    try:  # plain Python tells what it does only by doing it
        return np.asarray(function(*(dtype.type(1) for dtype in operands))).dtype
    except Exception as error:
        raise DTypeError(f"custom_op: {name} fails for ones ({error}), so give its dtype as result=...") from error


def check(found: foreign.Foreign) -> None:
    """Raise `CompileError` or `DTypeError` unless a function takes its operands and gives its results."""
    if not settings.plain():
        from staticad.runtime import foreign as native

        native.check(found)


def ready(symbol: str) -> bool:
    """Whether ``symbol`` is that of a function of the user's, which machine code may refer to from now on.

    Raises `CompileError`."""
    found = foreign.known.get(symbol.removeprefix(PREFIX)) if symbol.startswith(PREFIX) else None
    if found is None:
        return False
    with link.lock:
        if symbol not in link.addresses:
            from staticad.runtime.foreign import address

            link.addresses[symbol] = address(found, note)
    return True


def note(error: CustomOpError) -> int:
    """The status code under which an exception is put down."""
    code = RAISED - next(codes)
    raised[code] = error
    while len(raised) > MOST:
        raised.pop(next(iter(raised)), None)
    return code


def exception(code: int, program: str) -> CustomOpError:
    """The exception of a status code, in the program of this name."""
    error = raised.get(code)
    found = CustomOpError(f"{program}: {error or 'a custom_op raised an exception'}")
    found.__cause__ = error and error.__cause__
    return found


class Raised(CustomOpError):
    """What is raised inside of ``@njit`` code, which knows the status code alone."""

    def __init__(self, program: str, code: int) -> None:
        found = exception(code, program)
        super().__init__(*found.args)
        self.__cause__ = found.__cause__
