"""What distributed does not promise: questions that do not block, who asks, pickling as on the wire.

And tasks whose results are told as they come, on a cluster or on this machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from weakref import WeakKeyDictionary

import dask
import distributed
from dask.callbacks import Callback
from dask.system import CPU_COUNT
from distributed import scheduler
from distributed.protocol.pickle import dumps

from daskgd._compat.dask import configured_scheduler

# The client has public questions of the same kind as these coroutines, but they block for as long as the
# scheduler is silent; these can be given up.


def worker_threads(client: distributed.Client) -> Awaitable[Mapping[str, int]]:
    """Threads by address of worker."""
    return _scheduler(client).ncores(workers=None)


def worker_processing(client: distributed.Client) -> Awaitable[Mapping[str, Any]]:
    """Keys of the tasks that each worker has to do, by its address."""
    return _scheduler(client).processing(workers=None)


def workers_info(client: distributed.Client) -> Awaitable[Mapping[str, Any]]:
    """What the scheduler knows of itself and, under ``"workers"``, of each worker by its address."""
    return _scheduler(client).identity(n_workers=-1)


def who_has(client: distributed.Client, keys: Iterable[Any]) -> Awaitable[Mapping[Any, Any]]:
    """Addresses of the workers that hold the result of each key."""
    return _scheduler(client).who_has(keys=list(keys))


BUSY = ("executing", "cancelled", "resumed")
"""States of tasks that a thread of a worker is at, also where nobody wants them any more."""


def is_busy(worker: Mapping[str, Any]) -> bool:
    """Whether a thread of a worker was at work at its last heartbeat; `worker` is of :func:`workers_info`."""
    counts = worker["metrics"].get("task_counts", {})
    return any(counts.get(state) for state in BUSY)


def heartbeat_seconds(n_workers: int) -> float:
    """Seconds between two heartbeats of a worker, of so many."""
    return float(scheduler.heartbeat_interval(n_workers))


def _scheduler(client: distributed.Client) -> Any:
    return client.scheduler


_addresses: WeakKeyDictionary[distributed.Client, str] = WeakKeyDictionary()
"""Where the schedulers of clients are: a client forgets it when it gives up the connection."""


def scheduler_address(client: distributed.Client) -> str:
    """Where the scheduler is, or was when it was last asked for, if the connection is lost since."""
    scheduler = client.scheduler
    if scheduler is not None:
        _addresses[client] = str(scheduler.address)
    return _addresses.get(client, "an unknown address")


def worker_address() -> str:
    """The address of the worker that runs this task; "" where none does."""
    try:
        return distributed.get_worker().address
    except ValueError:
        return ""


def wire_pickle(value: Any) -> bytes:
    """What is sent of a value to a worker; raises what is raised where it cannot be.

    Whether it can, and how large it is, are questions to the same function that sends it.
    """
    return dumps(value)


def n_threads() -> int:
    """Threads of the cluster there is, at least 8 as more may join; else those that dask uses here."""
    found = configured_scheduler()
    if isinstance(found, distributed.Client):
        return max(sum(found.nthreads().values()), 8)
    return int(dask.config.get("num_workers", None) or CPU_COUNT)


def compute_each(tasks: Sequence[Any], note: Callable[[Any], None]) -> list[Any]:
    """The results of dask.delayed tasks in one graph, on the cluster there is or on this machine; `note` is
    called with each as it comes."""
    found = configured_scheduler()
    if isinstance(found, distributed.Client):
        futures = found.compute(list(tasks))
        results: dict[Any, Any] = {}
        try:
            for future, result in distributed.as_completed(futures, with_results=True):
                note(result)
                results[future.key] = result
            return [results[future.key] for future in futures]
        finally:
            for future in futures:
                future.release()
    keys = {task.key for task in tasks}
    # Dask's threads go on with their tasks after one has failed, and may write into what is being removed. A
    # pool of our own is waited for; other schedulers do not use it.
    workers = dask.config.get("num_workers", None) or CPU_COUNT
    with (
        ThreadPoolExecutor(workers) as pool,
        dask.config.set(pool=pool),
        Callback(posttask=lambda key, result, *_: note(result) if key in keys else None),
    ):
        return list(dask.compute(*tasks))
