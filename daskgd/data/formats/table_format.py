"""Tables in files: what their formats have in common, and the types of columns that all files agree on.

A table is cut into pieces, each of which a task reads into an Arrow table: row groups, or bytes of text.
Types come from the start of every file, and are widened where a piece needs it. Knows pyarrow by what it is
given, no format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from daskgd.data.formats.base import import_library
from daskgd.data.formats.files import File

Type = Any
"""A type of pyarrow."""

Types = dict[str, Type]
"""Types of columns by name, in order."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of a file that one task reads.

    Attributes
    ----------
    file : File
    start, stop : int
        Bytes of text, or the numbers of row groups.
    first_row : int
        The number in its file of the first of the rows.
    n_rows : int
    nbytes : int
        Bytes, for progress.
    has_quotes : bool
        Whether text has quotes.
    note : object
        What the format has noted of the file.
    """

    file: File
    start: int
    stop: int
    first_row: int
    n_rows: int
    nbytes: int
    has_quotes: bool = False
    note: Any = None


@dataclass(frozen=True, slots=True)
class Range:
    """A range of a file to count rows in: bytes `start` to `stop`, of rows that begin at byte `first`."""

    file: File
    start: int
    stop: int
    first: int


class TableFormat(Protocol):
    """How files of a format become Arrow tables; pickled into tasks."""

    def types(self, file: File) -> Types:
        """The types of the columns of a file, by its metadata or its first rows."""
        ...

    def index_columns(self, file: File) -> list[str]:
        """The columns of a file that were the index of a frame."""
        ...

    def find_text(self, files: Sequence[File], name: str) -> tuple[File, int, str] | None:
        """The first value of a column that is no number: its file, row and text; None where that is not
        told."""
        ...

    def doubtful(self, file: File) -> dict[str, tuple[int, str]]:
        """The columns of a file that are text, and for the most part numbers or dates, by the row and the
        text of the first value that is neither."""
        ...

    def ranges(self, file: File) -> list[Range]:
        """What of a file is to be counted; none where its metadata tell."""
        ...

    def count(self, part: Range) -> Any:
        """Count the rows of a range."""
        ...

    def pieces(self, file: File, counts: Sequence[Any]) -> list[Piece]:
        """The pieces of a file, in order, by the counts of its ranges. Raises ValueError where rows cannot be
        told apart."""
        ...

    def read(self, piece: Piece, types: Types) -> Any:
        """An Arrow table of these columns. Raises :class:`Widened`, ValueError."""
        ...


class Widened(Exception):
    """A piece holds values that the types so far do not: `types` are those of its columns that do. Or values
    are missing where the dtype of the numbers has no place for that: `gaps` is the first such column."""

    def __init__(self, where: str, types: Types, gaps: str | None = None) -> None:
        super().__init__(where, types, gaps)
        self.where, self.types, self.gaps = where, types, gaps


def unify(
    found: Sequence[tuple[str, Types]], find_text: Callable[[int, str], str | None] = lambda at, name: None
) -> Types:
    """The types of the columns of all files, in the order of the first.

    `found` are types by where they were found; `find_text` tells what a column of one of them, by its number,
    holds that is no number. Raises ValueError for a column that some file lacks, and for types of which none
    holds both.
    """
    first, types = found[0][0], dict(found[0][1])
    sources = dict.fromkeys(types, first)
    for at, (other, theirs) in enumerate(found[1:], 1):
        for name in dict.fromkeys((*types, *theirs)):
            if name not in theirs or name not in types:
                has, lacks = (first, other) if name in types else (other, first)
                raise ValueError(
                    f"{lacks}: expected the columns of {has}, got none of the name {name!r}; leave it out "
                    "(drop), or read these files apart"
                )
            wider = wider_type(types[name], theirs[name])
            if wider is None:
                text = find_text(at, name) if is_text(theirs[name]) else None
                raise ValueError(
                    f"{other}: expected {types[name]} in column {name!r}, as {sources[name]} has, got "
                    f"{text or theirs[name]}; leave the column out (drop), or make the files alike"
                )
            if wider != types[name]:
                types[name], sources[name] = wider, other
    return types


def wider_type(a: Type, b: Type) -> Type | None:
    """The type that holds all values of both, None where there is none."""
    pa = import_library("pyarrow", "Tables in")
    is_ = pa.types
    if a == b or is_.is_null(b):
        return a
    if is_.is_null(a):
        return b
    for one, other in ((a, b), (b, a)):
        if is_.is_dictionary(one):
            return wider_type(one.value_type, other.value_type if is_.is_dictionary(other) else other)
    if is_text(a) and is_text(b):
        return pa.large_string()
    if is_temporal(a) and is_temporal(b):
        return _wider_temporal(a, b)
    if is_.is_decimal(a) or is_.is_decimal(b):
        return pa.float64() if all(is_number(t) for t in (a, b)) else None
    if not (is_number(a) and is_number(b)) or is_.is_boolean(a) or is_.is_boolean(b):
        return None
    import numpy as np

    wide = np.result_type(a.to_pandas_dtype(), b.to_pandas_dtype())
    return pa.from_numpy_dtype(wide)


def _wider_temporal(a: Type, b: Type) -> Type | None:
    """The type of dates, of times of day or of durations that holds all values of both; None for two of
    different kinds, or with different time zones."""
    pa = import_library("pyarrow", "Tables in")
    is_ = pa.types
    if is_.is_timestamp(a) and is_.is_timestamp(b):
        return pa.timestamp(_finer(a.unit, b.unit), a.tz) if a.tz == b.tz else None
    if is_.is_date(a) and is_.is_date(b):
        return pa.date64()
    for one, other in ((a, b), (b, a)):
        if is_.is_date(one) and is_.is_timestamp(other) and other.tz is None:
            return pa.timestamp(_finer(other.unit, "ms" if is_.is_date64(one) else "s"))
    if is_.is_duration(a) and is_.is_duration(b):
        return pa.duration(_finer(a.unit, b.unit))
    if is_.is_time(a) and is_.is_time(b):
        unit = _finer(a.unit, b.unit)
        return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
    return None


def _finer(a: str, b: str) -> str:
    return max(a, b, key=("s", "ms", "us", "ns").index)


def is_temporal(kind: Type) -> bool:
    """Whether values of a type are dates, with or without a time, times of day, or durations."""
    is_ = import_library("pyarrow", "Tables in").types
    return bool(is_.is_temporal(kind)) and not is_.is_interval(kind)


def is_category(kind: Type) -> bool:
    """Whether features of a type are stored as codes of their categories: text, and what has a dictionary of
    text, integers or bool."""
    is_ = import_library("pyarrow", "Tables in").types
    if is_.is_null(kind):
        return False
    if is_.is_dictionary(kind):
        values = kind.value_type
        return is_text(values) or bool(is_.is_integer(values) or is_.is_boolean(values))
    return is_text(kind)


def is_feature(kind: Type) -> bool:
    """Whether columns of a type can be stored as features."""
    pa = import_library("pyarrow", "Tables in")
    return is_category(kind) or is_number(kind) or is_temporal(kind) or bool(pa.types.is_null(kind))


def is_number(kind: Type) -> bool:
    """Whether values of a type are numbers or bool."""
    is_ = import_library("pyarrow", "Tables in").types
    return bool(is_.is_integer(kind) or is_.is_floating(kind) or is_.is_decimal(kind) or is_.is_boolean(kind))


def is_text(kind: Type) -> bool:
    """Whether values of a type are text, perhaps by a dictionary of it."""
    is_ = import_library("pyarrow", "Tables in").types
    if is_.is_dictionary(kind):
        kind = kind.value_type
    view = getattr(is_, "is_string_view", lambda kind: False)  # pyarrow 17
    return bool(is_.is_string(kind) or is_.is_large_string(kind) or view(kind) or is_.is_null(kind))
