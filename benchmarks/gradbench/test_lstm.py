"""`lstm` of GradBench: the loss of an LSTM with diagonal weights that predicts characters, and its gradient.

The steps are a scan, the layers a loop in Python; the length of the text is a run-time size. Characters have 14 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Program, Workload

BITS = 14


def loss(
    xp: Any, scan: Callable[..., Any], sigmoid: Callable[..., Any], main: Any, extra: Any, state: Any, text: Any
) -> Any:
    layers = main.shape[0] // 2
    weights = xp.reshape(main, (layers, 2, 4, BITS))

    def step(carry: Any, characters: Any) -> Any:
        memory, total = carry
        x, following = characters
        z, after = x * extra[0], []
        for k, (h, c) in enumerate(memory):
            (to_forget, to_take, to_give, to_change), bias = (weights[k, 0, j] for j in range(4)), weights[k, 1]
            forget, take = sigmoid(z * to_forget + bias[0]), sigmoid(h * to_take + bias[1])
            give, change = sigmoid(z * to_give + bias[2]), xp.tanh(h * to_change + bias[3])
            c = c * forget + take * change
            z = give * xp.tanh(c)
            after.append((z, c))
        y = z * extra[1] + extra[2]
        log_likelihood = xp.sum(following * (y - xp.log(2.0 + xp.sum(xp.exp(y)))))
        return (after, total + log_likelihood), None

    start = [(state[2 * k], state[2 * k + 1]) for k in range(layers)]
    (_, total), _ = scan(step, (start, xp.zeros(())), (text[:-1], text[1:]))
    return -total / (BITS * (text.shape[0] - 1))


def by_staticad(*arrays: Array) -> tuple[Sequence[Any], Any]:
    import staticad as ad

    main, extra, state, _ = arrays
    inputs = [ad.input("main", main.shape), ad.input("extra", extra.shape), ad.input("state", state.shape)]
    inputs.append(ad.input("text", ("characters", BITS)))
    value = loss(ad, ad.scan, ad.nn.sigmoid, *inputs)
    return inputs, (value, *ad.grad(value, inputs[:2]))


def by_jax(unroll: int) -> Callable[[Any], Any]:
    return lambda jax: partial(loss, jax.numpy, partial(jax.lax.scan, unroll=unroll), jax.nn.sigmoid)


def by_torch(*arrays: Array) -> Program:
    torch = peers.torch()
    main, extra, state, text = map(torch.from_numpy, arrays)
    targets = [main.requires_grad_(), extra.requires_grad_()]

    def scan(step: Any, carry: Any, xs: Any) -> Any:
        for x in zip(*xs, strict=True):
            carry, _ = step(carry, x)
        return carry, None

    def run() -> Any:
        value = loss(torch, scan, torch.sigmoid, main, extra, state, text)
        return (value, *torch.autograd.grad(value, targets))

    return run


def workload(layers: int, characters: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        r = np.random.default_rng(0)
        text = (r.random((characters, BITS)) < 0.5).astype("float64")
        return r.random((2 * layers, 4 * BITS)), r.random((3, BITS)), r.random((2 * layers, BITS)), text

    return Workload(
        name="lstm",
        size=f"{layers},{characters}",
        dtype="float64",
        data=data,
        peers={
            **peers.staticad(by_staticad),
            "jax": peers.jax_gradients(by_jax(1), 2),
            "jax (unroll=4)": peers.jax_gradients(by_jax(4), 2),
            **({"torch": by_torch} if characters <= 1024 else {}),
        },
        sizes={"characters": characters},
        quick=quick,
    )


WORKLOADS = [workload(2, 1024, quick=True), workload(4, 4096), workload(6, 8192)]


def test_speed(entry: Any) -> None:
    entry()
