"""Linear models by stochastic gradient descent, with scikit-learn's names and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.metaestimators import available_if

from daskgd._compat.caller import warn
from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice
from daskgd.estimators.classification import _Classifier
from daskgd.estimators.epochs import rows_and_stop
from daskgd.estimators.fitting.empty_features import Occurring
from daskgd.estimators.fitting.fit import FitOutcome
from daskgd.estimators.fitting.solver_choice import SolverChoice
from daskgd.estimators.incremental import Incremental
from daskgd.estimators.parameters import (
    CLASS_WEIGHT,
    FLAG,
    N_JOBS,
    NONNEGATIVE,
    POSITIVE,
    UNIT,
    Rule,
    is_nonnegative,
    is_one_of,
    with_parameters_of,
)
from daskgd.estimators.regression import Regressor
from daskgd.losses import (
    EpsilonInsensitive,
    Hinge,
    HuberResidual,
    LogisticOneVsRest,
    Loss,
    ModifiedHuber,
    Squared,
    TargetSummary,
)
from daskgd.losses import Perceptron as PerceptronLoss
from daskgd.models.responses import (
    clipped_shares,
    log_clipped_shares,
    log_logistic_shares,
    logistic_shares,
)
from daskgd.monitoring.events import Watcher
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer
from daskgd.rows.layout import Shape
from daskgd.solvers import AveragedSGD, Solver
from daskgd.solvers.base import in_unit_interval, is_count

Array = NDArray[Any]


class _SGD(Incremental):
    """Base of both: the penalty, steps, and when to stop."""

    _rules: ClassVar[dict[str, Rule]] = {
        "penalty": is_one_of("l2", "l1", "elasticnet", None),
        "alpha": NONNEGATIVE,
        "l1_ratio": (lambda value: value is None or UNIT[0](value), f"None or {UNIT[1]}"),
        "shuffle": FLAG,
        "epsilon": NONNEGATIVE,
        "learning_rate": is_one_of("optimal", "constant", "invscaling", "adaptive"),
        "eta0": POSITIVE,
        "power_t": NONNEGATIVE,
        "early_stopping": FLAG,
        "validation_fraction": (in_unit_interval, "a share in [0, 1)"),
        "n_iter_no_change": (is_count, "a whole number >= 1"),
        "average": (
            lambda value: isinstance(value, bool | np.bool_) or is_count(value),
            "True, False or a number of rows",
        ),
        "batch_size": (lambda value: value is None or is_count(value), "None or a whole number >= 1"),
        "tol": (lambda value: value is None or is_nonnegative(value), "None or a number >= 0"),
    }

    def __init__(
        self,
        *,
        penalty: str | None = "l2",
        alpha: float = 0.0001,
        l1_ratio: float | None = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
        shuffle: bool = True,
        verbose: int = 0,
        epsilon: float = 0.1,
        random_state: int | None = None,
        learning_rate: str = "optimal",
        eta0: float = 0.01,
        power_t: float = 0.5,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        warm_start: bool = False,
        average: bool | int = False,
        batch_size: int | None = None,
        solver: str | Solver = "auto",
        regime: str = "auto",
        scale: str | bool = "auto",
        memory: Any = "auto",
        engine: Choice = None,
    ) -> None:
        self.penalty = penalty
        self.alpha = alpha
        self.l1_ratio = l1_ratio
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.shuffle = shuffle
        self.verbose = verbose
        self.epsilon = epsilon
        self.random_state = random_state
        self.learning_rate = learning_rate
        self.eta0 = eta0
        self.power_t = power_t
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.warm_start = warm_start
        self.average = average
        self.batch_size = batch_size
        self.solver = solver
        self.regime = regime
        self.scale = scale
        self.memory = memory
        self.engine = engine

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        coef_init: Any = None,
        intercept_init: Any = None,
        **settings: Any,
    ) -> Self:
        """Fit the model, as :meth:`LinearRegression.fit` does, with all that it takes.

        Parameters
        ----------
        X, y, sample_weight :
            As there.
        coef_init, intercept_init : arrays ``(k, p)`` or ``(p,)``, and ``(k,)``, optional
            Where to begin; what is left out begins at 0.
        **settings :
            `checkpoint`, `every` and `watch`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For numbers to begin with that are not of the shape of `coef_` and `intercept_`.
        """
        given = {"coef_init": coef_init, "intercept_init": intercept_init}
        self._begin_at = {name: np.asarray(a, float) for name, a in given.items() if a is not None}
        try:
            return super().fit(X, y, sample_weight, **settings)
        finally:
            del self._begin_at

    def _begins_at_zero_beside(self, some: Occurring) -> bool:
        return not vars(self).get("_begin_at") and super()._begins_at_zero_beside(some)

    def _initial(self, problem: Problem, summary: TargetSummary, survey: SurveyAnswer) -> Array:
        given: dict[str, Array] = vars(self).get("_begin_at", {})
        if not given:
            return super()._initial(problem, summary, survey)
        model = problem.linear
        k, p = model.outputs, model.n_features
        coef, b = given.get("coef_init", np.zeros(k * p)), given.get("intercept_init", np.zeros(k))
        for name, array, shape in (("coef_init", coef, (k, p)), ("intercept_init", b, (k,))):
            if array.size != np.prod(shape):
                raise ValueError(f"{name}: expected the shape {shape} of this fit, got {array.shape}")
        return model.parameters(coef, b.ravel() - (0.0 if problem.offset is None else problem.offset))

    # -- the objective ------------------------------------------------------------------------

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        return self._strengths_by_name()

    def _has_l1(self) -> bool:
        return self._strengths_by_name()[0] > 0

    # -- steps, and their end ------------------------------------------------------------------

    def _by_parts(self) -> AveragedSGD:
        given = self.learning_rate != "optimal"
        average: Any = self.average
        return AveragedSGD(
            step=float(self.eta0) if given else None,
            decay=float(self.power_t) if self.learning_rate == "invscaling" else 0.0,
            batch_size=None if self.batch_size is None else int(self.batch_size),
            average=bool(average) if isinstance(average, bool | np.bool_) else int(average),
            shuffle=bool(self.shuffle),
        )

    def _standardises(self) -> bool:
        given = self.solver == "auto" and self.learning_rate != "optimal"
        return self.scale is True if given else super()._standardises()

    def _auto(self, shape: Shape | None) -> SolverChoice:
        return SolverChoice(self._by_parts(), "steps by mini-batches in every partition, and averages")

    def _other(self, shape: Shape | None) -> SolverChoice:
        return self._auto(shape)  # mini-batches are of partitions

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError(
                f"{type(self).__name__}: l1_ratio must be set when penalty is 'elasticnet': expected a "
                "number from 0 to 1, got None"
            )
        if self.early_stopping and not self.validation_fraction > 0:
            raise ValueError(
                f"{type(self).__name__}: expected validation_fraction above 0 with early_stopping=True, got "
                f"{self.validation_fraction!r}"
            )
        if self.early_stopping and self._going:
            raise ValueError(
                f"{type(self).__name__}.partial_fit: early_stopping should be False with partial_fit, as "
                "rows to validate on would be others in every call; score the model between calls instead"
            )

    def _prepare_rows(self, dataset: Dataset) -> tuple[Dataset, Sequence[Watcher]]:
        if not self._by_batches(dataset):
            return dataset, ()
        if self.tol is None and not self.early_stopping:
            return dataset, ()
        return rows_and_stop(
            type(self).__name__,
            dataset,
            tol=float(self.tol or 0),
            patience=np.inf if self.tol is None else int(self.n_iter_no_change),
            validation_fraction=float(self.validation_fraction) if self.early_stopping else None,
            seed=self._seed,
            stratify=self._classification,
            adaptive=self.learning_rate == "adaptive",
        )

    def _by_batches(self, dataset: Dataset) -> bool:
        """Whether the solver steps by mini-batches, and estimates no gap."""
        return isinstance(self._choice(self._shape(dataset)).solver, AveragedSGD)

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        if self.outcome_ == "stopped" and outcome.plateaued:
            self.outcome_ = "converged"
        if not self._going:
            self.t_ = self.n_iter_ * self._n_rows

    def _tol(self, solver: Solver) -> float:
        return 0.0 if isinstance(solver, AveragedSGD) else super()._tol(solver)

    def _warn(self) -> None:
        by_batches = self.history_.solver.startswith("AveragedSGD(")
        if self._going or not by_batches or self.outcome_ != "budget_spent":
            return super()._warn()
        if self.tol is not None:
            warn(
                f"{type(self).__name__} did not converge: maximum number of iterations reached, "
                f"max_iter={self.max_iter}, before the {'score' if self.early_stopping else 'loss'} stayed "
                f"within tol={self.tol:g} for n_iter_no_change={self.n_iter_no_change} of them. Increase "
                "max_iter, or set tol=None to run so many",
                ConvergenceWarning,
            )


class SGDClassifier(_SGD, _Classifier):
    """Linear classifiers by stochastic gradient descent, on data that need not fit in memory.

    Minimises ``(1 / W) sum_i s_i loss_i + alpha (r |w|_1 + (1 - r) / 2 |w|**2)``, ``W = sum_i s_i``, with r
    the `l1_ratio`, one class against the rest; the intercept is not penalised.

    It goes by passes of mini-batches (:class:`AveragedSGD`), one sweep each, and stops as scikit-learn's
    does, which is near the minimum and not at it. :class:`LogisticRegression` with ``C = 1 / (alpha W)``, and
    :class:`LinearSVC`, come to the minimum of the same objectives in a few sweeps: take those, where it is
    not the way that counts. scikit-learn's goes row by row, so that its coefficients are others within the
    noise; the settings mean what they mean there, as far as that is possible.

    Parameters
    ----------
    loss : "hinge", "log_loss", "modified_huber", "squared_hinge" or "perceptron"
        Of a margin; losses for numbers are those of :class:`SGDRegressor`.
    penalty : "l2", "l1", "elasticnet" or None
    alpha : float
        Strength of the penalty.
    l1_ratio : float from 0 to 1
        Share of L1 with "elasticnet"; without it it may be None.
    fit_intercept, class_weight :
        As in :class:`LogisticRegression`.
    max_iter : int
        Most passes.
    tol : float or None
        By how much the loss must fall, or with `early_stopping` the score rise, to count; None runs
        `max_iter` passes, to the model of the last.
    n_iter_no_change : int
        Passes in a row that do not count, after which it stops.
    early_stopping, validation_fraction :
        Whether to set aside this share of the rows, of every label alike, and to stop by the score on them,
        with the model that had the best.
    shuffle : bool
        Whether batches are drawn anew in every pass; else they are rows in order.
    learning_rate : "optimal", "constant", "invscaling" or "adaptive"
        "optimal" steps are one over the curvature of the loss (see :class:`AveragedSGD`), and need no tuning.
        "constant" is `eta0` for a row, and for a batch as far as all its rows would go; "invscaling" divides
        that by ``(1 + t)**power_t``, t in rows; "adaptive" by 5 where others would end, and ends below 1e-6.
        Where the loss is smooth no step is longer than ``1 / L``, beyond which they diverge.
    eta0, power_t :
        See `learning_rate`.
    average : bool or int
        Whether the coefficients are the mean of the path, from its start or after so many rows, rather than
        its end: nearer to the minimum, as a rule.
    epsilon, n_jobs :
        Have no effect: the one is of losses for numbers, and blocks run on the engine.
    batch_size : int, optional
        Rows of a step; None is a 64th of the rows of a partition, between 1 and 64.
    scale : "auto" or bool
        Whether steps are those of standardised features; "auto" is on unless `eta0` gives them, in the units
        of the data.
    solver : "auto" or Solver
        "auto" is the AveragedSGD of the settings above.
    regime, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    classes_, coef_, intercept_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LogisticRegression`; no gap is estimated: it is inf.
    n_iter_, t_ : int
        Passes, and rows that they saw; `partial_fit` adds to both.

    Examples
    --------
    >>> X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    >>> est = SGDClassifier(loss="log_loss").fit(X, ["no", "no", "yes", "yes"])
    >>> est.predict([[3.0]])
    array(['yes'], dtype='<U3')
    """

    _rules: ClassVar[dict[str, Rule]] = {
        **_SGD._rules,
        "loss": is_one_of("hinge", "log_loss", "modified_huber", "squared_hinge", "perceptron"),
        "class_weight": CLASS_WEIGHT,
        "n_jobs": N_JOBS,
    }

    @with_parameters_of(_SGD.__init__)
    def __init__(
        self,
        loss: str = "hinge",
        *,
        class_weight: Mapping[Any, float] | str | None = None,
        n_jobs: int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.loss = loss
        self.class_weight = class_weight
        self.n_jobs = n_jobs

    def _loss(self, n_classes: int) -> Loss:
        losses: dict[str, Loss] = {
            "hinge": Hinge(),
            "squared_hinge": Hinge(squared=True),
            "log_loss": LogisticOneVsRest(),
            "modified_huber": ModifiedHuber(),
            "perceptron": PerceptronLoss(),
        }
        return losses[self.loss]

    def _has_probabilities(self) -> bool:
        if self.loss not in ("log_loss", "modified_huber"):
            raise AttributeError(
                f"probability estimates are not available for loss={self.loss!r}: expected 'log_loss' or "
                "'modified_huber'"
            )
        return True

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_proba(self, X: Any) -> Any:
        """Probability of each class, ``(n, k)``: numpy for numpy, lazy dask for anything lazy.

        Of "log_loss" the logistic function of the margin, of "modified_huber" ``(1 + z) / 2`` cut to [0, 1];
        with more than two classes one for each, divided by their sum.
        """
        of_margins = logistic_shares if self.loss == "log_loss" else clipped_shares
        self._outputs()
        return self._map_margins(X, of_margins, np.dtype(float), len(self.classes_))

    @available_if(_has_probabilities)  # type: ignore[untyped-decorator]
    def predict_log_proba(self, X: Any) -> Any:
        """Logarithm of the probability of each class, ``(n, k)``; -inf where it is 0."""
        of_margins = log_logistic_shares if self.loss == "log_loss" else log_clipped_shares
        self._outputs()
        return self._map_margins(X, of_margins, np.dtype(float), len(self.classes_))


class SGDRegressor(_SGD, Regressor):
    """Linear regression by stochastic gradient descent, on data that need not fit in memory.

    Minimises ``(1 / W) sum_i s_i loss_i + alpha (r |w|_1 + (1 - r) / 2 |w|**2)`` as :class:`SGDClassifier`
    does. :class:`Ridge`, :class:`ElasticNet` and :class:`LinearSVR` come to the minimum of such objectives.

    Parameters
    ----------
    loss : "squared_error", "huber", "epsilon_insensitive" or "squared_epsilon_insensitive"
        Of the residual r: ``r**2 / 2``; the same up to `epsilon`, and straight beyond; ``max(0, |r| -
        epsilon)``; its square.
    epsilon : float
        Of the loss, in the units of the target.
    penalty, alpha, l1_ratio, fit_intercept, max_iter, tol, shuffle, learning_rate, eta0, power_t :
        As in :class:`SGDClassifier`; the score is R2.
    early_stopping, validation_fraction, n_iter_no_change, average, batch_size :
        As there.
    solver, regime, scale, memory, engine, random_state, verbose, warm_start :
        As there.

    Attributes
    ----------
    coef_ : ``(p,)``
    intercept_ : ``(1,)``
    n_iter_, t_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`SGDClassifier`.

    Examples
    --------
    >>> X = np.linspace(-1, 1, 100)[:, None]
    >>> est = SGDRegressor(learning_rate="optimal", average=True).fit(X, 3 * X[:, 0] + 1)
    >>> est.predict([[0.5]]).round(1)
    array([2.5])
    """

    _rules: ClassVar[dict[str, Rule]] = {
        **_SGD._rules,
        "loss": is_one_of("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive"),
    }

    @with_parameters_of(_SGD.__init__)
    def __init__(
        self,
        loss: str = "squared_error",
        *,
        learning_rate: str = "invscaling",
        power_t: float = 0.25,
        **settings: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, power_t=power_t, **settings)
        self.loss = loss

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.loss == "huber" and not self.epsilon > 0:
            raise ValueError(
                f'SGDRegressor: expected epsilon above 0 with loss="huber", got {self.epsilon!r}'
            )

    def _loss(self, n_classes: int) -> Loss:
        if self.loss == "huber":
            return HuberResidual(float(self.epsilon) or 1.0)
        if self.loss == "squared_error":
            return Squared()
        return EpsilonInsensitive(float(self.epsilon), squared=self.loss == "squared_epsilon_insensitive")

    def _shape_coefficients(self, coefficients: Array, intercepts: Array) -> tuple[Array, Any]:
        return coefficients[0], intercepts.astype(float)  # as in scikit-learn, also of float32

    def _is_single(self) -> bool:
        return False
