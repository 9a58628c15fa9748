"""Proximal Newton with the Hessian of a sample of rows: L1 and elastic net in a handful of sweeps."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Squared
from daskgd.problems import Problem
from daskgd.queries import Gradient
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import Steps, Tolerance, extrapolated_gap
from daskgd.solvers.line_search import SUFFICIENT, backtrack
from daskgd.solvers.newton import ROUNDING, newton_step
from daskgd.solvers.newton_system import TIGHTEST, SolveProximalSystem
from daskgd.solvers.sampled_state import SampledState
from daskgd.solvers.subsampled_newton import DIRECTION_RTOL, SubsampledNewton

Array = NDArray[Any]

EXACT_RTOL = 1e-6
"""Relative size of the subgradient to which a model that is exact is minimised."""


@dataclass(slots=True)
class ProximalNewton(SubsampledNewton):
    """Sub-sampled Newton for penalties with L1 (proximal Newton: Lee, Sun & Saunders 2014).

    As :class:`~daskgd.SubsampledNewton`, but every step minimises a quadratic model of the loss with the
    penalty as it is, in memory: the sample's Hessian, corrected by BFGS with the steps made so far, by
    coordinate descent; with many parameters that Hessian as products. Coefficients that are zero are exactly
    zero.

    The gap is the smaller of two: what the model promises of the next step, times the factor by which the
    last one did better than promised; and, without an intercept, the penalty's own certificate (Fenchel's
    gap), which the gradient over all rows makes a bound.

    Parameters
    ----------
    rows_per_parameter, sample_bytes, most_bytes, seed :
        As there. With many parameters Hessians are not formed: the model is minimised by products with the
        sample's, on the features whose gradients are not well below their strengths.

    Examples
    --------
    >>> ProximalNewton(rows_per_parameter=500).sample_bytes
    64000000
    """

    needs_smooth_penalty: ClassVar[bool] = False
    needs_linear: ClassVar[bool] = True

    def _take_metric(self, problem: Problem, s: SampledState, rows: Rows) -> Steps:
        """The State with its Hessian at `s.at`; steps by products make their own preconditioner."""
        yield from ()
        return replace(s, base=s.at)

    def _model_hessian(self, problem: Problem, s: SampledState) -> Array:
        """The model's Hessian ``(d, d)``: the sample's, corrected by BFGS updates (Nocedal & Wright 2006, eq.
        6.19)."""
        B = np.eye(len(s.w)) * _steepness(s) if s.plain else (s.vectors * s.values) @ s.vectors.T
        for step, change in zip(s.S, s.Y, strict=True):
            Bs = B @ step
            B += np.outer(change, change) / (step @ change) - np.outer(Bs, Bs) / (step @ Bs)
        return (B + B.T) / 2

    def _aim(self, problem: Problem, s: SampledState) -> Steps:
        if not np.isfinite(s.g).all():
            return replace(s, gap=np.inf)
        if len(s.values) or (s.plain and self._forms_hessian(problem, s)):
            d, gap, decrease = newton_step(problem, s.at, s.g, self._model_hessian(problem, s))
        elif s.plain:
            d, gap, decrease = _gradient_step(problem, s)
        else:
            d, gap, decrease = yield from self._step_by_products(problem, s)
        certificate = np.inf
        if not problem.linear.intercept:
            loss_part = s.g - problem.penalty_gradient(s.at)
            certificate = problem.penalty.gap(s.at, loss_part, s.f)
        if not decrease > 0:
            d, gap = np.zeros_like(d), min(gap, certificate)
            return replace(s, w=s.at, d=d, gap=gap, gap_at=gap)
        mistrusted = np.isinf(s.model_error_ratio)
        gap = min(max(gap * (1.0 if mistrusted else s.model_error_ratio), s.floor), certificate)
        return replace(s, d=d, gap=gap, gap_at=gap, w=s.at if mistrusted or s.plain else s.at + d)

    def _step_by_products(self, problem: Problem, s: SampledState) -> Steps:
        """As :func:`~daskgd.solvers.newton.newton_step`, with a Hessian that is not formed."""
        (tol,) = yield (Tolerance(s.f),)
        system = SolveProximalSystem(problem, s.sample, s.base, s.at, s.g, DIRECTION_RTOL, tol=tol)
        if s.complete and isinstance(problem.loss, Squared):  # the model is the objective
            system = replace(system, rtol=EXACT_RTOL)
        elif s.complete:
            system = replace(system, rtol=TIGHTEST, scale=abs(s.f))
        (found,) = yield (system,)
        l1, d = problem.penalty_l1(s.at), found.v - s.at
        decrease = -float(s.g @ d) - float(l1 @ (np.abs(found.v) - np.abs(s.at)))
        return d, found.gain + found.left, decrease

    def _step(self, problem: Problem, s: SampledState) -> Steps:
        l1 = problem.penalty_l1(s.at)
        decrease = -float(s.g @ s.d) - float(l1 @ (np.abs(s.at + s.d) - np.abs(s.at)))
        if not decrease > 0:
            return (yield from self._recover(problem, s))
        # A step of the model's minimum promises at least half of the decrease.
        promised = max(decrease - 0.5 * self._quadratic_form(problem, s, s.d), decrease / 2)
        unseen = promised <= ROUNDING * abs(s.f)
        t = 1.0
        ((f, g),) = yield (Gradient(s.at + s.d),)
        if not (np.isfinite(f) if unseen else f <= s.f - SUFFICIENT * decrease):
            found = yield from backtrack(s.at, s.d, s.f, decrease)
            if found is None:
                return (yield from self._recover(problem, s))
            t = found
            ((f, g),) = yield (Gradient(s.at + t * s.d),)
        return (yield from self._advance(problem, s, t, f, g, promised))


def _steepness(s: SampledState) -> float:
    """The curvature met along the last step; 1, that of standardised features, before there is one."""
    return float(s.Y[-1] @ s.Y[-1]) / float(s.S[-1] @ s.Y[-1]) if len(s.S) else 1.0


def _gradient_step(problem: Problem, s: SampledState) -> tuple[Array, float, float]:
    """A proximal gradient step: as :func:`newton_step`, with a multiple of the identity for the Hessian, and
    a gap from the objectives so far."""
    c, free = _steepness(s), ~problem.model.penalised
    down = s.at - (s.g - problem.penalty_gradient(s.at)) / c
    d = np.where(free, down, problem.penalty.prox(np.where(free, 0.0, down), 1 / c)) - s.at
    l1 = problem.penalty_l1(s.at)
    decrease = -float(s.g @ d) - float(l1 @ (np.abs(s.at + d) - np.abs(s.at)))
    promise = max(decrease - 0.5 * c * float(d @ d), 0.0)
    return d, max(promise, extrapolated_gap(s.objective_history)), decrease
