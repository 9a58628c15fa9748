"""Many fits in one process on one cluster: nothing grows, and nothing stays behind."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import dask
import distributed
import numpy as np
import psutil
import pytest

import daskgd

pytestmark = pytest.mark.cluster

FITS, WARM = 500, 100

HERE, WORKER = 40_000, 15_000
"""Bytes a fit that a process may grow by: this one with the scheduler, and a worker. dask keeps a record of
each group of tasks for ever (distributed's spans); 17,000 and 6,000 were measured."""


@pytest.fixture
def own() -> Iterator[distributed.Client]:
    """A client of a cluster that keeps short logs: else these grow for the first thousand messages."""
    settings = {"distributed.admin.low-level-log-length": 20, "distributed.admin.log-length": 20}
    with (
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


def footprint() -> tuple[int, int, int]:
    """Bytes of memory, open files and threads of this process."""
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds(), threading.active_count()


async def forgotten(dask_scheduler: Any) -> tuple[int, int]:
    """Numbers of task groups and of task prefixes, once the scheduler has forgotten every task."""
    import asyncio

    deadline = time.monotonic() + 30
    while dask_scheduler.tasks:
        assert time.monotonic() < deadline, f"{len(dask_scheduler.tasks)} tasks left"
        await asyncio.sleep(0.01)
    return len(dask_scheduler.task_groups), len(dask_scheduler.task_prefixes)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(psutil.Process, "num_fds"), reason="needs file descriptors")
@pytest.mark.timeout(240)
def test_five_hundred_fits_leave_nothing_behind(own: distributed.Client) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(np.int8)
    one, several = daskgd.Ridge(), daskgd.LogisticRegression(solver="gradient_descent", max_iter=1, tol=0)

    def run(n: int) -> None:
        for i in range(n):
            (one if i % 5 else several).fit(X, y)

    def state() -> dict[str, int]:
        groups, prefixes = own.run_on_scheduler(forgotten)
        here, workers = footprint(), own.run(footprint).values()
        return {
            "memory": here[0],
            "files": here[1],
            "threads": here[2],
            "memory of a worker": max(memory for memory, _, _ in workers),
            "files of a worker": max(files for _, files, _ in workers),
            "threads of a worker": max(threads for _, _, threads in workers),
            "futures": len(own.futures),
            "task groups": groups,
            "task prefixes": prefixes,
        }

    run(WARM)
    before = state()
    run(FITS - WARM)
    after = state()
    assert after["futures"] == after["task groups"] == 0
    may_grow = {
        "memory": HERE * (FITS - WARM),
        "memory of a worker": WORKER * (FITS - WARM),
        "files": 4,  # connections between the three that come and go
        "files of a worker": 4,
        "threads": 1,
    }
    grown = {name: after[name] - before[name] for name in before}
    assert not {name: by for name, by in grown.items() if by > may_grow.get(name, 0)}, grown
