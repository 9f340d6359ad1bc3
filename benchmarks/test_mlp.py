"""`mlp`: softmax cross-entropy of a two-layer network, value and the gradients of four parameters, float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload


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
        peers=peers.derivatives(
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
