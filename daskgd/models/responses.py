"""Responses of fitted models: what predictions are made of, the margins of a block of rows and a function of
them. Knows models and rows; no estimator.
"""

from __future__ import annotations

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
