"""A front end for generated code: from the text of a function to LLVM, in one walk.

Each statement becomes instructions when it is met: generated code says plainly which types its variables have and where
its loops are, so that nothing has to be found out. The language: assignments, `for` over `range`, `while True`, `if`,
`return`; arrays are C-contiguous, indexed by one non-negative integer an axis, and an array variable is assigned once.
Knows Python's syntax, no program.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

import ast
import builtins
import functools
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir

from staticad.errors import CompileError
from staticad.runtime import arithmetic
from staticad.runtime.flow import room
from staticad.runtime.kernels.math import fabs
from staticad.runtime.kernels.steps import keep, lanes, steps, unroll, write_out, write_several
from staticad.runtime.kernels.values import INTP, Direct, Value, View
from staticad.runtime.kinds import Array, Float, Pointer, boolean, float64, int64, kind_of, uint64

#: Python's functions of numbers that choose one.
EXTREMA = {min: "<", max: ">"}


def ended(builder: ir.IRBuilder) -> bool:
    """Whether nothing can follow, because of a return."""
    return builder.block.is_terminated  # pyright: ignore[reportOptionalMemberAccess]


class Walk:
    """Writes the body of one function."""

    def __init__(self, builder: ir.IRBuilder, scope: dict[str, Any]) -> None:
        self.builder, self.scope = builder, scope
        self.variables: dict[str, Any] = {}  # a View or tuple, or the kind and place of a scalar
        self.ends: list[ir.Block] = []  # where a `break` of the loops around goes
        self.held: dict[Any, Callable[[], object]] = {}  # what is to be given back before the end, and how

    # statements ------------------------------------------------------------------------------------------------------

    def statements(self, body: Sequence[ast.stmt]) -> None:
        for statement in body:
            method = getattr(self, type(statement).__name__.lower(), None)
            if method is None:
                raise CompileError(f"generated code has no statement {ast.unparse(statement)!r}")
            method(statement)

    def expr(self, statement: ast.Expr) -> None:
        if not isinstance(statement.value, ast.Constant):
            self.expression(statement.value)

    def assign(self, statement: ast.Assign) -> None:
        (target,) = statement.targets
        value = self.expression(statement.value)
        if isinstance(target, ast.Subscript):
            self.put(target, value)
        else:
            self.set(target.id, value)

    def augassign(self, statement: ast.AugAssign) -> None:
        target = statement.target
        value = self.operate(statement.op, self.expression(target), self.expression(statement.value))
        if isinstance(target, ast.Subscript):
            self.put(target, value)
        else:
            self.set(target.id, value)

    def set(self, name: str, value: Any) -> None:
        if not isinstance(value, Value):
            self.variables[name] = value
            return
        known = self.variables.get(name)
        if not isinstance(known, tuple):
            place = room(self.builder, value.kind.value, name=name)
            known = self.variables[name] = (value.kind, place)
        self.builder.store(self.cast(value, known[0]), known[1])

    def put(self, target: ast.Subscript, value: Value) -> None:
        kind, place = self.place(target)
        kind.store(self.builder, self.cast(value, kind), place)

    def for_(self, statement: ast.For) -> None:
        builder = self.builder
        start, stop, step = self.range(statement.iter)
        counter = room(builder, INTP, name=statement.target.id)
        self.variables[statement.target.id] = (int64, counter)
        builder.store(start, counter)
        test, body, done = (builder.append_basic_block(name) for name in ("test", "body", "done"))
        builder.branch(test)
        builder.position_at_end(test)
        builder.cbranch(builder.icmp_signed("<", builder.load(counter), stop), body, done)
        builder.position_at_end(body)
        self.statements(statement.body)
        if not ended(builder):
            builder.store(builder.add(builder.load(counter), step, flags=("nsw",)), counter)
            back = builder.branch(test)
            for arg in statement.iter.args:
                if isinstance(arg, ast.Call) and self.expression(arg.func) is steps:
                    keep(builder.module, back, *(x.value for x in arg.args))
                if isinstance(arg, ast.Call) and self.expression(arg.func) is lanes:
                    write_out(builder.module, back)
                if isinstance(arg, ast.Call) and self.expression(arg.func) is unroll:
                    write_several(builder.module, back, *(x.value for x in arg.args))
        builder.position_at_end(done)

    def range(self, call: ast.Call) -> tuple[ir.Value, ir.Value, ir.Value]:
        zero, one = ir.Constant(INTP, 0), ir.Constant(INTP, 1)
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            raise CompileError(f"generated code has loops over ranges alone, not over {ast.unparse(call)!r}")
        given = [self.cast(self.expression(arg), int64) for arg in call.args]
        return (zero, given[0], one) if len(given) == 1 else (given[0], given[1], *(given[2:] or [one]))

    def if_(self, statement: ast.If) -> None:
        builder = self.builder
        condition = self.truth(statement.test)
        then, done = builder.append_basic_block("then"), builder.append_basic_block("done")
        otherwise = builder.append_basic_block("else") if statement.orelse else done
        builder.cbranch(condition, then, otherwise)
        for block, body in ((then, statement.body), (otherwise, statement.orelse)):
            if body:
                builder.position_at_end(block)
                self.statements(body)
                if not ended(builder):
                    builder.branch(done)
        builder.position_at_end(done)

    def while_(self, statement: ast.While) -> None:
        """Forever, until a `break` or `return`."""
        builder = self.builder
        assert isinstance(statement.test, ast.Constant) and statement.test.value is True
        body, done = builder.append_basic_block("forever"), builder.append_basic_block("done")
        builder.branch(body)
        builder.position_at_end(body)
        self.ends.append(done)
        self.statements(statement.body)
        self.ends.pop()
        if not ended(builder):
            builder.branch(body)
        builder.position_at_end(done)

    def break_(self, statement: ast.Break) -> None:
        self.builder.branch(self.ends[-1])

    def leave(self, code: ir.Value) -> None:
        """Return a status code from the middle of an expression."""
        for give_back in self.held.values():
            give_back()
        self.builder.ret(code)

    def return_(self, statement: ast.Return) -> None:
        self.builder.ret(self.cast(self.expression(statement.value), int64))

    # expressions -----------------------------------------------------------------------------------------------------

    def expression(self, node: ast.expr) -> Any:
        """A `Value`, a `View`, a list for a tuple, or an object of the scope."""
        method = getattr(self, type(node).__name__.lower(), None)
        if method is None:
            raise CompileError(f"generated code has no expression {ast.unparse(node)!r}")
        return method(node)

    def constant(self, node: ast.Constant) -> Value:
        return self.literal(node.value)

    def literal(self, x: Any) -> Value:
        if isinstance(x, bool):
            return Value(boolean, ir.Constant(ir.IntType(1), x))
        if isinstance(x, int):
            return Value(int64 if x < 1 << 63 else uint64, ir.Constant(INTP, x), x)
        assert isinstance(x, float)
        return Value(float64, ir.Constant(ir.DoubleType(), x))

    def name(self, node: ast.Name) -> Any:
        known = self.variables.get(node.id)
        if isinstance(known, tuple):
            return Value(known[0], self.builder.load(known[1]))
        if known is not None:
            return known
        return self.scope[node.id] if node.id in self.scope else getattr(builtins, node.id)

    def attribute(self, node: ast.Attribute) -> Any:
        of = self.expression(node.value)
        if isinstance(of, View):
            assert node.attr == "shape", node.attr
            return [Value(int64, size) for size in of.shape]
        found = getattr(of, node.attr)
        return self.literal(found) if isinstance(found, float) else found

    def tuple(self, node: ast.Tuple) -> list[Any]:
        return [self.expression(x) for x in node.elts]

    def subscript(self, node: ast.Subscript) -> Value:
        if isinstance(node.value, ast.Attribute):  # x.shape[0]
            return self.expression(node.value)[node.slice.value]
        kind, place = self.place(node)
        return Value(kind, kind.load(self.builder, place))

    def place(self, node: ast.Subscript) -> tuple[Any, ir.Value]:
        """The dtype and address of an element."""
        view, builder = self.expression(node.value), self.builder
        indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        assert len(indices) == len(view.shape), ast.unparse(node)
        at: Any = None
        for x, size in zip(indices, view.shape, strict=True):
            k = self.cast(self.expression(x), int64)
            at = k if at is None else builder.add(builder.mul(at, size, flags=("nsw",)), k, flags=("nsw",))
        return view.kind.dtype, view.data if at is None else builder.gep(view.data, [at], inbounds=True)

    def binop(self, node: ast.BinOp) -> Value:
        return self.operate(node.op, self.expression(node.left), self.expression(node.right))

    def unaryop(self, node: ast.UnaryOp) -> Value:
        x = self.expression(node.operand)
        if isinstance(node.op, ast.USub) and x.number is not None:
            return self.literal(-x.number)
        if isinstance(node.op, ast.USub) and isinstance(x.llvm, ir.Constant):
            return self.literal(-x.llvm.constant)
        return arithmetic.unary(self.builder, node.op, x)

    def operate(self, op: ast.operator, x: Value, y: Value) -> Value:
        return arithmetic.binary(self.builder, op, x, y)

    def compare(self, node: ast.Compare) -> Value:
        operands = [self.expression(x) for x in (node.left, *node.comparators)]
        found = [arithmetic.compare(self.builder, op, *operands[k : k + 2]) for k, op in enumerate(node.ops)]
        return functools.reduce(lambda x, y: Value(boolean, self.builder.and_(x.llvm, y.llvm)), found)

    def boolop(self, node: ast.BoolOp) -> Value:
        """Nothing of what generated code compares can fail, so all of it may be computed."""
        join = self.builder.and_ if isinstance(node.op, ast.And) else self.builder.or_
        return Value(boolean, functools.reduce(join, [self.truth(x) for x in node.values]))

    def truth(self, node: ast.expr) -> ir.Value:
        return self.cast(self.expression(node), boolean)

    def ifexp(self, node: ast.IfExp) -> Value:
        builder, found = self.builder, []
        then, otherwise, done = (builder.append_basic_block(name) for name in ("then", "else", "done"))
        builder.cbranch(self.truth(node.test), then, otherwise)
        for block, branch in ((then, node.body), (otherwise, node.orelse)):
            builder.position_at_end(block)
            found.append((self.expression(branch), builder.block))
        kind = arithmetic.unified(*(value.kind for value, _ in found))
        ends = []
        for value, block in found:
            builder.position_at_end(block)
            ends.append((self.cast(value, kind), block))
            builder.branch(done)
        builder.position_at_end(done)
        out = builder.phi(ends[0][0].type)
        for value, block in ends:
            out.add_incoming(value, block)
        return Value(kind, out)

    def call(self, node: ast.Call) -> Any:
        called, given = self.expression(node.func), [self.expression(x) for x in node.args]
        if isinstance(called, Direct):
            return called.write(self, *given)
        if called in EXTREMA:
            choose = functools.partial(arithmetic.larger, self.builder, relation=EXTREMA[called])
            return functools.reduce(choose, given)
        if called is abs:
            return self.absolute(*given)
        if isinstance(called, type) and issubclass(called, np.generic):
            kind = kind_of(called)
            return Value(kind, self.cast(given[0], kind))
        raise CompileError(f"generated code has no function {ast.unparse(node.func)!r}")

    def absolute(self, x: Value) -> Value:
        if isinstance(x.kind, Float):
            return fabs.write(self, x)
        return arithmetic.larger(self.builder, x, arithmetic.unary(self.builder, ast.USub(), x), ">")

    def cast(self, value: Value, kind: Any) -> ir.Value:
        return arithmetic.cast(self.builder, value, kind)


# Python keywords cannot be names of methods.
setattr(Walk, "for", Walk.for_)
setattr(Walk, "if", Walk.if_)
setattr(Walk, "while", Walk.while_)
setattr(Walk, "break", Walk.break_)
setattr(Walk, "return", Walk.return_)


@functools.lru_cache(maxsize=1)
def definitions(source: str) -> dict[str, ast.FunctionDef]:
    return {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}


def definition(function: FunctionType) -> ast.FunctionDef:
    """The text of a function of a generated module, which `load.execute` leaves in its globals."""
    return definitions(function.__globals__["__source__"])[function.__code__.co_name]


def inside(module: ir.Module, name: str, kinds: Sequence[Any]) -> ir.Function:
    """A function that only this module knows, still to be written, of arguments that do not overlap."""
    function = ir.Function(module, ir.FunctionType(INTP, [kind.value for kind in kinds]), name)
    for arg in function.args:
        if isinstance(arg.type, ir.PointerType):
            arg.add_attribute("captures(none)")
            arg.add_attribute("noalias")
    function.linkage = "internal"
    function.attributes.add("noinline")
    return function


def write_body(function: ir.Function, text: FunctionType, values: Sequence[Value | View]) -> None:
    """Fill ``function`` with what the text of a generated function says of ``values``, its arguments."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    body = definition(text)
    walk = Walk(builder, text.__globals__)
    start = builder.append_basic_block("start")
    builder.branch(start)
    builder.position_at_end(start)
    for arg, value in zip(body.args.args, values, strict=True):
        walk.set(arg.arg, value)
    walk.statements(body.body)
    if not ended(builder):
        builder.unreachable()


def typed(kinds: Sequence[Any], values: Sequence[ir.Value]) -> list[Value]:
    return [Value(kind, value) for kind, value in zip(kinds, values, strict=True)]


def write_function(module: ir.Module, symbol: str, text: FunctionType, kinds: Sequence[Any]) -> ir.Function:
    """The function ``symbol`` of scalars and pointers, which is called from outside, as C has it."""
    inner = inside(module, f"{symbol}.body", kinds)
    write_body(inner, text, typed(kinds, inner.args))
    plain = ir.Function(module, ir.FunctionType(INTP, [arg.type for arg in inner.args]), symbol)
    builder = ir.IRBuilder(plain.append_basic_block("entry"))
    builder.ret(builder.call(inner, plain.args))
    return plain


#: Arrays up to which those of a program are said not to overlap: LLVM's work for it grows with their square.
DISTINCT = 64


def write_entry(module: ir.Module, symbol: str, text: FunctionType, kinds: Sequence[Array]) -> None:
    """The function ``symbol`` of a table of words: for each array its address, and its sizes."""
    function = ir.Function(module, ir.FunctionType(INTP, [INTP.as_pointer()]), symbol)
    (words,) = function.args
    if len(kinds) > DISTINCT:
        builder = ir.IRBuilder(function.append_basic_block("words"))
        values = arrays(kinds, iter(load_words(builder, words, kinds)))
        write_body(function, text, values)
        builder.position_at_end(builder.block)  # behind the local arrays that the body has put there
        builder.branch(function.basic_blocks[1])
        return
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    loaded = load_words(builder, words, kinds)
    inner = inside(module, f"{symbol}.body", [t for kind in kinds for t in (Pointer(kind.dtype), *[int64] * kind.ndim)])
    builder.ret(builder.call(inner, loaded))
    write_body(inner, text, arrays(kinds, iter(inner.args)))


def load_words(builder: ir.IRBuilder, words: ir.Value, kinds: Sequence[Array]) -> list[ir.Value]:
    """All words of a table, the addresses as pointers."""
    found: list[ir.Value] = []
    for kind in kinds:
        for axis in range(-1, kind.ndim):
            word = builder.load(builder.gep(words, [ir.Constant(INTP, len(found))], inbounds=True))
            found.append(builder.inttoptr(word, Pointer(kind.dtype).value) if axis < 0 else word)
    return found


def arrays(kinds: Sequence[Array], words: Iterator[ir.Value]) -> list[View]:
    return [View(kind, next(words), [next(words) for _ in range(kind.ndim)]) for kind in kinds]


CONTRACTED = {"fadd", "fsub", "fmul", "fdiv", "frem"}


def contract(module: ir.Module) -> None:
    """Allow products to be fused with sums everywhere, but for instructions that have flags of their own."""
    for function in module.functions:
        for block in function.blocks:
            for instruction in block.instructions:
                if instruction.opname in CONTRACTED and not instruction.flags:
                    instruction.flags.append("contract")
