"""The product kernel: every layout, size, batch and dtype, against NumPy in higher precision."""

from __future__ import annotations

import ctypes
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from llvmlite import ir

from staticad.expressions import CODE
from staticad.runtime import machine, settings
from staticad.runtime.kernels import gemm, gemv, products, shared, vectors
from staticad.runtime.kinds import float32, float64
from staticad.runtime.link import link
from staticad.runtime.load import load

SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 24, 31, 33, 47, 48, 49, 64, 65, 70, 129, 257]


TEXT = """
import numpy as np
from staticad.runtime.generated import *
@entry("{0}[::1], {0}[::1], {0}[::1], i8[::1]")
def main(x, y, out, d):
    m.contract(x, y, out, {1}, b1(d[16]))
    return 0
"""


def call(x, y, out, starts, sizes, xs, ys, outs, more):
    text = TEXT.format(CODE[x.dtype], ", ".join(f"d[{k}]" for k in range(16)))
    x, y, out = (array.reshape(-1) for array in (x, y, out))
    assert load(text, "product").call(x, y, out, np.array([*starts, *sizes, *xs, *ys, *outs, more])) == 0


def operand(rng, shape, dtype, order, gap, shared=False):
    """A flat buffer, and a view of it of ``shape`` with axes laid out by ``order``, ``gap`` elements apart."""
    batch = 1 if shared else shape[0]
    sizes = [(batch, *shape[1:])[axis] for axis in order]
    full = [n + gap for n in sizes[:-1]] + [sizes[-1] * (2 if gap == 2 else 1) + gap]
    start = 3 if gap else 0
    count = int(np.prod(full)) + start
    kind = np.dtype(dtype).kind
    flat = rng.normal(size=count) if kind == "f" else rng.integers(0, 2 if kind == "b" else 9, count)
    flat = flat.astype(dtype)
    view = flat[start:].reshape(full)[tuple(slice(0, n) for n in sizes[:-1])]
    view = view[..., : sizes[-1] * 2 : 2] if gap == 2 else view[..., : sizes[-1]]
    view = view.transpose(np.argsort(order))
    strides = [s // flat.itemsize for s in view.strides]
    if shared:
        strides[0] = 0
        view = np.broadcast_to(view, shape)
    return flat, view, start, tuple(strides)


ORDERS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (2, 1, 0)]


def check(rng, dtype, sizes, orders, gaps, shared=(False, False), more=False):
    nb, m, n, k = sizes
    x, xv, x0, xs = operand(rng, (nb, m, k), dtype, orders[0], gaps[0], shared[0])
    y, yv, y0, ys = operand(rng, (nb, k, n), dtype, orders[1], gaps[1], shared[1])
    out, ov, o0, outs = operand(rng, (nb, m, n), dtype, orders[2], gaps[2])
    wide = np.dtype(dtype).kind == "f"
    high = np.float64 if wide else dtype
    # What is not to be written must stay; NaN in what is not to be read must not show.
    before, inside, old = out.copy(), np.zeros(len(out), bool), ov.copy()
    if ov.size:
        np.lib.stride_tricks.as_strided(inside[o0:], ov.shape, outs)[...] = True
    if wide:
        for flat, view, start, strides in ((x, xv, x0, xs), (y, yv, y0, ys)):
            used = np.zeros(len(flat), bool)
            if view.size:
                np.lib.stride_tricks.as_strided(used[start:], view.shape, strides)[...] = True
            flat[~used] = np.nan
        if not more:
            out[inside] = np.nan
    expected = np.matmul(xv.astype(high), yv.astype(high))
    if more:
        expected = expected + old
    call(x, y, out, (x0, y0, o0), (nb, m, n, k), xs, ys, outs, more)
    assert np.array_equal(out[~inside], before[~inside])
    if wide:
        bound = np.matmul(abs(xv.astype(high)), abs(yv.astype(high))) + (abs(old) if more else 0)
        eps = np.finfo(dtype).eps
        error = abs(ov - expected)
        assert np.all(error <= eps * (2 + 2 * k**0.5) * bound), (sizes, orders, gaps, shared, more)
    else:
        assert np.array_equal(ov, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_all_layouts_of_random_sizes(dtype):
    rng = np.random.default_rng(0)
    for _ in range(1500):
        sizes = (int(rng.choice([0, 1, 1, 1, 2, 3])), *(int(v) for v in rng.choice(SIZES[:-2], 3)))
        orders = [ORDERS[i] for i in rng.integers(0, 4, 3)]
        gaps = [int(g) for g in rng.choice([0, 0, 1, 2], 3)]
        shared = tuple(bool(s) for s in rng.random(2) < 0.2)
        check(rng, dtype, sizes, orders, gaps, shared, bool(rng.integers(2)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("orders", [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)])
def test_blocks(dtype, more, orders):
    rng = np.random.default_rng(1)
    blocks = [(1, 129, 257, 70), (1, 257, 129, 257), (2, 9, 70, 600), (1, 300, 1100, 530), (1, 1, 600, 600)]
    blocks += [(1, 40, 705, 400), (1, 300, 200, 1024), (1, 31, 300, 1), (1, 31, 300, 2)]
    for sizes in blocks:
        check(rng, dtype, sizes, [ORDERS[i] for i in orders], (0, 0, 0), more=more)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_long_sums(dtype):
    rng = np.random.default_rng(6)
    for m in (1, 2, 3, 7, 8, 14, 17, 32, 40):
        for n in (1, 3, 4, 10, 18):
            for k in (65, 300, 1203):
                for orders in [(0, 1, 0), (1, 1, 0), (0, 1, 1), (1, 1, 1)]:
                    check(rng, dtype, (1, m, n, k), [ORDERS[i] for i in orders], (0, k % 2, 0), more=bool(m % 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_vectors(dtype):
    rng = np.random.default_rng(2)
    for size in [1, 2, 5, 16, 33, 200, 5000]:
        for other in [1, 3, 8, 50]:
            for shape in [(1, 1, other, size), (1, other, 1, size), (1, size, other, 1), (1, 1, size, other)]:
                for orders in [(0, 0, 0), (1, 1, 1), (0, 1, 0), (1, 0, 1)]:
                    for gap in (0, 1, 2):
                        check(rng, dtype, shape, [ORDERS[i] for i in orders], (gap, gap, gap), more=bool(size % 2))


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_other_elements(dtype):
    rng = np.random.default_rng(3)
    for _ in range(100):
        sizes = (int(rng.integers(0, 3)), *(int(v) for v in rng.choice(SIZES[:12], 3)))
        orders = [ORDERS[i] for i in rng.integers(0, 4, 3)]
        check(rng, dtype, sizes, orders, [int(g) for g in rng.choice([0, 1, 2], 3)], more=bool(rng.integers(2)))


@pytest.mark.skipif(settings.plain(), reason="there is no kernel")
def test_threads_share_nothing():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(200, 300)), rng.normal(size=(200, 300))
    expected = x @ y.T

    def run(_):
        out = np.empty((200, 200))
        call(x, y, out, (0, 0, 0), (1, 200, 200, 300), (0, 300, 1), (0, 1, 300), (0, 200, 1), False)
        return np.allclose(out, expected, rtol=1e-12, atol=1e-12)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(run, range(200)))


@pytest.mark.skipif(settings.plain(), reason="there is no kernel")
@pytest.mark.parametrize("host", [(32, 16, True), (16, 16, False), (16, 32, False)])
@pytest.mark.parametrize("element", [float32, float64])
def test_registers_of_other_processors(host, element, monkeypatch):
    for module in (gemm, gemv, products, vectors):
        monkeypatch.setattr(module, "host", lambda: vectors.Host(*host))
    module, symbol = ir.Module(), f"products_{'_'.join(map(str, host))}_{element}"
    products.product_of_floats(module, symbol, element)
    module.triple, module.data_layout = machine.host()[0], machine.layout()
    address = link(symbol, machine.machine_code(str(module), shared.FEW))
    kinds = [ctypes.c_void_p] * 3 + [ctypes.c_ssize_t] * 13 + [ctypes.c_bool]
    run = ctypes.CFUNCTYPE(None, *kinds)(address)
    rng = np.random.default_rng(5)
    for m, n, k in [*rng.integers(0, 40, (60, 3)), (70, 129, 300), (257, 129, 600), (40, 705, 400)]:
        for tx in (False, True):
            for ty in (False, True):
                shapes = (k, m) if tx else (m, k), (n, k) if ty else (k, n)
                x, y = (rng.normal(size=shape).astype(str(element)) for shape in shapes)
                out = np.full((m, n), np.nan, x.dtype)
                strides = (0, *((1, m) if tx else (k, 1)), 0, *((1, k) if ty else (n, 1)), 0, n, 1)
                run(x.ctypes.data, y.ctypes.data, out.ctypes.data, 1, m, n, k, *strides, False)
                x, y = (x.T if tx else x).astype(float), (y.T if ty else y).astype(float)
                error = np.finfo(out.dtype).eps * (2 + 2 * k**0.5) * (abs(x) @ abs(y))
                assert np.all(abs(out - x @ y) <= error), (m, n, k, tx, ty)
