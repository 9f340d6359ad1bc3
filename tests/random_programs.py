"""Random programs with loops and branches in each other, whatever their library: tables of lines, and their writer.

Every value is kept within a bound by construction, so that derivatives of any order stay tame. Knows nothing of what
runs them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from math import exp, prod
from typing import Any

from program_text import (
    BOUND,
    INPUTS,
    Function,
    Line,
    Program,
    Shape,
    Size,
    Var,
    constant_text,
    leaves,
    pruned,
    replaced,
    shape_text,
    size_text,
)

# ---- tables: texts, and how large what they give can be


UNARY: list[tuple[str, Callable[[float], float]]] = [
    ("p.sin({0})", lambda a: 1.0), ("p.cos({0})", lambda a: 1.0), ("p.tanh({0})", lambda a: 1.0),
    ("p.exp(-{0} * {0})", lambda a: 1.0), ("p.exp(0.4 * {0})", lambda a: exp(0.4 * a)),
    ("p.log1p({0} * {0})", lambda a: 2.4), ("p.sqrt(1.0 + {0} * {0})", lambda a: 1.0 + a),
    ("1.0 / (1.0 + {0} * {0})", lambda a: 1.0), ("p.atan({0})", lambda a: 1.6), ("p.sigmoid({0})", lambda a: 1.0),
    ("p.softplus({0})", lambda a: a + 0.7), ("{0} ** 2", lambda a: a * a), ("0.2 * {0} ** 3", lambda a: 0.2 * a**3),
    ("p.abs({0} + 0.137)", lambda a: a + 0.2), ("-{0}", lambda a: a), ("0.5 * {0} + 0.25", lambda a: 0.5 * a + 0.25),
    ("p.expm1(0.3 * {0})", lambda a: exp(0.3 * a)), ("p.log(1.5 + {0} * {0})", lambda a: 2.4),
    ("p.where({0} > 0.217, {0} * {0}, 0.5 * {0})", lambda a: a * a), ("p.clip({0}, -0.813, 0.791)", lambda a: 1.0),
    ("p.stop_gradient({0}) * {0}", lambda a: a * a), ("p.bent({0})", lambda a: 1.0), ("p.curved({0})", lambda a: 1.0),
]  # fmt: skip

BINARY: list[tuple[str, Callable[[float, float], float]]] = [
    ("{0} + {1}", lambda a, b: a + b), ("{0} - 0.5 * {1}", lambda a, b: a + 0.5 * b),
    ("{0} * {1}", lambda a, b: a * b), ("{0} * {1}", lambda a, b: a * b),
    ("p.sin({0} + {1})", lambda a, b: 1.0), ("p.tanh({0} * {1} + 0.3)", lambda a, b: 1.0),
    ("{0} / (1.5 + {1} * {1})", lambda a, b: a), ("p.maximum({0}, 0.3 * {1} + 0.071)", max),
    ("p.minimum({0}, {1} - 0.093)", lambda a, b: max(a, b + 0.1)),
    ("p.where({0} > 0.173, {1}, 0.5 * {0})", max), ("p.exp(-{0} * {0}) * {1}", lambda a, b: b),
    ("p.atan2({0}, 1.3 + {1} * {1})", lambda a, b: 1.6), ("p.logaddexp({0}, {1})", lambda a, b: max(a, b) + 0.7),
    ("(1.2 + {0} * {0}) ** (0.3 * {1})", lambda a, b: (1.2 + a * a) ** (0.3 * b)),
    ("p.product_bent({0}, {1})", lambda a, b: a * b),
]  # fmt: skip

#: Over some axes, or over all.
REDUCE: list[tuple[str, Callable[[float, int], float]]] = [
    ("p.sum({0}{axis})", lambda a, n: a * n), ("p.mean({0}{axis})", lambda a, n: a),
    ("p.sum({0} * {0}{axis})", lambda a, n: a * a * n), ("p.logsumexp({0}{axis})", lambda a, n: a + n),
    ("p.max({0}{axis})", lambda a, n: a), ("p.min({0}{axis})", lambda a, n: a),
    ("p.var({0}{axis})", lambda a, n: a * a),
    ("p.prod(1.1 + 0.1 * {0}{axis})", lambda a, n: (1.1 + 0.1 * a) ** n),
]  # fmt: skip
#: Reductions that need an element.
OF_SOME = ("mean", "max", "min", "var", "logsumexp")

#: Along one axis, which stays.
ALONG: list[tuple[str, Callable[[float, int], float]]] = [
    ("p.cumsum({0}, axis={axis})", lambda a, n: a * n), ("p.flip({0}, axis={axis})", lambda a, n: a),
    ("p.cumprod(1.05 + 0.1 * {0}, axis={axis})", lambda a, n: (1.05 + 0.1 * a) ** n),
    ("p.roll({0}, 1, axis={axis})", lambda a, n: a),
]  # fmt: skip

#: Sizes that may be none.
EMPTY = {"t", 0}
#: What an n counts as in a bound; the sizes a test gives are no larger.
MOST = 4

#: Operations that are associative, on one array or on two.
ASSOCIATIVE = [
    ("lambda a, b: a + b", 1), ("lambda a, b: a * b", 1), ("lambda a, b: p.maximum(a, b)", 1),
    ("lambda a, b: (a[0] * b[0], a[1] * b[0] + b[1])", 2),
]  # fmt: skip

#: What is made of a square matrix ``a`` that is far from singular, and of a vector or a matrix b.
SYSTEMS: list[tuple[str, str]] = [
    ("p.linalg.solve({a}, {1})", "vector"), ("p.linalg.solve({a}, {1})", "matrix"), ("p.linalg.inv({a})", "square"),
    ("p.linalg.det({a})", "scalar"), ("p.linalg.slogdet({a})[1]", "scalar"), ("p.linalg.cholesky({spd})", "square"),
    ("p.solve_triangular(p.linalg.cholesky({spd}), {1}, lower=True)", "vector"),
    ("p.linalg.matrix_power(0.3 * {a}, 3)", "square"), ("p.linalg.solve({spd}, {1})", "vector"),
]  # fmt: skip


def broadcast(x: Shape, y: Shape) -> Shape | None:
    """The shape of two shapes together."""
    rank = max(len(x), len(y))
    x, y = (1,) * (rank - len(x)) + x, (1,) * (rank - len(y)) + y
    if any(a != b and 1 not in (a, b) for a, b in zip(x, y, strict=True)):
        return None
    return tuple(b if a == 1 else a for a, b in zip(x, y, strict=True))


def count(shape: Shape) -> int:
    return prod(MOST if isinstance(d, str) else d for d in shape)


class Writer:
    """Writes a program one random line at a time."""

    def __init__(self, seed: int, depth: int = 3, often: Sequence[str] = ()):
        self.r = random.Random(seed)
        self.depth = depth
        #: Kinds of lines that are written more often than others.
        self.often = often
        self.number = 0
        self.visible: list[Var] = list(INPUTS)
        self.lines: list[Line] = []
        #: How many of the visible values were there before the innermost function.
        self.before = 0
        #: How much a step of the loops around is run, so that nests of loops stay short.
        self.weight = 1

    # ---- values

    def name(self, prefix: str) -> str:
        self.number += 1
        return f"{prefix}{self.number}"

    def emit(self, text: str, given: Sequence[Any], shape: Shape, bound: float = BOUND, kind: str = "f") -> Var:
        """A line, and what it gives."""
        if kind == "f" and bound > BOUND:
            text, bound = self.r.choice([f"p.tanh({text})", f"p.sin({text})", f"2.0 * p.tanh(0.3 * ({text}))"]), 2.0
        out = Var(self.name("a"), shape, kind, bound)
        self.add(Line(out, text, list(given)))
        return out

    def add(self, line: Line) -> None:
        self.lines.append(line)
        self.visible += leaves(line.out)

    def some(self, test: Callable[[Var], bool]) -> Var | None:
        """A visible value, rather one of the innermost function, and rather a late one."""
        found = [x for x in self.visible if test(x)]
        if not found:
            return None
        own = [x for x in self.visible[self.before :] if test(x)]
        if own and self.r.random() < 0.6:
            return self.r.choice(own)
        return self.r.choice(found[-5:] if self.r.random() < 0.7 else found)

    def float_(self, test: Callable[[Var], bool] = lambda x: True) -> Var | None:
        return self.some(lambda x: x.kind == "f" and test(x))

    def integer(self) -> Var:
        found = self.some(lambda x: x.kind == "i" and x.shape == ())
        assert found is not None
        return found

    def truth(self) -> Var:
        r = self.r.random()
        if r < 0.3:
            return self.emit("{0} % 2 == 0", [self.integer()], (), kind="b")
        x = self.of(())
        return self.emit(f"{{0}} > {self.r.choice([-0.231, 0.1093, 0.417])}", [x], (), kind="b")

    def of(self, shape: Shape, kind: str = "f", new: float = 0.4) -> Var:
        """A value of a type, one that is there or a new one."""
        there = self.some(lambda x: x.kind == kind and x.shape == shape)
        if there is not None and self.r.random() >= new:
            return there
        if kind == "i":
            if shape:
                return there or self.constant(shape, kind)
            text, given = self.r.choice([
                ("{0} + 1", [self.integer()]), ("({0} * 3 + {1}) % 7", [self.integer(), self.integer()]),
                ("p.argmax({0})", [self.of((3,))]),
                ("p.where({0} > 0.1, {1}, 2)", [self.of(()), self.integer()]),
            ])  # fmt: skip
            return self.emit(text, given, (), kind="i")
        if kind == "b":
            return self.truth()
        x, y = (self.float_(lambda x: broadcast(x.shape, shape) == shape) for _ in range(2))
        if x is None or y is None:
            return self.constant(shape, kind)
        text, bound = self.r.choice(BINARY)
        if broadcast(x.shape, y.shape) != shape:
            text = f"p.broadcast_to({text}, {shape_text(shape)})"
        return self.emit(text, [x, y], shape, bound(x.bound, y.bound))

    def constant(self, shape: Shape, kind: str) -> Var:
        return self.emit(*constant_text(shape, kind), shape, 0.5, kind)

    def nest(self, values: Sequence[Var]) -> Any:
        """The values as they are, or in some nest."""
        values = list(values)
        if len(values) == 1 and self.r.random() < 0.6:
            return values[0]
        how = self.r.randrange(4)
        if how == 0:
            return values
        if how == 1:
            return {f"k{len(values) - k}": x for k, x in enumerate(values)}
        if how == 2 and len(values) > 1:
            return (values[0], {"rest": tuple(values[1:])})
        return tuple(values)

    # ---- lines without functions

    def unary(self) -> Var:
        x = self.float_()
        assert x is not None
        text, bound = self.r.choice(UNARY)
        return self.emit(text, [x], x.shape, bound(x.bound))

    def binary(self) -> Var | None:
        x = self.float_()
        assert x is not None
        y = self.float_(lambda y: broadcast(x.shape, y.shape) is not None)
        assert y is not None
        shape = broadcast(x.shape, y.shape)
        text, bound = self.r.choice(BINARY)
        return None if shape is None or len(shape) > 3 else self.emit(text, [x, y], shape, bound(x.bound, y.bound))

    def reduce(self) -> Var | None:
        x = self.float_(lambda x: len(x.shape) > 0)
        if x is None:
            return None
        axes = sorted(self.r.sample(range(len(x.shape)), self.r.randint(1, len(x.shape))))
        gone = tuple(x.shape[k] for k in axes)
        text, bound = self.r.choice(REDUCE)
        if not EMPTY.isdisjoint(gone) and any(name in text for name in OF_SOME):
            return None
        kept = self.r.random() < 0.2
        shape = tuple(1 if k in axes else d for k, d in enumerate(x.shape) if kept or k not in axes)
        every = len(axes) == len(x.shape) and not kept and self.r.random() < 0.7
        axis = "" if every else f", axis={axes[0] if len(axes) == 1 else tuple(axes)}{', keepdims=True' * kept}"
        return self.emit(text.replace("{axis}", axis), [x], shape, bound(x.bound, count(gone)))

    def along(self) -> Var | None:
        x = self.float_(lambda x: len(x.shape) > 0)
        if x is None:
            return None
        axis = self.r.randrange(len(x.shape))
        text, bound = self.r.choice(ALONG)
        return self.emit(
            text.replace("{axis}", str(axis)), [x], x.shape, bound(x.bound, count(x.shape[axis : axis + 1]))
        )

    def product(self) -> Var | None:
        x = self.float_(lambda x: 1 <= len(x.shape) <= 2)
        if x is None:
            return None
        y = self.float_(lambda y: 1 <= len(y.shape) <= 2 and y.shape[0] == x.shape[-1])
        if y is None:
            return None
        shape = (*x.shape[:-1], *y.shape[1:])
        letters, after = ("a", "ai")[len(x.shape) - 1][::-1], ("a", "aj")[len(y.shape) - 1]
        einsum = f'p.einsum("{letters},{after}->{(letters + after).replace("a", "")}", {{0}}, {{1}})'
        return self.emit(self.r.choice(["{0} @ {1}", einsum]), [x, y], shape, x.bound * y.bound * count((x.shape[-1],)))

    def turn(self) -> Var | None:
        x = self.float_(lambda x: len(x.shape) > 0)
        if x is None:
            return None
        rank = len(x.shape)
        kind = self.r.randrange(5)
        if kind == 0 and rank > 1:
            return self.emit("{0}.T", [x], x.shape[::-1], x.bound)
        if kind == 1 and rank < 3:
            axis = self.r.randrange(rank + 1)
            key = ", ".join([":"] * axis + ["None"])
            return self.emit(f"{{0}}[{key}]", [x], (*x.shape[:axis], 1, *x.shape[axis:]), x.bound)
        if kind == 2 and isinstance(x.shape[0], int) and x.shape[0] > 1:
            return self.emit("{0}[1:]", [x], (x.shape[0] - 1, *x.shape[1:]), x.bound)
        if kind == 3 and rank == 2:
            return self.emit("p.reshape({0}, (-1,))", [x], (x.shape[0] * x.shape[1],), x.bound) if static(x) else None
        if kind == 4 and isinstance(x.shape[0], int):
            y = self.of(x.shape)
            return self.emit("p.concat([{0}, {1}])", [x, y], (2 * x.shape[0], *x.shape[1:]), max(x.bound, y.bound))
        return self.emit("p.stack([{0}, {1}])", [x, y := self.of(x.shape)], (2, *x.shape), max(x.bound, y.bound))

    def index(self) -> Var | None:
        """An element or a row, at a place known or not; several; each the other way round."""
        x = self.float_(lambda x: len(x.shape) > 0 and x.shape[0] not in EMPTY)
        if x is None:
            return None
        rest = x.shape[1:]
        place = self.r.choice(["0", "-1", "{1} % " + size_text(x.shape[0]), "{1} % " + size_text(x.shape[0]), "{2}"])
        if place == "{2}":
            at = self.of(("n",), "i")
            return self.emit(f"{{0}}[{{1}} % {size_text(x.shape[0])}]", [x, at], ("n", *rest), x.bound)
        return self.emit(f"{{0}}[{place}]", [x, self.integer()], rest, x.bound)

    def update(self) -> Var | None:
        """``x.at[...]``, of an element, a row, or of several."""
        x = self.float_(lambda x: len(x.shape) > 0 and x.shape[0] not in EMPTY)
        if x is None:
            return None
        size, rest = size_text(x.shape[0]), x.shape[1:]
        how = self.r.choice(["set", "add", "multiply"])
        bound = {"set": max, "add": lambda a, b: a + b, "multiply": lambda a, b: a * b}[how]
        if self.r.random() < 0.2:
            at, y = self.of(("n",), "i"), self.of(("n", *rest))
            return self.emit(f"{{0}}.at[{{1}} % {size}].add({{2}})", [x, at, y], x.shape, x.bound + MOST * y.bound)
        k, y = self.integer(), self.of(rest)
        places = [("0", 1), ("-1", 1), ("{1} % " + size, 3)]
        if rest and rest[0] not in EMPTY:
            places.append((f"{{1}} % {size}, 0", 2))
        place = self.r.choices([a for a, _ in places], [b for _, b in places])[0]
        if "," in place:
            y = self.of(rest[1:])
        return self.emit(f"{{0}}.at[{place}].{how}({{2}})", [x, k, y], x.shape, bound(x.bound, y.bound))

    def system(self) -> Var | None:
        x = self.of((3, 3), new=0.2)
        text, kind = self.r.choice(SYSTEMS)
        a = "(2.0 * p.eye(3, dtype=p.float) + 0.3 * p.tanh({0}))"
        text = text.replace("{a}", a).replace("{spd}", "(0.1 * {0} @ {0}.T + p.eye(3, dtype=p.float))")
        shape = {"vector": (3,), "matrix": (3, 2), "square": (3, 3), "scalar": ()}[kind]
        return self.emit(text, [x, self.of(shape)], shape, BOUND + 1)

    def associative(self) -> Var | None:
        text, count_ = self.r.choice(ASSOCIATIVE)
        x = self.float_(lambda x: len(x.shape) > 0 and x.shape[0] not in EMPTY)
        if x is None:
            return None
        axis = self.r.randrange(len(x.shape))
        axis = 0 if x.shape[axis] in EMPTY else axis
        end = f", reverse={self.r.random() < 0.5}, axis={axis})"
        if count_ == 1:
            return self.emit(f"p.associative_scan({text}, 0.9 * p.tanh({{0}}){end}", [x], x.shape, count(x.shape))
        y = self.of(x.shape)
        return self.emit(f"p.associative_scan({text}, (0.9 * p.tanh({{0}}), {{1}}){end}[1]", [x, y], x.shape, 9.0)

    # ---- lines with functions

    def function(self, parameters: list[Any], finish: Callable[[], Any], lines: int | None = None) -> Function:
        """A function of ``parameters`` of a few lines and of what ``finish`` returns."""
        outer = self.lines, self.visible, self.before
        self.lines, self.before = [], len(self.visible)
        self.visible = [*self.visible, *(x for nest in parameters for x in leaves(nest))]
        self.depth -= 1
        f = Function(self.name("f"), parameters, self.lines)
        for _ in range(self.r.choice([0, 1, 1, 2, 3]) if lines is None else lines):
            self.grow()
        f.out = finish()
        self.depth += 1
        self.lines, self.visible, self.before = outer
        return f

    def like(self, x: Var, bound: float | None = None) -> Var:
        """A parameter of the type of ``x``."""
        return Var(self.name("b"), x.shape, x.kind, x.bound if bound is None else bound)

    def again(self, x: Var) -> Var:
        """A value of the type of ``x`` for the next step, rather a new one."""
        return self.of(x.shape, x.kind, 0.7)

    def carried(self) -> list[Var]:
        """What a loop begins with."""
        some = [self.float_() for _ in range(self.r.choice([1, 1, 2, 2, 3]))]
        found = [x for x in some if x is not None]
        if self.r.random() < 0.3:
            found.insert(self.r.randint(0, len(found)), self.integer())
        return found

    def scan(self) -> Any:
        start = self.carried()
        sized = self.float_(lambda x: len(x.shape) > 0)
        size: Size = self.r.choice([0, 1, 2, 3]) if sized is None or self.r.random() < 0.3 else sized.shape[0]
        same = [x for x in self.visible if x.shape[:1] == (size,)]
        xs = self.r.sample(same, min(len(same), self.r.choice([1, 1, 2]))) if self.r.random() < 0.8 else []
        into = replaced(init := self.nest(start), lambda x: self.like(x, BOUND))
        slices = replaced(self.nest(xs), lambda x: Var(self.name("x"), x.shape[1:], x.kind, x.bound)) if xs else None
        ys: list[Var] = []

        def finish() -> Any:
            nexts = replaced(into, self.again)
            ys.extend(self.of(self.r.choice([(), (3,), *(x.shape for x in start)])) for _ in range(self.r.randrange(3)))
            return (nexts, self.nest(ys) if ys else None)

        f = self.in_loop(
            count((size,)),
            lambda: self.function([into, Var(self.name("none"), (), "n") if slices is None else slices], finish),
        )
        options = self.r.choice(["", "", ", reverse=True"])
        options += self.r.choice([""] * 5 + [", unroll=2", ", unroll=3"])
        options += self.r.choice([""] * 4 + [", checkpoint=2", ", checkpoint=1"])
        finals, kept = f.out
        stacked = replaced(kept, lambda y: Var(self.name("a"), (size, *y.shape), y.kind, y.bound))
        ends = replaced(finals, lambda x: Var(self.name("a"), x.shape, x.kind, BOUND))
        if slices is None:
            text = f"p.scan({{f}}, {{0}}, length={size_text(size)}{options})"
            return self.line((ends, stacked), text, [init], [f])
        order = iter(xs)
        return self.line((ends, stacked), f"p.scan({{f}}, {{0}}, {{1}}{options})",
                         [init, replaced(slices, lambda _: next(order))], [f])  # fmt: skip

    def in_loop(self, times: int, make: Callable[[], Function]) -> Function:
        outer, self.weight = self.weight, self.weight * max(times, 1)
        f = make()
        self.weight = outer
        return f

    def line(self, out: Any, text: str, given: list[Any], functions: list[Function]) -> Any:
        self.add(Line(out, text, given, functions))
        return out

    def while_loop(self) -> Any:
        start = [x for x in self.carried() if x.kind == "f"] or [self.of(())]
        steps = self.r.choice([0, 1, 2, 3])
        first = self.emit(self.r.choice(["{0} % 2", "0 * {0}"]), [self.integer()], (), kind="i")
        init = (first, self.nest(start))
        given, into = (replaced(init, lambda x: self.like(x, BOUND)) for _ in range(2))
        going = self.function([given], lambda: self.going(given, steps), lines=0)

        def finish() -> Any:
            return (self.emit("{0} + 1", [into[0]], (), kind="i"), replaced(into[1], self.again))

        f = self.in_loop(max(steps, 1), lambda: self.function([into], finish))
        limit = self.r.choice(["", "", ", max_steps=9"])
        out = replaced(f.out, lambda x: Var(self.name("a"), x.shape, x.kind, BOUND))
        return self.line(out, f"p.while_loop({{f}}, {{g}}, {{0}}{limit})", [init], [going, f])

    def going(self, given: Any, steps: int) -> Var:
        x = next((x for x in leaves(given[1]) if x.shape != ("t",)), None)
        text = f"{{0}} < {steps}"
        if x is not None and self.r.random() < 0.6:
            text = f"({text}) & (p.sum({{1}}) < {self.r.choice([-0.3107, 0.6133, 1.7301, 2.9177])})"
        return self.emit(text, [given[0], x], (), kind="b")

    def branches(self, number: int, selector: str, given: list[Any]) -> Any:
        operands = [x for x in (self.float_() for _ in range(self.r.randrange(3))) if x is not None]
        nest = [self.nest([x]) for x in operands]
        shapes = [self.r.choice([(), (3,), *(x.shape for x in operands)]) for _ in range(self.r.choice([1, 1, 2, 3]))]
        form: list[Any] = []

        def finish() -> Any:
            values = [self.of(shape) for shape in shapes]
            if not form:
                form.append(self.nest(values))
                return form[0]
            left = iter(values)
            return replaced(form[0], lambda _: next(left))

        functions = [self.function([replaced(x, self.like) for x in nest], finish) for _ in range(number)]
        names = ["{f}", "{g}", "{h}"][:number]
        chosen = ", ".join(names) if selector == "cond" else f"[{', '.join(names)}]"
        operands_text = "".join(f", {{{len(given) + k}}}" for k in range(len(nest)))
        index = "{0}" if selector == "cond" else f"{{0}} % {number}"
        out = replaced(form[0], lambda x: Var(self.name("a"), x.shape, x.kind, BOUND))
        return self.line(out, f"p.{selector}({index}, {chosen}{operands_text})", [*given, *nest], functions)

    def cond(self) -> Any:
        return self.branches(2, "cond", [self.truth()])

    def switch(self) -> Any:
        return self.branches(self.r.choice([1, 2, 3]), "switch", [self.integer()])

    def over_items(self) -> Any:
        """`map` or `vmap` of a function of slices of one or two arrays, or of what is the same for all."""
        x = self.float_(lambda x: len(x.shape) > 0)
        if x is None:
            return None
        same = [y for y in self.visible if y.kind == "f" and y.shape[:1] == x.shape[:1]]
        xs = self.r.sample(same, min(len(same), self.r.choice([1, 2])))
        vmap = self.r.random() < 0.5
        slices = [Var(self.name("x"), x.shape[1:], x.kind, x.bound) for x in xs]
        parameters: list[Any] = list(slices) if vmap else [self.nest(slices)]
        shared = self.float_() if vmap and self.r.random() < 0.4 else None
        if shared is not None:
            parameters.append(self.like(shared))

        def finish() -> Any:
            return self.nest(
                [self.of(self.r.choice([(), (3,), slices[0].shape])) for _ in range(self.r.choice([1, 2]))]
            )

        f = self.in_loop(count(x.shape[:1]), lambda: self.function(parameters, finish))
        out = replaced(f.out, lambda y: Var(self.name("a"), (x.shape[0], *y.shape), y.kind, y.bound))
        if not vmap:
            order = iter(xs)
            return self.line(out, "p.map({f}, {0})", [replaced(parameters[0], lambda _: next(order))], [f])
        axes = ", ".join(["0"] * len(xs) + ["None"] * (shared is not None))
        values = [*xs, *([] if shared is None else [shared])]
        call = ", ".join(f"{{{k}}}" for k in range(len(values)))
        return self.line(out, f"p.vmap({{f}}, in_axes=({axes},))({call})", values, [f])

    def derivative(self) -> Any:
        """The derivative of a function written inside of the program."""
        x = self.float_(lambda x: static(x) and count(x.shape) <= 9)
        y = self.float_()
        if x is None or y is None or self.weight > MOST:
            return None
        parameters = [self.like(x), self.like(y)]
        kind = self.r.choice(["grad", "grad", "value_and_grad", "jvp", "jacfwd", "jacrev", "hessian"])
        shape = () if "grad" in kind or kind == "hessian" else self.r.choice([(), (3,), x.shape])
        f = self.in_loop(3, lambda: self.function(parameters, lambda: self.of(shape, new=0.9)))
        tame = "0.3 * p.tanh({text})"
        if kind == "value_and_grad":
            out: Any = (Var(self.name("a"), (), "f", BOUND), wild := Var(self.name("a"), x.shape, "f", BOUND))
            self.lines.append(Line(out, "p.value_and_grad({f})({0}, {1})", [x, y], [f]))
            return self.emit("p.tanh({0})", [wild], x.shape, 1.0)
        if kind == "jvp":
            text = "p.jvp({f}, ({0}, {1}), (p.cos({0}), p.sin({1})))[1]"
            out = Var(self.name("a"), shape, "f", 1.0)
        else:
            text = f"p.{kind}({{f}})({{0}}, {{1}})"
            out = Var(self.name("a"), (*shape, *x.shape, *(x.shape if kind == "hessian" else ())), "f", 1.0)
            if len(out.shape) > 3:
                return None
        return self.line(out, tame.replace("{text}", text), [x, y], [f])

    def checkpoint(self) -> Any:
        values = [x for x in (self.float_() for _ in range(2)) if x is not None]
        parameters = [self.like(x) for x in values]
        shapes = [self.r.choice([x.shape for x in values]) for _ in range(self.r.choice([1, 2]))]
        f = self.function(parameters, lambda: self.nest([self.again(Var("", shape)) for shape in shapes]))
        out = replaced(f.out, lambda x: Var(self.name("a"), x.shape, x.kind, x.bound))
        call = ", ".join(f"{{{k}}}" for k in range(len(values)))
        return self.line(out, f"p.checkpoint({{f}})({call})", values, [f])

    # ---- a whole program

    SIMPLE = ["unary"] * 3 + ["binary"] * 4 + ["reduce"] * 2 + ["product"] * 2 + ["index"] * 2 + ["update"] * 2 + [
        "along", "turn", "system", "associative"]  # fmt: skip
    CONTROL = ["scan"] * 5 + ["while_loop"] * 3 + ["cond"] * 2 + ["over_items"] * 2 + ["derivative"] * 2 + [
        "switch", "checkpoint"]  # fmt: skip

    def grow(self, control: float = 0.3) -> Any:
        deep = self.depth > 0 and self.weight <= 16
        kinds = self.CONTROL if deep and self.r.random() < control else self.SIMPLE
        often = [kind for kind in self.often if kind in kinds]
        return getattr(self, self.r.choice(often if often and self.r.random() < 0.5 else kinds))()


def static(x: Var) -> bool:
    return all(isinstance(d, int) for d in x.shape)


def random_program(seed: int, control: int = 2, depth: int = 3, often: Sequence[str] = ()) -> Program:
    """A program with ``control`` loops or branches of its own, which are ``depth`` deep at most.

    Every second line is of a kind in ``often``, the names of methods of `Writer`."""
    w = Writer(seed, depth, often)
    ends: list[Var] = []
    while len(ends) < control:
        for _ in range(w.r.randrange(3)):
            w.grow(control=0.0)
        before = len(w.lines)
        w.grow(control=1.0)
        made = [x for line in w.lines[before:] for x in leaves(line.out) if x.kind == "f" and line.functions]
        if made:
            ends.append(w.r.choice(made))
    out = [*ends[:-1], *(x for x in made if x.kind == "f")] if len(made) < 4 else ends
    if w.r.random() < 0.5:
        out.append(w.emit("{0} * {1}", [w.emit("p.sum({0})", [x], ()) for x in (ends[0], ends[-1])], ()))
    out = list(dict.fromkeys(out))
    return Program(pruned(w.lines, {x.name for x in out}), out)
