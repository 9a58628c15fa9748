"""Folds: scikit-learn's splitters of any kind as subsets of the rows, and some that never hold row numbers.

A split is a pair of subsets of the rows (:class:`~daskgd.rows.subsets.Subset`), known by row numbers alone:
the same on every machine, and no row is copied. Knows data sets as far as their targets; no estimators.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn import model_selection
from sklearn.utils.multiclass import type_of_target

from daskgd.data.columns import selection_mask
from daskgd.data.dataset import Dataset
from daskgd.rows.random_numbers import FOLD, row_random_numbers
from daskgd.rows.subsets import Cells, HashedCells, ListedCells, Subset

Array = NDArray[Any]

MOST_CELLS = 64
"""Cells up to which splits share them; splits that overlap in more ways have three cells each."""


class Split(NamedTuple):
    """A split: the rows to train on, and those to test on."""

    train: Subset
    test: Subset


# -- splitters -----------------------------------------------------------------------------------


class KFold(model_selection.KFold):
    """K folds of the rows, scikit-learn's, shuffled by a hash of the row number.

    Without `shuffle` the folds are scikit-learn's: runs of rows, in order. With it a row is in the fold
    ``floor(K u)``, u in [0, 1) a hash of (random_state, row number): folds are of about the same size, the
    same rows whatever the number of rows after them, and nobody holds a permutation.

    Parameters
    ----------
    n_splits : int
    shuffle : bool
    random_state : int, optional
        None is 0, so that results repeat.

    Examples
    --------
    >>> for train, test in KFold(2, shuffle=True).split(np.zeros((6, 1))):
    ...     print(train, test)
    [1 2 3] [0 4 5]
    [0 4 5] [1 2 3]
    """

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: int | None = None) -> None:
        super().__init__(n_splits, shuffle=shuffle, random_state=_seed(random_state) if shuffle else None)

    def cells_of(self, n_rows: int) -> Cells | None:
        """The folds as cells; None where they are scikit-learn's."""
        return HashedCells(self.n_splits, int(self.random_state)) if self.shuffle else None

    def _iter_test_indices(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Array]:
        if not self.shuffle:
            yield from super()._iter_test_indices(X, y, groups)
            return
        folds = HashedCells(self.n_splits, int(self.random_state)).of(np.arange(_length(X)))
        for fold in range(self.n_splits):
            yield np.flatnonzero(folds == fold)


class StratifiedKFold(model_selection.StratifiedKFold):
    """K folds in which every label has its share, scikit-learn's, shuffled by a hash of the row number.

    Without `shuffle` the folds are scikit-learn's. With it the rows of a label, in the order of a hash of
    (random_state, row number), go to the folds in turn: each label's rows differ by one at most between
    folds. The targets are read once; one byte a row is kept.

    Parameters
    ----------
    n_splits : int
    shuffle : bool
    random_state : int, optional
        None is 0, so that results repeat.

    Examples
    --------
    >>> y = np.array([0, 1, 1, 0, 1, 1])
    >>> for train, test in StratifiedKFold(2, shuffle=True).split(np.zeros((6, 1)), y):
    ...     print(y[test])
    [0 1 1]
    [1 0 1]
    """

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: int | None = None) -> None:
        super().__init__(n_splits, shuffle=shuffle, random_state=_seed(random_state) if shuffle else None)

    def _make_test_folds(self, X: Any, y: Any = None) -> Array:
        if not self.shuffle:
            return np.asarray(super()._make_test_folds(X, y))
        _, codes = np.unique(np.asarray(y), return_inverse=True)
        counts = np.bincount(codes)
        if self.n_splits > counts.max():
            raise ValueError(
                f"n_splits: expected at most the number of rows of the most frequent label, {counts.max()}, "
                f"got {self.n_splits}"
            )
        hashes = row_random_numbers(np.arange(len(codes)), int(self.random_state), FOLD)
        order = np.lexsort((hashes, codes))
        folds = np.empty(len(codes), dtype=np.intp)
        folds[order] = np.arange(len(codes)) % self.n_splits
        return folds


class GroupKFold(model_selection.GroupKFold):
    """K folds that keep the rows of a group together, by a hash of the group.

    A group is in the fold ``floor(K u)``, u in [0, 1) a hash of (random_state, group): it stays there
    whatever other groups there are, and folds are of about the same size where groups are many and none is
    large. scikit-learn's, which balances sizes, can be used as well: it counts the groups first.

    Parameters
    ----------
    n_splits : int
    random_state : int, optional
        None is 0, so that results repeat.

    Examples
    --------
    >>> groups = np.array(["a", "b", "c", "a", "d", "b"])
    >>> for train, test in GroupKFold(2).split(np.zeros((6, 1)), groups=groups):
    ...     print(groups[test])
    ['b' 'd' 'b']
    ['a' 'c' 'a']
    """

    def __init__(self, n_splits: int = 5, *, random_state: int | None = None) -> None:
        super().__init__(n_splits)
        self.random_state = _seed(random_state)
        self.shuffle = True

    def _iter_test_indices(self, X: Any = None, y: Any = None, groups: Any = None) -> Iterator[Array]:
        if groups is None:
            raise ValueError("The 'groups' parameter should not be None.")
        values, at = np.unique(np.asarray(groups), return_inverse=True)
        folds = _hashes(values, int(self.random_state)) % np.uint64(self.n_splits)
        for fold in range(self.n_splits):
            yield np.flatnonzero(folds[at] == fold)


class TimeSeriesSplit(model_selection.TimeSeriesSplit):
    """Splits in which the rows to test on come after those to train on, scikit-learn's.

    Rows are taken in their order; a `groups` argument of ``fit``, if there is one, is a column of dates or
    numbers by which they are ordered instead.

    Parameters
    ----------
    n_splits, max_train_size, test_size, gap :
        As scikit-learn's.

    Examples
    --------
    >>> for train, test in TimeSeriesSplit(2).split(np.zeros((6, 1))):
    ...     print(train, test)
    [0 1] [2 3]
    [0 1 2 3] [4 5]
    """

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[Array, Array]]:
        order = None if groups is None else np.argsort(np.asarray(groups), kind="stable")
        for train, test in super().split(X, y):
            yield (train, test) if order is None else (np.sort(order[train]), np.sort(order[test]))


def _seed(random_state: Any) -> int:
    if random_state is None:
        return 0
    whole = isinstance(random_state, int | np.integer) and not isinstance(random_state, bool)
    if whole and random_state >= 0:
        return int(random_state)
    raise ValueError(
        "random_state: expected None or a whole number >= 0, of which hashes are a function, got "
        f"{random_state!r}"
    )


def _length(X: Any) -> int:
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def _hashes(values: Array, seed: int) -> Array:
    """A hash of each of some values, a function of the seed and the value as text."""
    key = seed.to_bytes(16, "little")
    return np.array(
        [int.from_bytes(blake2b(str(v).encode(), digest_size=8, key=key).digest()) for v in values.tolist()],
        dtype=np.uint64,
    )


# -- splits of a data set -------------------------------------------------------------------------


def splits_of(cv: Any, dataset: Dataset, classifier: bool = False, groups: Any = None) -> list[Split]:
    """The splits of a data set that `cv` means, as in scikit-learn: None or a number of folds, a splitter, or
    an iterable of pairs ``(train, test)`` of row positions or masks.

    Raises
    ------
    ValueError
        For what is no such thing, and what scikit-learn's splitters refuse.
    """
    n = dataset.n_rows
    if cv is None or isinstance(cv, numbers.Integral):
        stratified = classifier and _has_labels(dataset)
        cv = (model_selection.StratifiedKFold if stratified else model_selection.KFold)(
            5 if cv is None else int(cv)
        )
    if isinstance(cv, KFold) and (cells := cv.cells_of(n)) is not None:
        return _folds(cells)
    if type(cv) in (KFold, model_selection.KFold) and not cv.shuffle and not dataset.selections:
        list(
            zip(range(1), cv.split(np.empty((min(n, cv.n_splits), 0))), strict=False)
        )  # which refuses too few
        sizes = np.full(cv.n_splits, n // cv.n_splits)
        sizes[: n % cv.n_splits] += 1
        starts = np.append(0, np.cumsum(sizes)[:-1])
        return _folds(ListedCells(cv.n_splits, np.arange(cv.n_splits, dtype=np.uint16), starts))
    if type(cv) in (StratifiedKFold, model_selection.StratifiedKFold) and not cv.shuffle:
        codes = _strata_in_order(cv, targets(dataset))
        spread = _spread(codes, dataset.layout.n_rows, row_numbers(dataset) if dataset.selections else None)
        return _folds(ListedCells.from_codes(spread, cv.n_splits))
    if hasattr(cv, "split") and not isinstance(cv, str | bytes):
        y = targets(dataset)
        found = cv.split(np.empty((n, 0)), y, _column(groups, n))
    elif isinstance(cv, Iterable) and not isinstance(cv, str | bytes):
        found = iter(cv)
    else:
        raise ValueError(
            "cv: expected None, a number of folds, a splitter with split(X, y, groups), or an iterable of "
            f"pairs (train, test) of row positions or masks, got {cv!r}"
        )
    return subsets_of(found, dataset)


def _strata_in_order(cv: Any, y: Array | None) -> Array:
    """The fold of each row ``(n,)`` as scikit-learn's StratifiedKFold has them without shuffling: the rows of
    a label go to the folds in runs, whose lengths are such that folds differ by one row at most.

    The lengths are those of every K-th of the labels, sorted, from each place on.
    """
    if y is None:
        raise ValueError("cv: expected targets for stratified folds, got none")
    labels, first, codes = np.unique(y, return_index=True, return_inverse=True)
    counts, k = np.bincount(codes, minlength=len(labels)), cv.n_splits
    if len(y) < k or counts.max() < k or counts.min() < k:  # refused, or warned of, in its words
        list(zip(range(1), cv.split(np.empty((len(y), 0)), y), strict=False))
    order = np.argsort(first)  # labels are numbered as they first occur
    ends = np.cumsum(counts[order])
    starts = ends - counts[order]
    fold = np.arange(k)[:, None]
    lengths = np.maximum(-(-(ends - fold) // k), 0) - np.maximum(-(-(starts - fold) // k), 0)
    out = np.empty(len(y), dtype=np.min_scalar_type(k - 1))
    for i, label in enumerate(order):
        out[codes == label] = np.repeat(np.arange(k, dtype=out.dtype), lengths[:, i])
    return out


def subsets_of(pairs: Iterable[Any], dataset: Dataset) -> list[Split]:
    """The splits of a data set that pairs ``(train, test)`` of row positions or masks mean."""
    n, total = dataset.n_rows, dataset.layout.n_rows
    return _of_indices(pairs, n, total, row_numbers(dataset) if dataset.selections else None)


def _has_labels(dataset: Dataset) -> bool:
    """Whether the target is one label a row, so that folds are stratified."""
    y = dataset.columns.y
    if y is None or (len(y.shape) == 2 and y.shape[1] > 1):
        return False
    if dataset.classes is not None or y.dtype.kind in "biuSUT":
        return True
    return type_of_target(targets(dataset)) in ("binary", "multiclass")


def targets(dataset: Dataset) -> Array | None:
    """The targets of the selected rows in memory, labels as they are stored; None where there are none."""
    y = dataset.columns.y
    if y is None:
        return None
    if len(y.shape) == 2 and y.shape[1] > 1:
        return np.asarray(dataset.y.compute())  # type: ignore[union-attr]
    return np.concatenate([labels for labels, _ in dataset._labels()])


def row_numbers(dataset: Dataset) -> Array:
    """The numbers of the selected rows."""
    n = dataset.layout.n_rows
    return np.flatnonzero(selection_mask(dataset.selections, 0, n)) if dataset.selections else np.arange(n)


def _column(groups: Any, n: int) -> Array | None:
    if groups is None:
        return None
    found = np.asarray(groups.compute() if hasattr(groups, "compute") else groups)
    if found.shape[:1] != (n,):
        raise ValueError(f"groups: expected one for each of {n} rows, got shape {found.shape}")
    return found


def _folds(cells: Cells) -> list[Split]:
    """The splits in which each cell is tested on once."""
    k = cells.n_cells
    tested = [tuple(cell == fold for cell in range(k)) for fold in range(k)]
    return [Split(Subset(cells, tuple(not t for t in test)), Subset(cells, test)) for test in tested]


def _of_indices(pairs: Iterable[Any], n: int, total: int, rows: Array | None) -> list[Split]:
    """Splits of row positions or masks; `rows` are the numbers of the rows, where not all are selected."""
    codes = np.zeros(n, dtype=np.int64)
    members: Array = np.zeros((1, 0), dtype=np.int8)  # of each cell, its state in each split
    states = []
    for i, pair in enumerate(pairs):
        try:
            train, test = pair
        except (TypeError, ValueError):
            raise ValueError(
                f"cv: expected pairs (train, test) of row positions or masks, got {type(pair).__name__} as "
                f"split {i}"
            ) from None
        state = np.zeros(n, dtype=np.int8)
        for value, side, name in ((1, train, "train"), (2, test, "test")):
            at = np.asarray(side.compute() if hasattr(side, "compute") else side)
            _check_positions(at, n, f"split {i}, {name}")
            if value == 2 and state[at].any():
                raise ValueError(f"cv: split {i}: expected no row both in train and in test")
            state[at] = value
            if at.dtype != bool and np.count_nonzero(state == value) < len(at):
                _refuse_repeated(at, n, f"split {i}, {name}")
        states.append(state)
    if not states:
        raise ValueError("cv: expected at least one split, got none")
    for state in states:
        both = codes * 3 + state
        there = np.flatnonzero(np.bincount(both, minlength=3 * len(members)))
        if len(there) > MOST_CELLS:
            return [_alone(state, total, rows) for state in states]
        place = np.zeros(3 * len(members), dtype=np.int64)
        place[there] = np.arange(len(there))
        codes = place[both]
        members = np.column_stack([members[there // 3], (there % 3).astype(np.int8)])
    cells = ListedCells.from_codes(_spread(codes, total, rows), len(members))
    return [_split(cells, column) for column in members.T]


def _alone(state: Array, total: int, rows: Array | None) -> Split:
    return _split(ListedCells.from_codes(_spread(state, total, rows), 3), np.arange(3))


def _split(cells: Cells, states: Sequence[int] | Array) -> Split:
    return Split(*(Subset(cells, tuple(bool(s == side) for s in states)) for side in (1, 2)))


def _spread(codes: Array, total: int, rows: Array | None) -> Array:
    """Codes of the selected rows in their places among all, 0 elsewhere: rows that nobody sees."""
    if rows is None:
        return codes
    out = np.zeros(total, dtype=codes.dtype)
    out[rows] = codes
    return out


def _refuse_repeated(at: Array, n: int, what: str) -> None:
    rows, times = np.unique(np.where(at < 0, at + n, at), return_counts=True)
    often = int(times.argmax())
    raise ValueError(
        f"cv: {what}: expected each row once, got row {rows[often]} {times[often]} times; "
        "sample_weight counts rows several times"
    )


def _check_positions(at: Array, n: int, what: str) -> None:
    if at.ndim != 1 or not (at.dtype.kind in "iu" or (at.dtype == bool and len(at) == n) or not len(at)):
        raise ValueError(
            f"cv: {what}: expected row positions or a mask of {n} rows, got {at.dtype} of shape {at.shape}"
        )
    if at.dtype != bool and len(at) and not (at.min() >= -n and at.max() < n):
        raise ValueError(f"cv: {what}: expected row positions below {n}, got {at.max()}")
