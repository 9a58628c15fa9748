"""What metrics are made of: statistics of rows with predictions, which add.

Of labels, how much weight each pair of a true and a predicted one has (:class:`LabelPairs`); of scores, how
they are distributed among the rows of each label (:class:`RankedScores`); of means, weighted sums. Knows
arrays and sketches; no metric and no model."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.queries.survey import no_label
from daskgd.rows.group_sums import group_sums
from daskgd.rows.sketches import BITS, Distribution
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import distinct

Array = NDArray[Any]

MAX_LABELS = 4096
"""Most labels of a metric of labels, whose pairs are counted in a square."""


class Targets:
    """The targets of some rows, and their weights; what several metrics ask of them is found once.

    Attributes
    ----------
    y : (n,) or (n, k)
    s : (n,) or None
        All positive, float64; None where all are 1.
    """

    def __init__(self, y: Array, s: Array | None, classes: Array | None = None) -> None:
        self.y, self.s, self._classes = y, s, classes

    def __len__(self) -> int:
        return len(self.y)

    @cached_property
    def labels(self) -> tuple[Array, Array]:
        """The distinct targets, sorted, and the position ``(n,)`` of each row's among them. Some may have no
        row here. ValueError for numbers that are no labels."""
        values, at = find_labels(self.y)
        return (values if self._classes is None else self._classes[values]), at

    @cached_property
    def is_second(self) -> Array:
        """Of each row, whether its label is the second of two."""
        return self.labels[1] == 1

    @cached_property
    def first(self) -> dict[Any, Array]:
        """By dtype, of each row 1 if its label is the first of two, else 0."""
        return {}

    @cached_property
    def weight(self) -> float:
        """The total weight."""
        return float(len(self) if self.s is None else self.s.sum())

    @cached_property
    def label_weights(self) -> Array:
        """The weight of each label ``(k,)``."""
        values, at = self.labels
        return group_sums(at, self.s, len(values))

    @cached_property
    def numbers(self) -> Array:
        """The targets as float64."""
        return np.asarray(self.y, dtype=np.float64)

    def select(self, positions: Array) -> Targets:
        """Those of the rows at these positions."""
        out = Targets(self.y[positions], None if self.s is None else self.s[positions], self._classes)
        if "labels" in vars(self):
            out.__dict__["labels"] = self.labels[0], self.labels[1][positions]
        return out


class Predicted:
    """Rows with predictions ``(n,)`` or ``(n, k)``, of which labels may be known by their codes."""

    def __init__(
        self, targets: Targets, values: Array | None, labels: tuple[Array, Array] | None = None
    ) -> None:
        self.targets, self._values, self._labels = targets, values, labels

    @cached_property
    def range(self) -> tuple[float, float]:
        """The least and the greatest prediction."""
        return self.values.min(), self.values.max()

    @cached_property
    def pairs(self) -> LabelPairs:
        """The weights of pairs of labels."""
        return LabelPairs.of(self)

    @cached_property
    def of_own_label(self) -> Array:
        """Of predictions p ``(n,)`` of the second of two labels those of the own one ``(n,)``: p or ``1 -
        p``."""
        p, first = self.values, self.targets.first
        if p.dtype not in first:
            first[p.dtype] = np.logical_not(self.targets.is_second).astype(p.dtype)
        own: Array = p - first[p.dtype]
        np.abs(own, out=own)
        return own

    @property
    def values(self) -> Array:
        """The predictions."""
        if self._values is None:
            assert self._labels is not None
            self._values = self._labels[0][self._labels[1].astype(np.intp)]
        return self._values

    @property
    def labels(self) -> tuple[Array, Array]:
        """The labels that are predicted, sorted, and the position of each row's among them, or whether it is
        the second of two ``(n,)``."""
        if self._labels is None:
            self._labels = find_labels(self.values)
        return self._labels


def find_labels(y: Array) -> tuple[Array, Array]:
    """The distinct labels, sorted, and the position ``(n,)`` of each row's among them. ValueError for numbers
    that are no labels, and for too many."""
    y = np.asarray(y)
    if y.ndim == 2 and y.shape[1] > 1:
        raise ValueError(
            f"expected one label per row, got shape (n, {y.shape[1]}); of several labels a row "
            "accuracy_score, hamming_loss and zero_one_loss are known"
        )
    y = y.reshape(len(y))
    if no_label(y).any():
        raise ValueError(
            "Classification metrics can't handle continuous values: expected class labels, got "
            f"{y[no_label(y)][0]!r}; use a metric of regression"
        )
    if y.dtype == bool:
        return np.array([False, True]), y.astype(np.intp)
    if y.dtype.kind == "f" and len(y) and np.abs(y).max() < 2**53:
        values, at = distinct(y.astype(np.int64))
        values = values.astype(y.dtype)
    else:
        values, at = distinct(y)
    if len(values) > MAX_LABELS:
        raise ValueError(
            f"expected at most {MAX_LABELS:,} labels, got {len(values):,}; use a metric of regression"
        )
    return values, at.reshape(-1)


def union(a: Array, b: Array) -> Array:
    """The labels of both, sorted. ValueError where they cannot be compared."""
    if a.dtype == b.dtype and np.array_equal(a, b):
        return a
    if not len(a) or not len(b):
        return b if not len(a) else a
    numbers = [one.dtype.kind in "fiub" for one in (a, b)]
    if numbers[0] != numbers[1]:
        raise ValueError(
            "Labels in y_true and y_pred should be of the same type. Got "
            f"y_true={a[:5].tolist()} and y_pred={b[:5].tolist()}; convert them first"
        )
    return np.union1d(a, b)


@dataclass(frozen=True, slots=True, eq=False)
class LabelPairs:
    """The weight of each pair of a true and a predicted label ``(k, k)``, of labels ``(k,)``, sorted; whether
    these are counts of rows.

    >>> a, b = (LabelPairs.of(Predicted(Targets(np.array([y]), None), np.array([p])))
    ...         for y, p in (("b", "b"), ("a", "b")))
    >>> (a + b).labels, (a + b).weights
    (array(['a', 'b'], dtype='<U1'), array([[0., 1.],
           [0., 1.]]))
    """

    labels: Array
    weights: Array
    counts: bool

    @classmethod
    def of(cls, rows: Predicted) -> LabelPairs:
        """Those of some rows."""
        targets = rows.targets
        (true, at), (predicted, found) = targets.labels, rows.labels
        labels, s = union(true, predicted), targets.s
        if len(true) == len(predicted) == 2 and s is None:
            second = found if found.dtype == bool else found == 1
            both, of_true = int(np.count_nonzero(targets.is_second & second)), targets.label_weights[1]
            of_predicted = int(np.count_nonzero(second))
            n = len(second)
            pairs = np.array(
                [
                    [n - of_true - of_predicted + both, of_predicted - both],
                    [of_true - both, both],
                ],
                dtype=np.float64,
            )
        else:
            k = len(predicted)
            pairs = group_sums(at * k + found, s, len(true) * k).reshape(-1, k)
        if len(labels) > max(len(true), len(predicted)) or len(true) != len(predicted):
            pairs = _spread(pairs, labels, true, predicted)
        return cls(labels, pairs, s is None)

    def __add__(self, other: LabelPairs) -> LabelPairs:
        labels = union(self.labels, other.labels)
        a, b = (_spread(one.weights, labels, one.labels, one.labels) for one in (self, other))
        return LabelPairs(labels, a + b, self.counts and other.counts)

    def rows(self) -> tuple[Array, Array, Array]:
        """A row for each pair that occurs: true labels, predicted ones, weights, which are whole numbers
        where they are counts."""
        true, predicted = np.nonzero(self.weights)
        weights = self.weights[true, predicted]
        return self.labels[true], self.labels[predicted], weights.astype(int) if self.counts else weights


def _spread(pairs: Array, labels: Array, rows: Array, columns: Array) -> Array:
    """The pairs of some labels among those of all."""
    if len(labels) == len(rows) == len(columns):
        return pairs
    out = np.zeros((len(labels), len(labels)))
    out[np.ix_(np.searchsorted(labels, rows), np.searchsorted(labels, columns))] = pairs
    return out


@dataclass(frozen=True, slots=True, eq=False)
class RankedScores:
    """How scores are distributed among the rows of each label: of each of q columns of scores a
    :class:`~daskgd.rows.sketches.Distribution` with a kind for each of the labels ``(k,)``, sorted.

    If `own`, column j is of the j-th of q labels, and once all of these have been seen, there are but two
    kinds: rows of other labels, and its own.
    """

    labels: Array
    weights: Array
    """The weight of each label."""
    columns: tuple[Distribution, ...]
    own: bool = False
    two_kinds: bool = False

    @classmethod
    def of(cls, rows: Predicted, own: bool = False, bits: int | None = None) -> RankedScores:
        """That of some rows."""
        targets = rows.targets
        labels, at = targets.labels
        scores = rows.values
        scores = scores if scores.dtype in (np.float32, np.float64) else scores.astype(np.float64)
        scores = scores.reshape(len(at), -1)
        if own and len(labels) == scores.shape[1]:
            columns = [
                Distribution.of_kinds(
                    np.ascontiguousarray(column), (at == j).astype(np.intp), 2, targets.s, bits
                )
                for j, column in enumerate(scores.T)
            ]
            return cls(labels, targets.label_weights, tuple(columns), True, True)
        columns = [
            Distribution.of_kinds(np.ascontiguousarray(column), at, len(labels), targets.s, bits)
            for column in scores.T
        ]
        return cls(labels, targets.label_weights, tuple(columns), own)

    def __add__(self, other: RankedScores) -> RankedScores:
        labels = union(self.labels, other.labels)
        a, b = self._with(labels), other._with(labels)
        columns = tuple(x + z for x, z in zip(a.columns, b.columns, strict=True))
        return RankedScores(labels, a.weights + b.weights, columns, a.own, a.two_kinds)

    def _with(self, labels: Array) -> RankedScores:
        two_kinds = self.own and len(labels) == len(self.columns)
        if len(labels) == len(self.labels) and two_kinds == self.two_kinds:
            return self
        if self.two_kinds:
            raise ValueError(
                f"expected {len(self.columns)} labels, one for each column of scores, got {labels.tolist()}"
            )
        at = np.searchsorted(labels, self.labels)
        weights = np.zeros(len(labels))
        weights[at] = self.weights
        columns = (one.with_kinds(at, len(labels)) for one in self.columns)
        if two_kinds:
            columns = (one.one_against_others(j) for j, one in enumerate(columns))
        return RankedScores(labels, weights, tuple(columns), self.own, two_kinds)

    @property
    def present(self) -> Array:
        """The labels that occur."""
        return self.labels[self.weights > 0]

    def rows(self, column: int = 0, kinds: Array | None = None) -> tuple[Array, Array, Array]:
        """A row for each kind and score that occur: kinds, by default labels, scores, weights."""
        found = self.columns[column]
        at, kind = np.nonzero(found.weights)
        names = self.labels if kinds is None else kinds
        return names[kind], found.low[at], found.weights[at, kind]


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


@dataclass(frozen=True, slots=True, eq=False)
class LabelSums:
    """Sums of what predictions of q columns say of the labels of their rows.

    Attributes
    ----------
    labels : (k,)
        Sorted.
    weights : (k,)
        The weight of each label.
    total : float
        The sum over the rows whose label's column is known.
    sums : (k, q)
        Of other rows, by their label, the sums for each column that may be its.
    shape : tuple
        ``()`` of predictions of one column, ``(q,)`` of others.
    odd_sums : bool
        Whether there are rows whose predictions do not add up to 1.
    """

    labels: Array
    weights: Array
    total: float
    sums: Array
    shape: tuple[int, ...]
    odd_sums: bool = False

    def __add__(self, other: LabelSums) -> LabelSums:
        labels = union(self.labels, other.labels)
        total, odd = self.total + other.total, self.odd_sums or other.odd_sums
        if len(labels) == len(self.labels) == len(other.labels):
            weights, sums = self.weights + other.weights, self.sums + other.sums
            return LabelSums(labels, weights, total, sums, self.shape, odd)
        sums, weights = np.zeros((len(labels), self.sums.shape[1])), np.zeros(len(labels))
        for one in (self, other):
            at = np.searchsorted(labels, one.labels)
            sums[at] += one.sums
            weights[at] += one.weights
        return LabelSums(labels, weights, total, sums, self.shape, odd)

    @property
    def present(self) -> Array:
        """The labels that occur."""
        return self.labels[self.weights > 0]

    def own(self, known: Array) -> tuple[float, Array]:
        """The sum over all rows, the columns being of the labels `known` ``(q,)``, and the weights of
        these."""
        at = np.searchsorted(known, self.present)
        weights = np.zeros(len(known))
        weights[at] = self.weights[self.weights > 0]
        rest = self.sums[self.weights > 0][np.arange(len(at)), at]
        return self.total + float(rest.sum()), weights


@dataclass(frozen=True, slots=True, eq=False)
class ByBin:
    """Of each label, and each bin of predictions: the weight, and the sum of predictions, ``(k, bins)``."""

    labels: Array
    weights: Array
    sums: Array

    def __add__(self, other: ByBin) -> ByBin:
        labels = union(self.labels, other.labels)
        out = np.zeros((2, len(labels), self.weights.shape[1]))
        for one in (self, other):
            out[:, np.searchsorted(labels, one.labels)] += [one.weights, one.sums]
        return ByBin(labels, out[0], out[1])


@dataclass(frozen=True, slots=True, eq=False)
class Residuals:
    """The moments of targets, and of what predictions leave of them, of q outputs."""

    targets: Moments
    left: Moments
    n_rows: int

    def __add__(self, other: Residuals) -> Residuals:
        return Residuals(self.targets + other.targets, self.left + other.left, self.n_rows + other.n_rows)


@dataclass(frozen=True, slots=True)
class Together:
    """Statistics of the same rows, each of which adds."""

    parts: tuple[Any, ...]

    def __add__(self, other: Together) -> Together:
        return Together(tuple(a + b for a, b in zip(self.parts, other.parts, strict=True)))


def bits_for(n_labels: int) -> int:
    """The bits of scores of which so many labels are told apart, in each of as many columns: so few that they
    take about the room of two labels in each."""
    return max(BITS - max(n_labels // 2, 1).bit_length() + 1, 6)
