"""Ridge regression that chooses its penalty by cross-validation, scikit-learn's: leave-one-out in two reads
of the data, on folds in one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import MultiOutputMixin

from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice, open_engine
from daskgd.estimators import Ridge
from daskgd.estimators.fitting.run import FirstSweepAnswers
from daskgd.model_selection.fits import Member, fit_members, within
from daskgd.model_selection.given import dataset_of
from daskgd.model_selection.scores import Trial, named_scorers, score_trials
from daskgd.model_selection.searched import WHOLE, SearchedLeastSquares, all_rows, shared_parameters
from daskgd.model_selection.splitters import splits_of
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.queries import Ask, SecondMoments
from daskgd.queries.leave_one_out import LeaveOneOut
from daskgd.rows.subsets import Subset
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


class RidgeCV(MultiOutputMixin, SearchedLeastSquares):
    """Ridge regression whose penalty is chosen by cross-validation: leave-one-out, or on folds.

    Minimises ``sum_i s_i (y_i - x_i w - b)**2 + alpha |w|**2`` with the best `alpha`. Leave-one-out takes two
    reads: the second moments, then the residual ``e_i / (1 - h_i)`` of each row without itself, h_i its
    leverage under each penalty. On folds it is one read where `scoring` is R2 or a squared error, else two.

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

    alpha_: Any
    best_score_: Any

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
                "RidgeCV: expected store_cv_results=False, got True: errors of every row are not kept; "
                "compute them with cross_val_predict"
            )
        if self.gcv_mode not in (None, "auto", "svd", "eigen"):
            raise ValueError(f"gcv_mode: expected None, 'auto', 'svd' or 'eigen', got {self.gcv_mode!r}")
        make: Any = partial(Ridge, **shared_parameters(self, Ridge))
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
        return all_rows(splits)

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


def _loo_scores(
    scoring: Any, square: Array, spread: Array, total: Array, weight: float, n_rows: int
) -> Array:
    """The scores of each penalty and target ``(m, k)``: of the sums of squared errors and those about their
    mean, and the sums of squares of the targets about their mean ``(k,)``."""
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
