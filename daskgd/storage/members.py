"""The arrays and groups that a dataset is stored in, and whether they match each other.

Only metadata are looked at. How they become columns is in `opening`, what the mark says of them in `commit`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import zarr

from daskgd._compat.zarr import wait_for
from daskgd.storage.checksums import SPARSE_PARTS, Members, StoreError, ZarrArray, only_arrays
from daskgd.storage.csc_reading import CSC
from daskgd.storage.dictionaries import CATEGORIES, CODES, arrays_of, entries_of
from daskgd.storage.redaction import redacted_message
from daskgd.storage.sparse_reading import ENCODING

FORMAT, CATEGORICAL_FORMAT = 1, 2
"""Versions of what a group holds: numbers; and codes, which only readers of the second know."""

KEY = "daskgd"
"""The key of the mark among the attributes of a group."""

DIMENSIONS = {"X": (2,), "y": (1, 2), "sample_weight": (1,), "offset": (1,)}
"""Numbers of dimensions that each array may have."""

NAMES = tuple(DIMENSIONS)

FOREIGN_NAMES = ("X", "y", "sample_weight")
"""Those that are taken from groups which daskgd did not write, where an offset may be anything."""


def members_of(location: str, group: zarr.Group, format: int = FORMAT) -> Members:
    """The arrays of a dataset by name, and groups of arrays before those in them: sparse X, and dictionaries.

    Raises StoreError for one that is there but cannot be opened: a fit without its weights would look well.
    """
    found: Members = {}
    for name in NAMES if KEY in group.attrs else FOREIGN_NAMES:
        member = _member(location, group, name, name)
        if isinstance(member, zarr.Group) and name != "X":
            raise StoreError(f"{location}, array {name}: expected an array, got a group")
        if member is not None:
            found[name] = member
        if isinstance(member, zarr.Group):
            _check_encoding(f"{location}, group {name}", member)
            found |= _arrays_in(location, member, name, SPARSE_PARTS)
        if name == "X" and format == CATEGORICAL_FORMAT:
            found |= _members_of_codes(location, group)
    return found


def _members_of_codes(location: str, group: zarr.Group) -> Members:
    """The array of codes, and the group of dictionaries with what is in it."""
    found: Members = _arrays_in(location, group, "", (CODES,))
    found[CATEGORIES] = inner = _group_in(location, group, CATEGORIES)
    for name, parts in arrays_of(entries_of(f"{location}, group {CATEGORIES}", inner)):
        place = f"{CATEGORIES}/{name}"
        found[place] = long = _group_in(location, group, place)
        found |= _arrays_in(location, long, place, parts)
    return found


def _group_in(location: str, group: zarr.Group, name: str) -> zarr.Group:
    member = _member(location, group, name, name)
    if not isinstance(member, zarr.Group):
        raise StoreError(
            f"{location}: expected a group {name}, {'found none' if member is None else 'got an array'}"
        )
    return member


def _arrays_in(location: str, group: zarr.Group, name: str, parts: Iterable[str]) -> Members:
    """The arrays of a group, all of which are to be there, by their full names."""
    found: Members = {}
    for part in parts:
        full_name = f"{name}/{part}" if name else part
        array = _member(location, group, part, full_name)
        if not isinstance(array, zarr.Array):
            raise StoreError(
                f"{location}{f', group {name}' if name else ''}: expected an array {part}, "
                f"{'found none' if array is None else 'got a group'}"
            )
        found[full_name] = array
    return found


def _member(
    location: str, group: zarr.Group, name: str, full_name: str
) -> zarr.Array[Any] | zarr.Group | None:
    """A member of a group; None if it is not there."""
    try:
        return group[name]
    except Exception as error:
        if isinstance(error, KeyError) and name not in _list_names(group):  # else its metadata lack a key
            return None
        raise StoreError(
            f"{location}, array {full_name}: its metadata cannot be read: {redacted_message(error)}; "
            "restore them"
        ) from None


def _check_encoding(where: str, group: zarr.Group) -> None:
    """Refuse a group that holds neither sparse rows nor sparse columns."""
    found = encoding_of(group)
    if found not in (ENCODING["encoding-type"], CSC):
        raise StoreError(
            f"{where}: expected an array, or a group with encoding-type csr_matrix or {CSC}, got one with "
            f"{found!r:.80}"
        )


def encoding_of(group: zarr.Group | zarr.Array[Any]) -> Any:
    """What AnnData says that a group holds."""
    return group.attrs.asdict().get("encoding-type")


def check_shapes(location: str, members: Members) -> int:
    """The number of rows, of arrays that match each other."""
    arrays = only_arrays(members)
    n = None
    if "X" in members:
        n, _ = _check_X(f"{location}, array X", members)
    if CODES in arrays:
        n = _check_codes(f"{location}, array {CODES}", arrays[CODES], n)
    assert n is not None
    for name, array in arrays.items():
        if name in DIMENSIONS:
            _check_array(f"{location}, array {name}", name, array, n)
        elif name.startswith(f"{CATEGORIES}/"):
            _check_values(f"{location}, array {name}", array)
    return n


def _check_codes(where: str, array: ZarrArray, n: int | None) -> int:
    """The number of rows of codes, which are as many as X has, `n` if there is one."""
    check_regular(where, array)
    if array.ndim != 2 or array.dtype.kind != "i":
        raise StoreError(
            f"{where}: expected 2 dimensions of whole numbers, got shape {array.shape}, dtype {array.dtype}"
        )
    if min(array.shards or array.chunks) < 1 or min(array.shape) < 0:
        raise StoreError(f"{where}: expected chunks of at least one row, got {array.shards or array.chunks}")
    if n is not None and array.shape[0] != n:
        raise StoreError(f"{where}: X has {n} rows, {CODES} has {array.shape[0]}; they must be equal")
    return int(array.shape[0])


def _check_values(where: str, array: ZarrArray) -> None:
    check_regular(where, array)
    if array.ndim != 1 or array.dtype.kind not in "iuf" or min(array.shards or array.chunks) < 1:
        raise StoreError(
            f"{where}: expected numbers in one dimension, got shape {array.shape}, dtype {array.dtype}"
        )


def _check_X(where: str, members: Members) -> tuple[int, int]:
    """The shape of X, of arrays that match each other."""
    X = members["X"]
    if isinstance(X, zarr.Array):
        _check_array(where, "X", X, X.shape[0] if X.ndim else 0)
        n, p = X.shape
        return n, p
    said = X.attrs.asdict().get("shape")
    if not (isinstance(said, list) and len(said) == 2 and all(type(m) is int and m >= 0 for m in said)):
        raise StoreError(f"{where}: expected an attribute shape of two numbers, got {said!r:.80}")
    inside = only_arrays(members)
    arrays = {part: inside[f"X/{part}"] for part in SPARSE_PARTS}
    n, p = said
    bounds = (p if encoding_of(X) == CSC else n) + 1
    for part, array in arrays.items():
        check_regular(f"{where}/{part}", array)
        length = bounds if part == "indptr" else arrays["data"].shape[0] if arrays["data"].shape else 0
        kinds = "iufb" if part == "data" else "iu"
        unknown = (
            array.dtype.kind not in kinds or array.dtype.itemsize > 8 or array.dtype == np.float16
        )  # scipy's
        if array.shape != (length,) or unknown:
            raise StoreError(
                f"{where}/{part}: expected {length} numbers{'' if part == 'data' else ', whole ones'}, got "
                f"shape {array.shape}, dtype {array.dtype}"
            )
        if min(array.shards or array.chunks) < 1:
            raise StoreError(f"{where}/{part}: expected chunks of at least one element, got {array.chunks}")
    return n, p


def _list_names(group: zarr.Group) -> set[str]:
    place = group.store_path

    async def names() -> set[str]:
        return {name.rstrip("/") async for name in place.store.list_dir(place.path)}

    return wait_for(names()) if place.store.supports_listing else set()


def check_regular(where: str, array: ZarrArray) -> None:
    """Refuse chunks of several sizes, which zarr has from 3.2 on."""
    try:
        _ = array.chunks
    except NotImplementedError:
        raise StoreError(
            f"{where}: expected chunks of one size, got a rectilinear chunk grid; write the array again in "
            "regular chunks, as daskgd.write_dataset does"
        ) from None


def _check_array(where: str, name: str, array: ZarrArray, n: int) -> None:
    check_regular(where, array)
    if array.ndim not in DIMENSIONS[name] or array.dtype.kind not in "iufb":
        raise StoreError(
            f"{where}: expected {' or '.join(map(str, DIMENSIONS[name]))} dimensions of numbers, got shape "
            f"{array.shape}, dtype {array.dtype}"
        )
    if min(array.shards or array.chunks) < 1 or min(array.shape) < 0:
        raise StoreError(f"{where}: expected chunks of at least one row, got {array.shards or array.chunks}")
    if array.shape[0] != n:
        raise StoreError(f"{where}: X has {n} rows, {name} has {array.shape[0]}; they must be equal")
