"""Estimators for a model of one's own: any that is made of a forward pass and its way back."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from daskgd.engines.select import Choice
from daskgd.estimators.classification import Probable
from daskgd.estimators.fitting.solver_choice import SolverChoice
from daskgd.estimators.networks import BATCH
from daskgd.estimators.nonlinear import Regression, Trained
from daskgd.estimators.parameters import NONNEGATIVE, POSITIVE, Rule, check_parameters
from daskgd.losses import Logistic, Loss, Softmax, Squared, TargetSummary
from daskgd.models import Model
from daskgd.models.base import Maker
from daskgd.penalties import L2, Penalty
from daskgd.problems import Problem
from daskgd.queries import SurveyAnswer
from daskgd.rows.layout import Shape
from daskgd.solvers import LocalSGD, Solver
from daskgd.solvers.base import is_count

Array = NDArray[Any]

STALLED_ITERATIONS = 10

_OTHER = {"classification": "CustomRegressor", "regression": "CustomClassifier"}


class _Custom(Trained):
    """Base of the classifier and the regressor with a model of one's own."""

    _kind: ClassVar[str]

    _rules: ClassVar[dict[str, Rule]] = {
        "model": (
            lambda value: isinstance(value, Model) or (callable(value) and not isinstance(value, Loss)),
            "a daskgd.Model, or a callable that makes one of (n_features, outputs)",
        ),
        "alpha": NONNEGATIVE,
        "step": POSITIVE,
        "batch_size": (is_count, "a whole number >= 1"),
    }

    def __init__(
        self,
        model: Model | Maker,
        loss: Loss | None = None,
        *,
        alpha: float = 0.0,
        solver: str | Solver = "auto",
        regime: str = "auto",
        step: float = 0.001,
        batch_size: int = BATCH,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: int | np.random.RandomState | None = None,
        verbose: int = 0,
        warm_start: bool = False,
        memory: Any = "auto",
        engine: Choice = None,
    ) -> None:
        self.model = model
        self.loss = loss
        self.alpha = alpha
        self.solver = solver
        self.regime = regime
        self.step = step
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start
        self.memory = memory
        self.engine = engine

    def _check_parameters(self) -> None:
        check_parameters(self, {"model": self._rules["model"]})
        if self.loss is not None and getattr(self.loss, "kind", None) != self._kind:
            raise ValueError(
                f"{type(self).__name__}: expected loss to be None or one for {self._kind}, got "
                f"{self.loss!r}; use {_OTHER[self._kind]}"
            )
        super()._check_parameters()

    def _adam(self, shape: Shape | None) -> LocalSGD:
        return LocalSGD(
            float(self.step),
            "adam",
            batch_size=int(self.batch_size),
            schedule="constant",
            control=False,
            sample_bytes=0,
        )

    def _solver_by_name(self, shape: Shape | None) -> SolverChoice:
        if self.solver == "adam":
            return SolverChoice(self._adam(shape), "as given")
        return super()._solver_by_name(shape)

    def _patience(self) -> float:
        return STALLED_ITERATIONS

    def _plan_model(self, n_features: int, outputs: int) -> Model:
        return self._make_model(n_features, outputs)

    def _specimen(self, loss: Loss) -> Problem:
        return Problem(loss, self.model if isinstance(self.model, Model) else _Unseen(), L2())

    def _make_model(self, n_features: int, outputs: int) -> Model:
        model = self.model
        if not isinstance(model, Model):
            model = model(n_features, outputs)
        if not isinstance(model, Model):
            raise TypeError(
                f"{type(self).__name__}: expected model(n_features, outputs) to be a daskgd.Model, got "
                f"{model!r:.80}"
            )
        if (model.n_features, model.outputs) != (n_features, outputs):
            raise ValueError(
                f"{type(self).__name__}: expected a model of {n_features} features and {outputs} outputs, as "
                f"the data and the loss have, got one of {model.n_features} and {model.outputs}"
            )
        return model

    def _form(self, survey: SurveyAnswer, outputs: int) -> Model:
        return self._make_model(len(survey.X.mean), outputs)

    def _penalty(self, model: Any, weight: float, solver: Solver) -> Penalty:
        return L2(float(self.alpha))

    def _initial(self, problem: Problem, summary: TargetSummary, survey: SurveyAnswer) -> Array:
        if self.warm_start and hasattr(self, "w_"):
            if len(self.w_) != problem.model.size:
                raise ValueError(
                    f"warm_start: expected a model of {len(self.w_)} parameters, as in the last fit, got "
                    f"{problem.model.size}; fit with warm_start=False"
                )
            return np.array(self.w_)
        return problem.model.initial(self._seed)

    def _set_parameters(self, problem: Problem, w: Array) -> None:
        self.w_, self.model_ = w.copy(), problem.model
        if hasattr(problem.model, "with_weights"):
            self.module_ = problem.model.with_weights(w)

    def _model(self) -> tuple[Model, Array]:
        check_is_fitted(self)
        return self.model_, self.w_


class _Unseen(Model):
    """Stands in for a model that cannot be made yet, as the data is not known."""

    n_features, outputs = 1, 1

    @property
    def size(self) -> int:
        return 1


class CustomClassifier(_Custom, Probable):
    """A classifier with a model of your own, trained out of core. See ``docs/models.md``.

    Minimises the mean loss, and ``alpha / 2 |w|**2`` over the model's penalised parameters.

    Parameters
    ----------
    model : Model, or callable ``(n_features, outputs) -> Model``
        `outputs` is 1 for two classes, where a margin > 0 is for the second, else one for each.
    loss : Loss, optional
        One of :mod:`daskgd.losses` for labels; None is the logistic loss for two classes, softmax for more.
    alpha : float
    solver : "auto", "lbfgs", "adam", another name, or a Solver
        "adam" steps by mini-batches in every partition and averages (:class:`LocalSGD`); "auto" is "lbfgs"
        for up to 10,000 rows, else "adam".
    regime : "auto", "parallel" or "distributed"
        As in :class:`LinearRegression`.
    step, batch_size :
        Of "adam".
    max_iter : int
    tol : float
        "adam" stops when the loss did not fall by it in ten iterations in a row, others at this estimated
        relative gap; 0 runs `max_iter` iterations.
    random_state : int or numpy.random.RandomState, optional
        Seed of the model's initial parameters, and of batches; None is 0.
    verbose, warm_start, memory, engine :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    classes_ : ``(k,)``
    w_ : ``(d,)``
        The parameters.
    model_ : Model
    module_ :
        Where the model is of torch or JAX: the trained module, or parameters.
    n_iter_, n_sweeps_, history_, gap_, outcome_, loss_, best_loss_, loss_curve_ :
        As in :class:`MLPClassifier`.

    Examples
    --------
    >>> import daskgd
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> est = CustomClassifier(daskgd.MLP(1, hidden=(3,), activation="tanh"), alpha=1e-3, max_iter=500)
    >>> est.fit(X, ["out", "in", "in", "out"]).predict(X)
    array(['out', 'in', 'in', 'out'], dtype='<U3')
    """

    _kind = "classification"

    def _loss(self, n_classes: int) -> Loss:
        if self.loss is not None:
            return self.loss
        return Logistic() if n_classes <= 2 else Softmax()


class CustomRegressor(_Custom, Regression):
    """A regressor with a model of your own, trained out of core. See ``docs/models.md``.

    Parameters
    ----------
    model : Model, or callable ``(n_features, outputs) -> Model``
        `outputs` is the number of targets.
    loss : Loss, optional
        One of :mod:`daskgd.losses` for numbers; None is half the squared error.
    alpha, solver, step, batch_size, max_iter, tol, random_state, verbose, warm_start, memory, engine :
        As in :class:`CustomClassifier`.

    Attributes
    ----------
    w_, model_, n_iter_, n_sweeps_, history_, gap_, outcome_, loss_, best_loss_, loss_curve_ :
        As in :class:`CustomClassifier`.

    Examples
    --------
    >>> import daskgd
    >>> X = np.linspace(-1, 1, 50)[:, None]
    >>> model = daskgd.MLP(1, hidden=(10,), activation="tanh")
    >>> CustomRegressor(model, max_iter=500).fit(X, X[:, 0] ** 2).score(X, X[:, 0] ** 2) > 0.99
    True
    """

    _kind = "regression"

    @property
    def _deviance(self) -> bool:  # type: ignore[override]
        return self._loss(0).deviance

    def _loss(self, n_classes: int) -> Loss:
        return Squared() if self.loss is None else self.loss
