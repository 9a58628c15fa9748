"""Least squares, plain and penalised, with scikit-learn's names and objectives."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.utils.validation import check_is_fitted

from daskgd.engines.select import Choice
from daskgd.estimators.fitting.fit import FitOutcome
from daskgd.estimators.fitting.solver_choice import name_of
from daskgd.estimators.parameters import (
    FLAG,
    MAX_ITER,
    NONNEGATIVE,
    UNIT,
    Rule,
    is_flag,
    is_nonnegative,
    is_one_of,
)
from daskgd.estimators.regression import Regressor
from daskgd.losses import Loss, Squared
from daskgd.monitoring.events import Watcher
from daskgd.solvers import Solver
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]

COPY_X: Rule = (is_flag, "True or False (X is never written to, in either case)")
PRECOMPUTE: Rule = (
    is_flag,
    "True or False (the solver decides what to collect beforehand; a Gram matrix of yours is not taken)",
)


class _LeastSquares(Regressor):
    _many_targets = True

    def _loss(self, n_classes: int) -> Loss:
        return Squared()

    def _has_l1(self) -> bool:
        return bool(self.positive)


class LinearRegression(_LeastSquares):
    """Ordinary least squares on data that need not fit in memory.

    Minimises ``(1 / 2W) sum_i s_i (y_i - x_i w - b)**2``, ``W = sum_i s_i``.

    Parameters
    ----------
    fit_intercept : bool
        Whether to fit b.
    copy_X, n_jobs :
        X is never written to, and `n_jobs` must be None: threads are the cluster's.
    positive : bool
        Whether coefficients must not be negative.
    solver : str or Solver
        ``"auto"`` chooses by loss, penalty and size (``est.plan(X)`` says what, and why); else a name
        (``"gram"``, ``"subsampled_newton"``, ``"proximal_newton"``, ``"newton"``, ``"lbfgs"``, ...) or a
        solver object.
    regime : "auto", "parallel" or "distributed"
        Whether all blocks make each step together, or partitions train copies of their own that are brought
        together, and with ``solver="auto"`` which solver does so. "auto" is what needs the fewest reads of
        the data: parallel for linear models; distributed for others with many rows. It follows from model
        and data alone, never from times measured, as results must not depend on the cluster.
    scale : "auto" or bool
        Whether the solver works on standardised features: algebra on the parameters, no copy of X. Penalty
        and attributes stay in the units of X, so that only the path changes, not the minimum (where that is
        not unique: which of them). "auto" is on unless the solver was given a step.
    max_iter : int
        Most iterations of the solver.
    tol : float
        Estimated gap to the minimum at which to stop, relative to the objective; 0 runs exactly `max_iter`
        iterations.
    memory : "auto", float, int or str
        Rows of a stored dataset kept decoded in memory between sweeps, by the workers or by this process; the
        others are read every time. "auto" keeps what never makes a worker spill, a float is a share of each
        worker's memory limit, an int or "2 GB" is bytes in all, 0 keeps none. The result is the same.
    engine : None, "serial", "threads", "distributed" or callable
        What reads the data: None takes dask's configured scheduler, the current client, or threads.
    random_state : int or numpy.random.RandomState, optional
        For solvers that draw; None is a fixed seed, so that results repeat. From a RandomState every fit
        draws one number.
    verbose : int
        0 is silent; 1 shows a bar in terminals and notebooks, and a line per iteration elsewhere; 2 and more
        print a line per iteration and per sweep.
    warm_start : bool
        Start from the last fit's parameters.

    Attributes
    ----------
    coef_ : ``(p,)`` or ``(k, p)``
    intercept_ : float or ``(k,)``
    n_iter_, n_sweeps_ : int
        Iterations, 0 where a warm start began at the minimum; and reads of the data, the first survey
        included.
    history_ : History
        A mapping per iteration: loss, gradient norm, gap, seconds, bytes, sweeps.
    gap_ : float
        Estimated gap to the minimum, relative to the objective. Gram's is what rounding leaves; Newton's
        methods take half the squared decrement, with the Hessian of a sample and the gradient of all rows;
        first-order solvers (LBFGS, FISTA, GradientDescent) measure it so before they end "converged", in a
        sweep more, and guess it from their path until then.
    outcome_ : str
        ``"converged"``, ``"budget_spent"``, ``"stalled"``, ``"diverged"``, ``"interrupted"`` or, by a
        callback, ``"stopped"``.

    Examples
    --------
    >>> X = np.array([[1.0], [2.0], [3.0]])
    >>> est = LinearRegression().fit(X, [3.0, 5.0, 7.0])
    >>> est.predict(np.array([[4.0]])).round(4)
    array([9.])
    """

    _keeps_column = True
    _rules: ClassVar[dict[str, Rule]] = {"copy_X": COPY_X, "n_jobs": is_one_of(None), "positive": FLAG}

    def __init__(
        self,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        n_jobs: None = None,
        positive: bool = False,
        solver: str | Solver = "auto",
        regime: str = "auto",
        scale: str | bool = "auto",
        max_iter: int = 1000,
        tol: float = 1e-6,
        memory: Any = "auto",
        engine: Choice = None,
        random_state: int | None = None,
        verbose: int = 0,
        warm_start: bool = False,
    ) -> None:
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.n_jobs = n_jobs
        self.positive = positive
        self.solver = solver
        self.regime = regime
        self.scale = scale
        self.max_iter = max_iter
        self.tol = tol
        self.memory = memory
        self.engine = engine
        self.random_state = random_state
        self.verbose = verbose
        self.warm_start = warm_start

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        return 0.0, 0.0


class Ridge(_LeastSquares):
    """Least squares with an L2 penalty, on data that need not fit in memory.

    Minimises ``sum_i s_i (y_i - x_i w - b)**2 + alpha |w|**2``, as scikit-learn does; b is not penalised.

    Parameters
    ----------
    alpha : float or array ``(k,)``
        Strength of the penalty, for all targets or one each.
    max_iter : int or None
        None is 1000.
    solver : str or Solver
        As in :class:`LinearRegression`; the names of scikit-learn's other solvers are "auto" here.
    fit_intercept, copy_X, positive, regime, scale, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, n_sweeps_, history_, gap_ :
        As in :class:`LinearRegression`; of a target ``(n, 1)``, `coef_` is ``(p,)``, as scikit-learn's is.
    solver_ : str
        The name of the solver that was chosen, such as "gram".

    Examples
    --------
    >>> X = np.array([[-1.0], [0.0], [1.0]])
    >>> Ridge(alpha=2.0).fit(X, [-2.0, 0.0, 2.0]).coef_.round(4)
    array([1.])
    """

    @property
    def _solvers_there(self) -> tuple[str, ...]:  # type: ignore[override]
        with_signs = ("lbfgs",) if self.positive else ()  # there, the one that keeps them
        return ("cholesky", "lsqr", "sag", "saga", "sparse_cg", "svd", *with_signs)

    _rules: ClassVar[dict[str, Rule]] = {
        "copy_X": COPY_X,
        "positive": FLAG,
        "max_iter": (lambda value: value is None or MAX_ITER[0](value), f"None or {MAX_ITER[1]}"),
        "alpha": (
            lambda value: all(is_nonnegative(a) for a in np.ravel(value)) and np.ndim(value) <= 1,
            "a number >= 0, or one for each target",
        ),
    }

    def __init__(
        self,
        alpha: float | Array = 1.0,
        *,
        fit_intercept: bool = True,
        copy_X: bool = True,
        max_iter: int | None = 1000,
        tol: float = 1e-6,
        solver: str | Solver = "auto",
        regime: str = "auto",
        scale: str | bool = "auto",
        positive: bool = False,
        random_state: int | None = None,
        memory: Any = "auto",
        engine: Choice = None,
        verbose: int = 0,
        warm_start: bool = False,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.copy_X = copy_X
        self.max_iter = max_iter
        self.tol = tol
        self.solver = solver
        self.regime = regime
        self.scale = scale
        self.positive = positive
        self.random_state = random_state
        self.memory = memory
        self.engine = engine
        self.verbose = verbose
        self.warm_start = warm_start

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        self.solver_ = name_of(outcome.history.solver)

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        alpha = np.ravel(np.asarray(self.alpha, dtype=float))
        if len(alpha) not in (1, outputs):
            raise ValueError(f"Ridge: expected alpha for each of {outputs} targets, got {len(alpha)} values")
        return 0.0, np.broadcast_to(alpha, (outputs,)) / weight


class Lasso(_LeastSquares):
    """Least squares with an L1 penalty, on data that need not fit in memory.

    Minimises ``(1 / 2W) sum_i s_i (y_i - x_i w - b)**2 + alpha |w|_1``, ``W = sum_i s_i``, as scikit-learn
    does; b is not penalised. Several targets are fitted each for itself.

    Parameters
    ----------
    alpha : float
        Strength of the penalty.
    precompute : bool
    selection : "cyclic" or "random"
        Ways of scikit-learn's to the same answer: the solver is what `solver` says.
    fit_intercept, copy_X, positive :
    solver, regime, scale, max_iter, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LinearRegression`. Coefficients that are zero are exactly zero.
    dual_gap_ : float or ``(k,)``
        `gap_` in the units of the objective; of several targets, that of all of them together.
    sparse_coef_ : sparse matrix

    Examples
    --------
    >>> X = np.array([[-1.0, 1.0], [0.0, -2.0], [1.0, 1.0]])
    >>> Lasso(alpha=0.5).fit(X, [-2.0, 0.0, 2.0]).coef_.round(4)
    array([1.25, 0.  ])
    """

    _rules: ClassVar[dict[str, Rule]] = {
        "alpha": NONNEGATIVE,
        "precompute": PRECOMPUTE,
        "copy_X": COPY_X,
        "positive": FLAG,
        "selection": is_one_of("cyclic", "random"),
    }

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        fit_intercept: bool = True,
        precompute: bool = False,
        copy_X: bool = True,
        max_iter: int = 1000,
        tol: float = 1e-6,
        warm_start: bool = False,
        positive: bool = False,
        random_state: int | None = None,
        selection: str = "cyclic",
        solver: str | Solver = "auto",
        regime: str = "auto",
        scale: str | bool = "auto",
        memory: Any = "auto",
        engine: Choice = None,
        verbose: int = 0,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.precompute = precompute
        self.copy_X = copy_X
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.positive = positive
        self.random_state = random_state
        self.selection = selection
        self.solver = solver
        self.regime = regime
        self.scale = scale
        self.memory = memory
        self.engine = engine
        self.verbose = verbose

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        check_input: bool = True,
        *,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        every: int | str = 1,
        watch: Watcher | Sequence[Watcher] | None = None,
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X, y, sample_weight, checkpoint, every, watch :
            As in :class:`LinearRegression`.
        check_input : bool
            Has no effect: input is checked by the sweeps that read it, at no cost, and never written to.

        Returns
        -------
        self
        """
        return super().fit(X, y, sample_weight, checkpoint=checkpoint, every=every, watch=watch)

    def _has_l1(self) -> bool:
        return True

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        loss = self.history_[-1]["loss"] if len(self.history_) else np.nan
        gap = self.gap_ * max(loss, 1e-3 * self._baseline)
        self.dual_gap_ = gap if np.ndim(self.coef_) == 1 else np.full(len(self.coef_), gap)

    @property
    def sparse_coef_(self) -> Any:
        """`coef_` as a sparse matrix in rows (CSR), ``(1, p)`` or ``(k, p)``."""
        check_is_fitted(self)
        return csr_matrix(self.coef_)

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        return float(self.alpha), 0.0


class ElasticNet(Lasso):
    """Least squares with L1 and L2 penalties, on data that need not fit in memory.

    Minimises

        (1 / 2W) sum_i s_i (y_i - x_i w - b)**2 + alpha l1_ratio |w|_1 + alpha (1 - l1_ratio) / 2 |w|**2

    with ``W = sum_i s_i``, as scikit-learn does; b is not penalised. Several targets are fitted each for
    itself.

    Parameters
    ----------
    alpha : float
        Strength of the penalty.
    l1_ratio : float
        Share of L1 in it, from 0 to 1.
    precompute, selection :
        As in :class:`Lasso`.
    fit_intercept, copy_X, positive :
    solver, regime, scale, max_iter, tol, memory, engine, random_state, verbose, warm_start :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`Lasso`.

    Examples
    --------
    >>> X = np.array([[-1.0, 1.0], [0.0, -2.0], [1.0, 1.0]])
    >>> ElasticNet(alpha=1.0).fit(X, [-2.0, 0.0, 2.0]).coef_.round(4)
    array([0.7143, 0.    ])
    """

    _rules: ClassVar[dict[str, Rule]] = {**Lasso._rules, "l1_ratio": UNIT}

    def __init__(
        self,
        alpha: float = 1.0,
        *,
        l1_ratio: float = 0.5,
        fit_intercept: bool = True,
        precompute: bool = False,
        max_iter: int = 1000,
        copy_X: bool = True,
        tol: float = 1e-6,
        warm_start: bool = False,
        positive: bool = False,
        random_state: int | None = None,
        selection: str = "cyclic",
        solver: str | Solver = "auto",
        regime: str = "auto",
        scale: str | bool = "auto",
        memory: Any = "auto",
        engine: Choice = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(
            alpha,
            fit_intercept=fit_intercept,
            precompute=precompute,
            copy_X=copy_X,
            max_iter=max_iter,
            tol=tol,
            warm_start=warm_start,
            positive=positive,
            random_state=random_state,
            selection=selection,
            solver=solver,
            regime=regime,
            scale=scale,
            memory=memory,
            engine=engine,
            verbose=verbose,
        )
        self.l1_ratio = l1_ratio

    def _has_l1(self) -> bool:
        return bool(self.positive or (self.alpha > 0 and self.l1_ratio > 0))

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        alpha, l1_ratio = float(self.alpha), float(self.l1_ratio)
        return alpha * l1_ratio, alpha * (1 - l1_ratio)
