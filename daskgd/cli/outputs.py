"""Predictions as files, written some blocks at a time: npy, CSV, Parquet, or a dataset in zarr."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

Part = tuple[Any, Any]
"""Rows of predictions: the ids ``(m,)`` or None, and the predictions ``(m,)`` or ``(m, k)``."""


@dataclass(frozen=True, slots=True)
class Predictions:
    """What is to be written.

    Attributes
    ----------
    names : sequence of str
        What the columns of the predictions are called.
    shape, dtype : tuple of int, numpy dtype
        Of all predictions, ``(n,)`` or ``(n, k)``.
    is_target : bool
        Whether they are what a target is, labels or numbers; else there is one of them for each class.
    id_name, id_dtype : str and numpy dtype, or None
        The column that stands before them.
    """

    names: Sequence[str]
    shape: tuple[int, ...]
    dtype: Any
    is_target: bool
    id_name: str | None = None
    id_dtype: Any = None

    @property
    def header(self) -> list[str]:
        return [*([] if self.id_name is None else [self.id_name]), *self.names]


def write_npy(out: str, what: Predictions, parts: Iterator[Part]) -> None:
    """The predictions alone."""
    import numpy as np

    with _renamed(out) as unfinished:
        array, at = np.lib.format.open_memmap(unfinished, "w+", what.dtype, what.shape), 0
        for _, part in parts:
            array[at : at + len(part)] = part
            at += len(part)
        array.flush()


def write_csv(out: str, what: Predictions, parts: Iterator[Part]) -> None:
    """A line of names, and one for each row; ids that are whole have no point."""
    import csv

    with _renamed(out) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(what.header)
        for ids, part in parts:
            rows = part.reshape(len(part), -1).tolist()
            if ids is not None:
                plain = (int(v) if isinstance(v, float) and v.is_integer() else v for v in ids.tolist())
                rows = [[v, *row] for v, row in zip(plain, rows, strict=True)]
            writer.writerows(rows)


def write_parquet(out: str, what: Predictions, parts: Iterator[Part]) -> None:
    """A table with a row group for each part."""
    from daskgd.data.formats.base import import_library

    pa, pq = (import_library(name, "Parquet") for name in ("pyarrow", "pyarrow.parquet"))

    def kind(dtype: Any) -> Any:
        return pa.string() if dtype.kind in "OUT" else pa.from_numpy_dtype(dtype)

    dtypes = [*([] if what.id_name is None else [what.id_dtype]), *[what.dtype] * len(what.names)]
    schema = pa.schema([(name, kind(dtype)) for name, dtype in zip(what.header, dtypes, strict=True)])
    with _renamed(out) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for ids, part in parts:
            columns = [*([] if ids is None else [ids]), *part.reshape(len(part), -1).T]
            arrays = [pa.array(c, type=field.type) for c, field in zip(columns, schema, strict=True)]
            writer.write_table(pa.table(arrays, schema=schema))


def write_zarr(out: str, what: Predictions, parts: Iterator[Part]) -> None:
    """A dataset: what a target is, is its y, beside the ids or the numbers of the rows as X; of numbers for
    each class X has the columns."""
    import numpy as np

    from daskgd import write_dataset

    def blocks() -> Iterator[Any]:
        at = 0
        for ids, part in parts:
            first = np.arange(at, at + len(part)) if ids is None else ids
            at += len(part)
            if what.is_target:
                yield first.reshape(-1, 1), part
            else:
                values = part.reshape(len(part), -1)
                yield values if ids is None else np.column_stack([ids, values])

    names = [what.id_name or "row"] if what.is_target else what.header
    write_dataset(out, blocks(), feature_names=names)


Writer = Callable[[str, Predictions, Iterator[Part]], None]
WRITERS: dict[str, Writer] = {
    ".npy": write_npy,
    ".csv": write_csv,
    ".parquet": write_parquet,
    ".pq": write_parquet,
    ".zarr": write_zarr,
}
"""By the endings of paths."""


@contextmanager
def _renamed(out: str) -> Iterator[str]:
    """A path beside `out`, renamed to it at the end; nothing is left of a file that is not finished."""
    path = Path(out)
    unfinished = path.with_name(f".{path.name}.{uuid4().hex}.partial")
    try:
        yield str(unfinished)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink()
        raise
