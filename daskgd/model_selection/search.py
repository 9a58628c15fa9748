"""Searches: scikit-learn's, whose candidates and splits share the reads of the data."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn import model_selection
from sklearn.base import clone, is_classifier

from daskgd.data.convert import is_in_memory
from daskgd.data.dataset import Dataset
from daskgd.engines.select import client_of
from daskgd.estimators.base import Estimator
from daskgd.estimators.fitting.plan import Plan
from daskgd.estimators.fitting.run import FirstSweepAnswers
from daskgd.estimators.pipeline import Pipeline
from daskgd.metrics.evaluation import evaluate
from daskgd.model_selection.fits import shares_encoded_sweeps, shares_sweeps, within
from daskgd.model_selection.given import refuse_jobs, table_of
from daskgd.model_selection.plan import SearchPlan
from daskgd.model_selection.scores import (
    Trial,
    for_rows_in_memory,
    named_scorers,
    results_table,
    told_by_moments,
    try_candidates,
)
from daskgd.model_selection.splitters import Split, splits_of
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.monitoring.reporter import report_search
from daskgd.preprocessing.encoding import digest_of_encoder
from daskgd.rows.subsets import Subset
from daskgd.solvers import Gram
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


class SharedSearch:
    """What searches have in common: candidates, splits and the refit share the reads of the data."""

    estimator: Any
    scoring: Any
    refit: Any
    cv: Any
    error_score: Any
    return_train_score: bool
    verbose: int

    def _candidates(self) -> Iterable[Mapping[str, Any]]:
        raise NotImplementedError

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        sample_weight: Any = None,
        groups: Any = None,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        every: int | str = 1,
        watch: Watcher | Sequence[Watcher] | None = None,
    ) -> Self:
        """Fit all candidates on all splits, score them, and fit the best to all rows.

        Parameters
        ----------
        X, y :
            As of the estimator's ``fit``; y is None where X is a Dataset or path that holds its own target.
        sample_weight : array ``(n,)``, optional
            For fits and scores, as in scikit-learn.
        groups : array ``(n,)``, optional
            For splitters that go by groups.
        checkpoint, every, watch :
            As of the estimator's ``fit``. A search that is resumed ends with the same scores, bit for bit,
            and repeats no sweep of a fit that was kept.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            Where all fits fail, or one does and ``error_score="raise"``.
        """
        kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
        self._check_search()
        if is_in_memory(X) and not isinstance(self.estimator, Estimator):
            if kept is not None or watchers:
                raise ValueError(
                    f"{type(self).__name__}: expected checkpoint=None and watch=None for "
                    f"{type(self.estimator).__name__} and rows in memory, which go scikit-learn's own way"
                )
            given = {"sample_weight": sample_weight, "groups": groups}
            own: Any = super()
            scoring, self.scoring = self.scoring, for_rows_in_memory(self.scoring)
            try:
                own.fit(X, y, **{k: v for k, v in given.items() if v is not None})
            finally:
                self.scoring = scoring
            return self
        self._check_estimator()
        with table_of(self.estimator, X, y, {"sample_weight": sample_weight}, type(self).__name__) as dataset:
            rows = (dataset, None, None) if isinstance(self.estimator, Pipeline) else (X, y, sample_weight)
            self._fit_dataset(dataset, groups, kept, watchers, rows)
        return self

    def _fit_dataset(
        self,
        dataset: Dataset,
        groups: Any,
        checkpoint: Checkpoint | None,
        watch: Sequence[Watcher],
        rows: tuple[Any, Any, Any],
    ) -> None:
        """Search on a data set, and fit the best to what `rows` says of X, y and sample_weight."""
        scorers, single = named_scorers(self.scoring, self.estimator)
        self._check_refit(scorers, single)
        classifier = is_classifier(self.estimator)
        splits = splits_of(self.cv, dataset, classifier, groups)
        self.n_splits_ = len(splits)
        work = SearchRun(self, dataset, scorers, splits, checkpoint, watch)
        name = f"{type(self).__name__} of {type(self.estimator).__name__}"
        with report_search(client_of(work.engine), name, dataset.n_rows, dataset.n_features) as tell:
            work.tell = tell
            self._search(work)
            self.cv_results_ = work.results()
        self.multimetric_ = not single
        self.scorer_ = next(iter(scorers.values())) if single else dict(scorers)
        if self.refit or single:
            self._choose("score" if single else self.refit)
        if self.refit:
            started = time.perf_counter()
            self.best_estimator_ = work.refit(self.best_params_, *rows)
            self.refit_time_ = time.perf_counter() - started
            if hasattr(self.best_estimator_, "feature_names_in_"):
                self.feature_names_in_ = self.best_estimator_.feature_names_in_

    def plan(self, X: Any, y: Any = None, *, groups: Any = None) -> SearchPlan:
        """Plan what ``fit`` would do with this data: fits, reads, seconds, memory. Trains nothing.

        Parameters
        ----------
        X, y, groups :
            As for ``fit``.

        Returns
        -------
        SearchPlan
            Print it; its numbers are attributes. Of one fit they are those of the first candidate that can be
            fitted.

        Raises
        ------
        ValueError
            Where no candidate can be.
        """
        self._check_search()
        self._check_estimator()
        with table_of(self.estimator, X, y, None, type(self).__name__) as dataset:
            return self._plan_of(dataset, groups)

    def _plan_of(self, dataset: Dataset, groups: Any) -> SearchPlan:
        candidates = list(self._candidates())
        splits = splits_of(self.cv, dataset, is_classifier(self.estimator), groups)
        made = [clone(self.estimator).set_params(**clone(dict(one), safe=False)) for one in candidates]
        fit, n_sweeps, shared, encoded = _first_plan(made, dataset)
        encoders = {digest_of_encoder(one._specification()) for one in made} if encoded else {""}
        scorers, _ = named_scorers(self.scoring, self.estimator)
        by_moments = shared and isinstance(fit.solver, Gram) and told_by_moments(scorers)
        return SearchPlan.of(
            type(self).__name__,
            len(candidates),
            len(splits),
            bool(self.refit),
            shared or encoded,
            not by_moments,
            fit,
            encoder_sweeps=n_sweeps if encoded else None,
            n_views=len(encoders) * len(splits),
        )

    def _search(self, work: SearchRun) -> None:
        """Try the candidates."""
        work.evaluate(list(self._candidates()), work.splits)

    def _choose(self, metric: str) -> None:
        """Set which candidate is the best."""
        if callable(self.refit):
            index = self.refit(self.cv_results_)
            if not isinstance(index, int | np.integer):
                raise TypeError("best_index_ returned is not an integer")
            if not 0 <= index < len(self.cv_results_["params"]):
                raise IndexError("best_index_ index out of range")
            self.best_index_ = int(index)
        else:
            self.best_index_ = int(self.cv_results_[f"rank_test_{metric}"].argmin())
            self.best_score_ = float(self.cv_results_[f"mean_test_{metric}"][self.best_index_])
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _check_search(self) -> None:
        name = type(self).__name__
        refuse_jobs(
            name, getattr(self, "n_jobs", None), getattr(self, "pre_dispatch", "2*n_jobs"), "2*n_jobs"
        )
        if not (self.error_score == "raise" or isinstance(self.error_score, float | int | np.number)):
            raise ValueError(
                f"{name}: expected error_score to be 'raise' or a number, got {self.error_score!r}"
            )

    @property
    def _searched(self) -> str:
        """The name of the estimators that are tried."""
        return type(self.estimator).__name__

    def _check_estimator(self) -> None:
        if isinstance(self.estimator, Estimator | Pipeline):
            return
        name, over = type(self.estimator).__name__, getattr(self.estimator, "_searched", None)
        instead = "take daskgd's of the same name"
        if over is not None:
            instead = (
                f"search over {over}, with all parameters in one search, or score {name} with cross_validate"
            )
        raise TypeError(
            f"{type(self).__name__}: expected an estimator of daskgd's or a daskgd.Pipeline for rows "
            f"that are not in memory, got {name}; {instead}"
        )

    def _check_refit(self, scorers: Mapping[str, Any], single: bool) -> None:
        if single or not self.refit or callable(self.refit) or self.refit in scorers:
            return
        raise ValueError(
            "For multi-metric scoring, the parameter refit must be set to a scorer key or a callable to "
            "refit an estimator with the best parameter setting on the whole data; expected one of "
            f"{sorted(scorers)}, or False, got {self.refit!r}"
        )

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score the best estimator by `scoring`, in one sweep.

        Parameters
        ----------
        X, y, sample_weight :
            As of ``fit``.

        Returns
        -------
        float
        """
        if not self.refit:
            raise AttributeError(f"{type(self).__name__}: score needs a best estimator: fit with refit=True")
        scorers, single = named_scorers(self.scoring, self.best_estimator_)
        name = "score" if single else self.refit
        scoring = scorers[name] if name in scorers else next(iter(scorers.values()))
        only = {"score": scoring}
        found = evaluate(self.best_estimator_, X, y, scoring=only, sample_weight=sample_weight)
        return float(found["score"])


class SearchRun:
    """A search while it runs: the data, the splits, and what is known of candidates so far."""

    def __init__(
        self,
        search: Any,
        dataset: Dataset,
        scorers: Mapping[str, Any],
        splits: Sequence[Split],
        checkpoint: Checkpoint | None,
        watch: Sequence[Watcher],
    ) -> None:
        self.search, self.dataset, self.scorers = search, dataset, scorers
        self.splits, self.checkpoint, self.watch = splits, checkpoint, watch
        self.known = FirstSweepAnswers()
        self.params: list[Mapping[str, Any]] = []
        self.trials: list[list[Trial]] = []
        self.more: dict[str, list[Any]] = {}
        self.engine = _engine_of(search.estimator)
        self.tell: Callable[..., None] = lambda rows: None
        self._round = 0
        self.cells = splits[0].train.cells

    def evaluate(
        self,
        params: Sequence[Mapping[str, Any]],
        splits: Sequence[Split],
        more: Mapping[str, Any] | None = None,
    ) -> list[list[Trial]]:
        """Fit and score candidates on splits: of each candidate its trials."""
        if not params:
            raise ValueError("No fits were performed: expected at least one candidate, got none")
        search = self.search
        if search.verbose > 0:
            print(
                f"Fitting {len(splits)} folds for each of {len(params)} candidates, totalling "
                f"{len(params) * len(splits)} fits"
            )
        names = [_said(one) for one in params]
        self.tell([*self._rows(), *((name, "being fitted", np.nan, np.nan, 0) for name in names)])
        found = try_candidates(
            [partial(self._candidate, one) for one in params],
            splits,
            self.dataset,
            self.scorers,
            checkpoint=self._checkpoint(f"round-{self._round}"),
            watch=self.watch,
            known=self.known,
            names=names,
            return_train_score=search.return_train_score,
            error_score=search.error_score,
        )
        self.params += params
        self.trials += found
        for name, values in (more or {}).items():
            self.more.setdefault(name, []).extend(values)
        self._round += 1
        self.cells = splits[0].train.cells
        self.tell(self._rows())
        return found

    def _rows(self) -> list[tuple[str, str, float, float, int]]:
        """The candidates so far for the dashboard, the best first."""
        name = next(iter(self.scorers))
        scores = [[trial.test[name] for trial in row] for row in self.trials]
        means = [float(np.mean(one)) for one in scores]
        order = np.argsort([np.inf if np.isnan(mean) else -mean for mean in means], kind="stable")
        return [
            (_said(self.params[i]), "scored", means[i], float(np.std(scores[i])), rank + 1)
            for rank, i in enumerate(order.tolist())
        ]

    def _candidate(self, params: Mapping[str, Any]) -> Any:
        return clone(self.search.estimator).set_params(**clone(dict(params), safe=False))

    def _checkpoint(self, name: str) -> Checkpoint | None:
        return within(self.checkpoint, name)

    def results(self) -> dict[str, Any]:
        """The table of all candidates."""
        return results_table(
            self.params, self.trials, list(self.scorers), self.search.return_train_score, self.more
        )

    def refit(self, params: Mapping[str, Any], X: Any, y: Any, sample_weight: Any) -> Any:
        """The best candidate, fitted to all rows."""
        estimator = self._candidate(params)
        given: dict[str, Any] = {"watch": self.watch} if isinstance(estimator, Estimator) else {}
        if self.checkpoint is not None:
            given["checkpoint"] = self._checkpoint("refit")
        if sample_weight is not None:
            given["sample_weight"] = sample_weight
        if not self.dataset.in_this_process and shares_sweeps(estimator, self.dataset):
            estimator._subset = Subset(self.cells, (True,) * self.cells.n_cells)
            estimator._known = self.known
        try:
            return estimator.fit(X, y, **given)
        finally:
            vars(estimator).pop("_subset", None)
            vars(estimator).pop("_known", None)


def _first_plan(made: Sequence[Any], dataset: Dataset) -> tuple[Plan, int, bool, bool]:
    """The plan of the first candidate that has one: of a fit, the sweeps of its encoders, and whether fits
    share sweeps, of the stored rows or of encoded ones. Where none has, the first error is raised."""
    errors: list[Exception] = []
    for one in made:
        try:
            shared = shares_sweeps(one, dataset)
            if not shared and shares_encoded_sweeps(one, dataset):
                return *one._plan_of(dataset), False, True
            return one.plan(dataset), 0, shared, False
        except (ValueError, TypeError) as error:
            errors.append(error)
    raise errors[0]


def _said(params: Mapping[str, Any]) -> str:
    """The settings of a candidate in a few words."""
    parts = (
        f"{name}={value:.6g}" if isinstance(value, float) else f"{name}={value}"
        for name, value in params.items()
    )
    return ", ".join(parts) or "as given"


def _engine_of(estimator: Any) -> Any:
    """The engine of an estimator, or of the last step of a pipeline."""
    return getattr(estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator, "engine", None)


class GridSearchCV(SharedSearch, model_selection.GridSearchCV):
    """Search of a grid of parameters by cross-validation, scikit-learn's, in shared reads of the data.

    Candidates, folds and classes are fitted together: each read of the data answers what all of them ask
    next, and one more scores them all. Folds are subsets of row numbers, so that no row is copied. What the
    data alone determine of all folds is summed once, fold by fold.

    Parameters
    ----------
    estimator : estimator of daskgd's, or a :class:`daskgd.Pipeline`
    param_grid : dict, or list of them
    scoring : str, callable, list, tuple or dict, optional
        See :mod:`daskgd.metrics`; None for the estimator's own ``score``.
    n_jobs : None or -1
        Blocks run on the engine, on all its threads.
    refit : bool, str or callable
    cv : int, splitter, iterable or None
        None is 5 folds, and a number so many, scikit-learn's: in order, stratified for classifiers. A
        splitter of :mod:`daskgd.model_selection` or scikit-learn, or pairs of row positions or masks.
    verbose : int
    pre_dispatch : str
        To be left out.
    error_score : "raise" or a number
    return_train_score : bool

    Attributes
    ----------
    cv_results_ : dict
        As scikit-learn's; seconds are those of shared sweeps, divided by their fits.
    best_estimator_, best_score_, best_params_, best_index_, scorer_, n_splits_, refit_time_ :
        As scikit-learn's.
    multimetric_, classes_, n_features_in_, feature_names_in_ :
        As scikit-learn's.

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import GridSearchCV
    >>> X = np.arange(40.0).reshape(20, 2) % 7
    >>> y = X @ [1.0, -2.0]
    >>> search = GridSearchCV(daskgd.Ridge(), {"alpha": [0.01, 1.0, 100.0]}).fit(X, y)
    >>> search.best_params_
    {'alpha': 0.01}
    """

    def _candidates(self) -> Iterable[Mapping[str, Any]]:
        return model_selection.ParameterGrid(self.param_grid)


class RandomizedSearchCV(SharedSearch, model_selection.RandomizedSearchCV):
    """Search of random parameters by cross-validation, scikit-learn's, in shared reads of the data.

    See :class:`GridSearchCV`.

    Parameters
    ----------
    estimator, scoring, n_jobs, refit, cv, verbose, pre_dispatch, error_score, return_train_score :
        As of :class:`GridSearchCV`.
    param_distributions : dict, or list of them
    n_iter : int
    random_state : int, RandomState or None

    Examples
    --------
    >>> import daskgd
    >>> from daskgd.model_selection import RandomizedSearchCV
    >>> X = np.arange(40.0).reshape(20, 2) % 7
    >>> search = RandomizedSearchCV(daskgd.Ridge(), {"alpha": [0.01, 1.0, 100.0]}, n_iter=2, random_state=0)
    >>> len(search.fit(X, X @ [1.0, -2.0]).cv_results_["params"])
    2
    """

    def _candidates(self) -> Iterable[Mapping[str, Any]]:
        return model_selection.ParameterSampler(
            self.param_distributions, self.n_iter, random_state=self.random_state
        )
