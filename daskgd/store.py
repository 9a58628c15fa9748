"""Datasets on disk: the only room that knows zarr. One zarr v3 group holds `X (n, p)`, `y (n,)` or
`(n, k)` and `sample_weight (n,)`, chunked on rows alike; a mark that is written last holds the
checksums of everything, so that a half-written or altered dataset is refused and a lost chunk is
never read as data. This room knows nothing of models, losses, blocks, spans or engines: it writes,
opens, reads and verifies rows.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import dask.array as da
import numpy as np
import zarr
from dask import config, threaded
from dask._task_spec import Task, TaskRef
from dask.array.core import getter, getter_inline, getter_nofancy
from dask.base import compute, get_scheduler, is_dask_collection
from dask.blockwise import Blockwise
from dask.delayed import delayed
from dask.highlevelgraph import MaterializedLayer
from dask.layers import ArraySliceDep
from dask.system import CPU_COUNT
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import BloscCodec, Crc32cCodec
from zarr.codecs._v2 import V2Codec
from zarr.core.array import AsyncArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.codec_pipeline import BatchedCodecPipeline
from zarr.core.sync import sync
from zarr.storage import LocalStore

try:
    from zarrs.pipeline import ZarrsCodecPipeline, get_codec_pipeline_impl
except ImportError:  # zarrs is optional: it only makes reads faster
    ZarrsCodecPipeline = None  # type: ignore[assignment, misc]

FORMAT = 1
KEY = "daskgd"
CODECS = ("lz4", "zstd", "none")
NAMES = ("X", "y", "sample_weight")
TASK_BYTES = 64_000_000
CONCURRENT_REQUESTS = 64
_MISSING = 2**64 - 1  # offset and size of an absent inner chunk (zarr v3, sharding codec)

ZarrArray: TypeAlias = "zarr.Array[Any]"

logger = logging.getLogger(KEY)


class StoreError(ValueError):
    """A path holds no dataset, a half-written one, or one whose metadata or chunks do not match its
    mark.
    """


class ChunkError(RuntimeError):
    """Rows that cannot be read. `args` are (array path, first row, last row + 1, cause, chunk key
    or None).
    """

    def __init__(self, path: str, start: int, stop: int, cause: str, key: str | None = None) -> None:
        super().__init__(path, start, stop, cause, key)

    def __str__(self) -> str:
        path, start, stop, cause, key = self.args
        chunk = f", chunk {key}" if key else ""
        return (
            f"{path}{chunk}: rows {start}:{stop} cannot be read: {cause}. Restore the chunk from "
            "a copy, or write the dataset again."
        )


def codec_pipeline() -> str:
    """Name of the pipeline that decodes whole chunks: 'zarrs' or 'zarr-python'.

    >>> codec_pipeline() in ("zarrs", "zarr-python")
    True
    """
    return "zarr-python" if ZarrsCodecPipeline is None else "zarrs"


def _rust_pipeline(array: ZarrArray) -> Any:
    if ZarrsCodecPipeline is None or not array.dtype.isnative:
        return None
    try:
        # strict: zarrs' own fallback warns once per array, and ours does not need to
        impl = get_codec_pipeline_impl(array.metadata, array.store_path.store, strict=True)
        return ZarrsCodecPipeline(array.metadata, array.store_path.store, impl, None)
    except Exception:  # whatever zarrs cannot do (codec, store, version), zarr-python can
        return None


def _with_pipeline(array: ZarrArray, pipeline: Any) -> ZarrArray:
    # Zarr chooses the pipeline from its global config when the array object is built. Setting it on
    # our own copy leaves the user's config alone, and other threads with it.
    copy = AsyncArray(array.metadata, array.store_path, array.config)
    object.__setattr__(copy, "codec_pipeline", pipeline)
    return zarr.Array(copy)


def _python_pipeline(array: ZarrArray) -> Any:
    metadata: Any = array.metadata
    if array.metadata.zarr_format == 2:
        codecs: tuple[Any, ...] = (V2Codec(filters=metadata.filters, compressor=metadata.compressor),)
    else:
        codecs = metadata.codecs
    return BatchedCodecPipeline.from_codecs(codecs)


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """Rows of one zarr array, read with errors that say where. Pickles with its metadata, cheaply.

    Parameters
    ----------
    array : zarr array, rows first.
    complete : every chunk was written, so an absent one is an error (true of daskgd's own datasets
        only: zarr may legitimately leave out chunks that equal the fill value).

    >>> column = Column(zarr.array(np.arange(6.0).reshape(3, 2), chunks=(2, 2)))
    >>> column.shape, column.chunk_rows, column.nbytes
    ((3, 2), 2, 48)
    >>> column.read(1, 3)
    array([[2., 3.],
           [4., 5.]])
    """

    array: ZarrArray
    complete: bool = False
    _whole: ZarrArray | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        rust = _rust_pipeline(self.array)
        plain = _with_pipeline(self.array, _python_pipeline(self.array))
        object.__setattr__(self, "array", plain)
        object.__setattr__(self, "_whole", None if rust is None else _with_pipeline(plain, rust))

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker chooses its own pipeline: zarrs may be installed here and not there.
        array = self.array
        return _column, (array.metadata, array.store_path, array.config, self.complete)

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
    def path(self) -> str:
        """Where the array is, for messages."""
        store = self.array.store_path.store
        if isinstance(store, LocalStore):
            return str(store.root / self.array.store_path.path)
        return str(self.array.store_path)

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
        # zarrs 0.2.3 does not check crc32c when it decodes part of a chunk or shard: flipped bits
        # passed (measured). So it reads whole ones only, and zarr-python, which always checks,
        # reads the rest.
        array = self.array
        if self._whole is not None and start % rows == 0 and stop % rows == 0:
            array = self._whole
        try:
            x = np.asarray(array[start:stop])
            if self.complete and stop > start:
                self._check_present(x, start, stop)
        except (ValueError, RuntimeError, OSError) as error:
            if isinstance(error, ChunkError):
                raise
            cause = f"{type(error).__name__}: {error}"
            raise ChunkError(self.path, start, stop, cause, self._key(start, stop)) from error
        return np.require(x, requirements=["C", "A"])

    def _key(self, start: int, stop: int) -> str | None:
        i = start // self.chunk_rows
        return _chunk_key(self.array, i) if (stop - 1) // self.chunk_rows == i else None

    def _check_present(self, x: np.ndarray, start: int, stop: int) -> None:
        """Raise ChunkError if a chunk of these rows is absent.

        Zarr reads an absent chunk as the fill value. So a chunk whose first row here is anything
        else was there, and only the others (hardly ever any) cost a look at the store, whatever the
        dtype, whatever the store.
        """
        fill, inner, rows = self.array.fill_value, int(self.array.chunks[0]), self.chunk_rows
        for a in (start, *range(start - start % inner + inner, stop, inner)):
            first = x[a - start]
            if np.all((first == fill) | ((first != first) & (fill != fill))):
                try:
                    sync(_chunk_sums(self.array, a // rows))
                except LookupError as error:
                    b = min(stop, a - a % inner + inner)
                    raise ChunkError(self.path, a, b, str(error.args[0]), error.args[1]) from None


def _column(metadata: Any, store_path: Any, config: Any, complete: bool) -> Column:
    return Column(zarr.Array(AsyncArray(metadata, store_path, config)), complete)


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """An open dataset: `X (n, p)`, `y (n,)` or `(n, k)`, `sample_weight (n,)`; what its attributes
    say; its codec in words. `fingerprint` (32 hex digits) names the data; None for a group that
    daskgd did not write.
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


# --- checksums -----------------------------------------------------------------------------------


def _chunk_key(array: ZarrArray, i: int) -> str:
    return str(array.metadata.encode_chunk_key((i,) + (0,) * (array.ndim - 1)))


def _objects(array: ZarrArray) -> int:
    """Number of chunks (shards) along the rows."""
    return -(-int(array.shape[0]) // int((array.shards or array.chunks)[0]))


async def _chunk_sums(array: ZarrArray, i: int) -> bytes:
    """Stored crc32c values of chunk i: its last four bytes; of a shard, those of its index and of
    each inner chunk (the index alone knows sizes, not content). LookupError(reason, key) if
    something is absent.
    """
    key = _chunk_key(array, i)
    path, prototype = array.store_path / key, default_buffer_prototype()

    async def get(request: SuffixByteRequest | RangeByteRequest, expected: int) -> bytes:
        buffer = await path.get(prototype, request)
        if buffer is None:
            raise LookupError("the chunk is missing", key)
        if len(buffer) != expected:
            raise LookupError("the chunk is truncated", key)
        return buffer.to_bytes()

    if array.shards is None:
        return await get(SuffixByteRequest(4), 4)
    inner, shard = int(array.chunks[0]), int(array.shards[0])
    tail = await get(SuffixByteRequest(16 * (shard // inner) + 4), 16 * (shard // inner) + 4)
    present = -(-min(shard, int(array.shape[0]) - i * shard) // inner)
    index = np.frombuffer(tail[:-4], "<u8").reshape(-1, 2)[:present].astype(object)
    if (index == _MISSING).any():
        raise LookupError("an inner chunk of the shard is missing", key)
    ends = [int(offset + size) for offset, size in index]
    sums = await asyncio.gather(*(get(RangeByteRequest(end - 4, end), 4) for end in ends))
    return b"".join([tail[-4:], *sums])


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _digests(arrays: list[ZarrArray], attributes: dict[str, Any]) -> tuple[bytes, str]:
    """Canonical metadata (the JSON as stored, so that it does not depend on the zarr that reads it)
    and its digest.
    """

    async def stored(array: ZarrArray) -> Any:
        buffer = await (array.store_path / "zarr.json").get(default_buffer_prototype())
        return None if buffer is None else json.loads(buffer.to_bytes())

    content = {key: value for key, value in attributes.items() if key not in ("metadata", "complete")}
    described = {array.basename: sync(stored(array)) for array in arrays}
    canonical = _canonical({"arrays": described, "attributes": content})
    return canonical, hashlib.sha256(canonical).hexdigest()[:32]


def _fingerprint(arrays: list[ZarrArray], canonical: bytes) -> str:
    async def sums(array: ZarrArray, first: int) -> list[bytes]:
        stop = min(first + CONCURRENT_REQUESTS, _objects(array))
        return await asyncio.gather(*(_chunk_sums(array, i) for i in range(first, stop)))

    digest = hashlib.sha256(canonical)
    for array in sorted(arrays, key=lambda array: array.basename):
        for first in range(0, _objects(array), CONCURRENT_REQUESTS):
            try:
                digest.update(b"".join(sync(sums(array, first))))
            except LookupError as error:
                raise StoreError(f"{array.store_path}, chunk {error.args[1]}: {error.args[0]}") from None
    return digest.hexdigest()[:32]


def _first_missing(array: ZarrArray) -> tuple[int, str] | None:
    """(number of chunks missing, first missing key) after one listing of the array's keys."""
    prefix = array.store_path.path
    prefix = f"{prefix}/" if prefix else ""

    async def listing() -> set[str]:
        return {key.removeprefix(prefix) async for key in array.store_path.store.list_prefix(prefix)}

    grid = [-(-s // c) for s, c in zip(array.shape, array.shards or array.chunks, strict=True)]
    present = sync(listing())
    keys = (array.metadata.encode_chunk_key(tuple(map(int, i))) for i in np.ndindex(*grid))
    missing = [key for key in keys if key not in present]
    return (len(missing), missing[0]) if missing else None


# --- opening -------------------------------------------------------------------------------------


def _located(path: str | os.PathLike[str]) -> tuple[str, bool]:
    """(path or URL, whether it is local)."""
    location = os.fspath(path)
    if not isinstance(location, str):
        raise TypeError(f"path: expected str or PathLike of str, got {type(location).__name__}")
    location = location.removeprefix("file://")
    return location, "://" not in location


def open_store(path: str | os.PathLike[str], *, storage_options: dict[str, Any] | None = None) -> Stored:
    """Open a dataset: one written by `write_dataset`, or any zarr group that holds `X` (2-d) and,
    if it likes, `y` and `sample_weight` of equal length.

    Raises
    ------
    StoreError : `path` does not exist, is no zarr group, holds no X, is half-written, or its
        metadata or its number of chunks do not match its mark.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/data.zarr"
    >>> write_dataset(path, np.eye(4), np.array(["a", "b", "a", "b"]))
    >>> stored = open_store(path)
    >>> stored.X.shape, stored.classes.tolist(), stored.y.read(0, 4).tolist(), stored.codec
    ((4, 4), ['a', 'b'], [0, 1, 0, 1], 'blosc lz4 bitshuffle, crc32c')
    """
    location, local = _located(path)
    if local and not os.path.exists(location):
        raise StoreError(f"{location}: no such file or directory; expected a zarr group that holds X")
    try:
        group = zarr.open_group(location, mode="r", storage_options=storage_options)
    except (FileNotFoundError, NotADirectoryError, zarr.errors.ContainsArrayError) as error:
        raise StoreError(
            f"{location}: expected a zarr group that holds X (2-d), found none "
            f"({type(error).__name__}: {error})"
        ) from error
    mark = group.attrs.asdict().get(KEY)
    marked = isinstance(mark, dict)
    attributes: dict[str, Any] = mark if isinstance(mark, dict) else {}
    if marked and not attributes.get("complete"):
        raise StoreError(
            f"{location}: half-written, the writing never came to its end; write it again with overwrite=True"
        )
    if marked and attributes.get("format") != FORMAT:
        raise StoreError(
            f"{location}: expected format {FORMAT}, got {attributes.get('format')!r}; update "
            "daskgd to read it"
        )
    arrays = _arrays(group)
    _check_arrays(location, arrays)
    if marked and _digests(list(arrays.values()), attributes)[1] != attributes.get("metadata"):
        raise StoreError(
            f"{location}: the metadata of {', '.join(arrays)} or the attributes were altered "
            "after the dataset was completed; restore them, or write the dataset again"
        )
    for name, array in arrays.items():
        gap = _first_missing(array)
        if gap and marked:
            raise StoreError(
                f"{location}, array {name}: {gap[0]} chunks are missing, the first is {gap[1]}; "
                "restore them from a copy, or write the dataset again"
            )
        if gap and array.fill_value == array.fill_value:
            logger.warning(
                "%s, array %s: %d chunks are not stored (the first is %s) and read as the fill "
                "value %r; zarr leaves out empty chunks, but lost ones look the same",
                *(location, name, *gap, array.fill_value),
            )
    columns = {name: Column(array, complete=marked) for name, array in arrays.items()}
    names, classes = attributes.get("feature_names"), attributes.get("classes")
    return Stored(
        path=location,
        X=columns["X"],
        y=columns.get("y"),
        sample_weight=columns.get("sample_weight"),
        feature_names=None if names is None else tuple(names),
        classes=None if classes is None else np.array(classes),
        fingerprint=attributes.get("complete"),
        shuffled=bool(attributes.get("shuffled", False)),
        codec=_described(arrays["X"]),
    )


def _arrays(group: zarr.Group) -> dict[str, ZarrArray]:
    members = ((name, group.get(name)) for name in NAMES)
    return {name: member for name, member in members if isinstance(member, zarr.Array)}


def _check_arrays(location: str, arrays: dict[str, ZarrArray]) -> None:
    if "X" not in arrays:
        raise StoreError(f"{location}: expected an array X in the group, found none")
    n = arrays["X"].shape[0]
    for name, array in arrays.items():
        dims = {"X": (2,), "y": (1, 2), "sample_weight": (1,)}[name]
        if array.ndim not in dims or array.dtype.kind not in "iufb":
            raise StoreError(
                f"{location}, array {name}: expected {' or '.join(map(str, dims))} dimensions of "
                f"numbers, got shape {array.shape}, dtype {array.dtype}"
            )
        if array.shape[0] != n:
            raise StoreError(f"{location}: X has {n} rows, {name} has {array.shape[0]}; they must be equal")


def _described(array: ZarrArray) -> str:
    words = []
    for codec in array.compressors:
        match codec:
            case BloscCodec():
                words.append(f"blosc {codec.cname.value} {codec.shuffle.value}")
            case Crc32cCodec():
                words.append("crc32c")
            case _:
                words.append(type(codec).__name__.removesuffix("Codec").lower())
    text = ", ".join(words) or "none"
    return (
        text if array.shards is None else f"{text}, in shards of {array.shards[0] // array.chunks[0]} chunks"
    )


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
    ChunkError : the first chunk that is missing, truncated or fails its checksum, with its array
        and rows.
    StoreError : as `open_store`; or every chunk is sound, but not all of them are those that were
        written.
    """
    stored = open_store(path, storage_options=storage_options)
    columns = [c for c in (stored.X, stored.y, stored.sample_weight) if c is not None]
    total, done = sum(_objects(column.array) for column in columns), 0
    for column in columns:
        for start in range(0, column.shape[0], column.chunk_rows):
            column.read(start, min(start + column.chunk_rows, column.shape[0]))
            done += 1
            if progress is not None:
                progress(done, total)
    if stored.fingerprint is None:
        return
    group = zarr.open_group(stored.path, mode="r", storage_options=storage_options)
    arrays = [column.array for column in columns]
    attributes: Any = group.attrs.asdict()[KEY]
    found = _fingerprint(arrays, _digests(arrays, attributes)[0])
    if found != stored.fingerprint:
        raise StoreError(
            f"{stored.path}: expected fingerprint {stored.fingerprint}, got {found}: every chunk "
            "can be read, but some are not those that were written; restore them, or write the "
            "dataset again"
        )


# --- what comes in -------------------------------------------------------------------------------


def _numpy(value: Any, name: str) -> np.ndarray:
    if type(value).__module__.startswith("scipy.sparse"):
        raise TypeError(
            f"{name}: scipy.sparse is not supported yet; pass blocks of rows made dense with .toarray()"
        )
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name}: masked arrays are not supported; fill the masked values first")
    array = np.asarray(value)
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def _matrix(value: Any, name: str = "X") -> np.ndarray:
    """Any block of X as a 2-d array of numbers."""
    if hasattr(value, "iloc") and getattr(value, "ndim", 0) == 2:
        dtypes = [np.dtype(getattr(t, "numpy_dtype", t)) if _is_number(t) else None for t in value.dtypes]
        bad = [str(c) for c, t in zip(value.columns, dtypes, strict=True) if t is None]
        if bad:
            raise TypeError(
                f"{name}: expected numeric columns, got others: {', '.join(bad[:5])}; encode or drop them"
            )
        dtype = np.result_type(*dtypes) if dtypes else np.dtype(float)
        try:
            value = value.to_numpy(dtype=dtype, **({"na_value": np.nan} if dtype.kind == "f" else {}))
        except (ValueError, TypeError) as error:
            raise ValueError(
                f"{name}: a column of {dtype} has missing values ({error}); convert it to float"
            ) from None
    array = _numpy(value, name)
    if array.ndim != 2:
        raise ValueError(
            f"{name}: expected 2 dimensions (rows, features), got {array.ndim}, shape {array.shape}"
        )
    if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected real numbers of at most 64 bits or bool, got dtype {array.dtype}")
    return (
        array.view(np.uint8)
        if array.dtype.kind == "b" and array.flags.c_contiguous
        else (array.astype(np.uint8) if array.dtype.kind == "b" else array)
    )


def _is_number(dtype: Any) -> bool:
    return getattr(getattr(dtype, "numpy_dtype", dtype), "kind", "O") in "iufbc"


def _targets(value: Any, name: str = "y") -> np.ndarray:
    """Any block of y: numbers as they are; bool as bool; strings as an object array of str."""
    array = _numpy(value, name)
    if array.ndim not in (1, 2):
        raise ValueError(f"{name}: expected 1 or 2 dimensions, got {array.ndim}, shape {array.shape}")
    kind = array.dtype.kind
    if kind == "O" and array.size and all(isinstance(v, bool | np.bool_) for v in array.flat):
        array, kind = array.astype(bool), "b"
    if kind in "iuf" and array.dtype.itemsize <= 8:
        return array
    if array.ndim == 2 and array.shape[1] != 1:
        raise TypeError(
            f"{name}: expected numbers for several targets, got shape {array.shape}, dtype {array.dtype}"
        )
    if kind == "b":
        return array
    if kind in "UTO":
        array = array.astype(object)
        bad = next((v for v in array.flat if not isinstance(v, str)), None)
        if bad is None and not any(v is None for v in array.flat):
            return array
        raise TypeError(
            f"{name}: expected labels that are all numbers, all bool or all str, got {bad!r} "
            f"among dtype {np.asarray(value).dtype}; fill or drop missing labels, convert numbers "
            "to a number dtype"
        )
    raise TypeError(f"{name}: expected numbers of at most 64 bits, bool or str, got dtype {array.dtype}")


def _weights(value: Any, name: str = "sample_weight") -> np.ndarray:
    array = _numpy(value, name)
    if array.ndim != 1:
        raise ValueError(f"{name}: expected 1 dimension, got {array.ndim}, shape {array.shape}")
    if array.dtype.kind not in "iufb" or array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected real numbers of at most 64 bits, got dtype {array.dtype}")
    array = array if array.dtype.kind == "f" else array.astype(np.float64)
    bad = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if bad.size:
        raise ValueError(f"{name}: expected finite weights >= 0, got {array[bad[0]]} at row {bad[0]}")
    return array


_CHECKS: dict[str, Callable[..., np.ndarray]] = {
    "X": _matrix,
    "y": _targets,
    "sample_weight": _weights,
}


def _codes(labels: np.ndarray, index: dict[Any, int]) -> np.ndarray:
    """Labels as int32 codes; labels not seen before join `index`."""
    values, inverse = np.unique(labels, return_inverse=True)
    table = [index.setdefault(value, len(index)) for value in values.tolist()]
    return np.array(table, dtype=np.int32)[inverse].reshape(labels.shape)


def _is_labels(array: np.ndarray) -> bool:
    return array.dtype.kind in "bO"


# --- writing -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Layout:
    chunk_bytes: int
    codec: str
    shards: int | None

    def __post_init__(self) -> None:
        if not 1 <= self.chunk_bytes <= 2**30:  # Blosc cannot compress buffers of 2 GiB
            raise ValueError(f"chunk_bytes: expected 1 to {2**30} bytes, got {self.chunk_bytes}")
        if self.codec not in CODECS:
            raise ValueError(f"codec: expected one of {', '.join(CODECS)}, got {self.codec!r}")
        if self.shards is not None and (type(self.shards) is not int or self.shards < 1):
            raise ValueError(f"shards: expected None or chunks per shard, an int >= 1, got {self.shards!r}")

    def rows(self, row_bytes: int) -> int:
        """Rows per chunk."""
        return max(1, self.chunk_bytes // row_bytes)

    def create(
        self, group: zarr.Group, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], rows: int
    ) -> ZarrArray:
        """One array; a dataset of less than one chunk (shard) makes it smaller, as zarr stores
        whole chunks.
        """
        rows = min(rows, shape[0])
        shards = None if self.shards is None else min(self.shards, -(-shape[0] // rows))
        compressors: list[Any] = [Crc32cCodec()]
        cname: Any = self.codec
        if cname != "none":
            compressors.insert(0, BloscCodec(cname=cname, shuffle="bitshuffle"))
        fill = (
            np.nan
            if dtype.kind == "f"
            else (np.iinfo(dtype).min if dtype.kind == "i" else np.iinfo(dtype).max)
        )
        return group.create_array(
            name,
            shape=shape,
            chunks=(rows, *shape[1:]),
            shards=None if shards is None else (rows * shards, *shape[1:]),
            dtype=dtype,
            fill_value=fill,
            compressors=compressors,
            dimension_names=("row", "feature" if name == "X" else "target")[: len(shape)],
            config={"write_empty_chunks": True},
        )


@dataclass(slots=True)
class _Sink:
    """Takes blocks of any number of rows, writes whole chunks (shards), keeps less than one of them
    and a block.
    """

    group: zarr.Group
    layout: _Layout
    index: dict[Any, int] = field(default_factory=dict)
    arrays: dict[str, ZarrArray] = field(default_factory=dict)
    pending: dict[str, list[np.ndarray]] = field(default_factory=dict)
    like: dict[str, np.ndarray] = field(default_factory=dict)
    waiting: int = 0
    written: int = 0
    rows: int = 0

    def add(self, number: int, blocks: dict[str, np.ndarray]) -> None:
        if "X" not in blocks:
            raise ValueError(f"block {number}: expected X, (X, y) or (X, y, sample_weight), got no X")
        _check_lengths(blocks, f" in block {number}")
        if not len(blocks["X"]):
            return
        if not self.like:
            self.like = {name: block[:0] for name, block in blocks.items()}
            self.pending = {name: [] for name in blocks}
            if blocks["X"].shape[1] == 0:
                raise ValueError("X: expected at least one column, got none")
            self.rows = self.layout.rows(blocks["X"].shape[1] * blocks["X"].itemsize)
        if set(blocks) != set(self.like):
            raise ValueError(
                f"block {number}: expected {', '.join(self.like)}, as in block 0, got {', '.join(blocks)}"
            )
        for name, block in blocks.items():
            first = self.like[name]
            if block.shape[1:] != first.shape[1:] or block.dtype != first.dtype:
                raise ValueError(
                    f"block {number} of {name}: expected rows of shape {first.shape[1:]} and "
                    f"dtype {first.dtype}, as in block 0, got {block.shape[1:]} and "
                    f"{block.dtype}; make all blocks alike"
                )
            self.pending[name].append(_codes(block, self.index) if _is_labels(block) else block)
        self.waiting += len(blocks["X"])
        unit = self.rows * (self.layout.shards or 1)
        if self.waiting >= unit:
            self.flush(self.waiting - self.waiting % unit)

    def flush(self, count: int) -> None:
        """Write the first `count` pending rows."""
        stop = self.written + count
        for name, parts in self.pending.items():
            rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
            # a copy, so that a remainder does not keep its whole block alive
            self.pending[name] = [rows[count:].copy()] if len(rows) > count else []
            if name not in self.arrays:
                self.arrays[name] = self.layout.create(
                    self.group, name, (count, *rows.shape[1:]), rows.dtype, self.rows
                )
            array = self.arrays[name]
            # The number of rows is not known yet: grow the shape in memory, and on disk once, at
            # the end.
            metadata: Any = array.metadata.update_shape((stop, *rows.shape[1:]))
            zarr.Array(AsyncArray(metadata, array.store_path, array.config))[self.written : stop] = rows[
                :count
            ]
        self.written, self.waiting = stop, self.waiting - count

    def finish(self) -> list[Any] | None:
        """Write the rest, settle the number of rows; return the classes."""
        if self.waiting:
            self.flush(self.waiting)
        if not self.written:
            raise ValueError("X: expected at least one row, got none")
        for array in self.arrays.values():
            array.resize((self.written, *array.shape[1:]))
        if "y" not in self.like or not _is_labels(self.like["y"]):
            return None
        classes = sorted(self.index)
        if classes != list(self.index):
            table = np.empty(len(classes), dtype=np.int32)
            table[[self.index[label] for label in classes]] = np.arange(len(classes), dtype=np.int32)
            y = self.arrays["y"]
            for start in range(0, self.written, (y.shards or y.chunks)[0]):
                stop = start + (y.shards or y.chunks)[0]
                y[start:stop] = table[np.asarray(y[start:stop])]
        return classes


def _sliced(columns: dict[str, Any], rows: int) -> Iterator[dict[str, np.ndarray]]:
    n = len(columns["X"])
    for start in range(0, n, rows):
        yield {
            name: _CHECKS[name](
                v.iloc[start : start + rows] if hasattr(v, "iloc") else v[start : start + rows]
            )
            for name, v in columns.items()
        }


def _streamed(items: Iterable[Any]) -> Iterator[tuple[dict[str, np.ndarray], list[str] | None]]:
    """Checked blocks of an iterable, each with its own column names if it is a DataFrame."""
    for number, item in enumerate(items):
        parts = item if isinstance(item, tuple) else (item,)
        if not 1 <= len(parts) <= 3:
            raise ValueError(
                f"block {number}: expected X, (X, y) or (X, y, sample_weight), got {len(parts)} parts"
            )
        checked = {
            name: _CHECKS[name](part, f"block {number} of {name}")
            for name, part in zip(NAMES, parts, strict=False)
            if part is not None
        }
        yield checked, _column_names(parts[0])


def _column_names(X: Any) -> list[str] | None:
    columns = list(X.columns) if hasattr(X, "iloc") and hasattr(X, "columns") else []
    return columns if columns and all(isinstance(c, str) for c in columns) else None


def _write_dask(group: zarr.Group, layout: _Layout, columns: dict[str, da.Array]) -> list[Any] | None:
    """Write from tasks of whole chunks (shards), everything in one compute; return the classes."""
    like = {name: _like(name, column) for name, column in columns.items()}  # refuses bad dtypes early
    columns = _known(columns)
    n, p = columns["X"].shape
    _check_lengths(columns)
    if n == 0 or p == 0:
        raise ValueError(f"X: expected at least one row and one column, got shape {(n, p)}")
    row_bytes = p * like["X"].itemsize
    rows = layout.rows(row_bytes)
    unit = rows * (layout.shards or 1)
    task_rows = unit * max(1, TASK_BYTES // (unit * row_bytes))
    index: dict[Any, int] = {}
    if "y" in columns and columns["y"].dtype.kind not in "iuf":
        blocks = columns["y"].rechunk((task_rows, *columns["y"].shape[1:])).to_delayed().ravel()
        found = compute(*(delayed(_labels_of)(block) for block in blocks))
        index = {label: i for i, label in enumerate(sorted(set().union(*found)))}
    targets: list[Any] = []
    sources = []
    for name, column in columns.items():
        dtype = np.dtype(np.int32) if name == "y" and index else like[name].dtype
        targets.append(layout.create(group, name, column.shape, dtype, rows))
        column = column.rechunk((task_rows, *column.shape[1:]))
        meta = np.empty((0,) * column.ndim, dtype)
        known = {"index": index} if name == "y" and index else {}
        sources.append(column.map_blocks(_checked, name, **known, dtype=dtype, meta=meta))
    with _own_threads(sources):
        da.store(sources, targets, lock=False)
    return list(index) or None


@contextmanager
def _own_threads(sources: list[da.Array]) -> Iterator[None]:
    # Dask's threads go on with their tasks after one has failed, and would write into the directory
    # that is being removed. A pool of our own is waited for.
    if get_scheduler(collections=sources) is not threaded.get or config.get("pool", None) is not None:
        yield
        return
    workers = config.get("num_workers", None) or CPU_COUNT
    with ThreadPoolExecutor(workers) as pool, config.set(pool=pool):
        yield


def _checked(block: Any, name: str, index: dict[Any, int] | None = None) -> np.ndarray:
    array = _CHECKS[name](block)
    return array if index is None else _codes(array, dict(index))


def _like(name: str, column: da.Array) -> np.ndarray:
    """No rows of what will be stored."""
    meta = column._meta
    if isinstance(meta, np.ndarray):
        meta = np.empty((0, *column.shape[1:]), meta.dtype)
    return _CHECKS[name](meta)


def _labels_of(block: Any) -> set[Any]:
    return set(np.unique(_targets(block)).tolist())


def _known(columns: dict[str, da.Array]) -> dict[str, da.Array]:
    """Columns whose chunk sizes are all known; one pass finds those that are not, for all columns
    at once.
    """
    unknown = {name: c for name, c in columns.items() if any(np.isnan(s) for s in c.chunks[0])}
    sizes = compute(
        *(
            [delayed(len)(b) for b in c.to_delayed().reshape(len(c.chunks[0]), -1)[:, 0]]
            for c in unknown.values()
        )
    )
    columns = dict(columns)
    for (name, c), lengths in zip(unknown.items(), sizes, strict=True):
        columns[name] = da.Array(c.dask, c.name, (tuple(lengths), *c.chunks[1:]), meta=c._meta)
    return columns


def _check_lengths(columns: dict[str, Any], where: str = "") -> None:
    n = len(columns["X"])
    for name, column in columns.items():
        if len(column) != n:
            raise ValueError(f"{name} has {len(column)} rows, X has {n}{where}; they must be equal")


def _checked_names(names: list[str] | None, p: int) -> list[str] | None:
    if names is None:
        return None
    if not all(isinstance(name, str) for name in names):
        raise TypeError(f"feature_names: expected a sequence of str, got {names!s:.80}")
    if len(names) != p:
        raise ValueError(f"feature_names: expected {p} names, one per column, got {len(names)}")
    return [str(name) for name in names]


def write_dataset(
    path: str | os.PathLike[str],
    X: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    feature_names: Iterable[str] | None = None,
    chunk_bytes: int = 8_000_000,
    codec: str = "lz4",
    shards: int | None = None,
    overwrite: bool = False,
) -> None:
    """Write a dataset as one zarr v3 group; it becomes valid last.

    Parameters
    ----------
    path : local path, or a URL that zarr understands. A local dataset is written beside `path` and
        renamed at the end, so that a failure leaves nothing behind. At a URL a failure leaves a
        group that `open_store` refuses.
    X : (n, p) numpy array, dask array or pandas DataFrame; or an iterable of blocks of rows, each
        `X_block`, `(X_block, y_block)` or `(X_block, y_block, weight_block)`, which is streamed:
        memory stays a few chunks. Real numbers of at most 64 bits, stored in their dtype; bool is
        stored as uint8.
    y : (n,) or (n, k). Numbers are stored as they are; bool and str as int32 codes of the sorted
        classes.
    sample_weight : (n,), finite, >= 0.
    feature_names : p strings; by default the columns of a DataFrame, if they are strings.
    chunk_bytes : bytes per chunk of X before compression; sets the rows per chunk of all arrays.
    codec : "lz4" or "zstd" (Blosc with bitshuffle), or "none". Each chunk ends with a crc32c in any
        case.
    shards : chunks per stored object, None for one.
    overwrite : replace an existing zarr group, once the new one is complete (at a URL: at once).

    Raises
    ------
    FileExistsError : `path` exists and `overwrite` is false, or it holds something that is no zarr
        group.
    TypeError, ValueError : a dtype, shape or value that cannot be stored; names the argument and
        the block.

    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/data.zarr"
    >>> blocks = ((np.full((3, 2), i), np.full(3, i % 2 == 0)) for i in range(4))
    >>> write_dataset(path, blocks, feature_names=["a", "b"])
    >>> stored = open_store(path)
    >>> stored.X.shape, stored.y.shape, stored.classes.tolist()
    ((12, 2), (12,), [False, True])
    """
    location, local = _located(path)
    layout = _Layout(chunk_bytes, codec, shards)
    columns = _columns(X, y, sample_weight)
    lazy = columns is not None and any(isinstance(column, da.Array) for column in columns.values())
    names = None if feature_names is None else list(feature_names)
    if isinstance(feature_names, str):
        raise TypeError(f"feature_names: expected a sequence of str, got {feature_names!r:.80}")
    if columns is not None:
        names = _checked_names(_column_names(X) if names is None else names, columns["X"].shape[1])
    with _place(location, local, overwrite) as group:
        group.attrs[KEY] = {"format": FORMAT}
        if columns is None:
            sink = _Sink(group, layout)
            for number, (blocks, own) in enumerate(_streamed(X)):
                sink.add(number, blocks)
                if number == 0:
                    names = _checked_names(own if names is None else names, blocks["X"].shape[1])
            classes = sink.finish()
        elif lazy:
            classes = _write_dask(group, layout, _as_dask(columns))
        else:
            sink = _Sink(group, layout)
            if "y" in columns and _is_labels(columns["y"]):
                _codes(np.unique(columns["y"]), sink.index)
            first = _matrix(columns["X"][:1])
            rows = layout.rows(max(1, first.shape[1] * first.itemsize)) * (shards or 1)
            for number, blocks in enumerate(_sliced(columns, rows)):
                sink.add(number, blocks)
            classes = sink.finish()
        _seal(group, names, classes)


def _columns(X: Any, y: Any, sample_weight: Any) -> dict[str, Any] | None:
    """X (sliceable), y and sample_weight (checked) by name, in memory or as dask arrays; None if X
    is a stream.
    """
    columns: dict[str, Any] = {}
    for name, value in zip(NAMES, (X, y, sample_weight), strict=True):
        if isinstance(value, zarr.Array):
            value = da.from_array(value)
        if is_dask_collection(value) and not isinstance(value, da.Array):
            raise TypeError(
                f"{name}: expected a dask array, got a dask {type(value).__name__}; pass "
                f"{name}.to_dask_array(lengths=True)"
            )
        if value is not None:
            columns[name] = value
    if "X" not in columns or isinstance(X, str | bytes | dict):
        raise TypeError(
            f"X: expected a 2-d array, a DataFrame or an iterable of blocks, got {type(X).__name__}"
        )
    X = columns["X"]
    if not isinstance(X, da.Array):
        arraylike = (
            hasattr(X, "iloc") or hasattr(X, "__array__") or type(X).__module__.startswith("scipy.sparse")
        )
        if not arraylike and not isinstance(X, Iterable):
            raise TypeError(
                f"X: expected a 2-d array, a DataFrame or an iterable of blocks, got {type(X).__name__}"
            )
        if not arraylike:
            if len(columns) > 1:
                raise ValueError(
                    "X is an iterable of blocks: expected y and sample_weight in its items, got arguments"
                )
            return None
        if not hasattr(X, "iloc") and not isinstance(X, np.ndarray):
            columns["X"] = X = _numpy(X, "X")
        if getattr(X, "ndim", 0) != 2:
            _matrix(X)
        _matrix(X[:0])
    elif np.isnan(X.shape[1:]).any():
        raise ValueError(f"X: expected a known number of columns, got shape {X.shape}")
    elif X.ndim != 2:
        raise ValueError(f"X: expected 2 dimensions (rows, features), got {X.ndim}, shape {X.shape}")
    for name in columns.keys() - {"X"}:
        if not isinstance(columns[name], da.Array):
            columns[name] = _CHECKS[name](columns[name])
    if not any(isinstance(column, da.Array) for column in columns.values()):
        _check_lengths(columns)
        if 0 in columns["X"].shape:
            raise ValueError(f"X: expected at least one row and one column, got shape {columns['X'].shape}")
    return columns


def _as_dask(columns: dict[str, Any]) -> dict[str, da.Array]:
    lazy = {}
    for name, column in columns.items():
        if not isinstance(column, da.Array):
            column = _CHECKS[name](column)
            rows = max(1, TASK_BYTES // max(1, column[:1].nbytes))
            column = da.from_array(column, chunks=(rows, *column.shape[1:]))
        lazy[name] = column
    return lazy


def _seal(group: zarr.Group, feature_names: list[str] | None, classes: list[Any] | None) -> None:
    """Write the mark: from here on the dataset is valid."""
    attributes = {
        "format": FORMAT,
        "feature_names": feature_names,
        "classes": classes,
        "shuffled": False,
    }
    arrays = list(_arrays(group).values())
    canonical, metadata = _digests(arrays, attributes)
    group.attrs[KEY] = {
        **attributes,
        "metadata": metadata,
        "complete": _fingerprint(arrays, canonical),
    }


@contextmanager
def _place(location: str, local: bool, overwrite: bool) -> Iterator[zarr.Group]:
    """A new group to write into, which takes its place only if the body succeeds (at a URL: at
    once).
    """
    target = os.path.realpath(location) if local else location
    store = None if local else zarr.storage.FsspecStore.from_url(location)
    held = _held(target if store is None else store)
    if held and not overwrite:
        raise FileExistsError(f"{location} exists; pass overwrite=True to replace it, or choose another path")
    if held == "other":
        raise FileExistsError(
            f"{location} exists and is not a zarr group, so it is not replaced; choose another path"
        )
    if store is not None:
        yield zarr.open_group(store, mode="w", zarr_format=3)
        return
    parent, name = os.path.split(target)
    os.makedirs(parent, exist_ok=True)
    partial = os.path.join(parent, f".{name}.{uuid.uuid4().hex}.partial")
    try:
        yield zarr.open_group(partial, mode="w-", zarr_format=3)
        _swap(partial, target, overwrite)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _held(place: str | zarr.storage.FsspecStore) -> str:
    """What is there already: "" (nothing), "group" or "other"."""
    if isinstance(place, str) and not os.path.lexists(place):
        return ""
    try:
        zarr.open_group(place, mode="r")
    except (FileNotFoundError, NotADirectoryError, zarr.errors.ContainsArrayError):
        if isinstance(place, str):
            return "other"

        async def any_key() -> bool:
            async for _ in place.list_prefix(""):
                return True
            return False

        return "other" if sync(any_key()) else ""
    return "group"


def _swap(partial: str, target: str, overwrite: bool) -> None:
    if not os.path.lexists(target):
        os.rename(partial, target)
        return
    if not overwrite:
        raise FileExistsError(
            f"{target} appeared while the dataset was written; pass overwrite=True to replace it"
        )
    old = partial.removesuffix(".partial") + ".old"
    os.rename(target, old)
    try:
        os.rename(partial, target)
    except BaseException:
        os.rename(old, target)
        raise
    shutil.rmtree(old)


# --- dask arrays that are zarr arrays ------------------------------------------------------------


def zarr_behind(x: da.Array) -> ZarrArray | None:
    """The zarr array that `x` reads whole and unchanged, whatever its dask chunks; None if it is
    anything else.

    True of `dask.array.from_zarr(...)` and `dask.array.from_array(zarr_array)` as they come, and of
    nothing computed from them: those can be read past dask, chunk by chunk.

    >>> z = zarr.array(np.arange(6.0).reshape(3, 2))
    >>> zarr_behind(da.from_zarr(z)) is z, zarr_behind(da.from_zarr(z)[:2])
    (True, None)
    """
    layers = getattr(getattr(x, "dask", None), "layers", {})
    read = layers.get(getattr(x, "name", None))
    if (
        not isinstance(read, Blockwise)
        or len(read.indices) != 2
        or read.new_axes
        or not isinstance(read.task, Task)
    ):
        return None
    indices: Any = read.indices
    (source, along), (slices, axes) = indices
    region = read.io_deps.get(slices) if isinstance(slices, str) else None
    if (
        read.task.func not in (getter, getter_inline, getter_nofancy)
        or along is not None
        or tuple(axes) != tuple(read.output_indices)
        or not isinstance(region, ArraySliceDep)
        or region.chunks != x.chunks
    ):
        return None
    others = {key: layer for key, layer in layers.items() if key != x.name}
    if isinstance(source, TaskRef):
        original = others.pop(source.key, None)
        source = original.mapping.get(source.key) if isinstance(original, MaterializedLayer) else None
    if others or not isinstance(source, zarr.Array) or source.shape != x.shape or source.dtype != x.dtype:
        return None
    return source
