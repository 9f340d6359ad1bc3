"""`ba` of GradBench: bundle adjustment's sparse Jacobian, a 2 x 15 block (camera, point, weight) for every observation,
and -2 w, the derivative of the weights' own errors. All observations differ."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks import hand, peers
from benchmarks.workload import Array, Program, Workload

CAMERA, POINT = 11, 3


def error(xp: Any, cam: Sequence[Any], point: Sequence[Any], weight: Any, feature: Sequence[Any]) -> tuple[Any, Any]:
    """The weighted reprojection error of observations, given component by component."""
    r, centre, focal, u0, kappa = cam[:3], cam[3:6], cam[6], cam[7:9], cam[9:11]
    x = [p - c for p, c in zip(point, centre, strict=True)]
    square = r[0] * r[0] + r[1] * r[1] + r[2] * r[2]
    still = square == 0
    theta = xp.sqrt(xp.where(still, xp.ones_like(square), square))  # so that no derivative is 0/0 where it is not used
    cos, sin = xp.cos(theta), xp.sin(theta)
    w = [a / theta for a in r]
    along = (w[0] * x[0] + w[1] * x[1] + w[2] * x[2]) * (1 - cos)
    turned = [a * cos + b * sin + u * along for a, b, u in zip(x, cross(w, x), w, strict=True)]
    unturned = [a + b for a, b in zip(x, cross(r, x), strict=True)]
    y = [xp.where(still, a, b) for a, b in zip(unturned, turned, strict=True)]
    p = [y[0] / y[2], y[1] / y[2]]
    rho = p[0] * p[0] + p[1] * p[1]
    radial = 1 + kappa[0] * rho + kappa[1] * rho * rho
    first, second = (weight * (p[k] * radial * focal + u0[k] - feature[k]) for k in range(2))
    return first, second


def cross(a: Sequence[Any], b: Sequence[Any]) -> tuple[Any, Any, Any]:
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def columns(x: Any, count: int) -> list[Any]:
    return [x[:, k] for k in range(count)]


def by_staticad(
    cams: Array, points: Array, weights: Array, features: Array, which_cam: Array, which_point: Array
) -> tuple[Sequence[Any], Any]:
    import staticad as ad

    c, x = ad.input("cams", ("cams", CAMERA)), ad.input("points", ("points", POINT))
    w, u = ad.input("weights", ("n",)), ad.input("features", ("n", 2))
    a, b = ad.input("which_cam", ("n",), dtype="int64"), ad.input("which_point", ("n",), dtype="int64")
    seen = columns(c[a], CAMERA), columns(x[b], POINT)
    pair = error(ad, *seen, w, columns(u, 2))
    parts = [*seen[0], *seen[1], w]
    rows = [ad.stack(ad.grad(ad.sum(out), parts), axis=1) for out in pair]
    return [c, x, w, u, a, b], (ad.stack(rows, axis=1), -2 * w)


def by_jax(jax: Any) -> Any:
    """The blocks by reverse mode over all observations at once, which XLA fuses better than a vmap of Jacobians."""
    jnp = jax.numpy

    def run(cams: Any, points: Any, weights: Any, features: Any, a: Any, b: Any) -> Any:
        seen = columns(cams[a], CAMERA) + columns(points[b], POINT) + [weights]
        _, pullback = jax.vjp(lambda *s: error(jnp, s[:CAMERA], s[CAMERA:-1], s[-1], columns(features, 2)), *seen)
        ones, zeros = jnp.ones_like(weights), jnp.zeros_like(weights)
        rows = [jnp.stack(pullback(ct), axis=1) for ct in ((ones, zeros), (zeros, ones))]
        return jnp.stack(rows, axis=1), -2 * weights

    return run


def by_jax_vmap(jax: Any) -> Any:
    jnp = jax.numpy

    def one(cam: Any, point: Any, weight: Any, feature: Any) -> Any:
        return jnp.stack(error(jnp, cam, point, weight, feature))

    def run(cams: Any, points: Any, weights: Any, features: Any, a: Any, b: Any) -> Any:
        found = jax.vmap(jax.jacrev(one, (0, 1, 2)))(cams[a], points[b], weights, features)
        return jnp.concatenate([found[0], found[1], found[2][:, :, None]], axis=2), -2 * weights

    return run


def by_torch(cams: Array, points: Array, weights: Array, features: Array, a: Array, b: Array) -> Program:
    torch = peers.torch()
    c, x, w, u, i, j = (torch.from_numpy(t) for t in (cams, points, weights, features, a, b))

    def run() -> Any:
        # Columns are contiguous where each parameter has an array of its own.
        seen = [t.contiguous().requires_grad_() for t in (*c[i].T, *x[j].T)]
        seen.append(w.detach().requires_grad_())
        first, second = error(torch, seen[:CAMERA], seen[CAMERA:-1], seen[-1], u.T)
        ones = torch.ones_like(first)
        rows = [  # u0 is of one error, u1 of the other
            torch.autograd.grad(first, seen, ones, retain_graph=True, materialize_grads=True),
            torch.autograd.grad(second, seen, ones, materialize_grads=True),
        ]
        return torch.stack([torch.stack(row, 1) for row in rows], 1), -2 * w

    return run


def by_torch_compile(torch: Any) -> Any:
    def run(cams: Any, points: Any, weights: Any, features: Any, a: Any, b: Any) -> Any:
        seen = columns(cams[a], CAMERA) + columns(points[b], POINT) + [weights]
        _, pullback = torch.func.vjp(lambda *s: error(torch, s[:CAMERA], s[CAMERA:-1], s[-1], features.T), *seen)
        ones, zeros = torch.ones_like(weights), torch.zeros_like(weights)
        rows = [torch.stack(pullback(ct), 1) for ct in ((ones, zeros), (zeros, ones))]
        return torch.stack(rows, 1), -2 * weights

    return run


def by_hand(cams: Array, points: Array, weights: Array, features: Array, a: Array, b: Array) -> Program:
    """The chain rule written out: by the rotated point first, then by each parameter through it."""

    @hand.njit
    def run(cams: Any, points: Any, weights: Any, features: Any, a: Any, b: Any, out: Any, slope: Any) -> None:
        for i in range(a.shape[0]):
            c, q = cams[a[i]], points[b[i]]
            x0, x1, x2 = q[0] - c[3], q[1] - c[4], q[2] - c[5]
            theta = math.sqrt(c[0] * c[0] + c[1] * c[1] + c[2] * c[2])
            if theta > 0.0:
                sin, cos, inverse = math.sin(theta), math.cos(theta), 1.0 / theta
            else:
                sin, cos, inverse = 0.0, 1.0, 0.0
            u0, u1, u2 = c[0] * inverse, c[1] * inverse, c[2] * inverse
            v0, v1, v2 = u1 * x2 - u2 * x1, u2 * x0 - u0 * x2, u0 * x1 - u1 * x0  # u x X'
            dot, rest = u0 * x0 + u1 * x1 + u2 * x2, 1.0 - cos
            y0 = x0 * cos + v0 * sin + u0 * dot * rest
            y1 = x1 * cos + v1 * sin + u1 * dot * rest
            y2 = x2 * cos + v2 * sin + u2 * dot * rest
            depth = 1.0 / y2
            p0, p1 = y0 * depth, y1 * depth
            rho = p0 * p0 + p1 * p1
            radial, bend = 1.0 + c[9] * rho + c[10] * rho * rho, c[9] + 2.0 * c[10] * rho
            wt, wf = weights[i], weights[i] * c[6]
            for k in range(2):
                p = p0 if k == 0 else p1
                # by p, then by y
                d0 = wf * (2.0 * p * bend * p0 + (radial if k == 0 else 0.0))
                d1 = wf * (2.0 * p * bend * p1 + (radial if k == 1 else 0.0))
                g0, g1, g2 = d0 * depth, d1 * depth, -(d0 * p0 + d1 * p1) * depth
                gu, gx = g0 * u0 + g1 * u1 + g2 * u2, g0 * x0 + g1 * x1 + g2 * x2
                gv = g0 * v0 + g1 * v1 + g2 * v2
                # by the point: cos g + sin (g x u) + (1 - cos) (g.u) u
                h0 = cos * g0 + sin * (g1 * u2 - g2 * u1) + rest * gu * u0
                h1 = cos * g1 + sin * (g2 * u0 - g0 * u2) + rest * gu * u1
                h2 = cos * g2 + sin * (g0 * u1 - g1 * u0) + rest * gu * u2
                # by the axis u: sin (X' x g) + (1 - cos) ((g.u) X' + (u.X') g); by theta
                e0 = sin * (x1 * g2 - x2 * g1) + rest * (gu * x0 + dot * g0)
                e1 = sin * (x2 * g0 - x0 * g2) + rest * (gu * x1 + dot * g1)
                e2 = sin * (x0 * g1 - x1 * g0) + rest * (gu * x2 + dot * g2)
                by_theta = -sin * gx + cos * gv + sin * dot * gu
                along = e0 * u0 + e1 * u1 + e2 * u2
                row = out[i, k]
                if theta > 0.0:
                    row[0] = by_theta * u0 + (e0 - along * u0) * inverse
                    row[1] = by_theta * u1 + (e1 - along * u1) * inverse
                    row[2] = by_theta * u2 + (e2 - along * u2) * inverse
                else:
                    row[0], row[1], row[2] = x1 * g2 - x2 * g1, x2 * g0 - x0 * g2, x0 * g1 - x1 * g0
                row[3], row[4], row[5] = -h0, -h1, -h2
                row[6] = wt * p * radial
                row[7], row[8] = (wt, 0.0) if k == 0 else (0.0, wt)
                row[9], row[10] = wf * p * rho, wf * p * rho * rho
                row[11], row[12], row[13] = h0, h1, h2
                row[14] = p * radial * c[6] + c[7 + k] - features[i, k]
            slope[i] = -2.0 * wt

    out, slope = np.empty((len(a), 2, CAMERA + POINT + 1)), np.empty(len(a))

    def call() -> Any:
        run(cams, points, weights, features, a, b, out, slope)
        return out, slope

    return call


def workload(cameras: int, count: int, observations: int, *, quick: bool = False) -> Workload:
    def data() -> tuple[Array, ...]:
        rng = np.random.default_rng(0)
        cams = np.empty((cameras, CAMERA))
        cams[:, :3] = rng.normal(size=(cameras, 3)) * 0.3
        cams[:, 3:6] = rng.normal(size=(cameras, 3)) * 0.5 - [0, 0, 5]
        cams[:, 6] = rng.uniform(500, 1500, cameras)
        cams[:, 7:9] = rng.normal(size=(cameras, 2))
        cams[:, 9:] = rng.normal(size=(cameras, 2)) * [1e-2, 1e-3]
        points = rng.uniform(-1, 1, (count, POINT))
        which_point = np.concatenate([np.arange(count), rng.integers(0, count, observations - count)])
        which_cam = np.sort(rng.integers(0, cameras, observations))
        rng.shuffle(which_point)
        weights, features = rng.uniform(0.5, 1.5, observations), rng.normal(size=(observations, 2)) * 100
        return cams, points, weights, features, which_cam, which_point

    return Workload(
        name="ba",
        size=f"{observations}",
        dtype="float64",
        data=data,
        peers={
            **peers.staticad(by_staticad),
            "jax": peers.jax_function(by_jax),
            "jax (vmap)": peers.jax_function(by_jax_vmap),
            "torch": by_torch,
            "torch.compile": peers.torch_compiled(by_torch_compile),
            "hand": by_hand,
        },
        sizes={"n": observations, "cams": cameras, "points": count},
        quick=quick,
        allocates=True,
    )


WORKLOADS = [workload(49, 7776, 31843, quick=True), workload(161, 48126, 182_072)]


def test_speed(entry: Any) -> None:
    entry()
