"""Plain Python functions of arrays as programs, traced when arguments of a new form come; knows what tells forms apart,
and no derivatives.
"""

from __future__ import annotations

import keyword
import re
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import update_wrapper
from inspect import Parameter, signature
from types import MethodType
from typing import Any, Generic, TypeVar, cast

import numpy as np

from staticad.creation import InputSource
from staticad.dtypes import as_dtype, float64
from staticad.errors import DTypeError
from staticad.function import Function, compile  # noqa: A004
from staticad.functions.operands import as_tensor, is_scalar
from staticad.ir import ArrayType
from staticad.nests import leaves, places, rebuild
from staticad.ops import sources
from staticad.shapes import Dim, Expr, dim
from staticad.tensor import Tensor, Weak

#: Whether a function is being traced: functions called by it act on its tensors, whatever their arguments are.
in_trace: ContextVar[bool] = ContextVar("staticad_tracing", default=False)


def is_array(x: Any) -> bool:
    """Whether an argument is traced: arrays and floats are; numbers of other kinds and all else are known."""
    return isinstance(x, (np.ndarray, np.generic, float)) or hasattr(x, "__array__")


class Arguments:
    """The arguments of a call taken apart: the ``arrays`` in them, and the ``key`` of their form.

    The form is the nest, each dtype, and which sizes are equal, 0 and 1 for themselves; and all that is no array.
    """

    __slots__ = ("arrays", "key", "sizes", "symbolic")

    def __init__(self, given: Any):
        self.arrays: list[Any] = []
        self.sizes: dict[int, int] = {}
        self.symbolic = False
        self.key = self.form(given)

    def form(self, x: Any) -> Hashable:
        kind = cast("type[Any]", type(x))
        if kind is np.ndarray:
            self.arrays.append(x)
            sizes = self.sizes  # 0 and 1 stand for themselves, every other size for its first place
            return (x.dtype, *[d if d < 2 else sizes.setdefault(d, len(sizes) + 2) for d in x.shape])
        if kind is tuple or kind is list:
            return (kind, *[self.form(item) for item in x])
        if kind is float:
            self.arrays.append(x)
            return kind
        return self.rarer(x, kind)

    def rarer(self, x: Any, kind: type[Any]) -> Hashable:
        if isinstance(x, (tuple, list)):  # with names, say
            return (kind, *map(self.form, cast("Sequence[Any]", x)))
        if isinstance(x, Mapping):
            items = cast("Mapping[Any, Any]", x).items()
            return (dict, *((name, self.form(value)) for name, value in items))
        if isinstance(x, Tensor):
            self.symbolic = True
            return Tensor
        if is_array(x):
            return self.form(float(x) if is_weak(x) else np.asarray(x).view(np.ndarray))
        return (kind, x)


class Trace:
    """What a function does with arguments of one form: ``inputs`` for their arrays, and the ``nest`` that it returns,
    in which ``results`` are the tensors.
    """

    def __init__(self, f: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]):
        given = (args, kwargs)
        self.inputs = inputs_for(given, argument_names(f, args, kwargs))
        token = in_trace.set(True)
        try:
            inner, named = with_arrays(given, iter(self.inputs))
            out = f(*inner, **named)
        finally:
            in_trace.reset(token)
        self.nest = rebuild(out, (as_result(name, x) for x in leaves(out)))
        self.results = [x for x in leaves(self.nest) if isinstance(x, Tensor)]
        self.floats = [(k, x.dtype) for k, x in enumerate(self.inputs) if isinstance(x, Weak)]

    def given(self, arrays: list[Any]) -> list[Any]:
        """``arrays`` with floats as arrays of the dtype that they have."""
        for k, dtype in self.floats:
            arrays[k] = np.array(arrays[k], dtype)
        return arrays

    def outcome(self, values: Sequence[Any]) -> Any:
        """The nest with ``values`` of the results."""
        if isinstance(self.nest, Tensor):
            return values[0]
        left = iter(values)
        return rebuild(self.nest, (next(left) if isinstance(x, Tensor) else x for x in leaves(self.nest)))


class Program:
    """A function compiled for arguments of one form."""

    def __init__(self, f: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]):
        self.trace = Trace(f, name, args, kwargs)
        results = self.trace.results
        self.function = compile(self.trace.inputs, results, name=name) if results else None

    def __call__(self, arrays: list[Any]) -> Any:
        return self.trace.outcome(self.function(*self.trace.given(arrays)) if self.function else ())


T = TypeVar("T", bound=Callable[[list[Any]], Any])


class Jitted(Generic[T]):
    """A function with what ``make`` made of it for each form of arguments that came: ``programs``, by form."""

    def __init__(self, f: Callable[..., Any], like: Callable[..., Any], make: Callable[..., T]):
        self.f = f
        self.make = make
        self.programs: dict[Hashable, T] = {}
        self._lock = threading.Lock()
        update_wrapper(self, like, updated=())
        name = getattr(like, "__name__", "")
        self.name = name if name.isascii() and name.isidentifier() and not keyword.iskeyword(name) else "f"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        found = self.program(args, kwargs)
        return self.f(*args, **kwargs) if found is None else found[0](found[1])

    def program(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[T, list[Any]] | None:
        """What was made for arguments of this form, and the arrays in them. None where they are tensors of a graph, or
        a function is being traced: its calls are part of its graph.
        """
        if in_trace.get():
            return None
        call = Arguments((args, kwargs) if kwargs else args)
        if call.symbolic:
            return None
        key = (True, call.key) if kwargs else call.key
        try:
            found = self.programs.get(key)
        except TypeError as error:
            raise unhashable(self.name, (args, kwargs), error) from error
        if found is None:
            with self._lock:
                found = self.programs.get(key)
                if found is None:
                    found = self.programs[key] = self.make(self.f, self.name, args, kwargs)
        return found, call.arrays

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        return self if instance is None else MethodType(self, instance)

    @property
    def functions(self) -> list[Function]:
        """The compiled functions, in the order in which they were made: look at their ``source``, ``stats``."""
        return [x.function for x in self.programs.values() if isinstance(x, Program) and x.function]

    def __repr__(self) -> str:
        return f"<jit {self.name}, traced {len(self.programs)} times>"


def unhashable(name: str, given: Any, error: TypeError) -> DTypeError:
    for x, place in zip(leaves(given), places(given), strict=True):
        if not is_array(x):
            try:
                hash(x)
            except TypeError:
                return DTypeError(
                    f"{name}: argument {place} is a {type(x).__name__}, neither an array, a number nor hashable; "
                    "give arrays in tuples, lists and dicts"
                )
    return DTypeError(f"{name}: {error}")


# ---- from arguments to tensors and back


def inputs_for(given: Any, names: Sequence[str]) -> list[Tensor]:
    """An input for each array in ``given``: sizes that are equal have one symbol; 0 and 1 are static.

    A float counts in promotion as it does untraced; its own dtype is that of the arrays beside it.
    """
    found = [(x, name) for x, name in zip(leaves(given), names, strict=True) if is_array(x)]
    floats = [np.asarray(x).dtype for x, _ in found if not is_weak(x)]
    floats = [dtype for dtype in floats if dtype.kind == "f"]
    weak = np.result_type(*floats) if floats else float64
    symbols: dict[int, Expr] = {}
    inputs: list[Tensor] = []
    for x, name in found:
        array = np.asarray(x)
        shape = tuple(size_of(d, symbols) for d in array.shape)
        dtype = as_dtype(weak if is_weak(x) else array.dtype, f"argument {name!r}")
        node = sources.input_(name=name, source=InputSource(name), type=ArrayType(dtype, shape))
        node.name = name
        inputs.append(Weak(node) if is_weak(x) else Tensor(node))
    return inputs


def is_weak(x: Any) -> bool:
    return isinstance(x, float) and not isinstance(x, np.generic)


def size_of(size: int, symbols: dict[int, Expr]) -> Dim:
    if size < 2:
        return size
    if size not in symbols:
        symbols[size] = dim(f"n{len(symbols)}")
    return symbols[size]


def with_arrays(given: Any, values: Iterator[Any]) -> Any:
    """``given`` with ``values`` in the place of its arrays."""
    return rebuild(given, (next(values) if is_array(x) else x for x in leaves(given)))


def as_result(say: str, x: Any) -> Any:
    """What a function returned as a tensor where it is an array or a number; what holds none, as it is."""
    if isinstance(x, Tensor) or is_scalar(x) or is_array(x):
        return as_tensor(x)
    held: Mapping[str, Any] = getattr(x, "__dict__", {})
    container = hasattr(x, "__iter__") and not isinstance(x, (str, bytes))
    if container or any(isinstance(value, Tensor) for value in held.values()):
        raise DTypeError(
            f"{say} returns a {type(x).__name__}, from which arrays cannot be taken; return them in tuples (named or "  # pyright: ignore[reportUnknownArgumentType]
            "not), lists and dicts"
        )
    return x


def argument_names(f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """A name for every leaf of the arguments: an identifier, made of the parameter's and where the leaf stands."""
    try:
        parameters = list(signature(f).parameters.values())
    except (TypeError, ValueError):  # of some built-in functions
        parameters = []
    first: list[str] = []
    for k in range(len(args)):
        named = parameters[k] if k < len(parameters) and parameters[k].kind in POSITIONAL else None
        first.append(named.name if named else f"x{k}")
    texts = [text for name, x in zip(first, args, strict=True) for text in places(x, name)]
    texts += [text for name, x in kwargs.items() for text in places(x, name)]
    taken: set[str] = set()
    for k, text in enumerate(texts):
        name = re.sub(r"\W+", "_", text, flags=re.ASCII).strip("_")
        if not name.isidentifier() or keyword.iskeyword(name) or name in taken:
            name = f"{name}_{k}" if name.isidentifier() else f"x_{k}"
        while name in taken:
            name += "_"
        taken.add(name)
        texts[k] = name
    return texts


POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
