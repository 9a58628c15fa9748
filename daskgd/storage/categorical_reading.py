"""Categorical rows of a zarr array of codes, perhaps with numbers beside them: read as the codes that they
are, so that an error says which file and which rows.

Codes are chunked on the same rows as numbers. How one array is read is in `reading`, how sparse numbers are
in `sparse_reading`, what codes stand for in `dictionaries`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Features, as_features
from daskgd.rows.stacked import Stacked
from daskgd.storage.buffer_pool import empty_array
from daskgd.storage.reading import ChunkError, StoredColumn
from daskgd.storage.requests import Ahead
from daskgd.storage.sparse_reading import StoredSparseColumn

if TYPE_CHECKING:
    import dask.array as da


@dataclass(frozen=True, slots=True, eq=False)
class StoredCategoricalColumn:
    """Categorical features in a zarr array of codes ``(n, k)``, after numbers where there are any: it keeps
    :class:`daskgd.data.columns.Column`.

    Column j of the codes has ``n_categories[j]`` categories; -1 is a missing one. It pickles as the metadata
    of its arrays.

    >>> import zarr
    >>> codes = StoredColumn(zarr.array(np.array([[0, 1], [2, -1]], "i1")))
    >>> column = StoredCategoricalColumn(codes, (3, 2), np.dtype("f8"))
    >>> column.shape, column.read(1, 2).toarray()
    ((2, 5), array([[0., 0., 1., 0., 0.]]))
    """

    codes: StoredColumn
    n_categories: tuple[int, ...]
    dtype: np.dtype[Any]
    numbers: StoredColumn | StoredSparseColumn | None = None
    error: ClassVar[type[ChunkError]] = ChunkError

    def __repr__(self) -> str:
        k = len(self.n_categories)
        return f"<StoredCategoricalColumn: {self.dtype} {self.shape}, {k} of codes, at {self.path}>"

    def __dask_tokenize__(self) -> Any:
        return (*(part.__reduce__() for part in self.parts), self.n_categories, self.dtype.str)

    @property
    def parts(self) -> tuple[StoredColumn, ...]:
        """Its arrays."""
        return (*(() if self.numbers is None else self.numbers.parts), self.codes)

    @property
    def n_numeric(self) -> int:
        """Columns of numbers."""
        return 0 if self.numbers is None else self.numbers.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        return self.codes.shape[0], self.n_numeric + sum(self.n_categories)

    @property
    def ndim(self) -> int:
        return 2

    @property
    def n_stored(self) -> int:
        """Codes, and numbers; of sparse ones those that are stored."""
        numbers = self.numbers
        if isinstance(numbers, StoredSparseColumn):
            return self._n_codes + numbers.n_stored
        return self._n_codes + (0 if numbers is None else numbers.shape[0] * numbers.shape[1])

    @property
    def _n_codes(self) -> int:
        return self.codes.shape[0] * self.codes.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes in memory."""
        index = 4 if sum(self.n_categories) <= np.iinfo(np.int32).max else 8
        return index * self._n_codes + (0 if self.numbers is None else self.numbers.nbytes)

    @property
    def sparse_nbytes(self) -> int:
        return self.nbytes

    @property
    def is_dense(self) -> bool:
        return False

    @property
    def chunk_rows(self) -> int:
        """Rows per stored object of codes, and of numbers that are dense."""
        return self.codes.chunk_rows

    @property
    def reader(self) -> str:
        return self.codes.reader

    @property
    def path(self) -> str:
        return self.codes.path

    @property
    def on_workers(self) -> None:
        return None

    def in_place(self, cluster: bool) -> bool:
        """Whether tasks can read the rows where they lie: always."""
        return True

    def identity(self) -> str:
        """A text that differs where the content does."""
        return "; ".join([f"categories {self.n_categories}", *(part.identity() for part in self.parts)])

    def info(self) -> dict[str, Any]:
        """Facts on how the rows are stored."""
        return {"n_stored": self.n_stored, "chunk_rows": self.chunk_rows, "reader": self.reader}

    def check_access(self) -> None:
        """As of :meth:`~daskgd.storage.reading.StoredColumn.check_access`."""
        for part in self.parts:
            part.check_access()

    @property
    def can_fetch(self) -> bool:
        """As of :attr:`~daskgd.storage.reading.StoredColumn.can_fetch`."""
        return all(part.can_fetch for part in self.parts)

    async def fetch(self, start: int, stop: int, ahead: Ahead) -> None:
        """As of :meth:`~daskgd.storage.reading.StoredColumn.fetch`."""
        both = (self.codes,) if self.numbers is None else (self.codes, self.numbers)
        await asyncio.gather(*(part.fetch(start, stop, ahead) for part in both))

    # -- as dask arrays ---------------------------------------------------------------------------

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        """The rows as a dask array of ``scipy.sparse.csr_array`` in chunks of this shape; see
        :meth:`~daskgd.storage.reading.StoredColumn.to_dask`."""
        return self._to_dask(chunks, name, token)

    def to_pieces(self, piece_rows: int, name: str, token: object = None) -> da.Array:
        """The rows as a dask array of pieces that are features, as kernels see them."""
        return self._to_dask((piece_rows, *self.shape[1:]), f"{name}-pieces", token, getitem=_read_piece)

    def _to_dask(self, chunks: tuple[int, ...], name: str, token: object, **how: Any) -> da.Array:
        from dask.array import from_array
        from dask.base import tokenize

        return from_array(
            self,
            chunks=chunks,
            name=f"{name}-{tokenize(self, token, chunks)}",
            fancy=False,
            asarray=False,
            meta=self.read(0, 0).tocsr(),
            **how,
        )

    def __getitem__(self, index: Any) -> Any:
        """Rows by slices, as ``scipy.sparse.csr_array``: dask reads through this."""
        first, *others = index if isinstance(index, tuple) else (index,)
        rows: Any = range(self.shape[0])[first]
        found = (self.read(min(rows), max(rows) + 1) if rows else self.read(0, 0)).tocsr()
        if rows.step != 1:
            found = found[:: rows.step]
        columns: Any = range(self.shape[1])
        return found if not others or columns[others[0]] == columns else found[:, others[0]]

    # -- reading ----------------------------------------------------------------------------------

    def read(self, start: int, stop: int) -> Features:
        """Rows start:stop.

        Raises
        ------
        IndexError : not 0 <= start <= stop <= rows.
        ChunkError : a chunk is missing, truncated or fails its checksum; or it holds codes of no category.
        AccessError : as of :meth:`~daskgd.storage.reading.StoredColumn.read`.
        """
        codes = self.codes.read(start, stop)
        try:
            categorical = Categorical.of(codes, self.n_categories, self.dtype, out=partial(_in_place, codes))
        except ValueError as error:
            row = start + self._first_wrong_row(codes)
            raise ChunkError(self.path, row, row + 1, str(error).rpartition(" in row")[0]) from None
        if self.numbers is None:
            return categorical
        return Stacked((as_features(self.numbers.read(start, stop)).astype(self.dtype), categorical))

    def _first_wrong_row(self, codes: np.ndarray) -> int:
        """The row that the error of :meth:`Categorical.of` names: the first of the first column with one."""
        wrong = (codes < -1) | (codes >= np.array(self.n_categories))
        return int(np.argmax(wrong[:, np.argmax(wrong.any(axis=0))]))

    def locate(self, part: StoredColumn, a: int, b: int) -> tuple[int, int] | None:
        """The rows to which elements a:b of one of the arrays belong: all where it is that of a
        dictionary."""
        if part is self.codes:
            return a, b
        if self.numbers is not None and any(part is one for one in self.numbers.parts):
            return self.numbers.locate(part, a, b)
        return 0, self.shape[0]


def _in_place(codes: np.ndarray, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray:
    """Room for the indices: that of the codes where it fits, which nobody else sees, else some of this
    thread's."""
    return codes if codes.dtype == dtype else empty_array(shape, dtype)


def _read_piece(column: StoredCategoricalColumn, index: Any, **_: Any) -> Features:
    """What dask calls to read rows as features."""
    rows: slice = index[0]
    return column.read(rows.start, rows.stop)
