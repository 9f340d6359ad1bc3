"""Whether the user wants a running program to end (Ctrl-C), asked from inside of it; knows no program.

Python tells its main thread alone. If that has others work for it, it leaves word for them.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportArgumentType=false

from __future__ import annotations

from typing import Any

from llvmlite import ir

from staticad.runtime import threads
from staticad.runtime.kernels.shared import FEW, external
from staticad.runtime.kernels.team import BYTE, entry, this_thread, word
from staticad.runtime.kernels.values import Value, direct
from staticad.runtime.kinds import boolean

NUMBER, BIT = ir.IntType(32), ir.IntType(1)
ASK = ir.FunctionType(BIT, [])


def never() -> bool:
    """Whether a signal's handler has raised an exception, such as KeyboardInterrupt; Python itself looks after that."""
    return False


@direct(never)
def interrupted(walk: Any) -> Value:
    asked = external(walk.builder, write_interrupted, ASK, passes=FEW)
    asked.attributes.add("cold")  # what the loops around have in registers stays there
    return Value(boolean, walk.builder.call(asked, []))


def write_interrupted(module: ir.Module, symbol: str, element: Any) -> None:
    """Run the handlers of signals that have come, with Python's lock; the exception is told by the result alone."""
    function = ir.Function(module, ASK, symbol)
    builder = ir.IRBuilder(function.append_basic_block())
    stop = entry(builder, threads.STOP)

    def python(name: str, result: ir.Type, *args: ir.Value) -> ir.Value:
        kind = ir.FunctionType(result, [arg.type for arg in args])
        return builder.call(ir.Function(module, kind, name), args)

    foreign = builder.icmp_unsigned("==", python("PyGILState_GetThisThreadState", BYTE), BYTE(None))
    owner = builder.load_atomic(entry(builder, threads.OWNER), "monotonic", 8)
    owns = builder.icmp_unsigned("==", owner, this_thread(builder))
    stopped = builder.icmp_unsigned("!=", builder.load_atomic(stop, "monotonic", 8), word(0))
    with builder.if_then(builder.or_(foreign, builder.and_(owns, stopped))):  # the owner may do another one's chunk
        builder.ret(stopped)
    state = python("PyGILState_Ensure", NUMBER)
    raised = builder.icmp_signed("!=", python("PyErr_CheckSignals", NUMBER), NUMBER(0))
    with builder.if_then(raised):
        python("PyErr_Clear", ir.VoidType())
        with builder.if_then(owns):
            builder.store_atomic(word(1), stop, "monotonic", 8)
    python("PyGILState_Release", ir.VoidType(), state)
    builder.ret(raised)
