"""Datasets: every kind of input, every refusal, layouts, splits and what a dataset says of itself."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import scipy.stats
import xarray as xr
import zarr
from hypothesis import example, given
from hypothesis import strategies as st

import daskgd
from daskgd.config import setting
from daskgd.data.columns import WIDE_BLOCK_BYTES, LazyColumn, MemoryColumn, PiecesColumn, Selection
from daskgd.data.convert import as_dataset
from daskgd.data.dataset import Dataset
from daskgd.engines.select import open_engine
from daskgd.queries import Ask, Survey
from daskgd.rows.random_numbers import row_random_numbers
from daskgd.storage.reading import StoredColumn

N, P = 23, 3


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((N, P)).astype("f4")
    return X, rng.integers(0, 3, N), rng.random(N)


def frame() -> pd.DataFrame:
    X, y, s = data()
    return pd.DataFrame(X, columns=list("abc")).assign(y=y, s=s)


def unknown(a: np.ndarray, chunks: Any) -> da.Array:
    """A dask array that does not know how many rows its chunks have."""
    more = np.concatenate([a, a[:4]])
    lazy = da.from_array(more, chunks=chunks)
    return lazy[da.from_array(np.arange(len(more)) < len(a), chunks=5)]


def on_disk(place: Path) -> Path:
    path = place / "data.zarr"
    X, y, s = data()
    daskgd.write_dataset(path, X, y, s, feature_names=["a", "b", "c"], chunk_bytes=5 * P * 4)
    return path


def zarrs(place: Path) -> list[zarr.Array]:
    return [zarr.create_array(place / str(i), data=a, chunks=(5, *a.shape[1:])) for i, a in enumerate(data())]


KINDS: dict[str, Callable[[Path], tuple[Any, ...]]] = {
    "numpy": lambda place: data(),
    "lists": lambda place: tuple(a.tolist() for a in data()),
    "pandas": lambda place: (frame()[["a", "b", "c"]], frame()["y"], frame()["s"]),
    "dask": lambda place: tuple(da.from_array(a, chunks=7) for a in data()),
    "dask, columns in chunks": lambda place: tuple(
        da.from_array(a, chunks=(c, 2)[: a.ndim]) for a, c in zip(data(), (4, 9, 23), strict=True)
    ),
    "dask, computed": lambda place: tuple(da.from_array(a, chunks=7) + 0 for a in data()),
    "dask, unknown": lambda place: tuple(unknown(a, 7) for a in data()),
    "dask, unknown, columns in chunks": lambda place: (unknown(data()[0], (7, 2)), *data()[1:]),
    "dask frame": lambda place: _frames(dd.from_pandas(frame(), npartitions=4)),
    "xarray": lambda place: tuple(xr.DataArray(a) for a in data()),
    "xarray, dask": lambda place: tuple(xr.DataArray(da.from_array(a, chunks=6)) for a in data()),
    "zarr": lambda place: tuple(zarrs(place)),
    "dask over zarr": lambda place: tuple(da.from_zarr(z) for z in zarrs(place)),
    "path": lambda place: (on_disk(place),),
    "str": lambda place: (str(on_disk(place)),),
    "Dataset": lambda place: (daskgd.open_dataset(on_disk(place)),),
    "Dataset and y": lambda place: (daskgd.open_dataset(on_disk(place)), data()[1], list(data()[2])),
    "fortran and strides": lambda place: (
        np.asfortranarray(data()[0]),
        np.repeat(data()[1], 2)[::2],
        data()[2],
    ),
}

COUNTED = {"dask, unknown", "dask, unknown, columns in chunks", "dask frame"}
NAMED = {"pandas", "dask frame", "path", "str", "Dataset", "Dataset and y"}


def _frames(ddf: Any) -> tuple[Any, ...]:
    return ddf[["a", "b", "c"]], ddf["y"], ddf["s"]


# -- what may be passed -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ["serial", "threads"])
def test_every_kind_of_input_holds_the_same_rows(kind: str, engine: str, tmp_path: Path) -> None:
    X, y, s = data()
    dataset = as_dataset(*KINDS[kind](tmp_path))
    assert (dataset.n_rows, dataset.n_features) == (N, P)
    assert dataset.extra_sweeps == (kind in COUNTED)
    assert dataset.feature_names == (("a", "b", "c") if kind in NAMED else None)
    for lazy, expected in ((dataset.X, X), (dataset.y, y), (dataset.sample_weight, s)):
        assert isinstance(lazy, da.Array)
        assert lazy.shape == expected.shape
        got = lazy.compute(scheduler="synchronous")
        assert np.array_equal(got, expected), kind
        assert kind == "lists" or got.dtype == expected.dtype
    # And as engines read them.
    with open_engine(dataset, engine) as (ready, _):
        (found,) = ready.sweep([Ask(None, Survey(classification=True))])
    assert found.n_rows == N
    assert np.isclose(found.weight, s.sum(), rtol=1e-12)
    assert np.allclose(found.X.mean, np.average(X.astype("f8"), axis=0, weights=s), rtol=1e-6)
    assert found.labels.counts.tolist() == np.bincount(y).tolist()


def test_zarr_is_read_in_place_and_only_it(tmp_path: Path) -> None:
    """Past dask and chunk by chunk, where a dask array is no more than a read."""
    for kind, expected in {
        "numpy": MemoryColumn,
        "dask": LazyColumn,
        "dask, computed": LazyColumn,
        "zarr": StoredColumn,
        "dask over zarr": StoredColumn,
        "path": StoredColumn,
    }.items():
        place = tmp_path / kind.replace(" ", "-")
        place.mkdir()
        columns = as_dataset(*KINDS[kind](place)).columns
        assert {type(column) for column in columns} == {expected}, kind


def test_targets_and_weights_are_optional_and_may_stand_in(tmp_path: Path) -> None:
    X, y, s = data()
    bare = as_dataset(X)
    assert bare.y is None
    assert bare.sample_weight is None
    dataset = daskgd.open_dataset(on_disk(tmp_path))
    other = as_dataset(dataset, y + 5)
    assert np.array_equal(np.asarray(other.y), y + 5)
    assert np.array_equal(np.asarray(other.sample_weight), s)
    assert other.feature_names == dataset.feature_names
    weighted = as_dataset(dataset, None, s + 1)
    assert np.array_equal(np.asarray(weighted.y), y)
    assert np.array_equal(np.asarray(weighted.sample_weight), s + 1)
    assert as_dataset(dataset) is dataset
    assert as_dataset(dataset, unknown(y, 7)).extra_sweeps == 1


def test_unknown_chunks_are_counted_in_one_read() -> None:
    """X and y from one expensive graph: it runs once for both."""
    X, y, _ = data()
    calls = []

    def load(block: np.ndarray) -> np.ndarray:
        calls.append(len(block))
        return block

    both = da.from_array(np.column_stack([X, y]), chunks=(6, 4)).map_blocks(load, meta=np.empty((0, 0)))
    kept = both[both[:, 0] > 0]
    with dask.config.set(scheduler="synchronous"):
        dataset = as_dataset(kept[:, :3], kept[:, 3])
    assert sum(calls) == N
    assert dataset.extra_sweeps == 1
    calls.clear()
    L = da.from_array(X, chunks=(6, 2)).rechunk((6, 3)).map_blocks(load, meta=X[:0])
    mask = L[:, 0] > 0
    with dask.config.set(scheduler="threads"):
        other = as_dataset(L[mask], L[:, 1][mask], abs(L[:, 2])[mask])
    assert sorted(calls) == [5, 6, 6, 6]
    assert other.n_rows == (X[:, 0] > 0).sum()
    assert np.array_equal(dataset.y.compute(scheduler="synchronous"), y[X[:, 0] > 0])


def test_nothing_else_is_computed() -> None:
    def explode(block: np.ndarray) -> np.ndarray:
        raise AssertionError("computed")

    lazy = da.zeros((N, P), chunks=5).map_blocks(explode, meta=np.empty((0, 0)))
    dataset = as_dataset(lazy, lazy[:, 0])
    assert dataset.n_rows == N
    assert "23 rows x 3 features" in repr(dataset)
    assert dataset.train_test_split()[0].n_rows < N


@pytest.mark.parametrize("labels", [["no", "yes", "oh"], [True, False, True], [-1.0, 0.0, 7.0], list("abc")])
def test_labels_of_any_type(labels: list[Any]) -> None:
    X, y, _ = data()
    named = np.array(labels)[y]
    objects = np.array([*named.tolist(), None], dtype=object)[:-1]
    for given_ in (named, named.tolist(), pd.Series(named), objects, named[:, None]):
        dataset = as_dataset(X, given_)
        assert np.array_equal(dataset.y.compute().reshape(N), named)


def test_numbers_among_objects() -> None:
    X = np.array([[1, 2.5], [True, 4]], dtype=object)
    assert np.array_equal(np.asarray(as_dataset(X).X), [[1, 2.5], [1, 4]])
    mixed = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5], "c": [True, False]})
    assert np.array_equal(np.asarray(as_dataset(mixed).X), [[1, 0.5, 1], [2, 1.5, 0]])


def columns(**changed: Any) -> tuple[Any, ...]:
    X, y, s = data()
    given_ = {"X": X, "y": y, "s": s, **changed}
    return given_["X"], given_["y"], given_["s"]


REFUSALS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: as_dataset(np.ones(5)),
        ValueError,
        r"Expected 2D array, got 1D array.*X: expected shape \(n, p\)",
    ),
    (lambda: as_dataset(np.ones((2, 2, 2))), ValueError, "Expected 2D array, got 3D"),
    (lambda: as_dataset(np.ones((0, 3))), ValueError, r"X: expected at least one row.*0 sample\(s\)"),
    (lambda: as_dataset(np.ones((3, 0))), ValueError, r"one feature.*0 feature\(s\)"),
    (lambda: as_dataset(np.ones((3, 2), complex)), ValueError, "X: expected real numbers or bool.*complex"),
    (lambda: as_dataset(np.full((3, 2), "a")), ValueError, "X: expected real numbers or bool.*<U1"),
    (lambda: as_dataset([["a", 1], [None, {}]]), ValueError, "X: expected numbers, got objects"),
    (lambda: as_dataset(*columns(y=np.ones(N - 1))), ValueError, "y: expected 23 rows, as X has, got 22"),
    (lambda: as_dataset(*columns(s=np.ones(5))), ValueError, "sample_weight: expected 23 rows.*got 5"),
    (lambda: as_dataset(*columns(y=unknown(np.ones(N - 1), 7))), ValueError, "y: expected 23 rows.*got 22"),
    (lambda: as_dataset(*columns(y=np.ones((N, 1, 1)))), ValueError, r"y: expected shape \(n,\) or \(n, k\)"),
    (lambda: as_dataset(*columns(y=1.0)), ValueError, r"y: expected shape \(n,\) or \(n, k\), got \(\)"),
    (
        lambda: as_dataset(*columns(s=np.ones((N, 1)))),
        ValueError,
        r"sample_weight: expected shape \(n,\), got",
    ),
    (lambda: as_dataset(*columns(s=np.full(N, "1"))), ValueError, "sample_weight: expected numbers, got"),
    (lambda: as_dataset(*columns(y=np.ones(N) * 1j)), ValueError, "y: Complex data not supported"),
    (
        lambda: as_dataset(*columns(y=[1, "a", None] * 7 + [1, 1])),
        ValueError,
        r"labels of one type, or numbers, got none \(None\) in row 2",
    ),
    (lambda: as_dataset(np.eye(4), scipy.sparse.eye(4)), TypeError, "y: expected a dense array"),
    (
        lambda: as_dataset(np.eye(4), da.from_array(np.eye(4), chunks=2).map_blocks(scipy.sparse.csr_array)),
        TypeError,
        "y: expected a dense array",
    ),
    (lambda: as_dataset("/no/such/path"), daskgd.StoreError, "/no/such/path"),
    (lambda: as_dataset(as_dataset(*data()).train_test_split()[0], data()[1]), ValueError, "beside a split"),
    (
        lambda: as_dataset(*data()).train_test_split(0.0),
        ValueError,
        r"test_size as a share in \(0, 1\), got 0.0",
    ),
    (lambda: as_dataset(*data()).train_test_split(5), ValueError, "test_size as a share"),
    (lambda: as_dataset(*data()).train_test_split(0.5, random_state=-1), ValueError, "random_state None or"),
    (lambda: as_dataset(*data()).train_test_split(0.5, random_state=1.5), ValueError, "random_state None or"),
    (
        lambda: Dataset(MemoryColumn(np.ones((2, 2))), block_bytes=0),
        ValueError,
        "block_bytes: expected at least 1",
    ),
    (
        lambda: Dataset(MemoryColumn(np.ones((2, 2))), partition_bytes="-1"),
        ValueError,
        "partition_bytes: expected",
    ),
    (
        lambda: Dataset(MemoryColumn(np.ones((2, 2))), block_bytes="many"),
        ValueError,
        "block_bytes: expected bytes, or a size such as '8 MB', got 'many'",
    ),
]


@pytest.mark.parametrize(("make", "error", "sentence"), REFUSALS, ids=[sentence for *_, sentence in REFUSALS])
def test_refusals(make: Callable[[], Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        make()


# -- layout -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """A column of which only the shape is ever asked."""

    shape: tuple[int, ...]
    chunk_rows: int
    dtype: Any

    is_dense = True

    @property
    def nbytes(self) -> int:
        return self.shape[0] * self.shape[1] * self.dtype.itemsize

    def read(self, start: int, stop: int) -> Any:
        raise AssertionError


@given(
    n=st.integers(1, 10**6),
    p=st.integers(1, 500),
    chunk_rows=st.integers(1, 10**4),
    block_bytes=st.integers(1, 10**7),
    partition_bytes=st.integers(1, 10**9),
)
@example(n=3, p=8, chunk_rows=1, block_bytes=1, partition_bytes=1)
def test_blocks_are_whole_chunks_and_partitions_powers_of_two_of_blocks(
    n: int, p: int, chunk_rows: int, block_bytes: int, partition_bytes: int
) -> None:
    X = Shape((n, p), chunk_rows, np.dtype("f4"))
    layout = Dataset(X, block_bytes=block_bytes, partition_bytes=partition_bytes).layout
    row, block = 4 * p, layout.block_rows
    enough = max(block_bytes, min(p // 4 * row, WIDE_BLOCK_BYTES))  # wide rows: as their second moments
    assert 1 <= block <= n
    if block < n:  # the fewest whole chunks of at least so many bytes
        assert block % chunk_rows == 0
        assert block * row >= enough
        assert (block - chunk_rows) * row < enough
    else:
        assert n <= chunk_rows or n * row <= enough + chunk_rows * row
    k = layout.partition_blocks
    assert k & (k - 1) == 0
    assert k == 1 or k * block * row <= partition_bytes
    assert 2 * k * block * row > partition_bytes
    assert (layout.n_blocks - 1) * block < n <= layout.n_blocks * block
    assert (layout.n_partitions - 1) * k < layout.n_blocks <= layout.n_partitions * k
    assert layout.rows(layout.n_blocks - 1, layout.n_blocks)[1] == n


def test_layout_follows_its_settings(tmp_path: Path) -> None:
    path = on_disk(tmp_path)  # 5 rows of 12 bytes in a chunk
    assert daskgd.open_dataset(path).layout.n_blocks == 1
    small = daskgd.open_dataset(path, block_bytes=61, partition_bytes="300 B")
    assert (small.layout.block_rows, small.layout.n_blocks, small.layout.partition_blocks) == (10, 3, 2)
    assert small.X.chunks[0] == (10, 10, 3)
    with dask.config.set({"daskgd.block-bytes": "60 B", "daskgd.partition-bytes": 130}):
        assert (setting("block-bytes"), setting("partition-bytes")) == (60, 130)
        assert daskgd.open_dataset(path).layout.block_rows == 5
        assert as_dataset(data()[0]).layout.partition_blocks == 2
    one, other = small.train_test_split()
    assert one.layout == other.layout == small.layout


def test_pieces_read_across_their_edges() -> None:
    a = np.arange(20).reshape(10, 2)
    column = PiecesColumn((10, 2), a.dtype, 4, {i: a[4 * i : 4 * i + 4] for i in range(3)})
    for start in range(10):
        for stop in range(start + 1, 11):
            assert np.array_equal(column.read(start, stop), a[start:stop])
    held = PiecesColumn((10, 2), a.dtype, 4, {1: a[4:8]})
    assert np.array_equal(held.read(5, 8), a[5:8])  # what other tasks hold is not touched


# -- selections ---------------------------------------------------------------------------------


def test_row_hashes_are_uniform_and_unrelated() -> None:
    n = 20_000
    u = row_random_numbers(np.arange(0, n), 0, 1)
    assert u.min() >= 0
    assert u.max() < 1
    assert scipy.stats.kstest(u, "uniform").pvalue > 1e-3
    others = {
        "next row": np.roll(u, 1),
        "row number": np.arange(n),
        "seed": row_random_numbers(np.arange(0, n), 1, 1),
        "far seed": row_random_numbers(np.arange(0, n), 2**62, 1),
        "purpose": row_random_numbers(np.arange(0, n), 0, 2),
        "seed and purpose swapped": row_random_numbers(np.arange(0, n), 1, 0),
        "far rows": row_random_numbers(np.arange(2**40, 2**40 + n), 0, 1),
    }
    for name, v in others.items():
        assert abs(np.corrcoef(u, v)[0, 1]) < 5 / np.sqrt(n), name
    assert len(np.unique(u)) == n


@given(
    st.integers(0, 2**63 - 1), st.lists(st.integers(0, 300), max_size=5).map(sorted), st.integers(0, 2**40)
)
def test_row_hashes_do_not_depend_on_how_they_are_asked(seed: int, cuts: list[int], first: int) -> None:
    edges = [0, *cuts, 300]
    parts = [row_random_numbers(np.arange(first + a, first + b), seed, 5) for a, b in pairwise(edges)]
    assert np.array_equal(np.concatenate(parts), row_random_numbers(np.arange(first, first + 300), seed, 5))


def test_row_hashes_are_frozen() -> None:
    """Splits of stored data must stay what they are from release to release."""
    assert row_random_numbers(np.arange(0, 4), 0, 0).tolist() == FROZEN
    assert row_random_numbers(np.arange(10**12, 10**12 + 1), 7, 3).tolist() == FROZEN_FAR


FROZEN = [0.0, 0.28176129772258496, 0.80255116473696, 0.4815585823555033]
FROZEN_FAR = [0.8738651034418544]


@given(st.integers(0, 1000), st.floats(0.05, 0.95), st.integers(1, 40))
def test_train_and_test_are_disjoint_and_complete_whatever_the_blocks(
    seed: int, test_size: float, block_rows: int
) -> None:
    X = np.arange(200.0)[:, None]
    with dask.config.set({"daskgd.block-bytes": 8 * block_rows}):
        blocks = as_dataset(X, np.arange(200))
    train, test = blocks.train_test_split(test_size, random_state=seed)
    a, b = (split.X.compute(scheduler="synchronous")[:, 0] for split in (train, test))
    assert sorted([*a, *b]) == X[:, 0].tolist()
    assert (train.n_rows, test.n_rows) == (len(a), len(b))
    assert np.array_equal(train.y.compute(scheduler="synchronous"), a)
    assert abs(len(b) - 200 * test_size) <= 5 * np.sqrt(200 * test_size * (1 - test_size)) + 1
    whole, _ = as_dataset(X).train_test_split(test_size, random_state=seed)
    assert np.array_equal(whole.X.compute(scheduler="synchronous")[:, 0], a)


def test_splits_of_splits() -> None:
    """Halves of halves, all with one seed: fresh numbers at every depth, or a half would be empty."""
    dataset = as_dataset(np.arange(4000.0)[:, None])
    parts = [dataset]
    for _ in range(3):
        parts = [half for part in parts for half in part.train_test_split(0.5, random_state=9)]
    rows = [part.X.compute(scheduler="synchronous")[:, 0] for part in parts]
    assert sorted(np.concatenate(rows)) == list(range(4000))
    assert all(abs(len(r) - 500) < 5 * np.sqrt(500) for r in rows), [len(r) for r in rows]
    assert scipy.stats.kstest(rows[0] / 4000, "uniform").pvalue > 1e-3


def test_seeds_make_different_splits_and_none_is_zero() -> None:
    dataset = as_dataset(np.arange(500.0)[:, None])

    def rows(seed: int | None) -> list[float]:
        return dataset.train_test_split(0.5, seed)[1].X.compute(scheduler="synchronous")[:, 0].tolist()

    assert rows(None) == rows(0) != rows(1)


def test_a_split_is_what_engines_read(tmp_path: Path) -> None:
    dataset = daskgd.open_dataset(on_disk(tmp_path), block_bytes=1)
    train, test = dataset.train_test_split(0.4, random_state=2)
    for part in (train, test):
        with open_engine(part, "threads") as (engine, _):
            (found,) = engine.sweep([Ask(None, Survey())])
        assert found.n_rows == part.n_rows > 0
        assert np.allclose(found.X.mean, np.average(part.X, axis=0, weights=part.sample_weight), rtol=1e-6)
    assert train.n_rows + test.n_rows == N
    source = pickle.loads(pickle.dumps(train.source))
    assert np.array_equal(source.read(0, N).X, np.asarray(train.X))


# -- what is stored -----------------------------------------------------------------------------


def lose(chunk: Path) -> None:
    chunk.unlink()


def flip(chunk: Path) -> None:
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 1
    chunk.write_bytes(content)


@pytest.mark.parametrize("fault", [lose, flip])
def test_a_chunk_that_goes_bad_after_opening_is_never_data(tmp_path: Path, fault: Any) -> None:
    path, y = on_disk(tmp_path), data()[1] % 2
    dataset = daskgd.open_dataset(path)
    foreign = da.from_zarr(str(path), component="X")
    again = pickle.loads(pickle.dumps(dataset.X))
    estimator = daskgd.LogisticRegression().fit(dataset, y)
    assert len(estimator.predict(dataset).compute()) == N
    fault(path / "X" / "c" / "1" / "0")
    for read in (
        lambda: dataset.X.compute(),
        lambda: again.compute(),
        lambda: dataset.train_test_split(0.5)[0].X.compute(),
        lambda: estimator.predict(dataset).compute(),
        lambda: estimator.fit(dataset.X, y),
        lambda: estimator.fit(foreign, y),
        lambda: daskgd.write_dataset(tmp_path / "copy", dataset),
    ):
        with pytest.raises(daskgd.ChunkError, match=r"data.zarr.*/X, chunk c/1/0: rows 5:10 cannot be read"):
            read()
    assert len(dataset.y.compute()) == N


def test_a_fit_on_X_of_a_dataset_reads_in_place(tmp_path: Path) -> None:
    dataset = daskgd.open_dataset(on_disk(tmp_path))
    again = as_dataset(dataset.X, dataset.y, dataset.sample_weight)
    for old, new in zip(dataset.columns, again.columns, strict=True):
        assert new is old
    part = dataset.train_test_split()[0]
    assert isinstance(as_dataset(part.X).columns.X, LazyColumn)  # not all rows
    assert dataset.X.name == dataset.X.name
    first = dataset.X.name
    daskgd.write_dataset(dataset.path, data()[0] + 1, chunk_bytes=5 * P * 4, overwrite=True)
    assert daskgd.open_dataset(dataset.path).X.name != first


def test_a_dataset_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "named.zarr"
    X, y, s = data()
    labels = np.array(["no", "yes", "oh"])[y]
    daskgd.write_dataset(path, X, labels, s, feature_names=["a", "b", "c"], chunk_bytes=60)
    dataset = daskgd.open_dataset(path)
    daskgd.write_dataset(tmp_path / "copy", dataset, chunk_bytes=60)
    assert daskgd.open_dataset(tmp_path / "copy").fingerprint == dataset.fingerprint
    train, _ = dataset.train_test_split(0.4)
    daskgd.write_dataset(tmp_path / "train", train, chunk_bytes=60)
    copy = daskgd.open_dataset(tmp_path / "train")
    assert copy.classes.tolist() == ["no", "oh", "yes"]
    assert copy.feature_names == ("a", "b", "c")
    for ours, theirs in zip(
        (copy.X, copy.y, copy.sample_weight), (train.X, train.y, train.sample_weight), strict=True
    ):
        assert ours.dtype == theirs.dtype
        assert np.array_equal(ours.compute(), theirs.compute())
    one = as_dataset(X[:4], ["b", "a", "b", "b"])  # in memory, labels as they are
    daskgd.write_dataset(tmp_path / "one", one)
    assert daskgd.open_dataset(tmp_path / "one").classes.tolist() == ["a", "b"]
    daskgd.write_dataset(path, train, feature_names=["x", "y", "z"], overwrite=True)  # over itself
    assert daskgd.open_dataset(path).feature_names == ("x", "y", "z")
    assert daskgd.open_dataset(path).n_rows == train.n_rows


def test_verify(tmp_path: Path) -> None:
    path = on_disk(tmp_path)
    dataset = daskgd.open_dataset(path)
    seen: list[tuple[int, int]] = []
    dataset.train_test_split()[0].verify(lambda *done: seen.append(done))
    assert seen == [(i + 1, 15) for i in range(15)]
    keep = (path / "X" / "c" / "1" / "0").read_bytes()
    (path / "X" / "c" / "1" / "0").write_bytes(
        (path / "X" / "c" / "2" / "0").read_bytes()
    )  # sound, elsewhere
    with pytest.raises(daskgd.ChunkError, match=r"chunk c/1/0: .*not the one that was written"):
        dataset.X.compute()
    with pytest.raises(daskgd.ChunkError, match=r"chunk c/1/0: .*not the one that was written"):
        dataset.verify()
    (path / "survey").rename(tmp_path / "survey")  # without it no chunk is known by itself
    without = daskgd.open_dataset(path)
    without.X.compute()
    with pytest.raises(daskgd.StoreError, match="some are not those that were written"):
        without.verify()
    (tmp_path / "survey").rename(path / "survey")
    (path / "X" / "c" / "1" / "0").write_bytes(keep)
    dataset.verify()
    flip(path / "y" / "c" / "2")
    with pytest.raises(daskgd.ChunkError, match="chunk c/2: rows 10:15"):
        dataset.verify()
    daskgd.write_dataset(path, data()[0], overwrite=True)
    with pytest.raises(daskgd.StoreError, match="written again after it was opened"):
        dataset.verify()
    with pytest.raises(ValueError, match="verify: expected a stored dataset"):
        as_dataset(data()[0]).verify()


def test_the_row_named_in_an_error_is_the_row_of_the_dataset() -> None:
    """Also where a split leaves rows out before it."""
    X = np.ones((400, 1))
    X[300] = np.nan
    dataset = as_dataset(X, np.ones(400))
    holds = [part for part in dataset.train_test_split(0.5) if np.isnan(part.X.compute()).any()]
    with open_engine(holds[0], "serial") as (engine, _), pytest.raises(ValueError, match="row 300, column 0"):
        engine.sweep([Ask(None, Survey())])


def test_selection_bounds() -> None:
    assert Selection(0, 0.0, 1.0).mask(np.arange(1000)).all()
    assert not Selection(0, 0.5, 0.5).mask(np.arange(1000)).any()


# -- what a dataset says of itself --------------------------------------------------------------


def test_info_and_repr(tmp_path: Path) -> None:
    path = on_disk(tmp_path)
    dataset = daskgd.open_dataset(path, block_bytes=1)
    info = dataset.info()
    expected = {
        "path": str(path),
        "n_rows": N,
        "n_features": P,
        "dtype": "float32",
        "nbytes": N * P * 4 + N * 8 + N * 8,
        "chunk_rows": 5,
        "reader": "daskgd",
        "block_rows": 5,
        "n_blocks": 5,
        "n_partitions": 1,
    }
    assert {name: info[name] for name in expected} == expected
    assert dataset.nbytes == info["nbytes"]
    assert info["fingerprint"] == dataset.fingerprint is not None
    assert "23 rows x 3 features of float32" in repr(dataset)
    assert "5 blocks" in repr(dataset)
    assert "weighted" in repr(dataset)
    split = dataset.train_test_split()[0]
    assert f"{split.n_rows} rows" in repr(split)
    assert "of 23 rows" in repr(split)
    assert split.info()["selected_from"] == N
    assert "1 block," in repr(as_dataset(*data()))


def test_info_names_the_pipeline_that_reads_foreign_arrays(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "foreign.zarr", mode="w").create_array("X", data=np.ones((4, 2)))
    expected = "ZarrsCodecPipeline" if find_spec("zarrs") else "BatchedCodecPipeline"
    assert daskgd.open_dataset(tmp_path / "foreign.zarr").info()["reader"] == expected


def test_html_is_escaped() -> None:
    dataset = Dataset(MemoryColumn(np.ones((2, 2))), path="<script>", classes=np.array(["<b>", "c"]))
    page = dataset._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "&lt;b&gt;" in page
