"""The plan of a fit: what it will do and cost, before it runs.

A :class:`Plan` follows the policies of the engines without submitting a sweep; all that it reads is a few
blocks, to see how fast that goes. The file knows engines, data sets and solvers; it must not know any
estimator.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import dask
import distributed
import numpy as np
from dask.utils import format_bytes

from daskgd.data.by_columns import ColumnsFirst
from daskgd.data.columns import Columns, can_fetch, in_this_process
from daskgd.data.dataset import Dataset
from daskgd.engines.cache_manager import CacheManager, MemoryBudget
from daskgd.engines.cluster import THIS_PROCESS, Cluster, threads_of
from daskgd.engines.graph import count_tasks, spans_of_sweep
from daskgd.engines.placement import columns_to_materialise
from daskgd.engines.runs import Runs, length
from daskgd.engines.select import Choice, check_engine, scheduler_of
from daskgd.engines.store_access import StoreAccess
from daskgd.engines.task_spans import Payload
from daskgd.engines.tasks import read_speed
from daskgd.engines.worker_memory import (
    Need,
    Numbers,
    ahead_bytes,
    check_driver_memory,
    check_memory,
    free_memory,
    room_of_task,
    task_room,
)
from daskgd.estimators.fitting.solver_choice import SolverChoice
from daskgd.losses import Loss
from daskgd.models.base import Maker
from daskgd.penalties import L2
from daskgd.problems import Problem
from daskgd.queries import LANES, Ask, Gradient, Survey
from daskgd.rows.layout import Shape
from daskgd.solvers import Gram, Solver
from daskgd.solvers.base import SweepEstimate

WAIT = 3.0
"""Seconds to wait for workers to measure how fast they read; those that are busy for longer are left out."""

READ, HELD, SPOOLED = "read in place", "held in memory", "spooled to a temporary store"
UNDECIDED = "held in memory if workers will have room, else spooled"


# -- where it will run --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """The place where a fit would run now: the kind of engine, in words where, and what runs its graphs."""

    kind: str
    where: str
    get: Any = dask.threaded.get
    threads: dict[str, int] = field(default_factory=lambda: threads_of(None))

    @property
    def client(self) -> distributed.Client | None:
        return self.get if isinstance(self.get, distributed.Client) else None

    @property
    def n_threads(self) -> int:
        return sum(self.threads.values())

    @property
    def without_workers(self) -> bool:
        """Whether it is a cluster of which nothing is known but its scheduler, as an idle adaptive one."""
        return self.client is not None and not self.threads

    def without(self, addresses: Collection[str]) -> Place:
        """The same place less some workers."""
        return replace(self, threads={a: n for a, n in self.threads.items() if a not in addresses})

    @classmethod
    def of(cls, engine: Choice) -> Place:
        """The place that :func:`daskgd.engines.select.open_engine` would choose."""
        check_engine(engine)
        if engine == "serial":
            return cls("serial", "one thread of this process", threads={THIS_PROCESS: 1})
        if callable(engine):
            return cls("custom", f"the engine given, {engine!r}")
        get = scheduler_of(engine)
        if isinstance(get, distributed.Client):
            threads = threads_of(get)
            size = f"{_counted(len(threads), 'worker')}, {_counted(sum(threads.values()), 'thread')}"
            size = size if threads else "no workers now; the fit waits for a first one"
            where = f"the cluster at {get.scheduler_info()['address']}: {size}"
            return cls("distributed", where, get, threads)
        if get is dask.threaded.get:
            return cls("threads", f"{_counted(sum(threads_of(None).values()), 'thread')} of this process")
        return cls("local", f"a local scheduler of dask, {get.__module__}", get)


def _placement(dataset: Dataset, place: Place) -> str:
    """How rows come to the tasks, READ, HELD or SPOOLED: see :func:`daskgd.engines.placement.materialise`."""
    X = dataset.columns.X
    if isinstance(X, ColumnsFirst) and not X.stays_in_memory:
        return SPOOLED
    to_materialise, hold = columns_to_materialise(dataset, place.client)
    if to_materialise:
        undecided = place.without_workers and not all(map(in_this_process, to_materialise.values()))
        return HELD if hold else UNDECIDED if undecided else SPOOLED
    return READ if any(c.path is not None for c in dataset.columns.present.values()) else HELD


def _transposition_nbytes(dataset: Dataset) -> int:
    """Bytes that this process takes to make rows of what is stored by columns."""
    X = dataset.columns.X
    return X.transposition_nbytes if isinstance(X, ColumnsFirst) else 0


# -- how fast -----------------------------------------------------------------------------------


def _speed(dataset: Dataset, place: Place) -> float | None:
    """Measure the decoded bytes per second that all threads together read now; None if nothing is stored."""
    stored = {name: c for name, c in dataset.columns.present.items() if c.path is not None}
    if "X" not in stored or not place.threads or not place.n_threads:
        return None
    source, n = replace(dataset.source, columns=Columns(**stored), retries=0), dataset.layout.n_blocks
    # Blocks from all over: files may be laid out, or cached, in runs.
    some = np.random.default_rng().permutation(np.unique(np.linspace(0, n - 1, min(n, 4096), dtype=int)))
    blocks = some.tolist()
    if place.client is None:
        return read_speed(source, blocks, 1 if place.get is dask.local.get_sync else place.n_threads)
    addresses = [address for address, n in place.threads.items() if n]
    futures = [
        place.client.submit(
            read_speed,
            source,
            blocks[i % len(blocks) :: len(addresses)],
            place.threads[address],
            workers=[address],
            pure=False,
            priority=10,
        )
        for i, address in enumerate(addresses)
    ]
    try:
        with suppress(TimeoutError):
            distributed.wait(futures, timeout=WAIT)
        # Who is busy with other work is taken to be as fast as the others.
        threads = sum(
            place.threads[address] for address, f in zip(addresses, futures, strict=True) if f.done()
        )
        speeds = place.client.gather([f for f in futures if f.done()])
        return sum(speeds) * place.n_threads / threads if threads else None
    finally:
        place.client.cancel(futures)


# -- the plan -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a fit: solver, sweeps, where it runs, tasks, memory, and about how long it will read.

    Attributes
    ----------
    estimator : str
    solver : Solver
    reason : str
        Why this solver.
    engine : str
        Kind of the engine that a fit would take now: "threads", "distributed", "serial", "local" (another
        local scheduler of dask) or "custom" (a callable).
    where : str
        The same in words, with the numbers of workers and threads.
    workers, threads : int
        That compute at this moment; without a cluster 0 workers.
    n_rows, n_features : int
    n_blocks, block_bytes : int
        Blocks, the unit of reading, and decoded bytes of one, all columns.
    placement : str
        How rows come to the tasks: "read in place", "held in memory", or "spooled to a temporary store"; on a
        cluster without workers "held in memory if workers will have room, else spooled".
    first_spans, first_tasks : int
        Tasks that read, and all tasks, of the first sweep, which surveys the data and brings the sample.
    spans, tasks : int
        The same of each later sweep that asks for a gradient (tasks with those that merge), unless a sweep
        takes seconds: rows in memory are then divided among more tasks. Without a
        scheduler 1 span and 0 tasks, with an engine of one's own 0 and 0; equal to those of the first sweep
        where there is only one.
    sweep_bytes : int
        Decoded bytes of one read of the data.
    resident_bytes, streamed_bytes : int
        Of these, what stays in memory after the first sweep, and what each later sweep reads again.
    task_bytes, task_room : int
        Bytes of rows, parameters and sums that one task holds at once, at most, and bytes that it may take:
        its thread's share of the tightest worker's memory, less what is in use; 0 where there are no workers.
    driver_bytes : int
        Bytes that the process that calls ``fit`` holds at most, about: sample, matrices and vectors. Labels
        that were not counted yet are taken for two.
    limit : int
        Memory limit of that worker in bytes; without a cluster, the memory of this machine that is free.
    sample_rows : int
        Rows of the sample that the solver wants, about; all of them where it is as many as `n_rows`, 0 if
        none.
    surveyed : bool
        Whether the store carries what the fit would else ask of the data in a first sweep.
    sweeps : str
        Reads of the data to expect at the default tolerance.
    sweep_range : (int, int) or None
        The same as numbers; None where it is no range.
    bytes_per_second : float or None
        Decoded, of all threads together, in a short read just now; None if nothing stored can be read.
    seconds_per_sweep : float or None
        To read what a later sweep streams; nothing else is counted.
    fit_seconds : (float, float) or None
        To read what a fit reads, from the least number of sweeps to the most.
    """

    estimator: str
    solver: Solver
    reason: str
    engine: str
    where: str
    workers: int
    threads: int
    n_rows: int
    n_features: int
    n_blocks: int
    block_bytes: int
    placement: str
    first_spans: int
    first_tasks: int
    spans: int
    tasks: int
    sweep_bytes: int
    resident_bytes: int
    streamed_bytes: int
    task_bytes: int
    task_room: int
    driver_bytes: int
    limit: int
    sample_rows: int
    surveyed: bool
    sweeps: str
    sweep_range: tuple[int, int] | None
    bytes_per_second: float | None
    seconds_per_sweep: float | None
    fit_seconds: tuple[float, float] | None

    @classmethod
    def of(
        cls,
        estimator: str,
        choice: SolverChoice,
        shape: Shape,
        dataset: Dataset,
        *,
        loss: Loss,
        model: Maker,
        tol: float,
        engine: Choice = None,
        memory: MemoryBudget = 0,
    ) -> Plan:
        """The plan for a choice and a dataset of a shape.

        Raises ValueError, as the fit would, if a task would not fit into a worker's memory, `memory` asks
        for more than there is, or a worker cannot read the data.
        """
        place, layout = Place.of(engine), dataset.layout
        if place.client is not None and place.threads:
            StoreAccess(Cluster(place.client), dataset).check(place.threads)
        made = model(shape.n_features, _outputs(dataset, shape))
        whole, first_sweep_queries = choice.solver.needs_partitions, choice.solver.first_sweep_queries(shape)
        share = choice.solver.sample_share(shape)
        solver = choice.solver
        row_payload_nbytes = sum(query.row_payload_nbytes for query in first_sweep_queries)
        numbers = numbers_of([solver], shape, dataset)
        left_out = check_memory(dataset, place.client, whole, row_payload_nbytes, numbers)
        place = place.without(left_out)
        surveys = (Survey(shape.classification), *first_sweep_queries)
        survey = dataset.survey
        surveyed = survey is not None and all(survey.tells(query, layout.block_rows) for query in surveys)
        need = Need.of(dataset, whole, row_payload_nbytes, numbers)
        ahead = ahead_bytes(dataset, need, room_of_task(place.client, place.n_threads, left_out))
        sweeps = solver.expected_sweeps(shape, loss, made.size)
        sweeps, deferred = sweeps.without_the_first() if surveyed else sweeps, False
        if surveyed and not sweeps.is_one and solver.expects_one_gradient(shape, made.size, tol):
            sweeps, deferred = SweepEstimate(1, 2), not can_fetch(dataset.columns.X)
        placement = _placement(dataset, place)
        stored = [c for c in dataset.columns.present.values() if c.path is not None]
        keeps = placement == SPOOLED or (stored and not (placement == HELD and place.client is not None))
        lasting = place.kind != "custom" and (
            place.client is not None or place.get in (dask.threaded.get, dask.local.get_sync)
        )
        kept: dict[str, Runs] = {}
        if memory != 0 and not sweeps.is_one and keeps and lasting:
            manager = CacheManager.of(dataset, place.client, memory, whole, ahead_bytes=ahead)
            kept = manager.decide(place.threads)
        from_store = dataset.nbytes if placement == SPOOLED else sum(column.nbytes for column in stored)
        rows = min(sum(map(length, kept.values())) * layout.block_rows, layout.n_rows)
        streamed = round(from_store * (1 - rows / layout.n_rows))

        first = [Ask(None, query) for query in surveys]
        problem = Problem(loss, made, L2(np.ones(made.size)))
        driver_bytes = solver.driver_nbytes(shape, problem) + _transposition_nbytes(dataset)
        check_driver_memory(driver_bytes, f"{estimator} of {made.size:,} parameters")
        again = [Ask(problem, Gradient(np.ones(made.size)))]
        first = again if surveyed else first
        first_tasks_, later_tasks = (
            _count_tasks(dataset, place, kept, asks, partitions, seconds)
            for asks, partitions, seconds in ((first, False, None), (again, whole, 0.0))
        )
        task_bytes, task_room, limit = _task(need.total + ahead, place, left_out)
        speed = _speed(dataset, place)
        per_sweep = fit = None
        if speed:
            per_sweep = streamed / speed
            if sweeps.range is not None:
                read = [min(n, 1 + deferred) for n in sweeps.range]  # before any rows are kept
                least, most = (
                    k * from_store / speed + (n - k) * per_sweep
                    for k, n in zip(read, sweeps.range, strict=True)
                )
                fit = least, most
        return cls(
            estimator=estimator,
            solver=solver,
            reason=choice.reason,
            engine=place.kind,
            where=place.where,
            workers=len(place.threads) if place.client is not None else 0,
            threads=place.n_threads,
            n_rows=shape.n_rows,
            n_features=shape.n_features,
            n_blocks=layout.n_blocks,
            block_bytes=-(-dataset.nbytes // layout.n_blocks),
            placement=placement,
            first_spans=first_tasks_[0],
            first_tasks=first_tasks_[1],
            spans=first_tasks_[0] if sweeps.is_one else later_tasks[0],
            tasks=first_tasks_[1] if sweeps.is_one else later_tasks[1],
            sweep_bytes=dataset.nbytes,
            resident_bytes=dataset.nbytes - streamed,
            streamed_bytes=streamed,
            task_bytes=task_bytes,
            task_room=task_room,
            driver_bytes=driver_bytes,
            limit=limit,
            sample_rows=round(share * shape.n_rows),
            surveyed=surveyed,
            sweeps=str(sweeps),
            sweep_range=sweeps.range,
            bytes_per_second=speed,
            seconds_per_sweep=per_sweep,
            fit_seconds=fit,
        )

    def __str__(self) -> str:
        sample = "no sample"
        if self.sample_rows:
            whole = self.sample_rows >= self.n_rows
            sample = "all rows at once in memory" if whole else f"a sample of {self.sample_rows:,} rows"
            sample += " from the store" if self.surveyed else ""
        tasks = "as the engine makes them"
        if self.engine == "serial":
            tasks = "none: one loop"
        elif self.engine != "custom":
            tasks = f"{self._graph(self.first_spans, self.first_tasks)} in the first sweep"
            if self.sweep_range != (1, 1):
                tasks += f", then {self._graph(self.spans, self.tasks)}"
        if self.placement == READ:
            rest = f"{format_bytes(self.resident_bytes)} then stay in memory, "
            rest += f"{format_bytes(self.streamed_bytes)} are streamed"
            if self.sweep_range == (1, 1):
                rest = "read once"
            elif self.engine == "distributed" and not self.workers:
                rest = "what then stays in memory depends on the workers"
            elif not self.streamed_bytes:
                rest = "all of it then stays in memory"
            elif not self.resident_bytes:
                rest = "all of it is streamed each time"
        else:
            rest = self.placement
        memory = f"{format_bytes(self.task_bytes)} a task"
        if self.limit:
            whose = "a worker's limit" if self.engine == "distributed" else "free here"
            room = f"{format_bytes(self.task_room)} for each thread"
            memory += f", of {room} ({format_bytes(self.limit)} {whose})"
        lines = {
            "on": self.where,
            "fit": self.estimator,
            "data": f"{self.n_rows:,} rows x {self.n_features:,} features, "
            f"{_counted(self.n_blocks, 'block')} of {format_bytes(self.block_bytes)}",
            "solver": f"{self.solver!r}, {sample}",
            "why": f"{self.reason} ({self.solver.regime})",
            "sweeps": self.sweeps,
            "each": f"{format_bytes(self.sweep_bytes)}; {rest}",
            "tasks": tasks,
            "memory": memory,
            "driver": f"{format_bytes(self.driver_bytes)} in this process",
            "reads": self._reading(),
        }
        return "\n".join(f"{name:<6} {text}" for name, text in lines.items())

    @staticmethod
    def _graph(spans: int, tasks: int) -> str:
        return f"{tasks:,}" if spans == tasks else f"{tasks:,} ({spans:,} read)"

    def _reading(self) -> str:
        if self.bytes_per_second is None:
            return "from memory" if self.placement == HELD else "not measured: nothing that can be read yet"
        text = f"{format_bytes(int(self.bytes_per_second))}/s just now"
        parts = []
        if self.sweep_range != (1, 1) and self.streamed_bytes:
            parts.append(f"{_seconds(self.seconds_per_sweep or 0.0)} a later sweep")
        if self.fit_seconds is not None:
            low, high = map(_seconds, self.fit_seconds)
            parts.append(f"{low if low == high else f'{low} to {high}'} in all, without arithmetic")
        return ": ".join([text, ", ".join(parts)] if parts else [text])


def _count_tasks(
    dataset: Dataset,
    place: Place,
    kept: Mapping[str, Runs],
    asks: list[Ask],
    partitions: bool,
    seconds: float | None,
) -> tuple[int, int]:
    """The tasks that read, and all tasks, of a sweep that asks this, after one that took so many seconds."""
    if place.kind in ("serial", "custom"):
        return int(place.kind == "serial"), 0
    local = place.client is None
    n = len(spans_of_sweep(dataset, asks, place.threads, kept, partitions, local, seconds=seconds))
    return n, count_tasks(asks, n, Payload.of(asks, dataset.n_features), place.client)


def numbers_of(solvers: Sequence[Solver], shape: Shape, dataset: Dataset, n_cells: int = 1) -> Numbers:
    """How many numbers the parameters and the sums of fits have that share sweeps, about: those of hidden
    units are not counted. What the data alone determine is summed for each of the cells of rows."""
    lanes = 1 if len(solvers) == 1 else LANES * -(-len(solvers) // LANES)
    d = n_parameters(dataset, shape)
    sums = [
        solver.result_numbers(d, shape) * (n_cells if isinstance(solver, Gram) else 1) for solver in solvers
    ]
    return Numbers(lanes * d, max(2 * shape.n_features * n_cells, lanes * d, *sums))  # moments; gradients


def n_parameters(dataset: Dataset, shape: Shape) -> int:
    """How many numbers the parameters of a linear model have."""
    return (shape.n_features + 1) * _outputs(dataset, shape)


def _task(needed: int, place: Place, left_out: Collection[str]) -> tuple[int, int, int]:
    """The bytes that a task holds, the bytes that it may hold, and the limit of its process."""
    if place.client is None:
        free = free_memory(None)
        return needed, free // max(place.n_threads, 1), free
    room = task_room(place.client, left_out)
    return (needed, 0, 0) if room is None else (needed, room.each, room.limit)


def _outputs(dataset: Dataset, shape: Shape) -> int:
    """The number of outputs of the model, as far as it is known: labels not counted yet are taken for two."""
    y = dataset.columns.y
    if shape.classification:
        n = 2 if dataset.classes is None else len(dataset.classes)
        return n if n > 2 else 1
    return 1 if y is None or len(y.shape) == 1 else max(int(y.shape[1]), 1)


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _seconds(seconds: float) -> str:
    """An estimate of seconds in words, with two digits at most.

    >>> [_seconds(s) for s in (0.0312, 7.24, 84.0, 4_000.0)]
    ['0.031 s', '7.2 s', '84 s', '1.1 hours']
    """
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} hours"
