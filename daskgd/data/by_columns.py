"""Features that are stored by columns, AnnData's ``csc_matrix``: rows of them are made once, when asked for.

They stay in memory where ``daskgd.transpose-bytes`` are enough to make all at once; else they are written to
a temporary store, which lives as long as they. Knows no engines.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dask
from dask.utils import format_bytes

from daskgd.config import setting
from daskgd.data.columns import FeaturesColumn, UnstoredColumn
from daskgd.rows.sparse import Sparse
from daskgd.storage.csc_reading import CSC, StoredCsc
from daskgd.storage.opening import open_store
from daskgd.storage.paths import locate
from daskgd.storage.sparse_reading import StoredSparseColumn
from daskgd.storage.transposition import all_rows, row_blocks, rows_nbytes, transposition_nbytes
from daskgd.storage.writing import write_arrays

if TYPE_CHECKING:
    import dask.array as da

logger = logging.getLogger("daskgd")


def temporary_root() -> str | None:
    """The folder for temporary stores; None for that of the system."""
    root = setting("temporary-directory") or dask.config.get("temporary-directory", None)
    return root and locate(root)


class ColumnsFirst(UnstoredColumn):
    """Rows of what is stored by columns: `rows` are read in its place. It keeps
    :class:`~daskgd.data.columns.Column`.

    Its layout in blocks is that of the same matrix stored by rows in chunks of as many entries.
    """

    __slots__ = ("_lock", "_rows", "dtype", "shape", "stored")

    def __init__(self, stored: StoredCsc) -> None:
        self.stored, self.shape, self.dtype = stored, stored.shape, stored.dtype
        self._rows: FeaturesColumn | StoredSparseColumn | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return ColumnsFirst, (self.stored,)

    @property
    def sparse_nbytes(self) -> int:
        n, n_stored, index = self.shape[0], self.stored.columns.n_stored, self.stored.index_dtype.itemsize
        return n_stored * (self.dtype.itemsize + index) + (n + 1) * index

    @property
    def chunk_rows(self) -> int:
        return self.stored.columns.rows_read_together(self.shape[0])

    @property
    def location(self) -> str:
        """Where the columns are stored, without secrets."""
        return self.stored.columns.path

    @property
    def stays_in_memory(self) -> bool:
        """Whether the rows do, once they are made."""
        return rows_nbytes(self.stored) <= _most_bytes()

    @property
    def transposition_nbytes(self) -> int:
        """Bytes of memory that it takes to make the rows, about, in this process."""
        return transposition_nbytes(self.stored, _most_bytes())

    @property
    def has_rows(self) -> bool:
        """Whether the rows have been made."""
        return self._rows is not None

    @property
    def rows(self) -> FeaturesColumn | StoredSparseColumn:
        """The rows, made by the first who asks."""
        with self._lock:
            if self._rows is None:
                self._rows = self._held() if self.stays_in_memory else self._spooled()
            return self._rows

    def blocks(self) -> Iterator[Sparse]:
        """The rows in order, in blocks, without a place for them all."""
        return row_blocks(self.stored, _most_bytes(), temporary_root())

    def _held(self) -> FeaturesColumn:
        self._log("in memory")
        return FeaturesColumn(all_rows(self.stored))

    def _spooled(self) -> StoredSparseColumn:
        scratch = tempfile.mkdtemp(prefix="daskgd-", dir=temporary_root())
        try:
            self._log(f"in the temporary store {scratch}")
            write_arrays(f"{scratch}/rows.zarr", self.blocks())
            rows = open_store(f"{scratch}/rows.zarr").X
            assert isinstance(rows, StoredSparseColumn)
        except BaseException:
            shutil.rmtree(scratch, ignore_errors=True)
            raise
        weakref.finalize(rows, shutil.rmtree, scratch, ignore_errors=True)
        return rows

    def _log(self, where: str) -> None:
        logger.warning(
            "%s: stored by columns (csc_matrix); its rows, %s, are made once, %s, and kept while the dataset "
            "is open. To spare this, convert it: daskgd.write_dataset(path, daskgd.open_dataset(%r))",
            self.location,
            format_bytes(self.nbytes),
            where,
            self.location.removesuffix("/X"),
        )

    # -- what columns have ------------------------------------------------------------------------

    def in_place(self, cluster: bool) -> bool:
        return False

    def read(self, start: int, stop: int) -> Any:
        raise RuntimeError("a csc_matrix is materialised before it is read; this is a defect in daskgd")

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        return self.rows.to_dask(chunks, name, token)

    def identity(self) -> str:
        return f"by columns, {self.stored.columns.identity()}"

    def info(self) -> Mapping[str, Any]:
        return {**self.stored.columns.info(), "chunk_rows": self.chunk_rows, "encoding": CSC}


def _most_bytes() -> int:
    """Bytes in which rows are made. Raises ValueError below 1."""
    size: int = setting("transpose-bytes")
    if size < 1:
        raise ValueError(f"daskgd.transpose-bytes: expected at least 1 byte, got {size}")
    return size
