"""Newton's method with the Hessian of a sample of rows: the minimum over all rows in a handful of sweeps."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.losses import Loss
from daskgd.problems import Problem
from daskgd.queries import Curvature, Gradient, GradientOnly, Hessian, Product, Query
from daskgd.queries.sample import (
    ENOUGH_PER_FEATURE,
    MOST_BYTES,
    ROWS_PER_FEATURE,
    SAMPLE_BYTES,
    Sample,
    SampleAnswer,
    sample_size,
)
from daskgd.rows.layout import Shape
from daskgd.rows.random_numbers import PROBE, row_random_numbers
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import (
    MOST_STEPS,
    EvaluateInMemory,
    Solution,
    SolveInMemory,
    Solver,
    Steps,
    SweepEstimate,
    extrapolated_gap,
    is_count,
    require,
)
from daskgd.solvers.hessian_free import FACTOR_BYTES
from daskgd.solvers.hessian_policy import HessianPolicy, model_error, next_hessian_policy
from daskgd.solvers.lbfgs import first_loop, remember, second_loop, two_loop
from daskgd.solvers.line_search import search, wolfe
from daskgd.solvers.newton import DENSE, FLAT_STEP, ROUNDING, Newton, raise_flat
from daskgd.solvers.newton_in_memory import NewtonInMemory, answer_in_memory
from daskgd.solvers.newton_system import DrawStep, SolveNewtonSystem
from daskgd.solvers.penalty_path import DIRECT, FOUND, has_path, joined, solve_along_path
from daskgd.solvers.sampled_hessian import (
    curvature_weighted_subsample,
    forms_hessian,
    hessian_work,
    lacking_variance,
    most_for_matrix,
    unseen_curvature,
)
from daskgd.solvers.sampled_state import SampledState

Array = NDArray[Any]

DIRECTION_RTOL, ESTIMATE_RTOL = 0.05, 0.3
"""Relative residuals of conjugate gradients: for directions less than what the sample gets wrong; for lengths
that need only be about right."""

HESSIAN_AGAIN_GAP = 1e-2
"""Gap relative to the objective beyond which the sample's Hessian is taken anew after a step."""

FEW = 10
"""Rows of the sample for each parameter below which its Hessian is not relied on."""

CONFIDENT = 200
"""Rows of the sample for each parameter from which its gap is believed before a step has confirmed it."""

SAFETY = 10.0
"""Times as large as measured is what the model's error is taken for, where no step has confirmed it."""

AT_HAND_BYTES = 8_000_000_000
"""Bytes of X in the sample at most, by default, where X is in memory already, of which the sample is a
view."""

PROBED = 10_000
"""Rows of the sample on which a step is tried, for what is not quadratic about it."""

WIDE = 1000
"""Parameters beyond which more sweeps are to be expected: a sample says less of each direction."""

THIN = ENOUGH_PER_FEATURE
"""Rows of the sample per parameter below which the same is so."""

MOST_MOMENTS = 5000
"""Features beyond which second moments are never worth their cost as a preconditioner."""

PAIRS = 20
"""Most pairs of steps and differences of gradients that correct the sample's Hessian."""

SCREEN = 1e-4
"""Least curvature of a pair, in that of the sample's Hessian along the step: below it is rounding."""

SLOW = 0.3
"""Share of the gap from which on what a step leaves makes it a slow one."""

NEWTON_WORK = 4e9
"""Multiplications for one Hessian up to which every iteration in memory forms a new one, where all rows are
there and the answer is the end."""

START_WORK = 1e8
"""The same where the answer is where to start: beyond it, the sample is sampled in its turn."""

FINAL_TOL = 1e-14
"""Relative gap to which the problem is solved where all rows are in memory."""

LEFT = 0.02
"""Share of the tolerance that the error expected after the first step may be, so that no other is likely."""

HESSIAN_WORK = 3e10
"""Multiplications that one Hessian in memory may take: some seconds on one core."""


@dataclass(slots=True)
class SubsampledNewton(NewtonInMemory, Solver):
    """Sub-sampled Newton with quasi-Newton correction (Byrd, Chin, Neveitt & Nocedal 2011; Roosta-Khorasani &
    Mahoney 2019).

    A uniform sample of the rows comes with the first sweep. The problem is solved on it in memory; where the
    sample is all rows, that is the answer. Then every iteration is one sweep, for the gradient: its
    direction is
    that of L-BFGS, started from the inverse of the sample's Hessian (by conjugate gradients where there are
    many parameters), which leaves to the full data only what the sample got wrong. Unit steps are
    nearly always right; refused ones are searched for along the line. When steps stay poor the Hessian is
    taken anew where the fit stands, and if that does not help, not taken at all: plain L-BFGS.

    The gap is half the squared Newton decrement, times the factor by which the last step did better than its
    own promise. When it is below `tol` the step already computed is taken, and the gap before it reported.

    Parameters
    ----------
    rows_per_parameter : int
        Rows of the sample for each parameter of an output, at least.
    sample_bytes : int
        Bytes of X in the sample, at least, where the data has them.
    most_bytes : int or None
        Bytes of X in the sample at most, whatever `rows_per_parameter` asks for. None is 512 MB, and 8 GB
        where X is an array in memory, of which the sample is a view; with a loss that has kinks, it is all
        rows then, if they are no more than that.
    seed : int or None
        Of the sample; None is 0, or what the estimator's `random_state` says.

    Examples
    --------
    >>> SubsampledNewton(rows_per_parameter=500).sample_bytes
    64000000
    """

    needs_linear = True

    rows_per_parameter: int = ROWS_PER_FEATURE
    sample_bytes: int = SAMPLE_BYTES
    most_bytes: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("rows_per_parameter", "sample_bytes"):
            require(is_count(getattr(self, name)), self, name, "a whole number >= 1", getattr(self, name))
        most = self.most_bytes
        require(most is None or is_count(most), self, "most_bytes", "None or a whole number >= 1", most)
        seed = self.seed
        ok = seed is None or (seed == 0 and not isinstance(seed, bool)) or is_count(seed)
        require(ok, self, "seed", "None or a whole number >= 0", seed)

    # -- the sample -------------------------------------------------------------------------------

    def first_sweep_queries(self, shape: Shape) -> tuple[Query, ...]:
        most = self.most_bytes or (AT_HAND_BYTES if shape.at_hand else MOST_BYTES)
        each = np.inf if shape.at_hand and shape.nonsmooth else self.rows_per_parameter
        rows, per_class = sample_size(shape, self.sample_bytes, most, each)
        # Of kinks a smaller sample than it might have been says too little: that costs more sweeps than one.
        enough = np.inf if shape.nonsmooth else THIN * (shape.n_features + 1)
        return (Sample.of(shape, rows, per_class, self.seed or 0, enough),)

    def driver_numbers(self, shape: Shape, problem: Problem) -> int:
        model, rows = problem.linear, self.sample_share(shape) * shape.n_rows
        pairs = 2 * PAIRS * model.size
        if forms_hessian(problem) and model.size <= DENSE:
            return pairs + 4 * model.size**2
        moments = 4 * min(model.n_features, MOST_MOMENTS) ** 2
        return pairs + moments + int(min(rows * model.outputs, FACTOR_BYTES / 8))

    def expected_sweeps(
        self, shape: Shape, loss: Loss | None = None, parameters: int | None = None
    ) -> SweepEstimate:
        share, d = self.sample_share(shape), parameters or 0
        if share >= 1:
            return SweepEstimate(1, 1)
        if loss is not None and loss.nonsmooth:
            return SweepEstimate(3, 10)
        return SweepEstimate(4, 8) if d > WIDE or share * shape.n_rows < THIN * d else SweepEstimate(2, 5)

    def expects_one_gradient(self, shape: Shape, parameters: int, tol: float) -> bool:
        """The objective at the minimum of a sample of n rows is too large by about ``d / (2 n)``, and the
        sample's Hessian is wrong by about ``sqrt(d / n)``: a step with it leaves ``(d / n)**2 / 2``. Rare
        labels, and targets with heavy tails, leave more."""
        if shape.nonsmooth or parameters > WIDE:
            return False
        n = max(self.sample_share(shape) * shape.n_rows, 1.0)
        return bool((parameters / n) ** 2 / 2 <= LEFT * tol)

    def start(self, problem: Problem, w: Array, *first_sweep_answers: SampleAnswer) -> Steps:
        yield from ()
        (sample,) = first_sweep_answers
        rows = sample.rows
        none = np.zeros((0, len(w)))
        return SampledState(
            w,
            np.inf,
            np.zeros_like(w),
            at=w,
            d=np.zeros_like(w),
            X=rows.X,
            y=rows.y,
            s=rows.sample_weight,
            complete=sample.complete,
            lacking=lacking_variance(problem, sample.moments),
            S=none,
            Y=none,
        )

    def iterate(self, problem: Problem, state: SampledState) -> Steps:
        if not np.isfinite(state.f):
            return (yield from self._begin(problem, state))
        if state.complete and not forms_hessian(problem, len(state.X)):
            return (yield from answer_in_memory(problem, state.sample, self._go_on(problem, state)))
        if state.complete:
            return replace(state, stalled=True)
        return (yield from self._go_on(problem, state))

    def _go_on(self, problem: Problem, state: SampledState) -> Steps:
        """The State after one more step."""
        if state.misled:
            return (yield from self._replace_hessian(problem, state))
        return (yield from self._step(problem, state))

    def _begin(self, problem: Problem, s: SampledState) -> Steps:
        """The first State with an objective: at the solution on the sample, or where that is worse at w."""
        if not len(s.X):  # few rows, and fewer of any weight
            ((f, g),) = yield (Gradient(s.w),)
            new = replace(s, f=f, g=g, objective_history=np.array([f]), plain=True)
            return (yield from self._aim(problem, new))
        if s.complete and not forms_hessian(problem, len(s.X)):
            return (yield from self._begin_in_memory(problem, s))
        # On part of the rows, any closer than the sample's own error is in vain.
        share = 1e-3 if forms_hessian(problem) else 1e-2  # without the Hessian digits cost more
        tol = FINAL_TOL if s.complete else max(share * len(s.w) / len(s.X), 1e-12)
        solved = yield from self.solved(problem, s.sample, s.w, tol)
        if s.complete:
            return replace(s, w=solved.w, at=solved.w, f=solved.f, g=solved.g, gap=solved.gap)
        return (yield from self._leave_sample(problem, s, solved))

    def _leave_sample(self, problem: Problem, s: SampledState, solved: Solution) -> Steps:
        """The first State with an objective on all rows, from the solution on the sample.

        One sweep looks at the solution; beyond a probing step from there, where a large sample's Hessian can
        be judged by what it says of that step; and at a model that was given, as it may be the better one.
        """
        few = len(s.X) < FEW * len(s.w) or s.lacking.any()
        confident = len(s.X) >= CONFIDENT * len(s.w)
        probe = np.zeros(0)
        if confident and not few and (problem.penalty.smooth or self._forms_hessian(problem, s)):
            s = yield from self._take_hessian(problem, replace(s, at=solved.w))
            probe = yield from self._probe(problem, s, max(solved.f, 1e-3 * solved.first, 0.0))
        warm = bool(s.w[problem.model.penalised].any())
        at_solution, at_probe, at_given = yield from _look(
            Gradient(solved.w),
            GradientOnly(solved.w + probe) if probe.any() else None,
            Gradient(s.w) if warm else None,
        )
        at, (f, g) = solved.w, at_solution
        before = at_given[0] if warm else solved.first
        if not warm and not f <= before:  # on the sample it may have begun at the solution on a part of it
            ((before, _),) = yield (EvaluateInMemory(problem, s.sample, Gradient(s.w)),)
        back = not f <= before
        if back:
            if not warm:
                (at_given,) = yield (Gradient(s.w),)
            at, (f, g) = s.w, at_given
        floor = 0.1 * self._noise(s) * max(solved.first - f, 0.0)
        new = replace(s, w=at, at=at, f=f, g=g, objective_history=np.array([f]), floor=floor)
        if few and self._forms_hessian(problem, s):
            return new.give_up_sample()
        if at_probe is None or back:
            new = yield from self._aim(problem, (yield from self._take_hessian(problem, new)))
            # No step has confirmed the model yet, and a small sample may be a lucky one.
            return new if confident else replace(new, gap=np.inf)
        new = yield from self._aim(problem, new)
        return (yield from self._judge_model(problem, new, probe, at_probe))

    # -- how far to trust the model before any step -----------------------------------------------

    def _probe(self, problem: Problem, s: SampledState, f: float) -> Steps:
        """A probing step ``(d,)`` in a random direction, about as long as the step to the minimum: in the
        coordinates in which the sample's Hessian is the identity, as far along every axis."""
        length = np.sqrt(f / len(s.X))
        if not len(s.values):
            (drawn,) = yield (DrawStep(problem, s.sample, s.base, self.seed or 0),)
            return length * drawn
        signs = np.where(row_random_numbers(np.arange(len(s.w)), self.seed or 0, PROBE) < 0.5, -1.0, 1.0)
        return s.vectors @ (length * signs / np.sqrt(s.values))

    def _judge_model(self, problem: Problem, s: SampledState, probe: Array, beyond: Array) -> Steps:
        """The State with the model's error judged before any step, from the gradient `beyond` the probe.

        With H the Hessian of all rows, B the sample's, and a = B^(1/2) probe, the probe's gradients differ by
        H probe, and

            error^2 = |B^(-1/2) H B^(-1/2) a - a|^2 / |a|^2 = |H probe - B probe|^2 / probe' B probe,

        lengths of gradients in the metric of B^-1, is that of the model on all rows, averaged over
        directions (Hutchinson 1990): a step shrinks the gap by as much. What is not quadratic about the step
        itself shows on a part of the sample.
        """
        if not (s.d.any() and s.gap_at < np.inf):
            return s
        error = yield from self._model_error(problem, s, probe, beyond - s.g)
        error = max(error, len(s.w) / len(s.X))
        part = _every(s.sample, PROBED)
        before, after, bent = yield (
            EvaluateInMemory(problem, part, GradientOnly(s.at)),
            EvaluateInMemory(problem, part, GradientOnly(s.at + s.d)),
            EvaluateInMemory(problem, part, Product(s.at, s.d)),
        )
        rest = yield from self._squared(problem, s, after - before - bent)
        return s.end_after_step(SAFETY * (error + rest / (2 * s.gap_at)))

    def _model_error(self, problem: Problem, s: SampledState, probe: Array, change: Array) -> Steps:
        """The squared error of the sample's Hessian along a probe, with which the gradient changes so."""
        if len(s.values):
            root = np.sqrt(s.values)
            along = (s.vectors.T @ probe) * root
            miss = (s.vectors.T @ change) / root - along
            return float(miss @ miss) / float(along @ along)
        (product,) = yield (EvaluateInMemory(problem, s.sample, Product(s.base, probe)),)
        return (yield from self._squared(problem, s, change - product)) / float(probe @ product)

    @staticmethod
    def _forms_hessian(problem: Problem, s: SampledState) -> bool:
        """Whether the Hessian of the sample is formed, for the directions of full sweeps: eigenvectors serve
        many of them, and tell how far to trust the first."""
        separate = problem.loss.separate and not s.complete
        return problem.model.size <= (DENSE if separate else most_for_matrix(problem))

    def _squared(self, problem: Problem, s: SampledState, v: Array) -> Steps:
        """The squared length of v, a float, in the metric of the inverse of the sample's Hessian."""
        if not len(s.values):
            (found,) = yield (SolveNewtonSystem(problem, s.sample, s.base, v, ESTIMATE_RTOL),)
            return found.squared
        along = (s.vectors.T @ v) / np.sqrt(s.values)
        return float(along @ along)

    def solved(
        self, problem: Problem, rows: Rows, w: Array, tol: float
    ) -> Generator[tuple[Query, ...], Sequence[Any], Solution]:
        """The problem's :class:`Solution` on rows in memory, each output by itself where they are separate
        and have few parameters."""
        if not forms_hessian(problem):
            rows, alone = replace(rows, dtype=None), self._of_all_rows()
            (answer,) = yield (SolveInMemory(problem, rows, alone, w, tol),)
            return answer
        k = problem.model.outputs
        if k == 1 or not problem.loss.separate:
            (answer,) = yield from self._each_solved([(problem, rows)], [w], tol)
            return answer
        starts = w.reshape(-1, k).T.copy()
        parts = [problem.output(j, rows) for j in range(k)]
        answers = yield from self._each_solved(parts, list(starts), tol / k)
        return joined(answers)

    def _each_solved(
        self, parts: Sequence[tuple[Problem, Rows]], starts: Sequence[Array], tol: float
    ) -> Generator[tuple[Query, ...], Sequence[Any], list[Solution]]:
        """The solutions of problems that do not interact; along a path of penalties where Newton's way
        straight to the minimum is a long one."""
        paths = [has_path(one, len(its)) for one, its in parts]
        answers = yield tuple(
            SolveInMemory(
                one, its, self._in_memory(one, its, tol), start, tol, DIRECT if path else MOST_STEPS
            )
            for (one, its), start, path in zip(parts, starts, paths, strict=True)
        )
        far = [i for i, a in enumerate(answers) if paths[i] and not a.gap <= max(tol, FOUND) * a.f]
        if not far:
            return list(answers)
        found = yield from solve_along_path([parts[i] for i in far], [starts[i] for i in far], tol)
        return [found.pop(0) if i in far else answer for i, answer in enumerate(answers)]

    def _in_memory(self, problem: Problem, rows: Rows, tol: float) -> Solver:
        """The solver of the problem on rows in memory, to a relative gap of `tol`."""
        each, width = (
            200 if problem.loss.separate else 30 * problem.model.outputs,
            problem.linear.n_features + 1,
        )
        fewer = max(min(each * width, len(rows) // 4), width)
        work = len(rows) * hessian_work(problem)
        # A sample of the sample must be a smaller problem. The curvature of kinks is that of a few rows, of
        # which it would have none.
        whole = tol <= FINAL_TOL or problem.loss.nonsmooth
        if work <= (NEWTON_WORK if whole else START_WORK) or fewer > len(rows) // 2:
            return Newton()
        part = max(rows.X.nbytes // 4, 1)
        return type(self)(rows_per_parameter=each, sample_bytes=1, most_bytes=part, seed=self.seed)

    def _of_all_rows(self) -> SubsampledNewton:
        """The same solver, with all rows for its sample."""
        return type(self)(sample_bytes=2**62, most_bytes=2**62, seed=self.seed)

    def _take_hessian(self, problem: Problem, s: SampledState) -> Steps:
        """The State with the sample's Hessian at `s.at`, as eigenvalues and eigenvectors."""
        if not self._forms_hessian(problem, s):
            return replace(s, base=s.at)
        rows = s.sample
        most = int(HESSIAN_WORK / hessian_work(problem))
        if len(rows) > most:
            rows = curvature_weighted_subsample(problem, rows, s.at, most)
        (H,) = yield (EvaluateInMemory(problem, rows, Hessian(s.at)),)
        H[np.diag_indices_from(H)] += unseen_curvature(problem, s.lacking, len(rows), H)
        return self._factorise(s, H)

    @staticmethod
    def _factorise(s: SampledState, H: Array) -> SampledState:
        """The State with H as its Hessian: |H| where it is not convex, and a modest one where it is flat."""
        if not np.isfinite(H).all():
            return replace(s, plain=True)
        values, vectors = np.linalg.eigh(H)
        if not values.any():
            return replace(s, plain=True)
        return replace(s, values=raise_flat(values, FLAT_STEP), vectors=vectors, base=s.at)

    # -- directions -------------------------------------------------------------------------------

    def _solve(self, problem: Problem, s: SampledState, q: Array) -> Steps:
        """The product ``(d,)`` of q and the inverse of the sample's Hessian, by its factors or by conjugate
        gradients; and what is missing of q's squared length in its metric."""
        if not len(s.values):
            (found,) = yield (SolveNewtonSystem(problem, s.sample, s.base, q, DIRECTION_RTOL),)
            return found.x, max(found.squared - float(q @ found.x), 0.0)
        scale = 1.0
        if len(s.S):
            along = s.vectors.T @ s.Y[-1]
            length = float(along @ (along / s.values))
            ratio = float(s.S[-1] @ s.Y[-1]) / length if length > 0 else 1.0
            scale = ratio if not 0.5 < ratio < 2 else 1.0
        return s.vectors @ (scale * (s.vectors.T @ q) / s.values), 0.0

    def _quadratic_form(self, problem: Problem, s: SampledState, v: Array) -> float:
        """The curvature along v, ``v' H v``, with the sample's Hessian; 0 where it is not formed."""
        if s.plain or not len(s.values):
            return 0.0
        along = s.vectors.T @ v
        return float(along @ (along * s.values))

    def _aim(self, problem: Problem, s: SampledState) -> Steps:
        """The State with its next step and its gap, from f and g at `s.at`."""
        if not np.isfinite(s.g).all():
            return replace(s, gap=np.inf)
        if s.plain:
            d, missing = -two_loop(s.g, s.S, s.Y), 0.0
        elif s.complete:
            d, missing, s = yield from self._direction_in_memory(problem, s)
        else:
            q, alpha = first_loop(s.g, s.S, s.Y)
            q, missing = yield from self._solve(problem, s, q)
            d = -second_loop(q, alpha, s.S, s.Y)
        gap = (missing - float(s.g @ d)) / 2
        if not s.g @ d < 0:
            gap = 0.0 if not s.g.any() else np.inf
            return replace(s, w=s.at, d=np.zeros_like(d), gap=gap, gap_at=gap)
        gap = max(gap * (1.0 if np.isinf(s.model_error_ratio) else s.model_error_ratio), s.floor)
        if s.plain:
            gap = max(gap, extrapolated_gap(s.objective_history)) if len(s.S) else np.inf
        return replace(
            s, d=d, gap=gap, gap_at=gap, w=s.at if np.isinf(s.model_error_ratio) or s.plain else s.at + d
        )

    def _step(self, problem: Problem, s: SampledState) -> Steps:
        """The State after a step along s.d, searched along the line where the unit step is refused."""
        slope = float(s.g @ s.d)
        if not slope < 0:
            return (yield from self._recover(problem, s))
        unseen = -slope <= ROUNDING * abs(s.f)

        def accept(t: float, f: float, slope_t: float) -> bool:
            return bool(np.isfinite(f)) if unseen else wolfe(s.f, slope, t, f, slope_t)

        trial = None if s.plain and not len(s.S) else 1.0
        found = yield from search(s.at, s.d, s.f, slope, trial, accept)
        if found is None:
            return (yield from self._recover(problem, s))
        return (yield from self._advance(problem, s, *found, promised=-slope / 2))

    def _advance(
        self, problem: Problem, s: SampledState, t: float, f: float, g: Array, promised: float
    ) -> Steps:
        """The State after a step of t along s.d, to objective f and gradient g, of which `promised` was hoped
        for."""
        step, change = t * s.d, g - s.g
        S, Y = s.S, s.Y
        if float(step @ change) > SCREEN * self._quadratic_form(problem, s, step):
            S, Y = remember(S, Y, step, change, PAIRS)
        new = replace(
            s,
            at=s.at + step,
            f=f,
            g=g,
            S=S,
            Y=Y,
            model_error_ratio=model_error(promised, t, s.f - f, float(step @ change), ROUNDING * abs(f)),
            floor=self._noise(s) * s.gap_at if np.isfinite(s.gap_at) else 0.0,
            stalled=False,
            objective_history=np.append(s.objective_history, f),
        )
        if s.complete:
            return (yield from self._renew_in_memory(problem, s, new))
        new = yield from self._aim(problem, new)
        if s.error < 1 and s.gap_at > 0:  # the next step gains about as much as the last
            new = new.end_after_step(SAFETY * max(new.gap_at / s.gap_at, self._noise(s)))
        slow_steps = s.slow_steps + 1 if new.gap_at > SLOW * s.gap_at else 0
        new = replace(new, slow_steps=slow_steps)
        policy = next_hessian_policy(new, far=s.gap_at > HESSIAN_AGAIN_GAP * abs(f))
        if policy is HessianPolicy.KEEP:
            return new
        if policy is HessianPolicy.GIVE_UP:
            return new.give_up_sample()
        if policy is HessianPolicy.RENEW_AND_FORGET:
            new = replace(new, S=S[-1:], Y=Y[-1:])
        return (yield from self._aim(problem, (yield from self._take_hessian(problem, new))))

    def _noise(self, s: SampledState) -> float:
        """The factor by which a sample of this size lets the gap shrink in one step, about: parameters over
        rows."""
        return 0.0 if s.plain or s.exact or s.complete or not len(s.X) else min(len(s.w) / len(s.X), 0.1)

    def _replace_hessian(self, problem: Problem, s: SampledState) -> Steps:
        """The State after the sample's Hessian is given up: with that of all rows, at the cost of a sweep, or
        with none where there are too many parameters."""
        if not self._forms_hessian(problem, s):
            return (yield from self._aim(problem, replace(s, plain=True, slow_steps=0)))
        ((f, g, H),) = yield (Curvature(s.at),)
        new = replace(
            s, f=f, g=g, S=s.S[:0], Y=s.Y[:0], slow_steps=0, model_error_ratio=1.0, floor=0.0, exact=True
        )
        return (yield from self._aim(problem, self._factorise(new, H)))

    def _recover(self, problem: Problem, s: SampledState) -> Steps:
        """The State where no step along s.d helps: first pairs are forgotten, then the old Hessian, then the
        Hessian."""
        if len(s.S):
            return (yield from self._aim(problem, replace(s, S=s.S[:0], Y=s.Y[:0])))
        if s.plain:
            return replace(s, w=s.at, stalled=True)
        fresh = np.array_equal(s.base, s.at)
        if not fresh and not s.exact:
            return (yield from self._aim(problem, (yield from self._take_hessian(problem, s))))
        if not (fresh and s.exact):
            return s.give_up_sample()
        return (yield from self._aim(problem, replace(s, plain=True)))


def _look(*queries: Query | None) -> Generator[tuple[Query, ...], Sequence[Any], list[Any]]:
    """The answers of queries asked in one sweep; None for those that are None."""
    answers = iter((yield tuple(query for query in queries if query is not None)))
    return [None if query is None else next(answers) for query in queries]


def _every(rows: Rows, most: int) -> Rows:
    """At most about `most` of the rows, evenly spread."""
    return rows.select(np.arange(0, len(rows), max(len(rows) // most, 1)))
