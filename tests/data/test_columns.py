"""Every kind of column keeps the protocol: the same rows by each way of reading them, and honest facts."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import zarr

import daskgd
from daskgd.data.columns import (
    Column,
    Columns,
    LazyColumn,
    MemoryColumn,
    PiecesColumn,
    check_columns,
    in_this_process,
)
from daskgd.data.convert import as_column
from daskgd.engines.placement import DistributedColumn, columns_to_materialise
from daskgd.storage.opening import NAMES
from daskgd.storage.reading import StoredColumn

ROWS = np.arange(44, dtype="float32").reshape(11, 4)
PIECE = 4


def stored(a: np.ndarray) -> StoredColumn:
    return StoredColumn(zarr.array(a, chunks=(3, *a.shape[1:])))


def pieces(a: np.ndarray) -> PiecesColumn:
    cut = {i: a[i * PIECE : (i + 1) * PIECE] for i in range(-(-len(a) // PIECE))}
    return PiecesColumn(a.shape, a.dtype, PIECE, cut)


def lazy(a: np.ndarray) -> da.Array:
    return da.from_array(a, chunks=(PIECE, *a.shape[1:])) + 0


COLUMNS = {
    "memory": MemoryColumn,
    "stored": stored,
    "lazy": lambda a: LazyColumn(lazy(a)),
    "pieces": pieces,
    "distributed": lambda a: DistributedColumn(lazy(a), PIECE),
}
"""Makers of a column of an array ``(n, ...)``: list a new kind here, and it is checked."""

FOR_ONE_FIT = {"pieces"}
"""Kinds that are inside tasks only: no other program asks them for dask arrays or identities."""


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("a", [ROWS, ROWS[:, 0], ROWS[:, :1].astype("uint8")], ids=["X", "y", "uint8"])
def test_a_column_keeps_the_protocol(kind: str, a: np.ndarray) -> None:
    column = COLUMNS[kind](a)
    assert isinstance(column, Column)
    assert (column.shape, column.dtype, column.nbytes) == (a.shape, a.dtype, a.nbytes)
    assert 1 <= column.chunk_rows <= len(a)
    assert (column.path is not None) == bool(column.info())
    if column.path is not None:
        assert all(column.in_place(cluster) for cluster in (False, True))
    if column.in_place(cluster=False):
        for start in range(len(a)):
            for stop in range(start + 1, len(a) + 1):
                np.testing.assert_array_equal(column.read(start, stop), a[start:stop], strict=True)
    else:
        with pytest.raises(RuntimeError, match="defect"):
            column.read(0, 1)


@pytest.mark.parametrize("kind", sorted(COLUMNS.keys() - FOR_ONE_FIT))
def test_a_column_is_a_dask_array_and_has_an_identity(kind: str) -> None:
    column, same, other = (COLUMNS[kind](a) for a in (ROWS, ROWS.copy(), ROWS.astype("float64") + 1))
    array = column.to_dask((5, 4), "X", "token")
    assert array.chunks == ((5, 5, 1), (4,))
    np.testing.assert_array_equal(array.compute(scheduler="sync"), ROWS, strict=True)
    assert column.identity() == column.identity()
    assert column.identity() == same.identity() != other.identity()


@pytest.mark.parametrize("kind", FOR_ONE_FIT)
def test_what_lives_for_one_fit_says_so(kind: str) -> None:
    column = COLUMNS[kind](ROWS)
    for ask in (column.identity, lambda: column.to_dask((5, 4), "X")):
        with pytest.raises(RuntimeError, match="for one fit only"):
            ask()


@pytest.mark.parametrize("kind", COLUMNS)
def test_tasks_are_given_what_they_cannot_read(kind: str) -> None:
    column = COLUMNS[kind](ROWS)
    given = column.on_workers
    assert (given is not None) == (kind == "distributed")
    if given is None:
        return
    assert list(given.covering(3, 9)) == [0, 1, 2]
    assert list(given.covering(4, 8)) == [1]
    assert {given.key(i) for i in given.covering(0, len(ROWS))} <= set(given.graph)
    bare = given.without_rows()
    assert (bare.shape, bare.dtype, bare.pieces) == (ROWS.shape, ROWS.dtype, {})


def test_where_rows_lie_decides_what_is_materialised() -> None:
    found = {name: make(ROWS) for name, make in COLUMNS.items()}
    assert {name for name, column in found.items() if in_this_process(column)} == {"memory", "pieces"}
    assert {name for name, column in found.items() if not column.in_place(True)} == {
        "memory",
        "lazy",
        "pieces",
    }
    dataset = daskgd.Dataset(found["stored"], LazyColumn(lazy(ROWS[:, 0])), MemoryColumn(ROWS[:, 0]))
    assert set(columns_to_materialise(dataset, None)[0]) == {"y"}


class Constant:
    """A column of another kind, made of no array at all."""

    shape, dtype, nbytes, chunk_rows = (11, 4), np.dtype("float64"), 11 * 4 * 8, 2
    path, on_workers, is_dense = "constant://", None, True

    def in_place(self, cluster: bool) -> bool:
        return True

    def read(self, start: int, stop: int) -> np.ndarray:
        return np.broadcast_to(np.arange(4.0), (stop - start, 4)) + np.arange(start, stop)[:, None]

    def to_dask(self, chunks: tuple[int, ...], name: str, token: object = None) -> da.Array:
        return da.from_array(self.read(0, 11), chunks=chunks)

    def identity(self) -> str:
        return "constant"

    def info(self) -> dict[str, object]:
        return {"reader": "none"}


def test_another_kind_of_column_is_one_class() -> None:
    dataset = daskgd.Dataset(Constant(), MemoryColumn(ROWS[:, 0]), block_bytes=100)
    assert dataset.info()["reader"] == "none"
    assert dataset.identity()["X"] == "constant"
    np.testing.assert_array_equal(dataset.X.compute(scheduler="sync"), Constant().read(0, 11))
    expected = daskgd.LinearRegression().fit(Constant().read(0, 11), ROWS[:, 0])
    model = daskgd.LinearRegression().fit(dataset)
    np.testing.assert_allclose(model.predict(dataset), expected.predict(Constant().read(0, 11)), rtol=1e-9)


def test_columns_are_named_once() -> None:
    X, y = MemoryColumn(ROWS), MemoryColumn(ROWS[:, 0])
    columns = Columns(X, y)
    assert columns.present == {"X": X, "y": y}
    assert columns.nbytes == X.nbytes + y.nbytes
    assert list(columns.present) == ["X", "y"]
    assert (*Columns._fields, "offset") == NAMES  # as they are stored
    with pytest.raises(ValueError, match="sample_weight: expected 11 rows"):
        check_columns(columns._replace(sample_weight=MemoryColumn(ROWS[1:, 0])))


def test_arrays_become_columns() -> None:
    z = zarr.array(ROWS)
    kinds = {MemoryColumn: ROWS, LazyColumn: lazy(ROWS), StoredColumn: z}
    for kind, array in kinds.items():
        assert type(as_column(array)) is kind
    assert type(as_column(da.from_zarr(z))) is StoredColumn
