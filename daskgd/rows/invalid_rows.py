"""Rows that break a rule: how many, and the first of them, for the sentences that refuse data. Knows arrays
only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


class Place(NamedTuple):
    """Where an invalid value stands: its row, its column (-1 where there are none), and the value."""

    row: int
    column: int
    value: Any


@dataclass(frozen=True, slots=True)
class InvalidRows:
    """The number of rows that break a rule, and the first of them; two add."""

    rows: int = 0
    first: Place | None = None

    def __add__(self, other: InvalidRows) -> InvalidRows:
        firsts = [place for place in (self.first, other.first) if place is not None]
        return InvalidRows(self.rows + other.rows, min(firsts, key=lambda place: place.row, default=None))

    @classmethod
    def of(cls, wrong: Array, values: Array, numbers: int | Array) -> InvalidRows:
        """The invalid rows, from a mask of the invalid entries of `values`, ``(n,)`` or ``(n, p)``, and the
        rows' numbers."""
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
        """The rows whose sample weight is negative or not finite."""
        return cls() if s is None else cls.of(~np.isfinite(s) | (s < 0), s, numbers)

    @classmethod
    def nonfinite(cls, values: Array, numbers: int | Array) -> InvalidRows:
        """The rows that hold NaN or infinity; where there are none, finding that out costs one sum."""
        with np.errstate(invalid="ignore", over="ignore"):  # infinities that cancel; a sum that overflows
            if values.dtype.kind != "f" or np.isfinite(values.sum(dtype=np.float64)):
                return cls()
        return cls.of(~np.isfinite(values), values, numbers)
