"""What every estimator shares: opening the data, one fit or many in the same sweeps, and predicting.

The scikit-learn skin. It translates constructor arguments into a problem and a solver, and results into
attributes; there is no maths here and no dask graph.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from daskgd.datasets import Dataset
from daskgd.engines.base import one_blas_thread
from daskgd.engines.graph import check_engine, opened
from daskgd.ingest import as_dataset, in_memory, is_sparse, lazy, numeric
from daskgd.losses import Loss
from daskgd.models import Linear
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Ask, Score, Survey, SurveyAnswer
from daskgd.solvers import LBFGS, NAMES, LocalGD, Newton, Solver
from daskgd.solvers.base import is_count, is_positive
from daskgd.training import Fit, Meter, Result, Stop, loop
from daskgd.training import together as advance
from daskgd.watch import History, Printer

Array = NDArray[Any]

NEWTON_WORK = 100_000
"""Multiplications a row at which a sweep with the Hessian takes several times one without, so that a fit by
Newton, of some eight sweeps, takes about as long as one by L-BFGS, of some fifty."""

Rule = tuple[Callable[[Any], bool], str]
"""A test of a parameter, and what it expects in words."""


def is_one_of(*values: Any) -> Rule:
    """One of some plain values."""
    return (
        lambda value: any(value is v or (type(value) is type(v) and value == v) for v in values),
        " or ".join(map(repr, values)),
    )


def is_flag(value: Any) -> bool:
    """True or False, numpy's included."""
    return isinstance(value, bool | np.bool_)


def is_nonnegative(value: Any) -> bool:
    """A finite real number >= 0."""
    return is_positive(value) or (not isinstance(value, bool) and np.isscalar(value) and value == 0)


@dataclass(slots=True)
class Run:
    """One fit in progress: what it has cost, where it is, what it has seen, and attributes to set with it."""

    estimator: LinearEstimator
    name: str
    meter: Meter = field(default_factory=Meter)
    history: History = field(default_factory=History)
    progress: Result | None = None
    problem: Problem | None = None
    fitted: dict[str, Any] = field(default_factory=dict)


class LinearEstimator(BaseEstimator):
    """Base of the estimators with a linear model.

    Subclasses say what their parameters may be (`_rules`), which loss they mean (`_loss`), and how strong the
    penalty is (`_strength`); mixins of scikit-learn make them classifiers or regressors.
    """

    _classification: ClassVar[bool] = False
    _rules: ClassVar[dict[str, Rule]] = {}
    _common: ClassVar[dict[str, Rule]] = {
        "fit_intercept": (is_flag, "True or False"),
        "scale": (lambda value: value == "auto" or is_flag(value), '"auto", True or False'),
        "max_iter": (is_count, "a whole number >= 1"),
        "tol": (is_nonnegative, "a number >= 0 (0 runs exactly max_iter iterations)"),
        "memory": (
            lambda value: (isinstance(value, str) and value == "auto") or (value == 0 and not is_flag(value)),
            '"auto" or 0: every sweep streams; keeping rows in memory between sweeps is not available yet',
        ),
        "random_state": (
            lambda value: value is None or is_count(value) or (value == 0 and not is_flag(value)),
            "None or a whole number >= 0",
        ),
        "verbose": (lambda value: value in (0, 1, 2), "0, 1 or 2"),
        "warm_start": (is_flag, "True or False"),
    }

    # -- what subclasses say ------------------------------------------------------------------

    def _loss(self, n_classes: int) -> Loss:
        raise NotImplementedError

    def _strength(self, weight: float, outputs: int) -> Array:
        """Of L2 in the mean objective, for data of this total weight."""
        raise NotImplementedError

    def _default_solver(self, model: Linear | None) -> Solver:
        """Newton where a Hessian costs little beside reading the rows, else L-BFGS."""
        if model is None or model.n_features**2 * model.outputs * (model.outputs + 1) / 2 > NEWTON_WORK:
            return LBFGS()
        return Newton()

    # -- fitting ------------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : Dataset, path, dask array or frame, numpy or xarray array, or pandas frame, ``(n, p)``
        y : array of the same kinds, ``(n,)`` or, for regression, ``(n, k)``
            None where X is a Dataset or path that holds its own target.
        sample_weight : array of the same kinds, ``(n,)``, optional
            A weight of 2 is a row twice, a weight of 0 a row absent.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For bad parameters before any data is read; for bad data with the row that is bad.
        """
        self._check_parameters()
        _fit([self], self._dataset(X, y, sample_weight))
        return self

    def _check_parameters(self) -> Solver:
        name = type(self).__name__
        for parameter, (ok, expected) in {**self._common, **self._rules}.items():
            value = getattr(self, parameter)
            try:
                good = bool(ok(value))
            except (TypeError, ValueError):
                good = False
            if not good:
                raise ValueError(f"{name}: expected {parameter} to be {expected}, got {value!r}")
        check_engine(self.engine)
        solver = self._chosen_solver()
        solver.check(Problem(self._loss(2), Linear(1), L2()))
        return solver

    def _chosen_solver(self, model: Linear | None = None) -> Solver:
        solver = self.solver
        if isinstance(solver, str) and solver == "auto":
            solver = self._default_solver(model)
        elif isinstance(solver, str) and solver in NAMES:
            solver = NAMES[solver]()
        if not isinstance(solver, Solver):
            raise ValueError(
                f"{type(self).__name__}: expected solver to be 'auto', {', '.join(map(repr, NAMES))} or a "
                f"solver object such as daskgd.GradientDescent(step=0.1), got {solver!r}"
            )
        solver = type(solver)(**solver.get_params())
        if isinstance(solver, LocalGD) and solver.seed is None:
            solver.set_params(seed=int(self.random_state or 0))
        return solver

    def _dataset(self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> Dataset:
        """X, y and weights as a Dataset, checked as far as that takes no reading."""
        X = self._validated(X, y, reset=reset)
        if sample_weight is not None and np.isscalar(sample_weight):
            raise ValueError(f"sample_weight: expected an array (n,), got {sample_weight!r}")
        dataset = as_dataset(X, y, sample_weight)
        self._admit(dataset, X, reset=reset)
        return dataset

    def _validated(self, X: Any, y: Any, *, reset: bool) -> Any:
        """What is in memory, checked in the words of scikit-learn; anything else as it is."""
        if not in_memory(X) or is_sparse(X):
            return X
        return numeric(
            validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False, ensure_2d=True)
        )

    def _admit(self, dataset: Dataset, X: Any, *, reset: bool) -> None:
        """Check features and target against what this estimator can do, or has seen."""
        if not in_memory(X):
            self._check_features(dataset.n_features, dataset.feature_names, reset=reset)
        y = dataset._columns[1]
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None: pass y, or a dataset with one"
            )
        if self._classification and len(y.shape) == 2 and y.shape[1] > 1:
            raise ValueError(
                f"y: expected one label per row, shape (n,), got {y.shape}; multi-label targets are not "
                "supported"
            )
        if not self._classification and (y.dtype.kind not in "fiub" or dataset.classes is not None):
            what = "labels" if dataset.classes is not None else f"dtype {y.dtype}"
            raise ValueError(f"y: expected numbers for {name}, got {what}; use a classifier")

    def _check_features(self, n: int, names: Sequence[str] | None, *, reset: bool) -> None:
        """Remember number and names of the features, or compare them with those of the fit."""
        if reset:
            self.n_features_in_ = n
            if names is not None:
                self.feature_names_in_ = np.array(names, dtype=object)
            elif hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            return
        name = type(self).__name__
        if n != self.n_features_in_:
            raise ValueError(
                f"X has {n} features, but {name} is expecting {self.n_features_in_} features as input"
            )
        seen = getattr(self, "feature_names_in_", None)
        if names is not None and seen is not None and list(names) != list(seen):
            raise ValueError(
                f"The feature names should match those that were passed during fit: expected {list(seen)}, "
                f"got {list(names)}; reorder or rename the columns of X"
            )

    def _steps(self, dataset: Dataset, run: Run) -> Fit:
        """The whole fit as a generator of asks: survey, then the loop."""
        (survey,) = yield [Ask(None, Survey(classification=self._classification))]
        problem, run.fitted = self._problem(survey, dataset)
        run.problem = problem
        w = self._initial(problem)
        run.progress = Result(w)
        stop = Stop(
            float(self.tol),
            int(self.max_iter),
            problem.loss.baseline(survey.target_summary(problem.class_weight)),
        )
        watchers: list[Any] = [run.history]
        if self.verbose:
            watchers.append(Printer(run.name))

        def watch(row: Any) -> None:
            for watcher in watchers:
                watcher(row)

        solver = self._chosen_solver(problem.model)
        return (
            yield from loop(
                solver, problem, w, stop, run=run.name, meter=run.meter, watch=watch, progress=run.progress
            )
        )

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        """The problem, and attributes to set when the fit ends."""
        raise NotImplementedError

    def _linear(self, survey: SurveyAnswer, outputs: int) -> Linear:
        """The model, standardised by the moments of the survey where `scale` says so."""
        X, intercept = survey.X, bool(self.fit_intercept)
        on = bool(self.scale)
        if isinstance(self.scale, str):  # a step that the user gave is in the units of the data
            on = isinstance(self.solver, str) or not self.solver.fixes_step
        if not on:
            return Linear(len(X.mean), outputs, intercept)
        spread = np.sqrt(X.variance + (0.0 if intercept else X.mean**2))
        spread = np.where((spread > 0) & np.isfinite(spread), spread, 1.0)
        return Linear(len(X.mean), outputs, intercept, X.mean if intercept else None, spread)

    def _initial(self, problem: Problem) -> Array:
        """Zero, or with `warm_start` the parameters of the last fit."""
        model = problem.model
        if not (self.warm_start and hasattr(self, "coef_")):
            return np.zeros(model.size)
        coef = np.asarray(self.coef_)
        if coef.size != model.outputs * model.n_features:
            raise ValueError(
                f"warm_start: expected data like that of the last fit, whose coef_ has shape {coef.shape}, "
                f"got {model.n_features} features and {model.outputs} outputs; fit with warm_start=False"
            )
        offset = 0.0 if problem.offset is None else problem.offset
        return model.parameters(coef, np.ravel(self.intercept_) - offset)

    # -- results ------------------------------------------------------------------------------

    def _finish(self, run: Run) -> None:
        """Set the fitted attributes from wherever the run is."""
        assert run.problem is not None
        assert run.progress is not None
        model, result = run.problem.model, run.progress
        for name, value in run.fitted.items():
            setattr(self, name, value)
        b = model.intercepts(result.w) + (0.0 if run.problem.offset is None else run.problem.offset)
        self.coef_, self.intercept_ = self._shaped(model.coefficients(result.w), b)
        self.n_iter_ = result.n_iter
        self.n_sweeps_ = run.meter.sweeps
        self.history_ = run.history
        self.gap_ = result.gap
        self.outcome_ = result.outcome

    def _shaped(self, coefficients: Array, intercepts: Array) -> tuple[Array, Any]:
        return coefficients, intercepts

    def _warn(self) -> None:
        name, tol = type(self).__name__, float(self.tol)
        if tol == 0 and self.outcome_ == "budget_spent":
            return
        reached = f"estimated relative gap {self.gap_:.1e}, tol={tol:g}"
        if not np.isfinite(self.gap_):
            reached = f"no estimate of the gap yet, tol={tol:g}"
        if self.outcome_ == "budget_spent":
            text = f"{name} did not converge in max_iter={self.max_iter} iterations: {reached}. "
            text += "Increase max_iter, choose another solver, or standardise the features"
        elif self.outcome_ == "stalled":
            text = f"{name} stopped short of tol: no step lowers the objective any more ({reached}). "
            text += "The precision of the data is reached: a larger tol is honest, float64 goes further"
        elif self.outcome_ == "diverged":
            text = f"{name} diverged: the loss grew without bound or became NaN; the best parameters so far "
            text += "are kept. Use a smaller step, or step=None to search it"
        else:
            return
        warnings.warn(text, ConvergenceWarning, stacklevel=4)

    # -- predicting ---------------------------------------------------------------------------

    def _model(self) -> tuple[Linear, Array]:
        check_is_fitted(self)
        coef = np.atleast_2d(self.coef_)
        model = Linear(coef.shape[1], coef.shape[0], True)
        return model, model.parameters(coef, np.ravel(self.intercept_))

    def _map_rows(self, X: Any, function: Callable[[Array], Array], dtype: Any, columns: int | None) -> Any:
        """`function` of the rows of X: numpy in, numpy out; anything lazy in, a lazy dask array out."""
        check_is_fitted(self)
        if in_memory(X):
            if is_sparse(X):
                as_dataset(X)  # refuses, with the sentence
            return function(numeric(validate_data(self, X, reset=False, dtype=None)))
        array, names = lazy(X)
        self._check_features(array.shape[1] if array.ndim > 1 else 1, names, reset=False)
        array, name = array.rechunk({1: -1}), "daskgd-predict"
        if columns is None:
            return array.map_blocks(function, dtype=dtype, drop_axis=1, meta=np.empty(0, dtype), token=name)
        return array.map_blocks(
            function,
            dtype=dtype,
            chunks=(array.chunks[0], (columns,)),
            meta=np.empty((0, 0), dtype),
            token=name,
        )

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Accuracy for classifiers, R2 for regressors, in one sweep over whatever `fit` takes.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            For rows that are none or hold NaN or infinity, as in ``fit``.
        """
        check_is_fitted(self)
        dataset = self._dataset(X, y, sample_weight, reset=False)
        with opened(dataset, self.engine) as (engine, placed):
            problem, w = self._scored(placed)
            return float(engine.sweep([Ask(problem, Score(w))])[0])

    def _scored(self, dataset: Dataset) -> tuple[Problem, Array]:
        """The problem and parameters by which a dataset is scored."""
        raise NotImplementedError


def together(
    estimators: Sequence[LinearEstimator], X: Any, y: Any = None, sample_weight: Any = None
) -> list[Any]:
    """Fit many estimators on the same data, sharing every sweep.

    While several are unfinished, each read of the data answers what all of them ask next: a grid of penalties
    or losses costs as many sweeps as its slowest member.

    Parameters
    ----------
    estimators : sequence of estimators
        Each with settings of its own; they share one engine, so that `engine` must be equal.
    X, y, sample_weight :
        As for ``fit``.

    Returns
    -------
    list
        The same estimators, fitted. `n_sweeps_` of each counts the shared sweeps it took part in.

    Examples
    --------
    >>> import daskgd
    >>> X, y = np.arange(20.0).reshape(10, 2) % 7, np.arange(10) % 2
    >>> a, b = daskgd.together([daskgd.LogisticRegression(C=1.0), daskgd.LogisticRegression(C=0.1)], X, y)
    >>> bool(np.linalg.norm(a.coef_) > np.linalg.norm(b.coef_))
    True
    """
    estimators = list(estimators)
    if not estimators:
        raise ValueError("together: expected at least one estimator, got none")
    if len({id(e) for e in estimators}) < len(estimators):
        raise ValueError(
            "together: expected distinct estimators, got the same object twice; use sklearn.clone"
        )
    for estimator in estimators:
        if not isinstance(estimator, LinearEstimator):
            raise TypeError(f"together: expected estimators of daskgd, got {type(estimator).__name__}")
        estimator._check_parameters()
        if estimator.engine != estimators[0].engine:
            raise ValueError(
                f"together: expected one engine for all, got {estimators[0].engine!r} and "
                f"{estimator.engine!r}"
            )
    dataset = estimators[0]._dataset(X, y, sample_weight)
    for estimator in estimators[1:]:
        estimator._admit(dataset, estimator._validated(X, y, reset=True), reset=True)
    _fit(estimators, dataset)
    return estimators


def _fit(estimators: Sequence[LinearEstimator], dataset: Dataset) -> None:
    """Fit on one engine; interrupted, every estimator keeps the best it had."""
    several = len(estimators) > 1
    runs = [
        Run(e, f"{type(e).__name__}-{i}" if several else type(e).__name__) for i, e in enumerate(estimators)
    ]
    for run in runs:
        run.meter.sweeps = dataset.extra_sweeps
    whole = any(e._chosen_solver().needs_partitions for e in estimators)
    try:
        # One BLAS thread for the solvers' own algebra too: the bits must not depend on the machine's.
        with (
            opened(dataset, estimators[0].engine, whole_partitions=whole) as (engine, placed),
            one_blas_thread(),
        ):
            advance([run.estimator._steps(placed, run) for run in runs], [run.meter for run in runs], engine)
    except BaseException:
        for run in runs:
            if run.progress is not None and run.progress.n_iter:
                run.estimator._finish(run)
        raise
    for run in runs:
        run.estimator._finish(run)
    for run in runs:
        run.estimator._warn()


# -- rows to margins ----------------------------------------------------------------------------


def finite_margins(z: Array, X: Array) -> Array:
    """Margins of a block in float64; ValueError where X is not finite, which they show at no cost."""
    if not np.isfinite(z).all() and not np.isfinite(X).all():
        row = int(np.argmin(np.isfinite(X).all(axis=1)))
        raise ValueError(
            "Input X contains NaN or infinity: expected finite numbers, got "
            f"{X[row].tolist()} in row {row} of a block; impute or drop those rows first"
        )
    return z.astype(np.float64)
