"""`gradcheck` and `gradgradcheck` pass what is right, refuse what is wrong, and say where: as PyTorch's do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import staticad as ad
from staticad.errors import DTypeError, GradcheckError, GraphError
from staticad.testing import gradcheck, gradgradcheck

RNG = np.random.default_rng(2)
A, B = RNG.normal(size=(2, 3)), RNG.normal(size=3)


def nests(d: Any, k: Any) -> Any:
    return {"y": ad.tanh(d["a"] @ d["b"]), "z": (ad.exp(d["b"]) * k, None)}


def loop(h: Any, xs: Any) -> Any:
    return ad.scan(lambda h, x: ((h2 := ad.tanh(h * x)), h2 * h), h, xs)


def softmax_loss(x: Any) -> Any:
    return ad.nn.cross_entropy(x, np.array([0, 2]))


RIGHT: list[tuple[Callable[..., Any], Any]] = [
    (ad.sin, A),
    (lambda x, y: ad.sin(x) * y, (A, B)),
    (nests, ({"a": A, "b": B}, 2)),
    (loop, (B, A)),
    (softmax_loss, A),
    (lambda x: (x**3, ad.sum(x), ad.sqrt(ad.exp(x)), ad.where(x > 0, x * x, ad.log(2.0 - x))), A),
    (lambda x, k: ad.take(x, k) * 2.0, (B, np.array([2, 2, 0]))),
    (lambda x: np.cos(x) @ x, B),
    (lambda x: x * 3.0, 2.0),
    (lambda w: ad.sin(w) * A, ad.parameter(B)),
]


@pytest.mark.parametrize(("func", "inputs"), RIGHT)
@pytest.mark.parametrize("method", ["central", "complex"])
def test_right_derivatives_pass(func: Any, inputs: Any, method: Any) -> None:
    assert gradcheck(func, inputs, method=method, check_forward_ad=True)
    assert gradgradcheck(func, inputs, method=method, check_fwd_over_rev=True)


def slope(factor: Any, *, forward: bool = False) -> Callable[[Any], Any]:
    """The sine, whose derivative is said to be ``factor(x) * cos(x)``."""
    if forward:
        f: Any = ad.custom_jvp(lambda x: ad.sin(x))
        f.defjvp(lambda p, t: (f(*p), t[0] * ad.cos(p[0]) * factor(p[0])))
    else:
        f = ad.custom_vjp(lambda x: ad.sin(x))
        f.defvjp(lambda x: (f(x), x), lambda x, g: (g * ad.cos(x) * factor(x),))
    return f


@pytest.mark.parametrize("method", ["central", "complex"])
@pytest.mark.parametrize("forward", [False, True])
def test_the_worst_element_is_named(forward: bool, method: Any) -> None:
    at = np.array([[0.1, 0.2], [0.3, 0.4]])
    wrong = np.array([[1.0, 1.01], [1.5, 1.0]])
    f = slope(lambda x: ad.constant(wrong), forward=forward)
    with pytest.raises(GradcheckError) as caught:
        gradcheck(lambda y, d: {"out": (d["k"], f(d["x"]) * y)}, (3.0, {"k": 2, "x": at}), method=method)
    text = str(caught.value)
    assert "worst: d output['out'][1][1, 0] / d inputs[1]['x'][1, 0] in reverse mode" in text
    assert f"analytic {3 * 1.5 * np.cos(0.3):.6f}" in text
    assert f"numeric  {3 * np.cos(0.3):.6f}" in text
    assert "2 of 16 elements wrong" in text
    assert isinstance(caught.value, AssertionError)


def test_a_result_instead_of_an_error() -> None:
    f = slope(lambda x: 1.001)
    assert not gradcheck(f, B, rtol=1e-6, raise_exception=False)
    assert gradcheck(f, B, rtol=1e-2)
    assert gradcheck(f, B, rtol=1e-6, check_backward_ad=False)


def test_second_order_is_looked_at_by_itself() -> None:
    """The first derivative is right; that of the rule is not."""
    f = slope(lambda x: 1.0 + x - ad.stop_gradient(x))
    assert gradcheck(f, B)
    with pytest.raises(GradcheckError, match=r"d output\[0\]\[2\] / d inputs\[0\]\[0\]\[2\]"):
        gradgradcheck(f, B)
    assert gradgradcheck(f, B, raise_exception=False) is False


def test_cotangents_may_be_given() -> None:
    f = slope(lambda x: 1.0 + x - ad.stop_gradient(x))
    assert gradgradcheck(f, B, [np.zeros(3)], check_fwd_over_rev=True) is True
    with pytest.raises(GraphError, match="2 grad_outputs for 1 floating outputs"):
        gradgradcheck(f, B, [B, B])


def test_float32_is_held_against_differences_in_float64() -> None:
    """Differences of float32 values would be off by far more than the tolerance."""
    assert gradcheck(nests, ({"a": A.astype("float32"), "b": B.astype("float32")}, 2))
    with pytest.raises(GradcheckError):
        gradcheck(slope(lambda x: 1.01), B.astype("float32"))


def test_a_compiled_function() -> None:
    x = ad.input("x", ("n", 3))
    w = ad.parameter(B)
    assert gradcheck(ad.compile([x], ad.sin(x) @ w), A, check_forward_ad=True)
    assert gradcheck(ad.compile([x], ad.sin(x) @ w), A, method="complex")
    with pytest.raises(GraphError, match="first derivatives alone"):
        gradgradcheck(ad.compile([x], ad.sin(x) @ w), A)
    y = ad.input("y", (3,), dtype="float32")
    with pytest.raises(DTypeError, match="give the function of tensors instead"):
        gradcheck(ad.compile([y], y * y), B.astype("float32"))


def test_not_finite_is_wrong_unless_both_are() -> None:
    assert gradcheck(ad.sqrt, np.array([-1.0]))
    f = slope(lambda x: ad.log(x - x))
    assert not gradcheck(f, np.ones(2), raise_exception=False)


def test_where_a_function_has_a_kink_it_is_as_in_pytorch() -> None:
    torch = pytest.importorskip("torch")
    at = np.array([0.0, 1.0])
    with pytest.raises(RuntimeError):
        torch.autograd.gradcheck(torch.abs, torch.tensor(at, requires_grad=True) + 1e-7)
    assert not gradcheck(ad.abs, at + 1e-7, raise_exception=False)
    assert torch.autograd.gradcheck(torch.abs, torch.tensor(at + 0.1, requires_grad=True))
    assert gradcheck(ad.abs, at + 0.1)


REFUSED: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: gradcheck(ad.sin, np.arange(3)), DTypeError, "no input is a floating array"),
    (lambda: gradcheck(lambda x: x > 0, B), DTypeError, "no output is a floating array"),
    (lambda: gradcheck(ad.sin, B, method="fast"), GraphError, "central"),  # pyright: ignore[reportArgumentType]
    (lambda: gradcheck(ad.abs, B, method="complex"), DTypeError, 'abs: is not analytic.*give method="central"'),
    (lambda: gradcheck(lambda x: x.astype("float32"), B, method="complex"), DTypeError, 'give method="central"'),
]


@pytest.mark.parametrize(("call", "error", "text"), REFUSED)
def test_refused(call: Callable[[], Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
