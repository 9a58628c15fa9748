"""What is known of the columns of a table while encoders are fitted, and what is yet to be asked."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.data.frame import plain_values
from daskgd.data.schema import EXACT, TEMPORAL, Schema
from daskgd.preprocessing.columns import Category, Column, Indicators, Lookup, Made, Number, TableRows, ViewOf
from daskgd.queries.columns import ColumnFacts, ColumnStatistics
from daskgd.queries.targets import TargetMoments
from daskgd.rows.features import Dense
from daskgd.rows.group_sums import group_sums
from daskgd.rows.summaries import DistinctValues, GroupMoments, NumberSummary
from daskgd.rows.tiles import Rows

Array = NDArray[Any]

Asking = Generator["Needs", None, Any]
"""A generator that yields what is to be asked of the data, goes on when :class:`Facts` have the answers, and
returns what it found."""


@dataclass(slots=True)
class Needs:
    """What one sweep is asked: summaries of numbers, counts of codes, distinct numbers, by the positions of
    columns; of columns that are made, whether as distinct values; a sample of the rows; and of the target its
    distinct values, and its moments within categories."""

    numbers: set[int] = field(default_factory=set)
    codes: set[int] = field(default_factory=set)
    distinct: set[int] = field(default_factory=set)
    views: list[tuple[tuple[Column, ...], bool]] = field(default_factory=list)
    sample: bool = False
    labels: bool = False
    targets: list[TargetMoments] = field(default_factory=list)

    def __bool__(self) -> bool:
        columns = self.numbers or self.codes or self.distinct or self.views
        return bool(columns or self.sample or self.labels or self.targets)

    def add(self, other: Needs) -> None:
        """Ask for what the other asks, too."""
        self.numbers |= other.numbers
        self.codes |= other.codes
        self.distinct |= other.distinct
        self.views += [view for view in other.views if view not in self.views]
        self.sample = self.sample or other.sample
        self.labels = self.labels or other.labels
        self.targets += other.targets

    def of_columns(self) -> ColumnStatistics | None:
        """The query of columns as they are stored; None where none of them is asked about."""
        if not (self.numbers or self.codes or self.distinct):
            return None
        numbers, codes, distinct = (tuple(sorted(s)) for s in (self.numbers, self.codes, self.distinct))
        return ColumnStatistics(numbers, codes, distinct)

    def of_views(self, schema: Schema) -> ColumnStatistics:
        """The query of columns that are made."""
        views = tuple((ViewOf(columns, schema), distinct) for columns, distinct in self.views)
        return ColumnStatistics(views=views)


@dataclass(slots=True)
class Facts:
    """What is known of the columns of a table.

    `classes` are the labels that the codes of the target stand for, `targets` answers by the identity of
    their queries; `n_sweeps` are those in which something was learnt; `cross_fitted` has, by the identity of
    an encoder of targets that was fitted, it and the columns that it makes of the rows of the fit.
    """

    schema: Schema
    numbers: dict[int, NumberSummary] = field(default_factory=dict)
    codes: dict[int, Array] = field(default_factory=dict)
    distinct: dict[int, DistinctValues] = field(default_factory=dict)
    views: list[tuple[tuple[Column, ...], bool, Any]] = field(default_factory=list)
    sample: Rows | None = None
    classes: Array | None = None
    labels: DistinctValues | None = None
    targets: dict[int, list[GroupMoments]] = field(default_factory=dict)
    cross_fitted: dict[int, tuple[Any, list[Column]]] = field(default_factory=dict)
    n_sweeps: int = 0

    @classmethod
    def of(cls, schema: Schema) -> Facts:
        """What a schema says already: the counts of categories."""
        facts = cls(schema)
        for j, column in enumerate(schema.categorical):
            counts = None if column.dictionary is None else column.dictionary.counts
            if counts is not None and column.n_missing is not None:
                facts.codes[j] = np.append(np.asarray(counts, np.float64), float(column.n_missing))
        return facts

    def missing(self, needs: Needs) -> Needs:
        """What of the needs is not known yet."""
        return Needs(
            needs.numbers - self.numbers.keys(),
            needs.codes - self.codes.keys(),
            needs.distinct - self.distinct.keys(),
            [view for view in needs.views if self._view(*view) is None],
            needs.sample and self.sample is None,
            needs.labels and self.labels is None,
            [query for query in needs.targets if id(query) not in self.targets],
        )

    def learn(self, found: ColumnFacts | DistinctValues) -> None:
        """Take what is told of columns as they are stored, or the distinct targets."""
        if isinstance(found, DistinctValues):
            self.labels = found
            return
        self.numbers |= found.numbers
        self.codes |= found.codes
        self.distinct |= found.distinct

    def learn_views(self, needs: Needs, found: ColumnFacts) -> None:
        """Take what is told of columns that are made, in the order of the needs."""
        self.views += [(*view, answer) for view, answer in zip(needs.views, found.views, strict=True)]

    def _view(self, columns: tuple[Column, ...], distinct: bool) -> Any:
        for known, kind, answer in self.views:
            if kind == distinct and len(known) == len(columns) and all(map(_same, known, columns)):
                return answer
        return None

    # -- for those that fit ---------------------------------------------------------------------

    def ask(self, needs: Needs) -> Asking:
        """Ask for what is not known yet."""
        left = self.missing(needs)
        if left:
            yield left

    def summaries(self, columns: Sequence[Column], who: str, sample: bool = False) -> Asking:
        """The summary of each column of numbers: a :class:`NumberSummary` of as many columns. In the same
        sweep a `sample` is drawn, if it is asked for."""
        needs = Needs(sample=sample)
        for column in columns:
            match column:
                case Number():
                    if column.kind in TEMPORAL:
                        raise ValueError(f"{who}: {_no_dates('a number', column)}")
                    needs.numbers.add(column.column)
                    if not _tells(column):
                        needs.views.append(((column,), False))
                case Category() if not column.is_numeric:
                    raise ValueError(
                        f"{who}: expected numbers, got text in column {column.name!r}; encode it first, as "
                        "with OneHotEncoder, or give the step the columns of numbers alone"
                    )
                case Category() | Indicators(of=Category()):
                    needs.codes.add((column if isinstance(column, Category) else column.of).column)
                case Lookup():
                    raise ValueError(
                        f"{who}: expected columns of numbers, got those that are made of text in column "
                        f"{column.of.name!r}; leave them as they are"
                    )
                case _:
                    needs.views.append(((column,), False))
        yield from self.ask(needs)
        return NumberSummary.concat([self._summary(column) for column in columns])

    def _summary(self, column: Column) -> NumberSummary:
        match column:
            case Number():
                found = column.summary(self.numbers[column.column])
                return self._view((column,), False) if found is None else found
            case Category():
                return column.summary(self.codes[column.column])
            case Indicators(of=Category()):
                return _of_indicators(column, self.codes[column.of.column])
        found = self._view((column,), False)
        assert isinstance(found, NumberSummary)
        return found

    def distinct_values(self, columns: Sequence[Column]) -> Asking:
        """The distinct values of each column, a list of :class:`DistinctValues`."""
        needs = Needs()
        for column in columns:
            match column:
                case Number():
                    needs.distinct.add(column.column)
                case Category():
                    needs.codes.add(column.column)
                case _:
                    needs.views.append(((column,), True))
        yield from self.ask(needs)
        found: list[DistinctValues] = []
        for column in columns:
            found += self._distinct(column)
        return found

    def _distinct(self, column: Column) -> list[DistinctValues]:
        match column:
            case Number():
                if column.kind in TEMPORAL:
                    raise ValueError(_no_dates("a category", column))
                raw = self.distinct[column.column]
                if raw.values is None:
                    raise ValueError(
                        f"expected column {column.name!r} to have a million distinct values at most, to make "
                        "categories of, got more; make bins of it with KBinsDiscretizer, or leave it out"
                    )
                if (
                    np.abs(raw.values, where=~np.isnan(raw.values), out=np.zeros(len(raw.values))) > EXACT
                ).any():
                    raise ValueError(
                        f"expected column {column.name!r} to have numbers of up to 2**53, to make categories "
                        "of, as beyond several whole numbers are the same float, got larger ones; write it "
                        "as text, as with daskgd.ingest(dtypes={name: 'string'}), or leave it out"
                    )
                if not column.steps:
                    return [DistinctValues(plain_values(self.schema[column.name], raw.values), raw.weights)]
                values = TableRows(_one_column(raw.values), self.schema).numbers([_first(column)])[:, 0]
                return [DistinctValues.of(values, raw.weights)]
            case Category():
                counts = self.codes[column.column]
                return [DistinctValues.of(column.values, counts)]
        found = self._view((column,), True)
        assert isinstance(found, list)
        return found

    def sampled(self, columns: Sequence[Column], names: Sequence[str] | None) -> Asking:
        """Some of the rows of columns, drawn at random, as scikit-learn would be given them."""
        yield from self.ask(Needs(sample=True))
        assert self.sample is not None
        return TableRows(self.sample.X, self.schema, self.sample.numbers).frame(columns, names)

    def target_values(self) -> Asking:
        """The distinct targets: :class:`DistinctValues`, None where they are not whole numbers."""
        yield from self.ask(Needs(labels=True))
        assert self.labels is not None
        return self.labels

    def target_moments(self, query: TargetMoments) -> Asking:
        """The answer to a query of targets: a list of :class:`GroupMoments`."""
        yield from self.ask(Needs(targets=[query]))
        return self.targets.pop(id(query))  # as long as the query is held, no other is known by that


def _no_dates(what: str, column: Number) -> str:
    return (
        f"expected {what}, got a {column.kind} in column {column.name!r}; make numbers of it, as with "
        "FunctionTransformer, or leave it out"
    )


def _one_column(values: Array) -> Dense:
    """One column of features."""
    return Dense(np.ascontiguousarray(values[:, None]))


def _first(column: Number) -> Number:
    """The column, were it the first."""
    return Number(0, column.name, column.kind, column.steps)


def _same(a: Column, b: Column) -> bool:
    if isinstance(a, Made) and isinstance(b, Made):
        same = a.transformer is b.transformer and a.names == b.names and len(a.of) == len(b.of)
        return same and all(map(_same, a.of, b.of))
    return a is b or (isinstance(a, Number) and a == b)


def _tells(column: Number) -> bool:
    nothing = NumberSummary.of(np.zeros((0, 1)), None)
    return column.summary(nothing) is not None


def _of_indicators(column: Indicators, counts: Array) -> NumberSummary:
    """The summary of zeros and ones, from the weight of each code."""
    there = column.places >= 0
    ones = group_sums(column.places[there], counts[there], column.width)
    total = float(counts.sum())
    mean = ones / total if total else np.full(column.width, np.nan)
    few = ones < total
    return NumberSummary(
        np.full(column.width, total),
        np.zeros(column.width),
        mean,
        ones * (1 - mean) if total else np.zeros(column.width),
        np.where(few, 0.0, 1.0),
        np.where(ones > 0, 1.0, 0.0),
    )
