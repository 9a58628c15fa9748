"""A uniform sample of the rows, drawn while they are read for another reason, with enough of every class.

Which rows are drawn is a function of (seed, row number) alone: never the first ones, as files are sorted, and
the same on any engine. Knows no problem and no solver.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.queries import Query
from daskgd.queries.sums import Sums
from daskgd.rows.features import Features
from daskgd.rows.layout import Shape
from daskgd.rows.random_numbers import SAMPLE, row_random_numbers
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows, distinct_labels

Array = NDArray[Any]

JOIN_BYTES = 1 << 20
"""Pieces of the sample are joined up to this size as sums merge, and the rest once, at the end."""

MAX_STRATA = 1000
"""With more classes than these the sample is plainly uniform."""


@dataclass(frozen=True, slots=True)
class Picked:
    """Some rows, with their numbers and hashes, in the order of the data."""

    numbers: Array
    u: Array
    X: Features
    y: Array | None
    s: Array | None

    def select(self, at: Array) -> Picked:
        """Those at these positions, or where this mask is true."""
        y, s = (None if column is None else column[at] for column in (self.y, self.s))
        return Picked(self.numbers[at], self.u[at], self.X.select(at), y, s)

    @staticmethod
    def joined(parts: tuple[Picked, ...]) -> Picked:
        """One after the other."""
        parts = tuple(part for part in parts if len(part.u)) or parts[:1]
        if len(parts) == 1:
            return parts[0]

        def column(name: str) -> Any:
            pieces = [getattr(part, name) for part in parts]
            return None if pieces[0] is None else np.concatenate(pieces)

        first, *others = parts
        X = first.X.concat(*(part.X for part in others))
        return Picked(column("numbers"), column("u"), X, column("y"), column("s"))


@dataclass(frozen=True, slots=True)
class Stratum:
    """What was seen of one class: rows in the uniform part, total weight, and the level of its draw: rows
    whose hash is below ``2**-level`` are kept."""

    rows: int
    weight: float
    level: int


@dataclass(frozen=True, slots=True)
class Drawn:
    """Rows drawn so far; two add by joining, and thinning the classes that have become too many.

    The level of a class rises until no more than ``2 * per_class`` of its rows are below it, which all rows
    decide together, in whatever order they come (adaptive sampling, Flajolet 1990).

    Attributes
    ----------
    share : float
        Rows with a hash below it are drawn, whatever their class.
    per_class : int
        Least rows wanted of each class, where there are so many.
    base : tuple of Picked
        The uniform part.
    extra : Picked
        Rows of rare classes beside it.
    strata : mapping of labels, or None
    """

    share: float
    per_class: int
    base: tuple[Picked, ...]
    extra: Picked
    strata: dict[Any, Stratum] | None

    def __add__(self, other: Drawn) -> Drawn:
        base = self.base + other.base
        if self.base and other.base and self.base[-1].X.nbytes + other.base[0].X.nbytes < JOIN_BYTES:
            middle = Picked.joined((self.base[-1], other.base[0]))
            base = (*self.base[:-1], middle, *other.base[1:])
        extra = Picked.joined((self.extra, other.extra))
        if self.strata is None or other.strata is None:
            return Drawn(self.share, self.per_class, base, extra.select(np.arange(0)), None)
        strata = dict(self.strata)
        for label, b in other.strata.items():
            a = strata.get(label, Stratum(0, 0.0, 0))
            strata[label] = Stratum(a.rows + b.rows, a.weight + b.weight, max(a.level, b.level))
        return Drawn(self.share, self.per_class, base, extra, strata).thinned()

    def thinned(self) -> Drawn:
        """With levels raised to what the limits ask for, and rows above them left out."""
        if self.strata is None or len(self.strata) > MAX_STRATA:
            return Drawn(self.share, self.per_class, self.base, self.extra.select(np.arange(0)), None)
        keep = np.ones(len(self.extra.u), dtype=bool)
        strata = dict(self.strata)
        labels = None if self.extra.y is None else self.extra.y.reshape(len(keep))
        for label, stratum in strata.items():
            mine = np.flatnonzero(labels == label) if len(keep) else np.zeros(0, np.intp)
            u, level = self.extra.u[mine], stratum.level
            while 0.5**level > self.share and stratum.rows + np.sum(u < 0.5**level) > 2 * self.per_class:
                level += 1
            if len(mine):
                keep[mine] = u < 0.5**level
            if level > stratum.level:
                strata[label] = Stratum(stratum.rows, stratum.weight, level)
        extra = self.extra if keep.all() else self.extra.select(keep)
        return Drawn(self.share, self.per_class, self.base, extra, strata)


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """A sample: its rows, weighted so that they stand for all, whether they are all, and if not, the moments
    of their features."""

    rows: Rows
    complete: bool
    moments: Moments | None


@dataclass(frozen=True, slots=True)
class Sample(Query):
    """Rows drawn at random, answered as a :class:`SampleAnswer`: those of the smallest hashes.

    Weights are divided by the probability of being drawn, and each class is scaled to its weight in the data;
    rows without weight are left out. With a share of 1 all rows come, their weights unchanged.

    Parameters
    ----------
    share : float
        Of the rows, 0..1.
    per_class : int
        Rows wanted of each class at least, where the data has them; 0 for a plain sample.
    seed : int
    nbytes : int
        Bytes of X to expect, as far as they are known.
    """

    scope: ClassVar[str] = "block"
    name: ClassVar[str] = "survey"
    share: float
    per_class: int = 0
    seed: int = 0
    nbytes: int = 0
    # Hashes of rows of each class seen by this process, which prune what cannot be among the last: they
    # spare work and change no answer.
    _seen: dict[Any, tuple[int, Array]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(cls, shape: Shape, n_rows: float, per_class: int, seed: int) -> Sample:
        """So many rows of data of this shape; classes only where targets are labels."""
        share = min(1.0, n_rows / max(shape.n_rows, 1))
        strata = per_class if shape.classification and share < 1 else 0
        return cls(share, strata, seed, int(share * shape.n_rows * shape.row_bytes))

    @property
    def row_payload_nbytes(self) -> int:
        return max(self.nbytes, 1)

    def block(self, problem: Any, rows: Rows) -> Sums:
        numbers = rows.numbers
        u = row_random_numbers(numbers, self.seed, SAMPLE)
        s, drawn, strata = rows.sample_weight, u < self.share, None
        counts = np.ones(len(numbers), dtype=bool) if s is None else s > 0
        extra = np.zeros(len(numbers), dtype=bool)
        if self.per_class and rows.y is not None:
            values, codes = distinct_labels(rows.y, numbers)
            if len(values) <= MAX_STRATA:
                n_drawn = np.bincount(codes[drawn & counts], minlength=len(values))
                weights = np.bincount(codes, s, len(values))
                strata = {}
                for i, label in enumerate(values.tolist()):
                    level, _ = self._seen.get(label, (0, None))
                    strata[label] = Stratum(int(n_drawn[i]), float(weights[i]), level)
                    if 0.5**level > self.share:
                        extra |= (codes == i) & (u < 0.5**level)
                extra &= ~drawn & counts
        drawn &= counts

        def picked(mask: Array) -> Picked:
            at = np.flatnonzero(mask)
            tile = rows.select(at).tile()
            return Picked(numbers[at], u[at], tile.X, tile.y, tile.sample_weight)

        found = Drawn(self.share, self.per_class, (picked(drawn),), picked(extra), strata).thinned()
        self._remember(found)
        return Sums(drawn=found, n_rows=len(numbers))

    def _remember(self, found: Drawn) -> None:
        """Raise this process's levels by the hashes of what was found; each row counts once."""
        if not found.strata:
            return
        labels = {False: found.base[0], True: found.extra}
        for label, stratum in found.strata.items():
            level, known = self._seen.get(label, (0, np.zeros(0)))
            if 0.5**level <= self.share:
                continue
            new = [
                part.u[np.flatnonzero(part.y.reshape(len(part.u)) == label)]
                for part in labels.values()
                if part.y is not None
            ]
            u = np.union1d(known, np.concatenate(new))
            level = max(level, stratum.level)
            u = u[u < 0.5**level]
            while 0.5**level > self.share and len(u) > 2 * self.per_class:
                level += 1
                u = u[u < 0.5**level]
            self._seen[label] = level, u

    def answer(self, problem: Any, sums: Sums) -> SampleAnswer:
        drawn: Drawn = sums["drawn"]
        rows = Picked.joined((*drawn.base, drawn.extra))
        if len(drawn.extra.u):  # where there are none, all are in order
            rows = rows.select(np.argsort(rows.numbers, kind="stable"))
        s = rows.s
        if self.share < 1:
            s = np.ones(len(rows.u)) if s is None else s
            probability = np.full(len(rows.u), self.share)
            if drawn.strata is not None and rows.y is not None:
                labels = rows.y.reshape(len(rows.u))
                for label, stratum in drawn.strata.items():
                    mine = np.flatnonzero(labels == label)
                    probability[mine] = max(self.share, 0.5**stratum.level)
                    total = np.sum(s[mine] / probability[mine])
                    if total > 0:
                        probability[mine] *= total / stratum.weight
            s = s / probability
        sample, moments = Rows(rows.X, rows.y, s, 0, rows.numbers), None
        if self.share < 1:
            each = (tile.X.moments(tile.sample_weight) for tile in sample.tiles())
            moments = reduce(operator.add, each)
        return SampleAnswer(sample, self.share >= 1, moments)
