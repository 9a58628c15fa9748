"""The values of one fit: what goes in, what it carries from sweep to sweep, what comes out.

An estimator prepares a fit from the answers of the first sweep, and sets its attributes from the outcome;
what happens in between is in :mod:`daskgd.estimators.fitting.run`. The file knows problems, solvers and
checkpoints; it must not know engines, data sets or any estimator but by the protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from numpy.typing import NDArray

from daskgd.data.dataset import Dataset
from daskgd.estimators.fitting.solver_choice import SolverChoice
from daskgd.monitoring.events import Watcher
from daskgd.monitoring.history import History
from daskgd.preprocessing.encoded import EncodedView
from daskgd.problems import Problem
from daskgd.queries import Survey
from daskgd.queries.recession import RecessionAnswer
from daskgd.rows.layout import Shape
from daskgd.rows.subsets import Subset
from daskgd.training.checkpoint import Progress
from daskgd.training.journal import Journal
from daskgd.training.loop import Meter, Result, Stop

Array = NDArray[Any]


class Fittable(Protocol):
    """What a fit asks of an estimator."""

    engine: Any
    memory: Any
    max_iter: int | None
    tol: float
    verbose: int
    _separating: Any
    _subset: Subset | None
    _has_one_minimum: bool

    def _shape(self, dataset: Dataset) -> Shape: ...
    def _choice(self, shape: Shape | None) -> SolverChoice: ...
    def _survey(self) -> Survey: ...
    def _most_iterations(self) -> int: ...
    def _prepare(
        self,
        dataset: Dataset,
        choice: SolverChoice,
        answers: Sequence[Any],
        initial: Array | None,
        tol: float,
    ) -> PreparedFit: ...
    def _finish(self, outcome: FitOutcome) -> None: ...
    def _warn(self) -> None: ...


@dataclass(frozen=True, slots=True)
class FitInput:
    """What goes into a fit.

    Attributes
    ----------
    estimator : Fittable
    name : str
        Of the fit, among those that share its sweeps.
    choice : SolverChoice
    rows : Dataset
        What it is fitted to.
    view : EncodedView or None
        What makes these rows of those that the sweeps read; None where they are the same.
    watchers : tuple of Watcher
    """

    estimator: Fittable
    name: str
    choice: SolverChoice
    rows: Dataset
    view: EncodedView | None = None
    watchers: tuple[Watcher, ...] = ()


@dataclass(frozen=True, slots=True)
class PreparedFit:
    """What an estimator makes of the answers of the first sweep: a problem, and how it is to be solved.

    Attributes
    ----------
    choice : SolverChoice
        The solver; another one than before where that cannot solve the problem.
    problem : Problem
    initial : (d,)
        The parameters that the estimator begins with: those of a checkpoint, where a fit is resumed.
    start : (d,)
        The parameters that the solver begins with.
    first_sweep_answers : sequence
        The answers to the solver's `first_sweep_queries`.
    stop : Stop
        When to stop.
    attributes : dict
        Attributes of the fitted estimator that are known before it is fitted.
    smoothing_error : float
        What smoothing a loss with kinks adds to the objective at most, relative to it.
    state : State or None
        Of the solver, to go on from instead of its own start.
    """

    choice: SolverChoice
    problem: Problem
    initial: Array
    start: Array
    first_sweep_answers: Sequence[Any]
    stop: Stop
    attributes: dict[str, Any]
    smoothing_error: float = 0.0
    state: Any = None


@dataclass(slots=True)
class FitProgress:
    """What a fit carries from sweep to sweep: what a checkpoint holds of it.

    Attributes
    ----------
    tol : float
        The tolerance that the fit began with; where it is resumed, perhaps not the estimator's.
    first_sweep_answers : list or None
        The answers to the survey and to the solver's `first_sweep_queries`; None before the first sweep.
    initial : (d,) or None
        The parameters that the estimator began with; None before the first sweep.
    journal : Journal
        The last State and the answers since.
    history : History
        A row for each iteration.
    meter : Meter
        Sweeps, bytes and seconds so far.
    separation : (str, RecessionAnswer) or None
        The digest of the query about directions without a minimum, and its answer; None before it is asked.
    """

    tol: float
    first_sweep_answers: list[Any] | None = None
    initial: Array | None = None
    journal: Journal = field(default_factory=Journal)
    history: History = field(default_factory=History)
    meter: Meter = field(default_factory=Meter)
    separation: tuple[str, RecessionAnswer] | None = None

    def to_checkpoint(self, watchers: Sequence[Watcher]) -> Progress:
        """All that it takes to go on from here in another process, with what the watchers remember."""
        journal, meter = self.journal, self.meter
        return Progress(
            self.first_sweep_answers,
            self.initial,
            self.tol,
            journal.state,
            journal.iteration,
            list(journal.entries),
            journal.first,
            journal.best,
            [dict(row) for row in self.history],
            meter.sweeps,
            meter.bytes,
            meter.seconds,
            meter.wire_bytes,
            [getattr(watcher, "memory", None) for watcher in watchers],
            self.separation,
        )

    @classmethod
    def from_checkpoint(
        cls, saved: Progress, watchers: Sequence[Watcher], extra_sweeps: float
    ) -> FitProgress:
        """The progress of a fit that is resumed; its watchers remember what they did.

        `extra_sweeps` are reads of the data that this process has done before the fit.
        """
        for watcher, memory in zip(watchers, saved.watchers, strict=False):
            if memory is not None and hasattr(watcher, "memory"):
                watcher.memory = memory
        history = History()
        for row in saved.rows:
            history(row)
        return cls(
            saved.tol,
            saved.first_sweep_answers,
            saved.start,
            Journal(saved.state, saved.iteration, list(saved.entries), saved.first, saved.best),
            history,
            Meter(extra_sweeps + saved.sweeps, saved.bytes, saved.seconds, wire_bytes=saved.wire_bytes),
            saved.separation,
        )


@dataclass(frozen=True, slots=True)
class FitOutcome:
    """What comes out of a fit: at its end, or as if it had ended now.

    Attributes
    ----------
    problem : Problem
    result : Result
        Parameters, gap, number of iterations, and how the fit ended.
    n_sweeps : float
    history : History
    attributes : dict
        Attributes of the fitted estimator that its preparation knew.
    smoothing_error : float
        What smoothing the loss adds to the objective at most, relative to it.
    plateaued : bool
        Whether a watcher stopped the fit as its loss did not fall any more.
    state : State or None
        Where the solver stood; the parameters of `result` may be of an earlier iteration.
    """

    problem: Problem
    result: Result
    n_sweeps: float
    history: History
    attributes: dict[str, Any]
    smoothing_error: float
    plateaued: bool
    state: Any = None
