"""GIANT: Newton directions of every partition's own, averaged; few sweeps, and no matrix travels."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.problems import Problem
from daskgd.queries import Dispersion, Local, Product, Query, Spread, on
from daskgd.rows.layout import Shape
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import Solver, State, Steps, SweepEstimate, check_whole, extrapolated_gap
from daskgd.solvers.hessian_free import solve_cg
from daskgd.solvers.lbfgs import remember, two_loop
from daskgd.solvers.line_search import cubic, search, wolfe
from daskgd.solvers.newton import DENSE, ROUNDING
from daskgd.solvers.sampled_start import HESSIAN_ROWS, begin, hessian, sample_of, solve, some

Array = NDArray[Any]

PAIRS = 10
"""Most pairs of steps and differences of gradients kept."""

TRUSTED = 4.0
"""By which factor what a step promises may be off before the next one is not left to a bet."""

SLOW = 0.3
"""Share of the gap from which on what a step leaves makes it a slow one."""

MAX_SLOW_STEPS = 4
"""Slow steps in a row after which directions are no more left to partitions."""


@dataclass(frozen=True, slots=True)
class GiantState(State):
    """Where GIANT stands: `w` is where to end if this is the end; f and g were measured at `at`.

    Attributes
    ----------
    at : (d,)
    d : (d,)
        The next step; none where it has to be asked.
    exact : bool
        Whether partitions made it of the gradient of all rows.
    known : (d,)
        The gradient of all rows at the point that partitions remember their own of; none before the first.
    metric : (d, d)
        The sample's Hessian, if there is one.
    S, Y : (<=10, d)
        Steps and differences of gradients.
    model_error_ratio : float
        By which factor the last step did otherwise than promised; infinity before the first.
    slow_steps : int
        Steps in a row that left more than ``SLOW`` of the gap.
    safe : bool
        Whether directions come from the sample's Hessian and pairs, and no more from partitions.
    partitions, between, expected :
        Of the first round's :class:`~daskgd.queries.Dispersion`.
    """

    at: Array = field(default_factory=lambda: np.zeros(0))
    d: Array = field(default_factory=lambda: np.zeros(0))
    exact: bool = False
    known: Array = field(default_factory=lambda: np.zeros(0))
    metric: Array = field(default_factory=lambda: np.zeros((0, 0)))
    S: Array = field(default_factory=lambda: np.zeros((0, 0)))
    Y: Array = field(default_factory=lambda: np.zeros((0, 0)))
    model_error_ratio: float = np.inf
    slow_steps: int = 0
    safe: bool = False
    partitions: int = 0
    between: float = 0.0
    expected: float = 0.0

    @property
    def point(self) -> Array:
        return self.at

    @property
    def slope(self) -> float:
        """How steeply the objective falls along d at first, ``g'd``."""
        return float(self.g @ self.d)

    def accepts(self, t: float, f: float, slope: float) -> bool:
        """Whether a step of t along d will do, to objective f with this slope along d."""
        if -self.slope <= ROUNDING * abs(self.f):  # values say nothing of such a step
            return bool(np.isfinite(f))
        return wolfe(self.f, self.slope, t, f, slope)

    @property
    def dispersion(self) -> Dispersion:
        return Dispersion(self.partitions, self.between, self.expected)


@dataclass(frozen=True, slots=True, eq=False)
class Direction:
    """The work of one partition: the Newton direction ``-H_i^-1 q``, with the Hessian of its own objective at
    w.

    q is the gradient g of all rows at w, where that is known. Where it is not yet, it is estimated as
    ``g_i + c - c_i``: the gradients c of all rows and c_i of its own are those of the last round. What that
    gets wrong is the difference of the Hessians times the last step.
    """

    g: Array | None = None
    c: Array | None = None

    def __call__(self, problem: Problem, rows: Rows, w: Array, g: Array, memory: Any) -> tuple[Array, Any]:
        q = g
        if self.g is not None:
            q = self.g
        elif self.c is not None and memory is not None:
            q = g + self.c - memory
        if len(w) <= DENSE:
            return -solve(hessian(problem, rows, w), q), g
        part = some(rows, HESSIAN_ROWS * len(w))
        return -solve_cg(lambda v: on(part, problem, Product(w, v)), q), g


@dataclass(slots=True)
class GIANT(Solver):
    """Globally improved approximate Newton (Wang, Roosta-Khorasani, Xu & Mahoney 2018).

    Partitions solve for Newton's direction with their own Hessians and the gradient of all rows, and the
    directions are averaged: their errors, of the size of parameters over rows of a partition, square.
    Vectors travel, never matrices; beyond 1,500 parameters the local systems are solved by conjugate
    gradients.

    An iteration costs one sweep while bets pay: in the sweep that measures objective and gradient at a point,
    partitions also make the next direction, with their own gradient corrected by what they remember of the
    last round (as SVRG and SCAFFOLD correct it) where the gradient of all rows is not known yet. Where such a
    direction does not go down, or its unit step is refused, a sweep more asks for the direction with the
    gradient that is now known; where the unit step is refused again, the line is searched.

    The first round also measures how far the partitions' gradients lie apart. Where they differ beyond
    chance, as on rows sorted by label, or a bet promises something else than the sample's Hessian does, as on
    rows sorted by a feature, directions come from that Hessian, corrected by L-BFGS, instead: no worse than
    :class:`~daskgd.SubsampledNewton`. Without a sample L-BFGS corrects the averaged directions.

    The gap is half the squared Newton decrement, times the factor by which the last step did better than its
    own promise.

    Parameters
    ----------
    sample_bytes : int
        Bytes of X in a sample of the rows that comes with the first sweep, and whose solution is where to
        start; 0 starts where it is told.
    seed : int or None
        Of the sample; None is 0, or what the estimator's `random_state` says.

    Examples
    --------
    >>> GIANT(sample_bytes=0)
    GIANT(sample_bytes=0, seed=None)
    """

    regime: ClassVar[str] = "distributed"
    needs_partitions: ClassVar[bool] = True
    needs_linear: ClassVar[bool] = True

    sample_bytes: int = 16_000_000
    seed: int | None = None

    def __post_init__(self) -> None:
        check_whole(self, "sample_bytes")
        check_whole(self, "seed", optional=True)

    def first_sweep_queries(self, shape: Shape) -> tuple[Query, ...]:
        return sample_of(shape, self.sample_bytes, self.seed or 0)

    def expected_sweeps(
        self, shape: Shape, loss: Loss | None = None, parameters: int | None = None
    ) -> SweepEstimate:
        return SweepEstimate(3, 12) if self.sample_bytes else SweepEstimate(6, 30)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        begun = yield from begin(problem, w, first_sweep_answers)
        none = np.zeros((0, len(w)))
        return GiantState(begun.w, np.inf, np.zeros_like(w), at=begun.w, metric=begun.metric, S=none, Y=none)

    def iterate(self, problem: Problem, state: GiantState) -> Steps:
        s = state
        if not np.isfinite(s.f):
            (f, g, v), spread = yield Local(s.at, Direction()), Spread(s.at)
            differ = spread.differ
            s = replace(
                s,
                f=f,
                g=g,
                objective_history=np.array([f]),
                known=g,
                d=v[:0] if differ else v,
                safe=differ and len(s.metric) > 0,
                partitions=spread.partitions,
                between=spread.between,
                expected=spread.expected,
            )
            return self._aim(s)
        if not s.safe:
            moved = yield from self._average_step(s)
            if moved is not None:
                return moved
            s = replace(s, safe=True)
        return (yield from self._sample_step(s))

    def remark(self, state: GiantState) -> str | None:
        if not state.dispersion.differ:
            return None
        return f"{state.dispersion}. " + (
            "Directions were made with the sample's Hessian instead of averaged; shuffled rows need none"
            if state.safe
            else "Directions took two sweeps each; shuffled rows need one, or give sample_bytes"
        )

    # -- directions -------------------------------------------------------------------------------

    def _average_step(self, s: GiantState) -> Steps:
        """The State after a step along an average of the partitions' directions; None where no such step
        helps, or the sample knows better.

        First the bet: the direction that came with the last round, if it goes down. Then the direction of the
        gradient that is known by now. Only along that one is the line searched.
        """
        if len(s.d) and s.slope < 0:
            bet = yield from _try_unit_step(s)
            if bet.accepted:
                return self._advance(s, 1.0, bet.f, bet.g, bet.d)
            s = replace(s, known=bet.g)
        if len(s.metric):  # a bet that went wrong: partitions are unlike in some way
            return None
        s = yield from self._ask_direction(s)
        if not s.slope < 0:
            return None
        trial = yield from _try_unit_step(s)
        if trial.accepted:
            return self._advance(s, 1.0, trial.f, trial.g, trial.d)
        s = replace(s, known=trial.g)
        t = cubic(s.f, s.slope, 1.0, trial.f, float(trial.g @ s.d))
        found = yield from search(s.at, s.d, s.f, s.slope, t, s.accepts)
        return None if found is None else self._advance(s, *found, s.d[:0])

    def _ask_direction(self, s: GiantState) -> Steps:
        """The State with the average direction for the gradient of all rows, corrected by L-BFGS: its two
        loops, with a sweep as their initial product."""
        q, rho = s.g.copy(), [1 / float(a @ b) for a, b in zip(s.S, s.Y, strict=True)]
        alpha = np.zeros(len(rho))
        for i in reversed(range(len(rho))):
            alpha[i] = rho[i] * (s.S[i] @ q)
            q -= alpha[i] * s.Y[i]
        ((f, g, v),) = yield (Local(s.at, Direction(g=q)),)
        q = -v
        for i in range(len(rho)):
            q += s.S[i] * (alpha[i] - rho[i] * (s.Y[i] @ q))
        return replace(s, f=f, g=g, known=g, d=-q, exact=True)

    def _sample_step(self, s: GiantState) -> Steps:
        """The State after a step along the direction of L-BFGS, started from the sample's Hessian."""
        initial = (lambda q: solve(s.metric, q)) if len(s.metric) else None
        s = replace(s, d=-two_loop(s.g, s.S, s.Y, initial))
        found = None
        if s.slope < 0:
            trial = 1.0 if len(s.metric) or len(s.S) else None
            found = yield from search(s.at, s.d, s.f, s.slope, trial, s.accepts)
        if found is not None:
            return self._advance(s, *found, s.d[:0])
        if len(s.S):
            return replace(s, S=s.S[:0], Y=s.Y[:0])
        if len(s.metric):
            return replace(s, metric=s.metric[:0, :0])
        return replace(s, w=s.at, stalled=bool(s.g.any()), gap=s.gap if s.g.any() else 0.0)

    # -- states -----------------------------------------------------------------------------------

    def _advance(self, s: GiantState, t: float, f: float, g: Array, v: Array) -> GiantState:
        """The State after a step of t along s.d, to objective f and gradient g; v is the next direction, if
        there is one."""
        step, change = t * s.d, g - s.g
        promised = -float(s.g @ s.d) * (t - t * t / 2)
        model_error_ratio = 1.0
        if promised > ROUNDING * abs(f):
            met = float(step @ change)
            model_error_ratio = max(
                1.0, (s.f - f) / promised, -float(s.g @ step) * t / met if met > 0 else 1.0
            )
        S, Y = remember(s.S, s.Y, step, change, PAIRS)
        known = g if len(v) else s.known
        objective_history = np.append(s.objective_history, f)
        new = replace(
            s,
            at=s.at + step,
            f=f,
            g=g,
            d=v,
            S=S,
            Y=Y,
            model_error_ratio=model_error_ratio,
            known=known,
            objective_history=objective_history,
        )
        new = self._aim(replace(new, exact=False, stalled=False))
        slow_steps = s.slow_steps + 1 if new.gap > SLOW * s.gap else 0
        return replace(
            new, slow_steps=slow_steps, safe=new.safe or (s.exact and slow_steps >= MAX_SLOW_STEPS)
        )

    def _aim(self, s: GiantState) -> GiantState:
        """The State with its gap, and with where to end: a step further once one has confirmed the
        directions."""
        if not np.isfinite(s.g).all():
            return replace(s, gap=np.inf)
        if not s.g.any():
            return replace(s, w=s.at, gap=0.0)
        initial = (lambda q: solve(s.metric, q)) if len(s.metric) else None
        inner = float(s.g @ two_loop(s.g, s.S, s.Y, initial)) / 2
        d = s.d
        if len(d):
            gap = -float(s.g @ d) / 2
            confirmed = len(s.S) > 0 or len(s.metric) > 0
            if not gap > 0 or (confirmed and not 1 / TRUSTED < gap / inner < TRUSTED):
                d = d[:0]  # a bet that has gone wrong
        gap = inner if not len(d) else max(inner, -float(s.g @ d) / 2)
        if np.isinf(s.model_error_ratio):
            return replace(s, w=s.at, d=d, gap=np.inf)
        gap *= s.model_error_ratio
        if not len(s.metric) and not len(d):
            gap = max(gap, extrapolated_gap(s.objective_history))
        return replace(s, w=s.at + d if len(d) else s.at, d=d, gap=gap)


@dataclass(frozen=True, slots=True)
class _Trial:
    """What was found at the end of a unit step: whether it will do, objective and gradient, and the average
    direction of the partitions there."""

    accepted: bool
    f: float
    g: Array
    d: Array


def _try_unit_step(s: GiantState) -> Generator[tuple[Query, ...], Sequence[Any], _Trial]:
    """Ask for the end of the unit step along s.d, where partitions also make the next direction: one
    sweep."""
    ((f, g, d),) = yield (Local(s.at + s.d, Direction(c=s.known)),)
    return _Trial(s.accepts(1.0, f, float(g @ s.d)), f, g, d)
