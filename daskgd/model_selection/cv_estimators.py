"""Estimators that choose their penalty by cross-validation, scikit-learn's, in few reads of the data: for least
squares one, from the second moments of each fold."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice, open_engine
from daskgd.estimators import ElasticNet, Lasso, LogisticRegression, Ridge
from daskgd.estimators.fitting.run import FirstSweepAnswers
from daskgd.metrics.evaluation import evaluate
from daskgd.model_selection.fits import Member, fit_members, within
from daskgd.model_selection.from_moments import errors_from_moments, largest_penalty, path_from_moments
from daskgd.model_selection.given import dataset_of, refuse_jobs
from daskgd.model_selection.scores import Trial, named_scorers, score_trials
from daskgd.model_selection.splitters import Split, splits_of, targets
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.queries import Ask, Residuals, SecondMoments
from daskgd.queries.leave_one_out import LeaveOneOut
from daskgd.rows.subsets import ListedCells, Subset
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


class SearchedEstimator(BaseEstimator):
    """Base of the estimators that choose their penalty: they predict as the best one does, which is kept as
    ``best_estimator_``."""

    _copied: ClassVar[tuple[str, ...]] = (
        *("coef_", "intercept_", "classes_", "n_features_in_", "feature_names_in_"),
        *("gap_", "history_", "outcome_"),
    )

    def _take(self, best: Any) -> None:
        self.best_estimator_ = best
        for name in self._copied:
            if hasattr(best, name):
                setattr(self, name, getattr(best, name))
            elif hasattr(self, name):
                delattr(self, name)

    def predict(self, X: Any) -> Any:
        """Predict as the best estimator does: numpy for rows in memory, a lazy dask array for others."""
        check_is_fitted(self)
        return self.best_estimator_.predict(X)

    def to_sklearn(self) -> Any:
        """Make a fitted estimator of scikit-learn of the chosen penalty, as ``best_estimator_.to_sklearn()``."""
        check_is_fitted(self)
        return self.best_estimator_.to_sklearn()

    def save(self, path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        """Write the best estimator to one file; :func:`daskgd.load_model` reads it."""
        check_is_fitted(self)
        self.best_estimator_.save(path, storage_options=storage_options)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


# -- least squares -------------------------------------------------------------------------------


class _LeastSquaresCV(RegressorMixin, SearchedEstimator):
    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score the best estimator: R2, in one sweep."""
        check_is_fitted(self)
        return float(self.best_estimator_.score(X, y, sample_weight))


class _PathCV(_LeastSquaresCV):
    """Cross-validation along paths of L1 penalties."""

    _ratios: ClassVar[tuple[float, ...] | None] = None

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
            As of :meth:`Lasso.fit`. Weights count in the mean squared errors of folds, too, as in scikit-learn.

        Returns
        -------
        self
        """
        given: Any = self
        kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
        refuse_jobs(type(self).__name__, given.n_jobs, "", "")
        data = dataset_of(X, y, {"sample_weight": sample_weight}, type(self).__name__)
        splits = splits_of(given.cv, data)
        everything = _all_rows(splits)
        known, ratios = FirstSweepAnswers(), self._l1_ratios()
        probe = Member(self._estimator(1.0, float(ratios[0])), everything)
        fit_members([probe], data, known=known)  # whose first sweep is that of all
        if probe.error is not None:
            raise probe.error
        moments = known.of_kind(SecondMoments, everything)
        largest = (
            largest_penalty(moments, given.fit_intercept, given.positive)
            if moments is not None
            else _largest_by_sweep(probe.estimator, data, given.fit_intercept, given.positive)
        )
        alphas = [_alphas(given.alphas, given.eps, largest, ratio) for ratio in ratios]
        errors, reads = self._errors_by_moments(splits, ratios, alphas, known), 0
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
        """The mean squared errors of all fits, split by split, ratio by ratio, from second moments alone; None
        where they do not tell all of them."""
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
        reads = score_trials(trials, data, scorers, engine=self.engine, error_score="raise")  # type: ignore[attr-defined]
        (name,) = scorers
        errors = np.array([-trial.test[name] for trial in trials])
        return errors, reads + max(member.estimator.n_sweeps_ for member in members)


def _all_rows(splits: Sequence[Split]) -> Subset:
    cells = splits[0].train.cells
    return Subset(cells, (True,) * cells.n_cells)


def _alphas(alphas: Any, eps: float, largest: float, ratio: float) -> Array:
    """The penalties to try, strongest first: those that are given, or so many in a geometric sequence from the
    least that leaves no coefficient."""
    if not isinstance(alphas, Integral):
        found = np.sort(np.asarray(alphas, dtype=float).ravel())[::-1]
        if not len(found) or not (np.isfinite(found) & (found >= 0)).all():
            raise ValueError(f"alphas: expected a whole number, or penalties >= 0, got {alphas!r}")
        return found
    if alphas < 1:
        raise ValueError(f"alphas: expected at least 1, got {alphas!r}")
    if not ratio > 0:
        raise ValueError(
            "Automatic alpha grid generation is not supported for l1_ratio=0. Please supply a grid by providing your "
            "estimator with the appropriate `alphas=` argument."
        )
    top, least = largest / ratio, np.finfo(float).resolution
    if top <= least:
        return np.full(int(alphas), least)
    return np.geomspace(top, top * eps, num=int(alphas))


def _largest_by_sweep(estimator: Any, dataset: Any, fit_intercept: bool, positive: bool) -> float:
    rows = estimator._dataset(dataset, None, None)
    p = rows.n_features
    with open_engine(rows, estimator.engine) as (engine, materialised):
        survey = engine.sweep([Ask(None, estimator._survey())])[0]
        center = survey.X.mean if fit_intercept else np.zeros(p)
        target = survey.y.mean if fit_intercept else np.zeros(1)
        cross = -engine.sweep([Ask(None, Residuals(np.zeros((p, 1)), center, target))])[0][2][:, 0]
        del materialised
    return float(max(0.0, cross.max(initial=0.0)) if positive else np.abs(cross).max(initial=0.0))


class ElasticNetCV(_PathCV):
    """Elastic net whose penalty is chosen by cross-validation, in one read of the data.

    Minimises ``(1 / 2W) sum_i s_i (y_i - x_i w - b)**2 + alpha (r |w|_1 + (1 - r) |w|**2 / 2)``, with the `alpha`
    and r of the least mean squared error on held-out rows, averaged over the folds. Fits, errors and the refit
    come from the second moments of each fold where p is some thousands at most; else from a few shared sweeps.

    Parameters
    ----------
    l1_ratio : float or sequence of them
        The r to try.
    eps : float
        The weakest of automatic penalties, relative to the strongest.
    alphas : int or sequence
        Penalties to try, or how many, in a geometric sequence below the least that leaves no coefficient.
    fit_intercept, precompute, max_iter, tol, copy_X, positive, random_state, selection, solver, memory, engine :
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
        return ElasticNet(alpha, l1_ratio=ratio, **_shared_with(self, ElasticNet))

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, **options: Any) -> Self:
        super().fit(X, y, sample_weight, **options)
        self.l1_ratio_ = self._best_ratio
        return self

    fit.__doc__ = _PathCV.fit.__doc__


class LassoCV(_PathCV):
    """Lasso whose penalty is chosen by cross-validation, in one read of the data.

    Minimises ``(1 / 2W) sum_i s_i (y_i - x_i w - b)**2 + alpha |w|_1``; see :class:`ElasticNetCV`.

    Parameters
    ----------
    eps, alphas, fit_intercept, precompute, max_iter, tol, copy_X, cv, verbose, n_jobs, positive, random_state,
    selection, solver, memory, engine :
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
        return Lasso(alpha, **_shared_with(self, Lasso))


def _shared_with(estimator: Any, kind: type) -> dict[str, Any]:
    """The parameters that an estimator has in common with others of a kind, without what is searched."""
    names = kind().get_params()  # type: ignore[attr-defined]
    own = estimator.get_params(deep=False)
    return {k: v for k, v in own.items() if k in names and k not in ("alpha", "l1_ratio", "C", "verbose")}


class RidgeCV(MultiOutputMixin, _LeastSquaresCV):
    """Ridge regression whose penalty is chosen by cross-validation: leave-one-out, or on folds.

    Minimises ``sum_i s_i (y_i - x_i w - b)**2 + alpha |w|**2`` with the best `alpha`. Leave-one-out takes two
    reads: the second moments, then the residual ``e_i / (1 - h_i)`` of each row without itself, h_i its leverage
    under each penalty. On folds it is one read where `scoring` is R2 or a squared error, else two.

    Parameters
    ----------
    alphas : sequence of float > 0
    fit_intercept : bool
    scoring : str or scorer, optional
        None is the negative mean squared error for leave-one-out, R2 on folds. Leave-one-out takes
        "neg_mean_squared_error", "neg_root_mean_squared_error", "r2" and "explained_variance".
    cv : int, splitter, iterable or None
        None is leave-one-out.
    gcv_mode : None, "auto", "svd" or "eigen"
        As scikit-learn's; all of them are the same numbers, here by the eigenvalues of the second moments.
    store_cv_results : False
        Squared errors of every row are not kept.
    alpha_per_target : bool
        Whether each target has a penalty of its own; for leave-one-out.
    solver, tol, memory, engine :
        As of :class:`daskgd.Ridge`.

    Attributes
    ----------
    alpha_ : float or ``(k,)``
    best_score_ : float or ``(k,)``
    coef_, intercept_ :
        Of the fit to all rows.
    best_estimator_ : Ridge
    n_sweeps_ : int
        Reads of the data.

    Examples
    --------
    >>> from daskgd.model_selection import RidgeCV
    >>> X = np.arange(60.0).reshape(20, 3) % 7
    >>> RidgeCV(alphas=[0.01, 1.0, 100.0]).fit(X, X @ [1.0, -2.0, 0.0]).alpha_
    0.01
    """

    def __init__(
        self,
        alphas: Any = (0.1, 1.0, 10.0),
        *,
        fit_intercept: bool = True,
        scoring: Any = None,
        cv: Any = None,
        gcv_mode: str | None = None,
        store_cv_results: bool = False,
        alpha_per_target: bool = False,
        solver: Any = "auto",
        tol: float = 1e-6,
        memory: Any = "auto",
        engine: Choice = None,
    ) -> None:
        self.alphas = alphas
        self.fit_intercept = fit_intercept
        self.scoring = scoring
        self.cv = cv
        self.gcv_mode = gcv_mode
        self.store_cv_results = store_cv_results
        self.alpha_per_target = alpha_per_target
        self.solver = solver
        self.tol = tol
        self.memory = memory
        self.engine = engine

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
            As of :meth:`Ridge.fit`. Weights count in scores, too, as in scikit-learn.

        Returns
        -------
        self
        """
        kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
        alphas = np.atleast_1d(np.asarray(self.alphas, dtype=float))
        if alphas.ndim != 1 or not len(alphas) or not (alphas > 0).all():
            raise ValueError(f"alphas: expected penalties > 0, got {self.alphas!r}")
        if self.store_cv_results:
            raise ValueError(
                "RidgeCV: expected store_cv_results=False, got True: errors of every row are not kept; compute them "
                "with cross_val_predict"
            )
        if self.gcv_mode not in (None, "auto", "svd", "eigen"):
            raise ValueError(f"gcv_mode: expected None, 'auto', 'svd' or 'eigen', got {self.gcv_mode!r}")
        make = partial(Ridge, **_shared_with(self, Ridge))
        data = dataset_of(X, y, {"sample_weight": sample_weight}, type(self).__name__)
        known = FirstSweepAnswers()
        if self.cv is None:
            everything = WHOLE
            self._leave_one_out(make, alphas, data, known)
        else:
            everything = self._on_folds(make, alphas, data, known, kept, watchers)
        best = Member(make(self.alpha_), everything)
        fit_members([best], data, checkpoint=within(kept, "refit"), watch=watchers, known=known)
        if best.error is not None:
            raise best.error
        self.n_sweeps_ += best.estimator.n_sweeps_
        self._take(best.estimator)
        return self

    def _on_folds(
        self,
        make: Any,
        alphas: Array,
        data: Dataset,
        known: FirstSweepAnswers,
        kept: Checkpoint | None,
        watchers: Sequence[Watcher],
    ) -> Subset:
        """Choose the penalty by the scores on folds; the subset of all rows."""
        if self.alpha_per_target:
            raise ValueError("cv!=None and alpha_per_target=True are incompatible")
        splits = splits_of(self.cv, data)
        trials = [
            Trial(Member(make(alpha), split.train), split) for split in splits for alpha in alphas.tolist()
        ]
        members = [trial.member for trial in trials]
        fit_members(members, data, checkpoint=within(kept, "folds"), watch=watchers, known=known)
        scorers, _ = named_scorers(self.scoring, members[0].estimator)
        reads = score_trials(
            trials,
            data,
            scorers,
            engine=self.engine,
            known=known,
            error_score="raise",
        )
        (name,) = scorers
        scores = np.array([t.test[name] for t in trials]).reshape(len(splits), len(alphas)).mean(axis=0)
        at = int(scores.argmax())
        self.alpha_, self.best_score_ = float(alphas[at]), float(scores[at])
        self.n_sweeps_ = max(member.estimator.n_sweeps_ for member in members) + reads
        return _all_rows(splits)

    def _leave_one_out(self, make: Any, alphas: Array, dataset: Any, known: FirstSweepAnswers) -> None:
        """Choose the penalty by the residuals of each row without itself."""
        probe = Member(make(float(alphas[0])), WHOLE)
        fit_members([probe], dataset, known=known)
        if probe.error is not None:
            raise probe.error
        moments = known.of_kind(SecondMoments, WHOLE)
        if moments is None:
            raise ValueError(
                f"RidgeCV: expected a number of columns whose second moments are summed for cv=None, got "
                f"{dataset.n_features}; pass cv=5"
            )
        rows = probe.estimator._dataset(dataset, None, None)
        query = LeaveOneOut.of(moments, dataset.n_features, alphas, bool(self.fit_intercept))
        with open_engine(rows, self.engine) as (engine, _):
            left, n_rows = engine.sweep([Ask(None, query)])[0]
        k = len(query.target)
        square, spread = ((left.deviation + w * left.weight * left.mean**2).reshape(-1, k) for w in (1, 0))
        scores = _loo_scores(self.scoring, square, spread, np.diag(moments.matrix)[-k:], left.weight, n_rows)
        if not self.alpha_per_target or k == 1:
            each = scores.mean(axis=1)
            at = int(each.argmax())
            self.alpha_, self.best_score_ = float(alphas[at]), float(each[at])
        else:
            best = scores.argmax(axis=0)
            self.alpha_, self.best_score_ = alphas[best], scores[best, np.arange(k)]
        self.n_sweeps_ = probe.estimator.n_sweeps_ + 1


WHOLE = Subset(ListedCells(1, np.zeros(1, dtype=np.uint8), np.zeros(1, dtype=np.int64)), (True,))
"""All rows, as one cell."""


def _loo_scores(
    scoring: Any, square: Array, spread: Array, total: Array, weight: float, n_rows: int
) -> Array:
    """The scores of each penalty and target ``(m, k)``: of the sums of squared errors and those about their mean,
    and the sums of squares of the targets about their mean ``(k,)``."""
    match scoring:
        case None:
            return -square / n_rows
        case "neg_mean_squared_error":
            return -square / weight
        case "neg_root_mean_squared_error":
            return -np.sqrt(square / weight)
        case "r2":
            return 1 - square / total
        case "explained_variance":
            return 1 - spread / total
    raise ValueError(
        "RidgeCV: expected scoring=None, 'neg_mean_squared_error', 'neg_root_mean_squared_error', 'r2' or "
        f"'explained_variance' for cv=None, got {scoring!r}; pass cv=5 for others"
    )


# -- logistic regression -------------------------------------------------------------------------


class LogisticRegressionCV(ClassifierMixin, SearchedEstimator):
    """Logistic regression whose penalty is chosen by cross-validation, in few shared reads of the data.

    Minimises ``C sum_i s_i log_loss_i + r |w|_1 + (1 - r) |w|**2 / 2`` with the C and r of the best mean score on
    held-out rows. The fits of all folds, C and r share every read; one read scores them all.

    Parameters
    ----------
    Cs : int or sequence of float
        The C to try, or how many, in a geometric sequence from 1e-4 to 1e4.
    l1_ratios : sequence of float, optional
        The r to try; None is 0.
    fit_intercept, dual, penalty, solver, tol, max_iter, class_weight, intercept_scaling, random_state, memory,
    engine :
        As of :class:`daskgd.LogisticRegression`. Class weights "balanced" are by the labels of all rows, as in
        scikit-learn.
    cv : int, splitter, iterable or None
        As of :class:`daskgd.model_selection.GridSearchCV`.
    scoring : str or scorer, optional
        None is accuracy.
    n_jobs : None or -1
    verbose : int
    refit : bool
        Whether to fit to all rows with the best; else coefficients and C are the means of the best of each fold.
    use_legacy_attributes : bool
        Whether attributes have the shapes that scikit-learn 1.8 and earlier give them; else the simpler ones.

    Attributes
    ----------
    classes_ : ``(k,)``
    coef_, intercept_ :
        As of :class:`daskgd.LogisticRegression`.
    Cs_, l1_ratios_ : ``(n_cs,)``, ``(n_ratios,)``
    C_, l1_ratio_ : float, or ``(k,)`` with `use_legacy_attributes`, (1,) for two classes
    scores_ : ``(n_splits, n_ratios, n_cs)``; with `use_legacy_attributes` a dict by class of ``(n_splits, n_cs)``
    coefs_paths_ : ``(n_splits, n_ratios, n_cs, k, p + 1)``, k = 1 for two classes; or a dict by class
    n_iter_ : ``(n_splits, n_ratios, n_cs)``, or with a first axis of 1
    best_estimator_ : LogisticRegression
    n_sweeps_ : int
        Reads of the data.

    Examples
    --------
    >>> from daskgd.model_selection import LogisticRegressionCV
    >>> X = np.arange(60.0).reshape(20, 3) % 7
    >>> est = LogisticRegressionCV(Cs=[0.1, 1.0], use_legacy_attributes=False).fit(X, X[:, 0] > 3)
    >>> est.scores_.shape
    (5, 1, 2)
    """

    _copied = (*SearchedEstimator._copied,)

    def __init__(
        self,
        *,
        Cs: int | Sequence[float] = 10,
        l1_ratios: Sequence[float] | None = None,
        fit_intercept: bool = True,
        cv: Any = None,
        dual: bool = False,
        penalty: str = "deprecated",
        scoring: Any = None,
        solver: Any = "auto",
        tol: float = 1e-6,
        max_iter: int = 1000,
        class_weight: Any = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        refit: bool = True,
        intercept_scaling: float = 1.0,
        random_state: int | None = None,
        use_legacy_attributes: bool = True,
        memory: Any = "auto",
        engine: Choice = None,
    ) -> None:
        self.Cs = Cs
        self.l1_ratios = l1_ratios
        self.fit_intercept = fit_intercept
        self.cv = cv
        self.dual = dual
        self.penalty = penalty
        self.scoring = scoring
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.class_weight = class_weight
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.refit = refit
        self.intercept_scaling = intercept_scaling
        self.random_state = random_state
        self.use_legacy_attributes = use_legacy_attributes
        self.memory = memory
        self.engine = engine

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
            As of :meth:`LogisticRegression.fit`. Weights count in scores, too, as in scikit-learn.

        Returns
        -------
        self
        """
        kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
        refuse_jobs(type(self).__name__, self.n_jobs, "", "")
        Cs, ratios = self._grid()
        data = dataset_of(X, y, {"sample_weight": sample_weight}, type(self).__name__)
        splits = splits_of(self.cv, data, True)
        weights = self._class_weights(data)
        shared = {**_shared_with(self, LogisticRegression), "penalty": "deprecated", "class_weight": weights}
        shared["n_jobs"] = None
        trials = [
            Trial(Member(LogisticRegression(C=C, l1_ratio=r, **shared), split.train), split)
            for split in splits
            for r in ratios.tolist()
            for C in Cs.tolist()
        ]
        known = FirstSweepAnswers()
        members = [trial.member for trial in trials]
        fit_members(members, data, checkpoint=within(kept, "folds"), watch=watchers, known=known)
        scorers, _ = named_scorers(self.scoring, LogisticRegression())
        reads = score_trials(trials, data, scorers, engine=self.engine, error_score="raise")
        (name,) = scorers
        grid = (len(splits), len(ratios), len(Cs))
        scores = np.array([trial.test[name] for trial in trials]).reshape(grid)
        i, j = np.unravel_index(int(scores.mean(axis=0).argmax()), grid[1:])
        self.n_sweeps_ = max(member.estimator.n_sweeps_ for member in members) + reads
        if self.refit:
            C, ratio = float(Cs[j]), float(ratios[i])
            best = Member(LogisticRegression(C=C, l1_ratio=ratio, **shared), _all_rows(splits))
            fit_members([best], data, checkpoint=within(kept, "refit"), watch=watchers, known=known)
            if best.error is not None:
                raise best.error
            self.n_sweeps_ += best.estimator.n_sweeps_
            self._take(best.estimator)
        else:
            at = scores.reshape(len(splits), -1).argmax(axis=1)
            chosen = [members[fold * grid[1] * grid[2] + k].estimator for fold, k in enumerate(at)]
            C, ratio = (float(np.mean([getattr(e, name) for e in chosen])) for name in ("C", "l1_ratio"))
            mean = copy.copy(chosen[0])
            mean.coef_ = np.mean([e.coef_ for e in chosen], axis=0)
            mean.intercept_ = np.mean([e.intercept_ for e in chosen], axis=0)
            self._take(mean)
        self._set_grid(Cs, ratios, C, ratio, scores, members)
        return self

    def _grid(self) -> tuple[Array, Array]:
        given, ratios = self.Cs, self.l1_ratios
        Cs = np.logspace(-4, 4, int(given)) if isinstance(given, Integral) else np.asarray(given, dtype=float)
        if Cs.ndim != 1 or not len(Cs) or not (Cs > 0).all():
            raise ValueError(f"Cs: expected a whole number, or numbers > 0, got {given!r}")
        if self.penalty not in ("deprecated", "l1", "l2", "elasticnet"):
            raise ValueError(
                f"penalty: expected 'l1', 'l2', 'elasticnet' or to be left out, got {self.penalty!r}"
            )
        if self.penalty in ("l1", "l2"):
            return Cs, np.array([1.0 if self.penalty == "l1" else 0.0])
        found = np.asarray((0.0,) if ratios is None else ratios, dtype=float)
        if found.ndim != 1 or not len(found) or not ((found >= 0) & (found <= 1)).all():
            raise ValueError(f"l1_ratios must be an array-like of numbers between 0 and 1; got {ratios!r}")
        return Cs, found

    def _class_weights(self, dataset: Any) -> Any:
        """The class weights; "balanced" by the labels of all rows."""
        if not (isinstance(self.class_weight, str) and self.class_weight == "balanced"):
            return self.class_weight
        y = targets(dataset)
        assert y is not None
        labels, codes = np.unique(y, return_inverse=True)
        s = dataset.sample_weight
        total = np.bincount(codes, None if s is None else np.asarray(s.compute()))
        if dataset.classes is not None:
            labels = dataset.classes[labels.astype(np.intp)]
        return dict(zip(labels.tolist(), (total.sum() / (len(total) * total)).tolist(), strict=True))

    def _set_grid(
        self, Cs: Array, ratios: Array, C: float, ratio: float, scores: Array, members: Sequence[Member]
    ) -> None:
        """Set the attributes that tell of the grid."""
        fits = [member.estimator for member in members]
        paths = np.array([np.column_stack([e.coef_, e.intercept_]) for e in fits])
        if not self.fit_intercept:
            paths = paths[..., :-1]
        paths = paths.reshape(*scores.shape, *paths.shape[1:])
        n_iter = np.array([np.max(e.n_iter_) for e in fits]).reshape(scores.shape)
        self.Cs_, self.l1_ratios_ = Cs, ratios
        if not self.use_legacy_attributes:
            self.C_, self.l1_ratio_, self.scores_, self.coefs_paths_, self.n_iter_ = (
                C,
                ratio,
                scores,
                paths,
                n_iter,
            )
            return
        classes = self.classes_[1:] if len(self.classes_) == 2 else self.classes_
        # (folds, ratios, Cs) -> (folds, Cs[, ratios]), as they were
        several = self.l1_ratios is not None and self.penalty not in ("l1", "l2")
        by_C = np.swapaxes(scores, 1, 2) if several else scores[:, 0]
        iterations = np.swapaxes(n_iter, 1, 2) if several else n_iter[:, 0]
        self.C_, self.l1_ratio_ = np.full(len(classes), C), np.full(len(classes), ratio)
        self.scores_ = {label: by_C for label in classes.tolist()}
        of_class = [
            np.swapaxes(paths[..., k, :], 1, 2) if several else paths[:, 0, :, k] for k in range(len(classes))
        ]
        self.coefs_paths_ = dict(zip(classes.tolist(), of_class, strict=True))
        self.n_iter_ = iterations[None]

    def predict_proba(self, X: Any) -> Any:
        """The probability of each class ``(n, k)``: numpy for rows in memory, lazy dask for others."""
        check_is_fitted(self)
        return self.best_estimator_.predict_proba(X)

    def predict_log_proba(self, X: Any) -> Any:
        """The logarithm of the probability of each class ``(n, k)``."""
        check_is_fitted(self)
        return self.best_estimator_.predict_log_proba(X)

    def decision_function(self, X: Any) -> Any:
        """Margins, ``(n,)`` for two classes, else ``(n, k)``."""
        check_is_fitted(self)
        return self.best_estimator_.decision_function(X)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score by `scoring`, in one sweep."""
        check_is_fitted(self)
        scorers, _ = named_scorers(self.scoring, self.best_estimator_)
        (scorer,) = scorers.values()
        found = evaluate(self.best_estimator_, X, y, scoring={"score": scorer}, sample_weight=sample_weight)
        return float(found["score"])
