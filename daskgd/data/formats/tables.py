"""Tables in files become a dataset: their columns are found, and tasks read and write their pieces.

Types are found before anything is written, from the start of every file; a piece that holds others widens
them, and the writing begins anew. What a format is, is in its own file; here nobody asks which it is.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import dask
import numpy as np

from daskgd._compat.distributed import compute_each
from daskgd.data.formats.base import ColumnRoles, Format, Progress, import_library
from daskgd.data.formats.csv import CSVFormat
from daskgd.data.formats.files import File
from daskgd.data.formats.json_lines import JSONLines
from daskgd.data.formats.parquet import Feather, Parquet
from daskgd.data.formats.spool import spooled
from daskgd.data.formats.table_format import (
    Piece,
    Range,
    TableFormat,
    Types,
    Widened,
    is_category,
    is_feature,
    is_number,
    is_temporal,
    is_text,
    unify,
    wider_type,
)
from daskgd.data.formats.table_rows import Facts, TableRows
from daskgd.data.formats.text_options import TextOptions
from daskgd.data.schema import Schema

CSV = Format("csv", (".csv", ".tsv"), table=CSVFormat, compressed=True, text=True)
PARQUET = Format("parquet", (".parquet", ".pq"), table=lambda options: Parquet(), typed=True)
FEATHER = Format("feather", (".feather", ".arrow", ".ipc"), table=lambda options: Feather(), typed=True)
JSONL = Format("jsonl", (".jsonl", ".ndjson"), table=lambda options: JSONLines(), compressed=True)

logger = logging.getLogger("daskgd")


def ingest_tables(
    format: Format,
    files: Sequence[File],
    roles: ColumnRoles,
    options: TextOptions,
    drops: bool,
    write: Callable[..., None] | None,
    progress: Progress,
    counting: Progress,
    report: Callable[[Schema], None] | None,
) -> None:
    """Write a dataset of the rows of tables.

    `drops` says whether rows without a target are left out; `write` is
    :func:`~daskgd.storage.parallel_writing.write_parts` of a place, None to write nothing; `counting` is told
    the bytes in which rows were counted, `progress` the rows that were written; `report` is called with what
    is found of the columns before anything is written.
    Raises ValueError for columns that are not there or cannot be stored, and for files that do not match.
    """
    assert format.table is not None
    with spooled(files, format, options.encoding) as (there, encoding):
        table: TableFormat = format.table(replace(options, encoding=encoding))
        rows, pieces = _columns(table, there, roles, format, drops), None
        if report is not None:
            report(rows.schema())
        while write is not None:
            try:
                pieces = pieces or _cut(table, there, counting)
                _write(table, rows, pieces, write, progress)
                break
            except Widened as found:
                rows = _widen(rows, found, roles, format)


def _columns(
    table: TableFormat, files: Sequence[File], roles: ColumnRoles, format: Format, drops: bool
) -> TableRows:
    """What the columns of the files are."""
    heads: list[tuple[Types, list[str]]] = _compute(dask.delayed(_head)(table, file) for file in files)
    partitions = {name: _partition_type([f.partitions[name] for f in files]) for name in files[0].partitions}
    for name in partitions:
        if name in heads[0][0]:
            raise ValueError(
                f"{files[0]}: expected a column {name!r} in the file or in the name of its folder, got both"
            )
    names = [*heads[0][0], *partitions]
    _check_roles(roles, names, files[0])
    used = {roles.target, roles.weight}
    index = dict.fromkeys(name for _, found in heads for name in found if name not in used)
    if index:
        logger.warning("%s: left out, as an index or without a name: %s", files[0], ", ".join(index))
    gone = {*index, *roles.drop}
    types = unify(
        [
            (
                str(file),
                {n: _with_labels(n, kind, roles, format) for n, kind in found.items() if n not in gone},
            )
            for file, (found, _) in zip(files, heads, strict=True)
        ],
        partial(_text_in, table, files),
    )
    partitions = {name: kind for name, kind in partitions.items() if name not in gone}
    if not types and partitions:
        raise ValueError(
            f"{files[0]}: expected a column of the file among the features and the target, got only those of "
            f"folders: {', '.join(partitions)}"
        )
    types |= partitions
    features = tuple(name for name in types if name not in used)
    if not features:
        raise ValueError(f"{files[0]}: expected at least one feature, got none but {', '.join(names)}")
    for name, kind in types.items():
        if not is_fit(name, kind, roles.target, roles.weight):
            _refuse_column(table, files, name, kind, roles, name in partitions)
    _refuse_doubtful(table, files, heads, [name for name in features if name not in partitions], types)
    rows = TableRows(features, roles.target, roles.weight, np.dtype(float), types, partitions, drops)
    return replace(rows, dtype=common_dtype(rows, roles.dtype, format.typed))


def _with_labels(name: str, kind: Any, roles: ColumnRoles, format: Format) -> Any:
    """The type of a column: text where it is the target, and text that looks like dates, which is labels."""
    is_date = name == roles.target and not format.typed and is_temporal(kind)
    return import_library("pyarrow", format.name).large_string() if is_date else kind


def is_fit(name: str, kind: Any, target: str | None, weight: str | None) -> bool:
    """Whether a column of a type can be what it is for."""
    if name not in (target, weight):
        return is_feature(kind)
    is_label = name == target and is_text(kind)
    return is_number(kind) or str(kind) == "null" or is_label


def _refuse_column(
    table: TableFormat, files: Sequence[File], name: str, kind: Any, roles: ColumnRoles, of_folders: bool
) -> None:
    """Raise ValueError for a column that cannot be what it is for."""
    where, got = files[0], str(kind)
    if not of_folders and (found := table.find_text(files, name)) is not None:
        where, got = found[0], f"{found[2]!r} in row {found[1]}"
    raise unfit(where, name, got, roles.target, roles.weight)


def unfit(where: object, name: str, got: str, target: str | None, weight: str | None) -> ValueError:
    """An error about a column that cannot be what it is for."""
    expected = "numbers, text, dates or bool"
    if name in (target, weight):
        expected = "numbers" + " or labels" * (name == target)
    return ValueError(
        f"{where}: expected {expected} in column {name!r}, got {got}; leave it out, or convert it first"
    )


def _refuse_doubtful(
    table: TableFormat, files: Sequence[File], heads: Sequence[Any], names: Sequence[str], types: Types
) -> None:
    """Raise ValueError for features that are text, and for the most part numbers or dates: most likely there
    is a mistake among them. Text that comes late among numbers is refused as well."""
    categorical = [name for name in names if is_category(types[name])]
    with_rows = [
        i for i, (found, _) in enumerate(heads) if any(str(kind) != "null" for kind in found.values())
    ]
    if not categorical or not with_rows:
        return
    file = files[with_rows[0]]
    for name, (row, text) in table.doubtful(file).items():
        if name in categorical:
            raise ValueError(
                f"{file}: expected numbers or dates in column {name!r}, as most of it is, got {text!r} in "
                f"row {row}; say na_values=[{text!r}] if it stands for a missing one, "
                f"dtypes={{{name!r}: 'string'}} if all of it is text, or leave the column out (drop)"
            )


def _text_in(table: TableFormat, files: Sequence[File], at: int, name: str) -> str | None:
    """The first value of a column of one of the files that is no number, in words."""
    found = table.find_text([files[at]], name)
    return None if found is None else f"{found[2]!r} in row {found[1]}"


def _head(table: TableFormat, file: File) -> tuple[Types, list[str]]:
    return table.types(file), table.index_columns(file)


def _check_roles(roles: ColumnRoles, names: Sequence[str], file: File) -> None:
    """Raise ValueError for roles of columns that are not there, or of one that has another."""
    if roles.weight is not None and roles.target is None:
        raise ValueError(f"{file}: expected a target beside the weights, got none; name it with target=")
    asked = [("target", roles.target), ("weight", roles.weight), *(("drop", name) for name in roles.drop)]
    found: dict[str, str] = {}
    for role, name in asked:
        if name is None:
            continue
        if name not in names:
            raise ValueError(
                f"{role}: expected a column of {file}, which has {', '.join(names)}, got {name!r}"
            )
        if found.setdefault(name, role) != role:
            raise ValueError(f"{role}: expected another column than {found[name]}, got {name!r} for both")


def common_dtype(rows: TableRows, asked: np.dtype[Any] | None, typed: bool) -> np.dtype[Any]:
    """The dtype of the numbers among the features: as asked, float64 where types are not told, else what
    holds all of them; floats where some are missing, or beside categories."""
    pa = import_library("pyarrow", "Tables in")
    if asked is not None:
        return asked
    kinds = [rows.types[name] for name in rows.numbers]
    if not typed or any(pa.types.is_null(kind) or pa.types.is_decimal(kind) for kind in kinds):
        return np.dtype(float)
    dtype = np.result_type(*map(_plain_dtype, kinds)) if kinds else np.dtype(float)
    needs_float = rows.categorical or rows.has_gaps
    return np.dtype(float) if needs_float and dtype.kind != "f" else dtype


def _plain_dtype(kind: Any) -> Any:
    """The numpy dtype of numbers of a type, as they are stored."""
    pa = import_library("pyarrow", "Tables in")
    if is_temporal(kind):
        return np.int32 if pa.types.is_date32(kind) or pa.types.is_time32(kind) else np.int64
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return np.uint8 if pa.types.is_boolean(kind) else kind.to_pandas_dtype()


def _widen(rows: TableRows, found: Widened, roles: ColumnRoles, format: Format) -> TableRows:
    """The columns as what was found needs them. Raises ValueError where a dtype was asked for."""
    pa = import_library("pyarrow", format.name)
    types = dict(rows.types)
    got = {name: f"missing values or {kind}" for name, kind in found.types.items()}
    for name, what in (got or {str(found.gaps): "missing values"}).items():
        if roles.dtype is not None and roles.dtype.kind != "f" and name in rows.numbers:
            raise ValueError(
                f"{found.where}: expected {roles.dtype} in column {name!r}, got {what}; "
                "take dtype='float64', or fill them first"
            )
    for name, kind in found.types.items():
        kind = _with_labels(name, kind, roles, format)
        wider = wider_type(types[name], kind)
        if wider is None or wider == types[name]:
            wider = pa.float64()
        if not is_fit(name, wider, roles.target, roles.weight):
            raise ValueError(
                f"{found.where}: expected numbers in column {name!r}, got {kind} after rows without a value; "
                "leave it out (drop), or convert it first"
            )
        types[name] = wider
        logger.info("%s: column %r is %s from here on, so reading begins anew", found.where, name, wider)
    if found.gaps is not None:
        logger.info("%s: column %r has gaps, so reading begins anew with floats", found.where, found.gaps)
    widened = replace(rows, types=types, has_gaps=rows.has_gaps or found.gaps is not None)
    return replace(widened, dtype=common_dtype(widened, roles.dtype, format.typed))


def _cut(table: TableFormat, files: Sequence[File], counting: Progress) -> list[Piece]:
    """The pieces of all files; `counting` is told the bytes in which their rows were counted. Raises
    ValueError for files without rows."""
    ranges = [table.ranges(file) for file in files]
    flat = [part for parts in ranges for part in parts]
    total, done = sum(part.stop - part.start for part in flat), 0

    def note(result: tuple[int, Any]) -> None:
        nonlocal done
        done += result[0]
        if counting is not None:
            counting(done, total)

    tasks = [dask.delayed(_count, pure=False)(table, part) for part in flat]
    counts = iter([found for _, found in compute_each(tasks, note)])
    own = [[next(counts) for _ in parts] for parts in ranges]
    found = [table.pieces(file, counted) for file, counted in zip(files, own, strict=True)]
    pieces = [piece for some in found for piece in some]
    if not pieces:
        raise ValueError(f"{files[0]}: expected at least one row, got none")
    return pieces


def _count(table: TableFormat, part: Range) -> tuple[int, Any]:
    """The bytes of a range, and the count of its rows."""
    return part.stop - part.start, table.count(part)


def _write(
    table: TableFormat,
    rows: TableRows,
    pieces: Sequence[Piece],
    write: Callable[..., None],
    progress: Progress,
) -> None:
    """Read the pieces and write their rows."""
    n_rows = [piece.n_rows for piece in pieces]
    if rows.drops:
        n_rows = _compute(dask.delayed(rows.count)(table, piece) for piece in pieces)
        gone = sum(piece.n_rows for piece in pieces) - sum(n_rows)
        if gone:
            logger.warning("left out %s rows without a target %r", f"{gone:,}", rows.target)
        if not sum(n_rows):
            raise ValueError(f"target: expected some in column {rows.target!r}, got none")

    def describe(facts: Sequence[Facts]) -> Any:
        schema = rows.schema(facts)
        if all(c.kind == "category" and c.n_missing == sum(n_rows) for c in schema.columns):
            raise ValueError(
                f"{pieces[0].file}: expected a column of features that has values, got none in "
                f"{', '.join(map(repr, schema))}"
            )
        return schema.to_json()

    write(
        [partial(rows.read, table, piece) for piece in pieces],
        n_rows,
        rows.like(),
        feature_names=rows.numbers,
        categorical=rows.categorical,
        describe=describe,
        dtype=rows.dtype,
        progress=progress,
    )


def _partition_type(values: Sequence[str | None]) -> Any:
    """The type of what the names of folders hold: integers, numbers or text."""
    pa = import_library("pyarrow", "Tables in")
    text = pa.array(values, pa.string())
    for kind in (pa.int64(), pa.float64()):
        try:
            text.cast(kind)
            return kind
        except pa.ArrowInvalid:
            continue
    return pa.string()


def _compute(tasks: Iterable[Any]) -> list[Any]:
    """The results of tasks, by what dask computes with."""
    return list(dask.compute(*tasks))
