"""TODO training.together."""

from __future__ import annotations

import os
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
from daskgd.rows.layout import Layout, Shape
from daskgd.rows.tiles import Rows
from daskgd.solvers.base import EvaluateInMemory, LocalQuery, Solution, SolveInMemory, Steps
from daskgd.training.journal import Journal
from daskgd.training.loop import Fit, Meter, Stop, loop

Array = NDArray[Any]


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
                local = {i: asks for i, asks in pending.items() if isinstance(asks[0].query, LocalQuery)}
                if local:
                    found = answer_local_queries([(lanes[i], asks) for i, asks in local.items()], threads)
                    for i, answers in zip(local, found, strict=True):
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
            key = lane // LANES, ask.problem.linear.needs_float64, type(ask.query), nth
            stack = self.stacks.setdefault(key, {})
            if lane % LANES not in stack:
                break
        at = len(stack)
        stack[lane % LANES] = ask.problem, ask.query
        return lambda answers: answers[len(self.distinct) + list(self.stacks).index(key)][at]


def answer_local_queries(
    asked: Sequence[tuple[int | None, Sequence[Ask]]], threads: int = 0
) -> list[list[Any]]:
    """Answers to what fits ask aside, given with the lane of each: on this machine, in some threads.

    Solves on the same rows, of fits with lanes, go together as their sweeps do, and all else on the same rows
    is answered in one walk over them.
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
            groups.setdefault(key, []).append((i, j))

    def work(places: list[tuple[int, int]]) -> None:
        queries: list[Any] = [asked[i][1][j].query for i, j in places]
        if isinstance(queries[0], SolveInMemory):
            found = solve_in_memory(queries, [asked[i][0] for i, _ in places], each)
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
    """Run a generator that asks for nothing of the data; what it returns."""
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
    """Answer Solves on the same rows: whole fits in memory, by the same solvers and the same loop."""
    rows = asked[0].rows
    journals = [Journal() for _ in asked]

    def fit(one: SolveInMemory, journal: Journal) -> Fit:
        labels = one.problem.labels is not None
        first_sweep_queries = one.solver.first_sweep_queries(
            Shape(len(rows), rows.X.shape[1], rows.X.dtype.itemsize, labels)
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
    together(fits, [Meter() for _ in asked], _engine_of(rows, threads), lanes, threads)
    out = []
    for journal in journals:
        best = journal.best
        assert best is not None
        last = journal.state if np.isfinite(journal.state.f) else best
        state = last if last.gap < np.inf and last.f <= best.f * (1 + 1e-12) else best
        out.append(Solution(state.point, state.f, state.g, state.gap, journal.first))
    return out


def evaluate_in_memory(
    asked: Sequence[EvaluateInMemory], lanes: Sequence[int | None], threads: int = 1
) -> list[Any]:
    """Answer tile queries from the same rows in one walk over them, Hessians of fits with lanes by one query
    (:class:`~daskgd.queries.Hessians`), in which none depends on the others."""
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
"""Bytes of a block of rows in memory, as they are there: what a thread works on at a time."""


def _engine_of(rows: Rows, threads: int) -> Threaded:
    """An engine over rows at hand."""
    block = max(LOCAL_BLOCK_BYTES // max(rows.X.slice(0, 1).nbytes, 1), 1)
    return Threaded(_RowsAtHand(rows, Layout(max(len(rows), 1), block, 1)), threads)


@dataclass(frozen=True, slots=True, eq=False)
class _RowsAtHand:
    """A Source over rows at hand."""

    rows: Rows
    layout: Layout

    def read(self, start: int, stop: int) -> Rows:
        return self.rows.slice(start, stop)
