"""What Python's operators and conversions mean for the scalars of generated code; knows kinds and LLVM, no syntax.

Integers are computed with in 64 bits, signed where one of them is; an integer with a float, and two of them divided,
give a float64, apart from a number that the text states, which takes the kind of the other operand where it can.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from staticad.errors import CompileError
from staticad.runtime import kinds
from staticad.runtime.kernels.values import Value
from staticad.runtime.kinds import Boolean, Float, Integer, Scalar, boolean, float64, int64, uint64


def cast(builder: ir.IRBuilder, x: Value, kind: Any) -> ir.Value:
    """``x`` converted as C does it."""
    from_, value = x.kind, x.llvm
    if from_ == kind:
        return value
    if not (isinstance(from_, Scalar) and isinstance(kind, Scalar)):
        raise CompileError(f"generated code makes no {kind} of {from_}")
    to = kind.value
    if isinstance(kind, Boolean):
        if isinstance(from_, Float):
            return builder.fcmp_unordered("!=", value, from_.constant(0.0))
        return builder.icmp_unsigned("!=", value, from_.constant(0))
    if isinstance(kind, Float):
        if isinstance(from_, Float):
            return builder.fpext(value, to) if kind.bitwidth > from_.bitwidth else builder.fptrunc(value, to)
        signed = isinstance(from_, Integer) and from_.signed
        return builder.sitofp(value, to) if signed else builder.uitofp(value, to)
    if isinstance(from_, Float):
        return builder.fptosi(value, to) if kind.signed else builder.fptoui(value, to)
    if isinstance(from_, Boolean):
        return builder.zext(value, to)
    if kind.bitwidth == from_.bitwidth:
        return value
    if kind.bitwidth < from_.bitwidth:
        return builder.trunc(value, to)
    return builder.sext(value, to) if from_.signed else builder.zext(value, to)


def wide(kind: Scalar) -> Scalar:
    """What a number of this kind is computed with in."""
    if isinstance(kind, Float):
        return kind
    return int64 if isinstance(kind, Boolean) or kind.signed else uint64


def joint(x: Value, y: Value) -> Scalar:
    """What two numbers are computed with in."""
    if x.kind == y.kind:
        return wide(x.kind)
    for one, other in ((x, y), (y, x)):
        if one.number is not None and isinstance(other.kind, Integer) and one.number >= 0:
            return wide(other.kind)
    if isinstance(x.kind, Float) or isinstance(y.kind, Float):
        return float64
    return int64 if int64 in (wide(x.kind), wide(y.kind)) else uint64


Write = Callable[[ir.IRBuilder, Any, ir.Value, ir.Value], ir.Value]


def plain(real: str, integer: str) -> Write:
    def write(builder: ir.IRBuilder, kind: Any, x: ir.Value, y: ir.Value) -> ir.Value:
        return getattr(builder, real if isinstance(kind, Float) else integer)(x, y)

    return write


def floor_divide(builder: ir.IRBuilder, kind: Any, x: ir.Value, y: ir.Value) -> ir.Value:
    """Rounded down; 0 where ``y`` is 0, and no trap for the least integer over -1."""
    return divided(builder, kind, x, y)[0]


def remainder(builder: ir.IRBuilder, kind: Any, x: ir.Value, y: ir.Value) -> ir.Value:
    """With the sign of ``y``; 0 where that is 0."""
    return divided(builder, kind, x, y)[1]


def divided(builder: ir.IRBuilder, kind: Any, x: ir.Value, y: ir.Value) -> tuple[ir.Value, ir.Value]:
    if not isinstance(kind, Integer):
        raise CompileError("generated code divides integers alone with // and %")
    zero, one = kind.constant(0), kind.constant(1)
    none = builder.icmp_unsigned("==", y, zero)
    if not kind.signed:
        by = builder.select(none, one, y)
        quotient, rest = builder.udiv(x, by), builder.urem(x, by)
        return builder.select(none, zero, quotient), builder.select(none, zero, rest)
    back = builder.icmp_unsigned("==", y, kind.constant(-1))
    by = builder.select(builder.or_(none, back), one, y)
    quotient, rest = builder.sdiv(x, by), builder.srem(x, by)
    mixed = builder.icmp_signed("<", builder.xor(rest, by), zero)
    down = builder.and_(mixed, builder.icmp_unsigned("!=", rest, zero))
    quotient = builder.sub(quotient, builder.zext(down, kind.value))
    rest = builder.add(rest, builder.select(down, by, zero))
    quotient = builder.select(back, builder.sub(zero, x), quotient)
    return builder.select(none, zero, quotient), rest


def bitwise(name: str) -> Write:
    def write(builder: ir.IRBuilder, kind: Any, x: ir.Value, y: ir.Value) -> ir.Value:
        assert not isinstance(kind, Float)
        return getattr(builder, name)(x, y)

    return write


# fmt: off
BINARY: dict[type[ast.operator], Write] = {
    ast.Add: plain("fadd", "add"), ast.Sub: plain("fsub", "sub"), ast.Mult: plain("fmul", "mul"),
    ast.FloorDiv: floor_divide, ast.Mod: remainder,
    ast.BitAnd: bitwise("and_"), ast.BitOr: bitwise("or_"), ast.BitXor: bitwise("xor"),
}
LOGICAL = (ast.BitAnd, ast.BitOr, ast.BitXor)  # of truth values, those give truth values
RELATIONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}
# fmt: on


def binary(builder: ir.IRBuilder, op: ast.operator, x: Value, y: Value) -> Value:
    if isinstance(op, ast.Div):
        kind = x.kind if x.kind == y.kind and isinstance(x.kind, Float) else float64
        return Value(kind, builder.fdiv(cast(builder, x, kind), cast(builder, y, kind)))
    if type(op) not in BINARY:
        raise CompileError(f"generated code has no operator {type(op).__name__}")
    kind = boolean if x.kind == y.kind == boolean and isinstance(op, LOGICAL) else joint(x, y)
    return Value(kind, BINARY[type(op)](builder, kind, cast(builder, x, kind), cast(builder, y, kind)))


def compare(builder: ir.IRBuilder, op: ast.cmpop, x: Value, y: Value) -> Value:
    how = RELATIONS[type(op)]
    kind = x.kind if x.kind == y.kind else joint(x, y)
    values = cast(builder, x, kind), cast(builder, y, kind)
    if isinstance(kind, Float):
        found = (builder.fcmp_unordered if how == "!=" else builder.fcmp_ordered)(how, *values)
    elif isinstance(kind, Integer) and kind.signed:
        found = builder.icmp_signed(how, *values)
    else:
        found = builder.icmp_unsigned(how, *values)
    return Value(boolean, found)


def unary(builder: ir.IRBuilder, op: ast.unaryop, x: Value) -> Value:
    if isinstance(op, ast.Not):
        return Value(boolean, builder.not_(cast(builder, x, boolean)))
    kind = wide(x.kind)
    value = cast(builder, x, kind)
    if isinstance(op, ast.UAdd):
        return Value(kind, value)
    if isinstance(op, ast.Invert):
        return Value(kind, builder.not_(value))
    return Value(kind, builder.fneg(value) if isinstance(kind, Float) else builder.neg(value))


def larger(builder: ir.IRBuilder, x: Value, y: Value, relation: str) -> Value:
    """The one of two numbers that is ``relation`` (``<`` or ``>``) the other."""
    kind = joint(x, y)
    values = [cast(builder, v, kind) for v in (x, y)]
    chosen = compare(builder, ast.Lt() if relation == "<" else ast.Gt(), *(Value(kind, v) for v in values))
    return Value(kind, builder.select(chosen.llvm, *values))


def unified(*found: Scalar) -> Scalar:
    """What values of these kinds can all be converted to without loss, if there is any such kind."""
    if len(set(found)) == 1:
        return found[0]
    if any(isinstance(kind, Float) for kind in found):
        return kinds.float64
    return int64 if any(wide(kind) == int64 for kind in found) else uint64
