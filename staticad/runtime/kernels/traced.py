"""Branch-free scalar functions written in Python and traced to LLVM; knows arithmetic, and no function in particular.

The body of a `traced` function runs once for each float dtype of a program, on `Value`s, and every operation on them
puts one instruction into a small LLVM function that is inlined wherever it is called. Nothing branches, so a loop
that calls it vectorises at whatever width the machine has. A call costs Numba's front end no more than an addition
(its own compilation of the same body costs 50 to 100 ms), and each instruction says for itself whether it may be
fused: `Value` arithmetic is strict, `madd` is fused where the machine can, `fma` rounds once everywhere.
"""

# llvmlite has no types.
# pyright: basic, reportAttributeAccessIssue=false, reportCallIssue=false, reportReturnType=false
# pyright: reportArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir

from staticad.runtime.kernels import values
from staticad.runtime.kernels.values import direct
from staticad.runtime.kinds import float32, float64

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
F4, F8 = ir.FloatType(), ir.DoubleType()


class Value:
    """A scalar of the function being traced; Python numbers take its type."""

    def __init__(self, builder: ir.IRBuilder, llvm: Any) -> None:
        self.builder, self.llvm = builder, llvm
        self.real = llvm.type in (F4, F8)
        self.double = llvm.type == F8

    def of(self, x: Any) -> Value:
        """``x`` as a value of this type."""
        return x if isinstance(x, Value) else Value(self.builder, ir.Constant(self.llvm.type, x))

    def put(self, real: str, integer: str, x: Any, y: Any) -> Value:
        x, y = self.of(x).llvm, self.of(y).llvm
        return Value(self.builder, getattr(self.builder, real if self.real else integer)(x, y))

    # fmt: off
    def __add__(self, y: Any) -> Value:      return self.put("fadd", "add", self, y)
    def __radd__(self, y: Any) -> Value:     return self.put("fadd", "add", y, self)
    def __sub__(self, y: Any) -> Value:      return self.put("fsub", "sub", self, y)
    def __rsub__(self, y: Any) -> Value:     return self.put("fsub", "sub", y, self)
    def __mul__(self, y: Any) -> Value:      return self.put("fmul", "mul", self, y)
    def __rmul__(self, y: Any) -> Value:     return self.put("fmul", "mul", y, self)
    def __truediv__(self, y: Any) -> Value:  return self.put("fdiv", "", self, y)
    def __rtruediv__(self, y: Any) -> Value: return self.put("fdiv", "", y, self)
    def __and__(self, y: Any) -> Value:      return self.put("", "and_", self, y)
    def __or__(self, y: Any) -> Value:       return self.put("", "or_", self, y)
    def __xor__(self, y: Any) -> Value:      return self.put("", "xor", self, y)
    def __lshift__(self, y: int) -> Value:   return self.put("", "shl", self, y)
    def __rshift__(self, y: int) -> Value:   return self.put("", "lshr", self, y)  # of the bits: unsigned
    def __neg__(self) -> Value:              return Value(self.builder, self.builder.fneg(self.llvm))
    def __lt__(self, y: Any) -> Value:       return self.compare("<", y)
    def __le__(self, y: Any) -> Value:       return self.compare("<=", y)
    def __gt__(self, y: Any) -> Value:       return self.compare(">", y)
    def __ge__(self, y: Any) -> Value:       return self.compare(">=", y)
    def equals(self, y: Any) -> Value:       return self.compare("==", y)
    # fmt: on

    def compare(self, how: str, y: Any) -> Value:
        """A truth value; false where either is nan."""
        order = self.builder.fcmp_ordered if self.real else self.builder.icmp_signed
        return Value(self.builder, order(how, self.llvm, self.of(y).llvm))

    def call(self, name: str, *others: Any) -> Value:
        """The LLVM intrinsic ``name`` of values of this type."""
        kind = self.llvm.type
        operands = [self.llvm, *(self.of(x).llvm for x in others)]
        shape = ir.FunctionType(kind, [kind] * len(operands))
        function = self.builder.module.declare_intrinsic(f"llvm.{name}", [kind], shape)
        return Value(self.builder, self.builder.call(function, operands))


def madd(x: Value, y: Any, z: Any) -> Value:
    """``x * y + z``, rounded once where the machine can, twice elsewhere."""
    return x.call("fmuladd", y, z)


def fma(x: Value, y: Any, z: Any) -> Value:
    """``x * y + z``, rounded once, on any machine."""
    return x.call("fma", y, z)


def polynomial(x: Value, coefficients: Sequence[float], square: Value | None = None) -> Value:
    """Horner's rule, from the highest power down. With the ``square`` of x at hand it takes two powers at a time: as
    many operations, half of them in a chain."""
    if square is None:
        x, terms, square = x, [x.of(c) for c in coefficients], x
    else:
        single = len(coefficients) % 2
        rest = coefficients[single:]
        terms = [x.of(c) for c in coefficients[:single]]
        terms += [madd(x, a, b) for a, b in zip(rest[::2], rest[1::2], strict=True)]
    out = terms[0]
    for term in terms[1:]:
        out = madd(out, square, term)
    return out


def select(condition: Value, x: Any, y: Any) -> Value:
    """``x`` where the condition holds, else ``y``; at least one of them a `Value`."""
    like = x if isinstance(x, Value) else y
    return Value(like.builder, like.builder.select(condition.llvm, like.of(x).llvm, like.of(y).llvm))


def bits(x: Value) -> Value:
    """The integer of the same bits as the real ``x``."""
    return Value(x.builder, x.builder.bitcast(x.llvm, I64 if x.double else I32))


def real(x: Value) -> Value:
    """The real number of the same bits as the integer ``x``."""
    return Value(x.builder, x.builder.bitcast(x.llvm, F8 if x.llvm.type == I64 else F4))


def double(x: Value) -> Value:
    return x if x.double else Value(x.builder, x.builder.fpext(x.llvm, F8))


def narrow(x: Value, like: Value) -> Value:
    """The double ``x`` in the type of ``like``."""
    return x if like.double else Value(x.builder, x.builder.fptrunc(x.llvm, F4))


def two_sum(x: Value, y: Value) -> tuple[Value, Value]:
    """``x + y`` and what rounding took from it (Knuth, TAOCP 2, 4.2.2)."""
    out = x + y
    z = out - x
    return out, (x - (out - z)) + (y - z)


def fabs(x: Value) -> Value:
    return x.call("fabs")


def sqrt(x: Value) -> Value:
    return x.call("sqrt")


def copysign(x: Value, y: Value) -> Value:
    return x.call("copysign", y)


def traced(python: Any, operands: int = 1) -> Callable[[Callable[..., Value]], Any]:
    """Make ``body``, on Values of one float type, a function of compiled code; ``python`` under NUMBA_DISABLE_JIT.

    The type is float32 if all operands have it, else float64.
    """

    def decorate(body: Callable[..., Value]) -> Any:
        def emit(module: ir.Module, kind: Any, name: str) -> ir.Function:
            function = ir.Function(module, ir.FunctionType(kind, [kind] * operands), name)
            function.linkage = "internal"
            function.attributes.add("alwaysinline")
            builder = ir.IRBuilder(function.append_basic_block())
            builder.ret(body(*(Value(builder, x) for x in function.args)).llvm)
            return function

        @direct(python)
        def write(walk: Any, *given: Any) -> Any:
            assert len(given) == operands
            kind = float32 if all(x.kind == float32 for x in given) else float64
            name = f"staticad.{body.__name__}.{kind}"
            module = walk.builder.module
            function = module.globals.get(name) or emit(module, kind.value, name)
            return values.Value(kind, walk.builder.call(function, [walk.cast(x, kind) for x in given]))

        return write

    return decorate


def rarely(name: str, x: Value, limit: float, body: Callable[..., Value], *others: Value) -> Value:
    """``body``, a long computation in double precision, of all operands if ``x`` is nan or beyond ``limit``, else 0.

    A branch keeps a loop from being vectorised. This one is inside a function that the vectoriser finds in variants of
    2 to 16 lanes, by LLVM's attribute for it; a variant looks at all its lanes at once and seldom does more.
    """
    module, kind, count = x.builder.module, x.llvm.type, 1 + len(others)
    name = f"staticad.{name}.{kind}"
    if name not in module.globals:
        scalar, builder = guarded(module, kind, count, 1, name, limit)
        builder.ret(narrow(body(*(double(Value(builder, v)) for v in scalar.args)), x).llvm)
        variants = [spread(scalar, lanes, limit) for lanes in ((2, 4, 8) if x.double else (4, 8, 16))]
        known = ",".join(f"_ZGV_LLVM_N{f.args[0].type.count}{'v' * count}_{name}({f.name})" for f in variants)
        # llvmlite knows no attribute with a value, and refuses what it does not know.
        set.add(scalar.attributes, f'"vector-function-abi-variant"="{known}"')
        keep(module, variants)
    return Value(x.builder, x.builder.call(module.globals[name], [x.llvm, *(y.llvm for y in others)]))


def guarded(
    module: ir.Module, kind: Any, count: int, lanes: int, name: str, limit: float
) -> tuple[ir.Function, ir.IRBuilder]:
    """A function that returns 0 if no lane of its first operand is beyond the limit, and the place where it goes on."""
    its = kind if lanes == 1 else ir.VectorType(kind, lanes)
    function = ir.Function(module, ir.FunctionType(its, [its] * count), name)
    function.linkage = "internal"
    for attribute in ("noinline", "nounwind", "readnone"):
        function.attributes.add(attribute)
    builder = ir.IRBuilder(function.append_basic_block())
    bounds = [ir.Constant(its, bound if lanes == 1 else [bound] * lanes) for bound in (limit, -limit)]
    above, below = (builder.fcmp_unordered(how, function.args[0], b) for how, b in zip("><", bounds, strict=True))
    beyond = builder.or_(above, below)
    if lanes > 1:
        beyond = builder.icmp_unsigned("!=", builder.bitcast(beyond, ir.IntType(lanes)), ir.IntType(lanes)(0))
    rest, done = function.append_basic_block(), function.append_basic_block()
    builder.cbranch(beyond, rest, done)
    ir.IRBuilder(done).ret(ir.Constant(its, None))
    builder.position_at_end(rest)
    return function, builder


def spread(scalar: ir.Function, lanes: int, limit: float) -> ir.Function:
    """``scalar`` for a vector, one lane after the other."""
    count, kind = len(scalar.args), scalar.args[0].type
    function, builder = guarded(scalar.module, kind, count, lanes, f"{scalar.name}.{lanes}", limit)
    out: Any = ir.Constant(function.args[0].type, ir.Undefined)
    for i in range(lanes):
        one = builder.call(scalar, [builder.extract_element(vector, I32(i)) for vector in function.args])
        out = builder.insert_element(out, one, I32(i))
    builder.ret(out)
    return function


def keep(module: ir.Module, functions: Sequence[ir.Function]) -> None:
    """Have LLVM keep what nothing calls yet."""
    byte = ir.IntType(8).as_pointer()
    name = "llvm.compiler.used"
    used = module.globals.get(name)
    kept = [*(used.initializer.constant if used else []), *(f.bitcast(byte) for f in functions)]
    array = ir.ArrayType(byte, len(kept))
    used = used or ir.GlobalVariable(module, array, name)
    used.value_type = array
    used.linkage, used.section, used.initializer = "appending", "llvm.metadata", ir.Constant(array, kept)
