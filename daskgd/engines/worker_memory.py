"""Memory of workers: how much a task needs at once, how much it may take, and how much is free for data.

What would not fit is refused before any data is read, with the size that would. The file knows data sets and
the limits of workers; it must not know graphs, queries or solvers.
"""

from __future__ import annotations

from dataclasses import dataclass

import distributed
import psutil
from dask.utils import format_bytes

from daskgd.data.dataset import Dataset


def free_memory(client: distributed.Client | None) -> int:
    """Bytes of memory free for data: of all workers together, or of this machine."""
    if client is None:
        return int(psutil.virtual_memory().available)
    return sum(max(w.limit - w.managed - BARE, 0) for w in workers_of(client).values())


def check_memory(
    dataset: Dataset, client: distributed.Client | None, whole_partitions: bool, row_payload_nbytes: int = 0
) -> None:
    """Refuse what one task would need if a worker cannot give it."""
    if client is None or (room := task_room(client)) is None:
        return
    need = Need.of(dataset, whole_partitions, row_payload_nbytes)
    has = (
        f"a worker has {format_bytes(room.each)} per thread (limit {format_bytes(room.limit)}, "
        f"{format_bytes(room.used)} in use)"
    )
    if need.times * need.block > room.each:
        raise ValueError(
            f"X: a block takes {format_bytes(need.block)} decoded and a task needs {need.times:.1f} times "
            f"that, but {has}. Write the dataset with chunk_bytes={int(room.each / 2 / need.times)} or "
            "less, or give workers more memory"
        )
    if need.total > room.each:
        raise ValueError(
            f"partition_bytes: a partition takes {format_bytes(need.partition)} decoded, beside blocks of "
            f"{format_bytes(need.read)}, but {has}. Open the dataset with "
            f"partition_bytes={max(int(room.each / 2) - need.read, 1)} or less"
        )


def check_driver_memory(needed: int, what: str) -> None:
    """Refuse a fit of which this process would hold more than it has memory for; `what` says of what."""
    free = free_memory(None)
    if needed > free:
        raise ValueError(
            f"{what}: this process would hold about {format_bytes(needed)} (the sample, matrices and vectors "
            f"of the parameters), and {format_bytes(free)} are free here. Take "
            'solver="lbfgs", which holds no sample and no matrices, a smaller sample, such as '
            "solver=daskgd.SubsampledNewton(sample_bytes=10_000_000, most_bytes=10_000_000), fewer features, "
            "or a machine with more memory"
        )


@dataclass(frozen=True, slots=True)
class Need:
    """What one task holds at once.

    Attributes
    ----------
    read : int
        Bytes of X in a block.
    block : int
        The same, or of the chunk that holds it where that is larger.
    times : float
        How many of them: a block, what it is decoded from, and of rows to return a copy and its message.
    partition : int
        Bytes of X in a partition, where whole ones are needed; else 0.
    """

    read: int
    block: int
    times: float
    partition: int

    @classmethod
    def of(cls, dataset: Dataset, whole_partitions: bool, row_payload_nbytes: int = 0) -> Need:
        """For a dataset of which a sweep returns `row_payload_nbytes` bytes of rows."""
        layout, X = dataset.layout, dataset.columns.X
        row = X.shape[1] * X.dtype.itemsize
        block = layout.block_rows * row
        chunk = min(X.chunk_rows, layout.n_rows) * row
        times = 2 + 2 * min(row_payload_nbytes / max(layout.n_rows * row, 1), 1.0)
        partition = min(layout.partition_blocks * block, layout.n_rows * row) if whole_partitions else 0
        return cls(block, max(block, chunk), times, partition)

    @property
    def total(self) -> int:
        """Bytes."""
        whole = round(1.2 * self.partition) + 2 * self.read if self.partition else 0
        return max(round(self.times * self.block), whole)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a thread of the tightest worker may fill; the limit of that worker, and what is in use.

    In use are a bare process and the data held there. What else a process holds by now is mostly memory kept
    from earlier blocks, which the next ones use again, and before its first task it has not imported us yet.
    """

    each: int
    limit: int
    used: int


def task_room(client: distributed.Client) -> Room | None:
    """The room that a task has on the tightest worker of a cluster; None where there are no workers."""
    rooms = [
        Room(max(round((0.8 * w.limit - w.managed - BARE) / max(w.threads, 1)), 1), w.limit, w.managed + BARE)
        for w in workers_of(client).values()
    ]
    return min(rooms, key=lambda room: room.each, default=None)


BARE = 110_000_000
"""Bytes of a worker process that has imported daskgd and read its first block."""


@dataclass(frozen=True, slots=True)
class Worker:
    """Bytes of memory that a worker may use, bytes of data that dask holds there, and threads."""

    limit: int
    managed: int
    threads: int


def workers_of(client: distributed.Client) -> dict[str, Worker]:
    """The workers by address; one without a limit may use its share of this machine's memory."""
    found = client.scheduler_info(n_workers=-1)["workers"]
    machine = psutil.virtual_memory().total // max(len(found), 1)
    return {
        address: Worker(
            int(w["memory_limit"] or machine), int(w["metrics"].get("managed_bytes", 0)), int(w["nthreads"])
        )
        for address, w in found.items()
    }
