"""Paths that hold on a cluster, and workers that do not see the rows of a fit, or see others."""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pytest
import zarr
from gates import gated
from guarded import KEY

import daskgd
from daskgd.engines import preflight, store_access
from daskgd.engines.cluster import Cluster
from daskgd.engines.select import open_engine
from daskgd.monitoring.events import Iterated
from daskgd.queries import Ask, Survey
from daskgd.storage import access
from daskgd.storage.access import AccessError, check_access, look
from tests.tiers import slow_but

pytestmark = pytest.mark.posix

HERE = socket.gethostname()


def can_unshare() -> bool:
    """Whether a process may have mounts of its own here, which nobody else sees."""
    if shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


def arrays(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    X = rng.integers(-8, 8, size=(4000, 5)).astype(np.float32)
    return X, (X[:, 0] - X[:, 1] + 4 * rng.normal(size=len(X)) > 0).astype(np.int8)


def fit(data: Any, **settings: Any) -> Any:
    settings = {"solver": "lbfgs", "tol": 0, "max_iter": 5, "memory": 0, **settings}
    watch = settings.pop("watch", ())
    return daskgd.LogisticRegression(**settings).fit(data, watch=watch)


@dataclass
class Machines:
    """A scheduler and worker processes in another folder than this one's, each with mounts of its own."""

    file: Path
    folder: Path
    stack: ExitStack

    def start(self, what: str, *options: str, mounted: tuple[Path, Path] | None = None) -> Any:
        """Start a process; in place of the second of the folders that are `mounted` it sees the first."""
        command = [sys.executable, "-m", "dask", what, f"--scheduler-file={self.file}", "--no-dashboard"]
        if mounted is not None:
            mount = 'mount --bind "$0" "$1" && shift && exec "$@"'
            command = ["unshare", "-m", "sh", "-c", mount, *map(str, mounted), *command]
        path = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
        process = subprocess.Popen(
            [*command, *options],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            stderr=subprocess.DEVNULL,
        )
        self.stack.callback(process.wait, 30)
        self.stack.callback(process.kill)
        return process

    @contextmanager
    def worker(
        self, client: distributed.Client, mounted: tuple[Path, Path] | None = None
    ) -> Iterator[tuple[str, Any]]:
        """The address and the process of a worker with one thread, while the block runs."""
        before = set(client.nthreads())
        process = self.start("worker", "--nthreads=1", "--no-nanny", mounted=mounted)
        try:
            client.wait_for_workers(len(before) + 1, timeout=60)
            (address,) = set(client.nthreads()) - before
            yield address, process
        finally:
            process.kill()
            process.wait(30)
            while set(client.nthreads()) > before:  # the scheduler hears of it from the broken connection
                client.run_on_scheduler(lambda: None)


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    folder = tmp_path_factory.mktemp("elsewhere")
    with ExitStack() as stack:
        made = Machines(folder / "scheduler.json", folder, stack)
        made.start("scheduler", "--port=0")
        yield made


@pytest.fixture(scope="module")
def far(machines: Machines) -> Iterator[tuple[distributed.Client, str]]:
    """A client, and the address of a worker that sees what this process sees, but from another folder."""
    with (
        distributed.Client(scheduler_file=str(machines.file), timeout=60, set_as_default=False) as client,
        machines.worker(client) as (address, _),
    ):
        yield client, address


@dataclass
class Place:
    """A folder with a dataset, and folders to be seen by others in its place."""

    folder: Path
    path: Path
    without: tuple[Path, Path]
    stale: tuple[Path, Path]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    folder, empty, other = tmp_path / "data", tmp_path / "empty", tmp_path / "other"
    empty.mkdir()
    daskgd.write_dataset(folder / "rows.zarr", *arrays(), chunk_bytes=4000)
    daskgd.write_dataset(other / "rows.zarr", *arrays(1), chunk_bytes=4000)
    return Place(folder, folder / "rows.zarr", (empty, folder), (other, folder))


cluster = pytest.mark.cluster
apart = pytest.mark.skipif(not can_unshare(), reason="needs the right to make mounts of one's own")


# -- another folder -------------------------------------------------------------------------------


@cluster
@pytest.mark.parametrize("spelling", slow_but(["rows.zarr", "~/rows.zarr", "file://rows.zarr"], "rows.zarr"))
def test_a_worker_in_another_folder_reads_the_same_rows(far, place, monkeypatch, spelling):
    monkeypatch.chdir(place.folder)
    monkeypatch.setenv("HOME", str(place.folder))
    with far[0].as_current():
        est = fit(spelling)
        assert np.array_equal(est.coef_, fit(place.path, engine="serial").coef_)
        assert est.score(spelling) > 0.5
        assert est.plan(spelling).engine == "distributed"
        assert len(est.predict(daskgd.open_dataset(spelling)).compute()) == 4000
        written = spelling.replace("rows", "written")
        daskgd.write_dataset(written, daskgd.open_dataset(spelling).X)
        daskgd.open_dataset(place.folder / "written.zarr").verify()


@cluster
def test_a_dataset_that_was_written_again_is_told_from_a_copy(far, place):
    dataset = daskgd.open_dataset(place.path)
    daskgd.write_dataset(place.path, *arrays(1), overwrite=True)
    with far[0].as_current(), pytest.raises(daskgd.StoreError, match="was written again after it was opened"):
        fit(dataset)


# -- workers that do not see it -------------------------------------------------------------------

ROUTES: dict[str, Callable[[Any, Any, Any], Any]] = {
    "fit": lambda est, path, bad: est.fit(path),
    "plan": lambda est, path, bad: est.plan(path),
    "score": lambda est, path, bad: est.score(path),
    "predict": lambda est, path, bad: est.predict(daskgd.open_dataset(path)).compute(workers=[bad]),
}


@cluster
@apart
@pytest.mark.parametrize("trouble", slow_but(["nothing", "a copy"], "nothing"))
def test_what_a_worker_cannot_see_is_refused_with_one_sentence(far, place, machines, trouble):
    client, good = far
    est = fit(place.path, engine="serial").set_params(engine=None)
    if trouble == "nothing":
        said = f" cannot see {place.path}: no dataset is there. Workers read the data themselves: mount them"
    else:
        marks = [daskgd.open_dataset(f / "rows.zarr").fingerprint for f in reversed(place.stale)]
        said = ": expected fingerprint {}, got {}. A machine with a copy of its own needs".format(*marks)
    with machines.worker(client, place.without if trouble == "nothing" else place.stale) as (bad, _):
        with client.as_current():
            for name, route in ROUTES.items():
                with pytest.raises(daskgd.StoreError) as caught:
                    route(est, place.path, bad)
                assert said in str(caught.value), name
                assert f"worker {bad} on {HERE}" in str(caught.value), name
                assert str(place.path) in str(caught.value)
                assert good not in str(caught.value)
        events: list[Any] = []
        with client.as_current(), pytest.raises(daskgd.StoreError):
            fit(place.path, watch=[events.append])
        assert [type(event).__name__ for event in events] == ["Ended"]  # it never began
        with client.as_current(), dask.annotate(workers=[good]):  # by choice it is not to read
            fit(place.path)
        with client.as_current(), pytest.raises(AccessError, match=r"cannot see|is not the same data"):
            client.submit(place_rows, daskgd.open_dataset(place.path), workers=[bad], pure=False).result()
    with client.as_current():
        fit(place.path)


def place_rows(dataset: daskgd.Dataset) -> Any:
    return dataset.columns.X.read(0, 10)


@cluster
@apart
def test_a_worker_that_cannot_see_where_to_write_is_named(far, place, machines):
    client, _ = far
    with machines.worker(client, place.without) as (bad, _), client.as_current():
        message = rf"worker {bad} on {HERE} cannot write to {place.folder}/"
        with dask.annotate(workers=[bad]), pytest.raises(daskgd.StoreError, match=message):
            daskgd.write_dataset(place.folder / "new.zarr", da.ones((400, 20)))
        assert os.listdir(place.folder) == ["rows.zarr"]


# -- workers that join a fit ----------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """The warnings of daskgd's log, as they come."""
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("daskgd").addHandler(handler)
    yield said
    logging.getLogger("daskgd").removeHandler(handler)


@cluster
@apart
def test_one_that_joins_and_does_not_see_it_is_left_out(far, place, machines, lines):
    client, _ = far
    expected = fit(place.path, engine="serial")
    with ExitStack() as stack, client.as_current():
        joined: list[str] = []

        def join(event: Any) -> None:
            if isinstance(event, Iterated) and not joined:
                joined.append(stack.enter_context(machines.worker(client, place.without))[0])

        est = fit(place.path, watch=[join])
        assert np.array_equal(est.coef_, expected.coef_)
        assert len(est.history_) == len(expected.history_) > 3
        (line,) = lines
        assert f"worker {joined[0]} on {HERE} cannot see {place.path}" in line


@cluster
@apart
def test_one_that_finds_out_in_a_task_is_left_out(far, place, machines, lines, monkeypatch):
    client, _ = far
    expected = fit(place.path, engine="serial")
    monkeypatch.setattr(store_access, "ask_workers", lambda *_: {})  # as where none answers
    with machines.worker(client, place.stale) as (bad, _), client.as_current():
        tried = []
        with open_engine(daskgd.open_dataset(place.path, block_bytes=4000), "distributed") as (engine, _):
            for _ in range(3):
                engine.sweep([Ask(None, Survey(True))])
                tried.append(engine._attempts)
            assert len(engine.tasks_per_sweep) == 3
        assert tried == [2, 3, 4]  # the first sweep was begun again, once
        assert np.array_equal(fit(place.path).coef_, expected.coef_)
    assert all(f"{place.path} is not the same data for worker {bad}" in line for line in lines)
    assert len(lines) == 2  # in each fit


@cluster
@apart
@pytest.mark.slow
def test_where_none_is_left_that_sees_it_the_fit_ends(place, tmp_path, lines, monkeypatch):
    monkeypatch.setattr("daskgd.engines.cluster.TICK", 0.1)
    with ExitStack() as stack:
        machines = Machines(tmp_path / "scheduler.json", tmp_path, stack)
        machines.start("scheduler", "--port=0")
        client = distributed.Client(scheduler_file=str(machines.file), timeout=60, set_as_default=False)
        stack.enter_context(client)
        stack.enter_context(client.as_current())
        _, process = stack.enter_context(machines.worker(client))
        joined: list[str] = []

        def visit(number: int, pid: int) -> bool:
            if joined:
                process.kill()
            return True

        def join(event: Any) -> None:
            if isinstance(event, Iterated) and not joined:
                joined.append(stack.enter_context(machines.worker(client, place.without))[0])

        dataset = daskgd.open_dataset(place.path, block_bytes=4000)
        short = {"daskgd.no-workers-warning": "100 ms", "daskgd.no-workers-timeout": "500 ms"}
        message = "has no workers that can be used, but others, since"
        with (
            dask.config.set(short),
            gated(dataset, visit, row=2000) as (through, _),
            pytest.raises(daskgd.ClusterLost, match=message),
        ):
            fit(through, watch=[join])
    assert f"on {HERE} cannot see {place.path}" in lines[0]
    assert any("waiting for workers" in line for line in lines[1:])


@cluster
def test_a_sweep_whose_readers_have_all_left_begins_again(far, place, monkeypatch):
    monkeypatch.setattr("daskgd.engines.cluster.TICK", 0.05)
    gone = threading.Event()

    def are_stranded(*_: Any) -> bool:
        first = not gone.is_set()
        gone.set()
        return first

    monkeypatch.setattr(Cluster, "_are_stranded", are_stranded)
    dataset = daskgd.open_dataset(place.path, block_bytes=4000)
    with (
        gated(dataset, lambda number, pid: gone.wait(30), row=2000) as (through, _),
        far[0].as_current(),
        open_engine(through, "distributed") as (engine, _),
    ):
        engine.sweep([Ask(None, Survey(True))])
    assert (engine._attempts, engine.n_sweeps, len(engine.tasks_per_sweep)) == (2, 1, 1)


@pytest.mark.parametrize(
    ("meant_for", "processing", "stranded"),
    [
        ((), {"a": []}, False),  # anybody may do the tasks
        (("a", "b"), {"a": [], "b": []}, False),
        (("a", "b"), {"b": [], "blind": []}, True),
        (("a",), {"blind": []}, True),
        (("a",), {"b": ["ours"]}, False),  # others have been given them
        (("a",), {"b": ["of others"]}, True),
    ],
)
def test_tasks_are_stranded_where_those_they_are_for_have_left(meant_for, processing, stranded):
    pending = type("Pending", (), {"done": lambda self: False})()

    def ours(key: Any) -> str:
        return key if key == "ours" else ""

    assert Cluster._are_stranded([pending], processing, ours, meant_for) is stranded
    done = type("Done", (), {"done": lambda self: True})()
    assert not Cluster._are_stranded([done], processing, ours, meant_for)


def test_a_silent_worker_does_not_keep_the_answers_of_others(monkeypatch):
    monkeypatch.setattr(preflight, "WORKERS_ANSWER", 0.2)
    asked = []

    class Client:
        async def run(self, function: Any, *_: Any, workers: list[str], on_error: str) -> dict[str, Any]:
            asked.extend(workers)
            if workers == ["stopped"]:
                await asyncio.Event().wait()
            if workers == ["gone"]:
                raise OSError("the connection was lost")
            return {workers[0]: function()}

    class Cluster:
        client, silent = Client(), set[str]()

        def ask(self, call: Any) -> Any:
            return asyncio.run(call())

    answers = preflight.ask_workers(Cluster(), lambda: "here", ["one", "stopped", "gone", "other"])
    assert answers == {"one": "here", "other": "here"}
    assert Cluster.silent == {"stopped"}
    assert preflight.ask_workers(Cluster(), lambda: "here", ["stopped"]) == {}
    assert asked == ["one", "stopped", "gone", "other"]


# -- what it costs --------------------------------------------------------------------------------


@cluster
def test_each_worker_is_asked_once_for_a_dataset(far, place, monkeypatch):
    asked: list[list[str]] = []
    ask = store_access.ask_workers

    def counted(cluster: Any, function: Any, addresses: list[str], *arguments: Any) -> Any:
        asked.append(addresses)
        return ask(cluster, function, addresses, *arguments)

    monkeypatch.setattr(store_access, "ask_workers", counted)
    client, address = far
    with client.as_current():
        for _ in range(2):
            est = fit(daskgd.open_dataset(place.path))
            est.score(place.path)
        assert asked == [[address]]
        daskgd.write_dataset(place.path, *arrays(2), overwrite=True)
        fit(place.path)
        assert asked == [[address]] * 2
        fit(daskgd.as_dataset(*arrays()))
        assert asked == [[address]] * 2


def travelled(column: Any) -> Any:
    """The same in a process that has seen no dataset yet."""
    access._seen.clear()
    return pickle.loads(pickle.dumps(column))


def test_a_process_looks_once_at_a_dataset(place, monkeypatch):
    reads: list[Any] = []
    read = access._stored_mark
    monkeypatch.setattr(access, "_stored_mark", lambda group: (reads.append(group), read(group))[1])
    columns = daskgd.open_dataset(place.path).columns
    for column in pickle.loads(pickle.dumps([columns.X, columns.y])):
        column.read(0, 10)
    assert not reads  # it was opened here
    for column in [*travelled([columns.X, columns.y]), pickle.loads(pickle.dumps(columns.X))]:
        column.read(0, 10)
    assert len(reads) == 1


def test_columns_are_known_by_the_same_name_wherever_they_come_from(place):
    X = daskgd.open_dataset(place.path).columns.X
    assert travelled(X).to_dask((1000, 5), "X").name == X.to_dask((1000, 5), "X").name


# -- what is found --------------------------------------------------------------------------------


def test_each_trouble_is_told_from_others(place, tmp_path):
    X = daskgd.open_dataset(place.path).columns.X
    mark = place.path / "zarr.json"
    whole, other = mark.read_bytes(), (place.stale[0] / "rows.zarr" / "zarr.json").read_bytes()

    def said() -> str:
        with pytest.raises(AccessError) as caught:
            travelled(X).read(0, 10)
        again = pickle.loads(pickle.dumps(caught.value))
        assert (str(again), again.args) == (str(caught.value), caught.value.args)
        assert str(caught.value).startswith(
            (f"a process on {HERE} ", f"{place.path} is not the same data for")
        )
        return str(caught.value)

    mark.write_bytes(other)
    assert "is not the same data" in said()
    mark.write_bytes(b"{}")  # a dataset that is being written
    assert f"expected fingerprint {X.mark}, got None" in said()
    mark.write_bytes(b"{")
    assert "is not the same data" in said()
    mark.unlink()
    assert "no dataset is there" in said()
    shutil.move(place.folder, tmp_path / "gone")
    assert "no dataset is there" in said()
    place.folder.write_text("a file")
    assert "no dataset is there" in said()
    place.folder.unlink()
    shutil.move(tmp_path / "gone", place.folder)
    mark.write_bytes(whole)
    travelled(X).read(0, 10)  # what went wrong is not remembered


def test_who_may_not_read_is_told_so(place, monkeypatch):
    X = travelled(daskgd.open_dataset(place.path).columns.X)

    def denied(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(AccessError, match=rf"may not read {place.path}: PermissionError: .* Let the user of"):
        X.read(0, 10)


def test_an_error_that_may_pass_is_read_again(place, monkeypatch):
    dataset = daskgd.open_dataset(place.path)
    source = travelled(dataset.source)
    read, errors = Path.read_bytes, [OSError(5, "Input/output error")]

    def read_bytes(path: Path) -> bytes:
        if errors:
            raise errors.pop()
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr("daskgd.storage.retry.FIRST_WAIT", 0.0)
    assert len(source.read(0, 10).X) == 10
    errors.append(OSError(5, "Input/output error"))
    with pytest.raises(
        daskgd.ChunkError, match=r"the metadata cannot be read: OSError: .*Input/output error"
    ):
        travelled(dataset.columns.X).read(0, 10)


@pytest.mark.parametrize("version", [2, 3])
def test_arrays_of_other_programs_are_known_by_their_metadata(tmp_path, version):
    def write(rows: int) -> None:
        array = zarr.create_array(
            tmp_path / "theirs",
            shape=(rows, 2),
            chunks=(5, 2),
            dtype="f8",
            zarr_format=version,
            overwrite=True,
        )
        array[:] = 1.0

    write(10)
    X = daskgd.as_dataset(zarr.open_array(tmp_path / "theirs", mode="r")).columns.X
    assert travelled(X).read(0, 10).sum() == 20
    write(15)
    with pytest.raises(
        AccessError,
        match=r"is not the same data .*: expected shape \(10, 2\) of float64 in chunks of \(5, 2\), got",
    ):
        travelled(X).read(0, 10)
    shutil.rmtree(tmp_path / "theirs")
    with pytest.raises(AccessError, match=f"cannot see {tmp_path}/theirs: no dataset is there"):
        travelled(X).read(0, 10)


@pytest.mark.parametrize("arrays_of", ["group", "array"])
def test_an_array_of_a_dataset_is_known_by_the_dataset(place, arrays_of):
    if arrays_of == "group":
        array = zarr.open_group(place.path, mode="r")["X"]
    else:
        array = zarr.open_array(place.path / "X", mode="r")
    X = daskgd.as_dataset(array).columns.X
    assert X.mark == daskgd.open_dataset(place.path).fingerprint
    check_access(X.array, X.mark)
    with pytest.raises(AccessError, match=f"expected fingerprint {'0' * 32}, got {X.mark}"):
        check_access(X.array, "0" * 32)


def test_rows_that_travel_themselves_are_not_looked_for():
    X = daskgd.as_dataset(zarr.array(np.ones((4, 2)))).columns.X
    assert travelled(X).read(0, 4).sum() == 8


# -- object stores --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("guarded", "PermissionError: Access Denied"),
        pytest.param("unknown-user", "NoCredentialsError", marks=pytest.mark.slow),
    ],
)
def test_a_worker_without_credentials_is_told_so(client, place, monkeypatch, url, what):
    monkeypatch.setenv(KEY, "ours")  # and not of the workers, which run by now
    dataset = daskgd.open_dataset(f"{url}://{place.path}")
    message = rf"may not read {url}://{place.path}: {what}.*give them credentials"
    est = fit(place.path, engine="serial").set_params(engine=None)
    for route in (fit, est.plan, est.score):
        with pytest.raises(daskgd.StoreError, match=message):
            route(dataset)
    client.run(lambda: os.environ.update({KEY: "theirs"}))
    try:
        assert np.array_equal(fit(dataset).coef_, est.coef_)
    finally:
        client.run(lambda: os.environ.pop(KEY))


def test_memory_of_this_process_is_not_seen_by_workers(client, monkeypatch):
    daskgd.write_dataset("memory://rows.zarr", *arrays())
    with pytest.raises(daskgd.StoreError, match=r"worker tcp://.* and worker .* cannot see memory://"):
        fit("memory://rows.zarr")


def test_a_library_that_is_missing_is_named():
    error = asyncio.run(look(b"cno_such_library\nFileSystem\n."))
    assert error is not None
    assert "cannot open the data: ModuleNotFoundError: No module named 'no_such_library'" in str(error)
    assert asyncio.run(look(b"no pickle")) is None  # the tasks will say


def test_many_workers_are_named_in_a_line():
    workers = [(f"tcp://10.0.0.{i}:1", f"n{i}") for i in range(9)]
    said = str(AccessError("/data", "missing", "no dataset is there", workers))
    assert said.startswith(
        "worker tcp://10.0.0.0:1 on n0, worker tcp://10.0.0.1:1 on n1, worker tcp://10.0.0.2:1 on n2 "
        "and 6 more cannot see /data: no dataset is there. "
    )
    assert "worker tcp://10.0.0.0:1 on n0 and worker tcp" in str(
        AccessError("/d", "missing", "", workers[:2])
    )
