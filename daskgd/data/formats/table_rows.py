"""Columns of a table become rows: numbers in one dtype, categories and labels as codes, targets, weights."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from daskgd.data.formats.base import Array, import_library
from daskgd.data.formats.casts import cast_exactly, refuse_rounded_text, row_number
from daskgd.data.formats.table_format import (
    Piece,
    TableFormat,
    Type,
    Types,
    Widened,
    is_category,
    is_temporal,
    is_text,
)
from daskgd.data.schema import ColumnSchema, Schema
from daskgd.storage.parallel_writing import MadeRows
from daskgd.storage.vocabulary import Labels

TILE_BYTES = 1 << 18
"""Bytes of rows that are put together at a time."""

Facts = dict[str, tuple[int, Any, Any]]
"""Of columns of features by name: how many values are missing, and the least and greatest of the others that
are finite, None where there are none."""


@dataclass(frozen=True)
class TableRows:
    """Which columns of a table are what, and what is made of them.

    Attributes
    ----------
    features : tuple of str
        Those of categories become codes, others numbers.
    target, weight : str or None
    dtype : numpy dtype
        Of the numbers.
    types : dict of str to type
        Of all these columns, in their files; `partitions` are those that the names of folders hold.
    partitions : dict of str to type
    drops : bool
        Whether rows without a target are left out.
    has_gaps : bool
        Whether numbers are known to be missing, so that their dtype needs NaN.
    """

    features: tuple[str, ...]
    target: str | None
    weight: str | None
    dtype: np.dtype[Any]
    types: Types
    partitions: Types
    drops: bool = False
    has_gaps: bool = False

    @cached_property
    def categorical(self) -> tuple[str, ...]:
        """The features that become codes."""
        return tuple(name for name in self.features if is_category(self.types[name]))

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """The features that become numbers."""
        return tuple(name for name in self.features if not is_category(self.types[name]))

    def like(self) -> dict[str, Array]:
        """Arrays of no rows, by what they are for."""
        found: dict[str, Array] = {}
        if self.numbers:
            found["X"] = np.empty((0, len(self.numbers)), self.dtype)
        if self.categorical:
            found["codes"] = np.empty((0, len(self.categorical)), np.int32)
        if self.target is not None:
            found["y"] = np.empty(0, target_dtype(self.types[self.target]))
        if self.weight is not None:
            found["sample_weight"] = np.empty(0)
        return found

    def schema(self, facts: Sequence[Facts] = ()) -> Schema:
        """What the features are, as far as all pieces tell."""
        return Schema(
            tuple(
                _column_schema(name, self.types[name], [found[name] for found in facts])
                for name in self.features
            ),
            self.target,
            self.weight,
        )

    def read(self, format: TableFormat, piece: Piece) -> MadeRows:
        """The rows of a piece, with what is known of them."""
        table = format.read(piece, {n: t for n, t in self.types.items() if n not in self.partitions})
        for name, kind in self.partitions.items():
            table = table.append_column(name, _of_folder(piece, name, kind, table.num_rows))
        table = self._in_units(table)
        rows: int | Array = piece.first_row
        if self.drops and self.target is not None:
            keep = _has_value(table[self.target])
            rows = piece.first_row + np.flatnonzero(keep.to_numpy())
            table = table.filter(keep)
        facts: Facts = {}
        made = MadeRows({}, {}, facts)
        if self.numbers:
            columns = []
            for name in self.numbers:
                values, facts[name] = self._numbers(piece, rows, name, table[name])
                columns.append(values)
            made.arrays["X"] = side_by_side(columns)
        if self.categorical:
            columns, made.labels["codes"] = [], []
            for name in self.categorical:
                codes, labels = _encode(piece, name, table[name])
                columns.append(codes)
                made.labels["codes"].append(labels)
                facts[name] = table.num_rows - int(labels.counts.sum()), None, None
            made.arrays["codes"] = side_by_side(columns)
        if self.target is not None:
            made.arrays["y"], found = self._target(piece, rows, self.target, table[self.target])
            if found is not None:
                made.labels["y"] = [found]
        if self.weight is not None:
            made.arrays["sample_weight"] = self._weight(piece, rows, self.weight, table[self.weight])
        return made

    def _in_units(self, table: Any) -> Any:
        """The same with dates and times in the units that they have in all files."""
        compute = import_library("pyarrow.compute", "Tables in")
        for i, field in enumerate(table.schema):
            kind = self.types[field.name]
            if is_temporal(kind) and field.type != kind:
                table = table.set_column(i, field.name, compute.cast(table[field.name], kind))
        return table

    def count(self, format: TableFormat, piece: Piece) -> int:
        """The rows of a piece that have a target."""
        name = str(self.target)
        if name in self.partitions:
            return 0 if piece.file.partitions[name] is None else piece.n_rows
        column = format.read(piece, {name: self.types[name]})[name]
        compute = import_library("pyarrow.compute", "Tables in")
        return int(compute.sum(_has_value(column)).as_py() or 0)

    def _numbers(
        self, piece: Piece, rows: int | Array, name: str, column: Any
    ) -> tuple[Array, tuple[int, Any, Any]]:
        """A column of the features as numbers, whose missing values are NaN, and what is known of it."""
        if column.null_count and self.dtype.kind != "f":
            raise Widened(str(piece.file), {}, name)
        values, missing = _numbers(column)
        if is_temporal(column.type) and getattr(column.type, "unit", "") == "ns":
            values = _whole_microseconds(values, piece, rows, name)
        if is_temporal(column.type):
            _refuse_rounded(values, self.dtype, piece, rows, name)
        found = cast_exactly(values, self.dtype, piece.file, rows, [name])
        if missing is not None and values.dtype.kind != "f":  # else NaN stands there
            found[missing] = np.nan
        n, low, high = _facts(values, missing)
        if low is not None:  # as they are stored
            low, high = (self.dtype.type(one).item() for one in (low, high))
        return found, (n, low, high)

    def _target(self, piece: Piece, rows: int | Array, name: str, column: Any) -> tuple[Array, Labels | None]:
        pa = import_library("pyarrow", "Tables in")
        kind = self.types[name]
        if is_labels(kind):
            column = _plain(column)
            _refuse_missing(piece, rows, f"target {name!r}", column)
            return _encode(piece, name, column)
        values, missing = _numbers(column)
        if missing is None and values.dtype.kind == "f" and np.isnan(values).any():
            missing = np.isnan(values)
        if missing is not None:
            _refuse_missing(piece, rows, f"target {name!r}", pa.array(values, mask=missing))
        return cast_exactly(values, target_dtype(kind), piece.file, rows, [name]), None

    def _weight(self, piece: Piece, rows: int | Array, name: str, column: Any) -> Array:
        _refuse_missing(piece, rows, f"weight {name!r}", column)
        values = cast_exactly(_numbers(column)[0], np.dtype(float), piece.file, rows, [name])
        bad = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if len(bad):
            raise ValueError(
                f"{piece.file}: expected finite weights >= 0 in column {name!r}, got {values[bad[0]]} in row "
                f"{row_number(rows, bad[0])}"
            )
        return values


def _of_folder(piece: Piece, name: str, kind: Type, n_rows: int) -> Any:
    """A column of what the name of a folder says. Raises ValueError for an integer that floats round."""
    pa, value = import_library("pyarrow", "Tables in"), piece.file.partitions[name]
    if value is None:
        return pa.nulls(n_rows, kind)
    found = pa.array([value]).cast(kind)
    if pa.types.is_float64(kind):
        whole = int(value) if value.lstrip("+-").isdigit() else None
        refuse_rounded_text(found.to_numpy(), lambda rows: [whole], piece.file, piece.first_row, name)
    return pa.repeat(found[0], n_rows)


def side_by_side(columns: Sequence[Array]) -> Array:
    """Columns of one dtype as rows, some rows at a time: what is written stays in the cache meanwhile.

    >>> side_by_side([np.array([1, 2]), np.array([3, 4])])
    array([[1, 3],
           [2, 4]])
    """
    n, k, dtype = len(columns[0]), len(columns), columns[0].dtype
    out = np.empty((n, k), dtype)
    height = max(TILE_BYTES // (k * dtype.itemsize), 1)
    for start in range(0, n, height):
        rows = slice(start, start + height)
        for j, column in enumerate(columns):
            out[rows, j] = column[rows]
    return out


def _encode(piece: Piece, name: str, column: Any) -> tuple[Array, Labels]:
    """A column of labels as codes of those that some row has, -1 where there is none."""
    pa, compute = import_library("pyarrow", "Tables in"), import_library("pyarrow.compute", "Tables in")
    column = _plain(column)
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
    indices = column.indices
    if indices.null_count:
        indices = compute.fill_null(compute.cast(indices, pa.int64()), -1)
    codes = indices.to_numpy(zero_copy_only=False)
    counts = np.bincount(codes[codes >= 0], minlength=len(labels))
    used = counts > 0
    new = np.append(np.cumsum(used, dtype=np.int32) - np.int32(1), np.int32(-1))
    found = [label for label, is_used in zip(labels, used.tolist(), strict=True) if is_used]
    return new[codes], Labels(found, counts[used])


def _facts(values: Array, missing: Array | None) -> tuple[int, Any, Any]:
    """How many of some numbers are missing, and the least and greatest of those that are finite."""
    n = 0 if missing is None else int(missing.sum())
    if missing is not None and values.dtype.kind != "f":
        values = values[~missing]
    if not len(values):
        return n, None, None
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and not np.isfinite([low, high]).all():
        n = int(np.isnan(values).sum())
        values = values[np.isfinite(values)]
        if not len(values):
            return n, None, None
        low, high = values.min(), values.max()
    return n, low, high


def _whole_microseconds(values: Array, piece: Piece, rows: int | Array, name: str) -> Array:
    """Nanoseconds as microseconds. Raises ValueError for those that are none."""
    bad = np.flatnonzero(values % 1000)
    if len(bad):
        raise ValueError(
            f"{piece.file}: expected whole microseconds in column {name!r}, as no number of 64 bits holds "
            f"what is finer, got {values[bad[0]]} ns in row {row_number(rows, bad[0])}; round the column, or "
            "leave it out (drop)"
        )
    return values // 1000


def _refuse_rounded(values: Array, dtype: np.dtype[Any], piece: Piece, rows: int | Array, name: str) -> None:
    """Raise ValueError for dates and times that would be others among numbers of a dtype."""
    if dtype.kind != "f" or not len(values):
        return
    most = 2 ** (np.finfo(dtype).nmant + 1)
    bad = np.flatnonzero((values > most) | (values < -most))
    if len(bad):
        raise ValueError(
            f"{piece.file}: expected dates and times that {dtype} holds in column {name!r}, to {most} of "
            f"their unit from 1970 on, got {values[bad[0]]} in row {row_number(rows, bad[0])}; take "
            "dtype='float64' or a coarser unit, or leave the column out (drop)"
        )


def _column_schema(name: str, kind: Type, facts: Sequence[tuple[int, Any, Any]]) -> ColumnSchema:
    """What a column of a type is, by what is known of its pieces."""
    pa = import_library("pyarrow", "Tables in")
    n_missing = sum(n for n, _, _ in facts) if facts else None
    lows, highs = ([one[i] for one in facts if one[i] is not None] for i in (1, 2))
    found = ColumnSchema(
        name, "number", "", None, n_missing, min(lows, default=None), max(highs, default=None)
    )
    if is_category(kind):
        values = kind.value_type if pa.types.is_dictionary(kind) else kind
        dtype = "str" if is_text(values) else str(np.dtype(values.to_pandas_dtype()))
        return replace(found, kind="category", dtype=dtype, minimum=None, maximum=None)
    if is_temporal(kind):
        unit = getattr(kind, "unit", "D" if pa.types.is_date32(kind) else "ms")
        unit = "us" if unit == "ns" else unit
        of = "datetime64" if pa.types.is_date(kind) or pa.types.is_timestamp(kind) else "timedelta64"
        name_of = {"datetime64": "date", "timedelta64": "duration"}
        what = "time" if pa.types.is_time(kind) else name_of[of]
        return replace(found, kind=what, dtype=f"{of}[{unit}]", timezone=getattr(kind, "tz", None))
    if pa.types.is_boolean(kind):
        return replace(found, kind="bool", dtype="bool")
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    is_float = pa.types.is_null(kind) or pa.types.is_decimal(kind)
    return replace(found, dtype="float64" if is_float else str(np.dtype(kind.to_pandas_dtype())))


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
    if is_temporal(kind):
        column = _whole_numbers(column)
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


def _whole_numbers(column: Any) -> Any:
    """Dates, times and durations as numbers of their unit."""
    pa, compute = import_library("pyarrow", "Tables in"), import_library("pyarrow.compute", "Tables in")
    is_small = pa.types.is_date32(column.type) or pa.types.is_time32(column.type)
    return compute.cast(column, pa.int32() if is_small else pa.int64())


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
