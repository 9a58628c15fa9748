"""Stores at URLs: what travels to workers, which connections are open, and that secrets are shown nowhere."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import traceback
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dask.array as da
import distributed
import fsspec
import numpy as np
import pytest
import zarr
from fsspec.asyn import AsyncFileSystem
from zarr.storage import FsspecStore

import daskgd
from daskgd.storage import remote
from daskgd.storage.remote import as_remote, open_remote
from tests.vault import OPTIONS, SECRETS, Vault, break_vault, vault_at


def no_secrets(*texts: object) -> None:
    for text in map(str, texts):
        assert not any(secret in text for secret in SECRETS), text


# -- connections ----------------------------------------------------------------------------------


class Session:
    closed = 0

    async def close(self) -> None:
        Session.closed += 1


class Sessions(AsyncFileSystem):
    """A file system that has a session, as those of object stores."""

    protocol = "sessions"

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._session = Session() if options.get("begun", True) else None


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec.register_implementation("sessions", Sessions, clobber=True)
    monkeypatch.setattr(remote, "_shared", {})
    monkeypatch.setattr(Session, "closed", 0)


@pytest.mark.usefixtures("sessions")
def test_a_process_has_one_connection_whatever_the_thread() -> None:
    store = open_remote("sessions://bucket/a", {"key": 1})
    found: list[Any] = []
    data = pickle.dumps(store.with_read_only(True))
    threads = [threading.Thread(target=lambda: found.append(pickle.loads(data))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found.append(open_remote("sessions://other/b", {"key": 1}))
    assert all(one.fs is store.fs for one in found)
    assert (found[0].path, found[0].read_only, store.read_only) == ("bucket/a", True, False)
    assert open_remote("sessions://bucket/a", {"key": 2}).fs is not store.fs
    assert store.fs.asynchronous


@pytest.mark.usefixtures("sessions")
def test_connections_are_closed_and_opened_again() -> None:
    store = open_remote("sessions://bucket/a")
    open_remote("sessions://bucket/a", {"begun": False})
    remote.close_connections()
    assert Session.closed == 1
    remote.close_connections()
    assert Session.closed == 1
    assert open_remote("sessions://bucket/a").fs is not store.fs


@pytest.mark.posix
@pytest.mark.usefixtures("sessions")
def test_a_fork_leaves_the_connections_of_its_parent_alone() -> None:
    remote._shared[os.getpid() + 1, "sessions"] = Sessions(asynchronous=True)
    remote.close_connections()
    assert Session.closed == 0


def test_connections_are_closed_at_the_end_of_a_process() -> None:
    code = (
        "from fsspec import register_implementation\n"
        "from fsspec.asyn import AsyncFileSystem\n"
        "from daskgd.storage.remote import open_remote\n"
        "class Sessions(AsyncFileSystem):\n"
        "    async def close(self): print('closed')\n"
        "register_implementation('sessions', Sessions)\n"
        "from asyncio import sleep\n"
        "from daskgd._compat.zarr import wait_for\n"
        "store = open_remote('sessions://bucket/a')\n"
        "wait_for(sleep(0))\n"  # as the request that opens a session does: it starts the event loop
        "store.fs._session = store.fs\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "closed\n"
    assert not done.stderr


def test_arrays_of_users_share_connections_where_they_arrive(tmp_path: Path) -> None:
    vault = vault_at(tmp_path / "rows")
    group = zarr.open_group(vault, mode="w", storage_options=OPTIONS)
    X = group.create_array("X", data=np.eye(3))
    assert type(X.store_path.store) is FsspecStore
    dataset = daskgd.as_dataset(X)
    store = dataset.columns.X.array.store_path.store  # type: ignore[attr-defined]
    there = [pickle.loads(pickle.dumps(store)).fs for _ in range(2)]
    assert there[0] is there[1]
    assert store.fs is X.store_path.store.fs  # here it is theirs, and so is the closing
    assert as_remote(store) is store
    np.testing.assert_array_equal(dataset.columns.X.read(0, 3), np.eye(3))


def test_zarrs_reads_what_it_can_at_urls(tmp_path: Path) -> None:
    pytest.importorskip("zarrs", reason="zarrs is not installed")
    pytest.importorskip("aiohttp")
    group = zarr.open_group(tmp_path / "rows", mode="w")
    group.create_array("X", data=np.eye(3))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            dataset = daskgd.open_dataset(f"http://127.0.0.1:{server.server_port}/rows")
            assert dataset.info()["reader"] == "ZarrsCodecPipeline"
            np.testing.assert_array_equal(dataset.columns.X.read(0, 3), np.eye(3))
        finally:
            server.shutdown()
            thread.join()


# -- options --------------------------------------------------------------------------------------


def test_options_are_for_urls(tmp_path: Path) -> None:
    place = tmp_path / "rows.zarr"
    wanted = r"^storage_options: expected None for a path on disk, .*rows.zarr, got options for key, deep; "
    fitted = daskgd.Ridge().fit(np.eye(3), np.arange(3.0))
    for call in (
        lambda: daskgd.write_dataset(place, np.eye(2), storage_options=OPTIONS),
        lambda: daskgd.open_dataset(place, storage_options=OPTIONS),
        lambda: daskgd.load_model(place / "rows.zarr", storage_options=OPTIONS),
        lambda: fitted.save(place / "rows.zarr", storage_options=OPTIONS),
    ):
        with pytest.raises(ValueError, match=wanted) as error:
            call()
        no_secrets(error.value)
    daskgd.write_dataset(place, np.eye(2), storage_options={})
    assert daskgd.open_dataset(place, storage_options={}).n_rows == 2


def test_options_reach_the_file_system(tmp_path: Path) -> None:
    class Strict(Vault):
        protocol = "strict"

        def __init__(self, key: str, **options: Any) -> None:
            super().__init__(key, **options)

    fsspec.register_implementation("strict", Strict, clobber=True)
    url = f"strict://{tmp_path.as_posix()}/rows"
    with pytest.raises(TypeError, match="key"):
        daskgd.write_dataset(url, np.eye(2))
    daskgd.write_dataset(url, np.eye(2), storage_options=OPTIONS)
    daskgd.write_dataset(url, np.eye(3), storage_options=OPTIONS, overwrite=True)
    assert daskgd.open_dataset(url, storage_options=OPTIONS).n_rows == 3


# -- secrets --------------------------------------------------------------------------------------


def test_stores_say_no_secrets(tmp_path: Path) -> None:
    vault = vault_at(tmp_path / "rows")
    store = open_remote(vault, OPTIONS)
    shown = f"vault://{tmp_path.as_posix()}/rows"
    assert f"{store} {store!r}" == 2 * f"<RemoteStore: {shown}>".replace("><", "> <") or f"{shown}" in repr(
        store
    )
    group = zarr.open_group(store, mode="w")
    X = group.create_array("X", data=np.eye(3))
    no_secrets(store, repr(store), X, repr(X), group, repr(group), X.store_path)
    break_vault(tmp_path, "open", "info", "find", "write")
    for call in (
        lambda: X[:],
        lambda: X.__setitem__(slice(None), 1.0),
        lambda: list(group.array_keys()),
        lambda: zarr.open_group(store, mode="w"),
        lambda: group.attrs.update(a=1),
    ):
        with pytest.raises(PermissionError, match=r"vault://\S*: may not .*'key': '\*{3}'") as error:
            call()
        no_secrets(*traceback.format_exception(error.value))


def test_models_and_checkpoints_say_no_secrets(tmp_path: Path, rng: np.random.Generator) -> None:
    X, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    url = vault_at(tmp_path).partition("?")[0]
    model = daskgd.Ridge().fit(X, y)
    model.save(f"{url}/model.dgd", storage_options=OPTIONS)
    checkpoint = daskgd.Checkpoint(f"{url}/run", every=1, storage_options=OPTIONS)
    daskgd.Ridge(solver="lbfgs").fit(X, y, checkpoint=checkpoint)
    no_secrets(checkpoint, repr(checkpoint))
    with pytest.raises(daskgd.CheckpointError, match="of another") as error:
        daskgd.Ridge(solver="lbfgs").fit(X, 2 * y, checkpoint=checkpoint)
    no_secrets(*traceback.format_exception(error.value))
    break_vault(tmp_path, "write", "open")
    for call in (
        lambda: model.save(f"{url}/model.dgd", storage_options=OPTIONS),
        lambda: daskgd.load_model(f"{url}/model.dgd", storage_options=OPTIONS),
    ):
        with pytest.raises(PermissionError, match=r"^vault://.*/model.dgd: .* may not") as error:
            call()
        no_secrets(*traceback.format_exception(error.value))
    checkpoint = daskgd.Checkpoint(f"{url}/other", every=1, storage_options=OPTIONS)
    with pytest.warns(RuntimeWarning, match=r"^vault://.*/other: sweep \d+ was not saved") as warned:
        daskgd.Ridge(solver="lbfgs").fit(X, y, checkpoint=checkpoint)
    no_secrets(*(one.message for one in warned))


@pytest.mark.timeout(60)
def test_secrets_are_shown_nowhere_on_a_cluster(
    tmp_path: Path, client: distributed.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers write the data, fail to, and read them in a fit with a checkpoint."""
    caplog.set_level("INFO", "daskgd")
    vault = vault_at(tmp_path / "rows")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 3))
    lazy, y = da.from_array(X, chunks=(20, 3)), da.from_array(X @ [1.0, 2.0, 3.0], chunks=20)
    daskgd.write_dataset(vault, lazy, y, chunk_bytes=480, storage_options=OPTIONS)
    dataset = daskgd.open_dataset(vault, storage_options=OPTIONS, block_bytes=480)
    np.testing.assert_array_equal(dataset.X.compute(), X)
    checkpoint = daskgd.Checkpoint(tmp_path / "checkpoint", every=1)
    model = daskgd.Ridge(alpha=1e-6, solver="lbfgs").fit(dataset, checkpoint=checkpoint)
    np.testing.assert_allclose(model.coef_, [1, 2, 3], rtol=1e-4)
    model.save(tmp_path / "model.dgd")
    said = [
        repr(dataset),
        repr(dataset.source),
        repr(model),
        repr(checkpoint),
        repr(vars(model)),
        caplog.text,
    ]
    break_vault(tmp_path, "chunk")
    with pytest.raises(PermissionError, match=r"^vault://\S*/rows/[Xy]/c/\S*: .* may not chunk") as error:
        daskgd.write_dataset(vault, lazy, y, chunk_bytes=480, storage_options=OPTIONS, overwrite=True)
    said += traceback.format_exception(error.value)
    with pytest.raises(daskgd.StoreError, match="half-written"):
        daskgd.open_dataset(vault, storage_options=OPTIONS)

    def scheduler_knows(dask_scheduler: Any) -> str:
        return (
            f"{list(dask_scheduler.transition_log)} {dask_scheduler.get_events()} {dask_scheduler.get_logs()}"
        )

    known = client.run_on_scheduler(scheduler_knows)
    assert "store-map" in known  # the names of tasks are among it
    files = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and "rows" not in file.parts]
    assert len(files) >= 3
    no_secrets(*said, known, client.get_worker_logs(), *files)


# -- stores that zarr knows, and fsspec does not --------------------------------------------------


def in_memory(place: Path) -> Any:
    return zarr.storage.MemoryStore()


def in_obstore(place: Path) -> Any:
    obstore = pytest.importorskip("obstore.store")
    place.mkdir()
    return zarr.storage.ObjectStore(obstore.LocalStore(str(place)))


def in_icechunk(place: Path) -> Any:
    icechunk = pytest.importorskip("icechunk")
    repository = icechunk.Repository.create(icechunk.local_filesystem_storage(str(place)))
    return repository.writable_session("main").store


@pytest.mark.parametrize("make", [in_memory, in_obstore, in_icechunk])
def test_arrays_are_read_from_any_store_of_zarrs(make: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 4))
    y = X @ [1.0, 2.0, 3.0, 4.0]
    group = zarr.create_group(make(tmp_path / "store"))
    for name, values in (("X", X), ("y", y)):
        group.create_array(name, data=values, chunks=(50, *values.shape[1:]))
    model = daskgd.Ridge(engine="threads").fit(group["X"], group["y"])
    assert (model.coef_ == daskgd.Ridge(engine="threads").fit(X, y).coef_).all()
