"""Opening datasets: what is stored becomes columns, and what is half-written or altered is refused.

One zarr v3 group holds ``X (n, p)``, ``y (n,)`` or ``(n, k)`` and ``sample_weight (n,)``, chunked on rows
alike. A mark that is written last holds the checksums of everything, so that a half-written or altered
dataset is refused and a lost chunk is never read as data. Digests are in `checksums`; how a dataset is made
valid and verified is in `commit`, how arrays become whole chunks of rows in `writing`. Knows nothing of
models, blocks or engines.
"""

from __future__ import annotations

import glob
import logging
import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr
from zarr.storage import FsspecStore, LocalStore

from daskgd._compat.zarr import wait_for
from daskgd.storage.checksums import (
    LISTED,
    StoreError,
    ZarrArray,
    find_missing,
    location_of,
    metadata_digest,
)
from daskgd.storage.reading import StoredColumn
from daskgd.storage.redaction import redacted, redacted_message

FORMAT = 1
KEY = "daskgd"
"""The key of the mark among the attributes of a group."""

DIMENSIONS = {"X": (2,), "y": (1, 2), "sample_weight": (1,)}
"""Numbers of dimensions that each array may have."""

NAMES = tuple(DIMENSIONS)

logger = logging.getLogger(KEY)


def open_column(array: ZarrArray) -> StoredColumn:
    """The column of a zarr array: complete if it lies, unaltered, in a group that daskgd has marked."""
    _check_regular(location_of(array.store_path), array)
    ours = _has_mark(array)
    if not ours:
        _warn_of_missing(location_of(array.store_path), array, find_missing(array))
    return StoredColumn(array, ours)


def _has_mark(array: ZarrArray) -> bool:
    """Whether the group around an array has a mark of daskgd's that matches its metadata."""
    place = array.store_path
    store, (parent, _, name) = place.store, place.path.rpartition("/")
    if not name and isinstance(store, LocalStore):
        store, name = LocalStore(store.root.parent, read_only=True), store.root.name
    elif not name and isinstance(store, FsspecStore):
        above, _, name = store.path.rpartition("/")
        store = FsspecStore(store.fs, read_only=True, path=above)
    if name not in NAMES:
        return False
    try:
        group = zarr.open_group(store, path=parent, mode="r", use_consolidated=False)
        said: Any = group.attrs.asdict().get(KEY)
        ours = isinstance(said, dict) and said.get("format") == FORMAT and bool(said.get("complete"))
        return ours and said["complete"][:16] == metadata_digest(arrays_of(location_of(place), group), said)
    except Exception:  # no group, or one that cannot be read, has no mark
        return False


@dataclass(frozen=True, slots=True, eq=False)
class OpenedStore:
    """An open dataset: its columns, its attributes, and its codec in words.

    `fingerprint` (32 hex digits) names the data: half of it is a digest of the metadata, half of the
    checksums of all chunks. It is None for a group that daskgd did not write.
    """

    path: str = field(repr=False)
    X: StoredColumn
    y: StoredColumn | None
    sample_weight: StoredColumn | None
    feature_names: tuple[str, ...] | None
    classes: np.ndarray | None
    fingerprint: str | None
    shuffled: bool
    codec: str


def open_store(path: str | os.PathLike[str], *, storage_options: dict[str, Any] | None = None) -> OpenedStore:
    """Open a dataset: one written by `write_dataset`, or any zarr group that holds `X` (2-d) and perhaps `y`
    and `sample_weight` of equal length.

    Raises
    ------
    StoreError : `path` does not exist, is no zarr group or one that cannot be read, holds no X, is
        half-written, has lost its mark, or its metadata or its number of chunks do not match that.

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
        raise StoreError(
            f"{location}: no such file or directory; expected a zarr group that holds X"
            f"{_find_left_behind(location)}"
        )
    try:
        return _open(location, storage_options)
    except StoreError:
        raise
    except Exception as error:  # zarr, codecs and file systems raise all kinds, at metadata and connections
        raise StoreError(
            f"{location}: expected a zarr group that holds X, cannot open one: "
            f"{redacted_message(error, storage_options)}"
        ) from (None if "://" in location else error)


def _find_left_behind(location: str) -> str:
    """Words on a dataset that an overwrite, killed as it renamed, has left beside `location`; else ""."""
    parent, name = os.path.split(os.path.realpath(location))
    old = glob.glob(f".{glob.escape(name)}.*.partial.old", root_dir=parent, include_hidden=True)
    text = "; the dataset that was there before an interrupted overwrite is {}: rename it"
    return text.format(os.path.join(parent, old[0])) if old else ""


def _open(location: str, storage_options: dict[str, Any] | None) -> OpenedStore:
    # Consolidated metadata are copies of those of the arrays: no checksum covers them, and they go stale.
    group = zarr.open_group(location, mode="r", storage_options=storage_options, use_consolidated=False)
    mark: Any = group.attrs.asdict().get(KEY)
    ours = KEY in group.attrs
    said: dict[str, Any] = mark if isinstance(mark, dict) else {}
    if ours and not said.get("complete"):
        raise StoreError(f"{location}: half-written, the writing never ended; write it with overwrite=True")
    if ours and said.get("format") != FORMAT:
        raise StoreError(
            f"{location}: expected format {FORMAT}, got {said.get('format')!r:.80}; update daskgd to read it"
        )
    arrays = arrays_of(location, group)
    if "X" not in arrays:
        raise StoreError(f"{location}: expected an array X in the group, found none")
    for name, array in arrays.items():
        _check_array(f"{location}, array {name}", name, array, arrays["X"].shape[0])
    if ours and str(said["complete"])[:16] != metadata_digest(arrays, said):
        raise StoreError(
            f"{location}: the metadata of {', '.join(arrays)} or the attributes were altered after the "
            "dataset was completed; restore them, or write the dataset again"
        )
    if not ours and any(KEY in array.attrs for array in arrays.values()):
        raise StoreError(
            f"{location}: daskgd wrote these arrays, but the mark of their group is gone, and with it the "
            "classes and checksums; restore zarr.json, or write the dataset again; if another program made "
            f"this copy, remove the attribute {KEY!r} of its arrays"
        )
    for name, array in arrays.items():
        lost = find_missing(array)
        if lost and ours:
            first, row = lost[0]
            rows = f"rows {row}:{min(row + (array.shards or array.chunks)[0], array.shape[0])}"
            raise StoreError(
                f"{location}, array {name}: {_count_in_words(lost)} chunks are missing, the first is "
                f"{first}, {rows}; restore them from a copy, or write the dataset again"
            )
        if not ours:
            _warn_of_missing(f"{location}, array {name}", array, lost)
    columns = {name: StoredColumn(array, complete=ours) for name, array in arrays.items()}
    names, classes = said.get("feature_names"), said.get("classes")
    return OpenedStore(
        path=location,
        X=columns["X"],
        y=columns.get("y"),
        sample_weight=columns.get("sample_weight"),
        feature_names=None if names is None else tuple(names),
        classes=None if classes is None else np.array(classes),
        fingerprint=said.get("complete"),
        shuffled=bool(said.get("shuffled", False)),
        codec=_describe_codecs(arrays["X"]),
    )


def locate(path: str | os.PathLike[str]) -> str:
    """A path as text: a local one, or a URL."""
    location = os.fspath(path)
    if not isinstance(location, str):
        raise TypeError(f"path: expected str or PathLike of str, got {type(location).__name__}")
    return location.removeprefix("file://")


def arrays_of(location: str, group: zarr.Group) -> dict[str, ZarrArray]:
    """The arrays of a dataset by name.

    Raises StoreError for one that is there but cannot be opened: a fit without its weights would look well.
    """
    found: dict[str, ZarrArray] = {}
    for name in NAMES:
        try:
            member = group[name]
        except Exception as error:
            if isinstance(error, KeyError) and name not in _list_names(group):  # else its metadata lack a key
                continue
            raise StoreError(
                f"{location}, array {name}: its metadata cannot be read: {redacted_message(error)}; "
                "restore them"
            ) from None
        if not isinstance(member, zarr.Array):
            raise StoreError(f"{location}, array {name}: expected an array, got a group")
        found[name] = member
    return found


def _list_names(group: zarr.Group) -> set[str]:
    place = group.store_path

    async def names() -> set[str]:
        return {name.rstrip("/") async for name in place.store.list_dir(place.path)}

    return wait_for(names()) if place.store.supports_listing else set()


def _count_in_words(lost: list[tuple[str, int]]) -> str:
    return f"{LISTED} or more" if len(lost) == LISTED else str(len(lost))


def _warn_of_missing(name: str, array: ZarrArray, lost: list[tuple[str, int]]) -> None:
    if lost and array.fill_value == array.fill_value:  # not NaN, which a fit refuses
        logger.warning(
            redacted(
                f"{name}: {_count_in_words(lost)} chunks are not stored (the first is {lost[0][0]}) and read "
                f"as {array.fill_value}; zarr leaves out empty chunks, but lost ones look the same"
            )
        )


def _check_regular(where: str, array: ZarrArray) -> None:
    """Refuse chunks of several sizes, which zarr has from 3.2 on."""
    try:
        _ = array.chunks
    except NotImplementedError:
        raise StoreError(
            f"{where}: expected chunks of one size, got a rectilinear chunk grid; write the array again in "
            "regular chunks, as daskgd.write_dataset does"
        ) from None


def _check_array(where: str, name: str, array: ZarrArray, n: int) -> None:
    _check_regular(where, array)
    if array.ndim not in DIMENSIONS[name] or array.dtype.kind not in "iufb":
        raise StoreError(
            f"{where}: expected {' or '.join(map(str, DIMENSIONS[name]))} dimensions of numbers, got shape "
            f"{array.shape}, dtype {array.dtype}"
        )
    if min(array.shards or array.chunks) < 1 or min(array.shape) < 0:
        raise StoreError(f"{where}: expected chunks of at least one row, got {array.shards or array.chunks}")
    if array.shape[0] != n:
        raise StoreError(f"{where}: X has {n} rows, {name} has {array.shape[0]}; they must be equal")


BLOSC_SHUFFLES = {0: "noshuffle", 1: "shuffle", 2: "bitshuffle", -1: "autoshuffle"}
"""Names of shuffles in version 3 of zarr's format by their numbers in version 2."""


def _describe_codec(codec: Any) -> str:
    """A codec in words, by what is stored of it: that is specified, the attributes of its class are not.

    >>> _describe_codec(zarr.codecs.BloscCodec(cname="zstd", shuffle="shuffle"))
    'blosc zstd shuffle'
    """
    said = codec.to_dict() if hasattr(codec, "to_dict") else codec.get_config()  # of version 2
    name, settings = str(said.get("name", said.get("id"))), said.get("configuration", said)
    if name != "blosc":
        return name
    shuffle = settings["shuffle"]
    return f"blosc {settings['cname']} {BLOSC_SHUFFLES.get(shuffle, shuffle)}"


def _describe_codecs(array: ZarrArray) -> str:
    words = [_describe_codec(codec) for codec in array.compressors]
    if array.shards is not None:
        words.append(f"in shards of {array.shards[0] // array.chunks[0]} chunks")
    return ", ".join(words) or "none"
