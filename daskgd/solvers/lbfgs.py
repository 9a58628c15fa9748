"""Limited-memory BFGS, one sweep an iteration: the full step's gradient and the line search share it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Gradient, Line
from daskgd.solvers.base import Solver, State, Steps, is_count, require

Array = NDArray[Any]

STEPS = np.array([1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 1e-3, 1e-4, 2.0, 4.0, 8.0, 16.0])
FIRST_STEPS = 10.0 ** np.arange(-8.0, 5.0)
SUFFICIENT, CURVATURE = 1e-4, 0.9


@dataclass(frozen=True, slots=True)
class LBFGSState(State):
    """Adds the last steps S and gradient differences Y, ``(<=memory, d)``, oldest first."""

    S: Array = field(default_factory=lambda: np.zeros((0, 0)))
    Y: Array = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(slots=True)
class LBFGS(Solver):
    """L-BFGS (Nocedal & Wright 2006, algorithms 7.4 and 7.5).

    Each iteration bets on the unit step: one sweep answers its gradient and, along the same line, the
    values and slopes of a dozen other steps. If the unit step meets the Wolfe conditions, in the
    approximate form of Hager & Zhang (2005) near the rounding floor, as it nearly always does, the
    iteration is done; otherwise the best step of the line costs one more sweep.

    The gap is half the squared Newton decrement, ``g' H g / 2`` in the metric of the inverse Hessian
    estimate H; as H knows only directions already walked, the larger of the estimates before and after
    the step counts.

    Parameters
    ----------
    memory : int
        Number of pairs kept.

    Examples
    --------
    >>> LBFGS(memory=5)
    LBFGS(memory=5)
    """

    memory: int = 10

    def __post_init__(self) -> None:
        require(is_count(self.memory), self, "memory", "a whole number >= 1", self.memory)

    def start(self, problem: Problem, w: Array) -> Steps:
        ((f, g),) = yield (Gradient(w),)
        none = np.zeros((0, len(w)))
        return LBFGSState(w, f, g, S=none, Y=none, gap=np.inf if g.any() else 0.0)

    def iterate(self, problem: Problem, state: LBFGSState) -> Steps:
        s = state
        d = -two_loop(s.g, s.S, s.Y)
        slope = float(s.g @ d)
        if slope == 0:
            return replace(s, gap=0.0)
        if len(s.S) == 0:  # nothing known of the scale: look along the whole line first
            d /= np.sqrt(-slope)
            slope = -np.sqrt(-slope)
            ((values, slopes),) = yield (Line(s.w, d, FIRST_STEPS),)
            t = best_step(s.f, slope, FIRST_STEPS, values, slopes)
            if t is None:
                return replace(s, stalled=True)
            ((f, g),) = yield (Gradient(s.w + t * d),)
        else:
            (f, g), (values, slopes) = yield Gradient(s.w + d), Line(s.w, d, STEPS)
            t = 1.0
            if not wolfe(s.f, slope, 1.0, f, float(g @ d)):
                t = best_step(s.f, slope, STEPS, values, slopes)
                if t is None:  # no step helps: forget the past and start again from the gradient
                    return replace(s, S=s.S[:0], Y=s.Y[:0])
                if t != 1.0:
                    ((f, g),) = yield (Gradient(s.w + t * d),)
        w = s.w + t * d
        S, Y = remember(s.S, s.Y, w - s.w, g - s.g, self.memory)
        decrement = float(g @ two_loop(g, S, Y)) / 2
        before = -slope / 2 if len(s.S) else np.inf
        return LBFGSState(w, f, g, S=S, Y=Y, gap=max(decrement, before))


def two_loop(g: Array, S: Array, Y: Array) -> Array:
    """The inverse Hessian estimate times g (algorithm 7.4), from pairs ``(m, d)``, oldest first."""
    q = g.copy()
    if len(S) == 0:
        return q
    rho = 1 / np.einsum("ij,ij->i", S, Y)
    alpha = np.zeros(len(S))
    for i in reversed(range(len(S))):
        alpha[i] = rho[i] * (S[i] @ q)
        q -= alpha[i] * Y[i]
    q *= (S[-1] @ Y[-1]) / (Y[-1] @ Y[-1])  # (7.20)
    for i in range(len(S)):
        q += S[i] * (alpha[i] - rho[i] * (Y[i] @ q))
    return q


def remember(S: Array, Y: Array, s: Array, y: Array, memory: int) -> tuple[Array, Array]:
    """Append a pair, unless its curvature is lost in rounding, and drop the oldest beyond `memory`."""
    if not s @ y > 1e-10 * np.sqrt((s @ s) * (y @ y)):
        return S, Y
    return np.vstack([S, s])[-memory:], np.vstack([Y, y])[-memory:]


def wolfe(f0: float, slope0: float, t: float, f: float, slope: float) -> bool:
    """Whether a step is acceptable: sufficient decrease, and no longer as steep as at the start.

    Where f0 and f agree to rounding, their difference says nothing, and the slope alone decides.
    """
    floor = 1e-9 * abs(f0)
    decrease = f <= f0 + SUFFICIENT * t * slope0
    decrease = decrease or (f <= f0 + floor and slope <= (2 * SUFFICIENT - 1) * slope0)
    return bool(decrease and abs(slope) <= CURVATURE * abs(slope0))


def best_step(f0: float, slope0: float, steps: Array, values: Array, slopes: Array) -> float | None:
    """The acceptable step of least value; failing that, one that merely decreases; else None."""
    finite = np.isfinite(values) & np.isfinite(slopes)
    pairs = zip(steps, values, slopes, strict=True)
    good = finite & np.array([wolfe(f0, slope0, t, f, m) for t, f, m in pairs])
    lower = finite & (values <= f0 + SUFFICIENT * steps * slope0)
    for candidates in (good, lower):
        if candidates.any():
            return float(steps[candidates][np.argmin(values[candidates])])
    return None
