"""Losses, pointwise in margin space.

A loss knows margins and targets and nothing else: no features, no parameters, no penalty, no sums.
Everything here is element-wise numpy, in the dtype of the margins (float32 stays float32).

Conventions
-----------
z : margins, ``(n,)`` for one output and ``(n, k)`` for several.
y : targets as :meth:`Loss.targets` made them from labels or numbers; the shape depends on the loss.
value : ``(n,)``, the loss of each row, summed over outputs.
gradient : the derivative of `value` by z, in the shape of z.
hessian : the second derivative, in the shape of z; ``(n, k, k)`` for :class:`Softmax` and :class:`Huber`,
    whose margins interact.

Nothing overflows: an exponential beyond ``max**(3/4)`` times the target, max the dtype's largest number (4e28
in float32, 1e231 in float64), goes on as a straight line, which keeps gradients finite and convex losses
convex.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd._compat.renamed import accept_old_names

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """Moments of the targets in the data: enough to compute the best constant model.

    Attributes
    ----------
    shares : (k,) or None
        Share of the total weight in each class, for classification.
    variance : float or None
        Weighted variance of the target, summed over outputs, for regression.
    mean : float, (k,) or None
        Weighted mean of the target, per output, for regression.
    """

    shares: Array | None = None
    variance: float | None = None
    mean: float | Array | None = None


RENAMED = {
    "slope": "gradient",
    "curve": "hessian",
    "value_and_slope": "value_and_gradient",
    "softened": "smoothed",
    "kinked": "nonsmooth",
    "bend": "lipschitz",
}
"""New names of attributes and methods that losses of users may still define by those of version 0.1.0."""


class Loss:
    """A pointwise loss. Subclasses are frozen dataclasses; their fields are the loss's settings.

    To add one: subclass, write `value`, `gradient`, `hessian`, `constant` and `baseline`, declare what
    differs from the defaults below, and list an instance in ``daskgd.testing.LOSSES``, which tests it.
    Estimators ask for these attributes instead of the type, so that nothing else has to know the new loss.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        accept_old_names(cls, RENAMED)

    kind: ClassVar[str] = "regression"
    """``"regression"``, or ``"classification"`` (targets are codes 0..k-1 of sorted labels)."""

    smooth: ClassVar[bool] = True
    """Whether the gradient is continuous, which line searches and quasi-Newton methods need."""

    convex: ClassVar[bool] = True
    """Whether the value is convex in the margins."""

    flat: ClassVar[bool] = False
    """Whether the value is 0 over a whole range of margins, with no curvature, as the squared hinge's is."""

    least_at_zero: ClassVar[bool] = False
    """Whether margins of 0 have the least value whatever the targets, so that the objective says nothing of
    parameters of 0."""

    separate: ClassVar[bool] = True
    """Whether the value is a sum over outputs, so that several outputs are as many problems of one."""

    nonsmooth: ClassVar[bool] = False
    """Whether the loss has kinks, which `smoothed` can smooth."""

    deviance: ClassVar[bool] = False
    """Whether the value is half a deviance of an exponential family: ``value(z, y) - value(0, y)`` is linear
    in y, and the mean target is all that the best constant depends on."""

    variance_power: ClassVar[float | None] = None
    """Power p in the variance ``dispersion * mean**p`` of the targets of a deviance, with a dispersion to
    estimate; None where the dispersion is known to be 1, and for losses that are no deviance."""

    inverse_link: ClassVar[str] = "identity"
    """Name of the function from margins to predictions: "logistic" or "softmax" to probabilities of classes,
    "identity", "exp", or another name for another function, to the mean of the target, which is `mean`."""

    lipschitz: ClassVar[float] = np.inf
    """The Lipschitz constant of the gradient in margin space, of one output by its own margin; infinity where
    the gradient has none."""

    low: ClassVar[float] = -np.inf
    """Least number that may be a target (regression only)."""

    low_included: ClassVar[bool] = True
    """Whether `low` itself may be a target."""

    positive_margins: ClassVar[bool] = False
    """Whether margins have to be positive: elsewhere values are infinite, gradients any finite numbers."""

    indicator: ClassVar[bool] = False
    """Whether targets are 0 and 1 alone, a column for each of the labels that a row has or has not."""

    scales: ClassVar[int] = 0
    """Number of margins, after those of the outputs, that have no features: one number for all rows."""

    common_shift: ClassVar[bool] = False
    """Whether the same number added to all margins of a row changes nothing, as it does for softmax: then
    nothing but the penalty says where the coefficients of a feature lie together."""

    offsets: ClassVar[int] = 0
    """Number of columns of the targets, after those of the outputs, that are added to the margins."""

    exact_baseline: ClassVar[bool] = True
    """Whether `baseline` is exact, rather than an order of magnitude."""

    @property
    def shift_invariant(self) -> bool:
        """Whether the same number added to targets and margins changes nothing, so that a mean or an offset
        may be taken from the targets. By default so for regression with any number as a target."""
        return self.kind == "regression" and self.low == -np.inf

    def outputs(self, n_classes: int) -> int:
        """Number of margins per row for `n_classes` classes (classification only)."""
        return 1 if n_classes == 2 else n_classes

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        """Turn numbers ``(n,)`` or ``(n, k)``, or codes ``(n,)``, into what `value` takes as y."""
        return np.ascontiguousarray(y.reshape(len(y)) if outputs == 1 else y, dtype=dtype)

    def value(self, z: Array, y: Array) -> Array:
        """The loss of each row, ``(n,)``, summed over outputs."""
        raise NotImplementedError

    def gradient(self, z: Array, y: Array) -> Array:
        """The derivative of the loss by the margins, in the shape of z."""
        raise NotImplementedError

    def hessian(self, z: Array, y: Array) -> Array:
        """The second derivative of the loss by the margins, in the shape of z or ``(n, k, k)``."""
        raise NotImplementedError

    def hessian_factor(self, z: Array, y: Array) -> Array:
        """What the second derivative is made of at margins z, computed once for many products with it; by
        default the second derivative itself. A loss whose outputs interact overrides this and the methods
        below, so that nothing of size ``(n, k, k)`` is ever formed."""
        return self.hessian(z, y)

    def hessian_product(self, factor: Array, u: Array) -> Array:
        """The product of the second derivative of each row with u, in the shape of z."""
        out: Array = factor * u if factor.ndim == u.ndim else (factor @ u[:, :, None])[:, :, 0]
        return out

    def hessian_diagonal(self, factor: Array) -> Array:
        """The second derivative by each margin alone, in the shape of z."""
        return factor if factor.ndim < 3 else np.einsum("ijj->ij", factor)

    def hessian_root_product(self, factor: Array, e: Array) -> Array:
        """The product of S with e, in the shape of z, where ``S S'`` is the second derivative of each row,
        its eigenvalues made absolute."""
        if factor.ndim < 3:
            out: Array = np.sqrt(np.abs(factor)) * e
            return out
        values, vectors = np.linalg.eigh(factor)
        out = ((vectors * np.sqrt(np.abs(values))[:, None, :]) @ e[:, :, None])[:, :, 0]
        return out

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        """The value ``(n,)`` and the gradient at once; a loss in which they share work overrides this."""
        return self.value(z, y), self.gradient(z, y)

    def mean(self, z: Array) -> Array:
        """The mean of the target that margins predict: the inverse link of z (regression only)."""
        return z

    def constant(self, summary: TargetSummary) -> Array:
        """Margins of the best constant model ``(k,)``, or good ones where moments do not determine them."""
        raise NotImplementedError

    def baseline(self, summary: TargetSummary) -> float:
        """Mean loss of the best constant model, or its order of magnitude where the moments do not determine
        it: the scale by which progress is judged."""
        raise NotImplementedError

    def smoothed(self, width: float) -> Loss:
        """The same loss with its kinks smoothed over `width` either side; itself if it has none."""
        return self

    def excess(self, z: Array, y: Array) -> Array:
        """The amount >= 0 that the smoothing of kinks adds to the value of each row, ``(n,)``."""
        return np.zeros(len(z), z.dtype)


# -- for subclasses -------------------------------------------------------------------------------


def rows(values: Array) -> Array:
    """Sum values ``(n,)`` or ``(n, k)`` over outputs: ``(n,)``."""
    out: Array = values if values.ndim == 1 else values.sum(axis=1)
    return out


def entropy(shares: Array | None) -> float:
    """The entropy of shares ``(k,)`` in nats, empty classes left out."""
    shares = np.asarray(shares, dtype=float)
    shares = shares[shares > 0]
    return float(-np.sum(shares * np.log(shares)))


def logits(shares: Array | None) -> Array:
    """Logarithms of shares ``(k,)``; those of empty classes are finite."""
    assert shares is not None
    out: Array = np.log(np.maximum(shares, np.finfo(float).eps))
    return out


def mean_of(summary: TargetSummary) -> Array:
    """The mean of the targets, ``(k,)``."""
    assert summary.mean is not None
    return np.array(summary.mean, dtype=float).reshape(-1)


def deviation_of(summary: TargetSummary, outputs: int = 1) -> float:
    """Standard deviation of one output, as if all outputs had the same."""
    return 0.0 if summary.variance is None else float(np.sqrt(summary.variance / outputs))
