"""What a tensor is: autograd's flags against the same lines in PyTorch, derivatives at kinks, optimizers, misuse."""

# ruff: noqa: E501  (tables of cases)

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest

import staticad as ad
from staticad import nn, optim

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(1)
NAMES = {"add": "Add", "multiply": "Mul", "sum": "Sum", "leaf": "Accumulate"}


def made(framework, value, requires_grad):
    if framework is torch:
        return torch.tensor(value, dtype=torch.float64, requires_grad=requires_grad)
    return ad.input("x" + str(RNG.integers(1 << 40)), np.shape(value), requires_grad=requires_grad)


def flags(t):
    """What PyTorch and staticad both say of a tensor, without the warning PyTorch gives for asking."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (t.requires_grad, t.is_leaf, t.grad_fn is None, t.grad is None)


def product(m):
    a, b = made(m, 2.0, True), made(m, 3.0, False)
    return [a, b, a * b]


def chain(m):
    x = made(m, [1.0, 2.0], True)
    y = x * 2
    z = y * y
    return [x, y, z]


def leaf_made_later(m):
    a, b = made(m, 2.0, False), made(m, 3.0, False)
    c = a * b
    before = flags(c)
    c.requires_grad = True
    d = c * a
    assert before == (False, True, True, True)
    return [a, b, c, d]


def detached(m):
    x = made(m, [1.0, 2.0], True)
    y = (x * 2).detach()
    return [x, y, y * 3, y * x]


def without_grad(m):
    x = made(m, [1.0, 2.0], True)
    with m.no_grad() if m is torch else ad.no_grad():
        y = x * 2
    return [y, y * x, y * 2]


def decorated(m):
    x = made(m, [1.0, 2.0], True)

    @(m if m is torch else ad).no_grad()
    def double(x):
        return x * 2

    return [double(x), x * 2]


def switched_off(m):
    x = made(m, [1.0, 2.0], True)
    x.requires_grad_(False)
    y = x * 2
    return [x, y, y.requires_grad_()]


def compared(m):
    x = made(m, [1.0, 2.0], True)
    return [x > 0, x == x, (x > 1) & (x < 2), x.argmax(), m.where(x > 0, x, 0.0)]


def in_place_operator(m):
    x = made(m, [1.0, 2.0], True)
    y = x * 1
    y += 1
    return [x, y]


@pytest.mark.parametrize(
    "lines",
    [product, chain, leaf_made_later, detached, without_grad, decorated, switched_off, compared, in_place_operator],
)
def test_flags_are_pytorchs(lines):
    ours = lines(ad)
    theirs = lines(torch)
    assert [flags(t) for t in ours] == [flags(t) for t in theirs]


def test_grad_fn_names_the_operation_and_what_is_next():
    for m in (ad, torch):
        a, b = made(m, 2.0, True), made(m, 3.0, False)
        c = a * b
        d = c + a
        names = ["multiply", "add"] if m is ad else ["MulBackward0", "AddBackward0"]
        assert c.grad_fn.name == names[0] if m is ad else c.grad_fn.name() == names[0]
        assert d.grad_fn.name == names[1] if m is ad else d.grad_fn.name() == names[1]
        (first, _), (second, _) = c.grad_fn.next_functions
        assert second is None
        assert "AccumulateGrad" in str(first)
        assert d.grad_fn.next_functions[0][0] == c.grad_fn
        assert d.grad_fn.next_functions[1][0] == first
    c = ad.input("a", requires_grad=True) * 2
    assert str(c.grad_fn) == "<multiply>"
    assert c.grad_fn.next_functions[0][0].variable.name == "a"


def test_requires_grad_of_a_computed_tensor_cannot_be_cleared():
    for m, error in ((ad, ad.GraphError), (torch, RuntimeError)):
        y = made(m, 2.0, True) * 2
        with pytest.raises(error):
            y.requires_grad = False
        y.requires_grad_()  # which changes nothing
        assert not y.is_leaf


def test_only_floats_require_grad():
    for f in (
        lambda: ad.input("i", (3,), dtype="int64", requires_grad=True),
        lambda: ad.input("i", (3,), dtype="bool").requires_grad_(),
        lambda: ad.parameter(np.arange(3)),
    ):
        with pytest.raises(ad.DTypeError, match="float"):
            f()
    with pytest.raises(RuntimeError):
        torch.arange(3).requires_grad_()
    assert not ad.input("x", requires_grad=True).astype("int64").requires_grad


def test_grad_is_kept_while_requires_grad_is_switched():
    x = ad.parameter([1.0, 2.0])
    x.grad = np.array([3.0, 4.0])
    x.requires_grad = False
    assert x.node.op.name == "data"
    np.testing.assert_array_equal(x.grad, [3.0, 4.0])
    x.requires_grad_()
    np.testing.assert_array_equal(x.grad, [3.0, 4.0])
    ad.zero_grad({"x": [x]})
    assert x.grad is None
    for wrong in (np.zeros(3), np.zeros(2, "float32")):
        with pytest.raises(ad.ShapeError, match="grad"):
            x.grad = wrong


def test_retain_grad():
    x = ad.input("x", (2,), requires_grad=True)
    y = x * 2
    y.retain_grad()
    assert y.grad is None
    assert not y.is_leaf
    with pytest.raises(ad.GraphError, match="retain_grad"):
        ad.input("x").retain_grad()


def test_parameters_hold_an_array_in_one_place():
    array = np.zeros((2, 3), "float32")
    w = ad.parameter(array, name="w")
    address = w.value.ctypes.data
    array[:] = 7
    assert w.value.sum() == 0
    w.value = np.ones((2, 3))
    assert w.value.dtype == np.float32
    assert w.value.ctypes.data == address
    assert w.value.sum() == 6
    assert w.requires_grad
    assert w.is_leaf
    assert (w.name, w.shape, w.dtype) == ("w", (2, 3), np.dtype("float32"))
    with pytest.raises(ad.ShapeError, match="value"):
        w.value = np.ones(3)
    with pytest.raises(ad.DTypeError, match="value"):
        w.value = np.ones((2, 3), complex)
    steps = ad.state(0, name="steps")
    assert (steps.requires_grad, steps.dtype.kind, steps.item()) == (False, "i", 0)
    with pytest.raises(ad.DTypeError, match="value"):
        steps.value = 1.5


def test_constants_are_copies():
    array = np.arange(3.0)
    c = ad.constant(array)
    array[:] = 9
    np.testing.assert_array_equal(c.numpy(), [0, 1, 2])
    assert ad.constant(2.5).item() == 2.5


def test_item_is_computed_where_nothing_is_missing():
    w = ad.parameter([1.0, 2.0])
    assert ad.sum(w * w).item() == 5.0
    assert isinstance(ad.sum(w).item(), float)
    w.value = [2.0, 2.0]
    assert ad.sum(w * w).item() == 8.0
    with pytest.raises(ad.ShapeError, match="item"):
        w.item()
    with pytest.raises(ad.SymbolicError, match=r"compile.*evaluate"):
        (w[0] + ad.input("x")).item()


def test_reprs():
    x = ad.input("x", ("batch", 64), "float32", requires_grad=True)
    assert repr(x) == "Tensor(f32[batch, 64], name='x', requires_grad=True)"
    assert repr(x + 1) == "Tensor(f32[batch, 64], grad_fn=<add>)"
    assert repr(x.detach()) == "Tensor(f32[batch, 64])"
    y = x * 2
    y.name = "y"
    assert repr(y) == "Tensor(f32[batch, 64], name='y', grad_fn=<multiply>)"


SYMBOLIC = [
    bool,
    float,
    int,
    complex,
    list,
    np.asarray,
    lambda x: [1, 2][x],
    lambda x: 1 in x,
    lambda x: "if" if x > 0 else "",
]


@pytest.mark.parametrize("case", range(len(SYMBOLIC)))
def test_there_is_no_value_yet(case):
    with pytest.raises(ad.SymbolicError, match="not known while the graph is built"):
        SYMBOLIC[case](ad.input("x", (3,)))


def test_length_iteration_and_change():
    x = ad.input("x", ("n", 3))
    assert len(x.T) == 3
    with pytest.raises(ad.SymbolicError, match="len"):
        len(x)
    with pytest.raises(ad.ShapeError, match="len"):
        len(x[0, 0])
    with pytest.raises(ad.SymbolicError, match=r"\.at\["):
        x[0] = 1
    assert len({x, x, x + 1}) == 2
    assert x in [x]
    assert (x == None) is False  # noqa: E711
    assert x.__array_namespace__() is ad


@pytest.mark.parametrize("name", ["1x", "class", "x y", "import os", "x;y", "", "é", 3])
def test_names_are_identifiers(name):
    for f in (
        lambda: ad.input(name),
        lambda: ad.parameter(1.0, name=name),
        lambda: ad.input("x", (name,)) if name != 3 else ad.dim(name),
    ):
        with pytest.raises(ad.GraphError, match="name"):
            f()


# ---- derivatives where conventions matter, and of the composed functions

A = RNG.normal(size=(3, 4))
TIES = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-1.0, 0.0, 0.0, 5.0]])
KINKS = np.array([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0])
ZEROS = np.zeros((2, 3))

DERIVATIVES = [
    (lambda x: nn.relu(x), lambda x: torch.relu(x), KINKS),
    (lambda x: abs(x), lambda x: abs(x), KINKS),
    (lambda x: ad.clip(x, -1, 1), lambda x: torch.clamp(x, -1, 1), KINKS),
    (lambda x: ad.sign(x) * x, lambda x: torch.sign(x) * x, KINKS),
    (lambda x: x**0, lambda x: x**0, KINKS),
    (lambda x: x**2, lambda x: x**2, KINKS),
    (lambda x: x**2.0, lambda x: x**2.0, KINKS),
    (lambda x: x**1, lambda x: x**1, KINKS),
    (lambda x: ad.maximum(x, 0.5), lambda x: torch.maximum(x, torch.tensor(0.5, dtype=torch.float64)), KINKS),
    (lambda x: ad.where(x > 0, ad.log(x), 0.0), lambda x: torch.where(x > 0, torch.log(x), 0.0), KINKS[3:]),
    (lambda x: ad.where(x > 0, ad.sqrt(x), x), lambda x: torch.where(x > 0, torch.sqrt(x), x), KINKS[4:]),
    (lambda x: ad.round(x), lambda x: torch.round(x), KINKS),
    (lambda x: ad.floor(x) * x, lambda x: torch.floor(x) * x, KINKS),
    (lambda x: ad.remainder(x, 0.7), lambda x: torch.remainder(x, 0.7), KINKS),
    (lambda x: ad.max(x, axis=1), lambda x: torch.amax(x, 1), TIES),
    (lambda x: ad.min(x), lambda x: torch.amin(x), TIES),
    (lambda x: ad.norm(x), lambda x: torch.linalg.vector_norm(x), ZEROS),
    (lambda x: ad.norm(x, axis=1), lambda x: torch.linalg.vector_norm(x, dim=1), A),
    (lambda x: ad.norm(x, ord=1), lambda x: torch.linalg.vector_norm(x, ord=1), ZEROS),
    (lambda x: ad.norm(x, ord=3, axis=1), lambda x: torch.linalg.vector_norm(x, ord=3, dim=1), A),
    (lambda x: ad.norm(x, ord=np.inf, axis=1), lambda x: torch.linalg.vector_norm(x, ord=np.inf, dim=1), TIES),
    (lambda x: ad.logsumexp(x, axis=1), lambda x: torch.logsumexp(x, 1), TIES * 300),
    (lambda x: ad.var(x, axis=0), lambda x: torch.var(x, 0, correction=0), A),
    (lambda x: ad.std(x, axis=1, correction=1), lambda x: torch.std(x, 1), A),
    (lambda x: ad.prod(x, axis=1), lambda x: torch.prod(x, 1), TIES),
    (lambda x: ad.cumulative_prod(x, axis=1), lambda x: torch.cumprod(x, 1), TIES),
    (lambda x: ad.cumulative_sum(x, axis=1), lambda x: torch.cumsum(x, 1), A),
    (lambda x: nn.softmax(x), lambda x: torch.softmax(x, -1), TIES * 100),
    (lambda x: nn.log_softmax(x), lambda x: torch.log_softmax(x, -1), TIES * 100),
    (lambda x: nn.gelu(x), torch.nn.functional.gelu, KINKS),
    (lambda x: nn.gelu(x, approximate="tanh"), lambda x: torch.nn.functional.gelu(x, approximate="tanh"), KINKS),
    (lambda x: nn.silu(x), torch.nn.functional.silu, KINKS),
    (lambda x: nn.elu(x), torch.nn.functional.elu, KINKS),
    (lambda x: nn.softplus(x * 30), lambda x: torch.nn.functional.softplus(x * 30), KINKS),
    (lambda x: nn.layer_norm(x), lambda x: torch.nn.functional.layer_norm(x, (4,)), A),
    (lambda x: nn.cross_entropy(x, np.array([0, 3, 1])), lambda x: torch.nn.functional.cross_entropy(x, torch.tensor([0, 3, 1])), A),
    (lambda x: nn.binary_cross_entropy_with_logits(x * 99, x > 0), lambda x: torch.nn.functional.binary_cross_entropy_with_logits(x * 99, (x > 0).double()), A),
    (lambda x: nn.huber_loss(x, 0.0), lambda x: torch.nn.functional.huber_loss(x, torch.zeros_like(x)), KINKS),
    (lambda x: ad.concat([x[1:], x[:1] * 2]), lambda x: torch.cat([x[1:], x[:1] * 2]), A),
    (lambda x: ad.stack([x, x * x], axis=1), lambda x: torch.stack([x, x * x], 1), A),
    (lambda x: ad.roll(x, 1, axis=1) * x, lambda x: torch.roll(x, 1, 1) * x, A),
    (lambda x: ad.flip(x, axis=0) * x, lambda x: torch.flip(x, (0,)) * x, A),
    (lambda x: ad.tril(x) * x, lambda x: torch.tril(x) * x, A),
    (lambda x: ad.pad(x, ((0, 0), (2, 2)), "reflect") ** 2, lambda x: torch.nn.functional.pad(x, (2, 2), mode="reflect") ** 2, A),
    (lambda x: x[::2, ::-1] * x[::2], lambda x: x[::2].flip(1) * x[::2], A),
    (lambda x: x[np.array([0, 0, 2])] ** 2, lambda x: x[torch.tensor([0, 0, 2])] ** 2, A),
    (lambda x: x.at[1:].set(0.0) * x, lambda x: torch.cat([x[:1], torch.zeros_like(x[1:])]) * x, A),
    (lambda x: ad.tile(x, (2, 2)) ** 2, lambda x: torch.tile(x, (2, 2)) ** 2, A),
    (lambda x: ad.repeat(x, 2, axis=0) ** 2, lambda x: torch.repeat_interleave(x, 2, 0) ** 2, A),
    (lambda x: x @ x.T, lambda x: x @ x.T, A),
    (lambda x: ad.einsum("ij,kj,il->kl", x, x, x), lambda x: torch.einsum("ij,kj,il->kl", x, x, x), A),
    (lambda x: ad.einsum("ii->i", x @ x.T), lambda x: torch.einsum("ii->i", x @ x.T), A),
    (lambda x: ad.atan2(x, x + 1), lambda x: torch.atan2(x, x + 1), A),
    (lambda x: ad.logaddexp(x, 2 * x), lambda x: torch.logaddexp(x, 2 * x), TIES * 300),
    (lambda x: ad.hypot(x, x), lambda x: torch.hypot(x, x), A),
    (lambda x: 2**x, lambda x: 2**x, A),
    (lambda x: abs(x) ** x, lambda x: abs(x) ** x, A),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(DERIVATIVES)))
def test_derivatives_are_pytorchs(case):
    ours, theirs, value = DERIVATIVES[case]
    x = ad.input("x", value.shape, requires_grad=True)
    y = ours(x)
    t = torch.tensor(value, requires_grad=True)
    u = theirs(t)
    weights = np.linspace(0.5, 1.5, int(np.prod(u.shape))).reshape(u.shape)
    (expected,) = torch.autograd.grad(u, t, torch.from_numpy(weights), allow_unused=True)
    value_, gradient = ad.evaluate([y, ad.grad(y, x, weights)], {x: value})
    np.testing.assert_allclose(value_, u.detach().numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(gradient, expected.numpy(), rtol=1e-9, atol=1e-11)


OPTIMIZERS = [
    ("sgd", "SGD", {"lr": 0.1}),
    ("sgd", "SGD", {"lr": 0.1, "weight_decay": 0.3}),
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.9}),
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}),
    ("sgd", "SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("adam", "Adam", {}),
    ("adam", "Adam", {"lr": 0.1, "betas": (0.8, 0.9), "eps": 1e-3, "weight_decay": 0.2}),
    ("adamw", "AdamW", {"lr": 0.1}),
    ("adamw", "AdamW", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.2}),
]


@pytest.mark.parametrize("case", range(len(OPTIMIZERS)))
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("symbolic_rate", [False, True])
def test_optimizers_take_pytorchs_steps(case, dtype, symbolic_rate):
    ours, theirs, options = copy.deepcopy(OPTIMIZERS[case])
    start = [A.astype(dtype), A[0].astype(dtype)]
    ws = [ad.parameter(a) for a in start]
    ts = [torch.tensor(a, requires_grad=True) for a in start]
    reference = getattr(torch.optim, theirs)(ts, **options)
    if symbolic_rate:
        options["lr"] = ad.state(options.get("lr", 1e-3))
    updates = getattr(optim, ours)(ad.sum(ad.cos(ws[0]) * ws[1]), ws, **options)
    assert all(p.dtype == new.dtype for p, new in updates.items())
    for _ in range(4):
        for p, new in zip(updates, ad.evaluate(list(updates.values())), strict=True):
            p.value = new
        reference.zero_grad()
        (torch.cos(ts[0]) * ts[1]).sum().backward()
        reference.step()
    for w, t in zip(ws, ts, strict=True):
        np.testing.assert_allclose(w.value, t.detach().numpy(), rtol=1e-5 if dtype == "float32" else 1e-11)


def test_optimizer_misuse():
    w = ad.parameter(A)
    with pytest.raises(ad.ShapeError, match="scalar"):
        optim.sgd(w, [w])
    with pytest.raises(ad.GraphError, match="parameter"):
        optim.sgd(ad.sum(w), [ad.input("x")])
    with pytest.raises(ad.GraphError, match="nesterov"):
        optim.sgd(ad.sum(w), [w], nesterov=True)
