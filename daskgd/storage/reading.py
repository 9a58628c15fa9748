"""Rows of a zarr array, read so that an error says which file and which rows.

Chunks that daskgd wrote are decoded in `codec`; other arrays are read by zarr, or by zarrs where that is
installed. Knows zarr arrays one by one; how several are a dataset is in `opening`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import zarr
from zarr.storage import LocalStore

from daskgd._compat.zarr import default_pipeline_name, pipeline_name, reopen, wait_for
from daskgd.storage.access import AccessError, check_access
from daskgd.storage.buffer_pool import empty_array
from daskgd.storage.checksums import (
    CONCURRENT_REQUESTS,
    ZarrArray,
    array_digest,
    ask_for_object,
    chunks_per_shard,
    location_of,
    object_key,
    read_object,
    storage_options_of,
)
from daskgd.storage.codec import DamagedChunk, checksums_in, crc32c, decode_rows
from daskgd.storage.redaction import redacted, redacted_error, redacted_message
from daskgd.storage.remote import as_plain
from daskgd.storage.requests import Ahead, Requests

if TYPE_CHECKING:
    import dask.array as da

logger = logging.getLogger("daskgd")


class ChunkError(RuntimeError):
    """Rows that cannot be read. `args`: path, first row, last row + 1, cause, key of the chunk or None."""

    unit = "rows"

    def __init__(self, path: str, start: int, stop: int, cause: str, key: str | None = None) -> None:
        super().__init__(redacted(path), start, stop, redacted(cause), key)

    def __str__(self) -> str:
        path, start, stop, cause, key = self.args
        return (
            f"{path}{f', chunk {key}' if key else ''}: {self.unit} {start}:{stop} cannot be read: {cause}. "
            "Restore the chunk from a copy, or write the dataset again."
        )


class Checksums(Protocol):
    """The checksums of the chunks of an array that were written."""

    def are(self, i: int, found: bytes) -> bool:
        """Whether these are the checksums of stored object i."""


@dataclass(frozen=True, slots=True, eq=False)
class StoredColumn:
    """A column of rows in a zarr array: it keeps :class:`daskgd.data.columns.Column`.

    It pickles as its array's metadata, so that tasks which carry it stay small.

    Parameters
    ----------
    array : zarr array, rows first.
    complete : daskgd wrote it, so its codecs are known and an absent chunk is an error (zarr may rightly
        leave out chunks that equal the fill value).
    mark : of the dataset that it belongs to, by which other processes know that they see the same.
    checksums : of the chunks that were written, where the dataset carries them.

    >>> column = StoredColumn(zarr.array(np.arange(6.0).reshape(3, 2), chunks=(2, 2)))
    >>> column.shape, column.chunk_rows, column.nbytes
    ((3, 2), 2, 48)
    >>> column.read(1, 3)
    array([[2., 3.],
           [4., 5.]])
    """

    array: ZarrArray
    complete: bool = False
    mark: str | None = None
    checksums: Checksums | None = None
    _to_check: bool = field(default=False, init=False, repr=False)
    _by_zarrs: ZarrArray | None = field(default=None, init=False, repr=False)
    _requests: Requests | None = field(default=None, init=False, repr=False)
    error: ClassVar[type[ChunkError]] = ChunkError

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_zarrs", None if self.complete else _open_with_zarrs(self.array))
        if self.complete and not isinstance(self.array.store_path.store, LocalStore):
            object.__setattr__(self, "_requests", Requests(partial(ask_for_object, self.array)))

    def __reduce__(self) -> tuple[Any, ...]:
        given = self.array, self.complete, self.mark, self.checksums
        return _arrive, given  # without what is read by zarrs, which may be here and not there

    def __dask_tokenize__(self) -> Any:
        return type(self).__name__, self.array, self.complete, self.mark

    def __repr__(self) -> str:
        return f"<StoredColumn: {self.dtype} {self.shape} at {self.path}>"

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
    def fill_value(self) -> Any:
        """What chunks read as that are not stored."""
        return self.array.fill_value

    @property
    def is_dense(self) -> bool:
        return True

    @property
    def parts(self) -> tuple[StoredColumn, ...]:
        """The arrays that hold the rows: itself."""
        return (self,)

    def locate(self, part: StoredColumn, a: int, b: int) -> tuple[int, int] | None:
        """The rows to which elements a:b of one of the arrays belong: the same."""
        return a, b

    @property
    def chunk_rows(self) -> int:
        """Rows per stored object: per chunk, or per shard if sharded."""
        return int((self.array.shards or self.array.chunks)[0])

    @property
    def reader(self) -> str:
        """The name of what turns stored bytes into rows: daskgd, or zarr's codec pipeline."""
        if self.complete:
            return "daskgd"
        return pipeline_name(self._by_zarrs or self.array).rpartition(".")[2]

    @property
    def path(self) -> str:
        """Where the array is, for messages and to tell whose column it is: without secrets."""
        return location_of(self.array.store_path)

    @property
    def on_workers(self) -> None:
        """No piece of it lies in the memory of workers: they read for themselves."""
        return None

    def in_place(self, cluster: bool) -> bool:
        """Whether tasks can read the rows where they lie: always."""
        return True

    def identity(self) -> str:
        """A text that differs where the content does: see :func:`daskgd.storage.checksums.digest`."""
        return array_digest(self.array, self.complete)

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

    def __getitem__(self, index: Any) -> np.ndarray:
        """Rows by slices and integers, as numpy gives them: dask reads through this."""
        first, *others = index if isinstance(index, tuple) else (index,)
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
        AccessError : the column was opened in another process, and this one does not see it, or sees another.
        """
        n, rows = self.shape[0], self.chunk_rows
        if self._to_check:
            self._check_before_reading(start, stop)
        if not 0 <= start <= stop <= n:
            raise IndexError(f"rows of {self.path}: expected 0 <= start <= stop <= {n}, got {start}:{stop}")
        if start == stop:
            return np.empty((0, *self.shape[1:]), self.dtype)
        if not self.complete:
            try:
                return self._read_foreign(start, stop)
            except Exception:  # whatever codecs raise; once more chunk by chunk, to say which
                numbers = _object_numbers(start, stop, rows)
                return np.concatenate([self._read_foreign_chunk(i, start, stop) for i in numbers])
        x = empty_array((stop - start, *self.shape[1:]), self.dtype.newbyteorder("<"))
        for i, content in self._contents(_object_numbers(start, stop, rows)):
            a, b = max(start, i * rows), min(stop, (i + 1) * rows)
            self.decode(i, a - i * rows, x[a - start : b - start], content)
        return x.astype(self.dtype, copy=False)

    def check_access(self) -> None:
        """Raise AccessError if this process cannot see the rows, or sees others, where the column was opened
        in another one: see :mod:`daskgd.storage.access`. An error that may pass is raised as it is."""
        if self._to_check:
            check_access(self.array, self.mark)
            object.__setattr__(self, "_to_check", False)

    def _check_before_reading(self, start: int, stop: int) -> None:
        try:
            self.check_access()
        except AccessError:
            raise
        except Exception as error:
            cause = f"the metadata cannot be read: {self._message(error)}"
            raise ChunkError(self.path, start, stop, cause) from self._redact_cause(error)

    @property
    def can_fetch(self) -> bool:
        """Whether what is stored can be asked for before it is read, as of stores at URLs."""
        return self._requests is not None

    async def fetch(self, start: int, stop: int, ahead: Ahead) -> None:
        """Have `ahead` hold the stored objects of rows start:stop, and wait until they are here."""
        assert self._requests is not None
        if start < stop:
            await ahead.hold(self._requests, _object_numbers(start, stop, self.chunk_rows))

    def _contents(self, numbers: range) -> Iterator[tuple[int, np.ndarray | BaseException | None]]:
        """Numbers of stored objects, with what they hold where that is best asked for at once: one after the
        other, requests to object stores would take most of the time."""
        requests = self._requests
        if requests is None:
            yield from ((i, None) for i in numbers)
            return

        async def answers(few: range) -> list[np.ndarray | BaseException]:
            return await asyncio.gather(*map(requests.get, few), return_exceptions=True)

        for at in range(0, len(numbers), CONCURRENT_REQUESTS):
            few = numbers[at : at + CONCURRENT_REQUESTS]
            yield from zip(few, wait_for(answers(few)), strict=True)

    def decode(
        self, i: int, first: int, out: np.ndarray, content: np.ndarray | BaseException | None = None
    ) -> bytes:
        """Fill `out` with rows of stored object i of a complete column, from its row `first` on; `content`
        is what it holds, or why that cannot be read, where it is known.

        Returns the checksums in the object, by which a dataset is verified. Raises ChunkError.
        """
        per_shard = chunks_per_shard(self.array)
        plain = len(self.array.compressors) == 1
        try:
            if isinstance(content, BaseException):
                raise content
            whole = not per_shard and len(out) == self.array.chunks[0] and out.flags.c_contiguous
            sums = b""
            if plain and whole and content is None and isinstance(self.array.store_path.store, LocalStore):
                sums = _read_plain(self.array, i, out)
            if not sums:
                stored = _read_stored(self.array, i) if content is None else content
                size = int(self.array.chunks[0])
                decode_rows(stored, size, first, out, per_shard=per_shard, plain=plain)
                sums = checksums_in(stored, per_shard)
            if self.checksums is not None and not self.checksums.are(i, sums):
                cause = (
                    "the chunk is not the one that was written: it was altered, or the dataset was written "
                    "anew after it was opened"
                )
                raise DamagedChunk(cause, first, first + len(out))
            return sums
        except (ValueError, RuntimeError, OSError) as error:
            a, b = error.args[1:] if isinstance(error, DamagedChunk) else (first, first + len(out))
            cause = str(error) if isinstance(error, DamagedChunk) else self._message(error)
            at, name = i * self.chunk_rows, object_key(self.array, i)
            raise ChunkError(self.path, at + a, at + b, cause, name) from self._redact_cause(error)

    def _read_foreign(self, start: int, stop: int) -> np.ndarray:
        # Of a part of a chunk zarrs checks no checksum.
        whole = start % self.chunk_rows == 0 == stop % self.chunk_rows
        array = self._by_zarrs if whole and self._by_zarrs is not None else self.array
        return np.require(np.asarray(array[start:stop]), requirements=["C", "A"])

    def _read_foreign_chunk(self, i: int, start: int, stop: int) -> np.ndarray:
        a, b = max(start, i * self.chunk_rows), min(stop, (i + 1) * self.chunk_rows)
        try:
            return self._read_foreign(a, b)
        except Exception as error:
            whole = tuple((self.array.shards or self.array.chunks)[1:]) == self.shape[1:]
            name = object_key(self.array, i) if whole else None  # else one of several side by side
            raise ChunkError(self.path, a, b, self._message(error), name) from self._redact_cause(error)

    def _message(self, error: BaseException) -> str:
        return redacted_message(error, storage_options_of(self.array.store_path.store))

    def _redact_cause(self, error: BaseException) -> BaseException:
        """The error as tracebacks may print it: those of remote stores hold URLs and options as given."""
        store = self.array.store_path.store
        return error if isinstance(store, LocalStore) else redacted_error(error, storage_options_of(store))


def _arrive(
    array: ZarrArray, complete: bool, mark: str | None, checksums: Checksums | None = None
) -> StoredColumn:
    """A column that comes from another process, or from one that has ended."""
    column = StoredColumn(array, complete, mark, checksums)
    object.__setattr__(column, "_to_check", True)
    return column


def _object_numbers(start: int, stop: int, rows: int) -> range:
    """The numbers of the stored objects, of `rows` rows each, that hold rows start:stop."""
    return range(start // rows, -(-stop // rows))


def _open_with_zarrs(array: ZarrArray) -> ZarrArray | None:
    """Open the array again, to be read by zarrs in the thread that asks.

    None where zarrs is not installed or does not read such an array, or where another pipeline was chosen, in
    zarr's configuration or for this array.

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
    with _configuration_lock:
        try:
            with zarr.config.set({**ours, **strict}):
                reopen(array, as_plain(array.store_path))
            with zarr.config.set(ours):
                again = reopen(array, as_plain(array.store_path))
        except Exception as error:  # of a kind of its own; whatever it is, zarr reads the array
            logger.debug(f"{array.store_path}: not read by zarrs: {type(error).__name__}: {error}")
            return None
    return None if pipeline_name(again) == default else again


_configuration_lock = threading.Lock()
"""Held while zarr's configuration, one for the whole process, is changed and restored."""


def _read_plain(array: ZarrArray, i: int, out: np.ndarray) -> bytes:
    """Read stored object i of an array on disk that is not compressed straight into `out`, a whole chunk; its
    checksum, nothing where that is wrong. Raises FileNotFoundError."""
    place, into = array.store_path / object_key(array, i), out.reshape(-1).view(np.uint8)
    try:
        store: Any = place.store
        with open(f"{store.root}/{place.path}", "rb", buffering=0) as file:
            size = file.readinto(into.data)
            stored = file.read(5)
    except FileNotFoundError:
        raise FileNotFoundError("the chunk is missing") from None
    if size != len(into) or len(stored) != 4 or crc32c(into) != int.from_bytes(stored, "little"):
        return b""
    return stored


def _read_stored(array: ZarrArray, i: int) -> np.ndarray:
    """The bytes of stored object i. Raises FileNotFoundError."""
    place = array.store_path / object_key(array, i)
    if not isinstance(place.store, LocalStore):
        return np.frombuffer(read_object(place), np.uint8)
    try:
        with open(f"{place.store.root}/{place.path}", "rb") as file:
            stored = empty_array((os.fstat(file.fileno()).st_size,), np.dtype(np.uint8))
            return stored[: file.readinto(stored.data)]
    except FileNotFoundError:
        raise FileNotFoundError("the chunk is missing") from None
