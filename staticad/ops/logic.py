"""Comparisons, choice, logical and bitwise operations; knows no arithmetic."""

# pyright: reportUnknownLambdaType=false, reportUnknownArgumentType=false
# (the entries' lambdas take as many operands as their op, which `Callable[..., T]` cannot tell)

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from staticad.dtypes import bool_
from staticad.errors import DTypeError
from staticad.ir import ArrayType, Example, Law, Node, Op
from staticad.ops.pointwise import (
    BOOLEAN,
    FLOATS,
    INTEGERS,
    SPECIAL,
    booleans,
    both,
    by_kind,
    columns,
    diagonal,
    floats,
    whole,
)
from staticad.ops.rules import elementwise, same_types, zeros_like


def _select_type(condition: ArrayType, x: ArrayType, y: ArrayType) -> ArrayType:
    if condition.dtype != bool_:
        raise DTypeError(f"select: the condition must be bool, not {condition}; compare it with something")
    same_types("select", condition, ArrayType(bool_, x.shape))
    return same_types("select", x, y)


def _select_examples() -> Iterable[Example]:
    for dtype in (*FLOATS, *INTEGERS, BOOLEAN):
        values = [0, 1] if dtype.kind in "bu" else [-2, 3]
        x, y = columns(dtype, values, values)
        yield Example((np.array([True, False, False, True]), x, y), smooth=dtype.kind == "f")
    for dtype in FLOATS:
        x, y = columns(dtype, SPECIAL, SPECIAL)
        yield Example((x > y, x, y), smooth=False)


# What is not chosen gets a zero, never zero times its cotangent: a masked nan or inf stays masked.
select = diagonal(
    "select",
    np.where,
    "({y} if {x} else {z})",
    lambda out, c, x, y: (None, lambda v: select(c, v, zeros_like(v)), lambda v: select(c, zeros_like(v), v)),
    infer=_select_type,
    examples=_select_examples,
)


def _to_bool(*dtypes: np.dtype[Any]) -> np.dtype[Any]:
    return bool_


def _comparison(name: str, meaning: Callable[..., Any], code: str, laws: tuple[Law, ...] = ("exact",)) -> Op:
    samples = both(floats((), (), special=SPECIAL), whole(2, boolean=True))
    return elementwise(name, meaning, code, kinds="biuf", dtype=_to_bool, examples=samples, laws=laws)


def _predicate(name: str, meaning: Callable[..., Any], code: str, kinds: str = "biuf") -> Op:
    samples = both(floats(()), whole(1, boolean=True)) if "i" in kinds else floats(())
    return elementwise(name, meaning, code, kinds=kinds, dtype=_to_bool, examples=samples)


def _logical(name: str, meaning: Callable[..., Any], code: str, operands: int = 2, laws: tuple[Law, ...] = ()) -> Op:
    return elementwise(name, meaning, code, kinds="b", examples=booleans(operands), laws=laws)


def _bitwise(
    name: str, meaning: Callable[..., Any], code: str | Callable[[Node], str], operands: int = 2,
    laws: tuple[Law, ...] = (),
) -> Op:  # fmt: skip
    return elementwise(name, meaning, code, kinds="biu", examples=whole(operands, boolean=True), laws=laws)


def _shift(name: str, meaning: Callable[..., Any], code: str) -> Op:
    # A shift by the width or more is defined (as NumPy has it), which machine shifts are not; hence a kernel.
    return elementwise(name, meaning, code, kinds="iu", examples=whole(2))


# fmt: off
equal         = _comparison("equal",         np.equal,         "({x} == {y})", ("commutative", "exact"))
not_equal     = _comparison("not_equal",     np.not_equal,     "({x} != {y})", ("commutative", "exact"))
less          = _comparison("less",          np.less,          "({x} < {y})")
less_equal    = _comparison("less_equal",    np.less_equal,    "({x} <= {y})")
greater       = _comparison("greater",       np.greater,       "({x} > {y})")
greater_equal = _comparison("greater_equal", np.greater_equal, "({x} >= {y})")

isnan    = _predicate("isnan",    np.isnan,    "({x} != {x})")
isinf    = _predicate("isinf",    np.isinf,    "m.isinf({x})")
isfinite = _predicate("isfinite", np.isfinite, "m.isfinite({x})")
signbit  = _predicate("signbit",  np.signbit,  "m.signbit({x})", kinds="f")

logical_and = _logical("logical_and", np.logical_and, "({x} & {y})", laws=("commutative", "exact", "selective"))
logical_or  = _logical("logical_or",  np.logical_or,  "({x} | {y})", laws=("commutative", "exact", "selective"))
logical_xor = _logical("logical_xor", np.logical_xor, "({x} != {y})", laws=("commutative",))
logical_not = _logical("logical_not", np.logical_not, "(not {x})", 1, laws=("exact", "involution"))

bitwise_and    = _bitwise("bitwise_and",    np.bitwise_and, "({x} & {y})", laws=("commutative", "selective"))
bitwise_or     = _bitwise("bitwise_or",     np.bitwise_or,  "({x} | {y})", laws=("commutative", "selective"))
bitwise_xor    = _bitwise("bitwise_xor",    np.bitwise_xor, "({x} ^ {y})", laws=("commutative",))
bitwise_invert = _bitwise("bitwise_invert", np.invert,      by_kind(b="(not {x})", iu="(~{x})"), 1,
                          laws=("involution",))

bitwise_left_shift  = _shift("bitwise_left_shift",  np.left_shift,  "m.left_shift({x}, {y})")
bitwise_right_shift = _shift("bitwise_right_shift", np.right_shift, "m.right_shift({x}, {y})")
# fmt: on
