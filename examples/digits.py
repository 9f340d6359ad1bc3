"""Train a two-layer network on scikit-learn's handwritten digits: each step, Adam included, is one native call.

    python examples/digits.py [--out DIRECTORY] [--epochs N]

Writes ``digits_loss.png`` and ``digits_confusion.png``, prints the accuracy on images it has not seen.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import staticad as ad

PIXELS, HIDDEN, CLASSES = 64, 128, 10


def network(rng: np.random.Generator) -> tuple[ad.Function, ad.Function]:
    """The compiled training step ``(x, y, lr) -> loss`` and the compiled prediction ``x -> labels``."""
    x = ad.input("x", shape=("batch", PIXELS), dtype="float32")
    y = ad.input("y", shape=("batch",), dtype="int64")
    lr = ad.input("lr", shape=(), dtype="float32")

    def weights(name: str, rows: int, columns: int) -> ad.Tensor:
        scale = np.sqrt(2 / rows)
        return ad.parameter(rng.normal(0, scale, (rows, columns)).astype("float32"), name=name)

    w1, b1 = weights("w1", PIXELS, HIDDEN), ad.parameter(np.zeros(HIDDEN, "float32"), name="b1")
    w2, b2 = weights("w2", HIDDEN, CLASSES), ad.parameter(np.zeros(CLASSES, "float32"), name="b2")
    logits = ad.relu(x @ w1 + b1) @ w2 + b2
    loss = ad.nn.cross_entropy(logits, y)

    updates = ad.optim.adamw(loss, [w1, b1, w2, b2], lr=lr, weight_decay=1e-2)
    step = ad.compile([x, y, lr], loss, updates=updates, name="step")
    predict = ad.compile([x], ad.argmax(logits, axis=1), name="predict")
    return step, predict


def train(
    step: ad.Function, x: np.ndarray, y: np.ndarray, epochs: int, batch: int, rng: np.random.Generator
) -> list[float]:
    """The mean loss of each epoch; the learning rate falls to zero along a half cosine."""
    losses: list[float] = []
    with tqdm(range(epochs), desc="training", unit="epoch") as bar:
        for epoch in bar:
            lr = np.float32(2e-3 * 0.5 * (1 + np.cos(np.pi * epoch / epochs)))
            order = rng.permutation(len(x))
            chunks = [order[k : k + batch] for k in range(0, len(order), batch)]
            losses.append(float(np.mean([step(x[chunk], y[chunk], lr) for chunk in chunks])))
            bar.set_postfix(loss=f"{losses[-1]:.4f}")
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the pictures go")
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args()

    digits = load_digits()
    images, labels = (digits.data / 16).astype("float32"), digits.target.astype("int64")
    x, x_test, y, y_test = train_test_split(images, labels, test_size=0.2, random_state=0, stratify=labels)

    rng = np.random.default_rng(0)
    start = time.perf_counter()
    step, predict = network(rng)
    compiled = time.perf_counter()
    losses = train(step, x, y, options.epochs, 32, rng)
    trained = time.perf_counter()
    found = predict(x_test)
    accuracy = float(np.mean(found == y_test))

    options.out.mkdir(parents=True, exist_ok=True)
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.semilogy(range(1, len(losses) + 1), losses)
    axes.set(xlabel="epoch", ylabel="cross-entropy", title="Training loss")
    figure.savefig(options.out / "digits_loss.png", dpi=120)
    figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
    ConfusionMatrixDisplay.from_predictions(y_test, found, ax=axes, colorbar=False)
    axes.set_title(f"Test images: {accuracy:.1%} right")
    figure.savefig(options.out / "digits_confusion.png", dpi=120)

    steps = options.epochs * -(-len(x) // 32)
    print(f"compiled in {compiled - start:.2f} s, {steps} steps in {trained - compiled:.2f} s", end=" ")
    print(f"({(trained - compiled) / steps * 1e6:.0f} us each, Python included)")
    print(f"loss {losses[-1]:.5f}, test accuracy {accuracy:.2%} ({int(np.sum(found == y_test))} of {len(y_test)})")
    print(f"wrote {options.out / 'digits_loss.png'} and {options.out / 'digits_confusion.png'}")


if __name__ == "__main__":
    main()
