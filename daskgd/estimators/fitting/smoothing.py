"""Smoothing of losses with kinks: how wide, is chosen on the sample before the first full sweep.

The absolute value, the quantile's pinball, the hinge: where their gradient jumps, a hyperbola of some width
takes over, so that Newton's method applies. What that adds to the objective is measured, not guessed, and the
width is made smaller until it is below the tolerance. The file knows problems and a sample of rows; it must
not know data sets or estimators.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Curvature, Gradient, on
from daskgd.queries.excess import Excess
from daskgd.queries.sample import SampleAnswer
from daskgd.rows.tiles import Rows, Tile
from daskgd.solvers import Newton, SubsampledNewton
from daskgd.solvers.base import SolveInMemory, Steps
from daskgd.solvers.newton import decrement
from daskgd.solvers.sampled_hessian import forms_hessian
from daskgd.training.together import run_in_memory

Array = NDArray[Any]


SHRINK = 0.2
"""Factor from one width to the next."""

NARROWEST = 1e-10
"""Width relative to the spread of the targets at which it is not made smaller any more."""

PART, PART_ROWS = 16, 25
"""The widest smoothings are solved on one in so many rows of the sample, if these are so many for each
parameter: all that is wanted of them is where to go on from."""

CLOSE = 0.01
"""Gap to which each width is solved, relative to what it is expected to add to the objective."""

COARSE = 1e-2
"""Share of the objective that smoothing adds from which on all rows of the sample are used."""

BEND = 1e-4
"""Curvature of a smoothed kink, times its width, below which it is straight: some 17 widths away."""

NEAREST, FEWER = 10, 0.5
"""Rows for each parameter that are taken for near a kink, at least; and the share of all rows up to which the
solution is sought on those near kinks."""

LEAPS, LEAP, LEAP_TOL, LEAP_STEPS = 2, 0.03, 1e-13, 12
"""Leaps from the last width to much smaller ones, the factor of each, the relative gap to which they are
solved, and the most steps of Newton's method for that."""

BAND = 5
"""Fewest rows near a kink for each parameter, where the sample is not all rows."""


def choose_smoothing(
    problem: Problem,
    solver: SubsampledNewton,
    sample: SampleAnswer,
    w: Array,
    tol: float,
    *,
    leap: bool = True,
) -> tuple[Problem, Array, float]:
    """Smooth the loss of a problem: the new problem, its solution on the sample, and the error of smoothing.

    The error is what smoothing adds to the objective at most, relative to it.
    From wide to narrow, each solution the start of the next (graduated smoothing), until what is added is
    below `tol` (a hundredth of it where the sample is all rows), or too few rows of the sample would lie near
    a kink. With `leap`, and where the sample is all rows, leaps to much smaller widths follow.
    """
    rows = replace(sample.rows, dtype=np.dtype(float))
    k = problem.model.outputs
    if k > 1 and sample.complete and problem.loss.separate:
        return _each_smoothed(problem, solver, replace(sample, rows=rows), w, tol)
    width = spread = _spread(problem, rows)
    goal = min(tol / 100, 1e-8) if sample.complete else max(tol, 1e-7)
    share = 1.0
    enough = len(rows) >= PART * PART_ROWS * len(w)
    some = rows.select(np.arange(0, len(rows), PART)) if enough else rows
    while True:
        smooth = replace(problem, loss=problem.loss.smoothed(width))
        # No closer than what the next width adds; where the fit may end, much closer.
        near = float(np.clip(SHRINK**2 * share * CLOSE, 1e-9, 1e-2))
        found = None
        if some is rows and share <= COARSE and problem.model.outputs == 1:
            found = _solved_near_kinks(problem, smooth, solver, rows, w, near, share)
        if found is None:
            solved = run_in_memory(solver.solved(smooth, some, w, near))
            found = (solved.w, solved.f) if np.isfinite(solved.f) else (w, solved.f)
        w, f = found
        added, band = on(some, smooth, Excess(w))
        share = added / max(f, 1e-3 * spread)
        few_near = band * SHRINK < BAND * len(w)
        if some is not rows and (share <= COARSE or few_near):
            some = rows  # from here on every row counts
            continue
        if share <= goal or (few_near and not sample.complete) or width <= NARROWEST * spread:
            leaps = leap and share <= goal and sample.complete and k == 1
            return (_leap(problem, smooth, rows, w) if leaps else None) or (smooth, w, share)
        # What is added falls with the square of the width; no narrower than that takes.
        width *= float(max(SHRINK, np.sqrt(goal / (2 * share))))


def _leap(problem: Problem, smooth: Problem, rows: Rows, w: Array) -> tuple[Problem, Array, float] | None:
    """The problem at a width much smaller than that of `smooth`, its solution, and the error that is left;
    None where that is no short way from w ``(d,)``.

    Once it is settled at which kinks rows lie, and on which side of the others, the solution is linear in the
    width: at a kink the residual is the width times a function of the dual variable, which stays as it is. So
    the derivative of the solution by the width leads to where the next one is.
    """
    if not forms_hessian(smooth):
        return None
    few, width, reached = condensed(problem, smooth, rows, w), smooth.loss.width, smooth  # type: ignore[attr-defined]

    def at(width: float) -> Problem:
        return replace(problem, loss=problem.loss.smoothed(width))

    def solve(smooth: Problem, w: Array) -> Steps:
        (found,) = yield (SolveInMemory(smooth, few, Newton(), w, LEAP_TOL, LEAP_STEPS),)
        return found if found.gap <= LEAP_TOL * found.f else None

    found = run_in_memory(solve(smooth, w))
    for _ in range(LEAPS):
        if found is None:
            return None
        _, _, H = on(few, at(width), Curvature(found.w))
        wider, narrower = (on(few, at(c * width), Gradient(found.w))[1] for c in (1.01, 0.99))
        free = np.flatnonzero((found.w != 0) | ~problem.model.penalised)  # with L1, zeros stay zeros
        along = np.zeros_like(w)
        along[free] = decrement(H[np.ix_(free, free)], (wider - narrower)[free] / 0.02)[0]
        reached = at(LEAP * width)
        found, width = run_in_memory(solve(reached, found.w + (LEAP - 1) * along)), LEAP * width
    if found is None:
        return None
    f, _ = on(rows, reached, Gradient(found.w))
    if abs(f - found.f) > 10 * LEAP_TOL * f:  # rows that stood for others have come to kinks
        return None
    return reached, found.w, on(rows, reached, Excess(found.w))[0] / f


def _each_smoothed(
    problem: Problem, solver: SubsampledNewton, sample: SampleAnswer, w: Array, tol: float
) -> tuple[Problem, Array, float]:
    """The same, each output by itself: the smoothing is as narrow as the one that needs it narrowest."""
    k = problem.model.outputs
    found = []
    for j in range(k):
        one, its = problem.output(j, sample.rows)
        part, start = replace(sample, rows=its), w.reshape(-1, k)[:, j]
        found.append(choose_smoothing(one, solver, part, start, tol, leap=False))
    width = min(one.loss.width for one, _, _ in found)  # type: ignore[attr-defined]
    start = np.stack([start for _, start, _ in found], axis=1).ravel()
    return replace(problem, loss=problem.loss.smoothed(width)), start, max(error for _, _, error in found)


def _solved_near_kinks(
    problem: Problem,
    smooth: Problem,
    solver: SubsampledNewton,
    rows: Rows,
    w: Array,
    tol: float,
    share: float,
) -> tuple[Array, float] | None:
    """The solution from w on the rows near kinks, and the objective of all rows there; None where these rows
    are many, or others come to a kink on the way, which moves the objective by more than that share of it."""
    few = condensed(problem, smooth, rows, w)
    if len(few) >= FEWER * len(rows):
        return None
    solved = run_in_memory(solver.solved(smooth, few, w, tol))
    f, _ = on(rows, smooth, Gradient(solved.w))
    return (solved.w, f) if abs(f - solved.f) <= SHRINK * share * f else None


def condensed(problem: Problem, smooth: Problem, rows: Rows, w: Array) -> Rows:
    """Rows that stand for all in a problem with kinks, near w ``(d,)``: those within some widths of a kink,
    and the means of the others.

    Away from its kinks the loss of a row is linear in the margin, and the margin in the features: of rows
    with the same slope, and the same label, the sum of the losses is that of their mean, as long as none of
    them comes to a kink.
    """
    classes, n = problem.labels is not None, len(rows)
    curved, kinds, weights = np.empty(n), np.empty(n, complex), np.ones(n)
    for at, tile in _numbered(rows):
        here, (y, _) = slice(at, at + len(tile)), tile.targets(problem)
        z = problem.margins(w, tile.X)
        curved[here] = smooth.loss.hessian(z, y)
        kinds[here] = np.round(problem.loss.gradient(z, y), 9) + 1j * (y if classes else 0)
        if tile.sample_weight is not None:  # those of classes stay with the problem
            weights[here] = tile.sample_weight
    nearest = min(NEAREST * len(w), n)
    straight = min(BEND / smooth.loss.width, np.partition(curved, n - nearest)[n - nearest])  # type: ignore[attr-defined]
    far, y = curved < straight, np.asarray(rows.y).reshape(n)
    kept = rows.select(np.flatnonzero(~far), rows.dtype)
    of_kind = np.array([np.where(far & (kinds == kind), weights, 0.0) for kind in np.unique(kinds[far])])
    of_kind = of_kind[of_kind.any(axis=1)].T if len(of_kind) else np.zeros((n, 0))
    if not of_kind.shape[1]:
        return kept
    totals = of_kind.sum(axis=0)
    share = of_kind / totals
    X = np.zeros((share.shape[1], rows.X.shape[1]))
    for at, tile in _numbered(rows):
        X += tile.X.t_dot(share[at : at + len(tile)]).T
    y_means = y[np.argmax(of_kind, axis=0)] if classes else y @ share
    y, s = np.concatenate([y[~far], y_means]), np.concatenate([weights[~far], totals])
    return Rows(kept.X.concat(kept.X.of_array(X)), y, s, 0, dtype=rows.dtype)


def _numbered(rows: Rows) -> Iterator[tuple[int, Tile]]:
    """The tiles of rows, and at which row each begins."""
    at = 0
    for tile in rows.tiles():
        yield at, tile
        at += len(tile)


def _spread(problem: Problem, rows: Rows) -> float:
    """The standard deviation of the targets; 1 for labels, whose margins are of that size."""
    if problem.labels is not None or rows.y is None:
        return 1.0
    y = rows.y.reshape(len(rows), -1)[:, 0].astype(float)
    s = rows.sample_weight
    return float(np.sqrt(np.cov(y, aweights=s, bias=True))) or 1.0
