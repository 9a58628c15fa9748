"""Linear regression, plain and ridge, with scikit-learn's names and objectives."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.utils.validation import check_is_fitted

from daskgd.datasets import Dataset
from daskgd.engines.graph import Choice
from daskgd.estimators.base import LinearEstimator, Rule, finite_margins, is_flag, is_nonnegative, is_one_of
from daskgd.losses import Loss, Squared
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem, prepare
from daskgd.queries import SurveyAnswer
from daskgd.solvers import Solver

Array = NDArray[Any]

ALONE: dict[str, Rule] = {
    "copy_X": (is_flag, "True or False (X is never written to, in either case)"),
    "n_jobs": is_one_of(None),
    "positive": is_one_of(False),
}


class _Regressor(RegressorMixin, LinearEstimator):
    score = LinearEstimator.score

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _loss(self, n_classes: int) -> Loss:
        return Squared()

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        y = dataset._columns[1]
        assert y is not None
        assert survey.y is not None
        outputs = 1 if len(y.shape) == 1 else y.shape[1]
        model = self._linear(survey, outputs)
        penalty = L2(model.per_parameter(self._strength(survey.weight, outputs)))
        offset = None if model.center is None else survey.y.mean
        return Problem(self._loss(0), model, penalty, offset=offset), {"_y_ndim": len(y.shape)}

    def _scored(self, dataset: Dataset) -> tuple[Problem, Array]:
        coef = np.atleast_2d(self.coef_)
        y = dataset._columns[1]
        assert y is not None
        outputs = 1 if len(y.shape) == 1 else y.shape[1]
        if outputs != len(coef):
            raise ValueError(f"y: expected {len(coef)} targets, as in the fit, got {outputs}")
        # The intercept is taken from the targets instead: in float64, whatever the dtype of X.
        offset = np.zeros(len(coef)) + np.ravel(self.intercept_)
        model = Linear(coef.shape[1], len(coef), intercept=False)
        return Problem(self._loss(0), model, L2(), offset=offset), model.parameters(coef, offset)

    def _shaped(self, coefficients: Array, intercepts: Array) -> tuple[Array, Any]:
        if self._y_ndim == 2:
            return coefficients, intercepts if self.fit_intercept else 0.0
        return coefficients[0], float(intercepts[0])

    def predict(self, X: Any) -> Any:
        """Predicted targets ``(n,)`` or ``(n, k)``: numpy for numpy, a lazy dask array for anything lazy."""
        check_is_fitted(self)
        many = np.shape(self.coef_)[0] if np.ndim(self.coef_) == 2 else None
        return self._map_rows(X, _Predict(self, many), np.dtype(float), many)


class _Predict:
    """Predictions for a block, the intercept added in float64; small enough to send to workers."""

    def __init__(self, estimator: LinearEstimator, many: int | None) -> None:
        coef = np.atleast_2d(estimator.coef_)
        self.model = Linear(coef.shape[1], len(coef), intercept=False)
        self.w = self.model.parameters(coef, np.zeros(len(coef)))
        self.b = estimator.intercept_
        self.many = many

    def __call__(self, X: Array) -> Array:
        X = prepare(X)
        z = finite_margins(self.model.margins(self.w, X), X) + self.b
        return z if self.many is None else z.reshape(len(X), self.many)


class LinearRegression(_Regressor):
    """Ordinary least squares on data that need not fit in memory.

    Minimises ``(1 / 2W) sum_i s_i (y_i - x_i w - b)**2``, ``W = sum_i s_i``.

    Parameters
    ----------
    fit_intercept : bool
        Whether to fit b.
    copy_X, n_jobs, positive :
        As in scikit-learn; X is never written to, `n_jobs` must be None (threads are the cluster's) and
        `positive` False.
    solver : str or Solver
        ``"auto"`` (Newton where a Hessian costs little beside reading the rows, else L-BFGS), a name
        (``"newton"``, ``"lbfgs"``, ``"gradient_descent"``, ``"local_gd"``) or a solver object.
    scale : "auto" or bool
        Whether the solver works on standardised features: algebra on the parameters, no copy of X. Penalty
        and attributes stay in the units of X, so that only the path changes, not the minimum (where that is
        not unique: which of them). "auto" is on unless the solver was given a step.
    max_iter : int
        Most iterations of the solver.
    tol : float
        Estimated gap to the minimum at which to stop, relative to the objective; 0 runs exactly `max_iter`
        iterations.
    memory : "auto" or 0
        Rows kept in memory between sweeps; for now none are, in either case.
    engine : None, "serial", "threads", "distributed" or callable
        What reads the data: None takes dask's configured scheduler, the current client, or threads.
    random_state : int, optional
        For solvers that draw; None is a fixed seed, so that results repeat.
    verbose : int
        1 or 2 print a line per iteration.
    warm_start : bool
        Start from the last fit's parameters.

    Attributes
    ----------
    coef_ : ``(p,)`` or ``(k, p)``
    intercept_ : float or ``(k,)``
    n_iter_, n_sweeps_ : int
        Iterations, and reads of the data, the first survey included.
    history_ : History
        A mapping per iteration: loss, gradient norm, gap, seconds, bytes, sweeps.
    gap_ : float
        Estimated relative gap to the minimum: true from Newton, an extrapolation from the others.
    outcome_ : str
        ``"converged"``, ``"budget_spent"``, ``"stalled"``, ``"diverged"`` or ``"interrupted"``.

    Examples
    --------
    >>> X = np.array([[1.0], [2.0], [3.0]])
    >>> est = LinearRegression().fit(X, [3.0, 5.0, 7.0])
    >>> est.predict(np.array([[4.0]])).round(4)
    array([9.])
    """

    _rules: ClassVar[dict[str, Rule]] = ALONE

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        n_jobs: None = None,
        positive: bool = False,
        solver: str | Solver = "auto",
        scale: str | bool = "auto",
        max_iter: int = 1000,
        tol: float = 1e-6,
        memory: Any = "auto",
        engine: Choice = None,
        random_state: int | None = None,
        verbose: int = 0,
        warm_start: bool = False,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.n_jobs = n_jobs
        self.positive = positive
        self.solver = solver
        self.scale = scale
        self.max_iter = max_iter
        self.tol = tol
        self.memory = memory
        self.engine = engine
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    def _strength(self, weight: float, outputs: int) -> Array:
        return np.zeros(outputs)


class Ridge(_Regressor):
    """Least squares with an L2 penalty, on data that need not fit in memory.

    Minimises ``sum_i s_i (y_i - x_i w - b)**2 + alpha |w|**2``, as scikit-learn does; b is not penalised.

    Parameters
    ----------
    alpha : float or array ``(k,)``
        Strength of the penalty, for all targets or one each.
    fit_intercept, copy_X, positive :
    solver, scale, max_iter, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, n_sweeps_, history_, gap_ :
        As in :class:`LinearRegression`.

    Examples
    --------
    >>> X = np.array([[-1.0], [0.0], [1.0]])
    >>> Ridge(alpha=2.0).fit(X, [-2.0, 0.0, 2.0]).coef_.round(4)
    array([1.])
    """

    _rules: ClassVar[dict[str, Rule]] = {
        **{name: rule for name, rule in ALONE.items() if name != "n_jobs"},
        "alpha": (
            lambda value: all(is_nonnegative(a) for a in np.ravel(value)) and np.ndim(value) <= 1,
            "a number >= 0, or one for each target",
        ),
    }

    def __init__(
        self,
        alpha: float | Array = 1.0,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-6,
        solver: str | Solver = "auto",
        scale: str | bool = "auto",
        positive: bool = False,
        random_state: int | None = None,
        memory: Any = "auto",
        engine: Choice = None,
        verbose: int = 0,
        warm_start: bool = False,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.max_iter = max_iter
        self.tol = tol
        self.solver = solver
        self.scale = scale
        self.positive = positive
        self.random_state = random_state
        self.memory = memory
        self.engine = engine
        self.verbose = verbose
        self.warm_start = warm_start

    def _strength(self, weight: float, outputs: int) -> Array:
        alpha = np.ravel(np.asarray(self.alpha, dtype=float))
        if len(alpha) not in (1, outputs):
            raise ValueError(f"Ridge: expected alpha for each of {outputs} targets, got {len(alpha)} values")
        return np.broadcast_to(alpha, (outputs,)) / weight
