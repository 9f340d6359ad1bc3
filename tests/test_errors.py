"""Bad input: each misuse raises its typed exception, also its built-in kin, and says what was wrong and what to do."""

# ruff: noqa: E501  (tables of cases)

from __future__ import annotations

import functools
import inspect
import re

import numpy as np
import pytest

import staticad as ad
from staticad import nn

V = np.array([1.0, -2.0, 3.0])


def refused(call, error, kin, text):
    assert issubclass(error, kin)
    assert issubclass(error, ad.StaticadError)
    with pytest.raises(error, match=text) as caught:
        call()
    assert isinstance(caught.value, kin)


def test_kin():
    for error, kin in [
        (ad.ShapeError, ValueError),
        (ad.DTypeError, TypeError),
        (ad.GraphError, ValueError),
        (ad.SymbolicError, TypeError),
        (ad.SymbolicError, ad.GraphError),
        (ad.AxisError, IndexError),
        (ad.AxisError, ad.ShapeError),
        (ad.IndexOutOfRange, IndexError),
        (ad.CompileError, RuntimeError),
    ]:
        assert issubclass(error, kin)
        assert issubclass(error, ad.StaticadError)


# ---- shapes and dtypes of operands

x = ad.input("x", ("batch", 64), "float32", requires_grad=True)
y = ad.input("y", (32, 10), "float32")
i = ad.input("i", (4,), "int64")
v = ad.input("v", (3,))
n = ad.dim("n")

# fmt: off
OPERANDS = [
    (lambda: x @ y,                          ad.ShapeError, r"matmul: f32\[batch, 64\] @ f32\[32, 10\]: 64 != 32"),
    (lambda: x + y,                          ad.ShapeError, r"add: f32\[batch, 64\] and f32\[32, 10\]: 64 != 10"),
    (lambda: np.ones((3, 4)) * y,            ad.ShapeError, r"multiply: f64\[3, 4\] and f32\[32, 10\]: 3 != 32"),
    (lambda: np.add(y, np.ones(4)),          ad.ShapeError, r"add: f32\[32, 10\] and f64\[4\]: 10 != 4"),
    (lambda: y < v,                          ad.ShapeError, r"less: f32\[32, 10\] and f64\[3\]: 10 != 3"),
    (lambda: ad.where(y > 0, v, y),          ad.ShapeError, r"where: b1\[32, 10\].*f64\[3\].*f32\[32, 10\]"),
    (lambda: ad.maximum(v, i),               ad.ShapeError, r"maximum: f64\[3\] and i64\[4\]: 3 != 4"),
    (lambda: v @ i,                          ad.ShapeError, r"matmul: f64\[3\] @ i64\[4\]: 3 != 4"),
    (lambda: v @ 2,                          ad.ShapeError, r"matmul: .*no axes"),
    (lambda: ad.vecdot(v, i),                ad.ShapeError, r"vecdot: f64\[3\].*i64\[4\]"),
    (lambda: ad.tensordot(x, y, axes=1),         ad.ShapeError, r"tensordot: .*f32\[batch, 64\].*f32\[32, 10\].*64 != 32"),
    (lambda: ad.einsum("ij,jk->ik", x, y),   ad.ShapeError, r"einsum.*64.*32"),
    (lambda: ad.concat([x, y]),              ad.ShapeError, r"concat: .*f32\[batch, 64\].*f32\[32, 10\]"),
    (lambda: ad.stack([v, i]),               ad.ShapeError, r"stack: f64\[3\] and f64\[4\]: all must have one shape"),
    (lambda: ad.reshape(y, (7, 3)),          ad.ShapeError, r"reshape: f32\[32, 10\] has 320 elements, the shape \[7, 3\] has 21"),
    (lambda: ad.reshape(y, (-1, 7)),         ad.ShapeError, r"reshape: f32\[32, 10\]"),
    (lambda: ad.reshape(y, (-1, -1)),        ad.ShapeError, r"reshape: f32\[32, 10\] to \(-1, -1\): only one"),
    (lambda: ad.broadcast_to(y, (3, 32, 9)), ad.ShapeError, r"broadcast_to: f32\[32, 10\].*10 != 9"),
    (lambda: ad.squeeze(y, 0),               ad.ShapeError, r"squeeze: .*f32\[32, 10\]"),
    (lambda: ad.permute_dims(y, (0,)),       ad.ShapeError, r"permute_dims: .*f32\[32, 10\]"),
    (lambda: y.at[0].set(v),                 ad.ShapeError, r"at\[\.\.\.\]\.set: f64\[3\] into f32\[10\] of f32\[32, 10\]: 3 != 10"),
    (lambda: nn.cross_entropy(x, y),         ad.ShapeError, r"cross_entropy: .*f32\[batch, 64\]"),
    (lambda: nn.mse_loss(y, v),              ad.ShapeError, r"f32\[32, 10\] and f64\[3\]"),
    (lambda: ad.input("q", (-1,)),           ad.ShapeError, r"q|-1"),
    (lambda: ad.zeros((2, -3)),              ad.ShapeError, r"-3"),
    (lambda: y & y,                          ad.DTypeError, r"bitwise_and: does not take f32\[32, 10\] and f32\[32, 10\]; convert with astype"),
    (lambda: ~v,                             ad.DTypeError, r"bitwise_invert: does not take f64\[3\]"),
    (lambda: i << 1.5,                       ad.DTypeError, r"bitwise_left_shift: does not take i64\[4\] and 1.5"),
    (lambda: -(v > 0),                       ad.DTypeError, r"negative: does not take b1\[3\]"),
    (lambda: v + "a",                        ad.DTypeError, r"dtype|data type|<U1"),
    (lambda: v + None,                       ad.DTypeError, r"None"),
    (lambda: v * (1 + 2j),                   ad.DTypeError, r"complex"),
    (lambda: ad.sin(np.ones(3, "c8")),       ad.DTypeError, r"complex64"),
    (lambda: v.astype("float16"),            ad.DTypeError, r"float16 is not supported; use one of .*float32"),
    (lambda: v.astype("nonsense"),           ad.DTypeError, r"'nonsense' is no data type"),
    (lambda: ad.input("q", (), "complex64"), ad.DTypeError, r"complex64 is not supported"),
    (lambda: ad.input("q", (), object),      ad.DTypeError, r"object is not supported"),
    (lambda: i.astype("int8") + 300,         ad.DTypeError, r"300 is out of bounds for int8"),
    (lambda: ad.constant(["a"]),             ad.DTypeError, r"<U1"),
    (lambda: ad.parameter(v),                ad.GraphError, r"parameter: takes an array, not Tensor"),
    (lambda: ad.sum(y, axis=1.5),            ad.DTypeError, r"sum: an axis is an integer, not 1.5"),
    (lambda: y["a"],                         ad.DTypeError, r"index"),
    (lambda: y[1.5],                         ad.DTypeError, r"index: f32\[32, 10\] cannot be indexed by f64"),
    (lambda: y[v],                           ad.DTypeError, r"index: f32\[32, 10\] cannot be indexed by f64\[3\]; convert with astype"),
    (lambda: y[y > 0],                       ad.ShapeError, r"index: f32\[32, 10\] indexed by the mask b1\[32, 10\].*staticad\.where"),
    (lambda: y[::0],                         ad.ShapeError, r"index: the step of a slice of f32\[32, 10\]"),
    (lambda: y.at[0].set("a"),               ad.DTypeError, r"<U1"),
    (lambda: i.at[0].set(1.5),               ad.DTypeError, r"at\[\.\.\.\]\.set: .*i64\[4\].*astype"),
]
# fmt: on


@pytest.mark.parametrize("case", range(len(OPERANDS)))
def test_operands(case):
    call, error, text = OPERANDS[case]
    refused(call, error, TypeError if issubclass(error, TypeError) else ValueError, text)


# fmt: off
PLACES = [
    (lambda: ad.sum(y, axis=2),          r"sum: axis 2 is out of range for f32\[32, 10\], which has 2 axes"),
    (lambda: ad.max(y, axis=(0, -3)),    r"max: axis -3 is out of range for f32\[32, 10\]"),
    (lambda: np.mean(y, axis=5),         r"mean: axis 5 is out of range"),
    (lambda: ad.argmax(v, axis=1),       r"argmax: axis 1 is out of range for f64\[3\], which has 1 axes"),
    (lambda: ad.cumulative_sum(v, axis=1), r"axis 1 is out of range"),
    (lambda: ad.concat([v, v], axis=1),  r"concat: axis 1 is out of range"),
    (lambda: ad.stack([v, v], axis=3),   r"stack: axis 3 is out of range"),
    (lambda: ad.expand_dims(v, axis=3),  r"expand_dims: axis 3 is out of range"),
    (lambda: ad.flip(v, axis=-2),        r"flip: axis -2 is out of range"),
    (lambda: ad.moveaxis(y, 0, 2),       r"moveaxis: axis 2 is out of range"),
    (lambda: ad.take(y, [0], axis=2),    r"take: axis 2 is out of range"),
    (lambda: nn.softmax(v, axis=1),      r"axis 1 is out of range"),
    (lambda: y[32],                      r"index: 32 is out of range for axis 0 of f32\[32, 10\]"),
    (lambda: y[-33],                     r"index: -33 is out of range for axis 0"),
    (lambda: y[:, 10],                   r"index: 10 is out of range for axis 1"),
    (lambda: y[..., np.int64(10)],       r"index: 10 is out of range for axis 1"),
    (lambda: y[0, 0, 0],                 r"index: 3 indices are too many for f32\[32, 10\], which has 2 axes"),
    (lambda: y[[0, 40]],                 r"index: 40 is out of range for axis 0"),
    (lambda: y[np.array([[-40]]), 0],    r"index: -40 is out of range for axis 0"),
    (lambda: ad.take(y, [32], axis=0),   r"32 is out of range"),
    (lambda: y.at[32].add(1.0),          r"index: 32 is out of range for axis 0"),
    (lambda: x[0, 64],                   r"index: 64 is out of range for axis 1 of f32\[batch, 64\]"),
]
# fmt: on


@pytest.mark.parametrize("case", range(len(PLACES)))
def test_static_axes_and_indices(case):
    call, text = PLACES[case]
    refused(call, ad.AxisError, IndexError, text)
    refused(call, ad.AxisError, ValueError, text)


# ---- what requires grad


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_only_floats_require_grad(dtype):
    text = r"only floating.*(i64|u8|b1)\[3\].*(astype|floats)"
    refused(lambda: ad.input("q", (3,), dtype, requires_grad=True), ad.DTypeError, TypeError, text)
    refused(lambda: ad.input("q", (3,), dtype).requires_grad_(), ad.DTypeError, TypeError, text)
    refused(lambda: ad.parameter(np.ones(3, dtype)), ad.DTypeError, TypeError, text)
    refused(lambda: ad.ones(3, dtype=dtype).requires_grad_(), ad.DTypeError, TypeError, text)
    assert not ad.input("q", (3,), requires_grad=True).astype(dtype).requires_grad


# ---- names

NAMES = [
    "1x", "class", "lambda", "None", "x y", "x-y", "", " ", "é", "x.y", "x\n", "x;y", "import os", "__import__('os').abort()",
    "x):\n    import os\n    os.abort()\ndef f(", '"""', "x'", 3, None, b"x", ("x",),
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name)[:20])
def test_names_are_identifiers(name):
    places = [lambda: ad.input(name, (3,)), lambda: setattr(v * 1, "name", name)]
    if name is not None:
        places += [
            lambda: ad.parameter(V, name=name),
            lambda: ad.state(V, name=name),
            lambda: ad.constant(V, name=name),
        ]
        if name != "":
            places.append(lambda: ad.compile([v], v, name=name))
    if isinstance(name, str):
        places += [lambda: ad.input("x", (name,)), lambda: ad.dim(name), lambda: ad.zeros((name,))]
    for place in places:
        refused(place, ad.GraphError, ValueError, "(name|dimension|size)")


def test_names_that_python_or_the_generated_code_uses_are_fine():
    names = ["np", "m", "main", "inner", "entry", "print", "range", "out", "work", "i", "j", "n", "f8", "self"]
    names += ["__name__", "x" * 300, "x_1"]
    inputs = [ad.input(name, (name,)) for name in names]
    f = ad.compile(inputs, {name: ad.sum(t) + 1 for name, t in zip(names, inputs, strict=True)}, name="range")
    out = f(*(np.full(k, 1.0) for k in range(len(names))))
    assert [float(out[name]) for name in names] == [k + 1 for k in range(len(names))]


def test_a_name_reaches_no_source_but_as_a_checked_identifier():
    t = v * 2
    t.name = "doubled"
    p = ad.parameter(V, name="weights")
    f = ad.compile([v], t + p)
    assert "weights" in f.source
    assert ad.constant(V, name="c").name == "c"


# ---- building a function


def test_inputs_of_a_function():
    a, b = ad.input("a", (3,)), ad.input("b", ("n",), "float32")
    again = ad.input("a", (3,))
    w = ad.parameter(V, name="w")
    # fmt: off
    for call, text in [
        (lambda: ad.compile([a], a + ad.sum(b)), r"depend on the input 'b' of type f32\[n\], which is not among the inputs \(a\)"),
        (lambda: ad.compile([], a), r"input 'a'.*there are none.*add it to the list"),
        (lambda: ad.compile([again], a), r"depend on the input 'a'"),
        (lambda: ad.compile([], w, updates={w: w + a}), r"depend on the input 'a'"),
        (lambda: ad.compile([a, a], a), r"two inputs are called 'a'; give each input one name"),
        (lambda: ad.compile([a, again], a + again), r"two inputs are called 'a'"),
        (lambda: ad.compile([a * 2], a), r"Tensor\(f64\[3\]\) is no input but the result of multiply"),
        (lambda: ad.compile([w], w), r"is no input but the result of data.*parameters are found by themselves"),
        (lambda: ad.compile(["a"], a), r"inputs are tensors made by staticad\.input, not str"),
        (lambda: ad.compile(3, a), r"inputs are tensors.*not int"),
        (lambda: ad.compile({"a": a}, a), r"inputs are .*not (str|dict)"),
        (lambda: ad.compile([a], [a, 3.0]), r"outputs are tensors in tuples, lists and dicts, not float"),
        (lambda: ad.compile([a], None), r"outputs are tensors.*NoneType"),
        (lambda: ad.compile([a], a, updates={a: a}), r"updates are of parameters and states, not of Tensor"),
        (lambda: ad.compile([a], a, updates={w: 1.0}), r"the update of Parameter\(f64\[3\], name='w'.*must be a tensor, not float"),
        (lambda: ad.evaluate(a + ad.sum(b), {a: V}), r"the input 'b'.* has no value"),
        (lambda: ad.evaluate(a, {"a": V}), r"values are given for tensors, not for 'a'"),
        (lambda: ad.evaluate([a, 1.0], {a: V}), r"outputs are tensors.*float"),
    ]:
        refused(call, ad.GraphError, ValueError, text)
    refused(lambda: ad.compile([], w, updates={w: ad.sum(w)}), ad.ShapeError, ValueError, r"update of Parameter\(f64\[3\], name='w'.*has type f64;")
    refused(lambda: ad.compile([], w, updates={w: w.astype("float32")}), ad.DTypeError, TypeError, r"f32\[3\].*astype\('float64'\)")
    # fmt: on


# ---- calling a function


@functools.cache
def called():
    a, b = ad.input("a", ("n", 3), "float32"), ad.input("b", ("n",), "int64")
    c = ad.input("c", ("n",), "bool")
    return ad.compile([a, b, c], [ad.sum(a, axis=1) + b, c], name="g"), (a, b, c)


A, B, C = np.ones((2, 3), "f4"), np.array([1, 2]), np.array([True, False])

# fmt: off
CALLS = [
    ((A[0], B, C),                     ad.ShapeError, r"'a'.*2 dimensions \(n, 3\), got the shape \(3,\)"),
    ((A[None], B, C),                  ad.ShapeError, r"'a'.*\(1, 2, 3\)"),
    ((3.0, B, C),                      ad.ShapeError, r"'a'.*got the shape \(\)"),
    ((np.ones((2, 4), 'f4'), B, C),                     ad.ShapeError, r"'a': expects the shape \(n, 3\), got \(2, 4\): axis 1 must be 3"),
    ((A, B[:1], C),                    ad.ShapeError, r"'b'.*\(n,\), got \(1,\): 'n' is 2 in an earlier place and 1 here"),
    ((A[:0], B, C),                    ad.ShapeError, r"'n' is 0 in an earlier place and 2 here"),
    ((A.astype("f8"), B, C),           ad.DTypeError, r"input 'a' takes f32\[n, 3\], got f64 of shape \(2, 3\).*\.astype\('float32'\)"),
    ((A.astype("c8"), B, C),           ad.DTypeError, r"input 'a' takes f32\[n, 3\], got complex64"),
    ((A, B * 1.0, C),                  ad.DTypeError, r"input 'b' takes i64\[n\], got f64 of shape \(2,\).*\.astype\('int64'\)"),
    ((A, B.astype("u8"), C),           ad.DTypeError, r"input 'b' takes i64\[n\], got u64"),
    ((A, [1.5, 2.0], C),               ad.DTypeError, r"input 'b' takes i64\[n\], got f64"),
    ((A, B, B),                        ad.DTypeError, r"input 'c' takes b1\[n\], got i64"),
    ((A, B, [1, 0]),                   ad.DTypeError, r"input 'c' takes b1\[n\], got i64"),
    ((A, "ab", C),                     ad.DTypeError, r"input 'b' takes i64\[n\], got <U2"),
    ((A, None, C),                     ad.DTypeError, r"input 'b' takes i64\[n\]"),
    ((A, [[1], [1, 2]], C),            ad.DTypeError, r"input 'b' takes i64\[n\], not list"),
    ((A, object(), C),                 ad.DTypeError, r"input 'b' takes i64\[n\]"),
    ((A, B),                           ad.DTypeError, r"takes 3 arrays \(a: f32\[n, 3\], b: i64\[n\], c: b1\[n\]\), got 2"),
    ((),                               ad.DTypeError, r"got 0"),
    ((A, B, C, C),                     ad.DTypeError, r"got 4"),
    ((x, B, C),                        ad.DTypeError, r"input 'a' takes f32\[n, 3\], not Tensor: .*compile"),
]
# fmt: on


@pytest.mark.parametrize("case", range(len(CALLS)))
def test_calls(case):
    f, _ = called()
    arrays, error, text = CALLS[case]
    refused(lambda: f(*arrays), error, TypeError if issubclass(error, TypeError) else ValueError, text)
    with pytest.raises(error, match="g: " if error is ad.DTypeError else text):
        f(*arrays)
    outs = [np.zeros(2), np.zeros(2, bool)]
    refused(lambda: f(*arrays, out=outs), error, TypeError if issubclass(error, TypeError) else ValueError, text)
    assert not any(o.any() for o in outs)
    np.testing.assert_array_equal(f(A, B, C)[0], [4, 5])  # still in order


@pytest.mark.parametrize("case", range(6))
def test_evaluate_takes_what_a_call_takes(case):
    _, (a, b, c) = called()
    arrays, error, text = CALLS[case]
    values = dict(zip((a, b, c), arrays, strict=True))
    refused(lambda: ad.evaluate([ad.sum(a, axis=1) + b, c], values), error, ValueError, text)


def test_out_that_does_not_fit():
    f, _ = called()
    good = [np.zeros(2), np.zeros(2, bool)]
    for out, error, text in [
        ([np.zeros(3), good[1]], ad.ShapeError, r"out\[0\] must have the shape \(2,\).*got \(3,\)"),
        ([np.zeros((2, 1)), good[1]], ad.ShapeError, r"out\[0\]"),
        ([np.zeros(2, "f4"), good[1]], ad.DTypeError, r"out\[0\] must be an array of type f64\[n\], got float32"),
        ([[0.0, 0.0], good[1]], ad.DTypeError, r"out\[0\].*list"),
        ([good[0], None], ad.DTypeError, r"out\[1\].*NoneType"),
        (good[:1], ad.ShapeError, "out"),
        (good[0], ad.StaticadError, "out"),
        ([*good, good[0]], ad.ShapeError, "out"),
        ([read_only(np.zeros(2)), good[1]], ad.ShapeError, "read-only"),
    ]:
        with pytest.raises(error, match=f"g: .*{text}"):
            f(A, B, C, out=out)


def read_only(a):
    a.flags.writeable = False
    return a


# ---- indices found at run time


@functools.cache
def indexed():
    a, p = ad.input("a", ("n", 3), requires_grad=True), ad.input("p", ("k",), "int64")
    q = ad.input("q", ("k",), "int32")
    outputs = {
        "gather": (p,), "pairs": (p, q), "take": (p,), "along": (p,), "set": (p,), "add": (p,), "max": (p,), "grad": (p,)
    }  # fmt: skip
    rows = ad.reshape(p, (-1, 1))
    tensors = {
        "gather": a[p],
        "pairs": a[p, q],
        "take": ad.sum(ad.take(a, p, axis=0) * 2),
        "along": ad.take_along_axis(a, rows, axis=0),
        "set": a.at[p].set(1.0),
        "add": a.at[p].add(1.0),
        "max": ad.max(ad.exp(a)[p, 0]),
        "grad": ad.grad(ad.sum(a[p] ** 2), a),
    }
    return {k: (ad.compile([a, p, q], t, name=k), (a, p, q), t) for k, t in tensors.items() if k in outputs}


@pytest.mark.parametrize("k", range(8))
def test_indices_at_run_time(k):
    name, (f, inputs, t) = list(indexed().items())[k]
    a = np.arange(12.0).reshape(4, 3)
    q = np.zeros(2, "i4")
    for good in ([0, 3], [-4, -1]):
        expected = ad.evaluate(t, dict(zip(inputs, (a, good, q), strict=True)))
        np.testing.assert_allclose(f(a, good, q), expected)
    for bad in ([0, 4], [-5, 0], [2**62, 0], [0, -(2**63)]):
        refused(lambda bad=bad: f(a, bad, q), ad.IndexOutOfRange, IndexError, rf"{name}: .*out of range")
        out = np.zeros_like(f(a, [0, 0], q))
        refused(lambda bad=bad, out=out: f(a, bad, q, out=out), ad.IndexOutOfRange, IndexError, "out of range")
        with pytest.raises(IndexError):
            ad.evaluate(t, dict(zip(inputs, (a, bad, q), strict=True)))
    np.testing.assert_array_equal(a, np.arange(12.0).reshape(4, 3))


# ---- no value yet

SYMBOLIC = {
    "if": lambda t: "a" if t > 0 else "b",
    "bool": bool,
    "and": lambda t: t and t,
    "not": lambda t: not t,
    "in": lambda t: 1.0 in t,
    "float": float,
    "int": int,
    "complex": complex,
    "index": lambda t: [1, 2][t],
    "range": range,
    "iteration": list,
    "unpacking": lambda t: (lambda a, b, c: a)(*t),
    "for": lambda t: sorted(t),
    "asarray": np.asarray,
    "array": lambda t: np.array([t, t]),
    "slice": lambda t: V[t:],
    "numpy": lambda t: t.numpy(),
}


@pytest.mark.parametrize("what", SYMBOLIC)
def test_no_value_yet(what):
    for t in (ad.input("t", (3,)), ad.input("t", (), "int64"), ad.input("s") * 2):
        text = r"not known while the graph is built; compute it with staticad\.compile.*evaluate"
        refused(lambda t=t: SYMBOLIC[what](t), ad.SymbolicError, TypeError, text)


def test_item_needs_one_element_and_no_input():
    text = r"item: takes a tensor of one element, not f64\[3\]"
    refused(lambda: ad.parameter(V).item(), ad.ShapeError, ValueError, text)
    refused(lambda: ad.input("t").item(), ad.SymbolicError, TypeError, "compile.*evaluate")


def test_assignment_to_elements():
    def assign():
        v[0] = 1.0

    refused(assign, ad.SymbolicError, TypeError, r"\.at\[")


# ---- a function that cannot be made


def test_compile_error(monkeypatch):
    from staticad.ops import transcendental

    real = transcendental.sin.lower
    broken = type(real)(code="m.no_such_function({x})", cost=real.cost)
    object.__setattr__(transcendental.sin, "lower", broken)
    try:
        refused(lambda: ad.compile([v], ad.sin(v) * 1.0625)(V), ad.CompileError, RuntimeError, "no_such_function")
    finally:
        object.__setattr__(transcendental.sin, "lower", real)


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_the_greatest_of_nothing(name: str) -> None:
    x = ad.input("x", ("n", 3))
    out = getattr(ad, name)(x, axis=0)
    f = ad.compile([x], out)
    assert f(np.ones((2, 3))).shape == (3,)
    with pytest.raises(ad.ShapeError, match=f"{name} of nothing.*n = 0 must be >= 1"):
        f(np.ones((0, 3)))
    with pytest.raises(ad.ShapeError, match=f"{name} of nothing"):
        ad.evaluate(out, {x: np.ones((0, 3))})


def test_softmax_of_no_rows_and_of_no_columns() -> None:
    x = ad.input("x", ("n", "m"))
    f = ad.compile([x], [ad.nn.softmax(x, axis=1), ad.logsumexp(x, axis=1)])
    assert [v.shape for v in f(np.ones((0, 3)))] == [(0, 3), (0,)]
    assert f(np.ones((2, 0)))[1].tolist() == [-np.inf, -np.inf]


def test_a_mask_is_not_dropped_silently() -> None:
    x = ad.input("x", (3,))
    f = ad.compile([x], x * 2)
    masked = np.ma.array([1.0, 2.0, 3.0], mask=[False, True, False])
    for use in (lambda: f(masked), lambda: ad.evaluate(x, {x: masked}), lambda: ad.constant(masked)):
        with pytest.raises(ad.DTypeError, match="masked"):
            use()
    assert f(np.ma.array([1.0, 2.0, 3.0])).tolist() == [2.0, 4.0, 6.0]


# ---- what is no function where one is taken

# fmt: off
NO_FUNCTIONS = {
    "checkpoint":                      lambda: ad.checkpoint(3),
    "custom_vjp":                      lambda: ad.custom_vjp(3),
    "custom_jvp":                      lambda: ad.custom_jvp(3),
    "custom_op":                       lambda: ad.custom_op(3),
    "custom_vjp: sin.defvjp.*fwd":     lambda: ad.custom_vjp(ad.sin).defvjp(3, ad.sin),
    "custom_vjp: sin.defvjp.*bwd":     lambda: ad.custom_vjp(ad.sin).defvjp(ad.sin, 3),
    "custom_jvp: sin.defjvp":          lambda: ad.custom_jvp(ad.sin).defjvp(3),
    "custom_jvp: sin.defjvps.*rule":   lambda: ad.custom_jvp(ad.sin).defjvps(3),
    "testing.gradcheck":               lambda: ad.testing.gradcheck(3, 3.0),
    "testing.gradgradcheck":           lambda: ad.testing.gradgradcheck(3, 3.0),
    "func.jit":                        lambda: ad.func.jit(3),
    "func.grad":                       lambda: ad.func.grad(3),
    "func.value_and_grad":             lambda: ad.func.value_and_grad(3),
    "func.jvp":                        lambda: ad.func.jvp(3, (V,), (V,)),
    "func.vjp":                        lambda: ad.func.vjp(3, V),
    "func.hvp":                        lambda: ad.func.hvp(3, (V,), (V,)),
    "func.jacrev":                     lambda: ad.func.jacrev(3),
    "func.jacfwd":                     lambda: ad.func.jacfwd(3),
    "func.hessian":                    lambda: ad.func.hessian(3),
    "func.vmap":                       lambda: ad.func.vmap(3),
    "scan":                            lambda: ad.scan(3, v, y),
    "scan ":                           lambda: ad.scan(3, v, length=ad.sum(i)),
    "while_loop.*cond_fn":             lambda: ad.while_loop(3, ad.sin, v),
    "while_loop.*body_fn":             lambda: ad.while_loop(lambda x: x[0] > 0, 3, v),
    "map":                             lambda: ad.map(3, v),
    "associative_scan":                lambda: ad.associative_scan(3, v),
    "cond.*true_fn":                   lambda: ad.cond(v[0] > 0, 3, ad.sin, v),
    "cond.*false_fn":                  lambda: ad.cond(v[0] > 0, ad.sin, 3, v),
    "switch.*branches.1.":             lambda: ad.switch(i[0], [ad.sin, 3], v),
    "vmap":                            lambda: ad.vmap(3),
    "implicit.root":                   lambda: ad.implicit.root(3, 1.0),
    "implicit.fixed_point":            lambda: ad.implicit.fixed_point(3, 1.0),
}
# fmt: on


@pytest.mark.parametrize("name", NO_FUNCTIONS)
def test_what_takes_a_function_says_so_at_once(name):
    where, _, role = name.removeprefix("func.").removeprefix("testing.").strip().partition(".*")
    refused(
        NO_FUNCTIONS[name],
        ad.GraphError,
        ValueError,
        rf"^{where}: takes a function.*{role}.*, not 3; give the function",
    )


def test_all_that_take_functions_are_among_them():
    """By their annotations: a public function of a function that is not in the table is missing there."""
    asked = {key.split(":")[0].split(".*")[0].strip() for key in NO_FUNCTIONS}
    for module, prefix in [(ad, ""), (ad.func, "func."), (ad.testing, "testing."), (ad.implicit, "implicit.")]:
        for name in getattr(module, "__all__", vars(module)):
            public = getattr(module, name)
            home = getattr(public, "__module__", "")
            if name.startswith("_") or not inspect.isfunction(public) or not home.startswith("staticad"):
                continue
            if prefix and home != module.__name__:
                continue
            takes = [
                p
                for p in inspect.signature(public).parameters.values()
                if re.match(r"Callable|Body", str(p.annotation))
            ]
            assert not takes or prefix + name in asked, name


def test_loops_name_themselves():
    refused(lambda: ad.map(ad.sin, v[0]), ad.ShapeError, ValueError, "^map: xs have an axis of steps, but one is f64;")
    refused(lambda: ad.map(ad.sin, ()), ad.ShapeError, ValueError, "^map: without xs")
    refused(lambda: ad.scan(lambda c, _: (c, c), v), ad.ShapeError, ValueError, "^scan: without xs.*length=")
    refused(
        lambda: ad.while_loop(lambda x: x[0] > 0, lambda x: x[0], v), ad.ShapeError, ValueError, r"^while_loop: a carry"
    )
    refused(
        lambda: ad.while_loop(lambda k: k > 0, lambda k: k / 2, ad.sum(i)),
        ad.DTypeError,
        TypeError,
        "^while_loop: .*astype",
    )
    refused(lambda: ad.switch(i[0], ad.sin, v), ad.GraphError, ValueError, "^switch: branches are functions in a list")
    add = lambda a, b: a + b
    refused(lambda: ad.associative_scan(add, (v, i)), ad.ShapeError, ValueError, "^associative_scan: xs are as long")
    refused(
        lambda: ad.associative_scan(add, v, axis=1), ad.AxisError, IndexError, r"^associative_scan: axis 1 .* f64\[3\]"
    )
    refused(
        lambda: ad.associative_scan(lambda a, b: ad.concat([a, b]), v),
        ad.ShapeError,
        ValueError,
        r"^associative_scan: what fn returns has type f64\[2\]",
    )
    refused(
        lambda: ad.associative_scan(lambda a, b: a > b, v),
        ad.DTypeError,
        TypeError,
        r"^associative_scan: what fn returns .*use astype",
    )


# fmt: off
NEITHER = [  # arguments of another kind than those that are asked for
    (lambda: ad.concat(None),                     ad.DTypeError, "concat: takes a list of tensors, not None"),
    (lambda: ad.stack(3),                         ad.DTypeError, "stack: takes a list of tensors, not 3"),
    (lambda: ad.permute_dims(y, 1),               ad.DTypeError, r"permute_dims: axes are integers in a tuple .*, not 1, for f32\[32, 10\]"),
    (lambda: ad.roll(y, 1.5, axis=0),             ad.DTypeError, r"roll: a shift of f32\[32, 10\] is an integer, not 1.5"),
    (lambda: ad.einsum(3, y),                    ad.GraphError, "einsum: subscripts are text"),
    (lambda: ad.vectorize(y, v),                  ad.GraphError, "vectorize: replace is a dict"),
    (lambda: ad.linalg.matrix_power(y, 0.5),      ad.DTypeError, "matrix_power: the power is an integer, not 0.5"),
    (lambda: ad.optim.sgd(None, []),              ad.ShapeError, "optim: the loss is a scalar, not None"),
]
# fmt: on


@pytest.mark.parametrize(("call", "error", "text"), NEITHER)
def test_arguments_of_another_kind(call, error, text):
    refused(call, error, ValueError if error is not ad.DTypeError else TypeError, "^" + text)


def test_numpy_tells_the_axes_of_a_tensor():
    array = np.ones((32, 10))
    for tell in (np.ndim, np.shape, np.size, lambda t: np.size(t, 1), lambda t: np.size(t, axis=-2)):
        assert tell(y) == tell(array)
    assert np.shape(x) == (ad.dim("batch"), 64)
    with pytest.raises(ad.AxisError, match="size: axis 2"):
        np.size(y, 2)
