"""Columns: rows that can be read, wherever they lie; selections of them; and settings.

A column is a zarr array, a numpy array, a dask array that is yet to be computed, or pieces of one in the
memory of workers. A :class:`ColumnSource` joins the columns of a dataset into what an engine reads blocks from.
Knows no solvers and no engines beyond their layout of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.features import as_features
from daskgd.rows.layout import Layout
from daskgd.rows.random_numbers import SPLIT, row_random_numbers
from daskgd.rows.tiles import Rows
from daskgd.storage.retry import with_retries

if TYPE_CHECKING:
    import dask.array as da


Array = NDArray[Any]


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


def _layout(X: Column, block_bytes: int, partition_bytes: int) -> Layout:
    """Blocks: whole chunks of at least `block_bytes`; partitions: 2**j blocks within `partition_bytes`."""
    row_bytes = max(X.shape[1] * X.dtype.itemsize, 1)
    chunks = max(1, -(-block_bytes // (X.chunk_rows * row_bytes)))
    block_rows = min(chunks * X.chunk_rows, X.shape[0])
    fit = max(1, partition_bytes // (block_rows * row_bytes))
    return Layout(X.shape[0], block_rows, 1 << (fit.bit_length() - 1))


def _check_columns(X: Column, y: Column | None, s: Column | None) -> None:
    if len(X.shape) != 2:
        raise ValueError(
            f"Expected 2D array, got {len(X.shape)}D array instead. X: expected shape (n, p), got {X.shape}; "
            "Reshape your data with X.reshape(-1, 1) if it is a single feature"
        )
    n, p = X.shape
    if n == 0 or p == 0:
        what = "sample" if n == 0 else "feature"
        raise ValueError(
            f"X: expected at least one row and one feature, got shape {X.shape}: 0 {what}(s) "
            f"(shape={X.shape}) while a minimum of 1 is required."
        )
    if X.dtype.kind not in "fiub":
        raise ValueError(f"X: expected real numbers or bool, got dtype {X.dtype}; convert or encode it first")
    for name, column, dims in (("y", y, (1, 2)), ("sample_weight", s, (1,))):
        if column is None:
            continue
        if len(column.shape) not in dims:
            raise ValueError(
                f"{name}: expected shape (n,){' or (n, k)' if 2 in dims else ''}, got {column.shape}"
            )
        if column.shape[0] != n:
            raise ValueError(
                f"{name}: expected {n} rows, as X has, got {column.shape[0]}: inconsistent numbers of samples"
            )
    if s is not None and s.dtype.kind not in "fiub":
        raise ValueError(f"sample_weight: expected numbers, got dtype {s.dtype}")
    if y is not None and y.dtype.kind == "c":
        raise ValueError("y: Complex data not supported; expected real numbers or labels")
