"""What metrics are made of: statistics of rows that add, from which scikit-learn's own functions tell the
metric.

Three kinds suffice for most. Of labels, how much weight each pair of a true and a predicted one has
(:class:`LabelPairs`); of scores, how they are distributed among the rows of each label
(:class:`RankedScores`): both are few weighted rows that stand for all, and scikit-learn is called with those.
Of means over rows, the weighted sum of the metric of each block (:class:`MeanOf`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from daskgd.queries.sums import Largest
from daskgd.rows.sketches import Distribution
from daskgd.rows.statistics import Moments

Array = NDArray[Any]


class Statistic(Protocol):
    """A statistic of rows, which adds."""

    def __add__(self, other: Any) -> Any: ...


class Metric(Protocol):
    """A metric: which statistic it needs of some rows, and what it is by that of all."""

    def of(self, y: Array, p: Array, s: Array | None) -> Any:
        """The statistic of rows with targets y, predictions p and weights s, or None."""
        ...

    def value(self, statistic: Any) -> Any:
        """The metric."""
        ...


def _weights(n: int, s: Array | None) -> Array:
    return np.ones(n) if s is None else np.asarray(s, dtype=np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class LabelPairs:
    """The weight of each pair of a true and a predicted label ``(k, k)``, of labels ``(k,)``, sorted.

    >>> a, b = (LabelPairs.of(np.array(y), np.array(p), None) for y, p in (("b", "b"), ("a", "b")))
    >>> (a + b).labels, (a + b).weights
    (array(['a', 'b'], dtype='<U1'), array([[0., 1.],
           [0., 1.]]))
    """

    labels: Array
    weights: Array

    @classmethod
    def of(cls, y: Array, p: Array, s: Array | None) -> Self:
        """Those of true labels and predicted ones, ``(n,)`` each, and weights ``(n,)`` or None."""
        y, p = np.ravel(y), np.ravel(p)
        labels, at = np.unique(np.concatenate([y, p]), return_inverse=True)
        k, n = len(labels), len(y)
        pairs = at[:n] * k + at[n:]
        return cls(labels, np.bincount(pairs, _weights(n, s), k * k).reshape(k, k))

    def __add__(self, other: LabelPairs) -> LabelPairs:
        if np.array_equal(self.labels, other.labels):
            return LabelPairs(self.labels, self.weights + other.weights)
        labels = np.union1d(self.labels, other.labels)
        total = np.zeros((len(labels), len(labels)))
        for one in (self, other):
            at = np.searchsorted(labels, one.labels)
            total[np.ix_(at, at)] += one.weights
        return LabelPairs(labels, total)

    def rows(self) -> tuple[Array, Array, Array]:
        """A row for each pair that occurs: true labels, predicted ones, weights."""
        true, predicted = np.nonzero(self.weights)
        return self.labels[true], self.labels[predicted], self.weights[true, predicted]


@dataclass(frozen=True, slots=True, eq=False)
class RankedScores:
    """How scores are distributed among the rows of each label: of each of q columns of scores a
    :class:`~daskgd.rows.sketches.Distribution` with a kind for each of the labels ``(k,)``, sorted."""

    labels: Array
    columns: tuple[Distribution, ...]

    @classmethod
    def of(cls, y: Array, scores: Array, s: Array | None) -> RankedScores:
        """That of labels ``(n,)``, scores ``(n,)`` or ``(n, q)``, and weights ``(n,)`` or None."""
        labels, at = np.unique(np.ravel(y), return_inverse=True)
        weights = np.zeros((len(at), len(labels)))
        weights[np.arange(len(at)), at] = _weights(len(at), s)
        columns = np.asarray(scores, dtype=np.float64).reshape(len(at), -1)
        return cls(labels, tuple(Distribution.of(column, weights) for column in columns.T))

    def __add__(self, other: RankedScores) -> RankedScores:
        labels = np.union1d(self.labels, other.labels)
        a, b = self._with(labels), other._with(labels)
        return RankedScores(labels, tuple(x + z for x, z in zip(a.columns, b.columns, strict=True)))

    def _with(self, labels: Array) -> RankedScores:
        if len(labels) == len(self.labels):
            return self
        at = np.searchsorted(labels, self.labels)
        return RankedScores(labels, tuple(one.with_kinds(at, len(labels)) for one in self.columns))

    def rows(self, column: int = 0) -> tuple[Array, Array, Array]:
        """A row for each label and score that occur: labels, scores, weights."""
        found = self.columns[column]
        at, kind = np.nonzero(found.weights)
        return self.labels[kind], found.low[at], found.weights[at, kind]

    @property
    def is_exact(self) -> bool:
        """Whether no score was rounded."""
        return all(one.is_exact for one in self.columns)


@dataclass(frozen=True, slots=True)
class WeightedSum:
    """A sum of values, each times its weight, and the sum of weights."""

    total: Any
    weight: float

    def __add__(self, other: WeightedSum) -> WeightedSum:
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    @property
    def mean(self) -> Any:
        """The weighted mean."""
        return self.total / self.weight


# -- metrics ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class OfLabels:
    """A metric of scikit-learn's, `function`, of true and predicted labels."""

    function: Callable[..., Any]
    settings: Mapping[str, Any]

    def of(self, y: Array, p: Array, s: Array | None) -> LabelPairs:
        return LabelPairs.of(y, p, s)

    def value(self, statistic: LabelPairs) -> Any:
        y, p, s = statistic.rows()
        return self.function(y, p, sample_weight=s, **self.settings)


@dataclass(frozen=True, slots=True)
class OfScores:
    """A metric of scikit-learn's, `function`, of labels and how rows are ranked by one column of scores."""

    function: Callable[..., Any]
    settings: Mapping[str, Any]

    def of(self, y: Array, p: Array, s: Array | None) -> RankedScores:
        return RankedScores.of(y, p, s)

    def value(self, statistic: RankedScores) -> Any:
        y, p, s = statistic.rows()
        return self.function(y, p, sample_weight=s, **self.settings)


@dataclass(frozen=True, slots=True)
class MeanOf:
    """A metric of scikit-learn's, `function`, that is a weighted mean over rows, and what is made of it at
    the end."""

    function: Callable[..., Any]
    settings: Mapping[str, Any]
    finish: Callable[[Any], Any] | None = None

    def of(self, y: Array, p: Array, s: Array | None) -> WeightedSum:
        weight = float(len(y) if s is None else np.sum(s))
        if not weight > 0:
            return WeightedSum(0.0, 0.0)
        return WeightedSum(weight * self.function(y, p, sample_weight=s, **self.settings), weight)

    def value(self, statistic: WeightedSum) -> Any:
        mean = statistic.mean
        return mean if self.finish is None else self.finish(mean)


# -- of probabilities ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class LabelSums:
    """Sums over the rows of each label ``(k,)``, sorted: of q values ``(k, q)``, and of weights ``(k,)``."""

    labels: Array
    sums: Array
    weights: Array

    @classmethod
    def of(cls, y: Array, values: Array, s: Array | None) -> LabelSums:
        """Those of labels ``(n,)``, values ``(n, q)``, and weights ``(n,)`` or None."""
        labels, at = np.unique(np.ravel(y), return_inverse=True)
        weights, k = _weights(len(at), s), len(labels)
        sums = [np.bincount(at, weights * column, k) for column in values.T]
        return cls(labels, np.stack(sums, axis=1), np.bincount(at, weights, k))

    def __add__(self, other: LabelSums) -> LabelSums:
        labels = np.union1d(self.labels, other.labels)
        sums, weights = np.zeros((len(labels), self.sums.shape[1])), np.zeros(len(labels))
        for one in (self, other):
            at = np.searchsorted(labels, one.labels)
            sums[at] += one.sums
            weights[at] += one.weights
        return LabelSums(labels, sums, weights)

    def own(self, labels: Any = None) -> tuple[float, Array, float]:
        """The sum of the values in the column of each row's own label, by `labels` or else by those that
        occur; the weight of each of them, and of all rows. Raises ValueError where there are not as many
        labels as columns."""
        known = self.labels if labels is None else np.unique(np.asarray(labels))
        strange = np.setdiff1d(self.labels, known)
        if len(strange):
            raise ValueError(f"y_true: expected labels among {known.tolist()}, got {strange.tolist()}")
        if len(known) != self.sums.shape[1]:
            raise ValueError(
                f"expected a column of probabilities for each of {len(known)} labels {known.tolist()}, got "
                f"{self.sums.shape[1]} columns; pass labels=, all of them, sorted"
            )
        at = np.searchsorted(known, self.labels)
        weights = np.zeros(len(known))
        weights[at] = self.weights
        return float(self.sums[np.arange(len(at)), at].sum()), weights, float(self.weights.sum())


def probability_columns(p: Array) -> Array:
    """Probabilities ``(n, k)``, of those or of the second of two labels ``(n,)``."""
    p = np.asarray(p)
    p = p if p.dtype.kind == "f" else p.astype(np.float64)
    if p.ndim == 2 and p.shape[1] > 1:
        return p
    p = p.reshape(len(p), 1)
    return np.hstack([1 - p, p])


@dataclass(frozen=True, slots=True)
class OfOwnLabel:
    """A mean over rows of what their probabilities say of their own label.

    Attributes
    ----------
    values : callable
        Of probabilities ``(n, k)``, what each would be, were a column's label the row's own.
    finish : callable
        Of the mean, and the shares ``(k,)`` of the labels, the metric.
    labels : optional
    normalize : bool
    """

    values: Callable[[Array], Array]
    finish: Callable[[float, Array], float] | None = None
    labels: Any = None
    normalize: bool = True

    def of(self, y: Array, p: Array, s: Array | None) -> LabelSums:
        return LabelSums.of(y, self.values(probability_columns(p)).astype(np.float64), s)

    def value(self, statistic: LabelSums) -> float:
        total, weights, weight = statistic.own(self.labels)
        if not self.normalize:
            return total
        mean = total / weight
        return mean if self.finish is None else self.finish(mean, weights / weight)


def log_losses(p: Array) -> Array:
    """``-log p``, of probabilities kept off 0 and 1 by their rounding, as scikit-learn does."""
    eps = np.finfo(p.dtype).eps
    out: Array = -np.log(np.clip(p, eps, 1 - eps))
    return out


def brier_losses(p: Array) -> Array:
    """The squared distance of probabilities from each label: ``sum_k p_k**2 - 2 p_j + 1``."""
    p = p.astype(np.float64)
    out: Array = (p**2).sum(axis=1, keepdims=True) - 2 * p + 1
    return out


def hits_of_top(k: int) -> Callable[[Array], Array]:
    """Whether each column is among the k of the largest scores, of equals the last."""

    def hits(scores: Array) -> Array:
        order = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]
        out = np.zeros(scores.shape)
        np.put_along_axis(out, order, 1.0, axis=1)
        return out

    return hits


# -- of numbers ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """The moments of targets, and of what predictions leave of them, of q outputs."""

    targets: Moments
    left: Moments
    n_rows: int

    def __add__(self, other: Residuals) -> Residuals:
        return Residuals(self.targets + other.targets, self.left + other.left, self.n_rows + other.n_rows)


@dataclass(frozen=True, slots=True)
class ExplainedShare:
    """The share of the variation of targets that predictions explain: R2, or the explained variance, which
    forgives a constant.

    Of each output ``1 - left / all``; where nothing varies 1 if nothing is left, else 0; averaged as
    `multioutput` says.
    """

    forgives_mean: bool = False
    multioutput: Any = "uniform_average"
    force_finite: bool = True

    def of(self, y: Array, p: Array, s: Array | None) -> Residuals:
        y, p = (np.asarray(v, dtype=np.float64).reshape(len(v), -1) for v in (y, p))
        weights = None if s is None else np.asarray(s, dtype=np.float64)
        return Residuals(Moments.of(y, weights), Moments.of(y - p, weights), len(y))

    def value(self, statistic: Residuals) -> Any:
        if statistic.n_rows < 2 and not self.forgives_mean:
            return float("nan")
        left, all_ = statistic.left, statistic.targets.deviation
        rest = left.deviation + (0.0 if self.forgives_mean else left.weight * left.mean**2)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = 1 - rest / all_
        if self.force_finite:
            found = np.where(all_ > 0, found, np.where(rest > 0, 0.0, 1.0))
        if isinstance(self.multioutput, str):
            match self.multioutput:
                case "raw_values":
                    return found
                case "uniform_average":
                    return float(found.mean())
                case "variance_weighted":
                    return float(np.average(found, weights=all_) if all_.any() else found.mean())
            raise ValueError(
                "multioutput: expected 'raw_values', 'uniform_average', 'variance_weighted' or weights, got "
                f"{self.multioutput!r}"
            )
        return float(np.average(found, weights=self.multioutput))


@dataclass(frozen=True, slots=True)
class LargestError:
    """The largest ``|y - p|``."""

    def of(self, y: Array, p: Array, s: Array | None) -> Largest:
        return Largest(float(np.max(np.abs(np.ravel(y) - np.ravel(p)), initial=0.0)))

    def value(self, statistic: Largest) -> float:
        return float(statistic.value)


@dataclass(frozen=True, slots=True)
class MedianError:
    """The median of ``|y - p|``, within the rounding of a :class:`~daskgd.rows.sketches.Distribution`."""

    def of(self, y: Array, p: Array, s: Array | None) -> Distribution:
        away = np.abs(np.ravel(np.asarray(y, dtype=np.float64)) - np.ravel(p))
        return Distribution.of(away, _weights(len(away), s)[:, None])

    def value(self, statistic: Distribution) -> float:
        # Of an even number of equal rows it is the mean of the two in the middle.
        total = float(statistic.weights.sum())
        low, high = statistic.quantile(0.5), statistic.quantile(0.5 + 1e-9 / max(total, 1.0))
        return (low + high) / 2
