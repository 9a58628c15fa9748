"""Tasks that are late, and who is to do them as well: the first answer counts.

Sums are the same bits whoever made them, and tasks change nothing but what they return, so that a task may
be done twice. A worker is late where it finishes none of its spans for much longer than a span takes, sends
no heartbeats, or is paused, while another has nothing to do. What only a late worker has or does is then
given to others: spans, finished ones too whose results lie in its memory, and the merges above them. Until it
is heard from again, and has done what it was at, it gets no more. The file knows keys, addresses and seconds;
it must not know rows or queries.
"""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from daskgd._compat.dask import List, Task, TaskRef
from daskgd._compat.distributed import heartbeat_seconds, is_busy, who_has, workers_info
from daskgd.engines.cluster import Cluster
from daskgd.engines.tasks import Merge, Span

logger = logging.getLogger("daskgd")

LATE, LATE_SECONDS, FIRST_SECONDS = 3.0, 1.0, 3.0
"""A worker is late when it has finished no span for so many times what the median span takes, and for at
least so many seconds; for more in the first sweep of its kind, when processes may still be importing."""

MISSED = 5
"""Heartbeats that a silent worker has missed."""

CHOICE = 8
"""Most workers that a task may go to where some are to be avoided: the lists are sent with every task."""


class Watch:
    """The span tasks of a sweep, as they are seen at each look: where they are, and how long they take.

    Parameters
    ----------
    usual : float or None
        Seconds that a span took in earlier sweeps; None where these are not known.
    enough : bool
        Whether there were spans for all workers, so that who has none has finished some.
    """

    def __init__(self, usual: float | None = None, enough: bool = True) -> None:
        self.usual, self.enough = usual, enough
        self.idle: set[str] = set()
        self._at: dict[str, set[Any]] = {}
        self._since: dict[str, float] = {}
        self._took: list[float] = []
        self._first = True

    def see(
        self, spans: Mapping[str, Collection[Any]], now: float, unused: Collection[str] = frozenset()
    ) -> None:
        """The spans that each worker has to do at this moment, by its address.

        Those that are `unused` get none, and that they have nothing to do says nothing. Workers that are not
        named any more have left.
        """
        self._at = {address: keys for address, keys in self._at.items() if address in spans}
        for address, keys in spans.items():
            before, mine = self._at.get(address, set()), set(keys)
            finished = len(before - mine)
            if finished:
                self._took.append(now - self._since[address])
            if finished or not before:
                self._since[address] = now
            self._at[address] = mine
        self.idle = {address for address, keys in spans.items() if not keys and address not in unused}
        if self._first and self.enough and self.idle and any(spans.values()):
            self._took.append(LATE_SECONDS)  # done before the first look; later ones may just have joined
        self._first = False

    def since(self, address: str) -> float:
        """When a worker last finished a span, or was first seen to have one."""
        return self._since[address]

    def late(self, now: float) -> set[str]:
        """The workers that have finished nothing for too long, while others have nothing to do."""
        if not self.idle or (self.usual is None and not self._took):
            return set()
        if self.usual is not None:
            most = max(LATE * self.usual, LATE_SECONDS)
        else:
            most = max(LATE * statistics.median(self._took), FIRST_SECONDS)
        return {address for address, keys in self._at.items() if keys and now - self.since(address) >= most}


def again(
    graph: Mapping[Any, Any],
    keys: Sequence[Any],
    ready: Callable[[Any], bool],
    generation: int,
) -> tuple[dict[Any, Any], list[Any]]:
    """The tasks that are to be done once more, so that `keys` of a graph need nothing that is not `ready`.

    Returns new tasks, which refer to old keys where these are ready, and the keys that replace `keys`. A new
    key is the old one with the number of the `generation`. Spans read without a cache. Data held by workers
    cannot be made again: what needs it goes on as it is.
    """
    tasks: dict[Any, Any] = {}
    known: dict[Any, Any] = {}

    def made(key: Any) -> Any:
        if key not in known:
            known[key] = key if ready(key) else remade(key)
        return known[key]

    def remade(key: Any) -> Any:
        task = graph.get(key)
        if not isinstance(task, Task):
            return key
        work: Any = task.func
        other = (*key, generation)
        if isinstance(work, Merge):
            parts = [made(part) for part in sorted(task.dependencies)]
            if not all(part in tasks or ready(part) for part in parts):
                return key
            tasks[other] = Task(other, replace(work, key=other), List(*map(TaskRef, parts)))
        elif isinstance(work, Span):
            asks, pieces = task.args
            if not all(map(ready, pieces.dependencies)):
                return key
            if isinstance(asks, TaskRef):
                asks = TaskRef(made(asks.key))
            tasks[other] = Task(other, replace(work, key=other, worker_cache=None), asks, pieces)
        else:
            tasks[other] = Task(other, replace(work, key=other))
        return other

    return tasks, [made(key) for key in keys]


class Speculation:
    """Which workers of a cluster a fit does without for now, and what it has others do as well.

    Parameters
    ----------
    cluster : Cluster

    Attributes
    ----------
    suspects : set of str
        Workers that were late, and are not used until they are heard from and have done what they were at.
    n_tasks : int
        Span tasks that were given to another worker as well, in this sweep.
    late : mapping
        For workers that were late in this sweep the blocks of the task that they were at, and its seconds so
        far.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.suspects: set[str] = set()
        self.n_tasks = 0
        self.late: dict[str, tuple[int, float]] = {}

    def begin(self, threads: Mapping[str, int]) -> dict[str, int]:
        """Begin a sweep, on those of the workers, with so many threads each, that can be used."""
        self.n_tasks, self.late = 0, {}
        if self.suspects:
            self.suspects &= set(threads)
            info = self.workers()
            silent = silent_workers(info)
            self.suspects = {
                address
                for address in self.suspects
                if address not in info or address in silent or is_busy(info[address])
            }
        good = {address: n for address, n in threads.items() if address not in self.suspects}
        return good or dict(threads)

    def workers(self) -> Mapping[str, Any]:
        """What the scheduler knows of each worker; nothing where it does not answer."""
        return (self.cluster.ask(lambda: workers_info(self.cluster.client)) or {}).get("workers", {})


def silent_workers(info: Mapping[str, Any]) -> set[str]:
    """The workers that have sent no heartbeats for a while, or begin no tasks as they are paused or about to
    leave, of what the scheduler knows of them."""
    latest = max((w["last_seen"] for w in info.values()), default=0.0)
    most = MISSED * heartbeat_seconds(len(info))
    return {a for a, w in info.items() if latest - w["last_seen"] > most or w["status"] != "running"}


def among(workers: Sequence[str], keys: Iterable[Any]) -> dict[Any, list[str]]:
    """The workers that the task of each key may go to: some of these, in turn, where they are many.

    >>> among(["a", "b"], ["x", "y"])
    {'x': ['a', 'b'], 'y': ['a', 'b']}
    """
    n = len(workers)
    if n <= CHOICE:
        return {key: list(workers) for key in keys}
    return {key: [workers[(i + j) % n] for j in range(CHOICE)] for i, key in enumerate(keys)}


Submit = Callable[[dict[Any, Any], list[Any], list[str]], list[Any]]
"""Sends tasks to a cluster: their graph, the keys that are wanted, and the workers they may go to."""


class LateTasks:
    """The tasks of one graph on its way, and those that are done once more: called at each look.

    Parameters
    ----------
    speculation : Speculation
    graph : mapping
        Tasks by key.
    futures : mapping
        Of the keys that are gathered.
    watch : Watch
    submit : callable
    describe : callable
        What a task does, in words.
    workers : collection of str
        The only workers that tasks of the graph may go to; none for all.
    """

    def __init__(
        self,
        speculation: Speculation,
        graph: Mapping[Any, Any],
        futures: Mapping[Any, Any],
        watch: Watch,
        submit: Submit,
        describe: Callable[[Any], str],
        workers: Collection[str] = (),
    ) -> None:
        self.speculation, self.watch, self.submit, self.describe = speculation, watch, submit, describe
        self.graph = dict(graph)
        self.futures = dict(futures)
        self.keys = list(futures)
        self.workers = set(workers)
        self.generation = 0
        self._done_for: dict[str, set[Any]] = {}  # what suspects had to do when it was given to others
        self._spans = self._spans_of(graph)
        self._looked = time.monotonic()

    def __call__(self, processing: Mapping[str, Collection[Any]]) -> list[Any] | None:
        """What to gather as well, if that is to be, where workers have these tasks to do."""
        now, speculation = time.monotonic(), self.speculation
        left_out = speculation.cluster.left_out
        spans = {address: [key for key in keys if key in self._spans] for address, keys in processing.items()}
        self.watch.see(spans, now, speculation.suspects | left_out)
        late = self.watch.late(now)
        found = late | (self._silent(now, len(processing)) & set(processing)) - left_out
        suspects = found | (speculation.suspects & set(processing))
        has = {address: self.graph.keys() & set(processing[address]) for address in suspects}
        unserved = found - set(self._done_for) or any(
            keys - self._done_for.get(address, set()) for address, keys in has.items()
        )
        gone = self.workers - set(processing)  # their tasks may not go to others by themselves
        cancelled = any(self.futures[key].status == "cancelled" for key in self.keys)
        if not (unserved or gone or cancelled):
            return None
        able = set(processing) - suspects - left_out
        ready = self._readiness(processing, able) if able else None
        if ready is None:
            return None
        self._done_for |= has
        self.workers -= gone
        speculation.suspects |= suspects
        for address in late:
            blocks = max(self._blocks(key) for key in spans[address])
            speculation.late[address] = blocks, now - self.watch.since(address)
        self.generation += 1
        tasks, keys = again(self.graph, self.keys, ready, self.generation)
        new = [key for key in keys if key in tasks]
        if not new:
            return None
        good = sorted(able)
        self._tell(suspects, spans)
        self.graph.update(tasks)
        self._spans |= self._spans_of(tasks)
        speculation.n_tasks += len(self._spans_of(tasks))
        self.futures.update(zip(new, self.submit(tasks, new, good), strict=True))
        self.keys, self.workers = keys, set(good)
        return [self.futures[key] for key in keys]

    def _readiness(
        self, processing: Mapping[str, Collection[Any]], able: Collection[str]
    ) -> Callable[[Any], bool] | None:
        """Whether a key needs nothing of other workers than the `able`; None if the scheduler is silent."""
        client = self.speculation.cluster.client
        holders = self.speculation.cluster.ask(lambda: who_has(client, self.graph))
        if holders is None:
            return None
        held = {key for key, addresses in holders.items() if not set(able).isdisjoint(addresses)}
        on_its_way = {key for address in able for key in processing[address]}

        def ready(key: Any) -> bool:
            needed = getattr(self.graph[key], "dependencies", ())  # of data held by workers it knows best
            return key in held or (key in on_its_way and held.issuperset(needed))

        return ready

    def _silent(self, now: float, n_workers: int) -> set[str]:
        """The silent and paused workers, asked for where others have nothing to do, and not too often."""
        pause = max(MISSED * heartbeat_seconds(n_workers), n_workers / 50)
        if not self.watch.idle or now - self._looked < pause:
            return set()
        self._looked = now
        return silent_workers(self.speculation.workers())

    def _blocks(self, key: Any) -> int:
        return sum(hi - lo for lo, hi in self.graph[key].func.nodes)

    @staticmethod
    def _spans_of(graph: Mapping[Any, Any]) -> set[Any]:
        return {key for key, task in graph.items() if isinstance(getattr(task, "func", None), Span)}

    def _tell(self, suspects: Collection[str], spans: Mapping[str, Sequence[Any]]) -> None:
        for address in sorted(suspects):
            if self.speculation.cluster.is_new(address):
                todo = [self.describe(key) for key in spans.get(address, ())[:1]]
                logger.warning(
                    "%s is late%s: what only it has or does is given to other workers as well, and it gets "
                    "no more until it is heard from and has done that",
                    address,
                    f" ({todo[0]})" if todo else "",
                )
