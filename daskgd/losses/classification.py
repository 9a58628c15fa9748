"""Losses of labels: logistic, softmax, hinges, and the perceptron's criterion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from daskgd.losses.base import Array, Loss, TargetSummary, entropy, logits, mean_of, rows
from daskgd.losses.smoothed import bump, check_width, excess, kink, ramp


def signs(y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
    """Turn codes into -1 and +1: ``(n,)`` for two classes, else a column for each class against the rest."""
    hit = y == 1 if outputs == 1 else y[:, None] == np.arange(outputs)
    two, one = dtype.type(2), dtype.type(1)
    return hit.astype(dtype) * two - one


def zeros(summary: TargetSummary) -> Array:
    """Zero margins for the classes of a summary: one for two classes, else one for each."""
    assert summary.shares is not None
    k = len(summary.shares)
    return np.zeros(1 if k == 2 else k)


@dataclass(frozen=True, slots=True)
class Logistic(Loss):
    """Binary cross-entropy of codes 0 and 1: ``log(1 + exp(z)) - y z``.

    Written as ``|z| / 2 + (1/2 - y) z + log1p(exp(-|z|))``, finite at any margin, and exact where the rest
    cancels; the sigmoid is ``(1 + tanh(z / 2)) / 2``, several times cheaper than ``scipy.special.expit``.

    >>> Logistic().value(np.array([0.0, -1000.0]), np.array([1.0, 1.0])).round(4)
    array([6.931e-01, 1.000e+03])
    """

    kind: ClassVar[str] = "classification"
    deviance: ClassVar[bool] = True
    inverse_link: ClassVar[str] = "logistic"
    lipschitz: ClassVar[float] = 0.25

    def outputs(self, n_classes: int) -> int:
        if n_classes != 2:
            raise ValueError(f"Logistic: expected two classes, got {n_classes}; use Softmax")
        return 1

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return (y == 1).astype(dtype)

    def value(self, z: Array, y: Array) -> Array:
        return self.value_and_gradient(z, y)[0]

    def gradient(self, z: Array, y: Array) -> Array:
        out = _sigmoid(z)
        out -= y
        return out

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        # In place as far as it goes: half the time were temporaries.
        half = z.dtype.type(0.5)
        gradient, sign = z * half, half - y
        value = np.abs(z)
        tail = np.exp(-value)
        value *= half
        value += sign * z
        value += np.log1p(tail, out=tail)
        np.tanh(gradient, out=gradient)
        gradient *= half
        gradient += sign
        return value, gradient

    def hessian(self, z: Array, y: Array) -> Array:
        s = _sigmoid(z)
        return s * (1 - s)

    def constant(self, summary: TargetSummary) -> Array:
        return np.diff(logits(summary.shares))

    def baseline(self, summary: TargetSummary) -> float:
        return entropy(summary.shares)


def _sigmoid(z: Array) -> Array:
    """The logistic function ``1 / (1 + exp(-z))``."""
    out: Array = np.tanh(z * z.dtype.type(0.5))
    out += 1
    out *= z.dtype.type(0.5)
    return out


@dataclass(frozen=True, slots=True)
class MultilabelLogistic(Logistic):
    """Binary cross-entropy of several labels a row, summed: targets are ``(n, k)`` of 0 and 1.

    >>> MultilabelLogistic().value(np.zeros((1, 3)), np.array([[1.0, 0.0, 1.0]])).round(4)
    array([2.0794])
    """

    kind: ClassVar[str] = "regression"
    indicator: ClassVar[bool] = True
    low: ClassVar[float] = 0.0

    def outputs(self, n_classes: int) -> int:
        return n_classes

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return Loss.targets(self, y, outputs, dtype)

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        value, gradient = Logistic.value_and_gradient(self, z, y)
        return rows(value), gradient

    def mean(self, z: Array) -> Array:
        return _sigmoid(z)

    def constant(self, summary: TargetSummary) -> Array:
        m = mean_of(summary)
        return logits(m) - logits(1 - m)

    def baseline(self, summary: TargetSummary) -> float:
        return sum(entropy(np.array([m, 1 - m])) for m in mean_of(summary))


@dataclass(frozen=True, slots=True)
class LogisticOneVsRest(Logistic):
    """Binary cross-entropy of each class against the rest, summed; of two classes :class:`Logistic`.

    >>> loss = LogisticOneVsRest()
    >>> loss.value(np.zeros((1, 3)), loss.targets(np.array([2]), 3, np.dtype(float))).round(4)
    array([2.0794])
    """

    inverse_link: ClassVar[str] = "identity"  # its functions of the margins are no probabilities together

    def outputs(self, n_classes: int) -> int:
        return Loss.outputs(self, n_classes)

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return (y == 1 if outputs == 1 else y[:, None] == np.arange(outputs)).astype(dtype)

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        value, gradient = Logistic.value_and_gradient(self, z, y)
        return rows(value), gradient

    def constant(self, summary: TargetSummary) -> Array:
        assert summary.shares is not None
        if len(summary.shares) == 2:
            return Logistic.constant(self, summary)
        return logits(summary.shares) - logits(1 - summary.shares)

    def baseline(self, summary: TargetSummary) -> float:
        assert summary.shares is not None
        if len(summary.shares) == 2:
            return Logistic.baseline(self, summary)
        return sum(entropy(np.array([p, 1 - p])) for p in summary.shares)


@dataclass(frozen=True, slots=True)
class Softmax(Loss):
    """Multinomial cross-entropy of codes 0..k-1: ``log(sum_j exp(z_j)) - z_y``.

    >>> Softmax().value(np.zeros((1, 4)), np.array([2])).round(4)
    array([1.3863])
    """

    kind: ClassVar[str] = "classification"
    separate: ClassVar[bool] = False
    common_shift: ClassVar[bool] = True
    inverse_link: ClassVar[str] = "softmax"
    lipschitz: ClassVar[float] = 0.25

    def outputs(self, n_classes: int) -> int:
        return n_classes

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return np.ascontiguousarray(y, dtype=np.intp)

    def value(self, z: Array, y: Array) -> Array:
        return self._exponentials(z, y)[0]

    def gradient(self, z: Array, y: Array) -> Array:
        return self.value_and_gradient(z, y)[1]

    def value_and_gradient(self, z: Array, y: Array) -> tuple[Array, Array]:
        value, e, total = self._exponentials(z, y)
        e /= total[:, None]
        e[np.arange(len(y)), y] -= 1
        return value, e

    def hessian(self, z: Array, y: Array) -> Array:
        e = self.hessian_factor(z, y)
        out = -e[:, :, None] * e[:, None, :]
        k = np.arange(z.shape[1])
        out[:, k, k] += e
        return out

    def hessian_factor(self, z: Array, y: Array) -> Array:
        """The probabilities P ``(n, k)`` of the classes: the second derivative is ``diag(P) - P P'``."""
        _, e, total = self._exponentials(z, y)
        e /= total[:, None]
        return e

    def hessian_product(self, factor: Array, u: Array) -> Array:
        out = factor * u
        # Sums over classes as products: numpy's reductions along short rows are slow.
        out -= factor * (out @ np.ones(u.shape[1], u.dtype))[:, None]
        return out

    def hessian_diagonal(self, factor: Array) -> Array:
        return factor * (1 - factor)

    def hessian_root_product(self, factor: Array, e: Array) -> Array:
        # diag(P) - P P' = S S' with S = diag(r) (I - r r') and r the roots of P, of length 1.
        root = np.sqrt(factor)
        out: Array = root * (e - root * ((root * e) @ np.ones(e.shape[1], e.dtype))[:, None])
        return out

    def constant(self, summary: TargetSummary) -> Array:
        z = logits(summary.shares)
        return z - z.mean()

    def baseline(self, summary: TargetSummary) -> float:
        return entropy(summary.shares)

    @staticmethod
    def _exponentials(z: Array, y: Array) -> tuple[Array, Array, Array]:
        """The loss ``(n,)``, ``e = exp(z - max_j z_j)`` ``(n, k)``, and sums of e over classes ``(n,)``."""
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

    More than two classes are one against the rest, a column of margins each. `width` h smooths the kink to a
    hyperbola: ``(u + sqrt(u**2 + h**2)) / 2`` with ``u = 1 - y z``.

    >>> Hinge(squared=True).value(np.array([0.5, 2.0]), np.array([1.0, 1.0]))
    array([0.25, 0.  ])
    """

    kind: ClassVar[str] = "classification"
    squared: bool = False
    width: float = 0.0

    def __post_init__(self) -> None:
        check_width("Hinge", self.width, self.squared)

    @property
    def exact_baseline(self) -> bool:  # type: ignore[override]
        return not self.width

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

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return signs(y, outputs, dtype)

    def value(self, z: Array, y: Array) -> Array:
        h = kink(1 - y * z, self.width)
        return rows(h * h if self.squared else h)

    def gradient(self, z: Array, y: Array) -> Array:
        h = 1 - y * z
        if self.squared:
            return -2 * y * np.maximum(h, 0)
        return -y * ramp(h, self.width)

    def hessian(self, z: Array, y: Array) -> Array:
        h = 1 - y * z
        return 2 * ramp(h, 0) if self.squared else bump(h, self.width)

    def constant(self, summary: TargetSummary) -> Array:
        return zeros(summary)

    def baseline(self, summary: TargetSummary) -> float:
        assert summary.shares is not None
        p = summary.shares[1:] if len(summary.shares) == 2 else summary.shares
        if self.squared:
            return float(np.sum(4 * p * (1 - p)))
        return float(np.sum(2 * np.minimum(p, 1 - p) + self.width * np.sqrt(p * (1 - p))))

    def smoothed(self, width: float) -> Loss:
        return self if self.squared else replace(self, width=width)

    def excess(self, z: Array, y: Array) -> Array:
        return rows(excess(1 - y * z, self.width))


@dataclass(frozen=True, slots=True)
class ModifiedHuber(Loss):
    """The squared hinge, straight for margins that are wrong by more than 1 (Zhang 2004): with ``u = y z``,
    y -1 or +1, ``max(0, 1 - u)**2`` for ``u >= -1`` and ``-4 u`` below.

    More than two classes are one against the rest, a column of margins each.

    >>> ModifiedHuber().value(np.array([0.5, -2.0]), np.array([1.0, 1.0]))
    array([0.25, 8.  ])
    """

    kind: ClassVar[str] = "classification"
    flat: ClassVar[bool] = True
    lipschitz: ClassVar[float] = 2.0

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return signs(y, outputs, dtype)

    def value(self, z: Array, y: Array) -> Array:
        u = y * z
        h = np.clip(1 - u, 0, 2)
        return rows(h * h + 4 * np.maximum(-1 - u, 0))

    def gradient(self, z: Array, y: Array) -> Array:
        return -2 * y * np.clip(1 - y * z, 0, 2)

    def hessian(self, z: Array, y: Array) -> Array:
        u = y * z
        return 2 * ((u < 1) & (u >= -1)).astype(z.dtype)

    def constant(self, summary: TargetSummary) -> Array:
        return zeros(summary)

    def baseline(self, summary: TargetSummary) -> float:
        return Hinge(squared=True).baseline(summary)


@dataclass(frozen=True, slots=True)
class Perceptron(Loss):
    """Rosenblatt's criterion ``max(0, -y z)``, y is -1 or +1; a margin of 0 counts as a mistake.

    Its least value, 0, is reached by w = 0 as well as by every separating plane: use solvers with a
    given step, which leave 0, not ones that minimise along a line.

    >>> Perceptron().gradient(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    array([-1., -0.])
    """

    kind: ClassVar[str] = "classification"
    smooth: ClassVar[bool] = False
    least_at_zero: ClassVar[bool] = True

    def targets(self, y: Array, outputs: int, dtype: np.dtype[Any]) -> Array:
        return signs(y, outputs, dtype)

    def value(self, z: Array, y: Array) -> Array:
        return rows(np.maximum(-y * z, 0))

    def gradient(self, z: Array, y: Array) -> Array:
        return -y * (y * z <= 0)

    def hessian(self, z: Array, y: Array) -> Array:
        return np.zeros_like(z)

    def constant(self, summary: TargetSummary) -> Array:
        return zeros(summary)

    def baseline(self, summary: TargetSummary) -> float:
        return 0.0
