"""Sparse rows are written as AnnData's ``csr_matrix``: three arrays, each cut into chunks of its own.

How they are read is in `sparse_reading`; that of X, y and weights rows go together is for `writing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numcodecs import blosc

from daskgd.rows.sparse import Sparse
from daskgd.storage.checksums import ZarrArray
from daskgd.storage.commit import create_array, create_sparse_group

CHUNKS = 8
"""Chunks of values and their columns in `chunk_bytes`. They end within rows: a block of rows that takes
`chunk_bytes` decodes an eighth more than it needs."""

BOUND_BYTES, MOST_ROWS = 8, 1 << 17
"""Bytes of the bound of a row; and most rows in a chunk of bounds, targets or weights, as the first rows may
be empty where others are not."""


def _index_dtype(X: Sparse) -> np.dtype[Any]:
    return np.dtype(np.int32 if X.n_columns <= np.iinfo(np.int32).max else np.int64)


def _entry_bytes(X: Sparse) -> int:
    """Bytes of a value and its column."""
    return X.dtype.itemsize + _index_dtype(X).itemsize


def rows_that_fill(chunk_bytes: int, X: Sparse, other_bytes: int = 0) -> int:
    """How many of the first rows, with `other_bytes` beside each, are at most so many bytes, and at least
    one.

    >>> from scipy.sparse import csr_array
    >>> rows_that_fill(100, Sparse.of(csr_array(np.eye(9))))  # 8 + 4 bytes, and 8
    5
    """
    numbers = np.arange(1, min(len(X), MOST_ROWS) + 1)
    ends = (X.indptr[numbers].astype(np.int64) - X.indptr[0]) * _entry_bytes(X)
    ends += (BOUND_BYTES + other_bytes) * numbers
    return max(int(np.searchsorted(ends, chunk_bytes, side="right")), 1)


def rows_missing(chunk_bytes: int, parts: Sequence[Sparse], other_bytes: int = 0) -> bool:
    """Whether more rows are needed to tell how many fill a chunk."""
    n = sum(map(len, parts))
    nbytes = sum(part.n_stored * _entry_bytes(part) for part in parts) + n * (BOUND_BYTES + other_bytes)
    return n < MOST_ROWS and nbytes <= chunk_bytes


def shuffle_of(values: np.ndarray, codec: str) -> str:
    """How Blosc is to shuffle values before it compresses them, by those of the first chunk: by bytes, or not
    at all where that takes less room, as where values recur whole: ones among few others, word counts.

    Bytes decode in half to three quarters of the time of bits, which dense columns have.

    >>> shuffle_of(np.random.default_rng(0).random(1000), "lz4")
    'shuffle'
    >>> shuffle_of(np.random.default_rng(0).choice([1 / 3, 1 / 7, 1 / 11], 1000), "lz4")
    'noshuffle'
    """
    if codec == "none":
        return "shuffle"
    sizes = {
        name: len(blosc.compress(values, codec.encode(), 5, kind))  # at the level that zarr compresses at
        for name, kind in (("shuffle", blosc.SHUFFLE), ("noshuffle", blosc.NOSHUFFLE))
    }
    return min(sizes, key=lambda name: sizes[name])


@dataclass(slots=True)
class _GrowingArray:
    """An array that grows by whole stored objects of `unit` elements; what is left is written at the end."""

    array: ZarrArray
    unit: int
    waiting: np.ndarray

    def append(self, values: np.ndarray) -> None:
        values = values.astype(self.array.dtype, copy=False)
        values = np.concatenate([self.waiting, values]) if len(self.waiting) else values
        stop = len(values) - len(values) % self.unit
        if stop:
            self.array.append(values[:stop])
        self.waiting = values[stop:].copy()

    def finish(self) -> None:
        if len(self.waiting):
            self.array.append(self.waiting)


@dataclass(slots=True)
class SparseWriter:
    """The arrays of sparse rows, to which rows are appended."""

    group: Any
    n_columns: int
    parts: dict[str, _GrowingArray]
    n_rows: int = 0
    n_stored: int = 0

    @classmethod
    def create(
        cls,
        group: Any,
        name: str,
        first: Sparse,
        rows: int,
        n: int | None,
        *,
        chunk_bytes: int,
        shards: int | None,
        codec: str,
    ) -> SparseWriter:
        """Create the arrays: of bounds in chunks of `rows`; of the others as `chunk_bytes` say.

        Where the first rows are all there are, `n`, no chunk is larger than they: zarr stores whole chunks.
        """
        inner = create_sparse_group(group, name)
        entries = max(1, chunk_bytes // (CHUNKS * _entry_bytes(first)))
        bounds, stored = (None, None) if n is None else (n + 1, max(first.n_stored, 1))
        plan = {
            "indptr": (np.dtype(np.int64), rows, 1, bounds),
            "indices": (_index_dtype(first), entries, CHUNKS, stored),
            "data": (first.dtype, entries, CHUNKS, stored),
        }
        parts = {}
        for part, (dtype, size, times, most) in plan.items():
            size = size if most is None else min(size, most)
            per_shard = None if shards is None else shards * times
            if per_shard is not None and most is not None:
                per_shard = min(per_shard, -(-most // size))
            array = create_array(
                inner,
                part,
                (0,),
                dtype,
                chunk_rows=size,
                shards=per_shard,
                codec=codec,
                shuffle=shuffle_of(first.values[:size], codec) if part == "data" else "shuffle",
            )
            parts[part] = _GrowingArray(array, size * (per_shard or 1), np.empty(0, dtype))
        parts["indptr"].append(np.zeros(1, np.int64))
        return cls(inner, first.n_columns, parts)

    def append(self, rows: Sparse) -> None:
        bounds = rows.indptr.astype(np.int64)
        self.parts["data"].append(rows.values)
        self.parts["indices"].append(rows.indices)
        self.parts["indptr"].append(bounds[1:] - bounds[0] + self.n_stored)
        self.n_rows, self.n_stored = self.n_rows + len(rows), self.n_stored + rows.n_stored

    def finish(self) -> None:
        """Write what is waiting, and the shape that is known by now."""
        for part in self.parts.values():
            part.finish()
        self.group.attrs["shape"] = [self.n_rows, self.n_columns]
