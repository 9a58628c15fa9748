"""Tables whose columns have names: CSV, read by pandas, and Parquet, read by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from daskgd.data.formats.base import (
    COMPRESSED,
    Array,
    Block,
    ColumnRoles,
    Format,
    NamedBlocks,
    Progress,
    import_library,
    make_block,
    rows_per_block,
)


def _feature_names(names: Sequence[str], roles: ColumnRoles, where: object) -> list[str]:
    """The names of the columns that are features. Raises ValueError for roles of columns that are missing."""
    for role, name in (
        ("target", roles.target),
        ("weight", roles.weight),
        *(("drop", d) for d in roles.drop),
    ):
        if name is not None and name not in names:
            raise ValueError(
                f"{role}: expected a column of {where}, which has {', '.join(names)}, got {name!r}"
            )
    gone = {roles.target, roles.weight, *roles.drop}
    found = [name for name in names if name not in gone]
    if not found:
        raise ValueError(f"{where}: expected at least one feature, got none but {', '.join(names)}")
    return found


def _not_numbers(name: str, dtype: object, where: object) -> ValueError:
    return ValueError(
        f"{where}: expected numbers in column {name!r}, got {dtype}; leave it out (drop), or encode it first"
    )


def read_csv(places: Sequence[Path], roles: ColumnRoles, progress: Progress) -> NamedBlocks:
    """Rows of tables with a line of names, separated by commas, or by tabs in .tsv; float64 unless asked."""
    pandas = import_library("pandas", "CSV")

    def separator(place: Path) -> str:
        return "\t" if ".tsv" in place.suffixes else ","

    def packed(place: Path) -> str | None:
        return COMPRESSED.get(place.suffix)

    heads = [pandas.read_csv(p, sep=separator(p), nrows=0, compression=packed(p)) for p in places]
    names = [str(name) for name in heads[0].columns]
    for head, place in zip(heads, places, strict=True):
        if list(map(str, head.columns)) != names:
            raise ValueError(f"{place}: expected the columns of {places[0]}, {', '.join(names)}, got others")
    features = _feature_names(names, roles, places[0])
    dtype = roles.dtype or np.dtype(float)
    total = sum(place.stat().st_size for place in places)

    def blocks() -> Iterator[Block]:
        before = 0
        for place in places:
            with place.open("rb") as file:
                frames = pandas.read_csv(
                    file,
                    sep=separator(place),
                    compression=packed(place),
                    chunksize=rows_per_block(8 * len(names)),
                    skipinitialspace=True,
                )
                for frame in frames:
                    for name in features:
                        if frame[name].dtype.kind not in "fiub":
                            raise _not_numbers(name, f"such as {frame[name].iloc[0]!r}", place)
                    X = frame[features].to_numpy(dtype)
                    y = None if roles.target is None else _objects_to_text(frame[roles.target].to_numpy())
                    s = None if roles.weight is None else frame[roles.weight].to_numpy(float)
                    yield make_block(X, y, s, place)
                    if progress is not None:
                        progress(before + min(file.tell(), total), total)
            before += place.stat().st_size

    return features, blocks()


def _objects_to_text(y: Array) -> Array:
    """Targets: numbers and bool as they are, labels that came as objects as text."""
    return y.astype(str) if y.dtype.kind not in "fiub" else y


def read_parquet(places: Sequence[Path], roles: ColumnRoles, progress: Progress) -> NamedBlocks:
    """Rows of tables of numbers, in the dtype that holds all of them unless asked."""
    pyarrow = import_library("pyarrow", "Parquet")
    dataset = import_library("pyarrow.dataset", "Parquet")
    paths = [str(f) for p in places for f in (sorted(p.rglob("*.parquet")) if p.is_dir() else [p])]
    try:
        table = dataset.dataset(paths, format="parquet")
    except pyarrow.ArrowException as cause:
        raise ValueError(f"{places[0]}: expected a Parquet file: {cause}") from cause
    where = ", ".join(map(str, places))
    features = _feature_names(list(table.schema.names), roles, where)
    kinds = {}
    for name in features:
        kind = table.schema.field(name).type
        if not (
            pyarrow.types.is_integer(kind)
            or pyarrow.types.is_floating(kind)
            or pyarrow.types.is_boolean(kind)
        ):
            raise _not_numbers(name, kind, where)
        kinds[name] = (
            np.dtype(np.uint8) if pyarrow.types.is_boolean(kind) else np.dtype(kind.to_pandas_dtype())
        )
    dtype = roles.dtype or np.result_type(*kinds.values())
    total, wanted = table.count_rows(), [*features, *(n for n in (roles.target, roles.weight) if n)]

    def numbers(batch: Any, name: str, to: np.dtype[Any]) -> Array:
        column = batch.column(name)
        if column.null_count and to.kind != "f":
            raise ValueError(
                f"{where}: column {name!r} has missing values, which {to} cannot hold; take "
                "dtype='float64', or fill them first"
            )
        if pyarrow.types.is_boolean(column.type):
            column = column.cast(pyarrow.uint8())
        values: Array = column.to_numpy(zero_copy_only=False)
        return values

    def blocks() -> Iterator[Block]:
        done = 0
        for batch in table.to_batches(
            columns=wanted, batch_size=rows_per_block(dtype.itemsize * len(features))
        ):
            if not batch.num_rows:
                continue
            X = np.empty((batch.num_rows, len(features)), dtype)
            for j, name in enumerate(features):
                X[:, j] = numbers(batch, name, dtype)
            y = s = None
            if roles.target is not None:
                y = _objects_to_text(batch.column(roles.target).to_numpy(zero_copy_only=False))
            if roles.weight is not None:
                s = numbers(batch, roles.weight, np.dtype(float)).astype(float)
            yield make_block(X, y, s, where)
            done += batch.num_rows
            if progress is not None:
                progress(done, total)

    return features, blocks()


CSV = Format("csv", (".csv", ".tsv"), read_csv, compressed=True)
PARQUET = Format("parquet", (".parquet", ".pq"), read_parquet, folders=True)
