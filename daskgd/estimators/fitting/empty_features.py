"""Features without an entry, such as hashed ones of which few occur, are left out of fits to sparse rows in
memory: every vector of a solver has a number for each feature.

Their gradient is 0, and so is that of every penalty where a coefficient is 0: from there, no solver moves
them. The file knows data sets; it must not know losses, penalties or solvers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.data.columns import FeaturesColumn
from daskgd.data.dataset import Dataset
from daskgd.rows.sparse import Sparse

Array = NDArray[Any]

LEAST_FEATURES, MOST_SHARE = 1024, 0.5
"""Features from which on it is worth a look, and the share that occurs up to which others are left out."""

PIECE = 1 << 20
"""Numbers that are squared at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Occurring:
    """The features that have an entry, by their `positions` ``(m,)`` among `n`.

    >>> Occurring(np.array([1, 3]), 4).spread(np.array([[5.0, 7.0]]))
    array([[0., 5., 0., 7.]])
    """

    positions: Array
    n: int

    @classmethod
    def in_rows(cls, dataset: Dataset) -> Occurring | None:
        """Those of sparse rows in memory; None where leaving out others gains little.

        None, too, where a number is not finite or its square is not: that is refused with its column.
        """
        X, s = dataset.columns.X, dataset.columns.sample_weight
        if not (dataset.in_this_process and isinstance(X, FeaturesColumn) and isinstance(X.features, Sparse)):
            return None
        rows = X.features
        if rows.n_columns < LEAST_FEATURES or not rows.n_stored:
            return None
        there = np.zeros(rows.n_columns, bool)
        there[rows.indices] = True
        positions = np.flatnonzero(there)
        if len(positions) > MOST_SHARE * rows.n_columns:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            weight = 1.0 if s is None else np.sum(s.read(0, s.shape[0]), dtype=np.float64)
            if not np.isfinite(_sum_of_squares(rows.values) * weight):
                return None
        return cls(positions, rows.n_columns)

    def of(self, dataset: Dataset) -> Dataset:
        """The rows with these features alone."""
        X: Any = dataset.columns.X
        rows: Sparse = X.features
        place = np.zeros(self.n, rows.indices.dtype)
        place[self.positions] = np.arange(len(self.positions))
        few = Sparse(rows.values, place[rows.indices], rows.indptr, len(self.positions))
        names = dataset.feature_names
        return dataset.replace(
            dataset.columns._replace(X=FeaturesColumn(few)),
            feature_names=None if names is None else [names[j] for j in self.positions],
        )

    def spread(self, values: Array, fill: float = 0.0) -> Array:
        """Numbers ``(..., m)`` of these features in their places among all ``(..., n)``, others `fill`."""
        out = np.full((*values.shape[:-1], self.n), fill, values.dtype)
        out[..., self.positions] = values
        return out


def _sum_of_squares(values: Array) -> float:
    """In float64, without a copy of them all."""
    pieces = (values[a : a + PIECE] for a in range(0, len(values), PIECE))
    return sum(float(np.square(piece, dtype=np.float64).sum()) for piece in pieces)


@contextmanager
def on_occurring_features(estimators: Sequence[Any], dataset: Dataset) -> Iterator[Dataset]:
    """The rows to fit estimators to: without the features that have no entry, where all begin at 0 there."""
    found = Occurring.in_rows(dataset)
    if found is None or not all(estimator._begins_at_zero_beside(found) for estimator in estimators):
        yield dataset
        return
    try:
        for estimator in estimators:
            estimator._occurring = found
        yield found.of(dataset)
    finally:
        for estimator in estimators:
            vars(estimator).pop("_occurring", None)
