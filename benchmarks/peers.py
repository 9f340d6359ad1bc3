"""How each peer is set up and called in its best form; knows no workload.

Where the peers' namespaces agree, a workload writes its program once as ``program(xp, *tensors)``, and `derivatives`
makes every peer's version of value and gradients; where they do not, the workload gives a peer a program of its own.
Peers are imported when first used, since the number of threads is fixed before.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import shutil
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.results import family
from benchmarks.workload import Array, Builder, Program

Shape = tuple[Any, ...]
Written = Callable[..., Any]  # program(xp, *tensors)

DISTRIBUTIONS = {
    "staticad": None,
    "jax": "jax",
    "torch": "torch",
    "torch.compile": "torch",
    "pytensor": "pytensor",
    "autograd": "autograd",
    "mygrad": "mygrad",
    "numpy": "numpy",
    "hand": "numba",
}


@cache
def absent(peer: str) -> str | None:
    """Why this peer cannot run here, or None."""
    distribution = DISTRIBUTIONS[family(peer)]
    if distribution is not None and version(distribution) is None:
        return f"{distribution} is not installed"
    if family(peer) == "torch.compile":
        if shutil.which("g++") is None:
            return "torch.compile needs g++"
        if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
            return "torch.compile needs Python.h"
    return None


def version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


# each peer's library, set up -----------------------------------------------------------------------------------------


@cache
def jax() -> ModuleType:
    module = importlib.import_module("jax")
    module.config.update("jax_enable_x64", True)
    module.config.update("jax_cpu_enable_async_dispatch", False)  # one that waits anyway gains by not changing threads
    return module


@cache
def torch() -> ModuleType:
    return importlib.import_module("torch")


@cache
def pytensor() -> ModuleType:
    return importlib.import_module("pytensor")


def namespace(peer: str) -> Any:
    """What a program written once calls ``xp``."""
    name = {
        "staticad": "staticad",
        "torch.compile": "torch",
        "pytensor": "pytensor.tensor",
        "autograd": "autograd.numpy",
    }
    if family(peer) == "jax":
        return jax().numpy
    return importlib.import_module(name.get(family(peer), family(peer)))


def load(peer: str) -> None:
    """Import the peer, so that a first call does not pay for that."""
    if family(peer) != "hand":
        namespace(peer)


# ours ----------------------------------------------------------------------------------------------------------------


def staticad(make: Callable[..., tuple[Sequence[Any], Any]], name: str = "f") -> dict[str, Builder]:
    """The compiled function of the ``(inputs, outputs)`` that ``make(*arrays)`` writes, with fresh results and with
    ``out=``. Inputs that are no arrays of the call (`staticad.parameter`) are left out by ``make``."""

    def function(*arrays: Array) -> tuple[Any, list[Array]]:
        import staticad as ad

        inputs, outputs = make(*arrays)
        return ad.compile(inputs, outputs, name=name), list(arrays[: len(inputs)])

    def fresh(*arrays: Array) -> Program:
        f, given = function(*arrays)
        return partial(f, *given)

    def into(*arrays: Array) -> Program:
        f, given = function(*arrays)
        return partial(f, *given, out=f(*given))

    return {"staticad": fresh, "staticad out=": into}


def staticad_derivatives(
    program: Written, shapes: Sequence[Shape], wrt: Sequence[int], mode: str
) -> dict[str, Builder]:
    def make(*arrays: Array) -> tuple[Sequence[Any], Any]:
        import staticad as ad

        inputs = [ad.input(f"x{k}", s, dtype=a.dtype) for k, (s, a) in enumerate(zip(shapes, arrays, strict=True))]
        operands, cotangent = (inputs[:-1], inputs[-1]) if mode == "cotangent" else (inputs, None)
        out = program(ad, *operands)
        scalar = ad.sum(out) if mode == "sum" else out
        return inputs, (out, *ad.grad(scalar, [operands[k] for k in wrt], cotangent))

    return staticad(make)


# theirs --------------------------------------------------------------------------------------------------------------


def jax_function(make: Callable[[Any], Callable[..., Any]]) -> Builder:
    """The compiled form of ``make(jax)``, a function of device arrays."""

    def build(*arrays: Array) -> Program:
        module = jax()
        f, block = module.jit(make(module)), module.block_until_ready
        given = [module.device_put(a) for a in arrays]
        return lambda: block(f(*given))

    return build


def jax_gradients(make: Callable[[Any], Callable[..., Any]], count: int) -> Builder:
    """The compiled form of the scalar ``make(jax)`` and its gradients by the first ``count`` arguments."""

    def made(module: Any) -> Callable[..., Any]:
        f = module.value_and_grad(make(module), argnums=tuple(range(count)))

        def run(*given: Any) -> Any:
            value, slopes = f(*given)
            return (value, *slopes)

        return run

    return jax_function(made)


def jax_derivatives(program: Written, wrt: Sequence[int], mode: str) -> Builder:
    def make(module: Any) -> Callable[..., Any]:
        written = partial(program, module.numpy)

        def f(*x: Any) -> Any:
            operands = x[:-1] if mode == "cotangent" else x

            def chosen(*w: Any) -> Any:
                filled = dict(zip(wrt, w, strict=True))
                return written(*(filled.get(k, t) for k, t in enumerate(operands)))

            out, pullback = module.vjp(chosen, *(operands[k] for k in wrt))
            return (out, *pullback(x[-1] if mode == "cotangent" else module.numpy.ones_like(out)))

        return f

    return jax_function(make)


def torch_derivatives(program: Written, wrt: Sequence[int], mode: str) -> Builder:
    def build(*arrays: Array) -> Program:
        module = torch()
        written = partial(program, module)
        given = [module.from_numpy(a) for a in arrays]
        operands = given[:-1] if mode == "cotangent" else given
        targets = [operands[k].requires_grad_() for k in wrt]
        cotangent = given[-1] if mode == "cotangent" else None
        if mode == "sum":
            with module.no_grad():
                cotangent = module.ones_like(written(*operands))
        grad = module.autograd.grad

        def run() -> Any:
            out = written(*operands)
            return (out, *grad(out, targets, cotangent))

        return run

    return build


def torch_compiled(make: Callable[[Any], Callable[..., Any]]) -> Builder:
    """torch.compile of ``make(torch)``. One a workload: building it drops what was compiled before."""

    def build(*arrays: Array) -> Program:
        module = torch()
        module._dynamo.reset()
        return partial(module.compile(make(module), dynamic=False), *map(module.from_numpy, arrays))

    return build


def torch_compiled_derivatives(program: Written, wrt: Sequence[int], mode: str) -> Builder:
    """Forward and backward compiled as one by torch.func, which has half the overhead of a backward through autograd,
    and fuses over both."""

    def make(module: Any) -> Callable[..., Any]:
        def f(*x: Any) -> Any:
            operands = x[:-1] if mode == "cotangent" else x

            def chosen(*w: Any) -> Any:
                filled = dict(zip(wrt, w, strict=True))
                return program(module, *[filled.get(k, t) for k, t in enumerate(operands)])

            out, pullback = module.func.vjp(chosen, *[operands[k] for k in wrt])
            return (out, *pullback(x[-1] if mode == "cotangent" else module.ones_like(out)))

        return f

    return torch_compiled(make)


def pytensor_function(make: Callable[..., Any]) -> Builder:
    """The Numba-mode function of what ``make(*variables)`` returns."""

    def build(*arrays: Array) -> Program:
        pt = namespace("pytensor")
        variables = [pt.tensor(f"x{k}", dtype=str(a.dtype), shape=a.shape) for k, a in enumerate(arrays)]
        outputs = make(*variables)
        used = set(pytensor().graph.traversal.explicit_graph_inputs(outputs))
        kept = [k for k, v in enumerate(variables) if v in used]
        f = pytensor().function([variables[k] for k in kept], outputs, mode="NUMBA", trust_input=True)
        return partial(f, *(arrays[k] for k in kept))

    return build


def pytensor_derivatives(program: Written, wrt: Sequence[int], mode: str) -> Builder:
    def make(*x: Any) -> Any:
        pt = namespace("pytensor")
        operands = x[:-1] if mode == "cotangent" else x
        out = program(pt, *operands)
        scalar = {"scalar": lambda: out, "sum": lambda: pt.sum(out), "cotangent": lambda: pt.sum(out * x[-1])}[mode]()
        return [out, *pytensor().grad(scalar, [operands[k] for k in wrt])]

    return pytensor_function(make)


def autograd_derivatives(program: Written, wrt: Sequence[int], mode: str) -> Builder:
    def build(*arrays: Array) -> Program:
        make_vjp = importlib.import_module("autograd").make_vjp
        operands = arrays[:-1] if mode == "cotangent" else arrays
        forward = make_vjp(partial(program, namespace("autograd")), argnum=tuple(wrt))

        def run() -> Any:
            pullback, out = forward(*operands)
            cotangent = arrays[-1] if mode == "cotangent" else np.ones_like(out)
            return (out, *pullback(cotangent))

        return run

    return build


def mygrad_derivatives(program: Written, wrt: Sequence[int], mode: str) -> Builder:
    def build(*arrays: Array) -> Program:
        module = importlib.import_module("mygrad")
        operands = arrays[:-1] if mode == "cotangent" else arrays
        written = partial(program, module)
        module.turn_memory_guarding_off()

        def run() -> Any:
            tensors = [module.tensor(a, constant=k not in wrt, copy=False) for k, a in enumerate(operands)]
            out = written(*tensors)
            out.backward(arrays[-1] if mode == "cotangent" else None)
            return (out.data, *(tensors[k].grad for k in wrt))

        return run

    return build


MAKERS: dict[str, Callable[..., Builder]] = {
    "jax": jax_derivatives,
    "torch": torch_derivatives,
    "torch.compile": torch_compiled_derivatives,
    "pytensor": pytensor_derivatives,
    "autograd": autograd_derivatives,
    "mygrad": mygrad_derivatives,
}


def derivatives(
    program: Written | None,
    shapes: Sequence[Shape],
    wrt: Sequence[int],
    mode: str = "scalar",
    **own: Written | None,
) -> dict[str, Builder]:
    """Every peer's value of ``program(xp, *tensors)`` and gradients by the tensors numbered ``wrt``.

    ``shapes`` are those of staticad's inputs, with symbolic dimensions. ``mode``: ``"scalar"``, the value is one;
    ``"sum"``, the gradients are of its sum; ``"cotangent"``, the last array is the value's cotangent. ``own`` has
    programs of single peers (None leaves a peer out; ``torch`` stands for ``torch.compile`` too).
    """
    written: Mapping[str, Written | None] = {
        peer: own.get(peer.replace(".", "_"), own.get(peer.split(".")[0], program)) for peer in ("staticad", *MAKERS)
    }
    found: dict[str, Builder] = {}
    ours = written["staticad"]
    if ours is not None:
        found |= staticad_derivatives(ours, shapes, wrt, mode)
    return found | {peer: make(p, wrt, mode) for peer, make in MAKERS.items() if (p := written[peer]) is not None}
