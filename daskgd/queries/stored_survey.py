"""What a dataset carries of itself: the survey of its rows and a sample of them, from which fits are told
what they would else ask of the data in a sweep of their own. Knows queries; no files and no solver.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.queries.base import Query, columns
from daskgd.queries.sample import STORED_SEED, PartialSample, Sample, SampleAnswer
from daskgd.queries.sums import Largest, Maybe, Sums
from daskgd.queries.survey import MAX_LABELS, Labels, Survey, SurveyAnswer, no_label
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows, distinct_labels

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class StoredSurvey:
    """The survey of all rows of a dataset, for any estimator.

    Attributes
    ----------
    block_rows : int
        Rows in each of the blocks whose sums were merged: others give other last bits.
    n_rows : int
    weight : float
        Sum of the sample weights.
    X : Moments
        Of the features.
    y : Moments or None
        Of the targets as numbers.
    labels : Labels or None
        Of a target of whole numbers, if they are not too many.
    lowest : float
        The least of the first target.
    indicator : bool
        Whether all targets are 0 or 1.
    """

    block_rows: int
    n_rows: int
    weight: float
    X: Moments
    y: Moments | None
    labels: Labels | None
    lowest: float
    indicator: bool

    def answer(self, query: Survey) -> SurveyAnswer | None:
        """What the query would answer; None where it would refuse the data, which is for it to say."""
        y, labels = self.y, None
        too_low = self.lowest < query.low or (self.lowest == query.low and not query.low_included)
        if query.classification:
            y, labels = None, self.labels
        elif too_low or (query.indicator and not self.indicator):
            return None
        if y is None and labels is None:
            return None
        return SurveyAnswer(self.n_rows, self.weight, self.X, y, labels)


def holds(share: float, per_class: int, query: Sample) -> bool:
    """Whether a stored sample of a share of the rows, and of so many of each class, holds that of a query."""
    few = query.share <= share * (1 + 1e-12) and query.per_class <= per_class
    return query.seed == STORED_SEED and query.share < 1 and few


@dataclass(frozen=True, slots=True)
class StoredSample:
    """The rows of a dataset with the smallest hashes, and more of rare classes, from which any smaller sample
    is selected.

    Attributes
    ----------
    n_rows : int
        Of the dataset.
    drawn : PartialSample
    """

    n_rows: int
    drawn: PartialSample

    def of_rows(self, inside: Array, n_rows: int, labels: Labels | None) -> StoredSample:
        """The sample of some of the rows of the data, `n_rows`, with these labels: `inside` says which of the
        rows of the sample are among them, the uniform ones before the others."""
        drawn, (uniform,) = self.drawn, self.drawn.uniform
        n = len(uniform)
        strata = drawn.strata
        if strata is not None and labels is not None:
            weights = dict(zip(labels.values.tolist(), labels.weights.tolist(), strict=True))
            strata = {
                label: replace(one, weight=weights[label])
                for label, one in strata.items()
                if label in weights
            }
        extra = drawn.extra.select(inside[n:])
        kept = replace(drawn, uniform=(uniform.select(inside[:n]),), extra=extra, strata=strata)
        return StoredSample(n_rows, kept.narrow(drawn.share, drawn.per_class))

    @property
    def numbers(self) -> Array:
        """The numbers of its rows in the dataset, those of the uniform ones before the others."""
        (uniform,) = self.drawn.uniform
        return np.concatenate([uniform.rows.numbers, self.drawn.extra.rows.numbers])

    def answer(self, query: Sample) -> SampleAnswer | None:
        """What the query would answer; None where it asks for a larger share of the rows, for all of them,
        for more of each class, or for those of another seed."""
        stored = self.drawn
        if not holds(stored.share, stored.per_class, query):
            return None
        share, per_class = min(query.share, stored.share), query.per_class
        same = share == stored.share and (stored.strata is None or per_class == stored.per_class)
        drawn = stored if same else stored.narrow(share, per_class)
        found: SampleAnswer = replace(query, share=share).answer(None, Sums(drawn=drawn, n_rows=self.n_rows))
        return found


@dataclass(frozen=True, slots=True)
class _LabelsIfFew:
    """The labels of rows; None where they are none, or too many, which no others change."""

    value: Labels | None

    def __add__(self, other: _LabelsIfFew) -> _LabelsIfFew:
        if self.value is None or other.value is None:
            return self if self.value is None else other
        try:
            return _LabelsIfFew(self.value + other.value)
        except ValueError:
            return _LabelsIfFew(None)


@dataclass(frozen=True, slots=True)
class SurveyToStore(Query):
    """The query of a survey and a sample to be stored: answers ``(StoredSurvey or None, StoredSample or
    None)``; no survey where rows are invalid, which a fit says better, and no sample of no share.

    Targets are numbers or codes. It is asked of blocks of `block_rows` rows.
    """

    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "survey"
    by_row_number: ClassVar[bool] = True
    block_rows: int
    sample: Sample

    @property
    def row_payload_nbytes(self) -> int:
        return self.sample.row_payload_nbytes

    def block(self, problem: Any, rows: Rows) -> Sums:
        y = rows.y
        labels, lowest, other = None, np.inf, False
        if y is not None and len(y):
            targets = columns(y)
            lowest, other = float(targets[:, 0].min()), bool(((targets != 0) & (targets != 1)).any())
            if targets.shape[1] == 1 and not no_label(targets[:, 0]).any():
                labels = _labels(targets[:, 0], rows)
        return Sums(
            survey=Survey().block(None, rows),
            labels=Maybe(_LabelsIfFew(labels) if y is not None and len(y) else None),
            lowest=Largest(-lowest),
            other=Largest(other),
            drawn=self._draw(rows, no_labels=y is not None and len(y) > 0 and labels is None),
            n_rows=len(rows),
        )

    def _draw(self, rows: Rows, no_labels: bool) -> PartialSample:
        """The sample of a block, uniform where the targets are no labels."""
        query = replace(self.sample, per_class=0) if no_labels else self.sample
        drawn: PartialSample = query.block(None, rows)["drawn"]
        return replace(drawn, per_class=self.sample.per_class)

    def answer(self, problem: Any, sums: Sums) -> tuple[StoredSurvey | None, StoredSample | None]:
        sample = StoredSample(int(sums["n_rows"]), sums["drawn"].sorted()) if self.sample.share else None
        try:
            found: SurveyAnswer = Survey().answer(None, sums["survey"])
        except ValueError:
            return None, sample
        labels = sums["labels"].value
        survey = StoredSurvey(
            self.block_rows,
            found.n_rows,
            found.weight,
            found.X,
            found.y,
            None if labels is None else labels.value,
            -float(sums["lowest"].value),
            not bool(sums["other"].value),
        )
        return survey, sample


def _labels(y: Array, rows: Rows) -> Labels | None:
    """The labels of a block, None if they are too many."""
    values, codes = distinct_labels(y, rows.numbers)
    if len(values) > MAX_LABELS:
        return None
    s = rows.sample_weight
    return Labels.of(values, codes, None if s is None else s.astype(np.float64, copy=False))
