"""Scores of many fitted members on the rows of their splits, in one sweep, and tables of them.

Knows fits, subsets and metrics; no search.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning

from daskgd._compat.caller import warn
from daskgd.data.dataset import Dataset
from daskgd.estimators.fitting.run import FirstSweepAnswers
from daskgd.estimators.linear import LinearEstimator
from daskgd.estimators.pipeline import Pipeline
from daskgd.estimators.prediction import dense
from daskgd.losses import Squared
from daskgd.metrics.evaluation import Item, evaluate, evaluate_items
from daskgd.metrics.kinds.base import MeanOf
from daskgd.metrics.kinds.numbers import ExplainedShare
from daskgd.metrics.of_sklearn import metrics
from daskgd.metrics.scorers import Scorer, scorers_of
from daskgd.metrics.statistics import Residuals, WeightedSum
from daskgd.model_selection.fits import Member, fit_members
from daskgd.model_selection.from_moments import residuals_from_moments
from daskgd.model_selection.splitters import Split
from daskgd.monitoring.events import Watcher
from daskgd.monitoring.history import History
from daskgd.queries import SecondMoments
from daskgd.rows.subsets import Subset
from daskgd.solvers import Gram
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


@dataclass(slots=True)
class Trial:
    """A candidate on a split: its fit, and what came of it.

    Attributes
    ----------
    member : Member
    split : Split
    test, train : dict of str to float
        Scores by scorer.
    seconds : float
        Of scoring: what the sweep took, divided by the number of trials.
    """

    member: Member
    split: Split
    test: dict[str, float] = field(default_factory=dict)
    train: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def try_candidates(
    candidates: Sequence[Callable[[], Any]],
    splits: Sequence[Split],
    dataset: Dataset,
    scorers: Mapping[str, Any],
    *,
    checkpoint: Checkpoint | None = None,
    watch: Sequence[Watcher] = (),
    known: FirstSweepAnswers | None = None,
    scored: Dataset | None = None,
    names: Sequence[str] | None = None,
    return_train_score: bool = False,
    error_score: Any = np.nan,
) -> list[list[Trial]]:
    """Fit candidates, of each of which a call makes one more, on splits, and score them: of each candidate
    its trials."""
    # Split by split: fits that share a product with X see the same rows.
    names = [""] * len(candidates) if names is None else names
    by_split = [
        [
            Trial(Member(make(), split.train, name and f"{name}, split {i}"), split)
            for name, make in zip(names, candidates, strict=True)
        ]
        for i, split in enumerate(splits)
    ]
    trials = [trial for row in by_split for trial in row]
    fit_members([t.member for t in trials], dataset, checkpoint=checkpoint, watch=watch, known=known)
    if scored is None and known is not None and told_by_moments(scorers):
        know_moments(trials, dataset, known)
    score_trials(
        trials,
        dataset if scored is None else scored,
        scorers,
        return_train_score=return_train_score,
        error_score=error_score,
        known=known if scored is None else None,
    )
    return [list(row) for row in zip(*by_split, strict=True)]


def know_moments(trials: Sequence[Trial], dataset: Dataset, known: FirstSweepAnswers) -> None:
    """Ask for the second moments of least squares that scores are told by, where they are not known: fits
    that were resumed when they had ended have asked nothing, and scores should have the same bits."""
    fitted = [trial.member for trial in trials if trial.member.error is None]
    if not fitted or not isinstance(fitted[0].estimator, LinearEstimator):
        return
    if not isinstance(getattr(fitted[0].estimator, "history_", None), History):
        return
    first, subset = fitted[0], trials[0].split.train
    if first.estimator.history_.solver != repr(Gram()) or known.of_kind(SecondMoments, subset) is not None:
        return
    every = Subset(subset.cells, (True,) * subset.cells.n_cells)
    fit_members([Member(clone(first.estimator).set_params(verbose=0), every)], dataset, known=known)


def score_trials(
    trials: Sequence[Trial],
    dataset: Dataset,
    scorers: Mapping[str, Any],
    *,
    engine: Any = "auto",
    return_train_score: bool = False,
    error_score: Any = np.nan,
    known: FirstSweepAnswers | None = None,
) -> int:
    """Score all trials in one sweep, or none where second moments that are `known` tell the scores: how many.
    Where a fit or a score failed, its scores are `error_score`.

    Raises
    ------
    Exception
        With ``error_score="raise"`` the first error; ValueError where all fits failed.
    """
    _judge_failures([trial.member for trial in trials], error_score)
    started = time.perf_counter()
    fitted = [trial for trial in trials if trial.member.error is None]
    sides = ("test", "train") if return_train_score else ("test",)
    items, places = [], []
    for trial in fitted:
        for side in sides:
            est = trial.member.estimator
            items.append(Item(getattr(est, "best_estimator_", est), scorers, getattr(trial.split, side)))
            places.append((trial, side))
    found = None if known is None else scores_from_moments(items, known)
    reads = int(found is None and bool(items))
    if found is None:
        found = evaluate_items(dataset, items, engine=engine) if items else []
    failed: list[Exception] = []
    for (trial, side), scores in zip(places, found, strict=True):
        for name, value in scores.items():
            if isinstance(value, Exception):
                if error_score == "raise":
                    raise value
                failed.append(value)
                value = float(error_score)
            getattr(trial, side)[name] = value
    if failed:
        warn(
            f"Scoring failed {len(failed)} times; these scores are {error_score}. The first error: "
            f"{type(failed[0]).__name__}: {failed[0]}",
            UserWarning,
        )
    each = (time.perf_counter() - started) / max(len(trials), 1)
    for trial in trials:
        trial.seconds = each
        if trial.member.error is not None:
            for side in sides:
                getattr(trial, side).update(dict.fromkeys(scorers, float(error_score)))
    return reads


def scores_from_moments(items: Sequence[Item], known: FirstSweepAnswers) -> list[dict[str, Any]] | None:
    """The scores of least squares that second moments tell; None where they do not tell all of them."""
    out = []
    for item in items:
        est = item.estimator
        if (
            item.subset is None
            or not isinstance(est, LinearEstimator)
            or not isinstance(est._loss(0), Squared)
        ):
            return None
        moments = known.of_kind(SecondMoments, item.subset)
        if moments is None or getattr(est, "_classification", False):
            return None
        residuals = residuals_from_moments(moments, np.atleast_2d(dense(est.coef_)), np.ravel(est.intercept_))
        if residuals is None:
            return None
        values = {name: _by_residuals(scorer.metric, residuals) for name, scorer in item.scorers.items()}
        if None in values.values():
            return None
        out.append({name: item.scorers[name].sign * float(value) for name, value in values.items()})
    return out


def told_by_moments(scorers: Mapping[str, Scorer]) -> bool:
    """Whether second moments tell all of these scores of least squares."""
    return all(
        isinstance(one.metric, ExplainedShare)
        or (isinstance(one.metric, MeanOf) and one.metric.function == metrics.mean_squared_error)
        for one in scorers.values()
    )


def _by_residuals(metric: Any, residuals: Residuals) -> Any:
    """A metric by the moments of residuals; None for one that they do not tell."""
    if isinstance(metric, ExplainedShare):
        return metric.value(residuals)
    if isinstance(metric, MeanOf) and metric.function == metrics.mean_squared_error:
        weight = residuals.left.weight
        return metric.value(WeightedSum(residuals.left.deviation + weight * residuals.left.mean**2, weight))
    return None


def named_scorers(scoring: Any, estimator: Any) -> tuple[dict[str, Scorer], bool]:
    """The scorers that `scoring` means, by name, and whether there is but one, which is called ``"score"``,
    as in the searches of scikit-learn."""
    found = scorers_of(scoring, estimator)
    single = scoring is None or isinstance(scoring, str) or not isinstance(scoring, Iterable)
    return ({"score": next(iter(found.values()))} if single else found), single


def for_rows_in_memory(scoring: Any) -> Any:
    """`scoring` as scikit-learn's own searches take it: scorers of :mod:`daskgd.metrics` as functions of a
    fitted estimator and its rows."""
    if isinstance(scoring, Mapping):
        return {name: for_rows_in_memory(one) for name, one in scoring.items()}
    return partial(_score, scoring) if isinstance(scoring, Scorer) else scoring


def _score(scorer: Scorer, estimator: Any, X: Any, y: Any) -> float:
    if isinstance(estimator, Pipeline):  # whose encoders may be such as sums cannot fit
        X, estimator = estimator._encoded_rows(X), estimator.steps[-1][1]
    return float(evaluate(estimator, X, y, scoring={"score": scorer})["score"])


def _judge_failures(members: Sequence[Member], error_score: Any) -> None:
    errors = [member.error for member in members if member.error is not None]
    if not errors:
        return
    if error_score == "raise":
        raise errors[0]
    kinds: dict[str, int] = {}
    for error in errors:
        text = f"{type(error).__name__}: {error}"
        kinds[text] = kinds.get(text, 0) + 1
    said = "; ".join(f"{n} times {text}" for text, n in kinds.items())
    if len(errors) == len(members):
        raise ValueError(
            f"All the {len(members)} fits failed: {said}. Pass error_score='raise' to see where"
        ) from errors[0]
    warn(
        f"{len(errors)} fits failed out of a total of {len(members)}; their scores are {error_score}: {said}",
        FitFailedWarning,
    )


def results_table(
    params: Sequence[Mapping[str, Any]],
    trials: Sequence[Sequence[Trial]],
    scorers: Sequence[str],
    return_train_score: bool,
    more: Mapping[str, Any],
) -> dict[str, Any]:
    """The table of a search as scikit-learn has it, ``cv_results_``: of each candidate its trials."""
    out: dict[str, Any] = {name: np.asarray(values) for name, values in more.items()}
    _store(out, "fit_time", [[trial.member.seconds for trial in row] for row in trials])
    _store(out, "score_time", [[trial.seconds for trial in row] for row in trials])
    out |= parameter_columns(params)
    out["params"] = list(params)
    for name in scorers:
        test = [[trial.test[name] for trial in row] for row in trials]
        _store(out, f"test_{name}", test, by_split=True)
        means = out[f"mean_test_{name}"]
        if np.isnan(means).all():
            ranks = np.ones(len(means), dtype=np.int32)
        else:  # those that failed are last
            ranks = rankdata(-np.where(np.isnan(means), np.nanmin(means) - 1, means), method="min").astype(
                np.int32
            )
        out[f"rank_test_{name}"] = ranks
        if return_train_score:
            train = [[trial.train[name] for trial in row] for row in trials]
            _store(out, f"train_{name}", train, by_split=True)
    return out


def _store(out: dict[str, Any], name: str, values: Any, by_split: bool = False) -> None:
    table = np.array(values, dtype=float)
    if by_split:
        out.update({f"split{i}_{name}": column for i, column in enumerate(table.T)})
    out[f"mean_{name}"] = table.mean(axis=1)
    out[f"std_{name}"] = table.std(axis=1)
    if by_split and not np.isfinite(out[f"mean_{name}"]).all():
        warn(
            f"One or more of the {name.split('_')[0]} scores are non-finite: {out[f'mean_{name}']}",
            UserWarning,
        )


def parameter_columns(params: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A masked column ``param_<name>`` for each parameter, of numbers where all are such, else of objects."""
    names = dict.fromkeys(name for one in params for name in one)
    out = {}
    for name in names:
        there = [i for i, one in enumerate(params) if name in one]
        values = [params[i][name] for i in there]
        dtype: Any = object
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = np.array(values)
            except ValueError:
                found = np.empty((0, 0))
        if found.ndim == 1 and found.dtype.kind in "biuf":
            dtype = found.dtype
        column = np.ma.MaskedArray(np.empty(len(params), dtype=dtype), mask=True)
        for i, value in zip(there, values, strict=True):
            column[i] = value
        out[f"param_{name}"] = column
    return out
