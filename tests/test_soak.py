"""Many fits in one process on one cluster: nothing grows, and nothing stays behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from typing import Any

import distributed
import numpy as np
import psutil
import pytest

import daskgd

FITS, WARM = 500, 100


def footprint() -> tuple[int, int]:
    """Bytes of memory and open files of this process."""
    gc.collect()
    process = psutil.Process()
    return process.memory_info().rss, process.num_fds()


async def forgotten(dask_scheduler: Any) -> tuple[int, int]:
    """Numbers of task groups and of task prefixes, once the scheduler has forgotten every task."""
    import asyncio

    deadline = time.monotonic() + 30
    while dask_scheduler.tasks:
        assert time.monotonic() < deadline, f"{len(dask_scheduler.tasks)} tasks left"
        await asyncio.sleep(0.01)
    return len(dask_scheduler.task_groups), len(dask_scheduler.task_prefixes)


@pytest.mark.skipif(not hasattr(psutil.Process, "num_fds"), reason="needs file descriptors")
@pytest.mark.timeout(240)
def test_five_hundred_fits_leave_nothing_behind(client: distributed.Client) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    y = (X[:, 0] > 0).astype(np.int8)
    est = daskgd.LogisticRegression(solver="gradient_descent", max_iter=1, tol=0)

    def state() -> dict[str, Any]:
        groups, prefixes = client.run_on_scheduler(forgotten)
        workers = client.run(footprint)
        return {
            "memory": footprint()[0],
            "files": footprint()[1],
            "memory of workers": max(memory for memory, _ in workers.values()),
            "files of workers": max(files for _, files in workers.values()),
            "futures": len(client.futures),
            "threads": threading.active_count(),
            "task groups": groups,
            "task prefixes": prefixes,
        }

    for _ in range(WARM):
        est.fit(X, y)
    before = state()
    for _ in range(FITS - WARM):
        est.fit(X, y)
    after = state()
    grown = {name: after[name] - before[name] for name in before if after[name] > before[name]}
    print(before, after)
    assert grown == {}
