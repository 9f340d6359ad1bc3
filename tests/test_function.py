"""Compiled functions: nests, keywords, out=, updates, pullbacks, threads, sizes, layouts, what they tell."""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict, namedtuple

import numpy as np
import pytest

import staticad as ad

RNG = np.random.default_rng(11)
V = np.array([1.0, -2.0, 3.0])
Pair = namedtuple("Pair", "first second")


@functools.cache
def square():
    x = ad.input("x", ("n",), requires_grad=True)
    return ad.compile([x], x * x, name="square"), x


@functools.cache
def mixed():
    """Outputs of several dtypes in a nest, that share work; an input, a parameter and a constant are among them."""
    x, y = ad.input("x", ("n", 3), requires_grad=True), ad.input("y", ("n",), "int64")
    w = ad.parameter(V, name="w")
    h = ad.tanh(x * w)
    nest = {
        "loss": ad.sum(h),
        "rest": [h, (h, x), Pair(w, ad.constant([7, 8]))],
        "class": y,
        "mask": h > 0,
        "deep": ({"count": ad.count_nonzero(h > 0)},),
    }
    return ad.compile([x, y], nest, name="mixed"), x, y, w


# ---- nests


def test_nests_come_back():
    f, _, _, w = mixed()
    a, b = RNG.normal(size=(4, 3)), np.arange(4)
    out = f(a, b)
    h = np.tanh(a * w.value)
    assert list(out) == ["loss", "rest", "class", "mask", "deep"]
    np.testing.assert_allclose(out["loss"], h.sum())
    first, second, pair = out["rest"]
    assert isinstance(out["rest"], list)
    assert isinstance(second, tuple)
    assert isinstance(pair, Pair)
    np.testing.assert_allclose(first, h)
    np.testing.assert_allclose(second[0], h)
    np.testing.assert_array_equal(second[1], a)
    np.testing.assert_array_equal(pair.first, V)
    np.testing.assert_array_equal(pair.second, [7, 8])
    np.testing.assert_array_equal(out["class"], b)
    np.testing.assert_array_equal(out["mask"], h > 0)
    assert out["deep"][0]["count"] == (h > 0).sum()
    assert (out["class"].dtype, out["mask"].dtype, out["deep"][0]["count"].dtype) == ("int64", "bool", "int64")


def test_results_are_fresh_arrays():
    """Nothing returned shares memory with an argument, a parameter or another result, even of the same tensor."""
    f, _, _, w = mixed()
    a, b = RNG.normal(size=(4, 3)), np.arange(4)
    before = a.copy()
    one, two = f(a, b), f(a, b)
    arrays = [one["rest"][0], one["rest"][1][0], one["rest"][1][1], one["rest"][2].first, one["class"]]
    others = [*arrays[1:], a, b, w.value, two["rest"][0], two["rest"][2].second, one["rest"][2].second]
    for k, x in enumerate(arrays):
        assert not any(np.shares_memory(x, y) for y in others[k:])
        x[...] = 0
    np.testing.assert_array_equal(a, before)
    np.testing.assert_array_equal(w.value, V)
    np.testing.assert_array_equal(f(a, b)["rest"][2].second, [7, 8])


def test_ordered_dict_and_empty_nests():
    x = ad.input("x", (3,))
    f = ad.compile([x], OrderedDict(b=x + 1, a={}, c=[]))
    assert f(V)["b"].tolist() == [2, -1, 4]
    assert list(f(V).items())[1:] == [("a", {}), ("c", [])]
    for empty in ([], (), {}):
        g = ad.compile([x], empty)
        assert g(V) == empty
        assert type(g(V)) is type(empty)
    assert ad.compile([], [])() == []


def test_functions_without_inputs():
    w = ad.parameter(V, name="w")
    f = ad.compile([], [w * 2, ad.arange(3), ad.ones((2, 2), dtype="float32")])
    doubled, count, ones = f()
    np.testing.assert_array_equal(doubled, 2 * V)
    assert count.tolist() == [0, 1, 2]
    assert ones.dtype == np.float32
    w.value = [0.0, 1.0, 2.0]
    np.testing.assert_array_equal(f()[0], [0, 2, 4])


def test_one_input_needs_no_list():
    x = ad.input("x", (3,))
    np.testing.assert_array_equal(ad.compile(x, x + 1)(V), V + 1)


# ---- calling


def test_keyword_calls():
    x, y, z = (ad.input(n, ()) for n in "xyz")
    f = ad.compile([x, y, z], x + 10 * y + 100 * z, name="f")
    assert f(1, 2, 3) == f(x=1, y=2, z=3) == f(1, z=3, y=2) == f(1, 2, z=3) == 321
    for args, named, text in [
        ((1,), {"y": 2}, "'z' is missing; the inputs are x, y, z"),
        ((1, 2, 3), {"z": 3}, "'z' is given twice"),
        ((1, 2), {"z": 3, "q": 1}, "'q' is unknown"),
        ((1, 2), {}, r"takes 3 arrays \(x: f64, y: f64, z: f64\), got 2"),
        ((1, 2, 3, 4), {}, "got 4"),
    ]:
        with pytest.raises(ad.DTypeError, match=text):
            f(*args, **named)


def test_out():
    f, _, _, _w = mixed()
    a, b = RNG.normal(size=(4, 3)), np.arange(4)
    expected = f(a, b)
    out = rebuilt(f(a, b))
    assert f(a, b, out=out) is out
    check_nest(out, expected)
    g, _ = square()
    room = np.empty(3)
    assert g(V, out=room) is room
    np.testing.assert_array_equal(room, V**2)
    g(room, out=room)  # the input itself
    np.testing.assert_array_equal(room, V**4)
    strided = np.zeros((3, 2))
    g(V, out=strided[:, 1])
    np.testing.assert_array_equal(strided, np.stack([V * 0, V**2], 1))


def rebuilt(nest):
    """The same nest of other arrays."""
    if isinstance(nest, dict):
        return {k: rebuilt(v) for k, v in nest.items()}
    if isinstance(nest, (list, tuple)):
        built = [rebuilt(v) for v in nest]
        return type(nest)(*built) if isinstance(nest, Pair) else type(nest)(built)
    return np.zeros_like(nest)


def check_nest(found, expected, rtol=0.0):
    if isinstance(expected, dict):
        for k in expected:
            check_nest(found[k], expected[k], rtol)
    elif isinstance(expected, (list, tuple)):
        for x, y in zip(found, expected, strict=True):
            check_nest(x, y, rtol)
    else:
        np.testing.assert_allclose(found, expected, rtol=rtol)


def test_out_is_by_key():
    x = ad.input("x", (3,))
    f = ad.compile([x], {"a": x + 1, "b": x + 2})
    out = {"b": np.zeros(3), "a": np.zeros(3)}
    f(V, out=out)
    np.testing.assert_array_equal(out["a"], V + 1)
    np.testing.assert_array_equal(out["b"], V + 2)


def test_out_that_overlaps():
    """An output may be given memory of an input that is read later, and two outputs may not share memory."""
    x = ad.input("x", ("n",))
    f = ad.compile([x], x[::-1] + x)
    room = np.arange(4.0)
    f(room, out=room)
    np.testing.assert_array_equal(room, [3, 3, 3, 3])
    long = np.arange(6.0)
    f(long[:4], out=long[2:])
    np.testing.assert_array_equal(long, [0, 1, 3, 3, 3, 3])


# ---- updates


def test_updates_change_parameters_in_place():
    w, steps = ad.parameter(V, name="w"), ad.state(0, name="steps")
    x = ad.input("x", (3,))
    f = ad.compile([x], ad.sum(w * x), updates={w: w - 0.5 * x, steps: steps + 1})
    held = w.value
    out = f(np.ones(3))
    np.testing.assert_allclose(out, V.sum())
    assert w.value is held
    np.testing.assert_allclose(held, V - 0.5)
    f(np.ones(3))
    np.testing.assert_allclose(held, V - 1)
    assert steps.value == 2
    assert steps.item() == 2
    assert ad.sum(w).item() == pytest.approx(V.sum() - 3)


def test_updates_all_read_the_old_values():
    a, b, c = (ad.parameter(np.full(4, v), name=n) for v, n in ((1.0, "a"), (2.0, "b"), (3.0, "c")))
    swap = ad.compile([], ad.sum(a - b), updates={a: b, b: a})
    assert swap() == -4
    assert (a.value[0], b.value[0]) == (2, 1)
    assert swap() == 4
    turn = ad.compile([], [], updates={a: b, b: c, c: a})
    turn()
    assert [p.value[0] for p in (a, b, c)] == [2, 3, 1]
    mixed_up = ad.compile([], [a, b], updates={a: a + b, b: a - b[::-1]})
    first, second = mixed_up()
    assert (first[0], second[0]) == (2, 3)
    assert (a.value[0], b.value[0]) == (5, -1)


@pytest.mark.parametrize("k", range(6))
def test_updates_that_move_elements(k):
    """In place where it may be, by a copy where old elements are read after new ones are written."""
    start = np.arange(12.0).reshape(3, 4)
    square = np.arange(9.0).reshape(3, 3)
    rules = [
        (start, lambda w: w[::-1]),
        (start, lambda w: w[:, ::-1] + w),
        (square, lambda w: w.T),
        (start, lambda w: ad.roll(w, 1, axis=1)),
        (start, lambda w: w.at[1:].set(w[:-1])),
        (start, lambda w: w - ad.mean(w, axis=0)),
    ]
    array, rule = rules[k]
    w = ad.parameter(array, name="w")
    expected = array
    f = ad.compile([], ad.sum(w), updates={w: rule(w)})
    for _ in range(2):
        assert f() == pytest.approx(expected.sum())
        expected = ad.evaluate(rule(ad.constant(expected)))
        np.testing.assert_allclose(w.value, expected)


def test_update_by_an_input_and_output_of_the_new_value():
    w = ad.parameter(V, name="w")
    x = ad.input("x", (3,))
    new = w + x
    f = ad.compile([x], [new, w], updates={w: new})
    given = np.ones(3)
    after, before = f(given)
    np.testing.assert_array_equal(after, V + 1)
    np.testing.assert_array_equal(before, V)
    np.testing.assert_array_equal(w.value, V + 1)
    after[:] = 0
    np.testing.assert_array_equal(w.value, V + 1)
    g = ad.compile([x], [], updates={w: x})
    g(given)
    given[:] = 5
    np.testing.assert_array_equal(w.value, [1, 1, 1])
    g(w.value)  # the parameter's own memory as the argument
    np.testing.assert_array_equal(w.value, [1, 1, 1])
    f(w.value, out=[w.value, np.empty(3)])


def test_a_failed_call_updates_nothing():
    w, i = ad.parameter(V, name="w"), ad.input("i", ("n",), "int64")
    f = ad.compile([i], ad.sum(w[i]), updates={w: w + w[i][0]})
    with pytest.raises(ad.IndexOutOfRange):
        f(np.array([0, 5]))
    np.testing.assert_array_equal(w.value, V)
    f(np.array([0, -1]))
    np.testing.assert_array_equal(w.value, V + 1)


# ---- derivatives


def test_pullback_of_a_nest():
    f, x, _, w = mixed()
    a, b = RNG.normal(size=(4, 3)), np.arange(4)
    out, pullback = f.vjp(a, b)
    check_nest(out, f(a, b), 1e-14)  # two programs may add up in different orders
    h = np.tanh(a * w.value)
    g = RNG.normal(size=(4, 3))
    zero = np.zeros((4, 3))
    cotangent = {"deep": ({"count": None},), "mask": None, "class": None, "loss": 2.0}
    cotangent["rest"] = [g, (zero, g), Pair(np.ones(3), None)]
    found = pullback(cotangent)
    assert set(found) == {x, w}
    through = (2 + g) * (1 - h * h)
    np.testing.assert_allclose(found[x], through * w.value + g)
    np.testing.assert_allclose(found[w], (through * a).sum(0) + 1)
    again = pullback(cotangent)
    np.testing.assert_array_equal(again[x], found[x])
    assert not np.shares_memory(again[x], found[x])
    cotangent["loss"] = None  # of a scalar: one
    np.testing.assert_allclose(pullback(cotangent)[x], (1 + g) * (1 - h * h) * w.value + g)
    with pytest.raises(ad.GraphError, match=r"non-scalar output of type f64\[n, 3\]"):
        pullback()
    with pytest.raises(ad.ShapeError, match="the gradient: expected a dict with the keys 'loss'"):
        pullback([1.0])


def test_pullback_has_every_input_that_requires_grad():
    x, y, z = (ad.input(n, (3,), requires_grad=n != "z") for n in "xyz")
    f = ad.compile([x, y, z], ad.sum(x * z))
    out, pullback = f.vjp(V, z=2 * V, y=V)
    np.testing.assert_allclose(out, (2 * V * V).sum())
    found = pullback()
    assert set(found) == {x, y}
    np.testing.assert_array_equal(found[y], np.zeros(3))
    f(V, V, V)
    f.backward()
    assert y.grad is None
    np.testing.assert_array_equal(x.grad, V)


def test_residuals_are_kept():
    """What is dear to compute is not computed again in the backward pass; what is cheap is not kept."""
    x = ad.input("x", ("n",), requires_grad=True)
    f = ad.compile([x], ad.sum(ad.exp(ad.sin(x) * 2 + 1)))
    passes = f._passes
    forward, backward = (p.target for p in (passes.forward, passes.backward))
    kept = list(forward.outputs[1:])
    assert 0 < len(kept) <= 2
    assert [name for name, _ in backward.inputs] == ["x", *(f"kept_{k}" for k in range(len(kept))), "gradient"]
    _, pullback = f.vjp(V)
    np.testing.assert_allclose(pullback()[x], np.exp(np.sin(V) * 2 + 1) * 2 * np.cos(V))
    plain = ad.compile([x], ad.sum(x * 3 + x * x))._passes.forward.target
    assert len(plain.outputs) == 1


def test_inputs_may_be_called_as_the_backward_pass_calls_its_own():
    names = ["gradient", "kept_0", "gradient_1", "out", "work", "main", "np", "m", "inner", "status", "i", "n"]
    inputs = [ad.input(n, ("i", "work"), requires_grad=True) for n in names]
    a = ad.stack(inputs)
    f = ad.compile(inputs, [ad.exp(ad.sum(ad.exp(a * 0.1), axis=0)), a], name="main")
    arrays = [RNG.normal(size=(2, 3)) for _ in names]
    s = np.exp(np.stack(arrays) * 0.1)
    out, pullback = f.vjp(*arrays)
    np.testing.assert_allclose(out[0], np.exp(s.sum(0)))
    found = pullback([np.ones((2, 3)), np.zeros((len(names), 2, 3))])
    for x, e in zip(inputs, s, strict=True):
        np.testing.assert_allclose(found[x], np.exp(s.sum(0)) * e * 0.1)


def test_backward_follows_the_last_call():
    f, x = square()
    x.grad = None
    for values in (V, V + 1, np.arange(5.0)):
        f(values)
        x.grad = None
        f.backward(np.ones(len(values)))
        np.testing.assert_array_equal(x.grad, 2 * values)
    f(x=[1.0, 2.0])  # by name, from a list
    x.grad = None
    f.backward([1, 10])
    np.testing.assert_array_equal(x.grad, [2, 40])
    room = np.empty(2)
    assert f([3.0, 4.0], out=room) is room  # a recorded call
    np.testing.assert_array_equal(room, [9, 16])
    x.grad = None
    f.backward([1, 1])
    np.testing.assert_array_equal(x.grad, [6, 8])
    for wrong in (np.empty((2, 2)), np.empty(2, "f4"), [1, 2]):
        with pytest.raises((ad.ShapeError, ad.DTypeError), match=r"square: out\[0\] must"):
            f([3.0, 4.0], out=wrong)


def test_grad_of_a_scalar_stays_an_array():
    x = ad.input("x", requires_grad=True)
    f = ad.compile([x], x * x)
    for _ in range(3):
        f(2.0)
        f.backward()
    assert isinstance(x.grad, np.ndarray)
    assert x.grad == 12


def test_backward_and_pullback_refuse():
    f, _ = square()
    x = ad.input("x", (3,), requires_grad=True)
    w = ad.parameter(V, name="w")
    fresh = ad.compile([x], x * x, name="fresh")
    with pytest.raises(ad.GraphError, match="fresh: backward before any call; call the function first"):
        fresh.backward(V)
    f(V)
    for gradient, error, text in [
        (None, ad.GraphError, r"square: .*non-scalar output of type f64\[n\].*backward\(gradient\)"),
        (np.ones(4), ad.ShapeError, r"square: the gradient has the shape \(4,\), the output \(3,\)"),
        (np.ones((3, 1)), ad.ShapeError, r"\(3, 1\)"),
        (1.0, ad.ShapeError, r"\(\)"),
        (np.ones(3, complex), ad.DTypeError, "complex128"),
        (["a", "b", "c"], ad.DTypeError, "square: the gradient has dtype"),
    ]:
        with pytest.raises(error, match=text):
            f.backward(gradient)
    plain = ad.compile([ad.input("x", (3,))], ad.ones(3), name="plain")
    plain(V)
    for call in (plain.backward, lambda: plain.vjp(V)):
        with pytest.raises(ad.GraphError, match="plain: no output requires grad"):
            call()
    step = ad.compile([], ad.sum(w), updates={w: w * 2}, name="step")
    step()
    with pytest.raises(ad.GraphError, match=r"step: backward of a function with updates.*staticad\.grad"):
        step.backward()
    step()
    np.testing.assert_array_equal(w.value, 4 * V)


def test_threads():
    """One function called, and pulled back, from many threads at once."""
    f, x = square()
    x.grad = None
    f(V)
    f.backward(V * 0)  # compiled before the threads start
    arrays = [RNG.normal(size=200 + k) for k in range(8)]
    errors = []

    def work(a):
        try:
            for _ in range(30):
                np.testing.assert_array_equal(f(a), a * a)
                out, pullback = f.vjp(a)
                np.testing.assert_array_equal(out, a * a)
                np.testing.assert_array_equal(pullback(a)[x], 2 * a * a)
        except Exception as error:  # told to the test's own thread
            errors.append(error)

    threads = [threading.Thread(target=work, args=(a,)) for a in arrays]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    seen = []

    def backward_elsewhere():
        try:
            f.backward(V)
        except ad.GraphError as error:
            seen.append(str(error))

    t = threading.Thread(target=backward_elsewhere)
    t.start()
    t.join()
    assert seen == ["square: backward before any call; call the function first"]


def test_backward_from_threads_adds_up():
    w = ad.parameter(np.zeros(4), name="w")
    x = ad.input("x", (4,))
    f = ad.compile([x], ad.sum(w * x))
    f(np.ones(4))
    f.backward()
    w.grad = None

    def work():
        for _ in range(50):
            f(np.ones(4))
            f.backward()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    np.testing.assert_array_equal(w.grad, np.full(4, 200.0))


# ---- sizes


def test_zero_sizes_and_no_axes():
    f, x = square()
    assert f(np.empty(0)).shape == (0,)
    _, pullback = f.vjp(np.empty(0))
    assert pullback(np.empty(0))[x].shape == (0,)
    a = ad.input("a", ("n", "k"))
    g = ad.compile([a], [ad.sum(a, axis=0), ad.prod(a), ad.exp(a), a @ a.T, ad.concat([a, a]), ad.sum(a)])
    for shape in [(0, 3), (3, 0), (0, 0), (2, 3)]:
        v = RNG.normal(size=shape)
        expected = [v.sum(0), v.prod(), np.exp(v), v @ v.T, np.concatenate([v, v]), v.sum()]
        for found, e in zip(g(v), expected, strict=True):
            np.testing.assert_allclose(found, e, rtol=1e-12, atol=1e-14)
    z = ad.input("z", ())
    h = ad.compile([z], z * 2)
    for given in (3, 3.0, np.float64(3), np.array(3.0), np.float32(3), np.array(3)):
        found = h(given)
        assert isinstance(found, np.ndarray)
        assert (found.shape, found.dtype, found) == ((), np.float64, 6)


def test_symbolic_sizes_in_several_inputs():
    x, y = ad.input("x", ("n", "k")), ad.input("y", ("k", ad.dim("n") + 1))
    w = ad.input("w", (ad.dim("n") * 2,))
    f = ad.compile([x, y, w], [x @ y, ad.sum(w), ad.reshape(w, (2, -1)) + x[:, 0]], name="f")
    for n, k in [(2, 3), (1, 1), (0, 2)]:
        a, b, c = RNG.normal(size=(n, k)), RNG.normal(size=(k, n + 1)), RNG.normal(size=2 * n)
        found = f(a, b, c)
        np.testing.assert_allclose(found[0], a @ b, atol=1e-14)
        np.testing.assert_allclose(found[1], c.sum(), atol=1e-14)
        np.testing.assert_allclose(found[2], c.reshape(2, n) + a[:, 0])
    good = [np.ones((2, 3)), np.ones((3, 3)), np.ones(4)]
    for k, shape, text in [
        (1, (4, 3), r"'y'.*\(k, n \+ 1\).*\(4, 3\).*'k' is 3 in an earlier place and 4 here"),
        (1, (3, 2), r"'y'.*axis 1 must be n \+ 1 = 3"),
        (2, (5,), r"'w'.*axis 0 must be 2\*n = 4"),
        (0, (2,), r"'x'.*2 dimensions \(n, k\)"),
    ]:
        arrays = list(good)
        arrays[k] = np.ones(shape)
        with pytest.raises(ad.ShapeError, match=text):
            f(*arrays)
        with pytest.raises(ad.ShapeError, match=text):
            ad.evaluate(x @ y, dict(zip((x, y, w), arrays, strict=True)))


def test_sizes_that_no_input_tells():
    n = ad.dim("n")
    x, y = ad.input("x", (2 * n + 1,)), ad.input("y", ("n",))
    f = ad.compile([x, y], x[:n] * y)
    np.testing.assert_array_equal(f(np.arange(7.0), V), [0, -2, 6])
    alone = [ad.zeros(("n", 2)), ad.sum(ad.arange(n)), ad.ones(()) * n]
    for inputs, outputs in [([x], x[:n]), ([x], x * 2), *(([], t) for t in alone)]:
        with pytest.raises(ad.GraphError, match=r"f: no input tells the size 'n', which <.*> needs.*\('n',\)"):
            ad.compile(inputs, outputs)
    with pytest.raises(ad.ShapeError, match="n needs a size for n"):
        ad.evaluate(ad.zeros(("n", 2)))


def test_what_was_assumed_is_checked():
    x, y = ad.input("x", ("n",)), ad.input("y", ("m",))
    f = ad.compile([x, y], x + y, name="f")
    np.testing.assert_array_equal(f(V, V), 2 * V)
    for call in (lambda: f(V, np.ones(4)), lambda: ad.evaluate(x + y, {x: V, y: np.ones(4)})):
        with pytest.raises(ad.ShapeError, match=r"add: f64\[n\] and f64\[m\]: m = 4 must be == n = 3"):
            call()
    g = ad.compile([x], x[2] * x[-3], name="g")
    assert g(V) == 3
    for call in (lambda: g(V[:2]), lambda: ad.evaluate(x[2], {x: V[:2]})):
        with pytest.raises(ad.ShapeError, match="= 2"):
            call()
    h = ad.compile([x], ad.reshape(x, (2, -1)), name="h")
    assert h(np.arange(4.0)).shape == (2, 2)
    with pytest.raises(ad.ShapeError, match=r"h: .*reshape: f64\[n\] .*: n = 3 must be == 2\*\(n//2\) = 2"):
        h(V)


# ---- layouts


@functools.cache
def layouts(dtype):
    x, y = ad.input("x", ("n", "k", 2), dtype), ad.input("y", ("k", 2), dtype)
    flat = ad.reshape(x + y, -1)
    return ad.compile([x, y], {"sum": ad.sum(x, axis=1), "turned": x.mT - 2 * y.T, "flat": flat, "y": y})


LAYOUTS = {
    "C": lambda a: a,
    "Fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, -1)[::2, ..., ::3],
    "reversed": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
    "transposed": lambda a: a.T.copy().T,
    "read-only": lambda a: read_only(a.copy()),
    "unaligned": lambda a: np.frombuffer(b"\0" + a.tobytes(), "u1")[1:].view(a.dtype).reshape(a.shape),
    "big endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "broadcast": lambda a: np.broadcast_to(a[:1, :1], a.shape),
    "subclass": lambda a: np.ma.masked_array(a),
    "list": lambda a: a.tolist(),
}


def read_only(a):
    a.flags.writeable = False
    return a


@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, dtype):
    f = layouts(dtype)
    for trial in range(6):
        n, k = [(3, 4), (1, 5), (2, 1), (0, 3), (3, 0), tuple(RNG.integers(1, 30, 2))][trial]
        a, b = ((RNG.normal(size=s) * 50).astype(dtype) for s in ((n, k, 2), (k, 2)))
        x, y = LAYOUTS[layout](a), LAYOUTS[layout](b)
        if layout == "list" and a.size == 0:
            continue
        before = np.array(x)
        out = f(x, y)
        a, b = np.array(x, dtype), np.array(y, dtype)
        np.testing.assert_array_equal(before, x)
        np.testing.assert_allclose(out["sum"], a.sum(1), rtol=1e-4, atol=1e-3)
        np.testing.assert_array_equal(out["turned"], a.swapaxes(1, 2) - 2 * b.T)
        np.testing.assert_array_equal(out["flat"], (a + b).ravel())
        np.testing.assert_array_equal(out["y"], b)
        assert all(v.flags.c_contiguous and type(v) is np.ndarray for v in out.values())
        room = {key: np.zeros((*v.shape, 2), v.dtype)[..., 1] for key, v in out.items()}  # strided outputs
        f(x, y, out=room)
        for key in out:
            np.testing.assert_array_equal(room[key], out[key])


# ---- what a function tells of itself


def test_what_it_tells():
    f, _, _, _w = mixed()
    assert repr(f).startswith("<Function mixed(x: f64[n, 3], y: i64[n]) -> {'loss': 'f64'")
    assert "def main(" in f.source
    compile(f.source, "source", "exec")
    assert str(f.graph).startswith("graph(x: f64[n, 3], y: i64[n])")
    s = f.stats
    assert s.kernels == len(f.kernels) > 0
    assert {"simplify", "schedule", "plan", "emit", "native"} <= set(s.compile_seconds)
    assert all(t >= 0 for t in s.compile_seconds.values())
    assert isinstance(s.cache_hit, bool)
    assert all("flops" in str(k) for k in f.kernels)
    g, _ = square()
    assert (g.stats.kernels, str(g.stats.flops), str(g.stats.bytes_read), str(g.stats.bytes_written)) == (
        1,
        "n",
        "8*n",
        "8*n",
    )
    assert g.stats.workspace_bytes == g.stats.temporaries == 0
    assert repr(g) == "<Function square(x: f64[n]) -> f64[n]>"


def test_keys_and_names_do_not_become_code():
    x = ad.input("x", (3,))
    y = x + 1
    f = ad.compile([x], {"import os; os.abort()": y, "class": y * 2, "": x, 3: y, '"""': y * 3}, name="lambda_")
    out = f(V)
    assert list(out) == ["import os; os.abort()", "class", "", 3, '"""']
    np.testing.assert_array_equal(out["class"], (V + 1) * 2)
    assert "os.abort()" not in f.source


def test_the_compiled_function_keeps_what_was_compiled():
    """Flags set later on a tensor that was compiled change nothing in the function."""
    a, b = ad.input("a", requires_grad=True), ad.input("b")
    c = a * b
    f = ad.compile([a, b], c)
    d = b * 3
    g = ad.compile([b], d)
    d.requires_grad = True
    g(2.0)
    with pytest.raises(ad.GraphError, match="no output requires grad"):
        g.backward()
    assert f(2.0, 3.0) == 6
    f.backward()
    assert a.grad == 3
    assert ad.compile([b], d)(2.0) == 6


def test_an_updated_array_of_one_element_is_a_variable_of_its_own():
    """Not the constant that it was, and not the other value that it was equal to."""
    h, s, k = ad.input("h", (2, 3)), ad.input("s", ()), ad.input("k", (), "int64")
    zero, power = ad.zeros((1,)), ad.expand_dims(ad.exp(s))
    first = np.zeros(3, "int64")
    outputs = [
        zero.at[k % 1].add(ad.sum(h)) * 2.0, power.at[k % 1].add(ad.sum(h)) * 2.0, power.at[first].add(h[0]) * 2.0,
        power.at[0].add(s) * 2.0, ad.exp(s),
    ]  # fmt: skip
    expected = [12.0, 2.0 * (np.exp(0.5) + 6.0), 2.0 * (np.exp(0.5) + 3.0), 2.0 * (np.exp(0.5) + 0.5), np.exp(0.5)]
    arrays = np.ones((2, 3)), np.array(0.5), np.array(7)
    together = ad.compile([h, s, k], outputs)(*arrays)
    for x, y, e in zip(outputs, together, expected, strict=True):
        np.testing.assert_allclose(ad.compile([h, s, k], x)(*arrays), [e] if x.shape else e)
        np.testing.assert_allclose(y, [e] if x.shape else e)
