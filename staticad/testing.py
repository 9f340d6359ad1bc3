"""`gradcheck` and `gradgradcheck`: derivatives held against differences of values; knows graphs, not how they run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeGuard

import numpy as np

from staticad.creation import input as input_
from staticad.derivatives import jvp, vjp
from staticad.dtypes import can_require_grad, float64
from staticad.errors import DTypeError, GradcheckError, GraphError
from staticad.function import Function, compile  # noqa: A004
from staticad.functions.operands import as_tensor, check_function
from staticad.interpret import bind, interpret
from staticad.nests import leaves, map_leaves, places, rebuild
from staticad.ops import sources
from staticad.tensor import Array, Parameter, Tensor

__all__ = ["gradcheck", "gradgradcheck"]

Method = Literal["central", "complex"]
#: By output and input: one row for each element of the output, one column for each of the input.
Jacobians = dict[tuple[int, int], Array]
#: So short that its square vanishes beside 1.
COMPLEX_STEP = 1e-30


def gradcheck(
    func: Callable[..., Any],
    inputs: Any,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    method: Method = "central",
) -> bool:
    """Whether the derivatives of ``func`` are those that differences of its values give, element by element.

    Args:
        func: a function of tensors, or a compiled `Function`; what it returns may be a nest.
        inputs: its argument, or a tuple of them: arrays, numbers, parameters, nests of those. Every floating element is
            moved; what is neither array nor float is passed on as it is.
        eps: the step of the differences.
        atol, rtol: what an analytic derivative a and a numeric one n may differ by: ``atol + rtol * abs(n)``.
        raise_exception: raise where they differ more; else return False.
        check_forward_ad, check_backward_ad: the modes to look at.
        method: "central" for differences ``(f(x + eps) - f(x - eps)) / (2 * eps)`` of native code, or "complex" for
            ``imag(f(x + i * h)) / h`` of the graph as NumPy computes it: exact to rounding, for functions that are
            analytic and whose operations NumPy has for complex numbers (``abs`` is not one).

    Differences are taken in float64, whatever the dtypes of the inputs, but for a compiled function, which must be of
    float64. Names and meanings are those of ``torch.autograd.gradcheck``.

    Raises `GradcheckError`, which names the worst element with its analytic and its numeric derivative; `DTypeError`
    where there is nothing to differentiate.

    >>> import numpy as np, staticad as ad
    >>> ad.testing.gradcheck(lambda x, y: ad.sin(x) * y, (np.array([0.1, 0.2]), np.array([1.0, 2.0])))
    True
    """
    if method not in ("central", "complex"):
        raise GraphError(f'gradcheck: method is "central" or "complex", not {method!r}')
    check_function("gradcheck", func)
    program = traced(func, inputs)
    numeric = program.widened.central_differences(eps) if method == "central" else program.widened.complex_steps()
    modes: list[tuple[str, Jacobians]] = []
    if check_backward_ad:
        modes.append(("reverse", program.pulled()))
    if check_forward_ad:
        modes.append(("forward", program.pushed()))
    found = [x for mode, jacobians in modes for x in mismatches(program, mode, jacobians, numeric, atol, rtol)]
    if found and raise_exception:
        how = f"central differences, eps={eps:g}" if method == "central" else "complex steps"
        raise GradcheckError(report(found, f"{how}, atol={atol:g}, rtol={rtol:g}"))
    return not found


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Any,
    grad_outputs: Any = None,
    *,
    eps: float = 1e-6,
    atol: float = 1e-5,
    rtol: float = 1e-3,
    raise_exception: bool = True,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    method: Method = "central",
) -> bool:
    """Whether second derivatives of ``func`` are right: `gradcheck` of its vector-Jacobian product.

    ``func`` is a function of tensors; ``grad_outputs`` is a cotangent for each of its floating outputs, random where
    left out. The other arguments and errors are those of `gradcheck`.

    >>> import numpy as np, staticad as ad
    >>> ad.testing.gradgradcheck(lambda x: ad.exp(x) * x, np.array([0.1, 0.2]))
    True
    """
    check_function("gradgradcheck", func)
    if isinstance(func, Function):
        raise GraphError("gradgradcheck: takes a function of tensors; a compiled one has first derivatives alone")
    args = as_arguments(inputs)
    ys = traced(func, args).ys
    if grad_outputs is None:
        rng = np.random.default_rng(0)
        grad_outputs = [rng.uniform(-1, 1, y.shape).astype(y.dtype) for y in ys]
    cotangents = list(leaves(grad_outputs))
    if len(cotangents) != len(ys):
        raise GraphError(f"gradgradcheck: {len(cotangents)} grad_outputs for {len(ys)} floating outputs")

    def pulled(moved: Any, gs: Any) -> Any:
        return vjp(floating(func(*moved)), floating(moved), gs)

    return gradcheck(
        pulled, (args, cotangents), eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception,
        check_forward_ad=check_fwd_over_rev, check_backward_ad=check_rev_over_rev, method=method,
    )  # fmt: skip


# ---- what is checked


def as_arguments(inputs: Any) -> tuple[Any, ...]:
    return inputs if isinstance(inputs, tuple) else (inputs,)  # pyright: ignore[reportUnknownVariableType]


def floating(nest: Any) -> list[Tensor]:
    """The tensors of a nest that have a derivative."""
    return [x for x in leaves(nest) if isinstance(x, Tensor) and can_require_grad(x.dtype)]


def is_array(x: Any) -> TypeGuard[Array]:
    return isinstance(x, np.ndarray)


def as_array(x: Any) -> Any:
    """What is moved as an array: arrays, parameters, floats; anything else as it is."""
    if isinstance(x, Parameter):
        return x.value
    return np.asarray(x) if isinstance(x, (np.ndarray, np.generic, float)) else x


def traced(func: Callable[..., Any], inputs: Any) -> Program:
    """``func`` as a graph of inputs of the types that it is given."""
    args = map_leaves(as_array, as_arguments(inputs))
    if isinstance(func, Function):
        return given(func, args)
    return trace(func, args)


def trace(func: Callable[..., Any], args: tuple[Any, ...]) -> Program:
    arrays = [x for x in leaves(args) if is_array(x)]
    xs = [input_(f"x{k}", x.shape, x.dtype) for k, x in enumerate(arrays)]
    left = iter(xs)
    out = func(*rebuild(args, (next(left) if is_array(x) else x for x in leaves(args))))
    x_names = [name for name, x in zip(places(args, "inputs"), leaves(args), strict=True) if is_array(x)]

    def in_float64() -> Program:
        return trace(func, map_leaves(widen, args))

    return program("gradcheck", xs, arrays, x_names, out, in_float64)


def given(function: Function, args: tuple[Any, ...]) -> Program:
    xs = [Tensor(sources.unmarked(x.node)) for x in function.inputs]
    names = [f"inputs[{k}]" for k in range(len(xs))]
    arrays = [np.asarray(x, t.dtype) for x, t in zip(args, xs, strict=True)]

    def in_float64() -> Program:
        raise DTypeError(
            f"gradcheck: {function!r} is compiled for other floats than float64, whose differences are too coarse; "
            "give the function of tensors instead"
        )

    return program(function.name, xs, arrays, names, function.outputs, in_float64)


def widen(x: Any) -> Any:
    return x.astype(float64) if is_array(x) and can_require_grad(x.dtype) else x


def program(
    name: str, xs: list[Tensor], arrays: list[Array], x_names: list[str], out: Any, in_float64: Callable[[], Program]
) -> Program:
    ys = [x if x is None else as_tensor(x) for x in leaves(out)]
    y_names = [n for n, y in zip(places(out, "output"), ys, strict=True) if y is not None and can_require_grad(y.dtype)]
    moving = [k for k, x in enumerate(xs) if can_require_grad(x.dtype)]
    for what, there in (("input", moving), ("output", y_names)):
        if not there:
            raise DTypeError(f"{name}: no {what} is a floating array, so there is nothing to differentiate")
    return Program(xs, arrays, moving, floating(ys), [x_names[k] for k in moving], y_names, in_float64)


@dataclass(frozen=True, eq=False)
class Program:
    """Tensors ``ys`` of ``xs``, those of which numbered ``moving`` are differentiated by, where they are ``arrays``."""

    xs: list[Tensor]
    arrays: list[Array]
    moving: list[int]
    ys: list[Tensor]
    x_names: list[str]
    y_names: list[str]
    in_float64: Callable[[], Program]

    @cached_property
    def widened(self) -> Program:
        """The same in float64, where differences are exact enough."""
        return self if all(self.arrays[k].dtype == float64 for k in self.moving) else self.in_float64()

    @property
    def wrt(self) -> list[Tensor]:
        return [self.xs[k] for k in self.moving]

    def pulled(self) -> Jacobians:
        """By rows: a cotangent for each element of an output."""
        gs = [input_(f"g{k}", y.shape, y.dtype) for k, y in enumerate(self.ys)]
        f = compile([*self.xs, *gs], [*vjp(self.ys, self.wrt, gs), *self.ys], name="gradcheck_reverse")
        found: Jacobians = {}
        values = f(*self.arrays, *(np.zeros(shape, y.dtype) for shape, y in zip(self.shapes, self.ys, strict=True)))
        for k, row, units in unit_arrays(values[len(self.wrt) :]):
            for j, g in enumerate(f(*self.arrays, *units)[: len(self.wrt)]):
                found.setdefault((k, j), np.zeros((units[k].size, g.size)))[row] = g.ravel()
        return found

    def pushed(self) -> Jacobians:
        """By columns: a tangent for each element of an input."""
        ts = [input_(f"t{k}", x.shape, x.dtype) for k, x in enumerate(self.wrt)]
        f = compile([*self.xs, *ts], jvp(self.ys, self.wrt, ts), name="gradcheck_forward")
        return by_columns((f(*self.arrays, *units) for _, _, units in self.units), self.units)

    @cached_property
    def units(self) -> list[tuple[int, int, list[Array]]]:
        return list(unit_arrays([self.arrays[k] for k in self.moving]))

    @cached_property
    def sizes(self) -> dict[str, int]:
        return bind([(n, x.shape, a.shape) for n, x, a in zip(map(str, self.xs), self.xs, self.arrays, strict=True)])

    @cached_property
    def shapes(self) -> list[tuple[int, ...]]:
        from staticad.shapes import evaluate

        return [tuple(evaluate(d, self.sizes) for d in y.shape) for y in self.ys]

    def moved(self, units: Sequence[Array], step: complex) -> list[Array]:
        arrays = list(self.arrays)
        for k, unit in zip(self.moving, units, strict=True):
            arrays[k] = arrays[k] + step * unit
        return arrays

    def central_differences(self, eps: float) -> Jacobians:
        f = compile(self.xs, self.ys, name="gradcheck")

        def columns() -> Iterator[list[Array]]:
            for _, _, units in self.units:
                ends = zip(f(*self.moved(units, eps)), f(*self.moved(units, -eps)), strict=True)
                with np.errstate(invalid="ignore"):
                    yield [(b - a) / (2 * eps) for b, a in ends]

        return by_columns(columns(), self.units)

    def complex_steps(self) -> Jacobians:
        def columns() -> Iterator[list[Array]]:
            for _, _, units in self.units:
                given = dict(zip((x.node for x in self.xs), self.moved(units, 1j * COMPLEX_STEP), strict=True))
                yield [value.imag / COMPLEX_STEP for value in self.analytic(given)]

        return by_columns(columns(), self.units)

    def analytic(self, given: dict[Any, Array]) -> list[Array]:
        """The outputs, continued to complex numbers."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", np.exceptions.ComplexWarning)
                return interpret([y.node for y in self.ys], given, self.sizes)
        except (TypeError, np.exceptions.ComplexWarning) as error:
            raise DTypeError(
                f'gradcheck: method="complex" needs operations on complex numbers: {error}; give method="central"'
            ) from error


def unit_arrays(like: Sequence[Array]) -> Iterator[tuple[int, int, list[Array]]]:
    """For each element of the arrays: the number of its array, its own number there, and zeros but for a 1 there."""
    for k, array in enumerate(like):
        for at in range(array.size):
            units = [np.zeros_like(x) for x in like]
            units[k].flat[at] = 1
            yield k, at, units


def by_columns(columns: Iterator[list[Array]], units: Sequence[tuple[int, int, list[Array]]]) -> Jacobians:
    found: Jacobians = {}
    for (j, at, arrays), column in zip(units, columns, strict=True):
        for k, value in enumerate(column):
            found.setdefault((k, j), np.zeros((value.size, arrays[j].size)))[:, at] = value.ravel()
    return found


# ---- what differs


@dataclass(frozen=True)
class Mismatch:
    """A Jacobian with wrong elements: the worst of them, how many they are, and of how many."""

    mode: str
    element: str
    analytic: float
    numeric: float
    excess: float
    wrong: int
    total: int


def mismatches(
    program: Program, mode: str, analytic: Jacobians, numeric: Jacobians, atol: float, rtol: float
) -> Iterator[Mismatch]:
    for (k, j), expected in numeric.items():
        actual = analytic[k, j]
        with np.errstate(invalid="ignore"):
            excess = np.abs(actual - expected) / (atol + rtol * np.abs(expected))
        excess = np.where((actual == expected) | (np.isnan(actual) & np.isnan(expected)), 0.0, excess)
        excess = np.where(np.isnan(excess), np.inf, excess)
        wrong = int(np.sum(excess > 1))
        if wrong:
            row, column = (int(d) for d in np.unravel_index(np.argmax(excess), excess.shape))
            y = program.y_names[k] + subscript(row, program.shapes[k])
            x = program.x_names[j] + subscript(column, program.arrays[program.moving[j]].shape)
            a, n = float(actual[row, column]), float(expected[row, column])
            yield Mismatch(mode, f"d {y} / d {x}", a, n, float(excess[row, column]), wrong, excess.size)


def subscript(at: int, shape: tuple[int, ...]) -> str:
    """The index of element number ``at``, as it is written."""
    return str([int(d) for d in np.unravel_index(at, shape)]) if shape else ""


def report(found: Sequence[Mismatch], how: str) -> str:
    """The worst element of all, and for each wrong Jacobian its worst one."""
    worst = max(found, key=lambda x: x.excess)
    lines = [
        f"derivatives are not those of differences ({how})",
        f"worst: {worst.element} in {worst.mode} mode",
        f"  analytic {worst.analytic:.10g}",
        f"  numeric  {worst.numeric:.10g}",
    ]
    for x in found:
        count = f"{x.wrong} of {x.total} elements wrong"
        lines.append(f"{x.mode}: {count}, the worst {x.element}: analytic {x.analytic:.6g}, numeric {x.numeric:.6g}")
    return "\n".join(lines)
