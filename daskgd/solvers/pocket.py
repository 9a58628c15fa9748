"""The perceptron's rule with a pocket: local steps, and the parameters that made the fewest mistakes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Local, Score
from daskgd.solvers.base import Steps, is_count, require
from daskgd.solvers.local_gd import LocalGD, LocalState, LocalSteps

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class PocketState(LocalState):
    """Where the perceptron stands: `w` are the best parameters so far.

    Attributes
    ----------
    current : (d,)
        The average after the last round, from which the next begins.
    score : float
        The share of the weight of rows that `w` gets right.
    waited : int
        Rounds since it last rose by `min_delta`.
    """

    current: Array = field(default_factory=lambda: np.zeros(0))
    score: float = -np.inf
    waited: int = 0


@dataclass(slots=True)
class Pocket(LocalGD):
    """Local steps of the perceptron's rule, averaged, with the best parameters in the pocket (Gallant 1990).

    As :class:`~daskgd.LocalGD`, and each sweep also counts the rows that the parameters at its start get
    right. Those that got most right are the answer. The fit ends where no mistake is left, or where the share
    of right rows has not risen by more than `min_delta` for `patience` sweeps: classes that no plane
    separates leave the rule to wander without end.

    Parameters
    ----------
    step, local_steps, batch_size, seed :
        As those of :class:`~daskgd.LocalGD`.
    min_delta : float
        By how much the share must rise to count.
    patience : int
        Sweeps without a rise after which to stop.

    Examples
    --------
    >>> from daskgd.solvers.pocket import Pocket
    >>> Pocket(step=1.0).patience
    5
    """

    min_delta: float = 1e-3
    patience: int = 5

    def __post_init__(self) -> None:
        LocalGD.__post_init__(self)  # super() does not find its way in a dataclass with slots
        ok = isinstance(self.min_delta, int | float) and 0 <= self.min_delta < np.inf
        require(ok, self, "min_delta", "a number >= 0", self.min_delta)
        require(is_count(self.patience), self, "patience", "a whole number >= 1", self.patience)

    def check(self, problem: Problem) -> None:
        if problem.loss.kind != "classification":
            raise ValueError(f"Pocket counts labels that are right; {problem.loss} has none. Use LocalGD()")
        LocalGD.check(self, problem)

    def retreat(self, best: Any, lost: Any) -> None:
        """No shorter steps: the pocket keeps what was best."""
        return None

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        yield from ()
        return PocketState(w, np.inf, np.zeros_like(w), step=self.step, current=w)

    def iterate(self, problem: Problem, state: Any) -> Steps:
        s: PocketState = state
        step = float(np.ldexp(self.step, -s.halvings))
        work = LocalSteps(step, self.local_steps, self.batch_size, self.seed or 0, s.round)
        (f, g, v), score = yield (Local(s.current, work), Score(s.current))
        if not s.current.any():  # where a fit begins, which is no model yet
            score = -np.inf
        better, rose = score > s.score, score > s.score + self.min_delta
        waited = 0 if rose else s.waited + 1
        kept = s.current + v if np.isinf(max(score, s.score)) else s.w
        return replace(
            s,
            w=s.current if better else kept,
            f=f,
            g=g,
            gap=np.inf if g.any() else 0.0,
            stalled=waited >= self.patience,
            at=s.current,
            round=s.round + 1,
            current=s.current + v,
            score=max(score, s.score),
            waited=waited,
        )
