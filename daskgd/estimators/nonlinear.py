"""Bases of the estimators whose model is not linear: which solver they take, when they stop, regression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from daskgd._compat.caller import warn
from daskgd.data.dataset import Dataset
from daskgd.estimators.base import Estimator
from daskgd.estimators.fitting.fit import FitOutcome, PreparedFit
from daskgd.estimators.fitting.solver_choice import SolverChoice
from daskgd.estimators.regression import NumberRegressor, targets_of
from daskgd.losses import Loss
from daskgd.models import Model
from daskgd.models.responses import RegressorResponse
from daskgd.monitoring.events import Watcher
from daskgd.monitoring.watchers import Plateau
from daskgd.penalties import L2, Penalty
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer
from daskgd.rows.layout import Shape
from daskgd.solvers import LBFGS, SGD, Adam, LocalGD, LocalSGD, Solver

Array = NDArray[Any]


FEW_ROWS = 10_000
"""Rows up to which L-BFGS, one step a read, is faster than a step for every batch of 200."""


class Trained(Estimator):
    """Base of the estimators whose model is not linear: trained by gradients alone."""

    _keeps_float32 = False

    def _auto(self, shape: Shape | None) -> SolverChoice:
        if shape is None or shape.n_rows <= FEW_ROWS:
            return SolverChoice(LBFGS(), f"up to {FEW_ROWS:,} rows: a few hundred steps with all of them")
        return SolverChoice(
            self._adam(shape),
            f"more than {FEW_ROWS:,} rows: Adam's steps by mini-batches in every partition, and averages",
        )

    def _other(self, shape: Shape | None) -> SolverChoice:
        if self.regime == "distributed":
            return SolverChoice(self._adam(shape), "asked to train apart: Adam's steps in every partition")
        if shape is None or shape.n_rows <= FEW_ROWS:
            return SolverChoice(LBFGS(), f"asked for one step at a time, up to {FEW_ROWS:,} rows")
        adam = self._adam(shape)
        return SolverChoice(
            Adam(step=adam.step),
            f"asked for one step at a time, more than {FEW_ROWS:,} rows: Adam's, by blocks",
        )

    def _adam(self, shape: Shape | None) -> LocalSGD:
        raise NotImplementedError

    def _about(self) -> str:
        return "a model that is not linear"

    def _stops_by_loss(self, solver: Solver) -> bool:
        """Whether a solver estimates no gap, so that a fit stops where the loss does not fall any more."""
        return isinstance(solver, LocalSGD | LocalGD | SGD)

    def _tol(self, solver: Solver) -> float:
        return 0.0 if self._stops_by_loss(solver) else float(self.tol)

    def _prepare_rows(self, dataset: Dataset) -> tuple[Dataset, Sequence[Watcher]]:
        if self.tol > 0 and self._stops_by_loss(self._choice(self._shape(dataset)).solver):
            return dataset, [Plateau(patience=self._patience(), min_delta=float(self.tol))]
        return dataset, ()

    def _patience(self) -> float:
        """Iterations without improvement after which a fit ends."""
        raise NotImplementedError

    def _revise(self, fit: PreparedFit, tol: float) -> PreparedFit:
        by_loss = self._stops_by_loss(fit.choice.solver)
        stop = replace(fit.stop, ends_stalled=by_loss and self.tol > 0)
        return replace(fit, stop=stop, attributes={**fit.attributes, "_by_loss": by_loss})

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        if self.outcome_ == "stopped" and outcome.plateaued:
            self.outcome_ = "converged"
        losses = outcome.history.column("loss")
        self.loss_curve_ = [float(f) for f in losses]
        self.loss_ = self.loss_curve_[-1] if losses else np.inf
        self.best_loss_: float | None = min(self.loss_curve_, default=np.inf)

    def _warn(self) -> None:
        if self.outcome_ != "budget_spent" or not self._by_loss:
            return super()._warn()
        if self.tol > 0:
            warn(
                f"{type(self).__name__} did not converge in max_iter={self.max_iter} iterations: the loss "
                f"still falls, or fell in one of the last {self._patience()}, by more than tol={self.tol:g}. "
                "Increase max_iter, or the step",
                ConvergenceWarning,
            )


class Regression(NumberRegressor, Trained):
    """Base of the regressors whose model is not linear."""

    _many_targets = True

    def _form(self, survey: SurveyAnswer, outputs: int) -> Model:
        """The model for data with this survey."""
        raise NotImplementedError

    def _penalty(self, model: Any, weight: float, solver: Solver) -> Penalty:
        """The penalty on its parameters, for data of this total weight."""
        raise NotImplementedError

    def _offset(self, survey: SurveyAnswer, loss: Loss) -> Array | None:
        """The values ``(k,)`` that are subtracted from the targets before the fit; None for none."""
        return None

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        outputs, loss = targets_of(dataset), self._loss(0)
        model = self._form(survey, outputs)
        penalty = self._penalty(model, survey.weight, self._choice(self._shape(dataset)).solver)
        fitted = {"_many": outputs if outputs > 1 else None}
        return Problem(loss, model, penalty, offset=self._offset(survey, loss)), fitted

    def _split(self) -> tuple[Model, Array, Array | None]:
        """The model, its parameters ``(d,)``, and numbers ``(k,)`` to add to the margins."""
        return *self._model(), None

    def _scoring_problem(self, dataset: Dataset) -> tuple[Problem, Array]:
        model, w, b = self._split()
        if targets_of(dataset) != model.outputs:
            raise ValueError(f"y: expected {model.outputs} targets, as in the fit, got {targets_of(dataset)}")
        return Problem(self._loss(0), model, L2(), offset=b), w

    def _map_margins(self, X: Any, of_margins: Callable[[Array], Array] | None) -> Any:
        check_is_fitted(self)
        model, w, b = self._split()
        if b is not None:
            b = b if self._many else b[0]
        rowwise = RegressorResponse(model, w, 0.0 if b is None else b, self._many, self._loss(0).mean)
        return self._map_rows(X, rowwise, np.dtype(float), self._many)
