"""The command line, through its real entry points: what it prints, what it writes, and how it exits."""

from __future__ import annotations

import bz2
import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from sklearn.datasets import dump_svmlight_file

import daskgd
import daskgd.metrics
from daskgd.cli import main
from daskgd.cli.fits import _keep_job
from daskgd.cli.signals import Stop, Terminated, stoppable
from daskgd.monitoring.events import Began
from tests.tiers import slow_but

ROOT = Path(__file__).parents[2]


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(main, [*map(str, arguments)])


def daskgd_process(*arguments: Any, **settings: Any) -> subprocess.Popen[str]:
    """The real thing, in a process of its own."""
    command = [sys.executable, "-m", "daskgd.cli", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, cwd=ROOT, **pipes, **settings)


@pytest.fixture(scope="module")
def rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(3000, 3)).round(3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    frame["click"] = np.where(X @ [1.0, -2.0, 0.5] + rng.normal(size=3000) > 0, "yes", "no")
    frame["weight"] = rng.uniform(0.5, 2, 3000).round(3)
    frame["city"] = "Ulm"
    return frame


@pytest.fixture(scope="module")
def clicks(rows: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "clicks.zarr"
    columns = rows[["a", "b", "c"]].to_numpy(np.float32)
    daskgd.write_dataset(path, columns, rows["click"].to_numpy(str), chunk_bytes=1200)
    return path


def same_model(a: Path, b: Path) -> None:
    one, other = daskgd.load_model(a), daskgd.load_model(b)
    assert np.array_equal(one.coef_, other.coef_)
    assert np.array_equal(one.intercept_, other.intercept_)


# -- every command ------------------------------------------------------------------------------

COMMANDS = [
    "ingest",
    "info",
    "survey",
    "verify",
    "plan",
    "train",
    "resume",
    "predict",
    "score",
    "demo",
    "config",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_wrong_options_one_line(command: str) -> None:
    assert sorted(main.commands) == sorted(COMMANDS)
    done = invoke(command, "--help")
    assert done.exit_code == 0
    assert f"daskgd {command} " in done.stdout.partition("Example")[2]
    done = invoke(command, "--no-such-option")
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("Error: No such option")


def test_the_same_group_under_dask() -> None:
    run = [str(Path(sys.executable).with_name("dask")), "gd", "--version"]
    done = subprocess.run(run, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)
    assert done.stdout.strip() == f"daskgd, version {daskgd.__version__}", done.stderr


# -- ingest -------------------------------------------------------------------------------------


def test_every_format_becomes_the_same_dataset(rows: pd.DataFrame, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("daskgd.data.formats.base.BLOCK_BYTES", 8192)
    X, s = rows[["a", "b", "c"]].to_numpy(), rows["weight"].to_numpy()
    y = (rows["click"] == "yes").to_numpy()
    np.save(tmp_path / "Xs.npy", np.column_stack([X, s]))
    np.save(tmp_path / "y.npy", y)
    np.savez_compressed(tmp_path / "a.npz", X=np.asfortranarray(X), y=y, sample_weight=s)
    rows[:1000].to_csv(tmp_path / "1.csv", index=False)
    rows[1000:].to_csv(tmp_path / "2.csv.gz", index=False)
    (tmp_path / "parts").mkdir()
    rows[:1500].to_parquet(tmp_path / "parts" / "1.parquet")
    rows[1500:].to_parquet(tmp_path / "parts" / "2.parquet")
    dump_svmlight_file(X, y.astype(int), str(tmp_path / "a.svm"), zero_based=False)
    (tmp_path / "b.svm.bz2").write_bytes(bz2.compress((tmp_path / "a.svm").read_bytes()))
    table = ["--target", "click", "--weight", "weight", "--drop", "city"]
    for sources, options in [
        (["Xs.npy"], ["--target", tmp_path / "y.npy", "--weight", "-1"]),
        (["a.npz"], []),
        (["1.csv", "2.csv.gz"], table),
        (["parts"], table),
        (["a.svm"], []),
        (["b.svm.bz2"], ["--n-features", 3, "--one-based"]),
    ]:
        out = tmp_path / f"{sources[0]}.zarr"
        done = invoke("ingest", *(tmp_path / name for name in sources), "--out", out, *options)
        assert done.exit_code == 0, done.stderr
        text = sources in (["a.svm"], ["b.svm.bz2"])
        assert f"3,000 rows x 3 {'sparse ' if text else ''}features of float64" in done.stdout
        dataset = daskgd.open_dataset(out)
        found = dataset.X.compute()
        np.testing.assert_allclose(found.toarray() if text else found, X, rtol=1e-12)
        codes = dataset.y.compute()
        assert np.array_equal(codes.astype(bool), y)
        if not text:
            assert np.array_equal(dataset.sample_weight.compute(), s)
    assert dataset.feature_names is None
    assert daskgd.open_dataset(tmp_path / "parts.zarr").feature_names == ("a", "b", "c")
    assert daskgd.open_dataset(tmp_path / "1.csv.zarr").classes.tolist() == ["no", "yes"]
    again = ["ingest", tmp_path / "a.npz", "--out", tmp_path / "a.npz.zarr"]
    assert invoke(*again).exit_code == 2
    assert invoke(*again, "--overwrite", "--dtype", "float32").exit_code == 0
    assert daskgd.open_dataset(tmp_path / "a.npz.zarr").X.dtype == np.float32


@pytest.mark.parametrize(
    ("name", "content", "options", "code", "words"),
    [
        ("a.h5", b"rows", [], 2, "a.h5: expected one of .npy, .npz"),
        ("a.csv", b"", ["--format", "xlsx"], 2, "'xlsx' is not one of"),
        ("none.csv", None, [], 2, "none.csv: no such file"),
        ("a.csv", b"a,b\n1,2\n1,x\n", [], 65, "expected numbers or dates in column 'b', as most"),
        ("a.csv", b"a,b\n1,2\n", ["--target", "c"], 2, "target: expected a column of"),
        ("a.csv", b"a,b\n1,2\n", ["--drop", "z"], 2, "drop: expected a column of"),
        ("a.csv", b"a\n1\n", ["--target", "a"], 65, "expected at least one feature"),
        ("a.csv", b"a,b\n1,2\n", ["--weight", "b"], 65, "expected a target beside the weights"),
        ("a.csv", b"a,b\n1,2\n", ["--dtype", "text"], 2, "dtype: expected that of numbers"),
        ("a.npy", b"junk", [], 65, "expected an npy file of numbers"),
        ("a.npz", b"junk", [], 65, "expected an npz file"),
        ("a.parquet", b"junk", [], 65, "expected a Parquet file"),
        ("a.svm", b"1 2:x\n", [], 65, "a.svm, from byte 0 on"),
        ("a.svm", b"1 2:1\n", ["--target", "y"], 2, "target: expected none for libsvm"),
        ("a.svm", b"1 2:1\n", ["--n-features", 1], 2, "n_features: expected at least 2, got 1"),
        ("a.svm", b"1 0:1\n", ["--one-based"], 2, "zero_based: expected True or None, got False"),
        ("a.svm", b"1 qid:1 2:1\n", [], 65, "expected no qid"),
        ("a.csv", b"a,b\n1,2\n", ["--n-features", 2], 2, "n_features: expected None for csv files"),
        ("a.csv", b"a,b\n1,2\n", ["--chunk-bytes", "huh"], 2, "chunk_bytes: expected bytes, or a size"),
        ("a.svm", b"1 2:1\n", ["--chunk-bytes", "huh"], 2, "chunk_bytes: expected bytes, or a size"),
        ("a.csv", b"id,b\n9007199254740993,2\n", [], 65, "got 9007199254740993 in row 0, column 'id'"),
    ],
)
def test_what_cannot_be_ingested(
    name: str, content: bytes | None, options: list[str], code: int, words: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = invoke("ingest", tmp_path / name, "--out", tmp_path / "out.zarr", *options)
    assert done.exit_code == code, done.stderr
    assert words in " ".join(done.stderr.split())
    assert not (tmp_path / "out.zarr").exists()


# -- train, score, predict ----------------------------------------------------------------------


@pytest.mark.slow
def test_a_model_is_trained_scored_and_predicts(clicks: Path, tmp_path: Path) -> None:
    model = tmp_path / "model.dgd"
    asked = ["train", "logistic", clicks, "--set", "C=0.1", "--out", model, "--test-size", 0.25, "--json"]
    with daskgd_process(*asked) as process:
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    said = json.loads(stdout)
    train, test = daskgd.open_dataset(clicks).train_test_split(0.25)
    est = daskgd.LogisticRegression(C=0.1).fit(train)
    assert np.array_equal(daskgd.load_model(model).coef_, est.coef_)
    assert said == {
        "estimator": "LogisticRegression",
        "model": str(model),
        "outcome": "converged",
        "iterations": int(est.n_iter_[0]),
        "sweeps": est.n_sweeps_,
        "loss": est.history_[-1]["loss"],
        "gap": est.gap_,
        "seconds": said["seconds"],
        "score": est.score(test),
    }
    assert stderr.splitlines()[0].endswith(f"threads of this process: LogisticRegression to {clicks}")
    with daskgd_process("score", model, clicks, "--json") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert json.loads(stdout)["score"] == est.score(daskgd.open_dataset(clicks)), stderr
    expected = est.predict(daskgd.open_dataset(clicks)).compute()
    with daskgd_process("predict", model, clicks, "--out", tmp_path / "p.npy") as process:
        stdout, stderr = process.communicate(timeout=60)
    assert np.load(tmp_path / "p.npy").tolist() == expected.tolist(), stderr
    for name, method in (("p.csv", "predict"), ("p.zarr", "predict_proba"), ("d.npy", "decision_function")):
        done = invoke("predict", model, clicks, "--out", tmp_path / name, "--method", method)
        assert done.exit_code == 0, done.stderr
    assert (tmp_path / "p.csv").read_text().split() == ["prediction", *expected.tolist()]
    probabilities = daskgd.open_dataset(tmp_path / "p.zarr").X.compute()
    assert np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(np.load(tmp_path / "d.npy") > 0, expected == "yes")


def test_a_job_file_and_what_is_given_beside_it(clicks: Path, tmp_path: Path) -> None:
    job = tmp_path / "job.toml"
    job.write_text(
        f'estimator = "logistic"\ndata = "{clicks}"\nout = "{tmp_path}/a.dgd"\ntest-size = 0.5\n'
        f'quiet = true\njson = true\nlog = "{tmp_path}/log.jsonl"\n[set]\nC = 0.5\nsolver = "lbfgs"\n'
    )
    done = invoke("train", "--job", job, "--set", "C=2", "--out", tmp_path / "b.dgd")
    assert done.exit_code == 0, done.stderr
    est = daskgd.load_model(tmp_path / "b.dgd")
    assert (est.C, est.solver) == (2, "lbfgs")
    assert json.loads(done.stdout)["score"] > 0.7
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])["event"] == "began"
    for text, words in [
        ("data = 3", "expected data to be text"),
        ("datta = 'x'", "there is no 'datta'; there are estimator, data, set"),
        ("grace = 'soon'", "grace: Invalid value for '--grace': 'soon' is not"),
        ("set = 3", "expected set to be text or a table"),
        ("= 3", "expected TOML"),
    ]:
        job.write_text(text)
        done = invoke("train", "logistic", clicks, "--job", job)
        assert done.exit_code == 2
        assert words in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "logistic"], 2, "DATA: expected one"),
        (["train", "forest", "CLICKS"], 2, "ESTIMATOR: expected one of"),
        (["train", "logistic", "CLICKS", "--set", "C"], 2, "--set: expected NAME=VALUE"),
        (["train", "logistic", "CLICKS", "--set", "C=-1"], 2, "expected C to be a number > 0"),
        (["train", "logistic", "CLICKS", "--set", "beta=1"], 2, "has no parameter 'beta'"),
        (["train", "ridge", "CLICKS"], 65, "expected numbers for Ridge"),
        (["train", "logistic", "nowhere.zarr"], 65, "nowhere.zarr: no such file"),
        (["train", "logistic", "CLICKS", "--every", "2"], 2, "expected a folder beside"),
        (["train", "logistic", "CLICKS", "--resume", "must"], 2, "expected a folder beside"),
        (["train", "logistic", "CLICKS", "--checkpoint", "FRESH", "--every", "x"], 2, "every: expected"),
        (["train", "logistic", "CLICKS", "--checkpoint", "FRESH", "--resume", "must"], 2, "found none"),
        (["train", "logistic", "CLICKS", "--report", "r.html"], 2, "expected a cluster"),
        (["train", "logistic", "CLICKS", "--workers", "2"], 2, "expected --local beside them"),
        (["train", "logistic", "CLICKS", "--local", "--scheduler", "tcp://x:1"], 2, "expected one of them"),
        (["train", "logistic", "CLICKS", "--scheduler", "junk://"], 2, "expected an address"),
        (["train", "logistic", "CLICKS", "--scheduler-file", "none.json", "--wait", "0"], 69, "has written"),
        (["score", "none.dgd", "CLICKS"], 2, "no such file"),
        (["score", "JUNK", "CLICKS"], 65, "expected a model"),
        (["score", "MODEL", "CLICKS", "--metric", "acuracy"], 2, "--metric: expected one of accuracy"),
        (["predict", "MODEL", "CLICKS", "--out", "p.txt"], 2, "expected a path that ends with .npy"),
        (["predict", "MODEL", "CLICKS", "--out", "s3://b/p.csv"], 2, "expected a local path for .csv"),
        (["predict", "MODEL", "CLICKS", "--out", "p.npy", "--id", "a"], 2, "--id: expected none for .npy"),
        (["predict", "MODEL", "CLICKS", "--out", "p.csv", "--id", "a"], 2, "--id: expected a column of"),
        (["predict", "MODEL", "CLICKS", "--out", "JUNK"], 2, "expected a path that ends with"),
        (["predict", "MODEL", "nowhere.zarr", "--out", "p.npy"], 65, "nowhere.zarr"),
        (
            ["predict", "MODEL", "CLICKS", "--out", "p.npy", "--method", "predict_proba"],
            2,
            "has no predict_proba",
        ),
        (["resume", "FRESH"], 2, "expected the folder of a job"),
        (["info", "nowhere.zarr"], 65, "nowhere.zarr"),
        (["verify", "nowhere.zarr"], 65, "nowhere.zarr"),
        (["plan", "logistic", "nowhere.zarr"], 65, "nowhere.zarr"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_refusals_are_one_line(
    arguments: list[str], code: int, words: str, clicks: Path, tmp_path: Path
) -> None:
    (tmp_path / "junk.dgd").write_bytes(b"junk")
    daskgd.Ridge().fit(np.zeros((2, 3)), [0.0, 1.0]).save(tmp_path / "model.dgd")
    places = {"CLICKS": clicks, "FRESH": tmp_path / "ck", "JUNK": tmp_path / "junk.dgd"}
    places["MODEL"] = tmp_path / "model.dgd"
    done = invoke(*(places.get(a, a) for a in arguments))
    assert done.exit_code == code, done.stderr
    assert words in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_metrics_are_scored_by_name(clicks: Path, tmp_path: Path) -> None:
    est = daskgd.LogisticRegression().fit(clicks)
    est.save(tmp_path / "model.dgd")
    asked = ["score", tmp_path / "model.dgd", clicks, "--metric", "accuracy", "--metric", "neg_log_loss"]
    names = ["accuracy", "neg_log_loss"]
    expected = daskgd.metrics.evaluate(est, clicks, scoring=names)
    said = json.loads(invoke(*asked, "--json").stdout)
    assert {name: said[name] for name in names} == expected
    lines = invoke(*asked).stdout.splitlines()
    assert lines == [f"{name} {expected[name]:.6g}" for name in names]
    daskgd.LinearSVC().fit(clicks).save(tmp_path / "svm.dgd")
    done = invoke("score", tmp_path / "svm.dgd", clicks, "--metric", "neg_log_loss")
    assert done.exit_code == 2
    assert "LinearSVC has none of predict_proba" in done.stderr


def test_a_fit_that_does_not_converge(clicks: Path) -> None:
    asked = [
        "train",
        "logistic",
        clicks,
        "--set",
        "solver=gradient_descent",
        "--set",
        "max_iter=2",
        "--quiet",
    ]
    done = invoke(*asked)
    assert done.exit_code == 0
    assert "warning: LogisticRegression: gradient_descent failed to converge" in done.stderr
    done = invoke(*asked, "--strict")
    assert done.exit_code == 3
    assert done.stderr.splitlines()[-1] == "Error: --strict: the fit ended budget_spent, not converged"


@pytest.mark.slow
def test_resume_auto_never_must(clicks: Path, tmp_path: Path) -> None:
    asked = [
        "train",
        "logistic",
        clicks,
        "--checkpoint",
        tmp_path / "ck",
        "--quiet",
        "--out",
        tmp_path / "a.dgd",
    ]
    assert invoke(*asked).exit_code == 0
    assert invoke(*asked, "--resume", "must").exit_code == 0
    done = invoke(*asked, "--resume", "never")
    assert done.exit_code == 2
    assert "holds a checkpoint" in done.stderr
    done = invoke(*asked, "--set", "C=3")
    assert done.exit_code == 2
    assert "C was 1.0, now 3" in done.stderr
    (tmp_path / "a.dgd").rename(tmp_path / "b.dgd")
    with daskgd_process("resume", tmp_path / "ck") as process:
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    same_model(tmp_path / "a.dgd", tmp_path / "b.dgd")


def test_secrets_of_urls_are_not_kept(tmp_path: Path) -> None:
    asked = {"estimator": "ridge", "data": "s3://rows.zarr?sig=hunter2", "set": {}, "scheduler": "tcp://x"}
    _keep_job(daskgd.Checkpoint(tmp_path), asked)(Began("Ridge", "", "", 1, 0.0, 0))
    assert json.loads((tmp_path / "job.json").read_text()) == {"estimator": "ridge", "set": {}}
    done = invoke("resume", tmp_path)
    assert done.exit_code == 2
    assert "has secrets, which are not kept" in done.stderr


def test_settings(tmp_path: Path) -> None:
    environment = {**os.environ, "DASK_DASKGD__BLOCK_BYTES": "4 MB", "DASK_CONFIG": str(tmp_path)}
    with daskgd_process("config", env=environment) as process:
        stdout, _ = process.communicate(timeout=60)
    assert "block-bytes: 4 MB" in stdout
    with daskgd_process("config", "--write", env=environment) as process:
        stdout, _ = process.communicate(timeout=60)
    written = Path(stdout.strip())
    assert written == tmp_path / "daskgd.yaml"
    assert "#   block-bytes: 1 MB" in written.read_text()


# -- clusters and signals -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """``dask scheduler`` and two ``dask worker`` processes, known by the scheduler's file."""
    file = tmp_path_factory.mktemp("scheduler") / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    options = ["--host", "127.0.0.1", "--port", "0", "--dashboard-address", ":0"]
    command = [*dask, "scheduler", *options, "--scheduler-file", str(file)]
    worker = [*dask, "worker", "--scheduler-file", str(file), "--nthreads", "1", "--host", "127.0.0.1"]
    worker += ["--dashboard-address", ":0", "--local-directory", str(file.parent)]
    processes = [subprocess.Popen(command, **quiet), *(subprocess.Popen(worker, **quiet) for _ in range(2))]
    try:
        yield file
    finally:
        for process in reversed(processes):
            process.terminate()
        for process in processes:
            process.wait(30)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
@pytest.mark.timeout(240)
@pytest.mark.parametrize("number", slow_but([signal.SIGTERM, signal.SIGUSR1]))
def test_a_job_on_a_cluster_is_stopped_and_resumed(
    number: signal.Signals, clicks: Path, scheduler: Path, tmp_path: Path
) -> None:
    asked = ["logistic", clicks, "--set", "solver=gradient_descent", "--set", "tol=0", "--set", "max_iter=60"]
    assert invoke("train", *asked, "--out", tmp_path / "whole.dgd", "--quiet").exit_code == 0
    asked += ["--scheduler-file", scheduler, "--out", tmp_path / "model.dgd", "--checkpoint", tmp_path / "ck"]
    with daskgd_process("train", *asked) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        for line in process.stderr:
            if "iteration    5 " in line:
                process.send_signal(number)
                break
        rest = process.stderr.read()
        process.wait(60)
    assert "on 2 workers of tcp://127.0.0.1" in first or "on 1 workers of" in first
    assert process.returncode == 143, rest
    assert f"stopped by a signal; run again with --checkpoint {tmp_path}/ck" in rest
    assert not (tmp_path / "model.dgd").exists()
    with daskgd_process("resume", tmp_path / "ck", "--scheduler-file", scheduler, "--json") as process:
        stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert "iteration    5 " not in stderr
    assert json.loads(stdout)["iterations"] == 60
    same_model(tmp_path / "whole.dgd", tmp_path / "model.dgd")
    done = invoke("score", tmp_path / "model.dgd", clicks, "--scheduler-file", scheduler)
    assert done.exit_code == 0, done.stderr


def test_a_command_starts_the_workers_of_an_adaptive_cluster(clicks: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"n_workers": 0, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(silence_logs=logging.CRITICAL, **settings) as cluster:
        asked = [
            "train",
            "logistic",
            clicks,
            "--out",
            tmp_path / "a.dgd",
            "--scheduler",
            cluster.scheduler_address,
        ]
        none = invoke(*asked, "--wait", 0.1)
        assert none.exit_code == 69
        assert "has no workers after 0.1 s" in none.stderr
        cluster.adapt(minimum=0, maximum=1, interval="20 ms")
        done = invoke(*asked)
        assert done.exit_code == 0, done.stderr
        assert "on 1 workers of inproc://" in done.stderr
    assert invoke("train", "logistic", clicks, "--out", tmp_path / "b.dgd").exit_code == 0
    same_model(tmp_path / "a.dgd", tmp_path / "b.dgd")


@pytest.mark.slow
def test_a_cluster_of_this_machine_and_its_report(clicks: Path, tmp_path: Path) -> None:
    asked = ["--local", "--workers", 1, "--memory-limit", "500 MB", "--report", tmp_path / "fit.html"]
    with daskgd_process("train", "logistic", clicks, *asked) as process:
        _, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    assert stderr.startswith(f"daskgd {daskgd.__version__} on 1 workers of this machine")
    assert "<html" in (tmp_path / "fit.html").read_text()


@pytest.fixture
def heard() -> Iterator[Callable[[float], Any]]:
    """Makes a watcher that hears signals; their handlers are put back."""
    before = signal.getsignal(signal.SIGTERM)
    contexts = []

    def make(grace: float) -> Stop:
        contexts.append(stoppable(grace))
        return contexts[-1].__enter__()

    yield make
    for context in contexts:
        context.__exit__(None, None, None)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals of POSIX")
def test_a_sweep_that_takes_too_long_is_abandoned(heard: Any, clicks: Path) -> None:
    stop = heard(0.05)
    stop(Began("", "", "", 1, 0.0, 0))

    def endless(dataset: Any) -> Any:
        class Endless:
            nbytes, memory = 0, {}

            def sweep(self, asks: Any) -> Any:
                os.kill(os.getpid(), signal.SIGTERM)
                while True:
                    signal.pause()

        return Endless()

    with pytest.raises(Terminated):
        daskgd.LogisticRegression(engine=endless).fit(daskgd.open_dataset(clicks), watch=stop)
