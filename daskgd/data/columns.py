"""Columns: rows that can be read, wherever they lie; selections of them; and settings.

A column is a zarr array, a numpy array, a dask array that is yet to be computed, or pieces of one in the
memory of workers. A :class:`ColumnSource` joins the columns of a dataset into what an engine reads blocks from.
Knows no solvers and no engines beyond their layout of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import dask
import numpy as np
from numpy.typing import NDArray

from daskgd.config import DEFAULTS
from daskgd.rows.features import as_features
from daskgd.rows.layout import Layout
from daskgd.rows.random_numbers import SPLIT, row_random_numbers
from daskgd.rows.tiles import Rows
from daskgd.storage.retry import with_retries

if TYPE_CHECKING:
    import dask.array as da


Array = NDArray[Any]


dask.config.update_defaults(DEFAULTS)


# -- columns ------------------------------------------------------------------------------------


class Column(Protocol):
    """Rows that can be read: a zarr array, a numpy array, or pieces of one in the memory of workers."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def chunk_rows(self) -> int: ...
    def read(self, start: int, stop: int) -> Array: ...


@dataclass(frozen=True, slots=True, eq=False)
class ArrayColumn:
    """What columns of an array at hand have in common."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(n) for n in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    @property
    def chunk_rows(self) -> int:
        return 1


@dataclass(frozen=True, slots=True, eq=False)
class MemoryColumn(ArrayColumn):
    """Rows of a numpy array in this process."""

    array: Array

    def read(self, start: int, stop: int) -> Array:
        return self.array[start:stop]


@dataclass(frozen=True, slots=True, eq=False)
class LazyColumn(ArrayColumn):
    """Rows of a dask array that must be computed before a fit: see :mod:`daskgd.engines.placement`."""

    array: da.Array

    def read(self, start: int, stop: int) -> Array:
        raise RuntimeError("a lazy column is placed before it is read; this is a defect in daskgd")


@dataclass(frozen=True, slots=True, eq=False)
class PiecesColumn:
    """Rows of an array cut into pieces of `piece_rows` rows; `pieces` holds some of them by number.

    Within a sweep on a cluster each task gets the pieces it covers; `pieces` is empty elsewhere.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    piece_rows: int
    pieces: dict[int, Array]

    @property
    def chunk_rows(self) -> int:
        return 1

    def read(self, start: int, stop: int) -> Array:
        first, last = start // self.piece_rows, -(-stop // self.piece_rows)
        parts = []
        for i in range(first, last):
            at = i * self.piece_rows
            parts.append(self.pieces[i][max(start - at, 0) : stop - at])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


# -- selections ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows whose hash lies in [low, high); splits of splits, of greater `depth`, use fresh hashes."""

    seed: int
    low: float
    high: float
    depth: int = 0

    def mask(self, start: int, stop: int) -> Array:
        """``(stop - start,)`` of bool."""
        u = row_random_numbers(np.arange(start, stop), self.seed, SPLIT + self.depth)
        out: Array = (u >= self.low) & (u < self.high)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class ColumnSource:
    """What engines read from: columns, layout and selections, small enough to send to a worker.

    A read that fails for a reason which may pass is repeated, up to `retries` times: see
    :mod:`daskgd.storage.retry`.
    """

    layout: Layout
    X: Column
    y: Column | None
    sample_weight: Column | None
    selections: tuple[Selection, ...] = ()
    retries: int = 0

    def read(self, start: int, stop: int) -> Rows:
        """The selected rows between `start` and `stop`."""
        what = f"rows {start}:{stop}"
        columns = [
            None if c is None else with_retries(partial(c.read, start, stop), self.retries, what)
            for c in (self.X, self.y, self.sample_weight)
        ]
        X, y, s = columns
        assert X is not None
        rows = Rows(as_features(X), y, s, start)
        if not self.selections:
            return rows
        return rows.select(np.logical_and.reduce([s.mask(start, stop) for s in self.selections]))
