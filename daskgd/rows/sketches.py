"""A sketch of a distribution: how much weight there is at each value, rounded no more than its room asks.

Sums of it know nothing of their order: the same rows give the same bits, however they were cut. Knows
arrays.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

EXACT = 1 << 12
"""Distinct values up to which none is rounded."""

BITS = 11
"""Leading bits of the significand, beyond the first, that are kept of values where there are more: a relative
step of ``2**-11``, about 5e-4, at most."""

MOST = 1 << 16
"""Distinct rounded values beyond which they are rounded further. So many cover sixteen powers of two of both
signs."""

SLOTS = 1 << 18
"""Rounded values between the smallest and the largest of a block, up to which they are counted in a table
instead of being sorted."""

BUCKETS = 1 << 14
"""Buckets of the hash by which many distinct values are told from few."""

SIGN = np.uint64(1 << 63)


def _distinct(keys: Array, step: int) -> int:
    """How many of these sorted keys differ without their last bits."""
    return int(np.count_nonzero(np.diff(keys >> np.uint64(step)))) + 1


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


class _Table(NamedTuple):
    """Values in a table of rounded ones, negative ones first: the slot of each value ``(n,)``, the slots of
    either sign, and the magnitude of their first, in units of the last bit that is kept."""

    slots: Array
    width: int
    low: int
    has_zero: bool
    bits: int

    def keys(self, occupied: Array) -> Array:
        """The keys of slots ``(m,)``, sorted."""
        # The leading bits of a float32 are those of the same float64, but for where exponents begin.
        shift = self.low + (0 if self.slots.dtype == np.int64 else (1023 - 127) << self.bits)
        return _keys_of_slots(occupied, self.width, shift, self.has_zero, self.bits)


def _keys_of_slots(occupied: Array, width: int, shift: int, has_zero: bool, bits: int) -> Array:
    """The keys ``(m,)`` of sorted slots, of which so many are of either sign: magnitudes from `shift` on, or
    where there is a zero, from 0 and then from ``shift + 1`` on."""
    half = 1 << (11 + bits)
    keys = occupied.astype(np.int64)
    keys += half - width
    split = int(np.searchsorted(occupied, width))
    keys[:split] -= shift
    if has_zero and split < len(keys) and occupied[split] == width:
        keys[split] -= shift
    keys[split:] += shift
    return keys.astype(np.uint64)


def _table(values: Array, bits: int) -> _Table | None:
    """The table of these values, which are float32 or float64; None where it would be large."""
    double = values.dtype != np.float32
    whole, significand = (np.int64, 52) if double else (np.int32, 23)
    found: Any = np.ascontiguousarray(values).view(whole)
    size: Any = (found & np.iinfo(whole).max) >> (significand - bits)
    low, high = int(size.min()), int(size.max())
    has_zero = low == 0 and not np.all(values)
    if has_zero:
        found = (values + 0.0).view(whole)  # no -0
        low = int(size.min(where=values != 0, initial=high)) - 1
    width = high - low + 1
    # Of subnormal numbers fewer bits are significant.
    if width > min(SLOTS, 16 * len(values)) or low < 1 << bits:
        return None
    size -= low
    if has_zero:
        np.maximum(size, 0, out=size)
    size ^= found >> (whole().itemsize * 8 - 1)
    size += width
    return _Table(size, width, low, has_zero, bits)


def _has_many(values: Array) -> bool:
    """Whether more than EXACT of these values are distinct, where a hash tells; False may mean either."""
    if len(values) <= EXACT or BUCKETS <= EXACT:
        return False
    bits: Any = (values + 0.0).view(np.uint32 if values.dtype == np.float32 else np.uint64)  # no -0
    factor, size = (0x9E3779B1, 32) if bits.itemsize == 4 else (0x9E3779B97F4A7C15, 64)
    with np.errstate(over="ignore"):
        found = (bits * bits.dtype.type(factor)) >> bits.dtype.type(size - BUCKETS.bit_length() + 1)
    return int(np.count_nonzero(np.bincount(found.astype(np.intp), minlength=BUCKETS))) > EXACT


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """The weights of values, of c kinds, each value rounded to its leading bits where there are many.

    A value is known by the number that :func:`ordered` makes of it, without its last `dropped` bits. Of up
    to ``EXACT`` distinct values nothing is rounded; of more each is, towards minus infinity, to ``BITS`` bits
    of its significand, and to fewer where that leaves more than ``MOST``: a function of the values alone.

    Attributes
    ----------
    dropped : int
    keys : (m,)
        Sorted.
    weights : (m, c)
    bits : int
        What counts for this one in the place of ``BITS``.

    >>> some = Distribution.of(np.array([1.0, 5.0, 1.0]), np.array([[1.0], [1.0], [2.0]]))
    >>> some.low, some.weights[:, 0], some.quantile(0.5)
    (array([1., 5.]), array([3., 1.]), 1.0)
    """

    dropped: int
    keys: Array
    weights: Array
    bits: int

    @classmethod
    def of(cls, values: Array, weights: Array, bits: int | None = None) -> Distribution:
        """That of values ``(n,)`` and weights ``(n, c)``, to `bits` in the place of ``BITS``; one without any
        weight is absent."""
        bits = BITS if bits is None else bits
        there = weights.any(axis=1)
        values, weights = values[there], weights[there].astype(np.float64, copy=False)
        table = _table(values, bits) if len(values) > EXACT else None
        if table is None:
            return cls._of_keys(0, ordered(values), weights, bits)
        slots = table.slots.astype(np.intp)
        occupied, at = _ranks(slots, 2 * table.width)
        if len(occupied) <= EXACT and not _has_many(values):
            return cls._of_keys(0, ordered(values), weights, bits)
        sums = [np.bincount(at, column, len(occupied)) for column in weights.T]
        return cls(52 - bits, table.keys(occupied), np.stack(sums, axis=1), bits)._limited()

    @classmethod
    def of_kinds(
        cls, values: Array, kinds: Array, n_kinds: int, s: Array | None, bits: int | None = None
    ) -> Distribution:
        """That of values ``(n,)``, each of the kind of its row ``(n,)``, from 0 to ``n_kinds - 1``, with
        weights ``(n,)``, all positive, or None for 1; to `bits` in the place of ``BITS``."""
        bits = BITS if bits is None else bits
        values = values if values.dtype == np.float32 else np.asarray(values, dtype=np.float64)
        table = _table(values, bits) if len(values) > EXACT else None
        if table is not None and 2 * table.width * n_kinds <= 4 * SLOTS:
            places = kinds * np.intp(2 * table.width)
            places += table.slots
            found = np.bincount(places, s, 2 * table.width * n_kinds).reshape(n_kinds, -1)
            occupied = np.flatnonzero((found > 0).any(axis=0))
            if len(occupied) > EXACT or _has_many(values):
                sums = _taken(found, occupied)
                return cls(52 - bits, table.keys(occupied), sums, bits)._limited()
        keys, at = np.unique(ordered(values), return_inverse=True)
        places = at.reshape(-1) * n_kinds + kinds
        sums = np.bincount(places, s, len(keys) * n_kinds).reshape(-1, n_kinds)
        return cls(0, keys, sums.astype(np.float64, copy=False), bits)._limited()

    @classmethod
    def _of_keys(cls, dropped: int, keys: Array, weights: Array, bits: int) -> Distribution:
        """One of keys in any order, some of them equal."""
        found, at = np.unique(keys, return_inverse=True)
        sums = [np.bincount(at.reshape(-1), column, len(found)) for column in weights.T]
        return cls(dropped, found, np.stack(sums, axis=1), bits)._limited()

    def _limited(self) -> Distribution:
        """The same, rounded as much as its values ask."""
        dropped, n = self.dropped, len(self.keys)
        if dropped == 0 and n > EXACT:
            dropped = 52 - self.bits
            n = _distinct(self.keys, dropped)
        if dropped and n > MOST:
            done = dropped - self.dropped
            dropped += bisect_left(
                range(64 - dropped), -MOST, key=lambda step: -_distinct(self.keys, done + step)
            )
        return self._with_dropped(dropped)

    def _with_dropped(self, dropped: int) -> Distribution:
        if dropped == self.dropped:
            return self
        return self._of_keys(dropped, self.keys >> np.uint64(dropped - self.dropped), self.weights, self.bits)

    def __add__(self, other: Distribution) -> Distribution:
        if not len(self.keys) or not len(other.keys):
            return other if not len(self.keys) else self
        dropped = max(self.dropped, other.dropped)
        a, b = self._with_dropped(dropped), other._with_dropped(dropped)
        if np.array_equal(a.keys, b.keys):
            return Distribution(dropped, a.keys, a.weights + b.weights, self.bits)
        merged = a._merged_in_table(b) if dropped == 52 - self.bits else None
        if merged is None:
            keys, weights = (np.concatenate(v) for v in ((a.keys, b.keys), (a.weights, b.weights)))
            return self._of_keys(dropped, keys, weights, self.bits)
        return merged._limited()

    def _merged_in_table(self, other: Distribution) -> Distribution | None:
        """The sum of two of equal rounding, without sorting; None where the table would be large."""
        half = np.uint64(1 << (11 + self.bits))
        sizes, has_zero = [], False
        for keys in (self.keys, other.keys):
            split = int(np.searchsorted(keys, half))
            zero = split < len(keys) and keys[split] == half
            positive, has_zero = keys[split + zero :], has_zero or zero
            if split:
                sizes += [half - np.uint64(1) - keys[0], half - np.uint64(1) - keys[split - 1]]
            if len(positive):
                sizes += [positive[0] - half, positive[-1] - half]
        shift = int(min(sizes, default=0)) - has_zero
        width = int(max(sizes, default=0)) - shift + 1
        if width > SLOTS or shift < 0:
            return None
        found = np.zeros((self.weights.shape[1], 2 * width))
        for one in (self, other):
            slots = one.keys.astype(np.int64)
            slots += width - int(half)
            split = int(np.searchsorted(one.keys, half))
            slots[:split] += shift
            zero = split < len(slots) and one.keys[split] == half
            slots[split + zero :] -= shift
            for row, column in zip(found, one.weights.T, strict=True):
                row[slots] += column
        occupied = np.flatnonzero((found > 0).any(axis=0))
        keys = _keys_of_slots(occupied, width, shift, has_zero, self.bits)
        return Distribution(self.dropped, keys, _taken(found, occupied), self.bits)

    def with_kinds(self, at: Array, n_kinds: int) -> Distribution:
        """The same, its kinds at these positions among so many."""
        weights = np.zeros((len(self.keys), n_kinds))
        weights[:, at] = self.weights
        return Distribution(self.dropped, self.keys, weights, self.bits)

    def one_against_others(self, kind: int) -> Distribution:
        """The same with two kinds: all but one, and this one."""
        rest = np.delete(self.weights, kind, axis=1).sum(axis=1)
        weights = np.stack([rest, self.weights[:, kind]], axis=1)
        return Distribution(self.dropped, self.keys, weights, self.bits)

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


def _ranks(slots: Array, n_slots: int) -> tuple[Array, Array]:
    """The slots that occur, sorted, and the position ``(n,)`` of each value's among them."""
    occupied = np.flatnonzero(np.bincount(slots, minlength=n_slots) > 0)
    rank = np.zeros(n_slots, dtype=np.intp)
    rank[occupied] = np.arange(len(occupied))
    return occupied, rank[slots]


def _taken(found: Array, occupied: Array) -> Array:
    """The columns ``(m, k)`` of a table ``(k, n)``."""
    out = np.empty((len(occupied), len(found)), order="F")
    for j, row in enumerate(found):
        out[:, j] = row[occupied]
    return out
