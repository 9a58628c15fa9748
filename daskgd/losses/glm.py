"""Losses of counts and amounts: half the deviances of Tweedie's family, by power and link; and offsets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from daskgd.losses.base import Array, Loss, TargetSummary, deviation_of, mean_of, rows
from daskgd.losses.regression import Squared

# -- log links -----------------------------------------------------------------------------------


def _reach(z: Array) -> float:
    """The exponent beyond which exponentials are continued by straight lines."""
    return 0.75 * float(np.log(np.finfo(z.dtype).max))


def _log(y: Array) -> Array:
    """Logarithms of targets; that of 0 is finite, and enters multiplied by 0."""
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
    inverse_link: ClassVar[str] = "exp"
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


def _lognormal_baseline(summary: TargetSummary, power: float) -> float:
    """The least mean half deviance of a constant model for lognormal targets with these moments.

    Right to first order where targets vary little, and of the right order however much they vary.
    """
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
        gradient = top * np.expm1(near - log_top) + (top - y)
        value = gradient - y * (near - log_y) + (z - near) * gradient
        return rows(value), gradient

    def hessian(self, z: Array, y: Array) -> Array:
        out: Array = np.exp(np.minimum(z, np.maximum(_log(y), 0) + _reach(z)))
        return out

    def baseline(self, summary: TargetSummary) -> float:
        return _lognormal_baseline(summary, 1.0)


@dataclass(frozen=True, slots=True)
class Gamma(_LogLink):
    """Half the gamma deviance of ``y > 0``, the mean ``exp(z)``: ``y exp(-z) + z - log y - 1``.

    >>> Gamma().value(np.log([2.0, 2.0]), np.array([2.0, 4.0])).round(4)
    array([0.    , 0.3069])
    """

    low_included: ClassVar[bool] = False
    variance_power: ClassVar[float | None] = 2.0

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        r = z - _log(y)
        near = np.maximum(r, -_reach(z))
        gradient = -np.expm1(-near)
        return rows(near - gradient + (r - near) * gradient), gradient

    def hessian(self, z: Array, y: Array) -> Array:
        out: Array = np.exp(np.minimum(_log(y) - z, _reach(z)))
        return out

    def baseline(self, summary: TargetSummary) -> float:
        return _lognormal_baseline(summary, 2.0)


@dataclass(frozen=True, slots=True)
class Tweedie(_LogLink):
    """Half the Tweedie deviance, the mean ``m = exp(z)``, of any power p other than 1 and 2, with targets
    ``y > 0`` for p > 2, ``y >= 0`` for 0 < p < 2, and of any sign for p <= 0:

        max(y, 0)^(2-p) / ((1-p) (2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p),

    and ``(m - y)^2 / 2`` for p = 0. Convex in z for 1 < p < 2 only. :func:`tweedie` gives the losses of all
    powers and links.

    >>> Tweedie(1.5).value(np.log([4.0, 4.0]), np.array([4.0, 0.0]))
    array([0., 4.])
    """

    power: float

    def __post_init__(self) -> None:
        if not np.isfinite(self.power) or self.power in (1, 2):
            raise ValueError(
                f"Tweedie: expected a finite power other than 1 and 2, got power={self.power!r}; "
                "use tweedie(power), which knows 1 and 2 too"
            )

    @property
    def variance_power(self) -> float:  # type: ignore[override]
        return float(self.power)

    @property
    def low(self) -> float:  # type: ignore[override]
        return 0.0 if self.power > 0 else -np.inf

    @property
    def low_included(self) -> bool:  # type: ignore[override]
        return self.power < 2

    @property
    def convex(self) -> bool:  # type: ignore[override]
        return 1 < self.power < 2

    @property
    def shift_invariant(self) -> bool:
        return False

    def _terms(self, z: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """The margin, or where it is too far out the last that is not, and at that ``y^a``, ``m^a - y^a`` and
        ``y m^-b - y^a``."""
        a, b, reach = float(2 - self.power), float(self.power - 1), _reach(z)
        if b < 0:
            return self._terms_below_1(z, y)
        log_y = log_top = _log(y)
        ya = top = np.exp(a * log_y)
        near = np.maximum(z, log_y - reach / b)
        if a > 0:  # so that y = 0 needs no other formula
            ya = ya * (y > 0)
            top, log_top = np.maximum(top, 1), np.maximum(log_y, 0)
            near = np.minimum(near, log_top + reach / a)
        rise = top * np.expm1(a * (near - log_top)) + (top - ya)
        return near, ya, rise, ya * np.expm1(-b * (near - log_y))

    def _terms_below_1(self, z: Array, y: Array) -> tuple[Array, Array, Array, Array]:
        """The same for powers below 1, where both exponents are positive and y may be negative."""
        a, c = float(2 - self.power), float(1 - self.power)
        log_y = _log(y)
        ya = y * y if self.power == 0 else np.exp(a * log_y) * (y > 0)
        near = np.minimum(z, np.maximum(log_y, 0) + _reach(z) / a)
        r = near - log_y
        close, r = np.abs(r) < 1, np.clip(r, -1, 1)
        rise = np.where(close, ya * np.expm1(a * r), np.exp(a * near) - ya)
        return near, ya, rise, np.where(close, ya * np.expm1(c * r), y * np.exp(c * near) - ya)

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        near, _, rise, fall = self._terms(z, y)
        gradient = rise - fall
        value = rise / float(2 - self.power) + fall / float(self.power - 1) + (z - near) * gradient
        return rows(value), gradient

    def hessian(self, z: Array, y: Array) -> Array:
        _, ya, rise, fall = self._terms(z, y)
        return ya + float(2 - self.power) * rise + float(self.power - 1) * fall

    def baseline(self, summary: TargetSummary) -> float:
        if self.power <= 0:
            return _normal_baseline(summary, float(self.power))
        return _lognormal_baseline(summary, self.power)


def _normal_baseline(summary: TargetSummary, power: float) -> float:
    """The same for normal targets and powers <= 0, whose targets have any sign."""
    mean, k = mean_of(summary), len(mean_of(summary))
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    y = mean[:, None] + deviation_of(summary, k) * nodes
    m = np.maximum(mean, 0)
    if power == 0:
        return float(np.sum(deviation_of(summary, k) ** 2 + (m - mean) ** 2) / 2)
    a, c = 2 - power, 1 - power
    spread = np.maximum(y, 0) ** a @ weights / weights.sum() / (a * c)
    return float(np.sum(spread + m**a / a - mean * m**c / c))


# -- identity links ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class IdentityLink(Loss):
    """The deviance of a loss whose mean is ``exp(z)``, with the mean z itself, which has to be positive:
    ``loss.value(log z, y)``, and infinity for ``z <= 0``.

    Convex for :class:`Poisson` only.

    >>> IdentityLink(Poisson()).value(np.array([2.0, 2.0, 0.0]), np.array([2.0, 0.0, 1.0]))
    array([ 0.,  2., inf])
    """

    loss: Loss
    deviance: ClassVar[bool] = True
    exact_baseline: ClassVar[bool] = False
    positive_margins: ClassVar[bool] = True
    low: ClassVar[Any] = property(attrgetter("loss.low"))
    low_included: ClassVar[Any] = property(attrgetter("loss.low_included"))
    variance_power: ClassVar[Any] = property(attrgetter("loss.variance_power"))

    def __post_init__(self) -> None:
        if self.loss.inverse_link != "exp":
            raise ValueError(f"IdentityLink: expected a loss whose mean is exp(z), got {self.loss!r}")

    @property
    def convex(self) -> bool:  # type: ignore[override]
        return isinstance(self.loss, Poisson)

    @property
    def shift_invariant(self) -> bool:
        return False

    def _inside(self, z: Array) -> tuple[Array, Array]:
        """Where margins are positive, by more than what powers of them can hold; and those, 1 elsewhere."""
        power = 1.0 if self.loss.variance_power is None else float(self.loss.variance_power)
        inside = z > np.exp(-_reach(z) / max(power + 1, 1.0))
        return inside, np.where(inside, z, z.dtype.type(1))

    def value(self, z: Array, y: Array) -> Array:
        return self.value_and_gradient(z, y)[0]

    def gradient(self, z: Array, y: Array) -> Array:
        return self.value_and_gradient(z, y)[1]

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        inside, m = self._inside(z)
        value, gradient = self.loss.value_and_gradient(np.log(m), y)
        return np.where(rows(~inside) > 0, value.dtype.type(np.inf), value), gradient / m

    def hessian(self, z: Array, y: Array) -> Array:
        m = self._inside(z)[1]
        log = np.log(m)
        return (self.loss.hessian(log, y) - self.loss.gradient(log, y)) / m / m

    def constant(self, summary: TargetSummary) -> Array:
        return np.exp(self.loss.constant(summary))

    def baseline(self, summary: TargetSummary) -> float:
        return self.loss.baseline(summary)


# -- by power and link ---------------------------------------------------------------------------


def tweedie(power: float, link: str = "auto") -> Loss:
    """The loss of Tweedie's family with variance ``mean**power``, the mean ``exp(z)`` with the `link` "log"
    and z with "identity"; "auto" is the identity for powers <= 0, and the logarithm for others.

    >>> tweedie(0), tweedie(1), tweedie(1.5), tweedie(2, "identity")
    (Squared(), Poisson(), Tweedie(power=1.5), IdentityLink(loss=Gamma()))
    """
    if link not in ("auto", "identity", "log"):
        raise ValueError(f"tweedie: expected link to be 'auto', 'identity' or 'log', got {link!r}")
    identity = link == "identity" or (link == "auto" and power <= 0)
    if identity and power == 0:
        return Squared()
    named: dict[float, Loss] = {1: Poisson(), 2: Gamma()}
    loss = named[power] if power in named else Tweedie(power)
    return IdentityLink(loss) if identity else loss


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
    variance_power: ClassVar[Any] = property(attrgetter("loss.variance_power"))
    inverse_link: ClassVar[Any] = property(attrgetter("loss.inverse_link"))
    shift_invariant: ClassVar[Any] = property(attrgetter("loss.shift_invariant"))
    positive_margins: ClassVar[Any] = property(attrgetter("loss.positive_margins"))
    low: ClassVar[Any] = property(attrgetter("loss.low"))
    low_included: ClassVar[Any] = property(attrgetter("loss.low_included"))
    offsets: ClassVar[int] = 1
    exact_baseline: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.loss.scales or self.loss.offsets:
            raise ValueError(f"Shifted: expected a loss of one margin without offset, got {self.loss!r}")

    def outputs(self, n_classes: int) -> int:
        return self._check_single(self.loss.outputs(n_classes))

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        self._check_single(outputs)
        if y.ndim != 2 or y.shape[1] != 2:
            raise ValueError(f"Shifted: expected a target and an offset per row, got shape {y.shape}")
        return np.stack([self.loss.targets(y[:, 0], 1, dtype), y[:, 1].astype(dtype)]).T

    def _check_single(self, outputs: int) -> int:
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
        return self.loss.constant(_without_offset(summary))

    def baseline(self, summary: TargetSummary) -> float:
        return self.loss.baseline(_without_offset(summary))

    def smoothed(self, width: float) -> Loss:
        return Shifted(self.loss.smoothed(width))

    def excess(self, z: Array, y: Array) -> Array:
        return self.loss.excess(z + y[:, 1], y[:, 0])


def _without_offset(summary: TargetSummary) -> TargetSummary:
    """The summary of the first column of the targets, without the offset's."""
    variance, mean = summary.variance, summary.mean
    return replace(
        summary,
        variance=None if variance is None else float(np.ravel(variance)[0]),
        mean=None if mean is None else float(np.ravel(mean)[0]),
    )
