"""`Tensor`: what the user holds, a thin mutable wrapper of a node; knows autograd's flags, and no loops and no Numba.

The operators and methods are the functions of `staticad.functions`, bound to their first argument. Those functions are
written on `Tensor`, so the two are one layer: they are imported at the end of this module.
"""

# ruff: noqa: A002, E501  (the array API's names are Python's; one-line methods are a table)

from __future__ import annotations

import contextlib
import contextvars
import weakref
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import numpy as np

from staticad.dtypes import can_require_grad
from staticad.errors import DTypeError, GraphError, ShapeError, SymbolicError
from staticad.ir import Cell, Node, toposort
from staticad.ops import sources
from staticad.shapes import Dim, Expr, Shape, check_name, is_static

if TYPE_CHECKING:
    from staticad.functions.indexing import At

Array: TypeAlias = "np.ndarray[Any, Any]"
Scalar: TypeAlias = "bool | int | float | Expr"
ArrayLike: TypeAlias = "Tensor | Array | np.generic | Scalar | Sequence[Any]"
DType: TypeAlias = "np.dtype[Any] | type[Any] | str"
Axes: TypeAlias = "int | Sequence[int] | None"

_recording: contextvars.ContextVar[bool] = contextvars.ContextVar("staticad_recording", default=True)


@contextlib.contextmanager
def no_grad() -> Generator[None, None, None]:
    """Tensors made inside require no gradient: a context manager, and a decorator (``@no_grad()``).

    >>> import staticad as ad
    >>> x = ad.input("x", (3,), requires_grad=True)
    >>> with ad.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    token = _recording.set(False)
    try:
        yield
    finally:
        _recording.reset(token)


def wrap(node: Node) -> Tensor:
    """A tensor on ``node``, cut off from gradients inside `no_grad`."""
    if node.requires_grad and not _recording.get():
        node = sources.stop_gradient(node)
    return Tensor(node)


def zero_grad(*tensors: Tensor | Iterable[Any] | Mapping[Any, Any]) -> None:
    """Set ``.grad`` of the tensors, given one by one or in nests of lists, tuples and dicts, to None."""
    for t in tensors:
        if isinstance(t, Tensor):
            t.grad = None
        elif isinstance(t, Mapping):
            zero_grad(*t.values())  # pyright: ignore[reportUnknownArgumentType, reportUnknownMemberType]
        elif isinstance(t, Iterable) and not isinstance(t, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            zero_grad(*t)
        else:
            raise GraphError(f"zero_grad: takes tensors and nests of them, not {t!r}")


@dataclass(frozen=True)
class GradFn:
    """The operation that made a tensor, as ``grad_fn`` shows it: its ``name`` and ``next_functions``.

    ``next_functions`` has a pair for each operand: the operation that made it (an `AccumulateGrad` for a leaf that
    requires grad, None for what requires none) and 0, PyTorch's number of the output."""

    node: Node

    @property
    def name(self) -> str:
        return self.node.op.name

    @property
    def next_functions(self) -> tuple[tuple[GradFn | AccumulateGrad | None, int], ...]:
        return tuple((_maker(x), 0) for x in self.node.args)

    def __repr__(self) -> str:
        return f"<{self.name}>"


@dataclass(frozen=True)
class AccumulateGrad:
    """Where a gradient arrives: a leaf that requires grad, whose tensor is ``variable``."""

    node: Node
    name: str = "AccumulateGrad"
    next_functions: tuple[()] = ()

    @property
    def variable(self) -> Tensor:
        return Tensor(self.node)

    def __repr__(self) -> str:
        return "<AccumulateGrad>"


def _maker(node: Node) -> GradFn | AccumulateGrad | None:
    if not node.requires_grad:
        return None
    return AccumulateGrad(node) if sources.is_leaf(node) else GradFn(node)


class Tensor:
    """An array that is not computed yet: a node of the graph, and what PyTorch keeps beside one.

    Made by `staticad.input`, `staticad.parameter`, `staticad.constant` and every function of tensors. Operators and
    methods build new nodes; an in-place operator (``x += 1``) makes a new tensor and rebinds the name, as for a Python
    number.

    >>> import staticad as ad
    >>> x = ad.input("x", ("n", 3), dtype="float32", requires_grad=True)
    >>> 2 * x + 1
    Tensor(f32[n, 3], grad_fn=<add>)
    """

    __slots__ = ("__weakref__", "_cell", "node")
    __array_priority__ = 1000

    def __init__(self, node: Node):
        self.node = node
        self._cell: Cell | None = None

    # ---- what it is

    @property
    def shape(self) -> Shape:
        return self.node.type.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.node.type.dtype

    @property
    def ndim(self) -> int:
        return len(self.node.type.shape)

    @property
    def size(self) -> Dim:
        return self.node.type.size

    @property
    def device(self) -> str:
        return "cpu"

    @property
    def name(self) -> str | None:
        """The user's name for it, seen in pictures and generated code where it is free. Settable."""
        return self.node.name

    @name.setter
    def name(self, name: str) -> None:
        self.node.name = check_name(name, "tensor name")

    def __repr__(self) -> str:
        parts = [str(self.node.type)]
        if self.name:
            parts.append(f"name={self.name!r}")
        if self.grad_fn is not None:
            parts.append(f"grad_fn={self.grad_fn}")
        elif self.requires_grad:
            parts.append("requires_grad=True")
        return f"{type(self).__name__}({', '.join(parts)})"

    # ---- autograd's flags, as in PyTorch

    @property
    def requires_grad(self) -> bool:
        """Whether gradients are wanted here. Setting it on a leaf makes gradients stop there and arrive in
        ``.grad``.
        """
        return self.node.requires_grad

    @requires_grad.setter
    def requires_grad(self, wanted: bool) -> None:
        if wanted == self.node.requires_grad:
            return
        if wanted:
            if not can_require_grad(self.dtype):
                raise DTypeError(
                    f"requires_grad: only floating tensors can require grad, not {self.node.type}; convert with astype"
                )
            self._cell = self._cell or Cell(self.name, owner=weakref.ref(self))
            self.node = make_leaf(self.node, self._cell)
        else:
            if not self.is_leaf:
                raise GraphError(
                    f"requires_grad: can be set to False on a leaf only, and {self!r} is computed; "
                    "use .detach() for the same values without gradients"
                )
            self.node = self.node.args[0]

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Set `requires_grad` and return the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        """Whether gradients do not flow on from here: the user made it, or nothing it is made of requires grad."""
        return not self.node.requires_grad or sources.is_leaf(self.node)

    @property
    def grad_fn(self) -> GradFn | None:
        """The operation that made it, where gradients flow through that; None for a leaf."""
        return None if self.is_leaf else GradFn(self.node)

    @property
    def grad(self) -> Array | None:
        """What backward passes have added up: an array of its dtype and shape, or None before any. Settable."""
        cell = self.node.cell or self._cell
        return cell.grad if cell else None

    @grad.setter
    def grad(self, value: ArrayLike | None) -> None:
        cell = self.node.cell or self._cell
        if value is None:
            if cell:
                cell.grad = None
            return
        found = np.asarray(value)
        if found.dtype != self.dtype or not _may_be(found.shape, self.shape):
            raise ShapeError(f"grad: takes an array of type {self.node.type}, got {found.dtype} of shape {found.shape}")
        if cell is None:
            cell = self._cell = Cell(self.name)
        cell.grad = found

    def retain_grad(self) -> None:
        """Let backward passes leave the gradient of this computed tensor in ``.grad``. Nothing to do for a leaf."""
        if not self.requires_grad:
            raise GraphError(f"retain_grad: {self!r} does not require grad; set requires_grad before it is computed")
        if self.node.cell is None:
            self.node.cell = Cell(self.name, owner=weakref.ref(self))

    def detach(self) -> Tensor:
        """The same values, cut off from gradients."""
        return Tensor(sources.stop_gradient(self.node))

    # ---- values

    def item(self) -> bool | int | float:
        """The value of a one-element tensor made of constants and parameters alone, computed now.

        Raises `SymbolicError` where it depends on an input, `ShapeError` where it has not one element.
        """
        if self.size != 1:
            raise ShapeError(f"item: takes a tensor of one element, not {self.node.type}")
        return self.numpy().item()

    def numpy(self) -> Array:
        """The values of a tensor made of constants and parameters alone, computed now; `SymbolicError` otherwise."""
        if any(sources.is_input(x) for x in toposort([self.node])):
            self._no_value("the value")
        from staticad.evaluate import evaluate  # evaluate is written on Tensor

        return evaluate(self, {})

    def _no_value(self, what: str) -> NoReturn:
        raise SymbolicError(
            f"{what} of {self!r} is not known while the graph is built; "
            "compute it with staticad.compile([inputs], tensor)(arrays) or staticad.evaluate(tensor, {input: array})"
        )

    def __bool__(self) -> bool:
        self._no_value(
            "the truth value (instead of if, staticad.where chooses elements and staticad.cond what to compute; "
            "staticad.while_loop is while)"
        )

    def __float__(self) -> float:
        self._no_value("float()")

    def __int__(self) -> int:
        self._no_value("int()")

    def __complex__(self) -> complex:
        self._no_value("complex()")

    def __index__(self) -> int:
        self._no_value("the integer value (a tensor can index a tensor, not a list)")

    def __array__(self, dtype: object = None, copy: object = None) -> Array:
        self._no_value("np.asarray()")

    def __iter__(self) -> NoReturn:
        self._no_value("iteration (use staticad.unstack for the slices along an axis)")

    def __contains__(self, x: object) -> bool:
        self._no_value("membership")

    def __len__(self) -> int:
        if not self.shape:
            raise ShapeError(f"len: {self!r} has no axes")
        d = self.shape[0]
        if not isinstance(d, int):
            raise SymbolicError(f"len: the first dimension of {self!r} is symbolic; use tensor.shape[0] as a dimension")
        return d

    def __hash__(self) -> int:
        return id(self)

    # ---- protocols

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        import staticad

        return staticad

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        from staticad.numpy_protocol import call_ufunc  # its table needs every function

        return call_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        from staticad.numpy_protocol import call_function

        return call_function(func, args, kwargs)

    # ---- operators
    # fmt: off
    def __add__(self, y: ArrayLike) -> Tensor: return elementwise.add(self, y)
    def __radd__(self, y: ArrayLike) -> Tensor: return elementwise.add(y, self)
    def __sub__(self, y: ArrayLike) -> Tensor: return elementwise.subtract(self, y)
    def __rsub__(self, y: ArrayLike) -> Tensor: return elementwise.subtract(y, self)
    def __mul__(self, y: ArrayLike) -> Tensor: return elementwise.multiply(self, y)
    def __rmul__(self, y: ArrayLike) -> Tensor: return elementwise.multiply(y, self)
    def __truediv__(self, y: ArrayLike) -> Tensor: return elementwise.divide(self, y)
    def __rtruediv__(self, y: ArrayLike) -> Tensor: return elementwise.divide(y, self)
    def __floordiv__(self, y: ArrayLike) -> Tensor: return elementwise.floor_divide(self, y)
    def __rfloordiv__(self, y: ArrayLike) -> Tensor: return elementwise.floor_divide(y, self)
    def __mod__(self, y: ArrayLike) -> Tensor: return elementwise.remainder(self, y)
    def __rmod__(self, y: ArrayLike) -> Tensor: return elementwise.remainder(y, self)
    def __divmod__(self, y: ArrayLike) -> tuple[Tensor, Tensor]: return elementwise.divmod(self, y)
    def __rdivmod__(self, y: ArrayLike) -> tuple[Tensor, Tensor]: return elementwise.divmod(y, self)
    def __pow__(self, y: ArrayLike) -> Tensor: return elementwise.pow(self, y)
    def __rpow__(self, y: ArrayLike) -> Tensor: return elementwise.pow(y, self)
    def __matmul__(self, y: ArrayLike) -> Tensor: return products.matmul(self, y)
    def __rmatmul__(self, y: ArrayLike) -> Tensor: return products.matmul(y, self)
    def __and__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_and(self, y)
    def __rand__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_and(y, self)
    def __or__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_or(self, y)
    def __ror__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_or(y, self)
    def __xor__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_xor(self, y)
    def __rxor__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_xor(y, self)
    def __lshift__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_left_shift(self, y)
    def __rlshift__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_left_shift(y, self)
    def __rshift__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_right_shift(self, y)
    def __rrshift__(self, y: ArrayLike) -> Tensor: return elementwise.bitwise_right_shift(y, self)
    def __neg__(self) -> Tensor: return elementwise.negative(self)
    def __pos__(self) -> Tensor: return elementwise.positive(self)
    def __abs__(self) -> Tensor: return elementwise.abs(self)
    def __invert__(self) -> Tensor: return elementwise.bitwise_invert(self)
    def __round__(self, decimals: int = 0) -> Tensor: return elementwise.round(self, decimals)
    def __eq__(self, y: object) -> Any: return elementwise.equal(self, cast(Any, y)) if _comparable(y) else NotImplemented
    def __ne__(self, y: object) -> Any: return elementwise.not_equal(self, cast(Any, y)) if _comparable(y) else NotImplemented
    def __lt__(self, y: ArrayLike) -> Tensor: return elementwise.less(self, y)
    def __le__(self, y: ArrayLike) -> Tensor: return elementwise.less_equal(self, y)
    def __gt__(self, y: ArrayLike) -> Tensor: return elementwise.greater(self, y)
    def __ge__(self, y: ArrayLike) -> Tensor: return elementwise.greater_equal(self, y)
    # fmt: on

    def __getitem__(self, key: Any) -> Tensor:
        return indexing.getitem(self, key)

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        raise SymbolicError("a tensor cannot be changed in place; write x = x.at[index].set(value), or .add, .multiply")

    @property
    def at(self) -> At:
        """``x.at[index].set(v)``, ``.add``, ``.multiply``, ``.min``, ``.max``: a copy with the chosen elements
        updated.
        """
        return indexing.At(self)

    # ---- methods, as NumPy's
    # fmt: off
    @property
    def T(self) -> Tensor: return manipulation.permute_dims(self, range(self.ndim - 1, -1, -1))  # noqa: N802
    @property
    def mT(self) -> Tensor: return manipulation.matrix_transpose(self)  # noqa: N802

    def sum(self, axis: Axes = None, dtype: DType | None = None, *, keepdims: bool = False) -> Tensor: return reductions.sum(self, axis=axis, dtype=dtype, keepdims=keepdims)
    def prod(self, axis: Axes = None, dtype: DType | None = None, *, keepdims: bool = False) -> Tensor: return reductions.prod(self, axis=axis, dtype=dtype, keepdims=keepdims)
    def mean(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor: return reductions.mean(self, axis=axis, keepdims=keepdims)
    def var(self, axis: Axes = None, *, correction: float = 0, keepdims: bool = False) -> Tensor: return reductions.var(self, axis=axis, correction=correction, keepdims=keepdims)
    def std(self, axis: Axes = None, *, correction: float = 0, keepdims: bool = False) -> Tensor: return reductions.std(self, axis=axis, correction=correction, keepdims=keepdims)
    def max(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor: return reductions.max(self, axis=axis, keepdims=keepdims)
    def min(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor: return reductions.min(self, axis=axis, keepdims=keepdims)
    def any(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor: return reductions.any(self, axis=axis, keepdims=keepdims)
    def all(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor: return reductions.all(self, axis=axis, keepdims=keepdims)
    def argmax(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor: return reductions.argmax(self, axis=axis, keepdims=keepdims)
    def argmin(self, axis: int | None = None, *, keepdims: bool = False) -> Tensor: return reductions.argmin(self, axis=axis, keepdims=keepdims)
    def logsumexp(self, axis: Axes = None, *, keepdims: bool = False) -> Tensor: return reductions.logsumexp(self, axis=axis, keepdims=keepdims)
    def cumsum(self, axis: int | None = None, dtype: DType | None = None) -> Tensor: return reductions.cumsum(self, axis=axis, dtype=dtype)
    def cumprod(self, axis: int | None = None, dtype: DType | None = None) -> Tensor: return reductions.cumprod(self, axis=axis, dtype=dtype)

    def reshape(self, *shape: Any) -> Tensor: return manipulation.reshape(self, shape[0] if len(shape) == 1 else shape)
    def transpose(self, *axes: Any) -> Tensor: return manipulation.transpose(self, (axes[0] if len(axes) == 1 else axes) or None)
    def astype(self, dtype: DType, copy: bool = True) -> Tensor: return elementwise.astype(self, dtype)
    def squeeze(self, axis: Axes = None) -> Tensor: return manipulation.squeeze(self, axis)
    def ravel(self) -> Tensor: return manipulation.reshape(self, -1)
    def flatten(self) -> Tensor: return manipulation.reshape(self, -1)
    def swapaxes(self, axis1: int, axis2: int) -> Tensor: return manipulation.swapaxes(self, axis1, axis2)
    def repeat(self, repeats: int, axis: int | None = None) -> Tensor: return manipulation.repeat(self, repeats, axis=axis)
    def take(self, indices: ArrayLike, axis: int | None = None) -> Tensor: return indexing.take(self, indices, axis=axis)
    def dot(self, y: ArrayLike) -> Tensor: return products.dot(self, y)
    def clip(self, min: ArrayLike | None = None, max: ArrayLike | None = None) -> Tensor: return elementwise.clip(self, min, max)
    def round(self, decimals: int = 0) -> Tensor: return elementwise.round(self, decimals)
    def copy(self) -> Tensor: return elementwise.positive(self)
    # fmt: on


class Parameter(Tensor):
    """A tensor that holds an array: a parameter to train, or a state that a step updates.

    ``value`` is the live array; setting it copies into the same memory, so that compiled functions see the new values.
    """

    __slots__ = ("storage",)

    def __init__(self, node: Node, storage: sources.Storage):
        super().__init__(node)
        self.storage = storage

    @property
    def value(self) -> Array:
        return self.storage.array

    @value.setter
    def value(self, value: ArrayLike) -> None:
        found, array = np.asarray(value), self.storage.array
        if found.shape != array.shape:
            raise ShapeError(f"value: {self!r} takes an array of shape {array.shape}, got {found.shape}")
        if not np.can_cast(found.dtype, array.dtype, "same_kind"):
            raise DTypeError(f"value: {self!r} takes {array.dtype}, got {found.dtype}; convert with astype")
        array[...] = found


class Weak(Tensor):
    """A Python float that a traced function was given: in promotion it counts as that float does."""

    __slots__ = ()


def make_leaf(node: Node, cell: Cell) -> Node:
    """``node`` as a leaf that requires grad, whose gradient arrives in ``cell``."""
    out = sources.leaf(node, cell=cell)
    out.name, out.cell, out.requires_grad = node.name, cell, True
    return out


def _comparable(y: object) -> bool:
    """Whether ``==`` builds a graph; with None, a string or the like it is False, as between any objects."""
    return isinstance(y, (Tensor, np.ndarray, np.generic, bool, int, float, Expr, list, tuple))


def _may_be(shape: tuple[int, ...], declared: Shape) -> bool:
    """Whether an array of ``shape`` may be a value of a tensor declared with symbolic dimensions."""
    fits = len(shape) == len(declared)
    return (
        fits
        and (shape == declared or not is_static(declared))
        and all(d == s or not isinstance(d, int) for d, s in zip(declared, shape, strict=True))
    )


from staticad.functions import elementwise, indexing, manipulation, products, reductions  # noqa: E402
