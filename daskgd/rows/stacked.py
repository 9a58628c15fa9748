"""Several kinds of features side by side, such as numbers and categories, as one.

Every part does its own columns. Knows no problem, and not where rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.features import Dense, Features, Products, Room
from daskgd.rows.invalid_rows import InvalidRows, Place
from daskgd.rows.sparse import sparse_tile_rows
from daskgd.rows.statistics import CUT, Comoments, Moments

Array = NDArray[Any]
Columns = slice  # `slice` is a method below


@dataclass(frozen=True, slots=True, eq=False)
class Stacked:
    """The columns of all `parts`, features of the same rows and dtype, one after the other.

    >>> from daskgd.rows.categorical import Categorical
    >>> X = Stacked.of(Dense(np.array([[0.5], [1.5]])), Categorical.of(np.array([[1], [0]]), [2]))
    >>> X.toarray()
    array([[0.5, 0. , 1. ],
           [1.5, 1. , 0. ]])
    >>> X.dot(np.array([1.0, 10.0, 20.0])), X.t_dot(np.array([2.0, 4.0]))
    (array([20.5, 11.5]), array([7., 4., 2.]))
    """

    parts: tuple[Features, ...]

    @classmethod
    def of(cls, *parts: Features) -> Stacked:
        """The parts side by side; ValueError where they have not the same number of rows and the same
        dtype."""
        rows, dtypes = [len(part) for part in parts], [str(part.dtype) for part in parts]
        if not parts or len(set(rows)) > 1 or len(set(dtypes)) > 1:
            raise ValueError(f"expected parts of as many rows and one dtype, got {rows} rows of {dtypes}")
        return cls(parts)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self), sum(part.shape[1] for part in self.parts)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.parts[0].dtype

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @property
    def n_stored(self) -> int:
        return sum(part.n_stored for part in self.parts)

    def __len__(self) -> int:
        return len(self.parts[0])

    def __sizeof__(self) -> int:
        return self.nbytes

    def tile_rows(self, dtype: np.dtype[Any], outputs: int = 1) -> int:
        return sparse_tile_rows(self, outputs)

    @property
    def _at(self) -> list[Columns]:
        """The columns of each part."""
        ends = np.cumsum([0, *(part.shape[1] for part in self.parts)]).tolist()
        return [slice(a, b) for a, b in pairwise(ends)]

    def _each(self, change: Callable[[Features], Features]) -> Stacked:
        return Stacked(tuple(map(change, self.parts)))

    # -- some of the rows -----------------------------------------------------------------------

    def slice(self, start: int, stop: int) -> Stacked:
        return self._each(lambda part: part.slice(start, stop))

    def select(self, positions: Array, dtype: np.dtype[Any] | None = None) -> Stacked:
        return self._each(lambda part: part.select(positions, dtype))

    def columns(self, positions: Array) -> Stacked:
        # In the order of the positions: a part for each run of them in one part.
        starts = np.array([at.start for at in self._at])
        owner = np.searchsorted(starts, positions, side="right") - 1
        runs = np.split(np.arange(len(positions)), np.flatnonzero(np.diff(owner)) + 1)
        owners = [int(owner[run[0]]) if len(run) else 0 for run in runs]
        chosen = [
            self.parts[i].columns(positions[run] - starts[i]) for i, run in zip(owners, runs, strict=True)
        ]
        return Stacked(tuple(chosen))

    def room(self, n_rows: int) -> StackedRoom:
        return StackedRoom([part.room(n_rows) for part in self.parts])

    def concat(self, *others: Stacked) -> Stacked:
        columns = zip(self.parts, *(other.parts for other in others), strict=True)
        return Stacked(tuple(first.concat(*rest) for first, *rest in columns))

    def of_array(self, X: Array) -> Stacked:
        return Stacked(tuple(part.of_array(X[:, at]) for part, at in zip(self.parts, self._at, strict=True)))

    # -- how they lie in memory -----------------------------------------------------------------

    def prepared(self, dtype: np.dtype[Any] | None = None) -> Stacked:
        return self._each(lambda part: part.prepared(dtype))

    def astype(self, dtype: Any) -> Stacked:
        return self if self.dtype == dtype else self._each(lambda part: part.astype(dtype))

    def toarray(self) -> Array:
        return np.concatenate([part.toarray() for part in self.parts], axis=1)

    def tocsr(self) -> Any:
        from scipy.sparse import hstack

        return hstack([part.tocsr() for part in self.parts], format="csr")

    @property
    def arrays(self) -> tuple[Array, ...]:
        return tuple(array for part in self.parts for array in part.arrays)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Stacked:
        ends = np.cumsum([0, *(len(part.arrays) for part in self.parts)]).tolist()
        own = [arrays[a:b] for a, b in pairwise(ends)]
        return Stacked(tuple(part.with_arrays(some) for part, some in zip(self.parts, own, strict=True)))

    # -- products -------------------------------------------------------------------------------

    def dot(self, W: Array) -> Array:
        return _dot(self.parts, self._at, W)

    def t_dot(self, V: Array) -> Array:
        return np.concatenate([part.t_dot(V) for part in self.parts])

    def standardised(
        self, center: Array | None, scale: Array | None, dtype: np.dtype[Any]
    ) -> StandardisedParts:
        parts = tuple(
            part.standardised(
                None if center is None else center[at], None if scale is None else scale[at], dtype
            )
            for part, at in zip(self.parts, self._at, strict=True)
        )
        return StandardisedParts(parts, self._at)

    def minus(self, shift: Array | float, start: int, stop: int, out: Array | None = None) -> Array:
        if out is None:
            out = np.empty((max(min(stop, len(self)) - start, 0), self.shape[1]))
        for part, at, m in self._with(shift):
            part.minus(m, start, stop, out=out[:, at])
        return out

    def squares_t_dot(self, V: Array, shift: Array | float) -> Array:
        return np.concatenate([part.squares_t_dot(V, m) for part, _, m in self._with(shift)])

    def sandwich(self, c: Array, shift: Array | float) -> Array:
        c = c.astype(np.float64, copy=False)
        p = self.shape[1]
        out = np.empty((p, p))
        parts = [*self._with(shift)]
        for i, (a, rows, of_a) in enumerate(parts):
            out[rows, rows] = a.sandwich(c, of_a)
            for b, columns, of_b in parts[:i]:
                block = _cross(a, of_a, b, of_b, c)
                out[rows, columns], out[columns, rows] = block, block.T
        return out

    def _with(self, shift: Array | float) -> Iterator[tuple[Features, Columns, Array]]:
        """Each part, its columns, and what of `shift` is for them."""
        m = np.broadcast_to(shift, self.shape[1])
        for part, at in zip(self.parts, self._at, strict=True):
            yield part, at, m[at]

    # -- sums over rows -------------------------------------------------------------------------

    def counts(self) -> Array:
        return np.concatenate([part.counts() for part in self.parts])

    def moments(self, s: Array | None) -> Moments:
        return _side_by_side([part.moments(s) for part in self.parts])

    def finite_moments(self, s: Array | None) -> Moments:
        return _side_by_side([part.finite_moments(s) for part in self.parts])

    def comoments(self, y: Array | None, s: Array | None) -> Comoments:
        own = [part.comoments(None, s) for part in self.parts]
        moments = _side_by_side([Moments(c.weight, c.mean, np.diag(c.matrix)) for c in own])

        def gram(_: Array | None) -> Array:
            p = self.shape[1]
            out = np.zeros((p, p), order="F")
            for i, (a, rows) in enumerate(zip(self.parts, self._at, strict=True)):
                out[rows, rows] = own[i].matrix
                for j, (b, columns) in enumerate(zip(self.parts[:i], self._at[:i], strict=True)):
                    out[rows, columns] = _cross(a, own[i].mean, b, own[j].mean, s)
            return out

        return Comoments.of_products(moments, gram, self.t_dot, len(self), y, s, centred=True)

    def nonfinite(self, numbers: int | Array) -> InvalidRows:
        found = [part.nonfinite(numbers) for part in self.parts]
        firsts = [
            Place(first.row, at.start + first.column, first.value)
            for (_, first), at in zip(((f.rows, f.first) for f in found), self._at, strict=True)
            if first is not None
        ]
        if not firsts:
            return InvalidRows()
        # A row may be invalid in several parts. A sum of small shares is finite where all numbers are.
        wrong = np.zeros(len(self), dtype=bool)
        with np.errstate(invalid="ignore", over="ignore"):
            for part, bad in zip(self.parts, found, strict=True):
                if bad.rows:
                    wrong |= ~np.isfinite(part.dot(np.full(part.shape[1], 2.0**-60)))
        return InvalidRows(int(wrong.sum()), min(firsts, key=lambda place: place.row))


def _dot(parts: Sequence[Products], columns: Sequence[Columns], W: Array) -> Array:
    """The sum of the products of parts with the rows of W that are theirs."""
    out: Array | None = None
    for part, at in zip(parts, columns, strict=True):
        product = part.dot(W[at])
        out = product if out is None else np.add(out, product, out=out)
    assert out is not None
    return out


def _side_by_side(found: Sequence[Moments]) -> Moments:
    mean, deviation = (np.concatenate([getattr(m, name) for m in found]) for name in ("mean", "deviation"))
    return Moments(found[0].weight, mean, deviation)


def _cross(a: Features, of_a: Array, b: Features, of_b: Array, c: Array | None) -> Array:
    """The sums over rows of ``c_i (a_i - of_a) (b_i - of_b)'``, ``(p, q)``, with c ``(n,)`` or None."""
    if isinstance(b, Dense):
        return _cross_dense(b, of_b, a, of_a, c)
    if isinstance(a, Dense):
        return _cross_dense(a, of_a, b, of_b, c).T
    each = np.ones(len(a)) if c is None else c
    A, B = a.tocsr().astype(np.float64), b.tocsr().astype(np.float64)
    out: Array = (A.T @ B.multiply(each[:, None]).tocsr()).toarray()
    out -= np.multiply.outer(of_a, b.t_dot(each))
    out -= np.multiply.outer(a.t_dot(each) - each.sum() * of_a, of_b)
    return out


def _cross_dense(dense: Dense, of_dense: Array, other: Features, of_other: Array, c: Array | None) -> Array:
    """The same, ``(columns of other, columns of dense)``, rows made float64 a cut at a time."""
    out = np.zeros((other.shape[1], dense.shape[1]))
    total = np.zeros(dense.shape[1])
    height = max(CUT, other.shape[1] * dense.shape[1]) // max(dense.shape[1], 1) + 1
    for a in range(0, len(dense), height):
        away = dense.minus(of_dense, a, a + height)
        if c is not None:
            away *= c[a : a + height, None]
        out += other.slice(a, a + height).t_dot(away)
        total += away.sum(axis=0)
    out -= np.multiply.outer(of_other, total)
    return out


@dataclass(frozen=True, slots=True)
class StandardisedParts:
    """The products of standardised parts, each with the columns `at`, side by side."""

    parts: tuple[Products, ...]
    at: list[Columns]

    def __len__(self) -> int:
        return len(self.parts[0])

    def dot(self, W: Array) -> Array:
        return _dot(self.parts, self.at, W)

    def t_dot(self, V: Array) -> Array:
        return np.concatenate([part.t_dot(V) for part in self.parts])


@dataclass(frozen=True, slots=True)
class StackedRoom:
    """Where the rows of parts are gathered."""

    rooms: list[Room]

    def put(self, start: int, rows: Stacked) -> None:
        for room, part in zip(self.rooms, rows.parts, strict=True):
            room.put(start, part)

    def features(self) -> Stacked:
        return Stacked(tuple(room.features() for room in self.rooms))
