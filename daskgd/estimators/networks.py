"""The base of the multilayer perceptrons: their layers, solvers, when they end, and how they go on."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from daskgd._compat.caller import warn
from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice
from daskgd.estimators.epochs import DIVISOR, LEAST_STEP, Earlier, Training, rows_and_stop
from daskgd.estimators.fitting.fit import FitOutcome, PreparedFit
from daskgd.estimators.fitting.run import run_fits
from daskgd.estimators.fitting.solver_choice import GIVEN, SolverChoice, find_solver
from daskgd.estimators.linear import spreads
from daskgd.estimators.nonlinear import Trained
from daskgd.estimators.parameters import (
    FLAG,
    NONNEGATIVE,
    POSITIVE,
    SCALE,
    Rule,
    check_parameters,
    is_one_of,
)
from daskgd.losses import Loss, TargetSummary
from daskgd.models import ACTIVATIONS, MLP, Model
from daskgd.monitoring.events import Watcher
from daskgd.penalties import L2, Penalty
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer
from daskgd.rows.layout import Shape
from daskgd.solvers import LBFGS, LocalSGD, Solver
from daskgd.solvers.base import in_unit_interval, is_count
from daskgd.training.loop import Stop

Array = NDArray[Any]

BATCH = 200


def is_layers(value: Any) -> bool:
    """Whether a value is a number of units, or a sequence of them."""
    return is_count(value) or (
        isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and all(map(is_count, value))
    )


DIGITS_LOST = 1e-3
"""Share of the targets' standard deviation that their mean may lose in float32."""

NOTHING_LEARNT = 1e-6
"""Share of the loss of the best constant prediction below which a network has learnt nothing."""


class Perceptrons(Trained):
    """Base of the classifier and the regressor: the layers, and scikit-learn's parameters."""

    _earlier: Earlier | None = None
    """What a call of `partial_fit` goes on from, while it runs."""

    _rules: ClassVar[dict[str, Rule]] = {
        "hidden_layer_sizes": (is_layers, "a number of units >= 1, or a sequence of them"),
        "activation": is_one_of(*ACTIVATIONS),
        "alpha": NONNEGATIVE,
        "batch_size": (
            lambda value: (isinstance(value, str) and value == "auto") or is_count(value),
            '"auto" or a whole number >= 1',
        ),
        "learning_rate": is_one_of("constant", "invscaling", "adaptive"),
        "learning_rate_init": POSITIVE,
        "power_t": NONNEGATIVE,
        "shuffle": FLAG,
        "momentum": (in_unit_interval, "in [0, 1)"),
        "nesterovs_momentum": FLAG,
        "early_stopping": FLAG,
        "validation_fraction": (in_unit_interval, "a share in [0, 1)"),
        "beta_1": (in_unit_interval, "in [0, 1)"),
        "beta_2": (in_unit_interval, "in [0, 1)"),
        "epsilon": POSITIVE,
        "n_iter_no_change": (lambda value: is_count(value) or value == np.inf, "a whole number >= 1, or inf"),
        "max_fun": (is_count, "a whole number >= 1"),
        "scale": SCALE,
    }

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str = "relu",
        *,
        solver: str | Solver = "auto",
        regime: str = "auto",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: int | np.random.RandomState | None = None,
        tol: float = 1e-4,
        verbose: int = 0,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        scale: str | bool = "auto",
        memory: Any = "auto",
        engine: Choice = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.regime = regime
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.scale = scale
        self.memory = memory
        self.engine = engine

    def _check_parameters(self) -> None:
        check_parameters(self, self._rules)
        if self.learning_rate != "constant" and self.solver != "sgd":
            raise ValueError(
                f'{type(self).__name__}: expected learning_rate="constant" unless solver="sgd", got '
                f"learning_rate={self.learning_rate!r} and solver={self.solver!r}"
            )
        if self.early_stopping and not self.validation_fraction > 0:
            raise ValueError(
                f"{type(self).__name__}: expected validation_fraction to be a share in (0, 1) with "
                f"early_stopping=True, got {self.validation_fraction!r}"
            )
        super()._check_parameters()

    # -- the solver ---------------------------------------------------------------------------

    def _auto(self, shape: Shape | None) -> SolverChoice:
        if self._earlier is not None:
            return SolverChoice(self._adam(shape), "goes on by mini-batches")
        if not isinstance(self.batch_size, str):
            return SolverChoice(self._adam(shape), "batch_size is given: Adam's steps by mini-batches")
        return super()._auto(shape)

    def _solver_by_name(self, shape: Shape | None) -> SolverChoice:
        if self.solver == "adam":
            return SolverChoice(self._adam(shape), GIVEN)
        if self.solver == "sgd":
            rule = "nesterov" if self.nesterovs_momentum else "momentum"
            invscaling = self.learning_rate == "invscaling" and self.power_t > 0
            sgd = LocalSGD(
                float(self.learning_rate_init),
                rule if self.momentum else "sgd",
                float(self.momentum),
                schedule="invscaling" if invscaling else "constant",
                decay=float(self.power_t) if invscaling else 1.0,
                **self._by_batches(shape),
            )
            return SolverChoice(sgd, GIVEN)
        return find_solver(type(self).__name__, self.solver)

    def _adam(self, shape: Shape | None) -> LocalSGD:
        return LocalSGD(
            float(self.learning_rate_init),
            "adam",
            float(self.beta_1),
            float(self.beta_2),
            float(self.epsilon),
            schedule="constant",
            epsilon_hat=True,
            **self._by_batches(shape),
        )

    def _by_batches(self, shape: Shape | None) -> dict[str, Any]:
        """Settings of both solvers that scikit-learn has, too: what a step knew goes on to the next pass."""
        return {
            "batch_size": self._batch(shape),
            "control": False,
            "sample_bytes": 0,
            "shuffle": bool(self.shuffle),
            "keep_moments": True,
        }

    def _batch(self, shape: Shape | None) -> int:
        if isinstance(self.batch_size, str):
            return BATCH if shape is None else max(min(BATCH, shape.n_rows), 1)
        return int(self.batch_size) if shape is None else max(min(int(self.batch_size), shape.n_rows), 1)

    def _prepare_rows(self, dataset: Dataset) -> tuple[Dataset, Sequence[Watcher]]:
        several = getattr(self, "_labels_per_row", None) is not None
        adaptive = self.learning_rate == "adaptive"
        by_loss = self._stops_by_loss(self._choice(self._shape(dataset)).solver)
        return rows_and_stop(
            type(self).__name__,
            dataset,
            tol=float(self.tol),
            patience=self._patience() + 1,
            validation_fraction=float(self.validation_fraction) if self.early_stopping else None,
            seed=self._seed,
            stratify=self._classification and not several,
            adaptive=adaptive,
            by_loss=by_loss and (self.tol > 0 or adaptive),
        )

    def _patience(self) -> float:
        return float(self.n_iter_no_change) if self.n_iter_no_change == np.inf else int(self.n_iter_no_change)

    # -- the problem --------------------------------------------------------------------------

    def _hidden(self) -> tuple[int, ...]:
        sizes: Any = self.hidden_layer_sizes
        return (int(sizes),) if is_count(sizes) else tuple(int(h) for h in sizes)

    def _specimen(self, loss: Loss) -> Problem:
        return Problem(loss, MLP(1, 1, self._hidden(), self.activation), L2())

    def _plan_model(self, n_features: int, outputs: int) -> Model:
        return MLP(n_features, outputs, self._hidden(), self.activation)

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        problem, attributes = super()._problem(survey, dataset)
        by_batches = isinstance(self._choice(self._shape(dataset)).solver, LocalSGD)
        if by_batches and isinstance(problem.penalty, L2):  # alpha over rows so far, not over their weight
            each = survey.weight / survey.n_rows
            problem = replace(problem, penalty=L2(problem.penalty.strength / each))
        classes: Any = attributes.get("classes_")
        known: Any = vars(self).get("classes_")
        warm = self.warm_start and self._earlier is None and known is not None
        if warm and not np.array_equal(classes, known):
            raise ValueError(
                f"warm_start: expected y with the classes of the last fit, {known.tolist()}, got "
                f"{classes.tolist()}; fit with warm_start=False"
            )
        single = dataset.columns.X.dtype == np.float32
        far = False
        if problem.offset is not None and survey.y is not None:
            lost = np.finfo(np.float32).eps * np.abs(problem.offset)
            far = bool((lost > DIGITS_LOST * np.sqrt(survey.y.variance)).any())
        return problem, {**attributes, "_single": single, "_far": far, "_n_rows": survey.n_rows}

    def _form(self, survey: SurveyAnswer, outputs: int) -> MLP:
        X = survey.X
        center, scale = (X.mean, spreads(X)) if self.scale else (None, None)
        if (units := self._units_to_keep()) is not None:
            center, scale = units.center, units.scale
        return MLP(len(X.mean), outputs, self._hidden(), self.activation, center, scale)

    def _units_to_keep(self) -> Training | None:
        """The units in which training goes on; None where it begins."""
        if self._earlier is None or "coefs_" not in vars(self):
            return None
        return vars(self).get("_training") or Training()

    def _penalty(self, model: Any, weight: float, solver: Solver) -> Penalty:
        # scikit-learn divides alpha by the weight of the rows of a step.
        rows = solver.batch_size if isinstance(solver, LocalSGD) else weight
        return L2(model.per_parameter(float(self.alpha) / rows))

    def _initial(self, problem: Problem, summary: TargetSummary, survey: SurveyAnswer) -> Array:
        model = problem.model
        assert isinstance(model, MLP)
        goes_on = self.warm_start or self._earlier is not None
        if not (goes_on and hasattr(self, "coefs_")):
            return model.initial(self._seed)
        seen = (len(self.coefs_[0]), *(W.shape[1] for W in self.coefs_))
        if seen != model.units:
            what = "warm_start" if self._earlier is None else "partial_fit"
            raise ValueError(
                f"{what}: expected layers and data like those of the last fit, of {seen} units, got "
                f"{model.units}; fit anew, with warm_start=False"
            )
        training = vars(self).get("_training")
        if self._earlier is not None and training is not None and len(training.w) == model.size:
            coefs, intercepts = self._layers(problem, training.w, self._single, self._far)
            if all(map(np.array_equal, (*coefs, *intercepts), (*self.coefs_, *self.intercepts_))):
                return training.w.copy()  # nobody has set others since
        intercepts = list(self.intercepts_)
        if problem.offset is not None:
            intercepts[-1] = intercepts[-1] - problem.offset
        return model.parameters(self.coefs_, intercepts)

    def _revise(self, fit: PreparedFit, tol: float) -> PreparedFit:
        fit = super()._revise(fit, tol)
        solver = fit.choice.solver
        fit = replace(fit, attributes={**fit.attributes, "_rule": getattr(solver, "inner", "")})
        if self._earlier is not None:
            assert isinstance(solver, LocalSGD)
            training = vars(self).get("_training") or Training()
            return replace(fit, stop=Stop(0.0, 1), state=training.begin(solver, fit.start))
        if isinstance(solver, LBFGS):
            return replace(fit, stop=replace(fit.stop, max_evaluations=int(self.max_fun)))
        return fit

    # -- what comes of it ---------------------------------------------------------------------

    def _layers(self, problem: Problem, w: Array, single: bool, far: bool) -> tuple[list[Array], list[Array]]:
        """Weights and intercepts of the layers, of float32 where X is, but for the last intercepts where
        targets lie so `far` from 0 that float32 loses in what they differ."""
        model = problem.model
        assert isinstance(model, MLP)
        coefs, intercepts = model.coefficients(w), model.intercepts(w)
        if problem.offset is not None:
            intercepts[-1] = intercepts[-1] + problem.offset
        if single:
            coefs = [W.astype(np.float32) for W in coefs]
            intercepts = [b if far and b is intercepts[-1] else b.astype(np.float32) for b in intercepts]
        return coefs, intercepts

    def _set_parameters(self, problem: Problem, w: Array) -> None:
        model = problem.model
        assert isinstance(model, MLP)
        self.coefs_, self.intercepts_ = self._layers(problem, w, self._single, self._far)
        self.n_layers_, self.n_outputs_ = len(model.units), model.outputs
        self.out_activation_ = problem.loss.inverse_link

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        history, state = outcome.history, outcome.state
        self.t_ = self.n_iter_ * self._n_rows
        scores = [float(row["validation_score"]) for row in history if "validation_score" in row]
        self.validation_scores_ = scores if self.early_stopping else None
        self.best_validation_score_ = max(scores, default=-np.inf) if self.early_stopping else None
        self._useless = self._ends_no_better_than_a_constant(outcome)
        if self._useless:
            self.outcome_ = "stalled"
        self._training = Training.of(outcome.problem, state, self._rule)
        self._false_starts = getattr(state, "false_starts", 0), float(getattr(state, "step", 0.0))
        if self._earlier is not None:
            self._add_to(self._earlier)
        self.best_loss_ = None if self.early_stopping else self.best_loss_

    def _ends_no_better_than_a_constant(self, outcome: FitOutcome) -> bool:
        """Whether training ended because nothing improved any more, and no iteration had a loss below that of
        the best constant prediction: units are dead or saturated, or steps too long or too short."""
        problem, baseline = outcome.problem, self._baseline
        ended = self.outcome_ == "converged" or (self.outcome_ == "stopped" and self.early_stopping)
        if not (ended and self._hidden() and baseline > 0 and problem.loss.exact_baseline):
            return False
        least = min(self.loss_curve_, default=np.inf) - problem.penalty_value(outcome.result.w)
        return not least < baseline * (1 - NOTHING_LEARNT)

    def _add_to(self, earlier: Earlier) -> None:
        """Let the attributes go on from those before this call."""
        loss, training = self.loss_, self._training
        if self.learning_rate == "adaptive":
            waited = earlier.waited + 1 if loss > earlier.best - float(self.tol) else 0
            if waited > self._patience():
                waited = 0
                if self._false_starts[1] > LEAST_STEP:
                    training.shrink /= DIVISOR
            training.waited = waited
        self.loss_curve_ = [*earlier.losses, loss]
        self.best_loss_ = min(earlier.best, loss)
        self.n_iter_ += earlier.n_iter
        self.n_sweeps_ += earlier.n_sweeps
        self.t_ += earlier.rows
        self.history_ = earlier.extended(self.history_)

    def _warn(self) -> None:
        name = type(self).__name__
        if self._earlier is not None:
            return
        times, step = self._false_starts
        if times:
            warn(
                f"{name}: steps of learning_rate_init={self.learning_rate_init:g} raised the loss from the "
                f"start on, and were halved {times} time{'' if times == 1 else 's'}; the last were of "
                f"{step:.3g}. Give that, and standardise targets that are far from 1 in size",
                ConvergenceWarning,
            )
        if self._useless or (self.outcome_ == "stalled" and self._by_loss):
            warn(
                f"{name} did not converge: its loss no longer improves, and is no better than that of a "
                "constant prediction. Units are dead or saturated, or steps too long or too short: change "
                "learning_rate_init, standardise targets that are far from 1 in size, or lower alpha",
                ConvergenceWarning,
            )
        elif self.outcome_ == "budget_spent" and not self._by_loss and self.n_iter_ < self.max_iter:
            warn(
                f"{name} did not converge in max_fun={self.max_fun} evaluations of the loss: "
                f"estimated relative gap {self.gap_:.1e}, tol={self.tol:g}. Increase max_fun",
                ConvergenceWarning,
            )
        else:
            super()._warn()

    # -- going on -----------------------------------------------------------------------------

    def _takes_part(self) -> bool:
        """Whether the solver steps by mini-batches, so that training can go on with a part of the data."""
        if self.solver not in ("auto", "adam", "sgd"):
            raise AttributeError(
                f'partial_fit: expected solver to be "adam" or "sgd", or "auto", which is "adam" here, got '
                f"{self.solver!r}, which needs all rows at once"
            )
        return True

    def _go_on(self, X: Any, y: Any, sample_weight: Any, classes: Array | None) -> Self:
        """Make one pass over these rows, from where training stands."""
        self._check_parameters()
        name = type(self).__name__
        if self.early_stopping:
            raise ValueError(
                f"{name}.partial_fit does not support early_stopping=True: expected False, as rows to "
                "validate on would be others in every call; score the model between calls instead"
            )
        begun = "coefs_" in vars(self)
        after = copy.copy(self)  # so that this one stays as it is where anything fails
        after._earlier = Earlier.of(self)
        if classes is not None:
            after._classes = classes
        if not begun:
            after._draw_seed()
        dataset = after._dataset(X, y, sample_weight, reset=not begun)
        run_fits([after], dataset, (X, y, sample_weight))
        if after.outcome_ == "diverged":
            raise ValueError(
                f"{name}.partial_fit: the step led to parameters that are not finite; the model is as it "
                "was. Use a smaller learning_rate_init, or smaller numbers: standardise X and y"
            )
        for name in ("_earlier", "_classes"):
            after.__dict__.pop(name, None)
        self.__dict__.clear()
        self.__dict__.update(after.__dict__)
        return self

    def _model(self) -> tuple[MLP, Array]:
        check_is_fitted(self)
        hidden = tuple(len(b) for b in self.intercepts_[:-1])
        model = MLP(len(self.coefs_[0]), self.n_outputs_, hidden, self.activation)
        return model, model.parameters(self.coefs_, self.intercepts_)

    def _is_single(self) -> bool:
        return all(a.dtype == np.float32 for a in (*self.coefs_, *self.intercepts_))
