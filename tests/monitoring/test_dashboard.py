"""The training page: what fits tell of themselves, what the scheduler keeps of it, and what browsers get."""

from __future__ import annotations

import json
import logging
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
import distributed
import numpy as np
import pytest

import daskgd
from benchmarks import browser
from daskgd.engines.graph import Graph
from daskgd.engines.timing import Clock, Spent
from daskgd.model_selection import GridSearchCV
from daskgd.monitoring import reporter as monitor
from daskgd.monitoring.dashboard import page
from daskgd.monitoring.dashboard.fits import COLUMNS, FITS, MEMBERS, NAME, SWEEPS, Fit, as_message
from daskgd.monitoring.dashboard.plugin import TrainingMonitor
from daskgd.monitoring.events import Iterated
from tests.tiers import slow_but

SECRET = "s3cr3t-t0ken"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """71 blocks; the path, a feature and a label are nobody's business."""
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(14_150, 10)).astype(np.float32)
    y = np.where(X[:, 0] - X[:, 1] + 4 * rng.normal(size=len(X)) > 0, f"label-{SECRET}", "other")
    path = tmp_path_factory.mktemp("small") / f"user:{SECRET}@small.zarr"
    names = [f"feature-{SECRET}", *"bcdefghij"]
    daskgd.write_dataset(path, X, y, chunk_bytes=8_000, feature_names=names)
    return daskgd.open_dataset(path, block_bytes=8_000, partition_bytes=32_000)


def descent(**settings: Any) -> Any:
    """Every iteration is a sweep."""
    return daskgd.LogisticRegression(
        solver=daskgd.GradientDescent(step=0.1), max_iter=5, tol=0, **{"memory": 0, **settings}
    )


def bits(est: Any) -> bytes:
    return np.append(est.coef_, est.intercept_).tobytes()


def get(client: distributed.Client, path: str) -> str:
    """A page of the dashboard of a client."""
    with urllib.request.urlopen(client.dashboard_link.removesuffix("/status") + path, timeout=30) as answer:
        assert answer.status == 200
        return answer.read().decode()


def metrics(client: distributed.Client, query: str = "") -> list[dict[str, Any]]:
    found = json.loads(get(client, "/daskgd/metrics.json" + query), parse_constant=pytest.fail)
    assert found["version"] == 1
    return found["fits"]


# -- what a sweep took --------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["serial", "threads", "distributed"])
@pytest.mark.parametrize("memory", [0, "auto"])
def test_every_engine_tells_what_its_last_sweep_took(small, client, engine, memory):
    from daskgd.engines.select import open_engine
    from daskgd.queries import Ask, Survey

    with open_engine(small, engine, memory=memory) as (made, materialised):
        for sweep in (1, 2):
            made.sweep([Ask(None, Survey(True))])
            last = made.last
            assert (last.sweep, last.asked) == (sweep, ("survey",))
            assert sum(spent.rows for spent in last.workers.values()) == materialised.n_rows
            assert last.read_blocks + last.kept_blocks == last.blocks == 71
            parts = (last.read, last.compute, last.merge, last.wait)
            assert min(parts) >= 0
            assert sum(parts) == pytest.approx(last.seconds, rel=1e-6) or last.wait == 0
            assert last.again_blocks == 0
            assert last.before >= 0
            if engine != "serial":
                assert last.kept_blocks == (71 if memory == "auto" and sweep == 2 else 0)
                assert (last.floor is None) == (last.read_blocks == 0)
        if engine == "distributed":
            assert set(last.workers) <= set(client.nthreads())
        else:
            assert set(last.workers) == {""}


def test_rows_in_memory_have_no_floor(client):
    X = np.random.default_rng(0).normal(size=(1000, 3))
    engines = []

    def engine(dataset: Any) -> Graph:
        engines.append(Graph(dataset, client))
        return engines[-1]

    descent(engine=engine).fit(X, X[:, 0] > 0)
    last = engines[0].last
    assert last.floor is None
    assert (last.read_blocks, last.kept_blocks) == (0, last.blocks)


def test_the_seconds_of_a_sweep_are_those_of_an_average_thread():
    clock = Clock()
    clock.start()
    ledger = {
        "a": Spent(1, 10, 3, 0, 2.0, 2.0, 4.0),
        "b": Spent(1, 30, 1, 2, 1.0, 1.0, 1.0, 0.5),
        "": Spent(merge=0.25),
    }
    swept = clock.stop(("gradient",), ledger, 600, 6, 2, [2], merged_by="")
    assert (swept.read, swept.compute) == (1.5, 2.5)
    assert swept.merge == pytest.approx(0.5, abs=0.1)  # half of b's, and all of the driver's
    assert set(swept.workers) == {"a", "b"}
    assert swept.floor == pytest.approx(600 * 4 / 6 / 3.0 * 2)
    clock.start()
    assert clock.stop((), {"a": Spent(1, 10, 3, 1)}, 600, 6, 2, [2]).again_blocks == 1
    clock.start()
    assert clock.stop((), {"a": Spent(1, 10, 6, 0)}, 600, 6, 2, []).again_blocks == 0


# -- what is kept -------------------------------------------------------------------------------


def sweep(**more: Any) -> dict[str, Any]:
    values = dict.fromkeys(COLUMNS, 1.0)
    return {"kind": "sweep", **values, "workers": {}, "asked": ["gradient"], **more}


def test_what_is_kept_has_limits():
    fit = Fit("t")
    for i in range(SWEEPS + 10):
        fit.update(sweep(sweep=i))
    for i in range(MEMBERS + 5):
        for _ in range(300):
            fit.update({"kind": "row", "member": f"m{i}", "loss": 1.0})
    assert (len(fit.sweeps), fit.n_sweeps) == (SWEEPS, SWEEPS + 10)
    assert len(fit.rows) == MEMBERS
    assert sum(map(len, fit.rows.values())) <= 2 * SWEEPS
    fit.update(sweep(workers={f"w{i}" * 100: [1, 1, 1, 1, 1] for i in range(1000)}))
    assert len(fit.workers) <= 256
    assert max(map(len, fit.workers)) <= NAME
    assert len(pickle.dumps(fit)) < 3_000_000


class Scheduler:
    """As much of one as the plugin touches where there is no web server."""

    http_application = None

    def get_events(self, topic: str) -> tuple[Any, ...]:
        return ()


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> TrainingMonitor:
    found = TrainingMonitor()
    import asyncio

    asyncio.run(found.start(Scheduler()))  # without a server each page fails, and the start does not
    return found


def test_fits_that_ended_go_first(plugin):
    for i in range(FITS + 5):
        plugin.log_event("daskgd", {"fit": f"t{i}", "items": [{"kind": "begin", "name": "A", "client": "c"}]})
        if i % 2:
            plugin.log_event("daskgd", {"fit": f"t{i}", "items": [{"kind": "end", "status": "converged"}]})
    assert len(plugin.fits) == FITS
    assert [t for t in ("t0", "t2", "t4") if t in plugin.fits] == ["t0", "t2", "t4"]
    assert plugin.fits["t0"].status == "running"
    plugin.remove_client(None, "c")
    assert {fit.status for fit in plugin.fits.values()} == {"converged", "client gone"}


@pytest.mark.parametrize(
    "message",
    [
        None,
        "text",
        {},
        {"fit": "x"},
        {"fit": "x", "items": [None]},
        {"fit": "x", "items": [{"kind": "sweep", "workers": 3, "asked": 5}]},
        {"fit": "x", "items": [{"kind": "sweep", "seconds": "a", "workers": {"w": ["b"]}}]},
        {"fit": "x", "items": [{"kind": "row", "loss": None, "iteration": []}]},
        {"fit": "x", "items": [{"kind": "begin", "n_rows": "many"}]},
        {"fit": "x", "items": [{"kind": "nonsense"}]},
    ],
)
def test_no_event_can_break_what_listens(plugin, message):
    plugin.log_event("daskgd", message)
    plugin.log_event("all", message)
    plugin.log_event("all", {"action": "remove-worker", "processing-tasks": message})
    json.dumps(plugin.metrics(), allow_nan=False)
    view = page.Page(plugin)
    view.update()
    assert not view.broken


def test_lost_workers_and_what_is_read_again(plugin):
    begin = {"kind": "begin", "name": "A", "client": "c"}
    plugin.log_event("daskgd", {"fit": "0a1b2c3d", "items": [begin]})
    told_of = sweep(blocks=50, resident_blocks=30, home_tasks=2, tasks=6, again_blocks=0)
    plugin.log_event("daskgd", {"fit": "0a1b2c3d", "items": [told_of]})
    keys = {("daskgd-gradient-0a1b2c3d", 2, i) for i in (0, 3)}  # one for rows in memory, one that streams
    others = {("daskgd-gradient-ffffffff", 2, 5), "sum-123", ("daskgd-merge-0a1b2c3d", 2, 0, 0)}
    lost = {"action": "remove-worker", "expected": False, "processing-tasks": keys | others}
    plugin.log_event("all", lost)
    plugin.log_event("all", {"action": "remove-worker", "expected": True})
    fit = plugin.fits["0a1b2c3d"]
    assert (fit.lost, fit.again_tasks, fit.again_blocks) == (1, 2, 5)
    again = {
        ("daskgd-gradient-0a1b2c3d", 2, 0, 1)
    }  # a late task, done once more by another worker: it streams
    plugin.log_event("all", {**lost, "expected": True, "processing-tasks": again})
    assert (fit.lost, fit.again_tasks, fit.again_blocks) == (1, 3, 10)
    plugin.log_event("daskgd", {"fit": "0a1b2c3d", "items": [{**told_of, "again_blocks": 15, "at": 1e4}]})
    last = plugin.metrics()["fits"][0]["sweeps"][-1]
    assert (last["lost"], last["again_blocks"], fit.again_blocks) == (1, 25, 25)


def test_names_are_text_and_numbers_are_numbers():
    fit = Fit("t")
    fit.update({"kind": "begin", "name": "<script>alert(1)</script>\n\x00" * 9, "client": "c"})
    fit.update(sweep(sweep=math.nan, seconds=math.inf, floor=None))
    fit.update({"kind": "row", "member": "<b>", "loss": math.inf, "gap": math.nan, "sweeps": None})
    assert len(fit.name) == NAME
    assert fit.name.isprintable()
    assert "<script" not in page._about(fit)
    assert "&lt;script" in page._about(fit)
    found = as_message(fit, 10)
    json.dumps(found, allow_nan=False)
    assert found["sweeps"][0]["seconds"] is None


def test_the_page_sends_what_is_new_of_the_fit_that_is_looked_at(plugin):
    view = page.Page(plugin)
    view.update()
    assert "no fit yet" in view.about.text
    for token in ("a", "b"):
        items = [{"kind": "begin", "name": "A", "client": "c"}, sweep(sweep=1), sweep(sweep=2)]
        items += [
            {"kind": "row", "member": m, "loss": 1, "gap": 0, "iteration": 1, "sweeps": 2} for m in "xy"
        ]
        plugin.log_event("daskgd", {"fit": token, "items": items})
    view.update()
    assert view.sweeps.data["sweep"] == [1, 2]
    assert [source.data["sweeps"] for source in view.members] == [[2], [2]]
    assert math.isnan(view.members[0].data["gap"][0])  # 0 has no logarithm
    assert view.shown is plugin.fits["b"]
    plugin.log_event("daskgd", {"fit": "b", "items": [sweep(sweep=3)]})
    view.update()
    assert view.sweeps.data["sweep"] == [1, 2, 3]
    view.choice.value = next(option for option in view.choice.options if option.endswith(" a"))
    assert view.shown is plugin.fits["a"]
    assert view.sweeps.data["sweep"] == [1, 2]
    plugin.fits["a"].workers = {"w1": [10, 1, 1, 1, 1], "w2": [100, 1, 1, 1, 1], "w3": [100, 1, 1, 1, 1]}
    drawn = page._workers(plugin.fits["a"])
    assert drawn["worker"] == ["w1", "w2", "w3"]
    assert drawn["color"] == [page.RED, page.GREEN, page.GREEN]
    plugin.fits = None
    view.update(force=True)  # told once in the log, and the page stands still
    assert view.broken


def test_the_page_has_a_table_of_the_candidates_of_a_search(plugin):
    view = page.Page(plugin)
    rows = [("C=1", "scored", 0.5, 0.1, 1), ("C=2", "being fitted", math.nan, math.nan, 0)]
    items = [{"kind": "begin", "name": "GridSearchCV", "client": "c"}, {"kind": "candidates", "rows": rows}]
    plugin.log_event("daskgd", {"fit": "search-1", "items": items})
    view.update()
    assert view.table.visible
    assert view.candidates.data["candidate"] == ["C=1", "C=2"]
    assert "best candidate so far" in view.about.text
    assert "1 of 2" in view.about.text
    json.dumps(as_message(plugin.fits["search-1"], 10), allow_nan=False)
    plugin.log_event("daskgd", {"fit": "b", "items": [{"kind": "begin", "name": "A"}, sweep(sweep=1)]})
    view.update()
    view.choice.value = next(option for option in view.choice.options if option.endswith(" b"))
    assert not view.table.visible


def test_a_search_is_told_to_its_cluster(small, client):
    search = GridSearchCV(descent(), {"C": [0.1, 1.0]}, cv=2, refit=False).fit(small)
    found = {fit["name"]: fit for fit in metrics(client)}
    told = found["GridSearchCV of LogisticRegression"]
    assert told["status"] == "done"
    best = search.cv_results_["params"][search.best_index_]["C"]
    assert told["candidates"][0]["candidate"] == f"C={best:g}"
    assert told["candidates"][0]["score"] == search.best_score_
    assert list(found["4 x LogisticRegression"]["iterations"])[:2] == ["C=0.1, split 0", "C=1, split 0"]


# -- a fit and its dashboard --------------------------------------------------------------------


def test_a_fit_puts_the_page_there_and_its_numbers_grow(small, client):
    seen = []

    class Looking(Graph):
        def sweep(self, asks: Any) -> list[Any]:
            if self.n_sweeps == 3:
                monitor.PAGES[client].join(60)
            if self.n_sweeps >= 3:
                seen.append(metrics(client)[-1])
            return super().sweep(asks)

    monitor.PAGES.pop(client, None)
    est = descent(engine=lambda dataset: Looking(dataset, client)).fit(small)
    assert get(client, "/daskgd")
    for stock in ("/status", "/workers", "/tasks", "/graph"):
        assert "daskgd" in get(client, stock)
    (last,) = metrics(client, f"?fit={metrics(client)[-1]['fit']}")
    counts = [found["n_sweeps"] for found in seen] + [last["n_sweeps"]]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] == est.n_sweeps_
    assert {found["status"] for found in seen} == {"running"}
    assert (last["name"], last["status"]) == ("LogisticRegression", "budget_spent")
    assert (last["n_rows"], last["n_features"]) == (14_150, 10)
    assert [row["loss"] for row in last["iterations"]["LogisticRegression"]] == est.history_.column("loss")
    assert [row["sweep"] for row in last["sweeps"]] == list(range(1, est.n_sweeps_ + 1))
    assert sum(spent["rows"] for spent in last["workers"].values()) == 14_150
    assert len(metrics(client, "?last=2")[-1]["sweeps"]) == 2
    assert metrics(client, "?fit=none") == []
    assert len(metrics(client, "?last=x%C2%B2")) == len(metrics(client))


def test_fits_that_share_their_sweeps_are_one_of_several_curves(small, client):
    daskgd.together([descent(C=c) for c in (0.1, 1.0)], small)
    last = metrics(client)[-1]
    assert last["name"] == "2 x LogisticRegression"
    assert list(last["iterations"]) == ["LogisticRegression-0", "LogisticRegression-1"]


def test_a_second_page_is_a_no_op(small, client):
    descent().fit(small)
    seen = {fit["fit"] for fit in metrics(client)}

    def state(dask_scheduler: Any) -> tuple[int, int, int]:
        application = dask_scheduler.http_application
        return (
            id(dask_scheduler.plugins["daskgd-monitor"]),
            len(application.applications),
            len(application.wildcard_router.rules) + len(application.default_router.rules),
        )

    before = client.run_on_scheduler(state)
    for _ in range(2):
        client.register_plugin(monitor.Travelling())
    with distributed.Client(client.scheduler.address) as other, other.as_current():
        descent().fit(small)
    assert client.run_on_scheduler(state) == before
    assert len({fit["fit"] for fit in metrics(client)} - seen) == 1  # of at most twenty that are held
    assert get(client, "/status").count('href="daskgd"') == 1


def test_nothing_of_the_data_is_told(small, client):
    descent().fit(small)
    with pytest.raises(ValueError, match="expected"):
        descent(engine="distributed", memory="900 GB").fit(small)
    for text in (
        get(client, "/daskgd"),
        get(client, "/daskgd/metrics.json?last=5000"),
        json.dumps(client.get_events("daskgd")),
    ):
        assert SECRET not in text
        assert str(small.path) not in text


def test_it_can_be_off(small, client):
    def latest() -> Any:  # of which dask keeps some
        return client.get_events("daskgd")[-1:]

    descent().fit(small)
    before = latest()
    with dask.config.set({"daskgd.dashboard": False}):
        descent().fit(small)
    assert latest() == before
    descent().fit(small)
    assert latest() != before


BREAKS: dict[str, Any] = {
    "Travelling": lambda *a: 1 / 0,
    "Monitor": lambda *a: 1 / 0,
    "setting": lambda name: 1 / 0,
}


WHERE = [*BREAKS, "log_event", "sweep", "register_plugin"]


@pytest.mark.parametrize("what", slow_but(WHERE, "Monitor", "log_event", "sweep"))
def test_a_broken_monitor_never_fails_a_fit(small, client, monkeypatch, what, caplog):
    expected = bits(descent(engine="serial").fit(small))
    fail = BREAKS.get(what, lambda *a, **k: 1 / 0)
    monitor.PAGES.pop(client, None)
    where = {"log_event": client, "register_plugin": client, "sweep": monitor.Monitor}.get(what, monitor)
    monkeypatch.setattr(where, what, fail)
    with caplog.at_level(logging.INFO, "daskgd"):
        assert bits(descent().fit(small)) == expected
    assert sum("ZeroDivisionError" in str(record.exc_info) for record in caplog.records) == 1
    monkeypatch.undo()
    monitor.PAGES.pop(client, None)


def test_a_fit_that_fails_is_told_as_such(small, client):
    class Failing(Graph):
        def sweep(self, asks: Any) -> list[Any]:
            if self.n_sweeps == 2:
                raise RuntimeError("on purpose")
            return super().sweep(asks)

    with pytest.raises(RuntimeError, match="on purpose"):
        descent(engine=lambda dataset: Failing(dataset, client)).fit(small)
    assert metrics(client)[-1]["status"] == "failed"
    assert metrics(client)[-1]["n_sweeps"] == 2


def iterated(**row: Any) -> Iterated:
    return Iterated("LogisticRegression", row, np.zeros(1), lambda: None)


def test_telling_makes_no_sweep_wait_and_is_held_to_its_share_of_the_time():
    class Slow:
        id = "c"

        def __init__(self) -> None:
            self.sent: list[Any] = []
            self.go_on = threading.Event()

        def log_event(self, topic: str, message: Any) -> None:
            assert self.go_on.wait(60)
            self.sent.append(message)

    client = Slow()
    told_of = monitor.Monitor(client, "t", "A")
    for i in range(1000):
        told_of(iterated(iteration=i))  # while the scheduler hangs
    assert not client.sent
    client.go_on.set()
    told_of.close("converged")
    items = [item for message in client.sent for item in message["items"]]
    assert [item["kind"] for item in items] == ["begin", *["row"] * 1000, "end"]
    assert [item["iteration"] for item in items[1:-1]] == list(range(1000))
    assert told_of.n_sent == len(client.sent) <= 4


def test_a_fit_is_one_span_and_leaves_keys_alone(small, client):
    def spans(dask_scheduler: Any) -> list[tuple[str, ...]]:
        return [found.name for found in dask_scheduler.extensions["spans"].spans.values()]

    before = client.run_on_scheduler(spans)
    descent().fit(small)
    new = client.run_on_scheduler(spans)[len(before) :]
    assert new.count(("daskgd-LogisticRegression",)) == 1
    assert len(new) <= 2  # the first page of a client may come with a default one


# -- other schedulers ---------------------------------------------------------------------------

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocked())
from distributed.cli.dask_scheduler import main
main()
"""


@contextmanager
def scheduler(folder: Path, *more: str, without: str = "nothing") -> Iterator[distributed.Client]:
    """A client of a scheduler in a process of its own, which lacks some packages, and of one worker."""
    file = folder / "scheduler.json"
    with ExitStack() as stack:

        def start(*words: str) -> None:
            process = subprocess.Popen([sys.executable, *words], cwd=folder, stderr=subprocess.DEVNULL)
            stack.callback(process.wait, 30)
            stack.callback(process.kill)

        where = ("--host", "127.0.0.1", "--port", "0", "--dashboard-address", "127.0.0.1:0")
        code = BLOCKED.format(names=[without])
        start("-c", code, *where, "--scheduler-file", str(file), *more)
        start("-m", "dask", "worker", "--no-nanny", "--nthreads", "1", "--scheduler-file", str(file))
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            yield client


def test_a_scheduler_without_daskgd_gets_the_page(tmp_path):
    """The code of the page goes along. Tasks of a fit would need daskgd there too: Dask unpickles graphs."""
    with scheduler(tmp_path, without="daskgd") as client:
        with pytest.raises(ModuleNotFoundError):
            client.run_on_scheduler(lambda: __import__("daskgd"))
        told_of = monitor.Monitor(client, "0a1b2c3d", "LogisticRegression")
        told_of(iterated(iteration=1, loss=0.5, sweeps=2))
        thread = monitor.install_page(client)
        assert thread is not None
        thread.join(60)
        told_of.close("converged")
        assert "daskgd" in get(client, "/status")
        assert "bokeh" in get(client, "/daskgd").lower()
        (found,) = metrics(client)  # what was told before the page was there, too
        assert found["iterations"]["LogisticRegression"][0]["loss"] == 0.5
        assert found["status"] == "converged"


def test_without_bokeh_there_are_the_numbers(small, tmp_path):
    expected = bits(descent(engine="serial").fit(small))
    with scheduler(tmp_path, without="bokeh") as client:
        assert bits(descent().fit(small)) == expected
        assert metrics(client)[-1]["n_sweeps"] > 0
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(client, "/daskgd")


def test_a_preload_puts_the_page_there_before_any_fit(small, tmp_path):
    pytest.importorskip("prometheus_client")
    with scheduler(tmp_path, "--preload", "daskgd.preload") as client:
        assert metrics(client) == []
        assert get(client, "/daskgd")
        descent().fit(small)
        assert len(metrics(client)) == 1
        found = get(client, "/metrics")
        assert re.search(r'daskgd_loss\{estimator="LogisticRegression",fit="\w{8}"\} 0\.\d+', found)
        assert re.search(r'daskgd_sweep_part_seconds\{.*part="read"\}', found)
        assert "dask_scheduler_workers" in found


def test_a_worker_that_is_killed_is_counted(small, client):
    victim = next(iter(client.run(os.getpid).values()))

    class Killing(Graph):
        """Kills a worker while the fourth sweep is on its way."""

        def _run(self, asks: Any, cut: Any) -> Any:
            if self.n_sweeps == 4:
                os.kill(victim, signal.SIGKILL)
            return super()._run(asks, cut)

    expected = bits(descent(engine="serial").fit(small))
    est = descent(engine=lambda dataset: Killing(dataset, client, memory="auto")).fit(small)
    assert bits(est) == expected
    last = metrics(client)[-1]
    assert last["workers_lost"] == 1
    assert last["blocks_again"] > 0
    assert sum(row["lost"] for row in last["sweeps"]) == 1
    client.wait_for_workers(2)


# -- a browser ----------------------------------------------------------------------------------


@pytest.mark.skipif(browser.chromium() is None, reason="needs chromium")
def test_an_open_page_grows_while_a_fit_runs(small, client):
    """Without being loaded again: through the page's own scripts."""
    descent().fit(small)
    went, go_on = threading.Event(), threading.Event()

    class Waiting(Graph):
        def sweep(self, asks: Any) -> list[Any]:
            if self.n_sweeps == 4:
                went.set()
                assert go_on.wait(60)
            return super().sweep(asks)

    model = "window.Bokeh?.documents[0]?.get_model_by_name"
    sweeps, points = f"{model}('daskgd-sweeps')", f"{model}('daskgd-curve-0')"
    count = f"{sweeps}?.data.sweep.length"
    with browser.opened(client.dashboard_link.replace("/status", "/daskgd")) as tab:
        tab.until(f"{count} > 0")
        loaded = tab.run("performance.timeOrigin")
        fit = descent(engine=lambda dataset: Waiting(dataset, client))
        thread = threading.Thread(target=fit.fit, args=(small,))
        thread.start()
        assert went.wait(60)
        tab.until(f"{count} == 3 || {count} == 4")  # the last may be told with the next
        go_on.set()
        thread.join(60)
        tab.until(f"{count} == {fit.n_sweeps_}")
        assert tab.until(f"{points}?.data.loss.length") == len(fit.history_)
        assert tab.run(f"Array.from({points}.data.loss)") == pytest.approx(fit.history_.column("loss"))
        assert tab.run("performance.timeOrigin") == loaded


@pytest.mark.skipif(browser.chromium() is None, reason="needs chromium")
def test_a_page_that_is_given_another_fit_shows_that_fit_and_no_sweep_of_it_twice(small, client):
    """Whole fits come at once there: where one is chosen, and where the latest ran between two updates."""
    fits = [descent().set_params(max_iter=n).fit(small) for n in (3, 6)]
    found = "window.Bokeh.documents[0].get_model_by_name"
    fit = f"{found}('daskgd-fit')"

    def shown(tab: browser.Tab, one: Any) -> None:
        sweeps = f"{found}('daskgd-sweeps').data.sweep"
        tab.until(f"Math.max(...{sweeps}) == {one.n_sweeps_}")
        assert tab.run(f"Array.from({sweeps})") == list(range(1, one.n_sweeps_ + 1))
        losses = tab.run(f"Array.from({found}('daskgd-curve-0').data.loss)")
        assert losses == pytest.approx(one.history_.column("loss"))

    with browser.opened(client.dashboard_link.replace("/status", "/daskgd")) as tab:
        tab.until("window.Bokeh?.documents[0]?.get_model_by_name('daskgd-fit')?.options.length > 2")
        shown(tab, fits[1])
        tab.run(f"{fit}.value = {fit}.options[2]")
        shown(tab, fits[0])
        tab.run(f"{fit}.value = {fit}.options[0]")
        shown(tab, fits[1])
