"""Subsets of rows are known by row numbers alone."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskgd.rows.subsets import HashedCells, ListedCells, Subset


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 30))
def test_listed_cells_are_those_of_the_rows(codes: list[int], times: int) -> None:
    """Whether they are kept row by row or in runs, in whatever order rows are asked for."""
    rows = np.repeat(np.array(codes), times)
    cells = ListedCells.from_codes(rows, 5)
    order = np.random.default_rng(0).permutation(len(rows))
    assert np.array_equal(cells.of(order), rows[order])
    assert cells == pickle.loads(pickle.dumps(cells)) == ListedCells.from_codes(rows.copy(), 5)


def test_runs_are_short() -> None:
    assert ListedCells.from_codes(np.repeat(np.arange(5), 1000), 5).cells.nbytes == 5
    assert ListedCells.from_codes(np.arange(5000) % 5, 5).cells.nbytes == 5000


def test_other_cells_are_other() -> None:
    a, b = ListedCells.from_codes(np.arange(9) % 3, 3), ListedCells.from_codes(np.arange(9) % 2, 3)
    assert a != b
    assert HashedCells(3, 0) != HashedCells(3, 1)
    assert Subset(a, (True, False, True)) == Subset(a, (True, False, True)) != Subset(b, (True, False, True))


@pytest.mark.parametrize("k", [2, 5, 30])
def test_hashed_cells_are_of_about_the_same_size(k: int) -> None:
    counts = np.bincount(HashedCells(k, seed=7).of(np.arange(100_000)), minlength=k)
    assert np.abs(counts - 100_000 / k).max() < 5 * np.sqrt(100_000 / k)


def test_the_cell_of_a_row_knows_nothing_of_the_others() -> None:
    cells = HashedCells(5, seed=1)
    assert np.array_equal(cells.of(np.arange(1000))[400:450], cells.of(np.arange(400, 450)))
