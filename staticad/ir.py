"""The graph: array types, operations as values, nodes, and what can be done with any graph; knows no particular op."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import count
from operator import attrgetter
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from staticad.dtypes import SHORT, can_require_grad
from staticad.errors import GraphError
from staticad.shapes import Dim, Shape, evaluate, product, shape_text


@dataclass(frozen=True, slots=True)
class ArrayType:
    """The type of an array: a dtype and a shape, printed as ``f32[batch, 64]``."""

    dtype: np.dtype[Any]
    shape: Shape = ()

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        return product(self.shape)

    def __str__(self) -> str:
        return SHORT[self.dtype] + (shape_text(self.shape) if self.shape else "")


#: What holds of an op f for all numbers. "commutative": f(x, y) is f(y, x); "exact": compiled code gives what NumPy
#: does, to the bit; "idempotent": f(f(x)) is f(x); "involution": f(f(x)) is x; "selective": f of nothing but x, once or
#: more, is x; "signless": floats that it gives have no sign.
Law: TypeAlias = Literal["commutative", "exact", "idempotent", "involution", "selective", "signless"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """A primitive operation, whole: one value of this class is one entry of the op table.

    ``infer(*types, **params)`` gives the result's type or raises; ``numpy(*arrays, **params)`` is the meaning;
    ``lower`` says how it becomes a loop; ``vjp(node, g)`` gives a cotangent (or None) for each operand and
    ``jvp(node, tangents)`` the tangent (or None) of the result, both as nodes. ``examples()`` gives cases for the
    tests. ``checks(node)`` tells what must hold of symbolic sizes, tested when the compiled function is entered, and
    ``defines(node, value)`` the sizes that are known with a value.

    ``batch(node, operands, batched, lanes)`` is the node for many operands at once: those that are ``batched`` have
    axes of the shape ``lanes`` before their own, and so has the result unless it is the same in all of them. Without
    it, or where it gives None, a loop over the lanes does it.

    ``laws`` are what simplification knows of it, where it knows nothing more particular.

    An op with a `Body` (or `Branches`) computes one of several results of a loop (a choice): nodes with the same body
    and operands are one loop, and are differentiated and batched ``together``.
    """

    name: str
    infer: Callable[..., ArrayType]
    numpy: Callable[..., Any]
    lower: Any
    vjp: Callable[[Node, Node], Sequence[Node | None]]
    jvp: Callable[[Node, Sequence[Node | None]], Node | None]
    examples: Callable[[], Iterable[Example]] = field(default=lambda: ())
    defines: Callable[[Node, Any], Mapping[str, int]] = field(default=lambda node, value: {})
    differentiable: bool = True
    laws: tuple[Law, ...] = ()
    checks: Callable[[Node], Sequence[Check]] = field(default=lambda node: ())
    batch: Callable[[Node, Sequence[Node], Sequence[bool], Shape], Node | None] | None = None
    together: Together | None = None

    def __call__(self, *args: Node, **params: Any) -> Node:
        """A new node. Raises `ShapeError` or `DTypeError` where the operands do not fit."""
        return Node(self, args, params, self.infer(*(x.type for x in args), **params))

    def __repr__(self) -> str:
        return f"<op {self.name}>"


@dataclass(frozen=True)
class Together:
    """Derivatives and lanes of several results of one loop (or of one call) at once.

    ``vjp(nodes, cotangents)`` gives a cotangent (or None) for each operand, ``jvp(nodes, tangents)``, given those of
    the operands, a tangent (or None) for each node. The first ``own`` operands are each result's own, and none of what
    they are made of is differentiated through them. ``batch(nodes, operands, batched, lanes)``, given the nodes' own
    operands and then the others, gives for each node one for many, and whether that has lanes; or None."""

    vjp: Callable[[Sequence[Node], Sequence[Node]], Sequence[Node | None]]
    jvp: Callable[[Sequence[Node], Sequence[Node | None]], Sequence[Node | None]]
    batch: (
        Callable[[Sequence[Node], Sequence[Node], Sequence[bool], Shape], Sequence[tuple[Node, bool]] | None] | None
    ) = None
    own: int = 0


@dataclass(frozen=True, eq=False)
class Body:
    """One step of a loop: a graph from the inputs ``carries``, ``slices`` and ``consts`` to ``nexts``.

    ``nexts`` are the carries of the next step; ``slices`` stand for element t of operands with a leading axis of
    ``length``, ``consts`` for what every step reads. With ``reverse``, t runs from the last to the first. Operands of
    the loop are the first carries, the sliced arrays and the constants, in this order.

    With a ``condition``, a scalar, steps are taken as long as that holds of the carries: ``length``, a symbol of kind
    "count", is then known after the loop. ``limit`` is the most of them that there may be. ``unroll``: how many steps
    the compiler is asked to write one after the other. ``sizes`` are what symbolic dimensions are where the body is
    computed node by node.
    """

    carries: tuple[Node, ...]
    slices: tuple[Node, ...]
    consts: tuple[Node, ...]
    nexts: tuple[Node, ...]
    length: Dim
    reverse: bool = False
    condition: Node | None = None
    limit: Dim | None = None
    unroll: int = 1
    sizes: Mapping[str, int] | None = None

    @property
    def inputs(self) -> tuple[Node, ...]:
        return (*self.carries, *self.slices, *self.consts)

    def __str__(self) -> str:
        return f"body@{id(self):x}"


@dataclass(frozen=True, eq=False)
class Branches:
    """Graphs from the inputs ``consts`` of which one is computed: ``values[k]`` are the results of number k.

    Operands of a choice are the number (or, between two, a truth value) and the constants. ``sizes`` are as in
    `Body`."""

    consts: tuple[Node, ...]
    values: tuple[tuple[Node, ...], ...]
    sizes: Mapping[str, int] | None = None

    def __str__(self) -> str:
        return f"branches@{id(self):x}"


@dataclass(frozen=True)
class Check:
    """A relation between sizes that could not be decided when the graph was built; ``text`` says what broke it."""

    x: Dim
    relation: Literal["==", ">="]
    y: Dim
    text: str

    def broken(self, sizes: Mapping[str, int]) -> str | None:
        """What an error says where the relation does not hold of these sizes."""
        x, y = evaluate(self.x, sizes), evaluate(self.y, sizes)
        if x == y if self.relation == "==" else x >= y:
            return None
        left, right = (str(d) if d == size else f"{d} = {size}" for d, size in ((self.x, x), (self.y, y)))
        return f"{self.text}: {left} must be {self.relation} {right}"


@dataclass(frozen=True)
class Example:
    """One case for the conformance tests: operands (arrays) and parameters.

    ``smooth`` is false where finite differences say nothing (kinks, integer results)."""

    arrays: tuple[Any, ...]
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])
    smooth: bool = True


@dataclass(eq=False, slots=True)
class Cell:
    """Where a backward pass leaves a gradient: shared by a leaf's node and the tensor the user holds."""

    name: str | None = None
    grad: np.ndarray[Any, Any] | None = None
    owner: Callable[[], object] | None = None


class Node:
    """One application of an operation. Immutable, compared by identity; ``requires_grad`` follows from the operands.

    Rules write arithmetic on nodes with operators; Python numbers become constants of the other operand's type. Which
    operations stand behind the operators is told by the op table, through ``arithmetic``.
    """

    __slots__ = ("args", "backward", "cell", "name", "op", "params", "requires_grad", "serial", "type")
    made: ClassVar[Iterator[int]] = count()
    arithmetic: ClassVar[dict[str, Callable[[Node, Any], Node]]] = {}

    def __init__(
        self,
        op: Op,
        args: tuple[Node, ...],
        params: Mapping[str, Any],
        type: ArrayType,  # noqa: A002
        name: str | None = None,
    ):
        self.op = op
        self.args = args
        self.params = params
        self.type = type
        self.name = name
        self.cell: Cell | None = None
        #: Rises from node to node: tells what was made while a function was traced.
        self.serial = next(Node.made)
        #: Whether a reverse pass made it, or something it is made of; pictures show these nodes apart.
        self.backward: bool = any(x.backward for x in args)
        self.requires_grad: bool = (
            op.differentiable and can_require_grad(type.dtype) and any(x.requires_grad for x in args)
        )

    @property
    def shape(self) -> Shape:
        return self.type.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.type.dtype

    def __repr__(self) -> str:
        return f"<{self.op.name}: {self.type}>"

    def __add__(self, y: Node | float) -> Node:
        return self.arithmetic["add"](self, y)

    def __sub__(self, y: Node | float) -> Node:
        return self.arithmetic["sub"](self, y)

    def __mul__(self, y: Node | float) -> Node:
        return self.arithmetic["mul"](self, y)

    def __truediv__(self, y: Node | float) -> Node:
        return self.arithmetic["div"](self, y)

    def __radd__(self, y: float) -> Node:
        return self.arithmetic["radd"](self, y)

    def __rsub__(self, y: float) -> Node:
        return self.arithmetic["rsub"](self, y)

    def __rmul__(self, y: float) -> Node:
        return self.arithmetic["rmul"](self, y)

    def __rtruediv__(self, y: float) -> Node:
        return self.arithmetic["rdiv"](self, y)

    def __neg__(self) -> Node:
        return self.arithmetic["neg"](self, None)


def toposort(outputs: Iterable[Node], operands: Callable[[Node], Iterable[Node]] = attrgetter("args")) -> list[Node]:
    """Every node that ``outputs`` need, operands first, in a deterministic order. Works for chains of any length.

    ``operands(node)`` tells what a node needs where that is not its arguments.
    """
    order: list[Node] = []
    done: set[Node] = set()
    stack: list[tuple[Node, Iterator[Node]]] = []
    for out in outputs:
        if out in done:
            continue
        done.add(out)
        stack.append((out, iter(operands(out))))
        while stack:
            node, left = stack[-1]
            for x in left:
                if x not in done:
                    done.add(x)
                    stack.append((x, iter(operands(x))))
                    break
            else:
                order.append(node)
                stack.pop()
    return order


@dataclass(frozen=True, eq=False)
class Graph:
    """A program: what it takes, what it gives. ``print(graph)`` is its readable text form."""

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]

    @cached_property
    def nodes(self) -> list[Node]:
        return toposort(self.outputs)

    def __str__(self) -> str:
        return graph_text(self)


def intern_key(op: Op, args: Sequence[Node], params: Mapping[str, Any]) -> tuple[Any, ...]:
    """What two nodes have in common exactly when they compute the same."""
    return (op, tuple(map(id, args)), tuple((k, param_key(params[k])) for k in sorted(params)) if params else ())


def param_key(value: object) -> object:
    """``value``, where equal floats are the same number: 0.0 and -0.0 are not, and two NaNs are."""
    zero_or_nan = isinstance(value, (float, np.floating)) and (value == 0 or value != value)
    return (type(value), str(value)) if zero_or_nan else value  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]


def rewrite(graph: Graph, rule: Callable[[Node], Node]) -> Graph:
    """The graph with ``rule`` applied to each node, operands first, equal nodes made one (common subexpressions).

    ``rule`` gets a node whose operands are rewritten already, and returns it or its replacement, which may hold that
    node; what the replacement is newly made of is rewritten too.
    """
    table: dict[tuple[Any, ...], Node] = {}
    new: dict[Node, Node] = {}
    replaced: dict[Node, tuple[tuple[Any, ...], Node, Node]] = {}
    for root in graph.nodes:
        stack = [root]
        while stack:
            node = stack[-1]
            if node in replaced:
                key, known, replacement = replaced.pop(node)
                out = new[replacement]
                table[key] = new[known] = new[out] = new[node] = out
            missing = () if node in new else [x for x in node.args if x not in new]
            if missing:
                stack.extend(reversed(missing))
                continue
            if node not in new:
                args = tuple(new[x] for x in node.args)
                key = intern_key(node.op, args, node.params)
                known = table.get(key)
                if known is None:
                    known = node if args == node.args else clone(node, args)
                    replacement = rule(known)
                    if replacement is not known:
                        replaced[node] = key, known, replacement
                        new[known] = known  # where the replacement holds it
                        stack.append(replacement)
                        continue
                    table[key] = new[known] = known
                new[node] = known
            stack.pop()
    return Graph(graph.inputs, tuple(new[x] for x in graph.outputs))


def toposort_until(outputs: Iterable[Node], known: Container[Node]) -> list[Node]:
    """What ``outputs`` need beyond ``known`` nodes, operands first, without these."""
    return [x for x in toposort(outputs, lambda x: () if x in known else x.args) if x not in known]


def depending(outputs: Iterable[Node], on: Iterable[Node]) -> dict[Node, None]:
    """The nodes ``on``, then what ``outputs`` need that depends on one of them, operands first."""
    found = dict.fromkeys(on)
    for node in toposort_until(outputs, found):
        if any(x in found for x in node.args):
            found[node] = None
    return found


def substitute(outputs: Iterable[Node], values: Mapping[Node, Node]) -> list[Node]:
    """``outputs`` with ``values`` in the place of nodes; what depends on none of these stays the node it is."""
    outputs = list(outputs)
    new = dict(values)
    for node in toposort_until(outputs, values):
        args = tuple(new[x] for x in node.args)
        new[node] = node if args == node.args else clone(node, args)
    return [new[x] for x in outputs]


def clone(node: Node, args: tuple[Node, ...]) -> Node:
    """``node`` on other operands of the same types."""
    out = Node(node.op, args, node.params, node.type, node.name)
    out.cell = node.cell
    out.requires_grad = node.requires_grad
    return out


def verify(graph: Graph) -> None:
    """Assert what every pass must keep: types that follow from operands, inputs that are sources.

    Raises `GraphError`.
    """
    for node in graph.nodes:
        found = node.op.infer(*(x.type for x in node.args), **node.params)
        if found != node.type:
            raise GraphError(f"{node.op.name}: has type {node.type}, but its operands give {found}")
    for x in graph.inputs:
        if x.args:
            raise GraphError(f"an input must be a source, not the result of {x.op.name}")


def loop_key(node: Node) -> object:
    """What the results of one loop have in common; the node itself where it is no result of a loop."""
    together = node.op.together
    return node if together is None else (node.params["body"], node.args[together.own :])


def node_names(nodes: Iterable[Node]) -> dict[Node, str]:
    """A readable name for each node: the user's where there is one and it is free, else ``%0``, ``%1``, ..."""
    names: dict[Node, str] = {}
    used: set[str] = set()
    for node in nodes:
        if node.name and node.name not in used:
            names[node] = node.name
        else:
            names[node] = f"%{len(names)}"
        used.add(names[node])
    return names


def graph_text(graph: Graph) -> str:
    """One line a node, ``name: type = op(operands, params)``, then the outputs."""
    nodes = list(dict.fromkeys([*graph.inputs, *graph.nodes]))
    names = node_names(nodes)
    lines = [f"graph({', '.join(f'{names[x]}: {x.type}' for x in graph.inputs)})"]
    inputs = set(graph.inputs)
    for node in nodes:
        if node in inputs:
            continue
        params = [f"{k}={param_text(v)}" for k, v in node.params.items()]
        given = ", ".join([*(names[x] for x in node.args), *params])
        lines.append(f"  {names[node]}: {node.type} = {node.op.name}({given})")
    lines.append(f"  return {', '.join(names[x] for x in graph.outputs)}")
    return "\n".join(lines)


def param_text(value: object) -> str:
    if isinstance(value, tuple):
        inner = ", ".join(param_text(v) for v in value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
        return f"({inner},)" if len(value) == 1 else f"({inner})"  # pyright: ignore[reportUnknownArgumentType]
    return str(value)
