"""Autograd as PyTorch has it: the same lines run in both, and gradients where conventions matter are PyTorch's."""

# ruff: noqa: E501  (tables of cases)

from __future__ import annotations

import warnings

import numpy as np
import pytest

import staticad as ad

torch = pytest.importorskip("torch")


class Torch:
    """The lines of a test in PyTorch."""

    def __getattr__(self, name):
        return getattr(torch, name)

    def leaf(self, value, requires_grad=False):
        return torch.tensor(value, dtype=torch.float64, requires_grad=requires_grad)

    def backward(self, y, gradient=None, times=1):
        gradient = None if gradient is None else torch.tensor(gradient, dtype=torch.float64)
        for _ in range(times):
            y.backward(gradient, retain_graph=True)

    def grad(self, t):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of a computed tensor's .grad
            return None if t.grad is None else t.grad.numpy()

    def clear(self, *tensors):
        for t in tensors:
            t.grad = None


class Static:
    """The same lines in staticad: ``backward`` compiles what was built, calls it with the leaves' values, and pulls back."""

    def __init__(self):
        self.values = {}

    def __getattr__(self, name):
        return getattr(ad, name)

    def leaf(self, value, requires_grad=False):
        x = ad.input(f"x{len(self.values)}", np.shape(value), requires_grad=requires_grad)
        self.values[x] = np.asarray(value, "f8")
        return x

    def backward(self, y, gradient=None, times=1):
        f = ad.compile(list(self.values), y)
        f(*self.values.values())
        for _ in range(times):
            f.backward(gradient)

    def grad(self, t):
        return t.grad

    def clear(self, *tensors):
        ad.zero_grad(*tensors)


def state(m, t):
    """What both say of a tensor: flags and gradient."""
    found = m.grad(t)
    return (t.requires_grad, t.is_leaf, t.grad_fn is None, None if found is None else found.tolist())


def product_of_two_scalars_where_one_requires_grad(m):
    a, b = m.leaf(2.0, True), m.leaf(3.0)
    c = a * b
    m.backward(c)
    return a, b, c


def chain_with_a_ones_cotangent(m):
    x = m.leaf([1.0, 2.0], True)
    y = f1(m, x)
    z = f2(m, y)
    m.backward(z, [1.0, 1.0])
    return x, y, z


def chain_with_a_weighted_cotangent(m):
    x = m.leaf([1.0, 2.0], True)
    y = f1(m, x)
    z = f2(m, y)
    m.backward(z, [0.2, 0.8])
    return x, y, z


def f1(m, x):
    """A map of 2-vectors whose Jacobian is not diagonal."""
    return m.sum(x) * x


def f2(m, y):
    return m.sin(y) + m.sum(y * y)


def leaf_made_by_setting_requires_grad_on_a_product(m):
    a, b = m.leaf(2.0), m.leaf(3.0)
    c = a * b
    c.requires_grad = True
    d = c * c * a
    m.backward(d)
    return a, b, c, d


def leaf_made_later_stops_the_gradient(m):
    a, b = m.leaf(2.0), m.leaf(3.0)
    c = a * b
    c.requires_grad = True
    e = m.leaf(5.0, True)
    d = c * e
    m.backward(d)
    return a, b, c, d, e


def accumulation_of_grad_over_two_backward_calls(m):
    a, b = m.leaf([2.0, 1.0], True), m.leaf([3.0, 4.0], True)
    c = m.sum(a * b * b)
    m.backward(c, times=2)
    return a, b, c


def accumulation_over_two_graphs(m):
    a = m.leaf([2.0, 1.0], True)
    m.backward(m.sum(a * a))
    m.backward(m.sum(m.exp(a)))
    return (a,)


def cleared_between(m):
    a = m.leaf([2.0, 1.0], True)
    m.backward(m.sum(a * a))
    m.clear(a)
    before = state(m, a)
    m.backward(m.sum(a * 3.0))
    assert before == (True, True, True, None)
    return (a,)


def no_path(m):
    a, b = m.leaf(2.0, True), m.leaf(3.0, True)
    m.backward(a * 2)
    return a, b


def used_twice(m):
    a = m.leaf([1.0, 2.0, 3.0], True)
    b = a * a
    m.backward(m.sum(b * a + b))
    return a, b


def detached(m):
    a = m.leaf([1.0, 2.0], True)
    b = a * a
    c = b.detach()
    d = m.sum(c * a)
    m.backward(d)
    return a, b, c, d


def under_no_grad(m):
    a = m.leaf([1.0, 2.0], True)
    with m.no_grad():
        b = a * a
    c = m.sum(b * a)
    m.backward(c)
    return a, b, c


def retained(m):
    a = m.leaf([1.0, 2.0], True)
    b = a * a
    b.retain_grad()
    c = b * b
    d = m.sum(c)
    m.backward(d, times=2)
    return a, b, c, d


def retained_leaf(m):
    a = m.leaf([1.0, 2.0], True)
    a.retain_grad()
    m.backward(m.sum(a * a))
    return (a,)


def switched_off_again(m):
    a, b = m.leaf([1.0, 2.0], True), m.leaf([3.0, 4.0], True)
    a.requires_grad_(False)
    c = a * b
    m.backward(m.sum(c))
    return a, b, c


def flag_set_after_the_use(m):
    a, b = m.leaf(2.0), m.leaf(3.0, True)
    c = a * b
    a.requires_grad = True
    m.backward(c)
    return a, b, c


def one_element_needs_no_gradient(m):
    a = m.leaf([[2.0]], True)
    m.backward(a * a)
    return (a,)


def cotangent_of_a_scalar(m):
    a = m.leaf(2.0, True)
    m.backward(a * a, 0.25)
    return (a,)


def masked_branch(m):
    a = m.leaf([-1.0, 0.0, 4.0], True)
    m.backward(m.sum(m.where(a > 0, a**0.5, a * 2)))
    return (a,)


def output_that_is_the_leaf(m):
    a = m.leaf([1.0, 2.0], True)
    m.backward(a, [3.0, 4.0])
    return (a,)


LINES = [
    product_of_two_scalars_where_one_requires_grad,
    chain_with_a_ones_cotangent,
    chain_with_a_weighted_cotangent,
    leaf_made_by_setting_requires_grad_on_a_product,
    leaf_made_later_stops_the_gradient,
    accumulation_of_grad_over_two_backward_calls,
    accumulation_over_two_graphs,
    cleared_between,
    no_path,
    used_twice,
    detached,
    under_no_grad,
    retained,
    retained_leaf,
    switched_off_again,
    flag_set_after_the_use,
    one_element_needs_no_gradient,
    cotangent_of_a_scalar,
    masked_branch,
    output_that_is_the_leaf,
]


@pytest.mark.parametrize("lines", LINES, ids=lambda f: f.__name__)
def test_the_same_lines_in_pytorch(lines):
    ours, theirs = Static(), Torch()
    found, expected = lines(ours), lines(theirs)
    for k, (t, u) in enumerate(zip(found, expected, strict=True)):
        *flags, grad = state(ours, t)
        *wanted, wanted_grad = state(theirs, u)
        assert flags == wanted, k
        assert (grad is None) == (wanted_grad is None), k
        if grad is not None:
            np.testing.assert_allclose(grad, wanted_grad, rtol=1e-13)
            assert t.grad.dtype == t.dtype
            assert t.grad.shape == t.shape


def test_chain_equals_the_product_of_jacobians():
    """The gradient by a cotangent is ``cotangent @ J2 @ J1``, with the Jacobians from PyTorch."""
    value = np.array([1.0, 2.0])
    x = ad.input("x", (2,), requires_grad=True)
    y = f1(Static(), x)
    z = f2(Static(), y)
    f = ad.compile([x], z)
    tx = torch.tensor(value)
    j1 = torch.autograd.functional.jacobian(lambda v: f1(Torch(), v), tx).numpy()
    j2 = torch.autograd.functional.jacobian(lambda v: f2(Torch(), v), f1(Torch(), tx)).numpy()
    for cotangent in ([1.0, 1.0], [0.2, 0.8]):
        x.grad = None
        out = f(value)
        f.backward(cotangent)
        np.testing.assert_allclose(x.grad, np.array(cotangent) @ j2 @ j1, rtol=1e-13)
        _, pullback = f.vjp(value)
        np.testing.assert_allclose(pullback(np.array(cotangent))[x], x.grad, rtol=1e-15)
        np.testing.assert_allclose(out, f2(Torch(), f1(Torch(), tx)).numpy(), rtol=1e-13)


def non_scalar_without_gradient(m):
    a = m.leaf([1.0, 2.0], True)
    m.backward(a * a)


def nothing_requires_grad(m):
    a = m.leaf(1.0)
    m.backward(a * a)


def only_through_detach(m):
    a = m.leaf(1.0, True)
    m.backward(a.detach() * 2)


def gradient_of_another_shape(m):
    a = m.leaf([1.0, 2.0], True)
    m.backward(a * a, [1.0, 2.0, 3.0])


def clearing_the_flag_of_a_computed_tensor(m):
    a = m.leaf([1.0, 2.0], True)
    (a * 2).requires_grad = False


@pytest.mark.parametrize(
    ("lines", "error", "text"),
    [
        (non_scalar_without_gradient, ad.GraphError, r"non-scalar output of type f64\[2\].*backward\(gradient\)"),
        (nothing_requires_grad, ad.GraphError, "no output requires grad.*requires_grad=True"),
        (only_through_detach, ad.GraphError, "no output requires grad"),
        (gradient_of_another_shape, ad.ShapeError, r"gradient has the shape \(3,\).*\(2,\)"),
        (clearing_the_flag_of_a_computed_tensor, ad.GraphError, "leaf.*detach"),
    ],
    ids=lambda f: getattr(f, "__name__", None),
)
def test_what_pytorch_refuses(lines, error, text):
    with pytest.raises(error, match=text):
        lines(Static())
    with pytest.raises(RuntimeError):
        lines(Torch())


def test_next_functions_lead_down_to_the_leaves():
    for m in (Static(), Torch()):
        a, b = m.leaf(2.0, True), m.leaf(3.0)
        d = m.sin(a * b)
        ((mul, place),) = d.grad_fn.next_functions
        assert place == 0
        (leaf, _), (nothing, _) = mul.next_functions
        assert nothing is None
        assert leaf.variable is a if isinstance(m, Torch) else leaf.variable.name == a.name
        assert leaf.next_functions == ()


def test_item_of_an_output():
    w = ad.parameter([1.5, 2.0], name="w")
    f = ad.compile([], ad.sum(w * w))
    t = torch.tensor([1.5, 2.0], requires_grad=True)
    assert f().item() == ad.sum(w * w).item() == (t * t).sum().item() == 6.25
    assert isinstance(f().item(), float)


def test_grad_of_parameters_accumulates_and_is_read_by_an_optimizer():
    value = np.array([[1.0, -2.0], [0.5, 3.0]], "float32")
    w = ad.parameter(value, name="w")
    x = ad.input("x", ("n", 2), "float32")
    f = ad.compile([x], ad.sum(ad.tanh(x @ w)))
    t = torch.tensor(value, requires_grad=True)
    batches = [np.ones((3, 2), "float32"), np.arange(4, dtype="float32").reshape(2, 2)]
    assert w.grad is None
    for batch in batches:
        f(batch)
        f.backward()
        torch.tanh(torch.from_numpy(batch) @ t).sum().backward()
        np.testing.assert_allclose(w.grad, t.grad.numpy(), rtol=1e-5)
    assert w.grad.dtype == np.float32
    first = w.grad
    f(batches[0])
    f.backward()
    assert w.grad is not first  # a gradient that the user took is not changed behind his back
    ad.zero_grad([w])
    assert w.grad is None


# ---- derivatives where a convention decides

K = np.array([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0, 3.0])
P = np.array([0.0, 0.25, 1.0, 2.0])
U = np.array([-1.0, -0.5, 0.0, 1.0])
N = np.array([np.nan, -1.0, 0.0, 2.0])
I = np.array([-np.inf, -1.0, 0.0, np.inf])
T = np.array([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0], [-1.0, 0.0, 0.0, 5.0]])
Z = np.zeros((2, 3))
G = np.full((2, 3), -np.inf)
W = np.array([[2.0, 3.0, 4.0], [2.0, 0.0, 4.0], [0.0, 0.0, 5.0], [0.0, 0.0, 0.0]])


def full(x, value):
    return torch.full_like(x, value)


# fmt: off
CONVENTIONS = {
    "relu at 0":               (K, lambda x: ad.relu(x),                    lambda x: torch.relu(x)),
    "relu of nan":             (N, lambda x: ad.relu(x),                    lambda x: torch.relu(x)),
    "abs at 0":                (K, lambda x: abs(x),                        lambda x: abs(x)),
    "sqrt at 0":               (P, lambda x: ad.sqrt(x),                    lambda x: torch.sqrt(x)),
    "log at 0":                (P, lambda x: ad.log(x),                     lambda x: torch.log(x)),
    "log2 at 0":               (P, lambda x: ad.log2(x),                    lambda x: torch.log2(x)),
    "log10 at 0":              (P, lambda x: ad.log10(x),                   lambda x: torch.log10(x)),
    "log below 0":             (K, lambda x: ad.log(x),                     lambda x: torch.log(x)),
    "log1p at -1":             (U, lambda x: ad.log1p(x),                   lambda x: torch.log1p(x)),
    "x log x at 0":            (P, lambda x: x * ad.log(x),                 lambda x: x * torch.log(x)),
    "x**0":                    (K, lambda x: x**0,                          lambda x: x**0),
    "x**0.0":                  (K, lambda x: x**0.0,                        lambda x: x**0.0),
    "x**1":                    (K, lambda x: x**1,                          lambda x: x**1),
    "x**2":                    (K, lambda x: x**2,                          lambda x: x**2),
    "x**3":                    (K, lambda x: x**3,                          lambda x: x**3),
    "x**-1 at 0":              (K, lambda x: x**-1,                         lambda x: x**-1),
    "x**0.5 at 0":             (P, lambda x: x**0.5,                        lambda x: x**0.5),
    "x**1.5 at 0":             (P, lambda x: x**1.5,                        lambda x: x**1.5),
    "0**x":                    (P, lambda x: 0.0**x,                        lambda x: torch.pow(torch.tensor(0.0, dtype=x.dtype), x)),
    "x**x at 0":               (P, lambda x: x**x,                          lambda x: x**x),
    "x**0 with a tensor":      (K, lambda x: x ** (x * 0),                  lambda x: x ** (x * 0)),
    "2**x":                    (K, lambda x: 2.0**x,                        lambda x: 2.0**x),
    "sign":                    (K, lambda x: ad.sign(x),                    lambda x: torch.sign(x)),
    "sign times x":            (K, lambda x: ad.sign(x) * x,                lambda x: torch.sign(x) * x),
    "floor":                   (K, lambda x: ad.floor(x) * x,               lambda x: torch.floor(x) * x),
    "ceil":                    (K, lambda x: ad.ceil(x) * x,                lambda x: torch.ceil(x) * x),
    "trunc":                   (K, lambda x: ad.trunc(x) * x,               lambda x: torch.trunc(x) * x),
    "round":                   (K, lambda x: ad.round(x) * x,               lambda x: torch.round(x) * x),
    "remainder":               (K, lambda x: x % 0.7,                       lambda x: x % 0.7),
    "reciprocal at 0":         (K, lambda x: 1 / x,                         lambda x: 1 / x),
    "x / x at 0":              (K, lambda x: x / x,                         lambda x: x / x),
    "copysign":                (K, lambda x: ad.copysign(x, -1.0),          lambda x: torch.copysign(x, torch.tensor(-1.0))),
    "clip":                    (K, lambda x: ad.clip(x, -1, 1),             lambda x: torch.clamp(x, -1, 1)),
    "clip below":              (K, lambda x: ad.clip(x, 0, None),           lambda x: torch.clamp(x, min=0)),
    "clip above":              (K, lambda x: ad.clip(x, None, 0),           lambda x: torch.clamp(x, max=0)),
    "maximum with a constant": (K, lambda x: ad.maximum(x, 0.5),            lambda x: torch.maximum(x, full(x, 0.5))),
    "maximum with itself":     (K, lambda x: ad.maximum(x, x),              lambda x: torch.maximum(x, x)),
    "maximum of ties":         (K, lambda x: ad.maximum(x, x * x),          lambda x: torch.maximum(x, x * x)),
    "minimum of ties":         (K, lambda x: ad.minimum(x, x * x),          lambda x: torch.minimum(x, x * x)),
    "max of all":              (T, lambda x: ad.max(x),                     lambda x: torch.amax(x)),
    "max along an axis":       (T, lambda x: ad.max(x, axis=1),             lambda x: torch.amax(x, 1)),
    "max along two axes":      (T, lambda x: ad.max(x, axis=(0, 1), keepdims=True), lambda x: torch.amax(x, (0, 1), keepdim=True)),
    "min of all":              (T, lambda x: ad.min(x),                     lambda x: torch.amin(x)),
    "min along an axis":       (T, lambda x: ad.min(x, axis=0),             lambda x: torch.amin(x, 0)),
    "where over log":          (P, lambda x: ad.where(x > 0, ad.log(x), 0.0), lambda x: torch.where(x > 0, torch.log(x), 0.0)),
    "where over sqrt":         (K, lambda x: ad.where(x > 0, ad.sqrt(x), x), lambda x: torch.where(x > 0, torch.sqrt(x), x)),
    "where over a safe x":     (K, lambda x: ad.where(x > 0, ad.log(ad.where(x > 0, x, 1.0)), 0.0), lambda x: torch.where(x > 0, torch.log(torch.where(x > 0, x, 1.0)), 0.0)),
    "where of constants":      (K, lambda x: ad.where(x > 0, 1.0, 2.0) * x, lambda x: torch.where(x > 0, 1.0, 2.0).double() * x),
    "norm at 0":               (Z, lambda x: ad.norm(x),                    lambda x: torch.linalg.vector_norm(x)),
    "norm of rows at 0":       (W, lambda x: ad.norm(x, axis=1),            lambda x: torch.linalg.vector_norm(x, dim=1)),
    "1-norm at 0":             (W, lambda x: ad.norm(x, ord=1, axis=1),     lambda x: torch.linalg.vector_norm(x, ord=1, dim=1)),
    "3-norm at 0":             (W, lambda x: ad.norm(x, ord=3, axis=1),     lambda x: torch.linalg.vector_norm(x, ord=3, dim=1)),
    "max-norm at 0":           (T, lambda x: ad.norm(x, ord=np.inf, axis=1), lambda x: torch.linalg.vector_norm(x, ord=np.inf, dim=1)),
    "max-norm of zeros":       (Z, lambda x: ad.norm(x, ord=np.inf, axis=1), lambda x: torch.linalg.vector_norm(x, ord=np.inf, dim=1)),
    "std of no variance":      (T, lambda x: ad.std(x, axis=1, correction=1), lambda x: torch.std(x, 1)),
    "std of all equal":        (Z, lambda x: ad.std(x),                     lambda x: torch.std(x, correction=0)),
    "var of no variance":      (T, lambda x: ad.var(x, axis=1),             lambda x: torch.var(x, 1, correction=0)),
    "prod with zeros":         (W, lambda x: ad.prod(x, axis=1),            lambda x: torch.prod(x, 1)),
    "prod of all":             (W[:2], lambda x: ad.prod(x),                lambda x: torch.prod(x)),
    "cumprod with zeros":      (W, lambda x: ad.cumulative_prod(x, axis=1), lambda x: torch.cumprod(x, 1)),
    "cumsum":                  (W, lambda x: ad.cumulative_sum(x, axis=1),  lambda x: torch.cumsum(x, 1)),
    "logsumexp of ties":       (T * 300, lambda x: ad.logsumexp(x, axis=1), lambda x: torch.logsumexp(x, 1)),
    "logsumexp with -inf":     (np.where(W, W, -np.inf)[:3], lambda x: ad.logsumexp(x, axis=1), lambda x: torch.logsumexp(x, 1)),
    "softmax with -inf":       (np.where(W, W, -np.inf)[:3], lambda x: ad.nn.softmax(x), lambda x: torch.softmax(x, -1)),
    "logaddexp":               (K, lambda x: ad.logaddexp(x, x * 900),      lambda x: torch.logaddexp(x, x * 900)),
    "atan2 at 0":              (K, lambda x: ad.atan2(x, x * x),            lambda x: torch.atan2(x, x * x)),
    "hypot":                   (K[4:], lambda x: ad.hypot(x, x * x),        lambda x: torch.hypot(x, x * x)),
    "asin at 1":               (U, lambda x: ad.asin(x),                    lambda x: torch.asin(x)),
    "acos at 1":               (U, lambda x: ad.acos(x),                    lambda x: torch.acos(x)),
    "atanh at 1":              (U, lambda x: ad.atanh(x),                   lambda x: torch.atanh(x)),
    "acosh at 1":              (np.array([1.0, 2.0]), lambda x: ad.acosh(x), lambda x: torch.acosh(x)),
    "exp at infinity":         (I, lambda x: ad.exp(x),                     lambda x: torch.exp(x)),
    "expm1 at infinity":       (I, lambda x: ad.expm1(x),                   lambda x: torch.expm1(x)),
    "tanh at infinity":        (I, lambda x: ad.tanh(x),                    lambda x: torch.tanh(x)),
    "sigmoid at infinity":     (I, lambda x: ad.sigmoid(x),                 lambda x: torch.sigmoid(x)),
    "softplus at infinity":    (I, lambda x: ad.softplus(x),                lambda x: torch.logaddexp(x, torch.zeros_like(x))),
    "erf at infinity":         (I, lambda x: ad.erf(x),                     lambda x: torch.erf(x)),
    "erfc":                    (K, lambda x: ad.erfc(x),                    lambda x: torch.erfc(x)),
    "lgamma":                  (K[4:], lambda x: ad.lgamma(x),              lambda x: torch.lgamma(x)),
    "digamma":                 (K[4:], lambda x: ad.digamma(x),             lambda x: torch.digamma(x)),
    "gather of a repeat":      (K, lambda x: x[[0, 0, 6]] ** 2,             lambda x: x[[0, 0, 6]] ** 2),
    "mean":                    (T, lambda x: ad.mean(x, axis=0) ** 2,       lambda x: torch.mean(x, 0) ** 2),
    "cast and back":           (K, lambda x: x.astype("float32").astype("float64") * x, lambda x: x.float().double() * x),
    "through integers":        (K, lambda x: x.astype("int64") * x,         lambda x: x.long() * x),
}
# fmt: on


@pytest.fixture(scope="module", params=["float32", "float64"])
def gradients(request):
    """Every case's value and gradient: compiled as functions of one array, and evaluated.

    All cases read slices of one input and write slices of one output, so that a function has few arrays."""
    dtype = request.param
    ways = {"compiled": {}, "evaluated": {}}
    names = list(CONVENTIONS)
    for k in range(0, len(names), 8):
        chunk = names[k : k + 8]
        values = [CONVENTIONS[name][0].astype(dtype) for name in chunk]
        x = ad.input("x", (sum(v.size for v in values),), dtype)
        start, parts, shapes = 0, [], []
        for name, value in zip(chunk, values, strict=True):
            piece = ad.reshape(x[start : start + value.size], value.shape)
            start += value.size
            y = ad.astype(CONVENTIONS[name][1](piece), dtype)
            g = ad.grad(y, piece, weights(y.shape).astype(dtype))
            assert y.dtype == g.dtype == np.dtype(dtype)
            parts += [ad.reshape(y, -1), ad.reshape(g, -1)]
            shapes.append((y.shape, value.shape))
        joined = ad.concat(parts)
        array = np.concatenate([v.ravel() for v in values])
        found = {"compiled": ad.compile([x], joined)(array), "evaluated": ad.evaluate(joined, {x: array})}
        for way, flat in found.items():
            place = 0
            for name, pair in zip(chunk, shapes, strict=True):
                ways[way][name] = []
                for shape in pair:
                    size = int(np.prod(shape))
                    ways[way][name].append(flat[place : place + size].reshape(shape))
                    place += size
    return dtype, ways


def weights(shape):
    return np.linspace(0.5, 1.5, int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize("name", CONVENTIONS)
def test_conventions_are_pytorchs(name, gradients):
    dtype, ways = gradients
    value, _, theirs = CONVENTIONS[name]
    t = torch.tensor(value.astype(dtype), requires_grad=True)
    u = theirs(t)
    u = u.to(t.dtype)
    expected = np.zeros(value.shape)
    if u.requires_grad:
        (g,) = torch.autograd.grad(u, t, torch.from_numpy(weights(u.shape)).to(t.dtype), allow_unused=True)
        expected = expected if g is None else g.numpy()
    tolerance = 2e-5 if dtype == "float32" else 1e-9 if name == "digamma" else 1e-12  # PyTorch's trigamma is not exact
    for way, found in ways.items():
        y, g = found[name]
        np.testing.assert_allclose(y, u.detach().numpy(), rtol=tolerance, atol=tolerance, err_msg=way)
        np.testing.assert_allclose(g, expected, rtol=tolerance, atol=tolerance, err_msg=way)
