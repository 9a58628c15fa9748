"""Smoothing of losses with kinks: how wide, is chosen on the sample before the first full sweep.

The absolute value, the quantile's pinball, the hinge: where their gradient jumps, a hyperbola of some width
takes over, so that Newton's method applies. What that adds to the objective is measured, not guessed, and the
width is made smaller until it is below the tolerance. The file knows problems and a sample of rows; it must
not know data sets or estimators.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import on
from daskgd.queries.excess import Excess
from daskgd.queries.sample import SampleAnswer
from daskgd.rows.tiles import Rows
from daskgd.solvers import SubsampledNewton
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

BAND = 5
"""Fewest rows near a kink for each parameter, where the sample is not all rows."""


def choose_smoothing(
    problem: Problem, solver: SubsampledNewton, sample: SampleAnswer, w: Array, tol: float
) -> tuple[Problem, Array, float]:
    """Smooth the loss of a problem: the new problem, its solution on the sample, and the error of smoothing.

    The error is what smoothing adds to the objective at most, relative to it.
    From wide to narrow, each solution the start of the next (graduated smoothing), until what is added is
    below `tol` (a hundredth of it where the sample is all rows), or too few rows of the sample would lie near
    a kink.
    """
    rows = replace(sample.rows, dtype=np.dtype(float))
    width = spread = _spread(problem, rows)
    goal = min(tol / 100, 1e-8) if sample.complete else max(tol, 1e-7)
    share = 1.0
    enough = len(rows) >= PART * PART_ROWS * len(w)
    some = rows.select(np.arange(0, len(rows), PART)) if enough else rows
    while True:
        smooth = replace(problem, loss=problem.loss.smoothed(width))
        # No closer than what the next width adds; where the fit may end, much closer.
        near = np.clip(SHRINK**2 * share * CLOSE, 1e-9, 1e-2)
        solved = run_in_memory(solver.solved(smooth, some, w, float(near)))
        if np.isfinite(solved.f):
            w = solved.w
        added, band = on(some, smooth, Excess(w))
        share = added / max(solved.f, 1e-3 * spread)
        few_near = band * SHRINK < BAND * len(w)
        if some is not rows and (share <= COARSE or few_near):
            some = rows  # from here on every row counts
            continue
        if share <= goal or (few_near and not sample.complete) or width <= NARROWEST * spread:
            return smooth, w, share
        # What is added falls with the square of the width; no narrower than that takes.
        width *= float(min(max(SHRINK, np.sqrt(goal / (2 * share))), 0.9))


def _spread(problem: Problem, rows: Rows) -> float:
    """The standard deviation of the targets; 1 for labels, whose margins are of that size."""
    if problem.labels is not None or rows.y is None:
        return 1.0
    y = rows.y.reshape(len(rows), -1)[:, 0].astype(float)
    s = rows.sample_weight
    return float(np.sqrt(np.cov(y, aweights=s, bias=True))) or 1.0
