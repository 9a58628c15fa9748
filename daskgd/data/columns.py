"""Columns: rows that can be read, wherever they lie, and what engines read blocks of them from.

A dataset has three :class:`Columns`: features, targets and weights. The rows of a :class:`Column` lie in a
zarr array (:class:`daskgd.storage.reading.StoredColumn`; sparse ones in three, as in
:class:`daskgd.storage.sparse_reading.StoredSparseColumn`; categorical ones in one of codes beside those of
numbers, as in :class:`daskgd.storage.categorical_reading.StoredCategoricalColumn`), in a numpy array, in a
dask array that is yet to be computed, or in pieces in the memory of workers; another kind of column is one
class with the members of the protocol. A :class:`ColumnSource` joins columns, layout and selections of rows.
Knows no solvers and no engines.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.arrowhead import exclusive_columns
from daskgd.rows.features import Features, as_features, is_sparse_array
from daskgd.rows.layout import Layout
from daskgd.rows.random_numbers import SPLIT, row_random_numbers
from daskgd.rows.subsets import Subset
from daskgd.rows.tiles import Rows
from daskgd.storage.requests import Ahead
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
    def is_dense(self) -> bool:
        """Whether all entries are stored; else `nbytes` are those of the entries that are, and their
        places."""
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

    def read(self, start: int, stop: int) -> Any:
        """Rows `start` to `stop`, ``(stop - start, ...)``: an array, or
        :class:`~daskgd.rows.features.Features` where they are not dense."""
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
    def sparse_nbytes(self) -> int | None:
        """The bytes of all rows where they are sparse; else None."""
        return None

    @property
    def nbytes(self) -> int:
        dense = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        return dense if self.sparse_nbytes is None else self.sparse_nbytes

    @property
    def is_dense(self) -> bool:
        return self.sparse_nbytes is None

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
class FeaturesColumn(UnstoredColumn):
    """Features in this process that are not dense: sparse, categorical, or several kinds side by side."""

    features: Features

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.features.shape

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return self.features.dtype

    @property
    def sparse_nbytes(self) -> int:
        return self.features.nbytes

    def info(self) -> Mapping[str, Any]:
        return {"n_stored": self.features.n_stored}

    def read(self, start: int, stop: int) -> Features:
        return self.features.slice(start, stop)

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        return self._to_dask(chunks[0], name, lambda features: features.tocsr())

    def to_pieces(self, piece_rows: int, name: str, token: object = None) -> da.Array:
        """The rows as a dask array of pieces that are features, as they are here."""
        return self._to_dask(piece_rows, f"{name}-pieces", lambda features: features)

    def _to_dask(self, height: int, name: str, block: Callable[[Features], Any]) -> da.Array:
        from dask.array import Array as DaskArray

        n, height = len(self.features), max(height, 1)
        starts = range(0, n, height)
        name = f"{name}-{self.identity().rpartition(' ')[2]}-{height}"
        # A block each: what cuts one large matrix in tasks would be sent all of it.
        blocks = {(name, i, 0): block(self.read(a, a + height)) for i, a in enumerate(starts)}
        lengths = tuple(min(height, n - a) for a in starts)
        return DaskArray(blocks, name, (lengths, self.shape[1:]), meta=self.read(0, 0).tocsr())

    def identity(self) -> str:
        sha = hashlib.sha256(f"{self.dtype.str}{self.shape}".encode())
        for array in self.features.arrays:
            sha.update(f"{array.dtype.str}{array.shape}".encode())
            sha.update(np.ascontiguousarray(array).data.cast("B") if array.size else b"")
        return f"digest {sha.hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class NoFeatures(UnstoredColumn):
    """One feature that is 0 in each of `n_rows` rows, for what is asked of the targets alone."""

    n_rows: int

    @property
    def shape(self) -> tuple[int, int]:  # type: ignore[override]
        return self.n_rows, 1

    @property
    def dtype(self) -> np.dtype[Any]:  # type: ignore[override]
        return np.dtype(np.float32)

    def in_place(self, cluster: bool) -> bool:
        return True

    def read(self, start: int, stop: int) -> Array:
        return np.zeros((stop - start, 1), self.dtype)

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        from dask.array import zeros

        return zeros(self.shape, dtype=self.dtype, chunks=chunks)

    def identity(self) -> str:
        return "no features"


@dataclass(frozen=True, slots=True, eq=False)
class LazyColumn(ArrayColumn):
    """Rows of a dask array that must be computed before a fit: see :mod:`daskgd.engines.placement`.

    `sparse_nbytes` are the bytes of all rows where its blocks are sparse.
    """

    array: da.Array
    sparse_nbytes: int | None = field(default=None, kw_only=True)

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
    pieces: dict[int, Any]
    sparse_nbytes: int | None = None

    def read(self, start: int, stop: int) -> Any:
        first, last = start // self.piece_rows, -(-stop // self.piece_rows)
        runs = [(max(start - a, 0), stop - a) for a in range(first * self.piece_rows, stop, self.piece_rows)]
        pieces = [self._piece(i) for i in range(first, last)]
        if not self.is_dense:
            one, *others = (as_features(piece).slice(*run) for piece, run in zip(pieces, runs, strict=True))
            return one.concat(*others) if others else one
        if any(map(is_sparse_array, pieces)):
            raise ValueError(
                "X: the blocks of the dask array are sparse, and its meta says that they are not; give it a "
                "sparse one, as in X.map_blocks(lambda block: block, meta=scipy.sparse.csr_array((0, 0)))"
            )
        parts = [piece[slice(*run)] for piece, run in zip(pieces, runs, strict=True)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _piece(self, i: int) -> Any:
        """A piece; ValueError where it has not the shape that was said: rows would go with other targets."""
        piece = self.pieces[i]
        shape = (min(self.piece_rows, self.shape[0] - i * self.piece_rows), *self.shape[1:])
        if piece.shape != shape:
            raise ValueError(
                f"expected rows {i * self.piece_rows}:{i * self.piece_rows + shape[0]} of a dask array as "
                f"blocks of shape {shape}, got {piece.shape}: its blocks have not the shape that the array "
                "says; mend how it is made, as the `shape` given to dask.array.from_delayed"
            )
        return piece

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


def can_fetch(column: Column) -> bool:
    """Whether what is stored of a column can be asked for before it is read, as in stores at URLs."""
    return bool(getattr(column, "can_fetch", False))


def n_exclusive(X: Column) -> int:
    """The most columns of which a row has at most one that is not 0, as far as is known without reading: the
    categories of the largest column."""
    if hasattr(X, "n_exclusive"):
        return int(X.n_exclusive)
    if X.is_dense or isinstance(X, PiecesColumn) or not X.in_place(cluster=False):
        return 0
    run = exclusive_columns(as_features(X.read(0, 0)))
    return run.stop - run.start


def row_bytes(X: Column) -> int:
    """The bytes of a row of features, decoded; where rows differ, of an average one."""
    return max(-(-X.nbytes // max(X.shape[0], 1)), 1)


def task_row_bytes(X: Column) -> int:
    """The bytes that a task takes for a row of features: its own, and where it is made of others, theirs and
    what passes in between."""
    return row_bytes(X) + int(getattr(X, "passing_row_bytes", 0))


def check_columns(columns: Columns, offset: Column | None = None) -> None:
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
    for name, column, dims in (("y", y, (1, 2)), ("sample_weight", s, (1,)), ("offset", offset, (1,))):
        if column is None:
            continue
        if len(column.shape) not in dims:
            raise ValueError(
                f"{name}: expected shape (n,){' or (n, k)' if 2 in dims else ''}, got {column.shape}"
            )
        if column.shape[0] != n:
            raise ValueError(
                f"{name}: expected {n} rows, as X has, got {column.shape[0]}. Found input variables with "
                "inconsistent numbers of samples"
            )
    for name, column in (("sample_weight", s), ("offset", offset)):
        if column is not None and column.dtype.kind not in "fiub":
            raise ValueError(f"{name}: expected numbers, got dtype {column.dtype}")
    if y is not None and y.dtype.kind == "c":
        raise ValueError("y: Complex data not supported; expected real numbers or labels")


WIDE_BLOCK_BYTES, SPARSE_BLOCK_BYTES = 8 << 20, 64 << 20
"""Bytes of a block that are enough however wide X is, where it is dense and where it is sparse."""

BYTES_PER_COLUMN = 64
"""Bytes of a block of sparse X for each column, as its sums have a number for each."""


def choose_layout(X: Column, block_bytes: int, partition_bytes: int) -> Layout:
    """The layout with blocks of whole chunks, each of at least `block_bytes`; more for wide X, whose second
    moments should not be larger than the rows of which they are.

    A partition is 2**j blocks, as many as `partition_bytes` hold, and at least one.
    """
    each = row_bytes(X)
    if each < X.shape[1] * X.dtype.itemsize:
        block_bytes = max(block_bytes, min(X.shape[1] * BYTES_PER_COLUMN, SPARSE_BLOCK_BYTES))
    else:
        block_bytes = max(block_bytes, min(X.shape[1] // 4 * each, WIDE_BLOCK_BYTES))
    chunks = max(1, -(-block_bytes // (X.chunk_rows * each)))
    block_rows = min(chunks * X.chunk_rows, X.shape[0])
    fit = max(1, partition_bytes // (block_rows * each))
    return Layout(X.shape[0], block_rows, 1 << (fit.bit_length() - 1))


@dataclass(frozen=True, slots=True)
class Selection:
    """The rows whose hash lies in [low, high); splits of splits, of greater `depth`, use fresh hashes."""

    seed: int
    low: float
    high: float
    depth: int = 0

    def mask(self, numbers: Array) -> Array:
        """Which of the rows with these numbers ``(m,)`` it holds, of bool."""
        u = row_random_numbers(numbers, self.seed, SPLIT + self.depth)
        out: Array = (u >= self.low) & (u < self.high)
        return out


@dataclass(frozen=True, slots=True, eq=False)
class StratifiedSelection(Selection):
    """The same, but for the rows `moved` ``(m,)``, by sorted numbers, that are on the other side: see
    :mod:`daskgd.data.stratify`."""

    moved: Array = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def mask(self, numbers: Array) -> Array:
        out = Selection.mask(self, numbers)
        if len(self.moved):
            at = np.minimum(np.searchsorted(self.moved, numbers), len(self.moved) - 1)
            out ^= self.moved[at] == numbers
        return out

    def __str__(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.moved).tobytes()).hexdigest()[:16]
        base = Selection(self.seed, self.low, self.high, self.depth)
        return f"{base}, by label: {len(self.moved)} rows moved, digest {digest}"


@dataclass(frozen=True, slots=True)
class SubsetSelection:
    """The rows of a :class:`~daskgd.rows.subsets.Subset`, as a view of a dataset has them."""

    subset: Subset

    def mask(self, numbers: Array) -> Array:
        """Which of the rows with these numbers ``(m,)`` it holds, of bool."""
        return self.subset.mask(numbers)

    def __str__(self) -> str:
        return str(self.subset)


def selected(selections: tuple[Selection, ...], numbers: Array) -> Array:
    """Which of the rows with these numbers ``(m,)`` all of the selections hold, of bool."""
    return np.logical_and.reduce([selection.mask(numbers) for selection in selections])


def selection_mask(selections: tuple[Selection, ...], start: int, stop: int) -> Array:
    """Which of the rows `start` to `stop` all of the selections hold, ``(stop - start,)`` of bool."""
    return selected(selections, np.arange(start, stop))


@dataclass(frozen=True, slots=True, eq=False)
class ColumnSource:
    """What engines read from: columns, layout and selections, small enough to send to a worker.

    A read that fails for a reason which may pass is repeated, up to `retries` times: see
    :mod:`daskgd.storage.retry`. Of a store at a URL a task may ask for `ahead_bytes` of rows, decoded, before
    it needs them.
    """

    layout: Layout
    columns: Columns
    selections: tuple[Selection, ...] = ()
    retries: int = 0
    ahead_bytes: int = 0

    @property
    def blocks_ahead(self) -> int:
        """The most blocks that a task may ask for before it needs them; 0 where their store takes no such
        requests."""
        if not can_fetch(self.columns.X):
            return 0
        block_bytes = self.columns.nbytes / max(self.layout.n_rows, 1) * self.layout.block_rows
        return max(int(self.ahead_bytes / max(block_bytes, 1)), 1)

    def ask_ahead(self, start: int, stop: int) -> Ahead:
        """Ask for the rows between `start` and `stop`, which are to be read soon."""
        columns: Any = [column for column in self.columns.present.values() if can_fetch(column)]
        return Ahead(partial(column.fetch, start, stop) for column in columns)

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
