"""TODO rows.invalid_rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Place(NamedTuple):
    """A row, a column (-1 where there is none) and what stands there."""

    row: int
    column: int
    value: Any


@dataclass(frozen=True, slots=True)
class InvalidRows:
    """How many rows break a rule, and the first of them."""

    rows: int = 0
    first: Place | None = None

    def __add__(self, other: InvalidRows) -> InvalidRows:
        firsts = [place for place in (self.first, other.first) if place is not None]
        return InvalidRows(self.rows + other.rows, min(firsts, key=lambda place: place.row, default=None))

    @classmethod
    def of(cls, wrong: Array, values: Array, numbers: int | Array) -> InvalidRows:
        """From a mask of the wrong entries of `values`, ``(n,)`` or ``(n, p)``, and the rows' numbers."""
        rows = wrong.any(axis=1) if wrong.ndim == 2 else wrong
        if not rows.any():
            return cls()
        row = int(np.argmax(rows))
        column = int(np.argmax(wrong[row])) if wrong.ndim == 2 else -1
        value = values[row, column] if wrong.ndim == 2 else values[row]
        number = numbers[row] if isinstance(numbers, np.ndarray) else numbers + row
        return cls(int(rows.sum()), Place(int(number), column, value))

    @classmethod
    def weights(cls, s: Array | None, numbers: int | Array) -> InvalidRows:
        """Sample weights that are negative or not finite."""
        return cls() if s is None else cls.of(~np.isfinite(s) | (s < 0), s, numbers)

    @classmethod
    def nonfinite(cls, values: Array, numbers: int | Array) -> InvalidRows:
        """NaN and infinity, at the price of one sum where there are none."""
        with np.errstate(invalid="ignore", over="ignore"):  # infinities that cancel; a sum that overflows
            if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
                return cls()
        return cls.of(~np.isfinite(values), values, numbers)
