"""Subsets of the rows, by their numbers alone: the training and the test rows of folds.

The rows are divided into disjoint cells, and a subset is some of the cells: sums of each cell are made once,
and those of any subset by adding. Which cell a row is in is known to every machine without reading a row.
Knows row numbers; not what is in the rows.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.random_numbers import row_folds

Array = NDArray[Any]


class Cells(Protocol):
    """A division of the rows into cells, numbered from 0 to ``n_cells - 1``. Equal ones are ``==``."""

    @property
    def n_cells(self) -> int: ...

    def of(self, numbers: Array) -> Array:
        """The cell of each of the row numbers ``(n,)``, in any order: ``(n,)`` of int."""
        ...


@dataclass(frozen=True)
class HashedCells:
    """Cells of about the same size, by a hash of (seed, row number).

    >>> HashedCells(3, seed=0).of(np.arange(6))
    array([0, 2, 2, 2, 0, 0])
    """

    n_cells: int
    seed: int = 0

    def of(self, numbers: Array) -> Array:
        return row_folds(numbers, self.n_cells, self.seed)

    def __str__(self) -> str:
        return f"{self.n_cells} by hash, seed {self.seed}"


@dataclass(frozen=True, eq=False)
class ListedCells:
    """Cells that are listed: row by row, or as runs of rows of the same cell, whichever is shorter.

    Attributes
    ----------
    n_cells : int
    cells : (m,) of unsigned int
        Of each row, or of each run.
    starts : (m,) of int64, or None
        The number of the first row of each run, 0 first.
    """

    n_cells: int
    cells: Array
    starts: Array | None = None

    @classmethod
    def from_codes(cls, codes: Array, n_cells: int) -> ListedCells:
        """Those of the cell of each row ``(n,)``.

        >>> ListedCells.from_codes(np.repeat([0, 1, 0], 100), 2).starts
        array([  0, 100, 200])
        """
        codes = np.asarray(codes).astype(np.min_scalar_type(max(n_cells - 1, 0)))
        starts = np.append(0, np.flatnonzero(codes[1:] != codes[:-1]) + 1)
        if len(starts) * (8 + codes.itemsize) < len(codes) * codes.itemsize:
            return cls(n_cells, codes[starts], starts)
        return cls(n_cells, codes)

    def of(self, numbers: Array) -> Array:
        at = numbers if self.starts is None else np.searchsorted(self.starts, numbers, side="right") - 1
        return self.cells[at].astype(np.intp)

    @cached_property
    def digest(self) -> str:
        """A hash of what is listed."""
        content = hashlib.sha256(np.ascontiguousarray(self.cells).tobytes())
        if self.starts is not None:
            content.update(np.ascontiguousarray(self.starts).tobytes())
        return f"{self.cells.dtype} {content.hexdigest()[:32]}"

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, ListedCells) and (self.n_cells, self.digest) == (other.n_cells, other.digest)
        )

    def __hash__(self) -> int:
        return hash((self.n_cells, self.digest))

    def __str__(self) -> str:
        return f"{self.n_cells} listed, digest {self.digest}"


@dataclass(frozen=True)
class Subset:
    """Some of the rows: those of some of the cells.

    >>> Subset(HashedCells(3), (True, False, False)).mask(np.arange(6))
    array([ True, False, False, False,  True,  True])
    """

    cells: Cells
    members: tuple[bool, ...]
    """Of each cell, whether it is in the subset."""

    def mask(self, numbers: Array) -> Array:
        """Of each of the row numbers ``(n,)``, whether it is in the subset: ``(n,)`` of bool."""
        return np.array(self.members)[self.cells.of(numbers)]

    def among(self, codes: Array) -> Array:
        """The same, where the cells of the rows ``(n,)`` are known."""
        return np.array(self.members)[codes]

    def __str__(self) -> str:
        return f"cells {np.flatnonzero(self.members).tolist()} of {self.cells}"
