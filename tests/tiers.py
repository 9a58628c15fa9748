"""What of a large product of cases the default tier runs, what the slow tier (``pytest -m slow``), and what
is left to the night (``pytest -m nightly``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import pytest


def slow_but(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """Cases for ``parametrize``, slow but for those that are `kept`."""
    cases = list(cases)
    assert all(case in cases for case in kept), f"{kept} are not all among the cases"
    return [case if case in kept else pytest.param(case, marks=pytest.mark.slow) for case in cases]


def nightly(cases: Iterable[Any]) -> list[Any]:
    """Cases for ``parametrize`` that take minutes: ``pytest -m nightly`` runs them."""
    return [pytest.param(case, marks=pytest.mark.nightly) for case in cases]


def slow_but_rows(rows: Iterable[tuple[Any, ...]], *kept: tuple[Any, ...]) -> list[Any]:
    """The same for several arguments at once: each row has a value of each."""
    rows = list(rows)
    assert all(row in rows for row in kept), f"{kept} are not all among the rows"
    return [pytest.param(*row, marks=() if row in kept else pytest.mark.slow) for row in rows]


def slow_but_every(n: int, *axes: Sequence[Any]) -> list[Any]:
    """The product of axes, slow but for one case in `n`, along diagonals."""
    found = []
    for at in itertools.product(*(range(len(axis)) for axis in axes)):
        values = [axis[i] for axis, i in zip(axes, at, strict=True)]
        marks = () if sum(at) % n == 0 else (pytest.mark.slow,)
        found.append(pytest.param(*values, marks=marks))
    return found
