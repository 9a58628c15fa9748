"""Coefficients as predictions need them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse

Array = NDArray[Any]


def dense(coef: Any) -> Array:
    """Coefficients as an array, which :meth:`~daskgd.LogisticRegression.sparsify` may have made sparse."""
    return np.asarray(coef.toarray() if issparse(coef) else coef)
