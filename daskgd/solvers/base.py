"""The base of all solvers: their settings, what they need of a problem, and two generators of queries.

``start(problem, w)`` and ``iterate(problem, state)`` are generators: they *yield* a tuple of queries to be
answered in one sweep, *receive* the tuple of answers, and *return* the next :class:`State`. A solver knows
no engine, no dask and no data; it reads no clock and no global random state and does no input or output.
Replayed with the same answers it takes the same path, which is what makes checkpoints exact.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from daskgd._compat.renamed import accept_old_names
from daskgd.losses import Loss
from daskgd.problems import Problem
from daskgd.queries import Query
from daskgd.queries.sample import Sample
from daskgd.rows.layout import Shape
from daskgd.rows.tiles import Rows

Array = NDArray[Any]

Steps = Generator[tuple[Query, ...], Sequence[Any], Any]
"""A generator of queries that returns a State."""


@dataclass(frozen=True, slots=True)
class State:
    """Where a fit stands between two iterations: arrays and scalars, nothing else.

    Attributes
    ----------
    w : (d,)
        The parameters.
    f, g : float, (d,)
        Objective and gradient, at `w` unless the solver says otherwise.
    gap : float
        Estimate of how far f is above its minimum; infinity while there is none.
    stalled : bool
        Whether no step helped: the precision of the data is reached.
    trail : (m,)
        Objectives so far, for solvers whose estimate of the gap looks back.
    step : float
        Length of the next step, for solvers that have one.
    halvings : int
        How often the loop went back and halved the step: see :meth:`Solver.retreat`.
    mistrust : float
        How many times as large as guessed the gap was found to be: see :mod:`daskgd.solvers.certificate`.
    repeated : bool
        Whether `f` is that of an earlier iteration and says nothing new: a step was taken back, or this one
        began where that one had.
    """

    w: Array
    f: float
    g: Array
    gap: float = np.inf
    stalled: bool = False
    objective_history: Array = field(default_factory=lambda: np.zeros(0))
    step: float = 0.0
    halvings: int = 0
    mistrust: float = 1.0
    repeated: bool = False

    @property
    def point(self) -> Array:
        """The parameters at which `f` was measured."""
        return self.w


class DriverQuery(Query):
    """A question that is answered on the driver, without a sweep. Never asked with a question to the data."""


@dataclass(frozen=True, slots=True, eq=False)
class Tolerance(DriverQuery):
    """The gap at which the fit stops where the objective is `f`: a float, which the loop itself answers."""

    f: float


@dataclass(frozen=True, slots=True, eq=False)
class LocalQuery(DriverQuery):
    """Work on rows in memory; that of many fits is done side by side.

    Attributes
    ----------
    problem : Problem
    rows : Rows
    """

    problem: Problem
    rows: Rows = field(compare=False)  # known by where they come from; digests need not read them


@dataclass(frozen=True, slots=True, eq=False)
class EvaluateInMemory(LocalQuery):
    """Work in memory: the answer of a tile query from `rows`."""

    query: Query


MOST_STEPS = 200
"""Iterations of a solve in memory, by default."""


@dataclass(frozen=True, slots=True, eq=False)
class SolveInMemory(LocalQuery):
    """Work in memory: the same problem solved on `rows` from `w` by another solver; answers a
    :class:`Solution`.

    Attributes
    ----------
    solver : Solver
    w : (d,)
    tol : float
        Relative gap at which to stop.
    max_iter : int
    """

    solver: Solver
    w: Array
    tol: float
    max_iter: int = MOST_STEPS


class ComputeInMemory(LocalQuery):
    """Work in memory of any other kind, that a query does by itself."""

    def compute(self, threads: int) -> Any:
        """The answer, computed in so many threads, which change no bits."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Solution:
    """The solution that a :class:`SolveInMemory` found: parameters w, and objective, gradient and estimated
    gap on its rows, there or a last step before, from which no more than the gap is gained; `first` is the
    objective where it began."""

    w: Array
    f: float
    g: Array
    gap: float
    first: float


@dataclass(frozen=True, slots=True)
class SweepEstimate:
    """How many reads of the data a fit is expected to take, at the default tolerance.

    Attributes
    ----------
    least, most : int or None
        None where numbers cannot be told.
    words : str
        What is said in their place.

    Examples
    --------
    >>> print(SweepEstimate(2, 5), SweepEstimate(1, 1), SweepEstimate(), sep=", ")
    2 to 5, 1, depends on the data
    """

    least: int | None = None
    most: int | None = None
    words: str = "depends on the data"

    @property
    def range(self) -> tuple[int, int] | None:
        """The least number and the most; None where they cannot be told."""
        return None if self.least is None or self.most is None else (self.least, self.most)

    @property
    def is_one(self) -> bool:
        """Whether a single read is all that it takes."""
        return self.range == (1, 1)

    def without_the_first(self) -> SweepEstimate:
        """The estimate where the first read's questions are answered already; the last is always made.

        >>> print(SweepEstimate(2, 5).without_the_first())
        1 to 4
        """
        if self.range is None:
            return self
        least, most = self.range
        return replace(self, least=max(least - 1, 1), most=max(most - 1, 1))

    def __str__(self) -> str:
        if self.range is None:
            return self.words
        return str(self.least) if self.least == self.most else f"{self.least} to {self.most}"


VECTORS = 36
"""Vectors of all parameters that the process that calls ``fit`` holds at most, about: of moments, problem and
State, and those on the way between them."""


class Solver:
    """The base of all solvers. Subclasses are dataclasses, whose fields are the settings.

    `get_params` and `set_params` are scikit-learn's, so that ``est.set_params(solver__step=0.1)`` works.
    To add one: a file with ``start`` and ``iterate``, and an instance in ``daskgd.testing.SOLVERS``.
    """

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        accept_old_names(cls, {"rides": "first_sweep_queries"})

    regime: ClassVar[str] = "parallel"
    """"parallel": all blocks make each step together; "distributed": partitions train copies of their own."""

    needs_smooth: ClassVar[bool] = True
    """Whether the loss must be smooth."""

    needs_smooth_penalty: ClassVar[bool] = True
    """Whether the penalty must be smooth."""

    needs_partitions: ClassVar[bool] = False
    """Whether it asks for whole partitions in memory."""

    needs_linear: ClassVar[bool] = False
    """Whether the model must be linear: for second derivatives, or to solve on a sample."""

    approximate: ClassVar[bool] = False
    """Whether it may end near the minimum without a way to reach it."""

    extrapolates: ClassVar[bool] = False
    """Whether its gap is a guess from the path so far, with `g` the gradient at `w`, and is measured before
    the fit is said to have converged: see :mod:`daskgd.solvers.certificate`."""

    solves_gradient: ClassVar[bool] = False
    """Whether the largest slope must be within the tolerance, too, as scikit-learn's L-BFGS asks."""

    fixes_step: ClassVar[bool] = False
    """Whether the length of its steps is given, in the units of the parameters."""

    def metric(self, problem: Problem, state: Any) -> Callable[[Array], Array] | None:
        """What approximates products with the inverse of the Hessian at the State, symmetric and positive;
        None where the solver knows of none."""
        return None

    def slower(self, state: Any, factor: float) -> Any:
        """The State with steps shorter by a factor, where a watcher asks for it; here it goes on as it is."""
        return state

    def check(self, problem: Problem) -> None:
        """Raise ValueError, saying what to use instead, if the problem lacks what the solver needs."""
        name = type(self).__name__
        if self.needs_smooth and not problem.loss.smooth:
            raise ValueError(
                f"{name} needs a smooth loss; {problem.loss} is not. Use GradientDescent(step=...) or "
                "LocalGD(step=...), which take subgradient steps of given length, or a smooth loss such as "
                "the squared hinge"
            )
        if self.needs_smooth_penalty and not problem.penalty.smooth:
            raise ValueError(
                f"{name} needs a smooth penalty; {type(problem.penalty).__name__} is not. Use "
                "ProximalNewton() or FISTA(), or Gram() for squared loss"
            )

        if self.needs_linear and not problem.model.linear:
            raise ValueError(
                f"{name} needs a linear model; {type(problem.model).__name__} is not. Use LBFGS(), "
                "GradientDescent(), LocalGD(step=...), SGD(step=...), Adam(step=...) or "
                'LocalSGD(inner="adam", step=..., sample_bytes=0), which need gradients alone'
            )

    def first_sweep_queries(self, shape: Shape) -> tuple[Query, ...]:
        """The queries about the data alone that are asked along with the survey; `start` is given their
        answers."""
        return ()

    def sample_share(self, shape: Shape) -> float:
        """The share of the rows in the sample that its first sweep collects; 0 without a sample."""
        queries = self.first_sweep_queries(shape)
        return max([query.share for query in queries if isinstance(query, Sample)], default=0.0)

    def driver_nbytes(self, shape: Shape, problem: Problem) -> int:
        """The bytes, about, that the process that calls ``fit`` holds of a problem at most: samples, matrices
        and vectors."""
        share, d = self.sample_share(shape), problem.model.size
        # All rows of an array in memory are a view of it; other samples are there twice while they arrive.
        copies = 0 if shape.at_hand and share >= 1 else 2
        sample = round(copies * share * shape.n_rows * shape.row_bytes)
        return sample + 8 * self.driver_numbers(shape, problem) + VECTORS * 8 * d

    def driver_numbers(self, shape: Shape, problem: Problem) -> int:
        """How many numbers these matrices and vectors have, beside a few vectors of all parameters."""
        return 0

    def result_numbers(self, parameters: int, shape: Shape | None = None) -> int:
        """How many numbers the sums of a sweep have at most, of a model with so many parameters over data of
        a shape; where partitions are trained on, with the vectors that this takes."""
        return 4 * parameters if self.needs_partitions else parameters

    def expected_sweeps(
        self, shape: Shape, loss: Loss | None = None, parameters: int | None = None
    ) -> SweepEstimate:
        """The sweeps to expect for data of this shape; more of a wide or nonsmooth problem, where the loss
        and the number of parameters are known."""
        return SweepEstimate(words="up to max_iter") if self.approximate else SweepEstimate()

    def expects_one_gradient(self, shape: Shape, parameters: int, tol: float) -> bool:
        """Whether one gradient of all rows is likely to be enough, once the sample is solved."""
        return False

    def start(self, problem: Problem, w: Array, *first_sweep_answers: Any) -> Steps:
        """Ask the queries that lead to the first State, at parameters w; `first_sweep_answers` are those to
        :meth:`first_sweep_queries`."""
        raise NotImplementedError

    def iterate(self, problem: Problem, state: Any) -> Steps:
        """Ask the queries that lead from one State to the next."""
        raise NotImplementedError

    def retreat(self, best: Any, lost: Any) -> Any:
        """The State to go on from after a step of given length led to `lost`, whose objective is not finite
        or has grown without bound: `best`, the best State so far, with half the step. None if the solver's
        steps are not given, or shorter ones would not help."""
        return None

    def remark(self, state: Any) -> str | None:
        """A sentence about the data or the path, for the user when the fit ends; None for nothing."""
        return None

    # -- scikit-learn's parameter protocol ---------------------------------------------------------

    @classmethod
    def _names(cls) -> list[str]:
        return [f.name for f in fields(cls)]  # type: ignore[arg-type]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The settings by name."""
        return {name: getattr(self, name) for name in self._names()}

    def set_params(self, **params: Any) -> Self:
        """Change settings; an unknown name or a value out of range raises ValueError and changes nothing."""
        for name in params:
            if name not in self._names():
                raise ValueError(
                    f"{type(self).__name__} has no setting {name!r}; it has {', '.join(self._names())}"
                )
        type(self)(**{**self.get_params(), **params})  # validates before anything is changed
        for name, value in params.items():
            setattr(self, name, value)
        return self


def require(ok: bool, owner: object, name: str, expected: str, got: Any) -> None:
    """Raise ValueError, in the sentence that all settings share, unless `ok`."""
    if not ok:
        raise ValueError(f"{type(owner).__name__}: expected {name} {expected}, got {got!r}")


def check_whole(solver: Solver, name: str, *, optional: bool = False) -> None:
    """Raise ValueError unless a setting is a whole number in [0, 2**64), or None where it is `optional`."""
    given = getattr(solver, name)
    ok = isinstance(given, int | np.integer) and not isinstance(given, bool) and bool(0 <= given < 2**64)
    what = "a whole number in [0, 2**64)"
    require(ok or (optional and given is None), solver, name, f"None or {what}" if optional else what, given)


def is_positive(value: Any) -> bool:
    """Whether a value is a finite real number above 0, and no bool."""
    return _is_real(value) and bool(np.isfinite(value) and value > 0)


def is_count(value: Any) -> bool:
    """Whether a value is a whole number of at least 1, and no bool."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def in_unit_interval(value: Any) -> bool:
    """Whether a value is a real number in [0, 1)."""
    return _is_real(value) and bool(0 <= value < 1)


def _is_real(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def halved(best: Any, lost: State, **fresh: Any) -> Any:
    """The State `best`, at its own point, with half the step that led to `lost`, and the fields `fresh`.

    None where that cannot help: no better State than the lost one is known, or its gradient is not finite.

    >>> best, lost = (State(np.zeros(1), f, np.ones(1), step=0.5) for f in (1.0, np.inf))
    >>> halved(best, lost).step, halved(best, lost).halvings, halved(lost, lost)
    (0.25, 1, None)
    """
    if not (np.isfinite(best.f) and np.isfinite(best.g).all() and lost.step / 2 > 0):
        return None
    went = {"step": lost.step / 2, "halvings": lost.halvings + 1}
    return replace(best, w=best.point, gap=np.inf, stalled=False, **went, **fresh)


def extrapolated_gap(objective_history: Array) -> float:
    """The gap estimated from the objectives so far ``(m,)``, by what the latest of them still gained.

    If two windows of equal length, a fifth of the path each, gained d0 and then d1, gains shrink by
    r = d1 / d0 a window, and what is left is the geometric rest ``d1 r / (1 - r)``; never less than d1 / 4,
    as a plateau looks like an end. Infinity while gains do not shrink, or the path is too short to tell. It
    sees the flat directions that a few pairs of gradients do not.
    """
    best = np.minimum.accumulate(objective_history)
    window = max(4, len(best) // 5)
    if len(best) <= 2 * window:
        window = (len(best) - 1) // 2
        if window < 2:
            return np.inf
    d0 = float(best[-1 - 2 * window] - best[-1 - window])
    d1 = float(best[-1 - window] - best[-1])
    if d1 <= 8 * np.finfo(float).eps * abs(best[-1]):
        return 0.0  # rounding: there is nothing left to see
    return max(d1 * d1 / (d0 - d1), d1 / 4) if d1 < d0 else np.inf


def secant_gap(g: Array, s: Array, y: Array) -> float:
    """The gap estimated as ``|g|**2 / (2 c)``, with the curvature ``c = s'y / s's`` met along the last step.

    Once a first-order method has damped the steep directions, its steps lie along the flat ones, where
    the remaining gap is; c is then close to the smallest curvature that matters. Infinity while the
    step met no positive curvature.
    """
    if not g.any():
        return 0.0
    sy = float(s @ y)
    return float(g @ g) * float(s @ s) / (2 * sy) if sy > 0 else np.inf


def downhill(problem: Problem, w: Array, g: Array) -> Array:
    """The subgradient of least norm ``(d,)``, which is 0 at a minimum only; g is the gradient of all but the
    L1 norm.

    >>> from daskgd import losses, models, penalties
    >>> lasso = Problem(losses.Squared(), models.Linear(3, intercept=False), penalties.L1(1.0))
    >>> downhill(lasso, np.array([0.0, 0.0, 2.0]), np.array([0.5, -3.0, -1.0]))
    array([ 0., -2.,  0.])
    """
    return least_subgradient(w, g, problem.penalty_l1(w), problem.positive)


def least_subgradient(w: Array, g: Array, l1: Array, positive: Array) -> Array:
    """The subgradient of least norm ``(d,)`` at w of a function with gradient g plus ``sum_j l1_j |w_j|``,
    among ``w_j >= 0`` where `positive`."""
    free = np.where(w != 0, g + l1 * np.sign(w), g - np.clip(g, -l1, l1))
    return np.where(positive & (w <= 0), np.minimum(g + l1, 0.0), free)


def certain_gap(problem: Problem, lipschitz: Array, w: Array, g: Array) -> float:
    """A lower bound of the gap: what moving one parameter alone gains at least, for the best one.

    With m the subgradient of least norm, g being the gradient ``(d,)`` of all but the kinks, and the slope
    along parameter j rising by at most ``bend_j`` a unit ``(d,)``, a move by t gains

        |m_j| t - bend_j t**2 / 2,    t = |m_j| / bend_j,    but no further than to a kink.

    It is what paths do not show: where features differ in size, objectives and steps follow the large ones,
    and stand still while the small ones have not begun to move.

    >>> from daskgd import losses, models, penalties
    >>> line = Problem(losses.Squared(), models.Linear(2, intercept=False), penalties.L2(0.0))
    >>> certain_gap(line, np.array([1e12, 1e-4]), np.zeros(2), np.array([10.0, 1e-3]))
    0.005
    """
    m = np.abs(downhill(problem, w, g))
    kinks = (problem.penalty_l1(w) > 0) | problem.positive
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(lipschitz > 0, m / lipschitz, 0.0)
    t = np.where(kinks & (w != 0), np.minimum(t, np.abs(w)), t)
    gains = m * t - lipschitz * t * t / 2
    return float(gains.max(initial=0.0))
