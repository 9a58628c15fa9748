"""Stored objects of zarr arrays: their keys, which are missing, their checksums, and digests of them all.

A digest tells whether what is stored is what was written. Names of places come without the secrets that URLs
and options hold. How objects become rows is in `reading`, how arrays are a dataset in `opening`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, StorePath

from daskgd._compat.zarr import chunk_key, wait_for
from daskgd.storage.codec import ABSENT, parse_shard_index, shard_index_bytes
from daskgd.storage.redaction import redacted

CONCURRENT_REQUESTS = 64
"""Stored objects whose checksums are asked for at once."""

LISTED = 100
"""Most missing chunks that are counted."""

SPARSE_PARTS = ("indptr", "indices", "data")
"""Names of the arrays that hold sparse rows, in a group of their own: the bounds of rows are read first."""

GROUPS_AROUND = {**dict.fromkeys(SPARSE_PARTS, 2), **dict.fromkeys(("values", "ends", "text"), 3)}
"""How many groups, that of the dataset the outermost, are around arrays of these names; others have one."""

ZarrArray: TypeAlias = "zarr.Array[Any]"
Members: TypeAlias = "dict[str, zarr.Array[Any] | zarr.Group]"
"""What a dataset is stored in: arrays by name, and groups of arrays before the arrays in them."""


class StoreError(ValueError):
    """A path holds no dataset, a half-written one, or one whose metadata or chunks do not match its mark."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


def location_of(place: StorePath) -> str:
    """The path or URL of a place in a store, without secrets."""
    store = place.store
    if isinstance(store, LocalStore):
        return str(store.root / place.path)
    if isinstance(store, FsspecStore):
        return redacted(str(_files(store).unstrip_protocol("/".join(filter(None, (store.path, place.path))))))
    return redacted(str(place))


def group_around(place: StorePath) -> tuple[StorePath, str]:
    """The group that an array at a place belongs to, though its store may end there, and the array's name."""
    store, (parent, _, name) = place.store, place.path.rpartition("/")
    if not name and isinstance(store, LocalStore):
        store, name = LocalStore(store.root.parent, read_only=True), store.root.name
    elif not name and isinstance(store, FsspecStore):
        above, _, name = store.path.rpartition("/")
        store = FsspecStore(store.fs, read_only=True, path=above)
    return StorePath(store, parent), name


def dataset_around(array: ZarrArray) -> StorePath:
    """The group of the dataset that an array of daskgd's belongs to."""
    place, name = group_around(array.store_path)
    for _ in range(GROUPS_AROUND.get(name, 1) - 1):
        place, _ = group_around(place)
    return place


def storage_options_of(store: Any) -> Any:
    """The options that a remote store was opened with, which messages leave out; None for others."""
    return _files(store).storage_options if isinstance(store, FsspecStore) else None


def _files(store: FsspecStore) -> Any:
    """The file system of a store, without zarr's wrapper of synchronous ones."""
    return getattr(store.fs, "sync_fs", store.fs)


# -- stored objects -------------------------------------------------------------------------------


def read_object(place: StorePath) -> bytes:
    """The bytes of a stored object. Raises FileNotFoundError."""
    buffer = wait_for(place.get(default_buffer_prototype()))
    if buffer is None:
        raise FileNotFoundError(f"{place.path.rpartition('/')[2]} is missing")
    return buffer.to_bytes()


async def ask_for_object(array: ZarrArray, i: int) -> NDArray[np.uint8]:
    """The bytes of stored object i along the rows. Raises FileNotFoundError."""
    buffer = await (array.store_path / object_key(array, i)).get(default_buffer_prototype())
    if buffer is None:
        raise FileNotFoundError("the chunk is missing")
    return buffer.as_numpy_array().view(np.uint8)


def object_key(array: ZarrArray, i: int) -> str:
    """The key of stored object i along the rows, below its array."""
    return chunk_key(array, (i,) + (0,) * (array.ndim - 1))


def n_objects(array: ZarrArray) -> int:
    """The number of stored objects, chunks or shards, along the rows."""
    return -(-int(array.shape[0]) // int((array.shards or array.chunks)[0]))


def chunks_per_shard(array: ZarrArray) -> int:
    """Chunks per shard, 0 if unsharded."""
    return int(array.shards[0] // array.chunks[0]) if array.shards else 0


def find_missing(array: ZarrArray) -> list[tuple[str, int]]:
    """Keys and first rows of up to `LISTED` chunks that are not stored, from one listing.

    No more keys are tried than can be stored, whatever shape the metadata claim.
    """
    prefix = f"{array.store_path.path}/" if array.store_path.path else ""

    async def listing() -> set[str]:
        return {key.removeprefix(prefix) async for key in array.store_path.store.list_prefix(prefix)}

    if not array.store_path.store.supports_listing:
        return []
    size = array.shards or array.chunks
    grid = [-(-s // c) for s, c in zip(array.shape, size, strict=True)]
    present = wait_for(listing())
    keys = (
        (chunk_key(array, index), index[0] * size[0])
        for index in islice(_indices(grid), len(present) + LISTED)
    )
    return [(key, row) for key, row in keys if key not in present][:LISTED]


def _indices(grid: list[int]) -> Iterator[tuple[int, ...]]:
    """Indices of a grid, as of numpy.ndindex, which refuses grids of more than 2**63 chunks."""
    first, *others = grid
    for i in range(first):
        if others:
            yield from ((i, *rest) for rest in _indices(others))
        else:
            yield (i,)


# -- checksums ------------------------------------------------------------------------------------


async def _read_checksums(array: ZarrArray, i: int) -> bytes:
    """The checksums in stored object i, as of `checksums_in`, without reading all of it."""
    place = array.store_path / object_key(array, i)

    async def tail(request: SuffixByteRequest | RangeByteRequest, size: int) -> bytes:
        buffer = await place.get(default_buffer_prototype(), request)
        if buffer is None or len(buffer) != size:
            raise StoreError(
                f"{location_of(place)}: the chunk is missing or truncated; write the dataset again"
            )
        return buffer.to_bytes()

    size = shard_index_bytes(chunks_per_shard(array)) or 4
    end = await tail(SuffixByteRequest(size), size)
    extents = parse_shard_index(np.frombuffer(end[:-4], np.uint8))
    ends = [offset + size for offset, size in extents if (offset, size) != ABSENT]
    parts = await asyncio.gather(*(tail(RangeByteRequest(e - 4, e), 4) for e in ends))
    return end[-4:] + b"".join(parts)


def metadata_digest(members: Members, attributes: dict[str, Any]) -> str:
    """A digest of attributes and members' metadata, of the JSON as stored: no version of zarr changes it."""
    stored = {name: json.loads(read_object(one.store_path / "zarr.json")) for name, one in members.items()}
    content = {key: value for key, value in attributes.items() if key != "complete"}
    return hashlib.sha256(json.dumps([stored, content], sort_keys=True).encode()).hexdigest()[:16]


def only_arrays(members: Members) -> dict[str, ZarrArray]:
    """Those that are no groups."""
    return {name: one for name, one in members.items() if isinstance(one, zarr.Array)}


def read_all_checksums(array: ZarrArray) -> bytes:
    """The checksums of all chunks, as they are stored, one after the other."""

    async def some(numbers: range) -> list[bytes]:
        return await asyncio.gather(*(_read_checksums(array, i) for i in numbers))

    numbers = range(n_objects(array))
    parts = (numbers[first : first + CONCURRENT_REQUESTS] for first in numbers[::CONCURRENT_REQUESTS])
    return b"".join(sums for part in parts for sums in wait_for(some(part)))


def chunks_digest(arrays: dict[str, ZarrArray]) -> str:
    """A digest of the checksums of all chunks, as they are stored."""
    return digest_of(map(read_all_checksums, arrays.values()))


def digest_of(checksums: Iterable[bytes]) -> str:
    """A digest of checksums as of :func:`read_all_checksums`, array by array."""
    digest = hashlib.sha256()
    for sums in checksums:
        digest.update(sums)
    return digest.hexdigest()[:16]


def array_digest(array: ZarrArray, complete: bool) -> str:
    """A text that tells an array from others.

    For what daskgd wrote (`complete`) it is a digest of the metadata and of the checksums of all chunks,
    which are read for it; for others, a digest of the metadata alone.
    """
    file = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
    sha = hashlib.sha256(read_object(array.store_path / file)).hexdigest()[:16]
    return f"digest {sha}{chunks_digest({'': array})}" if complete else f"metadata {sha}"
