"""Which blocks stay in memory between sweeps, and at which worker: a fixed set, up to a budget.

Least recently used would be the wrong policy for scans that start over: it drops each block just before it is
needed. Here every worker keeps what it kept as long as it lives and has the room; blocks of lost workers, and
the share of new ones, are assigned afresh, and read once more. What is not kept anywhere is streamed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Self
from uuid import uuid4

import distributed
import psutil
from dask.utils import format_bytes, parse_bytes

from daskgd.data.dataset import Dataset
from daskgd.engines.cluster import THIS_PROCESS
from daskgd.engines.runs import Runs, length, split_off, tidy, without
from daskgd.engines.worker_cache import WorkerCache
from daskgd.engines.worker_memory import BARE, Worker, workers_of

MemoryBudget = str | float | int
"""A budget: "auto", a share of each worker's memory limit (a float from 0 to 1), or bytes in all (an int, or
"2 GB"); 0 keeps nothing."""

SAFE = 0.6
"""Share of a worker's limit that its process may fill: at 0.7 dask begins to spill, at 0.8 it pauses."""


def is_memory(value: Any) -> bool:
    """Whether a value is a memory budget."""
    if isinstance(value, str):
        try:
            return value == "auto" or (value[-1:].isalpha() and parse_bytes(value) >= 0)
        except ValueError:
            return False
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    number = float(value)
    return 0 <= number <= 1 or (number > 1 and number.is_integer())


# -- how much -----------------------------------------------------------------------------------


def reserve(block_bytes: int, threads: int, ahead_bytes: int = 0) -> int:
    """Bytes that a process needs beside what it keeps: itself, and for each thread two blocks with what they
    are decoded from, its sums, what they leave between them, and what it asks stores for beforehand."""
    return BARE + (32 << 20) + threads * (4 * block_bytes + (8 << 20) + ahead_bytes)


def budgets(
    client: distributed.Client | None, memory: MemoryBudget, block_bytes: int, ahead_bytes: int = 0
) -> dict[str, int]:
    """Bytes of rows that each worker may keep, by its address.

    Raises ValueError if `memory` asks for more than can be kept without a worker ever spilling.
    """
    workers = workers_of(client) if client is not None else {THIS_PROCESS: _this_machine()}
    room = {
        address: max(int(SAFE * w.limit) - w.managed - reserve(block_bytes, w.threads, ahead_bytes), 0)
        for address, w in workers.items()
    }
    if memory == "auto" or not room:
        return room
    if isinstance(memory, Real) and not isinstance(memory, Integral) and 0 < memory <= 1:
        asked = {address: int(memory * w.limit) for address, w in workers.items()}
    else:
        total, most = int(parse_bytes(memory)), max(sum(room.values()), 1)
        asked = (
            {address: -(-total * r // most) for address, r in room.items()} if total <= most else {"": total}
        )
    if any(asked[address] > room.get(address, 0) for address in asked):
        share = min(room[address] / max(w.limit, 1) for address, w in workers.items())
        raise ValueError(
            f"memory={memory!r}: expected at most {format_bytes(sum(room.values()))} in all, or a share of "
            f"{share:.2f}: beyond {SAFE:.0%} of its limit, less what a sweep needs, a worker would "
            'spill. Take memory="auto", or give the workers more'
        )
    return asked


def _this_machine() -> Worker:
    memory = psutil.virtual_memory()
    mine = psutil.Process().memory_info().rss
    return Worker(limit=int(memory.available + mine), managed=max(mine - BARE, 0), threads=1)


# -- where --------------------------------------------------------------------------------------


def assign_blocks(
    n: int, workers: Mapping[str, tuple[float, int]], before: Mapping[str, Runs]
) -> dict[str, Runs]:
    """Which of `n` blocks each worker keeps, of workers with ``(threads, most blocks)``. A thread of a slow
    worker counts as part of one.

    No worker keeps more than its share by threads; each keeps what it had `before`, as far as that goes;
    blocks that nobody has are given out in order.

    >>> assign_blocks(10, {"a": (1, 9), "b": (1, 3)}, {})
    {'a': ((0, 5),), 'b': ((5, 8),)}
    >>> assign_blocks(10, {"b": (1, 9), "c": (1, 9)}, {'a': ((0, 5),), 'b': ((5, 8),)})
    {'b': ((0, 2), (5, 8)), 'c': ((2, 5), (8, 10))}
    """
    threads = sum(t for t, _ in workers.values())
    most = {address: min(room, math.ceil(n * t / threads)) for address, (t, room) in workers.items()}
    kept = {address: split_off(before.get(address, ()), most[address])[0] for address in workers}
    free = without(n, kept.values())
    for address, runs in kept.items():
        new, free = split_off(free, most[address] - length(runs))
        kept[address] = tidy((*runs, *new))
    return kept


# -- while a fit runs ---------------------------------------------------------------------------


class CacheManager:
    """Decides which blocks stay in memory at which worker during one fit, and makes a cache at each of them.

    Parameters
    ----------
    client : distributed.Client or None
        None keeps rows in this process.
    token : str
        Names the fit.
    n_blocks : int
    block_bytes : int
        Decoded bytes of a block, all columns.
    memory : "auto", float or int
        The budget.
    unit_blocks : int
        Blocks of a unit, which is kept as a whole or not at all; the last may have fewer.
    ahead_bytes : int
        Bytes that each thread asks a store for before it needs them.

    Attributes
    ----------
    runs : mapping
        The runs of blocks that each worker keeps, by its address.
    version : int
        How often blocks have been assigned: after that, some are to be read.
    """

    def __init__(
        self,
        client: distributed.Client | None,
        token: str,
        n_blocks: int,
        block_bytes: int,
        memory: MemoryBudget,
        unit_blocks: int = 1,
        ahead_bytes: int = 0,
    ) -> None:
        self.client, self.token, self.memory = client, token, memory
        self.n_blocks, self.block_bytes, self.unit_blocks = n_blocks, block_bytes, unit_blocks
        self.ahead_bytes = ahead_bytes
        self.runs: dict[str, Runs] = {}
        self._threads: dict[str, float] = {}
        self.caches: dict[str, Any] = {}
        self.version = 0

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        client: distributed.Client | None,
        memory: MemoryBudget,
        whole_partitions: bool = False,
        token: str | None = None,
        ahead_bytes: int = 0,
    ) -> Self:
        """The manager for the blocks of a dataset, kept by whole partitions where a solver needs these."""
        layout = dataset.layout
        block_bytes = -(-dataset.nbytes // max(layout.n_blocks, 1))
        unit = layout.partition_blocks if whole_partitions else 1
        return cls(client, token or uuid4().hex[:8], layout.n_blocks, block_bytes, memory, unit, ahead_bytes)

    def assign(
        self, threads: Mapping[str, int], slow: Mapping[str, float] = MappingProxyType({})
    ) -> dict[str, Runs]:
        """Runs of blocks by address, for workers with so many threads each, and the speeds of slow ones; new
        caches where these change."""
        strength = {address: n * slow.get(address, 1) for address, n in threads.items()}
        if strength == self._threads:
            return self.runs
        self.runs = self.decide(strength)
        self._threads = strength
        self.version += 1
        self.caches = {
            address: self._cache(i, address, runs) for i, (address, runs) in enumerate(self.runs.items())
        }
        return self.runs

    def decide(self, threads: Mapping[str, float]) -> dict[str, Runs]:
        """Runs of blocks by address, as `assign` would give them out now; no cache is made or changed."""
        room = self._budgets()
        unit = self.unit_blocks
        most = {
            address: (n, room.get(address, 0) // (unit * self.block_bytes))
            for address, n in threads.items()
            if n
        }
        before = {
            address: tuple((lo // unit, -(-hi // unit)) for lo, hi in runs)
            for address, runs in self.runs.items()
        }
        units = assign_blocks(-(-self.n_blocks // unit), most, before) if most else {}
        return {
            address: tuple((lo * unit, min(hi * unit, self.n_blocks)) for lo, hi in runs)
            for address, runs in units.items()
            if runs
        }

    def _budgets(self) -> dict[str, int]:
        try:
            return budgets(self.client, self.memory, self.block_bytes, self.ahead_bytes)
        except ValueError:
            if not self._threads:
                raise
            # Workers left: what there is now.
            return budgets(self.client, "auto", self.block_bytes, self.ahead_bytes)

    def _cache(self, i: int, address: str, runs: Runs) -> Any:
        older = self.caches.get(address)
        if self.client is None:
            return WorkerCache(self.token, address, runs, older)
        key = (f"daskgd-cache-{self.token}", self.version, i)
        return self.client.submit(
            WorkerCache, self.token, address, runs, older, workers=[address], key=key, pure=False
        )

    def close(self) -> None:
        """Drop the caches, which gives their memory back."""
        self.caches = {}
        self.runs = {}
