"""Logistic regression that chooses its penalty by cross-validation, scikit-learn's, in few shared reads."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from numbers import Integral
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from daskgd.engines.select import Choice
from daskgd.estimators import LogisticRegression
from daskgd.estimators.fitting.run import FirstSweepAnswers
from daskgd.metrics.evaluation import evaluate
from daskgd.model_selection.fits import Member, fit_members, within
from daskgd.model_selection.given import dataset_of, refuse_jobs
from daskgd.model_selection.scores import Trial, named_scorers, score_trials
from daskgd.model_selection.searched import SearchedEstimator, all_rows, shared_parameters
from daskgd.model_selection.splitters import splits_of, targets
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


class LogisticRegressionCV(ClassifierMixin, SearchedEstimator):
    """Logistic regression whose penalty is chosen by cross-validation, in few shared reads of the data.

    Minimises ``C sum_i s_i log_loss_i + r |w|_1 + (1 - r) |w|**2 / 2`` with the C and r of the best mean
    score on held-out rows. The fits of all folds, C and r share every read; one read scores them all.

    Parameters
    ----------
    Cs : int or sequence of float
        The C to try, or how many, in a geometric sequence from 1e-4 to 1e4.
    l1_ratios : sequence of float, optional
        The r to try; None is 0.
    fit_intercept, dual, penalty, solver, tol, max_iter, intercept_scaling, random_state, memory, engine :
        As of :class:`daskgd.LogisticRegression`.
    class_weight : dict or "balanced", optional
        As of :class:`daskgd.LogisticRegression`; "balanced" is by the labels of all rows, as in scikit-learn.
    cv : int, splitter, iterable or None
        As of :class:`daskgd.model_selection.GridSearchCV`.
    scoring : str or scorer, optional
        None is accuracy.
    n_jobs : None or -1
    verbose : int
    refit : bool
        Whether to fit to all rows with the best; else coefficients and C are the means of the best of each
        fold.
    use_legacy_attributes : bool
        Whether attributes have the shapes that scikit-learn 1.8 and earlier give them; else the simpler ones.

    Attributes
    ----------
    classes_ : ``(k,)``
    coef_, intercept_ :
        As of :class:`daskgd.LogisticRegression`.
    Cs_, l1_ratios_ : ``(n_cs,)``, ``(n_ratios,)``
    C_, l1_ratio_ : float, or ``(k,)``
        An array with `use_legacy_attributes`, ``(1,)`` for two classes.
    scores_ : ``(n_splits, n_ratios, n_cs)``
        With `use_legacy_attributes` a dict by class of ``(n_splits, n_cs)``.
    coefs_paths_ : ``(n_splits, n_ratios, n_cs, k, p + 1)``
        k is 1 for two classes. With `use_legacy_attributes` a dict by class.
    n_iter_ : ``(n_splits, n_ratios, n_cs)``
        With `use_legacy_attributes` behind a first axis of 1.
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

    C_: Any
    l1_ratio_: Any
    scores_: Any
    coefs_paths_: Any

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
        classes = np.unique(_labels(data)) if data.classes is None else data.classes
        weights = self._class_weights(data)
        shared = shared_parameters(self, LogisticRegression)
        shared |= {"penalty": "deprecated", "class_weight": weights, "n_jobs": None}
        trials = [
            Trial(Member(LogisticRegression(C=C, l1_ratio=r, **shared), split.train), split)
            for split in splits
            for r in ratios.tolist()
            for C in Cs.tolist()
        ]
        if self.verbose > 0:
            print(f"Fitting {len(splits)} folds for each of {len(Cs) * len(ratios)} penalties")
        known = FirstSweepAnswers()
        members = [trial.member for trial in trials]
        fit_members(members, data, checkpoint=within(kept, "folds"), watch=watchers, known=known)
        for trial in trials:
            if trial.member.error is not None:
                raise trial.member.error
        lacking = [i for i, trial in enumerate(trials) if len(trial.member.estimator.classes_) < len(classes)]
        if lacking:
            raise ValueError(
                f"LogisticRegressionCV: expected all {len(classes)} classes among the training rows of every "
                "split, "
                f"got {trials[lacking[0]].member.estimator.classes_.tolist()} in split "
                f"{lacking[0] // (len(ratios) * len(Cs))}; take StratifiedKFold"
            )
        scorers, _ = named_scorers(self.scoring, LogisticRegression())
        reads = score_trials(trials, data, scorers, engine=self.engine, error_score="raise")
        (name,) = scorers
        grid = (len(splits), len(ratios), len(Cs))
        scores = np.array([trial.test[name] for trial in trials]).reshape(grid)
        i, j = np.unravel_index(int(scores.mean(axis=0).argmax()), grid[1:])
        self.n_sweeps_ = max(member.estimator.n_sweeps_ for member in members) + reads
        if self.refit:
            C, ratio = float(Cs[j]), float(ratios[i])
            best = Member(LogisticRegression(C=C, l1_ratio=ratio, **shared), all_rows(splits))
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
        y = _labels(dataset)
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


def _labels(dataset: Any) -> Array:
    """The labels of all rows, as they are stored."""
    y = targets(dataset)
    if y is None:
        raise ValueError("LogisticRegressionCV requires y to be passed, but the target y is None")
    return y
