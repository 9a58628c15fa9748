"""Losses, pointwise in margin space.

A loss knows margins and targets and nothing else: no features, no parameters, no penalty, no sums.
Everything here is element-wise numpy, in the dtype of the margins (float32 stays float32).

Conventions
-----------
z : margins, ``(n,)`` for one output and ``(n, k)`` for several.
y : targets as :meth:`Loss.targets` made them from labels or numbers; the shape depends on the loss.
value : ``(n,)``, the loss of each row, summed over outputs.
slope : the derivative of `value` by z, in the shape of z.
curve : the second derivative, in the shape of z; ``(n, k, k)`` for :class:`Softmax`, whose outputs
    interact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """What a survey of the targets found; enough for the best constant model.

    Attributes
    ----------
    shares : (k,) or None
        Share of the total weight in each class, for classification.
    variance : float or None
        Weighted variance of the target, summed over outputs, for regression.
    """

    shares: Array | None = None
    variance: float | None = None


class Loss:
    """A pointwise loss. Subclasses are frozen dataclasses; their fields are the loss's settings.

    To add one: subclass, write `targets`, `value`, `slope`, `curve` and `baseline`, and list an
    instance in ``daskgd.testing.LOSSES``, which tests it.
    """

    kind: ClassVar[str] = "regression"
    """``"regression"``, or ``"classification"`` (targets are codes 0..k-1 of sorted labels)."""

    smooth: ClassVar[bool] = True
    """Whether the slope is continuous, which line searches and quasi-Newton methods need."""

    def outputs(self, n_classes: int) -> int:
        """Number of margins per row for `n_classes` classes (classification only)."""
        return 1 if n_classes == 2 else n_classes

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        """Turn numbers ``(n,)`` or ``(n, k)``, or codes ``(n,)``, into what `value` takes as y."""
        return np.ascontiguousarray(y.reshape(len(y)) if outputs == 1 else y, dtype=dtype)

    def value(self, z: Array, y: Array) -> Array:
        """The loss of each row, ``(n,)``."""
        raise NotImplementedError

    def slope(self, z: Array, y: Array) -> Array:
        """The derivative by the margins, in the shape of z."""
        raise NotImplementedError

    def curve(self, z: Array, y: Array) -> Array:
        """The second derivative by the margins."""
        raise NotImplementedError

    def value_and_slope(self, z: Array, y: Array) -> tuple[Array, Array]:
        """Both at once; a loss whose halves share work overrides this."""
        return self.value(z, y), self.slope(z, y)

    def baseline(self, summary: TargetSummary) -> float:
        """The mean loss of the best constant model: the scale by which progress is judged."""
        raise NotImplementedError


def _rows(values: Array) -> Array:
    """Sum over outputs, if there are several."""
    out: Array = values if values.ndim == 1 else values.sum(axis=1)
    return out


def _entropy(shares: Array | None) -> float:
    shares = np.asarray(shares, dtype=float)
    shares = shares[shares > 0]
    return float(-np.sum(shares * np.log(shares)))


def _signs(y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
    """Codes to -1/+1: ``(n,)`` for two classes, one column per class against the rest otherwise."""
    hit = y == 1 if outputs == 1 else y[:, None] == np.arange(outputs)
    two, one = dtype.type(2), dtype.type(1)
    return hit.astype(dtype) * two - one


@dataclass(frozen=True, slots=True)
class Squared(Loss):
    """Half the squared residual: ``(z - y)**2 / 2``.

    >>> Squared().value(np.array([3.0]), np.array([1.0]))
    array([2.])
    """

    def value(self, z: Array, y: Array) -> Array:
        r = z - y
        return _rows(0.5 * r * r)

    def slope(self, z: Array, y: Array) -> Array:
        return z - y

    def curve(self, z: Array, y: Array) -> Array:
        return np.ones_like(z)

    def baseline(self, summary: TargetSummary) -> float:
        assert summary.variance is not None
        return 0.5 * summary.variance


@dataclass(frozen=True, slots=True)
class Logistic(Loss):
    """Binary cross-entropy of codes 0 and 1: ``log(1 + exp(z)) - y z``.

    Written as ``max(z, 0) + log1p(exp(-|z|)) - y z``, finite at any margin; the sigmoid is
    ``(1 + tanh(z / 2)) / 2``, several times cheaper than ``scipy.special.expit``.

    >>> Logistic().value(np.array([0.0, -1000.0]), np.array([1.0, 1.0])).round(4)
    array([6.931e-01, 1.000e+03])
    """

    kind: ClassVar[str] = "classification"

    def outputs(self, n_classes: int) -> int:
        if n_classes != 2:
            raise ValueError(f"Logistic: expected two classes, got {n_classes}; use Softmax")
        return 1

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return (y == 1).astype(dtype)

    def value(self, z: Array, y: Array) -> Array:
        out: Array = np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))) - y * z
        return out

    def slope(self, z: Array, y: Array) -> Array:
        return _sigmoid(z) - y

    def curve(self, z: Array, y: Array) -> Array:
        s = _sigmoid(z)
        return s * (1 - s)

    def baseline(self, summary: TargetSummary) -> float:
        return _entropy(summary.shares)


def _sigmoid(z: Array) -> Array:
    out: Array = np.tanh(z * z.dtype.type(0.5))
    out += 1
    out *= z.dtype.type(0.5)
    return out


@dataclass(frozen=True, slots=True)
class Softmax(Loss):
    """Multinomial cross-entropy of codes 0..k-1: ``log(sum_j exp(z_j)) - z_y``.

    >>> Softmax().value(np.zeros((1, 4)), np.array([2])).round(4)
    array([1.3863])
    """

    kind: ClassVar[str] = "classification"

    def outputs(self, n_classes: int) -> int:
        return n_classes

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return np.ascontiguousarray(y, dtype=np.intp)

    def value(self, z: Array, y: Array) -> Array:
        return self._shifted(z, y)[0]

    def slope(self, z: Array, y: Array) -> Array:
        return self.value_and_slope(z, y)[1]

    def value_and_slope(self, z: Array, y: Array) -> tuple[Array, Array]:
        value, e, total = self._shifted(z, y)
        e /= total[:, None]
        e[np.arange(len(y)), y] -= 1
        return value, e

    def curve(self, z: Array, y: Array) -> Array:
        _, e, total = self._shifted(z, y)
        e /= total[:, None]
        out = -e[:, :, None] * e[:, None, :]
        k = np.arange(z.shape[1])
        out[:, k, k] += e
        return out

    def baseline(self, summary: TargetSummary) -> float:
        return _entropy(summary.shares)

    @staticmethod
    def _shifted(z: Array, y: Array) -> tuple[Array, Array, Array]:
        # Column by column, and by a product: numpy's reductions along short rows are 8-16 times slower.
        top = z[:, 0].copy()
        for j in range(1, z.shape[1]):
            np.maximum(top, z[:, j], out=top)
        e = z - top[:, None]
        at_y = e[np.arange(len(y)), y]
        np.exp(e, out=e)
        total = e @ np.ones(z.shape[1], z.dtype)
        return np.log(total) - at_y, e, total


@dataclass(frozen=True, slots=True)
class Hinge(Loss):
    """The hinge ``max(0, 1 - y z)`` or, `squared`, its square; y is -1 or +1.

    More than two classes are one against the rest, a column of margins each.

    >>> Hinge(squared=True).value(np.array([0.5, 2.0]), np.array([1.0, 1.0]))
    array([0.25, 0.  ])
    """

    kind: ClassVar[str] = "classification"
    squared: bool = False

    @property
    def smooth(self) -> bool:  # type: ignore[override]
        return self.squared

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return _signs(y, outputs, dtype)

    def value(self, z: Array, y: Array) -> Array:
        h = np.maximum(1 - y * z, 0)
        return _rows(h * h if self.squared else h)

    def slope(self, z: Array, y: Array) -> Array:
        h = 1 - y * z
        if self.squared:
            return -2 * y * np.maximum(h, 0)
        return -y * (h > 0)

    def curve(self, z: Array, y: Array) -> Array:
        if not self.squared:
            return np.zeros_like(z)
        active: Array = ((1 - y * z) > 0).astype(z.dtype)
        active *= 2
        return active

    def baseline(self, summary: TargetSummary) -> float:
        assert summary.shares is not None
        p = summary.shares[1:] if len(summary.shares) == 2 else summary.shares
        q = 1 - p
        return float(np.sum(4 * p * q if self.squared else 2 * np.minimum(p, q)))


@dataclass(frozen=True, slots=True)
class Perceptron(Loss):
    """Rosenblatt's criterion ``max(0, -y z)``, y is -1 or +1; a margin of 0 counts as a mistake.

    Its least value, 0, is reached by w = 0 as well as by every separating plane: use solvers with a
    given step, which leave 0, not ones that minimise along a line.

    >>> Perceptron().slope(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    array([-1., -0.])
    """

    kind: ClassVar[str] = "classification"
    smooth: ClassVar[bool] = False

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return _signs(y, outputs, dtype)

    def value(self, z: Array, y: Array) -> Array:
        return _rows(np.maximum(-y * z, 0))

    def slope(self, z: Array, y: Array) -> Array:
        return -y * (y * z <= 0)

    def curve(self, z: Array, y: Array) -> Array:
        return np.zeros_like(z)

    def baseline(self, summary: TargetSummary) -> float:
        return 0.0
