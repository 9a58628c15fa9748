"""Running fits: one, or many that share every sweep, on one engine."""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from daskgd.data.dataset import Dataset
from daskgd.engines.base import Engine, one_blas_thread
from daskgd.engines.cluster import ClusterLost
from daskgd.engines.select import open_engine
from daskgd.estimators.fitting.callbacks import Callbacks, run_with_callbacks
from daskgd.estimators.fitting.solver_choice import SolverChoice
from daskgd.monitoring.events import Began, Ended, Event, Iterated, Sweeping, Swept, Watcher
from daskgd.monitoring.history import History
from daskgd.monitoring.reporter import report_to_dashboard
from daskgd.monitoring.watchers import Lines, ProgressBar
from daskgd.problems import Problem
from daskgd.rows.layout import Shape
from daskgd.training.checkpoint import Checkpoint, Identity, Progress, Saver, Snapshot, known_types
from daskgd.training.journal import Journal
from daskgd.training.loop import Fit, Meter, Result
from daskgd.training.together import together as advance


class Fittable(Protocol):
    """What a fit asks of an estimator."""

    engine: Any
    memory: Any
    tol: float
    verbose: int

    def _shape(self, dataset: Dataset) -> Shape: ...
    def _choice(self, shape: Shape | None) -> SolverChoice: ...
    def _steps(self, dataset: Dataset, run: Run) -> Fit: ...
    def _finish(self, run: Run) -> None: ...
    def _warn(self) -> None: ...


@dataclass(slots=True)
class Run:
    """One fit in progress: what it has cost, where it is, what it has seen, and attributes to set with it.

    `first_sweep_answers` is what its first sweep answered, `start` the parameters and `tol` the tolerance it began with:
    where a fit is resumed, those of the one that goes on.
    """

    estimator: Fittable
    name: str
    tol: float = 0.0
    meter: Meter = field(default_factory=Meter)
    history: History = field(default_factory=History)
    journal: Journal = field(default_factory=Journal)
    first_sweep_answers: list[Any] | None = None
    start: Any = None
    progress: Result | None = None
    problem: Problem | None = None
    fitted: dict[str, Any] = field(default_factory=dict)
    excess: float = 0.0
    callbacks: Callbacks | None = None
    watchers: list[Watcher] = field(default_factory=list)
    stop: Iterated | bool = False

    def tell(self, event: Event) -> Iterated | bool:
        """Show an event to all watchers; whether one of them wants the fit to stop, and where."""
        answers = [watcher(event) for watcher in self.watchers]
        return next((answer for answer in answers if answer), False)

    def model(self) -> Any:
        """A fitted copy of the estimator, as if the fit had stopped now."""
        twin = copy.copy(self.estimator)
        twin._finish(self)
        return twin

    def restore_at(self, at: Iterated | bool) -> None:
        """Take the model as it was then, if it is said when."""
        if isinstance(at, Iterated) and self.progress is not None:
            self.progress.w, self.progress.gap = at.w, at.row["gap"]
            self.progress.n_iter = at.row["iteration"]

    def progress_now(self) -> Progress:
        """All that it takes to go on from here in another process."""
        of, meter = self.journal, self.meter
        return Progress(
            self.first_sweep_answers,
            self.start,
            self.tol,
            of.state,
            of.iteration,
            list(of.entries),
            of.first,
            of.best,
            [dict(row) for row in self.history],
            meter.sweeps,
            meter.bytes,
            meter.seconds,
            meter.wire_bytes,
            [getattr(watcher, "memory", None) for watcher in self.watchers],
        )

    def resume(self, at: Progress) -> None:
        """Go on from there."""
        self.first_sweep_answers, self.start, self.tol = at.first_sweep_answers, at.start, at.tol
        self.journal = Journal(at.state, at.iteration, list(at.entries), at.first, at.best)
        for row in at.rows:
            self.history(row)
        for watcher, memory in zip(self.watchers, at.watchers, strict=False):
            if memory is not None and hasattr(watcher, "memory"):
                watcher.memory = memory
        self.meter = Meter(self.meter.sweeps + at.sweeps, at.bytes, at.seconds, wire_bytes=at.wire_bytes)


def run_fits(
    estimators: Sequence[Fittable],
    dataset: Dataset,
    given: tuple[Any, Any, Any] = (None, None, None),
    checkpoint: Checkpoint | None = None,
    watch: Sequence[Watcher] = (),
    own: Sequence[Sequence[Watcher]] = (),
) -> None:
    """Fit on one engine; interrupted, every estimator keeps the best it had.

    `given` are X, y and weights as users passed them: callbacks see those. With a `checkpoint` the fits go on
    where the one that it holds ended. The watchers see the events of all fits, and those in `own`,
    a list for each estimator, those of its fit.
    """
    run_with_callbacks(estimators, lambda: _run_fits(estimators, dataset, given, checkpoint, watch, own))
    for estimator in estimators:
        estimator._warn()


def _run_fits(
    estimators: Sequence[Fittable],
    dataset: Dataset,
    given: tuple[Any, Any, Any],
    checkpoint: Checkpoint | None,
    watch: Sequence[Watcher],
    own: Sequence[Sequence[Watcher]],
) -> None:
    several = len(estimators) > 1
    names = [f"{type(e).__name__}-{i}" if several else type(e).__name__ for i, e in enumerate(estimators)]
    bar, lines = ProgressBar(), Lines(sweeps=True)
    spoken: dict[int, list[Watcher]] = {0: [], 1: [bar], 2: [lines]}
    runs = [
        Run(e, name, float(e.tol), watchers=[*mine, *watch, *spoken[int(e.verbose)]])
        for e, name, mine in zip(estimators, names, own or [()] * len(names), strict=True)
    ]
    shape = estimators[0]._shape(dataset)
    choices = [e._choice(e._shape(dataset)) for e in estimators]
    solvers = [choice.solver for choice in choices]
    saver = snapshot = None
    if checkpoint is not None:
        saver = Saver(checkpoint, Identity.of(estimators, dataset.identity()), known_types(solvers))
        snapshot = saver.latest()
    for i, run in enumerate(runs):
        run.meter.sweeps = dataset.extra_sweeps
        if snapshot is not None:
            run.resume(snapshot.fits[i])
        run.callbacks = Callbacks.of(run, given, dataset)
    whole = any(solver.needs_partitions for solver in solvers)
    once = all(solver.expected_sweeps(shape).is_one for solver in solvers)
    memory = 0 if once else estimators[0].memory  # what is read once is not worth keeping
    row_payload_nbytes = max(
        sum(query.row_payload_nbytes for query in solver.first_sweep_queries(shape)) for solver in solvers
    )
    try:
        # One BLAS thread for the solvers' own algebra too: the bits must not depend on the machine's.
        with (
            open_engine(
                dataset,
                estimators[0].engine,
                whole_partitions=whole,
                row_payload_nbytes=row_payload_nbytes,
                memory=memory,
            ) as (
                engine,
                materialised,
            ),
            one_blas_thread(),
            report_to_dashboard(engine, runs, materialised.n_rows, materialised.n_features),
        ):
            if snapshot is not None:
                engine.memory = snapshot.memory
            if hasattr(engine, "on_part"):
                engine.on_part = partial(_sweeping, runs)
            for run, choice in zip(runs, choices, strict=True):
                run.stop = run.tell(_began(run, choice, engine.nbytes))
            advance(
                [run.estimator._steps(materialised, run) for run in runs],
                [run.meter for run in runs],
                engine,
                after=_After(runs, engine, saver),
            )
        dataset.check_unchanged()
    except BaseException as error:
        if saver is not None:
            saver.flush()
        for run in runs:
            if run.progress is not None and run.progress.n_iter:
                run.estimator._finish(run)
            run.tell(Ended(run.name, "interrupted"))
        if saver is not None and isinstance(error, ClusterLost):
            raise error.with_checkpoint(str(saver)) from error.__cause__
        raise
    for run in runs:
        assert run.progress is not None
        run.restore_at(run.tell(Ended(run.name, run.progress.outcome)))
        run.estimator._finish(run)
    if saver is not None:
        saver.flush()
    for run in runs:
        if run.callbacks is not None:
            run.callbacks.finish()


def _began(run: Run, choice: SolverChoice, nbytes: int) -> Began:
    of: Any = run.estimator
    rows = tuple(run.history)
    return Began(run.name, repr(choice.solver), choice.reason, int(of.max_iter), float(of.tol), nbytes, rows)


def _sweeping(runs: Sequence[Run], share: float) -> None:
    for run in runs:
        run.tell(Sweeping(run.name, int(run.meter.sweeps) + 1, share))


class _After:
    """What is done after each sweep: keep what was found, then tell."""

    def __init__(self, runs: Sequence[Run], engine: Engine, saver: Saver | None) -> None:
        self.runs, self.engine, self.saver = runs, engine, saver
        self.sweeps = [run.meter.sweeps for run in runs]
        self.last = time.perf_counter()

    def __call__(self) -> None:
        if self.saver is not None:
            fits = [run.progress_now() for run in self.runs]
            self.saver.offer(Snapshot(fits, dict(self.engine.memory)))
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        for i, run in enumerate(self.runs):
            if run.meter.sweeps > self.sweeps[i]:
                self.sweeps[i] = run.meter.sweeps
                run.tell(Swept(run.name, run.meter.sweeps, seconds, self.engine.nbytes))
