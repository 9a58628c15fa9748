"""What tests share: one BLAS thread, a hypothesis profile, random numbers, one cluster for all of them."""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy is loaded, here and in the workers
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import distributed
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "daskgd",
    max_examples=20,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
settings.load_profile("daskgd")


CLUSTERS = {"cluster", "own", "scheduler", "stage"}
"""Fixtures that are clusters, or make them."""


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes of files are no part of a test's name: compressed ones hold the time at which they were made, and
    the processes that share the tests would not agree on the names."""
    return argname if isinstance(val, bytes) else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What uses the shared cluster is marked as such; and where tests run in several processes, all that need
    a cluster run in one of them, so that there is one cluster, and it has its processor. This comes before
    pytest-xdist reads the marks."""
    for item in items:
        if CLUSTERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.cluster)
        if item.get_closest_marker("cluster"):
            item.add_marker(pytest.mark.xdist_group("cluster"))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """pytest-xdist 3.8 writes the group behind a test's name, ``_nodeid``, which pytest reads no more from
    9.2 on: there every process would start clusters of its own. Others are left as they are."""
    for item in session.items:
        name = vars(item).get("_nodeid", item.nodeid)
        if name != item.nodeid:
            item._id = type(item._id).parse(name)  # type: ignore[attr-defined]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def cluster() -> Iterator[distributed.LocalCluster]:
    """Two worker processes of one thread; leave it as you found it."""
    with distributed.LocalCluster(
        n_workers=2,
        threads_per_worker=1,
        processes=True,
        dashboard_address=":0",
        silence_logs=logging.CRITICAL,
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: distributed.LocalCluster) -> Iterator[distributed.Client]:
    """A client of the cluster, current while the test runs, which leaves no task behind."""
    with distributed.Client(cluster) as client:
        yield client
    tasks, end = cluster.scheduler.tasks, time.monotonic() + 10
    while tasks and time.monotonic() < end:
        time.sleep(0.01)
    assert not tasks, "left on the scheduler"


@pytest.fixture
def high_water() -> Callable[[], int]:
    """A function to run on workers: most bytes of memory that a process ever had (Linux)."""

    def measure() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    return measure
