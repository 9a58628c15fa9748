"""Choosing the engine of a fit: what runs its tasks, with the rows materialised and a cache for them.

The only file that knows all engines. It knows settings, clients and data sets; it must not know solvers,
queries or estimators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import dask
import distributed

from daskgd._compat.dask import configured_scheduler
from daskgd.config import setting
from daskgd.data.dataset import Dataset
from daskgd.engines.base import Engine
from daskgd.engines.cache_manager import CacheManager, MemoryBudget
from daskgd.engines.cluster import THIS_PROCESS, Cluster, n_threads, reaching
from daskgd.engines.graph import Graph, can_keep
from daskgd.engines.placement import materialise
from daskgd.engines.preflight import check_processes
from daskgd.engines.serial import Serial
from daskgd.engines.store_access import StoreAccess
from daskgd.engines.task_spans import demand_tasks
from daskgd.engines.worker_cache import CachedSource
from daskgd.engines.worker_memory import NO_NUMBERS, Need, Numbers, ahead_bytes, check_memory, room_of_task
from daskgd.rows.tiles import BlockSource
from daskgd.storage.buffer_pool import release_buffers

Choice = str | Callable[[Dataset], Engine] | None


def check_engine(engine: Choice) -> None:
    """Raise ValueError unless `engine` is one of the choices of :func:`open_engine`, and can be used here."""
    if not (engine is None or engine in ("serial", "threads", "distributed") or callable(engine)):
        raise ValueError(
            'engine: expected None, "serial", "threads", "distributed" or a callable that makes an engine '
            f"of a Dataset, got {engine!r}"
        )
    if engine in (None, "distributed"):
        _check_client(engine)


def _check_client(engine: Choice) -> None:
    """Raise ValueError where the engine is a client whose event loop is what calls, and would be blocked."""
    try:
        if not distributed.default_client().asynchronous:
            return
        if engine is None:
            configured_scheduler()  # which may be another one than the client
            return
    except ValueError:  # there is no client
        return
    except RuntimeError:  # what is configured is the client
        pass
    raise ValueError(
        "the current client is asynchronous, and would wait for the event loop that this is called in; call "
        "it in a thread, as in `await asyncio.to_thread(est.fit, X, y)`, or make a client without "
        "asynchronous=True"
    )


def client_of(engine: Choice) -> Any:
    """The client whose cluster runs the tasks of a choice of engine; None where none does."""
    found = scheduler_of(engine)
    return found if isinstance(found, distributed.Client) else None


def scheduler_of(engine: Choice) -> Any:
    """The client, or the scheduler of dask on this machine, that runs the tasks of a choice of engine."""
    check_engine(engine)
    if engine not in (None, "distributed"):
        return dask.threaded.get
    try:
        found = configured_scheduler()
    except RuntimeError as error:
        raise ValueError(
            f"dask.config's scheduler is {dask.config.get('scheduler')!r}, but there is no current client "
            "(Dask leaves the setting behind where a client is closed while another is open); make a client "
            "with distributed.Client(...), or take it back with dask.config.set(scheduler=None)"
        ) from error
    if engine == "distributed" and not isinstance(found, distributed.Client):
        with suppress(ValueError):  # whatever dask.config's scheduler says
            found = distributed.default_client()
    if isinstance(found, distributed.Client):
        return found
    if engine == "distributed":
        raise ValueError(
            'engine="distributed": expected a current client, found none; '
            "make one with distributed.Client(...)"
        )
    return found or dask.threaded.get


@contextmanager
def open_engine(
    dataset: Dataset,
    engine: Choice = None,
    *,
    whole_partitions: bool = False,
    row_payload_nbytes: int = 0,
    numbers: Numbers = NO_NUMBERS,
    memory: MemoryBudget = 0,
    streamed_sweeps: int = 0,
    view_row_bytes: int = 0,
) -> Iterator[tuple[Engine, Dataset]]:
    """Make an engine and the materialised dataset that it reads; at the end of the context both are gone.

    Parameters
    ----------
    dataset : Dataset
    engine : None, "serial", "threads", "distributed" or callable
        None takes what ``dask.config``'s scheduler says, else the current client, else threads.
        "distributed" takes the current client. A callable makes an engine of a materialised Dataset.
    whole_partitions : bool
        Whether a solver will need whole partitions in memory.
    row_payload_nbytes : int
        Bytes of rows that a sweep will return.
    numbers : Numbers
        How many numbers parameters and sums will have.
    memory : "auto", float or int
        Rows to keep between sweeps: see :mod:`daskgd.engines.cache_manager`.
    streamed_sweeps : int
        Sweeps at first of which none are kept.
    view_row_bytes : int
        Bytes of what views make of a row, at most: one view is made at a time.

    Raises ValueError, with the size that would fit, if a block (or a whole partition, where the solver
    needs it) is too much for every worker's memory.
    """
    get = scheduler_of(engine)
    client = get if isinstance(get, distributed.Client) else None
    with ExitStack() as stack:
        if client is None:
            stack.callback(release_buffers)
        with reaching(client):
            demand = demand_tasks(dataset.nbytes)
            threads = max(_threads_ready(client, dataset, demand), 1)
            tasks = int(setting("tasks-per-thread")) * threads
            tasks = 1 if engine == "serial" else tasks if client is None else max(tasks, demand)
            left_out = check_memory(
                dataset, client, whole_partitions, row_payload_nbytes, numbers, view_row_bytes
            )
            need = Need.of(dataset, whole_partitions, row_payload_nbytes, numbers, view_row_bytes)
            room = room_of_task(client, threads, left_out)
            ready = stack.enter_context(materialise(dataset, get, tasks))
        if engine == "serial":
            cached = _cached_source(ready, memory, whole_partitions)
            yield Serial(ready.source, ready.nbytes, cached, streamed_sweeps), ready
        elif callable(engine):
            yield engine(ready), ready
        else:
            graph = Graph(
                ready,
                get,
                memory=memory,
                streamed_sweeps=streamed_sweeps,
                whole_partitions=whole_partitions,
                left_out=left_out,
                ahead_bytes=ahead_bytes(ready, need, room),
            )
            try:
                yield graph, ready
            finally:
                graph.close()


def _threads_ready(client: distributed.Client | None, dataset: Dataset, tasks: int) -> int:
    """Wait until there are threads that can compute, some of about so many `tasks`, and see the data: their
    number."""
    if client is None:
        return n_threads(None)
    cluster = Cluster(client)
    threads = cluster.threads(tasks)
    check_processes(cluster, threads)
    StoreAccess(cluster, dataset).check(threads)
    return sum(threads.values())


def _cached_source(dataset: Dataset, memory: MemoryBudget, whole_partitions: bool) -> BlockSource | None:
    """The source of a dataset with a cache in this process; None where `memory` allows none."""
    if memory == 0 or not can_keep(dataset, dask.threaded.get):
        return None
    manager = CacheManager.of(dataset, None, memory, whole_partitions)
    manager.assign({THIS_PROCESS: 1})
    cache = manager.caches.get(THIS_PROCESS)
    return None if cache is None else CachedSource(dataset.source, cache)
