"""What second moments tell of least squares without another read: the residuals of any coefficients, and the
least penalty that leaves none, and elastic nets. Knows moments; no estimators."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.metrics.statistics import Residuals
from daskgd.queries import SecondMomentsAnswer
from daskgd.rows.statistics import Moments
from daskgd.solvers.gram import SAFE
from daskgd.solvers.quadratic import minimise

Array = NDArray[Any]

TRUSTED = 1e-10
"""Largest share of the residuals' sum of squares that its rounding may be: it is a difference of terms that
are larger, the more so the better the fit."""


def residuals_from_moments(moments: SecondMomentsAnswer, coef: Array, intercept: Array) -> Residuals | None:
    """The statistics of the residuals ``y - X w - b`` of k outputs, from second moments of ``[X | y]``; None
    where rounding leaves too few digits.

    About their mean their squares sum to ``w' A w - 2 w' B + yy``, with A, B and yy the blocks of the
    moments.

    >>> moments = SecondMomentsAnswer(2, 2.0, np.array([1.0, 2.0]), np.array([[2.0, 3.0], [3.0, 8.0]]))
    >>> residuals_from_moments(moments, np.array([[1.0]]), np.array([0.5])).left.deviation
    array([4.])
    """
    W, p = np.asarray(coef, dtype=np.float64).T, np.shape(coef)[1]
    A, B, yy = moments.matrix[:p, :p], moments.matrix[:p, p:], np.diag(moments.matrix)[p:]
    left = yy - 2 * (W * B).sum(axis=0) + (W * (A @ W)).sum(axis=0)
    size = yy + 2 * np.abs(W * B).sum(axis=0) + (np.abs(W) * (np.abs(A) @ np.abs(W))).sum(axis=0)
    mean = moments.mean[p:] - moments.mean[:p] @ W - np.asarray(intercept, dtype=np.float64)
    all_ = left + moments.weight * mean**2
    if not (left >= 0).all() or (8 * np.finfo(float).eps * size > TRUSTED * all_).any():
        return None
    targets = Moments(moments.weight, moments.mean[p:], yy)
    return Residuals(targets, Moments(moments.weight, mean, left), moments.n_rows)


def errors_from_moments(moments: SecondMomentsAnswer, coef: Array, intercept: Array) -> Array | None:
    """The mean squared errors ``(m,)`` of m models ``(m, p)`` of the one target, as by
    :func:`residuals_from_moments`."""
    p = coef.shape[1]
    A, b, yy = moments.matrix[:p, :p], moments.matrix[:p, p], moments.matrix[p, p]
    left = yy - 2 * coef @ b + ((coef @ A) * coef).sum(axis=1)
    size = yy + 2 * np.abs(coef * b).sum(axis=1) + ((np.abs(coef) @ np.abs(A)) * np.abs(coef)).sum(axis=1)
    all_ = left + moments.weight * (moments.mean[p] - coef @ moments.mean[:p] - intercept) ** 2
    if not (left >= 0).all() or (8 * np.finfo(float).eps * size > TRUSTED * all_).any():
        return None
    out: Array = all_ / moments.weight
    return out


def path_from_moments(
    moments: SecondMomentsAnswer, alphas: Array, ratio: float, fit_intercept: bool, positive: bool
) -> tuple[Array | None, Array]:
    """The elastic nets ``(m, p)`` of m penalties, strongest first, and their intercepts ``(m,)``: the minima
    of ``|y - X w - b|**2 / 2W + alpha (r |w|_1 + (1 - r) |w|**2 / 2)``. None in place of the first where the
    moments cannot vouch for them."""
    p = len(moments.mean) - 1
    A, b = moments.matrix[:p, :p] / moments.weight, moments.matrix[:p, p] / moments.weight
    mean = moments.mean if fit_intercept else np.zeros(p + 1)
    if not fit_intercept:
        A, b = A + np.outer(moments.mean[:p], moments.mean[:p]), b + moments.mean[:p] * moments.mean[p]
    root = np.sqrt(np.diag(A))
    used = root > 0
    values = (
        np.linalg.eigvalsh(A[np.ix_(used, used)] / np.outer(root[used], root[used]))
        if used.any()
        else np.ones(1)
    )
    if values[0] < SAFE * values[-1]:
        return None, np.zeros(0)
    coef, w = np.zeros((len(alphas), p)), np.zeros(p)
    for i, alpha in enumerate(alphas):
        H = A + alpha * (1 - ratio) * np.eye(p)
        w = minimise(H, b, np.full(p, alpha * ratio), w, positive)
        coef[i] = w
    return coef, mean[p] - coef @ mean[:p]


def largest_penalty(moments: SecondMomentsAnswer, fit_intercept: bool, positive: bool) -> float:
    """The least strength of ``|w|_1`` beside half the mean squared error at which all coefficients are 0: the
    largest ``|x_j' y| / W``, of columns about their means with an intercept."""
    p = len(moments.mean) - 1
    cross = moments.matrix[:p, p] / moments.weight
    if not fit_intercept:
        cross = cross + moments.mean[:p] * moments.mean[p]
    return float(max(0.0, cross.max(initial=0.0)) if positive else np.abs(cross).max(initial=0.0))
