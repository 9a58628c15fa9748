"""The only loop: it runs a solver, iteration by iteration, until a rule says stop.

A fit is a generator, like a solver: it yields what it wants to ask and receives the answers. Any number of
them advance in step (:func:`daskgd.training.together.together`), so that many fits share every sweep. The
file knows solvers, states and the journal; it must not know dask, data sets or estimators.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd._compat.caller import warn
from daskgd.engines.base import Engine
from daskgd.problems import Problem
from daskgd.queries import Ask, Query
from daskgd.rows.subsets import Subset
from daskgd.solvers.base import Solver, State, Tolerance
from daskgd.solvers.certificate import iterate
from daskgd.training.journal import Journal

Array = NDArray[Any]


Fit = Generator[list[Ask], list[Any], Any]
"""A generator of asks: one list per sweep."""

Watch = Callable[[Mapping[str, Any]], "float | None"]
"""Called after every iteration with a row of the history; answers by which factor steps are to be shorter
from there on, None for not at all."""


class PartitionsDiffer(UserWarning):
    """Warns that partitions hold rows of different kinds, with which local training converges slowly."""


# -- stopping -----------------------------------------------------------------------------------


GROWN, LOST = 1e3, 1e10
"""A fit diverges when its objective exceeds the larger of the first one and the best constant model's by this
factor; with ``tol=0``, which runs what was asked, by the second factor."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The rule by which a fit stops: converged, diverged, stalled, or out of iterations.

    Attributes
    ----------
    tol : float
        Relative gap, ``gap / max(f, baseline / 1000)``, at which to stop; 0 runs `max_iter` iterations with
        the solver's steps as they were given.
    max_iter : int
        Most iterations.
    baseline : float
        Objective of the best constant model.
    gap_lower_bound : callable, optional
        A lower bound of the gap of a State, which its solver's estimate must not fall below.
    ends_stalled : bool
        Whether a fit of ``tol=0`` ends, too, where no step helps any more.
    max_evaluations : float
        Most sweeps that evaluate the objective, of solvers that count them in their State.
    """

    tol: float
    max_iter: int
    baseline: float = 0.0
    gap_lower_bound: Callable[[State], float] | None = None
    ends_stalled: bool = False
    max_evaluations: float = np.inf

    def relative(self, state: State) -> float:
        """The gap relative to the objective."""
        gap = state.gap if self.gap_lower_bound is None else max(state.gap, self.gap_lower_bound(state))
        if gap == 0:
            return 0.0
        scale = self._scale(state.f)
        return float(gap / scale) if scale > 0 else np.inf

    def absolute(self, f: float) -> float:
        """The gap at which to stop, not relative, where the objective is f."""
        return self.tol * self._scale(f)

    def _scale(self, f: float) -> float:
        return max(f, 1e-3 * self.baseline)

    def outcome(self, state: State, iteration: int, first: float) -> str | None:
        """``"converged"``, ``"diverged"``, ``"stalled"``, ``"budget_spent"``, or None to go on.

        `first` is the first objective seen.
        """
        ceiling = (GROWN if self.tol > 0 else LOST) * max(first, self.baseline)
        finite = np.isfinite(state.f) and np.isfinite(state.w).all()
        if iteration and (not finite or 0 < ceiling < state.f):
            return "diverged"
        if self.tol > 0 and self.relative(state) <= self.tol:
            return "converged"
        if (self.tol > 0 or self.ends_stalled) and state.stalled:
            return "stalled"
        spent = iteration >= self.max_iter or getattr(state, "evaluations", 0) >= self.max_evaluations
        return "budget_spent" if spent else None


@dataclass(slots=True)
class Result:
    """Where a fit is: its best parameters while it runs, the final ones with the `outcome` at the end.

    Attributes
    ----------
    w : (d,)
    gap : float
        Estimated, relative to the objective.
    n_iter : int
    outcome : str
    step, halvings : float, int
        Those of the State.
    """

    w: Array
    gap: float = np.inf
    n_iter: int = 0
    outcome: str = "interrupted"
    step: float = 0.0
    halvings: int = 0


# -- the loop -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Meter:
    """Counts what a fit has cost so far: sweeps and decoded bytes of the data, and seconds.

    `before` are the seconds of earlier processes, where a fit is resumed.

    A sweep of a share of the blocks counts as that share: `sweeps` is an int where shares add up to whole
    sweeps, as those of an epoch do, and a float in between. `wire_bytes` are those of the sums, were each
    partition a machine that sends its own.
    """

    sweeps: float = 0
    bytes: int = 0
    before: float = 0.0
    began: float = field(default_factory=time.perf_counter)
    wire_bytes: int = 0

    def count(self, engine: Engine) -> None:
        """Add the cost of the last sweep of an engine."""
        share = float(getattr(engine, "share", 1.0))
        total = self.sweeps + share
        self.sweeps = round(total) if abs(total - round(total)) < 1e-9 else total
        self.bytes += round(engine.nbytes * share)
        self.wire_bytes += int(getattr(engine, "wire_bytes", 0))

    @property
    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began


def loop(
    solver: Solver,
    problem: Problem,
    w: Array,
    stop: Stop,
    *,
    run: str = "",
    meter: Meter | None = None,
    watch: Watch | None = None,
    journal: Journal | None = None,
    progress: Result | None = None,
    first_sweep_answers: Sequence[Any] = (),
    subset: Subset | None = None,
) -> Fit:
    """Run a solver from parameters `w` until `stop` says so: a generator of asks that returns a Result.

    `first_sweep_answers` are the answers to the solver's `first_sweep_queries`. With a `journal` from an
    earlier, interrupted run it goes on where that one stopped. `progress`, if given, always holds the best so
    far, for whoever is interrupted. With a `subset` only these rows of the data count in sweeps; the solver's
    rows in memory are to be of the subset already.
    """
    solver.check(problem)
    in_sweeps = problem if subset is None else replace(problem, subset=subset)
    meter = meter or Meter()
    journal = journal or Journal()
    result = progress or Result(w)

    def ask(steps: Generator[tuple[Query, ...], list[Any], Any]) -> Generator[list[Ask], list[Any], Any]:
        answers: list[Any] | None = None
        try:
            while True:
                queries = steps.send(answers)  # type: ignore[arg-type]
                if isinstance(queries[0], Tolerance):
                    answers = [stop.absolute(query.f) for query in queries if isinstance(query, Tolerance)]
                    continue
                if subset is not None and any(query.scope == "partition" for query in queries):
                    raise ValueError(
                        f"{type(solver).__name__} trains on whole partitions, and not on a subset of their "
                        "rows"
                    )
                answers = yield [Ask(in_sweeps, query, run) for query in queries]
        except StopIteration as end:
            return end.value

    def says_nothing(state: State) -> bool:
        return problem.loss.least_at_zero and not state.point.any()

    def note() -> None:
        assert journal.best is not None
        result.w, result.gap = journal.best.point, stop.relative(journal.best)
        result.n_iter = journal.iteration

    if journal.state is None:
        journal.commit((yield from ask(journal.play(solver.start(problem, w, *first_sweep_answers)))), 0)
    note()
    while True:
        outcome = stop.outcome(journal.state, journal.iteration, journal.first)
        if outcome == "diverged" and stop.tol > 0:
            # A function of what the journal holds, so that a fit that is killed here comes to the same.
            shorter = solver.retreat(journal.best, journal.state)
            if shorter is not None:
                journal.state = shorter
                outcome = stop.outcome(journal.state, journal.iteration, journal.first)
        if outcome is not None:
            break
        state = yield from ask(journal.play(iterate(solver, problem, journal.state)))
        journal.commit(state, journal.iteration + 1, problem.loss.least_at_zero)
        note()
        if watch is not None:
            factor = watch(
                {
                    "iteration": journal.iteration,
                    "loss": float(state.f),
                    "gradient_norm": float(np.linalg.norm(state.g)),
                    "gap": stop.relative(state),
                    "seconds": meter.seconds,
                    "bytes": meter.bytes,
                    "sweeps": meter.sweeps,
                    "wire_bytes": meter.wire_bytes,
                    **({"step": float(state.step)} if state.step else {}),
                    **({"repeated": True} if state.repeated or says_nothing(state) else {}),
                }
            )
            if factor is not None:
                journal.state = solver.slower(state, factor)
    if outcome == "diverged":
        result.gap = np.inf
    else:
        result.w, result.gap = journal.state.w, stop.relative(journal.state)
    result.outcome, result.step, result.halvings = outcome, journal.state.step, journal.state.halvings
    if (remark := solver.remark(journal.state)) is not None:
        warn(f"{type(solver).__name__}: {remark}", PartitionsDiffer)
    return result
