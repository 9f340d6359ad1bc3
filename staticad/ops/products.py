"""The one product op, an einsum of two operands that every matmul is made of; knows no tiles and no libraries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from string import ascii_letters
from typing import Any

import numpy as np

from staticad.errors import DTypeError, ShapeError
from staticad.ir import ArrayType, Example, Node
from staticad.lowering import Contract
from staticad.ops.rules import linear, require_kind
from staticad.ops.views import Array, sample
from staticad.shapes import Dim, Shape


def parse_spec(spec: str) -> tuple[str, str, str]:
    """The letters of both operands and of the result.

    >>> parse_spec("mk,kn->mn")
    ('mk', 'kn', 'mn')
    """
    operands, _, out = spec.partition("->")
    x, _, y = operands.partition(",")
    return x, y, out


def _check_spec(spec: str) -> tuple[str, str, str]:
    x, y, out = parts = parse_spec(spec)
    if f"{x},{y}->{out}" != spec or not all(not p or (p.isascii() and p.isalpha()) for p in parts):
        raise ShapeError(f"contract: spec {spec!r} must look like 'mk,kn->mn'")
    if any(len(set(p)) != len(p) for p in parts):
        raise ShapeError(f"contract: spec {spec!r} repeats a letter within one operand; take the diagonal first")
    if not set(out) <= set(x + y):
        raise ShapeError(f"contract: spec {spec!r} has a letter in the result that no operand has; broadcast after")
    alone = (set(x) ^ set(y)) - set(out)
    if alone:
        raise ShapeError(f"contract: spec {spec!r} sums {', '.join(sorted(alone))} of one operand alone; sum it first")
    return parts


def _contract_type(x: ArrayType, y: ArrayType, *, spec: str) -> ArrayType:
    require_kind("contract", "fiu", x, y)
    if x.dtype != y.dtype:
        raise DTypeError(f"contract: operands of dtypes that differ, {x} and {y}; convert with astype first")
    letters_x, letters_y, out = _check_spec(spec)
    if (len(letters_x), len(letters_y)) != (x.ndim, y.ndim):
        raise ShapeError(f"contract: spec {spec!r} does not have as many letters as {x} and {y} have axes")
    sizes: dict[str, Dim] = dict(zip(letters_x, x.shape, strict=True))
    for letter, size in zip(letters_y, y.shape, strict=True):
        if sizes.setdefault(letter, size) != size:
            raise ShapeError(f"contract: {x} @ {y} along {letter!r} of {spec!r}: {sizes[letter]} != {size}")
    return ArrayType(x.dtype, tuple(sizes[letter] for letter in out))


def _contract_numpy(x: Array, y: Array, *, spec: str) -> Any:
    return np.einsum(spec, x, y)


def _contract_transpose(node: Node, g: Node) -> Sequence[Node | None]:
    x, y = node.args
    letters_x, letters_y, out = parse_spec(node.params["spec"])
    return [
        contract(g, y, spec=f"{out},{letters_y}->{letters_x}"),
        contract(x, g, spec=f"{letters_x},{out}->{letters_y}"),
    ]


def _contract_examples() -> Iterable[Example]:
    yield Example((sample(3, 4), sample(4, 2, seed=1)), {"spec": "mk,kn->mn"})
    yield Example((sample(4, 3), sample(2, 4, seed=1)), {"spec": "km,nk->nm"})
    yield Example((sample(2, 3, 4), sample(2, 4, 2, seed=2)), {"spec": "bmk,bkn->bmn"})
    yield Example((sample(2, 3, 4), sample(4, 2, seed=2)), {"spec": "bmk,kn->bmn"})
    yield Example((sample(5), sample(5, seed=1)), {"spec": "k,k->"})
    yield Example((sample(3), sample(2, seed=1)), {"spec": "m,n->mn"})
    yield Example((sample(2, 0, dtype="float32"), sample(0, 3, dtype="float32")), {"spec": "mk,kn->mn"})
    yield Example((np.arange(6).reshape(2, 3), np.arange(3)), {"spec": "mk,k->m"}, smooth=False)


def _contract_lanes(node: Node, operands: Sequence[Node], batched: Sequence[bool], lanes: Shape) -> Node | None:
    """The lanes are more letters: beside an operand without lanes, more rows of the other."""
    parts = parse_spec(node.params["spec"])
    free = [c for c in ascii_letters if c not in node.params["spec"]]
    if len(free) < len(lanes):
        return None
    own = "".join(free[: len(lanes)])
    x, y, out = (own + part if has else part for part, has in zip(parts, (*batched, True), strict=True))
    return contract(*operands, spec=f"{x},{y}->{out}")


#: ``spec`` is an einsum string; letters missing from the result are summed.
contract = linear(
    "contract",
    _contract_numpy,
    Contract(),
    _contract_type,
    _contract_transpose,
    batch=_contract_lanes,
    operands=2,
    jointly=False,
    examples=_contract_examples,
)
