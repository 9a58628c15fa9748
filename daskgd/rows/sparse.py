"""Sparse features: only the entries that are not 0 are stored, row by row, and nothing makes the others.

Products are scipy's. Loads scipy where they are asked for; knows no problem, and not where rows come from.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.invalid_rows import InvalidRows, Place
from daskgd.rows.statistics import CUT, RECENTRE_RATIO, Comoments, Moments, about, weighted_gram

Array = NDArray[Any]

TILE_ENTRIES, ENTRIES_PER_COLUMN, MOST_TILE_ROWS, LEAST_TILE_ROWS = 1 << 20, 8, 1 << 18, 16
"""Entries of a tile, and for each column at least, as the sums over a tile have a number for each column; and
rows of a tile, at most and at least."""

CONSTANT = 2.0**-50
"""Standard deviation of a column over its mean that is rounding."""

SPARSE_PRODUCT = 0.1
"""Share of entries that are stored, up to which second moments are made by sparse products; beyond, rows made
dense some at a time are faster, and lose nothing where columns are far from 0."""


class Stored(Protocol):
    """Features of which not all entries are stored."""

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def n_stored(self) -> int: ...
    def __len__(self) -> int: ...
    def dot(self, W: Array) -> Array: ...
    def t_dot(self, V: Array) -> Array: ...
    def minus(self, shift: Array | float, start: int, stop: int, out: Array | None = None) -> Array: ...


def sparse_tile_rows(X: Stored, outputs: int) -> int:
    """The height in rows of tiles of features of which not all entries are stored, by those that are."""
    n, p = X.shape
    entries = max(TILE_ENTRIES, ENTRIES_PER_COLUMN * p)
    each = max(X.n_stored / max(n, 1), outputs, 1.0)
    return int(np.clip(entries / each, LEAST_TILE_ROWS, MOST_TILE_ROWS))


SANDWICH_NUMBERS, LEAST_SANDWICH_ROWS = 1 << 19, 64
"""Numbers of features that are made dense at a time, and rows of them at least."""


def dense_sandwich(X: Stored, c: Array, shift: Array | float) -> Array:
    """The :meth:`~daskgd.rows.features.Features.sandwich` of features, made dense some rows at a time."""
    n, p = X.shape
    out = np.zeros((p, p))
    c = c.astype(np.float64, copy=False)
    height = max(SANDWICH_NUMBERS // max(p, 1), LEAST_SANDWICH_ROWS)
    for a in range(0, n, height):
        out += weighted_gram(X.minus(shift, a, a + height), c[a : a + height])
    return out


@dataclass(frozen=True, slots=True, eq=False)
class Sparse:
    """Features as compressed sparse rows: entry e of row i, ``indptr[i] <= e < indptr[i + 1]``, is
    ``values[e]`` in column ``indices[e]``; all others are 0.

    Within a row columns rise, and none comes twice.

    >>> from scipy.sparse import csr_array
    >>> X = Sparse.of(csr_array([[0.0, 2.0], [3.0, 0.0], [0.0, 0.0]]))
    >>> X.dot(np.array([1.0, 10.0])), X.t_dot(np.array([1.0, 1.0, 1.0]))
    (array([20.,  3.,  0.]), array([3., 2.]))
    >>> X.moments(None).mean
    array([1.        , 0.66666667])
    """

    values: Array
    indices: Array
    indptr: Array
    n_columns: int

    @classmethod
    def of(cls, X: Any) -> Sparse:
        """The features of a sparse matrix of scipy's or of pydata's sparse, ``(n, p)``; copied only as far as
        another layout asks for it. Entries that come twice are added, as scipy's products do."""
        if isinstance(X, Sparse):
            return X
        if getattr(X, "fill_value", 0) != 0:  # NaN too
            raise ValueError(
                f"X: expected a fill value of 0, got {X.fill_value}; pass X.todense() if it fits in memory"
            )
        if isinstance(X, np.ndarray):
            raise TypeError(
                "X: expected sparse rows, got a numpy.ndarray; where the blocks of a dask array are dense, "
                "and its meta says that they are sparse, give it a dense one, as in "
                "X.map_blocks(lambda block: block, meta=numpy.empty((0, 0)))"
            )
        if not hasattr(X, "tocsr"):
            X = X.to_coo() if hasattr(X, "to_coo") else X.to_scipy_sparse()
        X = X.tocsr()
        _check_indices(X)
        if not X.has_canonical_format:
            X = X.copy()
            X.sum_duplicates()
        indices, indptr, p = X.indices, X.indptr, int(X.shape[1])
        if max(p, len(indices)) <= np.iinfo(np.int32).max:
            indices, indptr = (a.astype(np.int32, copy=False) for a in (indices, indptr))
        return cls(X.data, indices, indptr, p)

    @classmethod
    def of_dense(cls, X: Array) -> Sparse:
        """The features of a dense array of a few rows ``(m, p)``."""
        from scipy.sparse import csr_array

        return cls.of(csr_array(X))

    @property
    def matrix(self) -> Any:
        """The features as a ``scipy.sparse.csr_array``, which shares their memory."""
        from scipy.sparse import csr_array

        return self._as(csr_array, self.shape)

    @property
    def transposed(self) -> Any:
        """Their transpose as a ``scipy.sparse.csc_array``, which shares their memory, too."""
        from scipy.sparse import csc_array

        return self._as(csc_array, self.shape[::-1])

    def _as(self, kind: Any, shape: tuple[int, int]) -> Any:
        out = kind(shape, dtype=self.dtype)
        # Given to the constructor, scipy copies arrays that are parts of much larger ones.
        out.data, out.indices, out.indptr = self.values, self.indices, self.indptr
        out.has_canonical_format = True
        return out

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.indptr) - 1, self.n_columns

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.indices.nbytes + self.indptr.nbytes

    @property
    def n_stored(self) -> int:
        return len(self.values)

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __sizeof__(self) -> int:  # what dask takes it to be, where it is the result of a task
        return self.nbytes

    def tile_rows(self, dtype: np.dtype[Any], outputs: int = 1) -> int:
        return sparse_tile_rows(self, outputs)

    # -- some of the rows -----------------------------------------------------------------------

    def slice(self, start: int, stop: int) -> Sparse:
        indptr = self.indptr[start : stop + 1]
        if not len(indptr):
            indptr = self.indptr[:1]
        a, b = int(indptr[0]), int(indptr[-1])
        return Sparse(self.values[a:b], self.indices[a:b], indptr - a, self.n_columns)

    def select(self, positions: Array, dtype: np.dtype[Any] | None = None) -> Sparse:
        if positions.dtype == bool:
            positions = np.flatnonzero(positions)
        return Sparse.of(self.matrix[positions]).astype(dtype or self.dtype)

    def columns(self, positions: Array) -> Sparse:
        if (np.diff(positions) > 0).all():
            place = np.full(self.n_columns, -1, self.indices.dtype)
            place[positions] = np.arange(len(positions))
            indices = place[self.indices]
            kept = indices >= 0
            before = np.concatenate(
                [np.zeros(1, self.indptr.dtype), np.cumsum(kept, dtype=self.indptr.dtype)]
            )
            return Sparse(self.values[kept], indices[kept], before[self.indptr], len(positions))
        found = self.matrix.tocsc()[:, positions].tocsr()
        found.sort_indices()
        return Sparse.of(found)

    def room(self, n_rows: int) -> SparseRoom:
        return SparseRoom([])

    def concat(self, *others: Sparse) -> Sparse:
        parts = (self, *others)
        ends = np.cumsum([0, *(part.n_stored for part in parts)])
        wide = ends[-1] > np.iinfo(np.int32).max or any(part.indptr.dtype != np.int32 for part in parts)
        starts = [part.indptr[1:].astype(np.int64) + end for part, end in zip(parts, ends, strict=False)]
        indptr = np.concatenate([np.zeros(1, np.int64), *starts])
        return Sparse(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.indices for part in parts]),
            indptr if wide else indptr.astype(np.int32),
            self.n_columns,
        )

    def of_array(self, X: Array) -> Sparse:
        return Sparse.of_dense(X)

    # -- how they lie in memory -----------------------------------------------------------------

    def prepared(self, dtype: np.dtype[Any] | None = None) -> Sparse:
        values = np.require(self.values, dtype or compute_dtype(self.dtype), ["C", "A"])
        indices, indptr = (np.require(a, requirements=["C", "A"]) for a in (self.indices, self.indptr))
        return Sparse(values, indices, indptr, self.n_columns)

    def astype(self, dtype: Any) -> Sparse:
        if self.dtype == dtype:
            return self
        return Sparse(self.values.astype(dtype), self.indices, self.indptr, self.n_columns)

    def toarray(self) -> Array:
        out: Array = self.matrix.toarray()
        return out

    def tocsr(self) -> Any:
        return self.matrix

    @property
    def arrays(self) -> tuple[Array, ...]:
        return self.values, self.indices, self.indptr

    def with_arrays(self, arrays: tuple[Array, ...]) -> Sparse:
        values, indices, indptr = arrays
        return Sparse(values, indices, indptr, self.n_columns)

    # -- products -------------------------------------------------------------------------------

    def dot(self, W: Array) -> Array:
        out: Array = self.astype(W.dtype).matrix @ W
        return out

    def t_dot(self, V: Array) -> Array:
        out: Array = self.astype(V.dtype).transposed @ V
        return out

    def standardised(
        self, center: Array | None, scale: Array | None, dtype: np.dtype[Any]
    ) -> StandardisedByAlgebra:
        return StandardisedByAlgebra(self.astype(dtype), center, scale)

    def minus(self, shift: Array | float, start: int, stop: int, out: Array | None = None) -> Array:
        dense = self.slice(start, stop).astype(np.float64).toarray()
        return np.subtract(dense, shift, out=dense if out is None else out)

    def squares_t_dot(self, V: Array, shift: Array | float) -> Array:
        V = V.astype(np.float64, copy=False)
        X = self.astype(np.float64)
        out = X._of(X.values * X.values).t_dot(V)
        if not np.any(shift):
            return out
        m = np.broadcast_to(shift, self.n_columns)[:, None]
        squares = out.copy()
        with np.errstate(invalid="ignore", over="ignore"):
            out -= m * (2.0 * X.t_dot(V) - m * V.sum(axis=0))
            lossy = _lossy(squares, out)
        if len(lossy):
            out[lossy] = self.columns(lossy)._away_squares_t_dot(V, m[lossy, 0])
        return out

    def _away_squares_t_dot(self, V: Array, m: Array) -> Array:
        """:meth:`squares_t_dot` entry by entry: no digits are lost where columns are far from 0."""
        away = self.values.astype(np.float64) - m[self.indices]
        out = self._of(away * away).t_dot(V)
        stored = self._of(np.ones_like(away)).t_dot(V)
        out += (m * m)[:, None] * (V.sum(axis=0) - stored)  # those that are not stored
        return out

    def sandwich(self, c: Array, shift: Array | float) -> Array:
        n, p = self.shape
        if not n or self.n_stored > SPARSE_PRODUCT * n * p:
            return dense_sandwich(self, c, shift)
        c = c.astype(np.float64, copy=False)
        X, near, _ = self._shifted()
        return about(X._gram(c), X.t_dot(c), float(c.sum()), shift - near)

    # -- sums over rows -------------------------------------------------------------------------

    def counts(self) -> Array:
        there = self.indices[self.values != 0]
        return np.bincount(there, minlength=self.n_columns)

    def moments(self, s: Array | None) -> Moments:
        weight = float(len(self) if s is None else s.sum())
        if not weight > 0:
            zero = np.zeros(self.n_columns)
            return Moments(0.0, zero, zero)
        each = np.ones(len(self)) if s is None else s
        mean, second = np.zeros(self.n_columns), np.zeros(self.n_columns)
        with np.errstate(invalid="ignore", over="ignore"):
            for tile, weights in self._tiles(each):
                X = tile.astype(np.float64)
                mean += X.t_dot(weights)
                second += X._of(X.values * X.values).t_dot(weights)
            mean /= weight
            deviation = second - weight * mean * mean
            lossy = _lossy(second, deviation)
        if len(lossy):
            found = self.columns(lossy)._moments_about_means(weight, each, s is None)
            mean[lossy], deviation[lossy] = found.mean, found.deviation
        return Moments(weight, mean, deviation)

    def _tiles(self, v: Array) -> Iterator[tuple[Sparse, Array]]:
        """Some rows at a time, with theirs of v ``(n,)``."""
        height = self.tile_rows(np.dtype(np.float64))
        for a in range(0, len(self), height):
            yield self.slice(a, a + height), v[a : a + height]

    def _moments_about_means(self, weight: float, each: Array, equal: bool) -> Moments:
        """:meth:`moments` in two passes, the second about the means: no digits are lost where columns are far
        from 0. `equal` says whether the weights of all rows, `each`, are 1."""
        mean, first, second = (np.zeros(self.n_columns) for _ in range(3))
        counts = np.bincount(self.indices, minlength=self.n_columns)
        stored = counts.astype(np.float64) if equal else np.zeros(self.n_columns)
        with np.errstate(invalid="ignore", over="ignore"):
            for X, weights in self._tiles(each):
                mean += X.astype(np.float64).t_dot(weights)
            mean /= weight
            # About the mean itself, entries that are stored and those that are not: no digits are lost.
            for X, weights in self._tiles(each):
                away = X.values - mean[X.indices]
                first += X._of(away).t_dot(weights)
                second += X._of(away * away).t_dot(weights)
                if not equal:
                    stored += X._of(np.ones_like(away)).t_dot(weights)
            rest = np.where(counts == len(self), 0.0, np.maximum(weight - stored, 0.0))
            first -= rest * mean
            second += rest * mean * mean
            first /= weight  # what rounding left in the mean
            second -= weight * first * first
            mean += first
            constant = second <= weight * (CONSTANT * mean) ** 2
            second[constant] = 0.0
        return Moments(weight, mean, second)

    def _shifted(self) -> tuple[Sparse, Array, Array]:
        """The features in float64, those that have an entry in every row less that of the first row, as
        columns far from 0 lose digits in sums of squares; what was taken off ``(p,)``, and the number of
        entries of each column."""
        counts = self._of(np.ones(self.n_stored)).t_dot(np.ones(len(self)))
        shift = np.zeros(self.n_columns)
        first = slice(*self.indptr[:2].tolist())
        shift[self.indices[first]] = self.values[first]
        shift[counts < len(self)] = 0.0
        values = self.values.astype(np.float64)
        if shift.any():
            values -= shift[self.indices]
        return self._of(values), shift, counts

    def _of(self, values: Array) -> Sparse:
        """Other values in the same places."""
        return Sparse(values, self.indices, self.indptr, self.n_columns)

    def finite_moments(self, s: Array | None) -> Moments:
        return self._of(np.where(np.isfinite(self.values), self.values, 0)).moments(s)

    def comoments(self, y: Array | None, s: Array | None) -> Comoments:
        n, p = self.shape
        if s is not None and not s.all():
            kept = s != 0
            found = self.select(kept).comoments(None if y is None else y[kept], s[kept])
            return replace(found, weight=float(s.sum()))
        if n and self.n_stored <= SPARSE_PRODUCT * n * p:
            X, shift, _ = self._shifted()
            found = Comoments.of_products(X.moments(s), X._gram, X.t_dot, n, y, s)
            found.mean[:p] += shift
            return found
        height = max(128, CUT // max(p, 1))
        parts = [
            Comoments.of(
                self.slice(a, a + height).toarray(),
                None if y is None else y[a : a + height],
                None if s is None else s[a : a + height],
            )
            for a in range(0, max(n, 1), height)
        ]
        return reduce(operator.add, parts)

    def _gram(self, s: Array | None) -> Array:
        """The sums ``X' diag(s) X`` ``(p, p)``."""
        values = self.values if s is None else self.values * np.repeat(s, np.diff(self.indptr))
        out: Array = (self.transposed @ self._of(values).matrix).toarray()
        return out

    def nonfinite(self, numbers: int | Array) -> InvalidRows:
        if self.dtype.kind != "f":
            return InvalidRows()
        wrong = np.flatnonzero(~np.isfinite(self.values))
        if not len(wrong):
            return InvalidRows()
        rows = np.searchsorted(self.indptr, wrong, side="right") - 1
        number = numbers[rows[0]] if isinstance(numbers, np.ndarray) else numbers + rows[0]
        place = Place(int(number), int(self.indices[wrong[0]]), self.values[wrong[0]])
        return InvalidRows(len(np.unique(rows)), place)


def _lossy(squares: Array, deviations: Array) -> Array:
    """The columns whose sums of squares, of which others have been subtracted, have lost digits."""
    with np.errstate(invalid="ignore"):
        lossy = np.isfinite(squares) & ~(squares <= RECENTRE_RATIO * deviations)
    return np.flatnonzero(lossy if lossy.ndim == 1 else lossy.any(axis=1))


def outside(indices: Array, n: int) -> int | None:
    """The position of the first index that is not among 0, ..., n - 1; None where there is none."""
    unsigned = indices.view(indices.dtype.str.replace("i", "u"))  # below 0 is far above
    if not len(unsigned) or unsigned.max() < n:
        return None
    return int(np.argmax(unsigned >= n))


def _check_indices(X: Any) -> None:
    """Raise ValueError for an index that is no column: scipy's products would read and write there."""
    at = outside(X.indices, X.shape[1])
    if at is not None:
        row = int(np.searchsorted(X.indptr, at, side="right")) - 1
        raise ValueError(
            f"X: expected columns from 0 to {X.shape[1] - 1}, got {X.indices[at]} in row {row}; "
            "X.check_format() finds what else is wrong"
        )


@dataclass(frozen=True, slots=True)
class SparseRoom:
    """Where sparse rows are gathered, in order."""

    parts: list[Sparse]

    def put(self, start: int, rows: Sparse) -> None:
        self.parts.append(rows)

    def features(self) -> Sparse:
        first, *others = self.parts
        return first.concat(*others) if others else first


@dataclass(frozen=True, slots=True, eq=False)
class StandardisedByAlgebra:
    """The products of ``(X - center) / scale`` by algebra: X, which is not dense, stays as it is.

    (X - m) / s W = X (W / s) - m (W / s),    ((X - m) / s)' V = (X' V - m sum V) / s
    """

    X: Stored
    center: Array | None
    scale: Array | None

    def __len__(self) -> int:
        return len(self.X)

    def dot(self, W: Array) -> Array:
        if self.scale is not None:
            W = (W.T / self.scale).T.astype(W.dtype)
        out = self.X.dot(W)
        if self.center is not None:
            out -= (self.center @ W).astype(out.dtype)
        return out

    def t_dot(self, V: Array) -> Array:
        out = self.X.t_dot(V).astype(np.float64)
        if self.center is not None:
            out -= np.multiply.outer(self.center, V.sum(axis=0, dtype=np.float64))
        if self.scale is not None:
            out = (out.T / self.scale).T
        return out
