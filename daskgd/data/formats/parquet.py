"""Parquet, and Feather (Arrow's IPC files): typed columns in groups of rows, read by pyarrow."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from daskgd.data.formats.base import import_library
from daskgd.data.formats.files import File
from daskgd.data.formats.table_format import Piece, Range, Types

PIECE_BYTES = 64 << 20
"""Decoded bytes of the row groups that a task reads, about."""


class _Typed:
    """What formats have in common whose metadata tell types and rows."""

    def find_text(self, files: Sequence[File], name: str) -> tuple[File, int, str] | None:
        return None

    def doubtful(self, file: File) -> dict[str, tuple[int, str]]:
        """None: types are told."""
        return {}

    def ranges(self, file: File) -> list[Range]:
        return []

    def count(self, part: Range) -> Any:
        raise NotImplementedError("the metadata of a file tell")


@dataclass(frozen=True)
class Parquet(_Typed):
    """The format of Parquet files."""

    def types(self, file: File) -> Types:
        with _parquet_file(file) as parquet:
            return _types(file, parquet.schema_arrow)

    def index_columns(self, file: File) -> list[str]:
        """The columns that were the index of a frame of pandas or dask."""
        with _parquet_file(file) as parquet:
            return index_columns(parquet.schema_arrow)

    def pieces(self, file: File, counts: Sequence[Any]) -> list[Piece]:
        with _parquet_file(file) as parquet:
            groups = [parquet.metadata.row_group(i) for i in range(parquet.metadata.num_row_groups)]
            # What is stored by a dictionary says little of how much it is when read.
            row_bytes = 8 * len(parquet.schema_arrow)
        sizes = [(group.num_rows, max(group.total_byte_size, group.num_rows * row_bytes)) for group in groups]
        return list(_pieces(file, sizes))

    def read(self, piece: Piece, types: Types) -> Any:
        # Text comes as codes, as it is stored for the most part: they are what is wanted.
        with _parquet_file(piece.file, dictionaries=list(types)) as parquet:
            return parquet.read_row_groups(range(piece.start, piece.stop), list(types), use_threads=False)


@dataclass(frozen=True)
class Feather(_Typed):
    """The format of Feather files, version 2, which are those of Arrow's IPC."""

    def types(self, file: File) -> Types:
        with _feather_file(file) as batches:
            return _types(file, batches.schema)

    def index_columns(self, file: File) -> list[str]:
        """The columns that were the index of a frame of pandas or dask."""
        with _feather_file(file) as batches:
            return index_columns(batches.schema)

    def pieces(self, file: File, counts: Sequence[Any]) -> list[Piece]:
        with _feather_file(file) as batches:
            found = (batches.get_batch(i) for i in range(batches.num_record_batches))
            return list(_pieces(file, [(batch.num_rows, batch.nbytes) for batch in found]))

    def read(self, piece: Piece, types: Types) -> Any:
        pa = import_library("pyarrow", "Feather")
        with _feather_file(piece.file) as batches:
            found = [batches.get_batch(i).select(list(types)) for i in range(piece.start, piece.stop)]
        return pa.Table.from_batches(found)


def _types(file: File, schema: Any) -> Types:
    """The types of the columns of a schema. Raises ValueError for two of one name."""
    twice = [name for i, name in enumerate(schema.names) if name in schema.names[:i]]
    if twice:
        raise ValueError(
            f"{file}: expected columns of different names, got {twice[0]!r} twice; rename one of them"
        )
    pa, categorical = import_library("pyarrow", "Tables in"), _pandas_says(schema, "categorical")
    return {
        # Parquet keeps dictionaries of text alone; pandas notes where it had those of integers.
        field.name: pa.dictionary(pa.int32(), field.type)
        if field.name in categorical and pa.types.is_integer(field.type)
        else field.type
        for field in schema
    }


def _pieces(file: File, sizes: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    """Pieces of whole groups, whose rows and decoded bytes are given."""
    first = row = 0
    while first < len(sizes):
        last, nbytes = first, 0
        while last < len(sizes) and (last == first or nbytes + sizes[last][1] <= PIECE_BYTES):
            nbytes += sizes[last][1]
            last += 1
        n_rows = sum(n for n, _ in sizes[first:last])
        if n_rows:
            yield Piece(file, first, last, row, n_rows, nbytes)
        first, row = last, row + n_rows


def _pandas_says(schema: Any, kind: str) -> set[str]:
    """The columns of a schema that were of a kind in a frame of pandas."""
    said = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("columns", [])
    return {str(one.get("name")) for one in said if isinstance(one, dict) and one.get("pandas_type") == kind}


def index_columns(schema: Any) -> list[str]:
    """The columns of a schema that were the index of a frame: pandas says so, dask by a name."""
    said = json.loads((schema.metadata or {}).get(b"pandas", b"{}")).get("index_columns", [])
    named = [name for name in said if isinstance(name, str)]
    return [name for name in schema.names if name in named or name == "__null_dask_index__"]


@contextmanager
def _parquet_file(file: File, dictionaries: Sequence[str] = ()) -> Iterator[Any]:
    """A Parquet file, which is read with `dictionaries` for those of these columns that are text. Raises
    ValueError for what is none, OSError for what cannot be read; both name it."""
    pa, parquet = import_library("pyarrow", "Parquet"), import_library("pyarrow.parquet", "Parquet")
    with _named_errors(file, "Parquet"), file.open() as source:
        try:
            found = parquet.ParquetFile(source)
            schema = found.schema_arrow
            kinds = {name: schema.field(name).type for name in dictionaries}
            text = [
                n for n, kind in kinds.items() if pa.types.is_string(kind) or pa.types.is_large_string(kind)
            ]
            if text:
                found = parquet.ParquetFile(source, metadata=found.metadata, read_dictionary=text)
        except pa.ArrowException as cause:
            raise ValueError(f"expected a Parquet file: {cause}") from cause
        yield found


@contextmanager
def _feather_file(file: File) -> Iterator[Any]:
    """A Feather file. Raises ValueError for what is none, OSError for what cannot be read; both name it."""
    pa, ipc = import_library("pyarrow", "Feather"), import_library("pyarrow.ipc", "Feather")
    with _named_errors(file, "Feather"), file.open() as source:
        try:
            found = ipc.open_file(pa.PythonFile(source, "r"))
        except pa.ArrowException as cause:
            raise ValueError(
                f"expected a Feather file of version 2: {cause}; write it with the version 2"
            ) from cause
        yield found


@contextmanager
def _named_errors(file: File, what: str) -> Iterator[None]:
    """What is raised names the file, where it is one error or another about what is in it."""
    pa = import_library("pyarrow", what)
    try:
        yield
    except (ValueError, OSError, pa.ArrowException) as error:
        if str(file) in str(error):
            raise
        kind = OSError if isinstance(error, OSError) else ValueError
        raise kind(f"{file}: {error}") from error
