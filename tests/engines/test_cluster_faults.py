"""What clusters do to a fit: the same bits after every fault, a helpful error where there is no way on."""

from __future__ import annotations

import asyncio
import errno
import itertools
import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest
import scipy.sparse
from gates import gated
from sklearn.compose import make_column_transformer
from sklearn.exceptions import ConvergenceWarning
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler, TargetEncoder

import daskgd
from daskgd.engines import cluster as cluster_room
from daskgd.engines.graph import Graph
from daskgd.engines.preflight import judge
from daskgd.engines.select import open_engine
from daskgd.queries import Ask, Survey
from daskgd.storage import retry
from daskgd.storage.retry import is_transient, with_retries
from tests.tables import make_frame
from tests.tiers import slow_but, slow_but_every, slow_but_rows

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.posix,
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals"),
]

SOLVERS = {
    "GradientDescent": daskgd.GradientDescent(step=0.5),
    "LBFGS": daskgd.LBFGS(),
    "SubsampledNewton": daskgd.SubsampledNewton(rows_per_parameter=30, sample_bytes=1),
    "LocalGD": daskgd.LocalGD(step=0.5, local_steps=3, batch_size=32),
}

MODELS = [*SOLVERS, "MLP"]


@pytest.fixture(scope="module")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(5000, 10)).astype(np.float32)
    return X, (X[:, 0] - X[:, 1] + 4 * rng.normal(size=len(X)) > 0).astype(np.int8)


@pytest.fixture(scope="module")
def data(arrays: Any, tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """25 blocks, 7 partitions."""
    path = tmp_path_factory.mktemp("faults") / "data.zarr"
    daskgd.write_dataset(path, *arrays, chunk_bytes=8_000)
    return daskgd.open_dataset(path, block_bytes=8_000, partition_bytes=32_000)


def fit(solver: str, data: Any, **settings: Any) -> Any:
    if solver == "MLP":
        network = {
            "hidden_layer_sizes": (4,),
            "batch_size": 64,
            "random_state": 0,
            "n_iter_no_change": np.inf,
        }
        est = daskgd.MLPClassifier(solver="adam", max_iter=4, **{"memory": 0, **network, **settings})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return est.fit(data)
    est = daskgd.LogisticRegression(solver=SOLVERS[solver], max_iter=4, tol=0, **{"memory": 0, **settings})
    return est.fit(*data) if isinstance(data, tuple) else est.fit(data)


def told(est: Any) -> tuple[bytes, tuple[float, ...]]:
    """Parameters and the losses that led there, to the bit."""
    found = [*est.coefs_, *est.intercepts_] if hasattr(est, "coefs_") else [est.coef_, est.intercept_]
    return np.concatenate([np.ravel(a) for a in found]).tobytes(), tuple(row["loss"] for row in est.history_)


@pytest.fixture(scope="module")
def undisturbed(data: daskgd.Dataset) -> dict[str, Any]:
    return {solver: told(fit(solver, data, engine="serial")) for solver in MODELS}


@contextmanager
def made(**settings: Any) -> Iterator[tuple[distributed.LocalCluster, distributed.Client]]:
    """A cluster of worker processes of one thread, and a client of it."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0", **settings}
    with (
        distributed.LocalCluster(silence_logs=logging.CRITICAL, **options) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield cluster, client


@pytest.fixture(scope="module")
def stage() -> Iterator[distributed.LocalCluster]:
    """Two worker processes for faults."""
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}
    with (
        pytest.MonkeyPatch.context() as patch,
        dask.config.set({"distributed.worker.multiprocessing-method": "forkserver"}),  # new ones start sooner
    ):
        patch.setattr(
            "distributed.scheduler.heartbeat_interval", lambda n: 0.2
        )  # ten of them are the least ttl
        with dask.config.set({"distributed.scheduler.worker-ttl": "500 ms"}):  # how often it is looked at
            cluster = distributed.LocalCluster(silence_logs=logging.CRITICAL, **options)
        with cluster:
            cluster.scheduler.worker_ttl = PATIENT
            yield cluster


PATIENT = 300.0
"""Seconds without a heartbeat, dask's default."""


# -- the same bits ------------------------------------------------------------------------------


@dataclass
class Fault:
    """What happens when a task of the third sweep reads its rows, and when later ones do."""

    cluster: distributed.LocalCluster
    pids: list[int]
    over: threading.Event = field(default_factory=threading.Event)
    brake: threading.Thread | None = None
    stopped_pid: int | None = None
    hung_pid: int | None = None

    def nothing(self, visit: int, pid: int) -> bool:
        return True

    def killed(self, visit: int, pid: int) -> bool:
        if visit == 3:
            os.kill(pid, signal.SIGKILL)
        return True

    def all_killed(self, visit: int, pid: int) -> bool:
        if visit == 3:
            for victim in self.pids:
                os.kill(victim, signal.SIGKILL)
        return True

    def rescaled(self, visit: int, pid: int) -> bool:
        if visit in (3, 4):
            self.cluster.scale(1 if visit == 3 else 3)
        return True

    def hung(self, visit: int, pid: int) -> bool:
        if visit == 3:
            os.kill(pid, signal.SIGSTOP)
            self.hung_pid = pid
            self.cluster.scheduler.worker_ttl = 1.0
        return True

    def stopped(self, visit: int, pid: int) -> bool:
        if visit == 3:
            os.kill(pid, signal.SIGSTOP)
            self.stopped_pid = pid
        return True

    def slow(self, visit: int, pid: int) -> bool:
        """A tenth of its speed is left to the process."""

        def brake() -> None:
            while not self.over.wait(0.005):
                os.kill(pid, signal.SIGSTOP)
                self.over.wait(0.045)
                os.kill(pid, signal.SIGCONT)

        if visit == 3:
            self.brake = threading.Thread(target=brake)
            self.brake.start()
        return True

    def errors(self, visit: int, pid: int) -> bool:
        return visit not in (3, 4, 5)

    def end(self) -> None:
        """Let whoever was stopped or slowed go on; wait until who hangs has been given up."""
        self.over.set()
        if self.brake is not None:
            self.brake.join()
        if self.stopped_pid is not None:
            os.kill(self.stopped_pid, signal.SIGCONT)
        if self.hung_pid is not None:
            until(lambda: not Path(f"/proc/{self.hung_pid}").exists())
        self.cluster.scheduler.worker_ttl = PATIENT


def until(is_so: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def two_workers(stage: distributed.LocalCluster) -> None:
    """Wait for two workers. Where Dask has not started one again that died, all are started anew."""
    try:
        stage.wait_for_workers(2, timeout=30)
    except TimeoutError:
        stage.scale(0)
        stage.scale(2)
        stage.wait_for_workers(2, timeout=60)


FAULTS = ["killed", "all_killed", "errors", "hung", "rescaled", "stopped", "slow"]
AGAIN = {"killed": 1, "all_killed": 1, "hung": 1, "errors": 3, "stopped": 1}
"""How many times more at least the gate is passed."""


@pytest.mark.parametrize(("fault", "solver"), slow_but_every(5, FAULTS, MODELS))
def test_a_fault_changes_no_bits(fault, solver, data, undisturbed, stage, monkeypatch):
    monkeypatch.setattr(cluster_room, "TICK", 0.1)
    with distributed.Client(stage) as client:
        two_workers(stage)
        act = Fault(stage, list(client.run(os.getpid).values()))
        try:
            with gated(data, getattr(act, fault)) as (through, gate):
                est = fit(solver, through)
        finally:
            act.end()
        assert told(est) == undisturbed[solver]
        assert gate.visits >= est.n_sweeps_ + AGAIN.get(fault, 0) >= 4
        assert est.history_.speculated > 0 or fault != "stopped"
        client.wait_for_workers(3 if fault == "rescaled" else 1)
        pids = set(client.run(os.getpid).values())
        assert (set(act.pids) <= pids) == (fault in ("errors", "stopped", "slow"))
        until(lambda: not stage.scheduler.tasks)  # nothing is left behind


@pytest.fixture(scope="module")
def sparse(data: daskgd.Dataset) -> daskgd.Dataset:
    """The same rows, sparse and in this process, beside the stored target."""
    X = scipy.sparse.csr_array(data.X.compute())
    columns: Any = daskgd.as_dataset(X, data.y).columns
    assert columns.y.path is not None
    return data.replace(columns, path=None, fingerprint=None, block_bytes=12_000, partition_bytes=48_000)


@pytest.mark.parametrize("solver", slow_but(SOLVERS, "LocalGD"))
def test_a_worker_that_held_sparse_rows_is_killed(solver, sparse, stage, monkeypatch):
    monkeypatch.setattr(cluster_room, "TICK", 0.1)
    undisturbed = told(fit(solver, sparse, engine="serial"))
    assert sparse.layout.n_partitions > 4
    with distributed.Client(stage) as client:
        two_workers(stage)
        act = Fault(stage, list(client.run(os.getpid).values()))
        with gated(sparse, act.killed, name="y") as (through, gate):
            est = fit(solver, through)
        assert told(est) == undisturbed
        assert gate.visits > est.n_sweeps_ >= 4
        client.wait_for_workers(2)
        until(lambda: not stage.scheduler.tasks)


def codes_of(arrays: Any) -> daskgd.OneHot:
    """The same numbers as codes, but for the first three."""
    X = arrays[0]
    return daskgd.OneHot(X[:, 3:].astype(np.int8) + 8, [[*"abcdefghijklmnop"]] * 7, X[:, :3])


@pytest.fixture(scope="module")
def categorical(arrays: Any, tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """7 partitions of stored codes."""
    path = tmp_path_factory.mktemp("codes") / "data.zarr"
    daskgd.write_dataset(path, codes_of(arrays), arrays[1], chunk_bytes=8_000)
    return daskgd.open_dataset(path, block_bytes=8_000, partition_bytes=32_000)


@pytest.fixture(scope="module")
def flights(tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """A table with text and gaps, of several partitions."""
    folder = tmp_path_factory.mktemp("table")
    frame = make_frame(5, 6000)
    late = (frame.carrier == "AA") | (frame.miles > 10_600)
    late ^= np.random.default_rng(0).random(len(frame)) < 0.3
    frame["plane"] = np.random.default_rng(1).integers(0, 150, len(frame)).astype(str)
    frame.assign(late=late.map({True: "yes", False: "no"})).to_csv(folder / "t.csv", index=False)
    daskgd.ingest(folder / "t.csv", folder / "t.zarr", target="late", chunk_bytes=12_000)
    return daskgd.open_dataset(folder / "t.zarr", block_bytes=12_000, partition_bytes=48_000)


@pytest.mark.parametrize("fault", slow_but(["killed", "errors"], "killed"))
def test_a_fault_changes_no_bits_of_a_pipeline(fault, flights, stage, monkeypatch):
    monkeypatch.setattr(cluster_room, "TICK", 0.1)
    encoder = make_column_transformer(
        (make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), ["miles", "temp"]),
        (OneHotEncoder(), ["plane", "origin"]),
        (make_pipeline(TargetEncoder(), StandardScaler()), ["carrier", "month"]),
    )

    def fitted(dataset: daskgd.Dataset, engine: Any = None) -> Any:
        solver = daskgd.NewtonSchur(sample_bytes=1, rows_per_parameter=1)
        return daskgd.make_pipeline(encoder, daskgd.LogisticRegression(solver=solver, engine=engine)).fit(
            dataset
        )

    undisturbed = fitted(flights, "serial")
    assert flights.layout.n_partitions > 4
    with distributed.Client(stage) as client:
        two_workers(stage)
        act = Fault(stage, list(client.run(os.getpid).values()))
        with gated(flights, getattr(act, fault)) as (through, gate):
            model = fitted(through)
        assert np.array_equal(model[-1].coef_, undisturbed[-1].coef_)
        assert gate.visits > model[-1].n_sweeps_ >= 3
        client.wait_for_workers(2)
        until(lambda: not stage.scheduler.tasks)


@pytest.mark.parametrize("fault", slow_but(["killed", "errors"], "killed"))
@pytest.mark.parametrize("solver", slow_but(SOLVERS, "LBFGS"))
def test_a_fault_changes_no_bits_of_a_fit_on_stored_codes(
    solver, fault, categorical, arrays, stage, monkeypatch
):
    monkeypatch.setattr(cluster_room, "TICK", 0.1)
    in_memory = daskgd.as_dataset(codes_of(arrays), arrays[1]).replace(layout=categorical.layout)
    undisturbed = told(fit(solver, in_memory, engine="serial"))
    assert categorical.layout.n_partitions > 4
    with distributed.Client(stage) as client:
        two_workers(stage)
        act = Fault(stage, list(client.run(os.getpid).values()))
        with gated(categorical, getattr(act, fault)) as (through, gate):
            est = fit(solver, through)
        assert told(est) == undisturbed
        assert gate.visits >= est.n_sweeps_ + AGAIN[fault] >= 4
        until(lambda: not stage.scheduler.tasks)


@contextmanager
def adaptive(cluster: distributed.LocalCluster) -> Iterator[None]:
    """A context in which the cluster has workers, two at most, for tasks only."""
    adapting = cluster.adapt(minimum=0, maximum=2, interval="100 ms")
    try:
        yield
    finally:
        adapting.stop()
        cluster.scale(2)


def empty(cluster: distributed.LocalCluster, client: distributed.Client) -> None:
    cluster.scale(0)

    async def gone(dask_scheduler: Any) -> None:
        while dask_scheduler.workers:
            await asyncio.sleep(0.01)

    client.run_on_scheduler(gone)


@pytest.mark.parametrize(("fault", "solver"), slow_but_every(4, ["from none", "emptied"], list(SOLVERS)))
def test_an_adaptive_cluster_changes_no_bits(fault, solver, data, undisturbed, stage, monkeypatch):
    """It has no workers when the fit begins, or none any more between the second sweep and the third; those
    that kept rows in memory are gone."""
    sweep, begun = Graph.sweep, []
    with distributed.Client(stage) as client:

        def emptying(self: Graph, asks: Any) -> Any:
            if self.n_sweeps == 2 and fault == "emptied":
                empty(stage, client)
            begun.append(len(client.nthreads()))
            return sweep(self, asks)

        monkeypatch.setattr(Graph, "sweep", emptying)
        empty(stage, client)
        with adaptive(stage):
            assert told(fit(solver, data, memory="auto")) == undisturbed[solver]
        client.wait_for_workers(2)
    assert (begun[2] == 0) == (fault == "emptied")


OTHER_KINDS = {"sparse": lambda arrays: scipy.sparse.csr_array(arrays[0]), "categorical": codes_of}


def spill(dask_worker: Any) -> int:
    """Write all that a worker holds to disk; bytes that are there then."""
    while dask_worker.data.memory:
        dask_worker.data.evict()
    return int(dask_worker.data.spilled_total.disk)


SPILLED = [*((solver, "dense") for solver in SOLVERS), *itertools.product(["LocalGD", "LBFGS"], OTHER_KINDS)]


@pytest.mark.parametrize(
    ("solver", "kind"),
    slow_but_rows(SPILLED, ("LocalGD", "dense"), ("LBFGS", "sparse"), ("LocalGD", "categorical")),
)
def test_rows_that_were_spilled_and_moved_change_no_bits(
    solver, kind, arrays, undisturbed, client, monkeypatch
):
    """Every piece is on disk before each sweep, and has a copy at the other worker from the third sweep on,
    where it is unaligned."""
    if kind != "dense":
        arrays = OTHER_KINDS[kind](arrays), arrays[1]
    sweep = Graph.sweep

    def spilling(self: Graph, asks: Any) -> Any:
        futures = distributed.futures_of(self.dataset.columns.X.array)
        distributed.wait(futures)
        if self.n_sweeps == 2:
            end = (
                time.monotonic() + 30
            )  # where a worker does not answer in time, no copy is made, nor an error
            while sum(map(len, client.who_has(futures).values())) == len(futures):
                assert time.monotonic() < end, "no copies"
                client.replicate(futures, n=2)
        assert sum(client.run(spill).values()) > 100_000
        return sweep(self, asks)

    with dask.config.set({"daskgd.block-bytes": 8_000, "daskgd.partition-bytes": 32_000}):
        expected = undisturbed[solver] if kind == "dense" else told(fit(solver, arrays, engine="serial"))
        monkeypatch.setattr(Graph, "sweep", spilling)
        est = fit(solver, arrays, engine="distributed")
    assert told(est) == expected


# -- no way on ----------------------------------------------------------------------------------


def test_a_lost_cluster_says_how_to_go_on_and_pickles():
    lost = pickle.loads(pickle.dumps(daskgd.ClusterLost("the scheduler is gone")))
    assert isinstance(lost, RuntimeError)
    assert (str(lost), lost.checkpoint) == ("the scheduler is gone; fit again on a new cluster", None)
    with pytest.raises(daskgd.ClusterLost) as raised:
        raise lost from OSError("no route")
    kept = raised.value.with_checkpoint("run.ckpt")
    assert isinstance(kept.__cause__, OSError)
    again = pickle.loads(pickle.dumps(kept))
    assert (again.reason, again.checkpoint) == ("the scheduler is gone", "run.ckpt")
    assert "checkpoint='run.ckpt'" in str(again)


def test_a_scheduler_that_dies_is_a_lost_cluster(data, tmp_path):
    file = tmp_path / "scheduler.json"
    with (
        started("scheduler", file, "--port=0", "--no-dashboard") as scheduler,
        started("worker", file, "--nthreads=1", "--no-nanny", "--no-dashboard"),
    ):
        # Not as the default: where two clients overlap, as this one takes its time to close, Dask leaves its
        # setting of the scheduler behind.
        client = distributed.Client(scheduler_file=str(file), timeout=30, set_as_default=False)
        client.wait_for_workers(1, timeout=60)
        client._timeout = 1  # for the reconnecting that follows

        def die(visit: int, pid: int) -> bool:
            if visit == 3:
                os.kill(scheduler.pid, signal.SIGKILL)
            return True

        lost = r"the connection to the scheduler at tcp://.* was lost"
        with client.as_current(), gated(data, die) as (through, _):
            for _ in range(2):  # in mid-sweep, and while it is still reconnecting, or after
                with pytest.raises(daskgd.ClusterLost, match=lost):
                    fit("GradientDescent", through, engine=lambda dataset: Graph(dataset, client))
        client.close(timeout=5)


@contextmanager
def started(what: str, file: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "dask", what, f"--scheduler-file={file}", *options]
    path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    with subprocess.Popen(
        command, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path}
    ) as process:
        try:
            yield process
        finally:
            process.kill()


class Heard(logging.Handler):
    """Calls `hear` with every message of daskgd's log."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self.hear, self.said = hear, []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())
        self.hear(self.said[-1])


@contextmanager
def heard(hear: Callable[[str], None] = lambda message: None) -> Iterator[list[str]]:
    handler = Heard(hear)
    logging.getLogger("daskgd").addHandler(handler)
    try:
        yield handler.said
    finally:
        logging.getLogger("daskgd").removeHandler(handler)


def test_without_workers_a_fit_waits_says_so_and_ends(data, undisturbed, monkeypatch):
    monkeypatch.setattr(cluster_room, "TICK", 0.05)
    short = {"daskgd.no-workers-warning": "100 ms", "daskgd.no-workers-timeout": "400 ms"}
    with made(n_workers=0, processes=False) as (cluster, _):
        ended = r"has no workers since .* \(daskgd.no-workers-timeout\)"
        with dask.config.set(short), heard() as said, pytest.raises(daskgd.ClusterLost, match=ended):
            fit("GradientDescent", data)
        (message,) = said
        assert "waiting for workers since 0 s" in message
        assert "the fit ends after 0 s" in message

        patient = {"daskgd.no-workers-warning": "100 ms", "daskgd.no-workers-timeout": None}
        with dask.config.set(patient), heard(lambda message: cluster.scale(1)) as said:
            assert told(fit("GradientDescent", data)) == undisturbed["GradientDescent"]
        assert len(said) == 1

        def leave(visit: int, pid: int) -> bool:
            if visit == 2:
                cluster.scale(0)
            return True

        with (
            dask.config.set(short),
            gated(data, leave) as (through, _),
            pytest.raises(daskgd.ClusterLost, match=ended),
        ):
            fit("GradientDescent", through)


def test_who_kills_every_worker_is_named(data, stage):
    def die(visit: int, pid: int) -> bool:
        if visit >= 2:
            os.kill(pid, signal.SIGKILL)
        return True

    with distributed.Client(stage) as client, gated(data, die) as (through, _):
        client.wait_for_workers(2)
        stage.scheduler.allowed_failures = 0
        try:
            with pytest.raises(daskgd.ClusterLost) as raised:
                fit("GradientDescent", through)
        finally:
            stage.scheduler.allowed_failures = 3
        client.wait_for_workers(2)
    assert isinstance(raised.value.__cause__, distributed.KilledWorker)
    for what in ("rows ", "in blocks of 8", "1 workers ended", "memory limit", "smaller chunks", "tcp://"):
        assert what in str(raised.value)


def test_a_worker_that_is_late_is_named_once(data, client, monkeypatch):
    monkeypatch.setattr(cluster_room, "TICK", 0.05)
    monkeypatch.setattr(cluster_room, "SLOW_SECONDS", 0.2)
    monkeypatch.setattr(cluster_room, "SLOW", 1.5)
    named = threading.Event()
    visitors: dict[int, int] = {}

    def wait(visit: int, pid: int) -> bool:
        visitors[visit] = pid
        if visit == 4:  # in a sweep of a kind that has been seen
            hear("".join(said))  # on a busy machine it may have been late before
            assert named.wait(60)
        return True

    def hear(message: str) -> None:
        if (
            4 in visitors and addresses[visitors[4]] in message
        ):  # and not the other, late for reasons of its own
            named.set()

    addresses = {pid: address for address, pid in client.run(os.getpid).items()}
    with gated(data, wait) as (through, _), heard(hear) as said:
        fit("GradientDescent", through)
    mine = [message for message in said if addresses[visitors[4]] in message]
    assert len(mine) == 1
    assert "times the median: waiting for" in mine[0]
    assert "rows " in mine[0]
    assert "worker-ttl" in mine[0]


# -- reads --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (OSError(errno.EIO, "Input/output error"), True),
        (TimeoutError("timed out"), True),
        (ConnectionResetError("reset"), True),
        (FileNotFoundError("chunk c/0/0 is missing"), False),
        (PermissionError("not yours"), False),
        (ValueError("stored and computed checksum differ"), False),
        (OSError("Restored data doesn't match checksum"), False),
        (ZeroDivisionError(), False),
    ],
)
@pytest.mark.parametrize("wrapped", [False, True])
def test_only_what_may_pass_is_read_again(error, again, wrapped, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", waits.append)
    attempts = []

    def read() -> int:
        attempts.append(1)
        if len(attempts) <= 3:
            if wrapped:
                raise daskgd.ChunkError("s3://bucket/X?sig=secret", 0, 8, str(error)) from error
            raise error
        return 42

    assert is_transient(error) == again
    if again:
        with heard() as said:
            assert with_retries(read, 3, "rows 0:8") == 42
        assert len(waits) == 3
        assert all(0.1 * 2**i <= wait <= 0.2 * 2**i for i, wait in enumerate(waits))
        assert all(f"rows 0:8: {type(error).__name__}; read again in 0." in message for message in said)
        assert [message[-8:] for message in said] == ["(1 of 3)", "(2 of 3)", "(3 of 3)"]
        attempts.clear()
        with pytest.raises(daskgd.ChunkError if wrapped else type(error)):
            with_retries(read, 2, "rows 0:8")
        assert len(attempts) == 3
    else:
        with pytest.raises(daskgd.ChunkError if wrapped else type(error)):
            with_retries(read, 3, "rows 0:8")
        assert (len(attempts), waits) == (1, [])


@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_engines_of_this_process_read_again_too(engine, data, undisturbed, monkeypatch):
    monkeypatch.setattr(retry.time, "sleep", lambda seconds: None)
    with gated(data, lambda visit, pid: visit not in (3, 4, 5)) as (through, gate):
        est = fit("LBFGS", through, engine=engine)
    assert told(est) == undisturbed["LBFGS"]
    assert gate.visits == est.n_sweeps_ + 3
    with gated(data, lambda visit, pid: visit < 3) as (through, gate), pytest.raises(OSError, match="output"):
        fit("LBFGS", through, engine=engine)
    assert gate.visits == 2 + 4


def test_what_is_lost_for_good_fails_at_once(arrays, client, tmp_path):
    daskgd.write_dataset(tmp_path / "data.zarr", *arrays, chunk_bytes=8_000)
    dataset = daskgd.open_dataset(tmp_path / "data.zarr", block_bytes=8_000)
    chunks = sorted((tmp_path / "data.zarr" / "X" / "c").rglob("*"))
    next(chunk for chunk in chunks if chunk.is_file()).unlink()
    with heard() as said, pytest.raises(daskgd.ChunkError, match="missing"):
        fit("LBFGS", dataset)
    assert said == []


# -- before the first sweep ---------------------------------------------------------------------


def test_what_cannot_be_sent_is_named(data, client):
    query: Any = Survey({"loss": [threading.Lock()]})  # type: ignore[arg-type]
    with (
        open_engine(data, "distributed") as (engine, _),
        pytest.raises(TypeError, match=r"objective cannot be sent to workers: .*\['loss'\]\[0\] is a lock"),
    ):
        engine.sweep([Ask(None, query)])


def test_versions_are_compared_once(client, data):
    first = next(iter(client.run(os.getpid)))

    def pretend(version: str) -> str:
        import daskgd

        old, daskgd.__version__ = daskgd.__version__, version
        return old

    old = client.run(pretend, "0.0.0", workers=[first])[first]
    try:
        with heard() as said:
            for _ in range(2):
                fit("GradientDescent", data)
    finally:
        client.run(pretend, old, workers=[first])
    assert said == [f"daskgd is {old} here and 0.0.0 at {first}: the last bits of results may differ"]


def test_a_worker_without_daskgd_is_named(client, data):
    first = next(iter(client.run(os.getpid)))

    def hide() -> None:
        import sys

        sys._hidden, sys.modules["daskgd"] = sys.modules.get("daskgd"), None  # type: ignore[attr-defined]

    def show() -> None:
        import sys

        del sys.modules["daskgd"]
        if sys._hidden is not None:  # type: ignore[attr-defined]
            sys.modules["daskgd"] = sys._hidden  # type: ignore[attr-defined]

    client.run(hide, workers=[first])
    try:
        with pytest.raises(
            ModuleNotFoundError, match=f"daskgd cannot be imported by {first}; install daskgd=="
        ):
            fit("GradientDescent", data)
    finally:
        client.run(show, workers=[first])
    fit("GradientDescent", data)


def test_many_workers_are_named_in_a_line(caplog):
    there = {f"tcp://10.0.0.{i}:1": {"daskgd": "1", "numpy": "2.0"} for i in range(9)}
    with caplog.at_level(logging.WARNING, "daskgd"):
        judge({"daskgd": "1", "numpy": "2.1"}, there)
    (record,) = caplog.records
    assert "numpy is 2.1 here and 2.0 at tcp://10.0.0.0:1, tcp://10.0.0.1:1, tcp://10.0.0.2:1 and 6 more" in (
        record.getMessage()
    )


def test_a_cluster_with_certificates(data, undisturbed):
    pytest.importorskip("cryptography")
    security = distributed.Security.temporary()
    with made(n_workers=1, security=security, protocol="tls") as (_, client):
        assert client.scheduler.address.startswith("tls://")
        assert told(fit("SubsampledNewton", data, memory="auto")) == undisturbed["SubsampledNewton"]


def test_fits_of_several_threads_share_a_cluster(data, undisturbed, client):
    with ThreadPoolExecutor(len(SOLVERS)) as pool:
        fits = pool.map(lambda solver: told(fit(solver, data, engine="distributed")), SOLVERS)
        assert dict(zip(SOLVERS, fits, strict=True)) == {solver: undisturbed[solver] for solver in SOLVERS}


def test_a_fit_may_be_a_task_itself(data, undisturbed):
    """On the only thread there is, which it leaves to the tasks it waits for."""

    def task(data: daskgd.Dataset) -> Any:
        with distributed.get_client().as_current():
            return told(fit("LBFGS", data, engine="distributed"))

    with made(n_workers=1, processes=False) as (_, client):
        assert client.submit(task, data).result(timeout=60) == undisturbed["LBFGS"]
