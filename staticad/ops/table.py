"""The op table: every primitive op by name, gathered from the families.

Tests and documentation are generated from it.
"""

from __future__ import annotations

from staticad.ir import Op
from staticad.ops import (
    arithmetic,
    branches,
    calls,
    control,
    creation,
    determinants,
    foreign,
    indexing,
    linear_algebra,
    logic,
    products,
    reductions,
    scatter,
    sources,
    special,
    transcendental,
    views,
)

FAMILIES = (
    sources, creation, arithmetic, logic, transcendental, special, views, reductions, products, indexing, scatter,
    control, branches, calls, foreign, linear_algebra, determinants,
)  # fmt: skip


def gather() -> dict[str, Op]:
    """Every `Op` that is a value of a family module. An op is added by writing its entry there, and nowhere else."""
    table: dict[str, Op] = {}
    for family in FAMILIES:
        for value in vars(family).values():
            if isinstance(value, Op):
                assert table.setdefault(value.name, value) is value, f"two ops are called {value.name}"
    return table


TABLE = gather()
