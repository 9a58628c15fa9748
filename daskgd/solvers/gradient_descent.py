"""Gradient descent with a given step, or one searched along the line: the simplest solver of the parallel
regime."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Gradient
from daskgd.solvers.base import (
    Solver,
    State,
    Steps,
    extrapolated_gap,
    halved,
    in_unit_interval,
    is_positive,
    require,
    secant_gap,
)
from daskgd.solvers.line_search import search

Array = NDArray[Any]

ARMIJO = 1e-4
MEMORY = 10


@dataclass(frozen=True, slots=True)
class DescentState(State):
    """Where gradient descent stands: adds the velocity v ``(d,)`` of momentum; `step` is the trial step where
    it is searched."""

    v: Array = field(default_factory=lambda: np.zeros(0))


@dataclass(slots=True)
class GradientDescent(Solver):
    """``w <- w - step * g``, one sweep an iteration.

    Parameters
    ----------
    step : float, optional
        Length of the step. A given step is used as it is, and halved, from the best parameters so far, where
        the objective grows without bound (not with ``tol=0``, which runs what was asked). None searches it:
        the first trial by a wide search along the line, then Barzilai & Borwein's ``s's / s'y``, accepted by
        the non-monotone rule of Grippo, Lampariello & Lucidi over the last ten values (Raydan 1997).
    momentum : float
        In [0, 1): ``v <- momentum * v - step * g``, ``w <- w + v`` (Polyak 1964).
    nesterov : bool
        Nesterov's form, ``w <- w + momentum * v - step * g`` (Sutskever et al. 2013, eq. 3-4
        rewritten at the look-ahead point).
    line_search : bool, optional
        None searches when no step is given. True with a step makes it the first trial of every
        search. False without a step is refused.

    A non-smooth loss takes subgradient steps of given length; searching needs a smooth one.

    Examples
    --------
    >>> GradientDescent(step=0.01)
    GradientDescent(step=0.01, momentum=0.0, nesterov=False, line_search=None)
    """

    extrapolates: ClassVar[bool] = True

    step: float | None = None
    momentum: float = 0.0
    nesterov: bool = False
    line_search: bool | None = None

    def __post_init__(self) -> None:
        require(self.step is None or is_positive(self.step), self, "step", "> 0 or None", self.step)
        require(in_unit_interval(self.momentum), self, "momentum", "in [0, 1)", self.momentum)
        require(isinstance(self.nesterov, bool | np.bool_), self, "nesterov", "True or False", self.nesterov)
        require(
            self.line_search in (None, True, False),
            self,
            "line_search",
            "None, True or False",
            self.line_search,
        )
        if self.nesterov and not self.momentum:
            raise ValueError("GradientDescent: nesterov=True needs momentum > 0, got momentum=0")
        if self.line_search is False and self.step is None:
            raise ValueError("GradientDescent: line_search=False needs a step, got step=None; give step=...")
        if self.searches and self.nesterov:
            raise ValueError(
                "GradientDescent: nesterov=True needs a given step without line search; "
                "give step=... or set nesterov=False"
            )

    @property
    def searches(self) -> bool:
        """Whether the step is searched."""
        return self.step is None or bool(self.line_search)

    @property
    def fixes_step(self) -> bool:  # type: ignore[override]
        return self.step is not None

    @property
    def needs_smooth(self) -> bool:  # type: ignore[override]
        return self.searches

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        ((f, g),) = yield (Gradient(w),)
        return DescentState(
            w, f, g, v=np.zeros_like(w), step=self.step or 0.0, objective_history=np.array([f])
        )

    def iterate(self, problem: Problem, state: DescentState) -> Steps:
        return (yield from (self._search(state) if self.searches else self._fixed(state)))

    def _fixed(self, s: DescentState) -> Steps:
        assert self.step is not None
        step = float(np.ldexp(self.step, -s.halvings))
        v = self.momentum * s.v - step * s.g
        w = s.w + (self.momentum * v - step * s.g if self.nesterov else v)
        ((f, g),) = yield (Gradient(w),)
        objective_history = np.append(s.objective_history, f)
        gap = max(secant_gap(g, w - s.w, g - s.g), extrapolated_gap(objective_history)) if g.any() else 0.0
        return replace(s, w=w, f=f, g=g, v=v, gap=gap, objective_history=objective_history)

    def retreat(self, best: DescentState, lost: DescentState) -> DescentState | None:
        return None if self.searches else halved(best, lost, v=np.zeros_like(best.w))

    def _search(self, s: DescentState) -> Steps:
        d = self.momentum * s.v - s.g
        slope = float(s.g @ d)
        if slope >= 0:  # momentum points uphill: forget it
            d, slope = -s.g, -float(s.g @ s.g)
        if slope == 0:
            return replace(s, gap=0.0)
        ceiling = s.objective_history[-MEMORY:].max()

        def accept(t: float, f: float, slope_t: float) -> bool:
            return bool(np.isfinite(f) and f <= ceiling + ARMIJO * t * slope)

        found = yield from search(s.w, d, s.f, slope, self.step or s.step or None, accept)
        if found is None and self.step is not None:  # which may be far from any step that would do
            found = yield from search(s.w, d, s.f, slope, None, accept)
        if found is None:
            return replace(s, v=np.zeros_like(s.v), stalled=True)
        t, f, g = found
        w = s.w + t * d
        moved, turned = w - s.w, g - s.g
        sy = float(moved @ turned)
        step = float(moved @ moved) / sy if sy > 0 else 4 * t
        if self.step is not None:
            step = self.step
        objective_history = np.append(s.objective_history, f)
        return replace(
            s,
            w=w,
            f=f,
            g=g,
            v=moved / t,
            step=step,
            objective_history=objective_history,
            gap=max(secant_gap(g, moved, turned), extrapolated_gap(objective_history)) if g.any() else 0.0,
        )
