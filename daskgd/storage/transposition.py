"""Sparse columns become rows, out of core, in three steps.

The entries of each row are counted, so that ranges of rows are known that fit in memory; every entry goes to
its range in a temporary file; and range after range is read from there, sorted and given away. Chunks of row
numbers are decoded twice, others once. What fits as a whole is a single range, without a file.
"""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from typing import Any

import numpy as np
from dask.utils import format_bytes

from daskgd.rows.sparse import Sparse
from daskgd.storage.csc_reading import StoredCsc
from daskgd.storage.reading import ChunkError

PIECES = 128
"""Pieces in a range: putting the entries of one in their ranges takes a few times their bytes."""

MOST_GROUPS = 1 << 18
"""Most numbers of entries that are counted; of more rows, neighbours are counted together."""

ROW_BYTES, GIVEN_BYTES = 24, 16 << 20
"""Bytes in memory of a row without entries while rows are made; and of rows that are given away together."""


def _entry_bytes(stored: StoredCsc) -> int:
    """Bytes of an entry while rows are made: as it was stored, as scipy takes it, and as it becomes."""
    return 3 * stored.dtype.itemsize + 5 * stored.index_dtype.itemsize


def rows_nbytes(stored: StoredCsc) -> int:
    """Bytes in memory while all rows are made at once."""
    return stored.columns.n_stored * _entry_bytes(stored) + stored.shape[0] * ROW_BYTES


def transposition_nbytes(stored: StoredCsc, most_bytes: int) -> int:
    """Bytes of memory that :func:`row_blocks` takes, about."""
    chunks = 3 * sum(part.chunk_rows * part.dtype.itemsize for part in stored.parts[1:])
    bounds = 3 * 8 * stored.shape[1]
    return min(rows_nbytes(stored), most_bytes + chunks + 24 * MOST_GROUPS) + bounds


def all_rows(stored: StoredCsc) -> Sparse:
    """All rows at once. Raises as :func:`row_blocks`."""
    rows, columns, values = stored.all_entries(stored.read_bounds())
    return _to_rows(rows, columns, values, *stored.shape)


def row_blocks(stored: StoredCsc, most_bytes: int, folder: str | None = None) -> Iterator[Sparse]:
    """The rows in order, in blocks of some, made in about `most_bytes` of memory.

    Entries of the same place are added in the order in which they are stored, as scipy does. The temporary
    file lies in `folder`, has no name, and is gone with the process.

    Raises ColumnsError for a chunk that is missing, truncated, or holds what is no row.
    """
    if rows_nbytes(stored) <= most_bytes:
        yield from _slices(all_rows(stored))
        return
    bounds, n = stored.read_bounds(), stored.shape[0]
    size = max(most_bytes // (PIECES * _entry_bytes(stored)), 1)
    starts, counts = _cut_rows(stored, bounds, size, most_bytes)
    with tempfile.TemporaryFile(prefix="daskgd-", dir=folder, buffering=0) as file:
        ranges = _Ranges(file, starts, counts, _record(stored))
        for rows, columns, values in stored.entries(bounds, size):
            try:
                ranges.put(rows, columns, values)
            except OSError as error:  # such as a full disk
                needed = format_bytes(stored.columns.n_stored * ranges.record.itemsize)
                where = folder or tempfile.gettempdir()
                error.add_note(
                    f"{where}: a temporary file of {needed} cannot be written; set "
                    "daskgd.temporary-directory to a folder with room for it"
                )
                raise
        del bounds
        for i, start in enumerate(starts.tolist()):
            stop = int(starts[i + 1]) if i + 1 < len(starts) else n
            rows, columns, values = ranges.read(i)
            rows -= start
            block = _to_rows(rows, columns, values, stop - start, stored.shape[1])
            del rows, columns, values
            yield from _slices(block)
            del block


def _to_rows(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, n: int, p: int) -> Sparse:
    """Rows of entries whose columns rise."""
    from scipy.sparse import coo_array

    return Sparse.of(coo_array((values, (rows, columns)), shape=(n, p)))


def _slices(rows: Sparse) -> Iterator[Sparse]:
    height = max(len(rows) * GIVEN_BYTES // max(rows.nbytes, 1), 1)
    return (rows.slice(a, min(a + height, len(rows))) for a in range(0, len(rows), height))


def _cut_rows(
    stored: StoredCsc, bounds: np.ndarray, size: int, most_bytes: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first rows of ranges that fit in memory, and how many entries each has."""
    n = stored.shape[0]
    height = -(-n // MOST_GROUPS)
    groups = np.zeros(-(-n // height), np.int64)
    for rows, _, _ in stored.entries(bounds, size, values=False):
        groups += np.bincount(rows // height, minlength=len(groups))
    ends = np.cumsum(groups * _entry_bytes(stored) + height * ROW_BYTES)
    cuts = [0]
    while cuts[-1] < len(groups):
        before = ends[cuts[-1] - 1] if cuts[-1] else 0
        cuts.append(max(int(np.searchsorted(ends, before + most_bytes, side="right")), cuts[-1] + 1))
    return np.array(cuts[:-1]) * height, np.add.reduceat(groups, cuts[:-1])


def _record(stored: StoredCsc) -> np.dtype[Any]:
    """An entry as it lies in the temporary file."""
    index = stored.index_dtype
    return np.dtype([("row", index), ("column", index), ("value", stored.dtype)])


@dataclass(slots=True)
class _Ranges:
    """Entries in a file by ranges of rows, in each in the order in which they were put."""

    file: FileIO
    starts: np.ndarray
    counts: np.ndarray
    record: np.dtype[Any]
    offsets: list[int] = field(init=False)
    filled: list[int] = field(init=False)
    checksums: list[int] = field(init=False)

    def __post_init__(self) -> None:
        sizes = self.counts * self.record.itemsize
        self.offsets = (np.cumsum(sizes) - sizes).tolist()
        self.filled, self.checksums = ([0] * len(self.starts) for _ in range(2))

    def put(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray) -> None:
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(owners, kind="stable")
        records = np.empty(len(rows), self.record)
        for name, part in zip(("row", "column", "value"), (rows, columns, values), strict=True):
            records[name] = part[order]
        found = np.bincount(owners, minlength=len(self.starts))
        ends = np.cumsum(found)
        for i in np.flatnonzero(found).tolist():
            content = records[ends[i] - found[i] : ends[i]].view(np.uint8).data
            self.checksums[i] = zlib.crc32(content, self.checksums[i])
            self.file.seek(self.offsets[i] + self.filled[i])
            self.filled[i] += len(content)
            while len(content):  # a write may end early
                content = content[self.file.write(content) :]

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The rows, columns and values of a range. Raises ChunkError where they are not those that were
        put."""
        content = np.empty(self.filled[i], np.uint8)
        self.file.seek(self.offsets[i])
        rest = content.data
        while len(rest) and (n := self.file.readinto(rest)):
            rest = rest[n:]
        if len(rest) or zlib.crc32(content.data) != self.checksums[i]:
            stop = int(self.starts[i + 1]) if i + 1 < len(self.starts) else int(self.starts[i]) + 1
            cause = "the temporary file does not hold what was written; check the disk it is on"
            raise ChunkError("X", int(self.starts[i]), stop, cause)
        records = content.view(self.record)
        rows, columns, values = (np.ascontiguousarray(records[name]) for name in ("row", "column", "value"))
        return rows, columns, values
