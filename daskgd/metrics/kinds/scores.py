"""Metrics of the ranks of scores: areas and curves, by distributions of scores."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.metrics.kinds.base import Kind
from daskgd.metrics.of_sklearn import metrics, undefined_metric_warning
from daskgd.metrics.statistics import Predicted, RankedScores, bits_for, union
from daskgd.rows.sketches import Distribution

Array = NDArray[Any]
Settings = Mapping[str, Any]


@dataclass(frozen=True)
class OfScores(Kind):
    """A metric of labels and how rows are ranked by one column of scores."""

    function: Callable[..., Any]
    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "ranked"

    def of_rows(self, rows: Predicted) -> RankedScores:
        return RankedScores.of(rows)

    def value(self, statistic: RankedScores) -> Any:
        if len(statistic.columns) != 1:
            raise ValueError(
                f"{self.function.__name__}: expected one score a row, got {len(statistic.columns)} columns"
            )
        y, p, s = statistic.rows()
        return self.function(y, p, sample_weight=s, **self.settings)


@dataclass(frozen=True)
class AveragePrecision(OfScores):
    """The average precision, of several labels averaged over them, each against the others."""

    function: Callable[..., Any] = metrics.average_precision_score

    @property
    def key(self) -> Hashable:
        return "own ranked"

    def of_rows(self, rows: Predicted) -> RankedScores:
        scores = rows.values
        return RankedScores.of(rows, own=scores.ndim == 2 and scores.shape[1] > 1)

    def value(self, statistic: RankedScores) -> Any:
        if len(statistic.columns) == 1:
            return super().value(statistic)
        average = self.settings.get("average", "macro")
        if self.settings.get("pos_label", 1) != 1:
            raise ValueError("Parameter pos_label is fixed to 1 for multiclass y_true. Do not set pos_label.")
        return _of_each_label(self._of_column, statistic, statistic.present, average)

    def _of_column(self, column: Distribution) -> float:
        """That of a column of scores, by whether rows are of its label."""
        at, kind = np.nonzero(column.weights)
        return float(self.function(kind, column.low[at], sample_weight=column.weights[at, kind]))


def _of_each_label(
    of_column: Callable[[Distribution], float], statistic: RankedScores, labels: Array, average: str | None
) -> Any:
    """A metric of two labels for each label against all others, averaged."""
    if not statistic.two_kinds:
        if len(statistic.present) < 2:
            raise ValueError("expected rows of at least two labels in y_true, got one")
        raise ValueError(
            f"expected a column of scores for each of {len(labels)} labels {labels.tolist()}, got "
            f"{len(statistic.columns)}; pass labels=, all of them, sorted"
        )
    columns = (reduce(add, statistic.columns),) if average == "micro" else statistic.columns
    found = [of_column(column) for column in columns]
    if average == "micro":
        return found[0]
    if average is None:
        return np.array(found)
    if average == "weighted":
        return float(np.average(found, weights=statistic.weights))
    if average == "macro":
        return float(np.mean(found))
    raise ValueError(f"average: expected None, 'micro', 'macro' or 'weighted', got {average!r}")


@dataclass(frozen=True)
class RocAuc(Kind):
    """The area under the ROC curve: of two labels, or averaged over labels or pairs of them."""

    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "ranked pairs" if self._by_pairs else "own ranked"

    @property
    def _by_pairs(self) -> bool:
        return self.settings.get("multi_class") == "ovo"

    def of_rows(self, rows: Predicted) -> RankedScores:
        scores = rows.values
        if scores.ndim == 1 or scores.shape[1] == 1:
            return RankedScores.of(rows)
        if self._by_pairs:
            return RankedScores.of(rows, bits=bits_for(scores.shape[1]))
        return RankedScores.of(rows, own=True)

    def value(self, statistic: RankedScores) -> Any:
        settings = dict(self.settings)
        if len(statistic.columns) == 1:
            if not settings and len(statistic.present) == 2:
                return area(statistic.columns[0].weights[:, statistic.weights > 0])
            y, p, s = statistic.rows()
            return metrics.roc_auc_score(y, p, sample_weight=s, **settings)
        how, average = settings.get("multi_class", "raise"), settings.get("average", "macro")
        labels = settings.get("labels")
        known = statistic.present if labels is None else np.asarray(labels)
        # In its words, where scikit-learn refuses settings or labels: of as many rows as there are labels.
        k, seen = len(statistic.columns), statistic.present
        uniform = np.full((len(seen), k), 1 / k)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", undefined_metric_warning())
            metrics.roc_auc_score(seen, uniform, **settings)
        statistic = statistic._with(union(statistic.labels, known))
        if how == "ovr":
            return _of_each_label(lambda column: area(column.weights), statistic, known, average)
        at = np.searchsorted(statistic.labels, known)
        pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
        weights = [column.weights for column in statistic.columns]
        # Of the rows of two labels the mean of the areas by the column of either (Hand & Till 2001).
        found = [(area(weights[i][:, at[[j, i]]]) + area(weights[j][:, at[[i, j]]])) / 2 for i, j in pairs]
        shares = [statistic.weights[at[[i, j]]].sum() for i, j in pairs]
        return float(np.average(found, weights=shares if average == "weighted" else None))


def area(weights: Array) -> float:
    """The area under the ROC curve by the weights ``(m, 2)`` of negative and positive rows with each score,
    from the least: the share of pairs of a negative and a positive row in which that has the greater score,
    ties being half a pair."""
    negative, positive = weights.T
    total = float(negative.sum() * positive.sum())
    if not total > 0:  # undefined, which scikit-learn says
        rows = np.flatnonzero(weights.sum(axis=0))
        return float(metrics.roc_auc_score(rows, rows.astype(float)))
    below = np.cumsum(negative) - negative / 2
    return float(positive @ below) / total


def auc_bounds(statistic: RankedScores) -> tuple[float, float]:
    """The least and the greatest area under the ROC curve that scores with these rounded ones can have: pairs
    of rows in one cell, which count half, were in either order."""
    if len(statistic.columns) != 1 or len(statistic.present) != 2:
        raise ValueError("roc_auc_bounds: expected one score a row, and rows of two labels")
    column = statistic.columns[0]
    weights = column.weights[:, statistic.weights > 0]
    value = area(weights)
    if column.is_exact:
        return value, value
    ties = float((weights[:, 0] * weights[:, 1]).sum() / (2 * np.prod(weights.sum(axis=0))))
    return value - ties, value + ties


@dataclass(frozen=True)
class Bounds(OfScores):
    """Of the area under the ROC curve, by scores that may be rounded."""

    function: Callable[..., Any] = metrics.roc_auc_score

    def value(self, statistic: RankedScores) -> Any:
        return auc_bounds(statistic)
