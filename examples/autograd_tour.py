"""The running examples of the PyTorch autograd literature, in staticad, each with a picture of its graph.

    python examples/autograd_tour.py [--out DIRECTORY]

Every picture shows data, grad, grad_fn, is_leaf and requires_grad at every tensor. Pictures are SVG where a Graphviz
program is found (``pip install 'staticad[viz]'``), and Graphviz text otherwise.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import staticad as ad


def product_of_scalars(out: Path) -> None:
    """c = a * b, where a alone requires grad."""
    a = ad.input("a", shape=(), requires_grad=True)
    b = ad.input("b", shape=())
    c = a * b
    f = ad.compile([a, b], c)
    print("c =", f(2.0, 3.0))
    f.backward()
    print("dc/da =", a.grad, " dc/db =", b.grad)
    print("a is a leaf:", a.is_leaf, " c is a leaf:", c.is_leaf, " c.grad_fn:", c.grad_fn)
    picture(c, out / "product_of_scalars", {a: 2.0, b: 3.0})


def chain_of_vectors(out: Path) -> None:
    """x -> y = f1(x) -> z = f2(y), 2-vectors: a vector-Jacobian product never needs a Jacobian."""
    x = ad.input("x", shape=(2,), requires_grad=True)
    y = ad.stack([x[0] * x[1], x[0] + x[1] ** 2])
    z = ad.stack([ad.sin(y[0]) * y[1], ad.exp(0.1 * y[1])])
    y.name, z.name = "y", "z"
    at = np.array([1.0, 2.0])
    f = ad.compile([x], z)

    jacobian_y = np.array([[at[1], at[0]], [1.0, 2 * at[1]]])
    y0, y1 = at[0] * at[1], at[0] + at[1] ** 2
    jacobian_z = np.array([[np.cos(y0) * y1, np.sin(y0)], [0.0, 0.1 * np.exp(0.1 * y1)]])
    for weights in (np.ones(2), np.array([0.2, 0.8])):
        ad.zero_grad(x)
        f(at)
        f.backward(weights)
        print(f"cotangent {weights}: x.grad = {x.grad}, by the full Jacobians {weights @ jacobian_z @ jacobian_y}")
        np.testing.assert_allclose(x.grad, weights @ jacobian_z @ jacobian_y)
    picture(z, out / "chain_of_vectors", {x: at})


def leaf_in_the_middle(out: Path) -> None:
    """c = a * b made a leaf: neither a nor b requires grad, so gradients stop at c and arrive in c.grad."""
    a, b = ad.input("a", shape=()), ad.input("b", shape=())
    c = a * b
    print("before: c.requires_grad", c.requires_grad, " c.is_leaf", c.is_leaf)
    c.requires_grad = True
    c.name = "c"
    d = c**2
    f = ad.compile([a, b], d)
    f(2.0, 3.0)
    f.backward()
    print("after:  c.requires_grad", c.requires_grad, " c.is_leaf", c.is_leaf, " c.grad_fn", c.grad_fn)
    print("dd/dc =", c.grad, " a.grad =", a.grad)
    picture(d, out / "leaf_in_the_middle", {a: 2.0, b: 3.0})


def accumulation(out: Path) -> None:
    """Gradients add up over backward calls until they are zeroed."""
    x = ad.input("x", shape=(3,), requires_grad=True)
    y = ad.sum(x**2)
    f = ad.compile([x], y)
    at = np.array([1.0, 2.0, 3.0])
    for count in (1, 2):
        f(at)
        f.backward()
        print(f"after {count} backward calls: x.grad = {x.grad}")
    picture(y, out / "accumulation", {x: at})
    ad.zero_grad(x)
    print("after zero_grad: x.grad =", x.grad)


def picture(tensor: ad.Tensor, path: Path, values: dict[ad.Tensor, object]) -> None:
    drawing = ad.draw(tensor, values=values)
    try:
        print("wrote", drawing.save(path.with_suffix(".svg")))
    except ad.errors.DrawError as error:
        print("wrote", drawing.save(path.with_suffix(".dot")), f"({error})")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the pictures go")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    for example in (product_of_scalars, chain_of_vectors, leaf_in_the_middle, accumulation):
        print(f"\n{example.__doc__}")
        example(out)


if __name__ == "__main__":
    main()
