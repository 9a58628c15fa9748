"""Splits that give every label its share of the rows, as far as whole rows allow.

A row goes by the hash of its number, as in any split; what is left is to move a few rows of each label, those
whose hash is nearest to the threshold, until the counts are right. Their number is about the square root of
the label's: they are all that has to be remembered. Knows labels and random numbers; no features.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.random_numbers import SPLIT, row_random_numbers
from daskgd.rows.tiles import distinct_labels

Array = NDArray[Any]

MOST_LABELS = 10_000
"""Labels up to which rows are counted by label; more are no labels, which the fit says."""


@dataclass(slots=True)
class _Stratum:
    """What is known of the rows of one label: how many there are, how many the hash selects, and the nearest
    to the threshold of those that it does and does not, as ``(2, m)`` of distances and row numbers."""

    rows: int = 0
    selected: int = 0
    inside: Array = field(default_factory=lambda: np.zeros((2, 0)))
    outside: Array = field(default_factory=lambda: np.zeros((2, 0)))

    def add(self, distance: Array, numbers: Array) -> None:
        """Count rows, by how far their hash lies below the threshold."""
        self.rows += len(distance)
        inside = distance > 0
        self.selected += int(np.count_nonzero(inside))
        most = 64 + 8 * int(np.sqrt(self.rows))  # eight standard deviations, and more
        new = np.stack([np.abs(distance), numbers])
        self.inside = _nearest(np.hstack([self.inside, new[:, inside]]), most)
        self.outside = _nearest(np.hstack([self.outside, new[:, ~inside]]), most)

    def moved(self, wanted: int) -> Array:
        """The rows that change sides for so many to be selected."""
        more = wanted - self.selected
        return (self.outside if more > 0 else self.inside)[1, : abs(more)]


def _nearest(rows: Array, most: int) -> Array:
    return rows[:, np.lexsort(rows[::-1])[:most]]


def rows_to_move(labels: Iterable[tuple[Array, Array]], share: float, seed: int, depth: int) -> Array:
    """The numbers ``(m,)``, sorted, of the rows that the hash puts on the wrong side of a split in which each
    label has `share` of its rows on the first.

    Parameters
    ----------
    labels : iterable of (y, numbers)
        Labels ``(n,)`` and row numbers ``(n,)``, block by block; rows without a label are passed over.
    share : float in (0, 1)
    seed, depth : int
        Of the :class:`~daskgd.data.columns.Selection`.

    Raises
    ------
    ValueError
        A label has a single row, which cannot be on both sides.
    """
    strata: dict[Any, _Stratum] = {}
    for y, numbers in labels:
        there = y == y
        y, numbers = y[there], numbers[there]
        values, codes = distinct_labels(y, numbers)
        distance = share - row_random_numbers(numbers, seed, SPLIT + depth)
        if len(strata) + len(values) > 2 * MOST_LABELS:
            return np.zeros(0, dtype=np.int64)
        order = np.argsort(codes, kind="stable")
        ends = np.cumsum(np.bincount(codes, minlength=len(values)))
        for value, at in zip(values.tolist(), np.split(order, ends[:-1]), strict=True):
            strata.setdefault(value, _Stratum()).add(distance[at], numbers[at].astype(float))
    single = [label for label, stratum in strata.items() if stratum.rows == 1]
    if single:
        raise ValueError(
            f"train_test_split: expected at least two rows of every label with stratify=True, got one of "
            f"{', '.join(map(repr, single[:10]))}; drop those rows, or give them other labels"
        )
    counts = np.array([stratum.rows for stratum in strata.values()])
    wanted = _shares(counts, share)
    moved = [stratum.moved(int(k)) for stratum, k in zip(strata.values(), wanted, strict=True)]
    return np.sort(np.concatenate([np.zeros(0), *moved])).astype(np.int64)


def _shares(counts: Array, share: float) -> Array:
    """Whole numbers ``(k,)`` as near to `share` of each of the counts as can be, the total rounded up.

    >>> _shares(np.array([5, 5, 90]), 0.1)
    array([1, 0, 9])
    """
    exact = counts * share
    out = np.floor(exact).astype(np.int64)
    left = min(int(np.ceil(counts.sum() * share - 1e-9)) - int(out.sum()), len(counts))
    out[np.argsort(-(exact - out), kind="stable")[: max(left, 0)]] += 1
    return np.minimum(out, counts - 1)
