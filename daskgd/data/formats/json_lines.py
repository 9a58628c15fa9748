"""JSON lines: text with an object a line, cut at newlines, parsed by pyarrow."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from daskgd.data.formats.base import Array, import_library
from daskgd.data.formats.casts import refuse_rounded_text
from daskgd.data.formats.csv import HEAD_BYTES, PIECE_BYTES, read_bytes
from daskgd.data.formats.files import File
from daskgd.data.formats.records import RangeCount, count_records, record_ranges
from daskgd.data.formats.table_format import Piece, Range, Types, Widened, wider_type


@dataclass(frozen=True)
class JSONLines:
    """The format of files with a JSON object a line."""

    def types(self, file: File) -> Types:
        size = HEAD_BYTES
        while True:
            text = read_bytes(file, 0, size)
            stop = len(text) if len(text) == file.size else count_records(text, b"", b"").stops[0]
            if stop:
                return self._infer(str(file), text[:stop])
            size *= 8

    def index_columns(self, file: File) -> list[str]:
        """None: there is no word for it."""
        return []

    def find_text(self, files: Sequence[File], name: str) -> tuple[File, int, str] | None:
        return None

    def doubtful(self, file: File) -> dict[str, tuple[int, str]]:
        """None: types are told."""
        return {}

    def ranges(self, file: File) -> list[Range]:
        starts = range(0, file.size, PIECE_BYTES)
        return [Range(file, a, min(a + PIECE_BYTES, file.size), 0) for a in starts]

    def count(self, part: Range) -> RangeCount:
        before = min(2, part.start)
        text = read_bytes(part.file, part.start - before, part.stop)
        return count_records(text[before:], text[:before], b"")

    def pieces(self, file: File, counts: Sequence[RangeCount]) -> list[Piece]:
        found: list[Piece] = []
        rows, names = 0, tuple(self.types(file))
        for part in record_ranges(counts, 0):
            size = part.stop - part.start
            if part.n_records:
                found.append(Piece(file, part.start, part.stop, rows, part.n_records, size, note=names))
            rows += part.n_records
        return found

    def read(self, piece: Piece, types: Types) -> Any:
        pa = import_library("pyarrow", "JSON")
        text = read_bytes(piece.file, piece.start, piece.stop)
        where = f"{piece.file}, rows {piece.first_row} to {piece.first_row + piece.n_rows - 1}"
        try:
            table, names = _parse_known(text, types)
        except pa.ArrowInvalid as error:
            misfits = [name for name, kind in types.items() if not _fits(text, name, kind)]
            inferred = self._infer(where, _only(text, misfits)) if misfits else {}
            widened = {}
            for name in misfits:
                kind = types[name]
                found = inferred.get(name, kind)
                wider = wider_type(kind, found)
                if wider is None:
                    raise ValueError(
                        f"{where}: expected {kind} in column {name!r}, as before, got {found}; leave the "
                        "column out (drop), or make all of it alike"
                    ) from None
                if wider != kind:
                    widened[name] = wider
            if not widened:
                raise ValueError(f"{where}: {error}") from None
            raise Widened(where, widened) from None
        late = [name for name in names if name not in piece.note]
        if late:
            raise ValueError(
                f"{where}: expected the names of the first rows, {', '.join(piece.note)}, got {late[0]!r} as "
                "well; give it in the first row too, as null"
            )
        if table.num_rows != piece.n_rows:
            raise ValueError(f"{where}: expected a row a line, got {table.num_rows} rows")
        for name in table.column_names:
            if pa.types.is_float64(table[name].type):
                integers = partial(_integers, text, name)
                refuse_rounded_text(table[name].to_numpy(), integers, piece.file, piece.first_row, name)
        return table

    def _infer(self, where: str, text: bytes) -> Types:
        pa = import_library("pyarrow", "JSON")
        try:
            schema = _parse(text, None).schema
        except pa.ArrowInvalid as error:
            raise ValueError(f"{where}: expected a JSON object a line, all alike: {error}") from None
        return {field.name: field.type for field in schema}


def _parse_known(text: bytes, types: Types) -> tuple[Any, list[str]]:
    """An Arrow table of columns of some types, and the names of all that there are in lines of text."""
    pa = import_library("pyarrow", "JSON")
    try:
        table = _parse(text, types, "infer")
        return table.select(list(types)), table.column_names
    except pa.ArrowInvalid:  # of columns that are left out, types may change
        table = _parse(text, types)
        rows = (json.loads(line) for line in text.split(b"\n") if line.strip())
        return table, list(dict.fromkeys(name for row in rows for name in row))


def _fits(text: bytes, name: str, kind: Any) -> bool:
    """Whether a column in lines of text can be read as of a type."""
    pa = import_library("pyarrow", "JSON")
    try:
        _parse(text, {name: kind})
    except pa.ArrowInvalid:
        return False
    return True


def _integers(text: bytes, name: str, rows: Array) -> list[int | None]:
    """Those of some values of a column in lines of text that are written as integers, None for others."""
    lines = [line for line in text.split(b"\n") if line.strip()]
    values = [json.loads(lines[row])[name] for row in rows.tolist()]
    return [value if isinstance(value, int) else None for value in values]


def _only(text: bytes, names: Sequence[str]) -> bytes:
    """The lines of text with these columns alone; all of the text if a line is no JSON object."""
    try:
        rows = [json.loads(line) for line in text.split(b"\n") if line.strip()]
        return b"\n".join(json.dumps({name: row.get(name) for name in names}).encode() for row in rows)
    except (ValueError, AttributeError):
        return text


def _parse(text: bytes, types: Types | None, others: str = "ignore") -> Any:
    """An Arrow table of lines of text, of columns of some types and perhaps of others; of all by inference
    where there are none."""
    pa, reader = import_library("pyarrow", "JSON"), import_library("pyarrow.json", "JSON")
    schema = None if types is None else pa.schema(list(types.items()))
    return reader.read_json(
        pa.BufferReader(text),
        reader.ReadOptions(use_threads=False, block_size=max(len(text) + 16, 1024)),
        reader.ParseOptions(
            explicit_schema=schema, unexpected_field_behavior="infer" if schema is None else others
        ),
    )
