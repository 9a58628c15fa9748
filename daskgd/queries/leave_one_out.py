"""Leave-one-out errors of ridge regression in one read, from the leverage of each row.

Without row i the residual is ``e_i / (1 - h_i)``, with h_i the leverage of the row (Cook & Weisberg 1982,
section 2.2; Golub, Heath & Wahba 1979 for ridge). Knows moments; no solver.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries.base import Query, check_finite
from daskgd.queries.moments import SecondMomentsAnswer
from daskgd.queries.sums import Sums
from daskgd.rows.statistics import CUT, Moments
from daskgd.rows.tiles import Tile

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class LeaveOneOut(Query):
    """The residuals of each row in a ridge regression without it, under m penalties: answers their moments,
    of m times k columns, those of the first penalty first, and the number of rows.

    With the eigenvectors V and eigenvalues l of the second moments of X about `center`, and W the total
    weight,

        h_i = s_i (1 / W + sum_j ((x_i - center) V)_j**2 / (l_j + alpha)),

    without the first term where there is no intercept.

    Attributes
    ----------
    center, target : (p,), (k,)
        What features and targets are taken about: means, or 0 without an intercept.
    vectors, values : (p, p), (p,)
    alphas : (m,)
    coef : (p, m k)
        Of each penalty and target.
    constant : float
        ``1 / W``, or 0 without an intercept.
    """

    name: ClassVar[str] = "leave-one-out"
    compute_bound: ClassVar[bool] = True
    by_row_number: ClassVar[bool] = True  # a row of weight 2 is left out as a whole
    center: Array
    target: Array
    vectors: Array
    values: Array
    alphas: Array
    coef: Array
    constant: float

    @classmethod
    def of(cls, moments: SecondMomentsAnswer, n_features: int, alphas: Array, intercept: bool) -> LeaveOneOut:
        """The query for data with these second moments of ``[X | y]``."""
        p, matrix, mean = n_features, moments.matrix, moments.mean
        if not intercept:
            matrix, mean = matrix + moments.weight * np.outer(mean, mean), np.zeros_like(mean)
        values, vectors = np.linalg.eigh(matrix[:p, :p])
        values = np.maximum(values, 0.0)
        cross = vectors.T @ matrix[:p, p:]
        coef = np.hstack([vectors @ (cross / (values + alpha)[:, None]) for alpha in alphas])
        constant = 1 / moments.weight if intercept else 0.0
        return cls(mean[:p], mean[p:], vectors, values, alphas, coef, constant)

    def result_nbytes(self, problem: Problem | None, n_features: int) -> int:
        return 8 * 2 * self.coef.shape[1]

    def tile(self, problem: Problem | None, tile: Tile) -> Sums:
        assert tile.y is not None
        m, k = len(self.alphas), len(self.target)
        y = tile.y.reshape(len(tile), k).astype(np.float64) - self.target
        height = max(128, CUT // max(len(self.center), 1))
        parts = []
        for a in range(0, max(len(y), 1), height):
            cut = slice(a, a + height)
            s = None if tile.sample_weight is None else tile.sample_weight[cut]
            X = tile.X.slice(a, a + height).standardised(None, None, np.dtype(np.float64))
            D = X.dot(np.eye(len(self.center))) - self.center
            h = self.constant + (D @ self.vectors) ** 2 @ (1 / (self.values[:, None] + self.alphas))
            if s is not None:
                h = h * s[:, None]
            left = np.tile(y[cut], (1, m)) - D @ self.coef
            parts.append(Moments.of(left / np.repeat(1 - h, k, axis=1), s))
        found = reduce(lambda one, other: one + other, parts)
        check_finite(tile, found.mean, found.deviation)
        return Sums(moments=found, n_rows=len(tile))

    def answer(self, problem: Problem | None, sums: Sums) -> tuple[Moments, int]:
        return sums["moments"], int(sums["n_rows"])
