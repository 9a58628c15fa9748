"""The tasks that run on workers: questions, spans and merges of a sweep; and the set-up of a worker process.

A worker process imports this file and what it reads with; it must not import dask.array, scikit-learn or the
estimators, which would double its memory before the first row.
"""

from __future__ import annotations

import ctypes
import os
import platform
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from daskgd._compat.blas import one_blas_thread
from daskgd._compat.distributed import worker_address
from daskgd.data.columns import ColumnSource
from daskgd.engines.base import Partial, PartitionMemory, Wanted
from daskgd.engines.timing import Spent, Timed, walked
from daskgd.engines.walk import walk
from daskgd.engines.worker_cache import AskAhead, CachedSource, ReadAhead, worker_cache
from daskgd.queries import Ask
from daskgd.rows.merge_tree import Node, join
from daskgd.rows.tiles import BlockSource


@dataclass(frozen=True, slots=True, eq=False)
class Work:
    """A callable of a graph, known by its unique key, so that dask need not hash what it carries."""

    key: tuple[Any, ...]

    def __dask_tokenize__(self) -> Any:
        return self.key


@dataclass(frozen=True, slots=True, eq=False)
class Questions(Work):
    """The asks of a sweep as a task: each worker fetches them once, and they are recomputed if lost."""

    asks: list[Ask]

    def __call__(self) -> list[Ask]:
        return self.asks


@dataclass(frozen=True, slots=True, eq=False)
class Span(Work):
    """The work of one span task: walk the blocks of some nodes of the merge tree.

    Attributes
    ----------
    source : ColumnSource
        Without the pieces of columns that workers hold: these are arguments of the task.
    nodes : list of Node
    memory : PartitionMemory
        Of the partitions under the nodes.
    where : list of (str, int)
        The column and the number of each piece that is an argument.
    driver : int
        The process of the driver, which is not to be configured as a worker.
    asks : list of Ask, or None
        None where they are an argument.
    worker_cache : (str, str), or None
        Token and address of the cache that may have the rows.
    """

    source: ColumnSource
    nodes: list[Node]
    memory: PartitionMemory
    where: list[tuple[str, int]]
    driver: int
    asks: list[Ask] | None
    worker_cache: tuple[str, str] | None

    def __call__(self, asks: list[Ask] | None = None, pieces: Sequence[Any] = ()) -> dict[Node, Partial]:
        asks = asks or self.asks
        assert asks is not None
        if os.getpid() != self.driver:
            configure_worker_process()
        source: BlockSource = self.source
        if self.where:
            held: dict[str, dict[int, Any]] = {}
            for (name, i), piece in zip(self.where, pieces, strict=True):
                held.setdefault(name, {})[i] = piece
            columns: Any = self.source.columns
            filled = {name: replace(getattr(columns, name), pieces=found) for name, found in held.items()}
            source = replace(self.source, columns=columns._replace(**filled))
        cache = worker_cache(*self.worker_cache) if self.worker_cache else None
        wanted = Wanted(asks, self.source.layout)
        blocks = [b for lo, hi in self.nodes for b in range(lo, hi) if b in wanted]
        blocks = [b for b in blocks if cache is None or b not in cache.rows]
        store = Timed(source)
        with (AskAhead if store.blocks_ahead else ReadAhead)(store, blocks) as ahead:
            rows = Timed(ahead if cache is None else CachedSource(ahead, cache))
            began = time.perf_counter()
            found = {node: walk(rows, asks, *node, self.memory) for node in self.nodes}
            spent = walked(store, rows, time.perf_counter() - began)
        return _with_spent(found, spent)


@dataclass(frozen=True, slots=True, eq=False)
class Merge(Work):
    """The work of one merge task: add partial results of neighbours in the tree over `n_blocks` leaves."""

    n_blocks: int

    def __call__(self, parts: list[dict[Node, Partial]]) -> dict[Node, Partial]:
        began = time.perf_counter()
        found = join({node: partial for part in parts for node, partial in part.items()}, self.n_blocks)
        return _with_spent(found, Spent(merge=time.perf_counter() - began))


def _with_spent(found: dict[Node, Partial], spent: Spent) -> dict[Node, Partial]:
    """The same partial results; one of them also holds what this process spent on all of them."""
    for node, partial in found.items():
        found[node] = partial.by(worker_address(), spent)
        break
    return found


@cache
def configure_worker_process() -> None:
    """Set up a worker process, once: one BLAS thread for good, an allocator that keeps the memory of a block.

    Dask's nanny exports a setting that makes glibc map and fault in every large array afresh, thousands of
    page faults per block. Undone here, a sweep reuses the same few megabytes; what is kept is what one task
    needed, and up to 256 MB.
    """
    one_blas_thread().__enter__()
    if platform.libc_ver()[0] == "glibc":
        M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 32 << 20)
        libc.mallopt(M_TRIM_THRESHOLD, 256 << 20)


GAUGE_SECONDS = 0.25
"""Seconds to read for, about, to measure how fast that goes; a block that was begun is read to its end."""


def read_speed(
    source: ColumnSource, blocks: Sequence[int], threads: int, seconds: float = GAUGE_SECONDS
) -> float:
    """Measure how fast so many threads of this process read `blocks` of a source: decoded bytes per second.

    The first block opens what has to be opened and is left out, unless it takes all of the time. Each thread
    reads blocks of its own, so that none comes from a cache that this filled.
    """
    row_bytes = source.columns.nbytes / source.layout.n_rows

    def read(mine: Sequence[int]) -> float:
        began, n_rows = time.perf_counter(), 0
        with AskAhead(source, mine) if source.blocks_ahead else nullcontext(source) as ahead:
            for block in mine:
                start, stop = source.layout.rows(block, block + 1)
                ahead.read(start, stop)
                n_rows += stop - start
                if time.perf_counter() - began > seconds - spent:
                    break
        return n_rows * row_bytes / max(time.perf_counter() - began, 1e-9)

    spent, began = 0.0, time.perf_counter()
    speed = read(blocks[:1])
    spent = time.perf_counter() - began
    rest = [blocks[1:][i::threads] for i in range(threads)]
    rest = [mine for mine in rest if mine]
    if not rest or spent > seconds:
        return speed
    with ThreadPoolExecutor(len(rest), "daskgd-gauge") as pool:
        return sum(pool.map(read, rest))
