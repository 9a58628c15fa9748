"""Scalers, imputers and indicators of missing values: one column of numbers each, by its summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.base import clone

from daskgd.preprocessing.columns import Category, Column, Number, apply_step
from daskgd.preprocessing.facts import Asking
from daskgd.preprocessing.kinds.base import BySample, Input, Kind, check_numeric
from daskgd.rows.summaries import NumberSummary


def _each(columns: Sequence[Column], steps: list[list[tuple[str, float]]]) -> list[Column] | None:
    """The columns with steps done to each; None where a column is neither a number nor has numbers."""
    out: list[Column] = []
    for column, own in zip(columns, steps, strict=True) if len(columns) == len(steps) else ():
        if isinstance(column, Number):
            for what, value in own:
                column = column.then(what, value)
            out.append(column)
        elif isinstance(column, Category) and column.is_numeric:
            out.append(_tabled(column, own))
        else:
            return None
    return out if len(out) == len(steps) else None


def _tabled(column: Category, steps: list[tuple[str, float]]) -> Category:
    values = column.values.astype(np.float64)[:, None]
    for what, value in steps:
        values = apply_step(what, values, np.array([value]))
    return Category(column.column, column.name, values[:, 0])


class Standard(Kind):
    """StandardScaler: means and variances."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        facts: NumberSummary = yield from given.facts.summaries(given.columns, "StandardScaler")
        check_numeric(facts, given, "StandardScaler")
        q = len(facts.mean)
        fitted = clone(transformer).fit(given.like([np.zeros(2)] * q))
        total = facts.weight + facts.missing
        fitted.n_samples_seen_ = facts.weight.astype(np.int64)
        if not facts.missing.any():
            fitted.n_samples_seen_ = np.int64(total[0])
        mean, variance = np.where(facts.weight > 0, facts.mean, np.nan), facts.variance
        if transformer.with_mean or transformer.with_std:
            fitted.mean_ = mean
        if transformer.with_std:
            fitted.var_ = variance
            eps = np.finfo(np.float64).eps
            seen = facts.weight
            with np.errstate(invalid="ignore"):
                constant = variance <= seen * eps * variance + (seen * mean * eps) ** 2
            fitted.scale_ = np.where(constant, 1.0, np.sqrt(variance))
        return fitted

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        steps: list[list[tuple[str, float]]] = [[] for _ in range(fitted.n_features_in_)]
        for j, own in enumerate(steps):
            if fitted.with_mean:
                own.append(("add", -fitted.mean_[j]))
            if fitted.with_std:
                own.append(("divide", fitted.scale_[j]))
        return _each(of, steps)


class MinMax(Kind):
    """MinMaxScaler: minima and maxima, which two rows give."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        facts = yield from given.facts.summaries(given.columns, "MinMaxScaler")
        check_numeric(facts, given, "MinMaxScaler")
        fitted = clone(transformer).fit(given.like(_ends(facts, given)))
        fitted.n_samples_seen_ = int((facts.weight + facts.missing)[0])
        return fitted

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        steps = [[("multiply", s), ("add", m)] for s, m in zip(fitted.scale_, fitted.min_, strict=True)]
        if fitted.clip:
            low, high = fitted.feature_range
            steps = [[*own, ("low", low), ("high", high)] for own in steps]
        return _each(of, steps)


class MaxAbs(Kind):
    """MaxAbsScaler: minima and maxima, which two rows give."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        facts = yield from given.facts.summaries(given.columns, "MaxAbsScaler")
        check_numeric(facts, given, "MaxAbsScaler")
        fitted = clone(transformer).fit(given.like(_ends(facts, given)))
        fitted.n_samples_seen_ = int((facts.weight + facts.missing)[0])
        return fitted

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        return _each(of, [[("divide", s)] for s in fitted.scale_])


def _ends(facts: NumberSummary, given: Input) -> list[Any]:
    """Two rows with the least and the greatest number of each column, NaN where there is none."""
    # What counts as a constant column depends on whether the numbers are of single precision.
    kinds = [given.dtype(j) if given.dtype(j) == np.float32 else np.float64 for j in range(len(facts.mean))]
    there = facts.weight > 0
    low, high = np.where(there, facts.minimum, np.nan), np.where(there, facts.maximum, np.nan)
    return [np.array([a, b], dtype=kind) for a, b, kind in zip(low, high, kinds, strict=True)]


class Ends(Kind):
    """Transformers that know the least and the greatest number of each column, which two rows give them:
    bins and knots at equal distances. Else they are fitted with a sample."""

    def __init__(self, parameter: str) -> None:
        self.parameter = parameter

    def fit(self, transformer: Any, given: Input) -> Asking:
        who = type(transformer).__name__
        if getattr(transformer, self.parameter) != "uniform":
            return (yield from BySample().fit(transformer, given))
        facts = yield from given.facts.summaries(given.columns, who)
        check_numeric(facts, given, who)
        if facts.missing.any():
            j = int(np.argmax(facts.missing > 0))
            raise ValueError(
                f"{who}: Input X contains NaN in column {given.label(j)}; fill it first, as with "
                "SimpleImputer"
            )
        return clone(transformer).fit(given.like(_ends(facts, given)))


class Robust(BySample):
    """RobustScaler: medians and quantiles of a sample."""

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        steps: list[list[tuple[str, float]]] = [[] for _ in range(fitted.n_features_in_)]
        for j, own in enumerate(steps):
            if fitted.with_centering:
                own.append(("add", -fitted.center_[j]))
            if fitted.with_scaling:
                own.append(("divide", fitted.scale_[j]))
        return _each(of, steps)


# -- missing values -------------------------------------------------------------------------------


class Impute(Kind):
    """SimpleImputer: what to put where a value is missing, which one row gives it."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        transformer = _with_nan(transformer)
        strategy = transformer.strategy
        text = [isinstance(c, Category) and not c.is_numeric for c in given.columns]
        values: list[Any]
        if strategy == "most_frequent" or any(text):
            if strategy not in ("most_frequent", "constant"):
                raise ValueError(
                    f"SimpleImputer: expected numbers for strategy={strategy!r}, got text in column "
                    f"{given.label(text.index(True))}; use strategy='most_frequent' or 'constant' for it"
                )
            distinct = yield from given.facts.distinct_values(given.columns)
            values, gaps = [], []
            for one in distinct:
                there = np.array([v is not None and v == v for v in one.values], dtype=bool)
                gaps.append(bool((~there & (one.weights > 0)).any()))
                known, weights = one.values[there], one.weights[there]
                known, weights = known[weights > 0], weights[weights > 0]
                values.append(known[np.argmax(weights)] if len(known) else np.nan)
        else:
            facts = yield from given.facts.summaries(given.columns, "SimpleImputer", strategy == "median")
            check_numeric(facts, given, "SimpleImputer")
            gaps = (facts.missing > 0).tolist()
            there = facts.weight > 0
            if strategy == "median":
                rows = yield from given.facts.sampled(given.columns, None)
                middle = (
                    clone(transformer).set_params(add_indicator=False, keep_empty_features=True).fit(rows)
                )
                values = np.where(there, middle.statistics_, np.nan).tolist()
            elif strategy in ("mean", "constant"):
                values = np.where(there, facts.mean, np.nan).tolist()
            else:
                raise ValueError(
                    "SimpleImputer: expected strategy 'mean', 'median', 'most_frequent' or 'constant', got "
                    f"{strategy!r}; fit it on a sample, and pass sklearn.frozen.FrozenEstimator(imputer)"
                )
        # A column with one value has it for mean, median and mode.
        columns = []
        for j, (value, gap) in enumerate(zip(values, gaps, strict=True)):
            kind: Any = object if any(text) else np.float64
            if strategy in ("constant", "most_frequent") and not (gap or any(text)):
                own = given.dtype(j)
                kind = own if own.kind in "iu" else kind  # they fill whole numbers with such
            columns.append(np.array([value, np.nan if gap else value], dtype=kind))
        return clone(transformer).fit(given.like(columns))

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        out: list[Column] = []
        statistics = fitted.statistics_
        for column, value in zip(of, statistics, strict=True) if len(of) == len(statistics) else ():
            empty = value is None or value != value
            if empty and not (fitted.keep_empty_features or fitted.strategy == "constant"):
                continue
            if empty:
                return None
            if isinstance(column, Number):
                out.append(column.then("fill", value))
            elif isinstance(column, Category):
                out.append(_filled(column, value))
            else:
                return None
        if not out:
            return None
        if fitted.add_indicator:
            indicators = Gaps().columns(fitted.indicator_, of, names)
            return None if indicators is None else [*out, *indicators]
        return out


def _filled(column: Category, value: Any) -> Category:
    values = column.values.copy()
    for i, known in enumerate(values.tolist()):
        if known is None or known != known:
            values[i] = value
    return Category(column.column, column.name, values)


class Gaps(Kind):
    """MissingIndicator: which columns have missing values."""

    def fit(self, transformer: Any, given: Input) -> Asking:
        transformer = _with_nan(transformer)
        text = [isinstance(c, Category) and not c.is_numeric for c in given.columns]
        if any(text):
            distinct = yield from given.facts.distinct_values(given.columns)
            gaps = []
            for one in distinct:
                empty = np.array([v is None or v != v for v in one.values], dtype=bool)
                gaps.append(bool((empty & (one.weights > 0)).any()))
        else:
            facts = yield from given.facts.summaries(given.columns, "MissingIndicator")
            gaps = (facts.missing > 0).tolist()
        kind = object if any(text) else np.float64
        columns = [np.array([1.0, np.nan if gap else 1.0], dtype=kind) for gap in gaps]
        return clone(transformer).fit(given.like(columns))

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        if fitted.features == "missing-only" and fitted.error_on_new:
            return None  # other rows may be refused
        out: list[Column] = []
        for j in fitted.features_.tolist():
            column = of[j] if len(of) == fitted.n_features_in_ else None
            if isinstance(column, Number):
                out.append(column.then("gaps"))
            elif isinstance(column, Category):
                gaps = [float(v is None or v != v) for v in column.values.tolist()]
                out.append(Category(column.column, column.name, np.array(gaps)))
            else:
                return None
        return out


def _with_nan(transformer: Any) -> Any:
    """The transformer with NaN for what is missing, as tables have it, in the place of None, which says the
    same of text. Raises ValueError for another word."""
    value = transformer.missing_values
    import pandas as pd

    if value is None:
        return clone(transformer).set_params(missing_values=np.nan)
    if not (value is pd.NA or value != value):
        raise ValueError(
            f"{type(transformer).__name__}: expected missing_values=nan, as tables have, got {value!r}; "
            "say what means missing when the table is written, as in daskgd.ingest(na_values=[...])"
        )
    return transformer
