"""Lasso and elastic net that choose their penalty by cross-validation, scikit-learn's: from the second
moments of each fold in one read of the data, else by fits that share sweeps."""

from __future__ import annotations

import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice, open_engine
from daskgd.estimators import ElasticNet, Lasso
from daskgd.estimators.fitting.run import FirstSweepAnswers
from daskgd.model_selection.fits import Member, fit_members, within
from daskgd.model_selection.from_moments import errors_from_moments, largest_penalty, path_from_moments
from daskgd.model_selection.given import dataset_of, refuse_jobs
from daskgd.model_selection.scores import Trial, named_scorers, score_trials
from daskgd.model_selection.searched import SearchedLeastSquares, all_rows, shared_parameters
from daskgd.model_selection.splitters import Split, splits_of
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.queries import Ask, Residuals, SecondMoments
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


class PathCV(SearchedLeastSquares):
    """Cross-validation along paths of L1 penalties."""

    def _estimator(self, alpha: float, ratio: float) -> Any:
        raise NotImplementedError

    def _l1_ratios(self) -> Array:
        raise NotImplementedError

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        every: int | str = 1,
        watch: Watcher | Sequence[Watcher] | None = None,
    ) -> Self:
        """Choose the penalty by cross-validation, and fit with it to all rows.

        Parameters
        ----------
        X, y, sample_weight, checkpoint, every, watch :
            As of :meth:`Lasso.fit`. Weights count in the mean squared errors of folds, too, as in
            scikit-learn.

        Returns
        -------
        self
        """
        given: Any = self
        kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
        refuse_jobs(type(self).__name__, given.n_jobs, "", "")
        data = dataset_of(X, y, {"sample_weight": sample_weight}, type(self).__name__)
        y_shape = () if data.columns.y is None else data.columns.y.shape
        if len(y_shape) == 2 and y_shape[1] > 1:
            raise ValueError(
                f"{type(self).__name__}: expected one target, got y of shape {y_shape}; fit one for each "
                "column"
            )
        splits = splits_of(given.cv, data)
        everything = all_rows(splits)
        known, ratios = FirstSweepAnswers(), self._l1_ratios()
        probe = Member(self._estimator(1.0, float(ratios[0])), everything)
        fit_members([probe], data, known=known)  # whose first sweep is that of all
        if probe.error is not None:
            raise probe.error
        moments = known.of_kind(SecondMoments, everything)
        largest = (
            largest_penalty(moments, given.fit_intercept, given.positive)
            if moments is not None
            else largest_by_sweep(probe.estimator, data, given.fit_intercept, given.positive)
        )
        alphas = [penalties(given.alphas, given.eps, largest, ratio) for ratio in ratios]
        if given.verbose > 0:
            print(f"Fitting {len(splits)} folds for each of {sum(map(len, alphas))} penalties")
        reads: float = 0
        errors = self._errors_by_moments(splits, ratios, alphas, known)
        if errors is None:
            errors, reads = self._errors_by_fits(
                splits, ratios, alphas, data, known, within(kept, "folds"), watchers
            )
        errors = errors.reshape(len(splits), len(ratios), len(alphas[0])).transpose(1, 2, 0)
        means = errors.mean(axis=2)
        i, j = np.unravel_index(int(np.argmin(means)), means.shape)
        self.mse_path_ = np.squeeze(errors, axis=0) if len(ratios) == 1 else errors
        self.alpha_ = float(alphas[i][j])
        several = isinstance(given.alphas, Integral) and len(ratios) > 1
        self.alphas_ = np.array(alphas) if several else alphas[0]
        best = Member(self._estimator(self.alpha_, float(ratios[i])), everything)
        fit_members([best], data, checkpoint=within(kept, "refit"), watch=watchers, known=known)
        if best.error is not None:
            raise best.error
        self._take(best.estimator)
        if hasattr(X, "columns") and hasattr(probe.estimator, "feature_names_in_"):
            self.feature_names_in_ = probe.estimator.feature_names_in_
        self.dual_gap_, self.n_iter_ = getattr(best.estimator, "dual_gap_", np.nan), best.estimator.n_iter_
        self.n_sweeps_ = probe.estimator.n_sweeps_ + reads + best.estimator.n_sweeps_
        self._best_ratio = float(ratios[i])
        return self

    def _errors_by_moments(
        self, splits: Sequence[Split], ratios: Array, alphas: Sequence[Array], known: FirstSweepAnswers
    ) -> Array | None:
        """The mean squared errors of all fits, split by split, ratio by ratio, from second moments alone;
        None where they do not tell all of them."""
        given: Any = self
        if given.solver not in ("auto", "gram"):
            return None
        out = []
        for split in splits:
            train, test = (known.of_kind(SecondMoments, side) for side in split)
            if train is None or test is None:
                return None
            for ratio, path in zip(ratios, alphas, strict=True):
                coef, intercept = path_from_moments(train, path, ratio, given.fit_intercept, given.positive)
                found = None if coef is None else errors_from_moments(test, coef, intercept)
                if found is None:
                    return None
                out.append(found)
        return np.concatenate(out)

    def _errors_by_fits(
        self,
        splits: Sequence[Split],
        ratios: Array,
        alphas: Sequence[Array],
        data: Dataset,
        known: FirstSweepAnswers,
        checkpoint: Checkpoint | None,
        watch: Sequence[Watcher],
    ) -> tuple[Array, float]:
        """The same, by fits that share sweeps and a sweep that scores them; and how many sweeps."""
        trials = [
            Trial(Member(self._estimator(alpha, float(ratio)), split.train), split)
            for split in splits
            for ratio, path in zip(ratios, alphas, strict=True)
            for alpha in path.tolist()
        ]
        members = [trial.member for trial in trials]
        fit_members(members, data, checkpoint=checkpoint, watch=watch, known=known)
        scorers, _ = named_scorers("neg_mean_squared_error", members[0].estimator)
        reads = score_trials(trials, data, scorers, engine=self.engine, error_score="raise")
        (name,) = scorers
        errors = np.array([-trial.test[name] for trial in trials])
        return errors, reads + max(member.estimator.n_sweeps_ for member in members)


def penalties(alphas: Any, eps: float, largest: float, ratio: float) -> Array:
    """The penalties to try, strongest first: those that are given, or so many in a geometric sequence from
    the least that leaves no coefficient."""
    if not isinstance(alphas, Integral):
        found = np.sort(np.asarray(alphas, dtype=float).ravel())[::-1]
        if not len(found) or not (np.isfinite(found) & (found >= 0)).all():
            raise ValueError(f"alphas: expected a whole number, or penalties >= 0, got {alphas!r}")
        return found
    if alphas < 1:
        raise ValueError(f"alphas: expected at least 1, got {alphas!r}")
    if not ratio > 0:
        raise ValueError(
            "Automatic alpha grid generation is not supported for l1_ratio=0. Please supply a grid by "
            "providing your estimator with the appropriate `alphas=` argument."
        )
    top, least = largest / ratio, np.finfo(float).resolution
    if top <= least:
        return np.full(int(alphas), least)
    return np.geomspace(top, top * eps, num=int(alphas))


def largest_by_sweep(estimator: Any, dataset: Any, fit_intercept: bool, positive: bool) -> float:
    """The least penalty that leaves no coefficient, by two sweeps, where second moments are too many."""
    rows = estimator._dataset(dataset, None, None)
    p = rows.n_features
    with open_engine(rows, estimator.engine) as (engine, _):
        survey = engine.sweep([Ask(None, estimator._survey())])[0]
        center = survey.X.mean if fit_intercept else np.zeros(p)
        target = survey.y.mean if fit_intercept else np.zeros(1)
        cross = -engine.sweep([Ask(None, Residuals(np.zeros((p, 1)), center, target))])[0][2][:, 0]
    return float(max(0.0, cross.max(initial=0.0)) if positive else np.abs(cross).max(initial=0.0))


class ElasticNetCV(PathCV):
    """Elastic net whose penalty is chosen by cross-validation, in one read of the data.

    Minimises ``(1 / 2W) sum_i s_i (y_i - x_i w - b)**2 + alpha (r |w|_1 + (1 - r) |w|**2 / 2)``, with the
    `alpha` and r of the least mean squared error on held-out rows, averaged over the folds. Fits, errors and
    the refit come from the second moments of each fold where p is some thousands at most; else from a few
    shared sweeps.

    Parameters
    ----------
    l1_ratio : float or sequence of them
        The r to try.
    eps : float
        The weakest of automatic penalties, relative to the strongest.
    alphas : int or sequence
        Penalties to try, or how many, in a geometric sequence below the least that leaves no coefficient.
    fit_intercept, precompute, max_iter, tol, copy_X, positive, random_state, selection :
        As of :class:`daskgd.ElasticNet`.
    solver, memory, engine :
        As of :class:`daskgd.ElasticNet`.
    cv : int, splitter, iterable or None
        As of :class:`daskgd.model_selection.GridSearchCV`.
    verbose : int
    n_jobs : None or -1

    Attributes
    ----------
    alpha_, l1_ratio_ : float
    coef_, intercept_, n_iter_, dual_gap_ :
        Of the fit to all rows.
    mse_path_ : ``(m, n_splits)`` or ``(n_ratios, m, n_splits)``
    alphas_ : ``(m,)`` or ``(n_ratios, m)``
    best_estimator_ : ElasticNet
    n_sweeps_ : int
        Reads of the data.

    Examples
    --------
    >>> from daskgd.model_selection import ElasticNetCV
    >>> X = np.arange(60.0).reshape(20, 3) % 7
    >>> est = ElasticNetCV(alphas=[0.001, 0.1, 10.0]).fit(X, X @ [1.0, -2.0, 0.0] + np.sin(np.arange(20)))
    >>> est.alpha_, est.n_sweeps_
    (0.001, 1)
    """

    def __init__(
        self,
        *,
        l1_ratio: float | Sequence[float] = 0.5,
        eps: float = 1e-3,
        alphas: int | Sequence[float] = 100,
        fit_intercept: bool = True,
        precompute: bool = False,
        max_iter: int = 1000,
        tol: float = 1e-6,
        cv: Any = None,
        copy_X: bool = True,
        verbose: int = 0,
        n_jobs: int | None = None,
        positive: bool = False,
        random_state: int | None = None,
        selection: str = "cyclic",
        solver: Any = "auto",
        memory: Any = "auto",
        engine: Choice = None,
    ) -> None:
        self.l1_ratio = l1_ratio
        self.eps = eps
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.max_iter = max_iter
        self.tol = tol
        self.cv = cv
        self.copy_X = copy_X
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.positive = positive
        self.random_state = random_state
        self.selection = selection
        self.solver = solver
        self.memory = memory
        self.engine = engine

    def _l1_ratios(self) -> Array:
        return np.atleast_1d(np.asarray(self.l1_ratio, dtype=float))

    def _estimator(self, alpha: float, ratio: float) -> Any:
        return ElasticNet(alpha, l1_ratio=ratio, **shared_parameters(self, ElasticNet))

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, **options: Any) -> Self:
        super().fit(X, y, sample_weight, **options)
        self.l1_ratio_ = self._best_ratio
        return self

    fit.__doc__ = PathCV.fit.__doc__


class LassoCV(PathCV):
    """Lasso whose penalty is chosen by cross-validation, in one read of the data.

    Minimises ``(1 / 2W) sum_i s_i (y_i - x_i w - b)**2 + alpha |w|_1``; see :class:`ElasticNetCV`.

    Parameters
    ----------
    eps, alphas, fit_intercept, precompute, max_iter, tol, copy_X, cv, verbose, n_jobs :
        As of :class:`ElasticNetCV`.
    positive, random_state, selection, solver, memory, engine :
        As of :class:`ElasticNetCV`.

    Attributes
    ----------
    alpha_, coef_, intercept_, mse_path_, alphas_, dual_gap_, n_iter_, best_estimator_, n_sweeps_ :
        As of :class:`ElasticNetCV`.

    Examples
    --------
    >>> from daskgd.model_selection import LassoCV
    >>> X = np.arange(60.0).reshape(20, 3) % 7
    >>> LassoCV(alphas=[0.001, 0.1, 10.0]).fit(X, X @ [1.0, -2.0, 0.0]).alpha_
    0.001
    """

    def __init__(
        self,
        *,
        eps: float = 1e-3,
        alphas: int | Sequence[float] = 100,
        fit_intercept: bool = True,
        precompute: bool = False,
        max_iter: int = 1000,
        tol: float = 1e-6,
        copy_X: bool = True,
        cv: Any = None,
        verbose: int = 0,
        n_jobs: int | None = None,
        positive: bool = False,
        random_state: int | None = None,
        selection: str = "cyclic",
        solver: Any = "auto",
        memory: Any = "auto",
        engine: Choice = None,
    ) -> None:
        self.eps = eps
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.max_iter = max_iter
        self.tol = tol
        self.copy_X = copy_X
        self.cv = cv
        self.verbose = verbose
        self.n_jobs = n_jobs
        self.positive = positive
        self.random_state = random_state
        self.selection = selection
        self.solver = solver
        self.memory = memory
        self.engine = engine

    def _l1_ratios(self) -> Array:
        return np.ones(1)

    def _estimator(self, alpha: float, ratio: float) -> Any:
        return Lasso(alpha, **shared_parameters(self, Lasso))
