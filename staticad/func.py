"""Transforms of plain Python functions of arrays, under the names of torch.func and JAX; knows derivatives of tensors,
and no loops.

Arrays, floats and nests of them (tuples, lists, dicts) go in, NumPy arrays come out. A function is traced when
arguments of a new form come: another nest, other dtypes, ranks or equal sizes; one compilation serves all sizes. Ints
and all that is no array are known while it is traced, so that Python control flow may depend on them, and another value
is another form. What it reads besides is read then, but for `staticad.parameter`, whose values are those at the call.
Transforms take each other's functions; called with tensors, they build graphs.

>>> import numpy as np, staticad as ad
>>> def loss(w, x, y):
...     return ad.mean((x @ w - y) ** 2)
>>> x, y = np.eye(3), np.array([1.0, 2.0, 3.0])
>>> ad.func.grad(loss)(np.zeros(3), x, y)
array([-0.66666667, -1.33333333, -2.        ])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from staticad import derivatives, transforms
from staticad.dtypes import can_require_grad
from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.function import check_closed
from staticad.functions.operands import check_function
from staticad.nests import aligned, is_sequence, leaves, rebuild
from staticad.stand_ins import Call, pair
from staticad.tensor import Array, Tensor
from staticad.tracing import Jitted, Program, Trace, in_trace, is_array

__all__ = ["grad", "hessian", "hvp", "jacfwd", "jacrev", "jit", "jvp", "value_and_grad", "vjp", "vmap"]

Argnums = int | Sequence[int]


def jit(f: Callable[..., Any]) -> Jitted[Program]:
    """``f`` as native code, compiled for each form of arguments that comes; a decorator.

    ``jit(f).functions`` are the compiled `Function` objects, to look at their ``source`` and ``stats``.

    Raises `SymbolicError` where ``f`` asks an array for its value (``if x > 0``; use `staticad.where`, `staticad.cond`,
    `staticad.while_loop`), `DTypeError` for an argument that is neither array, number nor hashable.

    >>> import numpy as np, staticad as ad
    >>> @ad.func.jit
    ... def norm(x, power=2):
    ...     return ad.sum(ad.abs(x) ** power) ** (1 / power)
    >>> norm(np.array([3.0, 4.0])), norm(np.ones(16)), len(norm.functions)
    (array(5.), array(4.), 1)
    """
    return transform("jit", _jit, f)


def _jit(f: Callable[..., Any]) -> Callable[..., Any]:
    return f


def grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Jitted[Program]:
    """The gradient of a function that returns a scalar, by its argument number ``argnums`` or by several.

    It has the nest of that argument; a tuple of them for a tuple of numbers. With ``has_aux``, ``f`` returns a pair of
    the scalar and anything else, and the result is ``(gradient, aux)``.

    Raises `GraphError` where ``f`` returns no scalar, `DTypeError` where an argument is not floating.

    >>> import numpy as np, staticad as ad
    >>> ad.func.grad(lambda p: ad.sum(p["a"] ** 2) * p["b"])({"a": np.array([1.0, 2.0]), "b": 3.0})
    {'a': array([ 6., 12.]), 'b': array(5.)}
    """
    return transform("grad", _grad, f, _numbers("grad", argnums), has_aux)


def _grad(f: Callable[..., Any], argnums: int | tuple[int, ...], has_aux: bool) -> Callable[..., Any]:
    def gradient(*args: Any, **kwargs: Any) -> Any:
        call = Call("grad", f, argnums, args, kwargs, has_aux)
        g = call.like_arguments(derivatives.grad(call.scalar(), call.targets))
        return call.finished((g, call.aux) if has_aux else g)

    return gradient


def value_and_grad(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Jitted[Program]:
    """``(value, gradient)`` in one pass, the gradient as by `grad`; with ``has_aux``, ``((value, aux), gradient)``.

    >>> import numpy as np, staticad as ad
    >>> ad.func.value_and_grad(lambda x: ad.sum(x**3))(np.array([1.0, 2.0]))
    (array(9.), array([ 3., 12.]))
    """
    return transform("value_and_grad", _value_and_grad, f, _numbers("value_and_grad", argnums), has_aux)


def _value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...], has_aux: bool) -> Callable[..., Any]:
    def both(*args: Any, **kwargs: Any) -> Any:
        call = Call("value_and_grad", f, argnums, args, kwargs, has_aux)
        y = call.scalar()
        g = call.like_arguments(derivatives.grad(y, call.targets))
        return call.finished(((y, call.aux) if has_aux else y, g))

    return both


def jvp(f: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """``f(*primals)`` and how it moves when the arguments move along ``tangents``: two tuples of one form.

    The result is ``(out, tangent)``; with ``has_aux``, where ``f`` returns a pair, ``(out, tangent, aux)``.

    Raises `ShapeError`, `DTypeError`: a tangent has another form, shape or dtype than its argument.

    >>> import numpy as np, staticad as ad
    >>> ad.func.jvp(lambda x: x * x, (np.array([3.0, 4.0]),), (np.array([1.0, 0.5]),))
    (array([ 9., 16.]), array([6., 4.]))
    """
    return transform("jvp", _jvp, f, has_aux)(*_directions("jvp", primals, tangents))


def _directions(name: str, primals: Any, tangents: Any) -> tuple[Any, Any]:
    for what, value in (("primals", primals), ("tangents", tangents)):
        if not is_sequence(value):
            raise GraphError(f"{name}: {what} are a tuple with one for each argument, not {type(value).__name__}")
    return primals, tangents


def _jvp(f: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
    def along(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        call = Call("jvp", f, None, primals, {}, has_aux)
        return call.finished((call.out, call.tangent(tangents), *([call.aux] if has_aux else [])))

    return along


def vjp(f: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """``f(*primals)``, and a pullback: from a cotangent, in the nest of the result, to those of the arguments.

    The pullback returns a tuple with one for each argument, in its nest, also where there is only one (as in JAX; None
    for what has no derivative). It may be called many times; what it needs of the forward pass is kept, not computed
    again. It may be called without a cotangent where the result is a scalar. With ``has_aux``, where ``f`` returns a
    pair, the result is ``(out, pullback, aux)``.

    Raises `ShapeError`, `DTypeError`: a cotangent that does not fit.

    >>> import numpy as np, staticad as ad
    >>> out, pullback = ad.func.vjp(lambda x, w: x * w, np.array([3.0, 4.0]), 2.0)
    >>> pullback(np.array([1.0, 0.5]))
    (array([2., 1.]), array(5.))
    """
    program = transform("vjp", _vjp, f, has_aux, make=Halves).program(primals, {})
    if program is None:
        return _pulled(f, primals, has_aux)
    halves, arrays = program
    found = halves(arrays)
    out, aux = halves.trace.outcome(found)

    def pullback(cotangents: Any = None) -> Any:
        if in_trace.get() or any(isinstance(g, Tensor) for g in leaves(cotangents)):
            return _pulled(f, primals, has_aux)[1](cotangents)
        return halves.pulled(primals, arrays, found, cotangents)

    return (out, pullback, aux) if has_aux else (out, pullback)


def _vjp(f: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
    return lambda *args: pair("vjp", f, f(*args), has_aux)


def _pulled(f: Callable[..., Any], primals: tuple[Any, ...], has_aux: bool) -> Any:
    """`vjp` in a graph."""
    call = Call("vjp", f, None, primals, {}, has_aux)
    out, aux = call.finished((call.out, call.aux))

    def pullback(cotangents: Any = None) -> Any:
        return call.finished(call.cotangents(cotangents))

    return (out, pullback, aux) if has_aux else (out, pullback)


class Halves:
    """A function and its derivative compiled for arguments of one form: forward, and backward from what it leaves."""

    def __init__(self, f: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]):
        from staticad.passes import Passes

        self.trace = Trace(f, name, args, kwargs)
        inputs = [x.node for x in self.trace.inputs]
        results = [x.node for x in self.trace.results]
        check_closed(inputs, results)
        outs = [x.node for x in leaves(self.trace.nest[0]) if isinstance(x, Tensor)]
        self.moving = [can_require_grad(x.dtype) for x in inputs]
        seeds = [x for x in outs if can_require_grad(x.dtype)]
        targets = [x for x, moves in zip(inputs, self.moving, strict=True) if moves]
        self.passes = Passes(name, inputs, results, seeds, targets)

    def __call__(self, arrays: list[Any]) -> Sequence[Array]:
        """The results, and what `pulled` needs of them."""
        return self.passes.forward(self.trace.given(arrays))

    def pulled(self, primals: Any, arrays: Sequence[Any], found: Sequence[Array], cotangents: Any) -> Any:
        """The cotangents of ``primals``, a tuple."""
        out = self.trace.nest[0]
        values = iter(found)
        given = [None for _ in leaves(out)] if cotangents is None else aligned(out, cotangents, "vjp: the cotangent")
        seeds: list[Array] = []
        for y, g in zip(leaves(out), given, strict=True):
            if isinstance(y, Tensor):
                value = next(values)
                if can_require_grad(y.dtype):
                    seeds.append(cotangent(g, value))
        kept = found[len(self.trace.results) :]
        pulled = iter(self.passes.backward([*arrays, *kept, *seeds]))
        moving = iter(self.moving)
        return rebuild(primals, (next(pulled) if is_array(x) and next(moving) else None for x in leaves(primals)))


def cotangent(g: Any, value: Array) -> Array:
    """A cotangent for a result, as an array of its type."""
    if g is None:
        if value.size != 1:
            raise GraphError(
                f"vjp: the result is no scalar but {value.dtype} of shape {value.shape}; give a cotangent of its shape"
            )
        return np.ones(value.shape, value.dtype)
    array = np.asarray(g)
    if array.shape != value.shape:
        raise ShapeError(f"vjp: the cotangent has the shape {array.shape}, the result {value.shape}")
    if not np.can_cast(array.dtype, value.dtype, "same_kind"):
        raise DTypeError(f"vjp: the cotangent has dtype {array.dtype}, the result {value.dtype}; convert with astype")
    return np.ascontiguousarray(array, value.dtype).reshape(value.shape)


def jacrev(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Jitted[Program]:
    """The Jacobian of ``f`` by its argument number ``argnums`` or by several, backwards from each element it returns.

    For arrays it has the shape of the result, then that of the argument; for nests it is the nest of the result with
    that of the argument (a tuple of them for a tuple of numbers) in the place of each array. With ``has_aux``, ``f``
    returns a pair, and the result is ``(jacobian, aux)``. Raises as `grad`.

    >>> import numpy as np, staticad as ad
    >>> ad.func.jacrev(lambda x: x[0] * x)(np.array([3.0, 4.0]))
    array([[6., 0.],
           [4., 3.]])
    """
    return transform("jacrev", _jacobian, f, _numbers("jacrev", argnums), has_aux, "jacrev", "reverse")


def jacfwd(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Jitted[Program]:
    """`jacrev`, forwards along each element of the argument: for more results than arguments.

    >>> import numpy as np, staticad as ad
    >>> ad.func.jacfwd(ad.sin)(0.0)
    array(1.)
    """
    return transform("jacfwd", _jacobian, f, _numbers("jacfwd", argnums), has_aux, "jacfwd", "forward")


def hessian(f: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Jitted[Program]:
    """The second derivatives of ``f`` by its argument number ``argnums`` or by several: forwards over backwards.

    For arrays it has the shape of the result, then twice that of the argument; nests stand in each other as for
    `jacrev`. With ``has_aux``, the result is ``(hessian, aux)``. Raises as `grad`.

    >>> import numpy as np, staticad as ad
    >>> ad.func.hessian(lambda x: x[0] ** 2 * x[1])(np.array([3.0, 4.0]))
    array([[8., 6.],
           [6., 0.]])
    """
    return transform("hessian", _jacobian, f, _numbers("hessian", argnums), has_aux, "hessian", "reverse", "forward")


def _jacobian(
    f: Callable[..., Any], argnums: int | tuple[int, ...], has_aux: bool, name: str, *modes: str
) -> Callable[..., Any]:
    def jacobian(*args: Any, **kwargs: Any) -> Any:
        call = Call(name, f, argnums, args, kwargs, has_aux)
        found = call.out
        for mode in modes:
            rows = iter(derivatives.jacobian(list(leaves(found)), call.targets, mode))
            found = rebuild(found, (call.like_arguments(next(rows)) for _ in leaves(found)))
        return call.finished((found, call.aux) if has_aux else found)

    return jacobian


def hvp(f: Callable[..., Any], primals: Any, tangents: Any, has_aux: bool = False) -> Any:
    """The Hessian of ``f``, which returns a scalar, at ``primals``, times ``tangents``: two tuples of one form.

    The result is a tuple of that form too; with ``has_aux``, where ``f`` returns a pair, ``(product, aux)``. It takes
    the time of a few gradients; the Hessian is never there. Raises as `grad` and `jvp`.

    >>> import numpy as np, staticad as ad
    >>> ad.func.hvp(lambda x: ad.sum(x**3), (np.array([1.0, 2.0]),), (np.array([1.0, 0.5]),))
    (array([6., 6.]),)
    """
    return transform("hvp", _hvp, f, has_aux)(*_directions("hvp", primals, tangents))


def _hvp(f: Callable[..., Any], has_aux: bool) -> Callable[..., Any]:
    def product(primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
        call = Call("hvp", f, None, primals, {}, has_aux)
        found = call.like_arguments(derivatives.hvp(call.scalar(), call.targets, call.moves(tangents)))
        return call.finished((found, call.aux) if has_aux else found)

    return product


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Jitted[Program]:
    """``f``, written for one value, as a function of many; `staticad.vmap` says how, and what ``in_axes`` and
    ``out_axes`` are.

    >>> import numpy as np, staticad as ad
    >>> slopes = ad.func.vmap(ad.func.grad(lambda x, w: ad.sum(ad.tanh(x) * w)), in_axes=(0, None))
    >>> slopes(np.zeros((2, 3)), np.array([1.0, 2.0, 3.0]))
    array([[1., 2., 3.],
           [1., 2., 3.]])
    """
    return transform("vmap", transforms.vmap, f, in_axes, out_axes)


# ---- what makes them compiled functions


def transform(
    name: str,
    rule: Callable[..., Callable[..., Any]],
    f: Callable[..., Any],
    *options: Any,
    make: Callable[..., Any] = Program,
) -> Jitted[Any]:
    """``rule(f, *options)`` as a function that is traced and compiled: the same one when asked for again."""
    check_function(name, f)
    if not in_trace.get():  # what is made in a trace would keep its graph alive
        try:
            return _kept(rule, f, options, make)
        except TypeError:  # something in it has no hash
            pass
    return Jitted(rule(f, *options), f, make)


@lru_cache(maxsize=256)
def _kept(rule: Callable[..., Any], f: Callable[..., Any], options: tuple[Any, ...], make: Callable[..., Any]) -> Any:
    return Jitted(rule(f, *options), f, make)


def _numbers(name: str, argnums: Any) -> int | tuple[int, ...]:
    found = (argnums,) if isinstance(argnums, int) else tuple(argnums) if is_sequence(argnums) else ()
    if not found or not all(isinstance(k, int) and not isinstance(k, bool) for k in found):
        raise GraphError(f"{name}: argnums is an integer or several in a tuple, not {argnums!r}")
    return argnums if isinstance(argnums, int) else found
