"""Many fits advance in step: one sweep answers what all of them ask next.

Questions that are equal are asked once, gradients of many fits as one product with X. What a solver asks of
rows in memory (:class:`~daskgd.solvers.base.LocalQuery`) is answered in threads of this process. This file
knows fits as generators and an engine as whatever answers asks; it must not know dask, data sets, estimators
or checkpoints.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.base import Engine
from daskgd.engines.serial import Threaded
from daskgd.problems import Problem
from daskgd.queries import LANES, Ask, Gradient, Gradients, Hessian, Hessians
from daskgd.rows.features import Dense
from daskgd.rows.layout import Layout, Shape
from daskgd.rows.tiles import Rows
from daskgd.rows.views import View
from daskgd.solvers.base import (
    ComputeInMemory,
    EvaluateInMemory,
    LocalQuery,
    Solution,
    SolveInMemory,
    Steps,
)
from daskgd.training.interrupts import hearing_interrupts
from daskgd.training.journal import Journal
from daskgd.training.loop import Fit, Meter, Stop, loop

Array = NDArray[Any]


@dataclass(slots=True)
class _Member:
    """One of the fits that advance together, and what it asks next: None once it is done."""

    fit: Fit
    meter: Meter
    lane: int | None
    view: View | None = None
    asks: list[Ask] | None = None
    result: Any = None
    may_fail: bool = False

    def advance(self, answers: list[Any] | None) -> None:
        """Give the fit its answers, and take what it asks next; what it returns where it is done. An error
        of a fit that may fail is what it returns."""
        try:
            self.asks = self.fit.send(answers)  # type: ignore[arg-type]
            while not self.asks:
                self.asks = self.fit.send([])
        except StopIteration as end:
            self.asks, self.result = None, end.value
        except Exception as error:
            if not self.may_fail:
                raise
            self.asks, self.result = None, error


def together(
    fits: Sequence[Fit],
    meters: Sequence[Meter],
    engine: Engine,
    lanes: Sequence[int | None] | None = None,
    threads: int = 0,
    after: Callable[[], None] | None = None,
    may_fail: bool = False,
    views: Sequence[View | None] | None = None,
) -> list[Any]:
    """Advance all fits in step, one sweep answering what each of them asks next; their return values.

    Equal questions about the data alone (surveys) are asked once, gradients as one product with X, in which
    each fit has a lane of its own (:class:`~daskgd.queries.Gradients`): by default its position, and none
    where there is but one fit. Of `views` each fit has what it sees of the rows; those that see the same have
    equal ones, and lanes are numbered anew in each. Local queries are answered in `threads`, by default one
    for each core. A fit that fails ends the others, unless they `may_fail`: the error is then what it
    returns. Ctrl-C ends all at the next sweep at the latest. `after` is called when all fits have taken in
    the answers of a sweep: they are then at one point, from which all of them can be resumed.
    """
    views = [None] * len(fits) if views is None else views
    lanes = lanes_by_view(views) if lanes is None else lanes
    members = [_Member(*each, may_fail=may_fail) for each in zip(fits, meters, lanes, views, strict=True)]
    try:
        # Stop rules judge what is not finite.
        with np.errstate(over="ignore", invalid="ignore"), hearing_interrupts() as check_interrupt:
            for member in members:
                member.advance(None)
            while waiting := [(member, member.asks) for member in members if member.asks]:
                check_interrupt()
                local = [(m, asks) for m, asks in waiting if isinstance(asks[0].query, LocalQuery)]
                if local:
                    found = answer_local_queries([(m.lane, asks) for m, asks in local], threads)
                    for (member, _), answers in zip(local, found, strict=True):
                        member.advance(answers)
                    continue
                batch = AskBatch()
                handles = [[batch.add(ask, m.lane, m.view) for ask in asks] for m, asks in waiting]
                batch.sweep(engine)
                for (member, _), mine in zip(waiting, handles, strict=True):
                    member.meter.count(engine)
                    member.advance([batch.answer(handle) for handle in mine])
                if after is not None:
                    after()
    finally:
        for fit in fits:
            fit.close()
    return [member.result for member in members]


def lanes_by_view(views: Sequence[View | None]) -> list[int | None]:
    """The lane of each fit among those that see the same view; None of one that is alone in that.

    >>> lanes_by_view([None, None]), lanes_by_view([None])
    ([0, 1], [None])
    """
    sizes, seen = Counter(views), Counter[View | None]()
    lanes: list[int | None] = []
    for view in views:
        lanes.append(seen[view] if sizes[view] > 1 else None)
        seen[view] += 1
    return lanes


StackKey = tuple[View | None, int, bool, type, int]
"""What the gradients of a stack share: the view, the group of lanes, whether they need float64, the type of
the query, and how many gradients of the same fit came before."""


@dataclass(frozen=True, slots=True)
class Handle:
    """Where the answer to one ask lies: the `position` among the single asks, or in a stack of gradients."""

    position: int
    stack: StackKey | None = None


class AskBatch:
    """All that many fits ask in one sweep: each adds its asks, and finds the answers by handles.

    Asks about the data alone are asked once for all fits that have the same. Gradients of fits with lanes go
    into stacks, each of which is one :class:`~daskgd.queries.Gradients`.
    """

    def __init__(self) -> None:
        self._singles: list[Ask] = []
        self._stacks: dict[StackKey, dict[int, tuple[Problem, Gradient]]] = {}
        self._answers: dict[StackKey | None, Sequence[Any]] = {}

    def add(self, ask: Ask, lane: int | None, view: View | None = None) -> Handle:
        """Take in one ask of a fit with a lane, or without one, that sees a view of the rows."""
        if lane is not None and isinstance(ask.query, Gradient) and ask.problem.model.one_column:
            return self._add_to_stack(ask.problem, ask.query, lane, view)
        ask = ask._replace(view=view)
        if ask.problem is None and ask in self._singles:
            return Handle(self._singles.index(ask))
        self._singles.append(ask)
        return Handle(len(self._singles) - 1)

    def _add_to_stack(self, problem: Problem, query: Gradient, lane: int, view: View | None) -> Handle:
        """Give a gradient its lane in a stack; a fit that asks for several has one in as many stacks."""
        for nth in count():
            key = view, lane // LANES, problem.linear.needs_float64, type(query), nth
            stack = self._stacks.setdefault(key, {})
            if lane % LANES not in stack:
                break
        stack[lane % LANES] = problem, query
        return Handle(len(stack) - 1, key)

    def sweep(self, engine: Engine) -> None:
        """Ask all of it in one sweep of the engine: the single asks first, then the stacks."""
        stacks = [Ask(None, Gradients.of(stack), view=key[0]) for key, stack in self._stacks.items()]
        answers = engine.sweep(self._singles + stacks)
        n = len(self._singles)
        self._answers = {None: answers[:n], **dict(zip(self._stacks, answers[n:], strict=True))}

    def answer(self, handle: Handle) -> Any:
        """The answer to an ask that was added, once the sweep is done."""
        return self._answers[handle.stack][handle.position]


def answer_local_queries(
    asked: Sequence[tuple[int | None, Sequence[Ask]]], threads: int = 0
) -> list[list[Any]]:
    """Answer the local queries of fits, each given with its lane, on this machine in some threads.

    Solves on the same rows, of fits with lanes, go together as their sweeps do; all other queries on the same
    rows are answered in one walk over them.
    """
    answers: list[list[Any]] = [[None] * len(asks) for _, asks in asked]
    groups: dict[Any, list[tuple[int, int]]] = {}
    for i, (lane, asks) in enumerate(asked):
        for j, ask in enumerate(asks):
            assert isinstance(ask.query, LocalQuery)
            rows = ask.query.rows
            key: Any = (rows.dtype, *map(id, (*rows.X.arrays, rows.y, rows.sample_weight)))
            if isinstance(ask.query, SolveInMemory):
                key = (i, j) if lane is None else (j, lane // LANES, *key)
            elif isinstance(ask.query, ComputeInMemory):
                key = (i, j)
            groups.setdefault(key, []).append((i, j))

    def work(places: list[tuple[int, int]]) -> None:
        queries: list[Any] = [asked[i][1][j].query for i, j in places]
        if isinstance(queries[0], SolveInMemory):
            found = solve_in_memory(queries, [asked[i][0] for i, _ in places], each)
        elif isinstance(queries[0], ComputeInMemory):
            found = [query.compute(each) for query in queries]
        else:
            found = evaluate_in_memory(queries, [asked[i][0] for i, _ in places], each)
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


def run_in_memory(steps: Steps) -> Any:
    """Run a generator all of whose queries are local: its return value."""
    answers: list[Any] | None = None
    try:
        while True:
            queries = steps.send(answers)  # type: ignore[arg-type]
            (answers,) = answer_local_queries([(None, [Ask(None, query) for query in queries])])
    except StopIteration as end:
        return end.value


def solve_in_memory(
    asked: Sequence[SolveInMemory], lanes: Sequence[int | None] = (None,), threads: int = 1
) -> list[Solution]:
    """Solve problems on the same rows: whole fits in memory, by the same solvers and the same loop."""
    rows = asked[0].rows
    row_bytes = None if isinstance(rows.X, Dense) else max(rows.X.nbytes / max(len(rows), 1), 1)
    journals = [Journal(recorded=False) for _ in asked]

    def fit(one: SolveInMemory, journal: Journal) -> Fit:
        labels = one.problem.labels is not None
        first_sweep_queries = one.solver.first_sweep_queries(
            Shape(len(rows), rows.X.shape[1], rows.X.dtype.itemsize, labels, sparse_row_bytes=row_bytes)
        )
        answers = (yield [Ask(None, query) for query in first_sweep_queries]) if first_sweep_queries else []
        yield from loop(
            one.solver,
            one.problem,
            one.w,
            Stop(one.tol, one.max_iter),
            journal=journal,
            first_sweep_answers=answers,
        )

    fits = [fit(one, journal) for one, journal in zip(asked, journals, strict=True)]
    model = asked[0].problem.linear if asked[0].problem.model.linear else None
    alike = model is not None and all(model.same_design(one.problem.linear) for one in asked)
    keeps_tiles = alike and 8 * len(rows) * (rows.X.shape[1] + 1) <= KEPT_BYTES
    engine = _engine_of(rows, threads, keeps_tiles)
    together(fits, [Meter() for _ in asked], engine, lanes, threads)
    out = []
    for journal in journals:
        best = journal.best
        assert best is not None
        last = journal.state if np.isfinite(journal.state.f) else best
        state = last if last.gap < np.inf and last.f <= best.f * (1 + 1e-12) else best
        out.append(Solution(state.w, state.f, state.g, state.gap, journal.first))
    return out


def evaluate_in_memory(
    asked: Sequence[EvaluateInMemory], lanes: Sequence[int | None], threads: int = 1
) -> list[Any]:
    """Answer tile queries about the same rows in one walk over them.

    Hessians of fits with lanes are one query (:class:`~daskgd.queries.Hessians`), in which none depends on
    the others.
    """
    rows = asked[0].rows
    alone: list[int] = []
    stacks: list[list[int]] = []
    for at, (one, lane) in enumerate(zip(asked, lanes, strict=True)):
        if lane is None or type(one.query) is not Hessian or not Hessians.suit(one.problem, rows):
            alone.append(at)
            continue
        same = (s for s in stacks if asked[s[0]].problem.linear.same_design(one.problem.linear))
        stack = next(same, None)
        if stack is None:
            stacks.append(stack := [])
        stack.append(at)
    asks = [Ask(asked[at].problem, asked[at].query) for at in alone]
    for stack in stacks:
        members = [asked[at] for at in stack]
        points = tuple(one.query.w for one in members if isinstance(one.query, Hessian))
        asks.append(Ask(None, Hessians.of(tuple(one.problem for one in members), points, rows)))
    found = _engine_of(rows, threads).sweep(asks)
    answers = dict(zip(alone, found[: len(alone)], strict=True))
    for stack, Hs in zip(stacks, found[len(alone) :], strict=True):
        answers.update(zip(stack, Hs, strict=True))
    return [answers[at] for at in range(len(asked))]


LOCAL_BLOCK_BYTES = 8 << 20
"""Bytes of a block of rows in memory: what a thread works on at a time."""


KEPT_BYTES = 64 << 20
"""Bytes of a design matrix up to which it is kept while a problem is solved."""


def _engine_of(rows: Rows, threads: int, keeps_tiles: bool = False) -> Threaded:
    """An engine over rows in memory."""
    block = LOCAL_BLOCK_BYTES * len(rows) // max(rows.X.nbytes, 1)
    block = max(block, rows.X.tile_rows(rows.dtype or rows.X.dtype))
    return Threaded(_RowsInMemory(rows, Layout(max(len(rows), 1), block, 1)), threads, keeps_tiles)


@dataclass(frozen=True, slots=True, eq=False)
class _RowsInMemory:
    """A block source over rows in memory."""

    rows: Rows
    layout: Layout

    def read(self, start: int, stop: int) -> Rows:
        return self.rows.slice(start, stop)
