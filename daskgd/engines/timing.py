"""What a sweep took: the seconds in which each worker read, computed and merged, and how many blocks it read.

It travels beside the sums, and no answer depends on it. The file knows blocks by their number; it must not
know dask, rows or queries.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Spent(NamedTuple):
    """What one worker did in a sweep: sums over its tasks.

    Attributes
    ----------
    tasks : int
        Those that walked rows.
    rows, read_blocks, kept_blocks : int
        Rows walked; blocks that were read, and blocks that were in memory.
    store : float
        Seconds in which blocks were read and decoded, whether or not a task waited for them.
    read, compute, merge : float
        Seconds of tasks: until their rows were there, with them, and merging sums.
    """

    tasks: int = 0
    rows: int = 0
    read_blocks: int = 0
    kept_blocks: int = 0
    store: float = 0.0
    read: float = 0.0
    compute: float = 0.0
    merge: float = 0.0

    def plus(self, other: Spent) -> Spent:
        """The sum of two; spelled out, as the driver adds those of a thousand workers."""
        a, b, c, d, e, f, g, h = self
        i, j, k, m, n, o, p, q = other
        return Spent(a + i, b + j, c + k, d + m, e + n, f + o, g + p, h + q)

    def in_memory(self) -> Spent:
        """The same with blocks that were read counted as kept: their rows are in memory as they are."""
        return self._replace(read_blocks=0, kept_blocks=self.kept_blocks + self.read_blocks, store=0.0)


Ledger = Mapping[str, Spent]
"""What each worker did, by its address; by "" what was done in a process that is none."""


def added(a: Ledger, b: Ledger) -> Ledger:
    """The sum of two ledgers.

    >>> added({"w": Spent(tasks=1, rows=10)}, {"w": Spent(tasks=2), "v": Spent()})["w"][:2]
    (3, 10)
    """
    if not a or not b:
        return a or b
    out = dict(a)
    for worker, spent in b.items():
        mine = out.get(worker)
        out[worker] = mine.plus(spent) if mine is not None else spent
    return out


class Timed:
    """A source that counts the blocks it reads, and measures for how long."""

    def __init__(self, source: Any) -> None:
        self.source = source
        self.rows: list[int] = []  # lists, as two threads may read at the same time
        self.times: list[float] = []

    @property
    def layout(self) -> Any:
        return self.source.layout

    def read(self, start: int, stop: int) -> Any:
        began = time.perf_counter()
        rows = self.source.read(start, stop)
        self.times.append(time.perf_counter() - began)
        self.rows.append(stop - start)
        return rows

    @property
    def blocks_ahead(self) -> int:
        return int(getattr(self.source, "blocks_ahead", 0))

    def ask_ahead(self, start: int, stop: int) -> Any:
        return self.source.ask_ahead(start, stop)

    @property
    def blocks(self) -> int:
        return len(self.times)

    @property
    def seconds(self) -> float:
        return sum(self.times)


def walked(store: Timed, got: Timed, seconds: float) -> Spent:
    """What a task spent on walking rows for so many seconds: all it `got`, some of it from the `store`."""
    return Spent(
        tasks=1,
        rows=sum(got.rows),
        read_blocks=store.blocks,
        kept_blocks=max(got.blocks - store.blocks, 0),
        store=store.seconds,
        read=got.seconds,
        compute=max(seconds - got.seconds, 0.0),
    )


@dataclass(frozen=True, slots=True)
class Timing:
    """What one sweep took, by kind of work and by worker.

    Attributes
    ----------
    sweep : int
        From 1.
    asked : tuple of str
        Names of the questions.
    seconds : float
        From its start to its answers: the sum of the next four, each that of an average thread.
    read, compute, merge, wait : float
        Until rows were there; computing with them; merging sums and making answers of them; and the rest:
        scheduling, transfers, and threads that had nothing to do.
    before : float
        Seconds since the sweep before it, or since the engine was made: the solver's own.
    nbytes : int
        Decoded bytes of all rows.
    threads, tasks, home_tasks : int
        Threads; tasks that walked rows; and the first of these in the graph, those at the worker that keeps
        their rows.
    blocks, read_blocks, kept_blocks : int
        All; those read; those that were in memory.
    resident_blocks, again_blocks : int
        Those to keep in memory; and those of them that had been there before and were read again, as they had
        gone with their worker.
    store : float
        Seconds of all threads in which blocks were read and decoded.
    workers : mapping
        What each worker spent, by address.
    speculated : int
        Tasks that were given to another worker as well, as they were late.
    """

    sweep: int
    asked: tuple[str, ...]
    seconds: float
    read: float
    compute: float
    merge: float
    wait: float
    before: float
    nbytes: int
    threads: int
    tasks: int
    home_tasks: int
    blocks: int
    read_blocks: int
    kept_blocks: int
    resident_blocks: int
    again_blocks: int
    store: float
    workers: Ledger
    speculated: int = 0

    @property
    def floor(self) -> float | None:
        """Bytes per second at which all threads would do nothing but read; None if nothing was."""
        if not self.store or not self.blocks:
            return None
        return self.nbytes * self.read_blocks / self.blocks / self.store * self.threads


@dataclass(slots=True)
class Clock:
    """Measures the sweeps of an engine, one after the other.

    >>> clock = Clock()
    >>> clock.start()
    >>> swept = clock.stop(("gradient",), {"w": Spent(tasks=1, rows=5, read_blocks=1)}, 40, 1, 1)
    >>> swept.sweep, swept.read_blocks, swept.wait <= swept.seconds
    (1, 1, True)
    """

    stored: bool = True
    """Whether blocks are read at all; what lies in memory as it is has no floor."""

    sweep: int = 0
    resident: int = 0
    """Blocks that are in memory since the last sweep."""

    _began: float = 0.0
    _merging: float = 0.0
    _ended: float = field(default_factory=time.perf_counter)

    def start(self) -> None:
        """Note that a sweep begins."""
        self._began = self._merging = time.perf_counter()

    def gathered(self) -> None:
        """Note that the results of all tasks have been gathered."""
        self._merging = time.perf_counter()

    def stop(
        self,
        asked: tuple[str, ...],
        ledger: Ledger,
        nbytes: int,
        blocks: int,
        threads: int,
        placed_blocks: Sequence[int] = (),
        merged_by: str | None = None,
        speculated: int = 0,
    ) -> Timing:
        """Note that a sweep ends, as its answers are there; what it took.

        Parameters
        ----------
        asked : tuple of str
            Names of the queries.
        ledger : Ledger
            What each worker spent.
        nbytes, blocks : int
            Decoded bytes and blocks of the data.
        threads : int
            Threads that computed.
        placed_blocks : sequence of int
            Blocks of each task for rows that a worker keeps in memory.
        merged_by : str, optional
            The worker that merged in the thread that waited for the others.
        speculated : int
            Tasks that were given to another worker as well.
        """
        ended = time.perf_counter()
        self.sweep += 1
        resident = sum(placed_blocks)
        seconds, T = ended - self._began, max(threads, 1)
        if not self.stored:
            ledger = {worker: s.in_memory() for worker, s in ledger.items()}
        spent = Spent._make(map(sum, zip(*ledger.values(), strict=True))) if ledger else Spent()
        mine = ledger[merged_by].merge if merged_by is not None and merged_by in ledger else 0.0
        read, compute = spent.read / T, spent.compute / T
        merge = (spent.merge - mine) / T + mine + ended - self._merging
        swept = Timing(
            self.sweep,
            asked,
            seconds,
            read,
            compute,
            merge,
            max(seconds - read - compute - merge, 0.0),
            self._began - self._ended,
            nbytes,
            threads,
            spent.tasks,
            len(placed_blocks),
            blocks,
            spent.read_blocks,
            spent.kept_blocks,
            resident,
            max(min(self.resident, resident) - spent.kept_blocks, 0),
            spent.store,
            {worker: s for worker, s in ledger.items() if s.tasks},
            speculated,
        )
        self.resident, self._ended = resident, ended
        return swept
