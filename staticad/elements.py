"""Elements of nodes as source: loaded or computed, named where that pays, in the outermost scope where they may be.

Knows lowerings of single elements, neither loops nor statements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from staticad.arrays import Arrays
from staticad.expressions import CODE, fill, is_atom, is_literal, literal, narrow
from staticad.ir import Node
from staticad.loops import Coordinates, Loop, accesses, elements, is_var
from staticad.lowering import LETTERS, Guard, Map, Uninitialised, View
from staticad.names import LOOP_VARIABLES
from staticad.runs import Run, sides
from staticad.scopes import Failure, Module, Scope
from staticad.shapes import Dim, Element, Expr, Symbol, add, known_ge, mul, render, substitute, symbol, symbols
from staticad.straight import read_ahead

#: Expressions longer than this many characters get a name.
LONG = 80


@dataclass(eq=False)
class Asked:
    """What writing a function once found out for writing it again.

    ``counts``: how often each element is asked for; ``cuts``: the steps of a loop where guards in it change; ``lines``:
    those of its body; ``handed``: the local variables that calls take.
    """

    counts: Counter[object] = field(default_factory=Counter[object])
    cuts: dict[Loop, dict[Dim, None]] = field(default_factory=dict[Loop, "dict[Dim, None]"])
    lines: dict[Loop, int] = field(default_factory=dict[Loop, int])
    handed: set[Node] = field(default_factory=set[Node])
    counting: bool = True


class Elements(Arrays):
    """Writes the elements that the statements of one function ask for."""

    def __init__(self, module: Module, asked: Asked):
        super().__init__(module)
        self.asked = asked
        self.variables: dict[Symbol, str] = {}
        self.depends: dict[Symbol, set[Symbol]] = {}  # of a bounded coordinate: the loop variables it is made of
        self.extents: dict[Symbol, Dim] = {}
        self.blocks: dict[Symbol, Loop] = {}
        self.lanes: dict[Loop, str] = {}  # how many steps there are in the present block of a loop
        self.runs: dict[Loop, Run] = {}  # the present one of a loop that is written as several
        self.offsets: dict[Symbol, Dim] = {}  # of the variable of a loop within a block: where it is in all of them
        self.scalars: dict[Node, str] = {}
        self.joined: dict[Node, str] = {}  # results of choices that are local variables
        self.accumulators: dict[Node, str] = {}
        self.targets: dict[Node, Coordinates] = {}
        self.added: set[Node] = set()  # results that are added to what is in memory
        #: Buffers that more than one node writes: local variables for them are no names of other values.
        self.updated = {root for node, root in self.storage.root.items() if root is not node}
        used = self.names.used
        self.loop_names = [v for v in [*LOOP_VARIABLES, *(f"i{k}" for k in range(40))] if v not in used]
        self.names.used |= set(self.loop_names)

    def element(self, node: Node, index: Coordinates, scope: Scope) -> str:
        """Element ``index`` of ``node`` as source, valid in ``scope``."""
        key = (node, index)
        self.asked.counts[key] += self.asked.counting
        known = scope.find(key)
        if known is not None:
            return known
        if self.storage.has_memory(node):
            buffer = self.storage.buffer(node)
            b = self.plan.buffers.get(buffer)
            if b is not None and b.place == "scalar":
                return self.scalars[buffer]
            home = self.home(node, index, scope)
            text = self.place(buffer, index, home)
            return self.share(key, text, scope, home, self.array(buffer) + self.suffix(index))
        if isinstance(node.op.lower, Uninitialised):
            return literal(0, node.dtype)
        home = self.home(node, index, scope)  # what the formula needs must be known where it may be moved to
        text = self.formula(node, index, home)
        return self.share(key, text, scope, home, self.hint(node))

    def changing(self, scope: Scope | None) -> set[str]:
        """The local variables that loops around change at the end of a step."""
        found: set[str] = set()
        while scope is not None:
            if scope.loop is not None:
                found |= {self.scalars[item.buffer] for item in scope.loop.after if item.buffer in self.scalars}
            scope = scope.parent
        return found

    def formula(self, node: Node, index: Coordinates, scope: Scope) -> str:
        """How element ``index`` of a `Map` or `View` is computed, as source."""
        lower = node.op.lower
        if isinstance(lower, Map):
            return self.map(node, lower, index, scope)
        assert isinstance(lower, View)
        (access,) = accesses(node, index)
        x = node.args[0]
        memory = self.storage.flat_view(node, access)
        if memory is not None:
            flat = self.flat(self.array(self.storage.buffer(memory)))
            offset: Dim = 0
            for d, size in zip(index, node.shape, strict=True):
                offset = mul(offset, size) + d
            return f"{flat}[{self.coordinate(offset, scope)}]"
        if not access.guards:
            return self.element(x, access.index, scope)
        return self.guarded(node, access.guards, access.index, scope)

    def map(self, node: Node, lower: Map, index: Coordinates, scope: Scope) -> str:
        template = lower.code if isinstance(lower.code, str) else lower.code(node)
        values = {"t": CODE[node.dtype]}
        for name, x in zip(LETTERS, node.args, strict=False):
            text = self.element(x, index, scope)
            if template.count(f"{{{name}}}") > 1 and not (text.isidentifier() or is_literal(text)):
                text = self.assign(self.hint(x), text, scope)
            values[name] = text
        for axis, d in enumerate(index):
            if f"{{i[{axis}]}}" in template:
                values[f"i[{axis}]"] = self.coordinate(d, scope)
        for name, value in node.params.items():
            if isinstance(value, Expr):
                values[name] = f"{CODE[node.dtype]}({self.module.size(value)})"
            elif isinstance(value, (bool, int, float)):
                values[name] = literal(value, node.dtype)
        return narrow(fill(template, values), template, node.dtype)

    def share(self, key: object, text: str, scope: Scope, home: Scope, hint: str) -> str:
        """Give an expression a name where it is used again, is long, or belongs outside of an inner loop."""
        if is_literal(text) or text.isidentifier():
            return text
        if self.asked.counting or self.asked.counts[key] > 1 or home is not scope or len(text) > LONG:
            text = self.assign(hint, text, home)
            home.known[key] = text
        return text

    def home(self, node: Node, index: Coordinates, scope: Scope) -> Scope:
        """The outermost scope where an element may be computed.

        All it needs is known there and nothing changes inside.
        """
        found = self.loop_variables(*index)
        reads, ends = None, list[Scope]()
        while scope.loop is not None and not scope.closed and scope.parent is not None and scope.loop.var not in found:
            if reads is None:
                reads = {n for n, _ in self.storage.element_reads(node, index) + self.storage.run_time_reads(index)}
                found = self.made_of(self.storage.coordinates(node, index))
                ends = [self.counted[s] for s in found if s in self.counted]  # what it is made of is known there
            if scope in ends or scope.loop.var in found or not reads.isdisjoint(scope.loop.writes):
                break
            scope = scope.parent
        return scope

    def suffix(self, index: Coordinates) -> str:
        """``_ij`` for the element at ``[i, j]``; nothing where a coordinate is more than a loop variable."""
        found = [d for d in index if d != 0]
        loops = self.variables.keys() - self.depends.keys()
        plain = [self.variables[s] for d in found for s in symbols(d) if s in loops and is_var(d, s)]
        return "_" + "".join(plain) if plain and len(plain) == len(found) else ""

    def reads_of(self, node: Node, index: Coordinates) -> int:
        return 1 if self.asked.counting else self.asked.counts[(node, index)]

    def place(self, buffer: Node, index: Coordinates, scope: Scope) -> str:
        """An element of a buffer as source, to load or to store."""
        b = self.plan.buffers.get(buffer)
        axes = range(len(buffer.shape)) if b is None else b.axes
        name = self.array(buffer)
        if buffer in self.rows:
            axes = axes[1:]
        starts = {} if b is None else {axis: symbol(loop.var) for axis, loop in b.blocks.items()}
        at = ", ".join(self.coordinate(add(index[axis], mul(-1, starts.get(axis, 0))), scope) for axis in axes)
        return f"{name}[{at or '()'}]"

    def keep(self, node: Node, buffer: Node, index: Coordinates, text: str, scope: Scope) -> None:
        """Store an element, unless it lives in a local variable."""
        b = self.plan.buffers[buffer]
        if buffer in self.joined:
            scope.lines.append(f"{self.joined[buffer]} = {text}")
        elif b.place == "scalar":
            self.scalars[buffer] = text
        else:
            scope.lines.append(f"{self.place(buffer, index, scope)} = {text}")

    # coordinates ------------------------------------------------------------------------------------------------------

    def coordinate(self, d: Dim, scope: Scope) -> str:
        """A coordinate as source; what it takes from arrays at run time is read and checked first."""
        d = substitute(d, self.offsets) if self.offsets else d
        return render(d, lambda s: self.run_time(s, scope) if isinstance(s, Element) else self.name_of(s))

    def name_of(self, s: Symbol) -> str:
        return self.variables[s] if s.kind == "var" else self.module.sizes[s]

    def run_time(self, element: Element, scope: Scope) -> str:
        known = scope.find(element)
        if known is not None:
            return known
        array = element.array
        assert isinstance(array, Node)
        home = self.home(array, element.index, scope)
        value = self.element(array, element.index, home)
        extent = self.module.size(element.extent)
        name = self.assign("at", f"m.index({value}, {extent})", home)
        text = f"an index of {array.type} is out of range for an axis of size {element.extent}"
        code = self.module.status(Failure("index", text))
        memory = None if home.ahead is None or home.loop is None else read_ahead(self.plan, home.loop, element)
        if home.ahead is not None and memory is not None and self.known_before(memory[1], home):
            home.ahead.append((self.place(*memory, home), extent, code))
        else:
            home.lines += [f"if not 0 <= {name} < {extent}:", f"    return {code}"]
        home.known[element] = name
        return name

    def known_before(self, index: Coordinates, scope: Scope) -> bool:
        """Whether all that an index takes from arrays, and all its bounded coordinates, are there before the loop of
        ``scope``, but for its variable."""
        assert scope.loop is not None and scope.parent is not None
        bounded = self.made_of(self.depends.keys() & set[Symbol]().union(*map(symbols, index)))
        return scope.loop.var not in bounded and all(scope.parent.find(e) for e in elements(index))

    def loop_variables(self, *index: Dim) -> set[Symbol]:
        """What coordinates are made of."""
        found = set[Symbol]().union(*map(symbols, index))
        return self.made_of(found)

    def made_of(self, found: set[Symbol]) -> set[Symbol]:
        """``found``, and the loop variables that bounded coordinates among it are made of."""
        return found.union(*(self.depends[s] for s in found if s in self.depends))

    def hoisted(self, hint: str, text: str, used: set[Symbol], scope: Scope) -> str:
        """The name of an expression of the loop variables ``used``, computed where all of them are known."""
        while scope.loop is not None and not scope.closed and scope.parent is not None and scope.loop.var not in used:
            scope = scope.parent
        name = scope.find(("hoisted", text)) or self.assign(hint, text, scope)
        scope.known["hoisted", text] = name
        return name

    # elements that are there only where guards hold -------------------------------------------------------------------

    def guarded(self, node: Node, guards: Sequence[Guard], index: Coordinates, scope: Scope) -> str:
        """An element where the guards hold, else the fill value; nothing is read from where they do not."""
        x, otherwise = node.args[0], literal(node.params["fill"], node.dtype)
        bounds = [self.bounds(guard) for guard in guards]
        decided = [self.decided(guard, bound, scope) for guard, bound in zip(guards, bounds, strict=True)]
        if any(False in holds for holds in decided):
            return otherwise
        home = scope
        if any(True in holds for holds in decided):  # what is read must stay in the run: there may be no step of it
            bounds = [
                (low and not below, high and not above)
                for (low, high), (below, above) in zip(bounds, decided, strict=True)
            ]
            home = Scope(scope, scope.loop, closed=True, lines=scope.lines, known=scope.known)
        conditions: list[str] = []
        for guard, (low, high) in zip(guards, bounds, strict=True):
            value = self.coordinate(guard.value, scope)
            if low or high:
                above = f" < {self.module.size(guard.extent)}" if high else ""
                conditions.append(f"{'0 <= ' if low else ''}{value}{above}")
            if guard.step != 1:
                conditions.append(f"({value}) % {guard.step} == 0")
        condition = " and ".join(conditions)
        if not conditions:
            return self.element(x, index, home)
        checked = [(guard, bound) for guard, bound in zip(guards, bounds, strict=True) if any(bound) or guard.step != 1]
        if self.steady([guard for guard, _ in checked], index, scope):
            moved = {guard.value: self.bounded(guard, *bound, scope) for guard, bound in checked}
            used = self.loop_variables(*(guard.value for guard, _ in checked))
            inside = self.hoisted("inside", condition, used, scope)
            value = self.element(x, tuple(moved.get(d, d) for d in index), home)
            if not (value.isidentifier() or is_literal(value)):
                value = self.assign(self.hint(x), value, home)
            return f"{value} if {inside} else {otherwise}"
        within = Scope(scope, scope.loop, closed=True)
        text = self.element(x, index, within)
        if not within.lines:
            return f"{text if is_atom(text) else f'({text})'} if {condition} else {otherwise}"
        name = self.names.claim(node.op.name)
        scope.lines.append(f"if {condition}:")
        scope.lines += ["    " + line for line in [*within.lines, f"{name} = {text}"]]
        scope.lines += ["else:", f"    {name} = {otherwise}"]
        return name

    def bounds(self, guard: Guard) -> tuple[bool, bool]:
        """Whether the lower and the upper bound of a guard must be looked at."""
        return not known_ge(guard.value, 0), not self.surely_below(guard.value, guard.extent)

    def decided(self, guard: Guard, bounds: tuple[bool, bool], scope: Scope) -> tuple[bool | None, bool | None]:
        """Whether the lower and the upper bound of a guard hold in all steps of the present run of a loop, or in none.

        None: neither, or they need not be looked at."""
        loop = scope.loop
        if loop is None:
            return None, None
        low, high = (side if asked else None for side, asked in zip(sides(guard, loop.var), bounds, strict=True))
        if self.asked.counting:
            self.asked.cuts.setdefault(loop, {}).update({side.cut: None for side in (low, high) if side})
        run = self.runs.get(loop)
        return (run.holds(low) if run and low else None, run.holds(high) if run and high else None)

    def steady(self, guards: Sequence[Guard], index: Coordinates, scope: Scope) -> bool:
        """Whether all guards say the same in every step of the loop around.

        A guarded element is then read unconditionally, at the nearest place there is: what the loop does is plain
        arithmetic, which vectorises."""
        if scope.loop is None or scope.closed or any(True for _ in elements(index)):
            return False
        return all(
            guard.step == 1
            and guard.value in index
            and known_ge(guard.extent, 1)
            and scope.loop.var not in self.loop_variables(guard.value)
            for guard in guards
        )

    def bounded(self, guard: Guard, low: bool, high: bool, scope: Scope) -> Dim:
        """The coordinate of a guard, moved into the range where it holds."""
        text = self.coordinate(guard.value, scope)
        text = f"max({text}, 0)" if low else text
        text = f"min({text}, {self.module.size(add(guard.extent, -1))})" if high else text
        used = self.loop_variables(guard.value)
        name = self.hoisted("at", text, used, scope)
        found = Symbol(name, "var")
        self.variables[found], self.extents[found], self.depends[found] = name, guard.extent, used
        return symbol(found)

    def surely_below(self, value: Dim, extent: Dim) -> bool:
        """Whether ``value < extent`` wherever the loops come to, as a polynomial that rises in each variable shows."""
        highest = value
        if isinstance(value, Expr):
            if any(m and (c < 0 or not all(isinstance(a, Symbol) for a, _ in m)) for m, c in value.terms.items()):
                return False
            last: dict[Symbol, Dim] = {s: add(self.extents[s], -1) for s in symbols(value) if s in self.extents}
            highest = substitute(value, last)
        return known_ge(extent, add(highest, 1))
