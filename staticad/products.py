"""How a product of two stored arrays is handed to the product kernel: offsets and strides; knows no loops, no ops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from staticad.ir import Node
from staticad.loops import Loop, Tile
from staticad.lowering import extents, letters
from staticad.plan import Plan
from staticad.shapes import Dim, Shape, Symbol, add, mul, product, symbol
from staticad.store import linear_terms, strided


@dataclass(frozen=True)
class Product:
    """``out[b, m, n] = sum over k of x[b, m, k] * y[b, k, n]`` on flat memory, in loops over further letters.

    ``loops`` and, inside of them, ``summed`` (whose products add up) map a letter to its extent. ``starts`` (of x, y
    and out) may depend on them; ``extents`` are those of b, m, n, k; ``strides`` are (b, m, k) of x, (b, k, n) of y
    and (b, m, n) of out, in elements.
    """

    arrays: tuple[Node, Node]
    loops: dict[str, Dim]
    summed: dict[str, Dim]
    starts: tuple[Dim, Dim, Dim]
    extents: tuple[Dim, Dim, Dim, Dim]
    strides: tuple[tuple[Dim, ...], ...]


def contraction(plan: Plan, tile: Tile, blocks: Mapping[Symbol, Loop]) -> Product:
    """The kernel call for a part of a product whose operands are strided views of stored arrays.

    ``blocks`` are the loops over blocks around it, by their variables."""
    node = tile.node
    left, right, out = letters(node)
    extent = extents(node)
    index: dict[str, Dim] = {c: symbol(Symbol(c, "var")) for c in left + right}
    for c, var in tile.letters.items():
        index[c] = add(index[c], symbol(var)) if var in blocks else symbol(var)
        extent[c] = add(symbol(blocks[var].end), mul(-1, symbol(var))) if var in blocks else 1
    x_array, x_start, x_step = layout(plan, node.args[0], left, index)
    y_array, y_start, y_step = layout(plan, node.args[1], right, index)
    _, out_start, out_step = layout(plan, node, out, index)
    groups = {
        "b": [c for c in out if c in left and c in right],
        "m": [c for c in out if c in left and c not in right],
        "n": [c for c in out if c not in left],
        "k": [c for c in left if c not in out],
    }
    steps = {"b": (x_step, y_step, out_step), "m": (x_step, out_step), "n": (y_step, out_step), "k": (x_step, y_step)}
    main: dict[str, tuple[str | None, Dim]] = {}
    loops: list[str] = []
    for group, names in groups.items():
        letter, size, rest = merge([c for c in names if extent[c] != 1], extent, steps[group])
        main[group] = (letter, size)
        loops += rest
    starts: list[Dim] = [x_start, y_start, out_start]
    for c in loops:
        var = symbol(Symbol(c, "var"))
        for k, step in enumerate((x_step, y_step, out_step)):
            starts[k] = add(starts[k], mul(var, step.get(c, 0)))

    def strides(step: dict[str, Dim], order: str) -> tuple[Dim, ...]:
        return tuple(step.get(c, 0) if (c := main[group][0]) is not None else 0 for group in order)

    return Product(
        arrays=(x_array, y_array),
        loops={c: extent[c] for c in loops if c in out},
        summed={c: extent[c] for c in loops if c not in out},
        starts=(starts[0], starts[1], starts[2]),
        extents=(main["b"][1], main["m"][1], main["n"][1], main["k"][1]),
        strides=(strides(x_step, "bmk"), strides(y_step, "bkn"), strides(out_step, "bmn")),
    )


def merge(
    letters: list[str], extent: dict[str, Dim], steps: tuple[dict[str, Dim], ...]
) -> tuple[str | None, Dim, list[str]]:
    """One axis made of as many of ``letters`` (last ones first) as lie one after the other in every array; the rest."""
    if not letters:
        return None, 1, []
    inner, size = letters[-1], extent[letters[-1]]
    rest = letters[:-1]
    while rest and all(step.get(rest[-1], 0) == mul(step.get(inner, 0), size) for step in steps):
        size = mul(size, extent[rest.pop()])
    return inner, size, rest


def layout(plan: Plan, x: Node, names: str, index: Mapping[str, Dim]) -> tuple[Node, Dim, dict[str, Dim]]:
    """The buffer below an operand, where its first element is, and the step in elements along each letter."""
    storage = plan.schedule.storage
    found = strided(storage, x, tuple(index[c] for c in names))
    assert found is not None, f"{x.op.name} is no strided view of memory"
    base, where = found
    memory = storage.memory(base)
    assert memory is not None
    array = storage.buffer(memory)
    b = plan.buffers.get(array)
    axes: Sequence[int] = range(len(base.shape)) if b is None or memory is not base else b.axes
    shape = base.shape if b is None or memory is not base else b.shape
    offset: Dim = 0
    for axis, step in zip(axes, row_major(shape), strict=True):
        first = symbol(b.blocks[axis].var) if b is not None and axis in b.blocks else 0
        offset = add(offset, mul(add(where[axis], mul(-1, first)), step))
    variables = {c: Symbol(c, "var") for c in names}
    start, coefficients = linear_terms(offset, list(variables.values()))
    return array, start, {c: coefficients[v] for c, v in variables.items()}


def row_major(shape: Shape) -> list[Dim]:
    """The step in elements along each axis of a C-contiguous array."""
    return [product(shape[axis + 1 :]) for axis in range(len(shape))]
