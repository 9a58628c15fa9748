"""Clusters that start workers when they see work, and end them without: ``cluster.adapt(minimum=0)``."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
from gates import gated

import daskgd
from daskgd.engines import task_spans
from daskgd.engines.cluster import demand
from daskgd.engines.graph import Graph
from tests.tiers import slow_but

pytestmark = [pytest.mark.cluster, pytest.mark.posix]

SOLVERS = {
    "GradientDescent": daskgd.GradientDescent(step=0.5),
    "LBFGS": daskgd.LBFGS(),
    "SubsampledNewton": daskgd.SubsampledNewton(rows_per_parameter=30, sample_bytes=1),
    "LocalGD": daskgd.LocalGD(step=0.5, local_steps=3, batch_size=32),
}

DATA = {"daskgd.block-bytes": 8_000, "daskgd.partition-bytes": 32_000}


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(5000, 10)).astype(np.float32)
    return X, (X[:, 0] - X[:, 1] + 4 * rng.normal(size=len(X)) > 0).astype(np.int8)


@pytest.fixture(scope="module")
def data(arrays: Any, tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """25 blocks, 7 partitions."""
    path = tmp_path_factory.mktemp("adaptive") / "data.zarr"
    daskgd.write_dataset(path, *arrays, chunk_bytes=8_000)
    return daskgd.open_dataset(path, block_bytes=8_000, partition_bytes=32_000)


def fit(solver: str, data: Any, **settings: Any) -> Any:
    est = daskgd.LogisticRegression(solver=SOLVERS[solver], max_iter=4, tol=0, **settings)
    with dask.config.set(DATA):
        return est.fit(*data) if isinstance(data, tuple) else est.fit(data)


def told(est: Any) -> tuple[bytes, tuple[float, ...]]:
    """Parameters and the losses that led there, to the bit."""
    return np.append(est.coef_, est.intercept_).tobytes(), tuple(row["loss"] for row in est.history_)


@pytest.fixture(scope="module")
def undisturbed(data: daskgd.Dataset) -> dict[str, Any]:
    return {solver: told(fit(solver, data, engine="serial")) for solver in SOLVERS}


@contextmanager
def empty(**options: Any) -> Iterator[tuple[distributed.LocalCluster, distributed.Client]]:
    """A cluster without workers, which are to have one thread each, and a client of it."""
    settings = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": ":0", **options}
    with (
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),  # new ones start sooner
        distributed.LocalCluster(silence_logs=logging.CRITICAL, **settings) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield cluster, client


@pytest.fixture(scope="module")
def adaptive() -> Iterator[distributed.LocalCluster]:
    """Up to three worker processes, which come with work and go without."""
    with empty() as (cluster, _):
        cluster.adapt(minimum=0, maximum=3, interval="100 ms")
        yield cluster


async def nothing_left(dask_scheduler: Any, workers: bool = False) -> None:
    """Wait, with a limit, until the scheduler has no tasks, nor, unless there may be some, workers."""
    deadline = time.monotonic() + 30
    while dask_scheduler.tasks or (dask_scheduler.workers and not workers):
        assert time.monotonic() < deadline, (dask_scheduler.tasks, dask_scheduler.workers)
        await asyncio.sleep(0.01)


# -- from none, and back to none ------------------------------------------------------------------


@pytest.mark.parametrize("rows", ["stored", "in memory"])
@pytest.mark.parametrize("solver", slow_but(SOLVERS, "SubsampledNewton"))
def test_a_fit_starts_workers_and_leaves_none(rows, solver, arrays, data, undisturbed, adaptive):
    with distributed.Client(adaptive) as client:
        assert not client.nthreads()
        assert told(fit(solver, data if rows == "stored" else arrays)) == undisturbed[solver]
        client.run_on_scheduler(nothing_left)


def test_whatever_else_needs_workers_starts_them(arrays, data, undisturbed, adaptive, tmp_path):
    est = fit("LBFGS", data, engine="serial")
    X, y = arrays
    lazy = da.from_array(X, chunks=(1000, 10)) + 0
    with distributed.Client(adaptive) as client:
        assert est.score(data) == est.score(X, y)
        client.run_on_scheduler(nothing_left)
        np.testing.assert_array_equal(est.predict(lazy).compute(), est.predict(X))
        daskgd.write_dataset(tmp_path / "again.zarr", lazy, da.from_array(y, chunks=1000))
        np.testing.assert_array_equal(daskgd.open_dataset(tmp_path / "again.zarr").X.compute(), X)
        client.run_on_scheduler(nothing_left)


def test_a_plan_starts_no_workers(arrays, data):
    with empty(processes=False) as (cluster, client):
        adaptive = cluster.adapt(minimum=0, maximum=3, interval="20 ms")
        plan = daskgd.LogisticRegression(solver="lbfgs").plan(data)
        lazy = [da.from_array(a, chunks=(1000, *a.shape[1:])) + 0 for a in arrays]
        other = daskgd.LogisticRegression().plan(*lazy)
        client.run_on_scheduler(nothing_left)
        assert not adaptive.log
    assert (plan.workers, plan.threads, plan.task_room, plan.limit) == (0, 0, 0, 0)
    assert plan.first_spans >= 1
    assert "no workers now; the fit waits for a first one" in str(plan)
    assert "what then stays in memory depends on the workers" in str(plan)
    assert " 0 B" not in str(plan)
    assert other.placement == "held in memory if workers will have room, else spooled"


# -- how many -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("tasks", "workers"), [(1, 1), (100, 3)])
@pytest.mark.parametrize("solver", slow_but(SOLVERS, "SubsampledNewton"))
def test_large_data_ask_for_more_workers_than_small_ones(
    tasks, workers, solver, data, undisturbed, monkeypatch
):
    """`maximum` is 3; seconds per task are not known to a new scheduler."""
    monkeypatch.setattr(task_spans, "DEMAND_BYTES", max(data.nbytes // tasks, 1))
    assert task_spans.demand_tasks(data.nbytes) == tasks
    with empty(processes=False) as (cluster, _):
        adaptive = cluster.adapt(minimum=0, maximum=3, interval="20 ms")
        assert told(fit(solver, data)) == undisturbed[solver]
    (_, first), *_ = adaptive.log
    assert first == {"status": "up", "n": workers}


def test_work_is_seen_also_of_rows_in_memory(data, monkeypatch):
    """The first sweep of many rows, and one after a long one, have more tasks than there are threads."""
    monkeypatch.setattr(task_spans, "DEMAND_BYTES", data.nbytes // 10)
    spans = []
    cut = Graph.task_spans

    def spied(self: Graph, asks: Any, whole: bool, threads: dict[str, int]) -> Any:
        if self.n_sweeps == 3:
            assert self.last is not None
            object.__setattr__(self.last, "seconds", 60.0)
        spans.append(cut(self, asks, whole, threads))
        return spans[-1]

    monkeypatch.setattr(Graph, "task_spans", spied)
    with empty(n_workers=1, processes=False):
        fit("GradientDescent", data)
    assert all(address for sweep in spans for address, _ in sweep)
    assert [len(sweep) for sweep in spans[:4]] == [10, 1, 4, 1]


# -- workers leave ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", slow_but(SOLVERS, "LBFGS"))
def test_tasks_are_given_to_others_when_all_have_left_that_keep_their_rows(solver, data, undisturbed):
    """In the first sweep with rows in memory; such tasks the scheduler would keep for those that left."""
    with empty(n_workers=2) as (_, client):
        pids = list(client.run(os.getpid).values())

        def kill(visit: int, pid: int) -> bool:
            if visit == 1:
                for victim in pids:
                    os.kill(victim, signal.SIGKILL)
            return True

        with gated(data, kill) as (through, gate):
            assert told(fit(solver, through, memory="auto")) == undisturbed[solver]
        assert gate.visits >= 2
        client.run_on_scheduler(nothing_left, workers=True)


def test_tasks_for_a_worker_that_was_retired_go_to_others(data, undisturbed, monkeypatch):
    """Between the cut of a sweep and its tasks."""
    run = Graph._run
    retired = []

    def retiring(self: Graph, asks: Any, spans: Any) -> Any:
        if self.n_sweeps == 2:
            addresses = {address for address, _ in spans if address}
            assert len(addresses) == 2
            retired.append(min(addresses))
            self.client.retire_workers(retired)  # type: ignore[union-attr]
        return run(self, asks, spans)

    monkeypatch.setattr(Graph, "_run", retiring)
    with empty(n_workers=2, processes=False) as (_, client):
        assert told(fit("LBFGS", data)) == undisturbed["LBFGS"]
        assert retired
        assert set(client.nthreads()).isdisjoint(retired)


def test_an_error_that_is_kept_keeps_no_tasks(arrays, data):
    """An exception holds the frames that hold the futures; those of rows that workers held, too."""
    short = {"daskgd.no-workers-warning": "10 ms", "daskgd.no-workers-timeout": "100 ms"}
    with empty(processes=False) as (cluster, client):
        with dask.config.set(short), pytest.raises(daskgd.ClusterLost, match="has no workers") as lost:
            fit("LBFGS", data)
        client.run_on_scheduler(nothing_left)
        cluster.scale(1)
        client.wait_for_workers(1)
        X, y = arrays[0].copy(), arrays[1]
        X[77, 3] = np.nan
        with pytest.raises(ValueError, match="row 77, column 3") as bad:
            fit("LBFGS", (X, y))
        client.run_on_scheduler(nothing_left, workers=True)
        assert lost.tb is not None
        assert bad.tb is not None


def test_demand_is_seen_and_taken_back():
    with empty(processes=False) as (_, client):

        async def wanted(n_tasks: int, dask_scheduler: Any) -> int:
            """Workers for so many tasks, once they are there."""
            deadline = time.monotonic() + 30
            while len(dask_scheduler.tasks) != n_tasks:
                assert time.monotonic() < deadline, dask_scheduler.tasks
                await asyncio.sleep(0.01)
            return int(dask_scheduler.adaptive_target())

        with demand(client, 30):
            assert client.run_on_scheduler(wanted, 30) == 3
        assert client.run_on_scheduler(wanted, 0) == 0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fits_on_a_cluster_that_is_scaled_at_random(arrays, data, undisturbed):
    """Dask takes it for a death, not for retirement, when `LocalCluster.scale` ends a worker."""
    draw, over = random.Random(0), threading.Event()
    with dask.config.set({"distributed.scheduler.allowed-failures": 100}), empty() as (cluster, client):

        def scale() -> None:
            while not over.wait(draw.choice([0.05, 0.5, 2, 5])):
                cluster.scale(draw.randint(0, 4))

        thread = threading.Thread(target=scale, daemon=True)
        thread.start()
        try:
            for i in range(int(os.environ.get("DASKGD_RANDOM_FITS", "12"))):
                solver = list(SOLVERS)[i % 4]
                rows = arrays if i % 5 == 4 else data
                assert told(fit(solver, rows, memory=["auto", 0][i // 4 % 2])) == undisturbed[solver], i
        finally:
            over.set()
            thread.join(60)
        client.run_on_scheduler(nothing_left, workers=True)
