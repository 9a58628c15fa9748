"""Separation: directions in which a fit without a penalty has no minimum, found when it has ended.

Where all rows with some feature are of one class (or have no counts), its coefficient improves the
likelihood without end (Albert & Anderson 1984), and solvers stop where the rest is below their tolerance: at
an arbitrary number. Its variance, that of the inverse of the Hessian, is large then, and the direction in
which it grows at the least cost is a candidate. Rows in memory say which candidates are directions of
recession; where they are a sample, one sweep over all rows confirms it. The file knows problems and rows; no
estimators.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Curvature, Query
from daskgd.queries.recession import Recession, RecessionAnswer
from daskgd.rows.statistics import Moments
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import EvaluateInMemory

Array = NDArray[Any]

LINKS = ("logistic", "softmax", "exp")
"""Links of losses that have no minimum along some directions."""

SURE = 1e-2
"""Curvature of a row, relative to the largest, that makes one look closer."""

LITTLE = 0.3
"""Curvature along a direction, relative to the average of all, above which it is no candidate."""

EXACT = 1e-12
"""Curvature, relative to the largest, below which rounding mixes directions: all such count as the same."""

MOST_PARAMETERS = 600

LARGE = 0.5
"""Share of the largest change of a margin by a feature, along a direction, from which on it is named."""

STILL = 0.1
"""Change of a margin by Newton's step, from the gradient of all rows and the curvature of the sample, up to
which a fit is at a minimum."""

NONE = np.zeros(0, dtype=np.intp)


def may_separate(problem: Problem) -> bool:
    """Whether an objective may fall without end, and one looks for it: without a penalty, and of no more than
    MOST_PARAMETERS parameters."""
    zero = np.zeros(problem.model.size)
    if problem.loss.inverse_link not in LINKS or not problem.model.linear or len(zero) > MOST_PARAMETERS:
        return False
    return not (problem.penalty_hessian(zero).any() or problem.penalty_l1(zero).any())


@dataclass(frozen=True, slots=True)
class AllRows:
    """What is known of all rows, where those in memory are but a sample of them.

    Attributes
    ----------
    g : (d,)
        The gradient where the fit has ended, or a step before.
    moments, sampled : Moments
        Of the features in all rows, and in the sample.
    """

    g: Array
    moments: Moments
    sampled: Moments


def separating_features(
    problem: Problem, w: Array, rows: Rows, every: AllRows | None = None
) -> Generator[tuple[Query, ...], Sequence[Any], Array]:
    """The positions of the features in whose direction the objective falls without end at w ``(d,)``: a
    generator of queries, in memory, and of one about all rows where `rows` are a sample that has candidates.
    """
    if not may_separate(problem) or not len(rows):
        return NONE
    directions, effects = np.zeros((len(w), 0)), np.zeros((0, problem.model.n_features))
    if _some_are_sure(problem, w, rows):
        ((_, g, H),) = yield (EvaluateInMemory(problem, rows, Curvature(w)),)
        directions, effects = _candidates(problem, g if every is None else every.g, H, rows)
    found: RecessionAnswer
    if len(effects):
        (found,) = yield (EvaluateInMemory(problem, rows, Recession(w, directions)),)
        if every is None:
            keep = found.recedes
        else:  # at a minimum that the sample does not know, the gradient is next to nothing
            curvature = np.einsum("im,im->m", directions, H @ directions)
            keep = found.flat | found.one_sided & (np.abs(every.g @ directions) > STILL * curvature)
        directions, effects = directions[:, keep], effects[keep]
    if every is not None:
        unseen, itself = _unseen(problem, every)
        directions, effects = np.hstack([directions, unseen]), np.vstack([effects, itself])
        if not len(effects):
            return NONE
        (found,) = yield (Recession(w, directions),)
        effects = effects[found.recedes]
    named = effects > LARGE * effects.max(axis=1, initial=0.0, keepdims=True)
    return np.flatnonzero(named.any(axis=0))


def _candidates(problem: Problem, g: Array, H: Array, rows: Rows) -> tuple[Array, Array]:
    """For each coefficient that rows say little of, the direction in which it grows while the curvature is
    least, a column of the inverse of the Hessian ``(d, m)``; and the largest change of a margin by each
    feature along it ``(m, p)``."""
    model = problem.linear
    k, p = model.outputs, model.n_features
    M, top = np.zeros((H.shape[0] // k,) * 2), np.zeros(H.shape[0] // k)
    for tile in rows.tiles():
        for _, A in tile.designs(model):
            M, top = M + A.T @ A, np.maximum(top, np.abs(A).max(axis=0, initial=0.0))
    size = np.sqrt(np.diag(M) / len(rows))
    size[size == 0] = 1.0
    values, vectors = np.linalg.eigh(M / len(rows) / np.outer(size, size))
    kept = values > 1e-10 * values[-1]  # of features that are collinear, one
    basis = vectors[:, kept] / np.sqrt(values[kept]) / size[:, None]
    apart = np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1] if problem.loss.common_shift else np.eye(k)
    B = np.kron(basis, apart)
    curvatures, axes = np.linalg.eigh(B.T @ H @ B)
    average = curvatures.mean()
    B = B @ axes
    steps = B[: p * k].T / np.maximum(curvatures, EXACT * curvatures[-1])[:, None]
    least = np.einsum("ij,ij->j", B[: p * k].T, steps) / np.maximum(np.square(steps).sum(axis=0), 1e-300)
    directions = B @ steps[:, least < LITTLE * average]
    # At a minimum Newton's steps are next to nothing, whatever margins change at most along them.
    most = (2 if k > 1 else 1) * top @ np.abs(directions.reshape(len(top), k, -1)).max(axis=1)
    curvature = np.einsum("im,im->m", directions, H @ directions)
    moves = np.abs(g @ directions) * most > STILL * curvature
    directions = directions[:, moves | (curvature < EXACT * curvatures[-1] * most**2)]
    if not directions.size:
        return np.zeros((len(H), 0)), np.zeros((0, p))
    reach = np.zeros(directions.shape[1])
    for tile in rows.tiles():
        for _, A in tile.designs(model):
            Z = (A @ directions.reshape(len(top), -1)).reshape(len(A), k, -1)
            each = np.abs(Z[:, 0]) if k == 1 else np.ptp(Z, axis=1)
            reach = np.maximum(reach, each.max(axis=0, initial=0.0))
    directions = directions[:, reach > 0] / reach[reach > 0]
    parts = np.abs(directions.reshape(len(top), k, -1)[:p]).max(axis=1)
    return directions, (parts * top[:p, None]).T


def _unseen(problem: Problem, every: AllRows) -> tuple[Array, Array]:
    """The directions ``(d, m)`` of features that differ in other rows than those of the sample, in which they
    are constant; and which feature each is of ``(m, p)``."""
    model, sample, moments = problem.linear, every.sampled, every.moments
    k, p = model.outputs, model.n_features
    varies = moments.variance > 1e-20 * moments.mean**2
    unseen = (sample.deviation == 0) & varies
    if not model.intercept:
        unseen &= sample.mean == 0
    at = np.flatnonzero(unseen)
    apart = np.eye(k) - 1 / k if problem.loss.common_shift else np.eye(k)
    scale = np.ones(p) if model.scale is None else model.scale
    center = np.zeros(p) if model.center is None else model.center
    directions = np.zeros((p + model.intercept, k, len(at), k))
    for i, j in enumerate(at):
        unit = scale[j] / np.sqrt(moments.variance[j])
        directions[j, :, i] = apart * unit
        if model.intercept:
            directions[-1, :, i] = -apart * unit * (sample.mean[j] - center[j]) / scale[j]
    return directions.reshape(model.size, -1), np.repeat(np.eye(p)[at], k, axis=0)


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
