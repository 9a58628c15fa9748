"""Parallel mini-batch descent: every step is the gradient of a share of the blocks."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.problems import Problem
from daskgd.queries import Gradient, Part, Share
from daskgd.solvers.base import Solver, State, Steps, in_unit_interval, is_count, require
from daskgd.solvers.schedules import Rule, Schedule, check_steps

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class SGDState(State):
    """Where mini-batch descent stands: `w` is where the epoch ended; f and g are averages over the points of
    its steps.

    Attributes
    ----------
    epoch : int
    steps : int
        Steps made so far.
    known : (m, d)
        What the rule remembers.
    """

    epoch: int = 0
    steps: int = 0
    known: Array = field(default_factory=lambda: np.zeros((0, 0)))


@dataclass(slots=True)
class SGD(Solver):
    """Mini-batch gradient descent with momentum: ``v <- momentum v + g``, ``w <- w - rate v``.

    An iteration is an epoch, one sweep in `steps` parts. Each part is a share of the blocks, drawn without
    replacement in an order that is new every epoch; only its blocks are read, in parallel, and its gradient
    makes one step. So steps are few and batches large, as becomes data that is read: whole blocks, of a
    megabyte or more. Rows that are sorted make gradients of shares noisier, as blocks are unlike then.

    The objective of the history is the average over an epoch of that at the steps' points, on their rows. No
    gap is estimated: fits run `max_iter` epochs.

    Parameters
    ----------
    step : float
        Length of the first steps, in the units of the parameters.
    steps : int
        Parts of an epoch; of data of fewer blocks some are empty and skipped.
    momentum : float
        In [0, 1).
    accumulate : int
        Parts whose gradients are averaged, by weight, for one step.
    schedule : "constant", "invscaling" or "cosine"
        See :class:`~daskgd.solvers.schedules.Schedule`.
    decay : float
        For "invscaling": steps shrink with ``(1 + t)**decay``, t in epochs.
    period : float
        For "cosine": epochs until steps are small.
    wire : "float64", "float32", "float16" or "int8"
        How sums travel; coded ones are made of whole partitions in memory.
    seed : int, optional
        Of the order of blocks; None takes the estimator's `random_state`.

    Examples
    --------
    >>> SGD(step=0.5, steps=32).schedule
    'constant'
    """

    needs_smooth: ClassVar[bool] = False
    approximate: ClassVar[bool] = True
    fixes_step: ClassVar[bool] = True

    step: float = 0.1
    steps: int = 16
    momentum: float = 0.9
    accumulate: int = 1
    schedule: str = "constant"
    decay: float = 0.5
    period: float = 10.0
    wire: str = "float64"
    seed: int | None = None

    def __post_init__(self) -> None:
        check_steps(self)
        require(is_count(self.steps), self, "steps", "a whole number >= 1", self.steps)
        require(is_count(self.accumulate), self, "accumulate", "a whole number >= 1", self.accumulate)
        require(in_unit_interval(self.momentum), self, "momentum", "in [0, 1)", self.momentum)

    @property
    def needs_partitions(self) -> bool:  # type: ignore[override]
        return self.wire != "float64"

    @property
    def rule(self) -> Rule:
        return Rule("momentum" if self.momentum else "sgd", self.momentum)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        yield from ()
        return SGDState(w, np.inf, np.zeros_like(w), known=self.rule.begin(len(w)))

    def iterate(self, problem: Problem, state: SGDState) -> Steps:
        s, seed = state, self.seed or 0
        schedule = Schedule(self.schedule, self.step, self.decay, self.period)
        w, known, made = s.w, s.known, s.steps
        f, g, seen = 0.0, np.zeros_like(w), 0.0
        for first in range(0, self.steps, self.accumulate):
            slope, weight = np.zeros_like(w), 0.0
            for part in range(first, min(first + self.accumulate, self.steps)):
                share = Share(seed, s.epoch, part, self.steps)
                (answer,) = yield (Part(Gradient(w), share, self.wire, s.epoch * self.steps + part),)
                if answer is None or not answer[1] > 0:
                    continue
                (value, gradient), part_weight = answer
                f, slope = f + value * part_weight, slope + gradient * part_weight
                weight += part_weight
            if weight > 0:
                g, seen = g + slope, seen + weight
                d, known = self.rule.move(slope / weight, known, made)
                w = w - schedule.rate(s.epoch + first / self.steps) * d
                made += 1
        gap = np.inf if g.any() else 0.0
        return replace(s, w=w, f=f / seen, g=g / seen, gap=gap, epoch=s.epoch + 1, steps=made, known=known)
