"""Linear classifiers with scikit-learn's names: logistic regression, linear SVM, perceptron."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from daskgd._compat.caller import warn
from daskgd.engines.select import Choice
from daskgd.estimators.classification import Probable, _Classifier
from daskgd.estimators.fitting.fit import FitOutcome
from daskgd.estimators.fitting.run import run_fits
from daskgd.estimators.fitting.solver_choice import SolverChoice
from daskgd.estimators.parameters import (
    CLASS_WEIGHT,
    FLAG,
    N_JOBS,
    POSITIVE,
    POSITIVE_C,
    UNIT,
    Rule,
    is_nonnegative,
    is_one_of,
)
from daskgd.losses import Hinge, Logistic, Loss, Softmax
from daskgd.losses import Perceptron as PerceptronLoss
from daskgd.rows.layout import Shape
from daskgd.solvers import Solver
from daskgd.solvers.base import is_count, is_positive
from daskgd.solvers.pocket import Pocket

Array = NDArray[Any]


class LogisticRegression(Probable, _Classifier):
    """Logistic regression, binary and multinomial, on data that need not fit in memory.

    Minimises ``C sum_i s_i log_loss_i + r |w|_1 + (1 - r) |w|**2 / 2``, as scikit-learn does, with r the
    `l1_ratio`; the intercept is not penalised.

    Parameters
    ----------
    penalty : "deprecated", "l1", "l2", "elasticnet" or None
        As in scikit-learn 1.9, which deprecates it: `l1_ratio` of 1 is "l1", 0 "l2", and None is ``C=inf``.
    C : float
        Inverse strength of the penalty; inf for none.
    l1_ratio : float from 0 to 1
        Share of L1 in the penalty; None, deprecated, is 0.
    dual : bool
        Whether liblinear solves the dual problem, which has the same solution: here `solver` says how.
    intercept_scaling : float
        Of liblinear, which penalises the intercept, the less the larger this is: as the intercept is not
        penalised here, it changes nothing.
    n_jobs :
        Has no effect, and is deprecated, as in scikit-learn.
    fit_intercept : bool
        Whether to fit an intercept.
    class_weight : mapping, "balanced" or None
        Factors on the weights of classes, as in scikit-learn.
    solver, regime, scale, max_iter, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    classes_ : ``(k,)``
        Labels, sorted.
    coef_ : ``(1, p)`` or ``(k, p)``
    intercept_ : ``(1,)`` or ``(k,)``
    n_iter_ : ``(1,)``
        Iterations.
    n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LinearRegression`.

    Examples
    --------
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> est = LogisticRegression().fit(X, ["no", "no", "yes", "yes"])
    >>> est.predict(np.array([[2.5]]))
    array(['yes'], dtype='<U3')
    """

    _solvers_there = ("newton-cg", "newton-cholesky", "sag", "saga")
    _rules: ClassVar[dict[str, Rule]] = {
        "penalty": is_one_of("deprecated", "l1", "l2", "elasticnet", None),
        "C": POSITIVE_C,
        "l1_ratio": (lambda value: value is None or UNIT[0](value), UNIT[1]),
        "dual": FLAG,
        "intercept_scaling": POSITIVE,
        "class_weight": CLASS_WEIGHT,
        "n_jobs": N_JOBS,
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
        regime: str = "auto",
        scale: str | bool = "auto",
        max_iter: int = 1000,
        verbose: int = 0,
        warm_start: bool = False,
        n_jobs: int | None = None,
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
        self.regime = regime
        self.scale = scale
        self.max_iter = max_iter
        self.verbose = verbose
        self.warm_start = warm_start
        self.n_jobs = n_jobs
        self.memory = memory
        self.engine = engine

    def _loss(self, n_classes: int) -> Loss:
        return Logistic() if n_classes <= 2 else Softmax()

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self.penalty == "elasticnet" and self.l1_ratio is None:
            raise ValueError(
                "LogisticRegression: expected l1_ratio from 0 to 1 with penalty='elasticnet', got None"
            )
        self._warn_of_deprecations()

    def _solver_by_name(self, shape: Shape | None) -> SolverChoice:
        if isinstance(self.solver, str) and self.solver == "liblinear":
            raise ValueError(
                "LogisticRegression: expected solver to be one for an intercept without a penalty, got "
                "'liblinear', which penalises it: use 'auto'"
            )
        return super()._solver_by_name(shape)

    def _warn_of_deprecations(self) -> None:
        """Warn of parameters that scikit-learn deprecates, as it does."""
        name, ratio, share = type(self).__name__, self.l1_ratio, self._l1_share()
        if self.n_jobs is not None:
            warn(f"{name}: 'n_jobs' has no effect and is deprecated: blocks run on the engine", FutureWarning)
        if self.penalty == "deprecated":
            if ratio is None:
                warn(f"{name}: 'l1_ratio=None' was deprecated, and means 0: pass l1_ratio=0", FutureWarning)
            return
        given, instead = self.penalty, "C=np.inf" if self.penalty is None else f"l1_ratio={share:g}"
        warn(f"{name}: 'penalty' was deprecated: pass {instead} in place of {given!r}", FutureWarning)
        if given is None and self.C != 1:
            warn(f"{name}: Setting penalty=None will ignore the C that is given, {self.C!r}")
        if given is None and ratio is not None and 0 < ratio < 1:
            warn(f"{name}: Setting penalty=None will ignore the l1_ratio that is given, {ratio!r}")
        if given in ("l1", "l2") and ratio is not None and 0 < ratio < 1:
            warn(
                f"{name}: l1_ratio parameter is only used when penalty is 'elasticnet'. Got "
                f"(penalty={given}) with l1_ratio={ratio!r}: penalty wins: pass l1_ratio={share:g}"
            )
        elif given in ("l1", "l2") and ratio != share:
            warn(
                f"{name}: Inconsistent values: penalty={given} with l1_ratio={ratio!r}: penalty wins: pass "
                f"l1_ratio={share:g}"
            )

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        self.n_iter_: Any = np.array([self.n_iter_], dtype=np.int32)

    def _l1_share(self) -> float:
        """Of L1 in the penalty."""
        if self.penalty in ("deprecated", "elasticnet"):
            return float(self.l1_ratio or 0.0)
        return float(self.penalty == "l1")

    def _has_l1(self) -> bool:
        return bool(self.penalty is not None and np.isfinite(self.C) and self._l1_share() > 0)

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        if self.penalty is None:
            return 0.0, 0.0
        strength, share = 1 / (float(self.C) * weight), self._l1_share()
        return share * strength, (1 - share) * strength

    def _separated(self) -> bool:
        # Below a thousandth of the best constant model's, the loss is no longer the scale of the gap.
        lost = len(self.history_) > 0 and self.history_[-1]["loss"] < 1e-3 * self._baseline
        return bool(lost and not any(self._strengths(1.0, 1)))


class LinearSVC(_Classifier):
    """Linear support vector machine, one class against the rest, on data that need not fit in memory.

    Minimises ``C sum_i s_i max(0, 1 - y_i z_i)**2 + |w|**2 / 2`` for each class. Unlike liblinear, behind
    scikit-learn's estimator of the same name, the intercept is not penalised: compare at a large
    `intercept_scaling` there.

    Parameters
    ----------
    penalty : "l2" or "l1"
        "l1", with the squared hinge only, is ``|w|_1`` in place of ``|w|**2 / 2``.
    loss : "squared_hinge" or "hinge"
        The hinge, ``max(0, 1 - y_i z_i)``, is smoothed as :class:`QuantileRegressor` does it, unless the
        solver is one with a given step, which takes it as it is.
    dual : "auto" or bool
        Whether liblinear solves the dual problem, which has the same solution: here `solver` says how.
    C : float
        Inverse strength of the penalty; inf for none.
    multi_class :
        Must be "ovr".
    intercept_scaling : float
        As in :class:`LogisticRegression`: liblinear's solution comes the nearer to this one the larger it is.
    fit_intercept, class_weight :
        As in :class:`LogisticRegression`.
    solver, regime, scale, max_iter, tol, memory, engine, random_state, verbose, warm_start :
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

    _keeps_float32 = False
    _rules: ClassVar[dict[str, Rule]] = {
        "penalty": is_one_of("l2", "l1"),
        "loss": is_one_of("squared_hinge", "hinge"),
        "dual": is_one_of("auto", False, True),
        "C": POSITIVE_C,
        "multi_class": is_one_of("ovr"),
        "intercept_scaling": POSITIVE,
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
        regime: str = "auto",
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
        self.regime = regime
        self.scale = scale
        self.memory = memory
        self.engine = engine
        self.warm_start = warm_start

    def _loss(self, n_classes: int) -> Loss:
        return Hinge(squared=self.loss == "squared_hinge")

    def _check_parameters(self) -> None:
        if self.penalty == "l1" and self.loss == "hinge":
            raise ValueError(
                "LinearSVC: expected loss='squared_hinge' with penalty='l1', got loss='hinge': kinks in "
                "both are more than its solvers can do"
            )
        super()._check_parameters()

    def _has_l1(self) -> bool:
        return bool(self.penalty == "l1" and np.isfinite(self.C))

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        strength = 1 / (float(self.C) * weight)
        return (strength, 0.0) if self.penalty == "l1" else (0.0, strength)


class Perceptron(_Classifier):
    """Rosenblatt's perceptron, one class against the rest, on data that need not fit in memory.

    Within a sweep every partition goes once over its rows, in batches of at most 256, and corrects its
    mistakes; the results are averaged (iterative parameter mixing, McDonald, Hall & Mann 2010), which
    separates separable data, as the plain perceptron does. It stops when no mistake is left, when the share
    of rows that are right has not risen by more than `tol` for `n_iter_no_change` sweeps, or after `max_iter`
    sweeps; the coefficients are those that got most rows right (the pocket algorithm, Gallant 1990).
    scikit-learn's goes row by row, so that its coefficients, one separating plane of many, are others.

    Parameters
    ----------
    penalty : "l2", "l1", "elasticnet" or None
    alpha : float
        Strength of the penalty, if there is one: ``alpha (r |w|_1 + (1 - r) / 2 |w|**2)`` beside the mean
        loss.
    l1_ratio : float from 0 to 1
        The share r of L1 with "elasticnet"; it is 1 with "l1" and 0 with "l2".
    shuffle : bool
        Whether to draw an order of the rows for each sweep; else they are taken as they lie.
    n_jobs, early_stopping, validation_fraction :
        Must have their default values: there is nothing for them to do here.
    tol : float or None
        By how much the share of right rows must rise to count; None or 0 runs `max_iter` sweeps.
    n_iter_no_change : int
        Sweeps without a rise after which to stop.
    eta0 : float
        Length of a step.
    fit_intercept, class_weight :
        As in :class:`LogisticRegression`.
    solver : str or Solver
        ``"auto"`` is ``Pocket(step=eta0, min_delta=tol, patience=n_iter_no_change)``.
    regime, max_iter, memory, engine, random_state, verbose, warm_start :
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
        "penalty": is_one_of(None, "l2", "l1", "elasticnet"),
        "tol": (lambda value: value is None or is_nonnegative(value), "None or a number >= 0"),
        "alpha": (is_nonnegative, "a number >= 0"),
        "l1_ratio": UNIT,
        "shuffle": FLAG,
        "eta0": (is_positive, "a number > 0"),
        "n_jobs": is_one_of(None),
        "early_stopping": is_one_of(False),
        "validation_fraction": is_one_of(0.1),
        "n_iter_no_change": (is_count, "a whole number >= 1"),
        "class_weight": CLASS_WEIGHT,
    }

    def __init__(
        self,
        *,
        penalty: str | None = None,
        alpha: float = 0.0001,
        l1_ratio: float = 0.15,
        fit_intercept: bool = True,
        max_iter: int = 1000,
        tol: float | None = 1e-3,
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
        self.eta0 = eta0
        self.n_jobs = n_jobs
        self.random_state = random_state
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.solver = solver
        self.regime = regime
        self.scale = scale
        self.memory = memory
        self.engine = engine

    def _loss(self, n_classes: int) -> Loss:
        return PerceptronLoss()

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        return self._strengths_by_name()

    def _has_l1(self) -> bool:
        return self._strengths_by_name()[0] > 0

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None) -> Self:
        """One more sweep of ``fit`` over these rows, from the present coefficients.

        That is, a pass over the rows of every partition, and the average. Features are taken as they are, as
        `scale` would be by the moments of this call's rows: it must be "auto" or False. The rows are read
        twice: once to check them.

        Parameters
        ----------
        X, y, sample_weight :
            As for ``fit``.
        classes : array ``(k,)``
            All labels there are, of which one call's rows may lack some. Needed at the first call.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For what ``fit`` raises it for, labels that are not among the classes, and
            ``class_weight="balanced"``, which means the shares of labels in all rows.

        Examples
        --------
        >>> est = Perceptron()
        >>> for x, label in ([2.0], "up"), ([-3.0], "down"), ([1.0], "up"):
        ...     est = est.partial_fit([x], [label], classes=["down", "up"])
        >>> est.predict([[4.0], [-4.0]])
        array(['up', 'down'], dtype='<U4')
        """
        self._check_parameters()
        if self.class_weight == "balanced":
            raise ValueError(
                'Perceptron.partial_fit: expected class_weight to be None or a mapping, got "balanced": the '
                "shares of labels in all rows are not known; compute the weights and pass them as a mapping"
            )
        if self.scale is not False and self.scale != "auto":
            raise ValueError(
                f'Perceptron.partial_fit: expected scale to be "auto" or False, got {self.scale!r}: the '
                "moments of all rows are not known; standardise them before"
            )
        labels = self._classes_of_all_parts(classes)
        step = copy.copy(self)  # so that nothing is lost where the rows are refused
        step.set_params(max_iter=1, tol=0, scale=False, warm_start=True)
        step._classes = labels
        dataset = step._dataset(X, y, sample_weight, reset=not hasattr(self, "classes_"))
        run_fits([step], dataset, (X, y, sample_weight))
        for name in (n for n in vars(step) if n.endswith("_")):
            setattr(self, name, getattr(step, name))
        return self

    def _auto(self, shape: Shape | None) -> SolverChoice:
        rule = "the perceptron's rule, in every partition, and averaged: it separates what can be separated"
        patience = int(self.n_iter_no_change) if self.tol else None
        pocket = Pocket(
            step=float(self.eta0),
            min_delta=float(self.tol or 0),
            patience=patience,
            shuffle=bool(self.shuffle),
        )
        return SolverChoice(pocket, rule)

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        if self.outcome_ == "stalled" and outcome.history.solver.startswith("Pocket("):
            self.outcome_ = "converged"  # it has improved as far as `tol` and `n_iter_no_change` ask

    def _other(self, shape: Shape | None) -> SolverChoice:
        return self._auto(shape)  # there is no parallel rule
