"""Long compiles tell a person who watches, and nobody else."""

from __future__ import annotations

import io
import sys
import time

import pytest

import staticad.progress as told


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("stream", "shown"), [(Terminal(), True), (io.StringIO(), False)], ids=["terminal", "file"])
def test_what_takes_long_is_told(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, shown: bool) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(told, "PATIENCE", 0.02)
    monkeypatch.setattr(told, "TICK", 0.01)
    with told.progress("compiling step"):
        time.sleep(0.2)
    assert ("compiling step: 0.1 s" in stream.getvalue()) is shown
    assert stream.getvalue().endswith("\r\x1b[K") is shown


def test_what_is_quick_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with told.progress("compiling step"):
        pass
    assert stream.getvalue() == ""
