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

from daskgd.rows.group_sums import group_sums

Array = NDArray[Any]

EXACT = 1 << 12
"""Distinct values up to which none is rounded."""

BITS = 10
"""Leading bits of the significand, beyond the first, that are kept of values where there are more: a relative
step of ``2**-10``, about 1e-3, at most."""

MOST = 1 << 16
"""Distinct rounded values beyond which they are rounded further. So many cover 32 powers of two of both
signs."""

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


@dataclass(frozen=True, slots=True, eq=False)
class _Table:
    """The weights of rounded values in a table of all between the smallest and the largest magnitude.

    Attributes
    ----------
    low : int
        The smallest magnitude but 0, in units of the last bit that is kept.
    counts : (c, 2 width)
        Of each kind, negative values first, the largest magnitude at either end.
    zero : (c,)
        The weights of 0.
    """

    low: int
    counts: Array
    zero: Array
    n_rows: int
    """The number of rows: so long as a counter of 32 bits holds them, and they have no weights, it does."""

    @property
    def width(self) -> int:
        return self.counts.shape[1] // 2

    def __add__(self, other: _Table) -> _Table | None:
        """The sum; None where its table would be large."""
        zero = self.zero + other.zero
        n_rows = self.n_rows + other.n_rows
        dtype = np.result_type(self.counts, other.counts, np.int32 if n_rows < 2**31 else np.int64)
        if (self.low, self.width) == (other.low, other.width):
            return _Table(self.low, np.add(self.counts, other.counts, dtype=dtype), zero, n_rows)
        low = min(self.low, other.low)
        width = max(one.low + one.width for one in (self, other)) - low
        if 2 * width > MOST:
            return None
        counts = np.zeros((len(zero), 2 * width), dtype)
        for one in (self, other):
            start = one.low - low
            stop = start + one.width
            counts[:, width + start : width + stop] += one.counts[:, one.width :]
            counts[:, width - stop : width - start] += one.counts[:, : one.width]
        return _Table(low, counts, zero, n_rows)

    def sparse(self, bits: int) -> tuple[Array, Array]:
        """The keys of the values that occur, sorted, and their weights ``(m, c)``."""
        half, width = 1 << (11 + bits), self.width
        occupied = np.flatnonzero((self.counts != 0).any(axis=0))
        keys = occupied + (half - width)
        split = int(np.searchsorted(occupied, width))
        keys[:split] -= self.low
        keys[split:] += self.low
        weights = np.stack([row[occupied] for row in self.counts], axis=1).astype(np.float64)
        if self.zero.any():
            keys = np.insert(keys, split, half)
            weights = np.insert(weights, split, self.zero, axis=0)
        return keys.astype(np.uint64), weights


def _table(values: Array, kinds: Array, weights: Any, n_kinds: int, bits: int) -> _Table | None:
    """The table of values ``(n,)``, which are float32 or float64, of these kinds ``(n,)``, with weights
    ``(n,)`` or None for 1; None where it would be large."""
    double = values.dtype != np.float32
    whole, significand = (np.int64, 52) if double else (np.int32, 23)
    found: Any = np.ascontiguousarray(values).view(whole)
    size: Any = (found & np.iinfo(whole).max) >> (significand - bits)
    low, high = int(size.min()), int(size.max())
    zero = np.zeros(n_kinds, np.int64 if weights is None else np.float64)
    if low == 0:  # zero stands apart
        none = values == 0
        zero += np.bincount(kinds[none], None if weights is None else weights[none], n_kinds)
        found, size, kinds = found[~none], size[~none], kinds[~none]
        weights = None if weights is None else weights[~none]
        if not len(size):
            return None
        low = int(size.min())
    width = high - low + 1
    # Of subnormal numbers fewer bits are significant.
    if 2 * width > MOST or 2 * width * n_kinds > 16 * MOST or low < 1 << bits:
        return None
    size -= low
    size ^= found >> (whole().itemsize * 8 - 1)
    size += width
    places = kinds * np.intp(2 * width)
    places += size
    counts = np.bincount(places, weights, 2 * width * n_kinds).reshape(n_kinds, -1)
    counts = counts.astype(np.int32) if weights is None else counts
    # The leading bits of a float32 are those of the same float64, but for where exponents begin.
    return _Table(low + (0 if double else (1023 - 127) << bits), counts, zero, len(values))


def _are_many(values: Array, table: _Table) -> bool:
    """Whether more than EXACT of the values of a table are distinct, where rounding or a hash tells; False
    may mean either."""
    if any(np.count_nonzero(row) > EXACT for row in table.counts):
        return True
    if np.count_nonzero((table.counts != 0).any(axis=0)) > EXACT:
        return True
    if BUCKETS <= EXACT:
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
    bits: int
    sparse: tuple[Array, Array] | None
    """Keys and weights; None where there is a table."""
    table: _Table | None = None
    """While rounded values lie close together they are kept as a table, which adds without sorting."""

    @property
    def keys(self) -> Array:
        return self._known()[0]

    @property
    def weights(self) -> Array:
        return self._known()[1]

    def _known(self) -> tuple[Array, Array]:
        if self.sparse is not None:
            return self.sparse
        assert self.table is not None
        return self.table.sparse(self.bits)

    @classmethod
    def of(cls, values: Array, weights: Array, bits: int | None = None) -> Distribution:
        """That of values ``(n,)`` and weights ``(n, c)``, to `bits` in the place of ``BITS``; one without any
        weight is absent."""
        bits = BITS if bits is None else bits
        there = weights.any(axis=1)
        values, weights = values[there], weights[there].astype(np.float64, copy=False)
        if len(values) > EXACT:
            none = np.zeros(len(values), dtype=np.intp)
            tables = [_table(values, none, column, 1, bits) for column in weights.T]
            if tables[0] is not None and _are_many(values, _table(values, none, None, 1, bits) or tables[0]):
                counts, zero = (
                    np.concatenate([getattr(one, name) for one in tables]) for name in ("counts", "zero")
                )
                return cls(52 - bits, bits, None, _Table(tables[0].low, counts, zero, len(values)))
        return cls._of_keys(0, ordered(values), weights, bits)

    @classmethod
    def of_kinds(
        cls, values: Array, kinds: Array, n_kinds: int, s: Array | None, bits: int | None = None
    ) -> Distribution:
        """That of values ``(n,)``, each of the kind of its row ``(n,)``, from 0 to ``n_kinds - 1``, with
        weights ``(n,)``, all positive, or None for 1; to `bits` in the place of ``BITS``."""
        bits = BITS if bits is None else bits
        values = values if values.dtype == np.float32 else np.asarray(values, dtype=np.float64)
        if len(values) > EXACT:
            table = _table(values, kinds, s, n_kinds, bits)
            if table is not None and _are_many(values, table):
                return cls(52 - bits, bits, None, table)
        keys, at = np.unique(ordered(values), return_inverse=True)
        places = at.reshape(-1) * n_kinds + kinds
        sums = group_sums(places, s, len(keys) * n_kinds).reshape(-1, n_kinds)
        return cls(0, bits, (keys, sums))._limited()

    @classmethod
    def _of_keys(cls, dropped: int, keys: Array, weights: Array, bits: int) -> Distribution:
        """One of keys in any order, some of them equal."""
        found, at = np.unique(keys, return_inverse=True)
        sums = [group_sums(at.reshape(-1), column, len(found)) for column in weights.T]
        return cls(dropped, bits, (found, np.stack(sums, axis=1)))._limited()

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
        shorter = self.keys >> np.uint64(dropped - self.dropped)
        return self._of_keys(dropped, shorter, self.weights, self.bits)

    def __add__(self, other: Distribution) -> Distribution:
        if self.table is not None and other.table is not None:
            table = self.table + other.table
            if table is not None:
                return Distribution(self.dropped, self.bits, None, table)
        if not len(self.keys) or not len(other.keys):
            return other if not len(self.keys) else self
        dropped = max(self.dropped, other.dropped)
        a, b = self._with_dropped(dropped), other._with_dropped(dropped)
        keys, weights = (np.concatenate(v) for v in ((a.keys, b.keys), (a.weights, b.weights)))
        return self._of_keys(dropped, keys, weights, self.bits)

    def with_kinds(self, at: Array, n_kinds: int) -> Distribution:
        """The same, its kinds at these positions among so many."""
        weights = np.zeros((len(self.keys), n_kinds))
        weights[:, at] = self.weights
        return Distribution(self.dropped, self.bits, (self.keys, weights))

    def one_against_others(self, kind: int) -> Distribution:
        """The same with two kinds: all but one, and this one."""
        rest = np.delete(self.weights, kind, axis=1).sum(axis=1)
        weights = np.stack([rest, self.weights[:, kind]], axis=1)
        return Distribution(self.dropped, self.bits, (self.keys, weights))

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
