"""`sparse_jacobian` and `sparse_hessian`: derivatives as SciPy arrays, a few lanes for all columns; knows no lowering.

Which elements may differ from zero is found in the graph; columns (or rows) that share no element get one colour, and
the derivative along all columns of a colour at once is one lane of one compiled function.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from staticad import colouring, sparsity
from staticad.autodiff import pull, push
from staticad.batching import batch
from staticad.creation import input as make_input
from staticad.derivatives import grad, places
from staticad.dtypes import can_require_grad
from staticad.errors import DTypeError, GraphError
from staticad.function import Function, compile, input_list  # noqa: A004
from staticad.functions.elementwise import astype, equal
from staticad.functions.indexing import take
from staticad.functions.manipulation import reshape
from staticad.interpret import bind, interpret
from staticad.ir import Node, toposort
from staticad.ops import sources
from staticad.ops.rules import accumulate, spread
from staticad.shapes import Shape, product, symbols
from staticad.tensor import Array, Tensor, wrap

if TYPE_CHECKING:
    from staticad.parallel import Mode

Format = Literal["csr", "csc"]
FORMATS = ("csr", "csc")
MODES = ("auto", "forward", "reverse")
#: Patterns kept, of the latest sizes.
KEPT = 16


def sparse_jacobian(
    y: Tensor,
    x: Tensor,
    inputs: Tensor | Sequence[Tensor] | None = None,
    *,
    mode: str = "auto",
    format: Format = "csr",  # noqa: A002  (SciPy's name for it)
    name: str = "sparse_jacobian",
    parallel: Mode = "auto",
) -> SparseFunction:
    """A compiled function that gives the Jacobian of ``y`` by ``x`` as a SciPy sparse array of only what may not be 0.

    The array has a row for each element of ``y`` and a column for each of ``x``, both in C order. Which elements it has
    is found in the graph when the function is called with sizes (or with values of indices) for the first time: an
    element that is there may be zero, one that is not there is. After that only values are computed: along as many
    directions as there are colours, for columns of one colour meet in no row.

    Args:
        y: a floating tensor of any shape.
        x: an input or a parameter that it is differentiated by.
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
    2
    """
    given = _inputs(name, y, x, inputs)
    if mode not in MODES:
        raise GraphError(f"{name}: mode is 'auto', 'forward' or 'reverse', not {mode!r}")
    ways: list[Way] = []
    if mode != "reverse":
        seed = sources.placeholder(x.node.type, "tangent")
        (where,) = places([y.node], [x])
        try:
            (found,) = push([y.node], where, [seed] * len(where))
            ways += [] if found is None else [Way("forward", seed, found)]
        except GraphError:  # what has a rule for one way alone
            if mode == "forward":
                raise
    if mode != "forward":
        seed = sources.placeholder(y.node.type, "cotangent")
        (where,) = places([y.node], [x])
        try:
            found = accumulate(g for g in pull([y.node], where, [seed]) if g is not None)
            ways += [] if found is None else [Way("reverse", seed, found)]
        except GraphError:
            if not ways:
                raise
    return SparseFunction(name, given, x, (y.shape, x.shape), _reached(name, ways, y, x), format, parallel)


def sparse_hessian(
    y: Tensor,
    x: Tensor,
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
    given = _inputs(name, y, x, inputs)
    if y.shape != ():
        raise GraphError(f"{name}: is of a scalar, not of {y!r}; take its sum, or sparse_jacobian of its gradient")
    gradient = grad(y, x).node
    seed = sources.placeholder(x.node.type, "tangent")
    (where,) = places([gradient], [x])
    (found,) = push([gradient], where, [seed] * len(where))
    if not any(node in toposort([y.node]) for node in places([y.node], [x])[0]):
        found = None
    elif found is None:  # linear: a Hessian without elements
        found = Node.arithmetic["fill"](seed, 0)
    ways = [] if found is None else [Way("symmetric", seed, found)]
    return SparseFunction(name, given, x, (x.shape, x.shape), _reached(name, ways, y, x), format, parallel)


@dataclass(frozen=True, eq=False)
class Way:
    """How a derivative is computed along directions: ``found`` is linear in ``seed``, which stands for one of them."""

    mode: Literal["forward", "reverse", "symmetric"]
    seed: Node
    found: Node


@dataclass(frozen=True, eq=False)
class Structure:
    """A pattern and how its elements are found: what does not change from call to call.

    ``entries`` says where in the lanes each element is; ``read`` has what values it was found with.
    """

    pattern: Any
    way: Way
    colours: Array
    lanes: Array
    entries: Array
    read: Mapping[Node, Array]


class SparseFunction:
    """A compiled function that gives a sparse derivative: call it with one array for each input, in order or by name.

    The result is a fresh array of values with index arrays that calls share; these are read-only.
    """

    def __init__(
        self,
        name: str,
        inputs: list[Tensor],
        x: Tensor,
        shapes: tuple[Shape, Shape],
        ways: list[Way],
        format: Format,  # noqa: A002
        parallel: Mode,
    ):
        if format not in FORMATS:
            raise GraphError(f"{name}: format is 'csr' or 'csc', not {format!r}")
        self.name = name
        self.inputs = inputs
        self.format: Format = format
        self.parallel: Mode = parallel
        self._x = x
        self._shapes = shapes
        self._ways = ways
        self._nodes = [sources.unmarked(t.node) for t in inputs]
        self._names: list[str] = [node.params["name"] for node in self._nodes]
        self._asked = _readable(ways[0], sources.unmarked(x.node))
        self._read = _given(self._asked)
        self._functions: dict[Way, Function] = {}
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
        function = self._function(structure.way)
        data = function(*given, structure.colours, structure.lanes, structure.entries)
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
        """The pattern for these sizes and values of indices, and a colouring of it."""
        read = {x: np.array(array, x.dtype) for x, array in read.items()}
        values = dict(zip(self._asked, interpret(self._asked, read, sizes), strict=True))
        first = self._ways[0]
        pattern = sparsity.dependence(first.found, first.seed, sizes, values)
        if first.mode == "symmetric":
            pattern = pattern.multiply(pattern.T).tocsr()  # what is zero on one side is zero on the other
        elif first.mode == "reverse":
            pattern = pattern.T.tocsr()
        pattern.sort_indices()
        way, colours = self._coloured(pattern)
        rows, columns = colouring.coordinates(pattern)
        if way.mode == "symmetric":
            group, place = colouring.places(pattern, colours)
        elif way.mode == "forward":
            group, place = colours.colours[columns], rows
        else:
            group, place = colours.colours[rows], columns
        width = pattern.shape[1] if way.mode == "reverse" else pattern.shape[0]
        if colours.count * width > sparsity.MOST:
            raise GraphError(
                f"{self.name}: takes {colours.count} directions of {width} elements each, too many to be worth it; "
                "differentiate the few outputs apart that depend on almost everything"
            )
        entries = group * width + place
        pattern.data = np.arange(pattern.nnz)
        if self.format == "csc":
            pattern = pattern.tocsc()
            entries = entries[pattern.data]
        pattern.data = np.ones(pattern.nnz, bool)
        for array in (pattern.data, pattern.indices, pattern.indptr):
            array.flags.writeable = False
        seeds = colours.colours.reshape(sparsity.Place(sizes).shape(way.seed))
        return Structure(pattern, way, seeds, np.arange(colours.count), entries, read)

    def _coloured(self, pattern: Any) -> tuple[Way, colouring.Colouring]:
        by_mode = {way.mode: way for way in self._ways}
        if "symmetric" in by_mode:
            return by_mode["symmetric"], colouring.symmetric(pattern)
        # No colouring has fewer than there are elements in the fullest row, or column.
        sides = {"forward": pattern, "reverse": pattern.T.tocsr()}
        least = {mode: int(np.diff(sides[mode].indptr).max(initial=0)) for mode in by_mode}
        best: tuple[Way, colouring.Colouring] | None = None
        for mode in sorted(by_mode, key=lambda mode: least[mode]):
            if best is None or least[mode] < best[1].count:
                found = colouring.by_columns(sides[mode])
                if best is None or found.count < best[1].count:
                    best = by_mode[mode], found
        assert best is not None
        return best

    def _function(self, way: Way) -> Function:
        """Native code for the elements of the derivative, given the colours and where each element stands."""
        found = self._functions.get(way)
        if found is not None:
            return found
        with self._lock:
            if way not in self._functions:
                self._functions[way] = _compiled(self, way, self._shapes, self._x)
            return self._functions[way]

    # looking ---------------------------------------------------------------------------------------------------------

    @property
    def structure(self) -> Structure:
        """What the latest call found, or the next will where no array has a say in it. Raises `GraphError` else."""
        if self._latest is None:
            if self._read or any(symbols(d) for node in self._nodes for d in node.shape):
                raise GraphError(f"{self.name}: the pattern depends on the arrays given; call it first")
            self._structure([np.empty(sparsity.Place({}).shape(node), node.dtype) for node in self._nodes])
        assert self._latest is not None
        return self._latest

    @property
    def pattern(self) -> Any:
        """What may not be zero, as a SciPy array of truth values: of the latest call."""
        return self.structure.pattern

    @property
    def colours(self) -> int:
        """How many directions the latest call took."""
        return len(self.structure.lanes)

    @property
    def function(self) -> Function:
        """The compiled function of the latest call, for a look at its source and its costs."""
        return self._function(self.structure.way)

    def __repr__(self) -> str:
        return f"<SparseFunction {self.name}({', '.join(self._names)}) -> {self.format}>"


def _compiled(of: SparseFunction, way: Way, shapes: tuple[Shape, Shape], x: Tensor) -> Function:
    taken = {node.params["name"] for node in toposort([way.found]) if sources.is_input(node)}
    taken |= {t.node.name or "" for t in of.inputs} | {s.name for t in of.inputs for d in t.shape for s in symbols(d)}

    def fresh(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    colour = make_input(fresh("colour"), way.seed.shape, "int64")
    lane = make_input(fresh("lane"), (fresh("lanes"),), "int64")
    entries = make_input(fresh("entries"), (fresh("elements"),), "int64")
    each = reshape(lane, (lane.shape[0], *(1 for _ in way.seed.shape)))
    seeds = astype(equal(each, colour), way.seed.dtype)
    ((found, has),) = batch([way.found], {way.seed: seeds.node}, lane.shape)
    found = found if has else spread(found, lane.shape)
    flat = reshape(wrap(found), (product(found.shape),))
    return compile(
        [*of.inputs, colour, lane, entries], astype(take(flat, entries), x.dtype), name=of.name, parallel=of.parallel
    )


def _array(format: Format, data: Array, pattern: Any) -> Any:  # noqa: A002
    from scipy.sparse import csc_array, csr_array

    kind = csr_array if format == "csr" else csc_array
    found = kind((data, pattern.indices, pattern.indptr), pattern.shape)
    found.has_canonical_format = True
    return found


def _inputs(name: str, y: Tensor, x: Tensor, inputs: Tensor | Sequence[Tensor] | None) -> list[Tensor]:
    """The inputs as a list. Raises where these tensors have no such derivative."""
    for what, t in (("y", y), ("x", x)):
        if not isinstance(t, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GraphError(f"{name}: {what} is a tensor, not {type(t).__name__}")
        if not can_require_grad(t.dtype):
            raise DTypeError(f"{name}: {what} {t!r} has no derivative; only floating tensors have, convert with astype")
    node = sources.unmarked(x.node)
    own = [x] if sources.is_input(node) else []
    given = input_list(own if inputs is None else inputs)
    nodes = {sources.unmarked(t.node) for t in given}
    if node not in nodes and not (sources.is_data(node) and not node.params["storage"].constant):
        what = f"the result of {node.op.name}" if node.args else "not among the inputs"
        raise GraphError(f"{name}: x is an input that is given, or a parameter, but {x!r} is {what}")
    for other in toposort([y.node]):
        if sources.is_input(other) and other not in nodes:
            raise GraphError(
                f"{name}: y depends on the input {other.params['name']!r} of type {other.type} too; "
                "name all inputs in their order, with inputs=[...]"
            )
    return given


def _reached(name: str, ways: list[Way], y: Tensor, x: Tensor) -> list[Way]:
    if not ways:
        raise GraphError(f"{name}: no differentiable path leads from {x!r} to {y!r}; all of it would be zero")
    return ways


def _readable(way: Way, x: Node) -> list[Node]:
    """What the pattern may be read from: indices that ``x`` has no part in, and constant factors."""
    asked = sparsity.asked([way.found], way.seed)
    varies: set[Node] = set()
    of_x = {x}
    for node in toposort(asked):
        if sources.is_input(node) or _is_parameter(node) or any(other in varies for other in node.args):
            varies.add(node)
        if any(other in of_x for other in node.args):
            of_x.add(node)
    return [node for node in asked if node not in varies or (node.dtype.kind == "i" and node not in of_x)]


def _given(nodes: Sequence[Node]) -> list[Node]:
    return [x for x in toposort(nodes) if sources.is_input(x) or _is_parameter(x)]


def _is_parameter(node: Node) -> bool:
    return sources.is_data(node) and not node.params["storage"].constant
