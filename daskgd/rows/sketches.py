"""A sketch of a distribution: how much weight there is at each value, rounded no more than its room asks.

Sums of it know nothing of their order: the same rows give the same bits, however they were cut. Knows
arrays.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

MOST = 1 << 16
"""Distinct values beyond which they are rounded: a relative step of about 1e-4 where they spread over a
thousandfold."""


def _distinct(keys: Array, step: int) -> int:
    """How many of these sorted keys differ without their last bits."""
    return int(np.count_nonzero(np.diff(keys >> np.uint64(step)))) + 1


SIGN = np.uint64(1 << 63)


def ordered(values: Array) -> Array:
    """Whole numbers ``(n,)``, uint64, in the order of these floats, none of them NaN: their bits, those of
    negative ones turned around.

    >>> bool((np.diff(ordered(np.array([-np.inf, -2.0, 0.0, 1e-300, 3.0])).astype(object)) > 0).all())
    True
    """
    bits = (np.asarray(values, dtype=np.float64) + 0.0).view(np.uint64)  # no -0
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def floats(keys: Array) -> Array:
    """The floats of which :func:`ordered` makes these keys."""
    keys = np.asarray(keys, dtype=np.uint64)
    bits: Array = np.where(keys & SIGN, keys ^ SIGN, ~keys)
    return bits.view(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The weights of values, of c kinds, each value rounded to its leading bits where there are many.

    A value is known by the number that :func:`ordered` makes of it, without its last `dropped` bits: those
    are as few as leave at most ``MOST`` distinct ones, which is a function of the values alone. Until then
    nothing is rounded.

    Attributes
    ----------
    dropped : int
    keys : (m,)
        Sorted.
    weights : (m, c)

    >>> some = Distribution.of(np.array([1.0, 5.0, 1.0]), np.array([[1.0], [1.0], [2.0]]))
    >>> some.low, some.weights[:, 0], some.quantile(0.5)
    (array([1., 5.]), array([3., 1.]), 1.0)
    """

    dropped: int
    keys: Array
    weights: Array

    @classmethod
    def of(cls, values: Array, weights: Array) -> Distribution:
        """That of values ``(n,)`` and weights ``(n, c)``; one without any weight is absent."""
        there = weights.any(axis=1)
        return cls._merged(0, ordered(values[there]), weights[there].astype(np.float64))

    @classmethod
    def _merged(cls, dropped: int, keys: Array, weights: Array) -> Distribution:
        """One of keys in any order, some of them equal."""
        found, at = np.unique(keys, return_inverse=True)
        if len(found) > MOST:
            step = bisect_left(range(64 - dropped), -MOST, key=lambda step: -_distinct(found, step))
            dropped += step
            found, again = np.unique(found >> np.uint64(step), return_inverse=True)
            at = again.reshape(-1)[at.reshape(-1)]
        out = np.zeros((len(found), weights.shape[1]))
        np.add.at(out, at.reshape(-1), weights)
        return cls(dropped, found, out)

    def _with_dropped(self, dropped: int) -> Distribution:
        if dropped == self.dropped:
            return self
        return self._merged(dropped, self.keys >> np.uint64(dropped - self.dropped), self.weights)

    def __add__(self, other: Distribution) -> Distribution:
        dropped = max(self.dropped, other.dropped)
        a, b = self._with_dropped(dropped), other._with_dropped(dropped)
        return self._merged(dropped, np.concatenate([a.keys, b.keys]), np.concatenate([a.weights, b.weights]))

    def with_kinds(self, at: Array, n_kinds: int) -> Distribution:
        """The same, its kinds at these positions among so many."""
        weights = np.zeros((len(self.keys), n_kinds))
        weights[:, at] = self.weights
        return Distribution(self.dropped, self.keys, weights)

    @property
    def low(self) -> Array:
        """The least value ``(m,)`` that each key stands for."""
        found = floats(self.keys << np.uint64(self.dropped))
        return np.where(np.isnan(found), -np.inf, found)

    @property
    def high(self) -> Array:
        """The greatest value ``(m,)`` that each key stands for."""
        rest = (1 << self.dropped) - 1
        found = floats((self.keys << np.uint64(self.dropped)) | np.uint64(rest))
        return np.where(np.isnan(found), np.inf, found)

    @property
    def is_exact(self) -> bool:
        """Whether no value was rounded."""
        return self.dropped == 0

    def quantile(self, q: float, kind: int = 0) -> float:
        """The least value with a share q of the weight of a kind at or below it, rounded down as it is known:
        the value itself is at most :attr:`high` of its key. NaN where there is no weight."""
        weights = self.weights[:, kind]
        total = np.cumsum(weights)
        if not len(total) or not total[-1] > 0:
            return float("nan")
        at = int(np.searchsorted(total, q * total[-1] * (1 - 1e-15)))
        at = min(at, len(total) - 1)
        while at < len(total) - 1 and not weights[at] > 0:
            at += 1
        return float(self.low[at])
