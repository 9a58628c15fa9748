"""The query of a random sample of the rows, uniform, with enough of every class; it comes with the survey.

Which rows are drawn is a function of (seed, row number) alone: never the first ones, as files are sorted, and
the same on any engine. Knows no problem and no solver.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.queries.base import Query
from daskgd.queries.sums import Sums
from daskgd.rows.group_sums import group_sums
from daskgd.rows.layout import Shape
from daskgd.rows.random_numbers import SAMPLE, row_random_numbers
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows, distinct_labels

Array = NDArray[Any]

JOIN_BYTES = 1 << 20
"""Pieces of the sample are joined up to this size as sums merge, and the rest once, at the end."""

SAMPLE_BYTES, MOST_BYTES, ROWS_PER_FEATURE = 64_000_000, 512_000_000, 200
"""Bytes of X in a sample: the first, or as many as it takes for so many rows per feature, but no more than
the second. It is what solvers ask for by default, and what stores carry."""

ENOUGH_PER_FEATURE = 100
"""Rows per feature from which on a sample tells of the data what a solver wants to know."""

STORED_SEED = 0
"""Of samples that stores carry: that of fits whose `random_state` is not given."""

MAX_STRATA = 1000
"""With more classes than these the sample is plainly uniform."""


def sample_size(
    shape: Shape,
    sample_bytes: float = SAMPLE_BYTES,
    most_bytes: float = MOST_BYTES,
    rows_per_feature: float = ROWS_PER_FEATURE,
) -> tuple[float, int]:
    """The rows to draw of data of this shape, were there as many, and how many of each class at least."""
    width = shape.n_features + 1
    wanted = min(rows_per_feature * width, most_bytes / shape.row_bytes)
    rows = max(sample_bytes / shape.row_bytes, wanted, width)
    return rows, int(min(20 * width, rows / 10))


@dataclass(frozen=True, slots=True)
class HashedRows:
    """Some rows in the order of the data, each with its hash u ``(n,)``, and its number in ``rows.kept``."""

    rows: Rows
    u: Array

    def __len__(self) -> int:
        return len(self.u)

    def labels(self) -> Array:
        """The label of each row ``(n,)``, of data of which there are strata."""
        assert self.rows.y is not None
        return self.rows.y.reshape(len(self))

    def select(self, at: Array) -> HashedRows:
        """The rows at these positions, or where this mask is true."""
        return HashedRows(self.rows.select(at), self.u[at])

    @staticmethod
    def concat(parts: tuple[HashedRows, ...]) -> HashedRows:
        """The rows of all parts, one part after the other."""
        parts = tuple(part for part in parts if len(part)) or parts[:1]
        if len(parts) == 1:
            return parts[0]

        def join(columns: list[Array | None]) -> Any:
            return None if columns[0] is None else np.concatenate(columns)  # type: ignore[arg-type]

        first, *others = [part.rows for part in parts]
        rows = Rows(
            first.X.concat(*(other.X for other in others)),
            join([part.rows.y for part in parts]),
            join([part.rows.sample_weight for part in parts]),
            0,
            join([part.rows.numbers for part in parts]),
        )
        return HashedRows(rows, join([part.u for part in parts]))


@dataclass(frozen=True, slots=True)
class Stratum:
    """One class in the data seen so far.

    Attributes
    ----------
    rows : int
        Its rows in the uniform part of the sample.
    weight : float
        The total weight of all its rows.
    level : int
        Rows of it whose hash is below ``2**-level`` are in the sample.
    """

    rows: int
    weight: float
    level: int


@dataclass(frozen=True, slots=True)
class PartialSample:
    """The sample of the data seen so far. Two add: their rows are joined, and classes that have become too
    many are thinned.

    The level of a class rises until no more than ``2 * per_class`` of its rows are below it, which all rows
    decide together, in whatever order they come (adaptive sampling, Flajolet 1990).

    Attributes
    ----------
    share : float
        Rows with a hash below it are drawn, whatever their class.
    per_class : int
        Least rows wanted of each class, where there are so many.
    uniform : tuple of HashedRows
        The rows drawn by `share`, in pieces.
    extra : HashedRows
        Rows of rare classes beside them.
    strata : mapping of labels, or None
        None where there are no classes, or too many.
    """

    share: float
    per_class: int
    uniform: tuple[HashedRows, ...]
    extra: HashedRows
    strata: dict[Any, Stratum] | None

    def __add__(self, other: PartialSample) -> PartialSample:
        uniform = self.uniform + other.uniform
        if self.uniform and other.uniform:
            last, next_ = self.uniform[-1], other.uniform[0]
            if last.rows.X.nbytes + next_.rows.X.nbytes < JOIN_BYTES:
                uniform = (*self.uniform[:-1], HashedRows.concat((last, next_)), *other.uniform[1:])
        extra = HashedRows.concat((self.extra, other.extra))
        if self.strata is None or other.strata is None:
            return replace(self, uniform=uniform, extra=extra, strata=None).thin()
        strata = dict(self.strata)
        for label, b in other.strata.items():
            a = strata.get(label, Stratum(0, 0.0, 0))
            strata[label] = Stratum(a.rows + b.rows, a.weight + b.weight, max(a.level, b.level))
        return replace(self, uniform=uniform, extra=extra, strata=strata).thin()

    def thin(self) -> PartialSample:
        """The same, with levels raised to what the limits ask for, and rows above them left out."""
        if self.strata is None or len(self.strata) > MAX_STRATA:
            return replace(self, extra=self.extra.select(np.arange(0)), strata=None)
        keep = np.ones(len(self.extra), dtype=bool)
        strata = dict(self.strata)
        labels = self.extra.labels()
        for label, stratum in strata.items():
            mine = np.flatnonzero(labels == label) if len(keep) else np.zeros(0, np.intp)
            u = self.extra.u[mine]
            level = raise_level(stratum.level, u, 2 * self.per_class - stratum.rows, self.share)
            if len(mine):
                keep[mine] = u < 0.5**level
            if level > stratum.level:
                strata[label] = replace(stratum, level=level)
        return replace(self, extra=self.extra if keep.all() else self.extra.select(keep), strata=strata)

    def sorted(self) -> PartialSample:
        """The same rows in one piece each, those of rare classes in the order of the data, and the labels in
        theirs: what does not depend on how the data were cut into blocks."""
        extra = self.extra.select(np.argsort(self.extra.rows.numbers, kind="stable"))
        strata = None if self.strata is None else dict(sorted(self.strata.items()))
        return replace(self, uniform=(HashedRows.concat(self.uniform),), extra=extra, strata=strata)

    def narrow(self, share: float, per_class: int) -> PartialSample:
        """What a sample of a smaller share, and of fewer rows of each class, would hold of the same data."""
        uniform = HashedRows.concat(self.uniform)
        inside = uniform.u < share
        kept, others = uniform.select(inside), uniform.select(~inside)
        if self.strata is None or not per_class:
            return PartialSample(share, 0, (kept,), self.extra.select(np.arange(0)), None)
        extra = HashedRows.concat((others, self.extra))
        values, codes = distinct_labels(kept.labels(), 0)
        counts = dict(zip(values.tolist(), np.bincount(codes, minlength=len(values)).tolist(), strict=True))
        strata = {label: replace(one, rows=counts.get(label, 0)) for label, one in self.strata.items()}
        return PartialSample(share, per_class, (kept,), extra, strata).thin()


def raise_level(level: int, u: Array, most: int, share: float) -> int:
    """The first level, from `level` on, below which there are no more than `most` of the hashes u ``(n,)``;
    but none that draws fewer rows than the uniform part does."""
    while 0.5**level > share and np.sum(u < 0.5**level) > most:
        level += 1
    return level


class Pruner:
    """What a worker process has seen of each class, so that it returns no rows that cannot be in the sample.

    More than ``2 * per_class`` of a class below a level mean a higher level in the end, whatever other blocks
    hold: what is pruned spares work and changes no answer. A pruner belongs to one query of one dataset;
    pickled with its query it starts anew.
    """

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen: dict[Any, tuple[int, Array]] = {}  # the level of each label, and the hashes below it

    def __reduce__(self) -> tuple[Any, ...]:
        return Pruner, ()

    def level(self, label: Any) -> int:
        """The level of a class so far."""
        return self._seen[label][0] if label in self._seen else 0

    def observe(self, found: PartialSample) -> None:
        """Raise levels by the hashes of what a block holds; a row that is seen twice counts once."""
        for label, stratum in (found.strata or {}).items():
            level, known = self._seen.get(label, (0, np.zeros(0)))
            if 0.5**level <= found.share:
                continue
            parts = (found.uniform[0], found.extra)
            new = [part.u[part.labels() == label] for part in parts if len(part)]
            u = np.union1d(known, np.concatenate([np.zeros(0), *new]))
            level = raise_level(max(level, stratum.level), u, 2 * found.per_class, found.share)
            self._seen[label] = level, u[u < 0.5**level]


@dataclass(frozen=True, slots=True)
class SampleAnswer:
    """A sample: its rows, weighted so that they stand for all; whether they are all rows; and the moments of
    their features, if they are not."""

    rows: Rows
    complete: bool
    moments: Moments | None


@dataclass(frozen=True, slots=True)
class Sample(Query):
    """A random sample of the rows, those of the smallest hashes: answers a :class:`SampleAnswer`.

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
    by_row_number: ClassVar[bool] = True
    share: float
    per_class: int = 0
    seed: int = 0
    nbytes: int = 0
    pruner: Pruner = field(default_factory=Pruner, compare=False, repr=False)

    @classmethod
    def of(cls, shape: Shape, n_rows: float, per_class: int, seed: int, enough: float = np.inf) -> Sample:
        """The query for about `n_rows` rows of data of this shape; `per_class` counts only where targets are
        labels. Where the store carries a sample of fewer rows, but `enough`, it is for these."""
        if seed == STORED_SEED and min(n_rows, shape.n_rows) > shape.sample_rows >= enough:
            n_rows = shape.sample_rows if n_rows < shape.n_rows else n_rows
        share = min(1.0, n_rows / max(shape.n_rows, 1))
        strata = per_class if shape.classification and share < 1 else 0
        travels = not (shape.at_hand and share >= 1)
        return cls(share, strata, seed, int(travels * share * shape.n_rows * shape.row_bytes))

    @property
    def row_payload_nbytes(self) -> int:
        return max(self.nbytes, 1)

    def block(self, problem: Any, rows: Rows) -> Sums:
        every = self.share >= 1  # whatever their hashes are
        u = np.zeros(len(rows)) if every else row_random_numbers(rows.numbers, self.seed, SAMPLE)
        weighs = np.ones(len(rows), dtype=bool) if rows.sample_weight is None else rows.sample_weight > 0
        uniform = (u < self.share) & weighs
        extra = np.zeros(len(rows), dtype=bool)
        strata = None
        if self.per_class and rows.y is not None:
            values, codes = distinct_labels(rows.y, rows.numbers)
            if len(values) <= MAX_STRATA:
                strata = self._strata(rows, uniform, values, codes)
                levels = np.array([stratum.level for stratum in strata.values()], dtype=float)
                most = np.where(0.5**levels > self.share, 0.5**levels, 0.0)
                extra = (u < most[codes]) & ~uniform & weighs

        def hashed(mask: Array) -> HashedRows:
            at = np.flatnonzero(mask)
            tile = (rows if len(at) == len(rows) else rows.select(at)).tile()
            return HashedRows(Rows(tile.X, tile.y, tile.sample_weight, 0, rows.numbers[at]), u[at])

        found = PartialSample(self.share, self.per_class, (hashed(uniform),), hashed(extra), strata).thin()
        self.pruner.observe(found)
        return Sums(drawn=found, n_rows=len(rows))

    def _strata(self, rows: Rows, uniform: Array, values: Array, codes: Array) -> dict[Any, Stratum]:
        """The strata of a block, from its distinct labels and the position of each row's among them
        ``(n,)``."""
        n_uniform = np.bincount(codes[uniform], minlength=len(values))
        weights = group_sums(codes, rows.sample_weight, len(values))
        return {
            label: Stratum(int(n_uniform[i]), float(weights[i]), self.pruner.level(label))
            for i, label in enumerate(values.tolist())
        }

    def answer(self, problem: Any, sums: Sums) -> SampleAnswer:
        drawn: PartialSample = sums["drawn"]
        found = HashedRows.concat((*drawn.uniform, drawn.extra))
        if len(drawn.extra):  # where there are none, all are in order
            found = found.select(np.argsort(found.rows.numbers, kind="stable"))
        if self.share >= 1:
            return SampleAnswer(found.rows, True, None)
        sample = replace(found.rows, sample_weight=self._weights(drawn, found))
        moments = reduce(operator.add, (tile.X.moments(tile.sample_weight) for tile in sample.tiles()))
        return SampleAnswer(sample, False, moments)

    def _weights(self, drawn: PartialSample, found: HashedRows) -> Array:
        """The weight of each row of the sample ``(n,)``: its own over its probability of being drawn, and
        those of a class scaled to the weight that it has in the data."""
        s = np.ones(len(found)) if found.rows.sample_weight is None else found.rows.sample_weight
        probability = np.full(len(found), self.share)
        if drawn.strata:
            labels = found.labels()
            for label, stratum in drawn.strata.items():
                mine = np.flatnonzero(labels == label)
                probability[mine] = max(self.share, 0.5**stratum.level)
                total = np.sum(s[mine] / probability[mine])
                if total > 0:
                    probability[mine] *= total / stratum.weight
        out: Array = s / probability
        return out
