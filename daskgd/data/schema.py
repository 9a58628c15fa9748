"""What the columns of a dataset are: kinds, types, missing values, ranges, categories.

Knows no files: what they say of their columns is for :mod:`daskgd.data.formats`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any

import numpy as np

from daskgd.data.html import html_table
from daskgd.rows.dictionaries import Dictionaries, Dictionary

TEMPORAL = ("date", "time", "duration")
"""Kinds that are stored as whole numbers of a unit."""

EXACT = 2**53
"""Up to here all whole numbers are numbers of float64."""

SHOWN_COLUMNS, SHOWN_CATEGORIES = 60, 3
"""Columns that are shown of a schema, and categories of a column."""

HEADER = ("column", "kind", "type", "missing", "values")


@dataclass(frozen=True, slots=True)
class ColumnSchema:
    """What a column of features is.

    Attributes
    ----------
    name : str
    kind : "number", "bool", "date", "time", "duration" or "category"
        Dates, times of day and durations are stored as numbers of their unit: dates since 1970, in UTC where
        there is a time zone, times since midnight.
    dtype : str
        Of the values where they come from, as numpy calls it: ``"int64"``, ``"datetime64[us]"``; of
        categories ``"str"``, ``"int64"`` or ``"bool"``.
    timezone : str or None
    n_missing : int or None
        Rows without a value; None where it is not known.
    minimum, maximum : number or None
        Of the finite values, as they are stored.
    """

    name: str
    kind: str
    dtype: str
    timezone: str | None = None
    n_missing: int | None = None
    minimum: float | None = None
    maximum: float | None = None
    dictionary: Dictionary | None = field(default=None, repr=False, compare=False)

    @property
    def n_categories(self) -> int | None:
        """How many categories there are, None of a column of numbers."""
        return None if self.dictionary is None else len(self.dictionary)

    @property
    def categories(self) -> int | list[Any] | None:
        """The categories, sorted, or how many where no more is known; None of a column of numbers."""
        return None if self.dictionary is None else self.dictionary.given

    @property
    def counts(self) -> dict[Any, int] | None:
        """The rows of each category; None where they are not known."""
        if self.dictionary is None or self.dictionary.counts is None:
            return None
        return dict(zip(self.dictionary.categories, map(int, self.dictionary.counts), strict=True))

    @property
    def unit(self) -> str | None:
        """The unit of dates, times and durations: "D", "s", "ms" or "us"."""
        return np.datetime_data(np.dtype(self.dtype))[0] if self.kind in TEMPORAL else None

    def values(self, stored: Any) -> Any:
        """Numbers as they are stored, as what they stand for: an array of the column's own type where it
        holds them all, NaT or NaN where one is missing."""
        stored = np.asarray(stored)
        missing = np.isnan(stored) if stored.dtype.kind == "f" else np.zeros(stored.shape, bool)
        dtype = np.dtype(self.dtype)
        if self.kind in TEMPORAL:
            out = np.where(missing, 0, stored).astype(np.int64).view(dtype)
            return np.where(missing, np.array("NaT", dtype), out)
        if missing.any() or self.kind == "category" or dtype.kind == "f":
            return stored
        # Larger whole numbers were rounded as they were stored beside floats, perhaps to none of the type.
        is_whole = stored.dtype.kind != "f" or bool((np.abs(stored.astype(np.float64)) <= EXACT).all())
        return stored.astype(dtype) if is_whole else stored

    def words(self) -> tuple[str, ...]:
        """The column in words, as :data:`HEADER` says."""
        kind = self.dtype if self.timezone is None else f"{self.dtype}, {self.timezone}"
        missing = "" if self.n_missing is None else f"{self.n_missing:,}"
        return self.name, self.kind, kind, missing, self._values_in_words()

    def _values_in_words(self) -> str:
        if self.dictionary is not None:
            return self._categories_in_words(self.dictionary)
        if self.minimum is None or self.maximum is None:
            return ""
        if self.kind not in TEMPORAL:
            return f"{self.minimum:,.6g} to {self.maximum:,.6g}"
        low, high = (str(one) for one in self.values([self.minimum, self.maximum]))
        return f"{low} to {high}"

    def _categories_in_words(self, dictionary: Dictionary) -> str:
        n = len(dictionary)
        text = f"{n:,} categor{'y' if n == 1 else 'ies'}"
        if not dictionary.is_known or not n:
            return text
        if dictionary.counts is None:
            shown = [f"{one!s:.40}" for one in dictionary.categories[:SHOWN_CATEGORIES]]
        else:
            counts = np.asarray(dictionary.counts)
            most = np.argsort(-counts, kind="stable")[:SHOWN_CATEGORIES].tolist()
            shown = [f"{dictionary.categories[i]!s:.40} {counts[i]:,}" for i in most]
        return f"{text}: {', '.join(shown)}{', ...' if n > SHOWN_CATEGORIES else ''}"

    def to_json(self) -> dict[str, Any]:
        """The column as a store holds it, but for the dictionary, which is stored by itself."""
        names = ("name", "kind", "dtype", "timezone", "n_missing", "minimum", "maximum")
        found = {name: getattr(self, name) for name in names}
        return {name: value for name, value in found.items() if value is not None}


@dataclass(frozen=True)
class Schema(Mapping[str, ColumnSchema]):
    """What the columns of features of a dataset are, by their names, in their order where they come from.

    Attributes
    ----------
    columns : tuple of ColumnSchema
    target, weight : str or None
        Names of these columns, where they had any.

    Examples
    --------
    >>> import daskgd, tempfile
    >>> from pathlib import Path
    >>> folder = Path(tempfile.mkdtemp())
    >>> rows = ["when,from,late,delay", "2013-01-01,EWR,no,2", "2013-01-05,JFK,yes,"]
    >>> _ = (folder / "a.csv").write_text(chr(10).join(rows))
    >>> daskgd.ingest(folder / "a.csv", folder / "a.zarr", target="late")
    >>> daskgd.open_dataset(folder / "a.zarr").schema
    column  kind      type           missing  values
    when    date      datetime64[D]  0        2013-01-01 to 2013-01-05
    from    category  str            0        2 categories: EWR 1, JFK 1
    delay   number    int64          1        2 to 2
    target: late
    """

    columns: tuple[ColumnSchema, ...]
    target: str | None = None
    weight: str | None = None

    def __getitem__(self, name: str) -> ColumnSchema:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"{name!r}; the columns are {', '.join(one.name for one in self.columns[:20])}")

    def __iter__(self) -> Iterator[str]:
        return (column.name for column in self.columns)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def numbers(self) -> tuple[ColumnSchema, ...]:
        """The columns that are stored as numbers, in the order of X."""
        return tuple(column for column in self.columns if column.kind != "category")

    @property
    def categorical(self) -> tuple[ColumnSchema, ...]:
        """The columns that are stored as codes, in their order."""
        return tuple(column for column in self.columns if column.kind == "category")

    def without_facts(self) -> Schema:
        """The schema of some of the rows: what is known of all is not known of these."""
        columns = (
            replace(
                column,
                n_missing=None,
                minimum=None,
                maximum=None,
                dictionary=None if column.dictionary is None else replace(column.dictionary, counts=None),
            )
            for column in self.columns
        )
        return replace(self, columns=tuple(columns))

    # -- as stores hold it ----------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """The schema as a store holds it, but for dictionaries."""
        return {
            "columns": [column.to_json() for column in self.columns],
            "target": self.target,
            "weight": self.weight,
        }

    @classmethod
    def from_json(cls, said: Any, dictionaries: Dictionaries | None) -> Schema:
        """The schema that a store holds, with its dictionaries. Raises ValueError for one that is none, or is
        not of these dictionaries."""
        try:
            columns = [ColumnSchema(**column) for column in said["columns"]]
            found = cls(tuple(columns), said["target"], said["weight"])
        except (TypeError, KeyError) as error:
            raise ValueError(f"schema: expected columns with names and kinds, got {said!r:.80}") from error
        known = () if dictionaries is None else dictionaries.columns
        names = [column.name for column in found.categorical]
        if names != [dictionary.name for dictionary in known]:
            raise ValueError(f"schema: expected the columns of codes, {known!r:.80}, got {names!r:.80}")
        own = iter(known)
        return replace(
            found,
            columns=tuple(
                replace(column, dictionary=next(own)) if column.kind == "category" else column
                for column in columns
            ),
        )

    @classmethod
    def of(
        cls, n_features: int, dtype: Any, names: Sequence[str] | None, dictionaries: Dictionaries | None
    ) -> Schema:
        """The schema of features of which no more is known than their dtype and what codes stand for."""
        if dictionaries is not None:
            names, n_features = dictionaries.numeric, len(dictionaries.numeric)
        named = names or [f"x{j}" for j in range(n_features)]
        numbers = [ColumnSchema(name, "number", str(np.dtype(dtype))) for name in named]
        categorical = [
            ColumnSchema(one.name, "category", _dtype_of(one), dictionary=one)
            for one in (() if dictionaries is None else dictionaries.columns)
        ]
        return cls((*numbers, *categorical))

    # -- in words -------------------------------------------------------------------------------

    def _rows(self) -> Iterator[tuple[str, ...]]:
        return (column.words() for column in islice(self.columns, SHOWN_COLUMNS))

    @property
    def _others(self) -> str:
        """What is not in the table, in words."""
        more = len(self) - SHOWN_COLUMNS
        words = [f"and {more:,} more columns"] if more > 0 else []
        roles = (("target", self.target), ("weight", self.weight))
        return "; ".join([*words, *(f"{role}: {name}" for role, name in roles if name is not None)])

    def __repr__(self) -> str:
        rows = [HEADER, *self._rows()]
        if all(row[3:] == ("", "") for row in rows[1:]):
            rows = [row[:3] for row in rows]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows
        ]
        return "\n".join([*lines, *filter(None, [self._others])])

    def _repr_html_(self) -> str:
        rows: list[Sequence[str]] = list(self._rows())
        if self._others:
            rows.append((self._others, *[""] * (len(HEADER) - 1)))
        return html_table("daskgd schema", rows, HEADER, align="left")


def _dtype_of(dictionary: Dictionary) -> str:
    """The dtype of categories, by the first: all are of one kind."""
    if not dictionary.is_known:
        return "int64"
    first = next(iter(dictionary.categories), "")
    return "str" if isinstance(first, str) else str(np.asarray(first).dtype)
