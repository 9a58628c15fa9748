"""Columns of a table become rows of numbers: features in one dtype, targets, weights, labels as codes."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from daskgd.data.formats.base import Array, import_library
from daskgd.data.formats.casts import cast_exactly, row_number
from daskgd.data.formats.table_format import Piece, TableFormat, Type, Types, Widened, is_text


@dataclass(frozen=True)
class TableRows:
    """Which columns of a table are what, and what is made of them.

    Attributes
    ----------
    features : tuple of str
    target, weight : str or None
    dtype : numpy dtype
        Of the features.
    types : dict of str to type
        Of all these columns, in their files; `partitions` are those that the names of folders hold.
    partitions : dict of str to type
    drops : bool
        Whether rows without a target are left out.
    """

    features: tuple[str, ...]
    target: str | None
    weight: str | None
    dtype: np.dtype[Any]
    types: Types
    partitions: Types
    drops: bool = False

    def read(self, format: TableFormat, piece: Piece) -> tuple[dict[str, Array], list[Any] | None]:
        """The rows of a piece by what they are; of labels that are text, codes and what these stand for."""
        pa = import_library("pyarrow", "Tables in")
        table = format.read(piece, {n: t for n, t in self.types.items() if n not in self.partitions})
        for name, kind in self.partitions.items():
            value = piece.file.partitions[name]
            column = pa.nulls(table.num_rows, kind) if value is None else pa.array([value]).cast(kind)
            if value is not None:
                column = pa.repeat(column[0], table.num_rows)
            table = table.append_column(name, column)
        rows: int | Array = piece.first_row
        if self.drops and self.target is not None:
            keep = _has_value(table[self.target])
            rows = piece.first_row + np.flatnonzero(keep.to_numpy())
            table = table.filter(keep)
        X = np.empty((table.num_rows, len(self.features)), self.dtype)
        for j, name in enumerate(self.features):
            self._fill(X[:, j], piece, rows, name, table[name])
        found: dict[str, Array] = {"X": X}
        labels: list[Any] | None = None
        if self.target is not None:
            found["y"], labels = self._target(piece, rows, self.target, table[self.target])
        if self.weight is not None:
            found["sample_weight"] = self._weight(piece, rows, self.weight, table[self.weight])
        return found, labels

    def count(self, format: TableFormat, piece: Piece) -> int:
        """The rows of a piece that have a target."""
        name = str(self.target)
        if name in self.partitions:
            return 0 if piece.file.partitions[name] is None else piece.n_rows
        column = format.read(piece, {name: self.types[name]})[name]
        compute = import_library("pyarrow.compute", "Tables in")
        return int(compute.sum(_has_value(column)).as_py() or 0)

    def _fill(self, out: Array, piece: Piece, rows: int | Array, name: str, column: Any) -> None:
        """Fill a column of the features; missing values are NaN."""
        if column.null_count and self.dtype.kind != "f":
            pa = import_library("pyarrow", "Tables in")
            raise Widened(str(piece.file), {name: pa.float64()})
        values, missing = _numbers(column)
        out[:] = cast_exactly(values, self.dtype, piece.file, rows, [name])
        if missing is not None:
            out[missing] = np.nan

    def _target(
        self, piece: Piece, rows: int | Array, name: str, column: Any
    ) -> tuple[Array, list[Any] | None]:
        pa, compute = import_library("pyarrow", "Tables in"), import_library("pyarrow.compute", "Tables in")
        kind = self.types[name]
        if is_labels(kind):
            column = _plain(column)
            _refuse_missing(piece, rows, f"target {name!r}", column)
            if not pa.types.is_dictionary(column.type):
                column = compute.dictionary_encode(column)
            column = column.unify_dictionaries().combine_chunks()
            try:
                labels = column.dictionary.to_pylist()
            except UnicodeDecodeError as error:
                raise ValueError(
                    f"{piece.file}: expected text in UTF-8 in column {name!r}, got other bytes in rows from "
                    f"{piece.first_row} on: {error.object!r}"
                ) from None
            return _used_codes(column.indices.to_numpy(zero_copy_only=False), labels)
        values, missing = _numbers(column)
        if missing is None and values.dtype.kind == "f" and np.isnan(values).any():
            missing = np.isnan(values)
        if missing is not None:
            _refuse_missing(piece, rows, f"target {name!r}", pa.array(values, mask=missing))
        return cast_exactly(values, target_dtype(kind), piece.file, rows, [name]), None

    def _weight(self, piece: Piece, rows: int | Array, name: str, column: Any) -> Array:
        _refuse_missing(piece, rows, f"weight {name!r}", column)
        values = _numbers(column)[0].astype(np.float64)
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(bad):
            raise ValueError(
                f"{piece.file}: expected finite weights >= 0 in column {name!r}, got {values[bad[0]]} in row "
                f"{row_number(rows, bad[0])}"
            )
        return values


def _used_codes(codes: Array, labels: list[Any]) -> tuple[Array, list[Any]]:
    """Codes of the labels that some row has, as a category may have none."""
    used = np.bincount(codes, minlength=len(labels)) > 0
    new = np.cumsum(used, dtype=np.int32) - np.int32(1)
    return new[codes], [label for label, is_used in zip(labels, used, strict=True) if is_used]


def _plain(column: Any) -> Any:
    """A column without a dictionary, where that holds a missing value: Arrow does not count those."""
    pa, compute = import_library("pyarrow", "Tables in"), import_library("pyarrow.compute", "Tables in")
    if pa.types.is_dictionary(column.type) and any(one.dictionary.null_count for one in column.chunks):
        return compute.cast(column, column.type.value_type)
    return column


def _has_value(column: Any) -> Any:
    """Where a column has a value that is not NaN."""
    pa, compute = import_library("pyarrow", "Tables in"), import_library("pyarrow.compute", "Tables in")
    there = compute.is_valid(_plain(column))
    if not pa.types.is_floating(column.type):
        return there
    return compute.and_(there, compute.fill_null(compute.invert(compute.is_nan(column)), False))


def target_dtype(kind: Type) -> np.dtype[Any]:
    """The dtype in which targets of a type are stored; labels are codes."""
    pa = import_library("pyarrow", "Tables in")
    if is_labels(kind):
        return np.dtype(np.int32)
    return np.dtype(float) if pa.types.is_decimal(kind) else np.dtype(kind.to_pandas_dtype())


def is_labels(kind: Type) -> bool:
    """Whether targets of a type are labels, stored as codes: text and bool."""
    pa = import_library("pyarrow", "Tables in")
    return is_text(kind) or bool(pa.types.is_boolean(kind))


def _numbers(column: Any) -> tuple[Array, Array | None]:
    """A column of numbers as an array, 0 or NaN where there is none, and where that is; bool as uint8."""
    pa, compute = import_library("pyarrow", "Tables in"), import_library("pyarrow.compute", "Tables in")
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = compute.cast(column, kind.value_type)
        kind = column.type
    if pa.types.is_decimal(kind) and kind.scale <= 0:
        with suppress(pa.ArrowInvalid):  # too large
            column = compute.cast(column, pa.int64())
            kind = column.type
    if pa.types.is_decimal(kind):
        column = compute.cast(column, pa.string())  # which becomes the nearest float
    if pa.types.is_null(kind) or pa.types.is_decimal(kind):
        column = compute.cast(column, pa.float64())
    if pa.types.is_boolean(kind):
        column = compute.cast(column, pa.uint8())
    if not column.null_count:
        return column.to_numpy(), None
    missing: Array = compute.is_null(column).to_numpy()
    if not pa.types.is_floating(column.type):  # else NaN stands there
        column = compute.fill_null(column, 0)
    return column.to_numpy(), missing


def _refuse_missing(piece: Piece, first_row: int | Array, what: str, column: Any) -> None:
    """Raise ValueError for the rows in which a column has no value."""
    if not column.null_count:
        return
    compute = import_library("pyarrow.compute", "Tables in")
    missing = np.flatnonzero(compute.is_null(column).to_numpy(zero_copy_only=False))
    rows = [row_number(first_row, row) for row in missing[:5].tolist()]
    more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    raise ValueError(
        f"{piece.file}: expected a {what} in every row, got none in row{'s' * (len(rows) > 1)} "
        f"{', '.join(map(str, rows))}{more}; fill it, or leave such rows out (missing_target='drop')"
    )
