"""Averaged stochastic gradient descent: partitions go over their rows in mini-batches, and the mean of the
path is the answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.problems import Problem
from daskgd.queries import Local
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import Solver, State, Steps, check_whole, is_count, is_positive, require
from daskgd.solvers.mini_batches import batch_rows, mini_batches, targets_and_weight

Array = NDArray[Any]

RECENT = 3.0
"""How much of the mean is of the later part of the path: the weight of a step after t rows grows as
``t**RECENT``."""

LONG, LONG_AVERAGED = 16.0, 256.0
"""Batches after which automatic steps become shorter, with the root of their number: of steps that are not
averaged, and of those that are."""

MIDDLE = 1.349
"""Standard deviations that the middle half of normal numbers spans."""

MEMORY = 256.0
"""Batches in which a curvature that is not met again is forgotten to ``1 / e``: an outlier would else make
all later steps short."""


@dataclass(frozen=True, slots=True)
class AveragedSGDState(State):
    """Where averaged SGD stands: `w` is the answer so far; f and g were measured at `at`, the answer before.

    Attributes
    ----------
    at : (d,)
    current : (d,)
        Where the path has come to.
    made : float
        Rows that the steps of a partition were made of so far, on average.
    curvature : float
        The largest second derivative met along a step of late; for losses with kinks the sum of squared
        gradients.
    unit : float
        The spread of the targets, by which steps go where a loss has kinks.
    shrink : float
        Factor on steps that were given.
    round : int
    """

    at: Array | None = None
    current: Array = field(default_factory=lambda: np.zeros(0))
    made: float = 0.0
    curvature: float = 0.0
    unit: float = 0.0
    shrink: float = 1.0
    round: int = 0

    @property
    def point(self) -> Array:
        return self.w if self.at is None else self.at


@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """The work of one partition in one round: a pass over its rows in mini-batches, from `current` on.

    Returns one vector: where the path has come to, the mean of it, and `made`, `curvature` and `unit` then.
    """

    solver: AveragedSGD
    current: Array
    made: float
    curvature: float
    unit: float
    shrink: float
    round: int

    def __call__(self, problem: Problem, rows: Rows, w: Array, g: Array, memory: Any) -> tuple[Array, Any]:
        settings, at, mean = self.solver, self.current, w
        made, curvature = self.made, self.curvature
        targets, mean_weight = targets_and_weight(problem, rows)
        unit = 1.0 if problem.loss.smooth else self._spread(problem, targets)
        size = batch_rows(len(rows), settings.batch_size)
        nominal = size * mean_weight
        for X, y, s in mini_batches(problem, rows, size, settings.seed or 0, self.round, 0, settings.shuffle):
            z, vjp = problem.forward(at, X)
            slope = vjp(_weighted(problem.loss.gradient(z, y), s))
            slope /= nominal  # in place: with many features each new vector counts
            square, longest = float(slope @ slope), np.inf
            if square > 0:
                if not problem.loss.smooth:
                    curvature += square
                else:
                    u = problem.margins(slope, X)
                    along = _second_derivative(problem, z, y, s, u) / (nominal * square)
                    curvature = max(curvature * (1 - 1 / MEMORY), along)
                    longest = _longest(problem, z, s, u)
            step = settings.length(problem.loss.smooth, made, size, curvature, unit, self.shrink)
            step = min(step, longest)
            slope *= step
            at = problem.penalty.prox(np.subtract(at, slope, out=slope), step)
            made += size
            later = settings.share(made, size)
            mean = at if later == 1 else _towards(mean, at, later)
        return np.concatenate([at, mean, [made, curvature, unit]]), None

    def _spread(self, problem: Problem, y: Array) -> float:
        """The spread of the targets, unless a larger one is known: that of their middle half, which outliers
        do not change, as a standard deviation; of labels, and where that is 0, the standard deviation."""
        spread = 0.0
        if problem.labels is None:
            low, high = np.quantile(y, [0.25, 0.75])
            spread = float(high - low) / MIDDLE
        spread = spread or float(np.std(y, dtype=np.float64))
        return max(self.unit, spread or float(np.sqrt(np.mean(np.square(y, dtype=np.float64))))) or 1.0


def _towards(mean: Array, at: Array, share: float) -> Array:
    """A new point that is a share of the way to another one."""
    way = at - mean
    way *= share
    way += mean
    return way


def _weighted(slope: Array, s: Array | None) -> Array:
    if s is None:
        return slope
    return slope * (s if slope.ndim == 1 else s[:, None])


def _bounded(loss: Loss) -> bool:
    """Whether the second derivatives of a loss have a bound by which steps go."""
    return loss.separate and bool(np.isfinite(loss.lipschitz))


def _second_derivative(problem: Problem, z: Array, y: Array, s: Array | None, u: Array) -> float:
    """The second derivative of the weighted sum of losses along a step that moves margins by u: the most that
    it is at any margins, where the loss has such a bound, else what it is at margins z."""
    loss = problem.loss
    if _bounded(loss):  # which rows without curvature, in z, have elsewhere
        product = loss.lipschitz * u * u
    else:
        product = u * loss.hessian_product(loss.hessian_factor(z, y), u)
    return float(product.sum() if s is None else s @ product.reshape(len(product), -1).sum(axis=1))


def _longest(problem: Problem, z: Array, s: Array | None, u: Array) -> float:
    """The longest step, which moves margins z by -u, within which the second derivative at z says what it is:
    one that moves a margin by 1, or if they have to be positive makes one half as large."""
    if _bounded(problem.loss):
        return np.inf
    if s is not None:
        z, u = z[s > 0], u[s > 0]
    if problem.loss.positive_margins:
        falls = (u > 0) & (z > 0)
        return float(np.min(z[falls] / u[falls], initial=np.inf)) / 2
    return 1 / (float(np.abs(u).max(initial=0.0)) or 1.0)


@dataclass(slots=True)
class AveragedSGD(Solver):
    """Stochastic gradient descent in mini-batches, and the mean of its path (Polyak & Juditsky 1992).

    One round is one sweep: every partition starts from the shared parameters and goes once over its rows in
    mini-batches; a batch makes the step

        w <- prox(w - step * gradient of its mean loss),

    with the proximal operator of the penalty, so that none is too strong. What partitions come to is
    averaged, with the weight of their rows. The answer is the mean of the path, later steps weighing more, as
    ``t**3``. With L1 the steps set coefficients to 0, though seldom all steps the same ones: the mean has
    small numbers there, and the end of the path, with ``average=False``, most of the zeros.

    Steps need no tuning: with ``step=None`` they are

        1 / (L sqrt(1 + t / 256)),

    L being the largest second derivative of the loss met along a gradient, the last few hundred batches
    above all, and t the batches; where it has no bound, as that of counts, no step moves a margin by more
    than 1. With losses that have kinks, they are the spread of the targets (of their middle half, as a
    standard deviation) over the root of the sum of squared gradients (Duchi, Hazan & Singer 2011).

    No gap is estimated: fits run `max_iter` sweeps. What a pass comes to is within the noise of its rows of
    the minimum, not at it; other solvers are, after a few sweeps more. It is what `partial_fit` goes by.

    Parameters
    ----------
    step : float, optional
        Length of the first steps of a single row, in the units of the parameters: a batch goes as far as all
        its rows would, though no further than ``1 / L``, where the loss is smooth, beyond which steps
        diverge. None is automatic.
    decay : float
        Given steps shrink with ``(1 + t)**decay``, t in rows.
    batch_size : int, optional
        Rows of a step; None is a 64th of the rows of the partition, between 1 and 64.
    average : bool or int
        Whether the answer is the mean of the path; a number of rows is where that begins. False is the end of
        the path; automatic steps shrink sooner then, with ``sqrt(1 + t / 16)``.
    shuffle : bool
        Whether batches are drawn anew in every pass; else they are rows in order.
    seed : int, optional
        For the order of rows; None takes the estimator's `random_state`.

    Examples
    --------
    >>> from daskgd.solvers.averaged_sgd import AveragedSGD
    >>> AveragedSGD(batch_size=32).average
    True
    """

    regime: ClassVar[str] = "distributed"
    needs_smooth: ClassVar[bool] = False
    needs_smooth_penalty: ClassVar[bool] = False
    needs_partitions: ClassVar[bool] = True
    needs_linear: ClassVar[bool] = True
    approximate: ClassVar[bool] = True

    step: float | None = None
    decay: float = 0.0
    batch_size: int | None = None
    average: bool | int = True
    shuffle: bool = True
    seed: int | None = None

    def __post_init__(self) -> None:
        require(self.step is None or is_positive(self.step), self, "step", "None or > 0", self.step)
        require(self.decay == 0 or is_positive(self.decay), self, "decay", ">= 0", self.decay)
        batch = self.batch_size is None or is_count(self.batch_size)
        require(batch, self, "batch_size", "None or a whole number >= 1", self.batch_size)
        mean = isinstance(self.average, bool) or is_count(self.average)
        require(mean, self, "average", "True, False or a number of rows", self.average)
        require(isinstance(self.shuffle, bool), self, "shuffle", "True or False", self.shuffle)
        check_whole(self, "seed", optional=True)

    @property
    def fixes_step(self) -> bool:  # type: ignore[override]
        return self.step is not None

    def check(self, problem: Problem) -> None:
        if problem.loss.scales:
            raise ValueError(
                f"AveragedSGD: expected a loss of the margins alone, got {problem.loss}, whose scale is "
                "fitted with all rows in view: use another solver"
            )
        Solver.check(self, problem)

    def length(
        self, smooth: bool, made: float, size: int, curvature: float, unit: float, shrink: float
    ) -> float:
        """The length of the step after those of so many rows, of a batch of `size` rows."""
        if curvature == 0:  # no slope was met yet
            return 0.0
        if self.step is None:
            if not smooth:
                return float(unit / np.sqrt(curvature))
            return float(
                1 / (curvature * np.sqrt(1 + made / size / (LONG_AVERAGED if self.average else LONG)))
            )
        given = size * shrink * self.step / (1 + made) ** self.decay
        return float(min(given, 1 / curvature) if smooth else given)

    def share(self, made: float, size: int) -> float:
        """By how much of the way to it the answer follows the path, after steps of so many rows."""
        if self.average is False or made < self.average:
            return 1.0
        averaged = made if self.average is True else made - self.average + size
        return min((1 + RECENT) * size / (averaged + RECENT * size), 1.0)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        yield from ()
        return self.begin(w)

    def begin(self, w: Array) -> AveragedSGDState:
        """The State in which the path begins at w."""
        return AveragedSGDState(w, np.inf, np.zeros_like(w), current=w, step=self.step or 0.0)

    def slower(self, state: AveragedSGDState, factor: float) -> AveragedSGDState:
        shrink = state.shrink / factor
        return replace(state, shrink=shrink, step=(self.step or 0.0) * shrink)

    def iterate(self, problem: Problem, state: AveragedSGDState) -> Steps:
        s, d = state, len(state.w)
        work = Pass(self, s.current, s.made, s.curvature, s.unit, s.shrink, s.round)
        ((f, g, v),) = yield (Local(s.w, work, 2 * d + 3),)
        made, curvature, unit = v[2 * d :].tolist()
        return replace(
            s,
            w=v[d : 2 * d],
            f=f,
            g=g,
            gap=np.inf if g.any() else 0.0,
            at=s.w,
            current=v[:d],
            made=made,
            curvature=curvature,
            unit=unit,
            round=s.round + 1,
        )
