"""Metrics of numbers: errors, shares that are explained, deviances."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd._compat.caller import warn
from daskgd.metrics.kinds.base import Kind, MeanOf, averaged
from daskgd.metrics.of_sklearn import metrics, undefined_metric_warning
from daskgd.metrics.statistics import Predicted, Residuals, Targets, Together, WeightedSum
from daskgd.queries.sums import Largest
from daskgd.rows.sketches import Distribution
from daskgd.rows.statistics import Moments

Array = NDArray[Any]
Settings = Mapping[str, Any]


def _warn_of_one_row(score: str) -> None:
    category = undefined_metric_warning()
    warn(f"{score} score is not well-defined with less than two samples.", category)


def _columns(rows: Predicted) -> tuple[Array, Array, Array | None]:
    """Targets and predictions as float64 columns, and weights."""
    y, p = (np.asarray(v, dtype=np.float64) for v in (rows.targets.numbers, rows.values))
    y, p = (v.reshape(len(v), -1) if v.ndim == 1 or len(v) else v for v in (y, p))
    if y.shape != p.shape:
        raise ValueError(f"y_true and y_pred have different number of output ({y.shape[1]}!={p.shape[1]})")
    return y, p, rows.targets.s


@dataclass(frozen=True)
class ExplainedShare(Kind):
    """The share of the variation of targets that predictions explain: R2, or the explained variance, which
    forgives a constant.

    Of each output ``1 - left / all``; where nothing varies 1 if nothing is left, else 0; averaged as
    `multioutput` says.
    """

    settings: Settings = field(default_factory=dict)
    forgives_mean: bool = False

    @property
    def key(self) -> Hashable:
        return "residuals"

    def of_rows(self, rows: Predicted) -> Residuals:
        y, p, s = _columns(rows)
        return Residuals(Moments.of(y, s), Moments.of(y - p, s), len(y))

    def value(self, statistic: Residuals) -> Any:
        multioutput = self.settings.get("multioutput", "uniform_average")
        if statistic.n_rows < 2 and not self.forgives_mean:
            warn(
                "R^2 score is not well-defined with less than two samples.",
                undefined_metric_warning(),
            )
            return float("nan")
        left, all_ = statistic.left, statistic.targets.deviation
        rest = left.deviation + (0.0 if self.forgives_mean else left.weight * left.mean**2)
        found = explained(rest, all_, bool(self.settings.get("force_finite", True)))
        if isinstance(multioutput, str) and multioutput == "variance_weighted":
            return float(np.average(found, weights=all_) if all_.any() else found.mean())
        return averaged(found, multioutput)


def explained(rest: Array, all_: Array, force_finite: bool = True) -> Array:
    """``1 - rest / all``; where that is not finite 1 if nothing is left, else 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        found: Array = 1 - rest / all_
    return np.where(all_ > 0, found, np.where(rest > 0, 0.0, 1.0)) if force_finite else found


@dataclass(frozen=True)
class LargestError(Kind):
    """The largest ``|y - p|``."""

    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "largest error"

    def of_rows(self, rows: Predicted) -> Largest:
        y, p, _ = _columns(rows)
        if y.shape[1] > 1:
            raise ValueError("Multioutput not supported in max_error")
        return Largest(float(np.max(np.abs(y - p), initial=0.0)))

    def value(self, statistic: Largest) -> float:
        return float(statistic.value)


@dataclass(frozen=True)
class MedianError(Kind):
    """The median of ``|y - p|``, within the rounding of a :class:`~daskgd.rows.sketches.Distribution`."""

    settings: Settings = field(default_factory=dict)

    @property
    def key(self) -> Hashable:
        return "errors"

    def of_rows(self, rows: Predicted) -> Together:
        y, p, s = _columns(rows)
        weights = np.ones((len(y), 1)) if s is None else s[:, None]
        return Together(tuple(Distribution.of(column, weights) for column in np.abs(y - p).T))

    def value(self, statistic: Together) -> Any:
        found = [
            metrics.median_absolute_error(one.low, np.zeros(len(one.low)), sample_weight=one.weights[:, 0])
            for one in statistic.parts
        ]
        return averaged(np.array(found), self.settings.get("multioutput", "uniform_average"))


@dataclass(frozen=True)
class PinballShare(Kind):
    """The share of the pinball loss of the best constant that predictions save."""

    settings: Settings = field(default_factory=dict)

    @property
    def _alpha(self) -> float:
        return float(self.settings.get("alpha", 0.5))

    @property
    def key(self) -> Hashable:
        return "pinball share", self._alpha

    def of_rows(self, rows: Predicted) -> Together:
        y, p, s = _columns(rows)
        w = np.ones(len(y)) if s is None else s
        losses = MeanOf(metrics.mean_pinball_loss, {"alpha": self._alpha}, by_output=True)
        spread = (Distribution.of(column, np.stack([w, w * column], axis=1)) for column in y.T)
        return Together((len(y), losses.of_rows(Predicted(Targets(y, s), p)), *spread))

    def value(self, statistic: Together) -> Any:
        n, losses, *spread = statistic.parts
        if n < 2:
            warn(
                "D^2 score is not well-defined with less than two samples.",
                undefined_metric_warning(),
            )
            return float("nan")
        best = np.array([self._best(one) for one in spread])
        found = explained(np.atleast_1d(losses.mean), best)
        return averaged(found, self.settings.get("multioutput", "uniform_average"))

    def _best(self, spread: Distribution) -> float:
        """The loss of scikit-learn's quantile of the targets."""
        if len(spread.keys) < 2:
            return 0.0
        w = spread.weights[:, 0]
        y = spread.low if spread.is_exact else spread.weights[:, 1] / w
        # Of a constant beyond all targets the loss is known, and scikit-learn's D2 is relative to that of
        # the quantile.
        beyond = np.full(len(y), y.max() + 1.0)
        loss = metrics.mean_pinball_loss(y, beyond, sample_weight=w, alpha=self._alpha)
        share = metrics.d2_pinball_score(y, beyond, sample_weight=w, alpha=self._alpha)
        return float(loss / (1 - share))


@dataclass(frozen=True)
class Deviance:
    """The total deviance of targets about their own mean, of a Tweedie power.

    Two add by the identity of Bregman divergences: about any m the total is that about the own mean, and
    ``W d(mean, m)``.
    """

    power: float
    weight: float
    mean: float
    total: float
    n_rows: int

    def __add__(self, other: Deviance) -> Deviance:
        n = self.n_rows + other.n_rows
        if not self.weight or not other.weight:
            one = other if not self.weight else self
            return Deviance(one.power, one.weight, one.mean, one.total, n)
        weight = self.weight + other.weight
        mean = self.mean + (other.mean - self.mean) * (other.weight / weight)
        moved = sum(one.weight * deviance(one.mean, mean, self.power) for one in (self, other))
        return Deviance(self.power, weight, mean, self.total + other.total + moved, n)


def deviance(y: Any, m: Any, power: float, s: Array | None = None) -> float:
    """The mean deviance of targets about m; 0 where both are 0."""
    y, m = np.atleast_1d(np.asarray(y, dtype=float)), np.atleast_1d(np.asarray(m, dtype=float))
    if np.array_equal(y, np.broadcast_to(m, y.shape)):
        return 0.0
    return float(metrics.mean_tweedie_deviance(y, np.broadcast_to(m, y.shape), sample_weight=s, power=power))


@dataclass(frozen=True)
class TweedieShare(Kind):
    """The share of the Tweedie deviance of the mean that predictions save."""

    settings: Settings = field(default_factory=dict)

    @property
    def power(self) -> float:
        return float(self.settings.get("power", 0))

    @property
    def key(self) -> Hashable:
        return "deviance share", self.power

    def of_rows(self, rows: Predicted) -> Together:
        y, p, s = _columns(rows)
        if y.shape[1] > 1:
            raise ValueError("Multioutput not supported in d2_tweedie_score")
        y, weight = y[:, 0], rows.targets.weight
        if not weight > 0:
            return Together((WeightedSum(0.0, 0.0), Deviance(self.power, 0.0, 0.0, 0.0, len(y))))
        left = weight * metrics.mean_tweedie_deviance(y, p[:, 0], sample_weight=s, power=self.power)
        mean = float(np.average(y, weights=s))
        spread = Deviance(self.power, weight, mean, weight * deviance(y, mean, self.power, s), len(y))
        return Together((WeightedSum(left, weight), spread))

    def value(self, statistic: Together) -> float:
        left, spread = statistic.parts
        if spread.n_rows < 2:
            warn(
                "D^2 score is not well-defined with less than two samples.",
                undefined_metric_warning(),
            )
            return float("nan")
        return float(1 - left.total / spread.total) if spread.total or left.total else float("nan")
