"""Rows in memory as queries see them: blocks or partitions, and cache-sized tiles of them.

Knows features and layouts; not where rows come from, nor what is computed from them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.features import Features, as_features
from daskgd.rows.layout import Layout
from daskgd.rows.subsets import Cells

Array = NDArray[Any]


class MakesTargets(Protocol):
    """What turns stored targets into those of a loss: a :class:`~daskgd.problems.Problem`."""

    def make_targets(self, tile: Tile) -> tuple[Array, Array | None]:
        """The targets for the loss, and float64 weights ``(n,)`` or None."""
        ...


class MakesDesign(Protocol):
    """What turns features into a design matrix: a :class:`~daskgd.models.Linear` model."""

    def designs(self, X: Features) -> Iterator[tuple[slice, Array]]: ...
    def same_design(self, other: Any) -> bool: ...


@dataclass(slots=True)
class Tile:
    """A tile: some rows, ready for kernels.

    Attributes
    ----------
    X : Features (n, p)
        In the compute dtype, C-contiguous and aligned.
    y : (n,) or (n, k), or None
        As stored.
    sample_weight : (n,) or None
        float64; None where all weigh 1.
    numbers : int or (n,)
        Number of the first row within its dataset, or of each where a selection leaves some out.
    """

    X: Features
    y: Array | None
    sample_weight: Array | None
    numbers: int | Array
    _known: dict[int, tuple[MakesTargets, Array, Array | None]] = field(default_factory=dict, repr=False)
    _labels: tuple[Array, Array] | None = field(default=None, repr=False)
    _designs: list[tuple[MakesDesign, Array]] = field(default_factory=list, repr=False)
    _cells: tuple[Cells, Array] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.X)

    def pieces(self, height: int) -> Iterator[Tile]:
        """The tile in pieces of so many rows."""
        for a in range(0, len(self), height):
            b = a + height
            y, s = (None if c is None else c[a:b] for c in (self.y, self.sample_weight))
            numbers = self.numbers[a:b] if isinstance(self.numbers, np.ndarray) else self.numbers + a
            yield Tile(self.X.slice(a, b), y, s, numbers)

    def nothing(self) -> Tile:
        """A tile of none of these rows."""
        y, s = (None if c is None else c[:0] for c in (self.y, self.sample_weight))
        return Tile(self.X.slice(0, 0), y, s, self.numbers[:0] if isinstance(self.numbers, np.ndarray) else 0)

    @property
    def labels(self) -> tuple[Array, Array]:
        """The distinct targets, sorted, and the position of each row's among them ``(n,)``; found once per
        tile."""
        if self._labels is None:
            assert self.y is not None
            self._labels = distinct_labels(self.y, self.numbers)
        return self._labels

    def targets(self, problem: MakesTargets) -> tuple[Array, Array | None]:
        """The targets for the problem's loss, and float64 weights or None; made once per tile and problem."""
        known = self._known.get(id(problem))
        if known is None:
            known = (problem, *problem.make_targets(self))
            self._known[id(problem)] = known
        return known[1], known[2]

    def cells(self, cells: Cells) -> Array:
        """The cell of each row ``(n,)``; found once per tile."""
        if self._cells is None or self._cells[0] is not cells:
            first = self.numbers
            numbers = first if isinstance(first, np.ndarray) else first + np.arange(len(self))
            self._cells = cells, cells.of(numbers)
        return self._cells[1]

    def designs(self, model: MakesDesign) -> Iterator[tuple[slice, Array]]:
        """The model's :meth:`~daskgd.models.Linear.designs` of these rows, piece by piece: which rows, and
        their design matrix. One of all rows is made once per tile for all models that have the same. Not to
        be written to."""
        for known, A in self._designs:
            if known.same_design(model):
                yield slice(0, len(A)), A
                return
        for at, A in model.designs(self.X):
            if len(A) == len(self):
                self._designs.append((model, A))
            yield at, A


def distinct_labels(y: Array, numbers: int | Array) -> tuple[Array, Array]:
    """The distinct targets, sorted, and the position of each row's among them, as by :func:`distinct`: of
    targets ``(n,)`` or ``(n, 1)``. ValueError, with the row, for those that cannot be sorted; `numbers` as
    those of a :class:`Tile`."""
    y = y.reshape(len(y))
    try:
        return distinct(y)
    except (TypeError, ArithmeticError):  # they cannot be sorted; Decimal's NaN raises the latter
        types = [type(v).__name__ for v in y]
        i = next((i for i, name in enumerate(types) if name != types[0]), 0)
        at = numbers if isinstance(numbers, np.ndarray) else numbers + np.arange(len(y))
        raise ValueError(
            f"y: expected labels of one type that can be sorted, got {types[0]} in row {at[0]} and "
            f"{types[i]} in row {at[i]}; drop rows without a label, and convert others, as in y.astype(str)"
        ) from None


def distinct(y: Array) -> tuple[Array, Array]:
    """The distinct values of y ``(n,)``, sorted, and the position ``(n,)`` of each among them; without
    sorting where they are few whole numbers.

    >>> distinct(np.array([7, 5, 7]))
    (array([5, 7]), array([1, 0, 1]))
    """
    if y.dtype.kind in "iu" and len(y):
        low, high = int(y.min()), int(y.max())
        if high - low < len(y) and high < 2**63:
            at = y.astype(np.intp)
            at -= low
            found = np.flatnonzero(np.bincount(at))
            if len(found) <= high - low:
                place = np.zeros(high - low + 1, dtype=np.intp)
                place[found] = np.arange(len(found))
                at = place[at]
            return (found + low).astype(y.dtype), at
    return np.unique(y, return_inverse=True)


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows in memory, as stored: a block, a whole partition, or a selection of one.

    Attributes
    ----------
    X : Features (n, p)
        An array becomes :class:`~daskgd.rows.features.Dense`.
    y : (n,) or (n, k), or None
    sample_weight : (n,) or None
    start : int
        The number of the block's or partition's first row within the dataset.
    kept : (n,), optional
        The number of each row, where a selection leaves some out.
    dtype : dtype, optional
        In which kernels run; None for what suits the dtype of X.
    """

    X: Features
    y: Array | None
    sample_weight: Array | None
    start: int
    kept: Array | None = None
    dtype: np.dtype[Any] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "X", as_features(self.X))

    def __len__(self) -> int:
        return len(self.X)

    @property
    def numbers(self) -> Array:
        """The number of each row within its dataset, ``(n,)``."""
        return self.start + np.arange(len(self)) if self.kept is None else self.kept

    def slice(self, start: int, stop: int) -> Rows:
        """The rows `start` to `stop` of these, as a view."""
        y, s, kept = (None if c is None else c[start:stop] for c in (self.y, self.sample_weight, self.kept))
        X = self.X.slice(start, stop)
        return replace(self, X=X, y=y, sample_weight=s, kept=kept, start=self.start + start)

    def select(self, positions: Array, dtype: np.dtype[Any] | None = None) -> Rows:
        """The rows at these positions, or where this mask is true, as a copy, X in `dtype`, by default its
        own; each keeps its number."""
        y, s = (None if c is None else c[positions] for c in (self.y, self.sample_weight))
        X = self.X.select(positions, dtype)
        return replace(self, X=X, y=y, sample_weight=s, kept=self.numbers[positions])

    def tile(self) -> Tile:
        """All rows as one tile."""
        y, s = self.y, self.sample_weight
        return Tile(
            self.X.prepared(self.dtype),
            None if y is None else np.require(y, requirements=["C", "A"]),
            None if s is None else np.require(s, np.float64, ["C", "A"]),
            self.start if self.kept is None else self.kept,
        )

    def tiles(self) -> Iterator[Tile]:
        """The tiles of these rows, in order; no rows are one empty tile."""
        height = self.X.tile_rows(self.dtype or self.X.dtype)
        for a in range(0, max(len(self), 1), height):
            yield self.slice(a, a + height).tile()


class BlockSource(Protocol):
    """A source of rows, from which engines read blocks."""

    @property
    def layout(self) -> Layout: ...

    def read(self, start: int, stop: int) -> Rows:
        """The rows from `start` to `stop`, without those that a selection leaves out."""
        ...
