"""Running fits: one, or many that share every sweep, on one engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from daskgd.checkpoint import Checkpoint, Identity, Progress, Saver, Snapshot, known_types
from daskgd.datasets import Dataset
from daskgd.engines.base import one_blas_thread
from daskgd.engines.graph import opened
from daskgd.estimators.callbacks import Callbacks, managed
from daskgd.estimators.choosing import SolverChoice, sweeps_of
from daskgd.problems import Problem, Shape
from daskgd.training import Engine, Fit, Journal, Meter, Result
from daskgd.training import together as advance
from daskgd.watch import History


class Fittable(Protocol):
    """What a fit asks of an estimator."""

    engine: Any
    memory: Any
    tol: float

    def _shape(self, dataset: Dataset) -> Shape: ...
    def _choice(self, shape: Shape | None) -> SolverChoice: ...
    def _steps(self, dataset: Dataset, run: Run) -> Fit: ...
    def _finish(self, run: Run) -> None: ...
    def _warn(self) -> None: ...


@dataclass(slots=True)
class Run:
    """One fit in progress: what it has cost, where it is, what it has seen, and attributes to set with it.

    `found` is what its first sweep answered, `start` the parameters and `tol` the tolerance it began with:
    where a fit is resumed, those of the one that goes on.
    """

    estimator: Fittable
    name: str
    tol: float = 0.0
    meter: Meter = field(default_factory=Meter)
    history: History = field(default_factory=History)
    journal: Journal = field(default_factory=Journal)
    found: list[Any] | None = None
    start: Any = None
    progress: Result | None = None
    problem: Problem | None = None
    fitted: dict[str, Any] = field(default_factory=dict)
    excess: float = 0.0
    callbacks: Callbacks | None = None

    def progress_now(self) -> Progress:
        """All that it takes to go on from here in another process."""
        of, meter = self.journal, self.meter
        return Progress(
            self.found,
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
        )

    def resume(self, at: Progress) -> None:
        """Go on from there."""
        self.found, self.start, self.tol = at.found, at.start, at.tol
        self.journal = Journal(at.state, at.iteration, list(at.entries), at.first, at.best)
        for row in at.rows:
            self.history(row)
        self.meter = Meter(self.meter.sweeps + at.sweeps, at.bytes, at.seconds, wire_bytes=at.wire_bytes)


def run_fits(
    estimators: Sequence[Fittable],
    dataset: Dataset,
    given: tuple[Any, Any, Any] = (None, None, None),
    checkpoint: Checkpoint | None = None,
) -> None:
    """Fit on one engine; interrupted, every estimator keeps the best it had.

    `given` are X, y and weights as users passed them: callbacks see those. With a `checkpoint` the fits go on
    where the one that it holds ended.
    """
    managed(estimators, lambda: _run_fits(estimators, dataset, given, checkpoint))
    for estimator in estimators:
        estimator._warn()


def _run_fits(
    estimators: Sequence[Fittable],
    dataset: Dataset,
    given: tuple[Any, Any, Any],
    checkpoint: Checkpoint | None,
) -> None:
    several = len(estimators) > 1
    runs = [
        Run(e, f"{type(e).__name__}-{i}" if several else type(e).__name__, float(e.tol))
        for i, e in enumerate(estimators)
    ]
    shape = estimators[0]._shape(dataset)
    solvers = [e._choice(e._shape(dataset)).solver for e in estimators]
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
    once = all(sweeps_of(solver, shape) == "1" for solver in solvers)
    memory = 0 if once else estimators[0].memory  # what is read once is not worth keeping
    bulk = max(sum(query.bulk for query in solver.rides(shape)) for solver in solvers)
    try:
        # One BLAS thread for the solvers' own algebra too: the bits must not depend on the machine's.
        with (
            opened(dataset, estimators[0].engine, whole_partitions=whole, bulk=bulk, memory=memory) as (
                engine,
                placed,
            ),
            one_blas_thread(),
        ):
            if snapshot is not None:
                engine.memory = snapshot.memory
            fits, meters = [run.estimator._steps(placed, run) for run in runs], [run.meter for run in runs]
            advance(fits, meters, engine, after=None if saver is None else lambda: _save(saver, runs, engine))
        if saver is not None:
            saver.flush()
    except BaseException:
        if saver is not None:
            saver.flush()
        for run in runs:
            if run.progress is not None and run.progress.n_iter:
                run.estimator._finish(run)
        raise
    for run in runs:
        run.estimator._finish(run)
    for run in runs:
        if run.callbacks is not None:
            run.callbacks.finish()


def _save(saver: Saver, runs: Sequence[Run], engine: Engine) -> None:
    saver.take(Snapshot([run.progress_now() for run in runs], dict(engine.memory)))
