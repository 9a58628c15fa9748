"""The only loop: it joins a solver to an engine, and owns stopping, watching, the journal and sharing.

A fit is a generator, like a solver: it yields what it wants to ask and receives the answers. Any number of
them advance in step (:func:`together`), so that many fits share every sweep. This room knows no dask and
no data; an engine is whatever answers asks.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass, replace
from itertools import count
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.base import Layout, Memory
from daskgd.engines.serial import Threaded
from daskgd.problems import Problem, Rows, Shape
from daskgd.queries import LANES, Ask, Gradient, Gradients, Hessian, Hessians, Query
from daskgd.solvers.base import Aside, Here, Solve, Solved, Solver, State, Steps

Array = NDArray[Any]

Fit = Generator[list[Ask], list[Any], Any]
"""A generator of asks: one list per sweep."""

Watch = Callable[[Mapping[str, Any]], None]
"""Called after every iteration with a row of the history."""


class Engine(Protocol):
    """Whatever answers asks by reading the data once."""

    nbytes: int
    """Bytes one sweep reads, decoded."""

    memory: Memory
    """What partition queries remember; set where a fit is resumed."""

    # An engine that knows what it read and what travels says so of its last sweep: `share`, of the blocks,
    # and `wire_bytes`. Without them sweeps count as whole, and bytes of sums not at all.

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        ...


class PartitionsDiffer(UserWarning):
    """The rows of partitions are unlike, which local training does not like."""


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
        state = _contiguous(state)
        self.state, self.iteration, self.entries = state, iteration, []
        if not np.isfinite(self.first):
            self.first = state.f
        if self.best is None or (
            np.isfinite(state.f)
            and np.isfinite(state.point).all()
            and not state.f > self.best.f  # which may not be a number
        ):
            self.best = state


def _contiguous(state: State) -> State:
    """The same, without arrays that are strided views: read back they would not be, and give other bits."""
    strided: dict[str, Any] = {
        f.name: np.ascontiguousarray(value)
        for f in fields(state)
        if isinstance(value := getattr(state, f.name), np.ndarray)
        and not (value.flags.c_contiguous or value.flags.f_contiguous)
    }
    return replace(state, **strided) if strided else state


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
        elif isinstance(value, tuple):
            h.update(f"{len(value)}".encode())
            for item in value:
                feed(item)
        else:
            h.update(repr(value).encode())

    for query in queries:
        feed(query)
    return h.hexdigest()[:16]


# -- stopping -----------------------------------------------------------------------------------


GROWN, LOST = 1e3, 1e10
"""How many times the first objective, or that of the best constant model, is a sign of divergence; with
``tol=0``, which runs what was asked, only the second is."""


@dataclass(frozen=True, slots=True)
class Stop:
    """When to stop, and why.

    Attributes
    ----------
    tol : float
        Relative gap, ``gap / max(f, baseline / 1000)``, at which to stop; 0 runs `max_iter` iterations with
        the solver's steps as they were given.
    max_iter : int
        Most iterations.
    baseline : float
        Objective of the best constant model.
    least : callable, optional
        What the gap of a state is at least, whatever its solver makes of it.
    """

    tol: float
    max_iter: int
    baseline: float = 0.0
    least: Callable[[State], float] | None = None

    def relative(self, state: State) -> float:
        """The gap relative to the objective."""
        gap = state.gap if self.least is None else max(state.gap, self.least(state))
        if gap == 0:
            return 0.0
        scale = max(state.f, 1e-3 * self.baseline)
        return float(gap / scale) if scale > 0 else np.inf

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
        if self.tol > 0 and state.stalled:
            return "stalled"
        return "budget_spent" if iteration >= self.max_iter else None


@dataclass(slots=True)
class Result:
    """Where a fit is: the current state while it runs, the final one with its `outcome` at the end; `step`
    and `halvings` are the State's."""

    w: Array
    gap: float = np.inf
    n_iter: int = 0
    outcome: str = "interrupted"
    step: float = 0.0
    halvings: int = 0


# -- the loop -----------------------------------------------------------------------------------


@dataclass(slots=True)
class Meter:
    """What a fit has cost so far: sweeps and decoded bytes of the data, seconds since it began; `before` are
    those of earlier processes, where it is resumed.

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
        """Add the last sweep of an engine."""
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
                    "wire_bytes": meter.wire_bytes,
                    **({"step": float(state.step)} if state.step else {}),
                }
            )
    if outcome == "diverged":
        result.gap = np.inf
    else:
        result.w, result.gap = journal.state.w, stop.relative(journal.state)
    result.outcome, result.step, result.halvings = outcome, journal.state.step, journal.state.halvings
    if (remark := solver.remark(journal.state)) is not None:
        warnings.warn(f"{type(solver).__name__}: {remark}", PartitionsDiffer, stacklevel=2)
    return result


# -- many fits, one sweep -----------------------------------------------------------------------


def together(
    fits: Sequence[Fit],
    meters: Sequence[Meter],
    engine: Engine,
    lanes: Sequence[int | None] | None = None,
    threads: int = 0,
    after: Callable[[], None] | None = None,
) -> list[Any]:
    """Advance all fits in step, one sweep answering what each of them asks next; their return values.

    Equal questions about the data alone (surveys) are asked once, gradients as one product with X, in which
    each fit has a lane of its own (:class:`~daskgd.queries.Gradients`): by default its position, and none
    where there is but one fit. What is asked aside is worked on in `threads`, by default one for each core.
    A fit that fails ends the others. `after` is called when all fits have taken in the answers of a sweep:
    they are then at one point, from which all of them can be resumed.
    """
    results: list[Any] = [None] * len(fits)
    pending: dict[int, list[Ask]] = {}
    if lanes is None:
        lanes = range(len(fits)) if len(fits) > 1 else [None] * len(fits)

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
                asides = {i: asks for i, asks in pending.items() if isinstance(asks[0].query, Aside)}
                if asides:
                    found = aside([(lanes[i], asks) for i, asks in asides.items()], threads)
                    for i, answers in zip(asides, found, strict=True):
                        advance(i, answers)
                    continue
                asked = _Sweep()
                places = {i: asked.places(asks, lanes[i]) for i, asks in pending.items()}
                answers = engine.sweep(asked.asks())
                for i, where in places.items():
                    meters[i].count(engine)
                    advance(i, [pick(answers) for pick in where])
                if after is not None:
                    after()
    finally:
        for fit in fits:
            fit.close()
    return results


class _Sweep:
    """What to ask in one sweep, of many fits, and where each finds its answers."""

    def __init__(self) -> None:
        self.distinct: list[Ask] = []
        self.stacks: dict[tuple[int, bool, type, int], dict[int, tuple[Problem, Gradient]]] = {}

    def places(self, asks: Sequence[Ask], lane: int | None) -> list[Callable[[list[Any]], Any]]:
        """Take in what a fit asks; how to find each answer among those of the sweep."""
        return [self._stacked(ask, lane) or self._apart(ask) for ask in asks]

    def asks(self) -> list[Ask]:
        """All that is to be asked: first what is alone, then the stacks."""
        return self.distinct + [Ask(None, Gradients.of(stack)) for stack in self.stacks.values()]

    def _apart(self, ask: Ask) -> Callable[[list[Any]], Any]:
        if ask.problem is None and ask in self.distinct:
            at = self.distinct.index(ask)
        else:
            at = len(self.distinct)
            self.distinct.append(ask)
        return lambda answers: answers[at]

    def _stacked(self, ask: Ask, lane: int | None) -> Callable[[list[Any]], Any] | None:
        """The same in a stack; None where the ask does not go there."""
        if lane is None or not isinstance(ask.query, Gradient) or not ask.problem.model.one_column:
            return None
        for nth in count():  # a fit that asks for several has a lane in as many stacks
            key = lane // LANES, ask.problem.linear.far, type(ask.query), nth
            stack = self.stacks.setdefault(key, {})
            if lane % LANES not in stack:
                break
        at = len(stack)
        stack[lane % LANES] = ask.problem, ask.query
        return lambda answers: answers[len(self.distinct) + list(self.stacks).index(key)][at]


# -- aside ---------------------------------------------------------------------------------------


def aside(asked: Sequence[tuple[int | None, Sequence[Ask]]], threads: int = 0) -> list[list[Any]]:
    """Answers to what fits ask aside, given with the lane of each: on this machine, in some threads.

    Solves on the same rows, of fits with lanes, go together as their sweeps do, and all else on the same rows
    is answered in one walk over them.
    """
    answers: list[list[Any]] = [[None] * len(asks) for _, asks in asked]
    groups: dict[Any, list[tuple[int, int]]] = {}
    for i, (lane, asks) in enumerate(asked):
        for j, ask in enumerate(asks):
            assert isinstance(ask.query, Aside)
            rows = ask.query.rows
            key: Any = (rows.dtype, *map(id, (rows.X, rows.y, rows.sample_weight)))
            if isinstance(ask.query, Solve):
                key = (i, j) if lane is None else (j, lane // LANES, *key)
            groups.setdefault(key, []).append((i, j))

    def work(places: list[tuple[int, int]]) -> None:
        queries: list[Any] = [asked[i][1][j].query for i, j in places]
        if isinstance(queries[0], Solve):
            found = solve(queries, [asked[i][0] for i, _ in places], each)
        else:
            found = here(queries, [asked[i][0] for i, _ in places], each)
        for (i, j), answer in zip(places, found, strict=True):
            answers[i][j] = answer

    threads = threads or cores()
    each, threads = max(threads // len(groups), 1), min(threads, len(groups))
    if threads == 1:
        for places in groups.values():
            work(places)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, groups.values()))
    return answers


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_memory(steps: Steps) -> Any:
    """Run a generator that asks for nothing of the data; what it returns."""
    answers: list[Any] | None = None
    try:
        while True:
            queries = steps.send(answers)  # type: ignore[arg-type]
            (answers,) = aside([(None, [Ask(None, query) for query in queries])])
    except StopIteration as end:
        return end.value


def solve(asked: Sequence[Solve], lanes: Sequence[int | None] = (None,), threads: int = 1) -> list[Solved]:
    """Answer Solves on the same rows: whole fits in memory, by the same solvers and the same loop."""
    rows = asked[0].rows
    journals = [Journal() for _ in asked]

    def fit(one: Solve, journal: Journal) -> Fit:
        labels = one.problem.labels is not None
        rides = one.solver.rides(Shape(len(rows), rows.X.shape[1], rows.X.dtype.itemsize, labels))
        found = (yield [Ask(None, query) for query in rides]) if rides else []
        yield from loop(
            one.solver, one.problem, one.w, Stop(one.tol, one.max_iter), journal=journal, found=found
        )

    fits = [fit(one, journal) for one, journal in zip(asked, journals, strict=True)]
    together(fits, [Meter() for _ in asked], _in_memory(rows, threads), lanes, threads)
    out = []
    for journal in journals:
        best = journal.best
        assert best is not None
        last = journal.state if np.isfinite(journal.state.f) else best
        state = last if last.gap < np.inf and last.f <= best.f * (1 + 1e-12) else best
        out.append(Solved(state.point, state.f, state.g, state.gap, journal.first))
    return out


def here(asked: Sequence[Here], lanes: Sequence[int | None], threads: int = 1) -> list[Any]:
    """Answer tile queries from the same rows in one walk over them, Hessians of fits with lanes by one query
    (:class:`~daskgd.queries.Hessians`), in which none depends on the others."""
    rows = asked[0].rows
    alone: list[int] = []
    stacks: list[list[int]] = []
    for at, (one, lane) in enumerate(zip(asked, lanes, strict=True)):
        if lane is None or type(one.query) is not Hessian or not Hessians.suit(one.problem, rows):
            alone.append(at)
            continue
        alike = (s for s in stacks if asked[s[0]].problem.linear.designs_alike(one.problem.linear))
        stack = next(alike, None)
        if stack is None:
            stacks.append(stack := [])
        stack.append(at)
    asks = [Ask(asked[at].problem, asked[at].query) for at in alone]
    for stack in stacks:
        members = [asked[at] for at in stack]
        points = tuple(one.query.w for one in members if isinstance(one.query, Hessian))
        asks.append(Ask(None, Hessians.of(tuple(one.problem for one in members), points, rows)))
    found = _in_memory(rows, threads).sweep(asks)
    answers = dict(zip(alone, found[: len(alone)], strict=True))
    for stack, Hs in zip(stacks, found[len(alone) :], strict=True):
        answers.update(zip(stack, Hs, strict=True))
    return [answers[at] for at in range(len(asked))]


ASIDE_BYTES = 8 << 20
"""Bytes of a block of rows in memory, as they are there: what a thread works on at a time."""


def _in_memory(rows: Rows, threads: int) -> Threaded:
    """An engine over rows at hand."""
    block = max(ASIDE_BYTES // max(rows.X[:1].nbytes, 1), 1)
    return Threaded(_InMemory(rows, Layout(max(len(rows), 1), block, 1)), threads)


@dataclass(frozen=True, slots=True, eq=False)
class _InMemory:
    """A Source over rows at hand."""

    rows: Rows
    layout: Layout

    def read(self, start: int, stop: int) -> Rows:
        return self.rows.part(start, stop)
