"""Structural ops by brute force: types, NumPy meaning, lowering and both derivatives agree on every example."""

import itertools
import math

import numpy as np
import pytest

from staticad import shapes
from staticad.errors import AxisError, DTypeError, ShapeError
from staticad.ir import ArrayType, Node, Op, toposort
from staticad.lowering import At, Contract, Reduce, Source, Uninitialised, Update, View
from staticad.ops import arithmetic, creation, indexing, logic, products, reductions, scatter, views
from staticad.ops.rules import no_jvp, no_vjp
from staticad.shapes import Symbol, dim, symbol

MODULES = (views, reductions, products, indexing, scatter)
BELOW = {op for module in (arithmetic, creation, logic) for op in vars(module).values() if isinstance(op, Op)}
OPS = {op.name: op for module in MODULES for op in vars(module).values() if isinstance(op, Op) and op not in BELOW}
CASES = [pytest.param(op, case, id=f"{name}-{k}") for name, op in OPS.items() for k, case in enumerate(op.examples())]
SMOOTH = [p for p in CASES if p.values[1].smooth and any(np.asarray(a).dtype.kind == "f" for a in p.values[1].arrays)]


def given(*, type):  # noqa: A002
    return type


GIVEN = Op(name="given", infer=given, numpy=None, lower=Source(), vjp=no_vjp, jvp=no_jvp)


def source(array):
    array = np.asarray(array)
    return GIVEN(type=ArrayType(array.dtype, array.shape))


def sizes_in(value, sizes):
    """A parameter with each dimension in it evaluated."""
    if isinstance(value, tuple):
        return tuple(sizes_in(v, sizes) for v in value)
    return shapes.evaluate(value, sizes) if isinstance(value, shapes.Expr) else value


def run(outputs, values, sizes=None):
    values = dict(values)
    for node in toposort(outputs):
        if node not in values:
            params = {k: sizes_in(v, sizes or {}) for k, v in node.params.items()}
            values[node] = node.op.numpy(*(values[x] for x in node.args), **params)
            shape = tuple(sizes_in(n, sizes or {}) for n in node.shape)
            assert (values[node].dtype, np.shape(values[node])) == (node.dtype, shape), node
    return [values[x] for x in outputs]


def vjp(out, g, wrt):
    cotangents = {out: g}
    for node in reversed(toposort([out])):
        if node.args and node in cotangents:
            for x, c in zip(node.args, node.op.vjp(node, cotangents[node]), strict=True):
                if c is not None and x.dtype.kind == "f":
                    assert c.type == x.type, (node, x, c)
                    cotangents[x] = cotangents[x] + c if x in cotangents else c
    return [cotangents.get(x) for x in wrt]


def jvp(out, tangents):
    moving = dict(tangents)
    for node in toposort([out]):
        if node.args:
            ts = [moving.get(x) for x in node.args]
            t = node.op.jvp(node, ts) if any(t is not None for t in ts) else None
            if t is not None:
                assert t.type == node.type, (node, t)
                moving[node] = t
    return moving.get(out)


class Kernels:
    """What the steps of lowerings call."""

    radd = staticmethod(lambda x, y: x + y)
    rmul = staticmethod(lambda x, y: x * y)
    rmax = staticmethod(np.maximum)
    rmin = staticmethod(np.minimum)


def coordinates(index, at, arrays):
    out = []
    for i in index:
        if isinstance(i, At):
            value = int(arrays[i.arg][coordinates(i.index, at, arrays)])
            extent = shapes.substitute(i.extent, at)
            assert -extent <= value < extent
            out.append(value % extent)
        else:
            out.append(shapes.substitute(i, at))
    assert all(isinstance(i, int) for i in out), out
    return tuple(out)


def lowered(node, arrays, sizes=None):
    """The result computed element by element from the lowering alone."""
    sizes = {Symbol(name): n for name, n in (sizes or {}).items()}
    lower, params = node.op.lower, node.params
    shape = tuple(shapes.substitute(n, sizes) for n in node.shape)
    step = compile(lower.step.format(acc="acc", x="x", y="y"), "step", "eval") if hasattr(lower, "step") else None

    def places(shape):
        index = [symbol(Symbol(f"i{k}", "var")) for k in range(len(shape))]
        for at in itertools.product(*map(range, shape)):
            yield tuple(index), at, {**sizes, **{Symbol(f"i{k}", "var"): v for k, v in enumerate(at)}}

    if isinstance(lower, View):
        out = np.empty(shape, node.dtype)
        read = lower.read(node, tuple(symbol(Symbol(f"i{k}", "var")) for k in range(len(shape))))
        for _, at, values in places(shape):
            ok = True
            for guard in read.guards:
                value, extent = shapes.substitute(guard.value, values), shapes.substitute(guard.extent, values)
                ok = ok and 0 <= value < extent and value % guard.step == 0
            if ok:
                where = coordinates(read.index, values, arrays)
                assert all(0 <= i < n for i, n in zip(where, arrays[0].shape, strict=True)), (at, where)
                out[at] = arrays[0][where]
            else:
                out[at] = params["fill"]
        return out
    if isinstance(lower, Update):
        out = np.array(arrays[0])
        target = lower.target(node, tuple(symbol(Symbol(f"i{k}", "var")) for k in range(arrays[1].ndim)))
        for _, at, values in places(arrays[1].shape):
            where = coordinates(target, values, arrays)
            assert all(0 <= i < n for i, n in zip(where, out.shape, strict=True))
            out[where] = eval(step, {"m": Kernels, "acc": out[where], "x": arrays[1][at]})
        return out
    assert isinstance(lower, Reduce)
    start = node.dtype.type(eval(lower.init(node.dtype), {"np": np}))
    axes = (params["axis"],) if lower.running else params["axes"]
    out = np.full(shape, start)
    last = {}
    for _, at, _ in places(arrays[0].shape):
        key = tuple(i for a, i in enumerate(at) if a not in axes)
        y = arrays[1][at] if len(arrays) > 1 else None
        acc = eval(step, {"m": Kernels, "acc": last.get(key, start), "x": arrays[0][at], "y": y})
        last[key] = acc
        out[at if lower.running else key] = acc
    return out


@pytest.mark.parametrize("op, case", CASES)
def test_type_meaning_and_lowering_agree(op, case):
    arrays = [np.asarray(a) for a in case.arrays]
    node = op(*map(source, arrays), **case.params)
    hash(tuple(sorted(case.params.items())))
    with np.errstate(all="raise"):
        expected = run([node], dict(zip(node.args, arrays, strict=True)))[0]
        if isinstance(op.lower, (Contract, Uninitialised)):
            return
        np.testing.assert_allclose(lowered(node, arrays), expected, rtol=1e-6 if node.dtype == np.float32 else 1e-13)


def derivative_case(op, case):
    rng = np.random.default_rng(3)
    arrays = [np.asarray(a) for a in case.arrays]
    arrays = [a.astype("float64") if a.dtype.kind == "f" else a for a in arrays]
    nodes = [source(a) for a in arrays]
    out = op(*nodes, **case.params)
    floats = [k for k, a in enumerate(arrays) if a.dtype.kind == "f"]
    return out, nodes, arrays, floats, [rng.standard_normal(arrays[k].shape) for k in floats], rng


@pytest.mark.parametrize("op, case", SMOOTH)
def test_derivatives_agree(op, case):
    out, nodes, arrays, floats, ts, rng = derivative_case(op, case)
    values = dict(zip(nodes, arrays, strict=True))
    g, t_nodes = source(np.zeros(out.shape)), [source(t) for t in ts]
    values |= {g: rng.standard_normal(out.shape), **dict(zip(t_nodes, ts, strict=True))}
    wrt = [nodes[k] for k in floats]
    t_out = jvp(out, dict(zip(wrt, t_nodes, strict=True)))
    pulled = vjp(out, g, wrt)
    assert t_out is not None and all(p is not None for p in pulled)
    t, *gs = run([t_out, *pulled], values)
    assert np.sum(values[g] * t) == pytest.approx(sum(np.sum(a * b) for a, b in zip(gs, ts, strict=True)), rel=1e-11)

    def moved(h):
        shifted = list(arrays)
        for k, step in zip(floats, ts, strict=True):
            shifted[k] = arrays[k] + h * step
        return op.numpy(*shifted, **case.params)

    np.testing.assert_allclose(t, (moved(1e-5) - moved(-1e-5)) / 2e-5, rtol=2e-6, atol=2e-6)
    for k, tangent in zip(floats, t_nodes, strict=True):
        alone = jvp(out, {nodes[k]: tangent})
        assert alone is not None
        inner = np.sum(values[g] * run([alone], values)[0])
        np.testing.assert_allclose(inner, np.sum(values[tangent] * gs[floats.index(k)]), atol=1e-9)


@pytest.mark.parametrize("op, case", SMOOTH)
def test_second_derivatives_agree(op, case):
    """Forward over reverse against differences of the reverse."""
    out, nodes, arrays, floats, ts, rng = derivative_case(op, case)
    wrt = [nodes[k] for k in floats]
    g, t_nodes = source(np.zeros(out.shape)), [source(t) for t in ts]
    values = {g: rng.standard_normal(out.shape), **dict(zip(t_nodes, ts, strict=True))}
    for pulled in vjp(out, g, wrt):
        second = jvp(pulled, dict(zip(wrt, t_nodes, strict=True)))

        def at(h, pulled=pulled):
            shifted = list(arrays)
            for k, step in zip(floats, ts, strict=True):
                shifted[k] = arrays[k] + h * step
            return run([pulled], {**values, **dict(zip(nodes, shifted, strict=True))})[0]

        found = run([second], {**values, **dict(zip(nodes, arrays, strict=True))})[0] if second else 0
        np.testing.assert_allclose(found + np.zeros(pulled.shape), (at(1e-5) - at(-1e-5)) / 2e-5, rtol=1e-5, atol=1e-5)


def static_pairs(size):
    """Shapes of ``size`` elements."""

    def factor(n):
        yield (n,)
        for d in range(2, n):
            if n % d == 0:
                yield from ((d, *rest) for rest in factor(n // d))

    return [*factor(size), (1, size), (size, 1), (2, 1, size // 2)]


@pytest.mark.parametrize("old", static_pairs(24))
def test_reshape_reads_in_order(old):
    x = np.arange(24).reshape(old)
    for new in static_pairs(24):
        node = views.reshape(source(x), shape=new)
        np.testing.assert_array_equal(lowered(node, [x]), x.reshape(new))


n, m = dim("n"), dim("m")


@pytest.mark.parametrize(
    "old, new",
    [
        ((n, 6), (n, 2, 3)),
        ((n, 2, 3), (n, 6)),
        ((n, m), (n * m,)),
        ((n * m,), (n, m)),
        ((n, 4, m), (n * 4, m)),
        ((n, 4, m), (2 * n, 2 * m)),
        ((2, n + 1, 3), (n + 1, 6)),
        ((n, 1, m), (1, n, m)),
        ((m, n), (n, m)),
    ],
)
def test_reshape_of_symbolic_sizes(old, new):
    sizes = {"n": 3, "m": 4}
    x = np.arange(math.prod(sizes_in(old, sizes))).reshape(sizes_in(old, sizes))
    node = views.reshape(GIVEN(type=ArrayType(x.dtype, old)), shape=new)
    np.testing.assert_array_equal(lowered(node, [x], sizes), x.reshape(sizes_in(new, sizes)))


def test_reshape_maps_matching_axes_to_themselves():
    i, j, k = (symbol(Symbol(name, "var")) for name in "ijk")
    x = GIVEN(type=ArrayType(np.dtype("float64"), (n, 6, m)))
    node = views.reshape(x, shape=(n, 1, 6, m))
    assert node.op.lower.read(node, (i, 0, j, k)).index == (i, j, k)
    node = views.reshape(x, shape=(n, 6 * m))
    assert node.op.lower.read(node, (i, j)).index == (i, j // m, j - (j // m) * m)
    node = views.reshape(GIVEN(type=ArrayType(x.dtype, (n * 3,))), shape=(n, 3))
    assert node.op.lower.read(node, (i, j)).index == (3 * i + j,)


@pytest.mark.parametrize("count", [0, 1, 5])
@pytest.mark.parametrize("step", [1, 2, -1, -3])
def test_slice_of_a_symbolic_size_and_its_transpose(count, step):
    """The sizes of the transpose are right for every size at call time, 0 included."""
    sizes = {"n": count}
    size = n if abs(step) == 1 else (n + abs(step) - 1) // abs(step)
    start = 0 if step > 0 else n - 1
    x = GIVEN(type=ArrayType(np.dtype("float64"), (n,)))
    out = views.slice_(x, start=(start,), size=(size,), step=(step,))
    (pulled,) = vjp(out, out * 1.0, [x])
    assert pulled.shape == (n,)
    array = np.arange(1.0, count + 1)
    expected = np.zeros(count)
    expected[::step] = array[::step]
    np.testing.assert_array_equal(run([pulled], {x: array}, sizes)[0], expected)


def test_broadcast_of_symbolic_sizes_keeps_axes_of_size_one():
    x = GIVEN(type=ArrayType(np.dtype("float64"), (1, n)))
    out = views.broadcast(x, shape=(m, 2, n), axes=(1, 2))
    (pulled,) = vjp(out, out * 1.0, [x])
    values = np.arange(3.0).reshape(1, 3)
    np.testing.assert_array_equal(run([pulled], {x: values}, {"n": 3, "m": 4})[0], 8 * values)


def test_ties_of_max_share_evenly():
    x, g = source(np.zeros((2, 3))), source(np.zeros(2))
    (pulled,) = vjp(reductions.max_(x, axes=(1,)), g, [x])
    array = np.array([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]])
    np.testing.assert_allclose(run([pulled], {x: array, g: np.ones(2)})[0], [[0, 0.5, 0.5], [1 / 3] * 3])


def test_concatenation_makes_no_zeros_for_its_base():
    x, y = source(np.zeros(2)), source(np.zeros(3))
    base = indexing.uninitialised(shape=(5,), dtype=np.dtype("float64"))
    out = indexing.update_slice(indexing.update_slice(base, x, start=(0,), step=(1,)), y, start=(2,), step=(1,))
    a, b, g = np.arange(2.0), np.arange(3.0), np.arange(5.0)
    cotangent = source(g)
    gx, gy = run(vjp(out, cotangent, [x, y]), {x: a, y: b, cotangent: g})
    np.testing.assert_array_equal(np.concatenate([gx, gy]), g)
    tangent = jvp(out, {x: x, y: y})
    assert {node.op.name for node in toposort([tangent])} == {"given", "uninitialised", "update_slice"}


def typed(text, *shape):
    return GIVEN(type=ArrayType(np.dtype(text), shape))


f, i = "float64", "int64"
# fmt: off
BAD = [
    (ShapeError, "broadcast",         [typed(f, 3)],  {"shape": (4,), "axes": (0,)}),
    (AxisError,  "broadcast",         [typed(f, 3, 3)],  {"shape": (3, 3), "axes": (1, 0)}),
    (ShapeError, "reshape",           [typed(f, n, 2)],  {"shape": (n, 3)}),
    (AxisError,  "transpose",         [typed(f, 2, 3)],  {"axes": (0, 0)}),
    (AxisError,  "slice",             [typed(f, 3)],  {"start": (1,), "size": (3,), "step": (1,)}),
    (ShapeError, "slice",             [typed(f, 3)],  {"start": (0,), "size": (3,), "step": (0,)}),
    (ShapeError, "pad",               [typed(f, 3)],  {"low": (-1,), "high": (0,), "step": (1,), "fill": 0}),
    (AxisError,  "sum",               [typed(f, 3)],  {"axes": (1,)}),
    (DTypeError, "sum",               [typed("bool", 3)],  {"axes": (0,)}),
    (ShapeError, "max",               [typed(f, 0, 3)],  {"axes": (0,)}),
    (DTypeError, "any",               [typed(f, 3)],  {"axes": (0,)}),
    (AxisError,  "cumsum",            [typed(f, 3)],  {"axis": -1}),
    (ShapeError, "recurrence",        [typed(f, 3), typed(f, 4)],  {"axis": 0}),
    (ShapeError, "contract",          [typed(f, n, 64), typed(f, 32, 10)],  {"spec": "mk,kn->mn"}),
    (DTypeError, "contract",          [typed(f, 2), typed("float32", 2)],  {"spec": "k,k->"}),
    (ShapeError, "contract",          [typed(f, 2, 3), typed(f, 2)],  {"spec": "km,k->"}),
    (ShapeError, "contract",          [typed(f, 2, 2), typed(f, 2)],  {"spec": "kk,k->"}),
    (ShapeError, "contract",          [typed(f, 2), typed(f, 2)],  {"spec": "k,k"}),
    (AxisError,  "update_slice",      [typed(f, 3), typed(f, 2)],  {"start": (2,), "step": (1,)}),
    (DTypeError, "gather",            [typed(f, 3), typed("int32", 2)],  {"axes": (0,), "at": 0}),
    (ShapeError, "gather",            [typed(f, 3, 3), typed(i, 2)],  {"axes": (0, 1), "at": 0}),
    (AxisError,  "gather",            [typed(f, 3, 3), typed(i, 2)],  {"axes": (0,), "at": 2}),
    (ShapeError, "scatter_add",       [typed(f, 3), typed(f, 3), typed(i, 2)],  {"axes": (0,), "at": 0}),
    (DTypeError, "scatter_set",       [typed(f, 3), typed(i, 2), typed(i, 2)],  {"axes": (0,), "at": 0}),
    (ShapeError, "take_along_axis",   [typed(f, 3, 2), typed(i, 3, 3)],  {"axis": 0}),
    (ShapeError, "put_add_along_axis", [typed(f, 3), typed(f, 2), typed(i, 3)],  {"axis": 0}),
]
# fmt: on


@pytest.mark.parametrize("error, name, nodes, params", BAD)
def test_what_does_not_fit_is_named(error, name, nodes, params):
    with pytest.raises(error) as caught:
        OPS[name](*nodes, **params)
    text = str(caught.value)
    assert text.startswith(f"{name}: ") or (name == "slice" and "slice: " in text)
    assert name == "contract" or str(nodes[0].type) in text


def test_every_op_has_examples():
    assert {name for name, op in OPS.items() if not list(op.examples())} == {"uninitialised"}
    assert all(isinstance(x, Op) for x in OPS.values()) and isinstance(views.reshape, Op) and Node.arithmetic
