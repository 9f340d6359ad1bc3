"""`mlp`: softmax cross-entropy of a two-layer network, value and the gradients of four parameters, float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Program, Workload


def hidden(xp: Any, x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return xp.tanh(x @ w1 + b1) @ w2 + b2


def staticad_loss(ad: Any, x: Any, y: Any, *weights: Any) -> Any:
    return ad.nn.cross_entropy(hidden(ad, x, *weights), y)


def torch_loss(torch: Any, x: Any, y: Any, *weights: Any) -> Any:
    return torch.nn.functional.cross_entropy(hidden(torch, x, *weights), y)


def jax_loss(jnp: Any, x: Any, y: Any, *weights: Any) -> Any:
    logs = peers.jax().nn.log_softmax(hidden(jnp, x, *weights))
    return -jnp.mean(jnp.take_along_axis(logs, y[:, None], axis=1))


def pytensor_loss(pt: Any, x: Any, y: Any, *weights: Any) -> Any:
    logs = pt.special.log_softmax(hidden(pt, x, *weights), axis=1)
    return -pt.mean(logs[pt.arange(y.shape[0]), y])


def autograd_loss(anp: Any, x: Any, y: Any, *weights: Any) -> Any:
    z = hidden(anp, x, *weights)
    z = z - anp.max(z, axis=1, keepdims=True)
    logs = z - anp.log(anp.sum(anp.exp(z), axis=1, keepdims=True))
    return -anp.mean(logs[np.arange(len(y)), y])


def mygrad_loss(mg: Any, x: Any, y: Any, *weights: Any) -> Any:
    from mygrad.nnet.losses import softmax_crossentropy

    return softmax_crossentropy(hidden(mg, x, *weights), y.data)


def by_hand(x: Array, labels: Array, w1: Array, b1: Array, w2: Array, b2: Array) -> Program:
    """Products by BLAS where they are large; everything between two of them is one pass."""
    from benchmarks import hand  # imports Numba, which `first_result` must find not imported

    exp, tanh, batch = hand.exp32, hand.tanh32, np.float32(len(x))

    @hand.njit
    def run(
        x: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any,
        h: Any, z: Any, dh: Any, dw1: Any, db1: Any, dw2: Any, db2: Any,
    ) -> Any:  # fmt: skip
        hand.dot(x, w1, h)
        for i in range(h.shape[0]):
            for j in range(h.shape[1]):
                h[i, j] = tanh(h[i, j] + b1[j])
        hand.dot(h, w2, z)
        loss = np.float32(0)
        db2[:] = 0
        for i in range(z.shape[0]):
            top = z[i, 0] + b2[0]
            for j in range(z.shape[1]):
                z[i, j] += b2[j]
                top = hand.greater(top, z[i, j])
            at, total = z[i, labels[i]], np.float32(0)
            for j in range(z.shape[1]):
                e = exp(z[i, j] - top)
                z[i, j] = e
                total = hand.add(total, e)
            loss += np.log(total) + top - at
            scale = np.float32(1) / (total * batch)
            for j in range(z.shape[1]):
                z[i, j] *= scale
            z[i, labels[i]] -= np.float32(1) / batch
            for j in range(z.shape[1]):
                db2[j] += z[i, j]
        hand.dot(h.T, z, dw2)
        hand.dot(z, w2.T, dh)
        db1[:] = 0
        for i in range(h.shape[0]):
            for j in range(h.shape[1]):
                dh[i, j] *= np.float32(1) - h[i, j] * h[i, j]
                db1[j] += dh[i, j]
        hand.dot(x.T, dh, dw1)
        return loss / batch

    h, z = np.empty((len(x), w1.shape[1]), "float32"), np.empty((len(x), w2.shape[1]), "float32")
    slopes = [np.empty_like(a) for a in (w1, b1, w2, b2)]
    kept = (x, labels, w1, b1, w2, b2, h, z, np.empty_like(h), *slopes)
    return lambda: (run(*kept), *slopes)


def workload(batch: int, inputs: int, units: int, classes: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        x = rng.normal(size=(batch, inputs))
        w1, w2 = rng.normal(size=(inputs, units)) / inputs**0.5, rng.normal(size=(units, classes)) / units**0.5
        b1, b2 = 0.1 * rng.normal(size=units), 0.1 * rng.normal(size=classes)
        labels = rng.integers(0, classes, batch)
        return x.astype("float32"), labels, *(a.astype("float32") for a in (w1, b1, w2, b2))

    return Workload(
        name="mlp",
        size=f"{batch}x{inputs}-{units}-{classes}",
        dtype="float32",
        data=data,
        peers={"hand": by_hand}
        | peers.derivatives(
            None,
            [("batch", inputs), ("batch",), (inputs, units), (units,), (units, classes), (classes,)],
            [2, 3, 4, 5],
            staticad=staticad_loss,
            jax=jax_loss,
            torch=torch_loss,
            pytensor=pytensor_loss,
            autograd=autograd_loss,
            mygrad=mygrad_loss,
        ),
        sizes={"batch": batch},
        quick=quick,
    )


WORKLOADS = [workload(8, 16, 32, 4, quick=True), workload(64, 64, 128, 10, quick=True), workload(128, 784, 256, 10)]


def test_speed(entry: Any) -> None:
    entry()
