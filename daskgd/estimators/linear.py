"""The base of the estimators with a linear model: the penalty, standardised features, and the summary."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from daskgd.estimators.base import Estimator
from daskgd.estimators.fitting.empty_features import Occurring
from daskgd.estimators.fitting.fit import FitOutcome, PreparedFit
from daskgd.estimators.fitting.scale import choose_scale
from daskgd.estimators.fitting.smoothing import choose_smoothing
from daskgd.estimators.fitting.solver_choice import (
    SolverChoice,
    choose,
    choose_local,
)
from daskgd.estimators.inference import Summary, check_summary, summarise
from daskgd.estimators.parameters import FLAG, SCALE, check_parameters
from daskgd.estimators.prediction import dense
from daskgd.losses import Huber, Loss, TargetSummary
from daskgd.models import Linear
from daskgd.penalties import L1, L2, ElasticNet, Penalty
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer
from daskgd.rows.layout import Shape
from daskgd.rows.statistics import Moments
from daskgd.solvers import Solver, SubsampledNewton

Array = NDArray[Any]


def spreads(X: Moments, centred: bool = True) -> Array:
    """Divisors of the features ``(p,)``: standard deviations, or root mean squares; 1 in place of 0."""
    spread = np.sqrt(X.variance + (0.0 if centred else X.mean**2))
    return np.where((spread > 0) & np.isfinite(spread), spread, 1.0)


LARGEST = float(np.finfo(np.float32).max)


class LinearEstimator(Estimator):
    """Base of the estimators with a linear model.

    Subclasses say what their parameters may be (`_rules`), which loss they mean (`_loss`), and how strong the
    penalty is (`_strengths`).
    """

    _has_one_minimum: ClassVar[bool] = True

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        """The factors of ``|w|`` and ``|w|**2 / 2`` in the mean objective, for data of this total weight.

        Numbers, or one per output ``(k,)``.
        """
        raise NotImplementedError

    def _has_l1(self) -> bool:
        """Whether the penalty has an L1 part, or a sign to keep."""
        return False

    def _strengths_by_name(self) -> tuple[float, float]:
        """The strengths of a `penalty` that is a name, with `alpha` and `l1_ratio`, beside the mean loss."""
        given: Any = self
        if given.penalty is None:
            return 0.0, 0.0
        share = float({"l1": 1.0, "l2": 0.0}.get(given.penalty, given.l1_ratio) or 0.0)
        return share * float(given.alpha), (1 - share) * float(given.alpha)

    def _auto(self, shape: Shape | None) -> SolverChoice:
        return choose(self._loss(2).smoothed(1.0), L1(1.0) if self._has_l1() else L2(), shape)

    def _other(self, shape: Shape | None) -> SolverChoice:
        return choose_local(self._loss(2), L1(1.0) if self._has_l1() else L2())

    def _begins_at_zero_beside(self, some: Occurring) -> bool:
        if not (self.warm_start and hasattr(self, "coef_")):
            return True
        coef = np.atleast_2d(dense(self.coef_))
        return coef.shape[1] == some.n and not np.delete(coef, some.positions, axis=1).any()

    def _strength(self, model: Linear, weight: float) -> Penalty:
        """The penalty on the parameters of the model, for data of this total weight."""
        l1, l2 = (np.broadcast_to(s, (model.outputs,)) for s in self._strengths(weight, model.outputs))
        if not (np.isfinite(l1).all() and np.isfinite(l2).all()):
            raise ValueError(
                f"{type(self).__name__}: expected a penalty that is finite beside the mean loss, got "
                f"{np.maximum(l1, l2).max()} for a total weight of {weight:g}; choose a weaker one"
            )
        squares = model.per_parameter(l2)
        if not self._has_l1():
            return L2(squares)
        positive = bool(getattr(self, "positive", False))
        return ElasticNet(model.per_parameter(l1, power=1), squares, positive)

    def _check_parameters(self) -> None:
        check_parameters(self, {"fit_intercept": FLAG, "scale": SCALE})
        super()._check_parameters()

    def _specimen(self, loss: Loss) -> Problem:
        return Problem(loss, Linear(1), L1(1.0) if self._has_l1() else L2())

    def _plan_model(self, n_features: int, outputs: int) -> Linear:
        given = isinstance(self.solver, Solver) and self.solver.fixes_step
        ones = None if given else np.ones(n_features)
        return Linear(n_features, outputs, True, ones, ones)

    def _about(self) -> str:
        if getattr(self, "positive", False):
            return "positive=True"
        return "a penalty with L1" if self._has_l1() else "a smooth penalty"

    def _revise(self, fit: PreparedFit, tol: float) -> PreparedFit:
        problem, solver, answers = fit.problem, fit.choice.solver, fit.first_sweep_answers
        if isinstance(problem.loss, Huber) and isinstance(solver, SubsampledNewton):
            problem, start, error = choose_scale(problem, solver, answers[0], fit.start)
            fit = replace(fit, problem=problem, start=start, smoothing_error=error)
        elif problem.loss.nonsmooth and isinstance(solver, SubsampledNewton):
            problem, start, error = choose_smoothing(problem, solver, answers[0], fit.start, tol)
            fit = replace(fit, problem=problem, start=start, smoothing_error=error)
        return fit

    def _linear(self, survey: SurveyAnswer, outputs: int, kind: type[Linear] = Linear) -> Linear:
        """The model, standardised by the moments of the survey where `scale` says so."""
        X, intercept = survey.X, bool(self.fit_intercept)
        if not self._standardises():
            return kind(len(X.mean), outputs, intercept)
        return kind(len(X.mean), outputs, intercept, X.mean if intercept else None, spreads(X, intercept))

    def _standardises(self) -> bool:
        """Whether the solver works on standardised features."""
        if not isinstance(self.scale, str):
            return bool(self.scale)
        # A step that the user gave is in the units of the data.
        return isinstance(self.solver, str) or not self.solver.fixes_step

    def _initial(self, problem: Problem, summary: TargetSummary, survey: SurveyAnswer) -> Array:
        """The best constant model, or with `warm_start` the last fit's. A solver whose steps the user fixed
        starts from zero, and ``max_iter=0`` ends there, unless margins have to be positive."""
        model, loss = problem.linear, problem.loss
        k = model.outputs
        shift = 0.0 if problem.offset is None else problem.offset
        if self.warm_start and hasattr(self, "coef_"):
            coef = dense(self.coef_)
            if self._occurring is not None:
                coef = coef[..., self._occurring.positions]
            if coef.size != k * model.n_features:
                raise ValueError(
                    "warm_start: expected data like that of the last fit, whose coef_ has shape "
                    f"{coef.shape}, got {model.n_features} features and {k} outputs; fit with "
                    "warm_start=False"
                )
            fitted: tuple[float, ...] = ()
            if loss.scales:  # none that has fallen to 0, from where there is no way up
                least = 1e-3 * float(loss.constant(summary)[-1])
                fitted = (max(float(getattr(self, "scale_", 1.0)), least),)
            if getattr(self, "positive", False):  # which the last fit may not have been
                coef = np.maximum(coef, 0.0)
            b = np.ravel(getattr(self, "intercept_", np.zeros(k)))  # users may set coefficients alone
            if b.size not in (1, k):
                raise ValueError(f"warm_start: expected intercept_ of {k} numbers, got {b.size}")
            return model.parameters(coef, np.broadcast_to(b, (k,)) - shift, *fitted)
        constant = loss.constant(summary)
        b, scales = constant[:k] - shift, constant[k:]
        if loss.offsets and survey.y is not None:  # which rows have on average without the intercept
            b = b - survey.y.mean[-loss.offsets :].sum()
        given = isinstance(self.solver, Solver) and self.solver.fixes_step
        if not model.intercept or ((given or self.max_iter == 0) and not loss.positive_margins):
            b = np.zeros(k)
        return model.parameters(np.zeros((k, model.n_features)), b, *scales)

    def _finish(self, outcome: FitOutcome) -> None:
        names = ("coef_", "intercept_")
        began = [dense(getattr(self, name, None)) for name in names] if self.warm_start else []
        super()._finish(outcome)
        ended = [dense(getattr(self, name)) for name in names]
        if began and self.n_iter_ == self.n_sweeps_ == 1 and all(map(np.array_equal, began, ended)):
            self.n_iter_ = 0  # it looked, and found nothing to do

    def _set_parameters(self, problem: Problem, w: Array) -> None:
        model = problem.linear
        b = model.intercepts(w) + (0.0 if problem.offset is None else problem.offset)
        coefficients, units = model.coefficients(w), (model.center, model.scale)
        if (some := self._occurring) is not None:
            center, scale = units
            coefficients = some.spread(coefficients)
            units = (
                None if center is None else some.spread(center),
                None if scale is None else some.spread(scale, 1.0),
            )
        if self._float32 and max(np.abs(coefficients).max(initial=0.0), np.abs(b).max()) > LARGEST:
            self._float32 = False  # of denormal features: float32 does not hold them
        dtype = np.float32 if self._float32 else np.float64
        coefficients = coefficients.astype(dtype, copy=False)
        self.coef_, self.intercept_ = self._shape_coefficients(coefficients, b.astype(dtype, copy=False))
        self._units = units

    def _shape_coefficients(self, coefficients: Array, intercepts: Array) -> tuple[Array, Any]:
        return coefficients, intercepts

    def _model(self) -> tuple[Linear, Array]:
        check_is_fitted(self)
        coef = np.atleast_2d(dense(self.coef_))
        model = Linear(coef.shape[1], coef.shape[0], True)
        return model, model.parameters(coef, np.ravel(self.intercept_))

    def summary(
        self, X: Any = None, y: Any = None, sample_weight: Any = None, *, confidence: float = 0.95
    ) -> Summary:
        """Standard errors, tests and confidence intervals, in one sweep over the rows of the fit.

        For least squares, logistic (two classes), Poisson, gamma and Tweedie regression without a penalty.
        Sample weights count as frequencies. Parameters that the data do not determine have infinite standard
        errors, and a warning names them.

        Parameters
        ----------
        X, y, sample_weight :
            Those of the fit. May be left out after a fit to a stored dataset alone, which is read again.
        confidence : float
            Of the intervals.

        Returns
        -------
        Summary
            Print it, or take ``to_pandas()``.

        Raises
        ------
        ValueError
            For models with a penalty or of another kind, where the rows are needed and not given, and for
            rows of another total weight than those of the fit.

        Examples
        --------
        >>> import daskgd
        >>> X, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([1.0, 2.0, 4.0, 5.0])
        >>> daskgd.LinearRegression().fit(X, y).summary(X, y)
                   coefficient  standard error      t    P>|t|  95% from  95% to
        intercept          0.9          0.2646  3.402  0.07662   -0.2384   2.038
        x0                 1.4          0.1414  9.899  0.01005    0.7915   2.008
        total weight 4, degrees of freedom 2, dispersion 0.1
        """
        check_is_fitted(self)
        check_summary(self, confidence)
        if X is None:
            stored = getattr(self, "_stored", None)
            if stored is None:
                raise ValueError(
                    f"{type(self).__name__}.summary: expected the rows of the fit, got none; they are not "
                    "kept: pass X, y and sample_weight again"
                )
            X = stored.open()
        return summarise(self, self._dataset(X, y, sample_weight, reset=False), confidence)
