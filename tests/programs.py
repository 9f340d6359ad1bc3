"""Programs that several test files look at, and compilation up to the text, without native code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np

import staticad as ad
from staticad.function import Function
from staticad.runtime.load import Native


def generate(inputs: Any, outputs: Any, **options: Any) -> Function:
    """What `staticad.compile` gives, but for native code: its source, plan and counts; it cannot be called."""
    native = Native(call=lambda *args: 0, dispatcher=None, path=None, cache_hit=False, seconds={})
    with mock.patch("staticad.runtime.load.load", lambda source, name: native):
        return ad.compile(inputs, outputs, **options)
