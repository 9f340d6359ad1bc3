"""Loops and products on several threads: the same results, the same bits, in any thread and process, and errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from programs import PROGRAMS, build, generate

import staticad as ad

ROOT = Path(__file__).parent.parent

#: Programs with all that a parallel loop can have: sums, arrays that all rows add to, rows for each thread, scatters,
#: products in loops.
PRELUDE = """
import numpy as np, numba, staticad as ad

def programs():
    x = ad.input("x", ("n",), "float64")
    loss = ad.sum(ad.exp(-(x**2)) * ad.tanh(x))
    yield "elementwise", [x], [loss, ad.grad(loss, x), ad.max(x), ad.any(x > 2.5)]
    y, g = ad.input("y", ("n", 50), "float32"), ad.input("g", ("n", 50), "float32")
    s = ad.nn.softmax(y)
    yield "softmax", [y, g], [s, ad.vjp([s], [y], [g])[0]]
    logits, labels, b = ad.input("logits", ("n", 10)), ad.input("labels", ("n",), "int64"), ad.input("b", (10,))
    loss = ad.nn.cross_entropy(logits + b, labels)
    yield "cross_entropy", [logits, labels, b], [loss, ad.grad(loss, b), ad.grad(loss, logits)]
    at, v = ad.input("at", ("n",), "int64"), ad.input("v", ("n",))
    yield "scatter", [at, v], [ad.zeros((7,)).at[at].add(ad.sin(v)), ad.var(v)]
    z, w, u = ad.input("z", ("n", 40)), ad.input("w", (40, 640)), ad.input("u", (640, 3))
    loss = ad.mean(ad.nn.relu(z @ w) @ u)
    yield "dense", [z, w, u], [loss, *ad.grad(loss, [w, u, z])]
    r, a = ad.input("r", ("n",)), ad.input("a", (2,))
    items = ad.map(lambda v: ad.scan(lambda h, _: (ad.sin(a[0] * h) + a[1] * v, None), v, length=9)[0], r)
    yield "items", [r, a], [items, *ad.grad(ad.sum(items), [r, a])]
    grow = lambda y: 1.1 * y + 0.1 * ad.sin(a[0] * y) ** 2
    trips = ad.map(lambda v: ad.while_loop(lambda y: y < 9, grow, v * v + 0.1), r)
    yield "trips", [r, a], [trips, *ad.grad(ad.sum(trips), [r, a])]
    c = ad.input("c", ("n", 30))
    yield "columns", [c], [ad.sum(c, axis=0), ad.max(c, axis=0), ad.prod(1 + c / 1e4, axis=0), ad.sum(c, axis=1)]

def inputs(names, n):
    rng = np.random.default_rng(n)
    made = []
    for t in names:
        shape = tuple(n if not isinstance(d, int) else d for d in t.shape)
        made.append(rng.integers(-7, 7, shape) if t.dtype.kind == "i" else rng.normal(size=shape).astype(t.dtype))
    return made
"""


def run(code: str, threads: int = 2, **environment: str) -> str:
    """What ``code`` prints in a process of its own with so many threads of Numba's."""
    env = {**os.environ, "NUMBA_NUM_THREADS": str(threads), **environment}
    command = [sys.executable, "-c", PRELUDE + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=env, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


DIGESTS = """
import json
found = {}
for name, names, outputs in programs():
    f = ad.compile(names, outputs, parallel=MODE, name=name)
    for n in (1, 5, 1000, 30011):
        x = inputs(names, n)
        x = [np.where(v < 0, 0, v) if v.dtype.kind == "i" else v for v in x]
        outs = [np.array(o) for o in f(*x)]
        for _ in range(3):
            assert all(np.array_equal(u, v, equal_nan=True) for u, v in zip(outs, f(*x))), name
        found[f"{name} {n}"] = [o.astype(float).ravel()[:2000].tolist() for o in outs]
    found[f"{name} parallel"] = f.stats.parallel
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def alone() -> dict[str, Any]:
    return json.loads(run(DIGESTS.replace("MODE", "False"), 1))


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("mode", ["True", "'auto'"])
def test_results_are_those_of_one_thread(alone: dict[str, Any], threads: int, mode: str) -> None:
    found = json.loads(run(DIGESTS.replace("MODE", mode), threads))
    assert found.keys() == alone.keys()
    for key, values in found.items():
        if key.endswith("parallel"):
            assert values > 0 and alone[key] == 0, key
            continue
        for value, truth in zip(values, alone[key], strict=True):
            tolerance = 1e-4 if key.startswith("softmax") else 1e-11
            np.testing.assert_allclose(value, truth, rtol=tolerance, atol=tolerance, err_msg=key)


def test_results_are_right() -> None:
    n = 20_000
    rng = np.random.default_rng(1)
    x, at = rng.normal(size=(n, 30)), rng.integers(-7, 7, n)
    c, k = ad.input("c", ("n", 30)), ad.input("k", ("n",), "int64")
    outputs = [ad.sum(c, axis=0), ad.max(c), ad.zeros((7, 30)).at[k].add(c), ad.exp(c), ad.sum(ad.exp(c), axis=1)]
    f = ad.compile([c, k], outputs, parallel=True)
    sums, largest, scattered, exp, rows = f(x, at)
    np.testing.assert_allclose(sums, x.sum(axis=0), rtol=1e-12, atol=1e-10)
    assert largest == x.max()
    truth = np.zeros((7, 30))
    np.add.at(truth, at, x)
    np.testing.assert_allclose(scattered, truth, rtol=1e-11, atol=1e-10)
    np.testing.assert_allclose(exp, np.exp(x), rtol=1e-14)
    np.testing.assert_allclose(rows, np.exp(x).sum(axis=1), rtol=1e-13)


def test_large_products_agree_with_numpy() -> None:
    # All ways to share one: batches, rows, columns, the sum.
    text = run(
        """
        rng = np.random.default_rng(0)
        for dtype in ("float32", "float64", "int64"):
            for shape in [(64, 60, 50, 40), (1, 900, 70, 60), (1, 70, 900, 60), (1, 9, 11, 90000), (3, 150, 90, 80)]:
                b, m, n, k = shape
                x = rng.integers(-4, 4, (b, m, k)).astype(dtype)
                y = rng.integers(-4, 4, (b, k, n)).astype(dtype)
                s, t = ad.input("s", x.shape, dtype), ad.input("t", y.shape, dtype)
                f = ad.compile([s, t], s @ t)
                assert f.stats.parallel == 1
                truth = np.matmul(x.astype(float), y.astype(float))
                assert np.array_equal(f(x, y), truth), (dtype, shape)
                s, t = ad.input("s", (b, k, m), dtype), ad.input("t", (b, n, k), dtype)
                g = ad.compile([s, t], s.mT @ t.mT)
                assert np.array_equal(g(x.swapaxes(1, 2).copy(), y.swapaxes(1, 2).copy()), truth), (dtype, shape)
        print("done")
        """,
        threads=4,
    )
    assert text == "done\n"


def test_bits_do_not_depend_on_what_else_runs() -> None:
    # From many Python threads at once, only one of which has the other threads at any time; inside a parallel function;
    # in the child of a fork, which has threads of its own: all cut the work in the same way.
    text = run(
        """
        import os, threading
        from numba import njit, prange
        x = ad.input("x", ("n",))
        loss = ad.sum(ad.exp(-(x**2)) * ad.tanh(x))
        f = ad.compile([x], [loss, ad.grad(loss, x)])
        given = np.random.default_rng(0).normal(size=300_000)
        truth = f(given)
        bad = []

        def many():
            for _ in range(20):
                if not all(np.array_equal(u, v) for u, v in zip(f(given), truth)):
                    bad.append(1)

        workers = [threading.Thread(target=many) for _ in range(8)]
        for w in workers: w.start()
        for w in workers: w.join()
        assert not bad

        native = f.njit
        out, grad = np.zeros(8), np.zeros((8, len(given)))

        @njit(parallel=True)
        def nested(given, out, grad):
            for i in prange(8):
                native(given, out[i:i + 1].reshape(()), grad[i])

        @njit
        def plain(given, out, grad):
            native(given, out, grad)

        nested(given, out, grad)
        assert (out == truth[0]).all() and (grad == truth[1]).all()
        out, grad = np.zeros(()), np.zeros(len(given))
        plain(given, out, grad)
        assert out == truth[0] and (grad == truth[1]).all()

        child = os.fork()
        if not child:
            os._exit(0 if all(np.array_equal(u, v) for u, v in zip(f(given), truth)) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert all(np.array_equal(u, v) for u, v in zip(f(given), truth))
        print("done", numba.get_num_threads())
        """,
        threads=4,
    )
    assert text == "done 4\n"


def test_after_a_fork_by_multiprocessing() -> None:
    text = run(
        """
        import multiprocessing
        x = ad.input("x", ("n", 40), "float32")
        f = ad.compile([x], ad.sum(ad.nn.softmax(x) ** 2, axis=0))
        given = np.random.default_rng(0).normal(size=(20_000, 40)).astype("float32")
        w = ad.input("w", (300, 300))
        g = ad.compile([w], w @ w)
        square = np.random.default_rng(0).normal(size=(300, 300))
        f(given), g(square)

        def both(k):
            return f(given), g(square)

        with multiprocessing.get_context("fork").Pool(2) as pool:
            for a, b in pool.map(both, range(4)):
                assert np.array_equal(a, f(given)) and np.array_equal(b, g(square))
        print("done")
        """
    )
    assert text == "done\n"


def test_after_a_fork_of_a_process_that_uses_numbas_threads_for_itself() -> None:
    text = run(
        """
        import os
        from numba import njit, prange

        @njit(parallel=True)
        def twice(x):
            for i in prange(len(x)):
                x[i] *= 2

        twice(np.ones(1000))
        x = ad.input("x", ("n",))
        f = ad.compile([x], ad.sum(ad.exp(x)), parallel=True)
        given = np.random.default_rng(0).normal(size=100_000)
        child = os.fork()
        if not child:
            os._exit(0 if np.isclose(f(given), np.exp(given).sum()) else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert np.isclose(f(given), np.exp(given).sum())
        print("done")
        """
    )
    assert text == "done\n"


def test_the_number_of_threads_is_numbas() -> None:
    text = run(
        """
        x = ad.input("x", ("n",), "float32")
        f = ad.compile([x], ad.sum(ad.exp(x)), parallel=True)
        given = np.random.default_rng(0).normal(size=100_001).astype("float32")
        found = {}
        for k in (4, 1, 3, 2, 1, 4):
            numba.set_num_threads(k)
            assert found.setdefault(k, f(given)) == f(given)
            assert numba.get_num_threads() == k
        print(len({float(v) for v in found.values()}) > 1)
        """,
        threads=4,
    )
    assert text == "True\n"


THREADS = """
import threading, time
from staticad.runtime import threads

def others(seconds=30.0):
    # Whether other threads do something of a job, sooner or later.
    x = ad.input("x", ("n",))
    f = ad.compile([x], ad.sum(ad.tanh(x)), parallel=True)
    given = np.ones(1_000_000)
    f(given)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        used = time.process_time() - time.thread_time()
        f(given)
        if time.process_time() - time.thread_time() - used > 5e-4:
            return True
    return False
"""


@pytest.mark.parametrize("layer", ["omp", "workqueue"])
def test_other_threads_work_whatever_layer_numba_has(layer: str) -> None:
    assert (
        run(THREADS + "print(others(), threads.table[threads.WORKERS])", 4, NUMBA_THREADING_LAYER=layer) == "True 3\n"
    )


def test_the_child_of_a_fork_has_threads_of_its_own() -> None:
    text = run(
        THREADS
        + """
import os
assert others()
child = os.fork()
if not child:
    os._exit(0 if not threads.table[threads.STARTED] and others() and threads.table[threads.WORKERS] == 3 else 1)
print(os.waitpid(child, 0)[1])
        """,
        4,
    )
    assert text == "0\n"


def test_who_calls_does_what_nobody_has_begun() -> None:
    # No thread is told of the job, or the caller keeps to itself for a while: the chunks and the bits are the same.
    text = run(
        THREADS
        + """
x = ad.input("x", ("n",))
f = ad.compile([x], [ad.sum(ad.exp(x)), ad.sum(x)], parallel=True)
given = np.random.default_rng(0).normal(size=300_001)
truth = [float(v) for v in f(given)]
numba.set_num_threads(1)
assert truth != [float(v) for v in f(given)]
numba.set_num_threads(4)
workers, threads.table[threads.WORKERS] = threads.table[threads.WORKERS], 0
time.sleep(0.5)  # those that looked for work sleep now
assert [float(v) for v in f(given)] == truth and not others(0.2)
threads.table[threads.WORKERS] = workers
threads.table[threads.ALONE] = 1 << 50
assert [float(v) for v in f(given)] == truth and not others(0.2)
assert 0 < threads.table[threads.ALONE] < 1 << 50
threads.table[threads.ALONE] = 0
assert [float(v) for v in f(given)] == truth and others()
print("done")
        """,
        4,
    )
    assert text == "done\n"


@pytest.mark.skipif(
    not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs a choice of processors"
)
def test_others_avoid_the_processor_of_the_one_who_calls() -> None:
    text = run(
        THREADS
        + """
import os
allowed = os.sched_getaffinity(0)
def places():
    tasks = [int(t) for t in os.listdir("/proc/self/task")]
    return [os.sched_getaffinity(t) for t in tasks if t != threading.get_native_id()]
x = ad.input("x", ("n",))
f = ad.compile([x], ad.exp(x), parallel=True)
given = np.ones(300_000)
os.sched_setaffinity(0, {min(allowed)})  # the others have no place but that of the caller
f(given)
print(all(p <= allowed and p >= {min(allowed)} for p in places()))
os.sched_setaffinity(0, allowed)
f(given)
chosen = [p for p in places() if len(p) == len(allowed) - 1]
print(len(chosen), all(p == chosen[0] and p < allowed for p in chosen), os.sched_getaffinity(0) == allowed)
        """,
        4,
    )
    assert text == "True\n3 True True\n"


def test_jobs_that_follow_at_once_do_not_mix() -> None:
    # More threads than cores: some come when the job that they were woken for, and some more, are long over.
    text = run(
        """
        x = ad.input("x", ("n",))
        f = ad.compile([x], [2 * x, ad.sum(x)], parallel=True)
        rng = np.random.default_rng(0)
        for k in range(20_000):
            given = np.full(int(rng.integers(16, 400)), float(k))
            twice, total = f(given)
            assert (twice == 2.0 * k).all() and total == k * len(given), k
        print("done")
        """,
        threads=16,
    )
    assert text == "done\n"


@pytest.mark.parametrize("environment", [{"NUMBA_THREADING_LAYER": "workqueue"}, {"NUMBA_DISABLE_JIT": "1"}])
def test_without_openmp_and_without_compiler(environment: dict[str, str]) -> None:
    text = run(
        """
        x = ad.input("x", ("n", 3))
        f = ad.compile([x], [ad.sum(x, axis=0), ad.sum(ad.exp(x))], parallel=True)
        given = np.random.default_rng(0).normal(size=(100, 3))
        sums, total = f(given)
        assert np.allclose(sums, given.sum(axis=0)) and np.isclose(total, np.exp(given).sum())
        print("done")
        """,
        **environment,
    )
    assert text == "done\n"


@pytest.mark.parametrize("place", [0, 4999, 9999])
def test_an_index_out_of_range_is_found_on_every_thread(place: int) -> None:
    text = run(
        f"""
        table, at = ad.input("table", (9, 4)), ad.input("at", ("n",), "int64")
        f = ad.compile([table, at], ad.exp(table[at]), parallel=True)
        given = np.arange(10_000) % 9
        f(np.ones((9, 4)), given)
        given[{place}] = 9
        try:
            f(np.ones((9, 4)), given)
        except ad.IndexOutOfRange as error:
            print(error)
        """
    )
    assert "out of range for an axis of size 9" in text


@pytest.mark.parametrize("place", [0, 4999, 9999])
def test_an_item_that_never_ends_is_found_on_every_thread(place: int) -> None:
    """The tapes of all threads take from one budget, and give everything back."""
    text = run(
        f"""
        from staticad.runtime import budget
        x = ad.input("x", ("n",))
        y = ad.map(lambda v: ad.while_loop(lambda y: y < 9, lambda y: y + v * y * y, v), x)
        f = ad.compile([x], ad.grad(ad.sum(y), x), parallel=True)
        given = np.linspace(1, 2, 10_000)
        right = f(given)
        budget.table[budget.LIMIT] = 1 << 20
        bad = given.copy()
        bad[{place}] = -1e-300
        for _ in range(3):
            try:
                f(bad)
            except ad.OutOfMemory as error:
                print(error)
            assert budget.table[budget.TAKEN] == 0
            assert np.array_equal(f(given), right)
        """
    )
    assert text.count("give it max_steps") == 3


def test_a_failure_leaves_parameters_alone() -> None:
    text = run(
        """
        p = ad.parameter(np.ones(10_000), name="p")
        at = ad.input("at", ("n",), "int64")
        f = ad.compile([at], [], updates={p: p.at[at].add(1.0)}, parallel=True)
        given = np.arange(10_000)
        given[7000] = 10_000
        try:
            f(given)
        except ad.IndexOutOfRange:
            assert (p.value == 1).all()
            print("done")
        """
    )
    assert text == "done\n"


@pytest.mark.parametrize("name", sorted(PROGRAMS))
def test_in_plain_python_runs_of_a_loop_give_the_whole(name: str) -> None:
    """The generated text of every program, run as Python with three runs of each loop, against one run."""
    _, f = build(name, lambda *args, **options: generate(*args, **{**options, "parallel": True}))
    if not f.stats.parallel:
        return
    script = f"""
import pickle, sys
sys.path.insert(0, "tests")
from programs import build, arrays, PROGRAMS
import staticad as ad
from staticad.runtime.kernels import library as m

results = []
for count in (1, 3):
    m.threads = lambda n: min(count, max(n, 1))
    case, f = build({name!r}, lambda *args, **options: ad.compile(*args, **{{**options, "parallel": True}}))
    state = [p.value.copy() for p in case.updates]
    outs = f(*arrays(case.inputs))
    from staticad.nests import leaves
    results.append([np.array(v) for v in leaves(outs)] + [p.value.copy() for p in case.updates])
for one, other in zip(*results):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
print("done", len(results[0]))
"""
    assert run(script, 1, NUMBA_DISABLE_JIT="1").startswith("done")


# what is chosen -------------------------------------------------------------------------------------------------------


def parallel(inputs: Any, outputs: Any, mode: Any = "auto") -> int:
    return generate(inputs, outputs, parallel=mode).stats.parallel


def test_small_static_loops_stay_on_one_thread() -> None:
    x = ad.input("x", (10,))
    assert parallel([x], ad.sum(ad.sin(x))) == 0
    assert parallel([x], ad.sum(ad.sin(x)), True) == 1
    big = ad.input("big", (1_000_000,))
    assert parallel([big], ad.sum(ad.sin(big))) == 1
    assert parallel([big], ad.sum(ad.sin(big)), False) == 0


def test_steps_that_need_other_steps_stay_on_one_thread() -> None:
    x, at = ad.input("x", ("n",)), ad.input("at", ("n",), "int64")
    assert parallel([x], ad.cumulative_sum(x), True) == 0
    scatter = generate([x, at], ad.zeros((9,)).at[at].set(x), parallel=True)
    assert [k.parallel for k in scatter.kernels] == [True, False]  # zeros, but not which element comes last
    y = ad.input("y", ("n", 8))
    assert parallel([y], ad.cumulative_sum(y, axis=1), True) == 1


def test_independent_items_run_on_all_cores_backward_too() -> None:
    x, a, w = ad.input("x", ("n",)), ad.input("a", ()), ad.input("w", (3,))
    items = ad.map(lambda v: ad.sum(ad.tanh(a * v + w)), x)
    loops = generate([x, a, w], [*ad.grad(ad.sum(items), [x, a, w])], parallel=True).kernels
    assert all(k.parallel for k in loops if k.reads != 0)
    ends = ad.map(lambda v: ad.while_loop(lambda y: y < 9, lambda y: y + ad.exp(a * y), v), x)
    loops = generate([x, a], [*ad.grad(ad.sum(ends), [x, a])], parallel=True).kernels
    assert all(k.parallel for k in loops if k.reads != 0)


def test_kernels_tell() -> None:
    x = ad.input("x", ("n",))
    y = ad.input("y", ("m",))
    f = generate([x, y], [ad.exp(x), ad.cumulative_sum(y)])
    assert [k.parallel for k in f.kernels] == [True, False]
    assert "on several threads" in str(f.kernels[0]) and "threads" not in str(f.kernels[1])


@pytest.mark.parametrize("mode", ["never", None, 2, "True"])
def test_other_choices_are_refused(mode: Any) -> None:
    x = ad.input("x", ("n",))
    with pytest.raises(ad.GraphError, match='parallel is "auto", True or False'):
        ad.compile([x], x * 2, parallel=mode)


def test_products_alone_say_so() -> None:
    x = ad.input("x", ("n", 500))
    assert "True)" not in generate([x], x @ x.T).source
    assert ", False, True)" in generate([x], x @ x.T, parallel=False).source
