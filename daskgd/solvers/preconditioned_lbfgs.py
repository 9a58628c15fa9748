"""L-BFGS for more parameters than a sample can tell of: from its solution, in the metric of what is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Gradient, HessianDiagonal, Line, Query
from daskgd.queries.sample import Sample, SampleAnswer
from daskgd.rows.features import Dense, Features, as_features
from daskgd.rows.layout import Shape
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import (
    SolveInMemory,
    Solver,
    State,
    Steps,
    SweepEstimate,
    Tolerance,
    check_whole,
    extrapolated_gap,
    is_count,
    require,
)
from daskgd.solvers.frequent_features import (
    MOST_FREQUENT,
    CorrelateFrequent,
    FrequentCorrelations,
    evidence,
)
from daskgd.solvers.lbfgs import remember, two_loop
from daskgd.solvers.line_search import search, wolfe
from daskgd.solvers.newton_cg import TIGHT, conjugate_gradients
from daskgd.solvers.subsampled_newton import SubsampledNewton

Array = NDArray[Any]

PAIRS, PAIR_BYTES = 20, 1 << 30
"""Most pairs of steps and differences of gradients, and bytes of them."""

FORCING, PRODUCTS = 0.5, 50
"""Relative residual of the Newton system that confirms that the minimum is near, and most products for it."""

RECENT, RECENT_SHARE, SETTLED = 4, 1 / 3, 0.3
"""The latest products, a share of all and at least so many, that are to have added no more than this share of
what all have to the gap, before that is believed. The residual sees little of flat directions: at one of 0.4
the gap was up to 4.8 times what had been found."""

CAUTION, SAFETY = 1.5, 2.0
"""How much larger than estimated a gap is taken to be: in 185 measurements under weak penalties it was up to
1.63 times the estimate, and in all but four at most 1.44 times; and after the step that was found with it."""

START_TOL = 0.03
"""Relative gap to which the sample is solved: what it has wrong is more."""


@dataclass(frozen=True, slots=True)
class PreconditionedState(State):
    """Where preconditioned L-BFGS stands.

    Attributes
    ----------
    X, y, s :
        The sample.
    diagonal : (d,)
        That of the Hessian over all rows, the mean of those before and at the sample's solution: where the
        sample is fitted too well, curvature at its solution is too small.
    frequent (h,), factor (h, h) :
        Those of :class:`~daskgd.solvers.frequent_features.FrequentCorrelations`; none without a sample.
    S, Y : (m, d)
        Steps and differences of gradients.
    """

    X: Features = field(default_factory=lambda: Dense(np.zeros((0, 0))))
    y: Array | None = None
    s: Array | None = None
    diagonal: Array = field(default_factory=lambda: np.zeros(0))
    frequent: Array = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    factor: Array = field(default_factory=lambda: np.zeros((0, 0)))
    S: Array = field(default_factory=lambda: np.zeros((0, 0)))
    Y: Array = field(default_factory=lambda: np.zeros((0, 0)))

    def __post_init__(self) -> None:
        object.__setattr__(self, "X", as_features(self.X))

    @property
    def sample(self) -> Rows:
        """The rows of the sample."""
        return Rows(self.X, self.y, self.s, 0)


@dataclass(slots=True)
class PreconditionedLBFGS(Solver):
    """L-BFGS with a preconditioner for many sparse features (Nocedal & Wright 2006, algorithm 7.4).

    A uniform sample of the rows comes with the first sweep. The problem is solved on it, with a penalty that
    stands for one more row of each feature, so that what the sample hardly knows of hardly moves. From there
    every iteration is one sweep, for the gradient; or from where the fit began, if the objective over all
    rows is less there. The direction is that of L-BFGS, started from the diagonal of the Hessian over all
    rows and from the sample's correlations among the most frequent features, which are most of all entries.

    The gap is half the squared decrement in that metric, or what the objectives so far tell, if that is more.
    Before a fit is said to have converged it is measured, by some products with the Hessian over all rows: a
    sweep each, five at least, and more as long as they find more; half as much again is added for caution.

    Parameters
    ----------
    sample_bytes : int
        Bytes of X in the sample.
    seed : int or None
        Of the sample; None is 0, or what the estimator's `random_state` says.

    Examples
    --------
    >>> PreconditionedLBFGS()
    PreconditionedLBFGS(sample_bytes=64000000, seed=None)
    """

    needs_linear: ClassVar[bool] = True

    sample_bytes: int = 64_000_000
    seed: int | None = None

    def __post_init__(self) -> None:
        require(is_count(self.sample_bytes), self, "sample_bytes", "a whole number >= 1", self.sample_bytes)
        check_whole(self, "seed", optional=True)

    def first_sweep_queries(self, shape: Shape) -> tuple[Query, ...]:
        rows = max(self.sample_bytes / shape.row_bytes, 100)
        return (Sample.of(shape, rows, int(rows / 10), self.seed or 0),)

    def driver_numbers(self, shape: Shape, problem: Problem) -> int:
        d = problem.model.size
        return 2 * _pairs(d) * d + 3 * min(shape.n_features, MOST_FREQUENT) ** 2

    def expected_sweeps(
        self, shape: Shape, loss: Loss | None = None, parameters: int | None = None
    ) -> SweepEstimate:
        return SweepEstimate(8, 30)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: SampleAnswer) -> Steps:
        (sample,) = first_sweep_answers
        rows, none, solved = sample.rows, np.zeros((0, len(w))), w
        if len(rows):
            here = replace(problem, penalty=L2(problem.penalty_hessian(w) + evidence(problem, rows.X)))
            solver = SubsampledNewton(sample_bytes=2**62, most_bytes=2**62, seed=self.seed)
            (found,) = yield (SolveInMemory(here, replace(rows, kept=None), solver, w, START_TOL),)
            solved = found.w if found.f <= found.first else w
        (f, g), diagonal, ((before,), _) = yield (
            Gradient(solved),
            HessianDiagonal((w, solved)),
            Line(w, solved - w, np.zeros(1)),
        )
        if solved is not w and not f <= before:
            solved = w
            (f, g), diagonal = yield Gradient(w), HessianDiagonal((w,))
        state = PreconditionedState(
            solved,
            f,
            g,
            objective_history=np.array([f]),
            X=rows.X,
            y=rows.y,
            s=rows.sample_weight,
            diagonal=_positive(diagonal),
            S=none,
            Y=none,
        )
        if not len(rows):
            return state
        (found,) = yield (CorrelateFrequent(problem, state.sample, solved),)
        return replace(state, frequent=found.frequent, factor=found.factor)

    def iterate(self, problem: Problem, state: PreconditionedState) -> Steps:
        s = state
        d = -two_loop(s.g, s.S, s.Y, _initial(problem, s))
        slope = float(s.g @ d)
        if not slope < 0:
            if not s.g.any():
                return replace(s, gap=0.0)
            return replace(s, S=s.S[:0], Y=s.Y[:0], stalled=not len(s.S))

        found = yield from search(s.w, d, s.f, slope, 1.0, _wolfe_from(s.f, slope))
        if found is None:
            return replace(s, S=s.S[:0], Y=s.Y[:0], stalled=not len(s.S))
        t, f, g = found
        w = s.w + t * d
        S, Y = remember(s.S, s.Y, w - s.w, g - s.g, _pairs(len(w)))
        history = np.append(s.objective_history, f)
        new = replace(s, w=w, f=f, g=g, S=S, Y=Y, objective_history=history, stalled=False)
        after = float(g @ two_loop(g, S, Y, _initial(problem, new))) / 2
        gap = max(after, -slope / 2 if len(s.S) else np.inf, extrapolated_gap(history)) if g.any() else 0.0
        (tol,) = yield (Tolerance(f),)
        if not 0 < gap <= tol:
            return replace(new, gap=gap)
        return (yield from self._confirm(problem, replace(new, gap=gap)))

    def _confirm(self, problem: Problem, s: PreconditionedState) -> Steps:
        """The State with its gap measured, by some products with the Hessian over all rows; where that is
        above the tolerance, after the Newton step that they have found."""
        metric = self.metric(problem, s)
        d, left, gains = yield from conjugate_gradients(s.w, s.g, FORCING, PRODUCTS, metric, _settled)
        measured = -float(s.g @ d) / 2
        measured += _rest(gains) if left > TIGHT and len(gains) else measured * left
        gap = CAUTION * measured
        (tol,) = yield (Tolerance(s.f),)
        if gap <= tol:
            return replace(s, gap=gap)
        found = yield from search(s.w, d, s.f, float(s.g @ d), 1.0, _wolfe_from(s.f, float(s.g @ d)))
        if found is None:
            return replace(s, gap=gap, S=s.S[:0], Y=s.Y[:0])
        t, f, g = found
        # What the metric misses of the gap, it has just been seen to.
        seen = SAFETY * max(measured / (float(s.g @ metric(s.g)) / 2), 1.0)
        S, Y = remember(s.S, s.Y, t * d, g - s.g, _pairs(len(d)))
        new = replace(
            s, w=s.w + t * d, f=f, g=g, S=S, Y=Y, objective_history=np.append(s.objective_history, f)
        )
        return replace(new, gap=seen * float(g @ self.metric(problem, new)(g)) / 2)

    def metric(self, problem: Problem, state: PreconditionedState) -> Callable[[Array], Array]:
        initial = _initial(problem, state)
        return lambda r: two_loop(r, state.S, state.Y, initial)


def _recent(gains: Array, before: int = 0) -> float:
    """What the latest products have added to the gap, or as many before them; all, where no others are."""
    m = max(RECENT, int(np.ceil(RECENT_SHARE * len(gains))))
    stop = len(gains) - m * before
    return float(gains[max(stop - m, 0) : max(stop, 0)].sum())


def _settled(gains: Array) -> bool:
    """Whether the latest products have added little to the gap."""
    return _recent(gains) <= SETTLED * float(gains.sum())


def _rest(gains: Array) -> float:
    """What more products would add to the gap: the rest of a geometric series, and not less than a quarter of
    what the latest have added."""
    last, before = _recent(gains), _recent(gains, before=1)
    return max(last * last / (before - last), last / 4) if before > last else last


def _initial(problem: Problem, s: PreconditionedState) -> Callable[[Array], Array]:
    """The estimate of the inverse Hessian that pairs correct: the preconditioner, of the size of the last."""
    known, k = FrequentCorrelations(s.frequent, s.factor), problem.linear.outputs

    def solve(q: Array) -> Array:
        return known.solve(q, s.diagonal, k)

    ratio = float(s.S[-1] @ s.Y[-1]) / float(s.Y[-1] @ solve(s.Y[-1])) if len(s.S) else 1.0
    return solve if 0.5 < ratio < 2 else lambda q: ratio * solve(q)


def _wolfe_from(f: float, slope: float) -> Callable[[float, float, float], bool]:
    """Whether a step from objective f along this slope, to another, meets the Wolfe conditions."""
    return lambda t, new, slope_t: wolfe(f, slope, t, new, slope_t)


def _pairs(d: int) -> int:
    return int(np.clip(PAIR_BYTES // (16 * d), 3, PAIRS))


def _positive(diagonal: Array) -> Array:
    """The diagonal, what is 0 in it raised."""
    least = 1e-10 * float(diagonal.max(initial=0.0))
    return np.maximum(diagonal, least) if least > 0 else np.ones_like(diagonal)
