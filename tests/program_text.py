"""Programs as trees of lines, and as the Python text that any library with the names of `p` can run; smaller ones.

A line is a call with the tensors it reads and the functions it is given. Knows nothing of what the calls do.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

#: A static size, or a letter: n rows (one at least), t steps (or none).
Size = int | str
Shape = tuple[Size, ...]
#: Values are no larger than this; what would be is brought back.
BOUND = 3.0
#: What sizes are called inside of a program.
SIZES = {"n": "rows.shape[0]", "t": "steps.shape[0]"}


@dataclass(frozen=True)
class Var:
    """A value: float (f), integer (i) or truth value (b), no larger than ``bound`` if it is a float."""

    name: str
    shape: Shape = ()
    kind: str = "f"
    bound: float = BOUND


@dataclass
class Function:
    """A function inside of a program; parameters and what it returns are nests of `Var`."""

    name: str
    parameters: list[Any]
    lines: list[Line]
    out: Any = None


@dataclass
class Line:
    """``out = text``: in the text {0}, {1}, ... are what is ``given``, nests of `Var`, and {f}, {g}, {h} functions."""

    out: Any
    text: str
    given: list[Any]
    functions: list[Function] = field(default_factory=list)


@dataclass
class Program:
    lines: list[Line]
    out: list[Var]

    @property
    def text(self) -> str:
        head = f"def program(p, {', '.join(x.name for x in INPUTS)}):"
        return "\n".join([head, *written(self.lines, 1), f"    return {nest_text(tuple(self.out))}", ""])

    @property
    def function(self) -> Callable[..., tuple[Any, ...]]:
        """What is called with the library's names and a value for each of `INPUTS`."""
        found: dict[str, Any] = {}
        exec(self.text, found)
        return found["program"]

    @property
    def read(self) -> list[Var]:
        """The inputs that matter."""
        names = {x.name for line in every_line(self.lines) for x in reads(line)} | {x.name for x in self.out}
        return [x for x in INPUTS if x.name in names]


INPUTS = [
    Var("s"), Var("z", (1,)), Var("v", (3,)), Var("u", ("n",)), Var("w", (3, 3)), Var("m", (2, 3)),
    Var("rows", ("n", 3)), Var("steps", ("t", 3)), Var("times", ("t",)),
    Var("k", (), "i"), Var("at", ("n",), "i"),
]  # fmt: skip


# ---- as text


def leaves(nest: Any) -> Iterator[Var]:
    if isinstance(nest, Var):
        yield nest
    elif nest is not None:
        for part in nest.values() if isinstance(nest, dict) else nest:
            yield from leaves(part)


def replaced(nest: Any, new: Callable[[Var], Any]) -> Any:
    if nest is None or isinstance(nest, Var):
        return nest if nest is None else new(nest)
    if isinstance(nest, dict):
        return {key: replaced(part, new) for key, part in nest.items()}
    return type(nest)(replaced(part, new) for part in nest)


def nest_text(nest: Any) -> str:
    if nest is None or isinstance(nest, Var):
        return "None" if nest is None else nest.name
    if isinstance(nest, dict):
        return "{" + ", ".join(f"{key!r}: {nest_text(part)}" for key, part in nest.items()) + "}"
    inner = ", ".join(map(nest_text, nest))
    return f"[{inner}]" if isinstance(nest, list) else f"({inner}{',' * (len(nest) == 1)})"


def taken(nest: Any, base: str) -> Iterator[str]:
    """The lines that name the parts of a nest called ``base``."""
    if isinstance(nest, Var):
        yield f"{nest.name} = {base}"
    elif nest is not None:
        for key, part in nest.items() if isinstance(nest, dict) else enumerate(nest):
            yield from taken(part, f"{base}[{key!r}]")


def written(lines: Sequence[Line], depth: int) -> Iterator[str]:
    indent = "    " * depth
    for line in lines:
        for f in line.functions:
            names = [x.name if isinstance(x, Var) else f"{f.name}_{k}" for k, x in enumerate(f.parameters)]
            yield f"{indent}def {f.name}({', '.join(names)}):"
            for name, x in zip(names, f.parameters, strict=True):
                if not isinstance(x, Var):
                    yield from (f"{indent}    {text}" for text in taken(x, name))
            yield from written(f.lines, depth + 1)
            yield f"{indent}    return {nest_text(f.out)}"
        named = dict(zip("fgh", (f.name for f in line.functions), strict=False))
        call = line.text.format(*map(nest_text, line.given), **named)
        if isinstance(line.out, Var):
            yield f"{indent}{line.out.name} = {call}"
        else:
            base = f"of_{next(leaves(line.out)).name}"
            yield f"{indent}{base} = {call}"
            yield from (indent + text for text in taken(line.out, base))


def size_text(d: Size) -> str:
    return SIZES[d] if isinstance(d, str) else str(d)


def shape_text(shape: Shape) -> str:
    return "(" + "".join(f"{size_text(d)}, " for d in shape) + ")"


def constant_text(shape: Shape, kind: str) -> tuple[str, list[Any]]:
    value, dtype = {"f": ("0.3", "p.float"), "i": ("1", "p.int"), "b": ("False", "bool")}[kind]
    return f"p.full({shape_text(shape)}, {value}, dtype={dtype})", []


# ---- what is read


def reads(line: Line) -> Iterator[Var]:
    """What a line reads, the functions it is given included, and the arrays that tell sizes."""
    for nest in line.given:
        yield from leaves(nest)
    for f in line.functions:
        yield from leaves(f.out)
        for inner in f.lines:
            yield from reads(inner)
    for d, text in SIZES.items():
        if text in line.text:
            yield Var(text.split(".")[0], (d, 3))


def every_line(lines: Sequence[Line]) -> Iterator[Line]:
    for line in lines:
        yield line
        for f in line.functions:
            yield from every_line(f.lines)


def pruned(lines: list[Line], wanted: set[str]) -> list[Line]:
    """The lines that ``wanted`` names depend on."""
    kept: list[Line] = []
    for line in reversed(lines):
        if wanted.isdisjoint(x.name for x in leaves(line.out)):
            continue
        for f in line.functions:
            f.lines = pruned(f.lines, {x.name for x in leaves(f.out)})
        wanted |= {x.name for x in reads(line)}
        kept.append(line)
    return kept[::-1]


# ---- smaller programs


def smaller(program: Program) -> Iterator[Program]:
    """Programs with something less: a result, a line, an option, what a function computes."""
    for k in range(len(program.out)):
        if len(program.out) > 1:
            yield tidy(program, lambda p, k=k: p.out.pop(k))
    number = sum(1 for _ in every_line(program.lines))
    for k in range(number):
        yield tidy(program, lambda p, k=k: to_constants(p, k))
    for k in range(number):
        for option in (
            ", reverse=True",
            ", unroll=2",
            ", unroll=3",
            ", checkpoint=2",
            ", checkpoint=1",
            ", max_steps=9",
        ):
            yield tidy(program, lambda p, k=k, option=option: without(p, k, option))
    for k in range(number):
        yield from shortened(program, k)


def tidy(program: Program, change: Callable[[Program], Any]) -> Program:
    new = copy.deepcopy(program)
    change(new)
    new.lines = pruned(new.lines, {x.name for x in new.out})
    return new


def to_constants(program: Program, k: int) -> None:
    """Line ``k`` gives constants."""
    line = list(every_line(program.lines))[k]
    parent = next(lines for lines in blocks(program.lines) if any(x is line for x in lines))
    at = next(i for i, x in enumerate(parent) if x is line)
    parent[at : at + 1] = [Line(x, *constant_text(x.shape, x.kind)) for x in leaves(line.out)]


def blocks(lines: list[Line]) -> Iterator[list[Line]]:
    yield lines
    for line in lines:
        for f in line.functions:
            yield from blocks(f.lines)


def without(program: Program, k: int, option: str) -> None:
    line = list(every_line(program.lines))[k]
    line.text = line.text.replace(option, "")


def shortened(program: Program, k: int) -> Iterator[Program]:
    """What a function of line ``k`` returns replaced, one by one, by its parameters; what a line reads, by inputs."""
    line = list(every_line(program.lines))[k]
    for number, f in enumerate(line.functions):
        own = [x for nest in f.parameters for x in leaves(nest)]
        for old in leaves(f.out):
            for new in own:
                if (new.shape, new.kind) == (old.shape, old.kind) and new.name != old.name:
                    yield tidy(program, partial(return_instead, k=k, number=number, old=old, new=new))
    for old in [x for nest in line.given for x in leaves(nest)]:
        new = next((x for x in INPUTS if (x.shape, x.kind) == (old.shape, old.kind)), None)
        if new is not None and old not in INPUTS:
            yield tidy(program, partial(read_instead, k=k, old=old, new=new))


def return_instead(program: Program, k: int, number: int, old: Var, new: Var) -> None:
    f = list(every_line(program.lines))[k].functions[number]
    f.out = replaced(f.out, lambda x: new if x.name == old.name else x)


def read_instead(program: Program, k: int, old: Var, new: Var) -> None:
    line = list(every_line(program.lines))[k]
    line.given = [replaced(nest, lambda x: new if x.name == old.name else x) for nest in line.given]


def shrunk(program: Program, fails: Callable[[Program], bool]) -> Program:
    """A smaller program that ``fails`` too."""
    while True:
        for candidate in smaller(program):
            if candidate.text != program.text and fails(candidate):
                program = candidate
                break
        else:
            return program
