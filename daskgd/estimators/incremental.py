"""The base of linear estimators that learn from rows as they come: some in each call of `partial_fit`."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from daskgd.data.dataset import Dataset
from daskgd.estimators.epochs import Earlier
from daskgd.estimators.fitting.fit import FitOutcome, PreparedFit
from daskgd.estimators.fitting.run import run_fits
from daskgd.estimators.fitting.solver_choice import SolverChoice
from daskgd.estimators.linear import LinearEstimator
from daskgd.estimators.path import Path, Seen
from daskgd.estimators.prediction import dense
from daskgd.losses import TargetSummary
from daskgd.models import Linear
from daskgd.penalties import Penalty
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer
from daskgd.rows.layout import Shape
from daskgd.solvers import AveragedSGD, Solver
from daskgd.solvers.averaged_sgd import AveragedSGDState
from daskgd.training.loop import Stop

Array = NDArray[Any]


class Incremental(LinearEstimator):
    """Base of the linear estimators that have `partial_fit`."""

    _going: bool = False
    """Whether a call of `partial_fit` is running."""

    def _takes_parts(self) -> bool:
        """Whether the loss can be learnt from some rows at a time."""
        loss = self._loss(2)
        if loss.scales:
            raise AttributeError(
                f"{type(self).__name__} has no partial_fit: the scale of its loss is fitted with all rows in "
                'view; SGDRegressor(loss="huber") has one that is given'
            )
        return True

    def _go_on(self, X: Any, y: Any, sample_weight: Any, classes: Array | None = None) -> Self:
        """Make one pass over these rows, from where the path stands."""
        name = type(self).__name__
        if getattr(self, "class_weight", None) == "balanced":
            raise ValueError(
                f'{name}.partial_fit: expected class_weight to be None or a mapping, got "balanced": the '
                "shares of labels in all rows are not known; compute the weights and pass them as a mapping"
            )
        begun = "coef_" in vars(self)
        after: Any = copy.copy(self)  # so that this one stays as it is where anything fails
        after._going = True
        if classes is not None:
            after._classes = classes
        after._check_parameters()
        if not begun:
            after._draw_seed()
        dataset = after._dataset(X, y, sample_weight, reset=not begun)
        run_fits([after], dataset, (X, y, sample_weight))
        if not (np.isfinite(dense(after.coef_)).all() and np.isfinite(after.intercept_).all()):
            raise ValueError(
                f"{name}.partial_fit: the steps led to parameters that are not finite; the model is as it "
                "was. Give smaller numbers: standardise X and y, or drop outliers"
            )
        earlier = Earlier.of(self)
        after.n_iter_ = after.n_iter_ + earlier.n_iter
        after.n_sweeps_ += earlier.n_sweeps
        after.t_ = earlier.rows + dataset.n_rows
        after.history_ = earlier.extended(after.history_)
        for transient in ("_going", "_classes"):
            after.__dict__.pop(transient, None)
        self.__dict__.clear()
        self.__dict__.update(after.__dict__)
        return self

    def _choice(self, shape: Shape | None) -> SolverChoice:
        if not self._going:
            return super()._choice(shape)
        name = f"{type(self).__name__}.partial_fit"
        solver = self._by_parts()
        if isinstance(self.solver, AveragedSGD):
            solver = copy.copy(self.solver)
        elif isinstance(self.solver, Solver):
            raise ValueError(
                f"{name}: expected solver to be a name or AveragedSGD(), the one that goes on from some rows "
                f"to others, got {self.solver!r}"
            )
        if self.regime == "parallel":
            raise ValueError(
                f"{name}: expected regime to be 'auto' or 'distributed', got 'parallel': partitions train "
                "copies"
            )
        if solver.seed is None:
            solver.seed = self._seed
        return SolverChoice(solver, "a pass in mini-batches, from where the last call ended")

    def _by_parts(self) -> AveragedSGD:
        """The solver that learns from some rows at a time, where none is given."""
        return AveragedSGD()

    def _prepare(
        self,
        dataset: Dataset,
        choice: SolverChoice,
        answers: Any,
        initial: Array | None,
        tol: float,
    ) -> PreparedFit:
        survey, *others = answers
        X = survey.X
        if self._going and (seen := self._seen_so_far()) is not None:
            X = seen.X + X
        fit = super()._prepare(dataset, choice, [replace(survey, X=X), *others], initial, tol)
        return replace(fit, attributes={**fit.attributes, "_n_rows": survey.n_rows, "_moments": X})

    def _seen_so_far(self) -> Seen | None:
        """The rows of earlier calls, or of the last fit; None where there was none."""
        known = vars(self)
        if "coef_" not in known or "_total_weight" not in known:
            return None
        if "_seen" in known:
            return known["_seen"]
        return Seen.of_fit(self._units, self._total_weight, self._n_rows, self.n_features_in_)

    def _strength(self, model: Linear, weight: float) -> Penalty:
        if self._going and (seen := self._seen_so_far()) is not None:
            weight += seen.weight
        self._total_weight = weight
        return super()._strength(model, weight)

    def _initial(self, problem: Problem, summary: TargetSummary, survey: SurveyAnswer) -> Array:
        if self._going and "coef_" not in vars(self) and self._classification:
            return np.zeros(problem.model.size)  # the shares of the classes are not known
        if not self._going or "coef_" not in vars(self):
            return super()._initial(problem, summary, survey)
        coef, intercept = np.atleast_2d(dense(self.coef_)), np.ravel(self.intercept_)
        if (path := self._path_so_far()) is not None:
            coef, intercept = path.coef, path.intercept
        if getattr(self, "positive", False):  # which they need not have been
            coef = np.maximum(coef, 0.0)
        shift = 0.0 if problem.offset is None else problem.offset
        return problem.linear.parameters(coef, intercept - shift)

    def _path_so_far(self) -> Path | None:
        """The path to go on along; None where it begins, as where users have set other coefficients, or have
        asked for positive ones."""
        path: Path | None = vars(self).get("_path")
        if path is None or (getattr(self, "positive", False) and (path.coef < 0).any()):
            return None
        coef = dense(self.coef_)
        same = np.array_equal(path.coef.astype(coef.dtype).reshape(coef.shape), coef)
        intercept = np.asarray(self.intercept_)
        same = same and np.array_equal(path.intercept.astype(intercept.dtype).ravel(), intercept.ravel())
        return path if same else None

    def _revise(self, fit: PreparedFit, tol: float) -> PreparedFit:
        if not self._going:
            return super()._revise(fit, tol)
        solver = fit.choice.solver
        assert isinstance(solver, AveragedSGD)
        path = self._path_so_far() if "coef_" in vars(self) else None
        if path is None:  # the more rows the coefficients are of, the less do others move them
            seen = self._seen_so_far()
            state = replace(solver.begin(fit.start), made=0.0 if seen is None else float(seen.n_rows))
        else:
            state = path.state(fit.problem, solver)
        return replace(fit, stop=Stop(0.0, 1), state=state)

    def _finish(self, outcome: FitOutcome) -> None:
        seen = self._seen_so_far() if self._going else None
        super()._finish(outcome)
        moments = self.__dict__.pop("_moments")
        for name in ("_path", "_seen"):
            self.__dict__.pop(name, None)
        if self._going and isinstance(outcome.state, AveragedSGDState):
            self._path = Path.of(outcome.problem, outcome.state)
            n_rows = self._n_rows + (0 if seen is None else seen.n_rows)
            self._seen = Seen(moments, self._total_weight, n_rows)

    def _warn(self) -> None:
        if not self._going:
            super()._warn()
