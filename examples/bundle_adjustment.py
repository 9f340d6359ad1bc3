"""Bundle adjustment: where cameras stand, how they bend what they see, and what it is, all from pixels.

    python examples/bundle_adjustment.py [--out DIRECTORY] [--cameras N] [--points N]

A knot in space is photographed from all around; some of the matches between photographs are wrong. The pixels of each
observation depend on eleven numbers of one camera and three of one point, so that the Jacobian of all observations by
all unknowns is almost empty: `ad.sparse_jacobian` finds where it is not and computes just that, for SciPy's least
squares. Every observation has a weight that is an unknown too: it is turned off where it fits nothing, at a price.
Writes ``bundle_adjustment.png``.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from scipy.optimize import OptimizeResult, least_squares
from scipy.spatial.transform import Rotation

import staticad as ad

NOISE = 0.5  # pixels
TOLERANCES = 200.0, 50.0, 15.0, 5.0  # pixels: what is further off than about this is turned off; less and less
# How far cameras may well be from what is known of them before: rotation, centre, focal length, principal point, bend
SPREAD = np.array([0.1] * 3 + [0.3] * 3 + [200.0] + [10.0] * 2 + [0.1, 0.02])
WRONG = 0.04  # of the matches


def project(camera: ad.Tensor, point: ad.Tensor) -> ad.Tensor:
    """The pixel at which one camera sees one point. A camera is a rotation vector, its centre, its focal length, its
    principal point, and how it bends what is far from there."""
    r, centre, focal, principal, bend = camera[:3], camera[3:6], camera[6], camera[7:9], camera[9:]
    x = point - centre
    square = ad.sum(r * r)
    turned = square > 0
    theta = ad.sqrt(ad.where(turned, square, 1.0))
    w = r / theta
    rotated = x * ad.cos(theta) + ad.linalg.cross(w, x) * ad.sin(theta) + w * ad.sum(w * x) * (1 - ad.cos(theta))
    x = ad.where(turned, rotated, x + ad.linalg.cross(r, x))
    p = x[:2] / x[2]
    rho = ad.sum(p * p)
    return p * (1 + bend[0] * rho + bend[1] * rho**2) * focal + principal


def scene(n: int, m: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Cameras around a knot, points on it, and which camera sees which point."""
    t, turn = rng.uniform(0, 2 * np.pi, m), rng.uniform(0, 2 * np.pi, m)
    radius = 2 + np.cos(3 * t)
    points = np.stack([radius * np.cos(2 * t), np.sin(3 * t), radius * np.sin(2 * t)], axis=1) / 2
    points += 0.12 * np.stack([np.cos(turn), np.sin(turn), np.sin(2 * turn)], axis=1)
    around = 2 * np.pi * np.arange(n) / n
    centres = np.stack([np.cos(around), rng.uniform(-0.6, 0.6, n), np.sin(around)], axis=1) * rng.uniform(
        3.5, 7, (n, 1)
    )
    ahead = -centres / np.linalg.norm(centres, axis=1, keepdims=True)
    right = np.cross(ahead, [0, 1, 0])
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    axes = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    cameras = np.empty((n, 11))
    cameras[:, :3], cameras[:, 3:6] = Rotation.from_matrix(axes).as_rotvec(), centres
    cameras[:, 6], cameras[:, 7:9] = rng.uniform(800, 1200, n), rng.normal(0, 5, (n, 2))
    cameras[:, 9:] = rng.normal(0, 1, (n, 2)) * [0.05, 0.01]
    which_camera, which_point = np.nonzero(np.argsort(rng.random((n, m)), axis=0) < n // 2)
    return cameras, points, which_camera, which_point


def least(
    f: ad.Function, jacobian: ad.SparseFunction, start: list[np.ndarray], given: list[np.ndarray]
) -> OptimizeResult:
    """The unknowns, in ``x`` as arrays like those of ``start``, for which the squares of ``f`` sum up to the least."""
    ends = np.cumsum([x.size for x in start])[:-1]

    def arrays(v: np.ndarray) -> list[np.ndarray]:
        return [part.reshape(x.shape) for part, x in zip(np.split(v, ends), start, strict=True)]

    found = least_squares(
        lambda v: f(*arrays(v), *given),
        np.concatenate([x.ravel() for x in start]),
        lambda v: jacobian(*arrays(v), *given),
        x_scale="jac",
        ftol=1e-5,
        max_nfev=30,
    )
    found.x = arrays(found.x)
    return found


def aligned(points: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Points turned, scaled and moved to where others are, for no photograph tells where the world's axes are."""
    x, y = points - points.mean(0), to - to.mean(0)
    x = Rotation.align_vectors(y, x)[0].apply(x)
    return x * np.sum(x * y) / np.sum(x * x) + to.mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the picture goes")
    parser.add_argument("--cameras", type=int, default=16)
    parser.add_argument("--points", type=int, default=600)
    options = parser.parse_args()
    rng = np.random.default_rng(0)

    cameras, points = ad.input("cameras", ("cameras", 11)), ad.input("points", ("points", 3))
    weights, seen = ad.input("weights", ("observations",)), ad.input("seen", ("observations", 2))
    camera, point = (ad.input(name, ("observations",), dtype="int64") for name in ("camera", "point"))
    expected, tolerance = ad.input("expected", cameras.shape), ad.input("tolerance", ())
    pixels = ad.vmap(project)(cameras[camera], points[point])
    off = weights[:, None] * (pixels - seen) / tolerance
    surprise = (cameras - expected) / SPREAD
    residuals = ad.concat([ad.reshape(off, -1), 1 - weights**2, ad.reshape(surprise, -1)])
    inputs = [cameras, points, weights, camera, point, seen, expected, tolerance]
    view = ad.compile([cameras, points, camera, point], pixels, name="view")
    f = ad.compile(inputs, residuals, name="residuals")
    jacobian = ad.sparse_jacobian(residuals, [cameras, points, weights], inputs)

    true_cameras, true_points, which_camera, which_point = scene(options.cameras, options.points, rng)
    which = [which_camera, which_point]
    photographs = view(true_cameras, true_points, *which) + rng.normal(0, NOISE, (len(which_camera), 2))
    wrong = rng.random(len(photographs)) < WRONG
    photographs[wrong] += rng.uniform(-200, 200, (int(wrong.sum()), 2))

    guess = true_cameras + rng.normal(0, 1, true_cameras.shape) * ([0.03] * 3 + [0.1] * 3 + [0] * 5)
    guess[:, 6:] = [1000, 0, 0, 0, 0]
    now = start = [guess, true_points + rng.normal(0, 0.1, true_points.shape), np.ones(len(photographs))]
    errors = [view(*now[:2], *which) - photographs]
    begin = time.perf_counter()
    for pixels_off in TOLERANCES:
        last = [*which, photographs, guess, np.array(pixels_off)]
        found = least(f, jacobian, now, last)
        now = found.x
        print(f"tolerance {pixels_off:5.1f} pixels: {found.nfev} steps, {found.message}")
    seconds = time.perf_counter() - begin
    errors.append(view(*now[:2], *which) - photographs)
    off_before, off_after = (np.linalg.norm(aligned(x, true_points) - true_points, axis=1) for x in (start[1], now[1]))
    kept = now[2] > 0.5

    begin = time.perf_counter()
    matrix = jacobian(*now, *last)
    one = time.perf_counter() - begin
    rows, columns = matrix.shape
    print(f"{seconds:.1f} s; a Jacobian of {rows} x {columns} has {matrix.nnz} elements, takes {one * 1e3:.1f} ms")
    print(f"pixels off: {rms(errors[0][~wrong]):.2f} before, {rms(errors[1][~wrong]):.3f} after; noise {NOISE}")
    print(f"points off: {rms(off_before):.4f} before, {rms(off_after):.4f} after")
    lost = (~wrong & ~kept).sum()
    print(f"{wrong.sum()} wrong matches: {(wrong & ~kept).sum()} turned off, and {lost} that are right")

    figure, (before, after, axes) = plt.subplots(1, 3, figsize=(12, 4), layout="constrained")
    for panel, title, x in ((before, "before", start[1]), (after, "after", now[1])):
        x = aligned(x, true_points)
        panel.scatter(x[:, 0], x[:, 2], s=2, c=np.linalg.norm(x - true_points, axis=1), vmin=0, vmax=0.3)
        panel.set(title=f"The points from above, {title}", aspect="equal")
    bins = np.geomspace(0.01, 500, 80)
    for label, values in (("before", errors[0]), ("after", errors[1]), ("after, turned off", errors[1][~kept])):
        axes.hist(np.linalg.norm(values, axis=1), bins, histtype="step", label=label)
    axes.set(xscale="log", xlabel="pixels between prediction and photograph", ylabel="observations")
    axes.legend()
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "bundle_adjustment.png", dpi=120)
    print(f"wrote {options.out / 'bundle_adjustment.png'}")


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


if __name__ == "__main__":
    main()
