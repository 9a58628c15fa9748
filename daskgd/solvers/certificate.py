"""The certificate of first-order solvers: before a fit is said to have converged, its gap is measured.

L-BFGS, FISTA and gradient descent guess their gap from the path so far, and in flat directions that they have
not walked a guess can be too small by far. Once it says that the fit is done, one sweep takes the Hessian (or
some take products with it, where there are too many parameters): half the squared Newton decrement is the gap
near a minimum. Where it is larger than the guess, later guesses are raised by as much.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from daskgd.problems import Problem
from daskgd.queries import Curvature
from daskgd.solvers.base import Solver, State, Steps, Tolerance
from daskgd.solvers.newton import DENSE, newton_step
from daskgd.solvers.newton_cg import conjugate_gradients

FORCING, PRODUCTS = 0.1, 50
"""Relative residual of the Newton system by products, and as many of them at most."""

CAUTION = 10.0
"""Factor on the guess where nothing is measured: kinks of a penalty on very many parameters."""

MOST_MISTRUST = 1e6

ROUNDING = 1e-9
"""Slope, relative to the objective, below which it is rounding."""


def iterate(solver: Solver, problem: Problem, state: Any) -> Steps:
    """The State after one more iteration of the solver, its gap measured where it says that it is done."""
    new = yield from solver.iterate(problem, state)
    measurable = solver.extrapolates and problem.model.linear and problem.loss.convex and problem.loss.smooth
    if not measurable or not np.isfinite(new.f) or not (new.stalled or 0 < new.gap < np.inf):
        return new
    return (yield from _certified(solver, problem, replace(new, mistrust=state.mistrust)))


def _certified(solver: Solver, problem: Problem, s: State) -> Steps:
    """The State with a gap that can be trusted, or one above the tolerance."""
    (tol,) = yield (Tolerance(s.f),)
    guess, slope = s.gap * s.mistrust, float(np.abs(s.g).max())
    if solver.solves_gradient and problem.penalty.smooth and slope > ROUNDING * abs(s.f):
        guess = max(guess, slope)
    if not (s.stalled and tol > 0) and not 0 < guess <= tol:
        return replace(s, gap=guess)
    if problem.model.size <= DENSE:
        ((_, g, H),) = yield (Curvature(s.w),)
        _, gap, _ = newton_step(problem, s.w, g, H)
    elif problem.penalty.smooth:
        d, left, _ = yield from conjugate_gradients(s.w, s.g, FORCING, PRODUCTS, solver.metric(problem, s))
        gap = -float(s.g @ d) / 2 * (1 + left)
    else:
        gap = CAUTION * s.gap
    mistrust = min(max(s.mistrust, gap / s.gap if s.gap > 0 else 1.0), MOST_MISTRUST)
    return replace(s, gap=gap, mistrust=mistrust)
