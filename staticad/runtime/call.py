"""The path from a Python call into native code: buffers, conversion, errors; knows arrays and sizes, not graphs.

The fast path hands the arguments over as they are to the program's gate, which looks at each and refuses what does not
fit (a list, another dtype, a strided array); sizes that differ are told by another status code. All that goes the slow
path, which converts what can be converted safely and raises a clear error for the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from staticad.dtypes import SHORT
from staticad.errors import DTypeError, IndexOutOfRange, Interrupted, OutOfMemory, ShapeError, StepLimit
from staticad.interpret import bind, plain_symbol
from staticad.ir import ArrayType
from staticad.runtime.codes import NEGATIVE_POWER, NEGATIVE_POWER_TEXT, RAISED
from staticad.runtime.user import exception
from staticad.scopes import Failure
from staticad.shapes import Dim, Symbol, evaluate, render, square_root, symbols

if TYPE_CHECKING:
    from staticad.runtime.load import Native

Array = np.ndarray[Any, Any]

#: What a failure of some kind is raised as; of any other, `ShapeError`.
ERRORS = {"index": IndexOutOfRange, "steps": StepLimit, "memory": OutOfMemory, "interrupt": Interrupted}


@dataclass(frozen=True, eq=False)
class Target:
    """Native code and all that a call of it needs to know."""

    name: str
    native: Native
    inputs: list[tuple[str, ArrayType]]
    hidden: list[Array]
    written: list[Array]
    outputs: list[ArrayType]
    failures: list[Failure]
    work_bytes: Dim


class Caller:
    """Calls a `Target` from Python, from any number of threads at once.

    ``fresh(args)`` gives the outputs as a tuple of fresh arrays, ``into(args, outs)`` writes them to ``outs``.
    """

    def __init__(self, target: Target):
        self.target = target
        has_work = target.work_bytes != 0
        first = has_work + len(target.inputs)  # the arguments are work?, inputs, hidden arrays, outputs
        held = dict(enumerate(target.hidden, first))
        written = {k for k, array in held.items() if any(array is x for x in target.written)}
        written |= {*range(has_work), *range(first + len(held), first + len(held) + len(target.outputs))}
        self.native = target.native.bind(held, written)
        # Workspaces that no call uses now. `list.pop` and `list.append` are atomic, so that no lock is needed.
        self.free: list[Array] | None = [] if has_work else None
        self.fresh, self.into = fast_paths(self)

    def __call__(self, args: Sequence[Any]) -> Sequence[Array]:
        """The outputs as fresh arrays."""
        return self.fresh(args)

    def slow(self, args: Sequence[Any], outs: Sequence[Any] | None, status: int = 0) -> Sequence[Array]:
        """Convert what can be converted, make room, and call again; raise what is wrong, or what ``status`` tells."""
        target = self.target
        if status <= RAISED:
            raise exception(status, target.name)
        if status > 0 and target.failures[status - 1].kind == "interrupt":
            raise KeyboardInterrupt(target.name)
        if len(args) != len(target.inputs):
            expected = ", ".join(f"{name}: {t}" for name, t in target.inputs)
            raise DTypeError(f"{target.name}: takes {len(target.inputs)} arrays ({expected}), got {len(args)}")
        arrays = [as_input(target.name, name, t, x) for (name, t), x in zip(target.inputs, args, strict=True)]
        if any(array is not x for array, x in zip(arrays, args, strict=True)):  # a number for a 0-d input, say
            return self.fresh(arrays) if outs is None else self.into(arrays, outs)
        sizes = bind([(name, t.shape, x.shape) for (name, t), x in zip(target.inputs, arrays, strict=True)])
        for failure in target.failures:
            if failure.check and (text := failure.check.broken(sizes)):
                raise ShapeError(f"{target.name}: {text}")
        shapes = [tuple(evaluate(d, sizes) for d in t.shape) for t in target.outputs]
        fresh = [np.empty(shape, canonical(t.dtype)) for shape, t in zip(shapes, target.outputs, strict=True)]
        if outs is not None:
            check_outs(target, outs, shapes)
        # An input that shares memory with what is written must keep its values until the end.
        arrays = [x.copy() if any(np.may_share_memory(x, w) for w in target.written) else x for x in arrays]
        if self.free is None:
            status = self.native(*arrays, *fresh)
        else:
            work = workspace(evaluate(target.work_bytes, sizes))
            status = self.native(work, *arrays, *fresh)
            self.free[:] = [work]  # those that were too small go; those in use come back
        if status <= RAISED:
            raise exception(status, target.name)
        if status == NEGATIVE_POWER:
            raise ValueError(f"{target.name}: {NEGATIVE_POWER_TEXT}")
        if status:
            assert status > 0, f"{target.name}: converted arrays do not fit"
            failure = target.failures[status - 1]
            raise ERRORS.get(failure.kind, ShapeError)(f"{target.name}: {failure.text}")
        if outs is None:
            return tuple(fresh)
        for out, value in zip(outs, fresh, strict=True):
            out[...] = value
        return outs


def fast_paths(caller: Caller) -> tuple[Callable[[Sequence[Any]], Sequence[Array]], Callable[..., Sequence[Array]]]:
    """``fresh`` and ``into``, written out for the number of arguments and the shapes of one target.

    All text is of our own making: the only parts that differ are numbers, sizes and how many names there are."""
    target = caller.target
    given = [f"x{k}" for k in range(len(target.inputs))]
    outs = [f"out{k}" for k in range(len(target.outputs))]
    scope: dict[str, Any] = {"native": caller.native, "slow": caller.slow, "empty": np.empty}
    scope |= {"min": min, "max": max, "root": square_root}
    size = target.work_bytes
    take, give = [], []
    if caller.free is not None:
        scope.update(pop=caller.free.pop, push=caller.free.append, workspace=workspace)
        room = size if isinstance(size, int) else 0
        take = ["    try:", "        work = pop()", "    except IndexError:", f"        work = workspace({room})"]
        give = ["    push(work)"]
    call = f"native({', '.join([*(['work'] if take else []), *given, *outs])})"

    def unpack(names: list[str], value: str) -> list[str]:
        return [f"        [{', '.join(names)}] = {value}"]

    caught = "    except (TypeError, AttributeError, IndexError, ValueError):"
    into = ["def into(args, outs):", "    try:", *unpack(given, "args"), *unpack(outs, "outs"), caught]
    into += ["        return slow(args, outs)", *take, f"    status = {call}", *give]
    into += ["    return slow(args, outs, status) if status else outs"]
    allocations = ["        " + line for line in allocation_lines(target, given, outs, scope)]
    fresh = ["def fresh(args):", "    try:", *unpack(given, "args"), *allocations, caught]
    fresh += ["        return slow(args, None)", *take, f"    status = {call}", *give]
    fresh += [f"    return slow(args, None, status) if status else ({', '.join(outs)}{',' if outs else ''})"]
    exec("\n".join([*into, *fresh]), scope)
    return scope["fresh"], scope["into"]


def allocation_lines(target: Target, given: list[str], outs: list[str], scope: dict[str, Any]) -> list[str]:
    """Fresh arrays for the outputs, their sizes taken from the inputs."""
    lines: list[str] = []
    names: dict[Symbol, str] = {}
    wanted = {s for t in target.outputs for d in t.shape for s in symbols(d)}
    for x, (_, t) in zip(given, target.inputs, strict=True):
        for axis, d in enumerate(t.shape):
            s = plain_symbol(d)
            if s is not None and s in wanted and s not in names:
                names[s] = f"n{len(names)}"
                lines.append(f"{names[s]} = {x}.shape[{axis}]")
    for k, (out, t) in enumerate(zip(outs, target.outputs, strict=True)):
        scope[f"dtype{k}"] = canonical(t.dtype)
        sizes = [render(d, lambda s: names[s] if isinstance(s, Symbol) else "") for d in t.shape]
        lines.append(f"{out} = empty(({', '.join(sizes)}{',' if len(sizes) == 1 else ''}), dtype{k})")
    return lines


def workspace(size: int) -> Array:
    """``size`` bytes that begin at a multiple of 64."""
    raw = np.empty(size + 64, "u1")
    skip = -raw.ctypes.data % 64
    return raw[skip : skip + size]


def canonical(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The one object that stands for a dtype. An array may carry an equal one, which the gate does not know."""
    return np.dtype(dtype.str)


def as_input(function: str, name: str, t: ArrayType, x: Any) -> Array:
    """``x`` as a contiguous array of type ``t``, if that loses nothing. Raises `DTypeError`."""
    weak = not hasattr(x, "dtype")
    if np.ma.is_masked(x):
        raise DTypeError(
            f"{function}: input {name!r} takes {t}, not a masked array; fill it first, with .filled(value)"
        )
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
            got = f"{SHORT.get(found.dtype, found.dtype)} of shape {found.shape}"
            raise DTypeError(
                f"{function}: input {name!r} takes {t}, got {got}, "
                f"which does not convert without loss; convert it with .astype({str(t.dtype)!r})"
            )
        found = found.astype(t.dtype)
    if not (found.flags.c_contiguous and found.flags.aligned):
        found = np.array(found, order="C", copy=True)
    dtype = canonical(t.dtype)
    return found if type(found) is np.ndarray and found.dtype is dtype else found.view(dtype, np.ndarray)


def check_outs(target: Target, outs: Sequence[Any], shapes: Sequence[tuple[int, ...]]) -> None:
    """Raise `DTypeError` or `ShapeError` unless the outputs can be copied to ``outs``."""
    name = target.name
    if len(outs) != len(shapes):
        raise ShapeError(f"{name}: out must have {len(shapes)} arrays, got {len(outs)}")
    for k, (out, shape, t) in enumerate(zip(outs, shapes, target.outputs, strict=True)):
        if not isinstance(out, np.ndarray) or out.dtype != t.dtype:
            got = f"{out.dtype} of shape {out.shape}" if isinstance(out, np.ndarray) else type(out).__name__
            raise DTypeError(f"{name}: out[{k}] must be an array of type {t}, got {got}")
        if out.shape != shape:
            raise ShapeError(f"{name}: out[{k}] must have the shape {shape} (type {t}), got {out.shape}")
        if not out.flags.writeable:
            raise ShapeError(f"{name}: out[{k}] is read-only")
