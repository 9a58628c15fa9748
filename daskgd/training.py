"""The only loop: it joins a solver to an engine, and owns stopping, watching, the journal and sharing.

A fit is a generator, like a solver: it yields what it wants to ask and receives the answers. Any number of
them advance in step (:func:`together`), so that many fits share every sweep. This room knows no dask and
no data; an engine is whatever answers asks.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.base import Layout
from daskgd.engines.serial import Serial
from daskgd.problems import Problem, Rows, Shape
from daskgd.queries import Ask, Query
from daskgd.solvers.base import Solve, Solved, Solver, State, Steps

Array = NDArray[Any]

Fit = Generator[list[Ask], list[Any], Any]
"""A generator of asks: one list per sweep."""

Watch = Callable[[Mapping[str, Any]], None]
"""Called after every iteration with a row of the history."""


class Engine(Protocol):
    """Whatever answers asks by reading the data once."""

    nbytes: int
    """Bytes one sweep reads, decoded."""

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        ...


# -- the journal: exact resume ------------------------------------------------------------------


class ReplayError(RuntimeError):
    """A journal does not fit the solver that replays it."""


@dataclass(slots=True)
class Journal:
    """The last State, the answers received since, and what divergence is judged by: the first objective and
    the best State.

    Replayed into a fresh generator they lead to the same place without reading any data: killed at any
    sweep and resumed, a fit goes on with the same bits.
    """

    state: Any = None
    iteration: int = 0
    entries: list[tuple[str, list[Any]]] = field(default_factory=list)
    first: float = np.inf
    best: State | None = None

    def play(self, steps: Steps) -> Generator[tuple[Query, ...], list[Any], Any]:
        """Run `steps`, answering from the entries as long as there are any, then by asking."""
        known = iter(list(self.entries))
        try:
            queries = next(steps)
            while True:
                asked = digest(queries)
                entry = next(known, None)
                if entry is None:
                    entry = (asked, (yield queries))
                    self.entries.append(entry)
                elif entry[0] != asked:
                    names = ", ".join(type(query).__name__ for query in queries)
                    raise ReplayError(
                        f"the journal does not fit the solver: iteration {self.iteration + 1} now asks "
                        f"{names} with digest {asked}, the journal holds the answer to {entry[0]}. It was "
                        "written with other settings, data or another version: start the fit anew"
                    )
                queries = steps.send(entry[1])
        except StopIteration as end:
            return end.value

    def commit(self, state: State, iteration: int) -> None:
        """An iteration is complete: forget the answers that led to it."""
        self.state, self.iteration, self.entries = state, iteration, []
        if not np.isfinite(self.first):
            self.first = state.f
        if self.best is None or state.f <= self.best.f:
            self.best = state


def digest(queries: Sequence[Query]) -> str:
    """Sixteen hex digits that identify queries by type and content."""
    h = hashlib.sha256()

    def feed(value: Any) -> None:
        if is_dataclass(value) and not isinstance(value, type):
            h.update(type(value).__name__.encode())
            for f in fields(value):
                if f.compare:
                    feed(getattr(value, f.name))
        elif isinstance(value, np.ndarray):
            h.update(f"{value.dtype}{value.shape}".encode())
            h.update(np.ascontiguousarray(value).tobytes())
        else:
            h.update(repr(value).encode())

    for query in queries:
        feed(query)
    return h.hexdigest()[:16]


# -- stopping -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stop:
    """When to stop, and why.

    Attributes
    ----------
    tol : float
        Relative gap, ``gap / max(f, baseline / 1000)``, at which to stop; 0 runs `max_iter` iterations.
    max_iter : int
        Most iterations.
    baseline : float
        Objective of the best constant model.
    """

    tol: float
    max_iter: int
    baseline: float = 0.0

    def relative(self, state: State) -> float:
        """The gap relative to the objective."""
        if state.gap == 0:
            return 0.0
        scale = max(state.f, 1e-3 * self.baseline)
        return float(state.gap / scale) if scale > 0 else np.inf

    def outcome(self, state: State, iteration: int, first: float) -> str | None:
        """``"converged"``, ``"diverged"``, ``"stalled"``, ``"budget_spent"``, or None to go on.

        `first` is the first objective seen: one that has grown ten thousand million times is lost.
        """
        ceiling = 1e10 * max(first, self.baseline)
        if iteration and (not np.isfinite(state.f) or 0 < ceiling < state.f):
            return "diverged"
        if self.tol > 0 and self.relative(state) <= self.tol:
            return "converged"
        if self.tol > 0 and state.stalled:
            return "stalled"
        return "budget_spent" if iteration >= self.max_iter else None


@dataclass(slots=True)
class Result:
    """Where a fit is: the current state while it runs, the final one with its `outcome` at the end."""

    w: Array
    gap: float = np.inf
    n_iter: int = 0
    outcome: str = "interrupted"


# -- the loop -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Meter:
    """What a fit has cost so far: sweeps and decoded bytes of the data, seconds since it began."""

    sweeps: int = 0
    bytes: int = 0
    began: float = field(default_factory=time.perf_counter)

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self.began


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
    found: Sequence[Any] = (),
) -> Fit:
    """Run a solver from parameters `w` until `stop` says so: a generator of asks that returns a Result.

    `found` are the answers to what the solver had ride on the survey. With a `journal` from an earlier,
    interrupted run it goes on where that one stopped. `progress`, if given, always holds the best so far, for
    whoever is interrupted.
    """
    solver.check(problem)
    meter = meter or Meter()
    journal = journal or Journal()
    result = progress or Result(w)

    def ask(steps: Generator[tuple[Query, ...], list[Any], Any]) -> Generator[list[Ask], list[Any], Any]:
        answers: list[Any] | None = None
        try:
            while True:
                queries = steps.send(answers)  # type: ignore[arg-type]
                if queries and isinstance(queries[0], Solve):
                    answers = [solve(queries[0])]
                else:
                    answers = yield [Ask(problem, query, run) for query in queries]
        except StopIteration as end:
            return end.value

    def note() -> None:
        assert journal.best is not None
        result.w, result.gap = journal.best.point, stop.relative(journal.best)
        result.n_iter = journal.iteration

    if journal.state is None:
        journal.commit((yield from ask(journal.play(solver.start(problem, w, *found)))), 0)
    note()
    while (outcome := stop.outcome(journal.state, journal.iteration, journal.first)) is None:
        state = yield from ask(journal.play(solver.iterate(problem, journal.state)))
        journal.commit(state, journal.iteration + 1)
        note()
        if watch is not None:
            watch(
                {
                    "iteration": journal.iteration,
                    "loss": float(state.f),
                    "gradient_norm": float(np.linalg.norm(state.g)),
                    "gap": stop.relative(state),
                    "seconds": meter.seconds,
                    "bytes": meter.bytes,
                    "sweeps": meter.sweeps,
                }
            )
    if outcome == "diverged":
        result.gap = np.inf
    else:
        result.w, result.gap = journal.state.w, stop.relative(journal.state)
    result.outcome = outcome
    return result


# -- in memory -----------------------------------------------------------------------------------


def in_memory(steps: Steps) -> Any:
    """Run a generator that asks for nothing but Solves; what it returns."""
    answers: list[Any] | None = None
    try:
        while True:
            (ask,) = steps.send(answers)  # type: ignore[arg-type]
            assert isinstance(ask, Solve)
            answers = [solve(ask)]
    except StopIteration as end:
        return end.value


def solve(ask: Solve) -> Solved:
    """Answer a Solve: the whole fit on rows in memory, by the same solvers and the same loop."""
    rows, problem = ask.rows, ask.problem
    engine = Serial(_InMemory(rows, Layout(len(rows), max(len(rows), 1), 1)))
    shape = Shape(len(rows), rows.X.shape[1], rows.X.dtype.itemsize, problem.labels is not None)
    found = [engine.sweep([Ask(None, query)])[0] for query in ask.solver.rides(shape)]
    journal = Journal()
    fit = loop(ask.solver, problem, ask.w, Stop(ask.tol, ask.max_iter), journal=journal, found=found)
    together([fit], [Meter()], engine)
    best = journal.best
    assert best is not None
    last = journal.state if np.isfinite(journal.state.f) else best
    state = last if last.gap < np.inf and last.f <= best.f * (1 + 1e-12) else best
    return Solved(state.point, state.f, state.g, state.gap, journal.first)


@dataclass(frozen=True, slots=True, eq=False)
class _InMemory:
    """A Source over rows at hand, one block."""

    rows: Rows
    layout: Layout

    def read(self, start: int, stop: int) -> Rows:
        return self.rows


# -- many fits, one sweep -----------------------------------------------------------------------


def together(fits: Sequence[Fit], meters: Sequence[Meter], engine: Engine) -> list[Any]:
    """Advance all fits in step, one sweep answering what each of them asks next; their return values.

    Equal questions about the data alone (surveys) are asked once. A fit that fails ends the others.
    """
    results: list[Any] = [None] * len(fits)
    pending: dict[int, list[Ask]] = {}

    def advance(i: int, answers: list[Any] | None) -> None:
        while True:
            try:
                asks = fits[i].send(answers)  # type: ignore[arg-type]
            except StopIteration as end:
                results[i] = end.value
                pending.pop(i, None)
                return
            if asks:
                pending[i] = asks
                return
            answers = []

    try:
        with np.errstate(over="ignore", invalid="ignore"):  # stop rules judge what is not finite
            for i in range(len(fits)):
                advance(i, None)
            while pending:
                distinct: list[Ask] = []
                places: dict[int, list[int]] = {}
                for i, asks in pending.items():
                    places[i] = [_place(ask, distinct) for ask in asks]
                answers = engine.sweep(distinct)
                for i, where in places.items():
                    meters[i].sweeps += 1
                    meters[i].bytes += engine.nbytes
                    advance(i, [answers[j] for j in where])
    finally:
        for fit in fits:
            fit.close()
    return results


def _place(ask: Ask, distinct: list[Ask]) -> int:
    """Position of the ask among the distinct ones, appended if it is new."""
    if ask.problem is None and ask in distinct:
        return distinct.index(ask)
    distinct.append(ask)
    return len(distinct) - 1
