"""Random sparse rows for tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp


def sparse_array(
    n: int, p: int, density: float, rng: np.random.Generator, dtype: Any = np.float64
) -> sp.csr_array:
    """An array ``(n, p)`` of which about a share `density` is stored, uniform in [0, 1)."""
    return sp.csr_array(np.where(rng.random((n, p)) < density, rng.random((n, p)), 0.0).astype(dtype))
