"""The base of the estimators that choose their penalty by cross-validation. Knows estimators; no search."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from daskgd.model_selection.splitters import Split
from daskgd.rows.subsets import ListedCells, Subset


class SearchedEstimator(BaseEstimator):
    """Base of the estimators that choose their penalty: they predict as the best one does, which is kept as
    ``best_estimator_``."""

    _copied: ClassVar[tuple[str, ...]] = (
        *("coef_", "intercept_", "classes_", "n_features_in_", "feature_names_in_"),
        *("gap_", "history_", "outcome_"),
    )

    @property
    def _searched(self) -> str:
        """The name of the estimators that are tried."""
        return type(self).__name__.removesuffix("CV")

    def _take(self, best: Any) -> None:
        self.best_estimator_ = best
        for name in self._copied:
            if hasattr(best, name):
                setattr(self, name, getattr(best, name))
            elif hasattr(self, name):
                delattr(self, name)

    def predict(self, X: Any) -> Any:
        """Predict as the best estimator does: numpy for rows in memory, a lazy dask array for others."""
        check_is_fitted(self)
        return self.best_estimator_.predict(X)

    def to_sklearn(self) -> Any:
        """Make a fitted estimator of scikit-learn of the chosen penalty, as
        ``best_estimator_.to_sklearn()``."""
        check_is_fitted(self)
        return self.best_estimator_.to_sklearn()

    def save(self, path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        """Write the best estimator to one file; :func:`daskgd.load_model` reads it."""
        check_is_fitted(self)
        self.best_estimator_.save(path, storage_options=storage_options)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class SearchedLeastSquares(RegressorMixin, SearchedEstimator):
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score the best estimator: R2, in one sweep."""
        check_is_fitted(self)
        return float(self.best_estimator_.score(X, y, sample_weight))


def all_rows(splits: Sequence[Split]) -> Subset:
    cells = splits[0].train.cells
    return Subset(cells, (True,) * cells.n_cells)


def shared_parameters(estimator: Any, kind: type) -> dict[str, Any]:
    """The parameters that an estimator has in common with others of a kind, without what is searched."""
    names = kind().get_params()
    own = estimator.get_params(deep=False)
    return {k: v for k, v in own.items() if k in names and k not in ("alpha", "l1_ratio", "C", "verbose")}


WHOLE = Subset(ListedCells(1, np.zeros(1, dtype=np.uint8), np.zeros(1, dtype=np.int64)), (True,))
"""All rows, as one cell."""
