"""Some rows of a surveyed dataset, such as splits and folds: what their fits ask of the data alone is told by
the store and by the targets, without reading the features.

The scale of the features may be any fixed one: it is that of all rows. The weight and the labels, on which
the objective depends, are those of the rows themselves. The file knows data sets and engines; it must not
know solvers or estimators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from daskgd.data.columns import Columns, NoFeatures, selected
from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice, open_engine
from daskgd.queries import Ask, Query, Survey, SurveyAnswer
from daskgd.queries.by_cell import ByCell, CellAnswers
from daskgd.queries.sample import Sample
from daskgd.rows.statistics import Moments
from daskgd.rows.subsets import Cells


def answers_of_view(
    queries: Sequence[Query], dataset: Dataset, engine: Choice
) -> Iterable[tuple[Query, Any]]:
    """The answers to queries about the data alone, the survey first, for a view of a surveyed dataset; none
    where a sweep is to be made anyway.

    The moments of the features in the answer are about the means of all rows, and with the deviations of all:
    the variance is an upper bound of that in the view. Raises ValueError, as the survey does, for targets
    that cannot be fitted, and for weights that are all 0.
    """
    survey, *others = queries
    if not dataset.selections or not _are_told(queries, dataset):
        return []
    with open_engine(_targets_alone(dataset), engine) as (running, _):
        found: SurveyAnswer = running.sweep([Ask(None, survey)])[0]
    return [(survey, _with_scale(found, dataset)), *_samples(others, dataset, found)]


def answers_of_cells(
    queries: Sequence[Query], cells: Cells, dataset: Dataset, engine: Choice
) -> Iterable[tuple[Query, Any]]:
    """The same for subsets of the rows that are unions of cells: the survey is asked, and answered, by cell.
    The answers to the others are those of all rows."""
    survey, *others = queries
    if not _are_told(queries, dataset):
        return []
    by_cell = ByCell(survey, cells)
    with open_engine(_targets_alone(dataset), engine) as (running, _):
        found: CellAnswers = running.sweep([Ask(None, by_cell)])[0]
    scaled = found.with_each(partial(_with_scale, dataset=dataset))
    return [(by_cell, scaled), *_samples(others, dataset, found.of(None))]


def _are_told(queries: Sequence[Query], dataset: Dataset) -> bool:
    """Whether the store and the targets tell the answers to a survey and to what else is asked."""
    survey, *others = queries
    carried, block_rows = dataset.survey, dataset.layout.block_rows
    if carried is None or carried.record.survey is None or not isinstance(survey, Survey):
        return False
    return all(isinstance(query, Sample) and carried.tells(query, block_rows) for query in others)


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
    """What is found of the targets of some rows, with the features of all."""
    assert dataset.survey is not None
    known = dataset.survey.record.survey
    assert known is not None
    return replace(found, X=Moments(found.weight, known.X.mean, known.X.deviation))


def _samples(queries: Sequence[Query], dataset: Dataset, found: SurveyAnswer) -> Iterable[tuple[Query, Any]]:
    """The samples of the rows of a dataset, of whose targets a survey has found this."""
    carried = dataset.survey
    if not queries or carried is None:
        return []
    if not dataset.selections:
        return [(query, carried.answer(query, dataset.layout.block_rows)) for query in queries]
    sample = carried.sample
    assert sample is not None
    mine = sample.of_rows(selected(dataset.selections, sample.numbers), found.n_rows, found.labels)
    return [(query, mine.answer(query)) for query in queries if isinstance(query, Sample)]
