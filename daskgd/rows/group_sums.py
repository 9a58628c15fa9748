"""Sums over groups of rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def group_sums(groups: Array, values: Array | None, n_groups: int) -> Array:
    """The sum ``(n_groups,)`` in float64 of the values ``(n,)`` of each group, or how many rows it has where
    values is None, from the group of each row ``(n,)``, in ``range(n_groups)``.

    ``np.bincount`` gives integers where there is no value at all, whatever the type of the values: a sum that
    is divided or added in place afterwards then fails, on empty data alone.

    >>> group_sums(np.array([0, 2, 0]), np.array([0.5, 1.0, 0.25]), 3)
    array([0.75, 0.  , 1.  ])
    >>> group_sums(np.array([], int), np.array([]), 2)
    array([0., 0.])
    """
    return np.bincount(groups, values, n_groups).astype(np.float64, copy=False)
