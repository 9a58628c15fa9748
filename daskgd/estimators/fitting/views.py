"""Views of some rows of a surveyed dataset, such as splits: what their fits ask of the data alone is told by
the store and by the targets, without reading the features.

The scale of the features may be any fixed one: it is that of all rows. The weight and the labels, on which
the objective depends, are those of the view. The file knows data sets and engines; it must not know solvers
or estimators.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from daskgd.data.columns import Columns, NoFeatures, selected
from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice, open_engine
from daskgd.queries import Ask, Query, Survey, SurveyAnswer
from daskgd.queries.sample import Sample
from daskgd.rows.statistics import Moments


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
    carried, block_rows = dataset.survey, dataset.layout.block_rows
    known = None if carried is None else carried.record.survey
    if not dataset.selections or carried is None or known is None or not isinstance(survey, Survey):
        return []
    if not all(isinstance(query, Sample) and carried.tells(query, block_rows) for query in others):
        return []
    targets = dataset.replace(
        Columns(NoFeatures(dataset.layout.n_rows), *dataset.columns[1:]),
        layout=dataset.layout,
        dictionaries=None,
        feature_names=None,
        schema=None,
        survey=None,
    )
    with open_engine(targets, engine) as (running, _):
        found: SurveyAnswer = running.sweep([Ask(None, survey)])[0]
    X = Moments(found.weight, known.X.mean, known.X.deviation)
    answers: list[tuple[Query, Any]] = [(survey, replace(found, X=X))]
    if others:
        sample = carried.sample
        assert sample is not None
        inside = selected(dataset.selections, sample.numbers)
        mine = sample.of_rows(inside, found.n_rows, found.labels)
        answers += [(query, mine.answer(query)) for query in others if isinstance(query, Sample)]
    return answers
