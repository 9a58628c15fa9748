"""The perceptron's rule with a pocket: local passes, and the parameters that made the fewest mistakes."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Local, Score
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import Solver, Steps, check_whole, is_count, is_positive, require
from daskgd.solvers.local_gd import LocalState
from daskgd.solvers.mini_batches import batch_rows, mini_batches, targets_and_weight

Array = NDArray[Any]

BATCH_ROWS = 256
"""Rows of a batch, at most."""


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


@dataclass(frozen=True, slots=True)
class Passes:
    """The work of one partition in one round: `passes` over its rows, in batches of `batch_size`.

    Every batch takes a step of length `step` against the gradient of its mean loss, which the rows that are
    wrong make up, each by its weight relative to the mean of all, and of the penalty. Tiles, and rows within
    them, are in an order drawn from (seed, first row, round, pass), or without `shuffle` in their own. The
    answer is the mean of the parameters after each step of the last pass, and those after the last step where
    that pass met no mistake, after which there is no other.
    """

    step: float
    passes: int
    batch_size: int | None
    seed: int
    round: int
    shuffle: bool = True

    def __call__(self, problem: Problem, rows: Rows, w: Array, g: Array, memory: Any) -> tuple[Array, Any]:
        if not g.any():
            return np.zeros_like(w), None
        at, mean, size = w, w, batch_rows(len(rows), self.batch_size, BATCH_ROWS)
        _, mean_weight = targets_and_weight(problem, rows)
        for number in range(self.passes):
            wrong, steps, total = False, 0, np.zeros_like(w)
            batches = mini_batches(problem, rows, size, self.seed, self.round, number, self.shuffle)
            for X, y, s in batches:
                if s is not None and not s.any():
                    continue
                z, vjp = problem.forward(at, X)
                slope = problem.loss.gradient(z, y)
                met = bool(slope.any())
                if met:
                    if s is not None:
                        slope = slope * (s if slope.ndim == 1 else s[:, None])
                    at = at - (self.step / (len(X) * mean_weight)) * vjp(slope)
                if problem.penalty.smooth:
                    at = at - self.step * problem.penalty_gradient(at)
                else:
                    at = problem.penalty.prox(at, self.step)
                wrong, steps, total = wrong or met, steps + 1, total + at
            mean = total / max(steps, 1) if wrong else at
            if not wrong:
                break
        return mean - w, None


@dataclass(slots=True)
class Pocket(Solver):
    """Passes of the perceptron's rule, averaged, with the best parameters in the pocket (Gallant 1990).

    In a sweep every partition goes over its rows in small batches, several times, and the results are
    averaged (iterative parameter mixing, McDonald, Hall & Mann 2010). Each sweep also counts the rows that
    the parameters at its start get right: those that got most right are the answer. The fit ends where no
    mistake is left, or where the share of right rows has not risen by more than `min_delta` for `patience`
    sweeps: classes that no plane separates leave the rule to wander without end.

    Parameters
    ----------
    step : float
        Length of a step.
    passes : int
        Passes over the rows of a partition in a sweep.
    batch_size : int, optional
        Rows for a step; None is a 64th of the rows of the partition, between 1 and 256.
    seed : int, optional
        For the order of the batches; None takes the estimator's `random_state`.
    shuffle : bool
        Whether to draw an order of the rows for each pass.
    min_delta : float
        By how much the share must rise to count.
    patience : int or None
        Sweeps without a rise after which to stop. With None there is no pocket: the fit goes on as long as
        it may, and the last average is the answer.

    Examples
    --------
    >>> from daskgd.solvers.pocket import Pocket
    >>> Pocket(step=0.1).patience
    5
    """

    regime = "distributed"
    needs_smooth = False
    needs_smooth_penalty = False
    needs_partitions = True
    approximate = True
    fixes_step = True

    step: float = 1.0
    passes: int = 1
    batch_size: int | None = None
    seed: int | None = None
    shuffle: bool = True
    min_delta: float = 1e-3
    patience: int | None = 5

    def __post_init__(self) -> None:
        require(is_positive(self.step), self, "step", "> 0", self.step)
        require(is_count(self.passes), self, "passes", "a whole number >= 1", self.passes)
        batch = self.batch_size is None or is_count(self.batch_size)
        require(batch, self, "batch_size", "None or a whole number >= 1", self.batch_size)
        check_whole(self, "seed", optional=True)
        ok = isinstance(self.min_delta, int | float) and 0 <= self.min_delta < np.inf
        require(ok, self, "min_delta", "a number >= 0", self.min_delta)
        patient = self.patience is None or is_count(self.patience)
        require(patient, self, "patience", "None or a whole number >= 1", self.patience)

    def check(self, problem: Problem) -> None:
        if problem.loss.kind != "classification":
            raise ValueError(f"Pocket counts labels that are right; {problem.loss} has none. Use LocalGD()")
        Solver.check(self, problem)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        yield from ()
        return PocketState(w, np.inf, np.zeros_like(w), step=self.step, current=w)

    def iterate(self, problem: Problem, state: Any) -> Steps:
        s: PocketState = state
        work = Passes(self.step, self.passes, self.batch_size, self.seed or 0, s.round, bool(self.shuffle))
        (f, g, v), score = yield (Local(s.current, work), Score(s.current))
        if not s.current.any():  # where a fit begins, which is no model yet
            score = -np.inf
        better, rose = score > s.score, score > s.score + self.min_delta
        waited = 0 if rose else s.waited + 1
        if self.patience is None or np.isinf(max(score, s.score)):
            better, kept = False, s.current + v
        else:
            kept = s.w
        return replace(
            s,
            w=s.current if better else kept,
            f=f,
            g=g,
            gap=np.inf if g.any() else 0.0,
            stalled=self.patience is not None and waited >= self.patience,
            at=s.current,
            round=s.round + 1,
            current=s.current + v,
            score=max(score, s.score),
            waited=waited,
        )
