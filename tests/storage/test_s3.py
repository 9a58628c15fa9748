"""Datasets in a real S3 server, moto's: written, read, fitted and killed, on threads and on a cluster.

They need s3fs and moto: ``pip install "daskgd[test,test-s3]"``.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import ConvergenceWarning

import daskgd
from benchmarks.objects import SMALL, Wait, by_obstore, seconds_of_sweep
from benchmarks.s3_server import move_away, s3fs_options, serving
from daskgd.data.formats.files import find_files
from daskgd.queries import Ask
from daskgd.storage.remote import _connected
from tests.faulty_proxy import counts, proxy

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

s3fs = pytest.importorskip("s3fs")
pytest.importorskip("moto.server")

SECRETS = "AKIDHUNTER2", "hunter2hunter2"

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
"""A server that ends with the process that has started it."""

CHILD = """
import sys, numpy as np, daskgd
from daskgd.data.formats.files import find_files
url, port, what = sys.argv[1:]
options = {"key": "AKIDHUNTER2", "secret": "hunter2hunter2",
           "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"}}

def length(file):
    with file.open() as opened:
        return len(opened.read())

def by_obstore():
    from obstore.fsspec import register
    register("s3", asynchronous=True)
    return {"config": {"endpoint": options["client_kwargs"]["endpoint_url"], "region": "us-east-1",
                       "access_key_id": "AKIDHUNTER2", "secret_access_key": "hunter2hunter2",
                       "virtual_hosted_style_request": "false"}, "client_options": {"allow_http": True}}

def main():
    dataset = daskgd.open_dataset(url, storage_options=by_obstore() if what == "obstore" else options)
    if what == "lbfgs":
        print(*daskgd.Ridge(solver="lbfgs", memory=0, tol=0, max_iter=4).fit(dataset).coef_)
    elif what == "obstore":
        import distributed
        print(*daskgd.Ridge().fit(dataset).coef_)
        with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
            with distributed.Client(cluster):
                print(*daskgd.Ridge().fit(dataset).coef_)
    elif what == "cluster":
        import distributed
        with distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=":0") as cluster:
            with distributed.Client(cluster) as client:
                print(*daskgd.Ridge().fit(dataset).coef_)
                files = find_files(url, (), options)
                assert client.gather(client.map(length, list(files))) == [file.size for file in files]
    else:
        print(*daskgd.Ridge(engine=what).fit(dataset).coef_)

def blocks():
    for number in range(10**9):
        yield np.full((1000, 4), float(number)), np.zeros(1000)
        print(number, flush=True)

if __name__ == "__main__":
    if what == "write":
        daskgd.write_dataset(url, blocks(), chunk_bytes=32_000, overwrite=True, storage_options=options)
    else:
        main()
"""


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield int(server.stdout.readline())
        finally:
            server.communicate("")


@pytest.fixture(scope="module")
def options(port: int) -> dict[str, Any]:
    options = {
        "key": SECRETS[0],
        "secret": SECRETS[1],
        "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}"},
    }
    s3fs.S3FileSystem(**options).mkdir("bucket")
    return options


def rows() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(4000, 4))
    return X, X @ [1.0, 2.0, 3.0, 4.0] + rng.normal(size=4000)


def no_secrets(*texts: object) -> None:
    for text in map(str, texts):
        assert not any(secret in text for secret in SECRETS), text


def start(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("shards", [None, 2])
def test_the_same_rows_as_on_disk(tmp_path: Path, options: dict[str, Any], shards: int | None) -> None:
    X, y = rows()
    url = f"s3://bucket/same-{shards}.zarr"
    lazy = da.from_array(X, chunks=(700, 4)), da.from_array(y, chunks=700)
    for given in ((X, y), lazy, (iter([(X[:900], y[:900]), (X[900:], y[900:])]),)):
        daskgd.write_dataset(
            url, *given, chunk_bytes=16_000, shards=shards, overwrite=True, storage_options=options
        )
        dataset = daskgd.open_dataset(url, storage_options=options)
        dataset.verify()
        daskgd.write_dataset(tmp_path / "rows.zarr", X, y, chunk_bytes=16_000, shards=shards, overwrite=True)
        there = daskgd.open_dataset(tmp_path / "rows.zarr")
        assert dataset.fingerprint == there.fingerprint
        assert (daskgd.Ridge().fit(dataset).coef_ == daskgd.Ridge().fit(there).coef_).all()
    with pytest.raises(FileExistsError, match=r"^s3://bucket/same"):
        daskgd.write_dataset(url, X, y, storage_options=options)


def test_a_model_and_checkpoints_beside_the_data(options: dict[str, Any]) -> None:
    X, y = rows()
    daskgd.write_dataset("s3://bucket/beside.zarr", X, y, storage_options=options)
    dataset = daskgd.open_dataset("s3://bucket/beside.zarr", storage_options=options)
    checkpoint = daskgd.Checkpoint("s3://bucket/run", every=1, storage_options=options)
    model = daskgd.Ridge(solver="lbfgs").fit(dataset, checkpoint=checkpoint)
    model.save("s3://bucket/model.dgd", storage_options=options)
    again = daskgd.load_model("s3://bucket/model.dgd", storage_options=options)
    assert (again.coef_ == model.coef_).all()
    fs = s3fs.S3FileSystem(**options)
    files = [*fs.find("bucket/run"), "bucket/model.dgd", *fs.find("bucket/beside.zarr")]
    assert len(files) > 4
    no_secrets(*(fs.cat_file(file) for file in files), repr(model), repr(checkpoint), repr(dataset))


@pytest.mark.parametrize("engine", ["serial", "threads", "cluster"])
def test_a_process_that_fits_ends_without_a_word(options: dict[str, Any], port: int, engine: str) -> None:
    """Of its connections: aiohttp says 'Unclosed client session' of those that are left open."""
    X, y = rows()
    url = f"s3://bucket/{engine}.zarr"
    daskgd.write_dataset(url, X, y, chunk_bytes=16_000, storage_options=options)
    out, err = start(url, port, engine).communicate(timeout=120)
    expected = daskgd.Ridge().fit(daskgd.open_dataset(url, storage_options=options)).coef_
    assert err == ""
    assert [float(word) for word in out.split()] == expected.tolist()


FAR_AWAY = 0.05
"""Seconds to an object store and back."""


@pytest.fixture(scope="module")
def far(options: dict[str, Any]) -> str:
    """A dataset of 500 objects."""
    daskgd.write_dataset("s3://bucket/far.zarr", *rows(), chunk_bytes=512, storage_options=options)
    return "s3://bucket/far.zarr"


@pytest.mark.parametrize("how", ["lbfgs", "serial", "cluster"])
def test_requests_that_fail_or_hang_change_no_bits(
    options: dict[str, Any], port: int, far: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One in a hundred, of each kind, in a store 50 ms away: nothing is lost, and nothing is left open."""
    url, (every, least) = far, (100, 15) if how == "lbfgs" else (20, 15)
    monkeypatch.setenv("DASK_DASKGD__BLOCK_BYTES", "4000")
    dataset = daskgd.open_dataset(url, storage_options=options, block_bytes=4000)
    settings: Any = {"solver": "lbfgs", "memory": 0, "tol": 0, "max_iter": 4} if how == "lbfgs" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        expected = daskgd.Ridge(engine="serial", **settings).fit(dataset).coef_
    with proxy(port, FAR_AWAY, every) as there:
        with start(url, there, how) as process:
            out, err = process.communicate(timeout=200)
        counted = counts(there)
    assert [float(word) for word in out.split()] == expected.tolist(), err
    assert counted["requests"] >= counted["failed"] * every
    assert counted["failed"] >= least
    assert all("read again in" in line for line in err.splitlines()), err


@pytest.mark.posix
def test_a_writer_that_is_killed_leaves_no_data(options: dict[str, Any], port: int) -> None:
    """Nor does it leave what it began to replace."""
    X, y = rows()
    url = "s3://bucket/killed.zarr"
    fs = s3fs.S3FileSystem(**options)
    for count in (1, 4):
        daskgd.write_dataset(url, X, y, chunk_bytes=16_000, overwrite=True, storage_options=options)
        with start(url, port, "write") as writer:
            assert writer.stdout is not None
            for _ in range(count):
                assert writer.stdout.readline(), "the writer has ended"
            writer.send_signal(signal.SIGKILL)
        assert fs.find("bucket/killed.zarr/X/c")
        with pytest.raises(daskgd.StoreError, match=r"^s3://bucket/killed\.zarr: half-written"):
            daskgd.open_dataset(url, storage_options=options)
    daskgd.write_dataset(url, X, y, overwrite=True, storage_options=options)
    assert daskgd.open_dataset(url, storage_options=options).n_rows == len(X)


@pytest.mark.cluster
def test_secrets_are_shown_nowhere(
    options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Workers write and read; then they are turned away, which they log."""
    caplog.set_level(logging.INFO)
    X, y = rows()
    url = "s3://bucket/secret.zarr"
    lazy = da.from_array(X, chunks=(500, 4)), da.from_array(y, chunks=500)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=":0", silence_logs=False
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        daskgd.write_dataset(url, *lazy, chunk_bytes=16_000, storage_options=options)
        dataset = daskgd.open_dataset(url, storage_options=options, block_bytes=16_000)
        checkpoint = daskgd.Checkpoint(tmp_path / "run", every=1)
        model = daskgd.Ridge(solver="lbfgs").fit(dataset, checkpoint=checkpoint)
        said = [repr(dataset), repr(model), repr(vars(model)), repr(checkpoint)]
        wrong = options | {"client_kwargs": {"endpoint_url": f"http://127.0.0.1:1/{SECRETS[1]}"}}
        for call in (
            lambda: daskgd.open_dataset(url, storage_options=wrong),
            lambda: daskgd.write_dataset(url, *lazy, storage_options=wrong),
            lambda: find_files(url, (), wrong),
            lambda: daskgd.write_dataset("s3://nowhere/a.zarr", *lazy, storage_options=options),
        ):
            with pytest.raises(Exception, match=r"^s3://(bucket/secret|nowhere/a)\.zarr: ") as error:
                call()
            said += traceback.format_exception(error.value)
        s3fs.S3FileSystem(**options).rm("bucket/secret.zarr/X/c", recursive=True)
        with pytest.raises(daskgd.ChunkError, match=r"^s3://bucket/secret\.zarr/X, chunk c/\d/0:") as error:
            daskgd.Ridge().fit(dataset)
        said += traceback.format_exception(error.value)

        def scheduler_knows(dask_scheduler: Any) -> str:
            there = dask_scheduler
            return f"{list(there.transition_log)} {there.get_events()} {there.get_logs()}"

        known = client.run_on_scheduler(scheduler_knows)
        logs = str(client.get_worker_logs())
    assert "store-map" in known
    files = [file.read_bytes() for file in (tmp_path / "run").rglob("*")]
    assert files
    no_secrets(*said, known, logs, caplog.text, *files)


def test_files_are_found(options: dict[str, Any]) -> None:
    fs = s3fs.S3FileSystem(**options)
    names = [
        "part.10.csv",
        "part.2.csv",
        "_SUCCESS",
        "_temporary/part.3.csv",
        "year=2013/.x.csv",
        "empty.csv",
    ]
    for name in names:
        fs.pipe_file(f"bucket/files/{name}", b"" if name in ("_SUCCESS", "empty.csv") else name.encode())
    for asked in ("s3://bucket/files", "s3://bucket/files/*.csv", "s3://bucket/fil*"):
        found = find_files(asked, (".csv",), options)
        assert [file.path for file in found] == [f"s3://bucket/files/{name}" for name in names[1::-1]]
        for file in found:
            with file.open() as opened:
                assert opened.read() == file.name.encode()
    for asked in ("s3://bucket/none/*.csv", "s3://nowhere/a", "s3://nowhere/*"):
        with pytest.raises(FileNotFoundError, match=r"^s3://"):
            find_files(asked, (".csv",), options)


@pytest.mark.cluster
def test_tables_are_ingested_from_the_server_to_it(
    tmp_path: Path, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """CSV and Parquet, by threads and by a cluster: the bits of the same files on disk, categories too."""
    caplog.set_level(logging.DEBUG)
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "x": rng.normal(size=5000).round(4),
            "from": rng.choice(["JFK", "EWR", "LGA"], 5000),
            "when": pd.date_range("2013-01-01", periods=5000, freq="h").as_unit("s"),
            "late": rng.choice(["no", "yes"], 5000),
        }
    )
    fs = s3fs.S3FileSystem(**options)
    for ending, save in (("csv", pd.DataFrame.to_csv), ("parquet", pd.DataFrame.to_parquet)):
        for i in range(2):
            place = tmp_path / ending / f"{i}.{ending}"
            place.parent.mkdir(exist_ok=True)
            save(frame[i * 2500 : (i + 1) * 2500], place, index=False)
            fs.put(str(place), f"bucket/in/{ending}/{i}.{ending}")
        daskgd.ingest(tmp_path / ending, tmp_path / "out", target="late", chunk_bytes=9000, overwrite=True)
        expected = daskgd.open_dataset(tmp_path / "out").fingerprint
        source, out = f"s3://bucket/in/{ending}", f"s3://bucket/{ending}.zarr"
        with dask.config.set(scheduler="threads"):
            daskgd.ingest(source, out, target="late", chunk_bytes=9000, storage_options=options)
        assert daskgd.open_dataset(out, storage_options=options).fingerprint == expected
        with (
            distributed.LocalCluster(
                n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
            ) as cluster,
            distributed.Client(cluster) as client,
        ):
            daskgd.ingest(
                source, out, target="late", chunk_bytes=9000, overwrite=True, storage_options=options
            )
            no_secrets(client.run(str), client.get_scheduler_logs(), client.get_worker_logs())
        dataset = daskgd.open_dataset(out, storage_options=options)
        assert dataset.fingerprint == expected
        dataset.verify()
        assert dataset.frame.compute()["from"].tolist() == frame["from"].tolist()
    no_secrets(repr(dataset), repr(dataset.schema), dataset.info())
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("daskgd")]
    no_secrets(*ours)
    with pytest.raises(ValueError, match="nowhere") as raised:
        daskgd.ingest(source, out, target="nowhere", overwrite=True, storage_options=options)
    no_secrets(raised.value, *traceback.format_exception(raised.value))


def test_eight_readers_do_not_notice_200_ms(tmp_path: Path) -> None:
    """At least 80 % of the local rate, where each reader has a processor of its own, which works 100 ms on a
    block; with one request ahead it would be half of it."""
    size = SMALL.nbytes
    daskgd.write_dataset(tmp_path / "rows.zarr", np.resize(SMALL, (256 * 64, 64)), chunk_bytes=size)
    ask = Ask(None, Wait(0.1))
    with serving(tmp_path) as port, dask.config.set({"daskgd.tasks-per-thread": 1}):
        here = daskgd.open_dataset(tmp_path / "rows.zarr", block_bytes=size)
        options = s3fs_options(port)
        there = daskgd.open_dataset("s3://bucket/rows.zarr", block_bytes=size, storage_options=options)
        assert there.fingerprint == here.fingerprint
        move_away(port, 0.2)
        ratios = [seconds_of_sweep(here, ask, 8) / seconds_of_sweep(there, ask, 8) for _ in range(2)]
    assert max(ratios) >= 0.8, ratios


def test_the_command_line_has_its_options_from_the_environment(port: int, options: dict[str, Any]) -> None:
    X, y = rows()
    daskgd.write_dataset("s3://bucket/shown.zarr", X, y, storage_options=options)
    settings = {"KEY": SECRETS[0], "SECRET": SECRETS[1], "ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    environment = os.environ | {f"FSSPEC_S3_{name}": value for name, value in settings.items()}
    for command in ("info", "verify"):
        done = subprocess.run(
            [sys.executable, "-m", "daskgd.cli", command, "s3://bucket/shown.zarr"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert "4,000" in done.stdout
        no_secrets(done.stdout)


def test_a_dataset_is_read_by_obstore(options: dict[str, Any], port: int, tmp_path: Path) -> None:
    """Which fsspec knows once it is registered: by this process, by threads and by workers."""
    pytest.importorskip("obstore")
    X, y = rows()
    daskgd.write_dataset("s3://bucket/by-rust.zarr", X, y, chunk_bytes=16_000, storage_options=options)
    daskgd.write_dataset(tmp_path / "rows.zarr", X, y, chunk_bytes=16_000)
    url = "s3://bucket/by-rust.zarr"
    assert _connected(url, {})["config_kwargs"] == {"max_pool_connections": 64}
    assert _connected(url, {"config_kwargs": {"max_pool_connections": 5}})["config_kwargs"].popitem()[1] == 5
    with by_obstore():
        assert _connected(url, {}) == {}, "of which s3fs alone knows"
    out, err = start(url, port, "obstore").communicate(timeout=120)
    expected = daskgd.Ridge().fit(tmp_path / "rows.zarr").coef_
    assert err == ""
    assert [float(word) for word in out.split()] == 2 * expected.tolist()
