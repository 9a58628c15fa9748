"""Newton's method for tables with a column of many categories: exact Hessians of thousands of parameters, by
eliminating those of that column."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss, Squared
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import CurvatureArrowhead, Gradient, GradientOnly, Product
from daskgd.queries.sample import SampleAnswer
from daskgd.rows.arrowhead import Arrowhead, exclusive_columns
from daskgd.rows.features import Dense, Features
from daskgd.rows.layout import Shape
from daskgd.solvers.base import MOST_STEPS, EvaluateInMemory, State, Steps, SweepEstimate, Tolerance
from daskgd.solvers.frequent_features import evidence
from daskgd.solvers.line_search import search, wolfe
from daskgd.solvers.newton import DENSE, POLISHED, ROUNDING, decrement
from daskgd.solvers.newton_in_memory import answer_in_memory
from daskgd.solvers.sampled_state import WithSample
from daskgd.solvers.subsampled_newton import FINAL_TOL, SAFETY, SubsampledNewton

Array = NDArray[Any]

MOST_NUMBERS = 1 << 22
"""Most numbers of a Hessian: 34 MB, of which there is one at each level of the merge tree, as of the second
moments of 2,000 features."""

SEEN = 20
"""Rows of the sample that have a feature, from which on these show what a step leaves of the gap there."""

SHARE = 1e-3
"""Share of a sample's own error, about a parameter's worth for each of its rows, to which it is solved."""

NEAR = 0.1
"""Gap relative to the objective up to which it is looked at what a step leaves."""


def schur_numbers(n_features: int, exclusive: int) -> int:
    """How many numbers the Hessian of one output has, where so many features exclude one another."""
    others = n_features - exclusive + 1
    return exclusive + (exclusive + others) * others


def suits(n_features: int, exclusive: int) -> bool:
    """Whether such a Hessian is small enough to be formed in every sweep."""
    few = n_features - exclusive < DENSE
    return few and schur_numbers(n_features, exclusive) <= MOST_NUMBERS


@dataclass(frozen=True, slots=True)
class SchurState(WithSample, State):
    """Where Newton's method stands: adds the parameters `at` where f and g were measured, the step d from
    there, the gap there, and the sample X, y, s, which is ``complete`` if it is all rows. Where that step is
    taken unseen, w is ``at + d``."""

    at: Array = field(default_factory=lambda: np.zeros(0))
    d: Array = field(default_factory=lambda: np.zeros(0))
    gap_at: float = np.inf
    X: Features = field(default_factory=lambda: Dense(np.zeros((0, 0))))
    y: Array | None = None
    s: Array | None = None
    complete: bool = False

    @property
    def point(self) -> Array:
        return self.at

    def look(self, w: Array) -> CurvatureArrowhead:
        """The query of objective, gradient and Hessian at w."""
        run = exclusive_columns(self.X)
        return CurvatureArrowhead(w, schur_numbers(self.X.shape[1], run.stop - run.start))


@dataclass(slots=True)
class NewtonSchur(SubsampledNewton):
    """Newton's method with the exact Hessian, from the solution on a sample, for features of which many are
    the categories of one column.

    No row has two of them, so that their block of the Hessian is diagonal. With that of the m categories of
    the largest column in front,

        H = [[D, B], [B', C]],    S = C - B' D^-1 B    (the Schur complement),

    a sweep adds up ``m + m q + q**2`` numbers for q other parameters, and a step takes ``m q**2 + q**3 / 3``
    operations (Boyd & Vandenberghe 2004, appendix C.4). Steps are refused and searched for along the line as
    by :class:`~daskgd.Newton`.

    The sample that comes with the first sweep is solved by the same steps in memory, and they begin at its
    solution. The gap is half the squared Newton decrement. What a step leaves of it is what is not quadratic
    about the step, which the sample shows: where that is within the tolerance the step is taken unseen, and
    ten times as much as it shows is reported for the gap.

    For one output, convex losses and smooth penalties, and features whose numbers above are at most 2**22;
    other problems, as those of three classes, are solved as by :class:`~daskgd.SubsampledNewton`, whose
    settings are the same.

    Examples
    --------
    >>> NewtonSchur().sample_bytes
    64000000
    """

    def result_numbers(self, parameters: int, shape: Shape | None = None) -> int:
        if shape is None or not suits(shape.n_features, shape.exclusive):
            return parameters
        return parameters + schur_numbers(shape.n_features, shape.exclusive)

    def driver_numbers(self, shape: Shape, problem: Problem) -> int:
        if not self._suits(problem, shape.exclusive):
            return SubsampledNewton.driver_numbers(self, shape, problem)
        return 4 * schur_numbers(shape.n_features, shape.exclusive)

    def expected_sweeps(
        self, shape: Shape, loss: Loss | None = None, parameters: int | None = None
    ) -> SweepEstimate:
        if (parameters or 0) > shape.n_features + 1 or self.sample_share(shape) >= 1:
            return SubsampledNewton.expected_sweeps(self, shape, loss, parameters)
        return SweepEstimate(3, 6)

    def expects_one_gradient(self, shape: Shape, parameters: int, tol: float) -> bool:
        several = parameters > shape.n_features + 1 or self.sample_share(shape) >= 1
        return several and SubsampledNewton.expects_one_gradient(self, shape, parameters, tol)

    @staticmethod
    def _suits(problem: Problem, exclusive: int) -> bool:
        model, loss = problem.linear, problem.loss
        smooth = problem.penalty.smooth and loss.smooth and loss.convex and not loss.nonsmooth
        return smooth and model.one_column and suits(model.n_features, exclusive)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: SampleAnswer) -> Steps:
        (sample,) = first_sweep_answers
        rows, run = sample.rows, exclusive_columns(sample.rows.X)
        if not (len(rows) and self._suits(problem, run.stop - run.start)):
            return (yield from SubsampledNewton.start(self, problem, w, sample))
        yield from ()
        none = np.zeros_like(w)
        return SchurState(
            w,
            np.inf,
            none,
            at=w,
            d=none,
            X=rows.X,
            y=rows.y,
            s=rows.sample_weight,
            complete=sample.complete,
        )

    def iterate(self, problem: Problem, state: Any) -> Steps:
        if not isinstance(state, SchurState):
            return (yield from SubsampledNewton.iterate(self, problem, state))
        if not np.isfinite(state.f):
            return (yield from _begin(problem, state))
        if state.complete:
            return replace(state, stalled=state.gap > 0)
        return (yield from _step(problem, state))


def _begin(problem: Problem, s: SchurState) -> Steps:
    """The first State with an objective: at the solution on the sample, or where that is worse at w."""
    w = s.w
    # On part of the rows, any closer than the sample's own error is in vain.
    tol = FINAL_TOL if s.complete else max(SHARE * len(w) / len(s.X), FINAL_TOL)
    # Of what the sample has seen a few times it would be too sure, where all rows are another matter.
    strengths = problem.penalty_hessian(w) + evidence(problem, s.X)
    here = problem if s.complete else replace(problem, penalty=L2(strengths))
    first, solved = yield from answer_in_memory(here, s.sample, _solve(here, s, w, tol))
    if s.complete:
        return solved
    (f, g, H), *at_given = yield (
        s.look(solved.w),
        *([Gradient(w)] if w[problem.model.penalised].any() else []),
    )
    at = solved.w
    if not f <= (at_given[0][0] if at_given else first):
        at = w
        ((f, g, H),) = yield (s.look(w),)
    return (yield from _arrive(problem, s, at, f, g, H))


def _solve(problem: Problem, s: SchurState, w: Array, tol: float) -> Steps:
    """The objective at w, and the State at the minimum over the rows that are asked, to a relative gap of
    `tol`."""
    ((f, g, H),) = yield (s.look(w),)
    first, now = f, _arrived(problem, s, w, f, g, H)
    for _ in range(MOST_STEPS):
        if now.stalled or not now.gap > tol * abs(now.f):
            break
        now = yield from _step(problem, now, foresee=False)
    close = now.gap <= POLISHED * abs(now.f) and not now.stalled
    return first, replace(now, w=now.at + now.d) if close else now


def _step(problem: Problem, s: SchurState, foresee: bool = True) -> Steps:
    """The State after a step, at the point where it was measured."""
    slope = float(s.g @ s.d)
    if not slope < 0:
        return replace(s, w=s.at, stalled=s.gap_at > 0)
    # Below the rounding of f its values say nothing of a step, and the step is right all the same.
    unseen = s.gap_at <= ROUNDING * abs(s.f)

    def accept(t: float, f: float, slope_t: float) -> bool:
        return bool(np.isfinite(f)) if unseen else wolfe(s.f, slope, t, f, slope_t)

    w = s.at + s.d
    ((f, g, H),) = yield (s.look(w),)
    if not accept(1.0, f, float(g @ s.d)):
        found = yield from search(s.at, s.d, s.f, slope, None, accept)
        if found is None:
            return replace(s, w=s.at, stalled=True)
        w = s.at + found[0] * s.d
        ((f, g, H),) = yield (s.look(w),)
    if foresee:
        return (yield from _arrive(problem, s, w, f, g, H))
    return _arrived(problem, s, w, f, g, H)


def _arrive(problem: Problem, s: SchurState, w: Array, f: float, g: Array, H: Arrowhead) -> Steps:
    """The State at w; or after the next step, where the sample shows that nothing is left to see.

    With r the gradient of the sample after the step less that which its Hessian foretells, what the step
    leaves of the gap is ``r' H^-1 r / 2``, and something in features of which the sample has few rows.
    """
    new = _arrived(problem, s, w, f, g, H)
    (tol,) = yield (Tolerance(f),)
    if not 0 < new.gap <= NEAR * abs(f):
        return new
    before, after, foretold = yield (
        EvaluateInMemory(problem, s.sample, GradientOnly(w)),
        EvaluateInMemory(problem, s.sample, GradientOnly(w + new.d)),
        EvaluateInMemory(problem, s.sample, Product(w, new.d)),
    )
    left = schur_step(problem, H, after - before - foretold)[1] + _left_of_rare(problem, s, new.d, H)
    if SAFETY * left <= min(tol, new.gap):
        return replace(new, w=w + new.d, gap=SAFETY * left)
    return new


def _left_of_rare(problem: Problem, s: SchurState, d: Array, H: Arrowhead) -> float:
    """What a step leaves of the gap in the features that few rows of the sample have, at most about.

    Where second derivatives c of the loss change by no more than their own size for each unit of the margin,
    as those of the logistic and the Poisson loss do, a slope changes by ``H_jj d_j**2 / 2`` more than the
    Hessian foretells, d being in units of the margin.
    """
    if isinstance(problem.loss, Squared):
        return 0.0
    p, scale = problem.model.n_features, problem.linear.scale
    rare = np.flatnonzero(s.X.counts() < SEEN)
    size = d[rare] ** 4 * H.main_diagonal[:p][rare]
    return float((size if scale is None else size / scale[rare] ** 2).sum()) / 8


def _arrived(problem: Problem, s: SchurState, w: Array, f: float, g: Array, H: Arrowhead) -> SchurState:
    """The State at w, with its next step."""
    d, gap = schur_step(problem, H, g)
    return replace(s, w=w, at=w, f=f, g=g, d=d, gap=gap, gap_at=gap, stalled=False)


def schur_step(problem: Problem, H: Arrowhead, g: Array) -> tuple[Array, float]:
    """The Newton step ``-H^-1 g`` ``(d,)``, and half the squared Newton decrement ``g' H^-1 g / 2``.

    H is by parameters of which those of its run multiply features that are not centred: with c the centres of
    the run over its scales, its intercept is the problem's less ``c' v``, v being the coefficients of the
    run, and its gradient by these is ``g + c g_intercept``.
    """
    if not (np.isfinite(g).all() and all(np.isfinite(a).all() for a in (H.diagonal, H.border, H.core))):
        return np.zeros_like(g), np.inf
    run, others = H.split(g)
    model = problem.linear
    shift = np.zeros(len(run))
    if model.center is not None:
        scale = 1.0 if model.scale is None else model.scale
        shift = H.split(np.append(model.center / scale, 0.0))[0]
        run = run + shift * others[-1]
    inside = H.diagonal > 0  # others have no rows, and no slope
    root = np.sqrt(H.diagonal[inside])
    F = H.border[inside] / root[:, None]
    x = run[inside] / root
    d_others, promise = decrement(H.core - F.T @ F, others - F.T @ x)
    d_run = np.zeros(len(run))
    d_run[inside] = -(x + F @ d_others) / root
    gap = promise + float(x @ x) / 2
    if model.center is not None:
        d_others[-1] += shift @ d_run
    return H.join(d_run, d_others), gap
