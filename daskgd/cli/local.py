"""The cluster of worker processes that a command starts on this machine, and ends without a word."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import distributed

PRELOAD = """
import logging
import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)


def dask_teardown(worker):
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
"""
"""Run in every worker. Ctrl-C reaches all processes of a terminal, and a traceback of each is no way to end:
the command ends them. A worker that is closed while it sends a heartbeat logs that the connection is lost, as
an error: from its teardown on a worker has nothing to say."""


@contextmanager
def local_cluster(**options: Any) -> Iterator[distributed.LocalCluster]:
    """A `LocalCluster` of processes of one thread each, which fight for no interpreter lock; gone at the end.

    Parameters
    ----------
    options
        What else `distributed.LocalCluster` takes: ``n_workers``, ``memory_limit``. Its dashboard is at any
        free port of this machine unless ``dashboard_address`` says otherwise: 8787 may be somebody's.
    """
    import dask
    import distributed

    preload = [*dask.config.get("distributed.worker.preload"), PRELOAD]
    options = {"dashboard_address": "127.0.0.1:0", **options}
    with distributed.LocalCluster(threads_per_worker=1, preload=preload, **options) as cluster:
        yield cluster
