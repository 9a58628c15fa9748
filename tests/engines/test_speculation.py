"""Late workers: who they are, what others do in their place, and that nobody else notices."""

from __future__ import annotations

import logging
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import distributed
import hypothesis.strategies as st
import numpy as np
import pytest
from gates import gated
from hypothesis import given

import daskgd
from daskgd._compat.dask import List, Task, TaskRef
from daskgd.engines import cluster as cluster_room
from daskgd.engines import graph as graph_room
from daskgd.engines import speculation
from daskgd.engines.graph import Graph
from daskgd.engines.select import open_engine
from daskgd.engines.speculation import LateTasks, Speculation, Watch, again, among, silent_workers
from daskgd.engines.speeds import SWEEPS, Speeds
from daskgd.engines.task_spans import Payload, task_spans
from daskgd.engines.tasks import Merge, Questions, Span
from daskgd.engines.timing import Clock, Spent, Timing
from daskgd.engines.worker_memory import Need, Worker, check_memory
from daskgd.monitoring.events import Swept
from daskgd.queries import Ask, Survey
from daskgd.rows.layout import Layout
from tests.namespaces import Namespace, namespace

posix = pytest.mark.posix


# -- who is late --------------------------------------------------------------------------------


def test_who_finishes_nothing_for_three_spans_is_late():
    watch = Watch()
    watch.see({"a": [1], "b": [2]}, 0.0)
    watch.see({"a": [3], "b": [2]}, 2.0)  # a span takes two seconds
    watch.see({"a": [], "b": [2]}, 4.0)
    assert watch.late(5.9) == set()
    assert watch.late(6.1) == {"b"}


def test_nobody_is_late_while_all_have_something_to_do():
    watch = Watch(usual=0.01)
    watch.see({"a": [1], "b": [2]}, 0.0)
    watch.see({"a": [3], "b": [2]}, 50.0)
    assert watch.late(99.0) == set()
    watch.see({"a": [], "b": [2]}, 100.0)
    assert watch.late(100.0) == {"b"}


def test_a_second_at_least_and_what_is_not_known_is_not_guessed():
    quick = Watch(usual=0.01)
    quick.see({"a": [], "b": [2]}, 0.0)
    assert (quick.late(0.9), quick.late(1.0)) == (set(), {"b"})
    few = Watch(enough=False)  # a may have had nothing to do from the start
    few.see({"a": [], "b": [2]}, 0.0)
    assert few.late(1e6) == set()


def test_who_goes_on_is_not_late_whatever_it_has_still_to_do():
    watch = Watch(usual=1.0)
    for second in range(20):
        watch.see({"a": [], "b": list(range(second, 20))}, float(second))
        assert watch.late(second + 0.5) == set()


def test_who_has_left_is_not_late():
    watch = Watch(usual=1.0)
    watch.see({"a": [1], "b": [2], "c": []}, 0.0)
    watch.see({"b": [2, 1], "c": []}, 1.0)
    assert watch.late(9.0) == {"b"}


def test_who_is_not_to_have_anything_or_has_just_joined_says_nothing_of_the_others():
    watch = Watch()
    watch.see({"a": [1], "b": [2], "blind": []}, 0.0, {"blind"})
    assert watch.late(99.0) == set()
    watch.see({"a": [1], "b": [2], "blind": [], "new": []}, 50.0, {"blind"})
    assert watch.late(99.0) == set()  # a span may take as long as that
    watch.see({"a": [], "b": [2], "blind": [], "new": []}, 60.0, {"blind"})
    assert (watch.late(99.0), watch.late(181.0)) == (set(), {"b"})


def test_who_misses_heartbeats_is_silent():
    seen = (("a", 100.0), ("b", 97.6), ("c", 97.4))
    info = {name: {"last_seen": at, "status": "running"} for name, at in seen}
    assert silent_workers(info) == {"c"}
    info["a"]["status"] = "paused"
    assert silent_workers(info) == {"a", "c"}
    assert silent_workers({}) == set()


# -- what is done again -------------------------------------------------------------------------

SOURCE: Any = None


def little_graph(questions: bool) -> dict[Any, Any]:
    """Four spans, merged in pairs; with the questions as a task of their own."""
    graph: dict[Any, Any] = {}
    ask = ("daskgd-ask-t", 1, 0)
    if questions:
        graph[ask] = Task(ask, Questions(ask, []))
    for i in range(4):
        key = ("daskgd-sum-t", 1, i)
        span = Span(key, SOURCE, [(i, i + 1)], {}, [], 0, None if questions else [], ("t", "a"))
        graph[key] = Task(key, span, TaskRef(ask) if questions else None, List())
    for i in range(2):
        key = ("daskgd-merge-t", 1, 1, i)
        parts = [TaskRef(("daskgd-sum-t", 1, 2 * i + j)) for j in range(2)]
        graph[key] = Task(key, Merge(key, 4), List(*parts))
    return graph


def test_what_can_be_reached_is_not_done_again():
    graph = little_graph(questions=False)
    finals = [("daskgd-merge-t", 1, 1, 0), ("daskgd-merge-t", 1, 1, 1)]
    reached = {finals[0], ("daskgd-sum-t", 1, 3)}
    tasks, keys = again(graph, finals, reached.__contains__, 7)
    assert keys == [finals[0], (*finals[1], 7)]
    assert set(tasks) == {keys[1], ("daskgd-sum-t", 1, 2, 7)}
    assert tasks[keys[1]].dependencies == {("daskgd-sum-t", 1, 2, 7), ("daskgd-sum-t", 1, 3)}
    assert tasks[("daskgd-sum-t", 1, 2, 7)].func.worker_cache is None


def test_questions_that_a_late_worker_holds_are_asked_again():
    graph = little_graph(questions=True)
    finals = [("daskgd-merge-t", 1, 1, 0)]
    tasks, _ = again(graph, finals, lambda key: False, 1)
    assert ("daskgd-ask-t", 1, 0, 1) in tasks
    assert len(tasks) == 4  # the questions once, two spans, a merge
    tasks, _ = again(graph, finals, {("daskgd-ask-t", 1, 0)}.__contains__, 1)
    assert tasks[("daskgd-sum-t", 1, 0, 1)].dependencies == {("daskgd-ask-t", 1, 0)}


def test_held_data_that_cannot_be_reached_are_waited_for():
    key = ("daskgd-sum-t", 1, 0)
    span = Span(key, SOURCE, [(0, 1)], {}, [("X", 0)], 0, [], None)
    graph = {key: Task(key, span, None, List(TaskRef("piece")))}
    assert again(graph, [key], lambda key: False, 1) == ({}, [key])
    tasks, keys = again(graph, [key], {"piece"}.__contains__, 1)
    assert keys == [(*key, 1)] == list(tasks)


@dataclass
class Stage:
    """Late tasks of the little graph, of which `a` had the first span, looked at by a clock that is set."""

    patch: pytest.MonkeyPatch
    graph: dict[Any, Any] = field(default_factory=lambda: little_graph(questions=False))
    left_out: set[str] = field(default_factory=set)
    holders: dict[Any, list[str]] | None = field(default_factory=dict)
    sent: list[tuple[set[Any], list[str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        cluster = SimpleNamespace(
            left_out=self.left_out, client=None, ask=lambda call: self.holders, is_new=lambda address: False
        )
        self.speculation = Speculation(cluster)  # type: ignore[arg-type]
        self.keys = [key for key in self.graph if key[0] == "daskgd-merge-t"]
        futures = {key: SimpleNamespace(status="pending") for key in self.keys}
        self.late = LateTasks(self.speculation, self.graph, futures, Watch(1.0), self.submit, str)

    def submit(self, graph: dict[Any, Any], keys: list[Any], workers: list[str]) -> list[Any]:
        self.sent.append((set(graph), workers))
        return [SimpleNamespace(status="pending") for _ in keys]

    def look(self, now: float, **processing: list[int]) -> bool:
        """Whether something is sent, at a time when workers have these spans to do."""
        self.patch.setattr(speculation, "time", SimpleNamespace(monotonic=lambda: now))
        self.patch.setattr(self.late, "_silent", lambda *_: set())
        spans = {a: [("daskgd-sum-t", 1, i) for i in numbers] for a, numbers in processing.items()}
        return self.late(spans) is not None


def test_tasks_of_a_worker_that_was_killed_may_take_as_long_as_others(monkeypatch):
    stage = Stage(monkeypatch)
    assert not stage.look(0, a=[0], b=[1, 2, 3], c=[])
    assert not stage.look(2.9, b=[1, 2, 3, 0], c=[])
    assert stage.look(3, b=[1, 2, 3, 0], c=[])  # b is late, and a has left
    assert {worker for _, workers in stage.sent for worker in workers} == {"c"}
    assert stage.speculation.suspects == {"b"}


def test_what_a_late_worker_gets_afterwards_is_given_to_others_too(monkeypatch):
    """It may take tasks from others that nobody has begun."""
    stage = Stage(monkeypatch)
    assert not stage.look(0, a=[0], b=[1, 2, 3], c=[])
    assert stage.look(4, a=[0], b=[], c=[1, 2, 3])
    (first, _) = stage.sent[0]
    assert {key[2] for key in first if key[0] == "daskgd-sum-t"} == {0}
    assert not stage.look(5, a=[0], b=[], c=[1, 2, 3])
    assert stage.look(6, a=[0, 3], b=[], c=[1, 2])
    assert ("daskgd-sum-t", 1, 3, 2) in stage.sent[1][0]
    assert not stage.look(7, a=[0, 3], b=[], c=[1, 2])


def test_late_tasks_are_given_away_as_soon_as_the_scheduler_answers(monkeypatch):
    stage = Stage(monkeypatch, holders=None)
    assert not stage.look(0, a=[0], b=[])
    assert not stage.look(4, a=[0], b=[])
    stage.holders = {}
    assert stage.look(5, a=[0], b=[])


def test_late_tasks_are_not_given_to_workers_that_cannot_be_used(monkeypatch):
    stage = Stage(monkeypatch, left_out={"blind"})
    assert not stage.look(0, a=[0], b=[1], blind=[])
    assert not stage.look(99, a=[0], b=[1], blind=[])
    assert stage.look(100, a=[0], b=[], blind=[])
    assert stage.sent[0][1] == ["b"]


def test_held_data_on_their_way_are_as_good_as_there(monkeypatch):
    graph, piece = little_graph(questions=False), ("daskgd-sum-t", 1, 77)  # as `look` names keys
    key = ("daskgd-sum-t", 1, 0)
    graph[key] = Task(key, graph[key].func, None, List(TaskRef(piece)))
    stage = Stage(monkeypatch, {piece: SimpleNamespace(), **graph})  # a future
    assert not stage.look(0, a=[0], b=[77], c=[])
    assert stage.look(4, a=[0], b=[77], c=[])
    assert (*key, 1) in stage.sent[0][0]


def test_many_workers_are_named_a_few_at_a_time():
    many = [str(i) for i in range(100)]
    found = among(many, range(200))
    assert {len(set(few)) for few in found.values()} == {speculation.CHOICE}
    assert {name for few in found.values() for name in few} == set(many)


# -- who is slow --------------------------------------------------------------------------------


def swept(**workers: Spent) -> Timing:
    clock = Clock()
    clock.start()
    return clock.stop(("gradient",), workers, 80, 8, 2)


def test_who_is_slow_in_three_sweeps_is_slow_until_it_is_not():
    speeds = Speeds()
    quick, slow = Spent(1, 10, 8, 0, 0.4, 0.4, 0.4), Spent(1, 10, 2, 0, 1.0, 1.0, 1.0)
    for _ in range(2):
        speeds.note(swept(a=quick, b=quick, c=slow), {})
    assert speeds.slow == {}
    assert speeds.block_seconds(("gradient",)) == pytest.approx(0.1)
    speeds.note(swept(a=quick, b=quick, c=slow), {})
    assert speeds.slow == {"c": pytest.approx(0.1)}
    for _ in range(SWEEPS):
        speeds.note(swept(a=quick, b=quick, c=quick), {})
    assert speeds.slow == {}


def test_who_finishes_nothing_is_slow_too_and_is_tried_again_after_a_rest():
    speeds = Speeds()
    quick = Spent(1, 10, 8, 0, 0.4, 0.4, 0.4)
    for _ in range(3):
        speeds.note(swept(a=quick, b=quick), {"c": (4, 8.0)})
    assert speeds.slow == {"c": pytest.approx(0.05)}
    for _ in range(SWEEPS + 1):
        speeds.note(swept(a=quick, b=quick), {})
    assert speeds.slow == {}


def test_rows_from_memory_do_not_make_the_others_slow():
    speeds = Speeds()
    kept, read = Spent(1, 10, 0, 8, 0.0, 0.0, 0.2), Spent(1, 10, 8, 0, 4.0, 4.0, 0.2)
    for _ in range(3):
        speeds.note(swept(a=kept, b=kept, c=read), {})
    assert speeds.slow == {}


def test_rows_that_were_in_memory_take_longer_where_they_are_to_be_read():
    speeds = Speeds()
    speeds.note(swept(a=Spent(1, 10, 8, 0, 4.0, 4.0, 0.4)), {})
    speeds.note(swept(a=Spent(1, 10, 0, 8, 0.0, 0.0, 0.4)), {})
    assert speeds.block_seconds(("gradient",)) == pytest.approx(0.05)
    assert speeds.block_seconds(("gradient",), read=True) == pytest.approx(0.55)
    assert speeds.block_seconds(("another",), read=True) is None


def test_a_little_work_says_nothing_of_speed():
    speeds = Speeds()
    quick, slow = Spent(1, 10, 8, 0, 0.01, 0.01, 0.01), Spent(1, 10, 8, 0, 0.1, 0.1, 0.1)
    for _ in range(2 * SWEEPS):
        speeds.note(swept(a=quick, b=quick, c=slow), {})
    assert speeds.slow == {}


@given(
    n_blocks=st.integers(1, 200),
    unit=st.sampled_from([1, 4]),
    speeds=st.dictionaries(st.sampled_from("abcd"), st.floats(0.0, 0.33), max_size=4),
    heavy=st.booleans(),
)
def test_slow_workers_get_less_and_every_block_is_walked_once(
    n_blocks: int, unit: int, speeds: Mapping[str, float], heavy: bool
):
    layout = Layout(n_blocks * 10 - 3, 10, unit)
    threads = {"a": 2, "b": 1, "c": 1}
    payload = Payload(2 << 20 if heavy else 8)
    found = task_spans(layout, threads, {}, payload, 16, unit > 1, slow=speeds)
    walked = [block for _, nodes in found for lo, hi in nodes for block in range(lo, hi)]
    assert sorted(walked) == list(range(n_blocks))
    for address, speed in speeds.items():
        mine = sum(hi - lo for to, nodes in found for lo, hi in nodes if to == address)
        rest = sum(t * speeds.get(a, 1.0) for a, t in threads.items())
        assert mine <= threads.get(address, 0) * speed / max(rest, 1e-9) * n_blocks + unit


# -- on a cluster -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """25 blocks, 7 partitions."""
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(5000, 10)).astype(np.float32)
    y = (X[:, 0] - X[:, 1] + 4 * rng.normal(size=len(X)) > 0).astype(np.int8)
    path = tmp_path_factory.mktemp("late") / "data.zarr"
    daskgd.write_dataset(path, X, y, chunk_bytes=8_000)
    return daskgd.open_dataset(path, block_bytes=8_000, partition_bytes=32_000)


def fit(data: Any, max_iter: int = 4, watch: Any = None, **settings: Any) -> Any:
    solver = daskgd.GradientDescent(step=0.5)
    est = daskgd.LogisticRegression(solver=solver, max_iter=max_iter, tol=0, **{"memory": 0, **settings})
    return est.fit(data, watch=watch)


def told(est: Any) -> tuple[bytes, tuple[float, ...]]:
    """Parameters and the losses that led there, to the bit."""
    return np.append(est.coef_, est.intercept_).tobytes(), tuple(row["loss"] for row in est.history_)


@pytest.fixture(scope="module")
def undisturbed(data: daskgd.Dataset) -> Any:
    return told(fit(data, engine="serial"))


def until(is_so: Any, seconds: float = 60.0, left: Any = "") -> None:
    """Wait until something is so; what is `left` is told where one waits in vain."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"waited in vain: {left}"
        time.sleep(0.02)


@pytest.fixture
def nimble(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster is looked at often."""
    monkeypatch.setattr(cluster_room, "TICK", 0.1)


@contextmanager
def stopping(pids: list[int], which: str, at: int) -> Iterator[Any]:
    """What a gate does: at one visit it stops the visitor, or the others."""
    stopped: list[int] = []

    def visit(number: int, pid: int) -> bool:
        if number == at:
            stopped.extend([pid] if which == "visitor" else [other for other in pids if other != pid])
            for victim in stopped:
                os.kill(victim, signal.SIGSTOP)
        return True

    try:
        yield visit
    finally:
        for victim in stopped:
            os.kill(victim, signal.SIGCONT)


@posix
@pytest.mark.parametrize(
    ("which", "questions", "memory"),
    [
        ("others", False, 0),
        pytest.param("visitor", True, "auto", marks=pytest.mark.slow),
        pytest.param("others", True, "auto", marks=pytest.mark.slow),
    ],
)
def test_results_questions_and_caches_of_a_stopped_worker_are_done_without(
    which, questions, memory, data, undisturbed, cluster, client, nimble, monkeypatch
):
    if questions:
        monkeypatch.setattr(graph_room, "QUESTION_BYTES", 0)
    pids = list(client.run(os.getpid).values())
    events: list[Any] = []
    at = 3 if memory == 0 else 1  # rows that are kept are read once
    with stopping(pids, which, at) as visit, gated(data, visit) as (through, _):
        est = fit(through, memory=memory, watch=events.append)
    assert told(est) == undisturbed
    counted = sum(event.speculated for event in events if isinstance(event, Swept))
    assert est.history_.speculated == counted > 0
    until(lambda: not cluster.scheduler.tasks, left=cluster.scheduler.tasks)  # nothing is left behind
    assert not client.futures
    with open_engine(data, "distributed") as (engine, _):
        again = fit(data, engine=lambda dataset: engine)
        assert told(again) == undisturbed
        assert set(engine.last.workers) == set(client.nthreads())  # who was stopped works again


def test_nobody_late_costs_nothing(data, undisturbed, client, monkeypatch):
    """The same tasks, and no questions but the one at each look."""
    fit(data, engine="distributed")  # workers have imported what they need
    monkeypatch.setattr(cluster_room, "TICK", 1e-3)
    asked: list[str] = []
    for room, name in (
        (cluster_room, "worker_threads"),
        (cluster_room, "worker_processing"),
        (cluster_room, "workers_info"),
        (speculation, "workers_info"),
        (speculation, "who_has"),
    ):
        monkeypatch.setattr(room, name, counting(getattr(room, name), name, asked))
    made: list[Graph] = []

    def engine(dataset: Any) -> Graph:
        made.append(Graph(dataset, client))
        return made[-1]

    est = fit(data, engine=engine)
    assert told(est) == undisturbed
    assert set(asked) <= {"worker_threads", "worker_processing"}
    assert asked.count("worker_threads") == est.n_sweeps_  # one before each sweep
    (graph,) = made
    assert set(graph.tasks_per_sweep) == {8}  # 4 for each of two threads, and the driver merges 8
    assert (est.history_.speculated, graph.last.speculated) == (0, 0)


def counting(call: Any, name: str, asked: list[str]) -> Any:
    def counted(*args: Any) -> Any:
        asked.append(name)
        return call(*args)

    return counted


def test_a_worker_that_is_left_out_gets_nothing(data, undisturbed, client):
    first, second = client.nthreads()
    graph = Graph(data, client, left_out=[first])
    assert told(fit(data, engine=lambda dataset: graph)) == undisturbed
    assert set(graph.last.workers) == {second}


def pause(dask_worker: Any) -> None:
    dask_worker.memory_manager.memory_pause_fraction = 1e-9  # so that it stays so
    dask_worker.status = distributed.Status.paused


def test_rows_kept_by_a_paused_worker_are_read_by_others(data, nimble):
    """It begins no tasks, and its own may go to no others by themselves where some are not to be used."""
    with (
        distributed.LocalCluster(
            n_workers=3,
            threads_per_worker=1,
            processes=False,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        first, paused, third = client.nthreads()
        graph = Graph(data, client, memory="auto", left_out=[first])
        expected = graph.sweep([Ask(None, Survey(True))])
        assert set(graph.last.workers) == {paused, third}
        client.run(pause, workers=[paused])
        found = graph.sweep([Ask(None, Survey(True))])
        graph.close()
        assert pickle.dumps(found) == pickle.dumps(expected)
        assert set(graph.last.workers) == {third}
        until(lambda: not cluster.scheduler.tasks)


def test_a_worker_that_has_to_read_what_others_kept_is_given_the_time(data, client, monkeypatch):
    usual: list[float | None] = []

    def watch(seconds: float | None, enough: bool) -> Watch:
        usual.append(seconds)
        return Watch(seconds, enough)

    monkeypatch.setattr(graph_room, "Watch", watch)
    graph = Graph(data, client, memory="auto")
    for _ in range(4):
        if graph.n_sweeps == 2:
            graph._cluster.left_out.add(min(client.nthreads()))  # type: ignore[union-attr]
        graph.sweep([Ask(None, Survey(True))])
        graph._speeds._store_seconds = 100.0
    graph.close()
    assert [seconds is not None and seconds >= 100 for seconds in usual] == [False, False, True, False]


@pytest.mark.parametrize("by", ["address", "name"])
def test_workers_that_the_user_has_chosen_are_the_only_ones(by, data, undisturbed, client, cluster):
    address, _ = sorted(client.nthreads())
    name = cluster.scheduler.workers[address].name
    with dask.annotate(workers=[address if by == "address" else name]):
        graph = Graph(data, client, memory="auto")
        assert told(fit(data, engine=lambda dataset: graph)) == undisturbed
    assert set(graph.last.workers) == {address}
    assert graph.last.home_tasks > 0


def test_a_worker_with_too_little_memory_is_left_out_and_named(data, client, caplog, monkeypatch):
    rooms = {"a": Worker(111_000_000, 0, 1), "b": Worker(400_000_000, 0, 1)}
    monkeypatch.setattr("daskgd.engines.worker_memory.workers_of", lambda client: rooms)
    need = Need(20_000_000, 20_000_000, 2.0, 0)
    monkeypatch.setattr("daskgd.engines.worker_memory.Need", SimpleNamespace(of=lambda *_: need))
    with caplog.at_level(logging.WARNING, "daskgd"):
        assert check_memory(data, client, False) == ["a"]
    assert "a is left out of the fit: a task needs 38.15 MiB at once, but a worker has" in caplog.text
    rooms["b"] = rooms["a"]
    with pytest.raises(ValueError, match=r"X: a block takes 19\.07 MiB"):
        check_memory(data, client, False)


@posix
@pytest.mark.slow
def test_the_only_worker_that_may_be_used_dies(data, undisturbed):
    """Its tasks may go to no other by themselves."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        first, second = client.nthreads()

        def visit(number: int, pid: int) -> bool:
            if number == 3:
                assert pid == pids[second]
                os.kill(pid, signal.SIGKILL)
            return True

        pids = client.run(os.getpid)
        with gated(data, visit) as (through, _):
            graph = Graph(through, client, left_out=[first])
            assert told(fit(data, engine=lambda dataset: graph)) == undisturbed
        assert set(graph.last.workers).isdisjoint([first, second])  # another was waited for
        until(lambda: not cluster.scheduler.tasks)


# -- one of three -------------------------------------------------------------------------------


MORE, TIMES = 15.0, 3
"""Most seconds that a worker who is stopped, cut off or slow may cost a fit, where all else takes up to so
many times as long as before."""


@pytest.fixture(scope="module")
def larger(tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """384 blocks of a quarter of a megabyte: a sweep takes some tenths of a second."""
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(1_200_000, 20)).astype(np.float32)
    y = (X[:, 0] - X[:, 1] + 4 * rng.normal(size=len(X)) > 0).astype(np.int8)
    path = tmp_path_factory.mktemp("larger") / "data.zarr"
    daskgd.write_dataset(path, X, y, chunk_bytes=250_000)
    return daskgd.open_dataset(path, block_bytes=250_000)


@pytest.fixture(scope="module")
def three() -> Iterator[distributed.LocalCluster]:
    """Three worker processes of one thread."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.CRITICAL
    ) as cluster:
        yield cluster


def timed(client: Any, data: Any, **settings: Any) -> tuple[Any, float, Graph]:
    """A fit of twenty iterations, its seconds, and its engine."""
    graph = Graph(data, client)
    began = time.monotonic()
    est = fit(data, 20, engine=lambda dataset: graph, **settings)
    return est, time.monotonic() - began, graph


@posix
@pytest.mark.cluster
@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stopped", "slow"])
def test_one_of_three_workers_is_stopped_or_slow(fault, larger, three):
    expected = told(fit(larger, 20, engine="serial"))
    over = threading.Event()

    def trouble(pid: int) -> None:
        """Nothing of its time is left to a process, or a tenth."""
        while not over.wait(0.01):
            os.kill(pid, signal.SIGSTOP)
            over.wait(0.09 if fault == "slow" else 60.0)
            os.kill(pid, signal.SIGCONT)

    victims: list[int] = []
    threads: list[threading.Thread] = []

    def visit(number: int, pid: int) -> bool:
        if number == 4:
            victims.append(pid)
            threads.append(threading.Thread(target=trouble, args=(pid,)))
            threads[0].start()
        return True

    with distributed.Client(three) as client:
        addresses = {pid: address for address, pid in client.run(os.getpid).items()}
        timed(client, larger)
        _, undisturbed, _ = timed(client, larger)
        try:
            with gated(larger, visit) as (through, _):
                est, seconds, graph = timed(client, through)
        finally:
            over.set()
            for thread in threads:
                thread.join()
        assert told(est) == expected
        assert seconds < TIMES * undisturbed + MORE
        rows = graph.last.workers.get(addresses[victims[0]], Spent()).rows
        if fault == "stopped":
            assert est.history_.speculated > 0
            assert rows == 0
        else:
            assert rows < larger.n_rows / 3 / 2  # half of its share
        until(lambda: not three.scheduler.tasks)
        _, _, graph = timed(client, larger)
        assert set(graph.last.workers) == set(addresses.values())


@pytest.fixture
def island() -> Iterator[Namespace]:
    """A machine that can be cut off."""
    try:
        with namespace() as space:
            yield space
    except PermissionError as error:
        pytest.skip(f"no network namespace can be made: {error}")


@posix
@pytest.mark.cluster
@pytest.mark.parametrize(
    ("there", "back"),
    [
        pytest.param(True, True, marks=pytest.mark.slow),
        *(pytest.param(*one, marks=pytest.mark.nightly) for one in ((True, False), (False, True))),
    ],
)
def test_one_of_three_workers_is_cut_off(there, back, larger, island, tmp_path):
    """Both ways, or only one: it then hears what it cannot answer, or says what nobody answers."""
    expected = told(fit(larger, 20, engine="serial"))

    def visit(number: int, pid: int) -> bool:
        if number == 4:
            island.cut(there, back)
        return True

    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            host=island.ours,
            dashboard_address=":0",
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster) as client,
        subprocess.Popen(
            island.command(
                *(sys.executable, "-m", "dask", "worker", cluster.scheduler_address, "--nthreads=1"),
                *("--no-nanny", "--no-dashboard", f"--local-directory={tmp_path}"),
            ),
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])},
        ) as worker,
    ):
        try:
            client.wait_for_workers(3, timeout=60)
            timed(client, larger)
            _, undisturbed, _ = timed(client, larger)
            with gated(larger, visit, host=island.ours) as (through, _):
                est, seconds, graph = timed(client, through)
            assert told(est) == expected
            assert seconds < TIMES * undisturbed + MORE
            assert est.history_.speculated > 0
            assert len(graph.last.workers) == 2
            until(lambda: not cluster.scheduler.tasks)
        finally:
            island.mend()
            worker.kill()
