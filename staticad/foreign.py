"""Functions of the user's that generated code calls, each under a name of its own; knows NumPy, no graph and no Numba.

Machine code refers to such a function by a symbol that means one function as long as the process lives. Which, is told
anew in every process: nothing of the function is in the code that is kept on disk. The symbol tells the types, too,
since they are part of that code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np

from staticad.dtypes import SHORT
from staticad.errors import CustomOpError

Array = np.ndarray[Any, Any]
#: A dtype and a number of axes.
Kind = tuple[np.dtype[Any], int]


@dataclass(frozen=True, eq=False)
class Foreign:
    """A function of the user's for operands of some types.

    Of arrays, and of numbers for operands without axes; the function of an element has such operands alone. It returns
    an array for each of ``results`` or, if they are ``written``, is given those as its last arguments. ``picked`` are
    the results, all of one dtype, that are wanted of it: a single one, or several, which lie one behind the other in
    one array, and then the sizes of all axes of all results are operands, too.
    """

    name: str
    function: Callable[..., Any]
    operands: tuple[Kind, ...]
    results: tuple[Kind, ...]
    written: bool = False
    picked: tuple[int, ...] = (0,)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of what is picked."""
        return self.results[self.picked[0]][0]

    @property
    def packed(self) -> bool:
        return len(self.results) > 1

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Those of the operands, of the sizes, and of the array that is written, as `run` takes them."""
        sizes = [(np.dtype("int64"), 0)] * sum(ndim for _, ndim in self.results)
        own = (self.dtype, 1 if self.packed else self.results[0][1])
        return (*self.operands, *(sizes if self.packed else ()), own)

    @cached_property
    def symbol(self) -> str:
        """The name under which generated code finds the function, made when it is asked for first."""
        stem = re.sub(r"\W+", "_", self.name, flags=re.ASCII).strip("_")[:40] or "function"
        types = "_".join([*map(code, self.operands), "to", *map(code, self.results)])
        which = f"_at_{'_'.join(map(str, self.picked))}" if self.packed else ""
        for k in count(1):
            symbol = f"{stem}{k if k > 1 else ''}_{types}{which}"
            if known.setdefault(symbol, self) is self:
                return symbol
        raise AssertionError

    def __str__(self) -> str:
        return self.name

    # running ---------------------------------------------------------------------------------------------------------

    @cached_property
    def text(self) -> str:
        """The source of ``run(*operands, *sizes, out)``, which calls the function and puts what it gives in ``out``.

        All are arrays. It is plain Python, and compiled for native code."""
        given = [f"x{k}" for k in range(len(self.operands))]
        sizes = [[f"n{k}_{axis}" for axis in range(ndim)] for k, (_, ndim) in enumerate(self.results)]
        arguments = [*given, *(n for axes in sizes for n in axes if self.packed), "out"]
        values = [f"{x}[()]" if not ndim else x for x, (_, ndim) in zip(given, self.operands, strict=True)]
        lines = self.places(sizes) if self.packed else []
        outs = [f"out{k}" for k in range(len(self.results))] if self.packed else ["out"]
        if self.written:
            lines.append(f"function({', '.join([*values, *outs])})")
        else:
            found = [f"found{k}" for k in range(len(self.results))]
            lines.append(f"{', '.join(found)} = function({', '.join(values)})")
            for k in self.picked:
                lines += self.kept(k, found[k], outs[k])
        body = "\n".join(f"    {line}" for line in lines)
        return f"def run({', '.join(arguments)}):\n{body}\n"

    def places(self, sizes: Sequence[Sequence[str]]) -> list[str]:
        """Where the results lie in the array that is written; those that are not picked, in memory of their own."""
        at = "0"
        lines: list[str] = []
        for k, numbers in enumerate(sizes):
            axes = [f"{n}[()]" for n in numbers]
            shape = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
            if k in self.picked:
                lines += [f"end{k} = {' * '.join(['1', *axes])} + {at}", f"out{k} = out[{at}:end{k}].reshape({shape})"]
                at = f"end{k}"
            elif self.written:
                lines.append(f"out{k} = empty({shape}, dtype{k})")
        return lines

    def kept(self, k: int, found: str, out: str) -> list[str]:
        """What puts a result that was returned in its place."""
        if not self.results[k][1]:
            return [f"{out}[()] = {found}"]
        which = f"result {k} " if self.packed else ""
        wrong = f"{which}has another shape than it was declared to have"
        return [f"if {found}.shape != {out}.shape:", f"    raise ValueError({wrong!r})", f"{out}[...] = {found}"]

    def run(self, function: Any) -> Any:
        """`text` as a function that calls ``function``."""
        scope = {"function": function, "empty": np.empty, "ValueError": ValueError}
        scope |= {f"dtype{k}": dtype.type for k, (dtype, _) in enumerate(self.results)}
        exec(compile(self.text, f"<staticad {self.name}>", "exec", dont_inherit=True), scope)
        return scope["run"]

    @cached_property
    def plainly(self) -> Any:
        return self.run(self.function)

    def element(self, *xs: Any) -> Any:
        """The function of one element from each operand, each a number. Raises `CustomOpError`."""
        given = [dtype.type(x) for x, (dtype, _) in zip(xs, self.operands, strict=True)]
        return self.dtype.type(self.calling(self.function, given))

    def fill(self, out: Array, *arrays: Array) -> None:
        """What a call of `run` does. Raises `CustomOpError`."""
        self.calling(self.plainly, [*map(read_only, arrays), out])

    def calling(self, function: Callable[..., Any], given: Sequence[Any]) -> Any:
        try:
            return function(*given)
        except Exception as error:
            raise self.error(error) from error

    def error(self, error: BaseException) -> CustomOpError:
        """What a call raises where the function raised ``error``."""
        found = CustomOpError(f"custom_op: {self.name} raised {type(error).__name__}: {error}")
        found.__cause__ = error
        return found


#: The function that each symbol means.
known: dict[str, Foreign] = {}


def code(kind: Kind) -> str:
    """A dtype and a number of axes as a part of a name: ``f64``, ``f32x2``."""
    dtype, ndim = kind
    return SHORT[dtype] + (f"x{ndim}" if ndim else "")


def read_only(x: Array) -> Array:
    found = np.asarray(x).view()
    found.flags.writeable = False
    return found


def mapped(found: Foreign, arrays: Sequence[Array]) -> Array:
    """A function of elements, of arrays of one shape."""
    out = np.empty(arrays[0].shape, found.dtype)
    for at in np.ndindex(out.shape):
        out[at] = found.element(*(x[at] for x in arrays))
    return out
