"""Encoders of categories: which there are, and how often each occurs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from daskgd.preprocessing.columns import NONE, REFUSED, Category, Column, Indicators, Number
from daskgd.preprocessing.facts import Asking
from daskgd.preprocessing.kinds.base import Input, Kind
from daskgd.rows.summaries import DistinctValues

Array = NDArray[Any]

FREQUENT = 2
"""Rows of a category that is frequent, among those that an encoder is fitted with here."""


def occurring(found: DistinctValues, given: Input, j: int, who: str) -> DistinctValues:
    """The distinct values that occur. Raises ValueError where there are too many."""
    if found.values is None:
        raise ValueError(
            f"{who}: expected column {given.label(j)} to have a million distinct values at most, got more; "
            "leave it out, or make bins of it with KBinsDiscretizer"
        )
    there = found.weights > 0
    return DistinctValues(found.values[there], found.weights[there])


def _infrequent(weights: Array, n_rows: float, min_frequency: Any, max_categories: Any) -> Array:
    """Which of the categories ``(k,)`` are infrequent, by scikit-learn's rules: those of fewer rows than
    `min_frequency`, a number or a share, and then of the others the rarest, of equals the first, until no
    more than `max_categories` columns are left."""
    out = np.zeros(len(weights), dtype=bool)
    if min_frequency is not None:
        share = isinstance(min_frequency, float | np.floating)
        out = weights < (min_frequency * n_rows if share else min_frequency)
    left = len(out) - int(out.sum()) + 1
    if max_categories is not None and max_categories < left:
        frequent = max_categories - 1
        rarest = np.argsort(weights, kind="stable")
        out = out.copy()
        out[rarest if frequent == 0 else rarest[:-frequent]] = True
    return out


class Categories(Kind):
    """What encoders of categories have in common: they are fitted with rows in which each category occurs,
    those that are frequent more often than the others."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        who = type(transformer).__name__
        distinct = yield from given.facts.distinct_values(given.columns)
        found = [occurring(one, given, j, who) for j, one in enumerate(distinct)]
        n_rows = float(found[0].weights.sum()) if found else 0.0
        known = transformer.categories
        explicit: list[Array] = []
        for j, one in enumerate(found):
            values = one.values if isinstance(known, str) else object_array(known[j])
            assert values is not None
            if not isinstance(known, str) and transformer.handle_unknown == "error":
                strange = [v for v in one.values.tolist() if not _is_in(v, values.tolist())]  # type: ignore[union-attr]
                if strange:
                    raise ValueError(
                        f"Found unknown categories {strange} in column {given.label(j)} during fit"
                    )
            explicit.append(values)
        limits = {"min_frequency": transformer.min_frequency, "max_categories": transformer.max_categories}
        few = [
            _infrequent(_weights_of(values, one), n_rows, *limits.values())
            for values, one in zip(explicit, found, strict=True)
        ]
        grouped = any(limit is not None for limit in limits.values())
        columns, height = [], 1
        for values, rare in zip(explicit, few, strict=True):
            often = np.repeat(np.arange(len(values)), np.where(rare, 1, FREQUENT) if grouped else 1)
            columns.append(values[often])
            height = max(height, len(often))
        if any(not len(column) for column in columns):
            j = next(j for j, column in enumerate(columns) if not len(column))
            raise ValueError(f"{who}: expected column {given.label(j)} to have a category, got none")
        for j, column in enumerate(columns):
            # Filled with what is frequent, or else with something that is no category.
            if not len(few[j]) or not grouped or not few[j].all():
                more = column[np.argmin(few[j]) if grouped else 0]
                frequent = explicit[j][~few[j]][0] if grouped else more
                columns[j] = _longer(column, frequent, height)
            else:
                columns[j] = _longer(column, _stranger(column), height)
        chosen = clone(transformer)
        chosen.set_params(
            categories=[np.array(values) for values in explicit],
            min_frequency=FREQUENT if grouped else None,
            max_categories=None,
            **self._tolerant(transformer),
        )
        fitted = chosen.fit(given.like(columns))
        own = {"categories": transformer.categories, **limits, **self._strict(transformer)}
        for name, value in own.items():
            setattr(fitted, name, value)
        return fitted

    def _tolerant(self, transformer: Any) -> dict[str, Any]:
        """The parameters with which an encoder takes rows with something that is no category."""
        raise NotImplementedError

    def _strict(self, transformer: Any) -> dict[str, Any]:
        return {name: getattr(transformer, name) for name in self._tolerant(transformer)}


def object_array(values: Any) -> Array:
    """Categories as they were given, NaN in the place of None: an array of objects where any is text."""
    found = np.asarray(values, dtype=_kind(values))
    return np.where(found == None, np.nan, found) if found.dtype == object else found  # noqa: E711


def _kind(values: Any) -> Any:
    return object if any(isinstance(v, str) or v is None for v in np.asarray(values, dtype=object)) else None


def _is_in(value: Any, values: list[Any]) -> bool:
    return any(value == one or (value != value and one != one) for one in values)


def _weights_of(values: Array, found: DistinctValues) -> Array:
    """The weight of each of some values, 0 of those that do not occur."""
    assert found.values is not None
    if len(values) == len(found.values) and values is found.values:
        return found.weights
    known = {("nan" if v != v else v): w for v, w in zip(found.values.tolist(), found.weights, strict=True)}
    return np.array([known.get("nan" if v != v else v, 0.0) for v in values.tolist()])


def _longer(column: Array, value: Any, height: int) -> Array:
    out = np.empty(height, dtype=column.dtype)
    out[: len(column)] = column
    out[len(column) :] = value
    return out


def _stranger(column: Array) -> Any:
    """A value that is none of the column's."""
    if column.dtype == object:
        text = "".join(sorted({str(v) for v in column.tolist()})[-1:])
        return text + "_"
    numbers = column.astype(np.float64)
    return column.dtype.type(np.nanmax(numbers) + 1) if not np.isnan(numbers).all() else 0.0


class OneHot(Categories):
    """OneHotEncoder."""

    def _tolerant(self, transformer: Any) -> dict[str, Any]:
        return {"handle_unknown": "ignore"}

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        if len(of) != len(fitted.categories_):
            return None
        out: list[Column] = []
        infrequent = _infrequent_of(fitted)
        for j, column in enumerate(of):
            if not isinstance(column, Category | Number):
                return None
            places, width = _places(fitted, j, infrequent[j])
            known = fitted.categories_[j]
            at = {("nan" if v != v else v): place for v, place in zip(known.tolist(), places, strict=True)}
            missing = places[-1] if len(known) and known[-1] != known[-1] else None
            other = REFUSED if fitted.handle_unknown == "error" else NONE
            if fitted.handle_unknown in ("infrequent_if_exist", "warn") and infrequent[j] is not None:
                other = int(places[_index(known, infrequent[j][0])])
            if isinstance(column, Category):
                found = [at.get("nan" if v is None or v != v else v, other) for v in column.values.tolist()]
                out.append(Indicators(column, np.array(found, dtype=np.int64), width))
            else:
                if known.dtype == object:
                    return None
                numbers = known.astype(np.float64)
                assert missing is None or np.isnan(numbers[-1])
                out.append(Indicators(column, np.append(places, other), width, numbers))
        return out


def _infrequent_of(fitted: Any) -> list[Any]:
    """The infrequent categories of each column, None where there are none."""
    grouped = fitted.min_frequency is not None or fitted.max_categories is not None
    return list(fitted.infrequent_categories_) if grouped else [None] * len(fitted.categories_)


def _index(known: Array, value: Any) -> int:
    return next(i for i, v in enumerate(known.tolist()) if v == value or (v != v and value != value))


def _places(fitted: Any, j: int, infrequent: Any) -> tuple[Array, int]:
    """The column that has the 1 of each category, -1 where that is left out, and how many columns there
    are."""
    known = fitted.categories_[j]
    places = np.arange(len(known))
    if infrequent is not None:
        rare = np.array([_is_in(v, infrequent.tolist()) for v in known.tolist()])
        places[~rare] = np.arange(int((~rare).sum()))
        places[rare] = int((~rare).sum())
    width = int(places.max()) + 1
    if fitted.drop_idx_ is not None and fitted.drop_idx_[j] is not None:
        dropped = places[int(fitted.drop_idx_[j])]
        places = np.where(places == dropped, NONE, places - (places > dropped))
        width -= 1
    return places, width


class Ordinal(Categories):
    """OrdinalEncoder."""

    def _tolerant(self, transformer: Any) -> dict[str, Any]:
        if transformer.handle_unknown != "error" or transformer.unknown_value is not None:
            return {}  # its own unknown value is checked as it is fitted
        return {"handle_unknown": "use_encoded_value", "unknown_value": np.nan}

    def fit(self, transformer: Any, given: Input) -> Asking:
        if np.dtype(transformer.dtype).kind != "f":
            raise ValueError(
                f"OrdinalEncoder: expected a dtype of floats, got {transformer.dtype!r}; leave it out"
            )
        return (yield from super().fit(transformer, given))

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        if not all(isinstance(column, Category) for column in of):
            return None
        if fitted.handle_unknown == "error":
            return (
                None
                if not all(map(_known_alone, of, fitted.categories_))
                else self._tables(fitted, of, names)
            )
        return self._tables(fitted, of, names)

    def _tables(self, fitted: Any, of: Sequence[Any], names: Any) -> list[Column] | None:
        out: list[Column] = []
        firsts = [known[0] for known in fitted.categories_]
        for j, column in enumerate(of):
            values = [np.array([first] * len(column.values), dtype=object) for first in firsts]
            values[j] = column.values
            if names is None:
                rows: Any = np.column_stack(values)
            else:
                import pandas as pd

                rows = pd.DataFrame(dict(zip(names, values, strict=True)))
            numbers = np.asarray(fitted.transform(rows), dtype=np.float64)[:, j]
            out.append(Category(column.column, column.name, numbers))
        return out


def _known_alone(column: Any, known: Array) -> bool:
    """Whether all values of a column are known."""
    return all(_is_in(v, known.tolist()) for v in column.values.tolist())
