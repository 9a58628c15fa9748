"""The base of all estimators: opening the data, preparing a fit, setting what it found, and predicting.

It translates constructor arguments into a problem and a solver, and outcomes into attributes, by
scikit-learn's conventions; it must not know any maths, nor dask's graphs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, UndefinedMetricWarning
from sklearn.utils.validation import check_is_fitted, validate_data

from daskgd._compat.caller import warn
from daskgd.data.columns import n_exclusive, row_bytes
from daskgd.data.convert import (
    as_dataset,
    as_stored,
    check_plain,
    feature_names,
    is_in_memory,
    is_sparse_in_memory,
    lazy,
    numeric,
)
from daskgd.data.dataset import Dataset
from daskgd.engines.preflight import start_imports
from daskgd.engines.select import check_engine, open_engine
from daskgd.engines.worker_memory import check_driver_memory
from daskgd.estimators.export import export
from daskgd.estimators.files import save_model
from daskgd.estimators.fitting.callbacks import CallbackSupportMixin
from daskgd.estimators.fitting.empty_features import Occurring, on_occurring_features
from daskgd.estimators.fitting.fit import FitOutcome, PreparedFit
from daskgd.estimators.fitting.plan import Plan
from daskgd.estimators.fitting.run import FirstSweepAnswers, run_fits
from daskgd.estimators.fitting.solver_choice import SolverChoice, find_solver
from daskgd.estimators.inference import FitData
from daskgd.estimators.parameters import COMMON, DEFAULT_MAX_ITER, Rule, check_parameters, draw_seed
from daskgd.losses import Loss, TargetSummary
from daskgd.models import Model
from daskgd.models.responses import ProbedResponse, Response, ResponseProbe
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.problems import Problem
from daskgd.queries import Ask, Score, Survey, SurveyAnswer
from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.features import Features
from daskgd.rows.layout import Shape
from daskgd.rows.sparse import Sparse
from daskgd.rows.subsets import Subset
from daskgd.solvers import NAMES, Solver, SubsampledNewton
from daskgd.solvers.base import State, certain_gap
from daskgd.training.checkpoint import Checkpoint
from daskgd.training.loop import Stop

Array = NDArray[Any]


FITTED = frozenset(
    (
        *("coef_", "coefs_", "intercept_", "intercepts_", "scale_", "w_", "model_", "module_", "classes_"),
        *("n_iter_", "n_sweeps_", "t_", "history_", "gap_", "dual_gap_", "outcome_", "outliers_", "solver_"),
        *("loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_"),
        *("n_layers_", "n_outputs_", "out_activation_"),
    )
)
"""Attributes that fits set, of which none is left of an earlier one; those of subclasses of users, and what
is known of the features, stay."""


LARGE = 1 << 17
"""Numbers of parameters that are sent to workers by themselves."""


class Estimator(CallbackSupportMixin, BaseEstimator):
    """Base of all estimators.

    Subclasses say what their parameters may be (`_rules`), which loss, model and penalty they mean (`_loss`,
    `_problem`, `_specimen`), where a fit begins (`_initial`, `_revise`) and what it leaves
    (`_set_parameters`, `_model`); mixins of scikit-learn make them classifiers or regressors.
    """

    _classification: ClassVar[bool] = False
    _deviance: ClassVar[bool] = False
    """Whether the score is the share of deviance explained."""
    _takes_offset: ClassVar[bool] = False
    """Whether a fit takes rows with an offset."""
    _keeps_float32: ClassVar[bool] = True
    """Whether parameters are float32 where X is, as those of scikit-learn's estimator of this name."""
    _has_one_minimum: ClassVar[bool] = False
    """Whether the fit comes to the same parameters in whatever scale of the features they are sought."""
    _solvers_there: ClassVar[tuple[str, ...]] = ()
    """Solvers of scikit-learn's estimator that are ways to the minimum which ``solver="auto"`` finds."""

    _multilabel: ClassVar[bool] = False
    """Whether a classifier takes several labels a row."""

    _float32: bool
    _separating: Array
    """The positions of the features in whose direction the last fit has no minimum."""

    _rules: ClassVar[dict[str, Rule]] = {}

    _occurring: Occurring | None = None
    """The features that a fit which runs is restricted to."""

    _subset: Subset | None = None
    """The rows that a fit which runs is restricted to, by their numbers."""

    _known: FirstSweepAnswers | None = None
    """What earlier fits to the same data have asked of it."""

    def _begins_at_zero_beside(self, some: Occurring) -> bool:
        """Whether a fit begins where the coefficients of all but some features are 0."""
        return False

    # -- what subclasses say ------------------------------------------------------------------

    def _loss(self, n_classes: int) -> Loss:
        raise NotImplementedError

    def _auto(self, shape: Shape | None) -> SolverChoice:
        """The solver that ``solver="auto"`` means for data of this shape."""
        raise NotImplementedError

    def _specimen(self, loss: Loss) -> Problem:
        """A small problem of this estimator's kind, by which a solver checks whether it can solve it."""
        raise NotImplementedError

    def _plan_model(self, n_features: int, outputs: int) -> Model:
        """A model of the size of the one to fit, for :meth:`plan`."""
        raise NotImplementedError

    def _about(self) -> str:
        """What else than the loss decides which solvers can be used, in words: the penalty, or the model."""
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # -- fitting ------------------------------------------------------------------------------

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        *,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        every: int | str = 1,
        watch: Watcher | Sequence[Watcher] | None = None,
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : Dataset, path, dask array or frame, numpy or xarray array, pandas frame, sparse array or
            :class:`daskgd.OneHot`, ``(n, p)``
        y : array of the same kinds, but dense, ``(n,)`` or, for regression, ``(n, k)``
            None where X is a Dataset or path that holds its own target.
        sample_weight : array of the same kinds, ``(n,)``, optional
            A weight of 2 is a row twice, a weight of 0 a row absent.
        checkpoint : path, URL or Checkpoint, optional
            Where to keep what was done. If there is something of this fit already, it goes on from there, to
            the same bits, and repeats no sweep that was kept; one that was finished returns at once.
            `max_iter`, `tol`, `memory`, `engine`, `verbose` and `warm_start` may be others than before.
        every : int or str
            Sweeps between two checkpoints, or seconds, such as "30 s".
        watch : callable or sequence of them, optional
            Called with what happens: :class:`daskgd.ProgressBar`, :class:`daskgd.EarlyStopping`,
            :class:`daskgd.JSONLines`, :class:`daskgd.CSVLog`, or your own (:mod:`daskgd.monitoring.events`).

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For bad parameters before any data is read; for bad data with the row that is bad.
        daskgd.CheckpointError
            For a checkpoint of another fit or other data, with what differs.
        """
        kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
        self._check_parameters()
        self._draw_seed()
        dataset, own = self._prepare_rows(self._dataset(X, y, sample_weight))
        with on_occurring_features([self], dataset) as rows:
            run_fits([self], rows, (X, y, sample_weight), kept, watchers, [own], self._known)
        self._stored = FitData.of(dataset) if y is None and sample_weight is None else None
        self._look_back(dataset)
        return self

    def _look_back(self, dataset: Dataset) -> None:
        """Set attributes that are of the rows of the fit."""

    def _prepare_rows(self, dataset: Dataset) -> tuple[Dataset, Sequence[Watcher]]:
        """The rows to train on, and the watchers that the estimator itself asks for."""
        return dataset, ()

    def set_params(self, **params: Any) -> Self:
        """Change parameters, those of a solver object as ``solver__step=0.1``.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For names that there are not, and settings of a solver that is given by name.
        """
        solver = params.get("solver", self.solver)
        nested = [name for name in params if name.startswith("solver__")]
        if nested and not isinstance(solver, Solver):
            raise ValueError(
                f"{type(self).__name__}.set_params: expected solver to be an object, for {nested[0]} to be a "
                f"setting of, got {solver!r}; pass one, as in solver=daskgd.GradientDescent(step=0.1)"
            )
        super().set_params(**params)
        return self

    def _check_parameters(self) -> None:
        check_parameters(self, {**COMMON, **self._rules})
        check_engine(self.engine)
        if self.engine in (None, "distributed"):
            start_imports()
        solver, loss = self._choice(None).solver, self._loss(2)
        cause = self._refusal(solver, loss)
        if cause is not None:
            able = ["auto", *(name for name, kind in NAMES.items() if self._refusal(kind(), loss) is None)]
            raise ValueError(
                f"{type(self).__name__}: expected solver to be one for {loss} and {self._about()}, got "
                f"{solver!r}; use {' or '.join(map(repr, able))}"
            ) from cause

    def _refusal(self, solver: Solver, loss: Loss) -> ValueError | None:
        """The error of a solver that cannot solve this loss with the penalty; None if it can."""
        if isinstance(solver, SubsampledNewton):
            loss = loss.smoothed(1.0)
        try:
            solver.check(self._specimen(loss))
        except ValueError as cause:
            return cause
        return None

    def _choice(self, shape: Shape | None) -> SolverChoice:
        """The solver, ready to use, and the reason for it; `shape` is None while no data is known."""
        there = isinstance(self.solver, str) and self.solver in self._solvers_there
        automatic = there or (isinstance(self.solver, str) and self.solver == "auto")
        choice = self._auto(shape) if automatic else self._solver_by_name(shape)
        if there:
            reason = f"{self.solver!r} is scikit-learn's way to the same minimum; here: {choice.reason}"
            choice = replace(choice, reason=reason)
        if self.regime not in ("auto", choice.solver.regime):
            if automatic:
                choice = self._other(shape)
            if choice.solver.regime != self.regime:
                raise ValueError(
                    f"{type(self).__name__}: expected a solver that is {self.regime}, as regime says, got "
                    f"{choice.solver!r}, which is {choice.solver.regime}; take regime='auto', or another one"
                )
        if "seed" in choice.solver.get_params() and choice.solver.get_params()["seed"] is None:
            choice.solver.set_params(seed=self._seed)
        return choice

    @property
    def _seed(self) -> int:
        """What all random choices of a fit are a function of."""
        if isinstance(self.random_state, np.random.RandomState):
            return getattr(self, "_drawn_seed", 0)  # before a fit it is not known yet
        return int(self.random_state or 0)

    def _draw_seed(self) -> None:
        """Draw the seed of the fit that begins, where `random_state` is a generator."""
        self.__dict__.pop("_drawn_seed", None)
        if isinstance(self.random_state, np.random.RandomState):
            self._drawn_seed = draw_seed(self.random_state)

    def _other(self, shape: Shape | None) -> SolverChoice:
        """What ``solver="auto"`` means where `regime` is not that of the automatic choice."""
        return self._auto(shape)

    def _solver_by_name(self, shape: Shape | None) -> SolverChoice:
        """The solver that was given, by name or as an object."""
        return find_solver(type(self).__name__, self.solver)

    def _shape(self, dataset: Dataset) -> Shape:
        X = dataset.columns.X
        return Shape(
            dataset.n_rows,
            dataset.n_features,
            itemsize=compute_dtype(X.dtype).itemsize,
            classification=self._classification,
            at_hand=dataset.at_hand and self._subset is None,
            nonsmooth=self._loss(2).nonsmooth,
            sparse_row_bytes=None if X.is_dense else row_bytes(X),
            exclusive=n_exclusive(X),
            sample_rows=dataset.sample_rows,
        )

    def plan(self, X: Any, y: Any = None) -> Plan:
        """Plan what ``fit`` would do with this data: solver, sweeps, engine, tasks, memory, seconds.

        Reads some stored blocks for a fraction of a second, here or on every worker of the current cluster,
        to see how fast that goes; trains nothing and keeps nothing.

        Parameters
        ----------
        X, y :
            As for ``fit``; y may be left out.

        Returns
        -------
        Plan
            Print it; its numbers are attributes.

        Raises
        ------
        ValueError
            For what ``fit`` would refuse before its first sweep: bad parameters, shapes and types, and blocks
            that do not fit into a worker's memory, with the size that would.
        """
        self._check_parameters()
        dataset = as_dataset(X, y)
        if not self._takes_offset:
            self._refuse_offset(dataset)
        if dataset.columns.y is not None:  # a stand-in, as a fit that is there stays as it is
            type(self)(**self.get_params(deep=False))._admit(dataset, X, reset=True)
        with on_occurring_features([self], dataset) as rows:
            shape = self._shape(rows)
        plan = Plan.of(
            type(self).__name__,
            self._choice(shape),
            shape,
            rows,
            loss=self._loss(2),
            model=self._plan_model,
            tol=float(self.tol or 0),
            engine=self.engine,
            memory=self.memory,
        )
        return replace(plan, n_features=dataset.n_features)

    def _dataset(self, X: Any, y: Any, sample_weight: Any, *, reset: bool = True) -> Dataset:
        """Make a Dataset of X, y and weights, and check all that can be checked before the data is read."""
        X = self._validate(X, y, reset=reset)
        if np.isscalar(sample_weight) or (isinstance(sample_weight, np.ndarray) and sample_weight.ndim == 0):
            sample_weight = _of_every_row(sample_weight, as_dataset(X, y))
        dataset = as_dataset(X, y, sample_weight)
        self._refuse_offset(dataset)
        self._admit(dataset, X, reset=reset)
        return dataset

    def _refuse_offset(self, dataset: Dataset) -> None:
        """Raise ValueError for rows with an offset, which would be ignored."""
        if dataset.offset_column is not None:
            raise ValueError(
                f"{type(self).__name__}: expected rows without an offset, got a dataset with one, which "
                "PoissonRegressor, GammaRegressor and TweedieRegressor take in fit, score and predict; "
                "leave it out with dataset.replace(offset=None)"
            )

    def _validate(self, X: Any, y: Any, *, reset: bool) -> Any:
        """X checked by scikit-learn, with its messages, where it is in memory; otherwise X as it is."""
        if is_sparse_in_memory(X):
            return self._validate_stored(X, reset=reset)
        if not is_in_memory(X):
            return X
        check_plain(X, "X")
        return numeric(
            validate_data(self, X, reset=reset, dtype=None, ensure_all_finite=False, ensure_2d=True)
        )

    def _validate_stored(self, X: Any, *, reset: bool) -> Features:
        """The same of rows that are not dense."""
        names = feature_names(X)
        X = as_stored(X)
        if isinstance(X, Sparse) and names is None:  # a matrix
            checks = {"accept_sparse": "csr", "dtype": None, "ensure_all_finite": False}
            X = Sparse.of(validate_data(self, X.matrix, reset=reset, **checks))
        elif not len(X):
            raise ValueError(
                f"X: expected at least one row, got 0 sample(s) (shape={X.shape}) while a minimum of 1 is "
                "required."
            )
        self._check_features(X.shape[1], names, reset=reset)
        return X

    def _admit(self, dataset: Dataset, X: Any, *, reset: bool) -> None:
        """Check features and target against what this estimator can do, or has seen."""
        if not is_in_memory(X):
            self._check_features(dataset.n_features, dataset.feature_names, reset=reset)
        y = dataset.columns.y
        name = type(self).__name__
        if y is None:
            raise ValueError(
                f"{name} requires y to be passed, but the target y is None: pass y, or a dataset with one"
            )
        if self._classification and y.dtype.kind in "SVc":
            raise ValueError(
                f"y: expected labels that are numbers, text or dates, got dtype {y.dtype}; convert them, "
                "as in y.astype(str)"
            )
        if self._classification and len(y.shape) == 2 and y.shape[1] > 1 and not self._multilabel:
            raise ValueError(
                f"y: expected one label per row, shape (n,), got {y.shape}; multi-label targets are not "
                "supported: fit one estimator for each column, or MLPClassifier"
            )
        if not self._classification and (y.dtype.kind not in "fiub" or dataset.classes is not None):
            what = "labels" if dataset.classes is not None else f"dtype {y.dtype}"
            other = "convert them, as in y.astype(float)" if y.dtype == object else "use a classifier"
            raise ValueError(f"y: expected numbers for {name}, got {what}; {other}")

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

    def _survey(self) -> Survey:
        """The query by which the first sweep finds moments, labels, and bad values."""
        loss = self._loss(2)
        return Survey(self._classification, loss.low, loss.low_included, loss.indicator)

    def _prepare(
        self,
        dataset: Dataset,
        choice: SolverChoice,
        answers: Sequence[Any],
        initial: Array | None,
        tol: float,
    ) -> PreparedFit:
        """What the loop is to solve, and from where, now that the first sweep is answered.

        Parameters
        ----------
        dataset : Dataset
        choice : SolverChoice
        answers : sequence
            To the survey and the solver's `first_sweep_queries`.
        initial : (d,), optional
            The parameters to begin with, where a fit is resumed.
        tol : float
            The tolerance that the fit began with.
        """
        survey, *first_sweep_answers = answers
        problem, attributes = self._problem(survey, dataset)
        # The sample is here by now, and no longer free.
        needed = 8 * choice.solver.driver_numbers(self._shape(dataset), problem)
        check_driver_memory(needed, f"{type(self).__name__} of {problem.model.size:,} parameters")
        summary = survey.target_summary(problem.class_weight, problem.loss.offsets)
        w = self._initial(problem, summary, survey) if initial is None else initial
        stop = Stop(self._tol(choice.solver), self._most_iterations())
        attributes = {**attributes, "_weight": survey.weight, "_float32": self._in_float32(dataset)}
        fit = PreparedFit(choice, problem, w, w, first_sweep_answers, stop, attributes)
        fit = self._revise(fit, tol)
        loss, extrapolates = fit.problem.loss, fit.choice.solver.extrapolates
        # Targets that are all the same have no baseline: a scale falls to 0 from the 1 where its fit starts.
        baseline = loss.baseline(summary) or float(loss.scales)
        bound = gap_lower_bound(fit.problem, survey) if extrapolates else None
        stop = replace(fit.stop, baseline=baseline, gap_lower_bound=bound)
        return replace(fit, stop=stop, attributes={**fit.attributes, "_baseline": baseline})

    def _in_float32(self, dataset: Dataset) -> bool:
        """Whether parameters and predictions are float32: as in scikit-learn, where targets are no finer."""
        X, y = dataset.columns.X, dataset.columns.y
        assert y is not None
        small = self._classification or np.can_cast(y.dtype, np.float32)
        return bool(self._keeps_float32 and X.dtype == np.float32 and small)

    def _revise(self, fit: PreparedFit, tol: float) -> PreparedFit:
        """Change solver, problem or start where the problem, now known, asks for it."""
        return fit

    def _most_iterations(self) -> int:
        """Most iterations of the solver."""
        return DEFAULT_MAX_ITER if self.max_iter is None else int(self.max_iter)

    def _tol(self, solver: Solver) -> float:
        """The relative gap at which to stop."""
        return float(self.tol or 0)

    def _initial(self, problem: Problem, summary: TargetSummary, survey: SurveyAnswer) -> Array:
        """The initial parameters ``(d,)``."""
        raise NotImplementedError

    def _problem(self, survey: SurveyAnswer, dataset: Dataset) -> tuple[Problem, dict[str, Any]]:
        """Make the problem from the survey, and the attributes to set when the fit ends."""
        raise NotImplementedError

    # -- results ------------------------------------------------------------------------------

    def _finish(self, outcome: FitOutcome) -> None:
        """Set the fitted attributes from what came out of a fit; none of an earlier fit is left."""
        for name in FITTED & vars(self).keys():
            delattr(self, name)
        result, error = outcome.result, outcome.smoothing_error
        for name, value in outcome.attributes.items():
            setattr(self, name, value)
        self._set_parameters(outcome.problem, result.w)
        self.n_iter_: Any = result.n_iter
        self.n_sweeps_ = outcome.n_sweeps
        self.history_ = outcome.history
        self.gap_ = result.gap + error
        self.outcome_ = result.outcome
        self._halved = result.halvings, result.step
        self._excess = error
        if error > float(self.tol or 0) > 0 and self.outcome_ == "converged":
            self.outcome_ = "stalled"  # at the minimum of the smoothed loss, which is not near enough
        self._stored, self._shifted = None, False  # `fit` knows better

    def _set_parameters(self, problem: Problem, w: Array) -> None:
        """Set the attributes that hold the parameters."""
        raise NotImplementedError

    def _model(self) -> tuple[Model, Array]:
        """The model that was fitted, and its parameters ``(d,)``."""
        raise NotImplementedError

    def _warn(self) -> None:
        """Warn of a fit that did not converge, and of what would help."""
        name, tol = type(self).__name__, float(self.tol or 0)
        halvings, step = self._halved
        if halvings:
            worked = "works" if self.outcome_ == "converged" else "was tried last"
            text = f"{name}: the loss grew without bound with step={np.ldexp(step, halvings):.3g}; from the "
            text += (
                f"best parameters so far it was halved {halvings} time{'' if halvings == 1 else 's'}, and a "
            )
            text += f"step of {step:.3g} {worked}. Give that, or a solver that searches its step"
            warn(text, ConvergenceWarning)
        if tol == 0 and self.outcome_ == "budget_spent":
            return
        reached = f"estimated relative gap {self.gap_:.1e}, tol={tol:g}"
        if not np.isfinite(self.gap_):
            reached = f"no estimate of the gap yet, tol={tol:g}"
        if self.outcome_ == "budget_spent":
            named = isinstance(self.solver, str) and self.solver in NAMES
            text = f"{name}: {self.solver} failed to converge" if named else f"{name} did not converge"
            text += f" in max_iter={self.max_iter} iterations: {reached}. "
            text += "Increase max_iter, choose another solver, or standardise the features"
        elif self.outcome_ == "stalled" and self._excess > tol:
            text = (
                f"{name} stopped short of tol: smoothing the kinks of its loss adds up to {self._excess:.1e} "
            )
            text += f"of the objective ({reached}). A larger tol is honest; a larger sample goes further: "
            text += "solver=daskgd.SubsampledNewton(sample_bytes=...), or ProximalNewton with L1"
        elif self.outcome_ == "stalled":
            text = f"{name} stopped short of tol: no step lowers the objective any more ({reached}). "
            text += "The precision of the data is reached: a larger tol is honest, float64 goes further"
        elif self.outcome_ == "diverged":
            text = f"{name} diverged: the loss grew without bound or became NaN; the best parameters so far "
            text += "are kept. Use a smaller step, a solver that searches it, or smaller numbers"
        elif self._separated():
            text = f"{name}: the classes are separable, or nearly so, and without a penalty there is no "
            text += "minimum: coefficients grew until the mean loss was "
            text += f"{self.history_[-1]['loss']:.1e}, and would grow on. Use a finite C"
        elif len(self._separating):
            text = f"{name}: without a penalty there is no minimum: the objective falls, by less and less, "
            text += f"as the coefficients of {self._named(self._separating)} grow: all rows where they are "
            text += "not 0 may have the same label, or no counts. Use a penalty, or leave them out"
        else:
            return
        warn(text, ConvergenceWarning)

    def _named(self, features: Array) -> str:
        """Features in words."""
        names = getattr(self, "feature_names_in_", None)
        features = features if self._occurring is None else self._occurring.positions[features]
        some = [f"column {j}" if names is None else repr(str(names[j])) for j in features[:5]]
        return ", ".join(some) + (f" and {len(features) - 5} more" if len(features) > 5 else "")

    def _separated(self) -> bool:
        """Whether the fit ended where the loss has an infimum of 0 and no minimum."""
        return False

    # -- predicting ---------------------------------------------------------------------------

    def _map_rows(self, X: Any, function: Response, dtype: Any, columns: int | None) -> Any:
        """Map `function` over the rows of X: numpy for numpy, a lazy dask array for anything lazy; of a
        :class:`ResponseProbe` the function itself."""
        check_is_fitted(self)
        if isinstance(X, ResponseProbe):
            return ProbedResponse(function, self._predicted(dtype, X.dtype))
        if is_in_memory(X):
            X = self._validate(X, None, reset=False)
            return function(X).astype(self._predicted(dtype, X.dtype), copy=False)
        X = as_dataset(X) if isinstance(X, str | os.PathLike) else X
        array, names = lazy(X)
        check_plain(array, "X")
        if array.ndim != 2 or array.dtype.kind not in "fiub":
            raise ValueError(
                f"X: expected real numbers or bool of shape (n, p), got {array.dtype} of shape "
                f"{array.shape}; convert or reshape it first"
            )
        self._check_features(array.shape[1], names, reset=False)
        array, found = array.rechunk({1: -1}), self._predicted(dtype, array.dtype)
        of_block: dict[str, Any] = {"func": function, "dtype": dtype, "token": "daskgd-predict"}
        if np.size(getattr(function, "w", ())) > LARGE:  # it goes to each worker once, not with each task
            of_block |= {"func": _of_block, "function": dask.delayed(function, pure=False)}
        if columns is None and isinstance(X, Dataset) and not X.columns.X.is_dense:
            # Where an axis is dropped dask joins the blocks along it, which it cannot do with features.
            of_block |= {"func": _as_column, "of_block": of_block["func"]}
            out = array.map_blocks(chunks=(array.chunks[0], (1,)), meta=np.empty((0, 0), dtype), **of_block)
            out = out.map_blocks(np.ravel, drop_axis=1, dtype=dtype, meta=np.empty(0, dtype))
        elif columns is None:
            out = array.map_blocks(drop_axis=1, meta=np.empty(0, dtype), **of_block)
        else:
            chunks = array.chunks[0], (columns,)
            out = array.map_blocks(chunks=chunks, meta=np.empty((0, 0), dtype), **of_block)
        return out.astype(found) if found != dtype else out

    def _predicted(self, dtype: Any, of_X: Any) -> Any:
        """The dtype of predictions whose kind is `dtype`, for rows in that of X: as in scikit-learn, numbers
        are float32 where rows and model are."""
        single = of_X == np.float32 and dtype == np.dtype(float) and self._is_single()
        return np.dtype(np.float32) if single else dtype

    def _is_single(self) -> bool:
        """Whether the parameters are float32."""
        return bool(getattr(self, "_float32", False))

    def score(self, X: Any, y: Any = None, sample_weight: Any = None) -> float:
        """Score the model in one sweep: accuracy for classifiers, R2 or D2 for regressors.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            For rows that are none or hold NaN or infinity, as in ``fit``.
        """
        check_is_fitted(self)
        return self._score(self._dataset(X, y, sample_weight, reset=False))

    def _score(self, dataset: Dataset) -> float:
        with open_engine(dataset, self.engine) as (engine, materialised):
            problem, w = self._scoring_problem(materialised)
            asks = [Ask(problem, Score(w, self._deviance))]
            if self._deviance:  # targets that have none are refused with their row
                asks.append(Ask(None, Survey(False, problem.loss.low, problem.loss.low_included)))
            score = float(engine.sweep(asks)[0])
        if np.isnan(score):
            name = "D^2" if self._deviance else "R^2"
            warn(f"{name} score is not well-defined with less than two samples.", UndefinedMetricWarning)
        return score

    def _scoring_problem(self, dataset: Dataset) -> tuple[Problem, Array]:
        """The problem and parameters to score a dataset with."""
        raise NotImplementedError

    # -- telling -------------------------------------------------------------------------------

    def to_sklearn(self) -> Any:
        """Make a fitted scikit-learn estimator of the same name, which predicts the same without daskgd.

        It has the parameters that both have, and could be fitted again to the same objective.

        Returns
        -------
        estimator of scikit-learn

        Examples
        --------
        >>> import daskgd
        >>> daskgd.Ridge(alpha=2.0).fit([[-1.0], [0.0], [1.0]], [-2.0, 0.0, 2.0]).to_sklearn()
        Ridge(alpha=2.0, max_iter=1000)
        """
        return export(self)

    def save(self, path: str | os.PathLike[str], *, storage_options: Mapping[str, Any] | None = None) -> None:
        """Write the fitted model to one file, whole or not at all; :func:`daskgd.load_model` reads it.

        A header in JSON and arrays, no pickle. It holds parameters, attributes and history; not where the
        rows of the fit are.

        Parameters
        ----------
        path : str or PathLike
            Or a URL that fsspec knows. A file that is there is replaced.
        storage_options : mapping, optional
            For fsspec.

        Raises
        ------
        sklearn.exceptions.NotFittedError
        TypeError
            For parameters that are objects of other libraries, such as a callable `engine`.

        Examples
        --------
        >>> import daskgd, tempfile
        >>> path = tempfile.mkdtemp() + "/model.dgd"
        >>> daskgd.LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0]).save(path)
        >>> daskgd.load_model(path).coef_.round(6)
        array([2.])
        """
        save_model(self, path, storage_options)


def _of_block(X: Any, function: Any, block_id: tuple[int, ...] | None = None) -> Array:
    """What a function of the rows of a block, sent by itself, makes of one."""
    out: Array = function(X, block_id=block_id)
    return out


def _as_column(
    X: Any, of_block: Callable[..., Array], block_id: tuple[int, ...] | None = None, **others: Any
) -> Array:
    """The same ``(n, 1)``."""
    return of_block(X, block_id=block_id, **others)[:, None]


def gap_lower_bound(problem: Problem, survey: SurveyAnswer) -> Callable[[State], float] | None:
    """A lower bound of a State's gap, as a function, where the loss has a Lipschitz gradient; else None."""
    shares = None if survey.labels is None else survey.labels.weights / survey.labels.weights.sum()
    lipschitz = problem.lipschitz_bounds(survey.X.mean, survey.X.variance, shares)
    return None if lipschitz is None else lambda state: certain_gap(problem, lipschitz, state.w, state.g)


def _of_every_row(weight: Any, dataset: Dataset) -> Any:
    """A column ``(n,)`` of weights, each the same; ValueError for what is no number."""
    if isinstance(weight, str | bytes | bool) or np.asarray(weight).dtype.kind not in "fiu":
        raise ValueError(f"sample_weight: expected an array (n,) or a number, got {weight!r}")
    n, value = dataset.n_rows, float(weight)
    if dataset.in_this_process:
        return np.full(n, value)
    return da.full(n, value, chunks=dataset.layout.block_rows)
