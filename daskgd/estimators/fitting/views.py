"""Some rows of a surveyed dataset, such as splits and folds: what their fits ask of the data alone is told by
the store and by the targets, without reading the features.

The scale of the features may be any fixed one: it is that of all rows, where the rows of the sample that are
among them are spread alike. The weight and the labels, on which the objective depends, are those of the rows
themselves. The file knows data sets and engines; it must not know solvers or estimators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial, reduce
from operator import add
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.data.columns import Columns, NoFeatures, selected
from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice, open_engine
from daskgd.queries import Ask, Query, Survey, SurveyAnswer
from daskgd.queries.by_cell import ByCell, CellAnswers
from daskgd.queries.sample import Sample
from daskgd.queries.stored_survey import StoredSample
from daskgd.rows.statistics import Moments
from daskgd.rows.subsets import Subset

Array = NDArray[Any]

ALIKE = 10.0
"""Ratio of the variances of a feature in all rows and in some of them, up to which these have the scale of
all: a fit is then conditioned about as well as with their own."""


def answers_of_view(
    queries: Sequence[Query], dataset: Dataset, engine: Choice
) -> Iterable[tuple[Query, Any]]:
    """The answers to queries about the data alone, the survey first, for a view of a surveyed dataset; none
    where a sweep is to be made.

    The moments of the features in the answer are about the means of all rows, and with their variances. They
    are no answer where a feature is spread otherwise in the view, as where an outlier is outside of it or all
    that is not 0. Raises ValueError, as the survey does, for targets that cannot be fitted, and for weights
    that are all 0.
    """
    survey, *others = queries
    sample = _sample_that_tells(queries, dataset)
    if not dataset.selections or sample is None:
        return []
    inside = selected(dataset.selections, sample.numbers)
    if not _are_alike(_moments(sample, inside), dataset):
        return []
    with open_engine(_targets_alone(dataset), engine) as (running, _):
        found: SurveyAnswer = running.sweep([Ask(None, survey)])[0]
    return [(survey, _with_scale(found, dataset)), *_samples(others, sample, dataset, found)]


def answers_of_subsets(
    queries: Sequence[Query], subsets: Sequence[Subset], dataset: Dataset, engine: Choice
) -> Iterable[tuple[Query, Any]]:
    """The same for subsets of the rows that are unions of the same cells: the survey is asked, and answered,
    by cell. The answers to the others are those of all rows."""
    survey, *others = queries
    sample = _sample_that_tells(queries, dataset)
    if sample is None:
        return []
    cells = subsets[0].cells
    of_row = np.where(selected(dataset.selections, sample.numbers), cells.of(sample.numbers), -1)
    moments = {cell: _moments(sample, of_row == cell) for cell in np.unique(of_row[of_row >= 0]).tolist()}
    for subset in subsets:
        parts = [found for cell, found in moments.items() if subset.members[cell] and found.weight > 0]
        if not parts or not _are_alike(reduce(add, parts), dataset):
            return []
    by_cell = ByCell(survey, cells)
    with open_engine(_targets_alone(dataset), engine) as (running, _):
        found: CellAnswers = running.sweep([Ask(None, by_cell)])[0]
    scaled = found.with_each(partial(_with_scale, dataset=dataset))
    return [(by_cell, scaled), *_samples(others, sample, dataset, found.of(None))]


def _sample_that_tells(queries: Sequence[Query], dataset: Dataset) -> StoredSample | None:
    """The sample in the store, where that and the targets tell the answers to a survey and to what else is
    asked."""
    survey, *others = queries
    carried, block_rows = dataset.survey, dataset.layout.block_rows
    if carried is None or carried.record.survey is None or not isinstance(survey, Survey):
        return None
    answered = all(isinstance(query, Sample) and carried.tells(query, block_rows) for query in others)
    return carried.sample if answered else None


def _moments(sample: StoredSample, inside: Array) -> Moments:
    """The moments of the features in the uniform rows of a sample that are `inside` ``(n,)``."""
    (uniform,) = sample.drawn.uniform
    rows = uniform.rows.select(np.flatnonzero(inside[: len(uniform)]))
    p = rows.X.shape[1]
    nothing = Moments(0.0, np.zeros(p), np.zeros(p))
    return reduce(add, (tile.X.moments(tile.sample_weight) for tile in rows.tiles()), nothing)


def _are_alike(moments: Moments, dataset: Dataset) -> bool:
    """Whether features with these moments are spread as those of all rows; one that is the same in all of
    them is."""
    ours, all_ = moments.variance, _known(dataset).variance
    return bool(moments.weight > 0 and ((ours <= ALIKE * all_) & (all_ <= ALIKE * ours)).all())


def _known(dataset: Dataset) -> Moments:
    assert dataset.survey is not None
    assert dataset.survey.record.survey is not None
    return dataset.survey.record.survey.X


def _targets_alone(dataset: Dataset) -> Dataset:
    return dataset.replace(
        Columns(NoFeatures(dataset.layout.n_rows), *dataset.columns[1:]),
        layout=dataset.layout,
        dictionaries=None,
        feature_names=None,
        schema=None,
        survey=None,
    )


def _with_scale(found: SurveyAnswer, dataset: Dataset) -> SurveyAnswer:
    """What is found of the targets of some rows, with the means and variances of the features of all."""
    known = _known(dataset)
    return replace(found, X=Moments(found.weight, known.mean, known.variance * found.weight))


def _samples(
    queries: Sequence[Query], sample: StoredSample, dataset: Dataset, found: SurveyAnswer
) -> Iterable[tuple[Query, Any]]:
    """The samples of the rows of a dataset, of whose targets a survey has found this."""
    mine = sample
    if queries and dataset.selections:
        mine = sample.of_rows(selected(dataset.selections, sample.numbers), found.n_rows, found.labels)
    return [(query, mine.answer(query)) for query in queries if isinstance(query, Sample)]
