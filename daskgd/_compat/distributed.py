"""What distributed does not promise: questions that do not block, pickling as on the wire."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any

import distributed
from distributed.protocol.pickle import dumps

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


def _scheduler(client: distributed.Client) -> Any:
    return client.scheduler


def scheduler_address(client: distributed.Client) -> str:
    """Where the scheduler is, also after the connection to it was lost."""
    scheduler = client.scheduler
    return "an unknown address" if scheduler is None else str(scheduler.address)


def wire_pickle(value: Any) -> bytes:
    """What is sent of a value to a worker; raises what is raised where it cannot be.

    Whether it can, and how large it is, are questions to the same function that sends it.
    """
    return dumps(value)
