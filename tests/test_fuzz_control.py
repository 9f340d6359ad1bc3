"""Differential fuzzing: every transformation of random programs with loops and branches in each other, against JAX.

JAX computes operation by operation, its loops and branches those of Python: reverse mode goes through loops of unknown
length, and lanes take their own branches. It computes in float64 also where staticad computes in float32.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from time import time
from typing import Any

import numpy as np
import pytest
from program_text import INPUTS, Program, Var, shrunk
from random_programs import random_program

import staticad as ad

#: Differences allowed, in machine epsilons of the largest value of a result ...
EPSILONS = 2.0**13
#: ... and in those that the result moves by when arguments move by an epsilon, where it is sensitive.
MOVES = 2.0**7
#: What n and t are: many, one, no steps.
SIZES = ({"n": 3, "t": 4}, {"n": 1, "t": 1}, {"n": 2, "t": 0}, {"n": 4, "t": 2})


# ---- the names that programs use, in both libraries


class Static:
    """staticad under the names that programs use."""

    int = "int64"

    def __init__(self, dtype: str):
        self.float = dtype
        self.solve_triangular = ad.linalg.solve_triangular

    def __getattr__(self, name: str) -> Any:
        return getattr(ad, name, None) or getattr(ad.func, name)

    # Derivatives of a function written inside of a program are staticad.func's; others have a name at the top too.
    grad, value_and_grad, jvp, jacfwd, jacrev, hessian = (
        staticmethod(getattr(ad.func, name))
        for name in ("grad", "value_and_grad", "jvp", "jacfwd", "jacrev", "hessian")
    )

    @staticmethod
    def bent(x: Any) -> Any:
        return bent(x)

    @staticmethod
    def curved(x: Any) -> Any:
        return curved(x)

    @staticmethod
    def product_bent(x: Any, y: Any) -> Any:
        return product_bent(*ad.broadcast_arrays(x, y))


@ad.custom_vjp
def bent(x: ad.Tensor) -> ad.Tensor:
    return ad.sin(x)


bent.defvjp(lambda x: (ad.sin(x), ad.cos(0.5 * x)), lambda slope, g: (g * slope,))


@ad.custom_jvp
def curved(x: ad.Tensor) -> ad.Tensor:
    return ad.cos(x)


@curved.defjvp
def _curved(primals: Any, tangents: Any) -> Any:
    (x,), (t,) = primals, tangents
    return curved(x), t * ad.tanh(x)


@ad.custom_vjp
def product_bent(x: ad.Tensor, y: ad.Tensor) -> ad.Tensor:
    return x * y


product_bent.defvjp(lambda x, y: (x * y, (x, y)), lambda kept, g: (0.7 * g * kept[1], g * ad.sin(kept[0])))


class Jax:
    """JAX under the names that programs use; loops, branches and lanes are Python's."""

    float, int = "float64", "int64"

    def __init__(self) -> None:
        import jax

        self.jax = jax
        self.linalg = jax.numpy.linalg
        self.solve_triangular = jax.scipy.linalg.solve_triangular
        self.softplus, self.sigmoid, self.logsumexp = jax.nn.softplus, jax.nn.sigmoid, jax.nn.logsumexp
        self.stop_gradient = jax.lax.stop_gradient
        self.bent, self.curved, self.product_bent = custom_in_jax()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.jax.numpy, name, None) or getattr(self.jax, name)

    def scan(
        self, f: Any, init: Any, xs: Any = None, length: int | None = None, reverse: bool = False, **options: Any
    ) -> Any:
        tree, stack = self.jax.tree_util.tree_map, self.jax.numpy.stack
        steps = len(self.jax.tree_util.tree_leaves(xs)[0]) if length is None else length
        if steps == 0:  # one step, for the types of what it leaves
            _, y = f(init, tree(lambda x: self.zeros(x.shape[1:], x.dtype), xs))
            return init, tree(lambda x: self.zeros((0, *x.shape), x.dtype), y)
        carry, ys = init, []
        for k in reversed(range(steps)) if reverse else range(steps):
            carry, y = f(carry, tree(lambda x, k=k: x[k], xs))
            ys.append(y)
        return carry, tree(lambda *parts: stack(parts[::-1] if reverse else parts), *ys)

    def while_loop(self, cond: Any, body: Any, init: Any, max_steps: int | None = None) -> Any:
        carry = init
        while bool(cond(carry)):
            carry = body(carry)
        return carry

    def cond(self, pred: Any, true: Any, false: Any, *operands: Any) -> Any:
        return (true if bool(pred) else false)(*operands)

    def switch(self, index: Any, branches: Any, *operands: Any) -> Any:
        return branches[int(index)](*operands)

    def checkpoint(self, f: Any) -> Any:
        return f

    def map(self, f: Any, xs: Any) -> Any:
        return self.scan(lambda _, x: (None, f(x)), None, xs)[1]

    def vmap(self, f: Any, in_axes: Any = 0) -> Any:
        def of_many(*xs: Any) -> Any:
            mapped = [x for x, axis in zip(xs, in_axes, strict=True) if axis is not None]

            def one(_: Any, slices: Any) -> Any:
                left = iter(slices)
                return None, f(*(x if axis is None else next(left) for x, axis in zip(xs, in_axes, strict=True)))

            return self.scan(one, None, mapped)[1]

        return of_many

    def associative_scan(self, fn: Any, elems: Any, reverse: bool = False, axis: int = 0) -> Any:
        return self.jax.lax.associative_scan(fn, elems, reverse=reverse, axis=axis)


@lru_cache
def custom_in_jax() -> tuple[Any, Any, Any]:
    """`bent`, `curved` and `product_bent`, with the same derivatives."""
    import jax

    bent, curved = jax.custom_jvp(jax.numpy.sin), jax.custom_jvp(jax.numpy.cos)
    product = jax.custom_jvp(jax.numpy.multiply)
    bent.defjvps(lambda t, out, x: t * jax.numpy.cos(0.5 * x))
    curved.defjvps(lambda t, out, x: t * jax.numpy.tanh(x))
    product.defjvps(lambda t, out, x, y: 0.7 * t * y, lambda t, out, x, y: t * jax.numpy.sin(x))
    return bent, curved, lambda x, y: product(*jax.numpy.broadcast_arrays(x, y))


# ---- transformations, once for both libraries: of a function of several arrays that returns several


class OfTensors:
    """Derivatives of tensors by tensors."""

    def __init__(self, dtype: str):
        self.p = Static(dtype)

    def grad(self, f: Any, xs: Sequence[Any]) -> list[Any]:
        return ad.grad(f(*xs), list(xs))

    def vjp(self, f: Any, xs: Sequence[Any], seeds: Callable[[Any], Any]) -> list[Any]:
        ys = f(*xs)
        return ad.vjp(ys, list(xs), [ad.stop_gradient(seeds(y)) for y in ys])

    def jvp(self, f: Any, xs: Sequence[Any], along: Callable[[Any], Any]) -> list[Any]:
        return ad.jvp(f(*xs), list(xs), [along(x) for x in xs])

    def hvp(self, f: Any, xs: Sequence[Any], along: Callable[[Any], Any]) -> list[Any]:
        return ad.hvp(f(*xs), list(xs), [along(x) for x in xs])

    def hessian(self, f: Any, xs: Sequence[Any]) -> Any:
        return ad.hessian(f(*xs), list(xs))

    def jacobian(self, f: Any, xs: Sequence[Any], mode: str) -> Any:
        return ad.jacobian(f(*xs), list(xs), mode)

    def vmap(self, f: Any, in_axes: Sequence[int | None], xs: Sequence[Any]) -> Any:
        return ad.vmap(f, tuple(in_axes))(*xs)


class OfFunctions(OfTensors):
    """`staticad.func`: derivatives of functions, inside of a graph."""

    def grad(self, f: Any, xs: Sequence[Any]) -> list[Any]:
        return list(ad.func.grad(f, tuple(range(len(xs))))(*xs))

    def vjp(self, f: Any, xs: Sequence[Any], seeds: Callable[[Any], Any]) -> list[Any]:
        ys, pullback = ad.func.vjp(f, *xs)
        return list(pullback([ad.stop_gradient(seeds(y)) for y in ys]))

    def jvp(self, f: Any, xs: Sequence[Any], along: Callable[[Any], Any]) -> list[Any]:
        return ad.func.jvp(f, tuple(xs), tuple(along(x) for x in xs))[1]

    def hvp(self, f: Any, xs: Sequence[Any], along: Callable[[Any], Any]) -> list[Any]:
        return list(ad.func.hvp(f, tuple(xs), tuple(along(x) for x in xs)))

    def hessian(self, f: Any, xs: Sequence[Any]) -> Any:
        return ad.func.hessian(f, tuple(range(len(xs))))(*xs)

    def jacobian(self, f: Any, xs: Sequence[Any], mode: str) -> Any:
        of = ad.func.jacfwd if mode == "forward" else ad.func.jacrev
        return of(f, tuple(range(len(xs))))(*xs)


class InJax:
    """JAX's."""

    def __init__(self) -> None:
        import jax

        self.jax, self.p = jax, Jax()

    def grad(self, f: Any, xs: Sequence[Any]) -> Any:
        return list(self.jax.grad(f, tuple(range(len(xs))))(*xs))

    def vjp(self, f: Any, xs: Sequence[Any], seeds: Callable[[Any], Any]) -> Any:
        ys, pullback = self.jax.vjp(f, *xs)
        return list(pullback([self.jax.lax.stop_gradient(seeds(y)) for y in ys]))

    def jvp(self, f: Any, xs: Sequence[Any], along: Callable[[Any], Any]) -> Any:
        return self.jax.jvp(f, tuple(xs), tuple(along(x) for x in xs))[1]

    def hvp(self, f: Any, xs: Sequence[Any], along: Callable[[Any], Any]) -> Any:
        return self.jax.jvp(lambda *xs: self.grad(f, xs), tuple(xs), tuple(along(x) for x in xs))[1]

    def hessian(self, f: Any, xs: Sequence[Any]) -> Any:
        return self.jax.hessian(f, tuple(range(len(xs))))(*xs)

    def jacobian(self, f: Any, xs: Sequence[Any], mode: str) -> Any:
        of = self.jax.jacfwd if mode == "forward" else self.jax.jacrev
        return of(f, tuple(range(len(xs))))(*xs)

    def vmap(self, f: Any, in_axes: Sequence[int | None], xs: Sequence[Any]) -> Any:
        return self.p.vmap(f, in_axes)(*xs)


def total(t: Any, ys: Sequence[Any]) -> Any:
    """A scalar of all of them."""
    return sum((t.p.sum(t.p.sin(y) * (k + 1.0)) for k, y in enumerate(ys)), start=0.0)


def loss(t: Any, f: Any) -> Any:
    return lambda *xs: total(t, f(*xs))


def along(t: Any) -> Any:
    return lambda x: t.p.cos(3.0 * x + 0.5)


def slope(t: Any, f: Any) -> Any:
    """A scalar of all first derivatives of ``f``."""
    return lambda *xs: total(t, t.grad(f, xs))


def third(t: Any, f: Any, xs: Any) -> Any:
    return t.grad(slope(t, slope(t, loss(t, f))), xs)


def third_forward(t: Any, f: Any, xs: Any) -> Any:
    return t.jvp(lambda *xs: t.hvp(loss(t, f), xs, along(t)), xs, along(t))


def lanes(t: Any, f: Any, xs: Any) -> Any:
    return t.vmap(f, axes(len(xs)), wide(t, xs))


def lanes_of_gradients(t: Any, f: Any, xs: Any) -> Any:
    return t.vmap(lambda *xs: t.grad(loss(t, f), xs), axes(len(xs)), wide(t, xs))


def gradient_of_lanes(t: Any, f: Any, xs: Any) -> Any:
    return t.grad(lambda *xs: total(t, t.vmap(f, axes(len(xs)), wide(t, xs))), xs)


def axes(number: int) -> list[int | None]:
    """Every second argument differs between lanes; the first does."""
    return [None if k % 2 else 0 for k in range(number)]


def wide(t: Any, xs: Any) -> list[Any]:
    """Three values of each that differs."""
    return [
        x if axis is None else t.p.stack([x, t.p.sin(2.0 * x), -x]) for x, axis in zip(xs, axes(len(xs)), strict=True)
    ]


TRANSFORMS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "value": lambda t, f, xs: f(*xs),
    "grad": lambda t, f, xs: t.grad(loss(t, f), xs),
    "jvp": lambda t, f, xs: t.jvp(f, xs, along(t)),
    "vjp": lambda t, f, xs: t.vjp(f, xs, along(t)),
    "hvp": lambda t, f, xs: t.hvp(loss(t, f), xs, along(t)),
    "hessian": lambda t, f, xs: t.hessian(loss(t, f), xs),
    "forward jacobian": lambda t, f, xs: t.jacobian(f, xs, "forward"),
    "reverse jacobian": lambda t, f, xs: t.jacobian(f, xs, "reverse"),
    "second": lambda t, f, xs: t.grad(slope(t, loss(t, f)), xs),
    "third": third,
    "third forward": third_forward,
    "lanes": lanes,
    "lanes of gradients": lanes_of_gradients,
    "gradient of lanes": gradient_of_lanes,
}
#: By so many values at most where all pairs of them are asked for.
OF_FEW = {"hessian": 12, "forward jacobian": 20, "reverse jacobian": 20}


# ---- programs compared


def flat(nest: Any) -> list[Any]:
    if isinstance(nest, (list, tuple)):
        return [x for part in nest for x in flat(part)]
    return [nest]


def targets(program: Program, name: str) -> list[Var]:
    """The inputs that derivatives are taken by."""
    found = [x for x in program.read if x.kind == "f"]
    if name in OF_FEW:
        small = [x for x in found if len(x.shape) < 2] or found
        return small[: 1 + len(program.lines) % 2]
    return found


def arrays_for(sizes: dict[str, int], seed: int, dtype: str) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    found = {}
    for x in INPUTS:
        shape = tuple(d if isinstance(d, int) else sizes[d] for d in x.shape)
        floats = np.clip(rng.normal(size=shape), -2.0, 2.0).astype(dtype)
        found[x.name] = rng.integers(0, 7, shape) if x.kind == "i" else np.asarray(floats)
    return found


def transformed(t: Any, program: Program, name: str, values: dict[str, Any]) -> list[Any]:
    """A transformation of the program in a library, at ``values`` of its inputs."""
    wrt, run = targets(program, name), program.function

    def f(*xs: Any) -> list[Any]:
        given = values | dict(zip((x.name for x in wrt), xs, strict=True))
        return list(run(t.p, *(given[x.name] for x in INPUTS)))

    return flat(TRANSFORMS[name](t, f, [values[x.name] for x in wrt]))


def reference(program: Program, name: str, values: dict[str, np.ndarray]) -> list[np.ndarray]:
    t = InJax()
    exact = {k: t.jax.numpy.asarray(x.astype("float64") if x.dtype.kind == "f" else x) for k, x in values.items()}
    return [np.asarray(x) for x in transformed(t, program, name, exact)]


def disagreement(program: Program, name: str, dtype: str, sizes: Sequence[dict[str, int]], seed: int = 0,
                 by: Any = OfTensors) -> str | None:  # fmt: skip
    """What is wrong with a transformation of a program, at each of ``sizes``; None where nothing is."""
    inputs = {x.name: ad.input(x.name, x.shape, "int64" if x.kind == "i" else dtype) for x in INPUTS}
    f = ad.compile(list(inputs.values()), transformed(by(dtype), program, name, inputs))
    for size in sizes:
        values = arrays_for(size, seed, dtype)
        found = f(*values.values())
        expected = reference(program, name, values)
        wrong = difference(found, expected, dtype, lambda v=values: reference(program, name, moved(v)))
        if wrong:
            return f"{name} in {dtype} at {size}: {wrong}"
    return None


def moved(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The values an epsilon of their type off."""
    signs = np.random.default_rng(1)
    return {
        k: x.astype("float64") * (1.0 + np.finfo(x.dtype).eps * signs.choice([-1.0, 1.0], x.shape))
        if x.dtype.kind == "f"
        else x
        for k, x in values.items()
    }


def difference(
    found: Sequence[np.ndarray], expected: Sequence[np.ndarray], dtype: str, again: Callable[[], list[np.ndarray]]
) -> str | None:
    assert len(found) == len(expected)
    eps = float(np.finfo(dtype).eps)
    assert all(np.isfinite(e).all() for e in expected), "the program is not tame"
    scale = max([1.0, *(float(np.abs(e).max()) for e in expected if e.size and e.dtype.kind == "f")])
    sensitive: list[np.ndarray] | None = None
    for k, (x, e) in enumerate(zip(found, expected, strict=True)):
        kind = np.dtype(dtype) if e.dtype.kind == "f" else e.dtype
        if (x.shape, x.dtype) != (e.shape, kind):
            return f"result {k} is {x.dtype}{x.shape}, not {kind}{e.shape}"
        if np.array_equal(x, e):
            continue
        error = np.abs(x - e)
        if not error.max() <= EPSILONS * eps * scale:
            sensitive = again() if sensitive is None else sensitive
            allowed = EPSILONS * eps * scale + MOVES * np.abs(sensitive[k] - e).max()
            if not error.max() <= allowed:
                return f"result {k} differs by {error.max():.3g} of {scale:.3g}:\n{x}\nwhere JAX has\n{e}"
    return None


@pytest.fixture(scope="module", autouse=True)
def x64() -> Any:
    jax = pytest.importorskip("jax")
    with jax.enable_x64(True):
        yield


#: What the programs of a test are full of.
KINDS: dict[str, tuple[str, ...]] = {
    "mixed": (),
    "systems": ("system", "scan", "while_loop"),
    "rules": ("unary", "checkpoint", "derivative"),
    "updates": ("update", "index", "scan", "while_loop"),
    "branches": ("cond", "switch", "over_items"),
}


def check(seed: int, name: str, dtype: str, kind: str = "mixed", by: Any = OfTensors, control: int = 2) -> None:
    program = random_program(seed, control, often=KINDS[kind])
    wrong = disagreement(program, name, dtype, SIZES, seed, by)
    call = f"smallest({seed}, {name!r}, {dtype!r}, {kind!r}, {by.__name__}, {control})"
    assert wrong is None, f"{wrong}\n\n{program.text}\nIn tests/, test_fuzz_control.{call} gives a smaller one."


def smallest(
    seed: int, name: str, dtype: str, kind: str = "mixed", by: Any = OfTensors, control: int = 2, seconds: float = 300
) -> str:
    """The text of a smaller program that goes wrong as that of ``check`` does, found in about so many ``seconds``."""
    import jax

    end = time() + seconds

    def failure(program: Program) -> str | None:
        if time() > end:
            return None
        try:
            with jax.enable_x64(True):
                return disagreement(program, name, dtype, SIZES, seed, by) and "differs"
        except Exception as error:
            return type(error).__name__

    program = random_program(seed, control, often=KINDS[kind])
    first = failure(program)
    return shrunk(program, lambda p: failure(p) == first).text if first else "nothing is wrong"


def numbered(seeds: range) -> list[tuple[int, str, str, str, Any]]:
    """For each seed a transformation, a dtype, a kind of program and a way to say it."""
    found = []
    for seed in seeds:
        r = random.Random(seed)
        dtype = r.choice(["float64", "float64", "float32"])
        by = r.choice([OfTensors, OfTensors, OfFunctions])
        found.append((seed, r.choice(list(TRANSFORMS)), dtype, r.choice(list(KINDS)), by))
    return found


@pytest.mark.parametrize(("k", "name"), list(enumerate(TRANSFORMS)))
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_every_transformation(k: int, name: str, dtype: str) -> None:
    """Of one loop or branch, in which there may be others; and of each kind."""
    by, kinds = [OfTensors, OfFunctions][k % 2], list(KINDS)
    check(10 * k + (dtype == "float32"), name, dtype, kinds[k % len(kinds)], by, control=1)


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "name", "dtype", "kind", "by"), numbered(range(1000, 2000)))
def test_many_programs(seed: int, name: str, dtype: str, kind: str, by: Any) -> None:
    check(seed, name, dtype, kind, by)
