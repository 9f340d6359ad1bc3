"""The body of one generated function: walks the loop tree and writes its loops and choices.

It knows control flow; elements and statements are written by `elements` and `leaves`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from staticad.effort import units
from staticad.elements import Asked, Elements
from staticad.expressions import fill, is_literal, literal, narrow, typed
from staticad.ir import Node
from staticad.leaves import statement
from staticad.loops import Carry, Choice, Compute, Item, Loop, Start, Step, Test, statements
from staticad.lowering import Reduce
from staticad.runs import Run, runs
from staticad.scopes import Failure, Module, Scope
from staticad.shapes import Dim, Symbol, add, floordiv, known_ge, maximum, mul, substitute, symbol, symbols
from staticad.store import Storage
from staticad.straight import UNROLLED, copies, straight

#: Units of work (see `effort.units`; a tenth of a second or so) that a loop does before it looks for Ctrl-C, the fewest
#: that a step takes, and how many steps a loop inside is taken to have whose number is not known before.
BETWEEN, LEAST, GUESS = 1 << 31, 32, 100
#: Steps that never take long, but for loops in them, which look for themselves.
FEW = 16
#: Values that the body of a loop computes at most that is written several times.
VALUES = 64

SomeBody = TypeVar("SomeBody", bound="Body")


class Body(Elements):
    """Writes the body of one function, once; see `written`."""

    def __init__(self, module: Module, items: list[Item], copied: Sequence[Node], asked: Asked):
        super().__init__(module, asked)
        self.items = items
        self.unrolled: set[Loop] = set()  # inner loops that are best unrolled, whatever their length
        self.copied = copied
        self.ranges: dict[Loop, str] = {}

    def write(self) -> list[str]:
        self.items_into(self.items, self.root)
        for node in self.copied:
            self.copy(node, self.root)
        return self.root.lines

    def copy(self, node: Node, scope: Scope) -> None:
        """An update that could not be made in place, copied at the very end."""
        from_, to = self.array(node), self.array(self.module.targets[node])
        names = self.loop_names[: len(node.shape)]
        for depth, (name, d) in enumerate(zip(names, node.shape, strict=True)):
            scope.lines.append(f"{'    ' * depth}for {name} in range({self.module.size(d)}):")
        at = ", ".join(names) or "()"
        scope.lines.append(f"{'    ' * len(names)}{to}[{at}] = {from_}[{at}]")

    def items_into(self, items: Sequence[Item], scope: Scope) -> None:
        for item in items:
            if isinstance(item, Loop):
                self.loop(item, scope)
            elif isinstance(item, Choice):
                self.choice(item, scope)
            elif isinstance(item, Test):
                raise AssertionError("a test belongs to a loop or a choice")
            else:
                statement(self, item, scope)

    def loop(self, loop: Loop, scope: Scope) -> None:
        if loop.test:
            self.repeat_while(loop, scope)
            return
        if loop.reduces:
            self.added.update(s.node for _, s in statements(loop.body) if isinstance(s, Step) and s.more)
        for node in loop.reduces:
            lower = node.op.lower
            assert isinstance(lower, Reduce)
            name = self.names.claim(self.hint(node))
            self.accumulators[node] = name
            init = lower.part if lower.part and node in self.added else lower.init
            scope.lines.append(f"{name} = {typed(init(node.dtype), node.dtype)}")
        if loop.lanes:
            self.in_lanes(loop, scope)
            self.finish(loop, scope)
            return
        self.unrolled.update(x for x in loop.body if isinstance(x, Loop) and copies(self.plan, x, loop))
        name = self.variables[loop.var] = self.loop_names[scope.depth]
        self.extents[loop.var] = loop.extent
        if loop.within in self.lanes:
            lane = Symbol(f"{loop.within.var.name}_{loop.var.name}", "var")
            self.variables[lane], self.offsets[loop.var] = name, add(symbol(loop.within.var), symbol(lane))
        for run in self.divided(loop):
            self.runs[loop] = run
            self.run_into(loop, run, scope)
        if loop not in self.runs:
            self.run_into(loop, None, scope)
        self.finish(loop, scope)

    def divided(self, loop: Loop) -> list[Run]:
        """The runs that a loop is written as; none if it is one.

        Only an innermost loop with little in it, whose steps are independent, but for what they accumulate."""
        small = self.asked.lines.get(loop, 0) <= VALUES
        plain = all(isinstance(item, (Compute, Start, Step)) for item in loop.body)
        if self.asked.counting or not (small and plain) or loop.block or loop.within or loop.steps or loop.after:
            return []
        return runs(loop, self.asked.cuts.get(loop, ()))

    def run_into(self, loop: Loop, run: Run | None, scope: Scope) -> None:
        """All steps of a loop, or one run of them."""
        inside = Scope(scope, loop, ahead=[] if straight(self.plan, loop) else None)
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
            with self.opened(inside):
                self.items_into(loop.body, inside)
                self.carry_on(loop.after, inside)
        if inside.lines:
            parts = [] if inside.ahead else self.in_parts(loop, scope)
            head = self.head(loop, run)
            self.check(inside.ahead or [], head[0], scope)
            lines = [*head, *("    " + line for line in inside.lines)]
            scope.lines += [*parts, *(("    " if parts else "") + line for line in lines)]
        if self.asked.counting:
            self.asked.lines[loop] = len(inside.lines)

    def in_lanes(self, loop: Loop, scope: Scope) -> None:
        """Blocks of a known number of steps, and then what is left, which has arrays of its own: they stay in memory.

        Where all steps of all loops over a block are written out, its arrays are vectors in registers."""
        size, count = loop.block, loop.extent
        left = count % size if isinstance(count, int) else None
        blocks = floordiv(count, size)
        steps = {True: f"m.lanes({size})", False: f"m.lanes({left})"}
        self.variables[loop.var] = self.loop_names[scope.depth]
        self.extents[loop.var] = count
        if left is None:
            steps[False] = f"{self.module.size(count)} - {self.variables[loop.var]}"
        for full in (True, False):
            if (blocks if full else left) == 0:
                continue
            self.lanes[loop] = steps[full]
            inside = Scope(scope, loop)
            made = set(self.slots)
            with self.opened(inside):
                self.items_into(loop.body, inside)
            for buffer in self.slots.keys() - made:
                if loop in self.plan.buffers[buffer].blocks.values():
                    del self.slots[buffer]
            scope.lines += self.blocks_head(loop, blocks, full)
            scope.lines += ["    " + line for line in inside.lines]
            if self.asked.counting:
                break

    def blocks_head(self, loop: Loop, blocks: Dim, full: bool) -> list[str]:
        """How the loop over so many full blocks begins, or over what is left behind them."""
        end = self.module.size(mul(blocks, loop.block))
        ends = f"0, {end}" if full else f"{end}, {self.module.size(loop.extent)}"
        return [f"for {self.variables[loop.var]} in range({ends}, {loop.block}):"]

    def in_parts(self, loop: Loop, scope: Scope) -> list[str]:
        """The head of a loop over parts of a loop that may take long, which looks for Ctrl-C between them."""
        if loop.steps is None or not may_take_long(self.storage, loop):
            return []
        first, last = self.ends(loop)
        start = self.names.claim(f"{self.variables[loop.var]}_start")
        between = self.between(loop, scope)
        self.ranges[loop] = f"{start}, min({start} + {between}, {last})"
        asked = ["    " + line for line in self.asked_to_end()]
        head = f"for {start} in range({first}, {last}, {between}):"
        return [head, f"    if {start} > {first}:", *("    " + x for x in asked)]

    def ends(self, loop: Loop) -> tuple[str, str]:
        """The first step of a loop and the one after its last, as source."""
        return "0", self.module.size(loop.extent)

    def between(self, loop: Loop, scope: Scope) -> str:
        """The number of steps of a loop from one look for Ctrl-C to the next."""
        steps = steps_between(self.storage, loop)
        return str(steps) if isinstance(steps, int) else self.assign("between", self.module.size(steps), scope)

    def asked_to_end(self) -> list[str]:
        """Look for Ctrl-C."""
        code = self.module.status(Failure("interrupt", "interrupted"))
        return ["if m.interrupted():", f"    return {code}"]

    def check(self, ahead: Sequence[tuple[str, str, int]], head: str, scope: Scope) -> None:
        """Look at all indices that the steps of a loop read, before its ``head``: what branches does not vectorise."""
        found = [(self.names.claim("outside"), *index) for index in ahead]
        scope.lines += [f"{name} = 0" for name, *_ in found]
        scope.lines += [head] if found else []
        scope.lines += [f"    {name} |= m.outside({value}, {extent})" for name, value, extent, _ in found]
        for name, *_, code in found:
            scope.lines += [f"if {name}:", f"    return {code}"]

    def head(self, loop: Loop, run: Run | None) -> list[str]:
        """How a loop, or one run of its steps, begins; lines after the first belong to its body."""
        if run is None:
            steps = self.steps(loop)
        else:
            first = "" if run.first == 0 else f"{self.module.size(run.first)}, "
            steps = first + self.module.size(run.end)
        return [f"for {self.variables[loop.var]} in range({steps}):"]

    def steps(self, loop: Loop) -> str:
        """How many steps a loop takes; those that would be unrolled instead of vectorised do not tell the optimiser."""
        size = self.module.size(loop.extent)
        if loop.steps is not None and loop.steps.unroll > 1:
            return f"{self.ranges.get(loop, f'0, {size}')}, m.unroll({loop.steps.unroll})"
        if loop in self.ranges:
            return self.ranges[loop]
        if loop.block:
            return f"0, {size}, {loop.block}"
        if loop.within in self.lanes:
            return self.lanes[loop.within]
        if loop.within:
            return f"{self.variables[loop.within.var]}, {self.variables[loop.within.end]}"
        if loop in self.unrolled or any(isinstance(item, Loop) for item in loop.body) or loop.extent not in UNROLLED:
            return size
        largest = max(s.node.dtype.itemsize for _, s in statements(loop.body))
        return f"m.steps({size})" if largest == 4 else f"m.steps({size}, {largest})"

    def finish(self, loop: Loop, scope: Scope) -> None:
        """What a loop has accumulated is there."""
        for node in loop.reduces:
            lower = node.op.lower
            assert isinstance(lower, Reduce)
            if not lower.running:
                target = self.targets[node]
                text, buffer = self.accumulators[node], self.storage.root[node]
                if node in self.added:
                    place = self.place(buffer, target, scope)
                    text = narrow(fill(lower.step, {"acc": place, "x": text}), lower.step, node.dtype)
                else:
                    scope.known[(node, target)] = text
                self.keep(node, buffer, target, text, scope)

    def repeat_while(self, loop: Loop, scope: Scope) -> None:
        """A loop whose steps go on as long as a test holds; they are counted."""
        assert loop.steps is not None
        counted = self.variables[loop.var] = self.names.claim("steps")
        self.extents[loop.var] = loop.extent
        (number,) = symbols(loop.extent)
        assert isinstance(number, Symbol)
        inside = Scope(scope, loop)
        with self.opened(inside):
            self.while_step(loop, counted, inside)
        between = self.between(loop, scope)
        scope.lines += [f"{counted} = 0", "while True:", *("    " + line for line in inside.lines)]
        scope.lines.append(f"    {counted} += 1")
        looked = counted
        if scope is not self.root:  # it may be over soon, but be there again in the next step of a loop around
            looked = self.assign("looked", "0", self.root)
            scope.lines.append(f"    {looked} += 1")
        scope.lines.append(f"    if {looked} % {between} == 0:")
        scope.lines += ["        " + line for line in self.asked_to_end()]
        self.module.sizes[number] = counted
        self.counted[number] = scope
        for buffer in loop.writes:
            self.rows.pop(buffer, None)

    def while_step(self, loop: Loop, counted: str, inside: Scope) -> None:
        """The test of a loop, and a step of it if that holds."""
        assert loop.steps is not None
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
            with self.opened(inside):
                self.items_into(items, inside)
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


def written(make: Callable[[Asked], SomeBody]) -> tuple[SomeBody, list[str]]:
    """The body that ``make`` makes, and its lines: written twice, first only to find out what is asked for."""
    asked = Asked()
    make(asked).write()
    asked.counting = False
    body = make(asked)
    return body, body.write()


def step_work(storage: Storage, loop: Loop) -> Dim:
    """The units of work of a step; those of loops inside whose steps are not known before are guessed."""
    work = units(storage, loop.body)
    return substitute(work, {s: GUESS for s in symbols(work) if s.kind != "dim"})


def may_take_long(storage: Storage, loop: Loop) -> bool:
    """Whether a loop over steps may go on for so long that somebody wants it to end."""
    if isinstance(loop.extent, int) and loop.extent <= FEW:
        return False
    return not known_ge(BETWEEN, mul(maximum(step_work(storage, loop), LEAST), loop.extent))


def steps_between(storage: Storage, loop: Loop) -> Dim:
    """After how many steps a loop asks whether it shall end: a tenth of a second or so, by its work."""
    steps = maximum(floordiv(BETWEEN, maximum(step_work(storage, loop), LEAST)), 1)
    return 1 << (steps.bit_length() - 1) if isinstance(steps, int) else steps
