"""Sub-sampled Newton where all rows are in memory and Hessians are not formed: its steps cost about what a
product with the Hessian does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Squared
from daskgd.problems import Problem
from daskgd.queries import Gradient
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import DriverQuery, EvaluateInMemory, SolveInMemory, Solver, Steps, Tolerance
from daskgd.solvers.lbfgs import first_loop, second_loop
from daskgd.solvers.newton_system import TIGHTEST, MakeMetric, SolveNewtonSystem, stage
from daskgd.solvers.penalty_path import has_path, joined, solve_along_path
from daskgd.solvers.sampled_state import SampledState

Array = NDArray[Any]

LEAST_STAGE, STAGE = 4, 16
"""How many times the rows of a stage in memory those of the stage after it are, at least and at most."""

STAGE_ROWS, LEAST_STAGE_ROWS = 32, 1000
"""Least rows of a stage for each feature, and in all."""

METRIC_AGAIN = 0.3
"""Share of the objective from where the preconditioner in memory was made, below which it is made anew."""

MOVED = 0.95
"""The same where steps stay short."""

CONFIRMING = 0.2
"""Relative residual of a Newton system whose solution is to confirm that the gap is small."""

SEPARATED, MANY, ON_PATH = 0.02, 25, 1e-9
"""Share of the first objective below which, or steps after which where they are slow, a loss that is flat
where rows are right is solved along a path of penalties; and the relative gap at its end."""

FAR = 4.0
"""Squared decrement, in tolerances, beyond which it need not be known: the gap is half of it."""

STALLING, FALLING, PATIENCE = 0.6, 0.95, 3
"""Share of the gap, and of the objective, from which on what a step in memory leaves makes it a slow one; and
as many of them after which directions are Newton's."""


class NewtonInMemory:
    """The part of :class:`~daskgd.SubsampledNewton` for rows in memory."""

    __slots__ = ()

    def _of_all_rows(self) -> Solver:
        """The same solver, with all rows for its sample."""
        raise NotImplementedError

    def _aim(self, problem: Problem, s: SampledState) -> Steps:
        """The State with its next step and its gap, from f and g at `s.at`."""
        raise NotImplementedError

    def _begin_in_memory(self, problem: Problem, s: SampledState) -> Steps:
        """The first State where all rows are in memory and Hessians are not formed: at the solution on a part
        of the rows, which comes from that on a part of those, and so on."""
        new, near, warm = s, s.sample, bool(s.w[problem.model.penalised].any())
        model, rows = problem.linear, replace(s.sample, dtype=None)
        each = model.size // (model.outputs if problem.loss.separate else 1)
        share = min(len(rows) // max(STAGE_ROWS * model.n_features, LEAST_STAGE_ROWS), STAGE)
        if share >= LEAST_STAGE:
            part = stage(problem, rows, share)
            # Closer than the part's own error, about a parameter's worth for each of its rows, is in vain.
            tol = min(0.03 * each / len(part), 0.1)
            (solved,) = yield (SolveInMemory(problem, part, self._of_all_rows(), s.w, tol),)
            ((first, _),) = yield (EvaluateInMemory(problem, part, Gradient(s.w)),)
            ((f, g),) = yield (EvaluateInMemory(problem, s.sample, Gradient(solved.w)),)
            if f < first:
                new, near = replace(s, w=solved.w, f=f, g=g), part
        if warm or not np.isfinite(new.f):
            ((f, g),) = yield (EvaluateInMemory(problem, s.sample, Gradient(s.w)),)
            if not f > new.f:
                new, near = replace(s, f=f, g=g), s.sample
        new = replace(new, at=new.w, objective_history=np.array([new.f]))
        new = yield from self._take_metric(problem, new, near)
        return (yield from self._aim(problem, new))

    def _take_metric(self, problem: Problem, s: SampledState, rows: Rows) -> Steps:
        """The State with a preconditioner of the Hessian over these rows at `s.at`."""
        (metric,) = yield (MakeMetric(problem, rows, s.at),)
        # What probes found with one diagonal holds for the next: a least eigenvalue of about the same matrix.
        least = np.inf if metric.sees_all else s.least
        return replace(s, metric=metric, metric_f=s.f, base=s.at, least=least)

    def _direction_in_memory(self, problem: Problem, s: SampledState) -> Steps:
        """The direction ``(d,)`` where gradients cost about what a product with the Hessian does; what is
        missing of g's squared length in the metric of the Hessian; and the State, which may know more of it.

        That of L-BFGS, started from a preconditioner of the Hessian: a gradient each. It says little of the
        gap where the preconditioner is far off; so once it says that the fit is done, the Newton system is
        solved, and bears it out or not. The same where steps stay short.
        """
        if isinstance(problem.loss, Squared):
            return (yield from self._solution_of_quadratic(problem, s))
        error = 1.0 if np.isinf(s.model_error_ratio) else s.model_error_ratio
        d = np.zeros_like(s.g)
        (tol,) = yield (Tolerance(s.f),)
        if s.slow_steps < PATIENCE:
            q, alpha = first_loop(s.g, s.S, s.Y)
            x = s.metric(q)
            if len(s.S):
                y = s.Y[-1]
                ratio = float(s.S[-1] @ y) / float(y @ s.metric(y))
                x = x if 0.5 < ratio < 2 else ratio * x
            d = -second_loop(x, alpha, s.S, s.Y)
            if -float(s.g @ d) / 2 * error > tol:
                return d, 0.0, s
        slow = s.slow_steps >= PATIENCE
        rtol, scale = (TIGHTEST, abs(s.f)) if slow else (CONFIRMING, 0.0)
        aim = {"rtol": rtol, "scale": scale, "least": s.least, "far": FAR * tol}
        (found,) = yield (SolveNewtonSystem(problem, s.sample, s.at, s.g, metric=s.metric, **aim),)
        return -found.x, max(found.squared - float(s.g @ found.x), 0.0), replace(s, least=found.least)

    def _solution_of_quadratic(self, problem: Problem, s: SampledState) -> Steps:
        """The same of a quadratic, whose Newton system is the problem: solved until what is left of the gap
        is within the tolerance. What a solution found of the Hessian tells whether another is needed."""
        (tol,) = yield (Tolerance(s.f),)
        aim = {"hidden": tol, "least": s.least, "value": s.f}
        (found,) = yield (SolveNewtonSystem(problem, s.sample, s.at, s.g, metric=s.metric, **aim),)
        missing = max(found.squared - float(s.g @ found.x), 0.0)
        return -found.x, missing, replace(s, least=found.least)

    def _renew_in_memory(self, problem: Problem, s: SampledState, new: SampledState) -> Steps:
        """The State `new`, to which a step from s has led, with its next step."""
        new = replace(new, base=new.at)
        if isinstance(problem.loss, Squared):
            return (yield from self._aim(problem, new))
        if new.f < METRIC_AGAIN * new.metric_f or (s.slow_steps >= PATIENCE and new.f < MOVED * new.metric_f):
            new = yield from self._take_metric(problem, new, new.sample)
        steps = new.objective_history
        crawls = s.slow_steps >= PATIENCE and len(steps) > MANY
        if (crawls or new.f < SEPARATED * steps[0]) and has_path(problem, len(new.X)):
            return (yield from self._follow_path(problem, new))
        new = yield from self._aim(problem, new)
        slow = new.gap_at > STALLING * s.gap_at and new.f > FALLING * s.f
        return replace(new, slow_steps=min(s.slow_steps + slow, PATIENCE) if slow else s.slow_steps)

    def _follow_path(self, problem: Problem, s: SampledState) -> Steps:
        """The State at the end of a path of penalties, each output by itself."""
        rows, k = replace(s.sample, dtype=None), problem.model.outputs
        parts = [(problem, rows)] if k == 1 else [problem.output(j, rows) for j in range(k)]
        found = joined((yield from solve_along_path(parts, list(s.at.reshape(-1, k).T.copy()), ON_PATH)))
        if found.f > s.f:
            return replace(s, stalled=True)
        return replace(
            s, w=found.w, at=found.w, f=found.f, g=found.g, gap=found.gap, gap_at=found.gap, stalled=True
        )


def answer_in_memory(problem: Problem, rows: Rows, steps: Steps) -> Steps:
    """Run a generator of queries, those to the data answered from rows in memory: its return value."""
    try:
        queries = next(steps)
        while True:
            answers = yield tuple(
                query if isinstance(query, DriverQuery) else EvaluateInMemory(problem, rows, query)
                for query in queries
            )
            queries = steps.send(answers)
    except StopIteration as end:
        return end.value
