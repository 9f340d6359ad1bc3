"""`cnn`: a step of two 3x3 convolutions with pooling and a dense layer on 28x28 images, value and gradients, float32.

staticad has no convolution yet: nine shifted slices of the padded images are joined along the channels, and one product
with the 3x3 weights follows (im2col). Images are [batch, row, column, channel], and so they are for JAX and PyTorch
(channels_last), whose own convolutions run.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks import hand, peers
from benchmarks.workload import Array, Program, Workload

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


def by_hand(images: Array, labels: Array, k1: Array, c1: Array, k2: Array, c2: Array, w: Array, b: Array) -> Program:
    """An image at a time: the first convolution directly, the second as a product with columns in L2; pooling before
    the rectifier, which is the same; backward only where an element was the largest of its square."""
    exp, batch = hand.exp32, len(images)
    one, many = CHANNELS[1], CHANNELS[2]

    @hand.njit
    def forward(x: Any, k1: Any, c1: Any, k2: Any, c2: Any, near: Any, at1: Any, flat: Any, at2: Any) -> None:
        image = np.zeros((30, 30), np.float32)
        padded = np.zeros((16, 16, one), np.float32)
        z1, z2 = np.empty((28, 28, one), np.float32), np.empty((196, many), np.float32)
        for n in range(batch):
            image[1:29, 1:29] = x[n, :, :, 0]
            for i in range(28):
                for j in range(28):
                    for c in range(one):
                        z1[i, j, c] = c1[c]
                    for r in range(3):
                        for s in range(3):
                            by = image[i + r, j + s]
                            for c in range(one):
                                z1[i, j, c] += by * k1[r, s, 0, c]
            for i in range(14):
                for j in range(14):
                    for c in range(one):
                        top, at = np.float32(0), np.int32(-1)
                        for place in range(4):
                            value = z1[2 * i + place // 2, 2 * j + place % 2, c]
                            at = np.int32(place) if value > top else at
                            top = value if value > top else top
                        padded[i + 1, j + 1, c] = top
                        at1[n, i, j, c] = at
            for i in range(14):
                for j in range(14):
                    for r in range(3):
                        for s in range(3):
                            for c in range(one):
                                near[n, 14 * i + j, (3 * r + s) * one + c] = padded[i + r, j + s, c]
            hand.dot(near[n], k2, z2)
            for i in range(7):
                for j in range(7):
                    for c in range(many):
                        top, at = np.float32(0), np.int32(-1)
                        for place in range(4):
                            value = z2[14 * (2 * i + place // 2) + 2 * j + place % 2, c] + c2[c]
                            at = np.int32(place) if value > top else at
                            top = value if value > top else top
                        flat[n, (7 * i + j) * many + c] = top
                        at2[n, i, j, c] = at

    @hand.njit
    def entropy(z: Any, labels: Any, b: Any, db: Any) -> Any:
        """The loss, ``z`` becoming its gradient."""
        loss = np.float32(0)
        db[:] = 0
        for i in range(batch):
            top, total = z[i, 0] + b[0], np.float32(0)
            for j in range(CLASSES):
                z[i, j] += b[j]
                top = hand.greater(top, z[i, j])
            at = z[i, labels[i]]
            for j in range(CLASSES):
                z[i, j] = exp(z[i, j] - top)
                total += z[i, j]
            loss += np.log(total) + top - at
            for j in range(CLASSES):
                z[i, j] /= total * np.float32(batch)
            z[i, labels[i]] -= np.float32(1) / np.float32(batch)
            for j in range(CLASSES):
                db[j] += z[i, j]
        return loss / np.float32(batch)

    @hand.njit
    def backward(
        x: Any, k2: Any, near: Any, at1: Any, at2: Any, g: Any, dk1: Any, dc1: Any, dk2: Any, dc2: Any
    ) -> None:
        image = np.zeros((30, 30), np.float32)
        dz2, dnear = np.empty((196, many), np.float32), np.empty((196, 9 * one), np.float32)
        part, padded = np.empty((9 * one, many), np.float32), np.empty((16, 16, one), np.float32)
        dk1[:] = 0
        dc1[:] = 0
        dk2[:] = 0
        dc2[:] = 0
        for n in range(batch):
            image[1:29, 1:29] = x[n, :, :, 0]
            dz2[:] = 0
            for i in range(7):
                for j in range(7):
                    for c in range(many):
                        place, value = at2[n, i, j, c], g[n, (7 * i + j) * many + c]
                        if place >= 0:
                            dz2[14 * (2 * i + place // 2) + 2 * j + place % 2, c] = value
                            dc2[c] += value
            hand.dot(near[n].T, dz2, part)
            for k in range(9 * one):
                for c in range(many):
                    dk2[k, c] += part[k, c]
            hand.dot(dz2, k2.T, dnear)
            padded[:] = 0
            for i in range(14):
                for j in range(14):
                    for r in range(3):
                        for s in range(3):
                            for c in range(one):
                                padded[i + r, j + s, c] += dnear[14 * i + j, (3 * r + s) * one + c]
            for i in range(14):
                for j in range(14):
                    for c in range(one):
                        place, value = at1[n, i, j, c], padded[i + 1, j + 1, c]
                        if place >= 0:
                            dc1[c] += value
                            row, column = 2 * i + place // 2, 2 * j + place % 2
                            for r in range(3):
                                for s in range(3):
                                    dk1[r, s, 0, c] += value * image[row + r, column + s]

    @hand.njit
    def products(flat: Any, z: Any, w: Any, dw: Any, dflat: Any) -> None:
        hand.dot(flat.T, z, dw)
        hand.dot(z, w.T, dflat)

    second = k2.reshape(9 * one, many)
    near, flat = np.empty((batch, 196, 9 * one), "float32"), np.empty((batch, 49 * many), "float32")
    at1, at2 = np.empty((batch, 14, 14, one), "int32"), np.empty((batch, 7, 7, many), "int32")
    z, dflat = np.empty((batch, CLASSES), "float32"), np.empty_like(flat)
    slopes = dk1, dc1, dk2, dc2, dw, db = [np.empty_like(a) for a in (k1, c1, k2, c2, w, b)]

    def call() -> Any:
        forward(images, k1, c1, second, c2, near, at1, flat, at2)
        np.matmul(flat, w, out=z)
        loss = entropy(z, labels, b, db)
        products(flat, z, w, dw, dflat)
        backward(images, second, near, at1, at2, dflat, dk1, dc1, dk2.reshape(second.shape), dc2)
        return (loss, *slopes)

    return call


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
            "hand": by_hand,
        },
        quick=quick,
    )


WORKLOADS = [workload(32, quick=True)]


def test_speed(entry: Any) -> None:
    entry()
