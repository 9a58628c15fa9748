"""Newton's method with the exact Hessian: a handful of sweeps where there are few parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Curvature
from daskgd.solvers.base import Solver, State, Steps
from daskgd.solvers.line_search import search, wolfe

Array = NDArray[Any]

ROUNDING = 64 * float(np.finfo(float).eps)


@dataclass(frozen=True, slots=True)
class NewtonState(State):
    """Adds the Hessian H ``(d, d)`` at w."""

    H: Array = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(slots=True)
class Newton(Solver):
    """Damped Newton: ``w <- w - t H^-1 g`` (Nocedal & Wright 2006, section 3.3).

    Each iteration bets on the full step: one sweep answers objective, gradient and Hessian there. Refused,
    :mod:`~daskgd.solvers.line_search` looks for another, and a sweep more brings its Hessian. Directions of
    no curvature (softmax's common shift, collinear features) are left alone. The gap is half the squared
    Newton decrement, ``g' H^-1 g / 2``: exact for quadratics, and near the minimum for everything smooth.

    Needs d x d numbers, and d^2 operations a row: for some hundreds of parameters.

    Examples
    --------
    >>> Newton()
    Newton()
    """

    def start(self, problem: Problem, w: Array) -> Steps:
        ((f, g, H),) = yield (Curvature(w),)
        return NewtonState(w, f, g, H=H, gap=decrement(H, g)[1])

    def iterate(self, problem: Problem, state: NewtonState) -> Steps:
        s = state
        d, gap = decrement(s.H, s.g)
        slope = float(s.g @ d)
        if slope >= 0:
            return replace(s, gap=gap, stalled=gap > 0)

        # Below the rounding of f its values say nothing of a step, and the step is right all the same.
        unseen = gap <= ROUNDING * abs(s.f)

        def accept(t: float, f: float, slope_t: float) -> bool:
            return bool(np.isfinite(f)) if unseen else wolfe(s.f, slope, t, f, slope_t)

        w = s.w + d
        ((f, g, H),) = yield (Curvature(w),)
        if not accept(1.0, f, float(g @ d)):
            found = yield from search(s.w, d, s.f, slope, None, accept)
            if found is None:
                return replace(s, stalled=True)
            w = s.w + found[0] * d
            ((f, g, H),) = yield (Curvature(w),)
        return NewtonState(w, f, g, H=H, gap=decrement(H, g)[1])


def decrement(H: Array, g: Array) -> tuple[Array, float]:
    """The Newton step ``-H^+ g`` of least norm, and half the squared decrement.

    >>> decrement(np.diag([2.0, 0.0]), np.array([4.0, 0.0]))
    (array([-2., -0.]), 4.0)
    """
    if not np.isfinite(H).all() or not np.isfinite(g).all():
        return np.zeros_like(g), np.inf
    values, vectors = np.linalg.eigh(H)
    keep = values > len(g) * np.finfo(float).eps * max(values[-1], 0.0)
    along = vectors.T @ g
    scaled = np.where(keep, along / np.where(keep, values, 1.0), 0.0)
    return -(vectors @ scaled), float(along @ scaled) / 2
