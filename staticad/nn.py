"""Functions of neural networks, composed of array functions; knows no parameters and no training.

>>> import staticad as ad
>>> x, y = ad.input("x", ("n", 10), dtype="float32"), ad.input("y", ("n",), dtype="int64")
>>> ad.nn.cross_entropy(x, y)
Tensor(f32)
"""

from __future__ import annotations

from staticad.creation import arange
from staticad.errors import DTypeError, GraphError, ShapeError
from staticad.functions.elementwise import abs as absolute
from staticad.functions.elementwise import (
    astype,
    exp,
    gelu,
    log,
    relu,
    sigmoid,
    silu,
    softplus,
    sqrt,
    square,
    tanh,
    where,
)
from staticad.functions.indexing import take_along_axis
from staticad.functions.manipulation import expand_dims, matrix_transpose, squeeze
from staticad.functions.operands import as_axis, as_float, as_tensor, broadcast_shape, promoted, types_text
from staticad.functions.products import matmul
from staticad.functions.reductions import mean, reduce, var
from staticad.functions.reductions import sum as sum_of
from staticad.ops import reductions as primitive
from staticad.tensor import ArrayLike, Axes, Tensor

__all__ = [
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "elu",
    "gelu",
    "huber_loss",
    "l1_loss",
    "layer_norm",
    "leaky_relu",
    "linear",
    "log_sigmoid",
    "log_softmax",
    "mse_loss",
    "nll_loss",
    "one_hot",
    "relu",
    "rms_norm",
    "sigmoid",
    "silu",
    "softmax",
    "softplus",
    "tanh",
]


def softmax(x: ArrayLike, /, *, axis: Axes = -1) -> Tensor:
    """``exp(x) / sum(exp(x))`` along ``axis``, without overflow: same shape, positive, of sum 1."""
    t = as_float("softmax", x)
    powers = exp(t - reduce(primitive.max_, t.detach(), axis, keepdims=True))
    return powers / sum_of(powers, axis=axis, keepdims=True)


def log_softmax(x: ArrayLike, /, *, axis: Axes = -1) -> Tensor:
    """``log(softmax(x))`` along ``axis``, exact where softmax is near 0."""
    t = as_float("log_softmax", x)
    shifted = t - reduce(primitive.max_, t.detach(), axis, keepdims=True)
    return shifted - log(sum_of(exp(shifted), axis=axis, keepdims=True))


def log_sigmoid(x: ArrayLike, /) -> Tensor:
    """``log(sigmoid(x)) = -softplus(-x)``."""
    return -softplus(-as_float("log_sigmoid", x))


def leaky_relu(x: ArrayLike, /, *, negative_slope: float = 0.01) -> Tensor:
    """``x`` where it is positive, else ``negative_slope * x``."""
    t = as_float("leaky_relu", x)
    return where(t > 0, t, negative_slope * t)


def elu(x: ArrayLike, /, *, alpha: float = 1.0) -> Tensor:
    """``x`` where it is positive, else ``alpha * (exp(x) - 1)``. Clevert, Unterthiner and Hochreiter 2016."""
    t = as_float("elu", x)
    # Where the branch is not taken exp would overflow, and inf * 0 is nan in a second derivative.
    return where(t > 0, t, alpha * (exp(where(t > 0, 0, t)) - 1))


def linear(x: ArrayLike, /, weight: ArrayLike, bias: ArrayLike | None = None) -> Tensor:
    """``x @ weight.T + bias``, PyTorch's layout: ``[..., in], [out, in] -> [..., out]``."""
    out = matmul(x, matrix_transpose(weight) if as_tensor(weight).ndim > 1 else weight)
    return out if bias is None else out + bias


def layer_norm(
    x: ArrayLike,
    /,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    *,
    axis: Axes = -1,
    eps: float = 1e-5,
) -> Tensor:
    """``(x - mean) / sqrt(var + eps) * weight + bias`` along ``axis``. Ba, Kiros and Hinton 2016."""
    t = as_float("layer_norm", x)
    out = (t - mean(t, axis=axis, keepdims=True)) / sqrt(var(t, axis=axis, keepdims=True) + eps)
    out = out if weight is None else out * weight
    return out if bias is None else out + bias


def rms_norm(x: ArrayLike, /, weight: ArrayLike | None = None, *, axis: Axes = -1, eps: float = 1e-6) -> Tensor:
    """``x / sqrt(mean(x**2) + eps) * weight`` along ``axis``. Zhang and Sennrich 2019."""
    t = as_float("rms_norm", x)
    out = t / sqrt(mean(square(t), axis=axis, keepdims=True) + eps)
    return out if weight is None else out * weight


def one_hot(labels: ArrayLike, num_classes: int, /, *, dtype: str = "float64") -> Tensor:
    """1 at the label and 0 elsewhere along a new last axis: ``[...] -> [..., num_classes]``."""
    t = as_tensor(labels)
    if t.dtype.kind not in "iu":
        raise DTypeError(f"one_hot: labels are integers, not {t.node.type}; convert with astype('int64')")
    return astype(expand_dims(t, axis=-1) == arange(num_classes, dtype=t.dtype), dtype)


def _reduced(name: str, losses: Tensor, reduction: str) -> Tensor:
    if reduction == "mean":
        return mean(losses)
    if reduction == "sum":
        return sum_of(losses)
    if reduction == "none":
        return losses
    raise GraphError(f"{name}: reduction is 'mean', 'sum' or 'none', not {reduction!r}")


def nll_loss(log_probabilities: ArrayLike, labels: ArrayLike, /, *, axis: int = -1, reduction: str = "mean") -> Tensor:
    """Minus the log-probability of each label: ``[..., classes], [...] -> [...]``, then reduced."""
    t = as_float("nll_loss", log_probabilities)
    return _reduced("nll_loss", -_at_label("nll_loss", t, as_tensor(labels), axis), reduction)


def _at_label(name: str, t: Tensor, labels: Tensor, axis: int) -> Tensor:
    k = as_axis(name, axis, t.ndim, t.node.type)
    if labels.ndim != t.ndim - 1:
        raise ShapeError(
            f"{name}: {types_text((t, labels))}: integer labels have every axis but the classes', which is axis {k}"
        )
    broadcast_shape(lambda: f"{name}: {types_text((t, labels))}", (*t.shape[:k], *t.shape[k + 1 :]), labels.shape)
    return squeeze(take_along_axis(t, expand_dims(labels, axis=k), axis=k), k)


def cross_entropy(
    logits: ArrayLike,
    target: ArrayLike,
    /,
    *,
    axis: int = -1,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The cross entropy of ``softmax(logits)`` along ``axis`` with ``target``: integer labels, or probabilities of its
    shape.

    ``label_smoothing`` mixes that share of the uniform distribution into the target. ``reduction`` is ``"mean"`` (over
    all places), ``"sum"`` or ``"none"``. Labels out of range are an `IndexError` when called (negative ones count from
    the end).
    """
    t, y = as_float("cross_entropy", logits), as_tensor(target)
    k = as_axis("cross_entropy", axis, t.ndim, t.node.type)
    logs = log_softmax(t, axis=k)
    if y.dtype.kind in "iu":
        losses = -_at_label("cross_entropy", logs, y, k)
    elif y.dtype.kind == "f" and y.ndim == t.ndim:
        logs, y = promoted(logs, y)
        broadcast_shape(lambda: f"cross_entropy: {types_text((t, y))}", t.shape, y.shape)
        losses = -sum_of(logs * y, axis=k)
    else:
        raise ShapeError(
            f"cross_entropy: {types_text((t, y))}: the target is integer labels, or probabilities of the logits' shape"
        )
    if label_smoothing:
        losses = (1 - label_smoothing) * losses - label_smoothing * mean(logs, axis=k)
    return _reduced("cross_entropy", losses, reduction)


def mse_loss(x: ArrayLike, target: ArrayLike, /, *, reduction: str = "mean") -> Tensor:
    """``(x - target)**2``, reduced."""
    return _reduced("mse_loss", square(as_float("mse_loss", x) - target), reduction)


def l1_loss(x: ArrayLike, target: ArrayLike, /, *, reduction: str = "mean") -> Tensor:
    """``|x - target|``, reduced."""
    return _reduced("l1_loss", absolute(as_float("l1_loss", x) - target), reduction)


def huber_loss(x: ArrayLike, target: ArrayLike, /, *, delta: float = 1.0, reduction: str = "mean") -> Tensor:
    """``0.5 * d**2`` where ``|d| <= delta``, else ``delta * (|d| - 0.5 * delta)``, of ``d = x - target``; reduced."""
    d = as_float("huber_loss", x) - target
    size = absolute(d)
    return _reduced("huber_loss", where(size <= delta, 0.5 * square(d), delta * (size - 0.5 * delta)), reduction)


def binary_cross_entropy_with_logits(
    logits: ArrayLike, target: ArrayLike, /, *, reduction: str = "mean", pos_weight: ArrayLike | None = None
) -> Tensor:
    """``-(y * log(p) + (1 - y) * log(1 - p))`` of ``p = sigmoid(logits)``, stable for logits of any size; reduced.

    ``pos_weight`` multiplies the first term.
    """
    t = as_float("binary_cross_entropy_with_logits", logits)
    y = astype(target, t.dtype) if as_tensor(target).dtype.kind != "f" else as_tensor(target)
    if pos_weight is None:
        losses = softplus(t) - t * y
    else:
        losses = (1 - y) * t + (1 + (as_tensor(pos_weight) - 1) * y) * softplus(-t)
    return _reduced("binary_cross_entropy_with_logits", losses, reduction)
