"""Memory of workers: how much a task needs at once, how much it may take, and how much is free for data.

What would not fit is refused before any data is read, with the size that would. The file knows data sets and
the limits of workers; it must not know graphs, queries or solvers.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass

import distributed
import psutil
from dask.utils import format_bytes

from daskgd.config import setting
from daskgd.data.columns import can_fetch, task_row_bytes
from daskgd.data.dataset import Dataset
from daskgd.engines.task_spans import Payload

logger = logging.getLogger("daskgd")


def free_memory(client: distributed.Client | None) -> int:
    """Bytes of memory free for data: of all workers together, or of this machine."""
    if client is None:
        return int(psutil.virtual_memory().available)
    return sum(max(w.limit - w.managed - BARE, 0) for w in workers_of(client).values())


@dataclass(frozen=True, slots=True)
class Numbers:
    """How many numbers the parameters have, and the sums of a task."""

    parameters: int
    sums: int

    def __add__(self, other: Numbers) -> Numbers:
        return Numbers(self.parameters + other.parameters, self.sums + other.sums)

    def nbytes(self, n_blocks: int) -> int:
        """The bytes that a task holds of them at once, about: the parameters of a line search, also as
        products take them; the sums of a block, those so far and of each level of the tree, and what waits to
        be merged."""
        width = Payload(32 * self.sums).merge_width  # of which queries say about as much
        sums = 3 + n_blocks.bit_length() + min(n_blocks, width + 1)
        return 8 * (3 * self.parameters + sums * self.sums)


NO_NUMBERS = Numbers(0, 0)


def check_memory(
    dataset: Dataset,
    client: distributed.Client | None,
    whole_partitions: bool,
    row_payload_nbytes: int = 0,
    numbers: Numbers = NO_NUMBERS,
    view_row_bytes: int = 0,
) -> list[str]:
    """Refuse what one task would need if no worker can give it. Where only some cannot, these are returned,
    to be left out, and the log names them."""
    rooms = {} if client is None else task_rooms(client)
    need = Need.of(dataset, whole_partitions, row_payload_nbytes, numbers, view_row_bytes)
    small = [address for address, room in rooms.items() if need.total > room.each]
    if not small:
        return []
    room = min(rooms.values(), key=lambda room: room.each)
    has = (
        f"a worker has {format_bytes(room.each)} per thread (limit {format_bytes(room.limit)}, "
        f"{format_bytes(room.used)} in use)"
    )
    if len(small) < len(rooms):
        logger.warning(
            "%s%s left out of the fit: a task needs %s at once, but %s. Give all workers enough memory, or "
            "write the data in smaller blocks",
            ", ".join(small[:3]),
            f" and {len(small) - 3} more workers are"
            if len(small) > 3
            else " is"
            if len(small) == 1
            else " are",
            format_bytes(need.total),
            has,
        )
        return small
    if need.sums > room.each / 2:
        each = (need.total + room.used) / (1 - RESERVED)
        raise ValueError(
            f"X: a task needs {format_bytes(need.total)} at once, of which the vectors of "
            f"{numbers.parameters:,} parameters and the sums of {numbers.sums:,} numbers take "
            f"{format_bytes(need.sums)}, but {has}. Give workers {format_bytes(round(each))} per thread, or "
            "take fewer features, such as hashed ones"
        )
    if need.times * need.block + need.sums > room.each:
        raise ValueError(
            f"X: a block takes {format_bytes(need.block)} decoded and a task needs {need.times:.1f} times "
            f"that, but {has}. Write the dataset with chunk_bytes={int(room.each / 2 / need.times)} or "
            "less, or give workers more memory"
        )
    raise ValueError(
        f"partition_bytes: a partition takes {format_bytes(need.partition)} decoded, beside blocks of "
        f"{format_bytes(need.read)}, but {has}. Open the dataset with "
        f"partition_bytes={max(int((room.each - need.sums) / (need.copies + 0.8)) - need.read, 1)} or less"
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
    sums : int
        Bytes of parameters, and of sums until they have been merged.
    copies : float
        How many of the partition: sparse blocks are put together when all have been read.
    """

    read: int
    block: int
    times: float
    partition: int
    sums: int = 0
    copies: float = 1.2

    @classmethod
    def of(
        cls,
        dataset: Dataset,
        whole_partitions: bool,
        row_payload_nbytes: int = 0,
        numbers: Numbers = NO_NUMBERS,
        view_row_bytes: int = 0,
    ) -> Need:
        """For a dataset of which a sweep returns `row_payload_nbytes` bytes of rows, and sums of so many
        numbers; of a row, views make as many as `view_row_bytes`."""
        layout, X = dataset.layout, dataset.columns.X
        row = task_row_bytes(X) + view_row_bytes
        block = layout.block_rows * row
        chunk = min(X.chunk_rows, layout.n_rows) * row
        times = 2 + 2 * min(row_payload_nbytes / max(layout.n_rows * row, 1), 1.0)
        partition = min(layout.partition_blocks * block, layout.n_rows * row) if whole_partitions else 0
        copies = 1.2 if X.is_dense else 2.2
        return cls(block, max(block, chunk), times, partition, numbers.nbytes(layout.n_blocks), copies)

    @property
    def total(self) -> int:
        """Bytes."""
        whole = round(self.copies * self.partition) + 2 * self.read if self.partition else 0
        return max(round(self.times * self.block), whole) + self.sums


def ahead_bytes(dataset: Dataset, need: Need, room_bytes: int) -> int:
    """Bytes of rows that a task may ask a store at a URL for before it needs them: as many as are set, but at
    most half of what is free beside its need; 0 where no rows are in such a store."""
    if not can_fetch(dataset.columns.X):
        return 0
    return max(min(int(setting("read-ahead-bytes")), (room_bytes - need.total) // 2), 0)


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes that a thread of a worker may fill; the limit of the worker, and what is in use.

    In use are a bare process and the data held there. What else a process holds by now is mostly memory kept
    from earlier blocks, which the next ones use again, and before its first task it has not imported us yet.
    """

    each: int
    limit: int
    used: int


def task_rooms(client: distributed.Client) -> dict[str, Room]:
    """The room that a task has on each worker, by address."""
    return {
        address: Room(
            max(round(((1 - RESERVED) * w.limit - w.managed - BARE) / max(w.threads, 1)), 1),
            w.limit,
            w.managed + BARE,
        )
        for address, w in workers_of(client).items()
    }


def room_of_task(client: distributed.Client | None, threads: int, left_out: Collection[str] = ()) -> int:
    """Bytes that a task may fill, of so many in this process or on the tightest worker; 0 where there is
    none."""
    if client is None:
        return free_memory(None) // max(threads, 1)
    room = task_room(client, left_out)
    return 0 if room is None else room.each


def task_room(client: distributed.Client, left_out: Collection[str] = ()) -> Room | None:
    """The room that a task has on the tightest worker that is not left out; None where there is none."""
    rooms = [room for address, room in task_rooms(client).items() if address not in left_out]
    return min(rooms, key=lambda room: room.each, default=None)


RESERVED = 0.2
"""The share of a worker's limit that is left free: beyond, dask pauses the worker."""

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
