"""Splits are scikit-learn's, as subsets of row numbers."""

from __future__ import annotations

from typing import Any

import dask.array as da
import numpy as np
import pytest
from sklearn import model_selection

import daskgd
from daskgd.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit
from daskgd.model_selection.splitters import row_numbers, splits_of

N = 211
RNG = np.random.default_rng(3)
Y = RNG.integers(0, 3, N)
GROUPS = RNG.integers(0, 20, N)


def dataset(y: Any = Y) -> Any:
    return daskgd.as_dataset(np.zeros((len(y), 1)), y)


def positions(splits: Any, data: Any) -> list[tuple[Any, Any]]:
    rows = row_numbers(data)
    return [tuple(np.flatnonzero(side.mask(rows)) for side in split) for split in splits]


def assert_equal_splits(found: list[tuple[Any, Any]], expected: Any) -> None:
    pairs = [(np.sort(train), np.sort(test)) for train, test in expected]
    assert len(found) == len(pairs)
    for one, other in zip(found, pairs, strict=True):
        for a, b in zip(one, other, strict=True):
            assert np.array_equal(a, b)


SPLITTERS = [
    model_selection.KFold(4),
    model_selection.KFold(4, shuffle=True, random_state=0),
    model_selection.StratifiedKFold(4),
    model_selection.StratifiedKFold(4, shuffle=True, random_state=1),
    model_selection.GroupKFold(4),
    model_selection.StratifiedGroupKFold(3),
    model_selection.LeaveOneGroupOut(),
    model_selection.TimeSeriesSplit(4, gap=2),
    model_selection.ShuffleSplit(3, random_state=0),
    model_selection.RepeatedKFold(n_splits=3, n_repeats=5, random_state=0),
    model_selection.PredefinedSplit(RNG.integers(-1, 3, N)),
    KFold(4),
    KFold(4, shuffle=True, random_state=5),
    StratifiedKFold(4),
    StratifiedKFold(4, shuffle=True, random_state=5),
    GroupKFold(4, random_state=5),
    TimeSeriesSplit(3, max_train_size=50),
]


@pytest.mark.parametrize("splitter", SPLITTERS, ids=str)
def test_splitters_select_the_rows_that_they_split(splitter: Any) -> None:
    data = dataset()
    groups = GROUPS if "Group" in type(splitter).__name__ else None
    found = positions(splits_of(splitter, data, groups=groups), data)
    assert_equal_splits(found, splitter.split(np.zeros((N, 1)), Y, groups))


@pytest.mark.parametrize("splitter", [KFold(3), StratifiedKFold(3, shuffle=True), None], ids=str)
def test_splits_of_a_view_are_of_its_rows(splitter: Any) -> None:
    train, _ = dataset().train_test_split(0.4, random_state=2)
    found = positions(splits_of(splitter, train, classifier=True), train)
    y = Y[row_numbers(train)]
    expected = model_selection.check_cv(splitter, y, classifier=True)
    assert_equal_splits(found, expected.split(np.zeros((len(y), 1)), y))


def test_a_number_is_scikit_learns_folds() -> None:
    data = dataset()
    for cv, classifier in ((None, True), (3, True), (3, False)):
        expected = model_selection.check_cv(cv, Y, classifier=classifier)
        assert_equal_splits(
            positions(splits_of(cv, data, classifier), data), expected.split(np.zeros((N, 1)), Y)
        )


def test_labels_of_text_are_stratified() -> None:
    y = np.array(["a", "b", "c"])[Y]
    expected = model_selection.StratifiedKFold(5).split(np.zeros((N, 1)), y)
    data = dataset(y)
    assert_equal_splits(positions(splits_of(None, data, True), data), expected)


def test_masks_and_lazy_masks_and_positions_are_the_same() -> None:
    data = dataset()
    pairs = list(model_selection.KFold(3).split(np.zeros((N, 1))))
    masks = [tuple(np.isin(np.arange(N), side) for side in pair) for pair in pairs]
    lazy = [tuple(da.from_array(side, chunks=50) for side in pair) for pair in masks]
    for cv in (pairs, masks, lazy, iter(pairs)):
        assert_equal_splits(positions(splits_of(cv, data), data), pairs)


def test_hashed_folds_stay_as_rows_are_added() -> None:
    few, many = (list(KFold(3, shuffle=True, random_state=1).split(np.zeros((n, 1)))) for n in (100, 150))
    for (_, a), (_, b) in zip(few, many, strict=True):
        assert np.array_equal(a, b[b < 100])


def test_hashed_strata_are_balanced() -> None:
    for _, test in StratifiedKFold(4, shuffle=True, random_state=9).split(np.zeros((N, 1)), Y):
        assert np.abs(np.bincount(Y[test]) - np.bincount(Y) / 4).max() <= 1


def test_groups_stay_together() -> None:
    for train, test in GroupKFold(4).split(np.zeros((N, 1)), groups=GROUPS):
        assert not set(GROUPS[train]) & set(GROUPS[test])


def test_time_is_by_a_column_of_dates() -> None:
    days = np.datetime64("2026-01-01") + RNG.permutation(N)
    for train, test in TimeSeriesSplit(3).split(np.zeros((N, 1)), groups=days):
        assert days[train].max() < days[test].min()


@pytest.mark.parametrize(
    ("cv", "match"),
    [
        ("five", "expected None, a number of folds, a splitter"),
        ([], "at least one split"),
        ([np.arange(3)], r"expected pairs \(train, test\)"),
        ([(np.arange(3), np.arange(2, 5))], "no row both in train and in test"),
        ([(np.arange(3), np.array([N]))], f"split 0, test: expected row positions below {N}"),
        ([(np.arange(3), np.array([0.5]))], "row positions or a mask"),
        (model_selection.KFold(300), "Cannot have number of splits"),
    ],
)
def test_what_is_no_splits_is_refused(cv: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        splits_of(cv, dataset())


def test_seeds_are_whole_numbers() -> None:
    with pytest.raises(ValueError, match="random_state: expected None or a whole number"):
        KFold(3, shuffle=True, random_state=-1)


@pytest.mark.parametrize("seed", range(12))
def test_strata_in_order_are_scikit_learns(seed: int) -> None:
    """Of labels in any numbers and order, few rows among them."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(2, 7))
    y = rng.integers(0, rng.integers(1, 6), int(rng.integers(8 * k, 300)))
    y = np.sort(y) if seed % 3 == 0 else y
    y = y if np.bincount(y)[np.bincount(y) > 0].min() >= k else np.where(np.arange(len(y)) % 2, 1, 0)
    data = dataset(y)
    expected = model_selection.StratifiedKFold(k).split(np.zeros((len(y), 1)), y)
    assert_equal_splits(positions(splits_of(k, data, classifier=True), data), expected)


def test_labels_of_few_rows_are_refused_or_warned_of_as_by_scikit_learn() -> None:
    y = np.array([0] * 20 + [1] * 3)
    with pytest.warns(UserWarning, match="least populated class"):
        found = splits_of(5, dataset(y), classifier=True)
    with pytest.warns(UserWarning, match="least populated class"):
        expected = list(model_selection.StratifiedKFold(5).split(np.zeros((23, 1)), y))
    assert_equal_splits(positions(found, dataset(y)), expected)
    with pytest.raises(ValueError, match="n_splits=5 cannot be greater"):
        splits_of(5, dataset(np.array([0, 1] * 4)), classifier=True)


@pytest.mark.parametrize("train", [[0, 1, 1], [0, -4, 1], np.array([1, 0, 0], dtype=np.uint8)], ids=str)
def test_rows_that_are_repeated_are_refused(train: Any) -> None:
    dataset = daskgd.as_dataset(np.arange(8.0).reshape(4, 2), np.arange(4.0))
    with pytest.raises(ValueError, match=r"cv: split 0, train: expected each row once, got row [01] 2 times"):
        splits_of([(train, [3])], dataset)
