"""The Hessian of a sample as a matrix: when it is formed, over which rows, and what these do not see."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.rows.random_numbers import row_random_numbers
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows

Array = NDArray[Any]

MATRIX, MATRIX_WITH_KINKS, MATRIX_L1, MATRIX_L1_SHARED = 100, 1000, 1500, 250
"""Parameters up to which a problem over rows in memory is solved with its Hessian as a matrix: of smooth loss
and penalty; of losses with kinks; with L1, whose steps end at the minimum of their model then; and with L1
where all outputs share a loss, as in softmax."""

MATRICES_WORK = 3e10
"""Rows times squared parameters of an output, over all separate outputs, up to which each has its matrix."""

MATRIX_WORK = 5e6
"""Rows times squared parameters up to which that is so of all rows, where loss and penalty are smooth."""


def most_for_matrix(problem: Problem) -> int:
    """The most parameters with which the Hessian over rows in memory is formed."""
    if problem.penalty.smooth:
        return MATRIX_WITH_KINKS if problem.loss.nonsmooth else MATRIX
    return MATRIX_L1 if problem.loss.separate else MATRIX_L1_SHARED


def forms_hessian(problem: Problem, n_rows: int = 0) -> bool:
    """Whether a problem over rows in memory, and over `n_rows` of them where these are all that there are, is
    solved with its Hessian as a matrix, rather than by products with it.

    A Hessian takes ``n d**2 / 2`` operations and its eigenvectors ``10 d**3``, some six times; products take
    ``4 n d``, some fifty times, at a seventh of the speed. Where the answer need not be closer than the
    tolerance, as it is on all rows, some ten products and gradients are enough.
    """
    smooth = problem.penalty.smooth and not problem.loss.nonsmooth
    outputs = problem.model.outputs if problem.loss.separate else 1  # each is solved by itself
    each = problem.model.size // outputs
    if smooth and n_rows * each**2 > MATRIX_WORK:
        return False
    if outputs > 1 and n_rows * each**2 * outputs > MATRICES_WORK:
        return problem.model.size <= most_for_matrix(problem)
    return each <= most_for_matrix(problem)


def hessian_work(problem: Problem) -> float:
    """The multiplications that the Hessian takes for each row."""
    model = problem.model
    return model.n_features**2 * model.outputs * (model.outputs + 1) / 2 + 1.0


def draw_by_curvature(curvature: Array, most: int) -> tuple[Array, Array]:
    """The positions of about `most` rows, drawn in proportion to their curvature ``(n,)``, and the
    probability with which each of them was."""
    size = curvature + (1e-3 * curvature.mean() + np.finfo(float).tiny)
    share = np.minimum(size * (most / size.sum()), 1.0)
    at = np.flatnonzero(row_random_numbers(np.arange(len(size)), 0, 0) < share)
    return at, share[at]


def curvature_weighted_subsample(problem: Problem, rows: Rows, w: Array, most: int) -> Rows:
    """About `most` of the rows, weighted to stand for all, drawn in proportion to the curvature of their loss
    at w: rows of which the model is sure tell nothing of the Hessian."""
    parts = []
    for tile in rows.tiles():
        y, s = tile.targets(problem)
        factor = problem.loss.hessian_factor(problem.margins(w, tile.X), y)
        each = np.abs(problem.loss.hessian_diagonal(factor)).reshape(len(tile), -1).sum(axis=1)
        parts.append(each if s is None else each * s)
    size = np.concatenate(parts)
    at, share = draw_by_curvature(size, most)
    weights = 1 / share if rows.sample_weight is None else rows.sample_weight[at] / share
    # The mean is over all rows: their weight stands in one row less where the draw was lucky, more where not.
    total = len(rows) if rows.sample_weight is None else rows.sample_weight.sum()
    weights *= total / weights.sum()
    return replace(rows.select(at), sample_weight=weights)


def unseen_curvature(problem: Problem, lacking_each: Array, n_rows: int, H: Array) -> Array:
    """The curvature to add to the diagonal ``(d,)`` for features that vary less in the sample than in the
    data.

    A column that is nearly always 0 may be so throughout the sample, which then knows nothing of its
    curvature. In standardised units the data's variance is 1; what the sample lacks of it is filled up at the
    average curvature. With few rows for each parameter some more is added, in proportion.
    """
    model = problem.model
    diagonal = np.diag(H)
    out = np.zeros(len(H))
    few = len(H) / max(n_rows, 1)
    if few > 0.1:
        out += 0.1 * few * diagonal
    lacking = np.repeat(lacking_each, model.outputs)
    typical = float(np.median(diagonal[: len(lacking)]))
    out[: len(lacking)] += typical * lacking
    return out


def lacking_variance(problem: Problem, moments: Moments | None) -> Array:
    """Twice the share of each feature's variance that the sample lacks beyond a half, ``(p,)``; 0 where the
    data's variance is not known."""
    model = problem.linear
    if model.scale is None or moments is None:
        return np.zeros(model.n_features)
    center = 0.0 if model.center is None else model.center
    seen = (moments.variance + (moments.mean - center) ** 2) / model.scale**2
    seen = np.where(model.scale == 1.0, np.maximum(seen, 1.0), seen)  # constant columns
    out: Array = np.clip(1 - 2 * seen, 0.0, 1.0)
    return out
