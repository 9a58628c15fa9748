"""Dictionaries of categorical columns on disk: short ones in the attributes of the group ``categories``, long
ones in arrays of their own, below the number of their column.

    categories            attributes: dtype, columns: [{name, n_categories, categories or stored}, ...]
    categories/3/values   numbers, one for each category; or
    categories/3/text     UTF-8, of all categories one after the other, and
    categories/3/ends     where each ends in it
    categories/3/counts   how many rows have each; of short dictionaries in the entry, too

An entry without categories is of a column whose categories are known by their number alone. How codes are
read is in `categorical_reading`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr

from daskgd.rows.dictionaries import Dictionaries, Dictionary
from daskgd.storage.checksums import StoreError, ZarrArray
from daskgd.storage.reading import ChunkError, StoredColumn

CODES, CATEGORIES = "codes", "categories"
"""Names of the array of codes, and of the group of dictionaries."""

DICTIONARY_PARTS = (("values",), ("ends", "text"))
"""Names of the arrays that hold a long dictionary: of numbers, and of text."""

COUNTS = "counts"
"""The name of the array of counts beside them, and of short ones in the attributes."""

INLINE_BYTES = 4096
"""Bytes of a dictionary, as JSON, up to which it stands in the attributes."""

KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "bool": (bool, np.bool_),
    "whole numbers": (int, np.integer),
    "numbers": (float, np.floating),
}
"""Kinds of categories that can be stored; a bool is an int, too, and is found first."""

# -- writing --------------------------------------------------------------------------------------


def check_dictionaries(dictionaries: Dictionaries) -> None:
    """Raise TypeError for categories that cannot be stored, ValueError for names that come twice."""
    names = [column.name for column in dictionaries.columns]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"columns: expected distinct names of columns of codes, got {twice!r} twice")
    for column in dictionaries.columns:
        if not isinstance(column.categories, StoredCategoryValues):
            _kind(column)


def _kind(column: Dictionary) -> str:
    """The kind of the categories of a column."""
    found = {kind for known in set(map(type, column.categories)) for kind in [_kind_of(known, column)]}
    if len(found) > 1:
        raise TypeError(
            f"categories: expected those of column {column.name!r} to be all text or all numbers, got "
            f"{' and '.join(sorted(found))}; convert them, as in [str(c) for c in categories]"
        )
    return found.pop() if found else "text"


def _kind_of(kind: type, column: Dictionary) -> str:
    for name, types in KINDS.items():
        if issubclass(kind, types):
            return name
    raise TypeError(
        f"categories: expected text, numbers or bool in column {column.name!r}, got {kind.__name__}; convert "
        "them, as in categories.astype(str), and let -1 be the code of a missing one"
    )


def write_dictionaries(
    group: zarr.Group,
    dictionaries: Dictionaries,
    dtype: np.dtype[Any],
    create: Callable[[zarr.Group, str, np.ndarray], ZarrArray],
) -> None:
    """Write what codes stand for, and the `dtype` of the features, into a new group of a dataset.

    `create` makes an array in a group, by name, for values like those given.
    """
    inner = group.create_group(CATEGORIES)
    entries: list[dict[str, Any]] = []
    for j, column in enumerate(dictionaries.columns):
        entry: dict[str, Any] = {"name": column.name, "n_categories": len(column)}
        if column.is_known:
            kind, values = _kind(column), list(column.categories)
            plain = _as_json(kind, values)
            counts = None if column.counts is None else np.asarray(column.counts, np.int64)
            if plain is not None:
                entry["categories"] = plain
                if counts is not None:
                    entry["counts"] = counts.tolist()
            else:
                arrays = _as_arrays(kind, values, column.name)
                if counts is not None:
                    arrays[COUNTS] = counts
                long = inner.create_group(str(j))
                for name, array in arrays.items():
                    create(long, name, array)[:] = array
                entry["stored"] = sorted(arrays)
        entries.append(entry)
    inner.attrs.update({"dtype": dtype.name, "columns": entries})


def _as_json(kind: str, values: list[Any]) -> list[Any] | None:
    """Categories as the attributes hold them; None where they are too long, or of floats, whose dtype
    counts."""
    if kind == "numbers" or 2 * len(values) > INLINE_BYTES:
        return None
    plain = [str(v) if kind == "text" else bool(v) if kind == "bool" else int(v) for v in values]
    return plain if len(json.dumps(plain)) <= INLINE_BYTES else None


def _as_arrays(kind: str, values: list[Any], column: str) -> dict[str, np.ndarray]:
    if kind == "text":
        parts = [value.encode(errors="surrogatepass") for value in values]
        text = np.frombuffer(b"".join(parts), np.uint8)
        return {"ends": np.cumsum([len(part) for part in parts], dtype=np.int64), "text": text}
    array = np.asarray(values)
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise TypeError(f"categories: expected numbers of at most 64 bits in column {column!r}")
    return {"values": array.astype(array.dtype.newbyteorder("="))}


# -- reading --------------------------------------------------------------------------------------


def entries_of(where: str, group: zarr.Group) -> list[dict[str, Any]]:
    """What the attributes of the group say of each column of codes. Raises StoreError."""
    said = group.attrs.asdict().get("columns")
    if not isinstance(said, list):
        raise StoreError(f"{where}: expected an attribute columns, a list, got {said!r:.80}")
    for entry in said:
        if not _is_entry(entry):
            raise StoreError(f"{where}: expected a name and a number of categories, got {entry!r:.80}")
    return said


def _is_entry(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
        return False
    n, values, stored, counts = (entry.get(key) for key in ("n_categories", "categories", "stored", COUNTS))
    if type(n) is not int or not 0 <= n < 2**62 or not (stored is None or _are_parts(stored)):
        return False
    return all(one is None or (isinstance(one, list) and len(one) == n) for one in (values, counts))


def _are_parts(stored: Any) -> bool:
    """Whether the names of arrays are those of a long dictionary, perhaps with counts."""
    return isinstance(stored, list) and [name for name in stored if name != COUNTS] in [
        *map(list, DICTIONARY_PARTS)
    ]


def arrays_of(entries: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """The groups of long dictionaries, and the names of the arrays in them."""
    for j, entry in enumerate(entries):
        if entry.get("stored"):
            yield str(j), entry["stored"]


def open_dictionaries(
    where: str,
    group: zarr.Group,
    stored: dict[str, StoredColumn],
    numeric: Sequence[str] | None,
    n_numeric: int,
    n_rows: int,
) -> tuple[Dictionaries, np.dtype[Any]]:
    """The dictionaries of a dataset, of whose arrays `stored` has the columns by name, and the dtype of its
    features.

    `numeric` are the names of its numbers, None where nothing is named. Long dictionaries are read when they
    are looked at. Raises StoreError.
    """
    columns: list[Dictionary] = []
    said: Any = group.attrs.asdict()
    for j, entry in enumerate(entries_of(where, group)):
        n = entry["n_categories"]
        plain = entry.get("categories")
        categories: Sequence[Any] = range(n) if plain is None else plain
        counts: Sequence[int] | None = entry.get(COUNTS)
        if entry.get("stored"):
            parts = {name: stored[f"{CATEGORIES}/{j}/{name}"] for name in entry["stored"]}
            lengths = {part.shape for name, part in parts.items() if name != "text"}
            if lengths != {(n,)}:
                raise StoreError(
                    f"{where}/{j}: expected {n} categories, got arrays of shape {sorted(lengths)}"
                )
            if COUNTS in parts:
                counts = StoredCategoryValues({"values": parts.pop(COUNTS)}, n, n_rows)
            categories = StoredCategoryValues(parts, n, n_rows)
        columns.append(Dictionary(entry["name"], categories, counts))
    names = tuple(f"x{j}" for j in range(n_numeric)) if numeric is None else tuple(numeric)
    return (
        Dictionaries(tuple(columns), names, named=numeric is not None),
        np.dtype(said["dtype"]),
    )


@dataclass(slots=True, eq=False)
class StoredCategoryValues(Sequence[Any]):
    """The categories of a long dictionary, read when they are first looked at.

    `n_rows` rows depend on them, which an error names.
    """

    parts: dict[str, StoredColumn]
    n: int
    n_rows: int
    _known: list[Any] | None = field(default=None, init=False, repr=False)

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: Any) -> Any:
        return self._values[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)

    @property
    def _values(self) -> list[Any]:
        if self._known is None:
            self._known = self._read()
        return self._known

    def _read(self) -> list[Any]:
        found = {name: self._read_part(part) for name, part in self.parts.items()}
        if "values" in found:
            return list(found["values"])
        text, ends = found["text"].tobytes(), found["ends"].tolist()
        starts = [0, *ends[:-1]]
        if any(a > b for a, b in zip(starts, ends, strict=True)) or ends[-1] != len(text):
            cause = f"expected ends that rise to {len(text)}, the bytes of all categories"
            raise ChunkError(self.parts["ends"].path, 0, self.n_rows, cause)
        return [text[a:b].decode(errors="surrogatepass") for a, b in zip(starts, ends, strict=True)]

    def _read_part(self, part: StoredColumn) -> np.ndarray:
        try:
            return part.read(0, part.shape[0])
        except ChunkError as error:
            path, _, _, cause, key = error.args
            raise ChunkError(path, 0, self.n_rows, cause, key) from error.__cause__
