"""Separation: directions in which a fit without a penalty has no minimum, found when it has ended.

Where all rows with some feature are of one class (or have no counts), its coefficient improves the
likelihood without end (Albert & Anderson 1984), and solvers stop where the rest is below their tolerance: at
an arbitrary number. Along such a direction the rows tell nothing any more: their information, the curvature
of the loss summed over rows, is that of far less than one row. The file knows problems and rows; no
estimators.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Gradient, Hessian, on
from daskgd.rows.tiles import Rows

Array = NDArray[Any]

LINKS = ("logistic", "softmax", "exp")
"""Links of losses that have no minimum along some directions."""

SURE = 1e-5
"""Curvature of a row, relative to the largest, that makes one look closer."""

LITTLE = 0.05
"""Rows' worth of information along a direction below which nothing is known of it."""

STEP = 0.3
"""Change of a margin by Newton's step along a direction at the end, from which on there is no end to it."""

MOST_PARAMETERS = 600

LARGE = 0.3
"""Share of the largest coefficient of a direction from which on a feature is named."""


def separating_features(problem: Problem, w: Array, rows: Rows, weight: float) -> Array:
    """The positions of the features in whose direction the objective falls without end at w ``(d,)``; none
    where there is a minimum, and where nobody looked: with a penalty, or many parameters.

    `weight` is that of all rows, for which `rows` stand.
    """
    none = np.zeros(0, dtype=np.intp)
    zero = np.zeros_like(w)
    if problem.loss.inverse_link not in LINKS or not problem.model.linear or len(w) > MOST_PARAMETERS:
        return none
    if problem.penalty_hessian(zero).any() or problem.penalty_l1(zero).any() or not len(rows):
        return none
    if not _some_are_sure(problem, w, rows):
        return none
    model = problem.linear
    k, moments, total = model.outputs, np.zeros((0, 0)), 0.0
    for tile in rows.tiles():
        A = model.design_matrix(tile.X).astype(float)
        moments = A.T @ A + (moments if len(moments) else 0.0)
        total += len(A)
    values, vectors = np.linalg.eigh(moments / total)
    kept = values > 1e-10 * values[-1]  # of features that are collinear, one
    basis = vectors[:, kept] / np.sqrt(values[kept])
    apart = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1] if problem.loss.common_shift else np.eye(k)
    directions = np.kron(basis, apart)
    H, (_, g) = on(rows, problem, Hessian(w)), on(rows, problem, Gradient(w))
    curvatures, axes = np.linalg.eigh(directions.T @ H @ directions)
    found = np.zeros(model.n_features)
    for curvature, axis in zip(curvatures, axes.T, strict=True):
        v = directions @ axis
        reach = max(_reach(problem.margins(v, tile.X)) for tile in rows.tiles())
        if not weight * curvature < LITTLE * reach * reach:
            break
        # Of a minimum, Newton's step would be next to nothing by now.
        if not abs(float(g @ v)) * reach > STEP * curvature:
            continue
        found = np.maximum(found, np.abs(v.reshape(-1, k)[: model.n_features]).max(axis=1))
    return np.flatnonzero(found > LARGE * found.max(initial=0.0)) if found.any() else none


def _some_are_sure(problem: Problem, w: Array, rows: Rows) -> bool:
    """Whether the curvature of some rows is far below that of others."""
    least, most = np.inf, 0.0
    for tile in rows.tiles():
        y, _ = tile.targets(problem)
        loss = problem.loss
        each = np.abs(loss.hessian_diagonal(loss.hessian_factor(problem.margins(w, tile.X), y)))
        each = each.reshape(len(tile), -1).max(axis=1, initial=0.0)
        least, most = min(least, float(each.min(initial=np.inf))), max(most, float(each.max(initial=0.0)))
    return least < SURE * most


def _reach(z: Array) -> float:
    """The largest change of a margin, or with several outputs of one relative to another."""
    each = np.abs(z) if z.ndim == 1 else np.ptp(z, axis=1)
    return float(each.max(initial=0.0))
