"""TODO storage.reading."""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
from zarr.storage import LocalStore

from daskgd._compat.zarr import default_pipeline_name, pipeline_name, reopened
from daskgd.storage import buffer_pool as buffers
from daskgd.storage import codec as chunks
from daskgd.storage.checksums import (
    ZarrArray,
    digest,
    get,
    key,
    options,
    per_shard,
    where,
)
from daskgd.storage.redaction import redacted, redacted_error, redacted_message

if TYPE_CHECKING:
    import dask.array as da

logger = logging.getLogger("daskgd")


class ChunkError(RuntimeError):
    """Rows that cannot be read. `args`: array path, first row, last row + 1, cause, chunk key or None."""

    def __init__(self, path: str, start: int, stop: int, cause: str, key: str | None = None) -> None:
        super().__init__(redacted(path), start, stop, redacted(cause), key)

    def __str__(self) -> str:
        path, start, stop, cause, key = self.args
        return (
            f"{path}{f', chunk {key}' if key else ''}: rows {start}:{stop} cannot be read: {cause}. Restore "
            "the chunk from a copy, or write the dataset again."
        )


@dataclass(frozen=True, slots=True, eq=False)
class StoredColumn:
    """Rows of one zarr array, read with errors that say where. Pickles with its metadata, cheaply.

    Parameters
    ----------
    array : zarr array, rows first.
    complete : daskgd wrote it, so its codecs are known and an absent chunk is an error (zarr may rightly
        leave out chunks that equal the fill value).

    >>> column = StoredColumn(zarr.array(np.arange(6.0).reshape(3, 2), chunks=(2, 2)))
    >>> column.shape, column.chunk_rows, column.nbytes
    ((3, 2), 2, 48)
    >>> column.read(1, 3)
    array([[2., 3.],
           [4., 5.]])
    """

    array: ZarrArray
    complete: bool = False
    _whole: ZarrArray | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_whole", None if self.complete else _by_zarrs(self.array))

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.array, self.complete)  # zarrs may be here and not there

    def __repr__(self) -> str:
        return f"<Column: {self.dtype} {self.shape} at {self.path}>"

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    @property
    def ndim(self) -> int:
        return int(self.array.ndim)

    @property
    def nbytes(self) -> int:
        """Decoded bytes."""
        return int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize

    @property
    def chunk_rows(self) -> int:
        """Rows per stored object: per chunk, or per shard if sharded."""
        return int((self.array.shards or self.array.chunks)[0])

    @property
    def reader(self) -> str:
        """What turns stored bytes into rows: daskgd, or zarr's codec pipeline, by its name."""
        if self.complete:
            return "daskgd"
        return pipeline_name(self._whole or self.array).rpartition(".")[2]

    @property
    def path(self) -> str:
        """Where the array is, for messages: without secrets."""
        return where(self.array.store_path)

    @property
    def on_workers(self) -> None:
        """No piece of it lies in the memory of workers: they read for themselves."""
        return None

    def in_place(self, cluster: bool) -> bool:
        """Whether tasks can read the rows where they lie: always."""
        return True

    def identity(self) -> str:
        """A text that differs where the content does: see :func:`daskgd.storage.checksums.digest`."""
        return digest(self.array, self.complete)

    def info(self) -> dict[str, Any]:
        """Facts on how the rows are stored."""
        return {"chunk_rows": self.chunk_rows, "reader": self.reader}

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        """The rows as a dask array in chunks of this shape, whose keys depend on the metadata and `token`.

        `token` is the fingerprint of the dataset, lest a cluster that still holds rows of one give them for
        those of the one written in its place. Dask reads through this column, not through zarr, which reads a
        lost chunk as data.
        """
        from dask.array import from_array  # not at the top: workers that only read do without
        from dask.base import tokenize

        return from_array(
            self,
            chunks=chunks,
            name=f"{name}-{tokenize(self, token, chunks)}",
            fancy=False,
            meta=np.empty((0,) * self.ndim, self.dtype),
        )

    def __getitem__(self, where: Any) -> np.ndarray:
        """What numpy would give for slices and integers: so that dask reads rows through `read`."""
        first, *others = where if isinstance(where, tuple) else (where,)
        rows = range(self.shape[0])[first]
        if isinstance(rows, int):
            return self.read(rows, rows + 1)[(0, *others)]
        block = self.read(min(rows), max(rows) + 1) if rows else self.read(0, 0)
        return block[(slice(None, None, rows.step), *others)]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start:stop, C-contiguous and aligned.

        Raises
        ------
        IndexError : not 0 <= start <= stop <= rows.
        ChunkError : a chunk is missing (if `complete`), truncated, or fails its checksum.
        """
        n, rows = self.shape[0], self.chunk_rows
        if not 0 <= start <= stop <= n:
            raise IndexError(f"rows of {self.path}: expected 0 <= start <= stop <= {n}, got {start}:{stop}")
        if start == stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        if not self.complete:
            try:
                return self._foreign(start, stop)
            except Exception:  # whatever codecs raise; once more chunk by chunk, to say which
                return np.concatenate([self._foreign_chunk(i, start, stop) for i in _span(start, stop, rows)])
        x = buffers.empty((stop - start, *self.shape[1:]), self.dtype.newbyteorder("<"))
        for i in _span(start, stop, rows):
            a, b = max(start, i * rows), min(stop, (i + 1) * rows)
            self.decode(i, a - i * rows, x[a - start : b - start])
        return x.astype(self.dtype, copy=False)

    def decode(self, i: int, first: int, out: np.ndarray) -> np.ndarray:
        """Fill `out` with rows of stored object i of a complete column, from its row `first` on; its bytes.
        Raises ChunkError.
        """
        try:
            stored = _object(self.array, i)
            chunks.decode(
                stored,
                int(self.array.chunks[0]),
                first,
                out,
                per_shard=per_shard(self.array),
                plain=len(self.array.compressors) == 1,
            )
            return stored
        except (ValueError, RuntimeError, OSError) as error:
            a, b = error.args[1:] if isinstance(error, chunks.Unsound) else (first, first + len(out))
            cause = str(error) if isinstance(error, chunks.Unsound) else self._message(error)
            at, name = i * self.chunk_rows, key(self.array, i)
            raise ChunkError(self.path, at + a, at + b, cause, name) from self._shown(error)

    def _foreign(self, start: int, stop: int) -> np.ndarray:
        # Of a part of a chunk zarrs checks no checksum.
        whole = start % self.chunk_rows == 0 == stop % self.chunk_rows
        array = self._whole if whole and self._whole is not None else self.array
        return np.require(np.asarray(array[start:stop]), requirements=["C", "A"])

    def _foreign_chunk(self, i: int, start: int, stop: int) -> np.ndarray:
        a, b = max(start, i * self.chunk_rows), min(stop, (i + 1) * self.chunk_rows)
        try:
            return self._foreign(a, b)
        except Exception as error:
            whole = tuple((self.array.shards or self.array.chunks)[1:]) == self.shape[1:]
            name = key(self.array, i) if whole else None  # else one of several side by side
            raise ChunkError(self.path, a, b, self._message(error), name) from self._shown(error)

    def _message(self, error: BaseException) -> str:
        return redacted_message(error, options(self.array.store_path.store))

    def _shown(self, error: BaseException) -> BaseException:
        """What tracebacks may print: errors of remote stores hold URLs and more as they were given."""
        store = self.array.store_path.store
        return error if isinstance(store, LocalStore) else redacted_error(error, options(store))


def _span(start: int, stop: int, rows: int) -> range:
    """Numbers of the stored objects of `rows` rows that hold rows start:stop."""
    return range(start // rows, -(-stop // rows))


def _by_zarrs(array: ZarrArray) -> ZarrArray | None:
    """The same array, to be read through zarrs in the thread that asks; None where zarrs is not installed or
    does not read such an array, or another pipeline was chosen, in zarr's configuration or for this array.

    zarr knows a pipeline of an array only as what its configuration says while the array is opened.
    """
    default = default_pipeline_name()
    if (
        zarr.config.get("codec_pipeline.path") != default
        or pipeline_name(array) != default
        or not array.dtype.isnative
        or find_spec("zarrs") is None
    ):
        return None
    ours = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}
    strict = {"codec_pipeline.strict": True}  # else it warns of what it does not support
    with _configuring:
        try:
            with zarr.config.set({**ours, **strict}):
                reopened(array)
            with zarr.config.set(ours):
                opened = reopened(array)
        except Exception as error:  # of a kind of its own; whatever it is, zarr reads the array
            logger.debug(f"{array.store_path}: not read by zarrs: {type(error).__name__}: {error}")
            return None
    return None if pipeline_name(opened) == default else opened


_configuring = threading.Lock()
"""zarr's configuration is of the whole process, and what two threads set for a while would outlive both."""


def _object(array: ZarrArray, i: int) -> np.ndarray:
    """Bytes of stored object i. Raises FileNotFoundError."""
    place = array.store_path / key(array, i)
    if not isinstance(place.store, LocalStore):
        return np.frombuffer(get(place), np.uint8)
    try:
        with open(f"{place.store.root}/{place.path}", "rb") as file:
            stored = buffers.empty((os.fstat(file.fileno()).st_size,), np.dtype(np.uint8))
            return stored[: file.readinto(stored.data)]
    except FileNotFoundError:
        raise FileNotFoundError("the chunk is missing") from None
