"""A column of `obs`, the table of observations in a store that AnnData wrote, as a target."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zarr

from daskgd.storage.access import remember
from daskgd.storage.checksums import StoreError
from daskgd.storage.packing import open_array
from daskgd.storage.reading import StoredColumn

TABLE = "obs"

_AS_CATEGORIES = 'adata.obs["{0}"] = adata.obs["{0}"].astype("category")'


@dataclass(frozen=True, slots=True, eq=False)
class StoredCategories(StoredColumn):
    """Categories that are stored as codes, as `positions` ``(k,)`` among sorted ones.

    >>> column = StoredCategories(zarr.array(np.array([0, 1, 1], "i1")), positions=np.array([1, 0], "i4"))
    >>> column.read(0, 3)
    array([1, 0, 0], dtype=int32)
    """

    positions: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (StoredColumn(self.array, self.complete, self.mark), self.positions)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.positions.dtype

    def identity(self) -> str:
        return f"{StoredColumn.identity(self)}, categories at {self.positions.tolist()!s:.1000}"

    def read(self, start: int, stop: int) -> np.ndarray:
        """Rows start:stop. Raises ValueError for a row without a category; else as of the codes."""
        codes = StoredColumn.read(self, start, stop)
        wrong = np.flatnonzero((codes < 0) | (codes >= len(self.positions)))
        if len(wrong):
            code = codes[wrong[0]]
            what = "none" if code < 0 else f"code {code} of {len(self.positions)}"
            raise ValueError(
                f"{self.path}: expected a category in each row, got {what} in row {start + wrong[0]}; drop "
                "the rows without one, or give them a category of their own"
            )
        found: np.ndarray = self.positions[codes]
        return found


def _arrive(codes: StoredColumn, positions: np.ndarray) -> StoredCategories:
    """A column that comes from another process."""
    column = StoredCategories(codes.array, codes.complete, codes.mark, positions=positions)
    object.__setattr__(column, "_to_check", True)
    return column


def open_target(
    location: str, group: zarr.Group, target: str, n_rows: int, ours: bool
) -> tuple[StoredColumn, np.ndarray | None]:
    """A column of `obs` and the classes for which it has codes, or None.

    Raises StoreError for one that is not there, or is neither of numbers nor categorical.
    """
    if ours:
        raise StoreError(
            f"{location}: expected target=None, got {target!r}: daskgd wrote this dataset, which has its y"
        )
    table = group.get(TABLE)
    if not isinstance(table, zarr.Group):
        raise StoreError(
            f"{location}: expected target=None, got {target!r}: it is a column of obs, which is not there"
        )
    where = f"{location}, {TABLE}/{target}"
    member = table.get(target)
    if member is None:
        names = ", ".join(sorted(table.keys()))
        raise StoreError(f"{location}: expected target as a column of obs ({names:.300}), got {target!r}")
    classes = None
    column: StoredColumn
    if isinstance(member, zarr.Array):
        if member.ndim != 1 or member.dtype.kind not in "iufb":
            raise StoreError(
                f"{where}: expected numbers or categories, got dtype {member.dtype}; make it categorical, as "
                f"in {_AS_CATEGORIES.format(target)}, and write it again"
            )
        column = open_array(member)
        remember(member, None)
    else:
        found = member.attrs.asdict().get("encoding-type")
        codes, categories = member.get("codes"), member.get("categories")
        if isinstance(categories, zarr.Group):  # of text that might lack some, as categories do not
            categories = categories.get("values")
        if not (
            found == "categorical" and isinstance(codes, zarr.Array) and isinstance(categories, zarr.Array)
        ):
            raise StoreError(
                f"{where}: expected numbers or categories, got encoding {found!r}; fill what is missing and "
                f"write plain numbers, or make it categorical, as in {_AS_CATEGORIES.format(target)}"
            )
        labels = np.asarray(categories[:])
        labels = np.array(labels.tolist(), dtype=str) if labels.dtype.kind in "OUT" else labels
        order = np.argsort(labels, kind="stable")
        positions = np.empty(len(labels), np.int32)
        positions[order] = np.arange(len(labels))
        classes = labels[order]
        column = StoredCategories(codes, positions=positions)
        remember(codes, None)
    if column.shape != (n_rows,):
        raise StoreError(f"{where}: X has {n_rows} rows, {target} has {column.shape[0]}; they must be equal")
    return column, classes
