"""`attention`: one transformer block (layer norm, four heads, residual, layer norm, gelu network, residual), with its
vector-Jacobian product by the input and all weights, float32."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload

HEADS = 4


def block(xp: Any, f: Any, x: Any, g1: Any, b1: Any, qkv: Any, out: Any, g2: Any, b2: Any, up: Any, down: Any) -> Any:
    batch, length, width = x.shape
    each = width // HEADS
    h = (f.layer_norm(x, g1, b1) @ qkv).reshape((batch, length, 3, HEADS, each))
    q, k, v = (f.permute(h[:, :, i], (0, 2, 1, 3)) for i in range(3))
    scores = q @ f.permute(k, (0, 1, 3, 2)) * each**-0.5
    mixed = f.permute(f.softmax(scores) @ v, (0, 2, 1, 3)).reshape((batch, length, width))
    x = x + mixed @ out
    return x + f.gelu(f.layer_norm(x, g2, b2) @ up) @ down


def composed_norm(xp: Any) -> Any:
    def layer_norm(x: Any, g: Any, b: Any) -> Any:
        centred = x - xp.mean(x, axis=-1, keepdims=True)
        return centred / xp.sqrt(xp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5) * g + b

    return layer_norm


def composed_softmax(xp: Any) -> Any:
    def softmax(x: Any) -> Any:
        powers = xp.exp(x - xp.max(x, axis=-1, keepdims=True))
        return powers / xp.sum(powers, axis=-1, keepdims=True)

    return softmax


def by_staticad(ad: Any, *x: Any) -> Any:
    f = SimpleNamespace(layer_norm=ad.nn.layer_norm, softmax=ad.nn.softmax, gelu=ad.gelu, permute=ad.permute_dims)
    return block(ad, f, *x)


def by_jax(jnp: Any, *x: Any) -> Any:
    nn = peers.jax().nn
    f = SimpleNamespace(
        layer_norm=composed_norm(jnp),
        softmax=nn.softmax,
        gelu=lambda x: nn.gelu(x, approximate=False),
        permute=jnp.transpose,
    )
    return block(jnp, f, *x)


def by_torch(torch: Any, *x: Any) -> Any:
    nn = torch.nn.functional
    f = SimpleNamespace(
        layer_norm=lambda x, g, b: nn.layer_norm(x, g.shape, g, b, 1e-5),
        softmax=lambda x: torch.softmax(x, -1),
        gelu=nn.gelu,
        permute=torch.permute,
    )
    return block(torch, f, *x)


def by_pytensor(pt: Any, *x: Any) -> Any:
    half = np.float32(0.5)
    f = SimpleNamespace(
        layer_norm=composed_norm(pt),
        softmax=lambda x: pt.special.softmax(x, axis=-1),
        gelu=lambda x: half * x * (1 + pt.erf(x * half**half)),
        permute=lambda x, axes: x.dimshuffle(*axes),
    )
    return block(pt, f, *x)


def by_autograd(anp: Any, *x: Any) -> Any:
    from autograd.scipy.special import erf

    half = np.float32(0.5)
    f = SimpleNamespace(
        layer_norm=composed_norm(anp),
        softmax=composed_softmax(anp),
        gelu=lambda x: half * x * (1 + erf(x * half**half)),
        permute=anp.transpose,
    )
    return block(anp, f, *x)


def workload(batch: int, length: int, width: int, *, quick: bool = False) -> Workload:
    shapes = [(batch, length, width), (width,), (width,), (width, 3 * width), (width, width)]
    shapes += [(width,), (width,), (width, 4 * width), (4 * width, width)]

    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        arrays = [rng.normal(size=s) * (1.0 if len(s) == 3 else s[0] ** -0.5) for s in shapes]
        arrays[1], arrays[5] = arrays[1] + 1, arrays[5] + 1
        return *(a.astype("float32") for a in arrays), rng.normal(size=shapes[0]).astype("float32")

    return Workload(
        name="attention",
        size=f"{batch}x{length}x{width}",
        dtype="float32",
        data=data,
        peers=peers.derivatives(
            None,
            [*shapes, shapes[0]],
            range(len(shapes)),
            "cotangent",
            staticad=by_staticad,
            jax=by_jax,
            torch=by_torch,
            pytensor=by_pytensor,
            autograd=by_autograd,
        ),
        quick=quick,
    )


WORKLOADS = [workload(4, 64, 64, quick=True)]


def test_speed(entry: Any) -> None:
    entry()
