"""The encoder of categories by their targets, cross-fitted by folds of row hashes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import clone

from daskgd.preprocessing.columns import Category, Column, Indicators, Number, PositionsOf, TargetMeans
from daskgd.preprocessing.facts import Asking
from daskgd.preprocessing.kinds.base import Input, Kind
from daskgd.preprocessing.kinds.categories import object_array, occurring
from daskgd.queries.targets import TargetMoments
from daskgd.rows.summaries import GroupMoments

Array = NDArray[Any]

WHO = "TargetEncoder"

MOST_NUMBERS = 1 << 27
"""Most numbers of the moments of categories, folds and classes: a gigabyte."""


class Target(Kind):
    """TargetEncoder.

    The rows of a fit are encoded as its ``fit_transform`` does: each by the rows of other folds. In which of
    the `cv` folds a row is, is a hash of its number and of `random_state`: folds are not stratified, and all
    of about the same size.
    """

    def fit(self, transformer: Any, given: Input) -> Asking:
        folds, seed = _folds(transformer)
        classes = yield from _classes(transformer, given)
        distinct = yield from given.facts.distinct_values(given.columns)
        found = [occurring(one, given, j, WHO).values for j, one in enumerate(distinct)]
        if not isinstance(transformer.categories, str):
            found = [object_array(values) for values in transformer.categories]
        known = [values for values in found if values is not None]
        places = [_places(column, values) for column, values in zip(given.columns, known, strict=True)]
        kind = "continuous" if classes is None else "binary" if len(classes) == 2 else "multiclass"
        stored = classes if given.facts.classes is None else np.arange(len(given.facts.classes))
        query = TargetMoments(
            tuple(
                (PositionsOf(at, given.facts.schema), len(values))
                for at, values in zip(places, known, strict=True)
            ),
            folds,
            seed,
            stored,
        )
        if folds * query.outputs * sum(map(len, known)) > MOST_NUMBERS:
            raise ValueError(
                f"{WHO}: expected categories times folds times classes to be at most {MOST_NUMBERS:,}, got "
                f"{sum(map(len, known)):,} categories, {folds} folds and {query.outputs:,} classes; for "
                "targets that are numbers set target_type='continuous'"
            )
        *moments, whole = yield from given.facts.target_moments(query)
        fitted = _fitted(transformer, given, known, kind, classes)
        smooth, everything = transformer.smooth, whole.total(0)[0]
        total = [one.total(0) for one in moments]
        fitted.encodings_ = [
            _encoding(one[:, k], everything[k], smooth) for one in total for k in range(query.outputs)
        ]
        mean = everything.mean
        fitted.target_mean_ = mean if kind == "multiclass" else mean[0]
        of_the_fit: list[Column] = [
            TargetMeans(at, _by_fold(one[..., k], whole[:, 0, k], smooth), seed)
            for at, one in zip(places, moments, strict=True)
            for k in range(query.outputs)
        ]
        given.facts.cross_fitted[id(fitted)] = fitted, of_the_fit
        return fitted

    def columns(self, fitted: Any, of: Sequence[Column], names: Any) -> list[Column] | None:
        outputs = len(fitted.classes_) if fitted.target_type_ == "multiclass" else 1
        means = np.atleast_1d(fitted.target_mean_)
        if not all(isinstance(column, Category | Number) for column in of):
            return None
        out: list[Column] = []
        for j, column in enumerate(of):
            at = _places(column, fitted.categories_[j])
            for k in range(outputs):
                values = np.append(fitted.encodings_[j * outputs + k], means[k])
                if isinstance(column, Category):
                    out.append(Category(column.column, column.name, values[at.places]))
                else:
                    out.append(TargetMeans(at, values[None], 0))
        return out


def _folds(transformer: Any) -> tuple[int, int]:
    """The number of folds, and the seed. Raises ValueError for what hashes of row numbers do not do."""
    cv, seed = transformer.cv, transformer.random_state
    if not isinstance(cv, int | np.integer) or isinstance(cv, bool) or cv < 2:
        raise ValueError(
            f"{WHO}: expected cv as a whole number of folds >= 2, in which rows are by a hash of their "
            f"number, got {cv!r}"
        )
    if transformer.shuffle not in (True, "deprecated"):
        raise ValueError(
            f"{WHO}: expected shuffle=True, as rows are in folds by a hash of their number, got "
            f"{transformer.shuffle!r}; leave it out"
        )
    if seed is None or seed == "deprecated":
        return int(cv), 0
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"{WHO}: expected random_state as None or a whole number >= 0, got {seed!r}")
    return int(cv), int(seed)


def _classes(transformer: Any, given: Input) -> Asking:
    """The labels, sorted; None where the target is numbers."""
    asked = transformer.target_type
    if asked == "continuous":
        if given.facts.classes is not None:
            raise ValueError(
                f"{WHO}: expected numbers for a target with target_type='continuous', got labels "
                f"{given.facts.classes[:3].tolist()}; leave target_type out"
            )
        return None
    if given.facts.classes is not None:
        found: Array = given.facts.classes
    else:
        values = (yield from given.facts.target_values()).values
        if values is None:
            if asked == "auto":
                return None
            raise ValueError(
                f"{WHO}: expected labels for a target with target_type={asked!r}, got numbers that are not "
                "whole, or more than a million of them; set target_type='continuous'"
            )
        found = values
    if asked == "binary" and len(found) > 2:
        raise ValueError(
            f"{WHO}: expected two labels with target_type='binary', got {len(found)}; leave target_type out"
        )
    if len(found) < 2:
        raise ValueError(f"{WHO}: expected a target with two values at least, got {found.tolist()}")
    if asked == "multiclass" and len(found) == 2:
        raise ValueError(
            f"{WHO}: expected more than two labels with target_type='multiclass', got 2; leave it out"
        )
    return found


def _places(column: Any, known: Array) -> Indicators:
    """Which of the known categories each row of a column has."""
    at = {("nan" if v != v else v): i for i, v in enumerate(known.tolist())}
    if isinstance(column, Category):
        found = [at.get("nan" if v is None or v != v else v, -1) for v in column.values.tolist()]
        return Indicators(column, np.array(found, dtype=np.int64), len(known))
    if not isinstance(column, Number):
        raise ValueError(
            f"{WHO}: expected columns as they are stored, got one that another transformer makes; give it "
            "the columns of the table"
        )
    numbers = known.astype(np.float64)
    return Indicators(column, np.append(np.arange(len(known)), -1), len(known), numbers)


def _fitted(transformer: Any, given: Input, known: Sequence[Array], kind: str, classes: Any) -> Any:
    """A fitted encoder with these categories, whose encodings are yet to be put in."""
    height = max(*map(len, known), 2 if classes is None else len(classes))
    if any(not len(values) for values in known):
        j = next(j for j, values in enumerate(known) if not len(values))
        raise ValueError(f"{WHO}: expected column {given.label(j)} to have a category, got none")
    rows = [np.resize(values, height) for values in known]
    y = np.linspace(0.5, 1.25, height) if classes is None else np.resize(classes, height)
    chosen = clone(transformer).set_params(target_type=kind)
    if transformer.categories != "auto":
        chosen.set_params(categories=[np.array(values) for values in known])
    fitted = chosen.fit(given.like(rows), y)
    return fitted.set_params(target_type=transformer.target_type, categories=transformer.categories)


def _encoding(moments: GroupMoments, whole: GroupMoments, smooth: Any) -> Array:
    """The encoding of each category ``(k,)``, from the moments of the target in each, and in all rows: the
    mean in the category, moved towards that of all rows.

    With n rows of a category, their mean m and sum of squared deviations s, and mean M and variance V of all,

        (n m + smooth M) / (n + smooth),    or    l m + (1 - l) M  with  l = V n / (V n + s / n),

    the latter an empirical Bayes estimate (Micci-Barreca 2001, equations 5 and 6), for smooth="auto".
    """
    n, mean = moments.weight, whole.mean
    if smooth != "auto":
        with np.errstate(invalid="ignore"):
            found = (n * moments.mean + smooth * mean) / (n + smooth)
        return np.where(n + smooth > 0, found, mean)
    variance = whole.deviation / np.maximum(whole.weight, 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = variance * n / (variance * n + moments.deviation / n)
    return np.where(np.isnan(share), mean, share * moments.mean + (1 - share) * mean)


def _by_fold(moments: GroupMoments, whole: GroupMoments, smooth: Any) -> Array:
    """The encodings ``(folds, categories + 1)`` for the rows of each fold, from all other folds; last that of
    rows without a category."""
    folds = len(whole.weight)
    out = np.empty((folds, moments.weight.shape[1] + 1))
    for fold in range(folds):
        others = np.arange(folds) != fold
        rest = whole[others].total(0)
        out[fold, :-1] = _encoding(moments[others].total(0), rest, smooth)
        out[fold, -1] = rest.mean
    return out
