"""Losses of counts and amounts: half the deviances of Tweedie's family with a log link, and offsets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from daskgd.losses.base import Array, Loss, TargetSummary, deviation_of, mean_of, rows
from daskgd.losses.regression import Squared

# -- log links -----------------------------------------------------------------------------------


def _reach(z: Array) -> float:
    """Where exponentials become straight lines."""
    return 0.75 * float(np.log(np.finfo(z.dtype).max))


def _log(y: Array) -> Array:
    """The logarithm of targets; that of 0 is finite, and enters multiplied by 0."""
    out: Array = np.log(np.maximum(y, np.finfo(y.dtype).tiny))
    return out


class _LogLink(Loss):
    """Half a deviance of Tweedie's family (variance ``mean**power``), with the mean ``exp(z)``.

    With ``a = 2 - power``, ``b = power - 1`` and ``r = z - log y`` it is

        y^a (expm1(a r) / a + expm1(-b r) / b),

    in which neither the powers of y nor those of the mean cancel near r = 0, as they do in its textbook form:
    float32 keeps its digits. Where a or b is 0, the quotient is its limit, r or -r.
    """

    low: ClassVar[float] = 0.0
    deviance: ClassVar[bool] = True
    exact_baseline: ClassVar[bool] = False

    def value(self, z: Array, y: Array) -> Array:
        return self.value_and_gradient(z, y)[0]

    def gradient(self, z: Array, y: Array) -> Array:
        return self.value_and_gradient(z, y)[1]

    def mean(self, z: Array) -> Array:
        with np.errstate(over="ignore"):
            out: Array = np.exp(z)
        return out

    def constant(self, summary: TargetSummary) -> Array:
        out: Array = np.log(np.maximum(mean_of(summary), float(np.finfo(np.float32).tiny)))
        return out


def _of_lognormal(summary: TargetSummary, power: float) -> float:
    """The least mean half deviance of a constant for lognormal targets with these moments: right where
    targets vary little, and for variance without limit of the right order."""
    mean = mean_of(summary)
    c = deviation_of(summary, len(mean)) / np.maximum(mean, np.finfo(np.float32).tiny)
    a, ab = 2 - power, (2 - power) * (power - 1)
    spread = np.log1p(c * c) / 2
    return float(np.sum(np.maximum(mean, 0) ** a * (-np.expm1(-ab * spread) / ab if ab else spread)))


@dataclass(frozen=True, slots=True)
class Poisson(_LogLink):
    """Half the Poisson deviance of ``y >= 0``, the mean ``exp(z)``: ``exp(z) - y z + y log y - y``.

    >>> Poisson().value(np.log([2.0, 2.0]), np.array([2.0, 0.0]))
    array([0., 2.])
    """

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        log_y = _log(y)
        top, log_top = np.maximum(y, 1), np.maximum(log_y, 0)  # so that y = 0 needs no other formula
        near = np.minimum(z, log_top + _reach(z))
        slope = top * np.expm1(near - log_top) + (top - y)
        value = slope - y * (near - log_y) + (z - near) * slope
        return rows(value), slope

    def hessian(self, z: Array, y: Array) -> Array:
        out: Array = np.exp(np.minimum(z, np.maximum(_log(y), 0) + _reach(z)))
        return out

    def baseline(self, summary: TargetSummary) -> float:
        return _of_lognormal(summary, 1.0)


@dataclass(frozen=True, slots=True)
class Gamma(_LogLink):
    """Half the gamma deviance of ``y > 0``, the mean ``exp(z)``: ``y exp(-z) + z - log y - 1``.

    >>> Gamma().value(np.log([2.0, 2.0]), np.array([2.0, 4.0])).round(4)
    array([0.    , 0.3069])
    """

    low_included: ClassVar[bool] = False

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        r = z - _log(y)
        near = np.maximum(r, -_reach(z))
        slope = -np.expm1(-near)
        return rows(near - slope + (r - near) * slope), slope

    def hessian(self, z: Array, y: Array) -> Array:
        out: Array = np.exp(np.minimum(_log(y) - z, _reach(z)))
        return out

    def baseline(self, summary: TargetSummary) -> float:
        return _of_lognormal(summary, 2.0)


@dataclass(frozen=True, slots=True)
class Tweedie(_LogLink):
    """Half the Tweedie deviance, the mean ``m = exp(z)``, for ``1 < power < 2`` (y >= 0) or ``power > 2``
    (y > 0):

        y^(2-p) / ((1-p) (2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p).

    Not convex in z for p > 2. :func:`tweedie` gives the losses of the other powers too.

    >>> Tweedie(1.5).value(np.log([4.0, 4.0]), np.array([4.0, 0.0]))
    array([0., 4.])
    """

    power: float

    def __post_init__(self) -> None:
        if not (1 < self.power < 2 or 2 < self.power < np.inf):
            raise ValueError(
                f"Tweedie: expected 1 < power < 2 or power > 2, got power={self.power!r}; "
                "use tweedie(power), which knows 0, 1 and 2 too"
            )

    @property
    def low_included(self) -> bool:  # type: ignore[override]
        return self.power < 2

    @property
    def convex(self) -> bool:  # type: ignore[override]
        return self.power < 2

    def _terms(self, z: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """The margin unless too far out, and there ``y^a``, ``m^a - y^a`` and ``y m^-b - y^a``."""
        a, b, reach = float(2 - self.power), float(self.power - 1), _reach(z)
        log_y = log_top = _log(y)
        ya = top = np.exp(a * log_y)
        near = np.maximum(z, log_y - reach / b)
        if a > 0:  # so that y = 0 needs no other formula
            ya = ya * (y > 0)
            top, log_top = np.maximum(top, 1), np.maximum(log_y, 0)
            near = np.minimum(near, log_top + reach / a)
        rise = top * np.expm1(a * (near - log_top)) + (top - ya)
        return near, ya, rise, ya * np.expm1(-b * (near - log_y))

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        near, _, rise, fall = self._terms(z, y)
        slope = rise - fall
        value = rise / float(2 - self.power) + fall / float(self.power - 1) + (z - near) * slope
        return rows(value), slope

    def hessian(self, z: Array, y: Array) -> Array:
        _, ya, rise, fall = self._terms(z, y)
        return ya + float(2 - self.power) * rise + float(self.power - 1) * fall

    def baseline(self, summary: TargetSummary) -> float:
        return _of_lognormal(summary, self.power)


def tweedie(power: float) -> Loss:
    """The loss of Tweedie's family with variance ``mean**power``: 0 is :class:`Squared` (whose mean is z,
    not ``exp(z)``), 1 :class:`Poisson`, 2 :class:`Gamma`, others :class:`Tweedie`. ValueError for powers
    below 1 other than 0.

    >>> tweedie(1), tweedie(1.5)
    (Poisson(), Tweedie(power=1.5))
    """
    named: dict[float, Loss] = {0: Squared(), 1: Poisson(), 2: Gamma()}
    if power in named:
        return named[power]
    if not power > 1:
        raise ValueError(
            f"tweedie: expected power 0 or >= 1, got power={power!r}: no distribution has a power between 0 "
            "and 1, and below 0 the mean of the best fit need not be positive"
        )
    return Tweedie(power)


# -- offsets -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Shifted(Loss):
    """Another loss of one output, with an offset per row that is added to the margin.

    Targets are ``(n, 2)``, the target t and the offset o: ``loss.value(z + o, t)``. What is predicted,
    `mean`, is that of the margin z alone.

    >>> Shifted(Poisson()).value(np.array([0.0]), np.array([[2.0, np.log(2.0)]]))
    array([0.])
    """

    loss: Loss
    kind: ClassVar[Any] = property(attrgetter("loss.kind"))
    smooth: ClassVar[Any] = property(attrgetter("loss.smooth"))
    convex: ClassVar[Any] = property(attrgetter("loss.convex"))
    nonsmooth: ClassVar[Any] = property(attrgetter("loss.nonsmooth"))
    deviance: ClassVar[Any] = property(attrgetter("loss.deviance"))
    low: ClassVar[Any] = property(attrgetter("loss.low"))
    low_included: ClassVar[Any] = property(attrgetter("loss.low_included"))
    offsets: ClassVar[int] = 1
    exact_baseline: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.loss.scales or self.loss.offsets:
            raise ValueError(f"Shifted: expected a loss of one margin without offset, got {self.loss!r}")

    def outputs(self, n_classes: int) -> int:
        return self._only_one(self.loss.outputs(n_classes))

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        self._only_one(outputs)
        if y.ndim != 2 or y.shape[1] != 2:
            raise ValueError(f"Shifted: expected a target and an offset per row, got shape {y.shape}")
        return np.stack([self.loss.targets(y[:, 0], 1, dtype), y[:, 1].astype(dtype)]).T

    def _only_one(self, outputs: int) -> int:
        if outputs != 1:
            raise ValueError(f"Shifted: expected a loss of one output, got {outputs}")
        return outputs

    def value(self, z: Array, y: Array) -> Array:
        return self.loss.value(z + y[:, 1], y[:, 0])

    def gradient(self, z: Array, y: Array) -> Array:
        return self.loss.gradient(z + y[:, 1], y[:, 0])

    def hessian(self, z: Array, y: Array) -> Array:
        return self.loss.hessian(z + y[:, 1], y[:, 0])

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        return self.loss.value_and_gradient(z + y[:, 1], y[:, 0])

    def mean(self, z: Array) -> Array:
        return self.loss.mean(z)

    def constant(self, summary: TargetSummary) -> Array:
        return self.loss.constant(_of_target(summary))

    def baseline(self, summary: TargetSummary) -> float:
        return self.loss.baseline(_of_target(summary))

    def smoothed(self, width: float) -> Loss:
        return Shifted(self.loss.smoothed(width))

    def excess(self, z: Array, y: Array) -> Array:
        return self.loss.excess(z + y[:, 1], y[:, 0])


def _of_target(summary: TargetSummary) -> TargetSummary:
    """Of the first column: what is known of the offset left out."""
    variance, mean = summary.variance, summary.mean
    return replace(
        summary,
        variance=None if variance is None else float(np.ravel(variance)[0]),
        mean=None if mean is None else float(np.ravel(mean)[0]),
    )
