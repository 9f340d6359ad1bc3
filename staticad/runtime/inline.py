"""A compiled program as a Numba function for a user's own ``@njit`` code; knows arrays and addresses, not graphs.

The function is written out as source of its own: it fits the arguments, finds a workspace, adds the hidden arrays by
their addresses, calls the program, and raises what its status code stands for.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils, config
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numba.np.arrayobj import make_array, populate_array
from numba.np.numpy_support import from_dtype

from staticad.errors import ShapeError
from staticad.interpret import plain_symbol
from staticad.ir import ArrayType
from staticad.names import Names
from staticad.runtime import link, machine
from staticad.runtime.call import ERRORS, Caller, Target
from staticad.runtime.codes import NEGATIVE_POWER, NEGATIVE_POWER_TEXT, RAISED
from staticad.runtime.load import Native, execute
from staticad.runtime.signatures import parse
from staticad.runtime.user import Raised
from staticad.shapes import Symbol, render, symbols

INTP = ir.IntType(64)
#: Bytes of workspace up to which it lies on the stack.
STACK = 32 * 1024
ALIGNMENT = 64
#: Status codes that get an exception with a text of their own; each takes about a millisecond to compile.
RAISES = 40


def inline(target: Target, native: Native) -> Any:
    """A Numba dispatcher ``(*inputs, *outputs) -> None`` that any ``@njit`` function, parallel or not, may call.

    Inputs may have any layout; those that are not C-contiguous are copied. A 0-d input may be a number. Outputs are
    C-contiguous arrays, distinct from all else. A wrong dtype or rank is a Numba ``TypingError``; wrong sizes and
    overlaps raise `ShapeError`, indices found out of range `IndexOutOfRange`. A caller compiled with ``cache=True`` is
    not cached (Numba warns): the addresses of parameters are part of its code, and Numba could not see that the program
    became another one.
    """
    if config.DISABLE_JIT:
        return plain(target)
    source, scope = text(target)
    key = hashlib.sha256(f"{id(target)}\0{source}".encode()).hexdigest()[:24]
    module = execute(source, f"staticad_njit_{target.name}_{key}", None)
    vars(module).update(scope, main=called(native))
    return njit(nogil=True, error_model="numpy")(module.call)


def plain(target: Target) -> Callable[..., None]:
    """The same as a Python function, for NUMBA_DISABLE_JIT."""
    caller, count = Caller(target), len(target.inputs)

    def call(*arrays: Any) -> None:
        expected = count + len(target.outputs)
        if len(arrays) != expected:
            what = f"{expected} arrays, {count} inputs and then the outputs"
            raise TypeError(f"{target.name}: takes {what}, got {len(arrays)}")
        caller.into(arrays[:count], arrays[count:])

    return call


def text(target: Target) -> tuple[str, dict[str, Any]]:
    """The source of the function, and what it takes from outside."""
    names = Names()
    raised = {error.__name__: error for error in (ShapeError, Raised, *ERRORS.values())}
    for name in ("call", "uncached", "empty", "uint8", "stack", "skip", "raw", "size", *raised):
        names.used.add(name)
    inputs = [names.claim(name) for name, _ in target.inputs]
    outputs = [names.claim("out") for _ in target.outputs]
    scope: dict[str, Any] = {**raised, "uncached": uncached}
    lines = ["uncached()"]
    given: list[str] = []
    for argument, (name, t) in zip(inputs, target.inputs, strict=True):
        given.append(names.claim(f"{argument}_c"))
        fit = names.claim(f"fit_{argument}")
        scope[fit] = fitted(t, f"{target.name}: input {name!r}")
        lines.append(f"{given[-1]} = {fit}({argument})")
    for k, (argument, t) in enumerate(zip(outputs, target.outputs, strict=True)):
        fit = names.claim(f"fit_{argument}")
        scope[fit] = written(t, f"{target.name}: output {k}")
        given.append(f"{fit}({argument})")
    hidden: list[str] = []
    for array in target.hidden:
        name = names.claim("hidden")
        scope[name] = fixed(array)
        hidden.append(f"{name}()")
    work: list[str] = []
    if target.work_bytes != 0:
        work = ["work"]
        lines += workspace_lines(target, given, scope)
    arguments = [*work, *given[: len(inputs)], *hidden, *given[len(inputs) :]]
    lines.append(f"status = main({', '.join(arguments)})")
    if "integer_pow" in target.native.source:
        message = f"{target.name}: {NEGATIVE_POWER_TEXT}"
        lines += [f"if status == {NEGATIVE_POWER}:", f"    raise ValueError({message!r})"]
    if "user." in target.native.source:
        lines += [f"if status <= {RAISED}:", f"    raise Raised({target.name!r}, status)"]
    if target.failures:
        lines += ["if status:", *("    " + line for line in failure_lines(target))]
    body = "\n".join("    " + line for line in lines)
    head = f'"""{target.name} as it is called from @njit code (generated by staticad)"""\n\n\n'
    return f"{head}def call({', '.join([*inputs, *outputs])}):\n{body}\n", scope


@njit
def root(x, least):  # pyright: ignore
    """`shapes.square_root`, of which Numba has no exact one; see `kernels.sizes`."""
    return max(int(np.ceil(np.sqrt(max(x, 0)))), least)


def workspace_lines(target: Target, given: list[str], scope: dict[str, Any]) -> list[str]:
    size = target.work_bytes
    if isinstance(size, int) and size <= STACK:
        scope["stack"] = stack(size)
        return ["work = stack()"]
    scope.update(skip=skip, uint8=np.uint8, empty=np.empty, root=root)
    sizes: dict[Symbol, str] = {}
    for argument, (_, t) in zip(given, target.inputs, strict=False):
        for axis, d in enumerate(t.shape):
            found = plain_symbol(d)
            if found is not None:
                sizes.setdefault(found, f"{argument}.shape[{axis}]")
    assert symbols(size) <= sizes.keys()
    bytes_ = render(size, lambda s: sizes[s] if isinstance(s, Symbol) else "")
    return [
        f"size = {bytes_}",
        f"raw = empty(size + {ALIGNMENT}, uint8)",
        "raw = raw[skip(raw):]",
        "work = raw[:size]",
    ]


def failure_lines(target: Target) -> list[str]:
    """What to raise for each status code that is not 0."""
    lines: list[str] = []
    for code, failure in enumerate(target.failures[:RAISES], 1):
        error = ERRORS.get(failure.kind, ShapeError).__name__
        lines += [f"if status == {code}:", f"    raise {error}({f'{target.name}: {failure.text}'!r})"]
    if len(target.failures) > RAISES:
        indices = [code for code, failure in enumerate(target.failures, 1) if failure.kind == "index" and code > RAISES]
        for low, high in runs(indices):
            message = f"{target.name}: an index is out of range; call the function from Python to see which"
            lines += [f"if {low} <= status <= {high}:", f"    raise IndexOutOfRange({message!r})"]
        message = f"{target.name}: an array does not have the right shape; call the function from Python to see which"
        lines.append(f"raise ShapeError({message!r})")
    return lines


def runs(numbers: list[int]) -> list[tuple[int, int]]:
    """First and last of each run of consecutive numbers.

    >>> runs([1, 2, 5])
    [(1, 2), (5, 5)]
    """
    found: list[tuple[int, int]] = []
    for n in numbers:
        if found and found[-1][1] == n - 1:
            found[-1] = found[-1][0], n
        else:
            found.append((n, n))
    return found


def called(native: Native) -> Any:
    """The program as a function for compiled code."""
    kinds = tuple(types.Array(from_dtype(dtype), ndim, "C") for dtype, ndim in parse(native.signature))
    machine.tell({native.symbol: link.addresses[native.symbol]})

    @intrinsic
    def call(typingctx: Any, *given: Any) -> Any:
        assert given == kinds, given

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
            words: list[ir.Value] = []
            for kind, value in zip(kinds, cgutils.unpack_tuple(builder, args[0], len(kinds)), strict=True):
                array = make_array(kind)(context, builder, value)
                words.append(builder.ptrtoint(array.data, INTP))
                words += cgutils.unpack_tuple(builder, array.shape, kind.ndim)
            place = cgutils.alloca_once(builder, INTP, size=len(words))
            for k, word in enumerate(words):
                builder.store(word, builder.gep(place, [ir.Constant(INTP, k)]))
            shape = ir.FunctionType(INTP, [place.type])
            return builder.call(cgutils.get_or_insert_function(builder.module, shape, native.symbol), [place])

        return types.int64(types.StarArgTuple(kinds)), codegen

    return call


def contiguous(context: Any, builder: ir.IRBuilder, kind: Any, data: ir.Value, shape: list[ir.Value]) -> Any:
    """The struct of a C-contiguous array of Numba type ``kind`` over ``data``, without owner."""
    itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides: list[ir.Value] = []
    step: ir.Value = ir.Constant(INTP, itemsize)
    for size in reversed(shape):
        strides.insert(0, step)
        step = builder.mul(step, size, flags=("nsw",))
    array = make_array(kind)(context, builder)
    populate_array(
        array,
        data=builder.bitcast(data, array.data.type),
        shape=cgutils.pack_array(builder, shape, ty=INTP),
        strides=cgutils.pack_array(builder, strides, ty=INTP),
        itemsize=ir.Constant(INTP, itemsize),
        meminfo=None,
        parent=None,
    )
    return array._getvalue()


# arguments -----------------------------------------------------------------------------------------------------------


def native_type(t: ArrayType) -> Any:
    """The Numba type of the arrays that the program takes."""
    return types.Array(from_dtype(t.dtype), len(t.shape), "C")


def fitted(t: ArrayType, what: str) -> Any:
    """A function for compiled code that gives an input in the type that the program takes.

    Without a copy it is a view without owner, valid while the caller holds the input."""
    kind = native_type(t)

    def copied(x):
        if is_contiguous(x):
            return view(x)
        y = np.empty(x.shape, x.dtype)
        y[...] = x
        return y

    @intrinsic
    def fit(typingctx: Any, x: Any) -> Any:
        given = types.unliteral(x)
        number = kind.ndim == 0 and is_weaker(given, kind.dtype)
        if not number and not (isinstance(x, types.Array) and (x.dtype, x.ndim) == (kind.dtype, kind.ndim)):
            raise TypingError(f"{what} takes {t} ({kind}), got {given}")

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            if number:
                place = cgutils.alloca_once(builder, context.get_data_type(kind.dtype))
                context.pack_value(builder, kind.dtype, args[0], place)
                return contiguous(context, builder, kind, place, [])
            if x.layout == "C" and x.aligned:
                return unowned(context, builder, x, args[0])
            return context.compile_internal(builder, copied, signature, args)

        return kind(kind.dtype if number else x), codegen

    return fit


def is_weaker(given: Any, wanted: Any) -> bool:
    """Whether a number may stand for an array element: its kind allows it, as for Python's numbers."""
    ranks = [next((k for k, base in enumerate(KINDS) if isinstance(x, base)), len(KINDS)) for x in (given, wanted)]
    return ranks[0] <= ranks[1] < len(KINDS)


KINDS = (types.Boolean, types.Integer, types.Float)


def written(t: ArrayType, what: str) -> Any:
    """A function for compiled code that lets an output through if the program can write to it."""
    kind = native_type(t)

    @intrinsic
    def fit(typingctx: Any, x: Any) -> Any:
        if x != kind:
            raise TypingError(f"{what} must be a C-contiguous array of type {t} ({kind}), got {x}")

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            return unowned(context, builder, x, args[0])

        return kind(x), codegen

    return fit


def unowned(context: Any, builder: ir.IRBuilder, kind: Any, value: ir.Value) -> Any:
    """A contiguous array as one that may be written and that no one counts references of."""
    array = make_array(kind)(context, builder, value)
    shape = cgutils.unpack_tuple(builder, array.shape, kind.ndim)
    return contiguous(context, builder, types.Array(kind.dtype, kind.ndim, "C"), array.data, shape)


@intrinsic
def view(typingctx: Any, x: Any) -> Any:
    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        return unowned(context, builder, x, args[0])

    return types.Array(x.dtype, x.ndim, "C")(x), codegen


@intrinsic
def is_contiguous(typingctx: Any, x: Any) -> Any:
    """Whether an array of any layout lies in memory as a C-contiguous, aligned one does."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        array = make_array(x)(context, builder, args[0])
        size = context.get_abi_sizeof(context.get_data_type(x.dtype))
        address = builder.ptrtoint(array.data, INTP)
        rest = builder.and_(address, ir.Constant(INTP, size - 1))
        found: Any = builder.icmp_unsigned("==", rest, ir.Constant(INTP, 0))
        step: Any = ir.Constant(INTP, size)
        shape = cgutils.unpack_tuple(builder, array.shape, x.ndim)
        strides = cgutils.unpack_tuple(builder, array.strides, x.ndim)
        for extent, stride in zip(reversed(shape), reversed(strides), strict=True):
            found = builder.and_(found, builder.icmp_signed("==", stride, step))
            step = builder.mul(step, extent)
        return found

    return types.boolean(x), codegen


# memory --------------------------------------------------------------------------------------------------------------


def fixed(array: np.ndarray[Any, Any]) -> Any:
    """A function for compiled code that gives ``array`` itself, and keeps it alive as long as that code."""
    kind = types.Array(from_dtype(array.dtype), array.ndim, "C")

    @intrinsic
    def hidden(typingctx: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            library = context.active_code_library  # which the library of a caller holds on to
            library.staticad_arrays = [*getattr(library, "staticad_arrays", ()), array]
            data = context.add_dynamic_addr(builder, array.ctypes.data, "staticad")
            return contiguous(context, builder, kind, data, [ir.Constant(INTP, size) for size in array.shape])

        return kind(), codegen

    return hidden


@intrinsic
def uncached(typingctx: Any) -> Any:
    """Keeps Numba from storing the code of whoever calls this, now or through other functions, in its disk cache."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        name = "numba.dynamic.globals.staticad"  # by the beginning of this name Numba knows code of this process alone
        if name not in builder.module.globals:
            mark = cgutils.add_global_variable(builder.module, ir.IntType(8), name)
            mark.linkage, mark.initializer = "weak", ir.Constant(ir.IntType(8), 0)  # kept though nothing reads it
        return context.get_dummy_value()

    return types.none(), codegen


def stack(size: int) -> Any:
    """A function for compiled code that gives ``size`` bytes on the stack of the function that it is part of."""
    kind = types.Array(types.uint8, 1, "C")

    @intrinsic
    def work(typingctx: Any) -> Any:
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
            with builder.goto_entry_block():
                place = builder.alloca(ir.ArrayType(ir.IntType(8), size))
                place.align = ALIGNMENT
            return contiguous(context, builder, kind, place, [ir.Constant(INTP, size)])

        return kind(), codegen

    return work


@intrinsic
def skip(typingctx: Any, x: Any) -> Any:
    """How many bytes after the beginning of ``x`` an aligned address is."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        address = builder.ptrtoint(make_array(x)(context, builder, args[0]).data, INTP)
        return builder.and_(builder.neg(address), ir.Constant(INTP, ALIGNMENT - 1))

    return types.intp(x), codegen
