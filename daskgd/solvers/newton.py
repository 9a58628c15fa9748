"""Newton's method with the exact Hessian: a handful of sweeps where there are few parameters."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpocon, dpotrf, dpotrs

from daskgd.problems import Problem
from daskgd.queries import Curvature
from daskgd.rows.layout import Shape
from daskgd.solvers.base import Solver, State, Steps
from daskgd.solvers.line_search import CURVATURE, FLAT_CURVATURE, SUFFICIENT, backtrack, search, wolfe
from daskgd.solvers.quadratic import minimise

Array = NDArray[Any]

DENSE = 1500
"""Most parameters for which a Hessian in memory is formed and factorised: some seconds on one core."""

FLAT_STEP, FLAT_GAP = 1e-2, 1e-8
"""Curvature, relative to the largest, that stands for none at all: for the step, and for what it promises."""

STEEP = 1e-9
"""Inverse of the condition of a Hessian from which on it has no flat directions, and is factorised."""

FAR_APART, FLAT = 1e4, 1e-15
"""Ratio of the largest to the least curvature of a parameter from which on units are equalised; and that,
relative to the largest, below which a parameter has no curvature."""

POLISHED = 1e-10
"""Gap relative to the objective within which a step is taken unseen: it squares what is left."""

LEAST_DAMPING = 1e-3
ROUNDING = 64 * float(np.finfo(float).eps)


@dataclass(frozen=True, slots=True)
class NewtonState(State):
    """Where Newton's method stands: adds the parameters `at` where it looked last, the Hessian H ``(d, d)``
    there, the next step d ``(d,)``, and how steeply the objective falls along it at first; the diagonal of H
    was multiplied with ``1 + damping`` for that step. Close to the minimum w is ``at + d``."""

    at: Array = field(default_factory=lambda: np.zeros(0))
    H: Array = field(default_factory=lambda: np.zeros((0, 0)))
    d: Array = field(default_factory=lambda: np.zeros(0))
    decrease: float = 0.0
    damping: float = 0.0

    @property
    def point(self) -> Array:
        return self.at


@dataclass(slots=True)
class Newton(Solver):
    """Damped Newton: ``w <- w - t H^-1 g`` (Nocedal & Wright 2006, section 3.3).

    Each iteration bets on the full step: one sweep answers objective, gradient and Hessian there. Refused,
    :mod:`~daskgd.solvers.line_search` looks for another, and a sweep more brings its Hessian. Along
    directions of no curvature (softmax's common shift, collinear features) steps are modest. The gap is half
    the squared Newton decrement, ``g' H^-1 g / 2``: exact for quadratics, and near the minimum for everything
    smooth. A fit that ends close to the minimum takes the step already computed, and reports the gap before.

    With L1 in the penalty the step minimises the quadratic model with the L1 norm as it is (proximal Newton:
    Lee, Sun & Saunders 2014), and the gap is what that model promises.

    A step that had to be shortened makes the next ones damped (Levenberg 1944, Marquardt 1963: the diagonal
    of H is raised), until full steps are accepted again: models that are nearly flat promise too much.

    Needs d x d numbers, and d^2 operations a row: for some hundreds of parameters.

    Examples
    --------
    >>> Newton()
    Newton()
    """

    needs_smooth_penalty: ClassVar[bool] = False
    needs_linear: ClassVar[bool] = True

    def result_numbers(self, parameters: int, shape: Shape | None = None) -> int:
        return parameters**2

    def driver_numbers(self, shape: Shape, problem: Problem) -> int:
        return 4 * problem.model.size**2  # the Hessian, its eigenvectors, and as it arrives

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        ((f, g, H),) = yield (Curvature(w),)
        return self._state(problem, w, f, g, H)

    def _state(
        self, problem: Problem, w: Array, f: float, g: Array, H: Array, damping: float = 0.0
    ) -> NewtonState:
        d, gap, decrease = newton_step(problem, w, g, H)
        if damping and np.isfinite(H).all():
            damped = H.copy()
            damped[np.diag_indices_from(H)] *= 1 + damping
            d, _, decrease = newton_step(problem, w, g, damped)
        return NewtonState(w, f, g, at=w, H=H, gap=gap, d=d, decrease=decrease, damping=damping)

    def iterate(self, problem: Problem, state: NewtonState) -> Steps:
        new = yield from self._step(problem, state)
        close = new.gap <= POLISHED * abs(new.f) and not (new.damping or new.stalled)
        return replace(new, w=new.at + new.d if close else new.at)

    def _step(self, problem: Problem, s: NewtonState) -> Steps:
        """The State after a step, at the point where it was measured."""
        d, decrease = s.d, s.decrease
        if not decrease > 0:
            return replace(s, stalled=s.gap > 0)

        # Below the rounding of f its values say nothing of a step, and the step is right all the same.
        unseen = s.gap <= ROUNDING * abs(s.f)
        w, t = s.at + d, 1.0
        ((f, g, H),) = yield (Curvature(w),)
        if problem.penalty.smooth:
            slope = float(s.g @ d)

            curvature = FLAT_CURVATURE if problem.loss.flat else CURVATURE

            def accept(t: float, f: float, slope_t: float) -> bool:
                return bool(np.isfinite(f)) if unseen else wolfe(s.f, slope, t, f, slope_t, curvature)

            if not accept(1.0, f, float(g @ d)):
                found = yield from search(s.at, d, s.f, slope, None, accept)
                if found is None:
                    return replace(s, stalled=True)
                t = found[0]
                w = s.at + t * d
                ((f, g, H),) = yield (Curvature(w),)
        elif not (np.isfinite(f) if unseen else f <= s.f - SUFFICIENT * decrease):
            shorter = yield from backtrack(s.at, d, s.f, decrease)
            if shorter is None:
                return replace(s, stalled=True)
            t = shorter
            w = s.at + t * d
            ((f, g, H),) = yield (Curvature(w),)
        if problem.loss.flat:  # whose line is searched closely: what is not in the model is in the length
            return self._state(problem, w, f, g, H)
        damping = max(s.damping * 4, LEAST_DAMPING) if t < 0.5 else s.damping / (8 if t == 1 else 1)
        return self._state(problem, w, f, g, H, damping if damping >= LEAST_DAMPING / 100 else 0.0)


def newton_step(problem: Problem, w: Array, g: Array, H: Array) -> tuple[Array, float, float]:
    """The step d to the minimum of the quadratic model at w, the gain that the model promises of it (the
    gap), and how steeply the objective falls along it at first.

    The model is ``g'd + d'H d / 2 + |w + d|_1``, the last with the penalty's strengths; g and H are of the
    smooth part of the objective.
    """
    if problem.penalty.smooth:
        d, gap = decrement(H, g)
        return d, gap, -float(g @ d)
    if not np.isfinite(H).all() or not np.isfinite(g).all():
        return np.zeros_like(g), np.inf, 0.0
    l1 = problem.penalty_l1(w)
    if problem.model.outputs > 1 and not problem.loss.separate:
        # Softmax does not see a common shift of the intercepts, and nothing but rounding says where to go.
        free = np.flatnonzero(~problem.model.penalised)
        H = H.copy()
        H[np.ix_(free, free)] += np.diag(H)[free].mean() if len(free) else 0.0
    v = minimise(H, H @ w - g, l1, start=w, positive=problem.positive)
    d = v - w
    decrease = -float(g @ d) - float(l1 @ (np.abs(v) - np.abs(w)))
    return d, max(decrease - 0.5 * float(d @ H @ d), 0.0), decrease


def decrement(H: Array, g: Array) -> tuple[Array, float]:
    """The Newton step ``-|H|^-1 g`` ``(d,)``, and half the squared Newton decrement.

    |H| has the absolute eigenvalues of H, which makes the step one downhill where the objective is not
    convex.

    >>> decrement(np.diag([2.0, 0.0]), np.array([4.0, 0.0]))
    (array([-2., -0.]), 4.0)
    """
    if not np.isfinite(H).all() or not np.isfinite(g).all():
        return np.zeros_like(g), np.inf
    factor, failed = dpotrf(H, lower=1, clean=0)
    if not failed and len(H) and dpocon(factor, float(np.abs(H).sum(axis=0).max()), uplo="L")[0] >= STEEP:
        x = dpotrs(factor, g, lower=1)[0]
        return -x, float(g @ x) / 2
    diagonal = np.abs(np.diagonal(H))
    curved = diagonal > FLAT * diagonal.max(initial=0.0)
    if curved.any() and diagonal.max() > FAR_APART * diagonal[curved].min():
        # Of parameters in very different units, what is flat is told in units of their own.
        units = 1 / np.sqrt(np.where(curved, diagonal, diagonal.max()))
        d, promise = decrement(units[:, None] * H * units, units * g)
        return units * d, promise
    values, vectors = np.linalg.eigh(H)
    along = vectors.T @ g
    # Along flat directions the model promises everything or, where the gradient is rounding, nothing: the
    # step is modest there, and the promise is taken at its word.
    scaled = along / raise_flat(values, FLAT_STEP)
    promised = along / raise_flat(values, FLAT_GAP)
    return -(vectors @ scaled), float(along @ promised) / 2


def raise_flat(values: Array, floor: float, without_any: float = 1.0) -> Array:
    """The absolute eigenvalues ``(d,)`` of a Hessian, those that are lost in rounding raised to `floor` times
    the largest; all of them `without_any` where all are 0.

    >>> raise_flat(np.array([-4.0, 1e-20, 2.0]), 0.01)
    array([4.  , 0.04, 2.  ])
    """
    values = np.abs(values)
    top = values.max(initial=0.0)
    flat = values <= len(values) * np.finfo(float).eps * top
    return np.where(flat, floor * top if top > 0 else without_any, values)
