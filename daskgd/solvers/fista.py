"""FISTA: accelerated proximal gradient descent, for penalties with an L1 norm."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.problems import Problem
from daskgd.queries import Gradient
from daskgd.rows.layout import Shape
from daskgd.solvers.base import (
    Solver,
    State,
    Steps,
    SweepEstimate,
    downhill,
    extrapolated_gap,
    is_positive,
    require,
    secant_gap,
)

Array = NDArray[Any]

PROBE = 1e-3
"""By how much of itself the probe at the start may lower the objective, to first order."""

LONGER = 1.5
TRIALS = 12
FLOOR = 1e-6
"""Relative changes of the objective below this may be rounding of the data: gradients may judge."""


def _none() -> Array:
    return np.zeros(0)


@dataclass(frozen=True, slots=True)
class FISTAState(State):
    """Where FISTA stands: adds the momentum v ``(d,)`` that leads to the extrapolated point ``y = w + v``,
    objective fy and gradient gy there, and the weight theta of the momentum. Gradients are of all but the L1
    norm."""

    v: Array = field(default_factory=_none)
    fy: float = 0.0
    gy: Array = field(default_factory=_none)
    theta: float = 1.0


@dataclass(slots=True)
class FISTA(Solver):
    """Proximal gradient steps from extrapolated points (Beck & Teboulle 2009, section 4).

        w+ = prox(y - t l'(y), t),    y+ = w+ + (theta - 1) / theta+ * (w+ - w),

    with l the mean loss and the prox that of the whole penalty, intercepts left alone. Momentum starts again
    where it points uphill (O'Donoghue & Candes 2015), with a step longer by half. A step stands if l at w+ is
    below its quadratic bound at y, or where values agree to rounding, if the gradients say so (Becker, Candes
    & Grant 2011, section 5.3); else a shorter one is tried, at the cost of a sweep. Objective at w+ and
    gradient at y+ are answered by the same sweep: one an iteration.

    The gap is estimated from what iterations still gain and from the curvature met. Without an intercept the
    penalty's certificate (Fenchel's gap) counts where it is tighter.

    Parameters
    ----------
    step : float, optional
        The step t to try first; None measures the curvature along the gradient, at the cost of a sweep.

    Examples
    --------
    >>> FISTA(step=0.5)
    FISTA(step=0.5)
    """

    needs_smooth_penalty: ClassVar[bool] = False
    extrapolates: ClassVar[bool] = True

    step: float | None = None

    def __post_init__(self) -> None:
        require(self.step is None or is_positive(self.step), self, "step", "> 0 or None", self.step)

    def expected_sweeps(
        self, shape: Shape, loss: Loss | None = None, parameters: int | None = None
    ) -> SweepEstimate:
        return SweepEstimate(words="tens to hundreds")

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        w = _prox(problem, w, 0.0)
        ((f, g),) = yield (Gradient(w),)
        slope = g - problem.penalty_gradient(w)
        step, square = self.step, float(slope @ slope)
        if step is None:
            t = PROBE * (abs(f) or 1.0) / square if square > 0 else 1.0
            step = t
            for _ in range(TRIALS if 0 < square < np.inf else 0):
                at = w - t * slope
                ((_, other),) = yield (Gradient(at),)
                lipschitz = float(slope @ (slope - (other - problem.penalty_gradient(at))))
                if np.isfinite(lipschitz):
                    step = t * square / lipschitz if lipschitz > 0 else 1 / PROBE * t
                    break
                t *= PROBE
        gap = np.inf if downhill(problem, w, g).any() else 0.0
        return FISTAState(
            w, f, g, gap=gap, objective_history=np.array([f]), v=np.zeros_like(w), fy=f, gy=g, step=step
        )

    def iterate(self, problem: Problem, state: FISTAState) -> Steps:
        s, step = state, state.step
        if not step > 0:  # gradients are too large to be squared
            return replace(s, stalled=True)
        start = s.w + s.v
        slope = s.gy - problem.penalty_gradient(start)
        loss = s.fy - problem.penalty_value(start)
        for trial in range(TRIALS):
            w = _prox(problem, start - step * slope, step)
            d = w - start
            if not d.any():  # a minimum, or a step below rounding
                gap = s.gap if downhill(problem, w, s.gy).any() else 0.0
                objective_history = np.append(s.objective_history, s.fy)
                return replace(
                    s,
                    w=w,
                    f=s.fy,
                    g=s.gy,
                    v=d,
                    theta=1.0,
                    gap=gap,
                    stalled=gap > 0,
                    objective_history=objective_history,
                )
            theta = (1 + np.sqrt(1 + 4 * s.theta**2)) / 2
            uphill = float(d @ (w - s.w)) < 0
            v = (0.0 if uphill else (s.theta - 1) / theta) * (w - s.w)
            answers = yield (Gradient(w), Gradient(w + v)) if v.any() else (Gradient(w),)
            f, g = answers[0]
            square = float(d @ d)
            lipschitz = (
                float(d @ (g - problem.penalty_gradient(w) - slope)) if np.isfinite(g).all() else np.inf
            )
            change = f - problem.penalty_value(w) - loss
            unseen = abs(change) <= FLOOR * abs(s.fy)
            if change <= float(slope @ d) + square / (2 * step) or (unseen and lipschitz <= square / step):
                break
            shorter = 0.9 * square / lipschitz if 0 < lipschitz < np.inf else 0.0
            # Where a loss is saturated, secants show no curvature: then down to the step that works.
            step = float(np.clip(shorter, step / 16, 0.8 * step)) if trial < 3 else step / 16
        else:
            return replace(s, stalled=True)
        fy, gy = answers[-1]
        if uphill or f - s.f > FLOOR * abs(f) or not (np.isfinite(fy) and np.isfinite(gy).all()):
            v, fy, gy, theta, step = np.zeros_like(v), f, g, 1.0, LONGER * step
        objective_history = np.append(s.objective_history, f)
        gap = self._gap(problem, w, f, g, w - s.w, g - s.g, objective_history)
        return FISTAState(
            w,
            f,
            g,
            gap=gap,
            objective_history=objective_history,
            v=v,
            fy=fy,
            gy=gy,
            theta=float(theta),
            step=step,
        )

    def _gap(
        self,
        problem: Problem,
        w: Array,
        f: float,
        g: Array,
        moved: Array,
        turned: Array,
        objective_history: Array,
    ) -> float:
        steepest = downhill(problem, w, g)
        if not steepest.any():
            return 0.0
        gap = max(secant_gap(steepest, moved, turned), extrapolated_gap(objective_history))
        if problem.model.linear and not problem.linear.intercept:
            gap = min(gap, problem.penalty.gap(w, g - problem.penalty_gradient(w), f))
        return gap


def _prox(problem: Problem, w: Array, step: float) -> Array:
    """The penalty's proximal operator at w, which leaves intercepts alone."""
    mask = problem.model.penalised
    return np.where(mask, problem.penalty.prox(np.where(mask, w, 0.0), step), w)
