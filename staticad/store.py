"""Which values of a graph get memory of their own, and which are computed again where they are read; knows no op."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from staticad.costs import NEAR
from staticad.errors import CompileError
from staticad.ir import Graph, Node
from staticad.loops import Access, Coordinates, accesses, divides, elements
from staticad.lowering import Branch, Carried, Contract, Lowering, Map, Repeat, Source, Uninitialised, Update, View
from staticad.shapes import Dim, Expr, Symbol, counts, symbol, symbols

#: Nodes that one expression may be made of before its value is stored, which bounds the work of walking it.
EXPRESSION_SIZE = 40


Reads: TypeAlias = list[tuple[Node, "Coordinates | None"]]


@dataclass(eq=False)
class Storage:
    """The decisions.

    ``stored``: nodes in topological order; ``root[node]``: the node whose buffer a stored node writes; ``whole``: those
    that are results, or that products and library calls read from memory; ``waits[node]``: the buffers that must be
    written before ``node`` is computed though it does not read them; ``counted``: by the number of steps of a loop that
    is known after it, one of its results.
    """

    stored: dict[Node, None] = field(default_factory=dict[Node, None])
    root: dict[Node, Node] = field(default_factory=dict[Node, Node])
    whole: set[Node] = field(default_factory=set[Node])
    waits: dict[Node, frozenset[Node]] = field(default_factory=dict[Node, "frozenset[Node]"])
    counted: dict[Symbol, Node] = field(default_factory=dict[Symbol, Node])

    def has_memory(self, node: Node) -> bool:
        return node in self.root or isinstance(node.op.lower, Source)

    def buffer(self, node: Node) -> Node:
        """The node that names the memory of a node that has some."""
        return self.root.get(node, node)

    def memory(self, node: Node) -> Node | None:
        """The node whose memory ``node`` shares element for element in order (through reshapes), if it has any."""
        while not self.has_memory(node):
            lower = node.op.lower
            if not (isinstance(lower, View) and lower.alias):
                return None
            node = node.args[0]
        return node

    def element_reads(self, node: Node, index: Coordinates) -> Reads:
        """The buffers, and the indices there, that element ``index`` of ``node`` is read or computed from.

        An index is None where a buffer is read as flat memory."""
        if self.has_memory(node):
            return [(self.buffer(node), index)]
        if isinstance(node.op.lower, Uninitialised):
            return []
        return self.operand_reads(node, index)

    def operand_reads(self, node: Node, index: Coordinates) -> Reads:
        """What computing element ``index`` of a `Map` or `View` reads."""
        found: Reads = []
        for access in accesses(node, index):
            x = node.args[access.arg]
            if self.flat_view(node, access) is not None:
                found.append((self.buffer(self.flat_view(node, access) or x), None))
                continue
            found += self.run_time_reads(access.index)
            found += self.element_reads(x, access.index)
        return found

    def run_time_reads(self, index: Coordinates) -> Reads:
        """What finding the run-time coordinates of an index reads."""
        found: Reads = []
        for element in elements(index):
            assert isinstance(element.array, Node)
            found += self.element_reads(element.array, element.index)
        return found

    def coordinates(self, node: Node, index: Coordinates) -> set[Symbol]:
        """The symbols that finding or computing an element takes, down to memory: of indices, guards, parameters.

        What reads no memory has them too: a slice of a range, at a step of a loop, is another number in each step."""
        found = {s for d in index for s in symbols(d)}
        for element in elements(index):
            assert isinstance(element.array, Node)
            found |= self.coordinates(element.array, element.index)
        if self.has_memory(node) or isinstance(node.op.lower, Uninitialised):
            return found
        found |= {s for value in node.params.values() if isinstance(value, Expr) for s in symbols(value)}
        for access in accesses(node, index):
            found |= {s for guard in access.guards for d in (guard.value, guard.extent) for s in symbols(d)}
            if self.flat_view(node, access) is None:
                found |= self.coordinates(node.args[access.arg], access.index)
        return found

    def indexes_at_run_time(self, node: Node, index: Coordinates, inside: bool = False) -> bool:
        """Whether computing an element takes a coordinate from an array.

        ``inside``: an element of a stored node, by its formula.
        """
        if any(True for _ in elements(index)):
            return True
        if not inside and (self.has_memory(node) or isinstance(node.op.lower, Uninitialised)):
            return False
        return any(self.indexes_at_run_time(node.args[a.arg], a.index) for a in accesses(node, index))

    def flat_view(self, node: Node, access: Access) -> Node | None:
        """The memory that a reshape of it is best read from as flat memory: where its index would divide."""
        lower = node.op.lower
        if isinstance(lower, View) and lower.alias and divides(access.index):
            return self.memory(node.args[access.arg])
        return None


def fresh_vars(count: int, prefix: str = "o") -> list[Expr]:
    return [symbol(Symbol(f"{prefix}{k}", "var")) for k in range(count)]


def strided(storage: Storage, x: Node, index: Coordinates) -> tuple[Node, Coordinates] | None:
    """The memory and the affine index there of element ``index`` of ``x``, if ``x`` is a strided view of memory."""
    while True:
        if storage.has_memory(x):
            return x, index
        lower = x.op.lower
        if not isinstance(lower, View):
            return None
        (access,) = accesses(x, index)
        if access.guards or divides(access.index) or any(True for _ in elements(access.index)):
            return (x, index) if lower.alias and storage.memory(x) is not None else None
        x, index = x.args[0], access.index


def linear_terms(offset: Dim, variables: Sequence[Symbol]) -> tuple[Dim, dict[Symbol, Dim]]:
    """``offset`` as a constant and a coefficient for each variable; it must be affine in them."""
    rest: Dim = 0
    coefficients: dict[Symbol, Dim] = dict.fromkeys(variables, 0)
    terms = offset.terms.items() if isinstance(offset, Expr) else [((), offset)]
    for monomial, c in terms:
        found = [(a, p) for a, p in monomial if a in coefficients]
        others = tuple((a, p) for a, p in monomial if a not in coefficients)
        term: Dim = Expr({others: c}) if others else c
        if not found:
            rest = rest + term
        elif len(found) == 1 and found[0][1] == 1:
            var = found[0][0]
            assert isinstance(var, Symbol)
            coefficients[var] = coefficients[var] + term
        else:
            raise CompileError(f"the index {offset} is not affine")
    return rest, coefficients


def choose_storage(graph: Graph) -> Storage:
    """Decide for every node, operands first, whether its elements are stored."""
    storage = Storage()
    extend(storage, graph.nodes, graph.outputs)
    return storage


def extend(
    storage: Storage,
    nodes: Sequence[Node],
    results: Sequence[Node],
    nexts: Mapping[Node, Node] | None = None,
    left: Collection[Node] = (),
) -> list[Node]:
    """Decide for further ``nodes``, operands first, of which ``results`` are stored; returns those that are.

    ``nexts`` map carries of a loop to their next values; ``left`` are read after all nodes, stored or not.
    """
    users: dict[Node, list[Node]] = {node: [] for node in nodes}
    for node in nodes:
        for x in dict.fromkeys(read_by(node)):
            if x in users:
                users[x].append(node)
    outputs = set(results)
    read_later = outputs.union(left)
    cost: dict[Node, int] = defaultdict(int)
    size: dict[Node, int] = defaultdict(int)
    kept = outputs | in_memory(nodes)
    storage.whole |= kept
    before = len(storage.stored)
    for node in nodes:
        lower = node.op.lower
        if isinstance(lower, (Source, Uninitialised)):
            continue
        if isinstance(lower, Carried):
            storage.root[node] = node
            continue
        operands = dict.fromkeys(read_by(node))
        below = (storage.waits.get(x, ()) for x in operands if x not in storage.root)
        if waits := frozenset[Node]().union(_counting(storage, node), *below):
            storage.waits[node] = waits
        if len(node.args) > 1 and isinstance(lower, View):
            others = (_strided_base(x) for x in node.args[1:])
            storage.waits[node] = waits.union(storage.buffer(x) for x in others if x is not None and x in storage.root)
        cost[node] = sum(cost[x] for x in operands) + (lower.cost if isinstance(lower, Map) else 0)
        size[node] = 1 + sum(size[x] for x in operands)
        keep = node in kept or not isinstance(lower, (Map, View)) or size[node] > EXPRESSION_SIZE
        if keep or (isinstance(lower, Map) and node.args and _pays(node, cost[node], users, kept)):
            storage.stored[node] = None
            storage.root[node] = _root(node, lower, users, read_later, storage, nexts or {})
            cost[node], size[node] = 0, 0
        if isinstance(lower, Repeat) and node.params["body"].condition is not None:
            storage.counted |= dict.fromkeys(counts([node.params["length"]]), node)
    return list(storage.stored)[before:]


def _counting(storage: Storage, node: Node) -> list[Node]:
    """The buffers of what is there as soon as the numbers of steps are known that a node is made with."""
    sizes = [*node.shape, *(x for x in node.params.values() if isinstance(x, Expr))]
    return [storage.buffer(storage.counted[s]) for s in counts(sizes) if s in storage.counted]


def read_by(node: Node) -> tuple[Node, ...]:
    """The operands whose elements a node is computed from."""
    return node.args[:1] if isinstance(node.op.lower, View) else node.args


def _root(
    node: Node,
    lower: Lowering,
    users: dict[Node, list[Node]],
    read_later: set[Node],
    storage: Storage,
    nexts: Mapping[Node, Node],
) -> Node:
    """The buffer of a stored node: operand 0's where an update can be made in place, else its own.

    A carry is only updated in place to become its own next value."""
    if isinstance(lower, Update):
        base = node.args[0]
        free = base in storage.root and users.get(base) == [node] and base not in read_later
        if free and base not in node.args[1:] and (not isinstance(base.op.lower, Carried) or nexts.get(base) is node):
            return storage.root[base]
    return node


def _pays(node: Node, cost: int, users: dict[Node, list[Node]], kept: set[Node]) -> bool:
    """Whether storing a `Map` is better than computing it in every place that reads it, for ``cost`` flops."""
    reads, expands, merges = _consumers(node, users, kept)
    return merges or (cost > NEAR and (reads > 1 or expands))


def _consumers(node: Node, users: dict[Node, list[Node]], kept: set[Node]) -> tuple[int, bool, bool]:
    """How many nodes read ``node`` through views; whether a view repeats elements; whether one merges axes when read.

    A view that is ``kept`` in memory is written in the order of its operand, and reads of it are not reads of ``node``.
    """
    reads, expands, merges = 0, False, False
    stack = [node]
    seen: set[Node] = set()
    while stack and reads < 2:
        x = stack.pop()
        for user in users[x]:
            lower = user.op.lower
            if isinstance(lower, View) and user.args[0] is x:
                if user in seen:
                    continue
                seen.add(user)
                if user in kept:
                    reads += 1
                    continue
                repeated, divided = _view_kind(user)
                expands = expands or repeated
                merges = merges or (lower.alias and divided)
                stack.append(user)
            else:
                reads += 1
    return reads, expands, merges


def _view_kind(view: Node) -> tuple[bool, bool]:
    """Whether a view may read an element of its operand more than once, and whether its index divides."""
    index = tuple(fresh_vars(len(view.shape)))
    (access,) = accesses(view, index)
    plain = [d for d in access.index if not any(True for _ in elements((d,)))]
    found = {s for d in plain for s in symbols(d)}
    repeats = any(not symbols(v) <= found for v, size in zip(index, view.shape, strict=True) if size != 1)
    return repeats, divides(access.index)


def in_memory(nodes: Sequence[Node]) -> set[Node]:
    """The nodes that products, library calls and updates need in memory: operands without their strided views."""
    needed: set[Node] = set()
    for node in nodes:
        lower = node.op.lower
        if isinstance(lower, View):
            needed.update(x for x in map(_strided_base, node.args[1:]) if x is not None and x.args)
        if isinstance(lower, (Source, Uninitialised, Map, View)) or not (node.args):
            continue
        if isinstance(lower, (Contract, Repeat, Branch)):
            # What has no operands is made where a step or a branch needs it, but for what that has views of.
            anew = () if isinstance(lower, Contract) else node.args
            bases = filter(None, map(_strided_base, node.args))
            needed.update(x for x in bases if x.args or not isinstance(x.op.lower, Map) or x not in anew)
        elif isinstance(lower, Update):
            if not isinstance(node.args[0].op.lower, (Source, Uninitialised)):
                needed.add(node.args[0])
        elif hasattr(lower, "function"):
            needed.update(x for x in node.args if not isinstance(x.op.lower, Source))
    return needed


def _strided_base(x: Node) -> Node | None:
    """The node below the strided views of ``x`` that must be stored, or None where it is an argument already."""
    index: Coordinates = tuple(fresh_vars(len(x.shape)))
    top = x
    while isinstance(x.op.lower, View):
        (access,) = accesses(x, index)
        if access.guards or any(True for _ in elements(access.index)):
            return top
        if divides(access.index):
            below = x
            while isinstance(below.op.lower, View) and below.op.lower.alias:
                below = below.args[0]
            if isinstance(below.op.lower, Source):
                return None
            return x if isinstance(below.op.lower, (Map, View)) else below
        x, index = x.args[0], access.index
    return None if isinstance(x.op.lower, Source) else x


def dims_of(graph: Graph) -> set[Symbol]:
    """The symbolic dimensions that the types of a graph mention."""
    found: set[Symbol] = set()
    for node in dict.fromkeys([*graph.inputs, *graph.nodes]):
        for d in node.shape:
            found |= symbols(d)
    return found
