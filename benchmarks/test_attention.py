"""`attention`: one transformer block (layer norm, four heads, residual, layer norm, gelu network, residual), with its
vector-Jacobian product by the input and all weights, float32."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks import hand, peers
from benchmarks.workload import Array, Program, Workload

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


@hand.njit
def normalise(x: Any, gain: Any, bias: Any, centred: Any, scales: Any, out: Any) -> None:
    """Layer norm: ``centred`` becomes the rows with mean 0 and variance 1, ``scales`` the inverse deviations."""
    width = np.float32(x.shape[1])
    for i in range(x.shape[0]):
        total = np.float32(0)
        for j in range(x.shape[1]):
            total = hand.add(total, x[i, j])
        mean, square = total / width, np.float32(0)
        for j in range(x.shape[1]):
            away = x[i, j] - mean
            square = hand.add(square, away * away)
        scales[i] = scale = np.float32(1) / np.sqrt(square / width + np.float32(1e-5))
        for j in range(x.shape[1]):
            centred[i, j] = (x[i, j] - mean) * scale
            out[i, j] = centred[i, j] * gain[j] + bias[j]


@hand.njit
def normalise_back(g: Any, gain: Any, centred: Any, scales: Any, dx: Any, dgain: Any, dbias: Any) -> None:
    """Adds to ``dx`` what the norm's result passes on of its cotangent ``g``."""
    width = np.float32(g.shape[1])
    dgain[:] = 0
    dbias[:] = 0
    for i in range(g.shape[0]):
        total, along = np.float32(0), np.float32(0)
        for j in range(g.shape[1]):
            d = g[i, j] * gain[j]
            total, along = hand.add(total, d), hand.add(along, d * centred[i, j])
        for j in range(g.shape[1]):
            dgain[j] += g[i, j] * centred[i, j]
            dbias[j] += g[i, j]
            d = g[i, j] * gain[j] - (total + centred[i, j] * along) / width
            dx[i, j] += d * scales[i]


def by_hand(*arrays: Array) -> Program:
    """Products by BLAS, everything between two of them in one pass; each head's matrices are contiguous copies."""
    exp, erf = hand.exp32, hand.erf32
    batch, length, width = arrays[0].shape
    rows, each = batch * length, width // HEADS
    root, scale = np.float32(0.5**0.5), np.float32(each**-0.5)
    density, half, one = np.float32((2 * np.pi) ** -0.5), np.float32(0.5), np.float32(1)

    @hand.njit
    def forward(x, g1, b1, wp, wo, g2, b2, up, down, h1, n1, s1, p, q, a, mixed, x2, h2, n2, s2, u, act, out):  # type: ignore[no-untyped-def]
        normalise(x, g1, b1, n1, s1, h1)
        hand.dot(h1, wp, p)
        one_head = np.empty((length, each), np.float32)
        for b in range(batch):
            for head in range(HEADS):
                for part in range(3):
                    for i in range(length):
                        for j in range(each):
                            q[part, b, head, i, j] = p[b * length + i, part * width + head * each + j]
                scores = a[b, head]
                hand.dot(q[0, b, head], q[1, b, head].T, scores)
                for i in range(length):
                    top = scores[i, 0]
                    for j in range(length):
                        top = hand.greater(top, scores[i, j])
                    total = np.float32(0)
                    for j in range(length):
                        e = exp((scores[i, j] - top) * scale)
                        scores[i, j] = e
                        total = hand.add(total, e)
                    inverse = one / total
                    for j in range(length):
                        scores[i, j] *= inverse
                hand.dot(scores, q[2, b, head], one_head)
                for i in range(length):
                    for j in range(each):
                        mixed[b * length + i, head * each + j] = one_head[i, j]
        hand.dot(mixed, wo, x2)
        for i in range(rows):
            for j in range(width):
                x2[i, j] += x[i, j]
        normalise(x2, g2, b2, n2, s2, h2)
        hand.dot(h2, up, u)
        for i in range(rows):
            for j in range(4 * width):
                v = u[i, j]
                below = half + half * erf(v * root)
                act[i, j] = v * below
                u[i, j] = below + v * density * exp(-half * v * v)
        hand.dot(act, down, out)
        for i in range(rows):
            for j in range(width):
                out[i, j] += x2[i, j]

    @hand.njit
    def backward(g, g1, wp, wo, g2, up, down, h1, n1, s1, q, a, mixed, h2, n2, s2, u, act,
                 dact, dh, dx2, dmixed, dp, dx, dg1, db1, dwp, dwo, dg2, db2, dup, ddown):  # type: ignore[no-untyped-def]  # fmt: skip
        hand.dot(act.T, g, ddown)
        hand.dot(g, down.T, dact)
        for i in range(rows):
            for j in range(4 * width):
                dact[i, j] *= u[i, j]
        hand.dot(h2.T, dact, dup)
        hand.dot(dact, up.T, dh)
        dx2[:] = g
        normalise_back(dh, g2, n2, s2, dx2, dg2, db2)
        hand.dot(mixed.T, dx2, dwo)
        hand.dot(dx2, wo.T, dmixed)
        one_head, ds, found = (
            np.empty((length, each), np.float32),
            np.empty((length, length), np.float32),
            np.empty((3, length, each), np.float32),
        )
        for b in range(batch):
            for head in range(HEADS):
                for i in range(length):
                    for j in range(each):
                        one_head[i, j] = dmixed[b * length + i, head * each + j]
                hand.dot(a[b, head].T, one_head, found[2])
                hand.dot(one_head, q[2, b, head].T, ds)
                for i in range(length):
                    along = np.float32(0)
                    for j in range(length):
                        along = hand.add(along, ds[i, j] * a[b, head, i, j])
                    for j in range(length):
                        ds[i, j] = a[b, head, i, j] * (ds[i, j] - along) * scale
                hand.dot(ds, q[1, b, head], found[0])
                hand.dot(ds.T, q[0, b, head], found[1])
                for part in range(3):
                    for i in range(length):
                        for j in range(each):
                            dp[b * length + i, part * width + head * each + j] = found[part, i, j]
        hand.dot(h1.T, dp, dwp)
        hand.dot(dp, wp.T, dh)
        dx[:] = dx2
        normalise_back(dh, g1, n1, s1, dx, dg1, db1)

    def empty(*shape: int) -> Array:
        return np.empty(shape, "float32")

    x, *weights, g = arrays
    x, g = x.reshape(rows, width), g.reshape(rows, width)
    g1, _, wp, wo, g2, _, up, down = weights
    h1, n1, mixed, x2, h2, n2, out, dh, dx2, dmixed, dx = (empty(rows, width) for _ in range(11))
    s1, s2, p, dp = empty(rows), empty(rows), empty(rows, 3 * width), empty(rows, 3 * width)
    u, act, dact = (empty(rows, 4 * width) for _ in range(3))
    q, a = empty(3, batch, HEADS, length, each), empty(batch, HEADS, length, length)
    slopes = [np.empty_like(w) for w in weights]
    shape = (batch, length, width)

    def call() -> Any:
        forward(x, *weights, h1, n1, s1, p, q, a, mixed, x2, h2, n2, s2, u, act, out)
        backward(
            g, g1, wp, wo, g2, up, down, h1, n1, s1, q, a, mixed, h2, n2, s2, u, act,
            dact, dh, dx2, dmixed, dp, dx, *slopes,
        )  # fmt: skip
        return (out.reshape(shape), dx.reshape(shape), *slopes)

    return call


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
        peers={"hand": by_hand}
        | peers.derivatives(
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
