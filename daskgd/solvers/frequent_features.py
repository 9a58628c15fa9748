"""A preconditioner for many sparse features: correlations among the most frequent ones, and the diagonal of
all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from daskgd.problems import Problem
from daskgd.solvers.base import ComputeInMemory
from daskgd.solvers.hessian_free import HessianOperator

Array = NDArray[Any]

MOST_FREQUENT, LEAST_COUNT, ROWS_OF_EACH = 1000, 20, 64
"""Features whose correlations are taken, at most; rows of the sample that have each of them, at least; and
rows for each of them from which they are taken."""


@dataclass(frozen=True, slots=True)
class FrequentCorrelations:
    """The correlations R of the frequent features in the Hessian, averaged over outputs, factorised.

    With the diagonal D of the Hessian they make a preconditioner,

        M = D^(1/2) (R (+) I) D^(1/2).

    In text and categories few features make most of all entries; of the others little is known but how often
    they occur.

    Attributes
    ----------
    frequent : (h,)
        Positions of these features, and of the intercept after them.
    factor : (h, h)
        The lower factor of R, by Cholesky.
    """

    frequent: Array
    factor: Array

    def solve(self, r: Array, diagonal: Array, outputs: int) -> Array:
        """The product ``M^-1 r``, r and the diagonal ``(d,)``."""
        if not len(self.frequent):
            return r / diagonal
        scale = 1 / np.sqrt(diagonal)
        q = r * scale
        Z = q[: len(q) // outputs * outputs].reshape(-1, outputs)  # a view; scales of a model come after it
        Z[self.frequent] = cho_solve((self.factor, True), Z[self.frequent], check_finite=False)
        q *= scale
        return q


@dataclass(frozen=True, slots=True, eq=False)
class CorrelateFrequent(ComputeInMemory):
    """Work in memory: :class:`FrequentCorrelations` of the Hessian over `rows` at w ``(d,)``."""

    w: Array

    def compute(self, threads: int) -> FrequentCorrelations:
        operator, model = HessianOperator(self.problem, self.rows, self.w, threads), self.problem.linear
        counts = self.rows.X.counts()
        frequent = np.sort(np.argsort(-counts, kind="stable")[:MOST_FREQUENT])
        frequent = frequent[counts[frequent] >= LEAST_COUNT]
        G = operator.sandwich(frequent, ROWS_OF_EACH * len(frequent))
        if model.intercept:
            frequent = np.append(frequent, model.n_features)
        penalty = operator.penalty.reshape(-1, model.outputs).mean(axis=1)
        return factorised(frequent, G, penalty[frequent])


def factorised(frequent: Array, G: Array, penalty: Array) -> FrequentCorrelations:
    """The correlations from second moments G ``(h, h)`` and the penalty's diagonal ``(h,)``; none where they
    are not definite."""
    size = np.sqrt(np.diagonal(G) + penalty)
    size[size == 0] = 1.0
    R = G / size / size[:, None]
    R[np.diag_indices(len(R))] = 1.0
    try:
        factor = np.tril(cho_factor(R, lower=True, check_finite=False)[0])
    except LinAlgError:
        return FrequentCorrelations(frequent[:0], np.zeros((0, 0)))
    return FrequentCorrelations(frequent, factor)


def evidence(problem: Problem, X: Any) -> Array:
    """The strength of a penalty of squares, one for each parameter ``(d,)``, that stands for a row of its own
    for each feature: what is seen in few of the rows of X hardly moves under it."""
    model = problem.linear
    n, counts = max(len(X), 1), X.counts()
    squares = X.squares_t_dot(np.ones((len(X), 1)), 0.0)[:, 0] / np.maximum(counts, 1)
    each = np.where(counts > 0, squares, 1.0) / n
    if model.scale is not None:
        each = each / model.scale**2
    return np.append(np.repeat(each, model.outputs), np.zeros(model.size - model.n_features * model.outputs))
