"""Limited-memory BFGS: a quasi-Newton method of one sweep an iteration."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.problems import Problem
from daskgd.queries import Gradient, Query
from daskgd.rows.layout import Shape
from daskgd.solvers.base import Solver, State, Steps, SweepEstimate, extrapolated_gap, is_count, require
from daskgd.solvers.line_search import search, wolfe

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class LBFGSState(State):
    """Where L-BFGS stands: adds the last steps S and differences of gradients Y, ``(<=memory, d)``, oldest
    first, and the sweeps so far in which the objective was evaluated."""

    S: Array = field(default_factory=lambda: np.zeros((0, 0)))
    Y: Array = field(default_factory=lambda: np.zeros((0, 0)))
    evaluations: int = 0


@dataclass(slots=True)
class LBFGS(Solver):
    """L-BFGS (Nocedal & Wright 2006, algorithms 7.4 and 7.5).

    Each iteration bets on the unit step, at the cost of one sweep. It nearly always meets the weak Wolfe
    conditions, in the approximate form of Hager & Zhang (2005) near the rounding floor; where it does
    not, :mod:`~daskgd.solvers.line_search` spends a sweep or two on another.

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

    extrapolates: ClassVar[bool] = True
    solves_gradient: ClassVar[bool] = True

    memory: int = 10

    def __post_init__(self) -> None:
        require(is_count(self.memory), self, "memory", "a whole number >= 1", self.memory)

    def expected_sweeps(
        self, shape: Shape, loss: Loss | None = None, parameters: int | None = None
    ) -> SweepEstimate:
        return SweepEstimate(words="tens to hundreds")

    def driver_numbers(self, shape: Shape, problem: Problem) -> int:
        return 2 * self.memory * problem.model.size

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        ((f, g),) = yield (Gradient(w),)
        none = np.zeros((0, len(w)))
        gap = np.inf if g.any() else 0.0
        return LBFGSState(w, f, g, S=none, Y=none, gap=gap, objective_history=np.array([f]), evaluations=1)

    def iterate(self, problem: Problem, state: LBFGSState) -> Steps:
        s = state
        known = len(s.S) > 0
        d = -two_loop(s.g, s.S, s.Y)
        slope = float(s.g @ d)
        if slope == 0:
            return replace(s, gap=0.0)

        def accept(t: float, f: float, slope_t: float) -> bool:
            return wolfe(s.f, slope, t, f, slope_t)

        found, sweeps = yield from counted(search(s.w, d, s.f, slope, 1.0 if known else None, accept))
        s = replace(s, evaluations=s.evaluations + sweeps)
        if found is None:  # start again from the gradient; if that was the gradient, there is no way down
            return replace(s, S=s.S[:0], Y=s.Y[:0], stalled=not known)
        t, f, g = found
        w = s.w + t * d
        S, Y = remember(s.S, s.Y, w - s.w, g - s.g, self.memory)
        after = float(g @ two_loop(g, S, Y)) / 2
        before = -slope / 2 if known else np.inf
        objective_history = np.append(s.objective_history, f)
        gap = max(after, before, extrapolated_gap(objective_history)) if g.any() else 0.0
        return replace(s, w=w, f=f, g=g, S=S, Y=Y, gap=gap, objective_history=objective_history)


def counted(steps: Steps) -> Generator[tuple[Query, ...], Sequence[Any], tuple[Any, int]]:
    """What a generator of queries returns, and how many times it asked."""
    answers: Any = None
    for n in count():
        try:
            queries = steps.send(answers)
        except StopIteration as end:
            return end.value, n
        answers = yield queries
    raise AssertionError


def two_loop(g: Array, S: Array, Y: Array, initial: Callable[[Array], Array] | None = None) -> Array:
    """The product of the inverse Hessian estimate with g (algorithm 7.4), from pairs ``(m, d)``, oldest
    first.

    `initial` applies the estimate that the pairs correct; by default the scaled identity of (7.20).
    """
    q, alpha = first_loop(g, S, Y)
    if initial is not None:
        q = initial(q)
    elif len(S):
        q = q * ((S[-1] @ Y[-1]) / (Y[-1] @ Y[-1]))
    return second_loop(q, alpha, S, Y)


def first_loop(g: Array, S: Array, Y: Array) -> tuple[Array, Array]:
    """The vector ``(d,)`` to which the estimate that the pairs correct is applied, and what
    :func:`second_loop` needs of the pairs ``(m,)``."""
    q, alpha = g.copy(), np.zeros(len(S))
    if len(S):
        rho = 1 / np.einsum("ij,ij->i", S, Y)
        for i in reversed(range(len(S))):
            alpha[i] = rho[i] * (S[i] @ q)
            q -= alpha[i] * Y[i]
    return q, alpha


def second_loop(q: Array, alpha: Array, S: Array, Y: Array) -> Array:
    """The product with the estimate, from q, to which the one that the pairs correct has been applied."""
    if len(S):
        rho = 1 / np.einsum("ij,ij->i", S, Y)
        for i in range(len(S)):
            q += S[i] * (alpha[i] - rho[i] * (Y[i] @ q))
    return q


def remember(S: Array, Y: Array, s: Array, y: Array, memory: int) -> tuple[Array, Array]:
    """The pairs with one more appended, unless its curvature is lost in rounding; the oldest beyond `memory`
    are dropped."""
    if not s @ y > 1e-10 * np.sqrt((s @ s) * (y @ y)):
        return S, Y
    return np.vstack([S, s])[-memory:], np.vstack([Y, y])[-memory:]
