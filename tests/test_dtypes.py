"""Data types: which there are, what they are called, how they promote."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from staticad import dtypes
from staticad.errors import DTypeError


@pytest.mark.parametrize("dtype", dtypes.SHORT)
def test_every_dtype_is_found_by_name_type_and_value(dtype: np.dtype) -> None:
    for given in (dtype, dtype.name, dtype.type, dtype.newbyteorder(">")):
        assert dtypes.as_dtype(given) == dtype
        assert dtypes.as_dtype(given).isnative


def test_pythons_own_types() -> None:
    assert [dtypes.as_dtype(t) for t in (bool, int, float)] == [dtypes.bool_, dtypes.int64, dtypes.float64]


@pytest.mark.parametrize("dtype", ["float16", "object", "U3", "datetime64[s]", np.dtype([("a", "f4")]), np.longdouble])
def test_dtypes_that_are_not_computed_with(dtype: object) -> None:
    with pytest.raises(DTypeError, match=r"x: .* is not supported; use one of bool, int8"):
        dtypes.as_dtype(dtype, "x")


@pytest.mark.parametrize("dtype", ["nonsense", "float33", {"a": 1}, 3, None])
def test_what_is_no_dtype(dtype: object) -> None:
    with pytest.raises(DTypeError, match="is no data type") as error:
        dtypes.as_dtype(dtype)
    assert isinstance(error.value, TypeError)


def test_short_names_are_distinct() -> None:
    assert len(set(dtypes.SHORT.values())) == len(dtypes.SHORT)


def test_only_floating_dtypes_may_require_grad() -> None:
    assert [d.name for d in dtypes.SHORT if dtypes.can_require_grad(d)] == ["float32", "float64"]


@pytest.mark.parametrize(("x", "y"), list(itertools.product(dtypes.SHORT, repeat=2)))
def test_promotion_is_numpys(x: np.dtype, y: np.dtype) -> None:
    assert dtypes.promote(x, y) == (np.ones(1, x) + np.ones(1, y)).dtype
    assert dtypes.promote(x, y) == dtypes.promote(y, x)


@pytest.mark.parametrize("dtype", dtypes.SHORT)
@pytest.mark.parametrize("scalar", [True, 1, 1.5])
def test_python_numbers_are_weak(dtype: np.dtype, scalar: float) -> None:
    assert dtypes.promote(dtype, scalar) == (np.ones(1, dtype) + scalar).dtype
