"""From rows to margins, for predictions: block by block, checked."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

from daskgd.models import Model
from daskgd.models.base import margins
from daskgd.rows.features import Features

Array = NDArray[Any]


def dense(coef: Any) -> Array:
    """Coefficients as an array, which :meth:`~daskgd.LogisticRegression.sparsify` may have made sparse."""
    return np.asarray(coef.toarray() if issparse(coef) else coef)


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
