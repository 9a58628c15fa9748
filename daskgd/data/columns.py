"""Columns: rows that can be read, wherever they lie, and what engines read blocks of them from.

A dataset has three :class:`Columns`: features, targets and weights. The rows of a :class:`Column` lie in a
zarr array (:class:`daskgd.storage.reading.StoredColumn`), in a numpy array, in a dask array that is yet to be
computed, or in pieces in the memory of workers; another kind of column is one class with the members of the
protocol. A :class:`ColumnSource` joins columns, layout and selections of rows. Knows no solvers and no
engines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.features import as_features
from daskgd.rows.layout import Layout
from daskgd.rows.random_numbers import SPLIT, row_random_numbers
from daskgd.rows.tiles import Rows
from daskgd.storage.retry import with_retries

if TYPE_CHECKING:
    import dask.array as da  # at run time only where it is asked for: workers do without


Array = NDArray[Any]


@runtime_checkable
class Column(Protocol):
    """Rows that can be read, ``(n, ...)``: features, targets or weights."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> np.dtype[Any]: ...

    @property
    def nbytes(self) -> int:
        """Bytes of all rows, decoded."""
        ...

    @property
    def chunk_rows(self) -> int:
        """Rows of a stored chunk or shard, which are best read together; 1 where any number is read alike."""
        ...

    @property
    def path(self) -> str | None:
        """Where the rows are stored, without secrets; None for rows in memory, which need no cache."""
        ...

    @property
    def on_workers(self) -> WorkerPieces | None:
        """The pieces in the memory of workers that tasks must be given; None where `read` needs none."""
        ...

    def in_place(self, cluster: bool) -> bool:
        """Whether tasks, on a cluster or else in this process, can read the rows where they lie now."""
        ...

    def read(self, start: int, stop: int) -> Array:
        """Rows `start` to `stop`, ``(stop - start, ...)``."""
        ...

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        """The rows as a dask array in chunks of this shape.

        Where the keys of the array say nothing of the content yet, they begin with `name` and depend on
        `token`, which is to differ where the content does.
        """
        ...

    def identity(self) -> str:
        """A text that differs where the content does, for checkpoints."""
        ...

    def info(self) -> Mapping[str, Any]:
        """Facts on how the rows are stored, for :meth:`daskgd.Dataset.info`; empty where they are not."""
        ...


class WorkerPieces(Protocol):
    """Pieces of a column in the memory of workers, and how tasks come by them."""

    @property
    def graph(self) -> Mapping[Any, Any]:
        """The futures of the pieces by key, to be put into a graph whose tasks need them."""
        ...

    def key(self, piece: int) -> tuple[Any, ...]:
        """The key of a piece."""
        ...

    def covering(self, start: int, stop: int) -> range:
        """The pieces that hold rows `start` to `stop`."""
        ...

    def without_rows(self) -> PiecesColumn:
        """The column as it is sent to a task, which fills in its pieces."""
        ...


def in_this_process(column: Column) -> bool:
    """Whether the rows lie in the memory of this process."""
    return column.path is None and column.in_place(cluster=False) and not column.in_place(cluster=True)


class UnstoredColumn:
    """What columns in memory have in common; `shape` and `dtype` are for subclasses to say."""

    __slots__ = ()

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int:
        return 1

    @property
    def path(self) -> None:
        return None

    @property
    def on_workers(self) -> WorkerPieces | None:
        return None

    def in_place(self, cluster: bool) -> bool:
        return not cluster

    def info(self) -> Mapping[str, Any]:
        return {}


@dataclass(frozen=True, slots=True, eq=False)
class ArrayColumn(UnstoredColumn):
    """What columns of an array at hand, numpy's or dask's, have in common."""

    array: Any

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        return tuple(int(n) for n in self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return np.dtype(self.array.dtype)


@dataclass(frozen=True, slots=True, eq=False)
class MemoryColumn(ArrayColumn):
    """Rows of a numpy array in this process."""

    array: Array

    def read(self, start: int, stop: int) -> Array:
        return self.array[start:stop]

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        from dask.array import from_array

        return from_array(self.array, chunks=chunks)

    def identity(self) -> str:
        values = self.array.astype(str) if self.array.dtype == object else self.array
        sha = hashlib.sha256(f"{values.dtype.str}{values.shape}".encode())
        sha.update(np.ascontiguousarray(values).data.cast("B") if values.size else b"")
        return f"digest {sha.hexdigest()[:16]}"


@dataclass(frozen=True, slots=True, eq=False)
class LazyColumn(ArrayColumn):
    """Rows of a dask array that must be computed before a fit: see :mod:`daskgd.engines.placement`."""

    array: da.Array

    def in_place(self, cluster: bool) -> bool:
        return False

    def read(self, start: int, stop: int) -> Array:
        raise RuntimeError("a lazy column is materialised before it is read; this is a defect in daskgd")

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        return self.array.rechunk(chunks)

    def identity(self) -> str:
        return str(self.array.name)


@dataclass(frozen=True, slots=True, eq=False)
class PiecesColumn(UnstoredColumn):
    """Rows of an array cut into pieces of `piece_rows` rows; `pieces` holds some of them by number.

    Within a sweep on a cluster each task gets the pieces it covers; `pieces` is empty elsewhere.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    piece_rows: int
    pieces: dict[int, Array]

    def read(self, start: int, stop: int) -> Array:
        first, last = start // self.piece_rows, -(-stop // self.piece_rows)
        parts = []
        for i in range(first, last):
            at = i * self.piece_rows
            parts.append(self.pieces[i][max(start - at, 0) : stop - at])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        raise RuntimeError("pieces live for one fit only; this is a defect in daskgd")

    def identity(self) -> str:
        raise RuntimeError("pieces live for one fit only; this is a defect in daskgd")


class Columns(NamedTuple):
    """The columns of a dataset: X ``(n, p)``, y ``(n,)`` or ``(n, k)``, sample_weight ``(n,)``, or None."""

    X: Column
    y: Column | None = None
    sample_weight: Column | None = None

    @property
    def present(self) -> dict[str, Column]:
        """Those that are not None, by name."""
        return {name: column for name, column in self._asdict().items() if column is not None}

    @property
    def nbytes(self) -> int:
        """Bytes of all of them, decoded: what one sweep reads."""
        return sum(column.nbytes for column in self.present.values())


def check_columns(columns: Columns) -> None:
    """Raise ValueError for shapes that do not match each other, and for dtypes that cannot be trained on."""
    X, y, s = columns
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


WIDE_BLOCK_BYTES = 8 << 20
"""Bytes of a block that are enough however wide X is."""


def choose_layout(X: Column, block_bytes: int, partition_bytes: int) -> Layout:
    """The layout with blocks of whole chunks, each of at least `block_bytes`; more for wide X, whose second
    moments should not be larger than the rows of which they are.

    A partition is 2**j blocks, as many as `partition_bytes` hold, and at least one.
    """
    row_bytes = max(X.shape[1] * X.dtype.itemsize, 1)
    block_bytes = max(block_bytes, min(X.shape[1] // 4 * row_bytes, WIDE_BLOCK_BYTES))
    chunks = max(1, -(-block_bytes // (X.chunk_rows * row_bytes)))
    block_rows = min(chunks * X.chunk_rows, X.shape[0])
    fit = max(1, partition_bytes // (block_rows * row_bytes))
    return Layout(X.shape[0], block_rows, 1 << (fit.bit_length() - 1))


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
class StratifiedSelection(Selection):
    """The same, but for the rows `moved` ``(m,)``, by sorted numbers, that are on the other side: see
    :mod:`daskgd.data.stratify`."""

    moved: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def mask(self, start: int, stop: int) -> Array:
        out = Selection.mask(self, start, stop)
        a, b = np.searchsorted(self.moved, [start, stop])
        at = self.moved[a:b] - start
        out[at] = ~out[at]
        return out

    def __str__(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.moved).tobytes()).hexdigest()[:16]
        base = Selection(self.seed, self.low, self.high, self.depth)
        return f"{base}, by label: {len(self.moved)} rows moved, digest {digest}"


def selection_mask(selections: tuple[Selection, ...], start: int, stop: int) -> Array:
    """Which of the rows `start` to `stop` all of the selections hold, ``(stop - start,)`` of bool."""
    return np.logical_and.reduce([selection.mask(start, stop) for selection in selections])


@dataclass(frozen=True, slots=True, eq=False)
class ColumnSource:
    """What engines read from: columns, layout and selections, small enough to send to a worker.

    A read that fails for a reason which may pass is repeated, up to `retries` times: see
    :mod:`daskgd.storage.retry`.
    """

    layout: Layout
    columns: Columns
    selections: tuple[Selection, ...] = ()
    retries: int = 0

    def read(self, start: int, stop: int) -> Rows:
        """The selected rows between `start` and `stop`."""
        what = f"rows {start}:{stop}"
        X, y, s = (
            None if column is None else with_retries(partial(column.read, start, stop), self.retries, what)
            for column in self.columns
        )
        assert X is not None
        rows = Rows(as_features(X), y, s, start)
        if not self.selections:
            return rows
        return rows.select(selection_mask(self.selections, start, stop))
