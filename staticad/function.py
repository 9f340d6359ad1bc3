"""`compile` and `Function`: native code as a Python callable, with PyTorch's backward and JAX's vjp."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.interpret import plain_symbol
from staticad.ir import Cell, Graph, Node, toposort
from staticad.nests import aligned, leaves, map_leaves, rebuild
from staticad.ops import sources
from staticad.shapes import Expr, check_name, symbols
from staticad.tensor import Array, Parameter, Tensor

if TYPE_CHECKING:
    from staticad.parallel import Mode
    from staticad.passes import Passes
    from staticad.report import Kernel, Stats


def compile(  # noqa: A001
    inputs: Tensor | Sequence[Tensor],
    outputs: Any,
    *,
    updates: Mapping[Parameter, Tensor] | None = None,
    name: str | None = None,
    parallel: Mode = "auto",
) -> Function:
    """Native code that computes ``outputs`` from arrays for ``inputs``.

    Args:
        inputs: tensors made by `staticad.input`, in the order of the arguments.
        outputs: a tensor, or a nest of tuples, lists and dicts of tensors; results come back in the same nest.
        updates: parameters (or states) and the tensors that replace their values in every call.
        name: what the generated function is called in its source and in error messages.
        parallel: which loops run on several threads: "auto", those with enough work in a call to pay for it; True, all
            that can; False, none. There are as many threads as Numba's (``numba.set_num_threads``, the environment
            variable ``NUMBA_NUM_THREADS``). The same inputs and number of threads give the same bits.

    Raises:
        GraphError: an output depends on an input that is not given, an input is given twice or is no input;
            ``parallel`` is none of its three values.
        CompileError: native code could not be made.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n",))
    >>> f = ad.compile([x], {"sum": ad.sum(x * x), "twice": 2 * x})
    >>> f(np.array([1.0, 2.0]))
    {'sum': array(5.), 'twice': array([2., 4.])}
    """
    if not (isinstance(parallel, bool) or parallel == "auto"):  # pyright: ignore[reportUnnecessaryComparison]
        raise GraphError(f'compile: parallel is "auto", True or False, not {parallel!r}')
    given = input_list(inputs)
    return Function(given, outputs, dict(updates or {}), check_name(name or "f", "function name"), parallel)


def input_list(inputs: Tensor | Sequence[Tensor]) -> list[Tensor]:
    """The inputs of a compiled function. Raises `GraphError` where one is none, or there are two of one name."""
    if not isinstance(inputs, (Tensor, list, tuple)):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"compile: inputs are tensors made by staticad.input, in a list, not {type(inputs).__name__}")
    given = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    names: set[str] = set()
    for x in given:
        if not isinstance(x, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GraphError(f"compile: inputs are tensors made by staticad.input, not {type(x).__name__}")
        node = sources.unmarked(x.node)
        if not sources.is_input(node):
            raise GraphError(
                f"compile: {x!r} is no input but the result of {node.op.name}; inputs are made by staticad.input, "
                "and parameters are found by themselves"
            )
        if node.params["name"] in names:
            raise GraphError(f"compile: two inputs are called {node.params['name']!r}; give each input one name, once")
        names.add(node.params["name"])
    return given


#: Nests that an ``out`` of arrays alone may be given in as it is.
FLAT = (list, tuple)


class Function:
    """A compiled function: call it with one array for each input, in order or by name.

    ``source`` is the generated Python text, ``graph`` what was compiled, ``kernels`` its loops, ``stats`` its costs.
    """

    def __init__(
        self,
        inputs: list[Tensor],
        outputs: Any,
        updates: dict[Parameter, Tensor],
        name: str,
        parallel: Mode = "auto",
    ):
        self.inputs = inputs
        self.outputs = outputs
        self.updates = updates
        self.name = name
        self.parallel: Mode = parallel
        flat = list(leaves(outputs))
        for out in flat:
            if not isinstance(out, Tensor):
                raise GraphError(f"{name}: outputs are tensors in tuples, lists and dicts, not {type(out).__name__}")
        self._flat: list[Tensor] = flat
        self._single = isinstance(outputs, Tensor)
        self._is_flat = type(outputs) in FLAT and all(isinstance(t, Tensor) for t in outputs)
        self._names = [sources.unmarked(x.node).params["name"] for x in inputs]
        nodes = [sources.unmarked(x.node) for x in inputs]
        results = [out.node for out in flat]
        self._results = results
        replaced = {_storage_node(name, p): _new_value(name, p, t) for p, t in updates.items()}
        check_closed(nodes, [*results, *replaced.values()])
        _check_sizes(name, nodes, [*results, *replaced.values()])
        from staticad.passes import build  # the compiler is imported when there is something to compile

        self.compiled, self._caller = build(name, nodes, results, replaced, _output_names(outputs), parallel)
        self._fresh, self._into = self._caller.fresh, self._caller.into
        self._last = threading.local()
        self._lock = threading.Lock()
        self._records = False
        self._differentiable = any(x.requires_grad for x in results)

    # calling ---------------------------------------------------------------------------------------------------------

    def __call__(self, *arrays: Any, out: Any = None, **named: Any) -> Any:
        """The outputs for these arrays: fresh arrays in the nest of the outputs, or written to ``out`` (the same nest).

        Raises `ShapeError`, `DTypeError`: an array that does not fit; `IndexOutOfRange`: an index found in one.
        """
        if named:
            arrays = self._by_name(arrays, named)
        if self._differentiable:
            if self._records:
                return self._recorded(arrays, out)
            self._last.arrays = arrays
        if out is not None:
            if self._single:
                self._into(arrays, (out,))
            else:  # a list or tuple of another length or of no arrays is refused further on
                self._into(arrays, out if self._is_flat and type(out) in FLAT else self._outs(out))
            return out
        found = self._fresh(arrays)
        if self._single:
            return found[0]
        return type(self.outputs)(found) if self._is_flat else rebuild(self.outputs, iter(found))

    def _by_name(self, arrays: tuple[Any, ...], named: dict[str, Any]) -> tuple[Any, ...]:
        names = self._names
        unknown = [k for k in named if k not in names[len(arrays) :]]
        if unknown:
            twice = unknown[0] in names
            raise DTypeError(
                f"{self.name}: argument {unknown[0]!r} is {'given twice' if twice else 'unknown'}; "
                f"the inputs are {', '.join(names)}"
            )
        missing = [k for k in names[len(arrays) :] if k not in named]
        if missing:
            raise DTypeError(f"{self.name}: argument {missing[0]!r} is missing; the inputs are {', '.join(names)}")
        return (*arrays, *(named[k] for k in names[len(arrays) :]))

    def _outs(self, out: Any) -> Sequence[Any]:
        return list(aligned(self.outputs, out, f"{self.name}: out"))

    # derivatives -----------------------------------------------------------------------------------------------------

    def vjp(self, *arrays: Any, **named: Any) -> tuple[Any, Callable[[Any], dict[Tensor, Array]]]:
        """The outputs, and a pullback: from a cotangent (in the nest of the outputs) to those of inputs and parameters.

        The pullback returns a dict with an array for every input that requires grad, and for every parameter (or tensor
        made a leaf, or retained) that requires grad and the outputs depend on. What the backward pass needs of the
        forward pass is kept where that costs less than computing it again; the pullback may be called many times. It
        reads the arrays given and the parameters as they are then, so they must not change in between. The function's
        ``updates`` are not made. Raises `GraphError` where no output requires grad.

        >>> import numpy as np, staticad as ad
        >>> x = ad.input("x", (2,), requires_grad=True)
        >>> out, pullback = ad.compile([x], x * x).vjp(np.array([3.0, 4.0]))
        >>> pullback(np.array([1.0, 0.5]))[x]
        array([6., 4.])
        """
        if named:
            arrays = self._by_name(arrays, named)
        self._check_differentiable()
        outputs, pullback = self._forward(arrays)
        nest = outputs[0] if self._single else rebuild(self.outputs, iter(outputs))

        def pull_back(cotangent: Any = None) -> dict[Tensor, Array]:
            found = pullback(self._cotangents(outputs, cotangent))
            return {t: g for t, g in zip(self._tensors, found, strict=True) if t is not None}

        return nest, pull_back

    def backward(self, gradient: Any = None) -> None:
        """Pull a cotangent back through the last call of this thread and add the gradients to ``.grad`` of the leaves.

        ``gradient`` may be left out where the output is a scalar. The arrays of that call and the parameters must not
        have changed since. Raises `GraphError` before any call, where no output requires grad, and for a function with
        updates.
        """
        self._check_differentiable()
        if self.updates:
            raise GraphError(
                f"{self.name}: backward of a function with updates, whose parameters have changed since the call; "
                "compile the outputs without updates, or the gradients by staticad.grad with them"
            )
        arrays = getattr(self._last, "arrays", None)
        if arrays is None:
            raise GraphError(f"{self.name}: backward before any call; call the function first")
        if getattr(self._last, "recorded", None) is not arrays:
            self._last.outputs, self._last.pullback = self._forward(arrays)
            self._last.recorded = arrays
            self._records = True
        found = self._last.pullback(self._cotangents(self._last.outputs, gradient))
        with self._lock:
            for cell, g in zip(self._cells, found, strict=True):
                if cell is not None:  # a sum of 0-d arrays is a scalar
                    cell.grad = g if cell.grad is None else np.asarray(cell.grad + g)

    def _check_differentiable(self) -> None:
        if not self._differentiable:
            raise GraphError(
                f"{self.name}: no output requires grad; give an input requires_grad=True or use a parameter"
            )

    def _recorded(self, arrays: tuple[Any, ...], out: Any) -> Any:
        """A call that keeps what backward needs, since this function's backward is in use."""
        self._last.arrays = self._last.recorded = arrays
        outputs, self._last.pullback = self._forward(arrays)
        self._last.outputs = outputs
        if out is not None:
            from staticad.runtime.call import check_outs

            outs = [out] if self._single else self._outs(out)
            check_outs(self._caller.target, outs, [value.shape for value in outputs])
            for to, value in zip(outs, outputs, strict=True):
                to[...] = value
            return out
        return outputs[0] if self._single else rebuild(self.outputs, iter(outputs))

    def _forward(self, arrays: tuple[Any, ...]) -> tuple[Sequence[Array], Callable[[list[Array]], Sequence[Array]]]:
        passes = self._passes
        found = passes.forward(arrays)
        outputs, kept = found[: len(self._flat)], found[len(self._flat) :]
        return outputs, lambda cotangents: passes.backward([*arrays, *kept, *cotangents])

    def _cotangents(self, outputs: Sequence[Array], gradient: Any) -> list[Array]:
        """One array for each output that requires grad. Raises where a gradient is missing or does not fit."""
        given: Iterable[Any] = [None] * len(outputs)
        if gradient is not None:
            given = aligned(self.outputs, gradient, f"{self.name}: the gradient")
        found: list[Array] = []
        for t, value, g in zip(self._results, outputs, given, strict=True):
            if not t.requires_grad:
                continue
            if g is None:
                if value.size != 1:
                    raise GraphError(
                        f"{self.name}: backward through a non-scalar output of type {t.type} needs a gradient of its "
                        "shape; give backward(gradient) the cotangent, or compile a scalar such as its sum"
                    )
                g = np.ones(value.shape, value.dtype)
            array = np.asarray(g)
            if array.shape != value.shape:
                raise ShapeError(f"{self.name}: the gradient has the shape {array.shape}, the output {value.shape}")
            if not np.can_cast(array.dtype, value.dtype, "same_kind"):
                raise DTypeError(f"{self.name}: the gradient has dtype {array.dtype}, the output {value.dtype}")
            found.append(np.ascontiguousarray(array, value.dtype).reshape(value.shape))
        return found

    @cached_property
    def _passes(self) -> Passes:
        from staticad.passes import Passes

        inputs = [sources.unmarked(x.node) for x in self.inputs]
        seeds = [x for x in self._results if x.requires_grad]
        return Passes(self.name, inputs, self._results, seeds, [*self._leaves, *self._unreached], self.parallel)

    @cached_property
    def _leaves(self) -> list[Node]:
        """The leaves that require grad and that outputs depend on."""
        seeds = [x for x in self._results if x.requires_grad]
        return [x for x in toposort(seeds) if x.cell is not None and x.requires_grad]

    @cached_property
    def _unreached(self) -> list[Node]:
        """The inputs that require grad and that no output depends on."""
        return [x.node for x in self.inputs if x.requires_grad and x.node not in set(self._leaves)]

    @cached_property
    def _cells(self) -> list[Cell | None]:
        """Where backward leaves the gradient of each leaf.

        An input that no output depends on is left alone, as in PyTorch.
        """
        return [*(x.cell for x in self._leaves), *(None for _ in self._unreached)]

    @cached_property
    def _tensors(self) -> list[Tensor | None]:
        return [_owner(x, self.inputs) for x in (*self._leaves, *self._unreached)]

    # looking ---------------------------------------------------------------------------------------------------------

    @property
    def source(self) -> str:
        """The generated Python source; it runs without JIT too."""
        return self.compiled.text.source

    @property
    def graph(self) -> Graph:
        """What was compiled, after simplification; ``print`` it."""
        return self.compiled.graph

    @property
    def backward_nodes(self) -> set[Node]:
        """The nodes of `graph` that a reverse pass made, or that were computed from such."""
        return {x for x in self.graph.nodes if x.backward}

    @property
    def kernels(self) -> list[Kernel]:
        """The top-level loops and calls of the generated code, with what each reads, writes and computes."""
        from staticad.report import kernels

        return kernels(self.compiled)

    @property
    def stats(self) -> Stats:
        """Kernels, flops, bytes, workspace, seconds of compilation by stage, and whether the disk cache was hit."""
        from staticad.report import stats

        return stats(self.compiled)

    @cached_property
    def njit(self) -> Any:
        """A Numba dispatcher for ``@njit`` code: ``f.njit(*inputs, *outputs)``.

        Inputs are arrays in order; then one array for each output (depth first in their nest), which is written.
        Parameters and states are passed along by themselves and updated where the function has updates. Returns None;
        raises ValueError or IndexError as the Python call does. Arrays of any memory layout are taken.
        """
        from staticad.runtime.inline import inline  # imports Numba

        return inline(self._caller.target, self.compiled.native)

    def __repr__(self) -> str:
        arguments = ", ".join(
            f"{n}: {sources.unmarked(x.node).type}" for n, x in zip(self._names, self.inputs, strict=True)
        )
        return f"<Function {self.name}({arguments}) -> {map_leaves(lambda t: str(t.node.type), self.outputs)}>"


def _owner(leaf: Node, inputs: Sequence[Tensor]) -> Tensor | None:
    """The tensor that the user holds for a leaf, if it still lives."""
    for x in inputs:
        if x.node is leaf:
            return x
    owner = leaf.cell.owner() if leaf.cell is not None and leaf.cell.owner is not None else None
    return owner if isinstance(owner, Tensor) else None


def check_closed(inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
    """Raise `GraphError` unless every input that the outputs depend on is in ``inputs``."""
    given = set(inputs)
    for node in toposort(outputs):
        if sources.is_input(node) and node not in given:
            raise GraphError(
                f"the outputs depend on the input {node.params['name']!r} of type {node.type}, which is not among the "
                f"inputs ({', '.join(x.params['name'] for x in inputs) or 'there are none'}); add it to the list"
            )


def _check_sizes(name: str, inputs: Sequence[Node], outputs: Sequence[Node]) -> None:
    """Raise `GraphError` unless every symbolic dimension in use is the size of an axis of an input."""
    known = {plain_symbol(d) for x in inputs for d in x.shape}
    seen: set[object] = set()
    for node in [*inputs, *toposort(outputs)]:
        for value in (node.shape, *node.params.values()):
            if not isinstance(value, (tuple, Expr)):
                continue
            dims = (value,) if isinstance(value, Expr) else cast("tuple[Any, ...]", value)
            if dims in seen:
                continue
            seen.add(dims)
            for d in dims:
                missing = sorted(str(s) for s in symbols(d) - known if s.kind == "dim") if isinstance(d, Expr) else ()
                if missing:
                    raise GraphError(
                        f"{name}: no input tells the size {missing[0]!r}, which {node!r} needs; "
                        f"give an input that has an axis of this size alone, such as ({missing[0]!r},)"
                    )


def _storage_node(name: str, p: Parameter) -> Node:
    node = sources.unmarked(p.node) if isinstance(p, Parameter) else None  # pyright: ignore[reportUnnecessaryIsInstance]
    if node is None or not sources.is_data(node) or node.params["storage"].constant:
        raise GraphError(f"{name}: updates are of parameters and states, not of {p!r}")
    return node


def _new_value(name: str, p: Parameter, t: Tensor) -> Node:
    if not isinstance(t, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise GraphError(f"{name}: the update of {p!r} must be a tensor, not {type(t).__name__}")
    if t.node.shape != p.node.shape:
        raise ShapeError(f"{name}: the update of {p!r} has type {t.node.type}; it must have the shape of the parameter")
    if t.node.dtype != p.node.dtype:
        raise DTypeError(
            f"{name}: the update of {p!r} has type {t.node.type}; convert it with astype({str(p.dtype)!r})"
        )
    return t.node


def _output_names(outputs: Any, prefix: str = "out") -> list[str | None]:
    """A name for each output: its key in a dict, else the tensor's own."""
    if isinstance(outputs, Tensor):
        return [outputs.name or prefix]
    items: Iterable[tuple[Any, Any]]
    items = (
        cast("Mapping[Any, Any]", outputs).items()
        if isinstance(outputs, Mapping)
        else enumerate(cast("Iterable[Any]", outputs))
    )
    return [n for key, value in items for n in _output_names(value, str(key) if isinstance(key, str) else prefix)]
