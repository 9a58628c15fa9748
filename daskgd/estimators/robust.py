"""Regressions that outliers do not pull, with scikit-learn's names and objectives: Huber's, quantiles and
support vector machines."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice
from daskgd.estimators.fitting.fit import FitOutcome
from daskgd.estimators.parameters import NONNEGATIVE, POSITIVE, POSITIVE_C, Rule, is_one_of
from daskgd.estimators.regression import Regressor
from daskgd.losses import EpsilonInsensitive, Huber, HuberAt, Loss, Quantile
from daskgd.solvers import Solver
from daskgd.solvers.base import is_positive

COLLAPSED = 1e-6
"""Scale, relative to the deviation of the targets, below which a fit along with all else went astray."""


class HuberRegressor(Regressor):
    """Regression with a loss that is linear for outliers, and a fitted scale that says what outliers are; on
    data that need not fit in memory.

    Minimises over w, b and the scale ``c > 0``, as scikit-learn does (Owen 2007),

        sum_i s_i (c + H((y_i - x_i w - b) / c) c) + alpha |w|**2

    where ``H(u)`` is ``u**2`` for ``|u| <= epsilon`` and ``2 epsilon |u| - epsilon**2`` beyond; neither b nor
    c is penalised.

    Parameters
    ----------
    epsilon : float
        Residuals beyond it, in units of the scale, are outliers; at least 1.
    alpha : float
        Strength of the penalty.
    max_iter, warm_start, fit_intercept, tol, solver, regime, scale, memory, engine, random_state, verbose :
        As in :class:`LinearRegression`; `scale` is about the features.

    Attributes
    ----------
    coef_ : ``(p,)``
    intercept_ : float
    scale_ : float
        The fitted scale c.
    n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LinearRegression`.
    outliers_ : ``(n,)`` of bool
        The rows whose ``|y - predict(X)|`` exceeds ``epsilon * scale_``; only after a fit to rows in memory.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.arange(20.0)[:, None]
    >>> y = 2 * X[:, 0] + np.tile([1.0, -1.0], 10)
    >>> y[3] = 1000.0
    >>> HuberRegressor().fit(X, y).coef_.round(1)
    array([2.])
    """

    _keeps_float32 = False
    _rules: ClassVar[dict[str, Rule]] = {
        "epsilon": (lambda value: is_positive(value) and value >= 1, "a number >= 1"),
        "alpha": NONNEGATIVE,
    }

    def __init__(
        self,
        *,
        epsilon: float = 1.35,
        max_iter: int = 1000,
        alpha: float = 0.0001,
        warm_start: bool = False,
        fit_intercept: bool = True,
        tol: float = 1e-6,
        solver: str | Solver = "auto",
        regime: str = "auto",
        scale: str | bool = "auto",
        memory: Any = "auto",
        engine: Choice = None,
        random_state: int | None = None,
        verbose: int = 0,
    ) -> None:
        self.epsilon = epsilon
        self.max_iter = max_iter
        self.alpha = alpha
        self.warm_start = warm_start
        self.fit_intercept = fit_intercept
        self.tol = tol
        self.solver = solver
        self.regime = regime
        self.scale = scale
        self.memory = memory
        self.engine = engine
        self.random_state = random_state
        self.verbose = verbose

    def _loss(self, n_classes: int) -> Loss:
        return Huber(float(self.epsilon))

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        return 0.0, 2 * float(self.alpha) / weight

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        loss, w = outcome.problem.loss, outcome.result.w
        fitted = not isinstance(loss, HuberAt)
        lost = len(self.history_) and self.history_[-1]["loss"] > 1e-3 * self._baseline
        if fitted and lost and w[-1] < COLLAPSED * self._baseline and self.outcome_ == "converged":
            self.outcome_ = "stalled"  # within so small a scale there are few rows, and no gap to be measured
        self.scale_ = float(loss.scale if isinstance(loss, HuberAt) else outcome.result.w[-1])
        if hasattr(self, "outliers_"):  # of the rows of another fit
            del self.outliers_

    def _look_back(self, dataset: Dataset) -> None:
        if dataset.in_this_process:
            rows = dataset.rows_at_hand()
            y = np.ravel(np.asarray(rows.y))
            model, w = self._model()
            with np.errstate(over="ignore", invalid="ignore"):  # of a fit that diverged
                miss = np.abs(y - model.margins(w, rows.X))
            self.outliers_ = miss > self.scale_ * self.epsilon


class QuantileRegressor(Regressor):
    """Regression of a quantile, with an L1 penalty, on data that need not fit in memory.

    Minimises ``(1 / W) sum_i s_i pinball(y_i - x_i w - b) + alpha |w|_1``, as scikit-learn does, with
    ``pinball(r) = quantile max(0, r) + (1 - quantile) max(0, -r)`` and ``W = sum_i s_i``; b is not penalised.

    At its kink the pinball is replaced by a hyperbola, so narrow that it adds less than 1e-9 of the objective
    where all rows fit in the sample of the first sweep. Where they do not, it adds less than `tol`, unless
    too few rows of the sample would lie near the kink to tell the curvature; `gap_` includes what it adds,
    measured on the sample. Where that is above `tol`, the fit ends "stalled", with a warning.

    Parameters
    ----------
    quantile : float
        Between 0 and 1, both excluded.
    alpha : float
        Strength of the penalty.
    solver : str or Solver
        ``"auto"``, or as in :class:`LinearRegression`. There are no linear programs here: "highs", "highs-ds"
        and "highs-ipm", scikit-learn's ways to the same minimum, are "auto".
    solver_options :
        Must be None: options are the solver's arguments, as in ``ProximalNewton(rows_per_parameter=500)``.
    regime, fit_intercept, scale, max_iter, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_ : ``(p,)``
    intercept_ : float
    n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LinearRegression`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.zeros((5, 1))
    >>> est = QuantileRegressor(quantile=0.75).fit(X, [0.0, 1.0, 2.0, 3.0, 100.0])
    >>> est.predict(X[:1]).round(3)
    array([3.])
    """

    _keeps_float32 = False
    _solvers_there = ("highs", "highs-ds", "highs-ipm")
    _rules: ClassVar[dict[str, Rule]] = {
        "quantile": (
            lambda value: is_positive(value) and value < 1,
            "a number between 0 and 1, both excluded",
        ),
        "alpha": NONNEGATIVE,
        "solver_options": (
            lambda value: value is None,
            "None: give options to the solver, as in solver=ProximalNewton(rows_per_parameter=500)",
        ),
    }

    def __init__(
        self,
        *,
        quantile: float = 0.5,
        alpha: float = 1.0,
        fit_intercept: bool = True,
        solver: str | Solver = "auto",
        regime: str = "auto",
        solver_options: None = None,
        scale: str | bool = "auto",
        max_iter: int = 1000,
        tol: float = 1e-6,
        memory: Any = "auto",
        engine: Choice = None,
        random_state: int | None = None,
        verbose: int = 0,
        warm_start: bool = False,
    ) -> None:
        self.quantile = quantile
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.regime = regime
        self.solver_options = solver_options
        self.scale = scale
        self.max_iter = max_iter
        self.tol = tol
        self.memory = memory
        self.engine = engine
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    def _loss(self, n_classes: int) -> Loss:
        return Quantile(float(self.quantile))

    def _has_l1(self) -> bool:
        return bool(self.alpha > 0)

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        return float(self.alpha), 0.0


class LinearSVR(Regressor):
    """Linear support vector regression, on data that need not fit in memory.

    Minimises ``C sum_i s_i max(0, |y_i - x_i w - b| - epsilon) + |w|**2 / 2``, or with the squares of those
    maxima. Unlike liblinear, behind scikit-learn's estimator of the same name, the intercept is not
    penalised: compare at a large `intercept_scaling` there. Kinks of the plain loss are smoothed as in
    :class:`QuantileRegressor`.

    Parameters
    ----------
    epsilon : float
        Residuals up to it cost nothing.
    C : float
        Inverse strength of the penalty; inf for none.
    loss : "epsilon_insensitive" or "squared_epsilon_insensitive"
    intercept_scaling : float
    dual : "auto" or bool
        As in :class:`LinearSVC`: they change nothing.
    tol, fit_intercept, verbose, random_state, max_iter, solver, regime, scale, memory, engine, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_ : ``(p,)``
    intercept_ : float
    n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LinearRegression`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.arange(10.0)[:, None]
    >>> y = 2 * X[:, 0] + np.tile([0.5, -0.5], 5)
    >>> LinearSVR(epsilon=1.0, C=1e3, loss="squared_epsilon_insensitive").fit(X, y).coef_.round(1)
    array([1.9])
    """

    _keeps_float32 = False
    _rules: ClassVar[dict[str, Rule]] = {
        "epsilon": NONNEGATIVE,
        "C": POSITIVE_C,
        "loss": is_one_of("epsilon_insensitive", "squared_epsilon_insensitive"),
        "intercept_scaling": POSITIVE,
        "dual": is_one_of("auto", False, True),
    }

    def __init__(
        self,
        *,
        epsilon: float = 0.0,
        tol: float = 1e-6,
        C: float = 1.0,
        loss: str = "epsilon_insensitive",
        fit_intercept: bool = True,
        intercept_scaling: float = 1.0,
        dual: str | bool = "auto",
        verbose: int = 0,
        random_state: int | None = None,
        max_iter: int = 1000,
        solver: str | Solver = "auto",
        regime: str = "auto",
        scale: str | bool = "auto",
        memory: Any = "auto",
        engine: Choice = None,
        warm_start: bool = False,
    ) -> None:
        self.epsilon = epsilon
        self.tol = tol
        self.C = C
        self.loss = loss
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.dual = dual
        self.verbose = verbose
        self.random_state = random_state
        self.max_iter = max_iter
        self.solver = solver
        self.regime = regime
        self.scale = scale
        self.memory = memory
        self.engine = engine
        self.warm_start = warm_start

    def _loss(self, n_classes: int) -> Loss:
        return EpsilonInsensitive(float(self.epsilon), self.loss == "squared_epsilon_insensitive")

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        return 0.0, 1 / (float(self.C) * weight)
