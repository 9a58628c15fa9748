"""Categorical features: integer codes that stand for a column of zeros and a one per category, which nothing
makes.

Products are scipy's, of the codes as they lie: they are compressed sparse rows whose entries are all 1. Loads
scipy where they are asked for; knows no problem, and not where rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.dtypes import compute_dtype
from daskgd.rows.group_sums import group_sums
from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.sparse import (
    ENTRIES_PER_COLUMN,
    Sparse,
    StandardisedByAlgebra,
    dense_sandwich,
    sparse_tile_rows,
)
from daskgd.rows.statistics import Comoments, Moments, about

Array = NDArray[Any]
Places = slice  # `slice` is a method below

PRODUCT_ENTRIES = 1 << 20
"""Entries of a product at a time, as each needs a 1 beside it; and for each column some at least."""

TOGETHER = 64
"""Rows of codes that are looked at as one, as numpy takes its time for each row."""

TABLE_ROWS = 1 << 16
"""Rows that are counted in a cross-table at a time, at least, and for each column one."""

CROSS_TABLES = 10
"""Numbers of a cross-table for each row beyond which second moments are made by a sparse product."""

SANDWICH_SHARE = 0.3
"""Share of entries that are 1 up to which sums of products of columns are made by cross-tables; beyond, rows
made dense a cut at a time are faster."""


@dataclass(frozen=True, slots=True, eq=False)
class Categorical:
    """Features as one column of zeros and ones for each category of k categorical columns.

    Row i has a 1 in the columns ``indices[i]`` ``(k,)``, but for those that are -1, where the category is
    missing: all columns of its categories are 0 then. Categorical column j has the columns ``offsets[j]`` to
    ``offsets[j + 1]``, one for each of its categories.

    >>> X = Categorical.of(np.array([[0, 1], [2, -1]]), [3, 2])
    >>> X.toarray()
    array([[1., 0., 0., 0., 1.],
           [0., 0., 1., 0., 0.]])
    >>> X.dot(np.array([1.0, 2.0, 3.0, 10.0, 20.0])), X.moments(None).mean
    (array([21.,  3.]), array([0.5, 0. , 0.5, 0. , 0.5]))
    """

    indices: Array
    offsets: Array
    dtype: np.dtype[Any]

    @classmethod
    def of(
        cls,
        codes: Array,
        n_categories: Sequence[int],
        dtype: Any = np.float64,
        *,
        out: Callable[[tuple[int, ...], np.dtype[Any]], Array] = np.empty,
    ) -> Categorical:
        """The features of integer codes ``(n, k)``, -1 where one is missing, of columns with so many
        categories; the zeros and ones count as numbers of `dtype`.

        `out` gives the array for the indices, of a shape and dtype; it may be that of the codes, which are
        lost then.

        Raises
        ------
        ValueError : a code that is none, with its row and column.

        >>> Categorical.of(np.array([[0], [3]]), [3])
        Traceback (most recent call last):
            ...
        ValueError: codes: expected 0 <= code < 3 in column 0, or -1 for a missing one, got 3 in row 1
        """
        if codes.ndim != 2 or codes.dtype.kind not in "iu":
            raise ValueError(
                f"codes: expected integers of shape (n, k), got {codes.dtype} of shape {codes.shape}"
            )
        sizes = np.array(n_categories, dtype=np.int64).reshape(-1)
        if len(sizes) != codes.shape[1] or (sizes < 0).any():
            raise ValueError(
                f"n_categories: expected a count for each of {codes.shape[1]} columns of codes, got "
                f"{list(n_categories)}"
            )
        missing: Array | None = None
        if codes.size:
            low, high = (_of_columns(extreme, codes) for extreme in (np.min, np.max))
            missing = codes < 0 if (low < 0).any() else None
            wrong = (low < -1) | (high >= sizes)
            if wrong.any():
                j = int(np.argmax(wrong))
                row = int(np.argmax((codes[:, j] < -1) | (codes[:, j] >= sizes[j])))
                raise ValueError(
                    f"codes: expected 0 <= code < {sizes[j]} in column {j}, or -1 for a missing one, got "
                    f"{codes[row, j]} in row {row}"
                )
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        index = np.dtype(np.int32 if offsets[-1] <= np.iinfo(np.int32).max else np.int64)
        indices = out(codes.shape, index)
        n, k = codes.shape
        for at, m in ((slice(0, n - n % TOGETHER), TOGETHER), (slice(n - n % TOGETHER, n), 1)):
            rows, there = (a[at].reshape(-1, m * k) for a in (codes, indices))
            np.add(rows, np.tile(offsets[:-1].astype(index), m), out=there, casting="unsafe")
        if missing is not None:
            np.copyto(indices, -1, where=missing)
        return cls(indices, offsets, np.dtype(dtype))

    @property
    def codes(self) -> Array:
        """The codes ``(n, k)``, -1 where one is missing."""
        return np.where(self.indices < 0, -1, self.indices - self.offsets[:-1].astype(self.indices.dtype))

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.indices), int(self.offsets[-1])

    @property
    def nbytes(self) -> int:
        return self.indices.nbytes

    @property
    def n_stored(self) -> int:
        return self.indices.size

    def __len__(self) -> int:
        return len(self.indices)

    def __sizeof__(self) -> int:
        return self.nbytes

    def tile_rows(self, dtype: np.dtype[Any], outputs: int = 1) -> int:
        return sparse_tile_rows(self, outputs)

    # -- some of the rows -----------------------------------------------------------------------

    def slice(self, start: int, stop: int) -> Categorical:
        return replace(self, indices=self.indices[start:stop])

    def select(self, positions: Array, dtype: np.dtype[Any] | None = None) -> Categorical:
        return Categorical(self.indices[positions], self.offsets, dtype or self.dtype)

    def columns(self, positions: Array) -> Sparse:
        return self._sparse().columns(positions)

    def room(self, n_rows: int) -> CategoricalRoom:
        return CategoricalRoom(replace(self, indices=np.empty((n_rows, len(self.offsets) - 1), self._index)))

    def concat(self, *others: Any) -> Categorical | Sparse:
        if all(isinstance(other, Categorical) for other in others):
            return replace(self, indices=np.concatenate([self.indices, *(o.indices for o in others)]))
        sparse = [other._sparse() if isinstance(other, Categorical) else other for other in others]
        return self._sparse().concat(*sparse)

    def of_array(self, X: Array) -> Sparse:
        return Sparse.of_dense(X)

    # -- how they lie in memory -----------------------------------------------------------------

    def prepared(self, dtype: np.dtype[Any] | None = None) -> Categorical:
        indices = np.require(self.indices, requirements=["C", "A"])
        return Categorical(indices, self.offsets, np.dtype(dtype or compute_dtype(self.dtype)))

    def astype(self, dtype: Any) -> Categorical:
        return self if self.dtype == dtype else replace(self, dtype=np.dtype(dtype))

    def toarray(self) -> Array:
        out = np.zeros(self.shape, self.dtype)
        rows, j = np.nonzero(self.indices >= 0)
        out[rows, self.indices[rows, j]] = 1
        return out

    def tocsr(self) -> Any:
        return self._sparse().tocsr()

    def _sparse(self) -> Sparse:
        """The same features as :class:`~daskgd.rows.sparse.Sparse`."""
        there = self.indices >= 0
        indptr = np.zeros(len(self) + 1, np.int64)
        np.cumsum(there.sum(axis=1), out=indptr[1:])
        if indptr[-1] <= np.iinfo(np.int32).max:
            indptr = indptr.astype(self._index)
        return Sparse(
            np.ones(int(indptr[-1]), self.dtype), self.indices[there], indptr, int(self.offsets[-1])
        )

    @property
    def _index(self) -> np.dtype[Any]:
        return self.indices.dtype

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.indices,)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Categorical:
        return replace(self, indices=arrays[0])

    # -- products -------------------------------------------------------------------------------

    def _matrices(self, dtype: np.dtype[Any]) -> Iterator[tuple[Places, Any]]:
        """The features as matrices of scipy's, which share their memory, some rows at a time: which rows,
        and their matrix. Entries that are missing are zeros in the first column."""
        from scipy.sparse import csr_array

        n, k = self.indices.shape
        p = int(self.offsets[-1])
        height = max(PRODUCT_ENTRIES, ENTRIES_PER_COLUMN * p) // max(k, 1) + 1
        for a in range(0, max(n, 1), height):
            at = slice(a, min(a + height, n))
            indices = self.indices[at].reshape(-1)
            if len(indices) and indices.min() < 0:
                values = (indices >= 0).astype(dtype)
                indices = np.maximum(indices, 0)
            else:
                values = _ones(len(indices), dtype)
            indptr = np.arange(at.stop - a + 1, dtype=self._index) * k
            yield at, csr_array((values, indices, indptr), shape=(at.stop - a, p), copy=False)

    def dot(self, W: Array) -> Array:
        if W.shape[0] == 0:  # no categories at all
            return np.zeros((len(self), *W.shape[1:]), W.dtype)
        parts = [matrix @ W for _, matrix in self._matrices(W.dtype)]
        out: Array = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return out

    def t_dot(self, V: Array) -> Array:
        total: Array | None = None
        for at, matrix in self._matrices(V.dtype) if self.offsets[-1] else ():
            part = matrix.T @ V[at]
            total = part if total is None else np.add(total, part, out=total)
        return np.zeros((0, *V.shape[1:]), V.dtype) if total is None else total

    def standardised(
        self, center: Array | None, scale: Array | None, dtype: np.dtype[Any]
    ) -> StandardisedByAlgebra:
        return StandardisedByAlgebra(self.astype(dtype), center, scale)

    def minus(self, shift: Array | float, start: int, stop: int, out: Array | None = None) -> Array:
        indices = self.indices[start:stop]
        if out is None:
            out = np.empty((len(indices), self.shape[1]))
        out[...] = np.subtract(0.0, shift)
        rows, j = np.nonzero(indices >= 0)
        out[rows, indices[rows, j]] += 1
        return out

    def squares_t_dot(self, V: Array, shift: Array | float) -> Array:
        ones = self.t_dot(V.astype(np.float64, copy=False))
        m = np.broadcast_to(shift, self.shape[1])[:, None]
        return (1 - m) ** 2 * ones + m**2 * (V.sum(axis=0, dtype=np.float64) - ones) if np.any(m) else ones

    def sandwich(self, c: Array, shift: Array | float) -> Array:
        if self.n_stored > SANDWICH_SHARE * len(self) * self.shape[1]:
            return dense_sandwich(self, c, shift)
        c = c.astype(np.float64, copy=False)
        return about(self._gram(c), self.t_dot(c), float(c.sum()), shift)

    # -- sums over rows -------------------------------------------------------------------------

    def counts(self) -> Array:
        ones = self.prepared(np.dtype(np.float64)).t_dot(np.ones(len(self)))
        return ones.astype(np.intp)

    def moments(self, s: Array | None) -> Moments:
        weight = float(len(self) if s is None else s.sum())
        p = self.shape[1]
        if not weight > 0:
            return Moments(0.0, np.zeros(p), np.zeros(p))
        each = np.ones(len(self)) if s is None else s.astype(np.float64, copy=False)
        ones = self.t_dot(each)
        # Of a column that has one category the weights of the others are 0, not what rounding leaves.
        sizes = np.diff(self.offsets)
        column = np.repeat(np.arange(len(sizes)), sizes)
        total = group_sums(column, ones, len(sizes))
        missing = self.indices < 0
        if missing.any():
            total += [each[rows].sum() for rows in missing.T]
        total = np.maximum(total, np.finfo(float).tiny)[column]
        return Moments(weight, ones / total, ones * (np.maximum(total - ones, 0.0) / total))

    def finite_moments(self, s: Array | None) -> Moments:
        return self.moments(s)

    def comoments(self, y: Array | None, s: Array | None) -> Comoments:
        return Comoments.of_products(self.moments(s), self._gram, self.t_dot, len(self), y, s)

    def _gram(self, s: Array | None) -> Array:
        """The sums ``X' diag(s) X`` ``(p, p)``: the weights of pairs of categories."""
        p, sizes = self.shape[1], np.diff(self.offsets).tolist()
        if p > CROSS_TABLES * max(len(self), 1):
            return self._sparse().astype(np.float64)._gram(s)
        out = np.zeros((p, p))
        height = max(TABLE_ROWS, p)
        for a in range(0, len(self), height):
            cut = self.slice(a, a + height)
            v = None if s is None else s[a : a + height]
            # One more category for those that are missing, the first.
            codes = np.asfortranarray(cut.codes.astype(np.intp))
            codes += 1
            for i, size in enumerate(sizes):
                own = slice(self.offsets[i], self.offsets[i + 1])
                out[own, own] += np.diag(group_sums(codes[:, i], v, size + 1)[1:])
                for j in range(i):
                    width = sizes[j] + 1
                    pairs = group_sums(codes[:, i] * width + codes[:, j], v, (size + 1) * width)
                    table = pairs.reshape(-1, width)[1:, 1:]
                    other = slice(self.offsets[j], self.offsets[j + 1])
                    out[own, other] += table
                    out[other, own] += table.T
        return out

    def nonfinite(self, numbers: int | Array) -> InvalidRows:
        return InvalidRows()


def _of_columns(extreme: Callable[..., Array], codes: Array) -> Array:
    """The least or the greatest code of each column."""
    n, k = codes.shape
    left = codes[n - n % TOGETHER :]
    if len(left) < n:
        most = extreme(codes[: n - n % TOGETHER].reshape(-1, TOGETHER * k), axis=0)
        left = np.concatenate([most.reshape(TOGETHER, k), left])
    return extreme(left, axis=0)


@lru_cache(maxsize=8)
def _ones(n: int, dtype: np.dtype[Any]) -> Array:
    """So many ones, not to be written to: the entries of categories, made once for tiles of one height. (Of
    part of a longer array scipy makes a copy.)"""
    ones = np.ones(n, dtype)
    ones.flags.writeable = False
    return ones


@dataclass(frozen=True, slots=True)
class CategoricalRoom:
    """Where categorical rows are gathered: each is copied to its place once."""

    rows: Categorical

    def put(self, start: int, rows: Categorical) -> None:
        self.rows.indices[start : start + len(rows)] = rows.indices

    def features(self) -> Categorical:
        return self.rows
