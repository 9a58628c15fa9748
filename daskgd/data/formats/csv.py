"""CSV and its kind: a record a line, fields between separators; cut at records, parsed by pyarrow."""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from daskgd.data.formats.base import Array, import_library
from daskgd.data.formats.casts import refuse_rounded_text
from daskgd.data.formats.files import File
from daskgd.data.formats.records import (
    RangeCount,
    RecordRange,
    StrayQuote,
    UnclosedQuote,
    count_records,
    record_ranges,
)
from daskgd.data.formats.table_format import (
    Piece,
    Range,
    Type,
    Types,
    Widened,
    is_category,
    is_number,
    is_temporal,
    is_text,
    wider_type,
)
from daskgd.data.formats.text_options import TextOptions, type_named

HEAD_BYTES = 1 << 20
"""Bytes at the start of each file of which types are inferred."""

PIECE_BYTES = 32 << 20
"""Bytes of text that a task parses, about."""

MISSING = (
    *("", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>"),
    *("N/A", "NA", "NULL", "NaN", "None", "n/a", "nan", "null"),
)
"""What stands for a missing number, as for pandas. In columns of text only what is empty is missing."""

TRUE, FALSE = ("True", "true", "TRUE"), ("False", "false", "FALSE")

BYTE_ORDER_MARK = b"\xef\xbb\xbf"

UNNAMED = "Unnamed: "
"""What the name of a column without one begins with, before its number; as of pandas."""

_BLANK = re.compile(rb"\r?\n")

_DATE = r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d.*)?"

MOSTLY = 0.5
"""Share of numbers or dates among the first values of a column from which text is doubtful there."""

_TABS = re.compile(r"\.tsv(\.\w+)?$", re.IGNORECASE)
"""Endings of files whose fields are between tabs, perhaps compressed."""


@dataclass(frozen=True, slots=True)
class Head:
    """The start of a file: the names of its columns, the byte at which the rows begin, and whether a space
    follows each separator."""

    names: tuple[str, ...]
    start: int
    spaced: bool


@dataclass(frozen=True)
class CSVFormat:
    """The format of files of separated values.

    Parameters
    ----------
    options : TextOptions
    """

    options: TextOptions

    # -- what a file holds --------------------------------------------------------------------

    def separator(self, file: File) -> str:
        """The separator of a file: as told, else by its ending."""
        return self.options.sep or ("\t" if _TABS.search(file.name) else ",")

    def head(self, file: File) -> Head:
        """The names of a file's columns and where its rows begin. Raises ValueError for a file without."""
        size = min(HEAD_BYTES, 1 << 16)
        while True:
            text = read_bytes(file, 0, size)
            found = self._head(file, text, len(text) < size)
            if found is not None:
                return found
            size *= 8

    def _head(self, file: File, text: bytes, is_whole: bool) -> Head | None:
        """The head of a file that begins with some text, None where it does not end there."""
        at = len(BYTE_ORDER_MARK) if text.startswith(BYTE_ORDER_MARK) else 0
        for _ in range(self.options.skip_rows):
            at = text.find(b"\n", at) + 1 or len(text)
        while blank := _BLANK.match(text, at):
            at = blank.end()
        lines = io.StringIO(text[at:].decode(self.options.encoding, errors="replace"), newline="\n")
        quoting = (
            {"quotechar": self.options.quotechar} if self.options.quotechar else {"quoting": csv.QUOTE_NONE}
        )
        records = csv.reader(lines, delimiter=self.separator(file), **quoting)
        try:
            fields = next(records, None)
        except csv.Error as error:
            raise ValueError(
                f"{file}: expected a first line of fields that ends with \\n or \\r\\n: {error}"
            ) from None
        stop = at
        for _ in range(records.line_num):
            stop = text.find(b"\n", stop) + 1 or len(text)
        if stop == len(text) and not is_whole:
            return None
        if not fields:
            raise ValueError(f"{file}: expected rows, got none")
        try:
            text[at:stop].decode(self.options.encoding)
        except UnicodeDecodeError as error:
            raise self._foreign(file, f"the first line: {error}") from None
        spaced = len(fields) > 1 and all(field.startswith(" ") for field in fields[1:])
        names = self.options.names
        if names is None and self.options.header:
            names = tuple(field.strip() or f"{UNNAMED}{i}" for i, field in enumerate(fields))
            twice = [name for i, name in enumerate(names) if name in names[:i]]
            if twice:
                raise ValueError(
                    f"{file}: expected columns of different names, got {twice[0]!r} twice; name them all "
                    "with names="
                )
        return Head(names or tuple(map(str, range(len(fields)))), stop if self.options.header else at, spaced)

    def types(self, file: File) -> Types:
        head = self.head(file)
        asked = [("dtypes", name) for name in self.options.dtypes]
        for option, name in [*asked, *(("dates", name) for name in self.options.dates)]:
            if name not in head.names:
                raise ValueError(
                    f"{option}: expected columns of {file}, which has {', '.join(head.names)}, got {name!r}"
                )
        text = self._first_rows(file, head)
        if not text.strip():
            pa = import_library("pyarrow", "CSV")
            return self._with_asked(dict.fromkeys(head.names, pa.null()))
        return self._infer(Piece(file, head.start, head.start + len(text), 0, -1, 0, True, head), text)

    def _first_rows(self, file: File, head: Head) -> bytes:
        """The text of which types are inferred, of whole rows."""
        size = HEAD_BYTES
        while True:
            text = read_bytes(file, head.start, head.start + size)
            if head.start + len(text) == file.size:
                return text
            count = count_records(text, b"", self._quote, self.separator(file).encode())
            if count.stops[0]:
                return text[: count.stops[0]]
            size *= 8

    def doubtful(self, file: File) -> dict[str, tuple[int, str]]:
        compute = import_library("pyarrow.compute", "CSV")
        head = self.head(file)
        text = self._first_rows(file, head)
        if not text.strip():
            return {}
        piece = Piece(file, head.start, head.start + len(text), 0, -1, 0, True, head)
        known = {*self.options.dtypes, *self.options.dates}
        kinds = {
            n: kind for n, kind in self._infer(piece, text).items() if is_category(kind) and n not in known
        }
        table = self._parse(piece, text, kinds) if kinds else None
        found = {}
        for name in kinds:
            assert table is not None
            column = _where_not(compute.utf8_trim_whitespace(table[name]), self._missing)
            is_like = compute.match_substring_regex(column, self._like_numbers)
            share = compute.mean(is_like).as_py()
            if share is not None and share >= MOSTLY:
                row = compute.index(is_like, False).as_py()
                found[name] = row, table[name][row].as_py()
        return {name: (row, value) for name, (row, value) in found.items() if row >= 0}

    @property
    def _like_numbers(self) -> str:
        """A regular expression of what looks like a number or a date."""
        decimal, mark = re.escape(self.options.decimal), re.escape(self.options.thousands or "")
        number = rf"[+-]?(\d[\d{mark}]*({decimal}\d*)?|{decimal}\d+)([eE][+-]?\d+)?"
        return f"^({number}|{_DATE})$"

    @property
    def _is_utf8(self) -> bool:
        return codecs.lookup(self.options.encoding).name == "utf-8"

    @property
    def _quote(self) -> bytes:
        return self.options.quotechar.encode()

    def index_columns(self, file: File) -> list[str]:
        """The columns that have no name, as pandas writes an index."""
        return [name for name in self.head(file).names if name.startswith(UNNAMED)]

    def find_text(self, files: Sequence[File], name: str) -> tuple[File, int, str] | None:
        pa = import_library("pyarrow", "CSV")
        for file in files:
            head = self.head(file)
            text = read_bytes(file, head.start, head.start + HEAD_BYTES)
            count = count_records(text, b"", self._quote, self.separator(file).encode())
            text = text[: count.stops[0]] if count.stops[0] else text
            piece = Piece(file, head.start, head.start + len(text), 0, -1, 0, True, head)
            column = self._parse(piece, text, {name: pa.large_string()})[name].combine_chunks()
            if len(column) and not self._casts(name, column, pa.float64()):
                row, value = self.first_bad(piece, text, name, pa.float64())
                return file, row, value
        return None

    def ranges(self, file: File) -> list[Range]:
        start = self.head(file).start
        return [
            Range(file, a, min(a + PIECE_BYTES, file.size), start)
            for a in range(start, file.size, PIECE_BYTES)
        ]

    def count(self, part: Range) -> RangeCount:
        before = min(2, part.start - part.first)
        text = read_bytes(part.file, part.start - before, part.stop)
        return count_records(text[before:], text[:before], self._quote, self.separator(part.file).encode())

    def pieces(self, file: File, counts: Sequence[RangeCount]) -> list[Piece]:
        head = self.head(file)
        found: list[Piece] = []
        rows = 0
        try:
            for part in record_ranges(counts, head.start):
                found.append(_piece(file, part, rows, head))
                rows += part.n_records
        except StrayQuote as error:
            text = read_bytes(file, max(error.at - 40, 0), error.at + 20)
            raise ValueError(
                f"{file}: expected quotes around whole fields, got one within a field, at byte "
                f"{error.at}: {text.decode(errors='replace')!r}; where quotes mean nothing, pass quotechar=''"
            ) from None
        except UnclosedQuote as error:
            text = read_bytes(file, error.at, error.at + 80)
            raise ValueError(
                f"{file}: expected quotes in pairs, got a field that never ends, in row {rows}, at byte "
                f"{error.at}: {text.decode(errors='replace')!r}; where quotes mean nothing, pass quotechar=''"
            ) from None
        return [piece for piece in found if piece.n_rows]

    # -- parsing ------------------------------------------------------------------------------

    def read(self, piece: Piece, types: Types) -> Any:
        pa = import_library("pyarrow", "CSV")
        text = read_bytes(piece.file, piece.start, piece.stop)
        try:
            table = self._parse(piece, text, types)
        except pa.ArrowInvalid as error:
            inferred = self._infer(piece, text)
            widened = {}
            for name, kind in types.items():
                wider = wider_type(kind, inferred[name])
                if wider is None:
                    raise self._refusal(piece, text, name, kind) from None
                if wider != kind:
                    widened[name] = wider
            if not widened:
                raise self._not_as_asked(piece, text, error) from None
            raise Widened(str(piece.file), widened) from None
        if piece.n_rows >= 0 and table.num_rows != piece.n_rows:
            raise ValueError(
                f"{piece.file}: expected {piece.n_rows} rows from byte {piece.start} on, got "
                f"{table.num_rows}; lines have to end with \\n or \\r\\n, and quotes to come in pairs"
            )
        for name in table.column_names:
            if pa.types.is_float64(table[name].type) and name not in self.options.dtypes:
                integers = partial(self._integers, piece, text, name)
                refuse_rounded_text(table[name].to_numpy(), integers, piece.file, piece.first_row, name)
        return table

    def _integers(self, piece: Piece, text: bytes, name: str, rows: Array) -> list[int | None]:
        """Those of some values of a column that are written as integers, None for others."""
        pa, compute = import_library("pyarrow", "CSV"), import_library("pyarrow.compute", "CSV")
        column = self._parse(piece, text, {name: pa.large_string()})[name].take(pa.array(rows))
        column = compute.utf8_trim_whitespace(column)
        if self.options.thousands is not None:
            column = compute.replace_substring(column, self.options.thousands, "")
        is_whole = compute.match_substring_regex(column, r"^[+-]?\d+$")
        known = compute.if_else(is_whole, column, pa.scalar(None, column.type))
        return [None if one is None else int(one) for one in known.to_pylist()]

    def _parse(self, piece: Piece, text: bytes, types: Types | None) -> Any:
        """Parse text as columns of some types, all columns by inference where there are none. Raises what
        pyarrow does for values that are not of their type, ValueError for rows of other lengths."""
        pa, reader = import_library("pyarrow", "CSV"), import_library("pyarrow.csv", "CSV")
        options, head = self.options, piece.note
        bad: list[Any] = []

        def note(row: Any) -> str:
            bad.append(row)
            return "error"

        missing, spaces = self._missing, ("", " ") if head.spaced else ("",)
        is_marked = self._is_utf8 and text.startswith(BYTE_ORDER_MARK)  # one is skipped, which is text here
        as_text = {} if types is None else {name: self._raw(name, kind) for name, kind in types.items()}
        asked = {} if types is not None else {n: self._raw(n, k) for n, k in self._with_asked({}).items()}
        try:
            table = reader.read_csv(
                pa.BufferReader(BYTE_ORDER_MARK * is_marked + text),
                reader.ReadOptions(
                    use_threads=False,
                    block_size=max(len(text) + 16, 1024),
                    column_names=list(head.names),
                    encoding="utf8" if self._is_utf8 else options.encoding,
                ),
                reader.ParseOptions(
                    delimiter=self.separator(piece.file),
                    quote_char=options.quotechar or False,
                    newlines_in_values=bool(options.quotechar) and piece.has_quotes,
                    invalid_row_handler=note,
                ),
                reader.ConvertOptions(
                    column_types=as_text or asked,
                    include_columns=list(as_text) or None,
                    null_values=[space + value for value in missing for space in spaces],
                    true_values=[space + value for value in TRUE for space in spaces],
                    false_values=[space + value for value in FALSE for space in spaces],
                    decimal_point=options.decimal,
                    timestamp_parsers=[],
                ),
            )
        except pa.ArrowInvalid as error:
            if bad:
                raise self._ragged(piece, bad[0]) from None
            if "UTF8" in str(error) or "UTF-8" in str(error):
                raise self._foreign(piece.file, f"rows from {piece.first_row} on") from None
            raise
        except UnicodeDecodeError as error:
            where = f"rows from {piece.first_row} on: {error}"
            raise self._foreign(piece.file, where) from None
        for i, name in enumerate(table.column_names):
            kind = table.schema.field(i).type
            wanted = kind if types is None else types[name]
            if is_text(kind) and not pa.types.is_null(kind):
                is_date = name in options.dates and not is_text(wanted)
                column = (
                    self._numbers(table[name], wanted)
                    if is_number(wanted)
                    else self._dates(name, table[name])
                    if is_date
                    else self._texts(piece, table[name], head)
                )
                table = table.set_column(i, name, column)
            elif is_number(kind) and self.options.na_values:
                table = table.set_column(i, name, self._without_missing(table[name]))
        return table

    def _raw(self, name: str, kind: Type) -> Type:
        """The type in which a column of a type is parsed first."""
        pa = import_library("pyarrow", "CSV")
        if name in self.options.dates:
            return pa.large_string()
        is_grouped = self.options.thousands is not None and is_number(kind)
        return pa.large_string() if is_grouped and not pa.types.is_boolean(kind) else kind

    @property
    def _missing(self) -> list[str]:
        return [*(MISSING if self.options.keep_default_na else ()), *self.options.na_values]

    def _numbers(self, column: Any, kind: Type) -> Any:
        """Text with marks of thousands as numbers. Raises what pyarrow does for other text."""
        pa, compute = import_library("pyarrow", "CSV"), import_library("pyarrow.compute", "CSV")
        column = compute.utf8_trim_whitespace(column)
        column = _where_not(column, self._missing)
        mark, decimal = self.options.thousands, self.options.decimal
        if mark is not None:
            # Dates such as 1.2.2020 are no numbers; groups of two are those of India.
            one = re.escape(mark)
            grouped = rf"^[+-]?\d{{1,3}}({one}\d{{2,3}})*{one}\d{{3}}([^\d{one}][^{one}]*)?$"
            is_odd = compute.and_not(
                compute.match_substring(column, mark), compute.match_substring_regex(column, grouped)
            )
            column = compute.if_else(is_odd, pa.scalar("?", column.type), column)
            column = compute.replace_substring(column, mark, "")
        if decimal != ".":
            column = compute.replace_substring(column, ".", "?")
            column = compute.replace_substring(column, decimal, ".")
        return self._without_missing(compute.cast(column, pa.float64() if pa.types.is_null(kind) else kind))

    def _dates(self, name: str, column: Any) -> Any:
        """Text as dates, by the format that the user has told. Raises what pyarrow does for other text."""
        compute = import_library("pyarrow.compute", "CSV")
        column = _where_not(compute.utf8_trim_whitespace(column), self._missing)
        return compute.strptime(column, format=self.options.dates[name], unit="s")

    def _without_missing(self, column: Any) -> Any:
        """Numbers without those that stand for a missing one, however they are written: -9 is -9.0."""
        pa = import_library("pyarrow", "CSV")
        if pa.types.is_boolean(column.type) or is_temporal(column.type):
            return column
        values = []
        for text in self.options.na_values:
            with suppress(ValueError):  # no number, or none of this type
                values.append(pa.scalar(float(text)).cast(column.type).as_py())
        return _where_not(column, values)

    def _texts(self, piece: Piece, column: Any, head: Head) -> Any:
        """Text as it is, without the spaces after separators where the header has them too, and missing where
        it is empty or told so."""
        compute = import_library("pyarrow.compute", "CSV")
        if head.spaced and self.options.header:
            column = compute.utf8_ltrim(column, " ")
            quoted = compute.starts_with(column, self.options.quotechar or "\0")
            if compute.any(quoted).as_py():
                raise ValueError(
                    f"{piece.file}: expected quotes right after separators, got a space between; remove "
                    "these spaces"
                )
        empty = [""] if self.options.keep_default_na else []
        return _where_not(column, [*empty, *self.options.na_values])

    def _infer(self, piece: Piece, text: bytes) -> Types:
        """The types of all columns of some rows."""
        pa = import_library("pyarrow", "CSV")
        try:
            table = self._parse(piece, text, None)
        except pa.ArrowInvalid as error:
            raise self._not_as_asked(piece, text, error) from None
        found: Types = {}
        for name in table.column_names:
            kind, values = table.schema.field(name).type, table[name]
            if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
                raise self._foreign(piece.file, f"column {name!r}")
            if is_text(kind) and not pa.types.is_null(kind):
                kind = self._number_type(values) or pa.large_string()
            found[name] = kind
        return self._with_asked(found)

    def _number_type(self, values: Any) -> Type | None:
        """The type of numbers that text with marks of thousands holds, None if it is none."""
        pa = import_library("pyarrow", "CSV")
        if self.options.thousands is None:
            return None
        for kind in (pa.int64(), pa.float64()):
            try:
                self._numbers(values, kind)
                return kind
            except pa.ArrowInvalid:
                continue
        return None

    def _with_asked(self, types: Types) -> Types:
        """The types with those that the user has told in their places."""
        pa = import_library("pyarrow", "CSV")
        asked = {name: type_named(name, kind) for name, kind in self.options.dtypes.items()}
        return types | asked | dict.fromkeys(self.options.dates, pa.timestamp("s"))

    # -- refusals -----------------------------------------------------------------------------

    def _foreign(self, file: File, where: str) -> ValueError:
        """An error about text in another encoding."""
        return ValueError(
            f"{file}: expected text in {self.options.encoding}, got other bytes in {where}; say the "
            "encoding, such as encoding='latin-1'"
        )

    def _not_as_asked(self, piece: Piece, text: bytes, error: Exception) -> ValueError:
        """An error about the first value that is not of the type that the user has told, else as pyarrow
        says."""
        for name, kind in self._with_asked({}).items():
            if not is_text(kind):
                row, value = self.first_bad(piece, text, name, kind)
                if not self._casts(name, _array([value]), kind):
                    by = f"{self.options.dates[name]!r}" if name in self.options.dates else str(kind)
                    option = "dates" if name in self.options.dates else "dtypes"
                    return ValueError(
                        f"{piece.file}: expected {by} in column {name!r}, as {option} says, got {value!r} in "
                        f"row {row}; take another type, or leave the column out (drop)"
                    )
        return ValueError(f"{piece.file}, rows from {piece.first_row} on: {error}")

    def _ragged(self, piece: Piece, row: Any) -> ValueError:
        at = "a row" if row.number is None else f"row {piece.first_row + row.number - 1}"
        mend = "check the separator (sep) and the quotes there"
        if row.actual_columns == row.expected_columns + 1 and row.text.endswith(self.separator(piece.file)):
            mend = (
                "rows end with a separator: pass names with one name more, and leave that column out (drop)"
            )
        return ValueError(
            f"{piece.file}: expected {row.expected_columns} fields in {at}, got {row.actual_columns}: "
            f"{row.text[:80]!r}; {mend}"
        )

    def _refusal(self, piece: Piece, text: bytes, name: str, kind: Type) -> ValueError:
        """An error about the first value of a column that is not of its type."""
        row, value = self.first_bad(piece, text, name, kind)
        what = "dates or times" if is_temporal(kind) else "bool" if str(kind) == "bool" else "numbers"
        return ValueError(
            f"{piece.file}: expected {what} in column {name!r}, "
            f"as before, got {value!r} in row {row}; leave the column out (drop), say na_values=[{value!r}] "
            f"if it stands for a missing one, or dtypes={{{name!r}: 'string'}} if all of it is text"
        )

    def first_bad(self, piece: Piece, text: bytes | None, name: str, kind: Type) -> tuple[int, str]:
        """The row, in its file, and the text of the first value of a column that is not of a type."""
        pa = import_library("pyarrow", "CSV")
        text = read_bytes(piece.file, piece.start, piece.stop) if text is None else text
        column = self._parse(piece, text, {name: pa.large_string()})[name].combine_chunks()
        low, high = 0, len(column)
        while high - low > 1:  # the first bad one is from low on, and before high
            middle = (low + high) // 2
            if self._casts(name, column.slice(low, middle - low), kind):
                low = middle
            else:
                high = middle
        return piece.first_row + low, column[low].as_py()

    def _casts(self, name: str, column: Any, kind: Type) -> bool:
        pa, compute = import_library("pyarrow", "CSV"), import_library("pyarrow.compute", "CSV")
        try:
            if pa.types.is_boolean(kind):
                allowed = pa.array([*TRUE, *FALSE, *self._missing], column.type)
                return bool(compute.all(compute.is_in(column.drop_null(), allowed)).as_py() in (True, None))
            if name in self.options.dates:
                self._dates(name, column)
            elif is_temporal(kind):
                column = compute.utf8_trim_whitespace(column)
                compute.cast(_where_not(column, self._missing), kind)
            else:
                self._numbers(column, kind)
        except pa.ArrowInvalid:
            return False
        return True


def _piece(file: File, part: RecordRange, first_row: int, head: Head) -> Piece:
    size = part.stop - part.start
    return Piece(file, part.start, part.stop, first_row, part.n_records, size, part.has_quotes, head)


def read_bytes(file: File, start: int, stop: int) -> bytes:
    """The bytes of a file from `start` to `stop`, fewer at its end."""
    with file.open() as source:
        source.seek(start)
        found: bytes = source.read(max(stop - start, 0))
    return found


def _array(values: Sequence[str | None]) -> Any:
    pa = import_library("pyarrow", "CSV")
    return pa.array(values, pa.large_string())


def _where_not(column: Any, values: Sequence[Any]) -> Any:
    """A column that is missing where it is one of some values."""
    pa, compute = import_library("pyarrow", "CSV"), import_library("pyarrow.compute", "CSV")
    if not values:
        return column
    bad = compute.is_in(column, pa.array(list(values), column.type))
    return compute.if_else(bad, pa.scalar(None, column.type), column)
