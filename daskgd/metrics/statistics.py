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

from daskgd.rows.sketches import Distribution

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
