"""Moments and second moments of columns, in float64, that merge without cancellation. Knows arrays only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


CUT = 1 << 16
"""The number of elements converted to float64 at a time: half a megabyte."""


@dataclass(frozen=True, slots=True)
class Moments:
    """The total weight, and per column the mean and the sum of squared deviations, ``(p,)`` each, in float64.

    Two add by the pairwise update of Chan, Golub & LeVeque (1979), which never subtracts large
    numbers: exact where plain sums of squares lose all digits (mean / std of 1e4 and beyond).
    """

    weight: float
    mean: Array
    deviation: Array

    @classmethod
    def of(cls, X: Array, s: Array | None) -> Moments:
        """The moments of the columns of X ``(n, p)`` with weights ``(n,)`` or None."""
        weight = float(len(X) if s is None else s.sum())
        if not weight > 0:
            zero = np.zeros(X.shape[1])
            return cls(0.0, zero, zero)
        with np.errstate(invalid="ignore", over="ignore"):
            first, second = _two_sums(X, s, None)
            deviation = second - first * first / weight
            if (second <= RECENTRE_RATIO * deviation).all():
                return cls(weight, first / weight, deviation)
            # About a row of the tile itself, so that the sums are of the size of the spread. A row of weight
            # 0 may be anything.
            shift = X[0 if s is None else int(np.argmax(s))].astype(np.float64)
            first, second = _two_sums(X, s, shift)
            offset = first / weight
            return cls(weight, shift + offset, np.maximum(second - offset * first, 0.0))

    def __add__(self, other: Moments) -> Moments:
        if self.weight == 0 or other.weight == 0:
            return self if other.weight == 0 else other
        weight = self.weight + other.weight
        with np.errstate(invalid="ignore", over="ignore"):
            delta = other.mean - self.mean
            return Moments(
                weight,
                self.mean + delta * (other.weight / weight),
                self.deviation + other.deviation + delta * delta * (self.weight * other.weight / weight),
            )

    @property
    def variance(self) -> Array:
        """The population variance per column, ``(p,)``."""
        return self.deviation / self.weight if self.weight else self.deviation


RECENTRE_RATIO = 1e3
"""The mean square of a column relative to its variance beyond which it is summed about one of its values: at
most three of sixteen digits are lost."""


def _two_sums(X: Array, s: Array | None, shift: Array | None) -> tuple[Array, Array]:
    """The weighted sums ``(p,)`` of the columns of X less `shift`, and of their squares; converted a cut at a
    time, so that it stays in the cache."""
    height = max(16, CUT // X.shape[1])
    D = np.empty((min(height, len(X)), X.shape[1]))
    ones = np.ones(len(D))
    first, second = np.zeros(X.shape[1]), np.zeros(X.shape[1])
    for a in range(0, len(X), height):
        cut = X[a : a + height]
        D = D[: len(cut)]
        np.copyto(D, cut)
        if shift is not None:
            D -= shift
        v = ones[: len(cut)] if s is None else s[a : a + height]
        first += v @ D
        np.multiply(D, D, out=D)
        second += v @ D
    return first, second


MOSTLY = 0.7
"""Share of rows with a weight that is not 0 up to which the others are left out of a product."""


def weighted_gram(A: Array, c: Array) -> Array:
    """``A' diag(c) A``, in the dtype of A and at least that of c, which may be negative."""
    curved = c != 0
    if np.count_nonzero(curved) < MOSTLY * len(c):
        A, c = A[curved], c[curved]
    if (c < 0).any():
        out: Array = (A * c[:, None]).T @ A
    else:  # as a product with itself: half the work
        B = A * np.sqrt(c)[:, None]
        out = B.T @ B
    return out


def about(gram: Array, first: Array, total: float, shift: Array | float) -> Array:
    """The sums ``(X - m)' diag(c) (X - m)`` of ``X' diag(c) X``, which is changed, ``X' c``, the sum of c,
    and the shift m."""
    if np.any(shift):
        m = np.broadcast_to(shift, len(first))
        gram -= np.multiply.outer(first, m)
        gram += np.multiply.outer(m, total * m - first)
    return gram


@cache
def _blas() -> Any:
    """The BLAS products that numpy does not offer; loaded when first used, as they cost a worker 18 MB."""
    from scipy.linalg import blas

    return blas


@dataclass(frozen=True, slots=True)
class Comoments:
    """The total weight, the means ``(q,)`` and the second moments about them ``(q, q)`` of columns Z, in
    float64.

        matrix = sum_i s_i (z_i - mean) (z_i - mean)'

    Two add by the pairwise update of Chan, Golub & LeVeque (1979, eq. 2.1b, for products):

        matrix_a + matrix_b + (W_a W_b / (W_a + W_b)) delta delta',    delta = mean_b - mean_a.

    Only the lower triangle is kept, zeros above, in Fortran order, as BLAS does half the work then: `full` is
    the symmetric matrix. A column that is constant has exact zeros.
    """

    weight: float
    mean: Array
    matrix: Array

    @classmethod
    def of(cls, X: Array, y: Array | None, s: Array | None) -> Comoments:
        """The second moments of the columns of ``[X | y]``: X ``(n, p)``, y ``(n,)`` or ``(n, m)`` or None,
        weights or None.

        >>> Comoments.of(np.array([[1.0], [3.0]]), np.array([10.0, 20.0]), None).full
        array([[ 2., 10.],
               [10., 50.]])
        """
        p = X.shape[1]
        parts = [X] if y is None else [X, y.reshape(len(X), -1 if len(X) else int(np.prod(y.shape[1:])))]
        q = p if y is None else p + parts[1].shape[1]
        weight = float(len(X) if s is None else s.sum())
        matrix = np.zeros((q, q), order="F")
        if not weight > 0:
            return cls(0.0, np.zeros(q), matrix)
        # About one of the rows themselves: with the largest weight none lies further than sqrt(n) standard
        # deviations from the mean, so that what is taken off at the end costs no digits that matter.
        at = 0 if s is None else int(np.argmax(s))
        first = np.zeros(q)
        height = max(128, CUT // max(q, 1))
        D = np.empty((min(height, len(X)), q))
        with np.errstate(invalid="ignore", over="ignore"):
            shift = np.concatenate([part[at].astype(np.float64) for part in parts])
            for a in range(0, len(X), height):
                cut = slice(a, min(a + height, len(X)))
                D = D[: cut.stop - a]
                np.subtract(X[cut], shift[:p], out=D[:, :p])
                if y is not None:
                    np.subtract(parts[1][cut], shift[p:], out=D[:, p:])
                if s is None:
                    first += np.ones(len(D)) @ D
                else:
                    first += s[cut] @ D
                    D *= np.sqrt(s[cut])[:, None]
                matrix = _blas().dsyrk(1.0, D.T, 1.0, matrix, lower=1, overwrite_c=1)
            offset = first / weight
            matrix = _blas().dsyr(-weight, offset, lower=1, a=matrix, overwrite_a=1)
            return cls(weight, shift + offset, matrix)

    @classmethod
    def of_products(
        cls,
        moments: Moments,
        gram: Callable[[Array | None], Array],
        t_dot: Callable[[Array], Array],
        n: int,
        y: Array | None,
        s: Array | None,
        *,
        centred: bool = False,
    ) -> Comoments:
        """The second moments of the columns of ``[X | y]`` of n rows, from the moments of X, near 0, and its
        products: ``gram(s)`` is ``X' diag(s) X``, at least its lower triangle, or that of X less its means
        where it is `centred`; and ``t_dot(V)`` is ``X' V``."""
        p, weight, mean = len(moments.mean), moments.weight, moments.mean
        of_y = cls(weight, np.zeros(0), np.zeros((0, 0))) if y is None else cls.of(np.empty((n, 0)), y, s)
        q = p + len(of_y.mean)
        matrix = np.zeros((q, q), order="F")
        if not weight > 0:
            return cls(0.0, np.zeros(q), matrix)
        with np.errstate(invalid="ignore", over="ignore"):
            matrix[:p, :p] = np.tril(gram(s))
            if not centred:
                matrix[:p, :p] -= np.tril(np.multiply.outer(weight * mean, mean))
            if y is not None:
                away = y.reshape(n, q - p) - of_y.mean
                matrix[p:, :p] = t_dot(away if s is None else away * s[:, None]).T
            matrix[p:, p:] = of_y.matrix
        constant = np.flatnonzero(moments.deviation == 0)
        matrix[constant, :p] = 0.0
        matrix[:, constant] = 0.0
        return cls(weight, np.concatenate([mean, of_y.mean]), matrix)

    def __add__(self, other: Comoments) -> Comoments:
        if self.weight == 0 or other.weight == 0:
            return self if other.weight == 0 else other
        weight = self.weight + other.weight
        share = other.weight / weight
        with np.errstate(invalid="ignore", over="ignore"):
            delta = other.mean - self.mean
            matrix = np.asfortranarray(self.matrix + other.matrix)
            matrix = _blas().dsyr(self.weight * share, delta, lower=1, a=matrix, overwrite_a=1)
            return Comoments(weight, self.mean + delta * share, matrix)

    @property
    def full(self) -> Array:
        """The symmetric matrix of second moments, ``(q, q)``."""
        out = np.tril(self.matrix)
        out += np.tril(self.matrix, -1).T
        return out
