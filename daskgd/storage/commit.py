"""A dataset on disk is created empty, becomes valid by a mark that is written last, and is verified by it.

How rows are cut into chunks and written is in `writing`, how they are read in `reading`.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from zarr.abc.buffer import Buffer
from zarr.buffer import default_buffer_prototype
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.storage import LocalStore

from daskgd._compat.zarr import wait_for
from daskgd.storage.access import AccessError, this_process
from daskgd.storage.checksums import (
    StoreError,
    ZarrArray,
    chunks_digest,
    location_of,
    metadata_digest,
    n_objects,
    object_key,
    only_arrays,
)
from daskgd.storage.codec import encode_chunk
from daskgd.storage.opening import FORMAT, KEY, AnyStoredColumn, members_of, open_store
from daskgd.storage.paths import is_url
from daskgd.storage.reading import ChunkError, StoredColumn
from daskgd.storage.redaction import redacted
from daskgd.storage.remote import RemoteStore, open_remote
from daskgd.storage.sparse_reading import ENCODING

VERIFY_THREADS = 4

DIMENSION_NAMES = {
    **{"indptr": "bound", "indices": "entry", "data": "entry"},
    **{"values": "category", "ends": "category", "text": "byte"},
}
"""What the arrays of sparse rows and of dictionaries have a number for; others have one for each row."""

COLUMN_NAMES = {"X": "feature", "codes": "column"}
"""What arrays have a column for; others have one for each target."""

# -- creating and committing ----------------------------------------------------------------------


def holds_group(location: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether a zarr group is at a path or URL. Raises FileExistsError if something else is."""
    place = open_remote(location, options) if is_url(location) else location
    if wait_for(place.is_empty("")) if isinstance(place, RemoteStore) else not os.path.lexists(place):
        return False
    try:
        zarr.open_group(place, mode="r")
    except Exception:  # zarr raises all kinds at what it cannot read
        raise FileExistsError(
            f"{redacted(location)} exists and is no zarr group that can be read, so it is not replaced; "
            "remove it, or choose another path"
        ) from None
    return True


_folders: set[Path] = set()
"""Folders that this process has seen, and has written to."""


class _WaitableStore(LocalStore):
    """A directory whose writes can be waited for.

    Of many chunks that are written at once, zarr raises the first error, and goes on writing the others.
    """

    def __init__(self, root: Path | str, *, read_only: bool = False) -> None:
        super().__init__(root, read_only=read_only)
        self.closed = False
        self.pending: set[asyncio.Future[None]] = set()

    async def set(self, key: str, value: Buffer) -> None:
        if "/" in key and self.root.is_dir():
            _folders.add(self.root)
        elif "/" in key and self.root not in _folders:
            raise AccessError(str(self.root), "target", "the folder is not there", [this_process()])
        # Workers learn that the writing has failed only from what is gone.
        if self.closed or ("/" in key and not self.root.is_dir()):
            raise OSError(errno.ECANCELED, os.strerror(errno.ECANCELED), str(self.root / key))
        write = asyncio.ensure_future(super().set(key, value))
        self.pending.add(write)
        write.add_done_callback(self.pending.discard)
        await write

    async def wait_for_writes(self) -> None:
        self.closed = True
        await asyncio.gather(*self.pending, return_exceptions=True)


def create_group(location: str, options: Mapping[str, Any] | None = None) -> zarr.Group:
    """An empty group for `create_array` and then `commit`, in place of what is there."""
    place = open_remote(location, options) if is_url(location) else _WaitableStore(location)
    return zarr.open_group(place, mode="w", zarr_format=3, attributes={KEY: {"format": FORMAT}})


def abandon(group: zarr.Group) -> None:
    """Wait for this process's writes to a group on disk, and refuse later ones: it may be removed."""
    if isinstance(group.store, _WaitableStore):
        wait_for(group.store.wait_for_writes())


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    chunk_rows: int,
    shards: int | None,
    codec: str,
    shuffle: str = "bitshuffle",
) -> ZarrArray:
    """An array to be filled by whole chunks (shards), with ``array[a:b] = rows`` or ``array.append(rows)``.

    `shards` is chunks per shard; `codec` "lz4", "zstd" or "none"; `shuffle` what Blosc does before it.
    """
    compressors: list[Any] = [Crc32cCodec()]
    if codec != "none":
        compressors.insert(0, BloscCodec(cname=codec, shuffle=shuffle))  # type: ignore[arg-type]
    dimensions = DIMENSION_NAMES.get(name, "row"), COLUMN_NAMES.get(name, "target")
    # What lost rows would read as to others than us: hardly ever data.
    fill = np.nan if dtype.kind == "f" else getattr(np.iinfo(dtype), "min" if dtype.kind == "i" else "max")
    return group.create_array(
        name,
        shape=shape,
        chunks=(chunk_rows, *shape[1:]),
        shards=None if shards is None else (chunk_rows * shards, *shape[1:]),
        dtype=dtype,
        fill_value=fill,
        compressors=compressors,
        dimension_names=dimensions[: len(shape)],
        attributes={KEY: {"format": FORMAT}},  # whose arrays these are, should the mark be lost
        config={"write_empty_chunks": True},
    )


def write_rows(array: ZarrArray, start: int, rows: np.ndarray, codec: str) -> None:
    """Write whole chunks of an array of :func:`create_array`, the last of which may end with the array.

    Zarr's pipeline takes half as much processor time again.
    """
    size = array.chunks[0]
    if array.shards is not None or start % size:
        array[start : start + len(rows)] = rows
        return
    for first in range(0, len(rows), size):
        chunk = rows[first : first + size]
        if len(chunk) < size:  # zarr stores whole chunks
            whole = np.full((size, *rows.shape[1:]), array.fill_value, rows.dtype)
            whole[: len(chunk)] = chunk
            chunk = whole
        place = array.store_path / object_key(array, (start + first) // size)
        wait_for(place.set(default_buffer_prototype().buffer.from_bytes(encode_chunk(chunk, codec))))


def create_sparse_group(group: zarr.Group, name: str) -> zarr.Group:
    """A group for the arrays of sparse rows, whose `shape` is to be set at the end."""
    return group.create_group(name, attributes={**ENCODING})


def commit(
    group: zarr.Group,
    feature_names: list[str] | None,
    classes: list[Any] | None,
    format: int = FORMAT,
    schema: Any = None,
) -> None:
    """Write the mark with the checksums of everything: from here on the dataset is valid.

    `feature_names` are those of the columns of X; `format` says what else is in the group; `schema`, as JSON,
    what the columns were where the rows come from.
    """
    said = {"format": format, "feature_names": feature_names, "classes": classes, "shuffled": False}
    if schema is not None:
        said["schema"] = schema
    members = members_of(location_of(group.store_path), group, format)
    complete = metadata_digest(members, said) + chunks_digest(only_arrays(members))
    group.attrs[KEY] = {**said, "complete": complete}


# -- verifying ------------------------------------------------------------------------------------


def verify_store(
    path: str | os.PathLike[str],
    progress: Callable[[int, int], None] | None = None,
    *,
    storage_options: dict[str, Any] | None = None,
) -> None:
    """Read and decode every chunk and compare all checksums with the dataset's mark.

    `progress(done, total)` is called after each chunk; chunks of all arrays count.

    Raises
    ------
    ChunkError : the first chunk that is missing, truncated, fails its checksum or, where the dataset carries
    a
        survey, is not the one that was written, with its array and rows.
    StoreError : as `open_store`; the survey or the sample is not what was written; or every chunk is sound,
    but not all of them are those that were written.
    """
    stored = open_store(path, storage_options=storage_options)
    total, done, digest = sum(n_objects(part.array) for _, part in stored.parts.values()), 0, hashlib.sha256()
    with ThreadPoolExecutor(VERIFY_THREADS) as pool:
        for column, part in stored.parts.values():
            for numbers in _batches(n_objects(part.array), 16 * VERIFY_THREADS):
                for sums in pool.map(partial(_verify_object, column, part), numbers):
                    digest.update(sums)
                    done += 1
                    if progress is not None:
                        progress(done, total)
    if stored.fingerprint is None:
        return
    if stored.survey is not None and stored.survey.sample_share:
        stored.survey.read_sample()
    found = stored.fingerprint[:16] + digest.hexdigest()[:16]
    if found != stored.fingerprint:
        raise StoreError(
            f"{stored.path}: expected fingerprint {stored.fingerprint}, got {found}: every chunk can be "
            "read, but some are not those that were written; restore them, or write the dataset again"
        )


def _batches(n: int, size: int) -> Iterator[range]:
    return (range(n)[first : first + size] for first in range(0, n, size))


def _verify_object(column: AnyStoredColumn, part: StoredColumn, i: int) -> bytes:
    """Read stored object i of an array, compare its checksums and return them; none if daskgd did not write
    it."""
    start = i * part.chunk_rows
    n = min(part.chunk_rows, part.shape[0] - start)
    try:
        if not part.complete:
            part.read(start, start + n)
            return b""
        out = np.empty((n, *part.shape[1:]), part.dtype.newbyteorder("<"))
        return part.decode(i, 0, out)
    except ChunkError as error:
        path, a, b, cause, key = error.args
        rows = column.locate(part, a, b)
        if rows is None:
            raise
        raise column.error(path, *rows, cause, key) from error.__cause__
