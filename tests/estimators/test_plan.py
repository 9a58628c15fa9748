"""Plans, against what the fits that follow do; and the command line that prints them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
import pytest
from click.testing import CliRunner

import daskgd
from daskgd.cli import main
from daskgd.data.columns import Columns, ColumnSource
from daskgd.engines import graph
from daskgd.engines.tasks import read_speed
from daskgd.estimators.fitting import plan as plan_module
from daskgd.losses import Logistic, Quantile
from daskgd.queries import Line
from daskgd.rows.layout import Layout, Shape
from daskgd.rows.tiles import Rows
from daskgd.storage.reading import StoredColumn
from tests.tiers import slow_but

SAMPLED = daskgd.SubsampledNewton(rows_per_parameter=200, sample_bytes=1)
LOCAL = daskgd.LocalGD(step=0.5, local_steps=3, batch_size=32)


def write(path: Path, n_rows: int, n_features: int, **settings: Any) -> daskgd.Dataset:
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(n_rows, n_features)).astype(np.float32)
    y = (X[:, 0] - X[:, 1] + 4 * rng.normal(size=n_rows) > 0).astype(np.int8)
    daskgd.write_dataset(path, X, y, chunk_bytes=8_000)
    return daskgd.open_dataset(path, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("plan")


@pytest.fixture(scope="module")
def small(folder: Path) -> daskgd.Dataset:
    """71 blocks, 18 partitions."""
    return write(folder / "small.zarr", 14_150, 10, block_bytes=8_000, partition_bytes=32_000)


@pytest.fixture(scope="module")
def wide(folder: Path) -> daskgd.Dataset:
    """40 blocks of 20 rows: sums are no longer light, questions of several kinds are tasks of their own."""
    return write(folder / "wide.zarr", 800, 4_000, block_bytes=320_000)


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The engines of the fits that follow, each with the task spans of its sweeps and what it kept."""
    made: list[Any] = []

    class Noted(graph.Graph):
        def __init__(self, *args: Any, **settings: Any) -> None:
            super().__init__(*args, **settings)
            self.spans: list[int] = []
            self.light: list[bool] = []
            self.kept = 0
            made.append(self)

        def task_spans(self, *args: Any, **settings: Any) -> Any:
            out = super().task_spans(*args, **settings)
            self.spans.append(len(out))
            self.light.append(all(isinstance(ask.query, Line) for ask in args[0]))
            if self.cache_manager is not None:
                runs = self.cache_manager.runs.values()
                self.kept = sum(hi - lo for addresses in runs for lo, hi in addresses)
            return out

    monkeypatch.setattr("daskgd.engines.select.Graph", Noted)
    return made


def logistic(solver: Any, memory: Any = 0, **settings: Any) -> daskgd.LogisticRegression:
    return daskgd.LogisticRegression(solver=solver, memory=memory, **settings)


def check(est: Any, data: Any, engines: list[Any]) -> Any:
    """The plan of an estimator, after a fit that did as it says."""
    plan = est.plan(data)
    assert engines == [], "a plan makes no engine of the fit's kind that sweeps"
    est.fit(data)
    (engine,) = engines
    assert engine.nbytes == plan.sweep_bytes
    assert engine.spans[0] == plan.first_spans
    assert engine.tasks_per_sweep[0] == plan.first_tasks
    assert set(engine.spans[1:]) <= {plan.spans}
    for tasks, is_light in zip(engine.tasks_per_sweep[1:], engine.light[1:], strict=True):
        assert tasks == plan.tasks or (is_light and tasks < plan.tasks)  # small sums need no task to merge
    layout = engine.dataset.layout
    rows = min(engine.kept * layout.block_rows, layout.n_rows)
    assert plan.resident_bytes == pytest.approx(plan.sweep_bytes * rows / layout.n_rows, abs=1)
    assert plan.resident_bytes + plan.streamed_bytes == plan.sweep_bytes
    if plan.sweep_range is not None and est.outcome_ == "converged":
        least, most = plan.sweep_range
        assert least <= est.n_sweeps_ <= most
    return plan


CASES = {
    "streamed": lambda: logistic(SAMPLED),
    "kept": lambda: logistic(SAMPLED, "auto"),
    "kept in part": lambda: logistic(SAMPLED, 200_000),
    "one sweep": lambda: logistic("auto", "auto"),
    "partitions": lambda: logistic(LOCAL, 0, max_iter=3, tol=0),
    "partitions kept in part": lambda: logistic(LOCAL, 200_000, max_iter=3, tol=0),
}


@pytest.mark.parametrize("case", CASES)
def test_threads_do_as_the_plan_says(case, small, engines):
    plan = check(CASES[case](), small, engines)
    assert (plan.engine, plan.workers, plan.threads) == ("threads", 0, graph.n_threads(None))
    if "in part" in case:
        assert 0 < plan.resident_bytes <= 200_000


@pytest.mark.parametrize("case", CASES)
def test_a_cluster_does_as_the_plan_says(case, small, engines, client):
    plan = check(CASES[case](), small, engines)
    assert (plan.engine, plan.workers, plan.threads) == ("distributed", 2, 2)
    assert plan.bytes_per_second > 0
    limits = [w["memory_limit"] for w in client.scheduler_info()["workers"].values()]
    assert plan.limit in limits
    assert 0 < plan.task_bytes < plan.task_room < plan.limit


@pytest.mark.parametrize("where", slow_but(["threads", "distributed"], "distributed"))
@pytest.mark.parametrize(
    "solver",
    [daskgd.GradientDescent(step=1e-3), pytest.param(daskgd.GradientDescent(), marks=pytest.mark.slow)],
)
def test_wide_data_does_as_the_plan_says(where, solver, wide, engines, client):
    est = logistic(solver, max_iter=2, tol=0, engine=where)
    plan = check(est, wide, engines)
    assert plan.tasks > plan.spans  # merges, and on the cluster the question


def test_a_plan_keeps_nothing_on_the_cluster(small, client):
    logistic(SAMPLED, "auto").plan(small)

    def keys(dask_scheduler: Any) -> list[str]:
        return [str(key) for key in dask_scheduler.tasks if "daskgd" in str(key)]

    assert client.run_on_scheduler(keys) == []


def test_threads_read_the_bytes_that_were_planned(small, monkeypatch):
    est = logistic(SAMPLED, 200_000, max_iter=4, tol=0)
    plan = est.plan(small)
    read: list[int] = []
    original = StoredColumn.read

    def noted(self: StoredColumn, start: int, stop: int) -> Any:
        read.append((stop - start) * int(np.prod(self.shape[1:])) * self.dtype.itemsize)
        return original(self, start, stop)

    monkeypatch.setattr(StoredColumn, "read", noted)
    est.fit(small)
    assert sum(read) == plan.sweep_bytes + (est.n_sweeps_ - 1) * plan.streamed_bytes


def test_seconds_follow_from_the_speed(small, monkeypatch):
    monkeypatch.setattr(plan_module, "read_speed", lambda *_: 1e6)
    plan = logistic(SAMPLED).plan(small)
    assert plan.seconds_per_sweep == plan.streamed_bytes / 1e6
    assert plan.fit_seconds == pytest.approx((2 * plan.sweep_bytes / 1e6, 5 * plan.sweep_bytes / 1e6))
    plan = logistic("auto").plan(small)
    assert plan.fit_seconds == (plan.sweep_bytes / 1e6, plan.sweep_bytes / 1e6)
    plan = logistic(LOCAL).plan(small)
    assert plan.sweep_range is plan.fit_seconds is None
    assert plan.seconds_per_sweep is not None


# -- what there is to plan ----------------------------------------------------------------------


def test_the_serial_engine_has_no_tasks(small):
    plan = logistic(SAMPLED, 200_000, engine="serial").plan(small)
    assert (plan.engine, plan.threads, plan.spans, plan.tasks) == ("serial", 1, 1, 0)
    assert 0 < plan.resident_bytes <= 200_000


def test_an_engine_of_ones_own(small):
    plan = logistic(SAMPLED, "auto", engine=lambda dataset: graph.Graph(dataset)).plan(small)
    assert (plan.engine, plan.tasks, plan.resident_bytes) == ("custom", 0, 0)
    assert "as the engine makes them" in str(plan)


def test_a_local_scheduler_of_dask(small):
    with dask.config.set(scheduler="synchronous"):
        plan = logistic(SAMPLED).plan(small)
    assert plan.engine == "local"
    assert plan.first_tasks > 0


def test_what_is_in_memory_is_not_streamed(small, client):
    X, y = small.X.compute(), small.y.compute()
    for engine in ("threads", "serial", "distributed"):
        plan = logistic(SAMPLED, "auto", engine=engine).plan(X, y)
        assert plan.placement == "held in memory"
        assert (plan.streamed_bytes, plan.resident_bytes) == (0, plan.sweep_bytes)
        assert plan.bytes_per_second is plan.fit_seconds is None
        assert "from memory" in str(plan)
    assert daskgd.Ridge().plan(X).sweeps == "1"  # y may be left out


def test_what_is_computed_first_is_held_or_spooled(small):
    X, y = small.X + 1, small.y
    plan = logistic(SAMPLED).plan(X, y)
    assert plan.placement == "held in memory"
    assert plan.streamed_bytes < plan.sweep_bytes / 10  # y is read in place
    with dask.config.set({"daskgd.hold-fraction": 0.0}):
        plan = logistic(SAMPLED, "auto").plan(X, y)
    assert plan.placement == "spooled to a temporary store"
    assert plan.resident_bytes == plan.sweep_bytes
    assert "not measured" in str(plan)


def test_sweeps_are_honest_about_wide_and_kinked_data():
    shape, solver = Shape(10**8, 100, 4, True), daskgd.SubsampledNewton()
    assert str(solver.expected_sweeps(shape)) == "2 to 5"
    assert str(solver.expected_sweeps(shape, loss=Logistic(), parameters=1000)) == "2 to 5"
    assert str(solver.expected_sweeps(shape, loss=Logistic(), parameters=1001)) == "4 to 8"
    assert str(solver.expected_sweeps(shape, loss=Quantile(0.5), parameters=5000)) == "3 to 10"
    assert str(solver.expected_sweeps(Shape(100, 100), loss=Quantile(0.5), parameters=5000)) == "1"


def test_one_gradient_is_expected_where_the_sample_is_large_for_the_tolerance():
    """The error that a step leaves is about (d / n)**2 / 2."""
    shape, solver = Shape(10**8, 50, 4, True), daskgd.SubsampledNewton()
    assert solver.sample_share(shape) * 10**8 == 320_000
    assert solver.expects_one_gradient(shape, 51, 1e-6)
    assert not solver.expects_one_gradient(shape, 51, 1e-7)
    assert not solver.expects_one_gradient(shape, 510, 1e-6)
    assert not daskgd.LBFGS().expects_one_gradient(shape, 51, 1.0)


def test_many_parameters_with_l1_have_the_solver_of_few():
    X = da.zeros((3_000_000, 2_000), chunks=(1000, 2000), dtype="float32")
    y = da.zeros(3_000_000, chunks=1000, dtype="int8")
    plan = daskgd.LogisticRegression(l1_ratio=1.0).plan(X, y)
    assert (type(plan.solver).__name__, plan.sweeps) == ("ProximalNewton", "4 to 8")
    assert plan.sample_rows > 0


def test_what_does_not_fit_is_refused_with_the_size_that_would(client):
    rows = 40_000_000
    X = da.zeros((rows, 1_000), chunks=(1_000_000, 1_000), dtype="float64")
    data = daskgd.as_dataset(X, da.zeros(rows, chunks=1_000_000))
    huge = daskgd.Dataset(*data.columns, block_bytes="200 GB", partition_bytes="200 GB")
    with pytest.raises(ValueError, match=r"chunk_bytes=\d+ or less"):
        daskgd.LinearRegression().plan(huge)


def test_what_a_fit_would_refuse_is_refused(small):
    with pytest.raises(ValueError, match="expected at most"):
        logistic(SAMPLED, 10**15).plan(small)
    with pytest.raises(ValueError, match="use a classifier"):
        daskgd.Ridge().plan(small.X, np.array(["a", "b"] * 7075))
    with pytest.raises(ValueError, match="expected C to be"):
        daskgd.LogisticRegression(C=-1).plan(small)


def test_distributed_without_a_client(small):
    with pytest.raises(ValueError, match="found none"):
        logistic(SAMPLED, engine="distributed").plan(small)


def test_a_plan_leaves_a_fit_as_it_was(small):
    est = daskgd.LogisticRegression(max_iter=1, tol=0).fit(small)
    before = dict(vars(est))
    est.plan(small.X[:, :3], small.y)
    assert vars(est) == before


def test_a_plan_is_aligned_text(small):
    lines = str(logistic(SAMPLED).plan(small)).splitlines()
    assert lines[0].startswith("on     ")
    assert lines[0].endswith("of this process")
    assert all(line[6] == " " and line[7] != " " for line in lines)


def test_a_speed_is_that_of_all_threads():
    class Slow:
        nbytes = 2400

        def read(self, start: int, stop: int) -> Any:
            import time

            seen.append(start // 3)
            time.sleep(0.01)
            return np.zeros((stop - start, 1))

    seen: list[int] = []
    source = ColumnSource(Layout(300, 3, 1), Columns(Slow()))
    assert isinstance(source.read(0, 3), Rows)
    one, four = (read_speed(source, range(100), threads, 0.15) for threads in (1, 4))
    assert 0.2 * 2400 < one <= 2400
    assert four > 1.8 * one
    assert read_speed(source, [5], 4) <= 2400
    seen.clear()
    read_speed(source, range(100), 4, 10.0)
    assert sorted(seen) == list(range(100))  # each block once


# -- the command line ---------------------------------------------------------------------------


def invoke(*arguments: Any) -> Any:
    return CliRunner().invoke(main, ["plan", *map(str, arguments)])


@pytest.mark.parametrize("name", ["logistic", "Logistic", "LOGISTICREGRESSION", "LogisticRegression"])
def test_an_estimator_by_any_of_its_names(name, small):
    done = invoke(name, small.path, "--set", "C=0.1", "--set", "solver=lbfgs")
    assert done.exit_code == 0, done.output
    first, second, *rest = done.output.splitlines()
    assert first.startswith("on     ")
    assert "of this process" in first
    assert second.split() == ["fit", "LogisticRegression"]
    assert any(line.startswith("solver LBFGS") for line in rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["forest"], "expected one of ElasticNet, "),
        (["ridge", "--set", "C=1"], "Ridge has no parameter 'C'; it has alpha, "),
        (["ridge", "--set", "alpha"], "expected NAME=VALUE"),
        (["ridge", "--set", "alpha=-1"], "expected alpha to be a number"),
        (["ridge", "--set", "alpha=lots"], "got 'lots'"),
        (["ridge", "--set", "solver__step=1"], "expected solver to be an object"),
        (["ridge", "--scheduler", "tcp://a:1", "--scheduler-file", "b"], "expected one of them"),
        (["ridge", "--scheduler", "nonsense://a:1"], "expected an address"),
        (["ridge", "--scheduler-file", __file__], "expected the file of a scheduler"),
    ],
)
def test_wrong_names_and_values(arguments, message, small):
    name, *options = arguments
    done = invoke(name, small.path, *options)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_bad_data(small, folder, tmp_path):
    bare = tmp_path / "bare.zarr"
    daskgd.write_dataset(bare, np.ones((100, 2)))
    broken = tmp_path / "broken.zarr"
    shutil.copytree(small.path, broken)
    chunks = [file for file in (broken / "X").rglob("*") if file.is_file() and file.suffix != ".json"]
    for file in chunks:
        file.write_bytes(file.read_bytes()[:50])
    labels = tmp_path / "labels.zarr"
    daskgd.write_dataset(labels, np.ones((4, 2)), np.array(["a", "b", "a", "b"]))
    for name, path in (
        ("logistic", tmp_path / "nothing.zarr"),
        ("logistic", bare),
        ("logistic", broken),
        ("ridge", labels),
    ):
        done = invoke(name, path)
        assert done.exit_code == 65, done.output
        assert done.stdout == ""
        assert str(path) in done.stderr
        assert len(done.stderr.splitlines()) == 1
    done = invoke("logistic", small.path, "--set", "memory=10**15", "--set", "solver=lbfgs")
    assert done.exit_code == 2  # an expression is text, and no budget
    done = invoke("logistic", small.path, "--set", "memory=1000000000000000", "--set", "solver=lbfgs")
    assert done.exit_code == 65
    assert "expected at most" in done.stderr


def test_on_a_cluster(cluster, small, tmp_path):
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"address": cluster.scheduler_address}))
    for option in (("--scheduler", cluster.scheduler_address), ("--scheduler-file", file)):
        done = invoke("logistic", small.path, *option)
        assert done.exit_code == 0, done.output
        first = done.output.splitlines()[0]
        assert first == f"on     the cluster at {cluster.scheduler_address}: 2 workers, 2 threads"


def test_a_cluster_that_does_not_answer(small):
    with dask.config.set({"distributed.comm.timeouts.connect": "1s"}):
        done = invoke("logistic", small.path, "--scheduler", "tcp://127.0.0.1:9", "--wait", 1)
    assert done.exit_code == 69, done.output
    assert len(done.stderr.splitlines()) == 1


def test_help_shows_an_example():
    done = invoke("--help")
    assert done.exit_code == 0
    assert "daskgd plan logistic clicks.zarr" in " ".join(done.output.split())


def test_the_command_line_loads_nothing_heavy():
    code = "import sys, daskgd.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "dask", "distributed", "zarr", "sklearn"} & set(done.stdout.split())


def test_what_this_process_holds_is_in_the_plan_and_refused_where_it_cannot(monkeypatch):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2000, 300)), rng.integers(0, 4, 2000)
    plan = daskgd.LogisticRegression().plan(X, y)
    assert plan.driver_bytes < X.nbytes  # the array is its own sample
    stored = daskgd.LogisticRegression().plan(da.from_array(X, chunks=500), da.from_array(y, chunks=500))
    assert stored.driver_bytes >= plan.driver_bytes + 2 * X.nbytes
    assert f"driver {dask.utils.format_bytes(plan.driver_bytes)}" in str(plan)
    monkeypatch.setattr("daskgd.engines.worker_memory.free_memory", lambda client: 10_000)
    for call in (
        lambda: daskgd.LogisticRegression().plan(X, y),
        lambda: daskgd.LogisticRegression().fit(X, y),
    ):
        with pytest.raises(ValueError, match=r'of .* parameters: this process would hold .*solver="lbfgs"'):
            call()
