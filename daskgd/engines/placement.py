"""Where rows lie while a fit runs: in their store, in the memory of workers, or spooled to a temporary store.

Stored columns are read in place; features that are stored column by column are turned into rows first. Others
are brought to where tasks run: arrays in memory beside a cluster travel there if they are small; a dask array
that is more than a plain read is computed and held if it fits; what does not fit is written once to a
temporary store, which a warning says, and removed after the fit.
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
from dask.utils import format_bytes

from daskgd._compat.dask import meta_of
from daskgd.config import setting
from daskgd.data.by_columns import ColumnsFirst, temporary_root
from daskgd.data.columns import (
    Column,
    Columns,
    FeaturesColumn,
    LazyColumn,
    PiecesColumn,
    in_this_process,
    row_bytes,
)
from daskgd.data.dataset import Dataset, open_dataset
from daskgd.engines.worker_memory import free_memory
from daskgd.rows.sparse import Sparse
from daskgd.storage.writing import write_arrays

logger = logging.getLogger("daskgd")


@dataclass(frozen=True, slots=True, eq=False)
class DistributedColumn(LazyColumn):
    """Rows in the memory of workers: a persisted dask array in pieces of whole blocks.

    Its pieces are ordinary futures, recomputed by the scheduler when a worker that held them is lost.
    """

    piece_rows: int

    @property
    def on_workers(self) -> DistributedColumn:
        return self

    def in_place(self, cluster: bool) -> bool:
        return cluster

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

    def release(self) -> None:
        """Give up the pieces, even if something, such as a traceback, still refers to the column."""
        for future in distributed.futures_of(self.array):
            future.release()

    def without_rows(self) -> PiecesColumn:
        """The column as it is sent to a task, which fills in the pieces that it covers."""
        return PiecesColumn(self.shape, self.dtype, self.piece_rows, {}, self.sparse_nbytes)

    def read(self, start: int, stop: int) -> Any:
        raise RuntimeError("held rows are read inside tasks; this is a defect in daskgd")


@contextmanager
def materialise(dataset: Dataset, get: Any, tasks: int) -> Iterator[Dataset]:
    """The dataset with every column readable where tasks run; at the end nothing of it is left behind.

    `get` is the client or the local scheduler of dask that tasks run on, `tasks` how many there will be.
    """
    client = get if isinstance(get, distributed.Client) else None
    given, dataset = dataset, _with_rows(dataset)
    to_materialise, hold = columns_to_materialise(dataset, client)
    if not to_materialise:
        yield dataset
        return
    columns, classes = dataset.columns.present, dataset.classes
    scratch: str | None = None
    held: dict[str, Column] = {}
    try:
        if hold:
            held = _hold(to_materialise, _piece_rows(dataset, tasks), get)
            columns |= held
        else:
            scratch = tempfile.mkdtemp(prefix="daskgd-", dir=temporary_root())
            logger.warning(
                "%s (%s) cannot stay in memory: spooled once to the temporary store %s, removed after the "
                "fit. Write the data with daskgd.write_dataset to spare this.",
                " and ".join(to_materialise),
                format_bytes(sum(column.nbytes for column in to_materialise.values())),
                scratch,
            )
            spooled, classes = _spool(dataset, to_materialise, f"{scratch}/spool.zarr")
            columns |= spooled
        yield dataset.replace(Columns(**columns), layout=dataset.layout, classes=classes, origin=given)
    finally:
        for column in held.values():
            if isinstance(column, DistributedColumn):
                column.release()
        columns.clear()
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _with_rows(dataset: Dataset) -> Dataset:
    """The dataset, with the rows of features that are stored by columns. Raises ValueError where there is not
    the memory to make them."""
    X = dataset.columns.X
    if not isinstance(X, ColumnsFirst):
        return dataset
    needed, free = X.transposition_nbytes, free_memory(None)
    if needed > free and not X.has_rows:
        raise ValueError(
            f"daskgd.transpose-bytes: making rows of {X.location}, which is stored by columns, takes "
            f"{format_bytes(needed)} of this process, and {format_bytes(free)} are free; set it to less, "
            'as in dask.config.set({"daskgd.transpose-bytes": "64 MB"})'
        )
    columns = dataset.columns._replace(X=X.rows)
    return dataset.replace(columns, layout=dataset.layout, origin=dataset)


def columns_to_materialise(
    dataset: Dataset, client: distributed.Client | None
) -> tuple[dict[str, Column], bool]:
    """The columns that tasks cannot read in place, by name, and whether they can be held in memory."""
    columns = dataset.columns.present
    to_materialise = {name: c for name, c in columns.items() if not c.in_place(client is not None)}
    travels = client is not None and all(map(in_this_process, to_materialise.values()))
    room = setting("travel-bytes") if travels else setting("hold-fraction") * free_memory(client)
    return to_materialise, sum(column.nbytes for column in to_materialise.values()) <= room


def _piece_rows(dataset: Dataset, tasks: int) -> int:
    """Rows per piece: a node of the merge tree, small enough that every task has one of its own."""
    layout, blocks = dataset.layout, 1
    while blocks < layout.partition_blocks and layout.n_blocks > blocks * tasks:
        blocks *= 2
    return blocks * layout.block_rows


def _hold(columns: dict[str, Column], piece_rows: int, get: Any) -> dict[str, Column]:
    """Compute columns into the memory of the workers, or of this process, in pieces of `piece_rows` rows."""
    arrays = {name: _pieces(name, column, piece_rows) for name, column in columns.items()}
    if not isinstance(get, distributed.Client):
        # One compute, so that a graph which X and y share runs once; kept in pieces, never concatenated.
        done = dask.persist(*arrays.values(), scheduler=get)
        held: dict[str, Column] = {}
        for name, array in zip(arrays, done, strict=True):
            blocks = {key[1]: block for key, block in array.__dask_graph__().items()}
            blocks = {i: getattr(block, "value", block) for i, block in blocks.items()}
            shape = tuple(int(n) for n in array.shape)
            held[name] = PiecesColumn(shape, array.dtype, piece_rows, blocks, _sparse_nbytes(columns[name]))
        return held
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sending large graph", UserWarning)  # as daskgd.travel-bytes allows
        done = get.persist(list(arrays.values()))
    return {
        name: DistributedColumn(array, piece_rows, sparse_nbytes=_sparse_nbytes(columns[name]))
        for name, array in zip(arrays, done, strict=True)
    }


def _pieces(name: str, column: Column, piece_rows: int) -> da.Array:
    """A column as a dask array of pieces."""
    if isinstance(column, FeaturesColumn):
        return column.to_pieces(piece_rows, name)
    array = column.to_dask((piece_rows, *column.shape[1:]), name)
    if column.is_dense:
        return array
    return da.map_blocks(Sparse.of, array, dtype=array.dtype, meta=meta_of(array))


def _sparse_nbytes(column: Column) -> int | None:
    """The bytes of a column whose rows are sparse."""
    return None if column.is_dense else column.nbytes


def _spool(dataset: Dataset, columns: dict[str, Column], path: str) -> tuple[dict[str, Column], Any]:
    """Write columns to a store with a chunk per block, so that a block reads just what it needs.

    Labels that are no numbers become codes there: the classes they stand for come back too.
    """
    layout = dataset.layout
    arrays = {
        name: c.to_pieces(layout.block_rows, name)
        if isinstance(c, FeaturesColumn)
        else c.to_dask((layout.block_rows, *c.shape[1:]), name)
        for name, c in columns.items()
    }
    # A store has an X; where X itself is read in place, an empty-handed one takes next to no room.
    X = arrays.get("X", da.zeros((layout.n_rows, 1), chunks=(layout.block_rows, 1), dtype=np.uint8))
    chunk_bytes = layout.block_rows * (row_bytes(columns["X"]) if "X" in columns else 1)
    write_arrays(path, X, arrays.get("y"), arrays.get("sample_weight"), chunk_bytes=chunk_bytes)
    stored = open_dataset(path)
    spooled = {name: column for name, column in stored.columns.present.items() if name in columns}
    return spooled, stored.classes if "y" in columns else dataset.classes
