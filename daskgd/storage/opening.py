"""Opening datasets: what is stored becomes columns, and what is half-written or altered is refused.

One zarr v3 group holds ``X (n, p)``, ``y (n,)`` or ``(n, k)``, ``sample_weight (n,)`` and ``offset (n,)``,
chunked on rows alike; sparse X is a group in AnnData's encoding ``csr_matrix``, or of others ``csc_matrix``.
Categorical features are ``codes (n, k)``, after X or in its place, with a group of what they stand for. A
mark that is written last holds the checksums of everything, so that a half-written or altered dataset is
refused and a lost chunk is never read as data. Digests are in `checksums`; how a dataset is made valid and
verified is in `commit`, how arrays become whole chunks of rows in `writing`. Knows nothing of models, blocks
or engines.
"""

from __future__ import annotations

import glob
import logging
import os
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import zarr
from zarr.storage import FsspecStore, LocalStore, StorePath

from daskgd._compat.zarr import reopen
from daskgd.rows.dictionaries import Dictionaries
from daskgd.storage.access import remember
from daskgd.storage.anndata import open_target
from daskgd.storage.categorical_reading import StoredCategoricalColumn
from daskgd.storage.checksums import (
    LISTED,
    SPARSE_PARTS,
    Members,
    StoreError,
    ZarrArray,
    find_missing,
    group_around,
    location_of,
    metadata_digest,
    only_arrays,
)
from daskgd.storage.csc_reading import CSC, StoredCsc
from daskgd.storage.dictionaries import CATEGORIES, CODES, open_dictionaries
from daskgd.storage.members import CATEGORICAL_FORMAT as CATEGORICAL_FORMAT
from daskgd.storage.members import DIMENSIONS as DIMENSIONS
from daskgd.storage.members import FOREIGN_NAMES as FOREIGN_NAMES
from daskgd.storage.members import FORMAT as FORMAT
from daskgd.storage.members import KEY as KEY
from daskgd.storage.members import NAMES as NAMES
from daskgd.storage.members import check_regular, check_shapes, encoding_of, members_of
from daskgd.storage.packing import PackedColumn, open_array
from daskgd.storage.paths import check_options, is_url, locate
from daskgd.storage.reading import StoredColumn
from daskgd.storage.redaction import redacted, redacted_message
from daskgd.storage.remote import as_remote, open_remote
from daskgd.storage.sparse_reading import StoredSparseColumn
from daskgd.storage.surveys import GROUP, SurveyRecord, read_survey

AnyStoredColumn: TypeAlias = StoredColumn | StoredSparseColumn | StoredCsc | StoredCategoricalColumn

logger = logging.getLogger(KEY)


def open_column(array: ZarrArray) -> StoredColumn:
    """The column of a zarr array: complete if it lies, unaltered, in a group that daskgd has marked; else
    decoded if it is packed."""
    array = _that_travels(array)
    check_regular(location_of(array.store_path), array)
    mark = _mark_around(array)
    column = open_array(array, mark is not None, mark)
    if mark is None:
        _warn_of_missing(location_of(array.store_path), column, find_missing(array))
    remember(array, mark)
    return column


def _that_travels(array: ZarrArray) -> ZarrArray:
    """The array, which other processes find: zarr keeps the path of a store on disk as it was given, and
    opens a connection for each thread where a store at a URL arrives."""
    place = array.store_path
    store: Any = place.store
    if isinstance(store, LocalStore) and not store.root.is_absolute():
        store = LocalStore(locate(store.root), read_only=store.read_only)
    elif isinstance(store, FsspecStore):
        store = as_remote(store)
    return array if store is place.store else reopen(array, StorePath(store, place.path))


def _mark_around(array: ZarrArray) -> str | None:
    """The mark of daskgd's that the group around an array has, if it matches its metadata."""
    place, name = group_around(array.store_path)
    if name not in (*NAMES, CODES):
        return None
    try:
        group = zarr.open_group(place, mode="r", use_consolidated=False)
        said: Any = group.attrs.asdict().get(KEY)
        if said.get("format") not in (FORMAT, CATEGORICAL_FORMAT):
            return None
        mark, members = said.get("complete"), members_of(location_of(place), group, said["format"])
        ours = mark and mark[:16] == metadata_digest(members, said)
        return str(mark) if ours else None
    except Exception:  # no group, or one that cannot be read, has no mark
        return None


@dataclass(frozen=True, slots=True, eq=False)
class OpenedStore:
    """An open dataset: its columns, its attributes, and its codec in words.

    `fingerprint` (32 hex digits) names the data: half of it is a digest of the metadata, half of the
    checksums of all chunks. It is None for a group that daskgd did not write. `feature_names` are those of
    numbers where there are `dictionaries`, which say what codes stand for. `schema` is what the columns were
    where the rows come from, as JSON, if that is known. `parts` are all arrays by name, in the order
    of their checksums, each with the column whose rows depend on it. `survey` is what the dataset carries of
    itself, if it does.
    """

    path: str = field(repr=False)
    X: AnyStoredColumn
    y: StoredColumn | None
    sample_weight: StoredColumn | None
    offset: StoredColumn | None
    feature_names: tuple[str, ...] | None
    classes: np.ndarray | None
    fingerprint: str | None
    shuffled: bool
    codec: str
    dictionaries: Dictionaries | None = field(default=None, repr=False)
    schema: Any = field(default=None, repr=False)
    parts: dict[str, tuple[AnyStoredColumn, StoredColumn]] = field(default_factory=dict, repr=False)
    survey: SurveyRecord | None = field(default=None, repr=False)


def open_store(
    path: str | os.PathLike[str],
    *,
    target: str | None = None,
    storage_options: dict[str, Any] | None = None,
    survey: bool = True,
) -> OpenedStore:
    """Open a dataset: one written by `write_dataset`, or any zarr group that holds `X` (2-d, or sparse in
    AnnData's encoding) and perhaps `y` and `sample_weight` of equal length. Of one that AnnData wrote
    `target` names a column of `obs`, which stands in for `y`. `survey` says whether the one that it may carry
    is read, and every chunk compared with it.

    Raises
    ------
    StoreError : `path` does not exist, is no zarr group or one that cannot be read, holds no X, is
        half-written, has lost its mark, or its metadata or its number of chunks do not match that.
    ValueError : `storage_options` for a path on disk.

    >>> import tempfile
    >>> from daskgd import write_dataset
    >>> path = tempfile.mkdtemp() + "/data.zarr"
    >>> write_dataset(path, np.eye(4), np.array(["a", "b", "a", "b"]))
    >>> stored = open_store(path)
    >>> stored.X.shape, stored.classes.tolist(), stored.y.read(0, 4).tolist(), stored.codec
    ((4, 4), ['a', 'b'], [0, 1, 0, 1], 'blosc lz4 bitshuffle, crc32c')
    """
    location = locate(path)
    check_options(location, storage_options)
    if not is_url(location) and not os.path.exists(location):
        raise StoreError(
            f"{location}: no such file or directory; expected a zarr group that holds X"
            f"{_find_left_behind(location)}"
        )
    try:
        return _open(location, target, storage_options, survey)
    except StoreError:
        raise
    except Exception as error:  # zarr, codecs and file systems raise all kinds, at metadata and connections
        raise StoreError(
            f"{location}: expected a zarr group that holds X, cannot open one: "
            f"{redacted_message(error, storage_options)}"
        ) from (None if is_url(location) else error)


def _find_left_behind(location: str) -> str:
    """Words on a dataset that an overwrite, killed as it renamed, has left beside `location`; else ""."""
    parent, name = os.path.split(os.path.realpath(location))
    old = glob.glob(f".{glob.escape(name)}.*.partial.old", root_dir=parent, include_hidden=True)
    text = "; the dataset that was there before an interrupted overwrite is {}: rename it"
    return text.format(os.path.join(parent, old[0])) if old else ""


def fingerprint_of(location: str, storage_options: dict[str, Any] | None) -> str | None:
    """What the mark of the dataset at a path or URL says, whatever survey is beside it; None without a mark.

    Raises StoreError as `open_store`.
    """
    try:
        place = open_remote(location, storage_options, read_only=True) if is_url(location) else location
        mark = zarr.open_group(place, mode="r", use_consolidated=False).attrs.asdict().get(KEY)
    except Exception:  # of all kinds: `open_store` says which, in a sentence
        return open_store(location, storage_options=storage_options).fingerprint
    return mark.get("complete") if isinstance(mark, dict) else None


def _open(
    location: str, target: str | None, storage_options: dict[str, Any] | None, surveyed: bool
) -> OpenedStore:
    # Consolidated metadata are copies of those of the arrays: no checksum covers them, and they go stale.
    place = open_remote(location, storage_options, read_only=True) if is_url(location) else location
    group = zarr.open_group(place, mode="r", use_consolidated=False)
    mark: Any = group.attrs.asdict().get(KEY)
    ours = KEY in group.attrs
    said: dict[str, Any] = mark if isinstance(mark, dict) else {}
    if ours and not said.get("complete"):
        raise StoreError(f"{location}: half-written, the writing never ended; write it with overwrite=True")
    if ours and said.get("format") not in (FORMAT, CATEGORICAL_FORMAT):
        raise StoreError(
            f"{location}: expected format {FORMAT} or {CATEGORICAL_FORMAT}, got {said.get('format')!r:.80}; "
            "update daskgd to read it"
        )
    members = members_of(location, group, said["format"] if ours else FORMAT)
    if "X" not in members and CODES not in members:
        raise StoreError(f"{location}: expected an array X in the group, found none")
    arrays = only_arrays(members)
    n = check_shapes(location, members)
    if ours and str(said["complete"])[:16] != metadata_digest(members, said):
        raise StoreError(
            f"{location}: the metadata of {', '.join(members)} or the attributes were altered after the "
            "dataset was completed; restore them, or write the dataset again"
        )
    if not ours and any(KEY in array.attrs for array in arrays.values()):
        raise StoreError(
            f"{location}: daskgd wrote these arrays, but the mark of their group is gone, and with it the "
            "classes and checksums; restore zarr.json, or write the dataset again; if another program made "
            f"this copy, remove the attribute {KEY!r} of its arrays"
        )
    survey = None
    if ours and surveyed:
        with suppress(FileNotFoundError):
            survey = read_survey(group.store_path / GROUP, said["complete"])
    stored = {}
    for name, array in arrays.items():
        checksums = None if survey is None else survey.checksums_of(name, array)
        stored[name] = open_array(array, ours, said.get("complete"), checksums)
    for part in SPARSE_PARTS:
        packed = stored.get(f"X/{part}")
        if isinstance(packed, PackedColumn):
            raise StoreError(
                f"{location}, array X/{part}: expected the numbers themselves, got packed ones "
                f"({', '.join(packed.packing.names)}); decode them and write the group again"
            )
    columns: dict[str, AnyStoredColumn] = {name: stored[name] for name in NAMES if name in stored}
    if "X/data" in stored:
        parts = {part: stored[f"X/{part}"] for part in SPARSE_PARTS}
        shape: Any = members["X"].attrs.asdict()["shape"]
        if encoding_of(members["X"]) == CSC:
            columns["X"] = StoredCsc(StoredSparseColumn(**parts, n_columns=shape[0]))
        else:
            columns["X"] = StoredSparseColumn(**parts, n_columns=shape[1])
    dictionaries = None
    if CODES in stored:
        columns["X"], dictionaries = _open_codes(location, members, stored, columns.get("X"), said)
    owners = {name: columns.get(name, columns["X"]) for name in stored}
    for name, array in arrays.items():
        lost = find_missing(array)
        if lost and ours:
            _refuse_missing(f"{location}, array {name}", owners[name], stored[name], lost)
        if not ours:
            _warn_of_missing(f"{location}, array {name}", stored[name], lost)
    for array in arrays.values():
        remember(array, said.get("complete"))
    names, classes = said.get("feature_names"), said.get("classes")
    y, labels = stored.get("y"), None if classes is None else np.array(classes)
    if target is not None:
        y, labels = open_target(location, group, target, n, ours)
    return OpenedStore(
        path=location,
        X=columns["X"],
        y=y,
        sample_weight=stored.get("sample_weight"),
        offset=stored.get("offset"),
        feature_names=None if names is None else tuple(names),
        classes=labels,
        fingerprint=said.get("complete"),
        shuffled=bool(said.get("shuffled", False)),
        codec=_describe_codecs(next(arrays[name] for name in ("X", "X/data", CODES) if name in arrays)),
        dictionaries=dictionaries,
        schema=said.get("schema"),
        parts={name: (owners[name], part) for name, part in stored.items()},
        survey=survey,
    )


def _open_codes(
    location: str,
    members: Members,
    stored: dict[str, StoredColumn],
    numbers: Any,
    said: dict[str, Any],
) -> tuple[StoredCategoricalColumn, Dictionaries]:
    """The column of codes, and what they stand for."""
    group, codes, where = members[CATEGORIES], stored[CODES], f"{location}, group {CATEGORIES}"
    assert isinstance(group, zarr.Group)
    n_numeric = 0 if numbers is None else numbers.shape[1]
    dictionaries, dtype = open_dictionaries(
        where, group, stored, said.get("feature_names"), n_numeric, codes.shape[0]
    )
    sizes = tuple(map(len, dictionaries.columns))
    if len(sizes) != codes.shape[1]:
        raise StoreError(f"{where}: expected {codes.shape[1]} columns, as {CODES} has, got {len(sizes)}")
    return StoredCategoricalColumn(codes, sizes, dtype, numbers), dictionaries


def _refuse_missing(
    where: str, column: AnyStoredColumn, part: StoredColumn, lost: list[tuple[str, int]]
) -> None:
    first, at = lost[0]
    stop = min(at + part.chunk_rows, part.shape[0])
    rows = column.locate(part, at, stop)
    what = f"entries {at}:{stop}" if rows is None else "rows {}:{}".format(*rows)
    raise StoreError(
        f"{where}: {_count_in_words(lost)} chunks are missing, the first is {first}, {what}; restore them "
        "from a copy, or write the dataset again"
    )


def _count_in_words(lost: list[tuple[str, int]]) -> str:
    return f"{LISTED} or more" if len(lost) == LISTED else str(len(lost))


def _warn_of_missing(name: str, column: StoredColumn, lost: list[tuple[str, int]]) -> None:
    if lost and column.fill_value == column.fill_value:  # not NaN, which a fit refuses
        logger.warning(
            redacted(
                f"{name}: {_count_in_words(lost)} chunks are not stored (the first is {lost[0][0]}) and read "
                f"as {column.fill_value}; zarr leaves out empty chunks, but lost ones look the same"
            )
        )


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
