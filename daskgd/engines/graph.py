"""The dask engine: one graph per sweep, of span tasks and merge tasks; the only file that builds dask graphs.

A span task streams its blocks one at a time, so that its memory is a few blocks whatever the size of the
data, and the number of tasks follows the number of threads, not of chunks. The graph runs on a distributed
client or on any local scheduler of dask; what its tasks compute is :func:`daskgd.engines.walk.walk`.
"""

from __future__ import annotations

import os
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import count
from traceback import clear_frames
from types import MappingProxyType
from typing import Any
from uuid import uuid4

import dask
import distributed
from dask.utils import format_bytes

from daskgd._compat.blas import one_blas_thread
from daskgd._compat.dask import List, Task, TaskRef
from daskgd._compat.distributed import worker_address
from daskgd.config import setting
from daskgd.data.columns import ColumnSource, in_this_process
from daskgd.data.dataset import Dataset
from daskgd.engines.base import (
    Partial,
    PartitionMemory,
    Wanted,
    names,
    wants_partitions,
    wire_bytes,
)
from daskgd.engines.cache_manager import CacheManager, MemoryBudget
from daskgd.engines.cluster import (
    Cluster,
    Stranded,
    n_threads,
    reaching,
    release,
    stepped_aside,
    threads_of,
)
from daskgd.engines.preflight import pickled_size
from daskgd.engines.runs import Runs, length
from daskgd.engines.speculation import LateTasks, Speculation, Watch, among
from daskgd.engines.speeds import Speeds
from daskgd.engines.store_access import StoreAccess
from daskgd.engines.task_spans import (
    Payload,
    TaskSpan,
    count_merge_tasks,
    demand_tasks,
    drop_unwanted,
    graph_sizes,
    task_spans,
)
from daskgd.engines.tasks import Merge, Questions, Span
from daskgd.engines.timing import Clock, Timing
from daskgd.queries import Ask
from daskgd.rows.merge_tree import Node, join
from daskgd.storage.access import AccessError

QUESTION_BYTES = 64 << 10
"""Bytes of asks that a task may carry; more are a task of their own, fetched once by each worker."""

QUESTIONS_BYTES = 16 << 20
"""The same for all tasks together: what they carry passes through the scheduler."""

TASK_BYTES = 8 << 20
"""Bytes of rows in memory, times the products with them, from which a task in this process is worth it: some
milliseconds."""

LONG_SECONDS = 2.0
"""A sweep that takes so long is worth several tasks a thread also of rows in memory: more than threads, they
show an adaptive cluster that it could do with more workers."""

REPORT_SECONDS = 0.5
"""Seconds between two reports of which part of a sweep is done."""

TaskGraph = tuple[dict[Any, Any], list[Any], Mapping[Any, list[str]]]
"""Tasks by key, the keys of those whose results the driver merges, and addresses of workers by key."""


class Graph:
    """Answers asks with one dask graph per sweep.

    Parameters
    ----------
    dataset :
        The data, materialised: every column readable where tasks run (see :mod:`daskgd.engines.placement`).
    get : callable or distributed.Client
        What runs graphs: a scheduler of dask on this machine, threads by default, or a client.
    tasks : int, optional
        Most tasks per sweep for rows that are streamed; by default ``daskgd.tasks-per-thread`` times the
        number of threads.
    memory : "auto", float or int
        Rows to keep between sweeps: see :mod:`daskgd.engines.cache_manager`.
    streamed_sweeps : int
        Sweeps at first of which none are kept.
    whole_partitions : bool
        Whether they are kept by whole partitions.
    left_out : collection of str
        Addresses of workers that are not to be used.
    ahead_bytes : int
        Most bytes of rows that a task asks a store at a URL for before it needs them; at least a block.
    """

    def __init__(
        self,
        dataset: Dataset,
        get: Callable[..., Any] | distributed.Client = dask.threaded.get,
        tasks: int | None = None,
        memory: MemoryBudget = 0,
        streamed_sweeps: int = 0,
        whole_partitions: bool = False,
        left_out: Collection[str] = (),
        ahead_bytes: int = 0,
    ) -> None:
        self.dataset = dataset
        self.client = get if isinstance(get, distributed.Client) else None
        self.get = get
        self.tasks = tasks
        self.streamed_sweeps = streamed_sweeps
        self.nbytes = dataset.nbytes
        self.share = 1.0
        self.wire_bytes = 0
        self.n_sweeps = 0
        self.tasks_per_sweep: list[int] = []
        self._source = replace(dataset.source, ahead_bytes=ahead_bytes)
        self.token = uuid4().hex[:8]
        self.last: Timing | None = None
        self.on_sweep: Callable[[Timing], None] | None = None
        self.on_part: Callable[[float], None] | None = None
        self._clock = Clock(_is_stored(dataset))
        self._threads = 1
        self._cluster = Cluster(self.client, left_out) if self.client is not None else None
        self._access = StoreAccess(self._cluster, dataset) if self._cluster is not None else None
        self._attempts = 0
        self._speculation = Speculation(self._cluster) if self._cluster is not None else None
        self._speeds = Speeds()
        self._workers: list[str] = []  # that tasks may go to, if not to all
        self._task_spans: list[TaskSpan] = []
        self._memory: defaultdict[int, PartitionMemory] = defaultdict(dict)  # by partition
        self.cache_manager: CacheManager | None = None
        self._version_read = 0  # of what it assigned, all that has been read
        if memory != 0 and can_keep(dataset, get):
            self.cache_manager = CacheManager.of(
                dataset, self.client, memory, whole_partitions, self.token, ahead_bytes
            )

    def sweep(self, asks: Sequence[Ask]) -> list[Any]:
        """One read of the data; the answers in the order of the asks."""
        self._clock.start()
        self.n_sweeps += 1
        self._reported_at = time.monotonic()
        layout, wanted = self._source.layout, Wanted(asks, self._source.layout)
        with reaching(self.client, self._describe_task), stepped_aside(), one_blas_thread():
            while (partial := self._attempt(asks, wanted)) is None:
                pass
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
            [length(tuple(nodes)) for address, nodes in self._task_spans if self._is_kept(address, nodes)],
            worker_address() if self.client is not None else None,
            0 if self._speculation is None else self._speculation.n_tasks,
        )
        self._speeds.note(self.last, {} if self._speculation is None else self._speculation.late)
        if self.on_sweep is not None:
            self.on_sweep(self.last)
        return answers

    def _attempt(self, asks: Sequence[Ask], wanted: Wanted) -> Partial | None:
        """The sums of all rows; None where it has to begin anew: a worker that joined meanwhile cannot
        read them, and is left out, or those that tasks were meant for have left."""
        self._attempts += 1
        threads = self._usable_threads()
        self._threads = max(sum(threads.values()), 1)
        task_spans = self.task_spans(asks, wants_partitions(asks), threads)
        self._task_spans, unwanted = drop_unwanted(task_spans, wanted)
        found: dict[Node, Partial] = {node: Partial([None] * len(asks), {}) for node in unwanted}
        try:
            if self._task_spans:
                found.update(self._run(list(asks), self._task_spans))
        except (AccessError, Stranded) as error:
            if isinstance(error, AccessError):
                if self._access is None:
                    raise
                self._access.leave_out(error)
            self.tasks_per_sweep.pop()
            return None
        if self._access is not None:
            self._access.has_read = True
        if self.cache_manager is not None:
            self._version_read = self.cache_manager.version
        (partial,) = join(found, self._source.layout.n_blocks).values()
        return partial

    def _usable_threads(self) -> dict[str, int]:
        """Threads of this process, or of the workers that can be used now, by address; of a cluster without
        any, once there is one."""
        if self._cluster is None or self._access is None or self._speculation is None:
            return threads_of(None)
        threads = self._speculation.begin(self._access.threads(demand_tasks(self.nbytes)))
        fast = [address for address in threads if address not in self._speeds.slow] or list(threads)
        self._workers = fast if len(fast) < self._cluster.n_workers else []
        return threads

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
        """Drop the caches, which gives their memory back."""
        if self.cache_manager is not None:
            self.cache_manager.close()

    def task_spans(
        self, asks: Sequence[Ask], whole_partitions: bool, threads: dict[str, int]
    ) -> list[TaskSpan]:
        """What each task of a sweep walks, on workers with so many threads each."""
        layout, manager = self._source.layout, self.cache_manager
        unit = layout.partition_blocks if whole_partitions else 1
        slow = self._speeds.slow
        kept: dict[str, Runs] = {}
        if manager is not None and unit <= manager.unit_blocks and self.n_sweeps > self.streamed_sweeps:
            kept = manager.assign(threads, slow)
        seconds = None if self.last is None else self.last.seconds
        return spans_of_sweep(
            self.dataset,
            asks,
            threads,
            kept,
            whole_partitions,
            self.client is None,
            self.tasks,
            seconds,
            slow,
        )

    def _run(self, asks: list[Ask], task_spans: list[TaskSpan]) -> dict[Node, Partial]:
        """What the task spans add to the sums, merged as far as their nodes of the tree are neighbours."""
        n_blocks = self._source.layout.n_blocks
        if self._is_one_call(task_spans):
            self.tasks_per_sweep.append(1)
            address, nodes = task_spans[0]
            key = ("daskgd-call", self.n_sweeps)
            memory, cache = self._memory_of(nodes), self._cache(address)
            return Span(key, self._source, nodes, memory, [], os.getpid(), asks, cache)()
        self.tasks_per_sweep.append(0)
        parts: list[dict[Node, Partial]] = []
        graphs = self._graphs(asks, task_spans)
        if self._cluster is None:
            running = self._run_locally(graphs)
        else:
            running = self._run_on_cluster(self._cluster, graphs, asks)
        with closing(running):  # also where a traceback keeps it
            for found in running:
                parts += found
        return Merge(("daskgd-merge",), n_blocks)(parts)

    def _run_locally(self, graphs: Iterator[TaskGraph]) -> Generator[list[Any], None, None]:
        """The results of each graph, run by a scheduler of dask on this machine."""
        for graph, keys, _ in graphs:
            self.tasks_per_sweep[-1] += _n_tasks(graph)
            tick = count(1)

            def done(*_: Any, tick: Any = tick, n: int = len(graph)) -> None:
                self._report_part(next(tick) / n)

            with dask.callbacks.Callback(posttask=done):  # called in this thread
                yield self.get(graph, keys, num_workers=n_threads(None))  # type: ignore[operator]

    def _run_on_cluster(
        self, cluster: Cluster, graphs: Iterator[TaskGraph], asks: list[Ask]
    ) -> Generator[list[Any], None, None]:
        """The results of each graph, run on a cluster: the next one runs while those of one are gathered."""
        running: deque[tuple[list[Any], LateTasks, set[str]]] = deque()

        def gathered() -> Any:
            futures, late, meant_for = running[0]
            name = asks[0].query.name
            found = cluster.gather(futures, name, self._describe_task, self._report_part, late, meant_for)
            running.popleft()
            return found

        futures: list[Any] = []
        try:
            for graph, keys, addresses in graphs:
                self.tasks_per_sweep[-1] += _n_tasks(graph)
                # Where some workers are to be left alone, the others may not be stolen from by them.
                futures = self._submit(graph, keys, addresses, strict=bool(self._workers))
                meant_for = {address for some in addresses.values() for address in some}
                running.append((futures, self._late_tasks(graph, keys, futures, asks), meant_for))
                if len(running) > 1:
                    yield gathered()
            while running:
                yield gathered()
        finally:
            release(futures)  # the last ones, which may not be running yet
            for others, _, _ in running:
                release(others)

    def _submit(
        self, graph: Mapping[Any, Any], keys: list[Any], addresses: Mapping[Any, list[str]], strict: bool
    ) -> list[Any]:
        """Send a graph to the cluster: the futures of its `keys`. Tasks that have addresses go to one of
        them, and to no other if that is `strict`."""
        where: dict[str, Any] = {}
        if addresses:
            where = {"workers": addresses.__getitem__, "allow_other_workers": not strict}
        with warnings.catch_warnings(), dask.annotate(**where):
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            try:
                futures: list[Any] = self.client.get(graph, keys, sync=False)  # type: ignore[union-attr]
            except BaseException as error:
                clear_frames(error.__traceback__)  # of an interrupt in distributed: they hold futures
                raise
        return futures

    def _late_tasks(
        self, graph: dict[Any, Any], keys: list[Any], futures: list[Any], asks: list[Ask]
    ) -> LateTasks:
        """What gives late tasks of a graph that is on its way to other workers too."""
        assert self._speculation is not None
        manager = self.cache_manager
        to_read = manager is not None and manager.version != self._version_read
        per_block = self._speeds.block_seconds(names(asks), to_read)
        blocks = max(length(tuple(nodes)) for _, nodes in self._task_spans)

        def submit(graph: dict[Any, Any], keys: list[Any], workers: list[str]) -> list[Any]:
            return self._submit(graph, keys, among(workers, graph), strict=True)

        return LateTasks(
            self._speculation,
            graph,
            dict(zip(keys, futures, strict=True)),
            Watch(
                None if per_block is None else per_block * blocks,
                len(self._task_spans) >= self._threads and not self._speeds.slow,
            ),
            submit,
            self._describe_task,
            {*self._workers, *(address for address, _ in self._task_spans if address)}
            if self._workers
            else (),
        )

    def _report_part(self, share: float) -> None:
        """Tell `on_part` which share of a sweep is done, every half second of a long one."""
        now = time.monotonic()
        if self.on_part is not None and now - self._reported_at >= REPORT_SECONDS:
            self._reported_at = now
            self.on_part(share)

    def _is_one_call(self, task_spans: list[TaskSpan]) -> bool:
        """Whether the sweep is one function call in this process, with nothing to schedule."""
        return self.client is None and len(task_spans) == 1

    def _graphs(self, asks: list[Ask], task_spans: list[TaskSpan]) -> Iterator[TaskGraph]:
        """The graphs of a sweep, each made when it is needed (see :func:`graph_sizes`)."""
        payload = Payload.of(asks, self.dataset.n_features)
        threads = None if self.client is None else n_threads(self.client)
        first = 0
        for size in graph_sizes(len(task_spans), payload, threads):
            yield self._graph(asks, task_spans[first : first + size], first, payload)
            first += size

    def _graph(self, asks: list[Ask], task_spans: list[TaskSpan], first: int, payload: Payload) -> TaskGraph:
        """One graph of span tasks, numbered from `first`, and merge tasks.

        Sums that hold rows are not merged by tasks, where they would pile up on one worker.

        Keys are tuples of a name with a token of the fit, the sweep, and the place: a key used twice while
        an old future lives would return the old result.
        """
        name, sweep, n_blocks = asks[0].query.name, self._attempts, self._source.layout.n_blocks
        graph: dict[Any, Any] = {}
        addresses: defaultdict[Any, list[str]] = defaultdict(list)
        key: Any
        source, held = self._sendable(graph)
        carried: tuple[list[Ask] | None, Any] = (asks, None)
        question = ("daskgd-ask-" + self.token, sweep, first)
        if self.client is not None and asks_are_a_task(asks, len(task_spans)):
            graph[question] = Task(question, Questions(question, asks))
            carried = (None, TaskRef(question))
        keys: list[Any] = []
        for i, (address, nodes) in enumerate(task_spans, first):
            key = (f"daskgd-{name}-{self.token}", sweep, i)
            where, refs = held(nodes)
            memory, cache = self._memory_of(nodes), self._cache(address)
            work = Span(key, source, nodes, memory, where, os.getpid(), carried[0], cache)
            graph[key] = Task(key, work, carried[1], List(*refs))
            keys.append(key)
            if address and self.client is not None:
                addresses[key] = [address]
        level = 0
        while not payload.carries_rows and len(keys) > payload.driver_parts:
            level += 1
            above, width = [], payload.merge_width
            for i in range(0, len(keys), width):
                key = (f"daskgd-merge-{self.token}", sweep, level, i // width)
                graph[key] = Task(key, Merge(key, n_blocks), List(*map(TaskRef, keys[i : i + width])))
                above.append(key)
            keys = above
        if self._workers:
            addresses.update({k: v for k, v in among(self._workers, graph).items() if k not in addresses})
        return graph, keys, addresses

    def _describe_task(self, key: Any) -> str:
        """What a task of this fit does, in words for messages; "" for other tasks."""
        name, layout = str(key[0] if isinstance(key, tuple) else key), self._source.layout
        if not name.endswith(self.token):
            return ""
        part = name.split("-")[1]
        if part != "cache" and key[1] != self._attempts:
            return ""  # nobody waits for it any more
        others = {"ask": "the questions", "merge": "a merge of sums", "cache": "an empty cache"}
        if part in others:
            return others[part]
        (_, nodes) = self._task_spans[key[2]]
        start, stop = layout.rows(*nodes[0])
        more = f" and {len(nodes) - 1} more runs" if len(nodes) > 1 else ""
        block = format_bytes(self.nbytes * layout.block_rows // layout.n_rows)
        return f"rows {start}:{stop}{more}, in blocks of {block}"

    def _is_kept(self, address: str, nodes: list[Node]) -> bool:
        """Whether the blocks of a task span are to be kept in memory, at the worker that it is for."""
        if not address or self.cache_manager is None:
            return False
        (first, _), *_ = nodes
        return any(lo <= first < hi for lo, hi in self.cache_manager.runs.get(address, ()))

    def _cache(self, address: str) -> tuple[str, str] | None:
        """The name of this fit's cache at a worker, for :func:`daskgd.engines.worker_cache.worker_cache`."""
        return (self.token, address) if address else None

    def _memory_of(self, nodes: list[Node]) -> PartitionMemory:
        """What partition queries remember of the partitions under some nodes."""
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


def spans_of_sweep(
    dataset: Dataset,
    asks: Sequence[Ask],
    threads: Mapping[str, int],
    kept: Mapping[str, Runs],
    whole_partitions: bool,
    local: bool,
    tasks: int | None = None,
    seconds: float | None = None,
    slow: Mapping[str, float] = MappingProxyType({}),
) -> list[TaskSpan]:
    """What each task of a sweep that asks this walks: at most `tasks` of what is streamed, by default
    ``daskgd.tasks-per-thread`` for each thread, or one where sums are large. Fewer where the rows lie in this
    process, and tasks run there (`local`), and would hardly have more to do than it takes to schedule them.
    More on a cluster, so that an adaptive one sees what there is to do: of many rows in the first sweep, and
    of rows in memory if the sweep before took many `seconds` (None: there is none before). `slow` are the
    speeds of slow workers."""
    payload = Payload.of(asks, dataset.n_features)
    most = (1 if payload.wide else int(setting("tasks-per-thread"))) * max(sum(threads.values()), 1)
    if local and in_this_process(dataset.columns.X):
        payload = replace(payload, row_payload_nbytes=0)  # rows stay where they are
        if not (whole_partitions or any(ask.query.compute_bound for ask in asks)):
            products = max(
                [1, *(ask.problem.model.size // dataset.n_features for ask in asks if ask.problem)]
            )
            most = min(most, max(1, dataset.nbytes * products // TASK_BYTES))
    least = 0
    if tasks is None and not (local or payload.wide):
        least = demand_tasks(dataset.nbytes) if seconds is None else most if seconds > LONG_SECONDS else 0
    return task_spans(dataset.layout, threads, kept, payload, tasks or most, whole_partitions, least, slow)


def asks_are_a_task(asks: list[Ask], n_spans: int) -> bool:
    """Whether the asks of a graph on a cluster are too large for each of its span tasks to carry them."""
    carried_bytes = min(QUESTION_BYTES, QUESTIONS_BYTES // max(n_spans, 1))
    return pickled_size(asks, "objective") > carried_bytes


def count_tasks(asks: list[Ask], n_spans: int, payload: Payload, client: distributed.Client | None) -> int:
    """The tasks of all graphs that a sweep makes of so many task spans."""
    if client is None and n_spans == 1:
        return 1
    sizes = graph_sizes(n_spans, payload, None if client is None else n_threads(client))
    questions = sum(client is not None and asks_are_a_task(asks, size) for size in sizes)
    return n_spans + questions + sum(count_merge_tasks(size, payload) for size in sizes)


def _n_tasks(graph: Mapping[Any, Any]) -> int:
    """The tasks of a graph; other values of it are data."""
    return sum(isinstance(task, Task) for task in graph.values())


def can_keep(dataset: Dataset, get: Any) -> bool:
    """Whether rows can stay in memory: read from a store, by tasks in processes that outlive them."""
    lasting = isinstance(get, distributed.Client) or get in (dask.threaded.get, dask.local.get_sync)
    return (
        lasting
        and _is_stored(dataset)
        and all(column.on_workers is None for column in dataset.columns.present.values())
    )


def _is_stored(dataset: Dataset) -> bool:
    return any(column.path is not None for column in dataset.columns.present.values())
