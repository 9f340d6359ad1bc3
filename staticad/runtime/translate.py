"""A front end for generated code: from the text of a function to LLVM, in one walk, by Numba's types and operations.

Numba's front end finds out from bytecode, over several passes, what generated code says plainly: which types its
variables have, where its loops are. Here each statement becomes instructions when it is met. What an operator or
function means for its types is looked up in Numba, so that the meaning is the same; only the way there is shorter.
The language: assignments, `for` over `range`, `while True`, `if`, `return`; arrays are C-contiguous, indexed by one
non-negative integer an axis, and an array variable is assigned once. Knows Python's syntax and Numba, no program.
"""

# Numba and llvmlite have no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false, reportPrivateImportUsage=false, reportIncompatibleMethodOverride=false

from __future__ import annotations

import ast
import builtins
import functools
import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import bytecode, cgutils, compiler, typed_passes, types
from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
from numba.core.environment import Environment
from numba.core.extending import _Intrinsic
from numba.core.funcdesc import FunctionDescriptor
from numba.np.arrayobj import make_array
from numba.np.numpy_support import from_dtype

from staticad.errors import CompileError
from staticad.runtime.kernels.memory import contiguous
from staticad.runtime.kernels.steps import keep, steps
from staticad.runtime.kernels.values import INTP, Direct, Value, View

# fmt: off
OPERATORS: dict[type[ast.AST], Any] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.BitAnd: operator.and_, ast.BitOr: operator.or_, ast.BitXor: operator.xor,
    ast.LShift: operator.lshift, ast.RShift: operator.rshift,
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}
# fmt: on


def arithmetic(real: str, integer: str) -> Callable[..., Value]:
    def write(builder: ir.IRBuilder, is_real: bool, kind: Any, x: Value, y: Value) -> Value:
        return Value(kind, getattr(builder, real if is_real else integer)(x.llvm, y.llvm))

    return write


def comparison(how: str) -> Callable[..., Value]:
    def write(builder: ir.IRBuilder, is_real: bool, kind: Any, x: Value, y: Value) -> Value:
        real = builder.fcmp_unordered if how == "!=" else builder.fcmp_ordered
        return Value(types.boolean, (real if is_real else builder.icmp_signed)(how, x.llvm, y.llvm))

    return write


#: What is written without asking Numba, since asking takes long: operations of one instruction, on these types.
PLAIN = (types.float32, types.float64, types.int64)
INSTRUCTIONS: dict[type[ast.AST], Callable[..., Value]] = {
    ast.Add: arithmetic("fadd", "add"), ast.Sub: arithmetic("fsub", "sub"), ast.Mult: arithmetic("fmul", "mul"),
    ast.Lt: comparison("<"), ast.LtE: comparison("<="), ast.Gt: comparison(">"), ast.GtE: comparison(">="),
    ast.Eq: comparison("=="), ast.NotEq: comparison("!="),
}  # fmt: skip


EXTREMA = {min: "<", max: ">"}


def ended(builder: ir.IRBuilder) -> bool:
    """Whether nothing can follow, because of a return."""
    return builder.block.is_terminated  # pyright: ignore[reportOptionalMemberAccess]


class Walk:
    """Writes the body of one function."""

    def __init__(self, context: Any, typing: Any, builder: ir.IRBuilder, scope: dict[str, Any]) -> None:
        self.context, self.typing, self.builder, self.scope = context, typing, builder, scope
        self.variables: dict[str, Any] = {}  # a View or tuple, or the type and place of a scalar
        self.ends: list[ir.Block] = []  # where a `break` of the loops around goes
        self.resolved: dict[Any, Any] = {}  # functions and types to what `resolve` found

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
            self.context.pack_value(self.builder, *self.element(target, value))
        else:
            self.set(target.id, value)

    def augassign(self, statement: ast.AugAssign) -> None:
        target = statement.target
        value = self.operate(statement.op, self.expression(target), self.expression(statement.value))
        if isinstance(target, ast.Subscript):
            self.context.pack_value(self.builder, *self.element(target, value))
        else:
            self.set(target.id, value)

    def set(self, name: str, value: Any) -> None:
        if not isinstance(value, Value):
            self.variables[name] = value
            return
        known = self.variables.get(name)
        if not isinstance(known, tuple):
            place = cgutils.alloca_once(self.builder, self.context.get_value_type(value.kind), name=name)
            known = self.variables[name] = (value.kind, place)
        self.builder.store(self.cast(value, known[0]), known[1])

    def element(self, target: ast.Subscript, value: Value) -> tuple[Any, ir.Value, ir.Value]:
        kind, place = self.place(target)
        return kind, self.cast(value, kind), place

    def for_(self, statement: ast.For) -> None:
        builder = self.builder
        start, stop, step = self.range(statement.iter)
        counter = cgutils.alloca_once(builder, INTP, name=statement.target.id)
        self.variables[statement.target.id] = (types.intp, counter)
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
        builder.position_at_end(done)

    def range(self, call: ast.Call) -> tuple[ir.Value, ir.Value, ir.Value]:
        zero, one = ir.Constant(INTP, 0), ir.Constant(INTP, 1)
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            raise CompileError(f"generated code has loops over ranges alone, not over {ast.unparse(call)!r}")
        given = [self.cast(self.expression(arg), types.intp) for arg in call.args]
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

    def return_(self, statement: ast.Return) -> None:
        self.context.call_conv.return_value(self.builder, self.cast(self.expression(statement.value), types.int64))

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
            return Value(types.boolean, ir.Constant(ir.IntType(1), x))
        if isinstance(x, int):
            return Value(types.intp, ir.Constant(INTP, x), x)
        assert isinstance(x, float)
        return Value(types.float64, ir.Constant(ir.DoubleType(), x))

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
            return [Value(types.intp, size) for size in of.shape]
        found = getattr(of, node.attr)
        return self.literal(found) if isinstance(found, float) else found

    def tuple(self, node: ast.Tuple) -> list[Any]:
        return [self.expression(x) for x in node.elts]

    def subscript(self, node: ast.Subscript) -> Value:
        if isinstance(node.value, ast.Attribute):  # x.shape[0]
            return self.expression(node.value)[node.slice.value]
        kind, place = self.place(node)
        return Value(kind, self.context.unpack_value(self.builder, kind, place))

    def place(self, node: ast.Subscript) -> tuple[Any, ir.Value]:
        """The dtype and address of an element."""
        view, builder = self.expression(node.value), self.builder
        indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        assert len(indices) == len(view.shape), ast.unparse(node)
        at: Any = None
        for x, size in zip(indices, view.shape, strict=True):
            k = self.cast(self.expression(x), types.intp)
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
        return self.operate(node.op, x)

    def operate(self, op: ast.AST, *operands: Value) -> Value:
        kind = operands[0].kind
        if kind in PLAIN and kind == operands[-1].kind and type(op) in INSTRUCTIONS:
            return INSTRUCTIONS[type(op)](self.builder, isinstance(kind, types.Float), kind, *operands)
        return self.function(OPERATORS[type(op)], operands)

    def compare(self, node: ast.Compare) -> Value:
        operands = [self.expression(x) for x in (node.left, *node.comparators)]
        found = [self.operate(op, *operands[k : k + 2]) for k, op in enumerate(node.ops)]
        return functools.reduce(lambda x, y: Value(types.boolean, self.builder.and_(x.llvm, y.llvm)), found)

    def boolop(self, node: ast.BoolOp) -> Value:
        """Nothing of what generated code compares can fail, so all of it may be computed."""
        join = self.builder.and_ if isinstance(node.op, ast.And) else self.builder.or_
        return Value(types.boolean, functools.reduce(join, [self.truth(x) for x in node.values]))

    def truth(self, node: ast.expr) -> ir.Value:
        return self.cast(self.expression(node), types.boolean)

    def ifexp(self, node: ast.IfExp) -> Value:
        builder, found = self.builder, []
        then, otherwise, done = (builder.append_basic_block(name) for name in ("then", "else", "done"))
        builder.cbranch(self.truth(node.test), then, otherwise)
        for block, branch in ((then, node.body), (otherwise, node.orelse)):
            builder.position_at_end(block)
            found.append((self.expression(branch), builder.block))
        kinds = {value.kind for value, _ in found}
        kind = kinds.pop() if len(kinds) == 1 else self.typing.unify_types(*(value.kind for value, _ in found))
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
        if called in EXTREMA and all(x.kind == types.int64 for x in given):
            return functools.reduce(lambda x, y: self.extremum(EXTREMA[called], x, y), given)
        if isinstance(called, type) and issubclass(called, np.generic):
            kind = from_dtype(np.dtype(called))
            return Value(kind, self.cast(given[0], kind))
        return self.function(called, given)

    def extremum(self, better: str, x: Value, y: Value) -> Value:
        chosen = self.builder.icmp_signed(better, x.llvm, y.llvm)
        return Value(types.int64, self.builder.select(chosen, x.llvm, y.llvm))

    # what Numba knows ------------------------------------------------------------------------------------------------

    def cast(self, value: Value, kind: Any) -> ir.Value:
        if value.kind == kind:
            return value.llvm
        return self.context.cast(self.builder, value.llvm, value.kind, kind)

    def function(self, called: Any, given: Sequence[Any]) -> Any:
        """The result of a function or operator on values, by Numba's definition of it."""
        kinds = tuple(self.kind(x) for x in given)
        key = (called, kinds)
        if key not in self.resolved:
            self.resolved[key] = self.resolve(called, kinds, given)
        wanted, result, code = self.resolved[key]
        if missing := len(wanted) - len(given):
            given = [*given, *map(self.literal, called._defn.__defaults__[-missing:])]
        values = [self.whole(x, kind) for x, kind in zip(given, wanted, strict=True)]
        return self.parts(result, code(self.builder, values))

    def resolve(self, called: Any, kinds: tuple[Any, ...], given: Sequence[Any]) -> tuple[Any, Any, Callable[..., Any]]:
        """The types that the arguments are converted to, that of the result, and what writes the call."""
        if isinstance(called, _Intrinsic):
            exact = tuple(types.literal(x.number) if getattr(x, "number", None) is not None else kind
                          for x, kind in zip(given, kinds, strict=True))  # fmt: skip
            signature, code = called._defn(self.typing, *kinds) or called._defn(self.typing, *exact)
            wanted = list(signature.args)
            star = bool(wanted) and isinstance(wanted[-1], types.StarArgTuple | types.StarArgUniTuple)
            if star:
                wanted[-1:] = list(signature.args[-1])

            def write(builder: ir.IRBuilder, values: list[ir.Value]) -> Any:
                if star:
                    fixed = len(signature.args) - 1
                    values = [*values[:fixed], self.context.make_tuple(builder, signature.args[-1], values[fixed:])]
                return code(self.context, builder, signature, values)

            return wanted, signature.return_type, write
        function = self.typing.resolve_value_type(called)
        signature = self.typing.resolve_function_type(function, kinds, {})
        if signature is None:
            raise CompileError(f"generated code has no {called} of {kinds}")
        implementation = self.context.get_function(function, signature)
        return signature.args, signature.return_type, implementation

    def kind(self, x: Any) -> Any:
        return types.UniTuple(types.intp, len(x)) if isinstance(x, list) else x.kind

    def whole(self, x: Any, kind: Any) -> ir.Value:
        """A value, array or tuple as Numba's functions take it."""
        if isinstance(x, View):
            return contiguous(self.context, self.builder, x.kind, x.data, list(x.shape))
        if isinstance(x, list):
            sizes = [self.cast(size, types.intp) for size in x]
            return self.context.make_tuple(self.builder, types.UniTuple(types.intp, len(x)), sizes)
        return self.cast(x, kind)

    def parts(self, kind: Any, value: ir.Value) -> Any:
        if not isinstance(kind, types.Array):
            return Value(kind, value)
        array = make_array(kind)(self.context, self.builder, value)
        return View(kind, array.data, cgutils.unpack_tuple(self.builder, array.shape, kind.ndim))


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


REFUSED = -1  # the status code of what went wrong without one of its own


@dataclass(frozen=True, eq=False)
class Place:
    """What translation needs besides the text: Numba's contexts, and the module that is written."""

    context: Any
    typing: Any
    module: ir.Module
    function: FunctionType


@register_pass(mutates_CFG=True, analysis_only=False)
class Translation(LoweringPass):
    """From the text of a function of scalars and pointers to a compiled library, in the place of Numba's lowering."""

    _name = "staticad_translation"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def write(self, place: Place, descriptor: FunctionDescriptor) -> None:
        convention, kinds = place.context.call_conv, descriptor.argtypes
        function = place.context.declare_function(place.module, descriptor)
        given = convention.decode_arguments(None, kinds, function)
        write_body(place, function, typed(kinds, given))
        # Called as C has it, which is less to write and to compile for who calls.
        self.write_plain(place, function, kinds, [arg.type for arg in given])

    def write_plain(self, place: Place, function: ir.Function, kinds: Sequence[Any], wanted: Sequence[ir.Type]) -> None:
        """The function that is called from outside, and calls ``function``."""
        plain = ir.Function(place.module, ir.FunctionType(INTP, wanted), place.function.__name__)
        pass_on(place, ir.IRBuilder(plain.append_basic_block("entry")), function, kinds, plain.args)

    def run_pass(self, state: Any) -> bool:
        from numba.core.compiler import _LowerResult

        context, flags, function = state.targetctx, state.flags, state.func_id.func
        state.library = library = context.codegen().create_library(state.func_id.func_qualname)
        library.enable_object_caching()
        state.return_type = types.int64
        names = tuple(f"x{k}" for k in range(len(state.args)))
        descriptor = FunctionDescriptor(
            True, function.__module__, state.func_id.func_qualname, state.func_id.unique_name, function.__doc__ or "",
            {}, types.int64, {}, names, (), mangler=context.mangler, argtypes=tuple(state.args), inline=False,
            noalias=True, abi_tags=[flags.get_mangle_string()], uid=state.func_id.unique_id,
        )  # fmt: skip
        environment = Environment.from_fndesc(descriptor)
        inner = context.subtarget(environment=environment, fndesc=descriptor)
        with context.push_code_library(library):
            module = library.create_ir_module(descriptor.unique_name)
            context.declare_env_global(module, context.get_env_name(descriptor))
            self.write(Place(inner, state.typingctx, module, function), descriptor)
            context.post_lowering(module, library)
            library.add_ir_module(module)
        compiled = context.get_executable(library, descriptor, environment)
        state.reload_init.extend(library._reload_init)
        state.metadata["llvm_pass_timings"] = library.recorded_timings
        state["cr"] = _LowerResult(descriptor, None, cfunc=compiled, env=environment)
        return True


def pass_on(
    place: Place, builder: ir.IRBuilder, function: ir.Function, kinds: Sequence[Any], values: Sequence[ir.Value]
) -> None:
    """Return what ``function`` returns for ``values``; for an exception, the code -1."""
    status, code = place.context.call_conv.call_function(builder, function, types.int64, kinds, values)
    builder.ret(builder.select(status.is_error, ir.Constant(INTP, REFUSED), code))


def typed(kinds: Sequence[Any], values: Sequence[ir.Value]) -> list[Value]:
    return [Value(kind, value) for kind, value in zip(kinds, values, strict=True)]


def inside(place: Place, name: str, kinds: Sequence[Any]) -> ir.Function:
    """A function that only this module knows, still to be written, of arguments that do not overlap."""
    convention = place.context.call_conv
    inner = ir.Function(place.module, convention.get_function_type(types.int64, kinds), name)
    convention.decorate_function(inner, [f"x{k}" for k in range(len(kinds))], kinds, noalias=True)
    inner.linkage = "internal"
    inner.attributes.add("noinline")
    return inner


def write_body(place: Place, function: ir.Function, values: Sequence[Value | View]) -> None:
    """Fill ``function`` with what the text says of ``values``, its arguments."""
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    place.context.call_conv.init_call_helper(builder)
    text = definition(place.function)
    walk = Walk(place.context, place.typing, builder, place.function.__globals__)
    start = builder.append_basic_block("start")
    builder.branch(start)
    builder.position_at_end(start)
    for arg, value in zip(text.args.args, values, strict=True):
        walk.set(arg.arg, value)
    walk.statements(text.body)
    if not ended(builder):
        builder.unreachable()


#: Arrays up to which those of a program are said not to overlap: LLVM's work for it grows with their square.
DISTINCT = 64


@register_pass(mutates_CFG=True, analysis_only=False)
class EntryTranslation(Translation):
    """Of the entry of a program, whose arrays come as one table of words: the address of each, and its sizes.

    The function has an attribute ``arrays``, their Numba types."""

    _name = "staticad_entry_translation"

    def write(self, place: Place, descriptor: FunctionDescriptor) -> None:
        context = place.context
        kinds = place.function.arrays
        function = context.declare_function(place.module, descriptor)
        (words,) = context.call_conv.decode_arguments(None, descriptor.argtypes, function)
        if len(kinds) > DISTINCT:
            builder = ir.IRBuilder(function.append_basic_block("words"))
            values = arrays(context, kinds, iter(load_words(context, builder, words, kinds)))
            body = builder.block
            write_body(place, function, values)
            builder.position_at_end(body)
            builder.branch(function.basic_blocks[1])
            return
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        loaded = load_words(context, builder, words, kinds)
        flat = [t for kind in kinds for t in (types.CPointer(kind.dtype), *[types.intp] * kind.ndim)]
        convention = context.call_conv
        inner = inside(place, f"{function.name}.body", flat)
        status, code = convention.call_function(builder, inner, types.int64, flat, loaded)
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        convention.return_value(builder, code)
        write_body(place, inner, arrays(context, kinds, iter(convention.decode_arguments(None, flat, inner))))


def load_words(context: Any, builder: ir.IRBuilder, words: ir.Value, kinds: Sequence[Any]) -> list[ir.Value]:
    """All words of a table, the addresses as pointers."""
    found: list[ir.Value] = []
    for kind in kinds:
        for axis in range(-1, kind.ndim):
            word = builder.load(builder.gep(words, [ir.Constant(INTP, len(found))], inbounds=True))
            pointer = context.get_value_type(types.CPointer(kind.dtype))
            found.append(builder.inttoptr(word, pointer) if axis < 0 else word)
    return found


def arrays(context: Any, kinds: Sequence[Any], words: Iterator[ir.Value]) -> list[View]:
    return [View(kind, next(words), [next(words) for _ in range(kind.ndim)]) for kind in kinds]


class Translated(compiler.CompilerBase):
    """Compiles generated functions, and nothing else."""

    translation: type[Translation] = Translation

    def compile_extra(self, func: Any) -> Any:
        self.state.func_id = bytecode.FunctionIdentity.from_function(func)
        self.state.bc = None
        self.state.lifted, self.state.lifted_from = (), None
        return self._compile_bytecode()

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("staticad")
        for step in (self.translation, typed_passes.NoPythonBackend):
            passes.add_pass(step, step.__name__)
        passes.finalize()
        return [passes]


class TranslatedEntry(Translated):
    """For `EntryTranslation`."""

    translation = EntryTranslation
