"""The dtypes in which kernels run. Knows no rows."""

from __future__ import annotations

from typing import Any

import numpy as np


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels run: float32 and float64 as they are; what float32 holds exactly
    (float16, integers of up to 16 bits, bool) in float32; everything else in float64.

    >>> compute_dtype(np.dtype("uint8")), compute_dtype(np.dtype("int64"))
    (dtype('float32'), dtype('float64'))
    """
    small = dtype.kind in "fiub" and (dtype.itemsize <= 2 or dtype == np.float32)
    return np.dtype(np.float32 if small else np.float64)
