"""Running fits: one, or many that share every sweep, on one engine.

A fit is prepared, executed and concluded; what it costs, where it is and who watches it is kept meanwhile by
a :class:`RunningFit`. The file knows engines, events and checkpoints; it must not know losses, models or the
parameters of any estimator.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from daskgd._compat.blas import one_blas_thread
from daskgd.data.columns import can_fetch
from daskgd.data.dataset import Dataset
from daskgd.engines.base import Engine, PartitionMemory
from daskgd.engines.cluster import ClusterLost
from daskgd.engines.select import open_engine
from daskgd.engines.worker_memory import NO_NUMBERS, Numbers
from daskgd.estimators.fitting.callbacks import Callbacks, Stopped, run_with_callbacks
from daskgd.estimators.fitting.fit import FitInput, FitOutcome, FitProgress, Fittable, PreparedFit
from daskgd.estimators.fitting.plan import n_parameters, numbers_of
from daskgd.estimators.fitting.separation import NONE, AllRows, may_separate, separating_features
from daskgd.estimators.fitting.views import answers_of_subsets, answers_of_view
from daskgd.monitoring.events import Began, Ended, Event, Iterated, Slower, Sweeping, Swept, Watcher
from daskgd.monitoring.reporter import report_to_dashboard
from daskgd.monitoring.watchers import Lines, Plateau, ProgressBar
from daskgd.preprocessing.encoded import EncodedView
from daskgd.queries import Ask, Query
from daskgd.queries.by_cell import ByCell, CellAnswers, sample_of_subset
from daskgd.queries.sample import Sample, SampleAnswer
from daskgd.rows.subsets import Subset
from daskgd.solvers.base import LocalQuery
from daskgd.training.checkpoint import Checkpoint, Identity, Saver, Snapshot, known_types
from daskgd.training.journal import Journal, digest
from daskgd.training.loop import Fit, Result, loop
from daskgd.training.together import together as advance


def run_fits(
    estimators: Sequence[Fittable],
    dataset: Dataset,
    given: tuple[Any, Any, Any] = (None, None, None),
    checkpoint: Checkpoint | None = None,
    watch: Sequence[Watcher] = (),
    own: Sequence[Sequence[Watcher]] = (),
    known: FirstSweepAnswers | None = None,
    may_fail: bool = False,
    names: Sequence[str] | None = None,
    views: Sequence[EncodedView] | None = None,
) -> list[Exception | None]:
    """Fit estimators on one engine, in the same sweeps; interrupted, each keeps the best that it had.

    Parameters
    ----------
    estimators : sequence of Fittable
        They share the engine and the memory budget of the first.
    dataset : Dataset
    given : (X, y, sample_weight)
        As users passed them: callbacks see these.
    checkpoint : Checkpoint, optional
        Where progress is saved; the fits go on from what it holds already.
    watch, own : sequence of Watcher, sequence of sequences of Watcher
        Those that see the events of all fits, and for each fit those that see only its own.
    known : FirstSweepAnswers, optional
        What earlier fits to the same data have asked of it; what these ask is added.
    may_fail : bool
        Whether the others go on where one fails.
    names : sequence of str, optional
        Of the fits; by default their classes, numbered.
    views : sequence of EncodedView, optional
        Of each fit the rows of the dataset that it is fitted to, encoded; fits with the same one share
        products. By default all are fitted to the rows as they are.

    Returns
    -------
    list
        Of each fit the error with which it failed, None for one that did not.
    """
    errors: list[Exception | None] = [None] * len(estimators)

    def work() -> None:
        group = prepare_fits(estimators, dataset, given, checkpoint, watch, own, known, names, views)
        try:
            errors[:] = execute_fits(group, dataset, may_fail)
        except BaseException as error:
            interrupt_fits(group)
            if group.saver is not None and isinstance(error, ClusterLost):
                raise error.with_checkpoint(str(group.saver)) from error.__cause__
            raise
        conclude_fits(group, errors)

    run_with_callbacks(estimators, work)
    for estimator, error in zip(estimators, errors, strict=True):
        if error is None:
            estimator._warn()
    return errors


# -- one fit ------------------------------------------------------------------------------------


class RunningFit:
    """One fit while it runs: it joins an estimator to the loop, and tells watchers what happens.

    Attributes
    ----------
    input : FitInput
    progress : FitProgress
    watchers : list of Watcher
        Those of the input, and any that join later.
    callbacks : Callbacks or None
    prepared : PreparedFit or None
        None before the first sweep has been answered.
    result : Result or None
        Where the fit is; None before the first sweep has been answered.
    separating : (m,)
        The positions of the features in whose direction there is no minimum, as far as one has looked.
    known : FirstSweepAnswers
        Which it may share with other fits.
    """

    def __init__(self, given: FitInput, progress: FitProgress, known: FirstSweepAnswers) -> None:
        self.input, self.progress, self.known = given, progress, known
        self.watchers = list(given.watchers)
        self.callbacks: Callbacks | None = None
        self.prepared: PreparedFit | None = None
        self.result: Result | None = None
        self.separating: Any = NONE

    @property
    def name(self) -> str:
        return self.input.name

    @property
    def estimator(self) -> Fittable:
        return self.input.estimator

    def tell(self, event: Event) -> Iterated | Slower | bool:
        """Show an event to all watchers; whether one of them wants the fit to stop, and where, or slower."""
        return self._strongest([watcher(event) for watcher in self.watchers])

    @staticmethod
    def _strongest(answers: Sequence[bool | Iterated | Slower | None]) -> bool | Iterated | Slower:
        """The first answer that stops the fit, else the first that shortens its steps, else False."""
        given = [answer for answer in answers if answer]
        return next((a for a in given if not isinstance(a, Slower)), given[0] if given else False)

    def begin(self, nbytes: int) -> Iterated | Slower | bool:
        """Tell watchers that the fit begins, on an engine that reads so many bytes a sweep; their answer."""
        choice, estimator, rows = self.input.choice, self.estimator, tuple(self.progress.history)
        solver, max_iter, tol = repr(choice.solver), estimator._most_iterations(), float(estimator.tol or 0)
        return self.tell(Began(self.name, solver, choice.reason, max_iter, tol, nbytes, rows))

    def steps(self, dataset: Dataset, stopped: Iterated | Slower | bool = False) -> Fit:
        """The whole fit as a generator of asks: the first sweep, then the loop unless it is `stopped`."""
        estimator, choice, progress = self.estimator, self.input.choice, self.progress
        if progress.first_sweep_answers is None:
            queries = self.first_sweep_queries(dataset)
            progress.first_sweep_answers = yield from self._first_sweep(queries, dataset)
        prepared = estimator._prepare(
            dataset, choice, progress.first_sweep_answers, progress.initial, progress.tol
        )
        solver, progress.initial = prepared.choice.solver, prepared.initial
        history = progress.history
        history.solver, history.reason, history.regime = repr(solver), prepared.choice.reason, solver.regime
        self.prepared, self.result = prepared, Result(prepared.start)
        if prepared.state is not None and progress.journal.state is None:
            progress.journal.commit(prepared.state, 0)
        iterations = loop(
            solver,
            prepared.problem,
            prepared.start,
            prepared.stop,
            run=self.name,
            meter=progress.meter,
            watch=self._iterated,
            journal=progress.journal,
            progress=self.result,
            first_sweep_answers=prepared.first_sweep_answers,
            subset=estimator._subset,
        )
        try:
            if not stopped or isinstance(stopped, Slower):
                callbacks = self.callbacks
                yield from iterations if callbacks is None else callbacks.around(iterations)
                yield from self._look_for_separation(dataset)
                return self.result
        except Stopped as stop:
            stopped = stop.at or True
        self.restore(stopped)
        self.result.outcome = "stopped"
        return self.result

    def first_sweep_queries(self, dataset: Dataset) -> tuple[Query, ...]:
        """What the fit asks of the data alone, the survey first."""
        estimator = self.estimator
        return estimator._survey(), *self.input.choice.solver.first_sweep_queries(estimator._shape(dataset))

    def expects_one_sweep(self) -> bool:
        """Whether what the data alone determine is known before the fit begins, and one sweep is likely to be
        all that it takes: its rows are then not worth keeping, but at a URL, where reading is what costs."""
        estimator, rows, progress = self.estimator, self.input.rows, self.progress
        survey, shape = rows.survey, estimator._shape(rows)
        if (
            progress.first_sweep_answers is not None
            or estimator._subset is not None
            or can_fetch(rows.columns.X)
        ):
            return False
        for query in self.first_sweep_queries(rows):
            if query not in self.known and not (survey and survey.tells(query, rows.layout.block_rows)):
                return False
        parameters, tol = n_parameters(rows, shape), float(estimator.tol or 0)
        return self.input.choice.solver.expects_one_gradient(shape, parameters, tol)

    def take_from_store(self, fits: Sequence[RunningFit]) -> None:
        """Learn what the data alone determine from the store and the targets, where the rows of the fit are
        some of those that were surveyed, and any scale of the features leads to the same minimum. What is
        learnt of a subset of the rows is that of the subsets of all `fits`."""
        estimator, rows, subset = self.estimator, self.input.rows, self.estimator._subset
        solver, known = self.input.choice.solver, self.progress.first_sweep_answers
        if known is not None or not estimator._has_one_minimum or solver.needs_partitions:
            return
        queries = self.first_sweep_queries(rows)
        if all(_by_cell(query, subset) in self.known for query in queries):
            return
        if subset is None:
            self.known.update(answers_of_view(queries, rows, estimator.engine))
        else:
            others = dict.fromkeys(fit.estimator._subset for fit in fits)
            subsets = [one for one in others if one is not None and one.cells == subset.cells]
            self.known.update(answers_of_subsets(queries, subsets, rows, estimator.engine))

    def _first_sweep(self, queries: Sequence[Query], dataset: Dataset) -> Fit:
        """Ask queries about the data alone, unless their answers are known; of a subset of the rows by its
        cells, so that all subsets share the sums."""
        subset, known = self.estimator._subset, self.known
        asked = [_by_cell(query, subset) for query in queries]
        for query in asked:
            if query not in known and (answer := _at_hand(query, dataset)) is not None and subset is None:
                known[query] = answer
        missing = [query for query in asked if query not in known]
        answers = (yield [Ask(None, query) for query in missing]) if missing else []
        known.update(zip(missing, answers, strict=True))
        return [known.of_subset(query, subset) for query in asked]

    def _iterated(self, row: Any) -> float | None:
        """Record an iteration, and show it to watchers and callbacks; raises Stopped if one wants that.
        By which factor one wants shorter steps."""
        assert self.result is not None
        row = dict(row)
        stop = self.tell(Iterated(self.name, row, self.result.w, self.model))
        self.progress.history(row)
        if self.callbacks is not None:
            self.callbacks(row)
        if isinstance(stop, Slower):
            return stop.factor
        if stop:
            raise Stopped(stop if isinstance(stop, Iterated) else None)
        return None

    def restore(self, at: Iterated | Slower | bool) -> None:
        """Take the parameters of an earlier iteration, where one is given."""
        if isinstance(at, Iterated) and self.result is not None:
            self.result.w, self.result.gap = at.w, at.row["gap"]
            self.result.n_iter = self.progress.journal.iteration  # those that were run

    def outcome(self) -> FitOutcome:
        """What has come of the fit so far."""
        assert self.prepared is not None
        assert self.result is not None
        plateaus = (watcher for watcher in self.watchers if isinstance(watcher, Plateau))
        return FitOutcome(
            self.prepared.problem,
            self.result,
            self.progress.meter.sweeps,
            self.progress.history,
            self.prepared.attributes,
            self.prepared.smoothing_error,
            any(plateau.spent(self.name) for plateau in plateaus),
            self.progress.journal.state,
        )

    def _look_for_separation(self, dataset: Dataset) -> Fit:
        """Find the features in whose direction there is no minimum, once the fit has converged.

        An answer from all rows is kept: a fit that is resumed when it has ended does not ask again.
        """
        fit, result, progress = self.prepared, self.result, self.progress
        assert fit is not None
        assert result is not None
        if result.outcome != "converged" or not may_separate(fit.problem):
            return
        sample = next((a for a in fit.first_sweep_answers if isinstance(a, SampleAnswer)), None)
        if dataset.in_this_process or (sample is not None and sample.complete):
            rows = sample.rows if sample is not None and sample.complete else dataset.rows_at_hand()
            if self.estimator._subset is not None and (sample is None or not sample.complete):
                rows = rows.select(self.estimator._subset.mask(rows.numbers))
            look = separating_features(fit.problem, result.w, rows)
        elif sample is not None:
            assert progress.first_sweep_answers is not None
            assert sample.moments is not None
            survey = progress.first_sweep_answers[0]
            every = AllRows(progress.journal.state.g, survey.X, sample.moments)
            look = separating_features(fit.problem, result.w, sample.rows, every)
        else:
            return
        answers: Any = None
        while True:
            try:
                queries = look.send(answers)
            except StopIteration as end:
                self.separating = end.value
                return
            asked, known = digest(queries), progress.separation
            if known is not None and known[0] == asked:
                answers = [known[1]]
                continue
            problem = replace(fit.problem, subset=self.estimator._subset)
            answers = yield [Ask(problem, query, self.name) for query in queries]
            if not isinstance(queries[0], LocalQuery):
                progress.separation = asked, answers[0]

    def model(self) -> Any:
        """A fitted copy of the estimator, as if the fit had ended now."""
        twin = copy.copy(self.estimator)
        twin._finish(self.outcome())
        vars(twin).pop("_occurring", None)  # it is fitted to all features
        return twin


# -- fits that share sweeps ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FitGroup:
    """Fits that share every sweep, where their progress is saved, and what was saved before.

    Attributes
    ----------
    fits : list of RunningFit
    saver : Saver or None
    partition_memory : PartitionMemory or None
        What partition queries remembered, where the fits are resumed.
    """

    fits: list[RunningFit]
    saver: Saver | None
    partition_memory: PartitionMemory | None

    def snapshot(self, memory: PartitionMemory) -> Snapshot:
        """What a checkpoint is to hold."""
        return Snapshot([fit.progress.to_checkpoint(fit.watchers) for fit in self.fits], dict(memory))


def prepare_fits(
    estimators: Sequence[Fittable],
    dataset: Dataset,
    given: tuple[Any, Any, Any],
    checkpoint: Checkpoint | None,
    watch: Sequence[Watcher],
    own: Sequence[Sequence[Watcher]],
    known: FirstSweepAnswers | None = None,
    names: Sequence[str] | None = None,
    views: Sequence[EncodedView] | None = None,
) -> FitGroup:
    """Choose solvers, gather watchers, and take up what a checkpoint holds; no data is read."""
    several = len(estimators) > 1
    bar, lines = ProgressBar(), Lines(sweeps=True)
    by_verbosity: dict[int, list[Watcher]] = {0: [], 1: [bar], 2: [lines]}
    inputs = []
    seen: Sequence[EncodedView | None] = [None] * len(estimators) if views is None else views
    rows = {view: _seen(view, dataset) for view in dict.fromkeys(seen)}
    for i, (estimator, mine) in enumerate(zip(estimators, own or [()] * len(estimators), strict=True)):
        kind, view = type(estimator).__name__, seen[i]
        choice = estimator._choice(estimator._shape(rows[view]))
        watchers = (*mine, *watch, *by_verbosity[min(int(estimator.verbose), 2)])
        name = names[i] if names is not None else f"{kind}-{i}" if several else kind
        inputs.append(FitInput(estimator, name, choice, rows[view], view, watchers))
    saver = snapshot = None
    if checkpoint is not None:
        types = known_types([one.choice.solver for one in inputs])
        identity = Identity.of(estimators, dataset.identity())
        for settings, one in zip(identity.estimators, inputs, strict=True):
            settings |= {} if one.view is None else one.view.identity()
        saver = Saver(checkpoint, identity, types)
        snapshot = saver.latest()
    fits = []
    answers = {view: FirstSweepAnswers() if known is None else known for view in rows}
    for i, one in enumerate(inputs):
        if snapshot is None:
            progress = FitProgress(float(one.estimator.tol or 0), journal=Journal(recorded=saver is not None))
            progress.meter.sweeps = dataset.extra_sweeps
        else:
            progress = FitProgress.from_checkpoint(snapshot.fits[i], one.watchers, dataset.extra_sweeps)
        fit = RunningFit(one, progress, answers[one.view])
        fit.callbacks = Callbacks.of(one.estimator, given, one.rows, fit.model)
        fits.append(fit)
    return FitGroup(fits, saver, None if snapshot is None else snapshot.memory)


def execute_fits(group: FitGroup, dataset: Dataset, may_fail: bool = False) -> list[Exception | None]:
    """Open an engine, and advance all fits on it until each of them is done; the errors of those that failed,
    where they may."""
    fits = group.fits
    first = fits[0].estimator
    solvers = [fit.input.choice.solver for fit in fits]
    demand = _Demand.of(fits)
    for fit in fits:
        fit.take_from_store(fits)
    engine_and_rows = open_engine(
        dataset,
        first.engine,
        whole_partitions=any(solver.needs_partitions for solver in solvers),
        row_payload_nbytes=demand.row_payload_nbytes,
        numbers=demand.numbers,
        memory=0 if demand.once else first.memory,  # what is read once is not worth keeping
        streamed_sweeps=int(all(fit.expects_one_sweep() for fit in fits)),
        view_row_bytes=max(0 if fit.input.view is None else fit.input.view.row_bytes for fit in fits),
    )
    # One BLAS thread for the solvers' own algebra too: the bits must not depend on the machine's.
    with (
        engine_and_rows as (engine, materialised),
        one_blas_thread(),
        report_to_dashboard(engine, fits, materialised.n_rows, materialised.n_features),
    ):
        rows = {fit.input.view: fit.input.rows for fit in fits}
        if materialised is not dataset:
            rows = {view: _seen(view, materialised) for view in rows}
        if group.partition_memory is not None:
            engine.memory = group.partition_memory
        if hasattr(engine, "on_part"):
            engine.on_part = partial(_tell_sweeping, fits)
        results = advance(
            [fit.steps(rows[fit.input.view], fit.begin(engine.nbytes)) for fit in fits],
            [fit.progress.meter for fit in fits],
            engine,
            after=_AfterSweep(group, engine),
            may_fail=may_fail,
            views=[fit.input.view for fit in fits],
        )
    dataset.check_unchanged()
    return [result if isinstance(result, Exception) else None for result in results]


def _seen(view: EncodedView | None, dataset: Dataset) -> Dataset:
    return dataset if view is None else view.dataset(dataset)


@dataclass(frozen=True, slots=True)
class _Demand:
    """What fits ask of an engine, of all views that they see together.

    Attributes
    ----------
    once : bool
        Whether all of them take one sweep, whatever the data are.
    row_payload_nbytes : int
        Bytes of the rows that a sweep returns.
    numbers : Numbers
        Of parameters and sums.
    """

    once: bool
    row_payload_nbytes: int
    numbers: Numbers

    @classmethod
    def of(cls, fits: Sequence[RunningFit]) -> _Demand:
        by_view: dict[EncodedView | None, list[RunningFit]] = {}
        for fit in fits:
            by_view.setdefault(fit.input.view, []).append(fit)
        once, payload, numbers = True, 0, NO_NUMBERS
        for group in by_view.values():
            first, rows = group[0].estimator, group[0].input.rows
            shape, solvers = first._shape(rows), [fit.input.choice.solver for fit in group]
            n_cells = 1 if first._subset is None else first._subset.cells.n_cells
            once = once and all(solver.expected_sweeps(shape).is_one for solver in solvers)
            payload += max(
                sum(query.row_payload_nbytes for query in solver.first_sweep_queries(shape))
                for solver in solvers
            )
            numbers += numbers_of(solvers, shape, rows, n_cells)
        return cls(once, payload, numbers)


def interrupt_fits(group: FitGroup) -> None:
    """Save what is not saved yet, and set the attributes of estimators that have been iterated on."""
    if group.saver is not None:
        group.saver.flush()
    for fit in group.fits:
        if fit.result is not None and fit.result.n_iter:
            fit.estimator._finish(fit.outcome())
        fit.tell(Ended(fit.name, "interrupted"))


def conclude_fits(group: FitGroup, errors: Sequence[Exception | None]) -> None:
    """Tell watchers how each fit ended, set the attributes of the estimators, and save the end."""
    for fit, error in zip(group.fits, errors, strict=True):
        if error is not None:
            fit.tell(Ended(fit.name, "failed"))
            continue
        assert fit.result is not None
        fit.restore(fit.tell(Ended(fit.name, fit.result.outcome)))
        fit.estimator._finish(fit.outcome())
        fit.estimator._separating = fit.separating
    if group.saver is not None:
        group.saver.flush()
    for fit in group.fits:
        if fit.callbacks is not None:
            fit.callbacks.finish()


def _tell_sweeping(fits: Sequence[RunningFit], share: float) -> None:
    """Tell the watchers of all fits which share of a sweep is done."""
    for fit in fits:
        fit.tell(Sweeping(fit.name, int(fit.progress.meter.sweeps) + 1, share))


class FirstSweepAnswers:
    """Answers to queries about the data alone, by query; those about cells tell of any subset of the rows."""

    def __init__(self) -> None:
        self._answers: list[tuple[Query, Any]] = []
        self._samples: dict[tuple[int, Any], SampleAnswer] = {}

    def __contains__(self, query: Query) -> bool:
        return any(query == known for known, _ in self._answers)

    def __setitem__(self, query: Query, answer: Any) -> None:
        self._answers.append((query, answer))

    def update(self, found: Iterable[tuple[Query, Any]]) -> None:
        """Add answers of queries that are not known yet."""
        self._answers += [(query, answer) for query, answer in found if query not in self]

    def of_kind(self, kind: type[Query], subset: Subset) -> Any:
        """The answer for a subset to a query of a kind that was asked by cell of the same cells; None where
        none was."""
        for query, answer in self._answers:
            if isinstance(query, ByCell) and isinstance(query.query, kind) and query.cells == subset.cells:
                return answer.of(subset)
        return None

    def of_subset(self, query: Query, subset: Subset | None) -> Any:
        """The answer to a query, for a subset of the rows; the same object for fits of the same one."""
        answer = next(answer for known, answer in self._answers if known == query)
        if isinstance(answer, CellAnswers):
            return answer.of(subset)
        if subset is None:
            return answer
        key = id(answer), subset
        if key not in self._samples:
            self._samples[key] = sample_of_subset(answer, subset)
        return self._samples[key]


def _by_cell(query: Query, subset: Subset | None) -> Query:
    """The query to ask about the data alone, from whose answer that for a subset can be told."""
    return query if subset is None or isinstance(query, Sample) else ByCell(query, subset.cells)


def _at_hand(query: Query, dataset: Dataset) -> Any:
    """The answer of a query for all rows, where these are at hand or the store tells it; None for others."""
    if isinstance(query, Sample) and query.share >= 1 and dataset.at_hand:
        return SampleAnswer(dataset.rows_at_hand(), True, None)
    survey = None if dataset.selections else dataset.survey
    return None if survey is None else survey.answer(query, dataset.layout.block_rows)


class _AfterSweep:
    """After each sweep: offer a snapshot to the saver, then tell watchers."""

    def __init__(self, group: FitGroup, engine: Engine) -> None:
        self.group, self.engine = group, engine
        self.sweeps = [fit.progress.meter.sweeps for fit in group.fits]
        self.last = time.perf_counter()

    def __call__(self) -> None:
        if self.group.saver is not None:
            self.group.saver.offer(self.group.snapshot(self.engine.memory))
        now = time.perf_counter()
        seconds, self.last = now - self.last, now
        speculated = getattr(getattr(self.engine, "last", None), "speculated", 0)
        for i, fit in enumerate(self.group.fits):
            sweeps = fit.progress.meter.sweeps
            if sweeps > self.sweeps[i]:
                self.sweeps[i] = sweeps
                fit.progress.history.speculated += speculated
                fit.tell(Swept(fit.name, sweeps, seconds, self.engine.nbytes, speculated))
