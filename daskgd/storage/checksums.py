"""Whether what is stored is what was written: keys of stored objects, what is missing, checksums, digests.

Also what may be said of it: errors and names of places without the secrets that URLs and options hold. Knows
zarr arrays as objects under keys; how those become rows, and what a dataset is, is in `store`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator
from itertools import islice
from typing import Any, TypeAlias

import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.buffer import default_buffer_prototype
from zarr.storage import FsspecStore, LocalStore, StorePath

from daskgd._compat.zarr import chunk_key, wait_for
from daskgd.storage import codec as chunks
from daskgd.storage.redaction import redacted

CONCURRENT_REQUESTS = 64
LISTED = 100
"""Chunks that are missing are counted up to this many."""

ZarrArray: TypeAlias = "zarr.Array[Any]"


class StoreError(ValueError):
    """A path holds no dataset, a half-written one, or one whose metadata or chunks do not match its mark."""

    def __init__(self, message: str) -> None:
        super().__init__(redacted(message))


def where(place: StorePath) -> str:
    """A place in a store as a path or URL, without secrets."""
    store = place.store
    if isinstance(store, LocalStore):
        return str(store.root / place.path)
    if isinstance(store, FsspecStore):
        return redacted(str(_files(store).unstrip_protocol("/".join(filter(None, (store.path, place.path))))))
    return redacted(str(place))


def options(store: Any) -> Any:
    """The options that a remote store was opened with, or None: `redacted_message` leaves them out."""
    return _files(store).storage_options if isinstance(store, FsspecStore) else None


def _files(store: FsspecStore) -> Any:
    """The file system of a store, without zarr's wrapper of synchronous ones."""
    return getattr(store.fs, "sync_fs", store.fs)


# -- stored objects -------------------------------------------------------------------------------


def get(place: StorePath) -> bytes:
    buffer = wait_for(place.get(default_buffer_prototype()))
    if buffer is None:
        raise FileNotFoundError(f"{place.path.rpartition('/')[2]} is missing")
    return buffer.to_bytes()


def key(array: ZarrArray, i: int) -> str:
    """Name of stored object i along the rows."""
    return chunk_key(array, (i,) + (0,) * (array.ndim - 1))


def objects(array: ZarrArray) -> int:
    """Number of chunks (shards) along the rows."""
    return -(-int(array.shape[0]) // int((array.shards or array.chunks)[0]))


def per_shard(array: ZarrArray) -> int:
    """Chunks per shard, 0 if unsharded."""
    return int(array.shards[0] // array.chunks[0]) if array.shards else 0


def missing(array: ZarrArray) -> list[tuple[str, int]]:
    """Keys and first rows of chunks that are not stored, from one listing; of very many, some.

    As there are no more keys than were listed, what is walked is bounded, whatever the metadata claim.
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
    """As numpy.ndindex, which refuses grids of more than 2**63 chunks."""
    first, *others = grid
    for i in range(first):
        if others:
            yield from ((i, *rest) for rest in _indices(others))
        else:
            yield (i,)


# -- checksums ------------------------------------------------------------------------------------


async def _sums(array: ZarrArray, i: int) -> bytes:
    """What `chunks.sums` says of object i, without reading it all."""
    place = array.store_path / key(array, i)

    async def tail(request: SuffixByteRequest | RangeByteRequest, size: int) -> bytes:
        buffer = await place.get(default_buffer_prototype(), request)
        if buffer is None or len(buffer) != size:
            raise StoreError(f"{where(place)}: the chunk is missing or truncated; write the dataset again")
        return buffer.to_bytes()

    size = chunks.index_bytes(per_shard(array)) or 4
    end = await tail(SuffixByteRequest(size), size)
    spans = chunks.index(np.frombuffer(end[:-4], np.uint8))
    ends = [offset + size for offset, size in spans if (offset, size) != chunks.ABSENT]
    parts = await asyncio.gather(*(tail(RangeByteRequest(e - 4, e), 4) for e in ends))
    return end[-4:] + b"".join(parts)


def metadata_digest(arrays: dict[str, ZarrArray], attributes: dict[str, Any]) -> str:
    """Of the JSON of the arrays as stored, so that it does not depend on the zarr that reads it."""
    stored = {name: json.loads(get(array.store_path / "zarr.json")) for name, array in arrays.items()}
    content = {key: value for key, value in attributes.items() if key != "complete"}
    return hashlib.sha256(json.dumps([stored, content], sort_keys=True).encode()).hexdigest()[:16]


def chunks_digest(arrays: dict[str, ZarrArray]) -> str:
    """Of the checksums of all chunks, as they are stored."""

    async def some(array: ZarrArray, numbers: range) -> list[bytes]:
        return await asyncio.gather(*(_sums(array, i) for i in numbers))

    digest = hashlib.sha256()
    for array in arrays.values():
        numbers = range(objects(array))
        for first in numbers[::CONCURRENT_REQUESTS]:
            digest.update(b"".join(wait_for(some(array, numbers[first : first + CONCURRENT_REQUESTS]))))
    return digest.hexdigest()[:16]


def digest(array: ZarrArray, complete: bool) -> str:
    """What tells an array from others: of what daskgd wrote, metadata and the checksums of all chunks, which
    are read for it; of others, the metadata alone."""
    sha = hashlib.sha256(get(array.store_path / "zarr.json")).hexdigest()[:16]
    return f"digest {sha}{chunks_digest({'': array})}" if complete else f"metadata {sha}"
