"""The path from a Python call into native code: buffers, conversion, errors; knows arrays and sizes, not graphs.

The fast path hands the arguments over as they are. Whatever does not fit there (a list, another dtype, a strided or
read-only array, sizes that differ) is told by a `TypeError` of the dispatcher or a status code, and goes the slow path,
which converts what can be converted safely and raises a clear error for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from staticad.dtypes import SHORT
from staticad.emit import Failure
from staticad.errors import DTypeError, IndexOutOfRange, ShapeError
from staticad.interpret import bind, plain_symbol
from staticad.ir import ArrayType
from staticad.shapes import Dim, Symbol, evaluate, render, symbols

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Target:
    """Native code and all that a call of it needs to know."""

    name: str
    native: Callable[..., int]
    inputs: list[tuple[str, ArrayType]]
    hidden: list[Array]
    written: list[Array]
    outputs: list[ArrayType]
    failures: list[Failure]
    work_bytes: Dim


class Caller:
    """Calls a `Target` from Python, from any number of threads at once."""

    def __init__(self, target: Target):
        self.target = target
        self.native = target.native
        self.hidden = tuple(target.hidden)
        self.count = len(target.inputs)
        self.needs_work = target.work_bytes != 0
        # Workspaces that no call uses now. `list.pop` and `list.append` are atomic, so that no lock is needed.
        self.free: list[Array] = []
        self.allocate = allocator(target)

    def __call__(self, args: Sequence[Any]) -> list[Array]:
        """The outputs as fresh arrays."""
        if len(args) != self.count:
            raise self.wrong_count(len(args))
        try:
            outs = self.allocate(*args)
            status = self.run(args, outs)
        except (TypeError, AttributeError, IndexError, ValueError):
            status = -1
            outs = []
        if status:
            return self.slow(args, None, status)
        return outs

    def into(self, args: Sequence[Any], outs: Sequence[Any]) -> Sequence[Any]:
        """The outputs written to ``outs``."""
        if len(args) != self.count:
            raise self.wrong_count(len(args))
        try:
            status = self.run(args, outs)
        except TypeError:
            status = -1
        if status:
            self.slow(args, outs, status)
        return outs

    def run(self, args: Sequence[Any], outs: Sequence[Any]) -> int:
        if not self.needs_work:
            return self.native(*args, *self.hidden, *outs)
        try:
            work = self.free.pop()
        except IndexError:
            size = self.target.work_bytes
            work = workspace(size if isinstance(size, int) else 0)
        try:
            return self.native(work, *args, *self.hidden, *outs)
        finally:
            self.free.append(work)

    def wrong_count(self, got: int) -> TypeError:
        expected = ", ".join(f"{name}: {t}" for name, t in self.target.inputs)
        return DTypeError(f"{self.target.name}: takes {self.count} arrays ({expected}), got {got}")

    def slow(self, args: Sequence[Any], outs: Sequence[Any] | None, status: int) -> list[Array]:
        """Convert what can be converted, make room, and call again; raise what is wrong."""
        target = self.target
        arrays = [as_input(target.name, name, t, x) for (name, t), x in zip(target.inputs, args, strict=True)]
        sizes = bind([(name, t.shape, x.shape) for (name, t), x in zip(target.inputs, arrays, strict=True)])
        for failure in target.failures:
            if failure.check is not None:
                x, y = evaluate(failure.check.x, sizes), evaluate(failure.check.y, sizes)
                if not (x == y if failure.check.relation == "==" else x >= y):
                    relation = failure.check.relation
                    raise ShapeError(
                        f"{target.name}: {failure.text}: {failure.check.x} = {x} must be {relation} {failure.check.y} = {y}"
                    )
        shapes = [tuple(evaluate(d, sizes) for d in t.shape) for t in target.outputs]
        fresh = [np.empty(shape, t.dtype) for shape, t in zip(shapes, target.outputs, strict=True)]
        if outs is not None:
            for k, (out, shape, t) in enumerate(zip(outs, shapes, target.outputs, strict=True)):
                check_out(target.name, k, out, shape, t)
        self.free.append(workspace(evaluate(target.work_bytes, sizes)))
        # An input that shares memory with what is written must keep its values until the end.
        arrays = [x.copy() if any(np.may_share_memory(x, w) for w in target.written) else x for x in arrays]
        status = self.run(arrays, fresh)
        if status:
            failure = target.failures[status - 1]
            error = IndexOutOfRange if failure.kind == "index" else ShapeError
            raise error(f"{target.name}: {failure.text}")
        if outs is None:
            return fresh
        for out, value in zip(outs, fresh, strict=True):
            out[...] = value
        return list(outs)


def workspace(size: int) -> Array:
    """``size`` bytes that begin at a multiple of 64."""
    raw = np.empty(size + 64, "u1")
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size]


def allocator(target: Target) -> Callable[..., list[Array]]:
    """A function from the inputs to fresh output arrays, written for these shapes."""
    lines = ["def allocate(" + ", ".join(f"a{k}" for k in range(len(target.inputs))) + "):"]
    names: dict[Symbol, str] = {}
    wanted = {s for t in target.outputs for d in t.shape for s in symbols(d)}
    for k, (_, t) in enumerate(target.inputs):
        for axis, d in enumerate(t.shape):
            s = plain_symbol(d)
            if s in wanted and s is not None and s not in names:
                names[s] = f"n{len(names)}"
                lines.append(f"    {names[s]} = a{k}.shape[{axis}]")
    items: list[str] = []
    scope: dict[str, Any] = {"empty": np.empty, "min": min, "max": max}
    for k, t in enumerate(target.outputs):
        scope[f"d{k}"] = t.dtype
        sizes = ", ".join(render(d, lambda s: names[s] if isinstance(s, Symbol) else "") for d in t.shape)
        items.append(f"empty(({sizes}{',' if len(t.shape) == 1 else ''}), d{k})")
    lines.append(f"    return [{', '.join(items)}]")
    exec("\n".join(lines), scope)  # names and sizes of our own making: no text of the user's gets here
    return scope["allocate"]


def as_input(function: str, name: str, t: ArrayType, x: Any) -> Array:
    """``x`` as a contiguous array of type ``t``, if that loses nothing. Raises `DTypeError`."""
    weak = not hasattr(x, "dtype")
    try:
        found: Array = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise DTypeError(f"{function}: input {name!r} takes {t}, not {type(x).__name__}: {error}") from error
    if found.dtype != t.dtype:
        allowed = np.can_cast(found.dtype, t.dtype, "safe")
        if weak and found.dtype.kind in "biuf" and "biuf".index(found.dtype.kind) <= "biuf".index(t.dtype.kind):
            # Python numbers are weak: they take the dtype of the input where their kind allows and their value fits.
            allowed = t.dtype.kind == "f" or bool((found.astype(t.dtype) == found).all())
        if found.size == 0 and weak:
            allowed = True
        if not allowed:
            raise DTypeError(
                f"{function}: input {name!r} takes {t}, got {SHORT.get(found.dtype, found.dtype)} of shape {found.shape}, "
                f"which does not convert without loss; convert it with .astype({str(t.dtype)!r})"
            )
        found = found.astype(t.dtype)
    if not (found.flags.c_contiguous and found.flags.aligned and found.flags.writeable and found.dtype.isnative):
        found = np.array(found, dtype=t.dtype, order="C", copy=True)
    return found.view(np.ndarray)


def check_out(function: str, k: int, out: Any, shape: tuple[int, ...], t: ArrayType) -> None:
    if not isinstance(out, np.ndarray) or out.dtype != t.dtype:
        got = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
        raise DTypeError(f"{function}: out[{k}] must be an array of type {t}, got {got}")
    if out.shape != shape:
        raise ShapeError(f"{function}: out[{k}] must have the shape {shape} (type {t}), got {out.shape}")
    if not out.flags.writeable:
        raise ShapeError(f"{function}: out[{k}] is read-only")
