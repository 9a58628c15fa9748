"""What readers of all formats share: which columns are what, and blocks of rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Block = tuple[Array, ...]
Progress = Callable[[int, int], None] | None

BLOCK_BYTES = 16 << 20
"""Decoded bytes of the features in a block of rows, about."""


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of a table are what.

    Attributes
    ----------
    target, weight : str or None
        Names, or for arrays without names positions or files.
    drop : tuple of str
        Left out.
    dtype : numpy dtype or None
        Of the features; None keeps what is there.
    """

    target: str | None = None
    weight: str | None = None
    drop: tuple[str, ...] = ()
    dtype: np.dtype[Any] | None = None


def rows_per_block(row_bytes: int) -> int:
    return max(BLOCK_BYTES // max(row_bytes, 1), 1)


Read = tuple[list[str] | None, Iterator[Block]]
"""Names of the features, and blocks of (X, y, weights), as far as there are any."""


def block(X: Array, y: Array | None, s: Array | None, where: object) -> Block:
    if y is None and s is not None:
        raise ValueError(f"{where}: expected a target beside the weights, got none; name it with target=")
    return tuple(part for part in (X, y, s) if part is not None)


def needed(library: str, what: str) -> Any:
    try:
        return import_module(library)
    except ImportError as cause:
        package = library.partition(".")[0]
        raise ImportError(
            f'{what} files are read with {package}, which is not installed: pip install "daskgd[ingest]"'
        ) from cause
