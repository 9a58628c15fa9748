"""Responses of fitted models: what predictions are made of, the margins of a block of rows and a function of
them. Knows models and rows; no estimator, and no scikit-learn: workers that predict import this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from daskgd.models.base import Model, margins
from daskgd.rows.features import Features, as_features

Array = NDArray[Any]


class Response:
    """A function of the rows of a block: of the margins of a model at its parameters `w` ``(d,)``. Small
    enough to send to workers."""

    labels: Array | None = None
    """The labels ``(k,)`` that it gives, sorted, where it gives labels: :meth:`codes` are their positions."""

    def __init__(self, model: Model, w: Array) -> None:
        self.model, self.w = model, w

    def respond(self, z: Array) -> Array:
        """The predictions from finite margins in float64, ``(n,)`` or ``(n, k)``."""
        raise NotImplementedError

    def codes(self, z: Array) -> Array:
        """The positions ``(n,)`` of predictions among the labels, or of two whether it is the second."""
        raise NotImplementedError

    def column(self, z: Array, j: int) -> Array:
        """A column of predictions that have several, ``(n,)``."""
        out: Array = self.respond(z)[:, j]
        return out

    def __call__(self, X: Any, block_id: tuple[int, ...] | None = None) -> Array:
        return self.respond(finite_margins(self.model, self.w, as_features(X).prepared(), block_id))


class RegressorResponse(Response):
    """The response of a regressor: margins, the intercept added in float64, or a function of them."""

    def __init__(
        self, model: Model, w: Array, b: Any, many: int | None, of_margins: Callable[[Array], Array] | None
    ) -> None:
        super().__init__(model, w)
        self.b, self.many, self.of_margins = b, many, of_margins

    def respond(self, z: Array) -> Array:
        z = z + self.b
        if self.many is not None:
            z = z.reshape(len(z), self.many)
        return z if self.of_margins is None else self.of_margins(z)


class ClassifierResponse(Response):
    """The response of a classifier: a function of margins and classes, one of those at the end of this
    file."""

    def __init__(self, model: Model, w: Array, of_margins: Any, classes: Array) -> None:
        super().__init__(model, w)
        self.of_margins, self.classes = of_margins, classes

    @property
    def labels(self) -> Array | None:  # type: ignore[override]
        return self.classes if self.of_margins is predicted_labels else None

    def codes(self, z: Array) -> Array:
        return predicted_codes(z, self.classes)

    def respond(self, z: Array) -> Array:
        out: Array = self.of_margins(z, self.classes)
        return out

    def column(self, z: Array, j: int) -> Array:
        if self.of_margins is probabilities and z.ndim == 1:
            return logistic(z if j else -z)
        return super().column(z, j)


class ProbedResponse(NamedTuple):
    """What a method of an estimator does to rows: the response, and the dtype that predictions have."""

    response: Response
    dtype: Any


@dataclass(frozen=True)
class ResponseProbe:
    """A stand-in for rows of some dtype: of it an estimator's ``predict``, ``predict_proba`` and others give
    a :class:`ProbedResponse`, the function that they would apply.

    >>> import daskgd
    >>> est = daskgd.LinearRegression().fit([[0.0], [1.0]], [1.0, 3.0])
    >>> response, dtype = est.predict(ResponseProbe(np.dtype(float)))
    >>> response(np.array([[2.0]])).round(6), dtype
    (array([5.]), dtype('float64'))
    """

    dtype: np.dtype[Any]


def finite_margins(model: Model, w: Array, X: Features, block_id: tuple[int, ...] | None = None) -> Array:
    """Margins of a block in float64; ValueError where X is not finite, which they show at no cost, or so
    large that they overflow."""
    with np.errstate(over="ignore", invalid="ignore"):
        z = margins(model, w, X)
        if not np.isfinite(z).all():  # float32 may have overflowed
            z = margins(model, w, X.astype(np.float64))
    # Units saturate: of models that are not linear, margins may be finite where X is not.
    if not np.isfinite(z).all() or not (model.linear or X.nonfinite(0).first is None):
        block = "" if block_id is None else f" of block {block_id[0]}"
        bad = X.nonfinite(0).first
        if bad is not None:
            raise ValueError(
                f"Input X contains {'NaN' if np.isnan(bad.value) else 'infinity'}: expected finite numbers, "
                f"got {bad.value} in row {bad.row}{block}, column {bad.column}; impute or drop those rows"
            )
        row = int(np.argmin(np.isfinite(z.reshape(len(z), -1)).all(axis=1)))
        raise ValueError(
            f"Input X contains numbers too large for this model: its prediction overflows in "
            f"row {row}{block}; rescale that row or drop it"
        )
    return z.astype(np.float64)


# -- of margins and classes ---------------------------------------------------------------------


def decisions(z: Array, classes: Array) -> Array:
    """The margins as they are."""
    return z


def predicted_codes(z: Array, classes: Array) -> Array:
    """The positions of the labels, or of two whether it is the second."""
    codes: Array = z > 0 if z.ndim == 1 else z.argmax(axis=1)
    return codes if len(classes) > 1 else np.zeros(len(z), dtype=np.intp)


def predicted_labels(z: Array, classes: Array) -> Array:
    """The label of the greatest margin, or of two whether the margin is positive."""
    out: Array = classes[predicted_codes(z, classes).astype(np.intp, copy=False)]
    return out


def logistic(z: Array) -> Array:
    """The logistic function ``1 / (1 + exp(-z))``, to the last digits of either tail: exp of what is negative
    neither overflows nor loses any."""
    out: Array = np.exp(np.minimum(z, 0)) / (1 + np.exp(-np.abs(z)))
    return out


def probabilities(z: Array, classes: Array) -> Array:
    """Softmax of the margins; two classes have one margin, the log of the odds."""
    if z.ndim == 1:
        return np.stack([logistic(-z), logistic(z)], axis=1)
    e = np.exp(z - z.max(axis=1, keepdims=True, initial=-np.inf))
    out: Array = e / e.sum(axis=1, keepdims=True)
    return out


def log_probabilities(z: Array, classes: Array) -> Array:
    """The logarithm of the softmax, also where that is 0 in floating point."""
    if z.ndim == 1:
        return np.stack([-np.logaddexp(0, z), -np.logaddexp(0, -z)], axis=1)
    z = z - z.max(axis=1, keepdims=True, initial=-np.inf)
    out: Array = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    return out


def log_of_probabilities(z: Array, classes: Array) -> Array:
    """The logarithm of `probabilities`; -inf where these are 0, as in scikit-learn."""
    return _log(probabilities(z, classes))


def present_labels(z: Array, classes: Array) -> Array:
    """Of several labels a row, 1 for those that are predicted."""
    return (z > 0).astype(int)


def label_probabilities(z: Array, classes: Array) -> Array:
    """Of several labels a row, the probability of each by itself."""
    return _expit(z)


def log_label_probabilities(z: Array, classes: Array) -> Array:
    """The logarithm of `label_probabilities`; -inf where these are 0."""
    return _log(_expit(z))


def logistic_shares(z: Array, classes: Array) -> Array:
    """The logistic function of each class's margin, divided by the sum over classes."""
    return np.stack([_expit(-z), _expit(z)], axis=1) if z.ndim == 1 else _shares(_expit(z))


def log_logistic_shares(z: Array, classes: Array) -> Array:
    """The logarithm of `logistic_shares`; -inf where these are 0."""
    return _log(logistic_shares(z, classes))


def clipped_shares(z: Array, classes: Array) -> Array:
    """``(1 + z) / 2`` cut to [0, 1] of each class's margin, divided by the sum over classes."""
    return _shares((np.clip(z, -1, 1) + 1) / 2)


def log_clipped_shares(z: Array, classes: Array) -> Array:
    """The logarithm of `clipped_shares`; -inf where these are 0."""
    return _log(clipped_shares(z, classes))


def _shares(p: Array) -> Array:
    """Probabilities of the classes by those of each for itself ``(n,)`` or ``(n, k)``."""
    if p.ndim == 1:
        return np.stack([1 - p, p], axis=1)
    total = p.sum(axis=1, keepdims=True)
    out: Array = np.where(total > 0, p, 1.0) / np.where(total > 0, total, p.shape[1])
    return out


def _expit(z: Array) -> Array:
    from scipy.special import expit  # not at the top: most predictions do without

    out: Array = expit(z)
    return out


def _log(p: Array) -> Array:
    with np.errstate(divide="ignore"):
        out: Array = np.log(p)
    return out
