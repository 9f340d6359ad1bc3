"""What computing a value costs, and what keeping it: store or recompute; knows lowerings, never op names or loops.

Costs are in units of a flop in float32 in a vector, or of a byte to or from memory: about 32 of them are a nanosecond.
Within a function `staticad.store` compares what one element costs where it is read again soon; between a forward pass
and its pullback `staticad.residuals` compares whole arrays in memory.
"""

from __future__ import annotations

import math
from functools import lru_cache

from staticad.ir import Node
from staticad.lowering import Contract, Map, Reduce, Update, View, extents
from staticad.shapes import Shape, evaluate, product, symbols

#: Flops that take as long as writing a vector to the nearest cache and reading it again; anything with a division or a
#: transcendental function takes longer.
NEAR = 2
#: Units that a byte costs that is written to memory and read again much later.
FAR = 2
#: Units that an array costs beyond its bytes that outlives a call: its allocation and its way through Python.
ARRAY = 7000
#: Flops of a product in float32 that are done in a unit.
PRODUCT = 8
#: What a symbolic dimension counts as where the costs of values of different shapes are compared.
TYPICAL = 1000
#: The price of what is not done.
NEVER = math.inf


def width(node: Node) -> int:
    """Units that a flop on elements of ``node`` takes: half as many fit a vector in float64 as in float32."""
    return -(-node.dtype.itemsize // 4)


def computing(node: Node) -> float:
    """Units that the flops of all elements cost, given the operands; `NEVER` for loops and library calls."""
    lower = node.op.lower
    if isinstance(lower, Map):
        return lower.cost * _widest(node) * elements(node.shape)
    if isinstance(lower, View):
        return 0
    if isinstance(lower, Reduce):
        return lower.cost * _widest(node) * elements(node.args[0].shape)
    if isinstance(lower, Update):
        return width(node) * elements(node.args[1].shape)
    if isinstance(lower, Contract):
        return 2 * width(node) * elements(tuple(extents(node).values())) / PRODUCT
    return NEVER


def keeping(node: Node) -> int:
    """Units that writing all elements to memory costs and reading them again."""
    return FAR * node.dtype.itemsize * elements(node.shape)


def remembering(node: Node) -> int:
    """Units that writing all elements to the nearest cache costs and reading them again."""
    return NEAR * width(node) * elements(node.shape)


@lru_cache(1 << 12)
def elements(shape: Shape) -> int:
    """How many elements there are, with `TYPICAL` for every symbolic dimension; at least one."""
    count = product(shape)
    return max(1, evaluate(count, {s.name: TYPICAL for s in symbols(count)}))


def _widest(node: Node) -> int:
    return max(map(width, (node, *node.args)))
