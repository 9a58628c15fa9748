"""Requests that hang or fail, and requests made ahead: what is asked, how often, and what is kept."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import dask
import fsspec
import numpy as np
import pytest

import daskgd
from daskgd._compat.zarr import wait_for
from daskgd.data.columns import can_fetch
from daskgd.engines.cache_manager import reserve
from daskgd.engines.worker_memory import Need, ahead_bytes
from daskgd.storage import reading, requests
from daskgd.storage.requests import Ahead, Patience, Requests, answered
from tests.sparse_rows import sparse_array


async def never() -> Any:
    await asyncio.Event().wait()


def patience(seconds: float) -> Patience:
    found = Patience()
    found.seconds, found._again = seconds, 9.0
    return found


class Answers:
    """Answers one after the other, each in its way; counts those that were cancelled."""

    def __init__(self, *ways: Callable[[], Any]) -> None:
        self.ways = list(ways)
        self.asked = self.cancelled = 0

    async def ask(self) -> Any:
        way = self.ways[self.asked]
        self.asked += 1
        try:
            return await way()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


async def ready() -> str:
    return "ready"


async def broken() -> str:
    raise ConnectionResetError("reset")


# -- late answers ---------------------------------------------------------------------------------


def test_who_answers_is_asked_once() -> None:
    there = Answers(ready)
    waits = patience(10)
    assert wait_for(answered(there.ask, waits)) == "ready"
    assert there.asked == 1
    assert waits.seconds == requests.LEAST_SECONDS


def test_a_request_that_hangs_is_sent_again_and_cancelled() -> None:
    there = Answers(never, never, ready)
    assert wait_for(answered(there.ask, patience(1e-3))) == "ready"
    assert (there.asked, there.cancelled) == (3, 2)


def test_an_error_is_raised_and_not_waited_for() -> None:
    there = Answers(never, broken)
    with pytest.raises(ConnectionResetError):
        wait_for(answered(there.ask, patience(1e-3)))
    assert (there.asked, there.cancelled) == (2, 1)


def test_who_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "REQUEST_SECONDS", 0.05)
    there = Answers(*20 * [never])
    with pytest.raises(TimeoutError, match=r"no answer in 0.05 s"):
        wait_for(answered(there.ask, patience(0.01)))
    assert there.asked == there.cancelled == 3  # after 10, 20 and 40 ms


def test_where_all_are_late_few_are_sent_again() -> None:
    """More of them would make a slow line slower."""
    let = asyncio.Event()

    async def late() -> str:
        await let.wait()
        return "late"

    there, waits = Answers(*60 * [late]), Patience()
    waits.seconds = 1e-3

    async def ask_all() -> list[str]:
        asked = [asyncio.ensure_future(answered(there.ask, waits)) for _ in range(40)]
        await asyncio.wait(asked, timeout=0.1)
        assert there.asked == 42
        let.set()
        return await asyncio.gather(*asked)

    assert wait_for(ask_all()) == 40 * ["late"]
    assert there.asked == 42
    for _ in range(200):
        waits.note(0.1)
    assert [waits.may_send_again() for _ in range(11)] == 10 * [True] + [False]


def test_patience_follows_the_answers() -> None:
    waits = Patience()
    assert waits.seconds == requests.FIRST_SECONDS
    waits.note(2.0)
    assert waits.seconds == 6.0  # RFC 6298, section 2.2: R + 4 R/2
    for _ in range(200):
        waits.note(2.0)
    assert waits.seconds == pytest.approx(2.0)
    waits.note(6.0)
    assert waits.seconds == pytest.approx(2.5 + 4 * 1.0)


# -- objects that are asked for ahead -------------------------------------------------------------


class Store:
    """Objects that are there once `let` is set; those of `broken` fail the first time."""

    def __init__(self, *broken: int) -> None:
        self.asked: Counter[int] = Counter()
        self.cancelled: list[int] = []
        self.broken = broken
        self.let = asyncio.Event()

    async def ask(self, i: int) -> str:
        self.asked[i] += 1
        try:
            await self.let.wait()
        except asyncio.CancelledError:
            self.cancelled.append(i)
            raise
        if i in self.broken and self.asked[i] == 1:
            raise OSError(f"object {i}")
        return f"object {i}"

    async def open(self) -> None:
        self.let.set()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def holding(store: Requests, numbers: range) -> Ahead:
    return Ahead([lambda ahead: ahead.hold(store, numbers)])


def test_what_is_asked_ahead_is_asked_once_and_let_go() -> None:
    store = Store()
    objects = Requests(store.ask)
    one, two = holding(objects, range(2)), holding(objects, range(1, 3))
    assert one.seconds is None
    wait_for(store.open())
    assert [wait_for(objects.get(i)) for i in (0, 1, 1, 2)] == [f"object {i}" for i in (0, 1, 1, 2)]
    wait_for(settle())
    assert one.seconds is not None
    assert store.asked == {0: 1, 1: 1, 2: 1}
    one.end()
    wait_for(settle())
    assert wait_for(objects.get(1)) == "object 1"
    assert store.asked == {0: 1, 1: 1, 2: 1}, "the other still holds it"
    two.end()
    wait_for(settle())
    assert not objects._held
    wait_for(objects.get(1))
    assert store.asked[1] == 2


def test_what_nobody_waits_for_is_cancelled() -> None:
    store = Store()
    objects = Requests(store.ask)
    one, two = holding(objects, range(2)), holding(objects, range(1, 3))
    wait_for(settle())
    one.end()
    wait_for(settle())
    assert store.cancelled == [0]
    two.end()
    holding(objects, range(9, 10)).end()
    wait_for(settle())
    assert sorted(store.cancelled) in ([0, 1, 2], [0, 1, 2, 9])
    assert not objects._held
    assert one.seconds is None


def test_what_failed_ahead_is_asked_for_again() -> None:
    store = Store(1)
    objects = Requests(store.ask)
    ahead = holding(objects, range(2))
    wait_for(store.open())
    with pytest.raises(OSError, match="object 1"):
        wait_for(objects.get(1))
    assert wait_for(objects.get(1)) == "object 1"
    ahead.end()
    wait_for(settle())
    assert not objects._held


# -- columns --------------------------------------------------------------------------------------


def sparse() -> Any:
    return sparse_array(200, 30, 0.2, np.random.default_rng(0))


def coded() -> daskgd.OneHot:
    rng = np.random.default_rng(0)
    codes = rng.integers(-1, 3, (200, 2))
    return daskgd.OneHot(codes, [["a", "b", "c"], 3], numeric=rng.normal(size=(200, 3)))


KINDS = {"dense": lambda: np.random.default_rng(0).normal(size=(200, 4)), "sparse": sparse, "codes": coded}


@pytest.mark.parametrize("shards", [None, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_asked_for_ahead_are_read_without_another_request(
    kind: str, shards: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: Counter[tuple[str, int]] = Counter()
    ask = reading.ask_for_object

    async def count(array: Any, i: int) -> Any:
        asked[array.path, i] += 1
        return await ask(array, i)

    monkeypatch.setattr(reading, "ask_for_object", count)
    url = f"memory://ahead-{kind}-{shards}.zarr"
    y, weights = np.arange(200.0), np.ones(200)
    daskgd.write_dataset(url, KINDS[kind](), y, weights, chunk_bytes=800, shards=shards)
    source = daskgd.open_dataset(url, block_bytes=800).source
    try:
        assert can_fetch(source.columns.X)
        asked.clear()  # by the survey of what was written
        alone = source.read(30, 90)
        expected = Counter(set(asked))
        asked.clear()
        ahead = source.ask_ahead(30, 90)
        ahead._running.result(10)
        assert ahead.seconds is not None
        assert set(asked) == set(expected)
        again = source.read(30, 90)
        assert asked == expected, "each object once"
        ahead.end()
        wait_for(settle())
        assert all(not part._requests._held for part in source.columns.X.parts)  # type: ignore[attr-defined]
        assert (again.X.toarray() == alone.X.toarray()).all()
        assert (again.y == y[30:90]).all()
    finally:
        fsspec.filesystem("memory").rm(f"/ahead-{kind}-{shards}.zarr", recursive=True)


def test_rows_on_disk_and_of_others_are_not_asked_for_ahead(tmp_path: Any) -> None:
    daskgd.write_dataset(tmp_path / "rows.zarr", np.eye(3))
    source = daskgd.open_dataset(tmp_path / "rows.zarr").source
    assert (can_fetch(source.columns.X), source.blocks_ahead) == (False, 0)


# -- memory ---------------------------------------------------------------------------------------


def test_what_is_asked_for_ahead_is_in_the_plan_of_memory(tmp_path: Any) -> None:
    """As much as is set, half of what a task has beside its need, and nothing of what lies on disk."""
    url = "memory://ahead-planned.zarr"
    X, y = np.random.default_rng(0).normal(size=(5000, 4)), np.arange(5000.0)
    daskgd.write_dataset(url, X, y, chunk_bytes=8000)
    daskgd.write_dataset(tmp_path / "rows.zarr", X, y, chunk_bytes=8000)
    there, here = (daskgd.open_dataset(place, block_bytes=8000) for place in (url, tmp_path / "rows.zarr"))
    try:
        plans = [daskgd.Ridge(solver="lbfgs", engine="threads").plan(dataset) for dataset in (there, here)]
        assert plans[0].task_bytes - plans[1].task_bytes == 64_000_000
        need = Need.of(there, False)
        for room, expected in ((10**12, 64_000_000), (need.total + 20_000, 10_000), (need.total, 0), (0, 0)):
            assert ahead_bytes(there, need, room) == expected
            assert ahead_bytes(here, need, room) == 0
        for given, blocks in ((64_000_000, 6400), (100_000, 10), (10_000, 1), (0, 1)):
            assert replace(there.source, ahead_bytes=given).blocks_ahead == blocks
            assert replace(here.source, ahead_bytes=given).blocks_ahead == 0
        assert reserve(8000, 3, 1000) - reserve(8000, 3) == 3000
        with dask.config.set({"daskgd.read-ahead-bytes": "1 MB"}):
            assert ahead_bytes(there, need, 10**12) == there.source.ahead_bytes == 1_000_000
    finally:
        fsspec.filesystem("memory").rm("/ahead-planned.zarr", recursive=True)
