"""Kinds of metrics: which statistic each needs of some rows, and scikit-learn's value by that of all.

Labels and scores are summed up in few weighted rows that stand for all, with which scikit-learn's own
function is called. Means over rows are weighted sums of that function's values by block.

Workers import this file, and scikit-learn only where a metric calls one of its functions there.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from operator import add
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from daskgd._compat.caller import warn
from daskgd.metrics.of_sklearn import metrics, undefined_metric_warning
from daskgd.metrics.statistics import (
    ByBin,
    LabelPairs,
    LabelSums,
    Predicted,
    RankedScores,
    Residuals,
    Targets,
    Together,
    WeightedSum,
    bits_for,
    union,
)
from daskgd.queries.sums import Largest
from daskgd.rows.group_sums import group_sums
from daskgd.rows.sketches import Distribution
from daskgd.rows.statistics import Moments

Array = NDArray[Any]
Settings = Mapping[str, Any]


@runtime_checkable
class Metric(Protocol):
    """A metric: which statistic it needs of some rows, and what it is by that of all.

    Statistics have a ``+``, and can be pickled. A metric of your own is an object with these two methods; see
    :func:`daskgd.metrics.make_scorer`.
    """

    def of(self, y: Array, p: Array, s: Array | None) -> Any:
        """The statistic of rows with targets y, predictions p and positive weights s, or None."""
        ...

    def value(self, statistic: Any) -> Any:
        """The metric."""
        ...


class Kind:
    """The base of the metrics of scikit-learn."""

    @property
    def key(self) -> Hashable:
        """What metrics with the same statistic of the same rows have in common."""
        return id(self)

    def of(self, y: Array, p: Array, s: Array | None) -> Any:
        return self.of_rows(Predicted(Targets(y, s), p))

    def of_rows(self, rows: Predicted) -> Any:
        """The statistic of some rows."""
        raise NotImplementedError

    def value(self, statistic: Any) -> Any:
        raise NotImplementedError


def statistic_of(metric: Metric, rows: Predicted) -> Any:
    """The statistic that a metric needs of some rows."""
    if isinstance(metric, Kind):
        return metric.of_rows(rows)
    return metric.of(rows.targets.y, rows.values, rows.targets.s)


def key_of(metric: Metric) -> Hashable:
    """What metrics with the same statistic of the same rows have in common."""
    return metric.key if isinstance(metric, Kind) else id(metric)


def _warn_of_one_row(score: str) -> None:
    category = undefined_metric_warning()
    warn(f"{score} score is not well-defined with less than two samples.", category)


# -- of labels and scores -------------------------------------------------------------------------


@dataclass(frozen=True)
class OfLabels(Kind):
    """A metric of true and predicted labels."""

    function: Callable[..., Any]
    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "pairs"

    def of_rows(self, rows: Predicted) -> LabelPairs:
        return rows.pairs

    def value(self, statistic: LabelPairs) -> Any:
        y, p, s = statistic.rows()
        return self.function(y, p, sample_weight=s, **self.settings)


@dataclass(frozen=True)
class WithSupport(OfLabels):
    """A metric that also tells how many rows have each label: a whole number where there are no weights."""

    def value(self, statistic: LabelPairs) -> Any:
        found = super().value(statistic)
        if not statistic.counts or isinstance(found, dict):
            return found
        if isinstance(found, str):
            return re.sub(r"(\d+)\.0$", r"  \1", found, flags=re.MULTILINE)
        *others, support = found
        return *others, None if support is None else support.astype(int)


@dataclass(frozen=True)
class OfLabelRows(OfLabels):
    """A metric of labels that is a mean over rows, also of several labels a row."""

    @property
    def key(self) -> Hashable:
        return "pairs", self.function, repr(self.settings)

    def of_rows(self, rows: Predicted) -> Any:
        y = rows.targets.y
        if y.ndim == 2 and y.shape[1] > 1:
            normalized = {**self.settings, "normalize": True}
            if self.function == metrics.hamming_loss:
                normalized.pop("normalize")
            return MeanOf(self.function, normalized).of_rows(rows)
        return super().of_rows(rows)

    def value(self, statistic: Any) -> Any:
        if isinstance(statistic, WeightedSum):
            normalize = self.settings.get("normalize", True)
            return float(statistic.mean if normalize else statistic.total)
        return super().value(statistic)


@dataclass(frozen=True)
class LikelihoodRatio(OfLabels):
    """The positive (0) or the negative (1) likelihood ratio."""

    function: Callable[..., Any] = metrics.class_likelihood_ratios
    which: int = 0

    def value(self, statistic: LabelPairs) -> Any:
        return super().value(statistic)[self.which]


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


# -- means over rows ------------------------------------------------------------------------------


def _averaged(found: Any, multioutput: Any) -> Any:
    """Values of outputs ``(q,)`` as `multioutput` says."""
    if isinstance(multioutput, str):
        if multioutput == "raw_values":
            return found
        if multioutput == "uniform_average":
            return float(np.mean(found))
        raise ValueError(
            f"multioutput: expected 'raw_values', 'uniform_average' or weights, got {multioutput!r}"
        )
    return float(np.average(found, weights=multioutput))


@dataclass(frozen=True)
class MeanOf(Kind):
    """A metric that is a weighted mean over rows, and what is made of the mean at the end.

    `by_output`: whether there is one for each output, which `multioutput` averages.
    """

    function: Callable[..., Any]
    settings: Settings = field(default_factory=dict)
    finish: Callable[[Any], Any] | None = None
    by_output: bool = False

    @property
    def key(self) -> Hashable:
        settings = {name: value for name, value in self.settings.items() if name != "multioutput"}
        return "mean", self.function, repr(settings)

    def of_rows(self, rows: Predicted) -> WeightedSum:
        weight = rows.targets.weight
        if not weight > 0:
            return WeightedSum(0.0, 0.0)
        settings = {**self.settings, **({"multioutput": "raw_values"} if self.by_output else {})}
        y = rows.targets.numbers if self.by_output or rows.targets.y.dtype.kind == "f" else rows.targets.y
        p = rows.values.astype(np.float64) if rows.values.dtype == np.float32 else rows.values
        found = self.function(y, p, sample_weight=rows.targets.s, **settings)
        return WeightedSum(weight * found, weight)

    def value(self, statistic: WeightedSum) -> Any:
        mean = statistic.mean if self.finish is None else self.finish(statistic.mean)
        if not self.by_output:
            return float(mean)
        return _averaged(mean, self.settings.get("multioutput", "uniform_average"))


# -- of probabilities, and margins ----------------------------------------------------------------


@dataclass(frozen=True)
class OfOwnLabel(Kind):
    """The base of means over rows of what predictions ``(n, q)`` say of the row's own label; of one column
    ``(n,)``, which is the second label's."""

    function: Callable[..., Any]
    settings: Settings = field(default_factory=dict)
    probabilities: ClassVar[bool] = True

    @property
    def key(self) -> Hashable:
        return type(self).__name__, repr(self.settings.get("labels"))

    def values(self, p: Array) -> Array:
        """Of predictions ``(n, q)``, what each would be, were its column the row's own label."""
        raise NotImplementedError

    def of_probability(self, own: Array) -> Array:
        """What they are of the probability of the own label ``(n,)``."""
        raise NotImplementedError

    def of_second(self, p: Array, is_second: Array) -> Array:
        """Of predictions ``(n,)``, what they are of rows whose label is the second, or is not."""
        return self.of_probability(np.where(is_second, p, 1 - p))

    def _two_columns(self, p: Array) -> Array:
        return np.stack([1 - p, p], axis=1)

    def of_rows(self, rows: Predicted) -> LabelSums:
        targets, p = rows.targets, np.asarray(rows.values)
        p = p if p.dtype.kind == "f" else p.astype(np.float64)
        p = p.reshape(len(p)) if p.ndim == 2 and p.shape[1] == 1 else p
        if self.probabilities and len(p):
            self._check(*rows.range)
        labels, at = targets.labels
        weights, s = targets.label_weights, targets.s
        given = self.settings.get("labels")
        known = labels if given is None else np.unique(np.asarray(given))
        q = 2 if p.ndim == 1 else p.shape[1]
        odd = p.ndim == 2 and self.probabilities and bool((np.abs(p.sum(axis=1) - 1) > _slack(p)).any())
        sums, total = np.zeros((len(labels), q)), 0.0
        if len(known) == q and (given is None or bool(np.isin(labels, known).all())):
            column = at if given is None else np.searchsorted(known, labels)[at]
            if p.ndim == 2:
                own = self.of_columns(p, column)
            elif self.probabilities and given is None and p is rows.values:
                own = self.of_probability(rows.of_own_label)
            else:
                own = self.of_second(p, column == 1)
            own = own.astype(np.float64, copy=False)
            total = float(own.sum() if s is None else s @ own)
        else:
            values = self.values(p if p.ndim == 2 else self._two_columns(p)).astype(np.float64)
            for j, column in enumerate(values.T):
                sums[:, j] = group_sums(at, column if s is None else s * column, len(labels))
        return LabelSums(labels, weights, total, sums, p.shape[1:], odd)

    def of_columns(self, p: Array, column: Array) -> Array:
        """Of predictions ``(n, q)``, what they are of rows whose own label's column is given ``(n,)``."""
        out: Array = np.take_along_axis(self.values(p), column[:, None], axis=1)[:, 0]
        return out

    def _check(self, low: float, high: float) -> None:
        if high > 1:
            raise ValueError(f"y_prob contains values greater than 1: {high}")
        if low < 0:
            raise ValueError(f"y_prob contains values less than 0: {low}")

    def value(self, statistic: LabelSums) -> Any:
        seen = statistic.present
        # In its words, where scikit-learn refuses labels or settings: of two rows of each label.
        rows = np.repeat(seen, 2)
        q = 2 if statistic.shape == () else statistic.shape[0]
        self.function(rows, np.full((len(rows), *statistic.shape), 1 / q), **self.settings)
        given = self.settings.get("labels")
        known = self._known(seen if given is None else np.unique(np.asarray(given)))
        if statistic.odd_sums:
            warn("The y_prob values do not sum to one. Make sure to pass probabilities.", UserWarning)
        total, weights = statistic.own(known)
        weight = float(weights.sum())
        if not self.settings.get("normalize", True):
            return total
        return self.finish(total / weight, weights / weight, statistic)

    def _known(self, labels: Array) -> Array:
        return labels

    def finish(self, mean: float, shares: Array, statistic: LabelSums) -> float:
        """The metric, from the mean and the shares of the labels."""
        return mean


def _slack(p: Array) -> float:
    return float(np.sqrt(np.finfo(p.dtype).eps))


@dataclass(frozen=True)
class LogLoss(OfOwnLabel):
    """``-log p`` of the own label, probabilities kept off 0 and 1 by their rounding, as scikit-learn does."""

    function: Callable[..., Any] = metrics.log_loss

    @property
    def key(self) -> Hashable:
        return "log loss", repr(self.settings.get("labels"))

    def values(self, p: Array) -> Array:
        eps = np.finfo(p.dtype).eps
        out: Array = -np.log(np.clip(p, eps, 1 - eps).astype(np.float64))
        return out

    def of_probability(self, own: Array) -> Array:
        eps = np.finfo(own.dtype).eps
        out = np.clip(own, eps, 1 - eps)
        np.log(out, out=out)
        np.negative(out, out=out)
        return out

    def of_columns(self, p: Array, column: Array) -> Array:
        return self.values(np.take_along_axis(p, column[:, None], axis=1)[:, 0])


@dataclass(frozen=True)
class LogLossShare(LogLoss):
    """The share of the log loss of the labels' shares that predictions save."""

    function: Callable[..., Any] = metrics.d2_log_loss_score

    def finish(self, mean: float, shares: Array, statistic: LabelSums) -> float:
        eps = np.finfo(float).eps
        return 1 - mean / -float(shares @ np.log(np.clip(shares, eps, 1 - eps)))


@dataclass(frozen=True)
class Brier(OfOwnLabel):
    """The squared distance of probabilities from the own label, ``sum_k p_k**2 - 2 p_own + 1``; of two labels
    half of it. `pos_label` is that of a single column."""

    function: Callable[..., Any] = metrics.brier_score_loss

    @property
    def key(self) -> Hashable:
        return "brier", repr(self.settings.get("labels")), repr(self.settings.get("pos_label"))

    def values(self, p: Array) -> Array:
        p = p.astype(np.float64)
        out: Array = (p**2).sum(axis=1, keepdims=True) - 2 * p + 1
        return out

    def of_probability(self, own: Array) -> Array:
        away: Array = 1 - own
        away *= away
        away *= 2
        return away

    def of_columns(self, p: Array, column: Array) -> Array:
        p = p.astype(np.float64)
        own = np.take_along_axis(p, column[:, None], axis=1)[:, 0]
        out: Array = np.einsum("ij,ij->i", p, p) - 2 * own + 1
        return out

    def of_rows(self, rows: Predicted) -> LabelSums:
        # One column is of `pos_label`: by default of the greater label, as LabelSums have it.
        p = np.asarray(rows.values)
        given = self.settings.get("pos_label")
        if given is not None and (p.ndim == 1 or p.shape[1] == 1):
            is_pos = Targets((rows.targets.y.reshape(len(p)) == given).astype(int), rows.targets.s)
            found = super().of_rows(Predicted(is_pos, p))
            return LabelSums(
                found.labels, found.weights, found.total, found.sums, found.shape, found.odd_sums
            )
        return super().of_rows(rows)

    def value(self, statistic: LabelSums) -> Any:
        if statistic.shape == () and self.settings.get("pos_label") is not None:
            plain = {name: v for name, v in self.settings.items() if name != "pos_label"}
            return type(self)(self.function, plain).value(statistic)
        return super().value(statistic)

    def _known(self, labels: Array) -> Array:
        # A single label of 0 or 1, or -1 or 1, is still one of two.
        if len(labels) == 1:
            return np.array([labels[0], 1]) if labels[0] in (0, -1) else np.array([0, labels[0]])
        return labels

    def finish(self, mean: float, shares: Array, statistic: LabelSums) -> float:
        half = self.settings.get("scale_by_half", "auto")
        half = len(shares) < 3 if isinstance(half, str) else half
        return mean / 2 if half else mean


@dataclass(frozen=True)
class BrierShare(Brier):
    """The share of the Brier score of the labels' shares that predictions save."""

    function: Callable[..., Any] = metrics.d2_brier_score

    def finish(self, mean: float, shares: Array, statistic: LabelSums) -> float:
        return 1 - mean / (1 - float(shares @ shares))


@dataclass(frozen=True)
class Hinge(OfOwnLabel):
    """``max(0, 1 - margin)``, the margin being the own label's before the greatest of the others."""

    function: Callable[..., Any] = metrics.hinge_loss
    probabilities: ClassVar[bool] = False

    def values(self, p: Array) -> Array:
        p = p.astype(np.float64)
        if p.shape[1] == 2:
            margin = p - p[:, ::-1]
        else:
            top = np.sort(p, axis=1)[:, -2:]
            margin = p - np.where(p == top[:, 1:], top[:, :1], top[:, 1:])
        return np.maximum(0, 1 - margin)

    def of_second(self, p: Array, is_second: Array) -> Array:
        return np.maximum(0, 1 - np.where(is_second, p, -p).astype(np.float64))

    def _two_columns(self, p: Array) -> Array:
        return np.stack([-p / 2, p / 2], axis=1)


@dataclass(frozen=True)
class TopK(OfOwnLabel):
    """Whether the own label is among the k of the largest scores."""

    function: Callable[..., Any] = metrics.top_k_accuracy_score
    probabilities: ClassVar[bool] = False

    @property
    def key(self) -> Hashable:
        return "top", self.settings.get("k", 2), repr(self.settings.get("labels"))

    def values(self, p: Array) -> Array:
        order = np.argsort(p, axis=1, kind="stable")[:, ::-1][:, : self.settings.get("k", 2)]
        out = np.zeros(p.shape)
        np.put_along_axis(out, order, 1.0, axis=1)
        return out

    def of_rows(self, rows: Predicted) -> Any:
        p = np.asarray(rows.values)
        if p.ndim == 2 and p.shape[1] > 1:
            return super().of_rows(rows)
        p = p.reshape(len(p))
        # Of a single column scikit-learn tells scores from probabilities by the range of all of them.
        hits = (self._hits(rows, p > cut) for cut in (0.0, 0.5))
        return Together((*hits, Largest(np.array([np.max(v, initial=-np.inf) for v in (p, -p)]))))

    def _hits(self, rows: Predicted, predicted: Array) -> Any:
        """The weights of each label, and of its rows that are predicted to be the second."""
        labels, at = rows.targets.labels
        s = predicted.astype(float) if rows.targets.s is None else rows.targets.s * predicted
        sums = group_sums(at, s, len(labels))[:, None]
        return LabelSums(labels, rows.targets.label_weights, 0.0, sums, ())

    def value(self, statistic: Any) -> Any:
        if not isinstance(statistic, Together):
            return super().value(statistic)
        by_zero, by_half, largest = statistic.parts
        high, low = largest.value[0], -largest.value[1]
        found = by_half if low >= 0 and high <= 1 else by_zero
        seen = found.present
        k, normalize = self.settings.get("k", 2), self.settings.get("normalize", True)
        self.function(np.repeat(seen, 2), np.zeros(2 * len(seen)), **self.settings)
        weight = float(found.weights.sum())
        given = self.settings.get("labels")
        known = seen if given is None else np.asarray(given)
        second = np.isin(found.labels, known[1:])
        hits = float(np.where(second, found.sums[:, 0], found.weights - found.sums[:, 0]).sum())
        hits = hits if k == 1 else weight
        return hits / weight if normalize else hits


@dataclass(frozen=True)
class Calibration(Kind):
    """The share of positive rows, and the mean prediction, in bins of predictions."""

    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "bins", self._n_bins if self._uniform else None

    @property
    def _n_bins(self) -> int:
        return int(self.settings.get("n_bins", 5))

    @property
    def _uniform(self) -> bool:
        return bool(self.settings.get("strategy", "uniform") == "uniform")

    def of_rows(self, rows: Predicted) -> Any:
        targets, p = rows.targets, np.asarray(rows.values, dtype=np.float64)
        if len(p) and (p.min() < 0 or p.max() > 1):
            raise ValueError("y_prob has values outside [0, 1].")
        if not self._uniform:
            return RankedScores.of(rows)
        labels, at = targets.labels
        p = p.reshape(len(p))
        bins = np.linspace(0.0, 1.0, self._n_bins + 1)
        at = at * self._n_bins + np.searchsorted(bins[1:-1], p)
        n, s = len(labels), targets.s
        sums = (group_sums(at, w, n * self._n_bins) for w in (s, p if s is None else s * p))
        return ByBin(labels, *(found.reshape(n, -1) for found in sums))

    def value(self, statistic: Any) -> Any:
        from sklearn.calibration import calibration_curve

        labels = statistic.labels[statistic.weights.any(axis=1)] if self._uniform else statistic.present
        rows = np.repeat(labels, 2)
        calibration_curve(rows, np.full(len(rows), 0.5), **self.settings)  # refuses labels in its words
        positive = self.settings.get("pos_label")
        positive = labels[-1] if positive is None else positive
        if len(labels) == 1 and self.settings.get("pos_label") is None:
            positive = 1
        if self._uniform:
            weights, sums = statistic.weights, statistic.sums
            own = weights[statistic.labels == positive].sum(axis=0)
            total, p = weights.sum(axis=0), sums.sum(axis=0)
        else:
            y, low, s = statistic.rows()
            edges = _percentiles(low, s, np.linspace(0, 1, self._n_bins + 1))
            at = np.searchsorted(edges[1:-1], low)
            own, total, p = (group_sums(at, w, self._n_bins) for w in (s * (y == positive), s, s * low))
        found = total > 0
        return own[found] / total[found], p[found] / total[found]


def _percentiles(values: Array, counts: Array, q: Array) -> Array:
    """What ``np.percentile`` says of values, each so many times."""
    order = np.argsort(values, kind="stable")
    values, last = values[order], np.cumsum(counts[order])
    at = q * (last[-1] - 1)
    below, above = (
        values[np.minimum(np.searchsorted(last, place, side="right"), len(values) - 1)]
        for place in (np.floor(at), np.ceil(at))
    )
    part = at - np.floor(at)
    # The sides from which numpy interpolates, to the last bit.
    found = np.where(part >= 0.5, above - (above - below) * (1 - part), below + (above - below) * part)
    return np.asarray(found)


# -- of numbers -----------------------------------------------------------------------------------


def _columns(rows: Predicted) -> tuple[Array, Array, Array | None]:
    """Targets and predictions as float64 columns, and weights."""
    y, p = (np.asarray(v, dtype=np.float64) for v in (rows.targets.numbers, rows.values))
    y, p = (v.reshape(len(v), -1) if v.ndim == 1 or len(v) else v for v in (y, p))
    if y.shape != p.shape:
        raise ValueError(f"y_true and y_pred have different number of output ({y.shape[1]}!={p.shape[1]})")
    return y, p, rows.targets.s


@dataclass(frozen=True)
class ExplainedShare(Kind):
    """The share of the variation of targets that predictions explain: R2, or the explained variance, which
    forgives a constant.

    Of each output ``1 - left / all``; where nothing varies 1 if nothing is left, else 0; averaged as
    `multioutput` says.
    """

    settings: Settings = field(default_factory=dict)
    forgives_mean: bool = False

    @property
    def key(self) -> Hashable:
        return "residuals"

    def of_rows(self, rows: Predicted) -> Residuals:
        y, p, s = _columns(rows)
        return Residuals(Moments.of(y, s), Moments.of(y - p, s), len(y))

    def value(self, statistic: Residuals) -> Any:
        multioutput = self.settings.get("multioutput", "uniform_average")
        if statistic.n_rows < 2 and not self.forgives_mean:
            warn(
                "R^2 score is not well-defined with less than two samples.",
                undefined_metric_warning(),
            )
            return float("nan")
        left, all_ = statistic.left, statistic.targets.deviation
        rest = left.deviation + (0.0 if self.forgives_mean else left.weight * left.mean**2)
        found = explained(rest, all_, bool(self.settings.get("force_finite", True)))
        if isinstance(multioutput, str) and multioutput == "variance_weighted":
            return float(np.average(found, weights=all_) if all_.any() else found.mean())
        return _averaged(found, multioutput)


def explained(rest: Array, all_: Array, force_finite: bool = True) -> Array:
    """``1 - rest / all``; where that is not finite 1 if nothing is left, else 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = 1 - rest / all_
    return np.where(all_ > 0, found, np.where(rest > 0, 0.0, 1.0)) if force_finite else found


@dataclass(frozen=True)
class LargestError(Kind):
    """The largest ``|y - p|``."""

    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "largest error"

    def of_rows(self, rows: Predicted) -> Largest:
        y, p, _ = _columns(rows)
        if y.shape[1] > 1:
            raise ValueError("Multioutput not supported in max_error")
        return Largest(float(np.max(np.abs(y - p), initial=0.0)))

    def value(self, statistic: Largest) -> float:
        return float(statistic.value)


@dataclass(frozen=True)
class MedianError(Kind):
    """The median of ``|y - p|``, within the rounding of a :class:`~daskgd.rows.sketches.Distribution`."""

    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "errors"

    def of_rows(self, rows: Predicted) -> Together:
        y, p, s = _columns(rows)
        weights = np.ones((len(y), 1)) if s is None else s[:, None]
        return Together(tuple(Distribution.of(column, weights) for column in np.abs(y - p).T))

    def value(self, statistic: Together) -> Any:
        found = [
            metrics.median_absolute_error(one.low, np.zeros(len(one.low)), sample_weight=one.weights[:, 0])
            for one in statistic.parts
        ]
        return _averaged(np.array(found), self.settings.get("multioutput", "uniform_average"))


@dataclass(frozen=True)
class PinballShare(Kind):
    """The share of the pinball loss of the best constant that predictions save."""

    settings: Settings = field(default_factory=dict)

    @property
    def _alpha(self) -> float:
        return float(self.settings.get("alpha", 0.5))

    @property
    def key(self) -> Hashable:
        return "pinball share", self._alpha

    def of_rows(self, rows: Predicted) -> Together:
        y, p, s = _columns(rows)
        w = np.ones(len(y)) if s is None else s
        losses = MeanOf(metrics.mean_pinball_loss, {"alpha": self._alpha}, by_output=True)
        spread = (Distribution.of(column, np.stack([w, w * column], axis=1)) for column in y.T)
        return Together((len(y), losses.of_rows(Predicted(Targets(y, s), p)), *spread))

    def value(self, statistic: Together) -> Any:
        n, losses, *spread = statistic.parts
        if n < 2:
            warn(
                "D^2 score is not well-defined with less than two samples.",
                undefined_metric_warning(),
            )
            return float("nan")
        best = np.array([self._best(one) for one in spread])
        found = explained(np.atleast_1d(losses.mean), best)
        return _averaged(found, self.settings.get("multioutput", "uniform_average"))

    def _best(self, spread: Distribution) -> float:
        """The loss of scikit-learn's quantile of the targets."""
        if len(spread.keys) < 2:
            return 0.0
        w = spread.weights[:, 0]
        y = spread.low if spread.is_exact else spread.weights[:, 1] / w
        # Of a constant beyond all targets the loss is known, and scikit-learn's D2 is relative to that of
        # the quantile.
        beyond = np.full(len(y), y.max() + 1.0)
        loss = metrics.mean_pinball_loss(y, beyond, sample_weight=w, alpha=self._alpha)
        share = metrics.d2_pinball_score(y, beyond, sample_weight=w, alpha=self._alpha)
        return float(loss / (1 - share))


@dataclass(frozen=True)
class Deviance:
    """The total deviance of targets about their own mean, of a Tweedie power.

    Two add by the identity of Bregman divergences: about any m the total is that about the own mean, and
    ``W d(mean, m)``.
    """

    power: float
    weight: float
    mean: float
    total: float
    n_rows: int

    def __add__(self, other: Deviance) -> Deviance:
        n = self.n_rows + other.n_rows
        if not self.weight or not other.weight:
            one = other if not self.weight else self
            return Deviance(one.power, one.weight, one.mean, one.total, n)
        weight = self.weight + other.weight
        mean = self.mean + (other.mean - self.mean) * (other.weight / weight)
        moved = sum(one.weight * deviance(one.mean, mean, self.power) for one in (self, other))
        return Deviance(self.power, weight, mean, self.total + other.total + moved, n)


def deviance(y: Any, m: Any, power: float, s: Array | None = None) -> float:
    """The mean deviance of targets about m; 0 where both are 0."""
    y, m = np.atleast_1d(np.asarray(y, dtype=float)), np.atleast_1d(np.asarray(m, dtype=float))
    if np.array_equal(y, np.broadcast_to(m, y.shape)):
        return 0.0
    return float(metrics.mean_tweedie_deviance(y, np.broadcast_to(m, y.shape), sample_weight=s, power=power))


@dataclass(frozen=True)
class TweedieShare(Kind):
    """The share of the Tweedie deviance of the mean that predictions save."""

    settings: Settings = field(default_factory=dict)

    @property
    def power(self) -> float:
        return float(self.settings.get("power", 0))

    @property
    def key(self) -> Hashable:
        return "deviance share", self.power

    def of_rows(self, rows: Predicted) -> Together:
        y, p, s = _columns(rows)
        if y.shape[1] > 1:
            raise ValueError("Multioutput not supported in d2_tweedie_score")
        y, weight = y[:, 0], rows.targets.weight
        if not weight > 0:
            return Together((WeightedSum(0.0, 0.0), Deviance(self.power, 0.0, 0.0, 0.0, len(y))))
        left = weight * metrics.mean_tweedie_deviance(y, p[:, 0], sample_weight=s, power=self.power)
        mean = float(np.average(y, weights=s))
        spread = Deviance(self.power, weight, mean, weight * deviance(y, mean, self.power, s), len(y))
        return Together((WeightedSum(left, weight), spread))

    def value(self, statistic: Together) -> float:
        left, spread = statistic.parts
        if spread.n_rows < 2:
            warn(
                "D^2 score is not well-defined with less than two samples.",
                undefined_metric_warning(),
            )
            return float("nan")
        return float(1 - left.total / spread.total) if spread.total or left.total else float("nan")
