"""Metrics of probabilities and margins: of each row's own label, of the best k, in bins."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd._compat.caller import warn
from daskgd.metrics.kinds.base import Kind
from daskgd.metrics.of_sklearn import metrics
from daskgd.metrics.statistics import ByBin, LabelSums, Predicted, RankedScores, Targets, Together
from daskgd.queries.sums import Largest
from daskgd.rows.group_sums import group_sums

Array = NDArray[Any]
Settings = Mapping[str, Any]


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
            labels, at = rows.targets.labels
            is_positive = np.array([label == given for label in labels.tolist()], dtype=int)[at]
            return super().of_rows(Predicted(Targets(is_positive, rows.targets.s), p))
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
