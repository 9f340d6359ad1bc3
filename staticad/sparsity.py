"""Which elements depend on which: a graph read as index maps, for its sparsity; knows lowerings, no op by name.

What an element depends on is a row of a SciPy CSR array of truth values with a column for each element of the source. A
lowering tells what becomes of the rows: `Map` unites those of its operands, `View` picks some, `Reduce` and `Contract`
unite what they sum, `Update` adds rows to others; a loop takes steps until what its carries depend on grows no more.
Indices found at run time are read where their values are known. Where nothing better is known (library calls),
everything depends on all there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, TypeAlias

import numpy as np

from staticad.errors import GraphError
from staticad.ir import Body, Branches, Node, toposort
from staticad.lowering import At, Branch, Contract, Index, Map, Read, Reduce, Repeat, Update, View
from staticad.shapes import Atom, Binary, Dim, Symbol, evaluate, square_root, symbol, symbols

Array: TypeAlias = np.ndarray[Any, Any]
#: A ``scipy.sparse.csr_array`` of truth values.
Rows: TypeAlias = Any
#: More elements than this are not sparse: memory would end first.
MOST = 300_000_000
#: Products with a constant are looked into, zero by zero, up to this many terms.
MOST_TERMS = 20_000_000
#: Steps of a loop after which what it carries is taken to depend on everything.
MOST_STEPS = 100


def asked(outputs: Sequence[Node], origins: Sequence[Node]) -> list[Node]:
    """The nodes whose values `dependence` uses: indices, and what is multiplied with what depends on ``origins``."""
    found: dict[Node, None] = {}
    active = set(origins)
    for node in toposort(outputs):
        if any(x in active for x in node.args):
            active.add(node)
            if isinstance(node.op.lower, (View, Update, Repeat, Branch)):
                found |= dict.fromkeys(x for x in node.args if x.dtype.kind == "i")
            elif isinstance(node.op.lower, Contract):
                found |= dict.fromkeys(node.args)
    return [x for x in found if x not in active]


def dependence(
    outputs: Sequence[Node], origins: Sequence[Node], sizes: Mapping[str, int], known: Mapping[Node, Array]
) -> Rows:
    """For each element of ``outputs``, one after another in C order, the elements of ``origins`` it depends on, so too.

    ``known`` has values of nodes that `asked` names. Raises `GraphError` where that is far from sparse.
    """
    from scipy.sparse import (
        csr_array,
        vstack,  # pyright: ignore[reportUnknownVariableType]
    )

    place = Place(sizes, known)
    counts = [place.count(x) for x in origins]
    columns, given, first = sum(counts), dict[Node, Rows](), 0
    for x, count in zip(origins, counts, strict=True):
        numbers = np.arange(first, first + count)
        given[x] = csr_array((np.ones(count, bool), numbers, np.arange(count + 1)), (count, columns))
        first += count
    found = place.propagate(outputs, given)
    parts = [
        csr_array((place.count(x), columns), dtype=bool) if rows is None else rows
        for x, rows in zip(outputs, found, strict=True)
    ]
    rows: Rows = parts[0] if len(parts) == 1 else csr_array(vstack(parts))  # pyright: ignore[reportUnknownArgumentType]
    rows.sum_duplicates()
    return rows


def dense(what: str) -> GraphError:
    return GraphError(f"{what} would have more than {MOST} elements that may not be zero: it is not sparse")


@dataclass(frozen=True)
class Place:
    """Where a pattern is found: the ``sizes`` of the dimensions, and the values of nodes that are ``known``."""

    sizes: Mapping[str, int]
    known: Mapping[Node, Array] = field(default_factory=dict[Node, Array])

    def shape(self, node: Node) -> tuple[int, ...]:
        return tuple(evaluate(d, self.sizes) for d in node.shape)

    def count(self, node: Node) -> int:
        return int(np.prod(self.shape(node), dtype="int64"))

    def propagate(self, outputs: Sequence[Node], given: Mapping[Node, Rows]) -> list[Rows | None]:
        """The rows of each of ``outputs`` from those of the nodes that have some; None where nothing leads to it."""
        found = dict(given)
        order = toposort(outputs)
        last = {x: k for k, node in enumerate(order) for x in node.args}
        keep = {*outputs, *given}
        for k, node in enumerate(order):
            if node not in found and any(x in found for x in node.args):
                rows = self._of(node, [found.get(x) for x in node.args])
                if rows is not None:
                    found[node] = rows
            for x in node.args:
                if last[x] == k and x not in keep:
                    found.pop(x, None)
        return [found.get(x) for x in outputs]

    def _of(self, node: Node, given: list[Rows | None]) -> Rows | None:
        lower = node.op.lower
        if isinstance(lower, Map):
            return union(x for x in given if x is not None)
        if isinstance(lower, View):
            return None if given[0] is None else self._viewed(node, lower, given[0])
        if isinstance(lower, Reduce):
            return self._reduced(node, lower, union(x for x in given if x is not None))
        if isinstance(lower, Contract):
            return self._contracted(node, given)
        if isinstance(lower, Update):
            return self._updated(node, lower, given)
        if isinstance(lower, Branch):
            return self._chosen(node, given)
        if isinstance(lower, Repeat):
            return self._repeated(node, given) if node.params["body"].carries else self._mapped(node, given)
        return self._everything(node, given)

    # views and updates -----------------------------------------------------------------------------------------------

    def _viewed(self, node: Node, lower: View, rows: Rows) -> Rows | None:
        if lower.alias:
            return rows
        shape = self.shape(node)
        index, values = self._coordinates(shape)
        read: Read = lower.read(node, index)
        flat = self._flat(node, read.index, self.shape(node.args[0]), values)
        if flat is None:
            return self._everything(node, [rows])
        inside: Any = True
        for guard in read.guards:
            value, extent = number(guard.value, values), number(guard.extent, values)
            inside = inside & (value >= 0) & (value < extent) & (value % guard.step == 0)
        picked = np.broadcast_to(np.where(inside, flat, -1), shape)
        return taken(rows, picked.ravel())

    def _updated(self, node: Node, lower: Update, given: list[Rows | None]) -> Rows | None:
        base, x = given[:2]
        if x is None and base is None:
            return None
        shape = self.shape(node.args[1])
        index, values = self._coordinates(shape)
        flat = self._flat(node, lower.target(node, index), self.shape(node), values)
        if flat is None:
            return union([*([base] if base is not None else []), self._everything(node, [x])])
        to = np.broadcast_to(flat, shape).ravel()
        count = self.count(node)
        if base is not None and "{acc}" not in lower.step:
            stays = np.arange(count)
            stays[to] = -1
            base = taken(base, stays)
        if x is None:
            return base
        moved = combined(x, to, np.arange(len(to)), count)
        return moved if base is None else union([base, moved])

    def _coordinates(self, shape: tuple[int, ...]) -> tuple[tuple[Dim, ...], dict[Symbol, Any]]:
        """A symbol for each axis; and the sizes, and where along its axis every element of an array stands."""
        axes = [Symbol(f"i{k}", "var") for k in range(len(shape))]
        values: dict[Symbol, Any] = {Symbol(name): size for name, size in self.sizes.items()}
        values |= {Symbol(name, "count"): size for name, size in self.sizes.items()}
        values |= dict(zip(axes, np.ogrid[tuple(slice(n) for n in shape)] if shape else (), strict=True))
        return tuple(symbol(a) for a in axes), values

    def _flat(self, node: Node, index: Index, shape: tuple[int, ...], values: Mapping[Symbol, Any]) -> Any:
        """The number, in C order, of the element at ``index`` of an array of ``shape``; None where it is not known."""
        flat: Any = 0
        for d, size in zip(index, shape, strict=True):
            flat = flat * size
            if not isinstance(d, At):
                flat = flat + number(d, values)
                continue
            array = self.known.get(node.args[d.arg])
            if array is None:
                return None
            at = tuple(number(i, values) for i in d.index)
            found = array[at] if all(np.size(i) for i in at) else np.zeros((0,) * len(at), "int64")
            # What is out of range is an error of the compiled function.
            flat = flat + np.clip(np.where(found < 0, found + size, found), 0, max(size - 1, 0))
        return flat

    # sums and products -----------------------------------------------------------------------------------------------

    def _reduced(self, node: Node, lower: Reduce, rows: Rows) -> Rows:
        shape = self.shape(node.args[0])
        if lower.running:
            axis: int = node.params["axis"]
            numbers = np.moveaxis(np.arange(self.count(node)).reshape(shape), axis, -1).reshape(-1, shape[axis])
            if self.count(node) * (shape[axis] + 1) // 2 > MOST:
                raise dense(f"{node.op.name} over {shape[axis]} elements")
            j, k = np.tril_indices(shape[axis])
            return combined(rows, numbers[:, j].ravel(), numbers[:, k].ravel(), self.count(node))
        axes = node.params["axes"]
        kept = tuple(1 if a in axes else n for a, n in enumerate(shape))
        to = np.broadcast_to(np.arange(self.count(node)).reshape(kept), shape).ravel()
        return combined(rows, to, np.arange(len(to)), self.count(node))

    def _contracted(self, node: Node, given: list[Rows | None]) -> Rows | None:
        operands, out = node.params["spec"].split("->")
        letters = operands.split(",")
        sizes = dict(zip("".join(letters), [n for x in node.args for n in self.shape(x)], strict=True))
        parts = [
            self._factor(node, rows, letters[k], letters[1 - k], out, sizes, self.known.get(node.args[1 - k]))
            for k, rows in enumerate(given)
            if rows is not None
        ]
        return union(parts)

    def _factor(
        self, node: Node, rows: Rows, own: str, other: str, out: str, sizes: Mapping[str, int], factor: Array | None
    ) -> Rows:
        """What the result has from one operand: of letters ``own``, whose rows it picks and unites."""
        count = self.count(node)
        every = [*out, *(a for a in own if a not in out)]
        terms = int(np.prod([sizes[a] for a in every], dtype="int64"))
        if factor is not None and terms <= MOST_TERMS and not np.all(factor):
            at = np.nonzero(np.broadcast_to(placed(factor, other, every), [sizes[a] for a in every]))
            where = dict(zip(every, at, strict=True))
            return combined(rows, numbered(out, sizes, where), numbered(own, sizes, where), count)
        # Sum first what the result does not have, then repeat along what only the other operand has.
        both = [a for a in out if a in own]
        grid = dict(zip(own, np.ogrid[tuple(slice(sizes[a]) for a in own)] if own else (), strict=True))
        shape = [sizes[a] for a in own]
        to = np.broadcast_to(numbered(both, sizes, grid), shape).ravel()
        once = combined(rows, to, np.arange(len(to)), int(np.prod([sizes[a] for a in both], dtype="int64")))
        grid = dict(zip(out, np.ogrid[tuple(slice(sizes[a]) for a in out)] if out else (), strict=True))
        return taken(once, np.broadcast_to(numbered(both, sizes, grid), [sizes[a] for a in out]).ravel())

    # loops and choices -----------------------------------------------------------------------------------------------

    def _mapped(self, node: Node, given: list[Rows | None]) -> Rows | None:
        """A loop whose steps know nothing of each other: step t depends on what the steps read alike, and on slices."""
        body: Body = node.params["body"]
        length = evaluate(body.length, self.sizes)
        every = max(self.count(node) // length, 1) if length else 0
        step = np.repeat(np.arange(length), every)
        parts: list[Rows] = []
        for rows in given[: len(body.slices)]:
            if rows is not None:
                to = np.repeat(np.arange(length), rows.shape[0] // length if length else 0)
                parts.append(taken(combined(rows, to, np.arange(len(to)), length), step))
        whole = self._everything(node, given[len(body.slices) :])
        return union([*parts, *([] if whole is None else [whole])]) if parts or whole is not None else None

    def _repeated(self, node: Node, given: list[Rows | None]) -> Rows | None:
        """A loop with carries: what they depend on after steps that read any slice, taken until that grows no more."""
        body: Body = node.params["body"]
        first, others = len(body.carries), len(body.carries) + len(body.slices)
        counted = any(s.name not in self.sizes for s in symbols(body.length))  # known after the loop alone
        length = None if counted else evaluate(body.length, self.sizes)
        slices = zip(body.slices, given[first:others], strict=True)
        read = [None if rows is None else self._any_slice(rows, x) for x, rows in slices]
        inner = dict(zip((*body.slices, *body.consts), (*read, *given[others:]), strict=True))
        known = {x: self.known[y] for x, y in zip(body.consts, node.args[others:], strict=True) if y in self.known}
        place, carried = Place(self.sizes, known), given[:first]
        values: list[Node] = [node.params["value"]] if "value" in node.params else []
        for step in range(MOST_STEPS):
            inner |= zip(body.carries, carried, strict=True)
            found = place.propagate([*body.nexts, *values], {x: rows for x, rows in inner.items() if rows is not None})
            after = [both(x, y) for x, y in zip(carried, found[:first], strict=True)]
            if step == length or [size(x) for x in after] == [size(x) for x in carried]:
                break
            carried = after
        else:
            return self._everything(node, given)
        if "carry" in node.params:
            return carried[node.params["carry"]]
        left = found[-1] if values else None
        return None if left is None else taken(left, np.tile(np.arange(self.count(values[0])), length or 0))

    def _any_slice(self, rows: Rows, x: Node) -> Rows:
        """What the slice ``x`` of any step depends on, of an array whose elements depend on ``rows``."""
        count = self.count(x)
        total: int = rows.shape[0]
        return combined(rows, np.arange(total) % max(count, 1), np.arange(total), count)

    def _chosen(self, node: Node, given: list[Rows | None]) -> Rows | None:
        """All that any branch depends on."""
        body: Branches = node.params["body"]
        inner = {x: rows for x, rows in zip(body.consts, given[1:], strict=True) if rows is not None}
        outputs: list[Node]
        if "result" in node.params:
            outputs = [values[node.params["result"]] for values in body.values]
        else:
            outputs = [node.params["value"]]
        sizes = dict(self.sizes)
        known = {x: self.known[y] for x, y in zip(body.consts, node.args[1:], strict=True) if y in self.known}
        found = [x for x in Place(sizes, known).propagate(outputs, inner) if x is not None]
        return union(found) if found else None

    def _everything(self, node: Node, given: Iterable[Rows | None]) -> Rows | None:
        """Every element depends on all that the operands depend on."""
        parts = [at_once(x) for x in given if x is not None]
        return taken(union(parts), np.zeros(self.count(node), int)) if parts else None


def both(x: Rows | None, y: Rows | None) -> Rows | None:
    """Each row with what it has in either."""
    parts = [rows for rows in (x, y) if rows is not None]
    return union(parts) if parts else None


def size(rows: Rows | None) -> int:
    return 0 if rows is None else rows.nnz


def union(parts: Iterable[Rows]) -> Rows:
    """Each row with what it has in any of ``parts``, of which there is one at least."""
    distinct = {id(x): x for x in parts}
    return reduce(lambda x, y: x + y, distinct.values())


def taken(rows: Rows, numbers: Array) -> Rows:
    """Rows by their numbers; an empty one for -1."""
    from scipy.sparse import csr_array

    counts = np.append(np.diff(rows.indptr), 0)[numbers].astype("int64")
    total = int(counts.sum())
    if total > MOST:
        raise dense("a step of the derivative")
    ends = np.cumsum(counts)
    first = np.append(rows.indptr, 0)[numbers]
    within = np.arange(total) - np.repeat(ends - counts, counts)
    indices = rows.indices[np.repeat(first, counts) + within]
    return csr_array((np.ones(total, bool), indices, np.concatenate([[0], ends])), (len(numbers), rows.shape[1]))


def combined(rows: Rows, to: Array, numbers: Array, count: int) -> Rows:
    """``count`` rows, into row ``to[k]`` of which goes row ``numbers[k]``."""
    from scipy.sparse import csr_array

    which = csr_array((np.ones(len(to), bool), (to, numbers)), (count, rows.shape[0]), dtype=bool)
    return which @ rows


def at_once(rows: Rows) -> Rows:
    """One row with what any has."""
    count: int = rows.shape[0]
    return combined(rows, np.zeros(count, int), np.arange(count), 1)


def number(d: Dim, values: Mapping[Symbol, Any]) -> Any:
    """What a dimension is for values of its symbols: an integer, or an array of them where one of these is."""
    if isinstance(d, int):
        return d
    total: Any = 0
    for powers, coefficient in d.terms.items():
        term: Any = coefficient
        for atom, power in powers:
            term = term * _atom(atom, values) ** power
        total = total + term
    return total


def _atom(atom: Atom, values: Mapping[Symbol, Any]) -> Any:
    if isinstance(atom, Symbol):
        return values[atom]
    assert isinstance(atom, Binary), "an element found at run time is no index of a lowering"
    x, y = number(atom.x, values), number(atom.y, values)
    roots = np.vectorize(square_root)
    return {"//": np.floor_divide, "min": np.minimum, "max": np.maximum, "root": roots}[atom.op](x, y)


def numbered(letters: Iterable[str], sizes: Mapping[str, int], where: Mapping[str, Any]) -> Any:
    """The number, in C order, of the element of an array with axes ``letters`` that stands at ``where``."""
    flat: Any = 0
    for a in letters:
        flat = flat * sizes[a] + where[a]
    return flat


def placed(factor: Array, letters: str, every: Sequence[str]) -> Array:
    """``factor`` with an axis for each letter of ``every``, of size 1 where it has none."""
    # A sum is over letters that both operands have, so none of the factor's is missing.
    order = [letters.index(a) for a in every if a in letters]
    return np.transpose(factor, order).reshape([factor.shape[letters.index(a)] if a in letters else 1 for a in every])
