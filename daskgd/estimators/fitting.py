"""Running fits: one, or many that share every sweep, on one engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from daskgd.datasets import Dataset
from daskgd.engines.base import one_blas_thread
from daskgd.engines.graph import opened
from daskgd.estimators.callbacks import Callbacks, managed
from daskgd.estimators.choosing import SolverChoice, sweeps_of
from daskgd.monitor import monitored
from daskgd.problems import Problem, Shape
from daskgd.training import Fit, Meter, Result
from daskgd.training import together as advance
from daskgd.watch import History


class Fittable(Protocol):
    """What a fit asks of an estimator."""

    engine: Any
    memory: Any

    def _shape(self, dataset: Dataset) -> Shape: ...
    def _choice(self, shape: Shape | None) -> SolverChoice: ...
    def _steps(self, dataset: Dataset, run: Run) -> Fit: ...
    def _finish(self, run: Run) -> None: ...
    def _warn(self) -> None: ...


@dataclass(slots=True)
class Run:
    """One fit in progress: what it has cost, where it is, what it has seen, and attributes to set with it."""

    estimator: Fittable
    name: str
    meter: Meter = field(default_factory=Meter)
    history: History = field(default_factory=History)
    progress: Result | None = None
    problem: Problem | None = None
    fitted: dict[str, Any] = field(default_factory=dict)
    excess: float = 0.0
    watchers: list[Any] = field(default_factory=list)
    callbacks: Callbacks | None = None


def run_fits(
    estimators: Sequence[Fittable], dataset: Dataset, given: tuple[Any, Any, Any] = (None, None, None)
) -> None:
    """Fit on one engine; interrupted, every estimator keeps the best it had.

    `given` are X, y and weights as users passed them: callbacks see those.
    """
    managed(estimators, lambda: _run_fits(estimators, dataset, given))
    for estimator in estimators:
        estimator._warn()


def _run_fits(estimators: Sequence[Fittable], dataset: Dataset, given: tuple[Any, Any, Any]) -> None:
    several = len(estimators) > 1
    runs = [
        Run(e, f"{type(e).__name__}-{i}" if several else type(e).__name__) for i, e in enumerate(estimators)
    ]
    for run in runs:
        run.meter.sweeps = dataset.extra_sweeps
        run.callbacks = Callbacks.of(run, given, dataset)
    shape = estimators[0]._shape(dataset)
    solvers = [e._choice(e._shape(dataset)).solver for e in estimators]
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
            monitored(engine, runs, placed.n_rows, placed.n_features),
        ):
            advance([run.estimator._steps(placed, run) for run in runs], [run.meter for run in runs], engine)
    except BaseException:
        for run in runs:
            if run.progress is not None and run.progress.n_iter:
                run.estimator._finish(run)
        raise
    for run in runs:
        run.estimator._finish(run)
    for run in runs:
        if run.callbacks is not None:
            run.callbacks.finish()
