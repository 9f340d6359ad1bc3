"""`sparse_jacobian` and `sparse_hessian`: derivatives as SciPy arrays, a few lanes for all columns; knows no lowering.

Which elements may differ from zero is found in the graph; columns (or rows) that share no element get one colour, and
the derivative along all columns of a colour at once is one lane of one compiled function (`staticad.directions`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from staticad import directions
from staticad.batching import batch
from staticad.creation import input as make_input
from staticad.directions import WRITTEN_OUT, Block, Derivative, Format, Structure, Way, blocks, hessian, jacobian
from staticad.dtypes import can_require_grad
from staticad.errors import DTypeError, GraphError
from staticad.function import Function, compile, input_list  # noqa: A004
from staticad.functions.elementwise import astype, equal
from staticad.functions.indexing import take
from staticad.functions.manipulation import concat, reshape
from staticad.interpret import bind, interpret
from staticad.ir import Node, depending, substitute, toposort
from staticad.nests import leaves
from staticad.ops import creation, sources
from staticad.ops.rules import spread
from staticad.shapes import symbols
from staticad.sparsity import Place
from staticad.tensor import Array, Tensor, wrap

if TYPE_CHECKING:
    from staticad.parallel import Mode

FORMATS = ("csr", "csc")
MODES = ("auto", "forward", "reverse")
#: Patterns kept, of the latest sizes.
KEPT = 16


def sparse_jacobian(
    y: Any,
    x: Any,
    inputs: Tensor | Sequence[Tensor] | None = None,
    *,
    mode: str = "auto",
    format: Format = "csr",  # noqa: A002  (SciPy's name for it)
    name: str = "sparse_jacobian",
    parallel: Mode = "auto",
) -> SparseFunction:
    """A compiled function that gives the Jacobian of ``y`` by ``x`` as a SciPy sparse array of only what may not be 0.

    The array has a row for each element of ``y`` and a column for each of ``x``, both in C order; of nests, those of
    the first leaf before those of the second. Which elements it has is found in the graph when the function is called
    with sizes (or with values of indices) for the first time: an element that is there may be zero, one that is not
    there is. After that only values are computed: along as many directions as there are colours, for columns of one
    colour meet in no row; or backwards from rows of one colour, which read no element of ``x`` in one place.

    Args:
        y: a floating tensor of any shape, or a nest of them.
        x: an input or a parameter that it is differentiated by, or a nest of them, of one dtype.
        inputs: what ``y`` is computed from, in the order of the arguments; may be left out where that is ``x`` alone.
        mode: ``"forward"`` colours columns, ``"reverse"`` rows; ``"auto"`` takes what has fewer colours.
        format: ``"csr"`` or ``"csc"``, for `scipy.sparse.csr_array` or `scipy.sparse.csc_array`.
        name: what the generated function is called in its source and in error messages.
        parallel: as for `compile`.

    Raises:
        GraphError: ``y`` does not depend on ``x``, or depends on inputs that are not given; ``x`` is neither an input
            that is given nor a parameter; when it is called: the Jacobian is far from sparse.
        DTypeError: ``y`` or ``x`` is not floating.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n",))
    >>> J = ad.sparse_jacobian(x[1:] * x[:-1], x)
    >>> J(np.array([1.0, 2.0, 3.0, 4.0])).toarray()
    array([[2., 1., 0., 0.],
           [0., 3., 2., 0.],
           [0., 0., 4., 3.]])
    >>> J.colours
    1
    """
    ys, xs = _tensors(name, "y", y), _tensors(name, "x", x)
    given = _inputs(name, ys, xs, inputs)
    if mode not in MODES:
        raise GraphError(f"{name}: mode is 'auto', 'forward' or 'reverse', not {mode!r}")
    return SparseFunction(name, given, xs, _reached(name, jacobian(ys, xs, mode), ys, xs), format, parallel)


def sparse_hessian(
    y: Tensor,
    x: Any,
    inputs: Tensor | Sequence[Tensor] | None = None,
    *,
    format: Format = "csr",  # noqa: A002
    name: str = "sparse_hessian",
    parallel: Mode = "auto",
) -> SparseFunction:
    """A compiled function that gives the Hessian of the scalar ``y`` by ``x`` as a SciPy sparse array, symmetric.

    As `sparse_jacobian` of the gradient, with fewer colours: an element is read from its row or its column (a star
    colouring), and both of a pair are one number. The arguments, and what is raised, are as there; also `GraphError`
    where ``y`` is not a scalar.

    >>> import numpy as np, staticad as ad
    >>> x = ad.input("x", ("n",))
    >>> H = ad.sparse_hessian(ad.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2), x)
    >>> H(np.array([1.0, 1.0, 1.0])).toarray()
    array([[ 802., -400.,    0.],
           [-400., 1002., -400.],
           [   0., -400.,  200.]])
    >>> H.colours
    2
    """
    (y,), xs = _tensors(name, "y", [y]), _tensors(name, "x", x)
    given = _inputs(name, [y], xs, inputs)
    if y.shape != ():
        raise GraphError(f"{name}: is of a scalar, not of {y!r}; take its sum, or sparse_jacobian of its gradient")
    return SparseFunction(name, given, xs, _reached(name, hessian(y, xs), [y], xs), format, parallel)


class SparseFunction:
    """A compiled function that gives a sparse derivative: call it with one array for each input, in order or by name.

    The result is a fresh array of values with index arrays that calls share; these are read-only.
    """

    def __init__(
        self,
        name: str,
        inputs: list[Tensor],
        xs: list[Tensor],
        derivative: Derivative,
        format: Format,  # noqa: A002
        parallel: Mode,
    ):
        if format not in FORMATS:
            raise GraphError(f"{name}: format is 'csr' or 'csc', not {format!r}")
        self.name = name
        self.inputs = inputs
        self.format: Format = format
        self.parallel: Mode = parallel
        self._dtype = xs[0].dtype
        self._derivative = derivative
        self._nodes = [sources.unmarked(t.node) for t in inputs]
        self._names: list[str] = [node.params["name"] for node in self._nodes]
        self._asked = _readable(derivative)
        self._read = _given(self._asked)
        self._functions: dict[tuple[Way, int, bool], Function] = {}
        self._structures: dict[tuple[tuple[str, int], ...], Structure] = {}
        self._latest: Structure | None = None
        self._lock = threading.Lock()

    # calling ---------------------------------------------------------------------------------------------------------

    def __call__(self, *arrays: Any, **named: Any) -> Any:
        """The derivative for these arrays. Raises as a `Function` does, and `GraphError` where it is not sparse."""
        given = self._by_name(arrays, named) if named else arrays
        if len(given) != len(self.inputs):
            names = ", ".join(self._names)
            raise DTypeError(f"{self.name}: takes {len(self.inputs)} arrays ({names}), got {len(given)}")
        structure = self._structure(given)
        data = self._function(structure)(*given, *_arguments(structure, self._dtype))
        return _array(self.format, data, structure.pattern)

    def _by_name(self, arrays: tuple[Any, ...], named: Mapping[str, Any]) -> tuple[Any, ...]:
        rest = self._names[len(arrays) :]
        if set(rest) != set(named):
            raise DTypeError(f"{self.name}: got {', '.join(named)} by name, where {', '.join(rest) or 'none'} is left")
        return (*arrays, *(named[k] for k in rest))

    def _structure(self, arrays: Sequence[Any]) -> Structure:
        shaped = zip(self._names, self._nodes, arrays, strict=True)
        sizes = bind([(name, node.shape, np.shape(array)) for name, node, array in shaped])
        key = tuple(sizes.items())
        by_node = dict(zip(self._nodes, arrays, strict=True))
        read = {x: np.asarray(by_node[x] if x in by_node else x.params["storage"].array) for x in self._read}
        found = self._structures.get(key)
        if found is None or any(not np.array_equal(found.read[x], array) for x, array in read.items()):
            with self._lock:
                found = self._found(sizes, read)
                while len(self._structures) >= KEPT:
                    del self._structures[next(iter(self._structures))]
                self._structures[key] = found
        self._latest = found
        return found

    def _found(self, sizes: Mapping[str, int], read: Mapping[Node, Array]) -> Structure:
        read = {x: np.array(array, x.dtype) for x, array in read.items()}
        known = dict(zip(self._asked, interpret(self._asked, read, sizes), strict=True))
        return directions.structure(self._derivative, sizes, known, read, self.format, self.name)

    def _function(self, structure: Structure) -> Function:
        """Native code for the elements of the derivative, given the colours and where each element stands."""
        few = structure.count if structure.count <= WRITTEN_OUT else 0
        key = structure.way, few, structure.owners is not None
        found = self._functions.get(key)
        if found is not None:
            return found
        with self._lock:
            if key not in self._functions:
                self._functions[key] = self._compiled(*key)
            return self._functions[key]

    def _compiled(self, way: Way, few: int, summed: bool) -> Function:
        """``few``: so many directions, or any number; ``summed``: several numbers may make one element."""
        taken = {node.params["name"] for node in toposort(way.found) if sources.is_input(node)}
        taken |= {t.node.name or "" for t in self.inputs}
        taken |= {s.name for t in self.inputs for d in t.shape for s in symbols(d)}

        def fresh(name: str) -> str:
            while name in taken:
                name += "_"
            taken.add(name)
            return name

        colours = [make_input(fresh("colour"), x.shape, "int64") for x in way.seeds] if few != 1 else []
        lane = [] if few else [make_input(fresh("lane"), (fresh("lanes"),), "int64")]
        entries = make_input(fresh("entries"), (fresh("parts"),), "int64")
        lanes = [_along(way, colours, k) for k in range(few)] if few else [_in_lanes(way, colours, lane[0])]
        rows = [_side_by_side(block, lanes, lane) for block in blocks(way.found)]
        found = take(concat(rows), entries)
        extra = [*colours, *lane, entries]
        if summed:
            start = make_input(fresh("start"), (fresh("elements"),), self._dtype)
            owners = make_input(fresh("owners"), entries.shape, "int64")
            found = start.at[owners].add(found)
            extra += [start, owners]
        return compile([*self.inputs, *extra], found, name=self.name, parallel=self.parallel)

    # looking ---------------------------------------------------------------------------------------------------------

    @property
    def structure(self) -> Structure:
        """What the latest call found, or the next will where no array has a say in it. Raises `GraphError` else."""
        if self._latest is None:
            if self._read or any(symbols(d) for node in self._nodes for d in node.shape):
                raise GraphError(f"{self.name}: the pattern depends on the arrays given; call it first")
            self._structure([np.empty(Place({}).shape(node), node.dtype) for node in self._nodes])
        assert self._latest is not None
        return self._latest

    @property
    def pattern(self) -> Any:
        """What may not be zero, as a SciPy array of truth values: of the latest call."""
        return self.structure.pattern

    @property
    def colours(self) -> int:
        """How many directions the latest call took."""
        return self.structure.count

    @property
    def function(self) -> Function:
        """The compiled function of the latest call, for a look at its source and its costs."""
        return self._function(self.structure)

    def __repr__(self) -> str:
        return f"<SparseFunction {self.name}({', '.join(self._names)}) -> {self.format}>"


def _along(way: Way, colours: Sequence[Tensor], k: int) -> list[Tensor]:
    """What is found along direction ``k``."""
    here = [astype(equal(c, k), x.dtype).node for c, x in zip(colours, way.seeds, strict=True)] if colours else []
    ones = [creation.full(value=1.0, shape=x.shape, dtype=x.dtype) for x in way.seeds]
    return list(map(wrap, substitute(way.found, dict(zip(way.seeds, here or ones, strict=True)))))


def _in_lanes(way: Way, colours: Sequence[Tensor], lane: Tensor) -> list[Tensor]:
    """What is found, along each of the directions ``lane``."""
    seeds = {
        x: astype(equal(reshape(lane, (lane.shape[0], *(1 for _ in x.shape))), c), x.dtype).node
        for c, x in zip(colours, way.seeds, strict=True)
    }
    return [wrap(x if has else spread(x, lane.shape)) for x, has in batch(way.found, seeds, lane.shape)]


def _side_by_side(block: Block, lanes: list[list[Tensor]], lane: list[Tensor]) -> Tensor:
    """The elements of a block, one row after another."""
    outer = (*(x.shape[0] for x in lane), *block.outer)
    parts = [
        reshape(found[k], (*outer, width))
        for found in lanes
        for k, width in zip(block.which, block.widths, strict=True)
    ]
    return reshape(concat(parts, axis=len(outer)), -1)


def _arguments(structure: Structure, dtype: np.dtype[Any]) -> list[Array]:
    """What the compiled function takes after the inputs."""
    count = structure.count
    extra = [*(structure.colours if count != 1 else ()), *(() if 0 < count <= WRITTEN_OUT else [np.arange(count)])]
    extra.append(structure.entries)
    if structure.owners is not None:
        extra += [np.zeros(structure.pattern.nnz, dtype), structure.owners]
    return extra


def _array(format: Format, data: Array, pattern: Any) -> Any:  # noqa: A002
    from scipy.sparse import csc_array, csr_array

    kind = csr_array if format == "csr" else csc_array
    found = kind((data, pattern.indices, pattern.indptr), pattern.shape)
    found.has_canonical_format = True
    return found


def _tensors(name: str, what: str, nest: Any) -> list[Tensor]:
    """The leaves of a nest. Raises where they have no derivative, or where there is none."""
    found = list(leaves(nest))
    if not found:
        raise GraphError(f"{name}: {what} is a tensor or a nest of tensors, but {nest!r} has none")
    for t in found:
        if not isinstance(t, Tensor):
            raise GraphError(f"{name}: {what} is a tensor or a nest of tensors, not {type(t).__name__}")
        if not can_require_grad(t.dtype):
            raise DTypeError(f"{name}: {what} {t!r} has no derivative; only floating tensors have, convert with astype")
        if t.dtype != found[0].dtype:
            raise DTypeError(f"{name}: {what} has {t!r} beside {found[0]!r}; convert one with astype")
    return found


def _inputs(name: str, ys: list[Tensor], xs: list[Tensor], inputs: Tensor | Sequence[Tensor] | None) -> list[Tensor]:
    """The inputs as a list. Raises where these tensors have no such derivative."""
    bare = [sources.unmarked(x.node) for x in xs]
    own = [x for x, node in zip(xs, bare, strict=True) if sources.is_input(node)]
    given = input_list(own if inputs is None else inputs)
    nodes = {sources.unmarked(t.node) for t in given}
    for x, node in zip(xs, bare, strict=True):
        if node not in nodes and not (sources.is_data(node) and not node.params["storage"].constant):
            what = f"the result of {node.op.name}" if node.args else "not among the inputs"
            raise GraphError(f"{name}: x is an input that is given, or a parameter, but {x!r} is {what}")
        if bare.count(node) > 1:
            raise GraphError(f"{name}: x has {x!r} twice; give each once")
    for other in toposort([y.node for y in ys]):
        if sources.is_input(other) and other not in nodes:
            raise GraphError(
                f"{name}: y depends on the input {other.params['name']!r} of type {other.type} too; "
                "name all inputs in their order, with inputs=[...]"
            )
    return given


def _reached(name: str, derivative: Derivative | None, ys: list[Tensor], xs: list[Tensor]) -> Derivative:
    if derivative is None:
        from_, to = (", ".join(map(repr, ts)) for ts in (xs, ys))
        raise GraphError(f"{name}: no differentiable path leads from {from_} to {to}; all of it would be zero")
    return derivative


def _readable(derivative: Derivative) -> list[Node]:
    """What the pattern may be read from: indices that ``x`` has no part in, and constant factors."""
    asked = directions.asked(derivative)
    varies, of_x = depending(asked, _given(asked)), depending(asked, derivative.xs)
    return [node for node in asked if node not in varies or (node.dtype.kind == "i" and node not in of_x)]


def _given(nodes: Sequence[Node]) -> list[Node]:
    return [x for x in toposort(nodes) if sources.is_input(x) or _is_parameter(x)]


def _is_parameter(node: Node) -> bool:
    return sources.is_data(node) and not node.params["storage"].constant
