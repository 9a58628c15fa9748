"""The survey: the first query of a fit, which measures the data and refuses what cannot be fitted. Knows no
solver and no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import TargetSummary
from daskgd.problems import Problem
from daskgd.queries.base import Query, columns, one_column
from daskgd.queries.sums import Maybe, Sums
from daskgd.rows.group_sums import group_sums
from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows, distinct_labels

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SurveyAnswer:
    """What a survey found of the data.

    Attributes
    ----------
    n_rows : int
        Rows read.
    weight : float
        Sum of the sample weights.
    X : Moments
        Of the features.
    y : Moments or None
        Of a numeric target, for regression.
    labels : Labels or None
        For classification.
    """

    n_rows: int
    weight: float
    X: Moments
    y: Moments | None
    labels: Labels | None

    def target_summary(self, class_weight: Array | None = None, offsets: int = 0) -> TargetSummary:
        """The summary of the target that :meth:`daskgd.losses.Loss.baseline` takes; the last `offsets`
        columns are left out."""
        if self.labels is not None:
            weights = self.labels.weights
            if class_weight is not None and len(class_weight) == len(weights):  # else some labels are missing
                weights = weights * class_weight
            return TargetSummary(shares=weights / weights.sum())
        assert self.y is not None
        k = len(self.y.mean) - offsets
        return TargetSummary(variance=float(self.y.variance[:k].sum()), mean=self.y.mean[:k])


@dataclass(frozen=True, slots=True)
class Survey(Query):
    """The survey of the data: rows, total weight, moments and labels, and whether all of it is fit to use.

    ``answer`` raises ValueError for NaN, infinity, negative weights, weights that are all zero and
    rows that are none, naming the first offending row (counted from 0) and column. Numeric targets (the first
    of several) must not be below `low`, or not reach it unless `low_included`; with `indicator` all of them
    must be 0 or 1.
    """

    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "survey"
    classification: bool = False
    low: float = -np.inf
    low_included: bool = True
    indicator: bool = False

    def block(self, problem: Problem | None, rows: Rows) -> Sums:
        X, y, s = rows.X, rows.y, rows.sample_weight
        s = None if s is None else s.astype(np.float64, copy=False)
        numbers = rows.start if rows.kept is None else rows.kept
        bad_X = bad_y = low_y = InvalidRows()
        labels = target = None
        bad_s = InvalidRows.weights(s, numbers)
        s = None if bad_s.rows else s
        moments = X.moments(s)
        # Moments are finite where X is, so that finite data pays nothing for the check. Without any weight
        # there are no moments to go by.
        if not (moments.weight > 0 and np.isfinite(moments.deviation).all()):
            bad_X = X.nonfinite(numbers)
            moments = X.finite_moments(s)
        if y is not None and self.classification:
            y = one_column(y)
            bad_y = InvalidRows.of(no_label(y), y, numbers)
            labels = None if bad_y.rows else Labels.of(*distinct_labels(y, numbers), s)
        elif y is not None:
            bad_y = InvalidRows.nonfinite(y, numbers)
            target = Moments.of(columns(np.where(np.isfinite(y), y, 0.0)), s)
            first = columns(y)[:, 0]
            wrong = first < self.low if self.low_included else first <= self.low
            if self.indicator:
                other = (columns(y) != 0) & (columns(y) != 1)
                wrong, at = other.any(axis=1), other.argmax(axis=1)
                first = columns(y)[np.arange(len(y)), at]
            low_y = InvalidRows.of(wrong, first, numbers)
        return Sums(
            n_rows=len(X),
            weight=float(len(X) if s is None else s.sum()),
            X=moments,
            y=Maybe(target),
            labels=Maybe(labels),
            bad_X=bad_X,
            bad_y=bad_y,
            low_y=low_y,
            bad_s=bad_s,
        )

    def answer(self, problem: Problem | None, sums: Sums) -> SurveyAnswer:
        refuse(sums)
        if (first := sums["low_y"].first) is not None and self.indicator:
            raise ValueError(
                f"y: expected 0 or 1 in each column, for labels that a row has or has not, got {first.value} "
                f"in row {first.row} ({sums['low_y'].rows} of {sums['n_rows']} rows); pass y of shape (n,) "
                "for one label a row, and use a regressor for numbers"
            )
        if (first := sums["low_y"].first) is not None:
            raise ValueError(
                "Some value(s) of y are out of the valid range of the loss: expected targets "
                f"{'>=' if self.low_included else '>'} {self.low:g}, got {first.value} in row {first.row} "
                f"({sums['low_y'].rows} of {sums['n_rows']} rows); use another loss, or drop those rows"
            )
        _refuse_huge("X", sums["X"])
        _refuse_huge("y", sums["y"].value)
        return SurveyAnswer(sums["n_rows"], sums["weight"], sums["X"], sums["y"].value, sums["labels"].value)


WEIGHT_RANGE = 1e200
"""The largest total weight, and over 1 the least: beyond, products with squares overflow."""


def _refuse_huge(name: str, moments: Moments | None) -> None:
    """Raise ValueError for numbers whose squares overflow when they are summed."""
    if moments is None:
        return
    with np.errstate(invalid="ignore", over="ignore"):
        huge = ~np.isfinite(moments.mean**2 + moments.deviation)
    if huge.any():
        raise ValueError(
            f"Input {name} contains numbers too large to be squared and summed in float64 (1e150 and "
            f"beyond), first in column {int(np.argmax(huge))} ({int(huge.sum())} of {len(huge)} columns); "
            "divide them by a power of ten, or drop the rows that hold them"
        )


def no_label(y: Array) -> Array:
    """A mask ``(n,)`` of the rows whose y cannot be a label: it is missing, or no whole number."""
    if y.dtype.kind == "f":
        return ~np.isfinite(y) | (y != np.floor(y))
    if y.dtype.kind in "mM":
        return np.isnat(y)
    if y.dtype == object:
        return np.array([isinstance(v, float) and v != v for v in y], dtype=bool)
    return np.zeros(len(y), dtype=bool)


def same_kind(labels: Array, y: Array) -> None:
    """Raise ValueError if labels y are of another kind than those of the fit, such as text where that saw
    numbers: none would match."""

    def kind(values: Array) -> str:
        if values.dtype == object and len(values):
            values = np.asarray(values.tolist()[0])
        kinds = {"b": "numbers", "i": "numbers", "u": "numbers", "f": "numbers", "U": "text", "T": "text"}
        return kinds.get(values.dtype.kind, str(values.dtype))

    if len(y) and kind(labels) != kind(y):
        raise ValueError(
            f"y: expected labels like those of the fit, {kind(labels)} such as {labels.tolist()[0]!r}, got "
            f"{kind(y)} such as {y.tolist()[0]!r}; convert them first"
        )


def refuse(sums: Sums) -> None:
    """Raise ValueError if there are no rows, no weight, or rows that are invalid; it names the first."""
    if sums["n_rows"] == 0:
        raise ValueError("X: expected at least one row, got 0 (no row passed the selection)")
    for name in ("X", "y"):
        bad: InvalidRows = sums[f"bad_{name}"]
        if bad.first is not None:
            raise ValueError(_bad_message(name, bad, sums["n_rows"]))
    if sums["bad_s"].first is not None:
        row, _, value = sums["bad_s"].first
        raise ValueError(
            f"sample_weight: expected finite weights >= 0, got {value} in row {row} "
            f"({sums['bad_s'].rows} such rows)"
        )
    if not sums["weight"] > 0:
        raise ValueError("sample_weight: expected a positive total, got weights that are all zero")
    if not 1 / WEIGHT_RANGE <= sums["weight"] <= WEIGHT_RANGE:
        raise ValueError(
            f"sample_weight: expected a total from {1 / WEIGHT_RANGE:g} to {WEIGHT_RANGE:g}, got "
            f"{sums['weight']:g}; divide the weights by their mean"
        )


def _bad_message(name: str, bad: InvalidRows, n_rows: int) -> str:
    assert bad.first is not None
    row, column, value = bad.first
    where = f"row {row}" + (f", column {column}" if column >= 0 else "")
    if np.isfinite(value):
        return (
            f"Unknown label type: continuous. y: expected class labels, got {value} in {where} "
            f"({bad.rows} of {n_rows} rows are not whole numbers); for a continuous target use a regressor"
        )
    what = "NaN" if np.isnan(value) else "infinity"
    return (
        f"Input {name} contains {what}: expected finite numbers, got {value} in {where} "
        f"({bad.rows} of {n_rows} rows hold NaN or infinity); impute or drop those rows first"
    )


MAX_LABELS = 10_000


@dataclass(frozen=True, slots=True)
class Labels:
    """The distinct labels of a target, sorted, with the number and the total weight of their rows."""

    values: Array
    counts: Array
    weights: Array

    def __post_init__(self) -> None:
        if len(self.values) > MAX_LABELS:
            raise ValueError(
                f"y: expected class labels, got more than {MAX_LABELS} distinct values; "
                "for a continuous target use a regressor"
            )

    @classmethod
    def of(cls, values: Array, codes: Array, s: Array | None) -> Labels:
        """The labels of some rows, from the distinct ones, the position of each row's among them ``(n,)``,
        and weights or None."""
        counts = np.bincount(codes, minlength=len(values))
        weights = group_sums(codes, s, len(values))
        return cls(values, counts, weights)

    def __add__(self, other: Labels) -> Labels:
        if np.array_equal(self.values, other.values):
            return Labels(self.values, self.counts + other.counts, self.weights + other.weights)
        both = np.concatenate([self.values, other.values])
        try:
            values, at = np.unique(both, return_inverse=True)
        except TypeError:  # they cannot be sorted
            types = " and ".join(sorted({type(v).__name__ for v in both}))
            raise ValueError(
                f"y: expected labels of one type, got {types}; convert them, as in y.astype(str)"
            ) from None
        counts = np.zeros(len(values), dtype=np.int64)
        weights = np.zeros(len(values))
        for part, where in ((self, at[: len(self.values)]), (other, at[len(self.values) :])):
            counts[where] += part.counts
            weights[where] += part.weights
        return Labels(values, counts, weights)
