"""The features of some rows: the products and sums that kernels ask of X, however it lies in memory. Knows no
problem, and not where rows come from.

Whatever is computed from X is computed by them, from a few products and sums. :class:`Dense` is one kind of
features, :class:`~daskgd.rows.sparse.Sparse` another, :class:`~daskgd.rows.categorical.Categorical` a third,
and :class:`~daskgd.rows.stacked.Stacked` has several side by side; one more is another class with these
methods, and no kernel changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.dtypes import compute_dtype as compute_dtype
from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.sparse import Sparse, dense_sandwich
from daskgd.rows.statistics import CUT, Comoments, Moments

Array = NDArray[Any]


SELECTED = 256
"""Rows that are selected at a time where they change their dtype."""

TILE_BYTES = 1 << 21
"""Bytes of X in one tile: small enough for caches, large enough to keep the interpreter out of the way (in
steps of two from 256 KB to 8 MB the fastest over widths from 50 to 10,000, float32 and float64)."""

LEAST_ROWS, WIDE_ROWS, WIDE_BYTES = 16, 64, 8 << 20
"""Rows of a tile, at least; and where rows are wide, as many as are worth the interpreter's while, in so many
bytes."""


def tile_rows(width: int, dtype: np.dtype[Any]) -> int:
    """The height of a tile in rows of so many numbers: a function of that and of the dtype of X alone, so
    that bits depend on nothing else."""
    row_bytes = max(width, 1) * compute_dtype(dtype).itemsize
    return max(TILE_BYTES // row_bytes, min(WIDE_ROWS, WIDE_BYTES // row_bytes), LEAST_ROWS)


class Products(Protocol):
    """The products of some rows with matrices: those of :class:`Features`, or of features made of them."""

    def __len__(self) -> int: ...

    def dot(self, W: Array) -> Array: ...

    def t_dot(self, V: Array) -> Array: ...


class Room(Protocol):
    """Where rows are gathered, in order."""

    def put(self, start: int, rows: Any) -> None:
        """Copy `rows`, of the same kind, to the place of row `start` and those after it."""
        ...

    def features(self) -> Features:
        """The rows that have been put."""
        ...


class Features(Protocol):
    """The features of n rows, p columns: what every kind of X in memory can do.

    Products are computed in the dtype of the other factor, to which the features are converted where theirs
    is another: parameters in float64 make a product of float32 rows in float64.
    """

    @property
    def shape(self) -> tuple[int, int]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def nbytes(self) -> int:
        """The bytes that they take in memory."""
        ...

    @property
    def n_stored(self) -> int:
        """The number of entries that are stored, and enter products: n times p of a dense array."""
        ...

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def tile_rows(self, dtype: np.dtype[Any], outputs: int = 1) -> int:
        """The height in rows of the tiles in which `dtype` they are worked on, by a model of so many outputs:
        a function of the rows alone, as bits depend on it."""
        ...

    # -- some of the rows -----------------------------------------------------------------------

    def slice(self, start: int, stop: int) -> Features:
        """The rows `start` to `stop`, as a view."""
        ...

    def select(self, positions: Array, dtype: np.dtype[Any] | None = None) -> Features:
        """The rows at these positions, or where this mask is true, as a copy in `dtype`, by default
        theirs."""
        ...

    def columns(self, positions: Array) -> Features:
        """The columns at these positions, as a copy."""
        ...

    def room(self, n_rows: int) -> Room:
        """Room for up to `n_rows` rows of this kind."""
        ...

    def concat(self, *others: Any) -> Features:
        """These rows and then the others, of the same kind."""
        ...

    def of_array(self, X: Array) -> Features:
        """Features of the same kind, made of an array of a few rows ``(m, p)``."""
        ...

    # -- how they lie in memory -----------------------------------------------------------------

    def prepared(self, dtype: np.dtype[Any] | None = None) -> Features:
        """The same features in `dtype`, by default the compute dtype, C-contiguous and aligned: as all
        kernels need them."""
        ...

    def astype(self, dtype: Any) -> Features:
        """The same features in another dtype; without a copy where it is theirs."""
        ...

    def toarray(self) -> Array:
        """The features as a dense array ``(n, p)``; not to be written to, as it may be a view."""
        ...

    def tocsr(self) -> Any:
        """The features as a ``scipy.sparse.csr_array``; not to be written to, as it may share their
        memory."""
        ...

    @property
    def arrays(self) -> tuple[Array, ...]:
        """The arrays that they are made of."""
        ...

    def with_arrays(self, arrays: tuple[Array, ...]) -> Features:
        """The same features made of `arrays`, which are copies of their own."""
        ...

    # -- products -------------------------------------------------------------------------------

    def dot(self, W: Array) -> Array:
        """The product ``X W``, ``(n,)`` or ``(n, k)``, with W ``(p,)`` or ``(p, k)``."""
        ...

    def t_dot(self, V: Array) -> Array:
        """The product ``X' V``, ``(p,)`` or ``(p, k)``, with V ``(n,)`` or ``(n, k)``."""
        ...

    def standardised(self, center: Array | None, scale: Array | None, dtype: np.dtype[Any]) -> Products:
        """The features ``(X - center) / scale``, both ``(p,)``, as far as products in `dtype` need them."""
        ...

    def minus(self, shift: Array | float, start: int, stop: int, out: Array | None = None) -> Array:
        """The rows `start` to `stop` less `shift` ``(p,)``, as a dense array in float64: of few rows at a
        time."""
        ...

    def squares_t_dot(self, V: Array, shift: Array | float) -> Array:
        """The sums over rows of ``(x_ij - shift_j)**2 V_ik``, ``(p, k)`` in float64, with V ``(n, k)``."""
        ...

    def sandwich(self, c: Array, shift: Array | float) -> Array:
        """The sums over rows of ``c_i (x_i - shift) (x_i - shift)'``, ``(p, p)`` in float64, with c
        ``(n,)``."""
        ...

    # -- sums over rows -------------------------------------------------------------------------

    def counts(self) -> Array:
        """The number of rows in which each column is not 0 ``(p,)``."""
        ...

    def moments(self, s: Array | None) -> Moments:
        """The moments of the columns, with weights ``(n,)`` or None; not finite where X is not."""
        ...

    def finite_moments(self, s: Array | None) -> Moments:
        """The moments of the columns with 0 in the place of what is not finite."""
        ...

    def comoments(self, y: Array | None, s: Array | None) -> Comoments:
        """The second moments of the columns of ``[X | y]``, with weights ``(n,)`` or None."""
        ...

    def nonfinite(self, numbers: int | Array) -> InvalidRows:
        """The rows that hold NaN or infinity; `numbers` are those of the rows, or that of the first."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Dense:
    """Features as one dense array, `values` ``(n, p)``.

    >>> X = Dense(np.array([[1.0, 2.0], [3.0, 4.0]]))
    >>> X.dot(np.array([1.0, 1.0])), X.t_dot(np.array([1.0, 0.0]))
    (array([3., 7.]), array([1., 2.]))
    """

    values: Array

    @property
    def shape(self) -> tuple[int, int]:
        n, p = self.values.shape
        return n, p

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.values.dtype

    @property
    def nbytes(self) -> int:
        return self.values.nbytes

    @property
    def n_stored(self) -> int:
        return self.values.size

    def __len__(self) -> int:
        return len(self.values)

    def tile_rows(self, dtype: np.dtype[Any], outputs: int = 1) -> int:
        return tile_rows(max(self.shape[1], outputs), dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.values, dtype) if copy else np.asarray(self.values, dtype)

    def slice(self, start: int, stop: int) -> Dense:
        return Dense(self.values[start:stop])

    def select(self, positions: Array, dtype: np.dtype[Any] | None = None) -> Dense:
        if dtype is None or dtype == self.dtype:
            return Dense(self.values[positions])
        if positions.dtype == bool:
            positions = np.flatnonzero(positions)
        out = np.empty((len(positions), self.shape[1]), dtype)
        for a in range(0, len(positions), SELECTED):  # never all of them in both dtypes
            out[a : a + SELECTED] = self.values[positions[a : a + SELECTED]]
        return Dense(out)

    def columns(self, positions: Array) -> Dense:
        return Dense(np.take(self.values, positions, axis=1))

    def room(self, n_rows: int) -> DenseRoom:
        return DenseRoom(np.empty((n_rows, self.shape[1]), self.dtype))

    def concat(self, *others: Dense) -> Dense:
        return Dense(np.concatenate([self.values, *(other.values for other in others)]))

    def of_array(self, X: Array) -> Dense:
        return Dense(X)

    def prepared(self, dtype: np.dtype[Any] | None = None) -> Dense:
        return Dense(prepare(self.values, dtype))

    def astype(self, dtype: Any) -> Dense:
        return self if self.dtype == dtype else Dense(self.values.astype(dtype))

    def toarray(self) -> Array:
        return self.values

    def tocsr(self) -> Any:
        from scipy.sparse import csr_array

        return csr_array(self.values)

    @property
    def arrays(self) -> tuple[Array, ...]:
        return (self.values,)

    def with_arrays(self, arrays: tuple[Array, ...]) -> Dense:
        return Dense(*arrays)

    def dot(self, W: Array) -> Array:
        out: Array = self.values.astype(W.dtype, copy=False) @ W
        return out

    def t_dot(self, V: Array) -> Array:
        X = self.values.astype(V.dtype, copy=False)
        # Both are the same product; BLAS reads V fastest in the order in which it lies.
        out: Array = X.T @ V if V.flags.c_contiguous else (V.T @ X).T
        return out

    def standardised(self, center: Array | None, scale: Array | None, dtype: np.dtype[Any]) -> Dense:
        # The shift first: what is left is small, so that float32 keeps the digits that tell rows apart, and
        # what its rounding shifts is the same for all rows.
        X = self.values.astype(dtype, copy=False)
        if center is not None:
            X = X - center.astype(dtype)
        if scale is not None:
            X = X * (1 / scale).astype(dtype)
        return Dense(X)

    def minus(self, shift: Array | float, start: int, stop: int, out: Array | None = None) -> Array:
        return np.subtract(self.values[start:stop], shift, out=out, dtype=np.float64)

    def squares_t_dot(self, V: Array, shift: Array | float) -> Array:
        out = np.zeros((self.shape[1], V.shape[1]))
        height = max(CUT // max(self.shape[1], 1), 16)
        for a in range(0, len(self), height):
            A = self.minus(shift, a, a + height)
            A *= A
            out += A.T @ V[a : a + height]
        return out

    def sandwich(self, c: Array, shift: Array | float) -> Array:
        return dense_sandwich(self, c, shift)

    def counts(self) -> Array:
        return np.count_nonzero(self.values, axis=0)

    def moments(self, s: Array | None) -> Moments:
        return Moments.of(self.values, s)

    def finite_moments(self, s: Array | None) -> Moments:
        return Moments.of(np.where(np.isfinite(self.values), self.values, 0), s)

    def comoments(self, y: Array | None, s: Array | None) -> Comoments:
        return Comoments.of(self.values, y, s)

    def nonfinite(self, numbers: int | Array) -> InvalidRows:
        return InvalidRows.nonfinite(self.values, numbers)


@dataclass(frozen=True, slots=True, eq=False)
class DenseRoom:
    """Where dense rows are gathered: each is copied to its place once."""

    values: Array

    def put(self, start: int, rows: Dense) -> None:
        self.values[start : start + len(rows)] = rows.values

    def features(self) -> Dense:
        return Dense(self.values)


def is_scipy_sparse(X: Any) -> bool:
    """Whether X is a matrix or an array of scipy.sparse, told without importing that."""
    return type(X).__module__.startswith("scipy.sparse")


def is_sparse_array(X: Any) -> bool:
    """The same, or one of pydata's sparse."""
    return is_scipy_sparse(X) or type(X).__module__.partition(".")[0] == "sparse"


def as_features(X: Any) -> Features:
    """The features X: an array ``(n, p)`` becomes :class:`Dense`, one of scipy.sparse or pydata's sparse
    :class:`~daskgd.rows.sparse.Sparse`, features stay as they are."""
    if isinstance(X, np.ndarray):
        return Dense(X)
    if is_sparse_array(X):
        return Sparse.of(X)
    found: Features = X
    return found


def align(a: Array, dtype: np.dtype[Any]) -> Array:
    """Parameters in `dtype`, C-contiguous and at an address that is a multiple of 16, as memory that numpy
    allocates always is: some BLAS kernels (OpenBLAS's for SSE3) give other bits elsewhere."""
    a = np.require(a, dtype, ["C", "A"])
    return a if a.ctypes.data % 16 == 0 else a.copy()


def prepare(X: Array, dtype: np.dtype[Any] | None = None) -> Array:
    """X in the compute dtype, C-contiguous and aligned.

    Arrays that crossed a network or came back from disk may lie at odd addresses, where the same
    product is 2-10 times slower and gives other bits.
    """
    return np.require(X, dtype=dtype or compute_dtype(X.dtype), requirements=["C", "A"])
