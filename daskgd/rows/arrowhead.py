"""Second moments of features of which a run of columns excludes one another, as the categories of one column
do: an arrowhead matrix.

No row has a one in two categories of a column, so that products of these are 0. Of p features, m of them the
categories of one column and q the others, ``m + m q + q**2`` second moments are left of ``p**2``; and a
system with them is solved by eliminating the m first, in ``m q**2 + q**3 / 3`` operations. Knows no problem,
and not where rows come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.rows.categorical import Categorical
from daskgd.rows.features import Dense, Features
from daskgd.rows.stacked import Stacked
from daskgd.rows.statistics import weighted_gram

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Arrowhead:
    """A symmetric matrix ``(d, d)`` with a run of rows and columns in which it is diagonal; d is m + q.

    Attributes
    ----------
    start : int
        The first row and column of the run.
    diagonal : (m,)
        The diagonal of the run.
    border : (m, q)
        The rows of the run, in all other columns.
    core : (q, q)
        All other rows and columns.
    shift : (d,)
        What columns were taken about, of second moments.

    >>> A = Arrowhead(1, np.array([2.0, 4.0]), np.array([[1.0], [2.0]]), np.array([[3.0]]), np.zeros(3))
    >>> A.toarray()
    array([[3., 1., 2.],
           [1., 2., 0.],
           [2., 0., 4.]])
    """

    start: int
    diagonal: Array
    border: Array
    core: Array
    shift: Array

    @property
    def size(self) -> int:
        """The number of rows d."""
        return len(self.diagonal) + len(self.core)

    def split(self, v: Array) -> tuple[Array, Array]:
        """The entries of v ``(d, ...)`` that belong to the run, and all others."""
        stop = self.start + len(self.diagonal)
        return v[self.start : stop], np.concatenate([v[: self.start], v[stop:]])

    def join(self, run: Array, others: Array) -> Array:
        """The vector of which :meth:`split` makes `run` and `others`."""
        return np.concatenate([others[: self.start], run, others[self.start :]])

    def __add__(self, other: Arrowhead) -> Arrowhead:
        return replace(
            self,
            diagonal=self.diagonal + other.diagonal,
            border=self.border + other.border,
            core=self.core + other.core,
        )

    def scaled(self, factors: Array | float) -> Arrowhead:
        """The matrix, each row and each column of it times its factor ``(d,)``."""
        run, others = self.split(np.broadcast_to(np.asarray(factors, dtype=float), self.size))
        return replace(
            self,
            diagonal=self.diagonal * run**2,
            border=self.border * run[:, None] * others,
            core=self.core * others[:, None] * others,
        )

    def plus_diagonal(self, added: Array) -> Arrowhead:
        """The matrix with ``added`` ``(d,)`` on its diagonal."""
        run, others = self.split(added)
        core = self.core.copy()
        core[np.diag_indices_from(core)] += others
        return replace(self, diagonal=self.diagonal + run, core=core)

    @property
    def main_diagonal(self) -> Array:
        """The diagonal ``(d,)``."""
        return self.join(self.diagonal, np.diagonal(self.core))

    def dot(self, v: Array) -> Array:
        """The product with v ``(d,)``."""
        run, others = self.split(v)
        return self.join(self.diagonal * run + self.border @ others, self.border.T @ run + self.core @ others)

    def about(self, shift: Array) -> Arrowhead:
        """Second moments about a shift ``(d,)`` of all columns that are not of the run, which would lose
        their zeros; of rows that end with a 1."""
        run, m = self.split(shift - self.shift)
        shift = self.join(np.zeros(len(run)), self.split(shift)[1])
        first = self.core[:, -1]
        core = self.core - np.multiply.outer(first, m)
        core += np.multiply.outer(m, self.core[-1, -1] * m - first)
        border = self.border - np.multiply.outer(self.border[:, -1], m)
        return replace(self, border=border, core=core, shift=shift)

    def without_last(self) -> Arrowhead:
        """The matrix without its last row and column, which is not of the run."""
        return replace(self, border=self.border[:, :-1], core=self.core[:-1, :-1], shift=self.shift[:-1])

    def toarray(self) -> Array:
        """The matrix ``(d, d)``."""
        return np.column_stack([self.dot(unit) for unit in np.eye(self.size)])


CUT_NUMBERS, LEAST_CUT = 1 << 21, 1 << 12
"""Numbers of dense features that are made float64 at a time, and rows at least: tables of pairs of categories
have many entries, to which those of each cut are added."""

PIECE_NUMBERS, LEAST_PIECE = 1 << 17, 64
"""Numbers of them that are multiplied at a time, and rows at least."""


def exclusive_columns(X: Features) -> slice:
    """The longest run of columns of which no row has two that are not 0, as the categories of one column are;
    an empty one where nothing is known of any."""
    runs = [
        _moved(run, at.start)
        for part, at in _parts(X)
        if isinstance(part, Categorical)
        for run in _runs(part)
    ]
    return max(runs, key=lambda run: run.stop - run.start, default=slice(0, 0))


def arrowhead(X: Features, c: Array, shift: Array | float = 0.0) -> Arrowhead:
    """The sums over rows of ``c_i a_i a_i'`` in float64, with c ``(n,)``, as an :class:`Arrowhead`.

    Row a has the features x and a 1 at its end: dense ones about the shift, which costs no digits, others as
    they are; sums of all blocks can be taken :meth:`~Arrowhead.about` it.

    >>> X = Categorical.of(np.array([[0, 1], [2, 1]]), [3, 2])
    >>> arrowhead(X, np.array([1.0, 10.0])).toarray()
    array([[ 1.,  0.,  0.,  0.,  1.,  1.],
           [ 0.,  0.,  0.,  0.,  0.,  0.],
           [ 0.,  0., 10.,  0., 10., 10.],
           [ 0.,  0.,  0.,  0.,  0.,  0.],
           [ 1.,  0., 10.,  0., 11., 11.],
           [ 1.,  0., 10.,  0., 11., 11.]])
    """
    p, shifts = X.shape[1], np.zeros(X.shape[1] + 1)
    dense = [at for part, at in _parts(X) if isinstance(part, Dense)]
    for at in dense:
        shifts[at] = np.broadcast_to(shift, p)[at]
    total = _Sum(exclusive_columns(X), shifts)
    height = max(CUT_NUMBERS // (sum(at.stop - at.start for at in dense) + 1), LEAST_CUT)
    for a in range(0, len(X), height):
        _add(total, X.slice(a, a + height), c[a : a + height].astype(np.float64, copy=False))
    return total.matrix


class _Sum:
    """An arrowhead that is summed up by blocks of the whole matrix. Rows and columns of a block are a range
    each, which is the run or has no column of it."""

    def __init__(self, run: slice, shift: Array) -> None:
        m = run.stop - run.start
        q = len(shift) - m
        self.run = run
        self.matrix = Arrowhead(run.start, np.zeros(m), np.zeros((m, q)), np.zeros((q, q)), shift)

    def _in_core(self, at: slice) -> slice:
        """Where columns that are not of the run are in the core."""
        before = 0 if at.start < self.run.start else len(self.matrix.diagonal)
        return slice(at.start - before, at.stop - before)

    def add(self, rows: slice, columns: slice, block: Array) -> None:
        """Add a block beside the diagonal, and its transpose."""
        if columns == self.run:
            rows, columns, block = columns, rows, block.T
        across = self._in_core(columns)
        if rows == self.run:
            self.matrix.border[:, across] += block
        else:
            down = self._in_core(rows)
            self.matrix.core[down, across] += block
            self.matrix.core[across, down] += block.T

    def add_square(self, at: slice, block: Array) -> None:
        """Add a symmetric block on the diagonal, not of the run."""
        self.matrix.core[self._in_core(at), self._in_core(at)] += block

    def add_diagonal(self, at: slice, values: Array) -> None:
        """Add to the diagonal."""
        if at == self.run:
            self.matrix.diagonal[:] += values
        else:
            places = np.arange(at.start, at.stop) - (at.start - self._in_core(at).start)
            self.matrix.core[places, places] += values


def _add(total: _Sum, X: Features, c: Array) -> None:
    """Add the rows of X: pairs of categories by tables, all others by products."""
    n, p = X.shape
    parts = list(_parts(X))
    places = [at for part, at in parts if isinstance(part, Dense)] + [slice(p, p + 1)]
    ends = np.cumsum([0, *(at.stop - at.start for at in places)]).tolist()
    own = [slice(a, b) for a, b in pairwise(ends)]  # which columns of A they are
    A = np.ones((n, ends[-1]))
    dense = [part for part, _ in parts if isinstance(part, Dense)]
    for part, at, mine in zip(dense, places, own, strict=False):
        part.minus(total.matrix.shift[at], 0, n, out=A[:, mine])
    gram = np.zeros((ends[-1], ends[-1]))
    height = max(PIECE_NUMBERS // ends[-1], LEAST_PIECE)
    for a in range(0, n, height):
        gram += weighted_gram(A[a : a + height], c[a : a + height])
        A[a : a + height] *= c[a : a + height, None]
    for i, (at, mine) in enumerate(zip(places, own, strict=True)):
        total.add_square(at, gram[mine, mine])
        for before, its in zip(places[:i], own[:i], strict=True):
            total.add(at, before, gram[mine, its])
    others = [(part, at) for part, at in parts if not isinstance(part, Dense)]
    for other, columns in others:
        block = other.t_dot(A)
        for within in _runs(other):
            for at, mine in zip(places, own, strict=True):
                total.add(_moved(within, columns.start), at, block[within, mine])
    _add_sparse(total, others, c)
    _add_tables(total, others, c)


def _add_sparse(total: _Sum, parts: list[tuple[Features, slice]], c: Array) -> None:
    """Add products of sparse columns with one another and with categories."""
    for i, (part, at) in enumerate(parts):
        if isinstance(part, Categorical):
            continue
        rows = part.tocsr().astype(np.float64)
        weighted = rows.multiply(c[:, None]).tocsr()
        total.add_square(at, (rows.T @ weighted).toarray())
        for j, (other, columns) in enumerate(parts):
            if j < i or isinstance(other, Categorical):
                block = (other.tocsr().astype(np.float64).T @ weighted).toarray()
                for within in _runs(other):
                    total.add(_moved(within, columns.start), at, block[within])


def _add_tables(total: _Sum, parts: list[tuple[Features, slice]], c: Array) -> None:
    """Add pairs of categories: of each two columns, a table of the weights of rows that have both."""
    known: list[tuple[Array, int, slice]] = []
    for part, at in parts:
        if not isinstance(part, Categorical):
            continue
        for j, within in enumerate(_runs(part)):
            size, columns = within.stop - within.start, _moved(within, at.start)
            index = np.int32 if size * len(total.matrix.shift) <= np.iinfo(np.int32).max else np.int64
            codes: Any = part.indices[:, j].astype(index)
            there = codes >= 0
            codes -= index(within.start)
            codes[~there] = -1
            total.add_diagonal(columns, _weights(codes, size, c))
            for other, width, across in known:
                pairs = codes.astype(np.result_type(codes, other)) * width
                pairs += other
                pairs[(other < 0) | ~there] = -1
                total.add(columns, across, _weights(pairs, size * width, c).reshape(size, width))
            known.append((codes, size, columns))


def _weights(codes: Array, size: int, c: Array) -> Array:
    """The weight ``(size,)`` of the rows of each code, -1 being none: as by ``bincount``, which lets no other
    thread go on."""
    return Categorical(codes[:, None], np.array([0, size]), c.dtype).t_dot(c)


def _runs(X: Features) -> list[slice]:
    """The columns of each categorical column, and all of other features."""
    if not isinstance(X, Categorical):
        return [slice(0, X.shape[1])]
    return [slice(a, b) for a, b in pairwise(X.offsets.tolist())]


def _moved(at: slice, by: int) -> slice:
    return slice(at.start + by, at.stop + by)


def _parts(X: Features) -> Iterator[tuple[Features, slice]]:
    """The parts of features, and their columns."""
    start = 0
    for part in X.parts if isinstance(X, Stacked) else (X,):
        yield part, slice(start, start + part.shape[1])
        start += part.shape[1]
