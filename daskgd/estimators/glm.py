"""Generalised linear models of counts and of positive amounts, with scikit-learn's names and objectives; and
offsets, which those models are fitted with."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import dask.array as da
import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.validation import check_is_fitted

from daskgd._compat.caller import warn
from daskgd.data.columns import Column
from daskgd.data.convert import is_in_memory, lazy
from daskgd.data.dataset import Dataset, open_dataset
from daskgd.data.offsets import with_offset
from daskgd.engines.select import Choice
from daskgd.estimators.fitting.fit import FitOutcome
from daskgd.estimators.fitting.run import run_fits
from daskgd.estimators.inference import Summary, check_summary, summarise
from daskgd.estimators.parameters import NONNEGATIVE, Rule, is_finite, is_one_of, with_parameters_of
from daskgd.estimators.prediction import dense
from daskgd.estimators.regression import Regressor, targets_of
from daskgd.losses import Loss, Shifted, TargetSummary, tweedie
from daskgd.models import Linear
from daskgd.monitoring.events import Watcher, watchers_of
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.solvers import Solver
from daskgd.training.checkpoint import Checkpoint

Array = NDArray[Any]


class _Deviance(Regressor):
    """Base of the models of an exponential family: half the deviance, and a penalty beside its mean."""

    _deviance: ClassVar[bool] = True
    _takes_offset: ClassVar[bool] = True
    _solvers_there = ("newton-cholesky",)
    _rules: ClassVar[dict[str, Rule]] = {"alpha": NONNEGATIVE}

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        fit_intercept: bool = True,
        solver: str | Solver = "auto",
        regime: str = "auto",
        max_iter: int = 1000,
        tol: float = 1e-6,
        warm_start: bool = False,
        verbose: int = 0,
        scale: str | bool = "auto",
        memory: Any = "auto",
        engine: Choice = None,
        random_state: int | None = None,
    ) -> None:
        self.alpha = alpha
        self.fit_intercept = fit_intercept
        self.solver = solver
        self.regime = regime
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start
        self.verbose = verbose
        self.scale = scale
        self.memory = memory
        self.engine = engine
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.positive_only = self._loss(0).low == 0
        return tags

    _power: Any
    """The power of Tweedie's family whose deviance the score is of."""

    def _strengths(self, weight: float, outputs: int) -> tuple[Any, Any]:
        return 0.0, float(self.alpha)

    def fit(
        self,
        X: Any,
        y: Any = None,
        sample_weight: Any = None,
        offset: Any = None,
        *,
        checkpoint: str | os.PathLike[str] | Checkpoint | None = None,
        every: int | str = 1,
        watch: Watcher | Sequence[Watcher] | None = None,
    ) -> Self:
        """Fit the model.

        Parameters
        ----------
        X : Dataset, path, dask array or frame, numpy or xarray array, or pandas frame, ``(n, p)``
        y : array of the same kinds, ``(n,)``
            None where X is a Dataset or path that holds its own target.
        sample_weight : array of the same kinds, ``(n,)``, optional
            A weight of 2 is a row twice, a weight of 0 a row absent.
        offset : array of the same kinds, ``(n,)``, optional
            Added to ``x_i w + b``; the logarithm of an exposure, for rates of counts. By default that which a
            Dataset or path holds, as :func:`daskgd.write_dataset` stores it; a split has that of its rows.
        checkpoint, every, watch :
            As in :class:`LinearRegression`.

        Returns
        -------
        self

        Raises
        ------
        ValueError
            For bad parameters before any data is read; for bad data, targets that the model cannot have
            among it, with the row that is bad.
        """
        kept, watchers = Checkpoint.of(checkpoint, every), watchers_of(watch)
        self._check_parameters()
        self._draw_seed()
        given = X, y, sample_weight
        X, offset = _take_offset(X, offset)
        dataset = self._dataset(X, y, sample_weight)
        if offset is None:
            run_fits([self], dataset, given, kept, watchers)
        else:
            subtract = self._loss(0).shift_invariant
            with _rename_errors(subtract):
                run_fits([self], with_offset(dataset, offset, subtract), given, kept, watchers)
        self._shifted = offset is not None
        return self

    def partial_fit(self, X: Any, y: Any = None, sample_weight: Any = None) -> Self:
        if getattr(self, "_shifted", False):
            raise ValueError(
                f"{type(self).__name__}.partial_fit: expected a model that was fitted without an offset, as "
                "rows that come in parts have none; call fit with all rows and their offset, or begin with a "
                "clone"
            )
        return super().partial_fit(X, y, sample_weight)

    partial_fit.__doc__ = Regressor.partial_fit.__doc__

    def summary(
        self,
        X: Any = None,
        y: Any = None,
        sample_weight: Any = None,
        offset: Any = None,
        *,
        confidence: float = 0.95,
    ) -> Summary:
        """Standard errors, tests and confidence intervals, as :meth:`LinearRegression.summary` gives them.

        The rows of the fit are always needed, with their offset if there was one."""
        check_is_fitted(self)
        check_summary(self, confidence)
        X, offset = _take_offset(X, offset)
        shifted = getattr(self, "_shifted", False)  # never by `together`, which knows no offsets
        if X is None or shifted != (offset is not None):
            missing = "the rows" if X is None else "an offset" if shifted else "no offset"
            raise ValueError(
                f"{type(self).__name__}.summary: expected {missing}, as in the fit: pass X, y, sample_weight "
                "and offset again"
            )
        dataset = self._dataset(X, y, sample_weight, reset=False)
        if offset is None:
            return summarise(self, dataset, confidence)
        subtract = self._loss(0).shift_invariant
        with _rename_errors(subtract):
            return summarise(self, with_offset(dataset, offset, subtract), confidence)

    def predict(self, X: Any, offset: Any = None) -> Any:
        """Predicted means ``(n,)``: numpy for numpy, a lazy dask array for anything lazy.

        `offset` ``(n,)`` is added to the margin, by default that which a Dataset or path holds; without any
        they are those of an offset of 0, whatever the model was fitted with.
        """
        X, offset = _take_offset(X, offset)
        if isinstance(offset, Column):
            assert isinstance(X, Dataset)
            offset = X.replace(offset=offset).offset
        mean = self._loss(0).mean
        if offset is None:
            return self._map_margins(X, mean)
        z = self._map_margins(X, None)
        o = np.asarray(offset) if is_in_memory(offset) else lazy(offset)[0]
        if o.dtype.kind not in "fiub":
            raise ValueError(f"offset: expected numbers, got dtype {o.dtype}")
        rows = z.shape[0]
        if o.ndim != 1 or (o.shape[0] != rows and not np.isnan([o.shape[0], rows]).any()):
            raise ValueError(f"offset: expected shape ({rows},), as X has rows, got {o.shape}")
        z = z + (da.map_blocks(_finite, o, dtype=float) if isinstance(o, da.Array) else _finite(o))
        lazily = isinstance(z, da.Array)
        return da.map_blocks(mean, z, dtype=z.dtype, token="daskgd-predict") if lazily else mean(z)

    def score(self, X: Any, y: Any = None, sample_weight: Any = None, offset: Any = None) -> float:
        """D2, the share of the deviance of the mean target that ``predict(X, offset)`` explains, as
        scikit-learn's; in one sweep over whatever `fit` takes, with the offset that it holds by default.

        Returns
        -------
        float

        Raises
        ------
        ValueError
            For rows that are none or bad, as in ``fit``.
        """
        check_is_fitted(self)
        X, offset = _take_offset(X, offset)
        dataset = self._dataset(X, y, sample_weight, reset=False)
        if offset is None:
            return self._score(dataset)
        with _rename_errors(False):
            return self._score(with_offset(dataset, offset, False))

    def _scoring_problem(self, dataset: Dataset) -> tuple[Problem, Array]:
        coef, b, loss = np.atleast_2d(dense(self.coef_)), np.ravel(self.intercept_), self._loss(0)
        if targets_of(dataset) == 2:  # the second is an offset, and the margin's its factor
            coef, b, loss = np.append(coef, 0 * coef, axis=0), np.append(b, 1.0), _Offset(loss)
        model = Linear(coef.shape[1], len(coef), intercept=False)
        return Problem(loss, model, L2(), offset=b), model.parameters(coef, b)


@dataclass(frozen=True, slots=True)
class _Offset(Loss):
    """A loss with targets ``(n, 2)``, the target and the offset, and margins ``(n, 2)``, the margin and the
    factor of the offset: 0 in the null model of the score, which knows of no offsets."""

    loss: Loss

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return y.astype(dtype)

    def value(self, z: Array, y: Array) -> Array:
        return self.loss.value(z[:, 0] + z[:, 1] * y[:, 1], self.loss.targets(y[:, 0], 1, y.dtype))

    def constant(self, summary: TargetSummary) -> Array:
        return np.append(Shifted(self.loss).constant(summary), 0.0)


def _finite(offset: Array, block_id: tuple[int, ...] | None = None) -> Array:
    """Offsets of a block in float64, none of them NaN or infinity."""
    offset = offset.astype(np.float64)
    if not np.isfinite(offset).all():
        row = int(np.argmin(np.isfinite(offset)))
        block = "" if block_id is None else f" of block {block_id[0]}"
        raise ValueError(
            f"Input offset contains NaN or infinity: expected finite numbers, got {offset[row]} in row {row}"
            f"{block}; impute or drop those rows first"
        )
    return offset


@contextmanager
def _rename_errors(subtract: bool) -> Iterator[None]:
    """Name the target or the offset in errors about the column that `with_offset` makes of both."""
    try:
        yield
    except ValueError as cause:
        text = str(cause)
        if not text.startswith("Input y contains"):
            raise
        name = "y - offset" if subtract else "offset" if re.search(r"column 1\b", text) else "y"
        where = re.sub(r", (first in )?column [01]\b", "", text.removeprefix("Input y"), count=1)
        raise ValueError(f"Input {name}{where}") from None


def _take_offset(X: Any, offset: Any) -> tuple[Any, Any]:
    """The rows without an offset of their own, and that which is given, or else theirs, as a column."""
    if isinstance(X, str | os.PathLike):
        X = open_dataset(X)
    if not isinstance(X, Dataset) or X.offset_column is None:
        return X, offset
    return X.replace(offset=None), X.offset_column if offset is None else offset


class PoissonRegressor(_Deviance):
    """Poisson regression of counts ``y >= 0``, on data that need not fit in memory.

    The mean is ``m_i = exp(x_i w + b + offset_i)``. Minimises, as scikit-learn does (without offsets),

        (1 / W) sum_i s_i (m_i - y_i + y_i log(y_i / m_i)) + alpha / 2 |w|**2,    W = sum_i s_i,

    the mean of half the deviances; b is not penalised.

    Parameters
    ----------
    alpha : float
        Strength of the penalty.
    fit_intercept, solver, regime, max_iter, tol, warm_start, verbose, scale, memory, engine, random_state :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_ : ``(p,)``
    intercept_ : float
    n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`LinearRegression`.

    Examples
    --------
    >>> X, days = np.array([[0.0], [1.0]]), np.array([10.0, 20.0])
    >>> est = PoissonRegressor(alpha=0).fit(X, [20, 80], offset=np.log(days))
    >>> est.predict(X).round(4), est.predict(X, offset=np.log(days)).round(4)
    (array([2., 4.]), array([20., 80.]))
    """

    _power = 1.0

    def _loss(self, n_classes: int) -> Loss:
        return tweedie(1)


class GammaRegressor(_Deviance):
    """Gamma regression of amounts ``y > 0``, on data that need not fit in memory.

    The mean is ``m_i = exp(x_i w + b + offset_i)``. Minimises, as scikit-learn does (without offsets),

        (1 / W) sum_i s_i (y_i / m_i - 1 + log(m_i / y_i)) + alpha / 2 |w|**2,    W = sum_i s_i,

    the mean of half the deviances; b is not penalised.

    Parameters
    ----------
    alpha : float
        Strength of the penalty.
    fit_intercept, solver, regime, max_iter, tol, warm_start, verbose, scale, memory, engine, random_state :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`PoissonRegressor`.

    Examples
    --------
    >>> X = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> GammaRegressor(alpha=0).fit(X, [1.0, 3.0, 2.0, 6.0]).predict(X).round(4)
    array([2., 2., 4., 4.])
    """

    _power = 2.0

    def _loss(self, n_classes: int) -> Loss:
        return tweedie(2)


STEEP = 1e8
"""Curvature along the last step, relative to the objective, beyond which a fit has gone to the border of what
means may be."""


class TweedieRegressor(_Deviance):
    """Regression of Tweedie's family, whose variance is ``mean**power``, on data that need not fit in memory.

    The mean m_i is ``exp(x_i w + b + offset_i)`` with the logarithm as link, ``x_i w + b + offset_i`` with
    the identity. Minimises, as scikit-learn does (without offsets),

        (1 / 2W) sum_i s_i deviance(y_i, m_i) + alpha / 2 |w|**2,    W = sum_i s_i;

    b is not penalised. The deviance is convex in w and b with the logarithm for powers from 1 to 2, and with
    the identity for 0 and 1; else the fit ends at a minimum near the best constant, as scikit-learn's does.

    Parameters
    ----------
    power : float
        0 (normal), 1 (Poisson, ``y >= 0``), between 1 and 2 (amounts that may be 0), 2 (gamma, ``y > 0``), 3
        (inverse Gaussian) or any other. No distribution has a power between 0 and 1 (``y >= 0``), but its
        deviance can be fitted; below 0 targets have any sign, and means are positive.
    alpha : float
        Strength of the penalty.
    link : "auto", "identity" or "log"
        "auto" is the identity for powers <= 0 and the logarithm for others. With the identity, and a power
        other than 0, the mean of every row of the fit has to be positive: it needs an intercept to begin
        with, and does not converge where the best means would be 0. A row that comes later may have any.
    fit_intercept, solver, regime, max_iter, tol, warm_start, verbose, scale, memory, engine, random_state :
        As in :class:`LinearRegression`.

    Attributes
    ----------
    coef_, intercept_, n_iter_, n_sweeps_, history_, gap_, outcome_ :
        As in :class:`PoissonRegressor`.

    Examples
    --------
    >>> X = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> TweedieRegressor(power=1.5, alpha=0).fit(X, [0.0, 4.0, 2.0, 6.0]).predict(X).round(4)
    array([2., 2., 4., 4.])
    """

    _rules: ClassVar[dict[str, Rule]] = {
        "power": (is_finite, "a finite number"),
        **_Deviance._rules,
        "link": is_one_of("auto", "identity", "log"),
    }

    @with_parameters_of(_Deviance.__init__)
    def __init__(self, *, power: float = 0.0, link: str = "auto", **settings: Any) -> None:
        super().__init__(**settings)
        self.power = power
        self.link = link

    def _check_parameters(self) -> None:
        super()._check_parameters()
        if self._loss(0).positive_margins and not self.fit_intercept:
            raise ValueError(
                "TweedieRegressor: expected fit_intercept=True with the identity as link and "
                f"power={self.power!r}, got False: means have to be positive, and without an intercept a fit "
                "begins where they are 0; use link='log'"
            )

    @property
    def _power(self) -> float:
        return float(self.power)

    def _loss(self, n_classes: int) -> Loss:
        return tweedie(self.power, self.link)

    def _finish(self, outcome: FitOutcome) -> None:
        super()._finish(outcome)
        if self._loss(0).positive_margins and self.outcome_ == "converged" and self.history_:
            last = self.history_[-1]
            steep = last["gradient_norm"] ** 2 > STEEP * self.gap_ * last["loss"] ** 2
            # A fit of means that go to 0 ends where the curvature is without bound, and no step counts.
            self.outcome_ = "stalled" if steep and self.gap_ > 0 else "converged"

    def _warn(self) -> None:
        if not (self._loss(0).positive_margins and self.outcome_ in ("stalled", "diverged")):
            return super()._warn()
        text = (
            "TweedieRegressor did not converge: with the identity as link every mean has to be positive, and "
            "the best ones of some rows are not, or those where the fit begins. Use link='log', or leave out "
            "what makes these means so small"
        )
        return warn(text, ConvergenceWarning)
