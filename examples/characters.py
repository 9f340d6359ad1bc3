"""Train a recurrent network (GRU) to write like Python's own documentation, one character after the other.

    python examples/characters.py [--out DIRECTORY] [--steps N]

The text is what ``help("topics")`` shows, half a million characters that come with Python. The network's steps in time
are a scan; a step of training, Adam included, is one native call, and so is writing a text. Writes ``characters.png``
with the loss and a text that the network wrote. Cho et al., "Learning phrase representations" (2014), is the method.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from pydoc_data.topics import topics

import matplotlib.pyplot as plt
import numpy as np
from tqdm import tqdm

import staticad as ad

HIDDEN, BATCH, LENGTH = 128, 32, 64


def network(symbols: int, rng: np.random.Generator) -> tuple[ad.Function, ad.Function, ad.Function]:
    """The training step ``(text, lr) -> loss``, the loss alone ``text -> loss`` (both in bits for a character), and
    the writer ``(character, luck) -> characters``."""

    def weights(name: str, *shape: int) -> ad.Parameter:
        return ad.parameter(rng.normal(0, shape[0] ** -0.5, shape).astype("float32"), name=name)

    # Three blocks side by side: for the gates "reset" and "update", and for the proposed state.
    seen, kept, bias = (
        weights("seen", symbols, 3 * HIDDEN),
        weights("kept", HIDDEN, 3 * HIDDEN),
        weights("b", 3 * HIDDEN),
    )
    out, out_bias = weights("out", HIDDEN, symbols), ad.parameter(np.zeros(symbols, "float32"), name="out_b")

    def after(state: ad.Tensor, character: ad.Tensor) -> ad.Tensor:
        x, h = seen[character] + bias, state @ kept
        gates = ad.sigmoid(x[:, : 2 * HIDDEN] + h[:, : 2 * HIDDEN])
        reset, update = gates[:, :HIDDEN], gates[:, HIDDEN:]
        proposed = ad.tanh(x[:, 2 * HIDDEN :] + reset * h[:, 2 * HIDDEN :])
        return update * state + (1 - update) * proposed

    def read(state: ad.Tensor, character: ad.Tensor) -> tuple[ad.Tensor, ad.Tensor]:
        state = after(state, character)
        return state, state

    text = ad.input("text", shape=("time", "batch"), dtype="int64")
    _, states = ad.scan(read, ad.zeros((text.shape[1], HIDDEN), dtype="float32"), text[:-1])
    logits = ad.reshape(states, (-1, HIDDEN)) @ out + out_bias
    loss = ad.nn.cross_entropy(logits, ad.reshape(text[1:], (-1,)))
    lr = ad.input("lr", shape=(), dtype="float32")
    updates = ad.optim.adam(loss, [seen, kept, bias, out, out_bias], lr=lr)
    bits = loss / np.log(np.float32(2))

    def write(carry: tuple[ad.Tensor, ad.Tensor], luck: ad.Tensor) -> tuple[tuple[ad.Tensor, ad.Tensor], ad.Tensor]:
        state, character = carry
        state = after(state, character)
        # The largest of logits with Gumbel noise is a draw from the softmax; 1.4 makes it less daring.
        character = ad.argmax(1.4 * (state @ out + out_bias) + luck, axis=1)
        return (state, character), character[0]

    first = ad.input("first", shape=(1,), dtype="int64")
    luck = ad.input("luck", shape=("time", symbols), dtype="float32")
    _, written = ad.scan(write, (ad.zeros((1, HIDDEN), dtype="float32"), first), luck)
    return (
        ad.compile([text, lr], bits, updates=updates, name="step"),
        ad.compile([text], bits, name="loss"),
        ad.compile([first, luck], written, name="writer"),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the picture goes")
    parser.add_argument("--steps", type=int, default=3000)
    options = parser.parse_args()

    text = "".join(topics[name] for name in sorted(topics))
    alphabet, codes = np.unique(list(text), return_inverse=True)
    frequency = np.bincount(codes) / len(codes)
    alone = -float(np.sum(frequency * np.log2(frequency)))
    windows = np.lib.stride_tricks.sliding_window_view(codes.astype("int64"), LENGTH + 1)
    unseen = len(windows) * 9 // 10
    held_out = np.ascontiguousarray(windows[unseen + LENGTH :: LENGTH].T)

    rng = np.random.default_rng(0)
    start = time.perf_counter()
    step, loss, writer = network(len(alphabet), rng)
    compiled = time.perf_counter()
    trained: list[float] = []
    tested: list[tuple[int, float]] = []
    with tqdm(range(1, options.steps + 1), desc="training", unit="step") as bar:
        for k in bar:
            lr = np.float32(5e-3 * 0.5 * (1 + np.cos(np.pi * k / options.steps)))
            batch = windows[rng.integers(0, unseen, BATCH)].T
            trained.append(float(step(np.ascontiguousarray(batch), lr)))
            if k % 100 == 0 or k == options.steps:
                tested.append((k, float(loss(held_out))))
                bar.set_postfix(bits=f"{tested[-1][1]:.3f}")
    seconds = time.perf_counter() - compiled

    first = codes[text.index("The "), None].astype("int64")
    written = writer(first, rng.gumbel(size=(1500, len(alphabet))).astype("float32"))
    lines = ("T" + "".join(alphabet[written])).splitlines()
    sample = "\n".join(line[:80] for line in lines[:36]).replace("$", r"\$")

    options.out.mkdir(parents=True, exist_ok=True)
    figure, (axes, page) = plt.subplots(1, 2, figsize=(11, 5), layout="constrained")
    axes.plot(trained, lw=0.3, label="training")
    axes.plot(*zip(*tested, strict=True), label="text it has not seen")
    axes.axhline(alone, color="gray", ls=":", label="frequencies of characters alone")
    axes.set(xlabel="step", ylabel="bits for a character", ylim=(0, None), title="Loss")
    axes.legend()
    page.axis("off")
    page.set_title("What it writes")
    page.text(0, 1, sample, va="top", family="monospace", fontsize=7, transform=page.transAxes, in_layout=False)
    figure.savefig(options.out / "characters.png", dpi=120)

    print(f"compiled in {compiled - start:.2f} s, {options.steps} steps in {seconds:.1f} s", end=" ")
    print(f"({seconds / options.steps * 1e3:.2f} ms each, Python included)")
    print(f"{tested[-1][1]:.3f} bits for a character of unseen text; {alone:.3f} by their frequencies alone")
    print(f"wrote {options.out / 'characters.png'}")


if __name__ == "__main__":
    main()
