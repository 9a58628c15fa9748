"""The features of some rows: the products and sums that kernels ask of X, however it lies in memory. Knows no
problem, and not where rows come from.

Whatever is computed from X is computed here, from a few products and sums. :class:`Dense` is the one kind of
features so far; another (sparse, categorical) is another class with these methods, and no kernel changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.invalid_rows import InvalidRows
from daskgd.rows.statistics import Comoments, Moments

Array = NDArray[Any]


def compute_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype in which kernels run: float32 and float64 as they are; what float32 holds exactly
    (float16, integers of up to 16 bits, bool) in float32; everything else in float64.

    >>> compute_dtype(np.dtype("uint8")), compute_dtype(np.dtype("int64"))
    (dtype('float32'), dtype('float64'))
    """
    small = dtype.kind in "fiub" and (dtype.itemsize <= 2 or dtype == np.float32)
    return np.dtype(np.float32 if small else np.float64)


SELECTED = 256
"""Rows that are selected at a time where they change their dtype."""


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

    def __len__(self) -> int:
        """Number of rows."""
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

    def empty(self, n_rows: int) -> Features:
        """Room for `n_rows` rows of this kind, to be filled by :meth:`put`."""
        ...

    def put(self, start: int, rows: Any) -> None:
        """Copy `rows`, of the same kind, to the place of row `start` and those after it."""
        ...

    def concat(self, *others: Any) -> Features:
        """These rows and then the others, of the same kind."""
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

    def minus(self, shift: Array | float, start: int, stop: int, out: Array | None = None) -> Array:
        """The rows `start` to `stop` less `shift` ``(p,)``, in float64, as second moments need them."""
        ...

    # -- sums over rows -------------------------------------------------------------------------

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

    def __len__(self) -> int:
        return len(self.values)

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

    def empty(self, n_rows: int) -> Dense:
        return Dense(np.empty((n_rows, self.shape[1]), self.dtype))

    def put(self, start: int, rows: Dense) -> None:
        self.values[start : start + len(rows)] = rows.values

    def concat(self, *others: Dense) -> Dense:
        return Dense(np.concatenate([self.values, *(other.values for other in others)]))

    def prepared(self, dtype: np.dtype[Any] | None = None) -> Dense:
        return Dense(prepare(self.values, dtype))

    def astype(self, dtype: Any) -> Dense:
        return self if self.dtype == dtype else Dense(self.values.astype(dtype))

    def toarray(self) -> Array:
        return self.values

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

    def minus(self, shift: Array | float, start: int, stop: int, out: Array | None = None) -> Array:
        return np.subtract(self.values[start:stop], shift, out=out, dtype=np.float64)

    def moments(self, s: Array | None) -> Moments:
        return Moments.of(self.values, s)

    def finite_moments(self, s: Array | None) -> Moments:
        return Moments.of(np.where(np.isfinite(self.values), self.values, 0), s)

    def comoments(self, y: Array | None, s: Array | None) -> Comoments:
        return Comoments.of(self.values, y, s)

    def nonfinite(self, numbers: int | Array) -> InvalidRows:
        return InvalidRows.nonfinite(self.values, numbers)


def as_features(X: Features | Array) -> Features:
    """The features X: an array ``(n, p)`` becomes :class:`Dense`, features stay as they are."""
    return Dense(X) if isinstance(X, np.ndarray) else X


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
