"""Sparse columns of three zarr arrays, AnnData's ``csc_matrix``: entries read in the order of columns.

No row can be read of them, as its entries lie all over; how they become rows is in `transposition`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from daskgd.config import setting
from daskgd.rows.sparse import outside
from daskgd.storage.checksums import find_missing
from daskgd.storage.reading import ChunkError, StoredColumn
from daskgd.storage.retry import with_retries
from daskgd.storage.sparse_reading import StoredSparseColumn, index_dtype

CSC = "csc_matrix"


class ColumnsError(ChunkError):
    """Columns that cannot be read; of the `args`, the second and third are the first column and the last
    + 1."""

    unit = "columns"


@dataclass(frozen=True, slots=True, eq=False)
class StoredCsc:
    """Sparse features ``(n, p)`` that are stored by columns.

    Parameters
    ----------
    columns : the same arrays, taken for those of rows: the columns, ``(p, n)``.
    """

    columns: StoredSparseColumn
    error: ClassVar[type[ChunkError]] = ColumnsError

    @property
    def parts(self) -> tuple[StoredColumn, ...]:
        return self.columns.parts

    @property
    def shape(self) -> tuple[int, int]:
        p, n = self.columns.shape
        return n, p

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.columns.dtype

    @property
    def index_dtype(self) -> np.dtype[Any]:
        """The dtype of numbers of rows, columns and entries, in memory."""
        return index_dtype(*self.shape, self.columns.n_stored)

    def locate(self, part: StoredColumn, a: int, b: int) -> tuple[int, int] | None:
        """The columns to which elements a:b of one of the arrays belong; None where their bounds cannot be
        read."""
        return self.columns.locate(part, a, b)

    def read_bounds(self) -> np.ndarray:
        """The bounds of columns ``(p + 1,)``: entry e of column j has ``bounds[j] <= e < bounds[j + 1]``.

        Raises ColumnsError for a chunk that cannot be read, bounds that do not rise from 0 to the number of
        entries, and a lost chunk of `indices` that reads as row 0 several times in a column.
        """
        part, p = self.columns.indptr, self.shape[1]
        try:
            bounds = _read(part, 0, p + 1).astype(np.int64, copy=False)
            self.columns.check_bounds(bounds, 0, p)
        except ChunkError as error:
            path, a, b, cause, key = error.args
            lost = [] if key else find_missing(part.array)
            if lost:  # read as bounds of 0
                key, a = lost[0]
                b, cause = min(a + part.chunk_rows, p), "the chunk is missing"
            first = max(a - 1, 0)  # a bound is one of two columns
            raise ColumnsError(path, first, min(b, p), cause, key) from error.__cause__
        self._check_missing(bounds)
        return bounds

    def _check_missing(self, bounds: np.ndarray) -> None:
        indices = self.columns.indices
        for key, a in find_missing(indices.array):
            b = min(a + indices.chunk_rows, indices.shape[0])
            if np.diff(bounds.clip(a, b)).max() > 1:
                raise ColumnsError(indices.path, *columns_of(bounds, a, b), "the chunk is missing", key)

    def all_entries(self, bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows, columns and values of all entries at once."""
        none = np.zeros(0, self.index_dtype), np.zeros(0, self.index_dtype), np.zeros(0, self.dtype)
        return next(self.entries(bounds, max(self.columns.n_stored, 1)), none)

    def entries(
        self, bounds: np.ndarray, size: int, *, values: bool = True
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The rows, columns and values of `size` entries after the other; without `values`, the rows alone.

        Each chunk is read once. Raises ColumnsError for one that cannot be read, and for a row that is none.
        """
        rows_of, values_of = _InOrder(self.columns.indices, bounds), _InOrder(self.columns.data, bounds)
        n, kind, none = self.shape[0], self.index_dtype, np.zeros(0, self.dtype)
        for a in range(0, self.columns.n_stored, size):
            b = min(a + size, self.columns.n_stored)
            rows = rows_of.take(b - a)
            at = outside(rows, n)
            if at is not None:
                cause = f"expected rows from 0 to {n - 1}, got {rows[at]}"
                place = columns_of(bounds, a + at, a + at + 1)
                raise ColumnsError(self.columns.indices.path, *place, cause)
            rows = rows.astype(kind, copy=False)
            if not values:
                yield rows, none, none
                continue
            first, stop = columns_of(bounds, a, b)
            columns = np.repeat(
                np.arange(first, stop, dtype=kind), np.diff(bounds[first : stop + 1].clip(a, b))
            )
            yield rows, columns, values_of.take(b - a).astype(self.dtype, copy=False)


def columns_of(bounds: np.ndarray, a: int, b: int) -> tuple[int, int]:
    """The first column, and the last + 1, that have some of the entries a:b."""
    first = np.searchsorted(bounds, a, side="right") - 1
    return int(first), int(np.searchsorted(bounds, b, side="left"))


def _read(part: StoredColumn, start: int, stop: int) -> np.ndarray:
    """Elements of an array, read again after errors that may pass."""
    what = f"{part.path}, elements {start}:{stop}"
    return with_retries(partial(part.read, start, stop), int(setting("retries")), what)


class _InOrder:
    """The elements of an array in order: each of its chunks is read once, and what is left of it kept."""

    def __init__(self, part: StoredColumn, bounds: np.ndarray) -> None:
        self.part, self.bounds, self.stop = part, bounds, 0
        self.waiting = np.zeros(0, part.dtype)

    def take(self, n: int) -> np.ndarray:
        """The next `n` elements."""
        missing = self.stop + n - len(self.waiting)
        if missing > self.stop:
            unit, start = self.part.chunk_rows, self.stop
            self.stop = min(-(-missing // unit) * unit, self.part.shape[0])
            found = self._read(start, self.stop)
            self.waiting = np.concatenate([self.waiting, found]) if len(self.waiting) else found
        out, self.waiting = self.waiting[:n], self.waiting[n:]
        return out

    def _read(self, start: int, stop: int) -> np.ndarray:
        try:
            return _read(self.part, start, stop)
        except ChunkError as error:
            path, a, b, cause, key = error.args
            raise ColumnsError(path, *columns_of(self.bounds, a, b), cause, key) from error.__cause__
