"""Losses of numbers: squared, quantile, epsilon-insensitive, and Huber's with its scale."""

from __future__ import annotations

from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any, ClassVar

import numpy as np

from daskgd.losses.base import Array, Loss, TargetSummary, deviation_of, mean_of, rows
from daskgd.losses.smoothed import bump, check_width, excess, kink, ramp

NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Squared(Loss):
    """Half the squared residual: ``(z - y)**2 / 2``.

    >>> Squared().value(np.array([3.0]), np.array([1.0]))
    array([2.])
    """

    deviance: ClassVar[bool] = True
    variance_power: ClassVar[float | None] = 0.0
    lipschitz: ClassVar[float] = 1.0

    def value(self, z: Array, y: Array) -> Array:
        r = z - y
        return rows(0.5 * r * r)

    def gradient(self, z: Array, y: Array) -> Array:
        return z - y

    def hessian(self, z: Array, y: Array) -> Array:
        return np.ones_like(z)

    def constant(self, summary: TargetSummary) -> Array:
        return mean_of(summary)

    def baseline(self, summary: TargetSummary) -> float:
        assert summary.variance is not None
        return 0.5 * summary.variance


@dataclass(frozen=True, slots=True)
class Quantile(Loss):
    """The pinball loss of the residual ``r = y - z``: ``q max(0, r) + (1 - q) max(0, -r)``.

    Its best constant is the `quantile` q of the targets, ``0 < q < 1`` (Koenker & Bassett, 1978). `width` h
    smooths the kink to a hyperbola: ``(r + sqrt(r**2 + h**2)) / 2 - (1 - q) r``.

    >>> Quantile(0.25).value(np.array([0.0, 4.0]), np.array([2.0, 2.0]))
    array([0.5, 1.5])
    """

    exact_baseline: ClassVar[bool] = False
    nonsmooth: ClassVar[bool] = True
    quantile: float = 0.5
    width: float = 0.0

    def __post_init__(self) -> None:
        check_width("Quantile", self.width)
        if not 0 < self.quantile < 1:
            raise ValueError(f"Quantile: expected 0 < quantile < 1, got quantile={self.quantile!r}")

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return self.width > 0

    def value(self, z: Array, y: Array) -> Array:
        r = y - z  # smoothed or not, max(0, -r) = max(0, r) - r
        return rows(kink(r, self.width) - float(1 - self.quantile) * r)

    def gradient(self, z: Array, y: Array) -> Array:
        return float(1 - self.quantile) - ramp(y - z, self.width)

    def hessian(self, z: Array, y: Array) -> Array:
        return bump(y - z, self.width)

    def constant(self, summary: TargetSummary) -> Array:
        """The quantile of normal targets with these moments."""
        mean = mean_of(summary)
        out: Array = mean + NORMAL.inv_cdf(self.quantile) * deviation_of(summary, len(mean))
        return out

    def baseline(self, summary: TargetSummary) -> float:
        """The mean loss for normal targets: their deviation times the normal density at the quantile."""
        k = 1 if summary.mean is None else np.size(summary.mean)
        return k * deviation_of(summary, k) * float(_density(NORMAL.inv_cdf(self.quantile)))

    def smoothed(self, width: float) -> Loss:
        return replace(self, width=width)

    def excess(self, z: Array, y: Array) -> Array:
        return rows(excess(y - z, self.width))


def _density(x: float) -> float:
    """The density of the standard normal distribution at x."""
    return float(np.exp(-x * x / 2) / np.sqrt(2 * np.pi))


@dataclass(frozen=True, slots=True)
class EpsilonInsensitive(Loss):
    """The excess of the residual over `epsilon`: ``max(0, |y - z| - epsilon)`` or, `squared`, its square.

    `width` smooths the kink on either side, as in :class:`Quantile`.

    >>> EpsilonInsensitive(1.0).value(np.array([0.0, 4.0]), np.array([0.5, 1.5]))
    array([0. , 1.5])
    """

    exact_baseline: ClassVar[bool] = False
    epsilon: float = 0.0
    squared: bool = False
    width: float = 0.0

    def __post_init__(self) -> None:
        check_width("EpsilonInsensitive", self.width, self.squared)
        if not 0 <= self.epsilon < np.inf:
            raise ValueError(
                f"EpsilonInsensitive: expected a finite epsilon >= 0, got epsilon={self.epsilon!r}"
            )

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return self.squared or self.width > 0

    @property
    def nonsmooth(self) -> bool:  # type: ignore[override]
        return not self.squared

    @property
    def flat(self) -> bool:  # type: ignore[override]
        return self.squared

    @property
    def lipschitz(self) -> float:  # type: ignore[override]
        return 2.0 if self.squared else np.inf

    def _sides(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The amounts by which the margin is below and above ``y`` by more than epsilon; negative inside."""
        r, epsilon = y - z, float(self.epsilon)
        return r - epsilon, -r - epsilon

    def value(self, z: Array, y: Array) -> Array:
        low, high = (kink(u, self.width) for u in self._sides(z, y))
        return rows(low * low + high * high if self.squared else low + high)

    def gradient(self, z: Array, y: Array) -> Array:
        low, high = self._sides(z, y)
        if self.squared:
            return 2 * (np.maximum(high, 0) - np.maximum(low, 0))
        return ramp(high, self.width) - ramp(low, self.width)

    def hessian(self, z: Array, y: Array) -> Array:
        low, high = self._sides(z, y)
        if self.squared:
            return 2 * (ramp(low, 0) + ramp(high, 0))
        return bump(low, self.width) + bump(high, self.width)

    def constant(self, summary: TargetSummary) -> Array:
        return mean_of(summary)

    def baseline(self, summary: TargetSummary) -> float:
        """The mean loss of the mean for normal targets with these moments."""
        k = 1 if summary.mean is None else np.size(summary.mean)
        std = deviation_of(summary, k)
        if std == 0:
            return 0.0
        e = float(self.epsilon) / std
        beyond, density = NORMAL.cdf(-e), _density(e)
        if self.squared:
            return 2 * k * std**2 * max((1 + e * e) * beyond - e * density, 0.0)
        return 2 * k * std * max(density - e * beyond, 0.0)

    def smoothed(self, width: float) -> Loss:
        return self if self.squared else replace(self, width=width)

    def excess(self, z: Array, y: Array) -> Array:
        low, high = (excess(u, self.width) for u in self._sides(z, y))
        return rows(low + high)


@dataclass(frozen=True, slots=True)
class HuberResidual(Loss):
    """Huber's loss of the residual in the units of the target: half its square up to `epsilon`, and straight
    beyond (Huber 1964).

    >>> HuberResidual(1.0).value(np.array([0.0, 0.0]), np.array([0.5, 3.0]))
    array([0.125, 2.5  ])
    """

    exact_baseline: ClassVar[bool] = False
    lipschitz: ClassVar[float] = 1.0
    epsilon: float = 1.35

    def __post_init__(self) -> None:
        if not 0 < self.epsilon < np.inf:
            raise ValueError(f"HuberResidual: expected a finite epsilon > 0, got epsilon={self.epsilon!r}")

    def value(self, z: Array, y: Array) -> Array:
        r = y - z
        u = np.clip(r, -self.epsilon, self.epsilon)
        return rows(u * (r - u / 2))

    def gradient(self, z: Array, y: Array) -> Array:
        return np.clip(z - y, -self.epsilon, self.epsilon)

    def hessian(self, z: Array, y: Array) -> Array:
        return (np.abs(y - z) <= self.epsilon).astype(z.dtype)

    def constant(self, summary: TargetSummary) -> Array:
        return mean_of(summary)

    def baseline(self, summary: TargetSummary) -> float:
        deviation = deviation_of(summary)
        return deviation * min(deviation / 2, self.epsilon)


@dataclass(frozen=True, slots=True)
class Huber(Loss):
    """Huber's loss of the residual in units of a scale that is fitted with it.

    Margins are ``(n, 2)``, the prediction m and the scale s: ``s + H((y - m) / s) s``, where ``H(u)`` is
    ``u**2`` for ``|u| <= epsilon`` and ``2 epsilon |u| - epsilon**2`` beyond; jointly convex, and infinite
    for ``s <= 0``. scikit-learn's HuberRegressor; Owen (2007), "A robust hybrid of lasso and ridge
    regression", section 5.

    >>> Huber(1.5).value(np.array([[0.0, 2.0], [0.0, 1.0]]), np.array([2.0, 10.0]))
    array([ 4.  , 28.75])
    """

    scales: ClassVar[int] = 1
    separate: ClassVar[bool] = False
    exact_baseline: ClassVar[bool] = False
    epsilon: float = 1.35

    def __post_init__(self) -> None:
        if not 1 <= self.epsilon < np.inf:
            raise ValueError(f"Huber: expected a finite epsilon >= 1, got epsilon={self.epsilon!r}")

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        if outputs != 1:
            raise ValueError(f"Huber: expected one target per row, got {outputs}")
        return Loss.targets(self, y, 1, dtype)

    def _parts(self, z: Array, y: Array) -> tuple[Array, Array, Array]:
        """The residual, the scale, and the residual in units of the scale clipped to +-epsilon."""
        r, scale, epsilon = y - z[:, 0], z[:, 1], float(self.epsilon)
        s = np.maximum(scale, np.finfo(z.dtype).tiny)
        return r, scale, np.clip(r, -epsilon * s, epsilon * s) / s

    def value(self, z: Array, y: Array) -> Array:
        return self._value(*self._parts(z, y))

    def gradient(self, z: Array, y: Array) -> Array:
        return self._gradient(self._parts(z, y)[2])

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        parts = self._parts(z, y)
        return self._value(*parts), self._gradient(parts[2])

    def hessian(self, z: Array, y: Array) -> Array:
        r, scale, u = self._parts(z, y)
        inside = (scale > 0) & (np.abs(r) <= float(self.epsilon) * scale)
        c = 2 * inside / np.where(inside, scale, 1)
        out = np.empty((len(z), 2, 2), z.dtype)
        out[:, 0, 0], out[:, 1, 1] = c, c * u * u
        out[:, 0, 1] = out[:, 1, 0] = c * u
        return out

    @staticmethod
    def _value(r: Array, scale: Array, u: Array) -> Array:
        value = scale + u * (2 * r - u * scale)  # H(r / s) s without a quotient that could overflow
        return np.where(scale > 0, value, r.dtype.type(np.inf))

    @staticmethod
    def _gradient(u: Array) -> Array:
        return np.stack([-2 * u, 1 - u * u], axis=1)

    def mean(self, z: Array) -> Array:
        return z[:, 0]

    def constant(self, summary: TargetSummary) -> Array:
        """Mean and standard deviation; a scale of 1 for targets that are all the same."""
        return np.append(mean_of(summary), deviation_of(summary) or 1.0)

    def baseline(self, summary: TargetSummary) -> float:
        """``min_s s + variance / s``: the least mean loss if no residual is beyond epsilon."""
        return 2 * deviation_of(summary)

    def at(self, scale: float) -> HuberAt:
        """The same loss where the scale is known."""
        return HuberAt(self.epsilon, scale)


@dataclass(frozen=True, slots=True)
class HuberAt(Loss):
    """:class:`Huber` at a known `scale` c: ``c + H((y - z) / c) c``, of one margin.

    >>> HuberAt(1.5, 2.0).value(np.array([0.0]), np.array([2.0]))
    array([4.])
    """

    nonsmooth: ClassVar[bool] = True
    """Its curvature is that of the rows within epsilon, which may be few."""

    exact_baseline: ClassVar[bool] = False
    epsilon: float = 1.35
    scale: float = 1.0

    def _clipped(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The residual, and the residual in units of the scale clipped to +-epsilon."""
        r, most = y - z, self.epsilon * self.scale
        return r, np.clip(r, -most, most) / self.scale

    def value(self, z: Array, y: Array) -> Array:
        r, u = self._clipped(z, y)
        return rows(self.scale + u * (2 * r - u * self.scale))

    def gradient(self, z: Array, y: Array) -> Array:
        return -2 * self._clipped(z, y)[1]

    def hessian(self, z: Array, y: Array) -> Array:
        inside = np.abs(y - z) <= self.epsilon * self.scale
        return np.where(inside, z.dtype.type(2 / self.scale), z.dtype.type(0))

    def smoothed(self, width: float) -> Loss:
        return self

    def constant(self, summary: TargetSummary) -> Array:
        return mean_of(summary)

    def baseline(self, summary: TargetSummary) -> float:
        return 2 * deviation_of(summary)
