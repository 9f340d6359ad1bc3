"""`custom_op`: functions of the user's own for Numba as operations on tensors; knows nothing of how they are called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any, overload

import numpy as np

from staticad.dtypes import as_dtype
from staticad.foreign import Foreign, Kind
from staticad.functions.custom import Custom, Invocation, Traced, custom_jvp, custom_vjp
from staticad.functions.manipulation import reshape
from staticad.functions.operands import as_tensor, operands, weak
from staticad.ir import ArrayType, Node, Together
from staticad.lowering import LETTERS
from staticad.nests import is_dict, is_sequence, leaves, rebuild
from staticad.ops import creation, foreign
from staticad.shapes import Dim, as_shape
from staticad.tensor import Tensor, wrap

#: What `custom_op` is told of results: a dtype, or templates of arrays, or a function that gives these.
Result = Any


class CustomOp(Custom):
    """A function of the user's own as an operation; see `custom_op`."""

    kind, way_in = "custom_op", "f.defvjp(fwd, bwd) or f.defjvp(rule)"

    def __init__(self, function: Callable[..., Any], result: Result = None):
        super().__init__(function)
        self.function, self.result = function, result
        self.f = self.primitive
        self.elementwise = result is None or isinstance(result, (str, np.dtype, type))
        self.reverse, self.forward = custom_vjp(self.primitive), custom_jvp(self.primitive)
        for rule in (self.reverse, self.forward):
            rule.kind, rule.name = self.kind, self.name
        self.made: dict[object, Foreign] = {}

    def __repr__(self) -> str:
        return f"<custom_op {self.name}>"

    def defvjp(self, fwd: Callable[..., Any], bwd: Callable[..., Any]) -> None:
        """Set the rule of reverse mode, as for `staticad.custom_vjp`: ``fwd(*args) -> (out, residuals)``,
        ``bwd(residuals, cotangents) -> tuple``.
        """
        self.reverse.defvjp(fwd, bwd)

    def defjvp(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        """Set the rule of forward mode, as for `staticad.custom_jvp`: ``rule(primals, tangents) -> (out, tangent)``."""
        return self.forward.defjvp(rule)

    def defjvps(self, *rules: Callable[..., Any] | None) -> None:
        """Set a rule for each argument, as for `staticad.custom_jvp`: ``rule(t, out, *primals) -> tangent``."""
        self.forward.defjvps(*rules)

    @property
    def has_rule(self) -> bool:
        return True  # to call it; asking for a derivative is an error

    def __call__(self, *args: Any) -> Any:
        """The results for tensors, arrays and numbers."""
        if not args:
            raise self.error("was given no arguments")
        return super().__call__(*map(Tensor, self.operands(args)))

    def rule(self, call: Invocation, traced: Traced) -> Together:
        rules = [rule.rule(call, traced) for rule in (self.reverse, self.forward) if rule.has_rule]
        return Together(rules[0].vjp, rules[-1].jvp, own=1) if rules else Together(self.refused, self.refused, own=1)

    def refused(self, nodes: Sequence[Node], gs: Sequence[Node | None]) -> Sequence[Node | None]:
        types = ", ".join(str(x.type) for x in nodes[0].args[1:])
        raise self.error(
            f"has no derivative, which was asked for ({types}); give it one with {self.way_in}, "
            f"or cut it off with staticad.stop_gradient({self.name}(...))"
        )

    # operands --------------------------------------------------------------------------------------------------------

    def operands(self, args: tuple[Any, ...]) -> Sequence[Node]:
        """The arguments as nodes; of a function of elements, broadcast to one shape. Each keeps its dtype, but numbers
        take that of the others.
        """
        if not self.elementwise:
            return [as_tensor(x).node for x in args]
        if len(args) > len(LETTERS):
            raise self.error(f"was given {len(args)} arguments; a function of elements takes at most {len(LETTERS)}")
        found = [weak(x) for x in args]
        known: list[np.dtype[Any]] = [x for x in found if isinstance(x, np.dtype)]
        dtypes: list[np.dtype[Any]] = [x if isinstance(x, np.dtype) else like(np.dtype(x), known) for x in found]
        return operands(self.name, args, dtypes)

    # the function ----------------------------------------------------------------------------------------------------

    def primitive(self, *args: Any) -> Any:
        """A call without derivatives."""
        nodes = self.operands(args)
        return self.of_elements(nodes) if self.elementwise else self.of_arrays([Tensor(x) for x in nodes])

    def of_elements(self, nodes: Sequence[Node]) -> Tensor:
        dtypes = tuple(x.dtype for x in nodes)
        if dtypes not in self.made:
            kinds = tuple((dtype, 0) for dtype in dtypes)
            self.made[dtypes] = Foreign(self.name, self.function, kinds, ((self.element_dtype(dtypes), 0),))
        return wrap(foreign.custom_map(*nodes, function=self.made[dtypes]))

    def element_dtype(self, dtypes: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
        """What was told; else what the function returns, and as wide as the arguments of that kind."""
        if self.result is not None:
            return as_dtype(self.result, f"custom_op: result of {self.name}")
        from staticad.runtime.user import element_dtype

        return like(as_dtype(element_dtype(self.name, self.function, dtypes)), dtypes)

    def of_arrays(self, tensors: Sequence[Tensor]) -> Any:
        """A node for the results of each dtype."""
        told = self.result(*tensors) if callable(self.result) else self.result
        nest = self.types(told)
        types: list[ArrayType] = list(leaves(nest))
        if not types:
            raise self.error("has no result")
        found: dict[int, Tensor] = {}
        for dtype in dict.fromkeys(t.dtype for t in types):
            found |= self.picked(tensors, types, tuple(k for k, t in enumerate(types) if t.dtype == dtype))
        return rebuild(nest, (found[k] for k in range(len(types))))

    def picked(
        self, tensors: Sequence[Tensor], types: Sequence[ArrayType], which: tuple[int, ...]
    ) -> dict[int, Tensor]:
        """The results ``which``, all of one dtype, by one call."""
        nodes = [x.node for x in tensors]
        function = self.foreign(nodes, types, which)
        if not function.packed:
            return {0: wrap(foreign.custom_call(*nodes, function=function, shape=types[0].shape))}
        sizes = [creation.full(value=d, shape=(), dtype=np.dtype("int64")) for t in types for d in t.shape]
        ends: list[Dim] = [0]
        for k in which:
            ends.append(ends[-1] + types[k].size)
        flat = wrap(foreign.custom_call(*nodes, *sizes, function=function, shape=(ends[-1],)))
        parts = zip(which, ends, ends[1:], strict=False)
        return {k: reshape(flat[start:end], types[k].shape) for k, start, end in parts}

    def foreign(self, nodes: Sequence[Node], types: Sequence[ArrayType], which: tuple[int, ...]) -> Foreign:
        given: tuple[Kind, ...] = tuple((x.dtype, len(x.shape)) for x in nodes)
        results: tuple[Kind, ...] = tuple((t.dtype, t.ndim) for t in types)
        key = given, results, which
        if key not in self.made:
            from staticad.runtime.user import check

            written = self.writes(len(given), len(results))
            function = Foreign(self.name, self.function, given, results, written, which)
            check(function)
            self.made[key] = function
        return self.made[key]

    def writes(self, given: int, results: int) -> bool:
        """Whether the function takes an array for each result as a further argument, and writes to it."""
        try:
            parameters = list(signature(self.function).parameters.values())
        except (TypeError, ValueError):  # it does not tell
            return False
        more = parameters[given:]
        plain = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
        return len(more) == results and all(p.kind in plain and p.default is Parameter.empty for p in more)

    def types(self, told: Any) -> Any:
        """The nest of results, each a template: a pair of shape and dtype, or anything that has both."""
        if hasattr(told, "shape") and hasattr(told, "dtype"):
            return self.type(told.shape, told.dtype)
        if is_pair(told):
            return self.type(*told)
        if is_dict(told):
            return {key: self.types(part) for key, part in told.items()}
        if is_sequence(told):
            parts = [self.types(part) for part in told]
            if hasattr(told, "_fields"):
                return type(told)(*parts)
            return tuple(parts) if isinstance(told, tuple) else parts
        raise self.error(
            f"has a result={told!r}, which tells no types: give a pair (shape, dtype), a tensor of that shape and "
            "dtype, or a tuple, list or dict of them, or a function that makes it of the arguments"
        )

    def type(self, shape: Any, dtype: Any) -> ArrayType:
        what = f"custom_op: result of {self.name}"
        return ArrayType(as_dtype(dtype, what), as_shape(shape, what))


def is_pair(x: Any) -> bool:
    """Whether ``x`` is a shape and a dtype."""
    return isinstance(x, tuple) and len(x) == 2 and isinstance(x[1], (str, np.dtype, type))  # pyright: ignore[reportUnknownArgumentType]


def like(dtype: np.dtype[Any], others: Sequence[np.dtype[Any]]) -> np.dtype[Any]:
    """The widest among others of the same kind; ``dtype`` itself where there is none."""
    same = [other for other in others if other.kind == dtype.kind]
    return np.result_type(*same) if same else dtype


@overload
def custom_op(f: Callable[..., Any], result: Result = None) -> CustomOp: ...
@overload
def custom_op(*, result: Result = None) -> Callable[[Callable[..., Any]], CustomOp]: ...
def custom_op(f: Callable[..., Any] | None = None, result: Result = None) -> Any:
    """A function of your own, of Numba's ``@njit``, as an operation on tensors; a decorator.

    Without ``result``, or with ``result=dtype``, ``f`` takes a number from each argument and returns one: it is called
    for every element, in the loops that are there anyway. Arguments are broadcast and keep their dtypes; the result has
    the dtype that f returns, as wide as the arguments of that kind are (float32 for float32).

    Otherwise ``f`` takes whole arrays, C-contiguous and read-only (numbers for arguments without axes), and ``result``
    tells what it gives: ``(shape, dtype)``, or a tensor (or array) of that shape and dtype, or a tuple, list or dict of
    such; or a function of the arguments, as tensors, that returns this. Either f returns that (several in a tuple), or
    it takes an array for each result after its arguments and writes every element of it.

    The result may be used as any tensor: in loops, branches and `staticad.vmap` (where functions of arrays are called
    for one item after the other), in `staticad.evaluate` and under ``NUMBA_DISABLE_JIT``. The function must depend on
    its arguments alone and change nothing: it may be called more or less often than it is written, by several threads
    at once, and without Python's lock.

    It has a derivative if it is given one, in operations on tensors: ``op.defvjp(fwd, bwd)`` as for `custom_vjp`,
    ``op.defjvp(rule)`` and ``op.defjvps(*rules)`` as for `custom_jvp`. Either serves both modes and every order; with
    both, each has its own.

    An exception in ``f`` becomes a `CustomOpError` of the compiled function, with it as the cause. Raises
    `CompileError` where Numba cannot compile f for the arguments, `DTypeError` where it returns something else than it
    should, `ShapeError` where the arguments do not broadcast, `GraphError` where ``result`` is none and where a
    derivative is asked for that is not there.

    >>> import numba, numpy as np, staticad as ad
    >>> @ad.custom_op
    ... @numba.njit
    ... def collatz(n):
    ...     steps = 0
    ...     while n > 1:
    ...         n = n // 2 if n % 2 == 0 else 3 * n + 1
    ...         steps += 1
    ...     return steps
    >>> @ad.custom_op(result=lambda x: x)
    ... @numba.njit
    ... def decayed(x, out):
    ...     total = 0.0
    ...     for i in range(len(x)):
    ...         total = 0.5 * total + x[i]
    ...         out[i] = total
    >>> decayed.defvjp(lambda x: (decayed(x), None), lambda _, g: (decayed(g[::-1])[::-1],))
    >>> n, x = ad.input("n", ("k",), "int64"), ad.input("x", ("k",))
    >>> f = ad.compile([n, x], [collatz(n) + 1, decayed(x), ad.grad(decayed(x)[2], x)])
    >>> f(np.array([1, 7, 27]), np.array([8.0, 2.0, 6.0]))
    [array([  1,  17, 112]), array([8., 6., 9.]), array([0.25, 0.5 , 1.  ])]
    """
    return partial(custom_op, result=result) if f is None else CustomOp(f, result)
