"""Multilayer perceptrons with scikit-learn's names, on data that need not fit in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from daskgd.data.dataset import Dataset
from daskgd.engines.select import Choice
from daskgd.estimators.classification import Probable
from daskgd.estimators.fitting.fit import FitOutcome
from daskgd.estimators.fitting.solver_choice import GIVEN, SolverChoice, find_solver
from daskgd.estimators.linear import spreads
from daskgd.estimators.nonlinear import Regression, Trained
from daskgd.estimators.parameters import (
    FLAG,
    NONNEGATIVE,
    POSITIVE,
    SCALE,
    Rule,
    check_parameters,
    is_one_of,
    with_parameters_of,
)
from daskgd.losses import Logistic, Loss, Poisson, Softmax, Squared, TargetSummary
from daskgd.models import ACTIVATIONS, MLP, Model
from daskgd.monitoring.events import Watcher
from daskgd.monitoring.watchers import EarlyStopping
from daskgd.penalties import L2, Penalty
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer
from daskgd.rows.layout import Shape
from daskgd.solvers import LocalSGD, Solver
from daskgd.solvers.base import in_unit_interval, is_count, is_positive

Array = NDArray[Any]

BATCH = 200


def is_layers(value: Any) -> bool:
    """Whether a value is a number of units, or a sequence of them."""
    return is_count(value) or (
        isinstance(value, Sequence | np.ndarray) and not isinstance(value, str) and all(map(is_count, value))
    )


class _Perceptrons(Trained):
    """Base of the classifier and the regressor: the layers, and scikit-learn's parameters."""

    _rules: ClassVar[dict[str, Rule]] = {
        "hidden_layer_sizes": (is_layers, "a number of units >= 1, or a sequence of them"),
        "activation": is_one_of(*ACTIVATIONS),
        "alpha": NONNEGATIVE,
        "batch_size": (
            lambda value: (isinstance(value, str) and value == "auto") or is_count(value),
            '"auto" or a whole number >= 1',
        ),
        "learning_rate": (
            lambda value: isinstance(value, str) and value in ("constant", "invscaling"),
            '"constant" or "invscaling"; instead of "adaptive", a LocalSGD halves its steps by itself where '
            "the loss rises",
        ),
        "learning_rate_init": POSITIVE,
        "power_t": POSITIVE,
        "shuffle": (lambda value: value is True, "True: batches are drawn anew in every pass"),
        "momentum": (in_unit_interval, "in [0, 1)"),
        "nesterovs_momentum": FLAG,
        "early_stopping": FLAG,
        "validation_fraction": (lambda value: is_positive(value) and value < 1, "a share in (0, 1)"),
        "beta_1": (in_unit_interval, "in [0, 1)"),
        "beta_2": (in_unit_interval, "in [0, 1)"),
        "epsilon": POSITIVE,
        "n_iter_no_change": (is_count, "a whole number >= 1"),
        "max_fun": (
            lambda value: value == 15000 and not isinstance(value, bool),
            "15000, its default, which means nothing here: max_iter is the limit",
        ),
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
        n_iter_no_change: int = 10,
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
        super()._check_parameters()

    # -- the solver ---------------------------------------------------------------------------

    def _solver_by_name(self, shape: Shape | None) -> SolverChoice:
        if self.solver == "adam":
            return SolverChoice(self._adam(shape), GIVEN)
        if self.solver == "sgd":
            rule = "nesterov" if self.nesterovs_momentum else "momentum"
            return SolverChoice(
                LocalSGD(
                    float(self.learning_rate_init),
                    rule if self.momentum else "sgd",
                    float(self.momentum),
                    batch_size=self._batch(shape),
                    schedule=self.learning_rate,
                    decay=float(self.power_t),
                    control=False,
                    sample_bytes=0,
                ),
                GIVEN,
            )
        return find_solver(type(self).__name__, self.solver)

    def _adam(self, shape: Shape | None) -> LocalSGD:
        return LocalSGD(
            float(self.learning_rate_init),
            "adam",
            float(self.beta_1),
            float(self.beta_2),
            float(self.epsilon),
            self._batch(shape),
            schedule="constant",
            control=False,
            sample_bytes=0,
        )

    def _batch(self, shape: Shape | None) -> int:
        if isinstance(self.batch_size, str):
            return BATCH if shape is None else max(min(BATCH, shape.n_rows), 1)
        return int(self.batch_size)

    def _prepare_rows(self, dataset: Dataset) -> tuple[Dataset, Sequence[Watcher]]:
        if not self.early_stopping:
            return super()._prepare_rows(dataset)
        dataset, rest = dataset.train_test_split(float(self.validation_fraction), self._seed)
        delta = float(self.tol)
        return dataset, [EarlyStopping(rest, patience=self._patience(), min_delta=delta)]

    # -- the problem --------------------------------------------------------------------------

    def _hidden(self) -> tuple[int, ...]:
        sizes: Any = self.hidden_layer_sizes
        return (int(sizes),) if is_count(sizes) else tuple(int(h) for h in sizes)

    def _specimen(self, loss: Loss) -> Problem:
        return Problem(loss, MLP(1, 1, self._hidden(), self.activation), L2())

    def _plan_model(self, n_features: int, outputs: int) -> Model:
        return MLP(n_features, outputs, self._hidden(), self.activation)

    def _form(self, survey: SurveyAnswer, outputs: int) -> MLP:
        X = survey.X
        center, scale = (X.mean, spreads(X)) if self.scale else (None, None)
        return MLP(len(X.mean), outputs, self._hidden(), self.activation, center, scale)

    def _penalty(self, model: Any, weight: float, solver: Solver) -> Penalty:
        # scikit-learn divides alpha by the weight of the rows of a step.
        rows = solver.batch_size if isinstance(solver, LocalSGD) else weight
        return L2(model.per_parameter(float(self.alpha) / rows))

    def _initial(self, problem: Problem, summary: TargetSummary, survey: SurveyAnswer) -> Array:
        model = problem.model
        assert isinstance(model, MLP)
        if not (self.warm_start and hasattr(self, "coefs_")):
            return model.initial(self._seed)
        seen = (len(self.coefs_[0]), *(W.shape[1] for W in self.coefs_))
        if seen != model.units:
            raise ValueError(
                f"warm_start: expected layers and data like those of the last fit, of {seen} units, got "
                f"{model.units}; fit with warm_start=False"
            )
        intercepts = list(self.intercepts_)
        if problem.offset is not None:
            intercepts[-1] = intercepts[-1] - problem.offset
        return model.parameters(self.coefs_, intercepts)

    def _set_parameters(self, problem: Problem, w: Array) -> None:
        model = problem.model
        assert isinstance(model, MLP)
        self.coefs_, self.intercepts_ = model.coefficients(w), model.intercepts(w)
        if problem.offset is not None:
            self.intercepts_[-1] = self.intercepts_[-1] + problem.offset
        self.n_layers_, self.n_outputs_ = len(model.units), model.outputs
        self.out_activation_ = problem.loss.inverse_link

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        history = outcome.history
        if self.early_stopping and "validation_score" in (history[-1] if len(history) else ()):
            self.validation_scores_ = [float(s) for s in history.column("validation_score")]
            self.best_validation_score_ = max(self.validation_scores_)

    def _model(self) -> tuple[MLP, Array]:
        check_is_fitted(self)
        hidden = tuple(len(b) for b in self.intercepts_[:-1])
        model = MLP(len(self.coefs_[0]), self.n_outputs_, hidden, self.activation)
        return model, model.parameters(self.coefs_, self.intercepts_)


class MLPClassifier(_Perceptrons, Probable):
    """A multilayer perceptron for labels, trained out of core.

    Minimises the mean log-loss and ``alpha / (2 m) |W|**2`` over all weights but intercepts, with m the
    weight of all rows for solvers that step with all of them, and `batch_size` for "adam" and "sgd": as
    scikit-learn does.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer.
    activation : "identity", "logistic", "tanh" or "relu"
    solver : "auto", "lbfgs", "adam", "sgd", another name, or a Solver
        "adam" and "sgd" step by mini-batches in every partition and average (:class:`LocalSGD`): an iteration
        is one read of the data and one pass over each partition's rows. "auto" is "lbfgs" for up to 10,000
        rows, else "adam".
    regime : "auto", "parallel" or "distributed"
        As in :class:`LinearRegression`.
    alpha : float
        Strength of the penalty.
    batch_size : int or "auto"
        Rows of a step; "auto" is 200.
    learning_rate : "constant" or "invscaling"
        For "sgd". "invscaling" divides steps by ``(1 + t)**power_t``, t in passes over the data, where
        scikit-learn counts rows; "adaptive" is refused.
    learning_rate_init, power_t, momentum, nesterovs_momentum, beta_1, beta_2, epsilon :
        As in scikit-learn.
    max_iter : int
        Most iterations.
    shuffle, max_fun :
        Must have their default values.
    random_state : int or numpy.random.RandomState, optional
        Of initial weights, batches and validation rows; None is 0, from a RandomState a fit draws one number.
    tol : float
        "adam" and "sgd" stop when the loss did not fall by it in `n_iter_no_change` iterations in a row,
        others at this estimated relative gap; 0 runs `max_iter` iterations.
    early_stopping : bool
        Set aside `validation_fraction` of the rows, by a hash of their numbers, and stop when the score on
        them did not rise by `tol` in `n_iter_no_change` iterations, with the model that had the best.
    validation_fraction, n_iter_no_change :
        See `early_stopping`.
    scale : "auto", True or False
        Whether the first layer sees standardised features, by the moments of the first read, without a copy
        of X; "auto" is True. `coefs_` and the penalty are in the units of X in any case.
    verbose, warm_start, memory, engine :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    classes_ : ``(k,)``
    coefs_, intercepts_ : lists of ``(fan_in, fan_out)`` and ``(fan_out,)``
    n_layers_, n_outputs_, out_activation_, n_iter_ :
        As in scikit-learn.
    loss_, best_loss_, loss_curve_ :
        The objective in the last iteration, the least, and all; where mini-batches step, at each one's start.
    n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LinearRegression`; `gap_` is inf where mini-batches step.

    Examples
    --------
    >>> X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    >>> est = MLPClassifier(hidden_layer_sizes=8, random_state=1).fit(X, [0, 1, 1, 0])
    >>> est.predict(X)
    array([0, 1, 1, 0])
    """

    def _loss(self, n_classes: int) -> Loss:
        return Logistic() if n_classes <= 2 else Softmax()


class MLPRegressor(_Perceptrons, Regression):
    """A multilayer perceptron for numbers, trained out of core.

    Minimises half the mean squared error, summed over targets, and ``alpha / (2 m) |W|**2``; the rest is as
    in :class:`MLPClassifier`. (scikit-learn reports the mean over targets, and follows the gradient of the
    sum.) The mean of the targets is taken out first, and stands in the last intercepts.

    Parameters
    ----------
    loss : "squared_error" or "poisson"
        "poisson" is for counts: the prediction is the exponential of the last layer, the score D2.
    hidden_layer_sizes, activation, solver, alpha, scale, tol, max_iter, max_fun, random_state, warm_start :
        As in :class:`MLPClassifier`, and so are the next three lines.
    batch_size, learning_rate, learning_rate_init, power_t, shuffle, momentum, nesterovs_momentum :
        Of steps by mini-batches.
    beta_1, beta_2, epsilon, early_stopping, validation_fraction, n_iter_no_change :
        Of Adam, and of when to stop.
    verbose, memory, engine :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coefs_, intercepts_, n_layers_, n_outputs_, out_activation_, loss_, best_loss_, loss_curve_ :
        As in :class:`MLPClassifier`.
    n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As there.

    Examples
    --------
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> est = MLPRegressor(hidden_layer_sizes=(10,), max_iter=500).fit(X, X[:, 0] ** 2)
    >>> est.score(X, X[:, 0] ** 2) > 0.99
    True
    """

    _rules: ClassVar[dict[str, Rule]] = {
        "loss": is_one_of("squared_error", "poisson"),
        **_Perceptrons._rules,
    }

    @with_parameters_of(_Perceptrons.__init__)
    def __init__(self, loss: str = "squared_error", *layers: Any, **settings: Any) -> None:
        super().__init__(*layers, **settings)
        self.loss = loss

    @property
    def _deviance(self) -> bool:  # type: ignore[override]
        return self.loss == "poisson"

    def _loss(self, n_classes: int) -> Loss:
        return Poisson() if self.loss == "poisson" else Squared()

    def _offset(self, survey: SurveyAnswer, loss: Loss) -> Array | None:
        assert survey.y is not None
        return survey.y.mean if loss.shift_invariant else None

    def _split(self) -> tuple[Model, Array, Array | None]:
        model, w = self._model()
        if self.loss == "poisson":
            return model, w, None
        model.layers(w)[-1][1][:] = 0.0
        return model, w, self.intercepts_[-1]
