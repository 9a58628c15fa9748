"""Consensus ADMM: partitions solve their own problems near a common point, to which prices draw them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import Gradient, Local, Product, Query, on
from daskgd.rows.layout import Shape
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import (
    Solver,
    State,
    Steps,
    SweepEstimate,
    check_whole,
    extrapolated_gap,
    is_count,
    is_positive,
    require,
    secant_gap,
)
from daskgd.solvers.hessian_free import solve_cg
from daskgd.solvers.newton import DENSE, newton_step
from daskgd.solvers.quadratic import minimise
from daskgd.solvers.sampled_start import HESSIAN_ROWS, begin, hessian, sample_of, solve, some

Array = NDArray[Any]

BALANCE, FACTOR = 10.0, 2.0
"""One residual over the other beyond which rho changes, and by which factor (Boyd et al. 2011, 3.4.1)."""


@dataclass(frozen=True, slots=True)
class AdmmState(State):
    """Where ADMM stands between two rounds; f and g were measured at `w`, where the last round began.

    Attributes
    ----------
    z : (d,)
        The common point after that round.
    rho, ratio : float
        The price, and what it was before over what it is.
    metric : (d, d)
        M, the sample's Hessian; of shape (0, 0) for the identity.
    doubt : float
        By which factor the last round gained more than the metric had promised, at least 1.
    """

    z: Array = field(default_factory=lambda: np.zeros(0))
    rho: float = 1.0
    ratio: float = 1.0
    metric: Array = field(default_factory=lambda: np.zeros((0, 0)))
    model_error_ratio: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Near:
    """The work of one partition: its dual u, then ``x = argmin f_i(x) + rho / 2 |x - z + u|_M^2``.

    Remembers ``(x, u)``. Returns ``x + u - z``, and ``|x - z|_M^2`` of the last round. In the first round,
    with a sample, x is z and u is ``-M^-1 g_i / rho``, with which z is where x stays: the dual of a partition
    at the minimum.
    """

    rho: float
    ratio: float
    metric: Array
    steps: int

    def __call__(self, problem: Problem, rows: Rows, z: Array, g: Array, memory: Any) -> tuple[Array, Any]:
        g = g - problem.penalty_gradient(z)
        if memory is None and len(self.metric):
            u = -solve(self.metric, g) / self.rho
            return np.append(u, 0.0), np.stack([z, u])
        x, u = (z, np.zeros_like(z)) if memory is None else memory
        apart = x - z
        u = (u + apart) * self.ratio
        bare = replace(problem, penalty=L2(0.0))
        new = self.nearest(bare, rows, x, z - u)
        return np.append(new + u - z, apart @ self.times(apart)), np.stack([new, u])

    def times(self, v: Array) -> Array:
        """The product M v ``(d,)``."""
        return self.metric @ v if len(self.metric) else v

    def nearest(self, problem: Problem, rows: Rows, x: Array, centre: Array) -> Array:
        """The parameters x of the partition's own minimum near `centre`, by Newton's method from the last x,
        with one Hessian on a part of the rows."""

        def look(x: Array) -> tuple[float, Array]:
            f, g = on(rows, problem, Gradient(x))
            pull = self.rho * self.times(x - centre)
            return f + float((x - centre) @ pull) / 2, g + pull

        part = some(rows, HESSIAN_ROWS * len(x))
        H = hessian(problem, rows, x) + self.rho * self._matrix(len(x)) if len(x) <= DENSE else None
        here = x
        f, g = look(x)
        for _ in range(self.steps):
            if H is not None:
                d = -solve(H, g)
            else:
                d = -solve_cg(lambda v: on(part, problem, Product(here, v)) + self.rho * self.times(v), g)
            slope, t = float(g @ d), 1.0
            while t > 1e-6:
                found, slopes = look(x + t * d)
                if found <= f + 1e-4 * t * slope:
                    break
                t /= 4
            else:
                break
            x, f, g = x + t * d, found, slopes
            if -slope <= 1e-12 * abs(f):
                break
        return x

    def _matrix(self, d: int) -> Array:
        return self.metric if len(self.metric) else np.eye(d)


@dataclass(slots=True)
class ADMM(Solver):
    """Alternating direction method of multipliers in consensus form (Boyd et al. 2011, sections 7.1 and 8).

    One sweep a round. Every partition has parameters x and a scaled dual u of its own, kept as its memory:

        x_i <- argmin f_i(x) + rho / 2 |x - z + u_i|_M^2        (Newton's method, from the last x_i)
        z   <- argmin penalty(z) + rho / 2 |z - v|_M^2,         v the average of x_i + u_i by weight
        u_i <- u_i + x_i - z

    f_i is the mean loss over the partition's rows and the price is the same for each row, so that partitions
    of any size have their say. M is the Hessian of a sample of the rows, of whose solution z starts: steps
    are then the same whatever the units of the features. Without a sample, or beyond 1,500 parameters, M is
    the identity, for which z is a proximal step. rho is doubled or halved where the primal and the dual
    residual are far apart. Penalties may have kinks; the loss should be convex.

    The gap is that of the quadratic model with M at z, times the factor by which the last round gained more
    than promised; without M by what rounds still gain.

    Parameters
    ----------
    rho : float, optional
        The price to begin with, in units of M's curvature; None is 1 with a sample, and 0.01 without.
    newton_steps : int
        Most steps of Newton's method in a partition and round.
    sample_bytes : int
        Bytes of X in the sample; 0 for none.
    seed : int or None
        Of the sample; None is 0, or what the estimator's `random_state` says.

    Examples
    --------
    >>> ADMM(rho=0.5)
    ADMM(rho=0.5, newton_steps=3, sample_bytes=16000000, seed=None)
    """

    regime: ClassVar[str] = "distributed"
    needs_smooth_penalty: ClassVar[bool] = False
    needs_partitions: ClassVar[bool] = True
    needs_linear: ClassVar[bool] = True

    rho: float | None = None
    newton_steps: int = 3
    sample_bytes: int = 16_000_000
    seed: int | None = None

    def __post_init__(self) -> None:
        require(self.rho is None or is_positive(self.rho), self, "rho", "> 0 or None", self.rho)
        require(is_count(self.newton_steps), self, "newton_steps", "a whole number >= 1", self.newton_steps)
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
        rho = self.rho or (1.0 if len(begun.metric) else 0.01)
        return AdmmState(begun.w, np.inf, np.zeros_like(w), z=begun.w, rho=rho, metric=begun.metric)

    def iterate(self, problem: Problem, state: AdmmState) -> Steps:
        s = state
        first, z, d = not len(s.objective_history), s.z, len(s.w)
        ((f, g, v),) = yield (Local(z, Near(s.rho, s.ratio, s.metric, self.newton_steps), d + 1),)
        new = self._consensus(problem, s, z + v[:d])
        primal, dual = float(v[d]), s.rho**2 * self._length(s, z - s.w) if not first else 0.0
        ratio = 1.0
        if not first:
            ratio = (
                1 / FACTOR if primal > BALANCE**2 * dual else FACTOR if dual > BALANCE**2 * primal else 1.0
            )
        rho = s.rho / ratio
        s = replace(s, ratio=ratio, rho=rho)
        objective_history = np.append(s.objective_history, f)
        s = self._judged(problem, replace(s, objective_history=objective_history), z, f, g)
        return replace(s, w=z, z=new, f=f, g=g)

    def _length(self, s: AdmmState, v: Array) -> float:
        return float(v @ (s.metric @ v if len(s.metric) else v))

    def _consensus(self, problem: Problem, s: AdmmState, v: Array) -> Array:
        """The common point z ``(d,)``: ``argmin penalty(z) + rho / 2 |z - v|_M^2``."""
        penalised = problem.model.penalised
        if not len(s.metric):
            return np.where(penalised, problem.penalty.prox(np.where(penalised, v, 0.0), 1 / s.rho), v)
        H = s.rho * s.metric
        b = H @ v
        H[np.diag_indices_from(H)] += problem.penalty_hessian(v)
        if problem.penalty.smooth:
            return solve(H, b)
        return minimise(H, b, problem.penalty_l1(v), start=s.z, positive=problem.positive)

    def _judged(self, problem: Problem, s: AdmmState, z: Array, f: float, g: Array) -> AdmmState:
        """The State with the gap at z."""
        if not np.isfinite(g).all():
            return replace(s, gap=np.inf)
        rest = extrapolated_gap(s.objective_history)
        if not len(s.metric):
            secant = secant_gap(g, z - s.w, g - s.g) if problem.penalty.smooth else 0.0
            return replace(s, gap=max(rest, secant))
        _, promise, _ = newton_step(problem, z, g, s.metric)
        model_error_ratio = 1.0
        if 0 < s.gap < np.inf:
            model_error_ratio = max((s.f - f) * s.model_error_ratio / s.gap, 1.0)
        # Before a round has confirmed the metric, its promise is none.
        return replace(
            s,
            gap=promise * model_error_ratio if len(s.objective_history) > 1 else np.inf,
            model_error_ratio=model_error_ratio,
        )
