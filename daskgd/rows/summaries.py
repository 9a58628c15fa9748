"""Summaries of single columns, some of whose values are missing: they merge as sums do. Knows arrays."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.group_sums import group_sums

Array = NDArray[Any]

CUT = 1 << 16
"""The number of elements that are converted to float64 at a time."""

MOST_DISTINCT = 1 << 20
"""Distinct numbers of a column beyond which they are not collected any more."""


@dataclass(frozen=True, slots=True)
class NumberSummary:
    """The weights of the values and of the missing ones of q columns, and their means, sums of squared
    deviations, minima and maxima, ``(q,)`` each, in float64.

    A missing value is NaN. Where a column has no values its mean is NaN, its minimum inf and its maximum
    -inf. Two add by the pairwise update of Chan, Golub & LeVeque (1979), column by column.

    >>> a, b = (NumberSummary.of(np.array([[x], [np.nan]]), None) for x in (1.0, 3.0))
    >>> (a + b).weight, (a + b).missing, (a + b).mean, (a + b).variance
    (array([2.]), array([2.]), array([2.]), array([1.]))
    """

    weight: Array
    missing: Array
    mean: Array
    deviation: Array
    minimum: Array
    maximum: Array

    @classmethod
    def of(cls, X: Array, s: Array | None) -> NumberSummary:
        """The summary of the columns of X ``(n, q)`` with weights ``(n,)`` or None; a row of weight 0 is
        absent."""
        if s is not None and not (s > 0).all():
            X, s = X[s > 0], s[s > 0]
        height = max(16, CUT // max(X.shape[1], 1))
        out = cls._empty(X.shape[1])
        for a in range(0, len(X), height):
            cut = X[a : a + height].astype(np.float64)
            out = out + cls._of_cut(cut, None if s is None else s[a : a + height].astype(np.float64))
        return out

    @classmethod
    def _empty(cls, q: int) -> NumberSummary:
        none, infinite = np.zeros(q), np.full(q, np.inf)
        return cls(none, none, np.full(q, np.nan), none, infinite, -infinite)

    @classmethod
    def _of_cut(cls, X: Array, s: Array | None) -> NumberSummary:
        gaps = np.isnan(X)
        v = (~gaps).astype(np.float64) if s is None else np.where(gaps, 0.0, s[:, None])
        weight = v.sum(axis=0)
        missing = gaps.sum(axis=0).astype(np.float64) if s is None else np.where(gaps, s[:, None], 0.0).sum(0)
        with np.errstate(invalid="ignore", over="ignore"):
            low = np.where(gaps, np.inf, X).min(axis=0, initial=np.inf)
            high = np.where(gaps, -np.inf, X).max(axis=0, initial=-np.inf)
            # About one of the values, so that a constant column has exactly its value for a mean.
            away = np.where(gaps, 0.0, X - low)
            away[:, ~np.isfinite(low)] = 0.0
            mean = (v * away).sum(axis=0) / np.where(weight > 0, weight, np.nan)
            deviation = (v * np.where(gaps, 0.0, away - mean) ** 2).sum(axis=0)
        return cls(weight, missing, low + mean, np.where(weight > 0, deviation, 0.0), low, high)

    def __add__(self, other: NumberSummary) -> NumberSummary:
        weight = self.weight + other.weight
        with np.errstate(invalid="ignore", over="ignore"):
            share = other.weight / np.where(weight > 0, weight, 1.0)
            delta = other.mean - self.mean
            both = (self.weight > 0) & (other.weight > 0)
            mean = np.where(
                both, self.mean + delta * share, np.where(other.weight > 0, other.mean, self.mean)
            )
            more = np.where(both, delta * delta * (self.weight * share), 0.0)
        return NumberSummary(
            weight,
            self.missing + other.missing,
            mean,
            self.deviation + other.deviation + more,
            np.minimum(self.minimum, other.minimum),
            np.maximum(self.maximum, other.maximum),
        )

    def __getitem__(self, columns: Any) -> NumberSummary:
        """The summary of some of the columns."""
        return NumberSummary(*(getattr(self, name)[columns] for name in self.__slots__))

    @staticmethod
    def concat(parts: list[NumberSummary]) -> NumberSummary:
        """The summaries of several columns side by side."""
        columns = ([getattr(part, name) for part in parts] for name in NumberSummary.__slots__)
        return NumberSummary(*map(np.concatenate, columns))

    @property
    def variance(self) -> Array:
        """The population variance of each column, NaN where it has no values."""
        out: Array = self.deviation / np.where(self.weight > 0, self.weight, np.nan)
        return out

    # -- of changed columns ---------------------------------------------------------------------

    def filled(self, value: float) -> NumberSummary:
        """The same, were `value` in the place of what is missing."""
        there = self.missing > 0
        none, q = np.zeros(len(self.mean)), len(self.mean)
        fills = NumberSummary(
            self.missing,
            none,
            np.where(there, value, np.nan),
            none,
            np.where(there, value, np.inf),
            np.where(there, value, -np.inf),
        )
        return (
            NumberSummary(
                *(getattr(self, name) if name != "missing" else np.zeros(q) for name in self.__slots__)
            )
            + fills
        )

    def moved(self, shift: float) -> NumberSummary:
        """The same, were `shift` added to all values."""
        return NumberSummary(
            self.weight,
            self.missing,
            self.mean + shift,
            self.deviation,
            self.minimum + shift,
            self.maximum + shift,
        )

    def scaled(self, factor: float) -> NumberSummary:
        """The same, were all values multiplied by `factor`."""
        low, high = self.minimum * factor, self.maximum * factor
        if factor < 0:
            low, high = high, low
        empty = ~(self.weight > 0)
        return NumberSummary(
            self.weight,
            self.missing,
            self.mean * factor,
            self.deviation * factor**2,
            np.where(empty, np.inf, low),
            np.where(empty, -np.inf, high),
        )

    def gaps(self) -> NumberSummary:
        """The summary of the indicator that a value is missing: 1 where it is, else 0."""
        weight = self.weight + self.missing
        with np.errstate(invalid="ignore"):
            mean = self.missing / np.where(weight > 0, weight, np.nan)
        deviation = np.where(weight > 0, weight * mean * (1 - mean), 0.0)
        low = np.where(self.weight > 0, 0.0, np.where(self.missing > 0, 1.0, np.inf))
        high = np.where(self.missing > 0, 1.0, np.where(self.weight > 0, 0.0, -np.inf))
        return NumberSummary(weight, np.zeros(len(weight)), mean, deviation, low, high)


@dataclass(frozen=True, slots=True)
class DistinctValues:
    """The distinct values of a column, sorted, NaN or None last, and the weight of each; `values` is None
    where there are more than ``MOST_DISTINCT``.

    >>> a, b = (DistinctValues.of(np.array(x), None) for x in ([2.0, 1.0], [2.0, np.nan]))
    >>> (a + b).values, (a + b).weights
    (array([ 1.,  2., nan]), array([1., 2., 1.]))
    """

    values: Array | None
    weights: Array

    @classmethod
    def of(cls, values: Array, s: Array | None) -> DistinctValues:
        """Those of values ``(n,)``, numbers or objects, with weights ``(n,)`` or None; one of weight 0 is
        absent."""
        if s is not None and not (s > 0).all():
            values, s = values[s > 0], s[s > 0]
        each = np.ones(len(values)) if s is None else s.astype(np.float64)
        if values.dtype == object:
            return cls._of_objects(values.tolist(), each)
        found, at = np.unique(values, return_inverse=True)
        return cls(found, group_sums(at.reshape(-1), each, len(found)))._checked()

    @classmethod
    def _of_objects(cls, values: list[Any], each: Array) -> DistinctValues:
        totals: dict[Any, float] = {}
        gaps: dict[str, tuple[Any, float]] = {}
        for value, weight in zip(values, each.tolist(), strict=True):
            if value is None or value != value:
                kind = "none" if value is None else "nan"
                gaps[kind] = value, gaps.get(kind, (value, 0.0))[1] + weight
            else:
                totals[value] = totals.get(value, 0.0) + weight
        keys = sorted(totals)
        last = [gaps[kind] for kind in ("none", "nan") if kind in gaps]
        found = np.empty(len(keys) + len(last), dtype=object)
        found[:] = [*keys, *(value for value, _ in last)]
        weights = np.array([*(totals[key] for key in keys), *(weight for _, weight in last)])
        return cls(found, weights)._checked()

    def _checked(self) -> DistinctValues:
        if self.values is not None and len(self.values) > MOST_DISTINCT:
            return DistinctValues(None, np.zeros(0))
        return self

    def __add__(self, other: DistinctValues) -> DistinctValues:
        if self.values is None or other.values is None:
            return DistinctValues(None, np.zeros(0))
        values = np.concatenate([self.values, other.values])
        return DistinctValues.of(values, np.concatenate([self.weights, other.weights]))


@dataclass(frozen=True, slots=True)
class GroupMoments:
    """The weights of groups of values, their means, and their sums of squared deviations, arrays of one shape
    in float64; the mean of a group without values is 0.

    Two add by the pairwise update of Chan, Golub & LeVeque (1979), group by group.

    >>> a, b = (GroupMoments.of(np.array([x]), np.array([0]), 2) for x in (1.0, 3.0))
    >>> (a + b).weight, (a + b).mean, (a + b).deviation
    (array([2., 0.]), array([2., 0.]), array([2., 0.]))
    """

    weight: Array
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, values: Array, groups: Array, n_groups: int, s: Array | None = None) -> GroupMoments:
        """Those of values ``(n,)``, each of the group at its position ``(n,)``, with weights ``(n,)`` or
        None; a row of weight 0 is absent."""
        if s is not None and not (s > 0).all():
            values, groups, s = values[s > 0], groups[s > 0], s[s > 0]
        each = np.ones(len(values)) if s is None else s.astype(np.float64)
        weight = group_sums(groups, each, n_groups)
        # About one of the values, so that equal ones have exactly their value for a mean.
        base = np.zeros(n_groups)
        base[groups] = values
        away = values - base[groups]
        mean = group_sums(groups, each * away, n_groups) / np.where(weight > 0, weight, 1.0)
        deviation = group_sums(groups, each * (away - mean[groups]) ** 2, n_groups)
        return cls(weight, base + mean, deviation)

    def __add__(self, other: GroupMoments) -> GroupMoments:
        weight = self.weight + other.weight
        share = other.weight / np.where(weight > 0, weight, 1.0)
        delta = other.mean - self.mean
        mean = np.where(self.weight > 0, self.mean + delta * share, other.mean)
        both = (self.weight > 0) & (other.weight > 0)
        more = np.where(both, delta * delta * (self.weight * share), 0.0)
        return GroupMoments(weight, mean, self.deviation + other.deviation + more)

    def __getitem__(self, at: Any) -> GroupMoments:
        """Some of the groups."""
        return GroupMoments(self.weight[at], self.mean[at], self.deviation[at])

    def total(self, axis: int) -> GroupMoments:
        """The moments of groups together along an axis."""
        parts = [self[(slice(None),) * axis + (i,)] for i in range(self.weight.shape[axis])]
        return reduce(operator.add, parts)

    def reshape(self, *shape: int) -> GroupMoments:
        """The same groups in another shape."""
        return GroupMoments(*(getattr(self, name).reshape(shape) for name in self.__slots__))
