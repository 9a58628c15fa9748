"""Sparse rows of three zarr arrays, AnnData's ``csr_matrix``: read so that an error says which file and which
rows.

Entries are chunked by their number, so that chunks end within rows: a block reads those that hold its
entries, and of the bounds of rows only its own. How one array is read is in `reading`.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from daskgd.rows.sparse import Sparse, outside
from daskgd.storage.checksums import group_around, location_of
from daskgd.storage.reading import ChunkError, StoredColumn
from daskgd.storage.requests import Ahead

if TYPE_CHECKING:
    import dask.array as da

ENCODING = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
"""Attributes of a group that holds sparse rows, as AnnData defines them; beside them is its `shape`."""

READ_BYTES, READ_OBJECTS, READ_ROWS = 16 << 20, 8, 1 << 20
"""Stored objects that are best read together: so many, in at most so many bytes, but at least one; and the
most rows, where few have entries. A block of rows decodes about one object more than it needs, as objects end
within rows."""


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class StoredSparseColumn:
    """Sparse features in three zarr arrays: it keeps :class:`daskgd.data.columns.Column`.

    Entry e of row i, ``indptr[i] <= e < indptr[i + 1]``, is ``data[e]`` in column ``indices[e]``. It pickles
    as the metadata of its arrays.

    >>> import zarr
    >>> parts = np.array([5.0, 7.0]), np.array([1, 0]), np.array([0, 1, 1, 2])
    >>> column = StoredSparseColumn(*(StoredColumn(zarr.array(part)) for part in parts), n_columns=2)
    >>> column.shape, column.read(1, 3).toarray()
    ((3, 2), array([[0., 0.],
           [7., 0.]]))
    """

    data: StoredColumn
    indices: StoredColumn
    indptr: StoredColumn
    n_columns: int
    error: ClassVar[type[ChunkError]] = ChunkError

    def __repr__(self) -> str:
        return f"<StoredSparseColumn: {self.dtype} {self.shape}, {self.n_stored} stored, at {self.path}>"

    def __dask_tokenize__(self) -> Any:
        return (*(part.__reduce__() for part in self.parts), self.n_columns)

    @property
    def parts(self) -> tuple[StoredColumn, ...]:
        """Its arrays, the bounds of rows first: they say what the others are."""
        return self.indptr, self.indices, self.data

    @property
    def shape(self) -> tuple[int, int]:
        return self.indptr.shape[0] - 1, self.n_columns

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype.newbyteorder("=")

    @property
    def ndim(self) -> int:
        return 2

    @property
    def n_stored(self) -> int:
        return self.data.shape[0]

    @property
    def nbytes(self) -> int:
        """Bytes in memory: of values, and of indices as scipy holds them."""
        n, p = self.shape
        index = index_dtype(n, p, self.n_stored).itemsize
        return self.n_stored * (self.dtype.itemsize + index) + (n + 1) * index

    @property
    def sparse_nbytes(self) -> int:
        return self.nbytes

    @property
    def is_dense(self) -> bool:
        return False

    @property
    def chunk_rows(self) -> int:
        """Rows, on average, of the stored objects that are best read together."""
        return self.rows_read_together(self.shape[0])

    def rows_read_together(self, n: int) -> int:
        """The same, were the entries those of `n` rows."""
        entries = min(part.chunk_rows for part in (self.data, self.indices))
        nbytes = entries * (self.dtype.itemsize + self.indices.dtype.itemsize)
        several = min(max(READ_BYTES // max(nbytes, 1), 1), READ_OBJECTS)
        return max(min(several * entries * n // max(self.n_stored, 1), READ_ROWS, n), 1)

    @property
    def reader(self) -> str:
        return self.data.reader

    @property
    def complete(self) -> bool:
        return self.data.complete

    @property
    def path(self) -> str:
        return location_of(group_around(self.data.array.store_path)[0])

    @property
    def on_workers(self) -> None:
        return None

    def in_place(self, cluster: bool) -> bool:
        """Whether tasks can read the rows where they lie: always."""
        return True

    def identity(self) -> str:
        """A text that differs where the content does."""
        return "; ".join([f"{self.n_columns} columns", *(part.identity() for part in self.parts)])

    def info(self) -> dict[str, Any]:
        """Facts on how the rows are stored."""
        return {"n_stored": self.n_stored, "chunk_rows": self.chunk_rows, "reader": self.reader}

    def check_access(self) -> None:
        """As of :meth:`~daskgd.storage.reading.StoredColumn.check_access`."""
        for part in self.parts:
            part.check_access()

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        """The rows as a dask array of ``scipy.sparse.csr_array`` in chunks of this shape; see
        :meth:`~daskgd.storage.reading.StoredColumn.to_dask`."""
        from dask.array import from_array
        from dask.base import tokenize
        from scipy.sparse import csr_array

        return from_array(
            self,
            chunks=chunks,
            name=f"{name}-{tokenize(self, token, chunks)}",
            fancy=False,
            asarray=False,
            meta=csr_array((0, 0), dtype=self.dtype),
        )

    def __getitem__(self, index: Any) -> Any:
        """Rows by slices, as ``scipy.sparse.csr_array``: dask reads through this."""
        first, *others = index if isinstance(index, tuple) else (index,)
        rows: Any = range(self.shape[0])[first]
        block = self.read(min(rows), max(rows) + 1) if rows else self.read(0, 0)
        found = block.matrix
        if rows.step != 1:
            found = found[:: rows.step]
        columns: Any = range(self.n_columns)
        return found if not others or columns[others[0]] == columns else found[:, others[0]]

    # -- reading --------------------------------------------------------------------------------

    def read(self, start: int, stop: int) -> Sparse:
        """Rows start:stop.

        Raises
        ------
        IndexError : not 0 <= start <= stop <= rows.
        ChunkError : a chunk is missing, truncated or fails its checksum; or what is stored are no rows.
        AccessError : as of :meth:`~daskgd.storage.reading.StoredColumn.read`.
        """
        n = self.shape[0]
        if not 0 <= start <= stop <= n:
            raise IndexError(f"rows of {self.path}: expected 0 <= start <= stop <= {n}, got {start}:{stop}")
        if start == stop:
            none = np.zeros(0, np.int32)
            return Sparse(np.zeros(0, self.dtype), none, np.zeros(1, np.int32), self.n_columns)
        try:
            bounds = self.indptr.read(start, stop + 1).astype(np.int64, copy=False)
        except ChunkError as error:
            _, a, b, cause, key = error.args
            a, b = max(a - 1, start), min(b, stop)
            raise ChunkError(self.indptr.path, a, b, cause, key) from error.__cause__
        self.check_bounds(bounds, start, stop)
        first, last = int(bounds[0]), int(bounds[-1])
        indices, values = (self._read_entries(part, first, last, bounds, start) for part in self.parts[1:])
        bounds = bounds - first
        self._check_indices(indices, bounds, start)
        dtype = index_dtype(self.n_columns, last - first)
        values = values.astype(self.dtype, copy=False)
        indices, bounds = (a.astype(dtype, copy=False) for a in (indices, bounds))
        rows = Sparse(values, indices, bounds, self.n_columns)
        return rows if self.complete else _canonical(rows)

    def _read_entries(
        self, part: StoredColumn, first: int, last: int, bounds: np.ndarray, start: int
    ) -> np.ndarray:
        """Entries first:last of an array, whose errors name rows."""
        try:
            return part.read(first, last)
        except ChunkError as error:
            path, a, b, cause, key = error.args
            above = start + int(np.searchsorted(bounds, a, side="right")) - 1
            below = start + int(np.searchsorted(bounds, b, side="left"))
            raise ChunkError(path, above, below, cause, key) from error.__cause__

    @property
    def can_fetch(self) -> bool:
        """As of :attr:`~daskgd.storage.reading.StoredColumn.can_fetch`."""
        return all(part.can_fetch for part in self.parts)

    async def fetch(self, start: int, stop: int, ahead: Ahead) -> None:
        """As of :meth:`~daskgd.storage.reading.StoredColumn.fetch`: the bounds of rows say what the others
        are."""
        if start == stop:
            return
        await self.indptr.fetch(start, stop + 1, ahead)
        bounds = [await asyncio.to_thread(self.indptr.read, row, row + 1) for row in (start, stop)]
        first, last = (int(bound[0]) for bound in bounds)
        await asyncio.gather(*(part.fetch(first, last, ahead) for part in self.parts[1:]))

    def check_bounds(self, bounds: np.ndarray, start: int, stop: int) -> None:
        ends = (start > 0 or bounds[0] == 0) and (stop < self.shape[0] or bounds[-1] == self.n_stored)
        inside = bounds[0] >= 0 and bounds[-1] <= self.n_stored
        if not (ends and inside and bool((bounds[1:] >= bounds[:-1]).all())):
            cause = f"expected bounds that rise from 0 to {self.n_stored}, the number of stored entries"
            raise ChunkError(self.indptr.path, start, stop, cause)

    def _check_indices(self, indices: np.ndarray, bounds: np.ndarray, start: int) -> None:
        """scipy's products would read and write wherever an index points."""
        at = outside(indices, self.n_columns)
        if at is None:
            return
        row = start + int(np.searchsorted(bounds, at, side="right")) - 1
        cause = f"expected columns from 0 to {self.n_columns - 1}, got {indices[at]}"
        raise ChunkError(self.indices.path, row, row + 1, cause)

    # -- all that is stored -----------------------------------------------------------------------

    def locate(self, part: StoredColumn, a: int, b: int) -> tuple[int, int] | None:
        """The rows to which elements a:b of one of the arrays belong; None where their bounds cannot be
        read."""
        n = self.shape[0]
        if part is self.indptr:
            return max(a - 1, 0), min(b, n)

        def bound(i: int) -> int:
            return int(self.indptr.read(i, i + 1)[0])

        try:
            first, last = (bisect_right(range(n), entry, key=bound) for entry in (a, max(b - 1, a)))
        except ChunkError:
            return None
        return max(first - 1, 0), max(last, 1)


def index_dtype(*sizes: int) -> np.dtype[Any]:
    """The dtype in which scipy holds indices up to these."""
    return np.dtype(np.int32 if max(sizes) <= np.iinfo(np.int32).max else np.int64)


def _canonical(rows: Sparse) -> Sparse:
    """Rows in which columns rise, and none comes twice; entries of the same place are added."""
    from scipy.sparse import csr_array

    return Sparse.of(csr_array(rows.arrays, shape=rows.shape, copy=False))
