"""`hmm`: the log-likelihood of a hidden Markov model by the forward algorithm, and its gradient.

The steps are a scan; the number of observations is a run-time size. The gradient is by the logits of the first state,
of the transitions and of the emissions. Rabiner, "A tutorial on hidden Markov models" (1989), sections III A and V A.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from benchmarks import peers
from benchmarks.workload import Array, Program, Workload


class Library(NamedTuple):
    """What the forms of the program call, where the peers' names differ."""

    xp: Any
    scan: Callable[..., Any]
    log_softmax: Callable[..., Any]
    logsumexp: Callable[..., Any]
    largest: Callable[..., Any]  # of all elements, as a constant


def pairs(by: Library, start: Any, moves: Any, shows: Any, seen: Any) -> Any:
    """In log space: a step exponentiates every pair of states."""
    transition = by.log_softmax(moves, axis=1)
    emitted = by.log_softmax(shows, axis=0)[seen]  # a row for every observation

    def step(alpha: Any, emission: Any) -> Any:
        return by.logsumexp(alpha[:, None] + transition, axis=0) + emission, None

    alpha, _ = by.scan(step, by.log_softmax(start, axis=0) + emitted[0], emitted[1:])
    return by.logsumexp(alpha, axis=0)


def product(by: Library, start: Any, moves: Any, shows: Any, seen: Any) -> Any:
    """In log space: a step exponentiates every state, for a product with the probabilities of the transitions."""
    transition = by.xp.exp(by.log_softmax(moves, axis=1))
    emitted = by.log_softmax(shows, axis=0)[seen]

    def step(alpha: Any, emission: Any) -> Any:
        top = by.largest(alpha)
        return top + by.xp.log(by.xp.exp(alpha - top) @ transition) + emission, None

    alpha, _ = by.scan(step, by.log_softmax(start, axis=0) + emitted[0], emitted[1:])
    return by.logsumexp(alpha, axis=0)


def scaled(by: Library, start: Any, moves: Any, shows: Any, seen: Any) -> Any:
    """Probabilities that every step divides by their sum: one logarithm a step."""
    transition = by.xp.exp(by.log_softmax(moves, axis=1))
    emitted = by.xp.exp(by.log_softmax(shows, axis=0))[seen]

    def divided(alpha: Any, total: Any) -> Any:
        scale = by.xp.sum(alpha)
        return alpha / scale, total + by.xp.log(scale)

    def step(carry: Any, emission: Any) -> Any:
        alpha, total = carry
        return divided((alpha @ transition) * emission, total), None

    first = by.xp.exp(by.log_softmax(start, axis=0)) * emitted[0]
    (_, total), _ = by.scan(step, divided(first, 0.0), emitted[1:])
    return total


def by_staticad(form: Callable[..., Any]) -> Callable[..., Any]:
    def make(*arrays: Array) -> tuple[Sequence[Any], Any]:
        import staticad as ad

        def largest(x: Any) -> Any:
            return ad.stop_gradient(ad.max(x))

        logits = [ad.input(f"x{k}", a.shape) for k, a in enumerate(arrays[:3])]
        seen = ad.input("seen", ("steps",), dtype="int64")
        value = form(Library(ad, ad.scan, ad.nn.log_softmax, ad.logsumexp, largest), *logits, seen)
        return [*logits, seen], (value, *ad.grad(value, logits))

    return make


def by_jax(form: Callable[..., Any], unroll: int) -> Callable[[Any], Any]:
    def make(jax: Any) -> Any:
        def largest(x: Any) -> Any:
            return jax.lax.stop_gradient(jax.numpy.max(x))

        scan = partial(jax.lax.scan, unroll=unroll)
        return partial(form, Library(jax.numpy, scan, jax.nn.log_softmax, jax.nn.logsumexp, largest))

    return make


def by_torch(*arrays: Array) -> Program:
    torch = peers.torch()
    given = [torch.from_numpy(a) for a in arrays]
    targets = [x.requires_grad_() for x in given[:3]]

    def scan(step: Any, carry: Any, xs: Any) -> Any:
        for x in xs.unbind():
            carry, _ = step(carry, x)
        return carry, None

    def log_softmax(x: Any, axis: int) -> Any:
        return torch.log_softmax(x, axis)

    by = Library(torch, scan, log_softmax, torch.logsumexp, lambda x: torch.max(x).detach())

    def run() -> Any:
        value = scaled(by, *given)
        return (value, *torch.autograd.grad(value, targets))

    return run


def workload(states: int, symbols: int, steps: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        r = np.random.default_rng(0)
        logits = (r.normal(size=s) for s in (states, (states, states), (symbols, states)))
        return *logits, r.integers(0, symbols, steps)

    in_pairs, in_product, in_scaled = (peers.staticad(by_staticad(form)) for form in (pairs, product, scaled))
    return Workload(
        name="hmm",
        size=f"{states},{symbols},{steps}",
        dtype="float64",
        data=data,
        peers={
            **in_pairs,
            **{f"{peer} (product)": build for peer, build in in_product.items()},
            **{f"{peer} (scaled)": build for peer, build in in_scaled.items()},
            "jax": peers.jax_gradients(by_jax(pairs, 1), 3),
            "jax (product)": peers.jax_gradients(by_jax(product, 1), 3),
            "jax (product, unroll=4)": peers.jax_gradients(by_jax(product, 4), 3),
            "jax (scaled)": peers.jax_gradients(by_jax(scaled, 1), 3),
            "jax (scaled, unroll=4)": peers.jax_gradients(by_jax(scaled, 4), 3),
            **({"torch": by_torch} if steps <= 1000 else {}),
        },
        sizes={"steps": steps},
        quick=quick,
    )


WORKLOADS = [workload(4, 8, 1000, quick=True), workload(8, 16, 10_000), workload(32, 64, 10_000)]


def test_speed(entry: Any) -> None:
    entry()
