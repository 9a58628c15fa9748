"""Columns of a table on their way through encoders: where each comes from, and how it is computed.

A column is one of six kinds: a number with what is done to it, a category with the value of each code, the
zeros and ones of categories, what the target is in each category, the sparse rows that are made of each
category, or whatever a transformer makes of other columns. Knows no transformer by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.data.schema import Schema
from daskgd.queries.columns import codes_of, numbers_at
from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Dense, Features
from daskgd.rows.random_numbers import row_folds
from daskgd.rows.sparse import Sparse
from daskgd.rows.stacked import Stacked
from daskgd.rows.summaries import NumberSummary

Array = NDArray[Any]

NONE, REFUSED = -1, -2
"""In the places of categories: no column has the 1, and the category is refused."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done to numbers: ``fill`` puts `value` in the place of what is missing, ``gaps``
    tells where that is, ``add``, ``multiply`` and ``divide`` are arithmetic, ``low`` and ``high`` clip."""

    what: str
    value: float = 0.0


def apply_step(what: str, X: Array, values: Array) -> Array:
    """What a step does to the columns of X ``(n, q)``, each with its own of `values` ``(q,)``."""
    match what:
        case "fill":
            return np.where(np.isnan(X), values.astype(X.dtype), X)
        case "gaps":
            return np.isnan(X).astype(X.dtype)
        case "add":
            return X + values.astype(X.dtype)
        case "multiply":
            return X * values.astype(X.dtype)
        case "divide":
            return X / values.astype(X.dtype)
        case "low":
            return np.maximum(X, values.astype(X.dtype))
        case "high":
            return np.minimum(X, values.astype(X.dtype))
    raise ValueError(f"expected a step that there is, got {what!r}")


@dataclass(frozen=True, slots=True)
class Number:
    """A column of numbers, by its position among those, and what is done to it in order."""

    column: int
    name: str
    kind: str = "number"
    steps: tuple[Step, ...] = ()
    width: int = 1

    def then(self, what: str, value: float = 0.0) -> Number:
        return replace(self, steps=(*self.steps, Step(what, float(value))))

    def summary(self, raw: NumberSummary) -> NumberSummary | None:
        """The summary after all steps, from that of the column as it is stored; None where it does not
        tell."""
        out = raw
        for step in self.steps:
            match step.what:
                case "fill":
                    out = out.filled(step.value)
                case "gaps":
                    out = out.gaps()
                case "add":
                    out = out.moved(step.value)
                case "multiply":
                    out = out.scaled(step.value)
                case "divide":
                    out = out.scaled(1 / step.value)
                case _:
                    return None
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Category:
    """A categorical column, by its position among those, and the value of each of its codes, last that of a
    missing one: ``(categories + 1,)``, of objects, or of numbers that an encoder gave them."""

    column: int
    name: str
    values: Array
    width: int = 1

    @property
    def is_numeric(self) -> bool:
        return self.values.dtype != object

    def summary(self, counts: Array) -> NumberSummary:
        """The summary of the numbers, from the weight of each code."""
        return NumberSummary.of(self.values.astype(np.float64)[:, None], counts)


@dataclass(frozen=True, slots=True, eq=False)
class Indicators:
    """The zeros and ones of the categories of a column.

    Attributes
    ----------
    of : Category or Number
    places : (categories + 1,) of int
        Of each code, last of a missing one, the column that has the 1; -1 where none has, -2 where the
        category is refused. Of numbers of each of `known`, then of those that are not known.
    width : int
    known : array, optional
        The numbers that are categories, sorted, NaN last.
    """

    of: Any
    places: Array
    width: int
    known: Array | None = None

    def positions(self, table: TableRows) -> Array:
        """The column that has the 1 in each row ``(n,)``, -1 where none has. Raises ValueError for a category
        that is refused."""
        if isinstance(self.of, Category):
            codes = table.codes(self.of.column)
            found = self.places[codes]
        else:
            assert self.known is not None
            values = table.numbers([self.of])[:, 0]
            codes = np.minimum(np.searchsorted(self.known, values), max(len(self.known) - 1, 0))
            same = np.zeros(len(values), bool)
            if len(self.known):
                at = self.known[codes]
                same = (at == values) | (np.isnan(at) & np.isnan(values))
            found = self.places[np.where(same, codes, len(self.known))]
        refused = found == REFUSED
        if refused.any():
            row = int(np.argmax(refused))
            raise ValueError(
                f"Found unknown categories [{table.value(self.of, row)!r}] in column {self.of.name!r} during "
                'transform; OneHotEncoder(handle_unknown="ignore") takes them'
            )
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """The columns that a fitted transformer makes of others, called block by block."""

    transformer: Any
    of: tuple[Any, ...]
    names: tuple[str, ...] | None
    width: int

    def rows(self, table: TableRows) -> Any:
        """What it makes: an array, a frame or a sparse matrix ``(n, width)``."""
        if not len(table):
            return np.zeros((0, self.width))
        return self.transformer.transform(table.frame(self.of, self.names))


@dataclass(frozen=True, slots=True, eq=False)
class TargetMeans:
    """A number for each category of a column, which depends on the fold of the row: in each what the rows of
    all other folds have taught, so that no row knows its own target (cross-fitting).

    Attributes
    ----------
    of : Indicators
        Which category each row has.
    values : (folds, categories + 1)
        The number of each category, and last of rows that have none.
    seed : int
        Of the folds.
    """

    of: Indicators
    values: Array
    seed: int
    width: int = 1

    def rows(self, table: TableRows) -> Array:
        """The numbers ``(n,)``."""
        at = self.of.positions(table)
        if len(self.values) == 1:
            return self.values[0][at]
        if table.numbers_of_rows is None:
            raise RuntimeError("rows without numbers have no folds; this is a defect in daskgd")
        folds = row_folds(table.numbers_of_rows, len(self.values), self.seed)
        out: Array = self.values[folds, at]
        return out


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """The sparse rows that a transformer makes of each category of a column, as of text: each once, however
    many rows have it.

    Attributes
    ----------
    of : Category
    made : csr_array (categories, width)
        With one row more where a missing value has some, the last.
    """

    of: Category
    made: Any

    @property
    def width(self) -> int:
        """How many columns there are."""
        return int(self.made.shape[1])

    def rows(self, table: TableRows) -> Any:
        """The rows, a ``csr_array`` ``(n, width)``. Raises ValueError where a category is missing."""
        codes = table.codes(self.of.column)
        if (codes < 0).any() and self.made.shape[0] < len(self.of.values):
            raise ValueError(
                f"expected text in column {self.of.name!r}, got a missing value in one of its rows; fill "
                "them before they are stored, as ingest does with keep_default_na=False"
            )
        return self.made[codes]


Column = Number | Category | Indicators | TargetMeans | Lookup | Made


def of_schema(schema: Schema) -> list[Column]:
    """The columns of a table as they are stored, in their order where they come from."""
    numbers = {column.name: j for j, column in enumerate(schema.numbers)}
    codes = {column.name: j for j, column in enumerate(schema.categorical)}
    found: list[Column] = []
    for name, column in schema.items():
        if column.kind != "category":
            found.append(Number(numbers[name], name, column.kind))
            continue
        assert column.dictionary is not None
        values = np.empty(len(column.dictionary) + 1, dtype=object)
        values[:-1] = list(column.dictionary.categories)
        values[-1] = np.nan
        found.append(Category(codes[name], name, values))
    return found


def width(columns: Sequence[Column]) -> int:
    """How many columns of the encoded table these are."""
    return sum(column.width for column in columns)


# -- computing them -----------------------------------------------------------------------------


@dataclass(slots=True)
class TableRows:
    """Some rows of a table, with their numbers where these matter, and what was computed of them."""

    X: Features
    schema: Schema
    numbers_of_rows: Array | None = None
    _categorical: Categorical | None = None
    _codes: dict[int, Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._categorical = codes_of(self.X)

    def __len__(self) -> int:
        return len(self.X)

    def codes(self, column: int) -> Array:
        """The codes of a categorical column ``(n,)``, -1 where one is missing."""
        if column not in self._codes:
            part = self._categorical
            assert part is not None
            indices = part.indices[:, column]
            self._codes[column] = np.where(
                indices < 0, -1, indices - indices.dtype.type(part.offsets[column])
            )
        return self._codes[column]

    def numbers(self, columns: Sequence[Column]) -> Array:
        """Columns that are numbers or have numeric values, as floats ``(n, q)``."""
        parts = []
        for kind, group in groupby(columns, key=lambda c: (type(c), _steps(c))):
            some = list(group)
            parts.append(self._numbers(kind[0], some))
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts, axis=1)

    def _numbers(self, kind: type, columns: list[Any]) -> Array:
        if kind is Category:
            return np.column_stack([c.values.astype(np.float64)[self.codes(c.column)] for c in columns])
        if kind is not Number:
            return np.concatenate([_dense(c, self) for c in columns], axis=1)
        X = numbers_at(self.X, [c.column for c in columns])
        if columns[0].steps:
            X = X.astype(np.float64)
        for i, step in enumerate(columns[0].steps):
            X = apply_step(step.what, X, np.array([c.steps[i].value for c in columns]))
        return X

    def value(self, column: Any, row: int) -> Any:
        """The value of a column in a row, for a message."""
        if isinstance(column, Category):
            return column.values[self.codes(column.column)[row]]
        return self.numbers([column])[row, 0].item()

    def frame(self, columns: Sequence[Column], names: Sequence[str] | None) -> Any:
        """Columns as scikit-learn would be given them: a frame where they have names, an array else."""
        if names is None:
            objects = any(isinstance(c, Category) and not c.is_numeric for c in columns)
            if not objects:
                return self.numbers(columns)
            out = np.empty((len(self), width(columns)), dtype=object)
            at = 0
            for column in columns:
                part = self._objects(column)
                out[:, at : at + column.width] = part
                at += column.width
            return out
        import pandas as pd

        found: dict[str, Any] = {}
        at = 0
        for column in columns:
            part = self._objects(column)
            for j in range(column.width):
                found[names[at]] = part[:, j] if getattr(part, "ndim", 1) == 2 else part
                at += 1
        return pd.DataFrame(found)

    def _objects(self, column: Column) -> Any:
        """A column with its own type: ``(n, 1)`` of text or numbers, an array of pandas of dates."""
        if isinstance(column, Category):
            return column.values[self.codes(column.column)][:, None]
        if isinstance(column, Number) and not column.steps:
            from daskgd.data.frame import plain_values

            raw = numbers_as_stored(self.X, column.column)
            values = plain_values(self.schema[column.name], raw)
            return values[:, None] if isinstance(values, np.ndarray) else values
        return self.numbers([column])


def numbers_as_stored(X: Features, column: int) -> Array:
    """A column of numbers ``(n,)`` in its own dtype."""
    part: Any = X.parts[0] if isinstance(X, Stacked) else X
    if isinstance(part, Dense):
        return part.values[:, column]
    out: Array = part.columns(np.array([column])).toarray()[:, 0]
    return out


def _steps(column: Column) -> tuple[str, ...]:
    return tuple(step.what for step in column.steps) if isinstance(column, Number) else ()


def _dense(column: Any, table: TableRows) -> Array:
    """The columns of indicators, or of what a transformer makes, as an array ``(n, width)``."""
    if isinstance(column, Indicators):
        out = np.zeros((len(table), column.width))
        at = column.positions(table)
        rows = np.flatnonzero(at >= 0)
        out[rows, at[rows]] = 1.0
        return out
    if isinstance(column, TargetMeans):
        return column.rows(table)[:, None]
    if isinstance(column, Lookup):
        return column.rows(table).toarray().astype(np.float64)
    made = column.rows(table)
    made = made.toarray() if hasattr(made, "toarray") else made
    return np.asarray(made, dtype=np.float64).reshape(len(table), column.width)


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """How a block of a table is encoded: the columns of the result, in order, and their dtype."""

    columns: tuple[Column, ...]
    schema: Schema
    dtype: np.dtype[Any]

    @property
    def width(self) -> int:
        return width(self.columns)

    @property
    def is_dense(self) -> bool:
        """Whether the result is one array."""
        return all(kind is Number for kind, _ in self._groups())

    @property
    def sees_row_numbers(self) -> bool:
        """Whether a row is encoded by its number, as those of the fit of an encoder of targets are."""
        return any(map(_sees_row_numbers, self.columns))

    @property
    def n_exclusive(self) -> int:
        """The most columns of which a row has at most one that is not 0: the categories of one column."""
        return max((c.width for c in self.columns if isinstance(c, Indicators)), default=0)

    @property
    def row_bytes(self) -> int:
        """The bytes of an encoded row, about."""
        total = 0
        for kind, group in self._groups():
            if kind is Indicators:
                total += 4 * len(group)
            elif kind is Lookup:
                made = group[0].made
                total += (self.dtype.itemsize + 4) * max(made.nnz // max(made.shape[0], 1), 1)
            else:
                total += self.dtype.itemsize * width(group)
        return max(total, 1)

    @property
    def passing_row_bytes(self) -> int:
        """The bytes of a row of what is made for transformers that are called themselves, about."""
        return sum(map(_passing, self.columns))

    def _groups(self) -> Iterator[tuple[type, list[Any]]]:
        """Columns side by side that are encoded together: what is Number stands for all that is dense."""

        def kind(column: Column) -> Any:
            if isinstance(column, Category | TargetMeans):
                return Number
            if isinstance(column, Made | Lookup):
                return id(column)
            return type(column)

        for found, columns in groupby(self.columns, key=kind):
            group = list(columns)
            yield (type(group[0]) if isinstance(found, int) else found), group

    def __call__(self, X: Features, numbers: Array | None = None) -> Features:
        """The encoded rows of some as they are stored, with their `numbers` ``(n,)`` in a fit."""
        table = TableRows(X, self.schema, numbers)
        parts: list[Features] = []
        for kind, group in self._groups():
            if kind is Indicators:
                parts.append(self._indicators(table, group))
            elif kind is Lookup:
                parts.append(Sparse.of(group[0].rows(table)).astype(self.dtype))
            elif kind is Made:
                parts.append(_features(group[0].rows(table), len(table), group[0].width, self.dtype))
            else:
                values = table.numbers(group).astype(self.dtype, copy=False)
                parts.append(Dense(np.ascontiguousarray(values)))
        if len(parts) == 1:
            return parts[0]
        if all(isinstance(part, Dense) for part in parts):
            return Dense(np.concatenate([part.values for part in parts], axis=1))  # type: ignore[attr-defined]
        return Stacked.of(*parts)

    def _indicators(self, table: TableRows, group: list[Indicators]) -> Categorical:
        offsets = np.cumsum([0, *(one.width for one in group)])
        index = np.dtype(np.int32 if offsets[-1] <= np.iinfo(np.int32).max else np.int64)
        indices = np.empty((len(table), len(group)), index)
        for j, one in enumerate(group):
            at = one.positions(table)
            indices[:, j] = np.where(at < 0, -1, at + offsets[j])
        return Categorical(indices, offsets.astype(np.int64), self.dtype)


def _sees_row_numbers(column: Any) -> bool:
    if isinstance(column, TargetMeans):
        return len(column.values) > 1
    return isinstance(column, Made) and any(map(_sees_row_numbers, column.of))


def _passing(column: Column) -> int:
    if not isinstance(column, Made):
        return 0
    return 8 * (3 * width(column.of) + column.width) + sum(map(_passing, column.of))


def _features(made: Any, n: int, width: int, dtype: np.dtype[Any]) -> Features:
    """Features of what a transformer made, dense or sparse, in the dtype of the table."""
    if hasattr(made, "tocsr"):
        return Sparse.of(made.tocsr()).astype(dtype)
    values = np.asarray(made)
    if values.shape != (n, width):
        raise ValueError(f"expected a transformer to make {width} columns of {n} rows, got {values.shape}")
    return Dense(np.ascontiguousarray(values, dtype=dtype))


@dataclass(frozen=True, slots=True, eq=False)
class ViewOf:
    """Some columns as a function of the rows as they are stored, for the query that summarises them."""

    columns: tuple[Column, ...]
    schema: Schema

    def __call__(self, X: Features, numbers: Array | None = None) -> Array:
        found = TableRows(X, self.schema, numbers).frame(self.columns, None)
        return np.asarray(found)


@dataclass(frozen=True, slots=True, eq=False)
class PositionsOf:
    """The category of each row, as a function of the rows as they are stored, for the query of targets."""

    column: Indicators
    schema: Schema

    def __call__(self, X: Features) -> Array:
        return self.column.positions(TableRows(X, self.schema))
