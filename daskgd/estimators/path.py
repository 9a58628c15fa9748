"""What linear estimators that learn from rows as they come know between two calls: the rows they have seen,
and where the path of averaged SGD has come to. Knows problems and the solver; no estimator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.rows.statistics import Moments
from daskgd.solvers.averaged_sgd import AveragedSGD, AveragedSGDState

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Seen:
    """The rows that an estimator has learnt from so far.

    Attributes
    ----------
    X : Moments
        Of the features: their units.
    weight : float
        The total weight, by which penalties are divided; class weights count.
    n_rows : int
    """

    X: Moments
    weight: float
    n_rows: int

    @classmethod
    def of_fit(cls, units: tuple[Array | None, Array | None], weight: float, n_rows: int, p: int) -> Seen:
        """The rows of a fit, of p features in these units: their centers and scales, where it had such."""
        center, scale = units
        deviation = np.zeros(p) if scale is None else scale**2 * weight
        return cls(Moments(weight, np.zeros(p) if center is None else center, deviation), weight, n_rows)

    def __add__(self, later: Seen) -> Seen:
        return Seen(self.X + later.X, self.weight + later.weight, self.n_rows + later.n_rows)


@dataclass(frozen=True, slots=True)
class Path:
    """Where the path of averaged SGD has come to between two calls, in the units of X.

    Attributes
    ----------
    coef, intercept : (k, p), (k,)
        The mean of the path: what the estimator predicts with, in float64.
    current_coef, current_intercept : (k, p), (k,)
        Where the path has come to.
    made, curvature, unit, shrink : float
    round : int
        Of an :class:`~daskgd.solvers.averaged_sgd.AveragedSGDState`.
    """

    coef: Array
    intercept: Array
    current_coef: Array
    current_intercept: Array
    made: float
    curvature: float
    unit: float
    shrink: float
    round: int

    @classmethod
    def of(cls, problem: Problem, state: AveragedSGDState) -> Path:
        """The path that has come to this State of the solver."""
        model, offset = problem.linear, 0.0 if problem.offset is None else problem.offset
        ends = [(model.coefficients(w), model.intercepts(w) + offset) for w in (state.w, state.current)]
        return cls(*ends[0], *ends[1], state.made, state.curvature, state.unit, state.shrink, state.round)

    def state(self, problem: Problem, solver: AveragedSGD) -> AveragedSGDState:
        """The State from which a solver goes on."""
        model, offset = problem.linear, 0.0 if problem.offset is None else problem.offset
        begun = solver.begin(model.parameters(self.coef, self.intercept - offset))
        current = model.parameters(self.current_coef, self.current_intercept - offset)
        return replace(
            begun,
            current=current,
            made=self.made,
            curvature=self.curvature,
            unit=self.unit,
            shrink=self.shrink,
            step=(solver.step or 0.0) * self.shrink,
            round=self.round,
        )
