"""A fit on worker processes: memory, interrupts, and rows that have to be brought there."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest

import daskgd
import daskgd.metrics
from daskgd.engines.cluster import Cluster
from daskgd.engines.graph import Graph
from daskgd.engines.preflight import TASK_MODULES, _look
from daskgd.monitoring.events import Iterated
from tests.tiers import slow_but

pytestmark = pytest.mark.cluster

SOLVERS = {
    "GradientDescent": daskgd.GradientDescent(step=0.5),
    "LBFGS": daskgd.LBFGS(),
    "LocalGD": daskgd.LocalGD(step=0.5, local_steps=3, batch_size=32),
    "LocalSGD": daskgd.LocalSGD(step=0.5, batch_size=32, control=True, wire="int8"),
    "ADMM": daskgd.ADMM(sample_bytes=1),
    "GIANT": daskgd.GIANT(sample_bytes=0),
    "SGD": daskgd.SGD(step=0.1, steps=4),
}


def blocks(n_rows: int, n_features: int, rows: int = 20_000) -> Any:
    """Blocks of (X, y), cheap to make and to compress."""
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(rows, n_features)).astype(np.float32)
    y = (X[:, 0] - X[:, 1] + 4 * rng.normal(size=rows) > 0).astype(np.int8)
    for start in range(0, n_rows, rows):
        yield np.roll(X, start // rows, axis=0)[: n_rows - start], np.roll(y, start // rows)[: n_rows - start]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """71 blocks, 18 partitions."""
    path = tmp_path_factory.mktemp("small") / "small.zarr"
    daskgd.write_dataset(path, blocks(14_200, 10, rows=200), chunk_bytes=8_000)
    return daskgd.open_dataset(path, block_bytes=8_000, partition_bytes=32_000)


def parameters(est: Any) -> np.ndarray:
    return np.concatenate([np.ravel(est.coef_), np.ravel(est.intercept_)])


def logistic(solver: str, **settings: Any) -> daskgd.LogisticRegression:
    return daskgd.LogisticRegression(solver=SOLVERS[solver], max_iter=6, tol=0, **settings)


SMALL_SAMPLE = {"rows_per_parameter": 30, "sample_bytes": 1}

FEW_SWEEPS = {
    "sampled": lambda: daskgd.LogisticRegression(solver=daskgd.SubsampledNewton(**SMALL_SAMPLE)),
    "sampled, L1": lambda: daskgd.LogisticRegression(
        C=0.01, l1_ratio=1.0, solver=daskgd.ProximalNewton(**SMALL_SAMPLE)
    ),
    "all rows": lambda: daskgd.LogisticRegression(),
    "counts": lambda: daskgd.PoissonRegressor(solver=daskgd.SubsampledNewton(**SMALL_SAMPLE)),
    "gram": lambda: daskgd.Ridge(),
    "gram, L1": lambda: daskgd.Lasso(alpha=0.01),
    "fista": lambda: daskgd.LogisticRegression(C=0.01, l1_ratio=0.5, solver="fista"),
}


@pytest.mark.parametrize("name", slow_but(FEW_SWEEPS, "gram, L1"))
def test_few_sweeps_have_the_same_bits_everywhere(name, small, client):
    fits = [FEW_SWEEPS[name]().set_params(engine=e).fit(small) for e in ("serial", "threads", "distributed")]
    for other in fits[1:]:
        assert (parameters(other) == parameters(fits[0])).all()
        assert (other.gap_, other.n_sweeps_) == (fits[0].gap_, fits[0].n_sweeps_)
    assert fits[0].outcome_ == "converged"
    for tasks in (3, 50):
        engine = lambda dataset, tasks=tasks: Graph(dataset, client, tasks)  # noqa: E731
        again = FEW_SWEEPS[name]().set_params(engine=engine).fit(small)
        assert (parameters(again) == parameters(fits[0])).all()


# -- the same bits ------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_come_and_go_and_the_bits_stay(small):
    expected = {solver: parameters(logistic(solver, engine="serial").fit(small)) for solver in SOLVERS}

    def same(engine: Any = None) -> bool:
        found = {solver: parameters(logistic(solver, engine=engine).fit(small)) for solver in SOLVERS}
        return all((found[solver] == expected[solver]).all() for solver in SOLVERS)

    assert same("threads")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        for n in (1, 2, 3):
            cluster.scale(n)
            client.wait_for_workers(n)
            assert same()
        for tasks in (1, 64):
            assert same(lambda dataset, tasks=tasks: Graph(dataset, client, tasks))


# -- imports ------------------------------------------------------------------------------------


def test_a_fresh_worker_begins_to_import_when_fit_is_called_and_then_imports_little(small, tmp_path):
    def loaded(names: Any) -> set[str]:
        return {name for name in names if name in sys.modules}

    with (
        distributed.LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):
        slow = {"sklearn", "pandas", "dask.array", "dask.dataframe", "scipy.stats", "daskgd.estimators"}
        assert client.run(loaded, slow).popitem()[1] == set()
        with pytest.raises(daskgd.StoreError, match="no such file"):
            daskgd.LogisticRegression().fit(tmp_path / "none.zarr")  # before anything is sent to workers
        limit = time.monotonic() + 20
        while client.run(loaded, TASK_MODULES).popitem()[1] != set(TASK_MODULES):
            assert time.monotonic() < limit
            time.sleep(0.05)
        est = daskgd.LogisticRegression().fit(small)
        est.score(small)
        daskgd.metrics.evaluate(est, small, scoring=["accuracy", "roc_auc", "neg_log_loss", "f1"])
        ridge = daskgd.Ridge().fit(small)
        daskgd.metrics.evaluate(ridge, small, scoring=["r2", "explained_variance"])
        assert client.run(loaded, slow).popitem()[1] == set()


# -- memory -------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
@pytest.mark.timeout(300)
def test_a_dataset_of_four_times_the_memory_trains_within_it(tmp_path, high_water):
    limit = 360_000_000
    n_rows = 4 * limit // (100 * 4)
    daskgd.write_dataset(tmp_path / "large.zarr", blocks(n_rows, 100))
    dataset = daskgd.open_dataset(tmp_path / "large.zarr", partition_bytes="16 MB")
    few = next(iter(blocks(2000, 100, 2000)))
    assert dataset.nbytes > 4 * limit
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit=limit, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pids = client.run(os.getpid)
        for solver in SOLVERS.values():
            est = daskgd.LogisticRegression(solver=solver, max_iter=2, tol=0).fit(dataset)
            assert est.score(*few) > 0.7
        assert client.run(os.getpid) == pids  # no nanny restarted a worker
        assert max(client.run(high_water).values()) < 0.8 * limit
        workers = cluster.scheduler.workers.values()
        # Dask may spill some sums where a process is near its limit, rows are never there to be spilled.
        assert all(worker.metrics["spilled_bytes"]["memory"] < 100_000 for worker in workers)


def test_what_cannot_fit_is_refused_with_what_would(tmp_path):
    X = np.zeros((160_000, 100), np.float32)
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit=220_000_000, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        y = np.arange(160_000) % 2
        with dask.config.set(scheduler="threads"):  # the worker's memory is for the fit
            daskgd.write_dataset(tmp_path / "one.zarr", X, y, chunk_bytes=64_000_000)
        with pytest.raises(ValueError, match=r"X: a block takes 61.04 MiB.* chunk_bytes=") as refused:
            daskgd.LogisticRegression().fit(tmp_path / "one.zarr")
        fits = int(str(refused.value).partition("chunk_bytes=")[2].split()[0])
        with dask.config.set(scheduler="threads"):
            daskgd.write_dataset(tmp_path / "small.zarr", X, y, chunk_bytes=fits)
        daskgd.LogisticRegression(max_iter=1, tol=0).fit(tmp_path / "small.zarr")

        local = daskgd.LogisticRegression(solver="local_gd", max_iter=1, tol=0)
        with pytest.raises(
            ValueError, match=r"partition_bytes: a partition takes .* partition_bytes="
        ) as refused:
            local.fit(daskgd.open_dataset(tmp_path / "small.zarr", partition_bytes="100 MB"))
        fits = int(str(refused.value).rpartition("partition_bytes=")[2].split()[0])
        local.fit(daskgd.open_dataset(tmp_path / "small.zarr", partition_bytes=fits))


# -- interrupts ---------------------------------------------------------------------------------


def test_an_interrupt_leaves_the_cluster_clean(small, client):
    main = threading.main_thread().ident
    assert main is not None

    heard = threading.Event()

    def press() -> None:
        """A Ctrl-C, and one a second after while it went unheard, as one that meets a destructor does."""
        pause = 0.02
        while not heard.wait(pause):
            signal.pthread_kill(main, signal.SIGINT)
            pause = 1.0

    class Interrupting(Graph):
        """Meets a Ctrl-C while the sixth sweep is on its way."""

        def _run(self, asks: Any, cut: Any) -> Any:
            if self.n_sweeps == 6:
                threading.Thread(target=press, daemon=True).start()
                try:
                    while True:  # until the interrupt comes, whatever the machine's speed
                        super()._run(asks, cut)
                        self.n_sweeps += 1
                finally:
                    heard.set()
            return super()._run(asks, cut)

    est = daskgd.LogisticRegression(solver="lbfgs", engine=lambda dataset: Interrupting(dataset, client))
    kept = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored by jobs in the background
    try:
        with pytest.raises(KeyboardInterrupt) as stopped:
            est.fit(small)
    finally:
        signal.signal(signal.SIGINT, kept)
    assert est.outcome_ == "interrupted"
    assert est.n_iter_ == len(est.history_) >= 1
    assert est.score(small) > 0.6
    client.run_on_scheduler(no_tasks_left)
    assert stopped.tb is not None  # a notebook keeps it too


@pytest.mark.parametrize("place", ["sending", "gathering"])
def test_an_interrupt_anywhere_gives_the_tasks_up_though_a_traceback_lives(small, client, monkeypatch, place):
    def interrupt() -> None:
        raise KeyboardInterrupt

    if place == "sending":
        send = client._send_to_scheduler

        def send_and_interrupt(message: Any) -> None:
            send(message)
            if message["op"] == "update-graph":
                interrupt()

        monkeypatch.setattr(client, "_send_to_scheduler", send_and_interrupt)
    else:
        monkeypatch.setattr(Cluster, "_results", lambda *_: interrupt())
    with pytest.raises(KeyboardInterrupt) as stopped:
        daskgd.Ridge(engine=lambda dataset: Graph(dataset, client)).fit(small)
    monkeypatch.undo()
    client.run_on_scheduler(no_tasks_left)
    assert stopped.tb is not None


def test_rows_that_were_held_are_given_up_though_a_traceback_lives(rng, client):
    def stop(event: Any) -> None:
        if isinstance(event, Iterated):
            raise KeyboardInterrupt

    X, y = rng.normal(size=(300, 3)), rng.integers(0, 2, 300)
    with pytest.raises(KeyboardInterrupt) as stopped:
        daskgd.LogisticRegression(solver="lbfgs").fit(X, y, watch=stop)
    client.run_on_scheduler(no_tasks_left)
    assert stopped.tb is not None


def test_workers_of_this_process_ignore_its_interrupts(small, client):
    def listen() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def ignores() -> bool:
        return signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    client.run(listen)
    daskgd.Ridge().fit(small)
    assert all(client.run(ignores).values())
    before = signal.getsignal(signal.SIGINT)
    _look()()  # in this process
    assert signal.getsignal(signal.SIGINT) is before


# -- asynchronous clients -----------------------------------------------------------------------


def test_beside_an_asynchronous_client_a_fit_takes_a_thread(small, cluster):
    async def fits() -> Any:
        async with distributed.Client(cluster.scheduler_address, asynchronous=True):
            for engine in (None, "distributed"):
                est = daskgd.Ridge(engine=engine)
                for call in (est.fit, est.plan):
                    with pytest.raises(ValueError, match=r"asynchronous.*await asyncio.to_thread\("):
                        call("no data is looked at")
            here = daskgd.Ridge(engine="threads").fit(small)
            with dask.config.set(scheduler="threads"):
                assert np.array_equal(daskgd.Ridge().fit(small).coef_, here.coef_)
            return here, await asyncio.to_thread(daskgd.Ridge().fit, small)

    here, there = asyncio.run(fits())
    assert np.array_equal(here.coef_, there.coef_)


async def no_tasks_left(dask_scheduler: Any) -> None:
    """Wait, with a limit, until the scheduler has forgotten every task."""
    import asyncio

    deadline = time.monotonic() + 30
    while dask_scheduler.tasks:
        assert time.monotonic() < deadline, f"{len(dask_scheduler.tasks)} tasks left"
        await asyncio.sleep(0.01)


# -- rows that have to be brought there -----------------------------------------------------------


ROUTES = ["travels", "held", "spooled arrays", "spooled graph", "mixed"]


@pytest.mark.parametrize("route", slow_but(ROUTES, "travels", "held", "mixed"))
def test_every_route_to_the_workers_gives_the_same_bits(rng, client, tmp_path, caplog, route):
    X = rng.normal(size=(3000, 8))
    y = np.where(X[:, 0] > 0, "up", "down")
    lazy = da.from_array(X, chunks=(700, 5)) * 1.0
    config: dict[str, Any] = {"daskgd.block-bytes": 5000, "daskgd.partition-bytes": 20_000}
    if route.startswith("spooled"):
        config |= {"daskgd.travel-bytes": 1000, "daskgd.hold-fraction": 0.0}
    config["daskgd.temporary-directory"] = str(tmp_path / "scratch")
    (tmp_path / "scratch").mkdir()
    data = {
        "travels": (X, y),
        "held": (lazy, da.from_array(y, chunks=100)),
        "spooled arrays": (X, y),
        "spooled graph": (lazy, da.from_array(y, chunks=100)),
        "mixed": (lazy, y),
    }[route]
    with dask.config.set(config), caplog.at_level(logging.WARNING, "daskgd"):
        expected = parameters(logistic("LocalGD", engine="serial").fit(X, y))
        caplog.clear()
        est = logistic("LocalGD").fit(*data)
        assert est.score(*data) > 0.9
    assert (parameters(est) == expected).all()
    assert est.classes_.tolist() == ["down", "up"]
    said = [record.getMessage() for record in caplog.records]
    assert any("spooled once" in message for message in said) == route.startswith("spooled")
    assert not list((tmp_path / "scratch").iterdir())
    client.run_on_scheduler(no_tasks_left)


def test_a_spool_goes_away_when_the_fit_fails(rng, client, tmp_path):
    X = rng.normal(size=(3000, 8))
    X[77, 3] = np.nan
    settings = {"daskgd.travel-bytes": 0, "daskgd.temporary-directory": str(tmp_path)}
    with dask.config.set(settings), pytest.raises(ValueError, match="row 77, column 3"):
        daskgd.LogisticRegression().fit(X, X[:, 0] > 0)
    assert not list(tmp_path.iterdir())


# -- tasks --------------------------------------------------------------------------------------


def test_tasks_follow_threads_and_not_chunks(tmp_path, client):
    counts = []
    for chunk_bytes in (80_000, 8_000):
        path = tmp_path / f"{chunk_bytes}.zarr"
        daskgd.write_dataset(path, blocks(40_000, 10, rows=1000), chunk_bytes=chunk_bytes)
        engines: list[Graph] = []

        def engine(dataset: daskgd.Dataset, engines: list[Graph] = engines) -> Graph:
            engines.append(Graph(dataset, client))
            return engines[-1]

        dataset = daskgd.open_dataset(path, block_bytes=1)
        logistic("GradientDescent", engine=engine).fit(dataset)
        assert len(set(engines[0].tasks_per_sweep)) == 1
        counts.append(engines[0].tasks_per_sweep[0])
    few, many = sorted(counts)
    assert many <= 2 * few
    assert many <= 2 * 4 * 2
