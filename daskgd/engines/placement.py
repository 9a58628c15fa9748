"""Where rows lie while a fit runs: read in place, held in the memory of workers, or spooled to scratch.

zarr arrays are read in place. Everything else is brought to where tasks run: in-memory arrays beside a
cluster travel there if they are small; a dask array that is more than a plain read is computed and held if it
fits; what does not is written once to a temporary store, which is said, and removed afterwards.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dask
import dask.array as da
import distributed
import numpy as np
import psutil
from dask.utils import format_bytes

from daskgd.columns import ArrayColumn, ColumnLike, LazyColumn, MemoryColumn, PiecesColumn, setting
from daskgd.datasets import Dataset, open_dataset
from daskgd.store import Column
from daskgd.writing import write_dataset

logger = logging.getLogger("daskgd")

NAMES = ("X", "y", "sample_weight")


@dataclass(frozen=True, slots=True, eq=False)
class Held(ArrayColumn):
    """Rows in the memory of workers: a persisted dask array in pieces of whole blocks.

    Its pieces are ordinary futures, recomputed by the scheduler when a worker that held them is lost.
    """

    array: da.Array
    piece_rows: int

    @property
    def graph(self) -> dict[Any, Any]:
        """Its futures by key."""
        return dict(self.array.__dask_graph__())

    def key(self, piece: int) -> tuple[Any, ...]:
        """The key of one piece."""
        return (self.array.name, piece, *[0] * (self.array.ndim - 1))

    def covering(self, start: int, stop: int) -> range:
        """The pieces that hold rows `start` to `stop`."""
        return range(start // self.piece_rows, -(-stop // self.piece_rows))

    def read(self, start: int, stop: int) -> Any:
        raise RuntimeError("held rows are read inside tasks; this is a defect in daskgd")


@contextmanager
def placed(
    dataset: Dataset, get: Any, tasks: int, *, whole_partitions: bool = False, bulk: int = 0
) -> Iterator[Dataset]:
    """The dataset with every column readable where tasks run; at the end nothing of it is left behind.

    `get` is the client or the local scheduler of dask that tasks run on, `tasks` how many there will be, and
    `bulk` the bytes of rows that they will return in one sweep.
    Raises ValueError, with the size that would fit, if a block (or a whole partition, where the solver
    needs it) is too much for a worker's memory.
    """
    client = get if isinstance(get, distributed.Client) else None
    check_memory(dataset, client, whole_partitions, bulk)
    columns: dict[str, Any] = dict(zip(NAMES, dataset._columns, strict=True))
    restless, hold = restless_columns(dataset, client)
    if not restless:
        yield dataset
        return
    scratch: str | None = None
    classes = dataset.classes
    try:
        if hold:
            pieces = _piece_rows(dataset, tasks)
            columns |= _hold(restless, pieces, get)
        else:
            root = setting("temporary-directory") or dask.config.get("temporary-directory", None)
            scratch = tempfile.mkdtemp(prefix="daskgd-", dir=root)
            logger.warning(
                "%s (%s) cannot stay in memory: spooled once to the temporary store %s, removed after the "
                "fit. Write the data with daskgd.write_dataset to spare this.",
                " and ".join(restless),
                format_bytes(sum(map(nbytes, restless.values()))),
                scratch,
            )
            spooled, classes = _spool(dataset, restless, f"{scratch}/spool.zarr")
            columns |= spooled
        yield dataset._with(tuple(columns.values()), layout=dataset.layout, classes=classes)
    finally:
        columns.clear()  # the futures of what was held
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def restless_columns(
    dataset: Dataset, client: distributed.Client | None
) -> tuple[dict[str, ColumnLike], bool]:
    """The columns that tasks cannot read in place, by name, and whether they can be held in memory."""
    restless: dict[str, ColumnLike] = {
        name: c
        for name, c in zip(NAMES, dataset._columns, strict=True)
        if isinstance(c, LazyColumn) or (client is not None and isinstance(c, MemoryColumn))
    }
    travels = client is not None and all(isinstance(c, MemoryColumn) for c in restless.values())
    room = setting("travel-bytes") if travels else setting("hold-fraction") * free_memory(client)
    return restless, bool(sum(map(nbytes, restless.values())) <= room)


def nbytes(column: ColumnLike) -> int:
    """Decoded bytes of a column."""
    return int(np.prod(column.shape)) * column.dtype.itemsize


def _piece_rows(dataset: Dataset, tasks: int) -> int:
    """Rows per piece: a node of the merge tree, small enough that every task has one of its own."""
    layout, blocks = dataset.layout, 1
    while blocks < layout.partition_blocks and layout.n_blocks > blocks * tasks:
        blocks *= 2
    return blocks * layout.block_rows


def _hold(columns: dict[str, ColumnLike], piece_rows: int, get: Any) -> dict[str, ColumnLike]:
    arrays = {name: _as_dask(c).rechunk((piece_rows, *c.shape[1:])) for name, c in columns.items()}
    if not isinstance(get, distributed.Client):
        # One compute, so that a graph which X and y share runs once; kept in pieces, never concatenated.
        done = dask.persist(*arrays.values(), scheduler=get)
        held: dict[str, ColumnLike] = {}
        for name, array in zip(arrays, done, strict=True):
            blocks = {key[1]: block for key, block in array.__dask_graph__().items()}
            blocks = {i: getattr(block, "value", block) for i, block in blocks.items()}
            shape = tuple(int(n) for n in array.shape)
            held[name] = PiecesColumn(shape, array.dtype, piece_rows, blocks)
        return held
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)  # as daskgd.travel-bytes allows
        done = get.persist(list(arrays.values()))
    return {name: Held(array, piece_rows) for name, array in zip(arrays, done, strict=True)}


def _spool(dataset: Dataset, columns: dict[str, ColumnLike], path: str) -> tuple[dict[str, ColumnLike], Any]:
    """Write columns to a store with a chunk per block, so that a block reads just what it needs.

    Labels that are no numbers become codes there: the classes they stand for come back too.
    """
    layout = dataset.layout
    arrays = {name: _as_dask(c).rechunk((layout.block_rows, *c.shape[1:])) for name, c in columns.items()}
    # A store has an X; where X itself is read in place, an empty-handed one takes next to no room.
    X = arrays.get("X", da.zeros((layout.n_rows, 1), chunks=(layout.block_rows, 1), dtype=np.uint8))
    row_bytes = X.shape[1] * X.dtype.itemsize
    write_dataset(
        path, X, arrays.get("y"), arrays.get("sample_weight"), chunk_bytes=layout.block_rows * row_bytes
    )
    stored = open_dataset(path)
    spooled = {name: c for name, c in zip(NAMES, stored._columns, strict=True) if c and name in columns}
    return spooled, stored.classes if "y" in columns else dataset.classes


def _as_dask(column: ColumnLike) -> da.Array:
    if isinstance(column, LazyColumn):
        return column.array
    assert isinstance(column, MemoryColumn)
    return da.from_array(column.array, chunks=(-1,) * column.array.ndim)


# -- memory -------------------------------------------------------------------------------------


def free_memory(client: distributed.Client | None) -> int:
    """Bytes of memory free for data: of all workers together, or of this machine."""
    if client is None:
        return int(psutil.virtual_memory().available)
    return sum(max(w.limit - w.managed - BARE, 0) for w in workers_of(client).values())


def check_memory(
    dataset: Dataset, client: distributed.Client | None, whole_partitions: bool, bulk: int = 0
) -> None:
    """Refuse what one task would need if a worker cannot give it."""
    if client is None or (room := task_room(client)) is None:
        return
    need = Need.of(dataset, whole_partitions, bulk)
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
    def of(cls, dataset: Dataset, whole_partitions: bool, bulk: int = 0) -> Need:
        """For a dataset of which a sweep returns `bulk` bytes of rows."""
        layout, X = dataset.layout, dataset._columns[0]
        row = X.shape[1] * X.dtype.itemsize
        block = layout.block_rows * row
        chunk = min(X.chunk_rows, layout.n_rows) * row if isinstance(X, Column) else 0
        times = 2 + 2 * min(bulk / max(layout.n_rows * row, 1), 1.0)
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
