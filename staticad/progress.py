"""A line that tells a person who watches what takes long; silent where nobody does. Knows nothing of what is done."""

from __future__ import annotations

import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from time import perf_counter

#: Seconds before anything is shown, and between two looks at the clock.
PATIENCE, TICK = 1.0, 0.25


@contextmanager
def progress(what: str) -> Generator[None]:
    """Show ``what`` and the seconds gone by on standard error while the body runs, if that is a terminal."""
    stream = sys.stderr
    if stream is None or not stream.isatty():  # pyright: ignore[reportUnnecessaryComparison]  (None under pythonw)
        yield
        return
    start, done = perf_counter(), threading.Event()

    def tell() -> None:
        wait = PATIENCE
        while not done.wait(wait):
            stream.write(f"\r{what}: {perf_counter() - start:.1f} s ")
            stream.flush()
            wait = TICK

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()
        if perf_counter() - start > PATIENCE:
            stream.write("\r\x1b[K")
            stream.flush()
