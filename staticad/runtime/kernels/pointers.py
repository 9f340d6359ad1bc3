"""Typed bare pointers for kernels that treat arrays as flat memory; compiled code only, no bounds, no owner."""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.np.arrayobj import make_array

from staticad.runtime.kernels.native import kernel


def unavailable(*args: Any) -> None:
    raise NotImplementedError("pointers exist in compiled code only")


@kernel(unavailable)
def pointer(typingctx: Any, x: Any, offset: Any) -> Any:
    """The address of element ``offset`` of a C-contiguous array."""
    kind = types.CPointer(x.dtype)

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.gep(make_array(x)(context, builder, args[0]).data, [args[1]], inbounds=True)

    return kind(x, types.intp), codegen


@kernel(unavailable)
def advance(typingctx: Any, p: Any, count: Any) -> Any:
    """The address ``count`` elements after ``p``."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.gep(args[0], [args[1]], inbounds=True)

    return p(p, types.intp), codegen


@kernel(unavailable)
def load(typingctx: Any, p: Any, i: Any) -> Any:
    """Element ``i`` from ``p`` on."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return context.unpack_value(builder, p.dtype, builder.gep(args[0], [args[1]], inbounds=True))

    return p.dtype(p, types.intp), codegen


@kernel(unavailable)
def store(typingctx: Any, p: Any, i: Any, value: Any) -> Any:
    """Write ``value`` to element ``i`` from ``p`` on."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Any:
        context.pack_value(builder, p.dtype, args[2], builder.gep(args[0], [args[1]], inbounds=True))
        return context.get_dummy_value()

    return types.none(p, types.intp, p.dtype), codegen
