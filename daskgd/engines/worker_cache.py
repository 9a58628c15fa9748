"""Sources of blocks for a task: the cache in its process, the store, or the store ahead of time.

A :class:`WorkerCache` keeps the rows of some blocks between the sweeps of one fit. It is the result of a
task, so that it lives as long as the fit holds its future and goes with its worker; to dask it weighs
nothing, and moved or spilled it arrives empty, as rows that are in no cache are read again. Which blocks go
where is decided in :mod:`daskgd.engines.cache_manager`; no answer depends on it. The file must not know dask
and zarr.
"""

from __future__ import annotations

import math
import mmap
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from daskgd.engines.runs import Runs
from daskgd.rows.layout import Layout
from daskgd.rows.tiles import BlockSource, Rows

Array = NDArray[Any]

_caches: WeakValueDictionary[tuple[str, str], WorkerCache] = WeakValueDictionary()


class WorkerCache:
    """Keeps the rows of the blocks of `runs`, once they have been read, for one fit at one worker.

    Parameters
    ----------
    token : str
        Names the fit.
    address : str
        Of the worker.
    runs : Runs
    older : WorkerCache, optional
        The cache of the fit before this one, whose rows of these blocks are taken over.
    """

    def __init__(self, token: str, address: str, runs: Runs, older: WorkerCache | None = None) -> None:
        self.runs = runs
        self.rows: dict[int, Rows] = {}
        if older is not None:
            self.rows = {block: rows for block, rows in older.rows.copy().items() if block in self}
        _caches[token, address] = self

    def __contains__(self, block: int) -> bool:
        return any(lo <= block < hi for lo, hi in self.runs)

    def put(self, block: int, rows: Rows) -> None:
        """Keep a copy of a block in pages of its own, which go back to the system at once with the cache."""
        self.rows[block] = in_pages(rows)

    def __reduce__(self) -> Any:
        return WorkerCache.nothing, ()

    @staticmethod
    def nothing() -> None:
        """What a cache becomes where it is moved or spilled."""
        return None


def worker_cache(token: str, address: str) -> WorkerCache | None:
    """The cache of a fit at a worker, if that is in this process."""
    return _caches.get((token, address))


def in_pages(rows: Rows) -> Rows:
    """A read-only copy of rows in one mapping of memory.

    In the allocator's memory kept blocks would leave holes where the next ones do not fit.
    """
    names = [name for name in ("y", "sample_weight", "kept") if getattr(rows, name) is not None]
    columns = [np.ascontiguousarray(c) for c in (*rows.X.arrays, *(getattr(rows, name) for name in names))]
    starts = np.cumsum([0, *[-(-c.nbytes // 64) * 64 for c in columns]])
    size = max(int(starts[-1]), 1)
    if hasattr(mmap, "MAP_PRIVATE"):
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    else:
        pages = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a kernel without
            pages.madvise(mmap.MADV_HUGEPAGE)
    copies: list[Array] = []
    for column, start in zip(columns, starts.tolist(), strict=False):
        copy = np.frombuffer(pages, column.dtype, column.size, start).reshape(column.shape)
        copy[...] = column
        copy.flags.writeable = False
        copies.append(copy)
    n = len(rows.X.arrays)
    others: dict[str, Any] = dict(zip(names, copies[n:], strict=True))
    return replace(rows, X=rows.X.with_arrays(tuple(copies[:n])), **others)


class CachedSource:
    """A source that looks into a cache first, and keeps there the blocks that belong there."""

    def __init__(self, source: BlockSource, cache: WorkerCache) -> None:
        self.source, self.worker_cache = source, cache

    @property
    def layout(self) -> Layout:
        return self.source.layout

    def read(self, start: int, stop: int) -> Rows:
        block = start // self.layout.block_rows
        rows = self.worker_cache.rows.get(block)
        if rows is None:
            rows = self.source.read(start, stop)
            if block in self.worker_cache:
                self.worker_cache.put(block, rows)
        return rows


FIRST_AHEAD = 4
"""Blocks that are asked for at first, before anything is known of the store."""


class AskAhead:
    """A source whose store is asked for some of the next of `blocks` while one is worked on: for so many that
    the answer is there when it is needed, but for no more than the source's `blocks_ahead`.

    That number follows the store: the seconds of an answer over those of the work on a block, as of
    Little's law. The seconds are those of the quickest answer so far, for others may have waited for one
    another.

    Leave the context to cancel requests.
    """

    def __init__(self, source: Any, blocks: Sequence[int]) -> None:
        self.source = source
        self.blocks_ahead = min(FIRST_AHEAD, source.blocks_ahead)
        self._blocks = list(blocks)
        self._at = {block: i for i, block in enumerate(blocks)}
        self._asked: dict[int, Any] = {}
        self._answer_seconds = math.inf
        self._work_seconds: float | None = None
        self._ended = 0.0

    @property
    def layout(self) -> Layout:
        return self.source.layout

    def __enter__(self) -> AskAhead:
        return self

    def __exit__(self, *exception: object) -> None:
        for ahead in self._asked.values():
            ahead.end()

    def read(self, start: int, stop: int) -> Rows:
        i = self._at.get(start // self.layout.block_rows)
        if i is None:
            return self.source.read(start, stop)
        self._ask(i, i + 1 + self.blocks_ahead)
        began, computed = time.perf_counter(), time.thread_time()
        rows = self.source.read(start, stop)
        ended, computed = time.perf_counter(), time.thread_time() - computed
        self._adapt(began - self._ended + computed if self._ended else None)
        self._ended = ended
        self._asked.pop(i).end()
        self._ask(i + 1, i + 1 + self.blocks_ahead)
        return rows

    def _ask(self, first: int, last: int) -> None:
        for i in range(first, min(last, len(self._blocks))):
            if i not in self._asked:
                block = self._blocks[i]
                self._asked[i] = self.source.ask_ahead(*self.layout.rows(block, block + 1))

    def _adapt(self, work_seconds: float | None) -> None:
        """Take into account how long the work on a block took, without waiting for it."""
        known = [ahead.seconds for ahead in self._asked.values() if ahead.seconds is not None]
        self._answer_seconds = min([self._answer_seconds, *known])
        if work_seconds is not None:
            usual = self._work_seconds
            self._work_seconds = work_seconds if usual is None else usual + (work_seconds - usual) / 4
            wanted = self._answer_seconds / max(self._work_seconds, 1e-6)
            self.blocks_ahead = int(min(1 + math.ceil(min(wanted, 1e6)), self.source.blocks_ahead))


WAITS = 0.3
"""Share of the time of a read in which its thread computes, below which the store is what one waits for."""


class ReadAhead:
    """A source that reads the next of `blocks` while one is worked on, once two reads in a row have shown
    that the store makes one wait: one alone may have lost its processor to somebody else. Where decoding is
    what takes the time, a second thread would only be in the way.

    Leave the context to end its thread.
    """

    def __init__(self, source: BlockSource, blocks: Sequence[int]) -> None:
        self.source = source
        self._next = dict(pairwise(blocks))
        self._ahead: dict[int, Future[Rows]] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._waited = False

    @property
    def layout(self) -> Layout:
        return self.source.layout

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def read(self, start: int, stop: int) -> Rows:
        block = start // self.layout.block_rows
        ahead = self._ahead.pop(block, None)
        if ahead is not None:
            rows = ahead.result()
        else:
            began, computed = time.perf_counter(), time.thread_time()
            rows = self.source.read(start, stop)
            waited, computed = time.perf_counter() - began, time.thread_time() - computed
            before, self._waited = self._waited, waited > 2e-3 and computed < WAITS * waited
            if self._pool is None and before and self._waited:
                self._pool = ThreadPoolExecutor(1, "daskgd-read-ahead")
        following = self._next.get(block)
        if self._pool is not None and following is not None and following not in self._ahead:
            self._ahead[following] = self._pool.submit(
                self.source.read, *self.layout.rows(following, following + 1)
            )
        return rows
