"""The scale of Huber's loss where it is small: found by itself, where all rows are in memory.

With an epsilon near 1 the best scale is close to 0, or there is none: the objective falls with it all the
way, towards that of least absolute residuals. Newton's method in parameters and scale at once goes astray
there, as within a tiny scale there are few rows, and others with each step. For a given scale the problem is
an ordinary one; its least objective is convex in the scale, and the slope of that is known: so the scale is
made smaller until the slope says that it is small enough. The file knows problems and rows; it must
not know data sets or estimators.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Huber
from daskgd.models.linear import LinearWithScale
from daskgd.problems import Problem
from daskgd.queries import Gradient, on
from daskgd.queries.sample import SampleAnswer
from daskgd.rows.tiles import Rows
from daskgd.solvers import SubsampledNewton
from daskgd.training.together import run_in_memory

Array = NDArray[Any]

SMALL = 1.1
"""The scale is sought by itself where ``epsilon**2`` times the rows beyond it may reach that share of all."""

SHRINK = 0.2
"""Factor from one scale to the next."""

GOAL, CLOSE = 1e-8, 1e-10
"""What a wrong scale may add to the objective, relative to it; and the gap of each solution, at which the
slope is that of the least objective."""

MOST_SCALES = 100

LEAST = 1e-3
"""Objective, relative to the deviation of the targets, below which it is no longer the scale of the gap."""


def choose_scale(
    problem: Problem, solver: SubsampledNewton, sample: SampleAnswer, w: Array
) -> tuple[Problem, Array, float]:
    """Fix the scale of Huber's loss where it is small and the sample is all rows: the problem, its solution,
    and what the scale adds to the objective at most, relative to it. Elsewhere all as they are."""
    rows, loss = replace(sample.rows, dtype=np.dtype(float)), problem.loss
    assert isinstance(loss, Huber)
    n = len(rows)
    if not (n > 0 and w[-1] > 0) or loss.epsilon**2 * max(n - len(w) + 1, 0) > SMALL * n:
        return problem, w, 0.0
    if not sample.complete:  # whose slope along the scale is not that of all rows
        return problem, w, 0.0
    line, scale, low, high = w[:-1], float(w[-1]), 0.0, 0.0
    least = LEAST * scale  # objectives below it count as this
    low_slope = high_slope = 0.0
    for _ in range(MOST_SCALES):
        at = _fixed(problem, scale)
        line = run_in_memory(solver.solved(at, rows, line, CLOSE)).w
        f, slope = _slope(problem, rows, line, scale)
        # Convex: the least objective is within the slope times the way to the other end of the bracket.
        if slope > 0:
            high, high_slope = scale, slope
        else:
            low, low_slope = scale, slope
        f = max(f, least)
        if abs(slope) * ((high or scale) - low) <= GOAL * f:
            break
        if high and low:
            scale = _between(low, low_slope, high, high_slope)
        elif slope > 0:
            scale *= SHRINK
        else:
            scale /= SHRINK
    return at, line, abs(slope) * ((high or scale) - low) / f


def _fixed(problem: Problem, scale: float) -> Problem:
    """The problem of the other parameters at this scale."""
    model, loss = problem.model, problem.loss
    assert isinstance(model, LinearWithScale)
    assert isinstance(loss, Huber)
    penalty = problem.penalty.restrict(np.arange(model.size - 1))
    return replace(problem, loss=loss.at(scale), model=model.line, penalty=penalty)


def _slope(problem: Problem, rows: Rows, line: Array, scale: float) -> tuple[float, float]:
    """The objective, and its slope along the scale."""
    f, g = on(rows, problem, Gradient(np.append(line, scale)))
    return float(f), float(g[-1])


def _between(low: float, low_slope: float, high: float, high_slope: float) -> float:
    """The next scale in a bracket: where the slope would be 0 were it linear, well inside."""
    share = float(np.clip(-low_slope / (high_slope - low_slope), 0.1, 0.9))
    return low + share * (high - low) if high < 4 * low else float(np.sqrt(low * high))
