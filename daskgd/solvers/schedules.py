"""What solvers of many small steps share: schedules of the step's length, and rules that make a move of a
gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.queries.compression import COMPRESSIONS
from daskgd.solvers.base import check_whole, is_positive, require

Array = NDArray[Any]

SCHEDULES = ("constant", "invscaling", "cosine")
RULES = ("sgd", "momentum", "adam", "adagrad", "nesterov")


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule: the length of a step after t epochs.

    "constant"; "invscaling", ``step / (1 + t)**decay``; or "cosine", ``step (1 + cos(pi t / period)) / 2``
    and a hundredth of the step from there on (Loshchilov & Hutter 2017, without restarts).

    >>> [round(Schedule("cosine", 1.0, period=4).rate(t), 2) for t in (0, 2, 4, 9)]
    [1.0, 0.5, 0.01, 0.01]
    """

    kind: str
    step: float
    decay: float = 0.5
    period: float = 10.0

    def rate(self, t: float) -> float:
        if self.kind == "constant":
            return self.step
        if self.kind == "invscaling":
            return float(self.step / (1 + t) ** self.decay)
        wave = (1 + np.cos(np.pi * min(t / self.period, 1.0))) / 2
        return float(self.step * max(wave, 0.01))


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that makes a move of a gradient; what it remembers is an array ``(m, d)``.

    "sgd"; "momentum", ``v <- momentum v + g`` (Polyak 1964); "nesterov", the same with a step along
    ``momentum v + g`` (Sutskever et al. 2013); "adam" (Kingma & Ba 2015), with the mean of
    gradients and of their squares, of weights `momentum` and `second`, free of their bias towards 0; or
    "adagrad", with the sum of squares (Duchi, Hazan & Singer 2011). `epsilon` is added to the root of the
    squares; with `epsilon_hat` before they are free of their bias, as at the end of section 2 of the former.
    """

    kind: str
    momentum: float = 0.9
    second: float = 0.999
    epsilon: float = 1e-8
    epsilon_hat: bool = False

    def begin(self, d: int) -> Array:
        """What the rule remembers before the first step: zeros ``(m, d)``."""
        return np.zeros(({"sgd": 0, "momentum": 1, "nesterov": 1, "adam": 2, "adagrad": 1}[self.kind], d))

    def move(self, g: Array, known: Array, i: float) -> tuple[Array, Array]:
        """The direction ``(d,)`` to step against at step i, counted from 0, and what to remember; i is no
        whole number where partitions that made more and fewer steps were averaged."""
        if self.kind == "sgd":
            return g, known
        if self.kind in ("momentum", "nesterov"):
            v = self.momentum * known[0] + g
            return v if self.kind == "momentum" else self.momentum * v + g, v[None]
        if self.kind == "adagrad":
            total = known[0] + g * g
            return g / (np.sqrt(total) + self.epsilon), total[None]
        m = self.momentum * known[0] + (1 - self.momentum) * g
        v = self.second * known[1] + (1 - self.second) * g * g
        mean, square = m / (1 - self.momentum ** (i + 1)), v / (1 - self.second ** (i + 1))
        epsilon = self.epsilon / np.sqrt(1 - self.second ** (i + 1)) if self.epsilon_hat else self.epsilon
        return mean / (np.sqrt(square) + epsilon), np.stack([m, v])


def check_steps(solver: Any) -> None:
    """Raise ValueError for invalid settings among those that solvers with schedules share."""
    require(is_positive(solver.step), solver, "step", "> 0", solver.step)
    require(
        solver.schedule in SCHEDULES, solver, "schedule", f"one of {', '.join(SCHEDULES)}", solver.schedule
    )
    require(is_positive(solver.decay), solver, "decay", "> 0", solver.decay)
    require(is_positive(solver.period), solver, "period", "> 0", solver.period)
    require(solver.wire in COMPRESSIONS, solver, "wire", f"one of {', '.join(COMPRESSIONS)}", solver.wire)
    check_whole(solver, "seed", optional=True)
