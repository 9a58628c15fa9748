"""Rows kept in memory between sweeps: which, where, for how long; and reading ahead."""

from __future__ import annotations

import os
import pickle
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import distributed
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import daskgd
from daskgd.engines import worker_cache as caches
from daskgd.engines.cache_manager import CacheManager, assign_blocks, budgets
from daskgd.engines.graph import Graph
from daskgd.engines.runs import length, slices, tidy, without
from daskgd.engines.select import open_engine
from daskgd.engines.worker_cache import AskAhead, CachedSource, ReadAhead, WorkerCache, in_pages
from daskgd.queries import Ask, Survey
from daskgd.rows.layout import Layout
from daskgd.rows.tiles import Rows
from daskgd.storage.reading import StoredColumn
from tests.tiers import slow_but

SOLVERS = {
    "GradientDescent": daskgd.GradientDescent(step=0.5),
    "LBFGS": daskgd.LBFGS(),
    "LocalGD": daskgd.LocalGD(step=0.5, local_steps=3, batch_size=32),
    "sampled": daskgd.SubsampledNewton(rows_per_parameter=30, sample_bytes=1),
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> daskgd.Dataset:
    """71 blocks, 18 partitions."""
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(14_150, 10)).astype(np.float32)
    y = (X[:, 0] - X[:, 1] + 4 * rng.normal(size=len(X)) > 0).astype(np.int8)
    path = tmp_path_factory.mktemp("small") / "small.zarr"
    daskgd.write_dataset(path, X, y, chunk_bytes=8_000)
    return daskgd.open_dataset(path, block_bytes=8_000, partition_bytes=32_000)


def fit(solver: str, data: Any, **settings: Any) -> Any:
    return daskgd.LogisticRegression(solver=SOLVERS[solver], max_iter=5, tol=0, **settings).fit(data)


def bits(est: Any) -> bytes:
    return np.append(est.coef_, est.intercept_).tobytes()


# -- which blocks, and where --------------------------------------------------------------------

WORKERS = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.integers(1, 3), st.integers(0, 40)), min_size=1
)


@given(st.integers(1, 60), WORKERS, WORKERS)
def test_each_block_has_one_home_and_what_was_kept_stays(n, first, second):
    before = assign_blocks(n, first, {})
    after = assign_blocks(n, second, before)
    for workers, kept in ((first, before), (second, after)):
        blocks = [b for runs in kept.values() for lo, hi in runs for b in range(lo, hi)]
        assert len(set(blocks)) == len(blocks)
        assert not blocks or 0 <= min(blocks) <= max(blocks) < n
        threads = sum(t for t, _ in workers.values())
        most = {address: min(room, -(-n * t // threads)) for address, (t, room) in workers.items()}
        assert all(length(kept[address]) <= most[address] for address in workers)
        assert len(blocks) == n or all(length(kept[address]) == most[address] for address in workers)
        assert sum(hi - lo for lo, hi in without(n, kept.values())) == n - len(blocks)
        for address in set(first) & set(workers):  # the first of what it had, as many as it may
            had, has = (
                {b for lo, hi in runs for b in range(lo, hi)} for runs in (before[address], kept[address])
            )
            assert len(had & has) >= min(len(had), most[address])


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 9))
def test_parts_are_equal_and_lose_nothing(marked, n_parts):
    runs = tidy([(i, i + 1) for i, mark in enumerate(marked) if mark])
    parts = slices(runs, n_parts)
    sizes = [length(part) for part in parts]
    assert tidy([run for part in parts for run in part]) == runs
    assert len(parts) == min(n_parts, length(runs))
    assert not sizes or max(sizes) - min(sizes) <= 1


# -- a cache ------------------------------------------------------------------------------------


def rows_of(block: int) -> Rows:
    return Rows(np.full((3, 2), block, np.float32), np.arange(3, dtype=np.int8), None, 3 * block)


class Counting:
    """A source of three rows a block that notes what is read."""

    def __init__(self, blocks: int, seconds: float = 0.0) -> None:
        self.layout = Layout(3 * blocks, 3, 4)
        self.seconds = seconds
        self.read_blocks: list[int] = []
        self.started = [threading.Event() for _ in range(blocks)]

    def read(self, start: int, stop: int) -> Rows:
        block = start // 3
        self.started[block].set()
        self.read_blocks.append(block)
        time.sleep(self.seconds)  # what a remote store takes
        if block == 5:
            raise OSError("block 5 cannot be read")
        return rows_of(block)


def test_a_cache_keeps_what_is_its_own_and_hands_it_on():
    source = Counting(5)
    worker_cache = WorkerCache("token", "home", ((0, 2), (3, 4)))
    assert caches.worker_cache("token", "home") is worker_cache
    kept = CachedSource(source, worker_cache)
    for _ in range(2):
        for block in range(5):
            rows = kept.read(3 * block, 3 * block + 3)
            assert (rows.X.toarray() == block).all()
            assert rows.start == 3 * block
    assert source.read_blocks == [0, 1, 2, 3, 4, 2, 4]
    newer = WorkerCache("token", "home", ((1, 3),), worker_cache)
    assert list(newer.rows) == [1]
    assert caches.worker_cache("token", "home") is newer
    assert pickle.loads(pickle.dumps(newer)) is None  # moved or spilled: nothing
    del newer
    assert caches.worker_cache("token", "home") is None


def test_kept_rows_are_copies_that_nobody_can_change():
    rows = Rows(np.ones((5, 3), np.uint8)[::2], np.arange(3.0), np.arange(3.0), 4, np.array([4, 6, 8]))
    copy = in_pages(rows)
    for name in ("X", "y", "sample_weight", "kept"):
        a, b = (c.toarray() if name == "X" else c for c in (getattr(rows, name), getattr(copy, name)))
        assert np.array_equal(a, b)
        assert a.dtype == b.dtype
        assert b.flags.c_contiguous
        assert b.flags.aligned
        assert not np.shares_memory(a, b)
        with pytest.raises(ValueError, match="read-only"):
            b[0] = 0
    assert (copy.start, in_pages(Rows(np.empty((0, 3)), None, None, 0)).X.shape) == (4, (0, 3))


# -- reading ahead ------------------------------------------------------------------------------


def test_a_store_that_makes_one_wait_is_read_ahead():
    source = Counting(5, seconds=0.01)
    with ReadAhead(source, [0, 1, 3, 4]) as ahead:
        assert (ahead.read(0, 3).X.toarray() == 0).all()
        assert not source.started[1].is_set(), "one read that waits may be chance"
        for block, following in ((1, 3), (3, 4)):
            assert (ahead.read(3 * block, 3 * block + 3).X.toarray() == block).all()
            assert source.started[following].wait(5), "the next block is not on its way"
        assert (ahead.read(12, 15).X.toarray() == 4).all()
    assert source.read_blocks == [0, 1, 3, 4]
    assert not [t for t in threading.enumerate() if t.name.startswith("daskgd-read-ahead")]


@pytest.mark.parametrize(
    ("computed", "expected"),
    [((0.9, 0.9), [0, 1]), ((0.1, 0.9), [0, 1]), ((0.1, 0.1), [0, 1, 2])],
    ids=["decoding", "preempted once", "waiting"],
)
def test_what_takes_long_is_read_ahead_if_it_waits(monkeypatch, computed, expected):
    """Not what computes meanwhile, nor for one time that the processor was somebody else's."""
    source, (first, second) = Counting(5), computed

    class Clocks:
        """Of a thread that reads twice, a second each."""

        perf_counter = staticmethod(iter([0.0, 1.0, 1.0, 2.0]).__next__)
        thread_time = staticmethod(iter([0.0, first, 1.0, 1.0 + second]).__next__)

    monkeypatch.setattr(caches, "time", Clocks)
    with ReadAhead(source, [0, 1, 2, 3]) as ahead:
        ahead.read(0, 3)
        assert source.read_blocks == [0]
        ahead.read(3, 6)
        assert 2 not in expected or source.started[2].wait(5)
    assert source.read_blocks == expected  # leaving has waited for what was on its way


def test_an_error_ahead_comes_with_its_block():
    source = Counting(6, seconds=0.01)
    with ReadAhead(source, [2, 3, 4, 5]) as ahead:
        for block in (2, 3, 4):
            ahead.read(3 * block, 3 * block + 3)
        with pytest.raises(OSError, match="block 5"):
            ahead.read(15, 18)


class Far(Counting):
    """The same, which can be asked beforehand and answers after `seconds`."""

    def __init__(self, blocks: int, blocks_ahead: int, seconds: float | None) -> None:
        super().__init__(blocks)
        self.blocks_ahead = blocks_ahead
        self.answer_seconds = seconds
        self.asked: list[int] = []
        self.ended: list[int] = []

    def ask_ahead(self, start: int, stop: int) -> Any:
        assert stop - start == 3
        self.asked.append(start // 3)
        return SimpleNamespace(seconds=self.answer_seconds, end=lambda: self.ended.append(start // 3))


class Clocks:
    """Of a thread in which the work on a block takes so many seconds, and the wait for it none."""

    def __init__(self, work: float) -> None:
        self.now, self.work = 0.0, work

    def perf_counter(self) -> float:
        self.now += self.work / 2  # two readings a block
        return self.now

    def thread_time(self) -> float:
        return 0.0


@pytest.mark.parametrize(
    ("seconds", "work", "most", "expected"),
    [
        (0.048, 0.01, 20, 11),  # 0.048 / 0.005: the half of the work that is not the read
        (0.048, 1.0, 20, 2),
        (1.0, 0.01, 20, 20),
        (0.05, 0.01, 1, 1),
        (None, 0.01, 20, 20),
    ],
    ids=["far", "slow work", "very far", "little memory", "no answer"],
)
def test_a_store_is_asked_for_as_many_blocks_as_hide_its_latency(monkeypatch, seconds, work, most, expected):
    monkeypatch.setattr(caches, "time", Clocks(work))
    source, first, last = Far(60, most, seconds), 10, 39
    with AskAhead(source, range(first, 60)) as ahead:
        assert not source.asked
        ahead.read(3 * first, 3 * first + 3)
        assert source.asked == list(range(first, first + 1 + min(caches.FIRST_AHEAD, most)))
        for block in range(first + 1, last + 1):
            assert (ahead.read(3 * block, 3 * block + 3).X.toarray() == block).all()
            assert ahead.blocks_ahead == expected
        assert source.asked == list(range(first, last + 1 + expected))
        assert source.ended == list(range(first, last + 1))
    assert source.ended == source.asked, "leaving lets go of the others"


def test_blocks_asked_ahead_may_be_read_twice_or_not_at_all():
    source = Far(6, 2, 0.01)
    with AskAhead(source, [0, 2, 3]) as ahead:
        for block in (0, 3, 0, 4):
            assert (ahead.read(3 * block, 3 * block + 3).X.toarray() == block).all()
    assert source.read_blocks == [0, 3, 0, 4]
    assert sorted(source.ended) == sorted(source.asked)


# -- fits ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", slow_but(SOLVERS, "LBFGS"))
def test_what_is_kept_changes_no_bits(small, client, solver):
    expected = bits(fit(solver, small, engine="serial", memory=0))
    for engine in ("serial", "threads", "distributed"):
        for memory in ("auto", 0.1, "150 kB", 0):
            assert bits(fit(solver, small, engine=engine, memory=memory)) == expected, (engine, memory)


@pytest.mark.parametrize("engine", ["serial", "threads"])
@pytest.mark.parametrize(("memory", "kept"), [("auto", 71), ("240 kB", 29), (0, 0)])
def test_what_is_kept_is_read_once(small, monkeypatch, engine, memory, kept):
    reads: list[int] = []
    read = StoredColumn.read

    def counted(self: StoredColumn, start: int, stop: int) -> Any:
        if self.ndim == 2:
            reads.append(start)
        return read(self, start, stop)

    monkeypatch.setattr(StoredColumn, "read", counted)
    est = fit("GradientDescent", small, engine=engine, memory=memory)
    assert len(reads) == 71 + (est.n_sweeps_ - 1) * (71 - kept)


def test_nothing_stays_when_the_fit_is_over(small, client):
    def shelved() -> int:
        return sum(len(worker_cache.rows) for worker_cache in caches._caches.values())

    with open_engine(small, "distributed", memory="auto") as (engine, _):
        engine.sweep([Ask(None, Survey(True))])
        assert sum(client.run(shelved).values()) == 71
    deadline = time.monotonic() + 20
    while sum(client.run(shelved).values()) and time.monotonic() < deadline:
        pass
    assert not sum(client.run(shelved).values())
    assert not any(client.run(lambda dask_worker: len(dask_worker.data)).values())


@pytest.mark.parametrize("solver", slow_but(["GradientDescent", "LocalGD"], "GradientDescent"))
def test_workers_that_leave_and_join_change_nothing(small, solver):
    expected = bits(fit(solver, small, engine="serial"))
    seen: list[dict[str, int]] = []

    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        distributed.Client(cluster) as client,
    ):

        class Changing(Graph):
            """Kills a worker in the second sweep, and waits for a third one before the fourth."""

            def _run(self, asks: Any, cut: Any) -> Any:
                if self.n_sweeps == 2:
                    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)
                return super()._run(asks, cut)

            def sweep(self, asks: Any) -> Any:
                if self.n_sweeps == 3:
                    cluster.scale(3)
                    client.wait_for_workers(3)
                answers = super().sweep(asks)
                assert self.cache_manager is not None
                seen.append({address: length(runs) for address, runs in self.cache_manager.runs.items()})
                return answers

        whole = solver == "LocalGD"
        est = fit(
            solver,
            small,
            engine=lambda data: Changing(data, client, memory="auto", whole_partitions=whole),
        )
    assert bits(est) == expected
    assert len(seen[0]) == 2
    assert len(seen[-1]) == 3
    assert all(sum(kept.values()) == 71 for kept in seen)


# -- how much -----------------------------------------------------------------------------------


def test_a_budget_that_would_spill_is_refused(small, client):
    room = budgets(client, "auto", 8_000)
    limits = [w["memory_limit"] for w in client.scheduler_info()["workers"].values()]
    assert all(0 < r < 0.6 * limit for r, limit in zip(room.values(), limits, strict=True))
    assert sum(budgets(client, "1 MB", 8_000).values()) in range(1_000_000, 1_000_003)
    shares = budgets(client, 0.25, 8_000).values()
    assert [round(r / limit, 3) for r, limit in zip(shares, limits, strict=True)] == [0.25, 0.25]
    for memory in (0.9, sum(limits), "999 TB"):
        with pytest.raises(ValueError, match=r"memory=.*expected at most .* in all, or a share of 0\.\d\d"):
            fit("LBFGS", small, engine="distributed", memory=memory)


@pytest.mark.parametrize("memory", [-1, True, "much", "12", 1.5, None, np.inf, [1]])
def test_what_is_no_budget_is_refused(small, memory):
    with pytest.raises(ValueError, match=r"memory: expected|expected memory"):
        fit("LBFGS", small, memory=memory)


def test_workers_that_leave_take_their_part_of_a_budget_along(monkeypatch):
    cache_manager = CacheManager(None, "token", 10, 100, 500)
    rooms = [{"here": 500}, ValueError("memory=500: expected at most 200 B"), {"here": 200}]

    def fewer(*_: Any) -> Any:
        room = rooms.pop(0)
        if isinstance(room, ValueError):
            raise room
        return room

    monkeypatch.setattr("daskgd.engines.cache_manager.budgets", fewer)
    assert cache_manager.assign({"here": 1}) == {"here": ((0, 5),)}
    assert cache_manager.assign({"here": 2}) == {"here": ((0, 2),)}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_the_limits_of_workers_hold(tmp_path: Path, high_water):
    """Data of five times the room: what is kept stays below where dask would spill, and it is kept."""
    limit = 400_000_000
    rng = np.random.default_rng(0)
    X = rng.integers(-8, 8, size=(20_000, 100)).astype(np.float32)
    blocks = ((X + i % 7, (X[:, 0] > i % 3).astype(np.int8)) for i in range(80))
    daskgd.write_dataset(tmp_path / "large.zarr", blocks)
    dataset = daskgd.open_dataset(tmp_path / "large.zarr")
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, memory_limit=limit, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        pid = client.run(os.getpid)
        kept: list[int] = []

        class Noting(Graph):
            def sweep(self, asks: Any) -> Any:
                answers = super().sweep(asks)
                kept.append(
                    sum(client.run(lambda: sum(len(s.rows) for s in caches._caches.values())).values())
                )
                return answers

        expected = bits(fit("LBFGS", dataset, memory=0))
        est = fit("LBFGS", dataset, engine=lambda data: Noting(data, client, memory="auto"))
        assert bits(est) == expected
        assert client.run(os.getpid) == pid
        peak = next(iter(client.run(high_water).values()))
    assert peak < 0.7 * limit
    assert min(kept) == max(kept) > 0
    assert kept[0] * 8_000_000 < 0.6 * limit
