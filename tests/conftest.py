"""What several test files share: golden files, and two ways to run a graph."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from staticad.ir import Graph, Node
from staticad.shapes import Expr, evaluate

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite tests/golden from what is generated now")


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Compiled code of this run is kept apart from the user's, unless the environment names a place."""
    os.environ.setdefault("STATICAD_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``golden(name, text)`` asserts that ``text`` is what ``tests/golden/name`` holds."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert path.exists(), f"{path} is not there yet; run pytest --update-golden and read what it writes"
        assert text == path.read_text()

    return check


def evaluated(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of ``graph`` by each op's NumPy meaning, node by node: the oracle of the compiled code."""
    values: dict[Node, Any] = dict(zip(graph.inputs, arrays, strict=True))
    sizes: dict[str, int] = {}  # of what loops leave
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            if node not in values:
                params = {k: evaluate(v, sizes) if isinstance(v, Expr) else v for k, v in node.params.items()}
                values[node] = node.op.numpy(*(values[x] for x in node.args), **params)
                sizes |= node.op.defines(node, values[node])
    return [np.asarray(values[out]) for out in graph.outputs]


def compiled(graph: Graph, arrays: Sequence[Any]) -> list[Any]:
    """The outputs of ``graph`` by native code (by plain Python with ``NUMBA_DISABLE_JIT=1``)."""
    from staticad.function import compile as native
    from staticad.tensor import Tensor

    return native([Tensor(x) for x in graph.inputs], [Tensor(out) for out in graph.outputs])(*arrays)


def close(actual: Any, expected: Any, *, eps: float = 64.0, where: str = "") -> None:
    """Assert equal types and values, floats within ``eps`` machine epsilons of their own and of the largest size."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{where}: dtype {actual.dtype}, expected {expected.dtype}"
    assert actual.shape == expected.shape, f"{where}: shape {actual.shape}, expected {expected.shape}"
    if expected.dtype.kind != "f":
        np.testing.assert_array_equal(actual, expected, err_msg=where)
        return
    unit = eps * float(np.finfo(expected.dtype).eps)
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max()) if finite.size else 0.0
    np.testing.assert_allclose(actual, expected, rtol=unit, atol=unit * min(scale, 1e300), err_msg=where)


def random_like(x: Any, seed: int) -> Any:
    """Values in [-1, 1] of the shape and dtype of ``x``, the same for the same seed."""
    return np.random.default_rng(seed).uniform(-1, 1, np.shape(x)).astype(np.asarray(x).dtype)
