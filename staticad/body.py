"""The body of one generated function: walks the loop tree, names what it meets, writes lines.

It knows lowerings, not Numba.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from staticad.effort import units
from staticad.expressions import CODE, comment, fill, is_atom, is_literal, literal
from staticad.ir import Check, Node
from staticad.loops import (
    Carry,
    Choice,
    Compute,
    Coordinates,
    Item,
    Loop,
    Start,
    Statement,
    Step,
    Test,
    Tile,
    Whole,
    accesses,
    elements,
    is_var,
    statements,
)
from staticad.lowering import Call, Carried, Contract, Guard, Map, Reduce, Source, Uninitialised, Update, View
from staticad.names import LOOP_VARIABLES, Names
from staticad.parallel import shared
from staticad.plan import Plan, counts
from staticad.products import contraction
from staticad.shapes import (
    Dim,
    Element,
    Expr,
    Shape,
    Symbol,
    add,
    evaluate,
    known_ge,
    mul,
    product,
    render,
    substitute,
    symbol,
    symbols,
)
from staticad.store import Storage

#: Steps of innermost loops that LLVM would unroll before it vectorises. Others are best unrolled, or so many that it
#: leaves them alone.
UNROLLED = frozenset({4, *range(8, 129)})
#: Units of work (see `effort.units`) that a loop of unknown length does before it looks for Ctrl-C, and what it takes
#: sizes to be that are not known before.
BETWEEN, GUESS = 1 << 31, 100
#: Expressions longer than this many characters get a name.
LONG = 80


@dataclass(frozen=True)
class Failure:
    """What a status code means: ``kind`` is "shape", "size", "overlap" or "index"."""

    kind: str
    text: str
    check: Check | None = None


@dataclass(eq=False)
class Module:
    """What the functions of one generated module share: the plan, and the names of sizes and of array arguments.

    ``targets`` are the sources that updates write to; ``threads``: products may use several; ``failures``: what status
    codes from 1 on mean.
    """

    plan: Plan
    targets: Mapping[Node, Node]
    threads: bool
    names: Names = field(default_factory=Names)
    sizes: dict[Symbol, str] = field(default_factory=dict[Symbol, str])
    arrays: dict[Node, str] = field(default_factory=dict[Node, str])
    failures: list[Failure] = field(default_factory=list[Failure])
    codes: dict[Failure, int] = field(default_factory=dict[Failure, int])

    def alike(self) -> Module:
        """One for the same plan, without names."""
        return Module(self.plan, self.targets, self.threads)

    def status(self, failure: Failure) -> int:
        """The code that the generated function returns for a failure."""
        if failure not in self.codes:
            self.failures.append(failure)
            self.codes[failure] = len(self.failures)
        return self.codes[failure]

    def statuses(self, failures: Sequence[Failure]) -> str:
        """What to return where ``status`` counts these failures from 1 on."""
        if len(failures) == 1:
            return str(self.status(failures[0]))
        self.failures += failures
        return f"status + {len(self.failures) - len(failures)}"

    def size(self, d: Dim) -> str:
        """A size as source, in terms of the names of symbolic dimensions."""
        return render(d, lambda s: self.sizes[s] if isinstance(s, Symbol) else str(s))


@dataclass(eq=False)
class Scope:
    """Lines at one depth of one function, and the values known there. ``closed``: nothing may be hoisted out of it."""

    parent: Scope | None
    loop: Loop | None = None
    closed: bool = False
    lines: list[str] = field(default_factory=list[str])
    known: dict[object, str] = field(default_factory=dict[object, str])

    def find(self, key: object) -> str | None:
        scope: Scope | None = self
        while scope is not None:
            if key in scope.known:
                return scope.known[key]
            scope = scope.parent
        return None

    @property
    def depth(self) -> int:
        return 0 if self.parent is None else self.parent.depth + (self.loop is not None)


class Body:
    """Writes the body of one function: twice, first only to count how often each element is asked for."""

    def __init__(self, module: Module, items: list[Item], copied: Sequence[Node]):
        self.module = module
        self.copied = copied
        self.plan = module.plan
        self.storage = module.plan.schedule.storage
        self.items = items
        self.counts: Counter[object] = Counter()
        self.counting = True

    def lines(self) -> list[str]:
        self.write()
        self.counting = False
        return self.write()

    def write(self) -> list[str]:
        self.names = Names()
        self.names.used |= self.module.names.used
        self.variables: dict[Symbol, str] = {}
        self.depends: dict[Symbol, set[Symbol]] = {}  # of a bounded coordinate: the loop variables it is made of
        self.extents: dict[Symbol, Dim] = {}
        self.blocks: dict[Symbol, Loop] = {}
        self.scalars = self.known_scalars()
        self.joined: dict[Node, str] = {}  # results of choices that are local variables
        self.targets: dict[Node, Coordinates] = {}
        self.accumulators: dict[Node, str] = {}
        self.rows: dict[Node, str] = {}  # what the present step of a loop leaves on the tape
        self.counted: dict[Symbol, Scope] = {}  # where the number of steps of a loop is known
        self.slots: dict[Node, str] = {}
        self.loop_names = [v for v in LOOP_VARIABLES if v not in self.names.used] + [
            f"i{k}" for k in range(40) if f"i{k}" not in self.names.used
        ]
        self.names.used |= set(self.loop_names)
        scope = Scope(None)
        self.root = self.outermost = scope
        self.items_into(self.items, scope)
        for node in self.copied:
            self.copy(node, scope)
        return scope.lines

    def known_scalars(self) -> dict[Node, str]:
        """The local variables that hold buffers from the beginning."""
        return {}

    def copy(self, node: Node, scope: Scope) -> None:
        """An update that could not be made in place, copied at the very end."""
        from_, to = self.array(node), self.array(self.module.targets[node])
        names = self.loop_names[: len(node.shape)]
        for depth, (name, d) in enumerate(zip(names, node.shape, strict=True)):
            scope.lines.append(f"{'    ' * depth}for {name} in range({self.module.size(d)}):")
        at = ", ".join(names) or "()"
        scope.lines.append(f"{'    ' * len(names)}{to}[{at}] = {from_}[{at}]")

    # statements ------------------------------------------------------------------------------------------------------

    def items_into(self, items: Sequence[Item], scope: Scope) -> None:
        for item in items:
            if isinstance(item, Loop):
                self.loop(item, scope)
            elif isinstance(item, Choice):
                self.choice(item, scope)
            elif isinstance(item, Test):
                raise AssertionError("a test belongs to a loop or a choice")
            else:
                self.statement(item, scope)

    def loop(self, loop: Loop, scope: Scope) -> None:
        if loop.test:
            self.repeat_while(loop, scope)
            return
        for node in loop.reduces:
            lower = node.op.lower
            assert isinstance(lower, Reduce)
            name = self.names.claim(self.hint(node))
            self.accumulators[node] = name
            start = typed(lower.init(node.dtype), node.dtype)
            scope.lines.append(f"{name} = {start}")
        inside = Scope(scope, loop)
        if scope is self.root:
            self.outermost = inside
        self.variables[loop.var] = self.loop_names[scope.depth]
        self.extents[loop.var] = loop.extent
        if loop.block:
            end = self.variables[loop.end] = self.names.claim(f"{self.variables[loop.var]}_end")
            self.blocks[loop.var] = loop
            inside.lines.append(
                f"{end} = min({self.variables[loop.var]} + {loop.block}, {self.module.size(loop.extent)})"
            )
        if loop.extent == 0:
            # Nothing of the body may be written: what is hoisted out of it would read where there is nothing.
            self.targets |= {s.node: s.target for _, s in statements(loop.body) if isinstance(s, Step)}
        else:
            self.items_into(loop.body, inside)
            self.carry_on(loop.after, inside)
        if inside.lines:
            scope.lines += self.head(loop)
            scope.lines += ["    " + line for line in inside.lines]
        self.finish(loop, scope)

    def repeat_while(self, loop: Loop, scope: Scope) -> None:
        """A loop whose steps go on as long as a test holds; they are counted."""
        assert loop.steps is not None
        counted = self.variables[loop.var] = self.names.claim("steps")
        self.extents[loop.var] = loop.extent
        (number,) = symbols(loop.extent)
        assert isinstance(number, Symbol)
        inside = Scope(scope, loop)
        if scope is self.root:
            self.outermost = inside
        *before, test = loop.test
        assert isinstance(test, Test)
        self.items_into(before, inside)
        inside.lines += [f"if not {self.element(test.node, (), inside)}:", "    break"]
        limit = loop.steps.limit
        if limit is not None:
            text = f"a loop goes on after {limit} steps, the most that it was given"
            code = self.module.status(Failure("steps", text))
            inside.lines += [f"if {counted} == {self.module.size(limit)}:", f"    return {code}"]
        for buffer in loop.writes:
            if self.plan.buffers[buffer].place == "tape" and buffer not in loop.inside:
                self.rows[buffer] = self.row(buffer, counted, buffer.shape[1:], f"{counted} + 1", inside)
        self.items_into(loop.body, inside)
        self.carry_on(loop.after, inside)
        scope.lines += [f"{counted} = 0", "while True:", *("    " + line for line in inside.lines)]
        scope.lines.append(f"    {counted} += 1")
        steps = steps_between(self.storage, loop)
        code = self.module.status(Failure("interrupt", "interrupted"))
        scope.lines += [
            f"    if {counted} % {steps} == 0:",
            "        if m.interrupted():",
            f"            return {code}",
        ]
        self.module.sizes[number] = counted
        self.counted[number] = scope
        for buffer in loop.writes:
            self.rows.pop(buffer, None)

    def row(self, buffer: Node, first: str, shape: Shape, rows: str, scope: Scope) -> str:
        """A view of a part of a buffer on the tape, from row ``first`` on, where it has room for so many ``rows``."""
        b = self.plan.buffers[buffer]
        each = self.module.size(mul(product(buffer.shape[1:]), buffer.dtype.itemsize))
        code = self.module.status(Failure("memory", f"no memory for what a loop leaves: {buffer.type}"))
        scope.lines += [f"if not m.room(tape, {b.offset}, ({rows}) * {each}):", f"    return {code}"]
        sizes = ", ".join(map(self.module.size, shape)) + ("," if len(shape) == 1 else "")
        offset = "0" if first == "0" else f"{first} * {each}"
        text = f"m.row_{CODE[buffer.dtype]}(tape, {b.offset}, {offset}, ({sizes}))"
        return self.assign(self.hint(buffer), f"{text}  # {comment(buffer.type)} = {buffer.op.name}", scope)

    def finish(self, loop: Loop, scope: Scope) -> None:
        """What a loop has accumulated is there."""
        for node in loop.reduces:
            lower = node.op.lower
            assert isinstance(lower, Reduce)
            if not lower.running:
                target = self.targets[node]
                scope.known[(node, target)] = self.accumulators[node]
                self.keep(node, self.storage.root[node], target, self.accumulators[node], scope)

    def choice(self, choice: Choice, scope: Scope) -> None:
        """What is computed in a branch is known there alone, but for the results."""
        for buffer, everywhere in choice.results.items():
            if self.plan.buffers[buffer].place == "scalar":
                name = self.scalars[buffer] = self.joined[buffer] = self.names.claim(self.hint(buffer))
                if not everywhere:
                    scope.lines.append(f"{name} = {literal(0, buffer.dtype)}")
        selector = choice.test.node
        text = self.element(selector, (), scope)
        if not text.isidentifier():
            text = self.assign("branch", text, scope)
        two = selector.dtype.kind == "b"
        lines: list[str] = []
        for k, items in enumerate(choice.branches):
            inside = Scope(scope, closed=True)
            made = set(self.slots)
            if scope is self.root:
                self.outermost = inside
            self.items_into(items, inside)
            if scope is self.root:  # elsewhere a view is made before the loop around, for all branches
                for buffer in [x for x in self.slots if x not in made and self.plan.buffers[x].base is not None]:
                    del self.slots[buffer]
            condition = f"not {text}" if two else f"{text} == {k}"
            lines.append("else:" if two and k else f"{'el' if k else ''}if {condition}:")
            lines += ["    " + line for line in inside.lines or ["..."]]
        if not two:
            known = f"a choice among {len(choice.branches)} branches is given a number of none of them"
            lines += ["else:", f"    return {self.module.status(Failure('index', known))}"]
        scope.lines += lines

    def carry_on(self, carries: Sequence[Carry], scope: Scope) -> None:
        """Give all carries their next values, which may be what others were."""
        scalars = [item for item in carries if self.plan.buffers[item.buffer].place == "scalar"]
        texts = [self.element(item.node, item.index or (), scope) for item in scalars]
        changing = {self.scalars[item.buffer] for item in scalars}
        texts = [self.assign("next", text, scope) if text in changing else text for text in texts]
        writes: list[str] = []
        for item in carries:
            if item in scalars:
                continue
            if item.index is None:
                writes.append(f"m.copy({self.array(item.buffer)}, {self.array(self.storage.buffer(item.node))})")
            else:
                text = self.element(item.node, item.index, scope)
                text = text if text.isidentifier() or is_literal(text) else self.assign("next", text, scope)
                writes.append(f"{self.place(item.buffer, item.index, scope)} = {text}")
        scope.lines += writes
        scope.lines += [f"{self.scalars[item.buffer]} = {text}" for item, text in zip(scalars, texts, strict=True)]

    def head(self, loop: Loop) -> list[str]:
        """How a loop begins; lines after the first belong to its body."""
        return [f"for {self.variables[loop.var]} in range({self.steps(loop)}):"]

    def steps(self, loop: Loop) -> str:
        """How many steps a loop takes; those that would be unrolled instead of vectorised do not tell the optimiser."""
        size = self.module.size(loop.extent)
        if loop.block:
            return f"0, {size}, {loop.block}"
        if loop.within:
            return f"{self.variables[loop.within.var]}, {self.variables[loop.within.end]}"
        if any(isinstance(item, Loop) for item in loop.body) or loop.extent not in UNROLLED:
            return size
        largest = max(s.node.dtype.itemsize for _, s in statements(loop.body))
        return f"m.steps({size})" if largest == 4 else f"m.steps({size}, {largest})"

    def statement(self, item: Statement, scope: Scope) -> None:
        if isinstance(item, Compute):
            if item.source is not None:
                text = self.element(item.operand, item.source, scope)
            else:
                text = self.formula(item.node, item.index, scope)
            in_array = self.plan.buffers[item.buffer].place != "scalar"
            carried = isinstance(item.node.op.lower, Carried)
            if carried and not in_array:
                text = self.assign(self.hint(item.node), text, scope)
            elif not (text.isidentifier() or is_literal(text)) and self.reads_of(item.node, item.index) > 0:
                hint = self.hint(item.node)
                text = self.assign(hint + self.suffix(item.index) if in_array else hint, text, scope)
            if not (carried and in_array):  # what a carry begins with is not what it is in later steps
                scope.known[(item.node, item.index)] = text
            self.keep(item.node, item.buffer, item.index, text, scope)
        elif isinstance(item, Start):
            self.start(item, scope)
        elif isinstance(item, Step):
            self.step(item, scope)
        elif isinstance(item, Tile):
            self.tile(item, scope)
        elif isinstance(item, Carry):
            raise AssertionError("carries go on together")
        else:
            self.whole(item, scope)

    def reads_of(self, node: Node, index: Coordinates) -> int:
        return 1 if self.counting else self.counts[(node, index)]

    def keep(self, node: Node, buffer: Node, index: Coordinates, text: str, scope: Scope) -> None:
        """Store an element, unless it lives in a local variable."""
        b = self.plan.buffers[buffer]
        if buffer in self.joined:
            scope.lines.append(f"{self.joined[buffer]} = {text}")
        elif b.place == "scalar":
            self.scalars[buffer] = text
        else:
            scope.lines.append(f"{self.place(buffer, index, scope)} = {text}")

    def place(self, buffer: Node, index: Coordinates, scope: Scope) -> str:
        """An element of a buffer as source, to load or to store."""
        b = self.plan.buffers.get(buffer)
        axes = range(len(buffer.shape)) if b is None else b.axes
        if buffer in self.rows:
            axes = axes[1:]
        name = self.array(buffer)
        starts = {} if b is None else {axis: symbol(loop.var) for axis, loop in b.blocks.items()}
        at = ", ".join(self.coordinate(add(index[axis], mul(-1, starts.get(axis, 0))), scope) for axis in axes)
        return f"{name}[{at or '()'}]"

    def array(self, buffer: Node) -> str:
        """The name of an array; a view of the workspace is made when the function first needs it, outside loops.

        A view says that nothing else uses its memory from there on: those of buffers that take turns inside of a loop
        are made in it.
        """
        b = self.plan.buffers.get(buffer)
        if buffer in self.rows:
            return self.rows[buffer]
        if b is not None and b.place == "tape":
            return self.taped(buffer)
        if b is not None and b.place == "local":
            return self.local(buffer)
        if b is None or b.place != "work":
            return self.module.arrays[buffer]
        if buffer not in self.slots:
            name = self.slots[buffer] = self.names.claim(self.hint(buffer))
            shape = ", ".join(map(self.module.size, b.shape)) + ("," if len(b.shape) == 1 else "")
            text = f"{name} = m.slot_{CODE[buffer.dtype]}(work, {self.module.size(b.offset)}, ({shape}))"
            lines = self.root.lines if b.base is None else self.outermost.lines
            lines.append(f"{text}  # {comment(buffer.type)} = {buffer.op.name}")
        return self.slots[buffer]

    def taped(self, buffer: Node) -> str:
        """The name of an array of a size that is known after a loop; the view is made where that is."""
        scope = max((self.counted[s] for s in counts(buffer.shape)), key=lambda scope: scope.depth)
        known = scope.find(("taped", buffer))
        if known is None:
            rows = self.module.size(buffer.shape[0])
            known = scope.known["taped", buffer] = self.row(buffer, "0", buffer.shape, rows, scope)
        return known

    def local(self, buffer: Node) -> str:
        """The name of an array of the function."""
        if buffer not in self.slots:
            name = self.slots[buffer] = self.names.claim(self.hint(buffer))
            found = self.plan.buffers[buffer].shape
            shape = ", ".join(map(self.module.size, found)) + ("," if len(found) == 1 else "")
            text = f"{name} = m.local_{CODE[buffer.dtype]}(({shape}))"
            self.root.lines.append(f"{text}  # {comment(buffer.type)} = {buffer.op.name}")
        return self.slots[buffer]

    def start(self, item: Start, scope: Scope) -> None:
        lower = item.node.op.lower
        if isinstance(lower, Contract):
            scope.lines.append(f"m.clear({self.array(item.buffer)})")
            return
        if isinstance(lower, Update):
            text = self.element(item.node.args[0], item.index, scope)
        else:
            assert isinstance(lower, Reduce)
            text = typed(lower.init(item.node.dtype), item.node.dtype)
        if self.plan.buffers[item.buffer].place == "scalar":
            self.scalars[item.buffer] = self.assign(item.node.op.name, text, scope)
        else:
            self.keep(item.node, item.buffer, item.index, text, scope)

    def step(self, item: Step, scope: Scope) -> None:
        node, lower = item.node, item.node.op.lower
        assert isinstance(lower, (Reduce, Update))
        operands = node.args[1:2] if isinstance(lower, Update) else node.args
        values = {name: self.element(x, item.source, scope) for name, x in zip("xyz", operands, strict=False)}
        if item.scalar:
            acc = self.accumulators[node]
            scope.lines.append(f"{acc} = {narrow(fill(lower.step, {**values, 'acc': acc}), lower.step, node)}")
            self.targets[node] = item.target
            if isinstance(lower, Reduce) and lower.running:
                scope.known[(node, item.target)] = acc
                self.keep(node, item.buffer, item.target, acc, scope)
            return
        if isinstance(lower, Reduce) and lower.running:
            text = narrow(fill(lower.step, {**values, "acc": self.before(item, lower, scope)}), lower.step, node)
            text = self.assign(self.hint(node) + self.suffix(item.target), text, scope)
            scope.known[(node, item.target)] = text
            self.keep(node, item.buffer, item.target, text, scope)
            return
        if self.plan.buffers[item.buffer].place == "scalar":
            to = self.scalars.get(item.buffer) or self.names.claim(node.op.name)
            self.scalars[item.buffer] = to
        else:
            to = self.place(item.buffer, item.target, scope)
        scope.lines.append(f"{to} = {narrow(fill(lower.step, {**values, 'acc': to}), lower.step, node)}")

    def before(self, item: Step, lower: Reduce, scope: Scope) -> str:
        """The value that a running accumulation in memory continues: of the step before, or its first one."""
        at = item.target[item.axis]
        text, used = self.coordinate(at, scope), self.loop_variables(at)
        first = self.hoisted("first", f"{text} == 0", used, scope)
        place = Symbol(self.hoisted("before", f"max({text} - 1, 0)", used, scope), "var")
        self.variables[place], self.depends[place] = place.name, used
        value = self.assign("last", self.place(item.buffer, item.before(symbol(place)), scope), scope)
        return f"({typed(lower.init(item.node.dtype), item.node.dtype)} if {first} else {value})"

    def whole(self, item: Whole, scope: Scope) -> None:
        node, lower = item.node, item.node.op.lower
        assert isinstance(lower, Call)
        arrays = [self.array(item.buffer), *(self.array(self.storage.buffer(x)) for x in node.args)]
        alone = str(not self.module.threads)
        scope.lines.append(f"m.{lower.function}({', '.join([*arrays, *lower.params(node.params), alone])})")

    def tile(self, item: Tile, scope: Scope) -> None:
        """Calls of the product kernel, in loops over the letters that it does not cover."""
        product = contraction(self.plan, item, self.blocks)
        spec: str = item.node.params["spec"]
        x, y, out = (self.array(array) for array in (*product.arrays, item.buffer))
        loops = {**product.loops, **product.summed}
        names = dict(zip(loops, self.loop_names[scope.depth :], strict=False))
        self.variables |= {Symbol(letter, "var"): name for letter, name in names.items()}
        alone = shared(item) and not self.module.threads

        def call(starts: Sequence[Dim], extents: Sequence[Dim], more: bool) -> str:
            numbers = [*starts, *extents, *(d for group in product.strides for d in group)]
            at = ", ".join(self.coordinate(d, scope) for d in numbers)
            flags = f", {more}, True" if alone else ", True" if more else ""
            return f"m.contract({x}, {y}, {out}, {at}{flags})  # {spec}"

        indent = ""
        for letter, extent in product.loops.items():
            scope.lines.append(f"{indent}for {names[letter]} in range({self.coordinate(extent, scope)}):")
            indent += "    "
        if product.summed and not item.more:  # zeros first, by a sum of nothing
            scope.lines.append(indent + call((0, 0, product.starts[2]), (*product.extents[:3], 0), False))
        for letter, extent in product.summed.items():
            scope.lines.append(f"{indent}for {names[letter]} in range({self.coordinate(extent, scope)}):")
            indent += "    "
        scope.lines.append(indent + call(product.starts, product.extents, item.more or bool(product.summed)))

    # elements --------------------------------------------------------------------------------------------------------

    def element(self, node: Node, index: Coordinates, scope: Scope) -> str:
        """Element ``index`` of ``node`` as source, valid in ``scope``."""
        key = (node, index)
        self.counts[key] += self.counting
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

    def hint(self, node: Node) -> str:
        """What to call a value: the user's name, or the operation's; a reshape is called as what it is of."""
        while node.name is None and isinstance(node.op.lower, View) and node.op.lower.alias:
            node = node.args[0]
        return self.module.arrays[node] if isinstance(node.op.lower, Source) else node.name or node.op.name

    def suffix(self, index: Coordinates) -> str:
        """``_ij`` for the element at ``[i, j]``; nothing where a coordinate is more than a loop variable."""
        found = [d for d in index if d != 0]
        loops = self.variables.keys() - self.depends.keys()
        plain = [self.variables[s] for d in found for s in symbols(d) if s in loops and is_var(d, s)]
        return "_" + "".join(plain) if plain and len(plain) == len(found) else ""

    def share(self, key: object, text: str, scope: Scope, home: Scope, hint: str) -> str:
        """Give an expression a name where it is used again, is long, or belongs outside of an inner loop."""
        if is_literal(text) or text.isidentifier():
            return text
        if self.counting or self.counts[key] > 1 or home is not scope or len(text) > LONG:
            text = self.assign(hint, text, home)
            home.known[key] = text
        return text

    def home(self, node: Node, index: Coordinates, scope: Scope) -> Scope:
        """The outermost scope where an element may be computed.

        All it needs is known there and nothing changes inside.
        """
        found = self.loop_variables(*index)
        found |= {s for value in node.params.values() if isinstance(value, Expr) for s in symbols(value)}
        ends = [self.counted[s] for s in found if s in self.counted]  # what it is made of is known there
        reads: set[Node] | None = None
        while (
            scope not in ends
            and scope.loop is not None
            and not scope.closed
            and scope.parent is not None
            and scope.loop.var not in found
        ):
            if reads is None:
                places = self.storage.element_reads(node, index) + self.storage.run_time_reads(index)
                reads = {n for n, _ in places}
                found |= {v for _, at in places for d in at or () for v in symbols(d)}
                if scope.loop.var in found:  # a view of a slice that a step of the loop reads
                    break
            if not reads.isdisjoint(scope.loop.writes):
                break
            scope = scope.parent
        return scope

    def assign(self, hint: str, text: str, scope: Scope) -> str:
        name = self.names.claim(hint)
        scope.lines.append(f"{name} = {text}")
        return name

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

    def flat(self, array: str) -> str:
        key = ("flat", array)
        scope = next((scope for scope in self.counted.values() if array in scope.known.values()), self.root)
        known = scope.find(key)
        if known is None:
            known = self.assign(f"{array}_flat", f"m.flat({array})", scope)
            scope.known[key] = known
        return known

    def guarded(self, node: Node, guards: Sequence[Guard], index: Coordinates, scope: Scope) -> str:
        """An element where the guards hold, else the fill value; nothing is read from where they do not."""
        bounds = [self.bounds(guard) for guard in guards]
        conditions: list[str] = []
        for guard, (low, high) in zip(guards, bounds, strict=True):
            value = self.coordinate(guard.value, scope)
            if low or high:
                above = f" < {self.module.size(guard.extent)}" if high else ""
                conditions.append(f"{'0 <= ' if low else ''}{value}{above}")
            if guard.step != 1:
                conditions.append(f"({value}) % {guard.step} == 0")
        condition = " and ".join(conditions)
        x, otherwise = node.args[0], literal(node.params["fill"], node.dtype)
        if not conditions:
            return self.element(x, index, scope)
        checked = [(guard, bound) for guard, bound in zip(guards, bounds, strict=True) if any(bound) or guard.step != 1]
        if self.steady([guard for guard, _ in checked], index, scope):
            moved = {guard.value: self.bounded(guard, *bound, scope) for guard, bound in checked}
            used = self.loop_variables(*(guard.value for guard, _ in checked))
            inside = self.hoisted("inside", condition, used, scope)
            value = self.element(x, tuple(moved.get(d, d) for d in index), scope)
            if not (value.isidentifier() or is_literal(value)):
                value = self.assign(self.hint(x), value, scope)
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

    def hoisted(self, hint: str, text: str, used: set[Symbol], scope: Scope) -> str:
        """The name of an expression of the loop variables ``used``, computed where all of them are known."""
        while scope.loop is not None and not scope.closed and scope.parent is not None and scope.loop.var not in used:
            scope = scope.parent
        name = scope.find(("hoisted", text)) or self.assign(hint, text, scope)
        scope.known["hoisted", text] = name
        return name

    def loop_variables(self, *index: Dim) -> set[Symbol]:
        """What coordinates are made of."""
        found = set[Symbol]().union(*map(symbols, index))
        return found.union(*(self.depends[s] for s in found if s in self.depends))

    def surely_below(self, value: Dim, extent: Dim) -> bool:
        """Whether ``value < extent`` wherever the loops come to, as a polynomial that rises in each variable shows."""
        highest = value
        if isinstance(value, Expr):
            if any(m and (c < 0 or not all(isinstance(a, Symbol) for a, _ in m)) for m, c in value.terms.items()):
                return False
            last: dict[Symbol, Dim] = {s: add(self.extents[s], -1) for s in symbols(value) if s in self.extents}
            highest = substitute(value, last)
        return known_ge(extent, add(highest, 1))

    def map(self, node: Node, lower: Map, index: Coordinates, scope: Scope) -> str:
        template = lower.code if isinstance(lower.code, str) else lower.code(node)
        values = {"t": CODE[node.dtype]}
        for name, x in zip("xyzuvw", node.args, strict=False):
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
        return narrow(fill(template, values), template, node)

    def coordinate(self, d: Dim, scope: Scope) -> str:
        """A coordinate as source; what it takes from arrays at run time is read and checked first."""
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
        home.lines += [f"if not 0 <= {name} < {extent}:", f"    return {code}"]
        home.known[element] = name
        return name


def steps_between(storage: Storage, loop: Loop) -> int:
    """After how many steps a loop asks whether it shall end: a tenth of a second or so, by its work."""
    work = units(storage, loop.body)
    each = evaluate(work, {s.name: GUESS for s in symbols(work)})
    return 1 << max(0, min(20, (BETWEEN // max(each, 1)).bit_length()))


def typed(text: str, dtype: np.dtype[np.generic]) -> str:
    """A start value as source of exactly this dtype."""
    code = CODE[dtype]
    return text if code in ("f8", "i8", "b1") else f"{code}({text})"


def narrow(text: str, template: str, node: Node) -> str:
    """An integer expression brought back to its dtype: Numba computes narrow integers in 64 bits."""
    code = CODE[node.dtype]
    if node.dtype.kind not in "iu" or code in ("i8", "u8") or template.startswith(("{t}(", "{value}", "m.r")):
        return text
    return f"{code}({text})"
