"""The dask engine: one graph per sweep, of span tasks and merge tasks; the only file that builds dask graphs.

A span task streams its blocks one at a time, so that its memory is a few blocks whatever the size of the
data, and the number of tasks follows the number of threads, not of chunks. The graph runs on a distributed
client or on any local scheduler of dask; what its tasks compute is :func:`daskgd.engines.walk.walk`.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count, zip_longest
from typing import Any
from uuid import uuid4

import dask
import distributed
from dask.utils import format_bytes

from daskgd._compat.dask import List, Task, TaskRef
from daskgd.config import setting
from daskgd.data.columns import ColumnSource
from daskgd.data.dataset import Dataset
from daskgd.engines.base import (
    Partial,
    PartitionMemory,
    Wanted,
    names,
    one_blas_thread,
    wants_partitions,
    wire_bytes,
)
from daskgd.engines.cache_manager import CacheManager, MemoryBudget, length, slices, without
from daskgd.engines.cluster import Cluster, n_threads, reaching, stepped_aside, threads_of
from daskgd.engines.merge_tree import Node, cover, join, spans
from daskgd.engines.preflight import pickled_size
from daskgd.engines.tasks import Merge, Questions, Span, worker_address
from daskgd.engines.timing import Clock, Timing
from daskgd.queries import Ask

MERGE_WIDTH = 8
"""Parts per merge task; the driver merges as many."""

ROW_PAYLOAD_BYTES = 4 << 20
"""Bytes of rows that one task of a sweep may return."""

LIGHT_BYTES = 32 << 10
"""Bytes of sums that may come to the driver in several parts."""

ONE_NODE_BYTES = 1 << 20
"""Bytes of sums of which a task returns no more than one node of the tree."""

QUESTION_BYTES = 64 << 10
"""Bytes of asks that a task may carry; beyond, they are a task of their own, fetched once by each worker."""

QUESTIONS_BYTES = 16 << 20
"""The same for all tasks together: what they carry passes through the scheduler."""

TELL_SECONDS = 0.5
"""Between two times that part of a sweep is told of."""

TaskSpan = tuple[str, list[Node]]
"""What one task walks: the home of its blocks, "" where they have none, and the nodes of the tree."""

TaskGraph = tuple[dict[Any, Any], list[Any], Mapping[Any, list[str]]]
"""Tasks by key, the keys that the driver wants, and homes by key."""


class Graph:
    """Answers asks with one dask graph per sweep.

    Parameters
    ----------
    dataset :
        The data, placed: every column readable where tasks run (see :mod:`daskgd.engines.placement`).
    get : callable or distributed.Client
        What runs graphs: a scheduler of dask on this machine, threads by default, or a client.
    tasks : int, optional
        Most tasks per sweep for rows that are streamed; by default ``daskgd.tasks-per-thread`` times the
        number of threads.
    memory : "auto", float or int
        Rows to keep between sweeps: see :mod:`daskgd.engines.cache_manager`.
    whole_partitions : bool
        Whether they are kept by whole partitions.
    """

    def __init__(
        self,
        dataset: Dataset,
        get: Callable[..., Any] | distributed.Client = dask.threaded.get,
        tasks: int | None = None,
        memory: MemoryBudget = 0,
        whole_partitions: bool = False,
    ) -> None:
        self.dataset = dataset
        self.client = get if isinstance(get, distributed.Client) else None
        self.get = get
        self.tasks = tasks
        self.nbytes = dataset.nbytes
        self.share = 1.0
        self.wire_bytes = 0
        self.n_sweeps = 0
        self.tasks_per_sweep: list[int] = []
        self._source = dataset.source
        self.token = self._token = uuid4().hex[:8]
        self.last: Timing | None = None
        self.on_sweep: Callable[[Timing], None] | None = None
        self.on_part: Callable[[float], None] | None = None
        self._clock = Clock(_is_stored(dataset))
        self._threads = 1
        self._cluster = Cluster(self.client) if self.client is not None else None
        self._task_spans: list[TaskSpan] = []
        self._memory: defaultdict[int, PartitionMemory] = defaultdict(dict)  # by partition
        self._unit = self._source.layout.partition_blocks if whole_partitions else 1
        self.cache_manager: CacheManager | None = None
        if memory != 0 and _can_keep(dataset, get):
            layout, client = self._source.layout, self.client
            block_bytes = -(-dataset.nbytes // max(layout.n_blocks, 1))
            self.cache_manager = CacheManager(
                client, self._token, layout.n_blocks, block_bytes, memory, self._unit
            )

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        self._clock.start()
        self.n_sweeps += 1
        self._reported_at = time.monotonic()
        layout, wanted = self._source.layout, Wanted(asks, self._source.layout)
        with reaching(self.client, self._describe_task), stepped_aside(), one_blas_thread():
            threads = None if self._cluster is None else self._cluster.threads()
            self._task_spans, bare = without_unwanted(
                self.task_spans(asks, wants_partitions(asks), threads), wanted
            )
            found: dict[Node, Partial] = {node: Partial([None] * len(asks), {}) for node in bare}
            if self._task_spans:
                found.update(self._run(list(asks), self._task_spans))
            (partial,) = join(found, layout.n_blocks).values()
        self._clock.gathered()
        answers = partial.answers(asks)
        self.share, self.wire_bytes = wanted.share, wire_bytes(asks, partial.sums, layout)
        for key, value in partial.memory.items():
            self._memory[key[2]][key] = value
        self.last = self._clock.stop(
            names(asks),
            partial.spent,
            self.nbytes,
            layout.n_blocks,
            1 if self._is_one_call(self._task_spans) else self._threads,
            [length(tuple(nodes)) for address, nodes in self._task_spans if address],
            worker_address() if self.client is not None else None,
        )
        if self.on_sweep is not None:
            self.on_sweep(self.last)
        return answers

    @property
    def memory(self) -> PartitionMemory:
        """What partition queries remember, by (run, name, partition)."""
        return {key: value for memory in self._memory.values() for key, value in memory.items()}

    @memory.setter
    def memory(self, memory: PartitionMemory) -> None:
        self._memory.clear()
        for key, value in memory.items():
            self._memory[key[2]][key] = value

    def close(self) -> None:
        """Give back what was kept in memory."""
        if self.cache_manager is not None:
            self.cache_manager.close()

    def count(self, asks: Sequence[Ask], whole_partitions: bool = False) -> tuple[int, int]:
        """Tasks that read, and all tasks, of a sweep that asks this."""
        task_spans = self.task_spans(asks, whole_partitions)
        if self._is_one_call(task_spans):
            return 1, 1
        return len(task_spans), sum(
            map(_n_tasks, (graph for graph, _, _ in self._graphs(list(asks), task_spans)))
        )

    def task_spans(
        self, asks: Sequence[Ask], whole_partitions: bool = False, threads: dict[str, int] | None = None
    ) -> list[TaskSpan]:
        """What each task of a sweep walks: the kept blocks where they are, the others in equal lots, several
        for each thread so that a slow one can leave its share to others."""
        threads = threads_of(self.client) if threads is None else threads
        layout, T = self._source.layout, max(sum(threads.values()), 1)
        self._threads = T
        n, unit = layout.n_blocks, layout.partition_blocks if whole_partitions else 1
        row_payload_nbytes, result_nbytes = (
            sum(ask.query.row_payload_nbytes for ask in asks),
            self._result_nbytes(asks),
        )
        most = self.tasks or int(setting("tasks-per-thread")) * T
        small = -(
            -row_payload_nbytes // ROW_PAYLOAD_BYTES
        )  # bulky sums are cut small, so that no task holds much of them
        kept = self.cache_manager.assign(threads) if self.cache_manager and unit <= self._unit else {}
        if not kept and result_nbytes > ONE_NODE_BYTES:
            return [("", [node]) for node in spans(layout, max(most, small), whole_partitions)]
        out: list[list[TaskSpan]] = []
        for address, runs in [*kept.items(), ("", without(n, kept.values()))]:
            share = length(runs) / n
            parts = threads.get(address, 0) or max(math.ceil(most * share), min(T, most))
            task_spans = [
                cover([(lo * unit, min(hi * unit, n)) for lo, hi in span], n)
                for span in slices(
                    tuple((lo // unit, -(-hi // unit)) for lo, hi in runs),
                    max(parts, math.ceil(small * share)),
                )
            ]
            if result_nbytes > ONE_NODE_BYTES:
                task_spans = [[node] for nodes in task_spans for node in nodes]
            out.append([(address, nodes) for nodes in task_spans])
        # One of each home in turn, so that all of them have work from the start.
        in_turn = [span for group in zip_longest(*out[:-1]) for span in group if span is not None]
        return in_turn + out[-1]

    def _run(self, asks: list[Ask], task_spans: list[TaskSpan]) -> dict[Node, Partial]:
        n_blocks = self._source.layout.n_blocks
        if self._is_one_call(task_spans):
            self.tasks_per_sweep.append(1)
            address, nodes = task_spans[0]
            key = ("daskgd-here", self.n_sweeps)
            memory, on = self._memory_of(nodes), self._cache(address)
            return Span(key, self._source, nodes, memory, [], os.getpid(), asks, on)()
        self.tasks_per_sweep.append(0)
        parts: list[dict[Node, Partial]] = []
        graphs = self._graphs(asks, task_spans)
        if self._cluster is None:
            running = self._here(graphs)
        else:
            running = self._there(self._cluster, graphs, asks[0].query.name)
        for found in running:
            parts += found
        return Merge(("daskgd-merge",), n_blocks)(parts)

    def _here(self, graphs: Iterator[TaskGraph]) -> Iterator[list[Any]]:
        """What each graph finds, run by a scheduler of dask on this machine."""
        for graph, keys, _ in graphs:
            self.tasks_per_sweep[-1] += _n_tasks(graph)
            tick = count(1)

            def done(*_: Any, tick: Any = tick, n: int = len(graph)) -> None:
                self._part(next(tick) / n)

            with dask.callbacks.Callback(posttask=done):  # called in this thread
                yield self.get(graph, keys, num_workers=n_threads(None))  # type: ignore[operator]

    def _there(self, cluster: Cluster, graphs: Iterator[TaskGraph], name: str) -> Iterator[list[Any]]:
        """The same on a cluster, where the next graph runs while the results of one come here."""
        running: deque[Any] = deque()
        for graph, keys, addresses in graphs:
            self.tasks_per_sweep[-1] += _n_tasks(graph)
            where = {"workers": addresses.__getitem__, "allow_other_workers": True} if addresses else {}
            with warnings.catch_warnings(), dask.annotate(**where):
                warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
                running.append(cluster.client.get(graph, keys, sync=False))
            if len(running) > 1:
                yield cluster.gather(running.popleft(), name, self._describe_task, self._part)
        while running:
            yield cluster.gather(running.popleft(), name, self._describe_task, self._part)

    def _part(self, share: float) -> None:
        """Tell how much of a sweep is done, where that takes a while."""
        now = time.monotonic()
        if self.on_part is not None and now - self._reported_at >= TELL_SECONDS:
            self._reported_at = now
            self.on_part(share)

    def _is_one_call(self, task_spans: list[TaskSpan]) -> bool:
        """Whether there is nothing to schedule."""
        return self.client is None and len(task_spans) == 1

    def _graphs(self, asks: list[Ask], task_spans: list[TaskSpan]) -> Iterator[TaskGraph]:
        """The graph of a sweep; several, one after the other, where sums hold rows: these come to the driver
        from a few tasks at a time, so that workers never hold many of them."""
        carries_rows = any(ask.query.row_payload_nbytes for ask in asks)
        wave = max(n_threads(self.client), 1) if carries_rows and self.client is not None else len(task_spans)
        for first in range(0, len(task_spans), wave):
            yield self._graph(asks, task_spans[first : first + wave], first, carries_rows)

    def _graph(
        self, asks: list[Ask], task_spans: list[TaskSpan], first: int = 0, carries_rows: bool = False
    ) -> TaskGraph:
        """Span tasks, numbered from `first`, and merge tasks; the keys that the driver wants; homes by key.

        Light sums come to the driver in up to eight parts, as a merge task would cost more than it spares.
        Bulky sums, which hold rows, are not merged by tasks, where they would pile up on one worker.

        Keys are tuples of a name with a token of the fit, the sweep, and the place: a key used twice while
        an old future lives would return the old result.
        """
        name, sweep, n_blocks = asks[0].query.name, self.n_sweeps, self._source.layout.n_blocks
        graph: dict[Any, Any] = {}
        addresses: defaultdict[Any, list[str]] = defaultdict(list)
        key: Any
        source, held = self._sendable(graph)
        carried: tuple[list[Ask] | None, Any] = (asks, None)
        question = ("daskgd-ask-" + self._token, sweep, first)
        carried_bytes = min(QUESTION_BYTES, QUESTIONS_BYTES // max(len(task_spans), 1))
        if self.client is not None and pickled_size(asks, "objective") > carried_bytes:
            graph[question] = Task(question, Questions(question, asks))
            carried = (None, TaskRef(question))
        keys: list[Any] = []
        for i, (address, nodes) in enumerate(task_spans, first):
            key = (f"daskgd-{name}-{self._token}", sweep, i)
            where, refs = held(nodes)
            memory, on = self._memory_of(nodes), self._cache(address)
            work = Span(key, source, nodes, memory, where, os.getpid(), carried[0], on)
            graph[key] = Task(key, work, carried[1], List(*refs))
            keys.append(key)
            if address and self.client is not None:
                addresses[key] = [address]
        most, level = MERGE_WIDTH if self._result_nbytes(asks) <= LIGHT_BYTES else 1, 0
        while not carries_rows and len(keys) > most:
            level += 1
            above = []
            for i in range(0, len(keys), MERGE_WIDTH):
                key = (f"daskgd-merge-{self._token}", sweep, level, i // MERGE_WIDTH)
                graph[key] = Task(key, Merge(key, n_blocks), List(*map(TaskRef, keys[i : i + MERGE_WIDTH])))
                above.append(key)
            keys = above
        return graph, keys, addresses

    def _describe_task(self, key: Any) -> str:
        """What a task of this fit has to do, for messages; "" for other tasks."""
        name, layout = str(key[0] if isinstance(key, tuple) else key), self._source.layout
        if not name.endswith(self._token):
            return ""
        part = name.split("-")[1]
        if part in ("ask", "merge", "shelf"):
            return {"ask": "the questions", "merge": "a merge of sums", "shelf": "an empty shelf"}[part]
        (_, nodes) = self._task_spans[key[2]]
        start, stop = layout.rows(*nodes[0])
        more = f" and {len(nodes) - 1} more runs" if len(nodes) > 1 else ""
        block = format_bytes(self.nbytes * layout.block_rows // layout.n_rows)
        return f"rows {start}:{stop}{more}, in blocks of {block}"

    def _result_nbytes(self, asks: Sequence[Ask]) -> int:
        return sum(ask.query.result_nbytes(ask.problem, self.dataset.n_features) for ask in asks)

    def _cache(self, address: str) -> tuple[str, str] | None:
        return (self._token, address) if address else None

    def _memory_of(self, nodes: list[Node]) -> PartitionMemory:
        if not self._memory:
            return {}
        size = self._source.layout.partition_blocks
        mine = {index for lo, hi in nodes for index in range(lo // size, -(-hi // size))}
        found = (self._memory[index] for index in sorted(mine) if index in self._memory)
        return {key: value for memory in found for key, value in memory.items()}

    def _sendable(self, graph: dict[Any, Any]) -> tuple[ColumnSource, Callable[[list[Node]], Any]]:
        """The source without what lies in the memory of workers, and for nodes the pieces they cover."""
        source = self._source
        columns = source.columns.present.items()
        held = {name: c.on_workers for name, c in columns if c.on_workers is not None}
        for column in held.values():
            graph.update(column.graph)
        bare: dict[str, Any] = {name: c.without_rows() for name, c in held.items()}

        def pieces(nodes: list[Node]) -> tuple[list[tuple[str, int]], list[TaskRef]]:
            rows = [source.layout.rows(*node) for node in nodes]
            # A piece once, though two nodes may share it.
            where = list(
                dict.fromkeys((name, i) for name, c in held.items() for r in rows for i in c.covering(*r))
            )
            return where, [TaskRef(held[name].key(i)) for name, i in where]

        return replace(source, columns=source.columns._replace(**bare)), pieces


def without_unwanted(task_spans: list[TaskSpan], wanted: Wanted) -> tuple[list[TaskSpan], list[Node]]:
    """The lots less their nodes of which no block is wanted, and these."""
    if wanted.blocks is None:
        return task_spans, []
    bare = {node for _, nodes in task_spans for node in nodes if not wanted.blocks[slice(*node)].any()}
    left = [(address, [node for node in nodes if node not in bare]) for address, nodes in task_spans]
    return [(address, nodes) for address, nodes in left if nodes], sorted(bare)


def _n_tasks(graph: Mapping[Any, Any]) -> int:
    return sum(isinstance(task, Task) for task in graph.values())


def _can_keep(dataset: Dataset, get: Any) -> bool:
    """Whether rows are read from a store, by tasks that end in a process that goes on."""
    lasting = isinstance(get, distributed.Client) or get in (dask.threaded.get, dask.local.get_sync)
    return (
        lasting
        and _is_stored(dataset)
        and all(column.on_workers is None for column in dataset.columns.present.values())
    )


def _is_stored(dataset: Dataset) -> bool:
    return any(column.path is not None for column in dataset.columns.present.values())
