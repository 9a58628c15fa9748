"""Categorical rows are written as one array of codes, after an array or three of the numbers beside them.

Codes take the smallest integers that hold those of all columns. How they are read is in
`categorical_reading`, how their dictionaries are written in `dictionaries`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Dense, Features
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked
from daskgd.storage.sparse_writing import SparseWriter


class Writer(Protocol):
    """What rows are appended to."""

    def append(self, rows: Any) -> Any: ...


def split_parts(rows: Categorical | Stacked) -> tuple[Dense | Sparse | None, Categorical]:
    """The numbers of categorical rows, None if there are none, and the categories."""
    parts: tuple[Features, ...] = rows.parts if isinstance(rows, Stacked) else (rows,)
    match parts:
        case (Categorical() as categories,):
            return None, categories
        case (Dense() | Sparse() as numbers, Categorical() as categories):
            return numbers, categories
    kinds = ", ".join(type(part).__name__ for part in parts)
    raise TypeError(f"X: expected categories, perhaps after numbers, got features of {kinds}")


def sparse_numbers(X: Any) -> Sparse | None:
    """What of a block of X is sparse: all, the numbers beside categories, or nothing."""
    if isinstance(X, Categorical | Stacked):
        X, _ = split_parts(X)
    return X if isinstance(X, Sparse) else None


def other_row_bytes(X: Any) -> int:
    """Bytes of a row of a block of X in memory, but for what is sparse."""
    if isinstance(X, Categorical | Stacked):
        numbers, categories = split_parts(X)
        codes = categories.indices.shape[1] * categories.indices.itemsize
        return codes + (other_row_bytes(numbers.values) if isinstance(numbers, Dense) else 0)
    return 0 if isinstance(X, Sparse) else X.shape[1] * X.dtype.itemsize


def codes_dtype(categories: Categorical) -> np.dtype[Any]:
    """The smallest integers that hold the codes of all columns, and -1.

    >>> codes_dtype(Categorical.of(np.zeros((1, 2), int), [128, 3]))
    dtype('int8')
    """
    return smallest_codes(int(np.diff(categories.offsets).max()))


def smallest_codes(n: int) -> np.dtype[Any]:
    """The smallest integers that hold codes of n categories, and -1."""
    most = max(n - 1, 0)
    return next(dtype for dtype in map(np.dtype, ("i1", "i2", "i4", "i8")) if most <= np.iinfo(dtype).max)


@dataclass(slots=True)
class CategoricalWriter:
    """The arrays of categorical rows, to which rows are appended."""

    codes: Any
    dtype: np.dtype[Any]
    numbers: Writer | None

    def append(self, rows: Categorical | Stacked) -> None:
        numbers, categories = split_parts(rows)
        if self.numbers is not None and numbers is not None:
            self.numbers.append(numbers.values if isinstance(numbers, Dense) else numbers)
        self.codes.append(categories.codes.astype(self.dtype))

    def finish(self) -> None:
        """Write what is waiting."""
        if isinstance(self.numbers, SparseWriter):
            self.numbers.finish()
