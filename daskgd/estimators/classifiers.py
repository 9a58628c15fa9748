"""Linear classifiers with scikit-learn's names: logistic regression, linear SVM, perceptron."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from daskgd.datasets import Dataset
from daskgd.engines.graph import Choice
from daskgd.estimators.base import LinearEstimator, Rule, finite_margins, is_nonnegative, is_one_of
from daskgd.losses import Hinge, Logistic, Loss, Softmax
from daskgd.losses import Perceptron as PerceptronLoss
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem, prepare
from daskgd.queries import SurveyAnswer
from daskgd.solvers import LocalGD, Solver
from daskgd.solvers.base import is_positive

Array = NDArray[Any]

CLASS_WEIGHT: Rule = (
    lambda value: (
        value is None or isinstance(value, Mapping) or (isinstance(value, str) and value == "balanced")
    ),
    'None, "balanced" or a mapping of labels to weights',
)
INTERCEPT_SCALING: Rule = (
    lambda value: not isinstance(value, bool) and value == 1,
    "1: the intercept is never penalised, as if intercept_scaling were infinite: there is nothing to scale",
)
POSITIVE_C: Rule = (
    lambda value: is_positive(value) or value == np.inf,
    "a number > 0 (inf for no penalty)",
)


class _Classifier(ClassifierMixin, LinearEstimator):
    _classification = True

    def _validated(self, X: Any, y: Any, *, reset: bool) -> Any:
        if isinstance(y, np.ndarray | list | tuple) and reset and not _holds_nonfinite(y):
            check_classification_targets(y)  # in the words of scikit-learn; the survey finds the rest
            if np.ndim(y) == 2 and np.shape(y)[1] == 1:
                column_or_1d(y, warn=True)
        return super()._validated(X, y, reset=reset)

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        found = survey.labels
        assert found is not None
        name = type(self).__name__
        if len(found.values) < 2:
            label = (found.values if dataset.classes is None else dataset.classes[found.values]).tolist()[0]
            raise ValueError(
                f"{name} needs samples of at least 2 classes in the data, but the data contains only one "
                f"class: {label!r}"
            )
        classes = found.values if dataset.classes is None else dataset.classes[found.values]
        loss = self._loss(len(classes))
        model = self._linear(survey, loss.outputs(len(classes)))
        class_weight = self._class_weight(classes, found.weights)
        weight = found.weights.sum() if class_weight is None else found.weights @ class_weight
        if not weight > 0:
            raise ValueError(
                f"{name}: expected positive weights in all, got class_weight={self.class_weight!r}"
            )
        strength = model.per_parameter(self._strength(float(weight), model.outputs))
        return Problem(loss, model, L2(strength), found.values, class_weight), {"classes_": classes}

    def _scored(self, dataset: Dataset) -> tuple[Problem, Array]:
        model, w = self._model()
        labels = self.classes_ if dataset.classes is None else _positions(self.classes_, dataset.classes)
        return Problem(self._loss(len(self.classes_)), model, L2(), labels), w

    def _class_weight(self, classes: Array, weights: Array) -> Array | None:
        """The factor of each class, ``(k,)``; scikit-learn's "balanced" is ``W / (k W_c)``."""
        given = self.class_weight
        if given is None:
            return None
        if isinstance(given, str):
            present = weights > 0
            return np.where(present, weights.sum() / (len(weights) * np.where(present, weights, 1)), 1.0)
        labels = classes.tolist()
        unknown = [label for label in given if label not in labels]
        if unknown:
            raise ValueError(f"class_weight: expected labels among {labels}, got {unknown}")
        factors = np.array([float(given.get(label, 1.0)) for label in labels])
        if not (np.isfinite(factors).all() and (factors >= 0).all()):
            raise ValueError(f"class_weight: expected finite weights >= 0, got {given!r}")
        return factors

    # -- predicting ---------------------------------------------------------------------------

    score = LinearEstimator.score

    def decision_function(self, X: Any) -> Any:
        """Margins, ``(n,)`` for two classes (positive is ``classes_[1]``), else ``(n, k)``."""
        return self._mapped(X, _margins, np.dtype(float), self._outputs())

    def predict(self, X: Any) -> Any:
        """Predicted labels ``(n,)``: numpy for numpy, a lazy dask array for anything lazy."""
        self._outputs()
        return self._mapped(X, _labels, self.classes_.dtype, None)

    def _outputs(self) -> int | None:
        """Columns of the margins; None for a vector."""
        k = self._model()[0].outputs
        return None if k == 1 else k

    def _mapped(self, X: Any, of_margins: Any, dtype: Any, columns: int | None) -> Any:
        model, w = self._model()
        return self._map_rows(X, _Rowwise(model, w, of_margins, self.classes_), dtype, columns)


def _holds_nonfinite(y: Any) -> bool:
    array = np.asarray(y)
    return array.dtype.kind == "f" and not np.isfinite(array).all()


def _positions(classes: Array, within: Array) -> Array:
    """Where each class stands in a dataset's list of classes; -1 where it is missing."""
    where = {label: i for i, label in enumerate(within.tolist())}
    return np.array([where.get(label, -1) for label in classes.tolist()])


class _Rowwise:
    """A function of the margins of a block; small enough to send to workers."""

    def __init__(self, model: Linear, w: Array, of_margins: Any, classes: Array) -> None:
        self.model, self.w, self.of_margins, self.classes = model, w, of_margins, classes

    def __call__(self, X: Array) -> Array:
        X = prepare(X)
        z = finite_margins(self.model.margins(self.w, X), X)
        out: Array = self.of_margins(z, self.classes)
        return out


def _margins(z: Array, classes: Array) -> Array:
    return z


def _labels(z: Array, classes: Array) -> Array:
    codes = (z > 0).astype(np.intp) if z.ndim == 1 else z.argmax(axis=1)
    out: Array = classes[codes]
    return out


def _probabilities(z: Array, classes: Array) -> Array:
    """Softmax of the margins; two classes have one margin, the log of the odds."""
    if z.ndim == 1:
        return np.stack([expit(-z), expit(z)], axis=1)  # to the last digit of either tail
    e = np.exp(z - z.max(axis=1, keepdims=True, initial=-np.inf))
    out: Array = e / e.sum(axis=1, keepdims=True)
    return out


def _log_probabilities(z: Array, classes: Array) -> Array:
    if z.ndim == 1:
        return np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1)
    z = z - z.max(axis=1, keepdims=True, initial=-np.inf)
    out: Array = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return out


class LogisticRegression(_Classifier):
    """Logistic regression, binary and multinomial, on data that need not fit in memory.

    Minimises ``C sum_i s_i log_loss_i + |w|**2 / 2``, as scikit-learn does; the intercept is not penalised.

    Parameters
    ----------
    penalty : "deprecated", "l2" or None
        As in scikit-learn 1.9; None is ``C=inf``.
    C : float
        Inverse strength of the penalty; inf for none.
    l1_ratio : float
        0 or None; L1 is not available yet.
    dual, intercept_scaling, n_jobs :
        Must be False, 1 and None: they have no meaning here.
    fit_intercept : bool
        Whether to fit an intercept.
    class_weight : mapping, "balanced" or None
        Factors on the weights of classes, as in scikit-learn.
    solver, scale, max_iter, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    classes_ : ``(k,)``
        Labels, sorted.
    coef_ : ``(1, p)`` or ``(k, p)``
    intercept_ : ``(1,)`` or ``(k,)``
    n_iter_, n_sweeps_, history_, gap_ :
        As in :class:`LinearRegression`.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> est = LogisticRegression().fit(X, ["no", "no", "yes", "yes"])
    >>> est.predict(np.array([[2.5]]))
    array(['yes'], dtype='<U3')
    """

    _rules: ClassVar[dict[str, Rule]] = {
        "penalty": is_one_of("deprecated", "l2", None),
        "C": POSITIVE_C,
        "l1_ratio": (
            lambda value: value is None or (not isinstance(value, bool) and value == 0),
            "0 or None: L1 and elastic net are not available yet",
        ),
        "dual": is_one_of(False),
        "intercept_scaling": INTERCEPT_SCALING,
        "class_weight": CLASS_WEIGHT,
        "n_jobs": is_one_of(None),
    }

    def __init__(
        self,
        penalty: str | None = "deprecated",
        *,
        C: float = 1.0,
        l1_ratio: float | None = 0.0,
        dual: bool = False,
        tol: float = 1e-6,
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Mapping[Any, float] | str | None = None,
        random_state: int | None = None,
        solver: str | Solver = "auto",
        scale: str | bool = "auto",
        max_iter: int = 1000,
        verbose: int = 0,
        warm_start: bool = False,
        n_jobs: None = None,
        memory: Any = "auto",
        engine: Choice = None,
    ) -> None:
        self.penalty = penalty
        self.C = C
        self.l1_ratio = l1_ratio
        self.dual = dual
        self.tol = tol
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.random_state = random_state
        self.solver = solver
        self.scale = scale
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.memory = memory
        self.engine = engine

    def _loss(self, n_classes: int) -> Loss:
        return Logistic() if n_classes <= 2 else Softmax()

    def _strength(self, weight: float, outputs: int) -> Array:
        return np.full(outputs, 0.0 if self.penalty is None else 1 / (float(self.C) * weight))

    def predict_proba(self, X: Any) -> Any:
        """Probability of each class, ``(n, k)``: numpy for numpy, lazy dask for anything lazy."""
        return self._mapped(X, _probabilities, np.dtype(float), self._n_classes())

    def predict_log_proba(self, X: Any) -> Any:
        """Logarithm of the probability of each class, ``(n, k)``."""
        return self._mapped(X, _log_probabilities, np.dtype(float), self._n_classes())

    def _n_classes(self) -> int:
        self._outputs()
        return len(self.classes_)


class LinearSVC(_Classifier):
    """Linear support vector machine, one class against the rest, on data that need not fit in memory.

    Minimises ``C sum_i s_i max(0, 1 - y_i z_i)**2 + |w|**2 / 2`` for each class. Unlike liblinear, behind
    scikit-learn's estimator of the same name, the intercept is not penalised: compare at a large
    `intercept_scaling` there.

    Parameters
    ----------
    penalty : "l2"
    loss : "squared_hinge" or "hinge"
        The hinge is not smooth: it needs a solver with a given step.
    dual : "auto" or False
        There is no dual solver.
    C : float
        Inverse strength of the penalty; inf for none.
    multi_class, intercept_scaling :
        Must be "ovr" and 1.
    fit_intercept, class_weight :
        As in :class:`LogisticRegression`.
    solver, scale, max_iter, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    classes_, coef_, intercept_, n_iter_, n_sweeps_, history_, gap_ :
        As in :class:`LogisticRegression`.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> LinearSVC().fit(X, [0, 0, 1, 1]).score(X, [0, 0, 1, 1])
    1.0
    """

    _rules: ClassVar[dict[str, Rule]] = {
        "penalty": is_one_of("l2"),
        "loss": is_one_of("squared_hinge", "hinge"),
        "dual": is_one_of("auto", False),
        "C": POSITIVE_C,
        "multi_class": is_one_of("ovr"),
        "intercept_scaling": INTERCEPT_SCALING,
        "class_weight": CLASS_WEIGHT,
    }

    def __init__(
        self,
        penalty: str = "l2",
        loss: str = "squared_hinge",
        *,
        dual: str | bool = "auto",
        tol: float = 1e-6,
        C: float = 1.0,
        multi_class: str = "ovr",
        fit_intercept: bool = True,
        intercept_scaling: float = 1,
        class_weight: Mapping[Any, float] | str | None = None,
        verbose: int = 0,
        random_state: int | None = None,
        max_iter: int = 1000,
        solver: str | Solver = "auto",
        scale: str | bool = "auto",
        memory: Any = "auto",
        engine: Choice = None,
        warm_start: bool = False,
    ) -> None:
        self.penalty = penalty
        self.loss = loss
        self.dual = dual
        self.tol = tol
        self.C = C
        self.multi_class = multi_class
        self.fit_intercept = fit_intercept
        self.intercept_scaling = intercept_scaling
        self.class_weight = class_weight
        self.verbose = verbose
        self.random_state = random_state
        self.max_iter = max_iter
        self.solver = solver
        self.scale = scale
        self.memory = memory
        self.engine = engine
        self.warm_start = warm_start

    def _loss(self, n_classes: int) -> Loss:
        return Hinge(squared=self.loss == "squared_hinge")

    def _strength(self, weight: float, outputs: int) -> Array:
        return np.full(outputs, 1 / (float(self.C) * weight))


class Perceptron(_Classifier):
    """Rosenblatt's perceptron, one class against the rest, on data that need not fit in memory.

    Within a sweep every partition corrects its own mistakes in several passes, and the results are averaged
    (iterative parameter mixing, McDonald, Hall & Mann 2010), which separates separable data, as the plain
    perceptron does. It stops when no mistake is left, for any `tol` > 0, or after `max_iter` sweeps of ten
    local passes each.
    scikit-learn's goes row by row, so that its coefficients, one separating plane of many, are others.

    Parameters
    ----------
    penalty : "l2" or None
    alpha : float
        Strength of the penalty, if there is one: ``alpha / 2 |w|**2`` beside the mean loss.
    l1_ratio, shuffle, n_jobs, early_stopping, validation_fraction, n_iter_no_change :
        Must have their default values: there is nothing for them to do here.
    eta0 : float
        Length of a step.
    fit_intercept, class_weight :
        As in :class:`LogisticRegression`.
    solver : str or Solver
        ``"auto"`` is ``LocalGD(step=eta0, local_steps=10)``.
    max_iter, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    classes_, coef_, intercept_, n_iter_, n_sweeps_, history_, gap_ :
        As in :class:`LogisticRegression`.

    Examples
    --------
    >>> X = np.array([[1.0, 2.0], [2.0, 3.0], [3.0, 4.0], [4.0, 5.0]])
    >>> Perceptron().fit(X, [1, 1, -1, -1]).predict(X)
    array([ 1,  1, -1, -1])
    """

    _rules: ClassVar[dict[str, Rule]] = {
        "penalty": is_one_of(None, "l2"),
        "alpha": (is_nonnegative, "a number >= 0"),
        "l1_ratio": is_one_of(0.15),
        "shuffle": is_one_of(True),
        "eta0": (is_positive, "a number > 0"),
        "n_jobs": is_one_of(None),
        "early_stopping": is_one_of(False),
        "validation_fraction": is_one_of(0.1),
        "n_iter_no_change": is_one_of(5),
        "class_weight": CLASS_WEIGHT,
    }

    def __init__(
        self,
        *,
        penalty: str | None = None,
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 100,
        tol: float = 1e-6,
        shuffle: bool = True,
        verbose: int = 0,
        eta0: float = 1.0,
        n_jobs: None = None,
        random_state: int | None = None,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
        class_weight: Mapping[Any, float] | str | None = None,
        warm_start: bool = False,
        solver: str | Solver = "auto",
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
        self.eta0 = eta0
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.solver = solver
        self.scale = scale
        self.memory = memory
        self.engine = engine

    def _loss(self, n_classes: int) -> Loss:
        return PerceptronLoss()

    def _strength(self, weight: float, outputs: int) -> Array:
        return np.full(outputs, 0.0 if self.penalty is None else float(self.alpha))

    def _default_solver(self, model: Linear | None) -> Solver:
        return LocalGD(step=float(self.eta0), local_steps=10)
