"""Local gradient descent: the simplest solver of the distributed regime.

Every partition starts from the shared parameters, walks its own steps on its own rows, and the results
are averaged, weighted with the weight of the rows (McDonald, Hall & Mann 2010; Stich 2019).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Gradient, Local, total
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import Solver, State, Steps, halved, is_count, is_positive, require, secant_gap

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class LocalState(State):
    """Where local descent stands: `w` is the average after the round; f and g were measured at `at`, where
    the round began."""

    at: Array | None = None
    round: int = 0

    @property
    def point(self) -> Array:
        return self.w if self.at is None else self.at


@dataclass(frozen=True, slots=True)
class LocalSteps:
    """The work of one partition in one round: `steps` steps of length `step`.

    Full batches, or batches of `batch_size` rows in the order of a permutation drawn from (seed, round,
    first row), drawn anew when it is used up. Stops early where the gradient of a full batch vanishes,
    as a perceptron's does once no mistake is left.
    """

    step: float
    steps: int
    batch_size: int | None
    seed: int
    round: int

    def __call__(self, problem: Problem, rows: Rows, w: Array, g: Array, memory: Any) -> tuple[Array, Any]:
        if self.batch_size is None or self.batch_size >= len(rows):
            return self._full(problem, rows, w, g) - w, None
        return self._batches(problem, rows, w, self.batch_size) - w, None

    def _full(self, problem: Problem, rows: Rows, w: Array, g: Array) -> Array:
        w = w - self.step * g
        for _ in range(self.steps - 1):
            query = Gradient(w)
            sums = total(query.of_tile(problem, tile) for tile in rows.tiles())
            _, g = query.answer(problem, sums)
            if not g.any():
                break
            w = w - self.step * g
        return w

    def _batches(self, problem: Problem, rows: Rows, w: Array, size: int) -> Array:
        per_epoch = -(-len(rows) // size)
        order = np.arange(0)
        for i in range(self.steps):
            epoch, batch = divmod(i, per_epoch)
            if batch == 0:
                draw = np.random.Philox(key=[self.seed, rows.start], counter=[0, 0, self.round, epoch])
                order = np.random.Generator(draw).permutation(len(rows))
            query = Gradient(w)
            sums = query.tile(problem, rows.select(np.sort(order[batch * size : (batch + 1) * size])).tile())
            if sums["weight"] > 0:
                w = w - self.step * query.answer(problem, sums)[1]
        return w


@dataclass(slots=True)
class LocalGD(Solver):
    """Rounds of local steps and averaging, one sweep a round.

    Partitions are a function of the dataset (`partition_bytes`), never of the cluster, so that results
    do not depend on the number of workers. With one local step per round it equals gradient descent;
    with more it needs fewer sweeps, and stops at a point that leans towards the partitions' own optima
    where partitions differ, so that the reported gap need not reach `tol`.

    Parameters
    ----------
    step : float
        Length of a local step; halved, from the best parameters so far, where the objective grows without
        bound (not with ``tol=0``).
    local_steps : int
        Steps per partition and round.
    batch_size : int, optional
        Rows per local step; None takes all rows of the partition.
    seed : int, optional
        For the order of the batches; None takes the estimator's `random_state`.

    Examples
    --------
    >>> LocalGD(step=0.1, local_steps=5)
    LocalGD(step=0.1, local_steps=5, batch_size=None, seed=None)
    """

    regime = "distributed"
    needs_smooth = False
    needs_partitions = True
    approximate = True
    fixes_step = True

    step: float = 0.1
    local_steps: int = 10
    batch_size: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        require(is_positive(self.step), self, "step", "> 0", self.step)
        require(is_count(self.local_steps), self, "local_steps", "a whole number >= 1", self.local_steps)
        require(
            self.batch_size is None or is_count(self.batch_size),
            self,
            "batch_size",
            "None or a whole number >= 1",
            self.batch_size,
        )
        require(
            self.seed is None or (is_count(self.seed + 1) and self.seed < 2**64),
            self,
            "seed",
            "None or a whole number in [0, 2**64)",
            self.seed,
        )

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        return LocalState(w, np.inf, np.zeros_like(w), step=self.step)
        yield ()  # a generator like every other, though it asks nothing

    def iterate(self, problem: Problem, state: LocalState) -> Steps:
        step = float(np.ldexp(self.step, -state.halvings))
        work = LocalSteps(step, self.local_steps, self.batch_size, self.seed or 0, state.round)
        ((f, g, v),) = yield (Local(state.w, work),)
        if not g.any():
            gap = 0.0
        elif state.at is None or not problem.loss.smooth:
            gap = np.inf
        else:
            gap = secant_gap(g, state.w - state.at, g - state.g)
        return replace(state, w=state.w + v, f=f, g=g, gap=gap, at=state.w, round=state.round + 1)

    def retreat(self, best: LocalState, lost: LocalState) -> LocalState | None:
        return halved(best, lost, round=lost.round)
