"""Optimizers as functions from a loss to the ``updates`` of a compiled step; knows no loops and no data.

Each makes the states that it needs (moments, a step count) and returns what each parameter and state becomes, with
PyTorch's formulas:

>>> import numpy as np, staticad as ad
>>> w = ad.parameter(np.ones(3), name="w")
>>> updates = ad.optim.sgd(ad.sum(w * w), [w], lr=0.1)
>>> list(updates) == [w]
True

``ad.compile([...], loss, updates=updates)`` is then a whole training step. ``lr`` may be a tensor: an input, or a state
that a schedule updates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from staticad.creation import state
from staticad.dtypes import float64
from staticad.errors import GraphError, ShapeError
from staticad.functions.elementwise import astype, sqrt
from staticad.functions.elementwise import pow as power
from staticad.functions.operands import is_scalar
from staticad.tensor import ArrayLike, Parameter, Tensor

Updates = dict[Parameter, Tensor]


def gradients(loss: Tensor, params: Sequence[Parameter]) -> list[Tensor]:
    """The gradient of a scalar loss by each parameter. Raises `ShapeError` for a loss that is no scalar."""
    from staticad.derivatives import grad

    if not isinstance(loss, Tensor) or loss.shape != ():  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ShapeError(f"optim: the loss is a scalar, not {loss!r}; take its mean or sum")
    for p in params:
        if not isinstance(p, Parameter):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise GraphError(f"optim: {p!r} is no parameter; make one with staticad.parameter")
    return list(grad(loss, list(params)))


def _memory(p: Parameter, what: str) -> Parameter:
    """A state of zeros of the parameter's type."""
    return state(np.zeros_like(p.value), name=f"{p.name}_{what}" if p.name else None)


def sgd(
    loss: Tensor,
    params: Sequence[Parameter],
    lr: ArrayLike = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
) -> Updates:
    """Stochastic gradient descent: ``p - lr * g``, with momentum ``p - lr * b`` of ``b = momentum * b + (1 - dampening)
    * g``.

    With ``nesterov`` the step is along ``g + momentum * b``. The first ``b`` is ``g``, as in PyTorch.
    """
    if nesterov and (momentum <= 0 or dampening != 0):
        raise GraphError("sgd: nesterov takes a positive momentum and no dampening")
    updates: Updates = {}
    steps = _counter(updates) if momentum and dampening else None
    for p, g in zip(params, gradients(loss, params), strict=True):
        g = g + weight_decay * p if weight_decay else g
        if momentum:
            b = _memory(p, "momentum")
            # The first average is the gradient itself, undamped.
            fresh = g if steps is None else astype(1 - dampening * astype(steps > 1, float64), p.dtype) * g
            updates[b] = average = momentum * b + fresh
            g = g + momentum * average if nesterov else average
        updates[p] = p - (lr if is_scalar(lr) else astype(lr, p.dtype)) * g
    return updates


def adam(
    loss: Tensor,
    params: Sequence[Parameter],
    lr: ArrayLike = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
) -> Updates:
    """Adam (Kingma and Ba 2015), with bias correction; ``weight_decay`` is added to the gradient.

    ``p - lr / (1 - beta1**t) * m / (sqrt(v) / sqrt(1 - beta2**t) + eps)`` of ``m = beta1 * m + (1 - beta1) * g`` and
    ``v = beta2 * v + (1 - beta2) * g**2`` at step ``t``.
    """
    return _adam(loss, params, lr, betas, eps, weight_decay, decoupled=False)


def adamw(
    loss: Tensor,
    params: Sequence[Parameter],
    lr: ArrayLike = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
) -> Updates:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019): parameters first shrink by ``lr *
    weight_decay``.
    """
    return _adam(loss, params, lr, betas, eps, weight_decay, decoupled=True)


def _counter(updates: Updates) -> Tensor:
    """The number of the present step, from 1, whose state is added to ``updates``."""
    steps = state(np.zeros((), "int64"), name="step")
    updates[steps] = now = steps + 1
    return now


def _adam(
    loss: Tensor,
    params: Sequence[Parameter],
    lr: ArrayLike,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    *,
    decoupled: bool,
) -> Updates:
    beta1, beta2 = betas
    updates: Updates = {}
    # The corrections are scalars in float64, whatever the parameters are.
    t = astype(_counter(updates), float64)
    rate = lr / (1 - power(beta1, t))
    root = sqrt(1 - power(beta2, t))
    for p, g in zip(params, gradients(loss, params), strict=True):
        start: Tensor = p
        if weight_decay and decoupled:
            start = p * astype(1 - lr * astype(weight_decay, float64), p.dtype)
        elif weight_decay:
            g = g + weight_decay * p
        m, v = _memory(p, "m"), _memory(p, "v")
        updates[m] = mean = beta1 * m + (1 - beta1) * g
        updates[v] = square = beta2 * v + (1 - beta2) * (g * g)
        updates[p] = start - astype(rate, p.dtype) * mean / (sqrt(square) / astype(root, p.dtype) + eps)
    return updates
