"""`cnn`: a step of two 3x3 convolutions with pooling and a dense layer on 28x28 images, value and gradients, float32.

staticad has no convolution yet: nine shifted slices of the padded images are joined along the channels, and one product
with the 3x3 weights follows (im2col). Images are [batch, row, column, channel], and so they are for JAX and PyTorch
(channels_last), whose own convolutions run.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Workload

CHANNELS, CLASSES = (1, 8, 16), 10


def network(xp: Any, conv: Any, pool: Any, x: Any, k1: Any, c1: Any, k2: Any, c2: Any, w: Any, b: Any) -> Any:
    x = pool(xp.maximum(conv(x, k1) + c1, 0.0))
    x = pool(xp.maximum(conv(x, k2) + c2, 0.0))
    return x.reshape((x.shape[0], 7 * 7 * CHANNELS[2])) @ w + b


def columns(xp: Any, concat: Any, pad: Any) -> Any:
    """A 3x3 convolution as one product, of the images' nine shifted copies with the weights ``[3, 3, in, out]``."""

    def conv(x: Any, k: Any) -> Any:
        height, width = x.shape[1:3]
        padded = pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        near = concat([padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=3)
        return near @ k.reshape((9 * k.shape[2], k.shape[3]))

    return conv


def pooling(largest: Any) -> Any:
    """The largest of each 2x2 square."""

    def pool(x: Any) -> Any:
        batch, height, width, channels = x.shape
        return largest(largest(x.reshape((batch, height // 2, 2, width // 2, 2, channels)), axis=4), axis=2)

    return pool


def staticad_loss(ad: Any, x: Any, y: Any, *weights: Any) -> Any:
    return ad.nn.cross_entropy(network(ad, columns(ad, ad.concat, ad.pad), pooling(ad.max), x, *weights), y)


def jax_loss(jnp: Any, x: Any, y: Any, *weights: Any) -> Any:
    jax = peers.jax()

    def conv(x: Any, k: Any) -> Any:
        return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    logs = jax.nn.log_softmax(network(jnp, conv, pooling(jnp.max), x, *weights))
    return -jnp.mean(jnp.take_along_axis(logs, y[:, None], axis=1))


def jax_columns_loss(jnp: Any, x: Any, y: Any, *weights: Any) -> Any:
    z = network(jnp, columns(jnp, jnp.concatenate, jnp.pad), pooling(jnp.max), x, *weights)
    return -jnp.mean(jnp.take_along_axis(peers.jax().nn.log_softmax(z), y[:, None], axis=1))


def torch_loss(torch: Any, x: Any, y: Any, k1: Any, c1: Any, k2: Any, c2: Any, w: Any, b: Any) -> Any:
    f = torch.nn.functional
    x = x.permute(0, 3, 1, 2)  # a view: in memory the channels stay last
    for k, c in ((k1, c1), (k2, c2)):
        x = f.max_pool2d(torch.relu(f.conv2d(x, k.permute(3, 2, 0, 1), c, padding=1)), 2)
    return f.cross_entropy(x.permute(0, 2, 3, 1).flatten(1) @ w + b, y)


def workload(batch: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        shapes = [(batch, 28, 28, 1)]
        for before, after in pairwise(CHANNELS):
            shapes += [(3, 3, before, after), (after,)]
        shapes += [(49 * CHANNELS[2], CLASSES), (CLASSES,)]
        x, *weights = (rng.normal(size=s) * (1 if k == 0 else 0.1) for k, s in enumerate(shapes))
        labels = rng.integers(0, CLASSES, batch)
        return x.astype("float32"), labels, *(w.astype("float32") for w in weights)

    _, first, second = CHANNELS
    shapes = [(batch, 28, 28, 1), (batch,), (3, 3, 1, first), (first,), (3, 3, first, second), (second,)]
    shapes += [(49 * second, CLASSES), (CLASSES,)]
    wrt = [2, 3, 4, 5, 6, 7]
    by_columns = peers.derivatives(None, shapes, wrt, jax=jax_columns_loss)
    return Workload(
        name="cnn",
        size=f"{batch}x28x28",
        dtype="float32",
        data=data,
        peers={
            **peers.derivatives(None, shapes, wrt, staticad=staticad_loss, jax=jax_loss, torch=torch_loss),
            "jax (columns)": by_columns["jax"],
        },
        quick=quick,
    )


WORKLOADS = [workload(32, quick=True)]


def test_speed(entry: Any) -> None:
    entry()
