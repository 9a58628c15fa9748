"""Frames whose columns have types become datasets, as tables in files do: of pandas, dask, polars, pyarrow.

Which frames these are is for :func:`frame_of`; frames of numbers alone are arrays to
:mod:`daskgd.storage.writing`.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import dask
import numpy as np

from daskgd._compat.dask import uses_cluster
from daskgd.data.formats.base import Array, import_library
from daskgd.data.formats.table_format import Piece, TableFormat, Types, unify
from daskgd.data.formats.table_rows import TableRows
from daskgd.data.formats.tables import common_dtype, is_fit, unfit
from daskgd.data.surveying import survey
from daskgd.storage.conversion import convert_offset, convert_y, is_sparse_frame
from daskgd.storage.parallel_writing import MadeRows, write_parts
from daskgd.storage.replacing import refuse_existing
from daskgd.storage.writing import Chunking

PART_BYTES = 32 << 20
"""Bytes of a frame in memory that a task writes, about."""


@dataclass(frozen=True)
class Frame:
    """A frame to be written.

    Attributes
    ----------
    parts : sequence
        Arrow tables, or tasks of dask.delayed that make frames.
    target, weight : str or None
        Names of these columns.
    others : dict of str to array
        Targets of several columns, and the offset, of a frame in memory.
    """

    parts: Sequence[Any]
    target: str | None
    weight: str | None
    others: Mapping[str, Array] = field(default_factory=dict)


# -- which frames ---------------------------------------------------------------------------------


def frame_of(
    X: Any, y: Any, sample_weight: Any, offset: Any, feature_names: Iterable[str] | None
) -> Frame | None:
    """The frame that X is, with its target and weights, where its columns have types; None for all else.

    Raises ValueError for what does not go with such a frame.
    """
    lazy = hasattr(X, "to_dask_array") and hasattr(X, "columns")
    if lazy and is_sparse_frame(X._meta):
        return None
    by_name = any(isinstance(v, str) for v in (y, sample_weight))
    if by_name and not _is_frame(X):
        raise ValueError(f"y, sample_weight: expected arrays beside X of {type(X).__name__}, got a name")
    if not (lazy or by_name or _is_typed(X)):
        return None
    if feature_names is not None:
        raise ValueError("feature_names: expected None beside a frame, whose columns have names; rename them")
    return _lazy_frame(X, y, sample_weight, offset) if lazy else _frame_in_memory(X, y, sample_weight, offset)


def _is_frame(X: Any) -> bool:
    if hasattr(X, "dims"):  # xarray
        return False
    return (hasattr(X, "dtypes") and hasattr(X, "columns")) or hasattr(X, "__arrow_c_stream__")


def _is_typed(X: Any) -> bool:
    """Whether X is a frame in memory, not all of whose columns are numbers: any that is not of pandas."""
    if not _is_frame(X) or hasattr(X, "to_dask_array"):
        return False
    if not hasattr(X, "iloc"):
        return hasattr(X, "__arrow_c_stream__")
    return any(_is_typed_column(X.iloc[:, j]) for j in range(X.shape[1]))


def _is_typed_column(column: Any) -> bool:
    """Whether a column of pandas is of text, dates or categories, or of integers or bool with gaps."""
    if column.dtype == object:
        known = column.dropna()
        first = known.iloc[0] if len(known) else None
        return isinstance(first, str | datetime.date | datetime.time | datetime.timedelta)
    name, kind = getattr(column.dtype, "name", ""), getattr(column.dtype, "kind", "O")
    if kind in "iub":
        return not isinstance(column.dtype, np.dtype) and bool(column.isna().any())
    is_of_arrow = hasattr(column.dtype, "pyarrow_dtype") and kind in "OU"
    return kind in "mM" or name in ("category", "string", "str") or is_of_arrow


# -- frames in memory -----------------------------------------------------------------------------


def _frame_in_memory(X: Any, y: Any, sample_weight: Any, offset: Any) -> Frame:
    table = _to_table(X, "X")
    others: dict[str, Array] = {}
    target = weight = None
    if isinstance(y, str):
        target = y
    elif y is not None:
        found = convert_y(y)
        if found.ndim == 1:
            target = _free_name("y", table)
            table = _with_column(table, target, found)
        else:
            others["y"] = found
    if isinstance(sample_weight, str):
        weight = sample_weight
    elif sample_weight is not None:
        weight = _free_name("sample_weight", table)
        table = _with_column(table, weight, np.asarray(sample_weight))
    if offset is not None:
        others["offset"] = convert_offset(offset)
    for name, array in others.items():
        if len(array) != table.num_rows:
            raise ValueError(f"{name} has {len(array)} rows, X has {table.num_rows}; they must be equal")
    height = max(PART_BYTES * table.num_rows // max(table.nbytes, 1), 1)
    parts = [table.slice(start, height) for start in range(0, max(table.num_rows, 1), height)]
    return Frame(parts, target, weight, others)


def _free_name(name: str, table: Any) -> str:
    """A name that no column has."""
    while name in table.column_names:
        name += "_"
    return name


def _with_column(table: Any, name: str, values: Array) -> Any:
    pa = import_library("pyarrow", "Frames with types")
    if len(values) != table.num_rows:
        raise ValueError(f"{name} has {len(values)} rows, X has {table.num_rows}; they must be equal")
    return table.append_column(name, pa.array(values.tolist() if values.dtype.kind in "OUT" else values))


def _to_table(X: Any, where: str) -> Any:
    """A frame as an Arrow table, without its index. Raises ValueError for columns of mixed objects."""
    pa = import_library("pyarrow", "Frames with types")
    if hasattr(X, "iloc"):
        X = X.set_axis([str(name) for name in X.columns], axis=1)
        _refuse_twice(list(X.columns), where)
    try:
        table = pa.Table.from_pandas(X, preserve_index=False) if hasattr(X, "iloc") else pa.table(X)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"{where}: expected columns of one type each, got others: {error}") from None
    _refuse_twice(table.column_names, where)
    return table


def _refuse_twice(names: Sequence[str], where: str) -> None:
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise ValueError(f"{where}: expected columns of different names, got {twice[0]!r} twice; rename one")


# -- frames of dask -------------------------------------------------------------------------------


def _lazy_frame(X: Any, y: Any, sample_weight: Any, offset: Any) -> Frame:
    if offset is not None:
        raise ValueError(
            "offset: expected None beside a dask frame, got one; pass blocks (X, y, sample_weight, offset)"
        )
    names: list[str | None] = []
    for name, value in (("y", y), ("sample_weight", sample_weight)):
        if value is None or isinstance(value, str):
            names.append(value)
            continue
        if not (hasattr(value, "to_dask_array") and value.npartitions == X.npartitions):
            raise ValueError(
                f"{name}: expected the name of a column, or a dask series with the partitions of X, got "
                f"{type(value).__name__}; pass X.assign({name}=...) and {name}={name!r}"
            )
        while name in X.columns:
            name += "_"
        X = X.assign(**{name: value})
        names.append(name)
    return Frame(X.to_delayed(), names[0], names[1])


# -- writing --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """Which part of a frame some rows are, in the place of a file."""

    name: str
    partitions: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class TableInMemory:
    """A format that is read already: it stands in for :class:`TableFormat`."""

    table: Any

    def read(self, piece: Piece, types: Types) -> Any:
        return self.table.select(list(types))


def write_frame(
    path: str | os.PathLike[str],
    frame: Frame,
    chunking: Chunking,
    overwrite: bool,
    storage_options: Mapping[str, Any] | None,
) -> None:
    """Write a dataset of the rows of a frame.

    Raises ValueError for columns that are not there, or cannot be what they are for.
    """
    refuse_existing(path, overwrite, storage_options)
    lazy = bool(frame.parts) and dask.is_dask_collection(frame.parts[0])
    where = [f"X, partition {i}" if lazy else "X" for i in range(len(frame.parts))]
    with dask.config.set({} if lazy else _in_this_process()):
        if lazy:
            heads = dask.compute(*map(dask.delayed(_head), frame.parts, where))
        else:
            heads = tuple(_head(part, "X") for part in frame.parts)
        rows = _rows(frame, [(name, head.types) for name, head in zip(where, heads, strict=True)])
        if any(head.gaps & set(rows.numbers) for head in heads):
            rows = replace(rows, has_gaps=True)
        rows = replace(rows, dtype=common_dtype(rows, None, True))
        bounds = np.cumsum([0, *(head.n_rows for head in heads)]).tolist()
        kept = [i for i, head in enumerate(heads) if head.n_rows]
        if not kept:
            raise ValueError("X: expected at least one row, got none")
        make = dask.delayed(_make) if lazy else partial(partial, _make)
        parts = [
            make(
                rows,
                Piece(Part(where[i]), 0, 0, 0 if lazy else bounds[i], heads[i].n_rows, 0),  # type: ignore[arg-type]
                frame.parts[i],
                {name: array[bounds[i] : bounds[i + 1]] for name, array in frame.others.items()},
            )
            for i in kept
        ]
        write_parts(
            path,
            parts,
            [heads[i].n_rows for i in kept],
            rows.like() | {name: array[:0] for name, array in frame.others.items()},
            feature_names=rows.numbers,
            categorical=rows.categorical,
            describe=lambda facts: rows.schema(facts).to_json(),
            dtype=rows.dtype,
            chunking=chunking,
            overwrite=overwrite,
            storage_options=storage_options,
            finish=survey,  # by the same threads or workers
        )


def _in_this_process() -> dict[str, Any]:
    """Settings by which tasks stay in this process, where the rows are."""
    return {"scheduler": "threads"} if uses_cluster() else {}


@dataclass(frozen=True, slots=True)
class _Head:
    """What a part of a frame is: its rows, the types of its columns, and which have missing values."""

    n_rows: int
    types: Types
    gaps: set[str]


def _head(part: Any, where: str) -> _Head:
    table = _to_table(part, where)
    gaps = {name for name in table.column_names if table[name].null_count}
    return _Head(table.num_rows, {one.name: one.type for one in table.schema}, gaps)


def _rows(frame: Frame, found: Sequence[tuple[str, Types]]) -> TableRows:
    """What the columns of a frame are."""
    types = unify(found)
    for role, name in (("y", frame.target), ("sample_weight", frame.weight)):
        if name is not None and name not in types:
            raise ValueError(f"{role}: expected a column of X, which has {', '.join(types)}, got {name!r}")
    if frame.target is not None and frame.target == frame.weight:
        raise ValueError(f"sample_weight: expected another column than y, got {frame.target!r} for both")
    for name, kind in types.items():
        if not is_fit(name, kind, frame.target, frame.weight):
            raise unfit("X", name, str(kind), frame.target, frame.weight)
    features = tuple(name for name in types if name not in (frame.target, frame.weight))
    if not features:
        raise ValueError(f"X: expected at least one feature, got none but {', '.join(types)}")
    return TableRows(features, frame.target, frame.weight, np.dtype(float), types, {})


def _make(rows: TableRows, piece: Piece, part: Any, others: Mapping[str, Array]) -> MadeRows:
    """The rows of a part."""
    format: TableFormat = TableInMemory(_to_table(part, str(piece.file)))  # type: ignore[assignment]
    made = rows.read(format, piece)
    made.arrays.update(others)
    return made
