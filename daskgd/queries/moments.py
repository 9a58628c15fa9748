"""The queries of least squares: second moments, and residuals in float64. Knows no solver and no penalty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.base import Query, check_finite, total_weight
from daskgd.queries.sums import Sums
from daskgd.rows.statistics import CUT, Comoments
from daskgd.rows.tiles import Rows, Tile

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SecondMomentsAnswer:
    """Second moments of the columns ``[X | y]``, q of them.

    Attributes
    ----------
    n_rows : int
        Rows read.
    weight : float
        Sum of the sample weights W.
    mean : (q,)
        Weighted means.
    matrix : (q, q)
        ``sum_i s_i (z_i - mean) (z_i - mean)'``, not divided by W.
    """

    n_rows: int
    weight: float
    mean: Array
    matrix: Array


@dataclass(frozen=True, slots=True)
class SecondMoments(Query):
    """The second moments of features and numeric targets, about their means, in float64: answers a
    :class:`SecondMomentsAnswer`.

    Targets are taken as stored. Needs q x q numbers, and q^2 / 2 operations a row. What is not finite, and
    weights that are negative, it leaves for a :class:`Survey` in the same sweep to refuse.
    """

    scope: ClassVar[str] = "block"  # a tile has hardly more rows than a wide matrix has columns
    name: ClassVar[str] = "second-moments"

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * n_features**2

    def block(self, problem: Problem | None, rows: Rows) -> Sums:
        s = None if rows.sample_weight is None else rows.sample_weight.astype(np.float64, copy=False)
        return Sums(n_rows=len(rows), moments=rows.X.comoments(rows.y, s))

    def answer(self, problem: Problem | None, sums: Sums) -> SecondMomentsAnswer:
        moments: Comoments = sums["moments"]
        return SecondMomentsAnswer(sums["n_rows"], moments.weight, moments.mean, moments.full)


@dataclass(frozen=True, slots=True, eq=False)
class Residuals(Query):
    """The moments of the residuals ``r = (x - center) W - (y - target)``, of targets as stored, in float64.

    Answers ``(mean (k,), square (k,), cross (p, k))``: the weighted means over rows of r, of ``r**2`` and of
    ``(x - center) r'``. The gradient of least squares, with the digits that float32 kernels lack: X is
    converted and centred a cut at a time.

    Attributes
    ----------
    W : (p, k)
    center : (p,)
    target : (k,)
    """

    name: ClassVar[str] = "residuals"
    W: Array
    center: Array
    target: Array

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        assert tile.y is not None
        p, k = self.W.shape
        W = np.require(self.W, np.float64, ["C", "A"])
        y, s = tile.y.reshape(len(tile), k), tile.sample_weight
        if problem is not None and problem.subset is not None:
            s = problem.make_targets(tile)[1]
        total, square, cross = np.zeros(k), np.zeros(k), np.zeros((p, k))
        height = max(128, CUT * len(tile) // max(tile.X.n_stored, 1))
        for a in range(0, len(y), height):
            cut = slice(a, a + height)
            D = tile.X.slice(a, a + height).standardised(self.center, None, np.dtype(np.float64))
            R = D.dot(W) - (y[cut].astype(np.float64) - self.target)
            S = R if s is None else R * s[cut][:, None]
            total += np.ones(len(S)) @ S
            square += np.einsum("ij,ij->j", R, S)
            cross += D.t_dot(S)
        check_finite(tile, total, square, cross)
        return Sums(total=total, square=square, cross=cross, weight=total_weight(tile, s))

    def answer(self, problem: Problem | None, sums: Sums) -> tuple[Array, Array, Array]:
        weight = sums["weight"]
        return sums["total"] / weight, sums["square"] / weight, sums["cross"] / weight
