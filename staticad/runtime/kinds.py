"""The types of values in generated code, in registers and in memory; knows nothing of what is done with them."""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportReturnType=false

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from llvmlite import ir

BIT, BYTE = ir.IntType(1), ir.IntType(8)


@dataclass(frozen=True)
class Scalar:
    """A number or truth value, by NumPy's name of its dtype."""

    name: str
    bitwidth: int

    def __str__(self) -> str:
        return self.name

    @property
    def bytes(self) -> int:
        return self.bitwidth // 8

    @property
    def value(self) -> ir.Type:
        """The LLVM type in registers."""
        raise NotImplementedError

    @property
    def memory(self) -> ir.Type:
        """The LLVM type in memory."""
        return self.value

    def load(self, builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.load(place)

    def store(self, builder: ir.IRBuilder, value: ir.Value, place: ir.Value) -> None:
        builder.store(value, place)

    def constant(self, x: Any) -> ir.Constant:
        return ir.Constant(self.value, x)


class Boolean(Scalar):
    """A bit; a byte in memory."""

    @property
    def value(self) -> ir.Type:
        return BIT

    @property
    def memory(self) -> ir.Type:
        return BYTE

    def load(self, builder: ir.IRBuilder, place: ir.Value) -> ir.Value:
        return builder.icmp_unsigned("!=", builder.load(place), BYTE(0))

    def store(self, builder: ir.IRBuilder, value: ir.Value, place: ir.Value) -> None:
        builder.store(builder.zext(value, BYTE), place)


class Integer(Scalar):
    @property
    def signed(self) -> bool:
        return self.name.startswith("int")

    @property
    def value(self) -> ir.Type:
        return ir.IntType(self.bitwidth)


class Float(Scalar):
    @property
    def value(self) -> ir.Type:
        return ir.FloatType() if self.bitwidth == 32 else ir.DoubleType()


@dataclass(frozen=True)
class Pointer:
    """The address of elements of a dtype, or, without one, of bytes."""

    dtype: Scalar | None

    def __str__(self) -> str:
        return f"{self.dtype or 'void'}*"

    @property
    def value(self) -> ir.Type:
        return (self.dtype.memory if self.dtype else BYTE).as_pointer()


@dataclass(frozen=True)
class Array:
    """A C-contiguous array of so many axes."""

    dtype: Scalar
    ndim: int

    def __str__(self) -> str:
        return f"array({self.dtype}, {self.ndim}d)"


boolean = Boolean("bool", 8)
int8, int16, int32, int64 = (Integer(f"int{n}", n) for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (Integer(f"uint{n}", n) for n in (8, 16, 32, 64))
float32, float64 = Float("float32", 32), Float("float64", 64)
void = Pointer(None)
NAMED = {k.name: k for k in (boolean, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64)}


def kind_of(dtype: Any) -> Scalar:
    """The type of the elements of a NumPy dtype."""
    return NAMED[np.dtype(dtype).name]
