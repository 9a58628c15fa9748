"""Datasets on disk: the only room that knows zarr.

One zarr v3 group holds ``X (n, p)``, ``y (n,)`` or ``(n, k)`` and ``sample_weight (n,)``, chunked on rows
alike. A mark that is written last holds the checksums of everything, so that a half-written or altered
dataset is refused and a lost chunk is never read as data. How arrays become whole chunks of rows is in
`writing`. This room knows nothing of models, losses, blocks, spans or engines.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import zarr
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.codec_pipeline import BatchedCodecPipeline

# Private, as zarr has no public way to ask a store from synchronous code. A loop of our own would not do: the
# connections of a remote store belong to zarr's.
from zarr.core.sync import sync
from zarr.storage import FsspecStore, LocalStore, StorePath

from daskgd import chunks

FORMAT = 1
KEY = "daskgd"
DIMENSIONS = {"X": (2,), "y": (1, 2), "sample_weight": (1,)}
NAMES = tuple(DIMENSIONS)
CONCURRENT_REQUESTS = 64

ZarrArray: TypeAlias = "zarr.Array[Any]"

logger = logging.getLogger(KEY)


class StoreError(ValueError):
    """A path holds no dataset, a half-written one, or one whose metadata or chunks do not match its mark."""


class ChunkError(RuntimeError):
    """Rows that cannot be read. `args`: array path, first row, last row + 1, cause, chunk key or None."""

    def __init__(self, path: str, start: int, stop: int, cause: str, key: str | None = None) -> None:
        super().__init__(path, start, stop, cause, key)

    def __str__(self) -> str:
        path, start, stop, cause, key = self.args
        return (
            f"{path}{f', chunk {key}' if key else ''}: rows {start}:{stop} cannot be read: {cause}. Restore "
            "the chunk from a copy, or write the dataset again."
        )


# -- reading rows ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Rows of one zarr array, read with errors that say where. Pickles with its metadata, cheaply.

    Parameters
    ----------
    array : zarr array, rows first.
    complete : daskgd wrote it, so its codecs are known and an absent chunk is an error (zarr may rightly
        leave out chunks that equal the fill value).

    >>> column = Column(zarr.array(np.arange(6.0).reshape(3, 2), chunks=(2, 2)))
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
        return type((self._whole or self.array).async_array.codec_pipeline).__name__

    @property
    def path(self) -> str:
        """Where the array is, for messages."""
        place = self.array.store_path
        return str(place.store.root / place.path) if isinstance(place.store, LocalStore) else str(place)

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
        if not self.complete:
            whole = start % rows == 0 == stop % rows  # of a part of a chunk zarrs checks no checksum
            array = self._whole if whole and self._whole is not None else self.array
            try:
                return np.require(np.asarray(array[start:stop]), requirements=["C", "A"])
            except (ValueError, RuntimeError, OSError) as error:
                raise ChunkError(self.path, start, stop, f"{type(error).__name__}: {error}") from error
        x = np.empty((stop - start, *self.shape[1:]), self.dtype.newbyteorder("<"))
        for i in range(start // rows, -(-stop // rows)):
            a, b = max(start, i * rows), min(stop, (i + 1) * rows)
            try:
                chunks.decode(
                    _object(self.array, i),
                    int(self.array.chunks[0]),
                    a - i * rows,
                    x[a - start : b - start],
                    per_shard=_per_shard(self.array),
                    plain=len(self.array.compressors) == 1,
                )
            except (ValueError, RuntimeError, OSError) as error:
                raise ChunkError(self.path, a, b, str(error), _key(self.array, i)) from error
        return x.astype(self.dtype, copy=False)


def _by_zarrs(array: ZarrArray) -> ZarrArray | None:
    """The same array, to be read through zarrs in the thread that asks; None where zarrs is not installed or
    does not read such an array, or another pipeline was chosen, in zarr's configuration or for this array.

    zarr knows a pipeline of an array only as what its configuration says while the array is opened.
    """
    chosen = zarr.config.get("codec_pipeline.path")
    if (
        chosen != f"{BatchedCodecPipeline.__module__}.{BatchedCodecPipeline.__qualname__}"
        or type(array.async_array.codec_pipeline) is not BatchedCodecPipeline
        or not array.dtype.isnative
        or find_spec("zarrs") is None
    ):
        return None
    ours = {"codec_pipeline.path": "zarrs.ZarrsCodecPipeline", "threading.max_workers": 1}
    strict = {"codec_pipeline.strict": True}  # else it warns of what it does not support
    place, settings = array.store_path, array.async_array.config
    with _configuring:
        try:
            with zarr.config.set({**ours, **strict}):
                zarr.AsyncArray(array.metadata, place, settings)
            with zarr.config.set(ours):
                opened = zarr.AsyncArray(array.metadata, place, settings)
        except Exception as error:  # of a kind of its own; whatever it is, zarr reads the array
            logger.debug(f"{place}: not read by zarrs: {type(error).__name__}: {error}")
            return None
    return None if type(opened.codec_pipeline) is BatchedCodecPipeline else zarr.Array(opened)


_configuring = threading.Lock()
"""zarr's configuration is of the whole process, and what two threads set for a while would outlive both."""


class _Scratch(threading.local):
    """A buffer per thread: fresh memory for every chunk is a page fault for every 4 KiB of it."""

    buffer = bytearray(1)


_scratch = _Scratch()


def _object(array: ZarrArray, i: int) -> np.ndarray:
    """Bytes of stored object i, valid until this thread asks for the next. Raises FileNotFoundError."""
    place = array.store_path / _key(array, i)
    if not isinstance(place.store, LocalStore):
        return np.frombuffer(_get(place), np.uint8)
    try:
        with open(f"{place.store.root}/{place.path}", "rb") as file:
            size = os.fstat(file.fileno()).st_size
            if len(_scratch.buffer) < size:
                _scratch.buffer = bytearray(size + size // 8)
            size = file.readinto(memoryview(_scratch.buffer)[:size])
            return np.frombuffer(_scratch.buffer, np.uint8, size)
    except FileNotFoundError:
        raise FileNotFoundError("the chunk is missing") from None


def _get(place: StorePath) -> bytes:
    buffer = sync(place.get(default_buffer_prototype()))
    if buffer is None:
        raise FileNotFoundError(f"{place.path.rpartition('/')[2]} is missing")
    return buffer.to_bytes()


# -- checksums ------------------------------------------------------------------------------------


def _key(array: ZarrArray, i: int) -> str:
    return array.metadata.encode_chunk_key((i,) + (0,) * (array.ndim - 1))


def _objects(array: ZarrArray) -> int:
    """Number of chunks (shards) along the rows."""
    return -(-int(array.shape[0]) // int((array.shards or array.chunks)[0]))


def _per_shard(array: ZarrArray) -> int:
    """Chunks per shard, 0 if unsharded."""
    return int(array.shards[0] // array.chunks[0]) if array.shards else 0


async def _sums(array: ZarrArray, i: int) -> bytes:
    """Checksums stored in object i: of a chunk, its last four bytes; of a shard, those of its index and of
    each chunk in it, as the index knows sizes but not content.
    """
    place = array.store_path / _key(array, i)

    async def get(request: SuffixByteRequest | RangeByteRequest, size: int) -> bytes:
        buffer = await place.get(default_buffer_prototype(), request)
        if buffer is None or len(buffer) != size:
            raise StoreError(f"{place}: the chunk is missing or truncated; write the dataset again")
        return buffer.to_bytes()

    size = chunks.index_bytes(_per_shard(array)) or 4
    tail = await get(SuffixByteRequest(size), size)
    absent = (2**64 - 1, 2**64 - 1)  # zarr v3, sharding codec
    spans = [span for span in chunks.index(np.frombuffer(tail[:-4], np.uint8)) if span != absent]
    ends = [offset + size for offset, size in spans]
    return tail[-4:] + b"".join(await asyncio.gather(*(get(RangeByteRequest(e - 4, e), 4) for e in ends)))


def _metadata_digest(arrays: dict[str, ZarrArray], attributes: dict[str, Any]) -> str:
    """Of the JSON of the arrays as stored, so that it does not depend on the zarr that reads it."""
    stored = {name: json.loads(_get(array.store_path / "zarr.json")) for name, array in arrays.items()}
    content = {key: value for key, value in attributes.items() if key != "complete"}
    return hashlib.sha256(json.dumps([stored, content], sort_keys=True).encode()).hexdigest()[:16]


def _chunks_digest(arrays: dict[str, ZarrArray]) -> str:
    async def some(array: ZarrArray, objects: range) -> list[bytes]:
        return await asyncio.gather(*(_sums(array, i) for i in objects))

    digest = hashlib.sha256()
    for array in arrays.values():
        objects = range(_objects(array))
        for first in objects[::CONCURRENT_REQUESTS]:
            digest.update(b"".join(sync(some(array, objects[first : first + CONCURRENT_REQUESTS]))))
    return digest.hexdigest()[:16]


# -- opening --------------------------------------------------------------------------------------


def column(array: ZarrArray) -> Column:
    """A zarr array as a column: complete where it lies, unaltered, in a group that bears our mark."""
    place = array.store_path
    store, (parent, _, name) = place.store, place.path.rpartition("/")
    if not name and isinstance(store, LocalStore):
        store, name = LocalStore(store.root.parent, read_only=True), store.root.name
    elif not name and isinstance(store, FsspecStore):
        above, _, name = store.path.rpartition("/")
        store = FsspecStore(store.fs, read_only=True, path=above)
    if name not in NAMES:
        return Column(array)
    try:
        group = zarr.open_group(store, path=parent, mode="r")
    except (FileNotFoundError, NotADirectoryError, zarr.errors.ContainsArrayError):
        return Column(array)
    said: Any = group.attrs.asdict().get(KEY)
    ours = isinstance(said, dict) and said.get("format") == FORMAT and bool(said.get("complete"))
    return Column(array, ours and said["complete"][:16] == _metadata_digest(_arrays(group), said))


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An open dataset: ``X (n, p)``, ``y (n,)`` or ``(n, k)``, ``sample_weight (n,)``; what its attributes
    say; its codec in words. `fingerprint` (32 hex digits) names the data: half of it is a digest of the
    metadata, half of the checksums of all chunks. None for a group that daskgd did not write.
    """

    path: str
    X: Column
    y: Column | None
    sample_weight: Column | None
    feature_names: tuple[str, ...] | None
    classes: np.ndarray | None
    fingerprint: str | None
    shuffled: bool
    codec: str


def open_store(path: str | os.PathLike[str], *, storage_options: dict[str, Any] | None = None) -> Stored:
    """Open a dataset: one written by `write_dataset`, or any zarr group that holds `X` (2-d) and, if it
    likes, `y` and `sample_weight` of equal length.

    Raises
    ------
    StoreError : `path` does not exist, is no zarr group, holds no X, is half-written, or its metadata or its
        number of chunks do not match its mark.

    >>> import tempfile
    >>> from daskgd import write_dataset
    >>> path = tempfile.mkdtemp() + "/data.zarr"
    >>> write_dataset(path, np.eye(4), np.array(["a", "b", "a", "b"]))
    >>> stored = open_store(path)
    >>> stored.X.shape, stored.classes.tolist(), stored.y.read(0, 4).tolist(), stored.codec
    ((4, 4), ['a', 'b'], [0, 1, 0, 1], 'blosc lz4 bitshuffle, crc32c')
    """
    location = locate(path)
    if "://" not in location and not os.path.exists(location):
        raise StoreError(f"{location}: no such file or directory; expected a zarr group that holds X")
    try:
        group = zarr.open_group(location, mode="r", storage_options=storage_options)
    except (FileNotFoundError, NotADirectoryError, zarr.errors.ContainsArrayError) as error:
        raise StoreError(f"{location}: expected a zarr group that holds X, found none ({error})") from error
    mark: Any = group.attrs.asdict().get(KEY)
    ours = isinstance(mark, dict)
    said: dict[str, Any] = mark if ours else {}
    if ours and not said.get("complete"):
        raise StoreError(f"{location}: half-written, the writing never ended; write it with overwrite=True")
    if ours and said.get("format") != FORMAT:
        raise StoreError(
            f"{location}: expected format {FORMAT}, got {said.get('format')!r}; update daskgd to read it"
        )
    arrays = _arrays(group)
    if "X" not in arrays:
        raise StoreError(f"{location}: expected an array X in the group, found none")
    for name, array in arrays.items():
        _check(f"{location}, array {name}", name, array, arrays["X"].shape[0])
    if ours and said["complete"][:16] != _metadata_digest(arrays, said):
        raise StoreError(
            f"{location}: the metadata of {', '.join(arrays)} or the attributes were altered after the "
            "dataset was completed; restore them, or write the dataset again"
        )
    for name, array in arrays.items():
        missing = _missing(array)
        if missing and ours:
            raise StoreError(
                f"{location}, array {name}: {len(missing)} chunks are missing, the first is {missing[0]}; "
                "restore them from a copy, or write the dataset again"
            )
        if missing and array.fill_value == array.fill_value:
            logger.warning(
                f"{location}, array {name}: {len(missing)} chunks are not stored (the first is {missing[0]}) "
                f"and read as {array.fill_value!r}; zarr leaves out empty chunks, but lost ones look the same"
            )
    columns = {name: Column(array, complete=ours) for name, array in arrays.items()}
    names, classes = said.get("feature_names"), said.get("classes")
    return Stored(
        path=location,
        X=columns["X"],
        y=columns.get("y"),
        sample_weight=columns.get("sample_weight"),
        feature_names=None if names is None else tuple(names),
        classes=None if classes is None else np.array(classes),
        fingerprint=said.get("complete"),
        shuffled=bool(said.get("shuffled", False)),
        codec=_described(arrays["X"]),
    )


def locate(path: str | os.PathLike[str]) -> str:
    """A local path, or a URL."""
    location = os.fspath(path)
    if not isinstance(location, str):
        raise TypeError(f"path: expected str or PathLike of str, got {type(location).__name__}")
    return location.removeprefix("file://")


def _arrays(group: zarr.Group) -> dict[str, ZarrArray]:
    members = ((name, group.get(name)) for name in NAMES)
    return {name: member for name, member in members if isinstance(member, zarr.Array)}


def _check(where: str, name: str, array: ZarrArray, n: int) -> None:
    if array.ndim not in DIMENSIONS[name] or array.dtype.kind not in "iufb":
        raise StoreError(
            f"{where}: expected {' or '.join(map(str, DIMENSIONS[name]))} dimensions of numbers, got shape "
            f"{array.shape}, dtype {array.dtype}"
        )
    if array.shape[0] != n:
        raise StoreError(f"{where}: X has {n} rows, {name} has {array.shape[0]}; they must be equal")


def _missing(array: ZarrArray) -> list[str]:
    """Keys of the chunks that are not stored, from one listing."""
    prefix = f"{array.store_path.path}/" if array.store_path.path else ""

    async def listing() -> set[str]:
        return {key.removeprefix(prefix) async for key in array.store_path.store.list_prefix(prefix)}

    grid = [-(-s // c) for s, c in zip(array.shape, array.shards or array.chunks, strict=True)]
    present = sync(listing())
    keys = (array.metadata.encode_chunk_key(tuple(map(int, i))) for i in np.ndindex(*grid))
    return [key for key in keys if key not in present]


def _described(array: ZarrArray) -> str:
    words = [
        f"blosc {codec.cname.value} {codec.shuffle.value}"
        if isinstance(codec, BloscCodec)
        else type(codec).__name__.removesuffix("Codec").lower()
        for codec in array.compressors
    ]
    if array.shards is not None:
        words.append(f"in shards of {array.shards[0] // array.chunks[0]} chunks")
    return ", ".join(words) or "none"


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
    ChunkError : the first chunk that is missing, truncated or fails its checksum, with its array and rows.
    StoreError : as `open_store`; or every chunk is sound, but not all of them are those that were written.
    """
    stored = open_store(path, storage_options=storage_options)
    columns = {name: column for name in NAMES if (column := getattr(stored, name)) is not None}
    total, done = sum(_objects(column.array) for column in columns.values()), 0
    for column in columns.values():
        for start in range(0, column.shape[0], column.chunk_rows):
            column.read(start, min(start + column.chunk_rows, column.shape[0]))
            done += 1
            if progress is not None:
                progress(done, total)
    if stored.fingerprint is None:
        return
    found = stored.fingerprint[:16] + _chunks_digest({name: c.array for name, c in columns.items()})
    if found != stored.fingerprint:
        raise StoreError(
            f"{stored.path}: expected fingerprint {stored.fingerprint}, got {found}: every chunk can be "
            "read, but some are not those that were written; restore them, or write the dataset again"
        )


# -- what writing needs ---------------------------------------------------------------------------


def occupied(location: str) -> bool:
    """Whether a zarr group is there. Raises FileExistsError if something else is."""
    place = FsspecStore.from_url(location) if "://" in location else location
    if sync(place.is_empty("")) if isinstance(place, FsspecStore) else not os.path.lexists(place):
        return False
    try:
        zarr.open_group(place, mode="r")
    except (FileNotFoundError, NotADirectoryError, zarr.errors.ContainsArrayError):
        raise FileExistsError(
            f"{location} exists and is not a zarr group, so it is not replaced; choose another path"
        ) from None
    return True


def create_group(location: str) -> zarr.Group:
    """An empty group for `create_array` and then `seal`, in place of what is there."""
    return zarr.open_group(location, mode="w", zarr_format=3, attributes={KEY: {"format": FORMAT}})


def create_array(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    chunk_rows: int,
    shards: int | None,
    codec: str,
) -> ZarrArray:
    """An array to be filled by whole chunks (shards), with ``array[a:b] = rows`` or ``array.append(rows)``.

    `shards` is chunks per shard; `codec` "lz4", "zstd" or "none".
    """
    compressors: list[Any] = [Crc32cCodec()]
    if codec != "none":
        compressors.insert(0, BloscCodec(cname=codec, shuffle="bitshuffle"))  # type: ignore[arg-type]
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
        dimension_names=("row", "feature" if name == "X" else "target")[: len(shape)],
        config={"write_empty_chunks": True},
    )


def seal(group: zarr.Group, feature_names: list[str] | None, classes: list[Any] | None) -> None:
    """Write the mark: from here on the dataset is valid."""
    said = {"format": FORMAT, "feature_names": feature_names, "classes": classes, "shuffled": False}
    arrays = _arrays(group)
    group.attrs[KEY] = {**said, "complete": _metadata_digest(arrays, said) + _chunks_digest(arrays)}
