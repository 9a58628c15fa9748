"""The dask engine: one graph per sweep, of span tasks and merge tasks; the only file that builds dask graphs.

A span task streams its blocks one at a time, so that its memory is a few blocks whatever the size of the
data, and the number of tasks follows the number of threads, not of chunks. The graph runs on a distributed
client or on any local scheduler of dask; what its tasks compute is :func:`daskgd.engines.base.walk`.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

import dask
import distributed
from dask._task_spec import List, Task, TaskRef
from dask.base import get_scheduler
from dask.system import CPU_COUNT

from daskgd.columns import PiecesColumn, Source, setting
from daskgd.datasets import Dataset
from daskgd.engines.base import Memory, Partial, one_blas_thread, spans, walk, wants_partitions
from daskgd.engines.placement import Held, placed
from daskgd.engines.serial import Serial
from daskgd.engines.tasks import Questions, Span, merge
from daskgd.queries import Ask
from daskgd.training import Engine

MERGE_WIDTH = 8
"""Partial sums per merge task, a power of two so that each merges a node of the tree."""


BULK_BYTES = 4 << 20
"""Bytes of rows that one task of a sweep may return."""


class Graph:
    """Answers asks with one dask graph per sweep.

    Parameters
    ----------
    dataset :
        The data, placed: every column readable where tasks run (see :mod:`daskgd.engines.placement`).
    get : callable or distributed.Client
        What runs graphs: a scheduler of dask on this machine, threads by default, or a client.
    tasks : int, optional
        Most span tasks per sweep; by default ``daskgd.tasks-per-thread`` times the number of threads.
    """

    def __init__(
        self,
        dataset: Dataset,
        get: Callable[..., Any] | distributed.Client = dask.threaded.get,
        tasks: int | None = None,
    ) -> None:
        self.dataset = dataset
        self.client = get if isinstance(get, distributed.Client) else None
        self.get = get
        self.tasks = tasks
        self.nbytes = dataset.nbytes
        self.n_sweeps = 0
        self.tasks_per_sweep: list[int] = []
        self._source = dataset.source
        self._token = uuid4().hex[:8]
        self._memory: Memory = {}

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        self.n_sweeps += 1
        # Bulky sums are cut small, so that no task holds much of them.
        most = max(self._most_tasks(), -(-sum(ask.query.bulk for ask in asks) // BULK_BYTES))
        cut = spans(self._source.layout, most, wants_partitions(asks))
        with one_blas_thread():
            partial = self._run(asks, cut)
        answers = [ask.query.answer(ask.problem, sums) for ask, sums in zip(asks, partial.sums, strict=True)]
        self._memory.update(partial.memory)
        return answers

    def _most_tasks(self) -> int:
        return self.tasks or int(setting("tasks-per-thread")) * n_threads(self.client)

    def _run(self, asks: Sequence[Ask], cut: list[tuple[int, int]]) -> Partial:
        if self.client is None and len(cut) == 1:  # nothing to schedule: spare the scheduler
            self.tasks_per_sweep.append(1)
            return walk(self._source, asks, *cut[0], self._memory)
        if self.client is not None and any(ask.query.bulk for ask in asks):
            return self._in_waves(self.client, asks, cut)
        graph, keys = self._graph(list(asks), cut)
        self.tasks_per_sweep.append(sum(isinstance(task, Task) for task in graph.values()))
        if self.client is None:
            return merge(self.get(graph, keys, num_workers=n_threads(None)))  # type: ignore[operator]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return merge(self.client.get(graph, keys, retries=int(setting("retries"))))

    def _in_waves(
        self, client: distributed.Client, asks: Sequence[Ask], cut: list[tuple[int, int]]
    ) -> Partial:
        """Sums that hold rows come to the driver a few tasks at a time: workers never hold many of them."""
        parts: list[Partial] = []
        self.tasks_per_sweep.append(0)
        while len(parts) < len(cut):
            wave = cut[len(parts) : len(parts) + 2 * max(n_threads(client), 1)]
            graph, keys = self._graph(list(asks), wave, first=len(parts))
            self.tasks_per_sweep[-1] += len(graph)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                parts += client.get(graph, keys, retries=int(setting("retries")))
        return merge(parts)

    def _graph(
        self, asks: list[Ask], cut: list[tuple[int, int]], first: int = 0
    ) -> tuple[dict[Any, Any], list[Any]]:
        """Span tasks, numbered from `first`, then merge tasks up the tree; the key of the last one.

        Bulky sums, which hold rows, are not merged by tasks, where they would pile up on one worker: the keys
        of all span tasks.

        Keys are tuples of a name with a token of the fit, the sweep, and the place: a key used twice while
        an old future lives would return the old result.
        """
        name, sweep = asks[0].query.name, self.n_sweeps
        graph: dict[Any, Any] = {}
        key: Any
        source, held = self._sendable(graph)
        question = ("daskgd-ask-" + self._token, sweep, first)
        graph[question] = Task(question, Questions(question, asks))
        keys: list[Any] = []
        for i, (lo, hi) in enumerate(cut, first):
            key = (f"daskgd-{name}-{self._token}", sweep, i)
            where, refs = held(lo, hi)
            work = Span(key, source, (lo, hi), self._memory_of(lo, hi), where, os.getpid())
            graph[key] = Task(key, work, TaskRef(question), List(*refs))
            keys.append(key)
        level = 0
        while len(keys) > 1 and not any(ask.query.bulk for ask in asks):
            level += 1
            above = []
            for i in range(0, len(keys), MERGE_WIDTH):
                key = (f"daskgd-merge-{self._token}", sweep, level, i // MERGE_WIDTH)
                graph[key] = Task(key, merge, List(*map(TaskRef, keys[i : i + MERGE_WIDTH])))
                above.append(key)
            keys = above
        return graph, keys

    def _memory_of(self, lo: int, hi: int) -> Memory:
        if not self._memory:
            return {}
        size = self._source.layout.partition_blocks
        return {key: value for key, value in self._memory.items() if lo <= key[2] * size < hi}

    def _sendable(self, graph: dict[Any, Any]) -> tuple[Source, Callable[[int, int], Any]]:
        """The source without what lies in the memory of workers, and for a span the pieces it covers."""
        source = self._source
        columns = {name: getattr(source, name) for name in ("X", "y", "sample_weight")}
        held = {name: c for name, c in columns.items() if isinstance(c, Held)}
        for column in held.values():
            graph.update(column.graph)
        bare: dict[str, Any] = {
            name: PiecesColumn(c.shape, c.dtype, c.piece_rows, {}) for name, c in held.items()
        }

        def pieces(lo: int, hi: int) -> tuple[list[tuple[str, int]], list[TaskRef]]:
            start, stop = source.layout.rows(lo, hi)
            where = [(name, i) for name, c in held.items() for i in c.covering(start, stop)]
            return where, [TaskRef(held[name].key(i)) for name, i in where]

        return replace(source, **bare), pieces


# -- which engine -------------------------------------------------------------------------------

Choice = str | Callable[[Dataset], Engine] | None


def check_engine(engine: Choice) -> None:
    """Raise ValueError unless `engine` is one of the choices of :func:`opened`."""
    if not (engine is None or engine in ("serial", "threads", "distributed") or callable(engine)):
        raise ValueError(
            'engine: expected None, "serial", "threads", "distributed" or a callable that makes an engine '
            f"of a Dataset, got {engine!r}"
        )


@contextmanager
def opened(
    dataset: Dataset, engine: Choice = None, *, whole_partitions: bool = False, bulk: int = 0
) -> Iterator[tuple[Engine, Dataset]]:
    """An engine and the dataset it reads, its rows placed; everything is given back at the end.

    Parameters
    ----------
    dataset : Dataset
    engine : None, "serial", "threads", "distributed" or callable
        None takes what ``dask.config``'s scheduler says, else the current client, else threads.
        "distributed" takes the current client. A callable makes an engine of a placed Dataset.
    whole_partitions : bool
        Whether a solver will need whole partitions in memory.
    bulk : int
        Bytes of rows that a sweep will return.
    """
    check_engine(engine)
    get: Any = dask.threaded.get
    if engine in (None, "distributed"):
        found = get_scheduler()
        client = getattr(found, "__self__", None)
        if engine == "distributed" and not isinstance(client, distributed.Client):
            with suppress(ValueError):  # whatever dask.config's scheduler says
                client = distributed.default_client()
        if isinstance(client, distributed.Client):
            get = client
        elif engine == "distributed":
            raise ValueError(
                'engine="distributed": expected a current client, found none; '
                "make one with distributed.Client(...)"
            )
        elif found is not None:
            get = found
    client = get if isinstance(get, distributed.Client) else None
    tasks = 1 if engine == "serial" else int(setting("tasks-per-thread")) * max(n_threads(client), 1)
    with placed(dataset, get, tasks, whole_partitions=whole_partitions, bulk=bulk) as ready:
        if engine == "serial":
            yield Serial(ready.source, ready.nbytes), ready
        elif callable(engine):
            yield engine(ready), ready
        else:
            yield Graph(ready, get), ready


def n_threads(client: distributed.Client | None) -> int:
    """Threads that compute at this moment."""
    if client is None:
        return int(dask.config.get("num_workers", None) or CPU_COUNT)
    return sum(client.nthreads().values())
